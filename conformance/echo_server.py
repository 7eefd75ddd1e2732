"""The server that the suite's fuzzing client attacks: ``serve()`` as it comes, no size limit.

python echo_server.py PORT
"""

import asyncio
import sys

from simplews import AioServer, serve


async def echo(ws: AioServer) -> None:
    async for message in ws:
        await ws.send(message)


async def main(port: int) -> None:
    server = serve(echo, "127.0.0.1", port, ping_interval=None, max_message_size=None)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1])))
