"""Whatever a coroutine does, and whatever is done to it: past its task or inside, the same."""

from __future__ import annotations

import asyncio
import contextlib
import sys
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from simplews.link.waiter import Waiter

# Statements of a handler: a name, and those inside it.
Statement = tuple[str, Any, Any]
# What happens in one turn of the loop, one thing after the other.
Events = Sequence[Sequence[str]]

SIMPLE = [
    "receive",
    "receive",
    "receive",
    "other",
    "turn",
    "soon",
    "never",
    "cancel",
    "uncancel",
    "fail",
    "return",
    "exit",
    "message",
]
BLOCKS = [
    "try",
    "finally",
    "timeout",
    "no time",
    "child",
    "shield",
    "group",
    "wait_for",
    "gather",
    "generator",
    "context manager",
    "begun",
]

LEAVES = st.tuples(st.sampled_from(SIMPLE), st.just(()), st.just(()))
STATEMENTS = st.recursive(
    LEAVES,
    lambda inner: st.tuples(
        st.sampled_from(BLOCKS), st.lists(inner, max_size=4), st.lists(inner, max_size=3)
    ),
    max_leaves=12,
)
PROGRAMS = st.lists(STATEMENTS, min_size=1, max_size=6)
EVENTS = st.sampled_from(
    ["message", "message", "message", "other", "later", "cancel", "uncancel", "expire"]
)
SCHEDULES = st.lists(st.lists(EVENTS, max_size=3), max_size=12)


class Ordinary(asyncio.Task[Any]):
    """A task that nothing goes past: only asyncio's own class is known well enough."""


class Exit(BaseException):
    """Not an Exception."""


def name_of(task: asyncio.Task[Any]) -> str:
    """Those that asyncio makes by itself have a number, which is never twice the same."""
    return "another" if task.get_name().startswith("Task-") else task.get_name()


class Run:
    """One run of a program, and what it and its surroundings saw."""

    def __init__(self, program: Sequence[Statement], events: Events) -> None:
        self.loop = asyncio.get_running_loop()
        self.waiter, self.other = Waiter(self.loop), Waiter(self.loop)
        self.program, self.events = program, events
        self.messages: deque[int] = deque()
        self.log: list[Any] = []
        self.turn = 0
        # The loop would not keep one that nobody awaits.
        self.children: list[asyncio.Task[Any]] = []

    def say(self, *what: Any) -> None:
        task = asyncio.current_task()
        assert task is not None
        self.log.append((self.turn, name_of(task), task.cancelling(), *what))

    async def receive(self) -> None:
        while not self.messages:
            if self.waiter.reader is not None:
                self.say("busy")
                return
            expired = await self.waiter
            self.say("woken", expired)
            if expired:
                return
        self.say("message", self.messages.popleft())

    def soon(self) -> asyncio.Future[str]:
        future = self.loop.create_future()
        self.loop.call_soon(lambda: future.done() or future.set_result("soon"))
        return future

    def child(self, body: Any) -> asyncio.Task[Any]:
        name = f"child {len(self.children)}"
        self.children.append(self.loop.create_task(self.block(body), name=name))
        return self.children[-1]

    async def block(self, body: Sequence[Statement]) -> str:
        for statement in body:
            if await self.do(*statement):
                break
        return "the end"

    async def do(self, name: str, body: Any, other: Any) -> bool:
        """Whether that was a return."""
        task = asyncio.current_task()
        assert task is not None
        self.say(name)
        if name == "receive":
            await self.receive()
        elif name == "other":
            if self.other.reader is None:
                self.say("the other", await self.other)
        elif name == "turn":
            await asyncio.sleep(0)
        elif name == "soon":
            self.say(await self.soon())
        elif name == "never":
            await self.loop.create_future()
        elif name == "cancel":
            self.say(task.cancel(f"in {self.turn}"))
        elif name == "uncancel":
            self.say(task.uncancel())
        elif name == "fail":
            raise ValueError("mine")
        elif name == "exit":
            raise Exit
        elif name == "return":
            return True
        elif name == "message":
            self.messages.append(-self.turn)
            self.waiter.wake_now()
        elif name == "try":
            try:
                await self.block(body)
            except (Exception, asyncio.CancelledError) as exc:
                self.say("caught", repr(exc), repr(exc.__context__))
                await self.block(other)
        elif name == "finally":
            try:
                await self.block(body)
            finally:
                await self.block(other)
        elif name == "timeout":
            async with asyncio.timeout(60):
                await self.block(body)
        elif name == "no time":
            try:
                async with asyncio.timeout(0):
                    await self.block(body)
            except TimeoutError:
                self.say("timeout")
        elif name == "child":
            child = self.child(body)
            await self.block(other)
            self.say(await child)
        elif name == "shield":
            self.say(await asyncio.shield(self.child(body)))
        elif name == "group":
            async with asyncio.TaskGroup() as group:
                self.children.append(group.create_task(self.block(body), name="in a group"))
                await self.block(other)
        elif name == "wait_for":
            await asyncio.wait_for(self.block(body), 60)
        elif name == "gather":
            self.say(await asyncio.gather(self.child(body), self.child(other)))
        elif name == "generator":
            # Closed here, and not when the collector of garbage finds it.
            async with contextlib.aclosing(self.generator(body)) as numbers:
                async for number in numbers:
                    self.say(number)
                    await self.block(other)
        elif name == "context manager":
            async with self.context_manager(body):
                await self.block(other)
        elif name == "begun":
            child = self.child(body)
            await asyncio.sleep(0)
            await self.block(other)
            self.say(await child)
        return False

    async def generator(self, body: Sequence[Statement]) -> AsyncGenerator[int, None]:
        try:
            for number, statement in enumerate(body):
                if await self.do(*statement):
                    break
                yield number
        finally:
            self.say("the generator ends")

    @contextlib.asynccontextmanager
    async def context_manager(self, body: Sequence[Statement]) -> AsyncIterator[None]:
        await self.block(body[:1])
        try:
            yield
        finally:
            await self.block(body[1:])

    async def main(self) -> None:
        try:
            self.say(await self.block(self.program))
        except BaseException as exc:
            self.say("ended", repr(exc), repr(exc.__context__))
            raise
        finally:
            await asyncio.sleep(0)  # where a cancellation strikes that nobody has seen
            self.say("after it")

    def step(self) -> None:
        """One turn, as the loop calls a transport: outside every task."""
        events = self.events[self.turn] if self.turn < len(self.events) else ["message", "other"]
        if self.turn > 60:
            events = ["cancel", "message"]
        self.turn += 1
        for event in events:
            if event == "message":
                self.messages.append(self.turn)
                self.waiter.wake_now()
            elif event == "other":
                self.other.wake_now()
            elif event == "later":
                self.messages.append(self.turn)
                self.waiter.wake()
            elif event == "expire":
                self.waiter.expire()
            elif event == "uncancel":
                self.task.uncancel()
            elif event == "cancel":
                self.task.cancel(f"from outside in {self.turn}")
        if self.turn > 60:
            for child in self.children:  # one that ignores the first holds its group up
                child.cancel()
        if not self.task.done() and self.turn < 200:
            self.loop.call_soon(self.step)

    async def play(self) -> list[Any]:
        self.task = self.loop.create_task(self.main(), name="the handler")
        self.loop.call_soon(self.step)
        await asyncio.wait([self.task])
        self.log.append("cancelled" if self.task.cancelled() else repr(self.task.exception()))
        others = asyncio.all_tasks() - {asyncio.current_task()}
        if others:
            while not all(other.done() for other in others):
                for other in others:
                    other.cancel()
                await asyncio.sleep(0)
            self.log += sorted(f"{name_of(t)} {t.cancelled() or t.exception()!r}" for t in others)
        assert self.waiter.reader is self.other.reader is None
        return self.log


def eager(kind: type[asyncio.Task[Any]]) -> Any:
    """What makes tasks that begin at once, where Python has them."""
    if sys.version_info < (3, 12):
        return lambda loop, coroutine, **options: kind(coroutine, loop=loop, **options)
    return asyncio.create_eager_task_factory(kind)


def run(
    program: Sequence[Statement],
    events: Events,
    kind: type[asyncio.Task[Any]],
    at_once: bool = False,
) -> list[Any]:
    loop = asyncio.new_event_loop()
    loop.set_debug(False)  # in debug mode nothing goes on past its task
    loop.set_exception_handler(lambda loop, context: None)  # children whom nobody asks
    loop.set_task_factory(
        eager(kind)
        if at_once
        else lambda loop, coroutine, **options: kind(coroutine, loop=loop, **options)
    )

    async def play() -> list[Any]:
        return await Run(program, events).play()

    try:
        return loop.run_until_complete(play())
    finally:
        loop.close()


@settings(max_examples=400, deadline=None)
@given(PROGRAMS, SCHEDULES, st.booleans())
def test_any_coroutine_is_as_inside_its_task(
    program: Sequence[Statement], events: Events, at_once: bool
) -> None:
    assert run(program, events, asyncio.Task, at_once) == run(program, events, Ordinary, at_once)
