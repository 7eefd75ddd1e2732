"""
wsproto, bare, over asyncio streams.

The least glue that still joins fragments and answers pings and closes.
"""

import asyncio

from _common import run_loop, serve_forever, server_args, tls
from wsproto import ConnectionType, WSConnection
from wsproto.events import (
    AcceptConnection,
    BytesMessage,
    CloseConnection,
    Ping,
    Request,
    TextMessage,
)
from wsproto.extensions import PerMessageDeflate

PEER = {
    "role": "server",
    "variants": {"wsproto": []},
    "needs": ["wsproto"],
    "loops": ["asyncio", "uvloop"],
    "tls": ["wsproto"],
}

clients = {}


async def handle(reader, writer):
    ws = WSConnection(ConnectionType.SERVER)
    bcast = False
    parts = []
    closing = False
    try:
        while not closing:
            data = await reader.read(65536)
            if not data:
                break
            ws.receive_data(data)
            out = []
            for event in ws.events():
                if isinstance(event, (TextMessage, BytesMessage)):
                    if event.message_finished and not parts:
                        payload = event.data
                    else:
                        parts.append(event.data)
                        if not event.message_finished:
                            continue
                        payload = type(event.data)().join(parts)
                        parts.clear()
                    kind = TextMessage if isinstance(event, TextMessage) else BytesMessage
                    if bcast:
                        for w, s in clients.items():
                            w.write(s.send(kind(data=payload)))
                    else:
                        out.append(ws.send(kind(data=payload)))
                elif isinstance(event, Request):
                    bcast = event.target == "/bcast"
                    out.append(ws.send(AcceptConnection(extensions=[PerMessageDeflate()])))
                    if bcast:
                        clients[writer] = ws
                elif isinstance(event, Ping):
                    out.append(ws.send(event.response()))
                elif isinstance(event, CloseConnection):
                    out.append(ws.send(event.response()))
                    closing = True
            if out:
                writer.write(b"".join(out))
                await writer.drain()
    except ConnectionError:
        pass
    finally:
        clients.pop(writer, None)
        writer.close()


async def main(args):
    await asyncio.start_server(handle, "127.0.0.1", args.port, backlog=1024, ssl=tls(args))
    await serve_forever()


if __name__ == "__main__":
    args = server_args()
    run_loop(main(args), args.loop)
