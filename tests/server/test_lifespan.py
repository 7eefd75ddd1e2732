"""serve(lifespan=): opened before the first connection, closed after the last one."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from typing import Any

import pytest

from simplews import AioClient, AioServer, ConnectionClosed, Server, WebSocketRuntimeError, serve
from simplews import ConnectionError as OpenError

from ..ports import free_port

Lifespan = Callable[[Server], AbstractAsyncContextManager[object]]


class Story:
    """What has happened, in order, to a server, its lifespan and a handler."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.serving: list[Server] = []

    @contextlib.asynccontextmanager
    async def lifespan(self, server: Server) -> AsyncIterator[None]:
        self.serving.append(server)
        self.lines.append(f"entered, with {len(server.sockets)} sockets")
        try:
            yield
        finally:
            self.lines.append(f"left, with {len(server.connections)} connections")

    async def handler(self, ws: AioServer) -> None:
        self.lines.append("opened")
        with contextlib.suppress(ConnectionClosed):
            await ws.receive()
        # Whatever the handler still does has what the lifespan has opened.
        await asyncio.sleep(1)
        self.lines.append("handled")


async def idle(ws: AioServer) -> None:
    """Until the client leaves."""
    await ws.wait_closed()


@pytest.mark.parametrize("end", ["close", "drain", "cancel"])
async def test_it_is_around_every_connection(end: str) -> None:
    story = Story()
    server = serve(story.handler, "127.0.0.1", lifespan=story.lifespan)
    assert not story.lines, "it is entered by the start"
    async with server, AioClient.connect(f"ws://127.0.0.1:{server.port}"):
        serving = asyncio.create_task(server.serve_forever())
        await asyncio.sleep(0.1)
        match end:
            case "close":
                await server.close()
            case "drain":
                await server.drain(0.1)
            case "cancel":
                serving.cancel()
        await asyncio.wait({serving})
    opened = ["entered, with 0 sockets", "opened"]
    assert story.lines == [*opened, "handled", "left, with 0 connections"]
    assert story.serving == [server]


async def test_one_task_enters_and_leaves_it() -> None:
    """Else a task group could not be in it: start() and close() may be called by any."""
    done = []

    @contextlib.asynccontextmanager
    async def lifespan(server: Server) -> AsyncIterator[None]:
        async with asyncio.TaskGroup() as group:
            task = group.create_task(asyncio.sleep(1000))
            yield
            task.cancel()
        done.append(task.cancelled())

    server = serve(idle, "127.0.0.1", lifespan=lifespan)
    await asyncio.create_task(server.start())
    await asyncio.create_task(server.close())
    await server.close()
    assert done == [True]


async def test_entering_fails() -> None:
    """The start ends with that error, and nobody ever was able to connect."""
    tries = 0

    @contextlib.asynccontextmanager
    async def lifespan(server: Server) -> AsyncIterator[None]:
        nonlocal tries
        tries += 1
        if tries == 1:
            raise OSError("the engine is away")
        yield

    server = serve(idle, "127.0.0.1", port := free_port(), lifespan=lifespan)
    with pytest.raises(OSError, match="the engine is away"):
        await server.start()
    with pytest.raises(OpenError, match="refused"):
        await AioClient.connect(f"ws://127.0.0.1:{port}")
    async with server:  # another try
        await (await AioClient.connect(f"ws://127.0.0.1:{port}")).close()


async def test_it_is_left_when_listening_fails() -> None:
    story = Story()
    async with serve(idle, "127.0.0.1") as other:
        server = serve(idle, "127.0.0.1", other.port, lifespan=story.lifespan)
        with pytest.raises(OSError, match="in use") as caught:
            await server.start()
    assert caught.value.errno == errno.EADDRINUSE
    assert story.lines == ["entered, with 0 sockets", "left, with 0 connections"]
    await server.close()


@pytest.mark.parametrize("stubborn", [False, True])
@pytest.mark.parametrize("how", ["close", "cancel"])
async def test_the_end_while_it_is_entered(how: str, stubborn: bool) -> None:
    """Also of one that enters all the same."""
    cancelled = asyncio.Event()

    @contextlib.asynccontextmanager
    async def lifespan(server: Server) -> AsyncIterator[None]:
        try:
            await asyncio.sleep(1000)
        except asyncio.CancelledError:
            if not stubborn:
                raise
        finally:
            cancelled.set()
        yield

    server = serve(idle, "127.0.0.1", lifespan=lifespan)
    starting = asyncio.create_task(server.start())
    await asyncio.sleep(1)
    if how == "close":
        await server.close()
        with pytest.raises(WebSocketRuntimeError, match="closed while it started"):
            await starting
    else:
        starting.cancel()
        await asyncio.wait({starting})
        assert starting.cancelled()
    assert cancelled.is_set()
    assert not server.sockets


async def test_it_ends_by_itself_before_we_listen() -> None:
    @contextlib.asynccontextmanager
    async def lifespan(server: Server) -> AsyncIterator[None]:
        async with asyncio.timeout(0):
            yield
            await asyncio.sleep(1)

    server = serve(idle, "127.0.0.1", lifespan=lifespan)
    with pytest.raises(TimeoutError):
        await server.start()
    assert not server.sockets


@contextlib.asynccontextmanager
async def fails_at_the_end(server: Server) -> AsyncIterator[None]:
    yield
    raise OSError("the database is away")


async def test_leaving_fails() -> None:
    """Everybody is closed all the same, and whoever closes the server is told."""
    with pytest.raises(OSError, match="the database is away"):
        async with serve(idle, "127.0.0.1", lifespan=fails_at_the_end) as server:
            ws = await AioClient.connect(f"ws://127.0.0.1:{server.port}")
    assert not server.connections
    await ws.wait_closed()
    assert ws.close_code == 1001
    with pytest.raises(OSError, match="the database is away"):
        await server.close()


async def test_it_ends_by_itself(caplog: pytest.LogCaptureFixture) -> None:
    """What handlers use has gone: everybody is closed with 1011, and serving ends."""
    fail = asyncio.Event()

    async def broken() -> None:
        await fail.wait()
        raise OSError("lost the engine")

    @contextlib.asynccontextmanager
    async def lifespan(server: Server) -> AsyncIterator[None]:
        async with asyncio.TaskGroup() as group:
            group.create_task(broken())
            yield

    with caplog.at_level(logging.ERROR, "simplews"):
        server = serve(idle, "127.0.0.1", lifespan=lifespan)
        await server.start()
        serving = asyncio.create_task(server.serve_forever())
        ws = await AioClient.connect(f"ws://127.0.0.1:{server.port}")
        fail.set()
        await ws.wait_closed()
        with pytest.raises(ExceptionGroup) as caught:
            await serving
    assert ws.close_code == 1011
    assert caught.group_contains(OSError, match="lost the engine")
    assert [record.getMessage() for record in caplog.records] == [
        "the lifespan has ended by itself; the server closes with 1011"
    ]


async def test_what_is_no_lifespan() -> None:
    async def generator(server: Server) -> AsyncIterator[None]:
        yield

    wrong: Any = generator
    with pytest.raises(TypeError, match=r"decorate .* with contextlib.asynccontextmanager"):
        await serve(idle, "127.0.0.1", lifespan=wrong).start()
    with pytest.raises(TypeError, match="takes the Server"):
        serve(idle, lifespan=contextlib.nullcontext())  # type: ignore[call-overload]
