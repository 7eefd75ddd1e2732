"""simple-websocket's documentation: its examples, signatures and promises (S1 to S28)."""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import re
import socket
import ssl
import warnings
from collections.abc import AsyncIterator
from typing import Any

import pytest
from aiohttp import WSMsgType, web

import simplews
from simplews import (
    AioBase,
    AioClient,
    AioServer,
    ConnectionClosed,
    ConnectTimeout,
    HandshakeRequest,
    MessageType,
    WebSocket,
    serve,
)

from ..clock import ClockLoop
from ..hosts import aiohttp_host, uvicorn_host
from ..peer import BINARY, CLOSE, HEADERS, PING, TEXT, Peer, answer, close_frame, frame, opened
from ..tls import Tls
from .conftest import RunScript
from .quoting import DEADLINE, Script, load, quoted

AIOHTTP = "simple_websocket/aiohttp_integration.py"
CLIENT = "simple_websocket/client_usage.py"
SOCKET = "simple_websocket/custom_socket.py"
MANAGER = "simple_websocket/context_manager.py"


@contextlib.asynccontextmanager
async def tcp_peer(port: int, *, masks: bool = True) -> AsyncIterator[Peer]:
    """A raw client of *port*."""
    with socket.socket() as sock:
        sock.setblocking(False)
        await asyncio.get_running_loop().sock_connect(sock, ("127.0.0.1", port))
        yield Peer(sock, masks=masks)


# ---------------------------------------------------------- aiohttp integration


@contextlib.asynccontextmanager
async def aiohttp_app() -> AsyncIterator[int]:
    """The example's application, in aiohttp's server."""
    # Their access log is not asked for; errors are, see `complaints`.
    runner = web.AppRunner(load(AIOHTTP).app, access_log=None)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        yield runner.addresses[0][1]
    finally:
        await runner.cleanup()


async def test_aiohttp_integration_echoes(capsys: pytest.CaptureFixture[str]) -> None:
    """S2, S16, S19, S20, C14, C47: the loop sees types that equal aiohttp's; it ends quietly."""
    async with aiohttp_app() as port, AioClient.connect(f"ws://127.0.0.1:{port}/ws") as ws:
        for text in ("Hello", "", "grün"):
            await ws.send(text)
            assert await ws.receive() == f"Echo: {text}"
        await ws.send(b"binary is neither TEXT nor ERROR")
        await ws.send("still here")
        assert await ws.receive() == "Echo: still here"
    assert capsys.readouterr().out == ""


async def test_aiohttp_integration_sends_nothing_else() -> None:
    """S20, C47: the handler returns nothing, and aiohttp neither answers again nor complains."""
    async with aiohttp_app() as port, tcp_peer(port) as peer:
        request = "GET /ws HTTP/1.1\r\n" + "".join(f"{k}: {v}\r\n" for k, v in HEADERS.items())
        await peer.write(request.encode() + b"\r\n")
        head = await peer.head()
        assert head.startswith(b"HTTP/1.1 101 ")
        await peer.send(TEXT, "Hello")
        assert await peer.frame() == (TEXT, b"Echo: Hello")
        await peer.send_close(1000, "bye")
        assert await peer.frames() == [(CLOSE, b"\x03\xe8")]


async def test_aiohttp_integration_sees_a_broken_connection(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """S17, S18, S19, C6, C14: ConnectionClosed reaches the clause; close() is quiet then."""
    async with aiohttp_app() as port:
        async with tcp_peer(port) as peer:
            request = "GET /ws HTTP/1.1\r\n" + "".join(f"{k}: {v}\r\n" for k, v in HEADERS.items())
            await peer.write(request.encode() + b"\r\n")
            await peer.head()
            await peer.write(frame(3))  # RFC 6455 §5.2: an opcode that is reserved
            frames = await peer.frames()
            assert frames[0][0] == CLOSE and frames[0][1][:2] == b"\x03\xea"
    assert capsys.readouterr().out == "Client disconnected\n"


def test_message_types_are_those_of_aiohttp() -> None:
    """S16, S17, C14: so ``message.type == WSMsgType.TEXT`` holds, and ERROR has its number."""
    for name in ("CONTINUATION", "TEXT", "BINARY", "PING", "PONG", "CLOSE", "ERROR"):
        assert MessageType[name] == WSMsgType[name]


async def test_exception_tells_how_it_ended() -> None:
    """S17, C14: None while it is open and after a normal end, else what the loop raised."""
    async with opened() as (ws, peer):
        assert ws.exception() is None
        await peer.send_close(1001)
        assert [message async for message in ws] == []
        assert ws.exception() is None
    async with opened() as (ws, peer):
        await peer.send_close(1011, "oh")
        with pytest.raises(ConnectionClosed) as raised:
            async for _ in ws:
                pass
        error = ws.exception()
        assert error is not None and str(error) == str(raised.value)
        assert (error.code, error.reason, error.message) == (1011, "oh", "oh")


# -------------------------------------------------------------- the two clients


async def test_client_usage(script: RunScript, echo_port: int) -> None:
    """S6, S7, S11: both kinds of message, there and back."""
    async with script(CLIENT, echo_port) as client:
        assert await client.end() == (
            "Server response: Hello, Async Server!\nBinary response: b'Binary data'\n"
        )


async def test_client_usage_when_the_server_closes(script: RunScript) -> None:
    """S18, S19, S21: ConnectionClosed is caught, and close() after it does not raise."""

    async def answer_once(ws: AioServer) -> None:
        await ws.send(str(await ws.receive()))
        await ws.receive()

    async with serve(answer_once, "127.0.0.1", 0) as server, script(CLIENT, server.port) as client:
        assert await client.end() == (
            "Server response: Hello, Async Server!\nServer closed connection\n"
        )


async def test_client_usage_without_a_server(script: RunScript) -> None:
    """S21, C10: one clause for a dial that failed. (The example's ``finally`` has no ``ws``.)"""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    async with script(CLIENT, port) as client:
        output = await client.end(status=1)
    assert output.startswith("Failed to connect: ")
    assert "UnboundLocalError" in output.splitlines()[-1]


async def test_context_manager(script: RunScript, echo_port: int) -> None:
    """S24."""
    async with script(MANAGER, echo_port) as client:
        assert await client.end() == "Response: Hello with context manager!\n"


async def test_connections_are_context_managers(echo_port: int) -> None:
    """S24: nobody needs to write one."""
    async with AioClient.connect(f"ws://127.0.0.1:{echo_port}/") as ws:
        assert ws.connected
    assert not ws.connected and ws.close_code == 1000


# -------------------------------------------------------- the custom socket loop


@contextlib.asynccontextmanager
async def visit(port: int) -> AsyncIterator[Peer]:
    """
    A client that speaks first after the handshake.

    It sends no request: the example has made one up, and does not read any. Its
    answer is the one to ``example-key``.
    """
    async with asyncio.timeout(DEADLINE), tcp_peer(port) as peer:
        head = await peer.head()
        expected = answer(b"GET / HTTP/1.1\r\nSec-WebSocket-Key: example-key\r\n\r\n")
        accept = next(line for line in expected.split(b"\r\n") if b"Accept" in line)
        assert head.startswith(b"HTTP/1.1 101 ") and accept in head
        yield peer


#: The example does not tell when it listens; its port is a free one.
TELL = {
    "server_sock.listen(1)": "server_sock.listen(1); print('port', server_sock.getsockname()[1])"
}


async def port_of(server: Script) -> int:
    """Where the example listens, once it does."""
    return int((await server.line("port ")).removeprefix("port "))


async def test_custom_socket(script: RunScript) -> None:
    """S2, S5, S18, C25: a blocking socket, a made-up key, one client after the other."""
    async with script(SOCKET, 0, TELL) as server:
        port = await port_of(server)
        for name in ("Ada", "Bob"):
            async with visit(port) as peer:
                await peer.send(TEXT, name)
                assert await peer.frame() == (TEXT, f"Received: {name}".encode())
                await peer.send(BINARY, b"\x00\xff")
                assert await peer.frame() == (TEXT, b"Received: b'\\x00\\xff'")
                await peer.send_close(1000)
                assert await peer.frames() == [(CLOSE, b"\x03\xe8")]
                address = peer.sock.getsockname()
            assert await server.line() == f"Client {address} disconnected"
        await server.interrupt()


async def test_custom_socket_and_a_client_that_sends_a_request(script: RunScript) -> None:
    """S5, S21, C25: nobody reads that request, so they part; the next client is served."""
    async with script(SOCKET, 0, TELL) as server:
        port = await port_of(server)
        with pytest.raises(simplews.ConnectionError, match="Sec-WebSocket-Accept"):
            await AioClient.connect(f"ws://127.0.0.1:{port}/")
        await server.line("disconnected")
        async with visit(port) as peer:
            await peer.send(TEXT, "Ada")
            assert await peer.frame() == (TEXT, b"Received: Ada")
        await server.line("disconnected")
        await server.interrupt()


async def test_custom_socket_whose_client_is_silent(script: RunScript) -> None:
    """S7, S23, C23: None ends its loop. Its 30 seconds are 0 here."""
    async with script(SOCKET, 0, TELL | {"timeout=30": "timeout=0"}) as server:
        port = await port_of(server)
        for _ in range(2):
            async with visit(port) as peer:
                assert await peer.frame() == (CLOSE, b"\x03\xe8")
                await peer.send_close(1000)
                assert await peer.at_end()
        await server.interrupt()


# --------------------------------------------------------------- the signatures


def documented(cls: str, method: str) -> inspect.Signature:
    """A signature of the documentation."""
    api = load("simple_websocket/api.py", asyncio=asyncio)
    return inspect.signature(getattr(getattr(api, cls), method))


@pytest.mark.parametrize(
    ("cls", "method"),
    [
        ("AioServer", "__init__"),
        ("AioServer", "accept"),
        ("AioClient", "__init__"),
        ("AioClient", "connect"),
    ],
)
def test_signatures_begin_as_documented(cls: str, method: str) -> None:
    """S1, S2, S10, S11: the same names in the same order with the same defaults."""
    promised = list(documented(cls, method).parameters.values())
    ours = inspect.signature(getattr(getattr(simplews, cls), method)).parameters.values()
    positional = [p for p in ours if p.kind is p.POSITIONAL_OR_KEYWORD]
    assert [(p.name, p.default) for p in positional] == [(p.name, p.default) for p in promised]
    # What we add can only be given by name.
    added = {p.kind for p in ours} - {inspect.Parameter.POSITIONAL_OR_KEYWORD}
    assert added <= {inspect.Parameter.KEYWORD_ONLY, inspect.Parameter.VAR_KEYWORD}


@pytest.mark.parametrize("cls", ["AioServer", "AioClient"])
@pytest.mark.parametrize("call", ["send(b'x')", "receive(timeout=None)", "close(1000, 'x')"])
def test_methods_take_what_is_documented(cls: str, call: str) -> None:
    """S6, S7, S8: the calls of the documentation bind; close() takes its pair either way."""
    name, _, arguments = call.partition("(")
    method = getattr(getattr(simplews, cls), name)
    for signature in (documented(cls, name), inspect.signature(method)):
        eval(f"signature.bind(None, {arguments}", {"signature": signature})
    inspect.signature(simplews.AioServer.choose_subprotocol).bind(None, request=None)


def test_attributes_are_documented_ones() -> None:
    """S25: every name of the documented class, and nothing of ours that contradicts it."""
    names = re.findall(r"^    (\w+): ", quoted("simple_websocket/api.py"), re.MULTILINE)
    assert names == [
        *("subprotocol", "connected", "receive_bytes", "ping_interval", "max_message_size"),
        *("rsock", "wsock", "event", "task"),
    ]


def check_attributes(ws: AioBase) -> None:
    """S25's types, whatever carries the connection."""
    assert ws.subprotocol is None or isinstance(ws.subprotocol, str)
    assert ws.connected is True
    assert isinstance(ws.receive_bytes, int)
    assert ws.ping_interval is None or isinstance(ws.ping_interval, (int, float))
    assert ws.max_message_size is None or isinstance(ws.max_message_size, int)
    assert ws.rsock is None or isinstance(ws.rsock, asyncio.StreamReader)
    assert ws.wsock is None or isinstance(ws.wsock, asyncio.StreamWriter)
    assert isinstance(ws.event, asyncio.Event)
    assert ws.task is None or isinstance(ws.task, asyncio.Task)


async def test_attributes_of_a_client_and_of_a_server() -> None:
    """S1, S10, S25, C34: values that were given, defaults that were promised."""
    seen: list[AioServer] = []

    async def keep(ws: AioServer) -> None:
        seen.append(ws)
        check_attributes(ws)
        await ws.send("hello")
        await ws.wait_closed()

    async with serve(keep, "127.0.0.1", 0, subprotocols=["chat"]) as server:
        url = f"ws://127.0.0.1:{server.port}/"
        async with AioClient.connect(url, "chat", None, 512, 30.0, 1000) as ws:
            check_attributes(ws)
            assert (ws.subprotocol, ws.receive_bytes) == ("chat", 512)
            assert (ws.ping_interval, ws.max_message_size) == (30.0, 1000)
            assert ws.rsock is not None and ws.wsock is not None
            await ws.event.wait()
            assert await ws.receive() == "hello"
            assert not ws.event.is_set()
        async with AioClient.connect(url) as ws:
            assert (ws.subprotocol, ws.receive_bytes) == (None, 4096)
            assert (ws.ping_interval, ws.max_message_size) == (None, None)
    assert seen[0].subprotocol == "chat"


async def test_attributes_under_asgi() -> None:
    """S25, C36: no streams there; the event, and a task that reads."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        async with AioServer.accept(asgi=(scope, receive, send)) as ws:
            check_attributes(ws)
            assert (ws.rsock, ws.wsock) == (None, None)
            await ws.send("checked")

    async with uvicorn_host(app) as port, AioClient.connect(f"ws://127.0.0.1:{port}/") as ws:
        assert await ws.receive() == "checked"


async def test_constructors_do_not_connect() -> None:
    """S1, S10: an object that is not open yet."""
    request = HandshakeRequest("localhost", "/", simplews.Headers())
    for ws in (AioServer(request), AioClient("ws://localhost:8000/ws")):
        assert not ws.connected
        with pytest.raises(simplews.WebSocketRuntimeError):
            await ws.send("too early")


# --------------------------------------------------------------- accept's sources


@pytest.mark.parametrize(
    "sources",
    [
        {},
        {"aiohttp": object(), "sock": object()},
        {"aiohttp": object(), "asgi": (1, 2, 3)},
        {"asgi": (1, 2, 3), "sock": object()},
        {"asgi": (1, 2, 3), "headers": {}},
        {"headers": {}},
    ],
)
def test_exactly_one_source(sources: dict[str, Any]) -> None:
    """S3: at once, before anything is awaited; headers go with a socket only."""
    with pytest.raises(ValueError, match=r"exactly one of|headers= is the request of sock="):
        AioServer.accept(**sources)


@pytest.mark.parametrize("lifted", [False, True])
async def test_asgi_source(lifted: bool) -> None:
    """S2, S4, C1: the tuple, or a WebSocket that may have been accepted already."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        source: Any = (scope, receive, send)
        if lifted:
            source = WebSocket(scope, receive, send)
            await source.accept()
        async with AioServer.accept(asgi=source) as ws:
            async for message in ws:
                await ws.send(message)

    async with uvicorn_host(app) as port, AioClient.connect(f"ws://127.0.0.1:{port}/") as ws:
        await ws.send("text")
        await ws.send(b"binary")
        assert [await ws.receive(), await ws.receive()] == ["text", b"binary"]


@pytest.mark.parametrize("blocking", [True, False])
async def test_socket_source_with_headers(blocking: bool) -> None:
    """S5, C25: the request has been read by the caller; the socket may block or not."""
    ours, theirs = socket.socketpair()
    ours.setblocking(blocking)
    with theirs:
        peer = Peer(theirs)
        ws = await AioServer.accept(sock=ours, headers=HEADERS)
        assert b"s3pPLMBiTxaQ9kYGzzhZRbK+xOo=" in await peer.head()
        await peer.send(TEXT, "hi")
        assert await ws.receive() == "hi"
        await peer.send_close(1000)
        await ws.close()


async def test_socket_source_without_headers() -> None:
    """S5, C25: then we read the request."""
    async with opened() as (ws, peer):
        await ws.send("hi")
        assert await peer.frame() == (TEXT, b"hi")


# ----------------------------------------------------- messages, close, subprotocols


async def test_send_takes_text_and_bytes_only() -> None:
    """S6, C24, C46: whatever is bytes-like is binary; the rest is not turned into text."""
    async with opened() as (ws, peer):
        for data in (b"a", bytearray(b"a"), memoryview(b"a")):
            await ws.send(data)
            assert await peer.frame() == (BINARY, b"a")
        await ws.send("a")
        assert await peer.frame() == (TEXT, b"a")
        for wrong in (None, 1, {"a": 1}):
            with pytest.raises(TypeError):
                await ws.send(wrong)


async def test_receive_and_its_timeout() -> None:
    """S7, S22, S23, C23: None when it passed, 0 does not wait; typed readers raise instead."""
    async with opened() as (ws, peer):
        assert await ws.receive(timeout=0) is None
        assert await ws.receive(timeout=0.001) is None
        with pytest.raises(asyncio.TimeoutError):
            await ws.receive_text(timeout=0)
        await peer.send(TEXT, "t")
        await peer.send(BINARY, b"b")
        assert await ws.receive() == "t"
        assert await ws.receive(timeout=None) == b"b"


def test_receive_timeout_of_the_connection() -> None:
    """C22, C23: what counts where the argument is left out. The clock is moved."""

    async def main() -> None:
        async with opened(receive_timeout=60) as (ws, _):
            assert await ws.receive() is None
            assert asyncio.get_running_loop().time() >= began + 60

    with asyncio.Runner(loop_factory=ClockLoop) as runner:
        began = runner.get_loop().time()
        runner.run(main())


@pytest.mark.parametrize(
    ("arguments", "named", "payload"),
    [
        ((), {}, b"\x03\xe8"),
        ((4000, "over"), {}, b"\x0f\xa0over"),
        ((), {"reason": 4000, "message": "over"}, b"\x0f\xa0over"),
        ((), {"reason": 4000}, b"\x0f\xa0"),
        ((), {"message": "over"}, b"\x03\xe8over"),
        ((), {"code": 4000, "reason": "over"}, b"\x0f\xa0over"),
        (("over", 4000), {}, b"\x0f\xa0over"),
    ],
)
async def test_close(arguments: Any, named: Any, payload: bytes) -> None:
    """S8, S19, C4, C6: a number is the code, a text the reason; a second one does nothing."""
    async with opened() as (ws, peer):
        closing = asyncio.ensure_future(ws.close(*arguments, **named))
        assert await peer.frame() == (CLOSE, payload)
        await peer.write(close_frame(1000))
        peer.finish()
        await closing
        await ws.close()
        assert not ws.connected
        with pytest.raises(TypeError):
            await ws.close(1000, 1001)


async def test_client_close_ends_the_socket_too() -> None:
    """S15, C40: TCP is gone when close() returns."""
    async with opened(AioClient) as (ws, peer):
        closing = asyncio.ensure_future(ws.close())
        assert await peer.frame() == (CLOSE, b"\x03\xe8")
        await peer.send_close(1000)
        peer.finish()
        await closing
        assert ws.wsock is not None and ws.wsock.transport.is_closing()
        assert await peer.frames() == []


class Chooses(AioServer):
    """Prefers the last that the client asked for."""

    def choose_subprotocol(self, request: HandshakeRequest) -> str | None:
        return request.subprotocols[-1] if request.subprotocols else None


class ChoosesSlowly(AioServer):
    """The same, as a coroutine."""

    async def choose_subprotocol(self, request: HandshakeRequest) -> str | None:
        await asyncio.sleep(0)
        return request.subprotocols[-1] if request.subprotocols else None


@pytest.mark.parametrize("cls", [Chooses, ChoosesSlowly])
@pytest.mark.parametrize("host", ["aiohttp", "asgi", "stream"])
async def test_choose_subprotocol_may_be_overridden(cls: type[AioServer], host: str) -> None:
    """S9, S12, C35, C37: in every source, with the same request."""

    async def talk(ws: AioServer) -> None:
        assert ws.request.subprotocols in ((), ("a", "b"))
        await ws.send(str(ws.subprotocol))

    async def aiohttp_handler(request: web.Request) -> Any:
        async with cls.accept(aiohttp=request) as ws:
            await talk(ws)
        return ws.response

    async def app(scope: Any, receive: Any, send: Any) -> None:
        async with cls.accept(asgi=(scope, receive, send)) as ws:
            await talk(ws)

    async def streams(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        async with cls.accept(stream=(reader, writer)) as ws:
            await talk(ws)

    async with contextlib.AsyncExitStack() as stack:
        if host == "aiohttp":
            port = await stack.enter_async_context(aiohttp_host(aiohttp_handler))
        elif host == "asgi":
            port = await stack.enter_async_context(uvicorn_host(app))
        else:
            server = await asyncio.start_server(streams, "127.0.0.1", 0)
            await stack.enter_async_context(server)
            port = server.sockets[0].getsockname()[1]
        for offered, chosen in ((["a", "b"], "b"), (None, None)):
            async with AioClient.connect(f"ws://127.0.0.1:{port}/", offered) as ws:
                assert await ws.receive() == str(chosen)
                assert ws.subprotocol == chosen


async def test_default_subprotocol_is_the_clients_first_that_we_speak(echo_port: int) -> None:
    """S2, S9, S12: one name or a list, in order of preference."""

    async def say(ws: AioServer) -> None:
        await ws.send(str(ws.subprotocol))

    async with serve(say, "127.0.0.1", 0, subprotocols=["x", "b", "a"]) as server:
        url = f"ws://127.0.0.1:{server.port}/"
        for offered, chosen in (("a", "a"), (["none", "a", "b"], "a"), (["none"], None)):
            async with AioClient.connect(url, subprotocols=offered) as ws:
                assert ws.subprotocol == chosen


@pytest.mark.parametrize(
    "headers", [{"X-One": "1", "X-Two": "2"}, [("X-One", "1"), ("X-Two", "2"), ("X-One", "3")]]
)
async def test_client_headers(headers: Any) -> None:
    """S13: a dict or pairs."""

    async def say(ws: AioServer) -> None:
        await ws.send(",".join(ws.headers.getlist("x-one")) + ws.headers["x-two"])

    async with serve(say, "127.0.0.1", 0) as server:
        async with AioClient.connect(f"ws://127.0.0.1:{server.port}/", headers=headers) as ws:
            assert await ws.receive() == ("12" if isinstance(headers, dict) else "1,32")


# ------------------------------------------------------------- TLS, liveness, limits


async def test_ssl_context(tls: Tls) -> None:
    """S11, S14: a context of ones own; without it the certificate of a stranger is refused."""

    async def hello(ws: AioServer) -> None:
        await ws.send("secure")

    async with serve(hello, "127.0.0.1", 0, ssl=tls.server) as server:
        url = f"wss://localhost:{server.port}/"
        async with AioClient.connect(url, ssl_context=tls.client) as ws:
            assert await ws.receive() == "secure"
        with pytest.raises(simplews.ConnectionError) as raised:
            await AioClient.connect(url)
        assert isinstance(raised.value.__cause__, ssl.SSLError)


def test_ping_interval_detects_the_unresponsive() -> None:
    """S26, C39: it pings; without a Pong 1011 wakes whoever waits. The clock is moved."""

    async def main(role: type[AioBase]) -> None:
        async with opened(role, ping_interval=25) as (ws, peer):
            waiting = asyncio.ensure_future(ws.receive())
            opcode, _ = await peer.frame() or (None, b"")
            assert opcode == PING
            with pytest.raises(ConnectionClosed) as raised:
                await waiting
            assert raised.value.code == 1011

    for role in (AioServer, AioClient):
        with asyncio.Runner(loop_factory=ClockLoop) as runner:
            runner.run(main(role))


async def test_ping_interval_under_asgi_warns() -> None:
    """S26, C22: the server's business there, as the warning says."""

    async def nothing(*_: Any) -> Any:
        raise AssertionError("never called")

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        opening = AioServer.accept(asgi=({"type": "websocket"}, nothing, nothing), ping_interval=20)
    opening.close()
    assert "ping" in str(caught[0].message)


@pytest.mark.parametrize("role", [AioServer, AioClient])
async def test_max_message_size(role: type[AioBase]) -> None:
    """S27, C38: in bytes; None, the default, is no limit."""
    async with opened(role, max_message_size=10) as (ws, peer):
        await peer.send(TEXT, "x" * 10)
        assert await ws.receive() == "x" * 10
        await peer.send(TEXT, "x" * 11)
        with pytest.raises(ConnectionClosed) as raised:
            await ws.receive()
        assert raised.value.code == 1009
    async with opened(role) as (ws, peer):
        await peer.send(BINARY, bytes(100_000))
        assert await ws.receive() == bytes(100_000)


# ------------------------------------------------------------------- exceptions


def test_exceptions_stand_at_the_top() -> None:
    """S28, C9, C10: and RuntimeError is the base of them all."""
    assert issubclass(simplews.ConnectionError, ConnectionError)
    assert issubclass(simplews.ConnectionError, simplews.WebSocketError)
    assert issubclass(simplews.ConnectionClosed, simplews.WebSocketDisconnect)
    assert issubclass(ConnectTimeout, asyncio.TimeoutError)
    assert issubclass(simplews.WebSocketError, RuntimeError)
    assert {"ConnectionError", "ConnectionClosed"} <= set(simplews.__all__)


@pytest.mark.parametrize("failure", ["refused", "no name", "status", "bad url", "no answer"])
async def test_one_clause_for_every_dial_that_fails(failure: str) -> None:
    """S21, C10."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    urls = {
        "refused": f"ws://127.0.0.1:{port}/",
        "no name": "ws://name.invalid/",
        "bad url": "http://localhost/",
    }
    async with contextlib.AsyncExitStack() as stack:
        if failure in ("status", "no answer"):

            async def refuse(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
                if failure == "status":
                    writer.write(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n")
                writer.close()
                await writer.wait_closed()

            server = await asyncio.start_server(refuse, "127.0.0.1", 0)
            await stack.enter_async_context(server)
            urls[failure] = f"ws://127.0.0.1:{server.sockets[0].getsockname()[1]}/"
        with pytest.raises(simplews.ConnectionError) as raised:
            await AioClient.connect(urls[failure])
        assert raised.value.status_code == (404 if failure == "status" else None)


def test_connect_times_out() -> None:
    """S22, C23: both of the example's clauses would catch it. The clock is moved."""

    async def main() -> None:
        with socket.create_server(("127.0.0.1", 0)) as silent:
            with pytest.raises(ConnectTimeout) as raised:
                await AioClient.connect(f"ws://127.0.0.1:{silent.getsockname()[1]}/")
            assert isinstance(raised.value, simplews.ConnectionError)

    with asyncio.Runner(loop_factory=ClockLoop) as runner:
        runner.run(main())
