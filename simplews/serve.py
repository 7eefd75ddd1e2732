"""The standalone server: clients that arrive, their opening handshakes, and their handlers."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import inspect
import logging
import os
import random
import signal
import socket
import ssl as ssl_module
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from types import CoroutineType, TracebackType
from typing import Any, Unpack, overload

from .errors import ConnectionClosed, WebSocketRuntimeError
from .lifespan import Lifespan
from .link.arrival import Arrival, TooLate, over_tls
from .link.blocks import blocks_of
from .link.options import OptionArgs
from .link.sources import TOO_SLOW, Gone, no_delay
from .link.transports import can_secure, create_server, create_unix_server
from .origins import Origins, check_origin, check_rules
from .protocol.frames import check_close
from .protocol.handshake import (
    Refusal,
    check_upgrade,
    is_upgrade,
    serialize_response,
)
from .server import AioServer
from .tally import ServerStats, Tally
from .types import Close, CloseCode, HandshakeRequest, Headers, HeadersLike, Response, header_pairs
from .workers import Workers

__all__ = ["Server", "serve"]

_GOING_AWAY = Close(CloseCode.GOING_AWAY)
# Seconds that a drain gives at its end to opening handshakes: a few round trips.
_LAST_OPENINGS = 2
_INTERNAL_ERROR = Close(CloseCode.INTERNAL_ERROR)

Handler = Callable[[AioServer], Awaitable[object]]
SSL = ssl_module.SSLContext | Callable[[], ssl_module.SSLContext] | None
HTTPHandler = Callable[[HandshakeRequest], Awaitable[Response]]


class Server:
    """
    A WebSocket server. `serve` makes it; see there.

    ``async with`` starts and closes it; `serve_forever` starts it, if need be,
    and runs until SIGTERM or cancellation.
    """

    def __init__(
        self,
        handler: Handler | Mapping[str, Handler],
        host: str | Sequence[str] | None,
        port: int,
        *,
        path: str | None,
        sock: socket.socket | Sequence[socket.socket] | None,
        ssl: SSL,
        http: HTTPHandler | None,
        origins: Origins,
        extra_headers: HeadersLike | None,
        max_connections: int | None,
        connection: type[AioServer],
        lifespan: Callable[[Server], AbstractAsyncContextManager[object]] | None,
        options: dict[str, Any],
    ) -> None:
        self._routes = _routes(handler)
        check_rules(origins)
        if path is not None and sock is not None:
            raise ValueError("serve() listens at path= or on sock=, not on both")
        if lifespan is not None and not callable(lifespan):
            raise TypeError(
                f"lifespan= is a function that takes the Server and returns an async "
                f"context manager, not {lifespan!r}"
            )
        self._host, self._port, self._path, self._sock = host, port, path, sock
        self._ssl = ssl if ssl is None or isinstance(ssl, ssl_module.SSLContext) else ssl()
        self._http = http
        self._origins = origins
        self._extra_headers = header_pairs(extra_headers)
        self._max_connections = max_connections
        self._connection = connection
        self._make_lifespan = lifespan
        self._lifespan: Lifespan | None = None
        self._options = options
        self._open_timeout = options.get("open_timeout", 10)
        self._close_timeout = options.get("close_timeout", 10)
        base = options.get("logger") or logging.getLogger("simplews")
        self._base_logger = base
        self._logger: logging.Logger = base.getChild("server")
        self._servers: list[asyncio.Server] = []
        # Clients whose request has not come, tasks that open or refuse, and all tasks.
        self._arrivals: set[Arrival] = set()
        self._opening: dict[asyncio.Task[None], Arrival] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._secures = False
        self._refused = 0
        self._path_status: os.stat_result | None = None
        self._connections: set[AioServer] = set()
        self._tally = Tally()
        self._closing: asyncio.Task[None] | None = None
        self._stop = asyncio.Event()
        connection(HandshakeRequest("", "/", Headers()), **options)  # checks the options

    # ------------------------------------------------------------------ life

    async def start(self) -> None:
        """
        Enter the lifespan, then listen.

        Raises:
            OSError: The address cannot be used; ``errno.EADDRINUSE`` when
                something else listens there.
            WebSocketRuntimeError: It was closed meanwhile.
            Exception: What entering the lifespan has raised.
        """
        if self._servers:
            return
        if self._make_lifespan is not None:
            self._lifespan = Lifespan(self._make_lifespan(self), self._lifespan_ended)
            await self._lifespan.enter()
        try:
            await self._listen()
            if self._closing is not None:
                raise WebSocketRuntimeError("the server was closed while it started")
        except BaseException:
            for server in self._servers:
                server.close()
            self._servers = []
            self._remove_path()
            if self._lifespan is not None:
                await self._lifespan.leave()
            raise

    async def _listen(self) -> None:
        self._tally.blocks = blocks_of(asyncio.get_running_loop())
        secure = self._ssl is not None
        args: dict[str, Any] = {"backlog": 1024, "secure": secure}
        if secure:
            # A TLS handshake of ours counts as a connection and ends with the
            # server. uvloop reads before it lets us begin one, so it does its own.
            self._secures = can_secure()
            if not self._secures:
                args["ssl"] = self._ssl
                args["ssl_handshake_timeout"] = self._open_timeout
        factory = self._arrival
        if self._path is not None:
            self._servers = [await create_unix_server(factory, self._path, **args)]
            self._path_status = os.stat(self._path)
        elif self._sock is not None:
            socks = [self._sock] if isinstance(self._sock, socket.socket) else self._sock
            # Others may accept here as well: who takes a few at a time leaves them
            # their part. The kernel's queue is as long as ever.
            args["backlog"] = 8
            for listener in socks:
                # What is accepted inherits it.
                no_delay(listener)
                self._servers.append(await create_server(factory, sock=listener, **args))
                listener.listen(1024)
        else:
            self._servers = [await create_server(factory, host=self._host, port=self._port, **args)]
        for listener in self.sockets:
            self._logger.info("listening on %s", listener.getsockname())

    async def serve_forever(self) -> None:
        """
        Serve until SIGTERM or `close`, then close every connection with 1001.

        Raises:
            Exception: What leaving the lifespan has raised; or what has ended it
                meanwhile, and then connections are closed with 1011.

        Cancellation:
            The same.
        """
        await self.start()
        loop = asyncio.get_running_loop()
        installed = False
        with contextlib.suppress(NotImplementedError, ValueError, RuntimeError):
            # Not on Windows, and not outside the main thread.
            loop.add_signal_handler(signal.SIGTERM, self._stop.set)
            installed = True
        try:
            await self._stop.wait()
        finally:
            if installed:
                loop.remove_signal_handler(signal.SIGTERM)
            await self.close()

    async def close(self, code: int = CloseCode.GOING_AWAY, reason: str = "") -> None:
        """
        Stop listening and close every connection; then leave the lifespan.

        Handlers see `ConnectionClosed`, or the end of their ``async for``. One
        that still runs after ``close_timeout`` is cancelled. It may be called
        again, and then waits for the same end.

        Args:
            code: The close code.
            reason: The close reason.

        Raises:
            ValueError: The code must not be sent, or the reason is too long.
            Exception: What leaving the lifespan has raised.

        Cancellation:
            Safe. The closing goes on by itself.
        """
        check_close(code, reason)
        if self._closing is None:
            self._closing = asyncio.ensure_future(self._close(code, reason))
        await asyncio.shield(self._closing)

    async def _close(self, code: int, reason: str) -> None:
        self._stop.set()
        for server in self._servers:
            server.close()
        closings = [asyncio.ensure_future(ws.close(code, reason)) for ws in self._connections]
        # Whoever has not finished the opening handshake gets no more time for it.
        for arrival in self._arrivals:
            arrival.abort()
        self._arrivals.clear()
        for task in self._opening:
            task.cancel()
        if closings:
            await asyncio.wait(closings)
        if self._tasks:
            _, running = await asyncio.wait(self._tasks, timeout=self._close_timeout)
            for task in running:
                task.cancel()
            if running:
                self._logger.warning(
                    "%d handlers were cancelled: they still ran %g s after the end of "
                    "their connections",
                    len(running),
                    self._close_timeout,
                )
                await asyncio.wait(running)
        self._remove_path()
        if self._lifespan is not None:
            await self._lifespan.leave()

    def _lifespan_ended(self, error: BaseException | None) -> None:
        """What handlers use has gone: nobody is served without."""
        if self._closing is None:
            self._logger.error(
                "the lifespan has ended by itself; the server closes with 1011", exc_info=error
            )
            self._closing = asyncio.ensure_future(self._close(CloseCode.INTERNAL_ERROR, ""))
            # It raises the same error again, and perhaps nobody waits for it.
            self._closing.add_done_callback(lambda task: task.cancelled() or task.exception())

    async def drain(self, spread: float) -> None:
        """
        Stop listening and close the connections one after the other with 1012.

        Clients that reconnect then do not all arrive at once at the next server.
        Who has connected already and is about to open a WebSocket is let in, and is
        the last to be closed. `close` cuts it short.

        Args:
            spread: Seconds over which the closing is spread.

        Raises:
            ValueError: *spread* is negative.

        Cancellation:
            Those who were not closed yet stay connected, and nobody else can
            connect; `close` or `drain` again.
        """
        if not spread >= 0:
            raise ValueError(f"spread must not be negative, not {spread!r}")
        await self._stop_listening()
        connections = list(self._connections)
        began = asyncio.get_running_loop().time()
        async with asyncio.TaskGroup() as group:
            for index, ws in enumerate(connections):
                # Each in a slot of its own, at any moment of it: servers that are
                # drained together do not keep step.
                slot = (index + random.random()) / len(connections)
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout_at(began + spread * slot):
                        await self._stop.wait()
                if self._closing is not None:
                    break
                group.create_task(ws.close(CloseCode.SERVICE_RESTART))
        for arrival in list(self._arrivals):
            arrival.ask()  # the last ones are waited for
        if self._opening and self._closing is None:
            await asyncio.wait(set(self._opening), timeout=_LAST_OPENINGS)
        await self.close(CloseCode.SERVICE_RESTART)

    async def _stop_listening(self) -> None:
        """Take no new clients, and lose none that has been taken."""
        loop = asyncio.get_running_loop()
        for listener in self.sockets:
            # asyncio makes a client's transport a turn after it has accepted it, and
            # drops it when the server was closed meanwhile. uvloop does it at once,
            # and Windows' proactor has no readers.
            with contextlib.suppress(RuntimeError, NotImplementedError):
                loop.remove_reader(listener)
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        for server in self._servers:
            server.close()

    def _remove_path(self) -> None:
        if self._path is not None and self._path_status is not None:
            with contextlib.suppress(OSError):
                # The next server may have put its own there already.
                if os.path.samestat(os.stat(self._path), self._path_status):
                    os.unlink(self._path)

    async def __aenter__(self) -> Server:
        await self.start()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.close()

    # ----------------------------------------------------------------- facts

    @property
    def sockets(self) -> tuple[Any, ...]:
        """The listening sockets; empty before the start and after the end."""
        return tuple(listener for server in self._servers for listener in server.sockets)

    @property
    def port(self) -> int:
        """The TCP port of the first listening socket, also when 0 was asked for."""
        for listener in self.sockets:
            if listener.family in (socket.AF_INET, socket.AF_INET6):
                return int(listener.getsockname()[1])
        raise RuntimeError("the server does not listen on a TCP port")

    @property
    def connections(self) -> frozenset[AioServer]:
        """The open connections."""
        return frozenset(self._connections)

    @property
    def stats(self) -> ServerStats:
        """
        What the server has seen, and what it has now.

        Messages cost nothing for it; asking costs about a microsecond for every open
        connection, which counts its own.
        """
        opening = len(self._arrivals) + len(self._opening) - self._refused
        return self._tally.stats(opening, self._connections)

    # ----------------------------------------------------- a connection's way

    def _arrival(self) -> Arrival:
        """What a transport is to tell of a client that connects."""
        return Arrival(self._connected, self._asked)

    def _connected(self, arrival: Arrival) -> None:
        """A client has connected: until its request is there it costs no task."""
        if self._closing is not None:
            arrival.abort()
            return
        self._arrivals.add(arrival)
        arrival.excess = self._full
        arrival.expect(self._open_timeout)
        if self._secures:
            # What comes now is not ours to read.
            assert arrival.transport is not None
            arrival.transport.pause_reading()
            arrival.ask()
        elif arrival.excess:
            arrival.ask()

    def _asked(self, arrival: Arrival) -> None:
        """The client is to be answered: everything else happens in a task of its own."""
        self._arrivals.discard(arrival)
        task = asyncio.get_running_loop().create_task(self._serve(arrival))
        self._tasks.add(task)
        self._opening[task] = arrival
        task.add_done_callback(self._served)

    def _served(self, task: asyncio.Task[None]) -> None:
        """A task has ended that opened no WebSocket: one that did counts itself out."""
        self._tasks.discard(task)
        arrival = self._opening.pop(task, None)
        if arrival is not None:
            arrival.abort()  # it was answered; or its task was cancelled before it began

    async def _serve(self, arrival: Arrival) -> None:
        """
        A connection's whole life: open it, run the application's handler, close it.

        The opening is a call of its own so that nothing of it is held while the
        handler runs, perhaps for days.
        """
        opened = await self._opened(arrival)
        del arrival
        if opened is None:
            return
        ws, handler, task = opened
        del opened
        self._connections.add(ws)
        self._tally.opened += 1
        try:
            if self._closing is not None:
                await ws.close(CloseCode.GOING_AWAY)
            result = handler(ws)
            # The type first: to ask an abstract class takes three times as long.
            if type(result) is not CoroutineType and not inspect.isawaitable(result):
                raise TypeError(f"{handler!r} is no coroutine function: define it with 'async def'")
            await result
        except ConnectionClosed as exc:
            # The handler need not catch the end of its own connection.
            if exc.ending is not ws._link.ending:
                self._handler_failed(ws, exc)
        except Exception as exc:
            self._handler_failed(ws, exc)
        except BaseException:
            ws._link.begin_close(_GOING_AWAY)
            raise
        finally:
            try:
                await ws.close()
            finally:
                self._connections.discard(ws)
                self._tally.done(ws)
                self._tasks.discard(task)
                del task  # which holds its cancellation, whose frames these are

    async def _opened(
        self, arrival: Arrival
    ) -> tuple[AioServer, Handler, asyncio.Task[Any]] | None:
        """Open a WebSocket; or None when the client has had another answer, or none."""
        source = arrival
        peer = arrival.peer
        try:
            with arrival as task:
                if task not in self._opening:
                    await asyncio.sleep(0)  # an eager task: it is not known before it waits
                if self._secures:
                    assert self._ssl is not None
                    source = await over_tls(arrival, self._ssl)
                opened = await self._open(source, arrival.excess)
        except Refusal as exc:
            self._logger.info("%s refused: %s", peer, exc)
            await self._refuse(source, exc.response)
            return None
        except Gone as exc:
            self._tally.left += 1
            self._logger.info("%s opened no WebSocket: %s", peer, exc)
            source.abort()
            return None
        except TooLate:
            self._tally.timeouts += 1
            self._logger.info("%s was not open within %s s", peer, self._open_timeout)
            await self._refuse(source, TOO_SLOW)
            return None
        except Exception:
            self._logger.exception("the opening handshake of %s failed", peer)
            await self._refuse(source, Response(500, {}, "500 Internal Server Error\n"))
            return None
        except BaseException:
            source.abort()
            raise
        if isinstance(opened, bytes):
            self._tally.answers += 1
            await source.answer(opened)
            return None
        assert task is not None
        del self._opening[task]
        # It costs a turn of the loop, which a task that has begun can do without.
        task.remove_done_callback(self._served)
        return *opened, task

    async def _open(self, source: Arrival, excess: bool) -> tuple[AioServer, Handler] | bytes:
        """Read the request and open; or the answer to a plain HTTP request."""
        if self._closing is not None or excess:
            raise Refusal(503, "the server is full, try again later", [("Retry-After", "5")])
        request = await source.request()
        if self._http is not None and not is_upgrade(request):
            return await self._answer_http(request, self._http)
        handler = self._route(request)
        check_upgrade(request)
        check_origin(request, self._origins, guard_cookies=True)
        ws = self._connection(request, **self._options)
        await ws._open(source, self._extra_headers)
        return ws, handler

    async def _refuse(self, source: Arrival, response: Response) -> None:
        """Refuse a client; while it lingers it takes nobody's place."""
        self._refused += 1
        self._tally.refused[response.status] += 1
        try:
            await source.refuse(response)
        finally:
            self._refused -= 1

    @property
    def _full(self) -> bool:
        most = self._max_connections
        if most is None:
            return False
        return len(self._arrivals) + len(self._tasks) - self._refused > most

    def _route(self, request: HandshakeRequest) -> Handler:
        handler = self._routes.get(None) or self._routes.get(request.path)
        if handler is None:
            # As it was sent: decoded, it may have line ends, and this goes into the log.
            path = request.target.partition("?")[0]
            raise Refusal(404, f"there is no WebSocket at {path}")
        return handler

    async def _answer_http(self, request: HandshakeRequest, http: HTTPHandler) -> bytes:
        if request.method not in ("GET", "HEAD"):
            raise Refusal(405, f"method {request.method}", [("Allow", "GET, HEAD")])
        response = await http(request)
        if not isinstance(response, Response):
            raise TypeError(f"http= must return a Response, not {type(response).__name__}")
        return serialize_response(response, head_only=request.method == "HEAD")

    def _handler_failed(self, ws: AioServer, exc: Exception) -> None:
        self._tally.errors += 1
        self._logger.error(
            "the handler of %s for %s raised; its connection is closed with 1011",
            ws.request.target,
            ws.remote_address,
            exc_info=exc,
        )
        ws._link.begin_close(_INTERNAL_ERROR)


def _routes(handler: Handler | Mapping[str, Handler]) -> dict[str | None, Handler]:
    """Handlers by path; None stands for any path."""
    routes: dict[str | None, Handler] = {}
    if isinstance(handler, Mapping):
        routes.update(handler)
    else:
        routes[None] = handler
    for path, function in routes.items():
        if path is not None and not path.startswith("/"):
            raise ValueError(f"path {path!r} does not begin with a slash")
        if not callable(function):
            raise TypeError(
                f"a handler is a coroutine function, not {function!r}; "
                f"define it with 'async def handler(ws):'"
            )
    return routes


class ServeArgs(OptionArgs, total=False):
    """Keyword-only arguments of `serve`, which tells what each one means."""

    path: str | None
    sock: socket.socket | Sequence[socket.socket] | None
    ssl: SSL
    http: HTTPHandler | None
    origins: Origins
    extra_headers: HeadersLike | None
    max_connections: int | None
    connection: type[AioServer]
    subprotocols: str | Sequence[str] | None
    receive_bytes: int
    ping_interval: float | None
    max_message_size: int | None
    setup: Callable[[], object] | None
    lifespan: Callable[[Server], AbstractAsyncContextManager[object]] | None


@overload
def serve(
    handler: Handler | Mapping[str, Handler],
    host: str | Sequence[str] | None = ...,
    port: int = ...,
    *,
    workers: None = None,
    **args: Unpack[ServeArgs],
) -> Server: ...


@overload
def serve(
    handler: Handler | Mapping[str, Handler],
    host: str | Sequence[str] | None = ...,
    port: int = ...,
    *,
    workers: int,
    **args: Unpack[ServeArgs],
) -> Workers: ...


def serve(
    handler: Handler | Mapping[str, Handler],
    host: str | Sequence[str] | None = "localhost",
    port: int = 0,
    *,
    path: str | None = None,
    sock: socket.socket | Sequence[socket.socket] | None = None,
    ssl: SSL = None,
    http: HTTPHandler | None = None,
    origins: Origins = None,
    extra_headers: HeadersLike | None = None,
    max_connections: int | None = None,
    connection: type[AioServer] = AioServer,
    workers: int | None = None,
    setup: Callable[[], object] | None = None,
    lifespan: Callable[[Server], AbstractAsyncContextManager[object]] | None = None,
    subprotocols: str | Sequence[str] | None = None,
    receive_bytes: int = 4096,
    ping_interval: float | None = 20,
    max_message_size: int | None = 16 * 1024 * 1024,
    **options: Unpack[OptionArgs],
) -> Server | Workers:
    """
    Make a standalone WebSocket server.

    ::

        async def echo(ws):
            async for message in ws:
                await ws.send(message)

        async with serve(echo, "localhost", 8000) as server:
            await server.serve_forever()

    A handler gets an open `AioServer`; when it returns, the connection is closed
    with 1000, when it raises, with 1011 and a traceback in the log.

    Args:
        handler: A coroutine function; or a mapping from path to such, and then
            any other path is answered with 404.
        host: Host name or address, or several; None for all.
        port: TCP port; 0 for any free one (see `Server.port`).
        path: Listen on a Unix socket at this path instead.
        sock: Listen on this socket, or these, instead.
        ssl: Context with a certificate, for ``wss://``; or a function that makes it.
        http: ``async def (request) -> Response`` for plain GET and HEAD requests
            on the same port: a page, a health check. Without it they get 426.
        origins: Allowed ``Origin`` values: strings or compiled patterns, None
            among them for a missing one, ``"*"`` for any. The default refuses
            only requests with cookies that come from a page of another host.
        extra_headers: Header fields to add to every 101 response.
        max_connections: Connections, opening ones included; above it 503.
        connection: Subclass of `AioServer` to use, say with its own
            ``choose_subprotocol``.
        workers: Processes that serve, on the same port; see `Workers`. Each imports
            the handler: it must be a function of a module, and so must whatever
            else is given here.
        setup: Called first in every worker: to set up logging, say.
        lifespan: Called with the `Server` in every process that serves; the async
            context manager that it returns is entered before the process accepts
            connections, and left when the last one has ended: for `Rooms`, say, or
            a pool of connections to a database.
        subprotocols: What we speak, best first: one name or several.
        receive_bytes: Bytes of the first reads; they grow while they are filled.
        ping_interval: Seconds between pings; None for none.
        max_message_size: Bytes a message may have, after inflating; 16 MiB
            unless set; None for no limit.
        options: See `OptionArgs`.

    Raises:
        ValueError, TypeError: An option is wrong.
    """
    arguments: dict[str, Any] = {
        "ssl": ssl,
        "http": http,
        "origins": origins,
        "extra_headers": extra_headers,
        "max_connections": max_connections,
        "connection": connection,
        "lifespan": lifespan,
    }
    options_: dict[str, Any] = {
        **options,
        "subprotocols": subprotocols,
        "receive_bytes": receive_bytes,
        "ping_interval": ping_interval,
        "max_message_size": max_message_size,
    }
    server = Server(
        handler, host, port, path=path, sock=sock, options=options_, **arguments
    )  # which checks all of it
    if workers is None:
        if setup is not None:
            raise ValueError("setup= is for the processes of workers=")
        return server
    return Workers(
        functools.partial(serve, handler, **arguments, **options_),
        workers,
        host,
        port,
        path=path,
        sock=sock,
        setup=setup,
        close_timeout=server._close_timeout,
        logger=server._base_logger,
    )
