"""Both ends of a connection, without a port."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

import pytest

from simplews import AioClient, AioServer, ConnectionClosed, Response, Rooms, State
from simplews import ConnectionError as OpenError
from simplews.testing import ClockLoop, Faults, Way, pair
from simplews.testing.clock import _Selector as JumpingSelector


async def echo(ws: AioServer) -> None:
    async for message in ws:
        await ws.send(message)


async def test_both_ends_are_open_and_joined() -> None:
    async with pair() as (client, server):
        assert isinstance(client, AioClient)
        assert isinstance(server, AioServer)
        assert (client.connected, server.connected) == (True, True)
        await client.send("there")
        await server.send(b"back")
        assert await server.receive() == "there"
        assert await client.receive() == b"back"
        assert await client.ping() >= 0
        assert await server.ping() >= 0
    assert (client.connection_state, server.connection_state) == (State.CLOSED, State.CLOSED)
    assert (client.close_code, server.close_code) == (1000, 1000)


async def test_the_handshake_is_a_real_one() -> None:
    async with pair(
        target="/chat?room=1",
        headers={"Authorization": "Bearer token"},
        subprotocols=["v2", "v1"],
        server={"subprotocols": ["v1"], "extra_headers": {"X-Server": "ours"}},
    ) as (client, server):
        assert server.request.target == "/chat?room=1"
        assert server.request.headers["authorization"] == "Bearer token"
        assert client.headers["x-server"] == "ours"
        assert client.subprotocol == server.subprotocol == "v1"
        await client.send("to and fro " * 1000)  # compressed, by default
        assert client.stats.bytes_out < 1000


async def test_options_are_for_both_ends_or_for_one() -> None:
    async with pair(
        max_message_size=10, client={"max_message_size": None}, server={"ping_interval": 5}
    ) as (client, server):
        assert (client.max_message_size, server.max_message_size) == (None, 10)
        assert (client.ping_interval, server.ping_interval) == (None, 5)
        await client.send("x" * 11)
        with pytest.raises(ConnectionClosed) as caught:
            await client.receive()
        assert caught.value.code == 1009


async def test_an_option_that_is_none_is_refused() -> None:
    with pytest.raises(TypeError, match="no option 'ping_intervall'"):
        async with pair(ping_intervall=1):  # type: ignore[call-arg]
            pass


async def test_a_handler_runs_as_serve_runs_it() -> None:
    async with pair(echo) as (client, server):
        await client.send("hello")
        assert await client.receive() == "hello"
        assert (server.ping_interval, server.max_message_size) == (20, 16 * 1024 * 1024)


async def test_a_handler_that_ends_closes() -> None:
    async def greet(ws: AioServer) -> None:
        await ws.send("welcome")

    async with pair(greet) as (client, _):
        assert [item async for item in client] == ["welcome"]
        assert client.close_code == 1000


async def test_handlers_by_path_and_what_else_serve_takes() -> None:
    async def page(_: Any) -> Response:
        return Response(200)

    routes = {"/echo": echo}
    async with pair(routes, "/echo", server={"http": page}) as (client, server):
        assert server.request.path == "/echo"
        await client.send("x")
        assert await client.receive() == "x"
    with pytest.raises(OpenError) as caught:
        async with pair(routes, "/other"):
            pytest.fail("it is not open")
    assert caught.value.status_code == 404


async def test_a_refusal_is_the_client_s_error() -> None:
    class Choosy(AioServer):
        def choose_subprotocol(self, request: Any) -> str | None:
            return "unknown"

    with pytest.raises(OpenError) as caught:
        async with pair(headers={"Origin": "http://evil"}, server={"origins": ["http://good"]}):
            pass
    assert caught.value.status_code == 403
    with pytest.raises(ValueError, match="'unknown' was not offered"):
        async with pair(server={"connection": Choosy}):
            pass


async def test_what_a_handler_raises_is_1011_and_raised_at_the_end(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def fail(ws: AioServer) -> None:
        raise LookupError("in the handler")

    with pytest.raises(LookupError, match="in the handler"):
        async with pair(fail) as (client, _):
            with pytest.raises(ConnectionClosed) as caught:
                await client.receive()
            assert caught.value.code == 1011
    # Also instead of the end that the test did not expect.
    with pytest.raises(LookupError, match="in the handler"):
        async with pair(fail) as (client, _):
            await client.receive()
    # What the test finds wrong comes first.
    with pytest.raises(AssertionError) as failed:
        async with pair(fail) as (client, _):
            await client.wait_closed()
            raise AssertionError("the test's")
    assert "LookupError('in the handler')" in failed.value.__notes__[0]
    records = [r for r in caplog.records if r.levelno == logging.ERROR]
    assert len(records) == 3  # as a server logs it


async def test_the_end_of_its_own_connection_is_no_failure_of_a_handler() -> None:
    async def wait(ws: AioServer) -> None:
        await ws.receive()

    async with pair(wait) as (client, _):
        await client.send("x")
    async with pair(wait):
        pass


async def test_a_block_that_raises_drops_both_ends() -> None:
    with pytest.raises(LookupError):
        async with pair() as (client, server):
            raise LookupError
    assert (client.close_code, server.close_code) == (1006, 1006)


async def test_two_pairs_meet_in_a_room() -> None:
    rooms = Rooms()

    async def chat(ws: AioServer) -> None:
        async with rooms.join(ws.request.path, ws):
            await ws.send("joined")
            async for message in ws:
                await rooms.broadcast(ws.request.path, message, exclude=ws)

    async with pair(chat, "/lobby") as (ann, _), pair(chat, "/lobby") as (bob, _):
        assert [await ann.receive(), await bob.receive()] == ["joined", "joined"]
        await ann.send("hello")
        assert await bob.receive() == "hello"


# ------------------------------------------------------------------ deadlines


async def test_a_block_has_a_deadline_that_says_what_it_waited_for() -> None:
    with pytest.raises(TimeoutError) as caught:
        async with pair(timeout=5) as (client, server):
            await server.send("not read")
            await client.send("read")
            await server.receive()
            await server.receive()
    message = str(caught.value)
    assert message.startswith("the block of pair() took longer than 5 s\n")
    assert "test_pair.py:" in message
    assert ": await server.receive()\n" in message
    assert "client: the connection is open, 1 messages to receive\n" in message
    assert "server: the connection is open\n" in message


async def test_a_send_that_nobody_reads_meets_the_deadline() -> None:
    with pytest.raises(TimeoutError, match=r"await client\.send\(") as caught:
        async with pair(timeout=5) as (client, _):
            while True:
                await client.send(b"x" * 100_000)
    assert isinstance(caught.value.__cause__, asyncio.CancelledError)


async def test_an_opening_handshake_has_a_deadline() -> None:
    with pytest.raises(TimeoutError, match=r"opening handshake of pair\(\) took longer than 3 s"):
        async with pair(faults=Faults(to_client=Way(drop_after=50)), timeout=3):
            pytest.fail("it is not open")


def test_deadlines_are_ten_seconds_without_the_clock() -> None:
    """An hour on it: what tests let pass there on purpose is no sign of a hang."""

    async def seconds(timeout: float | None = None) -> float:
        loop = asyncio.get_running_loop()
        began = loop.time()
        with pytest.raises(TimeoutError):
            async with pair() as (client, _):
                await client.receive()
        return loop.time() - began

    with asyncio.Runner(loop_factory=ClockLoop) as runner:
        assert runner.run(seconds()) == 3600

    class Other(asyncio.SelectorEventLoop):
        """A loop that is no `ClockLoop`, with its clock."""

        def __init__(self) -> None:
            self._jumping = JumpingSelector()
            super().__init__(self._jumping)

        def time(self) -> float:
            return self._jumping.now

    with asyncio.Runner(loop_factory=Other) as runner:
        assert runner.run(seconds()) == 10


async def test_no_deadline_for_who_wants_none() -> None:
    async with pair(timeout=None) as (client, _):
        await asyncio.sleep(1_000_000)
        assert client.connected


@pytest.mark.whole
async def test_cancelling_the_test_leaves_nothing() -> None:
    """`nothing_left` and the warnings of sockets would tell."""
    ready = asyncio.Event()

    async def test() -> None:
        async with pair(echo) as (client, _):
            ready.set()
            await client.receive()

    for steps in range(30):
        task = asyncio.ensure_future(test())
        for _ in range(steps):
            await asyncio.sleep(0)
        task.cancel()
        await asyncio.wait([task])
        assert task.cancelled()
    assert ready.is_set()
