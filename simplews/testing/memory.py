"""`pair`: both ends of a connection, joined without a port."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from typing import Any, Unpack, cast

from ..client import AioClient
from ..connection import AioBase
from ..errors import ConnectionClosed, ConnectionError
from ..link.options import OptionArgs
from ..link.sources import Streams, no_delay, streams_of_socket
from ..serve import Server, serve
from ..server import AioServer
from ..types import HeadersLike
from .deadline import UNSET, Deadline, Unset
from .faults import Faults

__all__ = ["PairOptions", "pair"]

Handler = Callable[[AioServer], Awaitable[object]]


class PairOptions(OptionArgs, total=False):
    """
    Options of both ends of `pair`; see `AioServer.accept`.

    Attributes:
        subprotocols: What both ends speak, best first: one name or several.
        receive_bytes: Bytes of the first reads; they grow while they are filled.
        ping_interval: Seconds between pings; None for none.
        max_message_size: Bytes a message may have, after inflating; None for no limit.
    """

    subprotocols: str | Sequence[str] | None
    receive_bytes: int
    ping_interval: float | None
    max_message_size: int | None


@contextlib.asynccontextmanager
async def pair(
    handler: Handler | Mapping[str, Handler] | None = None,
    target: str = "/",
    *,
    faults: Faults | None = None,
    headers: HeadersLike | None = None,
    timeout: float | Unset | None = UNSET,
    client: Mapping[str, Any] | None = None,
    server: Mapping[str, Any] | None = None,
    **options: Unpack[PairOptions],
) -> AsyncIterator[tuple[AioClient, AioServer]]:
    """
    Both ends of an open connection, in this process and without a port.

    ::

        async with pair() as (client, server):
            await client.send("hello")
            assert await server.receive() == "hello"

    Everything is real: the sockets, the opening handshake, both connections. At the
    end of the block both are closed; if it raised, or the network loses what is sent,
    they are dropped.

    Args:
        handler: What serves the client, as `serve` would run it: a coroutine function,
            or several by path. Its end closes the connection, an exception of it
            closes it with 1011 and is raised at the end of the block. Without a
            handler the server's end is the test's to use.
        target: Path and query that the client asks for.
        faults: The network in between. With it the sockets are TCP's, so that a reset
            is one; without it they are a `socket.socketpair`.
        headers: Header fields of the client's request.
        timeout: Seconds that the opening, the block, and the closing may each take: 10
            when left out, an hour on a `ClockLoop`; None for no limit.
        client: Options of the client's end only; see `AioClient.connect`.
        server: Options of the server's end only; see `serve` with a handler, else
            `AioServer.accept`. ``connection=`` is a subclass of `AioServer` to use.
        options: See `PairOptions`.

    Yields:
        The client's and the server's end, both open.

    Raises:
        ConnectionError: The server refused the client; it has the status.
        TimeoutError: It took too long; the error says what was waited for.
    """
    async with contextlib.AsyncExitStack() as stack:
        if faults is None:
            near, far = socket.socketpair()
        else:
            near, far = await stack.enter_async_context(faults.between())
        ends: list[AioBase] = []
        stack.callback(near.close)
        stack.callback(far.close)

        def tell() -> list[str]:
            return [f"{_name(end)}: {_state(end)}" for end in ends]

        ours: dict[str, Any] = {"headers": headers, **options, **(client or {})}
        joined = _Joined(f"ws://localhost{target}", **ours)
        joined.end = near
        host = _Host(handler, {**options, **(server or {})})
        stack.push_async_callback(host.close)
        async with Deadline(timeout, "the opening handshake of pair()"):
            ends += await host.open(joined, far)
        stack.push_async_callback(_gone, ends)
        try:
            async with Deadline(timeout, "the block of pair()", tell):
                yield cast("tuple[AioClient, AioServer]", tuple(ends))
            async with Deadline(timeout, "the closing handshake of pair()", tell):
                if faults is None or not faults.lossy:
                    for end in ends:
                        await end.close()
        except BaseException as error:
            await _gone(ends)
            await host.close()
            failure = host.failure
            if failure is None:
                raise
            if not isinstance(error, ConnectionClosed):
                error.add_note(f"the handler of pair() raised {failure!r}")
                raise
            raise failure from error
        await _gone(ends)
        await host.close()
        if host.failure is not None:
            raise host.failure


async def _gone(ends: list[AioBase]) -> None:
    """Drop what is still open."""
    for end in ends:
        end.abort()
    for end in ends:
        await end.wait_closed()


def _is_of_the_network(error: BaseException) -> bool:
    return isinstance(error, ConnectionError)


def _name(end: AioBase) -> str:
    return "server" if isinstance(end, AioServer) else "client"


def _state(end: AioBase) -> str:
    waiting = len(end._messages)
    return f"{end.explain()}" + (f", {waiting} messages to receive" if waiting else "")


class _Joined(AioClient):
    """A client whose server is at the other end of a socket."""

    end: socket.socket

    async def _open_streams(self) -> Streams:
        return await streams_of_socket(self.end)


class _Host:
    """
    The server's side of a pair.

    Attributes:
        failure: What the handler raised, if it did.
    """

    def __init__(
        self, handler: Handler | Mapping[str, Handler] | None, options: dict[str, Any]
    ) -> None:
        self.failure: Exception | None = None
        self._opened: asyncio.Future[AioServer] = asyncio.get_running_loop().create_future()
        self._options = options
        self._server: Server | None = None
        if isinstance(handler, Mapping):
            self._server = serve({path: self._kept(h) for path, h in handler.items()}, **options)
        elif handler is not None:
            self._server = serve(self._kept(handler), **options)

    def _kept(self, handler: Handler) -> Handler:
        """*handler*, whose connection and whose failure are kept."""

        async def run(ws: AioServer) -> None:
            self._opened.set_result(ws)
            try:
                await handler(ws)
            except Exception as exc:
                # The end of its own connection need not be caught.
                if not isinstance(exc, ConnectionClosed) or exc.ending is not ws._link.ending:
                    self.failure = exc
                raise

        return run

    async def open(self, client: _Joined, sock: socket.socket) -> tuple[AioClient, AioServer]:
        """Both ends, open."""
        if self._server is not None:
            sock.setblocking(False)
            no_delay(sock)
            loop = asyncio.get_running_loop()
            await loop.connect_accepted_socket(self._server._arrival, sock)
            # One behind the other: of a client that is refused there is no server's end.
            ws = await client._open()
            try:
                return ws, await self._opened
            except BaseException:
                await _gone([ws])
                raise
        options = dict(self._options)
        connection: type[AioServer] = options.pop("connection", AioServer)
        accepting = connection.accept(sock=sock, **options)
        opening = [asyncio.ensure_future(end) for end in (client._open(), accepting)]
        try:
            await asyncio.wait(opening)
            errors = [task.exception() for task in opening]
            # What one of them made the other see is the lesser error.
            for error in sorted(filter(None, errors), key=_is_of_the_network):
                raise error
        except BaseException:
            for task in opening:
                task.cancel()
            ends = await asyncio.gather(*opening, return_exceptions=True)
            await _gone([end for end in ends if isinstance(end, AioBase)])
            raise
        ends = [task.result() for task in opening]
        return cast("tuple[AioClient, AioServer]", tuple(ends))

    async def close(self) -> None:
        """End the handler, which has seen the end of its connection."""
        if self._server is not None:
            await self._server.close()
