"""How a socket or a pair of streams becomes a request and a link; `Source` is their shape.

Only what is true of one source stands here, and of the hosts in `aiohttp` and
`asgi`. Policy (origins, subprotocols, limits, errors) is above, in server.py and
client.py.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
from collections.abc import Sequence
from typing import Any, Protocol

from ..protocol.handshake import (
    MAX_HEAD,
    MAX_LINE,
    Refusal,
    accept_request,
    check_upgrade,
    parse_request,
    parse_tokens,
    serialize_response,
)
from ..types import HandshakeRequest, Headers, HeadersLike, Response, header_pairs
from .base import Link
from .options import Options
from .transports import Writer, secured
from .wire import WireLink

__all__ = [
    "TOO_SLOW",
    "Gone",
    "NotHTTP",
    "SocketSource",
    "Source",
    "StreamSource",
    "Streams",
    "answer",
    "end_of_head",
    "ended",
    "no_delay",
    "read_head",
    "read_request",
    "refuse",
    "request_from_headers",
    "streams_of_socket",
    "tunnel_over_tls",
]

Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]

# Seconds that a refused client's bytes are read and dropped.
_LINGER = 0.9
# An answer is written in pieces of so many bytes, each within so many seconds.
_PIECE = 65536
_STALLED = 10


class Gone(Exception):
    """The peer went away before a head was complete."""


class Source(Protocol):
    """
    A client that asks for a WebSocket, wherever it comes from.

    Attributes:
        response: What the handler returns to its host, or None if the host wants nothing.
        accepted: Whether the application has accepted it before it came to us.
        subprotocol: The subprotocol that it was accepted with.
    """

    @property
    def response(self) -> Any: ...

    @property
    def accepted(self) -> bool: ...

    @property
    def subprotocol(self) -> str | None: ...

    async def request(self) -> HandshakeRequest:
        """
        The request, which is one for a WebSocket.

        Raises:
            Refusal: It is not acceptable.
            Gone: The client has left.
        """
        ...

    async def open(
        self,
        request: HandshakeRequest,
        subprotocol: str | None,
        extra_headers: Sequence[tuple[str, str]],
        options: Options,
    ) -> Link:
        """
        Accept, with checked header fields and a subprotocol that was offered.

        Raises:
            Gone: The client has left.
        """
        ...

    async def refuse(self, response: Response) -> None:
        """Answer with plain HTTP instead."""
        ...

    def abort(self) -> None:
        """Drop the client, as far as that is ours to do."""
        ...


class StreamSource:
    """
    A pair of asyncio streams.

    Args:
        streams: Where the request comes from.
    """

    response: Any = None
    accepted = False
    subprotocol: str | None = None

    def __init__(self, streams: Streams) -> None:
        self._streams = streams
        # Of a socket it may have been read already; who did answers for its key.
        self._request: HandshakeRequest | None = None
        self._early = b""  # what came behind it

    async def request(self) -> HandshakeRequest:
        """Read the request."""
        reader, writer = self._streams
        no_delay(writer.get_extra_info("socket"))
        request = self._request
        if request is None:
            request, self._early = await read_request(reader, writer)
        else:
            request = request.with_address(writer.get_extra_info("peername"))
        # A caller that read the request answers for its key (it may even have
        # made one up, as examples do).
        check_upgrade(request, strict_key=self._request is None)
        return request

    async def open(
        self,
        request: HandshakeRequest,
        subprotocol: str | None,
        extra_headers: Sequence[tuple[str, str]],
        options: Options,
    ) -> Link:
        """Answer with 101 and take the transport over."""
        reader, writer = self._streams
        answer = accept_request(request, subprotocol, options.deflate, extra_headers)
        writer.write(answer.head)
        return await WireLink.take_over(
            reader,
            writer,
            server=True,
            options=options,
            agreement=answer.agreement,
            early=self._early,
        )

    async def refuse(self, response: Response) -> None:
        """Answer and close."""
        await refuse(self._streams, response)

    def abort(self) -> None:
        """Drop the connection."""
        self._streams[1].transport.abort()


class SocketSource(StreamSource):
    """
    A connected socket that somebody else accepted.

    Args:
        sock: The socket.
        request: Its request, if it has been read already.
    """

    def __init__(self, sock: socket.socket, request: HandshakeRequest | None = None) -> None:
        self._sock = sock
        self._request = request
        self._early = b""

    async def request(self) -> HandshakeRequest:
        """Make streams of it, and read the request."""
        self._streams = await streams_of_socket(self._sock)
        return await super().request()

    def abort(self) -> None:
        """Drop the connection."""
        if hasattr(self, "_streams"):  # else the socket is still its owner's
            super().abort()


async def streams_of_socket(sock: socket.socket) -> Streams:
    """
    Wrap a connected socket that somebody else accepted.

    Raises:
        TypeError: It is no stream socket.
        ValueError: It is a socket of the ``ssl`` module.
    """
    if isinstance(sock, ssl.SSLSocket):
        raise ValueError(
            "sock= takes a plain socket: asyncio does TLS by itself. Use serve(ssl=context), or "
            "asyncio.start_server(..., ssl=context) with AioServer.accept(stream=(reader, writer))"
        )
    if getattr(sock, "type", None) != socket.SOCK_STREAM:
        raise TypeError(f"sock= takes a connected stream socket, not {sock!r}")
    loop = asyncio.get_running_loop()
    sock.setblocking(False)
    reader = asyncio.StreamReader(limit=MAX_HEAD, loop=loop)
    protocol = asyncio.StreamReaderProtocol(reader, loop=loop)
    transport, _ = await loop.connect_accepted_socket(lambda: protocol, sock)
    return reader, asyncio.StreamWriter(transport, protocol, reader, loop)


class _OverTls(asyncio.StreamReaderProtocol):
    """The protocol of streams that are over TLS before they know of their transport."""

    def eof_received(self) -> bool:
        """
        The server has gone, perhaps in the same segment in which its handshake ended.

        TLS cannot end one side alone; asyncio warns of a protocol that asks for it.
        """
        super().eof_received()
        return False


async def tunnel_over_tls(
    streams: Streams, context: ssl.SSLContext, server_hostname: str
) -> Streams:
    """
    Speak TLS, as the client of *server_hostname*, through a proxy's tunnel.

    Raises:
        OSError: As asyncio raises it.

    Cancellation:
        The tunnel is closed.
    """
    loop = asyncio.get_running_loop()
    beneath = streams[1].transport
    reader = asyncio.StreamReader(limit=MAX_HEAD, loop=loop)
    protocol = _OverTls(reader, loop=loop)
    try:
        transport = await secured(beneath, protocol, context, server_hostname)
    except BaseException:
        beneath.abort()
        raise
    protocol.connection_made(transport)
    writer = Writer(transport, protocol, reader, loop)
    writer.beneath = streams
    return reader, writer


def no_delay(sock: Any) -> None:
    """
    Disable Nagle's algorithm; anything but a TCP socket is left alone.

    asyncio does so only for sockets made with ``proto=IPPROTO_TCP``; for others a
    message can wait 40 ms for the peer's delayed acknowledgement.
    """
    if sock is not None:
        # Tried on any socket: to ask for its family takes 1.5 µs more.
        with contextlib.suppress(OSError):
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)


class NotHTTP(Gone):
    """The peer speaks, but not HTTP."""


async def read_head(
    reader: asyncio.StreamReader, early: bytes = b"", *, begins: bytes = b""
) -> tuple[bytes, bytes]:
    """
    Read the head of a request or response.

    Args:
        reader: Where it comes from.
        early: Bytes of it that have been read.
        begins: What a head begins with, as far as that is known.

    Returns:
        The head, up to and with its empty line, and the bytes that came behind it.

    Raises:
        Gone: The stream ended first, or the other side speaks TLS or something else.
        Refusal: 414 or 431, it is too long.
    """
    buffer = bytearray()
    data = early
    while True:
        try:
            data = data or await reader.read(MAX_HEAD)
        except OSError as exc:
            raise Gone(str(exc) or type(exc).__name__) from exc
        if not data:
            raise ended(buffer)
        buffer += data
        end = end_of_head(buffer, len(data), begins)
        if end:
            return bytes(buffer[:end]), bytes(buffer[end:])
        data = b""


def end_of_head(read: bytes | bytearray, new: int, begins: bytes = b"") -> int:
    """
    Look for the end of a head.

    Args:
        read: What has been read so far; something.
        new: How many bytes of it, the last ones, have not been looked at.
        begins: What a head begins with, as far as that is known.

    Returns:
        The head's length with its empty line; 0 if there is more to read.

    Raises:
        Gone: The other side speaks TLS or something else.
        Refusal: 414 or 431, it is too long.
    """
    # RFC 8446 §5.1: a TLS record of a handshake (22) or an alert (21).
    if read[0] in (0x15, 0x16):
        raise Gone("it speaks TLS on a connection without TLS")
    if not begins.startswith(read[: len(begins)]):
        raise NotHTTP(f"it sent {bytes(read[:40])!r}")
    end = read.find(b"\r\n\r\n", max(0, len(read) - new - 3)) + 4
    if 4 <= end <= MAX_HEAD:
        return end
    if len(read) > MAX_LINE and read.find(b"\n", 0, MAX_LINE + 2) < 0:
        raise Refusal(414, f"first line exceeds {MAX_LINE} bytes")
    if len(read) > MAX_HEAD:
        raise Refusal(431, f"head exceeds {MAX_HEAD} bytes")
    return 0


def ended(read: bytes | bytearray) -> Gone:
    """The other side has ended the stream before a head was complete; *read* was there."""
    return Gone(f"it left after {len(read)} bytes" if read else "it left silently")


async def read_request(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter
) -> tuple[HandshakeRequest, bytes]:
    """
    Read a request from a stream.

    Returns:
        The request, and the bytes that came behind it.

    Raises:
        Gone: The stream ended first.
        Refusal: It is not acceptable HTTP/1.1.
    """
    head, early = await read_head(reader)
    return parse_request(head, writer.get_extra_info("peername")), early


def request_from_headers(headers: HeadersLike, remote_address: Any) -> HandshakeRequest:
    """The request of a socket whose head the caller has read; its target is not known."""
    fields = Headers(header_pairs(headers))
    return HandshakeRequest(
        host=fields.get("host", ""),
        target="/",
        headers=fields,
        subprotocols=tuple(parse_tokens(fields.getlist("sec-websocket-protocol"))),
        remote_address=remote_address,
    )


#: The answer to a client whose request does not come in time.
TOO_SLOW = Refusal(408, "no request within the time for it").response


async def refuse(streams: Streams, response: Response) -> None:
    """Answer with plain HTTP and close. See `answer`."""
    await answer(streams, serialize_response(response))


async def answer(streams: Streams, data: bytes) -> None:
    """
    Write a plain HTTP answer and close.

    The peer may take its time to read it, but not stop. It may still be sending;
    what it sends is read and dropped for a moment, so that TCP does not reset the
    connection and take the answer with it.
    """
    reader, writer = streams
    if writer.transport.is_closing():
        return
    # TLS says goodbye behind what it has in buffers of its own.
    goodbye = _LINGER if len(data) <= _PIECE or writer.can_write_eof() else _STALLED
    try:
        # Not 0: over TLS, that would pause an empty buffer.
        writer.transport.set_write_buffer_limits(1, 0)
        for start in range(0, len(data), _PIECE):
            writer.write(data[start : start + _PIECE])
            async with asyncio.timeout(_STALLED):
                await writer.drain()
        async with asyncio.timeout(goodbye):
            if writer.can_write_eof():
                writer.write_eof()
                while await reader.read(65536):
                    pass
            writer.close()
            await writer.wait_closed()
    except (OSError, TimeoutError):
        pass
    finally:
        writer.transport.abort()
