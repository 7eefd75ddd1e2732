"""Whether this process still hears: a heartbeat through the engine that has to come back.

A connection that breaks is the backend's to notice. One that is silent without
being broken is noticed here, and the backend is told to make another.
"""

from __future__ import annotations

import asyncio
import logging
import time

from ..errors import BackendUnavailable
from .backend import Backend
from .envelope import HEARTBEAT, Kind
from .publishing import Publisher

__all__ = ["Heartbeat"]


class _Beat:
    """
    The heartbeat on one topic.

    Attributes:
        number: Of the one that is under way.
        echo: Set when it has come back.
        proven: When the last one that came back was sent, as ``time.time()`` has it:
            whatever the engine took before that has been delivered.
    """

    __slots__ = ("echo", "number", "proven")

    def __init__(self) -> None:
        self.number = 0
        self.echo = asyncio.Event()
        self.proven = time.time()


class Heartbeat:
    """
    Shows others that we live, and ourselves that we hear.

    Args:
        backend: The engine.
        publisher: The way out.
        interval: Seconds between two.
        timeout: Seconds in which one has to come back.
        logger: For what goes wrong.
    """

    def __init__(
        self,
        backend: Backend,
        publisher: Publisher,
        *,
        interval: float,
        timeout: float,
        logger: logging.Logger,
    ) -> None:
        self.interval = interval
        self.timeout = timeout
        self._backend = backend
        self._publisher = publisher
        self._log = logger
        self._beats: dict[str, _Beat] = {}  # by topic
        self._began = time.time()

    async def run(self) -> None:
        """Beat, for ever; the marks of what was published go with it."""
        while True:
            await self._backend.wait_connected()
            topics = [HEARTBEAT, *self._backend.heartbeats()]
            for gone in self._beats.keys() - topics:
                del self._beats[gone]
            await asyncio.gather(*map(self._beat, topics))
            self._publisher.remind()
            await asyncio.sleep(self.interval)

    async def _beat(self, topic: str) -> None:
        try:
            async with asyncio.timeout(self.timeout):
                if topic not in self._beats:
                    await self._backend.subscribe(topic)
                    self._beats[topic] = _Beat()
                beat = self._beats[topic]
                beat.number += 1
                beat.echo.clear()
                sent = time.time()
                self._publisher.announce(topic, Kind.ALIVE, b"%d" % beat.number)
                number = beat.number
                await beat.echo.wait()
                if beat.number == number:
                    beat.proven = sent
        except BackendUnavailable as error:
            self._log.warning("no heartbeat on %s: %s", topic, error)
        except TimeoutError:
            if self._backend.connected:
                reason = f"a heartbeat did not come back within {self.timeout} seconds"
                self._backend.reconnect(topic, reason)

    def came_back(self, topic: str, payload: bytes) -> None:
        """One of ours has been heard."""
        beat = self._beats.get(topic)
        if beat is not None and payload == b"%d" % beat.number:
            beat.echo.set()

    def void(self) -> None:
        """Messages may have been lost, and what is under way with them: it proves nothing."""
        for beat in self._beats.values():
            beat.number += 1
            beat.echo.set()

    def proven(self) -> float:
        """
        When all was well for sure, as ``time.time()`` has it.

        That something was heard later proves less: it may have been long on its
        way, and what the engine took meanwhile is behind it.
        """
        return min((beat.proven for beat in self._beats.values()), default=self._began)
