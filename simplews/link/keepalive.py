"""Liveness: pings on a clock, round-trip times, and a fair verdict.

Any byte from the peer shows that it lives, not the Pong alone: a peer that is
busy sending answers late. The clock stops while *we* have paused reading,
because then the Pong may be there and we do not look.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Protocol

__all__ = ["Keepalive"]

# After the deadline the loop gets one more chance to read: a loop that was
# blocked finds the timer due before it has looked at the socket.
_GRACE = 0.05

# A round trip that somebody waits for ends after this many seconds at most.
_DEFAULT_TIMEOUT = 20.0


class Carrier(Protocol):
    """What the Pings go over."""

    def send_ping(self, payload: bytes) -> None: ...

    def ping_failed(self, why: str) -> None: ...


class Keepalive:
    """
    Args:
        loop: The event loop.
        interval: Seconds between pings; None for none of our own.
        timeout: Seconds a Pong may take; None for *interval*.
        carrier: Sends Pings, and is told when the peer is gone.

    Attributes:
        heard: Set by the link whenever bytes arrive.
        paused: Set by the link while it does not read.
        latency: Seconds of the last round trip, or None.
    """

    __slots__ = (
        "_carrier",
        "_check",
        "_counter",
        "_excused",
        "_interval",
        "_loop",
        "_sent",
        "_timeout",
        "_timer",
        "_waiters",
        "heard",
        "latency",
        "paused",
    )

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        interval: float | None,
        timeout: float | None,
        carrier: Carrier,
    ) -> None:
        self.heard = False
        self.paused = False
        self.latency: float | None = None
        self._loop = loop
        self._interval = interval
        self._timeout = timeout or interval or _DEFAULT_TIMEOUT
        self._carrier = carrier
        self._counter = 0
        self._excused = False
        self._timer: asyncio.TimerHandle | None = None
        self._check: asyncio.TimerHandle | None = None
        # Pings that wait for their Pong, oldest first: payload -> when sent.
        self._sent: dict[bytes, tuple[float, float]] = {}
        self._waiters: dict[bytes, asyncio.Future[float]] = {}

    def start(self) -> None:
        """Begin to send pings, if there is an interval."""
        if self._interval is not None:
            self._timer = self._loop.call_later(self._interval, self._tick)

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

    # ------------------------------------------------------------- the clock

    def _tick(self) -> None:
        interval = self._interval
        assert interval is not None
        self._timer = self._loop.call_later(interval, self._tick)
        # One ping of our own is remembered: a peer that sends but never
        # answers must not make the table grow.
        for payload in [p for p in self._sent if p not in self._waiters]:
            del self._sent[payload]
        self._ping()
        # Heard meanwhile, the peer has until this ping's deadline, not the last one's.
        if self._check is None or self.heard:
            self._arm()

    def _arm(self) -> None:
        if self._check is not None:
            self._check.cancel()
        self.heard = False
        self._excused = self.paused
        self._check = self._loop.call_later(self._timeout, self._deadline)

    def _deadline(self) -> None:
        grace = min(_GRACE, self._timeout / 10)
        self._check = self._loop.call_later(0 if self.heard else grace, self._verdict)

    def _verdict(self) -> None:
        self._check = None
        if self.heard:
            return
        if self.paused or self._excused:
            self._arm()
            return
        self._carrier.ping_failed(f"no answer to a ping within {self._timeout:g} s")

    def pause(self) -> None:
        """We have stopped reading: silence is not the peer's fault."""
        self.paused = True
        self._excused = True

    def resume(self) -> None:
        """We read again."""
        self.paused = False

    # ------------------------------------------------------------ round trips

    def _ping(self) -> bytes:
        self._counter = (self._counter + 1) & 0xFFFFFFFF
        payload = self._counter.to_bytes(4, "big")
        self._sent[payload] = (self._loop.time(), time.perf_counter())
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
        limit = self._timeout if timeout is None else timeout
        waiter: asyncio.Future[float] = self._loop.create_future()
        payload = self._ping()
        self._waiters[payload] = waiter
        try:
            async with asyncio.timeout(limit):
                return await waiter
        except TimeoutError:
            raise TimeoutError(
                f"no Pong within {limit:g} s; the connection is still open"
            ) from None
        finally:
            self._waiters.pop(payload, None)
            self._sent.pop(payload, None)
            if waiter.done() and not waiter.cancelled():
                waiter.exception()  # seen, even if we are cancelled at this very moment

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
        if sent is None:
            return
        self.latency = self._since(sent)
        for older in list(self._sent):
            began = self._sent.pop(older)
            waiter = self._waiters.pop(older, None)
            if waiter is not None and not waiter.done():
                waiter.set_result(self._since(began))
            if older == payload:
                return
