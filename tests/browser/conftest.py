"""A demo and a browser; without a browser the tests skip, or fail where CI is set."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest

from .stage import Demo, Person, chromium, find_chromium, running_demo

Arrive = Callable[..., Awaitable[Person]]


def _missing(what: str) -> None:
    if os.environ.get("CI"):
        pytest.fail(f"{what} is missing, and CI is to run the browser tests")
    pytest.skip(f"{what} is missing")


@pytest.fixture
async def browser() -> AsyncIterator[Any]:
    """A headless Chromium."""
    try:
        from playwright.async_api import async_playwright
    except ImportError:
        _missing("the playwright package")
    if find_chromium() is None:
        _missing("Chromium")
    async with async_playwright() as playwright, chromium(playwright) as launched:
        yield launched


@pytest.fixture
def demo_arguments() -> list[str]:
    """What follows ``simplews demo``; some tests have an engine here."""
    return []


@pytest.fixture
async def demo(browser: Any, demo_arguments: list[str]) -> AsyncIterator[Demo]:
    """A running ``simplews demo``."""
    async with running_demo(*demo_arguments) as started:
        yield started


@pytest.fixture
async def arrive(browser: Any, demo: Demo) -> AsyncIterator[Arrive]:
    """``ada = await arrive("Ada", "general")``. No page may complain about anything."""
    people: list[Person] = []

    async def arrive_at_demo(name: str, room: str = "general", **options: Any) -> Person:
        people.append(await Person.arrive(browser, demo.url, name, room, **options))
        return people[-1]

    yield arrive_at_demo
    assert [person.complaints for person in people if person.complaints] == []
