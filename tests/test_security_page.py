"""The limits on the security page are the ones in the code."""

from __future__ import annotations

import inspect
import re
from pathlib import Path
from typing import Any

import pytest

from simplews import AioClient, AioServer, serve
from simplews.link.options import Options, QueueMarks
from simplews.protocol import deflate, handshake

PAGE = Path(__file__).parents[1] / "docs" / "explanation" / "security.md"

_UNITS = {"": 1, "s": 1, "KiB": 1 << 10, "MiB": 1 << 20}

#: First cells of the second table, and where their limit is in the code.
FIXED = {
    "memory of what waits for `receive()`": QueueMarks().high_bytes,
    "a head, all lines together": handshake.MAX_HEAD,
    "a line of it": handshake.MAX_LINE,
    "its header fields": handshake.MAX_HEADERS,
    "offers of extensions": deflate._MOST_OFFERED,
    "what a compressed message inflates to, where `max_message_size` is none": (
        deflate.INFLATE_LIMIT
    ),
    "interim answers before a server's 101": handshake.MAX_INTERIM,
    "the body of a refusal that a client keeps": handshake.MAX_BODY,
}


def tables() -> list[list[list[str]]]:
    """The cells of the page's tables, without their heads."""
    text = PAGE.read_text(encoding="utf-8")
    found = re.findall(r"^\| ---.*\n((?:\|.*\n)+)", text, re.MULTILINE)
    return [[line.strip("| \n").split(" | ") for line in rows.splitlines()] for rows in found]


def value(cell: str) -> Any:
    """What a cell says: a number with its unit, or none."""
    number = re.match(r"(\d+) ?(KiB|MiB|s|)(?:,|$)", cell)
    return None if number is None else int(number[1]) * _UNITS[number[2]]


LIMITS, NOT_TO_BE_SET = tables()[:2]


def default(function: Any, option: str) -> Any:
    """What *function* does without the option."""
    parameters = inspect.signature(function).parameters
    if option in parameters:
        return parameters[option].default
    return getattr(Options(), option)


@pytest.mark.parametrize("row", LIMITS, ids=lambda row: row[1])
def test_default_is_what_the_page_says(row: list[str]) -> None:
    _, option, served, accepted, _ = row
    name = option.strip("`")
    assert default(serve, name) == value(served)
    if accepted != "–":
        assert default(AioServer.accept, name) == value(accepted)
        assert default(AioClient.connect, name) == value(accepted)


def test_page_has_every_limit_that_can_be_set() -> None:
    names = {row[1].strip("`") for row in LIMITS}
    others = {"receive_bytes", "compression", "logger", "marks"}
    assert names == {*Options.__dataclass_fields__, "max_connections"} - others


@pytest.mark.parametrize("row", NOT_TO_BE_SET, ids=lambda row: row[0])
def test_what_is_fixed_is_what_the_page_says(row: list[str]) -> None:
    assert FIXED[row[0]] == value(row[1])


def test_page_has_every_fixed_limit() -> None:
    assert [row[0] for row in NOT_TO_BE_SET] == list(FIXED)
