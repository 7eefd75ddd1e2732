"""
simplews' servers, and simple-websocket's, whose AioServer has the same call.

serve    ``serve(handler, host, port)``, the standalone server
rooms    the same, and what comes in on /bcast goes to ``Rooms().broadcast()``
sock     ``AioServer.accept(sock=, headers=)``: the head of the request is read
         here, with ``loop.sock_recv()``
aiohttp  ``AioServer.accept(aiohttp=request)`` inside a handler of aiohttp

Under ASGI: ``asgi_server.py``.
"""

import asyncio
import importlib
import socket

from _common import limit, run_loop, serve_forever, server_args, tls, until_listening

PEER = {
    "role": "server",
    "variants": {
        "simplews-serve": ["--source", "serve"],
        "simplews-speed": ["--source", "serve"],
        "simplews-pure": ["--source", "serve"],
        "simplews-rooms": ["--source", "rooms"],
        "simplews-sock": ["--source", "sock"],
        "simplews-aiohttp": ["--source", "aiohttp"],
        "simple-websocket": ["--source", "sock", "--module", "simple_websocket"],
        "simple-websocket-aiohttp": ["--source", "aiohttp", "--module", "simple_websocket"],
    },
    "env": {
        "simplews-pure": {"SIMPLEWS_PURE": "1"},
        "simplews-speed": {"SIMPLEWS_SPEED": "1"},
    },
    "needs": {
        "simplews-serve": ["simplews"],
        "simplews-speed": ["simplews"],
        "simplews-pure": ["simplews"],
        "simplews-rooms": ["simplews"],
        "simplews-sock": ["simplews"],
        "simplews-aiohttp": ["simplews", "aiohttp"],
        "simple-websocket": ["simple_websocket"],
        "simple-websocket-aiohttp": ["simple_websocket", "aiohttp"],
    },
    "cases": {"simplews-rooms": ["S5", "L3a", "L3b", "L3c"]},
    # sock= takes no socket of the ssl module, and simple-websocket's aiohttp
    # source reads what is below the TLS.
    "tls": ["simplews-serve", "simplews-speed", "simplews-pure", "simplews-aiohttp"],
    "loops": ["asyncio", "uvloop"],
}


class Peer:
    """A module with AioServer, and those connected to /bcast."""

    def __init__(self, module):
        self.module = importlib.import_module(module)
        self.accept = self.module.AioServer.accept
        self.members = set()

    async def talk(self, ws, path):
        """Echo, or on /bcast pass each message on to all that are there."""
        try:
            if path == "/bcast":
                self.members.add(ws)
                while True:
                    message = await ws.receive()
                    for other in list(self.members):
                        await other.send(message)
            while True:
                await ws.send(await ws.receive())
        except self.module.ConnectionClosed:
            pass
        finally:
            self.members.discard(ws)


async def read_head(loop, sock):
    """The target and the header fields of the request, or None without one."""
    head = b""
    while b"\r\n\r\n" not in head:
        data = await loop.sock_recv(sock, 4096)
        if not data:
            return None
        head += data
    first, *lines = head.decode("latin-1").split("\r\n")
    headers = {}
    for line in lines:
        name, colon, value = line.partition(":")
        if colon:
            headers[name.strip()] = value.strip()
    return first.split(" ")[1], headers


async def main_sock(args, peer):
    loop = asyncio.get_running_loop()
    options = limit(args, "max_message_size")
    listener = socket.create_server(("127.0.0.1", args.port), backlog=1024)
    listener.setblocking(False)
    tasks = set()

    async def serve_one(sock):
        request = await read_head(loop, sock)
        if request is None:
            sock.close()
            return
        path, headers = request
        await peer.talk(await peer.accept(sock=sock, headers=headers, **options), path)

    async def accept_all():
        while True:
            sock, _ = await loop.sock_accept(listener)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            task = loop.create_task(serve_one(sock))
            tasks.add(task)
            task.add_done_callback(tasks.discard)

    tasks.add(loop.create_task(accept_all()))
    await serve_forever()


async def main_aiohttp(args, peer):
    from aiohttp import web

    options = limit(args, "max_message_size")

    async def handler(request):
        ws = await peer.accept(aiohttp=request, **options)
        await peer.talk(ws, request.path)
        return web.Response(text="")

    app = web.Application()
    app.add_routes([web.get("/echo", handler), web.get("/bcast", handler)])
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", args.port, backlog=1024, ssl_context=tls(args))
    await site.start()
    await serve_forever()


async def main_serve(args, peer):
    options = limit(args, "max_message_size")
    context = tls(args)
    if context:
        options["ssl"] = context
    rooms = peer.module.Rooms() if args.source == "rooms" else None

    async def room(ws):
        async with rooms.join("r", ws):
            async for message in ws:
                await rooms.broadcast("r", message)

    async def handler(ws):
        # The echo stands here, as it does in the handlers of the peers.
        if ws.request.target == "/bcast":
            return await peer.talk(ws, "/bcast")
        while True:
            await ws.send(await ws.receive())

    server = peer.module.serve(room if rooms else handler, "127.0.0.1", args.port, **options)
    async with server:
        task = asyncio.ensure_future(server.serve_forever())
        await until_listening(args.port, task)
        await serve_forever()


if __name__ == "__main__":
    args = server_args(source="serve", module="simplews")
    mains = {"sock": main_sock, "aiohttp": main_aiohttp}
    run_loop(mains.get(args.source, main_serve)(args, Peer(args.module)), args.loop)
