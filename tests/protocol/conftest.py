"""
How much Hypothesis draws: 200 examples a test, or 10,000 in some ten minutes with::

    HYPOTHESIS_PROFILE=thorough pytest tests/protocol -o timeout=0 -o faulthandler_timeout=0
"""

from __future__ import annotations

import os

from hypothesis import HealthCheck, settings

_SLOW = [HealthCheck.too_slow, HealthCheck.data_too_large]

# No deadline: one slow machine is no bug. In CI every run draws the same examples.
settings.register_profile(
    "simplews",
    deadline=None,
    max_examples=200,
    derandomize="CI" in os.environ,
    suppress_health_check=_SLOW,
)
settings.register_profile(
    "thorough", deadline=None, max_examples=10_000, suppress_health_check=_SLOW
)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "simplews"))
