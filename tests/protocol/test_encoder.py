"""Encoder: messages in, frames out; read by hand, and by the decoder of the other role."""

from __future__ import annotations

import zlib

import pytest

from simplews.protocol.codec import Decoder, Encoder
from simplews.protocol.deflate import Agreement
from simplews.protocol.frames import Opcode, Ping, Pong
from simplews.protocol.octets import apply_mask
from simplews.types import Close

from .by_hand import BIN, CLOSE, CONT, PING, PONG, TEXT, agreement, feed, read_frames, traced

both_roles = pytest.mark.parametrize("server", [False, True], ids=["client", "server"])

SIZES = [0, 1, 2, 3, 4, 5, 124, 125, 126, 127, 255, 256, 65535, 65536, 65537, 200_000]


def payload_of(size: int) -> bytes:
    return (b"0123456789abcdef" * (size // 16 + 1))[:size]


@both_roles
@pytest.mark.parametrize("opcode", [TEXT, BIN])
@pytest.mark.parametrize("size", SIZES)
def test_message_is_one_final_frame_in_its_shortest_form(
    server: bool, opcode: int, size: int
) -> None:
    """RFC 6455 §5.2; `read_frames` refuses a length that could be shorter."""
    payload = payload_of(size)
    data = Encoder(server).message(opcode, payload)
    (frame,) = read_frames(data)
    assert (frame.fin, frame.rsv, frame.opcode, frame.payload) == (True, 0, opcode, payload)
    assert len(frame.key) == (0 if server else 4)
    expected = payload.decode() if opcode == TEXT else payload
    assert feed(Decoder(not server), [data]).messages == [expected]


def test_heads_are_the_bytes_of_the_rfc() -> None:
    """RFC 6455 §5.2, §5.7, literally."""
    server = Encoder(server=True)
    assert server.message(TEXT, b"Hello") == bytes.fromhex("81 05 48 65 6c 6c 6f")
    assert server.message(BIN, bytes(126))[:4] == bytes.fromhex("82 7e 00 7e")
    assert server.message(BIN, bytes(65535))[:4] == bytes.fromhex("82 7e ff ff")
    assert server.message(BIN, bytes(65536))[:10] == bytes.fromhex("82 7f 0000000000010000")
    assert server.frame(TEXT, b"Hel", final=False) == bytes.fromhex("01 03 48 65 6c")
    assert server.frame(CONT, b"lo") == bytes.fromhex("80 02 6c 6f")
    assert server.frame(TEXT, b"\0", compressed=True) == bytes.fromhex("c1 01 00")
    client = Encoder(server=False)
    assert client.message(TEXT, b"Hello")[:2] == bytes.fromhex("81 85")
    assert client.message(BIN, bytes(126))[:4] == bytes.fromhex("82 fe 00 7e")
    assert client.message(BIN, bytes(65536))[:10] == bytes.fromhex("82 ff 0000000000010000")
    assert client.frame(PONG, b"")[:2] == bytes.fromhex("8a 80")


@both_roles
@pytest.mark.parametrize("opcode", list(Opcode))
@pytest.mark.parametrize("final", [True, False])
@pytest.mark.parametrize("compressed", [True, False])
@pytest.mark.parametrize("size", [0, 5, 125, 126, 65536])
def test_frame_has_what_it_is_given(
    server: bool, opcode: Opcode, final: bool, compressed: bool, size: int
) -> None:
    """What is allowed where is the caller's business."""
    data = Encoder(server).frame(opcode, payload_of(size), final, compressed)
    (frame,) = read_frames(data)
    assert frame[:3] == (final, 4 if compressed else 0, opcode)
    assert frame.payload == payload_of(size)
    assert bool(frame.key) is not server


@both_roles
@pytest.mark.parametrize("size", SIZES)
def test_head_and_payload_in_pieces_are_a_frame(server: bool, size: int) -> None:
    """Pieces of a multiple of four bytes are masked one by one."""
    payload = payload_of(size)
    head, key = Encoder(server).head(BIN, size)
    pieces = [payload[at : at + 4096] for at in range(0, size, 4096)]
    data = head + b"".join(apply_mask(piece, key) if key else piece for piece in pieces)
    (frame,) = read_frames(data)
    assert frame.payload == payload and frame.key == key
    assert feed(Decoder(not server), [data]).messages == [payload]


@both_roles
def test_head_carries_its_flags(server: bool) -> None:
    """The first of several fragments that are compressed."""
    head, _ = Encoder(server).head(TEXT, 0, final=False, compressed=True)
    assert head[0] == 0x41


def test_client_masks_every_frame_with_a_fresh_key() -> None:
    """RFC 6455 §5.3: over two refills of the pool of keys."""
    encoder = Encoder(server=False)
    keys = []
    for _ in range(600):
        for data in (encoder.message(TEXT, b"Hello"), encoder.frame(PING, b"Hello")):
            (frame,) = read_frames(data)
            assert frame.payload == b"Hello"
            keys.append(frame.key)
        keys.append(encoder.head(BIN, 5)[1])
    assert {len(key) for key in keys} == {4}
    assert len(set(keys)) > len(keys) - 3  # two of 1800 are alike once in 2600 runs


def test_server_masks_nothing() -> None:
    """RFC 6455 §5.1."""
    encoder = Encoder(server=True)
    assert not encoder.masks
    assert encoder.head(BIN, 5)[1] == b""
    assert encoder.frame(PING, b"ping").endswith(b"ping")


@both_roles
def test_other_role_reads_everything_back(server: bool) -> None:
    """Messages, fragments and control frames, in one stream of bytes."""
    encoder = Encoder(server)
    data = b"".join(
        [
            encoder.message(TEXT, "Grüße".encode()),
            encoder.frame(BIN, b"a" * 200, final=False),
            encoder.frame(PING, b"between"),
            encoder.frame(CONT, b"b" * 70_000, final=False),
            encoder.frame(PONG, b""),
            encoder.frame(CONT, b""),
            encoder.message(BIN, b""),
            encoder.frame(CLOSE, b"\x03\xe8bye"),
        ]
    )
    outcome = feed(Decoder(not server), [data])
    assert outcome.messages == ["Grüße", b"a" * 200 + b"b" * 70_000, b""]
    assert outcome.events == [Ping(b"between"), Pong(b""), Close(1000, "bye")]
    assert outcome.code is None


# ------------------------------------------------------------------ compression


def compressed(encoder: Encoder, payload: bytes, opcode: int = BIN) -> bytes:
    return encoder.frame(opcode, encoder.deflate(payload, True), True, True)


def opposite(agreed: Agreement) -> Agreement:
    """The same agreement, seen from the peer."""
    return agreement(
        agreed.remote_bits, agreed.local_bits, agreed.remote_takeover, agreed.local_takeover
    )


class Inflate:
    """A peer's inflater, straight from zlib and RFC 7692 §7.2.2."""

    def __init__(self, bits: int = 15) -> None:
        self.stream = zlib.decompressobj(-bits)

    def message(self, payload: bytes) -> bytes:
        return self.stream.decompress(payload + b"\x00\x00\xff\xff")


SAYINGS = [b"", b"a", b"Hello, hello, hello", bytes(5000), bytes(range(256)) * 300, b"", b"Hello"]


@both_roles
@pytest.mark.parametrize("bits", range(9, 16))
@pytest.mark.parametrize("takeover", [True, False], ids=["takeover", "no takeover"])
@pytest.mark.parametrize("level", [0, 1, 9])
def test_compressed_messages_inflate(server: bool, bits: int, takeover: bool, level: int) -> None:
    """By zlib with the agreed window, and by our decoder."""
    agreed = agreement(local_bits=bits, local_takeover=takeover, level=level)
    encoder, decoder = Encoder(server, agreed), Decoder(not server, None, opposite(agreed))
    inflate = Inflate(bits)
    for saying in SAYINGS * 2:
        data = compressed(encoder, saying)
        (frame,) = read_frames(data)
        assert frame[:3] == (True, 4, BIN)
        if not takeover:
            inflate = Inflate(bits)
        assert inflate.message(frame.payload) == saying
        assert feed(decoder, [data]).messages == [saying]


@both_roles
@pytest.mark.parametrize("takeover", [True, False], ids=["takeover", "no takeover"])
@pytest.mark.parametrize("last", [b"", b"end", bytes(5000)], ids=len)
def test_compressed_fragments_inflate(server: bool, takeover: bool, last: bytes) -> None:
    """Each is flushed: the peer can read it at once. The last may be empty."""
    agreed = agreement(local_takeover=takeover)
    encoder, decoder = Encoder(server, agreed), Decoder(not server, None, opposite(agreed))
    for _ in range(3):
        pieces = [b"first " * 50, b"", b"second " * 50, last]
        stream = Inflate()
        for index, piece in enumerate(pieces):
            final = index == len(pieces) - 1
            part = encoder.deflate(piece, final)
            if not takeover:
                tail = b"\x00\x00\xff\xff" if final else b""
                assert stream.stream.decompress(part + tail) == piece
            opcode = CONT if index else BIN
            data = encoder.frame(opcode, part, final, compressed=index == 0)
            expected = [b"".join(pieces)] if final else []
            assert feed(decoder, [data]).messages == expected
    assert feed(decoder, [compressed(encoder, b"afterwards")]).messages == [b"afterwards"]


@both_roles
def test_empty_message_is_one_byte(server: bool) -> None:
    """RFC 7692 §7.2.3.6: 0x00, the first message or a later one."""
    encoder = Encoder(server, agreement())
    assert [encoder.deflate(b"", True) for _ in range(3)] == [b"\0"] * 3
    encoder.deflate(b"something", True)
    assert encoder.deflate(b"", True) == b"\0"
    encoder.deflate(b"something", False)
    assert encoder.deflate(b"", True) == b"\0"


@both_roles
def test_context_is_taken_over_or_not(server: bool) -> None:
    """RFC 7692 §7.1.1: a message repeated is almost nothing, unless it must stand alone."""
    saying = bytes(range(256))
    encoder = Encoder(server, agreement(local_takeover=True))
    assert len(encoder.deflate(saying, True)) > 200
    assert len(encoder.deflate(saying, True)) < 20
    encoder = Encoder(server, agreement(local_takeover=False))
    first = encoder.deflate(saying, True)
    assert encoder.deflate(saying, True) == first


@both_roles
def test_what_is_compressed_depends_on_size_and_wish(server: bool) -> None:
    """The threshold, unless the caller says otherwise; never without agreement."""
    encoder = Encoder(server, agreement(threshold=100))
    assert [encoder.wants_deflate(size, None) for size in (0, 99, 100, 101)] == [0, 0, 1, 1]
    assert encoder.wants_deflate(0, True) and encoder.wants_deflate(99, True)
    assert not encoder.wants_deflate(10**6, False)
    assert Encoder(server, agreement(threshold=0)).wants_deflate(0, None)
    plain = Encoder(server)
    assert not plain.wants_deflate(10**6, None) and not plain.wants_deflate(10**6, True)


@both_roles
def test_window_that_zlib_cannot_make_is_never_used(server: bool) -> None:
    """RFC 7692 §7.1.2.2: the server answered 8; nobody is obliged to compress."""
    encoder = Encoder(server, agreement(local_bits=8))
    assert not encoder.wants_deflate(10**6, None) and not encoder.wants_deflate(10**6, True)


def test_encoder_that_has_compressed_nothing_holds_no_window() -> None:
    """An idle connection costs no 100 KB."""
    agreed = agreement()
    with traced() as peak:
        encoders = [Encoder(True, agreed) for _ in range(50)]
    assert peak.size / len(encoders) < 4096
