"""What the repeats of a figure come to: medians, spreads, and ratios between peers."""

from __future__ import annotations

import statistics
from collections.abc import Iterable
from dataclasses import dataclass, field

from .cases import CASES, Case
from .load import Record

Key = tuple[str, str, str]  # case, peer, loop

OURS = "simplews"
RAW = "tcp-"


@dataclass(frozen=True)
class Figure:
    """
    The repeats of one case, peer and loop.

    Attributes:
        medians: Of each figure that the records hold.
        spread: Half the distance between the least and the largest, of the
            figure that the case is about, as a share of its median.
        failed: Repeats that gave no figure.
        error: What the first of them said.
    """

    medians: dict[str, float] = field(default_factory=dict)
    spread: float = 0.0
    repeats: int = 0
    failed: int = 0
    error: str = ""


@dataclass(frozen=True)
class Summary:
    """All figures of a set of results."""

    figures: dict[Key, Figure]

    def cases(self) -> list[Case]:
        """The cases that were measured, in the order in which they are defined."""
        measured = {case for case, _, _ in self.figures}
        return [case for name, case in CASES.items() if name in measured]

    def loops(self) -> list[str]:
        """The event loops."""
        return sorted({loop for _, _, loop in self.figures})

    def peers(self, cases: Iterable[Case], loop: str) -> list[str]:
        """The peers of these cases, the cheapest of the first case first."""
        names = [case.name for case in cases]
        found = {peer for case, peer, on in self.figures if case in names and on == loop}

        def cost(peer: str) -> tuple[float, ...]:
            values = (self.value(name, peer, loop) for name in names)
            return tuple(float("inf") if value is None else value for value in values)

        return sorted(found, key=lambda peer: (cost(peer), peer))

    def get(self, case: str, peer: str, loop: str) -> Figure | None:
        """What is known of that, or None if it was not measured."""
        return self.figures.get((case, peer, loop))

    def value(self, case: str, peer: str, loop: str) -> float | None:
        """The figure that the case is about; None without one."""
        figure = self.get(case, peer, loop)
        return figure.medians.get(CASES[case].figure) if figure else None

    def ratio(self, case: str, peer: str, other: str, loop: str) -> float | None:
        """What *peer* costs when *other* costs 1: less is better."""
        ours, theirs = self.value(case, peer, loop), self.value(case, other, loop)
        return ours / theirs if ours is not None and theirs else None

    def best(self, case: str, loop: str, among: Iterable[str] | None) -> str | None:
        """The cheapest of these peers; among all but ours and raw TCP if None."""
        if among is None:
            among = [
                peer
                for name, peer, on in self.figures
                if (name, on) == (case, loop) and not peer.startswith((OURS, RAW))
            ]
        costs = {peer: self.value(case, peer, loop) for peer in among}
        able = {peer: cost for peer, cost in costs.items() if cost is not None}
        return min(able, key=lambda peer: (able[peer], peer)) if able else None

    def failures(self) -> list[tuple[Key, Figure]]:
        """What gave no figure, in some repeats or in all."""
        return sorted((key, figure) for key, figure in self.figures.items() if figure.failed)


def _figure(case: str, records: list[Record]) -> Figure:
    good = [record for record in records if "error" not in record]
    errors = [record["error"] for record in records if "error" in record]
    keys = dict.fromkeys(
        key
        for record in good
        for key, value in record.items()
        if isinstance(value, int | float) and key != "repeat"
    )
    medians = {
        key: statistics.median(record[key] for record in good if key in record) for key in keys
    }
    return Figure(
        medians=medians,
        spread=_spread([record[CASES[case].figure] for record in good]),
        repeats=len(good),
        failed=len(errors),
        error=errors[0] if errors else "",
    )


def _spread(values: list[float]) -> float:
    if not values or not statistics.median(values):
        return 0.0
    return (max(values) - min(values)) / 2 / statistics.median(values)


def summarise(records: Iterable[Record]) -> Summary:
    """Put the repeats together; records of cases that are no more are left out."""
    groups: dict[Key, list[Record]] = {}
    for record in records:
        if record["case"] in CASES:
            key = record["case"], record["peer"], record["loop"]
            groups.setdefault(key, []).append(record)
    return Summary({key: _figure(key[0], group) for key, group in groups.items()})
