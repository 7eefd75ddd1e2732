"""What the opening handshake does in a short way is what the long way does.

A plain head is split without a look at each line, and an answer of wsproto's is
used again with another accept token. Hypothesis draws heads, right ones and ones
with a few bytes changed, and requests; both ways have to agree on each.
"""

from __future__ import annotations

import base64
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from wsproto.utilities import ProtocolError

from simplews.protocol import handshake
from simplews.protocol.handshake import MAX_HEADERS, MAX_LINE, Refusal, accept_request
from simplews.types import HandshakeRequest, Headers

from .by_hand import SAMPLE_ACCEPT, SAMPLE_KEY

# ------------------------------------------------------------------ the head

NAMES = st.text("abcXYZ019-_!#$%&'*+.^`|~", min_size=1, max_size=12)
VALUES = st.text(st.characters(max_codepoint=255, blacklist_categories=["Cc"]), max_size=20)
FIELDS = st.tuples(NAMES, st.sampled_from(["", " ", "\t ", "  "]), VALUES).map(
    "{0[0]}:{0[1]}{0[2]}".format
)
HEADS = st.lists(FIELDS, max_size=6).map(
    lambda fields: "\r\n".join(["GET / HTTP/1.1", *fields, "", ""]).encode("latin-1")
)
CHANGES = st.lists(
    st.tuples(
        st.integers(0, 200),
        st.sampled_from(
            [b"\r", b"\n", b"\r\n", b"\0", b":", b" ", b"\t", b"\x7f", b"\x0b", b"\xff"]
        ),
        st.integers(0, 2),
    ),
    max_size=3,
)


def changed(head: bytes, changes: list[tuple[int, bytes, int]]) -> bytes:
    """*head* with bytes put in or in place of others, and its end as it was."""
    body = head[:-4]
    for at, piece, length in changes:
        at %= len(body) + 1
        body = body[:at] + piece + body[at + length :]
    return body + b"\r\n\r\n"


def outcome(split: Any, head: bytes) -> Any:
    try:
        return split(head)
    except ValueError as exc:
        return exc.args


@given(HEADS, CHANGES)
@example(b"GET / HTTP/1.1\r\n\r\n", [])
@example(b"\r\n\r\n", [])
@example(b"GET / HTTP/1.1\r\nA: b\r\n\r\nC: d\r\n\r\n", [])
@example(b"GET / HTTP/1.1\r\nA: b\r\n c\r\n\r\n", [])
def test_head_split_in_a_short_way_is_split_the_same(
    head: bytes, changes: list[tuple[int, bytes, int]]
) -> None:
    """What is taken as plain is what the look at every line finds right, and means the same."""
    head = changed(head, changes)
    plain = handshake._split_plain(head)
    whole = outcome(handshake._split_any, head)
    assert plain == whole or plain is None
    assert outcome(handshake._split_head, head) == whole


@given(HEADS)
def test_heads_of_clients_take_the_short_way(head: bytes) -> None:
    """A head without a fault is never left to the long one."""
    assert handshake._split_plain(head) is not None


@pytest.mark.parametrize(
    "head",
    [
        pytest.param(b"GET /" + b"a" * MAX_LINE + b" HTTP/1.1\r\n\r\n", id="first line"),
        pytest.param(b"G\r\nA: " + b"a" * MAX_LINE + b"\r\n\r\n", id="field"),
        pytest.param(b"G\r\n" + b"A: a\r\n" * (MAX_HEADERS + 1) + b"\r\n", id="fields"),
        pytest.param(b"G\r\n" + b"A: a\r\n" * MAX_HEADERS + b"\r\n", id="just as many"),
    ],
)
def test_limits_are_judged_line_by_line(head: bytes) -> None:
    """Near a limit nothing is plain."""
    assert handshake._split_plain(head) is None


# ---------------------------------------------------------------- the answer

KEYS = st.binary(min_size=16, max_size=16).map(lambda key: base64.b64encode(key).decode())
OFFERS = st.lists(st.sampled_from(["chat", "a.b", SAMPLE_ACCEPT, "ü", "x y"]), unique=True)
ADDED = st.lists(
    st.tuples(st.sampled_from(["X-One", "Set-Cookie"]), st.sampled_from(["", "1", SAMPLE_ACCEPT]))
)


def asked(key: str, offered: tuple[str, ...]) -> HandshakeRequest:
    return HandshakeRequest("h", "/", Headers([("Sec-WebSocket-Key", key)]), offered)


def by_wsproto(key: str, offered: tuple[str, ...], chosen: str | None, added: Any) -> bytes | None:
    try:
        return handshake._written(key, offered, chosen, tuple(added))
    except (ProtocolError, UnicodeError):
        return None


def by_us(key: str, offered: tuple[str, ...], chosen: str | None, added: Any) -> bytes | None:
    try:
        return accept_request(asked(key, offered), chosen, None, added).head
    except Refusal:
        return None


@given(KEYS, OFFERS.map(tuple), st.data(), ADDED)
def test_answer_is_wsprotos(
    key: str, offered: tuple[str, ...], data: st.DataObject, added: list[tuple[str, str]]
) -> None:
    """For any key, the first time and when the answer is known: byte for byte, or refused."""
    chosen = data.draw(st.sampled_from([None, *offered]))
    expected = by_wsproto(key, offered, chosen, added)
    assert by_us(key, offered, chosen, added) == expected
    assert by_us(key, offered, chosen, added) == expected
    assert by_us(SAMPLE_KEY, offered, chosen, added) == by_wsproto(
        SAMPLE_KEY, offered, chosen, added
    )


@given(st.text(max_size=26) | KEYS.map(lambda key: key[:-1]))
@example("")
@example("AAAAAAAAAAAAAAAAAAAAAB==")
def test_key_that_is_none_is_judged_by_wsproto(key: str) -> None:
    """A caller who read the request answers for its key: wsproto gets it as it is."""
    assert by_us(key, (), None, []) == by_wsproto(key, (), None, [])
