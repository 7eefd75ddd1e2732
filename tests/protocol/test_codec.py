"""Decoder: bytes in, messages and events out, row by row of RFC 6455 §5.

Every row is fed to both roles, whole, one byte at a time and cut at random
places; with bytes behind it; and a wrong one with a message before it.
"""

from __future__ import annotations

import itertools
from collections import deque
from typing import NamedTuple

import pytest

from simplews.protocol.codec import Decoder, Event, Message
from simplews.protocol.frames import Ping, Pong
from simplews.types import Close

from .by_hand import (
    BIN,
    CLOSE,
    CONT,
    CUTS,
    KEY,
    PING,
    PONG,
    TEXT,
    F,
    Outcome,
    close_payload,
    feed,
    to_bytes,
    whole,
)

both_roles = pytest.mark.parametrize("server", [False, True], ids=["client", "server"])


class Row(NamedTuple):
    name: str
    parts: list[F | bytes]
    messages: list[Message]
    events: list[Event] = []  # noqa: RUF012


def rows(table: list[Row]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("row", table, ids=lambda row: row.name)


EVERY_BYTE = bytes(range(256))
# One, two, three and four bytes of UTF-8; the first and last of each length.
CHARACTERS = "\x00\x7f\x80\u07ff\u0800\ud7ff\ue000\uffff\U00010000\U0010ffff"
NONCHARACTERS = "\ufffe\uffff\ufdd0\U0001fffe\ufeff"  # legal in UTF-8, BOM included
BETWEEN: list[F | bytes] = [F(PING, b"in between"), F(PONG), F(PING)]
BETWEEN_EVENTS: list[Event] = [Ping(b"in between"), Pong(b""), Ping(b"")]

VALID = [
    Row("a text message", [F(TEXT, b"Hello")], ["Hello"]),
    Row("a binary message", [F(BIN, EVERY_BYTE)], [EVERY_BYTE]),
    Row("an empty text message", [F(TEXT)], [""]),
    Row("an empty binary message", [F(BIN)], [b""]),
    *(
        Row(f"a message of {size} bytes", [F(BIN, bytes([7]) * size)], [bytes([7]) * size])
        for size in (1, 2, 3, 4, 5, 124, 125, 126, 127, 128, 511, 512, 513, 65535, 65536, 65537)
    ),
    Row("a text of 65536 bytes", [F(TEXT, b"a" * 65536)], ["a" * 65536]),
    Row("several messages", [F(TEXT, b"1"), F(BIN, b"2"), F(TEXT), F(BIN)], ["1", b"2", "", b""]),
    Row("characters of every length", [F(TEXT, CHARACTERS.encode())], [CHARACTERS]),
    Row("noncharacters and a BOM", [F(TEXT, NONCHARACTERS.encode())], [NONCHARACTERS]),
    Row(
        "what is no text in a binary message", [F(BIN, b"\xff\xed\xa0\x80")], [b"\xff\xed\xa0\x80"]
    ),
    # §5.4
    Row("two fragments of text", [F(TEXT, b"Hel", fin=False), F(CONT, b"lo")], ["Hello"]),
    Row("two binary fragments", [F(BIN, b"\xff", fin=False), F(CONT, b"\x80")], [b"\xff\x80"]),
    Row(
        "five fragments",
        [F(BIN, b"a", fin=False), *[F(CONT, b"b", fin=False)] * 3, F(CONT, b"c")],
        [b"abbbc"],
    ),
    Row("empty fragments only", [F(TEXT, fin=False), F(CONT, fin=False), F(CONT)], [""]),
    Row("empty binary fragments only", [F(BIN, fin=False), F(CONT, fin=False), F(CONT)], [b""]),
    Row("an empty first fragment", [F(TEXT, fin=False), F(CONT, b"text")], ["text"]),
    Row("an empty last fragment", [F(TEXT, b"text", fin=False), F(CONT)], ["text"]),
    Row(
        "an empty fragment between others",
        [F(TEXT, b"te", fin=False), F(CONT, fin=False), F(CONT, b"xt")],
        ["text"],
    ),
    Row(
        "large and small fragments",
        [
            F(BIN, b"a" * 70000, fin=False),
            F(CONT, b"b", fin=False),
            F(CONT, b"c" * 5000, fin=False),
            F(CONT, b"d" * 126, fin=False),
            F(CONT, b"e" * 4096),
        ],
        [b"a" * 70000 + b"b" + b"c" * 5000 + b"d" * 126 + b"e" * 4096],
    ),
    *(
        Row(
            f"a character of four bytes cut after {n}",
            [F(TEXT, "𐍈".encode()[:n], fin=False), F(CONT, "𐍈".encode()[n:])],
            ["𐍈"],
        )
        for n in (1, 2, 3)
    ),
    Row(
        "a character in four fragments, with empty ones and pings between",
        [
            F(TEXT, b"\xf0", fin=False),
            F(CONT, fin=False),
            F(CONT, b"\x9d", fin=False),
            F(PING),
            F(CONT, b"\x84", fin=False),
            F(CONT, b"\x9e"),
        ],
        ["𝄞"],
        [Ping(b"")],
    ),
    # §5.5.2, §5.5.3
    Row("a ping", [F(PING, b"Hello")], [], [Ping(b"Hello")]),
    Row("an empty ping", [F(PING)], [], [Ping(b"")]),
    Row("a ping of 125 bytes", [F(PING, b"p" * 125)], [], [Ping(b"p" * 125)]),
    Row("a pong nobody asked for", [F(PONG, b"Hello")], [], [Pong(b"Hello")]),
    Row("a pong of 125 bytes", [F(PONG, b"\xff" * 125)], [], [Pong(b"\xff" * 125)]),
    Row(
        "control frames between fragments",
        [F(TEXT, b"a", fin=False), *BETWEEN, F(CONT, b"b", fin=False), *BETWEEN, F(CONT, b"c")],
        ["abc"],
        BETWEEN_EVENTS * 2,
    ),
    Row(
        "control frames between messages",
        [F(PING, b"1"), F(TEXT, b"a"), F(PONG, b"2"), F(BIN, b"b"), F(PING, b"3")],
        ["a", b"b"],
        [Ping(b"1"), Pong(b"2"), Ping(b"3")],
    ),
]

CLOSES = [
    Row("an empty Close", [F(CLOSE)], [], [Close(1005)]),
    Row(
        "a Close with a reason",
        [F(CLOSE, close_payload(1000, "tschüß".encode()))],
        [],
        [Close(1000, "tschüß")],
    ),
    Row(
        "a Close of 125 bytes",
        [F(CLOSE, close_payload(1000, b"r" * 123))],
        [],
        [Close(1000, "r" * 123)],
    ),
    *(
        Row(f"close code {code}", [F(CLOSE, close_payload(code))], [], [Close(code)])
        # §7.4.1, and 1012 to 1014 of the registry.
        for code in (*range(1000, 1004), *range(1007, 1015), 3000, 3999, 4000, 4999)
    ),
    Row("a Close behind a message", [F(TEXT, b"a"), F(CLOSE)], ["a"], [Close(1005)]),
    Row(
        "a Close between fragments, which drops the message",
        [F(TEXT, b"a", fin=False), F(CLOSE, close_payload(1001))],
        [],
        [Close(1001)],
    ),
]


class Wrong(NamedTuple):
    name: str
    parts: list[F | bytes]
    code: int
    events: list[Event] = []  # noqa: RUF012


def wrongs(table: list[Wrong]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("row", table, ids=lambda row: row.name)


def not_text(name: str, *payloads: bytes) -> Wrong:
    """A text message, each of *payloads* a fragment, that is not UTF-8."""
    last = len(payloads) - 1
    frames: list[F | bytes] = [
        F(TEXT if i == 0 else CONT, payload, fin=i == last) for i, payload in enumerate(payloads)
    ]
    return Wrong(name, frames, 1007)


OPEN = F(TEXT, b"open", fin=False)

VIOLATIONS = [
    # §5.2: reserved bits
    *(
        Wrong(f"reserved bits {rsv:03b} on opcode {opcode}", [F(opcode, b"", rsv=rsv)], 1002)
        for opcode in (TEXT, BIN, CLOSE, PING, PONG)
        for rsv in range(1, 8)
    ),
    *(
        Wrong(f"reserved bits {rsv:03b} on a continuation", [OPEN, F(CONT, b"", rsv=rsv)], 1002)
        for rsv in range(1, 8)
    ),
    # §5.2: reserved opcodes
    *(
        Wrong(f"reserved opcode {opcode}", [F(opcode, b"x")], 1002)
        for opcode in (3, 4, 5, 6, 7, 11, 12, 13, 14, 15)
    ),
    *(
        Wrong(f"reserved opcode {opcode} between fragments", [OPEN, F(opcode)], 1002)
        for opcode in (3, 7, 11, 15)
    ),
    Wrong("a fragment with a reserved opcode", [F(3, b"x", fin=False)], 1002),
    # §5.1: masks
    *(
        Wrong(f"opcode {opcode} masked the wrong way", [F(opcode, b"", wrong_way=True)], 1002)
        for opcode in (TEXT, BIN, CLOSE, PING, PONG)
    ),
    Wrong("a continuation masked the wrong way", [OPEN, F(CONT, b"lo", wrong_way=True)], 1002),
    # §5.2: the length in as few bytes as can hold it
    *(
        Wrong(f"{length} in 16 bits", [F(BIN, bytes(length), width=2)], 1002)
        for length in (0, 1, 124, 125)
    ),
    *(
        Wrong(f"{length} in 64 bits", [F(BIN, bytes(length), width=8)], 1002)
        for length in (0, 125, 126, 65535)
    ),
    *(
        Wrong(f"a 64-bit length of {says:#x}", [F(BIN, b"x", says=says)], 1002)
        for says in (1 << 63, (1 << 64) - 1, 1 << 63 | 5)
    ),
    # §5.4: fragments
    Wrong("a continuation of nothing", [F(CONT, b"x")], 1002),
    Wrong("a fragment that continues nothing", [F(CONT, b"x", fin=False)], 1002),
    Wrong("an empty continuation of nothing", [F(CONT)], 1002),
    *(
        Wrong(f"opcode {opcode} before the end of the message", [OPEN, F(opcode, b"x")], 1002)
        for opcode in (TEXT, BIN)
    ),
    *(
        Wrong(f"a new fragment of opcode {opcode}", [OPEN, F(opcode, b"x", fin=False)], 1002)
        for opcode in (TEXT, BIN)
    ),
    Wrong("a ping does not end the message", [OPEN, F(PING), F(TEXT, b"x")], 1002, [Ping(b"")]),
    # §5.5: control frames
    *(
        Wrong(f"a fragment of control opcode {opcode}", [F(opcode, fin=False)], 1002)
        for opcode in (CLOSE, PING, PONG)
    ),
    *(
        Wrong(f"control opcode {opcode} with {size} bytes", [F(opcode, bytes(size))], 1002)
        for opcode in (CLOSE, PING, PONG)
        for size in (126, 65536)
    ),
    *(
        Wrong(
            f"control opcode {opcode}, length in {8 * width} bits", [F(opcode, width=width)], 1002
        )
        for opcode in (CLOSE, PING, PONG)
        for width in (2, 8)
    ),
    # §5.5.1, §7.4
    Wrong("a Close of one byte", [F(CLOSE, b"\x03")], 1002),
    *(
        Wrong(f"close code {code}", [F(CLOSE, close_payload(code))], 1002)
        for code in (0, 1, 999, 1004, 1005, 1006, 1015, 1016, 1100, 2000, 2999, 5000, 65535)
    ),
    Wrong("a wrong close code and a wrong reason", [F(CLOSE, close_payload(999, b"\xff"))], 1002),
    Wrong("a close reason that is no text", [F(CLOSE, close_payload(1000, b"\xff"))], 1007),
    Wrong("a close reason cut in a character", [F(CLOSE, close_payload(1000, b"\xe2\x82"))], 1007),
    Wrong("a surrogate as close reason", [F(CLOSE, close_payload(1000, b"\xed\xa0\x80"))], 1007),
    # §5.6, §8.1
    not_text("a byte that never occurs", b"a\xffb"),
    not_text("a continuation byte alone", b"\x80"),
    not_text("a sequence cut by another character", b"\xe2\x82a"),
    not_text("an overlong slash of two bytes", b"\xc0\xaf"),
    not_text("an overlong slash of three bytes", b"\xe0\x80\xaf"),
    not_text("an overlong slash of four bytes", b"\xf0\x80\x80\xaf"),
    not_text("the longest overlong of two bytes", b"\xc1\xbf"),
    not_text("an overlong NUL", b"\xc0\x80"),
    not_text("the first surrogate", b"\xed\xa0\x80"),
    not_text("the last surrogate", b"\xed\xbf\xbf"),
    not_text("a pair of surrogates", b"\xed\xa1\x8c\xed\xbe\xb4"),
    not_text("beyond U+10FFFF", b"\xf4\x90\x80\x80"),
    not_text("a sequence of five bytes", b"\xf8\x88\x80\x80\x80"),
    not_text("a sequence of six bytes", b"\xfc\x84\x80\x80\x80\x80"),
    not_text("the end inside a character", "Grüß €".encode()[:-1]),
    not_text("the end after the first byte of four", b"ok \xf0"),
    not_text("the second fragment", b"ok", b"\xff"),
    not_text("a character cut by the end of the last fragment", b"\xe2", b"\x82"),
    not_text("a character cut by an empty last fragment", b"\xe2\x82", b""),
    not_text("a fragment boundary does not hide it", b"\xed", b"\xa0", b"\x80"),
    not_text("a character that the next fragment does not go on with", b"\xe2", b"a"),
    not_text("a long text wrong in the middle", b"a" * 70000 + b"\xc3" + b"a" * 70000),
]

# Wrong as soon as these bytes are there, whatever would follow.
AT_ONCE = [
    Wrong("reserved bits, no payload yet", [F(TEXT, rsv=2, says=100)], 1002),
    Wrong("reserved opcode, no payload yet", [F(3, says=100)], 1002),
    Wrong("a continuation of nothing, no payload yet", [F(CONT, says=70000)], 1002),
    Wrong("a control frame of 126 bytes, no payload yet", [F(PING, says=126)], 1002),
    Wrong("an interleaved message, no payload yet", [OPEN, F(BIN, says=1 << 40)], 1002),
    # Python's decoder holds two bytes of a surrogate back, for "surrogatepass".
    Wrong("a surrogate after its third byte", [F(TEXT, b"\xed\xa0\x80", says=1000)], 1007),
    Wrong("beyond U+10FFFF after its second byte", [F(TEXT, b"ok\xf4\x90", says=1000)], 1007),
    Wrong("an overlong form after its second byte", [F(TEXT, b"\xe0\x80", says=1000)], 1007),
    Wrong("a wrong byte at the start of a large frame", [F(TEXT, b"\xff", says=1 << 40)], 1007),
    Wrong(
        "a wrong byte in a fragment that has not ended",
        [OPEN, F(CONT, b"\xe2\x28", fin=False, says=9)],
        1007,
    ),
]


@rows(VALID)
@both_roles
def test_valid_frames_become_messages_and_events(row: Row, server: bool) -> None:
    """RFC 6455 §5.2 to §5.6, and nothing is left behind the last frame."""
    data = to_bytes(row.parts, server)
    for cut in CUTS:
        decoder = Decoder(server)
        assert feed(decoder, cut(data)) == Outcome(row.messages, row.events), cut
        assert not decoder.done and not decoder.in_message and not decoder.pending
        assert decoder.failure is None


@rows(VALID)
@both_roles
def test_frames_behind_valid_ones_are_read(row: Row, server: bool) -> None:
    """The end of a frame is the start of the next one."""
    data = to_bytes([*row.parts, F(TEXT, b"after"), F(PING, b"all")], server)
    for cut in CUTS:
        outcome = feed(Decoder(server), cut(data))
        assert outcome == Outcome([*row.messages, "after"], [*row.events, Ping(b"all")]), cut


@rows(CLOSES)
@both_roles
def test_nothing_behind_a_close_is_read(row: Row, server: bool) -> None:
    """RFC 6455 §1.4, §5.5.1: not even a Ping, another Close, or a violation."""
    behinds: list[list[F | bytes]] = [[], [F(PING)], [F(CLOSE)], [F(TEXT, b"more")], [b"\xff" * 9]]
    for cut, behind in itertools.product(CUTS, behinds):
        decoder = Decoder(server)
        data = to_bytes([*row.parts, *behind], server)
        assert feed(decoder, cut(data)) == Outcome(row.messages, row.events), (cut, behind)
        assert decoder.done and not decoder.in_message and not decoder.pending


@wrongs(VIOLATIONS)
@both_roles
def test_violation_fails_with_its_close_code(row: Wrong, server: bool) -> None:
    """RFC 6455 §7.1.7; what is behind it is never read."""
    for cut, behind in itertools.product(CUTS, ([], [F(PING)], [F(TEXT, b"more")], [F(CLOSE)])):
        decoder = Decoder(server)
        data = to_bytes([*row.parts, *behind], server)
        assert feed(decoder, cut(data)) == Outcome([], row.events, row.code), (cut, behind)
        assert decoder.done and not decoder.in_message and not decoder.pending


@wrongs(VIOLATIONS)
@both_roles
def test_what_came_before_a_violation_is_delivered(row: Wrong, server: bool) -> None:
    """A message that was complete is not lost with the connection."""
    before: list[F | bytes] = [F(TEXT, b"before"), F(PING, b"this"), F(BIN, b"all")]
    data = to_bytes([*before, *row.parts], server)
    for cut in CUTS:
        decoder = Decoder(server)
        outcome = feed(decoder, cut(data))
        assert outcome == Outcome(["before", b"all"], [Ping(b"this"), *row.events], row.code), cut
        assert decoder.size == len(b"before") + len(b"all") + 2 * 64


@wrongs(AT_ONCE)
@both_roles
def test_violation_fails_before_the_frame_is_complete(row: Wrong, server: bool) -> None:
    """RFC 6455 §8.1 and the limits: nobody waits for the rest of a wrong frame."""
    for cut in CUTS:
        outcome = feed(Decoder(server), cut(to_bytes(row.parts, server)))
        assert outcome == Outcome([], row.events, row.code), cut


@both_roles
def test_violation_is_seen_in_the_first_bytes_of_the_header(server: bool) -> None:
    """Not even the masking key is waited for."""
    mask = 0x80 if server else 0
    for head in (
        bytes([0x83, mask | 5]),  # reserved opcode
        bytes([0x91, mask | 5]),  # RSV3
        bytes([0x80, mask | 5]),  # continuation of nothing
        bytes([0x09, mask]),  # a fragment of a ping
        bytes([0x89, mask | 126]),  # a long ping
        bytes([0x82, mask | 126, 0, 125]),  # a short length written long
        bytes([0x82, mask | 127, 0x80, 0, 0, 0, 0, 0, 0, 0]),
        bytes([0x81, mask ^ 0x80]),  # masked the wrong way
    ):
        assert feed(Decoder(server), [head]).code == 1002, head


@both_roles
def test_wrong_frame_fails_whatever_its_payload_is(server: bool) -> None:
    """A frame that is wrong in two ways: the header comes first."""
    outcome = feed(Decoder(server), [F(TEXT, b"\xff", rsv=1).to(server)])
    assert outcome.code == 1002


@both_roles
def test_incomplete_frame_gives_nothing_and_is_no_failure(server: bool) -> None:
    """Every proper prefix of a frame: no message, no event, no failure."""
    for frame in (F(TEXT, b"Hello"), F(PING, b"Hello"), F(CLOSE, close_payload(1000, b"bye"))):
        data = frame.to(server)
        for cut, size in itertools.product(CUTS, range(len(data))):
            decoder = Decoder(server)
            assert feed(decoder, cut(data[:size])) == Outcome(), (cut, size)
            assert not decoder.done


@both_roles
def test_control_frame_between_fragments_is_reported_at_once(server: bool) -> None:
    """RFC 6455 §5.4: a Ping is answered "as soon as is practical", before the message ends."""
    decoder = Decoder(server)
    start = to_bytes([F(TEXT, b"Hel", fin=False), F(PING, b"now")], server)
    assert feed(decoder, [start]) == Outcome([], [Ping(b"now")])
    assert decoder.in_message
    assert feed(decoder, [F(CONT, b"lo").to(server)]) == Outcome(["Hello"])
    assert not decoder.in_message


@pytest.mark.parametrize(
    "key", [bytes(4), KEY, b"\xff" * 4, b"\x00\x01\x02\x03", b"\x80\x00\x00\x80"]
)
def test_every_masking_key_is_removed(key: bytes) -> None:
    """RFC 6455 §5.3: all of 32 bits; each frame has its own."""
    data = b"".join(
        [
            F(TEXT, b"Grue", fin=False).to(True, key),
            F(PING, b"ping").to(True, key[::-1]),
            F(CONT, "ße".encode() * 300).to(True, KEY),
            F(BIN, bytes(range(7))).to(True, key),
        ]
    )
    for cut in CUTS:
        outcome = feed(Decoder(True), cut(data))
        assert outcome == Outcome(["Grue" + "ße" * 300, bytes(range(7))], [Ping(b"ping")]), cut


@both_roles
def test_feeding_after_the_end_does_nothing(server: bool) -> None:
    """After a failure, a Close or `stop` every further call returns False."""
    for last in (F(CLOSE), F(3), None):
        decoder = Decoder(server)
        if last is None:
            decoder.stop()
        else:
            feed(decoder, [last.to(server)])
        failure = decoder.failure
        assert feed(decoder, [F(TEXT, b"x").to(server), b"", b"\xff"]).messages == []
        assert decoder.failure is failure
        assert decoder.done and not decoder.pending


@both_roles
def test_stop_forgets_a_message_that_has_begun(server: bool) -> None:
    """`stop` is for a connection that is to be dropped."""
    decoder = Decoder(server)
    feed(decoder, [to_bytes([OPEN, F(CONT, says=100, payload=b"half")], server)])
    assert decoder.in_message
    decoder.stop()
    assert decoder.done and not decoder.in_message and not decoder.pending
    assert decoder.failure is None


@both_roles
def test_size_counts_memory_and_overhead(server: bool) -> None:
    """Two bytes for each character beside a €; 64 more for each message; control frames none."""
    decoder = Decoder(server)
    frames: list[F | bytes] = [
        F(TEXT, "Grüße €".encode()),
        F(PING, b"ping"),
        F(BIN, bytes(1000)),
        F(TEXT, "€".encode()[:1], fin=False),
        F(CONT, "€".encode()[1:]),
        F(BIN),
    ]
    feed(decoder, whole(to_bytes(frames, server)))
    assert decoder.size == (2 * 7 + 64) + (1000 + 64) + (2 + 64) + 64


@both_roles
def test_failure_names_the_rule_and_fits_a_close_frame(server: bool) -> None:
    """The reason is sent in the Close: at most 123 bytes (RFC 6455 §5.5)."""
    for row in [*VIOLATIONS, *AT_ONCE]:
        decoder = Decoder(server)
        feed(decoder, whole(to_bytes(row.parts, server)))
        assert decoder.failure is not None
        assert 0 < len(decoder.failure.reason.encode()) <= 123


# ---------------------------------------------------- after our Close (`ignore_messages`)


@rows([*VALID, *CLOSES])
@both_roles
def test_ignored_messages_leave_control_frames(row: Row, server: bool) -> None:
    """RFC 6455 §7.1.2: after our Close we only wait for the peer's."""
    data = to_bytes(row.parts, server)
    for cut in CUTS:
        decoder = Decoder(server)
        decoder.ignore_messages()
        assert feed(decoder, cut(data)) == Outcome([], row.events), cut
        assert decoder.size == 0 and not decoder.in_message and not decoder.pending


@both_roles
def test_messages_can_be_ignored_from_any_byte_on(server: bool) -> None:
    """In a frame, between fragments, in the middle of a stream; the Close comes through."""
    parts: list[F | bytes] = [
        F(TEXT, "Grüße".encode(), fin=False),
        F(PING, b"between"),
        F(CONT, b"x" * 5000, fin=False),
        F(CONT, b"end"),
        F(BIN, b"y" * 200),
        F(CLOSE, close_payload(1000)),
    ]
    data = to_bytes(parts, server)
    for place in range(len(data)):
        for streaming in (False, True):
            decoder = Decoder(server)
            if streaming:
                decoder.stream(deque())
            before = feed(decoder, [data[:place]])
            decoder.ignore_messages()
            after = feed(decoder, [data[place:]])
            assert after.messages == [], place
            assert before.events + after.events == [Ping(b"between"), Close(1000)], place
            assert after.code is None


@wrongs(VIOLATIONS)
@both_roles
def test_ignored_payloads_are_not_looked_at(row: Wrong, server: bool) -> None:
    """Nobody reads them, so whether they are text does not matter; headers still do."""
    decoder = Decoder(server)
    decoder.ignore_messages()
    outcome = feed(decoder, whole(to_bytes([*row.parts, F(CLOSE)], server)))
    text_only = row.code == 1007 and not any(
        isinstance(part, F) and part.opcode == CLOSE for part in row.parts
    )
    if text_only:
        assert outcome == Outcome([], [*row.events, Close(1005)])
    else:
        assert outcome == Outcome([], row.events, row.code)
