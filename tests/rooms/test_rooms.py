"""Rooms: no member can delay, harm or fill the memory of another."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import tracemalloc
import zlib
from collections.abc import AsyncIterator
from typing import Any

import pytest

from simplews import (
    AioClient,
    AioServer,
    BroadcastResult,
    ConnectionClosed,
    Rooms,
    WebSocketRuntimeError,
)

from ..peer import BINARY, CLOSE, ROLES, TEXT, Peer, opened, settled

KB = b"x" * 1024


@contextlib.asynccontextmanager
async def members(
    rooms: Rooms, count: int, room: str = "room", **options: Any
) -> AsyncIterator[list[tuple[AioServer, Peer]]]:
    """So many members of a room, with their peers."""
    async with contextlib.AsyncExitStack() as stack:
        pairs = [await stack.enter_async_context(opened(**options)) for _ in range(count)]
        for ws, _ in pairs:
            await rooms.join(room, ws)
        yield pairs


async def stall(rooms: Rooms, peer_of: AioServer, room: str = "room") -> int:
    """Broadcast until this member, whose peer does not read, is behind; how many it took."""
    for count in range(10_000):
        if peer_of._link._outbox.paused:  # type: ignore[attr-defined]
            return count
        await rooms.broadcast(room, KB)
    raise AssertionError("it never falls behind")


async def drain(peer: Peer) -> list[tuple[int, bytes]]:
    """Everything a peer gets until it is silent."""
    found = []
    with contextlib.suppress(TimeoutError):
        while True:
            async with asyncio.timeout(1):
                frame = await peer.frame()
            if frame is None:
                break
            found.append(frame)
    return found


async def test_everybody_gets_it_but_the_excluded() -> None:
    rooms = Rooms()
    async with members(rooms, 4) as pairs:
        (a, _), (b, _), *_ = pairs
        assert await rooms.broadcast("room", "1") == BroadcastResult(4, 0, 0)
        assert await rooms.broadcast("room", "2", exclude=a) == BroadcastResult(3, 0, 0)
        assert await rooms.broadcast("room", b"3", exclude=[a, b]) == BroadcastResult(2, 0, 0)
        assert await rooms.broadcast("nowhere", "4") == BroadcastResult(0, 0, 0)
        got = [[data for _, data in await drain(peer)] for _, peer in pairs]
        assert got == [[b"1"], [b"1", b"2"], [b"1", b"2", b"3"], [b"1", b"2", b"3"]]
        with pytest.raises(TypeError):
            await rooms.broadcast("room", 5)  # type: ignore[arg-type]


async def test_a_stalled_member_is_closed_with_1013_and_others_get_everything() -> None:
    rooms = Rooms(max_queue=10)
    async with members(rooms, 3) as pairs:
        (_, quick), (stalled, _), (_, other) = pairs
        sent = 0
        result = BroadcastResult(3, 0, 0)
        reading = [asyncio.ensure_future(drain(peer)) for peer in (quick, other)]
        while not result.closed:
            result = await rooms.broadcast("room", KB)
            sent += 1
            await settled()
        assert result == BroadcastResult(2, 0, 1)
        assert stalled.close_code == 1013
        assert rooms.presence("room") == (pairs[0][0], pairs[2][0])
        assert await rooms.broadcast("room", "after") == BroadcastResult(2, 0, 0)
        for got in await asyncio.gather(*reading):
            assert got == [(BINARY, KB)] * sent + [(TEXT, b"after")]


@pytest.mark.parametrize("overflow", ["drop_oldest", "drop_newest", "latest"])
async def test_what_a_member_that_is_behind_gets_in_the_end(overflow: Any) -> None:
    rooms = Rooms(overflow=overflow, max_queue=3)
    async with members(rooms, 1) as [(ws, peer)]:
        before = await stall(rooms, ws)
        results = [await rooms.broadcast("room", str(n), key=n % 2) for n in range(10)]
        got = (await drain(peer))[before:]
        texts = [data.decode() for _, data in got]
        if overflow == "drop_oldest":
            assert texts == ["7", "8", "9"]
            assert results == [BroadcastResult(1, 0, 0)] * 3 + [BroadcastResult(0, 1, 0)] * 7
        elif overflow == "drop_newest":
            assert texts == ["0", "1", "2"]
            assert results == [BroadcastResult(1, 0, 0)] * 3 + [BroadcastResult(0, 1, 0)] * 7
        else:
            assert texts == ["8", "9"]
            assert results == [BroadcastResult(1, 0, 0)] * 10
        assert ws.connected
        assert await rooms.broadcast("room", "on") == BroadcastResult(1, 0, 0)
        assert await drain(peer) == [(TEXT, b"on")]


async def test_what_is_sent_to_one_member_keeps_its_place() -> None:
    """Behind what waits for it already, and before what is broadcast later."""
    rooms = Rooms(overflow="latest")
    async with members(rooms, 2) as pairs, opened() as (stranger, nothing):
        (ws, peer), (_, other) = pairs
        reading = asyncio.ensure_future(drain(other))
        await stall(rooms, ws)
        for n in range(3):
            await rooms.broadcast("room", f"all {n}", key=n)
            rooms.send_nowait(ws, f"one {n}")
        rooms.send_nowait(stranger, "it is in no room")
        found = await drain(peer)
        expected = [f"{who} {n}".encode() for n in range(3) for who in ("all", "one")]
        assert found[-6:] == [(TEXT, text) for text in expected]
        assert (await reading)[-3:] == [(TEXT, f"all {n}".encode()) for n in range(3)]
        assert await drain(nothing) == []
        with pytest.raises(TypeError):
            rooms.send_nowait(ws, 1)  # type: ignore[arg-type]


async def test_latest_with_more_keys_than_room_drops_the_oldest() -> None:
    rooms = Rooms(overflow="latest", max_queue=3)
    async with members(rooms, 1) as [(ws, peer)]:
        before = await stall(rooms, ws)
        results = [await rooms.broadcast("room", str(n), key=n) for n in range(5)]
        assert [r.dropped for r in results] == [0, 0, 0, 1, 1]
        assert [data for _, data in (await drain(peer))[before:]] == [b"2", b"3", b"4"]


@pytest.mark.whole  # byte by byte, it is too slow for that hurry
async def test_a_member_that_reads_is_not_closed_by_a_broadcaster_in_a_hurry() -> None:
    """A loop of broadcasts must let the loop write what it has broadcast."""
    rooms = Rooms(max_queue=16)
    async with members(rooms, 2) as pairs:
        reading = [asyncio.ensure_future(drain(peer)) for _, peer in pairs]
        for number in range(1000):
            assert await rooms.broadcast("room", b"%d " % number + KB) == BroadcastResult(2, 0, 0)
        for got in await asyncio.gather(*reading):
            assert [int(data.split()[0]) for _, data in got] == list(range(1000))


@pytest.mark.parametrize("overflow", ["close", "drop_oldest", "drop_newest", "latest"])
async def test_stalled_members_cost_a_bounded_amount_of_memory(overflow: Any) -> None:
    rooms = Rooms(overflow=overflow, max_queue=64)
    async with members(rooms, 5, close_timeout=1) as pairs:
        for ws, _ in pairs:
            await stall(rooms, ws)
        gc.collect()
        tracemalloc.start()
        try:
            for number in range(5000):
                await rooms.broadcast("room", b"%d " % number + KB, key=number)
            assert tracemalloc.get_traced_memory()[1] < 1_000_000
        finally:
            tracemalloc.stop()


@pytest.mark.parametrize("role", ROLES)
@pytest.mark.parametrize("how", ["close", "reset", "finish", "ours", "abort"])
async def test_a_member_that_ends_leaves_all_its_rooms(role: type, how: str) -> None:
    rooms = Rooms()
    async with opened(role, close_timeout=1) as (ws, peer):
        await rooms.join("a", ws)
        await rooms.join("b", ws)
        if how == "close":
            await peer.send_close(1000)
        elif how == "ours":
            await ws.close()
        elif how == "abort":
            ws.abort()
        else:
            getattr(peer, how)()
        await ws.wait_closed()
        assert rooms.names == ()
        assert not rooms._members
        assert await rooms.broadcast("a", "x") == BroadcastResult(0, 0, 0)
        with pytest.raises(ConnectionClosed):
            await rooms.join("a", ws)


async def test_a_member_that_stalls_and_dies_is_forgotten_with_what_waits_for_it() -> None:
    rooms = Rooms(overflow="drop_oldest")
    async with members(rooms, 2) as pairs:
        (ws, peer), (_, other) = pairs
        reading = asyncio.ensure_future(drain(other))
        await stall(rooms, ws)
        for _ in range(10):
            await rooms.broadcast("room", "x")
        peer.reset()
        await ws.wait_closed()
        assert len(rooms.presence("room")) == 1
        assert await rooms.broadcast("room", "last") == BroadcastResult(1, 0, 0)
        assert (await reading)[-1] == (TEXT, b"last")


async def test_a_broadcast_to_a_member_that_is_closing() -> None:
    rooms = Rooms()
    async with members(rooms, 2, close_timeout=5) as [(ws, peer), (_, other)]:
        closing = asyncio.ensure_future(ws.close())
        await settled()
        assert await rooms.broadcast("room", "x") == BroadcastResult(1, 0, 1)
        assert await rooms.broadcast("room", "y") == BroadcastResult(1, 0, 0)
        assert await drain(other) == [(TEXT, b"x"), (TEXT, b"y")]
        await peer.send_close(1000)
        await closing
        assert [opcode for opcode, _ in await peer.frames()] == [CLOSE]


async def test_joining_twice_and_leaving() -> None:
    rooms = Rooms()
    async with members(rooms, 1) as [(ws, peer)]:
        async with rooms.join("room", ws), rooms.join("other", ws):
            async with rooms.join("other", ws):
                assert rooms.presence("other") == (ws,)
            assert rooms.presence("other") == (ws,)
            assert await rooms.broadcast("room", "once") == BroadcastResult(1, 0, 0)
        assert rooms.names == ("room",)
        await rooms.leave("room", ws)
        await rooms.leave("room", ws)
        await rooms.leave("nowhere", ws)
        assert rooms.names == ()
        for _ in range(100):
            await rooms.join("room", ws)
            await rooms.leave("room", ws)
        assert len(ws._cleanups) == 1
        assert await drain(peer) == [(TEXT, b"once")]


async def test_a_broadcast_from_a_cleanup() -> None:
    rooms = Rooms()
    async with members(rooms, 2) as [(ws, peer), (_, other)]:
        results = []

        async def goodbye() -> None:
            results.append(await rooms.broadcast("room", "left"))

        async def goodbye_again() -> None:
            await rooms.leave("room", ws)
            results.append(await rooms.broadcast("room", "left again"))

        ws.add_cleanup(goodbye)
        ws.add_cleanup(goodbye_again)
        peer.reset()
        await ws.wait_closed()
        assert [r.delivered for r in results] == [1, 1]
        assert await drain(other) == [(TEXT, b"left"), (TEXT, b"left again")]


@pytest.mark.parametrize("when", ["at once", "while it is behind"])
async def test_an_error_in_one_member_is_not_the_others(
    when: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever fails in one connection, its compressor say, ends that one only."""
    rooms = Rooms()
    async with members(rooms, 3) as [(_, a), (broken, _), (_, c)]:
        if when == "while it is behind":
            await stall(rooms, broken)
            assert await rooms.broadcast("room", "waits") == BroadcastResult(3, 0, 0)

        class Broken(type(broken._link)):  # type: ignore[misc]
            __slots__ = ()

            def write_frames(self, frames: object) -> bool:
                raise MemoryError("broken")

        broken._link.__class__ = Broken
        result = await rooms.broadcast("room", "x")
        if when == "at once":
            assert result == BroadcastResult(2, 0, 1)
            assert not broken.connected
        else:
            broken._link._outbox.resume()
            await broken.wait_closed()
        assert await rooms.broadcast("room", "y") == BroadcastResult(2, 0, 0)
        for peer in (a, c):
            assert (await drain(peer))[-2:] == [(TEXT, b"x"), (TEXT, b"y")]


async def test_a_connection_that_was_never_opened_cannot_join() -> None:
    rooms = Rooms()
    with pytest.raises(WebSocketRuntimeError, match="is not open"):
        await rooms.join("room", AioClient("ws://localhost/"))
    assert rooms.names == ()


async def test_a_broadcast_during_another_send() -> None:
    """A large or fragmented message goes first; nothing comes between its frames."""
    rooms = Rooms()
    async with members(rooms, 1) as [(ws, peer)]:
        gate = asyncio.Event()

        async def fragments() -> AsyncIterator[str]:
            yield "a"
            await gate.wait()
            yield "b"

        sending = asyncio.ensure_future(ws.send(fragments()))
        await settled()
        assert await rooms.broadcast("room", "later") == BroadcastResult(1, 0, 0)
        gate.set()
        await sending
        large = asyncio.ensure_future(ws.send(b"x" * 3_000_000))
        await settled()
        assert await rooms.broadcast("room", "last") == BroadcastResult(1, 0, 0)
        got = await drain(peer)
        assert [opcode for opcode, _ in got] == [TEXT, 0, 0, TEXT, BINARY, TEXT]
        assert (got[3][1], got[5][1]) == (b"later", b"last")
        await large


async def test_leaving_while_it_is_behind() -> None:
    rooms = Rooms()
    async with members(rooms, 1) as [(ws, peer)]:
        before = await stall(rooms, ws)
        await rooms.broadcast("room", "before")
        await rooms.leave("room", ws)
        assert await rooms.broadcast("room", "after") == BroadcastResult(0, 0, 0)
        assert [data for _, data in (await drain(peer))[before:]] == [b"before"]


async def test_members_that_come_and_go_during_a_broadcast() -> None:
    rooms = Rooms(max_queue=2)
    async with members(rooms, 20) as pairs:
        reading = [asyncio.ensure_future(drain(peer)) for _, peer in pairs[1:]]

        async def come_and_go(ws: AioServer) -> None:
            for _ in range(50):
                async with rooms.join("room", ws):
                    await asyncio.sleep(0)
                await asyncio.sleep(0)

        moving = [asyncio.ensure_future(come_and_go(ws)) for ws, _ in pairs[10:]]
        for _ in range(300):
            await rooms.broadcast("room", KB)
            await asyncio.sleep(0)
        await asyncio.gather(*moving)
        assert not pairs[0][0].connected  # it never read
        for got in (await asyncio.gather(*reading))[:9]:
            assert len(got) == 300


async def test_members_that_inflate_get_one_message_compressed_once() -> None:
    """Whatever window and takeover they asked for, and whatever else they are sent."""
    rooms = Rooms()
    offers = ["", "; server_no_context_takeover", "; server_max_window_bits=9", None]
    async with contextlib.AsyncExitStack() as stack:
        pairs = []
        for offer in offers * 2:
            extension = None if offer is None else f"permessage-deflate{offer}"
            pairs.append(
                await stack.enter_async_context(opened(extension=extension, compression="deflate"))
            )
        for ws, _ in pairs:
            await rooms.join("room", ws)
        streams = [zlib.decompressobj(-15) for _ in pairs]
        for turn in range(3):
            text = "".join(f"{number * (turn + 2)}, " for number in range(300))
            await rooms.broadcast("room", text)
            wire = []
            for (ws, peer), stream, offer in zip(pairs, streams, offers * 2, strict=True):
                await ws.send(text[:1000])
                for expected in (text, text[:1000]):
                    whole = await peer.whole_frame()
                    assert whole is not None
                    first, payload = whole
                    wire.append(payload)
                    if offer is None:
                        assert (first, payload) == (0x81, expected.encode())
                    else:
                        assert first == 0xC1
                        data = stream.decompress(payload + b"\0\0\xff\xff")
                        assert data == expected.encode()
            broadcast = wire[::2]
            assert broadcast[:4] == broadcast[4:]
            assert broadcast[0] == broadcast[1]
