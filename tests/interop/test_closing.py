"""The end of a connection with strangers: codes and reasons of both sides, and limits."""

from __future__ import annotations

import asyncio

import pytest

from simplews import AioBase, Close, ConnectionClosed, Deflate

from .conftest import Meeting
from .strangers import Aiohttp

pytestmark = pytest.mark.interop

CLOSES = [
    Close(1000, "done"),
    Close(1001, ""),
    Close(3000, "registriert: Grüße"),
    Close(4999, "x" * 123),
]


@pytest.mark.parametrize("close", CLOSES, ids=lambda close: str(close.code))
async def test_they_close(meet: Meeting, close: Close) -> None:
    """RFC 6455 §7.1.5, §7.1.6: we know their code and reason, and answer with the code."""
    async with meet() as (ws, peer):
        await peer.send("last words")
        _, ended = await asyncio.gather(peer.close(close.code, close.reason), _receive_all(ws))
        assert (ended.code, ended.reason) == (close.code, close.reason)
        assert ended.received == close
        assert ended.sent is not None
        assert ended.sent.code == close.code
        assert (ws.close_code, ws.close_reason) == (close.code, close.reason)
        assert (ws.exception() is None) == (close.code < 3000)
        assert ended.explain().startswith(f"the peer closed the connection with {close}")
        await ws.wait_closed()


async def _receive_all(ws: AioBase) -> ConnectionClosed:
    """What arrived before the end is still there; then the end is an exception."""
    assert await ws.receive() == "last words"
    with pytest.raises(ConnectionClosed) as caught:
        await ws.receive()
    return caught.value


@pytest.mark.parametrize("close", CLOSES, ids=lambda close: str(close.code))
async def test_we_close(meet: Meeting, close: Close) -> None:
    async with meet() as (ws, peer):
        await ws.send("last words")
        closing = asyncio.ensure_future(ws.close(close.code, close.reason))
        assert await peer.receive() == "last words"
        assert await peer.closed() == (close.code, close.reason)
        await closing
        assert (ws.close_code, ws.close_reason) == (close.code, close.reason)
        with pytest.raises(ConnectionClosed) as caught:
            await ws.receive()
        assert caught.value.sent == close
        assert caught.value.received is not None
        # aiohttp answers every Close with 1000.
        answer = 1000 if isinstance(meet.stranger, Aiohttp) else close.code
        assert caught.value.received.code == answer


@pytest.mark.parametrize("stranger", ["node", "websockets"], indirect=True)
async def test_both_close_at_once(meet: Meeting) -> None:
    """Neither waits for the other."""
    async with meet() as (ws, peer):
        await asyncio.gather(ws.close(3001, "ours"), peer.close(3002, "theirs"))
        assert ws.close_code in (3001, 3002)


@pytest.mark.parametrize("stranger", ["node"], indirect=True)
async def test_close_without_a_code_is_1005(meet: Meeting) -> None:
    """RFC 6455 §7.1.5: "If this Close control frame contains no status code ... 1005"."""
    async with meet() as (ws, peer):
        closing = asyncio.ensure_future(peer.close(None, ""))
        assert [message async for message in ws] == []  # a normal end
        await closing
        assert (ws.close_code, ws.close_reason) == (1005, "")


async def test_they_vanish(meet: Meeting) -> None:
    """RFC 6455 §7.1.5: without a Close it is 1006."""
    async with meet() as (ws, peer):
        await peer.abort()
        with pytest.raises(ConnectionClosed) as caught:
            await ws.receive()
        assert caught.value.code == 1006
        assert caught.value.received is None
        assert ws.close_code == 1006


@pytest.mark.parametrize("compressed", [False, True], ids=["plain", "deflate"])
async def test_they_send_too_much(meet: Meeting, compressed: bool) -> None:
    """RFC 6455 §7.4.1: 1009, and the limit counts bytes after inflating."""
    limit = 100_000
    async with meet(
        {"deflate": {} if compressed else None},
        max_message_size=limit,
        compression=Deflate() if compressed else None,
    ) as (ws, peer):
        assert (peer.deflate is not None) == compressed
        await peer.send("x" * limit)
        assert await ws.receive() == "x" * limit
        await peer.send("x" * (limit + 1))
        code, reason = await peer.closed()
        assert code == 1009
        assert str(limit) in reason
        with pytest.raises(ConnectionClosed) as caught:
            await ws.receive()
        assert caught.value.code == 1009
        await ws.wait_closed()


async def test_we_send_too_much(meet: Meeting) -> None:
    """Their 1009 reaches our receive() and our next send()."""
    async with meet({"max_size": 1000}) as (ws, peer):
        await ws.send("x" * 1000)
        assert await peer.receive() == "x" * 1000
        await ws.send("x" * 1001)
        receiving = asyncio.ensure_future(peer.receive())  # aiohttp looks only then
        with pytest.raises(ConnectionClosed) as caught:
            await ws.receive()
        assert caught.value.code == 1009
        assert caught.value.received is not None
        with pytest.raises(ConnectionClosed):
            await ws.send("more")
        receiving.cancel()
        await asyncio.gather(receiving, return_exceptions=True)
