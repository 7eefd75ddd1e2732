"""What a connection holds before its opening handshake: nothing works, and says so."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Any, ClassVar, NoReturn

from ..errors import WebSocketRuntimeError
from ..types import Close, Ending, State
from .base import Stats

__all__ = ["Unopened"]


class Unopened:
    """
    The link of connections that were constructed and not opened, for all of one class.

    It stands in for its own inbox, too: an empty one.

    Args:
        name: The name of the class.
    """

    state: State = State.CONNECTING
    ending: Ending | None = None
    latency: float | None = None
    streams: tuple[asyncio.StreamReader | None, asyncio.StreamWriter | None] = (None, None)
    task = None
    messages: ClassVar[deque[Any]] = deque()  # one for all: there are never any

    def __init__(self, name: str) -> None:
        self._name = name
        self.inbox: Any = self  # as far as a connection looks into it

    @property
    def stats(self) -> Stats:
        """All zero."""
        return Stats()

    def _refuse(self, *_: object) -> NoReturn:
        how = "connect(url)" if self._name == "AioClient" else "accept(...)"
        raise WebSocketRuntimeError(
            f"this {self._name} is not open: 'await {self._name}.{how}' opens one"
        )

    @property
    def ended(self) -> bool:
        """Raises: nothing can be received yet."""
        self._refuse()

    @property
    def event(self) -> NoReturn:
        """Raises: there is no event to wait for."""
        self._refuse()

    def check_single_reader(self) -> None:
        """Nobody can wait."""

    send_nowait = write_frames = check_open = begin_stream = end_stream = _refuse

    async def _refuse_later(self, *_: object) -> NoReturn:
        self._refuse()

    send = send_fragments = writable = ping = wait = _refuse_later

    def get_extra_info(self, name: str) -> None:
        """None."""

    def begin_close(self, close: Close) -> None:
        """Nothing to close."""

    async def wait_closed(self) -> None:
        """Nothing to wait for."""

    def abort(self) -> None:
        """Nothing to drop."""

    def on_closed(self, callback: Callable[[], None]) -> None:
        """Never called."""
