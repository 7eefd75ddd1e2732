"""What a connection needs from the link below it, whatever carries the bytes."""

from __future__ import annotations

import asyncio
from collections.abc import (
    AsyncIterable,
    AsyncIterator,
    Awaitable,
    Callable,
    Generator,
    Iterable,
    Iterator,
    Mapping,
)
from dataclasses import dataclass
from typing import Any, Protocol, cast

from ..protocol.codec import Encoder
from ..types import Close, Ending, State
from .inbox import Inbox

__all__ = [
    "Bytes",
    "Data",
    "Fragments",
    "Frames",
    "Link",
    "Pieces",
    "Stats",
    "encode",
    "send_later",
]

Bytes = bytes | bytearray | memoryview
Data = str | Bytes
Fragments = Iterable[Data] | AsyncIterable[Data]


@dataclass(slots=True)
class Stats:
    """
    What went through a connection, and what is waiting.

    Attributes:
        messages_in: Messages received.
        messages_out: Messages sent.
        bytes_in: Bytes that arrived, frames' headers included; under ASGI, of messages.
        bytes_out: Bytes handed to the transport, frames' headers included; under
            ASGI, of messages.
        messages_waiting: Messages that have arrived and were not yet received.
        bytes_waiting: Bytes that have been sent and wait for the peer.
        sends_waiting: Calls of ``send()`` that wait for the peer, or for their turn.
        pings_sent: Pings that we sent; 0 under ASGI, where the server does.
        pongs_received: Pongs that answered one.
        latency: Seconds of the last round trip; None before the first.
        opened_at: When the connection was opened: seconds since the epoch, as of
            ``time.time()``; None before that.
        age: Seconds that it has been open, or was.
    """

    messages_in: int = 0
    messages_out: int = 0
    bytes_in: int = 0
    bytes_out: int = 0
    messages_waiting: int = 0
    bytes_waiting: int = 0
    sends_waiting: int = 0
    pings_sent: int = 0
    pongs_received: int = 0
    latency: float | None = None
    opened_at: float | None = None
    age: float = 0.0


class Frames:
    """
    A message made once and written to many connections.

    Servers do not mask, so a frame is the same for every peer. A compressed one
    refers to no other message, and is the same for every peer with the same
    settings and window.
    """

    __slots__ = ("compressed", "data", "frame", "opcode", "payload")

    def __init__(self, data: Data) -> None:
        self.data = data
        self.opcode, self.payload = encode(data)
        self.frame = _SERVER.message(self.opcode, self.payload)
        self.compressed: dict[tuple[int, ...], bytes] = {}  # see `Encoder.shared`


_SERVER = Encoder(server=True)


def encode(data: object) -> tuple[int, bytes]:
    """
    A message's opcode and payload (RFC 6455 §5.6).

    Raises:
        TypeError: It is neither ``str`` nor bytes-like.
    """
    if isinstance(data, str):
        return 1, data.encode("utf-8")
    if isinstance(data, bytes):
        return 2, data
    if isinstance(data, (bytearray, memoryview)):
        return 2, bytes(data)
    raise TypeError(
        f"a message is str (text) or bytes, bytearray or memoryview (binary), "
        f"not {type(data).__name__}"
    )


async def send_later(link: Link, data: object, compress: bool | None) -> None:
    """
    Send what ``link.send_nowait()`` has just not taken.

    Raises:
        TypeError: *data* is no message; nothing was sent.
    """
    if isinstance(data, (str, bytes, bytearray, memoryview)):
        await link.send(data, compress)
    elif isinstance(data, (Iterable, AsyncIterable)) and not isinstance(data, Mapping):
        await link.send_fragments(cast(Fragments, data), compress)
    else:
        raise TypeError(
            f"send() takes str (text), bytes, bytearray or memoryview (binary), or an "
            f"iterable of those (fragments), not {type(data).__name__}"
            + ("; use send_json()" if isinstance(data, Mapping) else "")
        )


class Pieces:
    """
    The fragments of a message, one by one, from an iterable of either kind.

    As a context manager it closes what gives them, if it has begun to and the block
    raises: nobody else will ask an async generator for its next piece, and what its
    ``finally`` lets go of is not to wait for the garbage collector.

    Args:
        fragments: What the application passed to ``send()``.
        timeout: Seconds that closing it may take; then it is cancelled.
    """

    __slots__ = ("_awaited", "_begun", "_items", "_timeout")

    def __init__(self, fragments: Fragments, timeout: float) -> None:
        self._begun = False
        self._awaited: AsyncIterator[Data] | None = None
        self._items: Iterator[Data] = iter(())
        if isinstance(fragments, AsyncIterable):
            self._awaited = aiter(fragments)
        else:
            self._items = iter(fragments)
        self._timeout = timeout

    def __aiter__(self) -> Pieces:
        return self

    async def __anext__(self) -> Data:
        self._begun = True
        if self._awaited is not None:
            return await anext(self._awaited)
        for item in self._items:
            return item
        raise StopAsyncIteration

    async def __aenter__(self) -> Pieces:
        return self

    async def __aexit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None or not self._begun:
            return
        if isinstance(self._items, Generator):
            self._items.close()
        aclose = getattr(self._awaited, "aclose", None)
        if aclose is None:
            return
        timer = asyncio.timeout(self._timeout)
        try:
            async with timer:
                await aclose()
        except TimeoutError:
            if not timer.expired():
                raise  # its own


class Link(Protocol):
    """
    One open WebSocket.

    `state` and `ending` are its only truth: `ending` is None exactly while
    `state` is OPEN.
    """

    state: State
    ending: Ending | None
    inbox: Inbox

    @property
    def task(self) -> asyncio.Task[None] | None: ...

    @property
    def stats(self) -> Stats: ...

    def count(self) -> tuple[int, int, int, int]:
        """Messages in and out, bytes in and out: `stats`, for many at a time."""
        ...

    @property
    def latency(self) -> float | None: ...

    @property
    def streams(self) -> tuple[asyncio.StreamReader | None, asyncio.StreamWriter | None]: ...

    def get_extra_info(self, name: str) -> Any: ...

    def wait(self, timeout: float | None) -> Awaitable[bool | None]:
        """Write what is held back, then wait for a message or the end; see `Inbox.wait`."""
        ...

    def send_nowait(self, data: Data, compress: bool | None) -> bool:
        """Send a short message if nobody has to wait for it; False if not: `send` it at once."""
        ...

    async def send(self, data: Data, compress: bool | None) -> None: ...

    async def send_fragments(self, fragments: Fragments, compress: bool | None) -> None: ...

    def write_frames(self, frames: Frames) -> bool:
        """Write a message made once; False if the peer is behind."""
        ...

    async def writable(self) -> None:
        """Wait until the peer keeps up, or the link has ended."""
        ...

    async def ping(self, timeout: float | None) -> float: ...

    def check_open(self) -> None:
        """Raise `ConnectionClosed` if it has ended, WebSocketRuntimeError if it never began."""
        ...

    def begin_stream(self) -> None: ...

    def end_stream(self) -> None: ...

    def begin_close(self, close: Close) -> None: ...

    async def wait_closed(self) -> None: ...

    def abort(self) -> None: ...

    def on_closed(self, callback: Callable[[], None]) -> None: ...
