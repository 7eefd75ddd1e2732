"""Who is in a room, in all processes.

Every process tells the others of its members as they come and go, in the room's
own topic, so that only those hear it who follow the room. Whoever begins to
follow a room, or may have missed something of it, asks until every process has
answered with all of its members there, or with none. A process shows by its
heartbeat that it lives; when that stops, its members have left.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from .envelope import HEARTBEAT, Envelope, Kind, topic_of

if TYPE_CHECKING:
    from .exchange import Exchange

__all__ = ["PresenceChange", "Present", "Register"]

# Members in one envelope; with their greatest infos that is 0.7 MB.
_CHUNK = 500
MAX_ID = 255
MAX_INFO = 1024


@dataclass(frozen=True, slots=True)
class Present:
    """
    A member of a room, in whichever process.

    Attributes:
        process: The process that has the connection.
        id: What `Rooms.join` was given as *id*, or one that was made up.
        info: What `Rooms.join` was given as *info*.
    """

    process: str
    id: str
    info: str


@dataclass(frozen=True, slots=True)
class PresenceChange:
    """
    Somebody has joined a room, or left it.

    Attributes:
        room: The room's name.
        joined: False if the member has left, or its process is gone.
        member: Who.
    """

    room: str
    joined: bool
    member: Present


class Register:
    """
    What is known of other processes' members.

    Args:
        exchange: The way to them.
        local: This process's members of a room.
        on_change: Called with every change in a room that is followed, ours included.
        logger: For what goes wrong.
    """

    def __init__(
        self,
        exchange: Exchange,
        local: Callable[[str], list[Present]],
        on_change: Callable[[PresenceChange], object] | None,
        logger: logging.Logger,
    ) -> None:
        self._exchange = exchange
        self._publisher = exchange.publisher
        self._local = local
        self._on_change = on_change
        self._log = logger
        self._rooms: dict[str, dict[bytes, dict[str, Present]]] = {}
        self._alive: dict[bytes, float] = {}
        # Rooms about which we have asked: when, and who has not answered yet.
        self._asked: dict[str, tuple[float, set[bytes]]] = {}
        self._news = asyncio.Event()
        # Two heartbeats may be lost, and the third may take its time.
        self._ttl = 2 * exchange.heartbeat.interval + exchange.heartbeat.timeout
        loop = asyncio.get_running_loop()
        # Until then there may be processes that have not been heard of.
        self._acquainted = loop.time() + exchange.heartbeat.interval + exchange.heartbeat.timeout
        exchange.spawn(self._expire())

    # ---------------------------------------------------------------- our own

    def joined(self, room: str, member: Present) -> None:
        """One of ours has joined."""
        self._tell(room, Kind.JOINED, [member])
        self._changed(room, True, [member])

    def left(self, room: str, member: Present) -> None:
        """One of ours has left."""
        self._tell(room, Kind.LEFT, [member])
        self._changed(room, False, [member])

    def ask(self, room: str) -> None:
        """Ask every process for its members of *room*."""
        self._ask(room, set(self._alive))

    def _ask(self, room: str, silent: set[bytes]) -> None:
        self._asked[room] = asyncio.get_running_loop().time(), silent
        self._publisher.announce(HEARTBEAT, Kind.ASK, room.encode("utf-8", "surrogatepass"))

    def forget(self, room: str) -> None:
        """It is followed no longer."""
        self._rooms.pop(room, None)
        self._asked.pop(room, None)

    def _answer(self, room: str) -> None:
        members = self._local(room)
        for start in range(0, max(len(members), 1), _CHUNK):
            kind = Kind.HERE if start == 0 else Kind.JOINED
            self._tell(room, kind, members[start : start + _CHUNK], start + _CHUNK < len(members))

    def _tell(self, room: str, kind: Kind, members: list[Present], more: bool = False) -> None:
        self._publisher.announce(topic_of(room), kind, bytes([more]) + _pack(members))

    # ------------------------------------------------------------- the others'

    def heard(self, room: str | None, envelope: Envelope) -> None:
        """What another process says; *room* is None on the heartbeat's topic."""
        kind, sender = envelope.kind, envelope.sender
        if room is None:
            if kind is Kind.GONE:
                self._gone(sender)
                return
            self._lives(sender)
            if kind is Kind.ASK:
                self._answer(envelope.payload.decode("utf-8", "surrogatepass"))
            return
        try:
            more, members = envelope.payload[0], list(_unpack(sender, envelope.payload[1:]))
        except (ValueError, IndexError) as error:
            self._log.warning("presence in room %r cannot be read: %s", room, error)
            return
        self._lives(sender)
        known = self._rooms.setdefault(room, {}).setdefault(sender, {})
        if kind is Kind.LEFT:
            self._changed(room, False, [m for m in members if known.pop(m.id, None) is not None])
        else:
            if kind is Kind.HERE:
                now = {member.id for member in members}
                # With more to come, it is not yet known who has left.
                gone = [] if more else [known.pop(old) for old in list(known) if old not in now]
                self._changed(room, False, gone)
            new = [member for member in members if member.id not in known]
            known.update({member.id: member for member in members})
            self._changed(room, True, new)
            if not more and room in self._asked:
                self._asked[room][1].discard(sender)
        self._news.set()

    def _lives(self, sender: bytes) -> None:
        """A process has been heard."""
        now = asyncio.get_running_loop().time()
        if sender not in self._alive:
            # It does not know us either.
            self._publisher.announce(HEARTBEAT, Kind.ALIVE, b"")
            # It was there when we asked, unless that is longer ago than its first
            # heartbeat; then it began with no members, and has told of each.
            for asked, silent in self._asked.values():
                if asked > now - self._exchange.heartbeat.interval:
                    silent.add(sender)
        self._alive[sender] = now

    def _changed(self, room: str, joined: bool, members: Iterable[Present]) -> None:
        if self._on_change is None:
            return
        for member in members:
            try:
                self._on_change(PresenceChange(room, joined, member))
            except Exception:
                self._log.exception("on_presence failed")

    def _gone(self, sender: bytes) -> None:
        self._alive.pop(sender, None)
        for room, processes in list(self._rooms.items()):
            self._changed(room, False, processes.pop(sender, {}).values())
        self._news.set()

    async def _expire(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(self._exchange.heartbeat.interval)
            # While we are deaf ourselves, that nobody is heard says nothing.
            if self._exchange.backend.connected:
                for sender, heard in list(self._alive.items()):
                    if heard < loop.time() - self._ttl:
                        self._gone(sender)
                self._ask_again(loop.time() - self._exchange.heartbeat.interval)

    def _ask_again(self, before: float) -> None:
        """What was asked *before*, and not answered: that, or the answer, may have been lost."""
        for room, (asked, silent) in list(self._asked.items()):
            silent &= self._alive.keys()
            if silent and asked <= before:
                self._ask(room, silent)

    async def who(self, room: str, timeout: float) -> list[Present]:
        """Everybody in a room that is followed; waits for answers until *timeout*."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout):
                await asyncio.sleep(self._acquainted - asyncio.get_running_loop().time())
                while not self._complete(room):
                    self._news.clear()
                    await self._news.wait()
        others = [m for members in self._rooms.get(room, {}).values() for m in members.values()]
        return self._local(room) + others

    def _complete(self, room: str) -> bool:
        """Whether every process that lives has answered."""
        return room not in self._asked or not self._asked[room][1] & self._alive.keys()


def _pack(members: Iterable[Present]) -> bytes:
    parts: list[bytes] = []
    for member in members:
        name, info = member.id.encode(), member.info.encode()
        parts += (bytes([len(name)]), name, len(info).to_bytes(2, "big"), info)
    return b"".join(parts)


def _unpack(sender: bytes, data: bytes) -> Iterator[Present]:
    process = sender.hex()
    at = 0
    while at < len(data):
        middle = at + 1 + data[at]
        name, start = data[at + 1 : middle].decode(), middle + 2
        at = start + int.from_bytes(data[middle:start], "big")
        if len(data) < at:
            raise ValueError("it is cut off")
        yield Present(process, name, data[start:at].decode())


def check_present(id: str | None, info: str) -> None:
    """Raise ValueError if they are too long to travel."""
    if id is not None and not 1 <= len(id.encode()) <= MAX_ID:
        raise ValueError(f"an id has 1 to {MAX_ID} bytes of UTF-8, not {len(id.encode())}")
    if len(info.encode()) > MAX_INFO:
        raise ValueError(f"an info has at most {MAX_INFO} bytes of UTF-8, not {len(info.encode())}")
