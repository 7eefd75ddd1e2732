"""
Serve with several processes on one port.

    python workers.py [host] [port]

Every client is told which process serves it. Stop one of them with
`kill -9 <its number>` and watch it being replaced; `kill -HUP <the first number>`
replaces all, one after the other. Ctrl-C closes every connection and ends them.
"""

import asyncio
import contextlib
import logging
import os
import sys

from simplews import AioServer, serve


# A function of a module, and not inside another one: each process imports it.
async def handler(ws: AioServer) -> None:
    await ws.send(f"hello from process {os.getpid()}")
    async for message in ws:
        await ws.send(message)


def set_up_logging() -> None:
    logging.basicConfig(level=logging.INFO, format="%(process)d: %(message)s")


async def main(host: str = "localhost", port: str = "8765") -> None:
    async with serve(handler, host, int(port), workers=2, setup=set_up_logging) as server:
        print(f"Process {os.getpid()} watches {server.pids} on ws://{host}:{server.port}")
        await server.serve_forever()


# Without this line every worker would start workers.
if __name__ == "__main__":
    set_up_logging()
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(main(*sys.argv[1:]))
