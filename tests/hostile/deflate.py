"""Compressed messages that break a rule, or only look as if they did (RFC 7692)."""

from __future__ import annotations

import random
import struct
import zlib

from ..protocol.by_hand import BIN, CLOSE, CONT, PING, TEXT, Compressor, F, close_payload
from .case import ALL, ANY, Case
from .stage import fin, reads, rst

__all__ = ["CASES"]

BYE = F(CLOSE, close_payload(1000))
LIMIT = {"max_message_size": 1000}
RSV1 = 4
OFFER = "permessage-deflate"
ROLES = (*ANY, "serve")

CASES: list[Case] = []


def case(id: str, does: str, *script: object, expect: str, rule: str, **more: object) -> None:
    more.setdefault("offer", OFFER)
    CASES.append(Case(f"deflate/{id}", does, script, expect, rule, **more))  # type: ignore[arg-type]


def squeezed(data: bytes, bits: int = 12) -> bytes:
    """One message, compressed by itself."""
    return Compressor(bits).message(data)


def finished(data: bytes) -> bytes:
    """A stream whose last block has BFINAL set."""
    stream = zlib.compressobj(6, zlib.DEFLATED, -12)
    return stream.compress(data) + stream.flush(zlib.Z_FINISH)


def stored(data: bytes, *, final: bool = False) -> bytes:
    """A block that is not compressed (RFC 1951 §3.2.4)."""
    size = len(data)
    return bytes([final]) + struct.pack("<HH", size, size ^ 0xFFFF) + data


def Z(opcode: int, payload: bytes, *, fin: bool = True) -> F:
    """A frame with RSV1."""
    return F(opcode, payload, fin=fin, rsv=RSV1)


HELLO = Z(TEXT, squeezed(b"hello"))
NEXT = Z(TEXT, squeezed(b"next"))
BOMB = squeezed(bytes(1 << 20))
NOISE = random.Random(7).randbytes(512)

# ------------------------------------------------------------------------ RSV bits

for rsv, name in ((1, "RSV3"), (2, "RSV2"), (5, "RSV1 and RSV3"), (6, "RSV1 and RSV2")):
    case(
        f"rsv-{rsv}",
        f"sets {name} on a message, with permessage-deflate",
        F(TEXT, squeezed(b"hello"), rsv=rsv),
        expect="we fail 1002",
        rule="RFC 7692 §6",
    )
for opcode, kind in ((PING, "Ping"), (10, "Pong"), (CLOSE, "Close")):
    case(
        f"rsv1-{kind.lower()}",
        f"sets RSV1 on a {kind}, with permessage-deflate",
        Z(opcode, b""),
        expect="we fail 1002",
        rule="RFC 7692 §6.1: control frames are not compressed",
        over=ALL if opcode == PING else ANY,
    )
case(
    "rsv1-continuation",
    "sets RSV1 on a continuation frame of a compressed message",
    Z(TEXT, squeezed(b"hello")[:3], fin=False),
    Z(CONT, squeezed(b"hello")[3:]),
    expect="we fail 1002",
    rule="RFC 7692 §6.1",
    over=ALL,
)
case(
    "rsv1-second-alone",
    "sets RSV1 on the second fragment alone",
    F(TEXT, b"he", fin=False),
    Z(CONT, squeezed(b"llo")),
    expect="we fail 1002",
    rule="RFC 7692 §6.1",
)
case(
    "rsv1-after-close",
    "sets RSV1 on a Close with a good payload",
    Z(CLOSE, close_payload(1000)),
    expect="we fail 1002",
    rule="RFC 7692 §6.1",
)
case(
    "rsv1-reserved-opcode",
    "sets RSV1 on a frame with a reserved opcode",
    Z(3, b"x"),
    expect="we fail 1002",
    rule="RFC 6455 §5.2",
)

# -------------------------------------------------------------- legal, and surprising

case(
    "plain",
    "sends a message that is not compressed, between two that are",
    HELLO,
    F(TEXT, b"plain"),
    NEXT,
    BYE,
    expect="'hello' 'plain' 'next' peer closes 1000",
    rule="RFC 7692 §6: compression is per message",
    over=ALL,
)
case(
    "empty-0x00",
    "sends an empty message as the single byte 0x00",
    Z(TEXT, b"\x00"),
    NEXT,
    BYE,
    expect="'' 'next' peer closes 1000",
    rule="RFC 7692 §7.2.3.6",
    over=ROLES,
)
case(
    "empty-no-bytes",
    "sets RSV1 on a message without any payload",
    Z(TEXT, b""),
    NEXT,
    BYE,
    expect="'' 'next' peer closes 1000",
    rule="promised: an empty compressed message",
    over=ROLES,
)
case(
    "empty-bfinal",
    "sends an empty message whose block has BFINAL set",
    Z(TEXT, b"\x03\x00"),
    NEXT,
    BYE,
    expect="'' 'next' peer closes 1000",
    rule="RFC 7692 §7.2.3.5",
)
case(
    "stored",
    "sends a stored block",
    Z(TEXT, stored(b"hello") + b"\x00"),
    NEXT,
    BYE,
    expect="'hello' 'next' peer closes 1000",
    rule="RFC 7692 §7.2.3.3",
    over=ROLES,
)
case(
    "stored-empty",
    "does not take the four bytes off the end, which then begin a block of the next message",
    Z(TEXT, squeezed(b"hello") + b"\x00\x00\xff\xff"),
    NEXT,
    expect="'hello' we fail 1007",
    rule="RFC 7692 §7.2.1",
)
case(
    "bfinal",
    "sets BFINAL on the last block",
    Z(TEXT, finished(b"hello")),
    NEXT,
    BYE,
    expect="'hello' 'next' peer closes 1000",
    rule="RFC 7692 §7.2.3.5",
    over=ALL,
)
case(
    "bfinal-padded",
    "sets BFINAL on the last block, with the byte 0x00 behind it",
    Z(TEXT, finished(b"hello") + b"\x00"),
    NEXT,
    BYE,
    expect="'hello' 'next' peer closes 1000",
    rule="RFC 7692 §7.2.3.5",
)
case(
    "bfinal-then-more",
    "goes on behind a block with BFINAL",
    Z(TEXT, finished(b"he") + squeezed(b"llo")),
    NEXT,
    BYE,
    expect="'hello' 'next' peer closes 1000",
    rule="RFC 7692 §7.2.3.4",
    over=ROLES,
)
case(
    "bfinal-in-first-fragment",
    "sets BFINAL on the block of the first fragment",
    Z(TEXT, finished(b"he"), fin=False),
    F(CONT, squeezed(b"llo")),
    NEXT,
    BYE,
    expect="'hello' 'next' peer closes 1000",
    rule="RFC 7692 §7.2.3.4",
)
case(
    "blocks-of-each-type",
    "mixes stored, fixed and dynamic blocks in a message",
    Z(BIN, stored(b"ab") + squeezed(b"cd" * 3) + b"\x00\x00\xff\xff" + stored(b"ef") + b"\x00"),
    BYE,
    expect="b'abcdcdcdef' peer closes 1000",
    rule="RFC 7692 §7.2.3",
)
case(
    "ping-between",
    "sends a Ping between the fragments of a compressed message",
    Z(TEXT, squeezed(b"hello")[:3], fin=False),
    F(PING, b"p"),
    reads,
    F(CONT, squeezed(b"hello")[3:]),
    BYE,
    expect="'hello' Pong(b'p') peer closes 1000",
    rule="RFC 7692 §6.1",
    over=ALL,
)
case(
    "close-between",
    "closes between the fragments of a compressed message",
    Z(TEXT, squeezed(b"hello")[:3], fin=False),
    BYE,
    expect="peer closes 1000",
    rule="RFC 6455 §5.4",
)
TWO = Compressor(12)
case(
    "takeover",
    "refers to the message before",
    Z(BIN, TWO.message(NOISE)),
    Z(BIN, TWO.message(NOISE)),
    BYE,
    expect="<512 bytes> ×2 peer closes 1000",
    rule="RFC 7692 §7.2.3.2",
    over=ROLES,
)
FOUR = Compressor(12)
case(
    "takeover-over-plain",
    "refers past a message that is not compressed",
    Z(BIN, FOUR.message(NOISE)),
    F(TEXT, b"plain"),
    Z(BIN, FOUR.message(NOISE)),
    BYE,
    expect="<512 bytes> 'plain' <512 bytes> peer closes 1000",
    rule="RFC 7692 §7.2.3.2",
)
FIVE = Compressor(12)
FIRST, SECOND = FIVE.message(NOISE), FIVE.message(NOISE)
case(
    "takeover-refused",
    "refers to the message before, though no context takeover was agreed on",
    Z(BIN, FIRST),
    Z(BIN, SECOND),
    expect="<512 bytes> we fail 1007",
    rule="RFC 7692 §7.1.1",
    offer="permessage-deflate; client_no_context_takeover",
    over=("socket", "serve"),
)
case(
    "takeover-refused-by-server",
    "as a server: refers to the message before, though no context takeover was agreed on",
    Z(BIN, FIRST),
    Z(BIN, SECOND),
    expect="<512 bytes> we fail 1007",
    rule="RFC 7692 §7.1.1",
    offer="permessage-deflate; server_no_context_takeover",
    over=("client",),
)
case(
    "takeover-from-nothing",
    "refers to a message that was never there",
    Z(BIN, SECOND),
    expect="we fail 1007",
    rule="RFC 7692 §7.2.2",
    over=ROLES,
)
FAR = Compressor(15)
FAR_FIRST = FAR.message(NOISE + random.Random(8).randbytes(8000))
case(
    "takeover-beyond-window",
    "refers further back than the window that was agreed on",
    Z(BIN, FAR_FIRST),
    Z(BIN, FAR.message(NOISE)),
    expect="<8512 bytes> we fail 1007",
    rule="RFC 7692 §7.1.2",
    offer="permessage-deflate; client_max_window_bits",
    over=("socket", "serve"),
)
FAR2 = Compressor(15)
case(
    "takeover-beyond-window-of-server",
    "as a server: refers further back than the window that it named",
    Z(BIN, FAR2.message(NOISE + NOISE[:256])),
    Z(BIN, squeezed(b"x" * 100, 15)),
    BYE,
    expect="<768 bytes> <100 bytes> peer closes 1000",
    rule="RFC 7692 §7.1.2: 8 is read with 9, where zlib has no 8",
    offer="permessage-deflate; server_max_window_bits=9",
    over=("client",),
)
case(
    "bytes-0x00-many",
    "sends twenty empty blocks in one message",
    Z(TEXT, b"\x00\x00\xff\xff".join([squeezed(b"hello")] + [b"\x00"] * 20)),
    BYE,
    expect="'hello' peer closes 1000",
    rule="RFC 7692 §7.2.3",
)

# --------------------------------------------------------------------------- corrupt

case(
    "reserved-block",
    "sends a block of the reserved type 3",
    Z(TEXT, b"\x07\x00"),
    expect="we fail 1007",
    rule="RFC 1951 §3.2.3",
    over=ALL,
)
case(
    "reserved-block-bfinal-off",
    "sends a block of the reserved type 3, not the last",
    Z(TEXT, b"\x06"),
    expect="we fail 1007",
    rule="RFC 1951 §3.2.3",
)
case(
    "noise",
    "sends noise as compressed data",
    Z(BIN, b"\xff" * 40),
    expect="we fail 1007",
    rule="RFC 7692 §7.2.2",
    over=ROLES,
)
case(
    "zlib-header",
    "sends a zlib stream, header and all, instead of raw deflate",
    Z(TEXT, zlib.compress(b"hello")),
    expect="we fail 1007",
    rule="RFC 7692 §7.2.1",
)
case(
    "gzip-header",
    "sends a gzip member instead of raw deflate",
    Z(TEXT, b"\x1f\x8b\x08" + bytes(7) + squeezed(b"hello")),
    expect="we fail 1007",
    rule="RFC 7692 §7.2.1",
)
case(
    "stored-length-wrong",
    "sends a stored block whose two lengths differ",
    Z(TEXT, b"\x00\x05\x00\x00\x00hello"),
    expect="we fail 1007",
    rule="RFC 1951 §3.2.4",
)
case(
    "stored-truncated",
    "ends the message inside a stored block, with a byte too few for the four of the tail",
    Z(BIN, b"\x00\x09\x00\xf6\xffhello\x00"),
    expect="we fail 1007",
    rule="RFC 7692 §7.2.2",
)
case(
    "stored-completed",
    "ends the message inside a stored block, which the four bytes of the tail complete",
    Z(BIN, b"\x00\x0a\x00\xf5\xffhello\x00"),
    NEXT,
    BYE,
    expect="b'hello\\x00\\x00\\x00\\xff\\xff' 'next' peer closes 1000",
    rule="RFC 7692 §7.2.2: nobody can tell them from data",
)
case(
    "distance-too-far",
    "refers back before the first byte of all",
    Z(BIN, b"\x03\x02\x00" + b"\x00"),
    expect="we fail 1007",
    rule="RFC 1951 §3.2.5",
)
case(
    "uncompressed-with-rsv1",
    "sets RSV1 on text that is not compressed",
    Z(TEXT, b"hello, this is not compressed at all"),
    expect="we fail 1007",
    rule="RFC 7692 §6.2",
    over=ROLES,
)
case(
    "garbage-behind-bfinal",
    "sends garbage behind a block with BFINAL",
    Z(TEXT, finished(b"hello") + b"\xff\xff\xff"),
    expect="we fail 1007",
    rule="RFC 7692 §7.2.3.4: it is one more block, and not a good one",
)
case(
    "not-utf8",
    "compresses text that is not UTF-8",
    Z(TEXT, squeezed(b"\xff\xfe")),
    expect="we fail 1007",
    rule="RFC 6455 §8.1",
    over=ALL,
)
case(
    "utf8-split",
    "cuts a character between two fragments of a compressed message",
    Z(TEXT, squeezed("aé€𐍈".encode())[:4], fin=False),
    F(CONT, squeezed("aé€𐍈".encode())[4:]),
    BYE,
    expect="'aé€𐍈' peer closes 1000",
    rule="RFC 6455 §8.1",
)
case(
    "utf8-unfinished",
    "ends a compressed message inside a character",
    Z(TEXT, squeezed("é".encode()[:1])),
    expect="we fail 1007",
    rule="RFC 6455 §8.1",
)

# ----------------------------------------------------------------------------- bombs

case(
    "bomb",
    "sends 1 KB that inflates to 1 MiB, where the limit is 1000 bytes",
    Z(BIN, BOMB),
    expect="we fail 1009",
    rule="promised: limits count bytes after inflating",
    options=LIMIT,
    over=ALL,
)
case(
    "bomb-text",
    "the same as text",
    Z(TEXT, squeezed(b"x" * (1 << 20))),
    expect="we fail 1009",
    rule="promised: it ends quietly, and in time",
    options=LIMIT,
)
case(
    "bomb-first-fragment",
    "sends the bomb in the first of several fragments",
    Z(BIN, BOMB, fin=False),
    expect="we fail 1009",
    rule="promised: before the message is complete",
    options=LIMIT,
)
case(
    "bomb-in-fragments",
    "sends the bomb in fragments of ten bytes",
    Z(BIN, BOMB[:10], fin=False),
    *[F(CONT, BOMB[start : start + 10], fin=False) for start in range(10, 200, 10)],
    expect="we fail 1009",
    rule="promised: it ends quietly, and in time",
    options=LIMIT,
)
case(
    "bomb-by-one",
    "sends a message that inflates to one byte more than the limit",
    Z(BIN, squeezed(bytes(1001))),
    expect="we fail 1009",
    rule="RFC 6455 §10.4",
    options=LIMIT,
)
case(
    "no-bomb",
    "sends a message that inflates to exactly the limit",
    Z(BIN, squeezed(bytes(1000))),
    BYE,
    expect="<1000 bytes> peer closes 1000",
    rule="RFC 6455 §10.4",
    options=LIMIT,
)
case(
    "no-bomb-though-longer",
    "compresses to more than the limit what inflates to less",
    Z(BIN, stored(NOISE[:256]) + stored(NOISE[256:500]) + stored(b"") * 120 + b"\x00"),
    BYE,
    expect="<500 bytes> peer closes 1000",
    rule="promised: limits count bytes after inflating",
    options={"max_message_size": 500},
)
case(
    "bomb-unlimited",
    "sends 64 MiB and a byte of zeros as 64 KB, where there is no limit",
    Z(BIN, squeezed(bytes((64 << 20) + 1))),
    expect="we fail 1009",
    rule="docs/howto/limits.md: inflating is bounded all the same",
    over=("socket",),
    cut=False,
)
case(
    "bomb-of-takeover",
    "sends a hundred small bombs of a thousand bytes each, all within the limit",
    *[Z(BIN, squeezed(bytes(1000)))] * 100,
    BYE,
    expect="<1000 bytes> ×100 peer closes 1000",
    rule="each is within the limit; the inbox bounds their sum",
    options=LIMIT,
    cut=False,
)
case(
    "bfinal-flood",
    "makes a message of 65 blocks with BFINAL set",
    Z(BIN, b"\x03\x00" * 65),
    expect="we fail 1008",
    rule="docs/explanation/support.md: each costs a decompressor",
    over=ROLES,
)
case(
    "bfinal-64",
    "makes a message of 64 blocks with BFINAL set",
    Z(BIN, b"\x03\x00" * 64),
    BYE,
    expect="b'' peer closes 1000",
    rule="docs/explanation/support.md",
)
case(
    "empty-blocks",
    "makes a message of 5000 empty blocks, which inflate to nothing",
    Z(BIN, stored(b"") * 5000 + b"\x00"),
    BYE,
    expect="b'' peer closes 1000",
    rule="promised: cheap",
    cut=False,
)
case(
    "empty-fragments",
    "sends a compressed message in a thousand empty fragments",
    Z(TEXT, b"", fin=False),
    *[F(CONT, b"", fin=False)] * 1000,
    F(CONT, squeezed(b"hello")),
    BYE,
    expect="'hello' peer closes 1000",
    rule="promised: cheap",
    cut=False,
)

# ---------------------------------------------------------------------- half and gone

for step, how in ((fin, "ends"), (rst, "resets")):
    case(
        f"truncated-{step.__name__}",
        f"{how} TCP inside a compressed message",
        Z(TEXT, squeezed(b"hello")[:3], fin=False),
        step,
        expect="lost 1006",
        rule="RFC 6455 §7.1.5",
        over=("serve", "client"),
    )

# ------------------------------------------------------------------------ negotiation

for value in (7, 8, 16, 99, 0, -1):
    verdict = {8: "is declined: zlib cannot make it"}.get(value, "is malformed, and declined")
    case(
        f"offer-server-bits-{value}",
        f"offers server_max_window_bits={value}, which {verdict}; and compresses all the same",
        Z(TEXT, squeezed(b"hello")),
        expect="we fail 1002",
        rule="RFC 7692 §7.1.2.1",
        offer=f"permessage-deflate; server_max_window_bits={value}",
        over=("socket",),
    )
for params, name in (
    ("client_max_window_bits=08", "a leading zero"),
    ("client_max_window_bits=", "an empty value"),
    ("server_no_context_takeover=1", "a value where none belongs"),
    ("client_max_window_bits; client_max_window_bits=10", "a parameter twice"),
    ("unknown", "a parameter that nobody knows"),
    ('server_max_window_bits="10', "a quoted string without an end"),
    ("server_max_window_bits", "no value where one belongs"),
    ("=10", "a parameter without a name"),
    (";", "an empty parameter"),
    ("client_max_window_bits=1e1", "a value that is no decimal number"),
):
    case(
        f"offer-bad-{params.replace(' ', '')}",
        f"offers an extension with {name}: the offer is declined, the connection is not",
        Z(TEXT, squeezed(b"hello")),
        expect="we fail 1002",
        rule="RFC 7692 §7",
        offer=f"permessage-deflate; {params}",
        over=("socket",),
    )
for offer, name in (
    ("permessage-deflate; unknown, permessage-deflate", "a bad offer and then a good one"),
    ("x-webkit-deflate-frame, permessage-deflate", "an extension that we do not know first"),
    ('permessage-deflate; client_max_window_bits="12"', "a quoted value"),
    ("permessage-deflate; client_max_window_bits", "client_max_window_bits without a value"),
    ("permessage-deflate;client_max_window_bits=8", "a window of 8 bits for itself"),
    (", ,permessage-deflate,", "empty elements in the list"),
    (", ".join(["permessage-deflate"] * 20), "the same offer twenty times"),
):
    case(
        f"offer-good-{name.replace(' ', '-')}",
        f"offers {name}",
        Z(TEXT, squeezed(b"hello", 9)),
        BYE,
        expect="'hello' peer closes 1000",
        rule="RFC 7692 §7.1, RFC 6455 §9.1",
        offer=offer,
        over=("socket", "serve"),
    )
case(
    "offer-second-field",
    "has compression offered and gets none, because we do not want it",
    Z(TEXT, squeezed(b"hello")),
    expect="we fail 1002",
    rule="RFC 7692 §5.1",
    options={"compression": None},
    over=("socket", "serve"),
)
