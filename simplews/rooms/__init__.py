"""Rooms: who gets which message, in one process or through an engine in many."""

from ..speedups import ignore_compiled, wanted

if not wanted():
    ignore_compiled(__path__[0])

from .backend import Backend, Gap, History, Position
from .joining import Joined
from .member import Overflow
from .members import BroadcastResult
from .memory import Memory
from .nats import Nats
from .presence import PresenceChange, Present
from .redis import Redis
from .rooms import Rooms

__all__ = [
    "Backend",
    "BroadcastResult",
    "Gap",
    "History",
    "Joined",
    "Memory",
    "Nats",
    "Overflow",
    "Position",
    "PresenceChange",
    "Present",
    "Redis",
    "Rooms",
]
