"""
Litestar: an echo at a path of its own, beside an ordinary page.

Start:  python -m pip install litestar uvicorn
        python examples/litestar_app.py [HOST [PORT]]
See:    Uvicorn running on http://127.0.0.1:8000
Then:   python examples/echo_client.py ws://127.0.0.1:8000/echo

Ctrl-C stops it.
"""

import sys
from typing import Any

import uvicorn
from litestar import Litestar, WebSocket, get, websocket

from simplews import AioServer


@websocket("/echo")
async def echo(socket: WebSocket[Any, Any, Any]) -> None:
    async with AioServer.accept(asgi=socket) as ws:
        async for message in ws:
            await ws.send(message)


@get("/")
async def page() -> str:
    return "The WebSocket is at /echo\n"


app = Litestar([echo, page], openapi_config=None)


def main(host: str = "127.0.0.1", port: str = "8000") -> None:
    uvicorn.run(app, host=host, port=int(port))


if __name__ == "__main__":
    main(*sys.argv[1:])
