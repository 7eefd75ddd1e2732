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
from typing import Any

__all__ = ["ClockLoop"]

# Real seconds that sockets get before the clock jumps. What one end of a socket
# pair writes is there for the other at once; TCP on loopback may take a moment.
_PATIENCE = 0.002
# Real seconds of silence, with no timer set, after which a test hangs for sure.
_HANGS = 10.0


class _Selector(selectors.DefaultSelector):
    """Looks at the sockets; where the loop would sleep, the clock jumps instead."""

    def __init__(self, patience: float = _PATIENCE) -> None:
        super().__init__()
        self.now = 1000.0
        self.idle: Callable[[], bool] | None = None
        self._patience = patience
        self._silent_since: float | None = None

    def select(self, timeout: float | None = None) -> list[Any]:
        events = super().select(0)
        if not events and timeout != 0 and self.idle is not None and self.idle():
            return events
        if not events and timeout is not None and timeout > 0:
            events = super().select(self._patience)
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
    and ``time.monotonic()`` do not. What comes from a thread or from another process
    may come after the clock has jumped, so timers that race with such things lose.

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

    def block(self, seconds: float) -> None:
        """Let *seconds* pass without running anything, as a call that blocks would."""
        self._virtual.now += seconds
