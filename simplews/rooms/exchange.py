"""Between `Rooms` and an engine: everything that is the same for every engine.

Out: `Exchange.publish` → a bounded queue → one task, so that what a process sends
keeps its order, and is sent in batches while the engine takes its time.

In: the backend calls `_deliver`. Without history, the sequence of each sender
shows a hole; with history, the chain of offsets does, and the history fills it.
Whatever cannot be filled is a `Gap`, reported once.

The theory of never being deaf in silence: a connection that breaks is the
backend's to notice. One that is silent without being broken is noticed here, by
a heartbeat that goes through the engine and has to come back. What an engine
drops while the connection lives leaves a hole in somebody's sequence, and for
the last message of all there are marks: a sender repeats its last sequence with
the next heartbeats.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import secrets
import time
from collections import OrderedDict, deque
from collections.abc import Callable, Coroutine, Iterator, Sequence
from typing import Any, Literal

from ..errors import BackendUnavailable
from ..link.base import Frames
from .backend import Backend, Gap, Lost, Outgoing, Position
from .envelope import HEARTBEAT, Envelope, Kind, head_of, pack, topic_of, unpack
from .tasks import end_tasks

__all__ = ["Exchange", "Feed", "WhenAway", "check_when_away", "frames_of"]

#: What a broadcast does while the engine is away; see `Rooms`.
WhenAway = Literal["raise", "queue"]

# What one call of the backend publishes.
_BATCH = 256
_BATCH_BYTES = 1 << 20
# Waiting bytes, in messages of the greatest size that the engine takes.
_PENDING_ENVELOPES = 16
# Senders that a room remembers, and topics whose sequence a sender remembers. What
# is forgotten begins at 1 again, which receivers take for a beginning.
_SENDERS = 1024
_SEQUENCES = 16384
# Messages of a history read at once, and histories read at the same time.
_PAGE = 256
_FILLS = 16
# How many times publish_timeout a history may take to be read, and the seconds
# before it is tried again: these, and then twice as many each time.
_FILL_TIMEOUTS = 3
_FIRST_DELAY = 0.05
# The fixed part of an envelope.
_FIXED = len(pack(Kind.TEXT, bytes(8), 0, b"", b""))


def check_when_away(when_away: str) -> WhenAway:
    """Raise ValueError unless *when_away* is a policy."""
    if when_away not in ("raise", "queue"):
        raise ValueError(f"when_away must be 'raise' or 'queue', not {when_away!r}")
    return when_away  # type: ignore[return-value]


class _Item:
    """What waits to be published."""

    __slots__ = (
        "deadline",
        "done",
        "echo",
        "frames",
        "head",
        "keep",
        "kind",
        "payload",
        "sequence",
        "topic",
    )

    def __init__(self, topic: str, kind: Kind, head: bytes, payload: bytes, keep: bool) -> None:
        self.topic = topic
        self.kind = kind
        self.head = head
        self.payload = payload
        self.keep = keep
        self.sequence = 0
        self.deadline: float | None = None
        self.done: asyncio.Future[None] | None = None
        self.frames: Frames | None = None
        # With history: resolved by our own message as it comes back.
        self.echo: asyncio.Future[Any] | None = None


class _Beat:
    """
    The heartbeat on one topic.

    Attributes:
        number: Of the one that is under way.
        echo: Set when it has come back.
        proven: When the last one that came back was sent, as ``time.time()`` has it:
            whatever the engine took before that has been delivered.
    """

    __slots__ = ("echo", "number", "proven")

    def __init__(self) -> None:
        self.number = 0
        self.echo = asyncio.Event()
        self.proven = time.time()


class Feed:
    """
    One room that this process follows.

    Attributes:
        room: Its name.
        topic: Its name for the engine.
        users: Members, and joins under way; without any it is followed no longer.
        ready: Whether the engine delivers it.
        position: With history: of the last message that members got.
        joining: Joins that read the history just now.
        recent: While there are any: what members got meanwhile.
        recent_from: The offset behind which *recent* has everything.
    """

    __slots__ = (
        "filling",
        "joining",
        "lock",
        "position",
        "ready",
        "recent",
        "recent_from",
        "room",
        "seen",
        "senders",
        "topic",
        "users",
    )

    def __init__(self, room: str) -> None:
        self.room = room
        self.topic = topic_of(room)
        self.users = 0
        self.ready = False
        self.lock = asyncio.Lock()
        self.position: Position | None = None
        # The newest position that the engine has shown; ahead of `position` while
        # a hole is being filled.
        self.seen: Position | None = None
        self.filling: asyncio.Task[None] | None = None
        self.joining = 0
        self.recent: deque[tuple[Position, Frames, Envelope]] = deque()
        self.recent_from = 0
        # What was heard last of each sender: its sequence, and when.
        self.senders: OrderedDict[bytes, tuple[int, float]] = OrderedDict()

    def forget(self) -> None:
        """It is followed no longer."""
        self.ready = False
        self.position = self.seen = None
        self.senders.clear()
        if self.filling is not None:
            self.filling.cancel()


class Exchange:
    """
    Carries rooms through an engine.

    Args:
        backend: The engine.
        on_message: Gives a message to this process's members; its result goes to
            whoever broadcast it.
        on_gap: Called with a gap that could not be filled.
        on_presence: Called with every envelope about who is there.
        heartbeat_interval: Seconds between heartbeats.
        heartbeat_timeout: Seconds in which one has to come back.
        publish_timeout: Seconds that a broadcast waits for an engine that is away.
        when_away: What a broadcast does then.
        max_pending: Messages that wait to be published.
        recent_limit: Messages kept for those that join with a position.
    """

    def __init__(
        self,
        backend: Backend,
        *,
        on_message: Callable[[str, Frames, Envelope, Position | None], Any],
        on_gap: Callable[[Gap], None],
        on_presence: Callable[[str | None, Envelope], None],
        heartbeat_interval: float,
        heartbeat_timeout: float,
        publish_timeout: float,
        when_away: WhenAway,
        max_pending: int,
        logger: logging.Logger,
        recent_limit: int = 256,
    ) -> None:
        self.backend = backend
        self.process = secrets.token_bytes(8)
        self._on_message = on_message
        self._on_gap = on_gap
        self._on_presence = on_presence
        self.heartbeat_interval = heartbeat_interval
        self.heartbeat_timeout = heartbeat_timeout
        self._publish_timeout = publish_timeout
        self._when_away = when_away
        self._max_pending = max_pending
        self._log = logger
        self._recent_limit = recent_limit
        self.feeds: dict[str, Feed] = {}  # by topic
        self._waiting: deque[_Item] = deque()
        self._waiting_bytes = 0
        self._wake = asyncio.Event()
        self._sequences: OrderedDict[str, int] = OrderedDict()
        self._marks: dict[str, int] = {}  # topics, and how many marks are still to come
        self._own: dict[tuple[str, int], _Item] = {}  # published, and not yet come back
        self._beats: dict[str, _Beat] = {}
        self._tasks: set[asyncio.Task[Any]] = set()
        self._fills = asyncio.Semaphore(_FILLS)
        self._began = time.time()
        self.closed = False
        #: Messages that were queued and then lost.
        self.lost = 0

    def start(self) -> None:
        """Begin; what the engine needs to be there happens in the background."""
        self.backend.start(self._deliver, self._lost)
        self.spawn(self._publish_all())
        self.spawn(self._beat())

    def spawn(self, coroutine: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        """A task that ends with the exchange."""
        task = asyncio.get_running_loop().create_task(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._done)
        return task

    def _done(self, task: asyncio.Task[Any]) -> None:
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
            raise self._away() from None

    def _away(self) -> BackendUnavailable:
        return BackendUnavailable(
            f"no engine within {self._publish_timeout} seconds: {self.backend.state}"
        )

    async def close(self, farewell: bool) -> None:
        """Send what waits, if the engine is there, and leave it."""
        if self.closed:
            return
        self.closed = True
        if farewell:
            self._enqueue(_Item(HEARTBEAT, Kind.GONE, head_of(), b"", False))
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._publish_timeout):
                while self._waiting and self.backend.connected:
                    await self._send(self._take())
        await end_tasks(list(self._tasks))
        await self.backend.close()
        self._fail(list(self._waiting), BackendUnavailable("the rooms were closed"))
        self._waiting.clear()
        for item in self._own.values():
            if item.echo is not None and not item.echo.done():
                item.echo.cancel()
        self._own.clear()

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
            feed = self.feeds[topic] = Feed(room)
        feed.users += 1
        try:
            if not feed.ready:
                async with asyncio.timeout(self._publish_timeout):
                    await self._settle(feed)
        except TimeoutError:
            self.unfollow(feed)
            raise self._away() from None
        except BaseException:
            self.unfollow(feed)
            raise
        return feed

    def unfollow(self, feed: Feed) -> None:
        """Count one user less."""
        feed.users -= 1
        if not feed.users and not self.closed:
            self.spawn(self._settle(feed))

    async def _settle(self, feed: Feed) -> None:
        """Subscribe or unsubscribe, whichever the number of users asks for."""
        async with feed.lock:
            if feed.users and not feed.ready:
                await self.backend.wait_connected()
                await self.backend.subscribe(feed.topic)
                if self.backend.history is not None and feed.position is None:
                    feed.position = await self.backend.newest(feed.topic)
                feed.ready = True
                self._catch_up(feed)
            elif not feed.users:
                feed.forget()
                for key in [key for key in self._own if key[0] == feed.topic]:
                    own = self._own.pop(key)
                    if own.echo is not None:
                        own.echo.cancel()
                with contextlib.suppress(BackendUnavailable):
                    await self.backend.unsubscribe(feed.topic)
                # Whoever came while we waited waits for the lock now.
                if not feed.users:
                    self.feeds.pop(feed.topic, None)

    # -------------------------------------------------------------- publishing

    def check(self, room: str, frames: Frames, head: bytes) -> str:
        """
        The topic of *room*, if the message can go there.

        Raises:
            ValueError: It is bigger than the engine takes.
        """
        size = _FIXED + len(head) + len(frames.payload)
        limit = self.backend.max_envelope
        if size > limit:
            raise ValueError(
                f"message of {len(frames.payload)} bytes, {size} with its envelope, exceeds the "
                f"limit of {limit} bytes between processes"
            )
        return topic_of(room)

    async def publish(self, topic: str, frames: Frames, head: bytes) -> Any:
        """
        Send a message to the other processes.

        Returns:
            With history, and if this process follows the topic: the result of
            ``on_message``. Otherwise, or if the message is only queued, None.

        Raises:
            BackendUnavailable: The engine was away too long, or too much waits for it.
        """
        kind = Kind.TEXT if frames.opcode == 1 else Kind.BINARY
        item = _Item(topic, kind, head, frames.payload, True)
        size = len(frames.payload)
        if (
            len(self._waiting) >= self._max_pending
            or self._waiting_bytes + size > _PENDING_ENVELOPES * self.backend.max_envelope
        ):
            raise BackendUnavailable(
                f"{len(self._waiting)} messages, {self._waiting_bytes} bytes, already wait for "
                f"the engine: {self.backend.state}"
            )
        if self._when_away == "raise":
            loop = asyncio.get_running_loop()
            item.done = loop.create_future()
            item.deadline = loop.time() + self._publish_timeout
            feed = self.feeds.get(topic)
            if self.backend.history is not None and feed is not None and feed.ready:
                item.frames = frames
                item.echo = loop.create_future()
        self._enqueue(item)
        if item.done is None:
            return None
        await item.done
        if item.echo is None:
            return None
        try:
            async with asyncio.timeout(self._publish_timeout):
                return await asyncio.shield(item.echo)
        except TimeoutError:
            raise BackendUnavailable(
                f"the engine took the message and did not give it back within "
                f"{self._publish_timeout} seconds; it is in the history"
            ) from None
        except asyncio.CancelledError:
            if item.echo.cancelled() and not _cancelling():
                return None  # the last member left meanwhile
            raise
        finally:
            self._own.pop((topic, item.sequence), None)

    def announce(self, topic: str, kind: Kind, payload: bytes) -> None:
        """Send an envelope that is no message. It waits its turn; if it is lost, it is lost."""
        if not self.closed and len(self._waiting) < 2 * self._max_pending:
            self._enqueue(_Item(topic, kind, head_of(), payload, False))

    def _enqueue(self, item: _Item) -> None:
        self._waiting.append(item)
        self._waiting_bytes += len(item.payload)
        self._wake.set()

    async def _publish_all(self) -> None:
        while True:
            await self._wake.wait()
            if not self._waiting:
                self._wake.clear()
            elif self.backend.connected:
                await self._send(self._take())
            else:
                await self._wait_for_engine()

    async def _wait_for_engine(self) -> None:
        # Nothing that comes meanwhile has an earlier deadline than a message of now.
        soonest = asyncio.get_running_loop().time() + self._publish_timeout
        for item in self._waiting:
            if item.deadline is not None and item.deadline < soonest:
                soonest = item.deadline
        try:
            async with asyncio.timeout_at(soonest):
                await self.backend.wait_connected()
        except TimeoutError:
            now = asyncio.get_running_loop().time()
            late = [i for i in self._waiting if i.deadline is not None and i.deadline <= now]
            self._waiting = deque(i for i in self._waiting if i not in late)
            self._waiting_bytes = sum(len(item.payload) for item in self._waiting)
            self._fail(late, self._away())

    def _take(self) -> list[_Item]:
        batch: list[_Item] = []
        size = 0
        while self._waiting and len(batch) < _BATCH and size < _BATCH_BYTES:
            item = self._waiting.popleft()
            size += len(item.payload)
            # Given up by its sender before it was sent.
            if item.done is None or not item.done.cancelled():
                batch.append(item)
        self._waiting_bytes -= size
        return batch

    async def _send(self, batch: list[_Item]) -> None:
        outgoing = []
        for item in batch:
            if item.kind is Kind.MARK:
                sequence = self._sequences.get(item.topic, 0)
            elif item.keep:
                sequence = self._next(item)
            else:
                sequence = 0
            envelope = pack(item.kind, self.process, sequence, item.payload, item.head)
            outgoing.append(Outgoing(item.topic, envelope, item.keep))
        try:
            errors = await self.backend.publish(outgoing)
        except BackendUnavailable as error:
            self._fail(batch, error)
        except Exception as error:
            self._log.exception("publishing to the engine failed")
            self._fail(batch, BackendUnavailable(f"publishing failed: {error!r}"))
        except asyncio.CancelledError:
            self._fail(batch, BackendUnavailable("the rooms were closed"))
            raise
        else:
            for item, error_or_none in zip(batch, errors, strict=True):
                if error_or_none is not None:
                    self._fail([item], error_or_none)
                elif item.done is not None and not item.done.done():
                    item.done.set_result(None)

    def _next(self, item: _Item) -> int:
        sequence = self._sequences.pop(item.topic, 0) + 1
        self._sequences[item.topic] = item.sequence = sequence
        if len(self._sequences) > _SEQUENCES:
            forgotten, _ = self._sequences.popitem(last=False)
            self._marks.pop(forgotten, None)
        self._marks[item.topic] = 2
        if item.echo is not None:
            self._own[item.topic, sequence] = item
        return sequence

    def _fail(self, items: list[_Item], error: Exception) -> None:
        for item in items:
            if item.done is not None:
                # Whoever sent it is told. The next message begins a new sequence:
                # that this one is missing, if it is, is no gap for others.
                self._sequences.pop(item.topic, None)
                self._marks.pop(item.topic, None)
                if item.echo is not None:
                    self._own.pop((item.topic, item.sequence), None)
                    item.echo.cancel()
                if not item.done.done():
                    item.done.set_exception(error)
            elif item.keep:
                # Nobody is told; the hole in the sequence tells the receivers.
                self.lost += 1
                self._log.warning("a queued message to %s was lost: %s", item.topic, error)

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
                beat = self._beats.get(topic)
                if beat is not None and envelope.payload == b"%d" % beat.number:
                    beat.echo.set()
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
            self._marked(feed, envelope)
        elif position is not None:
            self._in_order(feed, envelope, position, previous)
        elif self._in_sequence(feed, envelope) and envelope.sender != self.process:
            self._give(feed, envelope, None)

    def _in_sequence(self, feed: Feed, envelope: Envelope) -> bool:
        """Whether it is new; whatever is missing before it is reported."""
        sender, sequence = envelope.sender, envelope.sequence
        now = time.time()
        known = feed.senders.pop(sender, None)
        mark = envelope.kind is Kind.MARK
        new = True
        if known is not None and sequence != 1:
            last, heard = known
            missing = sequence - last - (not mark)
            if missing > 0:
                reason = f"{missing} messages of process {sender.hex()} did not arrive"
                self.gap(feed, heard, reason)
            new = sequence > last
            sequence = max(sequence, last)
        feed.senders[sender] = sequence, now
        if len(feed.senders) > _SENDERS:
            feed.senders.popitem(last=False)
        return new

    def _marked(self, feed: Feed, mark: Envelope) -> None:
        """A sender says what its last message was."""
        if self.backend.history is None:
            self._in_sequence(feed, mark)
        elif feed.filling is None:
            known = feed.senders.get(mark.sender)
            if known is None or known[0] >= mark.sequence:
                self._in_sequence(feed, mark)
            else:
                self._fill(feed, known[1], "the last messages did not arrive", mark)

    def _give(self, feed: Feed, envelope: Envelope, position: Position | None) -> None:
        """A message to the members."""
        own = None
        if envelope.sender == self.process:
            own = self._own.pop((feed.topic, envelope.sequence), None)
        frames = None if own is None else own.frames
        if frames is None:
            try:
                frames = frames_of(envelope)
            except UnicodeDecodeError as error:
                self._log.warning("a text message in %r is not UTF-8: %s", feed.room, error)
                return
        if feed.joining and position is not None:
            if len(feed.recent) >= self._recent_limit:
                feed.recent_from = feed.recent.popleft()[0].offset
            feed.recent.append((position, frames, envelope))
        result = self._on_message(feed.room, frames, envelope, position)
        if own is not None and own.echo is not None and not own.echo.done():
            own.echo.set_result(result)

    def _proven(self) -> float:
        """
        When all was well for sure, as ``time.time()`` has it.

        That something was heard later proves less: it may have been long on its
        way, and what the engine took meanwhile is behind it.
        """
        return min((beat.proven for beat in self._beats.values()), default=self._began)

    def gap(self, feed: Feed, since: float, reason: str) -> None:
        """Report what could not be filled."""
        since = min(since, self._proven())
        gap = Gap(feed.room, since, time.time(), reason, feed.position)
        self._log.warning("gap in room %r: %s", feed.room, reason)
        try:
            self._on_gap(gap)
        except Exception:
            self._log.exception("on_gap failed")

    def _lost(self, lost: Lost) -> None:
        """The backend may have lost messages, and has its subscriptions back."""
        self._log.warning("messages of the engine may have been lost: %s", lost.reason)
        for beat in self._beats.values():
            # One that was under way may have been lost as well, and proves nothing.
            beat.number += 1
            beat.echo.set()
        for feed in list(self.feeds.values()):
            if not feed.ready or (lost.topics is not None and feed.topic not in lost.topics):
                continue
            self._on_presence(feed.room, Envelope(Kind.ASK, self.process, 0, (), None, b""))
            if self.backend.history is None:
                # A new beginning: what others sent meanwhile is in this gap.
                feed.senders.clear()
                self.gap(feed, lost.since, lost.reason)
            else:
                self._fill(feed, lost.since, lost.reason)

    # ----------------------------------------------------------------- history

    def _in_order(
        self, feed: Feed, envelope: Envelope, position: Position, previous: int | None
    ) -> None:
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
            self._fill(feed, known[1], "the engine has forgotten messages")
        elif at.epoch == position.epoch and (previous is None or previous <= at.offset):
            self._advance(feed, envelope, position)
        else:
            self._fill(feed, time.time(), "a hole in the live messages")

    def _advance(self, feed: Feed, envelope: Envelope, position: Position) -> None:
        """The next message, in order."""
        feed.position = position
        self._in_sequence(feed, envelope)
        self._give(feed, envelope, position)

    def _fill(self, feed: Feed, since: float, reason: str, mark: Envelope | None = None) -> None:
        if feed.filling is None:
            since = min(since, self._proven())
            feed.filling = self.spawn(self._fill_from_history(feed, since, reason, mark))

    def _catch_up(self, feed: Feed) -> None:
        """Read the history if the engine has shown more than the members have."""
        at, seen = feed.position, feed.seen
        if at is None or seen is None or not feed.ready:
            return
        if seen.epoch != at.epoch or seen.offset > at.offset:
            self._fill(feed, time.time(), "a hole in the live messages")

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
                            await self.backend.wait_connected()
                            await self._read_all(feed, since, reason)
                    except (BackendUnavailable, TimeoutError) as error:
                        problem = str(error) or "no answer in time"
                        await asyncio.sleep(delay)
                        delay *= 2
                    else:
                        problem = ""
                        if mark is not None:
                            self._in_sequence(feed, mark)
                        return
                feed.senders.clear()
                self.gap(feed, since, f"{reason}; the history could not be read: {problem}")
        finally:
            feed.filling = None
            if not problem:
                self._catch_up(feed)

    async def _read_all(self, feed: Feed, since: float, reason: str) -> None:
        more = True
        while more and feed.position is not None:
            page = await self.backend.read(feed.topic, feed.position, _PAGE, since)
            more = page.more
            if not page.complete:
                feed.senders.clear()
                self.gap(feed, since, f"{reason}; the history does not reach back")
            self.advance_to(feed, page.entries)
            if not page.complete and (not page.entries or feed.position < page.end):
                feed.position = page.end

    async def refill(self, feed: Feed) -> None:
        """Bring the members up to the end of the history; not for ever."""
        self._fill(feed, time.time(), "another process was quicker")
        if feed.filling is not None:
            await asyncio.wait({feed.filling})

    @contextlib.contextmanager
    def remembering(self, feed: Feed) -> Iterator[None]:
        """Keep what members get in ``feed.recent`` meanwhile."""
        if not feed.joining:
            feed.recent.clear()
            feed.recent_from = 0 if feed.position is None else feed.position.offset
        feed.joining += 1
        try:
            yield
        finally:
            feed.joining -= 1
            if not feed.joining:
                feed.recent.clear()

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

    # --------------------------------------------------------------- heartbeat

    async def _beat(self) -> None:
        """Show others that we live, and ourselves that we hear."""
        while True:
            await self.backend.wait_connected()
            topics = [HEARTBEAT, *self.backend.heartbeats()]
            for gone in self._beats.keys() - topics:
                del self._beats[gone]
            await asyncio.gather(*map(self._beat_once, topics))
            for topic, left in list(self._marks.items()):
                if left > 1:
                    self._marks[topic] = left - 1
                else:
                    del self._marks[topic]
                self.announce(topic, Kind.MARK, b"")
            await asyncio.sleep(self.heartbeat_interval)

    async def _beat_once(self, topic: str) -> None:
        try:
            async with asyncio.timeout(self.heartbeat_timeout):
                if topic not in self._beats:
                    await self.backend.subscribe(topic)
                    self._beats[topic] = _Beat()
                beat = self._beats[topic]
                beat.number += 1
                beat.echo.clear()
                sent = time.time()
                self.announce(topic, Kind.ALIVE, b"%d" % beat.number)
                number = beat.number
                await beat.echo.wait()
                if beat.number == number:
                    beat.proven = sent
        except BackendUnavailable as error:
            self._log.warning("no heartbeat on %s: %s", topic, error)
        except TimeoutError:
            if self.backend.connected:
                reason = f"a heartbeat did not come back within {self.heartbeat_timeout} seconds"
                self.backend.reconnect(topic, reason)


def frames_of(envelope: Envelope) -> Frames:
    """
    The message of an envelope.

    Raises:
        UnicodeDecodeError: It says that it is text, and is not.
    """
    payload = envelope.payload
    return Frames(payload.decode() if envelope.kind is Kind.TEXT else payload)


def _cancelling() -> bool:
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0
