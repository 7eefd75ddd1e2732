"""A coroutine that goes on past its task does what it does inside it."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import gc
import sys
import traceback
import weakref
from collections.abc import Callable, Coroutine
from contextvars import ContextVar
from typing import Any

import anyio
import pytest

from simplews import AioClient, AioServer, serve
from simplews.link.waiter import Stop, Waiter

WHO: ContextVar[str] = ContextVar("who", default="nobody")
BODIES: list[Callable[[Waiter, list[Any]], Coroutine[Any, Any, Any]]] = []


class Ordinary(asyncio.Task[Any]):
    """A task that nothing goes past: only asyncio's own class is known well enough."""


TASKS = {True: asyncio.Task, False: Ordinary}


class Odd(BaseException):
    """Neither an Exception nor one that asyncio knows."""


def body(function: Any) -> Any:
    BODIES.append(function)
    return function


def current() -> asyncio.Task[Any]:
    task = asyncio.current_task()
    assert task is not None
    return task


def soon() -> asyncio.Future[str]:
    """A future that has its result in the next turn of the loop."""
    loop = asyncio.get_running_loop()
    future = loop.create_future()
    loop.call_soon(lambda: future.done() or future.set_result("soon"))
    return future


def done() -> asyncio.Future[str]:
    """One that has its result already, and says all the same that it is to be waited for."""
    future = asyncio.get_running_loop().create_future()
    future.set_result("done")
    future._asyncio_future_blocking = True
    return future


# ------------------------------------------------------------- what handlers do


@body
async def receives(waiter: Waiter, log: list[Any]) -> str:
    for turn in range(3):
        await waiter
        log.append((turn, current().get_name(), WHO.get()))
        WHO.set(f"{WHO.get()}.{turn}")
    return "all of it"


@body
async def receives_nothing(waiter: Waiter, log: list[Any]) -> int:
    return 3


@body
async def waits_for_other_things(waiter: Waiter, log: list[Any]) -> None:
    for _ in range(2):
        await waiter
        await asyncio.sleep(0)
        log.append(await soon())
        log.append(await asyncio.create_task(asyncio.sleep(0, "a child")))
        async with asyncio.timeout(60):
            await waiter
        log.append("received")


@body
async def fails(waiter: Waiter, log: list[Any]) -> None:
    await waiter
    raise ValueError("mine")


@body
async def fails_oddly(waiter: Waiter, log: list[Any]) -> None:
    await waiter
    raise Odd("mine")


@body
async def fails_later(waiter: Waiter, log: list[Any]) -> None:
    await waiter
    await asyncio.sleep(0)
    raise ValueError("mine")


@body
async def has_no_time(waiter: Waiter, log: list[Any]) -> None:
    await waiter
    try:
        async with asyncio.timeout(0):
            log.append("waits")
            await asyncio.get_running_loop().create_future()
    except TimeoutError:
        log.append("timeout")
    await waiter


@body
async def receives_in_a_task_of_its_own(waiter: Waiter, log: list[Any]) -> None:
    async def child() -> None:
        await waiter
        log.append(current().get_name())

    await waiter
    await asyncio.create_task(child(), name="the child")
    await waiter
    log.append(current().get_name())


@body
async def a_child_ignores_its_cancellation(waiter: Waiter, log: list[Any]) -> None:
    """So does who awaits it, whose cancellation that was."""

    async def child() -> str:
        try:
            await asyncio.get_running_loop().create_future()
        except asyncio.CancelledError as exc:
            log.append(str(exc))
        return "ignored"

    for _ in range(2):
        task = asyncio.create_task(child())
        try:
            await asyncio.sleep(0)  # it begins
            await waiter
            current().cancel("from within")
            log.append(await task)
            await asyncio.sleep(0)
            log.append("not cancelled")
        except asyncio.CancelledError as exc:
            log.append((str(exc), current().cancelling()))
        finally:
            task.cancel()


@body
async def takes_a_cancellation_back(waiter: Waiter, log: list[Any]) -> str:
    """Which counts from Python 3.13 on."""
    for then in None, lambda: asyncio.sleep(0), soon, None:
        await waiter
        current().cancel("never mind")
        log.append(current().uncancel())
        try:
            await (then() if then else waiter)
            log.append("goes on")
        except asyncio.CancelledError as exc:
            log.append(str(exc))
    await waiter
    current().cancel("never mind")
    current().uncancel()
    return "the end"


class Once:
    """Waits for a future, and writes down whether that was done when it was sent on."""

    def __init__(self, future: asyncio.Future[Any], log: list[Any]) -> None:
        self.future, self.log = future, log

    def __await__(self) -> Any:
        self.future._asyncio_future_blocking = True
        yield self.future
        self.log.append(f"done: {self.future.done()}")


@body
async def another_task_receives_meanwhile(waiter: Waiter, log: list[Any]) -> None:
    async def child() -> None:
        for _ in range(3):
            await waiter
            log.append(current().get_name())

    await waiter
    await Once(asyncio.create_task(child(), name="the child"), log)


@body
async def groups(waiter: Waiter, log: list[Any]) -> None:
    await waiter

    async def fail() -> None:
        raise ValueError("in the group")

    try:
        async with asyncio.TaskGroup() as group:
            group.create_task(fail())
            await waiter
            await asyncio.get_running_loop().create_future()
    except* ValueError as errors:
        log.append(str(errors.exceptions[0]))
    await waiter


@body
async def receives_from_two(waiter: Waiter, log: list[Any]) -> str:
    loop = asyncio.get_running_loop()
    other = Waiter(loop)
    try:
        for turn in range(4):
            await waiter
            loop.call_soon(other.wake_now)
            await other
            log.append((turn, waiter.reader, other.reader))
            if turn % 2:
                await asyncio.sleep(0)
    finally:
        log.append((waiter.reader, other.reader))
    return "both"


@body
async def another_task_receives_when_it_does_not(waiter: Waiter, log: list[Any]) -> None:
    """What cancels the one must not reach the other."""

    async def child() -> None:
        for _ in range(8):
            await waiter
            log.append(current().get_name())

    await waiter
    task = asyncio.create_task(child(), name="the child")
    try:
        for _ in range(3):
            await asyncio.sleep(0)
        await asyncio.wait([task])
    finally:
        await asyncio.wait([task])
        log.append(task.cancelled())


class Yields:
    """Gives *thing* to the task."""

    def __init__(self, thing: Any) -> None:
        self.thing = thing

    def __await__(self) -> Any:
        return (yield self.thing)


@body
async def yields_what_is_no_future(waiter: Waiter, log: list[Any]) -> None:
    loop = asyncio.new_event_loop()
    strange = loop.create_future()
    loop.close()
    strange._asyncio_future_blocking = True
    mine: Any = current()
    for thing in 3, "text", strange, asyncio.get_running_loop().create_future(), mine:
        await waiter
        mine._asyncio_future_blocking = thing is mine
        try:
            await Yields(thing)
        except RuntimeError as exc:
            log.append(str(exc)[:5])
    mine._asyncio_future_blocking = False
    await waiter


def cancels_itself(name: str, then: Callable[[Waiter], Any]) -> None:
    async def cancels(waiter: Waiter, log: list[Any]) -> Any:
        await waiter
        current().cancel(f"before {name}")
        log.append(current().cancelling())
        result = then(waiter)
        try:
            if result is not None:
                log.append(await result)
        except asyncio.CancelledError as exc:
            log.append((str(exc), current().cancelling()))
            if isinstance(result, asyncio.Future):
                log.append(f"cancelled with us: {result.cancelled()}")
            current().uncancel()
            await waiter
            log.append("goes on")
            raise
        return "the end"

    cancels.__name__ = f"cancels_itself_before_{name}"
    BODIES.append(cancels)


def fail(_: Waiter) -> None:
    raise ValueError("after it")


cancels_itself("a_message", lambda waiter: waiter)
cancels_itself("a_turn", lambda waiter: asyncio.sleep(0))
cancels_itself("a_future", lambda waiter: asyncio.get_running_loop().create_future())
cancels_itself("a_child", lambda waiter: asyncio.create_task(asyncio.sleep(0)))
cancels_itself("its_end", lambda waiter: None)
cancels_itself("what_is_done", lambda waiter: Yields(done()))
cancels_itself("its_failure", fail)


@body
async def cancels_itself_and_ends(waiter: Waiter, log: list[Any]) -> str:
    await waiter
    current().cancel("in vain, or not")
    return "the end"


@body
async def raises_a_cancellation(waiter: Waiter, log: list[Any]) -> None:
    await waiter
    raise asyncio.CancelledError("by hand")


@body
async def takes_it_back(waiter: Waiter, log: list[Any]) -> None:
    await waiter
    try:
        current().cancel()
        await waiter
    except asyncio.CancelledError:
        current().uncancel()
    await waiter
    await asyncio.sleep(0)
    log.append(current().cancelling())


async def tells_whether_it_is_cancelled(waiter: Waiter, log: list[Any], told: list[str]) -> None:
    try:
        while not told:
            await waiter
    except asyncio.CancelledError as exc:
        log.append(f"the child: {exc}")
        raise


def eager(coroutine: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
    """A task that runs as far as it can before this returns."""
    options: Any = {"loop": asyncio.get_running_loop(), "eager_start": True}
    return type(current())(coroutine, **options)


async def cancels_a_child_that_receives(waiter: Waiter, log: list[Any]) -> None:
    await waiter
    child = eager(tells_whether_it_is_cancelled(waiter, log, []))
    child.cancel("enough of it")
    try:
        await child
    except asyncio.CancelledError:
        log.append((child.cancelled(), current().cancelling()))
    await waiter


async def cancels_itself_beside_a_child_that_receives(waiter: Waiter, log: list[Any]) -> None:
    told: list[str] = []
    await waiter
    child = eager(tells_whether_it_is_cancelled(waiter, log, told))
    current().cancel("enough of us")
    try:
        await asyncio.sleep(0)
    except asyncio.CancelledError as exc:
        log.append((str(exc), child.done()))
        current().uncancel()
    told.append("stop")
    await child
    await waiter


if sys.version_info >= (3, 12):
    body(cancels_a_child_that_receives)
    body(cancels_itself_beside_a_child_that_receives)


# ----------------------------------------------------------------- how they fare


async def played(
    body: Any, past: bool, cancel: int | None = None, alone: bool = False
) -> list[Any]:
    """
    What *body* and its surroundings see.

    Args:
        body: Is woken again and again, until it has ended.
        past: Whether it goes on past its task.
        cancel: Before which wake-up it is cancelled.
        alone: Whether there are no surroundings, so that the task ends where it does.
    """
    loop = asyncio.get_running_loop()
    loop.set_debug(False)  # in debug mode nothing goes on past its task
    loop.set_task_factory(
        lambda loop, coroutine, **options: TASKS[past](coroutine, loop=loop, **options)
    )
    waiter = Waiter(loop)
    log: list[Any] = []

    async def surroundings() -> None:
        WHO.set("the handler")
        try:
            log.append(await body(waiter, log))
        except BaseException as exc:
            log.append((type(exc).__name__, str(exc)))
            raise
        finally:
            log.append(WHO.get())
            await asyncio.sleep(0)  # where a cancellation strikes that nobody has seen
            log.append("after it")

    async def itself() -> Any:
        WHO.set("the handler")
        return await body(waiter, log)

    task = asyncio.create_task(itself() if alone else surroundings(), name="the handler")
    told: list[Any] = []
    task.add_done_callback(told.append)
    for turn in range(60):
        woken = loop.create_future()

        def wake(woken: asyncio.Future[None] = woken, turn: int = turn) -> None:
            if turn == cancel:
                task.cancel("from outside")
            waiter.wake_now()
            woken.set_result(None)

        loop.call_soon(wake)
        await woken
        if task.done():
            break
    await asyncio.wait([task], timeout=0)
    assert task.done(), log
    if task.cancelled():
        log.append("cancelled")
        with pytest.raises(asyncio.CancelledError) as raised:
            await task
        log.append(str(raised.value))
    else:
        log.append(repr(task.exception() or task.result()))
    assert waiter.reader is None
    assert told == [task]
    assert not asyncio.all_tasks() - {current()}
    return [*log, task.cancelling()]


@pytest.mark.parametrize("alone", [False, True])
@pytest.mark.parametrize("body", BODIES, ids=lambda body: body.__name__)
async def test_it_is_as_inside_the_task(body: Any, alone: bool) -> None:
    past = await played(body, True, alone=alone)
    assert past == await played(body, False, alone=alone)


@pytest.mark.parametrize("alone", [False, True])
@pytest.mark.parametrize("cancel", range(1, 6))
@pytest.mark.parametrize("body", BODIES, ids=lambda body: body.__name__)
async def test_it_is_cancelled_as_inside_the_task(body: Any, cancel: int, alone: bool) -> None:
    past = await played(body, True, cancel, alone)
    assert past == await played(body, False, cancel, alone)


@pytest.fixture
async def waiter() -> Waiter:
    """Of a loop that is not in its debug mode, in which nothing goes on past its task."""
    loop = asyncio.get_running_loop()
    loop.set_debug(False)
    return Waiter(loop)


async def from_the_loop(function: Any) -> None:
    """Call *function* as the loop calls a transport: outside every task."""
    loop = asyncio.get_running_loop()
    done = loop.create_future()
    loop.call_soon(lambda: done.set_result(function()))
    await done


@pytest.mark.parametrize("past", [True, False])
async def test_its_task_is_left_where_it_is(waiter: Waiter, past: bool) -> None:
    """That is what saves the time: the task still waits, and need not say so again."""
    loop = asyncio.get_running_loop()

    async def handler() -> str:
        for _ in range(10):
            await waiter
        return "the end"

    task: Any = TASKS[past](handler(), loop=loop)
    await asyncio.sleep(0)
    stop = task._fut_waiter
    assert type(stop) is Stop
    callback = stop.callback
    for _ in range(9):
        await from_the_loop(waiter.wake_now)
    assert task._fut_waiter is stop
    assert (stop.callback is callback) == past
    assert task.get_stack()[0].f_code.co_name == "handler"
    await from_the_loop(waiter.wake_now)
    assert task.done() and await task == "the end"


@pytest.mark.parametrize("kind", [KeyboardInterrupt, SystemExit])
def test_what_ends_the_program_ends_the_loop(kind: type[BaseException]) -> None:
    loop = asyncio.new_event_loop()
    waiter = Waiter(loop)

    async def handler() -> None:
        await waiter
        raise kind("enough")

    task = loop.create_task(handler())
    loop.call_soon(lambda: loop.call_soon(waiter.wake_now))
    try:
        with pytest.raises(kind, match="enough"):
            loop.run_until_complete(loop.create_future())
        assert task.done()
        with pytest.raises(kind, match="enough"):
            task.result()
    finally:
        loop.close()


# --------------------------------------------------------------------- its errors


async def returns(waiter: Waiter) -> None:
    await waiter


async def raises(waiter: Waiter) -> None:
    await waiter
    raise ValueError("mine")


async def raises_in_the_task(waiter: Waiter) -> None:
    await waiter
    await asyncio.sleep(0)
    raise ValueError("mine")


async def waits_on(waiter: Waiter) -> None:
    await waiter
    await waiter


ENDS = [returns, raises, raises_in_the_task, waits_on]


@pytest.mark.parametrize("alone", [False, True])
@pytest.mark.parametrize("past", [False, True])
@pytest.mark.parametrize("end", ENDS)
async def test_nothing_is_left_for_the_garbage_collector(end: Any, past: bool, alone: bool) -> None:
    """A connection is freed when it ends, however that is; an error holds its frames."""
    loop = asyncio.get_running_loop()
    loop.set_debug(False)
    left: list[weakref.ref[Any]] = []

    class Thing:
        """What the handler holds."""

    async def handler(waiter: Waiter) -> None:
        thing = Thing()
        left.append(weakref.ref(thing))
        await end(waiter)

    async def main(waiter: Waiter) -> None:
        with contextlib.suppress(ValueError):
            await handler(waiter)

    async def life() -> None:
        waiter = Waiter(loop)
        task = TASKS[past](handler(waiter) if alone else main(waiter), loop=loop)
        left.append(weakref.ref(task))
        await asyncio.sleep(0)
        woken = loop.create_future()
        loop.call_soon(lambda: (waiter.wake_now(), woken.set_result(None)))
        await woken
        if end is waits_on:
            task.cancel()
        await asyncio.wait([task])
        if not task.cancelled():
            task.exception()  # or the loop would be told

    gc.collect()
    gc.disable()
    try:
        await life()
        await asyncio.sleep(0)  # the loop lets go of its last calls
        assert [thing() for thing in left] == [None, None]
    finally:
        gc.enable()


@pytest.mark.parametrize("end", [raises, raises_in_the_task])
async def test_its_traceback_is_the_coroutines(waiter: Waiter, end: Any) -> None:
    async def main() -> list[str]:
        with pytest.raises(ValueError) as raised:
            await end(waiter)
        return [frame.name for frame in traceback.extract_tb(raised.value.__traceback__)]

    task = asyncio.create_task(main())
    await asyncio.sleep(0)
    await from_the_loop(waiter.wake_now)
    assert await task == ["main", end.__name__]
    alone = asyncio.create_task(end(waiter))
    await asyncio.sleep(0)
    await from_the_loop(waiter.wake_now)
    await asyncio.wait([alone])
    error = alone.exception()
    assert error is not None
    frames = traceback.extract_tb(error.__traceback__)
    assert [frame.name for frame in frames] == [end.__name__]


@pytest.mark.parametrize("past", [True, False])
async def test_who_wakes_it_may_run_in_its_context(waiter: Waiter, past: bool) -> None:
    """Which nobody can enter a second time: it goes on in the next turn."""
    loop = asyncio.get_running_loop()
    context = contextvars.copy_context()
    seen = []

    async def waits() -> str:
        for number in range(3):
            await waiter
            seen.append((number, WHO.get()))
        raise RuntimeError("mine")

    async def main() -> None:
        WHO.set("it")
        await waits()

    task = TASKS[past](main(), loop=loop, context=context)
    await asyncio.sleep(0)
    for turn in range(3):
        loop.call_soon(waiter.wake_now, context=context if turn else None)
        for _ in range(4):
            await asyncio.sleep(0)
        assert seen[turn:] == [(turn, "it")]
    with pytest.raises(RuntimeError, match="mine"):
        await task


# ---------------------------------------------------------------------- who it goes for


def goes_past() -> bool:
    """Whether the current task takes itself for one that waits."""
    task: Any = current()
    return task._fut_waiter is not None


async def test_handlers_and_clients_go_past_their_tasks() -> None:
    """Over a real connection, on every loop."""
    asyncio.get_running_loop().set_debug(False)
    past: list[bool] = []

    async def handler(ws: AioServer) -> None:
        async for message in ws:
            past.append(goes_past())
            await ws.send(message.data)

    async with serve(handler, "127.0.0.1", 0) as server:
        async with AioClient.connect(f"ws://127.0.0.1:{server.port}/") as ws:
            await ws.send("the first may be there before its handler waits")
            await ws.receive()
            for _ in range(3):
                await ws.send("echo")
                assert await ws.receive() == "echo"
                assert goes_past()
    assert past[1:] == [True] * 3


# ------------------------------------------------------------------- who looks at it


@pytest.mark.parametrize("past", [True, False])
async def test_its_repr_says_what_it_waits_for(waiter: Waiter, past: bool) -> None:
    loop = asyncio.get_running_loop()
    future = loop.create_future()

    async def main() -> None:
        await waiter
        await future

    task = TASKS[past](main(), loop=loop)
    await asyncio.sleep(0)
    await from_the_loop(waiter.wake_now)
    assert f"wait_for={future!r}" in repr(task)
    future.set_result(None)
    await task


@pytest.mark.parametrize("past", [True, False])
async def test_anyio_takes_nothing_from_whom_it_cancels(waiter: Waiter, past: bool) -> None:
    """It asks what the task waits for whether it is a future, and done."""
    loop = asyncio.get_running_loop()
    thing = loop.create_future()
    got = []

    async def main() -> None:
        with anyio.CancelScope() as scope:
            scopes.append(scope)
            await waiter
            got.append(await thing)
            await waiter
            got.append("not cancelled")

    scopes: list[anyio.CancelScope] = []
    task = TASKS[past](main(), loop=loop)
    await asyncio.sleep(0)
    await from_the_loop(waiter.wake_now)
    await from_the_loop(lambda: (thing.set_result("the thing"), scopes[0].cancel()))
    await task
    assert got == ["the thing"]


@pytest.mark.parametrize("past", [True, False])
async def test_anyio_sees_that_it_is_blocked(waiter: Waiter, past: bool) -> None:
    loop = asyncio.get_running_loop()
    future = loop.create_future()

    async def main() -> None:
        await waiter
        await future

    async with asyncio.timeout(10):
        task = TASKS[past](main(), loop=loop)
        await anyio.wait_all_tasks_blocked()
        await from_the_loop(waiter.wake_now)
        await anyio.wait_all_tasks_blocked()
    task.cancel()
    await asyncio.wait([task])
    assert future.cancelled()


async def test_somebody_else_than_a_task_is_woken(waiter: Waiter) -> None:
    """Who drives a coroutine by hand need not name a context, as with a future."""
    woken: list[Any] = []
    steps = waiter.__await__()
    stop = next(steps)
    WHO.set("the driver")
    stop.add_done_callback(lambda stop: woken.append((stop, WHO.get())))
    WHO.set("somebody else")
    await from_the_loop(waiter.wake_now)
    assert woken == [(stop, "the driver")]
    with pytest.raises(StopIteration):
        next(steps)
