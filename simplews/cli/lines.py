"""Lines of standard input, for an event loop."""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
import threading
from collections.abc import AsyncIterator, Iterator
from typing import Protocol

from .errors import CommandError

__all__ = ["Input", "Piped", "write"]

READ_SIZE = 65536  # bytes
READ_AHEAD = 4  # reads that may wait for the loop to take them
LINE_LIMIT = 16 << 20  # bytes, the same as a server's default max_message_size


class Input(Protocol):
    """Where lines come from."""

    def __aiter__(self) -> AsyncIterator[str]: ...

    def open(self) -> contextlib.AbstractContextManager[None]:
        """Get ready for reading lines, and clean up afterwards."""
        ...

    def print(self, text: str) -> None:
        """Write *text* and a newline to standard output, without harm to a half-typed line."""
        ...


class Piped:
    """
    Lines of a pipe, a file, or a console without an editor.

    A thread reads, because a regular file cannot be watched by an event loop,
    and nothing at all can on Windows. It is a daemon: a read that blocks when
    the server has closed holds nothing up.
    """

    @contextlib.contextmanager
    def open(self) -> Iterator[None]:
        """Nothing to get ready."""
        yield

    async def __aiter__(self) -> AsyncIterator[str]:
        rest, number = b"", 0
        async for data in self._chunks():
            *lines, rest = (rest + data).split(b"\n")
            if len(rest) > LINE_LIMIT:
                raise CommandError(f"a line of standard input is longer than {LINE_LIMIT} bytes")
            for line in lines:
                number += 1
                yield _decode(line, number)
        if rest:  # no newline at the end
            yield _decode(rest, number + 1)

    def print(self, text: str) -> None:
        """Print *text*."""
        write(f"{text}\n")

    async def _chunks(self) -> AsyncIterator[bytes]:
        if sys.stdin is None:  # closed by whoever started us: nothing to read
            return
        loop, fd = asyncio.get_running_loop(), sys.stdin.fileno()
        queue: asyncio.Queue[bytes] = asyncio.Queue()
        slots = threading.Semaphore(READ_AHEAD)

        def read() -> None:
            data = b"-"
            # RuntimeError: the loop is closed, nobody wants the rest.
            with contextlib.suppress(RuntimeError):
                while data:
                    slots.acquire()
                    # Not sys.stdin.buffer: its lock, held by a blocked daemon
                    # thread, would abort the interpreter's shutdown.
                    try:
                        data = os.read(fd, READ_SIZE)
                    except OSError:  # a terminal that has hung up
                        data = b""
                    loop.call_soon_threadsafe(queue.put_nowait, data)

        threading.Thread(target=read, name="simplews stdin", daemon=True).start()
        while data := await queue.get():
            slots.release()
            yield data


def _decode(line: bytes, number: int) -> str:
    try:
        return line.removesuffix(b"\r").decode()
    except UnicodeDecodeError as error:
        raise CommandError(
            f"line {number} of standard input is not UTF-8 ({error.reason}): not sent"
        ) from None


def write(text: str) -> None:
    """Write *text* to standard output, now."""
    sys.stdout.write(text)
    sys.stdout.flush()
