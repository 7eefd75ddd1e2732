"""What a task awaits until something has arrived; made once per connection, awaited often.

A future would cost an object for every message, and two turns of the event loop
for each: one that reads it, one that lets the task go on. With this one the coroutine
goes on inside the callback that read the message (`Waiter.wake_now`), and even past
its task, as long as this is what it waits for (`Stop.go_on`).
"""

from __future__ import annotations

import asyncio
import sys
from asyncio import CancelledError
from asyncio.futures import _get_loop  # type: ignore[attr-defined]
from collections.abc import Callable
from contextvars import Context, copy_context
from typing import Any

from .step import current_task, run_as

__all__ = ["Stop", "Waiter"]

_Future = asyncio.Future
_Task = asyncio.Task
# From then on uncancel() takes a cancellation back that has not been raised yet.
_RESCINDS = sys.version_info >= (3, 13)


class Waiter:
    """
    Lets one task at a time wait for the next message.

    Args:
        loop: The event loop.

    Attributes:
        reader: The task that awaits it, or None.
    """

    __slots__ = ("_eager", "_expired", "_loop", "_stop", "reader")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self.reader: asyncio.Task[Any] | None = None
        self._stop: Stop | None = None
        self._expired = False
        # A loop in its debug mode would take the task's time for the transport's. That
        # is asked once: a call into the loop for every message costs 0.1 µs.
        self._eager = not loop.get_debug()

    # It is its own iterator, and not a generator, which would be one more object for
    # every message.

    def __await__(self) -> Any:
        """Wait; True if `expire` ended it, None if anything else did."""
        return self

    def __iter__(self) -> Waiter:
        return self

    def __next__(self) -> Stop:
        if self.reader is None:
            return self.begin()
        self.close()
        if self._expired:
            raise StopIteration(True)
        raise StopIteration

    def begin(self) -> Stop:
        """The current task waits from now on; what it is to be given for that."""
        self.reader = task = current_task(self._loop)
        self._expired = False
        stop = self._stop
        if stop is None or (stop.runs and stop.task is not task):
            stop = self._stop = Stop(self._loop)
        stop.task = task
        stop._asyncio_future_blocking = True
        return stop

    def throw(self, kind: Any, value: Any = None, traceback: Any = None) -> Stop:
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
        self.reader = None
        if self._stop is not None:
            self._stop.leave()

    # -------------------------------------------------------- who ends the wait

    def wake(self) -> None:
        """Let the task go on in the next iteration of the loop."""
        self._expired = False
        if self._stop is not None:
            self._stop.end()

    def wake_now(self) -> None:
        """
        Let the coroutine go on before this returns, where that is possible.

        It is not while another task runs: this may be in the middle of
        anything. Nor if the loop was in its debug mode when the connection opened.
        """
        stop = self._stop
        if stop is None or stop.callback is None:
            return
        self._expired = False
        if not self._eager or current_task(self._loop) is not None:
            stop.end()
        elif not stop.go_on() and self._stop is stop:
            self._stop = None  # the task has it still, in place of what it waits for now

    def expire(self) -> None:
        """The time to wait is over."""
        if self._stop is not None and self._stop.callback is not None:
            self._expired = True
            self._stop.end()


class Stop:
    """
    What a task that awaits a `Waiter` is given, in a future's place.

    asyncio asks of what a task waits for no more than ``get_loop``,
    ``add_done_callback``, ``cancel``, ``result`` and the mark
    ``_asyncio_future_blocking``, with which it tells a future from other things
    that are yielded.

    A task that is woken asks what it waited for whether it failed, sends its coroutine
    on, asks what that waits for next for its loop and a mark, and leaves a new callback
    there: together a quarter of what a short message costs. So `go_on` sends the
    coroutine on by itself, past its task, which goes on waiting. If the coroutine comes
    back here, nothing has changed for the task; if it waits for something else, the
    task's callback is left there, as the task would have done it; if it has ended, so
    has the task. Meanwhile the task is the current one, as ever, with its context.

    Args:
        loop: The task's.

    Attributes:
        task: The task that waits, or whose coroutine runs.
        runs: Whether its coroutine runs past it.
        callback: Wakes the task; None when it has been woken.
        first: What the task believes to wait for, if that is another one.
    """

    __slots__ = (
        "_asked",
        "_asyncio_future_blocking",
        "_context",
        "_coroutine",
        "_elsewhere",
        "_error",
        "_loop",
        "_message",
        "callback",
        "first",
        "runs",
        "task",
    )

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self.task: Any = None
        self._asyncio_future_blocking = False
        self.callback: Callable[[Any], object] | None = None
        self._context: Context | None = None
        # The task's, if it may go on past that.
        self._coroutine: Any = None
        self.runs = False
        # Whether the task was cancelled then, and with which message.
        self._asked = False
        self._message: Any = None
        # What is raised in the task when it goes on.
        self._error: BaseException | None = None
        # What the coroutine waits for, while the task believes that it is this one.
        self._elsewhere: Any = None
        self.first: Stop | None = None

    # ------------------------------------------------------- as its waiter sees it

    def leave(self) -> None:
        """The task waits no more."""
        if not self.runs:  # else `go_on` sees to it
            self.task = self.callback = self._coroutine = None
            self._context = self._error = self.first = None

    def end(self) -> None:
        """Let the task go on in the next iteration of the loop, if it waits."""
        callback, self.callback = self.callback, None
        if callback is not None:
            self._loop.call_soon(callback, self, context=self._context)

    def go_on(self) -> bool:
        """
        Let the coroutine go on; to be called where one waits and no task runs.

        Returns:
            False if it waits for something else now, in whose place the task has this one.
        """
        task, callback, context = self.task, self.callback, self._context
        assert callback is not None and context is not None
        self.callback = None
        if self._coroutine is None:
            try:
                context.run(callback, self)
            except RuntimeError:  # no task raises one here, and nobody enters a context twice
                self._loop.call_soon(callback, self, context=context)
            finally:
                del task, callback, context  # an error's frames hold this one
            return True
        self.runs = True
        try:
            given = run_as(task, self._loop, context, self._coroutine)
        except BaseException as exc:
            asked = self._asked and _still(task)
            self._left()
            _end(task, exc, asked, self._message)
            self._asked, self._message = False, None
            del task, callback, context
            return True
        if given is self:
            self.runs = False
            self._asyncio_future_blocking = False
            self.callback = callback
        else:
            first = self.first or self
            self._left()
            first._pass_on(task, given, callback, context)
        if self._asked:
            message, self._asked, self._message = self._message, False, None
            if _still(task):
                task.cancel(message)  # what it waits for, or what is thrown next
                task.uncancel()  # it was counted before
        return given is self

    def _left(self) -> None:
        self.runs = False
        self.leave()

    def _pass_on(
        self, task: Any, given: Any, callback: Callable[[Any], object], context: Context
    ) -> None:
        """The coroutine waits for *given*, the task for this: what `asyncio.Task` does then."""
        self._elsewhere = None
        mark = getattr(given, "_asyncio_future_blocking", None)
        error = None
        if mark is None:
            if given is not None:
                error = f"Task got bad yield: {given!r}"
        elif _get_loop(given) is not self._loop:
            error = f"Task {task!r} got Future {given!r} attached to a different loop"
        elif not mark:
            error = f"yield was used instead of yield from in task {task!r} with {given!r}"
        elif given is task:
            error = f"Task cannot await on itself: {task!r}"
        else:
            given._asyncio_future_blocking = False
            given.add_done_callback(callback, context=context)
            self._elsewhere = given
            if type(given) is Stop:
                given.first = self
            return
        if error is not None:
            self._error = RuntimeError(error)
        self._loop.call_soon(callback, self, context=context)

    # ------------------------------------------- what is asked of a task's future

    # By anyio, which takes nothing that has come from whom it cancels, and in its repr().

    @property  # type: ignore[misc]
    def __class__(self) -> Any:  # pyright: ignore[reportIncompatibleMethodOverride]
        return Stop if self._elsewhere is None else type(self._elsewhere)

    def __repr__(self) -> str:
        return object.__repr__(self) if self._elsewhere is None else repr(self._elsewhere)

    def done(self) -> bool:
        """Whether the task goes on without anything else that happens."""
        return self.callback is None if self._elsewhere is None else self._elsewhere.done()

    def cancelled(self) -> bool:
        """Whether the task has been cancelled, and does not know yet."""
        if self._elsewhere is not None:
            return bool(self._elsewhere.cancelled())
        return self.callback is None and isinstance(self._error, CancelledError)

    # ------------------------------------------------------- what asyncio asks

    def get_loop(self) -> asyncio.AbstractEventLoop:
        """The loop that the task must run on."""
        return self._loop

    def add_done_callback(
        self, callback: Callable[[Any], object], *, context: Context | None = None
    ) -> None:
        """The task has stopped, and wants *callback* to be called."""
        self.callback, self.first = callback, None
        self._context = copy_context() if context is None else context
        # What else than asyncio's own kind of task calls back may want to see each step.
        owner: Any = getattr(callback, "__self__", None)
        ours = owner is self.task and type(owner) is _Task
        self._coroutine = owner.get_coro() if ours else None

    def cancel(self, msg: Any = None) -> bool:
        """The task is cancelled; False if it has to see to that by itself."""
        if self.callback is not None:
            self._error = CancelledError() if msg is None else CancelledError(msg)
            self.end()
            return True
        if self._elsewhere is not None:
            return bool(self._elsewhere.cancel(msg=msg))
        # A task that is told no remembers it, and only its own steps would let it forget.
        self._asked = self.runs
        self._message = msg if self.runs else None
        return self.runs

    def result(self) -> None:
        """Raise what ends the wait, if anything does."""
        if self._error is not None:
            raise self._error


def _still(task: Any) -> bool:
    """Whether *task*, which was cancelled, has not been told since that nobody asks for it."""
    return not _RESCINDS or task.cancelling() > 0


def _end(task: Any, exc: BaseException, asked: bool, message: Any) -> None:
    """The coroutine of *task* has ended so: what `asyncio.Task` does then."""
    if isinstance(exc, StopIteration):
        if asked:
            _Future.cancel(task, message)
        else:
            _Future.set_result(task, exc.value)
    elif isinstance(exc, CancelledError):
        _Future.cancel(task, *exc.args[:1])
    else:
        # Its traceback would hold two calls that hold the task, which may hold it.
        for _ in range(2):
            exc.__traceback__ = exc.__traceback__ and exc.__traceback__.tb_next
        _Future.set_exception(task, exc)
        if isinstance(exc, (KeyboardInterrupt, SystemExit)):
            raise exc
