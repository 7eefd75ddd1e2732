"""Decoder: compressed messages as RFC 7692 §7.2 allows them, and as it does not."""

from __future__ import annotations

import zlib

import pytest

from simplews.protocol.codec import Decoder, Message
from simplews.protocol.deflate import INFLATE_LIMIT, Agreement, Deflate
from simplews.protocol.frames import Ping, Pong

from .by_hand import (
    BIN,
    CONT,
    CUTS,
    PING,
    PONG,
    TEXT,
    Compressor,
    F,
    Outcome,
    agreement,
    feed,
    to_bytes,
    traced,
)

both_roles = pytest.mark.parametrize("server", [False, True], ids=["client", "server"])

MB = 1024 * 1024
COMPRESSED = 4  # RSV1

HELLO = bytes.fromhex("f2 48 cd c9 c9 07 00")  # §7.2.3.1
TEXT_OF_MANY = "Grüße, 世界! " * 50


def message(payload: bytes, opcode: int = TEXT) -> F:
    """One compressed message in one frame."""
    return F(opcode, payload, rsv=COMPRESSED)


def check(
    frames: list[F | bytes], expected: Outcome, server: bool, agreed: Agreement | None = None
) -> None:
    data = to_bytes(frames, server)
    for cut in CUTS:
        decoder = Decoder(server, 10 * MB, agreed or agreement())
        assert feed(decoder, cut(data)) == expected, cut
        assert not decoder.pending


# What a whole message may look like, and what it means.
LEGAL = {
    "§7.2.3.1 one block": (HELLO, "Hello"),
    "§7.2.3.3 a stored block": (bytes.fromhex("00 05 00 fa ff 48 65 6c 6c 6f 00"), "Hello"),
    "§7.2.3.4 a block with BFINAL": (bytes.fromhex("f3 48 cd c9 c9 07 00 00"), "Hello"),
    "§7.2.3.5 two blocks": (bytes.fromhex("f2 48 05 00 00 00 ff ff ca c9 c9 07 00"), "Hello"),
    "§7.2.3.6 an empty message": (b"\x00", ""),
    "an empty stored block": (bytes.fromhex("00 00 00 ff ff 00"), ""),
    "an empty block with BFINAL": (bytes.fromhex("03 00 00"), ""),
    "an empty block with BFINAL alone": (bytes.fromhex("03 00"), ""),
    "a block with BFINAL alone": (bytes.fromhex("f3 48 cd c9 c9 07 00"), "Hello"),
    "two blocks with BFINAL": (bytes.fromhex("f3 48 cd c9 c9 07 00") * 2 + b"\0", "HelloHello"),
    "a block behind one with BFINAL": (bytes.fromhex("f3 48 cd c9 c9 07 00") + HELLO, "HelloHello"),
    "no bytes at all": (b"", ""),
}


@pytest.mark.parametrize("name", LEGAL)
@both_roles
@pytest.mark.parametrize("takeover", [True, False], ids=["takeover", "no takeover"])
def test_every_legal_form_of_a_message_is_inflated(name: str, server: bool, takeover: bool) -> None:
    """And the next message inflates as well, with the same window or a new one."""
    payload, text = LEGAL[name]
    frames: list[F | bytes] = [message(payload), message(HELLO), message(payload), message(HELLO)]
    agreed = agreement(remote_takeover=takeover)
    check(frames, Outcome([text, "Hello", text, "Hello"]), server, agreed)


@pytest.mark.parametrize("name", LEGAL)
@both_roles
def test_every_legal_form_may_be_fragmented(name: str, server: bool) -> None:
    """RFC 7692 §7.2.1: fragments are cut anywhere; RSV1 is on the first alone."""
    payload, text = LEGAL[name]
    for place in range(len(payload) + 1):
        frames: list[F | bytes] = [
            F(TEXT, payload[:place], fin=False, rsv=COMPRESSED),
            F(CONT, fin=False),
            F(CONT, payload[place:]),
            message(HELLO),
        ]
        check(frames, Outcome([text, "Hello"]), server)


@both_roles
def test_message_may_refer_to_an_earlier_one(server: bool) -> None:
    """RFC 7692 §7.2.3.2: the second Hello is the RFC's five bytes."""
    again = bytes.fromhex("f2 00 11 00 00")
    check([message(HELLO), message(again)], Outcome(["Hello", "Hello"]), server)
    # Without takeover there is nothing to refer to.
    agreed = agreement(remote_takeover=False)
    check([message(HELLO), message(again)], Outcome(["Hello"], [], 1007), server, agreed)


@both_roles
def test_context_survives_what_is_not_compressed(server: bool) -> None:
    """Plain messages, empty ones and control frames leave the window alone."""
    compressor = Compressor()
    text = TEXT_OF_MANY.encode()
    between: list[F | bytes] = [F(TEXT, b"plain"), F(PING), F(BIN), message(b"\0"), message(b"")]
    frames: list[F | bytes] = [
        message(compressor.message(text)),
        *between,
        message(compressor.message(text)),
        *between,
        message(compressor.message(b"bytes"), BIN),
    ]
    middle: list[Message] = ["plain", b"", "", ""]
    expected = [TEXT_OF_MANY, *middle, TEXT_OF_MANY, *middle, b"bytes"]
    check(frames, Outcome(expected, [Ping(b"")] * 2), server)


@both_roles
def test_control_frames_between_compressed_fragments_are_read_at_once(server: bool) -> None:
    """
    RFC 6455 §5.4, RFC 7692 §6.1: control frames are neither compressed nor the message's.

    wsproto 1.3.2 forgets here that the message is compressed.
    """
    payload = Compressor().message(TEXT_OF_MANY.encode())
    decoder = Decoder(server, agreement=agreement())
    first = to_bytes([F(TEXT, payload[:9], fin=False, rsv=4), F(PING, b"p"), F(PONG)], server)
    assert feed(decoder, [first]) == Outcome([], [Ping(b"p"), Pong(b"")])
    rest = to_bytes([F(CONT, payload[9:20], fin=False), F(PING), F(CONT, payload[20:])], server)
    assert feed(decoder, [rest]) == Outcome([TEXT_OF_MANY], [Ping(b"")])


@both_roles
@pytest.mark.parametrize("bits", range(8, 16))
@pytest.mark.parametrize("takeover", [True, False], ids=["takeover", "no takeover"])
def test_every_window_is_inflated(server: bool, bits: int, takeover: bool) -> None:
    """
    RFC 7692 §7.1.2: the peer may use up to what was agreed.

    zlib cannot make or read a raw window of 256 bytes (8); a peer that can make one
    is read with 512, which holds it.
    """
    data = bytes(range(97)) * 700  # refers 97 bytes back, within every window
    used = max(bits, 9)
    compressor = Compressor(used)
    frames: list[F | bytes] = []
    for _ in range(3):
        if not takeover:
            compressor = Compressor(used)
        frames.append(message(compressor.message(data), BIN))
    agreed = agreement(remote_bits=bits, remote_takeover=takeover)
    check(frames, Outcome([data] * 3), server, agreed)


@both_roles
def test_window_larger_than_agreed_is_a_violation(server: bool) -> None:
    """What an earlier message had further back than 2**bits is gone."""
    compressor = Compressor(15)
    first, second = bytes(range(256)) + bytes(5000), bytes(range(256))
    frames: list[F | bytes] = [message(compressor.message(data), BIN) for data in (first, second)]
    check(frames, Outcome([first, second]), server)
    check(frames, Outcome([first], [], 1007), server, agreement(remote_bits=9))


@both_roles
@pytest.mark.parametrize("level", range(10))
def test_every_level_is_inflated(server: bool, level: int) -> None:
    """Level 0 makes stored blocks only."""
    compressor = Compressor(level=level)
    text = TEXT_OF_MANY.encode()
    frames: list[F | bytes] = [message(compressor.message(text)) for _ in range(2)]
    check(frames, Outcome([TEXT_OF_MANY] * 2), server)


@both_roles
def test_agreement_does_not_force_compression(server: bool) -> None:
    """RFC 7692 §6: RSV1 tells, message by message."""
    frames: list[F | bytes] = [F(TEXT, b"plain"), message(HELLO), F(TEXT, b"plain")]
    check(frames, Outcome(["plain", "Hello", "plain"]), server)


@both_roles
@pytest.mark.parametrize(
    "payload",
    [
        b"\xff\xff\xff\xff",  # a block of the reserved kind
        b"\x06",  # likewise
        b"\x00\x05\x00\x00\x00Hello",  # a stored block whose length does not match
        b"\xf2\x00\x11\x00\x00",  # refers to what never was
    ],
    ids=lambda payload: payload.hex(),
)
def test_corrupt_data_is_a_violation(server: bool, payload: bytes) -> None:
    """Choice: 1007, data "not consistent with the type of the message" (RFC 6455 §7.4.1)."""
    check([message(payload, BIN)], Outcome([], [], 1007), server)
    check([F(TEXT, b"before"), message(payload)], Outcome(["before"], [], 1007), server)


@both_roles
def test_inflated_text_is_checked_for_utf8(server: bool) -> None:
    """RFC 6455 §8.1 holds after inflating, across fragments as well."""
    for text in (b"\xff", b"ok\xed\xa0\x80", b"cut \xe2\x82", b"a" * 5000 + b"\xc3"):
        payload = Compressor().message(text)
        check([message(payload)], Outcome([], [], 1007), server)
        check([message(payload, BIN)], Outcome([text]), server)
        halves: list[F | bytes] = [
            F(TEXT, payload[:3], fin=False, rsv=COMPRESSED),
            F(CONT, payload[3:]),
        ]
        check(halves, Outcome([], [], 1007), server)


@both_roles
def test_character_may_be_cut_by_a_compressed_fragment(server: bool) -> None:
    """Its bytes inflate at different times."""
    payload = Compressor(level=0).message("𝄞".encode())
    for place in range(len(payload)):
        frames: list[F | bytes] = [
            F(TEXT, payload[:place], fin=False, rsv=COMPRESSED),
            F(CONT, payload[place:]),
        ]
        check(frames, Outcome(["𝄞"]), server)


@both_roles
@pytest.mark.parametrize("rsv", [2, 1, 6, 5, 3, 7])
def test_other_reserved_bits_stay_forbidden(server: bool, rsv: int) -> None:
    """RFC 6455 §5.2: permessage-deflate has RSV1 alone."""
    check([F(TEXT, HELLO, rsv=rsv)], Outcome([], [], 1002), server)


@both_roles
@pytest.mark.parametrize("opcode", [8, 9, 10])
def test_compressed_control_frame_is_a_violation(server: bool, opcode: int) -> None:
    """RFC 7692 §6.1."""
    check([F(opcode, HELLO, rsv=COMPRESSED)], Outcome([], [], 1002), server)


@both_roles
def test_reserved_bit_on_a_continuation_is_a_violation(server: bool) -> None:
    """RFC 7692 §6.1: RSV1 "on the first fragment" only, whatever that one has."""
    for rsv in (0, COMPRESSED):
        frames: list[F | bytes] = [
            F(BIN, b"", fin=False, rsv=rsv),
            F(CONT, HELLO, rsv=COMPRESSED),
        ]
        check(frames, Outcome([], [], 1002), server)


# -------------------------------------------------------------------------- bombs


def bomb(megabytes: int) -> bytes:
    """A message of that many megabytes of zeros, about a kilobyte for each."""
    stream = zlib.compressobj(9, zlib.DEFLATED, -15)
    one = stream.compress(bytes(MB)) + stream.flush(zlib.Z_FULL_FLUSH)
    return one * megabytes + b"\0"


@both_roles
@pytest.mark.parametrize("read", [1 << 62, 65536, 1000], ids=["at once", "64 KiB", "1000 bytes"])
def test_bomb_fails_within_bounds(server: bool, read: int) -> None:
    """RELIABILITY: "compressed bomb, 1 MB to 1 GB, limit 1 MB: 1009, at most 6 MB"."""
    payload = bomb(1024)
    assert 0.9 * MB < len(payload) < 1.1 * MB
    data = F(BIN, payload, rsv=COMPRESSED).to(server)
    pieces = [data[at : at + read] for at in range(0, len(data), read)]
    decoder = Decoder(server, MB, agreement())
    with traced() as peak:
        outcome = feed(decoder, pieces)
    assert outcome == Outcome([], [], 1009)
    assert peak.size < 6 * MB


@both_roles
def test_bomb_of_fragments_fails_within_bounds(server: bool) -> None:
    """Each fragment inflates to half the limit."""
    stream = zlib.compressobj(9, zlib.DEFLATED, -15)
    half = stream.compress(bytes(MB // 2)) + stream.flush(zlib.Z_FULL_FLUSH)
    frames: list[F | bytes] = [F(BIN, half, fin=False, rsv=COMPRESSED)]
    frames += [F(CONT, half, fin=False)] * 1000
    data = to_bytes(frames, server)
    decoder = Decoder(server, MB, agreement())
    with traced() as peak:
        outcome = feed(decoder, [data])
    assert outcome == Outcome([], [], 1009)
    assert peak.size < 6 * MB


@both_roles
def test_bomb_of_final_blocks_fails_within_bounds(server: bool) -> None:
    """A new zlib stream for each block must not start to count anew."""
    stream = zlib.compressobj(9, zlib.DEFLATED, -15)
    block = stream.compress(bytes(MB // 2)) + stream.flush(zlib.Z_FINISH)
    data = F(BIN, block * 1000, rsv=COMPRESSED).to(server)
    decoder = Decoder(server, MB, agreement())
    with traced() as peak:
        outcome = feed(decoder, [data])
    assert outcome == Outcome([], [], 1009)
    assert peak.size < 6 * MB


@both_roles
def test_ignored_bomb_is_not_inflated(server: bool) -> None:
    """After our Close payloads cost nothing (`Decoder.ignore_messages`)."""
    data = F(BIN, bomb(100), rsv=COMPRESSED).to(server) + F(PING).to(server)
    decoder = Decoder(server, MB, agreement())
    decoder.ignore_messages()
    with traced() as peak:
        outcome = feed(decoder, [data])
    assert outcome == Outcome([], [Ping(b"")])
    assert peak.size < 3 * len(data)


def test_inflating_is_bounded_without_a_limit() -> None:
    """``max_message_size=None`` still bounds what a compressed message becomes."""
    assert INFLATE_LIMIT == 64 * MB
    payload = bomb(64)
    data = F(BIN, payload, rsv=COMPRESSED).to(False)
    decoder = Decoder(False, None, agreement())
    (whole,) = feed(decoder, [data]).messages
    assert len(whole) == INFLATE_LIMIT  # type: ignore[arg-type]
    over = F(BIN, payload[:-1] + HELLO, rsv=COMPRESSED).to(False)
    assert feed(decoder, [over]) == Outcome([], [], 1009)


@both_roles
def test_limit_of_zero_refuses_what_is_not_empty(server: bool) -> None:
    """zlib would take 0 for "no limit"."""
    data = to_bytes([message(b"\0"), message(b""), message(HELLO)], server)
    assert feed(Decoder(server, 0, agreement()), [data]) == Outcome(["", ""], [], 1009)


# ------------------------------------------------------------------- what it costs


def test_decoder_that_has_inflated_nothing_holds_no_window() -> None:
    """An idle connection costs no 40 KB."""
    agreed = agreement()
    with traced() as peak:
        decoders = [Decoder(True, MB, agreed) for _ in range(50)]
    assert peak.size / len(decoders) < 4096


def test_decoder_without_takeover_holds_no_window_between_messages() -> None:
    """`context_takeover=False` is for servers of many quiet connections."""
    agreed = Agreement(15, 15, True, False, Deflate())
    data = message(HELLO).to(True)
    decoders = [Decoder(True, MB, agreed) for _ in range(50)]
    feed(Decoder(True, MB, agreed), [data])
    with traced() as held:
        for decoder in decoders:
            feed(decoder, [data])
    # The peak has one window, not fifty.
    assert held.size < 2 * 65536
