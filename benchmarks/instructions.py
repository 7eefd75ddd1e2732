"""
Instructions per operation, counted by valgrind's callgrind.

    python benchmarks/instructions.py [--case S1,S5] [--peer simplews-serve,picows-websockets]

Time is noise on a shared machine; instructions are not: two counts of the same code
differ by a percent, whatever else runs. They are those of the peer's own process, its
interpreter and event loop included, and none of the kernel's: so they say what a
change of code saves, and not what share of the whole that is.

S1   echo of 32 B text, one at a time
S2   echo of 32 B text, 64 in flight
S3a  echo of 16 KiB binary, 8 in flight
S3b  echo of 1 MiB binary, 2 in flight
S5   a delivery of a broadcast of 128 B text to 100 connections
S6   connect, one echo, close

A figure is the difference of two runs of different length, per operation, so that
starting and ending count for nothing.
"""

from __future__ import annotations

import argparse
import contextlib
import re
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))  # also with PYTHONSAFEPATH

from harness import peers as peers_
from harness import processes, tables
from harness.frames import KEY
from harness.frames import masked as frame

TIMEOUT = 120  # seconds that anything may take: valgrind makes a program 50 times slower
REQUEST = (
    "GET {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nUpgrade: websocket\r\n"
    "Connection: Upgrade\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
    "Sec-WebSocket-Version: 13\r\n\r\n"
)


class Client:
    """A WebSocket that knows what it is going to get."""

    def __init__(self, port: int, path: str) -> None:
        self.sock = socket.create_connection(("127.0.0.1", port), TIMEOUT)
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.sock.sendall(REQUEST.format(path=path, port=port).encode())
        head = b""
        while not head.endswith(b"\r\n\r\n"):
            head += self.receive(1)
        if b" 101 " not in head:
            raise processes.Failed(head.decode(errors="replace"))

    def receive(self, size: int) -> bytes:
        """Exactly *size* bytes."""
        data = bytearray()
        while len(data) < size:
            piece = self.sock.recv(size - len(data))
            if not piece:
                raise processes.Failed("the server ended the connection")
            data += piece
        return bytes(data)


@dataclass(frozen=True)
class Case:
    """
    What is done, and how often in the shorter and the longer run.

    Attributes:
        run: Called with the server's port and the number of operations.
    """

    run: Callable[[int, int], None]
    short: int
    long: int


def echo(opcode: int, size: int, window: int) -> Callable[[int, int], None]:
    """Echo messages of *size* bytes, *window* at a time."""
    sent = frame(opcode, b"x" * size)

    def run(port: int, number: int) -> None:
        client = Client(port, "/echo")
        with client.sock:
            for _ in range(number // window):
                client.sock.sendall(sent * window)
                client.receive((len(sent) - len(KEY)) * window)

    return run


def broadcast(port: int, number: int) -> None:
    """Messages to 100 connections; an operation is one delivery."""
    sent = frame(1, b"x" * 128)
    members = [Client(port, "/bcast") for _ in range(100)]
    for _ in range(number // len(members)):
        members[0].sock.sendall(sent)
        for member in members:
            member.receive(len(sent) - len(KEY))
    for member in members:
        member.sock.close()


def connect(port: int, number: int) -> None:
    """Open, echo once, close."""
    sent, close = frame(1, b"x" * 32), frame(8, (1000).to_bytes(2))
    for _ in range(number):
        client = Client(port, "/echo")
        with client.sock:
            client.sock.sendall(sent)
            client.receive(len(sent) - len(KEY))
            client.sock.sendall(close)
            client.receive(len(close) - len(KEY))
            with contextlib.suppress(ConnectionError):
                client.sock.recv(1)


CASES = {
    "S1": Case(echo(1, 32, 1), 400, 1600),
    "S2": Case(echo(1, 32, 64), 640, 2560),
    "S3a": Case(echo(2, 16 << 10, 8), 160, 640),
    "S3b": Case(echo(2, 1 << 20, 2), 4, 12),
    "S5": Case(broadcast, 1000, 5000),
    "S6": Case(connect, 20, 80),
}
PEERS = "simplews-serve,simplews-rooms,picows,picows-websockets,websockets,aiohttp"


def count(case: Case, peer: peers_.Peer, loop: str, number: int) -> int:
    """Instructions of a peer's process that does *number* operations."""
    port = processes.free_port()
    with tempfile.TemporaryDirectory() as folder:
        argv = ["valgrind", "--tool=callgrind", f"--callgrind-out-file={folder}/out"]
        argv += [sys.executable, str(peer.script), "--loop", loop, *peer.args]
        server = subprocess.Popen(
            [*argv, "--port", str(port)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=processes.environment(peer.env, peers_.FOLDER),
        )
        assert server.stdin is not None and server.stdout is not None
        try:
            if server.stdout.readline():
                case.run(port, number)
            said = server.communicate(timeout=TIMEOUT)[1]  # its standard input ends
        finally:
            server.kill()
            server.wait()
    found = re.search(r"Collected : (\d+)", said)
    if found is None:
        raise processes.Failed(said.strip()[-500:])
    return int(found[1])


def per_operation(case: Case, peer: peers_.Peer, loop: str) -> float:
    """Instructions of one operation."""
    short, long = (count(case, peer, loop, number) for number in (case.short, case.long))
    return (long - short) / (case.long - case.short)


def main() -> int:
    assert __doc__ is not None
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--case", default="S1,S5", help="default: S1,S5")
    parser.add_argument("--peer", default=PEERS, help=f"default: {PEERS}")
    parser.add_argument("--loop", default="asyncio,uvloop", help="default: asyncio,uvloop")
    args = parser.parse_args()
    known = peers_.load()
    names, chosen = args.peer.split(","), args.case.split(",")
    for name in names:
        if (name, "server") not in known:
            parser.error(f"no server is called {name}")
    for name in chosen:
        if name not in CASES:
            parser.error(f"no case is called {name}; there are {', '.join(CASES)}")
    if shutil.which("valgrind") is None:
        parser.error("valgrind is missing; install Debian's package of that name")
    for loop in args.loop.split(","):
        rows = []
        for name in names:
            row = [name]
            for case in chosen:
                peer = known[name, "server"]
                if loop not in peer.loops or (peer.cases and case not in peer.cases):
                    row.append("–")
                    continue
                try:
                    row.append(f"{per_operation(CASES[case], peer, loop):,.0f}")
                except (processes.Failed, OSError) as error:
                    print(f"{case} {name} {loop}: {error}", file=sys.stderr)
                    row.append("failed")
            rows.append(row)
        print(f"\nInstructions per operation, {loop}\n")
        print("\n".join(tables.table(["peer", *chosen], rows)))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
