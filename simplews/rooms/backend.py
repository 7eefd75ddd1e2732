"""What `Rooms` needs of an engine that carries messages between processes.

An engine gives what it can give: it carries bytes, at most once, and says when
it may have lost some. Everything that is the same for every engine is above, in
`exchange.py`: the envelope, the order, the bounds, the heartbeat, presence.

A *topic* is a room's name as the engine gets it, in ASCII; see `envelope.topic_of`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

__all__ = ["Backend", "Deliver", "Gap", "History", "Lost", "Outgoing", "Page", "Position"]


class Position(NamedTuple):
    """
    Where a message stands in the history of its room.

    Positions of one epoch are ordered by their offsets, which need not be
    consecutive. A new epoch begins when
    the engine has lost its memory; nothing is known across epochs.

    Attributes:
        epoch: A name without a dot.
        offset: A number that grows with every message.
    """

    epoch: str
    offset: int

    def __str__(self) -> str:
        return f"{self.epoch}.{self.offset}"

    @classmethod
    def parse(cls, text: str) -> Position:
        """
        The reverse of ``str()``, for what a client hands back.

        Raises:
            ValueError: It is no position.
        """
        epoch, separator, offset = text.rpartition(".")
        if not (separator and epoch and offset.isascii() and offset.isdigit() and len(text) < 80):
            raise ValueError(f"a position is EPOCH.OFFSET, not {text[:80]!r}")
        return cls(epoch, int(offset))


@dataclass(frozen=True, slots=True)
class History:
    """
    How much of every room the engine remembers; older messages go first.

    Attributes:
        length: Messages of a room.
        age: Seconds.
    """

    length: int = 1000
    age: float = 300.0

    def __post_init__(self) -> None:
        if self.length < 1:
            raise ValueError(f"length must be at least 1, not {self.length}")
        if not self.age > 0:
            raise ValueError(f"age must be positive, not {self.age}")


@dataclass(frozen=True, slots=True)
class Gap:
    """
    Messages of a room that this process's members may have missed.

    Attributes:
        room: The room's name.
        since: When all was last known to be well, as ``time.time()`` has it.
            What was sent before has been delivered.
        until: When it was well again. What is sent from now on is delivered.
        reason: What happened, for a log.
        position: With history: behind which the messages are missing.
    """

    room: str
    since: float
    until: float
    reason: str
    position: Position | None = None


@dataclass(frozen=True, slots=True)
class Lost:
    """
    Topics whose messages may have been lost, and are followed again from now on.

    Attributes:
        since: When all was last known to be well, as ``time.time()`` has it.
        reason: What happened.
        topics: Which; None for all.
    """

    since: float
    reason: str
    topics: frozenset[str] | None = None


class Outgoing(NamedTuple):
    """
    What is to be published.

    Attributes:
        topic: Where to.
        envelope: What.
        keep: Whether it belongs into the history, if there is one.
    """

    topic: str
    envelope: bytes
    keep: bool


class Page(NamedTuple):
    """
    A piece of the history of a topic.

    Attributes:
        entries: Messages in order.
        complete: Whether nothing is missing between the position that was asked
            for and the end.
        more: Whether there was more when it was read.
        end: The position of the last entry; without one, or if what came behind it
            is lost, of the newest message.
    """

    entries: Sequence[tuple[Position, bytes]]
    complete: bool
    more: bool
    end: Position


#: Called with the topic, the envelope and, if it is part of a history, its
#: position and the offset of the message before it (None if the engine cannot tell).
Deliver = Callable[[str, bytes, Position | None, int | None], None]


class Backend(Protocol):
    """
    An engine, as `Rooms` uses it.

    What may fail raises `BackendUnavailable`, within a deadline of the backend's own.

    Attributes:
        history: What it remembers, if anything.
        max_envelope: Bytes that it carries at once.
        state: In words, for people.
    """

    @property
    def history(self) -> History | None: ...

    @property
    def max_envelope(self) -> int: ...

    @property
    def state(self) -> str: ...

    def start(self, deliver: Deliver, lost: Callable[[Lost], None]) -> None:
        """
        Connect in the background, and go on for ever to restore what breaks.

        Args:
            deliver: Called with every message of a topic that is subscribed to.
            lost: Called when messages may have been lost, after the subscriptions
                are back.
        """
        ...

    async def close(self) -> None:
        """Leave the engine. Nothing is delivered any more."""
        ...

    @property
    def connected(self) -> bool:
        """Whether publishing is worth a try."""
        ...

    async def wait_connected(self) -> None:
        """Wait for `connected`, for ever."""
        ...

    async def subscribe(self, topic: str) -> None:
        """Return when everything that is published from now on will be delivered."""
        ...

    async def unsubscribe(self, topic: str) -> None: ...

    async def publish(self, batch: Sequence[Outgoing]) -> Sequence[Exception | None]:
        """
        Publish in order, and wait until the engine has it.

        Returns:
            What went wrong for each, if anything.

        Raises:
            BackendUnavailable: It is not known how much of the batch was published.
        """
        ...

    async def newest(self, topic: str) -> Position:
        """With history: the position of the newest message, or of none."""
        ...

    async def read(
        self, topic: str, after: Position, limit: int, since: float | None = None
    ) -> Page:
        """
        With history: messages behind *after*, at most *limit* of them.

        Args:
            topic: Of which room.
            after: The last message that the reader has had.
            limit: How many at once.
            since: All that was published before, as ``time.time()`` has it, is
                known to have been had: an engine that forgets with age may need
                that to tell whether something is missing.
        """
        ...

    def heartbeats(self) -> Sequence[str]:
        """
        Topics beside `HEARTBEAT` that a heartbeat must go through.

        One for every connection that can be deaf by itself.
        """
        ...

    def reconnect(self, topic: str, reason: str) -> None:
        """The connection that should deliver *topic* is deaf: make another."""
        ...
