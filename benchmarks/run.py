"""
Measure WebSocket servers and clients, ours and others, side by side.

    python benchmarks/run.py --quick
    python benchmarks/run.py --case S1,S2 --peer simplews-serve,websockets --json out.json

README.md says what the figures mean.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

if not sys.platform.startswith("linux"):
    sys.exit("the benchmarks need Linux: epoll, and the CPU clocks of other processes")
sys.path.insert(0, str(Path(__file__).resolve().parent))  # also with PYTHONSAFEPATH

from harness import goals, machine, peers, plan, processes, report, session, toolchain
from harness.cases import CASES, expand
from harness.load import Record
from harness.measure import Bench, Settings
from harness.processes import Placement
from harness.results import Results

# What --quick chooses: every kind of case, each in a fraction of a second.
QUICK_CASES = "S1,S2a,S3a,S5,S6,C1"
QUICK_PEERS = "simplews-serve,simplews-rooms,websockets,aiohttp,picows,picows-websockets,simplews"
QUICK = {"secs": 0.2, "warmup": 0.1, "repeat": 3}
FULL = {"secs": 1.0, "warmup": 0.3, "repeat": 3}
QUICK_BUDGET = 150.0  # seconds


def arguments(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").strip().partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="a selection, in two minutes")
    parser.add_argument("--goals", action="store_true", help="only what a goal is judged by")
    parser.add_argument("--plan", action="store_true", help="how long it would take, no more")
    parser.add_argument("--case", help="S1, S2 (S2a and S2b), S, T, C, P, L, all (default)")
    parser.add_argument("--peer", help="names, comma-separated; default: all")
    parser.add_argument("--loop", default="asyncio,uvloop", help="default: %(default)s")
    parser.add_argument("--repeat", type=int, help="default: 3")
    parser.add_argument("--secs", type=float, help="seconds measured; default: 1")
    parser.add_argument("--warmup", type=float, help="seconds before; default: 0.3")
    parser.add_argument("--rate", type=float, help="messages a second in P2; default: measured")
    parser.add_argument("--json", type=Path, help="write all the figures to this file")
    parser.add_argument("--baseline", default="websockets", help="ratios are to this peer")
    parser.add_argument("--python", default=sys.executable, help="runs the adapters")
    parser.add_argument(
        "--layout",
        choices=["same", "split", "free"],
        default="same",
        help="same: both sides on one core (default); split: one core each; free: anywhere",
    )
    parser.add_argument(
        "--realtime", action="store_true", help="P: before whatever else runs; as root"
    )
    parser.add_argument("--cores", help="two numbers, A,B; default: the first that we may use")
    parser.add_argument(
        "--peers-dir", action="append", default=[], type=Path, help="one more folder of adapters"
    )
    parser.add_argument("--list", action="store_true", help="the cases and the peers")
    parser.add_argument("--quiet", action="store_true", help="no line for each figure")
    options = parser.parse_args(argv)
    for name, value in (QUICK if options.quick else FULL).items():
        if getattr(options, name) is None:
            setattr(options, name, value)
    options.case = options.case or (QUICK_CASES if options.quick else "all")
    options.peer = options.peer or (QUICK_PEERS if options.quick else None)
    return options


def placements(
    layout: str, cores: str | None, realtime: bool = False
) -> tuple[Placement, Placement]:
    """Where both sides run: for costs, and for times."""
    allowed = sorted(os.sched_getaffinity(0))
    first, *more = [int(core) for core in cores.split(",")] if cores else allowed
    second = more[0] if more else first
    policy: Literal["", "realtime"] = "realtime" if realtime else ""
    if layout == "free":
        return Placement(None, None), Placement(None, None, policy)
    together = Placement(first, first, "batch") if layout == "same" else Placement(first, second)
    return together, Placement(first, second, policy)


def list_all(known: dict[tuple[str, str], peers.Peer]) -> None:
    """Print what there is."""
    for case in CASES.values():
        print(f"{case.name:4} {case.title}")
    for (name, role), peer in sorted(known.items()):
        print(f"{name:26} {role:7} {','.join(peer.loops)}")


@dataclass
class Progress:
    """Tells a person what was measured, a line each, on stderr."""

    start: float

    def __call__(self, record: Record) -> None:
        if "error" in record:
            text = f"failed: {record['error']}"
        elif "kib_per_conn" in record:
            text = f"{record['kib_per_conn']:.1f} KiB/conn"
        else:
            text = f"{record['cpu_us']:.2f} µs CPU  {record['rate']:.0f}/s"
            if "p50_us" in record:
                text += "  {p50_us:.0f} / {p99_us:.0f} / {p999_us:.0f} µs".format_map(record)
        where = f"{record['repeat']} {record['case']:4} {record['peer']:26} {record['loop']:8}"
        elapsed = time.monotonic() - self.start
        print(f"[{elapsed:4.0f}s] {where} {text}", file=sys.stderr, flush=True)


def show_plan(todo: plan.Plan, options: argparse.Namespace) -> None:
    """Say on stderr how many measurements there are, and about how long they take."""
    each = todo.seconds(options.secs, options.warmup)
    if options.plan:
        for case, turns in todo.rows:
            took = each[case.name] * options.repeat
            names = ", ".join(dict.fromkeys(peer.name for peer, _ in turns))
            print(f"{case.name:4} {took / 60:5.1f} min  {names}", file=sys.stderr)
    number, minutes = len(todo) * options.repeat, sum(each.values()) * options.repeat / 60
    print(f"{number} measurements, about {minutes:.1f} minutes", file=sys.stderr)


def measure(options: argparse.Namespace) -> Results:
    """
    Do what the command line asks for; without records if that is only to plan.

    Raises:
        ValueError: It asks for what there is not.
        NoCompiler: The generator cannot be compiled.
    """
    known = peers.load(options.peers_dir)
    cases = expand(options.case)
    names = options.peer.split(",") if options.peer else None
    loops = options.loop.split(",")
    plan.make([], names, loops, known)  # a name that is wrong is found before anything is done
    if options.realtime and not processes.may_be_realtime():
        raise ValueError("real-time priority is not ours to take: be root, or go without")
    start = time.monotonic()
    with_tls = toolchain.build()
    together, apart = placements(options.layout, options.cores, options.realtime)
    with tempfile.TemporaryDirectory() as folder:
        scratch = Path(folder)
        wants_tls = with_tls and any(case.tls for case in cases)
        certificate = machine.certificate(options.python, scratch) if wants_tls else None
        modules = {"uvloop", *(module for peer in known.values() for module in peer.needs)}
        todo = plan.make(
            cases,
            names,
            loops,
            known,
            only=goals.needed({name for name, _ in known}) if options.goals else None,
            absent=machine.absent(options.python, modules),
            tls=certificate is not None,
            descriptors=processes.most_files(),
        )
        for line in todo.left_out:
            print(f"left out: {line}", file=sys.stderr)
        show_plan(todo, options)
        if options.plan:
            return Results([], [])
        settings = Settings(
            python=options.python,
            secs=options.secs,
            warmup=options.warmup,
            together=together,
            apart=apart,
            scratch=scratch,
            pacers=todo.pacers,
            rate=options.rate,
            certificate=certificate,
        )
        records = session.run(
            Bench(settings),
            todo,
            options.repeat,
            budget=QUICK_BUDGET if options.quick else None,
            report=None if options.quiet else Progress(start),
        )
    meta = machine.describe(options.python) | {
        "layout": options.layout,
        "realtime": options.realtime,
        "secs": options.secs,
        "warmup": options.warmup,
        "repeat": options.repeat,
        "took_s": round(time.monotonic() - start),
    }
    return Results([meta], records)


def main() -> int:
    """Measure, and print how the peers compare."""
    options = arguments()
    if options.list:
        list_all(peers.load(options.peers_dir))
        return 0
    # Who ends us keeps what was measured, and leaves no servers behind.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        results = measure(options)
    except (ValueError, toolchain.NoCompiler) as exc:
        print(exc, file=sys.stderr)
        return 2
    if options.plan:
        return 0
    if options.json:
        options.json.write_text(results.dump())
    if not results.records:
        print("nothing of what was asked for can be measured here", file=sys.stderr)
        return 1
    print(report.overview(results, options.baseline))
    return 0


if __name__ == "__main__":
    sys.exit(main())
