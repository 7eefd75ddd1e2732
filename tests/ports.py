"""A port for a program that cannot be asked which one it took; everybody else asks for port 0."""

from __future__ import annotations

import contextlib
import random
import socket

__all__ = ["free_port"]

# Below where systems take the ports of clients from, so that no connection, and no
# other test's port 0, has one between our asking and the program's listening.
_PORTS = range(12_000, 32_000)


def free_port() -> int:
    """A port of 127.0.0.1 that nobody listens on just now."""
    while True:
        port = random.SystemRandom().choice(_PORTS)
        with socket.socket() as sock, contextlib.suppress(OSError):
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            sock.bind(("127.0.0.1", port))
            return port
