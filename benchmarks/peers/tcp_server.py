"""Physical limit: TCP echo without any framing (no WebSocket at all)."""

import asyncio

from _common import run_loop, serve_forever, server_args, tls

PEER = {
    "role": "server",
    "variants": {
        "tcp-protocol": ["--api", "protocol"],
        "tcp-streams": ["--api", "streams"],
    },
    "loops": ["asyncio", "uvloop"],
    "raw": True,
    "cases": ["S1", "S2a", "S2b", "S3a", "S3b", "T1", "T2", "T3", "L2a", "L2b", "L2c", "P1", "P2"],
    "tls": ["tcp-protocol", "tcp-streams"],
}


class Echo(asyncio.Protocol):
    def connection_made(self, transport):
        self.transport = transport

    def data_received(self, data):
        self.transport.write(data)


async def stream_echo(reader, writer):
    while data := await reader.read(65536):
        writer.write(data)
        await writer.drain()
    writer.close()


async def main(args):
    loop = asyncio.get_running_loop()
    if args.api == "protocol":
        await loop.create_server(Echo, "127.0.0.1", args.port, backlog=1024, ssl=tls(args))
    else:
        await asyncio.start_server(stream_echo, "127.0.0.1", args.port, backlog=1024, ssl=tls(args))
    await serve_forever()


if __name__ == "__main__":
    args = server_args(api="protocol")
    run_loop(main(args), args.loop)
