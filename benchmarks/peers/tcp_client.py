"""Physical limit of a client: TCP echo without framing."""

import asyncio

from _common import Meter, batch_for, client_main, drive, make_payload

PEER = {
    "role": "client",
    "variants": {
        "tcp-protocol": ["--variant", "protocol"],
        "tcp-streams": ["--variant", "streams"],
    },
    "loops": ["asyncio", "uvloop"],
    "raw": True,
    "cases": ["C1", "C2", "C3a", "C3b"],
}


class Client(asyncio.Protocol):
    """Callbacks only: there is not even a coroutine on the message path."""

    def __init__(self, args):
        self.args = args
        self.payload = make_payload(args.size, "bin")
        self.n = self.acc = 0
        self.since = 0
        self.batch = batch_for(args.size)
        self.meter = Meter(args)
        self.done = asyncio.get_running_loop().create_future()

    def connection_made(self, transport):
        self.transport = transport
        for _ in range(self.args.window):
            transport.write(self.payload)

    def data_received(self, data):
        self.acc += len(data)
        k, self.acc = divmod(self.acc, self.args.size)
        if not k:
            return
        self.n += k
        self.since += k
        if self.since >= self.batch:
            self.since = 0
            if self.meter.tick(self.n) and not self.done.done():
                self.done.set_result(None)
                return
        for _ in range(k):
            self.transport.write(self.payload)


async def main(args, url):
    args.op = "bin"
    if args.variant == "protocol":
        loop = asyncio.get_running_loop()
        _, proto = await loop.create_connection(lambda: Client(args), "127.0.0.1", args.port)
        await proto.done
        proto.meter.report(args.size)
        return
    reader, writer = await asyncio.open_connection(
        "127.0.0.1", args.port, limit=max(65536, args.size * 2)
    )
    size = args.size

    async def send(data):
        writer.write(data)

    async def recv():
        return await reader.readexactly(size)

    await drive(send, recv, args)


if __name__ == "__main__":
    client_main(main)
