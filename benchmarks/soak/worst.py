"""
What a hostile client costs at the worst: memory per connection, and CPU per megabyte.

``python benchmarks/soak/worst.py`` prints the tables of docs/explanation/security.md.
Each source is a process of its own, with the limits that the table names; the
clients are plain sockets in this one, so that what grows is the server's. Memory is
what the process holds more (VmRSS) than before its clients came, divided by their
number; what the kernel holds of a socket is not in it.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import socket
import ssl
import struct
import subprocess
import sys
import tempfile
import time
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import trustme

from simplews import AioServer, ConnectionClosed, serve

SOURCES = ["socket", "stream", "serve", "serve+tls", "aiohttp", "uvicorn"]

#: The limit that the server is given; the defaults otherwise.
MAX_MESSAGE = 1024 * 1024

# ------------------------------------------------------------------ the server's process


async def _app(ws: AioServer) -> None:
    """What the target says: receive and send back, only send, or neither."""
    target = ws.request.target
    if target == "/deaf":
        await ws.wait_closed()
    elif target == "/send":
        while True:
            await ws.send(bytes(65536))
    else:
        while True:
            # It keeps nothing of a message while it waits for the next.
            await ws.send((await ws.receive())[:100])


async def _quiet(opening: Any) -> None:
    with contextlib.suppress(ConnectionClosed, ConnectionError):
        async with opening as ws:
            await _app(ws)


async def _listen(source: str, pem: str) -> int:
    """Start a server over *source*; its port."""
    options: dict[str, Any] = {"max_message_size": MAX_MESSAGE}
    if source in ("serve", "serve+tls"):
        context = None
        if source == "serve+tls":
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(pem)
        server = serve(_app, "127.0.0.1", ssl=context, ping_interval=None, **options)
        await server.start()
        _kept.append(server)
        return server.port
    if source == "stream":

        def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            opening = AioServer.accept(stream=(reader, writer), **options)
            _kept.append(asyncio.ensure_future(_quiet(opening)))

        streams = await asyncio.start_server(connected, "127.0.0.1", 0, backlog=1000)
        _kept.append(streams)
        return int(streams.sockets[0].getsockname()[1])
    sock = socket.create_server(("127.0.0.1", 0), backlog=1000)
    sock.setblocking(False)
    port = int(sock.getsockname()[1])
    if source == "socket":

        async def accept() -> None:
            while True:
                client, _ = await asyncio.get_running_loop().sock_accept(sock)
                opening = AioServer.accept(sock=client, **options)
                _kept.append(asyncio.ensure_future(_quiet(opening)))

        _kept.append(asyncio.ensure_future(accept()))
    elif source == "aiohttp":
        from aiohttp import web

        async def handle(request: web.Request) -> Any:
            await _quiet(AioServer.accept(aiohttp=request, **options))
            return web.Response()

        app = web.Application()
        app.router.add_get("/{tail:.*}", handle)
        runner = web.AppRunner(app, access_log=None)
        await runner.setup()
        await web.SockSite(runner, sock).start()
        _kept.append(runner)
    else:
        import uvicorn

        async def asgi(scope: Any, receive: Any, send: Any) -> None:
            await _quiet(AioServer.accept(asgi=(scope, receive, send), **options))

        config = uvicorn.Config(
            asgi,
            ws="websockets-sansio",
            ws_ping_interval=None,
            ws_max_size=MAX_MESSAGE,
            lifespan="off",
            log_level="critical",
        )
        host = uvicorn.Server(config)
        _kept.append(asyncio.ensure_future(host.serve(sockets=[sock])))
    return port


_kept: list[Any] = []


async def _serve(source: str, pem: str) -> None:
    """Tell the port, and then, for each line that comes, memory and CPU time."""
    print(await _listen(source, pem), flush=True)
    loop = asyncio.get_running_loop()
    while await loop.run_in_executor(None, sys.stdin.readline):
        print(_resident(), time.process_time(), flush=True)


def _resident() -> int:
    for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) * 1024
    raise OSError("no VmRSS in /proc/self/status: this needs Linux")


# --------------------------------------------------------------------------- the clients


class Server:
    """The process of a source."""

    def __init__(self, source: str, pem: str) -> None:
        self.secure = source.endswith("+tls")
        self.process = subprocess.Popen(
            [sys.executable, __file__, "--serve", source, "--pem", pem],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self.process.stdout is not None
        self.port = int(self.process.stdout.readline())

    def ask(self) -> tuple[int, float]:
        """Its memory in bytes and its CPU time in seconds."""
        assert self.process.stdin is not None and self.process.stdout is not None
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        memory, cpu = self.process.stdout.readline().split()
        return int(memory), float(cpu)

    def settled(self) -> tuple[int, float]:
        """The same, once it does nothing any more."""
        before = self.ask()
        for _ in range(50):
            time.sleep(0.2)
            now = self.ask()
            if now[1] - before[1] < 0.01:
                return now
            before = now
        return before

    def end(self) -> None:
        """End it."""
        self.process.kill()
        self.process.communicate()


def connect(server: Server) -> socket.socket:
    """TCP, and TLS."""
    sock = socket.create_connection(("127.0.0.1", server.port))
    sock.settimeout(5)
    if server.secure:
        context = ssl.create_default_context()
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        return context.wrap_socket(sock)
    return sock


def request(target: str, *lines: str) -> bytes:
    """A good request."""
    fields = [
        f"GET {target} HTTP/1.1",
        "Host: localhost",
        "Upgrade: websocket",
        "Connection: Upgrade",
        "Sec-WebSocket-Version: 13",
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
        *lines,
    ]
    return "\r\n".join([*fields, "", ""]).encode()


def opened(server: Server, target: str, *lines: str) -> socket.socket:
    """An open WebSocket."""
    sock = connect(server)
    sock.sendall(request(target, *lines))
    head = b""
    while b"\r\n\r\n" not in head:
        head += sock.recv(1)
    assert head.startswith(b"HTTP/1.1 101"), head
    return sock


def frame(opcode: int, payload: bytes, *, fin: bool = True, rsv1: bool = False) -> bytes:
    """A masked frame; its key is zeros."""
    first = fin << 7 | rsv1 << 6 | opcode
    size = len(payload)
    if size < 126:
        head = bytes([first, 0x80 | size])
    elif size < 65536:
        head = struct.pack(">BBH", first, 0xFE, size)
    else:
        head = struct.pack(">BBQ", first, 0xFF, size)
    return head + bytes(4) + payload


DEFLATE = "Sec-WebSocket-Extensions: permessage-deflate"


def squeezed(data: bytes) -> bytes:
    """A compressed message."""
    stream = zlib.compressobj(9, zlib.DEFLATED, -15)
    return (stream.compress(data) + stream.flush(zlib.Z_SYNC_FLUSH))[:-4]


def pushed(sock: socket.socket, data: bytes, most: int) -> None:
    """Write until it is not taken any more."""
    sock.settimeout(0.3)
    with contextlib.suppress(TimeoutError, OSError, ssl.SSLError):
        for _ in range(most // len(data) + 1):
            sock.sendall(data)


def silent(server: Server) -> socket.socket:
    return connect(server)


def half_head(server: Server) -> socket.socket:
    sock = connect(server)
    lines = [f"X-{n}: {'a' * 4000}" for n in range(4)]
    sock.sendall(request("/", *lines)[:16000])
    return sock


def idle(server: Server) -> socket.socket:
    return opened(server, "/")


def compressed(server: Server) -> socket.socket:
    sock = opened(server, "/", DEFLATE)
    sock.sendall(frame(1, squeezed(os.urandom(30000).hex().encode()), rsv1=True))
    sock.recv(10)
    return sock


def half_message(server: Server) -> socket.socket:
    sock = opened(server, "/")
    sock.sendall(frame(2, bytes(MAX_MESSAGE))[:-1])
    return sock


def half_fragments(server: Server) -> socket.socket:
    sock = opened(server, "/")
    sock.sendall(frame(1, b"x" * 100, fin=False) + frame(0, b"x" * 16, fin=False) * 65000)
    return sock


def full_inbox(server: Server) -> socket.socket:
    sock = opened(server, "/deaf")
    pushed(sock, frame(2, bytes(65536)) * 4, 16 << 20)
    return sock


def full_inbox_text(server: Server) -> socket.socket:
    sock = opened(server, "/deaf")
    pushed(sock, frame(1, b"x" * 65532 + "\U0001f600".encode()) * 4, 16 << 20)
    return sock


def full_inbox_compressed(server: Server) -> socket.socket:
    sock = opened(server, "/deaf", DEFLATE)
    pushed(sock, frame(2, squeezed(bytes(MAX_MESSAGE)), rsv1=True) * 50, 1 << 20)
    return sock


def unread(server: Server) -> socket.socket:
    return opened(server, "/send")


MEMORY: dict[str, tuple[Callable[[Server], socket.socket], int]] = {
    "connected, and silent": (silent, 200),
    "16 KB of a request": (half_head, 200),
    "open, idle": (idle, 200),
    "open, compression used": (compressed, 100),
    "1 MiB of a message, but a byte": (half_message, 10),
    "1 MiB of it in fragments of 16 bytes": (half_fragments, 5),
    "an inbox that nobody empties": (full_inbox, 10),
    "the same, of text with an emoji in it": (full_inbox_text, 10),
    "the same, of compressed messages": (full_inbox_compressed, 10),
    "what we send and it does not read": (unread, 10),
}

_BOMB = squeezed(bytes(MAX_MESSAGE))
CPU: dict[str, tuple[bytes, bytes, str]] = {
    "messages of 64 KiB": (b"", frame(2, bytes(65536)), ""),
    "messages of one byte": (b"", frame(1, b"x"), ""),
    "empty Pings": (b"", frame(9, b""), ""),
    "empty fragments": (frame(2, b"", fin=False), frame(0, b"", fin=False), ""),
    "fragments of one byte": (frame(1, b"", fin=False), frame(0, b"x", fin=False), ""),
    "1 MiB as 1 KB of deflate": (b"", frame(2, _BOMB, rsv1=True), DEFLATE),
}
#: Bytes that a client sends for its CPU time to be taken.
AMOUNT = 1 << 20


def burnt(server: Server, first: bytes, one: bytes, line: str) -> float:
    """CPU seconds for a megabyte of *one*."""
    sock = opened(server, "/", *([line] if line else []))
    before = server.settled()[1]
    data = first + one * max(1, (AMOUNT if not line else AMOUNT // 8) // len(one))
    sock.settimeout(0.001)
    view = memoryview(data)
    deadline = time.monotonic() + 60
    while view and time.monotonic() < deadline:
        with contextlib.suppress(TimeoutError, ssl.SSLError):
            view = view[sock.send(view[:65536]) :]
        with contextlib.suppress(TimeoutError, ssl.SSLError):
            sock.recv(1 << 18)
    cpu = server.settled()[1] - before
    sock.close()
    return cpu / len(data) * 1e6


@contextlib.contextmanager
def certificate() -> Iterator[str]:
    """A file with a certificate for this machine and its key."""
    authority = trustme.CA()
    pem = authority.issue_cert("localhost").private_key_and_cert_chain_pem
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "pem"
        pem.write_to_path(str(path))
        yield str(path)


def main() -> None:
    """Measure, and print two tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--source", default=",".join(SOURCES), help="which, with commas")
    parser.add_argument("--row", default="", help="only rows whose names have this")
    parser.add_argument("--serve", help=argparse.SUPPRESS)
    parser.add_argument("--pem", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve:
        asyncio.run(_serve(options.serve, options.pem))
        return
    sources = options.source.split(",")
    with certificate() as pem:
        for title, rows, measure in (
            ("KiB per connection", MEMORY, memory_of),
            ("CPU seconds per megabyte", CPU, cpu_of),
        ):
            print(f"| {title} | {' | '.join(sources)} |")
            print("| --- |" + " ---: |" * len(sources))
            for name, row in rows.items():
                if options.row not in name:
                    continue
                cells = [measure(source, pem, row) for source in sources]
                print(f"| {name} | {' | '.join(cells)} |", flush=True)
            print()


def memory_of(source: str, pem: str, row: Any) -> str:
    """A cell of the first table."""
    open_one, count = row
    server = Server(source, pem)
    try:
        kept = [open_one(server)]  # what is made once, for all of them
        before = server.settled()[0]
        kept += [open_one(server) for _ in range(count)]
        grown = server.settled()[0] - before
        for sock in kept:
            sock.close()
        return f"{grown / count / 1024:.0f}"
    finally:
        server.end()


def cpu_of(source: str, pem: str, row: Any) -> str:
    """A cell of the second table."""
    server = Server(source, pem)
    try:
        return f"{burnt(server, *row):.2f}"
    finally:
        server.end()


if __name__ == "__main__":
    main()
