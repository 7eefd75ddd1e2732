"""
Turn the files that run.py wrote into RESULTS.md and its pictures.

    python benchmarks/report.py one.json two.json --json benchmarks/results.json
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))  # also with PYTHONSAFEPATH

from harness import report, results

HERE = Path(__file__).resolve().parent


def main() -> int:
    """Read, put together, write."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").strip().partition("\n")[0])
    parser.add_argument("files", nargs="+", type=Path, help="results, of one machine")
    parser.add_argument(
        "--pool",
        action="store_true",
        help="a case that is in several files has the repeats of all; default: the last file's",
    )
    parser.add_argument("--baseline", default="websockets", help="ratios are to this peer")
    parser.add_argument("--json", type=Path, help="write all of the results into one file")
    parser.add_argument("--dir", type=Path, default=HERE, help="of RESULTS.md; default: here")
    parser.add_argument("--note", default="", help="a sentence to stand above everything")
    parser.add_argument("--print", action="store_true", help="print the page, write nothing")
    options = parser.parse_args()
    try:
        merged = results.merge(map(results.load, options.files), pool=options.pool)
    except (OSError, ValueError) as exc:
        print(exc, file=sys.stderr)
        return 2
    page = report.results_page(merged, options.baseline, options.note)
    if options.print:
        print(page, end="")
        return 0
    plots = options.dir / "plots"
    plots.mkdir(parents=True, exist_ok=True)
    for old in plots.glob("*.svg"):
        old.unlink()
    for name, picture in report.pictures(merged).items():
        (plots / name).write_text(picture)
    (options.dir / "RESULTS.md").write_text(page)
    if options.json:
        options.json.write_text(merged.dump())
    return 0


if __name__ == "__main__":
    sys.exit(main())
