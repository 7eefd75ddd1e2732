"""RFC 6455 §5 and RFC 7692 §7.2 read literally: bytes in, messages out, nothing of ours.

Slow, whole-stream and obvious, so that it can be held against the decoder: both must
find the same messages, the same control frames and the same failure. Where the RFC
leaves a choice, the choice is the decoder's and says so.
"""

from __future__ import annotations

import codecs
import itertools
import operator
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field

CONT, TEXT, BINARY, CLOSE, PING, PONG = 0, 1, 2, 8, 9, 10

#: Choice: bytes that a compressed message may inflate to without a limit.
INFLATE_LIMIT = 64 * 1024 * 1024
#: Choice: a frame of over 4 EiB is too big even where there is no limit.
LARGEST = 1 << 62
#: Choice: how often one message may set BFINAL.
MOST_FINAL = 64


class Broken(Exception):
    """A rule is broken; the argument is the close code."""

    @property
    def code(self) -> int:
        """The close code."""
        return int(self.args[0])


@dataclass
class Step:
    """
    One frame, and the state in which it found the reader.

    Attributes:
        first: The header's first byte.
        length: Of the payload, as the header says.
        width: Bytes of the extended length.
        begun: Opcode of the message that it continues or interrupts; 0 for none.
        compressed: Whether it says so, or the message that has begun is.
        before: Bytes that this message had before.
        broken: Close code of the rule that it breaks, or None.
        made: Bytes that it inflated to.
        ended: Whether a block with BFINAL was in it.
        untailed: Whether it completes a message whose blocks lack nothing.
        partial: Whether its end is missing.
    """

    first: int
    length: int = 0
    width: int = 0
    begun: int = 0
    compressed: bool = False
    before: int = 0
    broken: int | None = None
    made: int = 0
    ended: bool = False
    untailed: bool = False
    partial: bool = True

    @property
    def opcode(self) -> int:
        """0 to 15."""
        return self.first & 15


@dataclass
class Reading:
    """What a stream means."""

    messages: list[str | bytes] = field(default_factory=list)
    controls: list[tuple[int, bytes]] = field(default_factory=list)
    code: int | None = None
    steps: list[Step] = field(default_factory=list)


class _Message:
    """The message that is being read, over all its frames."""

    def __init__(self, opcode: int, compressed: bool) -> None:
        self.opcode = opcode
        self.compressed = compressed
        self.payload = bytearray()
        self.utf8 = codecs.getincrementaldecoder("utf-8")()
        self.finals = 0
        self.begun = False  # a block that lacks its end


class Reader:
    """
    Args:
        server: Whether a server reads: then frames must be masked.
        limit: Bytes of a message, or None.
        bits: The window of the peer's compressor, or None without compression.
        takeover: Whether a message may refer to those before it.
    """

    def __init__(
        self, server: bool, limit: int | None = None, bits: int | None = None, takeover: bool = True
    ) -> None:
        self.server = server
        self.limit = limit
        self.bits = bits
        self.takeover = takeover
        self.message: _Message | None = None
        self.inflater: zlib._Decompress | None = None
        self.reading = Reading()

    def read(self, data: bytes) -> Reading:
        """Read a whole stream."""
        reading = self.reading
        try:
            for closed in self._frames(data):
                if closed:
                    break
        except Broken as exc:
            reading.code = exc.code
            if reading.steps:
                reading.steps[-1].broken = exc.code
        return reading

    def _frames(self, data: bytes) -> Iterator[bool]:
        at = 0
        while at + 2 <= len(data):
            first, second = data[at], data[at + 1]
            step = Step(first)
            message = self.message
            if message is not None:
                step.begun = message.opcode
                step.before = len(message.payload)
                step.compressed = message.compressed
            step.compressed = step.compressed or bool(first & 0x40)
            self.reading.steps.append(step)
            if (second >= 128) != self.server:
                raise Broken(1002)  # RFC 6455 §5.1
            at += 2
            step.length = length = second & 127
            if length > 125:
                self._header(first, length)
                step.width = width = 2 if length == 126 else 8
                if len(data) < at + width:
                    return
                step.length = length = int.from_bytes(data[at : at + width], "big")
                at += width
                # §5.2: "the minimal number of bytes MUST be used", "the most
                # significant bit MUST be 0".
                if length < (126 if width == 2 else 65536) or length >> 63:
                    raise Broken(1002)
            key = data[at : at + 4] if self.server else b"\0\0\0\0"
            self._header(first, length)
            if len(key) < 4:
                return
            at += 4 if self.server else 0
            here = data[at : at + length]
            whole = len(here) == length
            step.partial = not whole
            at += length
            payload = bytes(map(operator.xor, here, itertools.cycle(key)))
            if first & 8:
                if whole:
                    yield self._control(first & 15, payload)
            else:
                self._data(step, payload, whole)
                yield False
            if not whole:
                return

    def _header(self, first: int, length: int) -> None:
        """RFC 6455 §5.2, §5.4, §5.5; RFC 7692 §6."""
        opcode = first & 15
        if first & 0x30 or opcode not in (CONT, TEXT, BINARY, CLOSE, PING, PONG):
            raise Broken(1002)
        rsv1 = first & 0x40
        if rsv1 and (self.bits is None or opcode == CONT or opcode & 8):
            raise Broken(1002)
        if opcode & 8:
            if not first & 0x80 or length > 125:
                raise Broken(1002)
        elif (opcode == CONT) == (self.message is None):
            raise Broken(1002)

    def _control(self, opcode: int, payload: bytes) -> bool:
        if opcode == CLOSE and payload:
            # §5.5.1, §7.4; 1012 to 1014 are the registry's.
            code = int.from_bytes(payload[:2], "big") if len(payload) > 1 else 0
            if not (code in (1000, 1001, 1002, 1003, *range(1007, 1015)) or 3000 <= code < 5000):
                raise Broken(1002)
            try:
                payload[2:].decode("utf-8")
            except UnicodeDecodeError:
                raise Broken(1007) from None
        self.reading.controls.append((opcode, payload))
        return opcode == CLOSE

    def _data(self, step: Step, payload: bytes, whole: bool) -> None:
        first, length = step.first, step.length
        if self.message is None:
            self.message = _Message(first & 15, bool(first & 0x40))
        message = self.message
        size = len(message.payload)
        final = whole and bool(first & 0x80)
        if message.compressed:
            limit = INFLATE_LIMIT if self.limit is None else self.limit
            if payload or final:
                payload = self._inflated(step, payload, final, limit - size)
            step.made = len(payload)
        elif size + length > (LARGEST if self.limit is None else self.limit):
            raise Broken(1009)
        message.payload += payload
        if message.opcode == TEXT:
            try:
                message.utf8.decode(payload, final)
            except UnicodeDecodeError:
                raise Broken(1007) from None  # §8.1
        if final:
            done = bytes(message.payload)
            self.reading.messages.append(done.decode() if message.opcode == TEXT else done)
            self.message = None

    def _inflated(self, step: Step, data: bytes, final: bool, room: int) -> bytes:
        """RFC 7692 §7.2.2: append 00 00 ff ff to the message, and inflate it."""
        message = self.message
        assert message is not None and self.bits is not None
        out = self._inflate(step, message, data, room)
        # Choice: only where a block lacks them; not after BFINAL, nor for no bytes at all.
        step.untailed = final and not message.begun
        if final and message.begun:
            out += self._inflate(step, message, b"\x00\x00\xff\xff", room - len(out))
        if final and not self.takeover:
            self.inflater = None
        return out

    def _inflate(self, step: Step, message: _Message, data: bytes, room: int) -> bytes:
        assert self.bits is not None
        out = b""
        while data:
            if self.inflater is None:
                self.inflater = zlib.decompressobj(-max(self.bits, 9))
            message.begun = True
            try:
                out += self.inflater.decompress(data, room + 1 - len(out))
            except zlib.error:
                raise Broken(1007) from None
            if len(out) > room:
                raise Broken(1009)
            if not self.inflater.eof:
                break
            # §7.2.3.4: BFINAL is legal. Choice: what follows starts without history.
            data = self.inflater.unused_data
            self.inflater = None
            message.begun = False
            step.ended = True
            message.finals += 1
            if message.finals > MOST_FINAL:
                raise Broken(1008)
        return out
