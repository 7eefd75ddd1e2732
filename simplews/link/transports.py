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
from typing import Any, cast

__all__ = [
    "Writer",
    "can_secure",
    "open_connection",
    "secured",
    "start_server",
    "start_unix_server",
    "use_transports",
]

Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]
Connected = Callable[[asyncio.StreamReader, asyncio.StreamWriter], None]

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


async def start_server(connected: Connected, *, secure: bool, **args: Any) -> asyncio.Server:
    """
    ``asyncio.start_server(connected, **args)``.

    Args:
        connected: Called for each client.
        secure: Whether its streams will be `secured`.
        args: ``host`` and ``port``, or ``sock``; and options.
    """
    module = _chosen(secure)
    if module is None:
        return await asyncio.start_server(connected, **args)
    loop = asyncio.get_running_loop()
    limit = args.pop("limit")
    server: asyncio.Server = await module.create_server(
        _Quiet(loop), lambda: _Accepted(connected, limit, loop), **args
    )
    return server


async def start_unix_server(
    connected: Connected, path: str, *, secure: bool, **args: Any
) -> asyncio.Server:
    """``asyncio.start_unix_server(connected, path, **args)``; see `start_server`."""
    module = _chosen(secure)
    if module is None:
        return await asyncio.start_unix_server(connected, path, **args)
    loop = asyncio.get_running_loop()
    limit = args.pop("limit")
    server: asyncio.Server = await module.create_unix_server(
        _Quiet(loop), lambda: _Accepted(connected, limit, loop), path, **args
    )
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


class _Accepted(asyncio.StreamReaderProtocol):
    """What `asyncio.start_server` gives to a client, with our `Writer`."""

    def __init__(self, connected: Connected, limit: int, loop: asyncio.AbstractEventLoop) -> None:
        # Without a callback of asyncio's kind, the protocol has it weakly.
        self._kept: asyncio.StreamReader | None = asyncio.StreamReader(limit, loop)
        super().__init__(self._kept, loop=loop)
        self._connected = connected
        self._on = loop

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        reader, self._kept = self._kept, None
        assert reader is not None
        writer = Writer(cast(asyncio.WriteTransport, transport), self, reader, self._on)
        self._connected(reader, writer)


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
