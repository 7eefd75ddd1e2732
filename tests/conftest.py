"""What every test has: a deadline, also for what its fixtures do afterwards."""

from __future__ import annotations

import signal
from importlib.metadata import version
from typing import Any

import pytest

import simplews

from .tls import Tls

DEADLINE = pytest.StashKey[Any]()

# A shell starts what it puts into the background with SIGINT ignored, and every
# child inherits that; the programs that tests start must be stoppable by it.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_report_header() -> str:
    """Say what is tested: the checkout, or an installed wheel."""
    return f"simplews {version('simplews')} from {simplews.__path__[0]}"


@pytest.hookimpl(tryfirst=True)
def pytest_timeout_set_timer(item: pytest.Item, settings: Any) -> None:
    """Remember the test's deadline; returning None lets pytest-timeout set it."""
    item.stash[DEADLINE] = settings


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_teardown(item: pytest.Item) -> None:
    """
    Start the deadline anew.

    pytest-timeout stops its clock when a test fails, and its fixtures could
    then wait for ever for what never comes.
    """
    if DEADLINE in item.stash:
        item.ihook.pytest_timeout_cancel_timer(item=item)
        item.ihook.pytest_timeout_set_timer(item=item, settings=item.stash[DEADLINE])


@pytest.fixture(scope="session")
def tls() -> Tls:
    """A certificate for this machine, and a client that trusts it."""
    return Tls()
