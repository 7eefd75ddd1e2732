"""The command, from end to end, as small as it gets."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from harness import toolchain

from simplews import __speedups__, __version__

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"


def command(script: str, *args: object, **env: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, BENCHMARKS / script, *map(str, args)],
        capture_output=True,
        text=True,
        timeout=50,
        env={**os.environ, **env},
    )


@pytest.mark.usefixtures("compiler")
def test_run_measures_and_report_writes(tmp_path: Path) -> None:
    """Costs of S1 and quantiles of P2, of a server of ours and one of another's."""
    out = tmp_path / "out.json"
    done = command(
        "run.py",
        *("--case", "S1,P2", "--peer", "simplews-serve,websockets", "--loop", "asyncio"),
        *("--repeat", 1, "--secs", 0.05, "--warmup", 0.05, "--rate", 500, "--json", out),
    )
    assert done.returncode == 0, done.stderr
    document = json.loads(out.read_text())
    assert [(r["case"], r["peer"], r.get("error")) for r in document["records"]] == [
        ("S1", "simplews-serve", None),
        ("S1", "websockets", None),
        ("P2", "simplews-serve", None),
        ("P2", "websockets", None),
    ]
    for record in document["records"]:
        assert record["ops"] > 0
        assert record["cpu_us"] > 0
        if record["case"] == "P2":
            # What was due in 0.1 s at 500 a second, whenever it came back.
            assert 49 <= record["n"] <= 51
            assert 0 < record["p50_us"] <= record["p99_us"] <= record["p999_us"]
            assert record["offered"] == 500
    (run,) = document["runs"]
    what = f"{__version__} (compiled)" if __speedups__ else f"{__version__} (not compiled)"
    assert run["versions"]["simplews"] == what
    assert str(tmp_path) not in out.read_text()
    assert "| simplews-serve |" in done.stdout
    assert "| websockets " in done.stdout

    done = command("report.py", out, "--dir", tmp_path, "--json", tmp_path / "merged.json")
    assert done.returncode == 0, done.stderr
    assert "## P2: " in (tmp_path / "RESULTS.md").read_text()
    assert (tmp_path / "plots" / "S1.svg").read_text().startswith("<svg")
    assert (tmp_path / "merged.json").read_text() == out.read_text()


@pytest.mark.usefixtures("compiler")
def test_peer_that_does_not_start_is_failed_and_never_a_number(tmp_path: Path) -> None:
    script = """
PEER = {"role": "server", "variants": {"broken": []}, "loops": ["asyncio"]}
raise ValueError("this peer does not work")
"""
    (tmp_path / "broken_server.py").write_text(script)
    done = command(
        "run.py",
        *("--case", "S1", "--peer", "broken", "--loop", "asyncio", "--repeat", 1),
        *("--peers-dir", tmp_path, "--json", tmp_path / "out.json"),
    )
    assert done.returncode == 0, done.stderr
    (record,) = json.loads((tmp_path / "out.json").read_text())["records"]
    assert record["error"] == "did not start (peer: ValueError)"
    assert "cpu_us" not in record
    assert "- S1, broken, asyncio (1 of 1): did not start" in done.stdout


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the benchmarks need Linux")
@pytest.mark.parametrize(
    ("args", "env", "words"),
    [
        (["--quick"], {"CC": "no-such-compiler"}, "there is no C compiler called"),
        (["--case", "S99"], {}, "no case is called 'S99'"),
        (["--peer", "nobody"], {}, "no peer is called nobody"),
    ],
)
def test_what_cannot_be_done_is_said_without_a_traceback(
    args: list[str], env: dict[str, str], words: str
) -> None:
    done = command("run.py", *args, **env)
    assert done.returncode == 2
    assert words in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.usefixtures("compiler")
def test_missing_peer_is_left_out_with_a_line(tmp_path: Path) -> None:
    script = """
PEER = {
    "role": "server",
    "variants": {"absent": []},
    "needs": ["no_such_module"],
    "loops": ["asyncio"],
}
"""
    (tmp_path / "absent_server.py").write_text(script)
    done = command("run.py", "--case", "S1", "--peer", "absent", "--peers-dir", tmp_path)
    assert done.returncode == 1
    assert "left out: absent: not installed: no_such_module" in done.stderr
    assert "nothing of what was asked for can be measured here" in done.stderr


def test_sources_of_the_generator_are_in_the_checkout() -> None:
    assert {path.name for path in toolchain.SOURCES.iterdir()} == {
        "histogram.h",
        "wsecho.c",
        "wsload.c",
    }
