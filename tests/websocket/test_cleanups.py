"""Cleanups: once, on any end, all of them (C43, L13)."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from simplews.errors import WebSocketDisconnect
from simplews.websocket import WebSocket

from ..peer import settled
from .channel import CONNECT, DENIAL, Channel, accepted, disconnect


async def close(ws: WebSocket, channel: Channel) -> None:
    await ws.close()


async def raw_close(ws: WebSocket, channel: Channel) -> None:
    await ws.send({"type": "websocket.close"})


async def left(ws: WebSocket, channel: Channel) -> None:
    channel.put(disconnect())
    with pytest.raises(WebSocketDisconnect):
        await ws.receive_text()


async def raw_left(ws: WebSocket, channel: Channel) -> None:
    channel.put(disconnect())
    await ws.receive()


async def iterated(ws: WebSocket, channel: Channel) -> None:
    channel.put(disconnect())
    async for _ in ws:
        pass


async def lost(ws: WebSocket, channel: Channel) -> None:
    channel.failure = OSError()
    with pytest.raises(WebSocketDisconnect):
        await ws.send_text("a")


async def lost_while_closing(ws: WebSocket, channel: Channel) -> None:
    channel.failure = OSError()
    await ws.close()


async def refused_close(ws: WebSocket, channel: Channel) -> None:
    channel.failure = RuntimeError()
    with pytest.raises(RuntimeError):
        await ws.close()


async def left_block(ws: WebSocket, channel: Channel) -> None:
    async with ws:
        pass


async def failed_block(ws: WebSocket, channel: Channel) -> None:
    with pytest.raises(ZeroDivisionError):
        async with ws:
            raise ZeroDivisionError


ENDS = [
    close,
    raw_close,
    left,
    raw_left,
    iterated,
    lost,
    lost_while_closing,
    refused_close,
    left_block,
    failed_block,
]


@pytest.mark.parametrize("end", ENDS)
async def test_cleanups_run_once_on_any_end(
    end: Callable[[WebSocket, Channel], Awaitable[None]],
) -> None:
    """Plain and coroutine functions, in order, before the call that ended it returns."""
    ws, channel = await accepted()
    ran: list[Any] = []

    async def slow() -> None:
        await asyncio.sleep(1)
        ran.append("slow")

    ws.add_cleanup(lambda: ran.append(1))
    ws.add_cleanup(slow)
    ws.add_cleanup(lambda: ran.append(2))
    await end(ws, channel)
    assert ran == [1, "slow", 2]
    channel.failure = None
    await ws.close()
    async with ws:
        pass
    assert ran == [1, "slow", 2]


@pytest.mark.parametrize("extensions", [{}, DENIAL])
async def test_cleanups_run_after_a_refusal(extensions: Any) -> None:
    """It has been opened and closed as well."""
    channel = Channel(CONNECT)
    ws = channel.open(extensions=extensions)
    ran: list[int] = []
    ws.add_cleanup(lambda: ran.append(1))
    await ws.reject()
    assert ran == [1]


async def test_cleanup_that_fails_keeps_none_from_running(caplog: Any) -> None:
    """It is logged, with its traceback; so is one that is cancelled from inside."""
    ws, _ = await accepted()
    ran: list[int] = []

    def fail() -> None:
        raise ValueError("cleanup")

    async def cancelled() -> None:
        raise asyncio.CancelledError

    ws.add_cleanup(fail)
    ws.add_cleanup(cancelled)
    ws.add_cleanup(lambda: ran.append(1))
    with caplog.at_level(logging.ERROR, "simplews.websocket"):
        await ws.close()
    assert ran == [1]
    assert [record.exc_info[0] for record in caplog.records] == [
        ValueError,
        asyncio.CancelledError,
    ]
    assert "cleanup <function" in caplog.text


async def test_cleanups_run_though_the_closer_is_cancelled() -> None:
    """The cancellation passes at once; what has begun goes on."""
    ws, _ = await accepted()
    go, ran = asyncio.Event(), []

    async def slow() -> None:
        await go.wait()
        ran.append(1)

    ws.add_cleanup(slow)
    ws.add_cleanup(lambda: ran.append(2))
    closing = asyncio.ensure_future(ws.close())
    await settled()
    closing.cancel()
    await asyncio.wait([closing])
    assert closing.cancelled()
    again = asyncio.ensure_future(ws.close())
    await settled()
    assert not again.done(), "a second close() waits for the same end"
    go.set()
    await again
    assert ran == [1, 2]


async def test_cleanups_that_are_cancelled_themselves() -> None:
    """As the end of an event loop does to every task: they stop, and say so."""
    ws, _ = await accepted()
    ran: list[int] = []
    ws.add_cleanup(asyncio.Event().wait)
    ws.add_cleanup(lambda: ran.append(1))
    closing = asyncio.ensure_future(ws.close())
    await settled()
    (cleaning,) = asyncio.all_tasks() - {closing, asyncio.current_task()}
    cleaning.cancel()
    await asyncio.wait([closing])
    assert closing.cancelled() and ran == []


async def test_cleanup_may_close() -> None:
    """It waits for itself no more than anybody else does."""
    ws, channel = await accepted()
    ws.add_cleanup(ws.close)
    await ws.close()
    assert len(channel.sent) == 1


async def test_cleanup_after_the_end_runs_at_once() -> None:
    """Also one that a cleanup adds."""
    ws, _ = await accepted()
    ran: list[int] = []
    ws.add_cleanup(lambda: ws.add_cleanup(lambda: ran.append(1)))
    await ws.close()
    assert ran == [1]
    ws.add_cleanup(lambda: ran.append(2))
    await settled()
    assert ran == [1, 2]


async def test_without_cleanups_no_task_is_made() -> None:
    """Most connections have none."""
    ws, _ = await accepted()
    before = asyncio.all_tasks()
    await ws.close()
    assert asyncio.all_tasks() == before and ws._cleaning is None
