"""
One handler, four ways to get a connection: nothing in it knows which one it is.

Start:  python -m pip install aiohttp uvicorn
        python examples/same_handler.py [HOST]
See:    serve():          text 'Grüße', bytes b'\\x00\\x01', then 1000 'that was all'
        aiohttp:          text 'Grüße', bytes b'\\x00\\x01', then 1000 'that was all'
        ASGI (uvicorn):   text 'Grüße', bytes b'\\x00\\x01', then 1000 'that was all'
        a raw socket:     text 'Grüße', bytes b'\\x00\\x01', then 1000 'that was all'
        All four gave the same.
"""

import asyncio
import contextlib
import socket
import sys
from collections.abc import AsyncIterator
from typing import Any

import uvicorn
from aiohttp import web

from simplews import AioClient, AioServer, ConnectionClosed, serve


async def echo(ws: AioServer) -> None:
    async for message in ws:
        if message == "stop":
            await ws.close(1000, "that was all")
        else:
            await ws.send(message)


@contextlib.asynccontextmanager
async def with_serve(host: str) -> AsyncIterator[int]:
    async with serve(echo, host, 0) as server:
        yield server.port


@contextlib.asynccontextmanager
async def with_aiohttp(host: str) -> AsyncIterator[int]:
    async def handle(request: web.Request) -> Any:
        ws = await AioServer.accept(aiohttp=request)
        await echo(ws)
        return ws.response

    app = web.Application()
    app.router.add_get("/", handle)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, host, 0).start()
    yield runner.addresses[0][1]
    await runner.cleanup()


@contextlib.asynccontextmanager
async def with_asgi(host: str) -> AsyncIterator[int]:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        async with AioServer.accept(asgi=(scope, receive, send)) as ws:
            await echo(ws)

    server = uvicorn.Server(uvicorn.Config(app, lifespan="off", log_level="warning"))
    with socket.create_server((host, 0)) as listener:
        running = asyncio.create_task(server.serve(sockets=[listener]))
        yield listener.getsockname()[1]  # who connects before it is ready, waits
        server.should_exit = True
        await running


@contextlib.asynccontextmanager
async def with_socket(host: str) -> AsyncIterator[int]:
    async def accept_one() -> None:
        client, _ = await asyncio.get_running_loop().sock_accept(listener)
        async with AioServer.accept(sock=client) as ws:
            await echo(ws)

    with socket.create_server((host, 0)) as listener:
        listener.setblocking(False)
        running = asyncio.create_task(accept_one())
        yield listener.getsockname()[1]
        await running


async def talk(url: str) -> str:
    async with AioClient.connect(url) as ws:
        await ws.send("Grüße")
        await ws.send(b"\x00\x01")
        await ws.send("stop")
        text, data = await ws.receive(), await ws.receive()
        try:
            await ws.receive()
        except ConnectionClosed as end:
            return f"text {text!r}, bytes {data!r}, then {end.code} {end.reason!r}"
    raise AssertionError("it should have been closed")


async def main(host: str = "127.0.0.1") -> None:
    answers = []
    for name, running in {
        "serve():": with_serve,
        "aiohttp:": with_aiohttp,
        "ASGI (uvicorn):": with_asgi,
        "a raw socket:": with_socket,
    }.items():
        async with running(host) as port:
            answers.append(await talk(f"ws://{host}:{port}/"))
        print(f"{name:17} {answers[-1]}")
    print("All four gave the same." if len(set(answers)) == 1 else "They differ!")


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
