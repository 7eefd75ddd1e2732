"""Ending tasks for sure."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Any

__all__ = ["end_tasks"]

# Seconds after which a task that goes on is cancelled again.
_AGAIN = 0.1


async def end_tasks(tasks: Iterable[asyncio.Task[Any] | None]) -> None:
    """
    Cancel tasks, again and again, until they have ended.

    Once is not enough: before Python 3.12 `asyncio.wait_for`, which the engines'
    clients use, takes a cancellation that comes together with its result for
    nothing, and whoever waits for its caller waits for ever.
    """
    left = {task for task in tasks if task is not None and not task.done()}
    while left:
        for task in left:
            task.cancel()
        done, left = await asyncio.wait(left, timeout=_AGAIN)
        for task in done:
            if not task.cancelled():
                task.exception()  # whoever started it has had it
