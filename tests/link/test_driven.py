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

import pytest

from simplews.link.waiter import Driven, Waiter

WHO: ContextVar[str] = ContextVar("who", default="nobody")
BODIES: list[Callable[[Waiter, list[Any]], Coroutine[Any, Any, Any]]] = []


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
cancels_itself("its_failure", fail)


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
    return asyncio.Task(coroutine, **options)


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


async def played(body: Any, driven: bool, cancel: int | None = None) -> list[Any]:
    """
    What *body* and its surroundings see.

    Args:
        body: Is woken again and again, until it has ended.
        driven: Whether it goes on past its task.
        cancel: Before which wake-up it is cancelled.
    """
    loop = asyncio.get_running_loop()
    loop.set_debug(False)  # in debug mode nothing goes on past its task
    waiter = Waiter(loop)
    log: list[Any] = []

    async def surroundings() -> None:
        WHO.set("the handler")
        coroutine = body(waiter, log)
        try:
            log.append(await (Driven(waiter, coroutine) if driven else coroutine))
        except BaseException as exc:
            log.append((type(exc).__name__, str(exc)))
            raise
        finally:
            log.append(WHO.get())
            await asyncio.sleep(0)  # where a cancellation strikes that nobody has seen
            log.append("after it")

    task = asyncio.create_task(surroundings(), name="the handler")
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
    else:
        log.append(repr(task.exception()))
    assert waiter.reader is None
    return [*log, task.cancelling()]


@pytest.mark.parametrize("body", BODIES, ids=lambda body: body.__name__)
async def test_it_is_as_inside_the_task(body: Any) -> None:
    assert await played(body, True) == await played(body, False)


@pytest.mark.parametrize("cancel", range(1, 6))
@pytest.mark.parametrize("body", BODIES, ids=lambda body: body.__name__)
async def test_it_is_cancelled_as_inside_the_task(body: Any, cancel: int) -> None:
    assert await played(body, True, cancel) == await played(body, False, cancel)


async def test_its_task_is_left_where_it_is() -> None:
    """That is what saves the time: the task still waits for the waiter, and is not asked."""
    loop = asyncio.get_running_loop()
    loop.set_debug(False)
    waiter = Waiter(loop)
    stops: list[Any] = []

    class Watched(Coroutine[Any, Any, Any]):
        """Writes down what its task is given."""

        def __init__(self, inner: Any) -> None:
            self.inner = inner.__await__()

        def __await__(self) -> Any:
            return self

        def send(self, value: Any) -> Any:
            stops.append(next(self.inner))
            return stops[-1]

        def throw(self, *args: Any) -> Any:
            return self.inner.throw(*args)

        def close(self) -> None:
            self.inner.close()

    async def handler() -> None:
        for _ in range(10):
            await waiter
        await asyncio.sleep(0)

    task = asyncio.create_task(Watched(Driven(waiter, handler())))
    await asyncio.sleep(0)
    assert stops == [waiter]
    for _ in range(10):
        woken = loop.create_future()
        loop.call_soon(lambda woken=woken: (waiter.wake_now(), woken.set_result(None)))
        await woken
    await task
    assert stops == [waiter, None]


async def test_tools_see_the_coroutine() -> None:
    waiter = Waiter(asyncio.get_running_loop())

    async def handler() -> None:
        await waiter

    coroutine = handler()

    async def main() -> None:
        await Driven(waiter, coroutine)

    task = asyncio.create_task(main())
    await asyncio.sleep(0)
    outer: Any = task.get_coro()
    assert outer.cr_await.cr_frame is coroutine.cr_frame
    assert outer.cr_await.cr_await is waiter
    task.cancel()
    await asyncio.wait([task])


async def test_one_that_is_thrown_away() -> None:
    """Its coroutine is closed, as that of an ordinary await is."""
    waiter = Waiter(asyncio.get_running_loop())
    closed: list[str] = []

    async def handler() -> None:
        try:
            await waiter
        finally:
            closed.append("closed")

    async def main() -> None:
        await Driven(waiter, handler())

    coroutine = main()
    assert coroutine.send(None) is waiter
    coroutine.close()
    assert closed == ["closed"]
    assert waiter.reader is None


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


@pytest.mark.parametrize("driven", [False, True])
@pytest.mark.parametrize("end", ENDS)
async def test_nothing_is_left_for_the_garbage_collector(end: Any, driven: bool) -> None:
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
        coroutine = handler(waiter)
        with contextlib.suppress(ValueError):
            await (Driven(waiter, coroutine) if driven else coroutine)

    async def life() -> None:
        waiter = Waiter(loop)
        task = asyncio.create_task(main(waiter))
        left.append(weakref.ref(task))
        await asyncio.sleep(0)
        woken = loop.create_future()
        loop.call_soon(lambda: (waiter.wake_now(), woken.set_result(None)))
        await woken
        if end is waits_on:
            task.cancel()
        await asyncio.wait([task])

    gc.collect()
    gc.disable()
    try:
        await life()
        await asyncio.sleep(0)  # the loop lets go of its last calls
        assert [thing() for thing in left] == [None, None]
    finally:
        gc.enable()


@pytest.mark.parametrize("end", [raises, raises_in_the_task])
async def test_its_traceback_is_the_coroutines(end: Any) -> None:
    loop = asyncio.get_running_loop()
    loop.set_debug(False)
    waiter = Waiter(loop)

    async def main(coroutine: Any) -> list[str]:
        with pytest.raises(ValueError) as raised:
            await coroutine
        frames = traceback.extract_tb(raised.value.__traceback__)
        return [frame.name for frame in frames if not frame.filename.endswith("waiter.py")]

    async def names(coroutine: Any) -> list[str]:
        task = asyncio.create_task(main(coroutine))
        await asyncio.sleep(0)
        loop.call_soon(waiter.wake_now)
        return await task

    assert await names(Driven(waiter, end(waiter))) == ["main", end.__name__]


@pytest.mark.parametrize("driven", [True, False])
async def test_who_wakes_it_may_run_in_its_context(driven: bool) -> None:
    """Which nobody can enter a second time: it goes on in the next turn."""
    loop = asyncio.get_running_loop()
    loop.set_debug(False)
    waiter = Waiter(loop)
    context = contextvars.copy_context()
    seen = []

    async def waits() -> str:
        for number in range(3):
            await waiter
            seen.append((number, WHO.get()))
        raise RuntimeError("mine")

    async def main() -> None:
        WHO.set("it")
        coroutine = waits()
        await (Driven(waiter, coroutine) if driven else coroutine)

    task = asyncio.create_task(main(), context=context)
    await asyncio.sleep(0)
    for turn in range(3):
        loop.call_soon(waiter.wake_now, context=context if turn else None)
        for _ in range(4):
            await asyncio.sleep(0)
        assert seen[turn:] == [(turn, "it")]
    with pytest.raises(RuntimeError, match="mine"):
        await task
