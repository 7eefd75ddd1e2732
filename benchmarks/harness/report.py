"""What people read: an overview for the terminal, RESULTS.md, and its pictures."""

from __future__ import annotations

import statistics

from . import goals, svg, tables
from .cases import CASES, Case
from .results import Results
from .summary import Summary, summarise

# Peers of a line picture: more than that cannot be told apart.
DRAWN = (
    "simplews-serve",
    "simplews-rooms",
    "picows",
    "picows-websockets",
    "aiohttp",
    "websockets",
    "tcp-protocol",
)

# Microseconds by which the generator may be late before the quantiles are doubted.
LATE = 1000.0

HOW_TO_READ = """
Figures are medians; lower is better everywhere.
A ratio of 0.40 × means: it costs 0.40 of what {baseline} costs, on the same loop, in the same run.
± is half the distance between the least and the largest of the repeats.
[README.md](README.md) says what each case is and what a figure means.
""".strip()


def overview(results: Results, baseline: str) -> str:
    """What a terminal shows at the end of a run."""
    data = summarise(results.records)
    lines = [f"Ratios are to {baseline} on the same loop: 0.40 × costs 0.40 of it."]
    lines += tables.overview(data, baseline)
    return "\n".join([*lines, *_failures(data)])


def _failures(data: Summary) -> list[str]:
    failures = data.failures()
    if not failures:
        return []
    lines = ["", "#### Failed", ""]
    for (case, peer, loop), figure in failures:
        often = f"{figure.failed} of {figure.failed + figure.repeats}"
        lines.append(f"- {case}, {peer}, {loop} ({often}): {figure.error}")
    return lines


def _machine(results: Results) -> list[str]:
    run = results.runs[0]
    dates = sorted({one["date"] for one in results.runs})
    versions = ", ".join(f"{name} {version}" for name, version in sorted(run["versions"].items()))
    days = dates[0] if len(dates) == 1 else f"{dates[0]} to {dates[-1]}"
    taken = sorted({(one["secs"], one["repeat"]) for one in results.runs})
    how = " and ".join(f"{repeat} × {secs:g} s" for secs, repeat in taken)
    priority = (
        ", P at real-time priority" if any(one.get("realtime") for one in results.runs) else ""
    )
    return [
        f"{days}; {run['cpu']}, {run['cores']} cores; {run['system']}; {run['python']}.",
        f"Measured {how} for each figure, layout {run['layout']}{priority}.",
        f"Versions: {versions}.",
    ]


def results_page(results: Results, baseline: str, note: str = "") -> str:
    """
    RESULTS.md.

    Nothing but its arguments goes into it: the same file gives the same page.

    Args:
        note: A sentence that stands above everything.
    """
    data = summarise(results.records)
    lines = ["# Results", "", *([note, ""] if note else []), *_machine(results)]
    lines += HOW_TO_READ.format(baseline=baseline).splitlines()
    rows = goals.judge(data)
    if any(row.verdict != "not measured" for row in rows):
        lines += ["", "## Goals", ""]
        lines += [
            "What simplews must cost, and what we aim for, beside the peers of the same run.",
            "Where the two are measured against different peers, both ratios are there.",
            "",
            *tables.goals(rows),
        ]
    lines += ["", "## Overview", *tables.overview(data, baseline)]
    for case in data.cases():
        if not case.step:
            lines += ["", f"## {case.name}: {case.title}", ""]
            lines += [f"![{case.name}](plots/{name})" for name in _names(case, data)]
            lines += ["", *tables.details(data, case, baseline), *_doubt(data, case)]
    series = dict.fromkeys(case.series for case in data.cases() if case.step)
    if series:
        lines += ["", "## Linearity", ""]
        lines += ["What an operation costs, in multiples of the first step.", ""]
        lines += [
            f"![{name}, {loop}](plots/{name}-{loop}.svg)"
            for name in series
            for loop in data.loops()
        ]
    return "\n".join([*lines, *_failures(data)]) + "\n"


def _doubt(data: Summary, case: Case) -> list[str]:
    """Say it when the generator, which does next to nothing, was itself late."""
    late = [
        figure.medians["late_p99_us"]
        for (name, _, _), figure in data.figures.items()
        if name == case.name and "late_p99_us" in figure.medians
    ]
    if not late or statistics.median(late) <= LATE:
        return []
    return [
        "",
        f"The generator was late by {statistics.median(late):,.0f} µs at its own p99: the machine "
        "had other things to do, and these figures say more of that than of the peers.",
    ]


def _names(case: Case, data: Summary) -> list[str]:
    """The pictures of a case."""
    if case.latency:
        return [f"{case.name}-{loop}.svg" for loop in data.loops()]
    return [f"{case.name}.svg"]


def pictures(results: Results) -> dict[str, str]:
    """The pictures that RESULTS.md shows, by file name."""
    data = summarise(results.records)
    out: dict[str, str] = {}
    for case in data.cases():
        if case.latency:
            for loop in data.loops():
                out[f"{case.name}-{loop}.svg"] = _quantiles(data, case, loop)
        elif not case.step:
            out[f"{case.name}.svg"] = _costs(data, case)
    for series in dict.fromkeys(case.series for case in data.cases() if case.step):
        for loop in data.loops():
            out[f"{series}-{loop}.svg"] = _growth(data, series, loop)
    return out


def _costs(data: Summary, case: Case) -> str:
    loops = data.loops()
    peers = data.peers([case], loops[-1])
    peers += [peer for loop in loops for peer in data.peers([case], loop) if peer not in peers]
    series = [(loop, [data.value(case.name, peer, loop) for peer in peers]) for loop in loops]
    return svg.bars(f"{case.name}: {case.title}; {tables.unit(case)}", peers, series)


def _quantiles(data: Summary, case: Case, loop: str) -> str:
    peers = data.peers([case], loop)
    figures = [data.get(case.name, peer, loop) for peer in peers]
    series = [
        (label, [figure.medians.get(key) if figure else None for figure in figures])
        for label, key in (("p50", "p50_us"), ("p99", "p99_us"), ("p99.9", "p999_us"))
    ]
    return svg.bars(f"{case.name}, {loop}: {case.title}; µs, log.", peers, series, log=True)


def _growth(data: Summary, series: str, loop: str) -> str:
    cases = [case for case in CASES.values() if case.series == series]
    rows: list[svg.Series] = []
    for peer in DRAWN:
        values = [data.value(case.name, peer, loop) for case in cases]
        if first := values[0]:
            rows.append((peer, [value / first if value else None for value in values]))
    title = f"{series}, {loop}: {tables.series_title(cases[0])}; × the first"
    return svg.lines(title, [case.step for case in cases], rows)
