"""What simplews is to cost beside its peers, and whether it does."""

from __future__ import annotations

import itertools
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import Literal

from .cases import CASES
from .peers import COROUTINE
from .summary import OURS, RAW, Summary

Verdict = Literal["aim", "must", "missed", "failed", "not measured"]

ECHO = ("S1", "S2a", "S2b", "S3a", "S3b")


@dataclass(frozen=True)
class Bound:
    """
    A limit on what *ours* costs.

    Attributes:
        against: The cheapest of these is 1; None: of all the peers; empty: the
            limit is the figure itself.
        called: What the table calls them.
    """

    ours: str
    limit: float
    against: tuple[str, ...] | None = ()
    called: str = ""

    @property
    def text(self) -> str:
        """The limit, as a goal says it."""
        if self.against == ():
            return f"≤ {self.limit:g}"
        return f"≤ {self.limit:.2f} × {self.called}"

    def measured(self, data: Summary, case: str, loop: str) -> Measured:
        """What it is held against."""
        figure = data.get(case, self.ours, loop)
        value = data.value(case, self.ours, loop)
        if value is None:
            return Measured(None, failed=figure is not None)
        assert figure is not None
        if self.against == ():
            return Measured(value, figure.spread, limit=self.limit)
        best = data.best(case, loop, self.against)
        if best is None:
            return Measured(None)
        ratio = data.ratio(case, self.ours, best, loop)
        theirs = data.get(case, best, loop)
        assert theirs is not None
        return Measured(ratio, max(figure.spread, theirs.spread), best, limit=self.limit)


@dataclass(frozen=True)
class Measured:
    """A ratio, or a figure, with the larger of the spreads and who was the other one."""

    value: float | None
    spread: float = 0.0
    other: str = ""
    failed: bool = False
    limit: float = 0.0

    @property
    def reached(self) -> bool:
        """Whether it is within its limit."""
        return self.value is not None and self.value <= self.limit


@dataclass(frozen=True)
class Goal:
    """A line of the goals: what must be, what we aim for, in each of the cases."""

    title: str
    cases: tuple[str, ...]
    must: Bound
    aim: Bound | None = None


@dataclass(frozen=True)
class Growth:
    """
    How much more an operation may cost when there is ten times as much of something.

    Attributes:
        step: From one case of the series to the next.
        whole: From the first to the last.
        beside: What these peers grow is what counts as 1.
    """

    title: str
    series: str
    ours: str
    step: float | None = None
    whole: float | None = None
    beside: tuple[str, ...] = ()


@dataclass(frozen=True)
class Row:
    """One line of the table of goals."""

    title: str
    case: str
    loop: str
    must: str
    measured: Measured
    aim: str
    aimed: Measured | None

    @property
    def verdict(self) -> Verdict:
        """How far it came."""
        if self.measured.failed:
            return "failed"
        if self.measured.value is None:
            return "not measured"
        if not self.measured.reached:
            return "missed"
        return "aim" if self.aimed is not None and self.aimed.reached else "must"


def _coroutine(ours: str, limit: float) -> Bound:
    return Bound(ours, limit, COROUTINE, "best coroutine peer")


def _any(ours: str, limit: float) -> Bound:
    return Bound(ours, limit, None, "best peer")


def _peer(ours: str, limit: float, other: str) -> Bound:
    return Bound(ours, limit, (other,), other)


def _echoes(ours: str, one: str, many: tuple[str, ...], large: tuple[str, ...]) -> Iterator[Goal]:
    """The same for a server and for a client."""
    side = "client" if one.startswith("C") else "echo"
    yield Goal(f"{side}, ping-pong", (one,), _coroutine(ours, 0.80), _peer(ours, 1.05, "picows"))
    yield Goal(
        f"{side}, 64 in flight",
        many,
        _peer(ours, 0.40, "picows"),
        _peer(ours, 0.20, "picows"),
    )
    yield Goal(f"{side}, 16 KiB and 1 MiB", large, _any(ours, 0.75), _any(ours, 0.50))


def _goals() -> Iterator[Goal]:
    serve, speed, pure, rooms = (f"simplews-{name}" for name in ("serve", "speed", "pure", "rooms"))
    yield from _echoes(serve, "S1", ("S2a", "S2b"), ("S3a", "S3b"))
    yield Goal(
        "permessage-deflate; the aim with [speed]",
        ("S4",),
        _peer(serve, 1.00, "aiohttp"),
        _peer(speed, 0.60, "aiohttp"),
    )
    yield Goal(
        "broadcast to 500",
        ("S5",),
        _peer(rooms, 1.00, "picows"),
        _peer(rooms, 0.80, "picows"),
    )
    yield Goal(
        "connect, echo, close",
        ("S6",),
        _peer(serve, 1.00, "picows-websockets"),
        _peer(serve, 0.80, "picows-websockets"),
    )
    yield Goal("KiB per idle connection", ("S7a",), Bound(serve, 13), Bound(serve, 9))
    yield Goal("the same with deflate", ("S7b",), Bound(serve, 40), Bound(serve, 20))
    yield from _echoes("simplews", "C1", ("C2",), ("C3a", "C3b"))
    yield Goal("TLS with [speed]", ("T1", "T3"), _coroutine(speed, 1.00), _coroutine(speed, 0.80))
    yield Goal("TLS with [speed]", ("T2",), _coroutine(speed, 0.50))
    yield Goal("TLS", ("T1", "T2"), _peer(serve, 1.00, "websockets"))
    yield Goal("inside aiohttp", ECHO, _peer("simplews-aiohttp", 1.00, "aiohttp"))
    yield Goal("inside uvicorn", ECHO, _peer("simplews-uvicorn", 1.03, "uvicorn-sansio"))
    yield Goal("inside hypercorn", ECHO, _peer("simplews-hypercorn", 1.03, "hypercorn"))
    yield Goal("without compiled parts", ("S1", "S2a", "S2b"), _peer(pure, 0.60, "websockets"))
    yield Goal("without compiled parts", ("S3a", "S3b"), _peer(pure, 1.30, "websockets"))
    yield Goal("10,000: set-up", ("S8a",), _peer(serve, 1.00, "aiohttp"))
    yield Goal("10,000: KiB per connection", ("S8b",), Bound(serve, 13), Bound(serve, 9))
    yield Goal("10,000: echo", ("S8c",), _peer(serve, 0.80, "picows-websockets"))
    # Where one connection does not close cleanly there is no figure at all.
    yield Goal("10,000: all close cleanly", ("S8d",), Bound(serve, float("inf")))


GOALS: tuple[Goal, ...] = tuple(_goals())

GROWTHS: tuple[Growth, ...] = (
    Growth("10 × the connections", "L1", "simplews-serve", step=1.20),
    Growth("1000 × the connections", "L1", "simplews-serve", whole=1.15),
    Growth(
        "10 × the payload, beside raw TCP",
        "L2",
        "simplews-serve",
        step=1.00,
        beside=("tcp-protocol", "tcp-streams"),
    ),
    Growth("10 × the members", "L3", "simplews-rooms", step=1.05),
)


def _line(data: Summary, series: str, peer: str, loop: str) -> list[float | None]:
    return [data.value(case.name, peer, loop) for case in CASES.values() if case.series == series]


def _steps(line: list[float | None]) -> list[float] | None:
    """How many times the figure before each is; None if one is not there."""
    known = [value for value in line if value]
    if len(known) < len(line):
        return None
    return [after / before for before, after in itertools.pairwise(known)]


def _grown(data: Summary, growth: Growth, loop: str) -> Measured:
    """The worst step, or the whole way, of *ours*."""
    line = _line(data, growth.series, growth.ours, loop)
    steps = _steps(line)
    found = [
        figure
        for (case, peer, on), figure in data.figures.items()
        if (CASES[case].series, peer, on) == (growth.series, growth.ours, loop)
    ]
    if steps is None:
        return Measured(None, failed=any(figure.failed for figure in found))
    spread = max(figure.spread for figure in found)
    if growth.whole is not None:
        whole = 1.0
        for step in steps:
            whole *= step
        return Measured(whole, spread, limit=growth.whole)
    assert growth.step is not None
    if growth.beside:
        lines = [_steps(_line(data, growth.series, peer, loop)) for peer in growth.beside]
        there = [line for line in lines if line is not None]
        if not there:
            return Measured(None)
        most = [max(column) for column in zip(*there, strict=True)]
        steps = [ours / theirs for ours, theirs in zip(steps, most, strict=True)]
    return Measured(max(steps), spread, limit=growth.step)


def needed(known: Collection[str]) -> dict[str, set[str]]:
    """
    The cases of the goals, each with the peers that a reader wants to see in it.

    Those are the ones that it is judged by, and those that most goals name.

    Args:
        known: All peers there are, for what is held against the best of all.
    """
    everybody = {name for name in known if not name.startswith((OURS, RAW))}
    usual = {*COROUTINE, "picows"}
    out: dict[str, set[str]] = {}
    for goal in GOALS:
        for bound in filter(None, (goal.must, goal.aim)):
            others = everybody if bound.against is None else {*bound.against}
            for name in goal.cases:
                out.setdefault(name, {*usual}).update({bound.ours}, others)
    for case in CASES.values():
        for growth in GROWTHS:
            if case.series == growth.series:
                out.setdefault(case.name, {*usual}).update({growth.ours}, growth.beside)
        if case.part and case.name in out:  # one run gives them all
            parts = [name for name in out if CASES[name].series == case.series]
            together = set().union(*(out[name] for name in parts))
            out.update((name, together) for name in parts)
    return out


def judge(data: Summary) -> list[Row]:
    """Every goal, in each of its cases, on each loop that was measured."""
    rows = [
        Row(
            goal.title,
            case,
            loop,
            goal.must.text if goal.must.limit < float("inf") else "all",
            goal.must.measured(data, case, loop),
            goal.aim.text if goal.aim else "",
            goal.aim.measured(data, case, loop) if goal.aim else None,
        )
        for goal in GOALS
        for case in goal.cases
        for loop in data.loops()
    ]
    rows += [
        Row(
            growth.title,
            growth.series,
            loop,
            f"≤ {growth.step or growth.whole:.2f} ×",
            _grown(data, growth, loop),
            "",
            None,
        )
        for growth in GROWTHS
        for loop in data.loops()
    ]
    return rows
