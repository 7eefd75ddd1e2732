"""AioServer: the server's end of a connection, whatever accepted it."""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import socket
import warnings
from collections.abc import Awaitable, Sequence
from typing import Any, TypeVar, Unpack

from .connection import AioBase
from .errors import ConnectionError, ConnectTimeout
from .link.aiohttp import AiohttpSource
from .link.asgi import ASGISource
from .link.options import OptionArgs, make_options, subprotocol_list
from .link.sources import (
    TOO_SLOW,
    Gone,
    SocketSource,
    Source,
    Streams,
    StreamSource,
    request_from_headers,
)
from .opening import Opening
from .origins import Origins, check_origin, check_rules
from .protocol.handshake import Refusal, check_answer, check_response
from .types import HandshakeRequest, Headers, HeadersLike, Response, header_pairs

__all__ = ["AioServer"]

S = TypeVar("S", bound="AioServer")


class AioServer(AioBase):
    """
    The server's end of a WebSocket. Make it with `accept`, or get it from `serve`.

    Args:
        request: What the client asked for.
        subprotocols: What we speak, best first: one name or several.
        receive_bytes: Bytes of the first reads; they grow while they are filled.
        ping_interval: Seconds between pings; None for none.
        max_message_size: Bytes a message may have, after inflating; None for
            no limit.
        options: See `OptionArgs`.

    Attributes:
        response: What an aiohttp handler may return; None with the other sources.
    """

    def __init__(
        self,
        request: HandshakeRequest,
        subprotocols: str | Sequence[str] | None = None,
        receive_bytes: int = 4096,
        ping_interval: float | None = None,
        max_message_size: int | None = None,
        **options: Unpack[OptionArgs],
    ) -> None:
        super().__init__(
            make_options(
                "AioServer",
                receive_bytes=receive_bytes,
                ping_interval=ping_interval,
                max_message_size=max_message_size,
                **options,
            )
        )
        self.request = request
        self.headers = request.headers
        self.subprotocols = subprotocol_list(subprotocols)
        self.response: Any = None

    def choose_subprotocol(self, request: HandshakeRequest) -> str | Awaitable[str | None] | None:
        """
        Choose a subprotocol; override it, as a plain or a coroutine method.

        Args:
            request: The request, the same in every source.

        Returns:
            One of ``request.subprotocols``, or None. By default the first of
            the client's that we speak.
        """
        for name in request.subprotocols:
            if name in self.subprotocols:
                return name
        return None

    @classmethod
    def accept(
        cls: type[S],
        aiohttp: Any = None,
        asgi: Any = None,
        sock: socket.socket | None = None,
        headers: HeadersLike | None = None,
        subprotocols: str | Sequence[str] | None = None,
        receive_bytes: int = 4096,
        ping_interval: float | None = None,
        max_message_size: int | None = None,
        *,
        stream: Streams | None = None,
        origins: Origins = None,
        extra_headers: HeadersLike | None = None,
        **options: Unpack[OptionArgs],
    ) -> Opening[S]:
        """
        Accept a WebSocket from one of several sources.

        ``ws = await AioServer.accept(...)``, or ``async with`` to close it at
        the end of the block.

        Args:
            aiohttp: A request of ``aiohttp.web``, inside its handler. The handler
                may return ``ws.response``, or anything else: the request has
                been answered. When it returns, the connection is closed.
            asgi: ``(scope, receive, send)``, or a WebSocket object that has them
                (ours, Starlette's, FastAPI's, Lilya's), accepted or not.
            sock: A connected socket, blocking or not; it becomes ours.
            headers: The request's header fields, if they have been read from
                *sock* already; else we read the request.
            subprotocols: What we speak, best first: one name or several.
            receive_bytes: Bytes of the first reads; they grow while they are filled.
            ping_interval: Seconds between pings; None for none. ASGI has no
                pings: there it warns, and names the server's own option.
            max_message_size: Bytes a message may have, after inflating; None
                for no limit (inflating stays bounded to 64 MiB). Under ASGI the
                server has read the whole message before it is looked at.
            stream: ``(reader, writer)`` of asyncio, TLS or not; we read the request.
            origins: Allowed ``Origin`` values: strings or compiled patterns,
                None among them for a missing one; ``"*"`` or None for any.
            extra_headers: Header fields to add to the response.
            options: See `OptionArgs`.

        Raises:
            ValueError: Not exactly one source; a header field that could
                smuggle another; a subprotocol that was not offered.
            ConnectionError: The request was refused (``.status_code`` is what
                the client got) or the client left.
            ConnectTimeout: No request within ``open_timeout``.

        Cancellation:
            The source is closed.

        Spec: RFC 6455 §4.2, ASGI's WebSocket connection scope.
        """
        check_rules(origins)
        source = _source("accept", aiohttp, asgi, sock, headers, stream)
        added = header_pairs(extra_headers)

        def make(request: HandshakeRequest) -> S:
            return cls(
                request,
                subprotocols,
                receive_bytes,
                ping_interval,
                max_message_size,
                **options,
            )

        timeout = options.get("open_timeout", 10)
        # Checks the options before anything is read.
        make(_EMPTY)
        if asgi is not None and ping_interval is not None:
            warnings.warn(_NO_PINGS, stacklevel=2)
        return Opening(_accept(make, source, origins, added, timeout), f"{cls.__name__}.accept")

    @staticmethod
    async def reject(
        aiohttp: Any = None,
        asgi: Any = None,
        sock: socket.socket | None = None,
        headers: HeadersLike | None = None,
        *,
        stream: Streams | None = None,
        status: int = 403,
        extra_headers: HeadersLike | None = None,
        body: bytes | str = b"",
        open_timeout: float | None = 10,
    ) -> None:
        """
        Answer a client with plain HTTP instead of a WebSocket.

        A browser's page sees no more than that the connection failed, with 1006.
        To let it see a close code, accept and close.

        Args:
            aiohttp, asgi, sock, headers, stream: As in `accept`. An ASGI server
                without the extension ``websocket.http.response`` answers with
                403, whatever *status* is.
            status: The HTTP status, 200 to 599.
            extra_headers: Header fields of the answer.
            body: Its body; text is sent as UTF-8.
            open_timeout: Seconds for the request to come, which is read first.

        Raises:
            ValueError, TypeError: Not exactly one source; a status or header
                field that cannot be sent.

        Cancellation:
            The source is closed.
        """
        source = _source("reject", aiohttp, asgi, sock, headers, stream)
        response = Response(status, header_pairs(extra_headers), body)
        check_response(response)
        try:
            async with asyncio.timeout(open_timeout):
                with contextlib.suppress(Refusal):  # it is refused anyway
                    await source.request()
            await source.refuse(response)
        except (Gone, TimeoutError):
            source.abort()
        except BaseException:
            source.abort()
            raise

    async def _open(self, source: Source, extra_headers: Sequence[tuple[str, str]]) -> None:
        """
        Accept the request of *source*, which has passed every check.

        Args:
            source: Where it came from.
            extra_headers: Checked pairs to add to the response.
        """
        if source.accepted:
            self.subprotocol = source.subprotocol
        else:
            choice = self.choose_subprotocol(self.request)
            if choice is not None:  # to look closer takes 1 µs
                choice = await choice if inspect.isawaitable(choice) else choice
            self.subprotocol = choice
            check_answer(self.request, self.subprotocol, extra_headers)
        link = await source.open(self.request, self.subprotocol, extra_headers, self._options)
        self.response = source.response
        self._attach(link, "server")


_EMPTY = HandshakeRequest("", "/", Headers())

_NO_PINGS = (
    "ping_interval has no effect under ASGI, which has no pings: the server sends them. Set "
    "uvicorn's --ws-ping-interval, hypercorn's websocket_ping_interval, daphne's --ping-interval"
)


def _source(
    caller: str,
    aiohttp: Any,
    asgi: Any,
    sock: socket.socket | None,
    headers: HeadersLike | None,
    stream: Streams | None,
) -> Source:
    """The one source that was given."""
    sources = {"aiohttp": aiohttp, "asgi": asgi, "sock": sock, "stream": stream}
    given = [name for name, source in sources.items() if source is not None]
    if len(given) != 1:
        what = " and ".join(f"{name}=" for name in given) or "none of them"
        raise ValueError(
            f"{caller}() takes exactly one of aiohttp=, asgi=, sock= and stream=; got {what}"
        )
    if headers is not None and sock is None:
        raise ValueError("headers= is the request of sock=; add fields with extra_headers=")
    if aiohttp is not None:
        return AiohttpSource(aiohttp)
    if asgi is not None:
        return ASGISource(asgi)
    if stream is not None:
        return StreamSource(stream)
    assert sock is not None
    return SocketSource(sock, None if headers is None else request_from_headers(headers, None))


async def _accept(
    make: Any,
    source: Source,
    origins: Origins,
    extra_headers: Sequence[tuple[str, str]],
    timeout: float | None,
) -> Any:
    """Take the request of *source*, apply our policy, and open."""
    deadline = asyncio.timeout(timeout)
    try:
        async with deadline:
            request = await source.request()
            check_origin(request, origins, guard_cookies=False)
            ws = make(request)
            await ws._open(source, extra_headers)
            return ws
    except Refusal as exc:
        await source.refuse(exc.response)
        raise ConnectionError(
            f"refused a client with HTTP {exc}", status_code=exc.response.status
        ) from exc
    except Gone as exc:
        source.abort()
        raise ConnectionError(f"the client opened no WebSocket: {exc}") from exc
    except BaseException as exc:
        if deadline.expired() and isinstance(exc, TimeoutError):
            await source.refuse(TOO_SLOW)
            raise ConnectTimeout(
                f"the client sent no request within {timeout} s",
                status_code=TOO_SLOW.status,
            ) from None
        source.abort()
        raise
