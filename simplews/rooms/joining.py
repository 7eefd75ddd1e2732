"""What `Rooms.join` returns, and how a member that was away gets what it missed.

`replay` writes the history to it, page by page and at its own pace, while the room
goes on for the others. What they get meanwhile is kept (`Feed.remembering`), so
that at the end of the history nothing has to be waited for: the member joins at
the very place where its history ends.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Awaitable, Callable, Generator
from dataclasses import dataclass
from types import TracebackType
from typing import Any

from ..connection import AioBase
from .backend import Gap, Position
from .envelope import frames_of, unpack
from .exchange import Exchange
from .feed import Feed
from .member import Member
from .members import Wrap

__all__ = ["Joined", "Membership", "replay"]

_log = logging.getLogger("simplews.rooms")

# Messages of a history read at once for one member.
_PAGE = 100
# How often a member may fall behind the room while it reads the history.
_CATCH_UPS = 100


@dataclass(frozen=True, slots=True)
class Joined:
    """
    What came of a `Rooms.join`.

    Attributes:
        position: With history: the member gets what comes after it.
        recovered: Messages that were written because of *since*.
        gap: With *since*: None if nothing is missing. Otherwise the member gets
            what comes from now on, and has to begin anew; ``gap.since`` is 0.
    """

    position: Position | None
    recovered: int
    gap: Gap | None


class Membership:
    """
    What `Rooms.join` returns: await it, or enter it to leave at the end.

    Args:
        room: The room's name.
        ws: The connection.
        since: The position of the last message that it has had.
        id: What it is called in other processes.
        info: For `Rooms.who`.
        wrap: What is done to every message for it.
        enter: Makes it a member; also whether it was none before.
        leave: Ends that.
    """

    __slots__ = ("_enter", "_joined", "_leave", "id", "info", "room", "since", "wrap", "ws")

    def __init__(
        self,
        room: str,
        ws: AioBase,
        since: Position | None,
        id: str | None,
        info: str,
        wrap: Wrap | None,
        *,
        enter: Callable[[Membership], Awaitable[tuple[Joined, bool]]],
        leave: Callable[[str, AioBase], None],
    ) -> None:
        self.room = room
        self.ws = ws
        self.since = since
        self.id = id
        self.info = info
        self.wrap = wrap
        self._enter = enter
        self._leave = leave
        self._joined = False

    def __await__(self) -> Generator[Any, Any, Joined]:
        return self.__aenter__().__await__()

    async def __aenter__(self) -> Joined:
        joined, self._joined = await self._enter(self)
        return joined

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        # An outer block that joined the same room leaves it, not this one.
        if self._joined:
            self._leave(self.room, self.ws)


async def replay(
    exchange: Exchange,
    feed: Feed,
    membership: Membership,
    since: Position,
    add: Callable[[], Member],
) -> Joined:
    """
    Write what a member missed, and join at the very place where that ends.

    Args:
        exchange: The way to the history.
        feed: The room.
        membership: Who.
        since: The position of the last message that it has had.
        add: Makes it a member, and does not wait.
    """
    began = feed.position
    if began is None:
        return _with_gap(feed, since, "there is no history", add)
    if began.epoch == since.epoch and began.offset < since.offset:
        # Another process was quicker than this one.
        await exchange.filler.refill(feed)
    written = 0
    at = since
    with feed.remembering():
        for _ in range(_CATCH_UPS):
            page = await exchange.backend.read(feed.topic, at, _PAGE)
            if not page.complete:
                return _with_gap(feed, since, "the history does not reach back", add)
            exchange.filler.advance_to(feed, page.entries, at)
            for position, data in page.entries:
                written += await _write(membership, data, position)
                at = position
            if page.more:
                continue
            if feed.position is None or feed.position.epoch != at.epoch:
                break
            if at.offset >= feed.recent_from:
                # From here on nothing waits: no message can come in between.
                member = add()
                for position, frames, envelope in list(feed.recent):
                    if position.offset > at.offset and member.id not in envelope.excluded:
                        if membership.wrap is not None:
                            frames = membership.wrap(frames, position)
                        member.deliver(frames, envelope.key)
                        written += 1
                return Joined(feed.position, written, None)
    return _with_gap(feed, at, "the room is faster than the connection", add)


def _with_gap(feed: Feed, since: Position, reason: str, add: Callable[[], Member]) -> Joined:
    """Join without what was missed."""
    add()
    return Joined(feed.position, 0, Gap(feed.room, 0.0, time.time(), reason, since))


async def _write(membership: Membership, data: bytes, position: Position) -> int:
    """One message of the history, at the pace of the member; how many that were."""
    try:
        envelope = unpack(data)
        frames = frames_of(envelope)
    except ValueError as error:
        _log.warning("what is in the history of %r is no message: %s", membership.room, error)
        return 0
    if membership.id is not None and membership.id in envelope.excluded:
        return 0
    if membership.wrap is not None:
        frames = membership.wrap(frames, position)
    link = membership.ws._link
    while not link.write_frames(frames):
        await link.writable()
    return 1
