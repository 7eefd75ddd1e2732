"""What travels through an engine: any bytes are read, or refused with a ValueError."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from simplews.rooms.envelope import Envelope, Kind, head_of, pack, topic_of, unpack

keys = st.none() | st.text(max_size=20) | st.binary(max_size=20) | st.integers()
ids = st.lists(st.text(min_size=1, max_size=60), max_size=4)


@given(
    st.sampled_from(Kind),
    st.binary(min_size=8, max_size=8),
    st.integers(0, 2**64 - 1),
    st.binary(max_size=50),
    ids,
    keys,
)
def test_what_was_packed_is_unpacked(
    kind: Kind, sender: bytes, sequence: int, payload: bytes, excluded: list[str], key: object
) -> None:
    data = pack(kind, sender, sequence, payload, head_of(excluded, key))
    assert unpack(data) == Envelope(kind, sender, sequence, tuple(excluded), key, payload)


@given(st.binary(max_size=80) | st.binary(max_size=60).map(lambda rest: b"\x01\x01" + rest))
def test_any_bytes_are_an_envelope_or_refused(data: bytes) -> None:
    with contextlib.suppress(ValueError):
        assert isinstance(unpack(data), Envelope)


def test_the_bytes_of_an_envelope() -> None:
    """As `docs/explanation/rooms.md` has them, for other languages."""
    data = pack(Kind.TEXT, b"PROCESS1", 258, b"hello", head_of(["a", "bc"], "k"))
    assert data == (
        b"\x01\x01PROCESS1" + b"\0\0\0\0\0\0\x01\x02" + b"\x02\x01a\x02bc" + b"\0\x02sk" + b"hello"
    )
    assert pack(Kind.BINARY, b"PROCESS1", 1, b"\xff")[18:] == b"\0\0\0\xff"


def test_another_version_is_refused() -> None:
    with pytest.raises(ValueError, match="an envelope of version 2; this is version 1"):
        unpack(b"\x02" + pack(Kind.TEXT, bytes(8), 1)[1:])


@given(st.text(max_size=60), st.text(max_size=60))
def test_a_topic_is_safe_and_unique(one: str, two: str) -> None:
    topics = [topic_of(name) for name in (one, two)]
    for topic in topics:
        assert topic
        assert not set(topic) - set(
            "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_-%"
        )
    assert (topics[0] == topics[1]) is (one == two)
