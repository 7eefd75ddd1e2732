"""Server.stats: what a server has seen, and what it has now."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import json
import logging
from typing import Any

import pytest

from simplews import AioClient, AioServer, HandshakeRequest, Response, Server, ServerStats, serve
from simplews.tally import from_json, outlived, to_json, total

from ..clock import ClockLoop
from ..peer import REQUEST, TEXT, frame, settled, until

NOTHING = ServerStats(
    opening=0,
    open=0,
    handlers=0,
    opened=0,
    ended={},
    refused={},
    opening_timeouts=0,
    left=0,
    http_answers=0,
    handler_errors=0,
    messages_in=0,
    messages_out=0,
    bytes_in=0,
    bytes_out=0,
    loop_blocked=0.0,
)


async def echo(ws: AioServer) -> None:
    async for message in ws:
        await ws.send(message)


@contextlib.asynccontextmanager
async def raw(server: Server) -> Any:
    """A client that speaks bytes."""
    _, writer = await asyncio.open_connection("127.0.0.1", server.port)
    try:
        yield writer
    finally:
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()


def url(server: Server, path: str = "/") -> str:
    return f"ws://127.0.0.1:{server.port}{path}"


async def test_a_server_that_has_seen_nobody() -> None:
    server = serve(echo, "127.0.0.1")
    assert server.stats == NOTHING
    async with server:
        assert server.stats == NOTHING
    assert server.stats == NOTHING


async def test_connections_messages_and_bytes_those_of_the_ended_included() -> None:
    async with serve(echo, "127.0.0.1", compression=None) as server:
        async with AioClient.connect(url(server), compression=None) as one:
            for _ in range(3):
                await one.send("hello")
                await one.receive()
            stats = server.stats
            assert (stats.open, stats.handlers, stats.opened, stats.ended) == (1, 1, 1, {})
            assert (stats.messages_in, stats.messages_out) == (3, 3)
            assert (stats.bytes_in, stats.bytes_out) == (3 * 11, 3 * 7)
            two = await AioClient.connect(url(server), compression=None)
            assert server.stats.open == 2
        await until(lambda: server.stats.open == 1)
        await two.send(b"1234")
        await two.receive()
        stats = server.stats
        assert (stats.handlers, stats.opened, stats.ended) == (1, 2, {1000: 1})
        assert (stats.messages_in, stats.messages_out) == (4, 4)
        two.abort()
        await until(lambda: not server.stats.open)
        with contextlib.suppress(Exception):
            await two.wait_closed()
        three = await AioClient.connect(url(server), compression=None)
    await three.wait_closed()
    stats = server.stats
    assert (stats.open, stats.handlers, stats.opened) == (0, 0, 3)
    assert stats.ended == {1000: 1, 1006: 1, 1001: 1}
    assert (stats.messages_in, stats.messages_out) == (4, 4)
    assert stats.bytes_in > stats.bytes_out > 3 * 7 + 6


async def test_a_connection_that_has_ended_is_not_open_though_its_handler_runs() -> None:
    go_on = asyncio.Event()

    async def handler(ws: AioServer) -> None:
        await ws.wait_closed()
        await go_on.wait()

    async with serve(handler, "127.0.0.1") as server:
        async with AioClient.connect(url(server)):
            await until(lambda: server.stats.open)
        await until(lambda: not server.stats.open)
        stats = server.stats
        assert (stats.open, stats.handlers, stats.opened, stats.ended) == (0, 1, 1, {1000: 1})
        go_on.set()
        await until(lambda: not server.stats.handlers)
        assert server.stats.ended == {1000: 1}


async def test_the_ends_by_code_and_the_handlers_that_raised(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def handler(ws: AioServer) -> None:
        message = await ws.receive()
        if message == "raise":
            raise RuntimeError("a bug")
        await ws.close(int(str(message)))

    caplog.set_level(logging.CRITICAL, "simplews")
    async with serve(handler, "127.0.0.1") as server:
        for message in ("raise", "4000", "4000", "1008"):
            async with AioClient.connect(url(server)) as ws:
                await ws.send(message)
                await ws.wait_closed()
        await until(lambda: not server.stats.handlers)
        stats = server.stats
        assert stats.ended == {1011: 1, 4000: 2, 1008: 1}
        assert (stats.handler_errors, stats.opened) == (1, 4)


async def test_clients_that_open_nothing() -> None:
    """By status; and those who left, were too slow, or wanted no WebSocket."""

    async def page(request: HandshakeRequest) -> Response:
        return Response(200, {}, "hello\n")

    async with serve({"/chat": echo}, "127.0.0.1", http=page, open_timeout=5) as server:
        for request in (
            REQUEST,  # for /
            REQUEST,
            REQUEST.replace(b"GET / ", b"GET /chat ").replace(b"13", b"12"),
            b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n",
            b"",
        ):
            async with raw(server) as writer:
                writer.write(request)
                writer.write_eof()
                await until(lambda: not server.stats.opening)
        async with raw(server):
            await until(lambda: server.stats.opening)
            assert server.stats.opening == 1
            await asyncio.sleep(5.1)
            assert server.stats.opening == 0
        await settled()
        stats = server.stats
        assert stats.refused == {404: 2, 426: 1, 408: 1}
        assert (stats.opening_timeouts, stats.http_answers) == (1, 1)
        assert (stats.left, stats.opened, stats.open) == (1, 0, 0)


async def test_a_full_server_refuses() -> None:
    async with serve(echo, "127.0.0.1", max_connections=1) as server:
        async with AioClient.connect(url(server)):
            for _ in range(3):
                with pytest.raises(Exception, match="503"):
                    await AioClient.connect(url(server))
            assert server.stats.refused == {503: 3}
            assert server.stats.opened == 1


async def test_a_loop_that_was_blocked() -> None:
    loop = asyncio.get_running_loop()
    assert isinstance(loop, ClockLoop)
    async with serve(echo, "127.0.0.1", ping_interval=10) as server:
        async with AioClient.connect(url(server)):
            await asyncio.sleep(9)
            loop.block(4)
            await settled()
            assert server.stats.loop_blocked == pytest.approx(3, abs=0.1)


async def test_a_client_that_is_cut_off_while_messages_wait() -> None:
    """Messages that nobody received were received from the peer all the same."""

    async def handler(ws: AioServer) -> None:
        await ws.wait_closed()

    async with serve(handler, "127.0.0.1") as server:
        async with raw(server) as writer:
            writer.write(REQUEST)
            for _ in range(3):
                writer.write(frame(TEXT, "x"))
            await until(lambda: server.stats.messages_in == 3)
        await until(lambda: not server.stats.handlers)
        assert server.stats.messages_in == 3
        assert server.stats.ended == {1006: 1}


# ------------------------------------------------------------------ several processes

SOME = dataclasses.replace(
    NOTHING, opening=1, open=2, handlers=3, opened=9, ended={1000: 4, 1006: 3}, messages_in=5
)


def test_figures_of_several_processes_add_up() -> None:
    other = dataclasses.replace(NOTHING, opened=1, ended={1006: 1}, loop_blocked=0.5)
    assert total([]) == NOTHING
    assert total([SOME, NOTHING]) == SOME
    assert total([SOME, other]) == dataclasses.replace(
        SOME, opened=10, ended={1000: 4, 1006: 4}, loop_blocked=0.5
    )


def test_a_process_that_has_ended_lost_what_was_open() -> None:
    assert outlived(SOME) == dataclasses.replace(
        SOME, opening=0, open=0, handlers=0, ended={1000: 4, 1006: 5}
    )
    assert outlived(NOTHING) == NOTHING


def test_figures_travel_as_json() -> None:
    stats = dataclasses.replace(SOME, refused={503: 2})
    assert from_json(json.loads(json.dumps(to_json(stats)))) == stats
