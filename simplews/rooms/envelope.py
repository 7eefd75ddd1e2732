"""What travels through an engine: a head of few bytes, and the message.

All numbers are big-endian::

    0   1   version: 1
    1   1   kind, see `Kind`
    2   8   the sending process
    10  8   sequence: counts what this process sends to this topic. The last four
            bytes from 1; the first four are greater in every later run, which
            begins when it is not known what became of a message
    18  1   how many members are left out; for each: 1 byte length, then its id
        2   length of the key; 0 for none
            the key: ``s`` and UTF-8, ``b`` and bytes, or ``i`` and a decimal number
            the payload

`docs/explanation/rooms.md` explains it to those who write it in another language.
"""

from __future__ import annotations

import enum
import re
import struct
from collections.abc import Hashable, Sequence
from typing import NamedTuple

from ..link.base import Frames

__all__ = [
    "HEARTBEAT",
    "LAST_OF_RUN",
    "RUN_SHIFT",
    "Envelope",
    "Kind",
    "frames_of",
    "head_of",
    "pack",
    "topic_of",
    "unpack",
]

VERSION = 1
_FIXED = struct.Struct(">BB8sQ")

#: Where in a sequence its run stands, and its greatest number within a run.
RUN_SHIFT = 32
LAST_OF_RUN = (1 << RUN_SHIFT) - 1

#: The topic on which every process shows that it lives. No room has a topic with ~.
HEARTBEAT = "~heartbeat"

#: Bytes of a room's name. NATS's line with a subject has 4096 in all, and one
#: byte may need three.
MAX_ROOM = 512

# What every engine takes as it stands: NATS divides at dots, Redis Cluster looks
# for braces.
_UNSAFE = re.compile(rb"[^A-Za-z0-9_-]")


class Kind(enum.IntEnum):
    """What an envelope is."""

    TEXT = 1
    BINARY = 2
    #: No message: its sequence is that of the sender's last message in this room.
    MARK = 3
    #: The sender lives. On topics with ~ only.
    ALIVE = 4
    #: Who is in the room, please?
    ASK = 5
    #: All members that the sender has in the room, or the first of them.
    HERE = 6
    #: More of its members; also one that has just joined.
    JOINED = 7
    #: Members that have left.
    LEFT = 8
    #: The sender goes, and all its members with it. On `HEARTBEAT` only.
    GONE = 9


class Envelope(NamedTuple):
    """What `unpack` finds."""

    kind: Kind
    sender: bytes
    sequence: int
    excluded: tuple[str, ...]
    key: Hashable
    payload: bytes


def topic_of(room: str) -> str:
    """
    A room's name as engines take it: letters, digits, ``_``, ``-``, and the rest as ``%XX``.

    Raises:
        ValueError: It is longer than `MAX_ROOM` bytes.
    """
    name = room.encode("utf-8", "surrogatepass")
    if len(name) > MAX_ROOM:
        raise ValueError(
            f"a room's name of {len(name)} bytes exceeds the limit of {MAX_ROOM} bytes between "
            f"processes"
        )
    # An empty name is no topic; % alone stands for no byte.
    return _UNSAFE.sub(lambda found: b"%%%02X" % ord(found[0]), name).decode("ascii") or "%"


def head_of(excluded: Sequence[str] = (), key: Hashable = None) -> bytes:
    """
    What stands between the sequence and the payload.

    Raises:
        TypeError: *key* is nothing that another process understands.
        ValueError: Something is too long for it.
    """
    if len(excluded) > 255:
        raise ValueError(f"{len(excluded)} members to exclude exceed the limit of 255")
    ids = [one.encode() for one in excluded]
    parts = [bytes([len(ids)])]
    for one in ids:
        parts += (bytes([len(one)]), one)
    tagged = _tag(key)
    if len(tagged) > 0xFFFF:
        raise ValueError(f"a key of {len(tagged)} bytes exceeds the limit of {0xFFFF} bytes")
    return b"".join([*parts, len(tagged).to_bytes(2, "big"), tagged])


def _tag(key: Hashable) -> bytes:
    if key is None:
        return b""
    if isinstance(key, str):
        return b"s" + key.encode()
    if isinstance(key, bytes):
        return b"b" + key
    if isinstance(key, int):
        return b"i%d" % key
    raise TypeError(f"between processes a key is None, str, bytes or int, not {key!r}")


_NOTHING = head_of()


def pack(
    kind: Kind, sender: bytes, sequence: int, payload: bytes = b"", head: bytes = _NOTHING
) -> bytes:
    """Bytes of an envelope. *sender* has 8, *head* is from `head_of`."""
    return _FIXED.pack(VERSION, kind, sender, sequence) + head + payload


def unpack(data: bytes) -> Envelope:
    """
    The reverse of `pack`.

    Raises:
        ValueError: It is no envelope, or of another version.
    """
    try:
        version, kind, sender, sequence = _FIXED.unpack_from(data)
        if version != VERSION:
            raise ValueError(f"an envelope of version {version}; this is version {VERSION}")
        at = _FIXED.size
        if data[at : at + 3] == _NOTHING:
            return Envelope(Kind(kind), sender, sequence, (), None, data[at + 3 :])
        count, at = data[at], at + 1
        excluded = []
        for _ in range(count):
            end = at + 1 + data[at]
            excluded.append(data[at + 1 : end].decode())
            at = end
        length, at = int.from_bytes(data[at : at + 2], "big"), at + 2
        if len(data) < at + length:
            raise ValueError("an envelope that is cut off")
        key = _untag(data[at : at + length])
        return Envelope(Kind(kind), sender, sequence, tuple(excluded), key, data[at + length :])
    except (struct.error, IndexError) as exc:
        raise ValueError("an envelope that is cut off") from exc


def _untag(tagged: bytes) -> Hashable:
    tag, value = tagged[:1], tagged[1:]
    if not tag:
        return None
    if tag == b"s":
        return value.decode()
    if tag == b"b":
        return value
    if tag == b"i":
        return int(value)
    raise ValueError(f"a key with the unknown tag {tag!r}")


def frames_of(envelope: Envelope) -> Frames:
    """
    The message of an envelope.

    Raises:
        UnicodeDecodeError: It says that it is text, and is not.
    """
    payload = envelope.payload
    return Frames(payload.decode() if envelope.kind is Kind.TEXT else payload)
