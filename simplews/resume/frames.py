"""The text frames of `simplews.resume.v1`: JSON objects, each with a ``type``."""

from __future__ import annotations

import base64
from typing import Any

from ..link.base import Data
from ..payloads import dump_json, load_json
from ..rooms import Position

__all__ = [
    "NOWHERE",
    "SUBPROTOCOL",
    "BadFrame",
    "data_fields",
    "data_of",
    "make",
    "number_of",
    "parse",
    "position_of",
    "text_of",
]

SUBPROTOCOL = "simplews.resume.v1"

#: The position of a room without a history: whoever comes again with it has a gap.
NOWHERE = Position("none", 0)

# JavaScript counts exactly up to here.
_GREATEST = 2**53 - 1


class BadFrame(ValueError):
    """What the other end sent is none of our frames; the text says why."""


def make(type: str, **fields: Any) -> str:
    """A frame; fields that are None are left out."""
    found = {name: value for name, value in fields.items() if value is not None}
    return dump_json({"type": type, **found})


def parse(message: str | bytes) -> dict[str, Any]:
    """
    Take a frame apart.

    Raises:
        BadFrame: It is none; the text says why.
    """
    if not isinstance(message, str):
        raise BadFrame("a binary message; all are JSON in text messages")
    try:
        frame = load_json(str(message))  # orjson takes no TextMessage
    except (ValueError, RecursionError):
        raise BadFrame("what is no JSON") from None
    if not isinstance(frame, dict) or not isinstance(frame.get("type"), str):
        raise BadFrame("what is no JSON object with a type")
    return frame


def text_of(frame: dict[str, Any], name: str, least: int, most: int) -> str:
    """
    A field that is text, with so many bytes in UTF-8.

    Raises:
        BadFrame: It is missing, or something else.
    """
    text = frame.get(name)
    try:
        if isinstance(text, str) and least <= len(text.encode()) <= most:
            return text
    except UnicodeEncodeError:  # half of a surrogate pair
        pass
    raise BadFrame(f"{frame['type']}: {name} must be text of {least} to {most} bytes")


def number_of(frame: dict[str, Any]) -> int:
    """
    The number of a client's message.

    Raises:
        BadFrame: There is none.
    """
    number = frame.get("number")
    if type(number) is int and 1 <= number <= _GREATEST:
        return number
    raise BadFrame(f"{frame['type']}: number must be an integer from 1 to 2**53-1")


def position_of(frame: dict[str, Any], name: str) -> Position | None:
    """
    A position; None where it is left out.

    Raises:
        BadFrame: It is something else.
    """
    text = frame.get(name)
    if text is None:
        return None
    if not isinstance(text, str):
        raise BadFrame(f"{frame['type']}: {name} must be a position")
    try:
        return Position.parse(text)
    except ValueError as error:
        raise BadFrame(str(error)) from None


def data_fields(data: Data) -> dict[str, str]:
    """``data`` for text, ``base64`` for bytes."""
    if isinstance(data, str):
        return {"data": data}
    return {"base64": base64.b64encode(data).decode("ascii")}


def data_of(frame: dict[str, Any]) -> str | bytes:
    """
    The reverse of `data_fields`.

    Raises:
        BadFrame: Neither is there, or both are, or it is not what it says.
    """
    text, encoded = frame.get("data"), frame.get("base64")
    if isinstance(text, str) and encoded is None:
        try:
            text.encode()
        except UnicodeEncodeError:
            raise BadFrame(f"{frame['type']}: data has half of a surrogate pair") from None
        return text
    if isinstance(encoded, str) and text is None:
        try:
            return base64.b64decode(encoded, validate=True)
        except ValueError:
            raise BadFrame(f"{frame['type']}: base64 is not Base64") from None
    raise BadFrame(f"{frame['type']}: either data or base64, each a string")
