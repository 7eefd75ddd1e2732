"""
A server that sends every message back.

Start:  python examples/echo_server.py [HOST [PORT]]
See:    Echoing on ws://localhost:8765
Then:   python examples/echo_client.py

Ctrl-C stops it.
"""

import asyncio
import contextlib
import sys

from simplews import AioServer, serve


async def echo(ws: AioServer) -> None:
    async for message in ws:  # ends when the peer closes
        await ws.send(message)  # text goes back as text, bytes as bytes


async def main(host: str = "localhost", port: str = "8765") -> None:
    async with serve(echo, host, int(port)) as server:
        # server.port is the one that was free, when 0 was asked for.
        print(f"Echoing on ws://{host}:{server.port}", flush=True)
        await server.serve_forever()


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(main(*sys.argv[1:]))
