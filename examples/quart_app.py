"""
Quart: WebSockets in front of it, and everything else inside.

Quart's `websocket` has methods receive() and send() for messages, which are not
those of ASGI, so it cannot be given to `accept`. The ones of ASGI are in front of
the application: Quart calls that place `app.asgi_app`, and middleware goes there.

Start:  python -m pip install quart uvicorn
        python examples/quart_app.py [HOST [PORT]]
See:    Uvicorn running on http://127.0.0.1:8000
Then:   python examples/echo_client.py ws://127.0.0.1:8000/echo

Ctrl-C stops it.
"""

import sys
from typing import Any

import uvicorn
from quart import Quart

from simplews import AioServer


async def echo(ws: AioServer) -> None:
    async for message in ws:
        await ws.send(message)


class WebSocketAt:
    """Middleware that keeps the WebSockets of one path, and passes on all the rest."""

    def __init__(self, app: Any, path: str) -> None:
        self.app = app
        self.path = path

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "websocket" or scope["path"] != self.path:
            await self.app(scope, receive, send)
            return
        async with AioServer.accept(asgi=(scope, receive, send)) as ws:
            await echo(ws)


app = Quart(__name__)
app.asgi_app = WebSocketAt(app.asgi_app, "/echo")  # type: ignore[method-assign]


@app.get("/")
async def page() -> str:
    return "The WebSocket is at /echo\n"


def main(host: str = "127.0.0.1", port: str = "8000") -> None:
    uvicorn.run(app, host=host, port=int(port))


if __name__ == "__main__":
    main(*sys.argv[1:])
