"""Requests that break a rule, or only look as if they did (RFC 6455 §4.2, RFC 9112)."""

from __future__ import annotations

import asyncio
import contextlib
import ssl

from ..protocol.by_hand import CLOSE, TEXT, F, close_payload
from .case import HTTP, PLAIN, Case
from .stage import Stage, fin, rst

__all__ = ["CASES"]

HELLO = F(TEXT, b"hello")
BYE = F(CLOSE, close_payload(1000))

#: Also where another server reads the request first, and leaves the judgement to us.
HOSTED = (*HTTP, "aiohttp")

CASES: list[Case] = []


def case(id: str, does: str, *script: object, expect: str, rule: str, **more: object) -> None:
    more.setdefault("over", PLAIN)
    CASES.append(
        Case(f"request/{id}", does, script, expect, rule, opening=True, **more)  # type: ignore[arg-type]
    )


FIELDS = {
    "Host": "localhost",
    "Connection": "Upgrade",
    "Upgrade": "websocket",
    "Sec-WebSocket-Version": "13",
    "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
}


def request(*changes: str, line: str = "GET / HTTP/1.1", end: str = "\r\n") -> bytes:
    """A good request; each change is a line that replaces one of its own, "-Name", or "+line"."""
    fields = dict(FIELDS)
    more = []
    for change in changes:
        name, _, value = change.partition(": ")
        if change.startswith("+"):
            more.append(change[1:])
        elif name.startswith("-"):
            del fields[name[1:]]
        else:
            fields[name] = value
    lines = [line, *(f"{name}: {value}" for name, value in fields.items()), *more]
    return (end.join(lines) + end * 2).encode("latin-1")


def request_of(size: int) -> bytes:
    """A good request of so many bytes, from 12 KiB up."""
    head = request(*[f"+X-{n}: {'a' * 4000}" for n in range(3)], "+X-Last: ")
    return head[:-4] + b"a" * (size - len(head)) + b"\r\n\r\n"


OK = "101; 'hello' peer closes 1000"


def good(id: str, does: str, data: bytes, rule: str, **more: object) -> None:
    """A request that only looks wrong: it opens, and works."""
    case(id, does, data, HELLO, BYE, expect=OK, rule=rule, **more)


def bad(id: str, does: str, data: bytes, expect: str, rule: str, **more: object) -> None:
    """A request that is refused."""
    case(id, does, data, expect=expect, rule=rule, **more)


# ------------------------------------------------------------- RFC 6455 §4.2.1

V13 = "426; Sec-WebSocket-Version: 13"
for id, does, change, expect, rule in (
    ("upgrade-missing", "leaves Upgrade out", "-Upgrade", V13, "RFC 6455 §4.2.1"),
    ("upgrade-other", "asks for h2c instead", "Upgrade: h2c", V13, "RFC 6455 §4.2.1"),
    ("upgrade-empty", "sends an empty Upgrade", "Upgrade: ", V13, "RFC 6455 §4.2.1"),
    ("upgrade-longer", "asks for websockets", "Upgrade: websockets", V13, "RFC 6455 §4.2.1"),
    ("connection-missing", "leaves Connection out", "-Connection", "400", "RFC 6455 §4.2.1"),
    ("connection-close", "says Connection: close", "Connection: close", "400", "RFC 6455 §4.2.1"),
    (
        "connection-longer",
        "says Connection: upgraded",
        "Connection: upgraded",
        "400",
        "RFC 6455 §4.2.1",
    ),
    ("version-missing", "leaves the version out", "-Sec-WebSocket-Version", V13, "RFC 6455 §4.4"),
    ("version-8", "asks for version 8", "Sec-WebSocket-Version: 8", V13, "RFC 6455 §4.4"),
    ("version-list", "asks for 13, 8", "Sec-WebSocket-Version: 13, 8", V13, "RFC 6455 §4.4"),
    ("version-013", "asks for version 013", "Sec-WebSocket-Version: 013", V13, "RFC 6455 §4.1"),
    ("version-text", "asks for version x", "Sec-WebSocket-Version: x", V13, "RFC 6455 §4.4"),
    ("key-missing", "leaves the key out", "-Sec-WebSocket-Key", "400", "RFC 6455 §4.2.1"),
    ("key-empty", "sends an empty key", "Sec-WebSocket-Key: ", "400", "RFC 6455 §4.2.1"),
    (
        "key-short",
        "sends a key of 15 bytes",
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25j",
        "400",
        "RFC 6455 §4.2.1",
    ),
    (
        "key-long",
        "sends a key of 17 bytes",
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZSEh",
        "400",
        "RFC 6455 §4.2.1",
    ),
    (
        "key-not-base64",
        "sends a key that is not base64",
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25j_-==",
        "400",
        "RFC 6455 §4.2.1",
    ),
    (
        "key-padding",
        "sends a key without its padding",
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ",
        "400",
        "RFC 6455 §4.2.1",
    ),
    (
        "key-inner-space",
        "sends a key with a space in it",
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBu b25jZQ==",
        "400",
        "RFC 6455 §4.2.1",
    ),
    (
        "body-length",
        "announces a body of five bytes",
        "+Content-Length: 5",
        "400",
        "promised: no body on the upgrade",
    ),
    (
        "body-zero",
        "announces a body of no bytes",
        "+Content-Length: 0",
        "400",
        "promised: no body on the upgrade",
    ),
    (
        "body-chunked",
        "announces a chunked body",
        "+Transfer-Encoding: chunked",
        "400",
        "promised: no body on the upgrade",
    ),
):
    bad(id, does, request(change), expect, rule)
bad(
    "key-twice",
    "sends the key twice",
    request("+Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ=="),
    "400",
    "RFC 6455 §11.3.1",
)
bad(
    "version-twice",
    "sends the version twice",
    request("+Sec-WebSocket-Version: 13"),
    "400",
    "RFC 6455 §11.3.5",
)
for method in ("POST", "HEAD", "PUT", "OPTIONS", "get", "CONNECT"):
    bad(
        f"method-{method}",
        f"asks with {method}",
        request(line=f"{method} / HTTP/1.1"),
        "405; Allow: GET",
        "RFC 6455 §4.1: the method MUST be GET",
    )
bad(
    "length-and-chunked",
    "sends Content-Length and Transfer-Encoding, and bytes that could be another request",
    request("+Content-Length: 4", "+Transfer-Encoding: chunked") + b"0\r\n\r\nGET /x HTTP/1.1\r\n",
    "400",
    "RFC 9112 §11.2: request smuggling",
)

# -------------------------------------------------------------- legal, and surprising

good(
    "connection-list",
    "says Connection: keep-alive, Upgrade",
    request("Connection: keep-alive, Upgrade"),
    "RFC 6455 §4.2.1",
    over=HOSTED,
)
good(
    "connection-case",
    "writes names and tokens in capitals",
    request("-Upgrade", "-Connection", "+UPGRADE: WEBSOCKET", "+CONNECTION: UPGRADE"),
    "RFC 9110 §5.1",
    over=HOSTED,
)
good(
    "connection-two-fields",
    "sends two Connection fields, the second without upgrade",
    request("+Connection: keep-alive"),
    "RFC 9110 §5.3",
)
good(
    "upgrade-list",
    "asks for h2c or websocket",
    request("Upgrade: h2c, websocket"),
    "RFC 9110 §7.8",
)
good(
    "header-not-utf8",
    "sends a header value that is not UTF-8",
    request("+X-Name: \xe9\xff"),
    "RFC 9110 §5.5: obs-text",
    over=HOSTED,
)
good(
    "header-empty",
    "sends an empty header value, and one of white space",
    request("+X-Empty:", "+X-Space:  \t "),
    "RFC 9112 §5",
)
good("target-absolute", "asks in absolute form", request(line="GET ws://h/ HTTP/1.1"), "RFC 9112")
good("host-empty", "sends an empty Host", request("Host: "), "RFC 9112 §3.2")
good("host-ipv6", "sends an IPv6 literal as Host", request("Host: [::1]:80"), "RFC 9112 §3.2")
good(
    "target-odd",
    "asks for a target of dots, quotes and percent signs",
    request(line="GET /../%00/\"'<>?a=%zz&&&=//..;x HTTP/1.1"),
    "what a path means is the application's",
)
good(
    "target-long",
    "asks for a target of 8000 bytes",
    request(line=f"GET /{'a' * 7999} HTTP/1.1"),
    "docs/howto/limits.md",
)
good(
    "header-128",
    "sends 128 header fields",
    request(*[f"+X-{n}: 1" for n in range(123)]),
    "docs/howto/limits.md",
)
good(
    "cookie-same-host",
    "sends a cookie, from a page of the same host",
    request("+Cookie: id=7", "+Origin: http://localhost"),
    "RFC 6455 §10.2",
    over=("serve",),
)

# ------------------------------------------------------------------ RFC 9112: the line

for id, does, line, expect, rule in (
    ("http-1.0", "speaks HTTP/1.0", "GET / HTTP/1.0", "505", "RFC 6455 §4.1"),
    ("http-0.9", "speaks HTTP/0.9", "GET /", "400", "RFC 9112 §3"),
    ("http-2.0", "says HTTP/2.0 in an HTTP/1 line", "GET / HTTP/2.0", "505", "RFC 9112 §2.3"),
    ("http-1.2", "speaks HTTP/1.2", "GET / HTTP/1.2", "505", "RFC 6455 §4.1"),
    ("http-lower", "writes http/1.1", "GET / http/1.1", "400", "RFC 9112 §2.3"),
    ("http-1.11", "speaks HTTP/1.11", "GET / HTTP/1.11", "400", "RFC 9112 §2.3"),
    ("line-empty", "begins with an empty line", "", "400", "RFC 9112 §2.2"),
    ("line-two-spaces", "puts two spaces into the line", "GET  / HTTP/1.1", "400", "RFC 9112 §3"),
    ("line-tab", "separates with tabs", "GET\t/\tHTTP/1.1", "400", "RFC 9112 §3"),
    ("line-trailing", "ends the line with a space", "GET / HTTP/1.1 ", "400", "RFC 9112 §3"),
    ("line-leading", "begins the line with a space", " GET / HTTP/1.1", "400", "RFC 9112 §3"),
    ("line-no-target", "leaves the target out", "GET HTTP/1.1", "400", "RFC 9112 §3"),
    ("target-not-ascii", "asks for a target of Latin-1", "GET /\xe9 HTTP/1.1", "400", "RFC 3986"),
    (
        "target-nul",
        "puts NUL into the target",
        "GET /\0 HTTP/1.1",
        "400",
        "promised: it ends quietly, and in time",
    ),
    ("target-cr", "puts CR into the target", "GET /\rx HTTP/1.1", "400", "RFC 9112 §2.2"),
    ("target-lf", "puts LF into the target", "GET /\nx HTTP/1.1", "400", "RFC 9112 §2.2"),
    ("target-relative", "asks for a target without a slash", "GET x HTTP/1.1", "400", "RFC 9112"),
    ("target-authority", "asks in authority form", "GET h:80 HTTP/1.1", "400", "RFC 9112 §3.2.3"),
    ("method-odd", "sends a method of separators", "G(E)T / HTTP/1.1", "400", "RFC 9110 §9.1"),
    ("method-utf8", "sends a method in Latin-1", "G\xc9T / HTTP/1.1", "400", "RFC 9110 §9.1"),
    (
        "line-8192",
        "sends a line of over 8 KiB",
        f"GET /{'a' * 8192} HTTP/1.1",
        "414",
        "promised: oversize line 414",
    ),
):
    bad(id, does, request(line=line), expect, rule)
bad(
    "line-endless",
    "sends a line of 20000 bytes, without an end",
    b"GET /" + b"a" * 20000,
    "414",
    "promised: oversize line 414",
)
bad(
    "method-endless",
    "sends 9000 letters without a space",
    b"A" * 9000,
    "414",
    "promised: oversize line 414",
)

# ---------------------------------------------------------------- RFC 9112: the fields

for id, does, line, expect, rule in (
    ("fold", "folds a header line", "X-Long: a\r\n b", "400", "RFC 9112 §5.2: obs-fold"),
    ("fold-tab", "folds a header line with a tab", "X-Long: a\r\n\tb", "400", "RFC 9112 §5.2"),
    ("name-space", "puts a space before the colon", "X-A : b", "400", "RFC 9112 §5.1"),
    ("name-empty", "sends a field without a name", ": b", "400", "RFC 9112 §5"),
    ("name-odd", "sends a name with a parenthesis", "X(A): b", "400", "RFC 9110 §5.6.2"),
    ("name-latin1", "sends a name in Latin-1", "X-\xe9: b", "400", "RFC 9110 §5.6.2"),
    ("colon-missing", "sends a line without a colon", "X-A", "400", "RFC 9112 §5"),
    ("value-nul", "puts NUL into a value", "X-A: a\0b", "400", "RFC 9110 §5.5"),
    ("value-cr", "puts CR into a value", "X-A: a\rb", "400", "RFC 9112 §2.2: bare CR"),
    ("value-lf", "puts LF into a value", "X-A: a\nX-B: b", "400", "RFC 9112 §2.2"),
    ("value-escape", "puts ESC into a value", "X-A: a\x1b[31m", "400", "RFC 9110 §5.5"),
    ("value-del", "puts DEL into a value", "X-A: a\x7f", "400", "RFC 9110 §5.5"),
    ("host-twice", "sends Host twice", "Host: other", "400", "RFC 9112 §3.2"),
    ("origin-twice", "sends Origin twice", "Origin: http://a\r\nOrigin: http://b", "400", "§4.2.1"),
    (
        "authorization-twice",
        "sends Authorization twice",
        "Authorization: Basic YQ==\r\nAuthorization: Basic Yg==",
        "400",
        "RFC 9110 §5.3",
    ),
    (
        "length-twice",
        "sends Content-Length twice",
        "Content-Length: 0\r\nContent-Length: 5",
        "400",
        "RFC 9112 §6.3",
    ),
    (
        "header-8k",
        "sends a header line of over 8 KiB",
        f"X-A: {'a' * 8192}",
        "431",
        "promised: it ends quietly, and in time",
    ),
    (
        "header-129",
        "sends 129 header fields",
        "\r\n".join(f"X-{n}: 1" for n in range(124)),
        "431",
        "promised: header count 431",
    ),
    (
        "head-16k",
        "sends a head of over 16 KiB",
        "\r\n".join(f"X-{n}: {'a' * 4000}" for n in range(5)),
        "431",
        "promised: head 431",
    ),
):
    bad(id, does, request(f"+{line}"), expect, rule)
for id, does, change in (
    ("host-missing", "leaves Host out", "-Host"),
    ("host-space", "sends a Host with a space", "Host: a b"),
    ("host-latin1", "sends a Host that is not ASCII", "Host: \xe9"),
    ("host-slash", "sends a Host with a path", "Host: a/b"),
    ("host-user", "sends a Host with userinfo", "Host: me@a"),
    ("host-port", "sends a Host with a port of letters", "Host: a:http"),
    ("host-list", "sends two names in a Host", "Host: a, b:80:90"),
):
    bad(id, does, request(change), "400", "RFC 9112 §3.2")
bad(
    "head-endless",
    "sends header lines without an end, 20 KB",
    request()[:-2] + b"X-A: b\r\n" * 2500,
    "431",
    "promised: head 431",
)
bad(
    "head-just-over",
    "ends the head three bytes behind the limit of 16 KiB",
    request_of(16384 + 3),
    "431",
    "promised: head 431, wherever TCP cuts it",
)
good(
    "head-at-limit",
    "ends the head exactly at the limit of 16 KiB",
    request_of(16384),
    "docs/howto/limits.md",
)
bad(
    "lf-alone",
    "ends its lines with LF alone, and waits",
    request(end="\n"),
    "408",
    "RFC 9112 §2.2: a bare LF is no line end to us",
    within=11.5,
)
bad(
    "cr-alone",
    "ends its lines with CR alone, and waits",
    request(end="\r"),
    "408",
    "RFC 9112 §2.2",
    within=11.5,
)

# -------------------------------------------------------- plain requests and policies

for method in ("GET", "POST", "HEAD", "DELETE"):
    bad(
        f"plain-{method.lower()}",
        f"sends a plain {method} request",
        f"{method} / HTTP/1.1\r\nHost: localhost\r\n\r\n".encode(),
        V13 if method == "GET" else "405; Allow: GET",
        "docs/reference/serve.md: no WebSocket, no page",
    )
bad(
    "plain-post-body",
    "posts a body of 100000 bytes, and reads then",
    b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100000\r\n\r\n" + bytes(100000),
    "405; Allow: GET",
    "the answer arrives though the body was not wanted",
)
bad(
    "pipelined",
    "sends two plain requests at once",
    b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n" * 2,
    V13,
    "one answer, and the connection is closed",
)
bad(
    "http2-preface",
    "speaks HTTP/2 with prior knowledge",
    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\x12\x04\0\0\0\0\0",
    "505",
    "RFC 9113 §3.4",
)
bad(
    "origin-foreign",
    "comes from a page of another host, where one origin is allowed",
    request("+Origin: https://evil.example"),
    "403",
    "RFC 6455 §10.2",
    options={"origins": ["https://good.example"]},
    over=HOSTED,
)
for id, does, value in (
    ("suffix", "a host that ends like the good one", "https://not-good.example"),
    ("prefix", "a host that begins like the good one", "https://good.example.evil.example"),
    ("scheme", "the good host over http", "http://good.example"),
    ("port", "another port of the good host", "https://good.example:8443"),
    ("null", "a sandboxed page", "null"),
    ("user", "the good host as userinfo", "https://good.example@evil.example"),
    ("missing", "no page at all", ""),
):
    change = (f"+Origin: {value}",) if value else ()
    bad(
        f"origin-{id}",
        f"names {does} as its origin, where https://good.example is allowed",
        request(*change),
        "403",
        "RFC 6455 §10.2",
        options={"origins": ["https://good.example"]},
    )
bad(
    "cookie-foreign",
    "sends a cookie from a page of another host, where no origins were set",
    request("+Cookie: id=7", "+Origin: https://evil.example"),
    "403",
    "promised: cross-site hijacking",
    over=("serve",),
)
bad(
    "cookie-null",
    "sends a cookie from a sandboxed page",
    request("+Cookie: id=7", "+Origin: null"),
    "403",
    "promised: cross-site hijacking",
    over=("serve",),
)
case(
    "subprotocols-unknown",
    "offers subprotocols of which we speak none",
    request("+Sec-WebSocket-Protocol: a, b"),
    HELLO,
    BYE,
    expect=OK,
    rule="RFC 6455 §4.2.2: then none is named",
    options={"subprotocols": ["chat"]},
    over=HOSTED,
)
case(
    "subprotocols-duplicate",
    "offers one subprotocol over and over, in lists and fields",
    request("+Sec-WebSocket-Protocol: chat, chat,,chat", "+Sec-WebSocket-Protocol: chat"),
    HELLO,
    BYE,
    expect="101; Sec-WebSocket-Protocol: chat; 'hello' peer closes 1000",
    rule="RFC 6455 §4.2.2: one is named, once",
    options={"subprotocols": ["chat"]},
    over=HOSTED,
)
case(
    "subprotocols-malformed",
    "offers a subprotocol that is no token",
    request('+Sec-WebSocket-Protocol: "chat room", <x>, chat'),
    HELLO,
    BYE,
    expect="101; Sec-WebSocket-Protocol: chat; 'hello' peer closes 1000",
    rule="RFC 6455 §4.2.2: what we do not speak is not echoed",
    options={"subprotocols": ["chat"]},
)
case(
    "extensions-unknown",
    "offers extensions that we do not know",
    request("+Sec-WebSocket-Extensions: bbf-usp-protocol; x=1, foo"),
    HELLO,
    BYE,
    expect=OK,
    rule="RFC 6455 §9.1: they are declined",
    over=HOSTED,
)
case(
    "extensions-garbage",
    "sends garbage as extensions",
    request('+Sec-WebSocket-Extensions: ;;="",permessage-deflate;"\\'),
    HELLO,
    BYE,
    expect=OK,
    rule="RFC 7692 §7: it declines itself",
)

# ------------------------------------------------- bytes glued to it, and half of it

case(
    "glued",
    "sends frames right behind its request, in one write",
    request(),
    HELLO,
    BYE,
    expect=OK,
    rule="promised: bytes in the same segment are delivered",
    over=HOSTED,
)
case(
    "glued-fin",
    "sends a frame right behind its request, and ends TCP",
    request(),
    HELLO,
    fin,
    expect="101; 'hello' lost 1006",
    rule="promised: followed or not by FIN",
    over=PLAIN,
)
case(
    "glued-failure",
    "sends a bad frame right behind its request",
    request(),
    F(3),
    expect="101; we fail 1002",
    rule="RFC 6455 §7.1.7",
)
case(
    "glued-request",
    "sends a second request right behind the first",
    request() + request(),
    expect="101; we fail 1002",
    rule="RFC 6455 §4.2.2: what follows is frames",
    over=HOSTED,
)
case(
    "glued-large",
    "sends a message of 100000 bytes right behind its request",
    request(),
    F(TEXT, b"x" * 100000),
    BYE,
    expect="101; <100000 characters> peer closes 1000",
    rule="promised: bytes in the same segment are delivered",
    cut=False,
)
for step, how in ((fin, "ends"), (rst, "resets")):
    over = HTTP if step is fin else ("serve",)
    for size, where in ((0, "at once"), (1, "behind a byte"), (60, "inside the head")):
        case(
            f"left-{size}-{step.__name__}",
            f"{how} TCP {where}",
            request()[:size],
            step,
            expect="no answer",
            rule="promised: nothing is left behind",
            over=over,
            cut=False,
        )
    case(
        f"left-before-end-{step.__name__}",
        f"{how} TCP before the last byte of its request",
        request()[:-1],
        step,
        expect="no answer",
        rule="promised: it ends quietly, and in time",
        over=over,
        cut=False,
    )

# ------------------------------------------------------------------------------ time

SLOW = 11.5


async def drip(stage: Stage) -> None:
    """A byte a second, until nobody reads any more."""
    for byte in request():
        await stage.peer.write(bytes([byte]))
        await asyncio.sleep(1)


bad("silent", "connects and says nothing", b"", "408", "promised: open_timeout", within=SLOW)
bad(
    "stalls",
    "sends half of a request and then nothing",
    request()[:60],
    "408",
    "promised: open_timeout",
    within=SLOW,
)
case(
    "drip",
    "sends its request at a byte a second",
    drip,
    expect="408",
    rule="promised: an opening that drips is closed at open_timeout",
    cut=False,
)

# ------------------------------------------------------------------------------- TLS


def client_hello() -> bytes:
    """What a TLS client begins with."""
    context, out = ssl.create_default_context(), ssl.MemoryBIO()
    with contextlib.suppress(ssl.SSLWantReadError):
        context.wrap_bio(ssl.MemoryBIO(), out, server_hostname="localhost").do_handshake()
    return out.read()


case(
    "tls-on-plain",
    "speaks TLS on a port without it",
    client_hello(),
    expect="no answer",
    rule="promised: it ends quietly, with one line in the log",
    over=PLAIN,
)
case(
    "tls-alert-on-plain",
    "sends a TLS alert on a port without TLS",
    b"\x15\x03\x03\x00\x02\x02\x28",
    expect="no answer",
    rule="promised: it ends quietly",
    over=PLAIN,
)
for id, does, data in (
    ("request", "sends a good request without TLS on a port with it", request()),
    ("garbage", "sends garbage on a port with TLS", b"\xff" * 100),
    ("banner", "greets like a mail server on a port with TLS", b"220 mail ESMTP\r\n"),
    ("hello-cut", "sends half of a TLS handshake and ends TCP", client_hello()[:40]),
):
    case(
        f"plain-on-tls-{id}",
        does,
        data,
        fin,
        expect="no answer",
        rule="promised: it ends quietly, with one line in the log",
        over=("serve+tls (plain)",),
        cut=False,
    )
case(
    "tls-stalls",
    "begins a TLS handshake and says nothing more",
    client_hello()[:40],
    expect="no answer",
    rule="promised: open_timeout",
    over=("serve+tls (plain)",),
    within=SLOW,
    cut=False,
)
for step, how in ((fin, "ends"), (rst, "resets")):
    case(
        f"tls-left-{step.__name__}",
        f"makes the TLS handshake and {how} TCP",
        step,
        expect="no answer",
        rule="promised: nothing is left behind",
        over=("serve+tls",),
        cut=False,
    )

# ------------------------------------------------------------------- dear requests

for id, does, value in (
    ("commas", "offers 8000 extensions without a name", "," * 8000),
    ("names", "offers 4000 extensions that nobody knows", "a," * 4000),
    ("parameters", "offers an extension with 4000 parameters", "permessage-deflate" + ";x" * 3900),
    ("offers", "offers permessage-deflate 380 times, wrongly", "permessage-deflate;x," * 380),
    ("quotes", "offers 8000 quotation marks", '"' * 8000),
):
    case(
        f"dear-{id}",
        does,
        request(f"+Sec-WebSocket-Extensions: {value}"),
        HELLO,
        BYE,
        expect=OK,
        rule="docs/explanation/security.md: offers of over 2 KiB are declined",
        over=(*HOSTED,),
        cut=False,
    )
case(
    "dear-subprotocols",
    "offers 4000 subprotocols",
    request("+Sec-WebSocket-Protocol: " + "a," * 3990 + "chat"),
    HELLO,
    BYE,
    expect="101; Sec-WebSocket-Protocol: chat; 'hello' peer closes 1000",
    rule="RFC 6455 §4.2.2",
    options={"subprotocols": ["chat"]},
    over=HOSTED,
    cut=False,
)
case(
    "subprotocol-not-ascii",
    "offers a subprotocol in Latin-1",
    request("+Sec-WebSocket-Protocol: chat, \xe9"),
    expect="400",
    rule="RFC 6455 §4.1: a token",
    options={"subprotocols": ["chat"]},
)
