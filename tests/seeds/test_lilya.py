"""Lilya's documentation: its examples and promises (L1 to L15)."""

from __future__ import annotations

import json
from typing import Any

import pytest
from lilya.apps import Lilya
from lilya.routing import WebSocketPath
from lilya.websockets import WebSocket as LilyaWebSocket

import simplews
from simplews import (
    URL,
    AioClient,
    ConnectionError,
    WebSocket,
    WebSocketClose,
    WebSocketDisconnect,
    WebSocketRuntimeError,
    WebSocketState,
)

from .conftest import Hosted
from .quoting import await_, load, quoted, source


async def test_hello(hosted: Hosted) -> None:
    """L7: JSON in a binary message, then a close with 1000."""
    async with hosted(load("lilya/hello.py").app) as url, AioClient.connect(url) as ws:
        assert await ws.receive() == b'{"message":"Hello, world!"}'
        await ws.wait_closed()
        assert ws.close_code == 1000


async def test_iter_json_echo(hosted: Hosted) -> None:
    """L7, L8, L9, C6, C44: the loop ends when the client leaves; close() behind it is quiet."""
    async with hosted(load("lilya/iter_json_echo.py").app) as url:
        async with AioClient.connect(url) as ws:
            for value in ("Hello", 7, {"a": "ü"}, None):
                await ws.send_json(value)
                answer = await ws.receive()
                assert isinstance(answer, bytes)
                assert json.loads(answer) == {"message": f"Message text was: {value}"}


SNIPPETS = [
    ("url", ["ws", "/rooms/ada", 8000]),
    ("headers", ["13"]),
    ("query_params", ["chess"]),
    ("path_params", ["ada"]),
]


@pytest.mark.parametrize(("name", "values"), SNIPPETS, ids=[name for name, _ in SNIPPETS])
async def test_snippets(name: str, values: list[Any], hosted: Hosted) -> None:
    """L2, L3, L4: inside a route of Lilya; each line that is only an expression has this value."""
    seen: list[Any] = []
    name = f"lilya/{name}.py"
    text = source(name)
    lines = [line for line in quoted(name).splitlines() if line.startswith("websocket.")]
    for line in lines:
        # What the page only mentions, the test looks at.
        text = text.replace(f"\n{line}\n", f"\nseen.append({line})\n")

    async def endpoint(theirs: LilyaWebSocket) -> None:
        names = {"scope": theirs.scope, "receive": theirs.receive, "send": theirs.send}
        module = await await_(text, name, seen=seen, **names)
        await module.websocket.accept()
        await module.websocket.close()

    app = Lilya(routes=[WebSocketPath("/rooms/{username}", endpoint)])
    async with hosted(app, "/rooms/ada?search=chess") as url:
        async with AioClient.connect(url, headers={"Host": "localhost:8000"}) as ws:
            await ws.wait_closed()
            assert ws.close_code == 1000
    assert len(lines) == len(values) and seen == values


async def test_close_app(hosted: Hosted) -> None:
    """L14, C42: an application that refuses every client."""
    async with hosted(load("lilya/close_app.py").close_app) as url:
        with pytest.raises(ConnectionError) as raised:
            await AioClient.connect(url)
        assert raised.value.status_code == 403


async def test_close_app_sends_what_it_was_given() -> None:
    """L14: code and reason."""
    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    await load("lilya/close_app.py").close_app({}, None, send)
    assert sent == [{"type": "websocket.close", "code": 1000, "reason": "done"}]
    assert WebSocketClose().code == 1000


class Server:
    """An ASGI server in memory."""

    def __init__(self, *events: Any) -> None:
        self.events = list(events)
        self.sent: list[Any] = []

    async def receive(self) -> Any:
        return self.events.pop(0)

    async def send(self, message: Any) -> None:
        self.sent.append(message)

    def open(self, **scope: Any) -> WebSocket:
        scope["type"] = "websocket"
        return WebSocket(scope=scope, receive=self.receive, send=self.send)


CONNECT = {"type": "websocket.connect"}
LEAVE = {"type": "websocket.disconnect", "code": 1001}


def test_mapping() -> None:
    """L1, C15: like the scope itself; two sockets are never equal."""
    ws = Server().open(path="/chat")
    assert ws["path"] == "/chat" and dict(ws) == ws.scope and len(ws) == 2
    with pytest.raises(KeyError):
        ws["nothing"]
    assert ws != Server().open(path="/chat") and len({ws, ws}) == 1


def test_url_is_text_with_parts() -> None:
    """L2, C16."""
    ws = Server().open(headers=[(b"host", b"x.org:81")], path="/a", query_string=b"b=1")
    url = ws.url
    assert isinstance(url, str) and isinstance(url, URL) and url == "ws://x.org:81/a?b=1"
    assert (url.scheme, url.hostname, url.port) == ("ws", "x.org", 81)
    assert (url.netloc, url.path, url.query, url.is_secure) == ("x.org:81", "/a", "b=1", False)
    assert url.replace(scheme="wss") == "wss://x.org:81/a?b=1"


def test_multi_valued_mappings() -> None:
    """L3, C17: the first value, or all of them."""
    ws = Server().open(headers=[(b"a", b"1"), (b"a", b"2")], query_string=b"a=1&b=&a=2")
    for values in (ws.headers, ws.query_params):
        assert values["a"] == "1" and values.getlist("a") == ["1", "2"]
    assert ws.query_params.multi_items() == [("a", "1"), ("b", ""), ("a", "2")]


def test_auth_user_and_session() -> None:
    """L5, C18: when middleware has set them; else one error that two frameworks' users know."""
    ws = Server().open(auth="auth", user="user", session={"n": 1})
    assert (ws.auth, ws.user, ws.session) == ("auth", "user", {"n": 1})
    for name in ("auth", "user", "session"):
        for error in (WebSocketRuntimeError, AssertionError):
            with pytest.raises(error, match="Middleware"):
                getattr(Server().open(), name)


async def test_url_reverse_helpers(hosted: Hosted) -> None:
    """L6, C19: inside a route of Lilya, and without any router."""

    async def endpoint(theirs: LilyaWebSocket) -> None:
        ws = WebSocket(theirs.scope, theirs.receive, theirs.send)
        await ws.accept()
        await ws.send_text(ws.path_for("room", username="bob"))
        await ws.send_text(ws.url_path_for("room", username="bob"))
        await ws.close()

    app = Lilya(routes=[WebSocketPath("/rooms/{username}", endpoint, name="room")])
    async with hosted(app, "/rooms/ada") as url, AioClient.connect(url) as ws:
        assert [await ws.receive(), await ws.receive()] == [url.replace("ada", "bob")] * 2
    with pytest.raises(WebSocketRuntimeError, match="router"):
        Server().open().path_for("room")


async def test_sending_and_receiving() -> None:
    """L7, L8: text, bytes, JSON of both modes."""
    receive = "websocket.receive"
    server = Server(
        CONNECT,
        {"type": receive, "text": "a"},
        {"type": receive, "bytes": b"b"},
        {"type": receive, "text": "[1]"},
        {"type": receive, "bytes": b"[2]"},
    )
    ws = server.open()
    await ws.accept(subprotocol=None, headers=None)
    assert [await ws.receive_text(), await ws.receive_bytes()] == ["a", b"b"]
    assert [await ws.receive_json(), await ws.receive_json(mode="binary")] == [[1], [2]]
    await ws.send_text("a")
    await ws.send_bytes(b"b")
    await ws.send_json({"ü": 1})
    await ws.send_json({"ü": 1}, mode="binary")
    assert [message.get("text", message.get("bytes")) for message in server.sent[1:]] == [
        *("a", b"b", '{"ü":1}', '{"ü":1}'.encode())
    ]


@pytest.mark.parametrize(
    ("iterator", "item"),
    [("iter_text", {"text": "1"}), ("iter_bytes", {"bytes": b"1"}), ("iter_json", {"text": "1"})],
)
async def test_iterators_end_when_the_client_leaves(iterator: str, item: Any) -> None:
    """L9, L10, C44: then close() does nothing."""
    server = Server(CONNECT, {"type": "websocket.receive", **item}, LEAVE)
    ws = server.open()
    await ws.accept()
    assert len([value async for value in getattr(ws, iterator)()]) == 1
    await ws.close(code=1000, reason=None)
    assert [message["type"] for message in server.sent] == ["websocket.accept"]


async def test_iter_json_of_binary_messages() -> None:
    """L9: its mode too."""
    ws = Server(CONNECT, {"type": "websocket.receive", "bytes": b"1"}, LEAVE).open()
    await ws.accept()
    assert [value async for value in ws.iter_json(mode="binary")] == [1]


async def test_raw_messages_keep_the_state() -> None:
    """L11, L12, C1: and what cannot come now is WebSocketRuntimeError."""
    server = Server(CONNECT, {"type": "websocket.receive", "text": "a"}, LEAVE)
    ws = server.open()
    assert (await ws.receive())["type"] == "websocket.connect"
    with pytest.raises(WebSocketRuntimeError):
        await ws.send({"type": "websocket.send", "text": "x"})
    await ws.send({"type": "websocket.accept"})
    assert (ws.client_state, ws.application_state) == (WebSocketState.CONNECTED,) * 2
    assert (await ws.receive())["text"] == "a"
    await ws.receive()
    assert ws.client_state is WebSocketState.DISCONNECTED
    for call in (ws.receive, ws.receive_text):
        with pytest.raises(WebSocketRuntimeError):
            await call()


@pytest.mark.parametrize("end", ["close", "left", "lost", "rejected"])
async def test_cleanups_run_once(end: str) -> None:
    """L13, C43: on any end, plain or coroutine functions, in order."""
    ran: list[int] = []

    async def second() -> None:
        ran.append(2)

    server = Server(CONNECT, LEAVE)
    ws = server.open()
    ws.add_cleanup(lambda: ran.append(1))
    ws.add_cleanup(second)
    if end == "rejected":
        await ws.close()
    else:
        await ws.accept()
        if end == "left":
            with pytest.raises(WebSocketDisconnect):
                await ws.receive_text()
        elif end == "lost":

            async def broken(_: Any) -> None:
                raise OSError

            ws._send = broken
            with pytest.raises(WebSocketDisconnect):
                await ws.send_text("x")
        await ws.close()
    await ws.close()
    assert ran == [1, 2]


async def test_cleanups_run_under_a_real_server(hosted: Hosted) -> None:
    """L13, C43: when the client leaves, and one that fails stops none."""
    ran: list[str] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        websocket = WebSocket(scope, receive, send)
        websocket.add_cleanup(lambda: ran.append(websocket.path))
        await websocket.accept()
        async for _ in websocket.iter_json():
            pass

    async with hosted(app, "/gone") as url, AioClient.connect(url) as ws:
        await ws.send_json(1)
    assert ran == ["/gone"]


def test_disconnect_is_where_the_page_says() -> None:
    """L12, L15, C9: with the errors of the other frameworks as bases."""
    assert {"WebSocketDisconnect", "WebSocketRuntimeError"} <= set(simplews.__all__)
    assert issubclass(WebSocketRuntimeError, RuntimeError)
    assert (WebSocketDisconnect().code, WebSocketDisconnect().reason) == (1000, "")
