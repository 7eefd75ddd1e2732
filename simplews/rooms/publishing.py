"""Out of this process: what waits for the engine, in which order, and what became of it.

`Publisher.publish` → a bounded queue → one task, so that what a process sends
keeps its order, and is sent in batches while the engine takes its time.

A message is numbered as it leaves: the sequence counts what this process sends to
its topic, so that receivers see a hole. When a sender was told that its message
failed, what follows begins a new run: whether the engine has that message is not
known, and it may yet arrive, later than what follows. For the last message of all
there are marks: `Publisher.remind` repeats a topic's last sequence.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import secrets
from collections import OrderedDict, deque
from typing import Any, Literal

from ..errors import BackendUnavailable
from ..link.base import Frames
from .backend import Backend, Outgoing
from .envelope import HEARTBEAT, LAST_OF_RUN, RUN_SHIFT, Kind, head_of, pack, topic_of

__all__ = ["Publication", "Publisher", "WhenAway", "away", "check_when_away"]

#: What a broadcast does while the engine is away; see `Rooms`.
WhenAway = Literal["raise", "queue"]

# What one call of the backend publishes.
_BATCH = 256
_BATCH_BYTES = 1 << 20
# Waiting bytes, in messages of the greatest size that the engine takes.
_PENDING_ENVELOPES = 16
# Topics whose sequence is remembered. What is forgotten begins a new run.
_SEQUENCES = 16384
# The fixed part of an envelope.
_FIXED = len(pack(Kind.TEXT, bytes(8), 0, b"", b""))


def check_when_away(when_away: str) -> WhenAway:
    """Raise ValueError unless *when_away* is a policy."""
    if when_away not in ("raise", "queue"):
        raise ValueError(f"when_away must be 'raise' or 'queue', not {when_away!r}")
    return when_away  # type: ignore[return-value]


def away(backend: Backend, timeout: float) -> BackendUnavailable:
    """What to raise when the engine was not there within *timeout* seconds."""
    return BackendUnavailable(f"no engine within {timeout} seconds: {backend.state}")


class Publication:
    """
    What waits to be published, or to come back.

    Attributes:
        topic: Where to.
        kind: What it is.
        head: From `head_of`.
        payload: The message.
        keep: Whether it belongs into the history, if there is one.
        sequence: Given to it as it leaves.
        deadline: When its sender gives up, in the loop's time; None if nobody waits.
        done: Resolved when the engine has it; None if nobody waits.
        frames: The message as it came from its sender.
        echo: With history: resolved when it has come back and was given to members.
    """

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
        self.echo: asyncio.Future[Any] | None = None


class Publisher:
    """
    Sends to the engine.

    Args:
        backend: The engine.
        publish_timeout: Seconds that a broadcast waits for an engine that is away.
        when_away: What a broadcast does then.
        max_pending: Messages that wait to be published.
        logger: For what goes wrong.

    Attributes:
        process: What this process is called in envelopes.
    """

    def __init__(
        self,
        backend: Backend,
        *,
        publish_timeout: float,
        when_away: WhenAway,
        max_pending: int,
        logger: logging.Logger,
    ) -> None:
        self.process = secrets.token_bytes(8)
        self._backend = backend
        self._publish_timeout = publish_timeout
        self._when_away = when_away
        self._max_pending = max_pending
        self._log = logger
        self._waiting: deque[Publication] = deque()
        self._waiting_bytes = 0
        self._wake = asyncio.Event()
        self._sequences: OrderedDict[str, int] = OrderedDict()
        self._runs = 0  # of all topics: a topic's later run has a higher number
        self._marks: dict[str, int] = {}  # topics, and how many marks are still to come
        self._echoing: set[str] = set()  # topics from which it comes back
        # Published, and not yet come back.
        self._own: dict[tuple[str, int], Publication] = {}
        self._closed = False

    async def run(self) -> None:
        """Publish, for ever."""
        while True:
            await self._wake.wait()
            if not self._waiting:
                self._wake.clear()
            elif self._backend.connected:
                await self._send(self._take())
            else:
                await self._wait_for_engine()

    async def close(self, farewell: bool) -> None:
        """Take nothing more, and send what waits if the engine is there."""
        self._closed = True
        if farewell:
            self._enqueue(Publication(HEARTBEAT, Kind.GONE, head_of(), b"", False))
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._publish_timeout):
                while self._waiting and self._backend.connected:
                    await self._send(self._take())

    def give_up(self) -> None:
        """Nothing is sent any more: tell whoever waits."""
        self._fail(list(self._waiting), BackendUnavailable("the rooms were closed"))
        self._waiting.clear()
        for publication in self._own.values():
            if publication.echo is not None and not publication.echo.done():
                publication.echo.cancel()
        self._own.clear()

    # ---------------------------------------------------------------- messages

    def check(self, room: str, frames: Frames, head: bytes) -> str:
        """
        The topic of *room*, if the message can go there.

        Raises:
            ValueError: It is bigger than the engine takes.
        """
        size = _FIXED + len(head) + len(frames.payload)
        limit = self._backend.max_envelope
        if size > limit:
            raise ValueError(
                f"message of {len(frames.payload)} bytes, {size} with its envelope, exceeds the "
                f"limit of {limit} bytes between processes"
            )
        return topic_of(room)

    async def publish(self, topic: str, frames: Frames, head: bytes) -> Any:
        """
        Send a message to the other processes.

        Args:
            topic: Where to.
            frames: The message.
            head: From `head_of`.

        Returns:
            What its `Publication.echo` was given, if it is expected to come back;
            otherwise, or if the message is only queued, None.

        Raises:
            BackendUnavailable: The engine was away too long, or too much waits for it.
        """
        kind = Kind.TEXT if frames.opcode == 1 else Kind.BINARY
        item = Publication(topic, kind, head, frames.payload, True)
        size = len(frames.payload)
        if (
            len(self._waiting) >= self._max_pending
            or self._waiting_bytes + size > _PENDING_ENVELOPES * self._backend.max_envelope
        ):
            raise BackendUnavailable(
                f"{len(self._waiting)} messages, {self._waiting_bytes} bytes, already wait for "
                f"the engine: {self._backend.state}"
            )
        if self._when_away == "raise":
            loop = asyncio.get_running_loop()
            item.done = loop.create_future()
            item.deadline = loop.time() + self._publish_timeout
            if topic in self._echoing:
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

    def expect(self, topic: str) -> None:
        """What is sent there comes back from now on, and its sender waits for that."""
        self._echoing.add(topic)

    def came_back(self, topic: str, sequence: int) -> Publication | None:
        """What this process sent with that sequence, once, if its sender waits for it."""
        return self._own.pop((topic, sequence), None)

    def forget(self, topic: str) -> None:
        """Nothing comes back from there any more."""
        self._echoing.discard(topic)
        for key in [key for key in self._own if key[0] == topic]:
            own = self._own.pop(key)
            if own.echo is not None:
                own.echo.cancel()

    # ----------------------------------------------------------- announcements

    def announce(self, topic: str, kind: Kind, payload: bytes) -> None:
        """Send an envelope that is no message. It waits its turn; if it is lost, it is lost."""
        if not self._closed and len(self._waiting) < 2 * self._max_pending:
            self._enqueue(Publication(topic, kind, head_of(), payload, False))

    def remind(self) -> None:
        """Repeat the last sequences, each of them twice in all."""
        for topic, left in list(self._marks.items()):
            if left > 1:
                self._marks[topic] = left - 1
            else:
                del self._marks[topic]
            self.announce(topic, Kind.MARK, b"")

    # --------------------------------------------------------------- the queue

    def _enqueue(self, item: Publication) -> None:
        self._waiting.append(item)
        self._waiting_bytes += len(item.payload)
        self._wake.set()

    async def _wait_for_engine(self) -> None:
        # Nothing that comes meanwhile has an earlier deadline than a message of now.
        soonest = asyncio.get_running_loop().time() + self._publish_timeout
        for item in self._waiting:
            if item.deadline is not None and item.deadline < soonest:
                soonest = item.deadline
        try:
            async with asyncio.timeout_at(soonest):
                await self._backend.wait_connected()
        except TimeoutError:
            now = asyncio.get_running_loop().time()
            late = [i for i in self._waiting if i.deadline is not None and i.deadline <= now]
            gone = set(late)
            self._waiting = deque(i for i in self._waiting if i not in gone)
            self._waiting_bytes = sum(len(item.payload) for item in self._waiting)
            self._fail(late, away(self._backend, self._publish_timeout))

    def _take(self) -> list[Publication]:
        batch: list[Publication] = []
        size = 0
        while self._waiting and len(batch) < _BATCH and size < _BATCH_BYTES:
            item = self._waiting.popleft()
            size += len(item.payload)
            # Given up by its sender before it was sent.
            if item.done is None or not item.done.cancelled():
                batch.append(item)
        self._waiting_bytes -= size
        return batch

    async def _send(self, batch: list[Publication]) -> None:
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
            errors = await self._backend.publish(outgoing)
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

    def _next(self, item: Publication) -> int:
        sequence = self._sequences.pop(item.topic, -1) + 1
        if not sequence & LAST_OF_RUN:  # the first, or the run before is full
            self._runs += 1
            sequence = (self._runs << RUN_SHIFT) + 1
        self._sequences[item.topic] = item.sequence = sequence
        if len(self._sequences) > _SEQUENCES:
            forgotten, _ = self._sequences.popitem(last=False)
            self._marks.pop(forgotten, None)
        self._marks[item.topic] = 2
        if item.echo is not None:
            self._own[item.topic, sequence] = item
        return sequence

    def _fail(self, items: list[Publication], error: Exception) -> None:
        for item in items:
            if item.done is not None:
                # Whoever sent it is told. The next message begins a new run: that
                # this one is missing, if it is, is no gap for others.
                self._sequences.pop(item.topic, None)
                self._marks.pop(item.topic, None)
                if item.echo is not None:
                    self._own.pop((item.topic, item.sequence), None)
                    item.echo.cancel()
                if not item.done.done():
                    item.done.set_exception(error)
            elif item.keep:
                # Nobody is told; the hole in the sequence tells the receivers.
                self._log.warning("a queued message to %s was lost: %s", item.topic, error)


def _cancelling() -> bool:
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0
