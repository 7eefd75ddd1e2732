"""One room that this process follows: what has come of it, and whether that is all."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import OrderedDict, deque
from collections.abc import Callable, Iterator

from ..link.base import Frames
from .backend import Position
from .envelope import LAST_OF_RUN, Envelope, Kind, topic_of

__all__ = ["Feed"]

# Senders that a room remembers.
_SENDERS = 1024
# Messages kept for those that join with a position.
_RECENT = 256


class Feed:
    """
    A room as the engine delivers it.

    Args:
        room: Its name.
        on_hole: Called with the feed, when the sender was heard last, and the
            reason, if messages of a sender are missing.

    Attributes:
        topic: Its name for the engine.
        users: Members, and joins under way; without any it is followed no longer.
        ready: Whether the engine delivers it.
        lock: Held while that changes.
        position: With history: of the last message that members got.
        seen: The newest position that the engine has shown; ahead of *position*
            while a hole is being filled.
        filling: The task that fills it.
        senders: What was heard last of each sender: its sequence, and when.
        joining: Joins that read the history just now.
        recent: While there are any: what members got meanwhile.
        recent_from: The offset behind which *recent* has everything.
    """

    __slots__ = (
        "_on_hole",
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

    def __init__(self, room: str, on_hole: Callable[[Feed, float, str], None]) -> None:
        self.room = room
        self.topic = topic_of(room)
        self._on_hole = on_hole
        self.users = 0
        self.ready = False
        self.lock = asyncio.Lock()
        self.position: Position | None = None
        self.seen: Position | None = None
        self.filling: asyncio.Task[None] | None = None
        self.senders: OrderedDict[bytes, tuple[int, float]] = OrderedDict()
        self.joining = 0
        self.recent: deque[tuple[Position, Frames, Envelope]] = deque()
        self.recent_from = 0

    def forget(self) -> None:
        """It is followed no longer."""
        self.ready = False
        self.position = self.seen = None
        self.senders.clear()
        if self.filling is not None:
            self.filling.cancel()

    def in_sequence(self, envelope: Envelope) -> bool:
        """
        Whether it is new; whatever is missing before it is reported.

        What is not new may be a message that its sender had given up, and that
        arrives behind what was sent after it.
        """
        sender, sequence = envelope.sender, envelope.sequence
        now = time.time()
        known = self.senders.pop(sender, None)
        new = True
        if known is not None and sequence != 1:
            last, heard = known
            mark = envelope.kind is Kind.MARK
            if sequence <= last:
                new, sequence = False, last
            elif mark or sequence != last + 1:
                # If a run began meanwhile, all of it has to be there.
                missing = sequence - max(last, sequence & ~LAST_OF_RUN) - (not mark)
                if missing > 0:
                    reason = f"{missing} messages of process {sender.hex()} did not arrive"
                    self._on_hole(self, heard, reason)
        self.senders[sender] = sequence, now
        if len(self.senders) > _SENDERS:
            self.senders.popitem(last=False)
        return new

    def remember(self, position: Position, frames: Frames, envelope: Envelope) -> None:
        """Members get it, while somebody is `remembering`."""
        if len(self.recent) >= _RECENT:
            self.recent_from = self.recent.popleft()[0].offset
        self.recent.append((position, frames, envelope))

    @contextlib.contextmanager
    def remembering(self) -> Iterator[None]:
        """Keep what members get in *recent* meanwhile."""
        if not self.joining:
            self.recent.clear()
            self.recent_from = 0 if self.position is None else self.position.offset
        self.joining += 1
        try:
            yield
        finally:
            self.joining -= 1
            if not self.joining:
                self.recent.clear()
