"""genro-asgi's documentation: its examples and promises (G1 to G41)."""

from __future__ import annotations

import contextlib
import enum
import inspect
import json
import re
import sys
from collections.abc import AsyncIterator, Mapping, MutableMapping
from datetime import date, datetime
from decimal import Decimal
from typing import Any

import pytest

import simplews
from simplews import (
    HAS_ORJSON,
    HAS_TYTX,
    AioClient,
    ConnectionError,
    Headers,
    WebSocket,
    WebSocketDisconnect,
    WebSocketRuntimeError,
    WebSocketState,
    payloads,
)

from .conftest import Hosted
from .quoting import await_, load, quoted, source

NAMES = {"WebSocket": WebSocket, "WebSocketDisconnect": WebSocketDisconnect}


class Server:
    """An ASGI server in memory: hands out events, and keeps what it is sent."""

    def __init__(self, *events: Any) -> None:
        self.events = list(events)
        self.sent: list[Any] = []

    async def receive(self) -> Any:
        return self.events.pop(0)

    async def send(self, message: Any) -> None:
        self.sent.append(message)

    def open(self, **scope: Any) -> WebSocket:
        return WebSocket({"type": "websocket", **scope}, self.receive, self.send)


CONNECT = {"type": "websocket.connect"}
LEAVE = {"type": "websocket.disconnect", "code": 1001, "reason": "tab closed"}


def text(data: str) -> dict[str, Any]:
    return {"type": "websocket.receive", "text": data}


def binary(data: bytes) -> dict[str, Any]:
    return {"type": "websocket.receive", "bytes": data}


async def accepted(*events: Any) -> tuple[WebSocket, Server]:
    server = Server(CONNECT, *events)
    ws = server.open()
    await ws.accept()
    server.sent.clear()
    return ws, server


# --------------------------------------------------------------- the four handlers


async def test_basic_handler(hosted: Hosted, capsys: pytest.CaptureFixture[str]) -> None:
    """G13, G30, G31, G38: ``async for`` gives text, and ends quietly when the client leaves."""
    app = load("genro_asgi/basic.py").websocket_handler
    async with hosted(app) as url, AioClient.connect(url) as ws:
        for message in ("Hello", "", "grün"):
            await ws.send(message)
            assert await ws.receive() == f"You said: {message}"
        port = ws.local_address[1]
    assert capsys.readouterr().out == (
        f"Client connected from Address(host='127.0.0.1', port={port})\n"
    )


async def test_subprotocol_is_negotiated(hosted: Hosted) -> None:
    """G14, G15, G18, G39: what the client asked for is chosen."""
    app = load("genro_asgi/subprotocol.py", **NAMES).handler
    async with hosted(app) as url:
        async with AioClient.connect(url, ["mqtt", "graphql-ws"]) as ws:
            assert ws.subprotocol == "graphql-ws"


async def test_unsupported_subprotocol_is_rejected(hosted: Hosted) -> None:
    """G22, G39, C5: close() before accept() refuses with HTTP 403."""
    app = load("genro_asgi/subprotocol.py", **NAMES).handler
    async with hosted(app) as url:
        for offered in (None, ["mqtt"]):
            with pytest.raises(ConnectionError) as raised:
                await AioClient.connect(url, offered)
            assert raised.value.status_code == 403


async def test_json_messaging(hosted: Hosted) -> None:
    """G25, G29, G40: every kind of JSON, there and back; the client's leaving is caught."""
    app = load("genro_asgi/json_messaging.py", **NAMES).handler
    async with hosted(app) as url, AioClient.connect(url) as ws:
        for value in ({"a": [1, 2.5, None, True]}, [], "grün", 7, None):
            await ws.send_json(value)
            assert await ws.receive_json() == {"received": value, "status": "ok"}


async def test_typed_data(hosted: Hosted) -> None:
    """G32, G33, G34, G40, C21: its table, on the wire and in Python."""
    seen: list[Any] = []

    class Watched(WebSocket):
        async def receive_typed(self) -> Any:
            seen.append(await super().receive_typed())
            return seen[-1]

    app = load("genro_asgi/typed_data.py", WebSocket=Watched).handler
    async with hosted(app) as url, AioClient.connect(url) as ws:
        await ws.send('{"amount": "100.50::D", "date": "2025-01-15::d"}::TYTX')
        answer = await ws.receive_text()
    assert seen == [{"amount": Decimal("100.50"), "date": date(2025, 1, 15)}]
    assert answer.endswith("::TYTX")
    values = json.loads(answer.removesuffix("::TYTX"))
    assert values["total"] == "123.45::D"
    assert re.fullmatch(r"\d{4}-\d\d-\d\d::d", values["processed_at"])


# ------------------------------------------------------------- docstring examples


async def test_docstring_of_the_class(hosted: Hosted) -> None:
    """G2, G16, G20, G23, G28: accept, one message, close with 1000."""
    app = load("genro_asgi/docstring_class.py", **NAMES).handler
    async with hosted(app) as url, AioClient.connect(url) as ws:
        await ws.send("Hello")
        assert await ws.receive() == "Echo: Hello"
        await ws.wait_closed()
        assert ws.close_code == 1000


async def test_docstring_of_the_state() -> None:
    """G1, G6: before and after accept()."""
    server = Server(CONNECT)
    names = {
        "WebSocket": WebSocket,
        "WebSocketState": WebSocketState,
        **{"scope": {"type": "websocket"}, "receive": server.receive, "send": server.send},
    }
    steps = re.findall(r"^>>> (.*)\n(True)?", quoted("genro_asgi/docstring_state.txt"), re.M)
    assert len(steps) == 4
    for step, result in steps:
        code = f"result = {step}" if result else step
        module = await await_(code, "genro_asgi/docstring_state.txt", **names)
        names.update(vars(module))
        assert not result or names["result"] is True


async def fragment(name: str, ws: WebSocket, **given: Any) -> Any:
    """Run an example that is the inside of a coroutine."""
    name = f"genro_asgi/{name}.py"
    return await await_(source(name), name, ws=ws, **given)


async def test_docstrings_of_the_iterators(capsys: pytest.CaptureFixture[str]) -> None:
    """G30, G31: each ends when the client leaves."""
    ws, _ = await accepted(text("a"), text("b"), LEAVE)
    await fragment("docstring_iter_text", ws)
    assert capsys.readouterr().out == "Received: a\nReceived: b\n"
    seen: list[Any] = []
    ws, _ = await accepted(binary(b"a"), binary(b""), LEAVE)
    await fragment("docstring_iter_bytes", ws, process_binary=seen.append)
    ws, _ = await accepted(text("a"), text(""), LEAVE)
    await fragment("docstring_aiter", ws, handle_message=seen.append)
    assert seen == [b"a", b"", "a", ""]


async def test_docstring_of_receive_typed() -> None:
    """G32, G34: what its comments say is what comes."""
    name = "docstring_receive_typed"
    sent = re.search(r"Client sends: (.*)", quoted(f"genro_asgi/{name}.py"))
    assert sent is not None
    ws, _ = await accepted(text(sent[1]))
    module = await fragment(name, ws)
    assert repr(module.data["price"]) == "Decimal('100.50')"
    assert module.data["date"] == date(2025, 1, 15) and type(module.data["date"]) is date


async def test_docstring_of_send_typed() -> None:
    """G33, G34: what its comment says is what is sent."""

    class Clock(datetime):
        @classmethod
        def now(cls, tz: Any = None) -> Clock:
            return cls(2025, 1, 15, 12, 30)

    name = "docstring_send_typed"
    ws, server = await accepted()
    await fragment(name, ws, Decimal=Decimal, datetime=Clock)
    sends = re.search(r"# Sends: (.*)::TYTX", quoted(f"genro_asgi/{name}.py"))
    assert sends is not None
    body = server.sent[0]["text"].removesuffix("::TYTX")
    assert json.loads(body) == json.loads(sends[1])


async def test_docstring_of_disconnect(capsys: pytest.CaptureFixture[str]) -> None:
    """G27, G35."""
    ws, _ = await accepted(LEAVE)
    await fragment("docstring_disconnect", ws, WebSocketDisconnect=WebSocketDisconnect)
    assert capsys.readouterr().out == "Client disconnected: code=1001, reason=tab closed\n"
    assert ws.connection_state is WebSocketState.DISCONNECTED


# ------------------------------------------------------------ the documented module


#: The documented classes: signatures only.
API = load(
    "genro_asgi/api.py",
    **{"Any": Any, "AsyncIterator": AsyncIterator, "IntEnum": enum.IntEnum, "Mapping": Mapping},
    **dict.fromkeys(("Scope", "Receive", "Send"), MutableMapping),
)
METHODS = [name for name, value in vars(API.WebSocket).items() if inspect.isfunction(value)]


def test_module_exports_what_is_documented() -> None:
    """G36, G37."""
    assert {*API.__all__, "HAS_ORJSON", "HAS_TYTX"} <= set(simplews.__all__)
    assert isinstance(HAS_ORJSON, bool) and isinstance(HAS_TYTX, bool)
    for package, flag in (("orjson", HAS_ORJSON), ("genro_tytx", HAS_TYTX)):
        with contextlib.suppress(ImportError):
            __import__(package)
        assert (package in sys.modules) is flag


def test_states_have_the_documented_numbers() -> None:
    """G1, C11: comparable, serialisable; RESPONSE is ours."""
    for state in API.WebSocketState:
        assert WebSocketState[state.name] == state.value
    assert WebSocketState.CONNECTING < WebSocketState.CONNECTED < WebSocketState.DISCONNECTED
    assert json.dumps(WebSocketState.CONNECTED) == "1"
    assert [state.name for state in WebSocketState][3:] == ["RESPONSE"]


@pytest.mark.parametrize("name", METHODS)
def test_methods_have_the_documented_parameters(name: str) -> None:
    """G2, G16, G20: the same names in the same order; what we add comes behind."""
    promised = list(inspect.signature(getattr(API.WebSocket, name)).parameters.values())
    ours = list(inspect.signature(getattr(WebSocket, name)).parameters.values())
    assert [p.name for p in ours[: len(promised)]] == [p.name for p in promised]
    for mine, theirs in zip(ours, promised, strict=False):
        # C33: a reason of None or of "" is the same.
        assert (mine.default or None) == (theirs.default or None)
    assert all(p.default is not p.empty for p in ours[len(promised) :])


def test_other_scopes_are_refused() -> None:
    """G2, C12."""
    for scope in ({"type": "http"}, {}):
        with pytest.raises(ValueError, match=f"websocket.*{scope.get('type')}"):
            WebSocket(scope, Server().receive, Server().send)


def test_slots() -> None:
    """G3: no dictionary per instance."""
    assert not hasattr(Server().open(), "__dict__")


@pytest.mark.parametrize("name", ["headers", "query_params", "url", "state"])
def test_properties_are_lazy(name: str) -> None:
    """G4: until it is asked for, the scope is not looked at; then it is kept."""

    class Watched(dict[str, Any]):
        def __getitem__(self, key: str) -> Any:
            asked.append(key)
            return super().__getitem__(key)

        def get(self, key: str, default: Any = None) -> Any:
            asked.append(key)
            return super().get(key, default)

    asked: list[str] = []
    scope = Watched(type="websocket", headers=[(b"host", b"x")], query_string=b"a=1", state={})
    ws = WebSocket(scope, Server().receive, Server().send)
    assert asked == ["type"]
    assert getattr(ws, name) is getattr(ws, name)


async def test_properties_under_a_real_server(hosted: Hosted) -> None:
    """G5, G7 to G15: what a client has asked for, as uvicorn tells it."""
    seen: list[Any] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        ws = WebSocket(scope, receive, send)
        assert ws.scope is scope
        ws.state.user = "Ada"
        await ws.accept("b")
        seen.append(
            {
                "path": ws.path,
                "scheme": ws.scheme,
                "url": ws.url,
                "header": ws.headers["x-NAME"],
                "query": ws.query_params["q"],
                "state": scope["state"]["user"],
                "client": ws.client is not None and (ws.client.host, ws.client.port),
                "subprotocols": ws.subprotocols,
                "accepted": (ws.accepted_subprotocol, ws.subprotocol),
            }
        )

    async with hosted(app, "/chat?q=1") as url:
        async with AioClient.connect(url, ["a", "b"], {"X-Name": "value"}) as ws:
            assert ws.subprotocol == "b"
            await ws.wait_closed()
            address = ws.local_address
    assert seen == [
        {
            "path": "/chat",
            "scheme": "ws",
            "url": url,
            "header": "value",
            "query": "1",
            "state": "Ada",
            "client": address,
            "subprotocols": ("a", "b"),
            "accepted": ("b", "b"),
        }
    ]


def test_properties_without_anything_in_the_scope() -> None:
    """G7, G8, G12, G13, G14, G15, C29, C31: the promised defaults."""
    ws = Server().open()
    assert (ws.path, ws.scheme, ws.client, ws.subprotocols) == ("/", "ws", None, ())
    assert ws.accepted_subprotocol is None
    ws.state.anything = 1
    assert ws.scope["state"] == {"anything": 1}


@pytest.mark.parametrize(
    ("scope", "url"),
    [
        ({"server": ("10.0.0.1", 8000), "path": "/a"}, "ws://10.0.0.1:8000/a"),
        ({"server": ("10.0.0.1", 80)}, "ws://10.0.0.1/"),
        ({"server": ("10.0.0.1", 443), "scheme": "wss"}, "wss://10.0.0.1/"),
        ({"headers": [(b"host", b"x.org:81")], "server": ("y", 80)}, "ws://x.org:81/"),
        ({"server": ("y", 80), "root_path": "/api", "path": "/a"}, "ws://y/api/a"),
        ({"server": ("y", 80), "path": "/a", "query_string": b"q=1"}, "ws://y/a?q=1"),
    ],
)
def test_url(scope: dict[str, Any], url: str) -> None:
    """G9, C16, C30: its rules, one by one."""
    assert Server().open(**scope).url == url


async def test_headers_have_no_case() -> None:
    """G10, C17."""
    ws = Server().open(headers=[(b"x-name", b"1"), (b"x-name", b"2")])
    assert isinstance(ws.headers, Headers)
    assert ws.headers["X-NAME"] == "1" and ws.headers.getlist("x-Name") == ["1", "2"]


# ------------------------------------------------------------------------- life


async def test_accept_consumes_connect() -> None:
    """G16, G19, C3: headers of a mapping become bytes."""
    server = Server(CONNECT)
    ws = server.open(subprotocols=["a"])
    await ws.accept(subprotocol="a", headers={"X-Name": "grün"})
    assert server.events == []
    assert server.sent == [
        {
            "type": "websocket.accept",
            "subprotocol": "a",
            "headers": [(b"x-name", "grün".encode("latin-1"))],
        }
    ]
    assert ws.connection_state is WebSocketState.CONNECTED


async def test_accept_in_the_wrong_state() -> None:
    """G17, C9: RuntimeError, naming the state; and for a first message that is none."""
    ws, _ = await accepted()
    with pytest.raises(RuntimeError, match="CONNECTED"):
        await ws.accept()
    await ws.close()
    with pytest.raises(RuntimeError, match="DISCONNECTED"):
        await ws.accept()
    with pytest.raises(RuntimeError, match=r"websocket\.connect.*websocket\.receive"):
        await Server(text("too early")).open().accept()


async def test_accept_with_a_subprotocol_that_was_not_offered() -> None:
    """G18, C13: ValueError, and nothing is sent."""
    server = Server(CONNECT)
    with pytest.raises(ValueError, match="did not offer"):
        await server.open(subprotocols=["a"]).accept("b")
    assert server.sent == []


@pytest.mark.parametrize("code", [1000, 1001, 1002, 1003, 1008, 1011, 4000])
async def test_close(code: int) -> None:
    """G20: the listed codes."""
    ws, server = await accepted()
    await ws.close(code, "why")
    assert server.sent == [{"type": "websocket.close", "code": code, "reason": "why"}]
    assert ws.connection_state is WebSocketState.DISCONNECTED


async def test_close_reason_may_have_123_bytes() -> None:
    """G20: of UTF-8, whatever the number of characters."""
    ws, server = await accepted()
    with pytest.raises(ValueError, match=r"12[34]"):
        await ws.close(1000, "ü" * 62)
    assert server.sent == [] and ws.connected
    await ws.close(1000, "ü" * 61 + "x")


async def test_close_is_idempotent() -> None:
    """G21, C6, C7: a second call, and one after the client left, do nothing."""
    ws, server = await accepted()
    await ws.close()
    await ws.close(1011)
    assert len(server.sent) == 1
    ws, server = await accepted(LEAVE)
    with pytest.raises(WebSocketDisconnect):
        await ws.receive_text()
    await ws.close()
    assert server.sent == []


async def test_close_while_connecting_rejects() -> None:
    """G22, C5: its example does it, so it is no error."""
    server = Server(CONNECT)
    ws = server.open()
    await ws.close(1002)
    assert [message["type"] for message in server.sent] == ["websocket.close"]
    assert ws.connection_state is WebSocketState.DISCONNECTED


# --------------------------------------------------------------------- messages


@pytest.mark.parametrize("both_keys", [True, False])
async def test_readers_are_strict(both_keys: bool) -> None:
    """G23, G24, G26, C8: TypeError for the other kind, which is not lost."""
    one = {"type": "websocket.receive", "text": "a"} | ({"bytes": None} if both_keys else {})
    two = {"type": "websocket.receive", "bytes": b"b"} | ({"text": None} if both_keys else {})
    ws, _ = await accepted(one, two, one, two)
    assert await ws.receive_text() == "a"
    assert await ws.receive_bytes() == b"b"
    with pytest.raises(TypeError) as raised:
        await ws.receive_bytes()
    assert raised.value.message == "a"  # type: ignore[attr-defined]
    with pytest.raises(TypeError) as raised:
        await ws.receive_text()
    assert raised.value.message == b"b"  # type: ignore[attr-defined]


CALLS: list[tuple[str, tuple[Any, ...]]] = [
    ("receive_text", ()),
    ("receive_bytes", ()),
    ("receive_json", ()),
    ("receive_typed", ()),
    ("send_text", ("x",)),
    ("send_bytes", (b"x",)),
    ("send_json", (1,)),
    ("send_typed", ({},)),
]


@pytest.mark.parametrize(("name", "arguments"), CALLS, ids=[name for name, _ in CALLS])
async def test_messages_pass_only_while_connected(name: str, arguments: Any) -> None:
    """G23, G24, G25, G28, G29, G32, G33, C9: before accept() and after close()."""
    ws = Server(CONNECT).open()
    with pytest.raises(WebSocketRuntimeError, match="CONNECTING"):
        await getattr(ws, name)(*arguments)
    ws, server = await accepted()
    await ws.close()
    with pytest.raises(RuntimeError, match="DISCONNECTED"):
        await getattr(ws, name)(*arguments)
    assert len(server.sent) == 1


@pytest.mark.parametrize("reader", ["receive_text", "receive_bytes", "receive_json"])
async def test_client_that_leaves(reader: str) -> None:
    """G27: code and reason; 1000 and nothing where the server tells none."""
    for event, code, reason in (
        (LEAVE, 1001, "tab closed"),
        ({"type": "websocket.disconnect"}, 1000, ""),
    ):
        ws, _ = await accepted(event)
        with pytest.raises(WebSocketDisconnect) as raised:
            await getattr(ws, reader)()
        assert (raised.value.code, raised.value.reason) == (code, reason)
        assert ws.connection_state is WebSocketState.DISCONNECTED


@pytest.mark.parametrize("fast", [True, False])
async def test_json(fast: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """G25, G29, C20: with orjson and without; the decoder's own error; TypeError on bytes."""
    if not fast:
        monkeypatch.setattr(payloads, "orjson", None)
    ws, server = await accepted(text('{"a": "ü"}'), text("{"), binary(b"{}"))
    assert await ws.receive_json() == {"a": "ü"}
    with pytest.raises(json.JSONDecodeError):
        await ws.receive_json()
    with pytest.raises(TypeError):
        await ws.receive_json()
    await ws.send_json({"a": ["ü", 1]})
    with pytest.raises(TypeError):
        await ws.send_json({"a": object()})
    assert server.sent == [{"type": "websocket.send", "text": '{"a":["ü",1]}'}]


async def test_iterators_are_strict() -> None:
    """G30, G31: TypeError on the wrong kind."""
    for name, event in (("iter_text", binary(b"x")), ("iter_bytes", text("x"))):
        ws, _ = await accepted(event)
        with pytest.raises(TypeError):
            async for _ in getattr(ws, name)():
                pass
    ws, _ = await accepted(binary(b"x"))
    with pytest.raises(TypeError):
        async for _ in ws:
            pass


# ------------------------------------------------------------------- typed text


async def test_plain_json_is_never_hydrated() -> None:
    """G32, C21: only behind the marker a string is more than a string."""
    ws, _ = await accepted(text('{"price": "100.50::D"}'), text("{::TYTX"), text("nonsense"))
    assert await ws.receive_typed() == {"price": "100.50::D"}
    for _ in range(2):
        with pytest.raises(json.JSONDecodeError):
            await ws.receive_typed()


async def test_typed_text_needs_no_package(monkeypatch: pytest.MonkeyPatch) -> None:
    """G32, G33, G36, C21: ImportError, with what to install, only where it is needed."""
    monkeypatch.setitem(sys.modules, "genro_tytx", None)
    value = {"a": Decimal("1.0"), "b": date(2025, 1, 15), "c": datetime(2025, 1, 15, 12, 30)}
    ws, server = await accepted()
    await ws.send_typed(value)
    message = server.sent[0]["text"]
    assert message == '{"a":"1.0::D","b":"2025-01-15::d","c":"2025-01-15T12:30:00::dt"}::TYTX'
    ws, server = await accepted(text(message), text('{"a":"1.0::N"}::JS'))
    assert await ws.receive_typed() == value
    with pytest.raises(ImportError, match="pip install genro-tytx"):
        await ws.receive_typed()
    with pytest.raises(ImportError, match="pip install genro-tytx"):
        await ws.send_typed(value, dialect="JS")


@pytest.mark.skipif(not HAS_TYTX, reason="genro-tytx is not installed")
async def test_dialect_of_the_installed_package() -> None:
    """G32, G33, C21: what genro-tytx itself writes and reads."""
    tytx = __import__("genro_tytx")
    value = {"price": Decimal("100.50"), "date": date(2025, 1, 15)}
    ws, server = await accepted(text(tytx.to_tytx(value)))
    assert await ws.receive_typed() == value
    await ws.send_typed(value, "JS")
    assert tytx.from_tytx(server.sent[0]["text"]) == value


async def test_string_that_would_read_as_typed_is_refused() -> None:
    """C21: it could not come back as it was."""
    ws, server = await accepted()
    with pytest.raises(ValueError, match="would be read as a typed value"):
        await ws.send_typed({"a": "x::D"})
    assert server.sent == []


# -------------------------------------------------------------- what is left out


def test_disconnect_error() -> None:
    """G35: its defaults, and that it can be read."""
    error = WebSocketDisconnect()
    assert (error.code, error.reason) == (1000, "")
    error = WebSocketDisconnect(code=1001, reason="tab closed")
    assert (error.code, error.reason) == (1001, "tab closed")
    assert "1001" in str(error) and "tab closed" in str(error)


async def test_nothing_is_read_ahead() -> None:
    """G41: each call is one call of the server's; no pings, no timeout, no reconnecting."""
    ws, server = await accepted(text("a"), text("b"))
    await ws.receive_text()
    assert server.events == [text("b")]
    for name in ("ping", "ping_interval", "reconnect"):
        assert not hasattr(ws, name)
    assert "timeout" not in inspect.signature(ws.receive_text).parameters
