"""With history: members get every message in the order of its offsets.

An engine with a history numbers what it keeps, and tells with each message which
offset was before it. While that is where the members are, the message is given to
them. Otherwise there is a hole, and everything from there on is read from the
history, in one task for each room, until the members are as far as the engine.
What the history does not have any more is a gap.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Coroutine, Sequence
from typing import Any

from ..errors import BackendUnavailable
from .backend import Backend, Position
from .envelope import Envelope, unpack
from .feed import Feed

__all__ = ["Filler"]

# Messages of a history read at once, and histories read at the same time.
_PAGE = 256
_FILLS = 16
# How many times publish_timeout a history may take to be read, and the seconds
# before it is tried again: these, and then twice as many each time.
_FILL_TIMEOUTS = 3
_FIRST_DELAY = 0.05


class Filler:
    """
    Keeps feeds in the order of the history, and fills their holes from it.

    Args:
        backend: The engine.
        give: Gives a message to the members.
        gap: Reports what could not be filled, since when, and why.
        proven: When all was well for sure, as ``time.time()`` has it.
        spawn: Starts a task that ends with the rooms.
        publish_timeout: Seconds for one try to read a history.
        logger: For what goes wrong.
    """

    def __init__(
        self,
        backend: Backend,
        *,
        give: Callable[[Feed, Envelope, Position | None], None],
        gap: Callable[[Feed, float, str], None],
        proven: Callable[[], float],
        spawn: Callable[[Coroutine[Any, Any, None]], asyncio.Task[None]],
        publish_timeout: float,
        logger: logging.Logger,
    ) -> None:
        self._backend = backend
        self._give = give
        self._gap = gap
        self._proven = proven
        self._spawn = spawn
        self._publish_timeout = publish_timeout
        self._log = logger
        self._fills = asyncio.Semaphore(_FILLS)

    def arrived(
        self, feed: Feed, envelope: Envelope, position: Position, previous: int | None
    ) -> None:
        """A live message: the next one, one that members have had, or one behind a hole."""
        at = feed.position
        if feed.seen is None or feed.seen.epoch != position.epoch or feed.seen < position:
            feed.seen = position
        if at is None or feed.filling is not None:
            return  # it is in the history, and will be read from there
        if at.epoch == position.epoch and position.offset <= at.offset:
            known = feed.senders.get(envelope.sender)
            if known is None or envelope.sequence <= known[0]:
                return  # read from the history already
            # Offsets went back: the engine has lost the end of its history.
            self.fill(feed, known[1], "the engine has forgotten messages")
        elif at.epoch == position.epoch and (previous is None or previous <= at.offset):
            self._advance(feed, envelope, position)
        else:
            self.fill(feed, time.time(), "a hole in the live messages")

    def marked(self, feed: Feed, mark: Envelope) -> None:
        """A sender says what its last message was."""
        if feed.filling is None:
            known = feed.senders.get(mark.sender)
            if known is None or known[0] >= mark.sequence:
                feed.in_sequence(mark)
            else:
                self.fill(feed, known[1], "the last messages did not arrive", mark)

    def _advance(self, feed: Feed, envelope: Envelope, position: Position) -> None:
        """The next message, in order."""
        feed.position = position
        feed.in_sequence(envelope)
        self._give(feed, envelope, position)

    def advance_to(
        self,
        feed: Feed,
        entries: Sequence[tuple[Position, bytes]],
        after: Position | None = None,
    ) -> None:
        """
        Give the members what they do not have of a page of the history.

        Args:
            feed: The room.
            entries: The page.
            after: Behind which position the page begins; members that are not
                that far need another page. None if it begins where they are.
        """
        if after is not None and (
            feed.position is None
            or feed.position.epoch != after.epoch
            or feed.position.offset < after.offset
        ):
            return
        for position, data in entries:
            at = feed.position
            if at is not None and at.epoch == position.epoch and at.offset >= position.offset:
                continue
            try:
                self._advance(feed, unpack(data), position)
            except ValueError as error:
                feed.position = position
                self._log.warning(
                    "what is in the history of %s is no message: %s", feed.topic, error
                )

    # ----------------------------------------------------------- reading it

    def fill(self, feed: Feed, since: float, reason: str, mark: Envelope | None = None) -> None:
        """
        Begin to read what is missing, unless that has begun.

        Args:
            feed: The room.
            since: What was before that, as ``time.time()`` has it, has arrived.
            reason: Why something is missing.
            mark: What said so; checked when the end of the history is reached.
        """
        if feed.filling is None:
            since = min(since, self._proven())
            feed.filling = self._spawn(self._fill_from_history(feed, since, reason, mark))

    def catch_up(self, feed: Feed) -> None:
        """Read the history if the engine has shown more than the members have."""
        at, seen = feed.position, feed.seen
        if at is None or seen is None or not feed.ready:
            return
        if seen.epoch != at.epoch or seen.offset > at.offset:
            self.fill(feed, time.time(), "a hole in the live messages")

    async def refill(self, feed: Feed) -> None:
        """Bring the members up to the end of the history; not for ever."""
        self.fill(feed, time.time(), "another process was quicker")
        if feed.filling is not None:
            await asyncio.wait({feed.filling})

    async def _fill_from_history(
        self, feed: Feed, since: float, reason: str, mark: Envelope | None
    ) -> None:
        problem = ""
        loop = asyncio.get_running_loop()
        try:
            async with self._fills:
                deadline = loop.time() + _FILL_TIMEOUTS * self._publish_timeout
                delay = _FIRST_DELAY
                while loop.time() < deadline:
                    try:
                        async with asyncio.timeout(self._publish_timeout):
                            await self._backend.wait_connected()
                            await self._read_all(feed, since, reason)
                    except (BackendUnavailable, TimeoutError) as error:
                        problem = str(error) or "no answer in time"
                        await asyncio.sleep(delay)
                        delay *= 2
                    else:
                        problem = ""
                        if mark is not None:
                            feed.in_sequence(mark)
                        return
                feed.senders.clear()
                self._gap(feed, since, f"{reason}; the history could not be read: {problem}")
        finally:
            feed.filling = None
            if not problem:
                self.catch_up(feed)

    async def _read_all(self, feed: Feed, since: float, reason: str) -> None:
        more = True
        while more and feed.position is not None:
            page = await self._backend.read(feed.topic, feed.position, _PAGE, since)
            more = page.more
            if not page.complete:
                feed.senders.clear()
                self._gap(feed, since, f"{reason}; the history does not reach back")
            self.advance_to(feed, page.entries)
            if not page.complete and (not page.entries or feed.position < page.end):
                feed.position = page.end
