"""What the network does: each fault, seen on raw sockets and at both ends of a connection."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator
from typing import Any

import pytest

from simplews import AioClient, AioServer, ConnectionClosed, serve
from simplews import ConnectionError as OpenError
from simplews.testing import Faults, Way, pair
from simplews.testing.relay import Relay


class End:
    """One end of the network, raw."""

    def __init__(self, sock: socket.socket) -> None:
        sock.setblocking(False)
        self.sock = sock
        self._loop = asyncio.get_running_loop()

    async def write(self, data: bytes) -> None:
        await self._loop.sock_sendall(self.sock, data)

    async def read(self, size: int = 65536) -> bytes:
        async with asyncio.timeout(1000):
            return await self._loop.sock_recv(self.sock, size)

    async def exactly(self, size: int) -> bytes:
        data = b""
        while len(data) < size:
            more = await self.read(size - len(data))
            assert more, f"the end, after {data!r}"
            data += more
        return data

    async def silent(self) -> bool:
        """Whether nothing comes, not even an end."""
        try:
            async with asyncio.timeout(1000):
                data = await self._loop.sock_recv(self.sock, 65536)
        except TimeoutError:
            return True
        raise AssertionError(f"there came {data!r}")


@contextlib.asynccontextmanager
async def between(faults: Faults) -> AsyncIterator[tuple[End, End]]:
    async with faults.between() as (client, server):
        with client, server:
            yield End(client), End(server)


def now() -> float:
    return asyncio.get_running_loop().time()


# -------------------------------------------------------------- what changes nothing


async def test_a_good_network_passes_bytes_and_ends_on() -> None:
    async with between(Faults()) as (client, server):
        await client.write(b"there")
        await server.write(b"back")
        assert await server.exactly(5) == b"there"
        assert await client.exactly(4) == b"back"
        client.sock.shutdown(socket.SHUT_WR)
        assert await server.read() == b""
        await server.write(b"half-closed")
        assert await client.exactly(11) == b"half-closed"
        server.sock.close()
        assert await client.read() == b""


async def test_much_goes_through_and_is_the_same() -> None:
    data = bytes(range(256)) * 20_000
    async with between(Faults()) as (client, server):
        writing = asyncio.ensure_future(client.write(data))
        assert await server.exactly(len(data)) == data
        await writing


async def test_delay_is_of_each_byte_and_not_of_the_bandwidth() -> None:
    async with between(Faults(delay=3)) as (client, server):
        began = now()
        await client.write(b"one")
        await asyncio.sleep(1)
        await client.write(b"two")
        assert await server.exactly(3) == b"one"
        assert now() - began == pytest.approx(3)
        assert await server.exactly(3) == b"two"
        assert now() - began == pytest.approx(4)


async def test_delay_one_way_only() -> None:
    async with between(Faults(to_client=Way(delay=5))) as (client, server):
        began = now()
        await client.write(b"there")
        await server.exactly(5)
        assert now() - began < 1
        await server.write(b"back")
        await client.exactly(4)
        assert now() - began == pytest.approx(5)


@pytest.mark.parametrize("size", [1, 2, 7])
async def test_split_gives_the_reader_pieces_of_that_size(size: int) -> None:
    data = bytes(range(100))
    async with between(Faults(split=size)) as (client, server):
        await client.write(data)
        got: list[bytes] = []
        while len(b"".join(got)) < len(data):
            got.append(await server.read())
        assert b"".join(got) == data
        assert {len(piece) for piece in got[:-1]} == {size}


async def test_split_into_sizes_in_turn() -> None:
    async with between(Faults(split=(1, 5))) as (client, server):
        await client.write(bytes(18))
        assert [len(await server.read()) for _ in range(6)] == [1, 5] * 3


async def test_rate_is_bytes_per_second() -> None:
    async with between(Faults(rate=100)) as (client, server):
        began = now()
        await client.write(bytes(1000))
        await server.exactly(500)
        assert now() - began == pytest.approx(5, abs=0.1)
        await server.exactly(500)
        assert now() - began == pytest.approx(10, abs=0.1)


# --------------------------------------------------------------- what changes the end


async def test_dropped_bytes_are_lost_and_so_is_the_end() -> None:
    faults = Faults()
    async with between(faults) as (client, server):
        await client.write(b"before")
        assert await server.exactly(6) == b"before"
        faults.drop()
        assert faults.lossy
        await client.write(b"lost")
        client.sock.close()
        assert await server.silent()
        await server.write(b"lost as well")


async def test_a_healed_network_passes_what_comes_then() -> None:
    faults = Faults()
    async with between(faults) as (client, server):
        faults.drop()
        await client.write(b"lost")
        await asyncio.sleep(1)
        faults.heal()
        assert not faults.lossy
        await client.write(b"here again")
        assert await server.exactly(10) == b"here again"


@pytest.mark.parametrize("after", [0, 1, 5])
async def test_drop_after_so_many_bytes(after: int) -> None:
    async with between(Faults(to_server=Way(drop_after=after))) as (client, server):
        await client.write(b"0123456789")
        assert await server.exactly(after) == b"0123456789"[:after]
        assert await server.silent()
        await server.write(b"the way back")
        assert await client.exactly(12) == b"the way back"


@pytest.mark.parametrize("after", [1, 5])
async def test_end_after_so_many_bytes(after: int) -> None:
    async with between(Faults(to_server=Way(end_after=after))) as (client, server):
        await client.write(b"0123456789")
        assert await server.exactly(after) == b"0123456789"[:after]
        assert await server.read() == b""
        await server.write(b"the way back")
        assert await client.exactly(12) == b"the way back"


@pytest.mark.parametrize("after", [1, 5])
async def test_reset_after_so_many_bytes(after: int) -> None:
    async with between(Faults(to_server=Way(reset_after=after))) as (client, server):
        await client.write(b"0123456789")
        assert await server.exactly(after) == b"0123456789"[:after]
        for end in (client, server):
            with pytest.raises(ConnectionResetError):
                await end.read()


async def test_end_now() -> None:
    faults = Faults()
    async with between(faults) as (client, server):
        await asyncio.sleep(1)
        faults.to_client.end()
        assert await client.read() == b""
        await client.write(b"the other way")
        assert await server.exactly(13) == b"the other way"
        faults.end()
        assert await server.read() == b""


async def test_reset_now() -> None:
    faults = Faults()
    async with between(faults) as (client, server):
        await client.write(b"before")
        await asyncio.sleep(1)
        faults.reset()
        assert await server.exactly(6) == b"before"
        for end in (client, server):
            with pytest.raises(ConnectionResetError):
                await end.read()


async def test_a_stalled_way_stops_the_sender_and_goes_on_when_healed() -> None:
    faults = Faults()
    data = bytes(range(256)) * 40_000
    async with between(faults) as (client, server):
        faults.to_server.stall()
        writing = asyncio.ensure_future(client.write(data))
        assert await server.silent()
        assert not writing.done()
        await server.write(b"the other way")
        assert await client.exactly(13) == b"the other way"
        faults.to_server.heal()
        assert await server.exactly(len(data)) == data
        await writing


async def test_a_reset_of_an_end_is_passed_on_behind_its_bytes() -> None:
    async with between(Faults(delay=2)) as (client, server):
        await client.write(b"last words")
        await asyncio.sleep(0.1)
        client.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, bytes([1, 0, 0, 0] + [0] * 4))
        client.sock.close()
        assert await server.exactly(10) == b"last words"
        with pytest.raises(ConnectionResetError):
            await server.read()


async def test_writing_to_an_end_that_is_gone_is_a_reset() -> None:
    async with between(Faults()) as (client, server):
        await server.write(b"last words")
        server.sock.close()
        assert await client.exactly(10) == b"last words"
        assert await client.read() == b""
        with pytest.raises(OSError):
            while True:
                await client.write(b"is anybody there?")
                await asyncio.sleep(1)


def test_what_makes_no_sense_is_refused() -> None:
    wrongs: list[dict[str, Any]] = [
        {"split": 0},
        {"split": ()},
        {"split": (1, 0)},
        {"delay": -1},
        {"rate": 0},
    ]
    for wrong in wrongs:
        with pytest.raises(ValueError, match=f"{next(iter(wrong))}="):
            Faults(**wrong)
    way = Way()
    with pytest.raises(ValueError, match="direction"):
        Faults(way, way)


# ------------------------------------------------------------------------ in a pair


async def test_a_pair_whose_peer_vanishes() -> None:
    faults = Faults()
    async with pair(faults=faults, ping_interval=20) as (client, server):
        await client.send("before")
        assert await server.receive() == "before"
        faults.drop()
        began = now()
        for end in (client, server):
            with pytest.raises(ConnectionClosed) as caught:
                await end.receive()
            assert caught.value.code == 1011
        assert now() - began <= 44


@pytest.mark.parametrize("split", [1, 3])
async def test_a_pair_whose_bytes_come_one_by_one(split: int) -> None:
    async with pair(faults=Faults(split=split)) as (client, server):
        await client.send("é" * 200)
        assert await server.receive() == "é" * 200
        await server.send(["frag", "ments"])
        assert await client.receive() == "fragments"
        await client.close(3000, "done")
        assert (server.close_code, server.close_reason) == (3000, "done")


async def test_a_pair_that_is_reset() -> None:
    faults = Faults()
    async with pair(faults=faults) as (client, server):
        await client.send("before")
        await asyncio.sleep(1)
        faults.reset()
        assert await server.receive() == "before"
        for end in (client, server):
            with pytest.raises(ConnectionClosed) as caught:
                await end.receive()
            assert caught.value.code == 1006


# --------------------------------------------------------------------------- a proxy


async def echo(ws: AioServer) -> None:
    async for message in ws:
        await ws.send(message)


async def test_a_proxy_in_front_of_a_port() -> None:
    faults = Faults(delay=1)
    async with serve(echo, "127.0.0.1") as server, faults.proxy(port=server.port) as port:
        began = now()
        async with AioClient.connect(f"ws://127.0.0.1:{port}/") as ws:
            await ws.send("x")
            assert await ws.receive() == "x"
            assert now() - began == pytest.approx(4)


async def test_resetting_the_connections_of_a_proxy_concerns_no_new_one() -> None:
    faults = Faults()
    async with serve(echo, "127.0.0.1") as server, faults.proxy(port=server.port) as port:
        for _ in range(3):
            ws = await AioClient.connect(f"ws://127.0.0.1:{port}/")
            await ws.send("x")
            assert await ws.receive() == "x"
            faults.reset()
            with pytest.raises(ConnectionClosed):
                await ws.receive()
            await ws.wait_closed()


async def test_a_proxy_in_front_of_a_unix_socket(tmp_path: Any) -> None:
    path = str(tmp_path / "ws.sock")
    async with serve(echo, path=path), Faults().proxy(path=path) as port:
        async with AioClient.connect(f"ws://127.0.0.1:{port}/") as ws:
            await ws.send("x")
            assert await ws.receive() == "x"


async def test_a_proxy_in_front_of_nothing_resets_its_clients() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        nobody = listener.getsockname()[1]
    async with Faults().proxy("127.0.0.1", nobody) as port:
        with pytest.raises(OpenError):
            await AioClient.connect(f"ws://127.0.0.1:{port}/")


async def test_what_is_still_open_when_a_proxy_ends_is_lost() -> None:
    async with serve(echo, "127.0.0.1") as server:
        async with Faults().proxy("127.0.0.1", server.port) as port:
            ws = await AioClient.connect(f"ws://127.0.0.1:{port}/")
        with pytest.raises(ConnectionClosed):
            await ws.receive()
        await ws.wait_closed()


@pytest.mark.parametrize("steps", range(8))
async def test_a_proxy_ends_while_its_connections_end(steps: int) -> None:
    """Wherever in ending they are, their sockets are closed."""
    relays: list[Relay] = []

    async def handler(ws: AioServer) -> None:
        await ws.receive()

    class Seen(Relay):
        def __init__(self, *args: Any) -> None:
            super().__init__(*args)
            relays.append(self)

    faults = Faults()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("simplews.testing.faults.Relay", Seen)
        async with serve(handler, "127.0.0.1", 0) as server:
            async with faults.proxy("127.0.0.1", server.port) as port:
                ws = await AioClient.connect(f"ws://127.0.0.1:{port}/")
                faults.reset()
                for _ in range(steps):
                    await asyncio.sleep(0)
            await ws.wait_closed()
    (relay,) = relays
    assert [sock.fileno() for sock in relay._sockets] == [-1, -1]
