"""ASGILink: a WebSocket that an ASGI server carries.

The server does the handshakes, the frames, the pings and the compression; what
passes here are messages (ASGI's "WebSocket" specification, versions 2.0 to 2.5).
While nobody waits in receive(), a task reads ahead in the background, so that the
client's leaving is noticed though the application only sends.
"""

from __future__ import annotations

import asyncio
import sys
from collections import deque
from collections.abc import (
    Awaitable,
    Callable,
    Coroutine,
    Generator,
    Mapping,
    MutableMapping,
    Sequence,
)
from types import CoroutineType
from typing import Any

from ..errors import ConnectionClosed, WebSocketRuntimeError
from ..protocol.codec import MESSAGE_OVERHEAD
from ..protocol.frames import Fragment
from ..protocol.octets import memory_size, payload_size
from ..types import Close, CloseCode, Ending, State, Waiting
from .base import Data, Fragments, Frames, Pieces, Stats, encode
from .blocks import blocks_of
from .closed import Closed
from .inbox import Inbox
from .options import Options
from .step import DONE, Steps, current_task, step

__all__ = ["ASGILink", "address", "close_event", "says_gone"]

Event = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Event]]
Send = Callable[[Event], Awaitable[None]]

# Seconds after which a task that is not in receive() is elsewhere, and the reader in the
# background starts, to notice that the client leaves.
_ELSEWHERE = 0.1

# Some servers take messages without waiting, also when nobody is there any more: one
# in 64 lets the reader have its turn.
_BURST = 64

# Messages of a room that wait for the server's send() before a member is behind.
_WAITING = 16


def says_gone(exc: Exception) -> bool:
    """
    Whether an error of the server's send() says that the client has left meanwhile.

    OSError since version 2.4 (TimeoutError, of ours, is one as well); RuntimeError
    from servers that know it already; the WebSocketDisconnect of Starlette's object,
    which is neither and has a close code.
    """
    return isinstance(exc, (OSError, RuntimeError)) or hasattr(exc, "code")


def address(value: Sequence[Any] | None) -> tuple[Any, ...] | None:
    return None if value is None else tuple(value)


def close_event(close: Close) -> Event:
    # Some servers want an int, and no subclass.
    return {"type": "websocket.close", "code": int(close.code), "reason": close.reason}


# Without looking for the method, for every message.
_Task = asyncio.Task
_cancelling = asyncio.Task.cancelling


class Begun:
    """
    The rest of a coroutine whose first `step` was not its last.

    Args:
        coroutine: It waits.
        awaited: What for: what `step` has returned.
    """

    __slots__ = ("_awaited", "_coroutine")

    def __init__(self, coroutine: Coroutine[Any, Any, None], awaited: Any) -> None:
        self._coroutine = coroutine
        self._awaited = awaited

    def __await__(self) -> Generator[Any, None, None]:
        """As ``yield from`` goes on."""
        coroutine, awaited = self._coroutine, self._awaited
        try:
            while True:
                try:
                    yield awaited
                except BaseException as exc:
                    awaited = coroutine.throw(exc)
                else:
                    awaited = coroutine.send(None)
        except StopIteration:
            return


async def _awaited(awaitable: Awaitable[Any]) -> Any:
    return await awaitable


async def _failed(exc: Exception) -> Any:
    raise exc


class Reading(Steps):
    """
    A task in it calls the server's receive() itself.

    Args:
        link: Whose receive() it is.
    """

    __slots__ = ("_before", "_link")

    def __init__(self, link: ASGILink) -> None:
        self._link = link
        self._before = 0

    def begin(self) -> Any:
        """Nobody else reads from now on."""
        link = self._link
        link._receiving = True
        if link._burst >= _BURST:
            return link._receive_later()
        coroutine: Any = link._receive()
        return coroutine if type(coroutine) is CoroutineType else _awaited(coroutine)

    def waits(self) -> None:
        """The current task reads."""
        link = self._link
        task = current_task(link._loop)
        if task is not None:  # or somebody sends it on by hand
            self._before = _cancelling(task) if type(task) is _Task else task.cancelling()
        # Nothing has to wake it, so its being the reader is all that the inbox knows.
        link._reader = link.inbox.waiter.reader = task

    def ended(self, result: Any, taken: bool = False) -> Any:
        """The server has said something; a message, for who takes it at once."""
        message = self._link._take(result, taken)
        self._leave()
        return message

    def failed(self, exc: BaseException) -> bool:
        """Its receive() has failed, or makes no sense, or the task is cancelled, perhaps by us."""
        link, ours = self._link, True
        if isinstance(exc, Exception):
            link._fail(exc)
        else:
            ours = isinstance(exc, asyncio.CancelledError) and link._woken(
                link._reader, self._before
            )
        self._leave()
        return ours

    def _leave(self) -> None:
        link = self._link
        task = link._reader
        link._receiving = False
        if task is not None:
            link._reader = link.inbox.waiter.reader = None
            if link._interrupted and task in link._interrupted:
                link._woken(task, self._before)
        if link._watch is None and not link._heard_all:
            link._look_later()


class ASGILink:
    """
    An open WebSocket that an ASGI server carries.

    Attributes:
        state: OPEN, CLOSING or CLOSED.
        ending: How it ended; None exactly while it is OPEN.
        inbox: What has arrived.
    """

    __slots__ = (
        "__weakref__",
        "_begun",
        "_blocks",
        "_burst",
        "_bytes_in",
        "_bytes_out",
        "_closed",
        "_closing",
        "_deadline",
        "_direct",
        "_frames",
        "_heard_all",
        "_interrupted",
        "_limit",
        "_loop",
        "_messages_out",
        "_options",
        "_reader",
        "_reading",
        "_receive",
        "_receives",
        "_receiving",
        "_resumed",
        "_scope",
        "_send",
        "_senders",
        "_streaming",
        "_task",
        "_watch",
        "_writing",
        "ending",
        "inbox",
        "state",
    )

    def __init__(
        self,
        scope: Mapping[str, Any],
        receive: Receive,
        send: Send,
        options: Options,
        direct: bool,
    ) -> None:
        loop = asyncio.get_running_loop()
        self.state = State.OPEN
        self.ending: Ending | None = None
        self.inbox = Inbox(loop, options.marks, self)
        self._loop = loop
        self._scope = scope
        self._receive = receive
        self._send = send
        self._options = options
        limit = options.max_message_size
        self._limit = sys.maxsize if limit is None else min(limit, sys.maxsize)
        self._bytes_in = 0
        self._bytes_out = 0
        self._messages_out = 0
        # The server's own "websocket.receive": mostly one object, which need not be compared.
        self._receives: Any = None
        # Messages since others last had a turn on our account.
        self._burst = 0
        # What `send_nowait` has begun, and `send` goes on with.
        self._begun: Awaitable[None] | None = None
        self._streaming = False
        self._resumed: asyncio.Future[None] | None = None
        # What `write_frames` was given, and the task that sends it.
        self._frames: deque[Frames] = deque()
        self._writing: asyncio.Task[None] | None = None
        self._closing: asyncio.Task[None] | None = None
        # Tasks inside the server's send() and the sizes of their messages, None for one
        # that waits for its next piece; and tasks that our end has woken there.
        self._senders: dict[asyncio.Task[Any], int | None] = {}
        self._interrupted: set[asyncio.Task[Any]] = set()
        self._closed = Closed(loop)
        self._blocks = blocks_of(loop)
        # Who calls the server's receive(): `_task`, or `_reader`, a task in `_reading`, that
        # is known when it has to wait.
        self._task: asyncio.Task[None] | None = None
        self._reader: asyncio.Task[Any] | None = None
        self._reading: Reading | None = Reading(self)
        self._receiving = False
        self._direct = direct
        self._heard_all = False
        self._deadline: asyncio.TimerHandle | None = None
        self._watch: asyncio.TimerHandle | None = None
        self._look_later()

    # ------------------------------------------------------- what it can tell

    @property
    def stats(self) -> Stats:
        """Counters, as they stand; bytes are those of messages, the server knows no others."""
        sends = self._sizes()
        return Stats(
            *self.count(),
            messages_waiting=len(self.inbox.messages),
            bytes_waiting=self._unwritten() + sum(sends),
            sends_waiting=len(sends),
        )

    def count(self) -> tuple[int, int, int, int]:
        """Messages in and out, bytes in and out."""
        inbox = self.inbox
        return (
            inbox.taken + len(inbox.messages),
            self._messages_out,
            self._bytes_in,
            self._bytes_out,
        )

    def _sizes(self) -> list[int]:
        """Those of the messages that wait in the server's send()."""
        return [size for size in self._senders.values() if size is not None]

    def _unwritten(self) -> int:
        """Bytes of messages that `_write` has not sent yet."""
        return sum([len(frames.payload) for frames in self._frames])

    @property
    def task(self) -> asyncio.Task[None] | None:
        """The task that reads in the background, from now on; None after the end."""
        if self.inbox.waiter.reader is None:
            self._start_reader()
        return self._task

    @property
    def latency(self) -> None:
        """None: the server does not tell."""

    @property
    def streams(self) -> tuple[None, None]:
        """None: the server has them."""
        return None, None

    def get_extra_info(self, name: str) -> Any:
        """``peername``, ``sockname`` and ``scheme``, as far as the server tells them."""
        if name == "scheme":
            return self._scope.get("scheme")
        key = {"peername": "client", "sockname": "server"}.get(name)
        return None if key is None else address(self._scope.get(key))

    # ------------------------------------------------------------ messages in

    def wait(self, timeout: float | None) -> Awaitable[bool | None]:
        """
        Wait until a message is there or the connection has ended; see `Inbox.wait`.

        Where that is safe, a task that waits without a timeout calls the server's
        receive() itself, which saves a task switch and a turn of the loop for every
        message. In all other cases the reader in the background does.
        """
        reading = self._reading
        if timeout is not None or self._task is not None or not self._direct or reading is None:
            self._start_reader()
            return self.inbox.wait(timeout)
        if self.inbox.waiter.reader is not None:
            self.inbox.check_single_reader()
        return reading.wait()

    async def _receive_later(self) -> Event:
        """What the server has after others had their turn."""
        self._burst = 0
        await asyncio.sleep(0)
        return await self._receive()

    def _look_later(self) -> None:
        self._watch = self._loop.call_later(_ELSEWHERE, self._look)

    def _look(self) -> None:
        """Read in the background, unless somebody waits in `wait`."""
        if self._watch is not None:
            now = self._loop.time()
            self._blocks.fired(self._watch.when(), now)
        self._watch = None
        if self.inbox.waiter.reader is None:
            self._start_reader()

    def _start_reader(self) -> None:
        # One receive() at a time.
        if self._task is None and not self._heard_all and not self._receiving:
            self._task = self._loop.create_task(self._read(), name="simplews: ASGI reader")

    async def _read(self) -> None:
        """Take the server's events in the background, until somebody else does."""
        inbox = self.inbox
        try:
            while not self._heard_all:
                event = await self._receive()
                awaited = inbox.waiter.reader is not None
                self._take(event, False)
                if inbox.paused:
                    self._resumed = self._loop.create_future()
                    await self._resumed
                elif awaited and self._direct:
                    break
        except asyncio.CancelledError as exc:
            if not self._heard_all:
                self._fail(exc)
            raise
        except Exception as exc:
            self._fail(exc)
        finally:
            self._task = None
            if self._watch is None and not self._heard_all:
                self._look_later()

    def _take(self, event: Event, taken: bool) -> Any:
        """
        An event of the server.

        Args:
            taken: Whether the caller is who waits for a message, and takes this one.

        Returns:
            It, if it is taken; else None.
        """
        fields = event if type(event) is dict else dict(event)
        kind = fields["type"]
        if kind is self._receives or kind == "websocket.receive":
            self._receives = kind
            # Both keys may be there, one of them None.
            data: Any = fields.get("text")
            if data is None:
                data = fields.get("bytes") or b""
            size = payload_size(data)
            self._burst += 1
            self._bytes_in += size
            if size > self._limit:
                if self.ending is None:
                    why = f"message of {size} bytes exceeds the limit of {self._limit} bytes"
                    self._close(Close(CloseCode.MESSAGE_TOO_BIG, why), why)
                return None
            if taken and not self._streaming and self.inbox.passed():
                return data
            self.inbox.messages.append(Fragment(data, True) if self._streaming else data)
            self._streaming = False
            self.inbox.arrived(memory_size(data) + MESSAGE_OVERHEAD)
            self.inbox.wake()
        elif kind == "websocket.disconnect":
            self._client_left(fields)
        else:
            self._fail(WebSocketRuntimeError(f"the ASGI server sent {kind!r}"))
        return None

    def _client_left(self, event: Event) -> None:
        """The client has left; before that, a send() may have failed for it."""
        self._heard_all = True
        code = event.get("code")
        code = CloseCode.NO_STATUS_RCVD if code is None else code
        close = Close(int(code), event.get("reason") or "")
        if close.code == CloseCode.ABNORMAL_CLOSURE:
            self._lose(close.reason or "the ASGI server reports 1006, no Close frame", None)
        elif self.ending is None:
            # uvicorn says 1012 for itself, when it shuts down.
            restart = close.code == CloseCode.SERVICE_RESTART
            self._end(Ending("peer", received=close, delegated=restart))
        elif self.ending.by == "lost":
            self.ending.found(close)
        self._gone()

    def _fail(self, exc: BaseException) -> None:
        """The server's receive() raised, was cancelled, or said what makes no sense."""
        self._heard_all = True
        if self._closing is not None:
            return  # whatever became of the reader, the Close is on its way
        self._lose(f"the ASGI server's receive() failed: {exc!r}", exc)
        self._gone()

    def pause_reading(self) -> None:
        """Nothing: the reader looks at ``inbox.paused``."""

    def resume_reading(self) -> None:
        """Let the reader go on."""
        if self._resumed is not None and not self._resumed.done():
            self._resumed.set_result(None)

    def begin_stream(self) -> None:
        """Give out the next message as a stream, of one piece: the server joins fragments."""
        self._streaming = True

    def end_stream(self) -> None:
        """Nobody wants the stream any more."""
        self._streaming = False
        self.inbox.drop_fragments()

    # ----------------------------------------------------------- messages out

    def send_nowait(self, data: Data, compress: bool | None) -> bool:
        """
        Send a message, if the server takes it without waiting; `send` follows if it is False.

        A server's send() seldom waits, and then nobody can cancel it, nor can the end
        come: what `send` keeps account of is of use only if it does.
        """
        event: Event
        if type(data) is str:
            event = {"type": "websocket.send", "text": data}
        elif type(data) is bytes:
            event = {"type": "websocket.send", "bytes": data}
        else:
            return False  # some servers take no subclasses
        if self._burst >= _BURST or self.ending is not None or self._writing is not None:
            return False
        size = payload_size(data)  # raises for what cannot be UTF-8
        try:
            coroutine: Any = self._send(event)
            if type(coroutine) is not CoroutineType:
                coroutine = _awaited(coroutine)
            awaited = step(coroutine)
        except ConnectionClosed:
            raise
        except Exception as exc:
            self._begun = _failed(exc)
            return False
        if awaited is not DONE:
            self._begun = Begun(coroutine, awaited)
            return False
        self._burst += 1
        self._messages_out += 1
        self._bytes_out += size
        return True

    async def send(self, data: Data, compress: bool | None) -> None:
        """
        Send a message; the server waits for the peer if it is behind.

        Cancellation:
            As the server has it: the message may have been sent.
        """
        begun = self._begun
        self._begun = None
        if begun is None and self.ending is not None:
            raise ConnectionClosed(self.ending)
        message: Any = data
        if type(data) is not str:
            opcode, payload = encode(data)
            # Some servers take no subclasses of str and bytes.
            message = str(data) if opcode == 1 else bytes(payload)
        size = payload_size(message)  # raises for what cannot be UTF-8
        task = current_task(self._loop)
        assert task is not None
        before = task.cancelling()
        self._senders[task] = size
        try:
            if begun is not None:
                await begun
            else:
                while self._writing is not None:
                    await asyncio.wait([self._writing])
                if self._burst >= _BURST:
                    self._burst = 0
                    await asyncio.sleep(0)
                self.check_open()
                kind = "text" if type(message) is str else "bytes"
                await self._send({"type": "websocket.send", kind: message})
        except asyncio.CancelledError:
            if not self._woken(task, before):
                raise
            assert self.ending is not None
            raise ConnectionClosed(self.ending) from None
        except ConnectionClosed:
            raise
        except Exception as exc:
            # The client has gone: OSError by version 2.4, RuntimeError from some servers,
            # WebSocketDisconnect through Starlette's object. The reader may know more.
            self._senders.pop(task, None)
            await self._send_failed(exc)
            assert self.ending is not None
            raise ConnectionClosed(self.ending) from exc
        finally:
            self._senders.pop(task, None)
            if task in self._interrupted:
                self._woken(task, before)
        self._burst += 1
        self._messages_out += 1
        self._bytes_out += size

    async def _send_failed(self, exc: Exception) -> None:
        self._start_reader()
        try:
            await asyncio.sleep(0)
        finally:
            self._lose(f"the ASGI server's send() failed: {str(exc) or exc!r}", exc)

    async def send_fragments(self, fragments: Fragments, compress: bool | None) -> None:
        """
        Send one message from pieces: joined, because ASGI has no fragments.

        Cancellation:
            Nothing has been sent.
        """
        self.check_open()
        task = asyncio.current_task()
        assert task is not None
        before = task.cancelling()
        # The application may wait for its next piece for ever; our end does not.
        self._senders[task] = None
        try:
            whole = await self._join(fragments)
        except asyncio.CancelledError:
            if not self._woken(task, before):
                raise
            assert self.ending is not None
            raise ConnectionClosed(self.ending) from None
        finally:
            self._senders.pop(task, None)
            if task in self._interrupted:
                self._woken(task, before)
        if whole is not None:
            await self.send(whole, compress)

    async def _join(self, fragments: Fragments) -> Data | None:
        """The pieces as one message; None if there are none."""
        pieces: list[Any] = []
        async with Pieces(fragments, self._options.close_timeout) as given:
            async for piece in given:
                if not isinstance(piece, (str, bytes, bytearray, memoryview)):
                    raise TypeError(f"a fragment is str or bytes-like, not {type(piece).__name__}")
                if pieces and isinstance(piece, str) != isinstance(pieces[0], str):
                    raise TypeError("the fragments of a message are all text or all binary")
                self.check_open()
                pieces.append(piece)
        if not pieces:
            return None
        return "".join(pieces) if isinstance(pieces[0], str) else b"".join(pieces)

    def write_frames(self, frames: Frames) -> bool:
        """Send a message made once for many, in a task; False if too many wait for it."""
        if self.ending is not None:
            raise ConnectionClosed(self.ending)
        if len(self._frames) >= _WAITING:
            return False
        self._frames.append(frames)
        if self._writing is None:
            self._writing = self._loop.create_task(self._write())
        return True

    async def _write(self) -> None:
        """Send what `write_frames` was given; our own Close waits for that."""
        frames = self._frames
        try:
            while frames:
                if frames[0].opcode == 1:
                    await self._send({"type": "websocket.send", "text": str(frames[0].data)})
                else:
                    await self._send({"type": "websocket.send", "bytes": bytes(frames[0].payload)})
                self._messages_out += 1
                self._bytes_out += len(frames.popleft().payload)
        except Exception as exc:
            frames.clear()
            await self._send_failed(exc)
        finally:
            self._writing = None

    async def writable(self) -> None:
        """Wait until a message can be written, or the link has ended."""
        if self._writing is not None:
            await asyncio.wait([self._writing])

    def check_open(self) -> None:
        """Raise if it has ended."""
        if self.ending is not None:
            raise ConnectionClosed(self.ending)

    async def ping(self, timeout: float | None) -> float:
        """Raises: ASGI has no pings."""
        raise WebSocketRuntimeError(
            "ASGI has no pings, the server sends them by itself; measure the round trip with "
            "messages of your own"
        )

    # ---------------------------------------------------------------- closing

    def begin_close(self, close: Close) -> None:
        """Hand *close* to the server, which does the closing handshake."""
        if self.state is State.OPEN:
            self._close(close, "")
        elif self._closing is None:
            self._gone()  # the client has gone, and nobody wants what it had sent

    def _close(self, close: Close, why: str) -> None:
        self._end(Ending("us", sent=close, why=why, delegated=True))
        self._closing = self._loop.create_task(self._send_close(close))

    async def _send_close(self, close: Close) -> None:
        try:
            if self._task is not None:
                # granian does not send it while a receive() is pending.
                self._task.cancel()
                await asyncio.wait([self._task], timeout=self._options.close_timeout / 2)
            async with asyncio.timeout(self._options.close_timeout):
                if self._writing is not None:
                    await asyncio.wait([self._writing])
                try:
                    await self._send(close_event(close))
                except Exception as exc:
                    if says_gone(exc):
                        raise
                    # daphne takes 1000 and 3000 to 4999 only, and would stay open.
                    self._options.logger.warning(
                        "the ASGI server does not take %s (%r), so the client gets 1000", close, exc
                    )
                    await self._send(close_event(Close(CloseCode.NORMAL_CLOSURE)))
        except Exception as exc:
            if not says_gone(exc):
                self._options.logger.exception("the ASGI server did not take a Close")
        finally:
            self._gone()

    def abort(self) -> None:
        """End at once; ASGI cannot drop a connection, so the client gets 1011."""
        if self.ending is None:
            self._end(Ending("lost", why="abort() was called on our side"))
            close = Close(CloseCode.INTERNAL_ERROR)
            self._closing = self._loop.create_task(self._send_close(close))
        else:
            if self._closing is not None:
                self._closing.cancel()
            self._gone()

    def _lose(self, why: str, cause: BaseException | None) -> None:
        """
        The client has gone without a Close, or so it seems.

        What it had sent may still be with the server, and with it a better reason.
        """
        if self.ending is None:
            self._end(Ending("lost", why=why, cause=cause), drain=not self._heard_all)
            if not self._heard_all:
                self._start_reader()
                self._deadline = self._loop.call_later(self._options.close_timeout, self._gone)

    def _end(self, ending: Ending, *, drain: bool = False) -> None:
        """
        The one place where a connection stops to be open; everyone who waits is woken.

        With *drain*, those who wait for a message are not: the reader goes on.
        """
        ending.waiting = self._waiting(ending)
        self.ending = ending
        self.state = State.CLOSING
        for task in list(self._senders):
            self._interrupt(task)
        if ending.by != "us":
            self._stop_writing()
        if not drain:
            self._end_reading()

    def _waiting(self, ending: Ending) -> Waiting:
        """What waits now, before anybody is woken."""
        waiter, sends = self.inbox.waiter, self._sizes()
        return Waiting(
            messages=0 if waiter.reader is not None else len(self.inbox.messages),
            sends=len(sends),
            send_bytes=sum(sends),
            transport_bytes=self._unwritten(),
            blocked=0.0 if ending.normal else self._blocks.recent(self._loop.time()),
        )

    def _stop_writing(self) -> None:
        if self._writing is not None and self._writing is not asyncio.current_task():
            self._writing.cancel()

    def _end_reading(self) -> None:
        """No message follows those that are there."""
        self._heard_all = True
        self.inbox.end()
        reader = self._reader
        if reader is not None:
            self._interrupt(reader)

    def _interrupt(self, task: asyncio.Task[Any]) -> None:
        """Wake *task*, which is inside the server; see `_woken`."""
        if task is not asyncio.current_task() and task not in self._interrupted:
            self._interrupted.add(task)
            task.cancel()

    def _woken(self, task: asyncio.Task[Any] | None, before: int) -> bool:
        """
        Undo our cancellation of *task*, if there is one.

        Args:
            task: The current task.
            before: How often it had been cancelled when it went into the server.

        Returns:
            Whether it was ours alone.
        """
        if task is None or task not in self._interrupted:
            return False
        self._interrupted.discard(task)
        return task.uncancel() <= before

    def _gone(self) -> None:
        """Nothing more will be said to the server, nor heard from it."""
        if self.state is State.CLOSED:
            return
        self.state = State.CLOSED
        self._stop_writing()
        self._end_reading()
        if self._task is not None and self._task is not asyncio.current_task():
            self._task.cancel()
        for timer in (self._watch, self._deadline):
            if timer is not None:
                timer.cancel()
        # Both hold us in turn, and would wait for the collector of garbage with us. A
        # task that is still in `_reading` has it for itself.
        self._reading = None
        self.inbox.part()
        self._closed.set()

    async def wait_closed(self) -> None:
        """Wait until the server has the Close, or the client has left."""
        await self._closed.wait()

    def on_closed(self, callback: Callable[[], None]) -> None:
        """Call *callback* once, when it is closed; now, if it is."""
        self._closed.call(callback)
