"""The small values that applications see: close codes, messages, URLs, header fields."""

from __future__ import annotations

import enum
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal
from urllib.parse import SplitResult, parse_qsl, unquote, urlsplit

from wsproto.frame_protocol import CloseReason as CloseCode

from .errors import ProtocolError

__all__ = [
    "NOTHING_WAITS",
    "SHARED_NAMES",
    "URL",
    "BinaryMessage",
    "Close",
    "CloseCode",
    "Ending",
    "HandshakeRequest",
    "Headers",
    "HeadersLike",
    "MessageType",
    "MultiMap",
    "Response",
    "State",
    "TextMessage",
    "Waiting",
    "header_pairs",
]


class State(enum.IntEnum):
    """The four states of a connection (RFC 6455 §4, §7)."""

    CONNECTING = 0
    OPEN = 1
    CLOSING = 2
    CLOSED = 3


# ------------------------------------------------------------------ messages


class MessageType(enum.IntEnum):
    """Kinds of message, with the numbers of ``aiohttp.WSMsgType`` so that the two compare."""

    CONTINUATION = 0
    TEXT = 1
    BINARY = 2
    CLOSE = 8
    PING = 9
    PONG = 10
    ERROR = 258


class TextMessage(str):
    """A text message of ``async for``: a ``str`` that also has ``.type`` and ``.data``."""

    __slots__ = ()
    type = MessageType.TEXT

    @property
    def data(self) -> str:
        """The text itself."""
        return self

    def json(self) -> Any:
        """The text, decoded as JSON."""
        return json.loads(self)


class BinaryMessage(bytes):
    """A binary message of ``async for``: ``bytes`` that also have ``.type`` and ``.data``."""

    __slots__ = ()
    type = MessageType.BINARY

    @property
    def data(self) -> bytes:
        """The bytes themselves."""
        return self

    def json(self) -> Any:
        """The bytes, decoded as JSON."""
        return json.loads(self)


# ------------------------------------------------------------------- closing

_CODE_NAMES = {
    1000: "normal closure",
    1001: "going away",
    1002: "protocol error",
    1003: "unsupported data",
    1005: "no status received",
    1006: "abnormal closure",
    1007: "invalid payload data",
    1008: "policy violation",
    1009: "message too big",
    1010: "mandatory extension",
    1011: "internal error",
    1012: "service restart",
    1013: "try again later",
    1014: "bad gateway",
    1015: "TLS handshake failed",
}


@dataclass(frozen=True, slots=True)
class Close:
    """
    A Close frame (RFC 6455 §5.5.1).

    Attributes:
        code: The close code; 1005 stands for a frame without one.
        reason: The close reason.
    """

    code: int
    reason: str = ""

    def __str__(self) -> str:
        if self.code in _CODE_NAMES:
            name = _CODE_NAMES[self.code]
        elif 3000 <= self.code < 4000:
            name = "registered"
        else:
            name = "application"
        return f"{self.code} ({name})" + (f" {self.reason!r}" if self.reason else "")


@dataclass(frozen=True, slots=True)
class Waiting:
    """
    What was waiting at the moment when a connection ended: it often tells why.

    Attributes:
        messages: Messages (or pieces of one, in ``receive_stream()``) in the inbox,
            if no task was there to take them.
        sends: Calls of ``send()`` that waited for the peer, or for their turn.
        send_bytes: Bytes of these messages.
        send_seconds: How long the first of them had been waiting; 0 under ASGI, where
            nobody counts.
        transport_bytes: Bytes that had been sent, and for which the kernel had no room.
        pings: Pings without an answer.
        ping_seconds: Seconds since the first of them.
        blocked: Seconds for which the event loop had been blocked, if it was in the
            last minute and a timer of ours was late for it; 0 after a normal end.
    """

    messages: int = 0
    sends: int = 0
    send_bytes: int = 0
    send_seconds: float = 0.0
    transport_bytes: int = 0
    pings: int = 0
    ping_seconds: float = 0.0
    blocked: float = 0.0

    def __str__(self) -> str:
        parts = []
        if self.messages:
            parts.append(f"{_times(self.messages, 'message')} in the inbox")
        if self.sends:
            what = "a send()" if self.sends == 1 else f"{self.sends} calls of send()"
            parts.append(f"{what} of {_size(self.send_bytes)}")
            if self.send_seconds >= 0.1:
                parts[-1] += f" blocked for {_seconds(self.send_seconds)}"
        if self.transport_bytes:
            parts.append(f"{_size(self.transport_bytes)} in the transport")
        if self.pings and self.ping_seconds >= _SLOW:
            pings = _times(self.pings, "ping")
            parts.append(f"{pings} unanswered for {_seconds(self.ping_seconds)}")
        text = "waiting then: " + ", ".join(parts) if parts else ""
        if self.blocked:
            text += "; " if text else ""
            text += f"the event loop had been blocked for {_seconds(self.blocked)}"
        return text


#: Nearly always; to make another one takes 2 µs.
NOTHING_WAITS = Waiting()

# Seconds for which a ping is just on its way.
_SLOW = 1.0


def _times(number: int, thing: str) -> str:
    return f"{number} {thing}" if number == 1 else f"{number} {thing}s"


def _seconds(seconds: float) -> str:
    return f"{seconds:.1f} s" if seconds < 10 else f"{seconds:.0f} s"


def _size(size: int) -> str:
    if size < 1024:
        return _times(size, "byte")
    return f"{size / 1024:.0f} KiB" if size < 1024 * 1024 else f"{size / 1048576:.1f} MiB"


@dataclass(slots=True)
class Ending:
    """
    How a connection ended: who began it, with which Close frames, and why.

    Attributes:
        by: "peer" when the peer's Close came first, "us" when ours did,
            "lost" when the transport ended without a closing handshake.
        sent: The Close that we sent, or None.
        received: The Close that the peer sent, or None.
        why: What made us end it, or how it was lost.
        cause: The exception behind it, if any.
        delegated: Whether an ASGI server did the closing handshake in our place:
            it does not tell how it went, and ends connections when it shuts down.
        waiting: What was waiting at that moment.
    """

    by: Literal["peer", "us", "lost"]
    sent: Close | None = None
    received: Close | None = None
    why: str = ""
    cause: BaseException | None = None
    delegated: bool = False
    waiting: Waiting = NOTHING_WAITS

    def found(self, close: Close) -> None:
        """The peer's Close turned up among what came before the connection was lost."""
        self.by = "peer"
        self.received = close
        self.why = ""
        self.cause = None

    @property
    def code(self) -> int:
        """Close code of the side that ended it; 1006 when it was lost."""
        return self._first.code

    @property
    def reason(self) -> str:
        """Close reason of the side that ended it."""
        return self._first.reason

    @property
    def normal(self) -> bool:
        """Whether it ended as planned: 1000, 1001, or a Close without a code."""
        return self._first.code in (1000, 1001, 1005) or (self.delegated and self.by == "peer")

    @property
    def unanswered(self) -> bool:
        """Whether no Close has come back for ours."""
        return self.by == "us" and self.received is None and not self.delegated

    @property
    def _first(self) -> Close:
        if self.by == "peer" and self.received is not None:
            return self.received
        if self.by == "us" and self.sent is not None:
            return self.sent
        return Close(1006, self.why)

    def explain(self) -> str:
        """One sentence: who ended it, with which codes, and why; and what was waiting then."""
        waiting = str(self.waiting)
        return f"{self._who()}; {waiting}" if waiting else self._who()

    def _who(self) -> str:
        if self.by == "peer" and self.delegated:
            return f"the server that carries the connection ended it with {self.received}"
        if self.by == "peer":
            answer = f"; we answered {self.sent}" if self.sent else ""
            return f"the peer closed the connection with {self.received}{answer}"
        if self.by == "us":
            known = self.sent is not None and self.sent.reason == self.why
            why = f" because {self.why}" if self.why and not known else ""
            answer = "; no Close came back"
            if self.received is not None:
                answer = f"; the peer answered {self.received}"
            elif self.delegated:
                answer = ", through the server"
            elif isinstance(self.cause, ProtocolError):
                answer = ""  # after a failure we do not look for it
            return f"we closed the connection with {self.sent}{why}{answer}"
        return f"the connection was lost without a closing handshake (1006): {self.why}"


# ------------------------------------------------------------- header fields

HeadersLike = Mapping[str, str] | Iterable[tuple[str | bytes, str | bytes]]

_TOKEN = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
_FORBIDDEN = re.compile(r"[\r\n\0]")
_CONTROLS = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")


def header_pairs(headers: HeadersLike | None) -> list[tuple[str, str]]:
    """
    Check header fields that an application gave and bring them into one shape.

    Args:
        headers: A mapping, or pairs of ``str`` or ``bytes``.

    Returns:
        Pairs of ``str`` that can be encoded as latin-1.

    Raises:
        ValueError: A name is not a token, a value contains CR, LF, NUL or another
            control character, or is not latin-1 (RFC 9110 §5.5, §5.6.2): it could
            smuggle another field.
        TypeError: A name or value is neither ``str`` nor ``bytes``.
    """
    if headers is None:
        return []
    pairs: Any = headers
    if isinstance(headers, MultiMap):
        pairs = headers.multi_items()
    elif isinstance(headers, Mapping):
        pairs = headers.items()
    return [(_header_name(name), _header_value(name, value)) for name, value in pairs]


def _text(value: str | bytes, what: str) -> str:
    if isinstance(value, bytes):
        return value.decode("latin-1")
    if isinstance(value, str):
        return value
    raise TypeError(f"{what} must be str or bytes, not {type(value).__name__}")


def _header_name(name: str | bytes) -> str:
    text = _text(name, "a header name")
    if not _TOKEN.fullmatch(text):
        raise ValueError(f"header name {text!r} is not a token (RFC 9110 §5.6.2)")
    return text


def _header_value(name: str | bytes, value: str | bytes) -> str:
    text = _text(value, f"the value of header {name!r}")
    if _FORBIDDEN.search(text):
        raise ValueError(f"the value of header {name!r} contains CR, LF or NUL: {text!r}")
    if _CONTROLS.search(text):
        raise ValueError(f"the value of header {name!r} contains a control character: {text!r}")
    try:
        text.encode("latin-1")
    except UnicodeEncodeError:
        raise ValueError(
            f"the value of header {name!r} is not latin-1: {text!r}; percent-encode it"
        ) from None
    return text.strip(" \t")


class MultiMap(Mapping[str, str]):
    """
    A read-only mapping that keeps several values a name, in their order.

    ``map["name"]`` is the first value, ``map.getlist("name")`` all of them.
    """

    __slots__ = ("_index", "_pairs")

    def __init__(self, pairs: Iterable[tuple[str, str]] = ()) -> None:
        self._pairs = tuple(pairs)
        # The first value of each name: no list for each field, of which most come once.
        self._index: dict[str, str] = {}
        for name, value in self._pairs:
            self._index.setdefault(self._key(name), value)

    @staticmethod
    def _key(name: str) -> str:
        return name

    def __getitem__(self, name: str) -> str:
        return self._index[self._key(name)]

    def __iter__(self) -> Iterator[str]:
        return iter(self._index)

    def __len__(self) -> int:
        return len(self._index)

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and self._key(name) in self._index

    def getlist(self, name: str) -> list[str]:
        """Every value of *name*, in order; empty when there is none."""
        key = self._key(name)
        if key not in self._index:
            return []
        if len(self._index) == len(self._pairs):  # no name repeats
            return [self._index[key]]
        return [value for other, value in self._pairs if self._key(other) == key]

    @property
    def repeats(self) -> bool:
        """Whether a name occurs more than once."""
        return len(self._index) < len(self._pairs)

    def multi_items(self) -> list[tuple[str, str]]:
        """Every pair as it came, repeated names included."""
        return list(self._pairs)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({list(self._pairs)!r})"


# The names that a WebSocket request usually has, as clients write them, and in lower
# case: every connection holds its request, and so 600 bytes less.
_USUAL_NAMES = {
    name: name.lower()
    for names in (
        ("Host", "Connection", "Upgrade", "Origin", "User-Agent", "Cookie", "Authorization"),
        ("Accept", "Accept-Encoding", "Accept-Language", "Cache-Control", "Pragma", "Forwarded"),
        ("X-Forwarded-For", "X-Forwarded-Host", "X-Forwarded-Proto", "X-Real-IP"),
        ("Sec-WebSocket-Key", "Sec-WebSocket-Version", "Sec-WebSocket-Protocol"),
        ("Sec-WebSocket-Extensions", "Sec-WebSocket-Accept", "Server", "Date"),
    )
    for usual in names
    for name in (usual, usual.lower())
}
#: The usual names, each the same object every time that it is looked up.
SHARED_NAMES = {name: name for name in _USUAL_NAMES}


class Headers(MultiMap):
    """Header fields: a `MultiMap` whose names are compared without case."""

    __slots__ = ()

    def __init__(self, pairs: Iterable[tuple[str, str]] = ()) -> None:
        # Every connection makes one: without the calls it takes half the time.
        self._pairs = tuple(pairs)
        self._index = {}
        for name, value in self._pairs:
            self._index.setdefault(_USUAL_NAMES.get(name) or name.lower(), value)

    @staticmethod
    def _key(name: str) -> str:
        return _USUAL_NAMES.get(name) or name.lower()

    # Every opening handshake asks for some of them: as above.

    def __getitem__(self, name: str) -> str:
        return self._index[_USUAL_NAMES.get(name) or name.lower()]

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and (_USUAL_NAMES.get(name) or name.lower()) in self._index

    if not TYPE_CHECKING:  # it has the types of Mapping's, which raises and catches a KeyError

        def get(self, key, default=None):
            """The first value of *key*, or *default*."""
            return self._index.get(_USUAL_NAMES.get(key) or key.lower(), default)


# ----------------------------------------------------------------------- URL

_DEFAULT_PORTS = {"ws": 80, "http": 80, "wss": 443, "https": 443}


class URL(str):
    """
    A URL: a ``str`` that knows its parts.

    >>> URL("wss://example.org/chat?room=1").port
    443
    """

    __slots__ = ("_parts",)
    _parts: SplitResult

    def __new__(cls, url: str) -> URL:
        self = super().__new__(cls, url)
        self._parts = urlsplit(url)
        return self

    @property
    def scheme(self) -> str:
        """The scheme, in lower case."""
        return self._parts.scheme

    @property
    def netloc(self) -> str:
        """User information, host and port as written."""
        return self._parts.netloc

    @property
    def hostname(self) -> str | None:
        """The host in lower case, an IPv6 address without its brackets."""
        return self._parts.hostname

    host = hostname

    @property
    def port(self) -> int | None:
        """The port, or the scheme's default; ValueError when it is not 0 to 65535."""
        port = self._parts.port
        return _DEFAULT_PORTS.get(self.scheme) if port is None else port

    @property
    def path(self) -> str:
        """The path as written."""
        return self._parts.path

    @property
    def query(self) -> str:
        """The query without its question mark."""
        return self._parts.query

    @property
    def fragment(self) -> str:
        """What follows ``#``."""
        return self._parts.fragment

    @property
    def username(self) -> str | None:
        """The user's name, percent-decoded."""
        name = self._parts.username
        return None if name is None else unquote(name)

    @property
    def password(self) -> str | None:
        """The password, percent-decoded."""
        word = self._parts.password
        return None if word is None else unquote(word)

    @property
    def is_secure(self) -> bool:
        """Whether the scheme means TLS."""
        return self.scheme in ("wss", "https")

    def replace(self, **parts: Any) -> URL:  # type: ignore[override]
        """A copy with other parts: scheme, netloc, path, query, fragment."""
        return URL(self._parts._replace(**parts).geturl())


# ------------------------------------------------------------- the handshake


@dataclass(frozen=True, slots=True)
class HandshakeRequest:
    """
    A request as the server reads it; the same in every source.

    Attributes:
        host: The Host header field.
        target: The request target, path and query as sent.
        headers: All header fields.
        subprotocols: What the client offers, in its order of preference.
        method: The HTTP method.
        remote_address: (host, port, ...) of the peer; a path or "" on a Unix
            socket; None when it is not known.
    """

    host: str
    target: str
    headers: Headers
    subprotocols: tuple[str, ...] = ()
    method: str = "GET"
    remote_address: Any = None

    @property
    def path(self) -> str:
        """The target's path, percent-decoded."""
        return unquote(self.target.partition("?")[0])

    @property
    def query(self) -> str:
        """What follows the target's question mark, as sent."""
        return self.target.partition("?")[2]

    @property
    def query_params(self) -> MultiMap:
        """The query's parameters, percent-decoded, several values a name."""
        return MultiMap(parse_qsl(self.query, keep_blank_values=True))

    def with_address(self, remote_address: Any) -> HandshakeRequest:
        """A copy that names the peer's address."""
        return replace(self, remote_address=remote_address)


@dataclass(frozen=True, slots=True)
class Response:
    """
    A plain HTTP answer, for ``serve(http=...)`` and ``AioServer.reject()``.

    Args:
        status: The HTTP status code, 200 to 599.
        headers: Header fields, a mapping or pairs; ``Content-Length`` and
            ``Connection: close`` are added.
        body: The body; text is sent as UTF-8.
    """

    status: int = 200
    headers: HeadersLike = field(default_factory=dict)
    body: bytes | str = b""
