"""aiohttp's server (web.WebSocketResponse), with its default options."""

from _common import limit, run_loop, serve_forever, server_args, tls
from aiohttp import WSMsgType, web

PEER = {
    "role": "server",
    "variants": {"aiohttp": []},
    "needs": ["aiohttp"],
    "loops": ["asyncio", "uvloop"],
    "tls": ["aiohttp"],
}

clients = set()
options = {}


async def echo(request):
    ws = web.WebSocketResponse(**options)
    await ws.prepare(request)
    async for msg in ws:
        if msg.type is WSMsgType.TEXT:
            await ws.send_str(msg.data)
        elif msg.type is WSMsgType.BINARY:
            await ws.send_bytes(msg.data)
    return ws


async def bcast(request):
    ws = web.WebSocketResponse()
    await ws.prepare(request)
    clients.add(ws)
    async for msg in ws:
        for other in clients:
            await other.send_str(msg.data)
    clients.discard(ws)
    return ws


async def main(args):
    options.update(limit(args, "max_msg_size"))
    app = web.Application()
    app.add_routes([web.get("/echo", echo), web.get("/bcast", bcast)])
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", args.port, backlog=1024, ssl_context=tls(args)).start()
    await serve_forever()


if __name__ == "__main__":
    args = server_args()
    run_loop(main(args), args.loop)
