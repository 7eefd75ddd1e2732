"""What surrounds a handler: middlewares, signals, views, sub-applications, the access log."""

from __future__ import annotations

import asyncio
import logging
import warnings
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from simplews import AioServer

from ..peer import CLOSE, TEXT, until
from .site import Log, request, running


async def echo(request: web.Request) -> Any:
    async with AioServer.accept(aiohttp=request) as ws:
        async for message in ws:
            if message == "fail":
                raise LookupError("mine")
            await ws.send(message)
    return ws.response


def application(*middlewares: Any, handler: Any = echo) -> web.Application:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # old-style middlewares
        app = web.Application(middlewares=middlewares)
    app.router.add_get("/", handler)
    return app


async def says(site: Any, path: str = "/") -> None:
    """An echo works, over the whole life of a connection."""
    async with site.connect(path) as ws:
        await ws.send("x")
        assert await ws.receive() == "x"
    await until(lambda: not site.connections)


# ----------------------------------------------------------------- middlewares


@web.middleware
async def sets_headers(request: web.Request, handler: Any) -> web.StreamResponse:
    response: web.StreamResponse = await handler(request)
    response.headers["X-Late"] = "1"
    response.set_cookie("late", "1")
    return response


async def old_style(app: web.Application, handler: Any) -> Any:
    async def middleware(request: web.Request) -> web.StreamResponse:
        response: web.StreamResponse = await handler(request)
        response.headers["X-Late"] = "1"
        return response

    return middleware


@web.middleware
async def clones(request: web.Request, handler: Any) -> Any:
    return await handler(request.clone(scheme="https"))


@web.middleware
async def replaces(request: web.Request, handler: Any) -> web.StreamResponse:
    await handler(request)
    return web.Response(text="not to be seen")


@web.middleware
async def limits(request: web.Request, handler: Any) -> Any:
    async with asyncio.timeout(1000):
        return await handler(request)


MIDDLEWARES = [sets_headers, old_style, clones, replaces, limits]


@pytest.mark.filterwarnings("ignore:old-style middleware:DeprecationWarning")
@pytest.mark.parametrize("middleware", MIDDLEWARES)
async def test_a_middleware_sees_a_response(middleware: Any, log: Log) -> None:
    async with running(application(middleware)) as site:
        await says(site)
    assert log.lines() == []


@pytest.mark.filterwarnings("ignore:old-style middleware:DeprecationWarning")
@pytest.mark.parametrize("middleware", MIDDLEWARES)
async def test_a_handler_fails_behind_a_middleware(middleware: Any, log: Log) -> None:
    async with running(application(middleware)) as site:
        async with site.opened() as peer:
            await peer.send(TEXT, "fail")
            frame = await peer.frame()
            assert frame is not None and frame[1][:2] == b"\x03\xf3"
            await peer.send_close(1011)
            assert await peer.frames() == []
    assert log.raised() == [("simplews.server", LookupError)]


async def test_a_middleware_that_clones_and_refuses(log: Log) -> None:
    async with running(application(clones)) as site:
        async with site.peer() as peer:
            for _ in range(2):
                await peer.write(request(Sec_WebSocket_Version="8"))
                assert b" 426 " in await peer.head()
                while not peer.received.endswith(b"\n"):
                    await peer._more()
                peer.received.clear()
    assert log.lines() == []


async def test_a_middleware_that_catches_everything(log: Log) -> None:
    caught: list[Exception] = []

    @web.middleware
    async def catches(request: web.Request, handler: Any) -> Any:
        try:
            return await handler(request)
        except Exception as exc:
            caught.append(exc)
            return web.Response(status=500, text="not to be seen")

    async def fails(request: web.Request) -> None:
        await AioServer.accept(aiohttp=request)
        raise LookupError("mine")

    async with running(application(catches, handler=fails)) as site:
        async with site.opened() as peer:
            assert await peer.frame() == (CLOSE, b"\x03\xe8")
            await peer.send_close(1000)
            assert await peer.frames() == []
    assert [type(exc) for exc in caught] == [LookupError]
    assert log.lines() == []


async def test_a_middleware_whose_time_is_over(log: Log) -> None:
    @web.middleware
    async def brief(request: web.Request, handler: Any) -> Any:
        async with asyncio.timeout(5):
            return await handler(request)

    async def waits(request: web.Request) -> None:
        ws = await AioServer.accept(aiohttp=request)
        await ws.receive()

    async with running(application(brief, handler=waits)) as site:
        async with site.opened() as peer:
            assert await peer.frame() == (CLOSE, b"\x03\xf3")
            await peer.send_close(1011)
            assert await peer.frames() == []
    assert log.raised() == [("simplews.server", TimeoutError)]


# --------------------------------------------------------------------- signals


async def test_a_signal_adds_to_the_101(log: Log) -> None:
    seen: list[Any] = []

    async def prepare(request: web.Request, response: web.StreamResponse) -> None:
        seen.append(response.status)
        response.headers["X-Signal"] = "1"
        response.headers.add("Set-Cookie", "a=1")
        response.headers.add("Set-Cookie", "b=2")

    app = application()
    app.on_response_prepare.append(prepare)
    async with running(app) as site:
        async with site.peer(request()) as peer:
            head = (await peer.head()).decode()
        await until(lambda: not site.connections)
    assert seen == [101]
    assert "\r\nX-Signal: 1\r\n" in head
    assert "\r\nSet-Cookie: a=1\r\nSet-Cookie: b=2\r\n" in head
    assert "\r\nSec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n" in head
    names = [line.partition(":")[0].lower() for line in head.split("\r\n")[1:-2]]
    assert names.count("connection") == names.count("upgrade") == 1
    assert not {"content-length", "transfer-encoding", "content-type"} & set(names)
    assert log.lines() == []


@pytest.mark.parametrize("wrong", [False, True], ids=["101", "426"])
async def test_a_signal_that_raises_is_no_client_that_left(wrong: bool, log: Log) -> None:
    async def prepare(request: web.Request, response: web.StreamResponse) -> None:
        if response.status in (101, 426):
            raise FileNotFoundError("mine")

    app = application()
    app.on_response_prepare.append(prepare)
    async with running(app) as site:
        async with site.peer(request(Sec_WebSocket_Version="8" if wrong else "13")) as peer:
            assert (await peer.head()).startswith(b"HTTP/1.1 500 ")
    assert log.raised() == [("aiohttp.server", FileNotFoundError)]


# --------------------------------------------------------- views, sub-applications


async def test_a_class_based_view(log: Log) -> None:
    class View(web.View):
        async def get(self) -> Any:
            return await echo(self.request)

    app = web.Application()
    app.router.add_view("/", View)
    async with running(app) as site:
        await says(site)
    assert log.lines() == []


async def test_a_sub_application_with_a_middleware_and_a_signal(log: Log) -> None:
    heads: list[str] = []

    async def prepare(request: web.Request, response: web.StreamResponse) -> None:
        heads.append(str(response.status))

    inner = application(clones)
    inner.on_response_prepare.append(prepare)
    app = web.Application(middlewares=[sets_headers])
    app.on_response_prepare.append(prepare)
    app.add_subapp("/inner", inner)
    async with running(app) as site:
        # By its Host without a port, with which aiohttp 3.9 and a later yarl do not cope.
        async with site.opened("/inner/") as peer:
            await peer.send(TEXT, "x")
            assert await peer.frame() == (TEXT, b"x")
    assert heads == ["101", "101"]
    assert log.lines() == []


async def test_aiohttps_own_client(log: Log) -> None:
    async with running(application()) as site:
        async with aiohttp.ClientSession() as session:
            async with session.ws_connect(site.url(), compress=15) as ws:
                await ws.send_str("x" * 5000)
                assert await ws.receive_str() == "x" * 5000
            assert ws.close_code == 1000
            async with session.get(f"http://127.0.0.1:{site.port}/") as response:
                assert response.status == 426
                assert response.headers["Sec-WebSocket-Version"] == "13"
    assert log.lines() == []


# ------------------------------------------------------------------ access log


async def test_the_access_log_has_one_line_when_all_is_over(log: Log) -> None:
    def accessed() -> list[str]:
        return [r.getMessage() for r in log.records if r.name == "aiohttp.access"]

    logger = logging.getLogger("aiohttp.access")
    async with running(application(), access_log=logger, access_log_format="%s %r") as site:
        async with site.connect() as ws:
            await ws.send("x")
            assert await ws.receive() == "x"
            assert accessed() == []
        await until(accessed)
        await until(lambda: not site.connections)
        assert accessed() == ["101 GET / HTTP/1.1"]
        async with site.peer(request(Sec_WebSocket_Version="8")) as peer:
            await peer.head()
        await until(lambda: len(accessed()) == 2)
        assert accessed()[1] == "426 GET / HTTP/1.1"
    assert log.lines() == []


async def test_nothing_is_kept_in_the_request(log: Log) -> None:
    """Others look at what is in it."""
    kept: list[object] = []

    async def handler(request: web.Request) -> None:
        await AioServer.accept(aiohttp=request)
        kept.extend(request)

    async with running(application(handler=handler)) as site:
        async with site.opened():
            pass
    assert kept == []
