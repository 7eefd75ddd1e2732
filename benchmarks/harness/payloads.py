"""The messages of a case, as the load generator reads them from a file."""

from __future__ import annotations

import json
import random
import struct
import zlib
from pathlib import Path

from .cases import Case

WORDS = ["alpha", "bravo", "charlie", "delta", "echo", "foxtrot", "golf"]
WORDS += ["hotel", "india", "juliet", "kilo", "lima", "mike", "november"]
LETTERS = "abcdefghijklmnopqrstuvwxyz0123456789 "


def _json_text(rng: random.Random, size: int) -> str:
    """JSON such as applications send, cut off at *size*."""
    rows: list[object] = []
    while True:
        rows.append(
            {
                "id": rng.randrange(10**9),
                "user": rng.choice(WORDS) + str(rng.randrange(999)),
                "price": round(rng.uniform(1, 999), 2),
                "ok": rng.random() < 0.5,
                "tags": rng.sample(WORDS, 2),
            }
        )
        text = json.dumps({"type": "update", "rows": rows}, separators=(",", ":"))
        if len(text) >= size:
            return text[:size]


def messages(case: Case) -> list[bytes]:
    """The payloads that are sent in turn, the same in every run."""
    rng = random.Random(42)
    if case.deflate:
        return [_json_text(rng, case.size).encode() for _ in range(64)]
    if case.op == "text":
        return ["".join(rng.choice(LETTERS) for _ in range(case.size)).encode()]
    return [rng.randbytes(case.size)]


def compress(payload: bytes) -> bytes:
    """
    A message of permessage-deflate that is valid whatever was negotiated.

    It is compressed on its own, so that it does not depend on context takeover,
    and in a window of 2^11, which every larger one contains.
    """
    deflater = zlib.compressobj(wbits=-11)
    # RFC 7692 §7.2.1: the four bytes that a flush ends with are not sent.
    return (deflater.compress(payload) + deflater.flush(zlib.Z_SYNC_FLUSH))[:-4]


def inflates_to(wire: bytes, payload: bytes) -> bool:
    """Whether the payload of a first reply stands for *payload*, compressed or not."""
    if wire == payload:
        return True
    try:
        return zlib.decompressobj(wbits=-15).decompress(wire + b"\0\0\xff\xff") == payload
    except zlib.error:
        return False


def write(case: Case, path: Path) -> None:
    """
    Write the messages of *case*.

    The file: their number, then for each its length and itself, its length and
    itself as it is sent, and whether that is compressed. Lengths are native
    32 bit numbers: the generator runs on the same machine.
    """
    plain = messages(case)
    with path.open("wb") as file:
        file.write(struct.pack("=I", len(plain)))
        for payload in plain:
            wire = compress(payload) if case.deflate else payload
            file.write(struct.pack("=I", len(payload)) + payload)
            file.write(struct.pack("=I", len(wire)) + wire + bytes([case.deflate]))
