"""A worker is killed while rooms on an engine are busy: who is told, and who notices nothing."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from dataclasses import replace
from itertools import pairwise
from typing import Any

import pytest

from simplews import AioClient, ConnectionClosed, Reconnect, Retry, Rooms
from simplews.resume import SUBPROTOCOL, Client

from ..engines import nats_server, redis_server
from .app import backend
from .conftest import AT_ONCE, DEADLINE, App, Start

pytestmark = [
    pytest.mark.skipif(sys.platform == "win32", reason="workers= is not for Windows"),
    pytest.mark.timeout(120),
]

#: Messages of the outside that may be on their way to a client.
WINDOW = 20
#: Messages of one client that may be on their way.
OWN_WINDOW = 5
#: Messages of the outside before the kill, while the lost clients are away, and afterwards.
SOME = 100


@pytest.fixture(params=["redis", "nats"])
def engine(request: pytest.FixtureRequest) -> Iterator[str]:
    """The URL of an engine, which lives on."""
    running = redis_server(durable=False) if request.param == "redis" else nats_server()
    with running as server:
        yield f"{request.param}://127.0.0.1:{server.port}"


class Stage:
    """
    What the clients of a test share.

    Attributes:
        gate: Open while clients may connect.
        policy: How they do so.
        lost: How many connections they have lost.
        outside: The last number that came from another process than the workers.
        over: Whether everybody is to stop sending.
    """

    def __init__(self) -> None:
        self.gate = asyncio.Event()
        self.gate.set()
        self.policy: Reconnect = replace(AT_ONCE, renew=self._renew, on_retry=self._retry)
        self.lost = 0
        self.outside = 0
        self.over = False
        self._news = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []

    async def _renew(self) -> dict[str, object]:
        await self.gate.wait()
        return {}

    def _retry(self, retry: Retry) -> None:
        self.lost += isinstance(retry.error, ConnectionClosed)
        self.tell()

    def tell(self) -> None:
        """Something has happened."""
        self._news.set()

    def spawn(self, coroutine: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """What goes on to the end; if it fails, everybody who waits fails."""
        task = asyncio.create_task(coroutine)
        self._tasks.append(task)
        task.add_done_callback(lambda _: self.tell())
        return task

    async def until(self, condition: Callable[[], bool]) -> None:
        """Wait until *condition()* holds."""
        async with asyncio.timeout(DEADLINE):
            while not condition():
                for task in self._tasks:
                    if task.done() and not task.cancelled():
                        task.result()
                self._news.clear()
                await self._news.wait()

    async def more(self) -> None:
        """Wait until the outside has sent some more."""
        enough = self.outside + SOME
        await self.until(lambda: self.outside >= enough)

    async def stop(self) -> None:
        """End what still goes on."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)


@contextlib.asynccontextmanager
async def staged() -> AsyncIterator[Stage]:
    stage = Stage()
    try:
        yield stage
    finally:
        await stage.stop()


async def send_from_outside(stage: Stage, rooms: Rooms, last: Callable[[], int]) -> None:
    """Numbers, as fast as those who are there take them: the last that they had is *last()*."""
    while not stage.over:
        stage.outside += 1
        await rooms.broadcast("load", f"outside {stage.outside}")
        stage.tell()
        await stage.until(lambda: last() >= stage.outside - WINDOW)


def split(message: object) -> tuple[str, int]:
    """``"name number"``."""
    name, _, number = str(message).partition(" ")
    return name, int(number)


def holes(numbers: list[int]) -> list[tuple[int, int]]:
    """Each place where one does not follow the other."""
    return [(one, next_) for one, next_ in pairwise(numbers) if next_ != one + 1]


# ----------------------------------------------------------------- without a history


class Member:
    """
    A client that reads, sends numbers, and comes again.

    Attributes:
        name: Of what it sends.
        pids: Who served it, for each of its connections.
        got: For each connection, the numbers that came, by sender.
        first: For each connection, the first number that it sends there.
        ended: With which code each connection has ended.
        sent: The last number that it has sent.
    """

    def __init__(self, stage: Stage, app: App, name: str) -> None:
        self.name = name
        self.pids: list[int] = []
        self.got: list[dict[str, list[int]]] = []
        self.first: list[int] = []
        self.ended: list[int | None] = []
        self.sent = 0
        self._stage, self._app = stage, app

    @property
    def here(self) -> bool:
        """Whether it is a member now."""
        return len(self.pids) > len(self.ended)

    def last(self, name: str) -> int:
        """The last number of a sender that its present connection got; -1 for none."""
        return (self.got[-1].get(name) or [-1])[-1]

    @property
    def latest(self) -> int:
        """The last number that it has sent on its present connection; -1 for none."""
        return self.sent if self.sent >= self.first[-1] else -1

    async def live(self) -> None:
        async for ws in self._app.connect(reconnect=self._stage.policy):
            with contextlib.suppress(ConnectionClosed):
                while split(message := await ws.receive(DEADLINE))[0] != "here":
                    pass  # it is a member already, and nobody counts on it yet
                self.got.append(defaultdict(list))
                self.first.append(self.sent + 1)
                self.pids.append(split(message)[1])
                self._stage.tell()
                sending = self._stage.spawn(self._send(ws))
                try:
                    async for message in ws:
                        name, number = split(message)
                        self.got[-1][name].append(number)
                        self._stage.tell()
                finally:
                    sending.cancel()
            self.ended.append(ws.close_code)
            self._stage.tell()

    async def _send(self, ws: AioClient) -> None:
        own = self.got[-1][self.name]
        first = self.first[-1]

        def may_send() -> bool:
            return self.sent - (own[-1] if own else first - 1) < OWN_WINDOW

        with contextlib.suppress(ConnectionClosed):
            while not self._stage.over:
                self.sent += 1
                await ws.send(f"{self.name} {self.sent}")
                await self._stage.until(may_send)


async def test_what_is_missing_is_where_the_connection_was_lost(start: Start, engine: str) -> None:
    """Those of the other worker miss nothing of what the engine was given."""
    app = await start(engine=engine)
    killed, other = app.pids
    members: list[Member] = []
    async with staged() as stage, Rooms(backend(engine, False)) as outside:

        async def come() -> Member:
            members.append(member := Member(stage, app, f"member{len(members)}"))
            stage.spawn(member.live())
            await stage.until(lambda: member.here)
            return member

        for pid in (killed, other):
            while sum(member.pids == [pid] for member in members) < 2:
                await come()

        def last() -> int:
            """Who has just come has had none yet, and holds nobody up."""
            had = [member.last("outside") for member in members if member.here]
            return min((number for number in had if number >= 0), default=stage.outside)

        sending = stage.spawn(send_from_outside(stage, outside, last))
        await stage.until(
            lambda: all(min(one.last("outside"), one.last(one.name)) >= SOME for one in members)
        )

        stage.gate.clear()
        os.kill(killed, signal.SIGKILL)
        lost = [member for member in members if member.pids == [killed]]
        survivors = [member for member in members if member.pids == [other]]
        await stage.until(lambda: all(member.ended for member in lost))
        await stage.more()
        await app.says(rf"worker 1 \(pid {killed}\) was killed by SIGKILL")
        new = int((await app.says(r"worker 1 \(pid (\d+)\) listens"))[1])
        stage.gate.set()
        await stage.until(lambda: all(member.here for member in lost))
        while not any(member.pids[-1] == new for member in members):
            await come()
            assert len(members) < 100, "the new worker serves nobody"
        await stage.more()
        stage.over = True
        await sending

        def complete(reader: Member) -> bool:
            said = {member.name: member.latest for member in members if member.latest > 0}
            said["outside"] = stage.outside
            return all(reader.last(name) == number for name, number in said.items())

        await stage.until(lambda: all(complete(member) for member in members))

    for member in members:
        assert member.ended == ([1006] if member in lost else [])
        for got in member.got:
            for name, numbers in got.items():
                if name == "outside" or member not in survivors:
                    assert not holes(numbers)
    for member in lost:
        assert member.got[1]["outside"][0] - member.got[0]["outside"][-1] > SOME - WINDOW
    for sender in members:
        in_all = {tuple(holes(reader.got[0][sender.name])) for reader in survivors}
        if sender not in lost:
            assert in_all == {()}
            continue
        # What the engine never got is what its sender was told of: it came after the last
        # that had come back to it, and before the first of its next connection.
        [hole] = in_all
        for before, after in hole:
            assert after == sender.first[1]
            assert before >= sender.got[0][sender.name][-1]
        assert not holes(sender.got[1][sender.name])


# --------------------------------------------------------------- with one, and resume


class Listener:
    """
    A client that resumes, reads, and sends numbers.

    Attributes:
        name: Of what it sends.
        got: All that came, in order.
        sent: The last number that it has sent.
        lost: How many connections it has lost.
    """

    def __init__(self, stage: Stage, app: App, name: str) -> None:
        self.name = name
        self.got: list[tuple[str, int]] = []
        self.sent = 0
        self.lost = 0
        self._stage = stage
        policy = replace(stage.policy, on_retry=self._retry)
        self.client = Client(f"ws://127.0.0.1:{app.where}", ["load"], reconnect=policy)

    def _retry(self, retry: Retry) -> None:
        self.lost += isinstance(retry.error, ConnectionClosed)
        self._stage.tell()

    def numbers(self, name: str) -> list[int]:
        """What came from one sender."""
        return [number for sender, number in self.got if sender == name]

    @property
    def last(self) -> int:
        """The last number from outside."""
        return next((number for name, number in reversed(self.got) if name == "outside"), -1)

    async def read(self) -> None:
        async for _, what in self.client:
            assert isinstance(what, str), what  # neither a gap nor a refusal
            self.got.append(split(what))
            self._stage.tell()

    async def send(self) -> None:
        while not self._stage.over:
            for _ in range(OWN_WINDOW):
                self.sent += 1
                await self.client.send("load", f"{self.name} {self.sent}")
            await self.client.flush()


async def test_with_a_history_nothing_is_missing_and_nothing_comes_twice(
    start: Start, engine: str
) -> None:
    """All see the same messages, in the same order; those who were away, too."""
    app = await start(engine=engine, history=True, subprotocols=[SUBPROTOCOL])
    listeners: list[Listener] = []
    async with (
        contextlib.AsyncExitStack() as stack,
        staged() as stage,
        Rooms(backend(engine, True)) as outside,
    ):
        served = {"": 0}
        while min(served.values()) < 2:
            listeners.append(one := Listener(stage, app, f"listener{len(listeners)}"))
            await stack.enter_async_context(one.client)
            stage.spawn(one.read())
            # Whoever gets it has joined; what came before that is not promised.
            joined = stage.spawn(stage.until(lambda one=one: bool(one.got)))
            while not joined.done():
                await outside.broadcast("load", "outside 0")
                await asyncio.wait({joined}, timeout=0.05)
            processes = (await app.ask("stats"))["processes"]
            served = {pid: process["open"] for pid, process in processes.items()}

        sending = [
            stage.spawn(
                send_from_outside(stage, outside, lambda: max(one.last for one in listeners))
            ),
            *(stage.spawn(one.send()) for one in listeners),
        ]
        await stage.more()
        stage.gate.clear()
        killed = app.pids[0]
        os.kill(killed, signal.SIGKILL)
        await stage.until(lambda: sum(one.lost for one in listeners) == served[str(killed)])
        await stage.more()
        await app.says(rf"worker 1 \(pid {killed}\) was killed by SIGKILL")
        await app.says(r"worker 1 \(pid \d+\) listens")
        stage.gate.set()
        await stage.more()
        stage.over = True
        for task in sending:
            async with asyncio.timeout(DEADLINE):
                await task
        # Behind everything that anybody has sent.
        await outside.broadcast("load", f"outside {stage.outside + 1}")
        await stage.until(lambda: all(one.last == stage.outside + 1 for one in listeners))

    assert [one.lost for one in listeners].count(1) == served[str(killed)]
    story = listeners[0].got[listeners[0].got.index(("outside", 1)) :]
    for one in listeners:
        assert one.got[one.got.index(("outside", 1)) :] == story
    told = defaultdict(list)
    for name, number in story:
        told[name].append(number)
    assert told["outside"] == list(range(1, stage.outside + 2))
    for one in listeners:
        numbers = one.numbers(one.name)
        everything = list(range(1, one.sent + 1))
        # What the killed worker had not acknowledged, its clients send again.
        assert (list(dict.fromkeys(numbers)) if one.lost else numbers) == everything
