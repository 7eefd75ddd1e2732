"""serve(workers=, lifespan=): each process opens and closes what it needs."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from simplews import AioServer, Server, serve
from simplews.resume import SUBPROTOCOL, Client

from ..engines import redis_server
from .conftest import DEADLINE, Start, gone

pytestmark = [
    pytest.mark.skipif(sys.platform == "win32", reason="workers= is not for Windows"),
    pytest.mark.timeout(120),
]

LEFT = "left with 0 connections"


async def test_each_process_has_one(start: Start, tmp_path: Path) -> None:
    """Entered before it accepts, and left when its connections are closed, however that came."""
    app = await start(notes=str(tmp_path))
    clients = await app.members(app.pids)
    for pid in app.pids:
        assert (tmp_path / str(pid)).read_text() == "entered with 0 sockets"
    new = await app.ask("restart 0")
    for pid in app.pids:
        assert (tmp_path / str(pid)).read_text() == LEFT
    clients += await app.members(new)
    app.process.send_signal(signal.SIGTERM)
    async with asyncio.timeout(DEADLINE):
        for ws in clients:
            await ws.wait_closed()
    assert {ws.close_code for ws in clients} == {1012, 1001}
    assert (await app.end())[0] == 0
    assert {note.name: note.read_text() for note in tmp_path.iterdir()} == {
        str(pid): LEFT for pid in (*app.pids, *new)
    }


async def test_entering_fails_at_the_start(start: Start, tmp_path: Path) -> None:
    (tmp_path / "do not enter").touch()
    app = await start(workers=1, notes=str(tmp_path))
    status, log = await app.end()
    assert status == 1
    assert "OSError: the engine is away" in log
    assert "ended with exit status 1 before it listened" in log


async def test_entering_fails_in_a_restart(start: Start, tmp_path: Path) -> None:
    """Like every worker that does not start: the old one goes on."""
    app = await start(workers=1, notes=str(tmp_path))
    (tmp_path / "do not enter").touch()
    assert "exit status 1 before it listened" in await app.ask("restart 0")
    await app.says(r"a worker cannot serve, and ends: pid \d+$")
    await app.says("^OSError: the engine is away$")
    assert await app.ask("pids") == app.pids
    assert set(tmp_path.iterdir()) == {tmp_path / "do not enter", tmp_path / str(app.pids[0])}


@pytest.mark.skipif(not os.path.isdir("/proc/self/fd"), reason="needs /proc")
async def test_a_supervisor_that_is_killed_while_a_worker_enters_leaves_no_orphan(
    start: Start, tmp_path: Path
) -> None:
    app = await start(workers=1, notes=str(tmp_path))
    (tmp_path / "wait").touch()
    app.order("restart 0")
    await app.says("entering takes for ever")
    app.process.kill()
    await app.end()
    await gone(app.process)


async def test_leaving_fails(start: Start, tmp_path: Path) -> None:
    """Its clients are closed as ever; the log says what was wrong, and of which worker."""
    app = await start(workers=1, notes=str(tmp_path))
    clients = await app.members(app.pids)
    (tmp_path / "do not leave").touch()
    app.process.send_signal(signal.SIGTERM)
    for ws in clients:
        async with asyncio.timeout(DEADLINE):
            await ws.wait_closed()
        assert ws.close_code == 1001
    status, log = await app.end()
    assert status == 0
    assert log.count("\nOSError: the engine was lost\n") == 1
    assert f"worker 1 (pid {app.pids[0]}) ended with exit status 1" in log
    assert "never retrieved" not in log


async def test_rooms_are_closed_with_their_process(start: Start) -> None:
    """Python's development mode finds nothing that was left open."""
    with redis_server() as redis:
        url = f"redis://127.0.0.1:{redis.port}"
        app = await start(dev=True, workers=1, engine=url, history=True, subprotocols=[SUBPROTOCOL])
        async with Client(f"ws://127.0.0.1:{app.where}", ["load"]) as client:
            await client.send("load", "hello")
            async with asyncio.timeout(DEADLINE):
                async for _, message in client:
                    assert message == "hello"
                    break
        app.process.send_signal(signal.SIGTERM)
        status, log = await app.end()
    assert status == 0
    assert "ResourceWarning" not in log and "Traceback" not in log, log


async def handler(ws: AioServer) -> None:
    """Never run."""


def test_it_is_a_function_of_a_module() -> None:
    """Else it cannot be sent to a worker, and that is said at once."""

    @contextlib.asynccontextmanager
    async def local(server: Server) -> AsyncIterator[None]:
        yield

    with pytest.raises(TypeError, match=r"local.*and lifespan= must be functions of a module"):
        serve(handler, workers=2, lifespan=local)
    serve(handler, workers=2, lifespan=of_a_module)


@contextlib.asynccontextmanager
async def of_a_module(server: Server) -> AsyncIterator[None]:
    """Never entered."""
    yield
