"""One conversation of ``simplews connect``: lines out, messages in, and how it ends."""

from __future__ import annotations

import asyncio
import contextlib
import math

from .. import AioClient, ConnectionClosed
from .lines import Input
from .screen import Screen

__all__ = ["Conversation"]


class Conversation:
    """
    Send lines and show messages until either side has had enough.

    Args:
        ws: An open connection.
        source: Where lines come from.
        screen: Where everything is shown.
        linger: Seconds of silence to wait for after the last line; ``None``
            closes at once, which is what a person means with Ctrl-D.
        ping_interval: Seconds between pings; ``None`` sends none.
    """

    def __init__(
        self,
        ws: AioClient,
        source: Input,
        screen: Screen,
        *,
        linger: float | None,
        ping_interval: float | None,
    ) -> None:
        self._ws = ws
        self._source = source
        self._screen = screen
        self._linger = linger
        self._ping_interval = ping_interval
        self._heard = asyncio.Event()

    async def hold(self) -> None:
        """Return when the connection is closed."""
        receiving = asyncio.create_task(self._receive())
        tasks = [receiving, asyncio.create_task(self._send())]
        if self._ping_interval is not None:
            tasks.append(asyncio.create_task(self._ping(self._ping_interval)))
        try:
            # The peer closes, the input ends or is wrong, or nobody reads our output.
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            await self._ws.close()
            await receiving  # what came before the end is still shown
            for task in tasks:
                if task.done():
                    task.result()
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _receive(self) -> None:
        self._screen.opened(self._ws)
        with contextlib.suppress(ConnectionClosed):
            async for message in self._ws:
                self._screen.received(message)
                self._heard.set()

    async def _send(self) -> None:
        with contextlib.suppress(ConnectionClosed):
            async for line in self._source:
                await self._ws.send(line)
                self._screen.sent(line)
            if self._linger is not None:
                await self._silence(self._linger)

    async def _silence(self, seconds: float) -> None:
        limit = None if math.isinf(seconds) else seconds
        with contextlib.suppress(TimeoutError):
            while True:
                self._heard.clear()
                async with asyncio.timeout(limit):
                    await self._heard.wait()

    async def _ping(self, interval: float) -> None:
        # These are for show. Whether a silent peer is gone is for the keepalive
        # of the connection to judge: it knows about pauses of our own.
        with contextlib.suppress(ConnectionClosed):
            while True:
                await asyncio.sleep(interval)
                with contextlib.suppress(TimeoutError):
                    self._screen.pong(await self._ws.ping())
