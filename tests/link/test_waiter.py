"""The waiter: a future's place, for one task, again and again."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextvars import ContextVar
from typing import Any

import pytest

from simplews.link.waiter import Waiter

WHO: ContextVar[str] = ContextVar("who", default="nobody")


@pytest.fixture
async def waiter() -> Waiter:
    return Waiter(asyncio.get_running_loop())


async def from_the_loop(function: Any) -> Any:
    """Call *function* as the loop calls a transport: outside every task."""
    loop = asyncio.get_running_loop()
    done = loop.create_future()
    loop.call_soon(lambda: done.set_result(function()))
    return await done


async def waiting(waiter: Waiter, log: list[Any]) -> asyncio.Task[None]:
    """A task that awaits *waiter* for ever and writes down what that returns."""

    async def main() -> None:
        while True:
            log.append(await waiter)

    task = asyncio.create_task(main())
    await asyncio.sleep(0)
    assert waiter.reader is task
    return task


async def finish(task: asyncio.Task[None]) -> None:
    task.cancel()
    await asyncio.wait([task])
    assert task.cancelled()


async def test_the_task_goes_on_before_wake_now_returns(waiter: Waiter) -> None:
    log: list[Any] = []
    task = await waiting(waiter, log)

    def read() -> list[Any]:
        waiter.wake_now()
        waiter.wake_now()
        return list(log)

    assert await from_the_loop(read) == [None, None]
    await finish(task)
    assert waiter.reader is None


async def test_inside_another_task_it_goes_on_in_the_next_turn(waiter: Waiter) -> None:
    log: list[Any] = []
    task = await waiting(waiter, log)
    waiter.wake_now()
    assert log == []
    await asyncio.sleep(0)
    assert log == [None]
    await finish(task)


async def test_in_debug_mode_it_goes_on_in_the_next_turn() -> None:
    """A slow handler is reported as itself there, and not as the transport that read for it."""
    asyncio.get_running_loop().set_debug(True)
    waiter = Waiter(asyncio.get_running_loop())
    log: list[Any] = []
    task = await waiting(waiter, log)

    def read() -> list[Any]:
        waiter.wake_now()
        return list(log)

    assert await from_the_loop(read) == []
    assert log == [None]
    await finish(task)


async def test_the_task_runs_in_its_own_context(waiter: Waiter) -> None:
    log: list[Any] = []

    async def main() -> None:
        WHO.set("the handler")
        await waiter
        log.append((WHO.get(), asyncio.current_task()))

    task = asyncio.create_task(main())
    await asyncio.sleep(0)

    def read() -> tuple[str, Any]:
        waiter.wake_now()
        return WHO.get(), asyncio.current_task()

    assert await from_the_loop(read) == ("nobody", None)
    assert log == [("the handler", task)]
    await task


async def test_what_a_handler_raises_is_its_own(waiter: Waiter) -> None:
    async def main() -> None:
        await waiter
        raise ValueError("mine")

    task = asyncio.create_task(main())
    await asyncio.sleep(0)
    await from_the_loop(waiter.wake_now)
    with pytest.raises(ValueError, match="mine"):
        await task


async def test_a_cancelled_wait_can_begin_again(waiter: Waiter) -> None:
    log: list[Any] = []
    await finish(await waiting(waiter, log))
    task = await waiting(waiter, log)
    await from_the_loop(waiter.wake_now)
    assert log == [None]
    await finish(task)


@pytest.mark.parametrize("first", ["woken", "cancelled"])
async def test_woken_and_cancelled_at_once(waiter: Waiter, first: str) -> None:
    """A cancellation is never lost, whoever comes first."""
    log: list[Any] = []
    task = await waiting(waiter, log)
    if first == "woken":
        waiter.wake()
        task.cancel("enough")
    else:
        task.cancel("enough")
        waiter.wake()
    with pytest.raises(asyncio.CancelledError, match="enough"):
        await task
    assert log == [] and waiter.reader is None


async def test_expiry_is_told_from_being_woken(waiter: Waiter) -> None:
    log: list[Any] = []
    task = await waiting(waiter, log)
    waiter.expire()
    await asyncio.sleep(0)
    waiter.wake()
    await asyncio.sleep(0)
    waiter.expire()
    waiter.wake()  # something came in the same turn
    await asyncio.sleep(0)
    assert log == [True, None, None]
    await finish(task)


async def test_nobody_waits(waiter: Waiter) -> None:
    """Then nothing happens, and nothing is kept for the next one."""
    waiter.wake()
    waiter.wake_now()
    waiter.expire()
    log: list[Any] = []
    task = await waiting(waiter, log)
    await asyncio.sleep(0)
    assert log == []
    await finish(task)


async def test_a_timeout_around_it(waiter: Waiter) -> None:
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0):
            await waiter
    assert waiter.reader is None


def test_a_wait_that_is_thrown_away(waiter_of_a_closed_loop: Waiter) -> None:
    async def main() -> None:
        await waiter_of_a_closed_loop

    coroutine = main()
    coroutine.close()


@pytest.fixture
def waiter_of_a_closed_loop() -> Iterator[Waiter]:
    loop = asyncio.new_event_loop()
    waiter = Waiter(loop)
    loop.close()
    yield waiter
