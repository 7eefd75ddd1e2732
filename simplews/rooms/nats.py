"""NATS: a subject for each room, and JetStream where there is a history.

nats-py makes and speaks the connection; that it comes back after a failure is
done here, because each time is a gap that must be told.

With a history, messages are published to ``PREFIX.room.TOPIC``, which a stream
keeps and publishes again to ``PREFIX.live.TOPIC``, with the sequence of the
message and of the one before it on that subject. That is what is subscribed to:
it costs the server no consumer, and shows every hole. Without a history, and for
what is no message, ``PREFIX.live.TOPIC`` is published to.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib
import json
import logging
import random
import time
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any

from ..errors import BackendUnavailable
from .backend import Deliver, History, Lost, Outgoing, Page, Position
from .tasks import end_tasks

__all__ = ["Nats"]

_log = logging.getLogger("simplews.rooms")

# Seconds before it is tried again: doubled from the first to the second.
_FIRST_DELAY, _LAST_DELAY = 0.05, 2.0
# What the server adds to a message when it publishes it again: five headers, one
# of them the subject.
_HEADERS = 4096
# Bytes of a history that are asked for at once: below what waits for one client.
_PAGE_BYTES = 1 << 20
# Seconds in which messages that were dropped are counted together.
_BULK = 0.1
# Seconds in which a subscription has reached all servers of a cluster, one hopes:
# nothing tells. It is part of the gap.
_SETTLING = 0.25
# Seconds by which the clocks of two hosts may differ.
_SKEW = 2.0


class Nats:
    """
    Rooms through NATS. It needs the package of the extra ``nats``.

    Our own messages come back to us (``no_echo`` is off): they show that we hear.

    Args:
        url: ``nats://`` or ``tls://``; several of one cluster in a list, of which
            one at a time is connected.
        history: How much of each room to remember, in JetStream (NATS 2.11 or
            later); None for nothing.
        prefix: What the names of subjects begin with, and the name of the stream.
        timeout: Seconds that an answer may take.
        max_envelope: Bytes of a message with its envelope. Above the server's
            ``max_payload``, 1 MB by default, less is taken.
        max_waiting: Bytes of one room that wait to be looked at; what comes above
            is lost, and reported.
        replicas: Of the stream, on a cluster.
        options: For nats-py's ``connect()``: ``user=``, ``tls=`` ...

    Raises:
        ImportError: nats-py is not installed.
    """

    def __init__(
        self,
        url: str | Sequence[str] = "nats://localhost:4222",
        *,
        history: History | None = None,
        prefix: str = "simplews",
        timeout: float = 5.0,
        max_envelope: int = (1 << 20) - _HEADERS,
        max_waiting: int = 16 << 20,
        replicas: int = 1,
        **options: Any,
    ) -> None:
        try:
            self._client_class = importlib.import_module("nats.aio.client").Client
            self._api = importlib.import_module("nats.js.api")
            self._error: type[Exception] = importlib.import_module("nats.errors").Error
            slow: type[Exception] = importlib.import_module("nats.errors").SlowConsumerError
        except ImportError as exc:
            raise ImportError("Nats needs nats-py: pip install 'simplews[nats]'") from exc
        self._slow_error = slow
        self.history = history
        self.max_envelope = max_envelope
        self._servers = [url] if isinstance(url, str) else list(url)
        self._prefix = prefix
        self._timeout = timeout
        self._max_waiting = max_waiting
        self._replicas = replicas
        self._options = options
        self._problem = "not started"
        self._client: Any = None
        self._stream: Any = None  # the JetStream context
        self._epoch = ""
        self._length = 0 if history is None else history.length
        self._age = 0.0 if history is None else history.age
        self._wanted: set[str] = set()
        self._subscriptions: dict[str, Any] = {}
        self._subscribing = asyncio.Lock()
        self._inbox = ""
        self._trips: dict[bytes, asyncio.Future[None]] = {}
        self._last_trip = 0
        self._up = asyncio.Event()
        self._ended = asyncio.Event()
        self._heard = time.time()
        self._overrun: dict[str, float] = {}  # topics, and since when
        self._broken: tuple[float, str] | None = None
        self._deliver: Deliver | None = None
        self._lost: Callable[[Lost], None] | None = None
        self._task: asyncio.Task[None] | None = None

    # ------------------------------------------------------ the Backend protocol

    @property
    def state(self) -> str:
        """In words, for people: where it is connected, or what is wrong."""
        if self._up.is_set() and self._client is not None and self._client.connected_url:
            return f"connected to {self._client.connected_url.netloc}"
        return self._problem

    def start(self, deliver: Deliver, lost: Callable[[Lost], None]) -> None:
        if self._deliver is not None:
            raise RuntimeError("a backend serves one Rooms; make another for another")
        self._deliver, self._lost = deliver, lost
        self._problem = "not connected yet"
        self._task = asyncio.ensure_future(self._keep())

    async def close(self) -> None:
        self._deliver = lambda *_: None
        await end_tasks([self._task])

    @property
    def connected(self) -> bool:
        """Whether the server is connected."""
        return self._up.is_set()

    async def wait_connected(self) -> None:
        await self._up.wait()

    async def subscribe(self, topic: str) -> None:
        self._wanted.add(topic)
        async with self._asking("subscribe"), self._subscribing:
            if topic not in self._subscriptions:
                await self._subscribe(self._client, topic)
                await self._round_trip()

    async def unsubscribe(self, topic: str) -> None:
        self._wanted.discard(topic)
        subscription = self._subscriptions.pop(topic, None)
        if subscription is not None:
            with contextlib.suppress(self._error, OSError):
                await subscription.unsubscribe()

    async def publish(self, batch: Sequence[Outgoing]) -> Sequence[Exception | None]:
        results: list[Exception | None] = [None] * len(batch)
        acks: list[tuple[int, asyncio.Future[Any]]] = []
        async with self._asking("publish"):
            for index, (topic, envelope, keep) in enumerate(batch):
                if keep and self.history is not None:
                    subject = self._room(topic)
                    acks.append((index, await self._stream.publish_async(subject, envelope)))
                else:
                    await self._client.publish(self._live(topic), envelope)
            if len(acks) < len(batch):
                await self._round_trip()
            if acks:
                await asyncio.wait([ack for _, ack in acks])
        for index, ack in acks:
            if (error := ack.exception()) is not None:
                results[index] = BackendUnavailable(f"JetStream refused: {_say(error)}")
        return results

    async def newest(self, topic: str) -> Position:
        async with self._asking("read the history"):
            info = await self._info()
        # Not the room's own, but everything of the room that comes is behind it.
        return Position(self._epoch, info.state.last_seq)

    async def read(
        self, topic: str, after: Position, limit: int, since: float | None = None
    ) -> Page:
        subject = self._room(topic)
        async with self._asking("read the history"):
            info = await self._info(subject)
            epoch, state = self._epoch, info.state
            same = epoch == after.epoch and after.offset <= state.last_seq
            start = after.offset if same else 0
            entries, more = await self._batch(subject, epoch, start + 1, limit)
            # Messages of a room go oldest first, be it for the length or the age.
            kept = (state.subjects or {}).get(subject, 0)
            young = since is not None and since > time.time() - self._age + _SKEW
            complete = same and (
                (kept < self._length and (young or start + 1 >= state.first_seq))
                or await self._still_has(subject, start)
            )
        end = entries[-1][0] if entries else Position(epoch, state.last_seq)
        return Page(entries, complete, more, end)

    def heartbeats(self) -> Sequence[str]:
        return ()

    def reconnect(self, topic: str, reason: str) -> None:
        self._problem = reason
        self._ended.set()

    # ------------------------------------------------------------ the connection

    async def _keep(self) -> None:
        """Be connected, for ever: connect again whenever the connection ends."""
        delay = _FIRST_DELAY
        while True:
            ended = self._ended = asyncio.Event()
            client = self._client_class()
            try:
                await self._connect(client, ended)
                delay = _FIRST_DELAY
                await ended.wait()
                if self._broken is None:
                    self._broken = self._heard, self._problem
                _log.warning("the server of Rooms is lost: %s", self._problem)
            except (OSError, self._error, TimeoutError, asyncio.InvalidStateError) as error:
                self._problem = _say(error)
                _log.warning("the server of Rooms cannot be reached: %s", self._problem)
            except Exception as error:
                self._problem = repr(error)
                _log.exception("connecting to the server of Rooms failed")
            finally:
                self._up.clear()
                self._subscriptions.clear()
                await self._hang_up(client)
            await asyncio.sleep(delay * random.uniform(0.5, 1))
            delay = min(2 * delay, _LAST_DELAY)

    async def _connect(self, client: Any, ended: asyncio.Event) -> None:
        async def closed() -> None:
            if not ended.is_set() and client.last_error is not None:
                self._problem = _say(client.last_error)
            ended.set()

        async def failed(error: Exception) -> None:
            if isinstance(error, self._slow_error):
                self._dropped(error)
            else:
                self._problem = _say(error)

        async with asyncio.timeout(self._timeout):
            await client.connect(
                self._servers,
                closed_cb=closed,
                error_cb=failed,
                allow_reconnect=False,
                connect_timeout=self._timeout,
                reconnect_time_wait=_FIRST_DELAY,
                max_reconnect_attempts=1,
                no_echo=False,
                **self._options,
            )
            self._client = client
            if client.max_payload < self.max_envelope + _HEADERS:
                self.max_envelope = max(client.max_payload - _HEADERS, 1)
            if self.history is not None:
                await self._open_stream(client)
            await self._open_inbox(client)
            async with self._subscribing:
                for topic in sorted(self._wanted):
                    await self._subscribe(client, topic)
            await self._round_trip()
        self._up.set()
        if self._broken is not None:
            # Other servers of a cluster hear a moment later of what we subscribe to.
            settling = _SETTLING if len(client.servers) > 1 else 0
            asyncio.get_running_loop().call_later(settling, self._report_broken, ended)

    def _report_broken(self, ended: asyncio.Event) -> None:
        if self._broken is not None and not ended.is_set():
            (since, reason), self._broken = self._broken, None
            assert self._lost is not None
            self._lost(Lost(since, reason))

    async def _open_inbox(self, client: Any) -> None:
        """For `_round_trip`."""

        async def back(message: Any) -> None:
            trip = self._trips.get(message.data)
            if trip is not None and not trip.done():
                trip.set_result(None)

        self._inbox = client.new_inbox()
        await client.subscribe(self._inbox, cb=back)

    async def _round_trip(self) -> None:
        """
        Return when the server has dealt with everything that was asked of it before.

        By a message to ourselves: nats-py's ``flush()`` sends its ping ahead of what
        waits to be written.
        """
        self._last_trip += 1
        name = b"%d" % self._last_trip
        trip = self._trips[name] = asyncio.get_running_loop().create_future()
        try:
            await self._client.publish(self._inbox, name)
            await trip
        finally:
            del self._trips[name]

    async def _open_stream(self, client: Any) -> None:
        """Find the stream, or make it; its own limits hold, whoever made it."""
        assert self.history is not None
        self._stream = client.jetstream(timeout=self._timeout)
        api = self._api
        config = api.StreamConfig(
            name=self._prefix,
            subjects=[self._room(">")],
            max_msgs_per_subject=self.history.length,
            max_age=self.history.age,
            discard=api.DiscardPolicy.OLD,
            duplicate_window=min(self.history.age, 120.0),
            num_replicas=self._replicas,
            allow_direct=True,
            republish=api.RePublish(src=self._room(">"), dest=self._live(">")),
        )
        try:
            await self._info()
        except self._error:
            await self._stream.add_stream(config)
            await self._info()

    async def _info(self, subject: str | None = None) -> Any:
        info = await self._stream.stream_info(self._prefix, subjects_filter=subject)
        self._epoch = format(int(info.created.timestamp() * 1_000_000), "x")
        self._length = info.config.max_msgs_per_subject
        self._age = info.config.max_age
        return info

    async def _hang_up(self, client: Any) -> None:
        # What it still had to send may have nowhere to go.
        with contextlib.suppress(Exception):
            async with asyncio.timeout(0.5):
                await client.close()

    async def _subscribe(self, client: Any, topic: str) -> None:
        async def receive(message: Any) -> None:
            self._receive(topic, message)

        self._subscriptions[topic] = await client.subscribe(
            self._live(topic), cb=receive, pending_bytes_limit=self._max_waiting
        )

    def _receive(self, topic: str, message: Any) -> None:
        assert self._deliver is not None
        self._heard = time.time()
        headers = message.headers
        if headers is not None and (sequence := headers.get("Nats-Sequence")) is not None:
            position = Position(self._epoch, int(sequence))
            self._deliver(
                topic, message.data, position, int(headers.get("Nats-Last-Sequence", "0"))
            )
        else:
            self._deliver(topic, message.data, None, None)

    def _dropped(self, error: Any) -> None:
        """nats-py drops what is above its limits, one by one; that is reported in bulk."""
        if not self._overrun:
            asyncio.get_running_loop().call_later(_BULK, self._report_overrun)
        topic = error.subject.removeprefix(self._live(""))
        self._overrun.setdefault(topic, self._heard)

    def _report_overrun(self) -> None:
        overrun, self._overrun = self._overrun, {}
        assert self._lost is not None
        reason = "messages came faster than they were taken"
        self._lost(Lost(min(overrun.values()), reason, frozenset(overrun)))

    # ------------------------------------------------------------------- inside

    @contextlib.asynccontextmanager
    async def _asking(self, what: str) -> AsyncIterator[None]:
        """What can go wrong with a request is one error."""
        try:
            async with asyncio.timeout(self._timeout):
                if not self._up.is_set():
                    raise BackendUnavailable(f"could not {what}: {self.state}")
                yield
        except TimeoutError:
            raise BackendUnavailable(
                f"could not {what} within {self._timeout} seconds: {self.state}"
            ) from None
        except (OSError, self._error) as error:
            raise BackendUnavailable(f"could not {what}: {_say(error)}") from error

    async def _batch(
        self, subject: str, epoch: str, start: int, limit: int
    ) -> tuple[list[tuple[Position, bytes]], bool]:
        """Messages from a sequence on, in one request, and whether there are more."""
        request: dict[str, Any] = {"seq": start, "next_by_subj": subject, "batch": limit}
        request["max_bytes"] = _PAGE_BYTES
        entries: list[tuple[Position, bytes]] = []
        async for message in self._get(request):
            headers = message.headers or {}
            status = headers.get("Status")
            if status == "404":
                return entries, False
            if status is not None:
                if status != "204":
                    raise BackendUnavailable(f"JetStream refused: {headers}")
                return entries, int(headers.get("Nats-Num-Pending", "0")) > 0
            entries.append((Position(epoch, int(headers["Nats-Sequence"])), message.data))
        return entries, False

    async def _still_has(self, subject: str, sequence: int) -> bool:
        """Whether this very message of this very room is still there."""
        if sequence < 1:
            return False
        async for message in self._get({"seq": sequence}):
            return (message.headers or {}).get("Nats-Subject") == subject
        return False

    async def _get(self, request: dict[str, Any]) -> AsyncIterator[Any]:
        """Answers to a direct get."""
        inbox = self._client.new_inbox()
        answers = await self._client.subscribe(inbox)
        try:
            where = f"$JS.API.DIRECT.GET.{self._prefix}"
            await self._client.publish(where, json.dumps(request).encode(), reply=inbox)
            while True:
                yield await answers.next_msg(self._timeout)
        finally:
            with contextlib.suppress(self._error, OSError):
                await answers.unsubscribe()

    def _room(self, topic: str) -> str:
        return f"{self._prefix}.room.{topic}"

    def _live(self, topic: str) -> str:
        return f"{self._prefix}.live.{topic}"


def _say(error: BaseException) -> str:
    return str(error) or type(error).__name__
