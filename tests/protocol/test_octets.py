"""Masking (RFC 6455 §5.3), against the RFC's formula byte by byte."""

from __future__ import annotations

import os
import subprocess
import sys
import tracemalloc
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import simplews
from simplews.protocol import xor as ways
from simplews.protocol.octets import Assembly, apply_mask, new_key, sealed

from .by_hand import KEY, xor

# Around every power of two up to a block of any size that we may choose, and odd ones.
EDGES = sorted(
    {1 << bits | odd for bits in range(9, 18) for odd in (0, 1, 3)}
    | {(1 << bits) - less for bits in range(9, 18) for less in (1, 2, 4)}
    | {3 * 8192, 3 * 16384 + 5, 100_003}
)

COMPILED = "simplews.protocol.octets" in simplews.__speedups__


@pytest.fixture(
    scope="module", autouse=True, params=["compiled"] if COMPILED else ["pure", "by places"]
)
def way(request: pytest.FixtureRequest) -> Iterator[None]:
    """Everything here also without what Python is linked with (``xor.py``)."""
    before = ways._way
    if request.param == "by places":
        ways._way = ways.by_places
    yield
    ways._way = before


def test_masking_is_the_example_of_the_rfc() -> None:
    """RFC 6455 §5.7."""
    assert apply_mask(b"Hello", KEY) == bytes.fromhex("7f 9f 4d 51 58")


def test_every_short_length_is_masked() -> None:
    """0 to 800, over the length where the way of making the mask changes."""
    data = os.urandom(800)
    for size in range(801):
        assert apply_mask(data[:size], KEY) == xor(data[:size], KEY), size


@pytest.mark.parametrize("size", EDGES)
def test_long_payload_is_masked_in_every_block(size: int) -> None:
    """No byte is skipped or masked twice where blocks meet."""
    data = os.urandom(size)
    key = os.urandom(4)
    masked = apply_mask(data, key)
    assert masked == xor(data, key)
    assert apply_mask(masked, key) == data


@pytest.mark.parametrize("size", [0, 1, 5, 600, 900, 20_000])
@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
def test_every_kind_of_bytes_is_masked_and_left_alone(
    kind: type[bytes | bytearray | memoryview], size: int
) -> None:
    """The result is new; the payload is borrowed."""
    original = os.urandom(size)
    data = kind(original)
    masked = apply_mask(data, KEY)
    assert type(masked) is bytes and masked == xor(original, KEY)
    assert bytes(data) == original


@pytest.mark.parametrize("size", [0, 4, 100, 600, 900, 20_000])
def test_key_of_zeros_changes_nothing(size: int) -> None:
    """It is legal, and leading or trailing zero bytes of a number must not get lost."""
    data = bytes(size // 2) + os.urandom(size - size // 2)
    assert apply_mask(data, bytes(4)) == data
    assert apply_mask(data, KEY)[: size // 2] == (KEY * size)[: size // 2]
    assert apply_mask((KEY * size)[:size], KEY) == bytes(size)


@given(data=st.binary(max_size=900), key=st.binary(min_size=4, max_size=4))
def test_masking_follows_the_formula(data: bytes, key: bytes) -> None:
    """ "octet i of the transformed data is the XOR of octet i of the original with octet
    i modulo 4 of the masking key"."""
    assert apply_mask(data, key) == xor(data, key)


@pytest.mark.parametrize("size", [1 << 20, (10 << 20) + 5])
def test_long_payload_is_never_there_twice(size: int) -> None:
    """However it grows: what is twice the message goes back to the system each time, and
    the next message pays for it in page faults."""
    masked = os.urandom(size)
    assembly = Assembly(size, KEY)
    tracemalloc.start()
    try:
        for start in range(0, size, 262144):
            assembly.add(masked, start, min(start + 262144, size))
        payload = assembly.take()
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert apply_mask(payload, KEY) == masked
    assert peak < 1.4 * size


@pytest.mark.parametrize("size", [1 << 20, (10 << 20) + 5])
def test_masked_frame_is_made_without_a_copy(size: int) -> None:
    """Of its own: it is the only one."""
    payload = os.urandom(size)
    sealed(b"head", KEY, payload)  # what is loaded at the first one does not count
    tracemalloc.start()
    try:
        frame = sealed(b"head", KEY, payload)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert frame[:8] == b"head" + KEY and apply_mask(frame[8:], KEY) == payload
    assert peak < 1.4 * size


def test_keys_are_four_bytes_and_fresh() -> None:
    """RFC 6455 §5.3: "a fresh masking key from the set of allowed 32-bit values"."""
    keys = [new_key() for _ in range(2000)]
    assert {len(key) for key in keys} == {4}
    assert len(set(keys)) >= 1998  # chance may repeat one
    for position in range(4):
        assert len({key[position] for key in keys}) > 200


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_forked_process_does_not_repeat_its_parents_keys() -> None:
    """RFC 6455 §10.3: keys that another process sent are not unpredictable."""
    program = """
import os
from simplews.protocol.octets import new_key
new_key()
reading, writing = os.pipe()
if os.fork() == 0:
    os.write(writing, b"".join(new_key() for _ in range(20)))
    os._exit(0)
os.wait()
theirs = os.read(reading, 80)
ours = b"".join(new_key() for _ in range(20))
assert len(theirs) == len(ours) == 80
assert not {theirs[i : i + 4] for i in range(0, 80, 4)} & {ours[i : i + 4] for i in range(0, 80, 4)}
"""
    paths = [str(Path(simplews.__file__).parents[1]), os.environ.get("PYTHONPATH", "")]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, paths))}
    subprocess.run([sys.executable, "-c", program], env=environment, check=True, timeout=30)
