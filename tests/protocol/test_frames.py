"""Close codes and reasons, from the application and from the peer (RFC 6455 §7.4)."""

from __future__ import annotations

import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from simplews.errors import ProtocolError
from simplews.protocol.frames import (
    MAX_REASON,
    check_close,
    clip_reason,
    parse_close,
    serialize_close,
    valid_code,
)
from simplews.protocol.octets import memory_size, payload_size
from simplews.types import Close, CloseCode

from .by_hand import close_payload

SENDABLE = {*range(1000, 1004), *range(1007, 1015), *range(3000, 5000)}


def test_close_codes_that_may_travel() -> None:
    """RFC 6455 §7.4 and the registry: 1012 to 1014 came later; 1004 and 1015 never travel."""
    assert {code for code in range(-1, 70_000) if valid_code(code)} == SENDABLE


@pytest.mark.parametrize("code", [1000, 1001, 1014, 3000, 4999, CloseCode.GOING_AWAY])
@pytest.mark.parametrize("reason", ["", "bye", "tschüß", "r" * 123, "€" * 41])
def test_close_that_may_be_sent_is_serialized_and_read_back(code: int, reason: str) -> None:
    """RFC 6455 §5.5.1: two bytes of code in network order, then UTF-8."""
    close = check_close(code, reason)
    assert close == Close(code, reason)
    payload = serialize_close(close)
    assert payload == close_payload(code, reason.encode())
    assert len(payload) <= 125
    assert parse_close(payload) == close


@pytest.mark.parametrize("code", [-1, 0, 1, 999, 1004, 1005, 1006, 1015, 1016, 2999, 5000, 65536])
def test_application_cannot_send_a_reserved_code(code: int) -> None:
    """The error says which codes may be sent."""
    with pytest.raises(ValueError, match=rf"close code {code} must not be sent: use 1000 to 1003"):
        check_close(code, "")


@pytest.mark.parametrize("reason", ["r" * 124, "€" * 42, "ü" * 62])
def test_application_cannot_send_a_long_reason(reason: str) -> None:
    """RFC 6455 §5.5: 123 bytes of UTF-8, not characters; it is not cut behind its back."""
    size = len(reason.encode())
    with pytest.raises(ValueError, match=f"{size} bytes exceeds the limit of 123 bytes"):
        check_close(1000, reason)


def test_application_cannot_send_a_surrogate() -> None:
    """It has no UTF-8."""
    with pytest.raises(ValueError):
        check_close(1000, "\ud800")


def test_close_without_a_code_has_no_payload() -> None:
    """RFC 6455 §7.1.5: 1005 stands for it and never travels."""
    assert serialize_close(Close(1005)) == b""
    assert parse_close(b"") == Close(1005, "")


@pytest.mark.parametrize(
    ("payload", "code"),
    [
        (b"\x03", 1002),
        (close_payload(0), 1002),
        (close_payload(999), 1002),
        (close_payload(1004), 1002),
        (close_payload(1005), 1002),
        (close_payload(1006), 1002),
        (close_payload(1015), 1002),
        (close_payload(2999), 1002),
        (close_payload(5000), 1002),
        (close_payload(65535), 1002),
        (close_payload(1000, b"\xff"), 1007),
        (close_payload(1000, b"\xed\xa0\x80"), 1007),
        (close_payload(1005, b"\xff"), 1002),
    ],
)
def test_wrong_close_of_the_peer_is_a_violation(payload: bytes, code: int) -> None:
    """1002 for the code, 1007 for the reason."""
    with pytest.raises(ProtocolError) as caught:
        parse_close(payload)
    assert caught.value.close_code == code


@given(st.binary(max_size=125))
def test_no_close_payload_raises_anything_else(payload: bytes) -> None:
    """A close or a `ProtocolError`, and a close travels back as it came."""
    try:
        close = parse_close(payload)
    except ProtocolError as exc:
        assert exc.close_code in (1002, 1007)
    else:
        assert serialize_close(close) == payload


@given(st.text(max_size=200))
def test_clipped_reason_fits_and_is_a_beginning(reason: str) -> None:
    """Cut nowhere inside a character, and no shorter than it must be."""
    clipped = clip_reason(reason)
    size = len(clipped.encode())
    assert size <= MAX_REASON
    assert reason.startswith(clipped)
    if clipped != reason:
        assert size + len(reason[len(clipped)].encode()) > MAX_REASON


def test_clipped_reason_replaces_what_has_no_utf8() -> None:
    """Texts of exceptions may contain surrogates; closing must not fail for it."""
    assert clip_reason("file \udcff") == "file ?"


@given(st.text())
def test_size_of_text_is_that_of_its_utf8(text: str) -> None:
    """And that of bytes is theirs."""
    assert payload_size(text) == payload_size(text.encode()) == len(text.encode())


class Text(str):
    """An ASGI server might have one."""


@pytest.mark.parametrize(
    ("beside", "width"),
    [("", 1), ("\x7f", 1), ("\x80", 1), ("ÿ", 1), ("Ā", 2), ("\uffff", 2), ("\U00010000", 4)],
)
@pytest.mark.parametrize("count", [0, 1, 2, 1000, 100_000])
def test_size_in_memory_is_what_python_takes(beside: str, width: int, count: int) -> None:
    """Its widest character decides for all of a text's (PEP 393); the object around it is small."""
    text = "x" * count + beside
    size = memory_size(text)
    assert size == width * len(text)
    assert size == memory_size(Text(text))
    assert 0 <= sys.getsizeof(text) - size <= 100
    assert memory_size(text.encode()) == len(text.encode())
