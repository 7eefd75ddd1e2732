"""Faults that change the outcome: everybody is woken, with the right code, and nothing is lost
that had arrived."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from simplews import AioBase, AioServer, ConnectionClosed, State
from simplews import ConnectionError as OpenError
from simplews.testing import Faults

#: Servers that report a lost connection as 1005; docs/explanation/sources.md.
SAYS_1005 = ("uvicorn+websockets-sansio", "uvicorn+wsproto", "granian")

#: Where a peer vanishes in every run: it takes a second of real time.
VANISH = ("socket", "serve", "serve+tls", "aiohttp")


class Kept:
    """A handler that hands its connection to the test and waits for its end."""

    def __init__(self) -> None:
        self.ws: asyncio.Future[AioServer] = asyncio.get_running_loop().create_future()

    async def __call__(self, ws: AioServer) -> None:
        self.ws.set_result(ws)
        await ws.wait_closed()


async def until(condition: Any) -> None:
    """Let the loop run until *condition()* holds; the test's deadline bounds it."""
    while not condition():  # noqa: ASYNC110
        await asyncio.sleep(0)


async def end_of(ws: AioBase) -> tuple[list[Any], ConnectionClosed]:
    """Everything that is left to receive, and the end."""
    got: list[Any] = []
    try:
        while True:
            got.append(await ws.receive())
    except ConnectionClosed as exc:
        return got, exc


async def send_until_blocked(ws: AioBase) -> None:
    while True:
        await ws.send(b"x" * 10_000)


async def blocked(ws: AioBase, sending: asyncio.Future[None]) -> None:
    """Wait until *sending* is stuck in flow control: nothing has gone out for a while."""
    sent = -1
    while sent != ws.stats.messages_out:
        sent = ws.stats.messages_out
        for _ in range(1000):
            await asyncio.sleep(0)
    assert not sending.done()


async def drop(*both: AioBase) -> None:
    """End what may not know of its end: behind a full inbox nothing is read, and nothing heard."""
    for ws in both:
        ws.abort()
    for ws in both:
        await ws.wait_closed()


def inflict(fault: str, faults: Faults) -> None:
    getattr(faults, fault)()


# -------------------------------------------------------------------- what had arrived


@pytest.mark.parametrize("fault", ["reset", "end"])
async def test_what_arrived_before_the_connection_was_lost_is_received(
    server: Any, kind: str, faults: Faults, fault: str
) -> None:
    keeper = Kept()
    async with server(keeper) as address:
        client = await address.connect()
        ours = await keeper.ws
        for number in range(5):
            await client.send(f"there {number}")
            await ours.send(f"back {number}")
        await until(lambda: ours.stats.messages_in == client.stats.messages_in == 5)
        inflict(fault, faults)
        for ws, word in ((ours, "there"), (client, "back")):
            got, end = await end_of(ws)
            assert got == [f"{word} {number}" for number in range(5)]
            assert end.received is None or kind in SAYS_1005
            assert end.code == 1006 or (ws is ours and kind in SAYS_1005 and end.code == 1005)
            await ws.wait_closed()
            assert ws.connection_state is State.CLOSED


@pytest.mark.parametrize("fault", ["reset_after", "end_after"])
@pytest.mark.parametrize("direction", ["to_server", "to_client"])
async def test_a_message_that_is_cut_off_is_not_received(
    server: Any, kind: str, faults: Faults, fault: str, direction: str
) -> None:
    keeper = Kept()
    async with server(keeper) as address:
        client = await address.connect(compression=None)
        ours = await keeper.ws
        sender, receiver = (client, ours) if direction == "to_server" else (ours, client)
        await sender.send("whole")
        await until(lambda: receiver.stats.messages_in == 1)
        way = getattr(faults, direction)
        (flow,) = way._flows
        setattr(way, fault, flow._passed + 5000)
        await sender.send(b"x" * 10_000)
        got, end = await end_of(receiver)
        assert got == ["whole"]
        assert end.code == 1006 or (receiver is ours and kind in SAYS_1005 and end.code == 1005)
        await receiver.wait_closed()
        await sender.wait_closed()


# ------------------------------------------------------------------------- who waits


@pytest.mark.parametrize("fault", ["reset", "end", "drop"])
@pytest.mark.parametrize("side", ["client", "server"])
async def test_every_waiter_is_woken(
    server: Any,
    kind: str,
    is_asgi: bool,
    faults: Faults,
    fault: str,
    side: str,
    pytestconfig: pytest.Config,
) -> None:
    if fault == "drop" and side == "server" and is_asgi:
        pytest.skip(f"{kind}: ASGI has no pings, so noticing this is the server's")
    if kind == "daphne":
        pytest.skip("daphne: takes whatever is sent and reads whatever comes, so no send() waits")
    thorough = pytestconfig.getoption("thorough")
    if (fault, side, kind) == ("end", "client", "uvicorn+websockets") and not thorough:
        pytest.skip("--thorough waits the 20 s in which uvicorn+websockets notices the end")
    if fault == "drop" and kind not in VANISH and not thorough:
        pytest.skip("--thorough has peers that vanish over every source")
    # The peer does not receive, and so does not answer: there is time to see send() wait.
    pings = {"ping_interval": 0.5} if fault == "drop" else {}
    keeper = Kept()
    async with server(keeper, close_timeout=0.5, **({} if is_asgi else pings)) as address:
        client = await address.connect(compression=None, close_timeout=0.5, **pings)
        ours = await keeper.ws
        ws = client if side == "client" else ours
        waiting: list[asyncio.Future[Any]] = [
            asyncio.ensure_future(waiter) for waiter in (ws.receive(), send_until_blocked(ws))
        ]
        await blocked(ws, waiting[1])
        if not (is_asgi and side == "server"):
            waiting.append(asyncio.ensure_future(ws.ping(timeout=1000)))
            await asyncio.sleep(0)
        inflict(fault, faults)
        results = await asyncio.gather(*waiting, return_exceptions=True)
        assert {type(result) for result in results} == {ConnectionClosed}
        assert len({result.code for result in results}) == 1
        expected = {1011, 1006} if fault == "drop" else {1006}
        if side == "server" and kind in SAYS_1005:
            expected.add(1005)
        assert results[0].code in expected
        await ws.wait_closed()
        await drop(client, ours)


@pytest.mark.parametrize("side", ["client", "server"])
async def test_close_ends_at_its_deadline_though_nothing_gets_through(
    server: Any, kind: str, faults: Faults, side: str
) -> None:
    if side == "server" and kind == "daphne":
        pytest.skip("daphne: takes whatever is sent, so no send() waits")
    if kind == "uvicorn+websockets":
        pytest.skip("uvicorn+websockets: waits 10 s for the answer to a Close, though we do not")
    keeper = Kept()
    async with server(keeper, close_timeout=0.05) as address:
        client = await address.connect(compression=None, close_timeout=0.05)
        ours = await keeper.ws
        ws = client if side == "client" else ours
        faults.stall()
        sending = asyncio.ensure_future(send_until_blocked(ws))
        await blocked(ws, sending)
        await ws.close()
        assert ws.connection_state is State.CLOSED
        result = await asyncio.gather(sending, return_exceptions=True)
        assert [type(error) for error in result] == [ConnectionClosed]
        assert ws.close_code == 1000
        await drop(client, ours)


# ------------------------------------------------------------------- the opening handshake


def places(config: pytest.Config, most: int) -> list[int]:
    """Where to cut a head of some hundred bytes: everywhere, or here and there."""
    return list(range(1, most)) if config.getoption("thorough") else [1, 40, most - 1]


@pytest.mark.parametrize("fault", ["reset_after", "end_after"])
@pytest.mark.parametrize("direction", ["to_server", "to_client"])
async def test_an_opening_handshake_that_is_cut_off(
    server: Any, faults: Faults, fault: str, direction: str, pytestconfig: pytest.Config
) -> None:
    """The client has a ConnectionError, and nothing is left: see `nothing_left`."""
    way = getattr(faults, direction)

    async def greet(ws: AioServer) -> None:
        await ws.send("welcome")
        await ws.wait_closed()

    async with server(greet, open_timeout=2) as address:
        for place in places(pytestconfig, 100):
            setattr(way, fault, place)
            with pytest.raises(OpenError):
                await address.connect(open_timeout=2)
        # And the next client is served.
        faults.heal()
        async with address.connect() as client:
            assert await client.receive() == "welcome"
