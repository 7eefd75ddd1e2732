"""A rolling restart of every process under load: clients that resume lose nothing."""

from __future__ import annotations

import asyncio
import contextlib
import sys
from collections.abc import Callable

import pytest

from simplews import Rooms
from simplews.resume import SUBPROTOCOL, Client
from simplews.rooms import History, Redis

from ..engines import redis_server
from .conftest import AT_ONCE, DEADLINE, Start

pytestmark = [
    pytest.mark.skipif(sys.platform == "win32", reason="workers= is not for Windows"),
    pytest.mark.timeout(120),
]

#: Messages that may be on their way to the slowest client.
WINDOW = 30


class Listener:
    """
    A client that reads.

    Attributes:
        got: Numbers of the sender.
        own: Numbers that a client has sent, and how often each came.
    """

    def __init__(self, client: Client, news: asyncio.Event) -> None:
        self.client = client
        self.got: list[int] = []
        self.own: list[int] = []
        self._news = news

    async def read(self) -> None:
        async for _, what in self.client:
            assert isinstance(what, str), what  # neither a gap nor a refusal
            kind, _, number = what.partition(" ")
            (self.got if kind == "sender" else self.own).append(int(number))
            self._news.set()


async def test_rolling_restart_under_load_loses_nothing(start: Start) -> None:
    """Each client gets every message once and in order, and every message of one arrives."""
    news = asyncio.Event()
    with redis_server() as redis:
        url = f"redis://127.0.0.1:{redis.port}"
        app = await start(engine=url, history=True, subprotocols=[SUBPROTOCOL])
        sender = Rooms(Redis(url, history=History(length=5000)))
        async with sender, contextlib.AsyncExitStack() as stack:
            listeners = []
            for _ in range(6):
                made = Client(f"ws://127.0.0.1:{app.where}", ["load"], reconnect=AT_ONCE)
                listeners.append(Listener(await stack.enter_async_context(made), news))
            tasks = [asyncio.create_task(one.read()) for one in listeners]

            async def until(condition: Callable[..., bool]) -> None:
                async with asyncio.timeout(DEADLINE):
                    while not condition():
                        assert not any(task.done() for task in tasks), tasks
                        news.clear()
                        await news.wait()

            # Whoever gets it has joined; what came before that is not promised.
            while not all(one.got for one in listeners):
                await sender.broadcast("load", "sender 0")
            number = own = 0
            busy = listeners[0].client
            restarting = asyncio.create_task(app.ask("restart 0.2"))
            while not restarting.done() or number < 300:
                number += 1
                await sender.broadcast("load", f"sender {number}")
                if number % 3 == 0:
                    await busy.send("load", f"own {own}")
                    own += 1
                least = number - WINDOW
                await until(lambda n=least: min(one.got[-1] for one in listeners) >= n)
            assert not set(await restarting) & set(app.pids)
            await busy.flush()
            number += 1
            await sender.broadcast("load", f"sender {number}")
            await until(lambda: all(one.got[-1] == number for one in listeners))
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        for one in listeners:
            assert one.got[one.got.index(1) :] == list(range(1, number + 1))
            assert sorted(set(one.own)) == list(range(own))
