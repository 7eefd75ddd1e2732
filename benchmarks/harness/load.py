"""The load generator: how it is asked, and what its answer means."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from .cases import Case
from .processes import Failed
from .toolchain import WSLOAD, WSLOAD_TLS

Record = dict[str, Any]


def command(
    case: Case,
    *,
    port: int,
    pids: Sequence[int],
    payload: Path,
    secs: float,
    warmup: float,
    raw: bool,
    rate: float | None = None,
) -> list[str]:
    """The command line that puts the load of *case* on a server."""
    argv: list[object] = [WSLOAD_TLS if case.tls else WSLOAD]
    argv += ["--port", port, "--pids", ",".join(map(str, pids)), "--payload", payload]
    argv += ["--mode", case.mode, "--path", case.path, "--op", 1 if case.op == "text" else 2]
    argv += ["--conns", case.conns, "--window", case.window]
    argv += ["--secs", secs * case.longer, "--warmup", warmup * case.longer]
    if case.mode == "scale":
        argv += ["--conc", 64, "--sources", 4, "--limit", 100]
    else:
        argv += ["--limit", 15 + 3 * (secs + warmup) * case.longer]
    if rate is not None:
        argv += ["--rate", rate]
    flags = {
        "--deflate": case.deflate,
        "--tls": case.tls,
        "--drain": case.drain,
        "--latency": case.latency,
        "--raw": raw,
    }
    return [str(arg) for arg in argv] + [name for name, given in flags.items() if given]


def run(argv: Sequence[str], place: Callable[[], None]) -> Record:
    """
    Run the generator.

    Raises:
        Failed: The server did not do as it should, and it says what.
    """
    done = subprocess.run(
        argv,
        timeout=120,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        preexec_fn=place,
    )
    return answer(done.stdout)


def answer(text: str) -> Record:
    """What the generator, or a client's adapter, printed."""
    lines = [line for line in text.splitlines() if line.startswith("{")]
    if not lines:
        raise Failed("no output")
    out: Record = json.loads(lines[-1])
    if "error" in out:
        raise Failed(out["error"])
    return out


def cost(n: float, secs: float, cpu_s: float) -> Record:
    """
    Figures of *n* operations.

    Returns:
        ``cpu_us``: processor time of one; ``rate``: how many came back in a
        second; ``busy``: the share of a core that the peer used.

    Raises:
        Failed: There was none.
    """
    if not n:
        raise Failed("nothing was measured")
    return {
        "ops": n,
        "secs": secs,
        "rate": n / secs,
        "cpu_us": cpu_s * 1e6 / n,
        "busy": cpu_s / secs,
    }


def phase(out: Record) -> Record:
    """Figures of one part of a run that gives several."""
    return cost(out["n"], out["secs"], out["cpu_s"])


def figures(case: Case, out: Record) -> Record:
    """Figures of a run that gives one."""
    if case.mode == "hs":
        ops = out["rounds"]
    elif case.unit == "MB":
        ops = out["rx_bytes"] / 1e6
    else:
        ops = out["msgs"]
    record = cost(ops, out["secs"], out["cpu_s"])
    if ticks := out["user_ticks"] + out["sys_ticks"]:
        record["sys_share"] = out["sys_ticks"] / ticks
    if "gen_cpu_s" in out:
        record["gen_busy"] = out["gen_cpu_s"] / out["secs"]
    record |= {key: out[key] for key in ("ext", "tls", "late_closed", "failures") if out.get(key)}
    record |= out.get("latency", {})
    if case.mode != "pace":  # nothing was scheduled that it could have been late for
        record.pop("late_p99_us", None)
    return record
