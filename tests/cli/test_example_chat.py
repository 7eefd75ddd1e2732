"""``examples/chat.py`` runs as its first lines say, with ``simplews connect`` as its client."""

from __future__ import annotations

import asyncio
import signal
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from .conftest import DEADLINE, Program, Start, end, environment

EXAMPLE = Path(__file__).parents[2] / "examples" / "chat.py"


@pytest.fixture
async def server() -> AsyncIterator[Program]:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-W", "default", EXAMPLE, "127.0.0.1", "0"),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env=environment(),
    )
    try:
        yield Program(process)
    finally:
        await end(process)


@pytest.mark.skipif(sys.platform == "win32", reason="no SIGINT for one process")
async def test_people_in_one_room_hear_each_other(server: Program, start: Start) -> None:
    url = (await server.line(r"^Chat on (ws://127\.0\.0\.1:\d+/lobby)$"))[1]
    ada = await start("connect", url, "--linger", "inf")
    bob = await start("connect", url, "--linger", "inf")
    elsewhere = await start("connect", url.replace("lobby", "attic"), "--linger", "inf", "--json")
    await elsewhere.line('"event": "open"')
    # Who came first is chance; "came" says that both are in.
    first, second = await _arrived(ada, bob)
    await second.write(b"hello\n")
    await first.line("^hello$")
    await first.write(b"hello yourself\n")
    await second.line("^hello yourself$")
    assert await second.stop() == 130
    await first.line(r"^\* somebody left \*$")
    assert await server.stop(signal.SIGINT) == 0
    assert (await server.finish())[2] == ""
    (closed,) = (await elsewhere.finish())[1].splitlines()  # and nothing was received
    assert '"code": 1001' in closed


async def _arrived(*programs: Program) -> tuple[Program, Program]:
    """Of two that join, the one that sees the other come, and the other."""
    waiting = {asyncio.create_task(p.line("somebody came")): p for p in programs}
    async with asyncio.timeout(DEADLINE):
        done, pending = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
    for task in pending:
        task.cancel()
    await asyncio.wait(pending)
    (seen,) = done
    first = waiting.pop(seen)
    (second,) = waiting.values()
    return first, second
