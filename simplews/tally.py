"""What a server has seen: counted as it happens, added up when somebody asks.

A message costs nothing here. Each connection counts its own; they are added to the
server's when it ends, and those of the open ones when `Tally.stats` is asked for.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import asdict, dataclass, fields, replace
from typing import Any

from .connection import AioBase
from .link.blocks import Blocks
from .types import CloseCode, State

__all__ = ["ServerStats", "Tally", "WorkersStats", "from_json", "outlived", "to_json", "total"]


@dataclass(frozen=True, slots=True)
class ServerStats:
    """
    What a `Server` has seen since it was made, and what it has now.

    Attributes:
        opening: Clients that are being answered: TLS, a request, the opening handshake.
        open: Connections that are open now.
        handlers: Handlers that run now; one may still run when its connection has ended.
        opened: Connections that were ever open.
        ended: Of these, how many ended with which close code; 1006 stands for those
            that were lost.
        refused: How many clients were refused with which HTTP status.
        opening_timeouts: Of these, how many needed longer than ``open_timeout``.
        left: Clients that left, or sent what is no request, before they were answered.
        http_answers: Answers of ``http=``.
        handler_errors: Handlers that raised.
        messages_in: Messages received, of all connections that were ever open.
        messages_out: Messages sent.
        bytes_in: Bytes that arrived, frames' headers included.
        bytes_out: Bytes handed to the transport, frames' headers included.
        loop_blocked: Seconds for which the event loop was found blocked, by whatever
            simplews has in it; see the how-to guide on observing.
    """

    opening: int
    open: int
    handlers: int
    opened: int
    ended: dict[int, int]
    refused: dict[int, int]
    opening_timeouts: int
    left: int
    http_answers: int
    handler_errors: int
    messages_in: int
    messages_out: int
    bytes_in: int
    bytes_out: int
    loop_blocked: float


@dataclass(frozen=True, slots=True)
class WorkersStats:
    """
    What the processes of `Workers` have seen since the start, and what they have now.

    Attributes:
        total: All of them together, those that have ended included.
        processes: Each process that serves, by its process id.
        late: Process ids of those that did not answer in time; their figures are the
            last that are known, or zeros.
    """

    total: ServerStats
    processes: dict[int, ServerStats]
    late: frozenset[int]


_COUNTERS = ("ended", "refused")
_NUMBERS = tuple(field.name for field in fields(ServerStats) if field.name not in _COUNTERS)


def total(several: Iterable[ServerStats]) -> ServerStats:
    """The sum of *several*."""
    sums: dict[str, Any] = dict.fromkeys(_NUMBERS, 0)
    counters: dict[str, Counter[int]] = {name: Counter() for name in _COUNTERS}
    for stats in several:
        for name in _NUMBERS:
            sums[name] += getattr(stats, name)
        for name, counter in counters.items():
            counter.update(getattr(stats, name))
    sums.update((name, dict(counter)) for name, counter in counters.items())
    return ServerStats(**sums)


def outlived(stats: ServerStats) -> ServerStats:
    """What is left of the last figures of a process that has ended: it lost what was open."""
    ended = Counter(stats.ended)
    if stats.open:
        ended[CloseCode.ABNORMAL_CLOSURE] += stats.open
    return replace(stats, opening=0, open=0, handlers=0, ended=dict(ended))


def to_json(stats: ServerStats) -> dict[str, Any]:
    """For `from_json` of another process."""
    return asdict(stats)


def from_json(what: dict[str, Any]) -> ServerStats:
    """JSON has no numbers for keys."""
    counters = {name: {int(key): n for key, n in what[name].items()} for name in _COUNTERS}
    return ServerStats(**{**what, **counters})


class Tally:
    """
    The counters of one server, of which it adds to most itself.

    Attributes:
        opened: Connections that were opened.
        refused: Refused clients by HTTP status.
        timeouts: Clients that were too slow.
        left: Clients that left before an answer.
        answers: Plain HTTP answers.
        errors: Handlers that raised.
        blocks: Those of the server's loop, once it listens.
    """

    def __init__(self) -> None:
        self.opened = 0
        self.refused: Counter[int] = Counter()
        self.timeouts = 0
        self.left = 0
        self.answers = 0
        self.errors = 0
        self.blocks: Blocks | None = None
        self._ended: Counter[int] = Counter()
        self._totals = (0, 0, 0, 0)  # of connections whose handlers are done

    def done(self, ws: AioBase) -> None:
        """The connection *ws* has ended, and so has its handler."""
        self._ended[_code(ws)] += 1
        self._totals = _sum(self._totals, ws._link.count())

    def stats(self, opening: int, connections: Iterable[AioBase]) -> ServerStats:
        """
        All of it.

        Args:
            opening: How many clients are being answered.
            connections: Those whose handlers run.
        """
        ended = self._ended.copy()
        totals = self._totals
        handlers = 0
        for ws in connections:
            handlers += 1
            if ws._link.state is State.CLOSED:
                ended[_code(ws)] += 1
            totals = _sum(totals, ws._link.count())
        messages_in, messages_out, bytes_in, bytes_out = totals
        return ServerStats(
            opening=opening,
            open=self.opened - ended.total(),
            handlers=handlers,
            opened=self.opened,
            ended=dict(ended),
            refused=dict(self.refused),
            opening_timeouts=self.timeouts,
            left=self.left,
            http_answers=self.answers,
            handler_errors=self.errors,
            messages_in=messages_in,
            messages_out=messages_out,
            bytes_in=bytes_in,
            bytes_out=bytes_out,
            loop_blocked=0.0 if self.blocks is None else self.blocks.seconds,
        )


def _code(ws: AioBase) -> int:
    return ws.close_code or CloseCode.ABNORMAL_CLOSURE


_Counts = tuple[int, int, int, int]


def _sum(one: _Counts, other: _Counts) -> _Counts:
    return one[0] + other[0], one[1] + other[1], one[2] + other[2], one[3] + other[3]
