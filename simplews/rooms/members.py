"""Who is in which room in this process, and how a message gets to all of them."""

from __future__ import annotations

import logging
import secrets
from collections.abc import Callable, Collection, Hashable, Iterable
from dataclasses import dataclass

from ..connection import AioBase
from ..link.base import Frames
from .backend import Position
from .member import Member, Outcome, Overflow, write_all

__all__ = ["BroadcastResult", "Members", "Wrap", "check_open"]

_log = logging.getLogger("simplews.rooms")

#: What a member can have done to every message before it gets it: the frames of
#: the message and its position (None without history) → the frames to write.
#: Members that give the same function share what it returns.
Wrap = Callable[[Frames, Position | None], Frames]


@dataclass(frozen=True, slots=True)
class BroadcastResult:
    """
    What became of a broadcast, counted over this process's members of the room.

    Attributes:
        delivered: Members to whom it was written, or for whom it waits.
        dropped: Members for whom a message, this one or an older, was dropped
            because they are behind.
        closed: Members whose connection has ended, or was closed for being behind.
    """

    delivered: int
    dropped: int
    closed: int


class Members:
    """
    The connections that are members of rooms here.

    Args:
        overflow: What to do when the queue of one is full.
        max_queue: Messages that the queue of one holds.
        on_left: Called with the room, the member and its info when it has left,
            also because its connection has ended.
    """

    def __init__(
        self, overflow: Overflow, max_queue: int, on_left: Callable[[str, Member, str], None]
    ) -> None:
        self.overflow: Overflow = overflow
        self._max_queue = max_queue
        self._on_left = on_left
        self._rooms: dict[str, dict[AioBase, Member]] = {}
        self._members: dict[AioBase, Member] = {}
        self._by_id: dict[str, AioBase] = {}
        self._wraps: dict[str, dict[AioBase, Wrap]] = {}

    def __len__(self) -> int:
        """How many connections are in any room."""
        return len(self._members)

    @property
    def names(self) -> tuple[str, ...]:
        """Rooms that have members."""
        return tuple(self._rooms)

    def add(
        self, room: str, ws: AioBase, id: str | None, info: str, wrap: Wrap | None
    ) -> tuple[Member, bool]:
        """
        Make *ws* a member.

        Returns:
            The member, and whether it was none before.

        Raises:
            ConnectionClosed: *ws* has ended.
            ValueError: It has another *id* already.
        """
        check_open(ws)
        member = self._members.get(ws)
        if member is not None and id not in (None, member.id):
            raise ValueError(f"it is already a member of rooms as {member.id!r}, not {id!r}")
        if member is None:
            member = Member(ws, self.overflow, self._max_queue, id or secrets.token_hex(8))
            self._members[ws] = member
            self._by_id[member.id] = ws
            ws.add_cleanup(lambda: self._gone(ws))
        if room in member.rooms:
            return member, False
        member.rooms[room] = info
        self._rooms.setdefault(room, {})[ws] = member
        if wrap is not None:
            self._wraps.setdefault(room, {})[ws] = wrap
        return member, True

    def remove(self, room: str, ws: AioBase) -> None:
        """End the membership; nothing happens if there is none."""
        member = self._members.get(ws)
        if member is None or room not in member.rooms:
            return
        info = member.rooms.pop(room)
        members = self._rooms[room]
        del members[ws]
        if not members:
            del self._rooms[room]
        if room in self._wraps:
            self._wraps[room].pop(ws, None)
            if not self._wraps[room]:
                del self._wraps[room]
        self._on_left(room, member, info)

    def _gone(self, ws: AioBase) -> None:
        """The connection has ended."""
        member = self._members.get(ws)
        if member is not None:
            for room in list(member.rooms):
                self.remove(room, ws)
            member.forget()
            del self._members[ws]
            if self._by_id.get(member.id) is ws:
                del self._by_id[member.id]

    def of(self, room: str) -> Collection[Member]:
        """The members of *room*, in the order in which they joined."""
        return self._rooms.get(room, {}).values()

    def get(self, room: str, ws: AioBase) -> Member | None:
        """The member that *ws* is in *room*, if it is one."""
        return self._rooms.get(room, {}).get(ws)

    def ids_of(self, connections: Collection[AioBase]) -> list[str]:
        """What those that are members are called in other processes."""
        return [self._members[ws].id for ws in connections if ws in self._members]

    def with_ids(self, ids: Iterable[str]) -> tuple[AioBase, ...]:
        """The connections that are called so."""
        return tuple(self._by_id[id] for id in ids if id in self._by_id)

    # --------------------------------------------------------------- messages

    def send(self, ws: AioBase, frames: Frames) -> None:
        """Write to one, if it is a member of any room."""
        member = self._members.get(ws)
        # A key of its own: it replaces nothing that waits.
        if member is not None and member.deliver(frames, object()) is Outcome.CLOSED:
            self._gone(ws)

    def hand_out(
        self,
        room: str,
        frames: Frames,
        left_out: Collection[AioBase],
        key: Hashable,
        position: Position | None = None,
    ) -> tuple[BroadcastResult, bool]:
        """Write to the members of *room*; also whether one of them is behind."""
        # A copy: a member that turns out to be closed leaves meanwhile.
        members = list(self._rooms.get(room, {}).values())
        wraps = self._wraps.get(room)
        if not wraps:
            return self._write_all(members, frames, left_out, key)
        groups: dict[Wrap | None, list[Member]] = {}
        for member in members:
            groups.setdefault(wraps.get(member.ws), []).append(member)
        delivered = dropped = closed = 0
        behind = False
        for wrap, group in groups.items():
            try:
                wrapped = frames if wrap is None else wrap(frames, position)
            except Exception:
                # They would miss it in silence.
                _log.exception("wrap failed; its members in room %r are closed", room)
                closed += len(group)
                for member in group:
                    member.ws.abort()
                continue
            result, late = self._write_all(group, wrapped, left_out, key)
            delivered += result.delivered
            dropped += result.dropped
            closed += result.closed
            behind = behind or late
        return BroadcastResult(delivered, dropped, closed), behind

    def _write_all(
        self,
        members: list[Member],
        frames: Frames,
        left_out: Collection[AioBase],
        key: Hashable,
    ) -> tuple[BroadcastResult, bool]:
        """The same frames to all of them."""
        delivered, dropped, closed, behind = write_all(members, frames, left_out, key)
        for ws in closed:
            self._gone(ws)
        return BroadcastResult(delivered, dropped, len(closed)), behind


def check_open(ws: AioBase) -> None:
    """
    Refuse what is no open connection.

    Raises:
        TypeError: It is no connection of ours.
        ConnectionClosed: It has ended.
        WebSocketRuntimeError: It was never opened.
    """
    if not isinstance(ws, AioBase):
        raise TypeError(
            f"join() takes an AioServer or AioClient, not {type(ws).__name__}; "
            f"AioServer.accept(asgi=...) makes one of a WebSocket of ASGI"
        )
    ws._link.check_open()
