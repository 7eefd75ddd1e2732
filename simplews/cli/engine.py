"""The engine behind a command's rooms: ``--redis URL`` or ``--nats URL``."""

from __future__ import annotations

import argparse
import functools
import logging
from collections.abc import Callable
from urllib.parse import urlsplit

from .. import BackendUnavailable, Rooms
from ..rooms import Backend, Nats, Redis
from .errors import CommandError, UsageError

__all__ = ["MakeBackend", "add_engine_arguments", "engine_of", "ensure_reachable"]

# Seconds that an engine may take to answer before the command starts.
_PATIENCE = 2.0

MakeBackend = Callable[[], Backend]


def add_engine_arguments(parser: argparse.ArgumentParser) -> None:
    """Add ``--redis`` and ``--nats``, of which one may be given."""
    group = parser.add_mutually_exclusive_group()
    group.add_argument(
        "--redis", metavar="URL", help="rooms across processes, such as redis://localhost:6379"
    )
    group.add_argument(
        "--nats", metavar="URL", help="rooms across processes, such as nats://localhost:4222"
    )


def engine_of(args: argparse.Namespace) -> MakeBackend | None:
    """
    What makes the backend of each process; it can be pickled. None without an engine.

    Raises:
        UsageError: The URL is none of the engine's.
        CommandError: Its package is not installed.
    """
    make: MakeBackend
    if args.redis is not None:
        make = functools.partial(Redis, args.redis)
    elif args.nats is not None:
        # nats-py takes anything for a host name, and says so only much later.
        if urlsplit(args.nats).scheme not in ("nats", "tls"):
            raise UsageError(f"--nats {args.nats}: the URL must begin with nats:// or tls://")
        make = functools.partial(Nats, args.nats)
    else:
        return None
    try:
        make()
    except ImportError as error:
        raise CommandError(str(error)) from error
    except ValueError as error:
        option = "redis" if args.redis is not None else "nats"
        raise UsageError(f"--{option} {getattr(args, option)}: {error}") from error
    return make


async def ensure_reachable(make: MakeBackend) -> None:
    """
    Say at once that the engine is not there: every member would have to find out.

    Raises:
        CommandError: It does not answer.
    """
    log = logging.getLogger("simplews.rooms")
    # What it would log, attempt by attempt, is in the error.
    before, log.disabled = log.disabled, True
    try:
        async with Rooms(make(), publish_timeout=_PATIENCE):
            pass
    except BackendUnavailable as error:
        raise CommandError(f"{error} Is it running, and is the URL right?") from error
    finally:
        log.disabled = before
