"""Who is asking: credentials of the opening handshake."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .connection import AioBase
from .link.asgi import request_of_scope
from .payloads import parse_cookies
from .types import HandshakeRequest

__all__ = ["bearer_token"]


def bearer_token(
    connection: AioBase | HandshakeRequest | Mapping[str, Any],
    *,
    query: str | None = "token",
    cookie: str | None = None,
    subprotocol: str | None = "bearer.",
) -> str | None:
    """
    Find the bearer token of a request.

    It only finds the token. Whether it is valid is yours to check, with
    ``hmac.compare_digest`` if you compare it with a secret.

    A page in a browser cannot set header fields of a WebSocket; the query, a
    cookie and a subprotocol are its ways:

    - A token in the query lands in the logs of servers and proxies. Let it be
      short-lived, and good for one connection.
    - A browser sends cookies with the WebSockets of any page on the web, so a
      cookie counts only behind a check of the Origin (``origins=`` of `serve`
      and `AioServer.accept`).
    - A client that offers a subprotocol wants one chosen. It offers the real
      one besides; accept that one, and never send the token back.

    Args:
        connection: A `WebSocket`, an `AioServer`, a `HandshakeRequest`, an ASGI
            scope, or the WebSocket of Starlette, FastAPI or Lilya.
        query: Name of the query parameter; None looks at none.
        cookie: Name of the cookie; None looks at none.
        subprotocol: What an offered subprotocol begins with that carries a token;
            None looks at none.

    Returns:
        The token: of ``Authorization: Bearer``, else of the query, else of the
        cookie, else of the subprotocol. None if there is none, or it is empty.

    Raises:
        TypeError: *connection* is something else.

    Spec: RFC 6750 §2.1, §2.3; RFC 6455 §10.2.
    """
    request = _request(connection)
    headers, params, offered = request.headers, request.query_params, request.subprotocols
    scheme, _, token = headers.get("authorization", "").partition(" ")
    if scheme.lower() == "bearer" and token.strip():
        return token.strip()
    if query is not None and params.get(query):
        return params[query]
    if cookie is not None:
        value = parse_cookies(headers.getlist("cookie")).get(cookie)
        if value:
            return value
    if subprotocol is not None:
        for name in offered:
            if name.startswith(subprotocol) and name != subprotocol:
                return name.removeprefix(subprotocol)
    return None


def _request(
    connection: AioBase | HandshakeRequest | Mapping[str, Any],
) -> HandshakeRequest:
    """The request of a connection."""
    if isinstance(connection, AioBase):
        connection = connection.request
    if isinstance(connection, HandshakeRequest):
        return connection
    # The WebSocket classes of ASGI frameworks are mappings over their scopes.
    if not isinstance(connection, Mapping):
        raise TypeError(
            f"bearer_token() takes a connection, its request or an ASGI scope, "
            f"not {type(connection).__name__}"
        )
    return request_of_scope(connection)
