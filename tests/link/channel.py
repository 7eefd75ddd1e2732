"""The two ends of ASGI's interface: what a server does at each step is in the tests' hands."""

from __future__ import annotations

import asyncio
from typing import Any

from simplews import AioServer

SCOPE = {
    "type": "websocket",
    "asgi": {"version": "3.0", "spec_version": "2.4"},
    "path": "/a b",
    "raw_path": b"/a%20b",
    "query_string": b"x=1",
    "headers": [(b"host", b"example.org"), (b"origin", b"https://example.org")],
    "subprotocols": ["a", "b"],
    "client": ["127.0.0.1", 5],
    "server": ["127.0.0.1", 80],
}


class Events(asyncio.Queue[Any]):
    """What a server has to say; as in hypercorn and daphne, its `get` is their receive()."""

    receiving = 0

    async def get(self) -> Any:
        self.receiving += 1
        try:
            assert self.receiving == 1, "two receive() at once"
            return await super().get()
        finally:
            self.receiving -= 1


class Server:
    """
    The server's end: what it has to say, and what it was told.

    Attributes:
        direct: Whether its receive() is known to be safe to cancel.
    """

    direct = True

    def __init__(self, **scope: Any) -> None:
        self.scope: dict[str, Any] = {**SCOPE, **scope}
        self.events = Events()
        self.sent: list[dict[str, Any]] = []
        self.blocked: asyncio.Future[None] | None = None
        self.failure: Exception | None = None
        self.events.put_nowait({"type": "websocket.connect"})

    def say(self, kind: str, **fields: Any) -> None:
        self.events.put_nowait({"type": f"websocket.{kind}", **fields})

    async def receive(self) -> Any:
        return await self.events.get()

    async def send(self, event: Any) -> None:
        if self.failure is not None:
            raise self.failure
        if self.blocked is not None:
            await asyncio.shield(self.blocked)
        self.sent.append(event)

    def kinds(self) -> list[str]:
        return [event["type"].partition(".")[2] for event in self.sent]

    @property
    def triple(self) -> tuple[Any, Any, Any]:
        return self.scope, self.events.get if self.direct else self.receive, self.send

    async def accept(self, **options: Any) -> AioServer:
        return await AioServer.accept(asgi=self.triple, **options)
