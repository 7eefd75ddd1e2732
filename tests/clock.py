"""The jumping clock of `simplews.testing`, for the conftest.py of a folder that is on it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Iterator, Mapping
from typing import Any

import pytest

from simplews.testing import ClockLoop

from .cut import CutClockLoop

__all__ = ["ClockLoop", "no_complaint", "nothing_left", "pytest_asyncio_loop_factories"]


@pytest.hookimpl(optionalhook=True)
def pytest_asyncio_loop_factories(config: Any, item: Any) -> Mapping[str, Any]:
    """pytest-asyncio: the loop of every test in the folder."""
    return {"clock": CutClockLoop if config.getoption("cut") else ClockLoop}


@pytest.fixture(autouse=True)
async def nothing_left() -> AsyncIterator[None]:
    """No test leaves a task behind."""
    before = asyncio.all_tasks()
    yield
    for _ in range(5):  # generators that were left early are closed by tasks of the loop's
        await asyncio.sleep(0)
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
