"""The contract of a connection, a section a line, over every source.

Names say the behaviour; what a source makes impossible would be a skip with its
reason, and there is none so far.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import weakref
from collections.abc import AsyncIterator, Iterable
from typing import Any

import pytest

from simplews import (
    AioBase,
    AioServer,
    BinaryMessage,
    Close,
    ConnectionClosed,
    MessageType,
    State,
    TextMessage,
    WebSocketRuntimeError,
)
from simplews.protocol.codec import Encoder
from simplews.protocol.frames import Opcode

REQUEST = (
    b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
)
CLIENT = Encoder(server=False)


def frame(data: str | bytes, opcode: Opcode = Opcode.TEXT, final: bool = True) -> bytes:
    """A frame as a client sends it."""
    payload = data.encode() if isinstance(data, str) else data
    return CLIENT.frame(opcode, payload, final)


def close_frame(code: int, reason: str = "") -> bytes:
    return frame(code.to_bytes(2, "big") + reason.encode(), Opcode.CLOSE)


async def echo(ws: AioServer) -> None:
    async for message in ws:
        await ws.send(message)


class Kept:
    """A handler that hands its connection to the test and waits for its end."""

    def __init__(self) -> None:
        self.ws: asyncio.Future[AioServer] = asyncio.get_running_loop().create_future()

    async def __call__(self, ws: AioServer) -> None:
        self.ws.set_result(ws)
        await ws.wait_closed()


async def raw(
    address: Any, more: bytes = b"", *, together: bool = False
) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """A peer of raw bytes whose handshake is done; *more* follows, or rides in its segment."""
    reader, writer = await address.streams()
    writer.write(REQUEST + more if together else REQUEST)
    head = await reader.readuntil(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 101")
    if not together:
        writer.write(more)
    return reader, writer


async def gone(writer: asyncio.StreamWriter) -> None:
    # asyncio's transport has no loop any more when it has been closed behind its last byte.
    with contextlib.suppress(AttributeError):
        writer.transport.abort()
    await asyncio.gather(writer.wait_closed(), return_exceptions=True)


async def until(condition: Any) -> None:
    """Let the loop run until *condition()* holds; the test's deadline bounds it."""
    while not condition():  # noqa: ASYNC110
        await asyncio.sleep(0)


async def blocked(ws: AioBase, sending: asyncio.Future[None]) -> None:
    """Wait until *sending* is stuck in flow control: nothing has gone out for a while."""
    sent = -1
    while sent != ws.stats.messages_out:
        sent = ws.stats.messages_out
        for _ in range(500):
            await asyncio.sleep(0)
    assert not sending.done()


# ------------------------------------------------------------------ messages


@pytest.mark.parametrize(
    "data",
    ["", "hello", "é€😀", "x" * 126, "y" * 65536, b"", b"\0\xff", b"z" * 70000, b"w" * 1_048_576],
    ids=lambda d: f"{type(d).__name__}-{len(d)}",
)
async def test_echo(server: Any, data: str | bytes) -> None:
    async with server(echo) as address, address.connect() as ws:
        await ws.send(data)
        got = await ws.receive()
        assert got == data
        assert type(got) is type(data)


@pytest.mark.parametrize("data", [bytearray(b"ab"), memoryview(b"ab")], ids=["array", "view"])
async def test_bytes_like_is_sent_as_binary(server: Any, data: bytearray | memoryview) -> None:
    async with server(echo) as address, address.connect() as ws:
        await ws.send(data)
        assert await ws.receive() == b"ab"


@pytest.mark.parametrize("data", [None, 1, {"a": 1}, object()])
async def test_what_is_no_message_is_refused_and_nothing_sent(server: Any, data: Any) -> None:
    async with server(echo) as address, address.connect() as ws:
        with pytest.raises(TypeError, match="str"):
            await ws.send(data)
        await ws.send("next")
        assert await ws.receive() == "next"


async def test_iterables_become_one_message(server: Any) -> None:
    async def pieces() -> AsyncIterator[bytes]:
        yield b"one "
        yield b"two"

    async with server(echo) as address, address.connect() as ws:
        await ws.send(["a", "b", "", "c"])
        await ws.send(pieces())
        await ws.send(b"last")
        assert [await ws.receive() for _ in range(3)] == ["abc", b"one two", b"last"]


@pytest.mark.parametrize("compression", [None, "deflate"])
async def test_compression_is_agreed_on_and_changes_no_message(
    server: Any, compression: Any
) -> None:
    text = "to and fro " * 1000
    async with server(echo) as address, address.connect(compression=compression) as ws:
        await ws.send(text)
        await ws.send(text, compress=False)
        await ws.send("short", compress=True)
        assert [await ws.receive() for _ in range(3)] == [text, text, "short"]
        sent = ws.stats.bytes_out
        assert (sent < 1.5 * len(text)) == (compression == "deflate")


async def test_loop_gives_messages_with_type_and_data(server: Any) -> None:
    async def handler(ws: AioServer) -> None:
        await ws.send("text")
        await ws.send(b"bytes")

    async with server(handler) as address, address.connect() as ws:
        items = [item async for item in ws]
    assert items == ["text", b"bytes"]
    assert isinstance(items[0], TextMessage)
    assert isinstance(items[1], BinaryMessage)
    assert [item.type for item in items] == [MessageType.TEXT, MessageType.BINARY]
    assert [item.data for item in items] == ["text", b"bytes"]


async def test_strict_readers_keep_the_message_of_the_wrong_kind(server: Any) -> None:
    async with server(echo) as address, address.connect() as ws:
        await ws.send(b"binary")
        with pytest.raises(TypeError) as caught:
            await ws.receive_text()
        assert caught.value.message == b"binary"  # type: ignore[attr-defined]
        await ws.send_json({"é": [1, None]})
        assert await ws.receive_json() == {"é": [1, None]}


async def test_stream_gives_pieces_as_they_arrive(server: Any) -> None:
    keeper = Kept()
    async with server(keeper) as address:
        _reader, writer = await raw(address, frame("first ", final=False))
        ws = await keeper.ws
        stream = ws.receive_stream()
        first = ""
        while first != "first ":  # the network may have cut it
            first += str(await anext(stream))
            assert "first ".startswith(first)
        writer.write(frame("second", Opcode.CONTINUATION) + frame("whole"))
        assert "".join([str(piece) async for piece in stream]) == "second"
        assert await ws.receive() == "whole"
        await gone(writer)


async def test_leaving_a_stream_early_drops_the_rest_of_its_message(server: Any) -> None:
    keeper = Kept()
    async with server(keeper) as address:
        _reader, writer = await raw(address, frame("a", final=False))
        ws = await keeper.ws
        stream = ws.receive_stream()
        assert await anext(stream) == "a"
        await stream.aclose()
        writer.write(frame("b", Opcode.CONTINUATION) + frame("next"))
        assert await ws.receive() == "next"
        await gone(writer)


# ---------------------------------------------------------- 1. Nothing is lost


async def test_messages_in_the_segment_of_the_request_are_delivered(server: Any) -> None:
    async with server(echo) as address:
        reader, writer = await raw(address, frame("one") + frame("two"), together=True)
        assert await reader.readexactly(10) == b"\x81\x03one\x81\x03two"
        await gone(writer)


async def test_messages_in_the_segment_of_the_request_with_fin_are_delivered(server: Any) -> None:
    seen: list[Any] = []
    done = asyncio.Event()

    async def handler(ws: AioServer) -> None:
        try:
            while True:
                seen.append(await ws.receive())
        except ConnectionClosed as exc:
            seen.append(exc.code)
            done.set()

    async with server(handler) as address:
        _reader, writer = await address.streams()
        writer.write(REQUEST + frame("one") + frame("two") + close_frame(3000))
        if writer.can_write_eof():
            writer.write_eof()
        await done.wait()
        assert seen == ["one", "two", 3000]
        await gone(writer)


async def test_greeting_right_behind_the_response_is_received(server: Any) -> None:
    async def greet(ws: AioServer) -> None:
        await ws.send("welcome")
        await ws.wait_closed()

    async with server(greet) as address:
        for _ in range(20):
            async with address.connect() as ws:
                assert await ws.receive() == "welcome"


async def test_cancelled_and_timed_out_receives_lose_nothing(server: Any) -> None:
    count = 300

    async def numbers(ws: AioServer) -> None:
        for number in range(count):
            await ws.send(str(number))
            if number % 7 == 0:
                await asyncio.sleep(0)
        await ws.wait_closed()

    async with server(numbers) as address, address.connect() as ws:
        got: list[Any] = []
        while len(got) < count:
            task = asyncio.ensure_future(ws.receive())
            for _ in range(len(got) % 4):
                await asyncio.sleep(0)
            task.cancel()
            try:
                got.append(await task)
            except asyncio.CancelledError:
                polled = await ws.receive(timeout=0)
                if polled is not None:
                    got.append(polled)
                await asyncio.sleep(0)
        assert got == [str(number) for number in range(count)]


async def test_a_handler_that_cancels_its_receives_loses_nothing(server: Any) -> None:
    count = 200
    got: list[Any] = []
    done = asyncio.Event()

    async def handler(ws: AioServer) -> None:
        while len(got) < count:
            task = asyncio.ensure_future(ws.receive(None if len(got) % 3 else 1000))
            for _ in range(len(got) % 5):
                await asyncio.sleep(0)
            task.cancel()
            try:
                got.append(await task)
            except asyncio.CancelledError:
                message = await ws.receive(timeout=0.001)
                if message is not None:
                    got.append(message)
        done.set()

    async with server(handler) as address, address.connect() as ws:
        for number in range(count):
            await ws.send(str(number))
            if number % 7 == 0:
                await asyncio.sleep(0)
        await done.wait()
        assert got == [str(number) for number in range(count)]


async def test_messages_before_the_close_are_returned_then_the_close(server: Any) -> None:
    async def handler(ws: AioServer) -> None:
        await ws.send("one")
        await ws.send("two")
        await ws.close(3001, "done")

    async with server(handler) as address:
        ws = await address.connect()
        await ws.wait_closed()
        assert [await ws.receive(), await ws.receive()] == ["one", "two"]
        for _ in range(2):
            with pytest.raises(ConnectionClosed) as caught:
                await ws.receive()
            assert (caught.value.code, caught.value.reason) == (3001, "done")


async def test_more_messages_than_the_inbox_holds_all_arrive(server: Any) -> None:
    count = 2000

    async def handler(ws: AioServer) -> None:
        for number in range(count):
            await ws.send(str(number))

    async with server(handler) as address:
        ws = await address.connect(max_queue=(8, 2))
        assert [item async for item in ws] == [str(number) for number in range(count)]
        assert ws.exception() is None


async def test_messages_before_a_lost_connection_are_returned(server: Any) -> None:
    keeper = Kept()
    async with server(keeper, max_queue=4) as address:
        _, writer = await raw(address, b"".join(frame(str(n)) for n in range(100)))
        ws = await keeper.ws
        # Reading is paused by now, so the end of TCP shows only when the rest is read.
        assert await ws.receive() == "0"
        writer.close()
        got = []
        with pytest.raises(ConnectionClosed) as caught:
            while True:
                got.append(await ws.receive())
        assert got == [str(n) for n in range(1, 100)]
        assert caught.value.code == 1006
        await gone(writer)


# ---------------------------------------------------------- 2. Nothing hangs


@pytest.mark.parametrize("how", ["peer closes", "peer is lost", "close()", "abort()"])
async def test_an_end_wakes_every_waiter(server: Any, asgi: bool, how: str) -> None:
    keeper = Kept()
    async with server(keeper) as address:
        _reader, writer = await raw(address)
        ws = await keeper.ws
        waiting: list[asyncio.Future[Any]] = [
            asyncio.ensure_future(waiter) for waiter in (ws.receive(), _send_until_blocked(ws))
        ]
        if not asgi:
            waiting.append(asyncio.ensure_future(ws.ping(timeout=1000)))
        closed = asyncio.ensure_future(ws.wait_closed())
        # Nothing of ours is read, so the sender is stuck in flow control.
        await blocked(ws, waiting[1])
        if how == "peer closes":
            writer.write(close_frame(1000))
        elif how == "peer is lost":
            writer.transport.abort()
        elif how == "close()":
            closing = asyncio.ensure_future(ws.close())
        else:
            ws.abort()
        results = await asyncio.gather(*waiting, return_exceptions=True)
        assert {type(result) for result in results} == {ConnectionClosed}
        # The Close waits behind what the peer does not read; TCP goes with the peer.
        await gone(writer)
        await closed
        if how == "close()":
            await closing
        assert ws.connection_state is State.CLOSED


async def _send_until_blocked(ws: AioBase, size: int = 10_000) -> None:
    while True:
        await ws.send(b"x" * size)


async def test_close_during_a_blocked_large_send_ends_at_the_deadline(server: Any) -> None:
    keeper = Kept()
    async with server(keeper, close_timeout=0.001) as address:
        _, writer = await raw(address)
        ws = await keeper.ws
        await ws.send("something before")
        sending = asyncio.ensure_future(_send_until_blocked(ws, 50_000_000))
        await blocked(ws, sending)
        await ws.close()
        await asyncio.gather(sending, return_exceptions=True)
        assert ws.connection_state is State.CLOSED
        await gone(writer)


async def test_close_ends_though_the_peer_never_answers(server: Any, asgi: bool) -> None:
    keeper = Kept()
    async with server(keeper, close_timeout=0.001) as address:
        _, writer = await raw(address)
        ws = await keeper.ws
        await ws.close(1000)
        assert ws.explain().endswith("through the server" if asgi else "no Close came back")
        await gone(writer)


async def test_close_ends_though_the_inbox_is_full(server: Any) -> None:
    async def flood(ws: AioServer) -> None:
        while True:
            await ws.send("x" * 100)

    async with server(flood) as address:
        ws = await address.connect(max_queue=2, compression=None)
        await until(lambda: ws._inbox.paused)
        await ws.close()
        assert ws.close_code == 1000


# ---------------------------------------------------------- 3. Nothing grows


async def test_a_peer_that_does_not_read_blocks_our_send(server: Any) -> None:
    keeper = Kept()
    async with server(keeper, write_limit=65536) as address:
        _, writer = await raw(address)
        ws = await keeper.ws
        sending = asyncio.ensure_future(_send_until_blocked(ws))
        await blocked(ws, sending)
        if ws.wsock is not None:
            assert ws.wsock.transport.get_write_buffer_size() < 65536 + 2 * 10_010
        else:
            assert ws.stats.bytes_out < 32 * 1024 * 1024  # what the kernel takes, and the host
        sending.cancel()
        await gone(writer)
        await asyncio.gather(sending, return_exceptions=True)


async def test_an_app_that_does_not_receive_stops_the_peer_and_only_that_one(server: Any) -> None:
    first = True

    async def handler(ws: AioServer) -> None:
        nonlocal first
        if first:
            first = False
            await ws.wait_closed()  # never receives
        else:
            await echo(ws)

    async with server(handler) as address:
        stuck = await address.connect(compression=None)
        sending = asyncio.ensure_future(_send_until_blocked(stuck))
        await blocked(stuck, sending)
        async with address.connect() as other:
            await other.send("still served")
            assert await other.receive() == "still served"
        sending.cancel()
        stuck.abort()
        await asyncio.gather(sending, return_exceptions=True)
        await stuck.wait_closed()


async def test_reading_goes_on_when_the_app_receives_again(server: Any) -> None:
    start = asyncio.Event()
    total = 3000

    async def handler(ws: AioServer) -> None:
        await start.wait()
        for _ in range(total):
            await ws.receive()
        await ws.send("all")

    quick = {"compression": None}
    async with server(handler, max_queue=(16, 4)) as address, address.connect(**quick) as ws:

        async def send() -> None:
            for _ in range(total):
                await ws.send(b"x" * 5000)

        sending = asyncio.ensure_future(send())
        await blocked(ws, sending)
        start.set()
        assert await ws.receive() == "all"
        await sending


@pytest.mark.parametrize("compression", [None, "deflate"])
@pytest.mark.parametrize("fragments", [False, True], ids=["whole", "fragments"])
async def test_too_big_a_message_is_1009_on_both_sides(
    server: Any, compression: Any, fragments: bool
) -> None:
    ends: list[ConnectionClosed | None] = []

    async def handler(ws: AioServer) -> None:
        try:
            while True:
                await ws.receive()
        except ConnectionClosed as exc:
            ends.append(exc)
            raise

    async with server(handler, max_message_size=1000, compression=compression) as address:
        ws = await address.connect(compression=compression)
        await ws.send("x" * 1000)
        data: str | Iterable[str] = ["x" * 500] * 3 if fragments else "x" * 1001
        await ws.send(data)
        with pytest.raises(ConnectionClosed) as caught:
            await ws.receive()
        assert caught.value.code == 1009
        assert "1000 bytes" in caught.value.reason
        await ws.wait_closed()
    assert ends[0] is not None
    assert (ends[0].code, ends[0].sent) == (1009, caught.value.received)


async def test_a_generator_that_is_given_up_is_closed(server: Any) -> None:
    """Its cleanup has run when send() raises, and not when somebody collects it."""
    cleaned: list[str] = []

    async def pieces(who: str) -> AsyncIterator[Any]:
        try:
            yield 5
            yield "never"
        finally:
            await asyncio.sleep(0)
            cleaned.append(who)

    async def give_up(ws: Any, who: str) -> None:
        given = pieces(who)
        with pytest.raises(TypeError):
            await ws.send(given)
        assert cleaned[-1] == who
        await ws.send("still open")

    async def handler(ws: AioServer) -> None:
        await give_up(ws, "server")
        assert await ws.receive() == "still open"

    async with server(handler) as address, address.connect() as ws:
        assert await ws.receive() == "still open"
        await give_up(ws, "client")
    assert cleaned == ["server", "client"]


# ------------------------------------------------------ 4. Liveness is truthful


async def test_a_handler_that_only_sends_learns_that_the_client_left(server: Any) -> None:
    left = asyncio.Event()

    async def ticker(ws: AioServer) -> None:
        await ws.send("tick")
        await ws.wait_closed()
        assert not ws.connected
        with pytest.raises(ConnectionClosed):
            await ws.send("tock")
        left.set()

    async with server(ticker) as address:
        async with address.connect() as ws:
            assert await ws.receive() == "tick"
        await left.wait()


async def test_ping_measures_the_round_trip_both_ways(server: Any) -> None:
    keeper = Kept()
    async with server(keeper) as address, address.connect() as ws:
        assert ws.latency is None
        assert await ws.ping() > 0
        assert ws.latency is not None
        assert await (await keeper.ws).ping() > 0


async def test_ping_of_the_peer_is_answered_with_its_payload(server: Any) -> None:
    async with server(echo) as address:
        reader, writer = await raw(address, frame("abc", Opcode.PING))
        assert await reader.readexactly(5) == b"\x8a\x03abc"
        await gone(writer)


async def test_ping_between_fragments_is_answered_at_once(server: Any) -> None:
    async with server(echo) as address:
        reader, writer = await raw(address, frame("a", final=False) + frame("p", Opcode.PING))
        assert await reader.readexactly(3) == b"\x8a\x01p"
        writer.write(frame("b", Opcode.CONTINUATION))
        assert await reader.readexactly(4) == b"\x81\x02ab"
        await gone(writer)


async def test_ping_that_nobody_answers_times_out_and_closes_nothing(server: Any) -> None:
    keeper = Kept()
    async with server(keeper) as address:
        _, writer = await raw(address)
        ws = await keeper.ws
        with pytest.raises(TimeoutError):
            await ws.ping(timeout=0.001)
        assert ws.connected
        await gone(writer)


# --------------------------------------------------------- 5. Close is one path


@pytest.mark.parametrize("code", [1000, 1001, 1008, 1011, 1012, 1014, 3000, 4999])
async def test_codes_and_reasons_arrive_both_ways(server: Any, code: int) -> None:
    keeper = Kept()
    async with server(keeper) as address:
        ws = await address.connect()
        await ws.close(code, "bye é")
        other = await keeper.ws
        await other.wait_closed()
        for end in (ws, other):
            assert (end.close_code, end.close_reason) == (code, "bye é")
    keeper = Kept()
    async with server(keeper) as address:
        ws = await address.connect()
        await (await keeper.ws).close(code, "bye é")
        await ws.wait_closed()
        assert (ws.close_code, ws.close_reason) == (code, "bye é")


async def test_both_closes_are_kept_with_who_was_first(server: Any, asgi: bool) -> None:
    keeper = Kept()
    async with server(keeper) as address:
        ws = await address.connect()
        await ws.close(3000, "ours")
        other = await keeper.ws
        with pytest.raises(ConnectionClosed) as ours:
            await ws.receive()
        with pytest.raises(ConnectionClosed) as theirs:
            await other.receive()
        assert ours.value.sent == theirs.value.received == Close(3000, "ours")
        if not asgi:  # there the server answers a Close, and says nothing
            assert ours.value.received == theirs.value.sent == Close(3000)
        assert ours.value.explain().startswith("we closed")
        assert theirs.value.explain().startswith("the peer closed")


async def test_an_end_tells_what_was_waiting(server: Any) -> None:
    """Messages that nobody had received: the handler was busy with something else."""
    keeper = Kept()
    async with server(keeper) as address:
        ws = await address.connect()
        other = await keeper.ws
        for number in range(3):
            await ws.send(f"{number}")
        await until(lambda: other.stats.messages_waiting == 3)
        await ws.close(3000)
        await other.wait_closed()
        assert other.explain().endswith("; waiting then: 3 messages in the inbox")
        assert [await other.receive() for _ in range(3)] == ["0", "1", "2"]
        with pytest.raises(ConnectionClosed) as caught:
            await other.receive()
        assert caught.value.ending.waiting.messages == 3
        stats = other.stats
        assert (stats.messages_in, stats.messages_waiting) == (3, 0)
        assert stats.opened_at is not None
        assert stats.age > 0


async def test_close_is_idempotent_from_any_task_at_any_moment(server: Any) -> None:
    async with server(echo) as address:
        ws = await address.connect()
        await asyncio.gather(*(ws.close(3000 + n) for n in range(5)))
        await ws.close()
        assert ws.close_code == 3000


async def test_close_after_the_peer_left_does_nothing(server: Any) -> None:
    async def leave(ws: AioServer) -> None:
        await ws.close(3005)

    async with server(leave) as address:
        ws = await address.connect()
        await ws.wait_closed()
        await ws.close(1000)
        assert ws.close_code == 3005


@pytest.mark.parametrize(
    ("args", "kwargs", "expected"),
    [
        ((), {}, Close(1000)),
        ((3000,), {}, Close(3000)),
        ((3000, "why"), {}, Close(3000, "why")),
        (("why", 3000), {}, Close(3000, "why")),
        ((), {"reason": 3000, "message": "why"}, Close(3000, "why")),
        ((), {"code": 3000, "reason": "why"}, Close(3000, "why")),
        (("why",), {}, Close(1000, "why")),
    ],
)
async def test_close_takes_code_and_reason_in_either_order(
    server: Any, args: Any, kwargs: Any, expected: Close
) -> None:
    keeper = Kept()
    async with server(keeper) as address:
        ws = await address.connect()
        await ws.close(*args, **kwargs)
        other = await keeper.ws
        await other.wait_closed()
        assert Close(other.close_code or 0, other.close_reason or "") == expected


@pytest.mark.parametrize(
    ("args", "error"),
    [
        ((999,), ValueError),
        ((1004,), ValueError),
        ((1005,), ValueError),
        ((1006,), ValueError),
        ((1015,), ValueError),
        ((2000,), ValueError),
        ((5000,), ValueError),
        ((1000, "é" * 62), ValueError),
        ((1000, 1001), TypeError),
        (("a", "b"), TypeError),
        ((1000, b"bytes"), TypeError),
    ],
)
async def test_a_close_that_must_not_be_sent_is_refused(
    server: Any, args: Any, error: type[Exception]
) -> None:
    async with server(echo) as address, address.connect() as ws:
        with pytest.raises(error):
            await ws.close(*args)
        await ws.send("still open")
        assert await ws.receive() == "still open"


@pytest.mark.parametrize(
    ("broken", "code"),
    [
        (b"\xc1\x80\0\0\0\0", 1002),  # RSV1 without an extension
        (b"\x83\x80\0\0\0\0", 1002),  # reserved opcode
        (b"\x81\x01x", 1002),  # not masked
        (frame(b"\xff"), 1007),  # not UTF-8
        (frame("x", Opcode.CONTINUATION), 1002),
        (frame(b"\x03", Opcode.CLOSE), 1002),
        (close_frame(1005), 1002),
        (frame(b"\x03\xe8\xff", Opcode.CLOSE), 1007),
    ],
    ids=["rsv1", "opcode", "mask", "utf8", "continuation", "close-1", "close-1005", "close-utf8"],
)
async def test_a_broken_rule_has_its_code_on_the_wire_and_in_the_app(
    server: Any, broken: bytes, code: int
) -> None:
    keeper = Kept()
    async with server(keeper) as address:
        reader, writer = await raw(address, frame("before") + broken)
        ws = await keeper.ws
        assert await ws.receive() == "before"
        with pytest.raises(ConnectionClosed) as caught:
            await ws.receive()
        assert caught.value.code == code
        head = await reader.readexactly(4)
        assert head[0] == 0x88
        assert int.from_bytes(head[2:], "big") == code
        writer.close()
        await ws.wait_closed()
        await gone(writer)


async def test_end_of_tcp_without_a_close_is_1006(server: Any) -> None:
    keeper = Kept()
    async with server(keeper) as address:
        _, writer = await raw(address)
        ws = await keeper.ws
        await gone(writer)
        with pytest.raises(ConnectionClosed) as caught:
            await ws.receive()
        assert caught.value.code == 1006
        assert caught.value.received is None
        assert ws.exception() is not None
        await ws.wait_closed()


async def test_loop_raises_unless_the_end_was_normal(server: Any) -> None:
    code = 1000

    async def leave(ws: AioServer) -> None:
        await ws.close(code)

    async with server(leave) as address:
        for normal in (1000, 1001):
            code = normal
            ws = await address.connect()
            assert [item async for item in ws] == []
            assert ws.exception() is None
        code = 1008
        ws = await address.connect()
        with pytest.raises(ConnectionClosed):
            async for _ in ws:
                pass
        error = ws.exception()
        assert error is not None
        assert error.code == 1008


async def test_cleanups_run_once_in_order_whatever_ended_it(server: Any) -> None:
    for how in ("close", "abort", "peer"):
        keeper = Kept()
        async with server(keeper) as address:
            ws = await address.connect()
            calls: list[int] = []

            async def second(calls: list[int] = calls) -> None:
                await asyncio.sleep(0)
                calls.append(2)

            ws.add_cleanup(lambda calls=calls: calls.append(1))
            ws.add_cleanup(second)
            if how == "close":
                await ws.close()
            elif how == "abort":
                ws.abort()
            else:
                await (await keeper.ws).close()
            await ws.wait_closed()
            await ws.close()
            assert calls == [1, 2]
            ws.add_cleanup(lambda calls=calls: calls.append(3))
            await ws.wait_closed()
            assert calls == [1, 2, 3]


async def test_a_failing_cleanup_is_logged_and_keeps_no_other_from_running(
    server: Any, caplog: pytest.LogCaptureFixture
) -> None:
    async with server(echo) as address:
        ws = await address.connect()
        calls: list[int] = []

        def fail() -> None:
            raise RuntimeError("cleanup")

        ws.add_cleanup(fail)
        ws.add_cleanup(lambda: calls.append(1))
        await ws.close()
    assert calls == [1]
    assert [record.message for record in caplog.records if record.exc_info] == [
        f"cleanup {fail!r} of a connection failed"
    ]


async def test_context_manager_closes_with_1011_when_its_block_raises(server: Any) -> None:
    keeper = Kept()
    async with server(keeper) as address:
        with pytest.raises(LookupError):
            async with address.connect():
                raise LookupError
        other = await keeper.ws
        await other.wait_closed()
        assert other.close_code == 1011


# ---------------------------------------------------- 6. Order and atomicity


async def test_concurrent_senders_never_mix_and_keep_their_order(server: Any) -> None:
    sizes = (10, 30_000, 400_000)
    each = 6

    async def handler(ws: AioServer) -> None:
        async def send(kind: int) -> None:
            for number in range(each):
                text = f"{kind}:{number}:" + "x" * sizes[kind % 3]
                if kind == 3:
                    await ws.send([text[:5], text[5:]])
                else:
                    await ws.send(text)

        await asyncio.gather(*(send(kind) for kind in range(4)))

    async with server(handler) as address:
        ws = await address.connect()
        seen: dict[str, list[str]] = {}
        async for message in ws:
            kind, number, rest = message.split(":")  # type: ignore[arg-type]
            assert rest == "x" * sizes[int(kind) % 3]
            seen.setdefault(kind, []).append(number)
        assert seen == {str(kind): [str(n) for n in range(each)] for kind in range(4)}


async def test_two_receivers_is_an_error_that_names_both(server: Any) -> None:
    async with server(echo) as address, address.connect() as ws:
        first = asyncio.create_task(ws.receive(), name="first")
        await asyncio.sleep(0)
        second = asyncio.create_task(ws.receive(), name="second")
        with pytest.raises(WebSocketRuntimeError, match=r"'second'.*'first'"):
            await second
        await ws.send("for the first")
        assert await first == "for the first"


async def test_replies_to_a_batch_go_out_in_order(server: Any) -> None:
    async with server(echo) as address, address.connect() as ws:
        for number in range(500):
            await ws.send(str(number))
        assert [await ws.receive() for _ in range(500)] == [str(n) for n in range(500)]


async def test_an_abandoned_fragmented_message_closes_with_1011(server: Any) -> None:
    keeper = Kept()
    async with server(keeper) as address:
        ws = await address.connect()

        def pieces() -> Iterable[str]:
            yield "one"
            raise LookupError

        with pytest.raises(LookupError):
            await ws.send(pieces())
        other = await keeper.ws
        with pytest.raises(ConnectionClosed) as caught:
            await other.receive()
        assert caught.value.code == 1011
        await ws.wait_closed()


# --------------------------------------------------------------------- facts


async def test_subprotocol_is_the_clients_first_that_the_server_speaks(server: Any) -> None:
    keeper = Kept()
    async with server(keeper, subprotocols=["b", "a"]) as address:
        async with address.connect(subprotocols=["x", "a", "b"]) as ws:
            assert ws.subprotocol == "a"
            assert (await keeper.ws).subprotocol == "a"
            assert (await keeper.ws).request.subprotocols == ("x", "a", "b")


async def test_attributes_of_the_seed(server: Any) -> None:
    async with server(echo) as address:
        ws = await address.connect(receive_bytes=512, ping_interval=30, max_message_size=99)
        assert (ws.receive_bytes, ws.ping_interval, ws.max_message_size) == (512, 30, 99)
        assert isinstance(ws.rsock, asyncio.StreamReader)
        assert isinstance(ws.wsock, asyncio.StreamWriter)
        assert ws.connected is True
        assert not ws.event.is_set()
        await ws.send("x")
        await ws.event.wait()
        assert await ws.receive() == "x"
        assert not ws.event.is_set()
        await ws.close()
        assert ws.event.is_set()
        assert ws.connected is False
        await ws.wsock.wait_closed()


async def test_nothing_is_left_of_a_closed_connection(server: Any) -> None:
    ends: list[weakref.ref[Any]] = []

    async def handler(ws: AioServer) -> None:
        ends.append(weakref.ref(ws))
        await echo(ws)

    async with server(handler) as address:
        for _ in range(3):
            async with address.connect() as ws:
                ends.append(weakref.ref(ws))
                await ws.send("x")
                await ws.receive()
        del ws

    def left() -> list[object]:
        gc.collect()
        return [end for end in ends if end() is not None]

    assert len(ends) == 6
    # The last one's transport still has its own goodbye to say.
    await until(lambda: not left())
