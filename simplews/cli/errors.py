"""What stops a command: one line for the person who typed it, and an exit status."""

from __future__ import annotations

__all__ = ["CommandError", "UsageError"]


class CommandError(Exception):
    """The command could not do its work; the text says why and what to do."""

    status = 1


class UsageError(CommandError):
    """The command makes no sense as written."""

    status = 2
