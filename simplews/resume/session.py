"""The server's half: what one connection of a client may ask for, and gets."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import inspect
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from types import TracebackType
from typing import Any
from weakref import WeakKeyDictionary, WeakSet

from ..connection import AioBase
from ..errors import BackendUnavailable, ConnectionClosed
from ..link.base import Frames
from ..rooms import Gap, Joined, Position, Rooms
from ..types import Close, CloseCode
from .frames import (
    NOWHERE,
    SUBPROTOCOL,
    BadFrame,
    data_fields,
    data_of,
    make,
    number_of,
    parse,
    position_of,
    text_of,
)

__all__ = ["Session"]

# Clients whose last number is remembered, for each `Rooms`.
_CLIENTS = 10_000
# What a message of a client may lack to the greatest that the engine carries: its
# envelope, and the frame around it.
_AROUND = 1024
# Bytes of a room's name, and of a client's.
_ROOM = 512
_CLIENT = (16, 128)

_MISSING = Close(CloseCode.SERVICE_RESTART, "messages may be missing")


@dataclass(frozen=True)
class _Wrap:
    """What makes frames of a room's messages; equal for one room, so that members share them."""

    room: str

    def __call__(self, frames: Frames, position: Position | None) -> Frames:
        at = None if position is None else str(position)
        fields = data_fields(frames.data)
        return Frames(make("message", room=self.room, position=at, **fields))


class _Sender:
    """What is known of one client: the last number that was dealt with, and who deals."""

    def __init__(self) -> None:
        self.number = 0
        self.dealing = asyncio.Lock()
        self.sessions = 0


class _Shared:
    """What the sessions of one `Rooms` share."""

    def __init__(self) -> None:
        self.sessions: WeakSet[Session] = WeakSet()
        self._here: dict[str, _Sender] = {}
        self._gone: OrderedDict[str, _Sender] = OrderedDict()

    def came(self, client: str) -> _Sender:
        sender = self._here.get(client) or self._gone.pop(client, None) or _Sender()
        self._here[client] = sender
        sender.sessions += 1
        return sender

    def left(self, client: str) -> None:
        sender = self._here[client]
        sender.sessions -= 1
        if not sender.sessions:
            self._gone[client] = self._here.pop(client)
            if len(self._gone) > _CLIENTS:
                self._gone.popitem(last=False)

    def missed(self, gap: Gap) -> None:
        # Each comes again with its own position, and is told what that is worth.
        for session in list(self.sessions):
            session._missed(gap)


_shared: WeakKeyDictionary[Rooms, _Shared] = WeakKeyDictionary()


def _shared_of(rooms: Rooms) -> _Shared:
    shared = _shared.get(rooms)
    if shared is None:
        shared = _shared[rooms] = _Shared()
        rooms.add_gap_listener(shared.missed)
    return shared


class Session:
    """
    A connection that speaks ``simplews.resume.v1``, on the server.

    ::

        async def handler(ws):
            async with resume.Session(ws, rooms, allow=may_join) as session:
                async for room, message in session:
                    await rooms.broadcast(room, message)

        serve(handler, subprotocols=[resume.SUBPROTOCOL])

    The loop gives what the client sends; joining, leaving and resuming happen in it
    meanwhile. A message is acknowledged when the loop asks for the next one; if its
    body raises, it is not, and the client sends it again. What this process has
    dealt with already is acknowledged again, and not given again.

    It ends as ``async for`` over the connection does. A client that breaks the rules
    is closed with 1002, one whose frame is too big with 1009; while the engine is
    away, a join closes with 1013, so that the client comes again.

    Args:
        ws: An open connection.
        rooms: Where it joins; ``overflow`` has to be ``"close"``, because whatever
            else loses messages without a word.
        allow: Called with the name of a room that the client wants to join, plain or
            async: whether it may. It may send to rooms that it has joined.
        max_rooms: Rooms that it may be in at once.
        max_size: Characters of one frame of the client.

    Raises:
        ValueError: *rooms* may drop messages, or a limit is not positive.
    """

    def __init__(
        self,
        ws: AioBase,
        rooms: Rooms,
        *,
        allow: Callable[[str], bool | Awaitable[bool]],
        max_rooms: int = 100,
        max_size: int = 1 << 20,
    ) -> None:
        if rooms.overflow != "close":
            raise ValueError(
                f"Rooms(overflow={rooms.overflow!r}) loses messages without a word; "
                f"resume needs overflow='close'"
            )
        for name, value in (("max_rooms", max_rooms), ("max_size", max_size)):
            if value < 1:
                raise ValueError(f"{name} must be at least 1, not {value}")
        self.ws = ws
        self._rooms = rooms
        self._allow = allow
        self._max_rooms = max_rooms
        self._max_size = max_size
        self._shared = _shared_of(rooms)
        self._joined: set[str] = set()
        self._id: str | None = None
        self._sender: _Sender | None = None
        self._number = 0  # of the last message on this connection
        self._given = 0  # the number that the body deals with; 0 for none

    async def __aenter__(self) -> Session:
        self._shared.sessions.add(self)
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._shared.sessions.discard(self)
        if self._id is not None and self._sender is not None:
            if self._given:
                # Left by break or an error: it is not known to have been dealt with.
                self._given = 0
                self._sender.dealing.release()
            self._shared.left(self._id)
        for room in self._joined:
            await self._rooms.leave(room, self.ws)

    def __aiter__(self) -> Session:
        return self

    async def __anext__(self) -> tuple[str, str | bytes]:
        try:
            await self._acknowledge()
            while True:
                message = await self.ws.receive(None)
                assert message is not None
                given = await self._answer(message)
                if given is not None:
                    return given
        except ConnectionClosed as error:
            if error.ending.normal:
                raise StopAsyncIteration from None
            raise

    async def _acknowledge(self) -> None:
        """The body has dealt with what it was given last."""
        number, sender = self._given, self._sender
        if number and sender is not None:
            self._given = 0
            sender.number = number
            sender.dealing.release()
            await self.ws.send(make("ack", number=number))

    async def _answer(self, message: str | bytes) -> tuple[str, str | bytes] | None:
        """Do what a frame says; or what it has for the application."""
        if self.ws.subprotocol != SUBPROTOCOL:
            await self._end(CloseCode.PROTOCOL_ERROR, f"{SUBPROTOCOL} was not agreed on")
            return None
        if len(message) > self._max_size:
            why = f"a frame of {len(message)} characters exceeds the limit of {self._max_size}"
            await self._end(CloseCode.MESSAGE_TOO_BIG, why)
            return None
        try:
            frame = parse(message)
            kind = frame["type"]
            if (kind == "hello") is not (self._sender is None):
                raise BadFrame("hello must be the first frame, and no other")
            if kind == "hello":
                self._hello(frame)
            elif kind == "join":
                await self._join(frame)
            elif kind == "leave":
                await self._leave(frame)
            elif kind == "message":
                return await self._take(frame)
            # Others may come with a later version, and are not needed in this one.
        except BadFrame as error:
            await self._end(CloseCode.PROTOCOL_ERROR, str(error))
        return None

    async def _end(self, code: CloseCode, reason: str) -> None:
        # RFC 6455 §5.5: a control frame has 125 bytes, two of them for the code.
        await self.ws.close(code, reason.encode("ascii", "replace")[:123].decode())

    def _hello(self, frame: dict[str, Any]) -> None:
        client = text_of(frame, "client", *_CLIENT)
        # Others may see the id of a member; the name of the client is its secret.
        self._id = hashlib.sha256(client.encode()).hexdigest()[:32]
        self._sender = self._shared.came(self._id)

    async def _join(self, frame: dict[str, Any]) -> None:
        room = text_of(frame, "room", 0, _ROOM)
        since = position_of(frame, "since")
        if room in self._joined:
            raise BadFrame("join: it is a member already")
        if len(self._joined) >= self._max_rooms:
            reason = f"more than {self._max_rooms} rooms"
            await self.ws.send(make("error", room=room, reason=reason))
            return
        allowed = self._allow(room)
        if not (await allowed if inspect.isawaitable(allowed) else allowed):
            await self.ws.send(make("error", room=room, reason="it may not join"))
            return
        self._joined.add(room)
        try:
            joined = await self._rooms.join(
                room, self.ws, since=since, id=self._id, wrap=_Wrap(room)
            )
            # Nothing waits between the join and this: it is behind what was missed,
            # and before all that is new, through the same queue.
            self._tell(room, joined)
        except BackendUnavailable:
            await self._end(CloseCode.TRY_AGAIN_LATER, "the engine is away")

    def _tell(self, room: str, joined: Joined) -> None:
        position = str(joined.position or NOWHERE)
        gap = None if joined.gap is None else joined.gap.reason
        frame = make("joined", room=room, position=position, gap=gap)
        self._rooms.send_nowait(self.ws, frame)

    async def _leave(self, frame: dict[str, Any]) -> None:
        room = text_of(frame, "room", 0, _ROOM)
        self._joined.discard(room)
        await self._rooms.leave(room, self.ws)

    async def _take(self, frame: dict[str, Any]) -> tuple[str, str | bytes] | None:
        room = text_of(frame, "room", 0, _ROOM)
        number, data = number_of(frame), data_of(frame)
        if number <= self._number:
            raise BadFrame(f"message: number {number} after {self._number}")
        self._number = number
        sender = self._sender
        assert sender is not None
        await self._turn(sender)
        if number <= sender.number:
            sender.dealing.release()
            await self.ws.send(make("ack", number=number))
            return None
        why = self._refusal(room, data)
        if why is not None:
            sender.number = number
            sender.dealing.release()
            await self.ws.send(make("error", room=room, number=number, reason=why))
            return None
        self._given = number
        return room, data

    async def _turn(self, sender: _Sender) -> None:
        """Another connection of the client, which it has lost, may deal with its messages."""
        if not sender.dealing.locked():
            await sender.dealing.acquire()
            return
        turn = asyncio.ensure_future(sender.dealing.acquire())
        gone = asyncio.ensure_future(self.ws.wait_closed())
        try:
            await asyncio.wait({turn, gone}, return_when=asyncio.FIRST_COMPLETED)
        except asyncio.CancelledError:
            if turn.done():
                sender.dealing.release()
            raise
        finally:
            gone.cancel()
            if not turn.done():
                turn.cancel()
        if not turn.done():
            ending = self.ws._link.ending
            assert ending is not None
            raise ConnectionClosed(ending)

    def _refusal(self, room: str, data: str | bytes) -> str | None:
        """Why this message can never be taken."""
        if room not in self._joined:
            return "it is no member of the room"
        if self._rooms.max_envelope is not None:
            size = len(data.encode() if isinstance(data, str) else data)
            limit = self._rooms.max_envelope - _AROUND
            if size > limit:
                return f"message of {size} bytes exceeds the limit of {limit} bytes"
        return None

    def _missed(self, gap: Gap) -> None:
        if gap.room in self._joined:
            with contextlib.suppress(ConnectionClosed):
                self.ws._link.begin_close(_MISSING)
