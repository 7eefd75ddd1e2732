"""These tests run on a clock that jumps; see `tests/clock.py`. Those inside ASGI servers do not."""

import asyncio
from collections.abc import Mapping
from typing import Any

import pytest

from .. import clock
from ..clock import no_complaint, nothing_left

__all__ = ["no_complaint", "nothing_left"]


@pytest.hookimpl(optionalhook=True)
def pytest_asyncio_loop_factories(config: Any, item: Any) -> Mapping[str, Any]:
    """pytest-asyncio: the loop of every test in the folder."""
    if item.path.name == "test_inside.py":
        return {"real": asyncio.SelectorEventLoop}
    factories: Mapping[str, Any] = clock.pytest_asyncio_loop_factories(config, item)
    return factories
