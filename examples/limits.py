"""
Limits: a message that is too big fails its connection, and only that one.

Start:  python examples/limits.py [HOST [PORT]]
See:    1000 bytes: accepted
        1001 bytes: the peer closed the connection with 1009 (message too big) ...
"""

import asyncio
import sys

from simplews import AioClient, AioServer, ConnectionClosed, serve


async def accept(ws: AioServer) -> None:
    async for _message in ws:
        await ws.send("accepted")


async def main(host: str = "localhost", port: str = "0") -> None:
    # The limit counts bytes of the joined message, after inflating: a
    # compressed bomb is stopped as early as a plain one.
    async with serve(accept, host, int(port), max_message_size=1000) as server:
        url = f"ws://{host}:{server.port}"
        for size in (1000, 1001):
            async with AioClient.connect(url) as ws:
                try:
                    await ws.send(b"x" * size)
                    print(size, "bytes:", await ws.receive())
                except ConnectionClosed as end:
                    print(size, "bytes:", end)


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
