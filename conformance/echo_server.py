"""The server that the suite's fuzzing client attacks: no size limit, all else as it comes.

python echo_server.py PORT [SOURCE]

SOURCE is who has the connection first: ``serve`` (the default), ``stream``, ``socket``
or ``aiohttp``; or ``uvicorn``, which goes on speaking the protocol, so that the suite
looks at uvicorn and at what of its answers an application can spoil.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import sys
from typing import Any

from simplews import AioServer, ConnectionClosed, serve


async def echo(ws: AioServer) -> None:
    async for message in ws:
        await ws.send(message)


async def accepted(**source: Any) -> None:
    with contextlib.suppress(ConnectionClosed):  # most cases end badly, as they should
        async with AioServer.accept(**source) as ws:
            await echo(ws)


async def over_serve(port: int) -> None:
    server = serve(echo, "127.0.0.1", port, ping_interval=None, max_message_size=None)
    await server.serve_forever()


async def over_stream(port: int) -> None:
    async def connected(*streams: Any) -> None:
        await accepted(stream=streams)

    server = await asyncio.start_server(connected, "127.0.0.1", port)
    await server.serve_forever()


async def over_socket(port: int) -> None:
    loop = asyncio.get_running_loop()
    tasks: set[asyncio.Task[None]] = set()
    with socket.create_server(("127.0.0.1", port)) as listener:
        listener.setblocking(False)
        while True:
            sock, _ = await loop.sock_accept(listener)
            task = asyncio.ensure_future(accepted(sock=sock))
            tasks.add(task)
            task.add_done_callback(tasks.discard)


async def over_aiohttp(port: int) -> None:
    from aiohttp import web

    async def handler(request: web.Request) -> Any:
        ws = await AioServer.accept(aiohttp=request)
        with contextlib.suppress(ConnectionClosed):
            await echo(ws)
        return ws.response

    app = web.Application()
    app.router.add_get("/{rest:.*}", handler)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", port).start()
    await asyncio.Event().wait()


async def over_uvicorn(port: int) -> None:
    import uvicorn

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await accepted(asgi=(scope, receive, send))

    settings = uvicorn.Config(
        app,
        host="127.0.0.1",
        port=port,
        ws="websockets-sansio",
        ws_max_size=1 << 26,
        ws_ping_interval=None,
        lifespan="off",
        log_level="warning",
    )
    await uvicorn.Server(settings).serve()


SOURCES = {
    "serve": over_serve,
    "stream": over_stream,
    "socket": over_socket,
    "aiohttp": over_aiohttp,
    "uvicorn": over_uvicorn,
}

if __name__ == "__main__":
    asyncio.run(SOURCES[sys.argv[2] if len(sys.argv) > 2 else "serve"](int(sys.argv[1])))
