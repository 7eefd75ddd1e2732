"""JSON text ⇄ Python values: orjson where it is installed, else the standard library."""

from __future__ import annotations

import contextlib
import importlib
import json
from typing import Any

orjson: Any = None
with contextlib.suppress(ImportError):
    orjson = importlib.import_module("orjson")

__all__ = ["HAS_ORJSON", "dump_json", "load_json"]

#: Whether orjson is installed and used.
HAS_ORJSON = orjson is not None


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
