"""websockets' asyncio server, with its default options."""

from _common import limit, run_loop, serve_forever, server_args, tls

PEER = {
    "role": "server",
    "variants": {"websockets": []},
    "needs": ["websockets"],
    "loops": ["asyncio", "uvloop"],
    "tls": ["websockets"],
}

clients = set()


async def handler(ws):
    from websockets.asyncio.server import broadcast

    if ws.request.path == "/bcast":
        clients.add(ws)
        try:
            async for message in ws:
                broadcast(clients, message)
        finally:
            clients.discard(ws)
    else:
        async for message in ws:
            await ws.send(message)


async def main(args):
    from websockets.asyncio.server import serve

    async with serve(
        handler, "127.0.0.1", args.port, backlog=1024, ssl=tls(args), **limit(args, "max_size")
    ):
        await serve_forever()


if __name__ == "__main__":
    args = server_args()
    run_loop(main(args), args.loop)
