"""`connect_asgi`: a client of an ASGI application, without a server in between.

The application is given what an ASGI server would give it, by version 2.4 of ASGI's
WebSocket specification. What it does is seen as a client would see it: its refusal, its
messages, its Close, or its end without one.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import math
import os
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, MutableMapping, Sequence
from typing import Any, Unpack, cast
from urllib.parse import unquote

from ..connection import AioBase
from ..errors import ConnectionClosed, ConnectionError
from ..link.asgi import byte_pairs
from ..link.base import Data, Fragments, Frames, Pieces, Stats, encode
from ..link.closed import Closed
from ..link.inbox import Inbox
from ..link.options import OptionArgs, Options, make_options, subprotocol_list
from ..protocol.codec import MESSAGE_OVERHEAD
from ..protocol.frames import Fragment, check_close
from ..protocol.handshake import check_answer
from ..protocol.octets import memory_size, payload_size
from ..types import (
    Close,
    CloseCode,
    Ending,
    HandshakeRequest,
    Headers,
    HeadersLike,
    State,
    header_pairs,
)
from .deadline import UNSET, Deadline, Unset, place_of
from .lifespan import lifespan as living

__all__ = ["ASGIClient", "connect_asgi"]

Event = MutableMapping[str, Any]
Application = Callable[[Any, Any, Any], Awaitable[object]]

_DENIAL = "websocket.http.response"
# Of a refusal's body, as `ConnectionError.body` has it.
_MOST_BODY = 65536


class _ClientLeft(OSError):
    """What send() raises since version 2.4 when the client has gone."""


@contextlib.asynccontextmanager
async def connect_asgi(
    app: Any,
    target: str = "/",
    subprotocols: str | Sequence[str] | None = None,
    headers: HeadersLike | None = None,
    *,
    scope: Mapping[str, Any] | None = None,
    lifespan: bool = False,
    timeout: float | Unset | None = UNSET,
    max_message_size: int | None = None,
    **options: Unpack[OptionArgs],
) -> AsyncIterator[ASGIClient]:
    """
    Connect to an ASGI application, as a client of its server would be.

    ::

        async with connect_asgi(app, "/chat") as ws:
            await ws.send_json({"say": "hello"})
            assert await ws.receive_json() == {"said": "hello"}

    There is no server, no socket and no port; the application runs in a task of this
    loop. The end of the block closes the connection, and waits for the application to
    end.

    Args:
        app: The application, of any framework.
        target: Path and query to ask for.
        subprotocols: What to offer, best first: one name or several.
        headers: Header fields of the request.
        scope: Entries of the scope to add or to replace: ``client``, ``root_path`` ...
        lifespan: Start the application up first, and shut it down at the end.
        timeout: Seconds that the opening, the block, and the end of the application may
            each take: 10 when left out, an hour on a `ClockLoop`; None for no limit.
        max_message_size: Bytes a message from the application may have.
        options: See `OptionArgs`. ``max_queue`` bounds what waits for either side:
            beyond it, the application's ``send()`` waits, and so does ours, which
            ``write_limit`` bounds as well.

    Yields:
        The client's end.

    Raises:
        ConnectionError: The application refused; it has the status (403 for a close
            before the accept), header fields and body.
        TimeoutError: It took too long; the error says what was waited for.
        Exception: Whatever the application raises, at the latest at the end of the
            block. That it does not catch the client's leaving is no error.
    """
    ours = make_options("connect_asgi", max_message_size=max_message_size, **options)
    client = ASGIClient(target, subprotocols, headers, ours)
    async with contextlib.AsyncExitStack() as stack:
        more = dict(scope or {})
        if lifespan:
            state = await stack.enter_async_context(living(app, timeout))
            more.setdefault("state", state.copy())
        try:
            async with Deadline(timeout, "the application's answer to the request"):
                await client._open(app, more)
            async with Deadline(timeout, "the block of connect_asgi()", client._tell):
                yield client
            client._link.begin_close(Close(CloseCode.NORMAL_CLOSURE))
            async with Deadline(timeout, "the end of the application", client._tell):
                await client._app.ended()
        except BaseException as error:
            client.abort()
            await client._app.cancel()
            failure = client._app.failure
            if failure is None or failure is error:
                raise
            if not isinstance(error, ConnectionClosed):
                error.add_note(f"the application raised {failure!r}")
                raise
            raise failure from error
        if client._app.failure is not None:
            raise client._app.failure


class ASGIClient(AioBase):
    """
    The client's end of a connection to an ASGI application; `connect_asgi` opens it.

    It has everything that `AioBase` has; ``ping()`` is answered at once, as by the
    server, whatever the application does.
    """

    def __init__(
        self,
        target: str,
        subprotocols: str | Sequence[str] | None,
        headers: HeadersLike | None,
        options: Options,
    ) -> None:
        super().__init__(options)
        offer = subprotocol_list(subprotocols)
        fields = header_pairs(headers)
        names = {name.lower() for name, _ in fields}
        # What every client sends, unless the test has its own.
        usual = {
            "Host": "localhost",
            "Connection": "Upgrade",
            "Upgrade": "websocket",
            "Sec-WebSocket-Key": base64.b64encode(os.urandom(16)).decode("ascii"),
            "Sec-WebSocket-Version": "13",
        }
        if offer:
            usual["Sec-WebSocket-Protocol"] = ", ".join(offer)
        fields = [*((n, v) for n, v in usual.items() if n.lower() not in names), *fields]
        if not target.startswith("/"):
            raise ValueError(f"target {target!r} does not begin with a slash")
        found = Headers(fields)
        self.request = HandshakeRequest(found["host"], target, found, offer)
        self._fields = fields

    async def _open(self, app: Application, more: Mapping[str, Any]) -> None:
        """Ask the application, and wait for its answer."""
        link = _AppLink(self.request, self._options)
        self._app = _Running(app, self._scope(more), link)
        accepted = await self._app.answer()
        self.subprotocol = accepted.get("subprotocol")
        self.headers = _headers(accepted)
        self._attach(link, "client")

    def _scope(self, more: Mapping[str, Any]) -> dict[str, Any]:
        path, _, query = self.request.target.partition("?")
        return {
            "type": "websocket",
            "asgi": {"version": "3.0", "spec_version": "2.4"},
            "http_version": "1.1",
            "scheme": "ws",
            "path": unquote(path),
            "raw_path": path.encode("ascii"),
            "query_string": query.encode("ascii"),
            "root_path": "",
            "headers": byte_pairs(self._fields),
            "client": ("127.0.0.1", 50000),
            "server": ("localhost", 80),
            "subprotocols": list(self.request.subprotocols),
            "extensions": {_DENIAL: {}},
            **more,
        }

    def _tell(self) -> list[str]:
        waiting = f", {len(self._messages)} messages to receive" if self._messages else ""
        return [f"client: {self.explain()}{waiting}", f"application: {self._app.tell()}"]


class _Running:
    """
    An application that runs for one connection.

    Attributes:
        failure: What it raised, if it did.
    """

    def __init__(self, app: Application, scope: dict[str, Any], link: _AppLink) -> None:
        self.failure: BaseException | None = None
        self._link = link
        self._scope = scope
        self._task = asyncio.ensure_future(self._run(app))

    async def _run(self, app: Application) -> None:
        link = self._link
        try:
            await app(self._scope, link.app_receive, link.app_send)
        except Exception as exc:
            # The client's leaving need not be caught: every framework has an exception
            # with a code for it, and servers do not mind. Nor need our own refusal.
            known = isinstance(exc, (_ClientLeft, ConnectionError)) or hasattr(exc, "code")
            if link.ending is None or not known:
                self.failure = exc
            link.app_ended(exc)
        else:
            link.app_ended(None)

    async def answer(self) -> Event:
        """
        Wait for the event with which it accepts.

        Raises:
            ConnectionError: It refuses.
            Exception: It raises.
        """
        await asyncio.wait([self._link.answer])
        return self._link.answer.result()

    async def ended(self) -> None:
        """Wait until it has ended."""
        await asyncio.wait([self._task])

    async def cancel(self) -> None:
        """End it."""
        self._task.cancel()
        await asyncio.wait([self._task])

    def tell(self) -> str:
        """Where it stands."""
        if self._task.done():
            return "has ended"
        return f"waits at {place_of(self._task)}"


class _AppLink:
    """
    An open WebSocket whose other end is an ASGI application (see `Link`).

    Attributes:
        state: CONNECTING, OPEN or CLOSED: the closing handshake is the server's, and
            takes no time.
        ending: How it ended; None before.
        inbox: What the application has sent.
        answer: The application's answer to the request.
    """

    task = None
    latency: float | None = None
    streams = (None, None)

    def __init__(self, request: HandshakeRequest, options: Options) -> None:
        loop = asyncio.get_running_loop()
        self.state = State.CONNECTING
        self.ending: Ending | None = None
        self.inbox = Inbox(loop, options.marks, self)
        self.wait = self.inbox.wait
        self.answer: asyncio.Future[Event] = loop.create_future()
        self._request = request
        self._marks = options.marks
        self._write_limit = options.write_limit
        self._close_timeout = options.close_timeout
        most = options.max_message_size
        self._limit: float = math.inf if most is None else most
        self._closed = Closed(loop)
        self._stats = Stats()
        self._streaming = False
        self._turn = asyncio.Lock()
        # For the application's receive().
        self._events: deque[Event] = deque([{"type": "websocket.connect"}])
        self._size = 0
        self._last: Event | None = None
        # Something has changed, for whoever waits.
        self._changed = asyncio.Event()
        self._denial: tuple[int, Headers] | None = None
        self._body = bytearray()
        self._app_closed = False

    # ------------------------------------------------- what the application calls

    async def app_receive(self) -> Event:
        """The application's receive callable."""
        while not self._events:
            if self._last is not None:
                return dict(self._last)
            await self._change()
        event = self._events.popleft()
        self._size -= _size(event)
        self._wake()
        return event

    async def app_send(self, event: Event) -> None:
        """The application's send callable."""
        kind = event["type"]
        if self._app_closed:
            raise RuntimeError(f"the application sent {kind!r} after its last word")
        if self.state is State.CONNECTING:
            self._answered(kind, event)
        elif kind == "websocket.send":
            await self._deliver(event)
        elif kind == "websocket.close":
            self._check_client()
            self._app_closed = True
            reason = event.get("reason") or ""
            close = check_close(event.get("code", CloseCode.NORMAL_CLOSURE), reason)
            # The server answers for the client's side.
            self._end(Ending("peer", sent=Close(close.code), received=close))
        else:
            raise RuntimeError(
                f"the application sent {kind!r}; an open connection takes 'websocket.send' and "
                f"'websocket.close'"
            )

    def _answered(self, kind: str, event: Event) -> None:
        """Before the connection is open: an accept, a close, or a response of HTTP."""
        self._check_client()
        if self._denial is not None and kind == f"{_DENIAL}.body":
            self._body += event.get("body", b"")
            if not event.get("more_body", False):
                self._refuse(*self._denial)
        elif self._denial is None and kind == "websocket.accept":
            check_answer(self._request, event.get("subprotocol"), _pairs(event))
            self.state = State.OPEN
            self.answer.set_result(event)
        elif self._denial is None and kind == "websocket.close":
            self._refuse(403, Headers())
        elif self._denial is None and kind == f"{_DENIAL}.start":
            self._denial = event["status"], _headers(event)
        else:
            raise RuntimeError(
                f"the application sent {kind!r} before it answered the request, which takes "
                f"'websocket.accept', 'websocket.close' or '{_DENIAL}.start'"
            )

    def _refuse(self, status: int, headers: Headers) -> None:
        body = bytes(self._body[:_MOST_BODY])
        error = ConnectionError(
            f"the application refused the connection with HTTP {status}",
            status_code=status,
            headers=headers,
            body=body,
        )
        self._app_closed = True
        self._end(Ending("lost", why=str(error)))
        self._failed(error)

    def _failed(self, error: Exception) -> None:
        self.answer.set_exception(error)
        self.answer.exception()  # asyncio would complain if nobody asked

    async def _deliver(self, event: Event) -> None:
        """A message from the application."""
        data: Any = event.get("bytes")
        if data is None:
            data = event.get("text")
        if not isinstance(data, (str, bytes)):
            raise TypeError(f"'websocket.send' has text (str) or bytes, not {event!r}")
        while self.inbox.paused and self.ending is None:
            await self._change()
        self._check_client()
        size = payload_size(data)
        self._stats.bytes_in += size
        if size > self._limit:
            why = f"message of {size} bytes exceeds the limit of {self._limit} bytes"
            self._close(Close(CloseCode.MESSAGE_TOO_BIG, why), why)
            return
        self.inbox.messages.append(Fragment(data, True) if self._streaming else data)
        self._streaming = False
        self.inbox.arrived(memory_size(data) + MESSAGE_OVERHEAD)
        self.inbox.wake()

    def _check_client(self) -> None:
        if self.ending is not None:
            raise _ClientLeft(f"the client has left: {self.ending.explain()}")

    def app_ended(self, error: Exception | None) -> None:
        """The application has returned, or raised *error*."""
        if not self.answer.done():
            if error is None:
                self._body += b"the application returned without an answer"
                self._refuse(500, Headers())
            else:
                self._failed(error)
        elif self.ending is None:
            # Servers differ; uvicorn just ends the connection.
            why = "the application returned without closing the connection"
            if error is not None:
                why = f"the application raised {error!r}"
            self._end(Ending("lost", why=why, cause=error))
        self._app_closed = True

    # --------------------------------------------------------- what the client calls

    @property
    def stats(self) -> Stats:
        """Counters, as they stand; bytes are those of messages."""
        return Stats(*self.count(), messages_waiting=len(self.inbox.messages))

    def count(self) -> tuple[int, int, int, int]:
        """Messages in and out, bytes in and out."""
        stats, inbox = self._stats, self.inbox
        return (
            inbox.taken + len(inbox.messages),
            stats.messages_out,
            stats.bytes_in,
            stats.bytes_out,
        )

    def get_extra_info(self, name: str) -> Any:
        """None: there is no transport."""

    def send_nowait(self, data: Data, compress: bool | None) -> bool:
        """False: it may have to wait for the application."""
        return False

    async def send(self, data: Data, compress: bool | None) -> None:
        """
        Send a message; wait while the application has too many.

        Cancellation:
            Nothing has been sent.
        """
        opcode, payload = encode(data)
        async with self._turn:
            await self.writable()
            self.check_open()
            self._put(opcode, payload)

    def _put(self, opcode: int, payload: bytes) -> None:
        event: Event = {"type": "websocket.receive"}
        if opcode == 1:
            event["text"] = payload.decode("utf-8")
        else:
            event["bytes"] = payload
        self._events.append(event)
        self._size += len(payload)
        self._stats.messages_out += 1
        self._stats.bytes_out += len(payload)
        self._wake()

    async def send_fragments(self, fragments: Fragments, compress: bool | None) -> None:
        """Send one message from pieces: the application gets it whole."""
        pieces: list[tuple[int, bytes]] = []
        async with Pieces(fragments, self._close_timeout) as given:
            async for piece in given:
                self.check_open()
                pieces.append(encode(piece))
                if pieces[-1][0] != pieces[0][0]:
                    raise TypeError("the fragments of a message are all text or all binary")
        if pieces:
            whole = b"".join(payload for _, payload in pieces)
            await self.send(whole.decode("utf-8") if pieces[0][0] == 1 else whole, compress)

    def write_frames(self, frames: Frames) -> bool:
        """Send a message made once for many; False if the application is behind."""
        self.check_open()
        if self._full():
            return False
        self._put(frames.opcode, frames.payload)
        return True

    async def writable(self) -> None:
        """Wait until the application has taken enough, or the link has ended."""
        while self.ending is None and self._full():
            await self._change()

    def _full(self) -> bool:
        return len(self._events) >= self._marks.high or self._size >= self._write_limit

    async def ping(self, timeout: float | None) -> float:
        """A server answers at once, whatever its application does."""
        self.check_open()
        await asyncio.sleep(0)
        self.latency = 0.0
        return 0.0

    def begin_stream(self) -> None:
        """Give out the next message as a stream, of one piece."""
        self._streaming = True

    def end_stream(self) -> None:
        """Nobody wants the stream any more."""
        self._streaming = False
        self.inbox.drop_fragments()

    def pause_reading(self) -> None:
        """Nothing: the application's send() looks at ``inbox.paused``."""

    def resume_reading(self) -> None:
        """Let the application's send() go on."""
        self._wake()

    def begin_close(self, close: Close) -> None:
        """Send a Close; the server answers it, whatever its application does."""
        if self.ending is None:
            self._close(close, "")

    def _close(self, close: Close, why: str) -> None:
        self._end(Ending("us", sent=close, received=Close(close.code), why=why))

    def abort(self) -> None:
        """Vanish."""
        if self.ending is None:
            self._end(Ending("lost", why="abort() was called on our side"))

    async def wait_closed(self) -> None:
        """Wait until it is closed."""
        await self._closed.wait()

    def on_closed(self, callback: Callable[[], None]) -> None:
        """Call *callback* once, when it is closed; now, if it is."""
        self._closed.call(callback)

    # ---------------------------------------------------------------------- the end

    def _end(self, ending: Ending) -> None:
        """The one place where it stops to be open; everyone who waits is woken."""
        self.ending = ending
        self.state = State.CLOSED
        # What the client sent before is delivered first.
        self._last = {
            "type": "websocket.disconnect",
            "code": int(ending.code),
            "reason": ending.reason if ending.by != "lost" else "",
        }
        self.inbox.end()
        self._wake()
        self._closed.set()

    def check_open(self) -> None:
        """Raise if it has ended."""
        if self.ending is not None:
            raise ConnectionClosed(self.ending)

    async def _change(self) -> None:
        self._changed.clear()
        await self._changed.wait()

    def _wake(self) -> None:
        self._changed.set()


def _size(event: Event) -> int:
    text = event.get("text")
    return len(event.get("bytes") or b"") if text is None else payload_size(cast(str, text))


def _pairs(event: Event) -> list[tuple[str, str]]:
    return [(n.decode("latin-1"), v.decode("latin-1")) for n, v in event.get("headers") or ()]


def _headers(event: Event) -> Headers:
    return Headers(_pairs(event))
