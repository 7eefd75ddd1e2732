"""These tests talk to other processes: their clock is the real one."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from typing import Any

import pytest

from ...engines import Engine, nats_server, redis_server


@pytest.hookimpl(optionalhook=True)
def pytest_asyncio_loop_factories(config: Any, item: Any) -> Mapping[str, Any]:
    """pytest-asyncio: an ordinary loop, for the tests of this folder."""
    return {"real": asyncio.SelectorEventLoop}


@pytest.fixture
async def redis() -> AsyncIterator[Engine]:
    async with redis_server() as engine:
        yield engine


@pytest.fixture
async def nats() -> AsyncIterator[Engine]:
    async with nats_server() as engine:
        yield engine
