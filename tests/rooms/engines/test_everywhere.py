"""What `Rooms` promises between processes, the same through every engine."""

from __future__ import annotations

import asyncio
import importlib
import itertools
from collections.abc import Callable
from typing import Any

import pytest

from simplews import BackendUnavailable, BroadcastResult, Rooms
from simplews.link.base import Frames
from simplews.rooms import (
    Backend,
    History,
    Memory,
    Nats,
    Position,
    PresenceChange,
    Present,
    Redis,
)

from ...engines import DEADLINE, Engine
from ...peer import BINARY, CLOSE, TEXT, Peer, opened
from .load import QUICK

HISTORY = History(length=100, age=60)
#: Makes a backend; all of one test belong together.
Make = Callable[..., Backend]

_worlds = itertools.count()


@pytest.fixture(
    params=[
        "memory",
        "redis",
        "redis cluster",
        "valkey",
        "valkey cluster",
        "nats",
        "nats cluster",
    ]
)
def make(request: pytest.FixtureRequest) -> Make:
    kind: str = request.param
    prefix = f"test{next(_worlds)}"
    if kind == "memory":
        first: list[Memory] = []

        def memory(history: History | None = None) -> Backend:
            backend = Memory(beside=first[0]) if first else Memory(history)
            first.append(backend)
            return backend

        return memory
    if kind in ("redis", "valkey"):
        port = request.getfixturevalue(kind).port
        return lambda history=None: Redis(
            f"redis://127.0.0.1:{port}", history=history, prefix=prefix
        )
    if kind in ("redis cluster", "valkey cluster"):
        port = request.getfixturevalue(kind.replace(" cluster", "_nodes"))[0].port
        return lambda history=None: Redis(
            f"redis://127.0.0.1:{port}", history=history, prefix=prefix, cluster=True
        )
    if kind == "nats":
        port = request.getfixturevalue("nats").port
        return lambda history=None: Nats(f"nats://127.0.0.1:{port}", history=history, prefix=prefix)
    ports = [engine.port for engine in request.getfixturevalue("nats_nodes")]
    urls = [f"nats://127.0.0.1:{port}" for port in ports]

    def nats(history: History | None = None) -> Backend:
        # With a history, each at another server. Without, a subscription takes a
        # moment to reach the other servers, and nothing tells when it is there.
        if history is not None:
            urls.append(urls.pop(0))
        return Nats(urls, history=history, prefix=prefix, replicas=3, dont_randomize=True)

    return nats


#: Names that an engine could take for something else.
NAMES = ["lobby", "", "a.b.*.>", "{x}y", "} {", "ü☃", "%41", "~heartbeat", "x" * 512]


async def texts(peer: Peer, count: int) -> list[str]:
    """So many text messages."""
    found = []
    async with asyncio.timeout(DEADLINE):
        for _ in range(count):
            frame = await peer.frame()
            assert frame is not None and frame[0] == TEXT, frame
            found.append(frame[1].decode())
    return found


@pytest.mark.parametrize("history", [None, HISTORY], ids=["live", "history"])
async def test_everybody_gets_it_but_the_excluded(make: Make, history: History | None) -> None:
    options: dict[str, Any] = {"publish_timeout": DEADLINE}
    async with Rooms(make(history), **options) as one, Rooms(make(history), **options) as two:
        async with opened() as (a, a_peer), opened() as (b, b_peer), opened() as (c, c_peer):
            await one.join("room", a)
            await two.join("room", b)
            await two.join("other", c)
            assert await one.broadcast("room", "1") == BroadcastResult(1, 0, 0)
            assert await one.broadcast("room", "2", exclude=a) == BroadcastResult(0, 0, 0)
            assert await two.broadcast("room", "3", exclude=b) == BroadcastResult(0, 0, 0)
            assert await two.broadcast("room", "4") == BroadcastResult(1, 0, 0)
            assert await two.broadcast("nowhere", "5") == BroadcastResult(0, 0, 0)
            assert await one.broadcast("other", b"\xff\x00") == BroadcastResult(0, 0, 0)
            # Order is promised for one sender only.
            assert sorted(await texts(a_peer, 3)) == ["1", "3", "4"]
            assert sorted(await texts(b_peer, 3)) == ["1", "2", "4"]
            assert await c_peer.frame() == (BINARY, b"\xff\x00")


async def test_order_of_one_sender(make: Make) -> None:
    async with Rooms(make()) as one, Rooms(make()) as two:
        async with opened() as (a, a_peer), opened() as (b, b_peer):
            await one.join("room", a)
            await two.join("room", b)
            await asyncio.gather(*(one.broadcast("room", str(n)) for n in range(500)))
            expected = [str(n) for n in range(500)]
            assert await texts(a_peer, 500) == expected
            assert await texts(b_peer, 500) == expected


async def test_order_of_all_with_history(make: Make) -> None:
    """Then everybody sees the same order, whoever sent it."""
    async with Rooms(make(HISTORY)) as one, Rooms(make(HISTORY)) as two:
        async with opened() as (a, a_peer), opened() as (b, b_peer):
            await one.join("room", a)
            await two.join("room", b)
            results = await asyncio.gather(
                *(rooms.broadcast("room", str(n)) for n in range(100) for rooms in (one, two))
            )
            assert results == [BroadcastResult(1, 0, 0)] * 200
            assert await texts(a_peer, 200) == await texts(b_peer, 200)


async def test_any_name_is_a_room(make: Make) -> None:
    async with Rooms(make()) as one, Rooms(make()) as two, opened() as (ws, peer):
        for name in NAMES:
            await two.join(name, ws)
        for name in NAMES:
            await one.broadcast(name, name)
        # Each has a sequence of its own; between rooms no order is promised.
        assert sorted(await texts(peer, len(NAMES))) == sorted(NAMES)
        with pytest.raises(ValueError, match="513 bytes exceeds the limit of 512"):
            await one.broadcast("x" * 513, "")


async def test_a_message_too_big_is_refused_before_anybody_has_it(make: Make) -> None:
    async with Rooms(make()) as rooms, opened(max_message_size=None) as (ws, peer):
        await rooms.join("room", ws)
        limit = rooms._backend.max_envelope  # type: ignore[union-attr]
        with pytest.raises(ValueError, match=rf"exceeds the limit of {limit} bytes"):
            await rooms.broadcast("room", bytes(limit))
        await rooms.broadcast("room", "after")
        assert await texts(peer, 1) == ["after"]


async def test_the_biggest_message_arrives(make: Make) -> None:
    async with Rooms(make(HISTORY)) as one, Rooms(make(HISTORY)) as two:
        async with opened(max_message_size=None) as (ws, peer):
            await two.join("room", ws)
            data = bytes(min(one._backend.max_envelope, 1 << 20) - 64)  # type: ignore[union-attr]
            for _ in range(3):
                reading = asyncio.ensure_future(peer.frame())
                await one.broadcast("room", data)
                assert await reading == (BINARY, data)


async def test_leaving_and_coming_again(make: Make) -> None:
    """A room without members is not heard; what is sent then is no gap."""
    gaps: list[Any] = []
    async with Rooms(make()) as one, Rooms(make(), on_gap=gaps.append) as two:
        async with opened() as (ws, peer):
            for n in range(5):
                async with two.join("room", ws):
                    await one.broadcast("room", f"{n}")
                    # What was sent just before it joined may be later than that.
                    while (found := await texts(peer, 1)) == ["before"]:
                        pass
                    assert found == [f"{n}"]
                await one.broadcast("room", "before")
            # In the same turn: what goes on in the background is not to undo it.
            await two.join("room", ws)
            await two.leave("room", ws)
            await two.join("room", ws)
            await one.broadcast("room", "end")
            while (found := await texts(peer, 1)) == ["before"]:
                pass
            assert found == ["end"]
    assert not gaps


async def test_resumes_where_it_was(make: Make) -> None:
    """Missed messages, each once and in order, then live, while others send all the time."""
    async with Rooms(make(HISTORY)) as one, Rooms(make(HISTORY)) as two:
        async with opened() as (stays, stays_peer), opened() as (ws, peer):
            joined = await one.join("room", stays)
            assert joined.position is not None and joined.gap is None
            for n in range(20):
                await one.broadcast("room", f"{n}")
            sending = asyncio.gather(*(one.broadcast("room", f"{n}") for n in range(20, 80)))
            again = await two.join("room", ws, since=str(joined.position))
            assert again.gap is None
            assert again.recovered >= 20
            await sending
            expected = [str(n) for n in range(80)]
            assert await texts(peer, 80) == expected
            assert await texts(stays_peer, 80) == expected


async def test_resume_of_what_it_had_itself_excluded(make: Make) -> None:
    """With its id, a member that comes again does not get what it had sent itself."""
    async with Rooms(make(HISTORY)) as one, Rooms(make(HISTORY)) as two:
        async with opened() as (ws, _), opened() as (again, peer):
            joined = await one.join("room", ws, id="session 7")
            await one.broadcast("room", "mine", exclude=ws)
            await one.broadcast("room", "everybody's")
            result = await two.join("room", again, since=joined.position, id="session 7")
            assert result.recovered == 1
            assert await texts(peer, 1) == ["everybody's"]


async def test_resume_from_too_long_ago_is_a_gap(make: Make) -> None:
    async with Rooms(make(HISTORY)) as one, Rooms(make(HISTORY)) as two:
        async with opened() as (a, _), opened() as (b, peer), opened() as (c, _):
            joined = await one.join("room", a)
            await asyncio.gather(*(one.broadcast("room", f"{n}") for n in range(350)))
            late = await two.join("room", b, since=joined.position)
            assert late.gap is not None and late.gap.reason == "the history does not reach back"
            assert late.recovered == 0
            assert late.position is not None and joined.position is not None
            assert late.position.offset >= joined.position.offset + 350
            await one.broadcast("room", "live")
            assert await texts(peer, 1) == ["live"]
            unknown = await two.join("room", c, since=Position("elsewhere", 3))
            assert unknown.gap is not None


async def test_positions_reach_the_member_through_wrap(make: Make) -> None:
    """What is made of a message is made once for those who have the same function."""
    calls: list[Position | None] = []

    def wrap(frames: Frames, position: Position | None) -> Frames:
        calls.append(position)
        return Frames(f"{position}|{frames.data!s}")

    async with Rooms(make(HISTORY)) as rooms:
        async with opened() as (a, a_peer), opened() as (b, b_peer), opened() as (c, c_peer):
            await rooms.join("room", a, wrap=wrap)
            await rooms.join("room", b, wrap=wrap)
            await rooms.join("room", c)
            await rooms.broadcast("room", "x")
            (wrapped,) = await texts(a_peer, 1)
            assert await texts(b_peer, 1) == [wrapped]
            assert await texts(c_peer, 1) == ["x"]
            assert len(calls) == 1
            # A client that hands it back has had that message.
            position, _, text = wrapped.partition("|")
            assert text == "x"
            await rooms.broadcast("room", "y")
            async with opened() as (d, d_peer):
                again = await rooms.join("room", d, since=position, wrap=wrap)
                assert again.recovered == 1
                (missed,) = await texts(d_peer, 1)
                assert missed == f"{again.position}|y"


async def test_who_is_there(make: Make) -> None:
    """In every process, with those who come, go, and whose process goes."""
    changes: asyncio.Queue[PresenceChange] = asyncio.Queue()

    async def next_change() -> tuple[bool, str, str]:
        async with asyncio.timeout(DEADLINE):
            change = await changes.get()
        assert change.room == "room"
        return change.joined, change.member.id, change.member.info

    options = {**QUICK, "presence": True}
    async with Rooms(make(), **options, on_presence=changes.put_nowait) as one:
        async with opened() as (a, _), opened() as (b, _), opened() as (c, _):
            await one.join("room", a, id="a", info="Ann")
            assert await next_change() == (True, "a", "Ann")
            async with Rooms(make(), **options) as two:
                await two.join("room", b, id="b", info="Bob")
                assert await next_change() == (True, "b", "Bob")
                await two.join("room", c, id="c")
                assert await next_change() == (True, "c", "")
                for rooms in (one, two):
                    there = await rooms.who("room", timeout=DEADLINE)
                    assert {(p.id, p.info) for p in there} == {
                        ("a", "Ann"),
                        ("b", "Bob"),
                        ("c", ""),
                    }
                    assert len({p.process for p in there}) == 2
                # From a process that does not follow the room.
                async with Rooms(make(), **options) as three:
                    there = await three.who("room", timeout=DEADLINE)
                    assert sorted(p.id for p in there) == ["a", "b", "c"]
                await two.leave("room", c)
                assert await next_change() == (False, "c", "")
            assert await next_change() == (False, "b", "Bob")
            assert [p.id for p in await one.who("room", timeout=DEADLINE)] == ["a"]


async def test_a_process_that_dies_is_not_there_any_more(make: Make) -> None:
    """It says nothing; after some heartbeats it is taken for gone."""
    changes: asyncio.Queue[PresenceChange] = asyncio.Queue()
    options = {**QUICK, "presence": True}
    async with Rooms(make(), **options, on_presence=changes.put_nowait) as one:
        two = Rooms(make(), **options)
        async with opened() as (a, _), opened() as (b, _), asyncio.timeout(DEADLINE):
            await one.join("room", a, id="a")
            assert (await changes.get()).joined
            await two.join("room", b, id="b")
            assert (await changes.get()).member.id == "b"
            assert two._exchange is not None
            await two._exchange.close(farewell=False)
            gone = await changes.get()
            assert (gone.joined, gone.member.id) == (False, "b")
            assert await one.who("room") == [Present(gone_of(one), "a", "")]
        await two.close()


def gone_of(rooms: Rooms) -> str:
    assert rooms._exchange is not None
    return rooms._exchange.process.hex()


async def test_without_presence_nobody_can_be_asked(make: Make) -> None:
    async with Rooms(make()) as rooms:
        with pytest.raises(RuntimeError, match="presence=True"):
            await rooms.who("room")


async def test_a_gap_closes_members_with_1012(make: Make) -> None:
    async with Rooms(make()) as rooms, opened() as (ws, peer):
        await rooms.join("room", ws)
        exchange = rooms._exchange
        assert exchange is not None
        exchange.gap(exchange.feeds["room"], 0.0, "for this test")
        frame = await peer.frame()
        assert frame is not None and frame[0] == CLOSE
        assert int.from_bytes(frame[1][:2], "big") == 1012


async def test_closed_rooms_say_so(make: Make) -> None:
    rooms = Rooms(make())
    async with opened() as (ws, _):
        await rooms.join("room", ws)
        assert rooms.connected
        await rooms.close()
        await rooms.close()
        assert (rooms.connected, rooms.state) == (False, "closed")
        with pytest.raises(RuntimeError, match="the rooms are closed"):
            await rooms.broadcast("room", "x")
        with pytest.raises(RuntimeError, match="the rooms are closed"):
            await rooms.join("room", ws)


@pytest.mark.parametrize("backend", [Redis, Nats])
async def test_an_engine_that_is_not_there(backend: Any) -> None:
    """It is said within the deadline, and nothing goes on in the background."""
    pytest.importorskip(backend.__name__.lower())
    url = f"{backend.__name__.lower()}://127.0.0.1:1"
    rooms = Rooms(backend(url), publish_timeout=0.2)
    with pytest.raises(BackendUnavailable, match=r"no engine within 0.2 seconds: .*"):
        async with rooms:
            raise AssertionError
    lazy = Rooms(backend(url), publish_timeout=0.2)
    async with opened() as (ws, _):
        with pytest.raises(BackendUnavailable):
            await lazy.join("room", ws)
        with pytest.raises(BackendUnavailable):
            await lazy.broadcast("room", "x")
        assert not lazy.presence("room")
        assert not lazy.connected
    await lazy.close()


async def test_from_one_server_of_a_cluster_to_another(nats_nodes: list[Engine]) -> None:
    one, two = (
        Rooms(Nats(f"nats://127.0.0.1:{engine.port}", prefix="across")) for engine in nats_nodes[:2]
    )
    async with one, two, opened() as (ws, peer), asyncio.timeout(DEADLINE):
        await two.join("room", ws)
        reading = asyncio.ensure_future(peer.frame())
        while not reading.done():
            await one.broadcast("room", "hello")
        assert await reading == (TEXT, b"hello")


async def test_what_others_publish_harms_nobody(redis: Engine, nats: Engine) -> None:
    """Neither is it a message, nor does it cost the connection."""
    garbage = [b"", b"x", b"\n", b"1.2\n", b"a.b.c\nd", b"\x01", b"\x01\xff" + bytes(40)]
    gaps: list[Any] = []
    client: Any = importlib.import_module("redis.asyncio").Redis(port=redis.port)
    other: Any = await importlib.import_module("nats").connect(f"nats://127.0.0.1:{nats.port}")
    backends = [
        Redis(f"redis://127.0.0.1:{redis.port}", prefix="garbage", history=HISTORY),
        Nats(f"nats://127.0.0.1:{nats.port}", prefix="garbage", history=HISTORY),
    ]
    for backend in backends:
        async with Rooms(backend, on_gap=gaps.append) as rooms, opened() as (ws, peer):
            await rooms.join("room", ws)
            for data in garbage:
                for topic in ("room", "~heartbeat"):
                    await client.publish(f"garbage:{{{topic}}}", data)
                    await other.publish(f"garbage.live.{topic}", data)
                await other.publish("garbage.room.room", data)
            await other.flush()
            await rooms.broadcast("room", "hello")
            assert await texts(peer, 1) == ["hello"]
    assert not gaps
    await client.aclose()
    await other.close()
