"""The outbox: frames on their way to the transport.

Cork: replies that are sent while more messages wait in the inbox are held and
written together, because one ``send(2)`` for a batch costs what one for a single
message does. They are flushed when the batch is answered, when the task waits,
when 64 KiB are held, and at the latest at the end of the loop's iteration. The
first frame of a connection that is otherwise idle is written at once.

A large payload is written in pieces, with the peer's pace, and never joined to
its header. Nothing may come between the pieces, so other frames are held.
"""

from __future__ import annotations

import asyncio
import contextlib
import sys
from collections import deque
from collections.abc import Callable
from typing import Any

from ..protocol.codec import Encoder
from ..protocol.frames import Opcode, Ping, Pong
from ..protocol.octets import apply_mask
from .direct import descriptor, send_now, send_parts
from .turn import Turn

__all__ = ["LARGE", "Outbox"]

#: Payloads above this are written apart from their header.
LARGE = 16384

_PONG = int(Opcode.PONG)

_CORK = 65536
# Parts of so many bytes on average are not joined.
_APART = 2048
# Writes of a large payload, and those of one that is masked, which should find it in
# the cache. Multiples of four, so that the mask lines up.
_PIECE = 1048576
_MASKED_PIECE = 262144

# In these Pythons writelines() of asyncio's plain transports never pauses its
# protocol, however much it holds (CVE-2024-12254).
_PYTHON = sys.version_info[:3]
_LINES_UNBOUNDED = (3, 12) <= _PYTHON < (3, 12, 9) or (3, 13) <= _PYTHON < (3, 13, 2)
# And this joins all that it is given, as asyncio's plain transports do before Python 3.12.
_JOINING = asyncio.WriteTransport.writelines
# From so many bytes on another write costs less than joining them. Its own first bytes
# are joined to what is before it: a packet for a header alone would wake the peer for nothing.
_LONG = 65536
_FIRST = 4096


def _bundled(parts: list[Any]) -> list[Any]:
    """What to write in place of *parts*: no long one is copied, and no short one is alone."""
    bundles: list[Any] = []
    short: list[Any] = []
    for part in parts:
        if len(part) < _LONG:
            short.append(part)
            continue
        view = memoryview(part)
        if short:
            bundles.append(b"".join([*short, view[:_FIRST]]))
            view = view[_FIRST:]
            short = []
        bundles.append(view)
    if short:
        bundles.append(b"".join(short))
    return bundles


class Outbox:
    """
    Args:
        loop: The event loop.
        transport: Where the bytes go.
        waiting: The messages of the inbox; while there are any, frames are held.
        encoder: Makes the frames that answer a Ping.

    Attributes:
        paused: Whether the transport holds more than its high-water mark.
        ended: Whether the connection has ended: senders no longer wait.
        closed: Whether nothing can be written any more.
        held_size: Bytes of the frames that are held.
        written: Bytes handed to the transport.
    """

    __slots__ = (
        "_behind",
        "_descriptor",
        "_encoder",
        "_held",
        "_loop",
        "_mid_frame",
        "_pong",
        "_scheduled",
        "_then",
        "_transport",
        "_turn",
        "_waiters",
        "_waiting",
        "closed",
        "ended",
        "held_size",
        "paused",
        "written",
    )

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        transport: asyncio.Transport,
        waiting: deque[object],
        encoder: Encoder,
    ) -> None:
        self.paused = False
        self.ended = False
        self.closed = False
        self.written = 0
        self._turn: Turn | None = None
        self._loop = loop
        self._transport = transport
        self._descriptor = descriptor(transport)
        self._behind = True  # whether the transport may hold something
        self._waiting = waiting
        self._held: list[bytes] = []
        self.held_size = 0
        self._scheduled = False
        self._mid_frame = False
        self._then: Callable[[], None] | None = None
        self._waiters: list[asyncio.Future[None]] | None = None  # few ever wait
        self._pong: Pong | None = None
        self._encoder = encoder

    def busy(self) -> bool:
        """Whether a sender must wait: for the peer, its end, or another sender's long message."""
        if self.paused or (self._turn is not None and self._turn.locked()):
            return True
        # Asked before every write, not before every frame; and not if the socket took
        # all of what we gave it last: then it had not failed. Somebody may have closed
        # the transport since. It keeps its socket until it has told us that it is
        # gone, and what we send until then arrives before the end.
        return (
            not self.held_size
            and (self._descriptor < 0 or self._behind)
            and self._transport.is_closing()
        )

    def unwritten(self) -> int:
        """Bytes that were written and wait here, or in the transport."""
        return 0 if self.closed else self.held_size + self._transport.get_write_buffer_size()

    @property
    def turn(self) -> Turn:
        """Held by whoever sends a message that takes several writes."""
        if self._turn is None:
            self._turn = Turn(self._loop)
        return self._turn

    # ---------------------------------------------------------------- frames

    def write(self, frame: bytes, checked: bool = False) -> None:
        """
        Write a whole frame, now or with those around it; never waits.

        Args:
            frame: The frame.
            checked: Whether `busy` was asked just now, and so about the transport.
        """
        if self.closed:
            return
        if self.held_size or self._mid_frame or self._waiting:
            self._hold(frame)
            self._release()
        else:
            self.written += len(frame)
            if self._descriptor < 0:  # so in pure Python: a call saved for every message
                self._transport.write(frame)
            else:
                self._put(frame, checked)

    def write_apart(self, head: bytes, payload: bytes) -> None:
        """The same for a frame in two parts, for payloads that are long to copy."""
        if self.closed:
            return
        self._hold(head)
        self._hold(payload)
        self._release()

    def _hold(self, part: bytes) -> None:
        self._held.append(part)
        self.held_size += len(part)
        self.written += len(part)

    def _release(self) -> None:
        """Write what is held, or see to it that somebody does."""
        if self._mid_frame:
            return
        if not self._waiting or self.held_size >= _CORK:
            self.flush()
        elif not self._scheduled:
            self._scheduled = True
            self._loop.call_soon(self._end_of_iteration)

    def write_pongs(self, pings: list[Ping]) -> None:
        """
        Answer the Pings of a read, in one write: a flood of them is not to cost a call each.

        RFC 6455 §5.5.3 allows to answer only the newest Ping: while the peer
        does not read, one Pong waits and not one for each Ping.
        """
        if self.paused or self._mid_frame:
            self._pong = Pong(pings[-1].payload)
        else:
            self.write(b"".join([self._encoder.frame(_PONG, ping.payload) for ping in pings]))

    def _put(self, data: bytes | memoryview, checked: bool = False) -> None:
        """
        Give *data* to the socket, and what it does not take to the transport.

        The transport's own buffer must be empty, or bytes would change places. It
        must not have failed: it would find that again, and complain.
        """
        transport = self._transport
        if self._descriptor >= 0 and (
            not self._behind
            or not (transport.get_write_buffer_size() or (not checked and transport.is_closing()))
        ):
            sent = send_now(self._descriptor, data)
            self._behind = sent < len(data)
            if self._behind:
                transport.write(memoryview(data)[sent:] if sent else data)
        else:
            transport.write(data)

    def _put_parts(self, parts: list[Any]) -> None:
        """The same for parts that are long to join."""
        transport = self._transport
        if self._descriptor >= 0 and (
            not self._behind or not (transport.get_write_buffer_size() or transport.is_closing())
        ):
            sent = send_parts(self._descriptor, parts)
            self._behind = False
            for part in parts:
                size = len(part)
                if sent < size:
                    if self._behind and transport.is_closing():
                        return  # it has found the connection lost at the part before
                    self._behind = True
                    transport.write(memoryview(part)[sent:] if sent else part)
                sent = sent - size if sent > size else 0
        else:
            self._behind = True
            if _LINES_UNBOUNDED or type(transport).writelines is _JOINING:
                for part in _bundled(parts):
                    if transport.is_closing():
                        return
                    transport.write(part)
            else:
                transport.writelines(parts)  # copies nothing, since Python 3.12

    def flush(self) -> None:
        """Write what is held."""
        held = self._held
        if held and not self._mid_frame and not self.closed:
            size = self.held_size
            self._held = []
            self.held_size = 0
            if len(held) == 1:
                self._put(held[0])
            elif size < _APART * len(held):
                self._put(b"".join(held))
            else:
                self._put_parts(held)

    def _end_of_iteration(self) -> None:
        self._scheduled = False
        self.flush()

    # -------------------------------------------------------- large payloads

    async def write_large(self, head: bytes, payload: bytes | memoryview, key: bytes) -> bool:
        """
        Write a frame whose payload goes out in pieces, at the peer's pace.

        The caller holds `turn`. Nothing else is written in between.

        Args:
            head: The frame's header, masking key included.
            payload: The payload.
            key: The masking key, or empty.

        Returns:
            False if the transport was closed before all of it was out.

        Cancellation:
            The rest of the frame is handed to the transport at once: half a
            frame would break the connection.
        """
        self.flush()
        view = memoryview(payload)
        position = min(_MASKED_PIECE if key else _PIECE, len(view))
        self._mid_frame = True
        try:
            # A packet for the header alone would wake the peer for nothing.
            first = view[:position]
            self._put_parts([head, apply_mask(first, key) if key else first])
            while self.paused and position < len(view) and not self._transport.is_closing():
                await self._wait()
            while position < len(view) and not self._transport.is_closing():
                position = self._write_piece(view, position, key)
                while self.paused and position < len(view) and not self._transport.is_closing():
                    await self._wait()
        finally:
            while position < len(view) and not self._transport.is_closing():
                position = self._write_piece(view, position, key)
            self.written += len(head) + len(view)
            self._mid_frame = False
            complete = position >= len(view)
            if not complete:
                self._held, self.held_size = [], 0  # nothing can follow half a frame
            self._release_pong()
            self.flush()
            self._close_now()
        return complete

    def _write_piece(self, view: memoryview, position: int, key: bytes) -> int:
        if key:
            piece = view[position : position + _MASKED_PIECE]
            self._put(apply_mask(piece, key))
        else:
            piece = view[position : position + _PIECE]
            self._put(piece)
        return position + len(piece)

    # ---------------------------------------------------------- flow control

    async def drain(self) -> None:
        """Wait until the transport takes more, or the connection has ended."""
        while (self.paused or self._transport.is_closing()) and not self.ended:
            await self._wait()

    async def _wait(self) -> None:
        waiter: asyncio.Future[None] = self._loop.create_future()
        if self._waiters is None:
            self._waiters = []
        waiters = self._waiters
        waiters.append(waiter)
        try:
            await waiter
        finally:
            if waiter in waiters:
                waiters.remove(waiter)

    def pause(self) -> None:
        """The transport is above its high-water mark."""
        self.paused = True

    def resume(self) -> None:
        """The transport is below its low-water mark: senders go on, in their order."""
        self.paused = False
        if not self._mid_frame:
            self._release_pong()
            self.flush()
        self._wake()

    def send_away(self, error: Callable[[], Exception]) -> None:
        """The connection has ended: whoever waits for their turn gets *error*."""
        if self._turn is not None:
            self._turn.end(error)

    def end(self) -> None:
        """No more messages: blocked senders are woken, to see that."""
        self.ended = True
        self._wake()

    def finish(self) -> None:
        """End our side of TCP once everything is written, where the transport can."""
        self._then = self._write_eof if self._transport.can_write_eof() else None
        self._close_now()

    def _write_eof(self) -> None:
        # asyncio lets the error out when the peer has reset the connection and
        # the transport does not know yet; it will be told.
        with contextlib.suppress(OSError):
            self._transport.write_eof()

    def close(self) -> None:
        """Close the transport once everything is written, a frame in progress included."""
        self._then = self._transport.close
        self._close_now()

    def _close_now(self) -> None:
        if self._then is not None and not self._mid_frame and not self.closed:
            self.flush()
            self._then()

    def lost(self) -> None:
        """The transport is gone."""
        self.ended = self.closed = True
        self._held = []
        self.held_size = 0
        self._pong = None
        self._wake()

    def _release_pong(self) -> None:
        pong, self._pong = self._pong, None
        # RFC 6455 §5.5.1: nothing is sent after a Close.
        if pong is not None and not self.ended:
            self.write(self._encoder.frame(_PONG, pong.payload))

    def _wake(self) -> None:
        waiters, self._waiters = self._waiters, None
        for waiter in waiters or ():
            if not waiter.done():
                waiter.set_result(None)
