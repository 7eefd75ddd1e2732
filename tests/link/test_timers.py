"""Timers that share one of the loop's: in time, in order, and nothing held or lost."""

from __future__ import annotations

import asyncio
import contextvars
import gc
import random
import weakref
from collections.abc import Callable
from typing import Any

import pytest

from simplews.link.timers import Timer, timers_of

from ..clock import ClockLoop
from ..peer import PING, opened

VALUE: contextvars.ContextVar[object] = contextvars.ContextVar("value")
NAME: contextvars.ContextVar[str] = contextvars.ContextVar("name", default="nobody")


def loop_now() -> tuple[asyncio.AbstractEventLoop, float]:
    loop = asyncio.get_running_loop()
    return loop, loop.time()


async def test_each_fires_when_it_is_due_however_others_come_and_go() -> None:
    """The same moments, in the same order, as with a timer of the loop's for each."""
    loop, began = loop_now()
    timers = timers_of(loop)
    fired: list[tuple[float, int]] = []
    expected: list[tuple[float, int]] = []
    alive: dict[int, tuple[Timer, float]] = {}
    draw = random.Random(7)

    def made(number: int) -> Callable[[], None]:
        def call() -> None:
            fired.append((round(loop.time() - began, 6), number))
            del alive[number]

        return call

    for number in range(400):
        delay = draw.choice([1, 2.5, 20.0])
        timer = timers.call_later(delay, made(number))
        assert timer.when() == loop.time() + delay
        alive[number] = timer, round(timer.when() - began, 6)
        expected.append((alive[number][1], number))
        if alive and draw.random() < 0.5:
            chosen = draw.choice(list(alive))
            timer, due = alive.pop(chosen)
            timer.cancel()
            timer.cancel()  # again, which is nothing
            expected.remove((due, chosen))
        await asyncio.sleep(draw.choice([0, 0.05, 0.3]))
    await asyncio.sleep(21)
    assert sorted(fired) == sorted(expected)
    assert [moment for moment, _ in fired] == sorted(moment for moment, _ in fired)
    assert not alive
    assert len(fired) > 100


async def test_what_a_call_begins_and_cancels_counts_at_once() -> None:
    loop, began = loop_now()
    timers = timers_of(loop)
    fired: list[str] = []

    def first() -> None:
        fired.append("first")
        second.cancel()
        timers.call_later(1, lambda: fired.append(f"again {loop.time() - began:g}"))

    timers.call_later(1, first)
    second = timers.call_later(1, lambda: fired.append("second"))
    timers.call_later(1, lambda: fired.append("third"))
    await asyncio.sleep(1.5)
    assert fired == ["first", "third"]
    await asyncio.sleep(1)
    assert fired == ["first", "third", "again 2"]


async def test_one_that_raises_is_reported_and_keeps_no_other_from_firing() -> None:
    loop, _ = loop_now()
    reported: list[Any] = []
    loop.set_exception_handler(lambda _, context: reported.append(context["exception"]))
    fired = asyncio.Event()
    timers = timers_of(loop)
    timers.call_later(1, lambda: [].pop())
    timers.call_later(1, fired.set)
    await asyncio.wait_for(fired.wait(), 2)
    assert [type(error) for error in reported] == [IndexError]


async def test_each_is_called_in_the_context_of_who_began_it() -> None:
    loop, _ = loop_now()
    timers = timers_of(loop)
    seen: list[str] = []

    async def begin(name: str) -> None:
        NAME.set(name)
        timers.call_later(3, lambda: seen.append(NAME.get()))

    await asyncio.gather(begin("one"), begin("two"))
    timers.call_later(3, lambda: seen.append(NAME.get()))
    await asyncio.sleep(3.1)
    assert seen == ["one", "two", "nobody"]


async def test_a_cancelled_one_holds_nothing() -> None:
    loop, _ = loop_now()

    class Held:
        def call(self) -> None:
            raise AssertionError

    async def begin() -> tuple[Timer, weakref.ref[Held], weakref.ref[Held]]:
        held, named = Held(), Held()
        VALUE.set(named)
        return timers_of(loop).call_later(5, held.call), weakref.ref(held), weakref.ref(named)

    timer, held, named = await asyncio.create_task(begin())
    await asyncio.sleep(0)  # the loop lets go of the task
    gc.collect()
    assert (held() is not None, named() is not None) == (True, True)
    timer.cancel()
    del timer
    gc.collect()
    assert (held(), named()) == (None, None)  # the loop's timer is still there
    await asyncio.sleep(6)


async def test_a_duration_that_nobody_has_any_more_is_forgotten() -> None:
    """Who draws each ping_interval at random makes nothing grow."""
    loop, _ = loop_now()
    timers = timers_of(loop)
    await asyncio.sleep(100)  # those of other tests
    before = len(timers._rows) if hasattr(timers, "_rows") else None
    rows = [timers.call_later(10 + number / 1000, gc.collect) for number in range(50)]
    for timer in rows:
        timer.cancel()
    await asyncio.sleep(11)
    again = timers.call_later(10, rows.clear)
    await asyncio.sleep(11)
    assert rows == []
    assert again.when() < loop.time()
    if before is not None:  # compiled, it does not show
        assert len(timers._rows) == before


async def test_many_connections_need_no_more_timers_of_the_loop_than_one() -> None:
    loop: Any = asyncio.get_running_loop()
    counted = []
    async with opened(ping_interval=30, ping_timeout=7):
        for _ in range(5):
            async with opened(ping_interval=30, ping_timeout=7) as (ws, peer):
                ponged = asyncio.ensure_future(ws.ping())
                assert (await peer.frame())[0] == PING
                ponged.cancel()
            counted.append(sum(not timer.cancelled() for timer in loop._scheduled))
    assert counted[1:] == counted[:1] * 4


async def test_a_loop_that_refuses_one_keeps_no_other_from_firing() -> None:
    """In its debug mode it does, when another thread asks."""
    loop, _ = loop_now()
    loop.set_debug(True)
    timers = timers_of(loop)
    called: list[str] = []
    for _ in range(2):
        with pytest.raises(RuntimeError):
            await asyncio.to_thread(timers.call_later, 3, lambda: called.append("refused"))
    timers.call_later(3, lambda: called.append("taken"))
    await asyncio.sleep(4)
    assert called == ["taken"]


def test_a_loop_that_has_ended_is_let_go() -> None:
    """And the next one, perhaps with the same id, has its own."""

    class Loop(ClockLoop):
        pass

    async def begin() -> None:
        loop = asyncio.get_running_loop()
        # It holds the loop, as connections do.
        timers_of(loop).call_later(50, loop.stop)

    for _ in range(3):
        loop = Loop()
        loop.run_until_complete(begin())
        seen = weakref.ref(loop)
        loop.close()
        del loop
        gc.collect()
        assert seen() is None
