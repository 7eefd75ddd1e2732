"""What touches every byte of a payload: unmasking, masking, gathering (RFC 6455 §5.3).

The twin of ``octets.pyx``, which the compiled codec uses instead; a test holds
the two against each other.

Pure Python has no XOR for bytes. A short payload is converted to an integer, XORed
and converted back. A longer one is masked where it is, by ``xor.py``, which borrows an
XOR or makes one of tables; until it is complete its memory is a BytesIO, which can be
written to and then gives its bytes away uncopied.
"""

from __future__ import annotations

import operator
import os
import sys
from collections.abc import Callable
from io import BytesIO
from typing import cast

from .xor import mask

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

# Up to here integers are faster: 1.9 µs for 768 bytes, which in place take 2.0 and 4096 take
# 3.0, if it is not done by places: those take 3.0 and 6.0.
_SHORT = 768

# What is unmasked at once of a payload that comes in pieces: a payload in pieces of one
# byte must not cost a microsecond for each to unmask it.
_BLOCK = 65536
# The rest of its memory is taken, and written to, when half of it has come, and no more
# than so many bytes at once, which take 2 ms.
_AHEAD = 8388608

_from_bytes = int.from_bytes

# Times a key, it is the key so many times.
_TIMES = tuple(_from_bytes(b"\1\0\0\0" * count, "little") for count in range(_SHORT // 4 + 2))

# ------------------------------------------------------------------- in frames


def binary(data: bytes, start: int, stop: int, masked: bool) -> bytes:
    """The payload *data[start:stop]*; a masking key is in the four bytes before it."""
    if not masked:
        return data[start:stop]
    size = stop - start
    if size > _SHORT:
        return _masked(BytesIO(data[start:stop]), 0, size, data[start - 4 : start])
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

    __slots__ = ("_key", "_sized", "_unmasked", "_whole", "left")

    def __init__(self, size: int, key: bytes) -> None:
        self.left = size
        self._key = key
        # Blocks that are joined in the end are twice the message for a moment, and so is
        # memory that grows: too much for malloc to keep. Of echoing 1 MiB, a third of the
        # cost was its page faults.
        self._whole = BytesIO()
        self._sized = False  # whether that has all its memory
        self._unmasked = 0  # up to where

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
        if not size:
            return
        self.left -= size
        whole = self._whole
        position = whole.tell()
        come = position + size
        if not self._sized and self.left <= min(come, _AHEAD):
            self._sized = True
            whole.seek(come + self.left - 1)
            whole.write(b"\0")
            whole.seek(position)
        whole.write(memoryview(data)[start:stop])
        if come - self._unmasked >= _BLOCK:
            self._unmask(come)

    def _unmask(self, come: int) -> None:
        start = self._unmasked
        if self._key:
            phase = start & 3
            mask(self._whole, start, come, self._key[phase:] + self._key[:phase])
        self._unmasked = come

    def take(self) -> bytes:
        """What has come so far; it is handed over."""
        whole = self._whole
        self._unmask(whole.tell())
        self._whole = BytesIO()
        self._unmasked = 0
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
        return _masked(BytesIO(bytes(data)), 0, size, key)
    words = (size + 3) >> 2
    repeated = _from_bytes(key, "little") * _TIMES[words]
    return (_from_bytes(data, "little") ^ repeated).to_bytes(words << 2, "little")[:size]


#: An unmasked frame: its header and its payload. In C ``+`` asks both what they are first.
joined = cast("Callable[[bytes, bytes], bytes]", operator.concat)


def sealed(head: bytes, key: bytes, payload: bytes) -> bytes:
    """A masked frame: its header, *key*, and *payload* masked with it."""
    head += key
    if len(payload) > _SHORT:
        frame = BytesIO(head + payload)
        return _masked(frame, len(head), len(head) + len(payload), key)
    return head + apply_mask(payload, key)


def _masked(frame: BytesIO, start: int, stop: int, key: bytes) -> bytes:
    """What *frame* has, masked from *start* to *stop*. It is no copy if nobody else has it."""
    mask(frame, start, stop, key)
    return frame.getvalue()


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
