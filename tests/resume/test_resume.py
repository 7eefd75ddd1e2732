"""`simplews.resume.v1` in one process, with a history in memory; see docs/explanation/resume.md."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest
from aiohttp import web

from simplews import (
    AioClient,
    AioServer,
    ConnectionClosed,
    Reconnect,
    Rooms,
    Server,
    WebSocketRuntimeError,
    serve,
)
from simplews import ConnectionError as OpenError
from simplews.resume import SUBPROTOCOL, Client, Gap, Refused, Session
from simplews.rooms import History, Memory

from ..hosts import aiohttp_host, uvicorn_host
from ..peer import DEADLINE, until

QUICK = Reconnect(first=0.1, most=0.1)
HELLO = {"type": "hello", "client": "a name that nobody knows"}
JOIN = {"type": "join", "room": "lobby"}

Body = Callable[[Rooms, str, str | bytes], Awaitable[object]]


async def broadcast(rooms: Rooms, room: str, message: str | bytes) -> None:
    await rooms.broadcast(room, message)


def may_join(room: str) -> bool:
    return room != "secret"


class World:
    """
    A server.

    Attributes:
        connections: The server's ends, in the order in which they came.
        ended: Those whose handler has ended.
    """

    def __init__(self, rooms: Rooms, body: Body, **limits: Any) -> None:
        self.rooms = rooms
        self.body = body
        self.limits = limits
        self.connections: list[AioServer] = []
        self.ended: list[AioServer] = []
        self.server: Server

    async def handler(self, ws: AioServer) -> None:
        self.connections.append(ws)
        async with Session(ws, self.rooms, allow=may_join, **self.limits) as session:
            with contextlib.suppress(ConnectionClosed):
                async for room, message in session:
                    await self.body(self.rooms, room, message)
        self.ended.append(ws)

    @property
    def url(self) -> str:
        return f"ws://127.0.0.1:{self.server.port}"

    def client(self, *rooms: str, **options: Any) -> Client:
        return Client(self.url, rooms, reconnect=QUICK, **options)

    def raw(self) -> Any:
        return AioClient.connect(self.url, SUBPROTOCOL)

    async def has_members(self, room: str, count: int = 1) -> None:
        await until(lambda: len(self.rooms.presence(room)) == count)


@contextlib.asynccontextmanager
async def world(
    history: History | None = None,
    body: Body = broadcast,
    *,
    live: bool = False,
    limits: dict[str, Any] | None = None,
    **options: Any,
) -> AsyncIterator[World]:
    async with Rooms(None if live else Memory(history or History()), **options) as rooms:
        made = World(rooms, body, **(limits or {}))
        async with serve(made.handler, "127.0.0.1", 0, subprotocols=[SUBPROTOCOL]) as made.server:
            yield made


async def take(client: Client, count: int) -> list[Any]:
    """What so many pairs of the loop have."""
    async with asyncio.timeout(DEADLINE):
        return [(await anext(client))[1] for _ in range(count)]


async def frame(ws: AioClient) -> dict[str, Any]:
    message = await ws.receive(DEADLINE)
    assert isinstance(message, str), message
    found: dict[str, Any] = json.loads(message)
    return found


async def say(ws: AioClient, *frames: dict[str, Any]) -> None:
    for one in frames:
        await ws.send_json(one)


# ------------------------------------------------------------------------ both halves


async def test_messages_go_to_the_room_and_come_back() -> None:
    async with world() as there, there.client("lobby") as one, there.client("lobby") as two:
        await there.has_members("lobby", 2)
        assert await one.send("lobby", "hi") == 1
        assert await one.send("lobby", b"\x00\xff") == 2
        assert await one.send("lobby", "☃") == 3
        await one.flush()
        for client in (one, two):
            assert await take(client, 3) == ["hi", b"\x00\xff", "☃"]


async def test_cut_again_and_again_it_misses_nothing_and_gets_nothing_twice() -> None:
    async with world() as there, there.client("lobby") as client:
        await there.has_members("lobby")
        got = []
        for turn in range(10):
            for n in range(7):
                await there.rooms.broadcast("lobby", f"{turn} {n}")
            there.connections[-1].abort()
            await there.rooms.broadcast("lobby", f"{turn} away")
            got += await take(client, 8)
        wanted = [f"{turn} {n}" for turn in range(10) for n in (*range(7), "away")]
        assert got == wanted
        assert len(there.connections) == 11


async def test_what_it_sent_while_away_arrives_once_and_in_order() -> None:
    async with world() as there, there.client("lobby") as one, there.client("lobby") as two:
        await there.has_members("lobby", 2)
        for n in range(30):
            await one.send("lobby", f"{n}")
            if n % 7 == 0:
                for ws in there.connections:
                    ws.abort()
        await one.flush()
        assert await take(two, 30) == [f"{n}" for n in range(30)]
        assert await take(one, 30) == [f"{n}" for n in range(30)]


async def test_gap_where_the_history_is_too_short() -> None:
    async with world(History(length=5)) as there, there.client("lobby") as client:
        await there.has_members("lobby")
        await there.rooms.broadcast("lobby", "before")
        assert await take(client, 1) == ["before"]
        there.connections[-1].abort()
        for n in range(6):
            await there.rooms.broadcast("lobby", f"{n}")
        [gap] = await take(client, 1)
        assert isinstance(gap, Gap) and gap.room == "lobby"
        assert gap.reason == "the history does not reach back"
        assert gap.position is not None and gap.position.offset == 1
        await there.rooms.broadcast("lobby", "after")
        assert await take(client, 1) == ["after"]


async def test_gap_where_the_engine_has_forgotten() -> None:
    async with world() as there, there.client("lobby") as client:
        await there.has_members("lobby")
        await there.rooms.broadcast("lobby", "before")
        assert await take(client, 1) == ["before"]
        backend = there.rooms._backend
        assert isinstance(backend, Memory)
        backend._hub.past.clear()
        backend._hub.epoch = "another"
        await there.rooms.broadcast("lobby", "lost")
        [gap] = await take(client, 1)
        assert isinstance(gap, Gap)
        await there.rooms.broadcast("lobby", "after")
        assert await take(client, 1) == ["after"]


@pytest.mark.parametrize("live", [True, False], ids=["rooms alone", "backend"])
async def test_without_a_history_every_reconnection_is_a_gap(live: bool) -> None:
    async with contextlib.AsyncExitStack() as stack:
        there = await stack.enter_async_context(world(live=True))
        if not live:
            there.rooms = await stack.enter_async_context(Rooms(Memory()))
        client = await stack.enter_async_context(there.client("lobby"))
        for turn in range(3):
            await there.has_members("lobby")
            await there.rooms.broadcast("lobby", f"{turn}")
            assert await take(client, 1) == [f"{turn}"]
            there.connections[-1].abort()
            [gap] = await take(client, 1)
            assert isinstance(gap, Gap) and gap.reason == "there is no history"


async def test_a_gap_between_processes_reaches_the_client_whatever_on_gap_does() -> None:
    gaps: list[Gap] = []
    async with world(live=True, on_gap=gaps.append) as there, there.client("lobby") as client:
        await there.has_members("lobby")
        there.rooms._missed(Gap("lobby", 0.0, 1.0, "the engine says so"))
        [gap] = await take(client, 1)
        assert isinstance(gap, Gap) and len(gaps) == 1
        assert there.connections[0].close_code == 1012


async def test_a_message_that_failed_is_given_again() -> None:
    tried: list[str | bytes] = []

    async def body(rooms: Rooms, room: str, message: str | bytes) -> None:
        tried.append(message)
        if len(tried) == 2:
            raise RuntimeError("the body failed")
        await rooms.broadcast(room, message)

    async with world(body=body) as there, there.client("lobby") as client:
        for n in range(3):
            await client.send("lobby", f"{n}")
        await client.flush()
        assert tried == ["0", "1", "1", "2"]
        assert await take(client, 3) == ["0", "1", "2"]


async def test_repeats_are_dropped_while_the_first_is_still_dealt_with() -> None:
    go, begun = asyncio.Event(), asyncio.Event()
    given: list[str | bytes] = []

    async def slow(rooms: Rooms, room: str, message: str | bytes) -> None:
        given.append(message)
        begun.set()
        await go.wait()

    async with world(body=slow) as there, there.client("lobby") as client:
        await client.send("lobby", "once")
        async with asyncio.timeout(DEADLINE):
            await begun.wait()
            there.connections[0].abort()
            await until(lambda: len(there.connections) == 2)
            go.set()
            await client.flush()
        assert given == ["once"]


async def test_who_waits_for_a_turn_is_woken_by_its_own_end() -> None:
    """Though the body that has the turn, of a connection that is lost, never comes to an end."""
    go, begun = asyncio.Event(), asyncio.Event()

    async def hangs(rooms: Rooms, room: str, message: str | bytes) -> None:
        begun.set()
        await go.wait()

    async with world(body=hangs) as there, there.client("lobby") as client:
        await client.send("lobby", "once")
        async with asyncio.timeout(DEADLINE):
            await begun.wait()
            there.connections[0].abort()
            await until(lambda: len(there.connections) == 2)
            second = there.connections[1]
            await until(lambda: second.stats.messages_in == 3)  # hello, join, message
            await until(lambda: not second.stats.messages_waiting)
            second.abort()
            await until(lambda: second in there.ended)
            assert there.connections[0] not in there.ended
            go.set()
            await client.flush()


async def test_what_the_sender_is_left_out_of_it_does_not_get_later_either() -> None:
    async def others(rooms: Rooms, room: str, message: str | bytes) -> None:
        await rooms.broadcast(room, message, exclude=there.connections[0])
        there.connections[0].abort()

    async with world(body=others) as there, there.client("lobby") as client:
        await client.send("lobby", "mine")
        await client.flush()
        await there.has_members("lobby")
        await there.rooms.broadcast("lobby", "everybody's")
        assert await take(client, 1) == ["everybody's"]


async def test_refusals_come_in_the_loop() -> None:
    async with world(limits={"max_rooms": 2}) as there:
        async with there.client("one", "secret", "two", "three") as client:
            async with asyncio.timeout(DEADLINE):
                assert await anext(client) == ("secret", Refused("it may not join"))
                assert await anext(client) == ("three", Refused("more than 2 rooms"))
                number = await client.send("elsewhere", "hi")
                refused = Refused("it is no member of the room", number)
                assert await anext(client) == ("elsewhere", refused)
                await client.flush()
            await client.leave("one")
            await client.join("three")
            await there.has_members("three")
            assert there.rooms.presence("one") == ()


async def test_a_message_that_the_engine_would_not_take_is_refused() -> None:
    async with world() as there, there.client("lobby") as client:
        Memory.max_envelope, before = 2048, Memory.max_envelope
        try:
            await client.send("lobby", bytes(1025))
            await client.send("lobby", bytes(1024))
            [refused, taken] = await take(client, 2)
        finally:
            Memory.max_envelope = before
        assert refused == Refused("message of 1025 bytes exceeds the limit of 1024 bytes", 1)
        assert taken == bytes(1024)


async def test_waiting_is_bounded_and_can_be_left() -> None:
    async with world() as there, there.client("lobby", max_waiting=3) as client:
        await there.has_members("lobby")
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(1):
                await anext(client)
        for n in range(100):
            await there.rooms.broadcast("lobby", f"{n}")
        await asyncio.sleep(1)
        assert len(client._waiting) == 3
        assert await take(client, 100) == [f"{n}" for n in range(100)]


async def test_send_waits_for_acknowledgements() -> None:
    async with world() as there, there.client("lobby", max_unacknowledged=2) as client:
        for n in range(20):
            await client.send("lobby", f"{n}")
            assert len(client._unacknowledged) <= 2
        assert await take(client, 20) == [f"{n}" for n in range(20)]


@pytest.mark.parametrize("when", ["before", "meanwhile"])
async def test_the_loop_is_told_when_it_would_wait_for_itself(when: str) -> None:
    """It waits in send() for what comes behind messages that nobody takes."""
    go = asyncio.Event()

    async def waits(rooms: Rooms, room: str, message: str | bytes) -> None:
        await go.wait()

    async with world(body=waits) as there:
        async with there.client("lobby", max_unacknowledged=1, max_waiting=1) as client:
            await there.has_members("lobby")
            await there.rooms.broadcast("lobby", "first")
            assert await take(client, 1) == ["first"]
            await client.send("lobby", "not acknowledged")

            async def flood() -> None:
                for n in range(10):
                    await there.rooms.broadcast("lobby", f"{n}")

            flooding = asyncio.create_task(flood())
            if when == "before":
                await flooding
                await until(lambda: client._waiting)
            with pytest.raises(WebSocketRuntimeError, match="nothing is read while this task"):
                async with asyncio.timeout(DEADLINE):
                    await client.send("lobby", "more")
            assert await take(client, 10) == [f"{n}" for n in range(10)]
            go.set()
            await client.flush()
            await flooding


async def test_an_error_of_the_application_is_not_told_to_the_client() -> None:
    def fails(room: str) -> bool:
        raise ValueError("a secret")

    async with Rooms(Memory(History())) as rooms:

        async def handler(ws: AioServer) -> None:
            async with Session(ws, rooms, allow=fails) as session:
                async for _ in session:
                    pass

        async with serve(handler, "127.0.0.1", 0, subprotocols=[SUBPROTOCOL]) as server:
            url = f"ws://127.0.0.1:{server.port}"
            async with AioClient.connect(url, SUBPROTOCOL) as ws:
                await say(ws, HELLO, JOIN)
                with pytest.raises(ConnectionClosed) as caught:
                    await ws.receive(DEADLINE)
                assert (caught.value.code, caught.value.reason) == (1011, "")


@pytest.mark.parametrize("host", ["aiohttp", "uvicorn"])
async def test_in_other_servers(host: str) -> None:
    """The session takes any connection of ours."""
    async with contextlib.AsyncExitStack() as stack:
        rooms = await stack.enter_async_context(Rooms(Memory(History())))
        opened: list[AioServer] = []

        async def serve_one(ws: AioServer) -> None:
            opened.append(ws)
            async with Session(ws, rooms, allow=may_join) as session:
                with contextlib.suppress(ConnectionClosed):
                    async for room, message in session:
                        await rooms.broadcast(room, message)

        async def in_aiohttp(request: web.Request) -> Any:
            ws = await AioServer.accept(aiohttp=request, subprotocols=[SUBPROTOCOL])
            await serve_one(ws)
            return ws.response

        async def in_asgi(scope: Any, receive: Any, send: Any) -> None:
            asgi = (scope, receive, send)
            await serve_one(await AioServer.accept(asgi=asgi, subprotocols=[SUBPROTOCOL]))

        made = aiohttp_host(in_aiohttp) if host == "aiohttp" else uvicorn_host(in_asgi)
        port = await stack.enter_async_context(made)
        client = Client(f"ws://127.0.0.1:{port}", ["lobby"], reconnect=QUICK)
        async with client:
            for turn in range(3):
                await client.send("lobby", f"{turn}")
                assert await take(client, 1) == [f"{turn}"]
                opened[-1].abort()
                await rooms.broadcast("lobby", f"{turn} away")
                assert await take(client, 1) == [f"{turn} away"]


async def test_while_the_engine_is_away_it_comes_again() -> None:
    """A join that cannot be done closes with 1013."""
    there_again = asyncio.Event()

    class Away(Memory):
        async def wait_connected(self) -> None:
            await there_again.wait()

    rooms = Rooms(Away(History()), publish_timeout=1)
    made = World(rooms, broadcast)
    async with serve(made.handler, "127.0.0.1", 0, subprotocols=[SUBPROTOCOL]) as made.server:
        async with made.client("lobby") as client:
            await until(lambda: len(made.connections) == 3)
            assert made.connections[0].close_code == 1013
            there_again.set()
            await client.send("lobby", "hi")
            assert await take(client, 1) == ["hi"]
    await rooms.close()


async def test_a_slow_client_is_closed_and_misses_nothing() -> None:
    """Its queue is full: 1013, and the rest when it comes again."""
    options: dict[str, Any] = {"max_waiting": 1, "compression": None}
    async with world(max_queue=5) as there, there.client("lobby", **options) as client:
        await there.has_members("lobby")
        text = "x" * 100_000
        count = 0
        while there.rooms.presence("lobby"):
            await there.rooms.broadcast("lobby", f"{count} {text}")
            count += 1
            assert count < 900  # more than the network takes, less than the history has
        got = await take(client, count)
        assert there.connections[0].close_code == 1013
        assert [what.split()[0] for what in got] == [f"{n}" for n in range(count)]


async def test_a_server_without_it_is_an_error() -> None:
    async def other(ws: AioServer) -> None:
        async for _ in ws:
            pass

    async with serve(other, "127.0.0.1", 0) as server:
        async with Client(f"ws://127.0.0.1:{server.port}", ["lobby"]) as client:
            with pytest.raises(OpenError, match=r"does not speak simplews\.resume\.v1"):
                await take(client, 1)
            with pytest.raises(OpenError, match="does not speak"):
                await client.send("lobby", "hi")


async def test_rooms_that_drop_are_refused() -> None:
    async with world(live=True, overflow="drop_oldest") as there:
        async with AioClient.connect(there.url, SUBPROTOCOL) as ws:
            with pytest.raises(ValueError, match="resume needs overflow='close'"):
                Session(ws, there.rooms, allow=may_join)


# ---------------------------------------------------------------- the server, by itself


async def test_the_frames_of_the_page() -> None:
    async with world() as there, there.raw() as ws:
        await say(ws, HELLO, JOIN)
        joined = await frame(ws)
        epoch, _, offset = joined.pop("position").rpartition(".")
        assert joined == {"type": "joined", "room": "lobby"} and offset == "0"
        await say(ws, {"type": "message", "room": "lobby", "number": 7, "data": "hi"})
        message = {"type": "message", "room": "lobby", "position": f"{epoch}.1", "data": "hi"}
        assert await frame(ws) == message
        assert await frame(ws) == {"type": "ack", "number": 7}
        await there.rooms.broadcast("lobby", b"\xff")
        assert (await frame(ws))["base64"] == base64.b64encode(b"\xff").decode()
        await say(ws, {"type": "leave", "room": "lobby"}, {**JOIN, "since": f"{epoch}.1"})
        assert (await frame(ws))["position"] == f"{epoch}.2"
        assert (await frame(ws))["type"] == "joined"
        await say(ws, {"type": "leave", "room": "lobby"}, {**JOIN, "since": "other.9"})
        assert (await frame(ws))["gap"] == "the history does not reach back"


MESSAGE = {"type": "message", "room": "lobby", "number": 1, "data": ""}


@pytest.mark.parametrize(
    ("frames", "reason"),
    [
        (["{"], "what is no JSON"),
        (["[" * 100_000], "what is no JSON"),
        (["[]"], "what is no JSON object with a type"),
        (['{"type": 1}'], "what is no JSON object with a type"),
        ([b"{}"], "a binary message; all are JSON in text messages"),
        ([JOIN], "hello must be the first frame, and no other"),
        ([HELLO, HELLO], "hello must be the first frame, and no other"),
        ([{**HELLO, "client": "short"}], "hello: client must be text of 16 to 128 bytes"),
        ([HELLO, {"type": "join"}], "join: room must be text of 0 to 512 bytes"),
        ([HELLO, {**JOIN, "room": "x" * 513}], "join: room must be text of 0 to 512 bytes"),
        ([HELLO, JOIN, JOIN], "join: it is a member already"),
        ([HELLO, {**JOIN, "since": 5}], "join: since must be a position"),
        ([HELLO, {**JOIN, "since": "5"}], "a position is EPOCH.OFFSET, not '5'"),
        ([HELLO, JOIN, {**MESSAGE, "number": True}], "message: number must be an integer"),
        ([HELLO, JOIN, {**MESSAGE, "number": 2**53}], "message: number must be an integer"),
        ([HELLO, JOIN, MESSAGE, MESSAGE], "message: number 1 after 1"),
        ([HELLO, JOIN, {**MESSAGE, "data": 1}], "message: either data or base64"),
        ([HELLO, JOIN, {**MESSAGE, "base64": ""}], "message: either data or base64"),
        ([HELLO, JOIN, {**MESSAGE, "data": None, "base64": "?"}], "message: base64 is not Base64"),
    ],
)
async def test_whoever_breaks_the_rules_is_closed(frames: list[Any], reason: str) -> None:
    async with world() as there, there.raw() as ws:
        for one in frames:
            await ws.send(one if isinstance(one, (str, bytes)) else json.dumps(one))
        with pytest.raises(ConnectionClosed) as caught:
            while True:
                await ws.receive(DEADLINE)
        assert caught.value.code == 1002
        assert caught.value.reason.startswith(reason)


async def test_half_of_a_surrogate_pair_is_closed() -> None:
    for text in (
        r'{"type":"message","room":"lobby","number":1,"data":"\ud800"}',
        r'{"type":"join","room":"\ud800"}',
    ):
        async with world() as there, there.raw() as ws:
            await say(ws, HELLO)
            await ws.send(text)
            with pytest.raises(ConnectionClosed) as caught:
                await ws.receive(DEADLINE)
            assert caught.value.code == 1002


async def test_too_big_and_without_the_subprotocol() -> None:
    async with world(limits={"max_size": 100}) as there:
        for subprotocol, size, code in ((SUBPROTOCOL, 101, 1009), (None, 1, 1002)):
            async with AioClient.connect(there.url, subprotocol) as ws:
                await ws.send("x" * size)
                with pytest.raises(ConnectionClosed) as caught:
                    await ws.receive(DEADLINE)
                assert caught.value.code == code
