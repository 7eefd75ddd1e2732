"""Liveness: pings on a clock, round-trip times, and a fair verdict.

Any byte from the peer shows that it lives, not the Pong alone: a peer that is
busy sending answers late. The clock stops while *we* have paused reading, and
while something blocks the event loop: then the Pong may be there and we do not
look, or our Ping is still here.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Protocol

from .blocks import blocks_of
from .timers import Timer, timers_of

__all__ = ["Keepalive"]

# After the deadline the loop gets one more chance to read: some loops look at their
# timers before they look at their sockets.
_GRACE = 0.05

# A round trip that somebody waits for ends after this many seconds at most.
_DEFAULT_TIMEOUT = 20.0


class Carrier(Protocol):
    """
    What the Pings go over.

    Attributes:
        heard: Set whenever bytes arrive; the keepalive takes it away.
    """

    heard: bool

    def send_ping(self, payload: bytes) -> None: ...

    def ping_failed(self, why: str) -> None: ...

    def unwritten(self) -> int:
        """Bytes that wait for room in the kernel."""
        ...


class Keepalive:
    """
    Args:
        loop: The event loop.
        interval: Seconds between pings; None for none of our own.
        timeout: Seconds a Pong may take; None for *interval*.
        carrier: Sends Pings, and is told when the peer is gone.

    Attributes:
        paused: Set by the link while it does not read.
        timers: Those of the loop, for others of the connection as well.
        latency: Seconds of the last round trip, or None.
        pings: Pings sent.
        pongs: Pongs received that answer one.
    """

    __slots__ = (
        "_allowed",
        "_blocks",
        "_carrier",
        "_check",
        "_due",
        "_excused",
        "_interval",
        "_loop",
        "_sent",
        "_timeout",
        "_timer",
        "_unanswered",
        "_unwritten",
        "_waiters",
        "latency",
        "paused",
        "pings",
        "pongs",
        "timers",
    )

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        interval: float | None,
        timeout: float | None,
        carrier: Carrier,
    ) -> None:
        self.paused = False
        self.latency: float | None = None
        self.pings = 0
        self.pongs = 0
        self._loop = loop
        self._blocks = blocks_of(loop)
        self.timers = timers_of(loop)
        self._interval = interval
        self._timeout = timeout or interval or _DEFAULT_TIMEOUT
        self._carrier = carrier
        self._excused = False
        self._due: float | None = None  # until when it has time, if not for `_timeout`
        self._allowed = 0.0  # seconds of blocks that were given back
        self._unwritten = 0
        self._timer: Timer | None = None
        self._check: Timer | asyncio.TimerHandle | None = None
        # Pings that wait for their Pong, oldest first: payload -> when sent.
        self._sent: dict[bytes, tuple[float, float]] = {}
        self._waiters: dict[bytes, asyncio.Future[float]] = {}
        # How many pings nothing has answered, and when the first of them was sent.
        self._unanswered: tuple[int, float] = (0, 0.0)

    def start(self) -> None:
        """Begin to send pings, if there is an interval."""
        if self._interval is not None:
            self._timer = self.timers.call_later(self._interval, self._tick)

    def stop(self, error: Callable[[], Exception]) -> None:
        """End the timers; whoever waits for a Pong gets *error*."""
        for timer in (self._timer, self._check):
            if timer is not None:
                timer.cancel()
        self._timer = self._check = None
        for waiter in self._waiters.values():
            if not waiter.done():
                waiter.set_exception(error())
        self._waiters.clear()
        self._sent.clear()

    def part(self) -> None:
        """Let go of the carrier, which is gone: `stop` was called, and nothing is sent any more."""
        del self._carrier

    # ------------------------------------------------------------- the clock

    def _tick(self) -> None:
        interval, timer = self._interval, self._timer
        assert interval is not None
        assert timer is not None
        self._blocks.fired(timer.when(), self._loop.time())
        self._timer = self.timers.call_later(interval, self._tick)
        # One ping of our own is remembered: a peer that sends but never
        # answers must not make the table grow.
        for payload in [p for p in self._sent if p not in self._waiters]:
            del self._sent[payload]
        self._ping()
        # Heard meanwhile, the peer has until this ping's deadline, not the last one's.
        if self._check is None or self._carrier.heard:
            self._arm()

    def _arm(self) -> None:
        if self._check is not None:
            self._check.cancel()
        self._carrier.heard = False
        self._excused = self.paused
        self._due = None
        self._allowed = self._blocks.seconds
        self._unwritten = self._carrier.unwritten()
        self._check = self.timers.call_later(self._timeout, self._deadline)

    def _deadline(self) -> None:
        """The peer had its time, less what blocks of our loop took of it."""
        now = self._noticed()
        blocked = self._blocks.seconds - self._allowed
        self._allowed = self._blocks.seconds
        # When a block began nobody knows; that it is over, we know. Its time is given
        # back, but what a peer could not do in it takes no longer than the timeout.
        due = (now if self._due is None else self._due) + blocked
        self._due = due = min(due, now + self._timeout)
        if self._carrier.heard:
            self._check = None
        elif due > now:
            self._check = self._loop.call_later(due - now, self._deadline)
        else:
            self._check = self._loop.call_later(min(_GRACE, self._timeout / 10), self._verdict)

    def _verdict(self) -> None:
        self._noticed()
        self._check = None
        if self._carrier.heard:
            return
        # What waits for room has become less: the peer takes what is before our Ping.
        if self.paused or self._excused or self._carrier.unwritten() < self._unwritten:
            self._arm()
            return
        self._carrier.ping_failed(f"no answer to a ping within {self._timeout:g} s")

    def _noticed(self) -> float:
        """Notice how late `_check` fires; the time on the loop's clock."""
        assert self._check is not None
        now = self._loop.time()
        self._blocks.fired(self._check.when(), now)
        return now

    def pause(self) -> None:
        """We have stopped reading: silence is not the peer's fault."""
        self.paused = True
        self._excused = True

    def resume(self) -> None:
        """We read again."""
        self.paused = False

    # ------------------------------------------------------------ round trips

    def _ping(self) -> bytes:
        self.pings += 1
        payload = (self.pings & 0xFFFFFFFF).to_bytes(4, "big")
        now = self._loop.time()
        self._sent[payload] = (now, time.perf_counter())
        count, first = self._unanswered
        self._unanswered = (count + 1, first if count else now)
        self._carrier.send_ping(payload)
        return payload

    async def ping(self, timeout: float | None) -> float:
        """
        Send a Ping and wait for its Pong.

        Args:
            timeout: Seconds; None for the ping timeout.

        Returns:
            Seconds of the round trip.

        Raises:
            TimeoutError: No Pong came in time. The connection stays open.
        """
        limit = self._timeout if timeout is None else max(timeout, 0)
        waiter: asyncio.Future[float] = self._loop.create_future()
        payload = self._ping()
        self._waiters[payload] = waiter
        try:
            await self._answer(waiter, limit)
            if not waiter.done():
                raise TimeoutError(f"no Pong within {limit:g} s; the connection is still open")
            return waiter.result()
        finally:
            self._waiters.pop(payload, None)
            self._sent.pop(payload, None)
            if waiter.done() and not waiter.cancelled():
                waiter.exception()  # seen, even if we are cancelled at this very moment

    async def _answer(self, waiter: asyncio.Future[float], limit: float) -> None:
        """Wait for *limit* seconds, and as long again as blocks of the loop took of them."""
        wait = limit
        for _ in range(3):  # or a loop that is blocked time and again would never let it end
            before = self._blocks.seconds
            due = self._loop.time() + wait
            await asyncio.wait([waiter], timeout=wait)
            self._blocks.fired(due, self._loop.time())
            wait = min(self._blocks.seconds - before, limit)
            if waiter.done() or not wait:
                return

    def _since(self, began: tuple[float, float]) -> float:
        seconds = self._loop.time() - began[0]
        # uvloop's clock counts milliseconds.
        return seconds if seconds > 0.01 else time.perf_counter() - began[1]

    def pong(self, payload: bytes) -> None:
        """
        A Pong arrived.

        RFC 6455 §5.5.3: it may answer the newest of several Pings, so it counts
        for the older ones as well. One that answers nothing is no error.
        """
        sent = self._sent.get(payload)
        if sent is not None:
            self.latency = self._since(sent)
            for older in list(self._sent):
                began = self._sent.pop(older)
                waiter = self._waiters.pop(older, None)
                if waiter is not None and not waiter.done():
                    waiter.set_result(self._since(began))
                if older == payload:
                    break
        elif len(payload) != 4 or not 0 < int.from_bytes(payload, "big") <= self.pings:
            return  # it answers none of ours, not even one that is forgotten by now
        self.pongs += 1
        newer = list(self._sent.values())
        self._unanswered = (len(newer), newer[0][0]) if newer else (0, 0.0)

    def unanswered(self) -> tuple[int, float]:
        """How many pings wait for an answer, and seconds since the first of them was sent."""
        count, first = self._unanswered
        return count, self._loop.time() - first if count else 0.0
