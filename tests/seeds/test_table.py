"""The table of promises in the reference: it has all of them, and every test that it names."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
TABLE = ROOT / "docs" / "reference" / "seeds.md"

#: Promises of each series.
SERIES = {"G": 41, "E": 15, "B": 20, "S": 28, "L": 15}


def rows() -> Iterator[tuple[list[str], list[str]]]:
    """Promises and tests of every row."""
    for line in TABLE.read_text(encoding="utf-8").splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if len(cells) == 3 and re.match(r"[A-Z]\d", cells[0]):
            yield cells[0].split(", "), re.findall(r"`(tests/[^`]+)`", cells[2])


@cache
def docstrings(file: str) -> dict[str, str]:
    """The docstrings of a file's tests, by name."""
    tree = ast.parse((ROOT / file).read_text(encoding="utf-8"))
    return {
        node.name: ast.get_docstring(node) or ""
        for node in tree.body
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))
    }


def named(text: str) -> set[str]:
    """The promises that a docstring names: one by one, or as ``G7 to G15``."""
    ids = set(re.findall(r"\b[GEBSL]\d+\b", text))
    for letter, first, last in re.findall(r"\b([GEBSL])(\d+) to \1(\d+)\b", text):
        ids |= {f"{letter}{number}" for number in range(int(first), int(last) + 1)}
    return ids


def test_every_promise_is_in_the_table_once() -> None:
    """All five series, in their order."""
    ids = [promise for promises, _ in rows() for promise in promises]
    assert ids == [f"{letter}{n + 1}" for letter, count in SERIES.items() for n in range(count)]


ROWS = list(rows())


@pytest.mark.parametrize(("promises", "tests"), ROWS, ids=["+".join(p) for p, _ in ROWS])
def test_row(promises: list[str], tests: list[str]) -> None:
    """Its tests exist, and every one says that it is about the row's promises."""
    assert tests
    for test in tests:
        file, _, name = test.partition("::")
        assert (ROOT / file).is_file(), test
        assert name in docstrings(file), f"there is no {test}"
        assert named(docstrings(file)[name]) & set(promises), f"{test} does not name {promises}"
    told = set().union(
        *(named(docstrings(t.partition("::")[0])[t.partition("::")[2]]) for t in tests)
    )
    assert set(promises) <= told
