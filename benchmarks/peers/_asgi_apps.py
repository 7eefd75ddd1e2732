"""The ASGI applications that the adapters of ASGI servers serve."""

import importlib


class Bare:
    """Echo in bare ASGI, without a framework."""

    def __init__(self):
        self.members = {}

    async def __call__(self, scope, receive, send):
        if scope["type"] == "lifespan":
            await lifespan(receive, send)
        elif scope["type"] == "websocket":
            await receive()
            await send({"type": "websocket.accept"})
            if scope["path"] == "/bcast":
                await self.broadcast(receive, send)
            else:
                await self.echo(receive, send)

    async def echo(self, receive, send):
        while True:
            message = await receive()
            if message["type"] != "websocket.receive":
                break
            text = message.get("text")
            if text is not None:
                await send({"type": "websocket.send", "text": text})
            else:
                await send({"type": "websocket.send", "bytes": message["bytes"]})

    async def broadcast(self, receive, send):
        self.members[id(send)] = send
        try:
            while True:
                message = await receive()
                if message["type"] != "websocket.receive":
                    break
                out = {"type": "websocket.send", "text": message["text"]}
                for other in list(self.members.values()):
                    await other(out)
        finally:
            del self.members[id(send)]


async def lifespan(receive, send):
    """Start and stop when the server says so."""
    while True:
        message = await receive()
        await send({"type": message["type"] + ".complete"})
        if message["type"] == "lifespan.shutdown":
            break


def starlette_app():
    """Echo through Starlette's WebSocket."""
    from starlette.applications import Starlette
    from starlette.routing import WebSocketRoute
    from starlette.websockets import WebSocketDisconnect

    members = set()

    async def echo(ws):
        await ws.accept()
        while True:
            message = await ws.receive()
            if message["type"] != "websocket.receive":
                break
            text = message.get("text")
            if text is not None:
                await ws.send_text(text)
            else:
                await ws.send_bytes(message["bytes"])

    async def bcast(ws):
        await ws.accept()
        members.add(ws)
        try:
            while True:
                text = await ws.receive_text()
                for other in list(members):
                    await other.send_text(text)
        except WebSocketDisconnect:
            pass
        finally:
            members.discard(ws)

    return Starlette(routes=[WebSocketRoute("/echo", echo), WebSocketRoute("/bcast", bcast)])


def accept_app(module):
    """Echo through the AioServer of *module*."""
    api = importlib.import_module(module)
    members = set()

    async def app(scope, receive, send):
        if scope["type"] == "lifespan":
            await lifespan(receive, send)
        if scope["type"] != "websocket":
            return
        ws = await api.AioServer.accept(asgi=(scope, receive, send))
        try:
            if scope["path"] == "/bcast":
                members.add(ws)
                while True:
                    message = await ws.receive()
                    for other in list(members):
                        await other.send(message)
            while True:
                await ws.send(await ws.receive())
        except api.ConnectionClosed:
            pass
        finally:
            members.discard(ws)

    return app


def application(name):
    """The application of that name; a module's name is one whose AioServer echoes."""
    if name == "bare":
        return Bare()
    return starlette_app() if name == "starlette" else accept_app(name)


# granian imports an application by its name.
bare = Bare()
