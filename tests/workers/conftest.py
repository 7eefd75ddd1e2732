"""Servers of several processes, each in a session of its own, of which nothing may be left."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
import signal
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from pathlib import Path
from typing import Any

import pytest

import simplews
from simplews import AioClient, Reconnect

DEADLINE = 30  # seconds for anything that is waited for; a generous bound, not a measure
APP = Path(__file__).with_name("app.py")

if sys.platform == "win32":
    collect_ignore_glob = ["test_*"]


def environment() -> dict[str, str]:
    """Ours, in which a child finds the same simplews."""
    paths = [str(Path(simplews.__file__).parents[1]), os.environ.get("PYTHONPATH", "")]
    return {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(filter(None, paths)),
        "PYTHONDEVMODE": "",
    }


class App:
    """
    `app.py`, as it runs.

    Attributes:
        where: Its port, or its path.
        pids: Its workers at the start.
        process: The supervisor.
    """

    where: Any
    pids: list[int]

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process
        self.errors: list[str] = []

    async def answer(self) -> Any:
        """Wait for a line of its output; None at the end."""
        assert self.process.stdout is not None
        async with asyncio.timeout(DEADLINE):
            line = await self.process.stdout.readline()
        return json.loads(line) if line else None

    def order(self, line: str) -> None:
        """Tell it to do something."""
        assert self.process.stdin is not None
        self.process.stdin.write(line.encode() + b"\n")

    async def ask(self, line: str) -> Any:
        """Tell it to do something, and wait for its answer."""
        self.order(line)
        return await self.answer()

    async def says(self, pattern: str) -> re.Match[str]:
        """Wait for a line of its log."""
        assert self.process.stderr is not None
        async with asyncio.timeout(DEADLINE):
            while line := (await self.process.stderr.readline()).decode():
                self.errors.append(line)
                if found := re.search(pattern, line):
                    return found
        raise AssertionError(f"no line like {pattern!r} in {''.join(self.errors)}")

    async def end(self) -> tuple[int, str]:
        """Wait for its end: exit status, and the rest of its log."""
        assert self.process.stderr is not None
        async with asyncio.timeout(DEADLINE):
            # To their end: every process that had them has gone.
            self.errors.append((await self.process.stderr.read()).decode())
            return await self.process.wait(), "".join(self.errors)

    def connect(self, **options: Any) -> Any:
        """A client."""
        scheme = "wss" if "ssl_context" in options else "ws"
        url = (
            f"{scheme}://localhost:{self.where}/"
            if isinstance(self.where, int)
            else f"ws+unix:{self.where}:/"
        )
        return AioClient.connect(url, **options)

    async def members(self, pids: Iterable[int]) -> list[AioClient]:
        """Clients, at least one of each of *pids*."""
        clients, missing = [], set(pids)
        for _ in range(200):
            if not missing:
                return clients
            ws = await self.connect()
            clients.append(ws)
            missing.discard(int(str(await ws.receive(DEADLINE))))
        raise AssertionError(f"{missing} serve nobody")


Start = Callable[..., Awaitable[App]]


def session(leader: int) -> set[int]:
    """The processes of a session that run."""
    found = set()
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            with contextlib.suppress(OSError):
                fields = (entry / "stat").read_text().rpartition(") ")[2].split()
                if int(fields[3]) == leader and fields[0] != "Z":
                    found.add(int(entry.name))
    return found


async def gone(process: asyncio.subprocess.Process) -> None:
    """Wait until nobody of the session is left."""
    async with asyncio.timeout(DEADLINE):
        while session(process.pid):  # noqa: ASYNC110, as the kernel tells nobody
            await asyncio.sleep(0.01)


@pytest.fixture
async def start() -> AsyncIterator[Start]:
    """
    ``await start(workers=2)``: run the server; nothing of it may be left afterwards.

    With ``dev=True`` in Python's development mode, which tells what was not closed.
    """
    processes: list[asyncio.subprocess.Process] = []

    async def start_app(dev: bool = False, **args: Any) -> App:
        args = {"host": "127.0.0.1", "workers": 2, **args}
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-W", "error", *(("-X", "dev") if dev else ())),
            *(str(APP), json.dumps(args)),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            start_new_session=True,
            env=environment(),
        )
        processes.append(process)
        app = App(process)
        started = await app.answer()
        if started is not None:
            app.where, app.pids = started
        return app

    yield start_app
    try:
        for process in processes:
            if process.returncode is None:
                process.terminate()
            async with asyncio.timeout(DEADLINE):
                await process.communicate()
            await gone(process)
    finally:
        for process in processes:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)


#: A policy of tests: no time is lost.
AT_ONCE = Reconnect(first=0.01, most=0.1, healthy_after=0)
