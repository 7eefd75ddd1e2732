"""ASGILink: what an ASGI server may do at each step, over a channel that tests hold.

The channel is ASGI's own interface; real servers are in tests/behaviour.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import weakref
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from simplews import (
    AioServer,
    BinaryMessage,
    Close,
    ConnectionClosed,
    Rooms,
    State,
    TextMessage,
    WebSocket,
    WebSocketRuntimeError,
)
from simplews import ConnectionError as OpenError
from simplews.link.options import QueueMarks
from simplews.types import Waiting

from ..clock import ClockLoop
from ..peer import settled, until
from .channel import Events, Server


@pytest.fixture(autouse=True, params=[True, False], ids=["direct", "background"])
def direct(request: pytest.FixtureRequest) -> bool:
    """Who reads: the task that waits, or one in the background."""
    Server.direct = request.param
    return Server.direct


# ------------------------------------------------------------------- opening


async def test_the_request_is_what_the_scope_tells() -> None:
    """SPEC: the same `HandshakeRequest` in every source."""
    ws = await Server().accept(subprotocols=["b"])
    assert (ws.request.host, ws.request.target) == ("example.org", "/a%20b?x=1")
    assert (ws.request.path, ws.request.query) == ("/a b", "x=1")
    assert ws.request.subprotocols == ("a", "b")
    assert ws.subprotocol == ws.accepted_subprotocol == "b"
    assert ws.remote_address == ("127.0.0.1", 5)
    assert ws.local_address == ("127.0.0.1", 80)
    assert ws.response is None
    await ws.close()


async def test_a_scope_may_have_next_to_nothing() -> None:
    """RELIABILITY: `subprotocols` may be missing; and so may most of the rest."""
    server = Server()
    server.scope = {
        "type": "websocket",
        "path": "/é",
        "headers": [(b"sec-websocket-protocol", b"a, b")],
    }
    ws = await server.accept(subprotocols="b")
    assert (ws.request.target, ws.subprotocol) == ("/%C3%A9", "b")
    assert (ws.remote_address, ws.local_address) == (None, None)
    await ws.close()


async def test_headers_are_sent_only_if_there_are_some() -> None:
    """ASGI 2.0 had none."""
    server = Server()
    await (await server.accept()).close()
    assert server.sent[0] == {"type": "websocket.accept", "subprotocol": None}
    server = Server()
    await (await server.accept(extra_headers={"X-Name": "é"})).close()
    assert server.sent[0]["headers"] == [(b"x-name", b"\xe9")]


async def test_choose_subprotocol_sees_the_request_and_may_wait() -> None:
    class Ours(AioServer):
        async def choose_subprotocol(self, request: Any) -> str:
            await asyncio.sleep(0)
            return str(request.subprotocols[-1])

    server = Server()
    ws = await Ours.accept(asgi=server.triple)
    assert (ws.subprotocol, server.sent[0]["subprotocol"]) == ("b", "b")
    await ws.close()


@pytest.mark.parametrize("extensions", [{}, {"websocket.http.response": {}}])
async def test_a_foreign_origin_is_refused_as_the_server_can(extensions: Any) -> None:
    server = Server(extensions=extensions)
    with pytest.raises(
        OpenError, match=r"403 origin https://example\.org is not allowed"
    ) as caught:
        await server.accept(origins=["https://other.org"])
    assert caught.value.status_code == 403
    if extensions:
        assert server.kinds() == ["http.response.start", "http.response.body"]
        assert server.sent[0]["status"] == 403
    else:
        assert server.kinds() == ["close"]


async def test_reject_answers_with_what_it_is_told() -> None:
    server = Server(extensions={"websocket.http.response": {}})
    await AioServer.reject(
        asgi=server.triple, status=401, extra_headers={"WWW-Authenticate": "Bearer"}, body="no"
    )
    start, body = server.sent
    assert start["status"] == 401
    assert start["headers"] == [(b"www-authenticate", b"Bearer"), (b"content-length", b"2")]
    assert body["body"] == b"no"
    with pytest.raises(ValueError, match="status 99"):
        await AioServer.reject(asgi=Server().triple, status=99)


@pytest.mark.parametrize("event", ["disconnect", "receive"])
async def test_anything_but_connect_opens_nothing(event: str) -> None:
    server = Server()
    server.events.get_nowait()
    server.say(event, code=1006)
    with pytest.raises(OpenError, match=r"instead of 'websocket\.connect'"):
        await server.accept()


async def test_a_client_that_leaves_during_accept_is_no_connection() -> None:
    """ASGI 2.4: send() may raise OSError."""
    server = Server()
    server.failure = OSError("gone")
    with pytest.raises(OpenError, match="gone"):
        await server.accept()


async def test_a_facade_is_lifted_in_whatever_state_it_is() -> None:
    """C1: `AioServer.accept(asgi=websocket)`, also after receive() and accept()."""
    for steps in (0, 1, 2):
        server = Server()
        facade = WebSocket(*server.triple)
        if steps > 0:
            await facade.receive()
        if steps > 1:
            await facade.accept("b")
        ws = await AioServer.accept(asgi=facade, subprotocols=["b"])
        await ws.send("x")
        await ws.close()
        assert server.kinds() == ["accept", "send", "close"]
        assert (ws.subprotocol, facade.connected) == ("b", False)
    with pytest.raises(WebSocketRuntimeError, match="has been closed"):
        AioServer.accept(asgi=facade)


# ------------------------------------------------------------------ messages


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"text": "x"}, "x"),
        ({"text": "x", "bytes": None}, "x"),
        ({"text": None, "bytes": b"x"}, b"x"),
        ({"text": ""}, ""),
        ({"bytes": b""}, b""),
        ({}, b""),
    ],
)
async def test_both_keys_may_be_there(fields: Any, expected: str | bytes) -> None:
    server = Server()
    ws = await server.accept()
    server.say("receive", **fields)
    assert await ws.receive() == expected
    await ws.close()


async def test_a_message_is_read_by_the_task_that_waits_for_it(direct: bool) -> None:
    """No task in between, where a receive() may be cancelled; never two receive() at once."""
    server = Server()
    ws = await server.accept()
    waiting = asyncio.ensure_future(ws.receive())
    await settled()
    tasks = asyncio.all_tasks()
    server.say("receive", text="x")
    assert await waiting == "x"
    assert any("reader" in task.get_name() for task in tasks) != direct
    await ws.close()


async def test_a_cancelled_receive_loses_nothing() -> None:
    server = Server()
    ws = await server.accept()
    got = []
    for number in range(200):
        waiting = asyncio.ensure_future(ws.receive(None if number % 3 else 1000))
        for _ in range(number % 4):
            await asyncio.sleep(0)
        server.say("receive", text=str(number))
        for _ in range(number % 5):
            await asyncio.sleep(0)
        waiting.cancel()
        try:
            got.append(await waiting)
        except asyncio.CancelledError:
            got.append(await ws.receive())
    assert got == [str(number) for number in range(200)]
    await ws.close()


@pytest.mark.parametrize("lifted", [False, True])
async def test_a_receive_that_nobody_knows_is_never_cancelled(lifted: bool) -> None:
    """granian loses a message when its receive() is cancelled, also behind a wrapper."""
    server = Server()
    calls = 0

    async def receive() -> Any:
        nonlocal calls
        calls += 1
        return await server.receive()

    triple: Any = (server.scope, receive, server.send)
    ws = await AioServer.accept(asgi=WebSocket(*triple) if lifted else triple)
    for number in range(5):
        waiting = asyncio.ensure_future(ws.receive())
        await settled()
        waiting.cancel()
        await asyncio.wait([waiting])
        assert calls == number + 2  # connect, and one more for each message
        server.say("receive", text=str(number))
        assert await ws.receive() == str(number)
    await ws.close()


class _Answer:
    """Awaitable, and no coroutine: what a server that is not Python may return."""

    def __init__(self, source: Any) -> None:
        self._source = source

    def __await__(self) -> Any:
        return self._source.__await__()


class _Awaitables(Events):
    def get(self) -> Any:
        return _Answer(super().get())


async def test_receive_and_send_need_not_be_coroutine_functions() -> None:
    """granian's return awaitables of its own, and so may a middleware."""
    server = Server()
    server.events = _Awaitables()
    server.events.put_nowait({"type": "websocket.connect"})
    scope, receive, send = server.triple
    ws = await AioServer.accept(asgi=(scope, receive, lambda event: _Answer(send(event))))
    for number in range(200):
        server.say("receive", text=str(number))
        if number % 3:
            await settled()
        message = await ws.receive()
        assert message is not None
        await ws.send(message)
    assert [event.get("text") for event in server.sent[1:]] == [str(n) for n in range(200)]
    server.blocked = asyncio.get_running_loop().create_future()
    sending = asyncio.ensure_future(ws.send(b"x"))
    waiting = asyncio.ensure_future(ws.receive())
    await settled()
    assert not sending.done()
    server.blocked.set_result(None)
    server.say("receive", bytes=b"y")
    await sending
    assert (await waiting, server.sent[-1]["bytes"]) == (b"y", b"x")
    await ws.close()


class _Raising(Events):
    def get(self) -> Any:
        if self.empty():
            raise LookupError("no more")
        return super().get()


async def test_a_receive_that_raises_when_it_is_called_is_the_end() -> None:
    server = Server()
    server.events = _Raising()
    server.events.put_nowait({"type": "websocket.connect"})
    ws = await server.accept()
    with pytest.raises(ConnectionClosed, match="no more"):
        await ws.receive()
    await ws.wait_closed()


async def test_a_send_that_waits_several_times_is_one() -> None:
    """It is the server's, whatever it awaits, and counted as waiting meanwhile."""
    loop = asyncio.get_running_loop()
    gates = [loop.create_future() for _ in range(3)]
    server = Server()

    async def send(event: Any) -> None:
        if event["type"] == "websocket.send":
            for gate in gates:
                await gate
                await asyncio.sleep(0)
        await server.send(event)

    ws = await AioServer.accept(asgi=(*server.triple[:2], send))
    sending = asyncio.ensure_future(ws.send("é"))
    for gate in gates:
        await settled()
        stats = ws.stats
        assert (stats.sends_waiting, stats.bytes_waiting, stats.messages_out) == (1, 2, 0)
        gate.set_result(None)
    await sending
    stats = ws.stats
    assert (stats.sends_waiting, stats.messages_out, stats.bytes_out) == (0, 1, 2)
    assert server.sent[-1]["text"] == "é"
    await ws.close()


async def test_a_cancellation_goes_into_the_servers_send() -> None:
    """What the server does about it, waiting again among that, is part of send()."""
    loop = asyncio.get_running_loop()
    gate = loop.create_future()
    rollback = loop.create_future()
    server = Server()
    seen = []

    async def send(event: Any) -> None:
        if event["type"] == "websocket.send":
            try:
                await gate
            except asyncio.CancelledError:
                seen.append("cancelled")
                await rollback
                seen.append("rolled back")
                raise
        await server.send(event)

    ws = await AioServer.accept(asgi=(*server.triple[:2], send))
    sending = asyncio.ensure_future(ws.send("x"))
    await settled()
    sending.cancel()
    await settled()
    assert (seen, sending.done()) == (["cancelled"], False)
    rollback.set_result(None)
    await asyncio.wait([sending])
    assert sending.cancelled()
    assert seen == ["cancelled", "rolled back"]
    assert ws.connected
    assert ws.stats.sends_waiting == 0
    await ws.close()


async def test_a_send_that_fails_after_it_has_waited_is_the_end() -> None:
    server = Server()
    ws = await server.accept(close_timeout=0.001)
    server.blocked = asyncio.get_running_loop().create_future()
    sending = asyncio.ensure_future(ws.send("x"))
    await settled()
    server.blocked.set_exception(OSError("gone"))
    with pytest.raises(ConnectionClosed, match="gone"):
        await sending
    await ws.wait_closed()


async def test_a_receive_whose_coroutine_is_dropped_lets_another_one_read() -> None:
    """Its task was destroyed, say; nobody is in receive() any more."""
    server = Server()
    ws = await server.accept()
    dropped: Any = ws.receive()
    dropped.send(None)
    dropped.close()
    server.say("receive", text="x")
    assert await ws.receive() == "x"
    await ws.close()


async def test_others_have_their_turn_while_the_server_never_waits(direct: bool) -> None:
    """Neither an echo nor a flood keeps the loop from what else is due."""
    server = Server()
    ws = await server.accept()
    for number in range(600):
        server.say("receive", text=str(number))
    turns = 0

    async def other() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    task = asyncio.ensure_future(other())
    for _ in range(300):
        message = await ws.receive()
        assert message is not None
        await ws.send(message)
    assert turns >= 300 // 64
    turns = 0
    for _ in range(300):
        await ws.receive()
    # What a task has read in the background is bounded, and there to be taken.
    assert turns >= (300 // 64 if direct else 1)
    turns = 0
    for _ in range(300):
        await ws.send("x")
    assert turns >= 300 // 64
    task.cancel()
    await ws.close()


async def test_too_big_a_message_ends_it_with_1009() -> None:
    server = Server()
    ws = await server.accept(max_message_size=3)
    server.say("receive", text="abc")
    server.say("receive", text="aéé")
    assert await ws.receive() == "abc"
    with pytest.raises(ConnectionClosed, match="5 bytes exceeds the limit of 3"):
        await ws.receive()
    await ws.wait_closed()
    assert server.sent[-1]["code"] == 1009


async def test_an_app_that_does_not_receive_stops_the_server() -> None:
    server = Server()
    ws = await server.accept(max_queue=(8, 2))
    assert ws.task is not None
    for number in range(100):
        server.say("receive", text=str(number))
    await settled()
    assert server.events.qsize() > 90
    assert [await ws.receive() for _ in range(100)] == [str(n) for n in range(100)]
    await ws.close()


async def test_an_inbox_of_text_is_bounded_in_memory_and_not_in_utf8() -> None:
    server = Server()
    ws = await server.accept()
    assert ws.task is not None
    text = "x" * 99_999 + "😀"  # Python takes four bytes for each of them
    for _ in range(20):
        server.say("receive", text=text)
    await settled()
    assert 20 - server.events.qsize() == 3  # the third is above 1 MiB
    assert [await ws.receive() for _ in range(20)] == [text] * 20
    assert ws._inbox.room == QueueMarks().high_bytes
    await ws.close()


async def test_polling_sees_what_the_server_has() -> None:
    server = Server()
    ws = await server.accept()
    assert await ws.receive(timeout=0) is None
    server.say("receive", text="x")
    await settled()
    assert await ws.receive(timeout=0) == "x"
    await ws.close()


async def test_a_stream_is_one_piece() -> None:
    server = Server()
    ws = await server.accept()
    server.say("receive", text="one")
    server.say("receive", bytes=b"two")
    assert [piece async for piece in ws.receive_stream()] == ["one"]
    assert await ws.receive() == b"two"
    await ws.close()


async def test_fragments_are_sent_as_one_message() -> None:
    server = Server()
    ws = await server.accept()
    await ws.send(["a", "b"])
    await ws.send([b"a", bytearray(b"b")])
    with pytest.raises(TypeError, match="all text or all binary"):
        await ws.send(["a", b"b"])
    with pytest.raises(TypeError, match="not int"):
        await ws.send(["a", 1])  # type: ignore[list-item]
    assert [event.get("text", event.get("bytes")) for event in server.sent[1:]] == ["ab", b"ab"]
    await ws.close()


async def test_what_cannot_be_utf8_is_refused_before_the_server_sees_it() -> None:
    server = Server()
    ws = await server.accept()
    with pytest.raises(UnicodeEncodeError):
        await ws.send("\ud800")
    assert server.kinds() == ["accept"]
    await ws.close()


# ------------------------------------------------------------------- the end


async def test_a_handler_that_never_receives_learns_that_the_client_left() -> None:
    server = Server()
    ws = await server.accept()
    server.say("disconnect", code=3000, reason="bye")
    await ws.wait_closed()
    assert (ws.close_code, ws.close_reason) == (3000, "bye")
    assert server.kinds() == ["accept"], "never a Close to a client that has left"
    await ws.close()
    assert server.kinds() == ["accept"]


@pytest.mark.parametrize("timeout", [None, 1000])
async def test_a_handler_that_stops_receiving_learns_that_the_client_left(
    timeout: float | None,
) -> None:
    server = Server()
    ws = await server.accept()
    for number in range(3):
        waiting = asyncio.ensure_future(ws.receive(timeout))
        await settled()
        server.say("receive", text=str(number))
        assert await waiting == str(number)
    server.say("disconnect", code=3000)
    await ws.wait_closed()
    assert ws.close_code == 3000


@pytest.mark.parametrize(
    ("fields", "code", "normal"),
    [
        ({}, 1005, True),
        ({"code": None}, 1005, True),
        ({"code": 1000}, 1000, True),
        ({"code": 1006}, 1006, False),
        ({"code": 1012}, 1012, True),  # uvicorn's own, at its shutdown
        ({"code": 1008, "reason": None}, 1008, False),
    ],
)
async def test_what_a_disconnect_says(fields: Any, code: int, normal: bool) -> None:
    server = Server()
    ws = await server.accept()
    server.say("receive", text="before")
    server.say("disconnect", **fields)
    got = []
    try:
        async for message in ws:
            got.append(message)
        assert normal
    except ConnectionClosed as exc:
        assert not normal
        assert exc.code == code
    assert got == ["before"]
    assert ws.close_code == code
    assert str(code) in ws.explain()


@pytest.mark.parametrize("failure", [OSError("gone"), RuntimeError("closed"), LookupError("x")])
async def test_a_send_that_fails_is_the_end_but_not_of_what_came_before(
    failure: Exception,
) -> None:
    """ASGI 2.4 raises OSError; what the server still has is returned, and the reason it gives."""
    server = Server()
    ws = await server.accept()
    for number in range(3):
        server.say("receive", text=str(number))
    server.say("disconnect", code=3001, reason="left")
    server.failure = failure
    with pytest.raises(ConnectionClosed):
        await ws.send("x")
    assert [await ws.receive() for _ in range(3)] == ["0", "1", "2"]
    with pytest.raises(ConnectionClosed) as caught:
        await ws.receive()
    assert (caught.value.code, caught.value.reason) == (3001, "left")


async def test_close_after_a_failed_send_waits_for_nothing() -> None:
    """Not for a server that does not say disconnect, nor behind messages that nobody takes."""
    server = Server()
    ws = await server.accept(max_queue=(4, 1), close_timeout=10_000)
    for number in range(10):
        server.say("receive", text=str(number))
    assert ws.task is not None
    await settled()
    server.failure = OSError("gone")
    with pytest.raises(ConnectionClosed):
        await ws.send("x")
    began = asyncio.get_running_loop().time()
    await ws.close()
    assert asyncio.get_running_loop().time() == pytest.approx(began, abs=1)
    assert await ws.receive() == "0"


async def test_a_server_that_never_says_disconnect_is_not_waited_for() -> None:
    server = Server()
    ws = await server.accept(close_timeout=0.001)
    server.failure = OSError("gone")
    waiting = asyncio.ensure_future(ws.receive())
    await settled()
    with pytest.raises(ConnectionClosed, match="gone"):
        await ws.send("x")
    with pytest.raises(ConnectionClosed, match="gone"):
        await waiting
    await ws.wait_closed()


@pytest.mark.parametrize("receiving", [False, True], ids=["elsewhere", "receiving"])
@pytest.mark.parametrize("how", ["close", "abort", "client"])
async def test_an_end_wakes_whoever_waits(how: str, receiving: bool) -> None:
    server = Server()
    ws = await server.accept()
    server.blocked = asyncio.get_running_loop().create_future()
    waiting = [asyncio.ensure_future(ws.send("x")), asyncio.ensure_future(ws.send("y"))]
    if receiving:
        waiting.append(asyncio.ensure_future(ws.receive()))
    await settled()
    if how == "client":
        server.say("disconnect", code=3000)
    elif how == "close":
        ws._link.begin_close(Close(3000))
    else:
        ws.abort()
    results = await asyncio.gather(*waiting, return_exceptions=True)
    assert {type(result) for result in results} == {ConnectionClosed}
    assert all(not waiter.cancelled() for waiter in waiting)
    server.blocked.set_result(None)
    await ws.wait_closed()
    assert ws.connection_state is State.CLOSED
    assert server.kinds() == ["accept"] + ["close"] * (how != "client")


@pytest.mark.parametrize("how", ["close", "client"])
async def test_an_end_wakes_a_send_that_waits_for_its_next_piece(how: str) -> None:
    server = Server()
    ws = await server.accept()
    assert ws.task is not None
    closed = False

    async def pieces() -> AsyncIterator[str]:
        nonlocal closed
        try:
            yield "one"
            await asyncio.get_running_loop().create_future()
        finally:
            closed = True

    sending = asyncio.ensure_future(ws.send(pieces()))
    await settled()
    if how == "close":
        await ws.close()
    else:
        server.say("disconnect", code=3000)
    with pytest.raises(ConnectionClosed):
        await sending
    assert closed
    assert sending.cancelling() == 0
    assert "send" not in server.kinds()
    await ws.wait_closed()


async def test_a_cancellation_that_is_not_ours_stays_one() -> None:
    server = Server()
    ws = await server.accept()
    server.blocked = asyncio.get_running_loop().create_future()
    sending = asyncio.ensure_future(ws.send("x"))
    receiving = asyncio.ensure_future(ws.receive())
    await settled()
    for task in (sending, receiving):
        task.cancel()
        await asyncio.wait([task])
        assert task.cancelled()
    assert ws.connected
    ws.abort()
    server.blocked.set_result(None)
    await ws.wait_closed()


async def test_a_timeout_around_a_receive_that_our_end_wakes_does_not_strike() -> None:
    """The cancellation is undone, as asyncio.timeout() counts them."""
    server = Server()
    ws = await server.accept()

    async def reader() -> int:
        async with asyncio.timeout(1000):
            try:
                await ws.receive()
            except ConnectionClosed:
                task = asyncio.current_task()
                assert task is not None
                return task.cancelling()
        return -1

    task = asyncio.ensure_future(reader())
    await settled()
    await ws.close()
    assert await task == 0


async def test_an_owners_cancellation_is_not_taken_for_ours() -> None:
    """Not even if our end comes in the same turn of the loop."""
    server = Server()
    ws = await server.accept()
    server.blocked = asyncio.get_running_loop().create_future()

    async def use(what: Any) -> None:
        try:
            await what
        except ConnectionClosed:
            await asyncio.sleep(3600)

    tasks = [asyncio.ensure_future(use(what)) for what in (ws.receive(), ws.send("x"))]
    await settled()
    for task in tasks:
        task.cancel()
    closing = asyncio.ensure_future(ws.close())
    await asyncio.wait(tasks)
    assert all(task.cancelled() for task in tasks)
    server.blocked.set_result(None)
    await closing


async def test_an_interruption_that_a_server_swallows_is_undone() -> None:
    """asyncio.wait_for() of Python 3.11 does so, when what it waits for is there."""
    server = Server()
    released = asyncio.get_running_loop().create_future()

    async def send(event: Any) -> None:
        if event["type"] == "websocket.send":
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.shield(released)

    ws = await AioServer.accept(asgi=(server.scope, server.events.get, send))
    sending = asyncio.ensure_future(ws.send("x"))
    await settled()
    closing = asyncio.ensure_future(ws.close())
    await sending
    assert sending.cancelling() == 0
    await closing


async def test_a_reader_that_is_cancelled_is_the_end() -> None:
    server = Server()
    ws = await server.accept()
    assert ws.task is not None
    waiting = asyncio.ensure_future(ws.receive(1000))
    await settled()
    ws.task.cancel()
    with pytest.raises(ConnectionClosed):
        await waiting


async def test_abort_ends_a_close_that_waits() -> None:
    server = Server()
    ws = await server.accept()
    server.blocked = asyncio.get_running_loop().create_future()
    closing = asyncio.ensure_future(ws.close())
    await settled()
    assert not closing.done()
    ws.abort()
    await closing
    assert ws.connection_state is State.CLOSED


async def test_a_receive_that_cannot_be_cancelled_does_not_keep_the_close() -> None:
    server = Server()

    async def receive() -> Any:
        while True:
            try:
                return await server.events.get()
            except asyncio.CancelledError:
                pass

    ws = await AioServer.accept(asgi=(server.scope, receive, server.send))
    assert ws.task is not None
    await settled()
    await ws.close(3000)
    assert server.sent[-1]["code"] == 3000
    server.say("disconnect")
    await settled()


class Left(Exception):
    """As Starlette's WebSocketDisconnect."""

    code = 1006


async def test_a_close_that_comes_too_late_is_no_news(caplog: pytest.LogCaptureFixture) -> None:
    for failure in (OSError("gone"), RuntimeError("closed"), Left()):
        server = Server()
        ws = await server.accept()
        server.failure = failure
        await ws.close()
    assert not [record for record in caplog.records if record.levelno > logging.INFO]


@pytest.mark.parametrize("failure", [OSError("gone"), RuntimeError("closed"), Left()])
async def test_a_client_that_has_left_is_a_connection_error_through_an_object_too(
    failure: Exception,
) -> None:
    for step in ("connect", "accept", "reject"):
        server = Server()
        if step == "connect":
            server.events.get_nowait()
            server.say("disconnect", code=1006)
        server.failure = failure
        if step == "reject":
            await AioServer.reject(asgi=WebSocket(*server.triple))
        else:
            with pytest.raises(OpenError):
                await AioServer.accept(asgi=WebSocket(*server.triple))


async def test_cleanups_may_close_each_others_connections() -> None:
    """A bridge: whoever ends first takes the other along."""
    first, second = await Server().accept(), await Server().accept()
    first.add_cleanup(second.close)
    second.add_cleanup(first.close)
    await first.close()
    await second.wait_closed()
    one, other = WebSocket(*Server().triple), WebSocket(*Server().triple)
    for facade in (one, other):
        await facade.accept()
    one.add_cleanup(other.close)
    other.add_cleanup(one.close)
    await one.close()
    assert not other.connected


async def test_a_close_that_the_server_does_not_take_is_given_up() -> None:
    server = Server()
    ws = await server.accept(close_timeout=0.001)
    server.blocked = asyncio.get_running_loop().create_future()
    await ws.close()
    assert ws.connection_state is State.CLOSED


async def test_a_code_that_the_server_does_not_take_becomes_1000(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """daphne takes 1000 and 3000 to 4999, and would leave the connection open."""
    server = Server()
    codes = []

    async def send(event: Any) -> None:
        if event["type"] == "websocket.close":
            codes.append(event["code"])
            if event["code"] != 1000:
                raise Exception("invalid close code")

    ws = await AioServer.accept(asgi=(server.scope, server.receive, send))
    with caplog.at_level(logging.WARNING):
        await ws.close(1011)
    assert codes == [1011, 1000]
    assert "does not take 1011" in caplog.text


@pytest.mark.parametrize("event", [{"type": "websocket.connect"}, LookupError("the server's")])
async def test_a_server_that_breaks_the_protocol_ends_it(event: Any) -> None:
    server = Server()
    broken: list[Any] = [event]

    async def receive() -> Any:
        if server.events.empty() and broken:
            item = broken.pop()
            if isinstance(item, Exception):
                raise item
            return item
        return await server.receive()

    ws = await AioServer.accept(asgi=(server.scope, receive, server.send))
    with pytest.raises(ConnectionClosed, match=r"receive\(\) failed"):
        await ws.receive()
    assert ws.exception() is not None


async def test_ping_interval_warns_and_names_the_servers_options() -> None:
    server = Server()
    with pytest.warns(UserWarning, match="--ws-ping-interval.*websocket_ping_interval"):
        opening = server.accept(ping_interval=20)
        ws = await opening
    with pytest.raises(WebSocketRuntimeError, match="ASGI has no pings"):
        await ws.ping()
    await ws.close()


async def test_rooms_keep_the_order_of_what_their_members_send() -> None:
    server = Server()
    ws = await server.accept()
    rooms = Rooms()
    async with rooms.join("r", ws):
        for number in range(10):
            await rooms.broadcast("r", f"b{number}")
            await ws.send(f"s{number}")
        await rooms.broadcast("r", b"last")
    await until(lambda: len(server.sent) == 22)
    expected = [f"{kind}{number}" for number in range(10) for kind in "bs"]
    assert [event.get("text") for event in server.sent[1:21]] == expected
    assert server.sent[-1] == {"type": "websocket.send", "bytes": b"last"}
    await ws.close()


async def test_what_was_broadcast_before_a_close_goes_out_before_it() -> None:
    server = Server()
    ws = await server.accept()
    rooms = Rooms()
    async with rooms.join("r", ws):
        await rooms.broadcast("r", "one")
        await rooms.broadcast("r", "two")
    await ws.close()
    assert server.kinds() == ["accept", "send", "send", "close"]


async def test_a_scope_is_given_to_accept_once() -> None:
    server = Server()
    ws = await server.accept()
    with pytest.raises(WebSocketRuntimeError, match=r"given to accept\(\) before"):
        await server.accept()
    await ws.close()


async def test_a_member_that_is_stuck_is_closed_and_delays_nobody() -> None:
    stuck, other = Server(), Server()
    first, second = await stuck.accept(close_timeout=0.001), await other.accept()
    stuck.blocked = asyncio.get_running_loop().create_future()
    rooms = Rooms(max_queue=4)
    await rooms.join("r", first)
    await rooms.join("r", second)
    results = [await rooms.broadcast("r", str(number)) for number in range(40)]
    assert sum(result.closed for result in results) == 1
    await until(lambda: len(other.sent) == 41)
    assert first.close_code == 1013
    await first.wait_closed()
    await second.close()


@pytest.mark.parametrize(
    ("make", "error", "match"),
    [
        (lambda: object(), TypeError, "not object"),
        (lambda: (1, 2), TypeError, "not tuple"),
        (lambda: ({"type": "http"}, None, None), ValueError, "not 'http'"),
    ],
)
async def test_what_is_no_websocket_of_asgi_is_told_so(
    make: Callable[[], Any], error: type[Exception], match: str
) -> None:
    with pytest.raises(error, match=match):
        AioServer.accept(asgi=make())


# ---------------------------------------------------------------- explaining


async def test_an_end_tells_what_was_waiting() -> None:
    """Messages that nobody received, and a send() that the server holds up."""
    server = Server()
    ws = await server.accept()
    server.say("receive", text="one")
    server.say("receive", text="two")
    await until(lambda: ws.stats.messages_waiting == 2)
    server.blocked = asyncio.get_running_loop().create_future()
    sending = asyncio.ensure_future(ws.send("x" * 2048))
    await settled()
    stats = ws.stats
    assert (stats.sends_waiting, stats.bytes_waiting) == (1, 2048)
    server.say("disconnect", code=4000)
    await until(lambda: not ws.connected)
    with pytest.raises(ConnectionClosed) as caught:
        await sending
    assert caught.value.ending.waiting == Waiting(messages=2, sends=1, send_bytes=2048)
    assert ws.explain() == (
        "the peer closed the connection with 4000 (application); waiting then: 2 messages in the "
        "inbox, a send() of 2 KiB"
    )


async def test_a_message_in_pieces_that_waits_for_the_application_waits_for_nobody() -> None:
    server = Server()
    ws = await server.accept()

    async def pieces() -> AsyncIterator[str]:
        yield "one"
        await asyncio.get_running_loop().create_future()

    sending = asyncio.ensure_future(ws.send(pieces()))
    await settled()
    assert ws.stats.sends_waiting == 0
    ws.abort()
    with pytest.raises(ConnectionClosed) as caught:
        await sending
    assert "waiting" not in caught.value.explain()
    await ws.wait_closed()


async def test_messages_of_a_room_that_wait_are_counted() -> None:
    server = Server()
    rooms = Rooms()
    ws = await server.accept()
    async with rooms.join("room", ws):
        server.blocked = asyncio.get_running_loop().create_future()
        for _ in range(3):
            await rooms.broadcast("room", "x" * 1000)
        await settled()
        assert ws.stats.bytes_waiting == 3000
        server.say("disconnect", code=1001)
        await ws.wait_closed()
        assert ws.explain().endswith("; waiting then: 3 KiB in the transport")


@pytest.mark.parametrize("code", [1000, 1011])
async def test_a_handler_that_blocks_the_loop_explains_what_the_server_does_then(
    code: int, caplog: pytest.LogCaptureFixture
) -> None:
    """The server pings and closes, and does not say why; but we see how late we look."""
    loop = asyncio.get_running_loop()
    assert isinstance(loop, ClockLoop)
    server = Server()
    ws = await server.accept()
    server.say("receive", text="work")
    assert await ws.receive() == "work"
    loop.block(30.1)  # for a tenth of a second, nothing is due
    await settled()
    server.say("disconnect", code=code)
    await ws.wait_closed()
    assert "the event loop was blocked for 30.0 s" in caplog.text
    assert ws.explain().endswith("; the event loop had been blocked for 30 s") == (code == 1011)


async def test_stats_tell_what_the_server_lets_us_know() -> None:
    server = Server()
    ws = await server.accept()
    server.say("receive", text="¡hola!")
    server.say("receive", bytes=b"123")
    assert await ws.receive() == "¡hola!"
    assert await ws.receive() == b"123"
    await ws.send("four")
    stats = ws.stats
    assert (stats.messages_in, stats.messages_out) == (2, 1)
    assert (stats.bytes_in, stats.bytes_out) == (10, 4)
    assert (stats.pings_sent, stats.pongs_received, stats.latency) == (0, 0, None)
    await ws.close()


async def test_a_receive_outside_of_any_task_ends_nothing() -> None:
    server = Server()
    ws = await server.accept()
    call: Any = ws.receive()
    tried = asyncio.get_running_loop().create_future()

    def tries() -> None:
        tried.set_result(call.send(None))
        call.close()

    asyncio.get_running_loop().call_soon(tries)
    await tried
    assert ws.connected
    server.say("receive", text="x")
    assert await ws.receive() == "x"
    await ws.close()


@pytest.mark.parametrize("end", ["close", "abort", "client", "unread", "elsewhere"])
async def test_nothing_of_an_ended_connection_waits_for_the_collector(end: str) -> None:
    """It may come late where it is tuned, and then each connection costs what it holds."""
    left: list[weakref.ref[Any]] = []

    async def handler(ws: AioServer) -> None:
        with contextlib.suppress(ConnectionClosed):
            while True:
                message = await ws.receive(1000 if end == "elsewhere" else None)
                assert message is not None
                await ws.send(message)
                if end == "unread":
                    await ws.wait_closed()
                    return

    async def life() -> None:
        server = Server()
        ws = await server.accept(max_queue=2)
        left.extend(map(weakref.ref, (ws, ws._link)))
        task = asyncio.ensure_future(handler(ws))
        for number in range(10):
            server.say("receive", text=str(number))
        await until(lambda: len(server.sent) == (2 if end == "unread" else 11))
        if end == "close":
            await ws.close()
        elif end == "abort":
            ws.abort()
        else:
            server.say("disconnect", code=3000)
            if end == "unread":
                ws.abort()
        await ws.wait_closed()
        await asyncio.wait([task])
        assert task.exception() is None

    gc.collect()
    gc.disable()
    try:
        await life()
        await until(lambda: not [thing for thing in left if thing() is not None])
    finally:
        gc.enable()


# ------------------------------------ a message that comes while a task waits for it


async def arrives(server: Server, waiting: asyncio.Future[Any], text: str = "x") -> Any:
    """The message that *waiting* gets, which waits before it comes."""
    await settled()
    assert not waiting.done()
    server.say("receive", text=text)
    return await waiting


async def test_what_comes_to_a_task_that_waits_is_counted_like_everything_else() -> None:
    """Whether it waits in the inbox for a moment or not; also where one message fills that."""
    server = Server()
    ws = await server.accept(max_queue=1)
    for number in range(1, 4):
        assert await arrives(server, asyncio.ensure_future(ws.receive()), "é") == "é"
        stats = ws.stats
        assert (stats.messages_in, stats.messages_waiting, stats.bytes_in) == (
            number,
            0,
            2 * number,
        )
        assert not ws._inbox.paused
    server.say("receive", text="y")
    server.say("receive", text="z")
    assert ws.task is not None
    await until(lambda: ws.stats.messages_waiting == 1)
    assert [await ws.receive(), await ws.receive()] == ["y", "z"]
    assert ws.stats.messages_in == 5
    await ws.close()


@pytest.mark.parametrize("before", [True, False], ids=["before", "meanwhile"])
async def test_the_event_is_set_by_what_comes_to_a_task_that_waits(before: bool) -> None:
    """Others may look at it: a message sets it, until it is taken."""
    server = Server()
    ws = await server.accept()
    if before:
        assert not ws.event.is_set()
    waiting = asyncio.ensure_future(ws.receive())
    await settled()
    seen = asyncio.ensure_future(ws.event.wait())
    assert await arrives(server, waiting) == "x"
    assert await seen is True
    assert not ws.event.is_set()
    await ws.close()
    assert ws.event.is_set()


async def test_a_turn_of_async_for_says_what_kind_it_is() -> None:
    server = Server()
    ws = await server.accept()
    turn = asyncio.ensure_future(anext(aiter(ws)))
    message = await arrives(server, turn, "")
    assert (type(message), message.data) == (TextMessage, "")
    turn = asyncio.ensure_future(anext(aiter(ws)))
    await settled()
    server.say("receive", bytes=b"")
    message = await turn
    assert (type(message), message.data) == (BinaryMessage, b"")
    await ws.close()


async def test_a_stream_that_waits_gets_what_comes() -> None:
    server = Server()
    ws = await server.accept()

    async def stream() -> list[Any]:
        return [piece async for piece in ws.receive_stream()]

    for _ in range(2):
        assert await arrives(server, asyncio.ensure_future(stream())) == ["x"]
        assert await arrives(server, asyncio.ensure_future(ws.receive()), "y") == "y"
    await ws.close()


async def test_who_may_not_receive_takes_nothing_from_who_waits() -> None:
    server = Server()
    ws = await server.accept()
    waiting = asyncio.ensure_future(ws.receive())
    await settled()
    for other in (ws.receive(), ws.receive(0), anext(aiter(ws.receive_stream()))):
        with pytest.raises(WebSocketRuntimeError, match="already waiting"):
            await other
    assert await arrives(server, waiting) == "x"
    assert await arrives(server, asyncio.ensure_future(ws.receive(5)), "y") == "y"
    await ws.close()


@pytest.mark.parametrize("first", ["message", "cancellation"])
async def test_what_comes_in_the_turn_of_a_cancellation_is_there_for_the_next(first: str) -> None:
    server = Server()
    ws = await server.accept()
    waiting = asyncio.ensure_future(ws.receive())
    await settled()
    if first == "message":
        server.say("receive", text="x")
    assert waiting.cancel()
    if first != "message":
        server.say("receive", text="x")
    await asyncio.wait([waiting])
    assert waiting.cancelled()
    assert ws.stats.messages_waiting == 0 or ws._inbox.messages[0] == "x"
    assert await ws.receive() == "x"
    assert ws.stats.messages_in == 1
    await ws.close()


class _Swallowing(Events):
    """Its receive() gives what is there although it is cancelled, as wait_for() of 3.11 does."""

    async def get(self) -> Any:
        try:
            return await super().get()
        except asyncio.CancelledError:
            if self.empty():
                raise
            return self.get_nowait()


@pytest.mark.parametrize("ended", [False, True])
async def test_a_message_that_a_cancellation_brings_is_received(ended: bool, direct: bool) -> None:
    """By its task, whether its owner cancels it or our end; what came before that comes first."""
    server = Server()
    server.events = _Swallowing()
    server.events.put_nowait({"type": "websocket.connect"})
    ws = await server.accept()
    waiting = asyncio.ensure_future(ws.receive())
    await settled()
    server.say("receive", text="x")
    if ended:
        ws._link.begin_close(Close(3000))
    else:
        waiting.cancel()
    if direct or ended:
        assert await waiting == "x"
        assert waiting.cancelling() == (0 if ended else 1)
    else:  # another task is in the server's receive()
        with pytest.raises(asyncio.CancelledError):
            await waiting
    await ws.close()


async def test_a_message_and_the_end_in_one_turn_come_one_after_the_other() -> None:
    server = Server()
    ws = await server.accept()
    waiting = asyncio.ensure_future(ws.receive())
    await settled()
    server.say("receive", text="x")
    server.say("disconnect", code=3000)
    assert await waiting == "x"
    with pytest.raises(ConnectionClosed):
        await ws.receive()
    assert ws.stats.messages_in == 1
    await ws.wait_closed()
