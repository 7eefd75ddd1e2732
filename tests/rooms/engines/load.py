"""Numbered messages from one process to another, and what became of each."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable
from typing import Any

from simplews import BackendUnavailable, Rooms
from simplews.rooms import Backend, Gap

from ...engines import DEADLINE
from ...peer import TEXT, opened

#: Quick to notice: what takes seconds in earnest is not waited for here.
QUICK: dict[str, Any] = {
    "heartbeat_interval": 0.1,
    "heartbeat_timeout": 0.4,
    "publish_timeout": 1.0,
}


_LAST = 10**9


class Load:
    """
    A sender and a receiver, each with `Rooms` of its own.

    Attributes:
        sent: For each number, when its broadcast began and ended.
        failed: Numbers whose sender was told that something went wrong.
        got: Numbers that the receiver's member got, in order.
        gaps: What was reported to the receiver.
    """

    def __init__(self, sender: Rooms) -> None:
        self.sender = sender
        self._number = 0
        self.sent: dict[int, tuple[float, float]] = {}
        self.failed: set[int] = set()
        self.got: list[int] = []
        self.gaps: list[Gap] = []
        self._stop = False
        self._news = asyncio.Event()

    async def until(self, true: Callable[[], Any]) -> None:
        """Wait until it is true; looked at whenever anything is sent, received or reported."""
        async with asyncio.timeout(DEADLINE):
            while not true():
                self._news.clear()
                await self._news.wait()

    def gap(self, gap: Gap) -> None:
        """What `Rooms` calls."""
        self.gaps.append(gap)
        self._news.set()

    async def send(self, rooms: Rooms, size: int) -> None:
        """Broadcast until `stop`."""
        while not self._stop:
            await self.send_one(rooms, size)
            await asyncio.sleep(0)

    async def send_one(self, rooms: Rooms, size: int) -> None:
        number, self._number = self._number, self._number + 1
        began = time.time()
        try:
            await rooms.broadcast("load", f"{number}".ljust(size))
        except BackendUnavailable:
            self.failed.add(number)
        self.sent[number] = began, time.time()
        self._news.set()

    async def burst(self, count: int, size: int) -> None:
        """So many at once."""
        await asyncio.gather(*(self.send_one(self.sender, size) for _ in range(count)))

    async def receive(self, peer: Any) -> None:
        """Read what the member gets."""
        while (frame := await peer.frame()) is not None:
            assert frame[0] == TEXT, frame
            self.got.append(int(frame[1]))
            self._news.set()

    async def more(self, count: int = 20) -> None:
        """Wait until so many more have got through."""
        goal = len(self.got) + count
        await self.until(lambda: len(self.got) >= goal)

    def stop(self) -> None:
        self._stop = True

    @property
    def now(self) -> float:
        """When the last message was sent."""
        return max((ended for _, ended in self.sent.values()), default=0.0)

    @property
    def missing(self) -> set[int]:
        """Numbers that did not arrive though their sender was not told."""
        return self.sent.keys() - set(self.got) - self.failed

    def check(self) -> None:
        """In order, none twice, and every missing one is inside a reported gap."""
        assert self.got == sorted(set(self.got))
        for number in self.missing:
            began, ended = self.sent[number]
            inside = [gap for gap in self.gaps if gap.since <= ended and began <= gap.until]
            assert inside, f"{number} is missing, sent at {began}, and no gap tells: {self.gaps}"


@contextlib.asynccontextmanager
async def load(
    backend: Callable[[], Backend],
    receiving: Callable[[], Backend] | None = None,
    *,
    size: int = 0,
    **options: Any,
) -> AsyncIterator[Load]:
    """Run it; at the end everything that was sent has arrived, or never will, and is checked."""
    settings = {**QUICK, **options}
    one = Rooms(backend(), **settings)
    run = Load(one)
    two = Rooms((receiving or backend)(), on_gap=run.gap, **settings)
    async with one, two, opened(max_message_size=None) as (ws, peer):
        await two.join("load", ws)
        reading = asyncio.ensure_future(run.receive(peer))
        sending = asyncio.ensure_future(run.send(one, size))
        try:
            await run.more()
            yield run
            run.stop()
            async with asyncio.timeout(DEADLINE):
                await sending
            # The last of all: once it is there, nothing is on its way any more.
            while _LAST not in run.got:
                reported = len(run.gaps)
                try:
                    await one.broadcast("load", str(_LAST))
                except BackendUnavailable:
                    if run.now + DEADLINE < time.time():
                        raise
                    continue
                await run.until(lambda n=reported: _LAST in run.got or len(run.gaps) > n)
        finally:
            run.stop()
            for task in (sending, reading):
                task.cancel()
            await asyncio.gather(sending, reading, return_exceptions=True)
    run.got = [number for number in run.got if number != _LAST]
    run.check()
