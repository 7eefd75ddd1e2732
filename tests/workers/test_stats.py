"""Workers.stats: what all processes have seen, also those that have ended."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from typing import Any

import pytest

from simplews import AioServer, serve

from .conftest import DEADLINE, Start
from .test_workers import Load

pytestmark = [
    pytest.mark.skipif(sys.platform == "win32", reason="workers= is not for Windows"),
    pytest.mark.timeout(120),
]


async def handler(ws: AioServer) -> None:
    """Never run."""


async def test_before_the_start_there_is_nothing() -> None:
    stats = await serve(handler, workers=2).stats()
    assert (stats.total.opened, stats.processes, stats.late) == (0, {}, frozenset())


def counters(total: dict[str, Any]) -> dict[str, float]:
    """Those that only grow."""
    now = ("opening", "open", "handlers")
    found = {name: value for name, value in total.items() if name not in (*now, "ended", "refused")}
    for name in ("ended", "refused"):
        found |= {f"{name} {code}": count for code, count in total[name].items()}
    return found


async def test_it_adds_up_and_keeps_what_was_replaced(start: Start) -> None:
    app = await start()
    clients = await app.members(app.pids)
    for ws in clients:
        await ws.send("x")
        assert await ws.receive(DEADLINE) == "x"
    stats = await app.ask("stats")
    assert stats["late"] == [] and set(stats["processes"]) == {str(pid) for pid in app.pids}
    total, here = stats["total"], len(clients)
    assert (total["open"], total["opened"], total["messages_in"]) == (here, here, here)
    assert total["messages_out"] == 2 * here
    for name, value in total.items():
        parts = [process[name] for process in stats["processes"].values()]
        if isinstance(value, int):
            assert value == sum(parts), name
        if name == "open":
            assert min(parts) > 0
    # What they do from now on is in the last words of each.
    for ws in clients:
        await ws.send("y")
        assert await ws.receive(DEADLINE) == "y"
    await app.ask("restart 0")
    for ws in clients:
        async with asyncio.timeout(DEADLINE):
            await ws.wait_closed()
    stats = await app.ask("stats")
    assert not {str(pid) for pid in app.pids} & set(stats["processes"])
    total = stats["total"]
    assert (total["open"], total["opened"], total["handlers"]) == (0, here, 0)
    assert total["ended"] == {"1012": here}
    assert (total["messages_in"], total["messages_out"]) == (2 * here, 3 * here)


async def test_a_worker_that_is_killed_leaves_what_it_had_said(start: Start) -> None:
    """No total goes backwards, and its connections count as lost."""
    app = await start()
    load = Load(app, 8)
    await load.until(lambda: sum(load.opened.values()) == 8 and load.count > 100)
    stats = await app.ask("stats")
    killed = max(stats["processes"], key=lambda pid: stats["processes"][pid]["open"])
    lost = stats["processes"][killed]["open"]
    os.kill(int(killed), signal.SIGKILL)
    before = counters(stats["total"])
    for _ in range(5):  # while it is found dead, and replaced, and its clients come again
        total = (await app.ask("stats"))["total"]
        after = counters(total)
        assert all(value <= after[name] for name, value in before.items()), (before, after)
        assert total["opened"] - total["open"] == sum(total["ended"].values())
        before = after
        await load.until(lambda count=load.count: load.count > count + 50)
    await load.until(lambda: sum(load.opened.values()) == 8 + lost)
    total = (await app.ask("stats"))["total"]
    assert total["ended"] == {"1006": lost}
    assert (total["open"], total["opened"]) == (8, 8 + lost)
    await load.stop()


async def test_a_worker_that_hangs_is_late(start: Start) -> None:
    """It adds what it had said; and nothing piles up for it meanwhile."""
    app = await start()
    clients = await app.members(app.pids)
    before = await app.ask("stats")
    hung = app.pids[0]
    os.kill(hung, signal.SIGSTOP)
    try:
        for _ in range(3):
            assert await app.ask("stats 0.05") == [hung]
    finally:
        os.kill(hung, signal.SIGCONT)
    stats = await app.ask("stats")
    assert stats["late"] == []
    assert stats["processes"][str(hung)]["open"] == before["processes"][str(hung)]["open"]
    assert stats["total"] == before["total"] | {"loop_blocked": stats["total"]["loop_blocked"]}
    assert stats["total"]["open"] == len(clients)
