"""
The chat again, in as many processes and on as many hosts as you like: rooms on Redis.

It needs simplews[redis], and a Redis on redis://localhost:6379, or where REDIS_URL says.
Start it twice:  python examples/rooms_redis.py 8765
                 python examples/rooms_redis.py 8766
See:             Chat on ws://localhost:8765, 2 processes
Then, in two more terminals:  simplews connect ws://localhost:8765
                              simplews connect ws://localhost:8766
and type into either of them.

Ctrl-C stops it.
"""

import asyncio
import contextlib
import os
import sys
from collections.abc import AsyncGenerator

from simplews import AioServer, Rooms, Server, serve
from simplews.rooms import History, Redis

URL = os.environ.get("REDIS_URL", "redis://localhost:6379")

# Each process imports this, and has its own.
rooms = Rooms(Redis(URL, history=History(length=1000, age=300)))


async def chat(ws: AioServer) -> None:
    async with rooms.join("lobby", ws):
        async for message in ws:
            await rooms.broadcast("lobby", message, exclude=ws)


# Around all the connections of a process.
@contextlib.asynccontextmanager
async def lifespan(server: Server) -> AsyncGenerator[None]:
    async with rooms:
        yield


async def main(port: str = "8765", workers: str = "2") -> None:
    server = serve(chat, "localhost", int(port), workers=int(workers), lifespan=lifespan)
    async with server:
        print(f"Chat on ws://localhost:{server.port}, {workers} processes", flush=True)
        await server.serve_forever()


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(main(*sys.argv[1:]))
