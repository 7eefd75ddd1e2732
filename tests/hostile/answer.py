"""What a hostile server may answer to our client's request (RFC 6455 §4.1, RFC 9112)."""

from __future__ import annotations

import asyncio

from ..protocol.by_hand import CLOSE, TEXT, F, close_payload
from .case import CLIENT, Case, Step
from .stage import Stage, fin, rst, silence

__all__ = ["CASES"]

HELLO = F(TEXT, b"hello")
BYE = F(CLOSE, close_payload(1000))
OK = "opens 'hello' peer closes 1000"

CASES: list[Case] = []


def case(id: str, does: str, *script: object, expect: str, rule: str, **more: object) -> None:
    CASES.append(
        Case(f"answer/{id}", does, script, expect, rule, CLIENT, opening=True, **more)  # type: ignore[arg-type]
    )


FIELDS = {
    "Upgrade": "websocket",
    "Connection": "Upgrade",
    "Sec-WebSocket-Accept": "{accept}",
}


def reply(*changes: str, line: str = "HTTP/1.1 101 Switching Protocols") -> bytes:
    """A good answer; each change is a line that replaces one of its own, "-Name", or "+line"."""
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
    lines = [line, *(f"{name}: {value}" for name, value in fields.items()), *more, "", ""]
    return "\r\n".join(lines).encode("latin-1")


def good(id: str, does: str, data: bytes, rule: str, **more: object) -> None:
    """An answer that only looks wrong: it opens, and works."""
    case(id, does, data, HELLO, BYE, expect=OK, rule=rule, **more)


WRONG = "ConnectionError: the server's handshake is wrong: "
UNASKED = WRONG + "the server chose extensions that were not offered: "
INVALID = "ConnectionError: the server's answer is not valid HTTP: "
REFUSED = "ConnectionError: the server refused the WebSocket with HTTP "
REDIRECTS = "ConnectionError: the server redirects with HTTP "
LATE = (
    "ConnectTimeout: HOST did not open a WebSocket within 10 s; "
    "is it a WebSocket server? open_timeout= gives it more time"
)
PAGE = (
    "ConnectionError: the server answered with a page (HTTP {}), not a WebSocket; "
    "is the path right?"
)
NOT_HTTP = "ConnectionError: HOST does not speak HTTP: it sent "
ODD = "ConnectionError: the server does not speak HTTP: it answered "


def bad(id: str, does: str, data: bytes, expect: str, rule: str, **more: object) -> None:
    """An answer that our client does not take."""
    case(id, does, data, expect=expect, rule=rule, **more)


# --------------------------------------------------------------- RFC 6455 §4.1: the 101

for id, does, change in (
    (
        "accept-wrong",
        "answers another key",
        "Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=",
    ),
    ("accept-empty", "sends an empty accept value", "Sec-WebSocket-Accept: "),
    ("accept-key", "sends our key back", "Sec-WebSocket-Accept: dGhlIHNhbXBsZSBub25jZQ=="),
    (
        "accept-lower",
        "sends the accept value in small letters",
        "Sec-WebSocket-Accept: x{accept}",
    ),
):
    bad(
        id,
        does,
        reply(change),
        WRONG + "Sec-WebSocket-Accept does not answer our key; is a cache or proxy in between?",
        "RFC 6455 §4.1, 4",
    )
bad(
    "accept-missing",
    "sends no accept value",
    reply("-Sec-WebSocket-Accept"),
    WRONG + "Sec-WebSocket-Accept does not answer our key; is a cache or proxy in between?",
    "RFC 6455 §4.1",
)
bad(
    "accept-twice",
    "sends the accept value twice",
    reply("+Sec-WebSocket-Accept: {accept}"),
    WRONG + "header field sec-websocket-accept more than once",
    "RFC 6455 §11.3.3",
)
bad(
    "upgrade-missing",
    "sends no Upgrade",
    reply("-Upgrade"),
    WRONG + "Missing header, 'Upgrade: websocket'",
    "RFC 6455 §4.1, 2",
)
bad(
    "upgrade-other",
    "upgrades to h2c",
    reply("Upgrade: h2c"),
    WRONG + "Missing header, 'Upgrade: websocket'",
    "RFC 6455 §4.1, 2",
)
bad(
    "connection-missing",
    "sends no Connection",
    reply("-Connection"),
    WRONG + "Missing header, 'Connection: Upgrade'",
    "RFC 6455 §4.1, 3",
)
bad(
    "connection-close",
    "sends Connection: close",
    reply("Connection: close"),
    WRONG + "Missing header, 'Connection: Upgrade'",
    "RFC 6455 §4.1, 3",
)
good(
    "connection-list",
    "sends Connection: keep-alive, UPGRADE and Upgrade: WebSocket",
    reply("Connection: keep-alive, UPGRADE", "Upgrade: WebSocket"),
    "RFC 6455 §4.1: case-insensitive",
)
good("phrase-none", "sends a 101 without a phrase", reply(line="HTTP/1.1 101 "), "RFC 9112 §4")
good(
    "phrase-odd",
    "sends a 101 with a phrase that is not ASCII",
    reply(line="HTTP/1.1 101 Pas de probl\xe8me"),
    "RFC 9112 §4",
)
good(
    "http-1.0",
    "answers with HTTP/1.0 101",
    reply(line="HTTP/1.0 101 x"),
    "who says 101 and has our key speaks WebSocket, whatever the minor version",
)
good(
    "headers-odd",
    "sends header values that are not UTF-8, empty ones, and the same twice",
    reply("+X-A: \xe9", "+X-A:", "+Set-Cookie: a=1", "+Set-Cookie: b=2"),
    "RFC 9110 §5.5",
)
bad(
    "subprotocol-unasked",
    "chooses a subprotocol though none was offered",
    reply("+Sec-WebSocket-Protocol: chat"),
    WRONG + "unrecognized subprotocol chat",
    "RFC 6455 §4.1, 6",
)
bad(
    "subprotocol-other",
    "chooses a subprotocol that was not offered",
    reply("+Sec-WebSocket-Protocol: superchat"),
    WRONG + "unrecognized subprotocol superchat",
    "RFC 6455 §4.1, 6",
    options={"subprotocols": ["chat"]},
)
bad(
    "subprotocol-case",
    "chooses the subprotocol that was offered, in capitals",
    reply("+Sec-WebSocket-Protocol: CHAT"),
    WRONG + "unrecognized subprotocol CHAT",
    "RFC 6455 §4.1, 6",
    options={"subprotocols": ["chat"]},
)
bad(
    "subprotocol-both",
    "chooses both subprotocols that were offered",
    reply("+Sec-WebSocket-Protocol: chat, soap"),
    WRONG + "unrecognized subprotocol chat, soap",
    "RFC 6455 §4.2.2",
    options={"subprotocols": ["chat", "soap"]},
)
bad(
    "subprotocol-twice",
    "chooses a subprotocol twice",
    reply("+Sec-WebSocket-Protocol: chat", "+Sec-WebSocket-Protocol: chat"),
    WRONG + "header field sec-websocket-protocol more than once",
    "RFC 6455 §11.3.4",
    options={"subprotocols": ["chat"]},
)
good(
    "subprotocol-none",
    "chooses none of the subprotocols that were offered",
    reply(),
    "RFC 6455 §4.1: the client decides what it makes of that",
    options={"subprotocols": ["chat"]},
)
EXTENSIONS = "+Sec-WebSocket-Extensions: "
for id, does, value, expect in (
    (
        "unknown",
        "accepts an extension that was not offered",
        "foo",
        WRONG + "the server chose extensions that were not offered: 'foo'",
    ),
    (
        "two",
        "accepts permessage-deflate twice",
        "permessage-deflate, permessage-deflate",
        UNASKED + "'permessage-deflate, permessage-deflate'",
    ),
    (
        "and-unknown",
        "accepts one that was offered and one that was not",
        "permessage-deflate, foo",
        WRONG + "the server chose extensions that were not offered: 'permessage-deflate, foo'",
    ),
    (
        "unknown-parameter",
        "adds a parameter that nobody knows",
        "permessage-deflate; x=1",
        WRONG + "unknown parameter x",
    ),
    (
        "bits-7",
        "names a window of 7 bits",
        "permessage-deflate; server_max_window_bits=7",
        WRONG + "parameter server_max_window_bits with the value '7'",
    ),
    (
        "bits-16",
        "names a window of 16 bits",
        "permessage-deflate; client_max_window_bits=16",
        WRONG + "parameter client_max_window_bits with the value '16'",
    ),
    (
        "bits-none",
        "names no bits",
        "permessage-deflate; client_max_window_bits",
        WRONG + "parameter client_max_window_bits with the value None",
    ),
    (
        "parameter-twice",
        "sends a parameter twice",
        "permessage-deflate; server_no_context_takeover; server_no_context_takeover",
        WRONG + "parameter server_no_context_takeover twice",
    ),
    (
        "value",
        "gives a flag a value",
        "permessage-deflate; server_no_context_takeover=1",
        WRONG + "parameter server_no_context_takeover with a value",
    ),
    ("garbage", "sends garbage as extensions", ';;="', WRONG + "quoted string without an end"),
):
    bad(f"extension-{id}", does, reply(EXTENSIONS + value), expect, "RFC 6455 §9.1, RFC 7692 §7.1")
bad(
    "extension-twice",
    "accepts permessage-deflate in two header fields",
    reply(EXTENSIONS + "permessage-deflate", EXTENSIONS + "permessage-deflate"),
    WRONG
    + "the server chose extensions that were not offered: 'permessage-deflate, permessage-deflate'",
    "RFC 6455 §9.1",
)
bad(
    "extension-unasked",
    "accepts permessage-deflate though it was not offered",
    reply(EXTENSIONS + "permessage-deflate"),
    WRONG + "the server chose extensions that were not offered: 'permessage-deflate'",
    "RFC 6455 §9.1",
    options={"compression": None},
)
good(
    "extension-bits-8",
    "names a window of 8 bits for us, which zlib cannot make",
    reply(EXTENSIONS + "permessage-deflate; client_max_window_bits=8"),
    "RFC 7692 §7.1.2.2: we then send nothing compressed",
)
good(
    "extension-quoted",
    "names the bits as a quoted string",
    reply(EXTENSIONS + 'permessage-deflate; server_max_window_bits="10"'),
    "RFC 6455 §9.1",
)
good(
    "length-zero",
    "sends Content-Length: 0 with the 101",
    reply("+Content-Length: 0"),
    "RFC 9110 §8.6: it should not, and it does no harm",
)
good(
    "chunked",
    "sends Transfer-Encoding: chunked with the 101",
    reply("+Transfer-Encoding: chunked"),
    "RFC 9112 §6.1: what follows is frames",
)

# ------------------------------------------------------------------- no HTTP, or bad HTTP

for id, does, data, expect in (
    (
        "ssh",
        "greets like an SSH server",
        b"SSH-2.0-OpenSSH_9.6\r\n",
        NOT_HTTP + "b'SSH-2.0-OpenSSH_9.6\\r\\n'",
    ),
    (
        "smtp",
        "greets like an SMTP server",
        b"220 mail.example ESMTP\r\n",
        NOT_HTTP + "b'220 mail.example ESMTP\\r\\n'",
    ),
    (
        "http-lower",
        "writes http/1.1",
        reply(line="http/1.1 101 x"),
        NOT_HTTP + "b'http/1.1 101 x\\r\\nUpgrade: websocket\\r\\nConn'",
    ),
    (
        "http2",
        "answers with an HTTP/2 frame",
        b"\0\0\x12\x04\0\0\0\0\0\0\x03\0\0\0\x64",
        NOT_HTTP + "b'\\x00\\x00\\x12\\x04\\x00\\x00\\x00\\x00\\x00\\x00\\x03\\x00\\x00\\x00d'",
    ),
    (
        "frames",
        "sends frames without a handshake",
        HELLO.to(False),
        NOT_HTTP + "b'\\x81\\x05hello'",
    ),
    (
        "empty-line",
        "sends an empty line first",
        b"\r\n" + reply(),
        NOT_HTTP + "b'\\r\\nHTTP/1.1 101 Switching Protocols\\r\\nUpgr'",
    ),
    (
        "zeros",
        "sends zeros",
        bytes(100),
        NOT_HTTP + repr(bytes(40)),
    ),
    (
        "echo",
        "sends our request back",
        b"GET / HTTP/1.1\r\n\r\n",
        NOT_HTTP + "b'GET / HTTP/1.1\\r\\n\\r\\n'",
    ),
):
    bad(f"banner-{id}", does, data, expect, "RFC 9112 §4", cut=False)
bad(
    "tls",
    "answers with a TLS alert",
    b"\x15\x03\x03\x00\x02\x02\x46",
    "ConnectionError: HOST speaks TLS; use a wss:// URL",
    "promised: it ends quietly, and in time",
)
for id, does, line, expect in (
    ("http-2.0", "says HTTP/2.0", "HTTP/2.0 101 x", ODD + "b'HTTP/2.0 101 x'"),
    ("http-1.", "says HTTP/1.", "HTTP/1. 101 x", ODD + "b'HTTP/1. 101 x'"),
    ("http-1.1x", "says HTTP/1.1x", "HTTP/1.1x 101 x", ODD + "b'HTTP/1.1x 101 x'"),
    ("status-two", "sends a status of two digits", "HTTP/1.1 10 x", ODD + "b'HTTP/1.1 10 x'"),
    ("status-four", "sends a status of four digits", "HTTP/1.1 1010 x", ODD + "b'HTTP/1.1 1010 x'"),
    ("status-text", "sends a status of letters", "HTTP/1.1 abc x", ODD + "b'HTTP/1.1 abc x'"),
    ("status-none", "sends no status", "HTTP/1.1", ODD + "b'HTTP/1.1'"),
    ("status-sign", "sends a status with a sign", "HTTP/1.1 +10 x", ODD + "b'HTTP/1.1 +10 x'"),
    (
        "status-arabic",
        "sends a status of other digits",
        "HTTP/1.1 \xb2\xb3\xb9 x",
        ODD + "b'HTTP/1.1 \\xb2\\xb3\\xb9 x'",
    ),
    ("status-0", "sends the status 000", "HTTP/1.1 000 x", ODD + "b'HTTP/1.1 000 x'"),
    ("status-99", "sends the status 099", "HTTP/1.1 099 x", ODD + "b'HTTP/1.1 099 x'"),
    ("status-600", "sends the status 600", "HTTP/1.1 600 x\r\nContent-Length: 0", REFUSED + "600"),
    (
        "line-nul",
        "puts NUL into the line",
        "HTTP/1.1 101 a\0b",
        INVALID + "CR, LF or NUL in the first line",
    ),
    (
        "line-cr",
        "puts CR into the line",
        "HTTP/1.1 101 a\rb",
        INVALID + "CR, LF or NUL in the first line",
    ),
):
    bad(id, does, reply(line=line), expect, "RFC 9112 §4")
for id, does, line, expect in (
    ("fold", "folds a header line", "X-A: a\r\n b", INVALID + "folded header line"),
    ("name-space", "puts a space before the colon", "X-A : b", INVALID + "malformed header line"),
    ("colon-missing", "sends a line without a colon", "X-A", INVALID + "malformed header line"),
    (
        "value-nul",
        "puts NUL into a value",
        "X-A: a\0b",
        INVALID + "control character in a header value",
    ),
    (
        "value-cr",
        "puts CR into a value",
        "X-A: a\rb",
        INVALID + "control character in a header value",
    ),
    (
        "value-lf",
        "puts LF into a value",
        "X-A: a\nb",
        INVALID + "control character in a header value",
    ),
    (
        "header-129",
        "sends 129 header fields",
        "\r\n".join(f"X-{n}: 1" for n in range(127)),
        INVALID + "130 header fields exceed 128",
    ),
    (
        "header-8k",
        "sends a header line of over 8 KiB",
        f"X-A: {'a' * 8192}",
        INVALID + "header line of 8197 bytes exceeds 8192 bytes",
    ),
):
    bad(f"head-{id}", does, reply(f"+{line}"), expect, "RFC 9112 §5")
bad(
    "head-16k",
    "sends a head of over 16 KiB",
    reply(*[f"+X-{n}: {'a' * 4000}" for n in range(5)]),
    "ConnectionError: the answer of HOST: head exceeds 16384 bytes",
    "promised: a head that does not end",
)
bad(
    "line-endless",
    "sends a line of 20000 bytes, without an end",
    b"HTTP/1.1 101 " + b"a" * 20000,
    "ConnectionError: the answer of HOST: first line exceeds 8192 bytes",
    "promised: a head that does not end",
)
bad(
    "lf-alone",
    "ends its lines with LF alone, and waits",
    reply().replace(b"\r\n", b"\n"),
    LATE,
    "RFC 9112 §2.2",
    within=10.5,
)

# ----------------------------------------------------------------------- interim answers

EARLY = b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n"
good(
    "interim",
    "sends 100 and 103 before the 101",
    b"HTTP/1.1 100 Continue\r\n\r\n" + EARLY + reply(),
    "RFC 9110 §15.2",
)
good("interim-7", "sends 103 seven times before the 101", EARLY * 7 + reply(), "RFC 9110 §15.2")
bad(
    "interim-endless",
    "sends 103 over and over",
    EARLY * 100,
    "ConnectionError: HOST sends interim responses without an end",
    "promised: bounded",
)
bad(
    "interim-then-refusal",
    "sends 103 and then a refusal",
    EARLY + b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n",
    REFUSED + "403 Forbidden",
    "RFC 9110 §15.2",
)

# ------------------------------------------------------------------------------ refusals


def refusal(status: str, *lines: str, body: bytes = b"", length: int | None = None) -> bytes:
    """A plain HTTP answer."""
    size = len(body) if length is None else length
    head = "\r\n".join([f"HTTP/1.1 {status}", *lines, f"Content-Length: {size}", "", ""])
    return head.encode("latin-1") + body


for status, lines, expect in (
    (
        "200 OK",
        ["Content-Type: text/html"],
        PAGE.format("200 OK"),
    ),
    (
        "204 No Content",
        [],
        PAGE.format("204 No Content"),
    ),
    (
        "301 Moved Permanently",
        ["Location: file:///etc/passwd"],
        REDIRECTS + "301 Moved Permanently to file:///etc/passwd, which is not http, https, ws "
        "or wss; the server's owner must fix it",
    ),
    (
        "308 Permanent Redirect",
        ["Location: https://me:word@evil.example/"],
        REDIRECTS + "308 Permanent Redirect to a URL with a user in it; the server's owner must "
        "fix it",
    ),
    (
        "303 See Other",
        ["Location: /"],
        REDIRECTS + "303 See Other in a circle, back to ws://HOST/; the server's owner must fix it",
    ),
    (
        "302 Found",
        ["Location: ws://other.example/\x7f"],
        INVALID + "control character in a header value",
    ),
    (
        "307 Temporary Redirect",
        [],
        REDIRECTS + "307 Temporary Redirect without a Location that says where to; the server's "
        "owner must fix it",
    ),
    ("400 Bad Request", [], REFUSED + "400 Bad Request"),
    (
        "401 Unauthorized",
        ["WWW-Authenticate: Basic realm=x"],
        REFUSED + "401 Unauthorized; pass credentials in the URL or in headers=",
    ),
    ("403 Forbidden", [], REFUSED + "403 Forbidden"),
    ("404 Not Found", [], REFUSED + "404 Not Found; is the path right?"),
    (
        "407 Proxy Authentication Required",
        ["Proxy-Authenticate: Basic"],
        REFUSED + "407 Proxy Authentication Required",
    ),
    ("426 Upgrade Required", ["Sec-WebSocket-Version: 8"], REFUSED + "426 Upgrade Required"),
    ("429 Too Many Requests", ["Retry-After: 99999999999"], REFUSED + "429 Too Many Requests"),
    ("500 Internal Server Error", [], REFUSED + "500 Internal Server Error"),
    ("503 Service Unavailable", ["Retry-After: 5"], REFUSED + "503 Service Unavailable"),
):
    if status[:3] in ("204",):
        data = f"HTTP/1.1 {status}\r\n\r\n".encode()
    else:
        data = refusal(status, *lines, body=b"<p>no</p>")
    bad(f"refused-{status[:3]}", f"answers {status}", data, expect, "RFC 6455 §4.1, 1", cut=False)

PLAIN = "Content-Type: text/plain"
bad(
    "refused-text",
    "refuses with a line of text",
    refusal("403 Forbidden", PLAIN, body=b"not today\nand more"),
    REFUSED + "403 Forbidden: not today",
    "promised: the message says why",
)
bad(
    "refused-escape",
    "refuses with a line of escape sequences for a terminal",
    refusal("403 Forbidden", PLAIN, body=b"\x1b[2J\x1b]0;pwned\x07"),
    REFUSED + "403 Forbidden",
    "promised: nothing of it reaches a terminal",
)
bad(
    "refused-long",
    "refuses with a body of 1 MB",
    refusal("403 Forbidden", body=b"x" * 1000000),
    REFUSED + "403 Forbidden",
    "docs: the first 64 KiB are kept",
    cut=False,
)


async def pour(stage: Stage) -> None:
    """Data without an end, as fast as it is taken."""
    while True:
        await stage.peer.write(b"3e8\r\n" + b"x" * 1000 + b"\r\n")


async def trickle(stage: Stage) -> None:
    """Data without an end, a chunk a second."""
    for _ in range(9):
        await stage.peer.write(b"1\r\nx\r\n")
        await asyncio.sleep(1)


CHUNKED = b"HTTP/1.1 403 Forbidden\r\nTransfer-Encoding: chunked\r\n\r\n"
bad(
    "refused-chunked",
    "refuses with a chunked body",
    CHUNKED + b"2\r\nno\r\n0\r\n\r\n",
    REFUSED + "403 Forbidden",
    "RFC 9112 §7.1",
)
case(
    "refused-chunked-endless",
    "refuses with a chunked body without an end, as fast as we take it",
    CHUNKED,
    pour,
    expect=REFUSED + "403 Forbidden",
    rule="docs: the first 64 KiB are kept",
    cut=False,
)
for id, does, script in (
    (
        "chunked-slow",
        "refuses with a chunked body without an end, a byte a second",
        [CHUNKED, trickle],
    ),
    (
        "length-short",
        "announces a body of 100 bytes, sends two, and waits",
        [refusal("403 Forbidden", body=b"no", length=100)],
    ),
    (
        "no-length",
        "refuses without a length, and does not close",
        [b"HTTP/1.1 403 Forbidden\r\n\r\nno"],
    ),
):
    case(
        f"refused-{id}",
        does,
        *script,
        expect="ConnectionError: the server refused the WebSocket with HTTP 403 Forbidden",
        rule="promised: open_timeout; and the status is told",
        within=10.5,
        cut=False,
    )
for id, does, data in (
    ("chunk-bad", "refuses with a chunk size of letters", CHUNKED + b"zz\r\n"),
    ("chunk-huge", "refuses with a chunk size of 40 digits", CHUNKED + b"f" * 40 + b"\r\n"),
    (
        "length-bad",
        "refuses with a Content-Length of letters",
        b"HTTP/1.1 403 Forbidden\r\nContent-Length: x\r\n\r\n",
    ),
    (
        "length-minus",
        "refuses with a negative Content-Length",
        b"HTTP/1.1 403 Forbidden\r\nContent-Length: -1\r\n\r\n",
    ),
    (
        "length-two",
        "refuses with two Content-Lengths",
        b"HTTP/1.1 403 Forbidden\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nx",
    ),
    (
        "length-both",
        "refuses with a length and chunks",
        CHUNKED[:-2] + b"Content-Length: 3\r\n\r\n0\r\n\r\n",
    ),
    (
        "encoding-odd",
        "refuses with an unknown transfer coding",
        b"HTTP/1.1 403 Forbidden\r\nTransfer-Encoding: gzip\r\n\r\nx",
    ),
):
    bad(
        f"refused-{id}",
        does,
        data,
        "ConnectionError: the server refused the WebSocket with HTTP 403 Forbidden",
        "RFC 9112 §6: the status is told, the body is left",
        cut=False,
    )


def endless(data: bytes) -> Step:
    """The same, as fast as it is taken."""

    async def step(stage: Stage) -> None:
        while True:
            await stage.peer.write(data)

    return step


for id, does, head, data in (
    (
        "chunk-extension",
        "refuses with a chunk extension without an end",
        CHUNKED + b"1;",
        b"x" * 999,
    ),
    ("trailers", "refuses with trailers without an end", CHUNKED + b"0\r\n", b"X: y\r\n" * 100),
    ("chunks-small", "refuses with chunks of a byte, without an end", CHUNKED, b"1\r\nx\r\n" * 500),
    (
        "flood",
        "refuses without a length, and sends for ever",
        b"HTTP/1.1 403 x\r\n\r\n",
        b"x" * 999,
    ),
):
    case(
        f"refused-endless-{id}",
        does,
        head,
        endless(data),
        expect=REFUSED + "403 Forbidden",
        rule="promised: bounded; the status is told",
        cut=False,
    )
for value in ("abc", "-1", "5, 6"):
    bad(
        f"length-{value.replace(', ', '-')}",
        f"sends Content-Length: {value} with the 101",
        reply(f"+Content-Length: {value}"),
        WRONG + "Bad HTTP message",
        "RFC 9112 §6.3",
    )
good("upgrade-twice", "sends Upgrade twice", reply("+Upgrade: websocket"), "RFC 9110 §5.3")
good(
    "connection-twice",
    "sends Connection twice, upgrade in the first",
    reply("+Connection: keep-alive"),
    "RFC 9110 §5.3",
)
case(
    "refused-cut",
    "refuses, and ends TCP in the middle of the body",
    refusal("403 Forbidden", body=b"no", length=100),
    fin,
    expect=REFUSED + "403 Forbidden",
    rule="RFC 9112 §8",
    cut=False,
)
case(
    "refused-rst",
    "refuses, and resets TCP in the middle of the body",
    refusal("403 Forbidden", body=b"no", length=100),
    rst,
    expect=REFUSED + "403 Forbidden",
    rule="RFC 9112 §8",
    cut=False,
)

# ---------------------------------------------------------------- glued, and half of it

good(
    "glued",
    "sends frames right behind its 101, in one write",
    reply(),
    "promised: it ends quietly, and in time",
)
case(
    "glued-fin",
    "sends a frame right behind its 101, and ends TCP",
    reply(),
    HELLO,
    fin,
    expect="opens 'hello' lost 1006",
    rule="promised: followed or not by FIN",
)
case(
    "glued-close",
    "sends a Close right behind its 101, and ends TCP",
    reply(),
    BYE,
    fin,
    expect="opens peer closes 1000",
    rule="promised: it ends quietly, and in time",
)
case(
    "glued-failure",
    "sends a bad frame right behind its 101",
    reply(),
    F(3),
    expect="opens we fail 1002",
    rule="RFC 6455 §7.1.7",
)
case(
    "glued-second",
    "sends a second 101 right behind the first",
    reply() + reply(),
    expect="opens we fail 1002",
    rule="RFC 6455 §4.1",
)
case(
    "glued-large",
    "sends a message of 100000 bytes right behind its 101",
    reply(),
    F(TEXT, b"x" * 100000),
    BYE,
    expect="opens <100000 characters> peer closes 1000",
    rule="promised: it ends quietly, and in time",
    cut=False,
)
GONE = (
    "ConnectionError: HOST closed the connection without answering; "
    "if it speaks TLS, use a wss:// URL"
)
for step, how in ((fin, "ends"), (rst, "resets")):
    for size, where in ((0, "without an answer"), (1, "behind a byte"), (40, "inside the head")):
        case(
            f"left-{size}-{step.__name__}",
            f"{how} TCP {where}",
            reply()[:size],
            step,
            expect=GONE,
            rule="promised: and what to do",
            cut=False,
        )

# ------------------------------------------------------------------------------ time


async def drip(stage: Stage) -> None:
    """A byte a second, until nobody reads any more."""
    for byte in reply():
        await stage.peer.write(bytes([byte]))
        await asyncio.sleep(1)


case("silent", "accepts and says nothing", expect=LATE, rule="open_timeout", within=10.5)
case(
    "stalls",
    "sends half of its answer and then nothing",
    reply()[:40],
    expect=LATE,
    rule="open_timeout",
    within=10.5,
)
case(
    "drip", "sends its answer at a byte a second", drip, expect=LATE, rule="open_timeout", cut=False
)
case(
    "interim-slow",
    "sends 103 every three seconds",
    *[part for _ in range(5) for part in (EARLY, silence(3))],
    expect=LATE,
    rule="open_timeout is for all of it",
    cut=False,
)
