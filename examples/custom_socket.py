"""
A WebSocket on a socket that you accepted yourself.

Whoever listens, and reads the request, need not be simplews: here it is a bare
socket and a few lines of parsing. Give `accept` the connected socket and the
header fields.

Start:  python examples/custom_socket.py [HOST [PORT]]
See:    Listening on ws://127.0.0.1:8765
        then a line for each client that leaves
Then:   python examples/echo_client.py ws://127.0.0.1:8765

Ctrl-C stops it.
"""

import asyncio
import contextlib
import socket
import sys

from simplews import AioServer, ConnectionClosed


async def read_headers(client: socket.socket) -> dict[str, str]:
    """Read an HTTP request's head (RFC 9112 §2.1): a line, header fields, an empty line."""
    loop = asyncio.get_running_loop()
    head = b""
    while not head.endswith(b"\r\n\r\n"):
        data = await loop.sock_recv(client, 4096)
        if not data or len(head) > 65536:
            raise ValueError("no HTTP request")
        head += data
    _request_line, *fields = head.decode("latin-1").splitlines()[:-1]
    pairs = (field.partition(":") for field in fields)
    return {name: value.strip() for name, _, value in pairs}


async def handle(client: socket.socket) -> None:
    try:
        async with asyncio.timeout(10):
            headers = await read_headers(client)
        ws = await AioServer.accept(sock=client, headers=headers)
    except (ValueError, OSError) as error:  # simplews.ConnectionError is an OSError, too
        print("Not a WebSocket:", repr(error), flush=True)
        client.close()
        return
    try:
        while True:
            message = await ws.receive(timeout=30)
            if message is None:
                break  # silent for 30 seconds
            await ws.send(f"Received: {message!s}")
    except ConnectionClosed as end:
        print("Disconnected:", end, flush=True)
    finally:
        await ws.close()


async def main(host: str = "127.0.0.1", port: str = "8765") -> None:
    loop = asyncio.get_running_loop()
    with socket.create_server((host, int(port))) as listener:
        listener.setblocking(False)
        print(f"Listening on ws://{host}:{listener.getsockname()[1]}", flush=True)
        async with asyncio.TaskGroup() as clients:
            while True:
                client, _address = await loop.sock_accept(listener)
                clients.create_task(handle(client))


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(main(*sys.argv[1:]))
