"""Closing: one path, one deadline, from any state, and nothing left behind."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct

import pytest

from simplews import AioClient, AioServer, CloseCode, ConnectionClosed

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


def now() -> float:
    return asyncio.get_running_loop().time()


def closed(ws: AioServer | AioClient) -> bool:
    """Whether our end of the socket is closed, not only said to be."""
    assert ws.wsock is not None
    sock = ws.wsock.get_extra_info("socket")
    return sock is None or sock.fileno() == -1


async def answer_close(peer: Peer) -> tuple[int, str]:
    """Read to the Close, answer it, and end TCP as this role should."""
    while (found := await peer.frame()) is not None:
        if found[0] == CLOSE:
            code, reason = struct.unpack(">H", found[1][:2])[0], found[1][2:].decode()
            with contextlib.suppress(ConnectionError):
                await peer.send_close(code, reason)
            if not peer.masks:
                peer.finish()  # RFC 6455 §7.1.1: the server first
            return code, reason
    raise AssertionError("no Close came")


@pytest.mark.parametrize("role", ROLES)
async def test_a_closing_handshake(role: type) -> None:
    async with opened(role) as (ws, peer):
        answering = asyncio.ensure_future(answer_close(peer))
        began = now()
        await ws.close(3001, "bye")
        assert now() - began < 1
        assert await answering == (3001, "bye")
        assert closed(ws)
        assert await peer.at_end()
        ending = ws._link.ending
        assert (ending.by, ending.sent.code, ending.received.code) == ("us", 3001, 3001)


@pytest.mark.parametrize("role", ROLES)
@pytest.mark.parametrize("peer_does", ["answer", "nothing", "go"])
async def test_exception_tells_whether_our_close_was_answered(role: type, peer_does: str) -> None:
    """RFC 6455 §7.1.4: without an answer, what was sent before may not have arrived."""
    async with opened(role, close_timeout=5) as (ws, peer):
        await ws.send("is it there?")
        closing = asyncio.ensure_future(ws.close())
        await asyncio.sleep(0)
        assert ws.exception() is None  # the answer may still come
        if peer_does == "answer":
            await answer_close(peer)
        elif peer_does == "go":
            peer.reset()
        await closing
        error = ws.exception()
        if peer_does == "answer":
            assert error is None
        else:
            assert error is not None
            assert error.sent is not None and error.sent.code == CloseCode.NORMAL_CLOSURE
            assert error.received is None
            assert "no Close came back" in str(error)


@pytest.mark.parametrize("role", ROLES)
@pytest.mark.parametrize("timeout", [0, 5])
@pytest.mark.parametrize("state", ["idle", "short", "large", "fragments", "full inbox", "stream"])
@pytest.mark.parametrize("peer_does", ["nothing", "flood", "answer, but not end TCP"])
async def test_close_returns_at_its_deadline(
    role: type, timeout: float, state: str, peer_does: str
) -> None:
    """In whatever state it is called, twice and from two tasks, and whatever the peer does."""
    async with opened(role, close_timeout=timeout, max_queue=8) as (ws, peer):
        busy: list[asyncio.Task[object]] = []

        async def fill() -> None:
            while True:
                await ws.send(b"x" * 4096)

        async def fragments() -> object:
            yield "a"
            await asyncio.sleep(10_000)

        if state == "short":
            busy.append(asyncio.ensure_future(fill()))
        elif state == "large":
            busy.append(asyncio.ensure_future(ws.send(bytes(100_000_000))))
        elif state == "fragments":
            busy.append(asyncio.ensure_future(ws.send(fragments())))
        elif state == "full inbox":
            await peer.write(frame(TEXT, "x", mask=peer.masks) * 100)
            await until(lambda: ws._inbox.paused)
        elif state == "stream":
            await peer.send(TEXT, "a", fin=False)
            stream = ws.receive_stream()
            assert await anext(stream) == "a"
            busy.append(asyncio.ensure_future(anext(stream)))
        await settled()
        assert not any(task.done() for task in busy)

        async def flood() -> None:
            with contextlib.suppress(ConnectionError):
                while True:
                    await peer.send(BINARY, bytes(100_000))
                    await asyncio.sleep(0.01)

        flooding = asyncio.ensure_future(flood() if peer_does == "flood" else asyncio.sleep(0))
        began = now()
        closings = [asyncio.ensure_future(ws.close(4000 + n)) for n in range(2)]
        await asyncio.sleep(0)
        if "answer" in peer_does:
            with contextlib.suppress(ConnectionError):
                await peer.send_close(4000)
        await ws.close(4002)
        assert now() - began <= timeout + 0.2
        await asyncio.wait(closings)
        assert closed(ws)
        for result in await asyncio.gather(*busy, return_exceptions=True):
            assert isinstance(result, ConnectionClosed)
        await flooding
        assert ws._link.ending.sent.code == 4000
        with pytest.raises(ConnectionClosed):
            await ws.send("x")
        if state == "full inbox":
            for _ in range(8):
                assert await ws.receive() == "x"
        with contextlib.suppress(ConnectionClosed):
            while True:
                await ws.receive()


async def test_close_during_a_large_send_lets_it_finish() -> None:
    async with opened(close_timeout=60) as (ws, peer):
        sending = asyncio.ensure_future(ws.send(b"x" * 20_000_000))
        await settled()
        closing = asyncio.ensure_future(ws.close())
        await settled()
        assert await peer.frame() == (BINARY, b"x" * 20_000_000)
        assert await peer.frame() == (CLOSE, b"\x03\xe8")
        await peer.send_close(1000)
        await sending
        await closing


async def test_close_between_the_fragments_of_a_message() -> None:
    """A control frame may come there (RFC 6455 §5.4), so it need not wait for the message."""
    async with opened() as (ws, peer):
        gate = asyncio.Event()

        async def fragments() -> object:
            yield "a"
            await gate.wait()
            yield "b"

        sending = asyncio.ensure_future(ws.send(fragments()))
        assert await peer.whole_frame() == (TEXT, b"a")
        answering = asyncio.ensure_future(answer_close(peer))
        await ws.close()
        assert await answering == (1000, "")
        with pytest.raises(ConnectionClosed):
            await sending


async def test_close_is_cancelled_and_goes_on_by_itself() -> None:
    async with opened(close_timeout=5) as (ws, peer):
        closing = asyncio.ensure_future(ws.close())
        await settled()
        closing.cancel()
        await asyncio.wait([closing])
        assert closing.cancelled()
        began = now()
        await ws.wait_closed()
        assert now() - began <= 5
        assert closed(ws)
        assert await peer.frame() == (CLOSE, b"\x03\xe8")


@pytest.mark.parametrize("role", ROLES)
async def test_both_close_at_once(role: type) -> None:
    async with opened(role) as (ws, peer):
        await peer.send_close(3000, "peer")
        began = now()
        closing = asyncio.ensure_future(ws.close(3001, "us"))
        await settled()
        found = await peer.frame()
        assert found is not None
        assert found[0] == CLOSE
        if role is AioClient:
            peer.finish()
        await closing
        assert now() - began < 1
        assert closed(ws)


async def test_messages_received_before_our_close_stay_readable() -> None:
    async with opened(close_timeout=0) as (ws, peer):
        for number in range(5):
            await peer.send(TEXT, str(number))
        await until(lambda: len(ws._messages) == 5)
        await ws.close()
        assert [await ws.receive() for _ in range(5)] == list("01234")
        with pytest.raises(ConnectionClosed):
            await ws.receive()


@pytest.mark.parametrize("role", ROLES)
async def test_the_peer_closes_and_then_does_nothing(role: type) -> None:
    """As a server we end TCP at once; as a client we wait for the server, not for ever."""
    async with opened(role, close_timeout=7) as (ws, peer):
        began = now()
        await peer.send_close(1000)
        await ws.wait_closed()
        assert now() - began <= (0.2 if role is AioServer else 7.1)
        assert closed(ws)


@pytest.mark.parametrize("role", ROLES)
@pytest.mark.parametrize("then", ["FIN", "nothing"])
async def test_fin_without_a_close_while_our_data_is_not_read(role: type, then: str) -> None:
    """The half of TCP that stays open must not keep the connection, and its descriptor."""
    async with opened(role, close_timeout=7) as (ws, peer):
        sending = asyncio.ensure_future(ws.send(bytes(20_000_000)))
        await settled()
        began = now()
        peer.finish()
        with pytest.raises(ConnectionClosed) as caught:
            await sending
        assert caught.value.code == 1006
        await ws.wait_closed()
        assert now() - began <= 7.1
        assert closed(ws)


VIOLATIONS = [
    (frame(3), 1002),
    (frame(TEXT, b"\xff"), 1007),
    (frame(TEXT, "x" * 2000), 1009),
    (frame(CONTINUATION, "x"), 1002),
    (frame(PING, bytes(126)), 1002),
    (frame(CLOSE, b"\x03"), 1002),
    (close_frame(1005), 1002),
    (frame(TEXT, "x", rsv=4), 1002),
]


@pytest.mark.parametrize("data, code", VIOLATIONS)
@pytest.mark.parametrize("peer_sends_on", [False, True])
async def test_a_peer_that_breaks_a_rule_sees_why(
    data: bytes, code: int, peer_sends_on: bool
) -> None:
    """Over real TCP, where a reset would take the Close with it; and it takes a second at most."""
    async with opened(tcp=True, max_message_size=1000) as (ws, peer):
        began = now()
        reading = asyncio.ensure_future(ws.receive())
        await peer.write(data)
        if peer_sends_on:
            # What a well-behaved peer has under way when our Close comes.
            for _ in range(100):
                await peer.write(frame(BINARY, bytes(60_000)))
        with pytest.raises(ConnectionClosed) as caught:
            await reading
        assert caught.value.code == code
        found = await peer.frame()
        assert found is not None
        assert found[0] == CLOSE
        assert int.from_bytes(found[1][:2], "big") == code
        assert await peer.frame() is None  # and FIN, no reset
        await ws.wait_closed()
        assert now() - began <= 1
        assert closed(ws)


@pytest.mark.parametrize("peer_does", ["nothing", "flood", "stop reading"])
async def test_a_failed_connection_is_gone_within_a_second(peer_does: str) -> None:
    async with opened(tcp=True) as (ws, peer):
        sending = None
        if peer_does == "stop reading":
            sending = asyncio.ensure_future(ws.send(bytes(50_000_000)))
            await settled()
        began = now()
        await peer.send(3)
        if peer_does == "flood":
            with contextlib.suppress(ConnectionError):
                while True:
                    await peer.write(bytes(100_000))
                    await asyncio.sleep(0.01)
        await ws.wait_closed()
        assert now() - began <= 1
        assert closed(ws)
        if sending is not None:
            with pytest.raises(ConnectionClosed):
                await sending


async def test_a_violation_while_we_close_does_not_wait_for_the_close_timeout() -> None:
    """The answer to our Close can no longer be read, so nobody waits for it."""
    async with opened(close_timeout=30, max_message_size=1000) as (ws, peer):
        closing = asyncio.ensure_future(ws.close())
        await settled()
        began = now()
        await peer.send(BINARY, bytes(2000))  # it was under way
        await peer.send_close(1000)
        await closing
        assert now() - began <= 1
        assert closed(ws)
        assert await peer.frame() == (CLOSE, b"\x03\xe8")


async def test_a_violation_behind_a_full_inbox_comes_in_its_turn() -> None:
    async with opened(max_queue=4) as (ws, peer):
        await peer.write(frame(TEXT, "x") * 10 + frame(3))
        for _ in range(10):
            assert await ws.receive() == "x"
        with pytest.raises(ConnectionClosed) as caught:
            await ws.receive()
        assert caught.value.code == 1002


@pytest.mark.parametrize("role", ROLES)
@pytest.mark.parametrize("how", ["finish", "reset", "close", "violation", "abort", "timeout"])
async def test_cleanups_run_once_whatever_the_end(role: type, how: str) -> None:
    ran = []
    async with opened(role, close_timeout=1) as (ws, peer):
        never = asyncio.ensure_future(asyncio.sleep(10_000))

        async def of_a_task() -> None:
            never.cancel()
            await never  # raises CancelledError, which is not ours

        async def closes() -> None:
            await ws.close()
            await ws.wait_closed()
            ran.append("closes")

        ws.add_cleanup(lambda: ran.append("first"))
        ws.add_cleanup(of_a_task)
        ws.add_cleanup(lambda: 1 / 0)
        ws.add_cleanup(closes)
        ws.add_cleanup(lambda: ran.append("last"))
        if how == "close":
            await peer.send_close(1000)
        elif how == "violation":
            await peer.send(3)
        elif how == "abort":
            ws.abort()
        elif how == "timeout":
            await ws.close()
        else:
            getattr(peer, how)()
        await ws.wait_closed()
        assert ran == ["first", "closes", "last"]
        ws.add_cleanup(lambda: ran.append("late"))
        await ws.wait_closed()
        assert ran[-1] == "late"


async def test_closing_from_within_a_context_that_is_cancelled() -> None:
    async with opened(close_timeout=3) as (ws, peer):

        async def use() -> None:
            async with ws:
                await asyncio.sleep(10_000)

        using = asyncio.ensure_future(use())
        await settled()
        using.cancel()
        await asyncio.wait([using])
        assert using.cancelled()
        assert closed(ws)
        found = await peer.frame()
        assert found == (CLOSE, CloseCode.GOING_AWAY.to_bytes(2, "big"))


async def test_pings_that_come_while_we_close_are_not_answered() -> None:
    """RFC 6455 §5.5.1: nothing follows a Close; what comes meanwhile is read and dropped."""
    async with opened() as (ws, peer):
        closing = asyncio.ensure_future(ws.close())
        await settled()
        await peer.send(PING, "?")
        await peer.send(TEXT, "?")
        await peer.send_close(1000)
        await closing
        assert [opcode for opcode, _ in await peer.frames()] == [CLOSE]
        assert PONG  # none
        assert ws.stats.messages_in == 0


@pytest.mark.parametrize("role", ROLES)
async def test_200_000_empty_fragments_after_our_close_cost_nothing(role: type) -> None:
    async with opened(role, close_timeout=1) as (ws, peer):
        closing = asyncio.ensure_future(ws.close())
        await settled()
        with contextlib.suppress(ConnectionError):
            await peer.send(TEXT, "", fin=False)
            for _ in range(200):
                await peer.write(frame(CONTINUATION, "", fin=False, mask=peer.masks) * 1000)
        await closing
        assert closed(ws)


@pytest.mark.skipif(not hasattr(socket, "SO_LINGER"), reason="no resets to be had here")
@pytest.mark.parametrize("role", ROLES)
@pytest.mark.parametrize("messages", [0, 3])
async def test_a_reset_is_1006_and_what_was_read_stays(role: type, messages: int) -> None:
    async with opened(role, tcp=True) as (ws, peer):
        for number in range(messages):
            await peer.send(TEXT, str(number))
        await until(lambda: len(ws._messages) == messages)
        peer.reset()
        await ws.wait_closed()
        assert [await ws.receive() for _ in range(messages)] == list("012")[:messages]
        with pytest.raises(ConnectionClosed) as caught:
            await ws.receive()
        assert caught.value.code == 1006
        assert closed(ws)


@pytest.mark.parametrize("role", ROLES)
async def test_abort_after_the_end_does_nothing(role: type) -> None:
    """
    In every case: a transport that had bytes to write when it was closed is not to be asked.

    asyncio's then has no event loop any more, and does not know that it is gone.
    """
    async with opened(role, tcp=True, write_limit=1 << 24) as (ws, peer):
        await ws.send(bytes(1 << 23))  # more than the kernel takes
        assert ws.wsock.transport.get_write_buffer_size()
        await peer.send_close(1000)
        reading = asyncio.ensure_future(peer.at_end())
        if role is AioClient:
            peer.finish()  # RFC 6455 §7.1.1: the server first
        await ws.wait_closed()
        await reading
        ws.abort()
        ws.abort()
        assert (ws.close_code, ws.connected) == (1000, False)
