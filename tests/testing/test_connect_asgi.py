"""A client of an ASGI application, without a server."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

import fastapi
import pytest
import starlette.applications
import starlette.responses
import starlette.routing
import starlette.websockets

from simplews import AioServer, ConnectionClosed, Rooms, State, WebSocket
from simplews import ConnectionError as OpenError
from simplews.testing import ASGIClient, connect_asgi


async def echo(scope: Any, receive: Any, send: Any) -> None:
    """ASGI as it is."""
    assert (await receive())["type"] == "websocket.connect"
    await send({"type": "websocket.accept"})
    while (event := await receive())["type"] == "websocket.receive":
        await send({"type": "websocket.send", **{k: v for k, v in event.items() if k != "type"}})


async def ours(scope: Any, receive: Any, send: Any) -> None:
    async with AioServer.accept(asgi=(scope, receive, send), subprotocols=["b", "a"]) as ws:
        async for message in ws:
            await ws.send(message)


async def websocket(scope: Any, receive: Any, send: Any) -> None:
    await starlette_echo(WebSocket(scope, receive, send))


async def starlette_echo(ws: Any) -> None:
    await ws.accept()
    while True:
        event = await ws.receive()
        if event["type"] == "websocket.disconnect":
            return
        if event.get("text") is not None:
            await ws.send_text(event["text"])
        else:
            await ws.send_bytes(event["bytes"])


api = fastapi.FastAPI()
api.router.routes.append(starlette.routing.WebSocketRoute("/", starlette_echo))


@api.websocket("/rooms/{room}")
async def room(ws: fastapi.WebSocket, room: str, name: str = "nobody") -> None:
    await ws.accept(subprotocol="chat", headers=[(b"x-room", room.encode())])
    await ws.send_json({"room": room, "name": name})
    while True:
        await ws.send_text(await ws.receive_text())  # the disconnect is not caught


@api.websocket("/private")
async def private(ws: fastapi.WebSocket) -> None:
    raise fastapi.WebSocketException(code=1008, reason="no")


@api.websocket("/denied")
async def denied(ws: fastapi.WebSocket) -> None:
    await ws.send_denial_response(starlette.responses.JSONResponse({"why": "never"}, 418))


@api.websocket("/broken")
async def broken(ws: fastapi.WebSocket) -> None:
    await ws.accept()
    raise LookupError("in the endpoint")


APPS = {
    "asgi": echo,
    "AioServer": ours,
    "WebSocket": websocket,
    "starlette": starlette.applications.Starlette(
        routes=[starlette.routing.WebSocketRoute("/", starlette_echo)]
    ),
    "fastapi": api,
}
every_app = pytest.mark.parametrize("app", APPS.values(), ids=APPS)


# ------------------------------------------------------------------ every framework


@every_app
async def test_messages_of_both_kinds(app: Any) -> None:
    async with connect_asgi(app) as ws:
        assert isinstance(ws, ASGIClient)
        assert ws.connected
        for data in ("", "é😀", b"", b"\0\xff", "x" * 100_000):
            await ws.send(data)
            got = await ws.receive()
            assert (got, type(got)) == (data, type(data))
        await ws.send_json({"é": [1]})
        assert await ws.receive_json() == {"é": [1]}
        await ws.send(["frag", "ments"])
        assert await ws.receive_text() == "fragments"
        given = (piece for piece in ("frag", b"ments", "never"))
        with pytest.raises(TypeError):
            await ws.send(given)
        assert not list(given)  # it was closed
        assert await ws.receive(timeout=5) is None
        assert (ws.stats.messages_in, ws.stats.messages_out) == (7, 7)
    assert ws.connection_state is State.CLOSED
    assert ws.close_code == 1000


@every_app
async def test_the_client_closes(app: Any) -> None:
    async with connect_asgi(app) as ws:
        await ws.close(3000, "done")
        with pytest.raises(ConnectionClosed) as caught:
            await ws.receive()
        assert (caught.value.code, caught.value.reason) == (3000, "done")
        with pytest.raises(ConnectionClosed):
            await ws.send("too late")


@every_app
async def test_more_messages_than_fit_arrive_in_order(app: Any) -> None:
    async with connect_asgi(app, max_queue=4) as ws:
        sending = asyncio.ensure_future(_send_all(ws, 200))
        assert [await ws.receive() for _ in range(200)] == [str(n) for n in range(200)]
        await sending


async def _send_all(ws: ASGIClient, count: int) -> None:
    for number in range(count):
        await ws.send(str(number))


# ----------------------------------------------------------------- request and answer


async def test_what_the_application_is_asked_and_what_it_answers() -> None:
    async with connect_asgi(
        api, "/rooms/lobby%20two?name=ann", ["chat", "v2"], {"X-Token": "1"}
    ) as ws:
        assert await ws.receive_json() == {"room": "lobby two", "name": "ann"}
        assert ws.subprotocol == "chat"
        assert ws.headers["X-Room"] == "lobby two"
        assert ws.request.headers["x-token"] == "1"


async def test_the_scope_is_a_server_s() -> None:
    seen: dict[str, Any] = {}

    async def app(scope: Any, receive: Any, send: Any) -> None:
        seen.update(scope)
        await echo(scope, receive, send)

    async with connect_asgi(app, "/a%20b?c=d", "x", scope={"client": ("::1", 1), "user": "ann"}):
        pass
    assert (seen["type"], seen["scheme"], seen["http_version"]) == ("websocket", "ws", "1.1")
    assert (seen["path"], seen["raw_path"], seen["query_string"]) == ("/a b", b"/a%20b", b"c=d")
    assert seen["subprotocols"] == ["x"]
    assert (seen["client"], seen["user"]) == (("::1", 1), "ann")
    names = {name for name, _ in seen["headers"]}
    assert {b"host", b"upgrade", b"sec-websocket-key", b"sec-websocket-protocol"} <= names


async def test_accept_of_ours_chooses_a_subprotocol() -> None:
    async with connect_asgi(ours, subprotocols=["x", "a"]) as ws:
        assert ws.subprotocol == "a"


@pytest.mark.parametrize(
    ("path", "status", "body"),
    [("/private", 403, b""), ("/nowhere", 403, b""), ("/denied", 418, b'{"why":"never"}')],
)
async def test_a_refusal_has_its_status_and_body(path: str, status: int, body: bytes) -> None:
    with pytest.raises(OpenError, match=f"HTTP {status}") as caught:
        async with connect_asgi(api, path):
            pytest.fail("it is not open")
    assert (caught.value.status_code, caught.value.body) == (status, body)
    if body:
        assert caught.value.headers["content-type"] == "application/json"


async def test_a_refusal_of_ours() -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await AioServer.accept(asgi=(scope, receive, send), origins=["http://good"])

    with pytest.raises(OpenError) as caught:
        async with connect_asgi(app, headers={"Origin": "http://evil"}):
            pass
    assert caught.value.status_code == 403
    assert not hasattr(caught.value, "__notes__")


# -------------------------------------------------------------- the application's end


async def test_the_application_closes() -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        ws = await AioServer.accept(asgi=(scope, receive, send))
        await ws.send("last words")
        await ws.close(4001, "go away")

    async with connect_asgi(app) as ws:
        await ws.wait_closed()
        assert await ws.receive() == "last words"
        with pytest.raises(ConnectionClosed) as caught:
            await ws.receive()
        assert (caught.value.code, caught.value.reason) == (4001, "go away")


async def test_what_the_client_sends_is_delivered_before_its_leaving() -> None:
    got: list[Any] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send({"type": "websocket.accept"})
        await asyncio.sleep(100)
        for _ in range(4):
            got.append(await receive())
        with pytest.raises(OSError, match="left"):
            await send({"type": "websocket.send", "text": "too late"})

    async with connect_asgi(app) as ws:
        await ws.send("one")
        await ws.send(b"two")
        await ws.close(1001)
    assert got[:2] == [
        {"type": "websocket.receive", "text": "one"},
        {"type": "websocket.receive", "bytes": b"two"},
    ]
    assert got[2] == got[3] == {"type": "websocket.disconnect", "code": 1001, "reason": ""}


async def test_a_vanished_client_is_1006() -> None:
    got: list[Any] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send({"type": "websocket.accept"})
        got.append(await receive())

    async with connect_asgi(app) as ws:
        ws.abort()
    assert got[0]["code"] == 1006


async def test_an_exception_surfaces_and_is_1006_meanwhile() -> None:
    with pytest.raises(LookupError, match="in the endpoint"):
        async with connect_asgi(api, "/broken") as ws:
            with pytest.raises(ConnectionClosed, match="in the endpoint") as caught:
                await ws.receive()
            assert caught.value.code == 1006
    with pytest.raises(LookupError, match="in the endpoint"):
        async with connect_asgi(api, "/broken") as ws:
            await ws.receive()  # its own end is not what the test wants to hear of
    with pytest.raises(AssertionError) as failed:
        async with connect_asgi(api, "/broken") as ws:
            await ws.wait_closed()
            raise AssertionError("the test's")
    assert "LookupError('in the endpoint')" in failed.value.__notes__[0]


async def test_an_exception_before_the_answer_surfaces_at_once() -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        raise LookupError("before the answer")

    with pytest.raises(LookupError, match="before the answer"):
        async with connect_asgi(app):
            pytest.fail("it is not open")


async def test_returning_without_a_word() -> None:
    async def silent(scope: Any, receive: Any, send: Any) -> None:
        await receive()

    async def brief(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send({"type": "websocket.accept"})

    with pytest.raises(OpenError) as refused:
        async with connect_asgi(silent):
            pass
    assert refused.value.status_code == 500
    async with connect_asgi(brief) as ws:
        with pytest.raises(ConnectionClosed, match="returned without closing") as caught:
            await ws.receive()
        assert caught.value.code == 1006


@pytest.mark.parametrize(
    "event",
    [
        {"type": "websocket.accept"},
        {"type": "websocket.http.response.start", "status": 403},
        {"type": "http.response.start"},
        {"type": "websocket.send", "text": 1},
        {"type": "websocket.send"},
        {"type": "websocket.close", "code": 1006},
    ],
    ids=str,
)
async def test_what_no_server_takes_is_the_application_s_error(event: Any) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send({"type": "websocket.accept"})
        await send(event)

    with pytest.raises((RuntimeError, TypeError, ValueError)):
        async with connect_asgi(app) as ws:
            await ws.wait_closed()


async def test_a_subprotocol_that_was_not_offered_is_the_application_s_error() -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send({"type": "websocket.accept", "subprotocol": "x"})

    with pytest.raises(ValueError, match="'x' was not offered"):
        async with connect_asgi(app, subprotocols="y"):
            pass


async def test_nothing_is_sent_after_the_last_word() -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send({"type": "websocket.accept"})
        await send({"type": "websocket.close"})
        await send({"type": "websocket.send", "text": "more"})

    with pytest.raises(RuntimeError, match="after its last word"):
        async with connect_asgi(app) as ws:
            await ws.wait_closed()


# --------------------------------------------------------------- bounds and deadlines


async def test_a_client_that_does_not_receive_stops_the_application() -> None:
    sent = 0

    async def app(scope: Any, receive: Any, send: Any) -> None:
        nonlocal sent
        await receive()
        await send({"type": "websocket.accept"})
        with contextlib.suppress(OSError):
            while True:
                await send({"type": "websocket.send", "text": "x"})
                sent += 1

    async with connect_asgi(app, max_queue=10) as ws:
        await asyncio.sleep(1)
        assert sent == 10
        for _ in range(10):
            await ws.receive()
        await asyncio.sleep(1)
        assert 10 < sent <= 20


async def test_an_application_that_does_not_receive_stops_the_client() -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send({"type": "websocket.accept"})
        await asyncio.sleep(10_000)

    with pytest.raises(TimeoutError, match=r"await ws\.send") as caught:
        async with connect_asgi(app, timeout=5) as ws:
            while True:
                await ws.send("x" * 100)
    assert ws.stats.bytes_out <= 65536 + 100
    assert "application: waits at" in str(caught.value)
    assert "await asyncio.sleep(10_000)" in str(caught.value)


async def test_too_big_a_message_is_1009() -> None:
    async with connect_asgi(echo, max_message_size=10) as ws:
        await ws.send("x" * 10)
        assert await ws.receive() == "x" * 10
        await ws.send("x" * 11)
        with pytest.raises(ConnectionClosed) as caught:
            await ws.receive()
        assert caught.value.code == 1009


async def test_an_application_that_does_not_answer_meets_the_deadline() -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await asyncio.sleep(10_000)

    with pytest.raises(TimeoutError, match="the application's answer to the request took longer"):
        async with connect_asgi(app, timeout=5):
            pass


async def test_an_application_that_does_not_end_meets_the_deadline() -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send({"type": "websocket.accept"})
        await asyncio.sleep(10_000)

    with pytest.raises(TimeoutError, match="the end of the application took longer"):
        async with connect_asgi(app, timeout=5):
            pass


async def test_cancelling_the_test_leaves_nothing() -> None:
    async def test() -> None:
        async with connect_asgi(api) as ws:
            await ws.receive()

    for steps in range(20):
        task = asyncio.ensure_future(test())
        for _ in range(steps):
            await asyncio.sleep(0)
        task.cancel()
        await asyncio.wait([task])
        assert task.cancelled()


# ------------------------------------------------------------------------ and the rest


async def test_ping_is_the_server_s_to_answer() -> None:
    async with connect_asgi(echo) as ws:
        assert await ws.ping() == 0
        assert ws.latency == 0


async def test_streams_and_rooms_take_it() -> None:
    rooms = Rooms()
    async with connect_asgi(echo) as ws:
        async with rooms.join("lobby", ws):
            result = await rooms.broadcast("lobby", "to all")
            assert result.delivered == 1
        assert [piece async for piece in ws.receive_stream()] == ["to all"]


async def test_lifespan() -> None:
    steps: list[str] = []

    @contextlib.asynccontextmanager
    async def lifespan(_: Any) -> AsyncIterator[dict[str, Any]]:
        steps.append("up")
        yield {"pool": "of connections"}
        steps.append("down")

    async def endpoint(ws: starlette.websockets.WebSocket) -> None:
        await ws.accept()
        await ws.send_text(ws.state.pool)
        await ws.close()

    route = starlette.routing.WebSocketRoute("/", endpoint)
    app = starlette.applications.Starlette(routes=[route], lifespan=lifespan)
    async with connect_asgi(app, lifespan=True) as ws:
        assert steps == ["up"]
        assert await ws.receive() == "of connections"
    assert steps == ["up", "down"]


async def test_a_lifespan_that_fails() -> None:
    async def says(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send({"type": "lifespan.startup.failed", "message": "no database"})

    async def raises(scope: Any, receive: Any, send: Any) -> None:
        raise LookupError(scope["type"])

    async def waits(scope: Any, receive: Any, send: Any) -> None:
        await asyncio.sleep(10_000)

    with pytest.raises(RuntimeError, match="startup of the application failed: no database"):
        async with connect_asgi(says, lifespan=True):
            pass
    with pytest.raises(LookupError, match="lifespan"):
        async with connect_asgi(raises, lifespan=True):
            pass
    with pytest.raises(TimeoutError, match="the startup of the application took longer than 5 s"):
        async with connect_asgi(waits, lifespan=True, timeout=5):
            pass
