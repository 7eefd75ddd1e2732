"""The end, from either side: closing handshakes that go wrong, and TCP (RFC 6455 §5.5.1, §7)."""

from __future__ import annotations

import asyncio
from typing import Any

from ..protocol.by_hand import BIN, CLOSE, CONT, PING, TEXT, F, close_payload
from .case import ALL, ANY, TLS, Case
from .stage import Stage, fin, reads, rst, silence, until_closed

__all__ = ["CASES"]

BYE = F(CLOSE, close_payload(1000))
HELLO = F(TEXT, b"hello")
TCP = ("serve", "client")

CASES: list[Case] = []


def case(id: str, does: str, *script: object, expect: str, rule: str, **more: object) -> None:
    CASES.append(Case(f"closing/{id}", does, script, expect, rule, **more))  # type: ignore[arg-type]


async def closes(ws: Any, stage: Stage) -> None:
    """Our application closes, as soon as there is a message."""
    stage.messages.append(await ws.receive())
    await ws.close(4000, "enough")
    await ws.receive()


async def sends(ws: Any, stage: Stage) -> None:
    """Our application only sends, and never looks for messages."""
    while True:
        await ws.send(b"x")
        await asyncio.sleep(0.1)


# --------------------------------------------------------------------- the peer's Close

for code in (1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 1012, 1013, 1014):
    case(
        f"code-{code}",
        f"closes with {code}",
        HELLO,
        F(CLOSE, close_payload(code)),
        expect=f"'hello' peer closes {code}",
        rule="RFC 6455 §7.4.1, the registry of close codes",
        over=(*ALL, "uvicorn") if code in (1000, 1001) else ANY,
    )
for code in (3000, 3999, 4000, 4999):
    case(
        f"code-{code}",
        f"closes with {code}",
        F(CLOSE, close_payload(code)),
        expect=f"peer closes {code}",
        rule="RFC 6455 §7.4.2",
    )
for code in (0, 1, 999, 1004, 1005, 1006, 1015, 1016, 1100, 2000, 2999, 5000, 65535):
    case(
        f"code-{code}",
        f"closes with {code}, which must not travel",
        F(CLOSE, close_payload(code)),
        expect="we fail 1002",
        rule="RFC 6455 §7.4",
        over=ALL if code == 1006 else ANY,
    )
case(
    "empty",
    "closes without a code",
    HELLO,
    F(CLOSE),
    expect="'hello' peer closes 1005",
    rule="RFC 6455 §7.1.5",
    over=ALL,
)
case(
    "one-byte",
    "closes with a payload of one byte",
    F(CLOSE, b"\x03"),
    expect="we fail 1002",
    rule="RFC 6455 §5.5.1",
    over=ALL,
)
case(
    "reason-123",
    "closes with the longest reason there can be",
    F(CLOSE, close_payload(1000, b"x" * 123)),
    expect="peer closes 1000",
    rule="RFC 6455 §5.5",
)
case(
    "reason-controls",
    "closes with a reason of line ends and escape sequences",
    F(CLOSE, close_payload(1000, b"a\r\n\x1b[2J\0")),
    expect="peer closes 1000",
    rule="it is text; the log shows it quoted",
)
case(
    "twice",
    "sends two Closes in one write",
    BYE,
    F(CLOSE, close_payload(1001)),
    expect="peer closes 1000",
    rule="RFC 6455 §5.5.1: the first counts",
    cut=False,
)
case(
    "then-message",
    "sends a message behind its Close",
    BYE,
    HELLO,
    expect="peer closes 1000",
    rule="RFC 6455 §5.5.1: it is not read",
    cut=False,
)
case(
    "then-bad",
    "sends a bad frame behind its Close",
    BYE,
    F(3),
    expect="peer closes 1000",
    rule="RFC 6455 §1.4",
    cut=False,
)
case(
    "then-fin",
    "closes and ends TCP at once",
    HELLO,
    BYE,
    fin,
    expect="'hello' peer closes 1000",
    rule="RFC 6455 §7.1.1",
    over=("socket", "stream", "serve", "aiohttp", "client"),
)
case(
    "then-rst",
    "closes and resets TCP at once",
    HELLO,
    BYE,
    rst,
    expect="'hello' peer closes 1000, no Close sent",
    rule="RFC 6455 §7.1.5; what we sent, nobody read",
    over=("client",),
)
case(
    "never-fin",
    "as a server: closes, and never ends TCP",
    BYE,
    until_closed,
    expect="peer closes 1000",
    rule="promised: aborted at close_timeout",
    over=("client",),
    options={"close_timeout": 5},
)
case(
    "half",
    "sends half of a Close and ends TCP",
    BYE.to(True)[:7],
    fin,
    expect="lost 1006",
    rule="RFC 6455 §7.1.5",
    over=("socket", "serve"),
    cut=False,
)
case(
    "in-fragments",
    "closes inside a fragmented message, in one write with its first fragment",
    F(BIN, b"x" * 1000, fin=False),
    F(CONT, b"y", fin=False),
    BYE,
    expect="peer closes 1000",
    rule="RFC 6455 §5.4: the message is dropped",
    over=TCP,
)

# --------------------------------------------------------------------------- TCP alone

for step, how in ((fin, "ends"), (rst, "resets")):
    over: Any = ("socket", "stream", "serve", "serve+tls", "aiohttp", "client")
    if step is rst:
        over = ("stream", "serve", "serve+tls", "aiohttp", "client")
    case(
        f"tcp-{step.__name__}",
        f"{how} TCP without a Close, between two messages",
        HELLO,
        step,
        expect="'hello' lost 1006",
        rule="promised: 1006, not 1005",
        over=over,
        cut=False,
    )
    case(
        f"tcp-{step.__name__}-uvicorn",
        f"{how} TCP without a Close, inside uvicorn",
        HELLO,
        step,
        expect="'hello' peer closes 1005, no Close sent",
        rule="docs/explanation/sources.md: the server says 1005, and we cannot know better",
        over=("uvicorn",),
        cut=False,
    )
    case(
        f"tcp-{step.__name__}-at-once",
        f"{how} TCP right behind the opening handshake",
        step,
        expect="lost 1006",
        rule="promised: 1006, not 1005",
        over=("stream", "serve", "client"),
        cut=False,
    )
    case(
        f"tcp-{step.__name__}-in-message",
        f"{how} TCP inside a fragmented message, which is dropped",
        F(TEXT, b"he", fin=False),
        step,
        expect="lost 1006",
        rule="RFC 6455 §7.1.5",
        over=("stream", "serve", "client"),
        cut=False,
    )
    case(
        f"tcp-{step.__name__}-while-sending",
        f"{how} TCP, while our application only sends",
        silence(0.35),
        reads,
        step,
        expect="Binary(b'x') ×4 lost 1006",
        rule="promised: liveness: it is noticed though nobody receives",
        over=("serve", "client"),
        app=sends,
        cut=False,
    )

# ----------------------------------------------------------------------------- our Close

WE = "'hello' we close 4000"
case(
    "ours-answered",
    "answers our Close with the same code",
    HELLO,
    reads,
    F(CLOSE, close_payload(4000)),
    fin,
    expect=f"{WE}, answered 4000",
    rule="RFC 6455 §7.1.2",
    app=closes,
    over=("socket", "serve", "aiohttp", "client"),
)
case(
    "ours-answered-otherwise",
    "answers our Close with another code",
    HELLO,
    reads,
    F(CLOSE, close_payload(1001)),
    fin,
    expect=f"{WE}, answered 1001",
    rule="RFC 6455 §5.5.1: both are kept",
    app=closes,
)
case(
    "ours-answered-empty",
    "answers our Close without a code",
    HELLO,
    reads,
    F(CLOSE),
    fin,
    expect=f"{WE}, answered 1005",
    rule="RFC 6455 §5.5.1",
    app=closes,
)
case(
    "ours-answered-badly",
    "answers our Close with a code that must not travel",
    HELLO,
    reads,
    F(CLOSE, close_payload(1006)),
    expect=f"{WE}, not answered",
    rule="RFC 6455 §7.4: that is no Close; TCP is closed without waiting longer",
    app=closes,
)
case(
    "ours-bad-frame",
    "answers our Close with a bad frame",
    HELLO,
    reads,
    F(3),
    expect=f"{WE}, not answered",
    rule="RFC 6455 §7.1.7",
    app=closes,
)
case(
    "ours-messages-first",
    "goes on sending messages behind our Close, and answers then",
    HELLO,
    reads,
    *[HELLO] * 50,
    F(CLOSE, close_payload(4000)),
    fin,
    expect=f"{WE}, answered 4000",
    rule="RFC 6455 §5.5.1: they are read and dropped",
    app=closes,
)
case(
    "ours-half-message-first",
    "finishes a message that it had begun before our Close, and answers then",
    HELLO,
    F(BIN, b"x" * 50, fin=False),
    reads,
    F(CONT, b"x" * 50),
    F(CLOSE, close_payload(4000)),
    fin,
    expect=f"{WE}, answered 4000",
    rule="RFC 6455 §5.5.1",
    app=closes,
)
case(
    "ours-pings-first",
    "sends Pings behind our Close, and answers then",
    HELLO,
    reads,
    F(PING, b"p"),
    F(CLOSE, close_payload(4000)),
    fin,
    expect=f"{WE}, answered 4000",
    rule="RFC 6455 §5.5.1: nothing is sent after a Close, no Pong either",
    app=closes,
)
for step, how in ((fin, "ends"), (rst, "resets")):
    case(
        f"ours-{step.__name__}",
        f"{how} TCP instead of answering our Close",
        HELLO,
        reads,
        step,
        expect=f"{WE}, not answered",
        rule="RFC 6455 §7.1.5",
        app=closes,
        over=TCP,
        cut=False,
    )
case(
    "ours-ignored",
    "reads our Close and never answers",
    HELLO,
    reads,
    until_closed,
    expect=f"{WE}, not answered",
    rule="promised: close() returns at close_timeout",
    app=closes,
    over=("socket", "serve", "aiohttp", "client"),
)
case(
    "ours-unread",
    "reads nothing any more, our Close neither",
    HELLO,
    until_closed,
    expect=f"{WE}, not answered",
    rule="promised: close() returns at close_timeout",
    app=closes,
    over=("socket", "client"),
)


async def endless(stage: Stage) -> None:
    """Messages without an end, instead of an answer."""
    try:
        while True:
            await stage.peer.write(HELLO.to(stage.server) * 100)
            await asyncio.sleep(0.1)
    except OSError:
        stage.gone = True


case(
    "ours-flooded",
    "sends messages without an end behind our Close, and never answers",
    HELLO,
    endless,
    expect=f"{WE}, not answered, no Close sent",
    rule="promised: close() returns at close_timeout",
    app=closes,
    over=TCP,
    cut=False,
)
case(
    "ours-crossing",
    "closes at the same moment as we do",
    HELLO,
    F(CLOSE, close_payload(1001)),
    expect="'hello' peer closes 1001",
    rule="RFC 6455 §7.1.5: the one that came first",
    cut=False,
    app=closes,
)
case(
    "ours-tls",
    "over TLS: reads our Close and ends TCP instead of answering",
    HELLO,
    reads,
    fin,
    expect=f"{WE}, not answered",
    rule="RFC 6455 §7.1.5",
    app=closes,
    over=TLS,
    cut=False,
)
