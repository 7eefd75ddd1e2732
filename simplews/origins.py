"""Which web pages may connect (RFC 6455 §10.2): the Origin rule.

A browser sends a page's Origin and the user's cookies with every WebSocket, and
no same-origin policy holds it back. A server that trusts cookies without looking
at the Origin acts for any page on the web (cross-site WebSocket hijacking).
"""

from __future__ import annotations

import re
from collections.abc import Collection
from typing import Any
from urllib.parse import urlsplit

from .protocol.handshake import Refusal
from .types import HandshakeRequest

__all__ = ["Origins", "check_origin", "check_rules"]

Origins = str | re.Pattern[str] | Collection[str | re.Pattern[str] | None] | None

_PORTS = {"http": 80, "https": 443, "ws": 80, "wss": 443}


def check_rules(origins: Origins) -> None:
    """Raise TypeError unless *origins* is something that `check_origin` understands."""
    several = isinstance(origins, Collection) and not isinstance(origins, str)
    rules: Any = origins if several else (origins,)
    if not all(rule is None or isinstance(rule, (str, re.Pattern)) for rule in rules):
        raise TypeError(f"origins must be strings, compiled patterns or None, not {origins!r}")


def check_origin(request: HandshakeRequest, origins: Origins, *, guard_cookies: bool) -> None:
    """
    Check the request's Origin.

    Args:
        request: The request.
        origins: What is allowed: a string or compiled pattern, or several; None
            among them allows a request without Origin (no browser); ``"*"`` any.
        guard_cookies: What ``origins=None`` means: True refuses a request that
            carries cookies and comes from a page of another host; False allows all.

    Raises:
        Refusal: 403.
    """
    origin = request.headers.get("origin")
    if origins is None:
        guarded = guard_cookies and "cookie" in request.headers
        if guarded and origin is not None and not _same_host(origin, request.host):
            raise Refusal(
                403, f"a page of {origin} may not use this server's cookies; see origins="
            )
        return
    if origins == "*":
        return
    allowed = [origins] if isinstance(origins, (str, re.Pattern)) else origins
    if not any(_matches(rule, origin) for rule in allowed):
        raise Refusal(403, f"origin {origin} is not allowed")


def _matches(rule: str | re.Pattern[str] | None, origin: str | None) -> bool:
    if rule is None or origin is None:
        return rule is None and origin is None
    if isinstance(rule, str):
        return rule == "*" or rule == origin
    return rule.fullmatch(origin) is not None


def _same_host(origin: str, host: str) -> bool:
    """Whether the page's host and port are the ones that the request names."""
    try:
        page = urlsplit(origin)
        asked = urlsplit(f"{page.scheme}://{host}")
        default = _PORTS.get(page.scheme)
        if page.hostname is None:
            return False  # "null": the origin of sandboxed pages, which are anybody's
        return page.hostname == asked.hostname and (page.port or default) == (asked.port or default)
    except ValueError:
        return False
