"""Between `Rooms` and an engine: everything that is the same for every engine.

Out: `Publisher`, a queue that keeps the order and numbers what leaves.

In: the backend calls `_deliver`. Without history, the sequence of each sender
shows a hole (`Feed`); with history, the chain of offsets does, and the history
fills it (`Filler`). Whatever cannot be filled is a `Gap`, reported once.

The theory of never being deaf in silence: a connection that breaks is the
backend's to notice. One that is silent without being broken is noticed by a
heartbeat that goes through the engine and has to come back (`Heartbeat`). What an
engine drops while the connection lives leaves a hole in somebody's sequence, and
for the last message of all there are marks: a sender repeats its last sequence
with the next heartbeats.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable, Coroutine
from typing import Any

from ..errors import BackendUnavailable
from ..link.base import Frames
from .backend import Backend, Gap, Lost, Position
from .envelope import HEARTBEAT, Envelope, Kind, frames_of, topic_of, unpack
from .feed import Feed
from .filling import Filler
from .heartbeat import Heartbeat
from .publishing import Publisher, WhenAway, away
from .tasks import end_tasks

__all__ = ["Exchange"]


class Exchange:
    """
    Carries rooms through an engine.

    Args:
        backend: The engine.
        on_message: Gives a message to this process's members. With history its result
            goes to whoever broadcast it, if that was here.
        on_gap: Called with a gap that could not be filled.
        on_presence: Called with every envelope about who is there.
        on_lost: Called with the name of a room when some of those may have been lost.
        heartbeat_interval: Seconds between heartbeats.
        heartbeat_timeout: Seconds in which one has to come back.
        publish_timeout: Seconds that a broadcast waits for an engine that is away.
        when_away: What a broadcast does then.
        max_pending: Messages that wait to be published.
        logger: For what goes wrong.

    Attributes:
        publisher: The way out.
        heartbeat: Whether we hear.
        filler: What fills holes from the history.
        feeds: The rooms that are followed, by topic.
        process: What this process is called in envelopes.
    """

    def __init__(
        self,
        backend: Backend,
        *,
        on_message: Callable[[str, Frames, Envelope, Position | None], Any],
        on_gap: Callable[[Gap], None],
        on_presence: Callable[[str | None, Envelope], None],
        on_lost: Callable[[str], None],
        heartbeat_interval: float,
        heartbeat_timeout: float,
        publish_timeout: float,
        when_away: WhenAway,
        max_pending: int,
        logger: logging.Logger,
    ) -> None:
        self.backend = backend
        self._on_message = on_message
        self._on_gap = on_gap
        self._on_presence = on_presence
        self._on_lost = on_lost
        self._publish_timeout = publish_timeout
        self._log = logger
        self.publisher = Publisher(
            backend,
            publish_timeout=publish_timeout,
            when_away=when_away,
            max_pending=max_pending,
            logger=logger,
        )
        self.process = self.publisher.process
        self.heartbeat = Heartbeat(
            backend,
            self.publisher,
            interval=heartbeat_interval,
            timeout=heartbeat_timeout,
            logger=logger,
        )
        self.filler = Filler(
            backend,
            give=self._give,
            gap=self.gap,
            proven=self.heartbeat.proven,
            spawn=self.spawn,
            publish_timeout=publish_timeout,
            logger=logger,
        )
        self.feeds: dict[str, Feed] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._closed = False

    def start(self) -> None:
        """Begin; what the engine needs to be there happens in the background."""
        self.backend.start(self._deliver, self._lost)
        self.spawn(self.publisher.run())
        self.spawn(self.heartbeat.run())

    def spawn(self, coroutine: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """A task that ends with the exchange."""
        task = asyncio.get_running_loop().create_task(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._done)
        return task

    def _done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self._log.error("a task of Rooms failed", exc_info=error)

    async def wait_connected(self) -> None:
        """
        Wait until the engine is there.

        Raises:
            BackendUnavailable: It is not, within ``publish_timeout``.
        """
        try:
            async with asyncio.timeout(self._publish_timeout):
                await self.backend.wait_connected()
        except TimeoutError:
            raise away(self.backend, self._publish_timeout) from None

    async def close(self, farewell: bool) -> None:
        """Send what waits, if the engine is there, and leave it."""
        if self._closed:
            return
        self._closed = True
        await self.publisher.close(farewell)
        await end_tasks(list(self._tasks))
        await self.backend.close()
        self.publisher.give_up()

    # --------------------------------------------------------------- following

    async def follow(self, room: str) -> Feed:
        """
        Count one more user of *room*, and return when the engine delivers it.

        Raises:
            BackendUnavailable: The engine does not answer in time.
        """
        topic = topic_of(room)
        feed = self.feeds.get(topic)
        if feed is None:
            feed = self.feeds[topic] = Feed(room, self.gap)
        feed.users += 1
        try:
            if not feed.ready:
                async with asyncio.timeout(self._publish_timeout):
                    await self._settle(feed)
        except TimeoutError:
            self.unfollow(feed)
            raise away(self.backend, self._publish_timeout) from None
        except BaseException:
            self.unfollow(feed)
            raise
        return feed

    def unfollow(self, feed: Feed) -> None:
        """Count one user less."""
        feed.users -= 1
        if not feed.users and not self._closed:
            self.spawn(self._settle(feed))

    async def _settle(self, feed: Feed) -> None:
        """Subscribe or unsubscribe, whichever the number of users asks for."""
        async with feed.lock:
            if feed.users and not feed.ready:
                await self.backend.wait_connected()
                await self.backend.subscribe(feed.topic)
                if self.backend.history is not None and feed.position is None:
                    feed.position = await self.backend.newest(feed.topic)
                if self.backend.history is not None:
                    self.publisher.expect(feed.topic)
                feed.ready = True
                self.filler.catch_up(feed)
            elif not feed.users:
                feed.forget()
                self.publisher.forget(feed.topic)
                with contextlib.suppress(BackendUnavailable):
                    await self.backend.unsubscribe(feed.topic)
                # Whoever came while we waited waits for the lock now.
                if not feed.users:
                    self.feeds.pop(feed.topic, None)

    # --------------------------------------------------------------- receiving

    def _deliver(
        self, topic: str, data: bytes, position: Position | None, previous: int | None
    ) -> None:
        """What the backend calls. Nothing that anybody publishes may harm its connection."""
        try:
            self._receive(topic, unpack(data), position, previous)
        except ValueError as error:
            self._log.warning("what came on %s cannot be read: %s", topic, error)
        except Exception:
            self._log.exception("what came on %s could not be given to its members", topic)

    def _receive(
        self, topic: str, envelope: Envelope, position: Position | None, previous: int | None
    ) -> None:
        if topic.startswith("~"):
            if envelope.sender == self.process:
                self.heartbeat.came_back(topic, envelope.payload)
            elif topic == HEARTBEAT:
                self._on_presence(None, envelope)
            return
        feed = self.feeds.get(topic)
        if feed is None:
            return  # it was on its way when the last member left
        if envelope.kind > Kind.MARK:
            if envelope.sender != self.process:
                self._on_presence(feed.room, envelope)
        elif envelope.kind is Kind.MARK:
            if self.backend.history is None:
                feed.in_sequence(envelope)
            else:
                self.filler.marked(feed, envelope)
        elif position is not None:
            self.filler.arrived(feed, envelope, position, previous)
        elif feed.in_sequence(envelope) and envelope.sender != self.process:
            self._give(feed, envelope, None)

    def _give(self, feed: Feed, envelope: Envelope, position: Position | None) -> None:
        """A message to the members."""
        own = None
        if envelope.sender == self.process:
            own = self.publisher.came_back(feed.topic, envelope.sequence)
        frames = None if own is None else own.frames
        if frames is None:
            try:
                frames = frames_of(envelope)
            except UnicodeDecodeError as error:
                self._log.warning("a text message in %r is not UTF-8: %s", feed.room, error)
                return
        if feed.joining and position is not None:
            feed.remember(position, frames, envelope)
        result = self._on_message(feed.room, frames, envelope, position)
        if own is not None and own.echo is not None and not own.echo.done():
            own.echo.set_result(result)

    # -------------------------------------------------------- what was missed

    def gap(self, feed: Feed, since: float, reason: str) -> None:
        """Report what could not be filled."""
        since = min(since, self.heartbeat.proven())
        gap = Gap(feed.room, since, time.time(), reason, feed.position)
        self._log.warning("gap in room %r: %s", feed.room, reason)
        try:
            self._on_gap(gap)
        except Exception:
            self._log.exception("on_gap failed")

    def _lost(self, lost: Lost) -> None:
        """The backend may have lost messages, and has its subscriptions back."""
        self._log.warning("messages of the engine may have been lost: %s", lost.reason)
        self.heartbeat.void()
        for feed in list(self.feeds.values()):
            if not feed.ready or (lost.topics is not None and feed.topic not in lost.topics):
                continue
            self._on_lost(feed.room)
            if self.backend.history is None:
                # A new beginning: what others sent meanwhile is in this gap.
                feed.senders.clear()
                self.gap(feed, lost.since, lost.reason)
            else:
                self.filler.fill(feed, lost.since, lost.reason)
