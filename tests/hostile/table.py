"""
Plays every case and writes what is seen to docs/explanation/hostile-input.md.

``python -m tests.hostile.table``, in the checkout's folder.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

from ..clock import ClockLoop
from ..tls import Tls
from .case import Case
from .cases import CASES, GROUPS
from .stage import play

__all__ = ["PAGE", "page", "plays"]

PAGE = Path(__file__).parents[2] / "docs" / "explanation" / "hostile-input.md"

_INTRODUCTION = """\
# What hostile input does

{cases} things that a hostile or unlucky peer can do, what must come of each, and what was seen.
`python -m tests.hostile.table` plays them, with raw bytes on real sockets, and writes this page.
The tests play them as well, and fail if the page says anything else.

A case is played over each source that it names; `client` is ours, against a hostile server.
Most are played again with each byte in a write of its own: {plays} plays in all.

In every play, whatever the row says:

- the code that the peer gets in its Close is the code that the application sees;
- our end of TCP is closed within a second, unless the row is about a peer that may take longer;
- nothing reaches the event loop's exception handler, and no task is left;
- nothing is logged above INFO;
- one line at INFO tells how the connection ended.

First come the messages that the application got, then what the peer was sent, then the end.

| words | mean |
| --- | --- |
| `peer closes 1000` | the peer's Close came first; it was answered with its own code |
| `we fail 1002` | the peer broke a rule; it was sent a Close with that code |
| `we close 4000` | the application, or the keepalive, closed |
| `lost 1006` | TCP ended without a Close |
| `no Close sent` | the peer read none: it had gone, or did not read |
| `101`, `400` ... | the answer to the request, with what matters of its header fields |
| `no answer` | TCP was closed without one |
| `opens` | our client took the answer |
| promised | no RFC asks for it; we do |
"""

_HEAD = """
## {title}

| what the peer does | over | expected | seen | because of |
| --- | --- | --- | --- | --- |
"""


def plays(case: Case) -> Iterator[tuple[str, bool]]:
    """Over which sources a case is played, and whether cut into single bytes."""
    for source in case.over:
        yield source, False
    if case.cut:
        yield case.over[0], True
        if "client" in case.over[1:]:
            yield "client", True


def page(seen: Mapping[str, set[str]]) -> str:
    """The page, with what was seen of each case."""
    text = _INTRODUCTION.format(cases=len(CASES), plays=sum(len([*plays(case)]) for case in CASES))
    for title, cases in GROUPS.items():
        text += _HEAD.format(title=title)
        for case in cases:
            other = sorted(seen[case.id] - {case.expect})
            verdict = ", ".join(map(_code, other)) or f"the same, {len([*plays(case)])} ×"
            cells = [case.does, ", ".join(case.over), _code(case.expect), verdict, case.rule]
            text += f"| {' | '.join(cells)} |\n"
    return text


def _code(text: str) -> str:
    """As code, in a cell of a table."""
    text = text.replace("|", "\\|")
    return f"`` {text} ``" if "`" in text else f"`{text}`"


async def _play(cases: list[Case], seen: dict[str, set[str]]) -> None:
    tls = Tls()
    for case in cases:
        found = seen[case.id] = set()
        for source, cut in plays(case):
            try:
                found.add(await play(case, source, tls, cut=cut))
            except AssertionError as exc:
                found.add(f"{source}: {exc}")


def _main() -> int:
    seen: dict[str, set[str]] = {}
    for title, cases in GROUPS.items():
        # Not on the clock that jumps: they have threads of their own.
        loop_factory = asyncio.SelectorEventLoop if "ASGI" in title else ClockLoop
        with asyncio.Runner(loop_factory=loop_factory) as runner:
            runner.run(_play(cases, seen))
    PAGE.write_text(page(seen), encoding="utf-8")
    wrong = [
        case.id for cases in GROUPS.values() for case in cases if {case.expect} != seen[case.id]
    ]
    print(f"{len(seen)} cases, {len(wrong)} not as expected", *wrong, sep="\n  ")
    return len(wrong) > 0


if __name__ == "__main__":
    sys.exit(_main())
