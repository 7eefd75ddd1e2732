"""
Runs the whole corpus through the targets, without atheris::

    python fuzz/replay.py [FOLDER]

prints a line for each input, with a digest of what was found; two builds print the
same lines. Ends with 1 at the first finding.
"""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Iterator
from pathlib import Path

# Under `python -P`, which keeps the folder of the script out, too.
sys.path.append(str(Path(__file__).resolve().parent))

from targets import TARGETS

CORPUS = Path(__file__).resolve().parent / "corpus"


def inputs(corpus: Path = CORPUS) -> Iterator[tuple[str, Path]]:
    """Target and file, in order."""
    for target in TARGETS:
        for path in sorted((corpus / target).glob("*")):
            yield target, path


def digest(target: str, path: Path) -> str:
    """What *target* finds in the file, in short; AssertionError if that is wrong."""
    found = TARGETS[target](path.read_bytes())
    return hashlib.sha256(repr(found).encode()).hexdigest()[:16]


def main() -> None:
    """Replay, and print."""
    corpus = Path(sys.argv[1]) if len(sys.argv) > 1 else CORPUS
    for target, path in inputs(corpus):
        try:
            print(target, path.name, digest(target, path))
        except Exception:
            print(f"finding: {target} {path}", file=sys.stderr)
            raise


if __name__ == "__main__":
    main()
