"""
A WebSocket peer on a plain socket, which keeps only those rules that it wants to.

Blocking, with a deadline for everything. Nothing of it comes from a library that is
measured.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import os
import select
import socket
import struct
import threading
import time
import zlib

CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG = 0, 1, 2, 8, 9, 10

GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
OFFER = "Sec-WebSocket-Extensions: permessage-deflate\r\n"
AGREED = (
    "Sec-WebSocket-Extensions: permessage-deflate; "
    "server_no_context_takeover; client_no_context_takeover\r\n"
)


class Unexpected(RuntimeError):
    """The other side did not open a WebSocket, or not in time."""


class Declined(Unexpected):
    """It does not do what we asked for."""


def masked(payload: bytes, key: bytes) -> bytes:
    """RFC 6455 §5.3."""
    if not payload:
        return b""
    pad = (key * (len(payload) // 4 + 1))[: len(payload)]
    number = int.from_bytes(payload, "little") ^ int.from_bytes(pad, "little")
    return number.to_bytes(len(payload), "little")


def header(opcode: int, size: int, *, fin: bool = True, rsv1: bool = False, mask: bool) -> bytes:
    """The header of a frame, without a masking key."""
    first = opcode | fin << 7 | rsv1 << 6
    bit = mask << 7
    if size < 126:
        return bytes([first, bit | size])
    if size < 65536:
        return struct.pack("!BBH", first, bit | 126, size)
    return struct.pack("!BBQ", first, bit | 127, size)


def bomb(size: int) -> bytes:
    """Zeros, compressed: a block that inflates to a megabyte, again and again."""
    deflate = zlib.compressobj(9, zlib.DEFLATED, -15)
    block = bytes(1_000_000)
    deflate.compress(block)
    deflate.flush(zlib.Z_SYNC_FLUSH)
    again = deflate.compress(block) + deflate.flush(zlib.Z_SYNC_FLUSH)
    # The first of them refers to what is before the message, which is no more legal
    # than the rest is polite; so the message begins with one that does not.
    fresh = zlib.compressobj(9, zlib.DEFLATED, -15)
    first = fresh.compress(block) + fresh.flush(zlib.Z_SYNC_FLUSH)
    return (first + again * (size // len(block) - 1))[:-4]


class Raw:
    """
    One end of a connection.

    Attributes:
        sock: Its socket.
        server: Whether this is the server's end: the other one masks.
    """

    def __init__(self, sock: socket.socket, *, server: bool, early: bytes = b"") -> None:
        self.sock = sock
        self.server = server
        self.key = os.urandom(4)
        self._buffer = bytearray(early)

    def __enter__(self) -> Raw:
        return self

    def __exit__(self, *exc: object) -> None:
        self.sock.close()

    # ------------------------------------------------------------- opening

    @classmethod
    def connect(
        cls, port: int, path: str, *, deflate: bool = False, room: int = 0, timeout: float = 10
    ) -> Raw:
        """
        Open a connection as the client.

        Args:
            room: Bytes of the socket's receive buffer; 0: as the system has it.

        Raises:
            Unexpected: It did not open.
        """
        sock = socket.socket()
        try:
            if room:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, room)
            sock.settimeout(timeout)
            sock.connect(("127.0.0.1", port))
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            sock.sendall(request(port, path, OFFER if deflate else ""))
            head, early = _read_head(sock)
        except BaseException as exc:
            sock.close()
            if isinstance(exc, OSError):
                raise Unexpected(f"opening: {exc!r}") from exc
            raise
        if not head.startswith(b"HTTP/1.1 101"):
            sock.close()
            raise Unexpected(head.partition(b"\r\n")[0].decode("latin-1"))
        if deflate and b"permessage-deflate" not in head.lower():
            sock.close()
            raise Declined("it does not compress")
        return cls(sock, server=False, early=early)

    @classmethod
    def accept(
        cls, listener: socket.socket, *, deflate: bool = False, room: int = 0, timeout: float = 10
    ) -> Raw:
        """
        Open a connection as the server; *listener* is not shared with another thread.

        Raises:
            Unexpected: It did not open.
        """
        # An accepted socket has the listener's buffer.
        buffer = room or 131072
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer)
        listener.settimeout(timeout)
        try:
            sock, _ = listener.accept()
        except OSError as exc:
            raise Unexpected(f"nobody connected: {exc!r}") from exc
        try:
            sock.settimeout(timeout)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            head, early = _read_head(sock)
            if deflate and b"permessage-deflate" not in head.lower():
                raise Declined("it does not compress")
            sock.sendall(response(head, AGREED if deflate else ""))
        except BaseException as exc:
            sock.close()
            if isinstance(exc, OSError):
                raise Unexpected(f"opening: {exc!r}") from exc
            raise
        return cls(sock, server=True, early=early)

    # --------------------------------------------------------------- sending

    def frame(
        self, opcode: int, payload: bytes = b"", *, fin: bool = True, rsv1: bool = False
    ) -> bytes:
        """A frame of ours."""
        head = header(opcode, len(payload), fin=fin, rsv1=rsv1, mask=not self.server)
        return head + payload if self.server else head + self.key + masked(payload, self.key)

    def send(self, opcode: int, payload: bytes = b"", *, timeout: float = 5) -> None:
        """Send a frame, all of it."""
        self.sock.settimeout(timeout)
        self.sock.sendall(self.frame(opcode, payload))

    def push(self, data: bytes, times: int, *, stall: float = 1.0, limit: float = 15.0) -> int:
        """
        Send *data* again and again, until the other side stops taking it.

        Args:
            stall: Seconds without progress that mean it has stopped.
            limit: Seconds for all.

        Returns:
            Bytes that it, and the kernel, have taken.
        """
        self.sock.settimeout(stall)
        end = time.monotonic() + limit
        total = 0
        for _ in range(times):
            view = memoryview(data)
            while view:
                if time.monotonic() > end:
                    return total
                try:
                    sent = self.sock.send(view)
                except OSError:
                    return total
                total += sent
                view = view[sent:]
        return total

    def reset(self) -> None:
        """Go with an RST."""
        with contextlib.suppress(OSError):
            self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.sock.close()

    # ------------------------------------------------------------- receiving

    def _fill(self, timeout: float) -> None:
        self.sock.settimeout(max(timeout, 0.001))
        data = self.sock.recv(1 << 20)
        if not data:
            raise EOFError
        self._buffer += data

    def receive(self, timeout: float = 5) -> tuple[int, bytes]:
        """
        The next frame's opcode and payload, unmasked.

        Raises:
            EOFError: The stream has ended.
            OSError: It was reset, or the time has passed.
        """
        end = time.monotonic() + timeout
        buffer = self._buffer
        while True:
            found = self._parse()
            if found is not None:
                start, size = found
                first, mask = buffer[0], buffer[1] & 128
                payload = bytes(buffer[start : start + size])
                if mask:
                    payload = masked(payload, bytes(buffer[start - 4 : start]))
                del buffer[: start + size]
                return first & 15, payload
            self._fill(end - time.monotonic())

    def _parse(self) -> tuple[int, int] | None:
        buffer = self._buffer
        if len(buffer) < 2:
            return None
        size, start = buffer[1] & 127, 2
        if size == 126:
            start = 4
        elif size == 127:
            start = 10
        if len(buffer) < start:
            return None
        if start > 2:
            size = int.from_bytes(buffer[2:start], "big")
        start += 4 if buffer[1] & 128 else 0
        return (start, size) if len(buffer) >= start + size else None

    def message(self, timeout: float = 5, *, pong: bool = True) -> bytes:
        """The next data message's payload; pings are answered, fragments joined."""
        end = time.monotonic() + timeout
        while True:
            opcode, payload = self.receive(end - time.monotonic())
            if opcode == PING and pong:
                self.send(PONG, payload)
            elif opcode in (TEXT, BINARY):
                return payload
            elif opcode == CLOSE:
                raise EOFError

    def finish(self, timeout: float) -> tuple[str, float | None]:
        """
        Answer the other side's Close, and read to the end of the connection.

        Returns:
            The close code that came, else "FIN" or "RST", or "open" when neither
            came in time; and the seconds until TCP had ended, None if it has not.
        """
        begin = time.monotonic()
        code = ""
        try:
            while True:
                left = begin + timeout - time.monotonic()
                opcode, payload = self.receive(left)
                if opcode == CLOSE and not code:
                    code = str(int.from_bytes(payload[:2], "big")) if payload else "1005"
                    with contextlib.suppress(OSError):
                        self.send(CLOSE, payload[:2], timeout=max(left, 0.001))
                        if self.server:  # RFC 6455 §7.1.1: it closes TCP first
                            self.sock.shutdown(socket.SHUT_WR)
        except EOFError:
            return code or "FIN", time.monotonic() - begin
        except TimeoutError:
            return code or "open", None
        except OSError:
            return code or "RST", time.monotonic() - begin


def request(port: int, path: str, more: str = "") -> bytes:
    """An opening request."""
    key = base64.b64encode(os.urandom(16)).decode()
    return (
        f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nUpgrade: websocket\r\n"
        f"Connection: Upgrade\r\nSec-WebSocket-Key: {key}\r\n"
        f"Sec-WebSocket-Version: 13\r\n{more}\r\n"
    ).encode()


def response(head: bytes, more: str = "") -> bytes:
    """The answer to an opening request."""
    key = b""
    for line in head.split(b"\r\n"):
        name, _, value = line.partition(b":")
        if name.lower() == b"sec-websocket-key":
            key = value.strip()
    accept = base64.b64encode(hashlib.sha1(key + GUID).digest()).decode()
    return (
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        f"Sec-WebSocket-Accept: {accept}\r\n{more}\r\n"
    ).encode()


def _read_head(sock: socket.socket) -> tuple[bytes, bytes]:
    data = b""
    while b"\r\n\r\n" not in data:
        more = sock.recv(65536)
        if not more or len(data) > 65536:
            raise Unexpected(f"{data[:80]!r} and the end")
        data += more
    head, _, early = data.partition(b"\r\n\r\n")
    return head, early


def readable(socks: list[socket.socket], timeout: float | None) -> list[socket.socket]:
    """Those of *socks* that can be read; as ``select.select``, for any descriptor."""
    poll = select.poll()
    by_number = {sock.fileno(): sock for sock in socks}
    for number in by_number:
        poll.register(number, select.POLLIN)
    found = poll.poll(None if timeout is None else timeout * 1000)
    return [by_number[number] for number, _ in found]


class Relay:
    """
    Passes bytes on between its clients and *port*, until it goes dark.

    From then on it neither reads nor writes nor closes: what a cable looks like that
    somebody has cut.
    """

    def __init__(self, port: int) -> None:
        self._target = port
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=128)
        # A fixed buffer: one that the kernel enlarges goes on taking bytes for a while
        # after it has gone dark, and a sender takes that for a sign of life.
        self._listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
        self._wake, self._woken = socket.socketpair()
        self._sockets: list[socket.socket] = []
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    @property
    def port(self) -> int:
        """Where to connect instead."""
        port: int = self._listener.getsockname()[1]
        return port

    def dark(self) -> float:
        """Pass nothing on any more; when that was."""
        self._wake.send(b"x")
        self._thread.join(5)
        return time.monotonic()

    def close(self) -> None:
        """End all of it."""
        if self._thread.is_alive():
            self.dark()
        for sock in [self._listener, self._wake, self._woken, *self._sockets]:
            sock.close()

    def _run(self) -> None:
        other: dict[socket.socket, socket.socket] = {}
        watched: list[socket.socket] = [self._listener, self._woken]
        while True:
            ready = readable(watched, None)
            if self._woken in ready:
                return
            for sock in ready:
                if sock is self._listener:
                    near, _ = sock.accept()
                    far = socket.create_connection(("127.0.0.1", self._target))
                    for one, two in ((near, far), (far, near)):
                        one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                        one.settimeout(5)
                        other[one] = two
                        watched.append(one)
                        self._sockets.append(one)
                    continue
                try:
                    data = sock.recv(65536)
                    if data:
                        other[sock].sendall(data)
                        continue
                except OSError:
                    pass
                watched.remove(sock)
                with contextlib.suppress(OSError):
                    other[sock].shutdown(socket.SHUT_WR)
