"""The two callables of an ASGI server, in memory: the interface itself, with a server's manners."""

from __future__ import annotations

import asyncio
from typing import Any

from simplews.websocket import WebSocket

__all__ = ["CONNECT", "DENIAL", "Channel", "accepted", "disconnect", "text"]

CONNECT = {"type": "websocket.connect"}
#: The extension of servers that can answer with HTTP.
DENIAL = {"websocket.http.response": {}}


def text(data: str) -> dict[str, Any]:
    """A text message from the client."""
    return {"type": "websocket.receive", "text": data}


def disconnect(code: int = 1001, reason: str = "") -> dict[str, Any]:
    """The client leaves."""
    return {"type": "websocket.disconnect", "code": code, "reason": reason}


class Channel:
    """
    A server that hands out *events*, then waits, and keeps what it is sent.

    Attributes:
        sent: What the application has sent.
        failure: What send() raises, once it is set.
    """

    def __init__(self, *events: dict[str, Any]) -> None:
        self._events: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        for event in events:
            self._events.put_nowait(event)
        self.sent: list[Any] = []
        self.failure: BaseException | None = None

    def put(self, event: dict[str, Any]) -> None:
        """One more event."""
        self._events.put_nowait(event)

    async def receive(self) -> Any:
        """The application's receive callable."""
        return await self._events.get()

    async def send(self, message: Any) -> None:
        """The application's send callable."""
        if self.failure is not None:
            raise self.failure
        self.sent.append(message)

    def open(self, **scope: Any) -> WebSocket:
        """A WebSocket of ours, not accepted yet."""
        return WebSocket({"type": "websocket", **scope}, self.receive, self.send)


async def accepted(*events: dict[str, Any], **scope: Any) -> tuple[WebSocket, Channel]:
    """A WebSocket that has been accepted; *events* are what the client does then."""
    channel = Channel(CONNECT, *events)
    ws = channel.open(**scope)
    await ws.accept()
    channel.sent.clear()
    return ws, channel
