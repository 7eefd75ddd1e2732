"""Coroutines step by step: the twin of ``step.pyx``, which makes no object for a step.

A coroutine that awaits another one costs its frame and its object, for every message.
Here a coroutine is asked for its next step by hand: `step` tells whether it waits at
all, which the server's send() seldom does, and `Steps` awaits one after the other.
"""

from __future__ import annotations

import asyncio
import sys
from asyncio.tasks import _enter_task, _leave_task
from collections.abc import Coroutine
from contextvars import Context
from typing import Any

__all__ = ["DONE", "Steps", "current_task", "run_as", "step"]

if sys.version_info >= (3, 12):
    from asyncio import current_task
else:
    # It is a Python function there, and each of two calls a twentieth of an echo.
    current_task = asyncio.tasks._current_tasks.get  # type: ignore[attr-defined]

#: What `step` returns for a coroutine that has ended.
DONE: Any = object()


def run_as(
    task: asyncio.Task[Any],
    loop: asyncio.AbstractEventLoop,
    context: Context,
    coroutine: Coroutine[Any, Any, Any],
) -> Any:
    """
    Let *coroutine* go on in the name of *task*, where none is current.

    Returns:
        What it yields. None, as if it wanted another turn, if *context* is entered
        already, which nobody can do twice: the caller runs in it.

    Raises:
        StopIteration: It has ended.
    """
    _enter_task(loop, task)
    try:
        return context.run(coroutine.send, None)
    except RuntimeError as exc:
        if exc.__traceback__ is not None and exc.__traceback__.tb_next is not None:
            raise  # in the coroutine
        return None
    finally:
        _leave_task(loop, task)
        del task, context, coroutine  # an error's frames hold this one


def step(coroutine: Coroutine[Any, Any, None]) -> Any:
    """
    Let *coroutine*, whose result is None, go on.

    Returns:
        What it yields, which the task must be given; `DONE` if it has ended.
    """
    return next(coroutine.__await__(), DONE)


class Steps:
    """
    Awaits a coroutine and tells how it ended; made once, awaited often.

    A subclass says which coroutine, and what becomes of its end. Only one task
    may be in `wait` at a time.
    """

    __slots__ = ()

    def begin(self) -> Coroutine[Any, Any, Any]:
        """The coroutine to await; what this raises is as if that did."""
        raise NotImplementedError

    def waits(self) -> None:
        """It waits, and did not end at once: the current task may be cancelled from now on."""
        raise NotImplementedError

    def ended(self, result: Any, taken: bool = False) -> Any:
        """
        It has returned *result*.

        Args:
            taken: Whether the caller takes what this returns, if that is not None.
        """
        raise NotImplementedError

    def failed(self, exc: BaseException) -> bool:
        """It, or `ended`, has raised *exc*; False if that is the task's business."""
        raise NotImplementedError

    async def wait(self) -> None:
        """Wait for it. Where it is compiled, it makes no object to await."""
        try:
            coroutine = self.begin()
            self.waits()
            self.ended(await coroutine)
        except BaseException as exc:
            if not self.failed(exc):
                raise
