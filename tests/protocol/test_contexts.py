"""Which compressors and decompressors are kept, and messages compressed once for many."""

from __future__ import annotations

import random

import pytest

from simplews.protocol.codec import Decoder, Encoder
from simplews.protocol.deflate import Agreement

from .by_hand import BIN, CONT, PING, TEXT, Compressor, F, Outcome, agreement, feed, read_frames
from .by_hand import traced as traced_memory

MANY = 300  # more than are kept
CROWD = 6000

narrow = pytest.mark.parametrize("bits", [9, 12, 15])


def text(number: int) -> str:
    """Nothing in it comes twice; `number` is another text."""
    return random.Random(number).randbytes(300).hex()


class Pair:
    """Two ends of a connection, joined in memory."""

    def __init__(self, agreed: Agreement) -> None:
        self.encoder = Encoder(True, agreed)
        self.decoder = Decoder(False, agreement=agreed)

    def send(self, message: str) -> int:
        """Compress a message, inflate it, and tell how many bytes it took."""
        payload = self.encoder.deflate(message.encode(), True)
        data = self.encoder.frame(TEXT, payload, True, True)
        assert feed(self.decoder, [data]) == Outcome([message])
        return len(payload)


def others(count: int = MANY, bits: int = 12) -> list[Pair]:
    """Connections that have used both directions once."""
    pairs = [Pair(agreement(bits, bits)) for _ in range(count)]
    for pair in pairs:
        pair.send("another")
    return pairs


# ------------------------------------------------------------------------ rest


@narrow
def test_more_connections_than_contexts_all_go_on(bits: int) -> None:
    """RFC 7692 §7.2.1: a message may refer to earlier ones, and need not."""
    pairs = [Pair(agreement(bits, bits)) for _ in range(MANY)]
    for turn in range(4):
        for number, pair in enumerate(pairs):
            pair.send(text(number))
            pair.send(text(number + turn))


def test_connection_in_use_keeps_its_context() -> None:
    """However many others come meanwhile: the second time, a message is a reference."""
    pair = Pair(agreement(12, 12))
    first = pair.send(text(1))
    crowd = []
    for _ in range(10):
        crowd += others(MANY // 5)
        assert pair.send(text(1)) < first / 5


def test_idle_connection_compresses_anew() -> None:
    """What it has forgotten, it does not refer to; then it refers to what is new."""
    pair = Pair(agreement(12, 12))
    first = pair.send(text(1))
    kept = others(), others()
    assert pair.send(text(1)) > first / 2
    assert pair.send(text(1)) < first / 5
    assert kept


@pytest.mark.parametrize("bits", range(8, 16))
def test_peer_may_refer_to_what_came_before_a_rest(bits: int) -> None:
    """RFC 7692 §7.1.2: as far back as its window goes, and over any number of messages."""
    used = max(bits, 9)
    compressor = Compressor(used)
    decoder = Decoder(True, agreement=agreement(remote_bits=bits))
    number = random.Random(used)
    said: list[bytes] = []
    plain = bytes(number.randbytes(1 << used))
    for turn in range(12):
        start = number.randrange(len(plain))
        message = plain if turn == 5 else plain[start : start + number.randrange(1, 400)]
        said.append(message)
        data = F(BIN, compressor.message(message), rsv=4).to(True)
        assert feed(decoder, [data]) == Outcome([message])
        others()
        others()


def test_context_rests_at_the_border_of_messages_only() -> None:
    """Between two fragments a decompressor may be inside a block, or a byte."""
    payload = Compressor(12).message(text(1).encode() * 2)
    agreed = agreement(12, 12)
    for place in range(0, len(payload), 37):
        decoder = Decoder(False, agreement=agreed)
        first = F(TEXT, payload[:place], fin=False, rsv=4).to(False)
        rest = F(CONT, payload[place:]).to(False)
        assert feed(decoder, [first]) == Outcome([])
        others()
        others()
        assert feed(decoder, [rest]) == Outcome([text(1) * 2])


def test_context_that_rests_while_we_send_fragments_is_not_missed() -> None:
    """Each fragment ends in a whole byte, so the next may start anew."""
    agreed = agreement(12, 12)
    encoder, decoder = Encoder(True, agreed), Decoder(False, agreement=agreed)
    message = text(1).encode()
    data = encoder.frame(BIN, encoder.deflate(message, False), False, True)
    others()
    others()
    data += encoder.frame(CONT, encoder.deflate(message, False), False)
    others()
    others()
    data += encoder.frame(CONT, encoder.deflate(b"", True))
    assert feed(decoder, [data]) == Outcome([message * 2])


def test_idle_connections_hold_little() -> None:
    """What is kept does not grow with the connections; the rest is a window each, at most."""
    others()
    with traced_memory() as peak:
        kept = others(CROWD)
    assert peak.size / CROWD < 8192
    assert kept


def test_connections_that_are_gone_hold_nothing() -> None:
    others()
    with traced_memory() as peak:
        for _ in range(CROWD):
            Pair(agreement(15, 15)).send("gone")
    assert peak.size < 4 * 1024 * 1024


# ---------------------------------------------------------------------- shared


def test_shared_message_is_compressed_once() -> None:
    """For the same settings and window it is the same object; a window of 512 asks for another."""
    made: dict[tuple[int, ...], bytes] = {}
    payload = text(1).encode() * 4
    encoders = [Encoder(True, agreement(12)) for _ in range(3)]
    one, two, three = (encoder.shared(TEXT, payload, made) for encoder in encoders)
    assert one is two is three
    (frame,) = read_frames(one)
    assert (frame.fin, frame.rsv, frame.opcode, frame.key) == (True, 4, TEXT, b"")
    assert len(frame.payload) < len(payload)
    other = Encoder(True, agreement(9)).shared(TEXT, payload, made)
    assert other != one
    assert Encoder(True, agreement(12, level=9)).shared(TEXT, payload, made) is not one
    for data, bits in ((one, 12), (other, 9)):
        decoder = Decoder(False, agreement=agreement(remote_bits=bits))
        assert feed(decoder, [data]) == Outcome([payload.decode()])


@pytest.mark.parametrize("takeover", [True, False], ids=["takeover", "no takeover"])
@narrow
def test_shared_messages_between_others(bits: int, takeover: bool) -> None:
    """They move the peer's window, which ours then must not be behind."""
    agreed = agreement(bits, bits, takeover, takeover)
    encoder, decoder = Encoder(True, agreed), Decoder(False, agreement=agreed)
    choice = random.Random(bits)
    for _ in range(60):
        message = text(choice.randrange(4)) * choice.randrange(1, 3)
        if choice.random() < 0.4:
            data = encoder.shared(TEXT, message.encode(), {})
        else:
            payload = encoder.deflate(message.encode(), True)
            data = encoder.frame(TEXT, payload, True, True)
        assert feed(decoder, [data]) == Outcome([message])


def test_shared_message_may_be_empty() -> None:
    """RFC 7692 §7.2.3.6: one byte."""
    data = Encoder(True, agreement()).shared(TEXT, b"", {})
    assert feed(Decoder(False, agreement=agreement()), [data, b"\x89\x00"]).messages == [""]


# ---------------------------------------------------------------------- BFINAL


@pytest.mark.parametrize("server", [False, True], ids=["client", "server"])
@pytest.mark.parametrize("read", [1 << 62, 1000], ids=["at once", "1000 bytes"])
def test_message_of_final_blocks_alone_is_refused(server: bool, read: int) -> None:
    """Each would cost a decompressor of its own: RFC 7692 §7.2.3.4 has one in a message."""
    ends = bytes.fromhex("03 00")  # an empty block with BFINAL
    few = F(BIN, ends * 64 + b"\0", rsv=4)
    many = F(BIN, ends * 500_000, rsv=4)
    data = b"".join(part.to(server) for part in (few, few, F(PING), many))
    pieces = [data[at : at + read] for at in range(0, len(data), read)]
    outcome = feed(Decoder(server, agreement=agreement()), pieces)
    assert (outcome.messages, outcome.code) == ([b"", b""], 1008)
