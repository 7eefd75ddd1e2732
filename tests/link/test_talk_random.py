"""Whatever is done to the calls of a connection: compiled, as the Python of them says."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import inspect
import re
import sys
import warnings
from collections.abc import AsyncIterator, Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from simplews import AioClient, AioServer

from ..clock import ClockLoop
from ..peer import CONTINUATION, TEXT, frame, opened, settled, until
from .channel import Server

# What is done, to which of the calls that are there, and how.
Act = tuple[str, int, int]

NAMES = ["receive", "receive", "next", "send", "step", "step", "step", "throw", "close", "drop"]
NAMES += ["task", "task", "within", "cancel", "arrives", "arrives", "arrives", "fragment"]
NAMES += ["stream", "turn", "turn", "time", "peer-closes", "closes"]
ACTS = st.tuples(st.sampled_from(NAMES), st.integers(0, 3), st.integers(0, 7))
PROGRAMS = st.lists(ACTS, min_size=2, max_size=14)


class PlainClient(AioClient):
    """Its calls are the functions of Python."""

    receive = inspect.unwrap(AioClient.receive)
    send = inspect.unwrap(AioClient.send)


class PlainServer(AioServer):
    """The same."""

    receive = inspect.unwrap(AioServer.receive)
    send = inspect.unwrap(AioServer.send)


class OverWire:
    """The other end of a socket."""

    def __init__(self, ws: Any, peer: Any) -> None:
        self.ws, self.peer = ws, peer
        self.written = 0

    async def write(self, data: bytes) -> None:
        if self.ws._link.ending is None:
            self.written += len(data)
            await self.peer.write(data)
            await until(lambda: self.ws.stats.bytes_in == self.written)

    async def message(self, text: str) -> None:
        await self.write(frame(TEXT, text, mask=False))

    async def in_two(self) -> None:
        first = frame(TEXT, "one ", fin=False, mask=False)
        await self.write(first + frame(CONTINUATION, "two", fin=True, mask=False))

    async def close(self, code: int) -> None:
        with contextlib.suppress(OSError):
            await self.peer.send_close(code)
        await settled()


class OverASGI:
    """An ASGI server."""

    def __init__(self, server: Server) -> None:
        self.server = server

    async def message(self, text: str) -> None:
        """It may be read in this turn, or not before somebody asks."""
        self.server.say("receive", text=text)

    async def in_two(self) -> None:
        """What the server makes of them, and what it may give at once."""
        self.server.say("receive", text="one two", bytes=None)
        self.server.say("receive", text=None, bytes=b"at once")
        await asyncio.sleep(0)

    async def close(self, code: int) -> None:
        self.server.say("disconnect", code=code)
        await asyncio.sleep(0)


class Run:
    """One run of a program, and what was seen."""

    def __init__(self, ws: Any, peer: Any) -> None:
        self.ws, self.peer = ws, peer
        self.calls: list[Any] = []
        # A task has them; another may still try to await them.
        self.given: list[Any] = []
        self.tasks: list[asyncio.Task[Any]] = []
        self.log: list[Any] = []

    def say(self, *what: Any) -> None:
        self.log.append(tuple(re.sub(r"Task-\d+", "a task", str(entry)) for entry in what))

    def made(self, how: int) -> Any:
        async def parts() -> Any:
            yield "a part"
            await asyncio.sleep(1)
            yield "another"

        data: Any = ["text", b"bytes", 5, "\ud800", parts(), ["x", "y"], "z" * 3000, bytearray(9)]
        return self.ws.send(data[how])

    async def next(self) -> Any:
        return await anext(aiter(self.ws))

    async def stream(self) -> Any:
        async for piece in self.ws.receive_stream():
            return piece

    def by_hand(self, name: str, act: Any, *arguments: Any) -> None:
        try:
            self.say(name, "gives", type(act(*arguments)).__name__)
        except StopIteration as end:
            self.say(name, "ends", repr(end.value))
        except BaseException as exc:
            self.say(name, "raises", repr(exc))

    async def do(self, name: str, which: int, how: int) -> None:
        calls = self.calls + self.given if name in ("task", "within") else self.calls
        call = calls[-1 - which % len(calls)] if calls else None
        if name == "receive":
            timeouts: Any = [(), (), (None,), (None,), (0,), (5,), (20,), (5,)]
            self.calls.append(self.ws.receive(*timeouts[how]))
        elif name == "send":
            self.calls.append(self.made(how))
        elif name in ("next", "stream"):
            self.tasks.append(asyncio.ensure_future(getattr(self, name)()))
        elif name == "arrives":
            await self.peer.message(f"message {len(self.log)}")
        elif name == "fragment":
            await self.peer.in_two()
        elif name == "turn":
            await asyncio.sleep(0)
        elif name == "time":
            await asyncio.sleep(10)
        elif name == "peer-closes":
            await self.peer.close([1000, 1011][how % 2])
        elif name == "closes" and how == 0:
            self.tasks.append(asyncio.ensure_future(self.ws.close()))
        elif name == "cancel" and self.tasks:
            self.say(name, self.tasks[-1 - which % len(self.tasks)].cancel("by the test"))
        elif call is None:
            pass
        elif name == "step":
            self.by_hand(name, call.send, None)
        elif name == "throw":
            error: Any = [ValueError("mine"), ValueError, asyncio.CancelledError("mine")][how % 3]
            self.by_hand(name, call.throw, error)
        elif name == "close":
            self.by_hand(name, call.close)
        elif name == "drop":
            self.calls.remove(call)
        else:
            if call in self.given:  # `await` looks whether it waits; a new task does not
                name, how = "within", 2
            else:
                self.calls.remove(call)
                self.given.append(call)
            work = self.within(call, how) if name == "within" else call
            self.tasks.append(asyncio.create_task(work))

    async def within(self, call: Any, how: int) -> Any:
        if how % 3 == 0:
            return await asyncio.wait_for(call, 7)
        if how % 3 == 1:
            return (await asyncio.gather(call, asyncio.sleep(0)))[0]
        async with asyncio.timeout(7):
            return await call

    def reader(self) -> str:
        reader = self.ws._inbox.waiter.reader
        return "nobody" if reader is None else reader.get_coro().__qualname__

    async def play(self, program: Sequence[Act]) -> None:
        for act in program:
            # Each in a task of its own: a timeout in a call that is sent on by hand
            # cancels whoever did that.
            await asyncio.create_task(self.do(*act))
            self.say(act, [outcome(task) for task in self.tasks], self.reader())
        await asyncio.sleep(60)
        self.ws.abort()
        await self.ws.wait_closed()
        for task in self.tasks:
            task.cancel()
        await asyncio.gather(*self.tasks, return_exceptions=True)
        self.say([outcome(task) for task in self.tasks])
        self.given.clear()
        while self.calls:
            self.by_hand("close", self.calls.pop().close)
        self.say(self.reader(), self.ws.stats.messages_out)


def outcome(task: asyncio.Task[Any]) -> str:
    if not task.done():
        return "not done"
    return "cancelled" if task.cancelled() else repr(task.exception() or task.result())


OPTIONS: dict[str, Any] = {"close_timeout": 5, "receive_timeout": 15}


@contextlib.asynccontextmanager
async def over_wire(plain: bool) -> AsyncIterator[Run]:
    async with opened(AioClient, **OPTIONS) as (ws, peer):
        if plain:
            ws.__class__ = PlainClient
        yield Run(ws, OverWire(ws, peer))


@contextlib.asynccontextmanager
async def over_asgi(plain: bool) -> AsyncIterator[Run]:
    # Without a timeout a task calls the server's receive() itself.
    server = Server()
    ws = await server.accept(close_timeout=5)
    if plain:
        ws.__class__ = PlainServer
    yield Run(ws, OverASGI(server))


def run(program: Sequence[Act], debug: bool, traced: bool, over: Any, plain: bool) -> list[Any]:
    loop = ClockLoop()
    loop.set_debug(debug)
    loop.slow_callback_duration = 3600
    reported: list[str] = []
    loop.set_exception_handler(lambda loop, context: reported.append(context["message"]))

    async def play() -> list[Any]:
        async with over(plain) as played:
            before = sys.gettrace()
            if traced:
                sys.settrace(lambda *_: None)
            try:
                await played.play(program)
            finally:
                if traced:
                    sys.settrace(before)
            log: list[Any] = played.log
            return log

    def unraisable(what: Any) -> None:
        reported.append(f"ignored {what.exc_value!r}")

    with warnings.catch_warnings(record=True) as told, pytest.MonkeyPatch.context() as patched:
        patched.setattr(sys, "unraisablehook", unraisable)
        warnings.simplefilter("always")
        try:
            log = loop.run_until_complete(play())
            loop.run_until_complete(loop.shutdown_asyncgens())
        finally:
            loop.close()
        gc.collect(0)
    return [log, sorted(str(entry.message).splitlines()[0] for entry in told), sorted(reported)]


@pytest.mark.parametrize("over", [over_wire, over_asgi])
@settings(max_examples=60, deadline=None)
@given(PROGRAMS, st.booleans(), st.booleans())
def test_any_use_of_a_call_is_as_with_a_coroutine(
    over: Any, program: Sequence[Act], debug: bool, traced: bool
) -> None:
    compiled = run(program, debug, traced, over, plain=False)
    assert compiled == run(program, debug, traced, over, plain=True)
