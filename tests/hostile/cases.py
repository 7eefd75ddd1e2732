"""All cases, in the order in which the page tells them."""

from __future__ import annotations

from . import answer, closing, deflate, flow, frames, handshake, inside, text
from .case import Case

__all__ = ["CASES", "GROUPS"]

#: Title of each group, and its cases.
GROUPS: dict[str, list[Case]] = {
    "Opening handshake: requests": handshake.CASES,
    "Opening handshake: answers": answer.CASES,
    "Frames": frames.CASES,
    "Text": text.CASES,
    "permessage-deflate": deflate.CASES,
    "Inbox, outbox, keepalive": flow.CASES,
    "Closing": closing.CASES,
    "Inside ASGI servers": inside.CASES,
}

CASES = [case for cases in GROUPS.values() for case in cases]
