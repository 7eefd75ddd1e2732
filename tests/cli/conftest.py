"""The real program, in a process of its own, with a pipe or a terminal around it."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import signal
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

import simplews

DEADLINE = 30  # seconds for anything that is waited for; a generous bound, not a measure
# Warnings are shown, and so seen by whoever looks at standard error. Not -X dev:
# it has asyncio tell which callbacks were slow, and that is up to the machine.
COMMAND = [sys.executable, "-W", "default", "-m", "simplews"]


def environment(**changes: str) -> dict[str, str]:
    """Our environment, in which a child finds the same simplews from any folder."""
    paths = [str(Path(simplews.__file__).parents[1]), os.environ.get("PYTHONPATH", "")]
    path = os.pathsep.join(filter(None, paths))
    own = {"PYTHONPATH": path, "PYTHONDEVMODE": "", "NO_COLOR": "1"}
    return {**os.environ, **own, **changes}


class Program:
    """A running ``simplews``, its standard streams being pipes."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process
        self.lines: list[str] = []

    async def line(self, pattern: str) -> re.Match[str]:
        """Wait for a line of standard output in which *pattern* is found."""
        assert self.process.stdout is not None
        async with asyncio.timeout(DEADLINE):
            while line := await self.process.stdout.readline():
                self.lines.append(line.decode())
                if found := re.search(pattern, self.lines[-1]):
                    return found
        raise AssertionError(f"no line like {pattern!r} in {self.lines}: {await self.finish()}")

    async def error_line(self, pattern: str) -> re.Match[str]:
        """Wait for a line of standard error in which *pattern* is found."""
        assert self.process.stderr is not None
        async with asyncio.timeout(DEADLINE):
            while line := await self.process.stderr.readline():
                if found := re.search(pattern, line.decode()):
                    return found
        raise AssertionError(f"no line like {pattern!r} on standard error")

    async def write(self, data: bytes) -> None:
        """Write to standard input, and leave it open."""
        assert self.process.stdin is not None
        self.process.stdin.write(data)
        async with asyncio.timeout(DEADLINE):
            await self.process.stdin.drain()

    async def finish(self, stdin: bytes = b"") -> tuple[int, str, str]:
        """Close standard input and wait for the end: exit status, output, errors."""
        async with asyncio.timeout(DEADLINE):
            out, err = await self.process.communicate(stdin if self.process.stdin else None)
        assert self.process.returncode is not None
        return self.process.returncode, out.decode(), err.decode()

    async def stop(self, signum: int = signal.SIGINT) -> int:
        """Send a signal and wait for the end: exit status."""
        self.process.send_signal(signum)
        async with asyncio.timeout(DEADLINE):
            return await self.process.wait()


Start = Callable[..., Awaitable[Program]]


@pytest.fixture
async def start(tmp_path: Path) -> AsyncIterator[Start]:
    """``await start("demo", "--port", "0")``: start the program in an empty folder."""
    async with contextlib.AsyncExitStack() as stack:

        async def start_program(*arguments: str, **env: str) -> Program:
            process = await asyncio.create_subprocess_exec(
                *COMMAND,
                *arguments,
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.PIPE,
                cwd=tmp_path,
                env=environment(**env),
            )
            stack.push_async_callback(end, process)
            return Program(process)

        yield start_program


async def end(process: asyncio.subprocess.Process) -> None:
    """Leave no process behind, whatever a test did."""
    if process.returncode is None:
        process.terminate()  # which ends the child of --reload as well
    try:
        # The pipes are read to their end, or their transports outlive the loop.
        async with asyncio.timeout(DEADLINE):
            await process.communicate()
    except TimeoutError:
        process.kill()
        raise


class Terminal:
    """A running ``simplews`` in a terminal of its own."""

    def __init__(self, process: asyncio.subprocess.Process, master: int, termios: Any) -> None:
        self.process = process
        self._master = master
        self._termios = termios  # the module, which is not everywhere
        self._shown = ""
        self._grown = asyncio.Event()
        asyncio.get_running_loop().add_reader(master, self._read)

    def _read(self) -> None:
        try:
            data = os.read(self._master, 65536)
        except OSError:  # EIO: the program is gone
            data = b""
        if not data:
            asyncio.get_running_loop().remove_reader(self._master)
        self._shown += data.decode()
        self._grown.set()

    def press(self, keys: str) -> None:
        """Press keys."""
        os.write(self._master, keys.encode())

    async def until(self, text: str) -> str:
        """Wait until the terminal was sent *text*: everything up to it, which is taken off."""
        try:
            async with asyncio.timeout(DEADLINE):
                while text not in self._shown:
                    self._grown.clear()
                    await self._grown.wait()
        except TimeoutError:
            raise AssertionError(f"{text!r} not in {self._shown!r}") from None
        before, found, self._shown = self._shown.partition(text)
        return before + found

    async def status(self) -> int:
        """Wait for the program's end: exit status."""
        async with asyncio.timeout(DEADLINE):
            return await self.process.wait()

    def modes(self) -> list[Any]:
        """The terminal's modes."""
        modes: list[Any] = self._termios.tcgetattr(self._master)
        return modes

    def set_modes(self, modes: list[Any]) -> None:
        """Give the terminal other modes, as a shell does."""
        self._termios.tcsetattr(self._master, self._termios.TCSANOW, modes)

    def close(self) -> None:
        """Close the window."""
        if self._master >= 0:
            asyncio.get_running_loop().remove_reader(self._master)
            os.close(self._master)
            self._master = -1

    def resize(self, columns: int) -> None:
        """Change the window's width."""
        self._termios.tcsetwinsize(self._master, (24, columns))


StartTerminal = Callable[..., Awaitable[Terminal]]


@pytest.fixture
async def start_terminal(tmp_path: Path) -> AsyncIterator[StartTerminal]:
    """``await start_terminal("connect", url)``: start the program in a terminal, 80 x 24."""
    termios = pytest.importorskip("termios", reason="no pseudo-terminals here")
    async with contextlib.AsyncExitStack() as stack:

        async def start_program(*arguments: str, **env: str) -> Terminal:
            master, slave = os.openpty()
            termios.tcsetwinsize(slave, (24, 80))
            # login_tty: its controlling terminal, so that Ctrl-C is a signal.
            process = await asyncio.create_subprocess_exec(
                *COMMAND,
                *arguments,
                preexec_fn=lambda: os.login_tty(slave),
                cwd=tmp_path,
                env=environment(TERM="xterm", **env),
            )
            os.close(slave)
            terminal = Terminal(process, master, termios)
            stack.callback(terminal.close)
            stack.push_async_callback(end, process)
            return terminal

        yield start_program
