"""What a task awaits until something has arrived; made once per connection, awaited often.

A future would cost an object for every message, and two turns of the event loop
for each: one that reads it, one that lets the task go on. This one lets the task go on
inside the callback that read the message (`Waiter.wake_now`), and what is `Driven`
even without its task.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from contextvars import Context
from typing import Any

from .step import current_task, run_as

__all__ = ["Driven", "Waiter"]


class Waiter:
    """
    Takes a future's place for the one task that awaits it.

    asyncio asks of what a task awaits no more than ``get_loop``,
    ``add_done_callback``, ``cancel``, ``result`` and the mark
    ``_asyncio_future_blocking``, with which it tells a future from other things
    that are yielded.

    Args:
        loop: The event loop.

    Attributes:
        reader: The task that awaits it, or None.
    """

    __slots__ = (
        "_asyncio_future_blocking",
        "_callback",
        "_cancelled",
        "_context",
        "_driven",
        "_eager",
        "_expired",
        "_loop",
        "reader",
    )

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self.reader: asyncio.Task[Any] | None = None
        self._callback: Callable[[Any], object] | None = None
        self._context: Context | None = None
        self._cancelled: asyncio.CancelledError | None = None
        self._expired = False
        self._driven: Driven | None = None  # what awaits it, if that is one
        # A loop in its debug mode would take the task's time for the transport's. That
        # is asked once: a call into the loop for every message costs 0.1 µs.
        self._eager = not loop.get_debug()
        self._asyncio_future_blocking = False

    # It is its own iterator, and not a generator, which would be one more object for
    # every message.

    def __await__(self) -> Any:
        """Wait; True if `expire` ended it, None if anything else did, or nothing yet."""
        return self

    def __iter__(self) -> Waiter:
        return self

    def __next__(self) -> Waiter | None:
        if self.reader is None:
            return self.begin()
        self.close()
        if self._expired:
            raise StopIteration(True)
        raise StopIteration

    def begin(self) -> Waiter | None:
        """The current task waits from now on; what it is to be given for that."""
        self.reader = current_task(self._loop)
        self._expired = False
        if self._driven is not None and self._driven.task is not self.reader:
            # An eager task, begun by a coroutine that runs past its own task, which
            # waits for this still: cancelling the one would cancel the other. So it
            # comes back in the next turn, and whoever awaits this looks again.
            return None
        self._asyncio_future_blocking = True
        return self

    def throw(self, kind: Any, value: Any = None, traceback: Any = None) -> Waiter:
        """Part of the iterator protocol: the task is cancelled, or has something raised in it."""
        self.close()
        error = kind if value is None else value
        try:
            raise error
        finally:
            # Its traceback holds this call, which must not hold it in turn.
            del kind, value, error

    def close(self) -> None:
        """Part of the iterator protocol: nobody waits any more."""
        self.reader = self._callback = self._context = self._cancelled = None

    # -------------------------------------------------------- who ends the wait

    def wake(self) -> None:
        """Let the task go on in the next iteration of the loop."""
        self._expired = False
        self._end()

    def wake_now(self) -> None:
        """
        Let the task go on before this returns, where that is possible.

        It is not while another task runs: this may be in the middle of
        anything. Nor if the loop was in its debug mode when the connection opened.
        """
        callback, context = self._callback, self._context
        if callback is None or context is None:
            return
        if not self._eager or current_task(self._loop) is not None:
            self.wake()
            return
        self._expired = False
        self._callback = None
        if self._driven is not None:
            self._driven.go_on(callback, context)
        else:
            self.run(callback, context)

    def run(self, callback: Callable[[Any], object], context: Context) -> None:
        """Let the task go on; in the next iteration if its context is that of the caller."""
        try:
            context.run(callback, self)
        except RuntimeError:  # no task raises one here, and nobody enters a context twice
            self._loop.call_soon(callback, self, context=context)

    def expire(self) -> None:
        """The time to wait is over."""
        if self._callback is not None:
            self._expired = True
            self._end()

    def _end(self) -> None:
        callback, self._callback = self._callback, None
        if callback is not None:
            self._loop.call_soon(callback, self, context=self._context)

    # ------------------------------------------------------- what asyncio asks

    def get_loop(self) -> asyncio.AbstractEventLoop:
        """The loop that the task must run on."""
        return self._loop

    def add_done_callback(
        self, callback: Callable[[Any], object], *, context: Context | None = None
    ) -> None:
        """The task has stopped, and wants *callback* to be called."""
        self._callback = callback
        self._context = context

    def driven_by(self, driven: Driven | None) -> None:
        """Who awaits this, if it is one that can go on by itself."""
        self._driven = driven

    def still_waits(self, callback: Callable[[Any], object], context: Context) -> None:
        """What is `Driven` has gone on and waits again; the task never stopped to."""
        self._asyncio_future_blocking = False
        self._callback = callback
        self._context = context

    def cancel(self, msg: Any = None) -> bool:
        """The task is cancelled while it waits; False if it goes on already."""
        if self._callback is None:
            return self._driven is not None and self._driven.cancel(msg)
        self._cancelled = asyncio.CancelledError() if msg is None else asyncio.CancelledError(msg)
        self._end()
        return True

    def result(self) -> None:
        """Raise what ends the wait, if anything does."""
        if self._cancelled is not None:
            raise self._cancelled


class Driven:
    """
    A coroutine that goes on past its task, as long as *waiter* is all that it waits for.

    To be awaited, at once, by the task that is to run it. A task that is woken asks
    what it waited for whether it failed, and what it waits for next for its loop and a
    mark, and leaves a new callback there: together a fifth of what a short message
    costs. In between, this one sends the coroutine on by itself when the waiter is
    woken. If that ends at the waiter again, the task need not know: it waits for
    the waiter already. Whatever else the coroutine gives or raises is handed to the
    task, which finds it as if it had asked.

    Meanwhile it is the current task as ever, with its context.

    Args:
        waiter: Of the connection that the coroutine receives from.
        coroutine: What to run; its result is what awaiting this returns.

    Attributes:
        task: The task, while the coroutine runs past it.
    """

    __slots__ = (
        "_asked",
        "_coroutine",
        "_error",
        "_given",
        "_holds",
        "_loop",
        "_message",
        "_waiter",
        "task",
    )

    def __init__(self, waiter: Waiter, coroutine: Coroutine[Any, Any, Any]) -> None:
        self._loop = waiter.get_loop()
        self._waiter = waiter
        self._coroutine = coroutine
        # No longer than that: a task may keep an error, whose traceback holds this.
        self.task: Any = None
        # What the coroutine gave or raised while it ran past the task, for the task.
        self._holds = False
        self._given: Any = None
        self._error: BaseException | None = None
        # The task was cancelled then, and believes that the waiter has seen to it.
        self._asked = False
        self._message: Any = None

    @property
    def cr_frame(self) -> Any:
        """The coroutine's, for tools that show where a task is."""
        return getattr(self._coroutine, "cr_frame", None)

    @property
    def cr_await(self) -> Any:
        """The same: what the coroutine waits for."""
        return getattr(self._coroutine, "cr_await", None)

    # ------------------------------------------------------ as its task sees it

    def __await__(self) -> Any:
        return self

    def __iter__(self) -> Driven:
        return self

    def __next__(self) -> Any:
        if not self._holds:
            self._waiter.driven_by(None)
            return self._arrived(self._coroutine.send(None))
        given, error = self._given, self._error
        self._holds = False
        self._given = self._error = None
        if self._asked:
            self._asked = False
            # Now the task runs, and remembers it: what it waits for next is cancelled.
            # The request has been counted before.
            task: Any = current_task(self._loop)
            task.cancel(self._message)
            task.uncancel()
        if error is not None:
            try:
                raise error
            finally:
                del error  # whose traceback holds this call
        return self._arrived(given)

    def throw(self, *args: Any) -> Any:
        """Part of the coroutine protocol."""
        self._waiter.driven_by(None)
        try:
            return self._arrived(self._coroutine.throw(*args))
        finally:
            del args  # of an error whose traceback holds this call

    def close(self) -> None:
        """Part of the coroutine protocol."""
        self._waiter.driven_by(None)
        self._coroutine.close()

    def _arrived(self, given: Any) -> Any:
        """The coroutine waits for *given*, through the task."""
        if given is self._waiter:
            self._waiter.driven_by(self)
        return given

    # ----------------------------------------------------- as its waiter sees it

    def go_on(self, callback: Callable[[Any], object], context: Context) -> None:
        """
        Send the coroutine on; called where nothing else runs.

        Args:
            callback: Lets the task go on, if the coroutine wants anything of it.
            context: The task's.
        """
        waiter = self._waiter
        given = error = None
        task: Any = waiter.reader
        self.task = task
        try:
            given = run_as(task, self._loop, context, self._coroutine)
        except BaseException as exc:
            # Its traceback would hold two calls that hold the task, which may hold it.
            for _ in range(2):
                exc.__traceback__ = exc.__traceback__ and exc.__traceback__.tb_next
            error = exc
        finally:
            self.task = None
        if given is waiter and not self._asked:
            waiter.still_waits(callback, context)
        else:
            self._holds = True
            self._given, self._error = given, error
            del given, error
            waiter.driven_by(None)
            waiter.run(callback, context)

    def cancel(self, message: Any) -> bool:
        """The task is cancelled; False if it is not past the task that the coroutine runs."""
        if self.task is None:
            return False
        self._asked = True
        self._message = message
        return True
