"""Rooms through a real Redis."""

from __future__ import annotations

from simplews import BroadcastResult, Rooms
from simplews.rooms import History, Redis

from ...engines import Engine
from ...peer import TEXT, opened


def url(engine: Engine) -> str:
    return f"redis://127.0.0.1:{engine.port}"


async def test_a_message_reaches_the_members_of_both_processes(redis: Engine) -> None:
    async with Rooms(Redis(url(redis))) as one, Rooms(Redis(url(redis))) as two:
        async with opened() as (a, a_peer), opened() as (b, b_peer):
            await one.join("room", a)
            await two.join("room", b)
            assert await one.broadcast("room", "hello") == BroadcastResult(1, 0, 0)
            assert await a_peer.frame() == (TEXT, b"hello")
            assert await b_peer.frame() == (TEXT, b"hello")
            assert await two.broadcast("room", "back", exclude=b) == BroadcastResult(0, 0, 0)
            assert await a_peer.frame() == (TEXT, b"back")
            assert await one.broadcast("room", "there", exclude=a) == BroadcastResult(0, 0, 0)
            assert await b_peer.frame() == (TEXT, b"there")


async def test_with_history_too(redis: Engine) -> None:
    history = History(length=100, age=60)
    first, second = (Redis(url(redis), history=history) for _ in range(2))
    async with Rooms(first) as one, Rooms(second) as two:
        async with opened() as (a, a_peer), opened() as (b, b_peer):
            joined = await one.join("room", a)
            assert joined.position is not None and joined.position.offset == 0
            for n in range(5):
                await one.broadcast("room", str(n))
            again = await two.join("room", b, since=joined.position)
            assert (again.recovered, again.gap) == (5, None)
            assert await two.broadcast("room", "5") == BroadcastResult(1, 0, 0)
            for peer in (a_peer, b_peer):
                assert [await peer.frame() for _ in range(6)] == [
                    (TEXT, b"%d" % n) for n in range(6)
                ]
