"""The other end of a connection: raw bytes on a real socket, with nothing of ours in between.

What it writes and reads it makes and takes apart by itself (RFC 6455 §5.2), so
that it can break any rule, at any byte.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import hashlib
import socket
import struct
from collections.abc import AsyncIterator, Callable
from typing import Any

from simplews import AioBase, AioClient, AioServer

__all__ = [
    "BINARY",
    "CLOSE",
    "CONTINUATION",
    "DEADLINE",
    "HEADERS",
    "PING",
    "PONG",
    "REQUEST",
    "ROLES",
    "TEXT",
    "Peer",
    "answer",
    "close_frame",
    "frame",
    "opened",
    "settled",
    "tcp_pair",
    "until",
]

#: Seconds that a test waits for anything; on a `ClockLoop` they pass at once.
DEADLINE = 3600

#: Both ends that can be ours.
ROLES = [AioServer, AioClient]

CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG = 0, 1, 2, 8, 9, 10

#: A request whose answer is the one of RFC 6455 §1.3.
HEADERS = {
    "Host": "localhost",
    "Upgrade": "websocket",
    "Connection": "Upgrade",
    "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
    "Sec-WebSocket-Version": "13",
}
REQUEST = (
    "GET / HTTP/1.1\r\n" + "".join(f"{k}: {v}\r\n" for k, v in HEADERS.items()) + "\r\n"
).encode()


def frame(
    opcode: int, payload: bytes | str = b"", *, fin: bool = True, rsv: int = 0, mask: bool = True
) -> bytes:
    """A frame, masked as a client's unless told otherwise; its key is all zeros."""
    payload = payload.encode() if isinstance(payload, str) else payload
    first = (0x80 if fin else 0) | rsv << 4 | opcode
    bit = 0x80 if mask else 0
    length = len(payload)
    if length < 126:
        head = bytes([first, bit | length])
    elif length < 65536:
        head = bytes([first, bit | 126]) + struct.pack(">H", length)
    else:
        head = bytes([first, bit | 127]) + struct.pack(">Q", length)
    return head + (bytes(4) if mask else b"") + payload


def close_frame(code: int, reason: str = "", *, mask: bool = True) -> bytes:
    """A Close frame."""
    return frame(CLOSE, struct.pack(">H", code) + reason.encode(), mask=mask)


class Peer:
    """
    One end of a socket, which reads only when it is told to.

    Attributes:
        sock: The socket.
        masks: Whether it is a client, and masks what it sends.
        received: Bytes that were read and not yet taken.
    """

    def __init__(self, sock: socket.socket, *, masks: bool = True) -> None:
        sock.setblocking(False)
        if sock.family in (socket.AF_INET, socket.AF_INET6):
            # Nagle's algorithm waits for the real clock.
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.sock = sock
        self.masks = masks
        self.received = bytearray()

    async def write(self, data: bytes) -> None:
        """Send bytes."""
        await asyncio.get_running_loop().sock_sendall(self.sock, data)

    async def send(self, opcode: int, payload: bytes | str = b"", *, fin: bool = True) -> None:
        """Send a frame."""
        await self.write(frame(opcode, payload, fin=fin, mask=self.masks))

    async def send_close(self, code: int, reason: str = "") -> None:
        """Send a Close frame."""
        await self.write(close_frame(code, reason, mask=self.masks))

    async def sock_read(self) -> bytes:
        """Read what is there, and do not look at it."""
        return await asyncio.get_running_loop().sock_recv(self.sock, 1 << 18)

    async def _more(self) -> bool:
        data = await self.sock_read()
        self.received += data
        return bool(data)

    async def head(self) -> bytes:
        """Read the head of a request or response, with its empty line."""
        while (end := self.received.find(b"\r\n\r\n")) < 0:
            assert await self._more(), bytes(self.received)
        head = bytes(self.received[: end + 4])
        del self.received[: end + 4]
        return head

    async def frame(self) -> tuple[int, bytes] | None:
        """Read a frame: its first byte without FIN's bit, and its payload; None at the end."""
        whole = await self.whole_frame()
        return None if whole is None else (whole[0] & 0x7F, whole[1])

    async def whole_frame(self) -> tuple[int, bytes] | None:
        """Read a frame: its first byte, and its payload; None at the end of TCP."""
        while (found := self._take()) is None:
            if not await self._more():
                assert not self.received, f"half a frame: {bytes(self.received[:20])!r}"
                return None
        return found

    def _take(self) -> tuple[int, bytes] | None:
        buffer = self.received
        if len(buffer) < 2:
            return None
        masked, length, start = buffer[1] & 0x80, buffer[1] & 0x7F, 2
        if length > 125:
            width = 2 if length == 126 else 8
            if len(buffer) < start + width:
                return None
            length = int.from_bytes(buffer[start : start + width], "big")
            start += width
        key = bytes(buffer[start : start + 4]) if masked else b""
        start += len(key)
        if len(buffer) < start + length:
            return None
        assert bool(masked) != self.masks, "RFC 6455 §5.1: clients mask, servers do not"
        payload = bytes(buffer[start : start + length])
        if masked and length:
            stream = (key * (length // 4 + 1))[:length]
            number = int.from_bytes(payload, "big") ^ int.from_bytes(stream, "big")
            payload = number.to_bytes(length, "big")
        first = buffer[0]
        del buffer[: start + length]
        return first, payload

    async def frames(self) -> list[tuple[int, bytes]]:
        """Read until the end of TCP: every frame."""
        frames = []
        while (found := await self.frame()) is not None:
            frames.append(found)
        return frames

    async def at_end(self) -> bool:
        """Whether TCP ends now, properly or with a reset; what comes before is dropped."""
        with contextlib.suppress(ConnectionError):
            while await self._more():
                self.received.clear()
        return True

    def finish(self) -> None:
        """FIN: end this side of TCP."""
        self.sock.shutdown(socket.SHUT_WR)

    def reset(self) -> None:
        """RST: end TCP at once; on a Unix socket, just close it."""
        if self.sock.family != getattr(socket, "AF_UNIX", None):
            linger = struct.pack("ii", 1, 0)
            self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        self.sock.close()


def tcp_pair() -> tuple[socket.socket, socket.socket]:
    """Two ends of a TCP connection over loopback."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        one = socket.create_connection(listener.getsockname())
        other, _ = listener.accept()
    return one, other


@contextlib.asynccontextmanager
async def opened(
    role: type[AioBase] = AioServer,
    *,
    tcp: bool = False,
    more: bytes = b"",
    finish: bool = False,
    extension: str | None = None,
    **options: Any,
) -> AsyncIterator[tuple[Any, Peer]]:
    """
    An open connection of ours, and its raw peer.

    Args:
        role: Which end is ours.
        tcp: Over TCP on loopback, as clients always are; else a server gets one
            end of a `socket.socketpair`.
        more: Bytes that ride right behind the peer's half of the handshake.
        finish: Whether the peer's side of TCP ends right behind that.
        extension: What a client offers.
        options: For `accept` or `connect`; compression is off unless asked for.
    """
    options.setdefault("compression", None)
    async with contextlib.AsyncExitStack() as stack:
        await stack.enter_async_context(asyncio.timeout(DEADLINE))
        if role is AioServer:
            ours, theirs = tcp_pair() if tcp else socket.socketpair()
            stack.callback(theirs.close)
            peer = Peer(theirs)
            field = f"Sec-WebSocket-Extensions: {extension}\r\n" if extension else ""
            await peer.write(REQUEST[:-2] + field.encode() + b"\r\n" + more)
            if finish:
                peer.finish()
            ws: Any = await AioServer.accept(sock=ours, **options)
            await peer.head()
        else:
            listener = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
            # With less in the kernel, what one end does is seen sooner at the other.
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
            url = f"ws://127.0.0.1:{listener.getsockname()[1]}/"
            opening = asyncio.ensure_future(AioClient.connect(url, **options))
            listener.setblocking(False)
            theirs, _ = await asyncio.get_running_loop().sock_accept(listener)
            stack.callback(theirs.close)
            peer = Peer(theirs, masks=False)
            await peer.write(answer(await peer.head()) + more)
            if finish:
                peer.finish()
            ws = await opening
        stack.push_async_callback(ws.wait_closed)
        stack.callback(ws.abort)
        yield ws, peer


def answer(request: bytes) -> bytes:
    """The 101 that answers *request* (RFC 6455 §4.2.2)."""
    fields = dict(line.split(b": ", 1) for line in request.split(b"\r\n")[1:-2])
    key = next(value for name, value in fields.items() if name.lower() == b"sec-websocket-key")
    accept = hashlib.sha1(key + b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11").digest()
    return (
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Accept: " + base64.b64encode(accept) + b"\r\n\r\n"
    )


async def until(condition: Callable[[], object]) -> None:
    """Let the loop run until *condition()* holds; first without the clock."""
    for delay in [0.0] * 100 + [0.01] * 500:
        if condition():
            return
        await asyncio.sleep(delay)
    raise AssertionError("what the test waits for does not come")


async def settled() -> None:
    """Let the loop do what it can do without the clock."""
    for _ in range(20):
        await asyncio.sleep(0)
