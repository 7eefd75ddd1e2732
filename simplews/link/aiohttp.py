"""The coupling to aiohttp's server: how a request of ``aiohttp.web`` becomes a link.

aiohttp writes the 101 by itself, from an ordinary response object, so that its
signals, its access log and whatever looks at responses see one. Then the
transport is ours, with the bytes that aiohttp had read already, and aiohttp is
told when it is gone.

What aiohttp would do with the connection when the handler is done (answer once
more, complain about a missing return, log a traceback where the answer is out)
is decided here: from the moment of the answer on, the connection's
``RequestHandler`` is of a subclass that knows of it, and has no transport to write
to. What it touches has been the same since aiohttp 3.9: four methods, `set_parser`,
`transport`, `_close` and `_task_handler`. `tests/aiohttp` runs against each version
since.
"""

from __future__ import annotations

import asyncio
import functools
import importlib
import logging
import sys
from collections.abc import Callable, Sequence
from typing import Any

from ..errors import ConnectionClosed, ConnectionError, WebSocketRuntimeError
from ..protocol.handshake import (
    Refusal,
    accept_request,
    check_response,
    check_upgrade,
    make_request,
)
from ..types import Close, CloseCode, HandshakeRequest, Headers, Response, State
from .base import Link
from .options import Options
from .sources import Gone, no_delay
from .wire import WireLink

__all__ = ["AiohttpSource"]


class AiohttpSource:
    """
    A request of ``aiohttp.web``, inside its handler.

    Args:
        request: The request.

    Raises:
        TypeError: It is something else.
        WebSocketRuntimeError: It has been answered already.

    Attributes:
        response: The 101, for the handler to return.
    """

    accepted = False
    subprotocol: str | None = None

    def __init__(self, request: Any) -> None:
        module = type(request).__module__.partition(".")[0]
        web = importlib.import_module("aiohttp.web") if module == "aiohttp" else None
        if web is None or not isinstance(request, web.BaseRequest):
            raise TypeError(
                f"aiohttp= takes the request of an aiohttp.web handler, not {type(request)!r}; "
                f"a WebSocket of ASGI goes to asgi="
            )
        if _answer_to(request) is not None or request.writer.output_size > 0:
            raise WebSocketRuntimeError(
                "this request has been answered already: accept() takes it once, and before any "
                "other response is prepared"
            )
        self._request = request
        self._logger = logging.getLogger("simplews.server")
        self.response: Any = None

    async def request(self) -> HandshakeRequest:
        """The request that aiohttp has read."""
        request = self._request
        if request.transport is None:
            self._answered(_switching_class()(status=499, reason="Client Closed Request"))
            raise Gone("it left before its request was handled")
        no_delay(request.transport.get_extra_info("socket"))
        if request.version < (1, 1):
            raise Refusal(505, f"HTTP/{request.version[0]}.{request.version[1]} is not HTTP/1.1")
        headers = Headers(
            (name.decode("latin-1"), value.decode("latin-1")) for name, value in request.raw_headers
        )
        peer = request.transport.get_extra_info("peername")
        ours = make_request(request.method, request.raw_path, headers, peer)
        check_upgrade(ours)
        return ours

    async def open(
        self,
        request: HandshakeRequest,
        subprotocol: str | None,
        extra_headers: Sequence[tuple[str, str]],
        options: Options,
    ) -> Link:
        """Let aiohttp answer with 101, and take the transport over."""
        self._logger = options.logger.getChild("server")
        accepted = accept_request(request, subprotocol, options.deflate, extra_headers)
        response = _switching_class()(status=101, reason="Switching Protocols")
        for name, value in accepted.fields:
            response.headers.add(name, _sent(value))
        response.force_close()
        try:
            await response.prepare(self._request)
        except OSError as exc:
            if not self._left():
                raise  # of a signal handler
            self._answered(response)
            raise Gone(str(exc) or "it left during the handshake") from exc
        answer = self._answered(response)
        if self._request.transport is None:
            raise Gone("it left during the handshake")
        link = WireLink.begin(
            self._request.transport,
            server=True,
            options=options,
            agreement=accepted.agreement,
            early=_rest_of(self._request),
        )
        response.simplews_link = link
        answer.opened(link)
        self.response = response
        return link

    async def refuse(self, response: Response) -> None:
        """Let aiohttp send *response*; the connection stays what it is to aiohttp."""
        web = importlib.import_module("aiohttp.web")
        fields, body = check_response(response)
        # RFC 9110 §7.8: who sends Upgrade names it in Connection.
        if any(name.lower() == "upgrade" for name, _ in fields):
            keep = self._request.keep_alive
            fields.append(("Connection", "Upgrade" if keep else "close, Upgrade"))
        sent = web.Response(status=response.status, body=body)
        for name, value in fields:
            sent.headers.add(name, _sent(value))
        try:
            await sent.prepare(self._request)
            await sent.write_eof()
        except OSError:
            if not self._left():
                raise
        self._answered(sent)

    def abort(self) -> None:
        """Nothing: aiohttp answers for a handler that raises."""

    def _left(self) -> bool:
        transport = self._request.transport
        return transport is None or transport.is_closing()

    def _answered(self, response: Any) -> _Answer:
        """From here on, nothing that the handler returns or raises is an answer any more."""
        protocol: Any = self._request.protocol
        answer = _Answer(protocol, response, self._logger)
        # Every clone of the request, which a middleware may make, has the same writer.
        self._request.writer.simplews_answer = answer
        protocol.__class__ = _answered_class(protocol.__class__)
        return answer


def _answer_to(request: Any) -> _Answer | None:
    """How *request*, or another clone of the same, was answered."""
    answer = getattr(request.writer, "simplews_answer", None)
    return answer if isinstance(answer, _Answer) else None


def _sent(value: str) -> str:
    """What aiohttp, which writes UTF-8, is given to write the bytes that *value* stands for."""
    try:
        return value.encode("latin-1").decode("utf-8")
    except UnicodeDecodeError:
        return value  # no text becomes those bytes


def _rest_of(request: Any) -> bytes:
    """The bytes behind *request* that aiohttp has read."""
    rest = _Rest()
    # aiohttp keeps what comes behind an upgrade for the parser of its successor.
    request.protocol.set_parser(rest)
    return bytes(rest.data)


class _Rest:
    """A parser for aiohttp, which takes what is there."""

    def __init__(self) -> None:
        self.data = bytearray()

    def feed_data(self, data: bytes) -> tuple[bool, bytes]:
        """aiohttp has read *data*."""
        self.data += data
        return False, b""

    def feed_eof(self) -> None:
        """The connection is gone; its link knows."""


class _Taken:
    """
    The transport that aiohttp still sees when a link has it.

    Args:
        transport: The transport.
        link: Who has it.
    """

    def __init__(self, transport: asyncio.BaseTransport, link: WireLink) -> None:
        self._transport = transport
        self._link = link

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)

    def write(self, data: bytes) -> None:
        """No answer of aiohttp's may get into our stream."""
        raise ConnectionResetError("this connection has become a WebSocket")

    writelines = write

    def close(self) -> None:
        """aiohttp drops the connection: its handler was cancelled, or has not ended in time."""
        self._link.begin_close(Close(CloseCode.INTERNAL_ERROR))
        self._transport.close()


class _Uncancelled:
    """A task as it looks to a connection that is lost, and cannot cancel it."""

    def __init__(self, task: asyncio.Task[None]) -> None:
        self._task = task

    def add_done_callback(self, callback: Callable[[Any], object]) -> None:
        """Call *callback* when the task is done."""
        self._task.add_done_callback(callback)

    def cancel(self) -> None:
        """It has not lost its client: they took leave of each other."""


class _Answer:
    """
    How a request was answered, and what becomes of its handler's end.

    Args:
        protocol: aiohttp's ``RequestHandler`` of the connection.
        response: The answer, which has been or is being sent.
        logger: For what goes wrong from here on.

    Attributes:
        link: The link, when the answer was 101.
    """

    def __init__(self, protocol: Any, response: Any, logger: logging.Logger) -> None:
        self._kind = type(protocol)
        self._protocol = protocol
        self._logger = logger
        self.response = response
        self.link: WireLink | None = None

    def opened(self, link: WireLink) -> None:
        """The answer was 101, and *link* has the transport."""
        protocol = self._protocol
        self.link = link
        _links[protocol] = link
        protocol.transport = _Taken(protocol.transport, link)
        if protocol._close:
            _going_away(protocol)  # it began to shut down meanwhile
        link.on_closed(self._lost)

    def _lost(self) -> None:
        """The transport is gone, which only its link was told."""
        assert self.link is not None
        ending = self.link.ending
        assert ending is not None
        protocol = self._protocol
        del _links[protocol]
        # With `handler_cancellation`, aiohttp cancels the handler of a client that
        # disconnects. One that took its leave has not disconnected.
        task = protocol._task_handler
        if ending.by != "lost" and task is not None:
            protocol._task_handler = _Uncancelled(task)
        protocol.connection_lost(ending.cause if isinstance(ending.cause, OSError) else None)
        # A server that shuts down cancels what does not end, but would have forgotten it.
        protocol._task_handler = task

    def failed(self, request: Any, exc: BaseException) -> None:
        """The handler raised *exc*, which nobody can be told by HTTP any more."""
        # The handler need not catch the end of its own connection, nor its refusal.
        ending = None if self.link is None else self.link.ending
        if isinstance(exc, ConnectionClosed) and exc.ending is ending:
            return
        # As it was sent: decoded, it may have line ends, and this goes into the log.
        path = request.rel_url.raw_path
        if isinstance(exc, ConnectionError) and self.link is None:
            self._logger.info("%s %s: %s", request.remote, path, str(exc))
            return
        what = "the handler of %s for %s raised"
        if self.link is not None and self.link.state is State.OPEN:
            what += "; its connection is closed with 1011"
            self.link.begin_close(Close(CloseCode.INTERNAL_ERROR))
        self._logger.error(what, path, request.remote, exc_info=exc)

    def done(self) -> None:
        """aiohttp has finished with the request; a connection that goes on is its own again."""
        self.response = None  # which knows the request, which knows us
        if self.link is None:
            self._protocol.__class__ = self._kind


# The open links, by the RequestHandler that had the connection before.
_links: dict[Any, WireLink] = {}


def _going_away(protocol: Any) -> None:
    """The server shuts down."""
    if protocol in _links:
        _links[protocol].begin_close(Close(CloseCode.GOING_AWAY))


@functools.cache
def _answered_class(kind: Any) -> Any:
    """*kind*, a ``RequestHandler``, for a connection whose request has been answered."""

    class Answered(kind):  # type: ignore[misc]
        __slots__ = ()

        async def finish_response(self, request: Any, resp: Any, start_time: Any) -> Any:
            """The handler is done, and returned *resp* (an exception of HTTP, if it raised one)."""
            answer = _answer_to(request)
            assert answer is not None
            # Behind a refusal, an exception of HTTP is one more way to return a response.
            raised = sys.exception()
            if answer.link is not None and raised is not None and raised is resp:
                answer.failed(request, raised)
            try:
                sent = await super().finish_response(request, answer.response, start_time)
            finally:
                answer.done()
            # aiohttp 3.9 goes on with *resp* (True: the connection is not kept).
            return sent if sent is not False else getattr(resp, "keep_alive", None) is None

        def handle_error(
            self, request: Any, status: int = 500, exc: Any = None, message: Any = None
        ) -> Any:
            """The handler raised *exc*, which is being handled."""
            answer = _answer_to(request)
            assert answer is not None
            # A TimeoutError is not passed on.
            answer.failed(request, exc or sys.exception() or TimeoutError())
            return answer.response

        def close(self) -> None:
            """The server begins to shut down."""
            _going_away(self)
            super().close()

        async def shutdown(self, timeout: float | None = 15.0) -> None:
            """The server shuts down."""
            _going_away(self)
            await super().shutdown(timeout)

    Answered.__name__ = Answered.__qualname__ = kind.__name__
    return Answered


@functools.cache
def _switching_class() -> Any:
    """The class of our 101: a response that is complete when its link has ended."""
    web: Any = importlib.import_module("aiohttp.web")

    class SwitchingProtocols(web.StreamResponse):  # type: ignore[misc]
        simplews_link: WireLink | None = None

        async def write_eof(self, data: bytes = b"") -> None:
            """The handler is done: close what it has left open."""
            link = self.simplews_link
            if link is not None:
                link.begin_close(Close(CloseCode.NORMAL_CLOSURE))
                await link.wait_closed()

    return SwitchingProtocols
