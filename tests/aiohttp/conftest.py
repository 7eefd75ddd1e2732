"""These tests run on a clock that jumps (see `tests/clock.py`), and nothing is left behind."""

from __future__ import annotations

import asyncio
import gc
import logging
from collections.abc import AsyncIterator, Iterator

import pytest

from simplews.link import aiohttp as coupling

from ..clock import no_complaint, nothing_left, pytest_asyncio_loop_factories
from .site import Log, descriptors

__all__ = ["no_complaint", "nothing_left", "pytest_asyncio_loop_factories"]


@pytest.fixture(autouse=True)
async def no_link_left() -> AsyncIterator[None]:
    """No test leaves an open link, or a descriptor."""
    before = descriptors()
    yield
    assert not coupling._links
    for _ in range(50):
        if descriptors() == before:
            return
        gc.collect()
        await asyncio.sleep(0.1)  # on the virtual clock
    assert descriptors() == before


@pytest.fixture
def log() -> Iterator[Log]:
    """What aiohttp, asyncio and we log."""
    handler = Log()
    loggers = [logging.getLogger(name) for name in ("aiohttp", "asyncio", "simplews")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.addHandler(handler)
        logger.setLevel(logging.INFO)
    yield handler
    for logger, level in zip(loggers, levels, strict=True):
        logger.removeHandler(handler)
        logger.setLevel(level)
