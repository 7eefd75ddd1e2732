"""picows' clients: callbacks only, and the coroutines of `picows.websockets`."""

import asyncio

from _common import Meter, batch_for, client_main, drive, drive_many, make_payload, open_many

PEER = {
    "role": "client",
    "variants": {
        "picows": ["--variant", "listener"],
        "picows-plain-transport": ["--variant", "listener-plain"],
        "picows-websockets": ["--variant", "websockets"],
    },
    "needs": {
        "picows": ["picows", "aiofastnet"],
        "picows-plain-transport": ["picows"],
        "picows-websockets": ["picows"],
    },
    "loops": ["asyncio", "uvloop"],
}


async def listener(args, url):
    from picows import WSListener, WSMsgType, ws_connect

    kind = WSMsgType.TEXT if args.op == "text" else WSMsgType.BINARY
    done = asyncio.get_running_loop().create_future()
    payload = make_payload(args.size, "bin")  # picows sends bytes either way
    batch = batch_for(args.size)
    meter = Meter(args)

    class Client(WSListener):
        def __init__(self):
            self.n = self.since = 0

        def on_ws_connected(self, transport):
            for _ in range(args.window):
                transport.send(kind, payload)

        def on_ws_frame(self, transport, frame):
            # what a receive() would have to do: make an object of the payload
            got = (
                frame.get_payload_as_utf8_text()
                if kind == WSMsgType.TEXT
                else frame.get_payload_as_bytes()
            )
            if not self.n and len(got) != args.size:
                raise SystemExit("echo differs")
            self.n += 1
            self.since += 1
            if self.since >= batch:
                self.since = 0
                if meter.tick(self.n) and not done.done():
                    done.set_result(None)
                    return
            transport.send(kind, payload)

    plain = args.variant == "listener-plain"
    transport, _ = await ws_connect(Client, url, use_aiofastnet=False if plain else None)
    await done
    meter.report(args.size)
    transport.disconnect(False)


async def listeners(args, url):
    """Many connections; each asks for the next echo when it has one."""
    from picows import WSListener, WSMsgType, ws_connect

    kind = WSMsgType.TEXT
    done = asyncio.get_running_loop().create_future()
    payload = make_payload(args.size, "bin")
    text = payload.decode()
    meter = Meter(args)
    n = 0

    class Client(WSListener):
        def on_ws_frame(self, transport, frame):
            nonlocal n
            if frame.get_payload_as_utf8_text() != text:
                raise SystemExit("echo differs")
            n += 1
            if n % 32 == 0 and not done.done() and meter.tick(n):
                done.set_result(None)
            if not done.done():
                transport.send(kind, payload)

    async def open_one():
        transport, _ = await ws_connect(Client, url, use_aiofastnet=plain)
        return transport

    plain = False if args.variant == "listener-plain" else None
    transports, setup = await open_many(open_one, args)
    meter = Meter(args)
    for transport in transports:
        transport.send(kind, payload)
    await done
    meter.report(args.size, setup=setup)
    for transport in transports:
        transport.disconnect(False)


async def main(args, url):
    if args.variant != "websockets":
        return await (listeners if args.conns > 1 else listener)(args, url)
    from picows.websockets import connect

    if args.conns > 1:

        async def open_one():
            ws = await connect(url, proxy=None)
            return ws.send, ws.recv

        return await drive_many(open_one, args)
    async with connect(url, proxy=None) as ws:
        await drive(ws.send, ws.recv, args)


if __name__ == "__main__":
    client_main(main)
