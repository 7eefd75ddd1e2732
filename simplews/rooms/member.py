"""One connection as a member of rooms: what waits for it while it is behind.

It may run compiled, for a broadcast goes through it once for every member.
"""

from __future__ import annotations

import asyncio
import enum
from collections import deque
from collections.abc import Collection, Hashable
from typing import Literal, get_args

from ..connection import AioBase
from ..errors import ConnectionClosed
from ..link.base import Frames
from ..link.wire import WireLink
from ..types import Close, CloseCode

__all__ = ["Member", "Outcome", "Overflow", "check_overflow", "write_all"]

#: What happens to a member whose queue is full; see `Rooms`.
Overflow = Literal["close", "drop_oldest", "drop_newest", "latest"]

_TOO_SLOW = Close(CloseCode.TRY_AGAIN_LATER, "too slow for this room")


class Outcome(enum.Enum):
    """What became of one message for one member."""

    WRITTEN = enum.auto()
    WAITS = enum.auto()
    DROPPED = enum.auto()
    CLOSED = enum.auto()


# Enums are slow to look into, for every member.
_WRITTEN = Outcome.WRITTEN
_WAITS = Outcome.WAITS
_DROPPED = Outcome.DROPPED
_CLOSED = Outcome.CLOSED


def check_overflow(overflow: str) -> Overflow:
    """Raise ValueError unless *overflow* is a policy."""
    if overflow not in get_args(Overflow):
        raise ValueError(f"overflow must be one of {get_args(Overflow)}, not {overflow!r}")
    return overflow  # type: ignore[return-value]


class Member:
    """
    A connection and its queue.

    While the connection keeps up, frames go straight to it and the queue stays
    empty; a task exists only while it is behind.

    Args:
        ws: The connection.
        overflow: What to do when the queue is full.
        max_queue: Messages that the queue holds.
        id: Its name in other processes.

    Attributes:
        rooms: The rooms that it is in, and its info in each.
        queue: What waits for it.
    """

    __slots__ = ("_link", "_max_queue", "_overflow", "_task", "_wire", "id", "queue", "rooms", "ws")

    def __init__(self, ws: AioBase, overflow: Overflow, max_queue: int, id: str) -> None:
        self.ws = ws
        self.id = id
        self._link = link = ws._link
        # The same, where it is of the one kind that compiled code calls straight.
        self._wire = link if isinstance(link, WireLink) else None
        self.rooms: dict[str, str] = {}
        self._overflow = overflow
        self._max_queue = max_queue
        self.queue: deque[tuple[Hashable, Frames]] = deque()
        self._task: asyncio.Task[None] | None = None

    def deliver(self, frames: Frames, key: Hashable) -> Outcome:
        """Write *frames*, or queue them if the connection is behind. Never waits."""
        try:
            # Without a task nothing waits; to look into the queue as well would cost a
            # visit to memory that is not near.
            if self._task is None or not self.queue:
                if self._wire is not None:
                    written = self._wire.write_frames(frames)
                else:
                    written = self._link.write_frames(frames)
                if written:
                    return _WRITTEN
        except ConnectionClosed:
            return _CLOSED
        except Exception:
            self._failed()
            return _CLOSED
        return self._enqueue(frames, key)

    def _failed(self) -> None:
        """An error of ours, for this connection only: it must not keep others from a message."""
        self.ws._options.logger.exception("a message of a room could not be sent to %r", self.ws)
        self.ws.abort()

    def _enqueue(self, frames: Frames, key: Hashable) -> Outcome:
        queue = self.queue
        if self._overflow == "latest" and self._replace(frames, key):
            return _WAITS
        outcome = _WAITS
        if len(queue) >= self._max_queue:
            if self._overflow == "close":
                queue.clear()
                self._link.begin_close(_TOO_SLOW)
                return _CLOSED
            outcome = _DROPPED
            if self._overflow == "drop_newest":
                return outcome
            queue.popleft()
        queue.append((key, frames))
        if self._task is None:
            self._task = asyncio.ensure_future(self._catch_up())
        return outcome

    def _replace(self, frames: Frames, key: Hashable) -> bool:
        """Put *frames* where an older message with the same key waits."""
        for index, (other, _) in enumerate(self.queue):
            if other == key:
                self.queue[index] = (key, frames)
                return True
        return False

    async def _catch_up(self) -> None:
        """Write what waits, at the peer's pace."""
        queue, link = self.queue, self._link
        try:
            while queue:
                await link.writable()
                while queue and link.write_frames(queue[0][1]):
                    queue.popleft()
        except ConnectionClosed:
            queue.clear()
        except Exception:
            queue.clear()
            self._failed()
        finally:
            self._task = None

    def forget(self) -> None:
        """The connection has ended: nothing waits for it any more."""
        self.queue.clear()
        if self._task is not None:
            self._task.cancel()


def write_all(
    members: list[Member], frames: Frames, left_out: Collection[AioBase], key: Hashable
) -> tuple[int, int, list[AioBase], bool]:
    """
    Deliver the same frames to all of *members*.

    Returns:
        To how many; for how many a message was dropped; the connections that have
        ended; whether one is behind.
    """
    delivered = dropped = 0
    closed: list[AioBase] = []
    behind = False
    for member in members:
        if left_out and member.ws in left_out:
            continue
        outcome = member.deliver(frames, key)
        if outcome is _WRITTEN:
            delivered += 1
        elif outcome is _WAITS:
            delivered += 1
            behind = True
        elif outcome is _DROPPED:
            dropped += 1
            behind = True
        else:
            closed.append(member.ws)
    return delivered, dropped, closed, behind
