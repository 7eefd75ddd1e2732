"""Decoder: a message given out in pieces (`stream`), and one nobody wants (`stop_stream`)."""

from __future__ import annotations

from collections import deque

import pytest

from simplews.protocol.codec import MESSAGE_OVERHEAD, Decoder, Message
from simplews.protocol.frames import Fragment, Ping
from simplews.types import Close

from .by_hand import (
    BIN,
    CLOSE,
    CONT,
    CUTS,
    PING,
    TEXT,
    Compressor,
    F,
    Outcome,
    agreement,
    feed,
    to_bytes,
)

both_roles = pytest.mark.parametrize("server", [False, True], ids=["client", "server"])


def streaming(decoder: Decoder) -> list[Message]:
    """Ask for a stream; what was held of the message comes at once."""
    messages: deque[Message] = deque()
    decoder.stream(messages)
    return list(messages)


def joined(pieces: list[Message]) -> str | bytes:
    """The message, of pieces of which exactly the last is final."""
    fragments = [piece for piece in pieces if isinstance(piece, Fragment)]
    assert len(fragments) == len(pieces)
    assert [fragment.final for fragment in fragments] == [False] * (len(pieces) - 1) + [True]
    if isinstance(fragments[0].data, str):
        return "".join(str(fragment.data) for fragment in fragments)
    return b"".join(bytes(fragment.data) for fragment in fragments)  # type: ignore[arg-type]


SAYING = "Grüße, 世界 𝄞! " * 20

KINDS: dict[str, tuple[list[F | bytes], str | bytes]] = {
    "one frame": ([F(TEXT, SAYING.encode())], SAYING),
    "binary": ([F(BIN, bytes(range(256)))], bytes(range(256))),
    "fragments": (
        [
            F(TEXT, SAYING.encode()[:10], fin=False),
            F(CONT, fin=False),
            F(PING),
            F(CONT, SAYING.encode()[10:200], fin=False),
            F(CONT, SAYING.encode()[200:]),
        ],
        SAYING,
    ),
    "an empty last fragment": ([F(BIN, b"all", fin=False), F(CONT)], b"all"),
    "long": ([F(TEXT, b"ab" * 50_000)], "ab" * 50_000),
    "long fragments": (
        [F(BIN, b"a" * 70_000, fin=False), F(CONT, b"b" * 5000, fin=False), F(CONT, b"c" * 70_000)],
        b"a" * 70_000 + b"b" * 5000 + b"c" * 70_000,
    ),
    "compressed": ([F(TEXT, Compressor().message(SAYING.encode()), rsv=4)], SAYING),
    "compressed fragments": (
        [
            F(TEXT, Compressor().message(SAYING.encode())[:7], fin=False, rsv=4),
            F(PING),
            F(CONT, Compressor().message(SAYING.encode())[7:]),
        ],
        SAYING,
    ),
    "empty": ([F(TEXT)], ""),
}
kinds = pytest.mark.parametrize("kind", KINDS)


@kinds
@both_roles
def test_pieces_of_a_stream_are_the_message(kind: str, server: bool) -> None:
    """Asked for before the message; the one behind it comes whole again."""
    frames, message = KINDS[kind]
    data = to_bytes(frames, server) + F(TEXT, b"next").to(server)
    for cut in CUTS:
        decoder = Decoder(server, agreement=agreement())
        assert streaming(decoder) == []
        *pieces, following = feed(decoder, cut(data)).messages
        assert following == "next"
        assert joined(pieces) == message, cut


@kinds
@both_roles
def test_stream_can_begin_in_every_phase_of_a_message(kind: str, server: bool) -> None:
    """In a header, a frame, a character, between fragments: what is held comes at once."""
    frames, message = KINDS[kind]
    data = to_bytes(frames, server)
    last = len(data)
    for place in sorted({*range(min(last, 150)), *range(max(0, last - 150), last), last // 2}):
        decoder = Decoder(server, agreement=agreement())
        assert feed(decoder, [data[:place]]).messages == [], place
        pieces = streaming(decoder)
        rest = feed(decoder, [data[place:], F(TEXT, b"next").to(server)]).messages
        assert rest.pop() == "next", place
        assert joined(pieces + rest) == message, place


@kinds
@both_roles
def test_stream_can_stop_in_every_phase_of_a_message(kind: str, server: bool) -> None:
    """The rest is dropped; the message behind it comes whole, compressed or not."""
    frames, _ = KINDS[kind]
    data = to_bytes(frames, server)
    compressor = Compressor()
    compressor.message(SAYING.encode())
    for place in sorted({*range(min(len(data), 150)), len(data) // 2, len(data) - 1}):
        decoder = Decoder(server, agreement=agreement())
        streaming(decoder)
        feed(decoder, [data[:place]])
        begun = decoder.in_message
        decoder.stop_stream()
        rest = feed(decoder, [data[place:], F(TEXT, b"next").to(server)]).messages
        assert rest[-1] == "next" and decoder.failure is None
        assert len(rest) == (1 if begun else 2), place
        assert not any(isinstance(message, Fragment) for message in rest)


@both_roles
def test_pieces_come_as_they_arrive(server: bool) -> None:
    """Nobody waits for the end of a frame."""
    decoder = Decoder(server)
    streaming(decoder)
    data = F(TEXT, b"abcdef").to(server)
    start = len(data) - 6
    assert feed(decoder, [data[: start + 2]]).messages == [Fragment("ab", False)]
    assert feed(decoder, [data[start + 2 : start + 5]]).messages == [Fragment("cde", False)]
    assert feed(decoder, [data[start + 5 :]]).messages == [Fragment("f", True)]
    assert feed(decoder, [data]).messages == ["abcdef"]


@both_roles
def test_piece_is_never_cut_inside_a_character(server: bool) -> None:
    """Its bytes wait for the rest of it."""
    decoder = Decoder(server)
    data = F(TEXT, "a𝄞b".encode()).to(server)
    assert feed(decoder, [data[:-3]]).messages == []  # a, and two bytes of four
    assert streaming(decoder) == [Fragment("a", False)]
    assert feed(decoder, [data[-3:-2]]).messages == []
    assert feed(decoder, [data[-2:-1]]).messages == [Fragment("𝄞", False)]
    assert feed(decoder, [data[-1:]]).messages == [Fragment("b", True)]


@both_roles
def test_stream_begun_inside_the_first_character_holds_it_back(server: bool) -> None:
    """Nothing can be given out yet, and nothing is lost."""
    decoder = Decoder(server)
    data = F(TEXT, "€".encode()).to(server)
    feed(decoder, [data[:-1]])
    assert streaming(decoder) == []
    assert feed(decoder, [data[-1:]]).messages == [Fragment("€", True)]


@both_roles
def test_empty_fragments_give_no_pieces(server: bool) -> None:
    """Only the final one does, even if it is empty."""
    decoder = Decoder(server)
    streaming(decoder)
    frames: list[F | bytes] = [F(BIN, fin=False), F(CONT, fin=False), F(CONT)]
    assert feed(decoder, [to_bytes(frames, server)]).messages == [Fragment(b"", True)]


@both_roles
def test_asking_twice_for_a_stream_gives_one(server: bool) -> None:
    """The second call changes nothing; the next message comes whole."""
    decoder = Decoder(server)
    assert streaming(decoder) == streaming(decoder) == []
    data = F(TEXT, b"abc").to(server)
    feed(decoder, [data[:-2]])
    assert streaming(decoder) == []
    assert feed(decoder, [data[-2:], data]).messages == [Fragment("bc", True), "abc"]


@both_roles
def test_stopping_before_the_message_begins_drops_nothing(server: bool) -> None:
    """There is no message yet whose rest could be dropped."""
    decoder = Decoder(server)
    streaming(decoder)
    decoder.stop_stream()
    assert feed(decoder, [F(TEXT, b"whole").to(server)]).messages == ["whole"]


@both_roles
def test_stopping_after_the_final_piece_leaves_the_next_message_alone(server: bool) -> None:
    """
    The stream's last piece waits in the queue while the next message has begun.

    A reader who leaves its stream now must not lose that one.
    """
    decoder = Decoder(server)
    streaming(decoder)
    data = to_bytes([F(TEXT, b"last piece"), F(TEXT, b"next ", fin=False)], server)
    assert feed(decoder, [data]).messages == [Fragment("last piece", True)]
    decoder.stop_stream()
    assert feed(decoder, [F(CONT, b"message").to(server)]).messages == ["next message"]


@both_roles
def test_stopping_without_a_stream_drops_nothing(server: bool) -> None:
    """Called once too often it does nothing."""
    decoder = Decoder(server)
    decoder.stop_stream()
    data = F(TEXT, b"abc").to(server)
    feed(decoder, [data[:-1]])
    decoder.stop_stream()
    assert feed(decoder, [data[-1:]]).messages == ["abc"]


@both_roles
def test_stream_asked_for_while_a_message_is_dropped_is_the_next_one(server: bool) -> None:
    """The rest of the dropped message does not come back."""
    decoder = Decoder(server)
    streaming(decoder)
    feed(decoder, [F(TEXT, "dröp".encode()[:3], fin=False).to(server)])
    decoder.stop_stream()
    assert streaming(decoder) == []
    rest = to_bytes([F(CONT, "dröp".encode()[3:]), F(TEXT, b"next"), F(TEXT, b"whole")], server)
    assert feed(decoder, [rest]).messages == [Fragment("next", True), "whole"]


@both_roles
def test_stream_asked_for_and_left_while_a_message_is_dropped(server: bool) -> None:
    """The next message then comes whole."""
    decoder = Decoder(server)
    streaming(decoder)
    feed(decoder, [F(TEXT, b"dropped", fin=False).to(server)])
    decoder.stop_stream()
    streaming(decoder)
    decoder.stop_stream()
    rest = to_bytes([F(CONT, b"still"), F(TEXT, b"next")], server)
    assert feed(decoder, [rest]).messages == ["next"]


@both_roles
def test_dropped_message_is_checked_all_the_same(server: bool) -> None:
    """RFC 6455 §8.1, and the limit, hold for what nobody reads."""
    for frames, code in (
        ([F(CONT, b"\xff")], 1007),
        ([F(CONT, b"\xe2\x82")], 1007),
        ([F(CONT, says=1000)], 1009),
        ([F(TEXT, b"interleaved")], 1002),
    ):
        decoder = Decoder(server, 100)
        streaming(decoder)
        feed(decoder, [F(TEXT, b"begun", fin=False).to(server)])
        decoder.stop_stream()
        parts: list[F | bytes] = [*frames]
        assert feed(decoder, [to_bytes(parts, server)]).code == code


@both_roles
def test_dropped_compressed_message_keeps_the_context(server: bool) -> None:
    """RFC 7692 §7.2.2: the next message may refer to the dropped one."""
    compressor = Compressor()
    first, second = compressor.message(SAYING.encode()), compressor.message(SAYING.encode())
    assert len(second) < 20
    decoder = Decoder(server, agreement=agreement())
    streaming(decoder)
    data = F(TEXT, first, rsv=4).to(server)
    feed(decoder, [data[:30]])
    decoder.stop_stream()
    assert feed(decoder, [data[30:], F(TEXT, second, rsv=4).to(server)]).messages == [SAYING]


@both_roles
def test_violations_end_a_stream(server: bool) -> None:
    """The pieces before it have been given out; a final one does not follow."""
    decoder = Decoder(server, 10)
    streaming(decoder)
    data = to_bytes([F(TEXT, b"12345", fin=False), F(CONT, says=6)], server)
    assert feed(decoder, [data]) == Outcome([Fragment("12345", False)], [], 1009)
    assert decoder.done and not decoder.in_message


@both_roles
def test_close_ends_a_stream(server: bool) -> None:
    """RFC 6455 §5.4: the message is not complete, and never will be."""
    decoder = Decoder(server)
    streaming(decoder)
    data = to_bytes([F(TEXT, b"begun", fin=False), F(PING), F(CLOSE)], server)
    outcome = feed(decoder, [data])
    assert outcome == Outcome([Fragment("begun", False)], [Ping(b""), Close(1005)])


@both_roles
def test_pieces_of_a_stream_count_their_memory(server: bool) -> None:
    """Like whole messages: a byte for each character of "grüß", two for "€"; and overhead."""
    decoder = Decoder(server)
    data = to_bytes([F(TEXT, "grüß".encode(), fin=False), F(CONT, "€".encode())], server)
    feed(decoder, [data[:-9]])
    held = streaming(decoder)
    pieces = held + feed(decoder, [data[-9:]]).messages
    assert joined(pieces) == "grüß€"
    assert decoder.size == 4 + 2 + len(pieces) * MESSAGE_OVERHEAD
