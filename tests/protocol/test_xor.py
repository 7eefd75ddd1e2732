"""Masking in place (RFC 6455 §5.3), in each of its ways, against the formula byte by byte."""

from __future__ import annotations

import _hashlib
import ctypes
import gc
import os
import subprocess
import sys
import tracemalloc
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from io import BytesIO
from pathlib import Path
from threading import Barrier

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import simplews
from simplews.protocol import xor as module
from simplews.protocol.xor import Way, by_openssl, by_places, mask

from .by_hand import KEY, xor

BY_OPENSSL = by_openssl()
WAYS = {"by places": by_places} | ({"by OpenSSL": BY_OPENSSL} if BY_OPENSSL else {})
NOISE = os.urandom(1 << 18)

needs_openssl = pytest.mark.skipif(
    not hasattr(ctypes.PyDLL(getattr(_hashlib, "__file__", None)), "CRYPTO_ofb128_encrypt"),
    reason="this Python's hashlib does not lead to OpenSSL's function",
)


@pytest.fixture(params=["by places", pytest.param("by OpenSSL", marks=needs_openssl)])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Way]:
    """Each way, which `mask` takes meanwhile."""
    chosen = WAYS[request.param]
    monkeypatch.setattr(module, "_way", chosen)
    yield chosen


@needs_openssl
def test_openssl_is_used_where_it_is() -> None:
    """Otherwise the rest may pass by the other way alone."""
    assert BY_OPENSSL is not None
    program = """
import sys
import simplews.protocol.octets, simplews.protocol.xor as xor
print("ctypes" in sys.modules, end=" ")
simplews.protocol.octets.apply_mask(bytes(768), b"keys")
print("ctypes" in sys.modules, end=" ")
simplews.protocol.octets.apply_mask(bytes(769), b"keys")
print("ctypes" in sys.modules, xor._way.__name__ != xor.by_places.__name__)
"""
    # Not before the first long payload: most programs have none, or are compiled.
    assert run(program) == "False False True True"


def test_compiled_part_has_no_use_for_it() -> None:
    """It masks in C, and this would only be memory."""
    program = """
import sys
import simplews
print("simplews.protocol.octets" in simplews.__speedups__, "simplews.protocol.xor" in sys.modules)
"""
    pure = "simplews.protocol.octets" not in simplews.__speedups__
    assert run(program, pure=pure) == f"{not pure} {pure}"


def run(program: str, *, pure: bool = True) -> str:
    paths = [str(Path(simplews.__file__).parents[1]), os.environ.get("PYTHONPATH", "")]
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(filter(None, paths)),
        "SIMPLEWS_PURE": "1" if pure else "",
    }
    done = subprocess.run(
        [sys.executable, "-c", program],
        env=environment,
        check=True,
        timeout=30,
        capture_output=True,
        text=True,
    )
    return done.stdout.strip()


# ---------------------------------------------------------------------- what it does

SIZES = st.integers(0, 100) | st.integers(0, 70_000) | st.sampled_from([65535, 65536, 65537])


@settings(deadline=None)
@given(
    size=SIZES,
    start=st.integers(0, 40),
    after=st.integers(0, 40),
    key=st.binary(min_size=4, max_size=4),
)
@pytest.mark.parametrize("name", WAYS)
def test_mask_follows_the_formula(name: str, size: int, start: int, after: int, key: bytes) -> None:
    """Whatever the length and wherever it begins; what is around it stays."""
    data = NOISE[: start + size + after]
    stop = start + size
    masked = bytearray(data)
    WAYS[name](memoryview(masked), start, stop, key)
    assert masked[start:stop] == xor(data[start:stop], key)
    assert masked[:start] == data[:start] and masked[stop:] == data[stop:]


@pytest.mark.parametrize("start", range(5))
def test_mask_crosses_blocks(way: Way, start: int) -> None:
    """No byte is skipped or masked twice where blocks meet."""
    stream = BytesIO(NOISE)
    mask(stream, start, len(NOISE) - 3, KEY)
    whole = stream.getvalue()
    assert whole[start:-3] == xor(NOISE[start:-3], KEY)
    assert whole[:start] == NOISE[:start] and whole[-3:] == NOISE[-3:]


def test_what_somebody_else_has_is_not_written_to(way: Way) -> None:
    """Bytes do not change: the stream takes a copy then, and only then."""
    data = bytes(5000)
    stream = BytesIO(data)
    mask(stream, 0, 5000, KEY)
    seen = stream.getvalue()
    mask(stream, 0, 5000, KEY)
    assert data == bytes(5000) and seen == KEY * 1250 and stream.getvalue() == data


def test_stream_keeps_its_place_and_can_grow(way: Way) -> None:
    """A view that is left behind would refuse that."""
    stream = BytesIO()
    stream.write(NOISE[:1000])
    mask(stream, 10, 1000, KEY)
    stream.write(NOISE[1000:200_000])
    stream.truncate(2000)
    assert stream.getvalue()[1000:] == NOISE[1000:2000]


def test_memory_can_be_resized_afterwards(way: Way) -> None:
    """At once, without a run of the collector."""
    memory = bytearray(NOISE[:1000])
    gc.disable()
    try:
        with memoryview(memory) as view:
            way(view, 0, 1000, KEY)
        memory.extend(NOISE)
        memory.clear()
    finally:
        gc.enable()


@pytest.mark.parametrize(
    ("start", "stop", "key"),
    [(-1, 10, KEY), (0, 101, KEY), (11, 10, KEY), (0, 100, KEY[:3]), (0, 100, KEY + b"5")],
)
def test_what_is_outside_is_refused(way: Way, start: int, stop: int, key: bytes) -> None:
    """In C nobody else would."""
    stream = BytesIO(bytes(100))
    with pytest.raises(ValueError):
        mask(stream, start, stop, key)
    stream.write(bytes(200))  # and no view is left
    assert stream.getvalue() == bytes(200)


def test_masking_leaves_nothing_behind(way: Way) -> None:
    """Not a byte for a message, whatever ctypes makes for a call."""
    stream = BytesIO(NOISE[:1000])

    def often() -> int:
        for _ in range(2000):
            mask(stream, 1, 1000, KEY)
        return tracemalloc.get_traced_memory()[0]

    tracemalloc.start()
    try:
        before = often()
        assert often() - before < 2000
    finally:
        tracemalloc.stop()


def test_masking_takes_no_memory_of_the_size_of_the_message(way: Way) -> None:
    """But for a block, where it goes by places."""
    stream = BytesIO(NOISE * 8)
    mask(stream, 0, 1, KEY)
    tracemalloc.start()
    try:
        mask(stream, 0, 8 * len(NOISE), KEY)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < len(NOISE)


@pytest.mark.parametrize("known", [True, False])
def test_threads_mask_at_once(known: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Event loops of several threads, each with its own key; the first time as well."""
    monkeypatch.setattr(module, "_way", BY_OPENSSL if known else None)
    interval = sys.getswitchinterval()
    together = Barrier(4)

    def work(number: int) -> bool:
        key = bytes([number, 2, 3, 4 * number])
        expected = xor(NOISE[:3001], key)
        together.wait(20)
        for _ in range(300):
            stream = BytesIO(NOISE[:3001])
            mask(stream, 0, 3001, key)
            if stream.getvalue() != expected:
                return False
        return True

    sys.setswitchinterval(1e-6)
    try:
        with ThreadPoolExecutor(4) as threads:
            assert all(threads.map(work, range(4)))
    finally:
        sys.setswitchinterval(interval)


# ------------------------------------------------------------- where it does not work


def test_library_without_the_function_is_not_used() -> None:
    """Windows, and a libcrypto that is linked in without its symbols."""
    import _ctypes

    assert by_openssl(ctypes.PyDLL(getattr(_ctypes, "__file__", None))) is None


SIGNATURE = ctypes.CFUNCTYPE(None, *[ctypes.c_void_p] * 2, ctypes.c_size_t, *[ctypes.c_void_p] * 4)


def in_blocks(source: int, target: int, size: int, _: int, block: int, *rest: int) -> None:
    """Right as long as the size is a multiple of 16."""
    size &= ~15
    masked = xor(ctypes.string_at(source, size), ctypes.string_at(block, 4))
    ctypes.memmove(target, masked, size)


@pytest.mark.parametrize("function", [lambda *_: None, in_blocks])
def test_library_that_does_something_else_is_not_used(function: Callable[..., None]) -> None:
    """The name alone says nothing; it is tried before a message depends on it."""

    class Library:
        CRYPTO_ofb128_encrypt = SIGNATURE(function)
        memmove = ctypes.memmove

    assert by_openssl(Library) is None


@pytest.mark.parametrize("name", ["ctypes", "_hashlib"])
def test_python_without_one_of_them_goes_by_places(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both are optional when Python is built."""
    monkeypatch.setitem(sys.modules, name, None)
    assert by_openssl() is None
    monkeypatch.setattr(module, "_way", None)
    stream = BytesIO(NOISE[:1000])
    mask(stream, 0, 1000, KEY)
    assert stream.getvalue() == xor(NOISE[:1000], KEY)
    assert module._way is by_places


def test_hook_that_forbids_ctypes_is_obeyed() -> None:
    """It may raise whatever it likes, and no message is to fail for that."""
    program = """
import sys
def forbid(event, arguments):
    if event == "ctypes.dlopen":
        raise RuntimeError("no")
sys.addaudithook(forbid)
from simplews.protocol.octets import apply_mask
assert apply_mask(bytes(5000), b"keys") == b"keys" * 1250
from simplews.protocol import xor
print(xor._way is xor.by_places)
"""
    assert run(program) == "True"
