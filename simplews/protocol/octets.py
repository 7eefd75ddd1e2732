"""What touches every byte of a payload: unmasking, masking, gathering (RFC 6455 §5.3).

The twin of ``octets.pyx``, which the compiled codec uses instead; a test holds
the two against each other.

Pure Python has no XOR for bytes; long integers have. Per MB on one machine:
conversion to an integer 0.63 ms, XOR 0.05, conversion back 0.69; four strided
``bytes.translate`` passes take 2.0 ms. The mask of a block is made by doubling
(converting it costs as much as the payload) and used for all blocks. Blocks of
8 KiB: with 2 KiB the calls cost 10 % more, from 16 KiB on the integers miss the
cache and the allocator's small sizes and cost up to twice as much.
"""

from __future__ import annotations

import operator
import os
import sys
from collections.abc import Callable
from typing import cast

__all__ = [
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

_BLOCK = 8192
_COLLECTED = 65536
_SEED = 512  # bytes of mask made from the key directly, then doubled

_from_bytes = int.from_bytes

# ------------------------------------------------------------------- in frames


def binary(data: bytes, start: int, stop: int, masked: bool) -> bytes:
    """The payload *data[start:stop]*; a masking key is in the four bytes before it."""
    payload = data[start:stop]
    return apply_mask(payload, data[start - 4 : start]) if masked and payload else payload


def text(data: bytes, start: int, stop: int, masked: bool) -> str:
    """
    The same as text.

    Raises:
        UnicodeDecodeError: It is not UTF-8.
    """
    return binary(data, start, stop, masked).decode("utf-8")


def utf8(data: str) -> bytes:
    """
    *data* as it travels.

    Raises:
        UnicodeEncodeError: It has half of a surrogate pair.
    """
    return data.encode("utf-8")


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
        self._memory = bytearray(size)

    def view(self, size: int) -> memoryview:
        """Its first *size* bytes, to read into."""
        return memoryview(self._memory)[:size]

    def taken(self, size: int) -> bytes:
        """Its first *size* bytes, to use before the next read."""
        return bytes(memoryview(self._memory)[:size])


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

    __slots__ = ("_blocks", "_key", "_phase", "_small", "left")

    def __init__(self, size: int, key: bytes) -> None:
        self.left = size
        self._key = key
        self._phase = 0
        self._blocks: list[bytes] = []
        self._small = bytearray()  # behind those

    def room(self) -> memoryview | None:
        """
        Memory to read the next bytes into, for `filled`; None if there is none to give.

        Here it is None: bytes that are converted to integers and back are not
        read in place.
        """
        return None

    def filled(self, size: int) -> None:
        """*size* bytes have been read into `room`."""
        raise NotImplementedError

    def add(self, data: bytes, start: int, stop: int) -> None:
        """The next bytes are *data[start:stop]*."""
        piece = data[start:stop]
        size = len(piece)
        self.left -= size
        key = self._key
        if key and size:
            phase = self._phase
            key = key[phase:] + key[:phase]
            self._phase = (phase + size) & 3
        if size < _BLOCK:
            self._small += apply_mask(piece, key) if key else piece
            if len(self._small) >= _COLLECTED:
                self._gather()
            return
        self._gather()
        if key:
            # Joined once, with everything: doing so for each piece as well costs
            # a tenth of echoing 1 MiB.
            self._blocks += _mask_blocks(piece, key)
        else:
            self._blocks.append(piece)

    def _gather(self) -> None:
        """A payload in pieces of one byte must not cost forty times its size in objects."""
        if self._small:
            self._blocks.append(bytes(self._small))
            self._small.clear()

    def take(self) -> bytes:
        """What has come so far; it is handed over."""
        self._gather()
        blocks, self._blocks = self._blocks, []
        return b"".join(blocks)


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
    if size <= _SEED:
        mask = (key * ((size + 3) >> 2))[:size]
        return (_from_bytes(data, "little") ^ _from_bytes(mask, "little")).to_bytes(size, "little")
    if size <= _BLOCK:
        return _xor(data, _mask(key, size), size)
    return b"".join(_mask_blocks(data, key))


#: An unmasked frame: its header and its payload. In C ``+`` asks both what they are first.
joined = cast("Callable[[bytes, bytes], bytes]", operator.concat)


def sealed(head: bytes, key: bytes, payload: bytes) -> bytes:
    """A masked frame: its header, *key*, and *payload* masked with it."""
    return head + key + apply_mask(payload, key)


def _mask_blocks(data: bytes | bytearray | memoryview, key: bytes) -> list[bytes]:
    """The same in blocks, for a caller who joins them with others."""
    mask = _mask(key, _BLOCK)
    view = memoryview(data)
    whole = len(view) - len(view) % _BLOCK
    blocks = [_xor(view[at : at + _BLOCK], mask, _BLOCK) for at in range(0, whole, _BLOCK)]
    if whole < len(view):
        rest = len(view) - whole
        blocks.append(_xor(view[whole:], mask & ((1 << (8 * rest)) - 1), rest))
    return blocks


def _xor(data: bytes | bytearray | memoryview, mask: int, size: int) -> bytes:
    return (_from_bytes(data, "little") ^ mask).to_bytes(size, "little")


def _mask(key: bytes, size: int) -> int:
    """*key* repeated over *size* bytes, as a little-endian integer."""
    mask = _from_bytes(key * (_SEED // 4), "little")
    bits = _SEED * 8
    wanted = size * 8
    while bits < wanted:
        mask |= mask << bits
        bits *= 2
    if bits > wanted:
        mask &= (1 << wanted) - 1
    return mask


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
