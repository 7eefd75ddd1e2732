"""A contender on its stage: started, opened to, watched from outside, and ended by its id."""

from __future__ import annotations

import contextlib
import json
import os
import queue
import signal
import socket
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from harness import processes

from soak.wire import Raw, Unexpected

HERE = Path(__file__).resolve().parent
TICKS = os.sysconf("SC_CLK_TCK")
PAGE = os.sysconf("SC_PAGE_SIZE")

# A contender that has grown by so many bytes is ended: the figure is "more than".
MOST = 1_300_000_000

Event = dict[str, Any]


class Watch:
    """Memory, processor time and descriptors of a process, as the kernel counts them."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self._folder = Path(f"/proc/{pid}")
        self.mark()

    def mark(self) -> None:
        """What is there now is the base of what follows."""
        (self._folder / "clear_refs").write_text("5")  # the peak is the present size again
        self._rss = self.rss()
        self._pss = self.pss()
        self._cpu = self.cpu_total()

    def rss(self) -> int:
        """Bytes that are resident."""
        return int((self._folder / "statm").read_text().split()[1]) * PAGE

    def pss(self) -> int:
        """The same, each page divided by those who share it."""
        return self._field("smaps_rollup", "Pss:")

    def _field(self, file: str, name: str) -> int:
        for line in (self._folder / file).read_text().splitlines():
            if line.startswith(name):
                return int(line.split()[1]) * 1024
        raise ValueError(f"no {name} in {file}")

    def peak(self) -> float:
        """MB by which the largest resident size exceeds that at the mark."""
        return max(0.0, (self._field("status", "VmHWM:") - self._rss) / 1e6)

    def growth(self) -> float:
        """MB by which it has grown since the mark, as it stands."""
        return (self.pss() - self._pss) / 1e6

    def cpu_total(self) -> float:
        """Seconds of processor time, in all."""
        fields = (self._folder / "stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / TICKS

    def cpu(self) -> float:
        """The same since the mark."""
        return self.cpu_total() - self._cpu

    def ran(self) -> float:
        """The same in all, of its main thread, to the nanosecond."""
        return int((self._folder / "schedstat").read_text().split()[0]) / 1e9

    def files(self) -> int:
        """Open descriptors."""
        return len(os.listdir(self._folder / "fd"))


class Contender(processes.Server):
    """A process of contender.py."""

    def __init__(
        self, name: str, port: int, options: dict[str, Any], *, pure: bool, strict: bool
    ) -> None:
        argv = [sys.executable]
        if strict:
            argv += ["-X", "dev", "-W", "error"]
        argv += [str(HERE / "contender.py"), name, "--port", str(port), json.dumps(options)]
        env = processes.environment({"SIMPLEWS_PURE": "1"} if pure else {}, HERE)
        super().__init__(argv, port, lambda: None, env)
        self.pid = self._process.pid
        self.events: list[Event] = []
        self._arrived: queue.SimpleQueue[Event] = queue.SimpleQueue()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        self.watch = Watch(self.pid)

    def _read(self) -> None:
        stdout = self._process.stdout
        assert stdout is not None
        for line in stdout:
            self._arrived.put(json.loads(line))

    def tell(self, line: str) -> None:
        """Give it a command."""
        stdin = self._process.stdin
        assert stdin is not None
        stdin.write(line.encode() + b"\n")
        stdin.flush()

    def event(self, kind: str, timeout: float, **facts: Any) -> Event | None:
        """The next event of that kind, with those facts, or None when there is none in time."""
        end = time.monotonic() + timeout
        while True:
            for i, event in enumerate(self.events):
                if event["event"] == kind and facts.items() <= event.items():
                    return self.events.pop(i)
            try:
                self.events.append(self._arrived.get(timeout=max(end - time.monotonic(), 0)))
            except queue.Empty:
                return None

    def report(self) -> Event:
        """Its tasks and descriptors."""
        self.tell("report")
        event = self.event("report", 10)
        if event is None:
            raise Unexpected("it does not answer any more")
        return event

    def kill(self) -> None:
        """End it at once."""
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGKILL)

    def stop(self) -> None:
        super().stop()
        if hasattr(self, "_reader"):
            self._reader.join(5)


class Stage:
    """
    One contender, in either role, and the raw peers of its connections.

    Args:
        name: As in adapters.py; one that ends in "-client" connects to us.
        pure: Without simplews' compiled part.
    """

    def __init__(self, name: str, *, pure: bool = False) -> None:
        self.name = name
        self.pure = pure
        self.client = name.endswith("-client")
        self._listener: socket.socket | None = None
        self.contender: Contender | None = None
        self.raws: list[Raw] = []
        self.exceeded = False

    @contextlib.contextmanager
    def play(self, *, strict: bool = False, **options: Any) -> Iterator[Stage]:
        """
        Start it with *options*, let it echo once on a connection of its own, and end it.

        What a first connection needs is not counted as what a scenario costs.
        """
        watcher = threading.Event()
        try:
            if self.client:
                self._listener = socket.create_server(("127.0.0.1", 0), backlog=1024)
                self.contender = self._start(
                    self._listener.getsockname()[1], options, strict=strict
                )
            else:
                server = processes.listening(lambda port: self._start(port, options, strict=strict))
                assert isinstance(server, Contender)
                self.contender = server
            threading.Thread(target=self._guard, args=(watcher,), daemon=True).start()
            with self.open("/echo") as raw:
                for text in (b"one", b"two"):
                    raw.send(1, text)
                    if raw.message() != text:
                        raise Unexpected("its echo differs")
                raw.send(8, b"\x03\xe8")
                raw.finish(2)
            self.contender.event("ended", 2)
            self.contender.watch.mark()
            yield self
        finally:
            watcher.set()
            for raw in self.raws:
                raw.sock.close()
            if self.contender is not None:
                self.contender.stop()
            if self._listener is not None:
                self._listener.close()

    def _start(self, port: int, options: dict[str, Any], *, strict: bool) -> Contender:
        return Contender(self.name, port, options, pure=self.pure, strict=strict)

    def _guard(self, ended: threading.Event) -> None:
        contender = self.contender
        assert contender is not None
        base = contender.watch.rss()
        while not ended.wait(0.05):
            try:
                if contender.watch.rss() > base + MOST:
                    self.exceeded = True
                    contender.kill()
                    return
            except (OSError, IndexError):
                return

    @property
    def running(self) -> Contender:
        """The contender's process."""
        assert self.contender is not None
        return self.contender

    @property
    def watch(self) -> Watch:
        """What the kernel says of it."""
        return self.running.watch

    @property
    def listener(self) -> socket.socket:
        """Where a client connects to."""
        assert self._listener is not None
        return self._listener

    @property
    def port(self) -> int:
        """Where a connection of either role leads to."""
        port: int = self.listener.getsockname()[1] if self.client else self.running.port
        return port

    def open(
        self, path: str, *, deflate: bool = False, room: int = 0, port: int | None = None
    ) -> Raw:
        """
        A connection on which the contender's application does what *path* says.

        Args:
            room: Bytes of our receive buffer.
            port: Where to connect to instead: a relay's.
        """
        if self.client:
            self.running.tell(f"open {path} {port or self.port}")
            raw = Raw.accept(self.listener, deflate=deflate, room=room)
            if self.name == "simple-websocket-client":
                time.sleep(0.2)  # it loses what comes in the same segment as our 101
        else:
            raw = Raw.connect(port or self.port, path, deflate=deflate, room=room)
        self.raws.append(raw)
        return raw

    def settle(self, *, still: float = 0.3, limit: float = 10) -> None:
        """Wait until the contender has used no processor time for *still* seconds."""
        end = time.monotonic() + limit
        last, since = self.watch.cpu_total(), time.monotonic()
        while time.monotonic() < min(end, since + still):
            time.sleep(0.02)
            now = self.watch.cpu_total()
            if now > last:
                last, since = now, time.monotonic()
