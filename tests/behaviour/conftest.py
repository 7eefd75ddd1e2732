"""The sources that the contract must hold over; a new one is one more entry of SOURCES.

A test asks for `server` and gets a function: ``async with server(handler, **options)
as address`` listens with one source, and ``address.connect(**options)`` dials it.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any, Protocol

import pytest

from simplews import AioClient, AioServer, ConnectionClosed, serve
from simplews import ConnectionError as OpenError
from simplews.testing import Faults

from .. import hosts
from ..tls import Tls

Handler = Callable[[AioServer], Awaitable[object]]


class Address:
    """Where a source listens, and how to get there."""

    def __init__(
        self,
        port: int,
        context: ssl.SSLContext | None,
        path: str | None = None,
        faults: Faults | None = None,
    ) -> None:
        self.faults = faults
        self.port = port
        self.context = context
        self.path = path

    def url(self, target: str = "/") -> str:
        if self.path is not None:
            return f"ws+unix:{self.path}:{target}"
        scheme = "ws" if self.context is None else "wss"
        return f"{scheme}://localhost:{self.port}{target}"

    def connect(self, target: str = "/", **options: Any) -> Any:
        return AioClient.connect(self.url(target), ssl_context=self.context, **options)

    async def streams(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """Streams for a peer that is not ours."""
        if self.path is not None:
            return await asyncio.open_unix_connection(self.path)
        return await asyncio.open_connection(
            "localhost",
            self.port,
            ssl=self.context,
            server_hostname="localhost" if self.context else None,
        )


class Source(Protocol):
    def __call__(
        self, handler: Handler, **options: Any
    ) -> AbstractAsyncContextManager[Address]: ...


# What --fault does. Single bytes at the start of what comes together, and then pieces
# that grow, so that megabytes get through; 4 MB/s for the same reason.
FAULTS: dict[str, Callable[[], Faults]] = {
    "delay": lambda: Faults(delay=0.002),
    "split": lambda: Faults(split=[1] * 256 + [2**n - 1 for n in range(1, 17)]),
    "slow": lambda: Faults(rate=4_000_000),
}


def behind(faults: Callable[[], Faults], source: Source) -> Source:
    """*source*, behind a network with *faults*."""

    @contextlib.asynccontextmanager
    async def relayed(handler: Handler, **options: Any) -> AsyncIterator[Address]:
        async with source(handler, **options) as address:
            network = faults()
            async with network.proxy("127.0.0.1", address.port, path=address.path) as port:
                yield Address(port, address.context, faults=network)

    return relayed


class Tasks:
    """Handlers that run; whatever they raise is the test's."""

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[None]] = set()
        self._opened: list[AioServer] = []

    def start(self, accept: Callable[[], Awaitable[AioServer]], handler: Handler) -> None:
        self._tasks.add(asyncio.ensure_future(self._run(accept, handler)))

    async def _run(self, accept: Callable[[], Awaitable[AioServer]], handler: Handler) -> None:
        try:
            ws = await accept()
        except OpenError:
            return
        self._opened.append(ws)
        try:
            await handler(ws)
        except ConnectionClosed:
            pass
        finally:
            await ws.close()

    async def end(self) -> None:
        for task in self._tasks:
            task.cancel()
        for result in await asyncio.gather(*self._tasks, return_exceptions=True):
            if isinstance(result, Exception):
                raise result
        # One that was cancelled in close() has left it to end by itself.
        while self._opened:
            await self._opened.pop().wait_closed()


@contextlib.asynccontextmanager
async def accepting(
    handle: Callable[[socket.socket], Awaitable[None]],
) -> AsyncIterator[int]:
    """Accept TCP connections by hand, as the owner of a raw socket would."""
    loop = asyncio.get_running_loop()
    listener = socket.create_server(("127.0.0.1", 0))
    listener.setblocking(False)

    async def accept() -> None:
        while True:
            sock, _ = await loop.sock_accept(listener)
            await handle(sock)

    task = asyncio.ensure_future(accept())
    try:
        yield listener.getsockname()[1]
    finally:
        task.cancel()
        await asyncio.wait([task])
        listener.close()


@contextlib.asynccontextmanager
async def over_socket(handler: Handler, **options: Any) -> AsyncIterator[Address]:
    """accept(sock=): we read the request ourselves."""
    tasks = Tasks()

    async def handle(sock: socket.socket) -> None:
        tasks.start(lambda: AioServer.accept(sock=sock, **options), handler)

    async with accepting(handle) as port:
        try:
            yield Address(port, None)
        finally:
            await tasks.end()


@contextlib.asynccontextmanager
async def over_socket_with_headers(handler: Handler, **options: Any) -> AsyncIterator[Address]:
    """accept(sock=, headers=): somebody else has read the request, byte by byte."""
    tasks = Tasks()
    loop = asyncio.get_running_loop()

    async def handle(sock: socket.socket) -> None:
        async def accept() -> AioServer:
            head = b""
            while not head.endswith(b"\r\n\r\n"):
                try:
                    byte = await loop.sock_recv(sock, 1)
                except OSError:
                    byte = b""
                if not byte:
                    sock.close()
                    raise OpenError("the client left")
                head += byte
            lines = head.decode("latin-1").split("\r\n")[1:-2]
            headers = dict(line.split(": ", 1) for line in lines)
            return await AioServer.accept(sock=sock, headers=headers, **options)

        tasks.start(accept, handler)

    async with accepting(handle) as port:
        try:
            yield Address(port, None)
        finally:
            await tasks.end()


def over_stream(context: Tls | None) -> Source:
    """accept(stream=): asyncio's streams, plain or TLS."""

    @contextlib.asynccontextmanager
    async def source(handler: Handler, **options: Any) -> AsyncIterator[Address]:
        tasks = Tasks()

        def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            tasks.start(lambda: AioServer.accept(stream=(reader, writer), **options), handler)

        server = await asyncio.start_server(
            connected, "127.0.0.1", 0, ssl=context.server if context else None
        )
        try:
            port = server.sockets[0].getsockname()[1]
            yield Address(port, context.client if context else None)
        finally:
            server.close()
            await tasks.end()

    return source


def over_serve(context: Tls | None, path: Path | None = None) -> Source:
    """serve(): the standalone server, plain, TLS, or on a Unix socket."""

    @contextlib.asynccontextmanager
    async def source(handler: Handler, **options: Any) -> AsyncIterator[Address]:
        defaults: dict[str, Any] = {"ping_interval": None, "max_message_size": None}
        server = serve(
            handler,
            "127.0.0.1",
            path=None if path is None else str(path),
            ssl=context.server if context else None,
            **(defaults | options),
        )
        async with server:
            port = 0 if path else server.port
            yield Address(port, context.client if context else None, path and str(path))

    return source


class Failures:
    """What handlers inside a host raise: the host would log it, here it is the test's."""

    def __init__(self) -> None:
        self._raised: list[Exception] = []

    async def run(self, ws: AioServer, handler: Handler) -> None:
        try:
            await handler(ws)
        except ConnectionClosed:
            pass
        except Exception as exc:
            self._raised.append(exc)
        finally:
            await ws.close()

    def report(self) -> None:
        if self._raised:
            raise self._raised[0]


def over_aiohttp(context: Tls | None) -> Source:
    """accept(aiohttp=): inside a handler of aiohttp's server."""

    @contextlib.asynccontextmanager
    async def source(handler: Handler, **options: Any) -> AsyncIterator[Address]:
        failures = Failures()

        async def handle(request: Any) -> Any:
            ws = await AioServer.accept(aiohttp=request, **options)
            await failures.run(ws, handler)
            return ws.response

        async with hosts.aiohttp_host(handle, context) as port:
            yield Address(port, context.client if context else None)
        failures.report()

    return source


def over_asgi(host: Callable[..., AbstractAsyncContextManager[int]], **host_options: Any) -> Source:
    """accept(asgi=): inside an application of an ASGI server."""

    @contextlib.asynccontextmanager
    async def source(handler: Handler, **options: Any) -> AsyncIterator[Address]:
        failures = Failures()

        async def app(scope: Any, receive: Any, send: Any) -> None:
            try:
                ws = await AioServer.accept(asgi=(scope, receive, send), **options)
            except OpenError:
                return
            await failures.run(ws, handler)

        async with host(app, **host_options) as port:
            yield Address(port, None)
        failures.report()

    return source


ASGI_SOURCES: dict[str, Callable[[], Source]] = {
    **{
        f"uvicorn+{ws}": lambda ws=ws: over_asgi(hosts.uvicorn_host, ws=ws)  # type: ignore[misc]
        for ws in hosts.UVICORN_WS
    },
    "hypercorn": lambda: over_asgi(hosts.hypercorn_host),
    "granian": lambda: over_asgi(hosts.granian_host),
    "daphne": lambda: over_asgi(hosts.daphne_host),
}

SOURCES = [
    *("socket", "socket+headers", "stream", "stream+tls", "serve", "serve+tls", "serve+unix"),
    *("aiohttp", "aiohttp+tls", *ASGI_SOURCES),
]


UVICORN = tuple(f"uvicorn+{ws}" for ws in hosts.UVICORN_WS)
ASGI = tuple(ASGI_SOURCES)

#: What a host makes impossible: why, where, and which tests (all their parameters, or
#: those that begin so). docs/explanation/sources.md tells users the same.
IMPOSSIBLE: list[tuple[str, tuple[str, ...], tuple[str, ...]]] = [
    (
        "ASGI has no pings: the server sends them",
        ASGI,
        (
            "test_ping_measures_the_round_trip_both_ways",
            "test_ping_that_nobody_answers_times_out_and_closes_nothing",
        ),
    ),
    (
        "the server has the streams",
        ASGI,
        (
            "test_stream_gives_pieces_as_they_arrive",
            "test_leaving_a_stream_early_drops_the_rest_of_its_message",
        ),
    ),
    (
        "the server checks frames, and tells as much of it as it likes",
        ASGI,
        (
            "test_a_broken_rule_has_its_code_on_the_wire_and_in_the_app",
            "test_an_abandoned_fragmented_message_closes_with_1011",
        ),
    ),
    (
        "loses what arrives with the request",
        (*UVICORN, "hypercorn", "daphne"),
        (
            "test_messages_in_the_segment_of_the_request_are_delivered",
            "test_messages_in_the_segment_of_the_request_with_fin_are_delivered",
        ),
    ),
    (
        "drops a client that ends its side of TCP before the request is handled",
        ("aiohttp",),
        ("test_messages_in_the_segment_of_the_request_with_fin_are_delivered",),
    ),
    (
        "reports a lost connection as 1005",
        ("uvicorn+websockets-sansio", "uvicorn+wsproto", "granian"),
        (
            "test_messages_before_a_lost_connection_are_returned",
            "test_end_of_tcp_without_a_close_is_1006",
        ),
    ),
    (
        "reports every Close of the client as 1006",
        ("hypercorn",),
        (
            "test_codes_and_reasons_arrive_both_ways",
            "test_both_closes_are_kept_with_who_was_first",
            "test_close_takes_code_and_reason_in_either_order",
            "test_context_manager_closes_with_1011_when_its_block_raises",
        ),
    ),
    (
        "does not tell the close reason",
        ("granian", "daphne"),
        (
            "test_codes_and_reasons_arrive_both_ways",
            "test_both_closes_are_kept_with_who_was_first",
            "test_close_takes_code_and_reason_in_either_order",
        ),
    ),
    (
        "notices a Close only when the client reads",
        ("uvicorn+websockets", "hypercorn"),
        ("test_an_end_wakes_every_waiter[{}-peer closes]",),
    ),
    (
        "hangs at the end of a connection whose messages nobody takes",
        ("hypercorn",),
        ("test_an_app_that_does_not_receive_stops_the_peer_and_only_that_one",),
    ),
    (
        "takes whatever is sent and reads whatever comes, without bound",
        ("daphne",),
        (
            "test_an_end_wakes_every_waiter",
            "test_close_during_a_blocked_large_send_ends_at_the_deadline",
            "test_a_peer_that_does_not_read_blocks_our_send",
            "test_an_app_that_does_not_receive_stops_the_peer_and_only_that_one",
            "test_reading_goes_on_when_the_app_receives_again",
        ),
    ),
    (
        "sends no close reason, and no codes but 1000 and 3000 to 4999",
        ("daphne",),
        (
            "test_messages_before_the_close_are_returned_then_the_close",
            "test_too_big_a_message_is_1009_on_both_sides",
            "test_loop_raises_unless_the_end_was_normal",
        ),
    ),
    (
        "takes 1014 for a reserved code",
        ("uvicorn+wsproto",),
        ("test_codes_and_reasons_arrive_both_ways[{}-1014]",),
    ),
    (
        "waits 10 s for the answer to a Close, though we do not",
        ("uvicorn+websockets",),
        ("test_close_ends_though_the_peer_never_answers",),
    ),
    (
        "drops empty messages",
        ("daphne",),
        ("test_echo[{}-str-0]", "test_echo[{}-bytes-0]"),
    ),
    (
        "does not compress",
        ("granian", "daphne"),
        ("test_compression_is_agreed_on_and_changes_no_message[{}-deflate]",),
    ),
]


#: The same on a network that takes its time: with --cut, or a fault.
IMPOSSIBLE_SLOWLY: list[tuple[str, tuple[str, ...], tuple[str, ...]]] = [
    (
        "drops a client that has not read and answered its Close within a second",
        ("daphne",),
        ("test_concurrent_senders_never_mix_and_keep_their_order",),
    ),
]


def impossible(test: str, kind: str, *, slowly: bool) -> str | None:
    """Why the test (its name with parameters) cannot hold over the source, if so."""
    for reason, kinds, tests in IMPOSSIBLE + (IMPOSSIBLE_SLOWLY if slowly else []):
        if kind in kinds and test.partition("[")[0] in tests:
            return reason
        if kind in kinds and any(test == name.format(kind) for name in tests):
            return reason
    return None


@pytest.fixture(params=SOURCES)
def server(request: pytest.FixtureRequest, tls: Tls, tmp_path: Path) -> Source:
    """A source, each in turn."""
    kind = str(request.param)
    if kind == "serve+unix" and not hasattr(socket, "AF_UNIX"):
        pytest.skip("this platform has no Unix sockets")
    fault = request.config.getoption("fault")
    slowly = bool(fault) or request.config.getoption("cut")
    reason = impossible(request.node.name, kind, slowly=slowly)
    if reason is not None:
        pytest.skip(f"{kind}: {reason}")
    source = make_source(kind, tls, tmp_path)
    return behind(FAULTS[fault], source) if fault else source


def make_source(kind: str, tls: Tls, tmp_path: Path) -> Source:
    """The source of this name."""
    if kind in ASGI_SOURCES:
        return ASGI_SOURCES[kind]()
    sources: dict[str, Source] = {
        "aiohttp": over_aiohttp(None),
        "aiohttp+tls": over_aiohttp(tls),
        "socket": over_socket,
        "socket+headers": over_socket_with_headers,
        "stream": over_stream(None),
        "stream+tls": over_stream(tls),
        "serve": over_serve(None),
        "serve+tls": over_serve(tls),
        "serve+unix": over_serve(None, tmp_path / "ws.sock"),
    }
    return sources[kind]


@pytest.fixture
def asgi(request: pytest.FixtureRequest) -> bool:
    """Whether an ASGI server has the handshakes, the frames and the pings."""
    return request.node.callspec.params["server"] in ASGI_SOURCES


@pytest.fixture(autouse=True)
async def nothing_left() -> AsyncIterator[None]:
    """No test leaves a task behind."""
    before = asyncio.all_tasks()
    yield
    mine = asyncio.current_task()
    left = {t for t in asyncio.all_tasks() - before if t is not mine and not t.done()}
    if left:  # a server's threads may be busy
        _, left = await asyncio.wait(left, timeout=5)
    for task in left:
        task.cancel()
    assert not left, f"tasks left: {left}"
