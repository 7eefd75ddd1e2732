"""
Small programs as users write them: checked by mypy and pyright, never run.

``assert_type`` states what a user may rely on.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncGenerator
from typing import assert_type

from simplews import (
    AioBase,
    AioClient,
    AioServer,
    ConnectionClosed,
    Reconnect,
    Retry,
    Rooms,
    Server,
    ServerStats,
    Workers,
    WorkersStats,
    serve,
)
from simplews.rooms import Backend, Gap, History, Memory, Nats, Position, PresenceChange, Redis


async def echo(ws: AioServer) -> None:
    async for message in ws:
        await ws.send(message)
        await ws.send(message.data)


async def either_side(ws: AioBase) -> None:
    assert_type(await ws.receive(), str | bytes | None)
    assert_type(await ws.receive(timeout=0), str | bytes | None)
    assert_type(ws.subprotocol, str | None)
    assert_type(await ws.ping(), float)
    try:
        await ws.send(bytearray(b"bytes"))
        await ws.send(memoryview(b"bytes"))
        await ws.send(["a ", "fragmented ", "message"])
    except ConnectionClosed as end:
        assert_type(end.code, int)
        assert_type(end.reason, str)
    await ws.close(1000, "thank you")


async def awaited() -> None:
    ws = await AioClient.connect(
        "ws://localhost:8765", subprotocols=["chat"], max_redirects=0, proxy=None
    )
    assert_type(ws, AioClient)
    await ws.close()


async def in_a_context() -> None:
    async with AioClient.connect("ws://localhost:8765", headers={"X-Room": "lobby"}) as ws:
        assert_type(ws, AioClient)


async def reconnecting() -> None:
    async for ws in AioClient.connect("ws://localhost:8765", reconnect=True, proxy="http://p"):
        assert_type(ws, AioClient)
        break

    async def on_retry(retry: Retry) -> None:
        assert_type(retry.delay, float)

    policy = Reconnect(attempts=5, on_retry=on_retry, renew=lambda: {"url": "ws://localhost"})
    async with AioClient.connect("ws://localhost:8765", reconnect=policy) as connections:
        async for ws in connections:
            assert_type(ws, AioClient)


async def standalone() -> None:
    async with serve(echo, "localhost", 8765, subprotocols=["chat"]) as server:
        await server.serve_forever()


async def several_processes() -> None:
    async with serve(echo, "localhost", 8765, workers=4, ping_interval=30) as server:
        assert_type(server, Workers)
        assert_type(server.port, int)
        await server.restart(spread=30)
        await server.drain(spread=30)
        stats = await server.stats(timeout=2)
        assert_type(stats, WorkersStats)
        assert_type(stats.processes[server.pids[0]], ServerStats)
    await serve(echo, None, 8765, workers=2).serve_forever()


async def by_path() -> None:
    async with serve({"/echo": echo}, "localhost", 8765) as server:
        await server.serve_forever()


rooms = Rooms()


@contextlib.asynccontextmanager
async def opened(server: Server) -> AsyncGenerator[str]:
    async with rooms:
        yield str(server.port)


def only_rooms(server: Server) -> Rooms:
    return rooms


async def with_a_lifespan() -> None:
    assert_type(serve(echo, lifespan=opened), Server)
    assert_type(serve(echo, workers=2, lifespan=only_rooms), Workers)


async def chat(ws: AioServer) -> None:
    async with rooms.join("lobby", ws):
        async for message in ws:
            result = await rooms.broadcast("lobby", message, exclude=ws)
            assert_type(result.delivered, int)


def missing(gap: Gap) -> None:
    assert_type(gap.since, float)


def changed(change: PresenceChange) -> None:
    assert_type(change.member.info, str)


async def across_processes(ws: AioServer, position: str) -> None:
    history = History(length=100, age=60)
    engines: list[Backend] = [Redis("redis://localhost", history=history), Nats(), Memory(history)]
    for engine in engines:
        async with Rooms(engine, on_gap=missing, on_presence=changed) as there:
            async with there.join("lobby", ws, since=position, info="Ann") as joined:
                assert_type(joined.position, Position | None)
                assert_type(joined.gap, Gap | None)
                for member in await there.who("lobby"):
                    assert_type(member.id, str)
