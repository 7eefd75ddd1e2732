"""The same over TLS, where neither side of TCP can end alone and a reset is near."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from simplews import AioServer, ConnectionClosed, serve

from ..peer import (
    BINARY,
    CLOSE,
    DEADLINE,
    REQUEST,
    TEXT,
    Peer,
    close_frame,
    frame,
    settled,
    until,
)
from ..tls import Tls


def now() -> float:
    return asyncio.get_running_loop().time()


class TlsPeer(Peer):
    """A raw peer over TLS; it reads only when it is told to."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer
        self.masks = True
        self.received = bytearray()

    async def write(self, data: bytes) -> None:
        self.writer.write(data)
        await self.writer.drain()

    async def sock_read(self) -> bytes:
        return await self.reader.read(1 << 18)


@pytest.fixture
def secure(tls: Tls) -> Callable[..., Any]:
    """``async with secure(**options) as (ws, peer)``: over serve() with TLS."""

    @contextlib.asynccontextmanager
    async def open_(**options: Any) -> AsyncIterator[tuple[AioServer, TlsPeer]]:
        kept: asyncio.Future[AioServer] = asyncio.get_running_loop().create_future()
        done = asyncio.Event()

        async def handler(ws: AioServer) -> None:
            kept.set_result(ws)
            await done.wait()

        options = {"compression": None, "ping_interval": None} | options
        async with (
            asyncio.timeout(DEADLINE),
            serve(handler, "127.0.0.1", ssl=tls.server, **options) as server,
        ):
            reader, writer = await asyncio.open_connection("127.0.0.1", server.port, ssl=tls.client)
            peer = TlsPeer(reader, writer)
            await peer.write(REQUEST)
            await peer.head()
            ws = await kept
            try:
                yield ws, peer
            finally:
                writer.transport.abort()
                with contextlib.suppress(OSError):
                    await writer.wait_closed()
                ws.abort()
                done.set()

    return open_


@pytest.mark.parametrize("megabytes", [0, 6])
async def test_a_peer_that_breaks_a_rule_sees_why(secure: Any, megabytes: int) -> None:
    """Though it is still sending a lot when our Close comes."""
    async with secure(max_message_size=1000) as (ws, peer):
        began = now()
        await peer.write(frame(3))
        for _ in range(megabytes * 100):
            await peer.write(frame(BINARY, bytes(10_000)))
        found = await peer.frame()
        assert found is not None
        assert (found[0], found[1][:2]) == (CLOSE, b"\x03\xea")
        await ws.wait_closed()
        assert now() - began <= 1
        with pytest.raises(ConnectionClosed) as caught:
            await ws.receive()
        assert caught.value.code == 1002


@pytest.mark.parametrize("count", [0, 3, 256, 2000])
@pytest.mark.parametrize("how", ["close", "close and end", "end"])
async def test_what_came_before_the_end_is_delivered(secure: Any, count: int, how: str) -> None:
    async with secure(max_queue=256) as (ws, peer):
        data = b"".join(frame(TEXT, str(number)) for number in range(count))
        await peer.write(data + (close_frame(3001) if how != "end" else b""))
        if "end" in how:
            peer.writer.close()
        await asyncio.sleep(1)
        got = []
        with pytest.raises(ConnectionClosed) as caught:
            while True:
                got.append(await ws.receive())
        assert got == [str(number) for number in range(count)]
        assert caught.value.code == (1006 if how == "end" else 3001)


@pytest.mark.parametrize("timeout", [0, 5])
@pytest.mark.parametrize("busy", [False, True])
async def test_close_to_a_peer_that_does_nothing(secure: Any, timeout: float, busy: bool) -> None:
    async with secure(close_timeout=timeout) as (ws, peer):
        peer.writer.transport.pause_reading()
        sending = asyncio.ensure_future(ws.send(bytes(50_000_000)) if busy else settled())
        await settled()
        began = now()
        await ws.close()
        assert now() - began <= timeout + 0.2
        (result,) = await asyncio.gather(sending, return_exceptions=True)
        assert isinstance(result, ConnectionClosed) == busy


async def test_a_peer_that_does_not_read_and_then_says_goodbye(secure: Any) -> None:
    async with secure(close_timeout=5) as (ws, peer):
        sending = asyncio.ensure_future(ws.send(bytes(50_000_000)))
        await until(lambda: ws._link._outbox.paused)
        began = now()
        await peer.send_close(1000)
        with pytest.raises(ConnectionClosed):
            await sending
        await ws.wait_closed()
        assert now() - began <= 5.2


async def test_a_reset_in_the_middle_of_everything(secure: Any) -> None:
    async with secure() as (ws, peer):
        sending = asyncio.ensure_future(ws.send(bytes(50_000_000)))
        reading = asyncio.ensure_future(ws.receive())
        pinging = asyncio.ensure_future(ws.ping())
        await settled()
        peer.writer.transport.abort()
        for result in await asyncio.gather(sending, reading, pinging, return_exceptions=True):
            assert isinstance(result, ConnectionClosed)
            assert result.code == 1006
        await ws.wait_closed()


async def test_an_app_that_does_not_receive_stops_the_peer(secure: Any) -> None:
    async with secure() as (ws, peer):
        sent = 0
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(1):
                while True:
                    await peer.send(BINARY, bytes(10_000))
                    sent += 1
        assert ws.stats.bytes_in < 2_500_000
        peer.writer.transport.set_write_buffer_limits(1 << 30)
        for _ in range(sent):
            assert await ws.receive() == bytes(10_000)
