"""Frames as a client sends them."""

KEY = b"\x12\x34\x56\x78"
"""The masking key of all of them."""


def masked(opcode: int, payload: bytes) -> bytes:
    """A frame as a client sends it (RFC 6455 §5.2)."""
    size = len(payload)
    if size < 126:
        head = bytes([0x80 | opcode, 0x80 | size])
    elif size < 1 << 16:
        head = bytes([0x80 | opcode, 0xFE]) + size.to_bytes(2)
    else:
        head = bytes([0x80 | opcode, 0xFF]) + size.to_bytes(8)
    mask = int.from_bytes((KEY * (size // 4 + 1))[:size])
    return head + KEY + (int.from_bytes(payload) ^ mask).to_bytes(size)
