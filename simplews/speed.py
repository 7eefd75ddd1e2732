"""The switch for the packages of the extra ``speed``: what is installed is used.

::

    import simplews.speed

    simplews.speed.enable()
    simplews.speed.run(main())

or the environment variable ``SIMPLEWS_SPEED=1``, read when simplews is imported.
It is a switch of its own, and not thrown by their being installed, because they
are there for other programs too, and change a little of what can be seen: see
the guide on speed.
"""

from __future__ import annotations

import asyncio
import importlib
import os
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from typing import Any, TypeVar

from .link.transports import use_transports
from .protocol.deflate import use_compressor

__all__ = ["Report", "disable", "enable", "loop_factory", "report", "run"]

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Report:
    """
    What is in use: a package and its version, or None for the standard library.

    Attributes:
        loop: The event loop of `run` and of the command line.
        tls: Transports of TLS.
        compression: Compressing of permessage-deflate at the levels 1 to 3.
    """

    loop: str | None
    tls: str | None
    compression: str | None


# Without uvloop, aiofastnet or isal: None.
_uvloop: Any = None
_report = Report(None, None, None)


def enable() -> Report:
    """
    Use what is installed of uvloop, aiofastnet and isal, from now on.

    What is not installed is left out, and so is what fails to load. Servers that
    listen and connections that are open stay as they are.

    Returns:
        What is in use, as `report` has it.
    """
    global _report, _uvloop
    _uvloop, loop = _load("uvloop")
    aiofastnet, tls = _load("aiofastnet")
    isal, compression = _load("isal", "isal.isal_zlib")
    use_transports(aiofastnet)
    # Level 0 does not compress, and isal's does. At 4 and above zlib finds more.
    use_compressor(isal and isal.compressobj, range(1, 4))
    _report = Report(loop, tls, compression)
    return _report


def disable() -> None:
    """Use the standard library alone, from now on."""
    global _report, _uvloop
    _uvloop = None
    use_transports(None)
    use_compressor(None)
    _report = Report(None, None, None)


def report() -> Report:
    """What is in use."""
    return _report


def loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    """What ``asyncio.Runner(loop_factory=)`` takes: uvloop's, or None for asyncio's."""
    factory: Callable[[], asyncio.AbstractEventLoop] | None = None
    if _uvloop is not None:
        factory = _uvloop.new_event_loop
    return factory


def run(main: Coroutine[Any, Any, T]) -> T:
    """
    ``asyncio.run(main)``, on uvloop if it is in use.

    Args:
        main: A coroutine.
    """
    with asyncio.Runner(loop_factory=loop_factory()) as runner:
        return runner.run(main)


def _load(package: str, module: str = "") -> tuple[Any, str | None]:
    """A module, and its package with its version; None and None without it."""
    try:
        found = importlib.import_module(module or package)
        return found, f"{package} {version(package)}"
    except (ImportError, OSError, PackageNotFoundError):
        return None, None


if os.environ.get("SIMPLEWS_SPEED", "") not in ("", "0"):
    enable()
