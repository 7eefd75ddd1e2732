"""What touches every byte of a payload: unmasking, masking, gathering (RFC 6455 §5.3).

The twin of ``octets.pyx``, which the compiled codec uses instead; a test holds
the two against each other.

Pure Python has no XOR for bytes. A short payload is converted to an integer, XORed
and converted back. A longer one goes by the four places of the key: every fourth byte
is taken out, looked up in a table of 256 bytes and put back. Per MB on one machine
1.1 ms, of which the lookups are 0.45; with integers, whatever their size, 1.5 and the
making of the mask. It must be a bytearray that is cut and assigned to: the same
slices of bytes, which are copied before they are assigned, take it to 1.5 ms as well.
"""

from __future__ import annotations

import operator
import os
import sys
from collections.abc import Callable
from io import BytesIO
from typing import cast

__all__ = [
    "READS_IN_PLACE",
    "Assembly",
    "ReadBuffer",
    "apply_mask",
    "binary",
    "joined",
    "memory_size",
    "new_key",
    "payload_size",
    "sealed",
    "text",
    "utf8",
]

#: Whether `Assembly.room` ever gives memory to read into.
READS_IN_PLACE = False

# Up to here integers are faster: 0.4 µs for 32 bytes, against 1.0 by the places of the key.
_SHORT = 512

# What is unmasked at once of a payload that comes in pieces.
_BLOCK = 65536
# The rest of its memory is taken, and written to, when half of it has come, and no more
# than so many bytes at once, which take 2 ms.
_AHEAD = 8388608

_from_bytes = int.from_bytes

# Times a key, it is the key so many times.
_TIMES = tuple(_from_bytes(b"\1\0\0\0" * count, "little") for count in range(_SHORT // 4 + 2))

# For each byte of a key, what the other 256 become.
_ALL = _from_bytes(bytes(range(256)), "little")
_TABLES = tuple(
    (_ALL ^ _from_bytes(bytes([byte]) * 256, "little")).to_bytes(256, "little")
    for byte in range(256)
)
_PLACES = tuple(slice(place, None, 4) for place in range(4))

# ------------------------------------------------------------------- in frames


def binary(data: bytes, start: int, stop: int, masked: bool) -> bytes:
    """The payload *data[start:stop]*; a masking key is in the four bytes before it."""
    if not masked:
        return data[start:stop]
    size = stop - start
    if size > _SHORT:
        return apply_mask(memoryview(data)[start:stop], data[start - 4 : start])
    # With its key in front, which is to be the lowest four bytes of the number.
    words = (size + 7) >> 2
    number = _from_bytes(data[start - 4 : stop], "little")
    number ^= (number & 0xFFFFFFFF) * _TIMES[words]
    return number.to_bytes(words << 2, "little")[4 : size + 4]


def text(data: bytes, start: int, stop: int, masked: bool) -> str:
    """
    The same as text.

    Raises:
        UnicodeDecodeError: It is not UTF-8.
    """
    return binary(data, start, stop, masked).decode()


#: ``utf8(data)``: *data* as it travels; UnicodeEncodeError for half of a surrogate pair.
#: It is no function of ours, which would cost a call for each message.
utf8 = str.encode


def payload_size(data: str | bytes) -> int:
    """Bytes that *data* has on the wire: a character may have up to four."""
    if isinstance(data, str) and not data.isascii():
        return len(data.encode("utf-8"))
    return len(data)


# What a text takes beside its characters, if one of them is not ASCII.
_AROUND = sys.getsizeof("\xff\0") - 3  # two characters, and a NUL behind them


def memory_size(data: str | bytes) -> int:
    """
    Bytes of memory that *data*'s characters take: one, two or four each (PEP 393).

    The widest of them decides for all, so that an emoji makes four bytes of each
    character beside it.
    """
    if isinstance(data, str) and not data.isascii():
        # Of a copy: the text itself may have its UTF-8 with it, if somebody asked for that.
        count = len(data)
        return (sys.getsizeof(data + "\0") - _AROUND) // (count + 2) * count
    return len(data)


class ReadBuffer:
    """
    Memory that is read into again and again.

    Args:
        size: Bytes.
    """

    __slots__ = ("_memory",)

    def __init__(self, size: int) -> None:
        self._memory = memoryview(bytearray(size))

    def view(self, size: int) -> memoryview:
        """Its first *size* bytes, to read into."""
        return self._memory[:size]

    def taken(self, size: int) -> bytes:
        """Its first *size* bytes, to use before the next read."""
        return self._memory[:size].tobytes()


class Assembly:
    """
    The payload of one long frame, gathered as it comes.

    Memory is taken as the payload arrives, not as its header announces it: a
    frame that was only announced costs nothing.

    Args:
        size: Bytes that the payload has.
        key: The masking key, or empty.

    Attributes:
        left: Bytes that are still to come.
    """

    __slots__ = ("_key", "_sized", "_small", "_whole", "left")

    def __init__(self, size: int, key: bytes) -> None:
        self.left = size
        self._key = key
        # It gives its memory away as bytes, uncopied. Blocks that are joined in the end
        # are twice the message for a moment, and so is memory that grows: too much for
        # malloc to keep. Of echoing 1 MiB, a third of the cost was its page faults.
        self._whole = BytesIO()
        self._sized = False  # whether that has all its memory
        self._small = bytearray()  # behind that, not yet unmasked

    def room(self) -> memoryview | None:
        """
        Memory to read the next bytes into, for `filled`; None if there is none to give.

        Here it is None: it would save one copy of several, and cost the care that the
        memory does not move while it is read into.
        """
        return None

    def filled(self, size: int) -> None:
        """*size* bytes have been read into `room`."""
        raise NotImplementedError

    def add(self, data: bytes, start: int, stop: int) -> None:
        """The next bytes are *data[start:stop]*."""
        size = stop - start
        self.left -= size
        if not self._small and size >= _BLOCK:
            self._keep(memoryview(data)[start:stop])
            return
        # A payload in pieces of one byte must not cost a microsecond for each to unmask it.
        self._small += data[start:stop]
        if len(self._small) >= _BLOCK:
            self._keep_small()

    def _keep_small(self) -> None:
        small, self._small = self._small, bytearray()
        self._keep(memoryview(small))

    def _keep(self, piece: memoryview) -> None:
        whole = self._whole
        start = whole.tell()
        stop = start + len(piece)
        if not self._sized and self.left <= min(stop, _AHEAD):
            self._sized = True
            whole.seek(stop + self.left - 1)
            whole.write(b"\0")
            whole.seek(start)
        key = self._key
        if not key:
            whole.write(piece)
            return
        for at in range(0, len(piece), _BLOCK):
            whole.write(_masked(piece[at : at + _BLOCK], key))
        phase = len(piece) & 3
        self._key = key[phase:] + key[:phase]

    def take(self) -> bytes:
        """What has come so far; it is handed over."""
        if self._small:
            self._keep_small()
        whole, self._whole = self._whole, BytesIO()
        whole.truncate()
        return whole.getvalue()


# -------------------------------------------------------------------- masking


def apply_mask(data: bytes | bytearray | memoryview, key: bytes) -> bytes:
    """
    Mask or unmask.

    Args:
        data: The payload, or a piece of it that starts where *key* starts.
        key: Four bytes.

    Returns:
        As many bytes as *data* has.
    """
    size = len(data)
    if size > _SHORT:
        return bytes(_masked(data, key))
    words = (size + 3) >> 2
    mask = _from_bytes(key, "little") * _TIMES[words]
    return (_from_bytes(data, "little") ^ mask).to_bytes(words << 2, "little")[:size]


#: An unmasked frame: its header and its payload. In C ``+`` asks both what they are first.
joined = cast("Callable[[bytes, bytes], bytes]", operator.concat)


def sealed(head: bytes, key: bytes, payload: bytes) -> bytes:
    """A masked frame: its header, *key*, and *payload* masked with it."""
    return head + key + apply_mask(payload, key)


def _masked(data: bytes | bytearray | memoryview, key: bytes) -> bytearray:
    """The same for long payloads."""
    masked = bytearray(data)
    for place, byte in zip(_PLACES, key, strict=True):
        masked[place] = masked[place].translate(_TABLES[byte])
    return masked


# RFC 6455 §10.3: keys must be unpredictable, so they come from the system's
# generator. One call for 256 keys: os.urandom(4) costs 0.5 µs a message.
_pool = b""
_used = 0


def new_key() -> bytes:
    """A fresh masking key, four bytes from the system's random generator."""
    global _pool, _used
    if _used >= len(_pool):
        _pool = os.urandom(1024)
        _used = 0
    key = _pool[_used : _used + 4]
    _used += 4
    return key


def _forget_keys() -> None:
    """A forked process must not repeat its parent's keys."""
    global _pool
    _pool = b""


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_keys)
