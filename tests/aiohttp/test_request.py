"""What a client may have sent before, with and behind its request."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from aiohttp import web

from simplews import AioServer, WebSocketRuntimeError
from simplews import ConnectionError as OpenError

from ..peer import BINARY, CLOSE, TEXT, Peer, close_frame, frame
from ..tls import Tls
from .site import TIMES, VERSION, Log, Site, answer, get, request, running

PLAIN = b"GET /plain HTTP/1.1\r\nHost: localhost\r\n\r\n"


@pytest.fixture(params=["plain", "tls"])
def context(request: pytest.FixtureRequest, tls: Tls) -> Tls | None:
    return tls if request.param == "tls" else None


async def echo(request: web.Request) -> Any:
    """Plain answers for /plain, and an echo elsewhere; /late takes its time first."""
    if request.path == "/plain":
        return web.Response(text="plain")
    if request.path == "/late":
        await asyncio.sleep(5)
    async with AioServer.accept(aiohttp=request, compression=None) as ws:
        async for message in ws:
            await ws.send(message)
    return ws.response


async def echoed(peer: Peer, messages: list[bytes]) -> None:
    """The peer has its messages back, and closes."""
    assert [await peer.frame() for _ in messages] == [(BINARY, data) for data in messages]
    await peer.send_close(1000)
    assert await peer.frames() == [(CLOSE, b"\x03\xe8")]


# ----------------------------------------------- bytes in the request's segment

SIZES = {
    "one": [b"x"],
    "several": [b"a", b"", b"bc" * 100],
    "100 KB": [b"x" * 100_000],
    "1 MB in pieces": [bytes([number]) * 10_000 for number in range(100)],
}


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("path", ["/", "/late"])
@pytest.mark.parametrize("buffer", [None, 512])
async def test_messages_behind_the_request_are_delivered(
    context: Tls | None, size: str, path: str, buffer: int | None, log: Log
) -> None:
    """Whenever the handler accepts, and however little aiohttp wants to hold meanwhile."""
    messages = SIZES[size]
    data = b"".join(frame(BINARY, message) for message in messages)
    options = {} if buffer is None else {"read_bufsize": buffer}
    async with running(echo, context, **options) as site:
        async with site.peer() as peer:
            writing = asyncio.ensure_future(peer.write(request(path) + data))
            assert (await peer.head()).startswith(b"HTTP/1.1 101 ")
            await echoed(peer, messages)
            await writing
    assert log.lines() == []


async def test_a_request_in_single_bytes(context: Tls | None) -> None:
    async with running(echo, context) as site:
        async with site.peer() as peer:
            for byte in request() + frame(BINARY, "abc"):
                await peer.write(bytes([byte]))
                await asyncio.sleep(0)
            assert (await peer.head()).startswith(b"HTTP/1.1 101 ")
            await echoed(peer, [b"abc"])


async def test_a_close_behind_the_request(context: Tls | None, log: Log) -> None:
    received: list[object] = []

    async def handler(request: web.Request) -> None:
        async with AioServer.accept(aiohttp=request) as ws:
            received.append(await ws.receive())
            await ws.receive()

    async with running(handler, context) as site:
        async with site.peer(request() + frame(TEXT, "x") + close_frame(1000)) as peer:
            assert (await peer.head()).startswith(b"HTTP/1.1 101 ")
            assert await peer.frames() == [(CLOSE, b"\x03\xe8")]
    assert received == ["x"]
    assert log.lines() == []


async def test_a_broken_frame_behind_the_request_is_1002(log: Log) -> None:
    async with running(echo) as site:
        async with site.peer(request() + b"\x83\x80\0\0\0\0") as peer:
            await peer.head()
            ((opcode, payload),) = await peer.frames()
            assert (opcode, payload[:2]) == (CLOSE, b"\x03\xea")
    assert log.lines() == []


# ------------------------------------------------------- keep-alive, pipelining


@pytest.mark.parametrize("before", [1, 3])
async def test_a_connection_that_served_plain_requests(
    context: Tls | None, before: int, log: Log
) -> None:
    async with running(echo, context) as site:
        async with site.peer() as peer:
            for _ in range(before):
                assert (await get(peer))[::2] == (200, b"plain")
            await peer.write(request() + frame(BINARY, "early"))
            await peer.head()
            await peer.send(BINARY, "later")
            await echoed(peer, [b"early", b"later"])
    assert log.lines() == []


@pytest.mark.skipif(VERSION == (3, 10), reason="aiohttp's timer loops on a clock as exact as ours")
async def test_a_connection_that_was_idle_for_long(log: Log) -> None:
    """aiohttp's timer for idle connections does not run when they are ours."""
    async with running(echo, keepalive_timeout=5) as site:
        async with site.peer() as peer:
            await get(peer)
            await peer.write(request())
            await peer.head()
            await asyncio.sleep(100)
            await peer.send(BINARY, "x")
            await echoed(peer, [b"x"])
    assert log.lines() == []


@pytest.mark.parametrize("wrong", [{"Upgrade": None}, {"Sec_WebSocket_Version": "8"}])
async def test_a_refused_connection_serves_plain_requests_and_a_websocket(
    context: Tls | None, wrong: dict[str, Any], log: Log
) -> None:
    async with running(echo, context) as site:
        async with site.peer() as peer:
            for _ in range(2):
                status, fields, body = await get(peer, request(**wrong))
                assert (status, fields["upgrade"]) == (426, "websocket")
                # RFC 9110 §7.8
                assert fields["connection"] == "Upgrade"
                assert body
                assert (await get(peer))[::2] == (200, b"plain")
            await peer.write(request() + frame(BINARY, "x"))
            await peer.head()
            await echoed(peer, [b"x"])
    assert log.lines() == []


async def test_a_refused_client_that_wants_no_keep_alive_is_closed() -> None:
    async with running(echo) as site:
        async with site.peer() as peer:
            data = request(Upgrade=None, Connection="close")
            status, fields, _ = await get(peer, data)
            assert (status, fields["connection"]) == (426, "close, Upgrade")
            assert await peer.frames() == []


async def test_a_plain_request_and_an_upgrade_in_one_segment(context: Tls | None, log: Log) -> None:
    async with running(echo, context) as site:
        async with site.peer(PLAIN + PLAIN + request()) as peer:
            for _ in range(2):
                assert (await answer(peer))[::2] == (200, b"plain")
            assert (await peer.head()).startswith(b"HTTP/1.1 101 ")
            await peer.send(BINARY, "x")
            await echoed(peer, [b"x"])
    assert log.lines() == []


@pytest.mark.skipif(VERSION < (3, 14), reason="aiohttp drops what is behind a pipelined upgrade")
async def test_a_plain_request_an_upgrade_and_messages_in_one_segment(
    context: Tls | None,
) -> None:
    async with running(echo, context) as site:
        async with site.peer(PLAIN + request() + frame(BINARY, "x")) as peer:
            assert (await answer(peer))[::2] == (200, b"plain")
            await peer.head()
            await echoed(peer, [b"x"])


async def test_two_upgrades_in_one_segment_the_first_of_them_refused(log: Log) -> None:
    async with running(echo) as site:
        async with site.peer(request(Upgrade=None) + request()) as peer:
            assert (await answer(peer))[0] == 426
            assert (await peer.head()).startswith(b"HTTP/1.1 101 ")
            await peer.send(BINARY, "x")
            await echoed(peer, [b"x"])
    assert log.lines() == []


# -------------------------------------------------------------------- refusals


async def only_accept(request: web.Request, **options: Any) -> Any:
    """Let our refusal go through to aiohttp."""
    ws = await AioServer.accept(aiohttp=request, **options)
    return ws.response


async def accept_or_none(request: web.Request) -> Any:
    try:
        return await only_accept(request)
    except OpenError:
        return None


async def accept_or_answer(request: web.Request) -> Any:
    try:
        return await only_accept(request)
    except OpenError:
        return web.Response(text="not to be seen")


async def accept_or_raise(request: web.Request) -> Any:
    try:
        return await only_accept(request)
    except OpenError as exc:
        raise web.HTTPForbidden(text="not to be seen") from exc


HANDLERS = [only_accept, accept_or_none, accept_or_answer, accept_or_raise]

WRONG: dict[str, tuple[bytes, int]] = {
    "plain": (PLAIN, 426),
    "version": (request(Sec_WebSocket_Version="8"), 426),
    "no version": (request(Sec_WebSocket_Version=None), 426),
    "key": (request(Sec_WebSocket_Key="short"), 400),
    "no key": (request(Sec_WebSocket_Key=None), 400),
    "connection": (request(Connection="keep-alive"), 400),
    "POST": (request(method="POST", Content_Length="0"), 405),
    "HTTP/1.0": (request(version="1.0"), 505),
}


@pytest.mark.parametrize("handler", HANDLERS)
@pytest.mark.parametrize("name", WRONG)
async def test_a_wrong_request_is_refused(handler: Any, name: str, log: Log) -> None:
    """What the handler makes of it is up to it: the answer is out."""
    data, expected = WRONG[name]
    async with running(handler) as site:
        async with site.peer() as peer:
            status, fields, body = await get(peer, data)
            assert status == expected
            assert body and b"not to be seen" not in body
            assert "upgrade" in fields or expected != 426
            if name != "HTTP/1.0" and (TIMES > 1 or handler is only_accept):
                assert (await get(peer, data))[0] == expected
            else:
                assert await peer.at_end()
    assert log.lines() == []


async def test_a_refusal_that_the_handler_lets_through_is_one_line(log: Log) -> None:
    async with running(only_accept) as site:
        async with site.peer() as peer:
            await get(peer)
    (line,) = log.lines(0)
    assert line.startswith("simplews.server INFO: 127.0.0.1 /plain: refused a client with HTTP 426")


@pytest.mark.parametrize("fails", [False, True])
async def test_a_path_writes_nothing_of_its_own_into_the_log(fails: bool, log: Log) -> None:
    async def handler(request: web.Request) -> Any:
        if not fails:
            return await only_accept(request)
        try:
            return await AioServer.accept(aiohttp=request)
        except OpenError:
            raise LookupError("mine") from None

    async with running(handler) as site:
        async with site.peer() as peer:
            await get(peer, b"GET /%0d%1b[2JINFO HTTP/1.1\r\nHost: localhost\r\n\r\n")
    (line,) = log.lines(0)
    assert "/%0d%1b[2JINFO" in line
    assert line.isprintable()


async def test_a_handler_that_fails_behind_a_refusal_is_logged(log: Log) -> None:
    async def handler(request: web.Request) -> Any:
        try:
            return await AioServer.accept(aiohttp=request)
        except OpenError:
            raise LookupError("mine") from None

    async with running(handler) as site:
        async with site.peer() as peer:
            for _ in range(2):
                assert (await get(peer))[0] == 426
    assert log.lines() == ["simplews.server ERROR: the handler of /plain for 127.0.0.1 raised"] * 2
    assert log.raised()[0] == ("simplews.server", LookupError)


async def test_a_foreign_origin_is_refused(log: Log) -> None:
    async def handler(request: web.Request) -> Any:
        return await only_accept(request, origins=["https://ours.example"])

    async with running(handler) as site:
        async with site.peer() as peer:
            for origin in ("https://other.example", None):
                assert (await get(peer, request(Origin=origin)))[0] == 403
            await peer.write(request(Origin="https://ours.example"))
            assert (await peer.head()).startswith(b"HTTP/1.1 101 ")
    assert log.lines() == []


async def test_a_choice_that_takes_too_long_is_answered_with_408(log: Log) -> None:
    class Slow(AioServer):
        async def choose_subprotocol(self, request: object) -> str | None:
            await asyncio.sleep(100)
            return None

    async def handler(request: web.Request) -> None:
        await Slow.accept(aiohttp=request, open_timeout=1)

    async with running(handler) as site:
        async with site.peer() as peer:
            assert (await get(peer, request()))[0] == 408
    assert log.lines() == []


async def test_bytes_that_are_not_text_in_a_header_field_are_no_reason_to_refuse() -> None:
    seen: list[str] = []

    async def handler(request: web.Request) -> None:
        ws = await AioServer.accept(aiohttp=request)
        seen.append(ws.headers["X-Name"])

    async with running(handler) as site:
        async with site.peer(request().replace(b"\r\n\r\n", b"\r\nX-Name: \xe9\r\n\r\n")) as peer:
            assert (await peer.head()).startswith(b"HTTP/1.1 101 ")
    assert seen == ["é"]


# ---------------------------------------------------------------------- reject


@pytest.mark.parametrize("data", [PLAIN, request()], ids=["plain", "upgrade"])
async def test_reject_answers_what_it_is_told(context: Tls | None, data: bytes, log: Log) -> None:
    async def handler(request: web.Request) -> None:
        await AioServer.reject(
            aiohttp=request,
            status=401,
            extra_headers=[
                ("WWW-Authenticate", "Basic"),
                ("WWW-Authenticate", "Bearer"),
                ("Connection", "close"),
                ("X-Name", "é".encode()),
            ],
            body="who are yoü?",
        )

    async with running(handler, context) as site:
        async with site.peer() as peer:
            for _ in range(TIMES):
                await peer.write(data)
                head = await peer.head()
                assert head.startswith(b"HTTP/1.1 401 Unauthorized\r\n")
                assert b"WWW-Authenticate: Basic\r\nWWW-Authenticate: Bearer\r\n" in head
                assert "X-Name: é\r\n".encode() in head
                assert b"Connection:" not in head
                body = "who are yoü?".encode()
                while len(peer.received) < len(body):
                    assert await peer._more()
                assert bytes(peer.received) == body
                peer.received.clear()
    assert log.lines() == []


@pytest.mark.parametrize("status", [204, 304])
async def test_reject_with_a_status_that_has_no_body(status: int) -> None:
    async def handler(request: web.Request) -> None:
        await AioServer.reject(aiohttp=request, status=status, body=b"none")

    async with running(handler) as site:
        async with site.peer() as peer:
            for _ in range(TIMES):
                await peer.write(request())
                assert (await answer(peer, head_only=True))[0] == status
                assert not peer.received


async def test_reject_of_head_has_no_body() -> None:
    async def handler(request: web.Request) -> None:
        await AioServer.reject(aiohttp=request, body=b"none")

    async with running(handler) as site:
        async with site.peer() as peer:
            for _ in range(TIMES):
                await peer.write(PLAIN.replace(b"GET", b"HEAD"))
                assert (await answer(peer, head_only=True))[0] == 403
                assert not peer.received


# ------------------------------------------------------------------ wrong calls


@pytest.mark.parametrize("second", [AioServer.accept, AioServer.reject], ids=["accept", "reject"])
@pytest.mark.parametrize("clone", [False, True])
@pytest.mark.parametrize("wrong", [False, True], ids=["accepted", "refused"])
async def test_a_request_is_answered_once(second: Any, clone: bool, wrong: bool, log: Log) -> None:
    caught: list[BaseException] = []

    async def handler(request: web.Request) -> None:
        other = request.clone() if clone else request
        ws = None
        if wrong:
            await AioServer.reject(aiohttp=request)
        else:
            ws = await AioServer.accept(aiohttp=request)
        try:
            await second(aiohttp=other)
        except WebSocketRuntimeError as exc:
            caught.append(exc)
        if ws is not None:
            await ws.send("fine")

    async with running(handler) as site:
        async with site.peer() as peer:
            if wrong:
                assert (await get(peer, request()))[0] == 403
            else:
                await peer.write(request())
                await peer.head()
                assert await peer.frame() == (TEXT, b"fine")
    assert str(caught).startswith(
        "[WebSocketRuntimeError('this request has been answered already: accept() takes it once"
    )
    assert log.lines() == []


async def test_a_request_that_aiohttp_has_answered(log: Log) -> None:
    caught: list[BaseException] = []

    async def handler(request: web.Request) -> web.StreamResponse:
        response = web.Response(text="plain")
        await response.prepare(request)
        await response.write_eof()
        try:
            await AioServer.accept(aiohttp=request)
        except WebSocketRuntimeError as exc:
            caught.append(exc)
        return response

    async with running(handler) as site:
        async with site.peer() as peer:
            assert (await get(peer, request()))[::2] == (200, b"plain")
    assert len(caught) == 1
    assert log.lines() == []


@pytest.mark.parametrize("what", [object(), "request", web.Response(), 5])
def test_something_that_is_no_request(what: Any) -> None:
    with pytest.raises(TypeError, match=r"takes the request of an aiohttp\.web handler"):
        AioServer.accept(aiohttp=what)


async def test_a_handler_of_the_low_level_server(log: Log) -> None:
    """``web.Server`` knows neither applications nor routes."""
    runner = web.ServerRunner(web.Server(echo))  # type: ignore[arg-type]
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        site = Site(runner, None)
        async with site.peer(request() + frame(BINARY, "x")) as peer:
            await peer.head()
            await echoed(peer, [b"x"])
    finally:
        await runner.cleanup()
    assert not [line for line in log.lines() if "simplews" in line]
