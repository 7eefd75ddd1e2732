"""
Saying no: before the connection is open, and right after it.

A client without a good token is refused in one of two ways:

/strict   an HTTP answer instead of a WebSocket: cheap, and programs see status
          and body. A page in a browser sees nothing but 1006.
/visible  the connection is opened and closed at once: a page in a browser sees
          the close code, and its reason.

Start:  python -m pip install uvicorn
        python examples/reject.py [HOST [PORT]]
See:    Uvicorn running on http://127.0.0.1:8000
Then:   simplews connect ws://127.0.0.1:8000/strict
        simplews connect ws://127.0.0.1:8000/visible
        simplews connect "ws://127.0.0.1:8000/strict?token=open-sesame"

Ctrl-C stops it.
"""

import hmac
import sys
from typing import Any

import uvicorn

from simplews import AioServer, WebSocket
from simplews.auth import bearer_token

TOKEN = "open-sesame"  # yours comes from somewhere else


def is_valid(token: str | None) -> bool:
    return token is not None and hmac.compare_digest(token.encode(), TOKEN.encode())


async def app(scope: Any, receive: Any, send: Any) -> None:
    websocket = WebSocket(scope, receive, send)
    if not is_valid(bearer_token(websocket)):
        await websocket.reject(
            4401,
            "no valid token",
            status=401,
            headers={"WWW-Authenticate": "Bearer"},
            body="no valid token\n",
            visible=websocket.path == "/visible",
        )
        return
    async with AioServer.accept(asgi=websocket) as ws:
        async for message in ws:
            await ws.send(message)


def main(host: str = "127.0.0.1", port: str = "8000") -> None:
    uvicorn.run(app, host=host, port=int(port), lifespan="off")


if __name__ == "__main__":
    main(*sys.argv[1:])
