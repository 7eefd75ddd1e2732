"""
Stay connected to a server that starts late and restarts: its own, so that you can watch.

    python reconnect.py

The client counts on. You see a first attempt that fails, the connection, the
server's restart (close code 1012), and the connection after it.
"""

import asyncio
import logging
import socket

from simplews import AioClient, AioServer, ConnectionClosed, Reconnect, Retry, serve


async def listen(url: str) -> None:
    received = 0
    policy = Reconnect(first=0.5, on_retry=report)
    async for ws in AioClient.connect(url, reconnect=policy):
        print("connected")
        try:
            await ws.send(str(received))  # where to go on
            async for message in ws:
                print("received:", message)
                received += 1
                if received == 2:
                    return
        except ConnectionClosed:
            continue  # the next connection


def report(retry: Retry) -> None:
    print(f"{retry.error}; again in {retry.delay:.2f} s")


async def main() -> None:
    ticked = asyncio.Event()

    async def tick(ws: AioServer) -> None:
        count = int(str(await ws.receive())) + 1
        await ws.send(f"tick {count}")
        ticked.set()
        await ws.wait_closed()

    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    client = asyncio.create_task(listen(f"ws://127.0.0.1:{port}"))
    await asyncio.sleep(0.1)
    async with serve(tick, "127.0.0.1", port) as server:
        await ticked.wait()
        await server.drain(spread=0)
    async with serve(tick, "127.0.0.1", port):
        await client


if __name__ == "__main__":
    logging.getLogger("simplews").setLevel(logging.ERROR)  # report() says it already
    asyncio.run(main())
