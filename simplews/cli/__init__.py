"""The command line: ``simplews connect``, ``simplews serve``, ``simplews demo``.

One module a command. Each has::

    HELP                     one line for the list of commands
    add_arguments(parser)    what may be written after the command's name
    run(args) -> int         does it; the result is the exit status

Exit status: 0 for success, 1 for a failure, 2 for a command that makes no
sense as written, 130 (128 + SIGINT, the shell's convention) after Ctrl-C.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from typing import Protocol

from .. import __version__
from . import connect, demo, serve
from .errors import CommandError

__all__ = ["main"]

INTERRUPTED = 130


class _Command(Protocol):
    @property
    def HELP(self) -> str: ...
    def add_arguments(self, parser: argparse.ArgumentParser) -> None: ...
    def run(self, args: argparse.Namespace) -> int: ...


COMMANDS: dict[str, _Command] = {"connect": connect, "serve": serve, "demo": demo}


def main(argv: Sequence[str] | None = None) -> int:
    """
    Run one command.

    Args:
        argv: The arguments without the program's name; ``None`` means
            ``sys.argv``.

    Returns:
        The exit status.
    """
    parser = _parser()
    args = parser.parse_args(argv)
    if args.command is None:
        parser.print_help()
        return 0
    try:
        return COMMANDS[args.command].run(args)
    except CommandError as error:
        print(f"simplews {args.command}: {error}", file=sys.stderr)
        return error.status
    except KeyboardInterrupt:
        return INTERRUPTED
    finally:
        _let_go()


def _let_go() -> None:
    """Drop what nobody reads any more: for a closed terminal Python would end with 120."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except OSError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def _parser() -> argparse.ArgumentParser:
    # allow_abbrev=False: a script that says --sub today must not change its
    # meaning when an option is added tomorrow.
    parser = argparse.ArgumentParser(
        prog="simplews", description="WebSockets from the command line.", allow_abbrev=False
    )
    parser.add_argument("--version", action="version", version=f"simplews {__version__}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", title="commands")
    for name, command in COMMANDS.items():
        command.add_arguments(
            commands.add_parser(
                name,
                help=command.HELP,
                description=command.__doc__,
                formatter_class=argparse.RawDescriptionHelpFormatter,
                allow_abbrev=False,
            )
        )
    return parser
