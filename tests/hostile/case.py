"""What a hostile or unlucky peer does, as data: one `Case` a row of the table."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ..protocol.by_hand import F

__all__ = ["ALL", "ANY", "CLIENT", "HTTP", "INSIDE", "PLAIN", "SERVERS", "TLS", "Case", "Step"]

#: What a peer does that is no frame: ``async def step(stage)``, see `stage.Stage`.
Step = Callable[[Any], Awaitable[None]]

#: Our client, against a hostile server.
CLIENT = ("client",)
#: Our server, where the bytes reach us as they are.
PLAIN = ("socket", "serve")
TLS = ("stream+tls", "serve+tls")
#: Where the request is read by us.
HTTP = ("socket", "stream", "serve")
#: Where the frames are read by us, as a server.
SERVERS = ("socket", "socket+headers", "stream", "stream+tls", "serve", "serve+tls", "aiohttp")
#: Inside ASGI servers, on the clock on the wall: they have threads of their own.
INSIDE = ("uvicorn", "hypercorn", "granian", "daphne")
#: Both roles. What reads frames is the same everywhere, so most rows need no more.
ANY = ("socket", "client")
#: Both roles, over all that carries bytes.
ALL = (*SERVERS, "client")


@dataclass(frozen=True)
class Case:
    """
    One row.

    Attributes:
        id: Its name, unique in its group.
        does: What the peer does, in words.
        script: The frames, bytes and steps with which it does so: behind the opening
            handshake, or instead of it, if the case says so.
        expect: What is to be seen, in the words of `stage.Seen`.
        rule: The clause that says so, or the page of ours that promises it.
        over: The sources, and "client".
        options: For `accept`, `serve` or `connect`.
        offer: The extension that is agreed on: what a client offers, what a server answers.
        app: What our application does; None collects messages until the end.
        opening: Whether the script stands in place of the peer's half of the opening
            handshake. In a server's, ``{accept}`` stands for what answers our key.
        within: Seconds after the script in which TCP must be closed.
        cut: Whether to write the bytes one by one as well.
    """

    id: str
    does: str
    script: Sequence[F | bytes | Step]
    expect: str
    rule: str
    over: Sequence[str] = ANY
    options: Mapping[str, Any] = field(default_factory=dict)
    offer: str | None = None
    app: Callable[[Any, Any], Awaitable[None]] | None = None
    opening: bool = False
    within: float = 1.0
    cut: bool = True
