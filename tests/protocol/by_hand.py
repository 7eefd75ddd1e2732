"""Frames written and read by hand, from RFC 6455 §5.2 and with nothing of ours.

A test that used our own encoder to make its input could not see that both are
wrong in the same way.
"""

from __future__ import annotations

import hashlib
import itertools
import operator
import random
import struct
import tracemalloc
import zlib
from base64 import b64encode
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from simplews.protocol.codec import Decoder, Event, Message
from simplews.protocol.deflate import Agreement, Deflate

CONT, TEXT, BIN, CLOSE, PING, PONG = 0, 1, 2, 8, 9, 10

KEY = b"\x37\xfa\x21\x3d"  # the masking key of RFC 6455 §5.7


def xor(data: bytes, key: bytes) -> bytes:
    """RFC 6455 §5.3, byte by byte: j = i MOD 4."""
    return bytes(map(operator.xor, data, itertools.cycle(key)))


@dataclass(frozen=True)
class F:
    """
    One frame, right or wrong.

    Attributes:
        opcode: 0 to 15.
        payload: Before masking.
        fin: Whether it is its message's last.
        rsv: RSV1, RSV2 and RSV3 as a number: 4, 2, 1.
        width: Bytes of the extended length, 0, 2 or 8; None for the fewest.
        says: The length that the header declares, if it is not the payload's.
        wrong_way: Masked where it must not be, and the other way round.
    """

    opcode: int
    payload: bytes = b""
    fin: bool = True
    rsv: int = 0
    width: int | None = None
    says: int | None = None
    wrong_way: bool = False

    def to(self, server: bool, key: bytes = KEY) -> bytes:
        """The frame's bytes on the way to a server (masked) or a client."""
        masked = server != self.wrong_way
        length = len(self.payload) if self.says is None else self.says
        width = self.width
        if width is None:
            width = 0 if length < 126 else 2 if length < 65536 else 8
        short = {0: length, 2: 126, 8: 127}[width]
        head = bytes([self.fin << 7 | self.rsv << 4 | self.opcode, masked << 7 | short])
        head += {0: b"", 2: struct.pack("!H", length & 0xFFFF), 8: struct.pack("!Q", length)}[width]
        return head + key + xor(self.payload, key) if masked else head + self.payload


def to_bytes(parts: Iterable[F | bytes], server: bool) -> bytes:
    """Frames and loose bytes, one behind the other."""
    return b"".join(part if isinstance(part, bytes) else part.to(server) for part in parts)


def close_payload(code: int, reason: bytes = b"") -> bytes:
    return struct.pack("!H", code) + reason


class Frame(NamedTuple):
    """A frame as `read_frames` finds it."""

    fin: bool
    rsv: int
    opcode: int
    key: bytes
    payload: bytes


def read_frames(data: bytes) -> list[Frame]:
    """Read whole frames; what is left over is an error."""
    out = []
    while data:
        first, second = data[0], data[1]
        length, start = second & 127, 2
        if length == 126:
            length, start = struct.unpack("!H", data[2:4])[0], 4
            assert length > 125, "not the shortest form"
        elif length == 127:
            length, start = struct.unpack("!Q", data[2:10])[0], 10
            assert length > 65535, "not the shortest form"
        key = b""
        if second & 128:
            key = data[start : start + 4]
            start += 4
        payload = data[start : start + length]
        assert len(payload) == length, "cut short"
        out.append(
            Frame(
                bool(first & 128),
                first >> 4 & 7,
                first & 15,
                key,
                xor(payload, key) if key else payload,
            )
        )
        data = data[start + length :]
    return out


# ------------------------------------------------------------------- deflate


def agreement(
    local_bits: int = 15,
    remote_bits: int = 15,
    local_takeover: bool = True,
    remote_takeover: bool = True,
    **settings: Any,
) -> Agreement:
    return Agreement(local_bits, remote_bits, local_takeover, remote_takeover, Deflate(**settings))


class Compressor:
    """A peer's compressor, straight from zlib and RFC 7692 §7.2.1."""

    def __init__(self, bits: int = 15, level: int = 6) -> None:
        self.stream = zlib.compressobj(level, zlib.DEFLATED, -bits)

    def message(self, data: bytes) -> bytes:
        out = self.stream.compress(data) + self.stream.flush(zlib.Z_SYNC_FLUSH)
        assert out.endswith(b"\x00\x00\xff\xff")
        return out[:-4]


# ------------------------------------------------------------------- feeding


@dataclass
class Outcome:
    """What a decoder made of its input."""

    messages: list[Message] = field(default_factory=list)
    events: list[Event] = field(default_factory=list)
    code: int | None = None


Cut = Callable[[bytes], Iterable[bytes]]


def whole(data: bytes) -> Iterator[bytes]:
    yield data


def byte_by_byte(data: bytes) -> Iterator[bytes]:
    """Long data: only the first 600 bytes, where the headers are, and the last."""
    if len(data) > 1200:
        yield from byte_by_byte(data[:600])
        yield data[600:-600]
        yield from byte_by_byte(data[-600:])
        return
    for index in range(len(data)):
        yield data[index : index + 1]


def at_random(data: bytes) -> Iterator[bytes]:
    """Cut at places that depend on the data alone, empty pieces included."""
    draw = random.Random(zlib.crc32(data))
    count = min(len(data) // 3, 300)
    yield from cut_at(data, sorted(draw.randrange(len(data) + 1) for _ in range(count)))


def cut_at(data: bytes, places: Sequence[int]) -> Iterator[bytes]:
    start = 0
    for place in places:
        yield data[start:place]
        start = place
    yield data[start:]


CUTS: list[Cut] = [whole, byte_by_byte, at_random]


def feed(decoder: Decoder, pieces: Iterable[bytes]) -> Outcome:
    """Feed *pieces* without a limit; more may be fed later."""
    messages: deque[Message] = deque()
    events: list[Event] = []
    for piece in pieces:
        assert decoder.feed(piece, messages, events) is False
    failure = decoder.failure
    return Outcome(list(messages), events, None if failure is None else failure.close_code)


# -------------------------------------------------------------------- memory


class Peak:
    """Bytes that were allocated at the worst moment of a `traced` block."""

    size = 0


@contextmanager
def traced() -> Iterator[Peak]:
    """Measure what the block allocates; its input is to be made before."""
    peak = Peak()
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        yield peak
        peak.size = tracemalloc.get_traced_memory()[1] - before
    finally:
        tracemalloc.stop()


# ----------------------------------------------------------------- handshake

SAMPLE_KEY = "dGhlIHNhbXBsZSBub25jZQ=="  # RFC 6455 §1.3
SAMPLE_ACCEPT = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="


def accept_of(key: str) -> str:
    """RFC 6455 §4.2.2: what a server answers to *key*."""
    guid = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
    return b64encode(hashlib.sha1((key + guid).encode()).digest()).decode()
