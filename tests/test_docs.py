"""What the documentation says is there, is there; and what is there, it says."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import simplews
import simplews.testing

ROOT = Path(__file__).parents[1]
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])


def test_reference_has_every_public_name() -> None:
    reference = "".join(
        page.read_text(encoding="utf-8") for page in (ROOT / "docs" / "reference").glob("*.md")
    )
    documented = set(
        re.findall(r"^\.\. auto\w+:: simplews\.(\w+)(?:\(\))?$", reference, re.MULTILINE)
    )
    assert documented == set(simplews.__all__) - {"__version__"}


def test_reference_has_every_public_name_of_the_testing_kit() -> None:
    reference = (ROOT / "docs" / "reference" / "testing.md").read_text(encoding="utf-8")
    names = re.findall(
        r"^\.\. auto\w+:: simplews\.testing\.(\w+)(?:\(\))?$", reference, re.MULTILINE
    )
    assert set(names) == set(simplews.testing.__all__)
    fixtures = set(re.findall(r"^\| `(ws_\w+)` \|", reference, re.MULTILINE))
    # Asked of the source: as a plugin it would be there for every test.
    source = (Path(simplews.testing.__file__).parent / "fixtures.py").read_text(encoding="utf-8")
    listed = re.search(r"^__all__ = \[(.*?)\]", source, re.MULTILINE)
    assert listed is not None
    assert fixtures == set(re.findall(r"\w+", listed[1]))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_to_files(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if not re.match(r"[a-z]+:", target):
            path = page.parent / target.partition("#")[0]
            assert path.exists(), f"{page.name} links to {target}"
