"""A peer that vanishes for real: in another network namespace, behind a link that is taken down.

No RST, no FIN, no ICMP: what a cable that is pulled out does.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Iterator

import pytest

from simplews import AioServer, ConnectionClosed, serve

from ..namespace import Link, linked_namespace

CLIENT = """
import asyncio, sys
from simplews import AioClient
async def main():
    ws = await AioClient.connect(sys.argv[1], open_timeout=30)
    await ws.send("here I am")
    await asyncio.sleep(300)  # until it is killed: it is to hear of nothing
asyncio.run(main())
"""


@pytest.fixture
def link() -> Iterator[Link]:
    with linked_namespace() as link:
        yield link


@pytest.mark.parametrize("waits", ["receive", "send"])
async def test_a_peer_behind_a_link_that_goes_down(link: Link, waits: str) -> None:
    """RELIABILITY: every waiter is woken, with 1006 or 1011, though nothing tells us."""
    opened: asyncio.Future[AioServer] = asyncio.get_running_loop().create_future()

    async def handler(ws: AioServer) -> None:
        assert await ws.receive() == "here I am"
        opened.set_result(ws)
        await ws.wait_closed()

    async with serve(handler, link.here, 0, ping_interval=0.3) as server:
        client = await asyncio.create_subprocess_exec(
            *(*link.prefix, sys.executable, "-c", CLIENT),
            f"ws://{link.here}:{server.port}/",
        )
        try:
            ws = await opened
            link.take_down()
            with pytest.raises(ConnectionClosed) as caught:
                while True:
                    await (ws.receive() if waits == "receive" else ws.send(b"x" * 10_000))
            assert caught.value.code in (1006, 1011)
            await ws.wait_closed()
        finally:
            client.kill()
            await client.wait()
