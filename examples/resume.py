"""
A client that misses nothing: its server restarts, and messages are sent meanwhile.

    python resume.py

The client gets all of them, each once and in order. Then more are sent than the
history keeps, and it is told that messages are missing.
"""

import asyncio
import socket

from simplews import AioServer, Reconnect, Rooms, resume, serve
from simplews.rooms import History, Memory

# Redis(url, history=History()) for several processes: nothing else changes.
rooms = Rooms(Memory(History(length=5)))


def may_join(room: str) -> bool:
    return room == "lobby"


async def chat(ws: AioServer) -> None:
    async with resume.Session(ws, rooms, allow=may_join) as session:
        async for room, message in session:
            await rooms.broadcast(room, message)


async def listen(url: str, joined: asyncio.Event) -> None:
    policy = Reconnect(first=0.1)
    async with resume.Client(url, rooms=["lobby"], reconnect=policy) as client:
        await client.send("lobby", "I am here")
        async for room, message in client:
            if isinstance(message, resume.Gap):
                print(f"{room}: messages are missing, {message.reason}")
            elif isinstance(message, resume.Refused):
                print(f"{room}: refused, {message.reason}")
            else:
                print(f"{room}: {message!s}")
                joined.set()
            if message == "end":
                return


async def main() -> None:
    joined = asyncio.Event()
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    client = asyncio.create_task(listen(f"ws://127.0.0.1:{port}", joined))
    for messages in (3, 10):
        async with serve(chat, "127.0.0.1", port, subprotocols=[resume.SUBPROTOCOL]):
            await joined.wait()
            joined.clear()
        # The server is away.
        for number in range(messages):
            await rooms.broadcast("lobby", f"{number + 1} of {messages}")
    async with serve(chat, "127.0.0.1", port, subprotocols=[resume.SUBPROTOCOL]):
        while not client.done():
            await rooms.broadcast("lobby", "end")
            await asyncio.wait({client}, timeout=0.1)
    await client
    await rooms.close()


if __name__ == "__main__":
    asyncio.run(main())
