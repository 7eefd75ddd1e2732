"""`examples/resume.js` in Chromium, behind a network that resets its connection."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from simplews import AioServer, ConnectionClosed, Rooms, serve
from simplews.resume import SUBPROTOCOL, Session
from simplews.rooms import History, Memory
from simplews.testing import Faults

from .stage import DEADLINE

pytestmark = pytest.mark.browser

SCRIPT = Path(__file__).parents[2] / "examples" / "resume.js"

GAP = {"gap": "the history does not reach back"}

# What the page was given, in the order in which it was.
START = """
port => {
  window.got = [];
  window.client = new ResumeClient(`ws://127.0.0.1:${port}`, {
    rooms: ["lobby"],
    onmessage: (room, data) => got.push(typeof data === "string" ? data : Array.from(data)),
    ongap: (room, reason) => got.push({ gap: reason }),
    onend: (code) => got.push({ end: code }),
    firstDelay: 1,
    mostDelay: 1,
  });
}
"""


class Page:
    """
    A page that follows a room, over a network of ours.

    Attributes:
        faults: The network.
        rooms: The server's.
        lets_in: Cleared to let nobody join.
        connections: How many there have been.
    """

    def __init__(self, page: Any) -> None:
        self._page = page
        self.complaints: list[str] = []
        page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.faults = Faults()
        self.rooms = Rooms(Memory(History(length=300)))
        self.lets_in = asyncio.Event()
        self.lets_in.set()
        self.connections = 0
        self._came = asyncio.Event()

    async def handler(self, ws: AioServer) -> None:
        self.connections += 1
        self._came.set()
        await self.lets_in.wait()
        async with Session(ws, self.rooms, allow=lambda room: True) as session:
            with contextlib.suppress(ConnectionClosed):
                async for room, message in session:
                    await self.rooms.broadcast(room, message)

    async def start(self, port: int) -> None:
        """Connect, and wait until the page is a member."""
        await self._page.add_script_tag(path=SCRIPT)
        await self._page.evaluate(START, port)
        await self.shows('client.positions.get("lobby") !== undefined')

    async def came_again(self, before: int) -> None:
        """Wait for another connection than the first so many."""
        async with asyncio.timeout(DEADLINE):
            while self.connections == before:
                self._came.clear()
                await self._came.wait()

    async def shows(self, expression: str) -> None:
        """Wait until it is true in the page."""
        await self._page.wait_for_function(expression, polling=20)

    async def run(self, script: str) -> Any:
        return await self._page.evaluate(script)

    async def got(self, last: Any) -> list[Any]:
        """All that the page got, once *last* has come."""
        await self._page.wait_for_function(
            "last => JSON.stringify(got.at(-1)) === JSON.stringify(last)", arg=last, polling=20
        )
        found: list[Any] = await self._page.evaluate("got")
        return found


@pytest.fixture
async def page(browser: Any) -> AsyncIterator[Page]:
    context = await browser.new_context()
    context.set_default_timeout(DEADLINE * 1000)
    page = Page(await context.new_page())
    async with page.rooms, serve(page.handler, "127.0.0.1", 0, subprotocols=[SUBPROTOCOL]) as there:
        async with page.faults.proxy("127.0.0.1", there.port) as port:
            await page.start(port)
            yield page
            await page.run("client.close()")
            await page.shows("client.ws.readyState === 3")
    await context.close()
    assert not page.complaints


async def test_each_message_once_and_in_order_through_resets(page: Page) -> None:
    """Anywhere between messages, while the page sends some of its own, and inside of one."""
    for turn in range(10):
        for n in range(20):
            await page.rooms.broadcast("lobby", f"{20 * turn + n}")
            if n == 2 * turn:
                page.faults.reset()
            if n == 10:
                await page.run(f"client.send('lobby', Uint8Array.of({turn}, 255)), 0")
    await page.shows("client.unacknowledged.size === 0")
    await page.rooms.broadcast("lobby", "end")
    got = await page.got("end")
    assert [text for text in got if isinstance(text, str)] == [*map(str, range(200)), "end"]
    assert [data for data in got if not isinstance(data, str)] == [[n, 255] for n in range(10)]

    long = random.Random(6).randbytes(100_000).hex()  # also when it is compressed
    page.faults.to_client.reset_after = 70_000
    before = page.connections
    await page.rooms.broadcast("lobby", long)
    await page.came_again(before)
    page.faults.heal()
    await page.rooms.broadcast("lobby", "end of all")
    assert (await page.got("end of all"))[len(got) :] == [long, "end of all"]


async def test_what_cannot_be_read_again_is_a_gap(page: Page) -> None:
    """The history is too short, or another one: its server has lost its memory."""
    await page.rooms.broadcast("lobby", "before")
    page.lets_in.clear()
    before = page.connections
    page.faults.reset()
    await page.came_again(before)
    for n in range(301):
        await page.rooms.broadcast("lobby", f"{n}")
    page.lets_in.set()
    assert await page.got(GAP) == ["before", GAP]
    await page.rooms.broadcast("lobby", "after")
    assert await page.got("after") == ["before", GAP, "after"]

    async with Rooms(Memory(History())) as page.rooms:
        # The same offset is not the same place.
        for n in range(400):
            await page.rooms.broadcast("lobby", f"{n}")
        page.faults.reset()
        assert await page.got(GAP) == ["before", GAP, "after", GAP]
        await page.rooms.broadcast("lobby", "at last")
        assert (await page.got("at last"))[4:] == ["at last"]
