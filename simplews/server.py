"""AioServer: the server's end of a connection, whatever accepted it."""

from __future__ import annotations

import asyncio
import inspect
import socket
from collections.abc import Awaitable, Sequence
from typing import Any, TypeVar, Unpack

from .connection import AioBase
from .errors import ConnectionError, ConnectTimeout
from .link.options import OptionArgs, make_options, subprotocol_list
from .link.sources import (
    TOO_SLOW,
    Gone,
    Streams,
    no_delay,
    read_request,
    refuse,
    request_from_headers,
    streams_of_socket,
)
from .link.wire import WireLink
from .opening import Opening
from .origins import Origins, check_origin, check_rules
from .protocol.handshake import Refusal, accept_request, check_upgrade
from .types import HandshakeRequest, Headers, HeadersLike, header_pairs

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
            aiohttp: A request of ``aiohttp.web``. Not in this version.
            asgi: ``(scope, receive, send)``. Not in this version.
            sock: A connected socket, blocking or not; it becomes ours.
            headers: The request's header fields, if they have been read from
                *sock* already; else we read the request.
            subprotocols: What we speak, best first: one name or several.
            receive_bytes: Bytes of the first reads; they grow while they are filled.
            ping_interval: Seconds between pings; None for none.
            max_message_size: Bytes a message may have, after inflating; None
                for no limit (inflating stays bounded to 64 MiB).
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

        Spec: RFC 6455 §4.2.
        """
        sources = {"aiohttp": aiohttp, "asgi": asgi, "sock": sock, "stream": stream}
        given = [name for name, source in sources.items() if source is not None]
        if len(given) != 1:
            what = " and ".join(f"{name}=" for name in given) or "none of them"
            raise ValueError(
                f"accept() takes exactly one of aiohttp=, asgi=, sock= and stream=; got {what}"
            )
        if headers is not None and sock is None:
            raise ValueError("headers= is the request of sock=; add fields with extra_headers=")
        if given[0] in ("aiohttp", "asgi"):
            raise NotImplementedError(f"accept({given[0]}=...) is not in this version of simplews")
        check_rules(origins)
        ready = None if headers is None else request_from_headers(headers, None)
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
        return Opening(
            _accept(make, sock, stream, ready, origins, added, timeout), f"{cls.__name__}.accept"
        )

    async def _open(
        self,
        streams: Streams,
        early: bytes,
        extra_headers: Sequence[tuple[str, str]],
    ) -> None:
        """
        Answer a request that passed `check_upgrade` with 101, and take over.

        Args:
            streams: Where it came from.
            early: Bytes behind it that have been read.
            extra_headers: Checked pairs to add to the response.
        """
        choice = self.choose_subprotocol(self.request)
        self.subprotocol = await choice if inspect.isawaitable(choice) else choice
        accepted = accept_request(
            self.request, self.subprotocol, self._options.deflate, extra_headers
        )
        reader, writer = streams
        writer.write(accepted.head)
        link = await WireLink.take_over(
            reader,
            writer,
            server=True,
            options=self._options,
            agreement=accepted.agreement,
            early=early,
        )
        self._attach(link, "server")


_EMPTY = HandshakeRequest("", "/", Headers())


async def _accept(
    make: Any,
    sock: socket.socket | None,
    stream: Streams | None,
    request: HandshakeRequest | None,
    origins: Origins,
    extra_headers: Sequence[tuple[str, str]],
    timeout: float | None,
) -> Any:
    """Read the request of *sock* or *stream*, apply our policy, and open."""
    early = b""
    strict = request is None
    if stream is not None:
        streams = stream
        no_delay(streams[1].get_extra_info("socket"))
    else:
        assert sock is not None
        streams = await streams_of_socket(sock)
    reader, writer = streams
    deadline = asyncio.timeout(timeout)
    try:
        async with deadline:
            if request is None:
                request, early = await read_request(reader, writer)
            else:
                request = request.with_address(writer.get_extra_info("peername"))
            # A caller that read the request answers for its key (it may even
            # have made one up, as examples do).
            check_upgrade(request, strict_key=strict)
            check_origin(request, origins, guard_cookies=False)
            ws = make(request)
            await ws._open(streams, early, extra_headers)
            return ws
    except Refusal as exc:
        await refuse(streams, exc.response)
        raise ConnectionError(
            f"refused a client with HTTP {exc}", status_code=exc.response.status
        ) from exc
    except Gone as exc:
        writer.transport.abort()
        raise ConnectionError(f"the client was no WebSocket client: {exc}") from exc
    except BaseException as exc:
        if deadline.expired() and isinstance(exc, TimeoutError):
            await refuse(streams, TOO_SLOW)
            raise ConnectTimeout(f"the client sent no request within {timeout} s") from None
        writer.transport.abort()
        raise
