"""Results as Markdown tables whose columns line up, to be read in a terminal, too."""

from __future__ import annotations

from collections.abc import Sequence

from .cases import CASES, Case
from .goals import Measured, Row
from .summary import Figure, Summary

Line = list[str]


def table(header: Line, rows: Sequence[Line], text_columns: int = 1) -> list[str]:
    """
    Lines of a table.

    Args:
        text_columns: How many of the columns are words, to the left; numbers
            are to the right.
    """
    widths = [max(3, *map(len, column)) for column in zip(header, *rows, strict=True)]

    def line(cells: Line) -> str:
        padded = [
            cell.ljust(width) if i < text_columns else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(cells, widths, strict=True))
        ]
        return f"| {' | '.join(padded)} |"

    rule = [
        "-" * width if i < text_columns else "-" * (width - 1) + ":"
        for i, width in enumerate(widths)
    ]
    return [line(header), line(rule), *map(line, rows)]


def number(value: float) -> str:
    """Three digits that mean something."""
    if value >= 1e4:
        return f"{value:,.0f}"
    if value >= 100:
        return f"{value:.0f}"
    return f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def times(ratio: float | None) -> str:
    """A ratio; nothing if there is none."""
    if ratio is None:
        return ""
    return f"{ratio:.2f} ×" if ratio >= 0.1 else f"{ratio:.3f} ×"


def percent(share: float | None) -> str:
    """A share of 1."""
    return "" if share is None else f"{share * 100:.0f} %"


def unit(case: Case) -> str:
    """What the figure of a case is counted in."""
    if case.memory:
        return "KiB/conn"
    return "p99 µs" if case.latency else f"µs/{case.unit}"


# ------------------------------------------------------------------- overview


def overview(data: Summary, baseline: str) -> list[str]:
    """For each side and loop a table: what each peer costs in each case."""
    lines: list[str] = []
    plain = [case for case in data.cases() if not case.step]
    for side in ("server", "client"):
        cases = [case for case in plain if case.side == side]
        for loop in data.loops():
            peers = data.peers(cases, loop)
            if not peers:
                continue
            header = ["peer", *(f"{case.name} {unit(case)}" for case in cases)]
            rows = [
                [peer, *(_cell(data, case, peer, loop, baseline) for case in cases)]
                for peer in peers
            ]
            lines += ["", f"#### {side}s, {loop}", "", *table(header, rows)]
    return [*lines, *linear(data)]


def _cell(data: Summary, case: Case, peer: str, loop: str, baseline: str) -> str:
    figure = data.get(case.name, peer, loop)
    if figure is None:
        return "–"
    value = data.value(case.name, peer, loop)
    if value is None:
        return "failed"
    ratio = times(data.ratio(case.name, peer, baseline, loop))
    return f"{number(value)} ({ratio})" if ratio else number(value)


# ------------------------------------------------------------------ each case


def details(data: Summary, case: Case, baseline: str) -> list[str]:
    """The table of one case, both loops."""
    columns = (
        _memory_columns()
        if case.memory
        else _time_columns()
        if case.latency
        else _cost_columns(case)
    )
    beside = f"p99 × {baseline}" if case.latency else f"× {baseline}"
    header = ["peer", "loop", *columns, beside, "±"]
    rows = []
    for loop in data.loops():
        for peer in data.peers([case], loop):
            figure = data.get(case.name, peer, loop)
            assert figure is not None
            if not figure.repeats:
                rows.append([peer, loop, "failed", *[""] * (len(columns) + 1)])
                continue
            ratio = data.ratio(case.name, peer, baseline, loop)
            values = [show(figure) for show in columns.values()]
            spread = percent(figure.spread) if figure.repeats > 1 else ""
            rows.append([peer, loop, *values, times(ratio), spread])
    return table(header, rows, text_columns=2)


class _Column:
    """Shows one figure, or what follows from it."""

    def __init__(self, key: str, inverse: bool = False, share: bool = False) -> None:
        self.key, self.inverse, self.share = key, inverse, share

    def __call__(self, figure: Figure) -> str:
        value = figure.medians.get(self.key)
        if value is None:
            return ""
        if self.share:
            return percent(value)
        return number(1e6 / value if self.inverse else value)


def _cost_columns(case: Case) -> dict[str, _Column]:
    return {
        f"CPU {unit(case)}": _Column("cpu_us"),
        f"{case.unit}/s per core": _Column("cpu_us", inverse=True),
        f"observed {case.unit}/s": _Column("rate"),
        "in the kernel": _Column("sys_share", share=True),
    }


def _memory_columns() -> dict[str, _Column]:
    return {"KiB/conn": _Column("kib_per_conn")}


def _time_columns() -> dict[str, _Column]:
    return {
        "p50 µs": _Column("p50_us"),
        "p99 µs": _Column("p99_us"),
        "p99.9 µs": _Column("p999_us"),
        "generator's p99 µs": _Column("late_p99_us"),
        "msg/s": _Column("rate"),
        "busy": _Column("busy", share=True),
    }


# ---------------------------------------------------------------------- lines


def linear(data: Summary) -> list[str]:
    """A table for each series of cases that differ in one number alone."""
    lines: list[str] = []
    steps = [case for case in data.cases() if case.step]
    for series in dict.fromkeys(case.series for case in steps):
        cases = [case for case in CASES.values() if case.series == series]
        first = cases[0]
        header = ["peer", "loop", *(case.step for case in cases)]
        rows = [
            [peer, loop, *_growing(data, cases, peer, loop)]
            for loop in data.loops()
            for peer in data.peers(cases[::-1], loop)
        ]
        lines += ["", f"#### {series}: {series_title(first)}; CPU {unit(first)}", ""]
        lines += table(header, rows, text_columns=2)
    return lines


def series_title(first: Case) -> str:
    """What all cases of a series are, in the words of the first of them."""
    return first.title.replace(f" {first.step.split()[0]} ", " N ", 1)


def _growing(data: Summary, cases: Sequence[Case], peer: str, loop: str) -> list[str]:
    cells = []
    before: float | None = None
    for case in cases:
        figure = data.get(case.name, peer, loop)
        value = data.value(case.name, peer, loop)
        if value is None:
            cells.append("–" if figure is None else "failed")
        elif before:
            cells.append(f"{number(value)} ({times(value / before)})")
        else:
            cells.append(number(value))
        before = value
    return cells


# ---------------------------------------------------------------------- goals


def goals(rows: Sequence[Row]) -> list[str]:
    """The table of goals; what was not measured is left out."""
    header = ["goal", "case", "loop", "must", "aim", "measured", "±", "reached"]
    body = [
        [
            row.title,
            row.case,
            row.loop,
            row.must,
            row.aim,
            _measured(row.measured, row.aimed),
            percent(row.measured.spread) if row.measured.spread else "",
            {"aim": "aim", "must": "must", "missed": "no"}.get(row.verdict, row.verdict),
        ]
        for row in rows
        if row.verdict != "not measured"
    ]
    return table(header, body, text_columns=5)


def _measured(must: Measured, aim: Measured | None) -> str:
    """A ratio, and what the aim's is where that is to somebody else."""
    text = _one(must)
    if aim is None or aim.value is None or (aim.value, aim.other) == (must.value, must.other):
        return text
    return f"{text}; {_one(aim)}"


def _one(measured: Measured) -> str:
    if measured.value is None:
        return "failed"
    if not measured.other:
        return number(measured.value)
    return f"{times(measured.value)} {measured.other}"
