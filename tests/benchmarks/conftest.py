"""The harness is no part of the package: it is imported from where it stands."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import NoReturn

import pytest

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"

sys.path.append(str(BENCHMARKS))


def missing(what: str, how: str) -> NoReturn:
    """Skip where a person runs the tests; in CI nothing may be missing."""
    if os.environ.get("CI"):
        pytest.fail(f"{what} is missing; {how}", pytrace=False)
    pytest.skip(f"{what} is missing; {how}")


@pytest.fixture(scope="session")
def compiler() -> str:
    """The C compiler that the generator is made with."""
    from harness import toolchain

    if not sys.platform.startswith("linux"):
        pytest.skip("the benchmarks need Linux")
    try:
        return toolchain.compiler()
    except toolchain.NoCompiler as exc:
        missing("a C compiler", str(exc))
