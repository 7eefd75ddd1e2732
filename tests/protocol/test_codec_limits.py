"""Decoder: what a peer can make us hold, and how reading stops and goes on."""

from __future__ import annotations

from collections import deque

import pytest

from simplews.protocol.codec import MESSAGE_OVERHEAD, Decoder, Event, Message
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
    close_payload,
    feed,
    to_bytes,
    traced,
)

both_roles = pytest.mark.parametrize("server", [False, True], ids=["client", "server"])

MB = 1024 * 1024


def slices(data: bytes, size: int = 65536) -> list[bytes]:
    """As a transport reads it."""
    return [data[start : start + size] for start in range(0, len(data), size)]


# ---------------------------------------------------------------- max_message_size


@both_roles
@pytest.mark.parametrize("opcode", [TEXT, BIN])
@pytest.mark.parametrize("limit", [0, 1, 125, 126, 1000, 65535, 65536, 70000])
def test_message_of_exactly_the_limit_is_accepted(server: bool, opcode: int, limit: int) -> None:
    """``max_message_size`` is the size that is still allowed; every message has its own."""
    data = F(opcode, b"x" * limit).to(server) * 2
    expected = ["x" * limit, "x" * limit] if opcode == TEXT else [b"x" * limit, b"x" * limit]
    for cut in CUTS:
        assert feed(Decoder(server, limit), cut(data)) == Outcome(list(expected))


@both_roles
@pytest.mark.parametrize("limit", [0, 1, 125, 126, 1000, 65535, 65536, 70000])
def test_message_over_the_limit_fails_at_its_header(server: bool, limit: int) -> None:
    """RFC 6455 §10.4: 1009, before a byte of payload is there."""
    decoder = Decoder(server, limit)
    assert feed(decoder, [F(BIN, says=limit + 1).to(server)]).code == 1009
    assert decoder.failure is not None
    assert str(limit + 1) in decoder.failure.reason and str(limit) in decoder.failure.reason


@both_roles
def test_fragments_over_the_limit_together_fail_at_a_header(server: bool) -> None:
    """The limit is the message's, not the frame's."""
    frames: list[F | bytes] = [F(TEXT, b"x" * 60, fin=False), F(PING, b"p" * 125), F(CONT, says=41)]
    for cut in CUTS:
        outcome = feed(Decoder(server, 100), cut(to_bytes(frames, server)))
        assert outcome == Outcome([], [Ping(b"p" * 125)], 1009)
    frames[-1] = F(CONT, b"x" * 40)
    for cut in CUTS:
        outcome = feed(Decoder(server, 100), cut(to_bytes(frames, server)))
        assert outcome == Outcome(["x" * 100], [Ping(b"p" * 125)])


@both_roles
def test_limit_starts_anew_with_each_message(server: bool) -> None:
    """What an earlier message had does not count."""
    frames: list[F | bytes] = [F(BIN, b"x" * 60, fin=False), F(CONT, b"x" * 40)] * 3
    outcome = feed(Decoder(server, 100), [to_bytes(frames, server)])
    assert outcome == Outcome([b"x" * 100] * 3)


@both_roles
def test_limit_counts_bytes_after_inflating(server: bool) -> None:
    """A compressed message of 1000 bytes, limits of 1000 and 999."""
    data = F(BIN, Compressor().message(b"x" * 1000), rsv=4).to(server)
    assert len(data) < 100
    for cut in CUTS:
        assert feed(Decoder(server, 1000, agreement()), cut(data)) == Outcome([b"x" * 1000])
        assert feed(Decoder(server, 999, agreement()), cut(data)).code == 1009


@both_roles
def test_limit_does_not_count_compressed_bytes(server: bool) -> None:
    """Data that cannot be compressed grows a little on the wire."""
    payload = bytes(range(100))
    compressed = Compressor(level=0).message(payload)
    assert len(compressed) > len(payload)
    data = F(BIN, compressed, rsv=4).to(server)
    assert feed(Decoder(server, 100, agreement()), [data]) == Outcome([payload])


@both_roles
def test_compressed_fragments_count_together(server: bool) -> None:
    """The limit over all fragments, inflated."""
    compressed = Compressor().message(bytes(1000))
    frames: list[F | bytes] = [
        F(BIN, compressed[:3], fin=False, rsv=4),
        F(PING),
        F(CONT, compressed[3:]),
    ]
    for cut in CUTS:
        data = to_bytes(frames, server)
        assert feed(Decoder(server, 1000, agreement()), cut(data)).messages == [bytes(1000)]
        assert feed(Decoder(server, 999, agreement()), cut(data)).code == 1009


@both_roles
def test_control_frames_are_not_limited_by_the_message_size(server: bool) -> None:
    """They have their own limit of 125 bytes (RFC 6455 §5.5)."""
    frames: list[F | bytes] = [F(PING, b"p" * 125), F(CLOSE, close_payload(1000, b"r" * 123))]
    outcome = feed(Decoder(server, 0), [to_bytes(frames, server)])
    assert outcome == Outcome([], [Ping(b"p" * 125), Close(1000, "r" * 123)])


# ------------------------------------------------------------------------- memory


@both_roles
@pytest.mark.parametrize("limit", [None, 1 << 60])
def test_long_length_with_nothing_behind_it_allocates_nothing(
    server: bool, limit: int | None
) -> None:
    """Nothing is set aside ahead of the bytes: a header of 14 bytes costs no more."""
    data = F(BIN, says=1 << 60).to(server)
    decoder = Decoder(server, limit)
    with traced() as peak:
        outcome = feed(decoder, [data, b"x"])
    assert outcome == Outcome() and decoder.in_message
    assert peak.size < 8192


@pytest.mark.parametrize("compressed", [False, True], ids=["plain", "compressed"])
def test_empty_fragments_hold_nothing(compressed: bool) -> None:
    """RELIABILITY: "a million empty fragments: at most 2 MB"; here, two bytes for each."""
    count = 65536
    decoder = Decoder(False, MB, agreement() if compressed else None)
    start = F(TEXT, fin=False, rsv=4 if compressed else 0).to(False)
    pieces = slices(F(CONT, fin=False).to(False) * count)
    # An empty message is one byte when compressed (RFC 7692 §7.2.3.6).
    end = F(CONT, b"\0" if compressed else b"").to(False)
    with traced() as peak:
        assert feed(decoder, [start, *pieces, end]) == Outcome([""])
    assert peak.size < 2 * count


@both_roles
def test_fragments_of_one_byte_are_collected(server: bool) -> None:
    """An object for each byte would cost forty times the message."""
    count = 30_000
    data = F(BIN, b"x", fin=False).to(server) + F(CONT, b"x", fin=False).to(server) * (count - 2)
    pieces = [*slices(data), F(CONT, b"x").to(server)]
    with traced() as peak:
        outcome = feed(Decoder(server), pieces)
    assert outcome == Outcome([b"x" * count])
    assert peak.size < 4 * count + 2 * 65536


@both_roles
def test_bytes_that_drip_into_a_frame_are_collected(server: bool) -> None:
    """The same for one frame that arrives byte by byte."""
    count = 20_000
    data = F(BIN, b"x" * count).to(server)
    pieces = [data[i : i + 1] for i in range(len(data))]
    with traced() as peak:
        outcome = feed(Decoder(server), pieces)
    assert outcome == Outcome([b"x" * count])
    assert peak.size < 4 * count + 2 * 65536


@both_roles
@pytest.mark.parametrize("opcode", [TEXT, BIN])
def test_large_message_takes_at_most_twice_its_size(server: bool, opcode: int) -> None:
    """RELIABILITY: "receive of 100 MB: at most 2.0 times the message in memory"; here 8."""
    size = 8 * MB
    pieces = slices(F(opcode, b"x" * size).to(server))
    decoder = Decoder(server)
    messages: deque[Message] = deque()
    with traced() as peak:
        for piece in pieces:
            decoder.feed(piece, messages, [])
    assert len(messages) == 1
    # The text is a second copy beside its joined bytes, in place of the pieces.
    assert peak.size < 2.1 * size


@both_roles
def test_dropped_message_is_not_held(server: bool) -> None:
    """A stream that nobody reads any more costs no memory, however long it is."""
    size = 4 * MB
    first, *rest = slices(F(TEXT, b"x" * size).to(server))
    decoder = Decoder(server)
    messages: deque[Message] = deque()
    decoder.stream(messages)
    decoder.feed(first, messages, [])
    messages.clear()
    decoder.stop_stream()
    with traced() as peak:
        for piece in rest:
            decoder.feed(piece, messages, [])
    assert not messages and not decoder.in_message
    assert peak.size < 4 * 65536


# ----------------------------------------------------------------- stop and go on


def drain(decoder: Decoder, data: bytes, *, most: int, budget: int = 1 << 62) -> Outcome:
    """Feed *data*; whenever the decoder stops, take all messages away and go on."""
    messages: deque[Message] = deque()
    events: list[Event] = []
    taken: list[Message] = []
    more = decoder.feed(data, messages, events, budget, most)
    while more:
        assert decoder.pending
        taken += messages
        messages.clear()
        decoder.size = 0
        more = decoder.feed(b"", messages, events, budget, most)
    assert not decoder.pending
    taken += messages
    failure = decoder.failure
    return Outcome(taken, events, None if failure is None else failure.close_code)


MIXED: list[F | bytes] = [
    F(TEXT, b"one"),
    F(PING, b"1"),
    F(BIN, b"two", fin=False),
    F(PING, b"2"),
    F(CONT, b" and"),
    F(TEXT),
    F(BIN, b"x" * 70000),
    F(TEXT, "drei €".encode()),
]
MIXED_OUTCOME = Outcome(["one", b"two and", "", b"x" * 70000, "drei €"], [Ping(b"1"), Ping(b"2")])


@both_roles
@pytest.mark.parametrize("most", [1, 2, 3, 100])
@pytest.mark.parametrize("budget", [0, 1, 64, 70, 200, 1 << 62])
def test_nothing_is_lost_when_reading_stops_and_goes_on(
    server: bool, most: int, budget: int
) -> None:
    """``feed(b"")`` goes on where *most* or *budget* stopped it."""
    data = to_bytes(MIXED, server)
    assert drain(Decoder(server), data, most=most, budget=budget) == MIXED_OUTCOME


@both_roles
def test_reading_stops_when_there_are_enough_messages(server: bool) -> None:
    """*most* counts the messages that wait, those from before included."""
    decoder = Decoder(server)
    messages: deque[Message] = deque(["from before"])
    data = F(TEXT, b"x").to(server) * 5
    assert decoder.feed(data, messages, [], most=3) is True
    assert list(messages) == ["from before", "x", "x"]
    assert decoder.pending
    messages.popleft()
    assert decoder.feed(b"", messages, [], most=3) is True
    assert list(messages) == ["x", "x", "x"]
    messages.clear()
    assert decoder.feed(b"", messages, [], most=3) is False
    assert list(messages) == ["x", "x"]
    assert not decoder.pending


@both_roles
def test_reading_stops_after_the_message_that_exceeds_the_budget(server: bool) -> None:
    """Equal to the budget is not over it; a message that is there is never held back."""
    data = F(BIN, b"x" * 36).to(server) * 4  # each counts 100
    for budget, expected in [(0, 1), (99, 1), (100, 2), (199, 2), (200, 3), (299, 3), (300, 4)]:
        decoder = Decoder(server)
        messages: deque[Message] = deque()
        assert decoder.feed(data, messages, [], budget) is (expected < 4)
        assert len(messages) == expected
        assert decoder.size == expected * (36 + MESSAGE_OVERHEAD)


@both_roles
def test_input_that_ends_where_reading_stopped_leaves_nothing(server: bool) -> None:
    """True means that input is left, not that there are enough messages."""
    decoder = Decoder(server)
    messages: deque[Message] = deque()
    assert decoder.feed(F(TEXT, b"x").to(server), messages, [], most=1) is False
    assert not decoder.pending


@both_roles
def test_reader_with_no_room_reads_nothing(server: bool) -> None:
    """Bytes that come although there is no room wait, in their order."""
    decoder = Decoder(server)
    messages: deque[Message] = deque(["full"])
    data = to_bytes(MIXED, server)
    for i in range(0, len(data), 7000):
        assert decoder.feed(data[i : i + 7000], messages, [], most=1) is True
    assert list(messages) == ["full"]
    assert drain(decoder, b"", most=1) == MIXED_OUTCOME


@both_roles
def test_control_frames_behind_the_stop_wait_with_the_messages(server: bool) -> None:
    """A Close that arrived behind messages is seen after them."""
    decoder = Decoder(server)
    messages: deque[Message] = deque()
    events: list[Event] = []
    data = to_bytes([F(TEXT, b"a"), F(PING), F(TEXT, b"b"), F(CLOSE)], server)
    assert decoder.feed(data, messages, events, most=1) is True
    assert (list(messages), events, decoder.done) == (["a"], [], False)
    messages.clear()
    assert decoder.feed(b"", messages, events, most=1) is True
    assert (list(messages), events, decoder.done) == (["b"], [Ping(b"")], False)
    messages.clear()
    assert decoder.feed(b"", messages, events, most=1) is False
    assert (list(messages), events, decoder.done) == ([], [Ping(b""), Close(1005)], True)


@both_roles
def test_violation_behind_the_stop_is_found_when_reading_goes_on(server: bool) -> None:
    """The messages before it can all be taken first."""
    decoder = Decoder(server)
    messages: deque[Message] = deque()
    data = to_bytes([F(TEXT, b"a"), F(TEXT, b"b"), F(3)], server)
    assert decoder.feed(data, messages, [], most=1) is True
    assert decoder.failure is None
    assert decoder.feed(b"", messages, [], most=2) is True
    assert decoder.failure is None
    assert decoder.feed(b"", messages, [], most=3) is False
    assert list(messages) == ["a", "b"]
    assert decoder.failure is not None and decoder.failure.close_code == 1002


@both_roles
def test_incomplete_frame_is_not_pending(server: bool) -> None:
    """
    `pending` means that ``feed(b"")`` could get further; half a header cannot.

    A link that takes it for messages in waiting never tells its reader that the
    connection has ended.
    """
    for data in (F(TEXT, b"Hello"), F(PING, b"Hello"), F(CLOSE), F(BIN, says=70000)):
        for size in range(1, len(data.to(server))):
            decoder = Decoder(server)
            feed(decoder, [F(TEXT, b"before").to(server) + data.to(server)[:size]])
            assert not decoder.pending, size


@both_roles
def test_incomplete_frame_behind_the_stop_is_not_pending_in_the_end(server: bool) -> None:
    """What was left was not a message after all."""
    decoder = Decoder(server)
    messages: deque[Message] = deque()
    data = F(TEXT, b"Hello").to(server)
    assert decoder.feed(data + data[:-1], messages, [], most=1) is True
    assert decoder.pending
    messages.clear()
    assert decoder.feed(b"", messages, [], most=1) is False
    assert not decoder.pending and decoder.in_message
    assert feed(decoder, [data[-1:]]) == Outcome(["Hello"])


@both_roles
def test_stream_stops_and_goes_on_like_messages(server: bool) -> None:
    """Pieces count for *most* and *budget*."""
    decoder = Decoder(server)
    messages: deque[Message] = deque()
    decoder.stream(messages)
    data = to_bytes([F(TEXT, b"a", fin=False), F(CONT, b"b", fin=False), F(CONT, b"c")], server)
    assert decoder.feed(data, messages, [], most=2) is True
    assert list(messages) == [Fragment("a", False), Fragment("b", False)]
    assert decoder.size == 2 * (1 + MESSAGE_OVERHEAD)
    messages.clear()
    assert decoder.feed(b"", messages, [], most=2) is False
    assert list(messages) == [Fragment("c", True)]
