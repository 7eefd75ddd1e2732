"""Rooms: join, leave, broadcast, presence."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Generator, Hashable
from dataclasses import dataclass
from types import TracebackType
from typing import Any

from ..connection import AioBase
from ..errors import ConnectionClosed
from ..link.base import Data, Frames
from .member import Member, Outcome, Overflow, check_overflow

__all__ = ["BroadcastResult", "Rooms"]


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


_DELIVERED = Outcome.DELIVERED  # enums are slow to look into, for every member


class Rooms:
    """
    Groups of connections that get the same messages.

    ::

        rooms = Rooms()

        async def chat(ws):
            async with rooms.join("lobby", ws):
                async for message in ws:
                    await rooms.broadcast("lobby", message, exclude=ws)

    A message is framed, and compressed for those who agreed on that, once, and
    written to every member. A member that is slow or gone never delays another:
    what it cannot take yet waits in a queue of its own, and when that is full,
    *overflow* decides.

    Args:
        overflow: For a member whose queue is full: ``"close"`` closes it with
            1013; ``"drop_oldest"`` and ``"drop_newest"`` lose a message;
            ``"latest"`` keeps one waiting message for each ``key`` of
            `broadcast`, the newest, and drops the oldest when there are too
            many keys.
        max_queue: Messages that wait for one member, all its rooms together.
    """

    def __init__(self, *, overflow: Overflow = "close", max_queue: int = 256) -> None:
        if max_queue < 1:
            raise ValueError(f"max_queue must be at least 1, not {max_queue}")
        self._overflow: Overflow = check_overflow(overflow)
        self._max_queue = max_queue
        self._rooms: dict[str, dict[AioBase, Member]] = {}
        self._members: dict[AioBase, Member] = {}

    def join(self, room: str, ws: AioBase) -> Membership:
        """
        Make *ws* a member of *room*.

        ``async with rooms.join(room, ws):`` leaves at the end of the block;
        ``await rooms.join(room, ws)`` stays until `leave`. A connection that
        ends leaves all its rooms by itself.

        Args:
            room: The room's name; a room exists while it has members.
            ws: An open connection.

        Raises:
            ConnectionClosed: *ws* has ended.
        """
        return Membership(self, room, ws)

    async def leave(self, room: str, ws: AioBase) -> None:
        """End the membership; nothing happens if there is none."""
        self._leave(room, ws)

    async def broadcast(
        self,
        room: str,
        data: Data,
        *,
        exclude: AioBase | Collection[AioBase] | None = None,
        key: Hashable = None,
    ) -> BroadcastResult:
        """
        Send a message to every member of *room*.

        It does not wait for any of them, but lets the loop write what waits for
        members that are behind.

        Args:
            room: The room's name.
            data: ``str`` for a text message, bytes-like for a binary one.
            exclude: A connection, or several, to leave out: the sender, say.
            key: For ``overflow="latest"``: which messages replace each other.

        Returns:
            Counts of what became of it.

        Raises:
            TypeError: *data* is no message.

        Cancellation:
            The message is on its way to everybody by then.
        """
        frames = Frames(data)
        left_out = _as_collection(exclude)
        delivered = dropped = closed = 0
        behind = False
        # A copy: a member that turns out to be closed leaves meanwhile.
        for ws, member in list(self._rooms.get(room, {}).items()):
            if left_out and ws in left_out:
                continue
            outcome = member.deliver(frames, key)
            if outcome is _DELIVERED:
                delivered += 1
            elif outcome is Outcome.CLOSED:
                closed += 1
                self._gone(ws)
                continue
            else:
                dropped += 1
            if member.queue:
                behind = True
        if behind:
            await asyncio.sleep(0)
        return BroadcastResult(delivered, dropped, closed)

    def presence(self, room: str) -> tuple[AioBase, ...]:
        """The members of *room* in this process, in the order in which they joined."""
        return tuple(self._rooms.get(room, ()))

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the rooms that have members."""
        return tuple(self._rooms)

    # ---------------------------------------------------------------- inside

    def _join(self, room: str, ws: AioBase) -> bool:
        """Whether *ws* was no member before."""
        if not isinstance(ws, AioBase):
            raise TypeError(
                f"join() takes an AioServer or AioClient, not {type(ws).__name__}; "
                f"AioServer.accept(asgi=...) makes one of a WebSocket of ASGI"
            )
        ending = ws._link.ending
        if ending is not None:
            raise ConnectionClosed(ending)
        ws._link.flush()  # refuses a connection that was never opened
        member = self._members.get(ws)
        if member is None:
            member = Member(ws, self._overflow, self._max_queue)
            self._members[ws] = member
            ws.add_cleanup(lambda: self._gone(ws))
        if room in member.rooms:
            return False
        member.rooms.add(room)
        self._rooms.setdefault(room, {})[ws] = member
        return True

    def _leave(self, room: str, ws: AioBase) -> None:
        member = self._members.get(ws)
        if member is None or room not in member.rooms:
            return
        member.rooms.discard(room)
        members = self._rooms[room]
        del members[ws]
        if not members:
            del self._rooms[room]

    def _gone(self, ws: AioBase) -> None:
        """The connection has ended."""
        member = self._members.get(ws)
        if member is not None:
            for room in list(member.rooms):
                self._leave(room, ws)
            member.forget()
            del self._members[ws]


class Membership:
    """What `Rooms.join` returns: await it, or enter it to leave at the end."""

    __slots__ = ("_joined", "_room", "_rooms", "_ws")

    def __init__(self, rooms: Rooms, room: str, ws: AioBase) -> None:
        self._rooms = rooms
        self._room = room
        self._ws = ws
        self._joined = False

    def __await__(self) -> Generator[Any, Any, None]:
        return self._enter().__await__()

    async def _enter(self) -> None:
        self._joined = self._rooms._join(self._room, self._ws)

    async def __aenter__(self) -> None:
        await self._enter()

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        # An outer block that joined the same room leaves it, not this one.
        if self._joined:
            await self._rooms.leave(self._room, self._ws)


def _as_collection(exclude: AioBase | Collection[AioBase] | None) -> Collection[AioBase]:
    if exclude is None:
        return ()
    return (exclude,) if isinstance(exclude, AioBase) else frozenset(exclude)
