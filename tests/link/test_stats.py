"""The counters of a connection: what a person who operates it asks for."""

from __future__ import annotations

import asyncio
import time

import pytest

from simplews import AioBase, AioClient

from ..peer import PING, PONG, ROLES, TEXT, Peer, opened, settled, until


async def answer(peer: Peer) -> None:
    found = await peer.frame()
    assert found is not None
    assert found[0] == PING
    await peer.send(PONG, found[1])


@pytest.mark.parametrize("role", ROLES)
async def test_pings_and_latency(role: type[AioBase]) -> None:
    """Those of the keepalive and of `ping`; a Pong that nobody asked for answers nothing."""
    async with opened(role, ping_interval=10) as (ws, peer):
        assert (ws.stats.pings_sent, ws.stats.pongs_received, ws.stats.latency) == (0, 0, None)
        await asyncio.sleep(10.5)
        await answer(peer)
        pinging = asyncio.ensure_future(ws.ping())
        await settled()
        await peer.send(PONG, b"?")
        await asyncio.sleep(2)
        assert (ws.stats.pings_sent, ws.stats.pongs_received) == (2, 1)
        assert ws.stats.latency == pytest.approx(0.5, abs=0.05)
        await answer(peer)
        await pinging
        stats = ws.stats
        assert (stats.pings_sent, stats.pongs_received) == (2, 2)
        assert stats.latency == ws.latency == pytest.approx(2, abs=0.05)


@pytest.mark.parametrize("role", ROLES)
async def test_messages_and_bytes(role: type[AioBase]) -> None:
    async with opened(role) as (ws, peer):
        await peer.send(TEXT, "hello")
        await peer.send(TEXT, "there")
        await until(lambda: ws.stats.messages_waiting == 2)
        assert await ws.receive() == "hello"
        await ws.send("x")
        await ws.send(bytes(100_000))
        stats = ws.stats
        head = 6 if peer.masks else 2
        assert (stats.messages_in, stats.bytes_in) == (2, 2 * (head + 5))
        assert stats.messages_waiting == 1
        head = 0 if peer.masks else 4
        assert (stats.messages_out, stats.bytes_out) == (2, head + 3 + head + 100_010)


async def test_what_waits_for_the_peer() -> None:
    async with opened() as (ws, peer):
        sending = asyncio.ensure_future(ws.send(bytes(5_000_000)))
        short = asyncio.ensure_future(ws.send("short"))
        await settled()
        stats = ws.stats
        assert stats.sends_waiting == 2
        assert 100_000 < stats.bytes_waiting < 2_000_000
        reading = asyncio.ensure_future(peer.frames())
        await asyncio.wait([sending, short])
        await until(lambda: ws.stats.bytes_waiting == 0)
        assert ws.stats.sends_waiting == 0
        ws.abort()
        await reading


@pytest.mark.parametrize("role", ROLES)
async def test_a_send_that_is_cancelled_waits_no_longer(role: type[AioBase]) -> None:
    async with opened(role) as (ws, _):
        sending = [asyncio.ensure_future(ws.send(bytes(50_000_000))) for _ in range(3)]
        await settled()
        sending[1].cancel()
        await settled()
        assert ws.stats.sends_waiting == 2
        ws.abort()
        await asyncio.gather(*sending, return_exceptions=True)
        assert ws.stats.sends_waiting == 0


async def test_age() -> None:
    """It stops at the end; when the connection was opened does not change."""
    before = time.time()
    async with opened() as (ws, _):
        stats = ws.stats
        assert stats.opened_at is not None
        assert before - 0.1 <= stats.opened_at <= time.time()
        assert 0 <= stats.age <= time.time() - before + 0.1
        ws.abort()
        await ws.wait_closed()
        ended = ws.stats
        assert ended.age == ws.stats.age
        assert ended.opened_at == pytest.approx(stats.opened_at, abs=0.1)


def test_what_was_never_opened_has_none() -> None:
    stats = AioClient("ws://localhost/").stats
    assert (stats.opened_at, stats.age, stats.messages_in) == (None, 0, 0)
