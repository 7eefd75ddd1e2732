"""Where a `Case` is played: our end of a real socket, the peer's script, and what is seen.

It runs on the clock that jumps (`tests/clock.py`), so that a wait that should not
be there shows as seconds, and costs none; inside ASGI servers on an ordinary loop.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import logging
import re
import socket
import struct
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from typing import Any

from simplews import AioClient, AioServer, ConnectionClosed
from simplews import ConnectionError as OpenError
from simplews.errors import ProtocolError

from .. import hosts
from ..behaviour.conftest import (
    Address,
    over_aiohttp,
    over_asgi,
    over_serve,
    over_socket_with_headers,
)
from ..clock import ClockLoop
from ..peer import DEADLINE, REQUEST, Peer, answer, settled
from ..protocol.by_hand import to_bytes
from ..tls import Tls
from .case import Case, Step

__all__ = [
    "Stage",
    "closed_within",
    "fin",
    "play",
    "reads",
    "rst",
    "shown",
    "silence",
    "until_closed",
]

#: Seconds that a play may take where they do not jump.
_REAL_DEADLINE = 10

#: Bytes at the start and at the end of what a peer writes that are cut into single ones.
_CUT = 64


class Stage:
    """
    One performance.

    Attributes:
        peer: The raw peer.
        ws: Our end, once it is open.
        messages: What our application received.
        error: The end, as our application saw it; or why it did not open.
        reset: Whether the peer found TCP reset.
        gone: Whether the peer has reset it, and can read no more.
    """

    def __init__(self, case: Case, source: str, *, cut: bool) -> None:
        self.case = case
        self.source = source
        self.cut = cut
        self.peer: Peer
        self.script = list(case.script)
        self.opened: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self.ended = asyncio.Event()
        self.messages: list[str | bytes] = []
        self.notes: list[str] = []
        self.frames: list[tuple[int, bytes]] = []
        self.error: Exception | None = None
        self.reset = False
        self.gone = False
        self.complaints: list[str] = []
        self.lines: list[logging.LogRecord] = []

    @property
    def ws(self) -> Any:
        """Our end."""
        return self.opened.result()

    @property
    def server(self) -> bool:
        """Whether our end is a server."""
        return self.source != "client"

    def note(self, what: str) -> None:
        """Let *what* be seen, behind the messages."""
        self.notes.append(what)

    # ------------------------------------------------------------------- ours

    async def handler(self, ws: AioServer | AioClient) -> None:
        """Our application."""
        self.opened.set_result(ws)
        try:
            await (self.case.app or collect)(ws, self)
        except ConnectionClosed as exc:
            self.error = exc
        finally:
            self.ended.set()

    async def accept(self, accepting: Any) -> None:
        """Our application, around an `accept` or `connect` of its own."""
        try:
            ws = await accepting
        except OpenError as exc:
            self.error = exc
            self.ended.set()
            return
        try:
            await self.handler(ws)
        finally:
            await ws.close()

    # ---------------------------------------------------------------- the peer

    async def play(self) -> None:
        """Go through the script."""
        # A peer may be refused, or reset, in the middle of it.
        with contextlib.suppress(ConnectionError):
            for step, parts in itertools.groupby(self.script, callable):
                if step:
                    for part in parts:
                        await part(self)
                else:
                    await self.write(to_bytes(parts, self.server))

    async def write(self, data: bytes) -> None:
        """Write, whole or cut."""
        if not self.cut or len(data) < 2:
            if data:
                await self.peer.write(data)
            return
        middle = max(_CUT, len(data) - _CUT)
        for index in range(min(_CUT, len(data))):
            await self.byte(data[index : index + 1])
        if middle > _CUT:
            await self.peer.write(data[_CUT:middle])
            await settled()
        for index in range(middle, len(data)):
            await self.byte(data[index : index + 1])

    async def byte(self, byte: bytes) -> None:
        """Write one, and let the other end read it."""
        await self.peer.write(byte)
        await asyncio.sleep(0)
        await asyncio.sleep(0)

    async def read_on(self) -> None:
        """Read frames until TCP ends."""
        if self.gone:
            return
        try:
            while (found := await self.peer.frame()) is not None:
                self.frames.append(found)
                # RFC 6455 §7.1.1: it is the server who closes TCP first.
                if found[0] == 8 and not self.server and self.ws._link.ending.by == "peer":
                    with contextlib.suppress(OSError):  # it may have done so before
                        self.peer.finish()
        except OSError:
            self.reset = True

    # ------------------------------------------------------------ what is seen

    def seen(self) -> str:
        """Messages; other frames than Close that the peer got; how it ended."""
        parts = [shown(message) for message in self.messages]
        parts += self.notes
        closes = []
        for opcode, payload in self.frames:
            if opcode == 8:
                closes.append(struct.unpack(">H", payload[:2])[0] if payload else 1005)
            else:
                # The payload of a Ping of ours says nothing.
                told = "" if opcode == 9 else f"({shown(payload)})"
                parts.append(_NAMES[opcode] + told)
        parts.append(self.ending(closes))
        if self.reset:
            parts.append("TCP reset")
        return " ".join(_times(part, len([*same])) for part, same in itertools.groupby(parts))

    def ending(self, closes: list[int]) -> str:
        """How our application and the peer saw it end: one word if both saw the same."""
        ending = self.ws._link.ending
        if ending is None:
            return "open"
        assert self.error is None or isinstance(self.error, ConnectionClosed)
        assert self.error is None or self.error.code == ending.code == self.ws.close_code
        verb = {"peer": "peer closes", "us": "we close", "lost": "lost"}[ending.by]
        if isinstance(ending.cause, ProtocolError):
            verb = "we fail"
        code = str(ending.code)
        if verb == "we close":
            answer = ending.received
            code += f", answered {answer.code}" if answer else ", not answered"
        if ending.by == "lost":
            return f"{verb} {code}" + "".join(f", Close {got} sent" for got in closes)
        if closes != [ending.code]:
            code += ", no Close sent" if not closes else f", Close {closes} sent"
        return f"{verb} {code}"


_NAMES = {0: "Continuation", 1: "Text", 2: "Binary", 9: "Ping", 10: "Pong"}


def _times(part: str, times: int) -> str:
    return part if times == 1 else f"{part} ×{times}"


def shown(data: str | bytes) -> str:
    """A message, short."""
    if len(data) > 20:
        kind = "characters" if isinstance(data, str) else "bytes"
        return f"<{len(data)} {kind}>"
    return repr(data)


async def collect(ws: Any, stage: Stage) -> None:
    """The usual application: it receives all that comes."""
    while True:
        stage.messages.append(await ws.receive())


# ------------------------------------------------------------------------- steps


async def fin(stage: Stage) -> None:
    """The peer ends its side of TCP."""
    stage.peer.finish()


async def rst(stage: Stage) -> None:
    """The peer resets TCP, when we have read what it wrote."""
    await settled()
    stage.gone = True
    stage.peer.reset()


async def reads(stage: Stage) -> None:
    """The peer reads what is there for it, until nothing more comes."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(0.01):
            await stage.read_on()


async def until_closed(stage: Stage) -> None:
    """The peer waits, and neither reads nor writes, until our end is closed."""
    await stage.ws.wait_closed()


def closed_within(seconds: float) -> Step:
    """The same, and it is closed in time; the peer is away, and does not see it."""

    async def step(stage: Stage) -> None:
        began = _now()
        await stage.ws.wait_closed()
        assert _now() - began <= seconds
        stage.gone = True

    return step


def silence(seconds: float) -> Step:
    """The peer does nothing for a while."""

    async def step(stage: Stage) -> None:
        await asyncio.sleep(seconds)

    return step


# ----------------------------------------------------------------------- sources


class TlsPeer(Peer):
    """A raw peer over TLS, which cannot end one side alone."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer
        self.masks = True
        self.received = bytearray()

    async def write(self, data: bytes) -> None:
        self.writer.write(data)
        await self.writer.drain()

    async def sock_read(self) -> bytes:
        return await self.reader.read(1 << 18)

    def finish(self) -> None:
        self.writer.close()

    def reset(self) -> None:
        self.writer.transport.abort()


Source = Callable[..., AbstractAsyncContextManager[Address]]


def _over_stream(stage: Stage, secure: Tls | None) -> Source:
    """accept(stream=), which tells our application why it did not open."""

    @contextlib.asynccontextmanager
    async def source(handler: object, **options: Any) -> AsyncIterator[Address]:
        tasks = []

        def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            accepting = AioServer.accept(stream=(reader, writer), **options)
            tasks.append(asyncio.ensure_future(stage.accept(accepting)))

        server = await asyncio.start_server(
            connected, "127.0.0.1", 0, ssl=secure.server if secure else None
        )
        try:
            port = server.sockets[0].getsockname()[1]
            yield Address(port, secure.client if secure else None)
        finally:
            server.close()
            await asyncio.gather(*tasks)

    return source


def _source(stage: Stage, tls: Tls) -> Source:
    name = stage.source.removesuffix(" (plain)")
    secure = tls if name.endswith("+tls") else None
    return {
        "socket+headers": lambda: over_socket_with_headers,
        "stream": lambda: _over_stream(stage, secure),
        "serve": lambda: over_serve(secure),
        "aiohttp": lambda: over_aiohttp(secure),
        "uvicorn": lambda: over_asgi(hosts.uvicorn_host),
        "hypercorn": lambda: over_asgi(hosts.hypercorn_host),
        "granian": lambda: over_asgi(hosts.granian_host),
        "daphne": lambda: over_asgi(hosts.daphne_host),
    }[name.removesuffix("+tls")]()


@contextlib.asynccontextmanager
async def _socket(stage: Stage) -> AsyncIterator[None]:
    """accept(sock=), on one end of a socket pair."""
    ours, theirs = socket.socketpair()
    stage.peer = Peer(theirs)
    task = asyncio.ensure_future(stage.accept(AioServer.accept(sock=ours, **stage.case.options)))
    try:
        yield
    finally:
        await task
        theirs.close()


@contextlib.asynccontextmanager
async def _listening(stage: Stage, tls: Tls) -> AsyncIterator[None]:
    """A source that listens, and a peer that has connected to it."""
    source = _source(stage, tls)
    async with source(stage.handler, **stage.case.options) as address:
        if address.context is not None and not stage.source.endswith("(plain)"):
            # Not by name: that is looked up in a thread, for which the clock does not wait.
            stage.peer = peer = TlsPeer(
                *await asyncio.open_connection("127.0.0.1", address.port, ssl=address.context)
            )
            try:
                yield
            finally:
                peer.writer.close()
                with contextlib.suppress(OSError):
                    await peer.writer.wait_closed()
            return
        sock = socket.create_connection(("127.0.0.1", address.port))
        stage.peer = Peer(sock)
        try:
            yield
        finally:
            sock.close()


@contextlib.asynccontextmanager
async def _client(stage: Stage) -> AsyncIterator[None]:
    """connect(), to a server of sockets alone."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
        listener.setblocking(False)
        url = f"ws://127.0.0.1:{listener.getsockname()[1]}/"
        task = asyncio.ensure_future(stage.accept(AioClient.connect(url, **stage.case.options)))
        theirs, _ = await asyncio.get_running_loop().sock_accept(listener)
        stage.peer = Peer(theirs, masks=False)
        try:
            yield
        finally:
            theirs.close()
            await task


# --------------------------------------------------------------------- the play


class _Lines(logging.Handler):
    def __init__(self, stage: Stage) -> None:
        super().__init__(logging.INFO)
        self._stage = stage

    def emit(self, record: logging.LogRecord) -> None:
        if record.name.startswith("simplews") and "listening on" not in record.msg:
            self._stage.lines.append(record)
        elif record.levelno >= logging.WARNING and not record.msg.startswith("Executing"):
            self._stage.complaints.append(f"{record.name}: {record.getMessage()}")


@contextlib.contextmanager
def _listened(stage: Stage) -> Any:
    """Keep what is logged, and what the loop is told."""
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(
        lambda _, context: stage.complaints.append(f"the loop: {context['message']}")
    )
    root, ours = logging.getLogger(), logging.getLogger("simplews")
    handler, level = _Lines(stage), ours.level
    root.addHandler(handler)
    ours.setLevel(logging.INFO)
    try:
        yield
    finally:
        root.removeHandler(handler)
        ours.setLevel(level)
        loop.set_exception_handler(None)


async def play(case: Case, source: str, tls: Tls, *, cut: bool = False) -> str:
    """
    Play *case* over *source*; what is seen.

    Raises:
        AssertionError: Something is wrong that no case expects: TCP is not closed in
            time, a task is left, somebody complains in the log.
    """
    stage = Stage(case, source, cut=cut)
    before = asyncio.all_tasks()
    with _listened(stage):
        jumps = isinstance(asyncio.get_running_loop(), ClockLoop)
        async with asyncio.timeout(DEADLINE if jumps else _REAL_DEADLINE):
            if source == "client":
                seen = await _as_client(stage)
            else:
                seen = await _as_server(stage, tls)
        await settled()
    assert not stage.complaints, stage.complaints
    assert not asyncio.all_tasks() - before
    lives = [line for line in stage.lines if "open " in line.msg]
    loud = [line.getMessage() for line in stage.lines if line.levelno > logging.INFO]
    assert not loud, loud
    if stage.opened.done():
        assert len(lives) == 1, "one line tells of each life"
    else:
        # Where `accept` raises, the application tells of it, or not.
        assert len(stage.lines) == source.startswith(("serve", "aiohttp")), stage.lines
    return seen


async def _as_server(stage: Stage, tls: Tls) -> str:
    where = _socket(stage) if stage.source == "socket" else _listening(stage, tls)
    async with where:
        if stage.case.opening:
            return await _answered(stage)
        await stage.peer.write(_request(stage.case.offer))
        await stage.peer.head()
        await stage.opened
        return await _until_the_end(stage)


async def _as_client(stage: Stage) -> str:
    async with _client(stage):
        head = await stage.peer.head()
        if stage.case.opening:
            accept = answer(head).partition(b"Accept: ")[2].removesuffix(b"\r\n\r\n")
            stage.script = [
                part.replace(b"{accept}", accept) if isinstance(part, bytes) else part
                for part in stage.script
            ]
            return await _opened(stage)
        field = f"Sec-WebSocket-Extensions: {stage.case.offer}\r\n" if stage.case.offer else ""
        await stage.peer.write(answer(head)[:-2] + field.encode() + b"\r\n")
        await stage.opened
        return await _until_the_end(stage)


def _request(offer: str | None) -> bytes:
    field = f"Sec-WebSocket-Extensions: {offer}\r\n" if offer else ""
    return REQUEST[:-2] + field.encode() + b"\r\n"


async def _until_the_end(stage: Stage) -> str:
    """Behind the opening handshake: the script, and what comes of it."""
    await stage.play()
    began = _now()
    await stage.read_on()
    await stage.ws.wait_closed()
    await stage.ended.wait()
    _in_time(stage, began)
    return stage.seen()


async def _answered(stage: Stage) -> str:
    """The script stands for a request: the answer to it."""
    peer = stage.peer
    await stage.play()
    began = _now()
    if not stage.gone:
        with contextlib.suppress(OSError):
            while b"\r\n\r\n" not in peer.received and (data := await peer.sock_read()):
                peer.received += data
    head, _, rest = bytes(peer.received).partition(b"\r\n\r\n")
    if not head:
        await _told(stage)
        _in_time(stage, began)
        return "no answer"
    line, *lines = head.decode("latin-1").split("\r\n")
    # Some servers write their names in small letters.
    fields = {name.lower(): value for name, value in (line.split(": ", 1) for line in lines)}
    assert len(fields) == len(lines), "a header field twice"
    status = line.split(" ")[1]
    told = [status] + [f"{n}: {fields[n.lower()]}" for n in _TOLD if n.lower() in fields]
    if status == "101":
        peer.received[:] = rest
        await stage.opened
        if not stage.gone:
            await stage.read_on()
        await stage.ws.wait_closed()
        await stage.ended.wait()
        _in_time(stage, began)
        return "; ".join(told) + "; " + stage.seen()
    if stage.source.startswith("aiohttp"):  # where it stays open for more requests
        while len(rest) < int(fields["content-length"]):
            rest += await peer.sock_read()
        return "; ".join(told)
    with contextlib.suppress(OSError):
        while data := await peer.sock_read():
            rest += data
    assert int(fields.get("content-length", len(rest))) == len(rest), (head, rest)
    assert len(rest) < 400, "a short body"
    _in_time(stage, began)
    if not isinstance(peer, TlsPeer):
        await asyncio.sleep(_LINGERS)
        assert await _refuses(peer), "our end of TCP is closed, though the peer's is not"
    await _told(stage)
    if isinstance(stage.error, OpenError):
        assert str(stage.error.status_code) == status, "our application sees the same"
    return "; ".join(told)


async def _refuses(peer: Peer) -> bool:
    """Whether the other end of TCP does not read any more."""
    try:
        for _ in range(5):
            await peer.write(b"x")
            await asyncio.sleep(0.001)
    except OSError:
        return True
    return False


async def _told(stage: Stage) -> None:
    """Our end is told of the end of TCP."""
    if stage.source in ("socket", "stream", "stream+tls"):
        await stage.ended.wait()
    else:
        await asyncio.sleep(0.05)


#: Seconds for which we read on, so that the answer is not lost, and some to close in.
_LINGERS = 0.95
#: What is told of an answer besides its status.
_TOLD = ("Allow", "Sec-WebSocket-Version", "Sec-WebSocket-Protocol", "Sec-WebSocket-Extensions")


async def _opened(stage: Stage) -> str:
    """The script stands for a server's answer: whether our client takes it."""
    await stage.play()
    began = _now()
    await asyncio.wait(
        [stage.opened, asyncio.ensure_future(stage.ended.wait())],
        return_when=asyncio.FIRST_COMPLETED,
    )
    if stage.opened.done():
        if not stage.gone:
            await stage.read_on()
        await stage.ws.wait_closed()
        await stage.ended.wait()
        _in_time(stage, began)
        return "opens " + stage.seen()
    _in_time(stage, began)
    text = re.sub(r"127\.0\.0\.1:\d+", "HOST", str(stage.error))
    return f"{type(stage.error).__name__}: {text}"


def _now() -> float:
    return asyncio.get_running_loop().time()


def _in_time(stage: Stage, began: float) -> None:
    took = _now() - began
    assert took <= stage.case.within, f"closed after {took:.2f} s"
