"""Event loops on which everything that crosses the network is cut into single bytes.

Their transports read one byte at a time, and write some: what a socket takes of a
write is cut as well. Cutting where it is read concerns everybody on the loop: hosts,
TLS, raw peers on asyncio's streams, and whoever has sent past a transport, as the
compiled part does.

Where much waits to be read, megabytes in a few tests, the pieces grow, to begin again
at one byte: they are cut at some hundred places, and their last 2 KiB at every one.
"""

from __future__ import annotations

import asyncio
import fcntl
import itertools
import socket
import struct
import termios
from typing import Any

from simplews.testing import ClockLoop

__all__ = ["CutClockLoop", "CutLoop"]

# Bytes below which every one comes by itself.
_FEW = 2048
_SIZES = (1, 2, 3, 5, 8, 13, 21, 34, 55, 89, 144, 233, 377, 610, 987, 1597, 2584, 4181, 6765, 28657)


class _CutSocket:
    """A socket that reads and writes less than it is asked to."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._reads = itertools.cycle(_SIZES)
        self._writes = itertools.cycle(_SIZES)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._sock, name)

    def _some(self) -> int:
        found = fcntl.ioctl(self._sock.fileno(), termios.FIONREAD, bytes(4))
        waiting: int = struct.unpack("i", found)[0]
        return 1 if waiting <= _FEW else next(self._reads)

    def recv(self, size: int) -> bytes:
        """Some of what is there."""
        return self._sock.recv(min(size, self._some()))

    def recv_into(self, buffer: Any) -> int:
        """Some of what is there."""
        return self._sock.recv_into(buffer, min(len(buffer), self._some()))

    def send(self, data: Any) -> int:
        """Some of *data*."""
        return self._sock.send(memoryview(data)[: next(self._writes)])

    def sendmsg(self, parts: Any) -> int:
        """Some of the first of *parts*."""
        return self.send(next(iter(parts)))


class _Cut:
    """A selector loop's transports, on such sockets."""

    def _make_socket_transport(self, sock: Any, *args: Any, **kwargs: Any) -> Any:
        return super()._make_socket_transport(_CutSocket(sock), *args, **kwargs)  # type: ignore[misc]

    def _make_ssl_transport(self, rawsock: Any, *args: Any, **kwargs: Any) -> Any:
        return super()._make_ssl_transport(_CutSocket(rawsock), *args, **kwargs)  # type: ignore[misc]


class CutLoop(_Cut, asyncio.SelectorEventLoop):
    """asyncio's own."""


class CutClockLoop(_Cut, ClockLoop):
    """On the clock that jumps."""
