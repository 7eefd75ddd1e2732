"""The inbox: messages that have arrived and wait for ``receive()``.

It is bounded: above its high marks it pauses its source, below the low ones it
lets it go on. It never drops a message and never makes one wait for a task
switch: what is there is returned at once.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable

from ..errors import WebSocketRuntimeError
from ..protocol.codec import MESSAGE_OVERHEAD, Message
from ..protocol.frames import Fragment, payload_size
from .options import QueueMarks

__all__ = ["Inbox"]


class Inbox:
    """
    Args:
        loop: The event loop.
        marks: When to pause and to resume.
        pause: Called at the high mark.
        resume: Called at the low mark, after `pause`.

    Attributes:
        messages: What has arrived; the decoder appends here.
        paused: Whether the source is paused on our account.
        ended: Whether no more messages will come.
        taken: Messages that `get` has returned.
        reader: The task that waits for a message, or None.
        waiter: What it waits for, or None.
    """

    __slots__ = (
        "_event",
        "_loop",
        "_marks",
        "_pause",
        "_resume",
        "_size",
        "ended",
        "messages",
        "paused",
        "reader",
        "taken",
        "waiter",
    )

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        marks: QueueMarks,
        pause: Callable[[], None],
        resume: Callable[[], None],
    ) -> None:
        self.messages: deque[Message] = deque()
        self.paused = False
        self.ended = False
        self.taken = 0
        self._size = 0
        self._loop = loop
        self._marks = marks
        self._pause = pause
        self._resume = resume
        self.waiter: asyncio.Future[None] | None = None
        self.reader: asyncio.Task[object] | None = None
        self._event: asyncio.Event | None = None

    @property
    def room(self) -> int:
        """Bytes that fit below the high mark."""
        return self._marks.high_bytes - self._size

    @property
    def most(self) -> int:
        """Messages that fit below the high mark, those that are there included."""
        return self._marks.high

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
        """Messages of *size* bytes together have been appended to `messages`."""
        self._size += size
        self._wake()
        if not self.paused and (
            self._size > self._marks.high_bytes or len(self.messages) >= self._marks.high
        ):
            self.paused = True
            self._pause()

    def end(self) -> None:
        """No message follows those that are there: whoever waits is woken."""
        self.ended = True
        self._wake()

    def _wake(self) -> None:
        waiter = self.waiter
        if waiter is not None and not waiter.done():
            waiter.set_result(None)
        if self._event is not None:
            self._event.set()

    # ------------------------------------------------------------ the reader

    def get(self) -> Message:
        """Take the next message; there must be one."""
        message = self.messages.popleft()
        self.taken += 1
        data = message.data if isinstance(message, Fragment) else message
        self._size -= payload_size(data) + MESSAGE_OVERHEAD
        if self.paused and (
            len(self.messages) <= self._marks.low and self._size <= self._marks.low_bytes
        ):
            self.paused = False
            self._resume()
        if self._event is not None and not self.messages and not self.ended:
            self._event.clear()
        return message

    async def wait(self, timeout: float | None) -> bool:
        """
        Wait until a message is there or the connection has ended.

        Args:
            timeout: Seconds; None waits for ever, 0 looks once.

        Returns:
            False if *timeout* passed first.

        Raises:
            WebSocketRuntimeError: Another task is waiting already.

        Cancellation:
            Safe; messages stay where they are.
        """
        if self.waiter is not None:
            self.check_single_reader()
        waiter: asyncio.Future[None] = self._loop.create_future()
        self.waiter = waiter
        self.reader = asyncio.current_task()
        timer = None if timeout is None else self._loop.call_later(timeout, _expire, waiter)
        try:
            await waiter
        finally:
            self.waiter = self.reader = None
            if timer is not None:
                timer.cancel()
        return bool(self.messages) or self.ended

    def check_single_reader(self) -> None:
        """Raise if a task waits in `wait`: a second one would take its message."""
        if self.waiter is not None:
            raise WebSocketRuntimeError(
                f"{_name(asyncio.current_task())} called receive() while "
                f"{_name(self.reader)} is already waiting in it; let one task receive "
                f"and hand the messages on"
            )

    def drop_fragments(self) -> None:
        """Drop what is left of a stream that nobody reads any more."""
        while self.messages and isinstance(self.messages[0], Fragment):
            fragment = self.get()
            if isinstance(fragment, Fragment) and fragment.final:
                return


def _expire(waiter: asyncio.Future[None]) -> None:
    if not waiter.done():
        waiter.set_result(None)


def _name(task: asyncio.Task[object] | None) -> str:
    return "a callback" if task is None else f"task {task.get_name()!r}"
