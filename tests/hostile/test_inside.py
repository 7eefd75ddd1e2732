"""Cases inside ASGI servers: some have threads and clocks of their own, so time is real here."""

from __future__ import annotations

import pytest

from ..tls import Tls
from .case import Case
from .inside import CASES
from .stage import play
from .table import plays


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.id)
async def test_what_is_seen(case: Case, tls: Tls) -> None:
    for source, cut in plays(case):
        seen = await play(case, source, tls, cut=cut)
        assert seen == case.expect, f"{source}{', byte by byte' * cut}"
