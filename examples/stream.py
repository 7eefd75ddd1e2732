"""
A WebSocket on an asyncio stream pair, as asyncio.start_server hands it out.

Start:  python examples/stream.py [HOST [PORT]]
See:    Listening on ws://127.0.0.1:8765
Then:   python examples/echo_client.py ws://127.0.0.1:8765

Ctrl-C stops it. With ssl= in start_server it would be wss://.
"""

import asyncio
import contextlib
import sys

from simplews import AioServer, ConnectionClosed, ConnectionError


async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        async with AioServer.accept(stream=(reader, writer)) as ws:
            async for message in ws:
                await ws.send(message)
    except ConnectionError as error:  # no WebSocket was asked for; the client was told
        print("Refused:", error, flush=True)
    except ConnectionClosed as end:  # it did not end normally
        print("Disconnected:", end, flush=True)


async def main(host: str = "127.0.0.1", port: str = "8765") -> None:
    server = await asyncio.start_server(connected, host, int(port))
    async with server:
        print(f"Listening on ws://{host}:{server.sockets[0].getsockname()[1]}", flush=True)
        await server.serve_forever()


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(main(*sys.argv[1:]))
