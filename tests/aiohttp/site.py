"""A site of aiohttp's on a free port, raw clients for it, and what gets logged."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import aiohttp
from aiohttp import web

from simplews import AioClient

from ..peer import REQUEST, Peer
from ..tls import Tls

__all__ = [
    "TIMES",
    "VERSION",
    "Log",
    "Site",
    "StreamPeer",
    "answer",
    "descriptors",
    "get",
    "request",
    "running",
]

#: Which aiohttp this is.
VERSION = tuple(int(part) for part in aiohttp.__version__.split(".")[:2])

#: How often a connection is refused where the handler returns no response:
#: aiohttp 3.9 does not keep it then.
TIMES = 2 if VERSION >= (3, 10) else 1

Handler = Callable[[Any], Awaitable[Any]]


class Log(logging.Handler):
    """Everything that was logged, one line each; asyncio's measurements left out."""

    def __init__(self) -> None:
        super().__init__()
        self.records: list[logging.LogRecord] = []

    def emit(self, record: logging.LogRecord) -> None:
        if not record.getMessage().startswith("Executing <"):
            self.records.append(record)

    def lines(self, level: int = logging.WARNING) -> list[str]:
        """What is of *level* or above."""
        return [
            f"{record.name} {record.levelname}: {record.getMessage()}"
            for record in self.records
            if record.levelno >= level
        ]

    def raised(self) -> list[tuple[str, type[BaseException] | None]]:
        """For each complaint its logger, and the type of the exception with it."""
        return [
            (record.name, record.exc_info[0] if record.exc_info else None)
            for record in self.records
            if record.levelno >= logging.WARNING
        ]


class StreamPeer(Peer):
    """A raw client on asyncio's streams, for TLS."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.masks = True
        self.received = bytearray()
        self._reader = reader
        self._writer = writer

    async def write(self, data: bytes) -> None:
        """Send bytes."""
        self._writer.write(data)
        await self._writer.drain()

    async def sock_read(self) -> bytes:
        """Read what is there."""
        return await self._reader.read(1 << 18)

    async def close(self) -> None:
        """End it."""
        self._writer.close()
        with contextlib.suppress(OSError):
            await self._writer.wait_closed()


class Site:
    """
    Where it listens.

    Attributes:
        port: The port.
        runner: aiohttp's runner.
        tls: The certificate, or None.
    """

    def __init__(self, runner: Any, tls: Tls | None) -> None:
        self.runner = runner
        self.port: int = runner.addresses[0][1]
        self.tls = tls

    @property
    def connections(self) -> list[Any]:
        """aiohttp's protocols of open connections."""
        connections: list[Any] = self.runner.server.connections
        return connections

    def url(self, path: str = "/") -> str:
        """The URL of a WebSocket here."""
        return f"{'wss' if self.tls else 'ws'}://127.0.0.1:{self.port}{path}"

    def connect(self, path: str = "/", **options: Any) -> Any:
        """A client of ours."""
        context = self.tls.client if self.tls else None
        return AioClient.connect(self.url(path), ssl_context=context, **options)

    def socket(self) -> socket.socket:
        """A TCP connection, which the server need not have noticed yet."""
        return socket.create_connection(("127.0.0.1", self.port))

    @contextlib.asynccontextmanager
    async def peer(self, data: bytes = b"") -> AsyncIterator[Peer]:
        """A raw client, which has sent *data*."""
        if self.tls is None:
            with self.socket() as sock:
                peer = Peer(sock)
                await peer.write(data)
                yield peer
            return
        streams = StreamPeer(
            *await asyncio.open_connection("127.0.0.1", self.port, ssl=self.tls.client)
        )
        try:
            await streams.write(data)
            yield streams
        finally:
            await streams.close()

    @contextlib.asynccontextmanager
    async def opened(self, path: str = "/") -> AsyncIterator[Peer]:
        """A raw client, behind its opening handshake."""
        async with self.peer(request(path)) as peer:
            assert (await peer.head()).startswith(b"HTTP/1.1 101 ")
            yield peer


@contextlib.asynccontextmanager
async def running(
    handler: Handler | web.Application,
    tls: Tls | None = None,
    **options: Any,
) -> AsyncIterator[Site]:
    """
    A site with a handler for every path, or an application.

    *options* are an ``AppRunner``'s; there is no access log unless asked for.
    """
    if isinstance(handler, web.Application):
        app = handler
    else:
        app = web.Application()
        app.router.add_route("*", "/{tail:.*}", handler)
    runner = web.AppRunner(app, **({"access_log": None} | options))
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=tls.server if tls else None).start()
        yield Site(runner, tls)
    finally:
        await runner.cleanup()


def request(path: str = "/", method: str = "GET", version: str = "1.1", **fields: Any) -> bytes:
    """A WebSocket request with other *fields*; None leaves one out, ``_`` stands for ``-``."""
    _, _, rest = REQUEST.partition(b"\r\n")
    lines = rest.decode().split("\r\n")[:-2]
    for name, value in fields.items():
        name = name.replace("_", "-")
        lines = [line for line in lines if not line.lower().startswith(f"{name.lower()}:")]
        if value is not None:
            lines.append(f"{name}: {value}")
    lines = [f"{method} {path} HTTP/{version}", *lines, "", ""]
    return "\r\n".join(lines).encode()


async def answer(peer: Peer, *, head_only: bool = False) -> tuple[int, dict[str, str], bytes]:
    """Read a plain answer: status, header fields with names in lower case, and body."""
    lines = (await peer.head()).decode().split("\r\n")
    fields = {k.lower(): v for k, _, v in (line.partition(": ") for line in lines[1:-2])}
    length = 0 if head_only else int(fields.get("content-length", "0"))
    while len(peer.received) < length:
        assert await peer._more()
    body = bytes(peer.received[:length])
    del peer.received[:length]
    return int(lines[0].split()[1]), fields, body


async def get(peer: Peer, data: bytes | None = None) -> tuple[int, dict[str, str], bytes]:
    """Send a request, a plain one by default, and read the answer."""
    await peer.write(data or b"GET /plain HTTP/1.1\r\nHost: localhost\r\n\r\n")
    return await answer(peer)


def descriptors() -> set[str]:
    """What is open."""
    if not os.path.isdir("/proc/self/fd"):
        return set()
    found = set()
    for name in os.listdir("/proc/self/fd"):
        with contextlib.suppress(OSError):
            found.add(name + os.readlink(f"/proc/self/fd/{name}"))
    return {thing for thing in found if "/proc/" not in thing}
