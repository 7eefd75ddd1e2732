"""Every case is played, over every source that it names, whole and byte by byte."""

from __future__ import annotations

from collections import Counter

import pytest

from ..tls import Tls
from .case import Case
from .cases import CASES
from .inside import CASES as ELSEWHERE
from .stage import play
from .table import PAGE, page, plays


@pytest.mark.parametrize(
    "case", [case for case in CASES if case not in ELSEWHERE], ids=lambda case: case.id
)
async def test_what_is_seen(case: Case, tls: Tls) -> None:
    for source, cut in plays(case):
        seen = await play(case, source, tls, cut=cut)
        assert seen == case.expect, f"{source}{', byte by byte' * cut}"


def test_each_case_is_one_of_its_own() -> None:
    assert len({case.id for case in CASES}) == len(CASES)
    told = Counter((case.id.partition("/")[0], case.does) for case in CASES)
    assert [does for does, times in told.items() if times > 1] == []


def test_page_says_what_is_seen() -> None:
    # What is seen is what is expected: the other test fails if not.
    expected = page({case.id: {case.expect} for case in CASES})
    assert PAGE.read_text(encoding="utf-8") == expected, "run: python -m tests.hostile.table"
