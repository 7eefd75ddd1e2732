"""serve(): clients that misbehave, handlers that fail, and an end that leaves nothing."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import gc
import logging
import os
import socket
import statistics
import sys
import weakref
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest

from simplews import (
    AioClient,
    AioServer,
    ConnectionClosed,
    Response,
    Server,
    WebSocketRuntimeError,
    serve,
)
from simplews import ConnectionError as OpenError

from ..peer import CLOSE, REQUEST, TEXT, Peer, frame, settled, until
from ..tls import Tls


def now() -> float:
    return asyncio.get_running_loop().time()


def descriptors() -> set[str]:
    gc.collect()
    found = set()
    for name in os.listdir("/proc/self/fd"):
        with contextlib.suppress(OSError):
            found.add(name + os.readlink(f"/proc/self/fd/{name}"))
    return {thing for thing in found if "/proc/" not in thing}


@pytest.fixture(autouse=True)
async def no_descriptor_left() -> AsyncIterator[None]:
    """No test leaves a socket open, ours or a client's."""
    if not os.path.isdir("/proc/self/fd"):
        yield
        return
    before = descriptors()
    yield
    for _ in range(50):
        if descriptors() == before:
            return
        await asyncio.sleep(0.1)  # on the virtual clock: what lingers has five seconds
    assert descriptors() == before


@pytest.fixture
def log(caplog: pytest.LogCaptureFixture) -> Iterator[pytest.LogCaptureFixture]:
    with caplog.at_level(logging.INFO, "simplews"):
        yield caplog


def lines(log: pytest.LogCaptureFixture) -> list[str]:
    """What was logged on behalf of clients."""
    return [
        f"{r.levelname} {r.getMessage()}"
        for r in log.records
        if r.name.startswith("simplews") and "listening" not in r.getMessage()
    ]


async def echo(ws: AioServer) -> None:
    async for message in ws:
        await ws.send(message)


async def client(server: Server) -> Peer:
    """A raw TCP client."""
    sock = socket.socket()
    sock.setblocking(False)
    await asyncio.get_running_loop().sock_connect(sock, ("127.0.0.1", server.port))
    return Peer(sock)


async def answered(peer: Peer) -> bytes:
    """All that a server answers, to the end of TCP."""
    while await peer._more():
        pass
    return bytes(peer.received)


# ----------------------------------------------------------------- clients


async def test_200_slow_openers_are_closed_in_time_and_harm_nobody() -> None:
    """A byte a second each; and another client comes through at once, all the while."""
    async with serve(echo, "127.0.0.1", open_timeout=5) as server:
        slow = [await client(server) for _ in range(200)]
        began = now()

        async def drip(peer: Peer) -> float:
            with contextlib.suppress(ConnectionError):
                for byte in REQUEST:
                    await peer.write(bytes([byte]))
                    await asyncio.sleep(1)
                    with contextlib.suppress(BlockingIOError):
                        if not peer.sock.recv(1000):
                            break
            return now()

        dripping = [asyncio.ensure_future(drip(peer)) for peer in slow]
        for _ in range(5):
            await asyncio.sleep(1)
            async with AioClient.connect(f"ws://127.0.0.1:{server.port}/") as ws:
                await ws.send("x")
                assert await ws.receive() == "x"
        for ended in await asyncio.gather(*dripping):
            assert ended - began <= 8
        await asyncio.sleep(1)
        assert not server._tasks
        for peer in slow:
            peer.sock.close()


@pytest.mark.parametrize(
    "data, status",
    [
        (b"", b"408"),
        (b"GET / HTT", b"408"),
        (b"GET / HTTP/1.1\r\nX: y\r\n", b"408"),
        (b"GET /" + b"x" * 100_000, b"414"),
        (b"GET / HTTP/1.1\r\n" + b"X: y\r\n" * 50_000, b"431"),
        (b"GET / HTTP/1.1\r\n\r\n" + b"x" * 1_000_000, b"4"),
        (b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\n" + b"x" * 9, b"4"),
        (b"HEAD / HTTP/1.1\r\nHost: x\r\n\r\n", b"4"),
        (REQUEST.replace(b"13", b"12"), b"426"),
    ],
)
async def test_a_bad_opening_is_answered_and_then_closed(data: bytes, status: bytes) -> None:
    """Also when the client is still sending: no reset takes the answer away."""
    async with serve(echo, "127.0.0.1", open_timeout=5) as server:
        peer = await client(server)
        began = now()
        await peer.write(data)
        assert (await answered(peer)).startswith(b"HTTP/1.1 " + status)
        assert now() - began <= (5.1 if status == b"408" else 0.1)
        await asyncio.sleep(1)
        assert not server._tasks
        peer.sock.close()


async def test_a_path_writes_nothing_of_its_own_into_the_log(
    log: pytest.LogCaptureFixture,
) -> None:
    """What is not found is named as it was sent, and not decoded."""
    async with serve({"/chat": echo}, "127.0.0.1") as server:
        peer = await client(server)
        await peer.write(REQUEST.replace(b"GET /", b"GET /%0d%0a%1b[2JINFO?token=secret"))
        body = (await answered(peer)).partition(b"\r\n\r\n")[2]
        peer.sock.close()
    assert body == b"404 Not Found: there is no WebSocket at /%0d%0a%1b[2JINFO\n"
    (line,) = lines(log)
    assert line.endswith("404 there is no WebSocket at /%0d%0a%1b[2JINFO")


@pytest.mark.parametrize("secure", [False, True])
async def test_tls_and_plain_mixed_up_end_quietly(
    secure: bool, tls: Tls, log: pytest.LogCaptureFixture
) -> None:
    context = tls.server if secure else None
    async with serve(echo, "127.0.0.1", ssl=context, open_timeout=5) as server:
        scheme = "ws" if secure else "wss"
        began = now()
        with pytest.raises(OpenError):
            await AioClient.connect(f"{scheme}://127.0.0.1:{server.port}/")
        assert now() - began <= 1
    loud = [line for line in lines(log) if not line.startswith("INFO")]
    assert not loud


@pytest.mark.parametrize("secure", [False, True])
@pytest.mark.parametrize("said", [b"", b"GET / HTTP/1.1\r\n", b"\x16\x03\x01"])
async def test_clients_that_connect_and_say_nothing_do_not_delay_the_end(
    secure: bool, said: bytes, tls: Tls
) -> None:
    server = serve(echo, "127.0.0.1", ssl=tls.server if secure else None, close_timeout=5)
    await server.start()
    silent = [await client(server) for _ in range(20)]
    for peer in silent:
        with contextlib.suppress(ConnectionError):
            await peer.write(said)
    await settled()
    began = now()
    await server.close()
    assert now() - began <= 1
    for peer in silent:
        assert await peer.at_end()
        peer.sock.close()
    # As seen by the client, for whom nothing is open any more.
    assert now() - began <= 1


async def test_more_than_max_connections_get_503_and_leave_room_again() -> None:
    async with serve(echo, "127.0.0.1", max_connections=3) as server:
        url = f"ws://127.0.0.1:{server.port}/"
        open_ = [await AioClient.connect(url) for _ in range(3)]
        for _ in range(5):
            with pytest.raises(OpenError) as caught:
                await AioClient.connect(url)
            assert caught.value.status_code == 503
        for ws in open_:
            await ws.close()
        await asyncio.sleep(2)
        async with AioClient.connect(url) as ws:
            await ws.send("x")
            assert await ws.receive() == "x"


async def test_refused_clients_do_not_take_the_place_of_others() -> None:
    """What is refused lingers for a moment, so that its answer arrives; that is no connection."""
    async with serve(echo, "127.0.0.1", max_connections=1) as server:
        url = f"ws://127.0.0.1:{server.port}/"
        ws = await AioClient.connect(url)
        lingering = []
        for _ in range(10):
            lingering.append(await client(server))
            await lingering[-1].write(REQUEST)
            assert (await lingering[-1].head()).startswith(b"HTTP/1.1 503")
        await ws.close()
        await settled()
        again = await AioClient.connect(url)
        await again.close()
        for peer in lingering:
            peer.sock.close()


# -------------------------------------------------------------- plain HTTP


async def test_http_answers_get_and_head_only() -> None:
    async def page(request: Any) -> Response:
        return Response(200, {"Content-Type": "text/plain"}, "hello")

    async with serve(echo, "127.0.0.1", http=page) as server:
        for method, end in [("GET", b"\r\n\r\nhello"), ("HEAD", b"\r\n\r\n")]:
            peer = await client(server)
            await peer.write(f"{method} / HTTP/1.1\r\nHost: x\r\n\r\n".encode())
            answer = await answered(peer)
            assert answer.startswith(b"HTTP/1.1 200")
            assert b"Content-Length: 5\r\n" in answer
            assert answer.endswith(end)
            peer.sock.close()
        peer = await client(server)
        await peer.write(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 3000000\r\n\r\n")
        sending = asyncio.ensure_future(peer.write(bytes(3_000_000)))
        assert (await answered(peer)).startswith(b"HTTP/1.1 405")
        await asyncio.wait([sending])
        sending.exception()
        peer.sock.close()


@pytest.mark.parametrize(
    "error",
    [
        ValueError("mine"),
        FileNotFoundError("mine"),
        TimeoutError("mine"),
        ConnectionResetError("mine"),
        None,
    ],
)
async def test_an_http_handler_that_fails_is_answered_with_500(
    error: Exception | None, log: pytest.LogCaptureFixture
) -> None:
    """A file that is not there is no client that left, and a slow database no slow client."""

    async def page(request: Any) -> Any:
        if error is not None:
            raise error
        return "not a Response"

    async with serve(echo, "127.0.0.1", http=page) as server:
        peer = await client(server)
        await peer.write(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        assert (await answered(peer)).startswith(b"HTTP/1.1 500")
        peer.sock.close()
    [line] = lines(log)
    assert line.startswith("ERROR")
    assert log.records[-1].exc_info


@pytest.mark.parametrize("error", [ValueError("x"), OSError("x"), TimeoutError("x")])
async def test_a_choose_subprotocol_that_fails_is_answered_with_500(error: Exception) -> None:
    class Bad(AioServer):
        def choose_subprotocol(self, request: Any) -> None:
            raise error

    async with serve(echo, "127.0.0.1", connection=Bad) as server:
        with pytest.raises(OpenError) as caught:
            await AioClient.connect(f"ws://127.0.0.1:{server.port}/")
        assert caught.value.status_code == 500


async def test_an_http_handler_without_an_end_is_ended() -> None:
    async def page(request: Any) -> Any:
        await asyncio.sleep(10_000)

    async with serve(echo, "127.0.0.1", http=page, open_timeout=5) as server:
        peer = await client(server)
        await peer.write(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        began = now()
        assert (await answered(peer)).startswith(b"HTTP/1.1 408")
        assert now() - began <= 5.1
        peer.sock.close()


@pytest.mark.parametrize("secure", [False, True])
@pytest.mark.parametrize("reads", ["slowly", "never"])
async def test_a_large_page_and_a_client_that_reads_it(reads: str, secure: bool, tls: Tls) -> None:
    """Slowly: it gets all of it. Never: it is dropped, and holds neither memory nor a socket."""
    body = os.urandom(1_000_000) * 4

    async def page(request: Any) -> Response:
        return Response(200, {}, body)

    context = tls.server if secure else None
    async with serve(echo, "127.0.0.1", http=page, ssl=context) as server:
        reader, writer = await asyncio.open_connection(
            "127.0.0.1", server.port, ssl=tls.client if secure else None, limit=1000
        )
        writer.write(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        await until(lambda: server._tasks)
        if reads == "slowly":
            got = 0
            while data := await reader.read(100_000):
                got += len(data)
                await asyncio.sleep(0.05)
            assert got > len(body)
        else:
            await asyncio.sleep(60)
            assert not server._tasks
        writer.transport.abort()
        await asyncio.sleep(1)


# ---------------------------------------------------------------- handlers


class Told:
    """Handlers by path, each failing in its own way."""

    def __init__(self) -> None:
        self.started = asyncio.Event()

    async def raises(self, ws: AioServer) -> None:
        raise ValueError("mine")

    async def returns(self, ws: AioServer) -> None:
        pass

    async def ignores_the_end(self, ws: AioServer) -> None:
        self.started.set()
        await asyncio.sleep(10_000)

    async def of_another(self, ws: AioServer) -> None:
        raise ConnectionClosed(AioClientEnding)

    def no_coroutine(self, ws: AioServer) -> None:
        pass

    async def cancels_itself(self, ws: AioServer) -> None:
        raise asyncio.CancelledError


from simplews.types import Ending  # noqa: E402

AioClientEnding = Ending("lost", why="of another connection")


@pytest.mark.parametrize(
    "name, code",
    [("raises", 1011), ("of_another", 1011), ("no_coroutine", 1011), ("returns", 1000)],
)
async def test_how_a_handler_ends_is_the_close_code(
    name: str, code: int, log: pytest.LogCaptureFixture
) -> None:
    async with serve(getattr(Told(), name), "127.0.0.1") as server:
        async with AioClient.connect(f"ws://127.0.0.1:{server.port}/") as ws:
            with pytest.raises(ConnectionClosed) as caught:
                await ws.receive()
            assert caught.value.code == code
        await settled()
        assert not server.connections
    errors = [line for line in lines(log) if line.startswith("ERROR")]
    assert len(errors) == (code == 1011)


async def test_a_handler_that_raises_cancelled_error_closes_its_connection() -> None:
    async with serve(Told().cancels_itself, "127.0.0.1") as server:
        async with AioClient.connect(f"ws://127.0.0.1:{server.port}/") as ws:
            with pytest.raises(ConnectionClosed) as caught:
                await ws.receive()
            assert caught.value.code == 1001


async def test_a_handler_that_ignores_the_end_is_cancelled(
    log: pytest.LogCaptureFixture,
) -> None:
    told = Told()
    async with serve(told.ignores_the_end, "127.0.0.1", close_timeout=3) as server:
        ws = await AioClient.connect(f"ws://127.0.0.1:{server.port}/")
        await told.started.wait()
        began = now()
        await server.close()
        assert now() - began <= 3.2
        assert ws.close_code == 1001
        await ws.wait_closed()
    assert [line for line in lines(log) if "cancelled" in line]


# -------------------------------------------------------------------- ends


async def test_1000_connections_are_closed_with_1001_at_once(
    capfd: pytest.CaptureFixture[str], log: pytest.LogCaptureFixture
) -> None:
    async with serve(echo, "127.0.0.1") as server:
        url = f"ws://127.0.0.1:{server.port}/"
        clients = [await AioClient.connect(url, compression=None) for _ in range(1000)]
        await until(lambda: len(server.connections) == 1000)
        began = now()
        await server.close()
        assert now() - began <= 1
        for ws in clients:
            await ws.wait_closed()
            assert ws.close_code == 1001
        assert now() - began <= 1
    assert capfd.readouterr().err == ""
    assert not [line for line in lines(log) if not line.startswith("INFO")]


@pytest.mark.parametrize("peers", ["silent", "flooding", "not reading"])
async def test_the_end_of_a_server_is_bounded_whatever_clients_do(peers: str) -> None:
    async def handler(ws: AioServer) -> None:
        if peers == "not reading":
            while True:
                await ws.send(bytes(10_000))
        await echo(ws)

    async with serve(handler, "127.0.0.1", close_timeout=4) as server:
        raw = [await client(server) for _ in range(10)]
        flooding = []

        async def flood(peer: Peer) -> None:
            with contextlib.suppress(ConnectionError):
                while True:
                    await peer.send(TEXT, b"x" * 5000)
                    await asyncio.sleep(0.01)

        for peer in raw:
            await peer.write(REQUEST)
            await peer.head()
            if peers == "flooding":
                flooding.append(asyncio.ensure_future(flood(peer)))
        await asyncio.sleep(0.1)
        began = now()
        await server.close()
        assert now() - began <= 4.2
        await asyncio.gather(*flooding)
        for peer in raw:
            peer.sock.close()


async def test_close_again_and_while_it_is_cancelled() -> None:
    server = serve(echo, "127.0.0.1", close_timeout=2)
    await server.start()
    peer = await client(server)
    await peer.write(REQUEST)
    await peer.head()
    first = asyncio.ensure_future(server.close())
    await settled()
    first.cancel()
    await asyncio.wait([first])
    assert first.cancelled()
    began = now()
    await server.close()
    assert 1.9 <= now() - began <= 2.1
    await server.close()
    assert now() - began <= 2.1
    assert await peer.frame() == (CLOSE, b"\x03\xe9")
    peer.sock.close()


@pytest.mark.parametrize("code, reason", [(1005, ""), (5, ""), (1000, "x" * 200)])
async def test_a_close_code_that_must_not_be_sent_is_an_error_before_anything(
    code: int, reason: str
) -> None:
    async with serve(echo, "127.0.0.1") as server:
        async with AioClient.connect(f"ws://127.0.0.1:{server.port}/") as ws:
            with pytest.raises(ValueError):
                await server.close(code, reason)
            await ws.send("still open")
            assert await ws.receive() == "still open"


async def test_serve_forever_is_cancelled() -> None:
    server = serve(echo, "127.0.0.1")
    running = asyncio.ensure_future(server.serve_forever())
    await until(lambda: server.sockets)
    ws = await AioClient.connect(f"ws://127.0.0.1:{server.port}/")
    running.cancel()
    await asyncio.wait([running])
    assert running.cancelled()
    await ws.wait_closed()
    assert ws.close_code == 1001
    assert not server.sockets


async def test_clients_that_come_while_it_ends() -> None:
    """They are refused, reset or let go; none is forgotten."""
    server = serve(echo, "127.0.0.1", close_timeout=3)
    await server.start()
    url = f"ws://127.0.0.1:{server.port}/"
    stuck = await client(server)
    await stuck.write(REQUEST)
    await stuck.head()
    opening = [asyncio.ensure_future(AioClient.connect(url)) for _ in range(20)]
    await asyncio.sleep(0)
    closing = asyncio.ensure_future(server.close())
    opening += [asyncio.ensure_future(AioClient.connect(url)) for _ in range(20)]
    for result in await asyncio.gather(*opening, return_exceptions=True):
        if isinstance(result, AioClient):
            await result.wait_closed()
        else:
            assert isinstance(result, OpenError)
    await closing
    assert not server._tasks
    stuck.sock.close()


async def drained(server: Server, count: int) -> tuple[list[AioClient], list[float]]:
    """Clients, and when each of them was closed, in seconds from now."""
    clients = [await AioClient.connect(f"ws://127.0.0.1:{server.port}/") for _ in range(count)]
    began = now()
    ends: list[float] = []
    for ws in clients:
        ws.add_cleanup(lambda: ends.append(now() - began))
    return clients, ends


async def test_drain_closes_everybody_with_1012_over_time() -> None:
    """Each in a slot of its own, at any moment of it: several servers do not keep step."""
    async with serve(echo, "127.0.0.1") as server:
        clients, ends = await drained(server, 10)
        await server.drain(10)
        await asyncio.gather(*(ws.wait_closed() for ws in clients))
        assert [ws.close_code for ws in clients] == [1012] * 10
        assert [int(end) for end in ends] == list(range(10))
        assert statistics.pvariance(end % 1 for end in ends) > 0.005


async def test_while_it_drains_nobody_can_connect() -> None:
    """Who had connected before is let in: a restart fails nobody; and is told 1012 at the end."""
    async with serve(echo, "127.0.0.1") as server:
        await drained(server, 3)
        port = server.port
        early = await client(server)
        await early.write(REQUEST[:20])
        await settled()
        draining = asyncio.create_task(server.drain(5))
        await settled()
        with socket.socket() as late:
            assert late.connect_ex(("127.0.0.1", port)) == errno.ECONNREFUSED
        await early.write(REQUEST[20:])
        assert (await early.head()).startswith(b"HTTP/1.1 101 ")
        assert await early.frame() == (CLOSE, b"\x03\xf4")
        await early.send_close(1012)
        await draining
        assert not server.connections
        early.sock.close()


async def test_a_drain_in_no_time_fails_none_of_those_who_come() -> None:
    """
    As in a rolling restart: two that share a socket, and one of them goes.

    Whoever has connected is taken by the other, or is let in and told 1012, at
    whatever step between accept() and the handler the first one is.
    """
    ends = set()
    for turns in range(12):
        with socket.create_server(("127.0.0.1", 0)) as sock:
            other = serve(echo, sock=sock.dup())
            async with serve(echo, sock=sock.dup()) as server:
                peers = [Peer(socket.create_connection(sock.getsockname())) for _ in range(3)]
                for peer in peers:
                    await peer.write(REQUEST)
                for _ in range(turns):
                    await asyncio.sleep(0)
                await server.drain(0)
            async with other:
                for peer in peers:
                    assert (await peer.head()).startswith(b"HTTP/1.1 101 ")
                await settled()
            for peer in peers:
                end = await peer.frame()
                assert end is not None
                ends.add(end[1])
                peer.sock.close()
    assert ends == {b"\x03\xe9", b"\x03\xf4"}


async def test_a_drain_does_not_wait_for_those_who_say_nothing() -> None:
    async with serve(echo, "127.0.0.1") as server:
        silent = await client(server)
        await settled()
        began = now()
        await server.drain(0)
        assert now() - began < 3
        assert await silent.at_end()
        silent.sock.close()


async def test_close_cuts_a_drain_short() -> None:
    async with serve(echo, "127.0.0.1") as server:
        clients, ends = await drained(server, 10)
        draining = asyncio.create_task(server.drain(1000))
        await asyncio.sleep(250)
        await server.close()
        await draining
        await asyncio.gather(*(ws.wait_closed() for ws in clients))
        assert max(ends) < 260
        assert sorted({ws.close_code for ws in clients}) == [1001, 1012]


async def test_drain_is_bounded_by_close_timeout() -> None:
    """A client that does not answer its Close, and a handler that does not end."""

    async def stuck(ws: AioServer) -> None:
        await asyncio.sleep(10000)

    async with serve(stuck, "127.0.0.1", close_timeout=5) as server:
        silent = await client(server)
        await silent.write(REQUEST)
        await silent.head()
        began = now()
        await server.drain(3)
        assert now() - began < 3 + 5 + 5 + 1
        silent.sock.close()


async def test_a_drain_that_is_cancelled_leaves_the_others_open() -> None:
    async with serve(echo, "127.0.0.1") as server:
        clients, ends = await drained(server, 10)
        draining = asyncio.create_task(server.drain(10))
        await asyncio.sleep(5)
        draining.cancel()
        with pytest.raises(asyncio.CancelledError):
            await draining
        await asyncio.sleep(100)
        assert 4 <= len(ends) <= 6
        open_ones = [ws for ws in clients if ws.connected]
        await open_ones[0].send("x")
        assert await open_ones[0].receive() == "x"
    await asyncio.gather(*(ws.wait_closed() for ws in clients))
    assert {ws.close_code for ws in open_ones} == {1001}


async def test_a_spread_that_makes_no_sense() -> None:
    async with serve(echo, "127.0.0.1") as server:
        for spread in (-1, float("nan")):
            with pytest.raises(ValueError, match="spread"):
                await server.drain(spread)
        async with AioClient.connect(f"ws://127.0.0.1:{server.port}/"):
            pass


# -------------------------------------------------------------- Unix sockets


@pytest.mark.skipif(not hasattr(socket, "AF_UNIX"), reason="no Unix sockets here")
async def test_a_unix_socket_that_was_left_behind(tmp_path: Path) -> None:
    path = str(tmp_path / "ws.sock")
    with socket.socket(socket.AF_UNIX) as stale:
        stale.bind(path)
    async with serve(echo, path=path):
        async with AioClient.connect(f"ws+unix:{path}:/") as ws:
            await ws.send("x")
            assert await ws.receive() == "x"
    assert not os.path.exists(path)


@pytest.mark.skipif(not hasattr(socket, "AF_UNIX"), reason="no Unix sockets here")
async def test_a_server_removes_only_its_own_unix_socket(tmp_path: Path) -> None:
    """The next server may have taken the path over already; and a file was never ours."""
    path = tmp_path / "ws.sock"
    first = serve(echo, path=str(path))
    await first.start()
    second = serve(echo, path=str(path))
    await second.start()
    await first.close()
    async with AioClient.connect(f"ws+unix:{path}:/") as ws:
        await ws.send("x")
        assert await ws.receive() == "x"
    await second.close()
    assert not path.exists()
    path.write_text("precious")
    third = serve(echo, path=str(path))
    with pytest.raises(OSError):
        await third.start()
    await third.close()
    assert path.read_text() == "precious"


# ---------------------------------------------------------------- all of it


async def test_1000_connections_one_after_the_other_leave_nothing() -> None:
    async with serve(echo, "127.0.0.1", close_timeout=1) as server:
        url = f"ws://127.0.0.1:{server.port}/"
        for number in range(1000):
            if number % 5 == 4:
                peer = await client(server)
                await peer.write(REQUEST[: number % len(REQUEST)])
                peer.reset()
                continue
            ws = await AioClient.connect(url, compression=None)
            await ws.send("x")
            assert await ws.receive() == "x"
            if number % 5 == 3:
                ws.abort()
            else:
                await ws.close()
        await asyncio.sleep(1)
        assert not server._tasks
        assert not server.connections


async def test_early_messages_and_a_close_in_one_segment() -> None:
    got: list[object] = []

    async def handler(ws: AioServer) -> None:
        async for message in ws:
            got.append(message)

    async with serve(handler, "127.0.0.1") as server:
        peer = await client(server)
        await peer.write(REQUEST + frame(TEXT, "a") * 3 + frame(CLOSE, b"\x03\xe8"))
        peer.finish()
        await peer.head()
        assert await peer.frames() == [(CLOSE, b"\x03\xe8")]
        assert got == ["a"] * 3
        peer.sock.close()


# ------------------------------------------------------- what it listens on


async def test_several_sockets() -> None:
    """As a service manager hands them over: TCP and a Unix socket, say."""
    socks = [socket.create_server(("127.0.0.1", 0)) for _ in range(2)]
    ports = [sock.getsockname()[1] for sock in socks]
    async with serve(echo, sock=socks) as server:
        assert [listener.getsockname()[1] for listener in server.sockets] == ports
        clients = [await AioClient.connect(f"ws://127.0.0.1:{port}/") for port in ports]
        for ws in clients:
            await ws.send("x")
            assert await ws.receive() == "x"
    for ws in clients:
        await ws.wait_closed()
        assert ws.close_code == 1001
    with socket.socket() as late:
        assert late.connect_ex(("127.0.0.1", ports[1])) == errno.ECONNREFUSED


async def test_a_burst_of_clients_on_a_socket_that_others_may_share() -> None:
    """A few a turn, and all of them in the end; the kernel's queue is as long as ever."""
    sock = socket.create_server(("127.0.0.1", 0))
    url = f"ws://127.0.0.1:{sock.getsockname()[1]}/"
    async with serve(echo, sock=sock) as server:
        clients = await asyncio.gather(*(AioClient.connect(url) for _ in range(200)))
        assert len(server.connections) == 200
    await asyncio.gather(*(ws.wait_closed() for ws in clients))


async def test_a_function_that_makes_the_context(tls: Tls) -> None:
    async with serve(echo, "127.0.0.1", ssl=lambda: tls.server) as server:
        url = f"wss://127.0.0.1:{server.port}/"
        async with AioClient.connect(url, ssl_context=tls.client) as ws:
            await ws.send("x")
            assert await ws.receive() == "x"


async def test_closed_while_it_starts() -> None:
    """It listens no more, and whoever started it is told."""
    server = serve(echo, "127.0.0.1")
    starting = asyncio.create_task(server.start())
    await asyncio.sleep(0)  # it looks the address up
    await server.close()
    with pytest.raises(WebSocketRuntimeError, match="closed while it started"):
        await starting
    assert not server.sockets


# ------------------------------------------------------------- before the request


async def test_a_client_costs_no_task_before_its_request_is_there() -> None:
    """However it is cut; what comes behind it is the first message."""
    async with serve(echo, "127.0.0.1") as server:
        peer = await client(server)
        await until(lambda: server.stats.opening == 1)
        for position in range(len(REQUEST)):
            assert not server._tasks
            await peer.write(REQUEST[position : position + 1])
            await settled()
        await peer.write(frame(TEXT, "early"))
        assert (await peer.head()).startswith(b"HTTP/1.1 101 ")
        assert await peer.frame() == (TEXT, b"early")
        assert (server.stats.opening, server.stats.open) == (0, 1)
        peer.sock.close()


async def test_what_comes_while_a_subprotocol_is_chosen_is_bounded_and_kept() -> None:
    chosen = asyncio.Event()

    class Slow(AioServer):
        async def choose_subprotocol(self, request: Any) -> None:
            await chosen.wait()

    async with serve(echo, "127.0.0.1", connection=Slow, compression=None) as server:
        peer = await client(server)
        await peer.write(REQUEST)
        await until(lambda: server._opening)
        (arrival,) = server._opening.values()
        writing = asyncio.create_task(peer.write(frame(TEXT, "x" * 50_000) * 40))
        transport = arrival.transport
        assert transport is not None
        await until(lambda: not transport.is_reading())
        assert len(arrival._early) < 32 * 1024 + 300 * 1024  # and one read more
        chosen.set()
        assert (await peer.head()).startswith(b"HTTP/1.1 101 ")
        for _ in range(40):
            assert await peer.frame() == (TEXT, b"x" * 50_000)
        await writing
        peer.sock.close()


async def test_a_choice_that_takes_too_long_is_answered_with_408() -> None:
    class Stuck(AioServer):
        async def choose_subprotocol(self, request: Any) -> None:
            await asyncio.Event().wait()

    async with serve(echo, "127.0.0.1", connection=Stuck, open_timeout=5) as server:
        peer = await client(server)
        began = now()
        await peer.write(REQUEST)
        assert (await answered(peer)).startswith(b"HTTP/1.1 408 ")
        assert 4.9 <= now() - began <= 5.1
        assert server.stats.opening_timeouts == 1
        peer.sock.close()


async def test_a_task_that_is_cancelled_before_it_begins_drops_its_client() -> None:
    async with serve(echo, "127.0.0.1") as server:
        create_task = asyncio.get_running_loop().create_task
        peer = await client(server)
        await until(lambda: server._arrivals)
        (arrival,) = server._arrivals
        arrival.ask()
        (task,) = server._opening
        task.cancel()
        assert await create_task(peer.frame()) is None
        assert not server._tasks
        assert server.stats.opening == 0
        peer.sock.close()


async def test_streams_that_are_asked_for_late_know_what_has_happened() -> None:
    """``rsock`` and ``wsock`` of serve() are made when somebody wants them."""
    ends: list[AioServer] = []

    async def kept(ws: AioServer) -> None:
        ends.append(ws)
        await echo(ws)

    async with serve(kept, "127.0.0.1") as server:
        async with AioClient.connect(f"ws://127.0.0.1:{server.port}/") as ws:
            await ws.send("x")
            await ws.receive()
            (end,) = ends
        await end.wait_closed()
        assert end.rsock is not None
        assert end.wsock is not None
        assert end.rsock is end.rsock
        assert end.rsock.at_eof()
        assert await end.rsock.read() == b""
        assert end.wsock.is_closing()
        await end.wsock.wait_closed()


async def test_a_late_wsock_waits_for_a_peer_that_does_not_read() -> None:
    ends: list[AioServer] = []

    async def kept(ws: AioServer) -> None:
        ends.append(ws)
        for _ in range(1000):
            await ws.send(bytes(100_000))

    async with serve(kept, "127.0.0.1", compression=None) as server:
        peer = await client(server)
        await peer.write(REQUEST)
        await until(lambda: ends and ends[0].stats.bytes_waiting > 65536)
        await settled()
        (end,) = ends
        assert end.wsock is not None
        draining = asyncio.create_task(end.wsock.drain())
        closing = asyncio.create_task(end.wsock.wait_closed())
        await settled()
        assert not draining.done()
        end.abort()
        await asyncio.wait([draining, closing])
        assert closing.exception() is None
        with contextlib.suppress(ConnectionError):
            draining.result()
        peer.sock.close()


@pytest.mark.parametrize("end", ["closed", "lost", "unread"])
async def test_an_ended_connection_does_not_wait_for_the_garbage_collector(end: str) -> None:
    numbers = list("123456789")
    left: list[weakref.ref[Any]] = []
    got: list[str | bytes] = []

    def watch(ws: AioServer | AioClient) -> None:
        # A link has no weak references. Of these one is its inbox's and its outbox's.
        left.extend([weakref.ref(ws), weakref.ref(ws._messages)])

    async def handler(ws: AioServer) -> None:
        watch(ws)
        if end == "lost":
            await ws.receive()
            ws.abort()
            await ws.wait_closed()
        if end == "unread":
            await until(lambda: ws._link.stats.messages_waiting == 2)
            ws.abort()
            await ws.wait_closed()
            # What was read and had no room in the inbox comes after the end.
            with contextlib.suppress(ConnectionClosed):
                while True:
                    got.append(await ws.receive())  # type: ignore[arg-type]
            with pytest.raises(ConnectionClosed):
                await ws.ping()
            assert ws.stats.messages_waiting == 0
        else:
            await echo(ws)

    async def life() -> None:
        ws = await AioClient.connect(f"ws://127.0.0.1:{server.port}/")
        watch(ws)
        for number in numbers[:1] if end == "lost" else numbers:
            await ws.send(number)
        if end == "closed":
            await ws.close()
        await ws.wait_closed()
        with pytest.raises(ConnectionClosed):
            await ws.ping()
        assert ws.stats.messages_waiting == 0

    async with serve(handler, "127.0.0.1", max_queue=2) as server:
        gc.collect()
        gc.disable()
        try:
            await life()
            await until(lambda: not [thing for thing in left if thing() is not None])
        finally:
            gc.enable()
    assert len(left) == 4
    assert got == numbers[: len(got)]
    assert len(got) >= (2 if end == "unread" else 0)


@pytest.mark.parametrize("end", ["returns", "cancelled"])
async def test_an_ended_handler_does_not_wait_for_the_garbage_collector(end: str) -> None:
    left: list[weakref.ref[Any]] = []
    received = asyncio.Event()

    async def handler(ws: AioServer) -> None:
        task = asyncio.current_task()
        assert task is not None
        left.extend([weakref.ref(ws), weakref.ref(task)])
        del task  # a cancelled one holds its error, which holds this frame
        await ws.receive()
        await ws.receive()
        received.set()
        if end == "cancelled":
            await ws.receive()

    async def life() -> None:
        async with AioClient.connect(f"ws://127.0.0.1:{server.port}/") as ws:
            await ws.send("one")
            await until(lambda: bool(left))
            await ws.send("two")
            if end == "cancelled":
                await received.wait()
                left[1]().cancel()  # type: ignore[union-attr]
            with pytest.raises(ConnectionClosed):
                await ws.receive()

    async with serve(handler, "127.0.0.1") as server:
        gc.collect()
        gc.disable()
        try:
            await life()
            await until(lambda: left[0]() is left[1]() is None)
        finally:
            gc.enable()


@pytest.mark.skipif(sys.version_info < (3, 12), reason="there are none")
async def test_tasks_that_begin_at_once() -> None:
    """``asyncio.eager_task_factory``: the task of a connection runs before its server has it."""
    seen: list[Any] = []

    async def handler(ws: AioServer) -> None:
        seen.append(asyncio.current_task())
        await echo(ws)

    factory = asyncio.eager_task_factory  # type: ignore[attr-defined, unused-ignore]
    asyncio.get_running_loop().set_task_factory(factory)
    async with serve(handler, "127.0.0.1") as server:
        async with AioClient.connect(f"ws://127.0.0.1:{server.port}/") as ws:
            for number in "123":
                await ws.send(number)
                assert await ws.receive() == number
            assert len(server.connections) == 1
        await until(lambda: seen[0].done())
        assert not server.connections
        async with AioClient.connect(f"ws://127.0.0.1:{server.port}/") as ws:
            await until(lambda: len(seen) == 2)
            await server.close()
            with pytest.raises(ConnectionClosed, match="1001"):
                await ws.receive()
