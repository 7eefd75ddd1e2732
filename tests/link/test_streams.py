"""receive_stream(): a message in pieces, and what becomes of the rest of it."""

from __future__ import annotations

import asyncio

import pytest

from simplews import ConnectionClosed, WebSocketRuntimeError

from ..peer import CONTINUATION, PING, PONG, ROLES, TEXT, opened, settled, until


@pytest.mark.parametrize("role", ROLES)
async def test_leaving_the_loop_early_drops_the_rest_of_that_message(role: type) -> None:
    """The generator is not closed by ``break``; receive() must not give out its pieces."""
    async with opened(role) as (ws, peer):
        await peer.send(TEXT, "a", fin=False)
        async for piece in ws.receive_stream():
            assert piece == "a"
            await peer.send(CONTINUATION, "b", fin=False)
            await peer.send(CONTINUATION, "c")
            await peer.send(TEXT, "next")
            await until(lambda: len(ws._messages) == 3)
            break
        assert await ws.receive() == "next"
        await settled()
        assert not ws._messages


@pytest.mark.parametrize("end_is_there", [True, False])
async def test_leaving_early_keeps_the_message_that_has_begun_behind(end_is_there: bool) -> None:
    async with opened() as (ws, peer):
        await peer.send(TEXT, "a", fin=False)
        stream = ws.receive_stream()
        assert await anext(stream) == "a"
        if end_is_there:
            await peer.send(CONTINUATION, "b")
            await peer.send(TEXT, "ne", fin=False)
            await settled()
        await stream.aclose()
        if not end_is_there:
            await peer.send(CONTINUATION, "b")
            await peer.send(TEXT, "ne", fin=False)
        await peer.send(CONTINUATION, "xt")
        await peer.send(TEXT, "last")
        assert await ws.receive() == "next"
        assert await ws.receive() == "last"


async def test_a_stream_behind_one_that_was_left() -> None:
    async with opened() as (ws, peer):
        await peer.send(TEXT, "a", fin=False)
        old = ws.receive_stream()
        assert await anext(old) == "a"
        await peer.send(CONTINUATION, "b")
        await peer.send(TEXT, "c", fin=False)
        await settled()
        new = ws.receive_stream()
        assert await anext(new) == "c"
        with pytest.raises(WebSocketRuntimeError, match="drops the rest"):
            await anext(old)
        await old.aclose()
        await peer.send(CONTINUATION, "d")
        assert [piece async for piece in new] == ["d"]


async def test_a_stream_that_is_cancelled_before_its_message_loses_nothing() -> None:
    async with opened() as (ws, peer):
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(1):
                async for _ in ws.receive_stream():
                    pass
        await peer.send(TEXT, "x")
        assert await ws.receive() == "x"


async def test_a_ping_inside_a_stream_is_answered() -> None:
    async with opened() as (ws, peer):
        await peer.send(TEXT, "a", fin=False)
        stream = ws.receive_stream()
        assert await anext(stream) == "a"
        await peer.send(PING, "!")
        assert await peer.frame() == (PONG, b"!")
        await peer.send(CONTINUATION, "b")
        assert [piece async for piece in stream] == ["b"]


@pytest.mark.parametrize("how", ["finish", "close", "ours"])
async def test_the_end_inside_a_stream(how: str) -> None:
    """What arrived is given out, then the end surfaces; the stream never seems complete."""
    async with opened(close_timeout=1) as (ws, peer):
        stream = ws.receive_stream()
        await peer.send(TEXT, "a", fin=False)
        assert await anext(stream) == "a"
        if how == "finish":
            peer.finish()
        elif how == "close":
            await peer.send_close(1000)
        else:
            closing = asyncio.ensure_future(ws.close())
        with pytest.raises(ConnectionClosed):
            await anext(stream)
        with pytest.raises(ConnectionClosed):
            await ws.receive()
        if how == "ours":
            await closing
