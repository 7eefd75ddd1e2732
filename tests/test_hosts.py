"""The hosts that other tests run in: they serve, and leave nothing behind."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import socket
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from typing import Any

import pytest
from aiohttp import WSMsgType, web

from simplews import AioClient

from . import hosts
from .tls import Tls

Host = Callable[..., AbstractAsyncContextManager[int]]

ASGI: dict[str, Host] = {
    **{f"uvicorn+{ws}": functools.partial(hosts.uvicorn_host, ws=ws) for ws in hosts.UVICORN_WS},
    "hypercorn": hosts.hypercorn_host,
    "granian": hosts.granian_host,
    "daphne": hosts.daphne_host,
}
WITH_TLS = [name for name in ASGI if name.startswith(("uvicorn", "hypercorn"))]


async def echo(scope: Any, receive: Any, send: Any) -> None:
    """An ASGI application that sends back what it gets."""
    assert (await receive())["type"] == "websocket.connect"
    await send({"type": "websocket.accept"})
    while (message := await receive())["type"] == "websocket.receive":
        text, data = message.get("text"), message.get("bytes")
        await send({"type": "websocket.send", "text": text, "bytes": data})


async def aiohttp_echo(request: web.Request) -> web.WebSocketResponse:
    ws = web.WebSocketResponse()
    await ws.prepare(request)
    async for message in ws:
        if message.type is WSMsgType.TEXT:
            await ws.send_str(message.data)
        else:
            await ws.send_bytes(message.data)
    return ws


@pytest.fixture(autouse=True)
async def nothing_left() -> AsyncIterator[None]:
    """No host leaves a task or a thread behind."""
    tasks, threads = asyncio.all_tasks(), set(threading.enumerate())
    yield
    left = asyncio.all_tasks() - tasks - {asyncio.current_task()}
    assert not left
    # The loop's executor resolves names, and ends with the loop.
    more = set(threading.enumerate()) - threads
    assert not [thread for thread in more if not thread.name.startswith("asyncio_")]


async def talk(port: int, tls: Tls | None) -> None:
    scheme = "wss" if tls else "ws"
    context = tls.client if tls else None
    url = f"{scheme}://127.0.0.1:{port}/path?q=1"
    async with AioClient.connect(url, ssl_context=context) as ws:
        await ws.send("text é")
        await ws.send(b"\0bytes" * 1000)
        assert [await ws.receive(), await ws.receive()] == ["text é", b"\0bytes" * 1000]


@pytest.mark.parametrize("name", ASGI)
async def test_an_asgi_host_serves_the_application(name: str) -> None:
    async with ASGI[name](echo) as port:
        for _ in range(2):
            await talk(port, None)


@pytest.mark.parametrize("name", WITH_TLS)
async def test_an_asgi_host_serves_tls(name: str, tls: Tls) -> None:
    async with ASGI[name](echo, tls=tls) as port:
        await talk(port, tls)


@pytest.mark.parametrize("secure", [False, True], ids=["plain", "tls"])
async def test_aiohttp_serves_the_handler(secure: bool, tls: Tls) -> None:
    async with hosts.aiohttp_host(aiohttp_echo, tls=tls if secure else None) as port:
        await talk(port, tls if secure else None)


@pytest.mark.parametrize("name", ASGI)
async def test_a_host_ends_with_a_connection_open(name: str) -> None:
    async with contextlib.AsyncExitStack() as stack:
        async with ASGI[name](echo) as port:
            client = await stack.enter_async_context(AioClient.connect(f"ws://127.0.0.1:{port}/"))
            stack.callback(client.abort)
            await client.send("x")
            assert await client.receive() == "x"
        await client.wait_closed()
    with pytest.raises(OSError):
        socket.create_connection(("127.0.0.1", port))


@pytest.mark.parametrize("name", ASGI)
async def test_a_host_ends_though_its_application_does_not(name: str) -> None:
    entered, ended = asyncio.Event(), asyncio.Event()

    async def stuck(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send({"type": "websocket.accept"})
        entered.set()
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    async with contextlib.AsyncExitStack() as stack:
        async with ASGI[name](stuck) as port:
            client = await stack.enter_async_context(AioClient.connect(f"ws://127.0.0.1:{port}/"))
            stack.callback(client.abort)
            await entered.wait()
        assert ended.is_set()


async def test_aiohttp_ends_though_its_handler_does_not() -> None:
    entered, ended = asyncio.Event(), asyncio.Event()

    async def stuck(request: web.Request) -> web.StreamResponse:
        await web.WebSocketResponse().prepare(request)
        entered.set()
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()
        raise AssertionError

    async with contextlib.AsyncExitStack() as stack:
        async with hosts.aiohttp_host(stuck) as port:
            client = await stack.enter_async_context(AioClient.connect(f"ws://127.0.0.1:{port}/"))
            stack.callback(client.abort)
            await entered.wait()
        assert ended.is_set()


@pytest.mark.parametrize("name", ASGI)
async def test_a_host_ends_with_an_idle_tcp_connection(name: str) -> None:
    async with ASGI[name](echo) as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        await talk(port, None)  # so the host has accepted the first one, too
    with contextlib.suppress(ConnectionError):
        assert await reader.read() == b""
    writer.close()
    with contextlib.suppress(ConnectionError):
        await writer.wait_closed()


@pytest.mark.parametrize("name", [name for name in ASGI if name != "daphne"])
async def test_an_application_may_have_its_lifespan(name: str) -> None:
    steps: list[str] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "websocket":
            return await echo(scope, receive, send)
        for _ in range(2):
            step = (await receive())["type"]
            steps.append(step)
            await send({"type": f"{step}.complete"})

    async with ASGI[name](app, lifespan=True) as port:
        await talk(port, None)
        assert steps == ["lifespan.startup"]
    assert steps == ["lifespan.startup", "lifespan.shutdown"]


@pytest.mark.parametrize("name", ASGI)
async def test_a_host_logs_what_an_application_raises(
    name: str, caplog: pytest.LogCaptureFixture
) -> None:
    async def fail(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send({"type": "websocket.accept"})
        raise LookupError("the application's own")

    async with ASGI[name](fail) as port:
        async with AioClient.connect(f"ws://127.0.0.1:{port}/") as ws:
            await ws.wait_closed()
    assert "the application's own" in caplog.text
    host = name.partition("+")[0]
    levels = [record.levelname for record in caplog.records if host in record.name]
    assert [level for level in levels if level not in ("DEBUG", "INFO")] == ["ERROR"]


async def test_hosts_run_side_by_side() -> None:
    async with contextlib.AsyncExitStack() as stack:
        ports = [await stack.enter_async_context(host(echo)) for host in ASGI.values()]
        await asyncio.gather(*(talk(port, None) for port in ports))
