"""Sending: order, atomicity, backpressure, and who wakes a sender that waits."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import random
import socket
import sys
import tracemalloc
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from typing import Any

import pytest

from simplews import AioBase, ConnectionClosed

from ..peer import (
    BINARY,
    CLOSE,
    CONTINUATION,
    PING,
    PONG,
    ROLES,
    TEXT,
    Peer,
    close_frame,
    frame,
    opened,
    settled,
    until,
)


async def fill(ws: AioBase) -> asyncio.Task[None]:
    """Send until the peer, which does not read, makes us wait."""

    async def send() -> None:
        while True:
            await ws.send(b"x" * 4096)

    task = asyncio.create_task(send())
    await until(lambda: ws._link._outbox.paused)  # type: ignore[attr-defined]
    await settled()
    return task


async def join_messages(peer: Peer) -> AsyncIterator[tuple[int, bytes]]:
    """Messages joined from the frames that come, as RFC 6455 §5.4 has it; control frames too."""
    kind, parts = 0, []
    while (found := await peer.whole_frame()) is not None:
        opcode, final = found[0] & 0x0F, found[0] & 0x80
        if opcode >= CLOSE:
            yield opcode, found[1]
            continue
        assert (opcode == CONTINUATION) == bool(kind), "a message inside another"
        kind = kind or opcode
        parts.append(found[1])
        if final:
            yield kind, b"".join(parts)
            kind, parts = 0, []


@pytest.mark.parametrize("role", ROLES)
@pytest.mark.parametrize("end", ["finish", "reset", "close", "ours", "abort"])
@pytest.mark.parametrize("kind", ["short", "large", "fragments", "turn"])
async def test_a_blocked_send_is_woken_by_the_end(role: type, end: str, kind: str) -> None:
    """Whatever it waits for, and a connection never stays behind for want of a reader."""
    async with opened(role, close_timeout=5) as (ws, peer):

        async def slow_fragments() -> AsyncIterator[str]:
            yield "first"
            await asyncio.sleep(10_000)

        async def sends() -> None:
            if kind in ("fragments", "turn"):
                await ws.send(slow_fragments())
            elif kind == "large":
                await ws.send(b"x" * 30_000_000)
            else:
                await fill_up()

        async def fill_up() -> None:
            while True:
                await ws.send(b"x" * 4096)

        sending = [asyncio.create_task(sends())]
        await settled()
        if kind == "turn":
            sending.append(asyncio.create_task(ws.send("behind it")))
        await settled()
        assert not any(task.done() for task in sending)
        if end == "close":
            await peer.send_close(1000)
        elif end == "ours":
            sending.append(asyncio.create_task(ws.close()))
        elif end == "abort":
            ws.abort()
        else:
            getattr(peer, end)()
        async with asyncio.timeout(20):
            for task in sending[: 2 if kind == "turn" else 1]:
                with pytest.raises(ConnectionClosed):
                    await task
            await ws.wait_closed()
            await asyncio.wait(sending)


@pytest.mark.parametrize("role", ROLES)
@pytest.mark.parametrize("end", ["ours", "close"])
async def test_who_waits_behind_a_large_frame_is_woken_at_once(role: type, end: str) -> None:
    """Though the frame goes on as long as the peer takes it: half of one would break the rules."""
    async with opened(role, close_timeout=5) as (ws, peer):
        large = asyncio.create_task(ws.send(b"x" * 30_000_000))
        await settled()
        behind = [asyncio.create_task(ws.send(text)) for text in ("one", "two")]
        await settled()
        began = asyncio.get_running_loop().time()
        if end == "ours":
            closing = asyncio.create_task(ws.close())
        else:
            closing = asyncio.create_task(peer.send_close(1000))
        for task in behind:
            with pytest.raises(ConnectionClosed):
                await task
        assert asyncio.get_running_loop().time() == pytest.approx(began, abs=0.1)
        with pytest.raises(ConnectionClosed):
            await ws.send(bytearray(b"and who comes later"))
        assert not large.done()
        ws.abort()
        await asyncio.wait([large, closing])
        assert isinstance(large.exception(), ConnectionClosed)


@pytest.mark.parametrize("role", ROLES)
async def test_concurrent_sends_keep_their_order_and_never_mix(role: type) -> None:
    """Short, large and fragmented ones from ten tasks, with Pings in the midst of it all."""
    async with opened(role) as (ws, peer):

        async def fragments(name: bytes, draw: random.Random) -> AsyncIterator[bytes]:
            yield name
            for _ in range(3):
                for _ in range(draw.randrange(3)):
                    await asyncio.sleep(0)
                yield bytes(draw.choice([0, 10, 40_000]))

        async def sender(task: int) -> None:
            draw = random.Random(task)
            for number in range(20):
                name = b"%d %d " % (task, number)
                size = draw.choice([0, 100, 20_000, 400_000])
                if draw.randrange(3):
                    await ws.send(name + bytes(size))
                else:
                    await ws.send(fragments(name, draw))

        async def pinger() -> None:
            for number in range(30):
                await peer.send(PING, b"%d" % number)
                await asyncio.sleep(0)

        async def everything() -> None:
            await asyncio.gather(*map(sender, range(10)), pinger())
            await ws.close()

        tasks = asyncio.create_task(everything())
        order: dict[int, list[int]] = {}
        async for opcode, data in join_messages(peer):
            if opcode == CLOSE:
                await peer.send_close(1000)
            elif opcode == BINARY:
                task, number, _ = data.split(b" ", 2)
                order.setdefault(int(task), []).append(int(number))
            else:
                assert opcode == PONG
            if opcode == CLOSE and role.__name__ == "AioClient":
                peer.finish()
        await tasks
        assert order == {task: list(range(20)) for task in range(10)}


async def test_a_cancelled_large_send_is_completed() -> None:
    async with opened() as (ws, peer):
        task = asyncio.create_task(ws.send(b"x" * 5_000_000))
        await settled()
        task.cancel()
        await asyncio.wait([task])
        assert task.cancelled()
        sending = asyncio.create_task(ws.send("next"))
        assert await peer.frame() == (BINARY, b"x" * 5_000_000)
        assert await peer.frame() == (TEXT, b"next")
        await sending


async def test_a_send_that_is_cancelled_while_it_waits_sends_nothing() -> None:
    async with opened() as (ws, peer):
        blocked = await fill(ws)
        waiting = [asyncio.create_task(ws.send(f"{number}")) for number in range(10)]
        await settled()
        for task in waiting[::2]:
            task.cancel()
        blocked.cancel()
        got: list[bytes] = []
        while len(got) < 5:
            found = await peer.frame()
            assert found is not None
            if found[0] == TEXT:
                got.append(found[1])
        assert got == [b"1", b"3", b"5", b"7", b"9"]
        await asyncio.wait([blocked, *waiting])
        assert [task.cancelled() for task in waiting] == [True, False] * 5


@pytest.mark.parametrize("role", ROLES)
@pytest.mark.parametrize("compression", [None, "deflate"])
@pytest.mark.parametrize("size", [10, 3_000_000])
async def test_a_message_in_fragments_that_is_cancelled_closes_with_1011(
    role: type, compression: str | None, size: int
) -> None:
    """From its first byte on, and the frame that was being written is whole."""
    async with opened(role, compression=compression) as (ws, peer):

        async def fragments() -> AsyncIterator[bytes]:
            yield bytes(size)
            await asyncio.sleep(10_000)

        task = asyncio.create_task(ws.send(fragments()))
        await settled()
        task.cancel()
        await asyncio.wait([task])
        assert task.cancelled()
        with pytest.raises(ConnectionClosed) as caught:
            await ws.send("after")
        assert caught.value.sent is not None
        assert caught.value.sent.code == 1011
        first = await peer.frame()
        assert first is not None
        assert first == (BINARY, bytes(size))
        closing = await peer.frame()
        assert closing is not None
        assert closing[0] == CLOSE
        assert closing[1][:2] == (1011).to_bytes(2, "big")


class Given:
    """Fragments, and what became of the generator that gives them."""

    def __init__(self, piece: object = b"x" * 100_000) -> None:
        self.piece = piece
        self.asked = 0
        self.closed: list[str] = []
        self.cleanup: Callable[[], Awaitable[None]] = settled

    async def pieces(self) -> AsyncIterator[Any]:
        try:
            while True:
                self.asked += 1
                yield self.piece
        finally:
            self.closed.append("begun")
            await self.cleanup()
            self.closed.append("done")

    def steps(self) -> Iterator[Any]:
        try:
            while True:
                self.asked += 1
                yield self.piece
        finally:
            self.closed += ["begun", "done"]


@pytest.mark.parametrize("role", ROLES)
@pytest.mark.parametrize("how", ["cancelled", "lost", "closed", "TypeError"])
@pytest.mark.parametrize("kind", ["pieces", "steps"])
async def test_a_generator_of_fragments_that_is_given_up_is_closed(
    role: type, how: str, kind: str
) -> None:
    """Before send() ends, and though somebody still holds it."""
    async with opened(role, close_timeout=1) as (ws, peer):
        given = Given(None if how == "TypeError" else b"x" * 100_000)
        generator = getattr(given, kind)()
        sending = asyncio.create_task(ws.send(generator))
        if how != "TypeError":
            await until(lambda: ws._link._outbox.paused)
            await settled()
            assert not given.closed
        if how == "cancelled":
            sending.cancel()
        elif how == "lost":
            peer.sock.close()
        elif how == "closed":
            await ws.close()
        await asyncio.wait([sending])
        assert given.closed == ["begun", "done"]
        if how == "cancelled":
            assert sending.cancelled()
        else:
            expected = TypeError if how == "TypeError" else ConnectionClosed
            assert type(sending.exception()) is expected
        assert generator is not None


async def test_a_generator_that_was_not_asked_yet_stays_the_callers() -> None:
    """Nothing of the message has been sent, and it may be sent again."""
    async with opened() as (ws, _):
        first = Given()
        sending = asyncio.create_task(ws.send(first.pieces()))
        await until(lambda: ws._link._outbox.paused)

        async def fragments() -> AsyncIterator[str]:
            yield "again"

        generator = fragments()
        waiting = asyncio.create_task(ws.send(generator))
        await settled()
        waiting.cancel()
        await asyncio.wait([waiting])
        assert [piece async for piece in generator] == ["again"]
        sending.cancel()
        await asyncio.wait([sending])


@pytest.mark.parametrize("bad", [TimeoutError("mine"), ValueError("mine")])
async def test_a_generators_cleanup_may_fail(bad: Exception) -> None:
    """As in any ``finally``: its error is what surfaces."""

    async def cleanup() -> None:
        raise bad

    async with opened() as (ws, _):
        given = Given(None)
        given.cleanup = cleanup
        with pytest.raises(type(bad), match="mine"):
            await ws.send(given.pieces())
        await ws.send("still open")


async def test_a_generators_cleanup_has_close_timeout_and_delays_nobody() -> None:
    """It waits for ever, and is cancelled; others send meanwhile."""
    loop = asyncio.get_running_loop()
    async with opened(close_timeout=7) as (ws, peer):
        given = Given(None)
        given.cleanup = asyncio.Event().wait  # type: ignore[assignment]
        began = loop.time()
        sending = asyncio.create_task(ws.send(given.pieces()))
        await until(lambda: given.closed)
        await ws.send("others")
        assert loop.time() == began
        with pytest.raises(TypeError):
            await sending
        assert loop.time() == pytest.approx(began + 7)
        assert given.closed == ["begun"]
        assert await peer.frame() == (TEXT, b"others")


@pytest.mark.parametrize("bad", [ValueError("mine"), TimeoutError("mine")])
async def test_the_error_of_a_fragment_source_surfaces_as_it_is(bad: Exception) -> None:
    async with opened() as (ws, peer):

        async def fails_at_once() -> AsyncIterator[str]:
            raise bad
            yield ""

        with pytest.raises(type(bad), match="mine"):
            await ws.send(fails_at_once())
        await ws.send("still open")
        assert await peer.frame() == (TEXT, b"still open")


@pytest.mark.parametrize("kind", ["large", "paused"])
async def test_no_pong_follows_a_close(kind: str) -> None:
    """RFC 6455 §5.5.1, also for the Pong that waited while the peer did not read."""
    async with opened() as (ws, peer):
        if kind == "large":
            task = asyncio.create_task(ws.send(b"x" * 3_000_000))
        else:
            task = await fill(ws)
        await settled()
        await peer.send(PING, "!")
        await until(lambda: ws._link._outbox._pong is not None)
        closing = asyncio.create_task(ws.close())
        await settled()
        opcodes = []
        while (found := await peer.frame()) is not None:
            opcodes.append(found[0])
            if found[0] == CLOSE:
                await peer.send_close(1000)
        assert opcodes[-1] == CLOSE
        assert PONG not in opcodes
        await asyncio.wait([task, closing])
        assert isinstance(task.exception(), ConnectionClosed) or kind == "large"


async def test_no_pong_follows_a_failure() -> None:
    """Our side of TCP has ended behind the Close: a write would be an error of ours."""
    async with opened() as (ws, peer):
        task = await fill(ws)
        await peer.send(PING, "!")
        await until(lambda: ws._link._outbox._pong is not None)
        await peer.send(3)
        opcodes = [opcode for opcode, _ in await peer.frames()]
        assert opcodes[-1] == CLOSE
        assert PONG not in opcodes
        with pytest.raises(ConnectionClosed):
            await task


@pytest.mark.parametrize("end", ["fin", "reset"])
async def test_a_task_that_only_sends_notices_the_end(end: str) -> None:
    """The peer takes all of it, so nothing blocks; then it is gone. No noise on the way."""
    async with opened(tcp=True) as (ws, peer):
        got = 0

        async def take() -> None:
            nonlocal got
            while got < 3_000_000:
                got += len(await peer.sock_read())
            if end == "fin":
                peer.sock.close()
            else:
                peer.reset()

        taking = asyncio.create_task(take())
        with pytest.raises(ConnectionClosed):
            for _ in range(1_000_000):
                await ws.send("x" * 100)
        assert taking.done()


async def test_a_task_that_only_sends_sees_the_close_of_a_peer_that_takes_everything() -> None:
    async with opened(tcp=True) as (ws, peer):
        await peer.send_close(1000, "enough")
        ws._link._transport.write = lambda data: None  # a peer that takes it all at once
        with pytest.raises(ConnectionClosed, match="enough"):
            for _ in range(1000):
                await ws.send("x")


@pytest.mark.parametrize("role", ROLES)
async def test_a_peer_that_does_not_read_costs_no_memory(role: type) -> None:
    """500 MB are sent; what is in memory stays below 4 MB, and the sender just waits."""
    async with opened(role) as (ws, _):
        gc.collect()
        tracemalloc.start()
        try:

            async def send() -> None:
                for _ in range(500):
                    await ws.send(b"x" * 1_000_000)

            tasks = [asyncio.create_task(send()) for _ in range(3)]
            await asyncio.sleep(60)
            assert tracemalloc.get_traced_memory()[1] < 8_000_000  # three messages of 1 MB wait
        finally:
            tracemalloc.stop()
        ws.abort()
        await asyncio.wait(tasks)
        for task in tasks:
            assert isinstance(task.exception(), ConnectionClosed)


@pytest.mark.parametrize("role", ROLES)
async def test_a_long_message_is_not_joined_to_its_header(role: type) -> None:
    """What the socket does not take is copied once, by the transport, and nothing else is."""
    size = 1_000_000
    payload = random.randbytes(size)
    async with opened(role) as (ws, peer):
        sock = ws._link._transport.get_extra_info("socket")  # type: ignore[attr-defined]
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 65536)
        gc.collect()
        tracemalloc.start()
        try:
            sending = asyncio.create_task(ws.send(payload))
            await until(lambda: ws._link._outbox.paused)  # type: ignore[attr-defined]
            assert tracemalloc.get_traced_memory()[1] < 1.5 * size
        finally:
            tracemalloc.stop()
        assert await peer.frame() == (BINARY, payload)
        await sending
        await ws.send(b"behind it")
        assert await peer.frame() == (BINARY, b"behind it")


@pytest.mark.parametrize("role", ROLES)
async def test_a_flood_of_pings_costs_no_memory(role: type) -> None:
    """Their Pongs are not read: one waits, for the newest Ping (RFC 6455 §5.5.3)."""
    async with opened(role) as (ws, peer):
        burst = frame(PING, b"x" * 125, mask=peer.masks) * 400
        gc.collect()
        tracemalloc.start()
        try:
            before = ws.stats.bytes_in
            for _ in range(200):
                await peer.write(burst)
            await peer.send(PING, "newest")
            await until(lambda: ws.stats.bytes_in - before > 200 * len(burst) + 6)
            assert tracemalloc.get_traced_memory()[1] < 2_000_000
        finally:
            tracemalloc.stop()
        sending = asyncio.create_task(ws.send("x"))
        pongs = []
        while (found := await peer.frame()) != (TEXT, b"x"):
            assert found is not None
            pongs.append(found)
        await sending
        assert pongs[-1] == (PONG, b"newest")


async def test_the_streams_of_the_handshake_follow_what_becomes_of_the_transport() -> None:
    """wsock.drain() waits and is woken, and wsock.wait_closed() ends with the connection."""
    async with opened() as (ws, peer):
        await ws.wsock.drain()
        sending = await fill(ws)
        draining = asyncio.create_task(ws.wsock.drain())
        closing = asyncio.create_task(ws.wsock.wait_closed())
        await settled()
        assert not draining.done()
        assert not closing.done()
        reading = asyncio.create_task(peer.frames())
        await draining
        sending.cancel()
        await asyncio.wait([sending])
        ws.abort()
        await closing
        await asyncio.gather(reading, return_exceptions=True)  # half a frame, perhaps
        assert await ws.rsock.read() == b""


@pytest.mark.skipif(sys.platform == "win32", reason="a proactor is never filled to the brim")
async def test_what_is_written_in_resuming_pauses_the_streams_again() -> None:
    """
    A Pong waits until the transport goes on, and then finds the kernel full once more.

    The transport says so while it still tells us to go on: wsock must hear the two in
    their order, or its drain() would not wait, and the next resuming would be an error.
    """
    for size in range(500, 12_000, 500):  # which of them fills the kernel just so, it knows
        async with opened(write_limit=1) as (ws, peer):
            transport = ws.wsock.transport
            transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1)
            while not transport.get_write_buffer_size():
                await ws.send(bytes(size))
            await peer.send(PING, bytes(125))
            await settled()
            while transport.get_write_buffer_size() > 127:
                await peer.sock_read()
                await settled()
            if transport.get_write_buffer_size() < 127:
                continue  # the kernel has taken the Pong
            draining = asyncio.create_task(ws.wsock.drain())
            await settled()
            assert not draining.done()
            while not draining.done():
                await peer.sock_read()
                await settled()
            await draining
            await ws.send("goes on")
            return
    pytest.fail("the kernel was never full")


@pytest.mark.parametrize("end", ["lost", "close"])
async def test_draining_wsock_is_woken_by_the_end(end: str) -> None:
    async with opened(close_timeout=1) as (ws, peer):
        sending = await fill(ws)
        draining = asyncio.create_task(ws.wsock.drain())
        await settled()
        if end == "lost":
            peer.sock.close()
        else:
            await ws.close()
        await asyncio.wait([draining, sending])
        with contextlib.suppress(ConnectionError):
            draining.result()
        with pytest.raises(ConnectionClosed):
            sending.result()


async def test_closing_the_transport_under_us_ends_the_connection() -> None:
    """Somebody calls wsock.close(): readers and senders are woken, with 1006."""
    async with opened() as (ws, _):
        reading = asyncio.create_task(ws.receive())
        await settled()
        ws.wsock.close()
        with pytest.raises(ConnectionClosed) as caught:
            for _ in range(100):
                await ws.send("x")
        assert caught.value.code == 1006
        with pytest.raises(ConnectionClosed):
            await reading
        await ws.wait_closed()


async def test_frames_of_a_batch_keep_their_order() -> None:
    """Replies are held while more messages wait; nothing overtakes them."""
    async with opened() as (ws, peer):
        await peer.write(b"".join(frame(TEXT, str(n)) for n in range(200)) + frame(PING, "p"))
        await until(lambda: len(ws._messages) == 200)
        for _ in range(200):
            await ws.send(await ws.receive())
        found = [await peer.frame() for _ in range(201)]
        assert [f[1] for f in found if f and f[0] == TEXT] == [b"%d" % n for n in range(200)]


async def test_replies_that_are_held_go_out_without_another_call() -> None:
    """The handler answers one of many and then waits for something else."""
    async with opened() as (ws, peer):
        await peer.write(frame(TEXT, "x") * 10)
        await ws.receive()
        await ws.send("answer")
        assert await peer.frame() == (TEXT, b"answer")


async def test_held_replies_and_the_end() -> None:
    """What was sent before close() goes out before the Close, held or not."""
    async with opened() as (ws, peer):
        await peer.write(frame(TEXT, "x") * 10 + close_frame(1000))
        assert await ws.receive() == "x"
        with contextlib.suppress(ConnectionClosed):
            await ws.send("late")
        frames = await peer.frames()
        assert frames[0][0] == CLOSE or frames[1][0] == CLOSE
        assert frames[-1][0] == CLOSE


@pytest.mark.parametrize("role", ROLES)
async def test_the_first_message_of_an_idle_connection_leaves_at_once(role: type) -> None:
    """Nothing is held for company that may never come: it is out before the loop turns."""
    async with opened(role, tcp=True) as (ws, peer):
        turns = []
        asyncio.get_running_loop().call_soon(turns.append, 1)
        await ws.send("now")
        assert turns == [] and peer.sock.recv(100, socket.MSG_PEEK)
        assert await peer.frame() == (TEXT, b"now")


@pytest.mark.parametrize("what", ["large", "fragments"])
async def test_a_task_that_only_sends_what_is_no_trouble_lets_others_run(what: str) -> None:
    """It all fits into the kernel, so that no send() waits for the peer."""
    turns = 0

    def turn() -> None:
        nonlocal turns
        turns += 1
        if turns < 1000:
            loop.call_soon(turn)

    loop = asyncio.get_running_loop()
    extension = "permessage-deflate"
    async with opened(compression="deflate", extension=extension, tcp=True) as (ws, _):
        loop.call_soon(turn)
        if what == "large":
            for _ in range(40):
                await ws.send(bytes(200_000))
        else:
            await ws.send([b"x"] * 640)
        assert turns >= 6
        turns = 1000
        ws.abort()


@pytest.mark.parametrize("role", ROLES)
@pytest.mark.parametrize("size", [10, 3000, 20_000])
async def test_nothing_is_given_to_a_transport_that_has_found_the_end(
    role: type, size: int, caplog: pytest.LogCaptureFixture
) -> None:
    """Else asyncio logs "socket.send() raised exception." for each part behind the fifth."""
    async with opened(role, tcp=True) as (ws, peer):
        await peer.write(frame(TEXT, "x", mask=peer.masks) * 100)
        assert await ws.receive() == "x"
        # Nobody has looked at the socket yet, so replies are held, and written to it.
        peer.reset()
        with contextlib.suppress(ConnectionClosed):
            while True:
                await ws.send(b"x" * size)
                await ws.receive()
        await ws.wait_closed()
        assert not [record for record in caplog.records if record.name == "asyncio"]
