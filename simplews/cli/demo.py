"""Start a chat room with a page, to try simplews from a browser and a terminal.

Everybody who opens the page with the same ?room= talks in the same room.
With --workers the rooms are each process's own, unless an engine joins them:
--redis or --nats. Ctrl-C stops it, with exit status 130; SIGTERM stops it with 0.
"""

from __future__ import annotations

import argparse
import base64
import functools
import hashlib
import re
import threading
import webbrowser
from importlib import resources

from .. import AioServer, HandshakeRequest, Response, Server, speed
from .chat import Chat
from .engine import MakeBackend, add_engine_arguments, engine_of, ensure_reachable
from .listen import add_address_arguments, listen, log_to_stderr

__all__ = ["HELP", "add_arguments", "run"]

HELP = "a chat room with a page"

# A chat message has 2000 characters at most; the rest is JSON and room for a
# refusal that says so, instead of a connection that fails with 1009.
MESSAGE_LIMIT = 65536


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``simplews demo``."""
    add_address_arguments(parser)
    add_engine_arguments(parser)
    parser.add_argument("--open", action="store_true", help="open the page in a browser")


def run(args: argparse.Namespace) -> int:
    """Serve the page and the chat until stopped."""
    engine = engine_of(args)
    if engine is not None:
        log_to_stderr()
    speed.run(_demo(args, engine))
    return 0


async def _demo(args: argparse.Namespace, engine: MakeBackend | None) -> None:
    if engine is not None:
        await ensure_reachable(engine)

    def announce(address: str) -> None:
        _print_welcome(address)
        if args.workers is not None and args.workers > 1:
            rooms = "each with rooms of its own" if engine is None else "all with the same rooms"
            print(f"{args.workers} processes, {rooms}.", flush=True)
        if args.open:
            # Some browsers return only when they are closed; daemon, so that
            # Ctrl-C does not wait for them.
            url = f"http://{address}/"
            threading.Thread(target=webbrowser.open, args=(url,), daemon=True).start()

    members = _Members(engine)
    await listen(
        "demo",
        {"/chat": members},
        args,
        announce,
        lifespan=members.lifespan,
        http=Site().answer,
        max_message_size=MESSAGE_LIMIT,
    )


def _print_welcome(address: str) -> None:
    # Quotes: "?" is a pattern to the shell.
    print(
        f"The chat room is open:      http://{address}/\n"
        f'Join from another terminal: simplews connect "ws://{address}/chat?room=general"\n'
        "Ctrl-C stops it.",
        flush=True,
    )


class _Members:
    """
    The handler of the chat.

    Each process makes its own `Chat`, when it begins to serve: what goes to a worker
    says how to make it, and is not it.
    """

    def __init__(self, engine: MakeBackend | None) -> None:
        self._engine = engine

    @functools.cached_property
    def _chat(self) -> Chat:
        return Chat(None if self._engine is None else self._engine())

    def lifespan(self, server: Server) -> Chat:
        """Around all the members of a process."""
        return self._chat

    async def __call__(self, ws: AioServer) -> None:
        await self._chat.handle(ws)


class Site:
    """The plain HTTP side: one page."""

    def __init__(self) -> None:
        page = resources.files("simplews.cli").joinpath("page.html").read_bytes()
        # The browser hashes a script after it has made every line ending a
        # newline; a checkout on Windows may hold others.
        page = page.replace(b"\r\n", b"\n")
        self._page = Response(
            200,
            {
                "Content-Type": "text/html; charset=utf-8",
                "Content-Security-Policy": content_security_policy(page),
                "Cache-Control": "no-store",
                "Referrer-Policy": "no-referrer",
                "X-Content-Type-Options": "nosniff",
            },
            page,
        )

    async def answer(self, request: HandshakeRequest) -> Response:
        """Answer a request that does not open a WebSocket."""
        if request.path == "/chat":
            return _plain(426, "This address speaks WebSocket.\n", {"Upgrade": "websocket"})
        if request.path != "/":
            return _plain(404, "Nothing here. The chat is at /\n")
        return self._page


def _plain(status: int, text: str, headers: dict[str, str] | None = None) -> Response:
    fields = {"Content-Type": "text/plain; charset=utf-8", "X-Content-Type-Options": "nosniff"}
    return Response(status, fields | (headers or {}), text.encode())


def content_security_policy(page: bytes) -> str:
    """
    Allow *page* its own inline script and style, a connection home, and nothing else.

    Were user text ever to become markup, the browser would still not run it.
    """
    hashes = {tag: _inline_hash(page, tag) for tag in ("script", "style")}
    return "; ".join(
        [
            "default-src 'none'",
            f"script-src {hashes['script']}",
            f"style-src {hashes['style']}",
            "connect-src 'self'",
            "img-src data:",
            "base-uri 'none'",
            "form-action 'none'",
            "frame-ancestors 'none'",
        ]
    )


def _inline_hash(page: bytes, tag: str) -> str:
    inline = re.search(rf"<{tag}>(.*?)</{tag}>".encode(), page, re.DOTALL)
    assert inline is not None, f"page.html has no <{tag}>"
    return f"'sha256-{base64.b64encode(hashlib.sha256(inline[1]).digest()).decode()}'"
