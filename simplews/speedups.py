"""Which modules run compiled, and how to do without (``SIMPLEWS_PURE=1``)."""

from __future__ import annotations

import importlib.machinery as machinery
import os
import sys

__all__ = ["MODULES", "ignore_compiled", "loaded", "wanted"]

#: The modules that may be compiled; all of them are, or none.
MODULES = (
    "simplews.protocol.octets",
    "simplews.protocol.codec",
    "simplews.link.timers",
    "simplews.link.waiter",
    "simplews.link.inbox",
    "simplews.link.direct",
    "simplews.link.outbox",
    "simplews.link.wire",
    "simplews.link.step",
    "simplews.link.talk",
    "simplews.link.asgilink",
    "simplews.rooms.member",
)


def wanted() -> bool:
    """What ``SIMPLEWS_PURE`` says."""
    return os.environ.get("SIMPLEWS_PURE", "") in ("", "0")


def ignore_compiled(folder: str) -> None:
    """Import the modules in *folder* from their source, whatever lies beside it."""
    loader = (machinery.SourceFileLoader, machinery.SOURCE_SUFFIXES)
    sys.path_importer_cache[folder] = machinery.FileFinder(folder, loader)


def loaded() -> tuple[str, ...]:
    """The modules that were imported compiled."""
    suffixes = tuple(machinery.EXTENSION_SUFFIXES)
    return tuple(
        name
        for name in MODULES
        if name in sys.modules and (sys.modules[name].__file__ or "").endswith(suffixes)
    )
