"""What an event loop was too busy to do: how late its timers fire.

A timer of ours that fires late shows that for so long nothing else ran either,
neither what reads nor what writes. Looking at timers that are there anyway costs
nothing, and so a block is noticed where it mattered: when something was due.

The clock does not know why. A call that blocks, a process that is stopped or gets
no CPU, and a machine that sleeps look the same.
"""

from __future__ import annotations

import asyncio
import logging
from weakref import WeakKeyDictionary

__all__ = ["Blocks", "blocks_of"]

# Seconds of lateness that count. Less is what a busy loop has anyway.
_NOTED = 0.05

# Seconds from which a block is told of, and between two lines of the log.
_NAMED = 0.5
_PAUSE = 60.0

# Seconds for which a block explains what came after it.
_RECENT = 60.0

_logger = logging.getLogger("simplews.loop")


class Blocks:
    """
    The blocks that were noticed on one event loop. Get it with `blocks_of`.

    Attributes:
        seconds: How long they were, all together.
    """

    __slots__ = ("_last", "_logged", "_longest", "_times", "_until", "seconds")

    def __init__(self) -> None:
        self.seconds = 0.0
        self._last = 0.0  # how long the latest was
        self._until = float("-inf")  # when it ended
        self._logged = float("-inf")
        self._times = 0  # since the last line of the log
        self._longest = 0.0

    def fired(self, due: float, now: float) -> None:
        """A timer that was *due* then fires *now*, on the loop's clock."""
        if now - due < _NOTED:
            return
        # Timers that were due in the same block fire one after the other: it counts once.
        seconds = now - max(due, self._until)
        self._last = seconds if due > self._until else self._last + seconds
        self._until = now
        self.seconds += seconds
        if seconds >= _NAMED:
            self._log(now, seconds)

    def recent(self, now: float) -> float:
        """Seconds of the latest block, if it is worth a word and not long over; or else 0."""
        over = now - self._until > _RECENT
        return 0.0 if over or self._last < _NAMED else self._last

    def _log(self, now: float, seconds: float) -> None:
        if now - self._logged < _PAUSE:
            self._times += 1
            self._longest = max(self._longest, seconds)
            return
        more = ""
        if self._times:
            more = f", and {self._times} times for up to {self._longest:.1f} s before"
        _logger.warning(
            "the event loop was blocked for %.1f s%s: pings and answers were late; the debug "
            "mode of asyncio names what blocks it",
            seconds,
            more,
        )
        self._logged = now
        self._times = 0
        self._longest = 0.0


_blocks: WeakKeyDictionary[asyncio.AbstractEventLoop, Blocks] = WeakKeyDictionary()


def blocks_of(loop: asyncio.AbstractEventLoop) -> Blocks:
    """Those of *loop*."""
    blocks = _blocks.get(loop)
    if blocks is None:
        blocks = _blocks[loop] = Blocks()
    return blocks
