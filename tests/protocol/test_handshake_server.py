"""The server's half of the opening handshake: a raw head in, a status out.

Every row of RELIABILITY.md's paragraph 'Handshake', and the requests that look
strange and are legal.
"""

from __future__ import annotations

from typing import NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from simplews.protocol.deflate import Deflate
from simplews.protocol.handshake import (
    MAX_HEAD,
    MAX_HEADERS,
    MAX_LINE,
    Accepted,
    Refusal,
    accept_request,
    check_answer,
    check_upgrade,
    is_upgrade,
    parse_request,
    parse_tokens,
    serialize_response,
)
from simplews.types import HandshakeRequest, Headers, Response

from .by_hand import SAMPLE_ACCEPT, SAMPLE_KEY, accept_of

LINE = b"GET /chat HTTP/1.1"
FIELDS = {
    "host": b"Host: example.org",
    "upgrade": b"Upgrade: websocket",
    "connection": b"Connection: Upgrade",
    "key": b"Sec-WebSocket-Key: " + SAMPLE_KEY.encode(),
    "version": b"Sec-WebSocket-Version: 13",
}


def head(*extra: bytes, line: bytes = LINE, **changed: bytes | None) -> bytes:
    """A good request, with lines changed, left out (None), or added."""
    fields = [changed.get(name, field) for name, field in FIELDS.items()]
    lines = [line, *[field for field in fields if field is not None], *extra]
    return b"\r\n".join(lines) + b"\r\n\r\n"


def answer(raw: bytes) -> tuple[int, bytes]:
    """What the server would write: the status and the bytes."""
    try:
        request = parse_request(raw)
        check_upgrade(request)
        return 101, accept_request(request).head
    except Refusal as exc:
        return exc.response.status, serialize_response(exc.response)


class Row(NamedTuple):
    name: str
    head: bytes
    status: int


def rows(table: list[Row]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("row", table, ids=lambda row: row.name)


def line(text: bytes) -> bytes:
    return head(line=text)


def target(text: bytes) -> bytes:
    return head(line=b"GET " + text + b" HTTP/1.1")


def host(value: bytes) -> bytes:
    return head(host=b"Host: " + value)


def key(value: bytes) -> bytes:
    return head(key=b"Sec-WebSocket-Key: " + value)


REFUSED = [
    # the request line (RFC 9112 §3)
    Row("no request line", head(line=b""), 400),
    Row("a method alone", line(b"GET"), 400),
    Row("no version", line(b"GET /"), 400),
    Row("no target", line(b"GET  HTTP/1.1"), 400),
    Row("two spaces", line(b"GET  / HTTP/1.1"), 400),
    Row("a tab for a space", line(b"GET\t/ HTTP/1.1"), 400),
    Row("a space before the method", line(b" GET / HTTP/1.1"), 400),
    Row("a space behind the version", line(b"GET / HTTP/1.1 "), 400),
    Row("four parts", line(b"GET / x HTTP/1.1"), 400),
    Row("a method that is no token", line(b"G(T / HTTP/1.1"), 400),
    Row("a protocol in lower case", line(b"GET / http/1.1"), 400),
    Row("a version without a point", line(b"GET / HTTP/11"), 400),
    Row("a version of three digits", line(b"GET / HTTP/1.10"), 400),
    Row("another protocol", line(b"GET / RTSP/1.0"), 400),
    Row("LF in the request line", line(b"GET /\nX HTTP/1.1"), 400),
    Row("CR in the request line", line(b"GET /\rX HTTP/1.1"), 400),
    Row("NUL in the request line", line(b"GET /\0 HTTP/1.1"), 400),
    Row("lines that end in LF", head().replace(b"\r\n", b"\n") + b"\r\n\r\n", 400),
    Row("an empty line first", b"\r\n" + head(), 400),
    Row("bytes that are not text in the target", target(b"/\xff"), 400),
    Row("UTF-8 in the target", target("/ü".encode()), 400),
    Row("DEL in the target", target(b"/\x7f"), 400),
    Row("a target without a path", target(b"chat"), 400),
    Row("a target of another scheme", target(b"ftp://example.org/"), 400),
    Row("a target for a tunnel", target(b"example.org:80"), 400),
    Row("TLS on a plain port", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + head(), 400),
    Row("HTTP/2", b"PRI * HTTP/2.0\r\n\r\n", 505),
    Row("HTTP/1.0", line(b"GET / HTTP/1.0"), 505),
    Row("HTTP/0.9", line(b"GET / HTTP/0.9"), 505),
    Row("HTTP/3", line(b"GET / HTTP/3.0"), 505),
    Row("a long request line", target(b"/" + b"a" * MAX_LINE), 414),
    # header lines (RFC 9112 §5)
    Row("a header without a colon", head(b"X"), 400),
    Row("a header without a name", head(b": x"), 400),
    Row("a space before the colon", head(b"X : y"), 400),
    Row("a tab before the colon", head(b"X\t: y"), 400),
    Row("a folded header", head(b"X: a", b" b"), 400),
    Row("a header folded by a tab", head(b"X: a", b"\tb"), 400),
    Row("a folded first header", head(line=LINE + b"\r\n X: y"), 400),
    Row("a name that is no token", head(b"X(y): z"), 400),
    Row("a name that is not ASCII", head("Ü: z".encode()), 400),
    Row("NUL in a name", head(b"X\0Y: z"), 400),
    Row("NUL in a value", head(b"X: a\0b"), 400),
    Row("CR in a value", head(b"X: a\rb"), 400),
    Row("LF in a value", head(b"X: a\nY: b"), 400),
    Row("CR at the end of a value", head(b"X: a\r"), 400),
    Row("a vertical tab in a value", head(b"X: a\x0bb"), 400),
    Row("DEL in a value", head(b"X: a\x7fb"), 400),
    Row("ESC in a value", head(b"User-Agent: \x1b[31m"), 400),
    Row("a long header", head(b"X: " + b"a" * MAX_LINE), 431),
    Row("many headers", head(*[b"X: y"] * (MAX_HEADERS - 4)), 431),
    # fields that occur once (RFC 9110 §5.3)
    Row("two hosts", head(FIELDS["host"]), 400),
    Row("two different hosts", head(b"HOST: other.example"), 400),
    Row("two keys", head(FIELDS["key"]), 400),
    Row("two versions", head(b"Sec-WebSocket-Version: 8"), 400),
    Row("two equal versions", head(FIELDS["version"]), 400),
    Row("two origins", head(b"Origin: https://a.example", b"origin: https://b.example"), 400),
    Row("two authorizations", head(b"Authorization: Basic a", b"Authorization: Basic b"), 400),
    Row("two lengths", head(b"Content-Length: 0", b"Content-Length: 1"), 400),
    # Host (RFC 9112 §3.2)
    Row("no host", head(host=None), 400),
    Row("a host with a space", host(b"exa mple.org"), 400),
    Row("a host with a path", host(b"example.org/chat"), 400),
    Row("a host with a user", host(b"me@example.org"), 400),
    Row("a host with a query", host(b"example.org?x"), 400),
    Row("a host list", host(b"a.example, b.example"), 400),
    Row("a host that is not ASCII", host("bücher.example".encode()), 400),
    Row("a host in latin-1", host(b"b\xfccher.example"), 400),
    Row("a port that is no number", host(b"example.org:http"), 400),
    Row("two ports", host(b"example.org:80:80"), 400),
    Row("IPv6 without brackets", host(b"::1"), 400),
    Row("IPv6 with half the brackets", host(b"[::1"), 400),
    # the upgrade (RFC 6455 §4.2.1)
    Row("a POST", line(b"POST / HTTP/1.1"), 405),
    Row("a HEAD", line(b"HEAD / HTTP/1.1"), 405),
    Row("an OPTIONS for the server", line(b"OPTIONS * HTTP/1.1"), 405),
    Row("a method of the future", line(b"WEBSOCKET / HTTP/1.1"), 405),
    Row("a get in lower case", line(b"get / HTTP/1.1"), 405),
    Row("no Upgrade", head(upgrade=None), 426),
    Row("an empty Upgrade", head(upgrade=b"Upgrade:"), 426),
    Row("an Upgrade to HTTP/2", head(upgrade=b"Upgrade: h2c"), 426),
    Row("an Upgrade to nearly that", head(upgrade=b"Upgrade: websockets"), 426),
    Row("an Upgrade to two words", head(upgrade=b"Upgrade: web socket"), 426),
    Row("no Connection", head(connection=None), 400),
    Row("an empty Connection", head(connection=b"Connection:"), 400),
    Row("a Connection that closes", head(connection=b"Connection: close"), 400),
    Row("a Connection without commas", head(connection=b"Connection: keep-alive Upgrade"), 400),
    Row("a Connection with nearly that", head(connection=b"Connection: upgrades"), 400),
    Row("no version", head(version=None), 426),
    Row("an empty version", head(version=b"Sec-WebSocket-Version:"), 426),
    *(
        Row(f"version {v!r}", head(version=b"Sec-WebSocket-Version: " + v), 426)
        for v in (b"8", b"0", b"12", b"14", b"013", b"13.0", b"13, 8", b"x")
    ),
    Row("no key", head(key=None), 400),
    Row("an empty key", key(b""), 400),
    Row("a key that is not base64", key(b"not base64 at all, is it"), 400),
    Row("a key of 15 bytes", key(b"AAAAAAAAAAAAAAAAAAAA"), 400),
    Row("a key of 17 bytes", key(b"AAAAAAAAAAAAAAAAAAAAAAA="), 400),
    Row("a key of 18 bytes", key(b"AAAAAAAAAAAAAAAAAAAAAAAA"), 400),
    Row("a key without padding", key(b"AAAAAAAAAAAAAAAAAAAAAA"), 400),
    Row("a key with padding in the middle", key(b"AAAAAAAAAAA==AAAAAAAAAAA"), 400),
    Row("a key with a space", key(b"AAAAAAAAAAAAAAAAAA AAA=="), 400),
    Row("a key for URLs", key(b"-_-_-_-_-_-_-_-_-_-_-w=="), 400),
    Row("a key that is not ASCII", key(b"\xff" * 22 + b"=="), 400),
    Row("a key twice in one", key(SAMPLE_KEY.encode() + b", " + SAMPLE_KEY.encode()), 400),
    Row("a body", head(b"Content-Length: 5"), 400),
    Row("an empty body", head(b"Content-Length: 0"), 400),
    Row("a body in chunks", head(b"Transfer-Encoding: chunked"), 400),
    Row("a subprotocol that is not ASCII", head(b"Sec-WebSocket-Protocol: \xff"), 400),
]

LEGAL = [
    Row("the usual", head(), 101),
    Row("a list in Connection", head(connection=b"Connection: keep-alive, Upgrade"), 101),
    Row("a list the other way round", head(connection=b"Connection: Upgrade, keep-alive"), 101),
    Row("lower case", head(connection=b"connection: upgrade", upgrade=b"upgrade: WEBSOCKET"), 101),
    Row("the case of old browsers", head(upgrade=b"Upgrade: WebSocket"), 101),
    Row("odd commas", head(connection=b"Connection: ,, keep-alive ,\tUpgrade,"), 101),
    Row(
        "two Connection lines",
        head(b"Connection: keep-alive", connection=b"Connection: Upgrade"),
        101,
    ),
    Row(
        "two Connection lines, the last for us",
        head(b"Connection: Upgrade", connection=b"Connection: keep-alive"),
        101,
    ),
    Row("a list in Upgrade", head(upgrade=b"Upgrade: h2c, websocket"), 101),
    Row("two Upgrade lines", head(b"Upgrade: h2c"), 101),
    Row("no spaces", head(host=b"Host:example.org", upgrade=b"Upgrade:websocket"), 101),
    Row("many spaces", head(host=b"Host: \t example.org \t", key=FIELDS["key"] + b"  "), 101),
    Row("a target in absolute form", target(b"http://example.org/chat?x=1"), 101),
    Row("an absolute form without a path", target(b"ws://example.org"), 101),
    Row("an absolute form with a query only", target(b"HTTPS://example.org?x=1"), 101),
    Row("an odd target", target(b"//../%zz?[]{}|\\^`\"<>'"), 101),
    Row("a request line just short enough", target(b"/" + b"a" * (MAX_LINE - 14)), 101),
    Row("a header just short enough", head(b"X: " + b"a" * (MAX_LINE - 3)), 101),
    Row("just few enough headers", head(*[b"X: y"] * (MAX_HEADERS - 5)), 101),
    Row("an empty value", head(b"X:"), 101),
    Row("obs-text in a value", head(b"X-Name: J\xfcrgen \xe2\x82\xac \x80\xff"), 101),
    Row("obs-text in an origin", head(b"Origin: http://b\xfccher.example"), 101),
    Row("tabs in a value", head(b"X: a\tb"), 101),
    Row("every character of a name", head(b"!#$%&'*+-.^_`|~09azAZ: x"), 101),
    Row("a host with an underscore", host(b"my_service:8000"), 101),
    Row("a long label", host(b"a" * 70 + b".example"), 101),
    Row("a host with empty labels", host(b"a..b."), 101),
    Row("a punycode host", host(b"xn--bcher-kva.example"), 101),
    Row("a broken punycode host", host(b"xn--\xc3".replace(b"\xc3", b"a-")), 101),
    Row("IPv4", host(b"127.0.0.1:8000"), 101),
    Row("IPv6", host(b"[::1]"), 101),
    Row("IPv6 with a port", host(b"[2001:db8::1]:8000"), 101),
    Row("IPv6 with a zone", host(b"[fe80::1%25eth0]:8000"), 101),
    Row("a port without digits", host(b"example.org:"), 101),
    Row("an empty host", host(b""), 101),
    Row("a cookie twice", head(b"Cookie: a=b", b"Cookie: c=d"), 101),
    Row("extensions we do not know", head(b"Sec-WebSocket-Extensions: x-foo; a=b, bar"), 101),
    Row("extensions that are malformed", head(b'Sec-WebSocket-Extensions: ;="'), 101),
    Row("subprotocols that are empty", head(b"Sec-WebSocket-Protocol: ,"), 101),
    Row("many subprotocols", head(b"Sec-WebSocket-Protocol: " + b"a," * 4000), 101),
]


def test_limits_of_a_head_are_those_of_the_documentation() -> None:
    """Large enough for cookies and tokens, small enough for thousands at once."""
    assert (MAX_HEAD, MAX_LINE, MAX_HEADERS) == (16384, 8192, 128)


@rows(REFUSED)
def test_request_is_refused(row: Row) -> None:
    """The right status, a short body, and the end of the connection."""
    status, data = answer(row.head)
    assert status == row.status
    fields, _, body = data.partition(b"\r\n\r\n")
    assert data.startswith(b"HTTP/1.1 %d " % status)
    assert f"\r\nContent-Length: {len(body)}\r\n".encode() in fields + b"\r\n"
    assert b"\r\nConnection: close" in fields
    assert 0 < len(body) < 300 + MAX_LINE * (b"HTTP/" in body)


@rows(LEGAL)
def test_request_is_accepted(row: Row) -> None:
    """Strange, but legal: 101 and nothing else."""
    status, data = answer(row.head)
    assert status == 101
    assert data == (
        b"HTTP/1.1 101 Switching Protocols\r\n"
        b"Upgrade: websocket\r\n"
        b"Connection: Upgrade\r\n"
        b"Sec-WebSocket-Accept: " + SAMPLE_ACCEPT.encode() + b"\r\n\r\n"
    )


def test_wrong_version_is_told_the_right_one() -> None:
    """RFC 6455 §4.4, RFC 9110 §15.5.22."""
    for raw in (head(version=b"Sec-WebSocket-Version: 8"), head(upgrade=None)):
        _, data = answer(raw)
        assert b"\r\nSec-WebSocket-Version: 13\r\n" in data
        assert b"\r\nUpgrade: websocket\r\n" in data
        assert b"\r\nConnection: close, Upgrade\r\n" in data


def test_wrong_method_is_told_the_right_one() -> None:
    """RFC 9110 §15.5.6."""
    assert b"\r\nAllow: GET\r\n" in answer(line(b"POST / HTTP/1.1"))[1]


# -------------------------------------------------------------- what is read


def test_request_is_read() -> None:
    """Everything that a HandshakeRequest tells."""
    raw = head(
        b"Sec-WebSocket-Protocol: chat , superchat",
        b"sec-websocket-protocol: v2.chat",
        b"X-Name: J\xfcrgen",
        line=b"GET /a%20b?x=1&y=%C3%BC&x=2 HTTP/1.1",
    )
    request = parse_request(raw, ("127.0.0.1", 1234))
    assert request.method == "GET"
    assert request.host == "example.org"
    assert request.target == "/a%20b?x=1&y=%C3%BC&x=2"
    assert request.path == "/a b"
    assert request.query_params.getlist("x") == ["1", "2"]
    assert request.query_params["y"] == "ü"
    assert request.subprotocols == ("chat", "superchat", "v2.chat")
    assert request.headers["x-name"] == "Jürgen"
    assert request.headers["SEC-WEBSOCKET-KEY"] == SAMPLE_KEY
    assert request.remote_address == ("127.0.0.1", 1234)


@pytest.mark.parametrize(
    ("sent", "read"),
    [
        (b"/", "/"),
        (b"*", "*"),
        (b"http://example.org", "/"),
        (b"http://example.org/", "/"),
        (b"http://example.org:80/a?b", "/a?b"),
        (b"wss://user@[::1]:80/a", "/a"),
        (b"HTTP://EXAMPLE.ORG?q=/x", "/?q=/x"),
    ],
)
def test_absolute_form_is_read_as_its_path(sent: bytes, read: str) -> None:
    """RFC 9112 §3.2.2: "a server MUST accept the absolute-form in requests"."""
    assert parse_request(target(sent)).target == read


def test_any_request_is_read_before_it_is_checked() -> None:
    """`serve(http=...)` answers plain requests on the same port."""
    request = parse_request(b"POST /form HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\n")
    assert (request.method, request.target, is_upgrade(request)) == ("POST", "/form", False)
    assert is_upgrade(parse_request(head()))


@pytest.mark.parametrize(
    ("values", "tokens"),
    [
        ([], []),
        ([""], []),
        (["a"], ["a"]),
        (["a,b", "c"], ["a", "b", "c"]),
        ([" a ,, \tb\t,"], ["a", "b"]),
        ([",", " "], []),
    ],
)
def test_lists_of_tokens(values: list[str], tokens: list[str]) -> None:
    """RFC 9110 §5.6.1: over all lines, empty elements ignored."""
    assert parse_tokens(values) == tokens


def test_refusal_tells_the_log_and_the_client_why() -> None:
    """One line each."""
    with pytest.raises(Refusal) as caught:
        parse_request(line(b"GET / HTTP/1.0"))
    assert str(caught.value) == "505 HTTP/1.0 is not HTTP/1.1"
    body = caught.value.response.body
    assert body == "505 HTTP Version Not Supported: HTTP/1.0 is not HTTP/1.1\n"


def test_callers_key_is_not_judged_if_the_caller_read_the_request() -> None:
    """`strict_key=False`: it may have been made up; the accept value follows from it."""
    request = HandshakeRequest(
        host="",
        target="/",
        headers=Headers(
            [
                ("Upgrade", "websocket"),
                ("Connection", "upgrade"),
                ("Sec-WebSocket-Version", "13"),
                ("Sec-WebSocket-Key", "any key"),
            ]
        ),
    )
    with pytest.raises(Refusal):
        check_upgrade(request)
    check_upgrade(request, strict_key=False)
    assert accept_of("any key").encode() in accept_request(request).head


# ------------------------------------------------------------- what is answered


def accept(
    *extra: bytes,
    subprotocol: str | None = None,
    compression: Deflate | None = None,
    headers: list[tuple[str, str]] | None = None,
) -> Accepted:
    request = parse_request(head(*extra))
    check_answer(request, subprotocol, headers or [])
    return accept_request(request, subprotocol, compression, headers or [])


def test_chosen_subprotocol_is_answered() -> None:
    """RFC 6455 §4.2.2: one of the offered, and only if one was chosen."""
    offer = b"Sec-WebSocket-Protocol: a, b"
    accepted = accept(offer, subprotocol="b")
    assert accepted.subprotocol == "b"
    assert accepted.head.count(b"Sec-WebSocket-Protocol: b\r\n") == 1
    assert b"Protocol:" not in accept(offer).head


@pytest.mark.parametrize("subprotocol", ["c", "A", "", "a\r\nX: y", "a, b"])
def test_subprotocol_that_was_not_offered_is_an_error(subprotocol: str) -> None:
    """A mistake of the application, which no client could accept."""
    with pytest.raises(ValueError, match=r"was not offered; offered: a, b"):
        accept(b"Sec-WebSocket-Protocol: a, b", subprotocol=subprotocol)
    with pytest.raises(ValueError, match=r"was not offered; offered: none"):
        accept(subprotocol=subprotocol)


def test_compression_is_answered_over_all_lines() -> None:
    """RFC 6455 §9.1: the field may be split; what we answer is what we agreed on."""
    offers = (
        b"Sec-WebSocket-Extensions: x-foo, permessage-deflate; server_max_window_bits=8",
        b"Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits=10",
    )
    accepted = accept(*offers, compression=Deflate())
    assert accepted.agreement is not None
    assert (accepted.agreement.local_bits, accepted.agreement.remote_bits) == (12, 10)
    assert accepted.head.count(b"Sec-WebSocket-Extensions:") == 1
    assert (
        b"\r\nSec-WebSocket-Extensions: permessage-deflate; "
        b"server_max_window_bits=12; client_max_window_bits=10\r\n"
    ) in accepted.head
    for declined in (accept(*offers), accept(compression=Deflate())):
        assert declined.agreement is None
        assert b"Extensions" not in declined.head


@pytest.mark.parametrize(
    "offer",
    [
        b"permessage-deflate; client_max_window_bits=99",
        b"permessage-deflate; unknown",
        b"permessage-deflate; server_no_context_takeover; server_no_context_takeover",
        b'permessage-deflate; x="',
        b";;;",
        b"\xff",
    ],
)
def test_wrong_offer_declines_itself_never_the_connection(offer: bytes) -> None:
    """RFC 7692 §7."""
    accepted = accept(b"Sec-WebSocket-Extensions: " + offer, compression=Deflate())
    assert accepted.head.startswith(b"HTTP/1.1 101 ") and accepted.agreement is None


def test_added_headers_are_in_the_answer() -> None:
    """As they were given, and nowhere before the handshake's own."""
    headers = [("Set-Cookie", "a=b"), ("Set-Cookie", "c=d"), ("X-Name", "Jürgen")]
    accepted = accept(headers=headers)
    assert accepted.headers.multi_items() == headers
    end = b"\r\nSet-Cookie: a=b\r\nSet-Cookie: c=d\r\nX-Name: J\xfcrgen\r\n\r\n"
    assert accepted.head.endswith(end)


@pytest.mark.parametrize(
    "name",
    [
        "Connection",
        "upgrade",
        "Content-Length",
        "Transfer-Encoding",
        "Sec-WebSocket-Accept",
        "Sec-WebSocket-Protocol",
        "sec-websocket-extensions",
    ],
)
def test_added_headers_cannot_be_the_handshakes_own(name: str) -> None:
    """A second one breaks the handshake, and h11 must not be the one to tell."""
    for value in ("x", "0", "chunked"):
        with pytest.raises(ValueError, match=f"(?i){name}"):
            accept(headers=[(name, value)])


# --------------------------------------------------------------- plain answers


@pytest.mark.parametrize(
    ("response", "expected"),
    [
        (
            Response(404, {}, "not here\n"),
            b"HTTP/1.1 404 Not Found\r\nContent-Length: 9\r\nConnection: close\r\n\r\nnot here\n",
        ),
        (
            Response(200, [("X", "y"), (b"X", b"z\xff")], b"\0\xff"),
            b"HTTP/1.1 200 OK\r\nX: y\r\nX: z\xff\r\nContent-Length: 2\r\n"
            b"Connection: close\r\n\r\n\0\xff",
        ),
        (
            Response(200, {}, "ü"),
            b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\n\xc3\xbc",
        ),
        (
            Response(299),
            b"HTTP/1.1 299 \r\nContent-Length: 0\r\nConnection: close\r\n\r\n",
        ),
        # RFC 9110 §8.6: no Content-Length, no body
        (Response(204, {}, "x"), b"HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n"),
        (Response(304, {}, "x"), b"HTTP/1.1 304 Not Modified\r\nConnection: close\r\n\r\n"),
        # the application's own framing is not trusted
        (
            Response(
                200,
                {
                    "content-length": "99",
                    "Connection": "keep-alive",
                    "Transfer-Encoding": "chunked",
                    "X": "y",
                },
                "ok",
            ),
            b"HTTP/1.1 200 OK\r\nX: y\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok",
        ),
    ],
)
def test_plain_answer_is_framed(response: Response, expected: bytes) -> None:
    """Its length is right, and the connection ends behind it."""
    assert serialize_response(response) == expected


def test_answer_to_head_has_the_length_and_no_body() -> None:
    """RFC 9110 §9.3.2."""
    data = serialize_response(Response(200, {}, "body"), head_only=True)
    assert b"\r\nContent-Length: 4\r\n" in data and data.endswith(b"\r\n\r\n")


@pytest.mark.parametrize("status", [-1, 0, 100, 101, 199, 600, 1000])
def test_plain_answer_has_a_final_status(status: int) -> None:
    """100 and 101 would not end the exchange."""
    with pytest.raises(ValueError, match=str(status)):
        serialize_response(Response(status))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("X\r\nY", "z"),
        ("X\nY", "z"),
        ("X: y\r\nZ", "z"),
        ("X Y", "z"),
        ("X\0", "z"),
        ("", "z"),
        ("Ü", "z"),
        (b"X\r", b"z"),
        ("X", "y\r\nSet-Cookie: a=b"),
        ("X", "y\nZ: z"),
        ("X", "y\r"),
        ("X", "y\0z"),
        ("X", "€"),
        (b"X", b"y\r\n\r\n<script>"),
    ],
)
def test_header_cannot_smuggle_another(name: str | bytes, value: str | bytes) -> None:
    """CR, LF, NUL, and what is not latin-1: ValueError, and nothing is made."""
    with pytest.raises(ValueError):
        serialize_response(Response(200, [(name, value)]))


# -------------------------------------------------------------------- any bytes


@given(st.binary(max_size=300))
def test_no_bytes_raise_anything_but_a_refusal(data: bytes) -> None:
    """Nothing that comes from the network is an error of ours."""
    for raw in (data, data + b"\r\n\r\n", LINE + b"\r\n" + data + b"\r\n\r\n"):
        assert answer(raw)[0] in (400, 405, 414, 426, 431, 505)


GOOD_LINES = [LINE, *FIELDS.values()]
ODD_LINES = [
    b"Connection: keep-alive",
    b"Upgrade: h2c",
    b"Sec-WebSocket-Protocol: a, \xff b",
    b"Sec-WebSocket-Extensions: permessage-deflate; x=",
    b"Content-Length: 5",
    b"Host: \xff",
    b"Origin: null",
    b" folded",
    b"",
    b"X: \xff\x80",
]


@given(
    lines=st.lists(st.sampled_from(GOOD_LINES + ODD_LINES) | st.binary(max_size=20), max_size=9),
    place=st.integers(0, 200),
    noise=st.binary(max_size=3),
)
def test_no_lines_raise_anything_but_a_refusal(
    lines: list[bytes], place: int, noise: bytes
) -> None:
    """Good lines in any number and order, and noise in a good head."""
    for raw in (
        b"\r\n".join([LINE, *lines]) + b"\r\n\r\n",
        head(*lines),
        head()[:place] + noise + head()[place:],
        head()[:place] + noise + head()[place + 1 :],
    ):
        status, data = answer(raw)
        assert status in (101, 400, 405, 414, 426, 431, 505)
        assert data.count(b"\r\n\r\n") == 1
