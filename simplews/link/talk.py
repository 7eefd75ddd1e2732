"""What a connection talks through: its link, and shortcuts to it.

The twin of ``talk.pyx``, where ``send()``, ``receive()`` and the turns of ``async for`` are
one object each that is asked for its steps, in place of a coroutine: its frame, its
object and its way through the interpreter were a quarter of what an echo costs.
`AioBase` has them as Python, which is what they mean; the tests of the contract run both ways.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

from ..types import BinaryMessage, TextMessage
from .base import Link
from .options import Options

__all__ = ["SHORTCUTS", "Messages", "Talk"]

#: Methods of `AioBase` as they are where this is compiled.
SHORTCUTS: dict[str, Callable[..., Any]] = {}

#: What ``async for`` goes through, if not through a generator.
Messages: Callable[[Talk], AsyncIterator[TextMessage | BinaryMessage]] | None = None


class Talk:
    """
    Where messages come from and go to.

    Attributes:
        _link: The link.
        _inbox: Its inbox.
        _messages: What has arrived.
        _wait: Its `Link.wait`.
        _options: How the connection behaves.
        _stream: Stands for the message that is read in pieces, or None.
    """

    _options: Options
    _stream: object

    def _carry(self, link: Link) -> None:
        """Talk through *link* from now on."""
        self._link = link
        self._inbox = link.inbox
        self._messages = link.inbox.messages
        self._wait: Callable[[float | None], Awaitable[Any]] = link.wait
