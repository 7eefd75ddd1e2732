"""The corpus of the fuzzer, replayed without it: no input of it is a finding (any more)."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from replay import CORPUS, digest, inputs
from seeds import seeds

import simplews

INPUTS = list(inputs())


@pytest.mark.parametrize("target", seeds())
def test_nothing_in_the_corpus_is_a_finding(target: str) -> None:
    """Each assertion of `fuzz/targets.py` holds for each input."""
    paths = [path for name, path in INPUTS if name == target]
    assert len(paths) >= len(seeds()[target])
    for path in paths:
        try:
            digest(target, path)
        except Exception as exc:
            raise AssertionError(f"{path.relative_to(CORPUS)} is a finding") from exc


def test_seeds_are_those_that_are_made() -> None:
    """`fuzz/seeds.py` writes what is there."""
    for target, named in seeds().items():
        for name, data in named.items():
            assert (CORPUS / target / name).read_bytes() == data


def test_corpus_is_small() -> None:
    """It is read by every run of the tests, and by people."""
    assert sum(path.stat().st_size for _, path in INPUTS) < 200_000


def test_the_compiled_part_finds_the_same() -> None:
    """What is compiled, and the same source without, agree on the whole corpus."""
    if not simplews.__speedups__:
        pytest.skip("nothing is compiled here")
    package = str(Path(simplews.__path__[0]).parent)
    found = subprocess.run(
        [sys.executable, str(CORPUS.parent / "replay.py")],
        env=os.environ | {"SIMPLEWS_PURE": "1", "PYTHONPATH": package},
        capture_output=True,
        text=True,
        check=True,
        timeout=50,
    )
    mine = [f"{target} {path.name} {digest(target, path)}" for target, path in INPUTS]
    assert found.stdout.splitlines() == mine
