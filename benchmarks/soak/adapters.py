"""
Each library as a server and as a client, behind one shape.

A server's adapter is an async function ``(port, options, handler)`` that listens and
returns a coroutine function that ends the server as its documentation says.
*handler* gets an `End` and the path. A client's is ``(url, options)`` and returns an
`End`. What an `End` has are the library's own methods wherever their shapes agree, so
that nothing of ours stands between a scenario and what it measures.

Options are those a user would set for the rule in question; what a library has no
option for is left to its defaults.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib
import socket
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any


class Gone(Exception):
    """The connection has ended, for libraries that say so by a message."""


@dataclass
class End:
    """
    One end of a connection.

    Attributes:
        receive: The next message.
        send: Send one.
        close: Close, without arguments with 1000.
        code: The close code that the application is told, given the exception.
        closed: What is raised when the connection has ended.
        poll: ``receive`` with a timeout in seconds, None when that has passed;
            where the library has none of its own, ``asyncio.wait_for``.
    """

    receive: Callable[[], Awaitable[Any]]
    send: Callable[[Any], Awaitable[Any]]
    close: Callable[..., Awaitable[Any]]
    code: Callable[[Any], int | None]
    closed: tuple[type[BaseException], ...]
    poll: Callable[[float], Awaitable[Any]] | None = None


Options = dict[str, Any]
Handler = Callable[[End, str], Awaitable[None]]
Stop = Callable[[], Awaitable[None]]


def _named(options: Options, **names: str) -> Options:
    """Of *options* those that are set, under the library's names."""
    return {names[name]: value for name, value in options.items() if name in names}


# ------------------------------------------------------------------- simplews

SIMPLEWS = {
    "ping_interval": "ping_interval",
    "max_size": "max_message_size",
    "open_timeout": "open_timeout",
    "close_timeout": "close_timeout",
}


def _simplews(ws: Any) -> End:
    from simplews import ConnectionClosed

    return End(
        ws.receive, ws.send, ws.close, lambda exc: ws.close_code, (ConnectionClosed,), ws.receive
    )


class _Accepted:
    """The connections that an application accepts by itself, to close them at the end."""

    def __init__(self, handler: Handler) -> None:
        self._handler = handler
        self._tasks: set[asyncio.Task[None]] = set()
        self._open: set[Any] = set()

    def accept(self, opening: Awaitable[Any]) -> None:
        task = asyncio.ensure_future(self._serve(opening))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _serve(self, opening: Awaitable[Any]) -> None:
        from simplews import ConnectionError

        with contextlib.suppress(ConnectionError):
            await self.talk(await opening)

    async def talk(self, ws: Any) -> None:
        self._open.add(ws)
        try:
            async with ws:
                await self._handler(_simplews(ws), ws.request.path)
        finally:
            self._open.discard(ws)

    async def close(self) -> None:
        await asyncio.gather(*(ws.close(1001) for ws in list(self._open)))


async def simplews_serve(port: int, options: Options, handler: Handler) -> Stop:
    from simplews import serve

    async def talk(ws: Any) -> None:
        await handler(_simplews(ws), ws.request.path)

    server = serve(talk, "127.0.0.1", port, **_named(options, **SIMPLEWS))
    await server.start()
    return server.close


async def simplews_sock(port: int, options: Options, handler: Handler) -> Stop:
    from simplews import AioServer

    loop = asyncio.get_running_loop()
    connections = _Accepted(handler)
    listener = socket.create_server(("127.0.0.1", port), backlog=1024)
    listener.setblocking(False)

    async def accept_all() -> None:
        while True:
            sock, _ = await loop.sock_accept(listener)
            connections.accept(AioServer.accept(sock=sock, **_named(options, **SIMPLEWS)))

    task = loop.create_task(accept_all())

    async def stop() -> None:
        task.cancel()
        listener.close()
        await connections.close()

    return stop


async def simplews_stream(port: int, options: Options, handler: Handler) -> Stop:
    from simplews import AioServer

    connections = _Accepted(handler)

    def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connections.accept(AioServer.accept(stream=(reader, writer), **_named(options, **SIMPLEWS)))

    server = await asyncio.start_server(accept, "127.0.0.1", port, backlog=1024)

    async def stop() -> None:
        server.close()
        await connections.close()

    return stop


async def _aiohttp_site(port: int, talk: Callable[[Any], Awaitable[Any]]) -> Any:
    from aiohttp import web

    app = web.Application()
    app.add_routes([web.get("/{path:.*}", talk)])
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", port, backlog=1024).start()
    return runner


async def simplews_aiohttp(port: int, options: Options, handler: Handler) -> Stop:
    from simplews import AioServer

    async def talk(request: Any) -> Any:
        ws = await AioServer.accept(aiohttp=request, **_named(options, **SIMPLEWS))
        await handler(_simplews(ws), request.path)
        return ws.response

    runner = await _aiohttp_site(port, talk)
    stop: Stop = runner.cleanup
    return stop


async def simplews_asgi(port: int, options: Options, handler: Handler) -> Stop:
    from simplews import AioServer

    own = {name: value for name, value in options.items() if name != "ping_interval"}

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "websocket":
            triple = (scope, receive, send)
            async with AioServer.accept(asgi=triple, **_named(own, **SIMPLEWS)) as ws:
                await handler(_simplews(ws), scope["path"])

    return await _uvicorn(port, options, app, "websockets-sansio")


async def simplews_client(url: str, options: Options) -> End:
    from simplews import AioClient

    return _simplews(await AioClient.connect(url, **_named(options, **SIMPLEWS)))


# ---------------------------------------------------- websockets, picows' same API


def _coroutines(ws: Any, module: str) -> End:
    closed = importlib.import_module(module).ConnectionClosed

    def code(exc: Any) -> int | None:
        close = exc.rcvd or exc.sent
        return 1006 if close is None else int(close.code)

    return End(ws.recv, ws.send, ws.close, code, (closed,))


def _ping_timeout(options: Options) -> Options:
    """Websockets and uvicorn have two settings, of 20 s each, for what is one rule."""
    named = _named(
        options,
        ping_interval="ping_interval",
        max_size="max_size",
        open_timeout="open_timeout",
        close_timeout="close_timeout",
    )
    if "ping_interval" in named:
        named["ping_timeout"] = named["ping_interval"]
    return named


async def websockets_server(port: int, options: Options, handler: Handler) -> Stop:
    from websockets.asyncio.server import serve

    async def talk(ws: Any) -> None:
        await handler(_coroutines(ws, "websockets.exceptions"), ws.request.path)

    server = await serve(talk, "127.0.0.1", port, backlog=1024, **_ping_timeout(options))

    async def stop() -> None:
        server.close()
        await server.wait_closed()

    return stop


async def websockets_client(url: str, options: Options) -> End:
    from websockets.asyncio.client import connect

    ws = await connect(url, proxy=None, **_ping_timeout(options))
    return _coroutines(ws, "websockets.exceptions")


async def picows_websockets_server(port: int, options: Options, handler: Handler) -> Stop:
    from picows.websockets import serve

    async def talk(ws: Any) -> None:
        await handler(_coroutines(ws, "picows.websockets"), ws.request.path)

    server = await serve(talk, "127.0.0.1", port, backlog=1024, **_ping_timeout(options))

    async def stop() -> None:
        server.close()
        await server.wait_closed()

    return stop


async def picows_websockets_client(url: str, options: Options) -> End:
    from picows.websockets import connect

    return _coroutines(
        await connect(url, proxy=None, **_ping_timeout(options)), "picows.websockets"
    )


# ------------------------------------------------------------ picows' callbacks


def _picows_options(options: Options) -> Options:
    named = _named(options, max_size="max_frame_size", open_timeout="websocket_handshake_timeout")
    if "ping_interval" in options:
        named["enable_auto_ping"] = True
        named["auto_ping_idle_timeout"] = options["ping_interval"]
        named["auto_ping_reply_timeout"] = options["ping_interval"]
    return named


def _picows_listener(path: str, handler: Handler | None = None) -> Any:
    """A listener whose frames come out of a queue: callbacks have nothing that waits."""
    from picows import WSListener, WSMsgType

    class Listener(WSListener):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.frames: asyncio.Queue[bytes | None] = asyncio.Queue()
            self.room = asyncio.Event()
            self.room.set()
            self.code: int | None = None
            self.task: asyncio.Task[None] | None = None

        def on_ws_connected(self, transport: Any) -> None:
            self.transport = transport
            if handler is not None:
                self.task = asyncio.ensure_future(handler(self.end(), path))

        def on_ws_frame(self, transport: Any, frame: Any) -> None:
            if frame.msg_type == WSMsgType.CLOSE:
                self.code = frame.get_close_code()
                transport.send_close(self.code)
                transport.disconnect()
            elif path != "/sink":
                self.frames.put_nowait(frame.get_payload_as_bytes())

        def on_ws_disconnected(self, transport: Any) -> None:
            self.frames.put_nowait(None)
            self.room.set()

        def pause_writing(self) -> None:
            self.room.clear()

        def resume_writing(self) -> None:
            self.room.set()

        async def receive(self) -> bytes:
            payload = await self.frames.get()
            if payload is None:
                raise Gone
            return payload

        async def send(self, data: Any) -> None:
            await self.room.wait()
            if self.transport.is_disconnected:
                raise Gone
            text = isinstance(data, str)
            self.transport.send(WSMsgType.TEXT if text else WSMsgType.BINARY, data)

        async def close(self, code: int = 1000) -> None:
            self.transport.send_close(code)
            await self.transport.wait_disconnected()

        def end(self) -> End:
            return End(self.receive, self.send, self.close, lambda exc: self.code, (Gone,))

    return Listener()


async def picows_server(port: int, options: Options, handler: Handler) -> Stop:
    from picows import ws_create_server

    server = await ws_create_server(
        lambda request: _picows_listener(request.path.decode(), handler),
        "127.0.0.1",
        port,
        backlog=1024,
        **_picows_options(options),
    )

    async def stop() -> None:
        server.close()

    return stop


# -------------------------------------------------------------------- aiohttp


def _aiohttp(ws: Any) -> End:
    from aiohttp import WSMsgType

    data = (WSMsgType.TEXT, WSMsgType.BINARY)

    async def receive() -> Any:
        message = await ws.receive()
        if message.type in data:
            return message.data
        raise Gone(getattr(message.data, "code", None) or ws.close_code)

    async def send(message: Any) -> None:
        try:
            if isinstance(message, str):
                await ws.send_str(message)
            else:
                await ws.send_bytes(message)
        except (ConnectionError, RuntimeError) as exc:
            raise Gone(ws.close_code) from exc

    async def close(code: int = 1000) -> None:
        await ws.close(code=code)

    return End(receive, send, close, lambda exc: exc.args[0], (Gone,))


async def aiohttp_server(port: int, options: Options, handler: Handler) -> Stop:
    from aiohttp import WSCloseCode, web

    named = _named(
        options, ping_interval="heartbeat", max_size="max_msg_size", close_timeout="timeout"
    )
    sockets: set[Any] = set()

    async def talk(request: Any) -> Any:
        ws = web.WebSocketResponse(**named)
        await ws.prepare(request)
        sockets.add(ws)
        try:
            await handler(_aiohttp(ws), request.path)
        finally:
            sockets.discard(ws)
        return ws

    runner = await _aiohttp_site(port, talk)

    async def stop() -> None:
        # As "Graceful shutdown" in its documentation has it, at once for all.
        await asyncio.gather(*(ws.close(code=WSCloseCode.GOING_AWAY) for ws in list(sockets)))
        await runner.cleanup()

    return stop


_sessions: list[Any] = []


async def aiohttp_client(url: str, options: Options) -> End:
    import aiohttp

    if not _sessions:
        connector = aiohttp.TCPConnector(limit=0)
        _sessions.append(aiohttp.ClientSession(connector=connector))
    named = _named(options, ping_interval="heartbeat", max_size="max_msg_size")
    if "close_timeout" in options:
        named["timeout"] = aiohttp.ClientWSTimeout(ws_close=options["close_timeout"])
    opening = _sessions[0].ws_connect(url, compress=15, **named)
    async with asyncio.timeout(options.get("open_timeout")):
        return _aiohttp(await opening)


# ----------------------------------------------------------- uvicorn, bare ASGI


def _asgi(receive: Any, send: Any) -> End:
    code: list[int | None] = [None]

    async def take() -> Any:
        message = await receive()
        if message["type"] == "websocket.disconnect":
            code[0] = message.get("code")
            raise Gone
        text = message.get("text")
        return message["bytes"] if text is None else text

    async def give(message: Any) -> None:
        kind = "text" if isinstance(message, str) else "bytes"
        await send({"type": "websocket.send", kind: message})

    async def close(number: int = 1000) -> None:
        await send({"type": "websocket.close", "code": number})

    # ASGI 2.4: sending to a client that has left raises OSError; uvicorn's is its own.
    from uvicorn.protocols.utils import ClientDisconnected

    return End(take, give, close, lambda exc: code[0], (Gone, OSError, ClientDisconnected))


async def _uvicorn(port: int, options: Options, app: Any, ws: str) -> Stop:
    import uvicorn

    named = _named(options, ping_interval="ws_ping_interval", max_size="ws_max_size")
    if "ping_interval" in options:
        named["ws_ping_timeout"] = options["ping_interval"]
    config = uvicorn.Config(
        app,
        host="127.0.0.1",
        port=port,
        ws=ws,
        lifespan="off",
        log_level="warning",
        access_log=False,
        **named,
    )
    server = uvicorn.Server(config)
    # What Server.serve() does around it takes the process's signals.
    task = asyncio.ensure_future(server._serve())

    async def stop() -> None:
        server.should_exit = True
        await task

    while not server.started:
        await asyncio.sleep(0.01)
        if task.done():
            task.result()
    return stop


def _bare(handler: Handler) -> Any:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "websocket":
            await receive()
            await send({"type": "websocket.accept"})
            await handler(_asgi(receive, send), scope["path"])

    return app


async def uvicorn_wsproto(port: int, options: Options, handler: Handler) -> Stop:
    return await _uvicorn(port, options, _bare(handler), "wsproto")


async def uvicorn_sansio(port: int, options: Options, handler: Handler) -> Stop:
    return await _uvicorn(port, options, _bare(handler), "websockets-sansio")


# ----------------------------------------------------------- simple-websocket

SIMPLE = {"ping_interval": "ping_interval", "max_size": "max_message_size"}


def _simple(ws: Any) -> End:
    from simple_websocket import ConnectionClosed

    return End(
        ws.receive, ws.send, ws.close, lambda exc: ws.close_reason, (ConnectionClosed,), ws.receive
    )


async def _read_head(loop: asyncio.AbstractEventLoop, sock: socket.socket) -> Any:
    head = b""
    while b"\r\n\r\n" not in head:
        data = await loop.sock_recv(sock, 4096)
        if not data:
            return None
        head += data
    first, *lines = head.decode("latin-1").split("\r\n")
    fields = (line.partition(":") for line in lines if ":" in line)
    return first.split(" ")[1], {name.strip(): value.strip() for name, _, value in fields}


async def simple_websocket_server(port: int, options: Options, handler: Handler) -> Stop:
    from simple_websocket import AioServer, ConnectionClosed

    loop = asyncio.get_running_loop()
    listener = socket.create_server(("127.0.0.1", port), backlog=1024)
    listener.setblocking(False)
    tasks: set[asyncio.Task[None]] = set()
    connections: set[Any] = set()

    async def serve_one(sock: socket.socket) -> None:
        try:
            request = await _read_head(loop, sock)
        except OSError:
            request = None
        if request is None:
            sock.close()
            return
        path, headers = request
        ws = await AioServer.accept(sock=sock, headers=headers, **_named(options, **SIMPLE))
        connections.add(ws)
        try:
            await handler(_simple(ws), path)
        finally:
            connections.discard(ws)

    async def accept_all() -> None:
        while True:
            sock, _ = await loop.sock_accept(listener)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            task = loop.create_task(serve_one(sock))
            tasks.add(task)
            task.add_done_callback(tasks.discard)

    accepting = loop.create_task(accept_all())

    async def stop() -> None:
        accepting.cancel()
        listener.close()
        for ws in list(connections):
            with contextlib.suppress(ConnectionClosed):
                await ws.close(1001)

    return stop


async def simple_websocket_client(url: str, options: Options) -> End:
    from simple_websocket import AioClient

    return _simple(await AioClient.connect(url, **_named(options, **SIMPLE)))


SERVERS = {
    "simplews-serve": simplews_serve,
    "simplews-sock": simplews_sock,
    "simplews-stream": simplews_stream,
    "simplews-aiohttp": simplews_aiohttp,
    "simplews-asgi": simplews_asgi,
    "websockets": websockets_server,
    "aiohttp": aiohttp_server,
    "picows-websockets": picows_websockets_server,
    "picows": picows_server,
    "uvicorn-wsproto": uvicorn_wsproto,
    "uvicorn-sansio": uvicorn_sansio,
    "simple-websocket": simple_websocket_server,
}

CLIENTS = {
    "simplews-client": simplews_client,
    "websockets-client": websockets_client,
    "aiohttp-client": aiohttp_client,
    "picows-websockets-client": picows_websockets_client,
    "simple-websocket-client": simple_websocket_client,
}
