"""Strangers: other implementations of the protocol, all used in one way.

A `Stranger` opens connections, as a client (`connect`) or as a server
(`listen`); `Terms` say how. A `Peer` is its end of one open connection. Whatever
a stranger calls a thing, here it has the RFC's name, so that a test is written
once and runs against all of them.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import ssl
from collections import deque
from collections.abc import AsyncIterator, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from typing import Any, Protocol

import aiohttp
import aiohttp.web
import websockets.asyncio.client
import websockets.asyncio.connection
import websockets.asyncio.server
import websockets.exceptions
import websockets.http11
from websockets.extensions.permessage_deflate import (
    ClientPerMessageDeflateFactory,
    PerMessageDeflate,
    ServerPerMessageDeflateFactory,
)

from simplews.protocol.deflate import parse_extensions

__all__ = [
    "DEADLINE",
    "Aiohttp",
    "Listener",
    "Node",
    "Parameters",
    "Peer",
    "Refused",
    "Refusing",
    "Stranger",
    "Terms",
    "Tls",
    "Websockets",
]

#: Seconds for anything that is waited for; a generous bound, not a measure.
DEADLINE = 20

# A line of Node's driver holds a message of a MiB in base64.
_LINE = 16 * 1024 * 1024

Parameters = Mapping[str, int | bool]


@dataclass(frozen=True)
class Tls:
    """
    One authority and what it signed.

    Attributes:
        server: For a server; it wants a certificate from the client.
        client: For a client; it verifies the server and shows a certificate.
        authority: The authority's certificate, PEM.
        certificate: The certificate that both sides show, PEM.
        key: Its key, PEM.
    """

    server: ssl.SSLContext
    client: ssl.SSLContext
    authority: str
    certificate: str
    key: str


@dataclass(frozen=True)
class Refusing:
    """An HTTP answer for every client instead of a WebSocket."""

    status: int
    headers: Mapping[str, str]
    body: str


@dataclass(frozen=True)
class Terms:
    """
    How a stranger opens its connections.

    Attributes:
        tls: For ``wss://``; None for ``ws://``.
        deflate: Parameters of permessage-deflate that it asks for; None for no
            compression.
        subprotocols: What it speaks, best first.
        headers: Client: header fields to add.
        max_size: Bytes that a message from us may have; None for no limit.
        autopong: Whether it answers pings by itself.
        refusing: Server: the answer for every client.
        greeting: Server: a message to send as soon as the connection is open.
    """

    tls: Tls | None = None
    deflate: Parameters | None = field(default_factory=dict)
    subprotocols: tuple[str, ...] = ()
    headers: Mapping[str, str] = field(default_factory=dict)
    max_size: int | None = None
    autopong: bool = True
    refusing: Refusing | None = None
    greeting: str | None = None


class Refused(Exception):
    """A stranger as client was answered with plain HTTP."""

    def __init__(self, status: int, body: bytes | None) -> None:
        super().__init__(status, body)
        self.status = status
        self.body = body  # None: it does not tell


class Peer(Protocol):
    """
    A stranger's end of an open connection.

    Attributes:
        subprotocol: The subprotocol that it uses.
        deflate: Parameters of permessage-deflate that were agreed on, as far as
            it tells; None if it does not compress.
    """

    subprotocol: str | None
    deflate: Parameters | None

    async def send(self, *fragments: str | bytes) -> None:
        """Send a message in these fragments."""
        ...

    async def send_around_ping(self, first: str, payload: bytes, last: str) -> bytes:
        """Send *first*, ping and wait for the pong, send *last*; the pong's payload."""
        ...

    async def receive(self) -> str | bytes: ...

    async def ping(self, payload: bytes) -> bytes:
        """Send a Ping; the payload of the Pong."""
        ...

    async def close(self, code: int | None, reason: str) -> None:
        """Close; Node alone can send a Close without a code, None."""
        ...

    async def closed(self) -> tuple[int, str]:
        """Wait for the end: the close code and reason that came from our side."""
        ...

    async def abort(self) -> None:
        """Drop the connection without a Close."""
        ...


class Listener(Protocol):
    """A stranger's server."""

    port: int

    async def accepted(self) -> Peer:
        """The end of the next client."""
        ...


class Stranger(Protocol):
    """
    Another implementation of both roles.

    aiohttp cannot send fragments, and does not tell the parameters of
    permessage-deflate.
    """

    def connect(self, url: str, terms: Terms) -> AbstractAsyncContextManager[Peer]: ...

    def listen(self, terms: Terms) -> AbstractAsyncContextManager[Listener]: ...


# ------------------------------------------------------------------- websockets


class WebsocketsPeer:
    """An end of Python's websockets."""

    def __init__(self, ws: websockets.asyncio.connection.Connection) -> None:
        self._ws = ws
        self.subprotocol: str | None = ws.subprotocol
        self.deflate = self._agreed()

    def _agreed(self) -> Parameters | None:
        for extension in self._ws.protocol.extensions:
            if isinstance(extension, PerMessageDeflate):
                local, remote = "server", "client"
                if self._ws.protocol.side.name == "CLIENT":
                    local, remote = remote, local
                return {
                    f"{local}_no_context_takeover": extension.local_no_context_takeover,
                    f"{remote}_no_context_takeover": extension.remote_no_context_takeover,
                    f"{local}_max_window_bits": extension.local_max_window_bits,
                    f"{remote}_max_window_bits": extension.remote_max_window_bits,
                }
        return None

    async def send(self, *fragments: str | bytes) -> None:
        await self._ws.send(fragments[0] if len(fragments) == 1 else fragments)

    async def send_around_ping(self, first: str, payload: bytes, last: str) -> bytes:
        async def pieces() -> AsyncIterator[str]:
            yield first
            await self.ping(payload)
            yield last

        await self._ws.send(pieces())
        return payload

    async def receive(self) -> str | bytes:
        return await self._ws.recv()

    async def ping(self, payload: bytes) -> bytes:
        # websockets ignores a pong with a payload that it did not send.
        await (await self._ws.ping(payload))
        return payload

    async def close(self, code: int | None, reason: str) -> None:
        await self._ws.close(code, reason)

    async def closed(self) -> tuple[int, str]:
        await self._ws.wait_closed()
        return self._ws.close_code or 0, self._ws.close_reason or ""

    async def abort(self) -> None:
        self._ws.transport.abort()


class WebsocketsListener:
    def __init__(self, port: int, peers: asyncio.Queue[Peer]) -> None:
        self.port = port
        self._peers = peers

    async def accepted(self) -> Peer:
        return await self._peers.get()


class Websockets:
    """Python's websockets."""

    @contextlib.asynccontextmanager
    async def connect(self, url: str, terms: Terms) -> AsyncIterator[Peer]:
        extensions = []
        if terms.deflate is not None:
            asked = {"client_max_window_bits": True, **terms.deflate}
            extensions = [ClientPerMessageDeflateFactory(**asked)]
        try:
            ws = await websockets.asyncio.client.connect(
                url,
                ssl=terms.tls and terms.tls.client,
                compression=None,  # the extension above, with its parameters
                extensions=extensions,
                subprotocols=terms.subprotocols or None,  # type: ignore[arg-type]
                additional_headers=terms.headers,
                max_size=terms.max_size,
                ping_interval=None,
                open_timeout=DEADLINE,
                close_timeout=DEADLINE,
            )
        except websockets.exceptions.InvalidStatus as exc:
            raise Refused(exc.response.status_code, bytes(exc.response.body or b"")) from None
        async with ws:
            yield WebsocketsPeer(ws)

    @contextlib.asynccontextmanager
    async def listen(self, terms: Terms) -> AsyncIterator[Listener]:
        peers: asyncio.Queue[Peer] = asyncio.Queue()

        async def handler(ws: websockets.asyncio.server.ServerConnection) -> None:
            if terms.greeting is not None:
                await ws.send(terms.greeting)
            peers.put_nowait(WebsocketsPeer(ws))
            await ws.wait_closed()

        def refuse(
            ws: websockets.asyncio.server.ServerConnection, request: websockets.http11.Request
        ) -> websockets.http11.Response | None:
            if terms.refusing is None:
                return None
            response = ws.respond(terms.refusing.status, terms.refusing.body)
            response.headers.update(terms.refusing.headers)
            return response

        extensions = []
        if terms.deflate is not None:
            extensions = [ServerPerMessageDeflateFactory(**terms.deflate)]  # type: ignore[arg-type]
        async with websockets.asyncio.server.serve(
            handler,
            "127.0.0.1",
            0,
            ssl=terms.tls and terms.tls.server,
            compression=None,
            extensions=extensions,
            subprotocols=terms.subprotocols or None,  # type: ignore[arg-type]
            process_request=refuse,
            max_size=terms.max_size,
            ping_interval=None,
            close_timeout=DEADLINE,
        ) as server:
            yield WebsocketsListener(next(iter(server.sockets)).getsockname()[1], peers)


# ---------------------------------------------------------------------- aiohttp


class AiohttpPeer:
    """An end of aiohttp. It reads, and so answers, only while somebody receives."""

    def __init__(self, ws: aiohttp.ClientWebSocketResponse | aiohttp.web.WebSocketResponse) -> None:
        self._ws = ws
        self.subprotocol: str | None = (
            ws.protocol if isinstance(ws, aiohttp.ClientWebSocketResponse) else ws.ws_protocol
        )
        self.deflate: Parameters | None = {} if ws.compress else None

    async def send(self, *fragments: str | bytes) -> None:
        (message,) = fragments  # it cannot send fragments
        if isinstance(message, str):
            await self._ws.send_str(message)
        else:
            await self._ws.send_bytes(message)

    async def send_around_ping(self, first: str, payload: bytes, last: str) -> bytes:
        raise NotImplementedError

    async def _next(self, *kinds: aiohttp.WSMsgType) -> Any:
        message = await self._ws.receive()
        assert message.type in kinds, message
        return message

    async def receive(self) -> str | bytes:
        message = await self._next(aiohttp.WSMsgType.TEXT, aiohttp.WSMsgType.BINARY)
        data: str | bytes = message.data
        return data

    async def ping(self, payload: bytes) -> bytes:
        await self._ws.ping(payload)
        pong = await self._next(aiohttp.WSMsgType.PONG)
        return bytes(pong.data)

    async def close(self, code: int | None, reason: str) -> None:
        await self._ws.close(code=code, message=reason.encode())

    async def closed(self) -> tuple[int, str]:
        message = await self._next(aiohttp.WSMsgType.CLOSE)
        return int(message.data), str(message.extra or "")

    async def abort(self) -> None:
        # There is no public way.
        self._ws._writer.transport.abort()  # type: ignore[union-attr]


class Aiohttp:
    """aiohttp."""

    @contextlib.asynccontextmanager
    async def connect(self, url: str, terms: Terms) -> AsyncIterator[Peer]:
        async with aiohttp.ClientSession() as session:
            try:
                ws = await session.ws_connect(
                    url,
                    ssl=terms.tls.client if terms.tls else True,
                    compress=0 if terms.deflate is None else 15,
                    protocols=terms.subprotocols,
                    headers=terms.headers,
                    autoping=terms.autopong,
                    max_msg_size=terms.max_size or 0,
                )
            except aiohttp.WSServerHandshakeError as exc:
                raise Refused(exc.status, None) from None
            async with ws:
                yield AiohttpPeer(ws)

    @contextlib.asynccontextmanager
    async def listen(self, terms: Terms) -> AsyncIterator[Listener]:
        peers: asyncio.Queue[Peer] = asyncio.Queue()
        over = asyncio.Event()

        async def handler(request: aiohttp.web.Request) -> aiohttp.web.StreamResponse:
            if terms.refusing is not None:
                return aiohttp.web.Response(
                    status=terms.refusing.status,
                    headers=terms.refusing.headers,
                    text=terms.refusing.body,
                )
            ws = aiohttp.web.WebSocketResponse(
                compress=terms.deflate is not None,
                protocols=terms.subprotocols,
                autoping=terms.autopong,
                max_msg_size=terms.max_size or 0,
            )
            await ws.prepare(request)
            if terms.greeting is not None:
                await ws.send_str(terms.greeting)
            peers.put_nowait(AiohttpPeer(ws))
            await over.wait()
            return ws

        app = aiohttp.web.Application()
        app.router.add_get("/{path:.*}", handler)
        runner = aiohttp.web.AppRunner(app, shutdown_timeout=DEADLINE)
        await runner.setup()
        try:
            site = aiohttp.web.TCPSite(
                runner, "127.0.0.1", 0, ssl_context=terms.tls and terms.tls.server
            )
            await site.start()
            yield WebsocketsListener(runner.addresses[0][1], peers)
        finally:
            over.set()
            await runner.cleanup()


# ------------------------------------------------------------------- Node's ws


class NodeSession:
    """A session of ``node/driver.js``: commands out, events in."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self._waiting: deque[dict[str, Any]] = deque()

    def do(self, command: str, **arguments: object) -> None:
        """Send a command."""
        self._writer.write(json.dumps({"do": command, **arguments}).encode() + b"\n")

    async def event(self, *kinds: str) -> dict[str, Any]:
        """Wait for the next event of these kinds; the others stay for later."""
        for event in self._waiting:
            if event["event"] in kinds:
                self._waiting.remove(event)
                return event
        while line := await self._reader.readline():
            event = json.loads(line)
            assert event["event"] != "failed", event
            if event["event"] in kinds:
                return dict(event)
            self._waiting.append(event)
        raise AssertionError(f"Node ended without {kinds}; it told {list(self._waiting)}")


class NodePeer:
    """An end of Node's ws."""

    def __init__(self, session: NodeSession, opened: dict[str, Any]) -> None:
        self._session = session
        self.subprotocol: str | None = opened["protocol"] or None
        self.deflate: Parameters | None = None
        if opened["extensions"]:
            # What ws says that it uses, and the header field with the parameters.
            assert opened["extensions"] == "permessage-deflate"
            ((_, parameters),) = parse_extensions(opened["answer"])
            self.deflate = {name: True if v is None else int(v) for name, v in parameters}

    def _send(self, fragment: str | bytes, fin: bool) -> None:
        kind = "text" if isinstance(fragment, str) else "binary"
        data = fragment.encode() if isinstance(fragment, str) else fragment
        self._session.do("send", kind=kind, data=base64.b64encode(data).decode(), fin=fin)

    async def send(self, *fragments: str | bytes) -> None:
        for index, fragment in enumerate(fragments, 1):
            self._send(fragment, index == len(fragments))

    async def send_around_ping(self, first: str, payload: bytes, last: str) -> bytes:
        self._send(first, False)
        pong = await self.ping(payload)
        self._send(last, True)
        return pong

    async def receive(self) -> str | bytes:
        event = await self._session.event("message")
        data = base64.b64decode(event["data"])
        return data.decode() if event["kind"] == "text" else data

    async def ping(self, payload: bytes) -> bytes:
        self._session.do("ping", payload=base64.b64encode(payload).decode())
        event = await self._session.event("pong")
        return base64.b64decode(event["payload"])

    async def close(self, code: int | None, reason: str) -> None:
        self._session.do("close", code=code, reason=reason)
        await self._session.event("close")

    async def closed(self) -> tuple[int, str]:
        event = await self._session.event("close")
        return event["code"], event["reason"]

    async def abort(self) -> None:
        self._session.do("abort")


class NodeListener:
    def __init__(self, session: NodeSession, port: int) -> None:
        self.port = port
        self._session = session

    async def accepted(self) -> Peer:
        return NodePeer(self._session, await self._session.event("open"))


class Node:
    """
    Node's ws.

    Args:
        port: Control port of a running ``node/driver.js``.
    """

    def __init__(self, port: int) -> None:
        self._port = port

    @contextlib.asynccontextmanager
    async def _session(self) -> AsyncIterator[NodeSession]:
        reader, writer = await asyncio.open_connection("127.0.0.1", self._port, limit=_LINE)
        try:
            yield NodeSession(reader, writer)
        finally:
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()

    @contextlib.asynccontextmanager
    async def connect(self, url: str, terms: Terms) -> AsyncIterator[Peer]:
        async with self._session() as session:
            options: dict[str, object] = {
                "perMessageDeflate": _node_deflate(terms.deflate),
                "headers": dict(terms.headers),
                "autoPong": terms.autopong,
                "maxPayload": terms.max_size or 0,
            }
            if terms.tls is not None:
                options |= _node_tls(terms.tls)
            session.do("connect", url=url, protocols=terms.subprotocols, options=options)
            event = await session.event("open", "refused", "error")
            if event["event"] == "refused":
                raise Refused(event["status"], base64.b64decode(event["body"]))
            if event["event"] == "error":
                raise OSError(event["message"])
            yield NodePeer(session, event)

    @contextlib.asynccontextmanager
    async def listen(self, terms: Terms) -> AsyncIterator[Listener]:
        async with self._session() as session:
            options = {
                "perMessageDeflate": _node_deflate(terms.deflate),
                "autoPong": terms.autopong,
                "maxPayload": terms.max_size or 0,
            }
            tls = None
            if terms.tls is not None:
                tls = {**_node_tls(terms.tls), "requestCert": True}
            refuse = None
            if terms.refusing is not None:
                refuse = {
                    "status": terms.refusing.status,
                    "headers": dict(terms.refusing.headers),
                    "body": terms.refusing.body,
                }
            session.do(
                "listen",
                protocols=terms.subprotocols,
                options=options,
                tls=tls,
                refuse=refuse,
                greeting=terms.greeting,
            )
            yield NodeListener(session, (await session.event("listening"))["port"])


_NODE_NAMES = {
    "server_no_context_takeover": "serverNoContextTakeover",
    "client_no_context_takeover": "clientNoContextTakeover",
    "server_max_window_bits": "serverMaxWindowBits",
    "client_max_window_bits": "clientMaxWindowBits",
}


def _node_deflate(deflate: Parameters | None) -> object:
    if deflate is None:
        return False
    return {"threshold": 0, **{_NODE_NAMES[name]: value for name, value in deflate.items()}}


def _node_tls(tls: Tls) -> dict[str, object]:
    return {
        "ca": tls.authority,
        "cert": tls.certificate,
        "key": tls.key,
        "rejectUnauthorized": True,
    }
