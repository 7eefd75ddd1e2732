"""Text that is not UTF-8, or only looks as if it were not (RFC 6455 §8.1, RFC 3629)."""

from __future__ import annotations

from ..protocol.by_hand import BIN, CLOSE, CONT, PING, TEXT, F, close_payload
from .case import ALL, ANY, Case
from .stage import reads

__all__ = ["CASES"]

BYE = F(CLOSE, close_payload(1000))
FAIL = "we fail 1007"
RULE = "RFC 6455 §8.1, RFC 3629 §3"

CASES: list[Case] = []


def case(
    id: str, does: str, *script: object, expect: str, rule: str = RULE, **more: object
) -> None:
    CASES.append(Case(f"text/{id}", does, script, expect, rule, **more))  # type: ignore[arg-type]


BAD = {
    "continuation-alone": ("a continuation byte alone", b"\x80"),
    "start-alone": ("the first byte of two alone", b"\xc3"),
    "two-of-three": ("two bytes of three", b"\xe2\x82"),
    "three-of-four": ("three bytes of four", b"\xf0\x90\x8d"),
    "start-then-ascii": ("ASCII in place of a continuation byte", b"\xc3("),
    "overlong-slash": ("'/' in two bytes, overlong", b"\xc0\xaf"),
    "overlong-nul": ("NUL in two bytes, as Java has it", b"\xc0\x80"),
    "overlong-three": ("'/' in three bytes, overlong", b"\xe0\x80\xaf"),
    "overlong-four": ("'/' in four bytes, overlong", b"\xf0\x80\x80\xaf"),
    "surrogate-high": ("a high surrogate", b"\xed\xa0\x80"),
    "surrogate-low": ("a low surrogate", b"\xed\xbf\xbf"),
    "surrogate-pair": ("a pair of surrogates, as CESU-8 has it", b"\xed\xa0\x80\xed\xb0\x80"),
    "beyond": ("a code point beyond U+10FFFF", b"\xf4\x90\x80\x80"),
    "beyond-f5": ("the byte 0xF5", b"\xf5\x80\x80\x80"),
    "five": ("a sequence of five bytes", b"\xf8\x88\x80\x80\x80"),
    "six": ("a sequence of six bytes", b"\xfc\x84\x80\x80\x80\x80"),
    "fe": ("the byte 0xFE", b"\xfe"),
    "ff": ("the byte 0xFF", b"\xff"),
    "latin-1": ("Latin-1", "Zürich".encode("latin-1")),
    "utf-16": ("UTF-16 with its mark", "hi".encode("utf-16")),
}
for id, (does, data) in BAD.items():
    case(
        f"bad-{id}",
        f"sends a text of {does}",
        F(TEXT, b"good " + data),
        expect=FAIL,
        over=ALL if id == "surrogate-high" else ANY,
    )
    case(
        f"bad-{id}-fragmented",
        f"sends {does} in the first fragment and never a second",
        F(TEXT, b"good " + data + b"x", fin=False),
        expect=FAIL,
        rule="RFC 6455 §8.1: it fails at once",
        over=("socket",),
    )
    case(
        f"reason-{id}",
        f"closes with a reason of {does}",
        F(CLOSE, close_payload(1000, data)),
        expect=FAIL,
        rule="RFC 6455 §5.5.1, §8.1",
        over=("socket",),
    )

BOUNDS = "\0\x7f\x80\u07ff\u0800\ud7ff\ue000\ufffe\uffff\U00010000\U0010ffff"
WORD = "aé€𐍈"
BYTES = WORD.encode()
for cut in range(1, len(BYTES)):
    case(
        f"split-{cut}",
        f"cuts a good text of 1, 2, 3 and 4 bytes a character behind byte {cut}, with a Ping there",
        F(TEXT, BYTES[:cut], fin=False),
        F(PING, b""),
        F(CONT, BYTES[cut:]),
        BYE,
        expect=f"{WORD!r} Pong(b'') peer closes 1000",
    )
case(
    "split-everywhere",
    "sends each byte of a good text in a fragment of its own, empty ones between",
    F(TEXT, fin=False),
    *[part for byte in BYTES for part in (F(CONT, bytes([byte]), fin=False), F(CONT, fin=False))],
    F(CONT),
    BYE,
    expect=f"{WORD!r} peer closes 1000",
)
case(
    "split-bad",
    "sends a surrogate in fragments of a byte",
    F(TEXT, b"\xed", fin=False),
    F(CONT, b"\xa0", fin=False),
    F(CONT, b"\x80"),
    expect=FAIL,
)
case(
    "split-unfinished",
    "ends a fragmented text inside a character",
    F(TEXT, b"a\xe2", fin=False),
    F(CONT, b"\x82", fin=False),
    F(CONT),
    expect=FAIL,
)
case(
    "split-over-messages",
    "begins a character in a text and ends it in the next",
    F(TEXT, b"\xc3"),
    F(TEXT, b"\xa9"),
    expect=FAIL,
)
case(
    "early",
    "sends a bad byte, and nothing more of a long frame",
    F(TEXT, b"\xff" * 10, says=100000),
    expect=FAIL,
    rule="RFC 6455 §8.1: it fails at once",
)
case(
    "bounds",
    "sends the first and the last code points of each length, and U+FFFE",
    F(TEXT, BOUNDS.encode()),
    BYE,
    expect=f"{BOUNDS!r} peer closes 1000",
)
case(
    "mark",
    "begins a text with a byte order mark",
    F(TEXT, b"\xef\xbb\xbfa"),
    BYE,
    expect="'\\ufeffa' peer closes 1000",
    rule="RFC 3629 §6: it is text like any other",
)
case(
    "binary",
    "sends what is no UTF-8 as a binary message",
    F(BIN, b"\xff\xed\xa0\x80"),
    BYE,
    expect="b'\\xff\\xed\\xa0\\x80' peer closes 1000",
    rule="RFC 6455 §5.6",
)
case(
    "ping-between-halves",
    "waits for a Pong in the middle of a character",
    F(TEXT, b"\xe2\x82", fin=False),
    F(PING, b"\xff"),
    reads,
    F(CONT, b"\xac"),
    BYE,
    expect="'€' Pong(b'\\xff') peer closes 1000",
    rule="RFC 6455 §5.4",
)
