"""
A client that sends one message and prints the answer.

Start:  python examples/echo_client.py [URL [MESSAGE]]
See:    sent:     Hello!
        received: Hello!

It needs a server: python examples/echo_server.py
"""

import asyncio
import sys

from simplews import AioClient, ConnectionError


async def main(url: str = "ws://localhost:8765", message: str = "Hello!") -> None:
    async with AioClient.connect(url) as ws:
        await ws.send(message)
        print("sent:    ", message)
        print("received:", await ws.receive())


if __name__ == "__main__":
    try:
        asyncio.run(main(*sys.argv[1:]))
    except ConnectionError as error:  # it never opened: the message says why
        sys.exit(str(error))
