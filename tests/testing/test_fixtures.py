"""The fixtures, in a run of pytest as a user has it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("pytest_asyncio")

CONFTEST = 'pytest_plugins = ["simplews.testing.fixtures"]\n'

TESTS = """
import asyncio

import pytest

from simplews import ConnectionClosed, State
from simplews.testing import ClockLoop

seen = []


async def echo(ws):
    async for message in ws:
        await ws.send(message)


async def test_pair(ws_pair):
    one, _ = await ws_pair(echo)
    other, server = await ws_pair(echo, "/other")
    assert server.request.path == "/other"
    for client in (one, other):
        await client.send("x")
        assert await client.receive() == "x"
    seen.extend([one, other])
    assert not isinstance(asyncio.get_running_loop(), ClockLoop)


async def test_pairs_are_closed_behind_the_test():
    assert [ws.close_code for ws in seen] == [1000, 1000]


async def test_clock_and_faults(ws_clock, ws_pair, ws_faults):
    began = ws_clock.time()
    client, server = await ws_pair(faults=ws_faults, ping_interval=20)
    ws_faults.drop()
    with pytest.raises(ConnectionClosed):
        await client.receive()
    assert 20 <= ws_clock.time() - began <= 44


async def test_asgi(ws_asgi):
    async def app(scope, receive, send):
        await receive()
        await send({"type": "websocket.accept"})
        await send({"type": "websocket.close", "code": 4000})

    ws = await ws_asgi(app)
    await ws.wait_closed()
    assert ws.close_code == 4000


async def test_that_fails_because_it_waits(ws_clock, ws_pair):
    client, _ = await ws_pair(timeout=5)
    await client.receive()


async def test_that_fails_behind_the_test(ws_pair):
    async def fail(ws):
        raise LookupError("in the handler")

    client, _ = await ws_pair(fail)
    await client.wait_closed()
"""


def test_in_a_run_of_pytest(tmp_path: Path) -> None:
    (tmp_path / "conftest.py").write_text(CONFTEST)
    (tmp_path / "test_mine.py").write_text(TESTS)
    (tmp_path / "pytest.ini").write_text(
        "[pytest]\nasyncio_mode = auto\nasyncio_default_fixture_loop_scope = function\n"
    )
    run = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-rA", "-W", "error", "-p", "no:cacheprovider"],
        cwd=tmp_path,
        env={**os.environ, "COLUMNS": "200"},
        capture_output=True,
        text=True,
        timeout=50,
    )
    output = run.stdout + run.stderr
    for name in ("pair", "pairs_are_closed_behind_the_test", "clock_and_faults", "asgi"):
        assert f"PASSED test_mine.py::test_{name}\n" in output, output
    # The one fails where it waits, and says why behind it; the other passes, and has an error.
    assert "FAILED test_mine.py::test_that_fails_because_it_waits" in output, output
    assert "TimeoutError: the block of pair() took longer than 5 s" in output, output
    assert "client: the connection is open" in output, output
    assert "ERROR test_mine.py::test_that_fails_behind_the_test - LookupError" in output, output
    assert "1 failed, 5 passed, 2 errors" in output, output
