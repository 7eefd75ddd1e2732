"""
Fixtures for pytest with pytest-asyncio.

A conftest.py asks for them: ``pytest_plugins = ["simplews.testing.fixtures"]``.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from typing import Any

import pytest
import pytest_asyncio

from ..client import AioClient
from ..server import AioServer
from .asgi import ASGIClient, connect_asgi
from .clock import ClockLoop
from .faults import Faults
from .memory import pair

__all__ = ["ws_asgi", "ws_clock", "ws_faults", "ws_pair"]


@pytest.hookimpl(optionalhook=True)
def pytest_asyncio_loop_factories(config: Any, item: pytest.Item) -> Mapping[str, Any]:
    """pytest-asyncio: a test that asks for `ws_clock`, or a fixture of it does, is on it."""
    if "ws_clock" in getattr(item, "fixturenames", ()):
        return {"clock": ClockLoop}
    return {"asyncio": asyncio.new_event_loop}


@pytest_asyncio.fixture
async def ws_clock() -> ClockLoop:
    """The loop that the test runs on, which is a `ClockLoop`: time jumps."""
    loop = asyncio.get_running_loop()
    if not isinstance(loop, ClockLoop):
        raise pytest.UsageError(
            "ws_clock needs a test that is a coroutine function, pytest-asyncio 1.4 or later, and "
            "no other pytest_asyncio_loop_factories in a conftest.py"
        )
    return loop


@pytest_asyncio.fixture
async def ws_pair() -> AsyncIterator[Callable[..., Awaitable[tuple[AioClient, AioServer]]]]:
    """
    `pair` as a function: ``client, server = await ws_pair(handler, "/path")``.

    It may be called several times; what it opened is closed behind the test, the last
    one first. There the exception of a handler is raised as well.
    """
    async with contextlib.AsyncExitStack() as stack:

        async def opened(*args: Any, **options: Any) -> tuple[AioClient, AioServer]:
            return await stack.enter_async_context(pair(*args, **options))

        yield opened


@pytest_asyncio.fixture
async def ws_asgi() -> AsyncIterator[Callable[..., Awaitable[ASGIClient]]]:
    """`connect_asgi` as a function: ``ws = await ws_asgi(app, "/path")``; see `ws_pair`."""
    async with contextlib.AsyncExitStack() as stack:

        async def opened(*args: Any, **options: Any) -> ASGIClient:
            return await stack.enter_async_context(connect_asgi(*args, **options))

        yield opened


@pytest.fixture
def ws_faults() -> Faults:
    """A network without a fault so far: for ``ws_pair(faults=ws_faults)``."""
    return Faults()
