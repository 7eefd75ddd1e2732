"""The testing kit: real connections without ports, faults, and a clock that jumps."""

from .clock import ClockLoop
from .faults import Faults, Way
from .memory import PairOptions, pair

__all__ = ["ClockLoop", "Faults", "PairOptions", "Way", "pair"]
