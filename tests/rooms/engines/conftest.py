"""These tests talk to other processes: their clock is the real one."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping
from typing import Any

import pytest

from ...engines import (
    Engine,
    nats_cluster,
    nats_server,
    redis_cluster,
    redis_server,
    valkey_cluster,
    valkey_server,
)


@pytest.hookimpl(optionalhook=True)
def pytest_asyncio_loop_factories(config: Any, item: Any) -> Mapping[str, Any]:
    """pytest-asyncio: an ordinary loop, for the tests of this folder."""
    return {"real": asyncio.SelectorEventLoop}


# Engines that no test harms are there for all.


@pytest.fixture(scope="session")
def redis() -> Iterator[Engine]:
    with redis_server() as engine:
        yield engine


@pytest.fixture(scope="session")
def valkey() -> Iterator[Engine]:
    with valkey_server() as engine:
        yield engine


@pytest.fixture(scope="session")
def nats() -> Iterator[Engine]:
    with nats_server() as engine:
        yield engine


@pytest.fixture(scope="session")
def redis_nodes() -> Iterator[list[Engine]]:
    with redis_cluster() as engines:
        yield engines


@pytest.fixture(scope="session")
def valkey_nodes() -> Iterator[list[Engine]]:
    with valkey_cluster() as engines:
        yield engines


@pytest.fixture(scope="session")
def nats_nodes() -> Iterator[list[Engine]]:
    with nats_cluster() as engines:
        yield engines
