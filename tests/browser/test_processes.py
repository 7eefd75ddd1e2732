"""``simplews demo --workers 2 --redis URL``: browsers on different processes, in one room."""

from __future__ import annotations

import os
import re
import signal
from collections.abc import Iterator

import pytest

from ..engines import redis_server
from .conftest import Arrive
from .stage import Person

pytestmark = pytest.mark.browser


@pytest.fixture
def demo_arguments() -> Iterator[list[str]]:
    """Two processes, and a Redis of their own."""
    with redis_server() as engine:
        yield ["--workers", "2", "--redis", f"redis://127.0.0.1:{engine.port}"]


async def process_of(person: Person) -> int:
    """The process that the page is connected to, as it says."""
    welcome = await (await person.sees("You joined #general")).inner_text()
    found = re.search("on process ([0-9]+)", welcome)
    assert found is not None, welcome
    return int(found[1])


async def test_browsers_on_different_processes_share_a_room(arrive: Arrive) -> None:
    ada = await arrive("Ada")
    here = await process_of(ada)
    os.kill(here, signal.SIGSTOP)  # it accepts nobody now
    try:
        bob = await arrive("Bob")
    finally:
        os.kill(here, signal.SIGCONT)
    assert await process_of(bob) != here
    await ada.sees("Bob joined #general")
    assert await ada.page.inner_text("#presence") == "2 people here"
    await ada.say("Hello Bob")
    assert "Ada" in await (await bob.sees("Hello Bob")).inner_text()
    await bob.say("Hello Ada")
    assert "Bob" in await (await ada.sees("Hello Ada")).inner_text()
    assert "mine" not in await (await ada.sees("Hello Ada")).get_attribute("class")
    await bob.leave()
    await ada.sees("Bob left #general")
    assert await ada.page.inner_text("#presence") == "Only you are here"
