"""Inside ASGI servers: what of a hostile peer they let through, and what they make of it.

The server reads requests and frames, and answers what is wrong with them; what is
seen here is then its own doing. Ours is what comes of it: an end is an end, whatever
the server calls it, with the messages before it, and nothing is left behind.
"""

from __future__ import annotations

from typing import Any

from ..peer import REQUEST, until
from ..protocol.by_hand import BIN, CLOSE, CONT, PING, TEXT, F, close_payload
from .case import INSIDE, Case
from .closing import closes
from .stage import Stage, fin, rst

__all__ = ["CASES"]

BYE = F(CLOSE, close_payload(1000))
HELLO = F(TEXT, b"hello")

CASES: list[Case] = []


def case(
    id: str, does: str, *script: object, expect: dict[str, str], rule: str, **more: Any
) -> None:
    """A row for each outcome; *expect* has them by the servers that have it, with commas."""
    assert sorted(",".join(expect).split(",")) == sorted(INSIDE)
    for servers, seen in expect.items():
        over = tuple(servers.split(","))
        name = f"inside/{id}-{over[0]}"
        where = f"inside {', '.join(over)}"
        CASES.append(Case(name, f"{does}, {where}", script, seen, rule, over, **more))  # type: ignore[arg-type]


async def opened(stage: Stage) -> None:
    """The peer waits until it is open."""
    await stage.opened


async def heard(stage: Stage) -> None:
    """The peer waits until our application has a message."""
    await until(lambda: stage.messages)


async def ends_behind_our_close(stage: Stage) -> None:
    """The peer reads our Close, and ends TCP instead of answering it."""
    while (found := await stage.peer.frame()) is not None:
        stage.frames.append(found)
        if found[0] == CLOSE:
            break
    stage.peer.finish()


# ---------------------------------------------------------------------- the request

case(
    "header-latin-1",
    "sends a header field that is not ASCII",
    REQUEST[:-2] + b"X-Name: J\xfcrgen\r\n\r\n",
    opened,
    BYE,
    expect={
        "uvicorn,granian,daphne": "101; peer closes 1000",
        "hypercorn": "101; lost 1006, Close 1000 sent",
    },
    rule="RFC 9110 §5.5: obs-text",
    opening=True,
)
case(
    "subprotocols",
    "offers subprotocols, of which we know one",
    REQUEST[:-2] + b"Sec-WebSocket-Protocol: a, b\r\n\r\n",
    opened,
    BYE,
    expect={
        "uvicorn,granian,daphne": "101; Sec-WebSocket-Protocol: b; peer closes 1000",
        "hypercorn": "101; Sec-WebSocket-Protocol: b; lost 1006, Close 1000 sent",
    },
    rule="RFC 6455 §4.2.2",
    opening=True,
    options={"subprotocols": ["b"]},
)

# -------------------------------------------------------------------------- messages

case(
    "empty",
    "sends empty messages",
    F(TEXT),
    F(BIN),
    BYE,
    expect={
        "uvicorn,granian,daphne": "'' b'' peer closes 1000",
        "hypercorn": "'' b'' lost 1006, Close 1000 sent",
    },
    rule="RFC 6455 §5.6",
)
case(
    "fragments",
    "sends a Ping between two fragments",
    F(TEXT, b"hel", fin=False),
    F(PING, b"p"),
    F(CONT, b"lo"),
    BYE,
    expect={
        "uvicorn,granian,daphne": "'hello' Pong(b'p') peer closes 1000",
        "hypercorn": "'hello' Pong(b'p') lost 1006, Close 1000 sent",
    },
    rule="RFC 6455 §5.4, §5.5.2",
)
CASES.append(
    Case(  # daphne takes no such code, of which a line at WARNING tells
        "inside/too-big",
        "sends a message of a byte too many, and ends TCP, inside any of these",
        (HELLO, F(BIN, bytes(1001)), ends_behind_our_close),
        "'hello' we close 1009, not answered",
        "RFC 6455 §7.4.1; the server does not tell us of an answer",
        ("uvicorn", "hypercorn", "granian"),
        {"max_message_size": 1000},
    )
)

# --------------------------------------------------------- what the server judges

for id, does, data in (
    ("no-mask", "does not mask a frame", b"\x81\x02hi"),
    ("rsv1", "sets RSV1 without an extension", b"\xc1\x82\0\0\0\0hi"),
    ("opcode-3", "sends opcode 3", b"\x83\x82\0\0\0\0hi"),
    ("continuation", "continues a message that has not begun", F(CONT, b"x").to(True)),
    ("ping-126", "sends a Ping of 126 bytes", F(PING, bytes(126)).to(True)),
):
    case(
        id,
        does,
        HELLO,
        data,
        expect={
            "uvicorn": "peer closes 1002",
            "hypercorn": "'hello' lost 1006",
            "granian": "'hello' peer closes 1005",
            "daphne": "'hello' lost 1006 TCP reset",
        },
        rule="RFC 6455 §5; the server answers, and tells us what it likes",
        cut=False,
    )

# --------------------------------------------------------------------------- the end

for code, payload in ((1000, close_payload(1000)), (3000, close_payload(3000)), (1005, b"")):
    # autobahn, in daphne, answers with a code of its own.
    answered = "" if code == 1000 else ", Close [1000] sent"
    case(
        f"code-{code}",
        f"closes with {code}" if payload else "closes without a code",
        HELLO,
        F(CLOSE, payload),
        expect={
            "uvicorn,granian": f"'hello' peer closes {code}",
            "daphne": f"'hello' peer closes {code}{answered}",
            "hypercorn": f"'hello' lost 1006, Close {code} sent",
        },
        rule="RFC 6455 §7.4; hypercorn says 1006 of every Close",
    )
case(
    "we-close",
    "ends TCP when our application has closed",
    HELLO,
    ends_behind_our_close,
    expect={"uvicorn,hypercorn,granian,daphne": "'hello' we close 4000, not answered"},
    rule="RFC 6455 §7.1.2; the server does not tell us of an answer",
    app=closes,
)
for id, does, script in (
    ("fin", "ends TCP without a Close", (HELLO, fin)),
    ("rst", "resets TCP", (HELLO, heard, rst)),
    ("fin-in-message", "ends TCP inside a message", (HELLO, F(TEXT, b"he", fin=False), fin)),
):
    case(
        id,
        does,
        *script,
        expect={
            "uvicorn,granian": "'hello' peer closes 1005, no Close sent",
            "hypercorn,daphne": "'hello' lost 1006",
        },
        rule="docs/explanation/sources.md: where the server says 1005, we cannot know better",
        cut=False,
    )
