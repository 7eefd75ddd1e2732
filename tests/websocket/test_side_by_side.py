"""
The same trace through Starlette's WebSocket and ours: what the server gets, what the calls give.

A trace is what the client does, and what the application calls. Both classes must
tell the server the same messages, return and raise the same, and end in the same
states. Where ours differs on purpose, `DIFFERENCES` has both outcomes and the
reason; a difference that disappears fails as well.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import pytest
from starlette.responses import PlainTextResponse
from starlette.websockets import WebSocket as Starlettes
from starlette.websockets import WebSocketClose as StarlettesClose
from starlette.websockets import WebSocketDisconnect as StarlettesDisconnect

from simplews.errors import WebSocketDisconnect
from simplews.websocket import WebSocket, WebSocketClose

from .channel import CONNECT, DENIAL, Channel, disconnect, text


def binary(data: bytes) -> dict[str, Any]:
    return {"type": "websocket.receive", "bytes": data}


#: A step that is no call: from here on, the server's send() says that the client has gone.
GONE = ("gone",)

ACCEPT = ("accept",)
START = {"type": "websocket.http.response.start", "status": 403, "headers": []}
BODY = {"type": "websocket.http.response.body", "body": b"no"}
BODY_AND_MORE = {**BODY, "more_body": True}


@dataclass
class Trace:
    """
    Attributes:
        steps: The application's calls: a method's name, and its arguments.
        events: What the client does, after it has connected.
        scope: What the scope has besides.
        first: The server's first message.
    """

    steps: list[tuple[Any, ...]]
    events: list[dict[str, Any]] = field(default_factory=list)
    scope: dict[str, Any] = field(default_factory=dict)
    first: dict[str, Any] = field(default_factory=lambda: dict(CONNECT))


TRACES = {
    # ------------------------------------------------------------------ accept
    "accept": Trace([ACCEPT]),
    "accept with a subprotocol": Trace([("accept", "b")], scope={"subprotocols": ["a", "b"]}),
    "accept with a subprotocol that was not offered": Trace([("accept", "b")]),
    "accept with header fields": Trace([("accept", None, [(b"x-a", b"1"), (b"x-a", b"2")])]),
    "accept with header fields in capitals": Trace([("accept", None, [(b"X-A", b"1")])]),
    "accept with header fields that smuggle": Trace([("accept", None, [(b"a", b"b\r\nc: d")])]),
    "accept with no header fields": Trace([("accept", None, [])]),
    "accept after receiving connect": Trace([("receive",), ACCEPT]),
    "accept twice": Trace([ACCEPT, ACCEPT]),
    "accept after close": Trace([("close",), ACCEPT]),
    "accept when a message comes first": Trace([ACCEPT], first=text("a")),
    "accept when a disconnect comes first": Trace([ACCEPT], first=disconnect(1006)),
    "accept after a disconnect": Trace([("receive",), ("receive",), ACCEPT], [disconnect(1001)]),
    "accept when the client has gone": Trace([GONE, ACCEPT]),
    # ------------------------------------------------------------------- close
    "close": Trace([ACCEPT, ("close",)]),
    "close with a code and a reason": Trace([ACCEPT, ("close", 4000, "bye ü")]),
    "close with the reason None": Trace([ACCEPT, ("close", 1001, None)]),
    "close before accept": Trace([("close", 4001, "no token")]),
    "close before accept, after connect": Trace([("receive",), ("close",)]),
    "close twice": Trace([ACCEPT, ("close",), ("close", 1011)]),
    "close after a disconnect": Trace([ACCEPT, ("receive_text",), ("close",)], [disconnect()]),
    "close when the client has gone": Trace([ACCEPT, GONE, ("close",)]),
    "close with a code that never travels": Trace([ACCEPT, ("close", 1006)]),
    "close with a reason that does not fit": Trace([ACCEPT, ("close", 1000, "x" * 124)]),
    # ------------------------------------------------------------------ sending
    "send text": Trace([ACCEPT, ("send_text", ""), ("send_text", "ü€😀")]),
    "send bytes": Trace([ACCEPT, ("send_bytes", b""), ("send_bytes", b"\xff")]),
    "send JSON": Trace([ACCEPT, ("send_json", {"a": ["ü", 1.5, None]}), ("send_json", "x")]),
    "send JSON in bytes": Trace([ACCEPT, ("send_json", {"a": "ü"}, "binary")]),
    "send what is no JSON": Trace([ACCEPT, ("send_json", {1, 2})]),
    "send JSON in another mode": Trace([ACCEPT, ("send_json", {}, "other")]),
    "send bytes as text": Trace([ACCEPT, ("send_text", b"a")]),
    "send before accept": Trace([("send_text", "a"), ("send_bytes", b""), ("send_json", 1)]),
    "send after close": Trace([ACCEPT, ("close",), ("send_text", "a"), ("send_bytes", b"")]),
    "send after a disconnect": Trace(
        [ACCEPT, ("receive_text",), ("send_text", "a")], [disconnect(1001, "bye")]
    ),
    "send when the client has gone": Trace([ACCEPT, GONE, ("send_text", "a")]),
    "send again when the client has gone": Trace(
        [ACCEPT, GONE, ("send_bytes", b""), ("send_text", "a")]
    ),
    # ---------------------------------------------------------------- receiving
    "receive text": Trace([ACCEPT, ("receive_text",)], [text("ü")]),
    "receive bytes": Trace([ACCEPT, ("receive_bytes",)], [binary(b"\xff")]),
    "receive empty messages": Trace(
        [ACCEPT, ("receive_text",), ("receive_bytes",)], [text(""), binary(b"")]
    ),
    "receive with both keys": Trace(
        [ACCEPT, ("receive_text",), ("receive_bytes",)],
        [{**text("a"), "bytes": None}, {**binary(b"a"), "text": None}],
    ),
    "receive JSON": Trace([ACCEPT, ("receive_json",)], [text('{"a": "ü"}')]),
    "receive JSON in bytes": Trace(
        [ACCEPT, ("receive_json", "binary")], [binary('["ü"]'.encode())]
    ),
    "receive JSON in another mode": Trace([ACCEPT, ("receive_json", "other")]),
    "receive what is no JSON": Trace([ACCEPT, ("receive_json",)], [text("no")]),
    "receive binary for text": Trace([ACCEPT, ("receive_text",)], [binary(b"a")]),
    "receive text for binary": Trace([ACCEPT, ("receive_bytes",)], [text("a")]),
    "receive binary for text, with both keys": Trace(
        [ACCEPT, ("receive_text",)], [{**binary(b"a"), "text": None}]
    ),
    "receive before accept": Trace([("receive_text",), ("receive_bytes",), ("receive_json",)]),
    "receive before accept, after connect": Trace([("receive",), ("receive_text",)]),
    "receive after close": Trace([ACCEPT, ("close",), ("receive_text",)], [text("a")]),
    "receive a disconnect": Trace([ACCEPT, ("receive_text",)], [disconnect(1001, "bye")]),
    "receive a disconnect as bytes": Trace([ACCEPT, ("receive_bytes",)], [disconnect(1006)]),
    "receive a disconnect as JSON": Trace([ACCEPT, ("receive_json",)], [disconnect(4000)]),
    "receive a disconnect without a code": Trace(
        [ACCEPT, ("receive_text",)], [{"type": "websocket.disconnect"}]
    ),
    "receive after a disconnect": Trace(
        [ACCEPT, ("receive_text",), ("receive_text",)], [disconnect()]
    ),
    "receive when the client has gone": Trace(
        [ACCEPT, GONE, ("send_text", "a"), ("receive_text",)], [text("b")]
    ),
    # ---------------------------------------------------------------- iterating
    "iterate text": Trace([ACCEPT, ("iter_text",)], [text("a"), text(""), disconnect(1006)]),
    "iterate bytes": Trace([ACCEPT, ("iter_bytes",)], [binary(b"a"), disconnect(1001)]),
    "iterate JSON": Trace([ACCEPT, ("iter_json",)], [text("1"), text("[]"), disconnect(4000)]),
    "iterate before accept": Trace([("iter_text",)]),
    "iterate after close": Trace([ACCEPT, ("close",), ("iter_text",)], [text("a")]),
    "iterate over the wrong kind": Trace([ACCEPT, ("iter_text",)], [binary(b"a")]),
    # ------------------------------------------------------------- raw messages
    "raw life": Trace(
        [
            ("receive",),
            ("send", {"type": "websocket.accept"}),
            ("receive",),
            ("send", {"type": "websocket.send", "text": "a"}),
            ("receive",),
        ],
        [text("a"), disconnect(1001)],
    ),
    "raw accept before connect": Trace(
        [("send", {"type": "websocket.accept"}), ("send_text", "a")],
    ),
    "raw receive after a disconnect": Trace(
        [("receive",), ("receive",), ("receive",)], [disconnect(1001)]
    ),
    "raw receive of what cannot come": Trace(
        [("receive",), ("receive",)], [{"type": "websocket.connect"}]
    ),
    "raw receive after close": Trace([ACCEPT, ("close",), ("receive",)], [disconnect(1000)]),
    "raw receive when the client has gone": Trace(
        [ACCEPT, GONE, ("send_text", "a"), ("receive",)], [disconnect(1001)]
    ),
    "raw send before accept": Trace([("send", {"type": "websocket.send", "text": "a"})]),
    "raw accept twice": Trace([ACCEPT, ("send", {"type": "websocket.accept"})]),
    "raw close twice": Trace(
        [ACCEPT, ("send", {"type": "websocket.close"}), ("send", {"type": "websocket.close"})]
    ),
    "raw close after a disconnect": Trace(
        [ACCEPT, ("receive",), ("send", {"type": "websocket.close"})], [disconnect(1001)]
    ),
    # ------------------------------------------------------------------- denial
    "denial": Trace([("send", START), ("send", BODY)], scope={"extensions": DENIAL}),
    "denial in pieces": Trace(
        [("send", START), ("send", BODY_AND_MORE), ("send", BODY)], scope={"extensions": DENIAL}
    ),
    "denial, and a message instead of the body": Trace(
        [("send", START), ("send_text", "a"), ("send", {"type": "websocket.close"})],
        scope={"extensions": DENIAL},
    ),
    "denial, and then something": Trace(
        [("send", START), ("send", BODY), ("send", BODY), ("send_text", "a")],
        scope={"extensions": DENIAL},
    ),
    "denial after accept": Trace([ACCEPT, ("send", START)], scope={"extensions": DENIAL}),
    "denial that the server does not know": Trace([("send", START)]),
    "denial with a response object": Trace([("respond",)], scope={"extensions": DENIAL}),
    "denial that close() interrupts": Trace(
        [("send", START), ("close",)], scope={"extensions": DENIAL}
    ),
}


@dataclass
class Outcome:
    """
    Attributes:
        sent: What reached the server.
        results: What each call gave: its value, or the name of its error.
        states: client_state and application_state, at the end.
    """

    sent: list[Any]
    results: list[Any]
    states: tuple[int, int]


async def run(trace: Trace, cls: Any) -> Outcome:
    channel = Channel(trace.first, *trace.events)
    ws = cls({"type": "websocket", "headers": [], **trace.scope}, channel.receive, channel.send)
    results = []
    for name, *arguments in trace.steps:
        if (name,) == GONE:
            channel.failure = OSError()
            continue
        try:
            results.append(await step(ws, name, arguments))
        except Exception as exc:
            results.append(named(exc))
    states = (int(ws.client_state.value), int(ws.application_state.value))
    return Outcome(channel.sent, results, states)


async def step(ws: Any, name: str, arguments: list[Any]) -> Any:
    if name == "respond":
        return await PlainTextResponse("no", 401)(ws.scope, ws.receive, ws.send)
    if name.startswith("iter_"):
        return [item async for item in getattr(ws, name)(*arguments)]
    return await getattr(ws, name)(*arguments)


def named(exc: Exception) -> str:
    """What an application would catch it as: one of the words that both have, or a builtin."""
    if isinstance(exc, (WebSocketDisconnect, StarlettesDisconnect)):
        return f"WebSocketDisconnect({exc.code}, {exc.reason!r})"
    if isinstance(exc, (TypeError, OSError)):
        return "TypeError" if isinstance(exc, TypeError) else "OSError"
    return next(cls.__name__ for cls in type(exc).__mro__ if cls.__module__ in ("builtins", "json"))


# What the server gets of accept(), close(), and close() in the middle of an HTTP answer.
ACCEPTED = {"type": "websocket.accept", "subprotocol": None, "headers": []}
CLOSED = {"type": "websocket.close", "code": 1000, "reason": ""}
FINISHED = {"type": "websocket.http.response.body", "body": b"", "more_body": False}


LEFT = "WebSocketDisconnect(1001, '')"
LOST = "WebSocketDisconnect(1006, '')"
BYE = "WebSocketDisconnect(1001, 'bye')"


@dataclass
class Difference:
    """Why ours differs; what the server gets, what the calls give, and the states at the end."""

    why: str
    theirs: Outcome
    ours: Outcome


#: The only differences, each on purpose. States are Starlette's numbers:
#: 0 connecting, 1 connected, 2 disconnected, 3 response.
DIFFERENCES = {
    "accept with a subprotocol that was not offered": Difference(
        "C13: a browser would fail the connection (RFC 6455 §4.1)",
        Outcome([{**ACCEPTED, "subprotocol": "b"}], [None], (1, 1)),
        Outcome([], ["ValueError"], (0, 0)),
    ),
    "accept with header fields in capitals": Difference(
        "ASGI wants the names of header fields in lower case",
        Outcome([{**ACCEPTED, "headers": [(b"X-A", b"1")]}], [None], (1, 1)),
        Outcome([{**ACCEPTED, "headers": [(b"x-a", b"1")]}], [None], (1, 1)),
    ),
    "accept with header fields that smuggle": Difference(
        "C3: a line break in a value is another header field (RFC 9110 §5.5)",
        Outcome([{**ACCEPTED, "headers": [(b"a", b"b\r\nc: d")]}], [None], (1, 1)),
        Outcome([], ["ValueError"], (0, 0)),
    ),
    "accept after close": Difference(
        "the state is looked at before connect is waited for, which may never come",
        Outcome([CLOSED], [None, "RuntimeError"], (1, 2)),
        Outcome([CLOSED], [None, "RuntimeError"], (0, 2)),
    ),
    "accept when a disconnect comes first": Difference(
        "a client that left is no misuse; the error is a RuntimeError all the same",
        Outcome([], ["RuntimeError"], (0, 0)),
        Outcome([], [LOST], (2, 0)),
    ),
    "accept after a disconnect": Difference(
        "nobody is there any more, and the handler learns it now",
        Outcome([ACCEPTED], [CONNECT, disconnect(1001), None], (2, 1)),
        Outcome([], [CONNECT, disconnect(1001), LEFT], (2, 0)),
    ),
    "accept when the client has gone": Difference(
        "the server's OSError (ASGI 2.4) is WebSocketDisconnect in every state",
        Outcome([], ["OSError"], (1, 1)),
        Outcome([], [LOST], (2, 2)),
    ),
    "close twice": Difference(
        "C6: close() is idempotent; the raw message is as strict as theirs",
        Outcome([ACCEPTED, CLOSED], [None, None, "RuntimeError"], (1, 2)),
        Outcome([ACCEPTED, CLOSED], [None, None, None], (1, 2)),
    ),
    "close after a disconnect": Difference(
        "C7: nobody is there to be told; some servers raise",
        Outcome([ACCEPTED, CLOSED], [None, LEFT, None], (2, 2)),
        Outcome([ACCEPTED], [None, LEFT, None], (2, 2)),
    ),
    "close when the client has gone": Difference(
        "C7: what close() is for has happened",
        Outcome([ACCEPTED], [None, LOST], (1, 2)),
        Outcome([ACCEPTED], [None, None], (2, 2)),
    ),
    "close with a code that never travels": Difference(
        "RFC 6455 §7.4.1; servers raise, or break the connection",
        Outcome([ACCEPTED, {**CLOSED, "code": 1006}], [None, None], (1, 2)),
        Outcome([ACCEPTED], [None, "ValueError"], (1, 1)),
    ),
    "close with a reason that does not fit": Difference(
        "G20, RFC 6455 §5.5: 123 bytes; servers raise, or break the connection",
        Outcome([ACCEPTED, {**CLOSED, "reason": "x" * 124}], [None, None], (1, 2)),
        Outcome([ACCEPTED], [None, "ValueError"], (1, 1)),
    ),
    "send bytes as text": Difference(
        "said where it happens, and not by the server, or by the client's decoder",
        Outcome([ACCEPTED, {"type": "websocket.send", "text": b"a"}], [None, None], (1, 1)),
        Outcome([ACCEPTED], [None, "TypeError"], (1, 1)),
    ),
    "send after a disconnect": Difference(
        "one task reads, another sends: it learns the same, with the same code",
        Outcome([ACCEPTED, {"type": "websocket.send", "text": "a"}], [None, BYE, None], (2, 1)),
        Outcome([ACCEPTED], [None, BYE, BYE], (2, 1)),
    ),
    "send when the client has gone": Difference(
        "both states say that the client has gone",
        Outcome([ACCEPTED], [None, LOST], (1, 2)),
        Outcome([ACCEPTED], [None, LOST], (2, 2)),
    ),
    "send again when the client has gone": Difference(
        "it is still the client that has gone, and no misuse",
        Outcome([ACCEPTED], [None, LOST, "RuntimeError"], (1, 2)),
        Outcome([ACCEPTED], [None, LOST, LOST], (2, 2)),
    ),
    "receive binary for text": Difference(
        "C8: a TypeError that has the message",
        Outcome([ACCEPTED], [None, "KeyError"], (1, 1)),
        Outcome([ACCEPTED], [None, "TypeError"], (1, 1)),
    ),
    "receive text for binary": Difference(
        "C8: a TypeError that has the message",
        Outcome([ACCEPTED], [None, "KeyError"], (1, 1)),
        Outcome([ACCEPTED], [None, "TypeError"], (1, 1)),
    ),
    "receive binary for text, with both keys": Difference(
        "C8, G26: None is no text",
        Outcome([ACCEPTED], [None, None], (1, 1)),
        Outcome([ACCEPTED], [None, "TypeError"], (1, 1)),
    ),
    "receive a disconnect without a code": Difference(
        "G27: 1000 when it is missing, as ASGI lets it be",
        Outcome([ACCEPTED], [None, "KeyError"], (2, 1)),
        Outcome([ACCEPTED], [None, "WebSocketDisconnect(1000, '')"], (2, 1)),
    ),
    "receive when the client has gone": Difference(
        "both states say that the client has gone",
        Outcome([ACCEPTED], [None, LOST, "RuntimeError"], (1, 2)),
        Outcome([ACCEPTED], [None, LOST, "RuntimeError"], (2, 2)),
    ),
    "iterate after close": Difference(
        "G30: a loop ends when the connection is closed, whoever closed it",
        Outcome([ACCEPTED, CLOSED], [None, None, "RuntimeError"], (1, 2)),
        Outcome([ACCEPTED, CLOSED], [None, None, []], (1, 2)),
    ),
    "iterate over the wrong kind": Difference(
        "C8: a TypeError that has the message",
        Outcome([ACCEPTED], [None, "KeyError"], (1, 1)),
        Outcome([ACCEPTED], [None, "TypeError"], (1, 1)),
    ),
    "raw receive when the client has gone": Difference(
        "both states say that the client has gone, and nothing more is awaited",
        Outcome([ACCEPTED], [None, LOST, disconnect(1001)], (2, 2)),
        Outcome([ACCEPTED], [None, LOST, "RuntimeError"], (2, 2)),
    ),
    "raw close after a disconnect": Difference(
        "ASGI: a server may raise for it; nobody is there to be told",
        Outcome([ACCEPTED, {"type": "websocket.close"}], [None, disconnect(1001), None], (2, 2)),
        Outcome([ACCEPTED], [None, disconnect(1001), LEFT], (2, 1)),
    ),
    "denial that the server does not know": Difference(
        "ASGI: only with the extension; reject() does without it if need be",
        Outcome([START], [None], (0, 3)),
        Outcome([], ["RuntimeError"], (0, 0)),
    ),
    "denial that close() interrupts": Difference(
        "C6: close() ends the connection in every state; here, the HTTP answer",
        Outcome([START], [None, "RuntimeError"], (0, 3)),
        Outcome([START, FINISHED], [None, None], (0, 2)),
    ),
}


@pytest.mark.parametrize("name", TRACES)
async def test_trace(name: str) -> None:
    """Alike, or different as the table says."""
    theirs, ours = await run(TRACES[name], Starlettes), await run(TRACES[name], WebSocket)
    if name in DIFFERENCES:
        assert theirs != ours, "there is no difference any more"
        assert theirs == DIFFERENCES[name].theirs
        assert ours == DIFFERENCES[name].ours
    else:
        assert ours == theirs


def test_every_difference_has_its_trace() -> None:
    """And its reason."""
    assert set(DIFFERENCES) <= set(TRACES)
    assert all(difference.why for difference in DIFFERENCES.values())


@pytest.mark.parametrize("arguments", [(), (4000,), (4000, "bye"), (1001, None)])
async def test_websocket_close(arguments: tuple[Any, ...]) -> None:
    """The application that refuses."""
    theirs, ours = Channel(), Channel()
    scope: dict[str, Any] = {"type": "websocket"}
    await StarlettesClose(*arguments)(scope, theirs.receive, theirs.send)
    await WebSocketClose(*arguments)(scope, ours.receive, ours.send)
    assert ours.sent == theirs.sent
