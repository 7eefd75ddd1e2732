"""Rooms: who gets which message. In memory, for the connections of this process."""

from .member import Overflow
from .rooms import BroadcastResult, Rooms

__all__ = ["BroadcastResult", "Overflow", "Rooms"]
