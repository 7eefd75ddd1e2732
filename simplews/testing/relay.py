"""A relay between two real sockets: what each way does to the bytes that go through it.

A flow reads from one socket and writes to the other; a relay is the two flows of a
connection. What it passes on beside bytes is the end: a FIN is passed on as a FIN, a
reset as a reset, each behind the bytes before it.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import socket
import struct
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

__all__ = ["Relay", "Way", "set_to_reset", "tcp_pair"]

# Bytes of a read, and bytes that may be under way (with a delay, they wait here).
_READ = 65536
_UNDER_WAY = 1024 * 1024
# At a rate, bytes go out in so many pieces a second.
_SMOOTH = 50


@dataclass(eq=False, kw_only=True)
class Way:
    """
    What the network does to bytes that go one way.

    The attributes may be changed while it runs. Bytes are counted from the start of
    each connection, those of the opening handshake included.

    Attributes:
        delay: Seconds that each byte is under way.
        split: Cut what is written into pieces of so many bytes, which arrive one by
            one; or into pieces of these sizes, in turn and over again. None leaves
            it as it is.
        rate: Bytes per second; None for no limit.
        drop_after: Bytes that pass before the way becomes a black hole: what comes
            then is lost, an end of the connection included, and nobody is told. Soon
            it takes no more, as nothing is acknowledged.
        end_after: Bytes that pass before the connection ends with a FIN.
        reset_after: Bytes that pass before it ends with a RST, for both sides.
    """

    delay: float = 0.0
    split: int | Sequence[int] | None = None
    rate: float | None = None
    drop_after: int | None = None
    end_after: int | None = None
    reset_after: int | None = None
    _stalled: bool = field(default=False, init=False)
    _flows: set[_Flow] = field(default_factory=set, init=False, repr=False)

    def __post_init__(self) -> None:
        sizes = self._sizes()
        if not sizes or min(sizes) < 1:
            raise ValueError(f"split= is a number of bytes from 1 up, or several, not {self.split}")
        if self.delay < 0:
            raise ValueError(f"delay= must not be negative, not {self.delay}")
        if self.rate is not None and not self.rate > 0:
            raise ValueError(f"rate= must be positive, or None for no limit, not {self.rate}")

    def _sizes(self) -> Sequence[int]:
        if self.split is None:
            return (_READ,)
        return (self.split,) if isinstance(self.split, int) else self.split

    @property
    def lossy(self) -> bool:
        """Whether bytes do not arrive: it is a black hole, or stalled."""
        return self._stalled or self.drop_after is not None

    def stall(self) -> None:
        """Take no more bytes: the sender's writes pile up, as behind a peer that does not read."""
        self._stalled = True
        self._changed()

    def drop(self) -> None:
        """Lose everything from now on, an end of the connection included; nobody is told."""
        self.drop_after = 0
        self._changed()

    def end(self) -> None:
        """FIN, now: end this way of every open connection; the sender is not told."""
        for flow in list(self._flows):
            flow.end()

    def reset(self) -> None:
        """RST, now: reset every open connection, on both sides."""
        for flow in list(self._flows):
            flow.relay.reset()

    def heal(self) -> None:
        """Do nothing to the bytes from now on; what was lost stays lost."""
        self.delay = 0.0
        self.split = self.rate = None
        self.drop_after = self.end_after = self.reset_after = None
        self._stalled = False
        self._changed()

    def _changed(self) -> None:
        for flow in self._flows:
            flow.changed.set()


class _Flow:
    """
    Bytes that go one way of one connection.

    Args:
        way: What happens to them.
        source: The socket that they come from.
        sink: The socket that they go to.
        relay: Whose flow it is.

    Attributes:
        changed: Set when *way* has changed, or there is something new to see.
        broken: Whether the other side of *sink* has gone.
        done: Whether the source has ended, and all that came from it has been passed on.
    """

    def __init__(self, way: Way, source: socket.socket, sink: socket.socket, relay: Relay) -> None:
        self.way = way
        self.relay = relay
        self.changed = asyncio.Event()
        self.broken = False
        self.done = False
        self._source = source
        self._sink = sink
        self._loop = asyncio.get_running_loop()
        # When it is due, and what: bytes, b"" for a FIN, None for a reset.
        self._under_way: deque[tuple[float, bytes | None]] = deque()
        self._size = 0
        self._passed = 0
        self._lost = 0  # while it drops
        self._ended = False
        self._pieces = itertools.cycle(way._sizes())
        self._split = way.split

    async def run(self) -> None:
        """Carry bytes until the source has ended, and pass that on; a reset is the relay's."""
        self.way._flows.add(self)
        reading = asyncio.ensure_future(self._read())
        try:
            await self._write()
            self.done = True
            self.relay.notice()
        finally:
            self.way._flows.discard(self)
            reading.cancel()
            await asyncio.wait([reading])

    @property
    def _dropping(self) -> bool:
        return _reached(self.way.drop_after, self._passed)

    def _full(self) -> bool:
        """
        Whether nothing more is taken: enough is under way, or lost.

        A peer that is gone acknowledges nothing, so what is sent to it piles up in the end.
        """
        if not self._dropping:
            self._lost = 0
        return self._size + self._lost > _UNDER_WAY

    async def _change(self) -> None:
        """Wait for the next change."""
        self.changed.clear()
        await self.changed.wait()

    async def _read(self) -> None:
        data: bytes | None = b"-"
        while data:
            while self.way._stalled or self._full():
                await self._change()
            try:
                data = await self._loop.sock_recv(self._source, _READ)
            except OSError:
                data = None
            self._under_way.append((self._loop.time() + self.way.delay, data))
            self._size += len(data or b"")
            self.changed.set()

    async def _write(self) -> None:
        while True:
            if not self._under_way:
                await self._change()
                continue
            due, data = self._under_way[0]
            if due > self._loop.time():
                await asyncio.sleep(due - self._loop.time())
            while self.way._stalled:
                await self._change()
            self._under_way.popleft()
            self._size -= len(data or b"")
            self.changed.set()
            if data:
                for piece in self._cut(data):
                    await self._pass(piece)
            elif self._dropping:
                pass  # nobody is told
            elif data is None:
                self.relay.reset()
                return
            else:
                self.end()
                return

    def _cut(self, data: bytes) -> Iterator[memoryview]:
        """*data* in pieces: as `Way.split` says, at each of its thresholds, and smoothly."""
        rest = memoryview(data)
        while rest:
            way = self.way
            if self._split != way.split:
                self._split = way.split
                self._pieces = itertools.cycle(way._sizes())
            size = next(self._pieces)
            if way.rate is not None:
                size = min(size, max(1, int(way.rate / _SMOOTH)))
            for mark in (way.drop_after, way.end_after, way.reset_after):
                if mark is not None and mark > self._passed:
                    size = min(size, mark - self._passed)
            yield rest[:size]
            rest = rest[size:]

    async def _pass(self, piece: memoryview) -> None:
        way = self.way
        while way._stalled:
            await self._change()
        if self._dropping:
            self._lost += len(piece)
            return
        if not self._ended and not self.broken:
            try:
                await self._loop.sock_sendall(self._sink, piece)
            except OSError:
                self.broken = True
                self.relay.notice()
        self._passed += len(piece)
        if _reached(way.reset_after, self._passed):
            self.relay.reset()
            await asyncio.Event().wait()  # until the relay ends us
        if _reached(way.end_after, self._passed):
            self.end()
        if way.rate is not None:
            await asyncio.sleep(len(piece) / way.rate)
        elif way.split is not None:
            # The reader, on this loop, sees this piece before the next: the first turn
            # of the loop finds its socket ready, the second comes behind its read.
            await asyncio.sleep(0)
            await asyncio.sleep(0)

    def end(self) -> None:
        """FIN: the sink's side of the connection sees its end."""
        self._ended = True
        with contextlib.suppress(OSError):
            self._sink.shutdown(socket.SHUT_WR)


def _reached(mark: int | None, passed: int) -> bool:
    return mark is not None and passed >= mark


class Relay:
    """
    The two flows of a connection.

    Args:
        one: A connected socket, the client's side; it becomes ours.
        other: A connected socket, the server's side; it becomes ours.
        to_other: What happens to bytes from *one*.
        to_one: What happens to bytes from *other*.
    """

    def __init__(self, one: socket.socket, other: socket.socket, to_other: Way, to_one: Way):
        self._sockets = (one, other)
        for sock in self._sockets:
            sock.setblocking(False)
            # A piece is to leave when it is written.
            with contextlib.suppress(OSError):
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._flows = (
            _Flow(to_other, one, other, self),
            _Flow(to_one, other, one, self),
        )
        self._resetting = asyncio.Event()

    def reset(self) -> None:
        """RST, on both sides."""
        self._resetting.set()

    def notice(self) -> None:
        """Reset a side when the other is gone, and all that it had sent has been passed on."""
        there, back = self._flows
        if (there.broken and back.done) or (back.broken and there.done):
            self.reset()

    async def run(self) -> None:
        """Carry bytes both ways until the connection has ended; close both sockets."""
        carrying = asyncio.ensure_future(self._carry())
        resetting = asyncio.ensure_future(self._resetting.wait())
        tasks: list[asyncio.Task[Any]] = [carrying, resetting]
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            if carrying.done():
                carrying.result()
        finally:
            for task in tasks:
                task.cancel()
            ended = asyncio.gather(*tasks, return_exceptions=True)
            while not ended.done():  # also when whoever runs this is cancelled now, or twice
                with contextlib.suppress(asyncio.CancelledError):
                    await asyncio.shield(ended)
            for sock in self._sockets:
                if self._resetting.is_set():
                    set_to_reset(sock)
                sock.close()

    async def _carry(self) -> None:
        async with asyncio.TaskGroup() as group:
            for flow in self._flows:
                group.create_task(flow.run())


def set_to_reset(sock: socket.socket) -> None:
    """Let closing *sock* send a RST, where there is such a thing."""
    with contextlib.suppress(OSError):
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


def tcp_pair() -> tuple[socket.socket, socket.socket]:
    """Two ends of a TCP connection, on this machine."""
    with socket.create_server(("127.0.0.1", 0), backlog=1) as listener:
        one = socket.create_connection(listener.getsockname())
        try:
            while True:
                other, address = listener.accept()
                if address == one.getsockname():
                    return one, other
                other.close()  # somebody else was quicker
        except BaseException:
            one.close()
            raise
