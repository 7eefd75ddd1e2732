"""
Closing: who ended it, with which code and why, is known on both sides.

Start:  python examples/closing.py [HOST [PORT]]
See:    the client says goodbye:
          server: the peer closed the connection with 1000 (normal closure) 'done' ...
          client: we closed the connection with 1000 (normal closure) 'done' ...
        the server stops:
          client: the peer closed the connection with 1001 (going away) ...
"""

import asyncio
import sys

from simplews import AioClient, AioServer, ConnectionClosed, serve


async def listen(ws: AioServer) -> None:
    try:
        while True:
            await ws.receive()
    except ConnectionClosed as end:
        if end.code == 1000:
            print("  server:", end)


async def main(host: str = "localhost", port: str = "0") -> None:
    async with serve(listen, host, int(port)) as server:
        url = f"ws://{host}:{server.port}"

        print("the client says goodbye:")
        ws = await AioClient.connect(url)
        # Waits for the peer's half of the closing handshake, close_timeout
        # seconds at most. A second close() does nothing.
        await ws.close(1000, "done")
        await ws.wait_closed()
        print("  client:", ws.explain())

        ws = await AioClient.connect(url)
        print("the server stops:")
    # Leaving the context closes every connection with 1001, and waits.
    try:
        await ws.receive()
    except ConnectionClosed as end:
        print("  client:", end)


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
