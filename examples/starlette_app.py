"""
Starlette: whoever posts a line by HTTP, everybody who is connected gets it.

Start:  python -m pip install starlette uvicorn
        python examples/starlette_app.py [HOST [PORT]]
See:    Uvicorn running on http://127.0.0.1:8000
Then:   simplews connect ws://127.0.0.1:8000/news
and in another terminal:  curl --data "It rains." http://127.0.0.1:8000/news

Ctrl-C stops it.
"""

import contextlib
import sys

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route, WebSocketRoute
from starlette.websockets import WebSocket

from simplews import AioServer, ConnectionClosed, Rooms

rooms = Rooms()


async def listen(websocket: WebSocket) -> None:
    with contextlib.suppress(ConnectionClosed):  # the client has left
        async with AioServer.accept(asgi=websocket) as ws, rooms.join("news", ws):
            # Nobody is expected to speak; who is silent for long gets a sign of life.
            while True:
                if await ws.receive(timeout=60) is None:
                    await ws.send("no news")


async def publish(request: Request) -> PlainTextResponse:
    line = (await request.body()).decode(errors="replace")
    result = await rooms.broadcast("news", line)
    return PlainTextResponse(f"{result.delivered} got it\n")


app = Starlette(
    routes=[
        WebSocketRoute("/news", listen),
        Route("/news", publish, methods=["POST"]),
    ]
)


def main(host: str = "127.0.0.1", port: str = "8000") -> None:
    uvicorn.run(app, host=host, port=int(port))


if __name__ == "__main__":
    main(*sys.argv[1:])
