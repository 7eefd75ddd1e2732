"""Frames that are sent past the transport: where that is done, and that none is overtaken."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

import simplews
from simplews.link.direct import descriptor

from ..tls import Tls

compiled = pytest.mark.skipif(not simplews.__speedups__, reason="only C can do it")


def loops() -> list[Any]:
    """What makes each loop, and skips where it is missing."""

    def uvloop() -> asyncio.AbstractEventLoop:
        module = pytest.importorskip("uvloop")
        loop: asyncio.AbstractEventLoop = module.new_event_loop()
        return loop

    return [
        pytest.param(asyncio.new_event_loop, id="asyncio"),
        pytest.param(uvloop, id="uvloop"),
    ]


def run(make: Callable[[], asyncio.AbstractEventLoop], main: Any) -> Any:
    with asyncio.Runner(loop_factory=make) as runner:
        return runner.run(main)


async def echo(ws: simplews.AioServer) -> None:
    async for message in ws:
        await ws.send(message)


@compiled
@pytest.mark.parametrize("make", loops())
def test_a_plain_socket_is_sent_to_directly(make: Any) -> None:
    async def main() -> None:
        async with simplews.serve(echo, "127.0.0.1") as server:
            url = f"ws://127.0.0.1:{server.port}"
            async with simplews.AioClient.connect(url) as ws:
                assert ws.wsock is not None
                sock = ws.wsock.get_extra_info("socket")
                assert descriptor(ws.wsock.transport) == sock.fileno()  # type: ignore[arg-type]

    run(make, main())


@pytest.mark.parametrize("make", loops())
@pytest.mark.parametrize("extra", [False, True], ids=["", "speed"])
def test_tls_is_never_gone_past(make: Any, extra: bool, tls: Tls) -> None:
    """What is sent to its socket would be sent in the clear."""

    async def main() -> None:
        seen = []

        async def handler(ws: simplews.AioServer) -> None:
            assert ws.wsock is not None
            seen.append(descriptor(ws.wsock.transport))  # type: ignore[arg-type]
            await echo(ws)

        async with simplews.serve(handler, "localhost", ssl=tls.server) as server:
            url = f"wss://localhost:{server.port}"
            async with simplews.AioClient.connect(url, ssl_context=tls.client) as ws:
                assert ws.wsock is not None
                seen.append(descriptor(ws.wsock.transport))  # type: ignore[arg-type]
                await ws.send("hidden")
                assert await ws.receive() == "hidden"
        assert seen == [-1, -1]

    if extra:
        pytest.importorskip("aiofastnet")
        simplews.speed.enable()
    try:
        run(make, main())
    finally:
        simplews.speed.disable()


def test_a_transport_that_is_not_known_is_left_alone() -> None:
    class Wrapped(asyncio.Transport):
        def get_extra_info(self, name: str, default: Any = None) -> Any:
            raise AssertionError("it is not even asked")

    assert descriptor(Wrapped()) == -1


@pytest.mark.parametrize("make", loops())
def test_no_message_overtakes_another(make: Any) -> None:
    """Short and long ones, to a peer that reads late: the socket is full now and then."""
    sizes = [1, 100, 5_000, 70_000, 3, 1_500_000, 20_000, 2, 300_000, 16_384] * 3

    async def main() -> None:
        go = asyncio.Event()

        async def handler(ws: simplews.AioServer) -> None:
            await go.wait()
            await echo(ws)

        async with simplews.serve(handler, "127.0.0.1") as server:
            url = f"ws://127.0.0.1:{server.port}"
            async with simplews.AioClient.connect(url) as ws:

                async def send() -> None:
                    for index, size in enumerate(sizes):
                        await ws.send(bytes([index]) * size)

                sending = asyncio.create_task(send())
                await asyncio.sleep(0)
                go.set()
                for index, size in enumerate(sizes):
                    assert await ws.receive() == bytes([index]) * size
                await sending

    run(make, main())
