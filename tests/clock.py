"""An event loop whose clock tests move: no test sleeps, and a minute takes a millisecond.

Sockets are real. Whenever nothing is ready on them the clock jumps to the next
timer. So a deadline in a test costs nothing while all goes well, and a wait that
would never end fails at once.
"""

from __future__ import annotations

import asyncio
import logging
import selectors
import time
from collections.abc import AsyncIterator, Iterator, Mapping
from typing import Any

import pytest

__all__ = ["ClockLoop", "no_complaint", "nothing_left", "pytest_asyncio_loop_factories"]

# Real seconds that sockets get before the clock jumps. What one end of a socket
# pair writes is there for the other at once; TCP on loopback may take a moment.
_PATIENCE = 0.002
# Real seconds of silence, with no timer set, after which a test hangs for sure.
_HANGS = 10.0


class _Selector(selectors.DefaultSelector):
    """Looks at the sockets; where the loop would sleep, the clock jumps instead."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 1000.0
        self._silent_since: float | None = None

    def select(self, timeout: float | None = None) -> list[Any]:
        events = super().select(0)
        if not events and timeout is not None and timeout > 0:
            events = super().select(_PATIENCE)
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
    A selector event loop with a clock of its own.

    It serves as a *loop factory*, of ``asyncio.Runner`` and of pytest-asyncio.
    """

    def __init__(self) -> None:
        self._virtual = _Selector()
        super().__init__(self._virtual)

    def time(self) -> float:
        """Seconds on the loop's own clock."""
        return self._virtual.now

    def block(self, seconds: float) -> None:
        """Let *seconds* pass without running anything, as a call that blocks would."""
        self._virtual.now += seconds


# ------------------------------------- for the conftest.py of a folder on this clock


@pytest.hookimpl(optionalhook=True)
def pytest_asyncio_loop_factories(config: Any, item: Any) -> Mapping[str, Any]:
    """pytest-asyncio: the loop of every test in the folder."""
    return {"clock": ClockLoop}


@pytest.fixture(autouse=True)
async def nothing_left() -> AsyncIterator[None]:
    """No test leaves a task behind."""
    before = asyncio.all_tasks()
    yield
    left = {t for t in asyncio.all_tasks() - before if t is not asyncio.current_task()}
    for task in left:
        task.cancel()
    assert not left


class _Complaints(logging.Handler):
    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.texts: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.texts.append(record.getMessage())


@pytest.fixture(autouse=True)
def no_complaint() -> Iterator[None]:
    """No test makes asyncio complain, of an exception that nobody saw, say."""
    handler = _Complaints()
    logger = logging.getLogger("asyncio")
    logger.addHandler(handler)
    yield
    logger.removeHandler(handler)
    # In its debug mode it measures, and this machine may be slow.
    assert not [text for text in handler.texts if not text.startswith("Executing <")]
