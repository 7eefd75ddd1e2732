"""What every test has: a deadline, also for what its fixtures do afterwards."""

from __future__ import annotations

import os
import signal
from collections.abc import Mapping
from importlib.metadata import version
from typing import Any

import pytest

import simplews

from .cut import CutLoop
from .tls import Tls

DEADLINE = pytest.StashKey[Any]()

# A shell starts what it puts into the background with SIGINT ignored, and every
# child inherits that; the programs that tests start must be stoppable by it.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_addoption(parser: pytest.Parser) -> None:
    """Other networks to run the tests on."""
    group = parser.getgroup("simplews")
    group.addoption(
        "--cut",
        action="store_true",
        help="cut everything that crosses the network into single bytes; see tests/cut.py",
    )
    group.addoption(
        "--fault",
        choices=["delay", "split", "slow"],
        help="run tests/behaviour behind a relay that does this to both directions",
    )
    group.addoption(
        "--thorough",
        action="store_true",
        help="run tests/faults at every byte instead of some",
    )


class CutNetwork:
    """The plugin behind ``--cut``, for the folders that are not on a clock of their own."""

    @pytest.hookimpl(optionalhook=True, trylast=True)
    def pytest_asyncio_loop_factories(self, config: Any, item: Any) -> Mapping[str, Any]:
        """pytest-asyncio: the loop of every test."""
        return {"cut": CutLoop}


def pytest_configure(config: pytest.Config) -> None:
    """Read the options, and do without the machine's proxies: here and in child processes."""
    for name in list(os.environ):
        if name.lower().endswith("_proxy"):
            del os.environ[name]
    if config.getoption("cut"):
        config.pluginmanager.register(CutNetwork())


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Skip, and say so, what cannot be on a network that cuts."""
    if config.getoption("cut"):
        for item in items:
            if item.get_closest_marker("whole"):
                item.add_marker(pytest.mark.skip(reason="counts on whole reads, and this is --cut"))


def pytest_report_header(config: pytest.Config) -> str:
    """Say what is tested: the checkout, or an installed wheel."""
    cut = ", on a network that cuts into single bytes" if config.getoption("cut") else ""
    return f"simplews {version('simplews')} from {simplews.__path__[0]}{cut}"


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
