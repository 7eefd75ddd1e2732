"""A client of `serve`, from its connection until it is answered.

It needs no task before its request is there, and no streams unless it is answered with
plain HTTP: most clients open a WebSocket, and that takes the transport over.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Any

from ..protocol.handshake import (
    MAX_HEAD,
    Refusal,
    accept_request,
    parse_request,
    serialize_response,
)
from ..types import HandshakeRequest, Response
from .base import Link
from .options import Options
from .sources import Gone, Streams, answer, end_of_head, ended
from .timers import Timer, timers_of
from .transports import secured, streams_over
from .wire import WireLink

__all__ = ["Arrival", "TooLate", "over_tls"]


class TooLate(Exception):
    """The time for an opening handshake is over."""


class Arrival(asyncio.Protocol):
    """
    The protocol of a client's transport, and the `Source` of its request, whose head it reads.

    As a context manager, of the task in the block, it keeps the time that was given with
    `expect`: the task gets `TooLate` when it is over, and behind the block it does not
    matter. An `asyncio.timeout` would do the same for three times as much, and needs a task.

    Args:
        connected: Called with it when it has its transport.
        asked: Called with it, once, when somebody is to answer it.

    Attributes:
        transport: Its transport, once it has one.
        peer: The address of whom it connects with, once it has one.
        excess: Whether it is one more than its server takes.
    """

    __slots__ = (
        "_asked",
        "_connected",
        "_early",
        "_error",
        "_failure",
        "_head",
        "_late",
        "_over",
        "_read",
        "_task",
        "_timer",
        "_waiter",
        "excess",
        "peer",
        "transport",
    )

    response: Any = None
    accepted = False
    subprotocol: str | None = None

    def __init__(
        self,
        connected: Callable[[Arrival], None] | None = None,
        asked: Callable[[Arrival], None] | None = None,
    ) -> None:
        self._connected = connected
        self._asked = asked
        self._read: bytearray | None = None  # a head that came in more than one piece
        self._head: bytes | None = None
        self._early = b""
        self._failure: Gone | Refusal | None = None
        self._over = False  # the client's side of TCP has ended
        self._error: Exception | None = None  # what broke the transport
        self._waiter: asyncio.Future[None] | None = None
        self.transport: asyncio.Transport | None = None
        self.peer: Any = None
        self.excess = False
        self._late = False
        self._timer: Timer | None = None
        self._task: asyncio.Task[Any] | None = None  # the one in the block

    # ----------------------------------------------- what the transport tells us

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The client has connected."""
        self.transport = transport  # type: ignore[assignment]
        # A TLS transport that is closed does not know it any more.
        self.peer = transport.get_extra_info("peername")
        connected, self._connected = self._connected, None
        if connected is not None:
            connected(self)

    def data_received(self, data: bytes) -> None:
        """Something was read."""
        if self._failure is not None:
            return
        if self._head is not None:
            # Its answer is on the way; what comes meanwhile is what a StreamReader holds.
            self._early += data
            if len(self._early) > 2 * MAX_HEAD and self.transport is not None:
                self.transport.pause_reading()
            return
        read: bytes | bytearray = data
        if self._read is not None:
            self._read += data
            read = self._read
        try:
            end = end_of_head(read, len(data))
        except (Gone, Refusal) as exc:
            self._fail(exc)
            return
        if end:
            self._head, self._early = bytes(read[:end]), bytes(read[end:])
            self._read = None
            self._settled()
        elif self._read is None:
            self._read = bytearray(data)

    def eof_received(self) -> bool:
        """The client's side of TCP has ended. It can still read an answer."""
        self._over = True
        if self._head is None:
            self._fail(ended(self._read or b""))
        # TLS cannot end one side alone; asyncio warns of a protocol that asks for it.
        return self.transport is not None and self.transport.get_extra_info("sslcontext") is None

    def connection_lost(self, exc: Exception | None) -> None:
        """The transport is gone."""
        self._over = True
        self._error = exc
        if self.transport is not None:
            self.transport.close()  # a TLS transport does not know by itself
        if exc is not None:
            self._head = None
            self._fail(Gone(str(exc) or type(exc).__name__))
        elif self._head is None:
            self._fail(ended(self._read or b""))

    def _fail(self, failure: Gone | Refusal) -> None:
        if self._failure is None:
            self._failure = failure.with_traceback(None)
            self._read = None
            self._settled()

    def _settled(self) -> None:
        if self._waiter is None:
            self.ask()
        elif not self._waiter.done():
            self._waiter.set_result(None)

    # ------------------------------------------------------------ its time

    def expect(self, seconds: float | None) -> None:
        """Give it so many *seconds*, from now on, to be open or refused."""
        if seconds is not None:
            timers = timers_of(asyncio.get_running_loop())
            self._timer = timers.call_later(seconds, self._too_late)

    def _too_late(self) -> None:
        self._late = True
        if self._task is not None:
            self._task.cancel()
        else:
            self.ask()

    def __enter__(self) -> asyncio.Task[Any] | None:
        if self._late:
            raise TooLate
        self._task = task = asyncio.current_task()
        return task

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        task, self._task = self._task, None
        self._stop_timer()
        # As in asyncio.timeout(): if somebody else has cancelled it too, then that counts.
        if self._late and task is not None:
            alone = task.uncancel() == 0
            if alone and isinstance(error, asyncio.CancelledError):
                raise TooLate from error

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()

    # ------------------------------------------------------------ who answers it

    def ask(self) -> None:
        """Have it answered, unless that has begun: its request is there, or will be waited for."""
        asked, self._asked = self._asked, None
        if asked is not None:
            asked(self)

    async def request(self) -> HandshakeRequest:
        """
        Read the request.

        Raises:
            Gone: The client has left.
            Refusal: It is not acceptable HTTP/1.1.
        """
        if self._head is None and self._failure is None:
            self._waiter = asyncio.get_running_loop().create_future()
            await self._waiter
        if self._failure is not None:
            raise self._failure
        assert self._head is not None
        return parse_request(self._head, self.peer)

    async def open(
        self,
        request: HandshakeRequest,
        subprotocol: str | None,
        extra_headers: Sequence[tuple[str, str]],
        options: Options,
    ) -> Link:
        """Answer with 101 and hand the transport over."""
        assert self.transport is not None
        accepted = accept_request(request, subprotocol, options.deflate, extra_headers)
        self.transport.write(accepted.head)
        return WireLink.begin(
            self.transport,
            server=True,
            options=options,
            agreement=accepted.agreement,
            early=self._early,
            over=self._over,
            error=self._error,
        )

    def _streams(self) -> Streams:
        """Hand the transport over to streams, for an answer that is no WebSocket."""
        assert self.transport is not None
        streams, protocol = streams_over(self.transport)
        self.transport.set_protocol(protocol)
        if self._over:
            protocol.eof_received()
        elif not self.transport.is_reading():
            self.transport.resume_reading()
        return streams

    async def refuse(self, response: Response) -> None:
        """Answer with plain HTTP and close."""
        await self.answer(serialize_response(response))

    async def answer(self, data: bytes) -> None:
        """The same with an answer that has been written out."""
        assert self.transport is not None
        # Of one that is closing its present protocol is to hear the end, TLS say.
        if not self.transport.is_closing():
            await answer(self._streams(), data)

    def abort(self) -> None:
        """Drop the connection."""
        self._asked = None
        self._stop_timer()
        if self.transport is not None:
            self.transport.abort()


async def over_tls(beneath: Arrival, context: ssl.SSLContext) -> Arrival:
    """
    Speak TLS, as the server, with a client from which nothing has been read.

    Args:
        beneath: The client.
        context: With a certificate.

    Raises:
        Gone: There was no TLS handshake.

    Cancellation:
        The connection is closed.
    """
    assert beneath.transport is not None
    secure = Arrival()
    try:
        secure.connection_made(await secured(beneath.transport, secure, context))
    except OSError as exc:
        beneath.abort()
        raise Gone(f"no TLS handshake: {getattr(exc, 'reason', None) or exc}") from exc
    except BaseException:
        beneath.abort()
        raise
    return secure
