"""
The long run: mixed load with faults, and every message accounted for.

    python benchmarks/soak/long.py --minutes 10

A server and its clients, both of simplews, are processes of their own (mixed.py). Between
them a relay resets, cuts, stalls, splits and goes dark. In the end the books of both ends
are compared: a message that was sent has been delivered, or its sender had an exception.
The memory of both is sampled every second. Linux only.
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
import statistics
import struct
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # also with PYTHONSAFEPATH

from harness import processes

from soak.stage import HERE, Watch

Record = dict[str, Any]

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
            env=processes.environment({"SIMPLEWS_PURE": "1"} if pure else {}, HERE),
            limit=1 << 20,
        )
        assert process.stdout is not None
        async with asyncio.timeout(20):
            if await process.stdout.readline() != b"READY\n":
                raise processes.Failed(f"{name} did not start")
        return cls(name, process, errors)

    async def lines(self, enter: Any) -> None:
        """Give each line of its stdout to *enter*, to the end."""
        assert self.process.stdout is not None
        async for line in self.process.stdout:
            enter(json.loads(line))

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


def level(curve: Sequence[float]) -> dict[str, float]:
    """Memory in the second tenth of the time and in the last, as medians; in MB."""
    tenth = max(1, len(curve) // 10)
    return {
        "first_mb": statistics.median(curve[tenth : 2 * tenth] or curve),
        "last_mb": statistics.median(curve[-tenth:]),
        "most_mb": max(curve),
    }


async def run(minutes: float, workers: int, seed: int, *, pure: bool = False) -> Record:
    """Do it all; the document that report.py shows."""
    port = processes.free_port()
    server = await Program.start("server", port, pure=pure)
    relay = Relay(port, seed)
    books = Books()
    reports: asyncio.Queue[Record] = asyncio.Queue()

    def enter(record: Record) -> None:
        if "report" in record:
            reports.put_nowait(record)
        else:
            books.enter(record)

    through = await relay.listen()
    seconds = minutes * 60
    programs = [server]
    readers = [asyncio.ensure_future(server.lines(enter))]
    try:
        server_files = server.watch.files()
        clients = await Program.start("clients", through, seconds, workers, seed, pure=pure)
        programs.append(clients)
        readers.append(asyncio.ensure_future(clients.lines(enter)))
        begin = time.monotonic()
        while clients.process.returncode is None and time.monotonic() < begin + seconds + 45:
            for program in programs:
                program.sample()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(min(1.0, seconds / 60)):
                    await clients.process.wait()
        finished = not reports.empty()
        report = reports.get_nowait() if finished else {"tasks": 0, "files": 0}
        await relay.close()
        left = await _settled(server, reports)
    finally:
        text = "".join([await program.end() for program in reversed(programs)])
        await asyncio.wait(readers, timeout=10)
        with contextlib.suppress(Exception):
            await relay.close()
    books.finish()
    return {
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "minutes": minutes,
        "workers": workers,
        "seed": seed,
        "pure": pure,
        "finished": finished,
        "counts": {
            name: books.counts[name]
            for name in ("sent", "delivered", "accounted", "lost", "wrong", "connections", "hung")
        },
        "kinds": dict(books.kinds),
        "codes": dict(books.codes),
        "faults": dict(relay.faults),
        "memory": {program.name: level(program.curve) for program in programs},
        "files": left["files"] - server_files + report["files"],
        "tasks": left["tasks"] - 1 + report["tasks"],
        "stderr": text.count("\n"),
        "text": text[-2000:],
        "suspects": books.suspects[:5],
        "curves": {
            program.name: [round(point, 2) for point in program.curve] for program in programs
        },
    }


async def _settled(server: Program, reports: asyncio.Queue[Record]) -> Record:
    """The server's report when its last handlers have ended, or after eight seconds."""
    stdin = server.process.stdin
    assert stdin is not None
    async with asyncio.timeout(15):
        for _ in range(40):
            stdin.write(b"report\n")
            report = await reports.get()
            if report["tasks"] <= 1:
                break
            await asyncio.sleep(0.2)
    return report


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
    for name, figures in document["memory"].items():
        grown = figures["last_mb"] - figures["first_mb"]
        # The first minute still warms up what every process has once.
        if document["minutes"] >= 3 and grown > max(4, 0.1 * figures["first_mb"]):
            wrong.append(f"{name} has grown by {grown:.1f} MB")
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
    if options.json:
        options.json.write_text(json.dumps(document) + "\n")
    wrong = failures(document)
    shown = ("counts", "kinds", "codes", "faults", "memory", "files", "tasks", "stderr")
    print(json.dumps({name: document[name] for name in shown}, indent=1))
    if wrong:
        print("NOT AS IT SHOULD BE: " + "; ".join(wrong))
        print(document["text"])
        print(json.dumps(document["suspects"])[:3000])
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
