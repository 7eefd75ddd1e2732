"""
A chat with rooms: whoever connects to /lobby talks to everybody else in /lobby.

Start:  python examples/chat.py [HOST [PORT]]
See:    Chat on ws://localhost:8765/lobby
Then, in two more terminals:  simplews connect ws://localhost:8765/lobby
and type into either of them.

Ctrl-C stops it.
"""

import asyncio
import contextlib
import sys

from simplews import AioServer, Rooms, serve

rooms = Rooms()


async def chat(ws: AioServer) -> None:
    room = ws.request.path
    try:
        async with rooms.join(room, ws):  # leaves again, however this ends
            await rooms.broadcast(room, "* somebody came *", exclude=ws)
            async for message in ws:
                await rooms.broadcast(room, message, exclude=ws)
    finally:
        await rooms.broadcast(room, "* somebody left *")


async def main(host: str = "localhost", port: str = "8765") -> None:
    async with serve(chat, host, int(port)) as server:
        print(f"Chat on ws://{host}:{server.port}/lobby", flush=True)
        await server.serve_forever()


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(main(*sys.argv[1:]))
