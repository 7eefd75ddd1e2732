"""The chapter on WebSockets over ASGI: its examples and promises (B1 to B20).

Its whole application runs twice: as written, and with simplews
(`chapter/with_simplews.py`).
"""

from __future__ import annotations

import asyncio
import contextlib
import re
import socket
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from aiohttp import ClientSession
from starlette.applications import Starlette
from starlette.routing import WebSocketRoute

from simplews import (
    AioClient,
    AioServer,
    CloseCode,
    ConnectionError,
    Rooms,
    WebSocket,
    WebSocketDisconnect,
    serve,
)
from simplews.auth import bearer_token

from .. import hosts
from ..clock import ClockLoop
from ..hosts import uvicorn_host
from ..peer import TEXT, opened
from .conftest import Hosted, RunScript
from .quoting import DEADLINE, FOLDER, await_, load, quoted, run, source

EARLIER = vars(load("chapter/earlier.py"))
GIVEN = {name: EARLIER[name] for name in ("handle_lifespan", "read_body")}


async def handle_http(scope: Any, receive: Any, send: Any) -> None:
    """The chapter's first application has one from an earlier chapter."""
    await GIVEN["read_body"](receive)
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"hello"})


def simplest() -> Any:
    """The simplest application."""
    return load("chapter/simplest.py", **GIVEN, handle_http=handle_http).application


def raw() -> Any:
    """The whole application as written: its pieces, put together as the chapter says."""
    return load(
        "chapter/http_and_websocket.py",
        **GIVEN,
        handle_websocket=load("chapter/chat_room.py").handle_websocket,
        echo_websocket=load("chapter/simplest.py").handle_websocket,
    ).application


def rewritten() -> Any:
    """The whole application with simplews."""
    return load("chapter/with_simplews.py").application


APPLICATIONS = {"raw": raw, "with simplews": rewritten}


@pytest.fixture(params=list(APPLICATIONS))
def application(request: pytest.FixtureRequest) -> Any:
    """The chapter's application, both ways; each test has its own rooms."""
    return APPLICATIONS[request.param]()


async def echo(ws: AioServer) -> None:
    async for message in ws:
        await ws.send(message)


# ----------------------------------------------------------------- the handshake


async def test_handshake_of_the_chapter() -> None:
    """B1: its request gets its answer, from our listener."""
    async with serve(echo, "127.0.0.1", 0) as server:
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        request = quoted("chapter/handshake_request.txt").replace("\n", "\r\n") + "\r\n"
        writer.write(request.encode())
        head = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
        status, *fields = quoted("chapter/handshake_response.txt").splitlines()
        assert head[0] == status
        assert set(fields) <= set(head)
        writer.transport.abort()
        with contextlib.suppress(OSError):
            await writer.wait_closed()


async def test_client_sends_the_handshake_of_the_chapter() -> None:
    """B1: the same fields, with a key of its own; and it checks the answer's hash."""
    got: asyncio.Queue[list[str]] = asyncio.Queue()

    async def wrong(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        got.put_nowait((await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n"))
        answer = quoted("chapter/handshake_response.txt").replace("\n", "\r\n") + "\r\n"
        writer.write(answer.encode())  # right for the chapter's key only
        writer.close()
        await writer.wait_closed()

    server = await asyncio.start_server(wrong, "127.0.0.1", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        with pytest.raises(ConnectionError, match="Sec-WebSocket-Accept"):
            await AioClient.connect(f"ws://localhost:{port}/ws")
    head = await got.get()
    for line in quoted("chapter/handshake_request.txt").splitlines():
        if line.startswith("Sec-WebSocket-Key"):
            keys = [field for field in head if field.startswith("Sec-WebSocket-Key: ")]
            assert len(keys) == 1 and keys[0] != line
        else:
            assert line.replace("8000", str(port)) in head


# -------------------------------------------------------------- the simplest echo


@pytest.mark.parametrize("ws", ["websockets", "websockets-sansio", "wsproto"])
async def test_simplest_application(ws: str, hosted: Hosted) -> None:
    """B2: text with a prefix, bytes as they are; with each of uvicorn's implementations."""
    async with hosted(simplest(), ws=ws, lifespan=True) as url:
        async with AioClient.connect(url) as client:
            for text in ("Hello, WebSocket!", "grün"):
                await client.send(text)
                assert await client.receive() == f"Echo: {text}"
            await client.send(b"\x00\xff")
            assert await client.receive() == b"\x00\xff"


async def test_three_kinds_of_scope(hosted: Hosted) -> None:
    """B3: lifespan, HTTP and WebSocket in one callable; another is ignored."""
    app = simplest()
    async with uvicorn_host(app, lifespan=True) as port:
        async with ClientSession() as session:
            async with session.get(f"http://127.0.0.1:{port}/") as response:
                assert await response.text() == "hello"
        async with AioClient.connect(f"ws://127.0.0.1:{port}/ws") as client:
            await client.send("x")
            assert await client.receive() == "Echo: x"
    for other in (app, rewritten(), raw()):
        assert await other({"type": "something new"}, None, None) is None


async def test_script(script: RunScript, hosted: Hosted) -> None:
    """B5: the chapter's own client, in a process of its own, with the library it names."""
    async with hosted(simplest()) as url:
        port = int(url.split(":")[2].removesuffix("/ws"))
        async with script("chapter/script.py", port) as client:
            assert await client.end() == "Echo: Hello, WebSocket!\n"


async def test_script_against_our_server(script: RunScript) -> None:
    """B5: and against `serve`."""

    async def handler(ws: AioServer) -> None:
        assert ws.request.path == "/ws"
        async for message in ws:
            await ws.send(f"Echo: {message}")

    async with serve(handler, "127.0.0.1", 0) as server:
        async with script("chapter/script.py", server.port) as client:
            assert await client.end() == "Echo: Hello, WebSocket!\n"


#: `websockets`, as far as the chapter's scripts use it, with our client.
OURS = {
    "import websockets": "import simplews",
    "websockets.connect": "simplews.AioClient.connect",
    "ws.recv()": "ws.receive()",
}


async def test_script_with_our_client(script: RunScript, hosted: Hosted) -> None:
    """B5: three names change."""
    async with hosted(simplest()) as url:
        port = int(url.split(":")[2].removesuffix("/ws"))
        async with script("chapter/script.py", port, OURS) as client:
            assert await client.end() == "Echo: Hello, WebSocket!\n"


@pytest.mark.parametrize("program", ["raw", "with simplews"])
async def test_uvicorn_command(program: str, tmp_path: Path) -> None:
    """B3, B4: ``uvicorn ws_app:application`` from the command line, lifespan included."""
    name, folder = "with_simplews", FOLDER / "chapter"
    if program == "raw":
        # The pieces in one file, as a reader would save them.
        pieces = [source(f"chapter/{p}.py") for p in ("earlier", "simplest")]
        pieces[1] = pieces[1].replace("handle_websocket", "echo_websocket")
        pieces += [source(f"chapter/{p}.py") for p in ("chat_room", "http_and_websocket")]
        name, folder = "ws_app", tmp_path
        (tmp_path / "ws_app.py").write_text("\n\n".join(pieces), encoding="utf-8")
    command = ["-m", "uvicorn", f"{name}:application", "--app-dir", folder, "--port", "0"]
    async with run(*command, "--ws", "websockets-sansio", "--lifespan", "on") as server:
        await server.line("Application startup complete.")
        line = await server.line("Uvicorn running on")
        found = re.search(r"127\.0\.0\.1:(\d+)", line)
        assert found is not None, line
        async with AioClient.connect(f"ws://127.0.0.1:{found[1]}/ws/echo") as client:
            await client.send("Hello")
            assert await client.receive() == "Echo: Hello"
        async with ClientSession() as session:
            async with session.get(f"http://127.0.0.1:{found[1]}/") as response:
                assert "WebSocket Chat" in await response.text()
        await server.interrupt()


# -------------------------------------------------------------------- the chat room

Chatter = Callable[..., Any]


async def said(ws: AioClient) -> Any:
    """The next thing that somebody is told."""
    return await ws.receive_json(DEADLINE)


def message(text: str, room: str = "general") -> dict[str, str]:
    return {"type": "message", "text": text, "room": room}


def system(what: str, room: str = "general") -> dict[str, str]:
    return {"type": "system", "message": f"A user {what} #{room}"}


async def test_chat_room(application: Any, hosted: Hosted) -> None:
    """B6, B7, B8, B10: who is told what, in which room."""
    async with hosted(application, "/ws/chat") as url, contextlib.AsyncExitStack() as stack:

        async def arrive(address: str) -> AioClient:
            ws: AioClient = await stack.enter_async_context(AioClient.connect(address))
            return ws

        ada = await arrive(url)
        other = await arrive(url + "?name=x&room=ideas")
        bob = await arrive(url + "?room=general")
        assert await said(ada) == system("joined")  # not told to Bob, who joined
        await ada.send_json({"text": "Hello"})
        for ws in (ada, bob):  # the sender included
            assert await said(ws) == message("Hello")
        await bob.close()
        assert await said(ada) == system("left")
        await other.send_json({"text": "Alone"})
        assert await said(other) == message("Alone", "ideas")
        await ada.send_json({"text": "the end"})
        assert await said(ada) == message("the end")


async def test_chat_tolerates_what_is_no_json(application: Any, hosted: Hosted) -> None:
    """B9: it is wrapped; empty text is skipped."""
    async with hosted(application, "/ws/chat") as url, AioClient.connect(url) as ws:
        await ws.send("")
        await ws.send("no { JSON")
        assert await said(ws) == message("no { JSON")
        await ws.send('{"other": 1}')
        assert await said(ws) == message('{"other": 1}')


async def test_chat_announces_those_who_fail(
    application: Any, hosted: Hosted, complaints: list[str]
) -> None:
    """B10: leaving is announced also when the handler raises; the chapter's does on a list."""
    async with hosted(application, "/ws/chat") as url, AioClient.connect(url) as ada:
        async with AioClient.connect(url) as bob:
            assert await said(ada) == system("joined")
            await bob.send("[]")
            assert await said(ada) == system("left")
            await bob.wait_closed()
        await ada.send("still here")
        assert await said(ada) == message("still here")
    assert len(complaints) == 1 and "has no attribute 'get'" in complaints.pop()


async def test_chat_survives_a_lost_member(application: Any, hosted: Hosted) -> None:
    """B11, C27: a client that vanishes keeps the others from nothing."""
    async with hosted(application, "/ws/chat") as url, AioClient.connect(url) as ada:
        bob = await AioClient.connect(url)
        assert await said(ada) == system("joined")
        bob.abort()
        assert await said(ada) == system("left")
        await ada.send("still here")
        assert await said(ada) == message("still here")
        await bob.wait_closed()


async def test_broadcast_of_the_chapter_removes_dead_clients() -> None:
    """B11: as written, with a send that raises."""
    example = load("chapter/chat_room.py")
    sent: list[str] = []

    async def alive(event: Any) -> None:
        sent.append(event["text"])

    async def dead(event: Any) -> None:
        raise RuntimeError("gone")

    example.rooms["r"] = {alive, dead}
    await example.broadcast("r", {"a": 1})
    assert example.rooms["r"] == {alive} and sent == ['{"a": 1}']


async def test_broadcast_of_rooms_removes_dead_clients() -> None:
    """B11, C27: the same with `Rooms`, whose broadcast reports it."""
    rooms = Rooms()
    async with opened() as (one, peer), opened() as (other, _):
        await rooms.join("r", one)
        await rooms.join("r", other)
        other.abort()
        await rooms.broadcast("r", "a")
        assert await peer.frame() == (TEXT, b"a")
        await other.wait_closed()
        assert rooms.presence("r") == (one,)
        result = await rooms.broadcast("r", "b")
        assert (result.delivered, result.closed) == (1, 0)


def listener_without_delay() -> socket.socket:
    """Nagle's algorithm waits for the real clock; what is accepted inherits its absence."""
    sock = socket.create_server(("127.0.0.1", 0))
    sock.setblocking(False)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return sock


@pytest.mark.parametrize("client", ["websockets", "simplews"])
@pytest.mark.parametrize("name", list(APPLICATIONS))
def test_three_clients(
    name: str,
    client: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """
    B6, B8, B12: the chapter's script, with the library that it names and with our client.

    It listens for 2 seconds, which is the normal end. They pass on a clock that
    jumps when nobody has anything to do, so server and clients share its loop:
    ``asyncio.run(main())`` is awaited.
    """
    monkeypatch.setattr(hosts, "_listener", listener_without_delay)
    changes = {"asyncio.run(main())": "await main()", "/ws?room=": "/ws/chat?room="}

    async def main() -> None:
        async with uvicorn_host(APPLICATIONS[name]()) as port:
            script = "chapter/multi_client.py"
            renamed = changes | (OURS if client == "simplews" else {})
            began = asyncio.get_running_loop().time()
            await await_(source(script, port, renamed), script)
            assert asyncio.get_running_loop().time() - began >= 2.0

    with asyncio.Runner(loop_factory=ClockLoop) as runner:
        runner.run(main())
    lines = capsys.readouterr().out.splitlines()
    names = ("Alice", "Bob", "Carol")
    for who in names:
        mine = [line for line in lines if line.startswith(f"{who} ")]
        assert mine[0] == f"{who} connected"
        # Whatever the order in which they came: their own message came back.
        own = message(f"Hello from {who}")
        assert f"{who} received: {own}" in mine
    # Who came last is heard by everybody.
    heard = [n for n in names if f"'Hello from {n}'" in "".join(lines)]
    assert heard == list(names)
    assert any(
        all(f"{who} received: {message(f'Hello from {last}')}" in lines for who in names)
        for last in names
    )


# ------------------------------------------------------------------------ rejection


async def test_rejection(hosted: Hosted) -> None:
    """B13, B14: 4001 before accept() is HTTP 403; with the token, from either place, it opens."""
    app = load("chapter/rejecting.py").handle_websocket
    token = {"Authorization": "Bearer valid-token"}
    async with hosted(app) as url:
        for address, headers in ((url, None), (url, {"Authorization": "Bearer wrong"})):
            with pytest.raises(ConnectionError) as raised:
                await AioClient.connect(address, headers=headers)
            assert raised.value.status_code == 403
        for address, headers in ((url, token), (url + "?a=b&token=valid-token", None)):
            async with AioClient.connect(address, headers=headers) as ws:
                await ws.wait_closed()  # the chapter's handler goes no further


@pytest.mark.parametrize(
    ("scope", "token"),
    [
        ({"headers": [(b"authorization", b"Bearer abc")]}, "abc"),
        ({"headers": [(b"authorization", b"Bearer abc")], "query_string": b"token=x"}, "abc"),
        ({"headers": [(b"authorization", b"Basic abc")], "query_string": b"token=x"}, "x"),
        ({"query_string": b"a=b&token=x"}, "x"),
        ({}, ""),
    ],
)
def test_token(scope: dict[str, Any], token: str) -> None:
    """B14: `bearer_token` finds what the chapter's function finds; None where that has ""."""
    scope["type"] = "websocket"
    theirs = load("chapter/rejecting.py").get_token_from_scope
    assert theirs(scope) == token
    assert (bearer_token(scope) or "") == token


@pytest.mark.parametrize("visible", [False, True])
async def test_rejection_with_our_class(visible: bool, hosted: Hosted) -> None:
    """B13, B14, C26: the same; and with *visible*, the code arrives."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        ws = WebSocket(scope, receive, send)
        if bearer_token(ws) != "valid-token":
            if visible:
                await ws.reject(4001, "who are you?", visible=True)
            else:
                await ws.close(4001)
            return
        await ws.accept()
        await ws.close()

    async with hosted(app) as url:
        if visible:
            async with AioClient.connect(url) as ws:
                await ws.wait_closed()
                assert (ws.close_code, ws.close_reason) == (4001, "who are you?")
        else:
            with pytest.raises(ConnectionError) as raised:
                await AioClient.connect(url)
            assert raised.value.status_code == 403
        async with AioClient.connect(url + "?token=valid-token") as ws:
            await ws.wait_closed()
            assert ws.close_code == 1000


@pytest.mark.parametrize("code", [1000, 1001, 1002, 1003, 4000, 4001, 4004, 4999])
async def test_close_codes(code: int, hosted: Hosted) -> None:
    """B15: those that the chapter lists arrive."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        ws = WebSocket(scope, receive, send)
        await ws.accept()
        await ws.close(code)

    async with hosted(app) as url, AioClient.connect(url) as ws:
        await ws.wait_closed()
        assert ws.close_code == code


async def test_close_codes_are_checked() -> None:
    """B15: they have names; those that must not be sent are refused."""
    names = [CloseCode(code).name for code in (1000, 1001, 1002, 1003)]
    assert names == ["NORMAL_CLOSURE", "GOING_AWAY", "PROTOCOL_ERROR", "UNSUPPORTED_DATA"]
    async with opened() as (ws, _):
        for code in (0, 999, 1004, 1005, 1006, 1015, 2999, 5000):
            with pytest.raises(ValueError, match=str(code)):
                await ws.close(code)
        assert ws.connected


# --------------------------------------------------------------------------- binary


async def test_binary_echo(hosted: Hosted) -> None:
    """B16: text becomes bytes, and what is empty survives."""
    async with hosted(load("chapter/binary_echo.py").binary_echo) as url:
        async with AioClient.connect(url) as ws:
            for data in (b"\x00\xff", "grün", b"", ""):
                await ws.send(data)
                answer = data.encode() if isinstance(data, str) else data
                assert await ws.receive() == answer


# ----------------------------------------------------------------- HTTP and WebSocket


async def test_paths(application: Any) -> None:
    """B17: the page, a 404, two WebSockets and a refusal, on one port, lifespan included."""
    async with uvicorn_host(application, lifespan=True) as port, ClientSession() as session:
        async with session.get(f"http://127.0.0.1:{port}/") as response:
            assert response.status == 200
            assert response.headers["content-type"] == "text/html; charset=utf-8"
            assert "<title>WebSocket Chat</title>" in await response.text()
        async with session.get(f"http://127.0.0.1:{port}/nothing") as response:
            assert (response.status, await response.text()) == (404, "Not Found")
        async with AioClient.connect(f"ws://127.0.0.1:{port}/ws/chat") as ws:
            await ws.send("x")
            assert await said(ws) == message("x")
        async with AioClient.connect(f"ws://127.0.0.1:{port}/ws/echo") as ws:
            await ws.send("x")
            assert await ws.receive() == "Echo: x"
            await ws.send(b"x")
            assert await ws.receive() == b"x"
        with pytest.raises(ConnectionError) as raised:
            await AioClient.connect(f"ws://127.0.0.1:{port}/ws/nothing")
        assert raised.value.status_code == 403


@pytest.mark.parametrize("path", ["/ws/chat", "/ws/echo"])
async def test_server_goes_down(application: Any, path: str, hosted: Hosted) -> None:
    """B3, B17: with clients in it; uvicorn says 1012, and no handler fails."""
    async with hosted(application, path, lifespan=True) as url:
        ws = await AioClient.connect(url)
        await ws.send("x")
        await ws.receive()
    await ws.wait_closed()
    assert ws.close_code == 1012


async def test_unknown_path_is_closed_with_4004(application: Any) -> None:
    """B17: what the server is told."""
    sent: list[Any] = []

    async def receive() -> Any:
        return {"type": "websocket.connect"}

    async def send(message: Any) -> None:
        sent.append(message)

    await application({"type": "websocket", "path": "/ws/nothing"}, receive, send)
    assert [(message["type"], message["code"]) for message in sent] == [("websocket.close", 4004)]


def test_rewritten_page_is_that_of_the_chapter() -> None:
    """B18: letter by letter, but for its indentation."""
    ours = load("chapter/with_simplews.py").PAGE.decode()
    page = re.search(r'html = """(.*?)"""', quoted("chapter/http_and_websocket.py"), re.DOTALL)
    assert page is not None and page[1].split() == ours.split()


# ------------------------------------------------------------------ concurrency


async def test_handlers_interleave_at_awaits_only() -> None:
    """B19: no lock is needed around what does not await."""
    inside = 0
    most = 0

    async def count(ws: AioServer) -> None:
        nonlocal inside, most
        async for _ in ws:
            inside += 1
            most = max(most, inside)
            sum(range(1000))
            inside -= 1
            await ws.send("done")

    async with serve(count, "127.0.0.1", 0) as server:

        async def ask() -> None:
            async with AioClient.connect(f"ws://127.0.0.1:{server.port}/") as ws:
                for _ in range(5):
                    await ws.send("x")
                    assert await ws.receive() == "done"

        await asyncio.gather(*(ask() for _ in range(3)))
    assert most == 1


async def test_blocking_work_goes_to_an_executor() -> None:
    """B19: other connections are served while a thread works."""
    working, go_on = asyncio.Event(), threading.Event()
    loop = asyncio.get_running_loop()

    def work(text: str) -> str:
        loop.call_soon_threadsafe(working.set)
        assert go_on.wait(DEADLINE)
        return text.upper()

    async def handler(ws: AioServer) -> None:
        text = str(await ws.receive())
        await ws.send(await asyncio.to_thread(work, text) if text == "slow" else text)

    async with serve(handler, "127.0.0.1", 0) as server:
        url = f"ws://127.0.0.1:{server.port}/"
        async with AioClient.connect(url) as slow:
            await slow.send("slow")
            await working.wait()
            async with AioClient.connect(url) as quick:
                await quick.send("quick")
                assert await quick.receive() == "quick"
            go_on.set()
            assert await slow.receive() == "SLOW"


async def test_thread_hands_over_to_the_loop(echo_port: int) -> None:
    """B19: a connection belongs to its loop; a thread submits coroutines to it."""
    loop = asyncio.get_running_loop()
    async with AioClient.connect(f"ws://127.0.0.1:{echo_port}/") as ws:

        def worker() -> Any:
            asyncio.run_coroutine_threadsafe(ws.send("from a thread"), loop).result(DEADLINE)
            return asyncio.run_coroutine_threadsafe(ws.receive(), loop).result(DEADLINE)

        assert await asyncio.to_thread(worker) == "from a thread"


# -------------------------------------------------------------------- frameworks


async def test_starlette_endpoint_with_our_class(hosted: Hosted) -> None:
    """B2, B20: the snippet, whose class is ours."""
    endpoint = load("chapter/starlette_endpoint.py").websocket_endpoint

    async def app(scope: Any, receive: Any, send: Any) -> None:
        # As a framework does: its loop ends when the client leaves.
        with contextlib.suppress(WebSocketDisconnect):
            await endpoint(WebSocket(scope, receive, send))

    async with hosted(app) as url, AioClient.connect(url) as ws:
        await ws.send("Hello")
        assert await ws.receive() == "Echo: Hello"


async def test_starlette_endpoint_inside_starlette(hosted: Hosted) -> None:
    """B20: a route of Starlette hands its connection to our class."""
    endpoint = load("chapter/starlette_endpoint.py").websocket_endpoint

    async def route(theirs: Any) -> None:
        with contextlib.suppress(WebSocketDisconnect):
            await endpoint(WebSocket(theirs.scope, theirs.receive, theirs.send))

    app = Starlette(routes=[WebSocketRoute("/ws", route)])
    async with hosted(app) as url, AioClient.connect(url) as ws:
        await ws.send("Hello")
        assert await ws.receive() == "Echo: Hello"


async def test_fastapi_endpoint(hosted: Hosted) -> None:
    """B20: the snippet as it is, met by our client."""
    app = load("chapter/fastapi_endpoint.py").app
    async with hosted(app) as url, AioClient.connect(url) as ws:
        assert await ws.receive() == "Connected!"


async def test_fastapi_endpoint_lifted(hosted: Hosted) -> None:
    """B20, C1: the snippet's WebSocket, accepted by FastAPI, becomes an `AioServer`."""
    name = "chapter/fastapi_endpoint.py"
    text = source(
        name,
        changes={
            "    # ...": "    async with simplews.AioServer.accept(asgi=websocket) as ws:\n"
            "        await ws.send(await ws.receive())"
        },
    )
    module = await await_("import simplews\n" + text, name)
    async with hosted(module.app) as url, AioClient.connect(url) as ws:
        assert await ws.receive() == "Connected!"
        await ws.send(b"and on")
        assert await ws.receive() == b"and on"


async def test_facade_equals_raw_events() -> None:
    """B20: the chapter's three calls, each with its event."""
    trace: list[Any] = []
    events: list[Any] = [
        {"type": "websocket.connect"},
        {"type": "websocket.receive", "text": "Hello"},
    ]

    async def receive() -> Any:
        trace.append("receive()")
        return events.pop(0)

    async def send(message: Any) -> None:
        trace.append({key: value for key, value in message.items() if value})

    ws = WebSocket({"type": "websocket"}, receive, send)
    await ws.accept()
    await ws.send_text(await ws.receive_text())
    assert trace == [
        "receive()",
        {"type": "websocket.accept"},
        "receive()",
        {"type": "websocket.send", "text": "Hello"},
    ]
