"""The chat room of the demo: rooms, names, who came and left, and the limits on each.

Every message is one JSON object. From a client::

    {"text": "hello"}          say it to the room
    {"name": "Ada"}            be called Ada from now on

Text that is not such an object is said to the room as it is, so that a person
at a plain terminal can take part. To a client::

    {"type": "message", "room", "id", "name", "text"}
    {"type": "system",  "room", "id", "name", "message", "event", "present"}

``id`` tells members with similar names apart. ``event`` is "welcome" (only to
the one who came), "joined", "left", "renamed", or "refused" (only to the one
whose message was refused); ``present`` counts the members of the room.

Behind an engine the rooms are those of several processes. A name is then one
member's in its process alone, the welcome says which process that is, and what
others say may come before it.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import re
import secrets
from dataclasses import dataclass
from typing import Any

from .. import AioServer, BackendUnavailable, Rooms
from ..rooms import Backend

__all__ = ["NAME_LIMIT", "TEXT_LIMIT", "Chat"]

DEFAULT_ROOM = "general"
NAME_LIMIT = 32  # characters
TEXT_LIMIT = 2000  # characters
# Seconds for other processes to say whom they have, who may have to be found first:
# before somebody is welcomed, and before all are told of it.
WELCOME_PATIENCE, PATIENCE = 0.3, 2.0

_ROOM = re.compile(r"[a-z0-9][a-z0-9_-]{0,31}")
_ROOM_RULE = "a room's name is 1 to 32 letters, digits, - or _"


@dataclass(slots=True)
class _Member:
    id: str
    name: str
    room: str


class Chat:
    """
    Any number of rooms; the query parameter ``room`` chooses one, ``name`` a name.

    Args:
        backend: What joins the rooms of several processes; None for this one's alone.
    """

    def __init__(self, backend: Backend | None = None) -> None:
        self._across = backend is not None
        # Quick to know the other processes; and a person is told soon that something
        # was not sent.
        self._rooms = Rooms(backend, presence=self._across, heartbeat_interval=1, publish_timeout=2)
        self._members: dict[AioServer, _Member] = {}
        self._ids = itertools.count(1)

    async def __aenter__(self) -> Chat:
        """Begin; also while the engine is away, which whoever comes is told."""
        return self

    async def __aexit__(self, *_: object) -> None:
        """Leave the engine."""
        await self._rooms.close()

    async def handle(self, ws: AioServer) -> None:
        """Hold one member's connection; the handler for ``serve()``."""
        query = ws.request.query_params
        room = (query.get("room") or DEFAULT_ROOM).lower()
        if not _ROOM.fullmatch(room):
            # RFC 6455 §7.4.1: 1008 is for a message that violates a policy; the
            # browser cannot see a refused handshake, but it sees a close reason.
            await ws.close(1008, _ROOM_RULE)
            return

        # Counted, so that guests have short names; processes cannot count together.
        id = secrets.token_hex(3) if self._across else str(next(self._ids))
        member = _Member(id, "", room)
        member.name = self._free_name(query.get("name") or "", member)
        self._members[ws] = member
        try:
            async with self._rooms.join(room, ws):
                await self._take_part(ws, member)
        except BackendUnavailable:
            # Try again later.
            await ws.close(1013, "the rooms cannot be reached")
        finally:
            del self._members[ws]
            # Where the others cannot be told, they will be closed with 1012 and come
            # again; to wait for that would hold up the end of the process.
            if self._rooms.connected:
                with contextlib.suppress(BackendUnavailable):
                    await self._announce(member, "left", f"{member.name} left #{room}")

    async def _take_part(self, ws: AioServer, member: _Member) -> None:
        where = f", on process {os.getpid()}" if self._across else ""
        await self._tell(ws, "welcome", f"You joined #{member.room} as {member.name}{where}")
        await self._announce(member, "joined", f"{member.name} joined #{member.room}", exclude=ws)
        async for message in ws:
            await self._receive(ws, member, message)

    async def _receive(self, ws: AioServer, member: _Member, message: str | bytes) -> None:
        if isinstance(message, bytes):
            await self._tell(ws, "refused", "Not sent: this chat takes text only")
            return
        request = _parse(message)
        if "name" in request:
            await self._rename(ws, member, request["name"])
        if "text" in request:
            await self._say(ws, member, request["text"])

    async def _say(self, ws: AioServer, member: _Member, text: str) -> None:
        text = text.strip()
        if not text:
            return
        if len(text) > TEXT_LIMIT:
            await self._tell(
                ws, "refused", f"Not sent: {len(text)} characters, and {TEXT_LIMIT} is the limit"
            )
            return
        try:
            await self._broadcast(member, {"type": "message", "text": text})
        except BackendUnavailable:
            await self._tell(ws, "refused", "Not sent: the rooms cannot be reached just now")

    async def _rename(self, ws: AioServer, member: _Member, wish: str) -> None:
        before, member.name = member.name, self._free_name(wish, member)
        if member.name != before:
            await self._announce(member, "renamed", f"{before} is now {member.name}")

    def _free_name(self, wish: str, member: _Member) -> str:
        """The name that *member* gets: printable, short, and nobody else's in the room."""
        # Linear in all members; fine for a demo.
        taken = {
            other.name.casefold()
            for other in self._members.values()
            if other.room == member.room and other is not member
        }
        name = _clean_name(wish) or f"Guest {member.id}"
        if name.casefold() not in taken:
            return name
        numbered = (f"{name[: NAME_LIMIT - 6].rstrip()} ({n})" for n in itertools.count(2))
        return next(name for name in numbered if name.casefold() not in taken)

    async def _announce(
        self, member: _Member, event: str, message: str, *, exclude: AioServer | None = None
    ) -> None:
        fields = await self._system(member, event, message)
        await self._broadcast(member, fields, exclude=exclude)

    async def _broadcast(
        self, member: _Member, fields: dict[str, Any], *, exclude: AioServer | None = None
    ) -> None:
        message = _serialize(member, fields)
        await self._rooms.broadcast(member.room, message, exclude=exclude)

    async def _tell(self, ws: AioServer, event: str, message: str) -> None:
        member = self._members[ws]
        fields = await self._system(member, event, message, WELCOME_PATIENCE)
        await ws.send(_serialize(member, fields))

    async def _system(
        self, member: _Member, event: str, message: str, patience: float = PATIENCE
    ) -> dict[str, Any]:
        present = len(self._rooms.presence(member.room))
        # Who is refused because the engine is away does not wait for it once more.
        if self._across and self._rooms.connected and event != "refused":
            with contextlib.suppress(BackendUnavailable):
                present = len(await self._rooms.who(member.room, timeout=patience))
        return {"type": "system", "event": event, "message": message, "present": present}


def _serialize(member: _Member, fields: dict[str, Any]) -> str:
    who = {"room": member.room, "id": member.id, "name": member.name}
    return json.dumps({**fields, **who}, ensure_ascii=False)


def _parse(message: str) -> dict[str, str]:
    """What a client asks for: its object's "text" and "name", or all it wrote as "text"."""
    try:
        data = json.loads(message)
    except (ValueError, RecursionError):  # RecursionError: "[" a few thousand times
        data = None
    if isinstance(data, dict):
        known = {key: data[key] for key in ("text", "name") if isinstance(data.get(key), str)}
        if known:
            return {key: _without_surrogates(value) for key, value in known.items()}
    return {"text": message}


def _without_surrogates(text: str) -> str:
    # JSON can say "\ud800", which no UTF-8 can: it would end the connection of
    # everyone in the room.
    return text.encode("utf-8", "replace").decode()


def _clean_name(wish: str) -> str:
    printable = "".join(c for c in wish[: NAME_LIMIT * 4] if c.isprintable() or c.isspace())
    return " ".join(printable.split())[:NAME_LIMIT].rstrip()
