"""
Turn the files that run.py and long.py wrote into RESULTS.md and its pictures.

    python benchmarks/soak/report.py
"""

from __future__ import annotations

import argparse
import itertools
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # also with PYTHONSAFEPATH

from harness import results, svg

from soak import rules

HERE = Path(__file__).resolve().parent

PEERS = (
    "simplews-serve",
    "websockets",
    "aiohttp",
    "picows-websockets",
    "picows",
    "uvicorn-wsproto",
    "simple-websocket",
)
CLIENTS = (
    "simplews-client",
    "websockets-client",
    "aiohttp-client",
    "picows-websockets-client",
    "simple-websocket-client",
)
OURS = tuple(f"simplews-{name}" for name in ("serve", "sock", "stream", "aiohttp", "asgi"))

HOW_TO_READ = """
✓ the rule holds, ✗ it does not, – the contender has nothing that the rule is about.
MB are 10⁶ bytes of resident memory at the peak, above what the process had before.
[README.md](../README.md#soak) says what each scenario does.
Other programs ran at the same time: memory, descriptors and codes do not mind that, and
of times only the coarse ones say something.
""".strip()

MARKS = {"held": "✓", "host": "host:", "missed": "✗"}

Record = dict[str, Any]


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    lines = ["| " + " | ".join(head) + " |", "| --- " * len(head) + "|"]
    return lines + ["| " + " | ".join(row) + " |" for row in rows]


def _cell(record: Record | None, records: Sequence[Record]) -> str:
    if record is None:
        return ""
    if "unfit" in record:
        return "–"
    if record["contender"].startswith("simplews"):
        mark = MARKS[rules.verdict(record, records) or "missed"]
    else:
        mark = "✓" if rules.holds(record) else "✗"
    return f"{mark} {rules.cell(record)}"


def table(records: Sequence[Record], names: Sequence[str]) -> list[str]:
    """A row for each rule, a column for each of *names* that was measured."""
    known = {(r["scenario"], r["contender"]): r for r in records}
    names = [name for name in names if any(name == contender for _, contender in known)]
    rows = []
    for scenario, rule in rules.RULES.items():
        cells = [_cell(known.get((scenario, name)), records) for name in names]
        if any(cell not in ("", "–") for cell in cells):
            rows.append([f"{rule.what} (`{scenario}`)", rule.must, *cells])
    return _table(["what", "must", *names], rows)


def _misses(records: Sequence[Record]) -> list[str]:
    missed = rules.missed(records)
    if not missed:
        return ["Every rule holds, except where the host does not let it (marked so)."]
    lines = ["Not held:", ""]
    for record in missed:
        lines.append(f"- `{record['scenario']}`, {record['contender']}: {rules.cell(record)}")
    return lines


def _failures(records: Sequence[Record]) -> list[str]:
    failed = [record for record in records if "error" in record]
    if not failed:
        return []
    lines = ["", "## Failed", "", "No figure, because the contender did something else:", ""]
    for record in failed:
        lines.append(f"- `{record['scenario']}`, {record['contender']}: {record['error']}")
    return lines


def page(measured: results.Results, long: dict[str, Any] | None = None) -> str:
    """RESULTS.md; nothing but its arguments goes into it."""
    run, records = measured.runs[-1], measured.records
    versions = ", ".join(f"{name} {version}" for name, version in sorted(run["versions"].items()))
    lines = [
        "# What holds under load, faults and hostile input",
        "",
        f"{run['date']}; {run['cpu']}; {run['system']}; {run['python']}; asyncio's event loop.",
        f"Versions: {versions}.",
        *HOW_TO_READ.replace(", and\n", ", and ").splitlines(),
        "",
        "## Servers",
        "",
        *table(records, PEERS),
        "",
        "## Clients",
        "",
        *table(records, CLIENTS),
        "",
        "## simplews, by source",
        "",
        "uvicorn-sansio is the host of simplews-asgi with a bare application, and aiohttp, above, "
        "that of simplews-aiohttp.",
        "*host* marks what the host by itself does not hold either; inside it, simplews cannot "
        "change that.",
        "",
        *table(records, (*OURS, "uvicorn-sansio")),
        "",
        "### Without the compiled part",
        "",
        *table(records, [f"{name} pure" for name in (*OURS, "simplews-client")]),
        "",
        *_misses(records),
    ]
    if long is not None:
        lines += ["", *long_section(long)]
    return "\n".join([*lines, *_failures(records)]) + "\n"


# ------------------------------------------------------------------------ the long run


def long_section(long: dict[str, Any]) -> list[str]:
    """What long.py has counted."""
    counts = long["counts"]
    rows = [
        ["messages sent", f"{counts['sent']:,}"],
        ["… delivered, in order and whole", f"{counts['delivered']:,}"],
        ["… accounted for by an exception on the sender", f"{counts['accounted']:,}"],
        ["… lost", f"{counts['lost']:,}"],
        ["… delivered twice, in disorder or damaged", f"{counts['wrong']:,}"],
        ["connections", f"{counts['connections']:,}"],
        ["… of them hung", f"{counts['hung']:,}"],
        ["descriptors and tasks left at the end", f"{long['files']} and {long['tasks']}"],
        ["lines on stderr", f"{long['stderr']}"],
    ]
    faults = ", ".join(f"{name} {number:,}" for name, number in sorted(long["faults"].items()))
    kinds = ", ".join(f"{name} {number:,}" for name, number in sorted(long["kinds"].items()))
    memory = [
        f"{name} {', '.join(f'{point:.1f}' for point in points)}"
        for name, points in long["rests"].items()
    ]
    blocks = [
        f"{name} {', '.join(f'{number:,}' for number in numbers)}"
        for name, numbers in long.get("blocks", {}).items()
    ]
    return [
        "## The long run",
        "",
        f"{long['minutes']:g} minutes of mixed load through a relay that injects faults, "
        f"{long['workers']} connections at once; {long['date']}, seed {long['seed']}.",
        "",
        *_table(["what", "how many"], rows),
        "",
        f"Connections by kind: {kinds}.",
        f"Faults: {faults}.",
        "",
        f"The load rests {long['rounds']} times, until every connection is closed at both ends.",
        f"Memory then, in MB: {'; '.join(memory)}.",
        *([f"Blocks that Python has allocated then: {'; '.join(blocks)}."] if blocks else []),
        "",
        "![memory over the time](memory.svg)",
    ]


def picture(long: dict[str, Any]) -> str:
    """The memory under load and at rest, in multiples of the first rest."""
    curves, rests = long["curves"], long["rests"]
    number = min(len(curve) for curve in curves.values())
    count = min(number, 120)
    series: list[svg.Series] = []
    for name, curve in curves.items():
        base = rests[name][0]
        cuts = [round(i * number / count) for i in range(count + 1)]
        load = [max(curve[a:b]) / base for a, b in itertools.pairwise(cuts)]
        level = [rests[name][i * len(rests[name]) // count] / base for i in range(count)]
        series += [(f"{name}, load", load), (f"{name}, at rest", level)]
    marks = {round(i * (count - 1) / 10): long["minutes"] * i / 10 for i in range(11)}
    steps = [f"{marks[i]:.2g}" if i in marks else "" for i in range(count)]
    title = f"Memory in {long['minutes']:g} minutes of load with faults; × the first rest"
    return svg.lines(title, steps, series)


def main() -> int:
    """Read, write."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").strip().partition("\n")[0])
    parser.add_argument("--results", type=Path, nargs="+", default=[HERE / "results.json"])
    parser.add_argument("--long", type=Path, default=HERE / "long.json")
    parser.add_argument("--json", type=Path, help="write all of the results into one file")
    parser.add_argument("--dir", type=Path, default=HERE, help="of RESULTS.md; default: here")
    options = parser.parse_args()
    measured = results.Results([], [])
    for path in options.results:
        more = results.load(path)
        measured.runs += more.runs
        new = {(r["scenario"], r["contender"]) for r in more.records}
        kept = (r for r in measured.records if (r["scenario"], r["contender"]) not in new)
        measured.records = [*kept, *more.records]
    long = json.loads(options.long.read_text()) if options.long.exists() else None
    if options.json:
        options.json.write_text(measured.dump())
    (options.dir / "RESULTS.md").write_text(page(measured, long))
    if long is not None:
        (options.dir / "memory.svg").write_text(picture(long))
    return 0


if __name__ == "__main__":
    sys.exit(main())
