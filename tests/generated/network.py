"""A network between two ends that moves bytes only when it is told to.

The ends have real sockets. What one writes waits in its kernel until `Way.carry`
takes it, some bytes at a time, and everything that was carried is on record.
"""

from __future__ import annotations

import contextlib
import socket

__all__ = ["Network", "Way"]


class Way:
    """
    One direction.

    Args:
        source: Our end of the sender's socket.
        sink: Our end of the receiver's.

    Attributes:
        carried: What the receiver's socket has taken.
        ended: Whether the receiver was told that nothing follows.
        broken: Whether bytes may be lost on the way: a reset, or nobody to take them.
    """

    def __init__(self, source: socket.socket, sink: socket.socket) -> None:
        self._source = source
        self._sink = sink
        self._waiting = b""
        self._source_ended = False
        self.carried = bytearray()
        self.ended = False
        self.broken = False

    def carry(self, most: int = 1 << 18) -> bool:
        """Move up to *most* bytes; whether anything moved."""
        if self.ended or self.broken:
            return False
        moved = False
        if not self._waiting and not self._source_ended:
            try:
                self._waiting = self._source.recv(most)
                self._source_ended = not self._waiting
                moved = True
            except BlockingIOError:
                return False
            except OSError:
                self.reset()
                return True
        try:
            if self._waiting:
                sent = self._sink.send(self._waiting[:most])
                self.carried += self._waiting[:sent]
                self._waiting = self._waiting[sent:]
                moved = moved or sent > 0
        except BlockingIOError:
            return moved
        except OSError:
            self.broken = True
            return True
        if self._source_ended and not self._waiting:
            self.cut()
        return moved

    def cut(self) -> None:
        """FIN: the receiver gets nothing more."""
        self.ended = True
        with contextlib.suppress(OSError):
            self._sink.shutdown(socket.SHUT_WR)

    def reset(self) -> None:
        """The receiver's socket is closed at once, with whatever waits in it unread."""
        self.broken = True
        self._sink.close()


class Network:
    """
    Two ways.

    Args:
        client: Our end of the client's socket.
        server: Our end of the server's.
    """

    def __init__(self, client: socket.socket, server: socket.socket) -> None:
        client.setblocking(False)
        server.setblocking(False)
        self._sockets = client, server
        #: Towards the client, and towards the server.
        self.ways = Way(server, client), Way(client, server)

    def forget(self) -> None:
        """What was carried so far does not count."""
        for way in self.ways:
            way.carried.clear()

    def close(self) -> None:
        """Close both sockets."""
        for sock in self._sockets:
            sock.close()
