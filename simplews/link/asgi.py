"""The opening handshake of a WebSocket that an ASGI server carries.

The server does the handshake; what is here reads its scope (ASGI's "WebSocket"
specification, versions 2.0 to 2.5), and accepts or refuses.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, MutableMapping, Sequence
from typing import Any
from urllib.parse import quote

from ..errors import WebSocketRuntimeError
from ..protocol.handshake import check_response, offered_subprotocols
from ..types import Close, CloseCode, HandshakeRequest, Headers, Response
from .asgilink import ASGILink, Event, address, close_event, says_gone
from .options import Options
from .sources import Gone

__all__ = ["ASGISource", "byte_pairs", "request_of_scope"]

# The key of a scope whose WebSocket is ours already.
_GIVEN = "simplews.given"

_DENIAL = "websocket.http.response"


class ASGISource:
    """
    An ASGI triple, or an object that has one.

    Args:
        asgi: ``(scope, receive, send)``, or an object with attributes of these
            names, whose two methods keep track of its own state.

    Raises:
        TypeError: It is neither.
        ValueError: Its scope is not one of a WebSocket.
    """

    response: Any = None

    def __init__(self, asgi: Any) -> None:
        triple = asgi
        if all(hasattr(asgi, name) for name in ("scope", "receive", "send")):
            triple = (asgi.scope, asgi.receive, asgi.send)
        if not isinstance(triple, (tuple, list)) or len(triple) != 3:
            raise TypeError(
                f"asgi= takes (scope, receive, send), or an object with these attributes, "
                f"not {type(asgi).__name__}; a request of aiohttp goes to aiohttp="
            )
        scope, self._receive, self._send = triple
        if not isinstance(scope, Mapping) or scope.get("type") != "websocket":
            kind = scope.get("type") if isinstance(scope, Mapping) else type(scope).__name__
            raise ValueError(
                f"asgi= takes a scope of type 'websocket', not {kind!r}; route 'http' and "
                f"'lifespan' scopes elsewhere"
            )
        self._scope: Mapping[str, Any] = scope
        self._direct = _is_safe_to_cancel(self._receive)
        # 0, 1, 2 in every framework: connecting, connected, disconnected.
        self._connected = _state(asgi, "client_state") > 0
        self.accepted = _state(asgi, "application_state") == 1
        self.subprotocol: str | None = getattr(asgi, "accepted_subprotocol", None)
        if max(_state(asgi, "client_state"), _state(asgi, "application_state")) > 1:
            raise WebSocketRuntimeError("this WebSocket has been closed; nothing is left to accept")
        if scope.get(_GIVEN):
            raise WebSocketRuntimeError(
                "this WebSocket has been given to accept() before, and can be read by one only"
            )

    async def request(self) -> HandshakeRequest:
        """The request, as the scope tells it."""
        if not self._connected:
            try:
                event = await self._receive()
            except (OSError, RuntimeError) as exc:
                raise Gone(str(exc) or type(exc).__name__) from exc
            if not isinstance(event, Mapping):
                raise TypeError(
                    f"asgi= takes ASGI's receive(), which gives messages like "
                    f"{{'type': 'websocket.connect'}}; this one gave {type(event).__name__}"
                )
            if event["type"] != "websocket.connect":
                raise Gone(f"the server sent {event['type']!r} instead of 'websocket.connect'")
            self._connected = True
        return request_of_scope(self._scope)

    async def open(
        self,
        request: HandshakeRequest,
        subprotocol: str | None,
        extra_headers: Sequence[tuple[str, str]],
        options: Options,
    ) -> ASGILink:
        """Accept."""
        if not self.accepted:
            event: Event = {"type": "websocket.accept", "subprotocol": subprotocol}
            if extra_headers:  # since version 2.1
                event["headers"] = byte_pairs(extra_headers)
            try:
                await self._send(event)
            except Exception as exc:  # OSError since version 2.4, others through an object
                raise Gone(str(exc) or "it left during the handshake") from exc
        if isinstance(self._scope, MutableMapping):
            self._scope[_GIVEN] = True
        return ASGILink(self._scope, self._receive, self._send, options, self._direct)

    async def refuse(self, response: Response) -> None:
        """Answer with *response* where the server can (``websocket.http.response``), else 403."""
        if self.accepted:
            raise WebSocketRuntimeError("this WebSocket has been accepted already; close() it")
        try:
            if _DENIAL not in (self._scope.get("extensions") or {}):
                await self._send(close_event(Close(CloseCode.POLICY_VIOLATION)))
                return
            fields, body = check_response(response)
            fields.append(("Content-Length", str(len(body))))
            await self._send(
                {
                    "type": f"{_DENIAL}.start",
                    "status": response.status,
                    "headers": byte_pairs(fields),
                }
            )
            await self._send({"type": f"{_DENIAL}.body", "body": body, "more_body": False})
        except Exception as exc:
            if not says_gone(exc):
                raise

    def abort(self) -> None:
        """Nothing: the server answers for an application that ends without an answer."""


def _is_safe_to_cancel(receive: Any) -> bool:
    """
    Whether *receive* is of a server whose receive() loses nothing when it is cancelled.

    Those of uvicorn, and of hypercorn and daphne, which is an ``asyncio.Queue``'s
    ``get``. granian's loses a message; and who knows what a middleware wraps.
    """
    while True:
        owner = getattr(receive, "__self__", None)
        inner = getattr(owner, "_receive", None)
        if not isinstance(owner, Mapping) or inner is None:
            return isinstance(owner, asyncio.Queue) or _package(owner) == "uvicorn"
        receive = inner  # the WebSocket object of a framework, or ours


def _package(value: object) -> str:
    return type(value).__module__.partition(".")[0]


def request_of_scope(scope: Mapping[str, Any]) -> HandshakeRequest:
    """The request that a WebSocket scope describes."""
    headers = Headers(
        (name.decode("latin-1"), value.decode("latin-1"))
        for name, value in scope.get("headers") or ()
    )
    target = (scope.get("raw_path") or b"").decode("latin-1") or quote(scope.get("path") or "/")
    query = (scope.get("query_string") or b"").decode("latin-1")
    # Some servers leave the query in raw_path.
    target = target.partition("?")[0] + (f"?{query}" if query else "")
    return HandshakeRequest(
        host=headers.get("host", ""),
        target=target,
        headers=headers,
        # It may be missing.
        subprotocols=tuple(scope.get("subprotocols") or offered_subprotocols(headers)),
        remote_address=address(scope.get("client")),
    )


def byte_pairs(fields: Sequence[tuple[str, str]]) -> list[tuple[bytes, bytes]]:
    """Header fields as ASGI has them: bytes, the names in lower case."""
    return [(name.lower().encode("ascii"), value.encode("latin-1")) for name, value in fields]


def _state(asgi: Any, name: str) -> int:
    """One of the two states of a framework's WebSocket object, as a number."""
    state = getattr(asgi, name, 0)
    return int(getattr(state, "value", state))
