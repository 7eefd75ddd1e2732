"""Bytes → messages and control events (`Decoder`); message → frame bytes (`Encoder`).

The contract, in two sentences: after ``Decoder.feed(data)`` the messages that
are complete have been appended to *messages* and the control events to
*events*; when ``feed`` returns True, input is left and ``feed(b"")`` goes on.
The peer can never make ``feed`` raise: what it breaks is recorded in
``Decoder.failure``, and nothing more is read.

Messages are plain ``str`` and ``bytes``; only control frames become objects.
This source runs as it is, or compiled with the types of ``codec.pxd``; the loop
of `Decoder._read` is long because a call per frame costs more than all its work.
"""

from __future__ import annotations

from codecs import utf_8_decode
from collections import deque
from typing import Any

from ..errors import ProtocolError
from ..types import Close, CloseCode
from .deflate import INFLATE_LIMIT, Agreement, Deflater, Inflater
from .frames import Fragment, Opcode, Ping, Pong, parse_close
from .octets import (
    Assembly,
    ReadBuffer,
    apply_mask,
    binary,
    joined,
    memory_size,
    new_key,
    sealed,
    text,
)

__all__ = ["MESSAGE_OVERHEAD", "Decoder", "Encoder", "Event", "Message"]

Message = str | bytes | Fragment
Event = Ping | Pong | Close

#: Bytes that a queued message counts beside its payload: the object around it.
MESSAGE_OVERHEAD = 64
_OVERHEAD = MESSAGE_OVERHEAD  # an integer of C where this is compiled

_NO_LIMIT = 1 << 62

# From here up it is worth reading the rest of a payload straight to its place.
_LONG = 65536

_CONTINUATION = int(Opcode.CONTINUATION)
_TEXT = int(Opcode.TEXT)
_BINARY = int(Opcode.BINARY)
_CLOSE = int(Opcode.CLOSE)
_PING = int(Opcode.PING)
_PONG = int(Opcode.PONG)

# Pieces below so many bytes are joined by the hundred: a message in fragments of
# one byte must not cost forty times its size in small objects.
_SMALL_PIECE = 4096
_SMALL_PIECES = 512


class Decoder:
    """
    Reads frames (RFC 6455 §5) and joins them to messages.

    Args:
        server: Whether we are the server: then frames must be masked (§5.1).
        max_message_size: Bytes that a message may have, after inflating; None
            for no limit (inflating stays bounded by INFLATE_LIMIT).
        agreement: What was agreed on compression, or None.

    Attributes:
        failure: The rule that the peer broke, or None.
        done: True after a Close or a failure: nothing more is read.
        pending: Whether *budget* or *most* stopped `feed`, and ``feed(b"")`` might get
            further.
        size: Bytes of memory that all messages appended so far take, overhead
            included; the caller takes it away.
        frames: Control frames and fragments so far, which cost time though they
            make no message; the caller takes it away.
    """

    __slots__ = (
        "_assembly",
        "_busy",
        "_carry",
        "_compressed",
        "_deaf",
        "_dropping",
        "_fin",
        "_in_frame",
        "_inflate_limit",
        "_inflater",
        "_key",
        "_left",
        "_limit",
        "_opcode",
        "_phase",
        "_pieces",
        "_received",
        "_rest",
        "_server",
        "_small",
        "_streaming",
        "_text",
        "_total",
        "done",
        "failure",
        "frames",
        "pending",
        "size",
    )

    def __init__(
        self,
        server: bool,
        max_message_size: int | None = None,
        agreement: Agreement | None = None,
    ) -> None:
        self.failure: ProtocolError | None = None
        self.done = False
        self.pending = False
        self.size = 0
        self.frames = 0
        self._server = server
        self._limit = _NO_LIMIT if max_message_size is None else min(max_message_size, _NO_LIMIT)
        self._inflate_limit = INFLATE_LIMIT if max_message_size is None else max_message_size
        self._inflater = None if agreement is None else Inflater(agreement)
        self._rest = b""
        # the frame being read, once its header is there
        self._in_frame = False
        self._fin = False
        self._left = 0
        self._key = b""
        self._phase = 0
        self._assembly: Assembly | None = None  # its payload, if that is a whole message
        # the message being read, over all its frames; opcode 0: none
        self._opcode = 0
        self._text = False
        self._compressed = False
        self._received = 0
        self._total = 0
        self._pieces: list[str | bytes] | None = None
        self._small: list[str | bytes] | None = None  # behind those
        self._carry = b""  # the beginning of a character
        # a message that the application reads as a stream, or no longer wants
        self._streaming = False
        self._dropping = False
        self._deaf = False
        self._busy = False  # a message has begun, is to be a stream, or not wanted

    @property
    def in_message(self) -> bool:
        """Whether a message has begun and not ended."""
        return self._opcode != 0

    def feed(
        self,
        data: bytes,
        messages: deque[Message],
        events: list[Event],
        budget: int = _NO_LIMIT,
        most: int = _NO_LIMIT,
    ) -> bool:
        """
        Read *data*.

        Args:
            data: The next bytes of the connection.
            messages: Complete messages are appended here.
            events: Ping, Pong and Close are appended here.
            budget: Stop after the message with which ``size`` exceeds this.
            most: Stop when this many messages are there.

        Returns:
            True if it stopped because of *budget* or *most* with input left over.
        """
        if self.done:
            return False
        if self._rest:
            data = self._rest + data
            self._rest = b""
        return self._feed(data, len(data), messages, events, budget, most)

    def feed_buffer(
        self,
        buffer: ReadBuffer,
        size: int,
        messages: deque[Message],
        events: list[Event],
        budget: int = _NO_LIMIT,
        most: int = _NO_LIMIT,
    ) -> bool:
        """The same for the first *size* bytes of *buffer*, which may change afterwards."""
        if self.done:
            return False
        if self._rest:
            data = self._rest + bytes(buffer.view(size))
            self._rest = b""
            return self._feed(data, len(data), messages, events, budget, most)
        return self._feed(buffer.taken(size), size, messages, events, budget, most)

    def _feed(
        self,
        data: bytes,
        end: int,
        messages: deque[Message],
        events: list[Event],
        budget: int,
        most: int,
    ) -> bool:
        self.pending = False
        try:
            position = self._read(data, end, messages, events, budget, most)
        except ProtocolError as exc:
            self.failure = exc
            self.stop()
            return False
        if position < end and not self.done:
            self._rest = data[position:end]
            self.pending = self.size > budget or len(messages) >= most
        return self.pending

    def room(self) -> memoryview | None:
        """
        Where the next bytes may be read to, if most of a long payload is to come; else None.

        Tell `filled` how many there were. Nothing else may be fed in between.
        """
        assembly = self._assembly
        if assembly is None or assembly.left < _LONG:
            return None
        return assembly.room()

    def filled(self, size: int, messages: deque[Message]) -> None:
        """*size* bytes have been read into `room`; a message that they complete is appended."""
        assembly = self._assembly
        if assembly is not None:
            assembly.filled(size)
            self._assembled(assembly, messages)

    def _read(
        self,
        data: bytes,
        end: int,
        messages: deque[Message],
        events: list[Event],
        budget: int,
        most: int,
    ) -> int:
        """Read whole frames, and what there is of the last one; return how far it got."""
        position = 0
        server = self._server
        size = self.size
        try:
            while size <= budget and len(messages) < most:
                if self._in_frame:
                    self.size = size
                    position = self._read_payload(data, position, end, messages)
                    size = self.size
                    if self._in_frame:
                        return position
                    continue

                # RFC 6455 §5.2: two bytes, a longer length, the masking key.
                if end - position < 2:
                    return position
                first = data[position]
                length = data[position + 1]
                masked = length >= 128
                if masked:
                    length -= 128
                if masked != server:
                    raise _bad_mask(server)
                start = position + 2
                if length > 125:
                    self._check_header(first, length)
                    if length == 126:
                        if end - start < 2:
                            return position
                        length = data[start] << 8 | data[start + 1]
                        start += 2
                        if length < 126:
                            raise _not_shortest()
                    else:
                        if end - start < 8:
                            return position
                        length = _long_length(data[start : start + 8])
                        start += 8
                if masked:
                    start += 4
                    if start > end:
                        self._check_header(first, length)
                        return position

                # The frame that matters for speed: a whole message, not
                # compressed, whose bytes are all there.
                if (
                    (first == 0x81 or first == 0x82)
                    and length <= end - start
                    and not self._busy
                    and length <= self._limit
                ):
                    position = start + length
                    if first == 0x81:
                        try:
                            characters = text(data, start, position, masked)
                        except UnicodeDecodeError:
                            raise _not_utf8() from None
                        messages.append(characters)
                        if len(characters) != length:  # not ASCII
                            length = memory_size(characters)
                    else:
                        messages.append(binary(data, start, position, masked))
                    size += length + _OVERHEAD
                    if position == end:
                        return position
                    continue

                self._check_header(first, length)
                if first & 0x08:
                    if length > end - start:
                        return position
                    position = start + length
                    self._control(first & 0x0F, binary(data, start, position, masked), events)
                    if self.done:
                        return position
                    continue
                self._begin_frame(first, length, data[start - 4 : start] if masked else b"")
                position = start
            return position
        finally:
            self.size = size

    # ------------------------------------------------------------- one frame

    def _check_header(self, first: int, length: int) -> None:
        """RFC 6455 §5.2 to §5.5, RFC 7692 §6: is this frame allowed here?"""
        opcode = first & 0x0F
        if first & 0x30:
            raise ProtocolError(CloseCode.PROTOCOL_ERROR, "reserved bit RSV2 or RSV3 is set")
        if opcode >= _CLOSE:
            if opcode > _PONG:
                raise ProtocolError(CloseCode.PROTOCOL_ERROR, f"reserved opcode {opcode}")
            if not first & 0x80:
                raise ProtocolError(CloseCode.PROTOCOL_ERROR, "fragmented control frame")
            if length > 125:
                raise ProtocolError(CloseCode.PROTOCOL_ERROR, "control frame of over 125 bytes")
            if first & 0x40:
                raise ProtocolError(CloseCode.PROTOCOL_ERROR, "compressed control frame")
            return
        if opcode > _BINARY:
            raise ProtocolError(CloseCode.PROTOCOL_ERROR, f"reserved opcode {opcode}")
        if first & 0x40:
            if self._inflater is None:
                raise ProtocolError(CloseCode.PROTOCOL_ERROR, "RSV1 without an extension")
            if opcode == _CONTINUATION:
                raise ProtocolError(CloseCode.PROTOCOL_ERROR, "RSV1 on a continuation frame")
        if opcode == _CONTINUATION:
            if not self._opcode:
                raise ProtocolError(CloseCode.PROTOCOL_ERROR, "continuation without a message")
        elif self._opcode:
            raise ProtocolError(
                CloseCode.PROTOCOL_ERROR, "new message before the end of the fragmented one"
            )

    def _begin_frame(self, first: int, length: int, key: bytes) -> None:
        self.frames += 1
        opcode = first & 0x0F
        whole = first == 0x82 and not self._busy
        if opcode:
            self._opcode = opcode
            self._busy = True
            self._text = opcode == _TEXT
            self._compressed = bool(first & 0x40)
            self._received = 0
            self._total = 0
        # The limit of a compressed message counts what it inflates to.
        if not self._compressed:
            if length > self._limit - self._received:
                raise _too_big(self._received + length, self._limit)
            self._received += length
        self._in_frame = True
        self._fin = bool(first & 0x80)
        self._left = length
        self._key = key
        self._phase = 0
        if whole:
            self._assembly = Assembly(length, key)

    def _read_payload(self, data: bytes, position: int, end: int, messages: deque[Message]) -> int:
        """Take what is there of the present data frame."""
        assembly = self._assembly
        if assembly is not None:
            stop = end if assembly.left > end - position else position + assembly.left
            assembly.add(data, position, stop)
            self._assembled(assembly, messages)
            return stop
        size = end - position if self._left > end - position else self._left
        stop = position + size
        self._left -= size
        if self._left == 0:
            self._in_frame = False
            final = self._fin
        else:
            final = False
            if not size:
                return stop
        if self._deaf:
            if final:
                self._forget()
            return stop
        piece = data[position:stop]
        if self._key and size:
            phase = self._phase
            piece = apply_mask(piece, self._key[phase:] + self._key[:phase])
            self._phase = (phase + size) & 3
        self._take(piece, final, messages)
        return stop

    def _assembled(self, assembly: Assembly, messages: deque[Message]) -> None:
        """More has come of a message in one long frame."""
        if not assembly.left:
            self._in_frame = False
            messages.append(assembly.take())
            self.size += self._left + _OVERHEAD
            self._forget()

    def _control(self, opcode: int, payload: bytes, events: list[Event]) -> None:
        self.frames += 1
        if opcode == _PING:
            events.append(Ping(payload))
        elif opcode == _PONG:
            events.append(Pong(payload))
        else:
            events.append(parse_close(payload))
            # Choice (RFC 6455 §1.4): once a Close has arrived we read nothing
            # more, and a message that it cut short is dropped (§5.4).
            self.done = True
            self._forget()

    # ----------------------------------------------------------- one message

    def _take(self, piece: bytes, final: bool, messages: deque[Message]) -> None:
        """Add a piece of payload to the present message; *final* completes it."""
        if self._compressed and (piece or final):
            inflater = self._inflater
            assert inflater is not None
            piece = inflater.piece(piece, final, self._inflate_limit, self._total)
        self._total += len(piece)
        part: str | bytes = self._decoded(piece, final) if self._text else piece
        if self._dropping:
            if final:
                self._dropping = False
                self._forget()
        elif self._streaming:
            self._emit(part, final, messages)
        elif final:
            whole = self._joined(part)
            messages.append(whole)
            self.size += memory_size(whole) + _OVERHEAD
            self._forget()
        elif part:
            self._keep(part)

    def _decoded(self, piece: bytes, final: bool) -> str:
        """Text, once: the characters that *piece* completes."""
        if self._carry:
            piece = self._carry + piece
        # RFC 6455 §8.1: fail as soon as the text cannot become UTF-8.
        try:
            characters, used = utf_8_decode(piece, "strict", final)
        except UnicodeDecodeError:
            raise _not_utf8() from None
        self._carry = piece[used:]
        return characters

    def _keep(self, part: str | bytes) -> None:
        if self._pieces is None or self._small is None:
            self._pieces, self._small = [], []
        if len(part) < _SMALL_PIECE:
            self._small.append(part)
            if len(self._small) >= _SMALL_PIECES:
                self._gather()
        else:
            self._gather()
            self._pieces.append(part)

    def _gather(self) -> None:
        """Make one piece of the small ones."""
        if self._small and self._pieces is not None:
            self._pieces.append(self._join(self._small))
            self._small.clear()

    def _join(self, parts: list[Any]) -> str | bytes:
        return "".join(parts) if self._text else b"".join(parts)

    def _joined(self, last: str | bytes) -> str | bytes:
        """What is held of the message, with *last* behind it; it is let go of."""
        pieces = self._pieces
        if pieces is None:
            return last
        self._gather()
        self._pieces = self._small = None
        pieces.append(last)
        return self._join(pieces)

    def _forget(self) -> None:
        self._opcode = 0
        self._assembly = None
        self._pieces = self._small = None
        self._carry = b""
        self._busy = self._streaming or self._deaf

    # --------------------------------------------------------------- streams

    def stream(self, messages: deque[Message]) -> None:
        """
        Give out the next message, or the rest of the present one, in pieces.

        All of them are `Fragment`; after the final one, messages come whole again.
        """
        if self._streaming:
            return
        self._streaming = True
        self._busy = True
        if not self._opcode:
            return
        assembly = self._assembly
        if assembly is not None:  # from here on in pieces
            self._assembly = None
            held: str | bytes = assembly.take()
            self._total = len(held)
            self._left = assembly.left
            self._phase = self._total & 3
        else:
            held = self._joined("" if self._text else b"")
        self._emit(held, False, messages)

    def stop_stream(self) -> None:
        """The stream is no longer wanted: drop what is still to come of its message."""
        if not self._streaming:
            return  # its last piece has been read: what comes now is another message
        self._streaming = False
        if self._opcode:
            self._dropping = True
        else:
            self._busy = self._deaf

    def ignore_messages(self) -> None:
        """From here on only control frames matter; payloads are not even looked at."""
        self._deaf = True
        self._busy = True
        assembly = self._assembly
        if assembly is not None:
            self._assembly = None
            self._left = assembly.left
        self._pieces = self._small = None

    def _emit(self, piece: str | bytes, final: bool, messages: deque[Message]) -> None:
        if piece or final:
            messages.append(Fragment(piece, final))
            self.size += memory_size(piece) + _OVERHEAD
        if final:
            self._streaming = False
            self._forget()

    def stop(self) -> None:
        """Read nothing more."""
        self.done = True
        self.pending = False
        self._rest = b""
        self._forget()


def _long_length(field: bytes) -> int:
    """RFC 6455 §5.2: a length of eight bytes, which no two could hold."""
    length = int.from_bytes(field, "big")
    if length < 65536:
        raise _not_shortest()
    if length >> 63:
        raise ProtocolError(CloseCode.PROTOCOL_ERROR, "length with its first bit set")
    return length


def _not_shortest() -> ProtocolError:
    return ProtocolError(CloseCode.PROTOCOL_ERROR, "length not in its shortest form")


def _bad_mask(server: bool) -> ProtocolError:
    # RFC 6455 §5.1: a client masks every frame, a server none.
    side = "client sent a frame without a mask" if server else "server sent a masked frame"
    return ProtocolError(CloseCode.PROTOCOL_ERROR, side)


def _not_utf8() -> ProtocolError:
    return ProtocolError(CloseCode.INVALID_FRAME_PAYLOAD_DATA, "text message is not UTF-8")


def _too_big(size: int, limit: int) -> ProtocolError:
    return ProtocolError(
        CloseCode.MESSAGE_TOO_BIG, f"message of {size} bytes exceeds the limit of {limit} bytes"
    )


# ------------------------------------------------------------------- sending


def _head(opcode: int, length: int, final: bool, compressed: bool, mask_bit: int) -> bytes:
    """A frame's header up to the masking key (RFC 6455 §5.2)."""
    first = (0x80 if final else 0) | (0x40 if compressed else 0) | opcode
    if length < 126:
        return bytes((first, mask_bit | length))
    if length < 65536:
        return bytes((first, mask_bit | 126)) + length.to_bytes(2, "big")
    return bytes((first, mask_bit | 127)) + length.to_bytes(8, "big")


# The two bytes of every short unfragmented frame, made once.
_SHORT = {
    (opcode, bit): tuple(_head(opcode, n, True, False, bit) for n in range(126))
    for opcode in (_TEXT, _BINARY)
    for bit in (0, 0x80)
}


class Encoder:
    """
    Makes frames.

    Args:
        server: Whether we are the server; a client masks (RFC 6455 §5.3).
        agreement: What was agreed on compression, or None.

    Attributes:
        masks: Whether it masks.
        deflates: Whether there are messages that it `wants_deflate` for.
    """

    __slots__ = ("_binary_heads", "_deflater", "_mask_bit", "_text_heads", "deflates", "masks")

    def __init__(self, server: bool, agreement: Agreement | None = None) -> None:
        self.masks = not server
        self._mask_bit = 0 if server else 0x80
        self._text_heads = _SHORT[_TEXT, self._mask_bit]
        self._binary_heads = _SHORT[_BINARY, self._mask_bit]
        # A window of 256 bytes, which zlib cannot make: agreed, but never used.
        usable = agreement is not None and agreement.local_bits >= 9
        self._deflater = Deflater(agreement) if usable and agreement is not None else None
        self.deflates = self._deflater is not None

    def wants_deflate(self, size: int, compress: bool | None) -> bool:
        """
        Whether a message of *size* bytes is to be compressed.

        Args:
            size: Bytes of payload.
            compress: True or False overrule the threshold.
        """
        if self._deflater is None:
            return False
        return size >= self._deflater.threshold if compress is None else compress

    def deflate(self, payload: bytes, final: bool) -> bytes:
        """Compress a fragment of the message that is being sent."""
        assert self._deflater is not None
        return self._deflater.piece(payload, final)

    def shared(self, opcode: int, payload: bytes, made: dict[tuple[int, ...], bytes]) -> bytes:
        """
        A compressed message that refers to no other, as one frame of a server.

        Args:
            opcode: Text or binary.
            payload: Not compressed.
            made: The same message's frames by what they depend on; it grows.
        """
        assert self._deflater is not None
        key = self._deflater.part()
        frame = made.get(key)
        if frame is None:
            frame = self.frame(opcode, self._deflater.alone(payload), True, True)
            made[key] = frame
        return frame

    def message(self, opcode: int, payload: bytes) -> bytes:
        """A short or middling message as one frame, not compressed."""
        length = len(payload)
        if length < 126:
            head = (self._text_heads if opcode == _TEXT else self._binary_heads)[length]
        else:
            head = _head(opcode, length, True, False, self._mask_bit)
        if self.masks:
            return sealed(head, new_key(), payload)
        return joined(head, payload)

    def frame(
        self, opcode: int, payload: bytes, final: bool = True, compressed: bool = False
    ) -> bytes:
        """Any frame, in one piece."""
        head = _head(opcode, len(payload), final, compressed, self._mask_bit)
        if self.masks:
            return sealed(head, new_key(), payload)
        return joined(head, payload)

    def head(
        self, opcode: int, length: int, final: bool = True, compressed: bool = False
    ) -> tuple[bytes, bytes]:
        """
        A frame's header alone, for a payload that is written in pieces.

        Returns:
            The header and the masking key (empty for a server); each piece but
            the last must have a multiple of four bytes, masked from its start.
        """
        head = _head(opcode, length, final, compressed, self._mask_bit)
        if self.masks:
            key = new_key()
            return head + key, key
        return head, b""
