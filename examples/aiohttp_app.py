"""
aiohttp: a page and a WebSocket in one application, behind one middleware.

Start:  python -m pip install aiohttp
        python examples/aiohttp_app.py [HOST [PORT]]
See:    Running on http://127.0.0.1:8080
Then:   python examples/echo_client.py ws://127.0.0.1:8080/echo

Ctrl-C stops it: whoever is still connected gets a Close with 1001 (going away).
"""

import sys
import time
from collections.abc import Awaitable, Callable
from typing import Any

from aiohttp import web

from simplews import AioServer

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


async def echo(request: web.Request) -> Any:
    # aiohttp has no limit of its own here, and sends no pings: both are ours.
    ws = await AioServer.accept(aiohttp=request, ping_interval=20, max_message_size=2**20)
    async for message in ws:
        await ws.send(message)
    return ws.response  # the 101, which has been sent


async def page(request: web.Request) -> web.StreamResponse:
    return web.Response(text="The WebSocket is at /echo\n")


@web.middleware
async def timing(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Say how long a request took; to a WebSocket, which is over by now, it changes nothing."""
    begin = time.perf_counter()
    response = await handler(request)
    response.headers["Server-Timing"] = f"app;dur={1000 * (time.perf_counter() - begin):.1f}"
    return response


async def brand(request: web.Request, response: web.StreamResponse) -> None:
    """A signal comes before the header fields are sent, of a WebSocket's 101 as well."""
    response.headers["X-Served-By"] = "aiohttp and simplews"


app = web.Application(middlewares=[timing])
app.add_routes([web.get("/echo", echo), web.get("/", page)])
app.on_response_prepare.append(brand)


def main(host: str = "127.0.0.1", port: str = "8080") -> None:
    web.run_app(app, host=host, port=int(port))


if __name__ == "__main__":
    main(*sys.argv[1:])
