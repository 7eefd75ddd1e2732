"""The transports of TLS: asyncio's own, or aiofastnet's in their place.

Both speak asyncio's interface; whoever asks for a connection need not know which
it gets.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
from collections.abc import Callable
from typing import Any

from ..protocol.handshake import MAX_HEAD

__all__ = [
    "Writer",
    "can_secure",
    "create_server",
    "create_unix_server",
    "open_connection",
    "secured",
    "streams_over",
    "use_transports",
]

Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]

# The module aiofastnet, if it is to be used.
_other: Any = None

# Transports read up to 256 KiB at a time, those of TLS always. glibc serves that
# with an mmap and a munmap for each read, 10 to 20 µs, until a block of such a size
# was freed once: from then on they come from the heap.
bytes(1 << 19)


def use_transports(module: Any) -> None:
    """Use the functions of *module*, which is aiofastnet, from now on; None for asyncio's."""
    global _other
    _other = module


def _chosen(secure: bool = True) -> Any:
    """
    The module to use, or None.

    Its TLS wins on every loop. Its plain transport was not told from asyncio's or
    uvloop's in CPU time, and takes 5 KiB more a connection. Windows' proactor has
    nothing that it could build on.
    """
    if _other is None or not secure:
        return None
    loop = asyncio.get_running_loop()
    if isinstance(loop, asyncio.BaseEventLoop) and not isinstance(loop, asyncio.SelectorEventLoop):
        return None
    return _other


def can_secure() -> bool:
    """
    Whether a server's plain connections can be `secured`.

    uvloop's transports read before we can ask them for TLS.
    """
    on_asyncio = isinstance(asyncio.get_running_loop(), asyncio.BaseEventLoop)
    return on_asyncio or _chosen() is not None


async def create_server(
    factory: Callable[[], asyncio.Protocol], *, secure: bool, **args: Any
) -> asyncio.Server:
    """
    ``loop.create_server(factory, **args)``.

    Args:
        factory: Makes the protocol of a client.
        secure: Whether its transport will be `secured`.
        args: ``host`` and ``port``, or ``sock``; and options.
    """
    loop = asyncio.get_running_loop()
    module = _chosen(secure)
    if module is None:
        return await loop.create_server(factory, **args)
    server: asyncio.Server = await module.create_server(_Quiet(loop), factory, **args)
    return server


async def create_unix_server(
    factory: Callable[[], asyncio.Protocol], path: str, *, secure: bool, **args: Any
) -> asyncio.Server:
    """``loop.create_unix_server(factory, path, **args)``; see `create_server`."""
    loop = asyncio.get_running_loop()
    module = _chosen(secure)
    if module is None:
        return await loop.create_unix_server(factory, path, **args)
    server: asyncio.Server = await module.create_unix_server(_Quiet(loop), factory, path, **args)
    return server


async def open_connection(sock: socket.socket, limit: int, **secure: Any) -> Streams:
    """
    ``asyncio.open_connection(sock=sock, limit=limit, **secure)``.

    Args:
        sock: A connected socket.
        limit: See `asyncio.StreamReader`.
        secure: ``ssl`` and ``server_hostname``, or nothing.
    """
    module = _chosen(bool(secure))
    if module is None:
        return await asyncio.open_connection(sock=sock, limit=limit, **secure)
    loop = asyncio.get_running_loop()
    reader = asyncio.StreamReader(limit, loop)
    protocol = asyncio.StreamReaderProtocol(reader, loop=loop)
    transport, _ = await module.create_connection(
        _Quiet(loop), lambda: protocol, sock=sock, **secure
    )
    return reader, Writer(transport, protocol, reader, loop)


async def secured(
    transport: asyncio.WriteTransport,
    protocol: asyncio.Protocol,
    context: ssl.SSLContext,
    server_hostname: str | None = None,
) -> asyncio.Transport:
    """``loop.start_tls()``, as the client of *server_hostname*, or as the server."""
    loop = asyncio.get_running_loop()
    module = _chosen()
    options: dict[str, Any] = {"server_side": True}
    if server_hostname is not None:
        options = {"server_hostname": server_hostname}
    if module is None:
        found = await loop.start_tls(transport, protocol, context, **options)
        assert found is not None
        return found
    other: asyncio.Transport = await module.start_tls(
        _Quiet(loop), transport, protocol, context, **options
    )
    return other


class Writer(asyncio.StreamWriter):
    """
    A StreamWriter for any transport.

    When it is forgotten it asks its transport whether that is closed, from the
    thread that happens to collect garbage; aiofastnet's answers its own only.

    Attributes:
        beneath: Streams whose transport this one's runs over: a StreamWriter that
            is forgotten would close it.
    """

    beneath: Streams | None = None

    def __del__(self) -> None:
        # Not in every Python 3.11.
        forgotten = getattr(super(), "__del__", None)
        if forgotten is not None:
            with contextlib.suppress(RuntimeError):
                forgotten()


def streams_over(transport: asyncio.Transport) -> tuple[Streams, asyncio.StreamReaderProtocol]:
    """Streams over a transport that had none, and the protocol that feeds them."""
    loop = asyncio.get_running_loop()
    reader = asyncio.StreamReader(limit=MAX_HEAD, loop=loop)
    protocol = asyncio.StreamReaderProtocol(reader, loop=loop)
    protocol.connection_made(transport)
    return (reader, Writer(transport, protocol, reader, loop)), protocol


class _Quiet:
    """
    A loop, for TLS transports of aiofastnet.

    When the peer leaves during the handshake they raise ConnectionResetError,
    which is all that there is to say. aiofastnet 1.2 tells the loop's exception
    handler as well, with the class for an exception, which logging cannot print.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self.call_soon = loop.call_soon
        self.call_later = loop.call_later
        self.get_debug = loop.get_debug

    def __getattr__(self, name: str) -> Any:
        return getattr(self._loop, name)

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        if context.get("exception") is not ConnectionResetError:
            self._loop.call_exception_handler(context)
