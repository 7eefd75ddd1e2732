"""
The two programs of the long run: a server and its clients, which keep books.

    python mixed.py server PORT
    python mixed.py clients PORT SECONDS ROUNDS WORKERS SEED

After each round the clients rest, until a line comes on stdin.

Every message has a number, and every connection, at either end, leaves a `Book` as a
line of JSON on stdout: what was sent, what came, and how it ended. long.py compares.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import json
import logging
import os
import random
import struct
import sys
import zlib
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import asdict, dataclass, field
from typing import Any

from simplews import (
    AioBase,
    AioClient,
    AioServer,
    ConnectionClosed,
    ConnectionError,
    Rooms,
    serve,
)

# Short, so that a connection that has gone dark is found soon; and seconds without any
# progress that only a wait without an end can reach.
OPTIONS: dict[str, Any] = {
    "ping_interval": 1,
    "ping_timeout": 1,
    "close_timeout": 2,
    "max_message_size": 8_000_000,
}
HUNG = 30

HEAD = struct.Struct("!III")  # number, CRC of the rest, who sent it (in a room)


def message(number: int, body: bytes, sender: int = 0) -> bytes:
    """A message that can be checked."""
    return HEAD.pack(number, zlib.crc32(body), sender) + body


@dataclass
class Book:
    """
    What one end of a connection knows.

    Attributes:
        sent: How many numbers were given out; each had its send().
        unsure: Those whose send() raised or was cancelled.
        got: Messages that came.
        last: The highest number that came, or -1.
        skipped: Numbers below it that did not come.
        wrong: Messages that came twice, out of order, or damaged.
        raised: Whether the application was told, by an exception or after close() by
            `AioBase.exception`, that the connection has not ended as it should.
        hung: Whether it still waited when everything had long ended.
    """

    id: int
    end: str
    kind: str = ""
    sent: int = 0
    unsure: list[int] = field(default_factory=list)
    got: int = 0
    last: int = -1
    skipped: list[int] = field(default_factory=list)
    wrong: int = 0
    code: int | None = None
    raised: bool = False
    hung: bool = False

    def __post_init__(self) -> None:
        self.deadline = asyncio.timeout(HUNG)

    def _progress(self) -> None:
        self.deadline.reschedule(asyncio.get_running_loop().time() + HUNG)

    async def send(self, ws: AioBase, body: bytes, pieces: int = 0) -> None:
        """Send the next message, in so many fragments if *pieces* is not 0."""
        number = self.sent
        self.sent += 1
        data = message(number, body)
        try:
            await ws.send(_cut(data, pieces) if pieces else data)
        except BaseException:
            self.unsure.append(number)
            raise
        self._progress()

    def enter(self, data: str | bytes | None) -> bytes:
        """Check a message that came; its body."""
        assert isinstance(data, bytes)
        self._progress()
        number, crc, _ = HEAD.unpack_from(data)
        body = data[HEAD.size :]
        self.got += 1
        if number <= self.last or zlib.crc32(body) != crc:
            self.wrong += 1
        self.skipped += range(self.last + 1, number)
        self.last = max(number, self.last)
        return body

    def close(self, ws: AioBase | None) -> None:
        """It is over: tell."""
        if ws is not None:
            self.code = ws.close_code
            error = ws.exception()
            # A closing handshake to the end: all that was sent before it has come.
            closes = () if error is None else (error.sent, error.received)
            whole = all(close is not None and close.code == 1000 for close in closes)
            self.raised = self.raised or not whole
        emit(asdict(self))


async def _cut(data: bytes, pieces: int) -> AsyncIterator[bytes]:
    size = len(data) // pieces + 1
    for start in range(0, len(data), size):
        yield data[start : start + size]
        await asyncio.sleep(0)


def emit(facts: dict[str, Any]) -> None:
    """A line for long.py."""
    sys.stdout.write(json.dumps(facts) + "\n")
    sys.stdout.flush()


def report(**facts: Any) -> None:
    """Tell how many tasks, descriptors and objects there are, after a collection."""
    gc.collect()
    emit(
        {
            "report": True,
            "tasks": len(asyncio.all_tasks()),
            "files": len(os.listdir("/proc/self/fd")) - 1,
            "objects": len(gc.get_objects()),
            "blocks": sys.getallocatedblocks(),
            **facts,
        }
    )


# ---------------------------------------------------------------------------- server


class Service:
    """What the server does on each path."""

    def __init__(self) -> None:
        self.rooms = Rooms()

    async def handle(self, ws: AioServer) -> None:
        _, kind, number, *more = ws.request.path.split("/")
        book = Book(int(number), "server", kind)
        try:
            async with book.deadline:
                await getattr(self, f"on_{kind}")(ws, book, *map(int, more))
        except ConnectionClosed:
            book.raised = True
        except TimeoutError:
            book.hung = True
        finally:
            await ws.close()
            book.close(ws)

    async def on_echo(self, ws: AioServer, book: Book) -> None:
        while True:
            body = book.enter(await ws.receive())
            # Once it cannot send any more, what has come is still to be had.
            with contextlib.suppress(ConnectionClosed):
                await book.send(ws, body)

    async def on_upload(self, ws: AioServer, book: Book) -> None:
        while True:
            book.enter(await ws.receive())

    async def on_pour(self, ws: AioServer, book: Book, number: int, size: int) -> None:
        for i in range(number):
            await book.send(ws, bytes([i & 255]) * size)

    async def on_room(self, ws: AioServer, book: Book) -> None:
        async with self.rooms.join(f"room {book.id % 3}", ws):
            while True:
                body = book.enter(await ws.receive())
                data = message(book.last, body, book.id)
                await self.rooms.broadcast(f"room {book.id % 3}", data, exclude=ws)


async def server(port: int) -> None:
    """Serve until stdin ends."""
    loop = asyncio.get_running_loop()
    over = asyncio.Event()

    def command() -> None:
        data = os.read(0, 4096)
        if data:
            report()
        else:
            loop.remove_reader(0)
            over.set()

    async with serve(Service().handle, "127.0.0.1", port, **OPTIONS):
        loop.add_reader(0, command)
        print("READY", flush=True)
        await over.wait()


# --------------------------------------------------------------------------- clients


class Clients:
    """Workers that open one connection after the other, each of another kind."""

    def __init__(self, port: int, seed: int) -> None:
        self._url = f"ws://127.0.0.1:{port}"
        self._random = random.Random(seed)
        self._next = 0
        self._noise = self._random.randbytes(4_000_000)

    async def work(self, end: float) -> None:
        """One worker's life, until *end* on the loop's clock."""
        while asyncio.get_running_loop().time() < end:
            kind = self._random.choices(KINDS, WEIGHTS)[0]
            await self._one(kind)
            await asyncio.sleep(self._random.random() * 0.05)

    async def _one(self, kind: str) -> None:
        self._next += 1
        book = Book(self._next, "client", kind)
        path, play = getattr(self, f"_{kind}")(book)
        compression = self._random.choice([None, "deflate"])
        ws: AioClient | None = None
        try:
            async with book.deadline:
                ws = await AioClient.connect(
                    self._url + path, open_timeout=5, compression=compression, **OPTIONS
                )
                await play(ws)
                await ws.close()
        except ConnectionClosed:
            book.raised = True
        except ConnectionError:
            book.kind = "not open"
            book.raised = True
        except TimeoutError:
            book.hung = True
        finally:
            if ws is not None:
                ws.abort()
                await ws.wait_closed()
            book.close(ws)

    def _body(self, most: int) -> bytes:
        size = self._random.randrange(most)
        if self._random.random() < 0.5:
            return bytes(size)  # it compresses well
        start = self._random.randrange(len(self._noise) - size + 1)
        return self._noise[start : start + size]

    def _path(self, kind: str, book: Book, *more: int) -> str:
        return "/".join(["", kind, str(book.id), *map(str, more)])

    # Each returns the path and what is to be done there.

    def _echo(self, book: Book) -> tuple[str, Play]:
        """Small messages, up to 16 on their way; all come back."""
        number = self._random.randrange(20, 400)

        async def play(ws: AioClient) -> None:
            for i in range(number):
                await book.send(ws, self._body(2000))
                if i >= 16:
                    book.enter(await ws.receive())
            while book.got < number:
                book.enter(await ws.receive())

        return self._path("echo", book), play

    def _big(self, book: Book) -> tuple[str, Play]:
        """Large messages, whole or in fragments."""
        number = self._random.randrange(1, 5)

        async def play(ws: AioClient) -> None:
            for _ in range(number):
                await book.send(ws, self._body(4_000_000), self._random.choice([0, 0, 7]))
                book.enter(await ws.receive())

        return self._path("echo", book), play

    def _upload(self, book: Book) -> tuple[str, Play]:
        """One way: all of it is there when the close has been answered."""
        number = self._random.randrange(10, 300)

        async def play(ws: AioClient) -> None:
            for _ in range(number):
                await book.send(ws, self._body(20_000))

        return self._path("upload", book), play

    def _slow(self, book: Book) -> tuple[str, Play]:
        """The server sends and closes; we take our time."""
        number, size = self._random.randrange(50, 300), self._random.randrange(1, 30_000)
        pause = self._random.choice([0, 0.001, 0.005])

        async def play(ws: AioClient) -> None:
            try:
                while True:
                    book.enter(await ws.receive())
                    if pause:
                        await asyncio.sleep(pause)
                    if self._random.random() < 0.005:
                        await asyncio.sleep(0.5)
            except ConnectionClosed:
                if book.got < number:
                    raise

        return self._path("pour", book, number, size), play

    def _cancel(self, book: Book) -> tuple[str, Play]:
        """Calls are given up in the middle, and nothing is lost by that."""
        number = self._random.randrange(50, 300)

        async def play(ws: AioClient) -> None:
            for _ in range(number):
                # Short, or of several writes: then all of it goes out, or none.
                size = self._random.choice([1000, 1000, 100_000])
                await self._give_up(book.send(ws, self._body(size)))
                await self._take(ws, book)
            await book.send(ws, b"end")
            while await self._take(ws, book, 0.05) != b"end":
                pass

        return self._path("echo", book), play

    async def _give_up(self, sending: Awaitable[None]) -> None:
        task = asyncio.ensure_future(sending)
        if self._random.random() < 0.3:
            for _ in range(self._random.randrange(3)):
                await asyncio.sleep(0)
            task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task

    async def _take(self, ws: AioClient, book: Book, timeout: float = 0.001) -> bytes | None:
        if self._random.random() < 0.5:
            data = await ws.receive(timeout)
        else:
            task = asyncio.ensure_future(ws.receive())
            await asyncio.wait([task], timeout=timeout)
            task.cancel()
            try:
                data = await task  # it may have come at the last moment
            except asyncio.CancelledError:
                data = None
        return None if data is None else book.enter(data)

    def _abort(self, book: Book) -> tuple[str, Play]:
        """We go without a word."""
        number = self._random.randrange(1, 100)

        async def play(ws: AioClient) -> None:
            for _ in range(number):
                await book.send(ws, self._body(5000))
            ws.abort()

        return self._path("upload", book), play

    def _room(self, book: Book) -> tuple[str, Play]:
        """What others in a room say comes in their order, without a gap."""
        number = self._random.randrange(5, 40)
        heard: dict[int, int] = {}
        reading = self._random.random() < 0.9

        async def listen(ws: AioClient) -> None:
            while True:
                data = await ws.receive()
                assert isinstance(data, bytes)
                seq, crc, sender = HEAD.unpack_from(data)
                if zlib.crc32(data[HEAD.size :]) != crc or seq != heard.get(sender, seq - 1) + 1:
                    book.wrong += 1
                heard[sender] = seq

        async def play(ws: AioClient) -> None:
            listener = asyncio.ensure_future(listen(ws)) if reading else None
            try:
                for _ in range(number):
                    await book.send(ws, self._body(3000))
                    await asyncio.sleep(self._random.random() * 0.02)
            finally:
                if listener is not None:
                    listener.cancel()
                    await asyncio.wait([listener])
                    if not listener.cancelled():
                        listener.exception()

        return self._path("room", book), play


Play = Callable[[AioClient], Awaitable[None]]

KINDS = ("echo", "big", "upload", "slow", "cancel", "abort", "room")
WEIGHTS = (6, 2, 3, 3, 3, 1, 4)


async def clients(port: int, seconds: float, rounds: int, workers: int, seed: int) -> None:
    """Let the workers do *rounds* rounds that take *seconds* together."""
    loop = asyncio.get_running_loop()
    go = asyncio.Event()

    def command() -> None:
        if not os.read(0, 4096):
            loop.remove_reader(0)
        go.set()

    loop.add_reader(0, command)
    work = Clients(port, seed)
    print("READY", flush=True)
    for _ in range(rounds):
        await go.wait()
        go.clear()
        end = loop.time() + seconds / rounds
        async with asyncio.TaskGroup() as group:
            for _ in range(workers):
                group.create_task(work.work(end))
        await asyncio.sleep(0.1)
        report(rest=True)
    await go.wait()  # until our memory has been read


def main() -> None:
    """See the top of this file."""
    logging.basicConfig(level=logging.WARNING)
    role, *arguments = sys.argv[1:]
    if role == "server":
        asyncio.run(server(int(arguments[0])))
    else:
        port, seconds, *numbers = arguments
        asyncio.run(clients(int(port), float(seconds), *map(int, numbers)))


if __name__ == "__main__":
    main()
