"""The inbox: messages that have arrived and wait for ``receive()``.

It is bounded: above its high marks it pauses its source, below the low ones it
lets it go on. It never drops a message and never makes one wait for a task
switch: what is there is returned at once.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable
from typing import Protocol

from ..errors import WebSocketRuntimeError
from ..protocol.codec import MESSAGE_OVERHEAD, Message
from ..protocol.frames import Fragment
from ..protocol.octets import memory_size
from .options import QueueMarks
from .waiter import Waiter

__all__ = ["Inbox"]


class Source(Protocol):
    """Where the messages come from."""

    def pause_reading(self) -> None: ...

    def resume_reading(self) -> None: ...


class _Gone:
    """A source from which nothing comes any more."""

    def pause_reading(self) -> None: ...

    def resume_reading(self) -> None: ...


_GONE = _Gone()


class Inbox:
    """
    Args:
        loop: The event loop.
        marks: When to pause and to resume.
        source: Is paused at the high mark, and resumed at the low one.

    Attributes:
        messages: What has arrived; the decoder appends here.
        most: Messages that fit below the high mark, those that are there included.
        room: Bytes of memory that still fit below the high mark; negative above it.
        paused: Whether the source is paused on our account.
        ended: Whether no more messages will come.
        taken: Messages that `get` has returned.
        waiter: What a task awaits that waits for a message.
    """

    __slots__ = (
        "_event",
        "_high_bytes",
        "_loop",
        "_low",
        "_low_room",
        "_popleft",
        "_source",
        "ended",
        "messages",
        "most",
        "paused",
        "room",
        "taken",
        "waiter",
    )

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        marks: QueueMarks,
        source: Source,
    ) -> None:
        self.messages: deque[Message] = deque()
        self._popleft = self.messages.popleft
        self.paused = False
        self.ended = False
        self.taken = 0
        self._loop = loop
        self.most, self._low = marks.high, marks.low
        self.room = self._high_bytes = marks.high_bytes
        self._low_room = marks.high_bytes - marks.low_bytes  # what there is at the low mark
        self._source = source
        self.waiter = Waiter(loop)
        self._event: asyncio.Event | None = None

    @property
    def event(self) -> asyncio.Event:
        """Set while a message waits or the connection has ended; made on first use."""
        if self._event is None:
            self._event = asyncio.Event()
            if self.messages or self.ended:
                self._event.set()
        return self._event

    # ------------------------------------------------------------ the source

    def arrived(self, size: int) -> None:
        """Messages that take *size* bytes have been appended to `messages`; `wake` follows."""
        self.room -= size
        if self._event is not None:
            self._event.set()

    def wake(self, now: bool = False) -> None:
        """
        Let whoever waits look, and pause the source if there is still too much here.

        Args:
            now: See `Waiter.wake_now`.
        """
        if self.waiter.reader is not None and (self.messages or self.ended):
            if now:
                self.waiter.wake_now()
            else:
                self.waiter.wake()
        if not self.paused and (self.room < 0 or len(self.messages) >= self.most):
            self.paused = True
            self._source.pause_reading()

    def passed(self) -> bool:
        """
        Count a message that is given to the task that waits for it, past `messages`.

        What `arrived`, `wake` and `get` do in a row leaves no other trace, where this
        is empty and nobody asks for `event`.

        Returns:
            False if they have to.
        """
        if self._event is not None or self.room != self._high_bytes:
            return False
        self.taken += 1
        return True

    def end(self) -> None:
        """No message follows those that are there: whoever waits is woken."""
        self.ended = True
        if self._event is not None:
            self._event.set()
        self.wake()

    def part(self) -> None:
        """
        Let go of the source, which is gone.

        It holds us in turn: the two would wait for the collector of garbage.
        """
        self._source = _GONE

    # ------------------------------------------------------------ the reader

    def get(self) -> Message:
        """Take the next message; there must be one, and no task may wait for it."""
        if self.waiter.reader is not None:
            self.check_single_reader()
        message = self._popleft()
        self.taken += 1
        if self.messages:
            data = message.data if type(message) is Fragment else message
            self.room += memory_size(data) + MESSAGE_OVERHEAD
        else:
            self.room = self._high_bytes  # with nothing here, all of it
        if self.paused and (len(self.messages) <= self._low and self.room >= self._low_room):
            self.paused = False
            self._source.resume_reading()
        if self._event is not None and not self.messages and not self.ended:
            self._event.clear()
        return message

    def wait(self, timeout: float | None) -> Awaitable[bool | None]:
        """
        Wait until a message is there or the connection has ended.

        Args:
            timeout: Seconds; None waits for ever, 0 looks once.

        Returns:
            What to await: true if *timeout* passed first.

        Raises:
            WebSocketRuntimeError: Another task is waiting already.

        Cancellation:
            Safe; messages stay where they are.
        """
        if self.waiter.reader is not None:
            self.check_single_reader()
        return self.waiter if timeout is None else self._wait(timeout)

    async def _wait(self, timeout: float) -> bool | None:
        timer = self._loop.call_later(timeout, self.waiter.expire)
        try:
            expired: bool | None = await self.waiter
        finally:
            timer.cancel()
        return expired

    def check_single_reader(self) -> None:
        """Raise if a task waits in `wait`: a second one would take its message."""
        reader = self.waiter.reader
        if reader is not None:
            raise WebSocketRuntimeError(
                f"{_name(asyncio.current_task())} called receive() while "
                f"{_name(reader)} is already waiting in it; let one task receive "
                f"and hand the messages on"
            )

    def drop_fragments(self) -> None:
        """Drop what is left of a stream that nobody reads any more."""
        # Somebody may wait already, and even be woken: he looks again when he goes on.
        reader, self.waiter.reader = self.waiter.reader, None
        while self.messages and isinstance(self.messages[0], Fragment):
            fragment = self.get()
            if isinstance(fragment, Fragment) and fragment.final:
                break
        self.waiter.reader = reader


def _name(task: asyncio.Task[object] | None) -> str:
    return "a callback" if task is None else f"task {task.get_name()!r}"
