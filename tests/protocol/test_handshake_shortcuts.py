"""What the opening handshake does in a short way is what the long way does.

A plain head is split without a look at each line; a request or an answer that
wsproto wrote is used again with another key or token, and so is its judgement of an
answer. Hypothesis draws heads, right ones and ones with a few bytes changed, requests
and answers; both ways have to agree on each.
"""

from __future__ import annotations

import base64
import re
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from wsproto import ConnectionType
from wsproto.events import Request
from wsproto.handshake import H11Handshake
from wsproto.utilities import ProtocolError, generate_accept_token

from simplews.errors import ConnectionError
from simplews.protocol import handshake
from simplews.protocol.deflate import Deflate
from simplews.protocol.handshake import (
    MAX_HEADERS,
    MAX_LINE,
    ClientHandshake,
    Refusal,
    accept_request,
)
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


# ---------------------------------------------------------------- the client

TARGETS = st.text(st.characters(min_codepoint=0x21, max_codepoint=0x7E), max_size=20).map(
    "/{}".format
)
HOSTS = st.sampled_from(["h", "example.org:81", "[::1]:8000", "a" * 63 + ":1"])
SUBPROTOCOLS = st.lists(st.sampled_from(["chat", "a.b", "c"]), unique=True).map(tuple)
COMPRESSION = st.sampled_from([None, Deflate(), Deflate(window_bits=9)])
KEY_FIELD = re.compile(rb"(?<=\r\nSec-WebSocket-Key: )[^\r]+")


def asked_by_wsproto(
    target: str, subprotocols: tuple[str, ...], compression: Deflate | None, added: Any
) -> tuple[H11Handshake, bytes]:
    wsproto = H11Handshake(ConnectionType.CLIENT)
    request = wsproto.send(
        Request(
            host="localhost",
            target=target,
            extensions=[] if compression is None else [handshake._DeflateOffer(compression)],
            subprotocols=list(subprotocols),
            extra_headers=[(n.encode(), v.encode()) for n, v in added],
        )
    )
    return wsproto, request


@given(TARGETS, HOSTS, SUBPROTOCOLS, COMPRESSION, ADDED)
def test_request_is_wsprotos(
    target: str,
    host: str,
    subprotocols: tuple[str, ...],
    compression: Deflate | None,
    added: list[tuple[str, str]],
) -> None:
    """Byte for byte but for the key, which is another one in each request."""
    _, expected = asked_by_wsproto(target, subprotocols, compression, added)
    expected = expected.replace(b"\r\nHost: localhost", b"\r\nHost: " + host.encode(), 1)
    keys = set()
    for _ in range(2):
        request = ClientHandshake(host, target, added, subprotocols, compression).request
        (key,) = KEY_FIELD.findall(request)
        keys.add(key)
        assert len(base64.b64decode(key, validate=True)) == 16
        assert KEY_FIELD.sub(b"", request) == KEY_FIELD.sub(b"", expected)
    assert len(keys) == 2


TOKEN = "<token>"  # stands for the right accept token
ANSWER_FIELDS = st.sampled_from(
    [
        ("Upgrade", "websocket"),
        ("upgrade", "WebSocket"),
        ("Upgrade", "h2c"),
        ("Connection", "Upgrade"),
        ("Connection", "keep-alive"),
        ("Sec-WebSocket-Accept", TOKEN),
        ("Sec-WebSocket-Accept", SAMPLE_ACCEPT),
        ("sec-websocket-accept", ""),
        ("Sec-WebSocket-Protocol", "chat"),
        ("Sec-WebSocket-Protocol", "ü"),
        ("Content-Length", "0"),
        ("Content-Length", "x"),
        ("Transfer-Encoding", "chunked"),
        ("Transfer-Encoding", "gzip"),
        ("Date", "Tue, 15 Nov 1994 08:12:31 GMT"),
        ("Server", "ÿ\t(x)"),
        ("X-Empty", ""),
    ]
)
GOOD = [("Upgrade", "websocket"), ("Connection", "Upgrade"), ("Sec-WebSocket-Accept", TOKEN)]
LINES = st.sampled_from(
    [
        "HTTP/1.1 101 Switching Protocols",
        "HTTP/1.1 101",
        "HTTP/1.0 101 ",
        "HTTP/1.1 101 ÿ\t!",
        "HTTP/1.x 101 a",
    ]
)


def answer_to(request: bytes, line: str, fields: list[tuple[str, str]]) -> bytes:
    (key,) = KEY_FIELD.findall(request)
    token = generate_accept_token(key).decode()
    lines = [f"{name}: {token if value == TOKEN else value}" for name, value in fields]
    return "\r\n".join([line, *lines, "", ""]).encode("latin-1")


def judged_by_wsproto(
    line: str, fields: list[tuple[str, str]], subprotocols: tuple[str, ...]
) -> bool:
    """What wsproto thinks of the whole answer, its Connection fields joined."""
    wsproto, request = asked_by_wsproto("/", subprotocols, None, [])
    connection = ", ".join(value for name, value in fields if name == "Connection")
    whole = [(name, value) for name, value in fields if name != "Connection"]
    try:
        wsproto.receive_data(answer_to(request, line, [*whole, ("Connection", connection)]))
    except (ProtocolError, UnicodeError):
        return False
    return True


@given(
    LINES,
    st.permutations(GOOD),
    st.lists(ANSWER_FIELDS, max_size=3),
    st.integers(0, 4),
    SUBPROTOCOLS,
)
@example("HTTP/1.1 101 Switching Protocols", GOOD, [], 3, ())
def test_answer_is_judged_by_wsproto(
    line: str,
    good: list[tuple[str, str]],
    more: list[tuple[str, str]],
    kept: int,
    subprotocols: tuple[str, ...],
) -> None:
    """The first time and when it is known, with any key; and never a wrong accept token."""
    fields = [*good[:kept], *more]
    names = [name.lower() for name, _ in fields]
    once = all(
        names.count(name) <= 1 for name in ("sec-websocket-accept", "sec-websocket-protocol")
    )
    expected = once and judged_by_wsproto(line, fields, subprotocols)
    for _ in range(2):
        client = ClientHandshake("h", "/", (), subprotocols)
        try:
            answer = client.feed_head(answer_to(client.request, line, fields))
        except ConnectionError:
            assert not expected
        else:
            assert expected
            assert isinstance(answer, handshake.Accepted)


def test_offered_subprotocols_are_not_kept() -> None:
    """A client chooses how long they are; the answer has the chosen one alone."""

    def heads(chosen: str | None) -> set[bytes]:
        return {
            handshake.accept_request(
                HandshakeRequest(
                    "h",
                    "/",
                    Headers([("Sec-WebSocket-Key", SAMPLE_KEY)]),
                    ("chat", *[f"{client}-{n}" for n in range(1000)]),
                ),
                chosen,
            ).head
            for client in range(10)
        }

    handshake._around_token.cache_clear()
    assert len(heads("chat")) == len(heads(None)) == 1
    assert handshake._around_token.cache_info().currsize == 2


def test_answer_to_another_key_is_refused_though_its_like_is_known() -> None:
    """What is remembered is all of an answer but its accept token."""
    first, second = ClientHandshake("h", "/"), ClientHandshake("h", "/")
    line = "HTTP/1.1 101 Switching Protocols"
    assert isinstance(first.feed_head(answer_to(first.request, line, GOOD)), handshake.Accepted)
    with pytest.raises(ConnectionError, match="does not answer our key"):
        second.feed_head(answer_to(first.request, line, GOOD))
