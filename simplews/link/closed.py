"""The moment at which a link is closed: who waits for it, and what is called then."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

__all__ = ["Closed"]


class Closed:
    """
    An event that is set once and can also call.

    Args:
        loop: The event loop.

    Attributes:
        done: Whether the moment has come.
    """

    __slots__ = ("_callbacks", "_loop", "_waiters", "done")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.done = False
        self._loop = loop
        self._waiters: list[asyncio.Future[None]] | None = None  # few wait; many are open
        self._callbacks: list[Callable[[], None]] = []

    async def wait(self) -> None:
        """Wait for it."""
        if self.done:
            return
        waiter: asyncio.Future[None] = self._loop.create_future()
        if self._waiters is None:
            self._waiters = []
        waiters = self._waiters
        waiters.append(waiter)
        try:
            await waiter
        finally:
            waiters.remove(waiter)

    def call(self, callback: Callable[[], None]) -> None:
        """Call *callback* then, or now, if it has come."""
        if self.done:
            callback()
        else:
            self._callbacks.append(callback)

    def set(self) -> None:
        """It has come."""
        self.done = True
        for waiter in self._waiters or ():
            if not waiter.done():
                waiter.set_result(None)
        callbacks, self._callbacks = self._callbacks, []
        for callback in callbacks:
            callback()
