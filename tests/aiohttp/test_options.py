"""Every option of `AioServer.accept`, through a request of aiohttp's."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from aiohttp import web

from simplews import AioServer

from ..peer import CLOSE, PING, TEXT, Peer
from .site import Log, request, running


async def answered(peer: Peer) -> list[str]:
    """The header of the 101, in lines."""
    head = (await peer.head()).decode()
    assert head.startswith("HTTP/1.1 101 Switching Protocols\r\n")
    return head.split("\r\n")


def handler(body: Any = None, cls: type[AioServer] = AioServer, **options: Any) -> Any:
    async def handle(request: web.Request) -> None:
        ws = await cls.accept(aiohttp=request, **options)
        if body is not None:
            await body(ws)

    return handle


class Chooses(AioServer):
    def choose_subprotocol(self, request: Any) -> str | None:
        assert (request.target, request.path, request.query) == ("/a%20b?q=1", "/a b", "q=1")
        assert request.remote_address[0] == "127.0.0.1"
        return str(request.subprotocols[-1])


class ChoosesLater(AioServer):
    async def choose_subprotocol(self, request: Any) -> str | None:
        await asyncio.sleep(1)
        return str(request.subprotocols[-1])


@pytest.mark.parametrize("cls", [Chooses, ChoosesLater])
async def test_choose_subprotocol(cls: type[AioServer], log: Log) -> None:
    async def body(ws: AioServer) -> None:
        await ws.send(f"{ws.subprotocol} {type(ws).__name__}")

    async with running(handler(body, cls)) as site:
        data = request("/a%20b?q=1", Sec_WebSocket_Protocol="one, two")
        async with site.peer(data) as peer:
            assert "Sec-WebSocket-Protocol: two" in await answered(peer)
            assert await peer.frame() == (TEXT, f"two {cls.__name__}".encode())
    assert log.lines() == []


async def test_subprotocols() -> None:
    async with running(handler(subprotocols=["two", "three"])) as site:
        async with site.peer(request(Sec_WebSocket_Protocol="one, two")) as peer:
            assert "Sec-WebSocket-Protocol: two" in await answered(peer)
        async with site.peer(request(Sec_WebSocket_Protocol="one")) as peer:
            assert "sec-websocket-protocol" not in str(await answered(peer)).lower()


async def test_extra_headers() -> None:
    extra = [("X-Name", "1"), ("X-Name", "2"), ("Server", "ours"), ("X-Bytes", "ü".encode())]
    async with running(handler(extra_headers=extra)) as site:
        async with site.peer(request()) as peer:
            lines = await answered(peer)
    assert {"X-Name: 1", "X-Name: 2", "Server: ours", "X-Bytes: ü"} <= set(lines)
    assert len([line for line in lines if line.startswith("Server:")]) == 1


async def test_compression(log: Log) -> None:
    async def body(ws: AioServer) -> None:
        async for message in ws:
            await ws.send(message)

    for setting, agreed in (("deflate", True), (None, False)):
        async with running(handler(body, compression=setting)) as site:
            async with site.connect() as ws:
                assert ("sec-websocket-extensions" in ws.headers) is agreed
                await ws.send("x" * 10_000)
                assert await ws.receive() == "x" * 10_000
    assert log.lines() == []


async def test_ping_interval() -> None:
    async def body(ws: AioServer) -> None:
        await ws.receive()

    async with running(handler(body, ping_interval=20)) as site:
        async with site.opened() as peer:
            *pings, (opcode, payload) = await peer.frames()
    assert pings and {opcode for opcode, _ in pings} == {PING}
    assert (opcode, payload[:2]) == (CLOSE, b"\x03\xf3"), "no pong came"


async def test_max_message_size(log: Log) -> None:
    async def body(ws: AioServer) -> None:
        await ws.receive()

    async with running(handler(body, max_message_size=10)) as site:
        async with site.opened() as peer:
            await peer.send(TEXT, "x" * 11)
            ((opcode, payload),) = await peer.frames()
            assert (opcode, payload[:2]) == (CLOSE, b"\x03\xf1")
    assert log.lines() == []


async def test_receive_timeout(log: Log) -> None:
    async def body(ws: AioServer) -> None:
        assert await ws.receive() is None
        await ws.send("later")

    async with running(handler(body, receive_timeout=30)) as site:
        async with site.opened() as peer:
            assert await peer.frame() == (TEXT, b"later")
    assert log.lines() == []


async def test_a_header_field_that_could_smuggle_another_is_a_value_error() -> None:
    raised: list[Exception] = []

    async def handle(request: web.Request) -> web.Response:
        for call in (AioServer.accept, AioServer.reject):
            try:
                await call(aiohttp=request, extra_headers={"X": "a\r\nY: b"})  # type: ignore[operator]
            except ValueError as exc:
                raised.append(exc)
        return web.Response()

    async with running(handle) as site:
        async with site.peer(request()) as peer:
            assert (await peer.head()).startswith(b"HTTP/1.1 200 ")
    assert len(raised) == 2
