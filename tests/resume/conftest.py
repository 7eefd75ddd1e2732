"""These tests run on a clock that jumps; see `tests/clock.py`."""

from ..clock import no_complaint, nothing_left, pytest_asyncio_loop_factories

__all__ = ["no_complaint", "nothing_left", "pytest_asyncio_loop_factories"]
