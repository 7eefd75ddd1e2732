"""The end of the server, of clients that do not say goodbye, and what is left of them."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

import simplews
from simplews import AioServer, ConnectionClosed
from simplews import ConnectionError as OpenError

from ..peer import CLOSE, REQUEST, TEXT, Peer, close_frame, frame, settled, until
from ..tls import Tls
from .site import VERSION, Log, descriptors, request, running

# ----------------------------------------------------------------- its shutdown


@pytest.mark.parametrize("secure", [False, True], ids=["plain", "tls"])
async def test_cleanup_closes_every_connection_with_1001(secure: bool, tls: Tls, log: Log) -> None:
    ended: list[int] = []

    async def handler(request: web.Request) -> None:
        ws = await AioServer.accept(aiohttp=request)
        try:
            await ws.receive()
        except ConnectionClosed as exc:
            await asyncio.sleep(0)
            ended.append(exc.code)
            raise

    loop = asyncio.get_running_loop()
    async with running(handler, tls if secure else None) as site:
        clients = [await site.connect() for _ in range(20)]
        began = loop.time()
        await site.runner.cleanup()
        assert loop.time() - began < 5, "it waited for a timeout"
        for ws in clients:
            with pytest.raises(ConnectionClosed) as closed:
                await ws.receive()
            assert closed.value.code == 1001
            await ws.wait_closed()
    assert ended == [1001] * 20
    assert log.lines() == []


@pytest.mark.skipif(VERSION < (3, 10), reason="aiohttp forgets handlers without a connection")
async def test_cleanup_waits_for_handlers_whose_connection_is_closed(log: Log) -> None:
    """Also when it was closed by the time that aiohttp counts them."""
    ended: list[str] = []
    app = web.Application()

    async def handler(request: web.Request) -> None:
        ws = await AioServer.accept(aiohttp=request)
        with contextlib.suppress(ConnectionClosed):
            await ws.receive()
        await ws.wait_closed()
        await asyncio.sleep(5)
        ended.append(request.path)

    async def slowly(app: web.Application) -> None:
        await asyncio.sleep(1)

    app.router.add_get("/{name}", handler)
    app.on_shutdown.append(slowly)
    async with running(app) as site:
        one = await site.connect("/early")
        await one.close()
        two = await site.connect("/late")
        await site.runner.cleanup()
        assert sorted(ended) == ["/early", "/late"]
        await two.wait_closed()
    assert log.lines() == []


async def test_cleanup_with_peers_that_do_not_answer(log: Log) -> None:
    async def handler(request: web.Request) -> None:
        ws = await AioServer.accept(aiohttp=request, close_timeout=3)
        await ws.receive()

    loop = asyncio.get_running_loop()
    async with running(handler) as site:
        async with site.opened() as peer:
            began = loop.time()
            await site.runner.cleanup()
            assert loop.time() - began < 10
            assert await peer.frames() == [(CLOSE, b"\x03\xe9")]
    assert log.lines() == []


@pytest.mark.parametrize("when", ["before", "meanwhile", "never"])
async def test_cleanup_cancels_handlers_that_do_not_end(when: str, log: Log) -> None:
    """Whenever their connection is closed."""
    if when == "before" and VERSION < (3, 10):
        pytest.skip("aiohttp forgets handlers without a connection")
    accepted, cancelled = asyncio.Event(), asyncio.Event()

    async def handler(request: web.Request) -> None:
        await AioServer.accept(aiohttp=request, close_timeout=1000)
        accepted.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            cancelled.set()
            raise

    loop = asyncio.get_running_loop()
    async with running(handler, shutdown_timeout=5) as site:
        async with site.opened() as peer:
            await accepted.wait()
            if when == "before":
                await peer.send_close(1001)
                assert await peer.frames() == [(CLOSE, b"\x03\xe9")]
            began = loop.time()
            cleaning = asyncio.ensure_future(site.runner.cleanup())
            if when == "meanwhile":
                assert await peer.frame() == (CLOSE, b"\x03\xe9")
                await peer.send_close(1001)
            await cleaning
            await cancelled.wait()
            assert loop.time() - began < 20
            assert await peer.frames() == ([(CLOSE, b"\x03\xe9")] if when == "never" else [])
    await settled()
    assert log.lines() == []


async def test_cleanup_while_a_client_is_accepted(log: Log) -> None:
    choosing, go_on = asyncio.Event(), asyncio.Event()

    class Ours(AioServer):
        async def choose_subprotocol(self, request: object) -> str | None:
            choosing.set()
            await go_on.wait()
            return None

    async def handler(request: web.Request) -> None:
        ws = await Ours.accept(aiohttp=request)
        await ws.receive()

    loop = asyncio.get_running_loop()
    async with running(handler) as site:
        async with site.peer(request()) as peer:
            await choosing.wait()
            began = loop.time()
            cleaning = asyncio.ensure_future(site.runner.cleanup())
            await asyncio.sleep(1)
            go_on.set()
            await peer.head()
            assert await peer.frame() == (CLOSE, b"\x03\xe9")
            await peer.send_close(1001)
            assert await peer.frames() == []
            await cleaning
            assert loop.time() - began < 5, "it waited for a timeout"
    assert log.lines() == []


PROGRAM = """
import socket
from aiohttp import web
from simplews import AioServer

async def handler(request):
    async with AioServer.accept(aiohttp=request) as ws:
        async for message in ws:
            await ws.send(message)
    print("handler ended", flush=True)

app = web.Application()
app.router.add_get("/", handler)
sock = socket.create_server(("127.0.0.1", 0))
print(sock.getsockname()[1], flush=True)
web.run_app(app, sock=sock, print=None)
print("ended", flush=True)
"""


@pytest.fixture
def process() -> Iterator[subprocess.Popen[str]]:
    paths = [str(Path(simplews.__file__).parents[1]), os.environ.get("PYTHONPATH", "")]
    with subprocess.Popen(
        [sys.executable, "-W", "error", "-c", PROGRAM],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, paths)), "PYTHONDEVMODE": ""},
    ) as process:
        try:
            yield process
        finally:
            process.kill()


@pytest.mark.skipif(sys.platform == "win32", reason="no SIGTERM there")
def test_sigterm_closes_every_connection_with_1001(process: subprocess.Popen[str]) -> None:
    """`web.run_app`, which waits for handlers no longer than it has to."""
    assert process.stdout is not None
    port = int(process.stdout.readline())
    clients = []
    for _ in range(20):
        sock = socket.create_connection(("127.0.0.1", port), timeout=20)
        sock.sendall(REQUEST + frame(TEXT, "x"))
        data = b""
        while not data.endswith(b"\r\n\r\n\x81\x01x"):
            data += sock.recv(1)
        clients.append(sock)
    process.send_signal(signal.SIGTERM)
    for sock in clients:
        assert sock.recv(4) == b"\x88\x02\x03\xe9"
        sock.sendall(close_frame(1001))
        assert sock.recv(1) == b""
        sock.close()
    out, err = process.communicate(timeout=20)
    assert err == ""
    assert out == "handler ended\n" * 20 + "ended\n"
    assert process.returncode == 0


# -------------------------------------------------------- handlers and cancelling


async def how_it_ended(how: str, log: Log) -> list[type[BaseException]]:
    """What ends a handler, with ``handler_cancellation``."""
    raised: list[type[BaseException]] = []
    ready, done = asyncio.Event(), asyncio.Event()

    async def handler(request: web.Request) -> None:
        ws = await AioServer.accept(aiohttp=request)
        ready.set()
        try:
            while True:
                await ws.receive()
        except BaseException as exc:
            raised.append(type(exc))
            if not isinstance(exc, ConnectionClosed):
                raise
        try:
            await asyncio.sleep(5)
        except BaseException as exc:
            raised.append(type(exc))
            raise
        finally:
            done.set()

    async with running(handler, handler_cancellation=True) as site:
        async with site.opened() as peer:
            await ready.wait()
            if how == "reset":
                peer.reset()
            elif how == "fin":
                peer.finish()
                await peer.at_end()
            else:
                await peer.send_close(1000)
                assert await peer.frames() == [(CLOSE, b"\x03\xe8")]
            await until(lambda: raised)
            if raised == [ConnectionClosed]:
                await done.wait()
        await until(lambda: not site.connections)
    assert log.lines() == []
    return raised


@pytest.mark.parametrize("how", ["reset", "fin"])
async def test_a_handler_is_cancelled_when_its_client_drops_tcp(how: str, log: Log) -> None:
    """Whatever it does then; its receive() may know of the FIN before."""
    assert (await how_it_ended(how, log))[-1] is asyncio.CancelledError


async def test_a_handler_is_not_cancelled_when_its_client_takes_its_leave(log: Log) -> None:
    assert await how_it_ended("close", log) == [ConnectionClosed]


async def test_a_handler_is_not_cancelled_when_it_closes(log: Log) -> None:
    ended: list[bool] = []

    async def handler(request: web.Request) -> None:
        ws = await AioServer.accept(aiohttp=request)
        await ws.close()
        await asyncio.sleep(1)
        ended.append(True)

    async with running(handler, handler_cancellation=True) as site:
        async with site.opened() as peer:
            assert await peer.frame() == (CLOSE, b"\x03\xe8")
            await peer.send_close(1000)
            assert await peer.frames() == []
            await until(lambda: ended)
    assert log.lines() == []


# ------------------------------------------------------ clients that just leave


def leave(sock: socket.socket, how: str) -> None:
    if how == "reset":
        Peer(sock).reset()
    else:
        sock.close()


WHAT_NEXT = ["raise", "None", "a response"]


@pytest.mark.parametrize("then", WHAT_NEXT)
@pytest.mark.parametrize("how", ["reset", "fin"])
@pytest.mark.parametrize("step", ["start", "handler", "choice", "signal", "101"])
async def test_a_client_that_leaves(step: str, how: str, then: str, log: Log) -> None:
    """At any step: one of our two exceptions, and no complaint."""
    outcomes: list[type[BaseException]] = []
    entered = asyncio.Event()
    clients: list[socket.socket] = []

    async def here(name: str) -> None:
        if name == step:
            entered.set()
            leave(clients[0], how)
            if name != "101":
                await asyncio.sleep(1)

    class Ours(AioServer):
        async def choose_subprotocol(self, request: object) -> str | None:
            await here("choice")
            return None

    async def prepare(request: web.Request, response: web.StreamResponse) -> None:
        await here("signal")
        await here("101")

    async def handler(request: web.Request) -> Any:
        entered.set()
        await here("handler")
        try:
            ws = await Ours.accept(aiohttp=request)
            await ws.receive()
        except (OpenError, ConnectionClosed) as exc:
            outcomes.append(type(exc))
            if then == "raise":
                raise
        return None if then == "None" else web.Response(text="not to be seen")

    app = web.Application()
    app.router.add_get("/", handler)
    app.on_response_prepare.append(prepare)
    async with running(app) as site:
        sock = site.socket()
        clients.append(sock)
        sock.sendall(REQUEST)
        if step == "start":
            leave(sock, how)
            await asyncio.sleep(1)
        else:
            await entered.wait()
        await until(lambda: not site.connections)
        await asyncio.sleep(1)
    if step in ("handler", "choice", "signal"):
        assert outcomes == [OpenError]
    elif step == "101":
        assert len(outcomes) == 1
    assert log.lines() == []


async def test_reject_of_a_client_that_left(log: Log) -> None:
    entered, done = asyncio.Event(), asyncio.Event()

    async def handler(request: web.Request) -> None:
        entered.set()
        await asyncio.sleep(1)
        await AioServer.reject(aiohttp=request)
        done.set()

    async with running(handler) as site:
        async with site.peer(request()):
            await entered.wait()
        await done.wait()
        await until(lambda: not site.connections)
        await settled()
    assert log.lines() == []


# -------------------------------------------------------------------- no leaks


def alive() -> dict[str, int]:
    """What there is of a connection's objects."""
    gc.collect()
    names = ("RequestHandler", "AioServer", "WireLink", "_SelectorSocketTransport", "_Answer")
    found = [type(thing).__name__ for thing in gc.get_objects()]
    return {name: found.count(name) for name in names}


@pytest.mark.parametrize("how", ["close", "reset", "cancelled", "refused", "raised"])
async def test_nothing_is_left_of_200_connections(
    how: str, log: Log, monkeypatch: pytest.MonkeyPatch
) -> None:
    # pytest keeps what is logged, and so the exceptions and their frames.
    monkeypatch.setattr(logging.getLogger("simplews"), "propagate", False)

    async def handler(request: web.Request) -> Any:
        ws = await AioServer.accept(aiohttp=request)
        if how == "cancelled":
            raise asyncio.CancelledError
        if how == "raised":
            raise LookupError
        await ws.receive()

    upgrade = None if how == "refused" else "websocket"
    async with running(handler) as site:

        async def visit() -> None:
            async with site.peer(request(Upgrade=upgrade)) as peer:
                await peer.head()
                if how == "close":
                    await peer.send_close(1000)
                elif how == "raised":
                    await peer.frame()
                    await peer.send_close(1000)
                if how == "reset":
                    peer.reset()
                elif how != "refused":
                    await peer.at_end()

        await visit()
        await until(lambda: not site.connections)
        await asyncio.sleep(1)
        log.records.clear()
        before, open_before = alive(), descriptors()
        for _ in range(10):
            await asyncio.gather(*(visit() for _ in range(20)))
        await until(lambda: not site.connections)
        await asyncio.sleep(1)
        assert len(log.lines()) == (200 if how == "raised" else 0)
        log.records.clear()
        assert (alive(), descriptors()) == (before, open_before)
