"""
The tables of docs/explanation/errors.md: every row is made to happen.

A row is keyed by its first cell. The function that is registered under that text
does what the cell says, and what a person then sees must be what the other cells
say. So a message that changes, a row without a function, and a function without
a row all fail here.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import datetime
import functools
import gc
import hashlib
import http.server
import logging
import os
import re
import socket
import ssl
import sys
import threading
import warnings
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any, NoReturn

import aiohttp.web
import pytest
import trustme
from starlette.requests import Request as StarletteRequest
from starlette.websockets import WebSocket as StarletteWebSocket

from simplews import (
    AioClient,
    AioServer,
    ConnectionClosed,
    Deflate,
    NotInScope,
    Server,
    WebSocket,
    WebSocketDisconnect,
    serve,
)
from simplews.auth import bearer_token

from . import hosts
from .websocket.channel import CONNECT, Channel, accepted, disconnect, text

PAGE = Path(__file__).parents[1] / "docs" / "explanation" / "errors.md"

#: Seconds for a row; a generous bound, not a measure.
DEADLINE = 20


# ------------------------------------------------------------------ the document

_ROW = re.compile(r"\| (?P<what>.+?) \| `(?P<kind>[^`]+)` \| `(?P<message>[^`]+)` \|")


def documented() -> list[tuple[str, str, str]]:
    """What is done, what one gets, and its message, of every row."""
    lines = PAGE.read_text(encoding="utf-8").splitlines()
    found = [_ROW.fullmatch(line) for line in lines]
    return [(row["what"], row["kind"], row["message"]) for row in found if row is not None]


def normal(message: str) -> str:
    """
    A message without what differs from run to run and from system to system.

    The page shows a message as it looks on Linux, with ports of its own choice.
    """
    message = re.sub(r"(localhost|127\.0\.0\.1):\d+", r"\1:PORT", message)
    message = re.sub(r"(?<='127\.0\.0\.1', )\d+", "PORT", message)
    message = re.sub(r"\[errno -?\d+\] ", "", message, flags=re.IGNORECASE)
    message = message.replace("Request-URI Too Long", "URI Too Long")  # before Python 3.13
    return re.sub(r"(?<=was not found: ).*", "WHAT THE SYSTEM SAYS", message)


# ----------------------------------------------------------------------- the kit


class Scene:
    """What a row needs; all of it ends with the row."""

    def __init__(self, stack: contextlib.AsyncExitStack, caplog: pytest.LogCaptureFixture) -> None:
        self._stack = stack
        self._caplog = caplog

    def logged(self) -> logging.LogRecord:
        """The one line of the log that is a warning or worse."""
        (record,) = [r for r in self._caplog.records if r.levelno >= logging.WARNING]
        return record

    @contextlib.contextmanager
    def log_at(self, level: int) -> Iterator[list[logging.LogRecord]]:
        """The lines of ours that come meanwhile, from *level* up."""
        records: list[logging.LogRecord] = []
        before = len(self._caplog.records)
        with self._caplog.at_level(level, "simplews"):
            yield records
        records += [r for r in self._caplog.records[before:] if r.name.startswith("simplews")]

    def defer(self, function: Callable[[], object]) -> None:
        """Call *function* at the end."""
        self._stack.callback(function)

    async def serve(self, handler: Any = None, **options: Any) -> str:
        """A server of ours; its URL."""
        server = await self._stack.enter_async_context(
            serve(handler or echo, "127.0.0.1", 0, **options)
        )
        return f"ws{'s' if options.get('ssl') else ''}://localhost:{server.port}/"

    async def connect(self, url: str, **options: Any) -> AioClient:
        """A client of ours."""
        ws = await AioClient.connect(url, **options)
        self._stack.callback(ws.abort)
        return ws

    async def open(self, **options: Any) -> AioClient:
        """A client of ours, on a server that sends every message back."""
        return await self.connect(await self.serve(), **options)

    async def pair(self, ours: dict[str, Any] | None = None) -> tuple[AioServer, AioClient]:
        """Both ends; *ours* are the server's options."""
        opened, handler = keeper()
        client = await self.connect(await self.serve(handler, **(ours or {})))
        return await opened, client

    async def raw_server(self, answer: bytes, *, leave: bool = True) -> str:
        """A server that sends *answer* to everybody who has sent a request; its URL."""

        async def serve_one(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.readuntil(b"\r\n\r\n")
            writer.write(answer)
            if not leave:
                await reader.read()
            writer.close()

        return await self.listen(serve_one)

    async def listen(self, serve_one: Any, **options: Any) -> str:
        """A server of asyncio's streams; its URL."""
        tasks: dict[asyncio.Task[None], asyncio.StreamWriter] = {}

        def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            tasks[asyncio.ensure_future(serve_one(reader, writer))] = writer

        async def end() -> None:
            server.close()
            for writer in tasks.values():
                writer.close()
            await asyncio.gather(*tasks)

        server = await asyncio.start_server(connected, "127.0.0.1", 0, **options)
        self._stack.push_async_callback(end)
        return f"ws://localhost:{server.sockets[0].getsockname()[1]}/"

    async def with_stranger(
        self, **options: Any
    ) -> tuple[AioServer, asyncio.StreamReader, asyncio.StreamWriter]:
        """Our server's end, and a client that does nothing by itself but the handshake."""
        opened, handler = keeper()
        reader, writer = await self.dial(await self.serve(handler, **options))
        writer.write(request())
        await reader.readuntil(b"\r\n\r\n")
        ws = await opened
        self._stack.callback(ws.abort)
        return ws, reader, writer

    async def dial(self, url: str) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """TCP to a server of ours."""
        port = int(url.rsplit(":", 1)[1].rstrip("/"))
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        self._stack.callback(writer.close)
        return reader, writer


async def echo(ws: AioServer) -> None:
    async for message in ws:
        await ws.send(message)


def wrong(value: Any) -> Any:
    """*value*, where a type checker would not have it."""
    return value


def keeper() -> tuple[asyncio.Future[AioServer], Any]:
    """A handler that leaves its one connection to the row."""
    opened: asyncio.Future[AioServer] = asyncio.get_running_loop().create_future()

    async def handler(ws: AioServer) -> None:
        opened.set_result(ws)
        await ws.wait_closed()

    return opened, handler


def request(*changes: str, line: str = "GET / HTTP/1.1") -> bytes:
    """A good request; each change is a header line that replaces one, or "-Name"."""
    fields = {
        "Host": "localhost",
        "Connection": "Upgrade",
        "Upgrade": "websocket",
        "Sec-WebSocket-Version": "13",
        "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
    }
    for change in changes:
        name, _, value = change.partition(": ")
        if name.startswith("-"):
            del fields[name[1:]]
        else:
            fields[name] = value
    lines = [line, *(f"{name}: {value}" for name, value in fields.items())]
    return "\r\n".join([*lines, "", ""]).encode()


# ------------------------------------------------------------- rows and the test

Seen = BaseException | warnings.WarningMessage | logging.LogRecord | tuple[str, str] | None
Act = Callable[[Scene], Awaitable[Seen]]

ROWS: dict[str, Act] = {}


def row(what: str) -> Callable[[Act], Act]:
    """Register what happens for the row *what*: it raises, or returns what is seen."""

    def register(act: Act) -> Act:
        assert what not in ROWS, f"two functions for {what!r}"
        ROWS[what] = act
        return act

    return register


def describe(seen: Seen) -> tuple[str, str]:
    """The two cells."""
    if isinstance(seen, BaseException):
        return type(seen).__name__, str(seen) or "(no message)"
    if isinstance(seen, warnings.WarningMessage):
        return seen.category.__name__, str(seen.message)
    if isinstance(seen, logging.LogRecord):
        return f"{seen.levelname} in the log", seen.getMessage()
    assert seen is not None, "nothing happened"
    return seen


@pytest.mark.parametrize("cells", documented(), ids=lambda cells: cells[0])
async def test_what_a_person_sees(
    cells: tuple[str, str, str], caplog: pytest.LogCaptureFixture
) -> None:
    what, kind, message = cells
    assert what in ROWS, "the page has a row that nothing here makes happen"
    async with asyncio.timeout(DEADLINE), contextlib.AsyncExitStack() as stack:
        try:
            seen = await ROWS[what](Scene(stack, caplog))
        except AssertionError as exc:
            if not isinstance(exc, NotInScope):
                raise
            seen = exc
        except Exception as exc:
            seen = exc
    found = describe(seen)
    assert (found[0], normal(found[1])) == (kind, normal(message)), (
        f"the row should be:\n| {what} | `{found[0]}` | `{found[1]}` |"
    )


def test_every_row_is_on_the_page_once() -> None:
    keys = [what for what, _, _ in documented()]
    assert sorted(keys) == sorted(ROWS)


# --------------------------------------------------- opening: the URL and options


def connecting(what: str, url: str = "ws://localhost:8000/", **options: Any) -> None:
    """A row for a `connect()` that fails before anything is sent."""

    @row(what)
    async def act(scene: Scene) -> NoReturn:
        await AioClient.connect(url, **options)
        pytest.fail("it opened")


connecting("the URL is `http://localhost:8000/chat`", "http://localhost:8000/chat")
connecting("the URL is `https://example.org/chat`", "https://example.org/chat")
connecting("the URL is `ftp://example.org/`", "ftp://example.org/")
connecting("the URL is `localhost:8000`", "localhost:8000")
connecting("the URL is `/chat`", "/chat")
connecting("the URL is `ws:///chat`", "ws:///chat")
connecting("the URL is `ws://localhost:port/`", "ws://localhost:port/")
connecting("the URL is `ws://localhost:80800/`", "ws://localhost:80800/")
connecting("the URL is `ws://localhost/a b`", "ws://localhost/a b")
connecting("the URL is `ws://localhost/chat#top`", "ws://localhost/chat#top")
connecting(r'`headers={"X-User": "me\r\nCookie: a=b"}`', headers={"X-User": "me\r\nCookie: a=b"})
connecting('`headers={"X User": "me"}`', headers={"X User": "me"})
connecting('`headers={"X-User": "李"}`', headers={"X-User": "李"})
connecting('`headers={"X-User": 7}`', headers={"X-User": 7})
connecting('`headers={"Upgrade": "websocket"}`', headers={"Upgrade": "websocket"})
connecting('`subprotocols="chat v1"`', subprotocols="chat v1")
connecting('`subprotocols=["chat", "chat"]`', subprotocols=["chat", "chat"])
connecting("`ping_interval=0`", ping_interval=0)
connecting("`open_timeout=-1`", open_timeout=-1)
connecting("`close_timeout=-1`", close_timeout=-1)
connecting("`max_queue=0`", max_queue=0)
connecting("`max_queue=(16, 16)`", max_queue=(16, 16))
connecting("`write_limit=0`", write_limit=0)
connecting("`max_message_size=-1`", max_message_size=-1)
connecting('`compression="gzip"`', compression="gzip")
connecting("`max_redirects=-1`", max_redirects=-1)
connecting("`proxy=False`", proxy=False)
connecting('`proxy="proxy.example:3128"`', proxy="proxy.example:3128")
connecting(
    '`proxy="http://proxy.example:3128"`, and the URL is `ws+unix:/run/chat.sock`',
    "ws+unix:/run/chat.sock",
    proxy="http://proxy.example:3128",
)


@row("`Deflate(window_bits=8)`")
async def _(scene: Scene) -> None:
    Deflate(window_bits=8)


@row("`Deflate(level=10)`")
async def _(scene: Scene) -> None:
    Deflate(level=10)


# ----------------------------------------------------- opening: the network, TLS


def unused_port() -> int:
    """A port on which nothing listens, at least for now."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port: int = sock.getsockname()[1]
    return port


@row("nothing listens there")
async def _(scene: Scene) -> None:
    await AioClient.connect(f"ws://localhost:{unused_port()}/")


@functools.cache
def resolver_answers() -> bool:
    """Whether asking for a name that cannot exist (RFC 6761 §6.4) comes to an end."""

    def ask() -> None:
        with contextlib.suppress(OSError):
            socket.getaddrinfo("nowhere.invalid", 80)

    asking = threading.Thread(target=ask, daemon=True)
    asking.start()
    asking.join(5)
    return not asking.is_alive()


@row("there is no such host")
async def _(scene: Scene) -> None:
    if not resolver_answers():
        pytest.skip("this machine's resolver does not answer for a name that does not exist")
    await AioClient.connect("ws://nowhere.invalid/")


@row("there is no such Unix socket")
async def _(scene: Scene) -> None:
    if not hasattr(socket, "AF_UNIX"):
        pytest.skip("no Unix sockets here")
    await AioClient.connect("ws+unix:/no/such/socket:/chat")


@row("the server accepts TCP and never answers (`open_timeout=0.1`)")
async def _(scene: Scene) -> None:
    url = await scene.raw_server(b"", leave=False)
    await AioClient.connect(url, open_timeout=0.1)


@row("the server hangs up without an answer")
async def _(scene: Scene) -> None:
    await AioClient.connect(await scene.raw_server(b""))


@row("the server is no web server")
async def _(scene: Scene) -> None:
    await AioClient.connect(await scene.raw_server(b"220 mail.example.org ESMTP\r\n\r\n"))


AUTHORITY = trustme.CA()


def certified(authority: trustme.CA = AUTHORITY, name: str = "localhost", **options: Any) -> Any:
    """A context for a server, with a new certificate."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert(name, **options).configure_cert(context)
    return context


def trusting() -> ssl.SSLContext:
    """A context for a client that trusts our authority."""
    context = ssl.create_default_context()
    AUTHORITY.configure_trust(context)
    return context


@row("`wss://`, and the certificate has expired")
async def _(scene: Scene) -> None:
    past = datetime.datetime(2020, 2, 2, tzinfo=datetime.UTC)
    url = await scene.serve(ssl=certified(not_after=past))
    await AioClient.connect(url, ssl_context=trusting())


@row("`wss://`, and nobody you trust has signed the certificate")
async def _(scene: Scene) -> None:
    await AioClient.connect(await scene.serve(ssl=certified(trustme.CA())), ssl_context=trusting())


@row("`wss://`, and the certificate is for another host")
async def _(scene: Scene) -> None:
    url = await scene.serve(ssl=certified(name="elsewhere.example"))
    await AioClient.connect(url, ssl_context=trusting())


@row("`ws://` to a port that speaks TLS")
async def _(scene: Scene) -> None:
    url = await scene.serve(ssl=certified())
    await AioClient.connect(url.replace("wss:", "ws:"))


@row("`ws://` to a port that speaks TLS and says so")
async def _(scene: Scene) -> None:
    # RFC 8446 §6: an alert, fatal, unexpected message; many servers send it.
    await AioClient.connect(await scene.raw_server(b"\x15\x03\x03\x00\x02\x02\x0a"))


@row("`wss://` to a port that does not speak TLS")
async def _(scene: Scene) -> None:
    await AioClient.connect((await scene.serve()).replace("ws:", "wss:"))


@row("`wss://` to a web server that does not speak TLS")
async def _(scene: Scene) -> None:
    async def serve_one(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(65536)
        writer.write(b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n")
        writer.close()

    await AioClient.connect((await scene.listen(serve_one)).replace("ws:", "wss:"))


# ------------------------------------------------------------- opening: a proxy


def through(what: str, answer: bytes, words: str = "", **options: Any) -> None:
    """A row for a proxy that gives *answer* to whoever asks for a tunnel."""

    @row(what)
    async def act(scene: Scene) -> None:
        place = (await scene.raw_server(answer)).removeprefix("ws://").rstrip("/")
        await AioClient.connect("ws://example.org/", proxy=f"http://{words}{place}", **options)


through("the proxy closes the connection", b"")
through("the proxy is no proxy", b"220 mail.example.org ESMTP\r\n\r\n")
through("the proxy wants credentials (407)", b"HTTP/1.1 407 Who are you\r\n\r\n")
through("the proxy knows others (407)", b"HTTP/1.1 407 Who are you\r\n\r\n", "me:word@")
through("the proxy does not go there (403)", b"HTTP/1.1 403 No\r\n\r\n")
through("the proxy cannot reach the server (502)", b"HTTP/1.1 502 Bad Gateway\r\n\r\n")
through("the proxy speaks for the server", b"HTTP/1.1 200 OK\r\n\r\nHTTP/1.1 101")


@row("nothing listens where the proxy should be")
async def _(scene: Scene) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    await AioClient.connect("ws://example.org/", proxy=f"http://localhost:{port}")


@row("the environment names a proxy that is none")
async def _(scene: Scene) -> None:
    os.environ["WS_PROXY"] = "ftp://me:word@proxy.example"
    scene.defer(lambda: os.environ.pop("WS_PROXY"))
    await AioClient.connect("ws://example.org/")


@row("a SOCKS proxy, and python-socks is missing")
async def _(scene: Scene) -> None:
    before = sys.modules.get("python_socks")
    sys.modules["python_socks"] = wrong(None)
    try:
        await AioClient.connect("ws://example.org/", proxy="socks5h://localhost")
    finally:
        del sys.modules["python_socks"]
        if before is not None:
            sys.modules["python_socks"] = before


# ------------------------------------------------------------ opening: the answer


class Pages(http.server.BaseHTTPRequestHandler):
    """A web server that has never heard of WebSockets."""

    def do_GET(self) -> None:
        places = {"/old": "/new", "/circle": "/circle", "/mail": "mailto:me@example.org"}
        status = {"/": 200, "/members": 401, "/nowhere-said": 302}.get(self.path, 404)
        if self.path in places:
            status = 301
        self.send_response(status)
        if self.path in places:
            self.send_header("Location", places[self.path])
        self.send_header("Content-Length", "6")
        self.end_headers()
        self.wfile.write(b"a page")

    def log_message(self, *args: object) -> None:
        """Quiet."""


async def connect_to_pages(path: str, **options: Any) -> NoReturn:
    with http.server.HTTPServer(("127.0.0.1", 0), Pages) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            await AioClient.connect(f"ws://localhost:{server.server_address[1]}{path}", **options)
        finally:
            await asyncio.to_thread(server.shutdown)
            thread.join()
    pytest.fail("it opened")


@row("a web page answers (200)")
async def _(scene: Scene) -> None:
    await connect_to_pages("/")


@row("the path does not exist (404)")
async def _(scene: Scene) -> None:
    await connect_to_pages("/nowhere")


@row("the server redirects (301), and `max_redirects=0`")
async def _(scene: Scene) -> None:
    await connect_to_pages("/old", max_redirects=0)


@row("the server redirects to where nothing is (404)")
async def _(scene: Scene) -> BaseException:
    with pytest.raises(Exception) as caught:
        await connect_to_pages("/old")
    (note,) = caught.value.__notes__
    assert re.fullmatch(r"redirected: ws://localhost:\d+/old → ws://localhost:\d+/new", note)
    return caught.value


@row("the server redirects in a circle")
async def _(scene: Scene) -> None:
    await connect_to_pages("/circle")


@row("the server redirects once more than `max_redirects=`")
async def _(scene: Scene) -> None:
    url = await scene.raw_server(b"HTTP/1.1 302 Found\r\nLocation: further\r\n\r\n")
    url = await scene.raw_server(f"HTTP/1.1 302 Found\r\nLocation: {url}\r\n\r\n".encode())
    await AioClient.connect(url, max_redirects=1)


@row("the server redirects, and does not say where to")
async def _(scene: Scene) -> None:
    await connect_to_pages("/nowhere-said")


@row("the server redirects to what is no WebSocket")
async def _(scene: Scene) -> None:
    await connect_to_pages("/mail")


@row("the server redirects from `wss://` to `ws://`")
async def _(scene: Scene) -> None:
    async def serve_one(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(
            b"HTTP/1.1 301 Moved Permanently\r\nLocation: http://localhost:80/chat\r\n\r\n"
        )
        writer.close()

    url = (await scene.listen(serve_one, ssl=certified())).replace("ws:", "wss:")
    await AioClient.connect(url, ssl_context=trusting())


@row("the server wants credentials (401)")
async def _(scene: Scene) -> None:
    await connect_to_pages("/members")


@row("the server refuses (403, with a body)")
async def _(scene: Scene) -> BaseException:
    url = await scene.serve(origins="https://here.example")
    with pytest.raises(Exception) as caught:
        await AioClient.connect(url, headers={"Origin": "https://elsewhere.example"})
    exc: Any = caught.value
    assert exc.status_code == 403
    assert exc.headers["content-type"] == "text/plain; charset=utf-8"
    assert exc.body == b"403 Forbidden: origin https://elsewhere.example is not allowed\n"
    return exc


def answering(what: str, *fields: str, accept: str | None = None) -> None:
    """A row for a 101 with *fields*, and with a right accept value unless there is another."""

    @row(what)
    async def act(scene: Scene) -> None:
        async def serve_one(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            head = await reader.readuntil(b"\r\n\r\n")
            key = re.search(rb"(?i)sec-websocket-key: (\S+)", head)
            assert key is not None
            # RFC 6455 §4.2.2, item 5.4
            digest = hashlib.sha1(key[1] + b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11").digest()
            lines = [
                "HTTP/1.1 101 Switching Protocols",
                "Connection: Upgrade",
                "Upgrade: websocket",
                f"Sec-WebSocket-Accept: {accept or base64.b64encode(digest).decode()}",
                *fields,
            ]
            writer.write("\r\n".join([*lines, "", ""]).encode())
            await reader.read()
            writer.close()

        url = await scene.listen(serve_one)
        await AioClient.connect(url, subprotocols=["v1"], compression=None)


answering("the server answers another client's key", accept="s3pPLMBiTxaQ9kYGzzhZRbK+xOo=")
answering("the server chooses a subprotocol that was not offered", "Sec-WebSocket-Protocol: v9")
answering(
    "the server compresses, and that was not offered",
    "Sec-WebSocket-Extensions: permessage-deflate",
)


# ---------------------------------------------------------------- a missing await


def unopened(scene: Scene) -> Any:
    """What `connect()` returns, without an ``await``."""
    opening: Any = AioClient.connect("ws://localhost:8000/")
    scene.defer(opening.close)  # or the warning of the last row below comes, too
    return opening


def never_awaited(make: Callable[[], object]) -> warnings.WarningMessage:
    """The warning about a coroutine that *make* makes and nobody awaits."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        make()
        gc.collect()
    (warning,) = [w for w in caught if "never awaited" in str(w.message)]
    return warning


@row("`ws = AioClient.connect(url)`, then `await ws.receive()`")
async def _(scene: Scene) -> None:
    await unopened(scene).receive()


@row('`ws = AioClient.connect(url)`, then `await ws.send("hello")`')
async def _(scene: Scene) -> None:
    await unopened(scene).send("hello")


@row("`ws = AioClient.connect(url)`, then `await ws.close()`")
async def _(scene: Scene) -> None:
    await unopened(scene).close()


@row("`ws = AioClient.connect(url)`, then `async for message in ws`")
async def _(scene: Scene) -> None:
    async for _message in unopened(scene):
        pass


@row("`with AioClient.connect(url) as ws`")
async def _(scene: Scene) -> None:
    with unopened(scene):
        pass


@row("`ws = await AioClient.connect(url, reconnect=True)`")
async def _(scene: Scene) -> None:
    await AioClient.connect("ws://localhost:8000/", reconnect=True)


@row("`AioClient.connect(url)` and nothing else")
async def _(scene: Scene) -> warnings.WarningMessage:
    return never_awaited(lambda: AioClient.connect("ws://localhost:8000/"))


@row("`ws = AioClient(url)`, then `await ws.receive()`")
async def _(scene: Scene) -> None:
    await AioClient("ws://localhost:8000/").receive()


@row('`ws.send("hello")`')
async def _(scene: Scene) -> warnings.WarningMessage:
    ws = await scene.open()
    warning = never_awaited(lambda: ws.send("hello"))
    assert ws.stats.messages_out == 0
    return warning


# --------------------------------------------------------- sending and receiving


def sending(what: str, message: Any, *, begun: bool = False) -> None:
    """A row for a `send()` that fails; *begun*: not before a first fragment is out."""

    @row(what)
    async def act(scene: Scene) -> None:
        ws = await scene.open()
        try:
            await ws.send(message)
        finally:
            assert ws.close_code == (1011 if begun else None)
            assert ws.stats.messages_out == 0


sending("`await ws.send(None)`", None)
sending("`await ws.send({})`", {})
sending("`await ws.send(3.14)`", 3.14)
sending("`await ws.send([1, 2])`", [1, 2])
sending('`await ws.send(["text", b"bytes"])`', ["text", b"bytes"], begun=True)
sending(r'`await ws.send("\ud800")`', "\ud800")


@row('`await ws.send_text(b"bytes")`')
async def _(scene: Scene) -> None:
    await (await scene.open()).send_text(b"bytes")


@row('`await ws.send_bytes("text")`')
async def _(scene: Scene) -> None:
    await (await scene.open()).send_bytes("text")


@row("`await ws.receive_text()`, and the message is binary")
async def _(scene: Scene) -> BaseException:
    ws = await scene.open()
    await ws.send(b"bytes")
    with pytest.raises(TypeError) as caught:
        await ws.receive_text()
    exc: Any = caught.value
    assert exc.message == b"bytes"  # nothing is lost
    return exc


@row("`await ws.receive_text(timeout=0.01)`, and none comes")
async def _(scene: Scene) -> None:
    await (await scene.open()).receive_text(timeout=0.01)


@row('two tasks, "reader" and "main", in `receive()` at once')
async def _(scene: Scene) -> None:
    ws = await scene.open()
    reader = asyncio.create_task(ws.receive(), name="reader")
    await asyncio.sleep(0)
    second = asyncio.create_task(ws.receive(), name="main")
    try:
        await second
    finally:
        assert not reader.done()  # the first goes on waiting
        await ws.send("hello")
        assert await reader == "hello"


@row('`await ws.send("hello")` after `await ws.close()`')
async def _(scene: Scene) -> None:
    ws = await scene.open()
    await ws.close()
    await ws.send("hello")


@row("`await ws.receive()` after the peer has closed")
async def _(scene: Scene) -> None:
    server, client = await scene.pair()
    await server.close(1000, "bye")
    await client.receive()


@row("`await ws.receive()`, and the peer is gone without a Close")
async def _(scene: Scene) -> None:
    server, client = await scene.pair()
    client.abort()
    await server.receive()


@row("`await ws.ping(timeout=0.01)`, and no Pong comes")
async def _(scene: Scene) -> None:
    ws, _, _ = await scene.with_stranger()
    try:
        await ws.ping(timeout=0.01)
    finally:
        assert ws.connected


@row("the peer does not answer the keepalive (`ping_interval=0.1`)")
async def _(scene: Scene) -> None:
    ws, _, _ = await scene.with_stranger(ping_interval=0.1)
    await ws.receive()


# -------------------------------------------------------------------- closing


def closing(what: str, *arguments: Any) -> None:
    """A row for a `close()` that fails; the connection is as before."""

    @row(what)
    async def act(scene: Scene) -> None:
        ws = await scene.open()
        try:
            await ws.close(*arguments)
        finally:
            assert ws.connected


closing("`await ws.close(1005)`", 1005)
closing("`await ws.close(999)`", 999)
closing('`await ws.close(1000, "x" * 124)`', 1000, "x" * 124)
closing("`await ws.close(1000, 1001)`", 1000, 1001)
closing('`await ws.close(1000, b"bye")`', 1000, b"bye")


# ------------------------------------------------------------- what a peer may do


@row("you send 1001 bytes to a peer that takes 1000: your end")
async def _(scene: Scene) -> None:
    _, client = await scene.pair({"max_message_size": 1000})
    await client.send("x" * 1001, compress=False)
    await client.receive()


@row("a peer sends 1001 bytes, and you take 1000: your end")
async def _(scene: Scene) -> None:
    server, client = await scene.pair({"max_message_size": 1000})
    await client.send("x" * 1001, compress=False)
    await server.receive()


@row("a peer's small compressed message is large: your end")
async def _(scene: Scene) -> None:
    server, client = await scene.pair({"max_message_size": 1000})
    await client.send("x" * 1001, compress=True)
    await server.receive()


def frame(first: int, payload: bytes, *, masked: bool = True) -> bytes:
    """A short frame as a client sends it, with a mask of zeros, or wrongly without one."""
    if masked:
        return bytes((first, 0x80 | len(payload))) + bytes(4) + payload
    return bytes((first, len(payload))) + payload


def breaking(what: str, data: bytes) -> None:
    """A row for a stranger who sends *data*; it is told the same, in a Close."""

    @row(what)
    async def act(scene: Scene) -> BaseException:
        ws, reader, writer = await scene.with_stranger()
        writer.write(data)
        with pytest.raises(ConnectionClosed) as caught:
            await ws.receive()
        sent = caught.value.sent
        assert sent is not None
        payload = sent.code.to_bytes(2, "big") + sent.reason.encode()
        assert await reader.read() == bytes((0x88, len(payload))) + payload
        return caught.value


breaking("a peer's text is not UTF-8", frame(0x81, b"Gr\xfc\xdfe"))
breaking("a client does not mask", frame(0x81, b"hello", masked=False))
breaking("a peer sets a reserved bit", frame(0xA1, b"hello"))
breaking("a peer sends an opcode that does not exist", frame(0x83, b"hello"))
breaking("a peer goes on with a message that it has not begun", frame(0x80, b"hello"))
breaking("a peer sends a Ping of 126 bytes", bytes((0x89, 0xFE, 0, 126)) + bytes(4 + 126))
breaking("a peer closes with 1005", frame(0x88, (1005).to_bytes(2, "big")))


# ------------------------------------------------------------------- as a server


@row("`serve()` on a port that is taken")
async def _(scene: Scene) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        async with serve(echo, "127.0.0.1", taken.getsockname()[1]):
            pass


def serving(what: str, handler: Any = echo, **options: Any) -> None:
    """A row for a `serve()` that fails at once."""

    @row(what)
    async def act(scene: Scene) -> None:
        serve(handler, **options)


serving("`serve(None)`", None)
serving('`serve({"chat": handler})`', {"chat": echo})
serving(r'`serve(handler, extra_headers={"Server": "a\nb"})`', extra_headers={"Server": "a\nb"})
serving("`serve(handler, ping_interval=-5)`", ping_interval=-5)


@row("`lifespan=` is an async function that yields, and is not decorated: the start")
async def _(scene: Scene) -> None:
    async def lifespan(server: Server) -> AsyncIterator[None]:
        yield

    wrong: Any = lifespan
    await serve(echo, "127.0.0.1", lifespan=wrong).start()


async def boom(ws: AioServer) -> None:
    raise LookupError("no such room")


@row("the handler raises: the client's end")
async def _(scene: Scene) -> None:
    await (await scene.connect(await scene.serve(boom))).receive()


@row("the handler raises: the server's log, with the traceback")
async def _(scene: Scene) -> logging.LogRecord:
    ws = await scene.connect(await scene.serve(boom))
    await ws.wait_closed()
    record = scene.logged()
    assert record.name == "simplews.server"
    text = logging.Formatter().format(record)
    assert "Traceback (most recent call last)" in text
    assert 'raise LookupError("no such room")' in text
    return record


@row("the handler is no coroutine function: the server's log, behind the traceback")
async def _(scene: Scene) -> BaseException:
    def handler(ws: AioServer) -> None:
        """Without async."""

    ws = await scene.connect(await scene.serve(handler))
    await ws.wait_closed()
    record = scene.logged()
    assert record.exc_info is not None
    exc = record.exc_info[1]
    assert exc is not None
    assert handler.__qualname__ in str(exc)
    return type(exc)(re.sub(r"<function .*>", "<function handler>", str(exc)))


@row("`AioServer.accept()` without a source")
async def _(scene: Scene) -> None:
    await AioServer.accept()


@row("`AioServer.accept(sock=sock, stream=stream)`")
async def _(scene: Scene) -> None:
    sock: Any = object()
    await AioServer.accept(sock=sock, stream=sock)


@row("`AioServer.accept(stream=stream, headers=headers)`")
async def _(scene: Scene) -> None:
    stream: Any = object()
    await AioServer.accept(stream=stream, headers={})


@row("`AioServer.accept(sock=sock)` with a socket of the `ssl` module")
async def _(scene: Scene) -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        wrapped = certified().wrap_socket(ours, server_side=True, do_handshake_on_connect=False)
        with wrapped:
            await AioServer.accept(sock=wrapped)


@row("`AioServer.accept(sock=sock)` with a UDP socket")
async def _(scene: Scene) -> BaseException:
    with socket.socket(type=socket.SOCK_DGRAM) as sock:
        with pytest.raises(TypeError) as caught:
            await AioServer.accept(sock=sock)
        return TypeError(str(caught.value).replace(repr(sock), "<socket.socket ...>"))


async def accepting(data: bytes, **options: Any) -> None:
    """`accept()` a socket at whose other end somebody has sent *data* and left."""
    ours, theirs = socket.socketpair()
    theirs.sendall(data)
    theirs.shutdown(socket.SHUT_WR)
    with theirs:
        await AioServer.accept(sock=ours, **options)
    pytest.fail("it opened")


@row("`AioServer.accept(sock=sock)`, and the client leaves")
async def _(scene: Scene) -> None:
    await accepting(b"")


@row("`AioServer.accept(sock=sock)`, and the client speaks TLS")
async def _(scene: Scene) -> None:
    await accepting(b"\x16\x03\x01\x02\x00")


@row("`AioServer.accept(sock=sock)`, and a browser asks for a page")
async def _(scene: Scene) -> None:
    await accepting(request("-Upgrade"))


@row("`choose_subprotocol()` returns one that was not offered")
async def _(scene: Scene) -> None:
    class Stubborn(AioServer):
        def choose_subprotocol(self, request: object) -> str:
            return "v9"

    ours, theirs = socket.socketpair()
    with theirs:
        theirs.sendall(request("Sec-WebSocket-Protocol: v1, v2"))
        await Stubborn.accept(sock=ours)


# ---------------------------------------------------------------- inside aiohttp


async def inside_aiohttp(handler: Callable[[Any], Awaitable[Any]], connect: bool = True) -> None:
    """What *handler* raises when a client, or a browser, asks aiohttp for its page."""
    raised: list[BaseException] = []

    async def handle(request: Any) -> Any:
        try:
            return await handler(request)
        except Exception as exc:
            raised.append(exc)
            return aiohttp.web.Response(status=500)

    async with hosts.aiohttp_host(handle) as port:
        if connect:
            with contextlib.suppress(OSError, ConnectionClosed):
                async with AioClient.connect(f"ws://localhost:{port}/") as ws:
                    await ws.receive()
        else:
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
            await reader.read()
            writer.close()
    (exc,) = raised
    raise exc


@row("`AioServer.accept(aiohttp=websocket)` with a WebSocket of Starlette or FastAPI")
async def _(scene: Scene) -> None:
    channel = Channel(CONNECT)
    scope = {"type": "websocket"}
    await AioServer.accept(aiohttp=StarletteWebSocket(scope, channel.receive, channel.send))


@row("`AioServer.accept(aiohttp=request)` a second time")
async def _(scene: Scene) -> None:
    async def handler(request: Any) -> None:
        ws = await AioServer.accept(aiohttp=request)
        try:
            await AioServer.accept(aiohttp=request)
        finally:
            assert ws.connected

    await inside_aiohttp(handler)


@row("`AioServer.accept(aiohttp=request)` after `WebSocketResponse.prepare(request)`")
async def _(scene: Scene) -> None:
    async def handler(request: Any) -> None:
        await aiohttp.web.WebSocketResponse().prepare(request)
        await AioServer.accept(aiohttp=request)

    await inside_aiohttp(handler)


@row("`AioServer.accept(aiohttp=request)`, and a browser asks for a page")
async def _(scene: Scene) -> None:
    async def handler(request: Any) -> None:
        await AioServer.accept(aiohttp=request)

    await inside_aiohttp(handler, connect=False)


@row('`ws = AioServer.accept(aiohttp=request)`, then `await ws.send("hello")`')
async def _(scene: Scene) -> None:
    async def handler(request: Any) -> None:
        opening: Any = AioServer.accept(aiohttp=request)
        scene.defer(opening.close)
        await opening.send("hello")

    await inside_aiohttp(handler)


# ------------------------------------------------------------------- under ASGI


@row("`AioServer.accept(asgi=scope)`")
async def _(scene: Scene) -> None:
    await AioServer.accept(asgi={"type": "websocket"})


@row("`AioServer.accept(asgi=request)` with a request of HTTP")
async def _(scene: Scene) -> None:
    await AioServer.accept(asgi=StarletteRequest({"type": "http"}))


@row("`AioServer.accept(asgi=(scope, receive, send))`, and the scope is of HTTP")
async def _(scene: Scene) -> None:
    channel = Channel()
    await AioServer.accept(asgi=({"type": "http"}, channel.receive, channel.send))


@row("`AioServer.accept(asgi=ws)` with a WebSocket that has been closed")
async def _(scene: Scene) -> None:
    ws, _channel = await accepted()
    await ws.close()
    await AioServer.accept(asgi=ws)


@row("`AioServer.accept(asgi=ws)`, and the client has left")
async def _(scene: Scene) -> None:
    channel = Channel(disconnect())
    await AioServer.accept(asgi=({"type": "websocket"}, channel.receive, channel.send))


@row("`AioServer.accept(asgi=ws, headers=headers)`")
async def _(scene: Scene) -> None:
    await AioServer.accept(asgi=Channel(CONNECT).open(), headers={})


@row("`AioServer.accept(asgi=ws, ping_interval=20)`")
async def _(scene: Scene) -> warnings.WarningMessage:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        async with AioServer.accept(asgi=Channel(CONNECT).open(), ping_interval=20) as ws:
            assert ws.connected
    (warning,) = caught
    assert warning.filename == __file__
    return warning


@row("`await ws.ping()`")
async def _(scene: Scene) -> None:
    async with AioServer.accept(asgi=Channel(CONNECT).open()) as ws:
        try:
            await ws.ping()
        finally:
            assert ws.connected


@row("`AioServer.reject(asgi=ws)` with a WebSocket that has been accepted")
async def _(scene: Scene) -> None:
    ws, _channel = await accepted()
    try:
        await AioServer.reject(asgi=ws)
    finally:
        assert ws.connected


@row("`AioServer.reject(asgi=ws, status=99)`")
async def _(scene: Scene) -> None:
    channel = Channel(CONNECT)
    try:
        await AioServer.reject(asgi=channel.open(), status=99)
    finally:
        assert channel.sent == []


# ---------------------------------------------------------------- with WebSocket


@row("`WebSocket(scope, receive, send)` with a scope of HTTP")
async def _(scene: Scene) -> None:
    channel = Channel()
    WebSocket({"type": "http"}, channel.receive, channel.send)


def with_websocket(
    what: str,
    act: Callable[[WebSocket], Awaitable[object]],
    *events: dict[str, Any],
    accept: bool = True,
    after: Callable[[WebSocket], Awaitable[object]] | None = None,
    **scope: Any,
) -> None:
    """
    A row for a `WebSocket` on which *act* fails, and sends nothing.

    Args:
        what: The row.
        act: What fails.
        events: What the client does once it is connected.
        accept: Whether it has been accepted before.
        after: What else has been done before.
        scope: Of the connection.
    """

    @row(what)
    async def run(scene: Scene) -> None:
        channel = Channel(CONNECT, *events)
        ws = channel.open(**scope)
        if accept:
            await ws.accept()
        if after is not None:
            with contextlib.suppress(WebSocketDisconnect):
                await after(ws)
        sent = len(channel.sent)
        try:
            await act(ws)
        finally:
            assert len(channel.sent) == sent


async def _url_for(ws: WebSocket) -> object:
    return ws.url_for("chat")


async def _session(ws: WebSocket) -> object:
    return ws.session


async def _user(ws: WebSocket) -> object:
    return ws.user


async def _room(ws: WebSocket) -> object:
    return ws.state.room


BYE = disconnect(1001, "bye")
OFFERS = {"subprotocols": ["v1", "v2"]}

with_websocket(
    "`await ws.receive_text()` before `await ws.accept()`",
    lambda ws: ws.receive_text(),
    accept=False,
)
with_websocket(
    '`await ws.send_text("hello")` before `await ws.accept()`',
    lambda ws: ws.send_text("hello"),
    accept=False,
)
with_websocket("`await ws.accept()` a second time", lambda ws: ws.accept())
with_websocket(
    '`await ws.accept("v9")`, and the client offers v1 and v2',
    lambda ws: ws.accept("v9"),
    accept=False,
    **OFFERS,
)
with_websocket(
    '`await ws.accept("v1")`, and the client offers none',
    lambda ws: ws.accept("v1"),
    accept=False,
)
with_websocket(
    r'`await ws.accept(headers={"X-User": "me\r\nCookie: a=b"})`',
    lambda ws: ws.accept(headers={"X-User": "me\r\nCookie: a=b"}),
    accept=False,
)
with_websocket("`await ws.reject()` after `await ws.accept()`", lambda ws: ws.reject())
with_websocket(
    '`await ws.send_text("hello")` after `await ws.close()`',
    lambda ws: ws.send_text("hello"),
    after=lambda ws: ws.close(),
)
with_websocket(
    "`await ws.receive_text()` after `await ws.close()`",
    lambda ws: ws.receive_text(),
    after=lambda ws: ws.close(),
)
with_websocket(
    "`await ws.receive_text()`, and the client leaves", lambda ws: ws.receive_text(), BYE
)
with_websocket(
    "`await ws.receive_text()` once more after that",
    lambda ws: ws.receive_text(),
    BYE,
    after=lambda ws: ws.receive_text(),
)
with_websocket(
    '`await ws.send_text("hello")` after the client has left',
    lambda ws: ws.send_text("hello"),
    BYE,
    after=lambda ws: ws.receive_text(),
)
with_websocket(
    "`await ws.receive_text()`, and a binary message comes",
    lambda ws: ws.receive_text(),
    {"type": "websocket.receive", "bytes": b"bytes"},
)
with_websocket("`await ws.send_text({})`", lambda ws: ws.send_text(wrong({})))
with_websocket(
    '`await ws.send_bytes("text")` with a `WebSocket`', lambda ws: ws.send_bytes(wrong("text"))
)
with_websocket(
    '`await ws.send_json({}, mode="bytes")`', lambda ws: ws.send_json({}, mode=wrong("bytes"))
)
with_websocket(
    '`await ws.receive_json(mode="bytes")`', lambda ws: ws.receive_json(mode=wrong("bytes"))
)
with_websocket("`await ws.close(1005)` with a `WebSocket`", lambda ws: ws.close(1005))
with_websocket('`ws.url_for("chat")` without a router', _url_for)
with_websocket("`ws.session` without `SessionMiddleware`", _session)
with_websocket("`ws.user` without `AuthenticationMiddleware`", _user)
with_websocket("`ws.state.room`, and nobody has set it", _room)


@row("`WebSocket.from_connection(ws)` with a connection that is not open yet")
async def _(scene: Scene) -> None:
    WebSocket.from_connection(AioClient("ws://localhost:8000/"))


# -------------------------------------------------------------------- typed text

with_websocket(
    '`await ws.send_typed({"price": "100::D"})`', lambda ws: ws.send_typed({"price": "100::D"})
)
with_websocket('`await ws.send_typed({1: "one"})`', lambda ws: ws.send_typed({1: "one"}))
with_websocket('`await ws.send_typed({"ws": ws})`', lambda ws: ws.send_typed({"ws": ws}))
with_websocket('`await ws.send_typed(float("nan"))`', lambda ws: ws.send_typed(float("nan")))
with_websocket('`await ws.send_typed({}, "XML")`', lambda ws: ws.send_typed({}, wrong("XML")))
with_websocket(
    '`await ws.receive_typed()`, and `"x::D"::TYTX` comes',
    lambda ws: ws.receive_typed(),
    text('"x::D"::TYTX'),
)


# ------------------------------------------------------------------------ tokens


@row('`bearer_token("Bearer secret")`')
async def _(scene: Scene) -> None:
    bearer_token(wrong("Bearer secret"))


# --------------------------------------------------------- what a stranger is told


def asking(what: str, data: bytes, **options: Any) -> None:
    """A row for a request that `serve()` answers with HTTP: the status and the body."""

    @row(what)
    async def act(scene: Scene) -> tuple[str, str]:
        url = await scene.serve({"/chat": echo}, **options)
        with scene.log_at(logging.INFO) as records:
            reader, writer = await scene.dial(url)
            writer.write(data)
            head, _, body = (await reader.read()).decode().partition("\r\n\r\n")
        assert [record.name for record in records] == ["simplews.server"]
        return f"HTTP {head.split()[1]}", body.rstrip("\n") or "(no body)"


CHAT = "GET /chat HTTP/1.1"

asking("a request for a page", request("-Upgrade", line=CHAT))
asking("another path", request())
asking("`POST`", request(line="POST /chat HTTP/1.1"))
asking("HTTP/1.0", request(line="GET /chat HTTP/1.0"))
asking("no `Host`", request("-Host", line=CHAT))
asking("`Connection: keep-alive`", request("Connection: keep-alive", line=CHAT))
asking("`Sec-WebSocket-Version: 8`", request("Sec-WebSocket-Version: 8", line=CHAT))
asking("`Sec-WebSocket-Key: secret`", request("Sec-WebSocket-Key: secret", line=CHAT))
asking("a body", request("Content-Length: 5", line=CHAT) + b"hello")
asking("a first line of 20,000 bytes", request(line=f"GET /{'x' * 19986} HTTP/1.1"))
asking("a header line of 10,000 bytes", request(f"Cookie: {'x' * 9992}", line=CHAT))
asking("200 header fields", request(*(f"X-{n}: x" for n in range(195)), line=CHAT))
asking(
    "cookies, from a page of another host",
    request("Origin: https://elsewhere.example", "Cookie: a=b", line=CHAT),
)
asking(
    "an origin that is not among `origins=`",
    request("Origin: https://elsewhere.example", line=CHAT),
    origins="https://here.example",
)
asking("one connection too many (`max_connections=0`)", request(line=CHAT), max_connections=0)
asking("no request in time (`open_timeout=0.1`)", b"GET /chat", open_timeout=0.1)


# ------------------------------------------------------------- what is wrong today


async def test_none_among_fragments_is_refused() -> None:
    """``send(["a", None])`` must not pass for the message "a"."""
    async with serve(echo, "127.0.0.1", 0) as server:
        ws = await AioClient.connect(f"ws://localhost:{server.port}/")
        with pytest.raises(TypeError, match="NoneType"):
            await ws.send(["a", None])


async def test_a_connection_without_a_logger_is_refused() -> None:
    """``logger=None`` must not make the end of the connection fail."""
    with pytest.raises(TypeError, match="logger"):
        AioClient("ws://localhost/", logger=None)
