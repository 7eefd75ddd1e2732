"""
What holds under load, faults and hostile input: measured from outside, beside the peers.

    python benchmarks/soak/run.py --quick
    python benchmarks/soak/run.py --json benchmarks/soak/results.json
    python benchmarks/soak/run.py --only peer-gone --contender simplews-serve,websockets

Linux only: what a process uses is read from /proc. RESULTS.md beside this file is written
from the results by report.py.
"""

from __future__ import annotations

import argparse
import concurrent.futures
import importlib.util
import resource
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # also with PYTHONSAFEPATH

from harness import machine, processes
from harness.results import Results

from soak import rules, scenarios
from soak.stage import Stage
from soak.wire import Declined

OURS = ("serve", "sock", "stream", "aiohttp", "asgi", "client")
PEERS = {
    "websockets": ["websockets"],
    "aiohttp": ["aiohttp"],
    "picows-websockets": ["picows"],
    "picows": ["picows"],
    "uvicorn-wsproto": ["uvicorn", "wsproto"],
    "uvicorn-sansio": ["uvicorn", "websockets"],
    "simple-websocket": ["simple_websocket"],
    "websockets-client": ["websockets"],
    "aiohttp-client": ["aiohttp"],
    "picows-websockets-client": ["picows"],
    "simple-websocket-client": ["simple_websocket"],
}
NEEDS = {"simplews-aiohttp": ["aiohttp"], "simplews-asgi": ["uvicorn", "websockets"]}
QUICK = ("simplews-serve", "simplews-client", "websockets", "aiohttp")


@dataclass(frozen=True)
class Who:
    """A contender; *name* is what tables call it."""

    name: str

    @property
    def adapter(self) -> str:
        """Its name in adapters.py."""
        return self.name.removesuffix(" pure")

    @property
    def pure(self) -> bool:
        """Without the compiled part."""
        return self.name.endswith(" pure")

    @property
    def absent(self) -> list[str]:
        """Modules that it needs and that are not installed."""
        needs = PEERS.get(self.adapter) or ["simplews", *NEEDS.get(self.adapter, [])]
        return [module for module in needs if importlib.util.find_spec(module) is None]


def everybody() -> list[Who]:
    """All contenders: ours, compiled and not, and the peers."""
    ours = [f"simplews-{source}" for source in OURS]
    return [Who(name) for name in (*ours, *(f"{name} pure" for name in ours), *PEERS)]


def arguments(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="smaller, and few contenders")
    parser.add_argument("--only", help="scenarios, comma-separated; default: all")
    parser.add_argument("--contender", help="names, comma-separated; default: all")
    parser.add_argument("--jobs", type=int, default=3, help="at once; default: %(default)s")
    parser.add_argument("--json", type=Path, help="write all the figures to this file")
    parser.add_argument("--list", action="store_true", help="the scenarios and the contenders")
    return parser.parse_args(argv)


def choose(known: Sequence[str], wanted: str | None, what: str) -> list[str]:
    """Those of *known* that *wanted* names; all without it."""
    if wanted is None:
        return list(known)
    names = wanted.split(",")
    for name in names:
        if name not in known:
            raise ValueError(f"there is no {what} {name!r}")
    return names


def measure(scenario: str, who: Who, scale: scenarios.Scale) -> dict[str, Any]:
    """One record: the figures of one scenario, or why there are none."""
    record: dict[str, Any] = {"scenario": scenario, "contender": who.name}
    begin = time.monotonic()
    try:
        figures = scenarios.SCENARIOS[scenario](Stage(who.adapter, pure=who.pure), scale)
    except (scenarios.Unfit, Declined) as exc:
        record["unfit"] = str(exc)
    except (processes.Failed, RuntimeError, OSError, EOFError, ValueError) as exc:
        record["error"] = f"{type(exc).__name__}: {exc}"
    else:
        # Of use to a person now; full of paths of one machine.
        if text := figures.pop("text", ""):
            print(f"{scenario}, {who.name}, stderr:\n{text}", file=sys.stderr)
        record["figures"] = figures
    record["seconds"] = round(time.monotonic() - begin, 2)
    return record


def show(record: dict[str, Any]) -> None:
    """A line on stderr."""
    rule = rules.RULES[record["scenario"]]
    text = rules.cell(record)
    if "figures" in record:
        text += "" if rule.holds(record["figures"]) else "   NOT HELD"
    print(
        f"{record['scenario']:20} {record['contender']:26} {record['seconds']:5.1f}s  {text}",
        file=sys.stderr,
        flush=True,
    )


def main(argv: Sequence[str] | None = None) -> int:
    """Measure."""
    options = arguments(argv)
    if options.list:
        print("\n".join([*scenarios.SCENARIOS, "", *(who.name for who in everybody())]))
        return 0
    names = [who.name for who in everybody()]
    wanted = options.contender or (",".join(QUICK) if options.quick else None)
    try:
        only = choose(list(scenarios.SCENARIOS), options.only, "scenario")
        contenders = [Who(name) for name in choose(names, wanted, "contender")]
    except ValueError as exc:
        print(exc, file=sys.stderr)
        return 2
    for who in contenders:
        if who.absent:
            print(f"left out: {who.name}: no {', '.join(who.absent)}", file=sys.stderr)
    contenders = [who for who in contenders if not who.absent]
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    scale = scenarios.QUICK if options.quick else scenarios.FULL
    begin = time.monotonic()
    records = []
    for scenario in only:
        jobs = options.jobs
        if scenario in scenarios.ALONE:
            jobs = 1
        elif scenario in scenarios.WAITING:
            jobs *= 3
        with concurrent.futures.ThreadPoolExecutor(jobs) as pool:
            running = [pool.submit(measure, scenario, who, scale) for who in contenders]
            for future in running:
                records.append(future.result())
                show(records[-1])
    took = round(time.monotonic() - begin)
    meta = machine.describe(sys.executable) | {"scale": vars(scale), "took_s": took}
    if options.json:
        options.json.write_text(Results([meta], records).dump())
    missed = rules.missed(records)
    print(f"{len(records)} runs in {took} s; not held by simplews: {len(missed)}")
    for record in missed:
        print(f"  {record['scenario']}, {record['contender']}: {rules.cell(record)}")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
