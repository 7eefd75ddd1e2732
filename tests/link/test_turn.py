"""Turns of senders: first come, first served, and nobody waits for a connection that has ended."""

from __future__ import annotations

import asyncio

import pytest

from simplews.link.turn import Turn


@pytest.fixture
async def turn() -> Turn:
    return Turn(asyncio.get_running_loop())


async def settle() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


async def hold(turn: Turn, name: str, log: list[str], until: asyncio.Event) -> None:
    async with turn:
        log.append(name)
        await until.wait()


async def test_first_come_first_served(turn: Turn) -> None:
    log: list[str] = []
    gate = asyncio.Event()
    tasks = [asyncio.create_task(hold(turn, name, log, gate)) for name in "abc"]
    await settle()
    assert log == ["a"] and turn.locked()
    gate.set()
    await asyncio.gather(*tasks)
    assert log == ["a", "b", "c"] and not turn.locked()


@pytest.mark.parametrize("moment", ["waiting", "as it comes"])
async def test_who_is_cancelled_passes_it_on(turn: Turn, moment: str) -> None:
    log: list[str] = []
    gates = [asyncio.Event() for _ in "abc"]
    pairs = zip("abc", gates, strict=True)
    a, b, c = [asyncio.create_task(hold(turn, name, log, gate)) for name, gate in pairs]
    await settle()
    if moment == "as it comes":
        gates[0].set()
        await a  # b has its turn, and perhaps did not run yet
    b.cancel()
    gates[0].set()
    gates[2].set()
    await asyncio.gather(a, c)
    await asyncio.wait([b])
    assert b.cancelled() and not turn.locked()
    assert log[0] == "a" and log[-1] == "c"


async def test_the_end_sends_away_who_waits_and_who_comes(turn: Turn) -> None:
    log: list[str] = []
    gate = asyncio.Event()
    tasks = [asyncio.create_task(hold(turn, name, log, gate)) for name in "ab"]
    await settle()
    turn.end(lambda: ValueError("over"))
    with pytest.raises(ValueError, match="over"):
        await tasks[1]
    with pytest.raises(ValueError, match="over"):
        await hold(turn, "c", log, gate)
    assert turn.locked()
    gate.set()
    await tasks[0]
    assert log == ["a"] and not turn.locked()
