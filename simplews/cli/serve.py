"""Serve a WebSocket handler from your own module.

HANDLER is module:name, with the current directory on the import path. The name
is an "async def handler(ws)", or a dict of path to such handlers. Ctrl-C stops
the server with exit status 130, SIGTERM with 0.

--lifespan names a function that takes the Server and returns an async context
manager: what each process opens before its first connection and closes after its
last one.
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import importlib
import inspect
import ssl
import sys
import traceback
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager
from typing import Any, cast

from .. import AioServer, Server, speed
from .errors import CommandError, UsageError
from .listen import Handlers, add_address_arguments, listen, log_to_stderr
from .reload import run_reloading

__all__ = ["HELP", "add_arguments", "run"]

HELP = "serve a handler from your own module"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``simplews serve``."""
    parser.add_argument("handler", metavar="HANDLER", help="module:name, such as chat:handler")
    add_address_arguments(parser)
    parser.add_argument("--path", help="serve this path only (default: every path)")
    parser.add_argument(
        "--lifespan",
        metavar="NAME",
        help="module:name of what each process opens and closes around its connections",
    )
    parser.add_argument("--ssl-cert", metavar="FILE", help="certificate chain, PEM: serve wss://")
    parser.add_argument("--ssl-key", metavar="FILE", help="private key, PEM, if not in --ssl-cert")
    parser.add_argument(
        "--reload", action="store_true", help="start again when a .py file here changes"
    )


def run(args: argparse.Namespace) -> int:
    """Serve the handler until stopped."""
    if args.reload:
        return run_reloading()
    handlers = _load_at_path(args.path, args.handler)
    if args.lifespan is not None:
        _load_lifespan(args.lifespan)  # which says what is wrong, before anything starts
    # A function, for every worker makes its own; called here it says what is wrong.
    context = functools.partial(_ssl_context, args.ssl_cert, args.ssl_key)
    secure = context() is not None
    log_to_stderr()
    speed.run(_serve(args, handlers, context if secure else None))
    return 0


async def _serve(
    args: argparse.Namespace,
    handlers: Handlers,
    context: Callable[[], ssl.SSLContext | None] | None,
) -> None:
    scheme = "wss" if context else "ws"
    paths = sorted(handlers) if isinstance(handlers, Mapping) else ["/"]

    def announce(address: str) -> None:
        for path in paths:
            print(f"Serving {args.handler} on {scheme}://{address}{path}", flush=True)

    if args.workers is not None:
        handlers = _Imported(args.handler, args.path)
    options: dict[str, Any] = {"ssl": context}
    if args.lifespan is not None:
        options["lifespan"] = functools.partial(_lifespan, args.lifespan)
    await listen(f"serve {args.handler}", handlers, args, announce, **options)


@contextlib.asynccontextmanager
async def _lifespan(target: str, server: Server) -> AsyncIterator[None]:
    """Loaded by each process, with what the name means then."""
    async with contextlib.AsyncExitStack() as stack:
        try:
            await stack.enter_async_context(_load_lifespan(target)(server))
        except Exception as error:
            # An OSError of its would be taken for one of listening.
            raise CommandError(
                f"entering --lifespan {target} failed:\n\n{traceback.format_exc().rstrip()}"
            ) from error
        yield


class _Imported:
    """
    What ``module:name`` means to each process that it is sent to.

    So a worker that is started later gets the name as it is then, with whatever has
    changed behind it.
    """

    def __init__(self, target: str, path: str | None) -> None:
        self._target = target
        self._path = path

    def __reduce__(self) -> tuple[Callable[..., Handlers], tuple[str | None, str]]:
        return _load_at_path, (self._path, self._target)

    async def __call__(self, ws: AioServer) -> None:
        raise AssertionError("a supervisor serves nobody")


def _load_at_path(path: str | None, target: str) -> Handlers:
    return _at_path(path, load(target))


def load(target: str) -> Handlers:
    """
    Import the handler that ``module:name`` means.

    Raises:
        UsageError: There is no such module or name, or it is not a handler.
        CommandError: The module is there, but importing it failed.
    """
    found = _load(target)
    _check(target, found)
    handlers: Handlers = found
    return handlers


def _load_lifespan(target: str) -> Callable[[Server], AbstractAsyncContextManager[object]]:
    found = _load(target)
    wrong = inspect.iscoroutinefunction(found) or inspect.isasyncgenfunction(found)
    if wrong or not callable(found):
        raise UsageError(
            f"--lifespan {target} is not a function that returns an async context manager; "
            "decorate an async function that yields with contextlib.asynccontextmanager"
        )
    return cast(Callable[[Server], AbstractAsyncContextManager[object]], found)


def _load(target: str) -> Any:
    module_name, colon, attribute = target.partition(":")
    if not (module_name and colon and attribute):
        raise UsageError(f"{target!r} is not module:name, such as chat:handler")
    found: Any = _import(module_name)
    for name in attribute.split("."):
        try:
            found = getattr(found, name)
        except AttributeError:
            raise UsageError(f"module {module_name!r} has no {attribute!r}") from None
    return found


def _import(name: str) -> Any:
    if "" not in sys.path:
        sys.path.insert(0, "")
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        # Another name means that the module was found, and that one of its own
        # imports was not.
        if error.name is not None and f"{name}.".startswith(f"{error.name}."):
            raise UsageError(f"no module named {error.name!r} here or on the import path") from None
        raise _import_failed(name) from error
    except Exception as error:
        raise _import_failed(name) from error


def _import_failed(name: str) -> CommandError:
    return CommandError(f"importing {name!r} failed:\n\n{traceback.format_exc().rstrip()}")


def _check(target: str, found: Any) -> None:
    if not isinstance(found, Mapping):
        if not _is_coroutine_function(found):
            raise UsageError(
                f"{target} is {_described(found)}, not a handler: async def handler(ws), "
                "or a dict of path to handler"
            )
        return
    if not found:
        raise UsageError(f"{target} is an empty dict: no path to serve")
    for path, handler in found.items():
        if not (isinstance(path, str) and path.startswith("/")):
            raise UsageError(f"{target}: the key {path!r} is not a path, such as '/chat'")
        if not _is_coroutine_function(handler):
            raise UsageError(f"{target}: {path} is {_described(handler)}, not an async def")


def _is_coroutine_function(found: Any) -> bool:
    if inspect.iscoroutinefunction(found):
        return True
    # An object with "async def __call__".
    return callable(found) and inspect.iscoroutinefunction(type(found).__call__)


def _described(found: Any) -> str:
    if inspect.isroutine(found):
        return "a function without async"
    return f"a {type(found).__name__}"


def _at_path(path: str | None, handlers: Handlers) -> Handlers:
    if path is None:
        return handlers
    if isinstance(handlers, Mapping):
        raise UsageError("--path is for a single handler; the dict already says its paths")
    if not path.startswith("/"):
        raise UsageError(f"--path {path!r} must begin with /")
    return {path: handlers}


def _ssl_context(cert: str | None, key: str | None) -> ssl.SSLContext | None:
    if cert is None:
        if key is not None:
            raise UsageError("--ssl-key needs --ssl-cert as well")
        return None
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    try:
        context.load_cert_chain(cert, key)
    except FileNotFoundError:
        raise CommandError(f"no such file: {cert}" + (f" or {key}" if key else "")) from None
    except (OSError, ValueError) as error:  # ssl.SSLError is an OSError
        raise CommandError(
            f"--ssl-cert {cert} cannot be used: {error}; it must be PEM, with its private key "
            "in the same file or in --ssl-key"
        ) from error
    return context
