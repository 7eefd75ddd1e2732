"""
uvicorn, with each of its WebSocket implementations, and hypercorn.

The application is a bare echo, Starlette's WebSocket, or AioServer. A pair such
as uvicorn-sansio and simplews-uvicorn differs in nothing but that.
"""

import asyncio

import _asgi_apps
from _common import limit, run_loop, serve_forever, server_args, until_listening

PEER = {
    "role": "server",
    "variants": {
        "uvicorn-websockets": ["--ws", "websockets"],
        "uvicorn-wsproto": ["--ws", "wsproto"],
        "uvicorn-sansio": ["--ws", "websockets-sansio"],
        "simplews-uvicorn": ["--ws", "websockets-sansio", "--app", "simplews"],
        "simple-websocket-uvicorn": ["--ws", "websockets-sansio", "--app", "simple_websocket"],
        "starlette": ["--ws", "websockets-sansio", "--app", "starlette"],
        "hypercorn": ["--server", "hypercorn"],
        "simplews-hypercorn": ["--server", "hypercorn", "--app", "simplews"],
    },
    "needs": {
        "uvicorn-websockets": ["uvicorn", "websockets"],
        "uvicorn-wsproto": ["uvicorn", "wsproto"],
        "uvicorn-sansio": ["uvicorn", "websockets"],
        "simplews-uvicorn": ["uvicorn", "websockets", "simplews"],
        "simple-websocket-uvicorn": ["uvicorn", "websockets", "simple_websocket"],
        "starlette": ["uvicorn", "websockets", "starlette"],
        "hypercorn": ["hypercorn"],
        "simplews-hypercorn": ["hypercorn", "simplews"],
    },
    "tls": [
        "uvicorn-websockets",
        "uvicorn-wsproto",
        "uvicorn-sansio",
        "simplews-uvicorn",
        "simple-websocket-uvicorn",
        "starlette",
        "hypercorn",
        "simplews-hypercorn",
    ],
    "loops": ["asyncio", "uvloop"],
}


async def run_uvicorn(args):
    import uvicorn

    config = uvicorn.Config(
        _asgi_apps.application(args.app),
        host="127.0.0.1",
        port=args.port,
        ws=args.ws,
        log_level="warning",
        access_log=False,
        backlog=1024,
        ssl_certfile=args.cert,
        ssl_keyfile=args.key,
        **limit(args, "ws_max_size"),
    )
    server = uvicorn.Server(config)
    await until_listening(args.port, asyncio.ensure_future(server.serve()))
    await serve_forever()


async def run_hypercorn(args):
    from hypercorn.asyncio import serve
    from hypercorn.config import Config

    config = Config()
    config.bind = [f"127.0.0.1:{args.port}"]
    config.accesslog = None
    config.errorlog = None
    config.backlog = 1024
    if args.cert:
        config.certfile, config.keyfile = args.cert, args.key
    if args.max_size:
        config.websocket_max_message_size = args.max_size
    task = asyncio.ensure_future(serve(_asgi_apps.application(args.app), config))
    await until_listening(args.port, task)
    await serve_forever()


if __name__ == "__main__":
    args = server_args(ws="auto", app="bare", server="uvicorn")
    run_loop(run_uvicorn(args) if args.server == "uvicorn" else run_hypercorn(args), args.loop)
