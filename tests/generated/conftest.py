"""
How much is generated: some seconds' worth, or some minutes' with::

    HYPOTHESIS_PROFILE=long pytest tests/generated -o timeout=0 -o faulthandler_timeout=0

which is what ``tox run -e generated`` does.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from hypothesis import HealthCheck, settings

# The literal reading of the RFCs, and the fuzzer's targets, are no part of the package.
sys.path.append(str(Path(__file__).resolve().parents[2] / "fuzz"))

# What is drawn are operations, each of which takes real sockets some time.
_SLOW = [HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much]
_COMMON = {"deadline": None, "suppress_health_check": _SLOW}

# No deadline: one slow machine is no bug. In CI every run draws the same examples.
settings.register_profile("generated", max_examples=50, derandomize="CI" in os.environ, **_COMMON)
settings.register_profile("long", max_examples=2000, **_COMMON)
settings.load_profile("long" if os.environ.get("HYPOTHESIS_PROFILE") == "long" else "generated")
