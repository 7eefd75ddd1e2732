"""
Reading with a timeout: `receive(timeout=)` returns None, and nothing is lost.

A server that speaks only when spoken to, and a client that loses patience.

Start:  python examples/timeout.py [HOST [PORT]]
See:    nothing for 0.2 seconds, so we ask
        received: You called?
        nothing waits: None
"""

import asyncio
import sys

from simplews import AioClient, AioServer, serve


async def shy(ws: AioServer) -> None:
    async for _message in ws:
        await ws.send("You called?")


async def main(host: str = "localhost", port: str = "0") -> None:
    async with serve(shy, host, int(port)) as server:
        async with AioClient.connect(f"ws://{host}:{server.port}") as ws:
            # No try and except: a timeout is an answer, not an error. The
            # connection stays open, and a message that comes late is returned
            # by the next call.
            message = await ws.receive(timeout=0.2)
            if message is None:
                print("nothing for 0.2 seconds, so we ask")
                await ws.send("Hello?")
                message = await ws.receive(timeout=10)
            print("received:", message)

            # 0 does not wait at all: a message that is there already, or None.
            print("nothing waits:", await ws.receive(timeout=0))


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
