"""The client's half: rooms that go on through reconnections."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import time
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass
from types import TracebackType
from typing import Any

from ..client import AioClient
from ..errors import ConnectionClosed, ConnectionError, WebSocketRuntimeError
from ..link.base import Data
from ..reconnect import Reconnect
from ..rooms import Gap, Position
from ..types import CloseCode
from .frames import (
    SUBPROTOCOL,
    BadFrame,
    data_fields,
    data_of,
    make,
    number_of,
    parse,
    position_of,
    text_of,
)

__all__ = ["Client", "Refused"]

# Which ends of a connection coming again would not cure.
_FATAL = {CloseCode.PROTOCOL_ERROR, CloseCode.POLICY_VIOLATION, CloseCode.MESSAGE_TOO_BIG}


@dataclass(frozen=True, slots=True)
class Refused:
    """
    What the server would not do: join a room, or take a message.

    Attributes:
        reason: Why, in the server's words.
        number: Of the message, as `Client.send` returned it; None for a join.
    """

    reason: str
    number: int | None = None


class Client:
    """
    A client of ``simplews.resume.v1``, which goes on where it was after each reconnection.

    ::

        async with resume.Client(url, rooms=["lobby"]) as client:
            await client.send("lobby", "hi")
            async for room, message in client:
                if isinstance(message, resume.Gap):
                    ...  # messages are missing: load the room anew
                elif isinstance(message, str):
                    print(room, message)

    The loop gives pairs of a room and what happened there: ``str`` or ``bytes`` for a
    message, each once and in order; a `Gap` at the place where messages are missing;
    a `Refused`. It ends when the block does; before, it raises what reconnecting cannot
    cure. Leaving a wait for the next pair loses nothing.

    Args:
        url: Of the server.
        rooms: What to join at first.
        reconnect: The policy.
        max_waiting: Pairs that wait for the loop; when there are more, nothing is read
            from the connection, and the server may close it as too slow.
        max_unacknowledged: Messages that were sent and not acknowledged; when there
            are more, `send` waits.
        options: More arguments of ``AioClient.connect``.
    """

    def __init__(
        self,
        url: str,
        rooms: Iterable[str] = (),
        *,
        reconnect: Reconnect | None = None,
        max_waiting: int = 256,
        max_unacknowledged: int = 256,
        **options: Any,
    ) -> None:
        for name, value in (
            ("max_waiting", max_waiting),
            ("max_unacknowledged", max_unacknowledged),
        ):
            if value < 1:
                raise ValueError(f"{name} must be at least 1, not {value}")
        self._connections = AioClient.connect(
            url, [SUBPROTOCOL], reconnect=reconnect or Reconnect(), **options
        )
        self._name = secrets.token_urlsafe(16)
        # Each room, and the last position in it that the loop has had or has waiting.
        self._rooms: dict[str, Position | None] = dict.fromkeys(rooms)
        self._max_unacknowledged = max_unacknowledged
        self._number = 0
        self._unacknowledged: dict[int, str] = {}
        self._unsent: deque[str] = deque()
        self._wake = asyncio.Event()  # there is something to write
        self._acknowledged = asyncio.Event()
        self._waiting: deque[tuple[str, str | bytes | Gap | Refused]] = deque()
        self._max_waiting = max_waiting
        self._news = asyncio.Event()  # something waits for the loop, or it has ended
        self._room = asyncio.Event()  # there is room for more
        self._reader: asyncio.Task[Any] | None = None
        self._ws: AioClient | None = None
        self._task: asyncio.Task[None] | None = None
        self._closing = False
        self._error: BaseException | None = None

    async def __aenter__(self) -> Client:
        if self._task is not None:
            raise WebSocketRuntimeError("a Client is entered once")
        self._task = asyncio.get_running_loop().create_task(self._run())
        self._task.add_done_callback(self._ended)
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Close the connection; what was not acknowledged may not have arrived."""
        assert self._task is not None
        self._closing = True
        self._room.set()
        try:
            if self._ws is not None:
                await self._ws.close()
        finally:
            self._task.cancel()
            await asyncio.wait({self._task})

    def _ended(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled():
            self._error = task.exception()
        self._closing = True
        for event in (self._news, self._acknowledged):
            event.set()

    # ------------------------------------------------------------ what is asked of it

    async def join(self, room: str) -> None:
        """Join one more room, now or with the next connection; does not wait for it."""
        room.encode()  # raises here, and not where it is written
        self._rooms.setdefault(room, None)
        self._wake.set()

    async def leave(self, room: str) -> None:
        """Leave a room, and forget the position in it; does not wait for it."""
        self._rooms.pop(room, None)
        self._wake.set()

    async def send(self, room: str, data: Data) -> int:
        """
        Send a message to a room that it has joined.

        It returns when the message has its place behind the ones before, also while
        there is no connection; `flush` waits until the server has all of them.

        Args:
            room: Where to.
            data: ``str`` for a text message, bytes-like for a binary one.

        Returns:
            The number of the message; a `Refused` has it too.

        Raises:
            TypeError: *data* is no message.
            WebSocketRuntimeError: The block has ended; or too many messages are not
                acknowledged, and it is the task of the loop that would wait for that.
            ConnectionError: Connecting again has been given up.

        Cancellation:
            Safe; the message is not sent.
        """
        if not isinstance(data, (str, bytes, bytearray, memoryview)):
            raise TypeError(f"a message is str or bytes-like, not {type(data).__name__}")
        self._check()
        while len(self._unacknowledged) >= self._max_unacknowledged:
            if self._reader is asyncio.current_task() and self._stuck:
                raise WebSocketRuntimeError(
                    f"{len(self._unacknowledged)} messages are not acknowledged, and nothing is "
                    f"read while this task waits in send(); send from another task"
                )
            await self._next_acknowledgement()
        frame = make("message", room=room, number=self._number + 1, **data_fields(data))
        frame.encode()
        self._number += 1
        self._unacknowledged[self._number] = frame
        self._unsent.append(frame)
        self._wake.set()
        return self._number

    async def flush(self) -> None:
        """
        Wait until all that was sent is acknowledged, or refused.

        Raises:
            WebSocketRuntimeError: The block has ended.
            ConnectionError: Connecting again has been given up.

        Cancellation:
            Safe.
        """
        while self._unacknowledged:
            await self._next_acknowledgement()

    @property
    def _stuck(self) -> bool:
        return len(self._waiting) >= self._max_waiting

    async def _next_acknowledgement(self) -> None:
        self._check()
        self._acknowledged.clear()
        await self._acknowledged.wait()
        self._check()

    def _check(self) -> None:
        if self._error is not None:
            raise self._error
        if self._task is None or self._closing:
            raise WebSocketRuntimeError("a Client works inside of its 'async with' block")

    def __aiter__(self) -> Client:
        return self

    async def __anext__(self) -> tuple[str, str | bytes | Gap | Refused]:
        self._reader = asyncio.current_task()
        while not self._waiting:
            if self._error is not None:
                raise self._error
            if self._task is None or self._closing:
                raise StopAsyncIteration
            self._news.clear()
            await self._news.wait()
        self._room.set()
        return self._waiting.popleft()

    # ------------------------------------------------------------------- connections

    async def _run(self) -> None:
        async with self._connections as connections:
            async for ws in connections:
                if self._closing:
                    return
                if ws.subprotocol != SUBPROTOCOL:
                    raise ConnectionError(f"the server does not speak {SUBPROTOCOL}")
                self._ws = ws
                self._unsent = deque(self._unacknowledged.values())
                writing = asyncio.get_running_loop().create_task(self._write(ws))
                try:
                    await self._read(ws)
                except ConnectionClosed as error:
                    if error.code in _FATAL:
                        raise
                finally:
                    writing.cancel()
                    await asyncio.wait({writing})
                if not writing.cancelled() and (failed := writing.exception()) is not None:
                    raise failed

    async def _write(self, ws: AioClient) -> None:
        """All that this connection is told; one task, so that numbers keep their order."""
        joined: set[str] = set()
        with contextlib.suppress(ConnectionClosed):
            await ws.send(make("hello", client=self._name))
            while True:
                self._wake.clear()
                for room in joined - self._rooms.keys():
                    joined.discard(room)
                    await ws.send(make("leave", room=room))
                for room in [room for room in self._rooms if room not in joined]:
                    joined.add(room)
                    since = self._rooms.get(room)
                    await ws.send(make("join", room=room, since=since and str(since)))
                while self._unsent:
                    await ws.send(self._unsent.popleft())
                await self._wake.wait()

    async def _read(self, ws: AioClient) -> None:
        async for message in ws:
            try:
                self._take(parse(message.data))
            except BadFrame as error:
                await ws.close(CloseCode.PROTOCOL_ERROR, str(error)[:100])
                raise ConnectionError(f"the server sent {error}") from error
            while self._stuck and not self._closing:
                self._acknowledged.set()  # the loop may wait in send(), and for ever
                self._room.clear()
                await self._room.wait()

    def _take(self, frame: dict[str, Any]) -> None:
        kind = frame["type"]
        if kind == "ack":
            self._done(number_of(frame))
        elif kind == "error" and frame.get("number") is not None:
            number = number_of(frame)
            self._give(str(frame.get("room")), Refused(str(frame.get("reason")), number))
            self._done(number)
        elif kind in ("message", "joined", "error"):
            room = text_of(frame, "room", 0, 512)
            if room not in self._rooms:
                return  # it has left meanwhile
            if kind == "error":
                del self._rooms[room]
                self._give(room, Refused(str(frame.get("reason"))))
            elif kind == "joined":
                self._joined(room, frame)
            else:
                self._message(room, frame)

    def _joined(self, room: str, frame: dict[str, Any]) -> None:
        last = self._rooms[room]
        self._rooms[room] = position_of(frame, "position")
        if frame.get("gap") is not None:
            self._give(room, Gap(room, 0.0, time.time(), str(frame["gap"]), last))

    def _message(self, room: str, frame: dict[str, Any]) -> None:
        position, last = position_of(frame, "position"), self._rooms[room]
        if position is not None:
            if last is not None and last.epoch == position.epoch and position <= last:
                return
            self._rooms[room] = position
        self._give(room, data_of(frame))

    def _give(self, room: str, what: str | bytes | Gap | Refused) -> None:
        self._waiting.append((room, what))
        self._news.set()

    def _done(self, number: int) -> None:
        """The server has dealt with this message, and so with all before."""
        for done in list(self._unacknowledged):
            if done > number:
                break
            del self._unacknowledged[done]
        self._acknowledged.set()
