"""An engine in the memory of one process: a history without another program."""

from __future__ import annotations

import asyncio
import secrets
from collections import deque
from collections.abc import Callable, Sequence

from .backend import Deliver, History, Lost, Outgoing, Page, Position

__all__ = ["Memory"]

_ROOMS = 65536


class _Past:
    """What is remembered of one topic."""

    def __init__(self, length: int) -> None:
        self.offset = 0
        self.entries: deque[tuple[float, int, bytes]] = deque(maxlen=length)


class _Hub:
    """What several `Memory` share."""

    def __init__(self, history: History | None) -> None:
        self.history = history
        self.epoch = secrets.token_hex(4)
        self.past: dict[str, _Past] = {}
        self.ends: dict[str, list[Memory]] = {}


class Memory:
    """
    Rooms in this process, with a history that members can resume from.

    ``Rooms()`` without a backend is in memory too, and quicker; this one is for
    its history, and for tests: several `Rooms` of one process are joined by it as
    processes are by Redis.

    Args:
        history: How much of each room to remember; None for nothing.
        beside: Another one, of another `Rooms`, to share rooms and history with.
    """

    max_envelope = 1 << 26

    def __init__(self, history: History | None = None, *, beside: Memory | None = None) -> None:
        if beside is not None and history is not None:
            raise ValueError("the history is that of the Memory beside which it stands")
        self._hub: _Hub = _Hub(history) if beside is None else beside._hub
        self._deliver: Deliver | None = None

    @property
    def history(self) -> History | None:
        return self._hub.history

    @property
    def state(self) -> str:
        """In words, for people."""
        return "in memory"

    def start(self, deliver: Deliver, lost: Callable[[Lost], None]) -> None:
        if self._deliver is not None:
            raise RuntimeError("a backend serves one Rooms; make another for another")
        self._deliver = deliver

    async def close(self) -> None:
        for topic in list(self._hub.ends):
            await self.unsubscribe(topic)

    @property
    def connected(self) -> bool:
        """It always is."""
        return True

    async def wait_connected(self) -> None:
        return

    async def subscribe(self, topic: str) -> None:
        ends = self._hub.ends.setdefault(topic, [])
        if self not in ends:
            ends.append(self)

    async def unsubscribe(self, topic: str) -> None:
        ends = self._hub.ends.get(topic, [])
        if self in ends:
            ends.remove(self)
        if not ends:
            self._hub.ends.pop(topic, None)

    async def publish(self, batch: Sequence[Outgoing]) -> Sequence[Exception | None]:
        for topic, envelope, keep in batch:
            position = previous = None
            if keep and self.history is not None:
                past = self._past(topic)
                previous, past.offset = past.offset, past.offset + 1
                past.entries.append((asyncio.get_running_loop().time(), past.offset, envelope))
                position = Position(self._hub.epoch, past.offset)
            for end in list(self._hub.ends.get(topic, ())):
                assert end._deliver is not None
                end._deliver(topic, envelope, position, previous)
        return [None] * len(batch)

    def _past(self, topic: str) -> _Past:
        assert self.history is not None
        past = self._hub.past.get(topic)
        if past is None:
            if len(self._hub.past) >= _ROOMS:
                self._forget()
            past = self._hub.past[topic] = _Past(self.history.length)
        now = asyncio.get_running_loop().time()
        while past.entries and past.entries[0][0] < now - self.history.age:
            past.entries.popleft()
        return past

    def _forget(self) -> None:
        """Too many rooms: all begin anew, in another epoch, which is a gap for those who ask."""
        self._hub.past.clear()
        self._hub.epoch = secrets.token_hex(4)

    async def newest(self, topic: str) -> Position:
        return Position(self._hub.epoch, self._past(topic).offset)

    async def read(
        self, topic: str, after: Position, limit: int, since: float | None = None
    ) -> Page:
        past, epoch = self._past(topic), self._hub.epoch
        start = after.offset if after.epoch == epoch else 0
        found = [(offset, data) for _, offset, data in past.entries if offset > start]
        more, found = len(found) > limit, found[:limit]
        before = found[0][0] - 1 if found else past.offset
        return Page(
            entries=[(Position(epoch, offset), data) for offset, data in found],
            complete=after.epoch == epoch and before == after.offset,
            more=more,
            end=Position(epoch, found[-1][0] if found else past.offset),
        )

    def heartbeats(self) -> Sequence[str]:
        return ()

    def reconnect(self, topic: str, reason: str) -> None:
        return
