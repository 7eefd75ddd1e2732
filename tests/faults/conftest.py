"""Every source that the contract knows, behind a network whose faults change the outcome."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from simplews.testing import Faults

from ..behaviour.conftest import (
    ASGI_SOURCES,
    SOURCES,
    Source,
    behind,
    make_source,
    nothing_left,
)
from ..tls import Tls

__all__ = ["nothing_left"]


@pytest.fixture(params=SOURCES)
def kind(request: pytest.FixtureRequest) -> str:
    """The name of a source, each in turn."""
    name = str(request.param)
    if name == "serve+unix" and not hasattr(socket, "AF_UNIX"):
        pytest.skip("this platform has no Unix sockets")
    return name


@pytest.fixture
def is_asgi(kind: str) -> bool:
    """Whether an ASGI server has the connection."""
    return kind in ASGI_SOURCES


@pytest.fixture
def faults() -> Faults:
    """The network in front of `server`; a test makes it worse."""
    return Faults()


@pytest.fixture
def server(kind: str, faults: Faults, tls: Tls, tmp_path: Path) -> Source:
    """A source behind `faults`."""
    return behind(lambda: faults, make_source(kind, tls, tmp_path))
