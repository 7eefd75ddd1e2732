"""Lines that a person types in a terminal (not on Windows, whose console edits lines by itself)."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
import termios
import tty
from collections.abc import AsyncIterator, Iterator

from .editor import CLEAR_ROW, LineEditor
from .lines import READ_SIZE, write

__all__ = ["Typed"]


class Typed:
    """
    Lines that a person types in a terminal, with printing above the line.

    While it is open the terminal sends keys instead of lines; whatever ends
    that, the terminal is as before. An empty line is not a message: it is
    somebody making room on the screen.
    """

    def __init__(self, editor: LineEditor) -> None:
        self._editor = editor
        self._fd = sys.stdin.fileno()
        self._opened = False

    @contextlib.contextmanager
    def open(self) -> Iterator[None]:
        """Take the terminal over, and give it back."""
        loop = asyncio.get_running_loop()
        before = termios.tcgetattr(self._fd)
        # After a change of size, or when the shell has put us into the
        # foreground again and has set its own modes meanwhile.
        signals = (signal.SIGWINCH, signal.SIGCONT)
        try:
            self._opened = True
            self._show()
            for signum in signals:
                loop.add_signal_handler(signum, self._show)
            yield
        finally:
            self._opened = False
            for signum in signals:
                loop.remove_signal_handler(signum)
            termios.tcsetattr(self._fd, termios.TCSADRAIN, before)
            write(CLEAR_ROW)

    async def __aiter__(self) -> AsyncIterator[str]:
        while not self._editor.ended:
            await self._readable()
            data = os.read(self._fd, READ_SIZE)
            if not data:  # the terminal hung up
                return
            for line in self._editor.feed(data):
                if line:
                    yield line
            self._show()

    def print(self, text: str) -> None:
        """Print *text* above the line that is being typed."""
        write(f"{CLEAR_ROW}{text}\n{self._rendered()}" if self._opened else f"{text}\n")

    def _show(self) -> None:
        # TCSADRAIN: what was typed ahead stays.
        tty.setcbreak(self._fd, termios.TCSADRAIN)
        write(self._rendered())

    def _rendered(self) -> str:
        return self._editor.render(os.get_terminal_size(self._fd).columns)

    async def _readable(self) -> None:
        # Watched only while somebody waits for a line: as long as send() waits
        # for the peer, what is typed stays in the terminal's own buffer.
        loop, ready = asyncio.get_running_loop(), asyncio.Event()
        loop.add_reader(self._fd, ready.set)
        try:
            await ready.wait()
        finally:
            loop.remove_reader(self._fd)
