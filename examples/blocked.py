"""
A handler that blocks the event loop, and who finds out: the stack of the culprit.

Start:  python examples/blocked.py
See:    working without await
        Timeout (0:00:00.200000)!
        ...
          File "examples/blocked.py", line 33 in resize
          File "examples/blocked.py", line 39 in handler
        ...
        done after 0.5 s
"""

import asyncio
import faulthandler
import time

from simplews import AioClient, AioServer, serve


async def watch(seconds: float) -> None:
    """Write the stack of the loop's thread to stderr when it is blocked for *seconds*."""
    try:
        while True:
            # It starts the time anew; a thread that does not need the loop looks at it.
            faulthandler.dump_traceback_later(seconds)
            await asyncio.sleep(seconds / 2)
    finally:
        faulthandler.cancel_dump_traceback_later()


def resize(picture: bytes) -> bytes:
    # What takes long goes to another thread: await asyncio.to_thread(resize, picture)
    time.sleep(0.5)
    return picture[:10]


async def handler(ws: AioServer) -> None:
    async for picture in ws.iter_bytes():
        print("working without await", flush=True)
        await ws.send(resize(picture))


async def main() -> None:
    watching = asyncio.create_task(watch(0.2))
    async with serve(handler) as server:
        async with AioClient.connect(f"ws://localhost:{server.port}") as ws:
            began = time.monotonic()
            await ws.send(b"a picture")
            await ws.receive()
            print(f"done after {time.monotonic() - began:.1f} s")
    watching.cancel()


if __name__ == "__main__":
    asyncio.run(main())
