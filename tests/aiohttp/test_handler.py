"""How a handler ends: what is on the wire then, and what is logged."""

from __future__ import annotations

import asyncio
import struct
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from aiohttp import web

from simplews import AioServer, Close, ConnectionClosed
from simplews.types import Ending

from ..peer import CLOSE, TEXT, until
from .site import Log, get, running

Outcome = Callable[[Any], Awaitable[Any]]


async def raises(exc: BaseException) -> None:
    raise exc


async def value(what: Any) -> Any:
    return what


RETURNED: dict[str, Outcome] = {
    "ws.response": lambda ws: value(ws.response),
    "a response": lambda ws: value(web.Response(text="not to be seen")),
    "None": lambda ws: value(None),
    "a string": lambda ws: value("not to be seen"),
}
RAISED: dict[str, tuple[Outcome, type[BaseException]]] = {
    "LookupError": (lambda ws: raises(LookupError("mine")), LookupError),
    "OSError": (lambda ws: raises(ConnectionResetError("another's")), ConnectionResetError),
    "TimeoutError": (lambda ws: raises(TimeoutError("mine")), TimeoutError),
    "HTTPForbidden": (lambda ws: raises(web.HTTPForbidden()), web.HTTPForbidden),
    "the end of another connection": (
        lambda ws: raises(ConnectionClosed(Ending("peer", received=Close(1000)))),
        ConnectionClosed,
    ),
}


def close(code: int) -> tuple[int, bytes]:
    return CLOSE, struct.pack(">H", code)


async def run(
    outcome: Outcome, *, before: Callable[[AioServer], Awaitable[object]] | None = None
) -> list[tuple[int, bytes]]:
    """The frames that a client gets from a handler with this outcome."""

    async def handler(request: web.Request) -> Any:
        ws = await AioServer.accept(aiohttp=request)
        if before is not None:
            await before(ws)
        return await outcome(ws)

    async with running(handler) as site:
        async with site.opened() as peer:
            frames = []
            while (frame := await peer.frame()) is not None:
                frames.append(frame)
                await peer.write(b"\x88\x82\0\0\0\0" + frame[1][:2])
            await until(lambda: not site.connections)
    return frames


@pytest.mark.parametrize("name", RETURNED)
async def test_whatever_the_handler_returns_it_ends_with_1000(name: str, log: Log) -> None:
    assert await run(RETURNED[name]) == [close(1000)]
    assert log.lines() == []


@pytest.mark.parametrize("name", RAISED)
async def test_a_handler_that_raises_ends_with_1011_and_one_entry(name: str, log: Log) -> None:
    outcome, kind = RAISED[name]
    assert await run(outcome) == [close(1011)]
    assert log.raised() == [("simplews.server", kind)]
    assert log.lines() == [
        "simplews.server ERROR: the handler of / for 127.0.0.1 raised; "
        "its connection is closed with 1011"
    ]
    exc_info = log.records[0].exc_info
    assert exc_info and exc_info[2], "without its traceback an entry is worth little"


async def test_a_handler_that_is_cancelled_ends_with_1011(log: Log) -> None:
    assert await run(lambda ws: raises(asyncio.CancelledError())) == [close(1011)]
    assert log.lines() == []


@pytest.mark.parametrize("name", RETURNED)
async def test_nothing_comes_behind_our_close(name: str, log: Log) -> None:
    assert await run(RETURNED[name], before=lambda ws: ws.close(3001)) == [close(3001)]
    assert log.lines() == []


@pytest.mark.parametrize("name", RAISED)
async def test_nothing_comes_behind_our_close_when_the_handler_raises(name: str, log: Log) -> None:
    outcome, kind = RAISED[name]
    assert await run(outcome, before=lambda ws: ws.close(3001)) == [close(3001)]
    assert log.lines() == ["simplews.server ERROR: the handler of / for 127.0.0.1 raised"]
    assert log.raised() == [("simplews.server", kind)]


async def test_the_end_of_its_own_connection_need_not_be_caught(log: Log) -> None:
    async def handler(request: web.Request) -> None:
        ws = await AioServer.accept(aiohttp=request)
        while True:
            await ws.receive()

    async with running(handler) as site:
        for code in (1000, 1001, 3000):
            async with site.opened() as peer:
                await peer.send_close(code)
                assert await peer.frames() == [close(code)]
        async with site.opened() as peer:
            peer.reset()
        await until(lambda: not site.connections)
    assert log.lines() == []


async def test_a_block_that_raises_ends_with_1011(log: Log) -> None:
    async def handler(request: web.Request) -> None:
        async with AioServer.accept(aiohttp=request):
            raise LookupError("mine")

    async with running(handler) as site:
        async with site.opened() as peer:
            frame = await peer.frame()
            assert frame is not None and frame[1][:2] == b"\x03\xf3"
            await peer.send_close(1011)
            assert await peer.frames() == []
    assert log.raised() == [("simplews.server", LookupError)]


async def test_a_peer_that_does_not_answer_our_close_is_dropped(log: Log) -> None:
    async def handler(request: web.Request) -> None:
        await AioServer.accept(aiohttp=request, close_timeout=3)

    loop = asyncio.get_running_loop()
    async with running(handler) as site:
        async with site.opened() as peer:
            began = loop.time()
            assert await peer.frames() == [close(1000)]
            assert loop.time() - began == pytest.approx(3, abs=0.5)
        await until(lambda: not site.connections)
    assert log.lines() == []


BEFORE: dict[str, tuple[Outcome, int, int]] = {
    "a response": (lambda _: value(web.Response(text="plain")), 200, 0),
    "LookupError": (lambda _: raises(LookupError()), 500, 1),
    "TimeoutError": (lambda _: raises(TimeoutError()), 504, 1),
    "HTTPForbidden": (lambda _: raises(web.HTTPForbidden()), 403, 0),
}


@pytest.mark.parametrize("name", BEFORE)
async def test_a_handler_that_ends_before_it_accepts_is_aiohttps_matter(
    name: str, log: Log
) -> None:
    outcome, status, logged = BEFORE[name]

    async def handler(request: web.Request) -> Any:
        AioServer.accept(aiohttp=request).close()
        return await outcome(None)

    async with running(handler) as site:
        async with site.peer() as peer:
            assert (await get(peer))[0] == status
    assert [name for name, _ in log.raised()] == ["aiohttp.server"] * logged


async def test_what_choose_subprotocol_raises_is_answered_with_500(log: Log) -> None:
    class Ours(AioServer):
        def choose_subprotocol(self, request: object) -> str | None:
            raise LookupError("mine")

    async def handler(request: web.Request) -> None:
        await Ours.accept(aiohttp=request)

    async with running(handler) as site:
        with pytest.raises(ConnectionError) as refused:
            await site.connect()
    assert getattr(refused.value, "status_code", None) == 500
    assert log.raised() == [("aiohttp.server", LookupError)]


async def test_aiohttp_cannot_write_to_a_connection_that_is_ours(log: Log) -> None:
    """A handler that had begun an answer of its own finds the client gone."""

    async def handler(request: web.Request) -> None:
        other = web.StreamResponse()
        ws = await AioServer.accept(aiohttp=request)
        with pytest.raises(OSError):
            await other.prepare(request)
            await other.write(b"not to be seen")
        assert request.transport is not None
        assert request.transport.get_extra_info("peername")[0] == "127.0.0.1"
        await ws.send("x")

    async with running(handler) as site:
        async with site.opened() as peer:
            assert await peer.frame() == (TEXT, b"x")
            assert await peer.frame() == close(1000)
            await peer.send_close(1000)
            assert await peer.frames() == []
    assert log.lines() == []


async def test_two_handlers_at_once(log: Log) -> None:
    async def handler(request: web.Request) -> web.StreamResponse:
        async with AioServer.accept(aiohttp=request) as ws:
            async for message in ws:
                await ws.send(f"{request.path} {message}")
        response: web.StreamResponse = ws.response
        return response

    async with running(handler) as site:

        async def talk(path: str) -> list[object]:
            async with site.connect(path) as ws:
                for number in range(50):
                    await ws.send(str(number))
                return [await ws.receive() for _ in range(50)]

        paths = [f"/{number}" for number in range(10)]
        assert await asyncio.gather(*map(talk, paths)) == [
            [f"{path} {number}" for number in range(50)] for path in paths
        ]
        await until(lambda: not site.connections)
    assert log.lines() == []


async def test_a_handler_goes_on_past_its_task() -> None:
    """What that is worth: `message-cost.md`; what it must not change: `test_past_task.py`."""
    asyncio.get_running_loop().set_debug(False)
    past: list[bool] = []

    async def handler(request: web.Request) -> Any:
        ws = await AioServer.accept(aiohttp=request)
        task: Any = asyncio.current_task()
        async for message in ws:
            past.append(task._fut_waiter is not None)
            await ws.send(message.data)
        return ws.response

    async with running(handler) as site, site.connect() as ws:
        for _ in range(4):
            await ws.send("echo")
            assert await ws.receive() == "echo"
    assert past[1:] == [True] * 3
