"""Two kinds of drawing, in plain SVG: bars, and lines that should stay level."""

from __future__ import annotations

import math
from collections.abc import Sequence
from xml.sax.saxutils import escape

# Readable on white and on black; the background is drawn, so that it fits the
# text wherever the picture stands.
STYLE = """
text { font: 13px system-ui, sans-serif; fill: #1f2328 }
.back { fill: #ffffff } .axis { stroke: #8c959f; stroke-width: 1 }
.small { font-size: 11px } .title { font-size: 15px; font-weight: 600 }
.s0 { fill: #0969da; stroke: #0969da } .s1 { fill: #bc4c00; stroke: #bc4c00 }
.s2 { fill: #1a7f37; stroke: #1a7f37 } .s3 { fill: #8250df; stroke: #8250df }
.s4 { fill: #bf3989; stroke: #bf3989 } .s5 { fill: #6e7781; stroke: #6e7781 }
.line { fill: none; stroke-width: 2 } .bar { stroke: none }
@media (prefers-color-scheme: dark) {
text { fill: #e6edf3 } .back { fill: #0d1117 }
.s0 { fill: #4493f8; stroke: #4493f8 } .s1 { fill: #f0883e; stroke: #f0883e }
.s2 { fill: #3fb950; stroke: #3fb950 } .s3 { fill: #ab7df8; stroke: #ab7df8 }
.s4 { fill: #f778ba; stroke: #f778ba } .s5 { fill: #9198a1; stroke: #9198a1 }
.line { fill: none } .bar { stroke: none }
}
""".strip()

COLOURS = 6
WIDTH = 760
LABELS = 210  # width of the names to the left of the bars
BAR = 13

Series = tuple[str, Sequence[float | None]]


def _text(x: float, y: float, text: str, *, kind: str = "", anchor: str = "start") -> str:
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" class="{kind}" text-anchor="{anchor}">{escape(text)}</text>'
    )


def _document(title: str, height: float, body: Sequence[str]) -> str:
    """A whole picture; *title* is also what a screen reader says."""
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height:.0f}"'
        f' width="{WIDTH}" height="{height:.0f}" role="img">'
    )
    return "\n".join(
        [
            head,
            f"<title>{escape(title)}</title>",
            f"<style>{STYLE}</style>",
            f'<rect class="back" width="{WIDTH}" height="{height:.0f}" rx="6"/>',
            _text(16, 26, title, kind="title"),
            *body,
            "</svg>\n",
        ]
    )


def _legend(names: Sequence[str], y: float) -> list[str]:
    out = []
    x = 16.0
    for i, name in enumerate(names):
        out.append(
            f'<rect class="bar s{i % COLOURS}" x="{x:.1f}" y="{y - 10:.1f}"'
            ' width="11" height="11"/>'
        )
        out.append(_text(x + 17, y, name))
        x += 40 + 7.5 * len(name)
    return out


def _short(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def bars(title: str, names: Sequence[str], series: Sequence[Series], *, log: bool = False) -> str:
    """
    A group of horizontal bars for each of *names*, one bar a series.

    Args:
        series: Each has a value for every name; None has no bar.
        log: Lengths are logarithms: for values that are far apart.
    """
    values = [value for _, row in series for value in row if value]
    most, least = max(values, default=1.0), min(values, default=1.0)
    floor = 10.0 ** math.floor(math.log10(least)) if log else 0.0
    room = WIDTH - LABELS - 90

    def length(value: float) -> float:
        if not log:
            return value / most * room
        return math.log10(value / floor) / math.log10(most * 1.001 / floor) * room

    body = _legend([name for name, _ in series], 48)
    y = 64.0
    for i, name in enumerate(names):
        body.append(_text(LABELS - 10, y + len(series) * BAR / 2 + 4, name, anchor="end"))
        for j, (_, row) in enumerate(series):
            value = row[i]
            wide = max(length(value), 1.0) if value else 0.0
            if wide:
                body.append(
                    f'<rect class="bar s{j % COLOURS}" x="{LABELS}" y="{y:.1f}"'
                    f' width="{wide:.1f}" height="{BAR - 2}"/>'
                )
            text = _short(value) if value else "–"
            body.append(_text(LABELS + wide + 5, y + BAR - 4, text, kind="small"))
            y += BAR
        y += 8
    return _document(title, y + 10, body)


def lines(title: str, steps: Sequence[str], series: Sequence[Series]) -> str:
    """
    A line a series, over *steps* at equal distances; 1 is drawn across.

    Args:
        series: Values for every step; a line ends where one is None.
    """
    left, right, top, bottom = 60, WIDTH - 200, 50, 330
    values = [value for _, row in series for value in row if value]
    low, high = min([0.9, *values]), max([1.1, *values])

    def x(i: int) -> float:
        return left + i * (right - left) / max(len(steps) - 1, 1)

    def y(value: float) -> float:
        return bottom - (value - low) / (high - low) * (bottom - top)

    body = [
        f'<line class="axis" x1="{left}" y1="{y(1):.1f}" x2="{right}" y2="{y(1):.1f}"/>',
        *(_text(x(i), bottom + 22, step, anchor="middle") for i, step in enumerate(steps)),
        *(
            _text(left - 8, y(value) + 4, _short(value), kind="small", anchor="end")
            for value in (low, 1.0, high)
        ),
    ]
    names = []
    for i, (name, row) in enumerate(series):
        known = [(x(j), y(value)) for j, value in enumerate(row) if value]
        if not known:
            continue
        points = " ".join(f"{px:.1f},{py:.1f}" for px, py in known)
        body.append(f'<polyline class="s{i % COLOURS} line" points="{points}"/>')
        names.append((known[-1][1], i, name))
    below = 0.0  # names that would cover each other are moved down
    for at, i, name in sorted(names):
        below = max(at, below + 15)
        body.append(
            f'<rect class="bar s{i % COLOURS}" x="{right + 6}" y="{below - 5:.1f}"'
            ' width="9" height="9"/>'
        )
        body.append(_text(right + 20, below + 4, name, kind="small"))
    return _document(title, max(bottom + 40, below + 20), body)
