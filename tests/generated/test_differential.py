"""RELIABILITY: random streams against independent implementations, 0 of 10,000 differ.

The default run has fewer; ``python -m tests.generated.differential`` has them all.
"""

from __future__ import annotations

from dataclasses import replace

import pytest

from simplews.protocol.frames import Ping, Pong, serialize_close

from ..protocol.by_hand import CLOSE, PING, PONG
from .differential import STRANGERS, Known, Reader, Stranger, compare, ours
from .streams import make_stream

STREAMS = 800
# Behind those that `python -m tests.generated.differential` has.
FIRST = 10_000


@pytest.mark.parametrize("stranger", STRANGERS, ids=lambda stranger: stranger.name)
def test_streams_mean_the_same_to_a_stranger(stranger: Stranger) -> None:
    """Same messages, same control frames, same close code."""
    for seed in range(STREAMS):
        _, difference = compare(make_stream(seed), stranger)
        differ = difference is not None
        assert not differ, f"stream {seed}; python -m tests.generated.differential shows it"


def test_streams_mean_what_the_book_says() -> None:
    """All of each stream, with its limit, against the RFC read literally."""
    codes = set()
    for seed in range(FIRST, FIRST + STREAMS):
        stream = make_stream(seed)
        mine = ours(stream)
        book = Reader(stream.server, stream.limit, stream.bits, stream.takeover).read(stream.data)
        controls = [
            (PING, event.payload)
            if isinstance(event, Ping)
            else (PONG, event.payload)
            if isinstance(event, Pong)
            else (CLOSE, serialize_close(event))
            for event in mine.events
        ]
        assert (mine.messages, controls, mine.code) == (
            book.messages,
            book.controls,
            book.code,
        ), f"stream {seed}"
        codes.add(mine.code)
    assert codes >= {None, 1002, 1007, 1009}  # else the streams are not what they should be


@pytest.mark.parametrize(
    ("stranger", "known"),
    [(stranger, known) for stranger in STRANGERS for known in stranger.known],
    ids=lambda value: value.name,
)
def test_known_difference_is_still_there(stranger: Stranger, known: Known) -> None:
    """When this fails, the stranger has been mended: delete the entry."""
    stream = known.example
    asked, name = stranger.asked(stream)
    assert (name, asked.frames) == (known.name, stream.frames[: len(asked.frames)])
    whole = stream if stranger.limits else replace(stream, limit=None)
    assert ours(whole) != stranger.reads(whole)
