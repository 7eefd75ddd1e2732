"""
An application as it runs behind a proxy: an echo, and a health check on the same port.

    python app.py [host] [port] [workers]

`nginx.conf` and `haproxy.cfg` beside this file put a proxy in front of two of it,
`simplews.service` has systemd run it.
"""

import asyncio
import contextlib
import logging
import sys

from simplews import AioServer, HandshakeRequest, Response, serve


async def handler(ws: AioServer) -> None:
    # The proxy sets it, and nobody else can reach this port.
    client = ws.request.headers.get("x-forwarded-for", "nobody")
    await ws.send(f"hello, {client}")
    async for message in ws:
        await ws.send(message)


async def health(request: HandshakeRequest) -> Response:
    """What the proxy asks for: a server that is about to end refuses it."""
    if request.path != "/health":
        return Response(404, {}, "nothing here\n")
    return Response(200, {}, "ok\n")


def set_up_logging() -> None:
    logging.basicConfig(level=logging.INFO, format="%(process)d %(levelname)s %(message)s")


async def main(host: str = "127.0.0.1", port: str = "8765", workers: str = "2") -> None:
    server = serve(
        handler,
        host,
        int(port),
        http=health,
        workers=int(workers),
        setup=set_up_logging,
        ping_interval=20,  # well below the proxy's timeouts
    )
    async with server:
        print(f"Serving on {host}:{server.port}", flush=True)
        await server.serve_forever(spread=60)


if __name__ == "__main__":
    set_up_logging()
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(main(*sys.argv[1:]))
