"""Bytes ⇄ messages: handshake, frames, compression. No asyncio, no clock, no task."""
