"""``--reload``: run the same command in a child, and again whenever a source file changes.

A new process, because there is no other way to be rid of imported code. The
parent compares modification times twice a second; no notification service of
any system is needed for that, and a project has hundreds of files, not millions.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NoReturn

__all__ = ["run_reloading", "snapshot"]

POLL_INTERVAL = 0.5  # seconds
FILE_LIMIT = 10_000  # files watched; more means that this is not a project's folder
STOP_TIMEOUT = 15  # seconds for the child's closing handshakes, then it is killed

_SKIPPED = {"__pycache__", "node_modules", "site-packages"}


def run_reloading() -> int:
    """Run this command without ``--reload`` until Ctrl-C or SIGTERM; returns 0 after SIGTERM."""
    command = [sys.executable, "-m", "simplews", *(a for a in sys.argv[1:] if a != "--reload")]
    signal.signal(signal.SIGTERM, _exit)
    child: subprocess.Popen[bytes] | None = None
    try:
        while True:
            seen = snapshot(Path())
            child = subprocess.Popen(command)
            _wait_for_change(child, seen)
            _say("a file changed: starting again")
            _stop(child)
    except KeyboardInterrupt:
        # Ctrl-C reached the child as well; a SIGTERM on top would cut short the
        # closing handshakes that it is in the middle of.
        if child is not None:
            with contextlib.suppress(subprocess.TimeoutExpired):
                child.wait(STOP_TIMEOUT)
        raise
    finally:
        if child is not None:
            _stop(child)


def snapshot(folder: Path) -> dict[str, int]:
    """The modification time, in nanoseconds, of every .py file below *folder*."""
    found: dict[str, int] = {}
    for path in _sources(folder):
        with contextlib.suppress(OSError):  # it went away meanwhile
            found[path] = os.stat(path).st_mtime_ns
        if len(found) == FILE_LIMIT:
            break
    return found


def _sources(folder: Path) -> Iterator[str]:
    for parent, folders, files in os.walk(folder):
        folders[:] = sorted(name for name in folders if name not in _SKIPPED and name[0] != ".")
        yield from (os.path.join(parent, name) for name in files if name.endswith(".py"))


def _wait_for_change(child: subprocess.Popen[bytes], seen: dict[str, int]) -> None:
    told = False
    while snapshot(Path()) == seen:
        try:
            child.wait(POLL_INTERVAL)
        except subprocess.TimeoutExpired:
            continue
        # It stopped by itself, most likely over a mistake that is about to be mended.
        if not told:
            _say("waiting for a file to change")
            told = True
        time.sleep(POLL_INTERVAL)


def _stop(child: subprocess.Popen[bytes]) -> None:
    if child.poll() is not None:
        return
    child.terminate()
    try:
        child.wait(STOP_TIMEOUT)
    except subprocess.TimeoutExpired:
        child.kill()
        child.wait()


def _exit(signum: int, frame: object) -> NoReturn:
    sys.exit(0)


def _say(text: str) -> None:
    print(f"simplews serve: {text}", file=sys.stderr, flush=True)
