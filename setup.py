"""The compiled part, which is optional; everything else is in pyproject.toml.

``SIMPLEWS_SPEEDUPS=0`` leaves it out, ``=1`` makes it an error if it cannot be
compiled, unset tries. What is compiled is the same source that runs without it, with
the types of the ``.pxd`` beside it; only ``octets`` has a twin in C.
"""

from __future__ import annotations

import os
import sys

from setuptools import setup
from setuptools.command.build_ext import build_ext
from setuptools.extension import Extension

MODULES = {
    "simplews.protocol.octets": "simplews/protocol/octets.pyx",
    "simplews.protocol.codec": "simplews/protocol/codec.py",
    "simplews.link.waiter": "simplews/link/waiter.py",
    "simplews.link.inbox": "simplews/link/inbox.py",
    "simplews.link.direct": "simplews/link/direct.pyx",
    "simplews.link.outbox": "simplews/link/outbox.py",
    "simplews.link.wire": "simplews/link/wire.py",
}

WISH = os.environ.get("SIMPLEWS_SPEEDUPS", "")
if WISH not in ("", "0", "1"):
    raise SystemExit(f"SIMPLEWS_SPEEDUPS is {WISH!r}; it may be 0, 1 or unset")


class OptionalBuild(build_ext):
    """Compile all modules or none: they know each other's layout."""

    def run(self) -> None:
        try:
            super().run()
        except Exception as exc:  # a compiler can fail in any way
            if WISH == "1":
                raise
            print(f"simplews is installed without its compiled part: {exc}", file=sys.stderr)
            for extension in self.extensions:
                for path in (self.get_ext_fullpath(extension.name),):
                    if os.path.exists(path):
                        os.unlink(path)
            self.extensions = []


def extensions() -> list[Extension]:
    """What to compile; nothing where that is not wanted or not of use."""
    if WISH == "0" or (WISH == "" and sys.implementation.name != "cpython"):
        return []
    try:
        from Cython.Build import cythonize
    except ImportError:
        if WISH == "1":
            raise
        return []
    flags = ["-O3"] if sys.platform != "win32" else ["/O2"]
    modules = [Extension(name, [path], extra_compile_args=flags) for name, path in MODULES.items()]
    return cythonize(  # type: ignore[no-any-return]
        modules,
        build_dir="build/cython",
        compiler_directives={"language_level": 3, "annotation_typing": False},
    )


setup(ext_modules=extensions(), cmdclass={"build_ext": OptionalBuild})
