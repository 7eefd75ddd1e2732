"""
Tests of chat.py: without a port, without sleeping, and with a client that vanishes.

Start:  cd examples, then: python -m pytest test_chat.py
        (it needs pytest and pytest-asyncio)
See:    5 passed
"""

import pytest
from chat import chat

from simplews.testing import ClockLoop, Faults, pair

pytest_plugins = ["simplews.testing.fixtures"]  # usually in a conftest.py
pytestmark = pytest.mark.asyncio


async def test_a_message_goes_to_everybody_else_in_the_room() -> None:
    async with pair(chat, "/lobby") as (ann, _), pair(chat, "/lobby") as (bob, _):
        assert await ann.receive() == "* somebody came *"
        await bob.send("hello")
        assert await ann.receive() == "hello"


async def test_leaving_is_told() -> None:
    async with pair(chat, "/lobby") as (ann, _), pair(chat, "/lobby") as (bob, _):
        assert await ann.receive() == "* somebody came *"
        await bob.close()
        assert await ann.receive() == "* somebody left *"


async def test_other_rooms_hear_nothing(ws_clock: ClockLoop) -> None:
    async with pair(chat, "/lobby") as (ann, _), pair(chat, "/kitchen") as (eve, _):
        await ann.send("is anybody here?")
        assert await eve.receive(timeout=600) is None  # ten minutes, which pass at once


async def test_who_vanishes_has_left_within_a_minute(ws_clock: ClockLoop) -> None:
    network = Faults()
    async with pair(chat, "/lobby") as (ann, _), pair(chat, "/lobby", faults=network):
        assert await ann.receive() == "* somebody came *"
        network.drop()  # no Close, no end of TCP: just silence
        began = ws_clock.time()
        assert await ann.receive() == "* somebody left *"
        assert ws_clock.time() - began < 60


async def test_a_bad_network_changes_nothing(ws_clock: ClockLoop) -> None:
    network = Faults(delay=0.5, split=1)
    async with pair(chat, "/lobby") as (ann, _), pair(chat, "/lobby", faults=network) as (bob, _):
        assert await ann.receive() == "* somebody came *"
        await bob.send("é" * 100)
        assert await ann.receive() == "é" * 100
