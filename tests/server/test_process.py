"""A server in a process of its own, and the signals that end it."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import simplews

from ..peer import REQUEST, frame

PROGRAM = """
import asyncio
from simplews import serve

async def handler(ws):
    async for message in ws:
        if message == "stay":
            await asyncio.sleep(1000)
        await ws.send(message)

async def main():
    async with serve(handler, "127.0.0.1", 0, close_timeout=1) as server:
        print(server.port, flush=True)
        await server.serve_forever()
    print("ended", flush=True)

asyncio.run(main())
"""


@pytest.fixture
def process() -> Iterator[subprocess.Popen[str]]:
    paths = [str(Path(simplews.__file__).parents[1]), os.environ.get("PYTHONPATH", "")]
    with subprocess.Popen(
        [sys.executable, "-W", "error", "-c", PROGRAM],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, paths)), "PYTHONDEVMODE": ""},
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def opened(port: int) -> socket.socket:
    """A client's socket whose handshake is done."""
    sock = socket.create_connection(("127.0.0.1", port), timeout=20)
    sock.sendall(REQUEST)
    head = b""
    while not head.endswith(b"\r\n\r\n"):
        head += sock.recv(1)
    assert b" 101 " in head
    return sock


@pytest.mark.skipif(sys.platform == "win32", reason="no SIGTERM there")
@pytest.mark.parametrize("handlers", ["that read", "that do not"])
def test_sigterm_closes_every_connection_with_1001(
    process: subprocess.Popen[str], handlers: str
) -> None:
    assert process.stdout is not None
    port = int(process.stdout.readline())
    clients = [opened(port) for _ in range(20)]
    with socket.create_connection(("127.0.0.1", port), timeout=20) as silent:
        for sock in clients:
            sock.sendall(frame(1, "stay" if handlers == "that do not" else "x"))
            if handlers == "that read":
                assert sock.recv(3) == b"\x81\x01x"
        process.send_signal(signal.SIGTERM)
        for sock in clients:
            assert sock.recv(4) == b"\x88\x02\x03\xe9"
            sock.sendall(frame(8, b"\x03\xe9"))
            assert sock.recv(1) == b""
            sock.close()
        out, err = process.communicate(timeout=20)
        with contextlib.suppress(ConnectionResetError):
            while silent.recv(1000):  # it may have been answered with 503
                pass
    assert out == "ended\n"
    assert process.returncode == 0
    # Nothing but the one line on handlers that had to be cancelled.
    assert [line for line in err.splitlines() if "handlers were cancelled" not in line] == []
