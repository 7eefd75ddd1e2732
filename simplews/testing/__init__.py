"""The testing kit: real connections without ports, faults, and a clock that jumps."""

from .asgi import ASGIClient, connect_asgi
from .clock import ClockLoop
from .faults import Faults, Way
from .memory import PairOptions, pair

__all__ = ["ASGIClient", "ClockLoop", "Faults", "PairOptions", "Way", "connect_asgi", "pair"]
