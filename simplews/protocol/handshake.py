"""The opening handshake of both roles (RFC 6455 §4), over wsproto's.

A head is read in two steps. First the guards of this module look at its raw
bytes: wsproto and h11 would let through, or stumble over, folded header lines,
repeated singletons, a Host that is not text, a body, any key (each has a test).
What passes is given to wsproto, which judges the upgrade and makes the accept
value.

Reading a request raises `Refusal`, which is an HTTP answer; reading a response
raises `ConnectionError`, which tells a person what to do.
"""

from __future__ import annotations

import binascii
import enum
import functools
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

from wsproto import ConnectionType
from wsproto.events import AcceptConnection, RejectConnection, RejectData, Request
from wsproto.extensions import Extension
from wsproto.handshake import H11Handshake
from wsproto.utilities import (
    LocalProtocolError,
    RemoteProtocolError,
    generate_accept_token,
    generate_nonce,
)

from ..errors import ConnectionError
from ..types import SHARED_NAMES, HandshakeRequest, Headers, Response, header_pairs
from .deflate import NAME as DEFLATE
from .deflate import Agreement, Deflate, answer_offers, make_offer, parse_extensions, read_answer

__all__ = [
    "MAX_BODY",
    "MAX_HEAD",
    "MAX_INTERIM",
    "OWN_HEADERS",
    "Accepted",
    "Answer",
    "ClientHandshake",
    "Refusal",
    "accept_request",
    "basic_credentials",
    "check_answer",
    "check_response",
    "check_upgrade",
    "is_upgrade",
    "make_request",
    "offered_subprotocols",
    "parse_request",
    "parse_response",
    "parse_tokens",
    "serialize_response",
    "tunnel_request",
]

#: Bytes of a request's or response's head, all lines together.
MAX_HEAD = 16 * 1024
#: Bytes of the request line and of each header line.
MAX_LINE = 8 * 1024
#: Header fields of a head.
MAX_HEADERS = 128
#: Interim (1xx) responses before the final one.
MAX_INTERIM = 8
#: Bytes of the body of a refusal that a client keeps.
MAX_BODY = 64 * 1024

_VERSION = (("Sec-WebSocket-Version", "13"),)
_UPGRADE = (("Connection", "Upgrade"), ("Upgrade", "websocket"), *_VERSION)

_METHOD = re.compile(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
_NAME = _METHOD
_TARGET = re.compile(rb"[\x21-\x7e]+")
_REQUEST_LINE = re.compile(rb"([!#$%&'*+\-.^_`|~0-9A-Za-z]+) ([\x21-\x7e]+) HTTP/1\.1")
_HTTP_VERSION = re.compile(rb"HTTP/\d\.\d")
# RFC 9112 §5: CR and NUL are not part of a value; obs-text (over 127) is.
_BAD_VALUE = re.compile(rb"[\x00-\x08\x0a-\x1f\x7f]")
_HOST = re.compile(r"(\[[0-9A-Fa-f:.]+(%[\w.~%-]+)?\]|[\w.~!$&'()*+,;=%-]*)(:\d*)?", re.ASCII)

#: What the handshake says by itself; a second one would break it.
OWN_HEADERS = frozenset(
    {
        "connection",
        "upgrade",
        "content-length",
        "transfer-encoding",
        "sec-websocket-accept",
        "sec-websocket-extensions",
        "sec-websocket-protocol",
    }
)

_ABSOLUTE = re.compile(r"(?:http|https|ws|wss)://[^/?]*(.*)", re.IGNORECASE)

# RFC 9110 §5.3: fields that are no lists occur once.
_SINGLETONS = (
    "host",
    "sec-websocket-key",
    "sec-websocket-version",
    "content-length",
    "origin",
    "authorization",
)


class Refusal(Exception):
    """
    The request is answered with HTTP instead of a WebSocket.

    Attributes:
        response: The answer.
        why: One line for the log.
    """

    def __init__(
        self, status: int, why: str, headers: Iterable[tuple[str, str]] = (), body: str = ""
    ) -> None:
        super().__init__(status, why)
        self.why = why
        text = body or f"{status} {reason_phrase(status)}: {why}\n"
        fields = [("Content-Type", "text/plain; charset=utf-8"), *headers]
        self.response = Response(status, fields, text)

    def __str__(self) -> str:
        return f"{self.response.status} {self.why}"


def reason_phrase(status: int) -> str:
    """The standard phrase of *status*, or "" when it has none."""
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return ""


def parse_tokens(values: Iterable[str]) -> list[str]:
    """The elements of a comma-separated list over all its header fields."""
    return [token.strip(" \t") for value in values for token in value.split(",") if token.strip()]


# --------------------------------------------------------------- both roles


def _split_head(head: bytes) -> tuple[bytes, list[tuple[str, str]]]:
    """
    Split a head, which ends with an empty line, into its first line and fields.

    Raises:
        ValueError: (status, why) of what is wrong.
    """
    return _split_plain(head) or _split_any(head)


# A field as `_split_any` accepts it, between the line ends around it.
_PLAIN_FIELD = re.compile(
    r"\n([!#$%&'*+\-.^_`|~0-9A-Za-z]+):[ \t]*+([^\x00-\x08\x0a-\x1f\x7f]*)\r(?=\n)"
)
_PLAIN_LINE = re.compile(r"[^\r\n\0]*(?=\r\n)")


def _split_plain(head: bytes) -> tuple[bytes, list[tuple[str, str]]] | None:
    """What `_split_any` returns, in 3 µs instead of 8, of a head that is plainly right."""
    ends = head.count(b"\n")
    if len(head) > MAX_LINE or ends > MAX_HEADERS:
        return None
    text = head.decode("latin-1")
    line = _PLAIN_LINE.match(text)
    if line is None:
        return None
    # Each begins at another line end, and none at the last two.
    fields: list[tuple[str, str]] = _PLAIN_FIELD.findall(text, line.end())
    if len(fields) != ends - 2:
        return None
    shared = SHARED_NAMES.get
    if " \r" in text or "\t\r" in text:
        fields = [(name, value.rstrip(" \t")) for name, value in fields]
    return head[: line.end()], [(shared(name, name), value) for name, value in fields]


def _split_any(head: bytes) -> tuple[bytes, list[tuple[str, str]]]:
    """Look at every line, and say what is wrong with it."""
    first, *lines = head[:-4].split(b"\r\n")
    if len(first) > MAX_LINE:
        raise ValueError(414, f"first line of {len(first)} bytes exceeds {MAX_LINE} bytes")
    if b"\n" in first or b"\r" in first or b"\0" in first:
        raise ValueError(400, "CR, LF or NUL in the first line")
    if len(lines) > MAX_HEADERS:
        raise ValueError(431, f"{len(lines)} header fields exceed {MAX_HEADERS}")
    return first, [_split_field(line) for line in lines]


def _split_field(line: bytes) -> tuple[str, str]:
    if len(line) > MAX_LINE:
        raise ValueError(431, f"header line of {len(line)} bytes exceeds {MAX_LINE} bytes")
    # RFC 9112 §5.2: a line that begins with white space is obsolete folding.
    if line[:1] in (b" ", b"\t"):
        raise ValueError(400, "folded header line")
    name, colon, value = line.partition(b":")
    if not colon or not _NAME.fullmatch(name):
        raise ValueError(400, "malformed header line")
    value = value.strip(b" \t")
    if _BAD_VALUE.search(value):
        raise ValueError(400, "control character in a header value")
    return name.decode("ascii"), value.decode("latin-1")


# -------------------------------------------------------------------- server


def parse_request(head: bytes, remote_address: Any = None) -> HandshakeRequest:
    """
    Read the head of any HTTP request.

    Args:
        head: Its bytes, up to and with the empty line.
        remote_address: Whose it is.

    Raises:
        Refusal: 400, 414, 431 or 505 for what is not acceptable HTTP/1.1.
    """
    try:
        line, fields = _split_head(head)
    except ValueError as exc:
        raise Refusal(*exc.args) from None
    plain = _REQUEST_LINE.fullmatch(line)
    if plain is None:
        raise _wrong_line(line)
    method, target = plain.groups()
    headers = Headers(fields)
    return make_request(method.decode("ascii"), target.decode("ascii"), headers, remote_address)


def _wrong_line(line: bytes) -> Refusal:
    """What is wrong with a request line that is not `_REQUEST_LINE`."""
    parts = line.split(b" ")
    if len(parts) != 3 or not _METHOD.fullmatch(parts[0]) or not _HTTP_VERSION.fullmatch(parts[2]):
        return Refusal(400, "malformed request line")
    version = parts[2]
    if version != b"HTTP/1.1":
        return Refusal(505, f"{version.decode()} is not HTTP/1.1")
    return Refusal(400, "request target is not ASCII text")


def make_request(
    method: str, target: str, headers: Headers, remote_address: Any
) -> HandshakeRequest:
    """
    A request from its parts, whoever read them.

    Raises:
        Refusal: 400: a field that must be unique is not, or Host is wrong.
    """
    for name in _SINGLETONS if headers.repeats else ():
        if len(headers.getlist(name)) > 1:
            raise Refusal(400, f"header field {name} more than once")
    host = headers.get("host", " ")
    if not _HOST.fullmatch(host):
        raise Refusal(400, "missing or malformed Host")
    offered = offered_subprotocols(headers)
    # By place: names would take a fifth more.
    return HandshakeRequest(host, _origin_form(target), headers, offered, method, remote_address)


def _origin_form(target: str) -> str:
    """RFC 9112 §3.2.2: a server accepts the absolute form as well."""
    if target.startswith("/") or target == "*":
        return target
    absolute = _ABSOLUTE.fullmatch(target)
    if absolute is None:
        raise Refusal(400, "request target has no path")
    return absolute[1] if absolute[1].startswith("/") else "/" + absolute[1]


def offered_subprotocols(headers: Headers) -> tuple[str, ...]:
    """What the client offers, in its order of preference."""
    if "sec-websocket-protocol" not in headers:
        return ()
    return tuple(parse_tokens(headers.getlist("sec-websocket-protocol")))


def is_upgrade(request: HandshakeRequest) -> bool:
    """Whether the request asks for a WebSocket at all."""
    return _lists(request.headers, "upgrade", "websocket")


def _lists(headers: Headers, name: str, token: str) -> bool:
    """Whether the lists of the fields *name* have *token*, in whatever case."""
    # Nearly always it is alone there.
    if headers.get(name, "").lower() == token:
        return True
    return any(element.lower() == token for element in parse_tokens(headers.getlist(name)))


def check_upgrade(request: HandshakeRequest, *, strict_key: bool = True) -> None:
    """
    Check what a WebSocket request must have (RFC 6455 §4.2.1).

    Args:
        request: The request.
        strict_key: Whether the key must be 16 bytes of base64. A caller that
            read the request by itself answers for its key.

    Raises:
        Refusal: 400, 405 or 426.
    """
    headers = request.headers
    if request.method != "GET":
        raise Refusal(405, f"method {request.method} is not GET", [("Allow", "GET")])
    if not is_upgrade(request):
        raise Refusal(426, "this is a WebSocket endpoint; connect to it with a ws:// URL", _UPGRADE)
    if not _lists(headers, "connection", "upgrade"):
        raise Refusal(400, "Connection does not contain 'upgrade'")
    version = headers.get("sec-websocket-version")
    if version != "13":
        raise Refusal(426, f"Sec-WebSocket-Version is {version!r}, not '13'", _UPGRADE)
    key = headers.get("sec-websocket-key")
    if key is None or (strict_key and not _valid_key(key)):
        raise Refusal(400, "Sec-WebSocket-Key is not 16 bytes of base64")
    if "content-length" in headers or "transfer-encoding" in headers:
        raise Refusal(400, "a WebSocket request has no body")


def _valid_key(key: str) -> bool:
    try:
        return len(key) == 24 and len(binascii.a2b_base64(key, strict_mode=True)) == 16
    except ValueError:
        return False


@dataclass(slots=True)  # frozen, it takes three times as long to make
class Accepted:
    """
    An accepted handshake.

    Attributes:
        head: Server: the bytes of the 101 response. Client: empty.
        subprotocol: What was chosen, or None.
        agreement: What was agreed on compression, or None.
        headers: Client: the response's header fields. Server: what was added.
    """

    head: bytes
    subprotocol: str | None
    agreement: Agreement | None
    headers: Headers

    @property
    def fields(self) -> list[tuple[str, str]]:
        """Server: every header field of `head`, for a host that writes the head by itself."""
        return _split_head(self.head)[1]


def check_answer(
    request: HandshakeRequest,
    subprotocol: str | None,
    extra_headers: Sequence[tuple[str, str]],
) -> None:
    """
    Check what an application wants in the response to *request*.

    Raises:
        ValueError: *subprotocol* was not offered, or one of *extra_headers*
            belongs to the handshake.
    """
    for name, _ in extra_headers:
        if name.lower() in OWN_HEADERS:
            raise ValueError(f"header {name!r} is set by the handshake")
    if subprotocol is not None and subprotocol not in request.subprotocols:
        offered = ", ".join(request.subprotocols) or "none"
        raise ValueError(f"subprotocol {subprotocol!r} was not offered; offered: {offered}")


def accept_request(
    request: HandshakeRequest,
    subprotocol: str | None = None,
    compression: Deflate | None = None,
    extra_headers: Sequence[tuple[str, str]] = (),
) -> Accepted:
    """
    Make the 101 response to a request that passed `check_upgrade`.

    Args:
        request: The request.
        subprotocol: One that the client offered, or None.
        compression: How we compress, or None to decline.
        extra_headers: Pairs to add, which passed `check_answer` as *subprotocol* did.

    Raises:
        Refusal: wsproto finds the request wrong after all.
    """
    fields = list(extra_headers)
    agreement = None
    if compression is not None and "sec-websocket-extensions" in request.headers:
        offers = ", ".join(request.headers.getlist("sec-websocket-extensions"))
        answer = answer_offers(offers, compression)
        if answer is not None:
            fields.append(("Sec-WebSocket-Extensions", answer[0]))
            agreement = answer[1]
    try:
        head = _answer(request, subprotocol, tuple(fields))
    except (RemoteProtocolError, LocalProtocolError, UnicodeError) as exc:
        raise Refusal(400, str(exc)) from exc
    return Accepted(head, subprotocol, agreement, Headers(fields) if fields else _NO_FIELDS)


_NO_FIELDS = Headers()

# RFC 6455 §1.3: the key of its example.
_SAMPLE_KEY = "dGhlIHNhbXBsZSBub25jZQ=="


def _answer(
    request: HandshakeRequest, subprotocol: str | None, fields: tuple[tuple[str, str], ...]
) -> bytes:
    """
    wsproto's answer to *request*.

    Two answers differ in their Sec-WebSocket-Accept alone when all but the keys of
    their requests is the same. So wsproto writes each answer once, for a sample key,
    and its token is exchanged: 2 µs instead of 51. A key that is not one, which a
    caller may answer for, is wsproto's to judge every time, and an answer that sets
    a cookie, which may be secret, is not kept.
    """
    key = request.headers["sec-websocket-key"]
    if not "".join(request.subprotocols).isascii():
        raise Refusal(400, "a subprotocol is not ASCII text")
    # What else was offered changes nothing, and may be long: it is not to be kept.
    offered = () if subprotocol is None else (subprotocol,)
    secret = fields and any(name.lower() == "set-cookie" for name, _ in fields)
    if secret or not _valid_key(key):
        return _written(key, offered, subprotocol, fields)
    before, after = _around_token(offered, subprotocol, fields)
    return before + generate_accept_token(key.encode("ascii")) + after


@functools.lru_cache(maxsize=64)
def _around_token(
    offered: tuple[str, ...], subprotocol: str | None, fields: tuple[tuple[str, str], ...]
) -> tuple[bytes, bytes]:
    """What stands before and behind the accept token in an answer."""
    head = _written(_SAMPLE_KEY, offered, subprotocol, fields)
    # The first of its kind: fields that are not the handshake's come last.
    before, _, after = head.partition(generate_accept_token(_SAMPLE_KEY.encode("ascii")))
    return before, after


def _written(
    key: str,
    offered: tuple[str, ...],
    subprotocol: str | None,
    fields: tuple[tuple[str, str], ...],
) -> bytes:
    """
    The 101 response, by wsproto.

    Raises:
        RemoteProtocolError, LocalProtocolError, UnicodeError: It finds the request
            wrong after all.
    """
    handshake = H11Handshake(ConnectionType.SERVER)
    handshake.receive_data(_canonical(key, offered))
    return handshake.send(
        AcceptConnection(
            subprotocol=subprotocol,
            extra_headers=[(n.encode("ascii"), v.encode("latin-1")) for n, v in fields],
        )
    )


def _canonical(key: str, offered: tuple[str, ...]) -> bytes:
    """
    A request as wsproto reads it well: one Connection field, one Upgrade.

    It takes only the last of several Connection fields, no list in Upgrade, and
    decodes Host as IDNA, which fails on names that are harmless to us.
    """
    fields = [
        ("Host", "localhost"),
        ("Connection", "Upgrade"),
        ("Upgrade", "websocket"),
        ("Sec-WebSocket-Key", key),
        ("Sec-WebSocket-Version", "13"),
    ]
    if offered:
        fields.append(("Sec-WebSocket-Protocol", ", ".join(offered)))
    lines = "".join(f"{name}: {value}\r\n" for name, value in fields)
    return f"GET / HTTP/1.1\r\n{lines}\r\n".encode("latin-1")


def check_response(response: Response) -> tuple[list[tuple[str, str]], bytes]:
    """
    The header fields of a plain HTTP answer that are the application's, and its body.

    Raises:
        ValueError: A status outside 200 to 599, or a header field that could
            smuggle another one.
    """
    if not 200 <= response.status <= 599:
        raise ValueError(f"HTTP status {response.status} is not from 200 to 599")
    body = response.body.encode("utf-8") if isinstance(response.body, str) else response.body
    own = {"content-length", "connection", "transfer-encoding"}
    return [(n, v) for n, v in header_pairs(response.headers) if n.lower() not in own], body


def serialize_response(response: Response, *, head_only: bool = False) -> bytes:
    """
    A plain HTTP answer that ends the connection.

    Args:
        response: The answer.
        head_only: Leave the body out (the request's method was HEAD).

    Raises:
        ValueError: See `check_response`.
    """
    fields, body = check_response(response)
    if response.status not in (204, 304):
        fields.append(("Content-Length", str(len(body))))
    else:
        head_only = True
    # RFC 9110 §7.8: a 426 names its protocol in Upgrade, and Upgrade in Connection.
    upgrades = any(name.lower() == "upgrade" for name, _ in fields)
    fields.append(("Connection", "close, Upgrade" if upgrades else "close"))
    lines = "".join(f"{name}: {value}\r\n" for name, value in fields)
    phrase = reason_phrase(response.status)
    head = f"HTTP/1.1 {response.status} {phrase}\r\n{lines}\r\n".encode("latin-1")
    return head if head_only else head + body


# -------------------------------------------------------------------- client


class _DeflateOffer(Extension):
    """Carries our offer through wsproto's handshake."""

    name = DEFLATE

    def __init__(self, settings: Deflate) -> None:
        self.settings = settings

    def offer(self) -> str:
        return make_offer(self.settings)

    def finalize(self, offer: str) -> None:
        """Nothing: the answer is read by `ClientHandshake._extensions`, quotes and all."""


class Answer(enum.Enum):
    """An answer that opens nothing."""

    INTERIM = enum.auto()
    REFUSED = enum.auto()


_KEY = re.compile(rb"(?<=\r\nSec-WebSocket-Key: )([^\r\n]+)")


def _asking(
    headers: Sequence[tuple[str, str]],
    subprotocols: tuple[str, ...],
    compression: Deflate | None,
) -> tuple[H11Handshake, bytes]:
    """A client's handshake of wsproto that has written its request, and the request."""
    handshake = H11Handshake(ConnectionType.CLIENT)
    request = handshake.send(
        Request(
            host="localhost",
            target="/",
            extensions=[] if compression is None else [_DeflateOffer(compression)],
            subprotocols=list(subprotocols),
            extra_headers=[(n.encode("ascii"), v.encode("latin-1")) for n, v in headers],
        )
    )
    return handshake, request


def _written_request(
    headers: Sequence[tuple[str, str]],
    subprotocols: tuple[str, ...],
    compression: Deflate | None,
) -> tuple[bytes, bytes, bytes]:
    """wsproto's request behind its Host: what is before the key, the key, and the rest."""
    _, request = _asking(headers, subprotocols, compression)
    before, key, after = _KEY.split(request, 1)
    return before.removeprefix(b"GET / HTTP/1.1\r\nHost: localhost"), key, after


@functools.lru_cache(maxsize=64)
def _around_key(subprotocols: tuple[str, ...], compression: Deflate | None) -> tuple[bytes, bytes]:
    """
    What stands before and behind the key in a request without fields of the application.

    Two of them differ in target, Host and key alone, so wsproto writes each once. An
    application's own fields may be secret and are not kept.
    """
    before, _, after = _written_request((), subprotocols, compression)
    return before, after


class ClientHandshake:
    """
    The client's half: `request` are the bytes to send; then feed the answer.

    Attributes:
        request: The bytes to send.
        body: What has been fed of a refusal's body.
        body_finished: Whether no more of it is wanted.
        objection: Why a refusal that is a redirect was not followed, to be set by
            who would have done so.

    Args:
        host: The Host header field: ASCII, with the port unless it is the
            scheme's own.
        target: Path and query.
        headers: Checked pairs to add.
        subprotocols: What to offer, best first.
        compression: What to offer, or None.
    """

    def __init__(
        self,
        host: str,
        target: str,
        headers: Sequence[tuple[str, str]] = (),
        subprotocols: Sequence[str] = (),
        compression: Deflate | None = None,
    ) -> None:
        if not target.isascii() or not _TARGET.fullmatch(target.encode("ascii")):
            raise ValueError(f"request target {target!r} is not ASCII text without spaces")
        (host_field,) = header_pairs([("Host", host)])
        self._subprotocols = tuple(subprotocols)
        self._compression = compression
        if headers:
            before, key, after = _written_request(headers, self._subprotocols, compression)
        else:
            before, after = _around_key(self._subprotocols, compression)
            key = generate_nonce()
        # wsproto takes host and port for a domain name, whose last label then is
        # too long where the host's is close to its 63 characters.
        host_line = b"Host: " + host_field[1].encode("latin-1")
        first = b"GET " + target.encode("ascii") + b" HTTP/1.1\r\n" + host_line
        self.request = first + before + key + after
        self._token = generate_accept_token(key).decode("ascii")
        self._refused: H11Handshake | None = None  # reads the body of a refusal
        self.body = bytearray()
        self.body_finished = False
        self.objection: str | None = None
        self._refusal = 0, Headers()

    def feed_head(self, head: bytes) -> Accepted | Answer:
        """
        Read the head of a response.

        Args:
            head: Its bytes, up to and with the empty line.

        Returns:
            What was agreed, or which other answer this is: after REFUSED a body
            may follow (see `feed_body`, then `refused`), after INTERIM another
            head (RFC 9110 §15.2).

        Raises:
            ConnectionError: The answer is not one to our request.
        """
        status, headers = parse_response(head, "the server")
        if status == 101:
            return self._accept(head, headers)
        if 100 <= status < 200:
            return Answer.INTERIM
        self._refusal = status, headers
        self._refused, _ = _asking((), (), None)
        try:
            self._refused.receive_data(head)
        except RemoteProtocolError:
            self.body_finished = True  # a body that h11 cannot frame is left alone
        self._take_body()
        return Answer.REFUSED

    @property
    def refusal(self) -> tuple[int, Headers]:
        """Status and header fields of the refusal."""
        return self._refusal

    def refused(self) -> ConnectionError:
        """The refusal, with as much of its body as has been fed."""
        status, headers = self._refusal
        body = bytes(self.body)
        if self.objection is not None:
            text = f"the server redirects with {_answer_line(status)} {self.objection}"
        else:
            text = _refusal_text(status, headers, body)
        return ConnectionError(text, status_code=status, headers=headers, body=body)

    def feed_body(self, data: bytes) -> None:
        """Read more of a refusal's body; *data* is empty at the end of the stream."""
        assert self._refused is not None
        try:
            self._refused.receive_data(data)
        except RemoteProtocolError:
            self.body_finished = True
        self._take_body()
        if not data:
            self.body_finished = True

    def _take_body(self) -> None:
        assert self._refused is not None
        for event in self._refused.events():
            if isinstance(event, RejectConnection) and not event.has_body:
                self.body_finished = True
            elif isinstance(event, RejectData):
                self.body += event.data
                self.body_finished = self.body_finished or event.body_finished
        if len(self.body) >= MAX_BODY:
            del self.body[MAX_BODY:]
            self.body_finished = True

    def _accept(self, head: bytes, headers: Headers) -> Accepted:
        # RFC 6455 §4.1, and no answer twice.
        for name in ("sec-websocket-accept", "sec-websocket-protocol"):
            if len(headers.getlist(name)) > 1:
                raise _bad_answer(headers, f"header field {name} more than once")
        try:
            _judge(head, headers, self._subprotocols, self._token)
        except (RemoteProtocolError, UnicodeError) as exc:
            raise _bad_answer(headers, _EXPLAINED.get(str(exc), str(exc))) from exc
        subprotocol = headers.get("sec-websocket-protocol")
        return Accepted(b"", subprotocol, self._extensions(headers), headers)

    def _extensions(self, headers: Headers) -> Agreement | None:
        """RFC 6455 §9.1: what the server accepted, each thing offered and once."""
        value = ", ".join(headers.getlist("sec-websocket-extensions"))
        if not value:
            return None
        try:
            answers = parse_extensions(value)
            if self._compression is None or [name for name, _ in answers] != [DEFLATE]:
                raise ValueError(f"the server chose extensions that were not offered: {value!r}")
            return read_answer(answers[0][1], self._compression)
        except ValueError as exc:
            raise _bad_answer(headers, str(exc)) from None


# What wsproto and h11 look at in a 101 response; the rest of it is well formed, see
# `_split_field`. Extensions are not among them: it splits those at every comma, and
# `ClientHandshake._extensions` judges them.
_JUDGED = frozenset({"content-length", "sec-websocket-protocol", "transfer-encoding", "upgrade"})


def _judge(head: bytes, headers: Headers, subprotocols: tuple[str, ...], expected: str) -> None:
    """
    Have wsproto judge an answer to our request.

    Args:
        head: The answer.
        headers: Its fields.
        subprotocols: What was offered.
        expected: The accept token for our key.

    Raises:
        RemoteProtocolError, UnicodeError: It is wrong.
    """
    line = head[: head.index(b"\r\n") + 2]
    fields = [(n, v) for n, v in headers.multi_items() if n.lower() in _JUDGED]
    # One Connection field: it takes only the last of several.
    fields.append(("Connection", ", ".join(headers.getlist("connection"))))
    accept = headers.get("sec-websocket-accept")
    if accept == expected:
        _judge_once(subprotocols, line, tuple(fields))
    else:
        if accept is not None:
            fields.append(("Sec-WebSocket-Accept", accept))
        handshake, _ = _asking((), subprotocols, None)
        handshake.receive_data(_head(line, fields))


@functools.lru_cache(maxsize=64)
def _judge_once(
    subprotocols: tuple[str, ...], line: bytes, fields: tuple[tuple[str, str], ...]
) -> None:
    """
    The same for an answer with the right accept token; one that was right is known.

    A server's answers differ in that token alone (and in a Date, say, that is not
    looked at). So wsproto sees each of them once, with the token for a key of its own:
    3 µs instead of 45.
    """
    handshake, request = _asking((), subprotocols, None)
    token = generate_accept_token(_KEY.split(request, 1)[1]).decode("ascii")
    handshake.receive_data(_head(line, [*fields, ("Sec-WebSocket-Accept", token)]))


def _head(line: bytes, fields: Iterable[tuple[str, str]]) -> bytes:
    lines = "".join(f"{name}: {value}\r\n" for name, value in fields)
    return line + f"{lines}\r\n".encode("latin-1")


# RFC 9112 §4; RFC 9110 §15: from 100 up.
_STATUS_LINE = re.compile(rb"HTTP/1\.\d ([1-9]\d\d)(?: .*)?", re.DOTALL)


def parse_response(head: bytes, who: str) -> tuple[int, Headers]:
    """
    Status and header fields of a response.

    Args:
        head: Its bytes, up to and with the empty line.
        who: Whose it is, for messages.

    Raises:
        ConnectionError: It is not HTTP/1, or not well formed.
    """
    try:
        line, fields = _split_head(head)
    except ValueError as exc:
        raise ConnectionError(f"{who}'s answer is not valid HTTP: {exc.args[1]}") from None
    found = _STATUS_LINE.fullmatch(line)
    if found is None:
        raise ConnectionError(f"{who} does not speak HTTP: it answered {line[:80]!r}")
    return int(found[1]), Headers(fields)


def basic_credentials(user: str, password: str) -> str:
    """The value of an Authorization field (RFC 7617 §2.1)."""
    return "Basic " + binascii.b2a_base64(f"{user}:{password}".encode(), newline=False).decode()


def tunnel_request(authority: str, credentials: tuple[str, str] | None) -> bytes:
    """
    What asks a proxy for a tunnel (RFC 9110 §9.3.6).

    Args:
        authority: Host and port of the server.
        credentials: (user, password) for the proxy, or None.
    """
    lines = f"CONNECT {authority} HTTP/1.1\r\nHost: {authority}\r\n"
    if credentials is not None:
        lines += f"Proxy-Authorization: {basic_credentials(*credentials)}\r\n"
    return f"{lines}\r\n".encode("ascii")


def _answer_line(status: int) -> str:
    return f"HTTP {status} {reason_phrase(status)}".rstrip()


def _refusal_text(status: int, headers: Headers, body: bytes) -> str:
    """What a refusal means, and what to do about it."""
    answer = _answer_line(status)
    if 200 <= status < 300:
        return f"the server answered with a page ({answer}), not a WebSocket; is the path right?"
    text = f"the server refused the WebSocket with {answer}"
    location = headers.get("location", "")
    if 300 <= status < 400 and location and location.isprintable():
        return f"{text}: it is at {location}; connect there"
    if headers.get("content-type", "").startswith("text/plain"):
        line = body[:_MOST_QUOTED].strip().partition(b"\n")[0].decode("utf-8", "replace").strip()
        if line and line.isprintable():
            return f"{text}: {line}"
    return text + _ADVICE.get(status, "")


_ADVICE = {
    401: "; pass credentials in the URL or in headers=",
    404: "; is the path right?",
}

# What wsproto says, for a person.
_EXPLAINED = {
    "Bad accept token": (
        "Sec-WebSocket-Accept does not answer our key; is a cache or proxy in between?"
    ),
}

# Characters of a refusal's body that its message quotes.
_MOST_QUOTED = 100


def _bad_answer(headers: Headers, why: str) -> ConnectionError:
    return ConnectionError(
        f"the server's handshake is wrong: {why}", status_code=101, headers=headers
    )
