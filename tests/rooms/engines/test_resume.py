"""Clients of `simplews.resume.v1` on two servers and a real engine, cut under load."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import random
from collections.abc import AsyncIterator

import pytest

from simplews import AioServer, ConnectionClosed, Reconnect, Rooms, serve
from simplews.resume import SUBPROTOCOL, Client, Gap, Session
from simplews.rooms import Backend, History, Nats, Redis

from ...engines import DEADLINE, redis_server
from .load import QUICK

_worlds = itertools.count()


@pytest.fixture(params=["redis", "nats"])
def engine(request: pytest.FixtureRequest) -> tuple[type[Redis | Nats], str, str]:
    kind: str = request.param
    port = request.getfixturevalue(kind).port
    return (Redis if kind == "redis" else Nats), f"{kind}://127.0.0.1:{port}", f"r{next(_worlds)}"


class Place:
    """One server, as a process among several would be."""

    def __init__(self, backend: Backend) -> None:
        self.rooms = Rooms(backend, **QUICK)
        self.open: set[AioServer] = set()
        self.port = 0

    async def handler(self, ws: AioServer) -> None:
        self.open.add(ws)
        try:
            async with Session(ws, self.rooms, allow=lambda room: True) as session:
                with contextlib.suppress(ConnectionClosed):
                    async for room, message in session:
                        await self.rooms.broadcast(room, message)
        finally:
            self.open.discard(ws)

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        async with (
            self.rooms,
            serve(self.handler, "127.0.0.1", 0, subprotocols=[SUBPROTOCOL]) as server,
        ):
            self.port = server.port
            yield


def between(places: list[Place]) -> Client:
    """A client that finds another server each time, as behind a load balancer."""
    turn = itertools.cycle(places)

    def renew() -> dict[str, str]:
        return {"url": f"ws://127.0.0.1:{next(turn).port}"}

    return Client("ws://127.0.0.1", ["load"], reconnect=Reconnect(first=0, most=0, renew=renew))


async def read(client: Client, last: str) -> list[str | Gap]:
    found: list[str | Gap] = []
    async for _, what in client:
        assert isinstance(what, (str, Gap)), what
        if what == last:
            break
        found.append(what)
    return found


async def ready(places: list[Place], count: int) -> None:
    async with asyncio.timeout(DEADLINE):
        for place in itertools.cycle(places):
            if sum(len(place.rooms.presence("load")) for place in places) == count:
                return
            await asyncio.sleep(0)


async def test_cut_under_load_nothing_is_missing_and_nothing_comes_twice(
    engine: tuple[type[Redis | Nats], str, str],
) -> None:
    """Every few messages somebody's connection is reset, and it comes again elsewhere."""
    make, url, prefix = engine
    history = History(length=2000, age=60)
    one, two = (Place(make(url, history=history, prefix=prefix)) for _ in range(2))
    sender = Rooms(make(url, history=history, prefix=prefix), **QUICK)
    chance = random.Random(6)
    places = [one, two]
    async with sender, one.running(), two.running(), contextlib.AsyncExitStack() as stack:
        clients = [await stack.enter_async_context(between(places)) for _ in range(4)]
        await ready(places, 4)
        reading = asyncio.gather(*(read(client, "end") for client in clients))
        cuts = 0
        async with asyncio.timeout(DEADLINE):
            for n in range(600):
                await sender.broadcast("load", f"{n}")
                there = [ws for place in places for ws in place.open]
                if n % 10 == 0 and there:
                    chance.choice(there).abort()
                    cuts += 1
            await sender.broadcast("load", "end")
            got = await reading
    assert cuts > 30
    for found in got:
        assert found == [f"{n}" for n in range(600)]


async def test_what_clients_send_under_load_arrives_in_order(
    engine: tuple[type[Redis | Nats], str, str],
) -> None:
    """At least once between processes; in order, but for what is sent again."""
    make, url, prefix = engine
    history = History(length=2000, age=60)
    one, two = (Place(make(url, history=history, prefix=prefix)) for _ in range(2))
    places = [one, two]
    async with one.running(), two.running(), between(places) as away, between(places) as stays:
        await ready(places, 2)
        reading = asyncio.ensure_future(read(stays, "end"))
        async with asyncio.timeout(DEADLINE):
            for n in range(300):
                await away.send("load", f"{n}")
                if n % 20 == 0:
                    for ws in [*one.open, *two.open]:
                        ws.abort()
                async with asyncio.timeout(DEADLINE):
                    await anext(away)
            await away.flush()
            await away.send("load", "end")
            got = [int(str(what)) for what in await reading]
    seen: list[int] = []
    for n in got:
        assert n <= len(seen), "it came before its predecessor"
        if n == len(seen):
            seen.append(n)
    assert seen == list(range(300))


async def test_engine_killed_without_a_memory_is_a_gap_and_goes_on() -> None:
    """What came before it and what came after are there, each once."""
    with redis_server(durable=False) as engine:
        url = f"redis://127.0.0.1:{engine.port}"
        place = Place(Redis(url, history=History(), timeout=1.0))
        async with place.running(), between([place]) as client:
            await ready([place], 1)
            async with asyncio.timeout(DEADLINE):
                await place.rooms.broadcast("load", "before")
                assert await anext(client) == ("load", "before")
                engine.kill()
                engine.start()
                _, gap = await anext(client)
                assert isinstance(gap, Gap)
                await ready([place], 1)
                await place.rooms.broadcast("load", "after")
                found = await read(client, "after")
                assert all(isinstance(what, Gap) for what in found)


async def test_without_a_history_each_reconnection_is_a_gap_under_load(
    engine: tuple[type[Redis | Nats], str, str],
) -> None:
    make, url, prefix = engine
    place = Place(make(url, prefix=prefix))
    sender = Rooms(make(url, prefix=prefix), **QUICK)
    async with sender, place.running(), between([place]) as client:
        await ready([place], 1)
        reading = asyncio.ensure_future(read(client, "end"))
        async with asyncio.timeout(DEADLINE):
            n = 0
            for _ in range(5):
                for ws in list(place.open):
                    ws.abort()
                while not place.rooms.presence("load"):
                    await sender.broadcast("load", f"{n}")
                    n += 1
                for _ in range(5):
                    await sender.broadcast("load", f"{n}")
                    n += 1
            await sender.broadcast("load", "end")
            got = await reading
    assert sum(isinstance(what, Gap) for what in got) == 5
    numbers = [(i, int(what)) for i, what in enumerate(got) if isinstance(what, str)]
    for (i, a), (k, b) in itertools.pairwise(numbers):
        # Whatever is missing is missing at a gap.
        assert b == a + 1 or (b > a and any(isinstance(g, Gap) for g in got[i:k]))
