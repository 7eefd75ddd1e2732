"""A host of its own: broadcasts numbers, has members that listen, and says what became of each.

Its argument is JSON: ``name``, the host's; ``backends``, for each name the engine, its
URL and whether there is a history; and ``options`` for `Rooms`, which there are of each
backend. It prints JSON, a line for each number that it sent, each that a member got and
each gap. A line of its standard input is an order: ``start`` and ``stop`` are for the
numbers, ``last`` and the name of a backend broadcasts the last of all there, and its end
is the end of the program.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import sys
import time
from typing import Any

from simplews import AioClient, BackendUnavailable, Rooms
from simplews.rooms import Backend, Gap, History, Nats, Redis
from simplews.testing import pair


def say(*what: Any) -> None:
    print(json.dumps(what), flush=True)


def backend_of(engine: str, url: str, history: bool) -> Backend:
    past = History(length=10000, age=60) if history else None
    return (Redis if engine == "redis" else Nats)(url, timeout=1.0, history=past)


class Talk:
    """Rooms, a member of one, which is called like the backend, and what is said in it."""

    def __init__(self, host: str, name: str, backend: Backend, options: dict[str, Any]) -> None:
        self._host = host
        self._name = name
        self._rooms = Rooms(backend, on_gap=self._missed, **options)

    def _missed(self, gap: Gap) -> None:
        say(self._name, "gap", gap.since, gap.until, gap.reason)

    async def begin(self, stack: contextlib.AsyncExitStack) -> AioClient:
        await stack.enter_async_context(self._rooms)
        client, server = await stack.enter_async_context(pair(timeout=None))
        await self._rooms.join(self._name, server)
        say(self._name, "joined")
        return client

    async def listen(self, client: AioClient) -> None:
        async for message in client:
            host, number = str(message.data).split()
            say(self._name, "got", host, int(number))

    async def send(self, stopped: asyncio.Event) -> None:
        number = 0
        while not stopped.is_set():
            began, failed = time.time(), False
            try:
                await self.say(number)
            except BackendUnavailable:
                failed = True
            say(self._name, "sent", number, began, time.time(), failed)
            number += 1
            await asyncio.sleep(0)

    async def say(self, number: int) -> None:
        await self._rooms.broadcast(self._name, f"{self._host} {number}")


async def main(name: str, backends: dict[str, list[Any]], options: dict[str, Any]) -> None:
    orders = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(orders), sys.stdin
    )
    stopped = asyncio.Event()
    talks = {kind: Talk(name, kind, backend_of(*of), options) for kind, of in backends.items()}
    async with contextlib.AsyncExitStack() as stack, asyncio.TaskGroup() as tasks:
        listening = []
        for talk in talks.values():
            client = await talk.begin(stack)
            listening.append(tasks.create_task(talk.listen(client)))
        while line := await orders.readline():
            match line.decode().split():
                case ["start"]:
                    for talk in talks.values():
                        tasks.create_task(talk.send(stopped))
                case ["stop"]:
                    stopped.set()
                case ["last", kind]:
                    await talks[kind].say(-1)
        stopped.set()
        for task in listening:
            task.cancel()


asyncio.run(main(**json.loads(sys.argv[1])))
