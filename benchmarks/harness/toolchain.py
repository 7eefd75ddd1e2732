"""The load generator and the echo server, compiled when they are out of date."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

HERE = Path(__file__).parent.parent
SOURCES = HERE / "load"
BUILD = HERE / "build"

WSLOAD = BUILD / "wsload"
WSLOAD_TLS = BUILD / "wsload-tls"
WSECHO = BUILD / "wsecho"


class NoCompiler(RuntimeError):
    """The programs in C cannot be compiled here; the message says what to do."""


def compiler() -> str:
    """
    The C compiler: ``$CC``, or ``cc``.

    Raises:
        NoCompiler: There is none.
    """
    name = os.environ.get("CC", "cc")
    if shutil.which(name) is None:
        raise NoCompiler(
            f"there is no C compiler called {name!r}: the load generator is written in C. "
            "Install one (Debian, Ubuntu: gcc and libc6-dev), or name it in CC."
        )
    return name


def _outdated(program: Path) -> bool:
    newest = max(source.stat().st_mtime for source in SOURCES.iterdir())
    return not program.exists() or program.stat().st_mtime < newest


def _compile(cc: str, program: Path, source: str, *flags: str) -> str:
    """Compile one program unless it is up to date; what the compiler said if it failed."""
    if not _outdated(program):
        return ""
    # Whoever else runs the program, or compiles it, never sees half of it.
    fresh = program.with_name(f"{program.name}.{os.getpid()}")
    argv = [cc, "-O2", "-o", str(fresh), str(SOURCES / source), *flags]
    done = subprocess.run(argv, capture_output=True, text=True)
    if done.returncode:
        return done.stderr or "it did not say why"
    fresh.replace(program)
    return ""


def build() -> bool:
    """
    Compile what is out of date.

    Returns:
        Whether there is a generator that speaks TLS, which takes the headers
        of OpenSSL.

    Raises:
        NoCompiler: There is no compiler, or it fails.
    """
    cc = compiler()
    BUILD.mkdir(exist_ok=True)
    for program, source in ((WSLOAD, "wsload.c"), (WSECHO, "wsecho.c")):
        if error := _compile(cc, program, source):
            raise NoCompiler(f"{cc} cannot compile {source}:\n{error}")
    return not _compile(cc, WSLOAD_TLS, "wsload.c", "-DWITH_TLS", "-lssl", "-lcrypto")
