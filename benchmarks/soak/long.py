"""
The long run: mixed load with faults, and every message accounted for.

    python benchmarks/soak/long.py --minutes 10

A server and its clients, both of simplews, are processes of their own (mixed.py). Between
them a relay resets, cuts, stalls, splits and goes dark. In the end the books of both ends
are compared: a message that was sent has been delivered, or its sender had an exception.
The memory of both is sampled every second, and ten times when all connections have been
closed. Linux only.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import datetime
import json
import os
import random
import signal
import socket
import struct
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # also with PYTHONSAFEPATH

from harness import processes

from soak.stage import HERE, Watch

Record = dict[str, Any]

# glibc gives large blocks back when they are freed, until it has learned that they come
# again; then it keeps them, and what the curve shows is how they lie. These settings keep
# it from learning.
MALLOC = {"MALLOC_MMAP_THRESHOLD_": "131072", "MALLOC_TRIM_THRESHOLD_": "131072"}

# ----------------------------------------------------------------------------- the books


def settle(client: Record, server: Record | None) -> Counter[str]:
    """
    Compare the books of a connection's two ends, either direction.

    Args:
        server: None if the server never had the connection.
    """
    counts: Counter[str] = Counter()
    if server is None:
        server = {
            **client,
            "sent": 0,
            "unsure": [],
            "got": 0,
            "last": -1,
            "skipped": [],
            "wrong": 0,
        }
    for sender, receiver in ((client, server), (server, client)):
        if client["kind"] == "room" and sender is server:
            counts["wrong"] += client["wrong"]  # it has counted them by sender
            continue
        counts += direction(sender, receiver)
    return counts


def direction(sender: Record, receiver: Record) -> Counter[str]:
    """
    What became of the messages that one end has sent.

    A message that did not come is accounted for if its own send() raised, or if it is
    behind the last that came and the sender had an exception of the connection. All
    others are lost.
    """
    sent, unsure = sender["sent"], set(sender["unsure"])
    counts = Counter(sent=sent, delivered=receiver["got"] - receiver["wrong"])
    counts["wrong"] = receiver["wrong"]
    missing = set(receiver["skipped"]) | set(range(receiver["last"] + 1, sent))
    for number in missing:
        behind = number > receiver["last"] and sender["raised"]
        counts["accounted" if number in unsure or behind else "lost"] += 1
    return counts


# ----------------------------------------------------------------------------- the relay


@dataclass
class Fault:
    """
    What happens to one connection.

    Attributes:
        kind: none, refuse, reset, fin, dark, stall or split.
        after: Bytes that pass before it does.
    """

    kind: str
    after: int

    @classmethod
    def draw(cls, chance: random.Random) -> Fault:
        """One by chance."""
        kinds = ["none", "refuse", "reset", "fin", "dark", "stall", "split"]
        kind = chance.choices(kinds, [50, 2, 12, 8, 6, 12, 10])[0]
        return cls(kind, int(10 ** chance.uniform(1.5, 6.5)))


class Relay:
    """Passes bytes on, and injects a fault into every other connection."""

    def __init__(self, target: int, seed: int) -> None:
        self.faults: Counter[str] = Counter()
        self._target = target
        self._random = random.Random(seed)
        self._tasks: set[asyncio.Task[None]] = set()

    async def listen(self) -> int:
        """Start; the port."""
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=256)
        self._listener.setblocking(False)
        self._keep(asyncio.ensure_future(self._accept()))
        port: int = self._listener.getsockname()[1]
        return port

    async def close(self) -> None:
        """End it, and everything that it holds."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._listener.close()

    def _keep(self, task: asyncio.Task[None]) -> None:
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _accept(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            near, _ = await loop.sock_accept(self._listener)
            self._keep(asyncio.ensure_future(self._relay(near)))

    async def _relay(self, near: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        fault = Fault.draw(self._random)
        self.faults[fault.kind] += 1
        far = socket.socket()
        try:
            for sock in (near, far):
                sock.setblocking(False)
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if fault.kind == "refuse":
                _reset(near)
                return
            await loop.sock_connect(far, ("127.0.0.1", self._target))
            line = _Line(fault)
            ways = [
                asyncio.ensure_future(line.carry(near, far)),
                asyncio.ensure_future(line.carry(far, near)),
            ]
            try:
                # Both ways end by themselves, or the fault ends both.
                over = asyncio.ensure_future(line.over.wait())
                both: asyncio.Future[Any] = asyncio.gather(*ways, return_exceptions=True)
                await asyncio.wait([over, both], return_when=asyncio.FIRST_COMPLETED)
                over.cancel()
            finally:
                for way in ways:
                    way.cancel()
                await asyncio.wait(ways)
            if line.over.is_set():
                if fault.kind == "dark":
                    # Nobody reads and nobody answers: the ends have to find out.
                    await asyncio.sleep(6)
                elif fault.kind == "reset":
                    _reset(near)
                    _reset(far)
        except OSError:
            pass
        finally:
            near.close()
            far.close()


@dataclass
class _Line:
    fault: Fault
    passed: int = 0
    over: asyncio.Event = field(default_factory=asyncio.Event)

    async def carry(self, source: socket.socket, sink: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        fault = self.fault
        try:
            while data := await loop.sock_recv(source, 65536):
                self.passed += len(data)
                if self.passed > fault.after:
                    if fault.kind in ("reset", "fin", "dark"):
                        # Somewhere in the middle of a frame, mostly.
                        await loop.sock_sendall(sink, data[: len(data) // 2])
                        self.over.set()
                        return
                    if fault.kind == "stall":
                        fault.after = self.passed * 4
                        await asyncio.sleep(0.6)
                if fault.kind == "split" and self.passed < 20_000:
                    for i in range(0, len(data), 7):
                        await loop.sock_sendall(sink, data[i : i + 7])
                        await asyncio.sleep(0)
                else:
                    await loop.sock_sendall(sink, data)
            sink.shutdown(socket.SHUT_WR)
        except OSError:
            _reset(sink)
            self.over.set()


def _reset(sock: socket.socket) -> None:
    with contextlib.suppress(OSError):
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    sock.close()


# ------------------------------------------------------------------------------- the run


class Program:
    """A process of mixed.py."""

    def __init__(self, name: str, process: asyncio.subprocess.Process, errors: Any) -> None:
        self.name = name
        self.process = process
        self.errors = errors
        self.watch = Watch(process.pid)
        self.curve: list[float] = []
        self.reports: asyncio.Queue[Record] = asyncio.Queue()
        self.arrived = asyncio.Event()

    @classmethod
    async def start(cls, name: str, *arguments: object, pure: bool) -> Program:
        """Start it, and wait until it is ready."""
        errors = tempfile.TemporaryFile()  # noqa: SIM115 - as long as the process
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            *("-W", "always::ResourceWarning", str(HERE / "mixed.py"), name, *map(str, arguments)),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=errors,
            env=processes.environment({**MALLOC, **({"SIMPLEWS_PURE": "1"} if pure else {})}, HERE),
            limit=1 << 20,
        )
        assert process.stdout is not None
        async with asyncio.timeout(20):
            if await process.stdout.readline() != b"READY\n":
                raise processes.Failed(f"{name} did not start")
        return cls(name, process, errors)

    async def lines(self, enter: Callable[[Record], None]) -> None:
        """Give each book that comes on its stdout to *enter*, and keep the reports."""
        assert self.process.stdout is not None
        async for line in self.process.stdout:
            record = json.loads(line)
            if "report" in record:
                self.reports.put_nowait(record)
                self.arrived.set()
            else:
                enter(record)

    def tell(self) -> None:
        """Clients begin another round, a server reports."""
        assert self.process.stdin is not None
        self.process.stdin.write(b"!\n")

    async def report(self) -> Record:
        """A server's tasks and descriptors."""
        self.tell()
        async with asyncio.timeout(10):
            return await self.reports.get()

    async def settled(self) -> Record:
        """The report of a server whose connections have all ended, or that of eight seconds."""
        for _ in range(40):
            report = await self.report()
            if report["tasks"] <= 1:
                break
            await asyncio.sleep(0.2)
        return report

    def sample(self) -> None:
        """One more point of the memory curve, in MB."""
        with contextlib.suppress(OSError, ValueError):
            self.curve.append(self.watch.pss() / 1e6)

    async def end(self) -> str:
        """End it: politely, and after five seconds not; what it wrote to stderr."""
        assert self.process.stdin is not None
        self.process.stdin.close()
        try:
            async with asyncio.timeout(5):
                await self.process.wait()
        except TimeoutError:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.process.pid, signal.SIGKILL)
            await self.process.wait()
        with self.errors:
            self.errors.seek(0)
            text: str = self.errors.read().decode(errors="replace")
        return text


class Books:
    """Pairs the books of both ends as they come."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        self.kinds: Counter[str] = Counter()
        self.codes: Counter[str] = Counter()
        self.suspects: list[Any] = []
        self._waiting: dict[int, Record] = {}

    def enter(self, record: Record) -> None:
        """A line of either program."""
        other = self._waiting.pop(record["id"], None)
        if other is None:
            self._waiting[record["id"]] = record
            return
        client, server = (record, other) if record["end"] == "client" else (other, record)
        self._settle(client, server)

    def finish(self) -> None:
        """What is left has only one end."""
        for record in self._waiting.values():
            # A server's end without a client's would be a client that has not ended.
            assert record["end"] == "client", record
            self._settle(record, None)

    def _settle(self, client: Record, server: Record | None) -> None:
        counts = settle(client, server)
        self.counts += counts
        self.counts["connections"] += 1
        self.counts["hung"] += client["hung"] + (server is not None and server["hung"])
        self.kinds[client["kind"]] += 1
        self.codes[str(client["code"])] += 1
        if counts["lost"] or counts["wrong"] or client["hung"]:
            self.suspects.append([client, server])


async def run(
    minutes: float, workers: int, seed: int, *, rounds: int = 10, pure: bool = False
) -> Record:
    """Do it all; the document that report.py shows."""
    port = processes.free_port()
    seconds = minutes * 60
    relay = Relay(port, seed)
    through = await relay.listen()
    books = Books()
    programs: dict[str, Program] = {}
    readers = []
    first: dict[str, Record] = {}
    last: dict[str, Record] = {}
    rests: dict[str, list[float]] = {"server": [], "clients": []}
    blocks: dict[str, list[int]] = {"server": [], "clients": []}
    try:
        for name, *arguments in (
            ("server", port),
            ("clients", through, seconds, rounds, workers, seed),
        ):
            programs[name] = program = await Program.start(name, *arguments, pure=pure)
            readers.append(asyncio.ensure_future(program.lines(books.enter)))
        server, clients = programs["server"], programs["clients"]
        first["server"] = await server.report()
        for _ in range(rounds):
            clients.tell()
            end = time.monotonic() + seconds / rounds + 60
            while clients.reports.empty() and time.monotonic() < end:
                for program in programs.values():
                    program.sample()
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(min(1.0, seconds / 60)):
                        await clients.arrived.wait()
            if clients.reports.empty():
                break
            # Everything is over at both ends, and what is still there stays there.
            clients.arrived.clear()
            last = {"clients": clients.reports.get_nowait(), "server": await server.settled()}
            for name, program in programs.items():
                rests[name].append(program.watch.pss() / 1e6)
                blocks[name].append(last[name]["blocks"])
                first.setdefault(name, last[name])
    finally:
        await relay.close()
        text = "".join([await program.end() for program in reversed(programs.values())])
        if readers:
            await asyncio.wait(readers, timeout=10)
    books.finish()
    names = ("sent", "delivered", "accounted", "lost", "wrong", "connections", "hung")
    return {
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "minutes": minutes,
        "rounds": len(rests["clients"]),
        "workers": workers,
        "seed": seed,
        "pure": pure,
        "finished": len(rests["clients"]) == rounds,
        "counts": {name: books.counts[name] for name in names},
        "kinds": dict(books.kinds),
        "codes": dict(books.codes),
        "faults": dict(relay.faults),
        "files": sum(last[name]["files"] - first[name]["files"] for name in last),
        "tasks": sum(last[name]["tasks"] - first[name]["tasks"] for name in last),
        "stderr": text.count("\n"),
        "text": text[-2000:],
        "suspects": books.suspects[:5],
        "rests": {name: rounded(points) for name, points in rests.items()},
        "blocks": blocks,
        "curves": {name: rounded(program.curve) for name, program in programs.items()},
    }


def rounded(points: Sequence[float]) -> list[float]:
    """To 10 kB."""
    return [round(point, 2) for point in points]


def failures(document: Record) -> list[str]:
    """What should not be so."""
    counts = document["counts"]
    wrong = [f"{counts[name]} {name}" for name in ("lost", "wrong", "hung") if counts[name]]
    if counts["sent"] != counts["delivered"] + counts["accounted"] + counts["lost"]:
        wrong.append("the sum is not right")
    wrong += [f"{document[name]} {name} left" for name in ("files", "tasks") if document[name] > 0]
    if document["stderr"]:
        wrong.append(f"{document['stderr']} lines on stderr")
    if not document["finished"]:
        wrong.append("the clients did not come to an end")
    for name, points in document["rests"].items():
        # The first rounds still warm up what every process has once.
        grown = points[-1] - max(points[: len(points) // 5 + 1])
        if grown > 4:
            wrong.append(f"{name} has grown by {grown:.1f} MB")
    for name, numbers in document.get("blocks", {}).items():
        more = numbers[-1] - max(numbers[: len(numbers) // 5 + 1])
        if more > 2000:
            wrong.append(f"{name} has {more} more blocks of memory")
    return wrong


def main() -> int:
    """Run, write, say what came of it."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--minutes", type=float, default=1.0, help="default: %(default)s")
    parser.add_argument("--workers", type=int, default=24, help="default: %(default)s")
    parser.add_argument("--seed", type=int, default=1, help="default: %(default)s")
    parser.add_argument("--pure", action="store_true", help="without the compiled part")
    parser.add_argument("--json", type=Path, help="write the document to this file")
    options = parser.parse_args()
    document = asyncio.run(run(options.minutes, options.workers, options.seed, pure=options.pure))
    wrong = failures(document)
    text = document.pop("text")
    if options.json:
        options.json.write_text(json.dumps(document) + "\n")
    shown = ("counts", "kinds", "codes", "faults", "rests", "blocks", "files", "tasks", "stderr")
    print(json.dumps({name: document[name] for name in shown}, indent=1))
    if wrong:
        print("NOT AS IT SHOULD BE: " + "; ".join(wrong))
        print(text)
        print(json.dumps(document["suspects"])[:3000])
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
