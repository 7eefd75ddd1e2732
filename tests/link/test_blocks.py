"""A blocked event loop is noticed by timers that fire late, and named in the log."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import weakref

import pytest

from simplews.link.blocks import Blocks, blocks_of

from ..clock import ClockLoop
from ..peer import opened, settled


def told(log: pytest.LogCaptureFixture) -> list[str]:
    """What was logged of blocks, up to the colon."""
    return [
        f"{r.levelname} {r.getMessage().partition(':')[0]}"
        for r in log.records
        if r.name == "simplews.loop"
    ]


def test_what_every_loop_has_is_no_block(caplog: pytest.LogCaptureFixture) -> None:
    blocks = Blocks()
    for now in range(100):
        blocks.fired(now - 0.04, now)
    assert (blocks.seconds, blocks.recent(100)) == (0, 0)
    assert told(caplog) == []


def test_timers_that_were_due_in_the_same_block_count_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    blocks = Blocks()
    for due, now in [(101.0, 104.0), (101.5, 104.0), (103.9, 104.0), (103.0, 104.1)]:
        blocks.fired(due, now)
    assert blocks.seconds == pytest.approx(3.1)
    assert blocks.recent(110) == pytest.approx(3.1)
    assert told(caplog) == ["WARNING the event loop was blocked for 3.0 s"]


def test_only_the_latest_block_explains_and_not_for_ever() -> None:
    blocks = Blocks()
    blocks.fired(100, 107)
    blocks.fired(120, 122)
    assert blocks.seconds == 9
    assert blocks.recent(150) == 2
    assert blocks.recent(183) == 0
    blocks.fired(190, 190.1)
    assert blocks.recent(190.1) == 0  # too short to explain anything


def test_one_line_a_minute_and_loop(caplog: pytest.LogCaptureFixture) -> None:
    """However many connections have noticed it, and however often it happens."""
    blocks = Blocks()
    for due in range(100, 170, 10):
        for early in (0.0, 0.1, 0.2):
            blocks.fired(due + early, due + 2 + due / 100)
    assert told(caplog) == [
        "WARNING the event loop was blocked for 3.0 s",
        "WARNING the event loop was blocked for 3.6 s, and 5 times for up to 3.5 s before",
    ]
    Blocks().fired(100, 102)  # another loop
    assert len(told(caplog)) == 3


async def test_a_block_is_noticed_when_something_was_due(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """One line, though three connections have timers that fire late."""
    loop = asyncio.get_running_loop()
    assert isinstance(loop, ClockLoop)
    async with contextlib.AsyncExitStack() as stack:
        for interval in (10.0, 10.5, 11.0):
            await stack.enter_async_context(opened(ping_interval=interval))
        await asyncio.sleep(9)
        loop.block(5)
        await settled()
        assert told(caplog) == ["WARNING the event loop was blocked for 4.0 s"]
        assert "debug mode of asyncio" in caplog.text
        assert blocks_of(loop).seconds == pytest.approx(4)


def test_a_loop_that_is_gone_is_not_kept() -> None:
    loop = asyncio.new_event_loop()
    assert blocks_of(loop) is blocks_of(loop)
    seen = weakref.ref(loop)
    loop.close()
    del loop
    gc.collect()
    assert seen() is None


def test_the_logger_is_not_of_a_connection() -> None:
    """It is the loop's block, whoever notices it."""
    above = logging.getLogger("simplews")  # it is a parent only once it exists
    assert logging.getLogger("simplews.loop").parent is above
