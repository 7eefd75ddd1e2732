"""The inbox: bounded, and never in the way of a message."""

from __future__ import annotations

import asyncio
import contextlib
import random
import sys

import pytest

from simplews import AioServer, ConnectionClosed, WebSocketRuntimeError
from simplews.link.inbox import Inbox
from simplews.link.options import QueueMarks
from simplews.protocol.frames import Fragment

from ..peer import (
    BINARY,
    CONTINUATION,
    PING,
    PONG,
    ROLES,
    TEXT,
    close_frame,
    frame,
    opened,
    settled,
    until,
)


async def test_text_outside_ascii_does_not_fill_the_inbox_for_good() -> None:
    """Bytes go in and characters come out; the account of the two must close."""
    text = "漢" * 100
    async with opened() as (ws, peer):
        for _ in range(80):
            await peer.write(frame(TEXT, text) * 100)
            for _ in range(100):
                assert await ws.receive() == text
        assert not ws._inbox.paused


@pytest.mark.whole
@pytest.mark.parametrize("role", ROLES)
@pytest.mark.parametrize("beside", ["x", "я", "😀"])
@pytest.mark.parametrize("how", ["whole", "fragments", "stream"])
async def test_inbox_is_bounded_in_memory_and_not_in_utf8(
    role: type, beside: str, how: str
) -> None:
    """One emoji makes Python keep four bytes for each ASCII character beside it."""
    text = "x" * 60_000 + beside
    size = sys.getsizeof(text)
    total = 80  # five megabytes of UTF-8
    async with opened(role) as (ws, peer):
        stream = None
        if how == "stream":
            stream = ws.receive_stream()
            reading = asyncio.ensure_future(anext(stream))
            await settled()
        ends = [text] if how == "whole" else [text[:1000], text[1000:]]

        async def feed() -> None:
            for number in range(total):
                for place, part in enumerate(ends):
                    first = place == 0 and (number == 0 or how != "stream")
                    fin = place == len(ends) - 1 and (number == total - 1 or how != "stream")
                    await peer.send(TEXT if first else CONTINUATION, part, fin=fin)

        feeding = asyncio.ensure_future(feed())
        await until(lambda: ws._inbox.paused)
        await settled()
        marks = QueueMarks()
        held = [getattr(message, "data", message) for message in ws._messages]
        assert marks.high_bytes < sum(map(sys.getsizeof, held)) < marks.high_bytes + 2 * size
        assert len(held) > 3  # it is filled
        got = 0
        if stream is None:
            for _ in range(total):
                got += len(await ws.receive())
        else:
            got += len(await reading)
            async for piece in stream:
                got += len(piece)
        assert got == total * len(text)
        await feeding
        assert ws._inbox.room == marks.high_bytes  # the account closes
        assert not ws._inbox.paused


@pytest.mark.parametrize("role", ROLES)
@pytest.mark.parametrize("header", [b"\x81", b"\x81\x7e", b"\x82\x7f\0\0\0"])
@pytest.mark.parametrize("how", ["finish", "reset"])
async def test_the_end_inside_a_header_wakes_the_reader(
    role: type, header: bytes, how: str
) -> None:
    mask = 0x80 if role is AioServer else 0
    async with opened(role) as (ws, peer):
        reading = asyncio.ensure_future(ws.receive())
        await peer.write(header[:1] + bytes(b | mask for b in header[1:2]) + header[2:])
        await settled()
        getattr(peer, how)()
        with pytest.raises(ConnectionClosed) as caught:
            await reading
        assert caught.value.code == 1006
        assert ws.event.is_set()


@pytest.mark.parametrize("role", ROLES)
@pytest.mark.parametrize("count", [3, 64, 255, 256, 257, 2000])
@pytest.mark.parametrize("half", [b"", b"\x81"], ids=["whole", "half"])
async def test_what_came_before_the_end_is_delivered(role: type, count: int, half: bytes) -> None:
    """Also what waits behind a full inbox when TCP ends, and half a frame behind that."""
    async with opened(role, max_queue=256) as (ws, peer):
        numbers = [frame(TEXT, str(n), mask=peer.masks) for n in range(count)]
        await peer.write(b"".join(numbers) + half)
        peer.finish()
        await settled()
        got = []
        with pytest.raises(ConnectionClosed) as caught:
            while True:
                got.append(await ws.receive())
        assert got == [str(number) for number in range(count)]
        assert caught.value.code == 1006


@pytest.mark.parametrize("role", ROLES)
@pytest.mark.parametrize("count", [0, 3, 256, 300, 2000])
async def test_what_came_before_a_close_is_delivered_and_so_is_the_close(
    role: type, count: int
) -> None:
    async with opened(role, max_queue=256) as (ws, peer):
        numbers = [frame(TEXT, str(n), mask=peer.masks) for n in range(count)]
        await peer.write(b"".join(numbers) + close_frame(3001, "bye", mask=peer.masks))
        peer.finish()
        got = []
        with pytest.raises(ConnectionClosed) as caught:
            while True:
                got.append(await ws.receive())
        assert got == [str(number) for number in range(count)]
        assert (caught.value.code, caught.value.reason) == (3001, "bye")
        await ws.wait_closed()


@pytest.mark.parametrize("role", ROLES)
@pytest.mark.parametrize("last", ["close", "nothing"])
async def test_messages_and_the_end_in_the_segment_of_the_handshake(role: type, last: str) -> None:
    masked = role is AioServer
    more = b"".join(frame(TEXT, str(number), mask=masked) for number in range(300))
    if last == "close":
        more += close_frame(1000, "done", mask=masked)
    async with opened(role, more=more, finish=True, max_queue=10) as (ws, _):
        got = []
        with pytest.raises(ConnectionClosed) as caught:
            while True:
                got.append(await ws.receive())
        assert got == [str(number) for number in range(300)]
        assert caught.value.code == (1000 if last == "close" else 1006)
        await ws.wait_closed()


@pytest.mark.parametrize("way", ["cancel", "timeout", "wait_for", "nothing"])
async def test_10_000_cancelled_receives_lose_nothing(way: str) -> None:
    """They are cancelled before, while and after a message comes for them."""
    draw = random.Random(way)
    total = 3000
    async with opened() as (ws, peer):

        async def feed() -> None:
            for number in range(total):
                await peer.send(TEXT, str(number))
                for _ in range(draw.randrange(4)):
                    await asyncio.sleep(0)

        feeding = asyncio.ensure_future(feed())
        got: list[str] = []
        tries = 0
        while len(got) < total:
            tries += 1
            if tries > 10_000:
                got.append(await ws.receive())
            elif way == "cancel":
                task = asyncio.ensure_future(ws.receive())
                for _ in range(draw.randrange(5)):
                    await asyncio.sleep(0)
                task.cancel()
                await asyncio.wait([task])
                if not task.cancelled():
                    got.append(task.result())
            elif way == "timeout":
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(draw.choice([0, 0, 1e-6, 0.001])):
                        got.append(await ws.receive())
            elif way == "wait_for":
                message = await ws.receive(timeout=draw.choice([0, 1e-6, 0.001]))
                if message is not None:
                    got.append(message)
            else:
                got.append(await ws.receive())
        assert got == [str(number) for number in range(total)]
        await feeding


async def test_receive_with_timeout_0_looks_at_the_socket() -> None:
    """A loop that polls sees what arrives, and lets other tasks run."""
    async with opened() as (ws, peer):
        assert await ws.receive(timeout=0) is None
        await peer.send(TEXT, "x")
        tries = 0
        while (message := await ws.receive(timeout=0)) is None:
            tries += 1
            assert tries < 10
        assert message == "x"
        assert await ws.receive(timeout=-1) is None


async def test_receive_timeout_is_the_default_of_receive() -> None:
    loop = asyncio.get_running_loop()
    async with opened(receive_timeout=5) as (ws, peer):
        began = loop.time()
        assert await ws.receive() is None
        assert loop.time() == pytest.approx(began + 5)
        with pytest.raises(TimeoutError):
            await ws.receive_text()
        assert loop.time() == pytest.approx(began + 10)
        assert await ws.receive(timeout=1) is None
        assert loop.time() == pytest.approx(began + 11)
        waiting = asyncio.ensure_future(ws.receive(timeout=None))
        await asyncio.sleep(100)
        await peer.send(TEXT, "late")
        assert await waiting == "late"


async def test_two_receivers_are_an_error_that_names_both() -> None:
    # In debug mode a task goes on in the next iteration of the loop.
    asyncio.get_running_loop().set_debug(True)
    async with opened() as (ws, peer):
        first = asyncio.create_task(ws.receive(), name="first")
        await settled()
        second = asyncio.create_task(ws.receive(), name="second")
        with pytest.raises(WebSocketRuntimeError, match=r"'second'.*'first'"):
            await second
        streaming = asyncio.create_task(anext(ws.receive_stream()), name="third")
        with pytest.raises(WebSocketRuntimeError, match=r"'third'.*'first'"):
            await streaming
        # It came, and is the first one's, though that has not run yet.
        await peer.send(TEXT, "x")
        await until(lambda: ws._messages)
        with pytest.raises(WebSocketRuntimeError):
            await ws.receive()
        assert await first == "x"
        await peer.send(TEXT, "y")
        assert await ws.receive() == "y"


async def test_an_app_that_does_not_receive_stops_the_peer_and_only_that_one() -> None:
    """Messages and bytes are bounded, and the rest stays in the kernel."""
    async with opened(tcp=True) as (ws, peer), opened() as (other, quick):
        data = frame(BINARY, bytes(1000)) * 1000
        sent = 0
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(1):
                while True:
                    await peer.write(data)
                    sent += len(data)
        assert len(ws._messages) <= 256
        assert ws.stats.bytes_in < 600_000
        await quick.send(TEXT, "x")
        assert await other.receive() == "x"
        # And it is all there when the app goes on.
        for _ in range(sent // 1008 - 100):
            assert await ws.receive() == bytes(1000)


async def test_bytes_in_the_inbox_are_bounded_whatever_was_read_before() -> None:
    """Neither streams nor text skew the account of what the inbox holds."""
    async with opened(tcp=True) as (ws, peer):
        for _ in range(30):
            # The stream begins when a part of its message is there already.
            await peer.send(TEXT, "é" * 30_000, fin=False)
            await until(lambda: ws._link._decoder.in_message)
            await settled()
            stream = ws.receive_stream()
            assert await anext(stream)
            await stream.aclose()
            await peer.send(0, "é" * 30_000)
        await peer.send(TEXT, "x")
        assert await ws.receive() == "x"
        before = ws.stats.bytes_in
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(1):
                while True:
                    await peer.send(BINARY, bytes(20_000))
        assert ws.stats.bytes_in - before < 1_500_000


async def test_the_event_tells_whether_there_is_something_to_receive() -> None:
    async with opened() as (ws, peer):
        assert not ws.event.is_set()
        await peer.send(TEXT, "a")
        await peer.send(TEXT, "b")
        await ws.event.wait()
        await until(lambda: len(ws._messages) == 2)
        await ws.receive()
        assert ws.event.is_set()
        await ws.receive()
        assert not ws.event.is_set()
        await peer.send(TEXT, "c")
        await peer.send_close(1000)
        await until(lambda: not ws.connected)
        await ws.receive()
        assert ws.event.is_set()
        with pytest.raises(ConnectionClosed):
            await ws.receive()
        assert ws.event.is_set()


async def test_pings_are_answered_while_messages_wait() -> None:
    async with opened() as (ws, peer):
        await peer.write(frame(TEXT, "a") * 100 + frame(PING, "now"))
        assert await peer.frame() == (PONG, b"now")
        for _ in range(100):
            assert await ws.receive() == "a"


@pytest.mark.parametrize(
    "first, flood",
    [
        (b"", frame(PING)),
        (b"", frame(PONG)),
        (frame(BINARY, fin=False), frame(CONTINUATION, fin=False)),
        (frame(TEXT, fin=False), frame(CONTINUATION, b"x", fin=False)),
    ],
    ids=["pings", "pongs", "empty fragments", "fragments of a byte"],
)
async def test_a_flood_that_makes_no_message_lets_others_have_their_turn(
    first: bytes, flood: bytes
) -> None:
    """Reads stay small where their frames are: 256 KiB of Pings took 0.2 s."""
    data = first + flood * (1 << 16)
    async with opened(tcp=True) as (ws, peer):

        async def reads_pongs() -> None:
            while await peer.sock_read():
                pass

        tasks = [asyncio.ensure_future(peer.write(data)), asyncio.ensure_future(reads_pongs())]
        most = 0
        while (before := ws.stats.bytes_in) < len(data):
            await asyncio.sleep(0)
            most = max(most, ws.stats.bytes_in - before)
        assert most <= 32768
        tasks[1].cancel()
        await asyncio.wait(tasks)
        assert ws.connected


async def test_a_stream_left_early_is_dropped_under_one_who_waits() -> None:
    """
    Its generator is closed later, when the garbage collector or the loop gets to it.

    By then receive() may wait, and have been woken for what came meanwhile.
    """

    class Source:
        def pause_reading(self) -> None: ...

        def resume_reading(self) -> None: ...

    inbox = Inbox(asyncio.get_running_loop(), QueueMarks(16, 4, 1000, 100), Source())

    async def waits() -> None:
        await inbox.wait(None)

    task = asyncio.create_task(waits())
    await asyncio.sleep(0)
    inbox.messages.append(Fragment("the rest", False))
    inbox.arrived(8)
    inbox.wake()
    inbox.drop_fragments()
    assert not inbox.messages
    with pytest.raises(WebSocketRuntimeError):
        inbox.check_single_reader()
    await task
