"""What ``simplews serve`` and ``simplews demo`` share: a listening server, and its failures."""

from __future__ import annotations

import argparse
import contextlib
import errno
import logging
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from .. import AioServer, Server, WebSocketRuntimeError, Workers, serve
from .errors import CommandError, UsageError

__all__ = [
    "Handler",
    "Handlers",
    "add_address_arguments",
    "authority",
    "listen",
    "log_to_stderr",
]

Handler = Callable[[AioServer], Awaitable[object]]
Handlers = Handler | Mapping[str, Handler]


def add_address_arguments(parser: argparse.ArgumentParser) -> None:
    """Add ``--host``, ``--port`` and ``--workers``."""
    parser.add_argument(
        "--host", default="127.0.0.1", help="address to listen on (default: %(default)s)"
    )
    parser.add_argument(
        "--port",
        type=_port,
        default=8000,
        help="port to listen on, 0 for any that is free (default: %(default)s)",
    )
    parser.add_argument(
        "--workers",
        type=_count,
        metavar="N",
        help="serve with so many processes; SIGHUP replaces them one after the other",
    )


def _count(text: str) -> int:
    count = int(text) if text.isascii() and text.isdecimal() else 0
    if not 1 <= count <= 1024:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of processes: 1 to 1024")
    return count


def _port(text: str) -> int:
    port = int(text) if text.isascii() and text.isdecimal() else -1
    if not 0 <= port <= 65535:
        raise argparse.ArgumentTypeError(f"{text!r} is not a port: 0 to 65535")
    return port


async def listen(
    command: str,
    handlers: Handlers,
    args: argparse.Namespace,
    announce: Callable[[str], None],
    **options: Any,
) -> None:
    """
    Serve until SIGTERM or Ctrl-C; every connection is then closed with 1001.

    Args:
        command: The command's name, for the advice in an error.
        handlers: One handler, or one a path.
        args: Where ``--host``, ``--port`` and ``--workers`` are.
        announce: Called with ``host:port`` once connections are accepted.
        options: Passed to ``serve()``.

    Raises:
        CommandError: The address cannot be listened on, or a worker does not start.
    """
    async with contextlib.AsyncExitStack() as stack:
        try:
            server: Server | Workers
            if args.workers is None:
                server = serve(handlers, args.host, args.port, **options)
            else:
                server = _workers(handlers, args, options)
            await stack.enter_async_context(server)
        except OSError as error:
            raise CommandError(_advice(command, error, args.host, args.port)) from error
        except WebSocketRuntimeError as error:
            raise CommandError(str(error)) from error
        announce(authority(args.host, server.port))
        await server.serve_forever()


def _workers(handlers: Handlers, args: argparse.Namespace, options: dict[str, Any]) -> Workers:
    options = {**options, "setup": log_to_stderr}
    try:
        server: Workers = serve(handlers, args.host, args.port, workers=args.workers, **options)
        return server
    except (TypeError, ValueError) as error:
        raise UsageError(f"--workers: {error}") from error


def log_to_stderr() -> None:
    """What the library has to say goes to standard error, unless it goes elsewhere already."""
    # basicConfig does nothing if the handler's module has set logging up itself.
    logging.basicConfig(format="%(asctime)s %(levelname)s %(message)s")
    logging.getLogger("simplews").setLevel(logging.INFO)


def authority(host: str, port: int) -> str:
    """``host:port`` as a URL writes it, with a host that can be connected to."""
    # A wildcard address is for listening; this machine reaches it as localhost.
    if host in ("", "0.0.0.0", "::"):
        host = "localhost"
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _advice(command: str, error: OSError, host: str, port: int) -> str:
    match error.errno:
        case errno.EADDRINUSE:
            other = port + 1 if port < 65535 else 0
            return (
                f"port {port} of {host} is taken by another program; "
                f"choose another, such as: simplews {command} --port {other}"
            )
        case errno.EACCES:
            return f"not allowed to listen on port {port}; choose one above 1023 with --port"
        case errno.EADDRNOTAVAIL:
            return f"{host} is not an address of this machine; choose another with --host"
        case _:
            return f"cannot listen on {authority(host, port)}: {error.strerror or error}"
