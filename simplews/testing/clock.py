"""An event loop whose clock jumps: no test sleeps, and a minute takes a millisecond.

Sockets are real. Whenever nothing is ready on them, the clock jumps to the next
timer. So a deadline costs nothing while all goes well, and a wait that would never
end fails at once.
"""

from __future__ import annotations

import asyncio
import selectors
import time
from collections.abc import Callable
from concurrent.futures import Executor
from typing import Any, TypeVar, TypeVarTuple, Unpack

__all__ = ["ClockLoop"]

T = TypeVar("T")
Ts = TypeVarTuple("Ts")

# Real seconds that sockets get before the clock jumps. What one end of a socket
# pair writes is there for the other at once; TCP on loopback may take a moment.
_PATIENCE = 0.002
# The same while a thread works for the loop: a lookup of a name may take its time.
_THREADS = 5.0
# Real seconds of silence, with no timer set, after which a test hangs for sure.
_HANGS = 10.0


class _Selector(selectors.DefaultSelector):
    """Looks at the sockets; where the loop would sleep, the clock jumps instead."""

    def __init__(self, patience: float = _PATIENCE) -> None:
        super().__init__()
        self.now = 1000.0
        self.idle: Callable[[], bool] | None = None
        self.threads = 0  # that work for the loop
        self._patience = patience
        self._silent_since: float | None = None

    def select(self, timeout: float | None = None) -> list[Any]:
        events = super().select(0)
        if not events and timeout != 0 and self.idle is not None and self.idle():
            return events
        if not events and timeout is not None and timeout > 0:
            events = super().select(min(timeout, _THREADS) if self.threads else self._patience)
            if not events:
                self.now += timeout
        elif not events and timeout is None:
            events = super().select(_PATIENCE)
            if not events:
                self._no_timer()
                return events
        self._silent_since = None
        return events

    def _no_timer(self) -> None:
        began = time.monotonic() if self._silent_since is None else self._silent_since
        self._silent_since = began
        if time.monotonic() - began > _HANGS:
            raise RuntimeError("the test hangs: no socket is ready and no timer is set")


class ClockLoop(asyncio.SelectorEventLoop):
    """
    An event loop with a clock of its own, which jumps instead of waiting.

    ``asyncio.sleep()``, ``asyncio.timeout()`` and every timer of simplews, of asyncio
    and of whatever else asks the loop for the time go by this clock; sockets, threads
    and ``time.monotonic()`` do not. A thread of ``run_in_executor()``, a lookup of a
    name for one, gets some seconds before the clock jumps. What comes from another
    thread or from another process may come after that, so timers that race with such
    things lose.

    It serves as a *loop factory*: ``asyncio.Runner(loop_factory=ClockLoop)``; with
    pytest-asyncio, the fixture ``ws_clock`` puts a test on it.

    Args:
        patience: Real seconds that sockets get before the clock jumps.
    """

    def __init__(self, patience: float = _PATIENCE) -> None:
        self._virtual = _Selector(patience)
        super().__init__(self._virtual)

    def when_idle(self, function: Callable[[], bool] | None) -> None:
        """
        Call *function* whenever the clock would jump.

        If it returns True it has given the sockets something, and the clock stands still.
        """
        self._virtual.idle = function

    def time(self) -> float:
        """Seconds on the loop's own clock."""
        return self._virtual.now

    def run_in_executor(
        self, executor: Executor | None, func: Callable[[Unpack[Ts]], T], *args: *Ts
    ) -> asyncio.Future[T]:
        """Let a thread do it; the clock stands still meanwhile."""
        future = super().run_in_executor(executor, func, *args)
        self._virtual.threads += 1
        future.add_done_callback(self._thread_done)
        return future

    def _thread_done(self, _: object) -> None:
        self._virtual.threads -= 1

    async def shutdown_default_executor(self, timeout: float | None = None) -> None:
        """
        Wait for its threads; the clock stands still meanwhile.

        Args:
            timeout: Left to the threads: that of asyncio, of Python 3.12 and later,
                would be over at once.
        """
        self._virtual.threads += 1
        try:
            await super().shutdown_default_executor()
        finally:
            self._virtual.threads -= 1

    def block(self, seconds: float) -> None:
        """Let *seconds* pass without running anything, as a call that blocks would."""
        self._virtual.now += seconds
