"""Peers that are too fast, too slow, or gone: inbox, outbox and keepalive."""

from __future__ import annotations

import asyncio
from typing import Any

from ..peer import settled
from ..protocol.by_hand import BIN, CLOSE, CONT, PING, PONG, TEXT, Compressor, F, close_payload
from .case import ANY, Case, Step
from .stage import Stage, closed_within, collect, fin, reads, rst, silence, until_closed

__all__ = ["CASES"]

BYE = F(CLOSE, close_payload(1000))
HELLO = F(TEXT, b"hello")
TCP = ("serve", "client")

ALIVE = {"ping_interval": 1}

CASES: list[Case] = []


def case(id: str, does: str, *script: object, expect: str, rule: str, **more: object) -> None:
    more.setdefault("cut", False)
    CASES.append(Case(f"flow/{id}", does, script, expect, rule, **more))  # type: ignore[arg-type]


# --------------------------------------------------------------------- applications


async def deaf(ws: Any, stage: Stage) -> None:
    """It never receives."""
    await ws.wait_closed()


def late(seconds: float) -> Any:
    """It begins to receive after a while."""

    async def app(ws: Any, stage: Stage) -> None:
        await asyncio.sleep(seconds)
        await collect(ws, stage)

    return app


async def counts(ws: Any, stage: Stage) -> None:
    """It receives, late, and only counts."""
    await asyncio.sleep(5)
    count = 0
    try:
        while True:
            await ws.receive()
            count += 1
    finally:
        stage.note(f"<{count} messages>")


async def floods(ws: Any, stage: Stage) -> None:
    """It sends for ever."""
    while True:
        await ws.send(bytes(65536))


async def floods_fragments(ws: Any, stage: Stage) -> None:
    """It sends one message, in fragments without an end."""

    async def fragments() -> Any:
        while True:
            yield bytes(65536)

    await ws.send(fragments())


async def sends_one(ws: Any, stage: Stage) -> None:
    """It sends one message of 32 MiB, in one go."""
    await ws.send(bytes(32 << 20))
    stage.note("sent")


async def streams(ws: Any, stage: Stage) -> None:
    """It reads messages in pieces, as they come."""
    while True:
        stream = ws.receive_stream()
        async for piece in stream:
            stage.messages.append(piece)
        stage.note("whole")


async def pings(ws: Any, stage: Stage) -> None:
    """It waits for a Pong."""
    try:
        await ws.ping()
        stage.note("ponged")
    except TimeoutError:
        stage.note("no Pong")
    await collect(ws, stage)


# -------------------------------------------------------------------------- the peer

#: Bytes that may be under way: our inbox, what we have read of it, and the kernel's.
_UNDER_WAY = 32 << 20


def flood(frame: F, most: int = 1 << 30) -> Step:
    """Write a frame over and over, until nothing more is taken for a second."""

    async def step(stage: Stage) -> None:
        data = frame.to(stage.server)
        data *= max(1, 65536 // len(data))
        written = 0
        try:
            while written < most:
                async with asyncio.timeout(1):
                    await stage.peer.write(data)
                written += len(data)
        except TimeoutError:
            pass
        assert written < _UNDER_WAY, f"{written} bytes were taken"
        inbox = stage.ws._link.inbox
        marks = stage.ws._options.marks
        assert len(inbox.messages) <= marks.high
        # One message may go beyond the mark.
        size = sum(map(len, inbox.messages))
        assert size <= marks.high_bytes + (1 << 20), size
        stage.note("we stop reading")

    return step


async def unread(stage: Stage) -> None:
    """Wait until what we wrote and it did not read is what there may be, and no more."""
    await asyncio.sleep(1)
    transport = stage.ws._link._transport
    size = transport.get_write_buffer_size()
    assert size <= (2 << 20), f"{size} bytes wait to be written"


async def answers_pings(stage: Stage) -> None:
    """Answer three Pings as they must be answered."""
    for _ in range(3):
        found = await stage.peer.frame()
        assert found is not None and found[0] == PING
        await stage.peer.write(F(PONG, found[1]).to(stage.server))


def repeat(frame: F, seconds: float, times: int) -> Step:
    """A frame, again and again."""

    async def step(stage: Stage) -> None:
        for _ in range(times):
            await stage.peer.write(frame.to(stage.server))
            await asyncio.sleep(seconds)

    return step


# ---------------------------------------------------------------------- the inbox

for frame, what in (
    (F(BIN, bytes(60000)), "messages of 60000 bytes"),
    (F(TEXT, b"x"), "messages of one byte"),
    (F(TEXT), "empty messages"),
    (F(BIN, bytes(1 << 20)), "messages of 1 MiB"),
):
    case(
        f"flood-{len(frame.payload)}",
        f"sends {what} without an end to an application that does not receive, and resets TCP",
        flood(frame),
        rst,
        expect="we stop reading lost 1006",
        rule="promised: memory is bounded, TCP stops the peer; the next Ping finds it gone",
        app=deaf,
        over=TCP,
        options=ALIVE,
        within=1.1,
    )
case(
    "flood-compressed",
    "sends compressed messages of 60000 bytes, in 80 bytes each, to an application that does "
    "not receive",
    flood(F(BIN, Compressor(12).message(bytes(60000)), rsv=4)),
    rst,
    expect="we stop reading lost 1006",
    rule="promised: the inbox counts what they inflate to",
    offer="permessage-deflate; client_no_context_takeover; server_no_context_takeover",
    app=deaf,
    over=TCP,
    options=ALIVE,
    within=1.1,
)
case(
    "flood-then-received",
    "sends 2000 messages and a Close to an application that receives later",
    *[HELLO] * 2000,
    BYE,
    expect="<2000 messages> peer closes 1000",
    rule="promised: what arrived before the end is delivered",
    app=counts,
    over=(*ANY, "serve", "aiohttp"),
    within=6,
)
case(
    "flood-then-fin",
    "sends 2000 messages and ends TCP, to an application that receives later",
    *[HELLO] * 2000,
    fin,
    expect="<2000 messages> lost 1006",
    rule="promised: what arrived before the end is delivered",
    app=counts,
    over=("socket", "serve"),
    within=6,
)
case(
    "bad-behind-full-inbox",
    "sends 300 messages and a bad frame to an application that receives later",
    *[HELLO] * 300,
    F(3),
    expect="<300 messages> we fail 1002",
    rule="promised: what arrived before the end is delivered",
    app=counts,
    over=ANY,
    within=6.5,
)
case(
    "close-behind-full-inbox",
    "sends 300 messages, a Close and RST to an application that receives later",
    *[HELLO] * 300,
    BYE,
    expect="<300 messages> peer closes 1000",
    rule="promised: what arrived before the end is delivered",
    app=counts,
    over=ANY,
    within=6.5,
)
case(
    "small-queue",
    "sends 50 messages where two may wait",
    *[HELLO] * 50,
    BYE,
    expect="<50 messages> peer closes 1000",
    rule="docs/reference/options.md: max_queue",
    app=counts,
    options={"max_queue": (2, 1)},
    over=(*ANY, "serve"),
    within=6,
)
case(
    "tiny-fragments-flood",
    "sends 100000 empty fragments of one message",
    F(TEXT, fin=False),
    *[F(CONT, fin=False)] * 100000,
    F(CONT),
    BYE,
    expect="'' peer closes 1000",
    rule="promised: cheap",
    over=("socket",),
)

# ---------------------------------------------------------------------- the outbox

for app, what in ((floods, "messages"), (floods_fragments, "fragments")):
    case(
        f"unread-{what}-rst",
        f"reads none of the {what} that our application sends, and resets TCP",
        unread,
        rst,
        expect="lost 1006",
        rule="promised: send() waits, memory is bounded",
        app=app,
        over=TCP,
    )
    case(
        f"unread-{what}",
        f"reads none of the {what} that our application sends, for ever",
        unread,
        closed_within(4.4),
        expect="we close 1011, not answered, no Close sent",
        rule="promised: every waiter is woken within 2.2 p",
        app=app,
        over=TCP,
        options={"ping_interval": 2},
    )
case(
    "unread-large-rst",
    "resets TCP in the middle of a message of 32 MiB that we send",
    unread,
    rst,
    expect="lost 1006",
    rule="promised: a lost peer wakes a blocked send()",
    app=sends_one,
    over=TCP,
)


for id, does, script, expect, seconds in (
    ("close", "closes", [BYE], "peer closes 1000, no Close sent", 10.1),
    ("bad", "breaks a rule", [F(3)], "we fail 1002, no Close sent", 1.0),
    ("fin", "ends its side of TCP", [fin], "lost 1006", 10.1),
    ("gone", "goes silent", [], "we close 1011, not answered, no Close sent", 22.0),
):
    case(
        f"unread-large-{id}",
        f"{does} in the middle of a message of 32 MiB that we send, and reads no more of it",
        unread,
        *script,
        closed_within(seconds),
        expect=expect,
        rule="promised: nothing hangs: a blocked send() is woken, and TCP closed at its deadline",
        app=sends_one,
        options={"ping_interval": 10} if id == "gone" else {},
        over=TCP,
    )

# ------------------------------------------------- an application that reads in pieces

for id, does, script, expect in (
    (
        "whole",
        "sends a message in fragments",
        [F(CONT, b"llo"), BYE],
        "'llo' whole peer closes 1000",
    ),
    ("fin", "ends TCP", [fin], "lost 1006"),
    ("rst", "resets TCP", [rst], "lost 1006"),
    ("close", "closes", [BYE], "peer closes 1000"),
    ("bad", "begins another message", [HELLO], "we fail 1002"),
    ("utf8", "sends a bad byte", [F(CONT, b"ok\xff", fin=False)], "we fail 1007"),
    ("big", "sends more than the limit", [F(CONT, bytes(1000), fin=False)], "we fail 1009"),
):
    case(
        f"stream-{id}",
        f"{does} behind the first fragment, which our application has read already",
        F(TEXT, b"he", fin=False),
        reads,
        *script,
        expect=f"'he' {expect}",
        rule="promised: fragments as they arrive, and then the end",
        app=streams,
        options={"max_message_size": 1000},
        over=TCP,
    )


async def pings_unread(stage: Stage) -> None:
    """Pings, as many as are taken; their Pongs are not read."""
    data = F(PING, b"x" * 125).to(stage.server) * 500
    for _ in range(400):
        await stage.peer.write(data)
        await settled()


case(
    "ping-flood-unread",
    "sends 200000 Pings of 125 bytes and reads no Pong",
    pings_unread,
    unread,
    rst,
    expect="lost 1006",
    rule="promised: at most 2 MB; the Pong of the newest answers for the others",
    over=TCP,
)
case(
    "pong-flood",
    "sends 100000 Pongs that nobody asked for",
    *[F(PONG, b"x" * 10)] * 100000,
    BYE,
    expect="peer closes 1000",
    rule="RFC 6455 §5.5.3",
    over=("socket",),
)
case(
    "pongs-for-ping",
    "answers our Ping with a Pong of its own making",
    reads,
    F(PONG, b"guess"),
    BYE,
    expect="Ping peer closes 1000",
    rule="RFC 6455 §5.5.3: it is not the answer; our ping() waits on, and the end wakes it",
    app=pings,
)

# ------------------------------------------------------------------------ keepalive

case(
    "gone",
    "is there, and says nothing any more",
    closed_within(2.2),
    expect="we close 1011, not answered, no Close sent",
    rule="promised: woken within 2.2 p",
    options=ALIVE,
    over=("socket", "serve", "aiohttp", "client"),
)
case(
    "gone-in-message",
    "goes silent in the middle of a message",
    F(TEXT, b"he", fin=False),
    F(CONT, says=5).to(True)[:4],
    closed_within(2.2),
    expect="we close 1011, not answered, no Close sent",
    rule="promised: woken within 2.2 p",
    options=ALIVE,
    over=("socket", "serve"),
)
case(
    "gone-ping-timeout",
    "goes silent, where a Pong may take 5 s",
    closed_within(6.2),
    expect="we close 1011, not answered, no Close sent",
    rule="docs/reference/options.md: ping_timeout",
    options={"ping_interval": 1, "ping_timeout": 5},
)
case(
    "reads-no-pong",
    "reads our Pings and answers none",
    reads,
    silence(0.5),
    reads,
    until_closed,
    expect="Ping ×2 we close 1011, not answered",
    rule="RFC 6455 §5.5.2",
    options=ALIVE,
)
case(
    "answers",
    "answers every Ping",
    answers_pings,
    BYE,
    expect="peer closes 1000",
    rule="RFC 6455 §5.5.3",
    options=ALIVE,
)
for frame, what, expect in (
    (HELLO, "messages", "'hello' ×10 'end' Ping ×5"),
    (F(PONG, b"not yours"), "Pongs that answer nothing", "'end' Ping ×5"),
    (F(PING), "Pings of its own", "'end' Pong(b'') ×2 " + "Ping Pong(b'') ×2 " * 4 + "Ping"),
):
    case(
        f"busy-{frame.opcode}",
        f"answers no Ping, and sends {what} twice a second",
        repeat(frame, 0.5, 10),
        F(TEXT, b"end"),
        BYE,
        expect=f"{expect} peer closes 1000",
        rule="promised: a busy peer is never closed by the keepalive",
        options=ALIVE,
        over=ANY,
    )


async def drip(stage: Stage) -> None:
    """A frame, at a byte in 0.7 s."""
    for byte in HELLO.to(stage.server):
        await stage.peer.write(bytes([byte]))
        await asyncio.sleep(0.7)


async def answers_second(stage: Stage) -> None:
    """No answer to the first Ping, and one to the second."""
    await stage.peer.frame()
    second = await stage.peer.frame()
    assert second is not None
    await stage.peer.write(F(PONG, second[1]).to(stage.server))


case(
    "drip",
    "answers no Ping, and sends a frame at a byte in 0.7 s",
    drip,
    BYE,
    expect="'hello' Ping ×7 peer closes 1000",
    rule="promised: any byte shows that it is there",
    over=("socket", "serve"),
    options=ALIVE,
)
case(
    "pong-second",
    "answers the second Ping and not the first",
    answers_second,
    BYE,
    expect="peer closes 1000",
    rule="RFC 6455 §5.5.3",
    options={"ping_interval": 1, "ping_timeout": 1.5},
)
case(
    "slow-app",
    "answers no Ping, because we do not read what it sends",
    flood(F(BIN, bytes(60000))),
    silence(10),
    rst,
    expect="we stop reading lost 1006",
    rule="promised: our slowness is never the peer's fault",
    app=deaf,
    options=ALIVE,
    over=TCP,
)
