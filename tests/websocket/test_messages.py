"""Readers, writers and iterators."""

from __future__ import annotations

import asyncio
import enum
import json
from collections.abc import AsyncIterator, Callable
from datetime import date
from decimal import Decimal
from typing import Any

import pytest

from simplews import payloads
from simplews.errors import (
    UnexpectedMessage,
    WebSocketDisconnect,
    WebSocketError,
    WebSocketRuntimeError,
)
from simplews.websocket import WebSocket, WebSocketState

from ..peer import settled
from .channel import CONNECT, DENIAL, Channel, accepted, disconnect, text

READERS = ["receive_text", "receive_bytes", "receive_json", "receive_typed"]
WRITERS: dict[str, Any] = {
    "send_text": "a",
    "send_bytes": b"a",
    "send_json": [],
    "send_typed": {},
}


def binary(data: bytes) -> dict[str, Any]:
    return {"type": "websocket.receive", "bytes": data}


# --------------------------------------------------------------------- readers


@pytest.mark.parametrize("data", ["a", "", "ü€😀"])
async def test_receive_text(data: str) -> None:
    """G23, B16: an empty message is one."""
    ws, _ = await accepted(text(data))
    assert await ws.receive_text() == data


@pytest.mark.parametrize("data", [b"a", b"", b"\xff"])
async def test_receive_bytes(data: bytes) -> None:
    """G24."""
    ws, _ = await accepted(binary(data))
    assert await ws.receive_bytes() == data


async def test_both_keys_with_one_none() -> None:
    """G26."""
    kind = "websocket.receive"
    ws, _ = await accepted(
        {"type": kind, "text": "", "bytes": None},
        {"type": kind, "text": None, "bytes": b""},
        {"type": kind, "text": None, "bytes": b"x"},
        {"type": kind, "text": "x", "bytes": None},
    )
    assert await ws.receive_text() == ""
    assert await ws.receive_bytes() == b""
    with pytest.raises(UnexpectedMessage) as caught:
        await ws.receive_text()
    assert caught.value.message == b"x"
    with pytest.raises(UnexpectedMessage) as caught:
        await ws.receive_bytes()
    assert caught.value.message == "x"


@pytest.mark.parametrize("event", [{}, {"text": None, "bytes": None}])
@pytest.mark.parametrize("reader", ["receive_text", "receive_bytes"])
async def test_message_without_content_is_the_servers_fault(reader: str, event: Any) -> None:
    """ASGI: "at least one must be non-None"."""
    ws, _ = await accepted({"type": "websocket.receive", **event})
    with pytest.raises(WebSocketRuntimeError, match="without a message"):
        await getattr(ws, reader)()


@pytest.mark.parametrize("reader", ["receive_text", "receive_json", "receive_typed"])
async def test_wrong_kind_is_a_type_error_that_has_the_message(reader: str) -> None:
    """C8: nothing is lost, and the next message can be read."""
    ws, _ = await accepted(binary(b"1"), text("2"))
    with pytest.raises(
        TypeError, match=r"expected a text message, .* binary .*\.message"
    ) as caught:
        await getattr(ws, reader)()
    assert isinstance(caught.value, UnexpectedMessage) and isinstance(caught.value, WebSocketError)
    assert caught.value.message == b"1"
    assert await ws.receive_json() == 2


async def test_wrong_kind_for_bytes() -> None:
    """C8, the other way round."""
    ws, _ = await accepted(text("1"), text("2"))
    with pytest.raises(TypeError, match="expected a binary message") as caught:
        await ws.receive_bytes()
    assert isinstance(caught.value, UnexpectedMessage) and caught.value.message == "1"
    with pytest.raises(TypeError):
        await ws.receive_json("binary")


async def test_receive_json() -> None:
    """G25, E10: in a text or a binary message."""
    ws, _ = await accepted(text('{"a": [1, "ü"]}'), binary('"ü"'.encode()))
    assert await ws.receive_json() == {"a": [1, "ü"]}
    assert await ws.receive_json(mode="binary") == "ü"


async def test_receive_json_of_what_is_none() -> None:
    """G25: the decoder's own error."""
    ws, _ = await accepted(text("no"), binary(b"\xff"))
    with pytest.raises(json.JSONDecodeError):
        await ws.receive_json()
    with pytest.raises(ValueError):
        await ws.receive_json("binary")


@pytest.mark.parametrize("orjson", [True, False])
async def test_json_with_and_without_orjson(monkeypatch: Any, orjson: bool) -> None:
    """C20: the same bytes."""
    if not orjson:
        monkeypatch.setattr(payloads, "orjson", None)
    ws, channel = await accepted(text('{"a":1}'))
    assert await ws.receive_json() == {"a": 1}
    await ws.send_json({"a": ["ü", 1]})
    await ws.send_json({"a": "ü"}, mode="binary")
    assert channel.sent == [
        {"type": "websocket.send", "text": '{"a":["ü",1]}'},
        {"type": "websocket.send", "bytes": '{"a":"ü"}'.encode()},
    ]


async def test_json_mode_that_does_not_exist() -> None:
    """C45, E10: before anything is taken or sent, and in any state."""
    ws = Channel().open()
    other: Any = "other"
    for call in (lambda: ws.receive_json(other), lambda: ws.send_json({}, other)):
        with pytest.raises(WebSocketRuntimeError, match="'text' or 'binary', not 'other'"):
            await call()
    with pytest.raises(WebSocketRuntimeError, match="not 'other'"):
        await anext(ws.iter_json(other))


async def test_disconnect_without_a_code() -> None:
    """G27: 1000 and "" are what is missing."""
    for event in ({}, {"code": None, "reason": None}):
        ws, _ = await accepted({"type": "websocket.disconnect", **event})
        with pytest.raises(WebSocketDisconnect) as caught:
            await ws.receive_text()
        assert (caught.value.code, caught.value.reason) == (1000, "")


async def test_disconnect_with_code_zero_is_passed_on() -> None:
    """Only what is missing is replaced."""
    ws, _ = await accepted({"type": "websocket.disconnect", "code": 0})
    with pytest.raises(WebSocketDisconnect) as caught:
        await ws.receive_text()
    assert caught.value.code == 0


# --------------------------------------------------------------------- writers


async def test_send() -> None:
    """G28, B20: one message each."""
    ws, channel = await accepted()
    await ws.send_text("ü")
    await ws.send_bytes(b"\xff")
    await ws.send_bytes(bytearray(b"b"))
    await ws.send_bytes(memoryview(b"c"))
    kind = "websocket.send"
    assert channel.sent == [
        {"type": kind, "text": "ü"},
        {"type": kind, "bytes": b"\xff"},
        {"type": kind, "bytes": b"b"},
        {"type": kind, "bytes": b"c"},
    ]
    assert all(type(event.get("bytes", b"")) is bytes for event in channel.sent)


@pytest.mark.parametrize(
    ("writer", "data"),
    [
        ("send_text", b"a"),
        ("send_text", None),
        ("send_bytes", "a"),
        ("send_bytes", [1]),
        ("send_json", object()),
        ("send_json", {1, 2}),
        ("send_typed", object()),
    ],
)
async def test_send_of_what_cannot_be_sent(writer: str, data: Any) -> None:
    """G29: a TypeError, and nothing is sent."""
    ws, channel = await accepted()
    with pytest.raises(TypeError):
        await getattr(ws, writer)(data)
    assert channel.sent == [] and ws.connected


async def test_typed_round_trip() -> None:
    """G32, G33, G40."""
    ws, channel = await accepted(text('{"price":"100.50::D","date":"2025-01-15::d"}::TYTX'))
    data = await ws.receive_typed()
    assert data == {"price": Decimal("100.50"), "date": date(2025, 1, 15)}
    await ws.send_typed(data)
    await ws.send_typed(data, "JS")
    assert [event["text"] for event in channel.sent] == [
        '{"price":"100.50::D","date":"2025-01-15::d"}::TYTX',
        '{"price":"100.50::N","date":"2025-01-15::D"}::JS',
    ]


# ---------------------------------------------------------------- wrong states


async def connecting() -> WebSocket:
    return Channel(CONNECT).open()


async def closed() -> WebSocket:
    ws, _ = await accepted()
    await ws.close()
    return ws


async def refusing() -> WebSocket:
    ws = Channel(CONNECT).open(extensions=DENIAL)
    await ws.send({"type": "websocket.http.response.start", "status": 403, "headers": []})
    return ws


@pytest.mark.parametrize("call", [*READERS, *WRITERS])
@pytest.mark.parametrize(
    ("make", "message"),
    [
        (connecting, r"CONNECTING: it has not been accepted; call accept\(\)"),
        (closed, "DISCONNECTED: it has been closed"),
        (refusing, "RESPONSE: the client is being refused"),
    ],
)
async def test_wrong_state(make: Any, message: str, call: str) -> None:
    """G23, G28, C9: a RuntimeError that names the state, and what to do."""
    ws = await make()
    arguments = [WRITERS[call]] if call in WRITERS else []
    with pytest.raises(WebSocketRuntimeError, match=message):
        await getattr(ws, call)(*arguments)


@pytest.mark.parametrize("reader", READERS)
async def test_reading_on_after_the_disconnect(reader: str) -> None:
    """G23: it has been told once; a loop that swallows that does not run for ever."""
    ws, _ = await accepted(disconnect(1001))
    with pytest.raises(WebSocketDisconnect):
        await getattr(ws, reader)()
    with pytest.raises(WebSocketRuntimeError, match="DISCONNECTED: the peer has left with 1001"):
        await getattr(ws, reader)()


@pytest.mark.parametrize("writer", WRITERS)
async def test_sending_after_the_disconnect(writer: str) -> None:
    """A race and no misuse: the same error, with the same code, as the reader's."""
    ws, channel = await accepted(disconnect(1001, "bye"))
    with pytest.raises(WebSocketDisconnect):
        await ws.receive_text()
    with pytest.raises(WebSocketDisconnect) as caught:
        await getattr(ws, writer)(WRITERS[writer])
    assert (caught.value.code, caught.value.reason) == (1001, "bye")
    assert isinstance(caught.value, RuntimeError)
    with pytest.raises(WebSocketDisconnect):
        await ws.send({"type": "websocket.send", "text": "a"})
    assert channel.sent == []


@pytest.mark.parametrize("failure", [OSError("gone"), BrokenPipeError(), ConnectionResetError()])
@pytest.mark.parametrize("writer", WRITERS)
async def test_client_that_is_found_gone_while_sending(writer: str, failure: OSError) -> None:
    """ASGI 2.4: send() raises OSError; 1006, and both states say so."""
    ws, channel = await accepted()
    channel.failure = failure
    for cause in (failure, None):
        with pytest.raises(WebSocketDisconnect) as caught:
            await getattr(ws, writer)(WRITERS[writer])
        assert (caught.value.code, caught.value.__cause__) == (1006, cause)
    assert ws.client_state is ws.application_state is WebSocketState.DISCONNECTED
    with pytest.raises(WebSocketRuntimeError, match="left with 1006"):
        await ws.receive_text()
    await ws.close()


async def test_other_failures_of_the_server_are_passed_on() -> None:
    """They are none of ours, and say nothing about the client."""
    ws, channel = await accepted()
    channel.failure = RuntimeError("bug")
    with pytest.raises(RuntimeError, match="bug"):
        await ws.send_text("a")
    assert ws.connected


async def test_reader_that_waits_while_the_client_is_found_gone() -> None:
    """What the server then says is the truth, and replaces 1006."""
    ws, channel = await accepted()
    channel.failure = OSError()
    reading = asyncio.ensure_future(ws.receive_text())
    await settled()
    with pytest.raises(WebSocketDisconnect):
        await ws.send_text("a")
    channel.put(disconnect(4000, "bye"))
    with pytest.raises(WebSocketDisconnect, match="4000 bye"):
        await reading
    with pytest.raises(WebSocketDisconnect, match="4000 bye"):
        await ws.send_text("a")


async def test_sender_that_waits_while_the_client_leaves() -> None:
    """Both tasks get the code that the server told one of them."""
    ws, channel = await accepted()
    gone = asyncio.Event()

    async def send(message: Any) -> None:
        await gone.wait()
        raise OSError

    ws._send = send
    sending = asyncio.ensure_future(ws.send_text("a"))
    await settled()
    channel.put(disconnect(4000, "bye"))
    assert [message async for message in ws] == []
    gone.set()
    with pytest.raises(WebSocketDisconnect, match="4000 bye"):
        await sending


# ------------------------------------------------------------------- iterators


async def collected(iterator: AsyncIterator[Any]) -> list[Any]:
    return [item async for item in iterator]


@pytest.mark.parametrize("code", [1000, 1001, 1006, 4000])
async def test_iterators_end_quietly(code: int) -> None:
    """G30, E11, L9: whatever the code; then close() is called (C44)."""
    ws, channel = await accepted(text("a"), text("b"), disconnect(code))
    assert await collected(ws.iter_text()) == ["a", "b"]
    await ws.close()
    assert channel.sent == []
    ws, _ = await accepted(binary(b"a"), disconnect(code))
    assert await collected(ws.iter_bytes()) == [b"a"]
    ws, _ = await accepted(text("1"), text("[]"), disconnect(code))
    assert await collected(ws.iter_json()) == [1, []]
    ws, _ = await accepted(binary(b"1"), disconnect(code))
    assert await collected(ws.iter_json(mode="binary")) == [1]


async def test_async_for_gives_text() -> None:
    """G31, C14; beside iter() over the scope's keys."""
    ws, _ = await accepted(text("a"), disconnect())
    assert [message async for message in ws] == ["a"]
    assert list(ws) == ["type"]


async def test_iterators_raise_for_the_wrong_kind() -> None:
    """G30."""
    for iterate, event in [("iter_text", binary(b"")), ("iter_bytes", text(""))]:
        ws, _ = await accepted(event, disconnect())
        with pytest.raises(TypeError):
            await collected(getattr(ws, iterate)())


@pytest.mark.parametrize(
    "iterate", [WebSocket.iter_text, WebSocket.iter_bytes, WebSocket.iter_json]
)
async def test_iterators_in_the_wrong_state(
    iterate: Callable[[WebSocket], AsyncIterator[Any]],
) -> None:
    """Before accept() an error, after close() the end."""
    with pytest.raises(WebSocketRuntimeError, match=r"call accept\(\)"):
        await collected(iterate(await connecting()))
    assert await collected(iterate(await closed())) == []


async def test_closing_inside_the_loop_ends_it() -> None:
    """G's words: "until the connection closes or client disconnects"."""
    ws, _ = await accepted(text("a"), text("b"))
    async for _ in ws:
        await ws.close()


class Colour(enum.StrEnum):
    RED = "red"


async def test_string_enums_are_text() -> None:
    """A subclass of str is a str."""
    ws, channel = await accepted()
    await ws.send_text(Colour.RED)
    assert channel.sent[0]["text"] == "red"
