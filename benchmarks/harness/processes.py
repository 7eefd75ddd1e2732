"""Starting, placing, watching and ending the processes of a run."""

from __future__ import annotations

import contextlib
import os
import resource
import select
import signal
import socket
import subprocess
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

FILES = 11_000  # descriptors that the largest case needs on either side

# What would make Python check more, or find less, than it does for a user.
UNWANTED = ("PYTHONDEVMODE", "PYTHONASYNCIODEBUG", "PYTHONSAFEPATH", "PYTHONWARNINGS")


class Failed(RuntimeError):
    """A peer did not do what the case asks for: it gets no figure."""


@dataclass(frozen=True)
class Placement:
    """
    Which core each side runs on, and how it shares it.

    Attributes:
        policy: With ``batch``, a process that is woken waits until the running
            one blocks, so that neither side ever interrupts the other in the
            middle of a batch. With ``realtime`` both go before whatever else
            the machine does, which takes the right to.
    """

    server: int | None
    load: int | None
    policy: Literal["", "batch", "realtime"] = ""

    def at_server(self) -> Callable[[], None]:
        """What the child calls before it becomes the peer."""
        return lambda: _place(self.server, self.policy)

    def at_load(self) -> Callable[[], None]:
        """What the child calls before it becomes the generator."""
        return lambda: _place(self.load, self.policy)


def may_be_realtime() -> bool:
    """Whether our children may have real-time priority."""
    try:
        before = os.sched_getscheduler(0), os.sched_getparam(0)
        os.sched_setscheduler(0, os.SCHED_RR, os.sched_param(1))
        os.sched_setscheduler(0, *before)
    except OSError:
        return False
    return True


def _place(core: int | None, policy: str) -> None:
    if core is not None:
        os.sched_setaffinity(0, {core})
    if policy == "batch":
        os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))
    elif policy == "realtime":
        os.sched_setscheduler(0, os.SCHED_RR, os.sched_param(1))
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    more = max(hard, FILES)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (more, more))
    except (ValueError, OSError):  # only root may raise the hard limit
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def most_files() -> int:
    """How many descriptors a child may have."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    return max(hard, FILES) if os.geteuid() == 0 else hard


def environment(more: Mapping[str, str], path: Path) -> dict[str, str]:
    """
    The environment of an adapter.

    Of ours, whatever changes how Python or simplews works is left out, so that
    a peer is what its name says.
    """
    env = {
        name: value
        for name, value in os.environ.items()
        if name not in UNWANTED and not name.startswith("SIMPLEWS_")
    }
    env["PYTHONPATH"] = os.pathsep.join(filter(None, [str(path), env.get("PYTHONPATH")]))
    env["PYTHONDONTWRITEBYTECODE"] = "1"
    return {**env, **more}


def free_port() -> int:
    """A port that nothing listens on now."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port: int = sock.getsockname()[1]
        return port


def tree(pid: int) -> list[int]:
    """A process and all that descend from it."""
    pids, todo = [], [pid]
    while todo:
        pids.append(todo.pop())
        try:
            children = Path(f"/proc/{pids[-1]}/task/{pids[-1]}/children").read_text()
        except OSError:
            continue
        todo += map(int, children.split())
    return pids


def rss_kib(pids: Sequence[int]) -> int:
    """Resident memory of these processes, in KiB."""
    return sum(
        int(line.split()[1])
        for pid in pids
        for line in Path(f"/proc/{pid}/status").read_text().splitlines()
        if line.startswith("VmRSS:")
    )


def listening(start: Callable[[int], Server]) -> Server:
    """
    A server on a free port, which ``start(port)`` makes.

    Between looking for a port and listening on it somebody else may take it;
    then it is another one's turn.

    Raises:
        Failed: It did not start.
    """
    for _ in range(4):
        try:
            return start(free_port())
        except Failed as exc:
            if "address already in use" not in str(exc).lower():
                raise
    return start(free_port())


class Server:
    """A program that listens on *port*, prints READY, and ends when its stdin closes."""

    def __init__(
        self,
        argv: Sequence[str],
        port: int,
        place: Callable[[], None],
        env: Mapping[str, str] | None = None,
    ) -> None:
        self.port = port
        self._stderr = tempfile.TemporaryFile()  # noqa: SIM115 - as long as the process
        self._process = subprocess.Popen(
            argv,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._stderr,
            preexec_fn=place,
            env=env,
        )
        stdout = self._process.stdout
        assert stdout is not None
        readable, _, _ = select.select([stdout], [], [], 20)
        if not (readable and stdout.readline().startswith(b"READY")):
            errors = self.errors()
            self.stop()
            raise Failed("did not start\n" + errors)
        self.pids = self.tree()

    def tree(self) -> list[int]:
        """Its processes, as they are now."""
        return tree(self._process.pid)

    def errors(self) -> str:
        """The end of what it wrote to stderr."""
        self._stderr.seek(0)
        return self._stderr.read().decode(errors="replace")[-6000:]

    def alive(self) -> bool:
        """Whether it still runs."""
        return self._process.poll() is None

    def stop(self) -> None:
        """End it: politely, and after three seconds not."""
        process = self._process
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.close()
        try:
            process.wait(3)
        except subprocess.TimeoutExpired:
            for pid in reversed(self.tree()):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            process.wait()
        process.stdout.close()
        self._stderr.close()
