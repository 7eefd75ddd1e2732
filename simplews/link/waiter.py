"""What a task awaits until something has arrived; made once per connection, awaited often.

A future would cost an object for every message, and two turns of the event loop
for each: one that reads it, one that lets the task go on. This one lets the task go on
inside the callback that read the message (`Waiter.wake_now`).
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable, Generator
from contextvars import Context
from typing import Any

__all__ = ["Waiter", "current_task"]

if sys.version_info >= (3, 12):
    from asyncio import current_task
else:
    # It is a Python function there, and each of two calls a twentieth of an echo.
    current_task = asyncio.tasks._current_tasks.get  # type: ignore[attr-defined]


class Waiter:
    """
    Takes a future's place for the one task that awaits it.

    asyncio asks of what a task awaits no more than ``get_loop``,
    ``add_done_callback``, ``cancel``, ``result`` and the mark
    ``_asyncio_future_blocking``, with which it tells a future from other things
    that are yielded.

    Args:
        loop: The event loop.

    Attributes:
        reader: The task that awaits it, or None.
    """

    __slots__ = (
        "_asyncio_future_blocking",
        "_callback",
        "_cancelled",
        "_context",
        "_eager",
        "_expired",
        "_loop",
        "reader",
    )

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self.reader: asyncio.Task[Any] | None = None
        self._callback: Callable[[Any], object] | None = None
        self._context: Context | None = None
        self._cancelled: asyncio.CancelledError | None = None
        self._expired = False
        # A loop in its debug mode would take the task's time for the transport's. That
        # is asked once: a call into the loop for every message costs 0.1 µs.
        self._eager = not loop.get_debug()
        self._asyncio_future_blocking = False

    def __await__(self) -> Generator[Any, None, bool]:
        """Wait; False if nothing but `expire` ended it."""
        self.reader = current_task(self._loop)
        self._expired = False
        self._asyncio_future_blocking = True
        try:
            yield self
        finally:
            self.reader = self._callback = self._context = self._cancelled = None
        return not self._expired

    # -------------------------------------------------------- who ends the wait

    def wake(self) -> None:
        """Let the task go on in the next iteration of the loop."""
        self._expired = False
        self._end()

    def wake_now(self) -> None:
        """
        Let the task go on before this returns, where that is possible.

        It is not while another task runs: this may be in the middle of
        anything. Nor if the loop was in its debug mode when the connection opened.
        """
        callback, context = self._callback, self._context
        if callback is None or context is None:
            return
        if not self._eager or current_task(self._loop) is not None:
            self.wake()
        else:
            self._expired = False
            self._callback = None
            context.run(callback, self)

    def expire(self) -> None:
        """The time to wait is over."""
        if self._callback is not None:
            self._expired = True
            self._end()

    def _end(self) -> None:
        callback, self._callback = self._callback, None
        if callback is not None:
            self._loop.call_soon(callback, self, context=self._context)

    # ------------------------------------------------------- what asyncio asks

    def get_loop(self) -> asyncio.AbstractEventLoop:
        """The loop that the task must run on."""
        return self._loop

    def add_done_callback(
        self, callback: Callable[[Any], object], *, context: Context | None = None
    ) -> None:
        """The task has stopped, and wants *callback* to be called."""
        self._callback = callback
        self._context = context

    def cancel(self, msg: Any = None) -> bool:
        """The task is cancelled while it waits; False if it goes on already."""
        if self._callback is None:
            return False
        self._cancelled = asyncio.CancelledError() if msg is None else asyncio.CancelledError(msg)
        self._end()
        return True

    def result(self) -> None:
        """Raise what ends the wait, if anything does."""
        if self._cancelled is not None:
            raise self._cancelled
