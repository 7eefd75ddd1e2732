"""The same vocabulary over connections that no ASGI server carries (C1, SPEC "WebSocket")."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from decimal import Decimal
from typing import Any

import pytest

from simplews import AioClient, AioServer, ConnectionClosed, HandshakeRequest, Headers, serve
from simplews.errors import UnexpectedMessage, WebSocketDisconnect, WebSocketRuntimeError
from simplews.websocket import WebSocket, WebSocketState

from ..peer import CLOSE, TEXT, opened, settled, until
from ..tls import Tls

Handler = Callable[[WebSocket], Awaitable[None]]


@contextlib.asynccontextmanager
async def serving(
    handler: Handler, ssl: Any = None, **options: Any
) -> AsyncIterator[Callable[..., Any]]:
    """serve() with a handler for WebSocket; gives a function that dials it."""

    async def run(connection: AioServer) -> None:
        await handler(WebSocket.from_connection(connection))

    async with serve(run, "127.0.0.1", 0, ssl=ssl.server if ssl else None, **options) as server:
        scheme, context = ("wss", ssl.client) if ssl else ("ws", None)

        def dial(target: str = "/", **args: Any) -> Any:
            url = f"{scheme}://localhost:{server.port}{target}"
            return AioClient.connect(url, ssl_context=context, **args)

        yield dial


async def test_handler_written_for_asgi_runs_as_it_is() -> None:
    """accept(), the loop, close(): nothing has to be changed."""

    async def handler(ws: WebSocket) -> None:
        await ws.accept()
        async for message in ws:
            await ws.send_text(f"You said: {message}")
        await ws.close()

    async with serving(handler) as dial, await dial() as client:
        await client.send("a")
        await client.send("b")
        assert await client.receive() == "You said: a"
        assert await client.receive() == "You said: b"


async def test_every_kind_of_message() -> None:
    """Text, bytes, JSON and typed text, both ways."""

    async def handler(ws: WebSocket) -> None:
        await ws.send_text(await ws.receive_text())
        await ws.send_bytes(await ws.receive_bytes())
        await ws.send_json(await ws.receive_json())
        await ws.send_json(await ws.receive_json("binary"), "binary")
        await ws.send_typed(await ws.receive_typed())
        with pytest.raises(UnexpectedMessage) as caught:
            await ws.receive_text()
        await ws.send_bytes(caught.value.message)  # type: ignore[arg-type]

    async with serving(handler) as dial, await dial() as client:
        messages = ["", b"", "[1]", b"[2]", '{"a":"1.0::D"}::TYTX', b"\xff"]
        for message in messages:
            await client.send(message)
        assert [await client.receive() for _ in messages] == messages


async def test_it_is_connected_from_the_start() -> None:
    """Both states; and the raw messages go on from there."""
    async with opened() as (connection, peer):
        ws = WebSocket.from_connection(connection)
        assert ws.client_state is ws.application_state is WebSocketState.CONNECTED
        assert ws.connected
        await ws.send({"type": "websocket.send", "text": "a"})
        assert await peer.frame() == (TEXT, b"a")
        await peer.send(TEXT, "b")
        assert await ws.receive() == {"type": "websocket.receive", "text": "b"}
        with pytest.raises(WebSocketRuntimeError):
            await ws.send({"type": "websocket.accept"})


async def test_scope_of_a_server(tls: Tls) -> None:
    """What an ASGI server would say of the same request."""
    seen: list[WebSocket] = []

    async def handler(ws: WebSocket) -> None:
        seen.append(ws)
        async for _ in ws:
            pass

    options: Any = {"subprotocols": ["b"], "headers": {"X-Name": "ü", "Cookie": "a=1"}}
    for ssl, scheme in [(None, "ws"), (tls, "wss")]:
        async with serving(handler, ssl, subprotocols=["a", "b"]) as dial:
            async with await dial("/a%20b?c=%C3%BC", **options) as client:
                await until(lambda: seen)
                port = client.remote_address[1]
                ws = seen.pop()
                assert ws.url == f"{scheme}://localhost:{port}/a%20b?c=%C3%BC"
                assert (ws.path, ws.query_params["c"], ws.scheme) == ("/a b", "ü", scheme)
                assert (ws.headers["x-name"], ws.cookies["a"]) == ("ü", "1")
                assert (ws.subprotocols, ws.subprotocol) == (("b",), "b")
                assert ws.client == client.local_address[:2]
                assert ws.scope["server"] == client.remote_address[:2]
                assert ws.scope["raw_path"] == b"/a%20b"
                assert dict(ws.state) == {}


async def test_scope_of_a_client() -> None:
    """It is the same request, seen from the other end."""

    async def handler(ws: WebSocket) -> None:
        assert await ws.receive_text() == "a"
        await ws.send_typed({"a": Decimal(1)})

    async with serving(handler) as dial:
        connection = await dial("/chat?a=1", headers={"X-Name": "x"})
        async with WebSocket.from_connection(connection) as ws:
            assert ws.url == f"{connection.url}"
            assert ws.headers["x-name"] == "x"
            assert ws.client == connection.local_address[:2]
            await ws.send_text("a")
            assert await ws.receive_typed() == {"a": Decimal(1)}


async def test_scope_on_a_unix_socket_has_no_addresses() -> None:
    """A path, or nothing, is no (host, port)."""
    async with opened() as (connection, _):  # a socket pair
        ws = WebSocket.from_connection(connection)
        assert (ws.client, ws.scope["server"]) == (None, None)
        assert ws.url == "ws://localhost/"


async def test_a_connection_that_is_not_open() -> None:
    """There is nothing to speak over yet."""
    connection = AioServer(HandshakeRequest("x", "/", Headers()))
    with pytest.raises(WebSocketRuntimeError, match="CONNECTING"):
        WebSocket.from_connection(connection)


# ---------------------------------------------------------------------- accept


async def test_accept_asks_for_what_is_there_already() -> None:
    """A subprotocol that was chosen may be named; once, as everywhere."""

    async def handler(ws: WebSocket) -> None:
        async for _ in ws:
            pass

    async with serving(handler, subprotocols=["a", "b"]) as dial:
        connection = await dial(subprotocols=["a", "b"])
        async with WebSocket.from_connection(connection) as ws:
            with pytest.raises(WebSocketRuntimeError, match=r"subprotocol 'a', not 'b'"):
                await ws.accept("b")
            with pytest.raises(ValueError, match="did not offer"):
                await ws.accept("c")
            with pytest.raises(WebSocketRuntimeError, match="header fields cannot be added"):
                await ws.accept(headers={"a": "b"})
            await ws.accept("a")
            with pytest.raises(WebSocketRuntimeError, match=r"cannot accept: .* CONNECTED"):
                await ws.accept()


async def test_accept_after_close() -> None:
    """The end stays the end."""
    async with opened() as (connection, peer):
        ws = WebSocket.from_connection(connection)
        closing = asyncio.ensure_future(ws.close())
        await peer.frame()
        await peer.send_close(1000)
        await closing
        with pytest.raises(WebSocketRuntimeError, match="DISCONNECTED"):
            await ws.accept()


@pytest.mark.parametrize("visible", [False, True])
async def test_reject_closes(visible: bool) -> None:
    """The connection is open, so code and reason arrive."""

    async def handler(ws: WebSocket) -> None:
        await ws.reject(4001, "no token", visible=visible)

    async with serving(handler) as dial, await dial() as client:
        with pytest.raises(ConnectionClosed) as caught:
            await client.receive()
        assert (caught.value.code, caught.value.reason) == (4001, "no token")


async def test_reject_after_accept() -> None:
    """Too late, as everywhere."""
    async with opened() as (connection, _):
        ws = WebSocket.from_connection(connection)
        await ws.accept()
        with pytest.raises(WebSocketRuntimeError, match="cannot reject"):
            await ws.reject()


# --------------------------------------------------------------------- the end


async def test_close() -> None:
    """Code and reason go out."""
    async with opened() as (connection, peer):
        ws = WebSocket.from_connection(connection)
        closing = asyncio.ensure_future(ws.close(4000, "bye"))
        assert await peer.frame() == (CLOSE, b"\x0f\xa0bye")
        await peer.send_close(4000)
        await closing
        await ws.close()
        assert connection.close_code == 4000
        with pytest.raises(WebSocketRuntimeError):
            await ws.send_text("a")


async def test_peers_close_is_a_disconnect_with_code_and_reason() -> None:
    """Messages that came before it are still read."""
    async with opened() as (connection, peer):
        ws = WebSocket.from_connection(connection)
        await peer.send(TEXT, "a")
        await peer.send_close(4000, "bye")
        await connection.wait_closed()
        assert await ws.receive_text() == "a"
        with pytest.raises(WebSocketDisconnect) as caught:
            await ws.receive_text()
        assert (caught.value.code, caught.value.reason) == (4000, "bye")


async def test_loss_is_1006() -> None:
    """For a reader that waits."""
    async with opened(tcp=True) as (connection, peer):
        ws = WebSocket.from_connection(connection)
        reading = asyncio.ensure_future(ws.receive())
        await settled()
        peer.reset()
        message = await reading
        assert (message["type"], message["code"]) == ("websocket.disconnect", 1006)


async def test_sending_to_a_peer_that_has_closed() -> None:
    """The connection's own error, a WebSocketDisconnect that knows both halves."""
    async with opened() as (connection, peer):
        ws = WebSocket.from_connection(connection)
        await peer.send_close(4000, "bye")
        await connection.wait_closed()
        with pytest.raises(WebSocketDisconnect) as caught:
            await ws.send_text("a")
        assert isinstance(caught.value, ConnectionClosed) and caught.value.received is not None
        assert (caught.value.code, caught.value.reason) == (4000, "bye")
        assert caught.value.__cause__ is None
        assert ws.connection_state is WebSocketState.DISCONNECTED


async def test_connections_own_timeout_does_not_end_the_wait() -> None:
    """ASGI's receive() has none."""
    async with opened(receive_timeout=1) as (connection, peer):
        ws = WebSocket.from_connection(connection)
        reading = asyncio.ensure_future(ws.receive_text())
        await asyncio.sleep(5)  # of the test's clock
        await peer.send(TEXT, "a")
        assert await reading == "a"


# --------------------------------------------------------------------- cleanups


async def test_cleanups_run_though_nobody_reads() -> None:
    """Here the end is known; under ASGI only a reader is told."""
    ran: list[int] = []
    async with opened() as (connection, peer):
        ws = WebSocket.from_connection(connection)
        ws.add_cleanup(lambda: ran.append(1))
        await peer.send_close(1000)
        await connection.wait_closed()
        assert ran == [1]
        await ws.close()
        ws.add_cleanup(lambda: ran.append(2))
        await until(lambda: ran == [1, 2])


async def test_cleanups_run_once_when_it_closes() -> None:
    """Ours and the connection's; one that closes again does not wait for itself."""
    ran: list[str] = []
    async with opened() as (connection, peer):
        ws = WebSocket.from_connection(connection)
        ws.add_cleanup(lambda: ran.append("ours"))
        ws.add_cleanup(ws.close)
        ws.add_cleanup(connection.close)
        connection.add_cleanup(lambda: ran.append("connection's"))
        closing = asyncio.ensure_future(ws.close())
        await peer.frame()
        await peer.send_close(1000)
        await closing
    assert sorted(ran) == ["connection's", "ours"]
