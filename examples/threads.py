"""
Threads: work that takes long, and a thread that has something to say.

Start:  python examples/threads.py [HOST [PORT]]
See:    there are 9592 primes below 100000
        meanwhile: still here
        from a thread: 21.5 °C
        the thread knows that 1 got it
"""

import asyncio
import multiprocessing
import sys
from concurrent.futures import ProcessPoolExecutor

from simplews import AioClient, AioServer, Rooms, serve

rooms = Rooms()
pool = ProcessPoolExecutor(1, multiprocessing.get_context("spawn"))


def primes_below(limit: int) -> int:
    """Count them, which keeps a processor busy."""
    sieve = bytearray([1]) * limit
    sieve[:2] = b"\0\0"
    for number in range(2, int(limit**0.5) + 1):
        if sieve[number]:
            sieve[number * number :: number] = bytes(len(range(number * number, limit, number)))
    return sum(sieve)


async def count(ws: AioServer) -> None:
    loop = asyncio.get_running_loop()
    async for limit in ws.iter_text():
        # In another process; other handlers go on meanwhile.
        primes = await loop.run_in_executor(pool, primes_below, int(limit))
        await ws.send(f"there are {primes} primes below {limit}")


async def listen(ws: AioServer) -> None:
    async with rooms.join("thermometer", ws):
        await ws.send("still here")
        await ws.wait_closed()


def thermometer(loop: asyncio.AbstractEventLoop) -> int:
    """An ordinary function, in a thread of its own."""
    future = asyncio.run_coroutine_threadsafe(rooms.broadcast("thermometer", "21.5 °C"), loop)
    return future.result().delivered


async def main(host: str = "localhost", port: str = "0") -> None:
    loop = asyncio.get_running_loop()
    async with serve({"/count": count, "/listen": listen}, host, int(port)) as server:
        url = f"ws://{host}:{server.port}"
        async with (
            AioClient.connect(f"{url}/count") as counting,
            AioClient.connect(f"{url}/listen") as listening,
        ):
            await counting.send("100000")
            meanwhile = await listening.receive()
            print(await counting.receive())
            print("meanwhile:", meanwhile)
            thread = asyncio.create_task(asyncio.to_thread(thermometer, loop))
            print("from a thread:", await listening.receive())
            print("the thread knows that", await thread, "got it")


if __name__ == "__main__":
    with pool:
        asyncio.run(main(*sys.argv[1:]))
