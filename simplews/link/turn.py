"""Whose turn it is to write a message that takes several writes."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable

__all__ = ["Turn"]


class Turn:
    """
    A lock for senders: first come, first served, until the connection ends.

    An ``asyncio.Lock`` would leave those who wait for it waiting until whoever has it
    lets go, and a large frame in progress lets go when the peer has taken all of it.
    Here the end of the connection sends them away at once.

    Args:
        loop: The event loop.
    """

    __slots__ = ("_error", "_loop", "_taken", "_waiters")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._taken = False
        self._waiters: deque[asyncio.Future[None]] = deque()
        self._error: Callable[[], Exception] | None = None

    def locked(self) -> bool:
        """Whether somebody has it."""
        return self._taken

    async def __aenter__(self) -> None:
        if not self._taken:
            self._taken = True
            return
        if self._error is not None:
            raise self._error()
        waiter = self._loop.create_future()
        self._waiters.append(waiter)
        try:
            await waiter
        except asyncio.CancelledError:
            if waiter.done() and not waiter.cancelled() and waiter.exception() is None:
                self._pass_on()  # it came at the same moment
            raise

    async def __aexit__(self, *_: object) -> None:
        self._pass_on()

    def _pass_on(self) -> None:
        while self._waiters:
            waiter = self._waiters.popleft()
            if not waiter.done():
                waiter.set_result(None)
                return
        self._taken = False

    def end(self, error: Callable[[], Exception]) -> None:
        """Send everybody away who waits, or comes while somebody has it, with *error*."""
        self._error = error
        while self._waiters:
            waiter = self._waiters.popleft()
            if not waiter.done():
                waiter.set_exception(error())
