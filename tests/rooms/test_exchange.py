"""What is between `Rooms` and an engine: holes, deafness, bounds. The engine is in memory."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from typing import Any

import pytest

from simplews import BackendUnavailable, BroadcastResult, Rooms
from simplews.link.base import Frames
from simplews.rooms import Gap, History, Memory, Position
from simplews.rooms.backend import Lost, Outgoing, Page
from simplews.rooms.envelope import Kind, pack, unpack

from ..peer import TEXT, opened, settled

HISTORY = History(length=50, age=60)


class Lossy(Memory):
    """
    An engine that can lose messages, be deaf, and be away.

    Attributes:
        lose: Whether an envelope does not arrive at this end.
        away: Whether it is away.
        made_again: How often it was asked for another connection.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.lose: Callable[[Any], bool] = lambda envelope: False
        self._there = asyncio.Event()
        self._there.set()
        self.made_again = 0
        self._lost: Callable[[Lost], None] = lambda lost: None

    def start(self, deliver: Any, lost: Callable[[Lost], None]) -> None:
        def through(topic: str, data: bytes, *more: Any) -> None:
            if not self.lose(unpack(data)):
                deliver(topic, data, *more)

        self._lost = lost
        super().start(through, lost)

    def go(self) -> None:
        self._there.clear()

    def come(self) -> None:
        self._there.set()

    @property
    def connected(self) -> bool:
        return self._there.is_set()

    async def wait_connected(self) -> None:
        await self._there.wait()

    async def publish(self, batch: Sequence[Outgoing]) -> Sequence[Exception | None]:
        if not self._there.is_set():
            raise BackendUnavailable("away")
        return await super().publish(batch)

    def reconnect(self, topic: str, reason: str) -> None:
        self.made_again += 1
        self.lose = lambda envelope: False
        self._lost(Lost(0.0, reason))


def number(n: int) -> Callable[[Any], bool]:
    """Loses the message with this text."""
    return lambda envelope: envelope.kind is Kind.TEXT and envelope.payload == b"%d" % n


async def pass_time(seconds: float) -> None:
    """Let the clock, which jumps, be so much later."""
    loop = asyncio.get_running_loop()
    later = loop.create_future()
    loop.call_later(seconds, later.set_result, None)
    await later


async def numbers(peer: Any, count: int) -> list[int]:
    found = []
    for _ in range(count):
        frame = await peer.frame()
        assert frame is not None and frame[0] == TEXT
        found.append(int(frame[1]))
    return found


async def test_a_hole_in_the_sequence_is_a_gap() -> None:
    gaps: list[Gap] = []
    near = Memory()
    far = Lossy(beside=near)
    async with Rooms(near) as one, Rooms(far, on_gap=gaps.append) as two, opened() as (ws, peer):
        await two.join("room", ws)
        far.lose = number(2)
        for n in range(5):
            await one.broadcast("room", str(n))
        assert await numbers(peer, 4) == [0, 1, 3, 4]
        (gap,) = gaps
        assert gap.room == "room" and gap.since <= gap.until
        assert "1 messages of process" in gap.reason


async def test_the_last_message_is_missed_too() -> None:
    """Nothing comes after it but the heartbeat's mark."""
    gaps: list[Gap] = []
    near = Memory()
    far = Lossy(beside=near)
    async with Rooms(near) as one, Rooms(far, on_gap=gaps.append) as two, opened() as (ws, peer):
        await two.join("room", ws)
        far.lose = number(3)
        for n in range(4):
            await one.broadcast("room", str(n))
        assert await numbers(peer, 3) == [0, 1, 2]
        assert not gaps
        await pass_time(11)
        assert len(gaps) == 1


@pytest.mark.parametrize("lost", [0, 2, 4], ids=["first", "middle", "last"])
async def test_with_history_a_hole_is_filled(lost: int) -> None:
    near = Memory(HISTORY)
    far = Lossy(beside=near)
    gaps: list[Gap] = []
    async with Rooms(near) as one, Rooms(far, on_gap=gaps.append) as two, opened() as (ws, peer):
        await two.join("room", ws)
        await one.broadcast("room", "100")
        far.lose = number(lost)
        for n in range(5):
            await one.broadcast("room", str(n))
        assert await numbers(peer, 6) == [100, 0, 1, 2, 3, 4]
    assert not gaps


async def test_with_history_a_hole_that_is_too_old_is_a_gap() -> None:
    near = Memory(HISTORY)
    far = Lossy(beside=near)
    gaps: list[Gap] = []
    async with Rooms(near) as one, Rooms(far, on_gap=gaps.append) as two, opened() as (ws, peer):
        await two.join("room", ws)
        far.lose = lambda envelope: envelope.kind is Kind.TEXT
        for n in range(60):
            await one.broadcast("room", str(n))
        far.lose = lambda envelope: False
        await one.broadcast("room", "60")
        # What is left of it is given all the same.
        assert await numbers(peer, 50) == list(range(11, 61))
    assert ["does not reach back" in gap.reason for gap in gaps] == [True]


async def test_what_cannot_be_read_keeps_nobody_from_resuming() -> None:
    """It is left out, as it was for those who were there."""
    backend = Memory(HISTORY)
    async with Rooms(backend) as rooms, opened() as (ws, _), opened() as (again, peer):
        joined = await rooms.join("room", ws)
        await rooms.broadcast("room", "1")
        text = pack(Kind.TEXT, bytes(8), 1, b"\xff")  # no UTF-8
        await backend.publish([Outgoing("room", data, True) for data in (b"junk", text)])
        await rooms.broadcast("room", "2")
        result = await rooms.join("room", again, since=joined.position)
        assert (result.recovered, result.gap) == (2, None)
        assert await numbers(peer, 2) == [1, 2]


async def test_a_deaf_subscription_is_found_by_the_heartbeat() -> None:
    gaps: list[Gap] = []
    near = Memory()
    far = Lossy(beside=near)
    options: dict[str, Any] = {"heartbeat_interval": 30.0, "heartbeat_timeout": 10.0}
    async with Rooms(near) as one, opened() as (ws, peer):
        async with Rooms(far, on_gap=gaps.append, **options) as two:
            await two.join("room", ws)
            await pass_time(100)
            assert far.made_again == 0
            far.lose = lambda envelope: True
            await one.broadcast("room", "1")
            await pass_time(41)
            assert far.made_again == 1
            assert [gap.reason for gap in gaps] == [
                "a heartbeat did not come back within 10.0 seconds"
            ]
            await one.broadcast("room", "2")
            assert await numbers(peer, 1) == [2]
            await pass_time(100)
            assert far.made_again == 1


class Slow(Memory):
    """An engine that takes longer, for what is sent while *late* is a list, than anybody waits."""

    late: list[Outgoing] | None = None

    async def publish(self, batch: Sequence[Outgoing]) -> Sequence[Exception | None]:
        if self.late is None:
            return await super().publish(batch)
        self.late += batch
        raise BackendUnavailable("no answer")


@pytest.mark.parametrize("history", [None, HISTORY], ids=["live", "history"])
async def test_a_message_given_up_that_arrives_late_is_no_gap_and_hides_nothing(
    history: History | None,
) -> None:
    """The kernel, say, still had it when the connection to the engine was made again."""
    gaps: list[Gap] = []
    near = Slow(history)
    far = Memory(beside=near)
    async with Rooms(near) as one, Rooms(far, on_gap=gaps.append) as two, opened() as (ws, peer):
        await two.join("room", ws)
        for n in range(4):
            await one.broadcast("room", str(n))
        near.late = late = []
        with pytest.raises(BackendUnavailable):
            await one.broadcast("room", "100")
        near.late = None
        await one.broadcast("room", "4")
        await near.publish(late)
        for n in range(5, 10):
            await one.broadcast("room", str(n))
        got = await numbers(peer, 10 if history is None else 11)
        assert [n for n in got if n != 100] == list(range(10))
    assert not gaps


async def test_the_first_message_after_one_that_was_given_up_is_missed_too() -> None:
    gaps: list[Gap] = []
    near = Slow()
    far = Lossy(beside=near)
    async with Rooms(near) as one, Rooms(far, on_gap=gaps.append) as two, opened() as (ws, peer):
        await two.join("room", ws)
        for n in range(4):
            await one.broadcast("room", str(n))
        near.late = []
        with pytest.raises(BackendUnavailable):
            await one.broadcast("room", "100")
        near.late = None
        far.lose = number(4)
        for n in range(4, 8):
            await one.broadcast("room", str(n))
        assert await numbers(peer, 7) == [0, 1, 2, 3, 5, 6, 7]
    assert len(gaps) == 1


async def test_who_joined_and_left_while_the_engine_was_not_heard_is_asked_again() -> None:
    """Nothing else would ever tell: a process speaks of its members as they come and go."""
    near = Memory()
    far = Lossy(beside=near)
    changes: list[tuple[bool, str]] = []
    options: dict[str, Any] = {"heartbeat_interval": 30.0, "heartbeat_timeout": 10.0}
    async with (
        Rooms(near, presence=True, **options) as one,
        Rooms(
            far,
            on_gap=lambda gap: None,
            on_presence=lambda change: changes.append((change.joined, change.member.id)),
            **options,
        ) as two,
        opened() as (a, _),
        opened() as (b, _),
        opened() as (c, _),
    ):
        await two.join("room", a, id="here")
        await one.join("room", b, id="leaves")
        assert {p.id for p in await two.who("room", timeout=60)} == {"here", "leaves"}
        far.lose = lambda envelope: True
        await one.leave("room", b)
        await one.join("room", c, id="comes")
        await pass_time(41)
        assert far.made_again == 1
        assert {p.id for p in await two.who("room", timeout=60)} == {"here", "comes"}
        assert changes == [(True, "here"), (True, "leaves"), (False, "leaves"), (True, "comes")]


async def test_who_is_there_is_asked_until_it_is_answered() -> None:
    """Questions and answers wait in the queue with the rest, and can be too many for it."""
    near = Memory()
    far = Lossy(beside=near)
    names = [f"room {n}" for n in range(9)]
    options: dict[str, Any] = {"presence": True, "max_pending": 2, "heartbeat_interval": 5.0}
    async with (
        Rooms(near, **options) as one,
        Rooms(far, on_gap=lambda gap: None, **options) as two,
        opened() as (a, _),
        opened() as (b, _),
    ):
        for name in names:
            await two.join(name, a, id="here")
        far.lose = lambda envelope: True
        for name in names:
            await one.join(name, b, id="comes")
            await settled()
        far.reconnect("", "it was deaf")
        await pass_time(60)
        for name in names:
            assert [p.id for p in await two.who(name)] == ["here", "comes"], name


async def test_an_engine_that_is_away_raises_in_time() -> None:
    backend = Lossy()
    async with Rooms(backend, publish_timeout=3.0) as rooms, opened() as (ws, peer):
        await rooms.join("room", ws)
        backend.go()
        began = asyncio.get_running_loop().time()
        with pytest.raises(BackendUnavailable, match=r"no engine within 3.0 seconds"):
            await rooms.broadcast("room", "1")
        assert asyncio.get_running_loop().time() == pytest.approx(began + 3)
        assert not rooms.connected
        backend.come()
        # It was not sent, and nobody has it, nor is it missed.
        assert await rooms.broadcast("room", "2") == BroadcastResult(1, 0, 0)
        assert await numbers(peer, 1) == [2]


async def test_what_comes_behind_an_announcement_raises_in_time_too() -> None:
    """An announcement, of who is there, waits for the engine without a deadline."""
    backend = Lossy()
    rooms = Rooms(backend, publish_timeout=3.0, presence=True, heartbeat_interval=1000)
    async with rooms, opened() as (ws, _), opened() as (other, _):
        await rooms.join("room", ws)
        backend.go()
        await rooms.join("room", other)
        await asyncio.sleep(1)
        began = asyncio.get_running_loop().time()
        with pytest.raises(BackendUnavailable, match=r"no engine within 3.0 seconds"):
            await rooms.broadcast("room", "1")
        assert asyncio.get_running_loop().time() == pytest.approx(began + 3)


async def test_an_engine_that_comes_back_in_time_is_waited_for() -> None:
    backend = Lossy()
    async with Rooms(backend, publish_timeout=3.0) as rooms, opened() as (ws, peer):
        await rooms.join("room", ws)
        backend.go()
        asyncio.get_running_loop().call_later(2, backend.come)
        await asyncio.gather(*(rooms.broadcast("room", str(n)) for n in range(10)))
        assert await numbers(peer, 10) == list(range(10))


async def test_messages_wait_for_an_engine_that_is_away() -> None:
    """With ``when_away="queue"``, up to a bound."""
    near, gaps = Lossy(), []
    async with Rooms(near, when_away="queue", max_pending=5, heartbeat_interval=1000) as one:
        async with Rooms(Memory(beside=near), on_gap=gaps.append) as two, opened() as (ws, peer):
            await two.join("room", ws)
            await pass_time(1)
            near.go()
            for n in range(5):
                await one.broadcast("room", str(n))
            with pytest.raises(BackendUnavailable, match="5 messages, 5 bytes, already wait"):
                await one.broadcast("room", "5")
            await pass_time(1000)
            near.come()
            assert await numbers(peer, 5) == list(range(5))
    assert not gaps


async def test_what_is_cancelled_before_it_is_sent_is_not_sent() -> None:
    backend = Lossy()
    async with Rooms(backend) as rooms, opened() as (ws, peer):
        await rooms.join("room", ws)
        backend.go()
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(1):
                await rooms.broadcast("room", "1")
        backend.come()
        await rooms.broadcast("room", "2")
        assert await numbers(peer, 1) == [2]


async def test_a_refused_argument_changes_nothing() -> None:
    for wrong in (
        {"max_pending": 0},
        {"when_away": "later"},
        {"heartbeat_interval": 0},
        {"heartbeat_timeout": -1},
        {"publish_timeout": 0},
    ):
        with pytest.raises(ValueError, match=next(iter(wrong))):
            Rooms(Memory(), **wrong)  # type: ignore[arg-type]
    async with Rooms(Memory()) as rooms, opened() as (ws, _):
        for since in ("", "x", "x.", ".1", "x.-1", "x.1" + "0" * 99):
            with pytest.raises(ValueError, match="a position is"):
                rooms.join("room", ws, since=since)
        with pytest.raises(TypeError, match="a key is None, str, bytes or int"):
            await rooms.broadcast("room", "x", key=(1, 2))
        with pytest.raises(ValueError, match="an id has 1 to 255"):
            rooms.join("room", ws, id="")
        with pytest.raises(ValueError, match="an info has at most 1024"):
            rooms.join("room", ws, info="x" * 1025)


async def test_one_process_alone_can_say_who_is_there() -> None:
    rooms = Rooms()
    async with opened() as (ws, _):
        async with rooms.join("room", ws, id="a", info="Ann") as joined:
            assert (joined.position, joined.recovered, joined.gap) == (None, 0, None)
            assert [(p.id, p.info) for p in await rooms.who("room")] == [("a", "Ann")]
        again = await rooms.join("room", ws, since="e.1")
        assert again.gap is not None and again.gap.reason == "there is no history"


async def test_a_wrap_that_fails_closes_its_members_only() -> None:
    def wrap(frames: Frames, position: Position | None) -> Frames:
        raise RuntimeError("wrapped wrongly")

    for rooms in (Rooms(), Rooms(Memory()), Rooms(Memory(HISTORY))):
        async with rooms, opened() as (a, _), opened() as (b, peer):
            await rooms.join("room", a, wrap=wrap)
            await rooms.join("room", b)
            assert await rooms.broadcast("room", "1") == BroadcastResult(1, 0, 1)
            assert not a.connected
            assert await numbers(peer, 1) == [1]


class Busy(Memory):
    """An engine that does something else while a history is read."""

    meanwhile: Callable[[], Coroutine[Any, Any, object]] | None = None

    async def read(self, *args: Any) -> Page:
        page = await super().read(*args)
        if self.meanwhile is not None:
            meanwhile, self.meanwhile = self.meanwhile, None
            await meanwhile()
        return page


async def test_a_wrap_that_fails_at_the_end_of_a_join_leaves_no_member() -> None:
    """The room has grown while the history was read, and its last message is too much."""

    def wrap(frames: Frames, position: Position | None) -> Frames:
        if frames.data == "2":
            raise RuntimeError("wrapped wrongly")
        return frames

    backend = Busy(HISTORY)
    async with Rooms(backend) as rooms, opened() as (a, peer), opened() as (b, _):
        joined = await rooms.join("room", a)
        await rooms.broadcast("room", "1")
        backend.meanwhile = lambda: rooms.broadcast("room", "2")
        with pytest.raises(RuntimeError, match="wrapped wrongly"):
            await rooms.join("room", b, since=joined.position, wrap=wrap)
        assert rooms.presence("room") == (a,)
        # Nor is the room forgotten, which has a member.
        await rooms.leave("room", b)
        await settled()
        assert await rooms.broadcast("room", "3") == BroadcastResult(1, 0, 0)
        assert await numbers(peer, 3) == [1, 2, 3]


async def test_one_connection_has_one_id() -> None:
    rooms = Rooms()
    async with opened() as (ws, _):
        await rooms.join("one", ws, id="a")
        await rooms.join("two", ws, id="a")
        await rooms.join("three", ws)
        with pytest.raises(ValueError, match="already a member of rooms as 'a', not 'b'"):
            await rooms.join("four", ws, id="b")
