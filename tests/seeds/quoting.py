"""Run code examples that are quoted in the folders beside this file, letter by letter.

Only lost indentation has been restored in them. What differs when they run is
done here, by replacing text, and nowhere else:

- The names of the modules that they import become ``simplews``.
- ``localhost:8000`` (or ``('localhost', 8000)``) becomes the address of the test's server.
- ``asyncio.run(...)`` becomes ``await ...`` where an example shares the test's loop.
- Whatever else a test passes as *changes*, and tells why.

Names that an example takes for granted, because its document shows their import
elsewhere, are handed to it.
"""

from __future__ import annotations

import ast
import contextlib
import inspect
import os
import re
import sys
from asyncio import create_subprocess_exec, subprocess, timeout
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from types import CodeType, ModuleType
from typing import Any

import simplews

__all__ = ["DEADLINE", "FOLDER", "Script", "await_", "load", "quoted", "run", "source"]

FOLDER = Path(__file__).parent

#: Seconds for whatever is waited for.
DEADLINE = 20

_MODULES = (
    r"simple_websocket|genro_asgi\.websocket|lilya\.websockets|starlette\.websockets|esmerald"
)


def quoted(name: str) -> str:
    """The text of an example, as it is quoted."""
    return (FOLDER / name).read_text(encoding="utf-8")


def source(name: str, port: int | None = None, changes: Mapping[str, str] | None = None) -> str:
    """
    The text of an example, as it runs.

    Args:
        name: Its file.
        port: Of the server that it talks to, or that it is.
        changes: What else is replaced; it must be there.
    """
    text = re.sub(rf"(?<![\w.])(?:{_MODULES})(?!\w)", "simplews", quoted(name))
    if port is not None:
        text = text.replace("localhost:8000", f"127.0.0.1:{port}")
        text = text.replace("('localhost', 8000)", f"('127.0.0.1', {port})")
    for old, new in (changes or {}).items():
        assert old in text, f"{name} has no {old!r}"
        text = text.replace(old, new)
    return text


def _compile(text: str, name: str) -> CodeType:
    code: CodeType = compile(
        text, str(FOLDER / name), "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT, dont_inherit=True
    )
    return code


def _module(name: str, given: Mapping[str, Any]) -> ModuleType:
    module = ModuleType(Path(name).stem)
    module.__dict__.update(given)
    return module


def load(name: str, **given: Any) -> Any:
    """Import an example; *given* are the names that it takes for granted."""
    module = _module(name, given)
    exec(_compile(source(name), name), module.__dict__)
    return module


async def await_(text: str, name: str, **given: Any) -> Any:
    """Run *text* of the example *name*, whose ``await`` may stand outside functions."""
    module = _module(name, given)
    result = eval(_compile(text, name), module.__dict__)
    if inspect.isawaitable(result):
        await result
    return module


class Script:
    """An example that runs in a process of its own."""

    def __init__(self, process: subprocess.Process) -> None:
        self._process = process

    async def line(self, text: str = "") -> str:
        """Wait for a line of the output with *text* in it."""
        assert self._process.stdout is not None
        seen = ""
        async with timeout(DEADLINE):
            while line := (await self._process.stdout.readline()).decode():
                if text in line:
                    return line.rstrip("\n")
                seen += line
        raise AssertionError(f"no line with {text!r} in the output:\n{seen}")

    async def end(self, status: int = 0) -> str:
        """Wait for its end; return the rest of its output."""
        async with timeout(DEADLINE):
            output = (await self._process.communicate())[0].decode()
        assert self._process.returncode == status, output
        # asyncio measures in its debug mode, and a machine may be busy.
        lines = output.splitlines(keepends=True)
        return "".join(line for line in lines if not line.startswith("Executing <"))

    async def interrupt(self) -> None:
        """End it from outside, as its users do."""
        self._process.terminate()
        await self._process.communicate()


@contextlib.asynccontextmanager
async def run(*command: str | Path) -> AsyncIterator[Script]:
    """Run Python with *command*; warnings are errors."""
    root = str(Path(simplews.__file__).parents[1])
    path = os.pathsep.join([root, *filter(None, [os.environ.get("PYTHONPATH")])])
    process = await create_subprocess_exec(
        *(sys.executable, "-u", "-W", "error"),
        *map(str, command),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env={**os.environ, "PYTHONPATH": path, "PYTHONSAFEPATH": ""},
    )
    try:
        yield Script(process)
    finally:
        if process.returncode is None:
            process.kill()
            await process.communicate()
