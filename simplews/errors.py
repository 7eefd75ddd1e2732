"""Every exception, and what each one tells.

An exception answers two questions: whose fault, and what now::

    WebSocketError (RuntimeError)
    ├── ConnectionError          it never opened; also the builtin of that name
    │   ├── ConnectTimeout       ... within open_timeout; also TimeoutError
    │   └── InvalidURL           ... because of its URL; also ValueError
    ├── WebSocketDisconnect      the ASGI word for "the peer left"
    │   └── ConnectionClosed     it was open and is not now
    ├── WebSocketRuntimeError    called in the wrong state; nothing was sent
    │   └── NotInScope           ... without what puts it there; also AssertionError
    ├── UnexpectedMessage        text for binary, or the reverse; also TypeError
    └── BackendUnavailable       the engine behind Rooms does not answer

    ProtocolError                inside: the peer broke a rule; carries the close code to send
"""

from __future__ import annotations

import builtins
from collections.abc import Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .types import Close, Ending

__all__ = [
    "BackendUnavailable",
    "ConnectTimeout",
    "ConnectionClosed",
    "ConnectionError",
    "InvalidURL",
    "NotInScope",
    "ProtocolError",
    "UnexpectedMessage",
    "WebSocketDisconnect",
    "WebSocketError",
    "WebSocketRuntimeError",
]


class WebSocketError(RuntimeError):
    """The base of everything that simplews raises on its own account."""


class BackendUnavailable(WebSocketError):
    """
    The engine behind `Rooms` does not answer in time.

    Of a broadcast: other processes may or may not have it.
    """


class WebSocketRuntimeError(WebSocketError):
    """A call that the present state does not allow. Nothing was sent or lost."""


class NotInScope(WebSocketRuntimeError, AssertionError):
    """
    The ASGI scope lacks what was asked for: the middleware that adds it is not installed.

    Attributes:
        key: The key that the scope does not have.
        source: What would have put it there.
    """

    def __init__(self, key: str, source: str) -> None:
        super().__init__(key, source)
        self.key = key
        self.source = source

    def __str__(self) -> str:
        return f"the scope has no {self.key!r}: {self.source} adds it, and must be installed"


class UnexpectedMessage(WebSocketError, TypeError):
    """
    The peer sent a text message where a binary one was expected, or the reverse.

    The message has been taken, and is kept here.

    Attributes:
        message: The message: ``str`` if it was text, ``bytes`` if it was binary.
    """

    def __init__(self, message: str | bytes) -> None:
        super().__init__(message)
        self.message = message

    def __str__(self) -> str:
        expected, came = ("binary", "text")
        if not isinstance(self.message, str):
            expected, came = came, expected
        return (
            f"expected a {expected} message, got a {came} one; it is in .message, "
            f"and receive() takes either"
        )


class ConnectionError(WebSocketError, builtins.ConnectionError):
    """
    The connection could not be opened.

    It also is the builtin ``ConnectionError`` (and so an ``OSError``), so that
    one ``except`` clause catches every way in which dialling can fail.

    Attributes:
        status_code: HTTP status of the answer, the server's or a proxy's; None when
            there was none.
        headers: Header fields of the answer; empty when there was none.
        body: The first 64 KiB of the body of a server's answer.
    """

    def __init__(
        self,
        message: str,
        *,
        status_code: int | None = None,
        headers: Mapping[str, str] | None = None,
        body: bytes = b"",
    ) -> None:
        super().__init__(message)
        self.status_code = status_code
        self.headers: Mapping[str, str] = {} if headers is None else headers
        self.body = body

    def __str__(self) -> str:
        return str(self.args[0])


class ConnectTimeout(ConnectionError, TimeoutError):
    """The connection was not open within ``open_timeout`` seconds."""


class InvalidURL(ConnectionError, ValueError):
    """The URL is not one that a WebSocket can be opened with."""


class WebSocketDisconnect(WebSocketError):
    """
    The peer left.

    Attributes:
        code: The close code (RFC 6455 §7.1.5), 1005 for a Close without one,
            1006 for a connection that was lost without a Close.
        reason: The close reason (RFC 6455 §7.1.6), "" when there was none.
    """

    def __init__(self, code: int = 1000, reason: str | None = None) -> None:
        super().__init__(code, reason or "")
        self.code = code
        self.reason = reason or ""

    def __str__(self) -> str:
        return f"{self.code} {self.reason}".rstrip()


class ConnectionClosed(WebSocketDisconnect):
    """
    The connection was open and is not now.

    ``code`` and ``reason`` belong to whoever ended it first; both Close frames
    are kept.

    Attributes:
        code: Close code of the side that ended it; 1006 when it was lost.
        reason: Close reason of the side that ended it.
        message: The same as ``reason``.
        sent: The Close that we sent, or None.
        received: The Close that the peer sent, or None.
    """

    def __init__(self, ending: Ending) -> None:
        super().__init__(ending.code, ending.reason)
        self.ending = ending

    def __reduce__(self) -> tuple[type[ConnectionClosed], tuple[Ending]]:
        return type(self), (self.ending,)

    @property
    def message(self) -> str:
        """The close reason."""
        return self.reason

    @property
    def sent(self) -> Close | None:
        """The Close that we sent, or None."""
        return self.ending.sent

    @property
    def received(self) -> Close | None:
        """The Close that the peer sent, or None."""
        return self.ending.received

    def explain(self) -> str:
        """Who ended the connection, with which codes and why, in a sentence."""
        return self.ending.explain()

    def __str__(self) -> str:
        return self.ending.explain()


class ProtocolError(Exception):
    """
    The peer broke a rule of RFC 6455 or 7692, or one of our limits.

    It is data rather than an event of the application: the decoder records it,
    and the connection is failed with its close code.

    Attributes:
        close_code: The code to send (RFC 6455 §7.4.1).
        reason: What was wrong, at most 123 bytes of UTF-8.
    """

    def __init__(self, close_code: int, reason: str) -> None:
        super().__init__(close_code, reason)
        self.close_code = close_code
        self.reason = reason

    def __str__(self) -> str:
        return f"{self.reason} (close code {self.close_code})"
