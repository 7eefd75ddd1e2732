"""WireLink: a WebSocket over an asyncio transport, after its opening handshake.

Somebody else has read the handshake. Then this class takes the transport over as its
protocol: bytes go from the transport straight into the decoder, with no task and no
buffer in between, and what was read already is decoded first. One mechanism serves
every source that has a transport.

Closing is one path. Whoever begins sets `ending`, once, and a deadline; when the
transport is gone `connection_lost` ends everything that still waits.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any, cast
from weakref import WeakKeyDictionary

from ..errors import ConnectionClosed, ProtocolError
from ..protocol.codec import Decoder, Encoder, Event
from ..protocol.deflate import Agreement
from ..protocol.frames import Opcode, Ping, Pong, clip_reason, serialize_close
from ..protocol.octets import READS_IN_PLACE, ReadBuffer, utf8
from ..types import NOTHING_WAITS, Close, CloseCode, Ending, State, Waiting
from .base import Data, Fragments, Frames, Pieces, Stats, encode
from .blocks import blocks_of
from .closed import Closed
from .inbox import Inbox
from .keepalive import Keepalive
from .options import Options
from .outbox import LARGE, Outbox
from .timers import Timer
from .transports import streams_over

__all__ = ["WireLink"]

# All connections of a loop read into the same memory: nothing runs between a read
# and the decoding of what it brought. So it may be large: with 64 KiB, echoing
# messages of 16 KiB costs a quarter more. (A plain asyncio.Protocol is given bytes of
# its own for each read, of 256 KiB: an mmap and a munmap, 9 to 15 µs.)
_MOST_READ = 262144
_buffers: WeakKeyDictionary[asyncio.AbstractEventLoop, ReadBuffer] = WeakKeyDictionary()

# So many frames of a read may cost time without making a message: each takes about a
# microsecond, five without the compiled part, and nothing else runs meanwhile.
_MOST_FRAMES = 1024

# After a failure we read on and drop, so that TCP does not reset the connection
# and take our Close with it, but not for longer than this.
_LINGER = 0.9

# A task that only sends would keep the loop to itself while the peer takes it all, or
# while it compresses well: after so many messages, or fragments, it lets the others, and
# what the peer sends, have their turn. A large one counts for each 16 KiB of it.
_BURST = 64

_NO_MORE = object()  # behind the last fragment of a message

# Payloads below this are joined to their header: a copy is cheaper than one more part.
_JOINED = 2048

_TEXT = int(Opcode.TEXT)
_BINARY = int(Opcode.BINARY)
_CLOSE = int(Opcode.CLOSE)
_PING = int(Opcode.PING)
_CONTINUATION = int(Opcode.CONTINUATION)


class WireLink:
    """
    An open WebSocket on a transport. Make it with `begin` or `take_over`.

    Attributes:
        state: OPEN, CLOSING or CLOSED.
        ending: How it ended; None exactly while it is OPEN.
        inbox: What has arrived.
        heard: See `Carrier`.
        task: None: the transport calls.
    """

    __slots__ = (
        "_buffer",
        "_burst",
        "_bytes_in",
        "_closed",
        "_deadline",
        "_decoder",
        "_direct",
        "_discard",
        "_encoder",
        "_events",
        "_fragment_wait",
        "_keepalive",
        "_loop",
        "_memory",
        "_messages_out",
        "_options",
        "_outbox",
        "_peername",
        "_read_size",
        "_reads_in_place",
        "_sends",
        "_server",
        "_shares",
        "_sockname",
        "_streams",
        "_streams_protocol",
        "_transport",
        "ending",
        "heard",
        "inbox",
        "state",
        "task",
    )

    def __init__(
        self,
        transport: asyncio.Transport,
        *,
        server: bool,
        options: Options,
        agreement: Agreement | None,
    ) -> None:
        loop = asyncio.get_running_loop()
        self.state = State.OPEN
        self.ending: Ending | None = None
        self.inbox = Inbox(loop, options.marks, self)
        self.task: asyncio.Task[None] | None = None
        self._loop = loop
        self._transport = transport
        # Those that carried the opening handshake; or made when somebody asks for them.
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None
        self._streams_protocol: asyncio.StreamReaderProtocol | None = None
        # A TLS transport that is closed does not know them any more.
        self._peername = transport.get_extra_info("peername")
        self._sockname = transport.get_extra_info("sockname")
        self._server = server
        self._options = options
        self._decoder = Decoder(server, options.max_message_size, agreement)
        self._encoder = Encoder(server, agreement)
        self._shares = server and agreement is None  # what is made once for many is its frame
        self._outbox = Outbox(
            loop,
            transport,
            self.inbox.messages,  # type: ignore[arg-type]
            self._encoder,
        )
        self.heard = False
        self._keepalive = Keepalive(
            loop,
            options.ping_interval,
            options.ping_timeout,
            self,
        )
        self._events: list[Event] = []
        self._discard = False  # after our Close only the peer's is of interest
        # A proactor reads while other things happen, so it has memory of its own.
        shared = not isinstance(loop, _PROACTOR)
        self._memory = _buffer_of(loop) if shared else ReadBuffer(_MOST_READ)
        self._reads_in_place = shared and READS_IN_PLACE
        self._direct = False  # the present read goes to the payload's own place
        self._limit_reads(options.receive_bytes)
        self._bytes_in = 0
        self._messages_out = 0
        self._burst = 0  # messages sent since we last heard something, or waited
        self._deadline: Timer | None = None
        self._closed = Closed(loop)
        self._fragment_wait: asyncio.Timeout | None = None
        # What waits in `send`: sizes, and since when. Made when first needed.
        self._sends: list[tuple[int, float]] | None = None

    @classmethod
    async def take_over(
        cls,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        *,
        server: bool,
        options: Options,
        agreement: Agreement | None,
        early: bytes = b"",
    ) -> WireLink:
        """
        Take a transport over from its streams, after the opening handshake.

        What the streams had read already is delivered, and so is an end of the
        stream that came right behind it.

        Args:
            reader: The stream that was read so far.
            writer: Its other half.
            server: Whether we are the server.
            options: How the connection behaves.
            agreement: What was agreed on compression, or None.
            early: Bytes behind the handshake that were read from *reader*.
        """
        transport = cast(asyncio.Transport, writer.transport)
        link = WireProtocol(transport, server=server, options=options, agreement=agreement)
        await link._begin_behind(reader, writer, early)
        return link

    async def _begin_behind(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, early: bytes
    ) -> None:
        self._streams = reader, writer
        self._streams_protocol = self._transport.get_protocol()  # type: ignore[assignment]
        # There is no public way to ask a StreamReader with bytes in its buffer
        # whether the end of the stream has come, and it is told only once.
        over = bool(getattr(reader, "_eof", False))
        error = reader.exception()
        if error is None:
            if not over:
                reader.feed_eof()
            early += await reader.read()  # does not wait: the reader is at its end
        self._begin(early, over, error)

    @classmethod
    def begin(
        cls,
        transport: asyncio.Transport,
        *,
        server: bool,
        options: Options,
        agreement: Agreement | None,
        early: bytes = b"",
        over: bool = False,
        error: Exception | None = None,
    ) -> WireLink:
        """
        Take over a transport that has no streams.

        Args:
            transport: What carried the opening handshake.
            server: Whether we are the server.
            options: How the connection behaves.
            agreement: What was agreed on compression, or None.
            early: Bytes behind the handshake that have been read.
            over: Whether the peer's side of TCP has ended.
            error: What broke the transport meanwhile.
        """
        link = WireProtocol(transport, server=server, options=options, agreement=agreement)
        link._begin(early, over, error)
        return link

    def _begin(self, early: bytes, over: bool, error: Exception | None) -> None:
        transport = self._transport
        transport.set_protocol(self)  # type: ignore[arg-type]
        transport.set_write_buffer_limits(high=self._options.write_limit)
        # Asked before the bytes are read: a Close among them closes the transport,
        # which then says by itself when it is gone.
        lost = error is not None or transport.is_closing()
        self._keepalive.start()
        if early:
            self.received(early)
        if lost:
            self.connection_lost(error)
        elif over:
            self.eof_received()
            transport.close()
        elif not self.inbox.paused and not transport.is_reading():
            transport.resume_reading()

    # ------------------------------------------------------- what it can tell

    @property
    def stats(self) -> Stats:
        """Counters, as they stand."""
        return Stats(
            *self.count(),
            messages_waiting=len(self.inbox.messages),
            bytes_waiting=self._outbox.unwritten(),
            sends_waiting=0 if self._sends is None else len(self._sends),
            pings_sent=self._keepalive.pings,
            pongs_received=self._keepalive.pongs,
            latency=self._keepalive.latency,
        )

    def count(self) -> tuple[int, int, int, int]:
        """Messages in and out, bytes in and out."""
        inbox = self.inbox
        return (
            inbox.taken + len(inbox.messages),
            self._messages_out,
            self._bytes_in,
            self._outbox.written,
        )

    @property
    def latency(self) -> float | None:
        """Seconds of the last round trip, or None."""
        return self._keepalive.latency

    @property
    def streams(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """The streams that carried the opening handshake, or could have."""
        if self._streams is None:
            self._streams, protocol = streams_over(self._transport)
            self._streams[0].feed_eof()
            self._streams_protocol = protocol
            if self._outbox.paused:
                protocol.pause_writing()
            if self.state is State.CLOSED:
                protocol.connection_lost(None)
        return self._streams

    def get_extra_info(self, name: str) -> Any:
        """What the transport knows: ``peername``, ``sockname``, ``ssl_object`` ..."""
        if name == "peername":
            return self._peername
        if name == "sockname":
            return self._sockname
        return self._transport.get_extra_info(name)

    # --------------------------------------------------------------- bytes in

    def get_buffer(self, sizehint: int) -> memoryview:
        """Where the transport reads to next (asyncio.BufferedProtocol)."""
        room = self._decoder.room() if self._reads_in_place else None
        self._direct = room is not None
        return self._buffer if room is None else room

    def buffer_updated(self, nbytes: int) -> None:
        """The transport has read *nbytes* bytes."""
        self.heard = True
        self._bytes_in += nbytes
        self._burst = 0
        decoder, inbox = self._decoder, self.inbox
        decoder.size = 0
        if self._direct:
            decoder.filled(nbytes, inbox.messages)
        elif self._discard:
            # It appends none, so no mark holds it up.
            decoder.feed_buffer(self._memory, nbytes, inbox.messages, self._events)
        else:
            decoder.frames = 0
            decoder.feed_buffer(
                self._memory, nbytes, inbox.messages, self._events, inbox.room, inbox.most
            )
            if decoder.frames > _MOST_FRAMES:
                self._limit_reads(nbytes * _MOST_FRAMES // decoder.frames)
            elif nbytes == self._read_size:
                self._limit_reads(nbytes * 4)
        if decoder.size:
            inbox.arrived(decoder.size)
        if self._events or decoder.failure is not None:
            self._decoded()
        inbox.wake(True)
        if decoder.pending and not inbox.paused:
            self._decode(b"")  # what had no room has some now

    def received(self, data: bytes) -> None:
        """*data* was read before we took the transport over."""
        self.heard = True
        self._bytes_in += len(data)
        self._decode(data)

    def _decode(self, data: bytes) -> None:
        decoder, inbox = self._decoder, self.inbox
        decoder.size = 0
        if self._discard:
            decoder.feed(data, inbox.messages, self._events)
        else:
            decoder.feed(data, inbox.messages, self._events, inbox.room, inbox.most)
        if decoder.size:
            inbox.arrived(decoder.size)
        if self._events or decoder.failure is not None:
            self._decoded()
        inbox.wake()

    def _decoded(self) -> None:
        """See to what the decoder has found."""
        decoder, events = self._decoder, self._events
        if events:
            self._events = []
            self._control(events)
        if decoder.failure is not None:
            if self.ending is None:
                self._fail(decoder.failure)
            elif self.state is State.CLOSING:
                # Its Close, the answer to ours, is not to be read any more.
                self._arm(_LINGER)
                self._outbox.finish()

    def _control(self, events: list[Event]) -> None:
        pings: list[Ping] = []
        for event in events:
            if isinstance(event, Ping):
                pings.append(event)
            elif isinstance(event, Pong):
                self._keepalive.pong(event.payload)
            else:
                self._answer(pings)
                self._close_received(event)
                return  # nothing is read behind a Close
        self._answer(pings)

    def _answer(self, pings: list[Ping]) -> None:
        # RFC 6455 §5.5.1: nothing is sent after a Close.
        if pings and self.ending is None:
            self._outbox.write_pongs(pings)

    def _limit_reads(self, size: int) -> None:
        """Let the next reads be of *size* bytes."""
        self._read_size = min(size, _MOST_READ)
        self._buffer = self._memory.view(self._read_size)

    def pause_reading(self) -> None:
        """The inbox is full."""
        self._keepalive.pause()
        if not self._transport.is_closing():
            self._transport.pause_reading()

    def resume_reading(self) -> None:
        """The inbox has room."""
        if self._decoder.pending:
            self._decode(b"")
            if self.inbox.paused:
                return
        self._read_on()
        if self.ending is not None:
            self.inbox.end()
            self._part()

    def _read_on(self) -> None:
        self._keepalive.resume()
        if not self._transport.is_closing() and not self._transport.is_reading():
            self._transport.resume_reading()

    # -------------------------------------------------------------- bytes out

    def send_nowait(self, data: Data, compress: bool | None) -> bool:
        """Send a short message if nobody has to wait for it; False if not."""
        if isinstance(data, str):
            opcode = _TEXT
            payload = utf8(data)
        elif isinstance(data, bytes):
            opcode = _BINARY
            payload = data
        else:
            return False
        if self.ending is not None:
            raise ConnectionClosed(self.ending)
        size = len(payload)
        if size > LARGE or self._burst >= _BURST or self._outbox.busy():
            return False
        if self._encoder.deflates and self._encoder.wants_deflate(size, compress):
            payload = self._encoder.deflate(payload, True)
            self._outbox.write(self._encoder.frame(opcode, payload, True, True), True)
        elif size < _JOINED or self._encoder.masks:
            self._outbox.write(self._encoder.message(opcode, payload), True)
        else:
            self._outbox.write_apart(self._encoder.head(opcode, size)[0], payload)
        self._burst += 1
        self._messages_out += 1
        return True

    async def send(self, data: Data, compress: bool | None) -> None:
        """
        Send a message, waiting for the peer if it is behind.

        Cancellation:
            While it waits nothing has been sent and nothing will be. Once the
            first bytes of a large message are out, all of it goes out.
        """
        opcode, payload = encode(data)
        waits = self._send_waits(len(payload))
        try:
            async with self._outbox.turn:
                await self._let_others(len(payload))
                await self._outbox.drain()
                self.check_open()
                await self._write(opcode, payload, compress)
                self._messages_out += 1
        finally:
            self._sends.remove(waits)  # type: ignore[union-attr]

    async def _let_others(self, size: int) -> None:
        """Let the loop have a turn now and then, before *size* bytes more; `turn` is held."""
        if self._burst >= _BURST:
            self._burst = 0
            await asyncio.sleep(0)
        self._burst += 1 + size // LARGE

    def _send_waits(self, size: int) -> tuple[int, float]:
        """A message of *size* bytes may have to wait; what to take out of `_sends` then."""
        if self._sends is None:
            self._sends = []
        waits = (size, self._loop.time())
        self._sends.append(waits)
        return waits

    async def _write(self, opcode: int, payload: bytes, compress: bool | None) -> None:
        compressed = self._encoder.wants_deflate(len(payload), compress)
        if compressed:
            payload = self._encoder.deflate(payload, True)
        await self._write_frame(opcode, payload, True, compressed)

    async def _write_frame(
        self, opcode: int, payload: bytes, final: bool, compressed: bool
    ) -> None:
        if len(payload) <= LARGE:
            self._outbox.write(self._encoder.frame(opcode, payload, final, compressed))
        else:
            head, key = self._encoder.head(opcode, len(payload), final, compressed)
            if not await self._outbox.write_large(head, payload, key):
                await self._outbox.drain()
                self.check_open()

    async def send_fragments(self, fragments: Fragments, compress: bool | None) -> None:
        """
        Send one message in fragments as they come (RFC 6455 §5.4).

        Cancellation:
            A message that has begun can be neither completed nor taken back, so
            the connection is closed with 1011. Before its first fragment
            nothing is sent. What gives the fragments is closed, see `Pieces`.
        """
        async with Pieces(fragments, self._options.close_timeout) as pieces, self._outbox.turn:
            kind = None  # opcode of the whole message
            compressed = False
            opcode = _CONTINUATION
            try:
                while (piece := await self._next_piece(pieces)) is not _NO_MORE:
                    piece_kind, payload = encode(piece)
                    if kind is None:
                        kind = opcode = piece_kind
                        compressed = compress is not False and self._encoder.wants_deflate(0, True)
                    elif piece_kind != kind:
                        raise TypeError("the fragments of a message are all text or all binary")
                    await self._let_others(len(payload))
                    waits = self._send_waits(len(payload))
                    try:
                        await self._outbox.drain()
                        self.check_open()
                        if compressed:
                            payload = self._encoder.deflate(payload, False)
                        flag = compressed and opcode != _CONTINUATION
                        first, opcode = opcode, _CONTINUATION
                        await self._write_frame(first, payload, False, flag)
                    finally:
                        self._sends.remove(waits)  # type: ignore[union-attr]
                if kind is None:
                    return
                self.check_open()
                last = self._encoder.deflate(b"", True) if compressed else b""
                self._outbox.write(self._encoder.frame(_CONTINUATION, last))
                self._messages_out += 1
            except BaseException:
                if kind is not None and opcode == _CONTINUATION and self.ending is None:
                    close = Close(CloseCode.INTERNAL_ERROR, "fragmented message abandoned")
                    self._close(close, "a message in fragments was not completed")
                raise

    async def _next_piece(self, pieces: Pieces) -> object:
        """The application's next fragment, or `_NO_MORE`; our end ends the wait."""
        self.check_open()
        try:
            async with asyncio.timeout(None) as self._fragment_wait:
                return await anext(pieces, _NO_MORE)
        except TimeoutError:
            self.check_open()
            raise
        finally:
            self._fragment_wait = None

    def write_frames(self, frames: Frames) -> bool:
        """Write a message made once for many; False if the peer is behind."""
        if self.ending is not None:
            raise ConnectionClosed(self.ending)
        if self._outbox.busy():
            return False
        if self._shares:
            self._outbox.write(frames.frame, True)
            self._messages_out += 1
            return True
        size = len(frames.payload)
        if self._encoder.wants_deflate(size, None):
            if self._encoder.masks:
                payload = self._encoder.deflate(frames.payload, True)
                frame = self._encoder.frame(frames.opcode, payload, True, True)
            else:
                frame = self._encoder.shared(frames.opcode, frames.payload, frames.compressed)
            self._outbox.write(frame, True)
        elif self._encoder.masks:
            self._outbox.write(self._encoder.message(frames.opcode, frames.payload), True)
        else:
            self._outbox.write(frames.frame, True)
        self._messages_out += 1
        return True

    async def writable(self) -> None:
        """Wait until a message can be written, or the link has ended."""
        async with self._outbox.turn:
            await self._outbox.drain()

    def wait(self, timeout: float | None) -> Awaitable[bool | None]:
        """Write the replies that wait for company, then wait; see `Inbox.wait`."""
        if self._outbox.held_size:
            self._outbox.flush()
        return self.inbox.wait(timeout)

    async def ping(self, timeout: float | None) -> float:
        """Send a Ping; seconds until its Pong."""
        self.check_open()
        self._outbox.flush()
        return await self._keepalive.ping(timeout)

    def begin_stream(self) -> None:
        """Give out the next message in pieces."""
        decoder = self._decoder
        decoder.size = 0
        decoder.stream(self.inbox.messages)
        if decoder.size:
            self.inbox.arrived(decoder.size)
            self.inbox.wake()

    def end_stream(self) -> None:
        """Nobody wants the rest of the message that is read in pieces."""
        self._decoder.stop_stream()
        self.inbox.drop_fragments()

    def check_open(self) -> None:
        """Raise if it has ended."""
        if self.ending is not None:
            raise ConnectionClosed(self.ending)

    # ---------------------------------------------------------------- closing

    def begin_close(self, close: Close) -> None:
        """Send a Close and wait no longer than ``close_timeout`` for the rest."""
        if self.state is State.OPEN:
            self._close(close, "")

    def _close(self, close: Close, why: str, cause: BaseException | None = None) -> None:
        """RFC 6455 §7.1.2: start the closing handshake."""
        self._end(Ending("us", sent=close, why=why, cause=cause))
        self._send_close(close)
        self._arm(self._options.close_timeout)
        # A full inbox must not keep us from the peer's Close.
        self._discard = True
        self._decoder.ignore_messages()
        self._decode(b"")
        self._read_on()

    def _fail(self, failure: ProtocolError) -> None:
        """
        RFC 6455 §7.1.7: send a Close, then drop the connection.

        Our side of TCP ends right behind the Close, where that is possible; the
        other is read and dropped for a moment.
        """
        close = Close(failure.close_code, clip_reason(failure.reason))
        self._end(Ending("us", sent=close, why=failure.reason, cause=failure))
        self._decoder.stop()
        self._send_close(close)
        self._arm(min(_LINGER, self._options.close_timeout))
        self._outbox.finish()
        self._read_on()

    def _close_received(self, close: Close) -> None:
        """RFC 6455 §7.1.5, §7.1.6: the peer's Close, first or in answer to ours."""
        if self.ending is None:
            # §5.5.1: "the endpoint typically echos the status code it received".
            answer = Close(close.code) if close.reason else close
            self._end(Ending("peer", answer, close))
            self._send_close(answer)
            self._arm(self._options.close_timeout)
        elif self.ending.by == "lost":
            # It was behind messages that waited for room in the inbox, while
            # the peer had gone already.
            self.ending.found(close)
        else:
            self.ending.received = close
        # §7.1.1: the server closes TCP first, the client waits for it.
        if self._server:
            self._outbox.close()

    def _send_close(self, close: Close) -> None:
        self._outbox.write(self._encoder.frame(_CLOSE, serialize_close(close)))
        self._outbox.flush()
        self._outbox.end()

    def send_ping(self, payload: bytes) -> None:
        """Send a Ping."""
        self._outbox.write(self._encoder.frame(_PING, payload))

    def unwritten(self) -> int:
        """Bytes that wait for room in the kernel."""
        return self._transport.get_write_buffer_size()

    def ping_failed(self, why: str) -> None:
        """The peer does not answer, so nobody waits for its Close either."""
        if self.ending is None:
            close = Close(CloseCode.INTERNAL_ERROR, clip_reason(why))
            self._end(Ending("us", sent=close, why=why))
            self._send_close(close)
            self._transport.abort()

    def _end(self, ending: Ending) -> None:
        """The one place where a connection stops to be open; everyone who waits is woken."""
        ending.waiting = self._waiting(ending)
        self.ending = ending
        self.state = State.CLOSING
        error = partial(ConnectionClosed, ending)
        self._keepalive.stop(error)
        self._outbox.send_away(error)
        if self._fragment_wait is not None:
            self._fragment_wait.reschedule(self._loop.time())
        # Messages that wait for room in the inbox were here before the end.
        if ending.by == "us" or not self._decoder.pending:
            self.inbox.end()
        if ending.by == "lost":
            self._outbox.end()

    def _waiting(self, ending: Ending) -> Waiting:
        """What waits now, before anybody is woken."""
        # A task in receive() has what came with a Close, but did not run yet.
        messages = 0 if self.inbox.waiter.reader is not None else len(self.inbox.messages)
        sends = self._sends or []
        pings, ping_seconds = self._keepalive.unanswered()
        unwritten = self.unwritten()
        now = self._loop.time() if sends or not ending.normal else 0.0
        blocked = 0.0 if ending.normal else blocks_of(self._loop).recent(now)
        if not (messages or sends or unwritten or pings or blocked):
            return NOTHING_WAITS
        return Waiting(
            messages=messages,
            sends=len(sends),
            send_bytes=sum([size for size, _ in sends]),
            send_seconds=now - sends[0][1] if sends else 0.0,
            transport_bytes=unwritten,
            pings=pings,
            ping_seconds=ping_seconds,
            blocked=blocked,
        )

    def _arm(self, delay: float) -> None:
        """Drop the connection in *delay* seconds, or sooner if that was settled before."""
        if self._deadline is not None:
            if self._deadline.when() <= self._loop.time() + delay:
                return
            self._deadline.cancel()
        self._deadline = self._keepalive.timers.call_later(delay, self._transport.abort)

    async def wait_closed(self) -> None:
        """Wait until the transport is gone."""
        await self._closed.wait()

    def abort(self) -> None:
        """Drop the connection without a closing handshake."""
        if self.ending is None:
            self._end(Ending("lost", why="abort() was called on our side"))
        # asyncio's transport does not know that it is gone if it had bytes to write
        # when it was closed; to abort it then fails.
        if self.state is not State.CLOSED:
            self._transport.abort()

    def on_closed(self, callback: Callable[[], None]) -> None:
        """Call *callback* once, when the transport is gone; now, if it is."""
        self._closed.call(callback)

    # -------------------------------------------- what the transport tells us

    def eof_received(self) -> None:
        """The peer's side of TCP has ended; asyncio closes ours in turn."""
        if self._streams_protocol is not None:
            self._streams_protocol.eof_received()
        if self.ending is None:
            self._end(Ending("lost", why="the peer closed TCP without a Close frame"))
            self._arm(self._options.close_timeout)  # it may not read what we have written

    def connection_lost(self, exc: Exception | None) -> None:
        """The transport is gone."""
        if self.state is State.CLOSED:
            return
        if self.ending is None:
            why = str(exc) or type(exc).__name__ if exc else "the transport was closed"
            self._end(Ending("lost", why=why, cause=exc))
        self.state = State.CLOSED
        if self._deadline is not None:
            self._deadline.cancel()
        self._outbox.lost()
        # A TLS transport does not know by itself that it is closed; asyncio's
        # StreamWriter would complain that nobody closed it.
        self._transport.close()
        if self._streams_protocol is not None:
            # Resolves wsock.wait_closed() and wakes readers of rsock.
            self._streams_protocol.connection_lost(exc)
            # asyncio would report an exception that nobody asks the streams for.
            closed = getattr(self._streams_protocol, "_closed", None)
            if closed is not None and closed.done() and not closed.cancelled():
                closed.exception()
        self._keepalive.part()
        self._part()
        self._closed.set()

    def _part(self) -> None:
        """Let the inbox go, unless it asks us for more: then what is left can be freed at once."""
        if self.state is State.CLOSED and self.inbox.ended:
            self.inbox.part()

    def pause_writing(self) -> None:
        """The transport holds more than its high-water mark."""
        self._outbox.pause()
        if self._streams_protocol is not None:
            self._streams_protocol.pause_writing()

    def resume_writing(self) -> None:
        """The transport holds less than its low-water mark."""
        # The peer reads. Our Ping may be behind a long message that it is busy with.
        self.heard = True
        # First: what the outbox writes now may pause us again, inside this call.
        if self._streams_protocol is not None:
            self._streams_protocol.resume_writing()
        self._outbox.resume()


class WireProtocol(WireLink, asyncio.BufferedProtocol):
    """A `WireLink` as asyncio knows it, which looks for its own class."""

    __slots__ = ()


_PROACTOR: tuple[type, ...] = tuple(filter(None, [getattr(asyncio, "ProactorEventLoop", None)]))


def _buffer_of(loop: asyncio.AbstractEventLoop) -> ReadBuffer:
    buffer = _buffers.get(loop)
    if buffer is None:
        buffer = _buffers[loop] = ReadBuffer(_MOST_READ)
    return buffer
