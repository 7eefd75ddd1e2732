"""An end tells what was waiting at that moment: explain(), and the line in the log."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest

from simplews import AioServer
from simplews.types import Close, Ending, Waiting

from ..clock import ClockLoop
from ..peer import PING, PONG, ROLES, TEXT, Peer, close_frame, opened, settled, until

MORE = bytes(12_000_000)

# ---------------------------------------------------------------- what waits


async def nothing(ws: Any, peer: Peer, tasks: list[Any]) -> None:
    """It was all in order."""
    await ws.send("hello")
    await peer.send(TEXT, "hello")
    assert await ws.receive() == "hello"


async def a_receiver(ws: Any, peer: Peer, tasks: list[Any]) -> None:
    """Whoever waits for the peer is not waited for."""
    tasks.append(asyncio.ensure_future(ws.receive()))
    await settled()


async def messages(ws: Any, peer: Peer, tasks: list[Any]) -> None:
    for _ in range(3):
        await peer.send(TEXT, "hello")
    await until(lambda: len(ws._messages) == 3)


async def one_send(ws: Any, peer: Peer, tasks: list[Any]) -> None:
    tasks.append(asyncio.ensure_future(ws.send(MORE)))
    await asyncio.sleep(12)


async def three_sends(ws: Any, peer: Peer, tasks: list[Any]) -> None:
    await one_send(ws, peer, tasks)
    tasks.append(asyncio.ensure_future(ws.send("x" * 20_000)))
    tasks.append(asyncio.ensure_future(ws.send("short")))
    await asyncio.sleep(90)


async def a_fragment(ws: Any, peer: Peer, tasks: list[Any]) -> None:
    async def pieces() -> AsyncIterator[bytes]:
        while True:
            yield bytes(200_000)

    tasks.append(asyncio.ensure_future(ws.send(pieces())))
    await asyncio.sleep(3)


async def a_ping(ws: Any, peer: Peer, tasks: list[Any]) -> None:
    tasks.append(asyncio.ensure_future(ws.ping(timeout=1000)))
    await asyncio.sleep(20)


async def a_ping_of_now(ws: Any, peer: Peer, tasks: list[Any]) -> None:
    """Such a one is just on its way."""
    tasks.append(asyncio.ensure_future(ws.ping(timeout=1000)))
    await asyncio.sleep(0.5)


async def two_pings_of_three(ws: Any, peer: Peer, tasks: list[Any]) -> None:
    for _ in range(3):
        tasks.append(asyncio.ensure_future(ws.ping(timeout=1000)))
        await asyncio.sleep(2)
    found = await peer.frame()
    assert found is not None
    await peer.send(PONG, found[1])
    await tasks[0]


async def all_of_it(ws: Any, peer: Peer, tasks: list[Any]) -> None:
    await messages(ws, peer, tasks)
    tasks.append(asyncio.ensure_future(ws.ping(timeout=1000)))
    await asyncio.sleep(8)
    await one_send(ws, peer, tasks)


TRANSPORT = r", [\d.]+ (KiB|MiB) in the transport"
WAITS: list[tuple[Callable[..., Awaitable[None]], str]] = [
    (nothing, ""),
    (a_receiver, ""),
    (messages, "3 messages in the inbox"),
    (one_send, r"a send\(\) of 11.4 MiB blocked for 12 s" + TRANSPORT),
    (three_sends, r"3 calls of send\(\) of 11.5 MiB blocked for 102 s" + TRANSPORT),
    (a_fragment, r"a send\(\) of 195 KiB blocked for 3.0 s" + TRANSPORT),
    (a_ping, "1 ping unanswered for 20 s"),
    (a_ping_of_now, ""),
    (two_pings_of_three, "2 pings unanswered for 4.0 s"),
    (
        all_of_it,
        r"3 messages in the inbox, a send\(\) of 11.4 MiB blocked for 12 s"
        + TRANSPORT
        + ", 1 ping unanswered for 20 s",
    ),
]

# ------------------------------------------------------------------- the end


async def the_peer_closes(ws: Any, peer: Peer) -> str:
    await peer.send_close(1000)
    return r"the peer closed the connection with 1000 .*; we answered 1000 .*"


async def we_close(ws: Any, peer: Peer) -> str:
    closing = asyncio.ensure_future(ws.close(4000, "enough"))
    await settled()
    closing.cancel()
    return "we closed the connection with 4000 .* 'enough'; no Close came back"


async def we_abort(ws: Any, peer: Peer) -> str:
    ws.abort()
    return "the connection was lost .*: abort.. was called on our side"


async def the_peer_finishes(ws: Any, peer: Peer) -> str:
    peer.finish()
    return "the connection was lost .*: the peer closed TCP without a Close frame"


async def the_peer_breaks_a_rule(ws: Any, peer: Peer) -> str:
    await peer.write(b"\xf0\x00\x00\x00\x00\x00")
    return "we closed the connection with 1002 .*"


ENDS = [the_peer_closes, we_close, we_abort, the_peer_finishes, the_peer_breaks_a_rule]


@contextlib.asynccontextmanager
async def gathered() -> AsyncIterator[list[Any]]:
    tasks: list[asyncio.Future[Any]] = []
    yield tasks
    await asyncio.gather(*tasks, return_exceptions=True)


@pytest.mark.parametrize("end", ENDS)
@pytest.mark.parametrize(("waits", "text"), WAITS)
async def test_every_end_tells_what_was_waiting(
    end: Callable[..., Awaitable[str]], waits: Callable[..., Awaitable[None]], text: str
) -> None:
    async with gathered() as tasks, opened(ROLES[len(text) % 2]) as (ws, peer):
        await waits(ws, peer, tasks)
        pattern = await end(ws, peer)
        await until(lambda: not ws.connected)
        found = ws.explain()
        assert re.fullmatch(pattern + (f"; waiting then: {text}" if text else ""), found), found
        await ws.wait_closed()
        assert ws.explain() == found or "answered" in ws.explain()


async def test_the_numbers() -> None:
    """What the sentence rounds."""
    async with gathered() as tasks, opened() as (ws, peer):
        await all_of_it(ws, peer, tasks)
        stats = ws.stats
        assert (stats.messages_waiting, stats.sends_waiting) == (3, 1)
        assert stats.bytes_waiting > 100_000
        ws.abort()
        waiting = ws.exception().ending.waiting
        assert waiting == Waiting(
            messages=3,
            sends=1,
            send_bytes=len(MORE),
            send_seconds=pytest.approx(12, abs=0.2),
            transport_bytes=stats.bytes_waiting,
            pings=1,
            ping_seconds=pytest.approx(20, abs=0.2),
        )
        with pytest.raises(AttributeError):
            waiting.messages = 4
        await ws.wait_closed()
        assert ws.stats.bytes_waiting == 0
        assert ws.stats.messages_waiting == 3  # they can still be received
        assert ws.exception().ending.waiting is waiting


async def test_a_reset_tells_what_was_waiting() -> None:
    """The transport has dropped by then what it held."""
    async with gathered() as tasks, opened(AioServer, tcp=True) as (ws, peer):
        await one_send(ws, peer, tasks)
        peer.reset()
        await ws.wait_closed()
        assert re.search(r"; waiting then: a send\(\) of 11.4 MiB blocked for 12 s", ws.explain())


async def test_a_ping_without_an_answer_is_counted_from_the_first() -> None:
    async with opened(ping_interval=10, ping_timeout=25) as (ws, _):
        await ws.wait_closed()
        assert re.fullmatch(
            r"we closed the connection with 1011 .*no answer to a ping within 25 s.*; "
            r"waiting then: 3 pings unanswered for 25 s",
            ws.explain(),
        )


async def test_messages_that_come_with_a_close_wait_for_nobody_who_receives() -> None:
    async with gathered() as tasks, opened() as (ws, peer):
        tasks.append(asyncio.ensure_future(ws.receive()))
        await settled()
        await peer.write(b"\x81\x81\x00\x00\x00\x00x" + close_frame(1000))
        await ws.wait_closed()
        assert "waiting" not in ws.explain()
        assert await tasks[0] == "x"


# ------------------------------------------------------------- a blocked loop


async def blocked(seconds: float) -> None:
    """A block that begins a second before a ping is due."""
    loop = asyncio.get_running_loop()
    assert isinstance(loop, ClockLoop)
    await asyncio.sleep(9)
    loop.block(seconds)
    await settled()


@pytest.mark.parametrize("end", ENDS)
async def test_a_block_explains_what_came_after_it(end: Callable[..., Awaitable[str]]) -> None:
    """But for a normal end there is nothing to explain."""
    async with opened(ping_interval=10) as (ws, peer):
        await blocked(5)
        pattern = await end(ws, peer)
        await until(lambda: not ws.connected)
        if end is not the_peer_closes:
            pattern += "; the event loop had been blocked for 4.0 s"
        assert re.fullmatch(pattern, ws.explain())


async def test_a_block_explains_nothing_a_minute_later() -> None:
    async with opened(ping_interval=10) as (ws, peer):
        await blocked(5)
        for _ in range(7):
            await asyncio.sleep(9)
            await peer.send(PING)
        ws.abort()
        assert "blocked" not in ws.explain()


async def test_a_block_that_nothing_of_ours_was_due_in_is_not_made_up() -> None:
    async with opened() as (ws, _):
        await blocked(5)
        ws.abort()
        assert "blocked" not in ws.explain()


async def test_the_end_of_a_peer_that_we_did_not_look_at_names_the_block() -> None:
    async with opened(ping_interval=10) as (ws, _):
        await blocked(31)
        await ws.wait_closed()
        assert re.fullmatch(
            r"we closed .*no answer to a ping within 10 s.*; waiting then: 2 pings unanswered for "
            r"10 s; the event loop had been blocked for 30 s",
            ws.explain(),
        )


# -------------------------------------------------------------------- the log


async def test_the_line_of_a_life(caplog: pytest.LogCaptureFixture) -> None:
    """One line: who it was, for how long, how much, who ended it, with what, what waited."""
    caplog.set_level(logging.INFO, "simplews")
    async with opened(AioServer, tcp=True) as (ws, peer):
        await messages(ws, peer, [])
        await asyncio.sleep(1)
        await peer.send_close(4001, "bye")
        await ws.wait_closed()
    [line] = [r.getMessage() for r in caplog.records if r.name == "simplews.server"]
    assert re.fullmatch(
        r"\('127.0.0.1', \d+\) /: open \d+\.\d{3} s, 3 messages in, 0 out: the peer closed the "
        r"connection with 4001 \(application\) 'bye'; we answered 4001 \(application\); waiting "
        r"then: 3 messages in the inbox",
        line,
    )


# -------------------------------------------------------------------- the text


@pytest.mark.parametrize(
    ("waiting", "text"),
    [
        (Waiting(), ""),
        (Waiting(messages=1), "waiting then: 1 message in the inbox"),
        (Waiting(sends=1, send_bytes=1), "waiting then: a send() of 1 byte"),
        (Waiting(sends=1, send_bytes=1, send_seconds=0.09), "waiting then: a send() of 1 byte"),
        (Waiting(transport_bytes=1023), "waiting then: 1023 bytes in the transport"),
        (Waiting(transport_bytes=65536), "waiting then: 64 KiB in the transport"),
        (Waiting(blocked=3.21), "the event loop had been blocked for 3.2 s"),
        (
            Waiting(messages=2, blocked=61),
            "waiting then: 2 messages in the inbox; the event loop had been blocked for 61 s",
        ),
    ],
)
def test_waiting_in_words(waiting: Waiting, text: str) -> None:
    assert str(waiting) == text
    ending = Ending("peer", received=Close(1005), waiting=waiting)
    alone = Ending("peer", received=Close(1005)).explain()
    assert ending.explain() == (f"{alone}; {text}" if text else alone)
