"""A client's and a server's codec joined in memory, both states asserted at every step.

Hypothesis draws what was agreed, what both ends send, how the bytes are cut, how
much either end takes at a time, and when it reads a message as a stream.
"""

from __future__ import annotations

from collections import deque
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
)

from simplews.protocol.codec import Decoder, Encoder, Event, Message
from simplews.protocol.deflate import Agreement, Deflate
from simplews.protocol.frames import Fragment, Ping, Pong, check_close, serialize_close
from simplews.protocol.handshake import (
    Accepted,
    ClientHandshake,
    accept_request,
    check_upgrade,
    parse_request,
)

from .by_hand import BIN, CLOSE, CONT, PING, PONG, TEXT, traced


def agree(
    client: Deflate | None, server: Deflate | None
) -> tuple[Agreement | None, Agreement | None]:
    """Both sides' agreements, from a whole opening handshake."""
    handshake = ClientHandshake("localhost", "/", compression=client)
    request = parse_request(handshake.request)
    check_upgrade(request)
    theirs = accept_request(request, None, server)
    ours = handshake.feed_head(theirs.head)
    assert isinstance(ours, Accepted)
    return ours.agreement, theirs.agreement


compressions = st.none() | st.builds(
    Deflate,
    threshold=st.sampled_from([0, 1, 20, 256]),
    level=st.sampled_from([0, 1, 6, 9]),
    mem_level=st.integers(1, 9),
    window_bits=st.integers(9, 15),
    context_takeover=st.booleans(),
)

# Long ones are made of short ones: Hypothesis prints what it has drawn.
long_texts = st.sampled_from([("ä€𝄞", 50), ("x", 5000), ("-", 70_000)])
long_binaries = st.sampled_from([(b"\0", 126), (bytes(range(9)), 700), (b"\xff", 70_000)])
texts = st.text(max_size=40) | long_texts.map(lambda pair: pair[0] * pair[1])
binaries = st.binary(max_size=40) | long_binaries.map(lambda pair: pair[0] * pair[1])
wishes = st.sampled_from([None, True, False])
sides = st.sampled_from([0, 1])


class End:
    """One end: its codec, what has come, and what the other end has sent."""

    def __init__(self, server: bool, agreement: Agreement | None) -> None:
        self.encoder = Encoder(server, agreement)
        self.decoder = Decoder(server, 100_000, agreement)
        self.incoming = bytearray()  # on its way here
        self.expected: deque[str | bytes] = deque()
        self.expected_events: deque[Event] = deque()
        self.events: list[Event] = []
        self.streaming = False
        self.pieces: list[str | bytes] = []  # of the message that is read as a stream

    def take(self, message: Message) -> None:
        """Compare a message, or the last piece of one, with what was sent."""
        if isinstance(message, Fragment):
            assert self.streaming
            self.pieces.append(message.data)
            if not message.final:
                assert message.data
                return
            self.streaming = False
            empty = message.data[:0]
            message = empty.join(self.pieces)  # type: ignore[arg-type]
            self.pieces = []
        else:
            assert not self.streaming
        assert message == self.expected.popleft()

    def feed(self, data: bytes, most: int, budget: int) -> None:
        """Read *data* until nothing of it waits."""
        messages: deque[Message] = deque()
        more = self.decoder.feed(data, messages, self.events, budget, most)
        while True:
            assert more == self.decoder.pending
            assert len(messages) <= most
            while messages:
                self.take(messages.popleft())
            if not more:
                break
            self.decoder.size = 0
            more = self.decoder.feed(b"", messages, self.events, budget, most)
        self.decoder.size = 0
        for event in self.events:
            assert event == self.expected_events.popleft()
        self.events.clear()


class TwoEnds(RuleBasedStateMachine):
    """What one end sends arrives at the other, once, whole and in its order."""

    @initialize(client=compressions, server=compressions)
    def open(self, client: Deflate | None, server: Deflate | None) -> None:
        ours, theirs = agree(client, server)
        assert (ours is None) == (theirs is None) == (client is None or server is None)
        self.ends = [End(False, ours), End(True, theirs)]
        self.closed = [False, False]

    def write(self, side: int, data: bytes) -> None:
        self.ends[1 - side].incoming += data

    def is_open(self, side: int) -> bool:
        return not self.closed[side]

    @rule(side=sides, message=texts | binaries, compress=wishes)
    def send_a_message(self, side: int, message: str | bytes, compress: bool | None) -> None:
        if self.closed[side]:
            return
        encoder = self.ends[side].encoder
        payload = message.encode() if isinstance(message, str) else message
        opcode = TEXT if isinstance(message, str) else BIN
        if encoder.wants_deflate(len(payload), compress):
            self.write(side, encoder.frame(opcode, encoder.deflate(payload, True), True, True))
        else:
            self.write(side, encoder.message(opcode, payload))
        self.ends[1 - side].expected.append(message)

    @rule(
        side=sides,
        parts=st.lists(texts, min_size=1, max_size=4) | st.lists(binaries, min_size=1, max_size=4),
        compress=st.booleans(),
        control=st.binary(max_size=125),
    )
    def send_fragments(self, side: int, parts: list[Any], compress: bool, control: bytes) -> None:
        """Control frames between them, the message being compressed or not."""
        whole = parts[0][:0].join(parts)
        if self.closed[side] or len(whole.encode() if isinstance(whole, str) else whole) > 100_000:
            return
        encoder, peer = self.ends[side].encoder, self.ends[1 - side]
        compress = compress and encoder.wants_deflate(0, True)
        for index, part in enumerate(parts):
            payload = part.encode() if isinstance(part, str) else part
            final = index == len(parts) - 1
            if compress:
                payload = encoder.deflate(payload, final)
            opcode = CONT if index else TEXT if isinstance(part, str) else BIN
            self.write(side, encoder.frame(opcode, payload, final, compress and not index))
            if not final:
                self.write(side, encoder.frame(PING, control))
                peer.expected_events.append(Ping(control))
        peer.expected.append(whole)

    @rule(side=sides, payload=st.binary(max_size=125), ping=st.booleans())
    def send_a_control_frame(self, side: int, payload: bytes, ping: bool) -> None:
        if self.closed[side]:
            return
        self.write(side, self.ends[side].encoder.frame(PING if ping else PONG, payload))
        event = Ping(payload) if ping else Pong(payload)
        self.ends[1 - side].expected_events.append(event)

    @rule(
        side=sides,
        share=st.floats(0, 1),
        most=st.integers(1, 4),
        budget=st.sampled_from([0, 100, 10_000, 1 << 62]),
    )
    def deliver(self, side: int, share: float, most: int, budget: int) -> None:
        """Some of the bytes arrive."""
        end = self.ends[side]
        size = int(len(end.incoming) * share)
        data = bytes(end.incoming[:size])
        del end.incoming[:size]
        end.feed(data, most, budget)

    @rule(side=sides, size=st.integers(1, 20))
    def drip(self, side: int, size: int) -> None:
        """A few bytes arrive one by one."""
        end = self.ends[side]
        for _ in range(min(size, len(end.incoming))):
            byte = bytes(end.incoming[:1])
            del end.incoming[:1]
            end.feed(byte, 1 << 62, 1 << 62)

    @rule(side=sides)
    def begin_a_stream(self, side: int) -> None:
        end = self.ends[side]
        if end.decoder.done:
            return
        messages: deque[Message] = deque()
        end.streaming = True
        end.decoder.stream(messages)
        while messages:
            end.take(messages.popleft())

    @rule(side=sides)
    def leave_the_stream(self, side: int) -> None:
        """The message that has begun is dropped; one that has not comes whole."""
        end = self.ends[side]
        dropping = end.decoder._dropping
        if end.streaming and end.decoder.in_message and not dropping:
            end.expected.popleft()
        end.decoder.stop_stream()
        end.streaming = False
        end.pieces = []

    @precondition(lambda self: not any(self.closed))
    @rule(
        side=sides,
        code=st.sampled_from([1000, 1001, 1014, 3000, 4999]),
        reason=st.text(max_size=30),
    )
    def close(self, side: int, code: int, reason: str) -> None:
        close = check_close(code, reason)
        self.write(side, self.ends[side].encoder.frame(CLOSE, serialize_close(close)))
        self.ends[1 - side].expected_events.append(close)
        self.closed[side] = True

    @invariant()
    def nobody_broke_a_rule(self) -> None:
        for side, end in enumerate(getattr(self, "ends", [])):
            assert end.decoder.failure is None
            if end.decoder.done:
                assert self.closed[1 - side] and not end.incoming
                assert not end.expected and not end.expected_events

    def teardown(self) -> None:
        for end in getattr(self, "ends", []):
            end.feed(bytes(end.incoming), 1 << 62, 1 << 62)
            assert not end.expected and not end.expected_events and not end.pieces
            assert not end.decoder.in_message and not end.decoder.pending


TestTwoEnds = TwoEnds.TestCase
TestTwoEnds.settings = settings(stateful_step_count=30)


@given(st.booleans(), st.lists(st.binary(max_size=200), max_size=5), compressions)
def test_no_bytes_make_a_decoder_raise(
    server: bool, pieces: list[bytes], compression: Deflate | None
) -> None:
    """What the peer breaks is recorded; `feed` returns (STYLE: "a parser's failure is data")."""
    _, agreed = agree(Deflate(), compression)
    decoder = Decoder(server, 1000, agreed)
    messages: deque[Message] = deque()
    events: list[Event] = []
    decoder.stream(messages)
    for index, piece in enumerate([*pieces, b""]):
        decoder.feed(piece, messages, events, budget=500, most=3)
        if index == 1:
            decoder.stop_stream()
        messages.clear()
        decoder.size = 0
    if decoder.failure is not None:
        assert decoder.done and decoder.failure.close_code in (1002, 1007, 1009)
        assert len(decoder.failure.reason.encode()) <= 123


@given(
    st.booleans(),
    st.lists(
        st.tuples(st.integers(0, 255), st.binary(max_size=8), st.sampled_from([0, 1, 5, 126, 127])),
        max_size=12,
    ),
)
def test_no_frames_make_a_decoder_hold_more_than_they_are(
    server: bool, frames: list[tuple[int, bytes, int]]
) -> None:
    """Headers that promise anything, and little behind them."""
    mask = 0x80 if server else 0
    pieces = [bytes([first, mask | short]) + rest for first, rest, short in frames]
    decoder = Decoder(server, 1 << 40, agree(Deflate(), Deflate())[1])
    messages: deque[Message] = deque()
    with traced() as peak:
        for piece in pieces:
            decoder.feed(piece, messages, [])
    # A decompressor is 40 KB, and inflates a few bytes to a few hundred.
    assert peak.size < 100_000
