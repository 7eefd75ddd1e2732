"""Two hosts on one engine, and the network between one of them and the engine loses everything.

What it loses it loses on the way: nobody is refused, nobody hears of it. The hosts are
processes, and the network is the kernel's; `test_faults` has more, with a relay for it.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import sys
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

import simplews

from ...engines import DEADLINE, nats_server, redis_server
from ...namespace import Link, linked_namespace
from .load import QUICK

HOST = Path(__file__).with_name("host.py")
KINDS = ("redis", "redis-history", "nats", "nats-history")
HOSTS = ("near", "far")  # the engine, and the namespace


class Talk:
    """
    What a host has said of one backend.

    Attributes:
        joined: Whether its member has joined.
        sent: For each number, when its broadcast began and ended.
        failed: Numbers of which it was told that something went wrong.
        got: What its member got of each host, in order.
        last: Hosts whose last message it got.
        gaps: What was reported: since and until when, and why.
    """

    def __init__(self) -> None:
        self.joined = False
        self.sent: dict[int, tuple[float, float]] = {}
        self.failed: set[int] = set()
        self.got: dict[str, list[int]] = {host: [] for host in HOSTS}
        self.last: set[str] = set()
        self.gaps: list[tuple[float, float, str]] = []

    def note(self, said: list[Any]) -> None:
        match said:
            case ["joined"]:
                self.joined = True
            case ["sent", number, began, ended, failed]:
                self.sent[number] = began, ended
                if failed:
                    self.failed.add(number)
            case ["got", host, -1]:
                self.last.add(host)
            case ["got", host, number]:
                self.got[host].append(number)
            case ["gap", since, until, reason]:
                self.gaps.append((since, until, reason))


class Host:
    """`host.py`, as it runs."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process
        self.ended = False
        self.talks = {kind: Talk() for kind in KINDS}

    def order(self, *words: str) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(" ".join(words).encode() + b"\n")

    async def follow(self, news: asyncio.Event) -> None:
        """Note what it says, to its end."""
        assert self._process.stdout is not None
        async for line in self._process.stdout:
            kind, *said = json.loads(line)
            self.talks[kind].note(said)
            news.set()
        self.ended = True
        news.set()


@contextlib.asynccontextmanager
async def running(command: Sequence[str], news: asyncio.Event) -> AsyncIterator[Host]:
    paths = [str(Path(simplews.__file__).parents[1]), os.environ.get("PYTHONPATH", "")]
    process = await asyncio.create_subprocess_exec(
        *command,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        env={
            **os.environ,
            "PYTHONPATH": os.pathsep.join(filter(None, paths)),
            "PYTHONDEVMODE": "",
        },
    )
    assert process.stdin is not None
    host = Host(process)
    following = asyncio.ensure_future(host.follow(news))
    try:
        yield host
        process.stdin.close()
        async with asyncio.timeout(DEADLINE):
            await following
            assert await process.wait() == 0
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
        following.cancel()
        await asyncio.gather(following, return_exceptions=True)


class World:
    """Both hosts, with each kind of backend."""

    def __init__(self, near: Host, far: Host, news: asyncio.Event) -> None:
        self._hosts = {"near": near, "far": far}
        self._news = news
        #: For each kind, who sends, what it says, and what the other says.
        self.ways = [
            (kind, name, host.talks[kind], other.talks[kind])
            for kind in KINDS
            for name, host, other in (("near", near, far), ("far", far, near))
        ]

    def order(self, what: str) -> None:
        for host in self._hosts.values():
            host.order(what)

    async def until(self, true: Callable[[], Any]) -> None:
        """Wait until it is true; looked at whenever a host says anything."""
        async with asyncio.timeout(DEADLINE):
            while not true():
                assert not any(host.ended for host in self._hosts.values()), "see its stderr"
                self._news.clear()
                await self._news.wait()

    async def more(self, count: int) -> None:
        """Wait until each host has got so many more of the other, with every kind."""
        goals = [
            (receiver.got[name], len(receiver.got[name]) + count)
            for _, name, _, receiver in self.ways
        ]
        await self.until(lambda: all(len(got) >= goal for got, goal in goals))

    async def finish(self) -> None:
        """What was sent has arrived afterwards, or never will."""
        self.order("stop")
        for kind, name, _, receiver in self.ways:
            while name not in receiver.last:
                gaps = len(receiver.gaps)
                self._hosts[name].order("last", kind)
                await self.until(lambda r=receiver, n=name, g=gaps: n in r.last or len(r.gaps) > g)


def missing(sender: Talk, receiver: Talk, name: str) -> set[int]:
    """Numbers that did not arrive though their sender was not told."""
    return sender.sent.keys() - set(receiver.got[name]) - sender.failed


@pytest.fixture
def link() -> Iterator[Link]:
    with linked_namespace() as link:
        yield link


async def test_the_network_of_one_host_loses_everything_for_a_while(link: Link) -> None:
    """
    Longer than a heartbeat may take.

    What is missing is in a gap that was reported. With history nothing is missing,
    and nothing comes twice.
    """
    news = asyncio.Event()
    with redis_server(address=link.here) as redis, nats_server(address=link.here) as nats:
        ports = {"redis": redis.port, "nats": nats.port}
        backends = {}
        for kind in KINDS:
            engine, _, history = kind.partition("-")
            backends[kind] = engine, f"{engine}://{link.here}:{ports[engine]}", bool(history)
        commands = [
            [
                sys.executable,
                str(HOST),
                json.dumps({"name": name, "backends": backends, "options": QUICK}),
            ]
            for name in HOSTS
        ]
        async with (
            running(commands[0], news) as near,
            running([*link.prefix, *commands[1]], news) as far,
        ):
            world = World(near, far, news)
            await world.until(lambda: all(sender.joined for _, _, sender, _ in world.ways))
            world.order("start")
            await world.more(20)
            link.cut()
            counts = {kind: len(talk.sent) for kind, talk in near.talks.items()}
            # A broadcast waits longer for the engine than a heartbeat for its echo.
            await world.until(lambda: all(talk.failed for talk in far.talks.values()))
            assert all(len(near.talks[kind].sent) > count for kind, count in counts.items())
            link.heal()
            await world.more(20)
            await world.finish()
    for kind, name, sender, receiver in world.ways:
        got = receiver.got[name]
        assert len(got) == len(set(got)), f"{kind}: something came twice"
        # What its sender had given up may arrive when the network is back, and late.
        held = [number for number in got if number not in sender.failed]
        assert held == sorted(held), kind
        lost = missing(sender, receiver, name)
        if "history" in kind:
            assert not lost and not receiver.gaps, kind
        else:
            assert lost or name == "far", f"{kind}: it has lost nothing"
        for number in lost:
            began, ended = sender.sent[number]
            inside = [since <= ended and began <= until for since, until, _ in receiver.gaps]
            assert any(inside), f"{kind}: {number} of {name}, sent at {began}: {receiver.gaps}"
