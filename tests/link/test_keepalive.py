"""Liveness: a peer that is gone is noticed in time, one that lives is never killed."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Coroutine
from typing import Any

import pytest

from simplews import ConnectionClosed

from ..clock import ClockLoop
from ..peer import BINARY, CLOSE, PING, PONG, ROLES, TEXT, Peer, frame, opened, settled, until

P = 10.0  # ping_interval


def now() -> float:
    return asyncio.get_running_loop().time()


async def answer_pings(peer: Peer, delay: float = 0.0) -> None:
    """What any peer does."""
    while (found := await peer.frame()) is not None:
        if found[0] == PING:
            await asyncio.sleep(delay)
            await peer.send(PONG, found[1])


@contextlib.asynccontextmanager
async def background(*coroutines: Coroutine[Any, Any, None]) -> AsyncIterator[None]:
    tasks = [asyncio.ensure_future(c) for c in coroutines]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)


@pytest.mark.parametrize("role", ROLES)
@pytest.mark.parametrize("last_word", [0.0, 0.1, 9.9, 10.1, 15.0, 19.9, 20.1, 45.0])
async def test_a_peer_that_is_gone_is_noticed_within_2_2_intervals(
    role: type, last_word: float
) -> None:
    """Counted from its last word, at whatever moment that was; and everybody is woken."""
    async with opened(role, ping_interval=P) as (ws, peer):

        async def sender() -> None:
            while True:
                await ws.send(b"x" * 100_000)

        answering = asyncio.ensure_future(answer_pings(peer))
        await asyncio.sleep(last_word)
        answering.cancel()
        await asyncio.wait([answering])
        if last_word:
            await peer.send(TEXT, "last word")
            assert await ws.receive() == "last word"
        gone = now()
        waiting = [
            asyncio.ensure_future(w)
            for w in (ws.receive(), ws.wait_closed(), ws.ping(timeout=1000), sender())
        ]
        await until(lambda: ws._link._outbox.paused)
        waiting.append(asyncio.ensure_future(ws.send("x")))
        await ws.wait_closed()
        assert now() - gone <= 2.2 * P
        results = await asyncio.gather(*waiting, return_exceptions=True)
        assert results.pop(1) is None
        for error in results:
            assert isinstance(error, ConnectionClosed)
            assert error.code == 1011


@pytest.mark.parametrize("timeout", [1.0, 5.0, 25.0])
async def test_ping_timeout_counts_from_a_ping(timeout: float) -> None:
    async with opened(ping_interval=P, ping_timeout=timeout) as (ws, peer):
        found = await peer.frame()
        assert found is not None
        await peer.send(PONG, found[1])
        last_word = now()
        await ws.wait_closed()
        assert now() - last_word <= P + timeout + 1
        assert ws.close_code == 1011


@pytest.mark.parametrize("what", [PONG, TEXT, "half"])
async def test_a_peer_that_sends_lives_though_it_does_not_answer(what: int | str) -> None:
    """Whole messages, Pongs that nobody asked for, or bytes of a message without an end."""
    async with opened(ping_interval=P) as (ws, peer):
        if what == "half":
            await peer.write(frame(BINARY, bytes(1000))[:-999])
        for _ in range(100):
            await asyncio.sleep(0.9 * P)
            if what == "half":
                await peer.write(b"x")
            else:
                await peer.send(int(what), "?")
            if what == TEXT:
                await ws.receive()
        assert ws.connected


@pytest.mark.parametrize("delay", [0.0, 0.5 * P, 0.95 * P])
async def test_a_peer_that_answers_late_lives(delay: float) -> None:
    async with opened(ping_interval=P) as (ws, peer), background(answer_pings(peer, delay)):
        await asyncio.sleep(50 * P)
        assert ws.connected
        assert ws.latency == pytest.approx(delay, abs=0.02)


async def test_an_app_that_does_not_receive_never_kills_its_peer_and_pings_go_out() -> None:
    pings = 0
    async with opened(ping_interval=P, max_queue=4) as (ws, peer):

        async def count() -> None:
            nonlocal pings
            while await peer.frame() is not None:
                pings += 1  # it cannot be heard, so it need not answer

        await peer.write(frame(TEXT, "x") * 100)
        await until(lambda: ws._inbox.paused)
        async with background(count()):
            await asyncio.sleep(100 * P)
            assert ws.connected
            assert 98 <= pings <= 101
            for _ in range(100):
                assert await ws.receive() == "x"
            # We listen again: now its silence counts.
            resumed = now()
            await ws.wait_closed()
            assert now() - resumed <= 3.2 * P


class Elsewhere:
    """
    A peer in another process: it answers every Ping after *delay*, and our blocks do not stop it.

    Args:
        peer: Its end of the connection.
        delay: Seconds.
    """

    def __init__(self, peer: Peer, delay: float) -> None:
        loop = asyncio.get_running_loop()
        assert isinstance(loop, ClockLoop)
        self._loop = loop
        self._peer = peer
        self._delay = delay
        self._answers: list[tuple[float, bytes]] = []
        loop.add_reader(peer.sock, self._read)

    def _read(self) -> None:
        with contextlib.suppress(BlockingIOError):
            while data := self._peer.sock.recv(1 << 18):
                self._peer.received += data
        while (found := self._peer._take()) is not None:
            assert found[0] == 0x80 | PING
            self._answers.append((now() + self._delay, found[1]))
            self._loop.call_later(self._delay, self._answer)

    def _answer(self) -> None:
        while self._answers and self._answers[0][0] <= now() + 0.001:
            self._peer.sock.send(frame(PONG, self._answers.pop(0)[1]))

    def block(self, seconds: float) -> None:
        """Block our loop, and not the peer."""
        end = now() + seconds
        self._read()
        while self._answers and self._answers[0][0] <= end:
            self._loop.block(max(0.0, self._answers[0][0] - now()))
            self._answer()
        self._loop.block(end - now())

    def leave(self) -> None:
        self._loop.remove_reader(self._peer.sock)


@pytest.mark.parametrize("delay", [0.0, 0.3 * P, 0.9 * P])
@pytest.mark.parametrize("blocked", [0.06, 0.5 * P, 0.99 * P, 2.5 * P, 20 * P])
async def test_a_loop_that_was_blocked_kills_nobody(blocked: float, delay: float) -> None:
    """At any phase of the interval."""
    async with opened(ping_interval=P) as (ws, peer):
        elsewhere = Elsewhere(peer, delay)
        for step in (0.0, 0.3, 5.0, 9.94, 9.999, 10.0, 10.001, 10.04, 10.06, 12.0, 17.3, 19.99):
            await asyncio.sleep(step)
            elsewhere.block(blocked)
            await settled()
            assert ws.connected
        await asyncio.sleep(3 * P)
        assert ws.connected
        elsewhere.leave()


@pytest.mark.parametrize("blocked", [2.0, 0.9 * P, P])
async def test_blocks_one_after_the_other_kill_nobody(blocked: float) -> None:
    """Only a hundredth of a second between them."""
    async with opened(ping_interval=P) as (ws, peer):
        elsewhere = Elsewhere(peer, 0.5 * P)
        for _ in range(50):
            await asyncio.sleep(0.01)
            elsewhere.block(blocked)
            assert ws.connected
        elsewhere.leave()


@pytest.mark.parametrize("blocked", [0.06, 2.0, 0.5 * P, 0.9 * P])
async def test_a_loop_that_is_blocked_often_still_notices_that_a_peer_is_gone(
    blocked: float,
) -> None:
    """The time of the blocks is given back, and little more."""
    loop = asyncio.get_running_loop()
    assert isinstance(loop, ClockLoop)
    async with opened(ping_interval=P) as (ws, _):
        gone = now()
        lost = asyncio.ensure_future(ws.wait_closed())
        took = 0.0
        while not lost.done():
            await asyncio.sleep(1)
            loop.block(blocked)
            took += blocked
            assert now() - gone <= took + 4 * P
        await lost
        assert ws.close_code == 1011


async def test_a_peer_that_is_gone_is_noticed_soon_after_a_long_block() -> None:
    """Nobody waits as long again as a very long block was."""
    loop = asyncio.get_running_loop()
    assert isinstance(loop, ClockLoop)
    async with opened(ping_interval=P) as (ws, _):
        await asyncio.sleep(1.5 * P)
        loop.block(100 * P)
        after = now()
        await ws.wait_closed()
        assert now() - after <= 1.2 * P


async def test_what_leaves_our_buffer_shows_that_the_peer_lives() -> None:
    """Our Ping is behind more than the peer takes in an interval."""
    async with opened(ping_interval=P) as (ws, peer):
        ws.wsock.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 8192)
        sending = asyncio.ensure_future(ws.send(bytes(900_000)))  # handed over in one piece
        await settled()
        for _ in range(6):
            await asyncio.sleep(P)
            for _ in range(3):
                await peer.sock_read()
            assert ws.connected
        await sending
        gone = now()
        await ws.wait_closed()
        assert now() - gone <= 2.2 * P


@pytest.mark.parametrize("role", ROLES)
async def test_a_peer_that_reads_a_large_message_slowly_lives(role: type) -> None:
    """Our Ping is behind the message, so it cannot answer; but it takes what we send."""
    async with opened(role, ping_interval=P) as (ws, peer):
        sock = ws.wsock.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 65536)
        sending = asyncio.ensure_future(ws.send(bytes(12_000_000)))
        await settled()
        taken = 0
        while taken < 11_900_000:
            await asyncio.sleep(P / 4)
            before = taken
            while taken < 12_000_000 and taken - before < 200_000:
                taken += len(await peer.sock_read())
            assert ws.connected
        reading = asyncio.ensure_future(peer.sock_read())
        await sending
        await asyncio.wait([reading])


@pytest.mark.parametrize("role", ROLES)
async def test_a_peer_that_stops_reading_inside_a_large_message_is_noticed(role: type) -> None:
    async with opened(role, ping_interval=P) as (ws, _):
        sending = asyncio.ensure_future(ws.send(bytes(50_000_000)))
        began = now()
        with pytest.raises(ConnectionClosed) as caught:
            await sending
        assert caught.value.code == 1011
        assert now() - began <= 2.2 * P


async def test_pings_that_nobody_answers_are_not_remembered_for_ever() -> None:
    async with opened(ping_interval=P) as (ws, peer):
        for _ in range(300):
            await asyncio.sleep(0.9 * P)
            await peer.send(TEXT, "busy")
            await ws.receive()
        assert len(ws._link._keepalive._sent) <= 2


async def test_a_peer_that_answers_later_than_the_next_ping_does_answer() -> None:
    """Its Pong belongs to a Ping that is not remembered any more, and counts all the same."""
    async with opened(ping_interval=P, ping_timeout=2 * P) as (ws, peer):
        elsewhere = Elsewhere(peer, 1.5 * P)
        await asyncio.sleep(100.75 * P)
        elsewhere.leave()
        assert ws.connected
        assert (ws.stats.pings_sent, ws.stats.pongs_received) == (100, 99)
        await peer.send(PONG, (1 << 31).to_bytes(4, "big"))
        await settled()
        assert ws.stats.pongs_received == 99
        ws.abort()
        assert ws.explain().endswith("; waiting then: 1 ping unanswered for 7.5 s")


# -------------------------------------------------------------------- ping()


async def test_ping_measures_the_round_trip() -> None:
    async with opened() as (ws, peer), background(answer_pings(peer, 3.0)):
        assert ws.latency is None
        assert await ws.ping() == pytest.approx(3, abs=0.01)
        assert ws.latency == pytest.approx(3, abs=0.01)


async def test_ping_without_an_answer_times_out_and_leaves_the_connection_open() -> None:
    async with opened() as (ws, peer):
        began = now()
        with pytest.raises(TimeoutError):
            await ws.ping(timeout=7)
        assert now() - began == pytest.approx(7)
        with pytest.raises(TimeoutError):
            await ws.ping()
        assert now() - began == pytest.approx(27)
        await ws.send("x")
        assert [(await peer.frame() or (0,))[0] for _ in range(3)] == [PING, PING, TEXT]
        assert not ws._link._keepalive._sent
        assert not ws._link._keepalive._waiters


@pytest.mark.parametrize("limit", [0.5, 5.0])
@pytest.mark.parametrize("blocked", [0.6, 6.0, 60.0])
async def test_ping_sees_an_answer_that_came_while_the_loop_was_blocked(
    limit: float, blocked: float
) -> None:
    loop = asyncio.get_running_loop()
    assert isinstance(loop, ClockLoop)
    async with opened() as (ws, peer):
        pinging = asyncio.ensure_future(ws.ping(timeout=limit))
        found = await peer.frame()
        assert found is not None
        await peer.send(PONG, found[1])
        loop.block(blocked)
        assert await pinging == pytest.approx(blocked)


async def test_ping_gives_the_time_back_that_a_block_took() -> None:
    loop = asyncio.get_running_loop()
    assert isinstance(loop, ClockLoop)
    async with opened() as (ws, peer):
        pinging = asyncio.ensure_future(ws.ping(timeout=5))
        await asyncio.sleep(4)
        loop.block(3)
        await asyncio.sleep(1)
        found = await peer.frame()
        assert found is not None
        await peer.send(PONG, found[1])
        assert await pinging == pytest.approx(8)
        began = now()
        pinging = asyncio.ensure_future(ws.ping(timeout=5))
        await asyncio.sleep(4)
        loop.block(100)
        with pytest.raises(TimeoutError):
            await pinging
        assert now() - began == pytest.approx(104 + 5)


@pytest.mark.parametrize("limit", [0, -1])
async def test_ping_that_may_not_wait_times_out_at_once(limit: float) -> None:
    async with opened() as (ws, _):
        began = now()
        with pytest.raises(TimeoutError):
            await ws.ping(timeout=limit)
        assert now() == began


async def test_a_pong_may_answer_the_newest_of_several_pings() -> None:
    async with opened() as (ws, peer):
        pings = [asyncio.ensure_future(ws.ping()) for _ in range(5)]
        payloads = [(await peer.frame() or (0, b""))[1] for _ in range(5)]
        assert len(set(payloads)) == 5
        await peer.send(PONG, payloads[2])
        await asyncio.wait(pings[:3])
        await settled()
        assert [p.done() for p in pings] == [True] * 3 + [False] * 2
        await peer.send(PONG, b"nobody asked")
        await peer.send(PONG, payloads[1])  # again
        await peer.send(PONG, payloads[4])
        await asyncio.wait(pings)


@pytest.mark.parametrize("end", ["finish", "reset", "close", "ours", "abort"])
async def test_the_end_wakes_whoever_waits_for_a_pong(end: str) -> None:
    async with opened(close_timeout=1) as (ws, peer):
        pings = [asyncio.ensure_future(ws.ping()) for _ in range(3)]
        # Cancelled at the very moment of the end: nothing is left to complain about.
        await settled()
        if end == "close":
            await peer.send_close(1000)
        elif end == "ours":
            closing = asyncio.ensure_future(ws.close())
        elif end == "abort":
            ws.abort()
        else:
            getattr(peer, end)()
        await until(lambda: ws.exception() or not ws.connected)
        pings[0].cancel()
        await asyncio.wait(pings)
        for ping in pings[1:]:
            assert isinstance(ping.exception(), ConnectionClosed)
        with pytest.raises(ConnectionClosed):
            await ws.ping()
        if end == "ours":
            assert [(await peer.frame() or (0,))[0] for _ in range(4)] == [PING] * 3 + [CLOSE]
            await closing
