"""
Fuzzes, guided by coverage, for as long as told::

    python fuzz/run.py [--seconds N] [--keep] [TARGET ...]

It needs atheris, and ends by itself: with 0, or with 1 at a finding, whose input it
leaves in ``fuzz/findings/``. What was found to be new is replayed afterwards with the
compiled part, where that is built, and must give the same. ``--keep`` merges it into
the corpus: of all inputs the fewest and shortest that reach what all of them reach.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import shlex
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
CORPUS = HERE / "corpus"
FINDINGS = HERE / "findings"
NAMES = ("request", "response", "frames", "deflate")

#: Bytes of an input at most. What is longer reaches nothing that these do not.
MAX_LEN = 4096
#: Seconds that one input may take: more is a finding.
TIMEOUT = 10
#: Memory that a target may take, in MB: more is a finding.
MEMORY = 1024


def harness(target: str, arguments: list[str]) -> None:
    """Be the process that atheris fuzzes; it does not return."""
    import atheris

    sys.path.append(str(HERE))
    # Only what is Python can be instrumented.
    with atheris.instrument_imports(include=["simplews"]):
        from targets import TARGETS

        import simplews
    assert not simplews.__speedups__
    # To merge, libFuzzer starts itself again, through the shell.
    command = shlex.join([sys.executable, str(HERE / "run.py"), "--harness", target])
    atheris.Setup([command, *arguments], TARGETS[target])
    atheris.Fuzz()


def libfuzzer(target: str, *arguments: str) -> int:
    """Run `harness` in a process of its own; its exit status."""
    command = [sys.executable, str(HERE / "run.py"), "--harness", target]
    limits = [f"-max_len={MAX_LEN}", f"-timeout={TIMEOUT}", f"-rss_limit_mb={MEMORY}"]
    environment = os.environ | {"SIMPLEWS_PURE": "1"}
    return subprocess.run([*command, *limits, *arguments], env=environment, check=False).returncode


def replayed(folder: Path, pure: bool) -> subprocess.CompletedProcess[str]:
    """What `replay.py` says about *folder*."""
    environment = os.environ | {"SIMPLEWS_PURE": "1" if pure else ""}
    command = [sys.executable, str(HERE / "replay.py"), str(folder)]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)


def fuzz(target: str, seconds: int, new: Path) -> bool:
    """Fuzz one target; whether nothing was found."""
    FINDINGS.mkdir(exist_ok=True)
    (new / target).mkdir()
    status = libfuzzer(
        target,
        f"-max_total_time={seconds}",
        f"-artifact_prefix={FINDINGS}{os.sep}{target}-",
        "-print_final_stats=1",
        str(new / target),
        str(CORPUS / target),
    )
    return status == 0


def keep(target: str, new: Path) -> None:
    """Make the corpus of *target* the smallest that reaches as much."""
    merged = new / f"{target}-merged"
    merged.mkdir()
    libfuzzer(target, "-merge=1", str(merged), str(CORPUS / target), str(new / target))
    kept = {path.read_bytes() for path in (CORPUS / target).iterdir()}
    for path in merged.iterdir():
        if path.read_bytes() not in kept:
            shutil.copy(path, CORPUS / target / path.name[:12])


def main() -> int:
    """Fuzz each target for its share of the time, then compare two builds."""
    parser = argparse.ArgumentParser(description="fuzz simplews, guided by coverage")
    parser.add_argument("targets", nargs="*", default=NAMES, metavar="TARGET", help=str(NAMES))
    parser.add_argument("--seconds", type=int, default=60, help="for all targets together")
    parser.add_argument("--keep", action="store_true", help="merge what is new into the corpus")
    options = parser.parse_args()
    if unknown := set(options.targets) - set(NAMES):
        parser.error(f"no such target: {', '.join(sorted(unknown))}")
    if importlib.util.find_spec("atheris") is None:
        parser.error(
            "atheris is missing: pip install atheris, which has wheels for Linux on x86-64"
        )
    share = max(1, options.seconds // len(options.targets))
    with tempfile.TemporaryDirectory() as folder:
        new = Path(folder)
        bad = [target for target in options.targets if not fuzz(target, share, new)]
        pure, compiled = replayed(new, True), replayed(new, False)
        if compiled.returncode or pure.stdout != compiled.stdout:
            shutil.copytree(new, FINDINGS / "differ", dirs_exist_ok=True)
            bad.append(f"the compiled part: {compiled.stderr[-2000:]}")
        if options.keep:
            for target in options.targets:
                keep(target, new)
    if bad:
        print(f"findings: {', '.join(bad)}; inputs are in {FINDINGS}", file=sys.stderr)
        return 1
    print(f"{', '.join(options.targets)}: nothing found")
    return 0


if __name__ == "__main__":
    if sys.argv[1:2] == ["--harness"]:
        harness(sys.argv[2], sys.argv[3:])
    sys.exit(main())
