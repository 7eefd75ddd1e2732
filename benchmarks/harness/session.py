"""A whole run: the plan, several times over, in an order that is fair to all."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable

from .load import Record
from .measure import FAILURES, Bench
from .plan import Plan, Turn


def order(turns: list[Turn], repeat: int) -> list[Turn]:
    """A B C, then C B A: a drift that is slow cancels out of the ratios."""
    return turns if repeat % 2 == 0 else turns[::-1]


def run(
    bench: Bench,
    plan: Plan,
    repeats: int,
    *,
    budget: float | None = None,
    report: Callable[[Record], None] | None = None,
) -> list[Record]:
    """
    Measure all that is planned.

    Args:
        budget: Seconds after which no further repeat begins: not if the one
            before makes it likely that it would end later.
        report: Told each record.
    """
    start = time.monotonic()
    records: list[Record] = []
    for repeat in range(repeats):
        begun = time.monotonic()
        try:
            for case, turns in plan.rows:
                for peer, loop in order(turns, repeat):
                    record: Record = {"case": case.name, "peer": peer.name, "loop": loop}
                    record["repeat"] = repeat
                    try:
                        record |= bench.one(case, peer, loop)
                    except FAILURES as exc:
                        record["error"] = one_line(str(exc))
                    records.append(record)
                    if report:
                        report(record)
        except KeyboardInterrupt:
            print("interrupted: what was measured so far is kept", file=sys.stderr)
            break
        finally:
            bench.stop_all()
        now = time.monotonic()
        if budget is not None and repeat + 1 < repeats and now - start + now - begun > budget:
            print(f"no time for more than {repeat + 1} of {repeats} repeats", file=sys.stderr)
            break
    return records


def one_line(text: str) -> str:
    """What went wrong, without paths: the first line, and what the peer raised."""
    first, *rest = text.splitlines() or [""]
    raised = [
        name
        for name in (line.partition(":")[0] for line in rest)
        if name.replace(".", "").isidentifier()
        and name.endswith(("Error", "Exception", "Closed", "Exit"))
    ]
    line = " ".join(word for word in first.split() if "/" not in word)
    if raised:
        line += f" (peer: {', '.join(dict.fromkeys(raised))})"
    return "".join(char for char in line if " " <= char <= "~")[:160]
