"""Every case is played, over every source that it names, whole and byte by byte."""

from __future__ import annotations

import pytest

from ..tls import Tls
from .case import Case
from .cases import GROUPS
from .stage import play

CASES = [case for cases in GROUPS.values() for case in cases]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.id)
async def test_what_is_seen(case: Case, tls: Tls) -> None:
    for source in case.over:
        seen = await play(case, source, tls)
        assert seen == case.expect, source
    if case.cut:
        for source in case.over[:1] + ("client",) * ("client" in case.over[1:]):
            seen = await play(case, source, tls, cut=True)
            assert seen == case.expect, f"{source}, byte by byte"


def test_each_case_has_a_name_of_its_own() -> None:
    names = [case.id for case in CASES]
    assert len(set(names)) == len(names)
    assert len({(case.does, str(case.script)) for case in CASES}) == len(names)
