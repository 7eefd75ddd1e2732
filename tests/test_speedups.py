"""The compiled part: what is said about it is true, and it is there whole or not at all."""

from __future__ import annotations

import importlib.machinery
import importlib.util
import os
import runpy
import subprocess
import sys
from pathlib import Path

import pytest

import simplews
from simplews import speedups

PACKAGE = Path(simplews.__file__).parent
CHECKOUT = Path(__file__).parents[1]
SUFFIXES = tuple(importlib.machinery.EXTENSION_SUFFIXES)

needs_checkout = pytest.mark.skipif(
    not (CHECKOUT / "setup.py").is_file(), reason="the tests are without their checkout"
)

PURE = os.environ.get("SIMPLEWS_PURE", "") not in ("", "0")

ECHO = """
import asyncio, simplews, simplews.speedups

async def echo(ws):
    async for message in ws:
        await ws.send(message)

async def main():
    async with simplews.serve(echo, "localhost", 0) as server:
        port = server.sockets[0].getsockname()[1]
        async with simplews.AioClient.connect(f"ws://localhost:{port}") as ws:
            for message in ("hällo", b"x" * 70_000):
                await ws.send(message)
                assert await ws.receive() == message

asyncio.run(main())
print(*simplews.__speedups__)
"""


def run(program: str, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run *program* with the simplews that these tests have."""
    path = os.pathsep.join(filter(None, [str(PACKAGE.parent), os.environ.get("PYTHONPATH", "")]))
    return subprocess.run(
        [sys.executable, "-c", program, *arguments],
        env={**os.environ, "PYTHONPATH": path, **environment},
        capture_output=True,
        text=True,
        timeout=50,
    )


def source_of(module: str) -> Path:
    return PACKAGE.parent / (module.replace(".", "/") + ".py")


def compiled_files(module: str) -> list[Path]:
    """What lies beside the source of *module*, compiled for this Python."""
    source = source_of(module)
    return [path for end in SUFFIXES if (path := source.with_suffix(end)).exists()]


def test_what_is_said_to_be_compiled_is() -> None:
    """``__speedups__`` names the modules that were not imported from their source."""
    for name in speedups.MODULES:
        file = sys.modules[name].__file__ or ""
        assert file.endswith(SUFFIXES) == (name in simplews.__speedups__), file
        assert file.endswith(SUFFIXES) or file == str(source_of(name))


def test_all_modules_are_compiled_or_none() -> None:
    """They know each other's layout."""
    assert simplews.__speedups__ in (speedups.MODULES, ())


def test_what_is_installed_compiled_is_loaded() -> None:
    """A broken module must not make everything silently slow."""
    there = [name for name in speedups.MODULES if compiled_files(name)]
    assert list(simplews.__speedups__) == ([] if PURE else there)


def test_every_compiled_module_has_its_source() -> None:
    """For tracebacks, for ``SIMPLEWS_PURE=1``, and for who wants to read it."""
    for name in speedups.MODULES:
        assert source_of(name).is_file()


@pytest.mark.parametrize("pure", ["", "0", "1"])
def test_pure_is_what_the_environment_says(pure: str) -> None:
    """Either way a text and a long binary message travel to and fro."""
    ran = run(ECHO, SIMPLEWS_PURE=pure)
    assert ran.returncode == 0, ran.stderr
    there = [name for name in speedups.MODULES if compiled_files(name)]
    assert ran.stdout.split() == ([] if pure == "1" else there)


@needs_checkout
def test_wrong_wish_is_refused() -> None:
    """``SIMPLEWS_SPEEDUPS=yes`` must not be taken for either."""
    pytest.importorskip("setuptools", minversion="77")
    program = "import runpy, sys; runpy.run_path(sys.argv[1])"
    setup = CHECKOUT / "setup.py"
    ran = run(program, str(setup), SIMPLEWS_SPEEDUPS="yes")
    assert ran.returncode == 1
    assert ran.stderr.strip() == "SIMPLEWS_SPEEDUPS is 'yes'; it may be 0, 1 or unset"


@needs_checkout
def test_setup_compiles_what_speedups_names(monkeypatch: pytest.MonkeyPatch) -> None:
    """The two lists are one."""
    setuptools = pytest.importorskip("setuptools", minversion="77")
    monkeypatch.setattr(setuptools, "setup", lambda **options: None)
    setup = runpy.run_path(str(CHECKOUT / "setup.py"))
    assert tuple(setup["MODULES"]) == speedups.MODULES
    for path in setup["MODULES"].values():
        assert (CHECKOUT / path).is_file()
        assert (CHECKOUT / path).with_suffix(".pxd").is_file()


@pytest.mark.skipif(
    PACKAGE.parent != CHECKOUT, reason="simplews is installed, and not in the checkout"
)
def test_compiled_modules_are_not_older_than_their_sources() -> None:
    """They would be what is tested, and not what was just written."""
    for name in speedups.MODULES:
        source = source_of(name)
        twin = source.with_suffix(".pyx")
        sources = [twin if twin.exists() else source, source.with_suffix(".pxd")]
        changed = max(path.stat().st_mtime for path in sources)
        for path in compiled_files(name):
            built = path.stat().st_mtime
            assert built >= changed, (
                f"{path} is older than its source; build it anew, "
                "`SIMPLEWS_SPEEDUPS=1 python setup.py build_ext --inplace`, "
                "or delete it and the others, `rm simplews/*/*.so`"
            )


@pytest.mark.skipif(PACKAGE.parent == CHECKOUT, reason="this is the checkout itself")
def test_wheel_has_what_runs_and_nothing_else() -> None:
    """What it was compiled from is in the sdist."""
    made_of = {".c", ".h", ".html", ".pxd", ".pyx"}
    found = [path for path in PACKAGE.rglob("*") if path.suffix in made_of]
    assert found == [PACKAGE / "cli" / "page.html"]
    assert (PACKAGE / "py.typed").is_file()
