"""Masking a long payload where it is (RFC 6455 §5.3), without a compiler.

Pure Python has no XOR for bytes, but what Python is linked with does: libcrypto has a
function for output feedback, which XORs a text with a stream of blocks, and makes each
block from the one before with a block function that the caller brings::

    void CRYPTO_ofb128_encrypt(const unsigned char *in, unsigned char *out, size_t len,
                               const void *key, unsigned char ivec[16], int *num,
                               block128_f block);

With a block function that leaves the block as it is, the stream is the first block, again
and again: the masking key, four times. C's memmove() is one. It is called as
``block(ivec, ivec, key)``, and *key*, which nobody else looks at, is the size: 16.
Nothing is encrypted, and no cipher is involved that a policy could forbid.

The function is public, in ``<openssl/modes.h>``, and has had this signature since OpenSSL
1.0.0; the input may be the output. ctypes finds it through the extension module that
``hashlib`` is made of, and memmove() too, so that it is the libcrypto that is loaded
anyway, and nothing is searched for or loaded from elsewhere.

It is not used where there is no ctypes, where that module is no shared library or does
not lead to the function (Windows, libcrypto linked in without its symbols, PyPy), or where
a trial on a few lengths gives something else than integers do. Then it goes by the four
places of the key: every fourth byte is taken out, looked up in a table of 256 bytes and
put back. Which way it is turns out at the first payload, not at import: that takes 3 ms,
once, and 200 KB, most of them ctypes'.

Per MB on one machine: 0.19 ms; by the places of the key 1.0, of which the lookups are
0.45. The call itself takes 1 µs.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from functools import cache
from io import BytesIO
from typing import Any

__all__ = ["Way", "by_openssl", "by_places", "mask"]

#: ``way(view, start, stop, key)`` masks *view[start:stop]*; *view* is writable bytes, and
#: *key* starts at *start*.
Way = Callable[[memoryview, int, int, bytes], None]

# The way of this process. Threads that are here for the first time at once find the same.
_way: Way | None = None


def mask(stream: BytesIO, start: int, stop: int, key: bytes) -> None:
    """
    Mask or unmask what *stream* has from *start* to *stop*, in place.

    A BytesIO is memory that can be written to and is given away as bytes, both without
    copying, as long as nobody else has these bytes.

    Args:
        stream: Its position does not matter, and stays.
        start: Where the first byte of *key* goes.
        stop: Not behind its end.
        key: Four bytes.

    Raises:
        ValueError: One of them is not so.
    """
    global _way
    if _way is None:
        _way = by_openssl() or by_places
    # Released at once, whoever counts references: what has views cannot grow.
    with stream.getbuffer() as view:
        if not 0 <= start <= stop <= len(view) or len(key) != 4:
            raise ValueError(f"no {start}:{stop} in {len(view)} bytes, or no key: {key!r}")
        _way(view, start, stop, key)


# -------------------------------------------------------------- by libcrypto


def by_openssl(library: Any = None) -> Way | None:
    """
    The way by output feedback.

    Args:
        library: What ctypes has loaded; None for what hashlib is made of.

    Returns:
        None if it does not work here.
    """
    try:
        import ctypes

        if library is None:
            # It keeps the GIL: to get it back behind other threads may take 5 ms each time,
            # and a MB does not take 0.2.
            library = ctypes.PyDLL(importlib.import_module("_hashlib").__file__)
        address = ctypes.c_void_p
        encrypt = library.CRYPTO_ofb128_encrypt
        encrypt.restype = None
        encrypt.argtypes = (
            address, address, ctypes.c_size_t, address, address, address, address
        )  # fmt: skip
        block = ctypes.cast(library.memmove, address).value
        memory_at = (ctypes.c_char * 0).from_buffer
        # How much of a block was used before: nothing. It is written to, and therefore made
        # for each call, as the block is: other threads mask as well.
        used = ctypes.c_int * 1

        def way(view: memoryview, start: int, stop: int, key: bytes) -> None:
            memory = memory_at(view, start)
            encrypt(memory, memory, stop - start, 16, key * 4, used(), block)

        return way if _is_right(way) else None
    except Exception:
        # ImportError, OSError, AttributeError, ValueError: it is not there. A hook of
        # sys.addaudithook() that forbids ctypes raises what it likes.
        return None


def _is_right(way: Way) -> bool:
    """Whether it masks as integers do, and nothing around it."""
    key = b"\x01\x82\x43\xc4"
    data = bytes(range(256)) * 5
    for start, size in ((0, 16), (0, 1280), (1, 3), (3, 33), (7, 250), (9, 1021)):
        masked = bytearray(data)
        with memoryview(masked) as view:
            way(view, start, start + size, key)
        stream = bytes(start) + (key * size)[:size] + bytes(len(data) - start - size)
        expected = int.from_bytes(data, "little") ^ int.from_bytes(stream, "little")
        if int.from_bytes(masked, "little") != expected:
            return False
    return True


# ------------------------------------------------- by the places of the key

# At once, and a multiple of the key: what is cut out is still near when it is put back.
_BLOCK = 65536

_PLACES = tuple(slice(place, None, 4) for place in range(4))


@cache
def _tables() -> tuple[bytes, ...]:
    """For each byte of a key, what the other 256 become: 64 KB, if they are needed."""
    every = int.from_bytes(bytes(range(256)), "little")
    ones = int.from_bytes(b"\1" * 256, "little")
    return tuple((every ^ ones * byte).to_bytes(256, "little") for byte in range(256))


def by_places(view: memoryview, start: int, stop: int, key: bytes) -> None:
    """
    The way that works everywhere.

    It must be a bytearray that is cut and assigned to: the same slices of bytes, which are
    copied before they are assigned, take 1.5 ms for each MB, and so do integers.
    """
    tables = _tables()
    for at in range(start, stop, _BLOCK):
        end = min(at + _BLOCK, stop)
        masked = bytearray(view[at:end])
        for place, byte in zip(_PLACES, key, strict=True):
            masked[place] = masked[place].translate(tables[byte])
        view[at:end] = masked
