"""Rooms: who gets which message, in one process or through an engine in many."""

from .backend import Backend, Gap, History, Position
from .member import Overflow
from .memory import Memory
from .nats import Nats
from .presence import PresenceChange, Present
from .redis import Redis
from .rooms import BroadcastResult, Joined, Rooms

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
