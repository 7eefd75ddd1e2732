"""A deadline for whatever a test waits for, whose error says what that was."""

from __future__ import annotations

import asyncio
import linecache
from collections.abc import Callable
from types import FrameType, TracebackType
from typing import Any

from .clock import ClockLoop

__all__ = ["UNSET", "Deadline", "Unset", "place_of", "seconds_or_default"]

#: Seconds that the kit waits by default; on a `ClockLoop` they would pass at once, and
#: tests let minutes pass on purpose.
_SECONDS = 10.0
_SECONDS_ON_A_CLOCK = 3600.0


class Unset:
    """The type of `UNSET`."""

    def __repr__(self) -> str:
        return "<10 s, or an hour on a ClockLoop>"


#: "The argument was left out", where None has a meaning of its own.
UNSET = Unset()


def seconds_or_default(timeout: float | Unset | None) -> float | None:
    """Seconds of a deadline, the default one if *timeout* was left out."""
    if not isinstance(timeout, Unset):
        return timeout
    on_a_clock = isinstance(asyncio.get_running_loop(), ClockLoop)
    return _SECONDS_ON_A_CLOCK if on_a_clock else _SECONDS


class Deadline:
    """
    An async context manager that ends its block after *timeout* seconds.

    Args:
        timeout: Seconds; None for ever; left out, 10, or an hour on a `ClockLoop`.
        what: What the block does, as in "*what* took longer than 10 s".
        tell: How things stand then, one line each.

    Raises:
        TimeoutError: It says what the block was waiting for, and where.
    """

    def __init__(
        self,
        timeout: float | Unset | None,
        what: str,
        tell: Callable[[], list[str]] = list,
    ) -> None:
        self._timeout = timeout
        self._what = what
        self._tell = tell

    async def __aenter__(self) -> None:
        self._seconds = seconds_or_default(self._timeout)
        self._timer = asyncio.timeout(self._seconds)
        await self._timer.__aenter__()

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        try:
            await self._timer.__aexit__(kind, error, traceback)
        except TimeoutError:
            raise TimeoutError(self._message(traceback)) from error
        # A fixture's block is left in another task than the one that was cancelled.
        if error is None and self._timer.expired():
            raise TimeoutError(self._message(None))

    def _message(self, traceback: TracebackType | None) -> str:
        lines = [f"{self._what} took longer than {self._seconds:g} s"]
        place = _place(traceback)
        if place is not None:
            lines.append(f"it waited at {place}")
        return "\n  ".join([*lines, *self._tell(), "timeout= gives it more time"])


def _place(traceback: TracebackType | None) -> str | None:
    """The last line of somebody else's code that was running, and its text."""
    found = None
    while traceback is not None:
        if not _is_ours(traceback.tb_frame):
            found = traceback.tb_frame.f_code.co_filename, traceback.tb_lineno
        traceback = traceback.tb_next
    return None if found is None else _line(*found)


def place_of(task: asyncio.Task[Any]) -> str:
    """The line of somebody else's code at which *task* waits, and its text."""
    found = "a place unknown"
    inner: Any = task.get_coro()
    while inner is not None:
        frame = getattr(inner, "cr_frame", None) or getattr(inner, "gi_frame", None)
        if frame is not None and not _is_ours(frame):
            found = _line(frame.f_code.co_filename, frame.f_lineno)
        inner = getattr(inner, "cr_await", None) or getattr(inner, "gi_yieldfrom", None)
    return found


def _is_ours(frame: FrameType) -> bool:
    # By module: what is compiled has file names of its own.
    return frame.f_globals.get("__name__", "").partition(".")[0] in ("asyncio", "simplews")


def _line(file: str, number: int) -> str:
    return f"{file}:{number}: {linecache.getline(file, number).strip()}"
