"""The JavaScript client of `simplews.resume.v1`, in Node, against our server."""

from __future__ import annotations

import asyncio
import contextlib
import json
import shutil
from collections.abc import AsyncIterator
from typing import Any

import pytest

from simplews import AioServer, ConnectionClosed, Rooms, serve
from simplews.resume import SUBPROTOCOL, Session
from simplews.rooms import History, Memory

from .conftest import FOLDER, missing
from .strangers import DEADLINE

pytestmark = pytest.mark.interop


class Script:
    """``node/resume.js``: orders in, events out."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process

    def do(self, *order: object) -> None:
        """Call a method of the client."""
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(order).encode() + b"\n")

    async def told(self, count: int) -> list[Any]:
        """So many events."""
        assert self._process.stdout is not None
        async with asyncio.timeout(DEADLINE):
            return [json.loads(await self._process.stdout.readline()) for _ in range(count)]

    async def end(self) -> None:
        """Close the client; it tells nothing else."""
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.close()
        async with asyncio.timeout(DEADLINE):
            rest = await self._process.stdout.read()
            assert await self._process.wait() == 0
        assert [json.loads(line)[0] for line in rest.splitlines()] == ["end"]


@contextlib.asynccontextmanager
async def script(port: int) -> AsyncIterator[Script]:
    program = shutil.which("node")
    if program is None:
        missing("node", "install Node.js")
    if not (FOLDER / "node_modules" / "ws").is_dir():
        missing("Node's ws", "npm install --no-package-lock --prefix tests/interop/node")
    process = await asyncio.create_subprocess_exec(
        program,
        str(FOLDER / "resume.js"),
        f"ws://127.0.0.1:{port}",
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    try:
        yield Script(process)
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()


async def test_javascript_misses_nothing_and_gets_nothing_twice() -> None:
    """Text and bytes, both ways, through resets under load; refusals; a gap."""
    opened: list[AioServer] = []
    lets_in = asyncio.Event()
    lets_in.set()

    async with Rooms(Memory(History(length=500))) as rooms:

        async def handler(ws: AioServer) -> None:
            opened.append(ws)
            await lets_in.wait()
            async with Session(ws, rooms, allow=lambda room: room != "secret") as session:
                with contextlib.suppress(ConnectionClosed):
                    async for room, message in session:
                        await rooms.broadcast(room, message)

        async with (
            serve(handler, "127.0.0.1", 0, subprotocols=[SUBPROTOCOL]) as server,
            script(server.port) as node,
        ):
            assert await node.told(1) == [["refused", "secret", "it may not join", None]]
            node.do("send", "lobby", "Grüße \N{GRINNING FACE}")
            node.do("send", "lobby", [0, 255, 128])
            node.do("send", "elsewhere", "hi")
            assert await node.told(3) == [
                ["message", "lobby", "Grüße \N{GRINNING FACE}"],
                ["message", "lobby", [0, 255, 128]],
                ["refused", "elsewhere", "it is no member of the room", 3],
            ]
            got: list[Any] = []
            for turn in range(10):
                for n in range(20):
                    await rooms.broadcast("lobby", f"{turn} {n}")
                node.do("send", "lobby", f"own {turn}")
                opened[-1].abort()
                await rooms.broadcast("lobby", f"{turn} away")
                got += await node.told(22)
            texts = [data for kind, room, data in got if (kind, room) == ("message", "lobby")]
            assert [text for text in texts if "own" in text] == [f"own {n}" for n in range(10)]
            wanted = [f"{turn} {n}" for turn in range(10) for n in (*range(20), "away")]
            assert [text for text in texts if "own" not in text] == wanted

            lets_in.clear()
            opened[-1].abort()
            for n in range(501):
                await rooms.broadcast("lobby", f"{n}")
            lets_in.set()
            gap = ["gap", "lobby", "the history does not reach back"]
            assert await node.told(1) == [gap]
            await rooms.broadcast("lobby", "after")
            assert await node.told(1) == [["message", "lobby", "after"]]
            await node.end()


async def test_javascript_stops_where_coming_again_is_of_no_use() -> None:
    async def other(ws: AioServer) -> None:
        await ws.close(1008, "not you")

    async with (
        serve(other, "127.0.0.1", 0, subprotocols=[SUBPROTOCOL]) as server,
        script(server.port) as node,
    ):
        assert await node.told(1) == [["end", 1008]]
