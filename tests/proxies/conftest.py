"""Proxies that a client goes through: programs of their own, on free ports."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import NoReturn

import pytest

from ..ports import free_port

__all__ = ["Start"]

DEADLINE = 30  # seconds for anything that is waited for; a generous bound, not a measure

Start = Callable[..., AbstractAsyncContextManager[int]]

_TINYPROXY = """\
Listen 127.0.0.1
Port {port}
Timeout 600
LogFile "{folder}/log"
PidFile "{folder}/pid"
MaxClients 20
"""


def missing(what: str) -> NoReturn:
    """Skip where a person runs the tests; in CI nothing may be missing."""
    if os.environ.get("CI"):
        pytest.fail(f"{what} is missing; .ci/install installs it", pytrace=False)
    pytest.skip(f"{what} is missing")


@contextlib.asynccontextmanager
async def running(command: list[str], port: int) -> AsyncIterator[int]:
    """A program that listens on *port*, which is yielded."""
    process = await asyncio.create_subprocess_exec(
        *command, stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.DEVNULL
    )
    try:
        async with asyncio.timeout(DEADLINE):
            while True:
                assert process.returncode is None, f"{command[0]} ended at once"
                with contextlib.suppress(OSError):
                    _, writer = await asyncio.open_connection("127.0.0.1", port)
                    writer.close()
                    await writer.wait_closed()
                    break
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(process.wait(), 0.02)
        yield port
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.terminate()
        await asyncio.wait_for(process.wait(), DEADLINE)


@pytest.fixture
def tinyproxy(tmp_path: Path) -> Start:
    """Starts tinyproxy, a HTTP proxy, with more lines of configuration."""
    program = shutil.which("tinyproxy", path=f"{os.environ.get('PATH', '')}:/usr/sbin") or missing(
        "tinyproxy"
    )

    def start(*lines: str) -> AbstractAsyncContextManager[int]:
        port = free_port()
        text = _TINYPROXY.format(port=port, folder=tmp_path) + "\n".join([*lines, ""])
        (tmp_path / "tinyproxy.conf").write_text(text, encoding="utf-8")
        return running([program, "-d", "-c", str(tmp_path / "tinyproxy.conf")], port)

    return start


@pytest.fixture
def microsocks() -> Start:
    """Starts microsocks, a SOCKS5 proxy, with more arguments."""
    program = shutil.which("microsocks") or missing("microsocks")

    def start(*arguments: str) -> AbstractAsyncContextManager[int]:
        port = free_port()
        return running([program, "-i", "127.0.0.1", "-p", str(port), *arguments], port)

    return start
