"""
ASGI without a framework: HTTP, two WebSockets and the lifespan in one callable.

/echo is an AioServer: it reads ahead, knows timeouts, and notices that a client
has left. /hello is a WebSocket: each call is one message of ASGI, and nothing
happens in between.

Start:  python -m pip install uvicorn
        python examples/asgi_app.py [HOST [PORT]]
See:    Uvicorn running on http://127.0.0.1:8000
Then:   python examples/echo_client.py ws://127.0.0.1:8000/echo
        python examples/echo_client.py ws://127.0.0.1:8000/hello

Any ASGI server does, started in this folder:  granian --interface asgi asgi_app:app
Ctrl-C stops it.
"""

import sys
from typing import Any

import uvicorn

from simplews import AioServer, WebSocket


async def echo(scope: Any, receive: Any, send: Any) -> None:
    async with AioServer.accept(asgi=(scope, receive, send)) as ws:
        async for message in ws:
            await ws.send(message)


async def hello(scope: Any, receive: Any, send: Any) -> None:
    async with WebSocket(scope, receive, send) as ws:
        await ws.accept()
        name = await ws.receive_text()
        await ws.send_json({"hello": name, "greeting": ws.state.greeting})


async def page(scope: Any, receive: Any, send: Any) -> None:
    found = scope["path"] == "/"
    body = b"The WebSockets are at /echo and /hello\n" if found else b"Not here\n"
    fields = [(b"content-type", b"text/plain"), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": 200 if found else 404, "headers": fields})
    await send({"type": "http.response.body", "body": body})


async def lifespan(scope: Any, receive: Any, send: Any) -> None:
    await receive()  # lifespan.startup
    scope["state"]["greeting"] = "from the lifespan"  # every connection has a copy
    await send({"type": "lifespan.startup.complete"})
    await receive()  # lifespan.shutdown
    await send({"type": "lifespan.shutdown.complete"})


async def app(scope: Any, receive: Any, send: Any) -> None:
    match scope["type"], scope.get("path"):
        case "websocket", "/echo":
            await echo(scope, receive, send)
        case "websocket", "/hello":
            await hello(scope, receive, send)
        case "websocket", path:
            await WebSocket(scope, receive, send).deny(404, body=f"no WebSocket at {path}\n")
        case "http", _:
            await page(scope, receive, send)
        case "lifespan", _:
            await lifespan(scope, receive, send)


def main(host: str = "127.0.0.1", port: str = "8000") -> None:
    uvicorn.run(app, host=host, port=int(port))


if __name__ == "__main__":
    main(*sys.argv[1:])
