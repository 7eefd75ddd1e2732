"""Text ⇄ Python values: JSON, typed text, and the Cookie header.

JSON is orjson's work where it is installed, else the standard library's.

Typed text is JSON whose strings may say what they were: ``"100.50::D"`` is a
Decimal. A marker behind the JSON names the dialect, so that no other text is
ever taken for it:

``::TYTX``
    D Decimal, d date, dt datetime, t time. It needs no package.
``::JS``
    The dialect of the package genro-tytx, which reads and writes it.
"""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import json
import math
import re
from collections.abc import Callable, Iterable, Iterator
from datetime import date, datetime, time
from decimal import Decimal
from typing import Any, Literal

orjson: Any = None
with contextlib.suppress(ImportError):
    orjson = importlib.import_module("orjson")

__all__ = [
    "HAS_ORJSON",
    "HAS_TYTX",
    "Dialect",
    "dump_json",
    "dump_typed",
    "load_json",
    "load_typed",
    "parse_cookies",
]

#: Whether orjson is installed and used.
HAS_ORJSON = orjson is not None

#: Whether genro-tytx is installed; only the dialect ``"JS"`` of typed text needs it.
HAS_TYTX = importlib.util.find_spec("genro_tytx") is not None

#: The dialects of typed text.
Dialect = Literal["TYTX", "JS"]


# ---------------------------------------------------------------------- JSON


def load_json(data: str | bytes) -> Any:
    """
    Decode JSON.

    Raises:
        ValueError: It is not JSON (``json.JSONDecodeError`` is one).
    """
    return json.loads(data) if orjson is None else orjson.loads(data)


def dump_json(value: Any) -> str:
    """
    Encode as JSON: compact, characters outside ASCII kept; the same text either way.

    Raises:
        TypeError: *value* cannot be encoded.
    """
    if orjson is None:
        return json.dumps(value, separators=(",", ":"), ensure_ascii=False)
    return str(orjson.dumps(value), "utf-8")


# ---------------------------------------------------------------- typed text

_TYTX, _JS = "::TYTX", "::JS"

_READERS: dict[str, Callable[[str], Any]] = {
    "D": Decimal,
    "d": date.fromisoformat,
    "dt": datetime.fromisoformat,
    "t": time.fromisoformat,
}


def load_typed(text: str) -> Any:
    """
    Decode typed text.

    Dictionary keys stay as they are, and so do strings with an unknown code.

    Args:
        text: JSON. Only behind ``::TYTX`` or ``::JS`` its strings are looked at.

    Raises:
        ValueError: It is not JSON, a typed string does not hold what its code
            says, or it is nested too deeply.
        ImportError: It is ``::JS``, and genro-tytx is not installed.
    """
    try:
        if text.endswith(_TYTX):
            return _hydrate(load_json(text[: -len(_TYTX)]))
        if text.endswith(_JS):
            return _load_js(text)
        return load_json(text)
    except RecursionError:
        raise ValueError("typed text is nested too deeply") from None


def dump_typed(value: Any, dialect: Dialect = "TYTX") -> str:
    """
    Encode as typed text.

    ``"TYTX"`` keeps datetimes and times as they are, to the microsecond, aware or
    naive. ``"JS"`` cuts them to milliseconds, takes naive datetimes for UTC, and
    leaves its marker out where there is nothing to mark.

    Args:
        value: None, bool, int, float, str, Decimal, date, datetime, time, and
            lists, tuples and dictionaries of them; ``"JS"`` has more.
        dialect: ``"TYTX"`` or ``"JS"``.

    Raises:
        TypeError: *value* cannot be encoded, or a dictionary's key is not a string.
        ValueError: A string would be read as a typed value; a float is no number
            of JSON; or there is no such dialect.
        ImportError: It is ``"JS"``, and genro-tytx is not installed.
    """
    if dialect == "TYTX":
        return dump_json(_dehydrate(value)) + _TYTX
    if dialect == "JS":
        return _dump_js(value)
    raise ValueError(f"dialect must be 'TYTX' or 'JS', not {dialect!r}")


def _hydrate(value: Any) -> Any:
    if isinstance(value, str):
        content, separator, code = value.rpartition("::")
        if not separator or code not in _READERS:
            return value
        try:
            return _READERS[code](content)
        except (ValueError, ArithmeticError):
            raise ValueError(f"{value!r} does not hold what its code {code!r} says") from None
    if isinstance(value, list):
        return [_hydrate(item) for item in value]
    if isinstance(value, dict):
        return {key: _hydrate(item) for key, item in value.items()}
    return value


def _dehydrate(value: Any) -> Any:
    if isinstance(value, str):
        return _check_string(value, _READERS)
    if isinstance(value, float):
        return _check_float(value)
    if value is None or isinstance(value, int):
        return value
    if isinstance(value, Decimal):
        return f"{value}::D"
    if isinstance(value, datetime):  # which is a date as well
        return f"{value.isoformat()}::dt"
    if isinstance(value, date):
        return f"{value.isoformat()}::d"
    if isinstance(value, time):
        return f"{value.isoformat()}::t"
    if isinstance(value, (list, tuple)):
        return [_dehydrate(item) for item in value]
    if isinstance(value, dict):
        return {_check_key(key): _dehydrate(item) for key, item in value.items()}
    raise TypeError(f"{type(value).__name__} has no form in typed text")


def _check_string(value: str, codes: Iterable[str]) -> str:
    _, separator, code = value.rpartition("::")
    if separator and code in codes:
        raise ValueError(
            f"the string {value!r} would be read as a typed value, because it ends in "
            f"{separator + code!r}; change it, or use send_json()"
        )
    return value


def _check_float(value: float) -> float:
    if not math.isfinite(value):
        raise ValueError(f"{value!r} is no number of JSON; a Decimal can hold it")
    return value


def _check_key(key: object) -> str:
    if not isinstance(key, str):
        raise TypeError(f"a dictionary's key must be a string, not {key!r}")
    return key


def _tytx() -> Any:
    try:
        return importlib.import_module("genro_tytx")
    except ImportError as exc:
        raise ImportError(
            "typed text of the dialect '::JS' needs genro-tytx: pip install genro-tytx"
        ) from exc


def _load_js(text: str) -> Any:
    tytx = _tytx()
    load_json(text[: -len(_JS)])  # raises; from_tytx() gives back what is not JSON
    try:
        return tytx.from_tytx(text)
    except (ValueError, RecursionError):
        raise
    except Exception as exc:  # what the codes' readers raise is their own
        raise ValueError(f"a typed string does not hold what its code says: {exc!r}") from exc


def _dump_js(value: Any) -> str:
    tytx = _tytx()
    for item in _leaves(value):
        if isinstance(item, str):
            _check_string(item, tytx.SUFFIX_TO_TYPE)
        elif isinstance(item, float):
            _check_float(item)
    # In a list, because it writes a value that stands alone without its marker.
    text: str = tytx.to_tytx([value])
    body, marker = (text[: -len(_JS)], _JS) if text.endswith(_JS) else (text, "")
    return body[1:-1] + marker


def _leaves(value: Any) -> Iterator[Any]:
    if isinstance(value, (list, tuple)):
        for item in value:
            yield from _leaves(item)
    elif isinstance(value, dict):
        for key, item in value.items():
            _check_key(key)
            yield from _leaves(item)
    else:
        yield value


# ------------------------------------------------------------------- cookies

_ESCAPED = re.compile(r"\\(?:([0-3][0-7][0-7])|(.))", re.DOTALL)


def parse_cookies(headers: Iterable[str]) -> dict[str, str]:
    """
    Read Cookie header fields, leniently, as browsers and servers do.

    Args:
        headers: The values of all Cookie fields; HTTP/2 may send several.

    Returns:
        Values by name; of a name that comes twice, the last.
    """
    cookies: dict[str, str] = {}
    for header in headers:
        for pair in header.split(";"):
            name, equals, value = pair.partition("=")
            if not equals:  # a cookie without a name
                name, value = "", pair
            name, value = name.strip(), value.strip()
            if name or value:
                cookies[name] = _unquoted(value)
    return cookies


def _unquoted(value: str) -> str:
    """A quoted value without its quotes and escapes: octal, or the character itself."""
    if len(value) < 2 or value[0] != '"' or value[-1] != '"':
        return value
    return _ESCAPED.sub(lambda m: chr(int(m[1], 8)) if m[1] else m[2], value[1:-1])
