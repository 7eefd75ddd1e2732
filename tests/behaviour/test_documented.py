"""docs/explanation/sources.md tells users what a host makes impossible, as IMPOSSIBLE tells us."""

from __future__ import annotations

import re
from pathlib import Path

from .conftest import ASGI, IMPOSSIBLE, SOURCES, UVICORN

PAGE = Path(__file__).parents[2] / "docs" / "explanation" / "sources.md"

#: Words of the page that stand for several sources.
SEVERAL = {"ASGI": ASGI, "uvicorn": UVICORN}


def documented() -> list[tuple[str, tuple[str, ...]]]:
    """The reason, and the sources that it concerns, of every row."""
    section = PAGE.read_text(encoding="utf-8").partition("## What a host makes impossible")[2]
    rows = re.findall(r"^\| (.+?) \| (.+?) \| .+ \|$", section.partition("\n## ")[0], re.MULTILINE)
    assert rows[0][0] == "the host"
    return [(reason, expanded(which)) for reason, which in rows[2:]]


def expanded(which: str) -> tuple[str, ...]:
    """A cell such as "uvicorn, hypercorn", as names of SOURCES."""
    names: list[str] = []
    for word in which.split(", "):
        names += SEVERAL.get(word, (word,))
    return tuple(names)


def test_each_impossibility_is_told_to_users_with_the_hosts_that_it_concerns() -> None:
    assert documented() == [(reason, tuple(kinds)) for reason, kinds, _ in IMPOSSIBLE]


def test_hosts_are_sources() -> None:
    """No row, of the page or of the table, is about a source that does not exist."""
    kinds = {kind for _, kinds, _ in IMPOSSIBLE for kind in kinds}
    assert kinds <= set(SOURCES)
