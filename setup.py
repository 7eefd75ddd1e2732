"""The compiled part, which is optional; everything else is in pyproject.toml.

``SIMPLEWS_SPEEDUPS=0`` leaves it out, ``=1`` makes it an error if it cannot be
compiled, unset tries. What is compiled is the same source that runs without it, with
the types of the ``.pxd`` beside it; only ``octets`` has a twin in C.
"""

from __future__ import annotations

import os
import sys

from setuptools import setup
from setuptools.command.bdist_wheel import bdist_wheel
from setuptools.command.build_ext import build_ext
from setuptools.extension import Extension

MODULES = {
    "simplews.protocol.octets": "simplews/protocol/octets.pyx",
    "simplews.protocol.codec": "simplews/protocol/codec.py",
    "simplews.link.timers": "simplews/link/timers.py",
    "simplews.link.waiter": "simplews/link/waiter.py",
    "simplews.link.inbox": "simplews/link/inbox.py",
    "simplews.link.direct": "simplews/link/direct.pyx",
    "simplews.link.outbox": "simplews/link/outbox.py",
    "simplews.link.wire": "simplews/link/wire.py",
    "simplews.link.step": "simplews/link/step.pyx",
    "simplews.link.talk": "simplews/link/talk.pyx",
    "simplews.link.asgilink": "simplews/link/asgilink.py",
    "simplews.rooms.member": "simplews/rooms/member.py",
}

WISH = os.environ.get("SIMPLEWS_SPEEDUPS", "")
if WISH not in ("", "0", "1"):
    raise SystemExit(f"SIMPLEWS_SPEEDUPS is {WISH!r}; it may be 0, 1 or unset")


class OptionalBuild(build_ext):
    """Compile all modules or none: they know each other's layout."""

    def finalize_options(self) -> None:
        super().finalize_options()
        if self.parallel is None:
            self.parallel = True

    def run(self) -> None:
        inplace = self.inplace
        try:
            if self.extensions:
                self._translate()
            super().run()
        except Exception as exc:  # a compiler can fail in any way
            if WISH == "1":
                raise
            reason = " ".join(str(exc).split()) or type(exc).__name__
            print(f"simplews is built without its compiled part: {reason}", file=sys.stderr)
            # Whether it is from before the failure or from an earlier build.
            for self.inplace in {0, inplace}:
                for name in MODULES:
                    path = self.get_ext_fullpath(name)
                    if os.path.exists(path):
                        os.unlink(path)
            self.inplace = inplace
            self.extensions = self.distribution.ext_modules = []

    def build_extensions(self) -> None:
        # Who sets CFLAGS has the say. MSVC optimizes by default.
        if self.compiler.compiler_type == "unix" and "CFLAGS" not in os.environ:
            for extension in self.extensions:
                extension.extra_compile_args = ["-O3", "-g0"]
        super().build_extensions()

    def _translate(self) -> None:
        """Python to C; only now, so that metadata can be asked for without Cython."""
        import Cython
        from Cython.Build import cythonize

        translated = cythonize(
            [Extension(name, [path]) for name, path in MODULES.items()],
            # A folder per version: what is newer than its source is not translated again.
            build_dir=f"build/cython-{Cython.__version__}",
            compiler_directives={"language_level": 3, "annotation_typing": False},
        )
        done = {extension.name: extension for extension in translated}
        for extension in self.extensions:
            extension.sources = done[extension.name].sources
            extension.depends = done[extension.name].depends


class Wheel(bdist_wheel):
    """A wheel for every Python and system, if nothing could be compiled."""

    def run(self) -> None:
        if self.distribution.has_ext_modules():
            self.run_command("build_ext")
            if not self.distribution.has_ext_modules():
                self.root_is_pure = True
                # It chose the folder of this platform's builds.
                self.reinitialize_command("build", reinit_subcommands=True)
        super().run()


def extensions() -> list[Extension]:
    """What to compile; nothing where that is not wanted or not of use."""
    if WISH == "0" or (WISH == "" and sys.implementation.name != "cpython"):
        return []
    return [Extension(name, [path]) for name, path in MODULES.items()]


setup(ext_modules=extensions(), cmdclass={"build_ext": OptionalBuild, "bdist_wheel": Wheel})
