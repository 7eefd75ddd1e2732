"""The sources that the contract must hold over; a new one is one more entry of SOURCES.

A test asks for `server` and gets a function: ``async with server(handler, **options)
as address`` listens with one source, and ``address.connect(**options)`` dials it.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any, Protocol

import pytest

from simplews import AioClient, AioServer, ConnectionClosed, serve
from simplews import ConnectionError as OpenError

from ..tls import Tls

Handler = Callable[[AioServer], Awaitable[object]]


class Address:
    """Where a source listens, and how to get there."""

    def __init__(self, port: int, context: ssl.SSLContext | None, path: str | None = None) -> None:
        self.port = port
        self.context = context
        self.path = path

    def url(self, target: str = "/") -> str:
        if self.path is not None:
            return f"ws+unix:{self.path}:{target}"
        scheme = "ws" if self.context is None else "wss"
        return f"{scheme}://localhost:{self.port}{target}"

    def connect(self, target: str = "/", **options: Any) -> Any:
        return AioClient.connect(self.url(target), ssl_context=self.context, **options)

    async def streams(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """Streams for a peer that is not ours."""
        if self.path is not None:
            return await asyncio.open_unix_connection(self.path)
        return await asyncio.open_connection(
            "localhost",
            self.port,
            ssl=self.context,
            server_hostname="localhost" if self.context else None,
        )


class Source(Protocol):
    def __call__(
        self, handler: Handler, **options: Any
    ) -> AbstractAsyncContextManager[Address]: ...


class Tasks:
    """Handlers that run; whatever they raise is the test's."""

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[None]] = set()

    def start(self, accept: Callable[[], Awaitable[AioServer]], handler: Handler) -> None:
        self._tasks.add(asyncio.ensure_future(self._run(accept, handler)))

    async def _run(self, accept: Callable[[], Awaitable[AioServer]], handler: Handler) -> None:
        try:
            ws = await accept()
        except OpenError:
            return
        try:
            await handler(ws)
        except ConnectionClosed:
            pass
        finally:
            await ws.close()

    async def end(self) -> None:
        for task in self._tasks:
            task.cancel()
        for result in await asyncio.gather(*self._tasks, return_exceptions=True):
            if isinstance(result, Exception):
                raise result


@contextlib.asynccontextmanager
async def accepting(
    handle: Callable[[socket.socket], Awaitable[None]],
) -> AsyncIterator[int]:
    """Accept TCP connections by hand, as the owner of a raw socket would."""
    loop = asyncio.get_running_loop()
    listener = socket.create_server(("127.0.0.1", 0))
    listener.setblocking(False)

    async def accept() -> None:
        while True:
            sock, _ = await loop.sock_accept(listener)
            await handle(sock)

    task = asyncio.ensure_future(accept())
    try:
        yield listener.getsockname()[1]
    finally:
        task.cancel()
        await asyncio.wait([task])
        listener.close()


@contextlib.asynccontextmanager
async def over_socket(handler: Handler, **options: Any) -> AsyncIterator[Address]:
    """accept(sock=): we read the request ourselves."""
    tasks = Tasks()

    async def handle(sock: socket.socket) -> None:
        tasks.start(lambda: AioServer.accept(sock=sock, **options), handler)

    async with accepting(handle) as port:
        try:
            yield Address(port, None)
        finally:
            await tasks.end()


@contextlib.asynccontextmanager
async def over_socket_with_headers(handler: Handler, **options: Any) -> AsyncIterator[Address]:
    """accept(sock=, headers=): somebody else has read the request, byte by byte."""
    tasks = Tasks()
    loop = asyncio.get_running_loop()

    async def handle(sock: socket.socket) -> None:
        async def accept() -> AioServer:
            head = b""
            while not head.endswith(b"\r\n\r\n"):
                byte = await loop.sock_recv(sock, 1)
                if not byte:
                    sock.close()
                    raise OpenError("the client left")
                head += byte
            lines = head.decode("latin-1").split("\r\n")[1:-2]
            headers = dict(line.split(": ", 1) for line in lines)
            return await AioServer.accept(sock=sock, headers=headers, **options)

        tasks.start(accept, handler)

    async with accepting(handle) as port:
        try:
            yield Address(port, None)
        finally:
            await tasks.end()


def over_stream(context: Tls | None) -> Source:
    """accept(stream=): asyncio's streams, plain or TLS."""

    @contextlib.asynccontextmanager
    async def source(handler: Handler, **options: Any) -> AsyncIterator[Address]:
        tasks = Tasks()

        def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            tasks.start(lambda: AioServer.accept(stream=(reader, writer), **options), handler)

        server = await asyncio.start_server(
            connected, "127.0.0.1", 0, ssl=context.server if context else None
        )
        try:
            port = server.sockets[0].getsockname()[1]
            yield Address(port, context.client if context else None)
        finally:
            server.close()
            await tasks.end()

    return source


def over_serve(context: Tls | None, path: Path | None = None) -> Source:
    """serve(): the standalone server, plain, TLS, or on a Unix socket."""

    @contextlib.asynccontextmanager
    async def source(handler: Handler, **options: Any) -> AsyncIterator[Address]:
        defaults: dict[str, Any] = {"ping_interval": None, "max_message_size": None}
        server = serve(
            handler,
            "127.0.0.1",
            path=None if path is None else str(path),
            ssl=context.server if context else None,
            **(defaults | options),
        )
        async with server:
            port = 0 if path else server.port
            yield Address(port, context.client if context else None, path and str(path))

    return source


SOURCES = ["socket", "socket+headers", "stream", "stream+tls", "serve", "serve+tls", "serve+unix"]


@pytest.fixture(params=SOURCES)
def server(request: pytest.FixtureRequest, tls: Tls, tmp_path: Path) -> Source:
    """A source, each in turn."""
    kind = str(request.param)
    if kind == "serve+unix" and not hasattr(socket, "AF_UNIX"):
        pytest.skip("this platform has no Unix sockets")
    sources: dict[str, Source] = {
        "socket": over_socket,
        "socket+headers": over_socket_with_headers,
        "stream": over_stream(None),
        "stream+tls": over_stream(tls),
        "serve": over_serve(None),
        "serve+tls": over_serve(tls),
        "serve+unix": over_serve(None, tmp_path / "ws.sock"),
    }
    return sources[kind]


@pytest.fixture(autouse=True)
async def nothing_left() -> AsyncIterator[None]:
    """No test leaves a task behind."""
    before = asyncio.all_tasks()
    yield
    mine = asyncio.current_task()
    left = {t for t in asyncio.all_tasks() - before if t is not mine and not t.done()}
    for task in left:
        task.cancel()
    assert not left, f"tasks left: {left}"
