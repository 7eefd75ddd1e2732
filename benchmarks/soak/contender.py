"""
The program that is watched: one library's server or client, and what its application does.

    python contender.py websockets --port 8000 '{"ping_interval": 1}'
    python contender.py simplews-client --port 8000 '{}'

It prints READY, and then what happens as JSON, a line each. A server's path says what
its application does with the connection, see `BEHAVIOURS`; a client opens a connection
for each line "open PATH" that it reads. "report" asks for tasks and descriptors, "stop"
ends a server gracefully; the end of stdin ends the process.
"""

from __future__ import annotations

import asyncio
import gc
import itertools
import json
import logging
import os
import resource
import sys
import time
from collections.abc import Awaitable, Callable
from typing import Any

import adapters
from adapters import End

MEGABYTE = 1_000_000
CHUNK = bytes(65536)


def emit(event: str, **facts: Any) -> None:
    """Tell the scenario; `time.monotonic` is one clock for all processes."""
    line = json.dumps({"event": event, "at": time.monotonic(), **facts}) + "\n"
    os.write(1, line.encode())


# ------------------------------------------------------- what an application does


async def echo(end: End) -> None:
    """Send everything back."""
    while True:
        await end.send(await end.receive())


async def sink(end: End) -> None:
    """Take everything."""
    while True:
        await end.receive()


async def idle(end: End) -> None:
    """Take nothing."""
    await asyncio.Event().wait()


async def flood(end: End) -> None:
    """Send 500 MB, as fast as the library lets us."""
    for _ in range(500 * MEGABYTE // len(CHUNK)):
        await end.send(CHUNK)
    emit("flooded")
    await asyncio.Event().wait()


async def take(end: End) -> None:
    """Take messages, and tell how long each was."""
    while True:
        await end.send(str(len(await end.receive())))


async def give(end: End) -> None:
    """Make a message as long as we are told, and send it."""
    size = int(await end.receive())
    await end.send(b"x" * size)
    emit("given")
    await end.receive()


async def close(end: End) -> None:
    """Close when we are told."""
    await end.receive()
    await _close(end, "silent")


async def stalled(end: End) -> None:
    """Send until that waits for the peer, or 8 MB are sent; then close."""
    try:
        async with asyncio.timeout(0.5):
            for _ in range(8 * MEGABYTE // len(CHUNK)):
                await end.send(CHUNK)
    except TimeoutError:
        pass
    await _close(end, "stalled")


async def _close(end: End, how: str) -> None:
    begin = time.monotonic()
    try:
        await end.close()
    finally:
        emit("closed", how=how, took=time.monotonic() - begin)


CANCELS = 10_000


async def cancels(end: End) -> None:
    """
    Give up 10,000 times in the middle of receive(), by cancelling and by timing out.

    The messages are numbers in order; the last one is "end".
    """
    got: list[str] = []
    given_up = 0
    turn = 0
    told = False
    while True:
        turn += 1
        if turn % 3:
            task = asyncio.ensure_future(end.receive())
            for _ in range(turn % 5):
                await asyncio.sleep(0)
            task.cancel()
            # What the cancelled task returns all the same is delivered.
            try:
                message = await task
            except asyncio.CancelledError:
                message = None
        elif end.poll is not None:
            message = await end.poll(turn % 4 * 0.0001)
        else:
            try:
                message = await asyncio.wait_for(end.receive(), turn % 4 * 0.0001)
            except TimeoutError:
                message = None
        if message is None:
            given_up += 1
        elif message == "end":
            break
        else:
            got.append(message)
        if given_up >= CANCELS and not told:
            told = True
            emit("given up")
    numbers = [int(message) for message in got]
    known = set(numbers)
    emit(
        "counted",
        given_up=given_up,
        got=len(numbers),
        highest=max(numbers, default=-1),
        twice=len(numbers) - len(known),
        disorder=sum(b <= a for a, b in itertools.pairwise(numbers)),
        lost=max(numbers, default=-1) + 1 - len(known),
    )
    await end.receive()


BEHAVIOURS: dict[str, Callable[[End], Awaitable[None]]] = {
    f"/{function.__name__}": function
    for function in (echo, sink, idle, flood, take, give, close, stalled, cancels)
}


async def behave(end: End, path: str) -> None:
    """Do what the path says, and tell how it ended."""
    try:
        await BEHAVIOURS[path](end)
    except end.closed as exc:
        emit("ended", path=path, code=end.code(exc), error=type(exc).__name__)


# --------------------------------------------------------------------- the program


class Program:
    """A contender, and the commands that it takes from stdin."""

    def __init__(self, name: str, port: int, options: dict[str, Any]) -> None:
        self.name = name
        self.port = port
        self.options = options
        self.stop: adapters.Stop | None = None
        self.tasks: set[asyncio.Task[None]] = set()
        self._read = b""

    async def run(self) -> None:
        if self.name in adapters.SERVERS:
            server = adapters.SERVERS[self.name]
            self.stop = await server(self.port, self.options, behave)
        asyncio.get_running_loop().add_reader(0, self._command)
        os.write(1, b"READY\n")
        await asyncio.Event().wait()

    def _command(self) -> None:
        data = os.read(0, 4096)
        if not data:
            sys.stderr.flush()
            os._exit(0)
        *lines, self._read = (self._read + data).split(b"\n")
        for line in lines:
            word, *arguments = line.decode().split()
            command: Callable[..., Awaitable[None]] = getattr(self, f"do_{word}")
            task = asyncio.ensure_future(command(*arguments))
            self.tasks.add(task)
            task.add_done_callback(self.tasks.discard)

    async def do_report(self) -> None:
        gc.collect()  # what a ResourceWarning would be about
        tasks = asyncio.all_tasks() - {asyncio.current_task()}
        emit("report", tasks=len(tasks), files=len(os.listdir("/proc/self/fd")) - 1)

    async def do_stop(self) -> None:
        assert self.stop is not None
        begin = time.monotonic()
        await self.stop()
        emit("stopped", took=time.monotonic() - begin)

    async def do_open(self, path: str, port: str = "") -> None:
        begin = time.monotonic()
        url = f"ws://127.0.0.1:{port or self.port}{path}"
        try:
            end = await adapters.CLIENTS[self.name](url, self.options)
        except Exception as exc:
            emit("not open", error=type(exc).__name__, took=time.monotonic() - begin)
            return
        await behave(end, path)

    async def do_cycle(self, number: str, path: str, seconds: str) -> None:
        """Open a connection *number* times, sixteen at once, and close it; or give up before."""
        connect = adapters.CLIENTS[self.name]
        url = f"ws://127.0.0.1:{self.port}{path}"
        left = int(number)

        async def cycle() -> None:
            nonlocal left
            while left > 0:
                left -= 1
                task = asyncio.ensure_future(connect(url, self.options))
                if float(seconds):
                    await asyncio.wait([task], timeout=float(seconds) * (left % 8))
                    task.cancel()
                try:
                    end = await task
                    await end.close()
                except (Exception, asyncio.CancelledError):
                    pass

        await asyncio.gather(*(cycle() for _ in range(16)))
        emit("cycled")


def main() -> None:
    """See the top of this file."""
    name, _, port, options = sys.argv[1:]
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    logging.basicConfig(level=logging.WARNING)
    logging.getLogger("asyncio").setLevel(logging.ERROR)  # "executing took 0.1 s", with -X dev
    asyncio.run(Program(name, int(port), json.loads(options)).run())


if __name__ == "__main__":
    main()
