"""`examples/deploy`: what the how-to guide says of nginx and HAProxy, with the real ones."""

from __future__ import annotations

import asyncio
import configparser
import contextlib
import re
import sys
from collections import Counter
from typing import Any

import pytest

from simplews import AioClient, ConnectionClosed, Reconnect, Retry
from simplews import ConnectionError as OpenError

from .conftest import AT_ONCE, DEADLINE, DEPLOY, Site

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="no nginx or HAProxy there")


async def echoes(ws: AioClient, message: str | bytes) -> bool:
    await ws.send(message)
    while str(answer := await ws.receive(DEADLINE)).startswith("hello, "):
        pass
    return answer == message


async def closed(ws: AioClient) -> int | None:
    async with asyncio.timeout(DEADLINE):
        await ws.wait_closed()
    return ws.close_code


def shares(site: Site) -> list[int]:
    return [len(site.servers[port].connections) for port in site.ports]


async def test_everything_goes_through(site: Site) -> None:
    """Messages of any size, both ways of closing, and who the client is."""
    await site.start()
    clients: list[AioClient] = []
    for _ in range(10):
        # What a client says of itself is not believed.
        ws = await site.connect(headers={"X-Forwarded-For": "10.9.8.7"}, subprotocols=["x"])
        clients.append(ws)
        assert await ws.receive(DEADLINE) == "hello, 127.0.0.1"
    assert min(shares(site)) >= 4, "where the fewest are"
    one, other = clients[:2]
    assert await echoes(one, "¡Olé!") and await echoes(one, bytes(1 << 20))
    await one.close(4000, "enough")
    assert one.close_code == 4000
    assert await other.ping(DEADLINE) > 0
    for port in site.ports:
        await site.servers[port].close(1012, "new version")
    assert {await closed(ws) for ws in clients[1:]} == {1012}
    assert other.close_reason == "new version"
    with pytest.raises(OpenError) as refused:
        await site.connect()
    assert refused.value.status_code in (502, 503)


async def test_pings_keep_a_silent_connection(site: Site) -> None:
    """And without them the proxy closes it, which the client sees as 1006."""
    for port, interval in zip(site.ports, (0.2, None), strict=True):
        await site.servers[port].close()
        await site.serve(port, ping_interval=interval)
    await site.start(**{"proxy_read_timeout" if site.name == "nginx" else "timeout_tunnel": "1s"})
    clients: list[AioClient] = [await site.connect() for _ in range(2)]
    assert shares(site) == [1, 1]
    ends = {asyncio.create_task(ws.wait_closed()): ws for ws in clients}
    (end,), (other,) = await asyncio.wait(
        ends, timeout=DEADLINE, return_when=asyncio.FIRST_COMPLETED
    )
    assert ends[end].close_code == 1006
    # Once more, so that the other has been silent for twice as long.
    async with site.connect() as ws:
        assert await closed(ws) == 1006
    assert await ends[other].receive(0) == "hello, 127.0.0.1"
    assert await echoes(ends[other], "still here")
    await ends[other].close()
    await other


async def test_one_server_is_drained_and_comes_back(site: Site) -> None:
    """Its clients get 1012 and are back, on the other one, without a single failure."""
    await site.start()
    codes: Counter[int | None] = Counter()
    failures: list[Retry] = []
    opened = asyncio.Event()

    async def client() -> None:
        policy = Reconnect(first=AT_ONCE.first, most=AT_ONCE.most, healthy_after=0, on_retry=failed)
        async for ws in site.connect(reconnect=policy):
            try:
                while await echoes(ws, "x"):
                    opened.set()
            except ConnectionClosed:
                codes[ws.close_code] += 1

    def failed(retry: Retry) -> None:
        if isinstance(retry.error, OpenError):
            failures.append(retry)

    async def until(condition: Any) -> None:
        async with asyncio.timeout(DEADLINE):
            while not condition():
                opened.clear()
                await opened.wait()

    first, second = site.ports
    tasks = [asyncio.create_task(client()) for _ in range(8)]
    await until(lambda: sum(shares(site)) == 8)
    assert min(shares(site)) >= 3
    drained = shares(site)[0]
    await site.servers[first].drain(0.3)
    await until(lambda: len(site.servers[second].connections) == 8)
    assert codes == {1012: drained}
    await site.serve(first)
    # It is noticed when the time that it is left alone for is over.
    async with asyncio.timeout(DEADLINE):
        async for ws in site.connect(reconnect=AT_ONCE):
            assert await echoes(ws, "x")
            if site.servers[first].connections:
                break
    await site.servers[second].drain(0.3)
    await until(lambda: len(site.servers[first].connections) == 8)
    assert codes == {1012: drained + 8}
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    assert not failures


async def test_the_proxy_is_reloaded(site: Site) -> None:
    """Who is connected stays, until the old process is told to end; then clients are back."""
    await site.start(**({} if site.name == "nginx" else {"hard-stop-after": "2s"}))
    async with contextlib.AsyncExitStack() as stack:
        turns: list[AioClient] = []
        connected, back = asyncio.Event(), asyncio.Event()

        async def client() -> None:
            async for ws in site.connect(reconnect=AT_ONCE):
                turns.append(ws)
                assert str(await ws.receive(DEADLINE)).startswith("hello")
                (connected if len(turns) == 1 else back).set()
                with contextlib.suppress(ConnectionClosed):
                    await ws.receive(DEADLINE)

        task = asyncio.create_task(client())
        stack.callback(task.cancel)
        async with asyncio.timeout(DEADLINE):
            await connected.wait()
            while not back.is_set():  # under load, haproxy does not always heed the first
                site.reload()
                # The old process has its connection, and a new one takes new ones.
                async with site.connect() as ws:
                    assert await echoes(ws, "x")
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(back.wait(), DEADLINE / 5)
        assert turns[0].close_code == 1006 and turns[1].connected
        task.cancel()
        await asyncio.wait([task])


def test_the_unit_of_systemd_fits_the_program() -> None:
    """The program that it starts is there, and takes its arguments."""
    unit = configparser.ConfigParser(interpolation=None, strict=False)
    unit.optionxform = str  # type: ignore[assignment, method-assign]
    unit.read(DEPLOY / "simplews.service", encoding="utf-8")
    service = unit["Service"]
    _, program, host, port, workers = service["ExecStart"].split()
    assert (DEPLOY / program).is_file() and host == "127.0.0.1"
    assert port.isdecimal() and workers.isdecimal()
    for name in ("nginx.conf", "haproxy.cfg"):
        assert re.search(rf"10\.0\.0\.1:{port}\b", (DEPLOY / name).read_text("utf-8"))
    assert service["KillMode"] == "mixed" and "-HUP" in service["ExecReload"]
