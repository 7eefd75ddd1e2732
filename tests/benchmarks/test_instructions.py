"""What `benchmarks/instructions.py` has a server do; valgrind counts the same."""

from __future__ import annotations

import importlib
import subprocess
import sys
from typing import Any

import pytest

from .conftest import BENCHMARKS

instructions: Any = importlib.import_module("instructions")
processes: Any = importlib.import_module("harness.processes")
peers: Any = importlib.import_module("harness.peers")


@pytest.mark.parametrize("name", ["simplews-serve", "websockets"])
def test_a_server_can_do_every_case(name: str) -> None:
    """As often as a case has at a time; nothing is lost and nothing is left."""
    peer = peers.load()[name, "server"]
    env = processes.environment(peer.env, peers.FOLDER)

    def start(port: int) -> Any:
        argv = [sys.executable, str(peer.script), "--loop", "asyncio", *peer.args]
        return processes.Server([*argv, "--port", str(port)], port, lambda: None, env)

    server = processes.listening(start)
    try:
        for case, number in (("S1", 2), ("S2", 128), ("S3a", 16), ("S5", 200), ("S6", 2)):
            instructions.CASES[case].run(server.port, number)
        assert server.alive()
    finally:
        server.stop()


@pytest.mark.parametrize(
    ("args", "says"), [(["--case", "S9"], "no case is called S9"), (["--peer", "x"], "called x")]
)
def test_a_wrong_name_is_told(args: list[str], says: str) -> None:
    done = subprocess.run(
        [sys.executable, BENCHMARKS / "instructions.py", *args], capture_output=True, text=True
    )
    assert done.returncode == 2 and says in done.stderr
