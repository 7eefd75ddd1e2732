"""``simplews`` itself."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

import simplews
from simplews.cli import main

from .conftest import DEADLINE, Start, environment


@pytest.mark.parametrize("arguments", [(), ("--help",)])
async def test_help_lists_the_commands(start: Start, arguments: tuple[str, ...]) -> None:
    status, out, err = await (await start(*arguments)).finish()
    assert (status, err) == (0, "")
    for command in ("connect", "serve", "demo"):
        assert command in out


async def test_version(start: Start) -> None:
    assert await (await start("--version")).finish() == (
        0,
        f"simplews {simplews.__version__}\n",
        "",
    )


@pytest.mark.parametrize("command", ["connect", "serve", "demo"])
def test_help_of_a_command_tells_the_exit_status(
    command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as done:
        main([command, "--help"])
    assert done.value.code == 0
    assert "130" in capsys.readouterr().out


def test_unknown_command_is_a_usage_error(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as done:
        main(["fly"])
    assert done.value.code == 2
    assert "fly" in capsys.readouterr().err


LATE = """
import sys
from simplews import cli
cli.COMMANDS["serve"].run = lambda args: sys.stdout.write("late") and 0
sys.exit(cli.main(["serve", "x:y"]))
"""


def test_a_reader_that_has_gone_changes_no_status() -> None:
    """Python ends with 120 if it cannot say the last of what it had to say."""
    reader, writer = os.pipe()
    os.close(reader)
    env = environment(PYTHONUNBUFFERED="")
    with subprocess.Popen([sys.executable, "-c", LATE], stdout=writer, env=env) as process:
        os.close(writer)
        assert process.wait(DEADLINE) == 0
