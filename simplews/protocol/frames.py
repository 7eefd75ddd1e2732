"""The words of RFC 6455 §5 and §7: opcodes, control events, close payloads."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, final

from wsproto.frame_protocol import MAX_PAYLOAD_NORMAL, Opcode

from ..errors import ProtocolError
from ..types import Close, CloseCode

__all__ = [
    "MAX_REASON",
    "Fragment",
    "Opcode",
    "Ping",
    "Pong",
    "check_close",
    "clip_reason",
    "parse_close",
    "serialize_close",
]

# RFC 6455 §5.5: a control frame carries at most 125 bytes, two of them the code.
MAX_REASON = MAX_PAYLOAD_NORMAL - 2

# RFC 6455 §7.4.1: reserved, never in a frame.
_NEVER_SENT = frozenset({1004, 1005, 1006, 1015})


@dataclass(frozen=True, slots=True)
class Ping:
    """A Ping frame arrived (§5.5.2); it wants a Pong with the same payload."""

    payload: bytes


@dataclass(frozen=True, slots=True)
class Pong:
    """A Pong frame arrived (§5.5.3)."""

    payload: bytes


@final
@dataclass(frozen=True, slots=True)
class Fragment:
    """A piece of a message that the application reads as a stream."""

    data: str | bytes
    final: bool


def valid_code(code: int) -> bool:
    """Whether a Close frame may carry *code* (RFC 6455 §7.4, and the registry's 1012 to 1014)."""
    return (1000 <= code <= 1014 and code not in _NEVER_SENT) or 3000 <= code <= 4999


def check_close(code: Any, reason: Any) -> Close:
    """
    Check a close code and reason that an application gave.

    Raises:
        TypeError: One of them is something else.
        ValueError: The code must not be sent, or the reason is longer than 123
            bytes of UTF-8.
    """
    if not isinstance(code, int) or not isinstance(reason, str):
        raise TypeError(
            f"a close code is an int and a close reason a str, not {code!r} and {reason!r}"
        )
    if not valid_code(code):
        raise ValueError(
            f"close code {code} must not be sent: use 1000 to 1003, 1007 to 1014 or 3000 to 4999"
        )
    size = len(reason.encode("utf-8"))
    if size > MAX_REASON:
        raise ValueError(f"close reason of {size} bytes exceeds the limit of {MAX_REASON} bytes")
    return Close(int(code), reason)


def clip_reason(reason: str) -> str:
    """Cut *reason* to what fits into a Close frame, never inside a character."""
    return reason.encode("utf-8", "replace")[:MAX_REASON].decode("utf-8", "ignore")


def serialize_close(close: Close) -> bytes:
    """The payload of a Close frame; empty for 1005, which never travels."""
    if close.code == CloseCode.NO_STATUS_RCVD:
        return b""
    return close.code.to_bytes(2, "big") + close.reason.encode("utf-8")


def parse_close(payload: bytes) -> Close:
    """
    Read the payload of a Close frame.

    Raises:
        ProtocolError: One byte of payload, a code that must not travel (1002),
            or a reason that is not UTF-8 (1007).
    """
    if not payload:
        return Close(CloseCode.NO_STATUS_RCVD)
    if len(payload) == 1:
        raise ProtocolError(CloseCode.PROTOCOL_ERROR, "Close frame with a payload of one byte")
    code = int.from_bytes(payload[:2], "big")
    if not valid_code(code):
        raise ProtocolError(CloseCode.PROTOCOL_ERROR, f"close code {code} must not be sent")
    try:
        return Close(code, payload[2:].decode("utf-8"))
    except UnicodeDecodeError:
        raise ProtocolError(
            CloseCode.INVALID_FRAME_PAYLOAD_DATA, "close reason is not UTF-8"
        ) from None
