"""Sending to a socket past its transport: the twin of ``direct.pyx``, which can.

A transport's write() costs 1 µs above the system call, for every frame. Python has no
way around it, because transports keep their socket to themselves.
"""

from __future__ import annotations

import asyncio

__all__ = ["descriptor", "send_now", "send_parts"]


def descriptor(transport: asyncio.Transport) -> int:
    """
    The socket that *transport* writes to as it is told.

    Returns:
        A file descriptor; -1 for TLS, for what is no socket, and here.
    """
    return -1


def send_now(fd: int, data: bytes | memoryview) -> int:
    """
    Send what a socket takes at once.

    Returns:
        How many bytes of *data* it took; 0 if it has failed, as the transport will find.
    """
    raise NotImplementedError


def send_parts(fd: int, parts: list[bytes | memoryview]) -> int:
    """The same for several parts in one call, which are not joined; 64 at most are looked at."""
    raise NotImplementedError
