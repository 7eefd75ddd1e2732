"""A master of a Redis Cluster dies, and its replica takes its place.

Redis copies to its replicas after it has answered: what it has accepted last may be
lost with it. That is told, to those who were there and to those who resume.
"""

from __future__ import annotations

import asyncio
import importlib
from collections.abc import Iterator
from typing import Any

import pytest

from simplews import BackendUnavailable, Rooms
from simplews.rooms import Backend, Gap, History, Redis

from ...engines import DEADLINE, Engine, redis_cluster
from ...peer import opened
from .load import QUICK, load

HISTORY = History(length=10000, age=60)


@pytest.fixture
def nodes() -> Iterator[list[Engine]]:
    with redis_cluster(replicas=True) as nodes:
        yield nodes


def through(nodes: list[Engine], history: History | None, **options: Any) -> Backend:
    # The slot of "load" is 13699, in the last third: nodes[2] has it, and nodes[5] a copy.
    url = f"redis://127.0.0.1:{nodes[0].port}"
    return Redis(url, cluster=True, history=history, **{"timeout": 1.0, **options})


def stop_copying(nodes: list[Engine]) -> None:
    """The replica of the room's master has what was sent so far, and gets no more."""
    with importlib.import_module("redis").Redis(port=nodes[2].port) as master:
        master.set("{load}", "the last that is copied")
        assert master.execute_command("WAIT", 1, int(1000 * DEADLINE)) == 1
        master.execute_command("ACL", "SETUSER", "default", "-psync", "-sync")
        assert master.client_kill_filter(_type="replica") == 1


async def test_resuming_from_before_what_is_lost_is_a_gap(nodes: list[Engine]) -> None:
    """Though all that the new master knows is complete, and nobody sends any more."""
    gaps: asyncio.Queue[Gap] = asyncio.Queue()
    settings = {**QUICK, "publish_timeout": DEADLINE}
    async with Rooms(through(nodes, HISTORY), on_gap=gaps.put_nowait, **settings) as rooms:
        async with opened() as (ws, _), opened() as (early, _), opened() as (late, _):
            await rooms.broadcast("load", "copied")
            before = (await rooms.join("load", ws)).position
            stop_copying(nodes)
            assert (await rooms.broadcast("load", "lost")).delivered == 1
            after = (await rooms.join("load", early)).position
            await rooms.leave("load", early)
            nodes[2].kill()
            async with asyncio.timeout(DEADLINE):
                assert (await gaps.get()).room == "load"
            for member, since in ((early, before), (late, after)):
                joined = await rooms.join("load", member, since=since)
                assert joined.gap is not None and joined.recovered == 0


async def test_what_no_replica_has_is_not_accepted(nodes: list[Engine]) -> None:
    # A fifth of this is what a replica has, on a machine that is busy.
    backend = through(nodes, HISTORY, replicas=1, timeout=5.0)
    async with Rooms(backend, **{**QUICK, "publish_timeout": DEADLINE}) as rooms:
        await rooms.broadcast("load", "copied")
        stop_copying(nodes)
        with pytest.raises(BackendUnavailable, match="not 1 of its replicas: 0"):
            await rooms.broadcast("load", "not copied")
        # Another master's.
        await rooms.broadcast("lobby", "copied")


async def test_nothing_is_missing_in_silence(nodes: list[Engine]) -> None:
    """Under load: with and without a history, raising and queueing, and with WAIT."""

    def loads(prefix: str, history: History | None = HISTORY, **options: Any) -> Any:
        queue = {"when_away": options.pop("when_away", "raise"), "max_pending": 500}
        return load(lambda: through(nodes, history, prefix=prefix, **options), **queue)

    async with (
        loads("live", None) as live,
        loads("kept") as kept,
        loads("sure", replicas=1) as sure,
        loads("queue", when_away="queue") as queue,
    ):
        # Nothing slows it down; what it sent is enough.
        queue.stop()
        await queue.until(lambda: not queue.missing)
        nodes[2].kill()
        await queue.burst(100, 0)
        await kept.until(lambda: kept.failed)
        waiting = len(queue.sent)
        await queue.burst(200, 0)
        await live.more()
        await kept.more()
        # The new master has no replica, and accepts nothing, until the old one is that.
        nodes[2].start()
        await sure.more()
        await queue.until(lambda: queue.got[-1] == waiting + 199)
    # Each has checked that what is missing is inside a gap.
    assert live.gaps
    assert kept.gaps  # it cannot know that nothing is
    assert not sure.gaps and not sure.missing
    assert max(queue.failed, default=0) < waiting
    assert queue.got[-200:] == list(range(waiting, waiting + 200))
