"""Opening: cancelled at any step, refused, or left by the peer; nothing stays open."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import socket
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest

from simplews import AioClient, AioServer, ConnectionClosed, ConnectTimeout
from simplews import ConnectionError as OpenError

from ..peer import HEADERS, REQUEST, TEXT, Peer, answer, frame, settled
from ..tls import Tls


def descriptors() -> set[str]:
    """Open descriptors: which, and what of."""
    gc.collect()
    found = set()
    for name in os.listdir("/proc/self/fd"):
        with contextlib.suppress(OSError):
            found.add(name + os.readlink(f"/proc/self/fd/{name}"))
    return {thing for thing in found if "/proc/" not in thing}


pytestmark = pytest.mark.skipif(not os.path.isdir("/proc/self/fd"), reason="needs /proc")


@contextlib.asynccontextmanager
async def answering(
    reply: Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]],
    context: ssl.SSLContext | None = None,
) -> AsyncIterator[int]:
    """A TCP server in which *reply* has every connection to itself; nothing of it stays."""
    tasks: set[asyncio.Task[None]] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await reply(reader, writer)
        finally:
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()

    def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.ensure_future(serve(reader, writer))
        tasks.add(task)

    server = await asyncio.start_server(connected, "127.0.0.1", 0, ssl=context)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        await settled()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def accept_and_wait(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(asyncio.IncompleteReadError, OSError):
        writer.write(answer(await reader.readuntil(b"\r\n\r\n")))
        while await reader.read(1000):
            pass


async def after_steps(task: asyncio.Task[Any], steps: int) -> None:
    """Cancel *task* after so many turns of the loop, in a few of which the network moves."""
    for _ in range(steps):
        await asyncio.sleep(0)
    task.cancel()
    await asyncio.wait([task])


@pytest.mark.whole
@pytest.mark.parametrize("secure", [False, True])
async def test_connect_cancelled_at_every_step(secure: bool, tls: Tls) -> None:
    before = descriptors()
    opened = 0
    async with answering(accept_and_wait, tls.server if secure else None) as port:
        listening = descriptors()
        scheme = "wss" if secure else "ws"
        for steps in range(60):
            url = f"{scheme}://127.0.0.1:{port}/"
            task = asyncio.ensure_future(
                AioClient.connect(url, ssl_context=tls.client if secure else None)
            )
            await after_steps(task, steps)
            if not task.cancelled():
                opened += 1
                ws = task.result()
                ws.abort()
                await ws.wait_closed()
        assert opened > 10  # the range of steps covers all of it
        await asyncio.sleep(1)
        assert descriptors() == listening
    await asyncio.sleep(1)
    assert descriptors() == before


@pytest.mark.whole
@pytest.mark.parametrize("how", ["headers", "request", "slow request"])
async def test_accept_cancelled_at_every_step(how: str) -> None:
    before = descriptors()
    opened = 0
    for steps in range(30):
        ours, theirs = socket.socketpair()
        peer = Peer(theirs)
        if how == "request":
            await peer.write(REQUEST)
        task = asyncio.ensure_future(
            AioServer.accept(sock=ours, headers=HEADERS if how == "headers" else None)
        )
        if how == "slow request":
            await asyncio.sleep(0.01)
            await peer.write(REQUEST[:-1])
            await asyncio.sleep(0.01)
            await peer.write(REQUEST[-1:])
        elif not steps:
            await asyncio.sleep(0)  # a task that never ran cannot close anything
        await after_steps(task, steps)
        if not task.cancelled():
            opened += 1
            ws = task.result()
            ws.abort()
            await ws.wait_closed()
        theirs.close()
    assert opened > 10
    await settled()
    assert descriptors() == before


@pytest.mark.parametrize("head", [b"", REQUEST[:1], REQUEST[:-1], b"\x16\x03\x01\0\xff"])
@pytest.mark.parametrize("how", ["fin", "reset", "timeout"])
async def test_a_client_that_does_not_finish_its_request(head: bytes, how: str) -> None:
    before = descriptors()
    ours, theirs = socket.socketpair()
    peer = Peer(theirs)
    accepting = asyncio.ensure_future(AioServer.accept(sock=ours, open_timeout=5))
    if head:
        await peer.write(head)
    await settled()
    if how == "fin":
        peer.finish()
    elif how == "reset":
        theirs.close()
    with pytest.raises(OpenError) as caught:
        await accepting
    tls = head[:1] == b"\x16"
    timeout = how == "timeout" and not tls
    assert isinstance(caught.value, ConnectTimeout) == timeout
    # What the client has got.
    assert caught.value.status_code == (408 if timeout else None)
    theirs.close()
    await settled()
    assert descriptors() == before


ANSWERS = {
    "nothing": b"",
    "half a head": b"HTTP/1.1 101 Switching Proto",
    "no accept value": b"HTTP/1.1 101 S\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n",
    "a refusal": b"HTTP/1.1 403 Forbidden\r\nContent-Length: 4\r\n\r\nnope",
    "half a refusal": b"HTTP/1.1 403 Forbidden\r\nContent-Length: 400\r\n\r\nnope",
    "a refusal without an end": b"HTTP/1.1 403 Forbidden\r\n\r\nnope",
    "interim for ever": b"HTTP/1.1 103 Early Hints\r\n\r\n" * 50,
    "no HTTP": b"220 mail.example.org ESMTP\r\n\r\n",
    "a head without an end": b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 20_000,
}


@pytest.mark.parametrize("kind", ANSWERS)
@pytest.mark.parametrize("then", ["fin", "reset", "nothing", "more"])
async def test_a_server_that_answers_badly(kind: str, then: str) -> None:
    before = descriptors()

    async def reply(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(ANSWERS[kind])
        with contextlib.suppress(OSError):
            if then == "reset":
                await asyncio.sleep(0.01)
                writer.transport.abort()
            elif then == "nothing":
                await asyncio.sleep(100)
            while then == "more":
                writer.write(b"x" * 10_000)
                await writer.drain()
                await asyncio.sleep(0.001)

    async with answering(reply) as port:
        loop = asyncio.get_running_loop()
        began = loop.time()
        with pytest.raises(OpenError):
            await AioClient.connect(f"ws://127.0.0.1:{port}/", open_timeout=5)
        assert loop.time() - began <= 5.1
    await asyncio.sleep(1)
    assert descriptors() == before


async def test_a_tls_server_that_says_nothing(tls: Tls) -> None:
    before = descriptors()
    with socket.create_server(("127.0.0.1", 0)) as listener:
        url = f"wss://127.0.0.1:{listener.getsockname()[1]}/"
        with pytest.raises(ConnectTimeout):
            await AioClient.connect(url, ssl_context=tls.client, open_timeout=5)
        await asyncio.sleep(1)
    assert descriptors() == before


async def test_messages_and_fin_right_behind_the_server_s_answer() -> None:
    async def reply(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = answer(await reader.readuntil(b"\r\n\r\n"))
        writer.write(head + frame(TEXT, "early", mask=False) * 3)
        writer.write_eof()
        await reader.read()

    async with answering(reply) as port:
        ws = await AioClient.connect(f"ws://127.0.0.1:{port}/")
        await asyncio.sleep(1)
        assert [await ws.receive() for _ in range(3)] == ["early"] * 3
        with pytest.raises(ConnectionClosed):
            await ws.receive()
        await ws.wait_closed()


@pytest.mark.parametrize("left", ["fin", "reset", "data"])
async def test_what_happens_while_the_application_chooses_a_subprotocol(left: str) -> None:
    """It may take its time; what the client does meanwhile is not lost."""
    before = descriptors()
    gate = asyncio.Event()

    class Slow(AioServer):
        async def choose_subprotocol(self, request: Any) -> None:  # type: ignore[override]
            await gate.wait()

    ours, theirs = socket.socketpair()
    peer = Peer(theirs)
    await peer.write(REQUEST)
    accepting = asyncio.ensure_future(Slow.accept(sock=ours))
    await settled()
    messages = frame(TEXT, "x" * 100) * 3
    await peer.write(messages)
    if left == "data":
        # More than the stream buffers, so that it pauses its transport.
        writing = asyncio.ensure_future(peer.write(frame(TEXT, "y" * 1000) * 2000))
        await settled()
    elif left == "fin":
        peer.finish()
    else:
        theirs.close()
    await settled()
    gate.set()
    ws = await accepting
    if left != "reset":
        assert [await ws.receive() for _ in range(3)] == ["x" * 100] * 3
    if left == "data":
        for _ in range(2000):
            assert await ws.receive() == "y" * 1000
        await writing
        ws.abort()
    with pytest.raises(ConnectionClosed):
        while True:
            await ws.receive()
    await ws.wait_closed()
    theirs.close()
    await settled()
    assert descriptors() == before


@pytest.mark.parametrize("error", [OSError("mine"), TimeoutError("mine"), ValueError("mine")])
async def test_an_error_of_choose_subprotocol_surfaces_as_it_is(error: Exception) -> None:
    before = descriptors()

    class Bad(AioServer):
        def choose_subprotocol(self, request: Any) -> None:
            raise error

    ours, theirs = socket.socketpair()
    with theirs:
        await Peer(theirs).write(REQUEST)
        with pytest.raises(type(error), match="mine") as caught:
            await Bad.accept(sock=ours)
        assert caught.value is error
        await settled()
    assert descriptors() == before


async def test_2000_open_and_close_cycles_leave_nothing() -> None:
    """Closed by either end, aborted, cancelled, refused."""
    before = descriptors()
    for number in range(2000):
        ours, theirs = socket.socketpair()
        peer = Peer(theirs)
        if number % 10 == 9:
            await peer.write(b"GET / HTTP/1.1\r\n\r\n")
            with pytest.raises(OpenError):
                await AioServer.accept(sock=ours)
        else:
            ws = await AioServer.accept(sock=ours, headers=HEADERS, close_timeout=0)
            if number % 10 < 3:
                await ws.close()
            elif number % 10 < 6:
                await peer.send_close(1000)
            elif number % 10 < 8:
                theirs.close()
            else:
                ws.abort()
            await ws.wait_closed()
        theirs.close()
    await settled()
    assert descriptors() == before


@pytest.mark.parametrize("first", ["silent", "refuses", "both silent"])
async def test_addresses_are_tried_a_moment_apart(
    first: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """RFC 8305: an address that does not answer holds nobody up; whatever lost is closed."""
    before = descriptors()
    loop = asyncio.get_running_loop()
    with contextlib.ExitStack() as stack:
        silent = stack.enter_context(socket.create_server(("127.0.0.1", 0), backlog=0))
        for _ in range(5):  # its queue is full, so that TCP itself gets no answer
            filler = stack.enter_context(socket.socket())
            filler.setblocking(False)
            filler.connect_ex(silent.getsockname())
        nobody = stack.enter_context(socket.socket())
        nobody.bind(("127.0.0.1", 0))
        async with answering(accept_and_wait) as port:
            ports = {
                "silent": [silent.getsockname()[1], port],
                "refuses": [nobody.getsockname()[1], port],
                "both silent": [silent.getsockname()[1]] * 2,
            }[first]

            async def resolve(host: str, _: object, **__: object) -> list[Any]:
                assert host == "two.example.org"
                tcp = (socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP, "")
                return [(*tcp, ("127.0.0.1", port)) for port in ports]

            monkeypatch.setattr(loop, "getaddrinfo", resolve)
            began = loop.time()
            opening = AioClient.connect("ws://two.example.org:1/", open_timeout=5)
            if first == "both silent":
                with pytest.raises(ConnectTimeout):
                    await opening
            else:
                ws = await opening
                assert loop.time() - began < 1
                ws.abort()
                await ws.wait_closed()
        await asyncio.sleep(1)
    await settled()
    assert descriptors() == before
