"""The client's half of the opening handshake: the request, and every answer to it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from simplews.errors import ConnectionError, WebSocketError
from simplews.protocol.deflate import Deflate
from simplews.protocol.handshake import (
    MAX_BODY,
    MAX_HEADERS,
    MAX_LINE,
    Accepted,
    Answer,
    ClientHandshake,
    accept_request,
    check_upgrade,
    parse_request,
)
from simplews.types import header_pairs

from .by_hand import accept_of, at_random, byte_by_byte, whole


def handshake(
    host: str = "example.org",
    target: str = "/chat",
    headers: tuple[tuple[str, str], ...] = (),
    subprotocols: tuple[str, ...] = (),
    compression: Deflate | None = None,
) -> ClientHandshake:
    return ClientHandshake(host, target, headers, subprotocols, compression)


def key_of(request: bytes) -> str:
    found = re.search(rb"\r\nSec-WebSocket-Key: (.{24})\r\n", request)
    assert found is not None
    return found[1].decode()


def response(
    client: ClientHandshake,
    *extra: bytes,
    line: bytes = b"HTTP/1.1 101 Switching Protocols",
    upgrade: bytes | None = b"Upgrade: websocket",
    connection: bytes | None = b"Connection: Upgrade",
    accept: bytes | None = b"",
) -> bytes:
    """A good answer, with lines changed, left out (None), or added."""
    if accept == b"":
        accept = b"Sec-WebSocket-Accept: " + accept_of(key_of(client.request)).encode()
    lines = [line, *(field for field in (upgrade, connection, accept) if field), *extra]
    return b"\r\n".join(lines) + b"\r\n\r\n"


# ------------------------------------------------------------------- the request


def test_request_is_that_of_the_rfc() -> None:
    """RFC 6455 §4.1, byte by byte; Host comes first (RFC 9110 §7.2)."""
    client = handshake()
    assert client.request == (
        b"GET /chat HTTP/1.1\r\n"
        b"Host: example.org\r\n"
        b"Upgrade: websocket\r\n"
        b"Connection: Upgrade\r\n"
        b"Sec-WebSocket-Key: " + key_of(client.request).encode() + b"\r\n"
        b"Sec-WebSocket-Version: 13\r\n\r\n"
    )


def test_request_carries_offers_and_headers() -> None:
    """In the order in which they were given."""
    client = handshake(
        target="/a%20b?x=1",
        headers=(("Cookie", "a=b"), ("X-Name", "Jürgen"), ("Cookie", "c=d")),
        subprotocols=("v2", "v1"),
        compression=Deflate(),
    )
    assert client.request.startswith(b"GET /a%20b?x=1 HTTP/1.1\r\n")
    assert b"\r\nSec-WebSocket-Protocol: v2, v1\r\n" in client.request
    extension = b"permessage-deflate; client_max_window_bits"
    assert b"\r\nSec-WebSocket-Extensions: " + extension + b"\r\n" in client.request
    end = b"\r\nCookie: a=b\r\nX-Name: J\xfcrgen\r\nCookie: c=d\r\n\r\n"
    assert client.request.endswith(end)


def test_every_request_has_a_fresh_key() -> None:
    """RFC 6455 §4.1: "selected randomly for each connection"."""
    assert len({key_of(handshake().request) for _ in range(50)}) == 50


@pytest.mark.parametrize(
    "host",
    [
        "example.org",
        "example.org:8080",
        "my_service",
        "127.0.0.1:80",
        "[::1]:8080",
        "[2001:db8::1]",
        "xn--bcher-kva.example",
        "example.org.",
        # The label of 63 characters is legal, and its port is not a part of it.
        "a" * 63 + ":8080",
        "localhost",
    ],
)
def test_request_names_its_host_as_it_is(host: str) -> None:
    """And our own server reads it."""
    client = handshake(host=host)
    assert f"\r\nHost: {host}\r\n".encode() in client.request
    request = parse_request(client.request)
    check_upgrade(request)
    assert request.host == host


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("X\r\nY", "z"),
        ("X Y", "z"),
        ("X:", "z"),
        ("", "z"),
        ("X", "y\r\nZ: z"),
        ("X", "y\nZ: z"),
        ("X", "y\0z"),
        ("X", "\x0b"),
        ("X", "a\x1fb"),
        ("X", "€"),
    ],
)
def test_header_cannot_smuggle_another(name: str, value: str) -> None:
    """`header_pairs` stands before the handshake, whose own checks are h11's."""
    with pytest.raises(ValueError):
        handshake(headers=tuple(header_pairs([(name, value)])))


@pytest.mark.parametrize("text", ["a\r\nX: y", "a\nb", "\0", "€"])
def test_host_and_target_cannot_smuggle_a_header(text: str) -> None:
    """ValueError, and no request."""
    with pytest.raises(ValueError):
        handshake(host=text)
    with pytest.raises(ValueError):
        handshake(target="/" + text)


@pytest.mark.parametrize("target", ["", "/a b", "/ü", "/\x7f"])
def test_target_is_ascii_without_spaces(target: str) -> None:
    """RFC 9112 §3.2; `parse_url` has encoded it."""
    with pytest.raises(ValueError, match="target"):
        handshake(target=target)


# -------------------------------------------------------------------- the answer


class Row(NamedTuple):
    name: str
    changes: dict[str, bytes | None]
    extra: tuple[bytes, ...] = ()


def rows(table: list[Row]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("row", table, ids=lambda row: row.name)


WRONG = [
    Row("no accept value", {"accept": None}),
    Row("an empty accept value", {"accept": b"Sec-WebSocket-Accept:"}),
    Row(
        "the RFC's accept value", {"accept": b"Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo="}
    ),
    Row("an accept value twice", {}, (b"Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=",)),
    Row("no Upgrade", {"upgrade": None}),
    Row("another Upgrade", {"upgrade": b"Upgrade: h2c"}),
    Row("no Connection", {"connection": None}),
    Row("another Connection", {"connection": b"Connection: close"}),
    Row("a Connection that is not ASCII", {"connection": b"Connection: \xff"}),
    # not offered (RFC 6455 §4.1)
    Row("a subprotocol", {}, (b"Sec-WebSocket-Protocol: chat",)),
    Row("an empty subprotocol", {}, (b"Sec-WebSocket-Protocol:",)),
    Row("a subprotocol that is not ASCII", {}, (b"Sec-WebSocket-Protocol: \xff",)),
    Row("an extension", {}, (b"Sec-WebSocket-Extensions: permessage-deflate",)),
    Row("another extension", {}, (b"Sec-WebSocket-Extensions: x-foo",)),
    Row("a malformed extension", {}, (b'Sec-WebSocket-Extensions: ;="',)),
    Row("an extension that is not ASCII", {}, (b"Sec-WebSocket-Extensions: \xff",)),
    # not HTTP
    Row("another protocol", {"line": b"SSH-2.0-OpenSSH_9.6"}),
    Row("an empty line", {"line": b""}),
    Row("HTTP/2", {"line": b"HTTP/2 101 Switching Protocols"}),
    Row("a status of two digits", {"line": b"HTTP/1.1 10 x"}),
    Row("a status of four digits", {"line": b"HTTP/1.1 1011 x"}),
    Row("a refusal of four digits", {"line": b"HTTP/1.1 4033 x"}),
    Row("a refusal below 100", {"line": b"HTTP/1.1 099 x"}),
    Row("a refusal in another minor version", {"line": b"HTTP/1.1x 403 x"}),
    Row("a status that is no number", {"line": b"HTTP/1.1 abc x"}),
    Row("no status", {"line": b"HTTP/1.1"}),
    Row("NUL in the first line", {"line": b"HTTP/1.1 101 \0"}),
    Row("LF in the first line", {"line": b"HTTP/1.1 101 x\nX: y"}),
    Row("a header without a colon", {}, (b"X",)),
    Row("a folded header", {}, (b"X: a", b" b")),
    Row("a space before the colon", {}, (b"X : y",)),
    Row("NUL in a value", {}, (b"X: a\0b",)),
    Row("CR in a value", {}, (b"X: a\rb",)),
    Row("ESC in a value", {}, (b"X: \x1b[31m",)),
    Row("a name that is not ASCII", {}, (b"\xff: x",)),
    Row("a long first line", {"line": b"HTTP/1.1 101 " + b"x" * MAX_LINE}),
    Row("a long header", {}, (b"X: " + b"x" * MAX_LINE,)),
    Row("many headers", {}, (b"X: y",) * MAX_HEADERS),
]

RIGHT = [
    Row("the usual", {}),
    Row("another phrase", {"line": b"HTTP/1.1 101 Web Socket Protocol Handshake"}),
    Row("a phrase in latin-1", {"line": b"HTTP/1.1 101 Umschalten f\xfcr alle"}),
    Row("no phrase", {"line": b"HTTP/1.1 101 "}),
    Row("no phrase and no space", {"line": b"HTTP/1.1 101"}),
    Row("other cases", {"upgrade": b"UPGRADE: WebSocket", "connection": b"connection: upgrade"}),
    Row("a list in Connection", {"connection": b"Connection: keep-alive, Upgrade"}),
    Row("two Connection lines", {}, (b"Connection: keep-alive",)),
    Row(
        "two Connection lines, the last for us",
        {"connection": b"Connection: keep-alive"},
        (b"Connection: Upgrade",),
    ),
    Row("obs-text in a value", {}, (b"Server: J\xfcrgen",)),
    Row("a cookie twice", {}, (b"Set-Cookie: a=b", b"Set-Cookie: c=d")),
    Row("an empty value", {}, (b"X:",)),
    Row("no extensions", {}, (b"Sec-WebSocket-Extensions:",)),
]


@rows(WRONG)
def test_wrong_answer_fails_the_handshake(row: Row) -> None:
    """RFC 6455 §4.1: a ConnectionError that says what is wrong."""
    client = handshake()
    with pytest.raises(ConnectionError) as caught:
        client.feed_head(response(client, *row.extra, **row.changes))  # type: ignore[arg-type]
    assert str(caught.value)
    assert caught.value.status_code in (101, None)


@rows(RIGHT)
def test_right_answer_opens(row: Row) -> None:
    """Strange, but legal."""
    client = handshake()
    accepted = client.feed_head(response(client, *row.extra, **row.changes))  # type: ignore[arg-type]
    assert isinstance(accepted, Accepted)
    assert (accepted.subprotocol, accepted.agreement) == (None, None)


def test_headers_of_the_answer_are_kept() -> None:
    """Repeated ones, and latin-1."""
    client = handshake()
    raw = response(client, b"Set-Cookie: a=b", b"Set-Cookie: c=d", b"X-Name: J\xfcrgen")
    accepted = client.feed_head(raw)
    assert isinstance(accepted, Accepted)
    assert accepted.headers.getlist("set-cookie") == ["a=b", "c=d"]
    assert accepted.headers["x-name"] == "Jürgen"


def test_offered_subprotocol_is_taken() -> None:
    """One of those that were offered; none is an answer, too."""
    for answer, chosen in ((b"v1", "v1"), (b"v2", "v2"), (None, None)):
        client = handshake(subprotocols=("v2", "v1"))
        extra = () if answer is None else (b"Sec-WebSocket-Protocol: " + answer,)
        accepted = client.feed_head(response(client, *extra))
        assert isinstance(accepted, Accepted) and accepted.subprotocol == chosen


@pytest.mark.parametrize(
    "lines",
    [
        [b"v3"],
        [b"V1"],
        [b"v1, v2"],
        [b"v1", b"v1"],
        [b"v1", b"v2"],
        [b""],
    ],
)
def test_subprotocols_not_offered_or_several_fail(lines: list[bytes]) -> None:
    """RFC 6455 §4.1, §4.2.2."""
    client = handshake(subprotocols=("v2", "v1"))
    extra = [b"Sec-WebSocket-Protocol: " + value for value in lines]
    with pytest.raises(ConnectionError):
        client.feed_head(response(client, *extra))


@pytest.mark.parametrize(
    ("lines", "bits"),
    [
        ([b"permessage-deflate"], 15),
        ([b"permessage-deflate; server_max_window_bits=10"], 10),
        ([b'permessage-deflate; server_max_window_bits="10"'], 10),
        ([b",permessage-deflate ;\tserver_max_window_bits=10,"], 10),
        ([b"", b"permessage-deflate"], 15),
    ],
)
def test_offered_compression_is_taken(lines: list[bytes], bits: int) -> None:
    """RFC 7692 §7.1; all lines together are one list."""
    client = handshake(compression=Deflate())
    extra = [b"Sec-WebSocket-Extensions: " + value for value in lines]
    accepted = client.feed_head(response(client, *extra))
    assert isinstance(accepted, Accepted)
    assert accepted.agreement is not None and accepted.agreement.remote_bits == bits


@pytest.mark.parametrize(
    "lines",
    [
        [b"permessage-deflate, permessage-deflate"],
        [b"permessage-deflate", b"permessage-deflate"],
        [b"permessage-deflate", b"x-foo"],
        [b"x-foo, permessage-deflate"],
        [b"x-foo"],
        [b"permessage-deflate; unknown"],
        [b"permessage-deflate; client_max_window_bits"],
        [b"permessage-deflate; server_max_window_bits=99"],
        [b"permessage-deflate; client_no_context_takeover; client_no_context_takeover"],
        [b'permessage-deflate; x="a,b"'],
        [b"permessage-deflate;"],
        [b'permessage-deflate; x="'],
        [b"\xff"],
    ],
)
def test_compression_not_offered_like_that_fails(lines: list[bytes]) -> None:
    """RFC 6455 §9.1, RFC 7692 §7."""
    client = handshake(compression=Deflate())
    extra = [b"Sec-WebSocket-Extensions: " + value for value in lines]
    with pytest.raises(ConnectionError) as caught:
        client.feed_head(response(client, *extra))
    assert caught.value.status_code == 101


def test_both_halves_open_a_connection() -> None:
    """Our request is one that our server accepts, and its answer one that we accept."""
    client = handshake("[::1]:8080", "/?q", (("Origin", "null"),), ("a", "b"), Deflate())
    request = parse_request(client.request)
    check_upgrade(request)
    theirs = accept_request(request, "b", Deflate(window_bits=10), [("Set-Cookie", "c=d")])
    ours = client.feed_head(theirs.head)
    assert isinstance(ours, Accepted)
    assert ours.subprotocol == theirs.subprotocol == "b"
    assert ours.headers["set-cookie"] == "c=d"
    assert ours.agreement is not None and theirs.agreement is not None
    assert ours.agreement.remote_bits == theirs.agreement.local_bits == 10
    assert ours.agreement.local_bits == theirs.agreement.remote_bits == 10


# ---------------------------------------------------------------- interim responses


@pytest.mark.parametrize("status", [100, 102, 103, 199])
def test_interim_responses_come_before_the_answer(status: int) -> None:
    """RFC 9110 §15.2: any number of 1xx, which are not the answer; 101 is."""
    client = handshake()
    interim = b"HTTP/1.1 %d Early\r\nLink: </x>\r\nX: y\r\n\r\n" % status
    assert client.feed_head(interim) is Answer.INTERIM
    assert client.feed_head(interim) is Answer.INTERIM
    assert isinstance(client.feed_head(response(client)), Accepted)


def test_refusal_may_follow_an_interim_response() -> None:
    """And its body is read all the same."""
    client = handshake()
    assert client.feed_head(b"HTTP/1.1 103 Early Hints\r\n\r\n") is Answer.INTERIM
    head = b"HTTP/1.1 403 Forbidden\r\nContent-Length: 2\r\n\r\n"
    assert client.feed_head(head) is Answer.REFUSED
    client.feed_body(b"no")
    assert client.body_finished and client.body == b"no"


# ------------------------------------------------------------------------ refusals


def refused(client: ClientHandshake, head: bytes) -> ConnectionError:
    assert client.feed_head(head) is Answer.REFUSED
    return client.refused()


@pytest.mark.parametrize(
    ("line", "status", "text"),
    [
        (b"HTTP/1.1 403 Forbidden", 403, "HTTP 403 Forbidden"),
        (b"HTTP/1.1 404 Not Found", 404, "HTTP 404 Not Found; is the path right?"),
        (b"HTTP/1.0 503 Busy", 503, "HTTP 503 Service Unavailable"),
        (b"HTTP/1.1 302 Found", 302, "HTTP 302 Found"),
        (b"HTTP/1.1 499", 499, "HTTP 499"),
        (b"HTTP/1.1 599 \xff", 599, "HTTP 599"),
    ],
)
def test_refusal_is_told(line: bytes, status: int, text: str) -> None:
    """Its status and header fields; it is returned, because a body may follow."""
    refusal = refused(handshake(), line + b"\r\nX: y\r\nContent-Length: 0\r\n\r\n")
    assert str(refusal) == f"the server refused the WebSocket with {text}"
    assert refusal.status_code == status
    assert refusal.headers["x"] == "y"
    assert refusal.body == b""


@pytest.mark.parametrize(
    ("status", "field", "body", "text"),
    [
        (200, b"X: y", b"<p>", "a page (HTTP 200 OK), not a WebSocket; is the path right?"),
        (300, b"Location: /x", b"", "HTTP 300 Multiple Choices: it is at /x; connect there"),
        (400, b"Location: /x", b"", "HTTP 400 Bad Request"),
        (301, b"Location: https://b.example/x", b"", "it is at https://b.example/x; connect there"),
        (302, b"X: no location", b"", "HTTP 302 Found"),
        (302, b"Location:", b"", "HTTP 302 Found"),
        (302, b"Location: /\x9b31m", b"", "HTTP 302 Found"),
        (401, b"X: y", b"", "pass credentials in the URL or in headers="),
        (404, b"X: y", b"", "is the path right?"),
        (400, b"Content-Type: text/plain", b"no key\nat all", "HTTP 400 Bad Request: no key"),
        (400, b"Content-Type: text/plain; charset=utf-8", "schlüssel".encode(), ": schlüssel"),
        (400, b"Content-Type: text/html", b"<p>no key", "HTTP 400 Bad Request"),
        (400, b"Content-Type: text/plain", b"", "HTTP 400 Bad Request"),
        # what a terminal would obey is not shown
        (400, b"Content-Type: text/plain", b"\x1b[31mno key", "HTTP 400 Bad Request"),
        (400, b"Content-Type: text/plain", b"a" * 5000, "HTTP 400 Bad Request: " + "a" * 100),
    ],
)
def test_refusal_says_what_to_do(status: int, field: bytes, body: bytes, text: str) -> None:
    """In one line, with the server's own words if they are plain."""
    client = handshake()
    length = b"Content-Length: %d" % len(body)
    head = b"\r\n".join([b"HTTP/1.1 %d x" % status, field, length]) + b"\r\n\r\n"
    assert client.feed_head(head) is Answer.REFUSED
    if body:
        client.feed_body(body)
    refusal = client.refused()
    assert str(refusal).endswith(text)
    assert str(refusal).isprintable() and len(str(refusal)) < 300
    assert (refusal.status_code, refusal.body) == (status, body)


@pytest.mark.parametrize("cut", [whole, byte_by_byte, at_random], ids=lambda cut: cut.__name__)
def test_body_of_known_length_is_read(cut: object) -> None:
    """RFC 9112 §6.3; what follows it is not read."""
    client = handshake()
    refused(client, b"HTTP/1.1 403 Forbidden\r\nContent-Length: 11\r\n\r\n")
    assert not client.body_finished
    for piece in pieces(cut, b"not for you"):
        client.feed_body(piece)
    assert client.body_finished and client.body == b"not for you"


@pytest.mark.parametrize("cut", [whole, byte_by_byte, at_random], ids=lambda cut: cut.__name__)
def test_body_in_chunks_is_read(cut: object) -> None:
    """RFC 9112 §7.1, extensions and trailers included."""
    client = handshake()
    refused(client, b"HTTP/1.1 403 Forbidden\r\nTransfer-Encoding: chunked\r\n\r\n")
    for piece in pieces(cut, b"4;x=y\r\nnot \r\n7\r\nfor you\r\n0\r\nX: y\r\n\r\n"):
        client.feed_body(piece)
    assert client.body_finished and client.body == b"not for you"


def test_body_until_the_end_of_the_stream_is_read() -> None:
    """RFC 9112 §6.3: neither length nor chunks."""
    client = handshake()
    refused(client, b"HTTP/1.1 500 Oops\r\n\r\n")
    for piece in (b"not ", b"for ", b"you"):
        client.feed_body(piece)
        assert not client.body_finished
    client.feed_body(b"")
    assert client.body_finished and client.body == b"not for you"


def pieces(cut: object, data: bytes) -> Iterator[bytes]:
    """An empty piece would be the end of the stream."""
    assert callable(cut)
    return (piece for piece in cut(data) if piece)


@pytest.mark.parametrize(
    "head",
    [
        b"HTTP/1.1 204 No Content\r\n\r\n",
        b"HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\n",
        b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n",
    ],
)
def test_refusal_without_a_body_is_finished_at_once(head: bytes) -> None:
    """Nobody waits for bytes that will not come."""
    client = handshake()
    refused(client, head)
    assert client.body_finished and client.body == b""


@pytest.mark.parametrize(
    ("framing", "start", "piece"),
    [
        (b"Content-Length: 10000000\r\n", b"", b"x" * 50_000),
        (b"Transfer-Encoding: chunked\r\n", b"989680\r\n", b"x" * 50_000),
        (b"", b"", b"x" * 50_000),
    ],
    ids=["length", "chunks", "until the end"],
)
def test_long_body_is_cut(framing: bytes, start: bytes, piece: bytes) -> None:
    """64 KiB are kept, and no more is asked for."""
    client = handshake()
    refused(client, b"HTTP/1.1 500 Oops\r\n" + framing + b"\r\n")
    if start:
        client.feed_body(start)
    client.feed_body(piece)
    assert not client.body_finished and len(client.body) == 50_000
    client.feed_body(piece[:15_535])
    assert not client.body_finished and len(client.body) == MAX_BODY - 1 == 65535
    client.feed_body(b"x")
    assert client.body_finished
    client.feed_body(piece)
    assert client.body == b"x" * MAX_BODY


@pytest.mark.parametrize(
    ("head", "body"),
    [
        (b"Content-Length: 10\r\n", b"short"),
        (b"Transfer-Encoding: chunked\r\n", b"5\r\nshort"),
        (b"Transfer-Encoding: chunked\r\n", b"5\r\nshort\r\nzz\r\n"),
    ],
    ids=["length", "chunks", "no chunk"],
)
def test_body_that_breaks_off_is_kept_as_far_as_it_came(head: bytes, body: bytes) -> None:
    """The refusal matters, not its framing."""
    client = handshake()
    refused(client, b"HTTP/1.1 500 Oops\r\n" + head + b"\r\n")
    client.feed_body(body)
    assert client.body_finished is body.endswith(b"zz\r\n")
    client.feed_body(b"")
    assert client.body_finished and client.body == b"short"


@pytest.mark.parametrize(
    "framing",
    [
        b"Content-Length: x\r\n",
        b"Content-Length: -1\r\n",
        b"Content-Length: 1\r\nContent-Length: 2\r\n",
        b"Transfer-Encoding: gzip\r\n",
        b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n",
    ],
)
def test_body_that_cannot_be_framed_is_left_alone(framing: bytes) -> None:
    """The status is told all the same."""
    client = handshake()
    refusal = refused(client, b"HTTP/1.1 403 Forbidden\r\n" + framing + b"\r\n")
    assert refusal.status_code == 403 and client.body_finished and client.body == b""


# ------------------------------------------------------------------------ any bytes

heads = st.binary(max_size=100).map(lambda data: data + b"\r\n\r\n")
odd_lines = st.sampled_from(
    [
        b"Connection: close",
        b"Upgrade: h2c",
        b"Sec-WebSocket-Protocol: a",
        b"Sec-WebSocket-Extensions: permessage-deflate; x=",
        b"Sec-WebSocket-Extensions: permessage-deflate",
        b"Transfer-Encoding: chunked",
        b"Content-Length: 5",
        b"Content-Length: \xff",
        b" folded",
        b"X: \xff",
        b"",
    ]
)
status_lines = st.sampled_from([b"101 x", b"200 OK", b"103 x", b"404", b"000 x", b"999 x", b"1 x"])


@given(heads, st.binary(max_size=100))
def test_no_bytes_raise_anything_but_a_connection_error(head: bytes, body: bytes) -> None:
    """Whatever listens on that port."""
    feed_anything(handshake(compression=Deflate()), head, body)


@given(
    status_lines.map(lambda line: b"HTTP/1.1 " + line) | st.binary(max_size=20),
    st.lists(odd_lines | st.binary(max_size=20), max_size=6),
    st.binary(max_size=100),
)
def test_no_answer_raises_anything_but_a_connection_error(
    line: bytes, lines: list[bytes], body: bytes
) -> None:
    """Good answers with odd lines, and odd answers."""
    client = handshake(subprotocols=("a",), compression=Deflate())
    feed_anything(client, response(client, *lines, line=line), body)
    client = handshake()
    feed_anything(client, b"\r\n".join([line, *lines]) + b"\r\n\r\n", body)


def feed_anything(client: ClientHandshake, head: bytes, body: bytes) -> None:
    try:
        result = client.feed_head(head)
    except WebSocketError as exc:
        assert isinstance(exc, ConnectionError)
        return
    if isinstance(result, Accepted):
        key = accept_of(key_of(client.request)).encode()
        assert head.startswith(b"HTTP/1.") and key in head
    elif result is Answer.REFUSED:
        for piece in (body, body):
            if piece and not client.body_finished:
                client.feed_body(piece)
        if not client.body_finished:
            client.feed_body(b"")
        assert client.body_finished and len(client.body) <= MAX_BODY
