"""Whatever happens to an engine, no message is missing in silence.

With history none is missing at all, as long as the engine itself keeps it.
"""

from __future__ import annotations

import functools
import importlib
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from simplews.rooms import Backend, History, Nats, Redis

from ...engines import (
    Engine,
    Relay,
    move_slot,
    nats_cluster,
    nats_server,
    redis_cluster,
    redis_server,
    valkey_server,
)
from .load import load

#: The backend of an engine on a port.
Make = Callable[[int], Backend]


def plain_redis(port: int, **options: Any) -> Backend:
    return Redis(f"redis://127.0.0.1:{port}", timeout=1.0, **options)


def history_redis(port: int) -> Backend:
    return plain_redis(port, history=History(length=10000, age=60))


def plain_nats(port: int, **options: Any) -> Backend:
    return Nats(f"nats://127.0.0.1:{port}", timeout=1.0, **options)


def history_nats(port: int) -> Backend:
    return plain_nats(port, history=History(length=10000, age=60))


MAKERS = {
    "redis": plain_redis,
    "redis-history": history_redis,
    "nats": plain_nats,
    "nats-history": history_nats,
}


@pytest.fixture(params=MAKERS)
def kind(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


@pytest.fixture
def make(kind: str) -> Make:
    return MAKERS[kind]


@pytest.fixture
def engine(kind: str) -> Iterator[Engine]:
    with (redis_server if "redis" in kind else nats_server)() as engine:
        yield engine


def settle(kind: str, run: Any) -> None:
    """What must hold for the gaps."""
    if "history" in kind:
        assert not run.missing
        assert not run.gaps
    else:
        assert run.gaps


async def test_killed_and_started_again(kind: str, make: Make, engine: Engine) -> None:
    async with load(lambda: make(engine.port)) as run:
        engine.kill()
        await run.until(lambda: run.failed)
        engine.start()
        await run.more()
    settle(kind, run)


@pytest.mark.parametrize("kind", ["redis", "redis-history"])
async def test_valkey_killed_and_started_again(kind: str, make: Make) -> None:
    with valkey_server() as engine:
        async with load(lambda: make(engine.port)) as run:
            engine.kill()
            await run.until(lambda: run.failed)
            engine.start()
            await run.more()
    settle(kind, run)


async def test_connection_cut(kind: str, make: Make, engine: Engine) -> None:
    async with Relay(engine.port) as relay:
        async with load(lambda: make(engine.port), lambda: make(relay.port)) as run:
            relay.cut()
            await run.until(lambda: run.gaps or "history" in kind)
            await run.more(50)
    settle(kind, run)


async def test_paused(kind: str, make: Make, engine: Engine) -> None:
    """Longer than anybody waits for it."""
    async with load(lambda: make(engine.port)) as run:
        with engine.paused():
            await run.until(lambda: run.failed)
        await run.more()
    if "history" in kind:
        settle(kind, run)


async def test_network_split_on_the_side_of_the_receiver(
    kind: str, make: Make, engine: Engine
) -> None:
    """Nobody closes anything; what was sent meanwhile arrives never, or is filled in."""
    async with Relay(engine.port) as relay:
        async with load(lambda: make(engine.port), lambda: make(relay.port)) as run:
            relay.split()
            count = len(run.sent)
            await run.until(lambda: len(run.sent) > count + 300)
            relay.cut()
            relay.heal()
            await run.more()
    settle(kind, run)


async def test_disconnected_by_the_engine_for_being_slow(kind: str, make: Make) -> None:
    """What waits for one client is limited in every engine."""
    limited = redis_server if "redis" in kind else nats_server
    with limited(slow_limit=2 << 20) as engine:
        async with Relay(engine.port) as relay:
            # The heartbeat is not to be the first to notice.
            late = {"heartbeat_timeout": 15.0}
            async with load(lambda: make(engine.port), lambda: make(relay.port), **late) as run:
                relay.split()
                # Much more than the two sockets on the way hold.
                for _ in range(8):
                    await run.burst(20, 100_000)
                relay.heal()
                await run.more(160 if "history" in kind else 20)
    settle(kind, run)
    assert "history" in kind or run.missing


async def test_dropped_by_the_client_for_being_slow(nats: Engine) -> None:
    """nats-py drops what is above its limit, and says so."""
    make = functools.partial(plain_nats, nats.port)
    async with load(make, functools.partial(make, max_waiting=50_000)) as run:
        await run.burst(100, 20_000)
        await run.until(lambda: run.gaps)
    assert run.missing
    assert len(run.gaps) < len(run.missing)


async def test_deaf(kind: str, make: Make, engine: Engine) -> None:
    """A subscription that is silent, on a connection that lives, is found by the heartbeat."""
    async with Relay(engine.port) as relay:
        async with load(lambda: make(engine.port), lambda: make(relay.port)) as run:
            relay.split()
            began = run.now
            await run.until(lambda: run.now > began + 0.7)
            relay.heal()
            await run.more(100)
    settle(kind, run)


@pytest.mark.parametrize("kind", ["redis", "redis-history"])
async def test_connections_killed_by_the_engine(kind: str, make: Make, engine: Engine) -> None:
    """``CLIENT KILL``: all subscribers at once, again and again."""
    client: Any = importlib.import_module("redis.asyncio").Redis
    admin = client.from_url(f"redis://127.0.0.1:{engine.port}")
    async with admin, load(lambda: make(engine.port)) as run:
        for _ in range(3):
            assert await admin.client_kill_filter(_type="pubsub") >= 1
            await run.more()
    settle(kind, run)


async def test_a_redis_that_forgets() -> None:
    """It is killed and has written nothing down: that is a gap, history or not."""
    with redis_server(durable=False) as engine:
        async with load(lambda: history_redis(engine.port)) as run:
            engine.kill()
            await run.until(lambda: run.failed)
            engine.start()
            await run.until(lambda: run.gaps)
            await run.more()
    assert "does not reach back" in run.gaps[0].reason


@pytest.mark.parametrize("history", [None, History(length=10000, age=60)], ids=["live", "history"])
async def test_a_node_of_a_redis_cluster_is_killed_and_started_again(
    history: History | None,
) -> None:
    """The one that has the room; without it, the others refuse to work as well."""
    with redis_cluster() as nodes:
        url = f"redis://127.0.0.1:{nodes[0].port}"

        def make() -> Backend:
            return Redis(url, cluster=True, history=history, timeout=1.0)

        # The slot of "load" is 13699, in the last third. A node that has been away
        # refuses everything for some seconds more.
        async with load(make, publish_timeout=3.0) as run:
            nodes[2].kill()
            await run.until(lambda: run.failed)
            nodes[2].start()
            await run.more()
    settle("history" if history else "", run)


@pytest.mark.parametrize("history", [None, History(length=10000, age=60)], ids=["live", "history"])
async def test_a_server_of_a_nats_cluster_is_killed(history: History | None) -> None:
    """The receiver's; it goes to another, and the history has it all."""
    with nats_cluster() as servers:
        urls = [f"nats://127.0.0.1:{server.port}" for server in servers]

        def make(first: int) -> Backend:
            order = urls[first:] + urls[:first]
            return Nats(order, history=history, replicas=3, timeout=2.0, dont_randomize=True)

        # The servers may still be choosing who leads.
        async with load(lambda: make(0), lambda: make(1), publish_timeout=5.0) as run:
            servers[1].kill()
            await run.until(lambda: run.gaps or history)
            await run.more(100)
    settle("history" if history else "", run)


@pytest.mark.parametrize("history", [None, History(length=10000, age=60)], ids=["live", "history"])
async def test_a_room_moves_to_another_node_of_a_redis_cluster(history: History | None) -> None:
    """The node that had it ends the subscription; it is found at the other."""
    with redis_cluster() as nodes:

        def make() -> Backend:
            return Redis(
                f"redis://127.0.0.1:{nodes[0].port}", cluster=True, history=history, timeout=1.0
            )

        async with load(make) as run:
            move_slot(nodes[2], nodes[1], "load")
            await run.more(200)
    assert not history or not run.missing
