"""The file that a run leaves: read, written, and put together from several."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .load import Record

# What must be equal in results that stand side by side.
SAME = ("python", "system", "cpu", "versions", "layout")


@dataclass
class Results:
    """
    Records, and the runs that they come from.

    A record has ``case``, ``peer``, ``loop`` and ``repeat``, and figures or an
    ``error``.
    """

    runs: list[dict[str, Any]]
    records: list[Record]

    def dump(self) -> str:
        """JSON, one record a line, so that a diff of two files can be read."""
        runs = ",\n".join(json.dumps(run, sort_keys=True) for run in self.runs)
        records = ",\n".join(json.dumps(short(record)) for record in self.records)
        return f'{{"runs": [\n{runs}\n],\n"records": [\n{records}\n]}}\n'


def short(record: Record) -> Record:
    """*record* with no more digits than mean anything."""
    return {
        key: float(f"{value:.6g}") if isinstance(value, float) else value
        for key, value in record.items()
    }


def parse(text: str) -> Results:
    """
    The results that a file holds.

    Raises:
        ValueError: It holds something else.
    """
    document = json.loads(text)
    try:
        return Results(document["runs"], document["records"])
    except (KeyError, TypeError):
        raise ValueError("this is not a file of benchmark results") from None


def load(path: Path) -> Results:
    """Read a file."""
    return parse(path.read_text())


def merge(several: Iterable[Results], *, pool: bool = False) -> Results:
    """
    One set of results of several.

    Args:
        pool: What a case has in each of them are repeats of the same; otherwise
            a case, on a loop, is the last one's that has it, so that its ratios
            are always of one run.

    Raises:
        ValueError: They are of different machines or versions, so that no
            ratio between them would mean anything.
    """
    merged = Results([], [])
    for results in several:
        for run in results.runs:
            _comparable([*merged.runs, run])
            merged.runs.append(run)
        if not pool:
            new = {(record["case"], record["loop"]) for record in results.records}
            merged.records = [r for r in merged.records if (r["case"], r["loop"]) not in new]
        merged.records += results.records
    return merged


def _comparable(runs: Sequence[dict[str, Any]]) -> None:
    for key in SAME:
        one, other = runs[0].get(key), runs[-1].get(key)
        if one != other:
            raise ValueError(f"results of different runs differ in {key}: {one} and {other}")
