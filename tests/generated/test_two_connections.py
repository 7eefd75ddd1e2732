"""
A client and a server of ours, with a network between them, and random operations on all three.

The model is what the network carried, read literally (`by_the_book`): what an
application receives is that, in order, once, up to the end that is recorded; and what
the network carried is what the other application sent, in each task's order.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import os
import socket
import tempfile
import traceback
from collections.abc import Coroutine
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any

import pytest
from by_the_book import Reader, Reading
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from simplews import AioClient, AioServer, ConnectionClosed, Deflate, WebSocketRuntimeError
from simplews.errors import ProtocolError
from simplews.types import Close, Ending

from ..clock import ClockLoop
from .network import Network

CLIENT, SERVER = 0, 1
NAMES = ("client", "server")

#: Virtual seconds in which every deadline passes: that of a ping, a close, a receive.
LONG = 45.0

# Below and above: the threshold of compression, what is sent at once, what is written
# in pieces, and (together) the marks of an inbox.
SHORT = [5000, 0, 5, 300, 5000, 10_000]
LARGE = [16_384, 16_385, 70_000, 300_000, 1_100_000]


@dataclass
class Sent:
    """A message that a task was to send."""

    data: str | bytes
    done: bool = False


@dataclass
class Partial:
    """What a task had of a message that it read in pieces when it was cancelled."""

    pieces: list[str | bytes]


@dataclass
class Side:
    """One application."""

    ws: Any
    sent: list[list[Sent]] = field(default_factory=list)  # by task
    done: list[Sent] = field(default_factory=list)  # in the order in which send() returned
    delivered: list[str | bytes | Partial] = field(default_factory=list)
    reader: asyncio.Task[None] | None = None
    streamed: bool = False
    closes: list[Close] = field(default_factory=list)
    aborted: bool = False
    at_close: int | None = None  # messages that had arrived when it called close()
    over: bool = False  # receive() has said so
    short: list[asyncio.Task[None]] = field(default_factory=list)  # sends and pings
    long: list[asyncio.Task[None]] = field(default_factory=list)  # sends of large messages

    @property
    def ending(self) -> Ending | None:
        ending: Ending | None = self.ws._link.ending
        return ending


sides = st.sampled_from([CLIENT, SERVER])
timeouts = st.sampled_from([None, None, 0, 0.5, 30])
compressions = st.sampled_from(
    [None, "deflate", Deflate(threshold=0), Deflate(context_takeover=False, window_bits=9)]
)
option_sets = st.fixed_dictionaries(
    {"write_limit": st.sampled_from([1, 1000, 65536])},
    optional={
        "compression": compressions,
        "max_queue": st.sampled_from([1, 2, (4, 1)]),
        "ping_interval": st.sampled_from([3, 20]),
        "close_timeout": st.sampled_from([0, 2]),
        "receive_bytes": st.sampled_from([1, 100]),
    },
)
messages = st.tuples(st.booleans(), st.sampled_from(SHORT))
batches = st.lists(messages, min_size=1, max_size=6)
closes = st.builds(
    Close, st.sampled_from([1000, 1001, 1011, 3000, 4999]), st.sampled_from(["", "bye", "tschüß €"])
)


class TwoConnections(RuleBasedStateMachine):
    """What one application sends the other receives, until one end, which both tell truly."""

    def __init__(self) -> None:
        super().__init__()
        self.loop = ClockLoop(patience=0)  # what one end of these sockets writes is there
        self.complaints: list[str] = []
        self.loop.set_exception_handler(self._complain)
        self.tasks: list[asyncio.Task[None]] = []
        self.made = 0  # messages, to tell them apart
        self.faults = False
        self.folder = tempfile.TemporaryDirectory()
        self.both: list[Side] = []

    # --------------------------------------------------------------- the machinery

    def _complain(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        error = context.get("exception")
        self.complaints.append(
            str(context) + "".join(traceback.format_exception(error) if error else ())
        )

    def run(self, coroutine: Coroutine[Any, Any, Any]) -> Any:
        """Run it, with a deadline, and what follows without the clock."""
        return self.loop.run_until_complete(asyncio.wait_for(coroutine, 1e6))

    async def settle(self) -> None:
        """Let the loop do what it can do without the clock."""
        for _ in range(12):
            await asyncio.sleep(0)

    def start(self, coroutine: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """An operation, which may wait as long as it likes."""
        task = self.loop.create_task(coroutine)
        self.tasks.append(task)
        self.run(self.settle())
        return task

    async def flow(self) -> None:
        """Carry everything both ways, until nothing moves any more."""
        quiet = 0
        while quiet < 3:
            moved = [way.carry() for way in self.network.ways]
            await self.settle()
            quiet = 0 if any(moved) else quiet + 1

    @initialize(client=option_sets, server=option_sets, small=st.sampled_from([True, True, False]))
    def open(self, client: dict[str, Any], server: dict[str, Any], small: bool) -> None:
        """The opening handshake, over the same network."""
        self.run(self._open(client, server, small))

    async def _open(self, client: dict[str, Any], server: dict[str, Any], small: bool) -> None:
        path = Path(self.folder.name) / "s"
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(str(path))
            listener.listen()
            listener.setblocking(False)
            url = f"ws+unix:{path}:/"
            connecting = asyncio.ensure_future(AioClient.connect(url, **client))
            ours, _ = await self.loop.sock_accept(listener)
        theirs, other = socket.socketpair()
        if small:  # the kernel takes little, so that writers wait
            theirs.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
        accepting = asyncio.ensure_future(AioServer.accept(sock=theirs, **server))
        self.network = Network(ours, other)
        while not (connecting.done() and accepting.done()):
            await self.flow()
        self.network.forget()
        self.both = [Side(await connecting), Side(await accepting)]
        if small:
            own = self.both[CLIENT].ws.wsock.transport.get_extra_info("socket")
            own.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)

    # -------------------------------------------------------------- what they send

    def make(self, text: bool, size: int) -> str | bytes:
        """A message like no other."""
        self.made += 1
        noise = base64.b64encode(Random(self.made).randbytes(size // 2)).decode()
        whole = f"{self.made}:é{noise}{'é' * (size // 8)}"  # some of it can be compressed
        return whole if text else whole.encode()

    @rule(side=sides, batch=batches, compress=st.sampled_from([None, None, True, False]))
    def send(self, side: int, batch: list[tuple[bool, int]], compress: bool | None) -> None:
        """A task of its own sends some messages, one behind the other."""
        sending = self._send(self.both[side], [self.make(*each) for each in batch], compress)
        self.both[side].short.append(self.start(sending))

    @rule(side=sides, size=st.sampled_from(LARGE), text=st.booleans())
    def send_large(self, side: int, size: int, text: bool) -> None:
        """The same for a long one."""
        sending = self._send(self.both[side], [self.make(text, size)], None)
        self.both[side].long.append(self.start(sending))

    async def _send(
        self, side: Side, batch: list[str | bytes], compress: bool | None, parts: int = 0
    ) -> None:
        sent = [Sent(data) for data in batch]
        side.sent.append(sent)
        try:
            for each in sent:
                if parts:
                    step = len(each.data) // parts + 1
                    cuts = range(0, len(each.data), step)
                    pieces = [each.data[at : at + step] for at in cuts]
                    await side.ws.send(self._slowly(pieces), compress=compress)
                else:
                    await side.ws.send(each.data, compress=compress)
                each.done = True
                side.done.append(each)
        except ConnectionClosed as exc:
            assert exc.ending is side.ending

    async def _slowly(self, pieces: list[Any]) -> Any:
        for piece in pieces:
            yield piece
            await asyncio.sleep(0.1)

    @rule(
        side=sides,
        message=st.tuples(st.booleans(), st.sampled_from([*SHORT, *LARGE[:3]])),
        parts=st.integers(1, 4),
        compress=st.sampled_from([None, True, False]),
    )
    def send_fragments(
        self, side: int, message: tuple[bool, int], parts: int, compress: bool | None
    ) -> None:
        """One message in fragments, some time apart."""
        sending = self._send(self.both[side], [self.make(*message)], compress, parts)
        self.both[side].long.append(self.start(sending))

    # ----------------------------------------------------------- what they receive

    def free(self, side: int) -> bool:
        """Whether no task receives; if one does, a second one is told so."""
        reader = self.both[side].reader
        if reader is None or reader.done():
            return True
        self.run(self._second(self.both[side]))
        return False

    async def _second(self, side: Side) -> None:
        with contextlib.suppress(WebSocketRuntimeError, ConnectionClosed):
            message = await side.ws.receive(0)
            # The first one has been woken, and has not run yet.
            assert message is None or side.reader is None or side.reader.done(), message

    @rule(side=sides, timeout=timeouts, count=st.integers(1, 5))
    def receive(self, side: int, timeout: float | None, count: int) -> None:
        """A task receives, and goes on receiving."""
        if self.free(side):
            self.both[side].reader = self.start(self._receive(self.both[side], timeout, count))

    async def _receive(self, side: Side, timeout: float | None, count: int) -> None:
        try:
            for _ in range(count):
                began = self.loop.time()
                message = await side.ws.receive(timeout)
                if message is None:
                    assert timeout is not None and self.loop.time() >= began + timeout - 1e-6
                    return
                side.delivered.append(message)
        except ConnectionClosed as exc:
            assert exc.ending is side.ending
            side.over = True

    @rule(side=sides)
    def receive_stream(self, side: int) -> None:
        """A task receives a message in pieces."""
        if self.free(side):
            self.both[side].reader = self.start(self._receive_stream(self.both[side]))

    async def _receive_stream(self, side: Side) -> None:
        side.streamed = True
        pieces: list[Any] = []
        try:
            async with contextlib.aclosing(side.ws.receive_stream()) as stream:
                async for piece in stream:
                    pieces.append(piece)
        except ConnectionClosed as exc:
            assert exc.ending is side.ending
            side.delivered.append(Partial(pieces))
        except asyncio.CancelledError:
            side.delivered.append(Partial(pieces))
            raise
        else:
            side.delivered.append(pieces[0][:0].join(pieces))

    # ---------------------------------------------------------------- other things

    @rule(side=sides, timeout=st.sampled_from([None, 1]))
    def ping(self, side: int, timeout: float | None) -> None:
        """A round trip."""
        self.both[side].short.append(self.start(self._ping(self.both[side], timeout)))

    async def _ping(self, side: Side, timeout: float | None) -> None:
        began = self.loop.time()
        try:
            assert await side.ws.ping(timeout) >= 0
        except TimeoutError:
            assert self.loop.time() >= began + (timeout or 1) - 1e-6
        except ConnectionClosed as exc:
            assert exc.ending is side.ending

    @rule(side=sides)
    def wait_closed(self, side: int) -> None:
        """Somebody waits for the end."""
        self.start(self._wait_closed(self.both[side]))

    async def _wait_closed(self, side: Side) -> None:
        await side.ws.wait_closed()
        assert side.ending is not None

    @precondition(lambda self: self.tasks)
    @rule(which=st.integers(0, 1000))
    def cancel(self, which: int) -> None:
        """Any operation that has begun is cancelled."""
        pending = [task for task in self.tasks if not task.done()]
        if pending:
            pending[which % len(pending)].cancel()
            self.run(self.settle())

    @rule(seconds=st.sampled_from([0.05, 1, 10, 60]))
    def wait(self, seconds: float) -> None:
        """Time passes, and nothing is carried."""
        self.run(asyncio.sleep(seconds))

    @rule(way=sides, which=st.integers(0, 1000), seconds=st.sampled_from([0, 0.5, 1, 30]))
    def race(self, way: int, which: int, seconds: float) -> None:
        """Bytes arrive at the moment in which an operation is cancelled, or its time is over."""
        self.network.ways[way].carry()
        if seconds:
            self.loop.block(seconds)
        pending = [task for task in self.tasks if not task.done()]
        if pending and not seconds:
            pending[which % len(pending)].cancel()
        self.run(self.settle())

    # ------------------------------------------------------------------ the network

    @rule(way=sides, most=st.sampled_from([1, 2, 7, 100, 5000, 1 << 18]))
    def carry(self, way: int, most: int) -> None:
        """Some bytes arrive."""
        self.network.ways[way].carry(most)
        self.run(self.settle())

    @rule()
    def carry_all(self) -> None:
        """All bytes arrive, also those that are written meanwhile."""
        self.run(self.flow())

    # ---------------------------------------------------------------------- the end

    @rule(side=sides, close=closes, odds=st.integers(0, 2))
    def close(self, side: int, close: Close, odds: int) -> None:
        """An application closes; not too often."""
        if odds == 0:
            self.start(self._close(self.both[side], close))

    async def _close(self, side: Side, close: Close) -> None:
        if side.ending is None:
            side.closes.append(close)
            side.at_close = side.ws.stats.messages_in
        await side.ws.close(close.code, close.reason)
        assert side.ws.connection_state.name == "CLOSED"

    @rule(side=sides, odds=st.integers(0, 5))
    def abort(self, side: int, odds: int) -> None:
        """An application drops its connection; seldom."""
        if odds == 0:
            self.faults = self.both[side].aborted = True
            self.run(self._abort(self.both[side]))

    async def _abort(self, side: Side) -> None:
        side.ws.abort()
        await self.settle()

    @rule(way=sides, odds=st.integers(0, 5), reset=st.booleans())
    def break_network(self, way: int, odds: int, reset: bool) -> None:
        """The network ends one way, or both at once; seldom."""
        if odds == 0:
            self.faults = True
            if reset:
                for each in self.network.ways:
                    each.reset()
            else:
                self.network.ways[way].cut()
            self.run(self.settle())

    # -------------------------------------------------------------------- the model

    @invariant()
    def nobody_complains(self) -> None:
        """No operation fails in a way that is not documented, nor does a callback."""
        assert not self.complaints, "\n".join(self.complaints)
        for task in self.tasks:
            if task.done() and not task.cancelled() and task.exception() is not None:
                raise AssertionError(f"{task} failed") from task.exception()

    @invariant()
    def who_waits_is_woken(self) -> None:
        """After the end nobody waits for a message, a Pong or room."""
        for side in self.both:
            if side.ending is None:
                continue
            if side.reader is not None and not side.reader.done():
                # What it has not read yet is still coming: its own inbox was full.
                assert not side.ws._inbox.ended, side.ws.explain()
            if any(not task.done() for task in side.long):
                continue  # a frame whose first bytes are out is completed, and others wait for it
            assert all(task.done() for task in side.short), side.ws.explain()

    def teardown(self) -> None:
        try:
            if self.both:
                self.run(self._finish())
        finally:
            for task in asyncio.all_tasks(self.loop):
                task.cancel()
            self.loop.run_until_complete(self.settle())
            if self.both:
                self.network.close()
            self.loop.close()
            self.folder.cleanup()

    async def _finish(self) -> None:
        """Carry, receive and close, until all is over; then look at it."""
        await self._read_all()
        if not self.faults and not any(side.ending for side in self.both):
            # Nothing has ended: then everything has arrived.
            for number, side in enumerate(self.both):
                wire = self.read(number).messages
                assert len(wire) == len(side.delivered) or side.streamed
                carried = set(map(id_of, wire))
                assert {id_of(each.data) for each in self.both[1 - number].done} <= carried
        client = self.both[CLIENT]
        self.tasks.append(asyncio.ensure_future(self._close(client, Close(1000, ""))))
        await self._read_all()
        for way in self.network.ways:
            if not way.broken and not way.ended:
                way.cut()
        await self._read_all()
        for task in self.tasks:
            if not task.done():
                raise AssertionError(f"still waits: {task}; {[s.ws for s in self.both]}")
        self.nobody_complains()
        for number, side in enumerate(self.both):
            await side.ws.wait_closed()
            wire = self.read(number)
            self.check_delivered(side, wire, self.network.ways[number].broken)
            self.check_carried(self.both[1 - number], wire)
            self.check_ending(side, wire)
        self.check_both_endings()
        left = asyncio.all_tasks() - {asyncio.current_task()}
        # `wait_for` may run this in a task of its own.
        assert len(left) <= 1, left

    async def _read_all(self) -> None:
        """Everything arrives and is received, and whatever has a timeout comes to it."""
        self.loop.when_idle(lambda: any(way.carry() for way in self.network.ways))
        before = None
        while before != (now := self._progress()):
            before = now
            for side in self.both:
                if not side.over and (side.reader is None or side.reader.done()):
                    side.reader = asyncio.ensure_future(self._receive(side, None, 1 << 30))
                    self.tasks.append(side.reader)
            await asyncio.sleep(LONG)
        self.loop.when_idle(None)

    def _progress(self) -> list[int]:
        """What grows while anything goes on."""
        done = [len(side.done) + len(side.delivered) for side in self.both]
        return [*done, sum(task.done() for task in self.tasks)]

    def read(self, number: int) -> Reading:
        """What the network carried to an end, read literally."""
        carried = bytes(self.network.ways[number].carried)
        reading = Reader(number == SERVER, None, 15).read(carried)
        assert reading.code is None, f"the peer of the {NAMES[number]} broke a rule: {reading.code}"
        return reading

    def check_delivered(self, side: Side, wire: Reading, broken: bool) -> None:
        """Delivered is what was carried, in order, once; all of it, unless it ended here."""
        expected = list(wire.messages)
        for index, got in enumerate(side.delivered):
            if isinstance(got, Partial):
                if not expected:
                    # It began, and its end was not carried any more.
                    assert all(isinstance(each, Partial) for each in side.delivered[index:])
                    break
                if got.pieces and index < len(side.delivered) - 1:
                    whole = expected.pop(0)
                    part = got.pieces[0][:0].join(got.pieces)
                    assert whole[: len(part)] == part
                elif expected and index < len(side.delivered) - 1:
                    # It had nothing of it yet; then the next one is either that message, or
                    # its beginning had arrived.
                    following = side.delivered[index + 1]
                    if not isinstance(following, Partial) and following != expected[0]:
                        expected.pop(0)
                continue
            assert expected and got == expected.pop(0), f"message {index} is another one"
        ending = side.ending
        assert ending is not None
        if ending.by == "us" or side.aborted:
            if side.at_close is not None and not side.streamed:
                assert len(side.delivered) >= side.at_close
        elif not broken and not side.streamed:
            assert not expected, f"{len(expected)} messages were lost: {ending}"

    def check_carried(self, sender: Side, wire: Reading) -> None:
        """Carried is what was sent: in each task's order, and all that `send` was done with."""
        places = {id_of(data): place for place, data in enumerate(wire.messages)}
        assert len(places) == len(wire.messages), "a message was sent twice"
        known = {id_of(each.data): each for batch in sender.sent for each in batch}
        for data in wire.messages:
            assert known[id_of(data)].data == data, "a message was changed"
        for batch in sender.sent:
            order = [places[id_of(each.data)] for each in batch if id_of(each.data) in places]
            assert order == sorted(order), "a task's messages changed places"
        arrived = [id_of(each.data) in places for each in sender.done]
        assert arrived == sorted(arrived, reverse=True), "one is missing among those sent"
        order = [places[id_of(each.data)] for each in sender.done if id_of(each.data) in places]
        assert order == sorted(order), "send() returned in another order"
        if wire.controls and wire.controls[-1][0] == 8:
            assert all(arrived), "a message that was sent before the Close is missing"

    def check_ending(self, side: Side, wire: Reading) -> None:
        """Its code and reason are those of the Close that came first."""
        ending = side.ending
        assert ending is not None and not isinstance(ending.cause, ProtocolError), ending
        came = None
        if wire.controls and wire.controls[-1][0] == 8:
            payload = wire.controls[-1][1]
            came = Close(int.from_bytes(payload[:2], "big"), payload[2:].decode())
        if ending.by == "peer":
            assert ending.received == came
            assert ending.sent is not None and ending.sent.code == ending.received.code
        elif ending.by == "us":
            assert ending.received in (None, came)
            assert ending.sent is not None
            ours = ending.sent in side.closes[:1]
            assert ours or (ending.sent.code == 1011 and ending.why), ending
        else:
            assert self.faults or ending.why
            assert ending.sent is None and ending.received is None
        first = {"peer": ending.received, "us": ending.sent}.get(ending.by)
        code, reason = (first.code, first.reason) if first is not None else (1006, ending.why)
        assert (side.ws.close_code, side.ws.close_reason) == (code, reason)
        normal = code in (1000, 1001) and not ending.unanswered
        assert (side.ws.exception() is None) == normal
        assert not side.ws.connected and side.ws.connection_state.name == "CLOSED"

    def check_both_endings(self) -> None:
        """If one says that the other closed, then that one says so, too, with the same code."""
        for side, peer in zip(self.both, reversed(self.both), strict=True):
            mine, theirs = side.ending, peer.ending
            assert mine is not None and theirs is not None
            if mine.by == "peer":
                assert theirs.by == "us", (mine, theirs)
                assert mine.received == theirs.sent


def id_of(data: object) -> int:
    """The number of a message."""
    head = data if isinstance(data, str) else bytes(data).decode()  # type: ignore[arg-type]
    return int(head.partition(":")[0])


# On a slow machine; and in the long run, none.
_DEADLINE = 0 if os.environ.get("HYPOTHESIS_PROFILE") == "long" else 170
TestTwoConnections = pytest.mark.timeout(_DEADLINE)(TwoConnections.TestCase)
TestTwoConnections.settings = settings(stateful_step_count=30)
