"""Redis and Valkey: Pub/Sub for each room, and a Stream where there is a history.

A node is one server: two connections, one to hear and one to speak. Without a
cluster there is one node. On a cluster each room is on one of them, Pub/Sub too
(sharded Pub/Sub, Redis 7): a message crosses no other node.

redis-py makes and speaks its connections; that they come back after a failure is
done here, because each time is a gap that must be told.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib
import logging
import math
import random
import secrets
import time
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

from ..errors import BackendUnavailable
from .backend import Deliver, History, Lost, Outgoing, Page, Position
from .envelope import HEARTBEAT
from .tasks import end_tasks

__all__ = ["Redis"]

_log = logging.getLogger("simplews.rooms")

# Seconds before it is tried again: doubled from the first to the second.
_FIRST_DELAY, _LAST_DELAY = 0.05, 2.0
# On a cluster: so long may it go unnoticed that a replica has taken a node's place.
_CLUSTER_DELAY = 0.5
# Names in one SUBSCRIBE.
_CHUNK = 500
# What the offset jumps by when the server is another one than last time. Its memory
# may be older than what it has told: no offset is given twice.
_JUMP = 1_000_000
# In the arguments of a script: what is known when it is sent.
_RUN, _KEEPS = object(), object()
# Bytes of a history that are read at once.
_PAGE_BYTES = 1 << 20
# Milliseconds that a room is remembered after its last message, without the messages.
_MEMORY = 7 * 24 * 3600 * 1000

# A server that is another one than last time may have lost the end of what the last one
# accepted: one that was started again and does not write everything down at once, or a
# replica that has taken a master's place. Then the chain of offsets is broken there, as
# if the one before the next had been lost: whoever reads across it sees that.

# KEYS: the stream, the room's memory. ARGV: envelope, length, age (ms), an epoch if
# there is none, the server's run id, channel, PUBLISH or SPUBLISH, memory (ms), jump,
# 1 if the server keeps everything.
# Adding and publishing are one step, so that the order is the same in both.
_ADD = """
local memory = redis.call('HMGET', KEYS[2], 'epoch', 'offset', 'run')
local epoch, last = memory[1], tonumber(memory[2] or '0')
local offset = last + 1
if not epoch then
  epoch = ARGV[4]
elseif memory[3] ~= ARGV[5] then
  offset = offset + tonumber(ARGV[9])
  if ARGV[10] ~= '1' then last = offset - 1 end
end
last, offset = string.format('%.0f', last), string.format('%.0f', offset)
redis.call('HSET', KEYS[2], 'epoch', epoch, 'offset', offset, 'run', ARGV[5])
redis.call('PEXPIRE', KEYS[2], ARGV[8])
local clock = redis.call('TIME')
local now = clock[1] * 1000 + math.floor(clock[2] / 1000)
redis.call('XADD', KEYS[1], 'MAXLEN', '~', ARGV[2], offset .. '-0',
  'last', last, 'at', string.format('%.0f', now), 'envelope', ARGV[1])
redis.call('PEXPIRE', KEYS[1], ARGV[3])
local oldest = now - tonumber(ARGV[3])
local first = redis.call('XRANGE', KEYS[1], '-', '+', 'COUNT', 1)[1]
if tonumber(first[2][4]) < oldest then
  for _, entry in ipairs(redis.call('XRANGE', KEYS[1], '-', '+', 'COUNT', 100)) do
    first = entry
    if tonumber(entry[2][4]) >= oldest then break end
  end
  redis.call('XTRIM', KEYS[1], 'MINID', first[1])
end
redis.call(ARGV[7], ARGV[6], epoch .. '.' .. offset .. '.' .. last .. '\\n' .. ARGV[1])
return offset
"""

# KEYS: the same. ARGV: the position's epoch and offset (empty for the newest),
# limit, an epoch if there is none, memory (ms), the server's run id, bytes, jump,
# 1 if the server keeps everything.
_READ = """
local memory = redis.call('HMGET', KEYS[2], 'epoch', 'offset', 'run')
local epoch, offset = memory[1], memory[2] or '0'
if not epoch then
  epoch = ARGV[4]
  redis.call('HSET', KEYS[2], 'epoch', epoch, 'offset', '0', 'run', ARGV[6])
  redis.call('PEXPIRE', KEYS[2], ARGV[5])
elseif memory[3] ~= ARGV[6] and ARGV[9] ~= '1' then
  offset = string.format('%.0f', tonumber(offset) + tonumber(ARGV[8]))
  redis.call('HSET', KEYS[2], 'offset', offset, 'run', ARGV[6])
end
if ARGV[1] == '' then return {epoch, offset, {}, 0} end
local after = '-'
if epoch == ARGV[1] then after = '(' .. ARGV[2] .. '-0' end
local found, size, more = {}, 0, 0
for _, entry in ipairs(redis.call('XRANGE', KEYS[1], after, '+', 'COUNT', ARGV[3] + 1)) do
  size = size + #entry[2][6]
  if #found > 0 and (#found == tonumber(ARGV[3]) or size > tonumber(ARGV[7])) then
    more = 1
    break
  end
  found[#found + 1] = entry
end
return {epoch, offset, found, more}
"""


class _Node:
    """One server: what is asked of it, and what it has confirmed."""

    def __init__(self, backend: Redis, host: str | None, port: int | None) -> None:
        self.backend = backend
        self.host = host
        self.port = port
        self.name = "the server" if host is None else f"{host}:{port}"
        self.wanted: set[str] = set()
        self.asked: set[str] = set()  # on this connection
        self.confirmed: set[str] = set()
        self.leaving: Counter[str] = Counter()
        self.waiting: dict[str, asyncio.Future[None]] = {}
        self.up = asyncio.Event()
        self.problem = "not connected yet"
        self.heard = time.time()
        # When it was last well and what happened then, while it is not back.
        self.broken: tuple[float, str] | None = None
        self.task: asyncio.Task[None] | None = None
        self._ear: Any = None
        self._reading: asyncio.Task[None] | None = None
        self._mouth: Any = None
        self._mouth_lock = asyncio.Lock()
        self._scripts: dict[str, str] = {}
        self._run = ""
        self._keeps = 0

    # ------------------------------------------------------------------ hearing

    async def keep(self) -> None:
        """Hear, for ever: connect again whenever the connection ends."""
        delay = _FIRST_DELAY
        while True:
            self._reading = asyncio.ensure_future(self._hear())
            try:
                await asyncio.wait({self._reading})
            finally:
                self._reading.cancel()
            if not self._reading.cancelled():
                self.problem = _say(self._reading.exception())
            if self.up.is_set():
                delay = _FIRST_DELAY
                # Until it is back, this is what will have been missed.
                if self.broken is None:
                    self.broken = self.heard, self.problem
                _log.warning("%s of Rooms is lost: %s", self.name, self.problem)
            else:
                _log.warning("%s of Rooms cannot be reached: %s", self.name, self.problem)
            self.up.clear()
            self.asked.clear()
            self.confirmed.clear()
            self.leaving.clear()
            await self.backend.look_around()
            await asyncio.sleep(delay * random.uniform(0.5, 1))
            delay = min(2 * delay, _CLUSTER_DELAY if self.backend.cluster else _LAST_DELAY)

    def deaf(self, reason: str) -> None:
        """Give this connection up, and make another."""
        if self._reading is not None and self.up.is_set():
            self.problem = reason
            self._reading.cancel()

    async def _hear(self) -> None:
        ear = self.backend.connection(self)
        try:
            async with asyncio.timeout(self.backend.timeout):
                await ear.connect()
                self._ear = ear
                topics = sorted(self.wanted)
                for start in range(0, len(topics), _CHUNK):
                    await self._ask(*topics[start : start + _CHUNK])
                missing = set(topics)
                while missing:
                    self._heard(await self._next(ear))
                    missing = (missing & self.wanted) - self.confirmed
            self.up.set()
            self.backend.found()
            if self.broken is not None:
                (since, reason), self.broken = self.broken, None
                self.backend.lost(Lost(since, reason, frozenset(topics)))
            while True:
                self._heard(await self._next(ear))
        finally:
            self._ear = None
            await self.backend.hang_up(ear)

    async def _next(self, ear: Any) -> Any:
        # Left open after an error, it ends here and in one step: meanwhile others
        # would send on it, and redis-py would connect it again for them.
        return await ear.read_response(
            timeout=math.inf, push_request=True, disconnect_on_error=False
        )

    async def _ask(self, *topics: str) -> None:
        self.asked.update(topics)
        backend = self.backend
        verb = backend.verb("SUBSCRIBE")
        names = [backend.channel(topic) for topic in topics]
        # On a cluster, the names of one command must be of one slot.
        commands = [[verb, name] for name in names] if backend.cluster else [[verb, *names]]
        await self._ear.send_packed_command(self._ear.pack_commands(commands))

    def _heard(self, response: list[Any]) -> None:
        self.heard = time.time()
        verb, channel = response[0], response[1]
        if verb in (b"message", b"smessage"):
            self.backend.receive(channel, response[2])
            return
        if channel is None:
            return
        topic = self.backend.topic(channel)
        if verb in (b"subscribe", b"ssubscribe"):
            if not self.leaving[topic]:
                self.confirmed.add(topic)
                if (waiting := self.waiting.pop(topic, None)) is not None and not waiting.done():
                    waiting.set_result(None)
        elif self.leaving[topic] > 0:
            self.leaving[topic] -= 1
            if not self.leaving[topic]:
                del self.leaving[topic]
        elif topic in self.wanted:
            # Unasked: the slot has moved. Whoever knows where to, and when, it is
            # found out by asking for it again until it is confirmed.
            self.deaf("a room has moved to another node of the cluster")

    async def subscribe(self, topic: str) -> None:
        self.wanted.add(topic)
        if topic in self.confirmed:
            return
        waiting = self.waiting.get(topic)
        if waiting is None:
            waiting = self.waiting[topic] = asyncio.get_running_loop().create_future()
        if self._ear is not None and topic not in self.asked:
            with contextlib.suppress(OSError, self.backend.errors):
                await self._ask(topic)  # else when it is back
        await asyncio.shield(waiting)

    async def unsubscribe(self, topic: str) -> None:
        self.wanted.discard(topic)
        if (waiting := self.waiting.pop(topic, None)) is not None:
            waiting.cancel()
        self.confirmed.discard(topic)
        if self._ear is not None and topic in self.asked:
            self.asked.discard(topic)
            self.leaving[topic] += 1
            with contextlib.suppress(OSError, self.backend.errors):
                await self._ear.send_command(
                    self.backend.verb("UNSUBSCRIBE"), self.backend.channel(topic)
                )

    # ----------------------------------------------------------------- speaking

    async def call(self, commands: Sequence[Sequence[Any]]) -> list[Any]:
        """
        Send commands together; answers in order, an error of one in its place.

        A name of a script stands for its digest, `_RUN` for the server's run id, and
        `_KEEPS` for whether it still has all that was accepted before its time.

        Raises:
            BackendUnavailable: The connection failed; what was sent is not known.
        """
        try:
            async with asyncio.timeout(self.backend.timeout), self._mouth_lock:
                mouth = self._mouth or await self._open_mouth()
                try:
                    filled = [self._filled(command) for command in commands]
                    await mouth.send_packed_command(mouth.pack_commands(filled))
                    answers = [await self._answer(mouth) for _ in commands]
                except BaseException:
                    # Answers that are still to come must not be taken for others'.
                    self._mouth = None
                    await self.backend.hang_up(mouth)
                    raise
        except TimeoutError:
            raise BackendUnavailable(
                f"{self.name} did not answer within {self.backend.timeout} seconds"
            ) from None
        except (OSError, self.backend.errors) as error:
            raise BackendUnavailable(f"{self.name}: {_say(error)}") from error
        return answers

    def _filled(self, command: Sequence[Any]) -> Sequence[Any]:
        if command[0] != "EVALSHA":
            return command
        known = {_RUN: self._run, _KEEPS: self._keeps}
        arguments = [known.get(argument, argument) for argument in command[2:]]
        return ["EVALSHA", self._scripts[command[1]], *arguments]

    async def _answer(self, mouth: Any) -> Any:
        try:
            return await mouth.read_response()
        except self.backend.refusals as error:
            return error

    async def _open_mouth(self) -> Any:
        mouth = self.backend.connection(self)
        try:
            await mouth.connect()
            if self.backend.history is not None:
                for name, script in (("ADD", _ADD), ("READ", _READ)):
                    await mouth.send_command("SCRIPT", "LOAD", script)
                    self._scripts[name] = (await mouth.read_response()).decode()
                await self._ask_who_it_is(mouth)
        except BaseException:
            await self.backend.hang_up(mouth)
            raise
        self._mouth = mouth
        return mouth

    async def _ask_who_it_is(self, mouth: Any) -> None:
        await mouth.send_command("INFO")
        lines = (await mouth.read_response()).decode().splitlines()
        info = {name: value for name, _, value in (line.partition(":") for line in lines)}
        self._run = info["run_id"]
        await mouth.send_command("CONFIG", "GET", "appendfsync")
        policy = await self._answer(mouth)  # an error where it is forbidden
        # A second replication id is that of the master whose place it has taken, or of
        # the snapshot that it was started with.
        promoted = info.get("master_replid2", "").strip("0") != ""
        durable = policy == [b"appendfsync", b"always"]
        kept = self.backend.replicas > 0 if promoted else durable
        # Without the file, one that was started again looks as if it had been promoted.
        self._keeps = int(info.get("aof_enabled") == "1" and kept)

    async def close(self) -> None:
        await end_tasks([self.task])
        await end_tasks([self._reading])
        if self._mouth is not None:
            mouth, self._mouth = self._mouth, None
            await self.backend.hang_up(mouth)
        for waiting in self.waiting.values():
            waiting.cancel()


class Redis:
    """
    Rooms through Redis 6.2 or later, or Valkey. It needs the package of the extra ``redis``.

    Args:
        url: As redis-py takes it: ``redis://``, ``rediss://`` or ``unix://``.
        history: How much of each room to remember, in Streams; None for nothing.
        cluster: Whether the server is a node of a cluster (Redis 7 or later). The
            others are found through it.
        replicas: With a history: how many replicas of the server must have a message
            before its broadcast returns. Whatever was accepted then outlives the
            server, if one of those takes its place and has ``appendonly yes``.
        prefix: What the names of channels and keys begin with.
        timeout: Seconds that an answer may take.
        max_envelope: Bytes of a message with its envelope. Several must fit below
            the server's ``client-output-buffer-limit pubsub``, 8 MB for a minute
            and 32 MB at once by default; who is above it is disconnected.
        options: For redis-py's connections: ``password=``, ``ssl_ca_certs=`` ...

    Raises:
        ImportError: redis-py is not installed.
        ValueError: *replicas* is negative.
    """

    def __init__(
        self,
        url: str = "redis://localhost:6379",
        *,
        history: History | None = None,
        cluster: bool = False,
        replicas: int = 0,
        prefix: str = "simplews",
        timeout: float = 5.0,
        max_envelope: int = 1 << 20,
        **options: Any,
    ) -> None:
        try:
            library = importlib.import_module("redis.asyncio")
            retry = importlib.import_module("redis.asyncio.retry").Retry
            backoff = importlib.import_module("redis.backoff").NoBackoff
            errors = importlib.import_module("redis.exceptions")
            self._slot_of = importlib.import_module("redis.crc").key_slot
        except ImportError as exc:
            raise ImportError("Redis needs redis-py: pip install 'simplews[redis]'") from exc
        self.history = history
        self.max_envelope = max_envelope
        self.timeout = timeout
        #: What redis-py raises for a connection, and for an answer that is an error.
        self.errors: type[Exception] = errors.RedisError
        self.refusals: type[Exception] = errors.ResponseError
        self._moved_error: type[Exception] = errors.MovedError
        self.cluster = cluster
        if replicas < 0:
            raise ValueError(f"replicas must not be negative: {replicas}")
        self.replicas = replicas
        self._prefix = f"{prefix}:{{".encode()
        # It comes back by our doing alone; no answer is decoded; RESP 2, because
        # what is pushed comes as other answers do.
        self._pool = library.ConnectionPool.from_url(
            url, **{"retry": retry(backoff(), 0), "protocol": 2, **options}
        )
        self._nodes: dict[tuple[str | None, int | None], _Node] = {}
        self._slots: list[tuple[int, int, _Node]] = []
        self._deliver: Deliver | None = None
        self._lost: Callable[[Lost], None] | None = None
        self._up = asyncio.Event()
        self._looking: asyncio.Task[None] | None = None
        self._following: set[asyncio.Task[None]] = set()

    # ------------------------------------------------------ the Backend protocol

    @property
    def state(self) -> str:
        """In words, for people: which servers are connected, and what is wrong with the others."""
        if not self._nodes:
            return "not started" if self._deliver is None else self._seed.problem
        return "; ".join(
            f"{node.name}: {'connected' if node.up.is_set() else node.problem}"
            for node in self._nodes.values()
        )

    def start(self, deliver: Deliver, lost: Callable[[Lost], None]) -> None:
        if self._deliver is not None:
            raise RuntimeError("a backend serves one Rooms; make another for another")
        self._deliver, self._lost = deliver, lost
        self._seed = _Node(self, None, None)
        if self.cluster:
            self._looking = asyncio.ensure_future(self._find_nodes())
        else:
            self._nodes[None, None] = self._seed
            self._slots = [(0, 16383, self._seed)]
            self._seed.task = asyncio.ensure_future(self._seed.keep())

    async def close(self) -> None:
        self._deliver = lambda *_: None
        await end_tasks([self._looking])
        await end_tasks(self._following)
        for node in {self._seed, *self._nodes.values()}:
            await node.close()

    @property
    def connected(self) -> bool:
        """Whether every server that is needed is connected."""
        return self._up.is_set()

    async def wait_connected(self) -> None:
        await self._up.wait()

    async def subscribe(self, topic: str) -> None:
        while True:
            node = self._node(topic)
            try:
                async with asyncio.timeout(self.timeout):
                    await node.subscribe(topic)
            except TimeoutError:
                raise BackendUnavailable(
                    f"{node.name} did not confirm a subscription within {self.timeout} seconds"
                ) from None
            if self._node(topic) is node:
                return

    async def unsubscribe(self, topic: str) -> None:
        await self._node(topic).unsubscribe(topic)

    async def publish(self, batch: Sequence[Outgoing]) -> Sequence[Exception | None]:
        results: list[Exception | None] = [None] * len(batch)
        todo = list(range(len(batch)))
        # A command that was refused because the slot is elsewhere was not carried
        # out: it is sent again, once the new place is known.
        for _ in range(3):
            by_node: dict[_Node, list[int]] = {}
            for index in todo:
                by_node.setdefault(self._node(batch[index].topic), []).append(index)
            moved: list[int] = []
            answers = await asyncio.gather(
                *(
                    node.call(self._commands([batch[index] for index in indexes]))
                    for node, indexes in by_node.items()
                ),
                return_exceptions=True,
            )
            for indexes, answer in zip(by_node.values(), answers, strict=True):
                if isinstance(answer, BaseException):
                    if not isinstance(answer, BackendUnavailable):
                        raise answer
                    for index in indexes:
                        results[index] = answer
                    continue
                copied = self._copied(answer[len(indexes) :])
                for index, one in zip(indexes, answer, strict=False):
                    if isinstance(one, self._moved_error):
                        moved.append(index)
                    elif isinstance(one, Exception):
                        results[index] = BackendUnavailable(f"Redis refused: {one}")
                    elif batch[index].keep:
                        results[index] = copied
            todo = sorted(moved)
            if not todo:
                break
            await self.look_around()
        for index in todo:
            results[index] = BackendUnavailable("the cluster is moving this room")
        return results

    async def newest(self, topic: str) -> Position:
        epoch, offset, *_ = await self._read(topic, "", "", 0)
        return Position(epoch.decode(), int(offset))

    async def read(
        self, topic: str, after: Position, limit: int, since: float | None = None
    ) -> Page:
        epoch_bytes, newest, found, more = await self._read(
            topic, after.epoch, str(after.offset), limit
        )
        epoch = epoch_bytes.decode()
        entries = [
            (Position(epoch, int(name.partition(b"-")[0])), fields[5]) for name, fields in found
        ]
        # The chain: each entry says which one was before it.
        complete, at = epoch == after.epoch, after.offset
        for (position, _), (_, fields) in zip(entries, found, strict=True):
            complete = complete and int(fields[1]) == at
            at = position.offset
        if not more:
            complete = complete and int(newest) == at
            at = int(newest)
        return Page(entries, complete, bool(more), Position(epoch, at))

    def heartbeats(self) -> Sequence[str]:
        covered = {self._node(HEARTBEAT)} if self._slots else set()
        topics = []
        for number in range(64 * len(self._nodes)):
            node = self._node(topic := f"~node-{number}")
            if node not in covered:
                covered.add(node)
                topics.append(topic)
            if len(covered) == len(self._nodes):
                break
        return topics

    def reconnect(self, topic: str, reason: str) -> None:
        self._node(topic).deaf(reason)

    # ------------------------------------------------------------- for the nodes

    def channel(self, topic: str) -> bytes:
        """The braces keep a room's channel and keys on one node of a cluster."""
        return self._prefix + topic.encode() + b"}"

    def topic(self, channel: bytes) -> str:
        return channel[len(self._prefix) : -1].decode()

    def verb(self, verb: str) -> str:
        return f"S{verb}" if self.cluster else verb

    def connection(self, node: _Node) -> Any:
        if node.host is None:
            return self._pool.make_connection()
        options = {**self._pool.connection_kwargs, "host": node.host, "port": node.port}
        return self._pool.connection_class(**options)

    async def hang_up(self, connection: Any) -> None:
        with contextlib.suppress(OSError, self.errors):
            await connection.disconnect(nowait=True)

    def receive(self, channel: bytes, data: bytes) -> None:
        assert self._deliver is not None
        topic = self.topic(channel)
        if self.history is not None and data[:1] not in (b"", b"\x01"):
            head, _, envelope = data.partition(b"\n")
            try:
                epoch, offset, previous = head.decode().split(".")
                position, before = Position(epoch, int(offset)), int(previous)
            except ValueError as error:
                _log.warning("what came on %s has no position: %s", topic, error)
                return
            self._deliver(topic, envelope, position, before)
        else:
            self._deliver(topic, data, None, None)

    def lost(self, lost: Lost) -> None:
        assert self._lost is not None
        self._lost(lost)

    def found(self) -> None:
        """A node is up."""
        if self._nodes and all(node.up.is_set() for node in self._nodes.values()):
            self._up.set()

    def moved(self) -> None:
        """A node has given a slot away."""
        if self._looking is None or self._looking.done():
            self._looking = asyncio.ensure_future(self._find_nodes())

    async def look_around(self) -> None:
        """Something is not where it was."""
        self._up.clear()
        if self.cluster:
            self.moved()
            assert self._looking is not None
            await asyncio.wait({self._looking})
        self.found()

    # ------------------------------------------------------------------- inside

    def _node(self, topic: str) -> _Node:
        if not self.cluster:
            return self._seed
        slot = self._slot_of(topic.encode())
        for first, last, node in self._slots:
            if first <= slot <= last:
                return node
        raise BackendUnavailable(f"no node of the cluster has slot {slot}: {self.state}")

    def _command(self, outgoing: Outgoing) -> list[Any]:
        channel = self.channel(outgoing.topic)
        if self.history is None or not outgoing.keep:
            return [self.verb("PUBLISH"), channel, outgoing.envelope]
        age = int(1000 * self.history.age)
        return [
            "EVALSHA",
            "ADD",
            2,
            *self._keys(channel),
            outgoing.envelope,
            self.history.length,
            age,
            secrets.token_hex(4),
            _RUN,
            channel,
            self.verb("PUBLISH"),
            _MEMORY + age,
            _JUMP,
            _KEEPS,
        ]

    def _commands(self, batch: list[Outgoing]) -> list[list[Any]]:
        commands = [self._command(outgoing) for outgoing in batch]
        if self.replicas and self.history is not None and any(o.keep for o in batch):
            # For all of them. Not long: heartbeats wait behind it.
            commands.append(["WAIT", self.replicas, max(1, int(200 * self.timeout))])
        return commands

    def _copied(self, answers: list[Any]) -> BackendUnavailable | None:
        """What is wrong with the answer to WAIT, if it was asked."""
        if not answers or (isinstance(answers[0], int) and answers[0] >= self.replicas):
            return None
        return BackendUnavailable(
            f"the server has the message, and not {self.replicas} of its replicas: {answers[0]}"
        )

    def _keys(self, channel: bytes) -> tuple[bytes, bytes]:
        return channel + b":history", channel + b":memory"

    async def _read(self, topic: str, epoch: str, offset: str, limit: int) -> Any:
        assert self.history is not None
        memory = _MEMORY + int(1000 * self.history.age)
        keys = self._keys(self.channel(topic))
        new = secrets.token_hex(4)
        command = [
            "EVALSHA",
            "READ",
            2,
            *keys,
            epoch,
            offset,
            limit,
            new,
            memory,
            _RUN,
            _PAGE_BYTES,
            _JUMP,
            _KEEPS,
        ]
        (answer,) = await self._node(topic).call([command])
        if isinstance(answer, Exception):
            if isinstance(answer, self._moved_error):
                await self.look_around()
            raise BackendUnavailable(f"Redis refused: {answer}")
        return answer

    async def _find_nodes(self) -> None:
        """Ask for the map of the cluster, and move subscriptions to where they belong."""
        delay = _FIRST_DELAY
        while True:
            for node in [*self._nodes.values(), self._seed]:
                try:
                    (answer,) = await node.call([["CLUSTER", "SLOTS"]])
                    if isinstance(answer, list) and answer:
                        await self._arrange(answer)
                        return
                    self._seed.problem = str(answer) or "it has no slots"
                except BackendUnavailable as error:
                    self._seed.problem = str(error)
                except Exception:
                    _log.exception("the nodes of the cluster could not be arranged")
            await asyncio.sleep(delay)
            delay = min(2 * delay, _LAST_DELAY)

    async def _arrange(self, slots: list[Any]) -> None:
        old = dict(self._nodes)
        self._slots = []
        here: set[tuple[str | None, int | None]] = set()
        for first, last, (host, port, *_), *_ in slots:
            key = (host.decode() or self._pool.connection_kwargs.get("host", "localhost"), port)
            here.add(key)
            node = self._nodes.get(key)
            if node is None:
                node = self._nodes[key] = _Node(self, *key)
            self._slots.append((first, last, node))
        moved: dict[str, float] = {}
        for key, node in old.items():
            for topic in list(node.wanted):
                if (new := self._node(topic)) is not node:
                    node.wanted.discard(topic)
                    if (waiting := node.waiting.pop(topic, None)) is not None:
                        new.waiting[topic] = waiting
                    new.wanted.add(topic)
                    moved[topic] = node.heard if node.broken is None else node.broken[0]
            if key not in here:
                del self._nodes[key]
                await node.close()
        for node in self._nodes.values():
            if node.task is None:
                node.task = asyncio.ensure_future(node.keep())
        if moved:
            task = asyncio.ensure_future(self._follow(moved))
            self._following.add(task)
            task.add_done_callback(self._following.discard)

    async def _follow(self, moved: dict[str, float]) -> None:
        """Subscribe to rooms where they are now, and say so when that is done."""
        for topic, since in moved.items():
            while topic in self._node(topic).wanted:
                try:
                    await self.subscribe(topic)
                except BackendUnavailable as error:
                    _log.warning("a room that has moved is not found: %s", error)
                else:
                    reason = "the room has moved to another node of the cluster"
                    self.lost(Lost(since, reason, frozenset([topic])))
                    break


def _say(error: BaseException | None) -> str:
    return str(error) or type(error).__name__
