"""wsproto, bare, over asyncio streams."""

import asyncio
from collections import deque

from _common import client_main, drive, drive_many
from wsproto import ConnectionType, WSConnection
from wsproto.events import AcceptConnection, BytesMessage, Message, Request, TextMessage

PEER = {
    "role": "client",
    "variants": {"wsproto": []},
    "needs": ["wsproto"],
    "loops": ["asyncio", "uvloop"],
}


async def connect(args):
    reader, writer = await asyncio.open_connection("127.0.0.1", args.port)
    ws = WSConnection(ConnectionType.CLIENT)
    writer.write(ws.send(Request(host=f"127.0.0.1:{args.port}", target="/echo")))
    ready = deque()
    parts = []

    async def feed():
        ws.receive_data(await reader.read(65536))
        for event in ws.events():
            if isinstance(event, (TextMessage, BytesMessage)):
                if event.message_finished and not parts:
                    ready.append(event.data)
                else:
                    parts.append(event.data)
                    if event.message_finished:
                        ready.append(type(event.data)().join(parts))
                        parts.clear()
            elif isinstance(event, AcceptConnection):
                return True

    while not await feed():
        pass

    async def send(data):
        writer.write(ws.send(Message(data=data)))

    async def recv():
        while not ready:
            await feed()
        return ready.popleft()

    return send, recv


async def main(args, url):
    if args.conns > 1:
        return await drive_many(lambda: connect(args), args)
    await drive(*await connect(args), args)


if __name__ == "__main__":
    client_main(main)
