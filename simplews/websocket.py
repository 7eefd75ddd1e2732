"""WebSocket: the ASGI vocabulary of Starlette, Esmerald, Lilya and genro-asgi, in one class.

It is thin: each call is one ASGI message, and nothing is read ahead. `AioServer`
has timeouts, backpressure and a reader in the background; ``accept(asgi=...)``
makes one of a `WebSocket`.

There are two states. ``client_state`` follows what the server has told us,
``application_state`` what we have told the server. Every message passes `receive`
or `send`, or one of the two shortcuts beside them (`_message`, `_deliver`), which
keep the states; whatever ends the connection also passes `_finish`, which runs the
cleanups.
"""

from __future__ import annotations

import asyncio
import contextlib
import enum
import logging
import re
from collections.abc import (
    AsyncIterator,
    Awaitable,
    Callable,
    Iterator,
    Mapping,
    MutableMapping,
)
from types import TracebackType
from typing import Any, Literal, NamedTuple, NoReturn, Self
from urllib.parse import parse_qsl, quote

from .connection import CLEANING, AioBase, Cleanup, check_mode, code_behind, run_cleanups
from .errors import (
    ConnectionClosed,
    NotInScope,
    UnexpectedMessage,
    WebSocketDisconnect,
    WebSocketRuntimeError,
)
from .link.asgi import byte_pairs
from .payloads import Dialect, dump_json, dump_typed, load_json, load_typed, parse_cookies
from .protocol.frames import check_close
from .protocol.handshake import check_response, offered_subprotocols
from .types import (
    URL,
    CloseCode,
    Headers,
    HeadersLike,
    MultiMap,
    Response,
    State,
    header_pairs,
)

__all__ = ["Address", "ScopeState", "WebSocket", "WebSocketClose", "WebSocketState"]

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Mode = Literal["text", "binary"]

_logger = logging.getLogger("simplews.websocket")


class WebSocketState(enum.IntEnum):
    """
    How far one side of an ASGI connection is.

    CONNECTING: before ``accept()``. CONNECTED: messages can pass. DISCONNECTED:
    after ``close()``, or when the client has left. RESPONSE: the application is
    refusing the client with an HTTP response.
    """

    CONNECTING = 0
    CONNECTED = 1
    DISCONNECTED = 2
    RESPONSE = 3


_CONNECTING = WebSocketState.CONNECTING
_CONNECTED = WebSocketState.CONNECTED
_DISCONNECTED = WebSocketState.DISCONNECTED
_RESPONSE = WebSocketState.RESPONSE

_DENIAL = "websocket.http.response"

#: What the application may send in each state, and the state that it leads to.
_STEPS: dict[WebSocketState, dict[str, WebSocketState]] = {
    _CONNECTING: {
        "websocket.accept": _CONNECTED,
        "websocket.close": _DISCONNECTED,
        f"{_DENIAL}.start": _RESPONSE,
    },
    _CONNECTED: {"websocket.send": _CONNECTED, "websocket.close": _DISCONNECTED},
    _RESPONSE: {f"{_DENIAL}.body": _DISCONNECTED},
}

_ADVICE = {
    _CONNECTING: "it has not been accepted; call accept() first",
    _CONNECTED: "it has been accepted; close() ends it",
    _RESPONSE: "the client is being refused with an HTTP response",
    _DISCONNECTED: "it has been closed; '.connected' tells",
}


class Address(NamedTuple):
    """Where the client is: its host, and its port."""

    host: str
    port: int | None


class ScopeState(MutableMapping[str, Any]):
    """
    ``scope["state"]``: what middleware and the lifespan have left for the connection.

    A value is an attribute or an item: ``state.user`` is ``state["user"]``. The
    names of a mapping's own methods (``items``, ``get`` ...) are items only.
    """

    __slots__ = ("_values",)
    _values: MutableMapping[str, Any]

    def __init__(self, values: MutableMapping[str, Any]) -> None:
        object.__setattr__(self, "_values", values)

    def __getitem__(self, name: str) -> Any:
        return self._values[name]

    def __setitem__(self, name: str, value: Any) -> None:
        self._values[name] = value

    def __delitem__(self, name: str) -> None:
        del self._values[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    def __getattr__(self, name: str) -> Any:
        try:
            return self._values[name]
        except KeyError:
            raise AttributeError(f"the connection's state has no {name!r}") from None

    def __setattr__(self, name: str, value: Any) -> None:
        if hasattr(type(self), name):
            raise AttributeError(
                f"{name!r} is a method of every mapping; write state[{name!r}] = ..."
            )
        self._values[name] = value

    def __delattr__(self, name: str) -> None:
        try:
            del self._values[name]
        except KeyError:
            raise AttributeError(f"the connection's state has no {name!r}") from None

    def __repr__(self) -> str:
        return f"{type(self).__name__}({dict(self._values)!r})"


class WebSocket(Mapping[str, Any]):
    """
    A WebSocket in an ASGI application.

    It is a mapping over its scope; two are equal only if they are the same one.
    As an async context manager it closes itself: with 1000 when the block ends,
    with 1011 when it raises. ``async for`` gives text messages, see `iter_text`.

    Args:
        scope: The connection scope, of type ``"websocket"``.
        receive: The server's receive callable.
        send: The server's send callable.

    Raises:
        ValueError: The scope is of another type.

    Attributes:
        scope: The connection scope.
        client_state: How far the server says the client is.
        application_state: How far the application is.
        accepted_subprotocol: The subprotocol that was accepted, or None.

    Spec: ASGI, "WebSocket" and "Websocket Denial Response".
    """

    # Mapping leaves no instance dict, so neither do we; a socket can be in a
    # WeakSet all the same.
    __slots__ = (
        "__weakref__",
        "_base_url",
        "_cleaning",
        "_cleanups",
        "_cookies",
        "_ended",
        "_headers",
        "_left",
        "_opened_before",
        "_query_params",
        "_receive",
        "_send",
        "_state",
        "_url",
        "accepted_subprotocol",
        "application_state",
        "client_state",
        "scope",
    )

    def __init__(self, scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        if scope.get("type") != "websocket":
            raise ValueError(f"expected a scope of type 'websocket', got {scope.get('type')!r}")
        self.scope = scope
        self._receive = receive
        self._send = send
        self.client_state = _CONNECTING
        self.application_state = _CONNECTING
        self.accepted_subprotocol: str | None = None
        # Built when they are first asked for.
        self._headers: Headers | None = None
        self._query_params: MultiMap | None = None
        self._url: URL | None = None
        self._base_url: URL | None = None
        self._cookies: dict[str, str] | None = None
        self._state: ScopeState | None = None
        # Code and reason of the client's leaving.
        self._left: tuple[int, str] | None = None
        self._cleanups: list[Cleanup] = []
        self._cleaning: asyncio.Task[None] | None = None
        self._ended = False
        # It was open when we got it, and accept() has not been called.
        self._opened_before = False

    @classmethod
    def from_connection(cls, connection: AioBase) -> Self:
        """
        Speak this vocabulary over an open connection of another source.

        So a handler written for ASGI runs under `serve`, on a raw socket, in
        aiohttp, and in a client. Both states are CONNECTED from the start;
        the handler may still call `accept` once, which then sends nothing, and
        `reject` closes. Cleanups run when the connection ends, also if nobody reads.

        Args:
            connection: An open `AioServer` or `AioClient`. It stays usable, but two
                readers cannot wait at once.

        Raises:
            WebSocketRuntimeError: It is not open yet.
        """
        if not isinstance(connection, AioBase):
            raise TypeError(
                f"from_connection() takes an AioServer or AioClient, "
                f"not {type(connection).__name__}"
            )
        if connection.connection_state is State.CONNECTING:
            raise WebSocketRuntimeError(
                "from_connection() takes an open connection, and this one is CONNECTING"
            )
        receive, send = _translate(connection)
        self = cls(_scope_of(connection), receive, send)
        self.client_state = self.application_state = _CONNECTED
        self.accepted_subprotocol = connection.subprotocol
        self._opened_before = True
        connection.add_cleanup(self._connection_ended)
        return self

    # ---------------------------------------------------------------- mapping

    def __getitem__(self, key: str) -> Any:
        return self.scope[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self.scope)

    def __len__(self) -> int:
        return len(self.scope)

    def __eq__(self, other: object) -> bool:
        return self is other

    def __hash__(self) -> int:
        return object.__hash__(self)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.connection_state.name} {self.path}>"

    # ------------------------------------------------------------- the states

    @property
    def connection_state(self) -> WebSocketState:
        """Both states in one: DISCONNECTED as soon as either is."""
        if self.client_state is _DISCONNECTED:
            return _DISCONNECTED
        return self.application_state

    @property
    def connected(self) -> bool:
        """Whether messages can pass; the client's leaving shows only when it is read."""
        return self.connection_state is _CONNECTED

    def _misuse(self, what: str) -> WebSocketRuntimeError:
        """The error of a call that the present state does not allow."""
        state = self.connection_state
        why = _ADVICE[state]
        if state is _DISCONNECTED and self._left is not None:
            why = f"the peer has left with {self._left[0]}, as WebSocketDisconnect has told"
        return WebSocketRuntimeError(f"cannot {what}: the WebSocket is {state.name}: {why}")

    def _not_sendable(self, what: str) -> WebSocketDisconnect | WebSocketRuntimeError:
        """
        The error of a message that cannot be sent now.

        That the client has left while one task was about to send is no misuse.
        """
        if self.client_state is _DISCONNECTED:
            return WebSocketDisconnect(*(self._left or (CloseCode.ABNORMAL_CLOSURE, "")))
        return self._misuse(what)

    # -------------------------------------------------------- what was asked for

    @property
    def path(self) -> str:
        """The path, percent-decoded; "/" when the scope has none."""
        return self.scope.get("path") or "/"

    @property
    def scheme(self) -> str:
        """``"ws"`` or ``"wss"``."""
        return self.scope.get("scheme") or "ws"

    @property
    def url(self) -> URL:
        """
        The whole URL, percent-encoded.

        Its host is that of the Host header field, or else the server's own. A
        port that is the scheme's default is left out. With neither host, it
        begins with the path.
        """
        if self._url is None:
            self._url = self._make_url(_full_path(self.scope), _query(self.scope))
        return self._url

    @property
    def base_url(self) -> URL:
        """The URL of the outermost application: its root path and a slash, no query."""
        if self._base_url is None:
            root = self.scope.get("app_root_path", self.scope.get("root_path")) or ""
            self._base_url = self._make_url(root.rstrip("/") + "/", "")
        return self._base_url

    def _make_url(self, path: str, query: str) -> URL:
        path = quote(path, safe=_PATH_SAFE)
        authority = _authority(self.headers.get("host"), self.scope.get("server"), self.scheme)
        if authority:
            path = f"{self.scheme}://{authority}{path}"
        elif path.startswith("//"):
            # RFC 3986 §4.2: it would be taken for a host.
            path = f"/%2F{path[2:]}"
        return URL(f"{path}?{query}" if query else path)

    @property
    def headers(self) -> Headers:
        """The request's header fields."""
        if self._headers is None:
            self._headers = Headers(
                (name.decode("latin-1"), value.decode("latin-1"))
                for name, value in self.scope.get("headers") or ()
            )
        return self._headers

    @property
    def query_params(self) -> MultiMap:
        """The query's parameters, percent-decoded, several values a name."""
        if self._query_params is None:
            self._query_params = MultiMap(parse_qsl(_query(self.scope), keep_blank_values=True))
        return self._query_params

    @property
    def path_params(self) -> Mapping[str, Any]:
        """What the router has read from the path."""
        params: Mapping[str, Any] = self.scope.get("path_params") or {}
        return params

    @property
    def cookies(self) -> Mapping[str, str]:
        """The request's cookies; see `bearer_token` about trusting them."""
        if self._cookies is None:
            self._cookies = parse_cookies(self.headers.getlist("cookie"))
        return self._cookies

    @property
    def client(self) -> Address | None:
        """The client's address, or None when the server does not know it."""
        address = self.scope.get("client")
        return None if address is None else Address(*address)

    @property
    def subprotocols(self) -> tuple[str, ...]:
        """What the client offers, in its order of preference."""
        offered = self.scope.get("subprotocols")
        # The specification lets it be missing.
        return offered_subprotocols(self.headers) if offered is None else tuple(offered)

    @property
    def subprotocol(self) -> str | None:
        """The same as ``accepted_subprotocol``."""
        return self.accepted_subprotocol

    @property
    def state(self) -> ScopeState:
        """``scope["state"]`` with attributes; it is made when there is none."""
        if self._state is None:
            self._state = ScopeState(self.scope.setdefault("state", {}))
        return self._state

    @property
    def app(self) -> Any:
        """The application object of the framework; `NotInScope` without a framework."""
        return self._added("app", "an ASGI framework")

    @property
    def session(self) -> Any:
        """The session; `NotInScope` without SessionMiddleware."""
        return self._added("session", "SessionMiddleware")

    @property
    def auth(self) -> Any:
        """The credentials; `NotInScope` without AuthenticationMiddleware."""
        return self._added("auth", "AuthenticationMiddleware")

    @property
    def user(self) -> Any:
        """The user; `NotInScope` without AuthenticationMiddleware."""
        return self._added("user", "AuthenticationMiddleware")

    def _added(self, key: str, source: str) -> Any:
        if key not in self.scope:
            raise NotInScope(key, source)
        return self.scope[key]

    def url_for(self, name: str, /, **path_params: Any) -> URL:
        """
        The absolute URL of a route, from the framework's router.

        Args:
            name: The route's name.
            path_params: Values for the parameters of its path.

        Raises:
            WebSocketRuntimeError: The scope has neither a router nor an application.
            Exception: The router knows no such route; the error is its own.
        """
        router = self.scope.get("router") or self.scope.get("app")
        if router is None:
            raise WebSocketRuntimeError(
                "there is no router in the scope: url_for() works inside an application of "
                "Starlette, FastAPI or Lilya, or with scope['router'] set"
            )
        path = router.url_path_for(name, **path_params)
        # The frameworks' paths know whether their route is one of HTTP or of WebSocket.
        if hasattr(path, "make_absolute_url"):
            return URL(str(path.make_absolute_url(base_url=self.base_url)))
        return URL(self.base_url.rstrip("/") + str(path))

    def path_for(self, name: str, /, **path_params: Any) -> URL:
        """The same as `url_for`: Lilya's name for it."""
        return self.url_for(name, **path_params)

    def url_path_for(self, name: str, /, **path_params: Any) -> URL:
        """The same as `url_for`: Lilya's other name for it."""
        return self.url_for(name, **path_params)

    # --------------------------------------------------------- ASGI's messages

    async def receive(self) -> Message:
        """
        Wait for the server's next message, as it is: ``connect``, ``receive``, ``disconnect``.

        Raises:
            WebSocketRuntimeError: ``disconnect`` has come already; or the server
                sent what cannot come now.
            WebSocketDisconnect: The client left before ``connect``.

        Cancellation:
            As the server has it.
        """
        if self.client_state is _DISCONNECTED:
            raise self._misuse("receive")
        message = await self._receive()
        kind = message["type"]
        if self.client_state is _CONNECTING:
            if kind == "websocket.connect":
                self.client_state = _CONNECTED
            elif kind == "websocket.disconnect":
                raise await self._leave(message)
            else:
                raise WebSocketRuntimeError(f"expected 'websocket.connect', got {kind!r}")
        elif kind == "websocket.disconnect":
            await self._leave(message)
        elif kind != "websocket.receive":
            raise WebSocketRuntimeError(
                f"expected 'websocket.receive' or 'websocket.disconnect', got {kind!r}"
            )
        return message

    async def send(self, message: Message) -> None:
        """
        Send a message to the server, as it is, if it may come now.

        Args:
            message: ``websocket.accept``, ``websocket.send``, ``websocket.close``,
                ``websocket.http.response.start`` or ``websocket.http.response.body``.

        Raises:
            WebSocketRuntimeError: It may not come now; nothing was sent.
            WebSocketDisconnect: The client has left; 1006 if it is noticed only now.

        Cancellation:
            As the server has it: the message may have been sent.
        """
        if not isinstance(message, Mapping):
            raise TypeError(
                f"send() takes a message of ASGI, which is a mapping, not "
                f"{type(message).__name__}; use send_text(), send_bytes() or send_json()"
            )
        kind = message["type"]
        state = self.application_state
        if state is _DISCONNECTED or self.client_state is _DISCONNECTED:
            raise self._not_sendable(f"send {kind!r}")
        after = _STEPS[state].get(kind)
        if after is None:
            raise WebSocketRuntimeError(
                f"expected {' or '.join(map(repr, _STEPS[state]))}, got {kind!r}: "
                f"the WebSocket is {state.name}: {_ADVICE[state]}"
            )
        if after is _RESPONSE and not self._has_denial:
            raise WebSocketRuntimeError(
                f"the server does not have the extension {_DENIAL!r}; use reject(), which "
                f"does without it if need be"
            )
        if state is _RESPONSE and message.get("more_body", False):
            after = _RESPONSE
        if kind == "websocket.accept":
            self.accepted_subprotocol = message.get("subprotocol")
        # Before it is sent: another task must not send a second Close meanwhile.
        self.application_state = after
        try:
            await self._send(message)
        except (OSError, WebSocketDisconnect) as exc:
            await self._lose(exc)
        finally:
            if after is _DISCONNECTED:
                await self._finish()

    async def _message(self) -> Message:
        """The next ``websocket.receive``: `receive` for the readers below."""
        if self.application_state is not _CONNECTED or self.client_state is _DISCONNECTED:
            raise self._misuse("receive")
        message = await self._receive()
        kind = message["type"]
        if kind == "websocket.receive":
            return message
        if kind == "websocket.disconnect":
            raise await self._leave(message)
        raise WebSocketRuntimeError(
            f"expected 'websocket.receive' or 'websocket.disconnect', got {kind!r}"
        )

    async def _deliver(self, message: Message) -> None:
        """A ``websocket.send``: `send` for the writers below."""
        if self.application_state is not _CONNECTED or self.client_state is _DISCONNECTED:
            raise self._not_sendable("send")
        try:
            await self._send(message)
        except (OSError, WebSocketDisconnect) as exc:
            await self._lose(exc)

    async def _leave(self, message: Message) -> WebSocketDisconnect:
        """The server says that the client has left; gives the error that says so."""
        code = message.get("code")
        error = WebSocketDisconnect(1000 if code is None else code, message.get("reason"))
        self.client_state = _DISCONNECTED
        self._left = (error.code, error.reason)
        await self._finish()
        return error

    async def _lose(self, exc: OSError | WebSocketDisconnect) -> NoReturn:
        """The server's send() failed (ASGI 2.4: OSError), because the client has gone."""
        self.client_state = self.application_state = _DISCONNECTED
        if isinstance(exc, WebSocketDisconnect):
            error = exc
        else:
            error = WebSocketDisconnect(*(self._left or (CloseCode.ABNORMAL_CLOSURE, "")))
        self._left = (error.code, error.reason)
        await self._finish()
        if error is exc:
            raise error
        raise error from exc

    # ------------------------------------------------------------------- life

    async def accept(
        self, subprotocol: str | None = None, headers: HeadersLike | None = None
    ) -> None:
        """
        Accept the client.

        Waits for ``websocket.connect`` first, unless `receive` has given it out.

        Args:
            subprotocol: One of `subprotocols`, or None.
            headers: Header fields to add to the response: a mapping, or pairs of
                ``str`` or ``bytes``.

        Raises:
            ValueError: The client did not offer *subprotocol*, or a header field
                could smuggle another; nothing was sent.
            WebSocketRuntimeError: It has been accepted, refused or closed before.
            WebSocketDisconnect: The client has left.

        Cancellation:
            As the server has it. Before ``websocket.connect`` came, nothing was sent.

        Spec: RFC 6455 §4.2.2; ASGI, "Accept".
        """
        if subprotocol is not None and subprotocol not in self.subprotocols:
            raise ValueError(
                f"the client did not offer subprotocol {subprotocol!r}, "
                f"but {', '.join(self.subprotocols) or 'none'}"
            )
        fields = byte_pairs(header_pairs(headers))
        if self._opened_before and self.connected:
            self._check_response(subprotocol, fields)
            self._opened_before = False
            return
        if self.application_state is not _CONNECTING:
            raise self._not_sendable("accept")
        if self.client_state is _CONNECTING:
            await self.receive()
        await self.send({"type": "websocket.accept", "subprotocol": subprotocol, "headers": fields})

    def _check_response(self, subprotocol: str | None, fields: list[tuple[bytes, bytes]]) -> None:
        """What accept() asks for, in a response that was sent before, must be there already."""
        if subprotocol not in (None, self.accepted_subprotocol):
            raise WebSocketRuntimeError(
                f"the connection was opened with subprotocol {self.accepted_subprotocol!r}, not "
                f"{subprotocol!r}; choose it where it is opened: serve(subprotocols=...)"
            )
        if fields:
            raise WebSocketRuntimeError(
                "the connection is open, and header fields cannot be added to its response; "
                "add them where it is opened: serve(extra_headers=...)"
            )

    async def close(self, code: int = 1000, reason: str | None = None) -> None:
        """
        Close the connection, in whatever state it is, and run the cleanups.

        A client that has not been accepted is refused (HTTP 403; a browser sees
        1006 and no code, see `reject`). After the end it does nothing.

        Args:
            code: The close code.
            reason: The close reason, up to 123 bytes of UTF-8.

        Raises:
            ValueError: The code must not be sent, or the reason is too long.

        Cancellation:
            As the server has it; the connection counts as closed, and the
            cleanups run.

        Spec: RFC 6455 §7.1, §7.4; ASGI, "Close".
        """
        close = check_close(code, reason or "")
        state = self.application_state
        if state is _DISCONNECTED or self.client_state is _DISCONNECTED:
            self.application_state = _DISCONNECTED
            await self._finish()
            return
        message: Message = {
            "type": "websocket.close",
            "code": close.code,
            "reason": close.reason,
        }
        if state is _RESPONSE:  # an answer of HTTP is on its way, and can only be finished
            message = {"type": f"{_DENIAL}.body", "body": b"", "more_body": False}
        with contextlib.suppress(WebSocketDisconnect):
            await self.send(message)

    async def reject(
        self,
        code: int = 1008,
        reason: str = "",
        *,
        status: int = 403,
        headers: HeadersLike | None = None,
        body: bytes | str = b"",
        visible: bool = False,
    ) -> None:
        """
        Refuse the client instead of accepting it.

        It is answered with *status*, *headers* and *body* if the server has the
        denial response extension, and with a bare 403 if not. A page in a browser
        sees neither, only 1006; with *visible* it sees *code* and *reason*,
        because the connection is opened for them.

        Args:
            code: The close code; for servers that look at it, and for *visible*.
            reason: The close reason, up to 123 bytes of UTF-8.
            status: The HTTP status, 200 to 599.
            headers: Header fields of the answer.
            body: Its body; text is sent as UTF-8.
            visible: Accept, and close at once.

        Raises:
            ValueError: A code, reason, status or header field that cannot be sent.
            WebSocketRuntimeError: The client has been accepted already.

        Cancellation:
            As the server has it: the answer may have been sent.

        Spec: ASGI, "Websocket Denial Response".
        """
        close = check_close(code, reason or "")
        answer = Response(status, () if headers is None else headers, body)
        fields, content = check_response(answer)
        if self._opened_before:
            await self.close(close.code, close.reason)
        if self.connection_state is _DISCONNECTED:
            return
        if self.application_state is not _CONNECTING:
            raise self._misuse("reject")
        with contextlib.suppress(WebSocketDisconnect):
            if visible:
                # A browser that offered subprotocols fails the connection if none
                # is chosen, and its page would see 1006 again.
                await self.accept(next(iter(self.subprotocols), None))
                await self.close(close.code, close.reason)
            elif self._has_denial:
                if status not in (204, 304):  # RFC 9110 §8.6
                    fields.append(("Content-Length", str(len(content))))
                await self.send(
                    {"type": f"{_DENIAL}.start", "status": status, "headers": byte_pairs(fields)}
                )
                await self.send({"type": f"{_DENIAL}.body", "body": content, "more_body": False})
            else:
                await self.close(close.code, close.reason)

    async def deny(
        self, status: int = 403, headers: HeadersLike | None = None, body: bytes | str = b""
    ) -> None:
        """Refuse the client with an HTTP answer, or a bare 403 where there is none: `reject`."""
        await self.reject(status=status, headers=headers, body=body)

    @property
    def _has_denial(self) -> bool:
        return _DENIAL in (self.scope.get("extensions") or ())

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.close(code_behind(error, WebSocketDisconnect))

    # --------------------------------------------------------------- cleanups

    def add_cleanup(self, function: Cleanup) -> None:
        """
        Call *function* once when the connection ends: closed, left by the client, or lost.

        It may be a plain or a coroutine function without parameters. All run, in
        the order in which they were added; one that fails is logged and keeps none
        of the others from running. After the end it runs at once.

        ASGI tells of the client's leaving only to a reader. ``async with`` makes
        sure that the end is noticed in the end.
        """
        self._cleanups.append(function)
        if self._ended:
            self._begin_cleaning()

    async def _finish(self) -> None:
        """The connection has ended: run the cleanups, even if we are cancelled meanwhile."""
        self._ended = True
        self._begin_cleaning()
        cleaning = self._cleaning
        if cleaning is None or cleaning.done() or CLEANING.get():
            return
        await asyncio.shield(cleaning)

    def _begin_cleaning(self) -> None:
        if self._cleanups and (self._cleaning is None or self._cleaning.done()):
            self._cleaning = asyncio.ensure_future(self._clean())

    async def _connection_ended(self) -> None:
        # In the connection's own task for cleanups. In one of ours, a cleanup that
        # closes the connection would wait for itself.
        self._cleaning = asyncio.current_task()
        self._ended = True
        await self._clean()

    async def _clean(self) -> None:
        await run_cleanups(self._cleanups, _logger)

    # --------------------------------------------------------------- messages

    async def receive_text(self) -> str:
        """
        Wait for a text message.

        Raises:
            UnexpectedMessage: It is binary; the error, a TypeError, has it as ``.message``.
            WebSocketDisconnect: The client has left.
            WebSocketRuntimeError: Not accepted yet, closed, or told before that
                the client has left.

        Cancellation:
            As the server has it.

        Spec: ASGI, "Receive" and "Disconnect".
        """
        message = await self._message()
        # Both keys may be there, one of them None.
        text: str | None = message.get("text")
        if text is None:
            raise _unexpected(message.get("bytes"))
        return text

    async def receive_bytes(self) -> bytes:
        """Wait for a binary message; the counterpart of `receive_text`."""
        message = await self._message()
        data: bytes | None = message.get("bytes")
        if data is None:
            raise _unexpected(message.get("text"))
        return data

    async def receive_json(self, mode: Mode = "text") -> Any:
        """
        Wait for a message and decode it as JSON.

        Args:
            mode: ``"text"`` or ``"binary"``: the kind of message.

        Raises:
            ValueError: It is not JSON; that error is the decoder's own.
            UnexpectedMessage, WebSocketDisconnect: See `receive_text`.
            WebSocketRuntimeError: There is no such mode; or see `receive_text`.
        """
        check_mode(mode)
        if mode == "text":
            return load_json(await self.receive_text())
        return load_json(await self.receive_bytes())

    async def receive_typed(self) -> Any:
        """
        Wait for a text message and decode it as typed text.

        Behind ``::TYTX`` or ``::JS``, strings such as ``"100.50::D"`` become what
        they were; without a marker it is plain JSON.

        Raises:
            ValueError: It is not JSON, or a typed string is malformed.
            ImportError: It is ``::JS``, and genro-tytx is not installed.
            UnexpectedMessage, WebSocketDisconnect, WebSocketRuntimeError: See
                `receive_text`.
        """
        return load_typed(await self.receive_text())

    async def send_text(self, data: str) -> None:
        """
        Send a text message.

        Raises:
            TypeError: *data* is not ``str``; nothing was sent.
            WebSocketDisconnect: The client has left; 1006 if it is noticed only now.
            WebSocketRuntimeError: Not accepted yet, or closed.

        Cancellation:
            As the server has it: the message may have been sent.

        Spec: ASGI, "Send".
        """
        if not isinstance(data, str):
            raise TypeError(
                f"send_text() takes str, not {type(data).__name__}; "
                + (
                    "use send_bytes()"
                    if isinstance(data, (bytes, bytearray))
                    else "use send_json()"
                )
            )
        await self._deliver({"type": "websocket.send", "text": data})

    async def send_bytes(self, data: bytes | bytearray | memoryview) -> None:
        """Send a binary message; TypeError if *data* is not bytes-like. See `send_text`."""
        if not isinstance(data, bytes):
            if not isinstance(data, (bytearray, memoryview)):
                raise TypeError(
                    f"send_bytes() takes bytes, not {type(data).__name__}; see send_text()"
                )
            data = bytes(data)
        await self._deliver({"type": "websocket.send", "bytes": data})

    async def send_json(self, data: Any, mode: Mode = "text") -> None:
        """
        Send *data* as JSON, compact, in a text message (or a binary one).

        Raises:
            TypeError: *data* cannot be encoded; nothing was sent.
            WebSocketRuntimeError: There is no such mode; or see `send_text`.
            WebSocketDisconnect: See `send_text`.
        """
        check_mode(mode)
        text = dump_json(data)
        if mode == "text":
            await self.send_text(text)
        else:
            await self.send_bytes(text.encode("utf-8"))

    async def send_typed(self, data: Any, dialect: Dialect = "TYTX") -> None:
        """
        Send *data* as typed text: JSON in which a Decimal, a date, a datetime or a time survives.

        Args:
            data: Usually a dictionary.
            dialect: ``"TYTX"``, or ``"JS"`` for peers that use genro-tytx.

        Raises:
            TypeError: *data* cannot be encoded; nothing was sent.
            ValueError: A string of it would be read as a typed value, or there is
                no such dialect.
            ImportError: It is ``"JS"``, and genro-tytx is not installed.
            WebSocketDisconnect, WebSocketRuntimeError: See `send_text`.
        """
        await self.send_text(dump_typed(data, dialect))

    def __aiter__(self) -> AsyncIterator[str]:
        """Text messages until the end; see `iter_text`."""
        return self.iter_text()

    async def iter_text(self) -> AsyncIterator[str]:
        """
        Text messages until the client leaves, or the application closes.

        Raises:
            UnexpectedMessage: A message is binary; the error has it as ``.message``.
            WebSocketRuntimeError: Not accepted yet.
        """
        with contextlib.suppress(WebSocketDisconnect):
            while self.connection_state is not _DISCONNECTED:
                yield await self.receive_text()

    async def iter_bytes(self) -> AsyncIterator[bytes]:
        """Binary messages until the end; the counterpart of `iter_text`."""
        with contextlib.suppress(WebSocketDisconnect):
            while self.connection_state is not _DISCONNECTED:
                yield await self.receive_bytes()

    async def iter_json(self, mode: Mode = "text") -> AsyncIterator[Any]:
        """Decoded JSON until the end; see `iter_text` and `receive_json`."""
        with contextlib.suppress(WebSocketDisconnect):
            while self.connection_state is not _DISCONNECTED:
                yield await self.receive_json(mode)


class WebSocketClose:
    """
    An ASGI application that refuses every WebSocket: the end of a router's list, say.

    Args:
        code: The close code.
        reason: The close reason, up to 123 bytes of UTF-8.

    Raises:
        ValueError: The code must not be sent, or the reason is too long.
    """

    def __init__(self, code: int = 1000, reason: str | None = None) -> None:
        close = check_close(code, reason or "")
        self.code = close.code
        self.reason = close.reason

    async def __call__(self, scope: Mapping[str, Any], receive: Receive, send: Send) -> None:
        await send({"type": "websocket.close", "code": self.code, "reason": self.reason})


def _unexpected(message: str | bytes | None) -> Exception:
    if message is None:
        return WebSocketRuntimeError("the server sent a 'websocket.receive' without a message")
    return UnexpectedMessage(message)


# ---------------------------------------------------------------------- URLs

# RFC 3986 §3.3, §3.4: what stays as it is. In a query, that which is encoded
# already does as well, and what lenient clients leave alone.
_PATH_SAFE = "/:@!$&'()*+,;="
_QUERY_SAFE = _PATH_SAFE + "?%[]{}|\\^`"

_HOST = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[\w.~!$&'()*+,;=%-]+)(?::\d*)?", re.ASCII)
_PORTS = {"ws": 80, "http": 80, "wss": 443, "https": 443}


def _full_path(scope: Mapping[str, Any]) -> str:
    """
    The path with the root path in front.

    By ASGI's specification ``path`` has it already. Servers and proxies that
    predate its clarification leave it out.
    """
    path: str = scope.get("path") or "/"
    root: str = (scope.get("root_path") or "").rstrip("/")
    if not root or path == root or path.startswith(f"{root}/"):
        return path
    return f"{root}/{path.removeprefix('/')}"


def _query(scope: Mapping[str, Any]) -> str:
    return quote(scope.get("query_string") or b"", safe=_QUERY_SAFE)


def _authority(host: str | None, server: Any, scheme: str) -> str:
    """
    Host and port of a URL.

    Args:
        host: The Host header field: what the client, or a proxy, calls us.
        server: The scope's (host, port); (path, None) of a Unix socket.
        scheme: The scheme, whose default port is left out.
    """
    candidates = [host or ""]
    if server is not None and server[1] is not None:
        name, port = server
        candidates.append(f"[{name}]:{port}" if ":" in name else f"{name}:{port}")
    for candidate in candidates:
        match = _HOST.fullmatch(candidate)
        if match is None:
            continue
        try:
            given = URL(f"//{candidate}").port
        except ValueError:  # not an address in brackets, or no such port
            continue
        named = given is not None and given != _PORTS.get(scheme)
        return f"{match[1]}:{given}" if named else match[1]
    return ""


# ------------------------------------------------- over a connection of ours


def _translate(connection: AioBase) -> tuple[Receive, Send]:
    """An open connection, as the two callables of an ASGI server."""

    async def receive() -> Message:
        try:
            data = await connection.receive(None)
        except ConnectionClosed as exc:
            return {"type": "websocket.disconnect", "code": exc.code, "reason": exc.reason}
        kind = "text" if isinstance(data, str) else "bytes"
        return {"type": "websocket.receive", kind: data}

    async def send(message: Message) -> None:
        if message["type"] == "websocket.close":
            await connection.close(message.get("code", 1000), message.get("reason") or "")
            return
        text = message.get("text")
        await connection.send(message["bytes"] if text is None else text)

    return receive, send


def _scope_of(connection: AioBase) -> dict[str, Any]:
    request = connection.request
    client, server = connection.remote_address, connection.local_address
    if hasattr(connection, "url"):  # an AioClient: we are the client
        client, server = server, client
    link = connection._link
    scheme = "ws" if link.get_extra_info("ssl_object") is None else "wss"
    return {
        "type": "websocket",
        "asgi": {"version": "3.0", "spec_version": "2.4"},
        "http_version": "1.1",
        "scheme": link.get_extra_info("scheme") or scheme,  # an ASGI server knows it
        "path": request.path,
        "raw_path": request.target.partition("?")[0].encode("latin-1"),
        "query_string": request.query.encode("latin-1"),
        "root_path": "",
        "headers": byte_pairs(request.headers.multi_items()),
        "client": _host_and_port(client),
        "server": _host_and_port(server),
        "subprotocols": list(request.subprotocols),
        "state": {},
        "extensions": {},
    }


def _host_and_port(address: Any) -> tuple[str, int] | None:
    """IPv6 has four parts, a Unix socket a path, which is no (host, port)."""
    return (address[0], address[1]) if isinstance(address, tuple) else None
