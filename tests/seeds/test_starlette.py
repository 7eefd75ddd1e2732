"""Starlette's and Esmerald's documentation: its class beside ours, and promises E1 to E15.

The documentation shows the source of every method. `documented` is that source,
and whatever is done to it is done to our class as well.
"""

from __future__ import annotations

import enum
import inspect
import itertools
import json
import typing
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.authentication import (
    AuthCredentials,
    AuthenticationBackend,
    SimpleUser,
)
from starlette.datastructures import URL as StarletteURL
from starlette.middleware import Middleware
from starlette.middleware.authentication import AuthenticationMiddleware
from starlette.requests import HTTPConnection
from starlette.routing import WebSocketRoute
from starlette.websockets import WebSocketDisconnect as StarletteDisconnect

import simplews
from simplews import AioClient, ConnectionError, WebSocket, WebSocketDisconnect, WebSocketState

from .conftest import Hosted
from .quoting import load

Step = Callable[[Any], Awaitable[Any]]


class _Base(HTTPConnection):
    """The documented class's base, and the one method of it that is not shown."""

    def _raise_on_disconnect(self, message: Any) -> None:
        if message["type"] == "websocket.disconnect":
            raise StarletteDisconnect(message["code"], message.get("reason"))


DocumentedState = enum.Enum("DocumentedState", {"CONNECTING": 0, "CONNECTED": 1, "DISCONNECTED": 2})

documented = load(
    "starlette/documented.py",
    **{"HTTPConnection": _Base, "URL": StarletteURL, "json": json, "typing": typing},
    **{"WebSocketState": DocumentedState, "WebSocketDisconnect": StarletteDisconnect},
    **dict.fromkeys(("Scope", "Receive", "Send", "Message"), Any),
).WebSocket

BOTH = [documented, WebSocket]
METHODS = [name for name, value in vars(documented).items() if inspect.isfunction(value)]

CONNECT = {"type": "websocket.connect"}
TEXT = {"type": "websocket.receive", "text": '{"a": "ü"}', "bytes": None}
BINARY = {"type": "websocket.receive", "text": None, "bytes": '{"a": "ü"}'.encode()}
LEAVE = {"type": "websocket.disconnect", "code": 1001, "reason": "tab closed"}


async def outcome(step: Awaitable[Any]) -> Any:
    """What a call returns; or whether the client had left, or it was misuse."""
    try:
        return await step
    except (WebSocketDisconnect, StarletteDisconnect) as exc:
        return ("left", exc.code, exc.reason)
    except RuntimeError:
        return "misuse"


async def trace(cls: Any, events: list[Any], steps: tuple[Step, ...]) -> list[Any]:
    """Everything that can be seen of *steps*: results, states, and what is sent."""
    remaining = list(events)
    seen: list[Any] = []

    async def receive() -> Any:
        return remaining.pop(0)

    async def send(message: Any) -> None:
        seen.append(dict(message))

    ws = cls({"type": "websocket"}, receive, send)
    for step in steps:
        seen.append(await outcome(step(ws)))
        seen.append((ws.client_state.value, ws.application_state.value))
    return [*seen, len(remaining)]


async def collect(iterator: Any) -> list[Any]:
    return [item async for item in iterator]


# ---------------------------------------------------------------- the same class


@pytest.mark.parametrize("name", METHODS)
def test_methods_have_the_documented_parameters(name: str) -> None:
    """E2, E5, E8 to E13: names, order and defaults; what we add comes behind."""
    promised = list(inspect.signature(getattr(documented, name)).parameters.values())
    ours = list(inspect.signature(getattr(WebSocket, name)).parameters.values())
    assert [(p.name, p.kind, p.default) for p in ours[: len(promised)]] == [
        (p.name, p.kind, p.default) for p in promised
    ]
    assert all(p.default is not p.empty for p in ours[len(promised) :])


RAW: dict[str, Step] = {
    "receive": lambda ws: ws.receive(),
    "accept": lambda ws: ws.send({"type": "websocket.accept"}),
    "send": lambda ws: ws.send({"type": "websocket.send", "text": "x"}),
    "close": lambda ws: ws.send({"type": "websocket.close", "code": 1000, "reason": ""}),
    "nonsense": lambda ws: ws.send({"type": "websocket.nonsense"}),
}


@pytest.mark.parametrize("length", [1, 2, 3, 4])
async def test_raw_messages_pass_the_same_states(length: int) -> None:
    """E4, E6, E7: every sequence of raw calls, while the client is there."""
    for names in itertools.product(RAW, repeat=length):
        steps = tuple(RAW[name] for name in names)
        theirs, ours = [await trace(cls, [CONNECT, *[TEXT] * 4], steps) for cls in BOTH]
        assert ours == theirs, names


@pytest.mark.parametrize(
    "events", [[TEXT], [LEAVE], [{"type": "http.request"}], [CONNECT, CONNECT]], ids=str
)
async def test_raw_messages_of_a_strange_server(events: list[Any]) -> None:
    """E6: RuntimeError for what cannot come. (Leaving before `connect` is no misuse here.)"""
    steps = (RAW["receive"],) * len(events)
    theirs, ours = [await trace(cls, events, steps) for cls in BOTH]
    if events == [LEAVE]:
        assert theirs[0] == "misuse" and ours[0] == ("left", 1001, "tab closed")
    else:
        assert ours == theirs


async def test_receive_after_the_client_left() -> None:
    """E6: the disconnect is given out, once."""
    steps = (RAW["receive"], RAW["accept"], RAW["receive"], RAW["receive"])
    theirs, ours = [await trace(cls, [CONNECT, LEAVE], steps) for cls in BOTH]
    assert ours == theirs and "misuse" in ours


CALLS: dict[str, tuple[list[Any], tuple[Step, ...]]] = {
    "accept": ([CONNECT], (lambda ws: ws.accept(),)),
    "accept after connect": ([CONNECT], (lambda ws: ws.receive(), lambda ws: ws.accept())),
    "accept with headers": ([CONNECT], (lambda ws: ws.accept(headers=[(b"x-a", b"1")]),)),
    "accept twice": ([CONNECT], (lambda ws: ws.accept(), lambda ws: ws.accept())),
    "receive_text early": ([CONNECT], (lambda ws: ws.receive_text(),)),
    "receive_bytes early": ([CONNECT], (lambda ws: ws.receive_bytes(),)),
    "receive_json early": ([CONNECT], (lambda ws: ws.receive_json(),)),
    "send_text early": ([CONNECT], (lambda ws: ws.send_text("x"),)),
    "receive_text": ([CONNECT, TEXT], (lambda ws: ws.accept(), lambda ws: ws.receive_text())),
    "receive_bytes": ([CONNECT, BINARY], (lambda ws: ws.accept(), lambda ws: ws.receive_bytes())),
    "receive_json": ([CONNECT, TEXT], (lambda ws: ws.accept(), lambda ws: ws.receive_json())),
    "receive_json binary": (
        [CONNECT, BINARY],
        (lambda ws: ws.accept(), lambda ws: ws.receive_json(mode="binary")),
    ),
    "receive_json bad mode": (
        [CONNECT, TEXT],
        (lambda ws: ws.accept(), lambda ws: ws.receive_json(mode="nonsense")),
    ),
    "receive_text left": ([CONNECT, LEAVE], (lambda ws: ws.accept(), lambda ws: ws.receive_text())),
    "receive_bytes left": (
        [CONNECT, LEAVE],
        (lambda ws: ws.accept(), lambda ws: ws.receive_bytes()),
    ),
    "receive_json left": ([CONNECT, LEAVE], (lambda ws: ws.accept(), lambda ws: ws.receive_json())),
    "iter_text": (
        [CONNECT, TEXT, TEXT, LEAVE],
        (lambda ws: ws.accept(), lambda ws: collect(ws.iter_text())),
    ),
    "iter_bytes": (
        [CONNECT, BINARY, BINARY, LEAVE],
        (lambda ws: ws.accept(), lambda ws: collect(ws.iter_bytes())),
    ),
    "iter_json": (
        [CONNECT, TEXT, TEXT, LEAVE],
        (lambda ws: ws.accept(), lambda ws: collect(ws.iter_json())),
    ),
    "send_text": ([CONNECT], (lambda ws: ws.accept(), lambda ws: ws.send_text("ü"))),
    "send_bytes": ([CONNECT], (lambda ws: ws.accept(), lambda ws: ws.send_bytes(b"\xff"))),
    "send_json": ([CONNECT], (lambda ws: ws.accept(), lambda ws: ws.send_json({"a": ["ü", 1]}))),
    "send_json binary": (
        [CONNECT],
        (lambda ws: ws.accept(), lambda ws: ws.send_json({"a": ["ü", 1]}, mode="binary")),
    ),
    "send_json bad mode": (
        [CONNECT],
        (lambda ws: ws.accept(), lambda ws: ws.send_json({}, mode="nonsense")),
    ),
    "close": ([CONNECT], (lambda ws: ws.accept(), lambda ws: ws.close())),
    "close with code": ([CONNECT], (lambda ws: ws.accept(), lambda ws: ws.close(1001, "bye"))),
    "close before accept": ([CONNECT], (lambda ws: ws.close(1008),)),
    "send_text late": (
        [CONNECT],
        (lambda ws: ws.accept(), lambda ws: ws.close(), lambda ws: ws.send_text("x")),
    ),
    "receive_text late": (
        [CONNECT, TEXT],
        (lambda ws: ws.accept(), lambda ws: ws.close(), lambda ws: ws.receive_text()),
    ),
}


@pytest.mark.parametrize("name", CALLS)
async def test_calls_do_as_documented(name: str) -> None:
    """E8 to E13, C45: results, errors, states and messages are those of the documented class."""
    theirs, ours = [await trace(cls, *CALLS[name]) for cls in BOTH]
    assert ours == theirs


async def test_where_we_differ() -> None:
    """E2, C5, C6, C8, C12: and nowhere else."""
    steps: tuple[Step, ...] = (
        lambda ws: ws.accept(),
        lambda ws: ws.close(),
        lambda ws: ws.close(),
    )
    theirs, ours = [await trace(cls, [CONNECT], steps) for cls in BOTH]
    assert "misuse" in theirs and "misuse" not in ours  # close() is idempotent
    for cls, error in ((documented, AssertionError), (WebSocket, ValueError)):
        with pytest.raises(error):
            cls({"type": "http"}, None, None)
    for cls, error in ((documented, KeyError), (WebSocket, TypeError)):
        events = [CONNECT, {"type": "websocket.receive", "text": "x"}]

        async def receive(events: list[Any] = events) -> Any:
            return events.pop(0)

        async def send(_: Any) -> None:
            pass

        ws = cls({"type": "websocket"}, receive, send)
        await ws.accept()
        with pytest.raises(error):
            await ws.receive_bytes()


# -------------------------------------------------------------- under a real server


@pytest.mark.parametrize("cls", BOTH, ids=["documented", "ours"])
async def test_every_method_under_a_real_server(cls: Any, hosted: Hosted) -> None:
    """E2, E8 to E13: a client sees no difference."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        ws = cls(scope, receive, send)
        await ws.accept("b", [(b"x-one", b"1"), (b"x-one", b"2")])
        await ws.send_text(await ws.receive_text())
        await ws.send_bytes(await ws.receive_bytes())
        await ws.send_json(await ws.receive_json())
        await ws.send_json(await ws.receive_json(mode="binary"), mode="binary")
        async for message in ws.iter_text():
            if message == "next":
                break
        async for data in ws.iter_bytes():
            if data == b"next":
                break
        async for value in ws.iter_json():
            if value == "next":
                break
        await ws.close(4000, "done")

    async with hosted(app) as url, AioClient.connect(url, ["a", "b"]) as ws:
        assert ws.subprotocol == "b"
        assert ws.headers.getlist("x-one") == ["1", "2"]
        for message in ("ü", b"\xff", '{"a":["ü",1]}', '{"a":["ü",1]}'.encode()):
            await ws.send(message)
            assert await ws.receive() == message
        for message in ("x", "next", b"x", b"next", '"x"', '"next"'):
            await ws.send(message)
        await ws.wait_closed()
        assert (ws.close_code, ws.close_reason) == (4000, "done")


@pytest.mark.parametrize("cls", BOTH, ids=["documented", "ours"])
async def test_raw_messages_under_a_real_server(cls: Any, hosted: Hosted) -> None:
    """E4, E6, E7: two states, each of which follows its own direction."""
    seen: list[Any] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        ws = cls(scope, receive, send)

        def note(what: Any) -> None:
            seen.append((what, ws.client_state.name, ws.application_state.name))

        note("new")
        note((await ws.receive())["type"])
        await ws.send({"type": "websocket.accept"})
        note("accepted")
        message = await ws.receive()
        note((message["type"], message["text"]))
        await ws.send({"type": "websocket.send", "text": "hi"})
        note((await ws.receive())["type"])
        with pytest.raises(RuntimeError):
            await ws.receive()

    async with hosted(app) as url, AioClient.connect(url) as ws:
        await ws.send("hello")
        assert await ws.receive() == "hi"
    assert seen == [
        ("new", "CONNECTING", "CONNECTING"),
        ("websocket.connect", "CONNECTED", "CONNECTING"),
        ("accepted", "CONNECTED", "CONNECTED"),
        (("websocket.receive", "hello"), "CONNECTED", "CONNECTED"),
        ("websocket.disconnect", "DISCONNECTED", "CONNECTED"),
    ]


async def test_denial_response_under_a_real_server(hosted: Hosted) -> None:
    """E7, C26: raw, and with reject()."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        ws = WebSocket(scope, receive, send)
        await ws.receive()
        if ws.path == "/reject":
            await ws.reject(status=401, headers={"X-Why": "no token"}, body="who are you?")
            return
        headers = [(b"x-why", b"no token"), (b"content-length", b"12")]
        await ws.send({"type": "websocket.http.response.start", "status": 401, "headers": headers})
        assert ws.application_state is WebSocketState.RESPONSE
        await ws.send({"type": "websocket.http.response.body", "body": b"who are you?"})
        assert ws.application_state is WebSocketState.DISCONNECTED

    for path in ("/raw", "/reject"):
        # uvicorn's other implementation complains of every denial response.
        async with hosted(app, path, ws="wsproto") as url:
            with pytest.raises(ConnectionError) as raised:
                await AioClient.connect(url)
        error = raised.value
        assert (error.status_code, error.body) == (401, b"who are you?")
        assert error.headers["x-why"] == "no token"


# ------------------------------------------------------------------- the scope


def test_it_is_imported_as_documented() -> None:
    """E1, C15: from Esmerald's page; a Mapping over its scope."""
    cls = load("starlette/esmerald_import.py").WebSocket
    assert cls is simplews.WebSocket and issubclass(cls, Mapping)


class _Backend(AuthenticationBackend):
    async def authenticate(self, conn: Any) -> Any:
        return AuthCredentials(["chat"]), SimpleUser(conn.query_params["name"])


def _with_session(app: Any) -> Any:
    async def middleware(scope: Any, receive: Any, send: Any) -> None:
        scope.setdefault("session", {"visits": 1})
        await app(scope, receive, send)

    return middleware


async def test_properties_inside_starlette(hosted: Hosted) -> None:
    """E1, E3, E5, C19: all twelve, set by a real framework, router and middleware."""
    seen: list[Any] = []

    async def endpoint(theirs: Any) -> None:
        ws = WebSocket(theirs.scope, theirs.receive, theirs.send)
        await ws.accept()
        seen.append(ws)
        for name in ("url", "base_url", "headers", "path_params", "cookies", "session", "user"):
            assert getattr(ws, name) == getattr(theirs, name), name
        assert dict(ws.query_params) == dict(theirs.query_params)
        assert ws.client == theirs.client
        assert ws.app is theirs.app is app
        assert ws.auth is theirs.auth and ws.user.display_name == "Ada"
        ws.state.colour = "blue"
        assert theirs.state.colour == "blue"
        assert dict(ws) == dict(theirs)
        assert ws.url_for("room", room="x") == theirs.url_for("room", room="x")
        await ws.send_text(str(ws.url_for("room", room="x")))
        await ws.close()

    app = Starlette(
        routes=[WebSocketRoute("/rooms/{room}", endpoint, name="room")],
        middleware=[
            Middleware(_with_session),
            Middleware(AuthenticationMiddleware, backend=_Backend()),
        ],
    )
    async with hosted(app, "/rooms/lobby?name=Ada") as url:
        async with AioClient.connect(url, headers={"Cookie": "a=1; b=2"}) as ws:
            assert await ws.receive() == url.replace("lobby?name=Ada", "x")
    assert seen[0].path_params == {"room": "lobby"} and seen[0].cookies == {"a": "1", "b": "2"}


async def _never(*_: Any) -> Any:
    raise AssertionError("never called")


@pytest.mark.parametrize("name", ["session", "auth", "user", "app"])
def test_property_without_its_middleware(name: str) -> None:
    """E3, C18: an AssertionError that says what is missing."""
    with pytest.raises(AssertionError, match=name):
        getattr(WebSocket({"type": "websocket"}, _never, _never), name)


def test_constructor_leaves_both_states_connecting() -> None:
    """E2, E4, E15: the documented numbers."""
    ws = WebSocket({"type": "websocket"}, _never, _never)
    assert ws.client_state is ws.application_state is WebSocketState.CONNECTING
    assert issubclass(WebSocketState, enum.Enum)
    for state in DocumentedState:
        assert WebSocketState[state.name].value == state.value


def test_disconnect_error() -> None:
    """E14: a reason of None is ""."""
    for error in (WebSocketDisconnect(), WebSocketDisconnect(1000, None)):
        assert (error.code, error.reason) == (1000, "")
    parameters = inspect.signature(WebSocketDisconnect).parameters.values()
    assert [(p.name, p.default) for p in parameters] == [("code", 1000), ("reason", None)]
