r"""Connect to a WebSocket server and talk to it.

In a terminal, each line that is typed is sent as a text message; ">" marks what
was sent, "<" what arrived. Ctrl-D closes the connection.

In a pipe, each line of standard input is one text message, and each message
that arrives is one line of standard output: control characters in it are
escaped (\n, \x1b), and a binary message is written as "base64:" and its bytes.
After the end of standard input, what still arrives is printed until the server
closes or is silent for --linger seconds. The reason of the end goes to standard
error.

With --json every event is one JSON object a line, with "event" being "open",
"sent", "received", "pong", "closed" or "failed". Text messages are in "data",
binary ones in "base64".

Exit status: 0 after a normal close (1000, 1001, or no code), 1 when the
connection could not be opened or ended in another way, 2 for wrong arguments,
130 after Ctrl-C, 143 after SIGTERM.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import io
import math
import os
import signal
import ssl
import sys

from .. import AioClient, ConnectionError
from .conversation import Conversation
from .editor import LineEditor
from .errors import CommandError, UsageError
from .lines import Input, Piped
from .screen import ForJson, ForPeople, ForPipes, Screen, escape

__all__ = ["HELP", "add_arguments", "run"]

HELP = "talk to a WebSocket server, from a terminal or in a pipe"

# Seconds a Pong may take. --ping is how often somebody wants to see the round
# trip, which may be ten times a second; it is no verdict on a slow network.
PING_TIMEOUT = 20

MESSAGE_LIMIT = 64 << 20  # bytes of one message; the server decides what it sends, not our memory


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``simplews connect``."""
    parser.add_argument("url", metavar="URL", help="ws:// or wss:// URL; quote it for the shell")
    parser.add_argument(
        "--header",
        action="append",
        type=_header,
        default=[],
        metavar="'NAME: VALUE'",
        help="send this header field in the opening handshake; may be repeated",
    )
    parser.add_argument(
        "--subprotocol",
        action="append",
        metavar="NAME",
        help="offer this subprotocol; may be repeated, the preferred one first",
    )
    parser.add_argument(
        "--insecure", action="store_true", help="accept any certificate of a wss:// server"
    )
    parser.add_argument(
        "--proxy",
        type=_proxy,
        default=True,
        metavar="URL",
        help="connect through this proxy, or 'none' (default: what the environment names)",
    )
    parser.add_argument("--json", action="store_true", help="print each event as a JSON object")
    parser.add_argument(
        "--ping", type=_interval, metavar="SECONDS", help="ping so often, and show how long it took"
    )
    parser.add_argument(
        "--linger",
        type=_seconds,
        default=1.0,
        metavar="SECONDS",
        help="silence after the end of piped input that ends the connection (default: "
        "%(default)s; inf: only the server ends it)",
    )
    parser.add_argument(
        "--no-color",
        action="store_true",
        help="no colours; NO_COLOR in the environment does it too",
    )


def _header(text: str) -> tuple[str, str]:
    name, colon, value = text.partition(":")
    if not (colon and name.strip()):
        raise argparse.ArgumentTypeError(f"{text!r} is not 'Name: value'")
    return name.strip(), value.strip()


def _proxy(text: str) -> str | None:
    return None if text == "none" else text


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = math.nan
    if not seconds >= 0:  # nan is not, either
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of seconds")
    return seconds


def _interval(text: str) -> float:
    seconds = _seconds(text)
    if not 0 < seconds < math.inf:
        raise argparse.ArgumentTypeError(f"{text!r} is not an interval in seconds")
    return seconds


def run(args: argparse.Namespace) -> int:
    """Connect, talk, and tell how it ended."""
    try:
        return asyncio.run(_connect(args))
    except BrokenPipeError:
        # Whoever read our output has seen enough (| head). Python would fail
        # once more when it flushes standard output at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except asyncio.CancelledError:
        return 128 + signal.SIGTERM


async def _connect(args: argparse.Namespace) -> int:
    _close_on_sigterm()
    attended = sys.stdin is not None and sys.stdin.isatty() and sys.stdout.isatty()
    source = _source(attended)
    screen = _screen(args, attended, source)
    try:
        ws = await AioClient.connect(
            args.url,
            headers=args.header,
            subprotocols=args.subprotocol,
            ping_interval=args.ping,
            ping_timeout=PING_TIMEOUT,
            max_message_size=MESSAGE_LIMIT,
            ssl_context=_trusting_context() if args.insecure else None,
            proxy=args.proxy,
        )
    except ImportError as error:  # a SOCKS proxy needs a package
        raise CommandError(str(error)) from error
    except ValueError as error:  # a URL or a header field that could never work
        raise UsageError(escape(str(error))) from error
    except ConnectionError as error:
        screen.failed(error)
        return 1

    with source.open():
        async with ws:
            linger = None if attended else args.linger
            talk = Conversation(ws, source, screen, linger=linger, ping_interval=args.ping)
            await talk.hold()
    screen.ended(ws)
    return 0 if ws.exception() is None else 1


def _source(attended: bool) -> Input:
    if attended and os.environ.get("TERM") != "dumb":
        with contextlib.suppress(ImportError):  # Windows: its console edits lines by itself
            from .terminal import Typed

            return Typed(LineEditor())
    return Piped()


def _screen(args: argparse.Namespace, attended: bool, source: Input) -> Screen:
    # A terminal that cannot show a character shows its number.
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")
    if args.json:
        return ForJson(source.print)
    if not attended:
        return ForPipes(source.print)
    edited = not isinstance(source, Piped)
    # https://no-color.org: present and not empty, whatever its value.
    colour = edited and not args.no_color and not os.environ.get("NO_COLOR")
    return ForPeople(source.print, colour=colour, repeat_sent=edited)


def _trusting_context() -> ssl.SSLContext:
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def _close_on_sigterm() -> None:
    """Let SIGTERM close the connection and give the terminal back, as Ctrl-C does."""
    task = asyncio.current_task()
    assert task is not None
    with contextlib.suppress(NotImplementedError):  # Windows
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
