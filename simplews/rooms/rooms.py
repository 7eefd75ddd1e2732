"""Rooms: join, leave, broadcast, presence."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Collection, Hashable
from types import TracebackType
from typing import Any

from ..connection import AioBase
from ..errors import ConnectionClosed, WebSocketRuntimeError
from ..link.base import Data, Frames
from ..types import Close, CloseCode
from .backend import Backend, Gap, Position
from .envelope import Envelope, head_of
from .exchange import Exchange
from .feed import Feed
from .joining import Joined, Membership, replay
from .member import Member, Overflow, check_overflow
from .members import BroadcastResult, Members, Wrap, check_open
from .presence import PresenceChange, Present, Register, check_present
from .publishing import WhenAway, check_when_away

__all__ = ["Rooms"]

_log = logging.getLogger("simplews.rooms")


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

    With a *backend* the same rooms span processes and hosts; the handler does not
    change. Then ``async with Rooms(Redis(url)) as rooms:`` connects at once, and
    raises if the engine cannot be reached; without the block, the first `join` or
    `broadcast` connects. Either way `close` ends it.

    Args:
        backend: `Redis`, `Nats` or `Memory`; None for this process alone.
        overflow: For a member whose queue is full: ``"close"`` closes it with
            1013; ``"drop_oldest"`` and ``"drop_newest"`` lose a message;
            ``"latest"`` keeps one waiting message for each ``key`` of
            `broadcast`, the newest, and drops the oldest when there are too
            many keys.
        max_queue: Messages that wait for one member, all its rooms together.
        on_gap: Called with a `Gap` when members may have missed messages. None
            closes the members of the room with 1012, so that they come again
            and begin anew. It must not wait.
        heartbeat_interval: Seconds between two signs of life that go through the
            engine and have to come back.
        heartbeat_timeout: Seconds that one may take. A subscription that has
            become deaf is found within the sum of the two.
        publish_timeout: Seconds that a broadcast or a join waits for an engine
            that is away.
        when_away: What a broadcast does while the engine is away: ``"raise"``
            waits for *publish_timeout*, then raises; ``"queue"`` keeps the
            message and returns at once.
        max_pending: Messages that wait for the engine; when there are more, a
            broadcast raises.
        presence: Whether processes tell each other who is where, for `who`.
        on_presence: Called with every `PresenceChange` in rooms that have members
            here; it implies *presence*.
    """

    def __init__(
        self,
        backend: Backend | None = None,
        *,
        overflow: Overflow = "close",
        max_queue: int = 256,
        on_gap: Callable[[Gap], object] | None = None,
        heartbeat_interval: float = 5.0,
        heartbeat_timeout: float = 5.0,
        publish_timeout: float = 5.0,
        when_away: WhenAway = "raise",
        max_pending: int = 1000,
        presence: bool = False,
        on_presence: Callable[[PresenceChange], object] | None = None,
    ) -> None:
        if max_queue < 1:
            raise ValueError(f"max_queue must be at least 1, not {max_queue}")
        if max_pending < 1:
            raise ValueError(f"max_pending must be at least 1, not {max_pending}")
        for name, seconds in (
            ("heartbeat_interval", heartbeat_interval),
            ("heartbeat_timeout", heartbeat_timeout),
            ("publish_timeout", publish_timeout),
        ):
            if not seconds > 0:
                raise ValueError(f"{name} must be positive, not {seconds}")
        self._members = Members(check_overflow(overflow), max_queue, self._left)
        self._backend = backend
        self._on_gap = on_gap
        self._exchange_options: dict[str, Any] = {
            "heartbeat_interval": heartbeat_interval,
            "heartbeat_timeout": heartbeat_timeout,
            "publish_timeout": publish_timeout,
            "when_away": check_when_away(when_away),
            "max_pending": max_pending,
        }
        self._presence = presence or on_presence is not None
        self._on_presence = on_presence
        # What follows is used with a backend only.
        self._exchange: Exchange | None = None
        self._register: Register | None = None
        self._closed = False
        self._feeds: dict[str, Feed] = {}
        self._gap_listeners: list[Callable[[Gap], object]] = []

    # ------------------------------------------------------------------ its life

    async def __aenter__(self) -> Rooms:
        """
        Connect to the engine.

        Raises:
            BackendUnavailable: It cannot be reached within ``publish_timeout``.
        """
        if self._backend is not None:
            try:
                await self._started(self._backend).wait_connected()
            except BaseException:
                await self.close()
                raise
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """
        Leave the engine, after what waits to be published; idempotent.

        Members stay connected, and hear nothing any more.

        Cancellation:
            It is closed; what waited may be lost.
        """
        self._closed = True
        if self._exchange is not None:
            await self._exchange.close(farewell=self._register is not None)

    @property
    def state(self) -> str:
        """The engine's state in words, for people and health checks."""
        if self._backend is None:
            return "in memory"
        return "closed" if self._closed else self._backend.state

    @property
    def connected(self) -> bool:
        """Whether the engine is there; always, without one."""
        if self._backend is None:
            return True
        return self._exchange is not None and not self._closed and self._backend.connected

    def _started(self, backend: Backend) -> Exchange:
        """The way to the engine; it begins with its first use, in a loop that runs."""
        if self._closed:
            raise WebSocketRuntimeError("the rooms are closed")
        if self._exchange is None:
            exchange = self._exchange = Exchange(
                backend,
                on_message=self._arrived,
                on_gap=self._missed,
                on_presence=self._heard,
                on_lost=self._ask,
                logger=_log,
                **self._exchange_options,
            )
            exchange.start()
            if self._presence:
                self._register = Register(exchange, self._present, self._on_presence, _log)
        return self._exchange

    # ---------------------------------------------------------------- membership

    def join(
        self,
        room: str,
        ws: AioBase,
        *,
        since: Position | str | None = None,
        id: str | None = None,
        info: str = "",
        wrap: Wrap | None = None,
    ) -> Membership:
        """
        Make *ws* a member of *room*.

        ``async with rooms.join(room, ws):`` leaves at the end of the block;
        ``await rooms.join(room, ws)`` stays until `leave`. A connection that
        ends leaves all its rooms by itself. Either gives a `Joined`.

        Args:
            room: The room's name; a room exists while it has members.
            ws: An open connection.
            since: The position of the last message that this member has had,
                perhaps from another process. With history it gets what came
                after that, in order, each once, and then what comes.
            id: Names this member for `who` and for *exclude*, also when it comes
                again with *since*: an id of one session, and not of a person
                with several. None makes one up.
            info: For `who`: a name, say. At most 1024 bytes.
            wrap: Called with every message and its position; what it returns is
                written instead.

        Raises:
            ConnectionClosed: *ws* has ended.
            BackendUnavailable: The engine does not answer in time.
            ValueError: *since* is no position, a name is too long for the engine, or
                *ws* has another *id* already.

        Cancellation:
            It has not joined.
        """
        check_present(id, info)
        if isinstance(since, str):
            since = Position.parse(since)
        return Membership(
            room, ws, since, id, info, wrap, enter=self._enter, leave=self._members.remove
        )

    async def leave(self, room: str, ws: AioBase) -> None:
        """End the membership; nothing happens if there is none."""
        self._members.remove(room, ws)

    def close_members(self, room: str, code: int = 1012, reason: str = "") -> None:
        """
        Begin to close this process's members of *room*; does not wait.

        Args:
            room: The room's name.
            code: Close code; 1012 asks clients to come again.
            reason: Close reason.
        """
        close = Close(code, reason)
        for ws in self.presence(room):
            try:
                ws._link.begin_close(close)
            except ConnectionClosed:
                continue

    # ----------------------------------------------------------------- messages

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
        members that are behind. With a backend it waits until the engine has the
        message; without history, members of this process get it then.

        Args:
            room: The room's name.
            data: ``str`` for a text message, bytes-like for a binary one.
            exclude: A connection, or several, to leave out: the sender, say.
            key: For ``overflow="latest"``: which messages replace each other.
                With a backend: ``str``, ``bytes`` or ``int``.

        Returns:
            Counts of what became of it in this process. With history and
            ``when_away="queue"`` nothing is counted.

        Raises:
            TypeError: *data* is no message, or *key* cannot travel.
            ValueError: It is bigger than the engine takes; nobody gets it.
            BackendUnavailable: The engine did not take it in time. Other
                processes may have it all the same.

        Cancellation:
            The message is on its way to everybody by then; with a backend, it
            may or may not be, and without history, members of this process do
            not get it.
        """
        frames = Frames(data)
        left_out = _as_collection(exclude)
        if self._backend is not None:
            publisher = self._started(self._backend).publisher
            head = head_of(self._members.ids_of(left_out), key)
            topic = publisher.check(room, frames, head)
            result = await publisher.publish(topic, frames, head)
            if self._backend.history is not None:
                return result or BroadcastResult(0, 0, 0)
        result, behind = self._members.hand_out(room, frames, left_out, key)
        if behind:
            await asyncio.sleep(0)
        return result

    def send_nowait(self, ws: AioBase, data: Data) -> None:
        """
        Send to one member, behind all that waits for it; never waits.

        After ``await rooms.join(...)``, say, it is behind what that wrote and
        before all that is broadcast from then on. Nothing happens if *ws* is in
        no room; if its queue is full, *overflow* decides.

        Args:
            ws: A member of any room.
            data: ``str`` for a text message, bytes-like for a binary one.

        Raises:
            TypeError: *data* is no message.
        """
        self._members.send(ws, Frames(data))

    # ----------------------------------------------------------------- presence

    def presence(self, room: str) -> tuple[AioBase, ...]:
        """The members of *room* in this process, in the order in which they joined."""
        return tuple(member.ws for member in self._members.of(room))

    async def who(self, room: str, *, timeout: float = 1.0) -> list[Present]:
        """
        The members of *room* in all processes, those of this process first.

        Args:
            room: The room's name.
            timeout: Seconds to wait for processes that have not answered yet.
                Whoever has not by then is missing.

        Raises:
            WebSocketRuntimeError: There is a backend, and *presence* is off.
            BackendUnavailable: The engine does not answer.

        Cancellation:
            Safe.
        """
        if self._backend is None:
            return self._present(room)
        exchange = self._started(self._backend)
        if self._register is None:
            raise WebSocketRuntimeError("who() needs Rooms(..., presence=True)")
        feed = await self._follow(exchange, room)
        try:
            return await self._register.who(room, timeout)
        finally:
            self._unfollow(exchange, feed)

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the rooms that have members in this process."""
        return self._members.names

    # ------------------------------------------------- for what is built on rooms

    @property
    def overflow(self) -> Overflow:
        """What happens to a member whose queue is full."""
        return self._members.overflow

    @property
    def max_envelope(self) -> int | None:
        """Bytes that the engine carries at once, a message and what is around it."""
        return None if self._backend is None else self._backend.max_envelope

    def add_gap_listener(self, listener: Callable[[Gap], object]) -> None:
        """Call *listener* with every gap, before *on_gap*, for as long as the rooms live."""
        self._gap_listeners.append(listener)

    # ---------------------------------------------------------------- inside

    async def _enter(self, membership: Membership) -> tuple[Joined, bool]:
        """Join; also whether it was no member before."""
        if self._backend is not None:
            return await self._enter_through(self._backend, membership)
        room, since = membership.room, membership.since
        _, new = self._members.add(
            room, membership.ws, membership.id, membership.info, membership.wrap
        )
        gap = None
        if since is not None:
            gap = Gap(room, 0.0, time.time(), "there is no history", since)
        return Joined(None, 0, gap), new

    async def _enter_through(self, backend: Backend, membership: Membership) -> tuple[Joined, bool]:
        """Join a room that other processes have members of, too."""
        room, ws, since = membership.room, membership.ws, membership.since
        new = False

        def add() -> Member:
            nonlocal new
            info = membership.info
            member, new = self._members.add(room, ws, membership.id, info, membership.wrap)
            if new and self._register is not None:
                self._register.joined(room, self._describe(member, info))
            return member

        check_open(ws)
        exchange = self._started(backend)
        feed = await self._follow(exchange, room)
        try:
            joined = Joined(feed.position, 0, None)
            member = self._members.get(room, ws)
            if member is None and since is not None:
                joined = await replay(exchange, feed, membership, since, add)
            elif member is None:
                add()
        except BaseException:
            if new:
                self._members.remove(room, ws)
            else:
                self._unfollow(exchange, feed)
            raise
        if not new:
            self._unfollow(exchange, feed)
        return joined, new

    def _left(self, room: str, member: Member, info: str) -> None:
        """A membership has ended."""
        if self._exchange is not None and not self._closed:
            if self._register is not None:
                self._register.left(room, self._describe(member, info))
            self._unfollow(self._exchange, self._feeds[room])

    # ---------------------------------------------------- what is between processes

    async def _follow(self, exchange: Exchange, room: str) -> Feed:
        feed = await exchange.follow(room)
        if self._feeds.get(room) is not feed:
            self._feeds[room] = feed
            self._ask(room)
        return feed

    def _unfollow(self, exchange: Exchange, feed: Feed) -> None:
        exchange.unfollow(feed)
        if not feed.users:
            self._feeds.pop(feed.room, None)
            if self._register is not None:
                self._register.forget(feed.room)

    def _arrived(
        self, room: str, frames: Frames, envelope: Envelope, position: Position | None
    ) -> BroadcastResult:
        """A message from the engine."""
        left_out = self._members.with_ids(envelope.excluded) if envelope.excluded else ()
        return self._members.hand_out(room, frames, left_out, envelope.key, position)[0]

    def _missed(self, gap: Gap) -> None:
        for listener in self._gap_listeners:
            listener(gap)
        if self._on_gap is not None:
            self._on_gap(gap)
        else:
            self.close_members(gap.room, CloseCode.SERVICE_RESTART, "messages may be missing")

    def _heard(self, room: str | None, envelope: Envelope) -> None:
        if self._register is not None:
            self._register.heard(room, envelope)

    def _ask(self, room: str) -> None:
        if self._register is not None:
            self._register.ask(room)

    def _describe(self, member: Member, info: str) -> Present:
        process = "" if self._exchange is None else self._exchange.process.hex()
        return Present(process, member.id, info)

    def _present(self, room: str) -> list[Present]:
        return [self._describe(member, member.rooms[room]) for member in self._members.of(room)]


def _as_collection(exclude: AioBase | Collection[AioBase] | None) -> Collection[AioBase]:
    if exclude is None:
        return ()
    return (exclude,) if isinstance(exclude, AioBase) else frozenset(exclude)
