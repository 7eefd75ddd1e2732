"""The life of a WebSocket: its states, what each allows, and what the server is told."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from simplews.errors import WebSocketDisconnect, WebSocketRuntimeError
from simplews.types import MultiMap
from simplews.websocket import WebSocket, WebSocketClose, WebSocketState

from .channel import CONNECT, DENIAL, Channel, accepted, disconnect, text

CONNECTING, CONNECTED, DISCONNECTED, RESPONSE = WebSocketState

ACCEPT = {"type": "websocket.accept", "subprotocol": None, "headers": []}
CLOSE = {"type": "websocket.close", "code": 1000, "reason": ""}
SEND = {"type": "websocket.send", "text": "a"}
START = {"type": "websocket.http.response.start", "status": 403, "headers": []}
BODY = {"type": "websocket.http.response.body", "body": b"no"}


def states(ws: WebSocket) -> tuple[WebSocketState, WebSocketState, WebSocketState]:
    return ws.client_state, ws.application_state, ws.connection_state


def test_states_are_numbers() -> None:
    """G1, C11: comparable, and as Starlette numbers them."""
    assert [(state.name, int(state)) for state in WebSocketState] == [
        ("CONNECTING", 0),
        ("CONNECTED", 1),
        ("DISCONNECTED", 2),
        ("RESPONSE", 3),
    ]
    assert WebSocketState.CONNECTING < WebSocketState.CONNECTED == 1


async def test_life() -> None:
    """G6, E4: both states, and the one that is made of them."""
    channel = Channel(CONNECT, text("a"), disconnect(1001, "bye"))
    ws = channel.open()
    assert states(ws) == (CONNECTING, CONNECTING, CONNECTING) and not ws.connected
    await ws.accept()
    assert states(ws) == (CONNECTED, CONNECTED, CONNECTED) and ws.connected
    assert await ws.receive_text() == "a"
    with pytest.raises(WebSocketDisconnect) as caught:
        await ws.receive_text()
    assert (caught.value.code, caught.value.reason) == (1001, "bye")
    assert states(ws) == (DISCONNECTED, CONNECTED, DISCONNECTED) and not ws.connected
    await ws.close()
    assert states(ws) == (DISCONNECTED, DISCONNECTED, DISCONNECTED)
    assert channel.sent == [ACCEPT], "C7: nothing goes to a client that has left"


# ---------------------------------------------------------------------- accept


@pytest.mark.parametrize(
    ("headers", "fields"),
    [
        (None, []),
        ({"X-Name": "ü"}, [(b"x-name", b"\xfc")]),
        ([(b"X-Name", b"a"), ("x-name", "b")], [(b"x-name", b"a"), (b"x-name", b"b")]),
        (MultiMap([("a", "1"), ("a", "2")]), [(b"a", b"1"), (b"a", b"2")]),
    ],
)
async def test_accept_headers(headers: Any, fields: list[tuple[bytes, bytes]]) -> None:
    """C3, G19: mappings, pairs of str, pairs of bytes."""
    channel = Channel(CONNECT)
    await channel.open().accept(headers=headers)
    assert channel.sent == [{**ACCEPT, "headers": fields}]


@pytest.mark.parametrize("headers", [{"a": "b\r\nc: d"}, {"a\n": "b"}, [("a", "\0")], {"a": "€"}])
async def test_accept_headers_cannot_smuggle(headers: Any) -> None:
    """Before anything is received or sent."""
    channel = Channel(CONNECT)
    ws = channel.open()
    with pytest.raises(ValueError):
        await ws.accept(headers=headers)
    assert channel.sent == [] and ws.connection_state is CONNECTING
    await ws.accept()


async def test_accept_subprotocol() -> None:
    """G15, C35: two names for what was chosen."""
    channel = Channel(CONNECT)
    ws = channel.open(subprotocols=["a", "b"])
    await ws.accept("b")
    assert channel.sent == [{**ACCEPT, "subprotocol": "b"}]
    assert ws.accepted_subprotocol == ws.subprotocol == "b"


async def test_accept_subprotocol_that_was_not_offered() -> None:
    """C13, G18; the connection can still be accepted."""
    channel = Channel(CONNECT)
    ws = channel.open(subprotocols=["a"])
    with pytest.raises(ValueError, match="did not offer subprotocol 'b', but a"):
        await ws.accept("b")
    with pytest.raises(ValueError, match="but none"):
        await Channel(CONNECT).open().accept("b")
    assert channel.sent == []
    await ws.accept("a")


async def test_accept_takes_connect_only_once() -> None:
    """C32: whoever has received it already may accept."""
    channel = Channel(CONNECT)
    ws = channel.open()
    assert await ws.receive() == CONNECT
    assert states(ws) == (CONNECTED, CONNECTING, CONNECTING)
    await ws.accept()
    assert channel.sent == [ACCEPT]


async def test_accept_twice() -> None:
    """G17: the error names the state, and what to do."""
    ws, channel = await accepted()
    with pytest.raises(WebSocketRuntimeError, match=r"cannot accept: .* CONNECTED: .* close\(\)"):
        await ws.accept()
    await ws.close()
    with pytest.raises(WebSocketRuntimeError, match=r"cannot accept: .* DISCONNECTED"):
        await ws.accept()
    assert channel.sent == [CLOSE]


async def test_accept_when_something_else_comes_first() -> None:
    """G17."""
    ws = Channel(text("a")).open()
    with pytest.raises(RuntimeError, match=r"'websocket\.connect', got 'websocket\.receive'"):
        await ws.accept()


async def test_client_that_leaves_before_it_connects() -> None:
    """A RuntimeError (G17) that says what it is."""
    channel = Channel(disconnect(1006))
    ws = channel.open()
    with pytest.raises(WebSocketDisconnect) as caught:
        await ws.accept()
    assert caught.value.code == 1006 and ws.connection_state is DISCONNECTED
    assert channel.sent == []


async def test_client_that_leaves_before_it_is_accepted() -> None:
    """Seen by the application, or only by the server's send()."""
    channel = Channel(CONNECT, disconnect(1001))
    ws = channel.open()
    await ws.receive()
    await ws.receive()
    with pytest.raises(WebSocketDisconnect) as caught:
        await ws.accept()
    assert caught.value.code == 1001 and channel.sent == []

    channel = Channel(CONNECT)
    channel.failure = BrokenPipeError()
    ws = channel.open()
    with pytest.raises(WebSocketDisconnect) as caught:
        await ws.accept()
    assert caught.value.code == 1006 and ws.connection_state is DISCONNECTED


# ----------------------------------------------------------------------- close


async def test_close() -> None:
    """E13, C33: a reason, "" and None are the same thing."""
    for args, code, reason in [
        ((), 1000, ""),
        ((4000, "bye"), 4000, "bye"),
        ((1001, None), 1001, ""),
    ]:
        ws, channel = await accepted()
        await ws.close(*args)
        assert channel.sent == [{"type": "websocket.close", "code": code, "reason": reason}]
        assert states(ws) == (CONNECTED, DISCONNECTED, DISCONNECTED)


async def test_close_again_does_nothing() -> None:
    """G21, C6, C44; the raw message stays strict."""
    ws, channel = await accepted()
    await ws.close()
    await ws.close(1011)
    assert channel.sent == [CLOSE]
    with pytest.raises(WebSocketRuntimeError, match=r"cannot send 'websocket\.close'"):
        await ws.send(CLOSE)


async def test_close_by_two_tasks() -> None:
    """ASGI: never two closes."""
    ws, channel = await accepted()
    await asyncio.gather(ws.close(), ws.close(1001))
    assert channel.sent == [CLOSE]


async def test_close_before_accept_refuses() -> None:
    """C5, G39: the server answers with 403."""
    channel = Channel(CONNECT)
    ws = channel.open(subprotocols=["other"])
    assert "graphql-ws" not in ws.subprotocols
    await ws.close(code=1002, reason="Unsupported protocol")
    assert channel.sent == [
        {"type": "websocket.close", "code": 1002, "reason": "Unsupported protocol"}
    ]
    assert ws.connection_state is DISCONNECTED


@pytest.mark.parametrize("failure", [OSError(), ConnectionResetError(), WebSocketDisconnect(1001)])
async def test_close_when_the_client_has_gone(failure: Exception) -> None:
    """C7: the server may say so with an OSError (ASGI 2.4)."""
    ws, channel = await accepted()
    channel.failure = failure
    await ws.close()
    assert ws.connection_state is DISCONNECTED


async def test_close_while_refusing_finishes_the_answer() -> None:
    """Nothing else can follow the start of an HTTP answer."""
    channel = Channel(CONNECT)
    ws = channel.open(extensions=DENIAL)
    await ws.send(START)
    assert ws.connection_state is RESPONSE
    await ws.close()
    await ws.close()
    assert channel.sent == [
        START,
        {"type": "websocket.http.response.body", "body": b"", "more_body": False},
    ]
    assert ws.connection_state is DISCONNECTED


@pytest.mark.parametrize(
    ("code", "reason"), [(1005, ""), (1006, ""), (999, ""), (2000, ""), (1000, "ü" * 62)]
)
async def test_close_with_what_must_not_be_sent(code: int, reason: str) -> None:
    """G20: a code that never travels, more than 123 bytes of reason."""
    ws, channel = await accepted()
    with pytest.raises(ValueError):
        await ws.close(code, reason)
    with pytest.raises(ValueError):
        WebSocketClose(code, reason)
    assert channel.sent == [] and ws.connected


async def test_a_server_that_refuses_a_close_is_heard() -> None:
    """Only the client's leaving is what close() does not mind."""
    ws, channel = await accepted()
    channel.failure = RuntimeError("no")
    with pytest.raises(RuntimeError, match="no"):
        await ws.close()
    assert ws.connection_state is DISCONNECTED


# ---------------------------------------------------------------- raw messages


async def test_raw_messages_keep_the_states() -> None:
    """L11, B20: the whole life, one message at a time."""
    channel = Channel(CONNECT, text("a"), disconnect(1001))
    ws = channel.open(subprotocols=["a"])
    assert await ws.receive() == CONNECT
    await ws.send({"type": "websocket.accept", "subprotocol": "a"})
    assert ws.connected and ws.accepted_subprotocol == "a"
    assert await ws.receive() == text("a")
    await ws.send(SEND)
    assert await ws.receive() == disconnect(1001)
    assert states(ws) == (DISCONNECTED, CONNECTED, DISCONNECTED)
    with pytest.raises(WebSocketRuntimeError, match="the peer has left with 1001"):
        await ws.receive()


async def test_raw_accept_before_connect_is_received() -> None:
    """Allowed, as in Starlette; messages may go out at once."""
    channel = Channel(CONNECT)
    ws = channel.open()
    await ws.send({"type": "websocket.accept"})
    await ws.send_text("a")
    assert ws.connected
    with pytest.raises(WebSocketRuntimeError, match=r"got 'websocket\.connect'"):
        await ws.receive_text()


ALLOWED = {
    CONNECTING: [ACCEPT, CLOSE, START],
    CONNECTED: [SEND, CLOSE],
    RESPONSE: [BODY],
    DISCONNECTED: [],
}


@pytest.mark.parametrize("message", [ACCEPT, CLOSE, SEND, START, BODY, {"type": "other"}])
@pytest.mark.parametrize("state", ALLOWED)
async def test_raw_send(state: WebSocketState, message: dict[str, Any]) -> None:
    """E7: what is not allowed is a RuntimeError, and is not sent."""
    channel = Channel(CONNECT)
    ws = channel.open(extensions=DENIAL)
    ways: dict[WebSocketState, list[Any]] = {
        CONNECTING: [],
        CONNECTED: [ACCEPT],
        RESPONSE: [START],
        DISCONNECTED: [ACCEPT, CLOSE],
    }
    for step in ways[state]:
        await ws.send(step)
    assert ws.application_state is state
    channel.sent.clear()
    if message in ALLOWED[state]:
        await ws.send(message)
        assert channel.sent == [message]
    else:
        with pytest.raises(WebSocketRuntimeError, match=state.name):
            await ws.send(message)
        assert channel.sent == [] and ws.application_state is state


async def test_raw_answer_in_several_pieces() -> None:
    """The last one, without more_body, ends it."""
    channel = Channel(CONNECT)
    ws = channel.open(extensions=DENIAL)
    await ws.send(START)
    await ws.send({**BODY, "more_body": True})
    assert ws.application_state is RESPONSE
    await ws.send(BODY)
    assert ws.application_state is DISCONNECTED


@pytest.mark.parametrize("scope", [{}, {"extensions": None}, {"extensions": {"tls": {}}}])
async def test_raw_answer_that_the_server_does_not_know(scope: dict[str, Any]) -> None:
    """It says what to use instead."""
    channel = Channel(CONNECT)
    ws = channel.open(**scope)
    with pytest.raises(WebSocketRuntimeError, match=r"does not have .* use reject\(\)"):
        await ws.send(START)
    assert channel.sent == [] and ws.application_state is CONNECTING


@pytest.mark.parametrize("kind", ["websocket.connect", "http.request"])
async def test_raw_receive_of_what_cannot_come(kind: str) -> None:
    """E6."""
    ws, _ = await accepted({"type": kind})
    with pytest.raises(WebSocketRuntimeError, match=kind):
        await ws.receive()


async def test_raw_receive_after_our_close() -> None:
    """Whoever wants to know how the client took it may wait for that."""
    ws, channel = await accepted()
    await ws.close()
    channel.put(disconnect(1000))
    assert await ws.receive() == disconnect(1000)


# -------------------------------------------------------------- reject and deny


async def test_reject_with_the_extension() -> None:
    """C26: status, header fields and body."""
    channel = Channel(CONNECT)
    ws = channel.open(extensions=DENIAL)
    await ws.reject(4001, "no token", status=401, headers={"WWW-Authenticate": "Bearer"}, body="ü")
    assert channel.sent == [
        {
            "type": "websocket.http.response.start",
            "status": 401,
            "headers": [(b"www-authenticate", b"Bearer"), (b"content-length", b"2")],
        },
        {"type": "websocket.http.response.body", "body": "ü".encode(), "more_body": False},
    ]
    assert ws.connection_state is DISCONNECTED


async def test_reject_without_the_extension() -> None:
    """B13: the server makes 403 of it."""
    channel = Channel(CONNECT)
    await channel.open().reject(4001, "no token", status=401)
    assert channel.sent == [{"type": "websocket.close", "code": 4001, "reason": "no token"}]


@pytest.mark.parametrize("extensions", [{}, DENIAL])
async def test_reject_that_a_page_can_see(extensions: Any) -> None:
    """C26: accept, and close at once."""
    channel = Channel(CONNECT)
    await channel.open(extensions=extensions).reject(4001, "no token", visible=True)
    assert channel.sent == [ACCEPT, {"type": "websocket.close", "code": 4001, "reason": "no token"}]


async def test_reject_that_a_page_with_subprotocols_can_see() -> None:
    """A browser fails a connection on which none of its subprotocols was chosen."""
    channel = Channel(CONNECT)
    await channel.open(subprotocols=["a", "b"]).reject(4001, visible=True)
    assert channel.sent[0] == {**ACCEPT, "subprotocol": "a"}


async def test_deny() -> None:
    """An HTTP answer where there is one, else a close."""
    channel = Channel(CONNECT)
    await channel.open(extensions=DENIAL).deny(503, {"Retry-After": "5"}, b"later")
    assert channel.sent[0]["status"] == 503
    assert channel.sent[0]["headers"] == [(b"retry-after", b"5"), (b"content-length", b"5")]
    channel = Channel(CONNECT)
    await channel.open().deny(503)
    assert channel.sent == [{"type": "websocket.close", "code": 1008, "reason": ""}]


async def test_deny_without_content() -> None:
    """RFC 9110 §8.6: 204 has no Content-Length."""
    channel = Channel(CONNECT)
    await channel.open(extensions=DENIAL).deny(204)
    assert channel.sent[0]["headers"] == []


@pytest.mark.parametrize(
    "args",
    [
        {"status": 101},
        {"status": 600},
        {"code": 1005},
        {"reason": "x" * 124},
        {"headers": {"a": "b\r\n"}},
    ],
)
@pytest.mark.parametrize("extensions", [{}, DENIAL])
async def test_reject_with_what_cannot_be_sent(args: Any, extensions: Any) -> None:
    """The same errors, whatever the server has; nothing is sent."""
    channel = Channel(CONNECT)
    ws = channel.open(extensions=extensions)
    with pytest.raises(ValueError):
        await ws.reject(**args)
    assert channel.sent == [] and ws.connection_state is CONNECTING


async def test_reject_after_accept() -> None:
    """Too late; the error says what to do."""
    ws, channel = await accepted()
    with pytest.raises(WebSocketRuntimeError, match=r"cannot reject: .* CONNECTED: .* close\(\)"):
        await ws.reject()
    assert channel.sent == [] and ws.connected


@pytest.mark.parametrize("extensions", [{}, DENIAL])
@pytest.mark.parametrize("visible", [False, True])
async def test_reject_of_a_client_that_has_gone(extensions: Any, visible: bool) -> None:
    """Nobody is left to refuse; again, too."""
    channel = Channel(CONNECT)
    channel.failure = OSError()
    ws = channel.open(extensions=extensions)
    await ws.reject(visible=visible)
    await ws.reject(visible=visible)
    assert ws.connection_state is DISCONNECTED


@pytest.mark.parametrize("reason", ["bye", None, ""])
async def test_websocket_close_is_an_application(reason: str | None) -> None:
    """L14, C42."""
    channel = Channel(CONNECT)
    application = WebSocketClose(4000, reason)
    await application({"type": "websocket"}, channel.receive, channel.send)
    assert channel.sent == [{"type": "websocket.close", "code": 4000, "reason": reason or ""}]
    assert (WebSocketClose().code, WebSocketClose().reason) == (1000, "")


# ------------------------------------------------------------- context manager


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (None, 1000),
        (ValueError(), 1011),
        (asyncio.CancelledError(), 1001),
        (WebSocketDisconnect(1001), 1000),
    ],
    ids=repr,
)
async def test_context_manager_closes(error: BaseException | None, code: int) -> None:
    """And lets what was raised pass."""
    ws, channel = await accepted()
    try:
        async with ws as same:
            assert same is ws
            if error is not None:
                raise error
    except BaseException as exc:
        assert exc is error
    else:
        assert error is None
    assert channel.sent == [{"type": "websocket.close", "code": code, "reason": ""}]
