"""AioBase: the connection that a person holds, whatever carries it."""

from __future__ import annotations

import asyncio
import functools
import inspect
import logging
import sys
import time
from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable, Iterable
from contextvars import ContextVar
from types import TracebackType
from typing import Any, Literal, TypeVar, cast

from .errors import ConnectionClosed, UnexpectedMessage, WebSocketRuntimeError
from .link.base import Data, Link, Stats, send_later
from .link.options import UNSET, Options, Unset
from .link.talk import SHORTCUTS, Messages, Talk
from .link.unopened import Unopened
from .payloads import Dialect, dump_json, dump_typed, load_json, load_typed
from .protocol.frames import Fragment, check_close
from .types import BinaryMessage, Close, CloseCode, HandshakeRequest, Headers, State, TextMessage

__all__ = [
    "CLEANING",
    "UNSET",
    "AioBase",
    "Cleanup",
    "Unset",
    "check_mode",
    "code_behind",
    "run_cleanups",
]


#: Whether this is a cleanup, or something that it called.
CLEANING: ContextVar[bool] = ContextVar("simplews.cleaning", default=False)

_NO_HEADERS = Headers()
_NORMAL = Close(CloseCode.NORMAL_CLOSURE)

Cleanup = Callable[[], Awaitable[object] | None]
M = TypeVar("M", str, bytes)


class AioBase(Talk):
    """
    An open WebSocket; `AioServer` and `AioClient` are its two ends.

    It can be used as an async context manager, which closes it: with 1000 when
    the block ends, with 1011 when it raises.

    Attributes:
        subprotocol: The agreed subprotocol, or None.
        request: What the client asked for.
        headers: Server: the request's header fields. Client: the response's.
        receive_bytes: Bytes of the first reads; they grow while they are filled.
        ping_interval: Seconds between pings, or None.
        max_message_size: Bytes a message may have, after inflating, or None.
    """

    subprotocol: str | None
    request: HandshakeRequest
    headers: Headers

    _unopened: Any = Unopened("AioBase")  # one for all of a class
    _opened: float | None = None  # when, by time.monotonic()
    _age: float | None = None  # seconds it was open, at its end

    def __init_subclass__(cls, **more: Any) -> None:
        super().__init_subclass__(**more)
        cls._unopened = Unopened(cls.__name__)

    def __init__(self, options: Options) -> None:
        self._options = options
        self.receive_bytes: int = options.receive_bytes
        self.ping_interval: float | None = options.ping_interval
        self.max_message_size: int | None = options.max_message_size
        self.subprotocol = None
        self.headers = _NO_HEADERS
        self._cleanups: list[Cleanup] = []
        self._cleaning: asyncio.Task[None] | None = None
        self._stream: object = None  # stands for the message that is read in pieces
        self._carry(self._unopened)

    def _attach(self, link: Link, side: str) -> None:
        """The opening handshake is done: *link* carries the messages from here on."""
        self._carry(link)
        self._opened = time.monotonic()
        link.on_closed(functools.partial(self._link_closed, side))

    def _link_closed(self, side: str) -> None:
        self._log_life(side)
        self._closed()

    def _log_life(self, side: str) -> None:
        """One INFO line for the whole connection: how long, how much, who ended it and why."""
        assert self._opened is not None
        self._age = time.monotonic() - self._opened
        logger = _logger_of(self._options.logger, side)
        if logger.isEnabledFor(logging.INFO):
            stats = self.stats
            logger.info(
                "%s %s: open %.3f s, %d messages in, %d out: %s",
                self.remote_address,
                self.request.target,
                stats.age,
                stats.messages_in,
                stats.messages_out,
                self.explain(),
            )

    # --------------------------------------------------------------- messages

    async def send(
        self,
        data: Data | Iterable[Data] | AsyncIterable[Data],
        *,
        compress: bool | None = None,
    ) -> None:
        """
        Send a message.

        Messages of one task keep their order; those of several never mix. When
        the peer does not read, it waits until the peer goes on or is gone.

        Args:
            data: ``str`` becomes a text message; ``bytes``, ``bytearray`` or
                ``memoryview`` a binary one; an iterable or async iterable of
                either one message in fragments, each sent as it comes. A generator
                that it has begun to ask is closed when it fails or is cancelled,
                for which it has ``close_timeout``.
            compress: False sends this message as it is, True compresses it
                whatever its size, None leaves that to the threshold. Without an
                agreement on compression nothing is compressed.

        Raises:
            TypeError: *data* is something else; nothing was sent.
            ConnectionClosed: The connection has ended; the message may not have
                arrived.

        Cancellation:
            While it waits for its turn nothing has been sent, and nothing will
            be. A message whose first bytes are out is completed. A message in
            fragments cannot be completed: the connection is closed with 1011.

        Spec: RFC 6455 §5.4, §5.6, §6.1.
        """
        link = self._link
        message: Any = data
        if not link.send_nowait(message, compress):
            await send_later(link, message, compress)

    async def receive(self, timeout: float | Unset | None = UNSET) -> str | bytes | None:
        """
        Wait for the next message.

        Messages that arrived before the connection ended are still returned;
        only then does the end surface. Fragments are joined. Replies that were
        held back to go out together are sent before it waits.

        Args:
            timeout: Seconds to wait. None waits for ever, 0 polls; left out,
                it is the connection's ``receive_timeout``.

        Returns:
            ``str`` for a text message, ``bytes`` for a binary one, None if
            *timeout* passed.

        Raises:
            ConnectionClosed: The connection has ended, and nothing is left to read.
            WebSocketRuntimeError: Another task is waiting in it.

        Cancellation:
            Safe. No message is lost.

        Spec: RFC 6455 §5.4, §6.2.
        """
        inbox = self._inbox
        while True:
            if self._messages:
                if self._stream is None:
                    return inbox.get()  # type: ignore[return-value]
                inbox.check_single_reader()
                self._leave_stream()
                continue
            if inbox.ended:
                raise self._closed_error()
            limit: Any = self._options.receive_timeout if timeout is UNSET else timeout
            if await self._wait(limit):
                return None

    async def receive_stream(self) -> AsyncIterator[str | bytes]:
        """
        Read the next message in pieces, as they arrive.

        It holds one piece at a time, so a message may be larger than memory;
        ``max_message_size`` counts all the same. Leaving the loop early drops
        the rest of the message.

        Yields:
            Pieces of ``str`` or ``bytes``, never cut inside a character.

        Raises:
            ConnectionClosed: The connection ended before the message did.
        """
        self._inbox.check_single_reader()
        if self._stream is not None:
            self._leave_stream()
        if self._messages:
            yield cast("str | bytes", self._inbox.get())
            return
        self._link.begin_stream()
        self._stream = stream = object()
        complete = False
        try:
            while not complete:
                if self._stream is not stream:
                    raise WebSocketRuntimeError(
                        "receive() was called before this message had been read to its end, "
                        "which drops the rest of it"
                    )
                piece = await self._piece()
                complete = piece.final
                if complete:
                    self._stream = None
                if piece.data or complete:
                    yield piece.data
        finally:
            if self._stream is stream:
                self._leave_stream()

    async def _piece(self) -> Fragment:
        while not self._messages:
            if self._inbox.ended:
                raise self._closed_error()
            await self._wait(None)
        return cast(Fragment, self._inbox.get())

    def _leave_stream(self) -> None:
        """The loop over a stream was left early, perhaps without closing its generator."""
        self._stream = None
        self._link.end_stream()

    def __aiter__(self) -> AsyncIterator[TextMessage | BinaryMessage]:
        """
        Messages until the connection ends.

        A normal end (1000, 1001, or a Close without a code) ends the loop;
        anything else raises `ConnectionClosed`, as `exception` tells too.
        """
        if Messages is not None and getattr(self.receive, "__func__", None) is _RECEIVE:
            return Messages(self)
        return self._iterate()

    async def _iterate(self) -> AsyncIterator[TextMessage | BinaryMessage]:
        while True:
            try:
                message = await self.receive(None)
            except ConnectionClosed as exc:
                if exc.ending.normal:
                    return
                raise
            if isinstance(message, str):
                yield TextMessage(message)
            elif message is not None:
                yield BinaryMessage(message)

    # ------------------------------------------------------------ typed forms

    async def send_text(self, data: str) -> None:
        """Send a text message; TypeError if *data* is not ``str``. See `send`."""
        if not isinstance(data, str):
            raise TypeError(f"send_text() takes str, not {type(data).__name__}; use send()")
        await self.send(data)

    async def send_bytes(self, data: bytes | bytearray | memoryview) -> None:
        """Send a binary message; TypeError if *data* is not bytes-like. See `send`."""
        if not isinstance(data, (bytes, bytearray, memoryview)):
            raise TypeError(f"send_bytes() takes bytes, not {type(data).__name__}; use send()")
        await self.send(data)

    async def send_json(self, data: Any, mode: Literal["text", "binary"] = "text") -> None:
        """
        Send *data* as JSON, compact, in a text message (or a binary one).

        Raises:
            TypeError: *data* cannot be encoded; nothing was sent.
            WebSocketRuntimeError: There is no such mode.
        """
        check_mode(mode)
        text = dump_json(data)
        await self.send(text if mode == "text" else text.encode("utf-8"))

    async def send_typed(self, data: Any, dialect: Dialect = "TYTX") -> None:
        """
        Send *data* as typed text: JSON in which a Decimal, a date, a datetime or a time survives.

        Args:
            data: Usually a dictionary.
            dialect: ``"TYTX"``, or ``"JS"`` for peers that use genro-tytx.

        Raises:
            TypeError: *data* cannot be encoded; nothing was sent.
            ValueError: A string of it would be read as a typed value, or there is
                no such dialect.
            ImportError: It is ``"JS"``, and genro-tytx is not installed.
        """
        await self.send(dump_typed(data, dialect))

    async def receive_text(self, timeout: float | Unset | None = UNSET) -> str:
        """
        Wait for a text message.

        Raises:
            UnexpectedMessage: It is binary; the error, a TypeError, has it as ``.message``.
            TimeoutError: *timeout* seconds passed.
            ConnectionClosed: See `receive`.
        """
        return await self._receive_kind(str, timeout)

    async def receive_binary(self, timeout: float | Unset | None = UNSET) -> bytes:
        """
        Wait for a binary message; the counterpart of `receive_text`.

        It is not called ``receive_bytes`` because that is the size of the first reads.
        """
        return await self._receive_kind(bytes, timeout)

    async def receive_json(
        self, timeout: float | Unset | None = UNSET, *, mode: Literal["text", "binary"] = "text"
    ) -> Any:
        """
        Wait for a message and decode it as JSON.

        Raises:
            ValueError: It is not JSON.
            UnexpectedMessage, TimeoutError, ConnectionClosed: See `receive_text`.
        """
        check_mode(mode)
        if mode == "text":
            return load_json(await self.receive_text(timeout))
        return load_json(await self.receive_binary(timeout))

    async def receive_typed(self, timeout: float | Unset | None = UNSET) -> Any:
        """
        Wait for a text message and decode it as typed text.

        Behind ``::TYTX`` or ``::JS``, strings such as ``"100.50::D"`` become what
        they were; without a marker it is plain JSON.

        Raises:
            ValueError: It is not JSON, or a typed string is malformed.
            ImportError: It is ``::JS``, and genro-tytx is not installed.
            UnexpectedMessage, TimeoutError, ConnectionClosed: See `receive_text`.
        """
        return load_typed(await self.receive_text(timeout))

    async def _receive_kind(self, kind: type[M], timeout: float | Unset | None) -> M:
        message = await self.receive(timeout)
        if message is None:
            raise TimeoutError("no message arrived within the timeout")
        if not isinstance(message, kind):
            raise UnexpectedMessage(message)
        return message

    async def iter_text(self) -> AsyncIterator[str]:
        """Text messages until a normal end; `UnexpectedMessage` for a binary one."""
        async for _ in self._until_closed():
            yield await self.receive_text(None)

    async def iter_bytes(self) -> AsyncIterator[bytes]:
        """Binary messages until a normal end; `UnexpectedMessage` for a text one."""
        async for _ in self._until_closed():
            yield await self.receive_binary(None)

    async def iter_json(self, mode: Literal["text", "binary"] = "text") -> AsyncIterator[Any]:
        """Decoded JSON until a normal end."""
        async for _ in self._until_closed():
            yield await self.receive_json(None, mode=mode)

    async def _until_closed(self) -> AsyncIterator[None]:
        """One turn for every message that is there to take; ends as ``async for`` does."""
        while True:
            while not self._messages:
                if self._inbox.ended:
                    error = self._closed_error()
                    if error.ending.normal:
                        return
                    raise error
                await self._wait(None)
            yield

    # ------------------------------------------------------------------- life

    async def close(
        self,
        code: int | str | None = None,
        reason: str | int | None = None,
        *,
        message: str | None = None,
    ) -> None:
        """
        Close the connection: closing handshake, then TCP, within ``close_timeout``.

        It may be called at any time, from any task, and again: then it waits
        for the same end. Messages that were sent before go out first; those
        already received stay readable.

        Args:
            code: The close code; 1000 when left out.
            reason: The close reason, up to 123 bytes of UTF-8. The two may be
                given in either order: the number is the code.
            message: The same as *reason*, for callers who use *reason* for the
                code.

        Raises:
            ValueError: The code must not be sent, or the reason is too long.
            TypeError: Two codes or two reasons.

        Cancellation:
            Safe. The closing handshake goes on by itself, and its deadline stands.

        Spec: RFC 6455 §7.1.1 to §7.1.3, §7.4.
        """
        close = _close_frame(code, reason, message)
        self._link.begin_close(close)
        await self.wait_closed()

    def abort(self) -> None:
        """Drop the connection at once, without a closing handshake."""
        self._link.abort()

    async def wait_closed(self) -> None:
        """
        Wait until the connection has ended and its cleanups have run.

        Cancellation:
            Safe.
        """
        await self._link.wait_closed()
        # A cleanup waits for no cleanups: two that close each other's connection would
        # wait for ever.
        if self._cleaning is not None and not CLEANING.get():
            await asyncio.shield(self._cleaning)

    def exception(self) -> ConnectionClosed | None:
        """
        What ended the connection, or None while it is open and after a normal end.

        Once the connection is gone, a Close of ours that nobody answered is no normal
        end either: of what was sent before, some may not have arrived.

        Spec: RFC 6455 §7.1.4.
        """
        ending = self._link.ending
        if ending is None:
            return None
        unclean = ending.unanswered and self._link.state is State.CLOSED
        return ConnectionClosed(ending) if unclean or not ending.normal else None

    def add_cleanup(self, function: Cleanup) -> None:
        """
        Call *function* once when the connection has ended, in whatever way.

        It may be a plain or a coroutine function without parameters. All run,
        in the order in which they were added; one that fails is logged and
        keeps none of the others from running. After the end it runs at once.
        """
        self._cleanups.append(function)
        if self._link.state is State.CLOSED:
            self._closed()

    def _closed(self) -> None:
        if self._cleanups:
            before = self._cleaning
            functions, self._cleanups = self._cleanups, []
            self._cleaning = asyncio.ensure_future(self._clean(before, functions))

    async def _clean(self, before: asyncio.Task[None] | None, functions: list[Cleanup]) -> None:
        if before is not None and before is not asyncio.current_task():
            await before
        await run_cleanups(functions, self._options.logger)

    async def __aenter__(self) -> Any:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.close(code_behind(error, ConnectionClosed))

    # --------------------------------------------------------------- liveness

    async def ping(self, timeout: float | None = None) -> float:
        """
        Send a Ping and wait for its Pong.

        Args:
            timeout: Seconds to wait; None means ``ping_timeout``, or else
                ``ping_interval``, or else 20.

        Returns:
            Seconds of the round trip.

        Raises:
            TimeoutError: No Pong came in time. The connection stays open.
            ConnectionClosed: The connection ended.

        Spec: RFC 6455 §5.5.2, §5.5.3.
        """
        return await self._link.ping(timeout)

    @property
    def latency(self) -> float | None:
        """Seconds of the last round trip, of `ping` or the keepalive; None before the first."""
        return self._link.latency

    @property
    def connected(self) -> bool:
        """Whether the connection is open."""
        return self._link.state is State.OPEN

    @property
    def connection_state(self) -> State:
        """One of RFC 6455's four states."""
        return self._link.state

    def explain(self) -> str:
        """
        One sentence: whether the connection is open, or who ended it, how and why.

        Behind it stands what was waiting at that moment, if anything was: messages
        that nobody had received, a ``send()`` that the peer held up, a ping without an
        answer, an event loop that had been blocked. ``exception().ending.waiting`` has it
        as numbers.
        """
        ending = self._link.ending
        return "the connection is open" if ending is None else ending.explain()

    # ------------------------------------------------------------------ facts

    @property
    def close_code(self) -> int | None:
        """Close code of the side that ended the connection, 1006 if it was lost; None before."""
        ending = self._link.ending
        return None if ending is None else ending.code

    @property
    def close_reason(self) -> str | None:
        """Close reason of the side that ended the connection; None before."""
        ending = self._link.ending
        return None if ending is None else ending.reason

    @property
    def accepted_subprotocol(self) -> str | None:
        """The same as ``subprotocol``: the name that ASGI frameworks use."""
        return self.subprotocol

    @property
    def stats(self) -> Stats:
        """What went through so far, and what is waiting now."""
        stats = self._link.stats
        if self._opened is not None:
            age = time.monotonic() - self._opened
            stats.opened_at = time.time() - age
            stats.age = age if self._age is None else self._age
        return stats

    @property
    def local_address(self) -> Any:
        """Our own (host, port, ...), or the path of a Unix socket."""
        return self._link.get_extra_info("sockname")

    @property
    def remote_address(self) -> Any:
        """The peer's (host, port, ...), or the path of a Unix socket."""
        return self._link.get_extra_info("peername")

    @property
    def rsock(self) -> asyncio.StreamReader | None:
        """The stream that carried the opening handshake; messages do not pass through it."""
        return self._link.streams[0]

    @property
    def wsock(self) -> asyncio.StreamWriter | None:
        """The other half of `rsock`; its transport is the connection's."""
        return self._link.streams[1]

    @property
    def event(self) -> asyncio.Event:
        """Set while a message waits to be received, and when the connection has ended."""
        event: asyncio.Event = self._inbox.event
        return event

    @property
    def task(self) -> asyncio.Task[Any] | None:
        """The task that reads in the background; None where the transport calls us itself."""
        return self._link.task

    def _closed_error(self) -> ConnectionClosed:
        ending = self._link.ending
        assert ending is not None
        return ConnectionClosed(ending)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.connection_state.name} {self.remote_address}>"


for _name, _method in SHORTCUTS.items():  # the same, compiled
    functools.update_wrapper(_method, getattr(AioBase, _name))
    # So that a mock of a connection is awaited as well.
    if sys.version_info >= (3, 12):
        inspect.markcoroutinefunction(_method)
    else:
        _method._is_coroutine = asyncio.coroutines._is_coroutine  # type: ignore[attr-defined]
    setattr(AioBase, _name, _method)

_RECEIVE = AioBase.receive  # which somebody may replace, to measure


@functools.lru_cache(maxsize=32)
def _logger_of(logger: logging.Logger, side: str) -> logging.Logger:
    """Its child; to ask for that takes a lock, and a tenth of the end of a connection."""
    return logger.getChild(side)


async def run_cleanups(functions: list[Cleanup], logger: logging.Logger) -> None:
    """Call every one of *functions*, those that are added meanwhile too; empties the list."""
    CLEANING.set(True)
    while functions:
        function = functions.pop(0)
        try:
            result = function()
            if inspect.isawaitable(result):
                await result
        except (Exception, asyncio.CancelledError) as exc:
            task = asyncio.current_task()
            if isinstance(exc, asyncio.CancelledError) and task and task.cancelling():
                raise  # we are cancelled, not something that the cleanup waited for
            logger.exception("cleanup %r of a connection failed", function)


def code_behind(error: BaseException | None, end: type[Exception]) -> int:
    """The close code behind a block that ended with *error*; *end* says that it is closed."""
    if error is None or isinstance(error, end):
        return CloseCode.NORMAL_CLOSURE
    if isinstance(error, Exception):
        return CloseCode.INTERNAL_ERROR
    return CloseCode.GOING_AWAY


def check_mode(mode: str) -> None:
    """Raise unless *mode* is a kind of message."""
    if mode not in ("text", "binary"):
        raise WebSocketRuntimeError(f"mode must be 'text' or 'binary', not {mode!r}")


def _close_frame(code: int | str | None, reason: str | int | None, message: str | None) -> Close:
    """Sort the arguments of `AioBase.close`: a number is the code, a text the reason."""
    if code is None and reason is None and message is None:
        return _NORMAL
    values = [value for value in (code, reason, message) if value is not None]
    codes = [value for value in values if isinstance(value, int)]
    texts = [value for value in values if isinstance(value, str)]
    if len(codes) + len(texts) < len(values):
        raise TypeError("close() takes an int (the code) and a str (the reason)")
    if len(codes) > 1 or len(texts) > 1:
        raise TypeError(
            f"close() takes one code and one reason, got {' and '.join(map(repr, values))}"
        )
    return check_close(codes[0] if codes else 1000, texts[0] if texts else "")
