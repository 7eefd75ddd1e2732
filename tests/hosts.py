"""Real servers on the running loop: each an async context manager that yields its port.

An ASGI application runs in them as it is; what a host logs goes to `logging`,
errors only, where pytest shows it next to the test that failed.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import socket
import ssl
import warnings
import weakref
from collections.abc import AsyncIterator, Awaitable, Callable, MutableMapping
from typing import Any, cast

from aiohttp import web

from .tls import Tls

__all__ = [
    "UVICORN_WS",
    "Application",
    "aiohttp_host",
    "daphne_host",
    "granian_host",
    "hypercorn_host",
    "uvicorn_host",
]

Message = MutableMapping[str, Any]
Application = Callable[
    [Message, Callable[[], Awaitable[Message]], Callable[[Message], Awaitable[None]]],
    Awaitable[object],
]

#: What speaks WebSocket in uvicorn.
UVICORN_WS = ["websockets", "websockets-sansio", "wsproto"]

# Seconds that an application gets to end by itself when its host goes down; no
# test waits for them unless its application is stuck.
_GRACE = 0.5
# The same in a host that does not tell applications that it goes down.
_SHORT_GRACE = 0.1


def _listener() -> socket.socket:
    """A socket that listens on a free port of this machine."""
    sock = socket.create_server(("127.0.0.1", 0))
    sock.setblocking(False)
    # Inherited by what it accepts; asyncio sets it only where `proto` says TCP.
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return sock


class _Calls:
    """An ASGI application, and the tasks that are in it."""

    def __init__(self, app: Application, *, lifespan: bool) -> None:
        self._app = app
        self._lifespan = lifespan
        self._tasks: set[asyncio.Task[Any]] = set()
        self.started = asyncio.Event()

    async def __call__(
        self,
        scope: Message,
        receive: Callable[[], Awaitable[Message]],
        send: Callable[[Message], Awaitable[None]],
    ) -> object:
        if scope["type"] == "lifespan":
            return await self._live(scope, receive, send)
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            return await self._app(scope, receive, send)
        finally:
            self._tasks.discard(task)

    async def _live(
        self,
        scope: Message,
        receive: Callable[[], Awaitable[Message]],
        send: Callable[[Message], Awaitable[None]],
    ) -> object:
        async def note(message: Message) -> None:
            await send(message)
            self.started.set()

        if self._lifespan:
            return await self._app(scope, receive, note)
        for step in ("startup", "shutdown"):
            await receive()
            await note({"type": f"lifespan.{step}.complete"})
        return None

    async def end(self, grace: float = _GRACE) -> None:
        """Wait for the applications, then cancel those that are stuck."""
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=grace)
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)


@contextlib.asynccontextmanager
async def aiohttp_host(
    handler: Callable[[web.Request], Awaitable[web.StreamResponse]],
    tls: Tls | None = None,
    **runner_options: Any,
) -> AsyncIterator[int]:
    """aiohttp: *handler* answers every request; *runner_options* are an ``AppRunner``'s."""
    tasks: weakref.WeakSet[asyncio.Task[Any]] = weakref.WeakSet()

    async def handle(request: web.Request) -> web.StreamResponse:
        task = asyncio.current_task()
        assert task is not None
        tasks.add(task)
        return await handler(request)

    app = web.Application()
    app.router.add_route("*", "/{tail:.*}", handle)
    options: dict[str, Any] = {"access_log": None, "shutdown_timeout": _SHORT_GRACE}
    runner = web.AppRunner(app, **(options | runner_options))
    await runner.setup()
    try:
        site = web.TCPSite(runner, "127.0.0.1", 0, ssl_context=tls.server if tls else None)
        await site.start()
        yield runner.addresses[0][1]
    finally:
        await runner.cleanup()
        # It cancels those that are stuck, and does not wait for them.
        if left := [task for task in tasks if not task.done()]:
            await asyncio.wait(left)


@contextlib.asynccontextmanager
async def uvicorn_host(
    app: Application,
    ws: str = "websockets-sansio",
    tls: Tls | None = None,
    *,
    lifespan: bool = False,
    **config_options: Any,
) -> AsyncIterator[int]:
    """
    uvicorn, with one of `UVICORN_WS`; *config_options* are its ``Config``'s.

    Its own ``serve()`` handles signals and looks for the end every 0.1 s; so its
    start and its end are called by hand.
    """
    import uvicorn

    def context(config: object, default: object) -> ssl.SSLContext:
        assert tls is not None
        return tls.server

    calls = _Calls(app, lifespan=lifespan)
    options: dict[str, Any] = {
        "access_log": False,
        "interface": "asgi3",
        "lifespan": "on" if lifespan else "off",
        "log_config": None,
        "log_level": "warning",
        "ssl_context_factory": context if tls else None,
        "ws_ping_interval": None,
        "ws_ping_timeout": None,
    }
    config = uvicorn.Config(calls, ws=ws, **(options | config_options))
    with warnings.catch_warnings():
        # "websockets" is deprecated, in uvicorn as in websockets; people still use it.
        warnings.simplefilter("ignore")
        config.load()
    make: Any = config.ws_protocol_class
    made: weakref.WeakSet[Any] = weakref.WeakSet()

    def make_and_note(**arguments: Any) -> asyncio.Protocol:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            protocol: asyncio.Protocol = make(**arguments)
        made.add(protocol)
        return protocol

    config.ws_protocol_class = make_and_note  # type: ignore[assignment]
    server = uvicorn.Server(config)
    server.lifespan = config.lifespan_class(config)
    sock = _listener()
    await server.startup(sockets=[sock])
    await server.on_tick(0)
    try:
        yield sock.getsockname()[1]
    finally:
        state = server.server_state
        for listening in server.servers:
            listening.close()
        sock.close()
        for connection in list(state.connections):
            # uvicorn's own shutdown fails on a connection that is about to end.
            if not connection.transport.is_closing():
                connection.shutdown()
        await calls.end()
        for connection in list(state.connections):
            connection.transport.abort()
        # The implementation "websockets" has a task of its own per connection.
        await asyncio.gather(
            *(protocol.handler_task for protocol in made if hasattr(protocol, "handler_task")),
            return_exceptions=True,
        )
        while state.connections or state.tasks:  # noqa: ASYNC110
            await asyncio.sleep(0)
        await server.lifespan.shutdown()


@contextlib.asynccontextmanager
async def hypercorn_host(
    app: Application,
    tls: Tls | None = None,
    *,
    lifespan: bool = False,
    **config_options: Any,
) -> AsyncIterator[int]:
    """hypercorn; *config_options* are attributes of its ``Config``."""
    from hypercorn.asyncio.run import worker_serve
    from hypercorn.config import Config, Sockets
    from hypercorn.utils import wrap_app

    class Ours(Config):
        errorlog = logging.getLogger("hypercorn.error")
        graceful_timeout = _SHORT_GRACE

        @property
        def ssl_enabled(self) -> bool:
            return tls is not None

        def create_ssl_context(self) -> ssl.SSLContext | None:
            return tls.server if tls else None

    config = Ours()
    for name, value in config_options.items():
        assert hasattr(config, name), name
        setattr(config, name, value)
    calls = _Calls(app, lifespan=lifespan)
    stop = asyncio.Event()
    sock = _listener()
    serving = asyncio.ensure_future(
        worker_serve(
            wrap_app(calls, config.wsgi_max_body_size, "asgi"),  # type: ignore[arg-type]
            config,
            sockets=Sockets([sock] if tls else [], [] if tls else [sock], []),
            shutdown_trigger=stop.wait,
        )
    )
    started = asyncio.ensure_future(calls.started.wait())
    await asyncio.wait([serving, started], return_when=asyncio.FIRST_COMPLETED)
    started.cancel()
    try:
        yield sock.getsockname()[1]
    finally:
        # Since Python 3.12 it waits for the connections before it cancels what has them.
        await calls.end(_SHORT_GRACE)
        stop.set()
        await serving
        sock.close()


@contextlib.asynccontextmanager
async def granian_host(
    app: Application, *, lifespan: bool = False, **server_options: Any
) -> AsyncIterator[int]:
    """
    granian, embedded: its sockets are on threads of its own, the application on our loop.

    *server_options* are its ``Server``'s. For TLS it wants files: ``ssl_cert``, ``ssl_key``.
    """
    from granian._granian import SocketHolder
    from granian.constants import Interfaces
    from granian.server.embed import Server

    sock = _listener()

    class Ours(Server):
        def _init_shared_socket(self) -> None:
            # Its own way would find a free port, and not tell which.
            make: Any = SocketHolder
            self._shd = make(os.dup(sock.fileno()), False, self.backlog)

    options: dict[str, Any] = {
        "interface": Interfaces.ASGI if lifespan else Interfaces.ASGINL,
        # Only levels: it would replace the handlers of everybody.
        "log_dictconfig": {"incremental": True, "handlers": {}, "loggers": {}},
        "log_level": "error",
    }
    calls = _Calls(app, lifespan=lifespan)
    server: Any = Ours(calls, **(options | server_options))
    serving = asyncio.ensure_future(server.serve())
    if lifespan:
        started = asyncio.ensure_future(calls.started.wait())
        await asyncio.wait([serving, started], return_when=asyncio.FIRST_COMPLETED)
        started.cancel()
    try:
        yield sock.getsockname()[1]
    finally:
        await calls.end(_SHORT_GRACE)
        server.stop()
        await serving
        sock.close()


class _Twisted:
    """
    Twisted's reactor, which every test takes to its own loop.

    There is one reactor in a process, and daphne and autobahn import it by name.
    What ties it to a loop is the loop itself, its timer, and the waker that it
    reads from; it is never run, since our loop runs.
    """

    def __init__(self) -> None:
        from twisted.internet import asyncioreactor
        from twisted.logger import LogLevel, STDLibLogObserver, globalLogPublisher

        # Before daphne is imported, which would install one, on a loop of its own.
        asyncioreactor.install(asyncio.get_running_loop())  # type: ignore[no-untyped-call]
        import daphne.server  # type: ignore[import-untyped]
        from twisted.internet import reactor

        daphne.server.twisted_loop.close()
        self.reactor = cast(Any, reactor)
        self.reactor.startRunning(installSignalHandlers=False)
        observer = STDLibLogObserver("twisted")

        def errors(event: Any) -> None:
            if event.get("log_level", LogLevel.info) >= LogLevel.error:
                observer(event)

        globalLogPublisher.addObserver(errors)  # type: ignore[arg-type]
        self._readers: set[Any] = set(self.reactor.getReaders())
        self.leave()

    def enter(self) -> None:
        """Go to the running loop."""
        self.reactor._asyncioEventloop = asyncio.get_running_loop()
        for reader in self._readers:
            self.reactor.addReader(reader)

    async def disconnect(self) -> None:
        """End every connection."""
        reactor = self.reactor
        ours = set(reactor.getReaders() + reactor.getWriters()) - self._readers
        for transport in ours:
            transport.abortConnection()
        while not all(transport.disconnected for transport in ours):  # noqa: ASYNC110
            await asyncio.sleep(0)

    def leave(self) -> None:
        """Leave nothing in the loop."""
        for call in self.reactor.getDelayedCalls():
            call.cancel()
        self.reactor.removeAll()
        for reader in self._readers:
            self.reactor.removeReader(reader)
        if self.reactor._timerHandle is not None:
            self.reactor._timerHandle.cancel()
        self.reactor._timerHandle = self.reactor._scheduledAt = None


_twisted: _Twisted | None = None


@contextlib.asynccontextmanager
async def daphne_host(app: Application, **server_options: Any) -> AsyncIterator[int]:
    """daphne; *server_options* are its ``Server``'s. It knows no lifespan. One at a time."""
    global _twisted
    if _twisted is None:
        _twisted = _Twisted()
    twisted = _twisted
    twisted.enter()
    from daphne.server import Server

    calls = _Calls(app, lifespan=False)
    ports: list[Any] = []

    class Ours(Server):  # type: ignore[misc]
        def listen_success(self, port: Any) -> None:
            ports.append(port)
            super().listen_success(port)

    options: dict[str, Any] = {"ping_interval": 86400, "ping_timeout": None}
    server = Ours(calls, endpoints=["tcp:0:interface=127.0.0.1"], **(options | server_options))
    # It sets everything up, and does not run the reactor.
    server.abort_start = True
    server.run()
    # A client that has much to read first may take more than the one second.
    server.ws_factory.setProtocolOptions(closeHandshakeTimeout=60)
    try:
        yield server.listening_addresses[0][1]
    finally:
        for port in ports:
            await port.stopListening().asFuture(asyncio.get_running_loop())
        await calls.end(_SHORT_GRACE)
        await twisted.disconnect()
        twisted.reactor.removeSystemEventTrigger(
            ("shutdown", ("before", server.kill_all_applications, (), {}))
        )
        twisted.leave()
