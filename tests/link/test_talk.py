"""What `send()` and `receive()` return is a coroutine to whoever looks, compiled or not."""

from __future__ import annotations

import asyncio
import copy
import gc
import inspect
import pickle
import warnings
import weakref
from collections.abc import AsyncIterator, Callable, Coroutine
from pathlib import Path
from typing import Any
from unittest.mock import create_autospec

import anyio
import pytest

import simplews
from simplews import AioClient, AioServer, ConnectionClosed, serve


@pytest.fixture
async def pair() -> AsyncIterator[tuple[AioServer, AioClient]]:
    arrived: asyncio.Future[AioServer] = asyncio.get_running_loop().create_future()

    async def handler(ws: AioServer) -> None:
        arrived.set_result(ws)
        await ws.wait_closed()

    async with serve(handler, "127.0.0.1", 0) as server:
        async with await AioClient.connect(f"ws://127.0.0.1:{server.port}") as client:
            yield await arrived, client


Pair = tuple[AioServer, AioClient]
CALLS: list[Callable[[AioClient], Coroutine[Any, Any, Any]]] = [
    lambda ws: ws.receive(),
    lambda ws: ws.send("text"),
]
each_call = pytest.mark.parametrize("call", CALLS, ids=["receive", "send"])


@each_call
async def test_it_is_a_coroutine(pair: Pair, call: Any) -> None:
    coroutine = call(pair[1])
    assert inspect.iscoroutine(coroutine) and asyncio.iscoroutine(coroutine)
    assert inspect.isawaitable(coroutine) and isinstance(coroutine, Coroutine)
    assert f"coroutine object {coroutine.__qualname__} at 0x" in repr(coroutine)
    assert coroutine.__qualname__ == f"AioBase.{coroutine.__name__}"
    coroutine.close()
    coroutine.close()
    with pytest.raises(RuntimeError, match="cannot reuse already awaited coroutine"):
        await coroutine


async def test_the_methods_are_described_as_they_are_written() -> None:
    for method in (AioServer.send, AioClient.receive):
        assert inspect.iscoroutinefunction(inspect.unwrap(method))
        assert method.__doc__ and "Raises:" in method.__doc__
        assert method.__qualname__ == f"AioBase.{method.__name__}"
    assert list(inspect.signature(AioServer.receive).parameters) == ["self", "timeout"]
    assert list(inspect.signature(AioServer.send).parameters) == ["self", "data", "compress"]


async def test_it_is_nobody_elses_method() -> None:
    for method, arguments in ((AioServer.send, ("text",)), (AioServer.receive, ())):
        with pytest.raises((TypeError, AttributeError)):
            await method(object(), *arguments)


@each_call
async def test_one_that_is_never_awaited_is_told(pair: Pair, call: Any) -> None:
    with pytest.warns(RuntimeWarning, match=r"coroutine 'AioBase\.\w+' was never awaited"):
        call(pair[1])
        gc.collect()
    assert pair[1].stats.messages_out == 0


async def test_it_is_not_awaited_twice(pair: Pair) -> None:
    server, client = pair
    await server.send("one")
    coroutine = client.receive()
    assert await coroutine == "one"
    with pytest.raises(RuntimeError, match="cannot reuse already awaited coroutine"):
        await coroutine
    coroutine = client.receive()
    task = asyncio.ensure_future(coroutine)
    await asyncio.sleep(0)
    with pytest.raises(RuntimeError, match="being awaited already"):
        await coroutine
    await server.send("two")
    assert await task == "two"


async def test_nothing_happens_before_it_is_awaited(pair: Pair) -> None:
    server, client = pair
    first, second = client.send("first"), client.send("second")
    await second
    await first
    assert [await server.receive(), await server.receive()] == ["second", "first"]


async def test_tasks_of_its_own(pair: Pair) -> None:
    server, client = pair
    task = asyncio.create_task(client.receive())
    await asyncio.sleep(0)
    assert "receive" in repr(task)
    if hasattr(task.get_coro(), "cr_suspended"):  # since Python 3.11
        assert inspect.getcoroutinestate(task.get_coro()) == "CORO_SUSPENDED"  # type: ignore[arg-type]
    async with anyio.create_task_group() as group:  # it asks what it is given
        group.start_soon(server.send, "one")
    assert await task == "one"
    await asyncio.gather(server.send("two"), asyncio.wait_for(server.send("three"), 60))
    assert [await client.receive(), await asyncio.wait_for(client.receive(), 60)] == [
        "two",
        "three",
    ]


async def test_a_cancelled_wait_loses_nothing(pair: Pair) -> None:
    server, client = pair
    for timeout in (None, 60):
        task = asyncio.create_task(client.receive(timeout))
        await asyncio.sleep(0)
        await server.send("kept")
        task.cancel("enough")
        with pytest.raises(asyncio.CancelledError, match="enough"):
            await task
        assert await client.receive() == "kept"


async def test_what_is_thrown_into_it_comes_out(pair: Pair) -> None:
    client = pair[1]
    coroutine = client.receive()
    with pytest.raises(ValueError, match="mine"):
        coroutine.throw(ValueError("mine"))
    coroutine = client.receive(60)
    coroutine.send(None)
    with pytest.raises(ValueError, match="mine"):
        coroutine.throw(ValueError("mine"))
    assert await client.receive(0) is None


async def test_a_wait_that_is_closed_leaves_room_for_another(pair: Pair) -> None:
    server, client = pair
    coroutine = client.receive()
    coroutine.send(None)
    coroutine.close()
    await server.send("for the next")
    assert await client.receive() == "for the next"


@each_call
async def test_it_is_neither_copied_nor_made_by_hand(pair: Pair, call: Any) -> None:
    coroutine = call(pair[1])
    for copied in (copy.copy, pickle.dumps):
        with pytest.raises(TypeError):
            copied(coroutine)
    with pytest.raises((TypeError, RuntimeError)):
        await type(coroutine)()
    coroutine.close()


@each_call
async def test_the_collector_may_run_while_one_is_told_of(
    pair: Pair, call: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = []

    def show(message: Warning | str, *args: Any) -> None:
        gc.collect()
        told.append(str(message))

    monkeypatch.setattr(warnings, "showwarning", show)
    warnings.simplefilter("always")
    for _ in range(10):
        call(pair[1])
    made = [call(pair[1]) for _ in range(50)]
    for coroutine in made:
        coroutine.close()
    assert len({id(coroutine) for coroutine in made}) == 50
    assert len(told) == 10


async def test_a_wait_that_is_dropped_leaves_room_for_another(pair: Pair) -> None:
    server, client = pair
    for timeout in (None, 60):
        coroutine = client.receive(timeout)
        coroutine.send(None)
        del coroutine
        await server.send("for the next")
        assert await client.receive() == "for the next"


@each_call
async def test_nothing_is_thrown_into_one_that_is_over(pair: Pair, call: Any) -> None:
    coroutine = call(pair[1])
    coroutine.close()
    with pytest.raises(RuntimeError, match="cannot reuse already awaited coroutine"):
        coroutine.throw(ValueError("mine"))


async def test_one_that_runs_is_not_entered_again(pair: Pair) -> None:
    server, client = pair
    refused = []

    def parts() -> Any:
        for act in (
            lambda: sending.send(None),
            lambda: sending.throw(ValueError("mine")),
            lambda: sending.close(),
        ):
            try:
                act()
            except (RuntimeError, ValueError) as exc:
                refused.append(repr(exc))
            yield "part"

    sending = client.send(parts())
    await sending
    assert await server.receive() == "partpartpart"
    assert not any("mine" in text for text in refused)
    assert len(refused) >= 2


async def test_a_mock_of_a_connection_is_awaited_alike() -> None:
    mocked = create_autospec(AioServer, instance=True)
    mocked.receive.return_value = "mocked"
    assert await mocked.receive() == "mocked"
    await mocked.send("text")
    mocked.send.assert_awaited_once_with("text")
    assert asyncio.iscoroutinefunction(AioServer.receive)


async def test_async_for_goes_through_what_took_the_place_of_receive(
    pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Those who measure replace methods, of a class or of one connection."""
    server, client = pair
    for where in (simplews.connection.AioBase, AioClient, client):
        real = where.receive

        async def counted(*args: Any, real: Any = real) -> Any:
            return f"{await real(*args)}, counted"

        with monkeypatch.context() as patched:
            patched.setattr(where, "receive", counted)
            await server.send("text")
            assert (await anext(aiter(client))).data == "text, counted"


async def test_the_traceback_of_the_end_leads_from_the_call_into_the_library(pair: Pair) -> None:
    server, client = pair
    await server.close()
    for call in CALLS:
        with pytest.raises(ConnectionClosed) as caught:
            await call(client)
        places = [Path(entry.frame.code.raw.co_filename) for entry in caught.traceback]
        assert places[0] == Path(__file__)
        assert places[-1].parent.name in ("simplews", "link")


async def test_async_for_respects_a_receive_of_ones_own() -> None:
    class Shouting(AioClient):
        async def receive(self, timeout: Any = None) -> str | bytes | None:
            message = await super().receive(timeout)
            return message.upper() if isinstance(message, str) else message

    async def handler(ws: AioServer) -> None:
        await ws.send("quiet")
        await ws.send(b"bytes")

    async with serve(handler, "127.0.0.1", 0) as server:
        async with await Shouting.connect(f"ws://127.0.0.1:{server.port}") as client:
            assert [(m.type.name, m.data) async for m in client] == [
                ("TEXT", "QUIET"),
                ("BINARY", b"bytes"),
            ]


async def test_a_task_that_waits_holds_its_connection_no_longer_than_it_lives(pair: Pair) -> None:
    """What waits, the waiter and the connection make a ring, which the collector must see."""
    server, client = pair
    task = asyncio.create_task(client.receive())
    await asyncio.sleep(0)
    await server.close()
    with pytest.raises(ConnectionClosed):
        await task
    await client.wait_closed()
    gone = weakref.ref(task)
    del task
    await asyncio.sleep(0)
    gc.collect()
    assert gone() is None


def test_both_ways_are_known() -> None:
    """Where it is compiled, the methods are; where not, they are functions of Python."""
    compiled = "simplews.link.talk" in simplews.__speedups__
    assert inspect.isfunction(AioServer.receive) is not compiled
