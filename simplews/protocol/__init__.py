"""Bytes ⇄ messages: handshake, frames, compression. No asyncio, no clock, no task."""

from ..speedups import ignore_compiled, wanted

if not wanted():
    ignore_compiled(__path__[0])
