"""A proxy in the process of the tests, which writes down what it is asked."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

from .peer import until

__all__ = ["Between", "Reader", "Writer", "between", "connect_method", "saying"]

Reader, Writer = asyncio.StreamReader, asyncio.StreamWriter


class Between:
    """
    A proxy.

    Attributes:
        port: Where it listens.
        asked: What clients asked for, in order.
        carried: Bytes that clients sent through it.
    """

    def __init__(self, act: Callable[[Between, Reader, Writer], Awaitable[None]]) -> None:
        self.act = act
        self.asked: list[Any] = []
        self.carried = bytearray()
        self.ended = 0
        self.port = 0

    async def serve_one(self, reader: Reader, writer: Writer) -> None:
        try:
            with contextlib.suppress(OSError, asyncio.IncompleteReadError):
                await self.act(self, reader, writer)
        finally:
            writer.transport.abort()
            self.ended += 1

    async def carry(self, reader: Reader, writer: Writer, port: int) -> None:
        """Be the tunnel to *port*."""
        there, back = await asyncio.open_connection("127.0.0.1", port)

        async def copy(source: Reader, sink: Writer, kept: bytearray | None) -> None:
            with contextlib.suppress(OSError):
                while data := await source.read(65536):
                    if kept is not None:
                        kept += data
                    sink.write(data)
            sink.close()

        await asyncio.gather(copy(reader, back, self.carried), copy(there, writer, None))
        back.transport.abort()


@contextlib.asynccontextmanager
async def between(
    act: Callable[[Between, Reader, Writer], Awaitable[None]], context: ssl.SSLContext | None = None
) -> AsyncIterator[Between]:
    """A proxy that runs, and at the end has no connection left."""
    proxy = Between(act)
    begun: list[Writer] = []

    async def serve_one(reader: Reader, writer: Writer) -> None:
        begun.append(writer)
        await proxy.serve_one(reader, writer)

    listening = await asyncio.start_server(serve_one, "127.0.0.1", 0, ssl=context)
    proxy.port = listening.sockets[0].getsockname()[1]
    try:
        yield proxy
    finally:
        listening.close()
        await until(lambda: proxy.ended == len(begun))


async def connect_method(proxy: Between, reader: Reader, writer: Writer) -> None:
    """A HTTP proxy."""
    head = await reader.readuntil(b"\r\n\r\n")
    proxy.asked.append(head)
    writer.write(b"HTTP/1.1 200 Connection established\r\nVia: 1.1 x\r\n\r\n")
    await proxy.carry(reader, writer, int(head.split(b" ")[1].rpartition(b":")[2]))


def saying(answer: bytes, *, leave: bool = True) -> Callable[[Between, Reader, Writer], Any]:
    """A proxy that has one answer to everybody."""

    async def act(proxy: Between, reader: Reader, writer: Writer) -> None:
        proxy.asked.append(await reader.readuntil(b"\r\n\r\n"))
        writer.write(answer)
        await writer.drain()
        if leave:
            writer.write_eof()
        await reader.read()

    return act
