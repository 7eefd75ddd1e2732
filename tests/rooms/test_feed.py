"""What the sequences of a sender tell: what is new, what is late, and what is missing."""

from __future__ import annotations

import pytest

from simplews.rooms.envelope import RUN_SHIFT, Envelope, Kind
from simplews.rooms.feed import Feed

ONE, OTHER = b"one proc", b"another."


def of(run: int, number: int, kind: Kind = Kind.TEXT, sender: bytes = ONE) -> Envelope:
    return Envelope(kind, sender, (run << RUN_SHIFT) + number, (), None, b"")


def mark(run: int, number: int) -> Envelope:
    return of(run, number, Kind.MARK)


@pytest.mark.parametrize(
    ("heard", "new", "missing"),
    [
        pytest.param([of(1, 1), of(1, 2), of(1, 3)], [1, 1, 1], [], id="in order"),
        pytest.param([of(1, 7), of(1, 8)], [1, 1], [], id="from the middle"),
        pytest.param([of(1, 1), of(1, 2), of(1, 2), of(1, 1)], [1, 1, 0, 0], [], id="again"),
        pytest.param([of(1, 1), of(1, 4), of(1, 5)], [1, 1, 1], [2], id="a hole"),
        pytest.param([of(1, 1), of(1, 3), of(1, 2), of(1, 4)], [1, 1, 0, 1], [1], id="late"),
        pytest.param([of(1, 5), of(2, 1), of(2, 2)], [1, 1, 1], [], id="a new run"),
        pytest.param([of(1, 5), of(2, 3), of(2, 4)], [1, 1, 1], [2], id="its beginning is missing"),
        pytest.param([of(1, 5), of(7, 1)], [1, 1], [], id="runs of other rooms between"),
        pytest.param(
            [of(1, 5), of(2, 1), of(1, 6), of(2, 2)], [1, 1, 0, 1], [], id="late, of a former run"
        ),
        pytest.param([of(1, 2), mark(1, 2), of(1, 3)], [1, 0, 1], [], id="a mark"),
        pytest.param(
            [of(1, 2), mark(1, 3), mark(1, 3)], [1, 1, 0], [1], id="a mark of one missing"
        ),
        pytest.param([of(1, 2), mark(2, 3), of(2, 4)], [1, 1, 1], [3], id="a mark of a whole run"),
        pytest.param([mark(1, 9), of(1, 10)], [1, 1], [], id="a mark first"),
        pytest.param([of(0, 8), of(0, 1), of(0, 2)], [1, 1, 1], [], id="a sender without runs"),
        pytest.param(
            [of(1, 1), of(1, 5, sender=OTHER), of(1, 2), of(1, 6, sender=OTHER)],
            [1, 1, 1, 1],
            [],
            id="two senders",
        ),
    ],
)
def test_sequences(heard: list[Envelope], new: list[int], missing: list[int]) -> None:
    holes: list[int] = []
    feed = Feed("room", lambda of, since, reason: holes.append(int(reason.split()[0])))
    assert [int(feed.in_sequence(envelope)) for envelope in heard] == new
    assert holes == missing
