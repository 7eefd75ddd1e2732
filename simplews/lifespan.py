"""What a server's process opens before its first connection and closes after its last one."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager

from .errors import WebSocketRuntimeError

__all__ = ["Lifespan"]


class Lifespan:
    """
    An async context manager that a task of its own enters and leaves.

    `enter` and `leave` are called by whichever task starts and closes the server. A
    task group, or a timeout, must be left by the task that has entered it.

    Args:
        manager: Entered once.
        on_end: Called when it has ended by itself: a task group in it has failed,
            say. It is given why; and `leave` raises it.
    """

    def __init__(
        self,
        manager: AbstractAsyncContextManager[object],
        on_end: Callable[[BaseException | None], object],
    ) -> None:
        if not isinstance(manager, AbstractAsyncContextManager):
            raise TypeError(
                f"lifespan= must return an async context manager, not {type(manager).__name__}; "
                f"decorate a function that yields with contextlib.asynccontextmanager"
            )
        self._manager = manager
        self._on_end = on_end
        self._entered = asyncio.Event()  # or it has ended without
        self._leave = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    async def enter(self) -> None:
        """
        Enter it, and return when that is done.

        Raises:
            WebSocketRuntimeError: `leave` was called meanwhile.
            Exception: What entering has raised.

        Cancellation:
            Entering is cancelled.
        """
        self._task = task = asyncio.get_running_loop().create_task(self._live())
        task.add_done_callback(self._ended)
        try:
            await self._entered.wait()
        except asyncio.CancelledError:
            self._task = None  # nothing is left to be left
            await self._cancel(task)
            raise
        if task.done():
            self._task = None
            if task.cancelled():
                raise WebSocketRuntimeError("the server was closed while it started")
            task.result()

    async def leave(self) -> None:
        """
        Leave it, if it was entered, and return when that is done. It may be called again.

        Raises:
            Exception: What leaving has raised; or what had ended it before.
        """
        if self._task is None:
            return
        if not self._entered.is_set():
            await self._cancel(self._task)
            return
        self._leave.set()
        await asyncio.wait({self._task})
        self._task.result()

    async def _live(self) -> None:
        async with self._manager:
            self._entered.set()
            await self._leave.wait()

    async def _cancel(self, task: asyncio.Task[None]) -> None:
        self._leave.set()  # for one that enters all the same
        task.cancel()
        await asyncio.wait({task})
        if not task.cancelled():
            task.exception()  # it has been asked for, and whoever cancelled has no use for it

    def _ended(self, task: asyncio.Task[None]) -> None:
        had_entered = self._entered.is_set()
        self._entered.set()
        if had_entered and not self._leave.is_set():
            self._on_end(None if task.cancelled() else task.exception())
