"""Frames that break a rule, or only look as if they did (RFC 6455 §5)."""

from __future__ import annotations

import asyncio

from ..protocol.by_hand import BIN, CLOSE, CONT, PING, PONG, TEXT, F, close_payload
from .case import ALL, ANY, Case
from .stage import Stage, fin, reads, rst

__all__ = ["CASES"]

BYE = F(CLOSE, close_payload(1000))
HELLO = F(TEXT, b"hello")

CASES: list[Case] = []


def case(id: str, does: str, *script: object, expect: str, rule: str, **more: object) -> None:
    CASES.append(Case(f"frames/{id}", does, script, expect, rule, **more))  # type: ignore[arg-type]


FAIL = "we fail 1002"


ROLES = (*ANY, "serve")
BIG = {"max_message_size": 1000}

# ------------------------------------------------------------ §5.2: the first byte

for bits, name in ((1, "RSV3"), (2, "RSV2"), (3, "RSV2 and RSV3"), (4, "RSV1"), (7, "all of RSV")):
    for opcode, kind in ((TEXT, "text"), (BIN, "binary"), (PING, "Ping"), (CLOSE, "Close")):
        case(
            f"rsv-{bits}-{kind.lower()}",
            f"sets {name} on a {kind} frame, and no extension was agreed on",
            F(opcode, b"", rsv=bits),
            expect=FAIL,
            rule="RFC 6455 §5.2",
        )
    case(
        f"rsv-{bits}-continuation",
        f"sets {name} on a continuation frame, and no extension was agreed on",
        F(TEXT, b"he", fin=False),
        F(CONT, b"llo", rsv=bits),
        expect=FAIL,
        rule="RFC 6455 §5.2",
    )
for opcode in (*range(3, 8), *range(11, 16)):
    case(
        f"opcode-{opcode}",
        f"sends a frame with the reserved opcode {opcode} between two messages",
        HELLO,
        F(opcode, b"x"),
        HELLO,
        expect=f"'hello' {FAIL}",
        rule="RFC 6455 §5.2",
        over=ALL if opcode in (3, 11) else ANY,
    )
    case(
        f"opcode-{opcode}-in-message",
        f"sends a frame with the reserved opcode {opcode} between two fragments",
        F(TEXT, b"he", fin=False),
        F(opcode),
        F(CONT, b"llo"),
        expect=FAIL,
        rule="RFC 6455 §5.2",
    )

# ---------------------------------------------------------------- §5.2: the length

case(
    "length-16-short",
    "writes a length of 5 in two bytes",
    F(TEXT, b"hello", width=2),
    expect=FAIL,
    rule="RFC 6455 §5.2: the minimal number of bytes",
    over=ALL,
)
case(
    "length-16-125",
    "writes a length of 125 in two bytes",
    F(BIN, bytes(125), width=2),
    expect=FAIL,
    rule="RFC 6455 §5.2",
)
case(
    "length-16-126",
    "writes a length of 126 in two bytes, as it must",
    F(BIN, bytes(126)),
    BYE,
    expect="<126 bytes> peer closes 1000",
    rule="RFC 6455 §5.2",
)
case(
    "length-64-short",
    "writes a length of 5 in eight bytes",
    F(TEXT, b"hello", width=8),
    expect=FAIL,
    rule="RFC 6455 §5.2",
)
case(
    "length-64-65535",
    "writes a length of 65535 in eight bytes",
    F(BIN, says=65535, width=8),
    expect=FAIL,
    rule="RFC 6455 §5.2",
)
case(
    "length-64-65536",
    "writes a length of 65536 in eight bytes, as it must",
    F(BIN, bytes(65536)),
    BYE,
    expect="<65536 bytes> peer closes 1000",
    rule="RFC 6455 §5.2",
)
case(
    "length-zero-64",
    "writes a length of 0 in eight bytes",
    F(BIN, width=8),
    expect=FAIL,
    rule="RFC 6455 §5.2",
)
for says, name in (
    (1 << 63, "2^63"),
    ((1 << 64) - 1, "2^64 - 1"),
    ((1 << 63) + 5, "2^63 + 5, five bytes if the first bit is dropped"),
):
    case(
        f"length-top-bit-{says & 7}-{says >> 62}",
        f"declares a payload of {name} bytes",
        F(BIN, b"hello", says=says, width=8),
        expect=FAIL,
        rule="RFC 6455 §5.2: the most significant bit MUST be 0",
        over=ROLES,
    )
for opcode, kind in ((TEXT, "text"), (BIN, "binary")):
    case(
        f"length-huge-{kind}",
        f"declares a {kind} payload of 2^63 - 1 bytes, above the limit",
        F(opcode, b"hello", says=(1 << 63) - 1, width=8),
        expect="we fail 1009",
        rule="RFC 6455 §10.4",
        options=BIG,
        over=ROLES,
    )
    case(
        f"length-huge-{kind}-unlimited",
        f"declares a {kind} payload of 2^62 - 1 bytes where there is no limit, and leaves",
        F(opcode, b"hello", says=(1 << 62) - 1, width=8),
        fin,
        expect="lost 1006",
        rule="promised: nothing is allocated ahead of the bytes",
        over=ROLES,
    )
case(
    "length-beyond-any",
    "declares a payload of 2^63 - 1 bytes where there is no limit",
    F(BIN, says=(1 << 63) - 1, width=8),
    expect="we fail 1009",
    rule="RFC 6455 §10.4: no message is that long",
)
case(
    "length-huge-ping",
    "declares a Ping of 2^62 bytes",
    F(PING, says=1 << 62, width=8),
    expect=FAIL,
    rule="RFC 6455 §5.5",
)
case(
    "length-at-limit",
    "sends a message of exactly the limit",
    F(BIN, bytes(1000)),
    BYE,
    expect="<1000 bytes> peer closes 1000",
    rule="RFC 6455 §10.4",
    options=BIG,
)
case(
    "length-over-limit",
    "sends a message of one byte more than the limit",
    F(BIN, bytes(1001)),
    expect="we fail 1009",
    rule="RFC 6455 §10.4",
    options=BIG,
    over=ALL,
)
case(
    "length-over-limit-header",
    "sends only the header of a message of one byte more than the limit",
    F(BIN, says=1001),
    expect="we fail 1009",
    rule="promised: checked before memory is spent",
    options=BIG,
)
case(
    "length-over-limit-fragments",
    "sends fragments that are together one byte more than the limit",
    F(TEXT, b"x" * 500, fin=False),
    F(CONT, b"x" * 500, fin=False),
    F(CONT, b"x"),
    expect="we fail 1009",
    rule="RFC 6455 §10.4",
    options=BIG,
)
case(
    "length-limit-zero",
    "sends an empty message and one of a byte where the limit is 0",
    F(TEXT),
    F(TEXT, b"x"),
    expect="'' we fail 1009",
    rule="docs/reference/options.md",
    options={"max_message_size": 0},
)
case(
    "length-limit-in-bytes",
    "sends 501 characters of two bytes each, where the limit is 1000 bytes",
    F(TEXT, "é".encode() * 501),
    expect="we fail 1009",
    rule="docs/reference/options.md",
    options=BIG,
)

# ------------------------------------------------------------------ §5.1: masking

for opcode, kind in ((TEXT, "text"), (BIN, "binary"), (PING, "Ping"), (PONG, "Pong")):
    case(
        f"mask-{kind.lower()}",
        f"sends a {kind} frame without a mask to a server, or with one to a client",
        F(opcode, b"hello", wrong_way=True),
        expect=FAIL,
        rule="RFC 6455 §5.1",
        over=ALL if opcode == TEXT else ANY,
    )
case(
    "mask-close",
    "sends a Close without a mask to a server, or with one to a client",
    F(CLOSE, close_payload(1000), wrong_way=True),
    expect=FAIL,
    rule="RFC 6455 §5.1",
)
case(
    "mask-continuation",
    "masks the first fragment as it must, and the second the other way",
    F(TEXT, b"he", fin=False),
    F(CONT, b"llo", wrong_way=True),
    expect=FAIL,
    rule="RFC 6455 §5.1",
)
case(
    "mask-empty",
    "sends an empty frame with its mask the wrong way",
    F(TEXT, wrong_way=True),
    expect=FAIL,
    rule="RFC 6455 §5.1: all frames",
)
case(
    "mask-zero-key",
    "masks with a key of zeros",
    F(TEXT, b"hello").to(True, bytes(4)),
    F(CLOSE, close_payload(1000)),
    expect="'hello' peer closes 1000",
    rule="RFC 6455 §5.3: any key is a key",
    over=("socket", "aiohttp"),
)
case(
    "mask-before-length",
    "sends the first two bytes of an unmasked frame of 2^62 bytes, or of a masked one",
    F(BIN, says=1 << 62, width=8, wrong_way=True),
    expect=FAIL,
    rule="RFC 6455 §5.1",
)

# ------------------------------------------------------------ §5.4: fragmentation

case(
    "continuation-first",
    "begins with a continuation frame",
    F(CONT, b"hello"),
    expect=FAIL,
    rule="RFC 6455 §5.4",
    over=ALL,
)
case(
    "continuation-unfinished-first",
    "begins with a continuation frame without FIN",
    F(CONT, b"he", fin=False),
    expect=FAIL,
    rule="RFC 6455 §5.4",
)
case(
    "continuation-after-message",
    "continues a message that is complete",
    HELLO,
    F(CONT, b"more"),
    expect=f"'hello' {FAIL}",
    rule="RFC 6455 §5.4",
)
case(
    "continuation-after-last",
    "continues a fragmented message after its last fragment",
    F(TEXT, b"he", fin=False),
    F(CONT, b"llo"),
    F(CONT, b"more"),
    expect=f"'hello' {FAIL}",
    rule="RFC 6455 §5.4",
)
for first, second in ((TEXT, TEXT), (TEXT, BIN), (BIN, TEXT), (BIN, BIN)):
    names = {TEXT: "text", BIN: "binary"}
    case(
        f"interleaved-{names[first]}-{names[second]}",
        f"begins a {names[second]} message inside a fragmented {names[first]} message",
        F(first, b"he", fin=False),
        F(second, b"x"),
        expect=FAIL,
        rule="RFC 6455 §5.4",
    )
case(
    "interleaved-fragmented",
    "begins a fragmented message inside a fragmented message",
    F(TEXT, b"he", fin=False),
    F(TEXT, b"he", fin=False),
    expect=FAIL,
    rule="RFC 6455 §5.4",
)
case(
    "fragments-empty",
    "sends a message in empty fragments around one that is not",
    F(TEXT, fin=False),
    F(CONT, fin=False),
    F(CONT, b"hello", fin=False),
    F(CONT, fin=False),
    F(CONT),
    BYE,
    expect="'hello' peer closes 1000",
    rule="RFC 6455 §5.4",
)
case(
    "fragments-all-empty",
    "sends an empty message in a thousand fragments",
    F(BIN, fin=False),
    *[F(CONT, fin=False)] * 1000,
    F(CONT),
    BYE,
    expect="b'' peer closes 1000",
    rule="RFC 6455 §5.4",
    over=ROLES,
)
case(
    "fragments-tiny",
    "sends a message of 3000 bytes in fragments of one",
    F(BIN, b"x", fin=False),
    *[F(CONT, b"x", fin=False)] * 2998,
    F(CONT, b"x"),
    BYE,
    expect="<3000 bytes> peer closes 1000",
    rule="RFC 6455 §5.4",
    over=ROLES,
)
case(
    "fragments-never-end",
    "begins a message and leaves",
    F(TEXT, b"hello", fin=False),
    fin,
    expect="lost 1006",
    rule="RFC 6455 §7.1.5",
    over=ALL,
)
case(
    "fragments-around-ping",
    "sends a Ping between two fragments",
    F(TEXT, b"he", fin=False),
    F(PING, b"p"),
    F(CONT, b"llo"),
    BYE,
    expect="'hello' Pong(b'p') peer closes 1000",
    rule="RFC 6455 §5.4, §5.5.2",
    over=ALL,
)
case(
    "fragments-around-pong",
    "sends a Pong that nobody asked for between two fragments",
    F(TEXT, b"he", fin=False),
    F(PONG, b"p"),
    F(CONT, b"llo"),
    BYE,
    expect="'hello' peer closes 1000",
    rule="RFC 6455 §5.5.3",
)
case(
    "fragments-around-close",
    "sends a Close between two fragments",
    F(TEXT, b"he", fin=False),
    BYE,
    F(CONT, b"llo"),
    expect="peer closes 1000",
    rule="RFC 6455 §5.4, §5.5.1: what the Close cuts short is dropped",
    cut=False,  # the server may have closed TCP while the peer still writes
)
case(
    "fragments-ping-answered-at-once",
    "waits for the Pong to its Ping in the middle of a message",
    F(BIN, b"he", fin=False),
    F(PING, b"now"),
    reads,
    F(CONT, b"llo"),
    BYE,
    expect="b'hello' Pong(b'now') peer closes 1000",
    rule="RFC 6455 §5.5.2: as soon as is practical",
)

# ------------------------------------------------------------- §5.5: control frames

for opcode, kind in ((PING, "Ping"), (PONG, "Pong"), (CLOSE, "Close")):
    low = kind.lower()
    case(
        f"{low}-fragmented",
        f"sends a {kind} without FIN",
        F(opcode, fin=False),
        expect=FAIL,
        rule="RFC 6455 §5.5",
        over=ROLES,
    )
    case(
        f"{low}-126",
        f"sends a {kind} of 126 bytes",
        F(opcode, b"\x03\xe8" + b"x" * 124),
        expect=FAIL,
        rule="RFC 6455 §5.5",
    )
    case(
        f"{low}-64k",
        f"sends a {kind} of 65536 bytes",
        F(opcode, b"\x03\xe8" + b"x" * 65534),
        expect=FAIL,
        rule="RFC 6455 §5.5",
    )
    case(
        f"{low}-header-alone",
        f"sends only the first two bytes of a {kind} that is too long",
        F(opcode, says=126).to(True)[:2],
        expect=FAIL,
        rule="RFC 6455 §5.5: it fails though nothing follows",
        over=("socket", "serve"),
        cut=False,
    )
case(
    "ping-125",
    "sends a Ping of 125 bytes",
    F(PING, b"x" * 125),
    BYE,
    expect="Pong(<125 bytes>) peer closes 1000",
    rule="RFC 6455 §5.5.2, §5.5.3: the same application data",
    over=ALL,
)
case(
    "ping-empty",
    "sends an empty Ping",
    F(PING),
    BYE,
    expect="Pong(b'') peer closes 1000",
    rule="RFC 6455 §5.5.2",
)
case(
    "ping-binary",
    "sends a Ping whose payload is not text",
    F(PING, b"\x00\xff\xfe"),
    BYE,
    expect="Pong(b'\\x00\\xff\\xfe') peer closes 1000",
    rule="RFC 6455 §5.5.2",
)
case(
    "ping-behind-close",
    "sends a Ping behind its Close",
    BYE,
    F(PING, b"p"),
    expect="peer closes 1000",
    rule="RFC 6455 §5.5.1: nothing is sent after a Close",
    cut=False,
)
case(
    "ping-several",
    "sends three Pings at once, and reads",
    F(PING, b"1"),
    F(PING, b"2"),
    F(PING, b"3"),
    BYE,
    expect="Pong(b'1') Pong(b'2') Pong(b'3') peer closes 1000",
    rule="RFC 6455 §5.5.2",
)
case(
    "pong-unasked",
    "sends Pongs that nobody asked for",
    *[F(PONG, b"x" * size) for size in (0, 1, 125)],
    BYE,
    expect="peer closes 1000",
    rule="RFC 6455 §5.5.3",
    over=ROLES,
)
case(
    "data-behind-failure",
    "sends a good message behind a bad frame",
    F(BIN, b"x", rsv=1),
    HELLO,
    BYE,
    expect=FAIL,
    rule="RFC 6455 §7.1.7: nothing is read any more",
)
case(
    "two-failures",
    "breaks two rules in one write",
    F(3),
    F(TEXT, b"\xff"),
    expect=FAIL,
    rule="RFC 6455 §7.1.7: the first decides, and one Close is sent",
)
case(
    "data-before-failure",
    "sends a good message before a bad frame, in the same write",
    HELLO,
    F(BIN, b"x", rsv=1),
    expect=f"'hello' {FAIL}",
    rule="promised: what arrived before the end is delivered",
    over=ALL,
)
case(
    "failure-then-rst",
    "breaks a rule and resets TCP",
    F(3),
    rst,
    expect="we fail 1002, no Close sent",
    rule="RFC 6455 §7.1.7; the Close was sent, and nobody was there to read it",
    over=("serve", "client"),
)
case(
    "failure-then-fin",
    "breaks a rule and ends its side of TCP",
    F(3),
    fin,
    expect=FAIL,
    rule="RFC 6455 §7.1.7",
    over=ROLES,
)

# ------------------------------------------------------------------ what is no frame

for name, data in (
    ("http", b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"),
    ("tls", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"),
    ("zeros", bytes(64)),
    ("ff", b"\xff" * 64),
    ("crlf", b"\r\n\r\n"),
):
    case(
        f"garbage-{name}",
        {
            "http": "sends a second HTTP request behind the opening handshake",
            "tls": "begins a TLS handshake where frames are due",
            "zeros": "sends zeros where frames are due",
            "ff": "sends 0xFF bytes where frames are due",
            "crlf": "sends an empty line or two more behind the opening handshake",
        }[name],
        data,
        expect=FAIL,
        rule="RFC 6455 §5.2",
        over=(*ROLES, "aiohttp"),
    )

# ------------------------------------------------------------ half a frame, and gone

WHOLE = F(TEXT, b"x" * 200)
for size, where in ((1, "the first byte"), (3, "the length"), (5, "the key"), (50, "the payload")):
    for step, how in ((fin, "ends TCP"), (rst, "resets TCP")):
        case(
            f"cut-{size}-{step.__name__}",
            f"{how} in the middle of a frame, in {where}",
            HELLO,
            WHOLE.to(True)[:size],
            step,
            expect="'hello' lost 1006",
            rule="RFC 6455 §7.1.5",
            over=("serve", "aiohttp") if step is rst else ("socket", "serve"),
            cut=False,
        )


async def drip(stage: Stage) -> None:
    """A byte a second."""
    for byte in F(TEXT, b"slowly").to(stage.server):
        await stage.peer.write(bytes([byte]))
        await asyncio.sleep(1)


case(
    "drip",
    "sends a frame at a byte a second",
    drip,
    BYE,
    expect="'slowly' peer closes 1000",
    rule="slow is no violation; who minds sets `receive_timeout`",
    over=ROLES,
    cut=False,
)
