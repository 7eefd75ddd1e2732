"""What must hold, as a rule with a figure for each scenario, and how a figure is shown."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

Figures = dict[str, Any]
Record = dict[str, Any]


@dataclass(frozen=True)
class Rule:
    """
    Attributes:
        what: What happens.
        must: What must hold, in words.
        holds: Whether it does.
        show: The figures, short enough for a table.
    """

    what: str
    must: str
    holds: Callable[[Figures], bool]
    show: Callable[[Figures], str]


def mb(figures: Figures) -> str:
    """Memory."""
    value = figures["mb"]
    if figures.get("ended"):
        return "> 1300 MB"
    return f"{value:.0f} MB" if value >= 10 else f"{max(value, 0):.1f} MB"


def _times(value: float | None, unit: str) -> str:
    return "never" if value is None else f"{value:.1f} {unit}"


def _within(value: float | None, most: float) -> bool:
    return value is not None and value <= most


def _codes(codes: dict[str, int]) -> str:
    return ", ".join(
        name if len(codes) == 1 else f"{name} × {number}" for name, number in sorted(codes.items())
    )


def _seen(figures: Figures) -> str:
    """The code on the wire, and the application's where it is another."""
    code, app = figures["code"], figures["app"]
    return f"{code}" if str(app) == code else f"{code} (application: {app})"


def _kept(figures: Figures) -> str:
    busy = figures["busy_p"]
    first = f"{figures['pings']} pings"
    if busy < 5:
        first = f"busy: {figures['busy']} after {busy:.1f} p"
    slow = figures.get("slow")
    return first + ("" if slow in (None, "open") else f", slow: {slow}")


RULES: dict[str, Rule] = {
    "unread-app": Rule(
        "500 MB sent to an application that does not read, in messages of 64 KiB",
        "≤ 4 MB",
        lambda f: f["mb"] <= 4,
        mb,
    ),
    "unread-app-small": Rule(
        "the same in messages of 100 bytes", "≤ 4 MB", lambda f: f["mb"] <= 4, mb
    ),
    "unread-app-deflate": Rule(
        "the same in messages of 100 kB, compressed to a hundredth",
        "≤ 4 MB",
        lambda f: f["mb"] <= 4,
        mb,
    ),
    "unread-peer": Rule(
        "500 MB sent to a peer that does not read",
        "≤ 4 MB, send() waits",
        lambda f: f["mb"] <= 4 and not f["all_sent"],
        mb,
    ),
    "ping-flood": Rule(
        "a flood of pings whose pongs are not read", "≤ 2 MB", lambda f: f["mb"] <= 2, mb
    ),
    "compressed-bomb": Rule(
        "1 MB that inflates to 1 GB, with a limit of 1 MB",
        "1009 to the peer and the application, ≤ 6 MB, TCP closed ≤ 1 s",
        lambda f: (
            f["mb"] <= 6 and f["code"] == "1009" and f["app"] == 1009 and _within(f["tcp_s"], 1)
        ),
        lambda f: f"{_seen(f)}, {mb(f)}",
    ),
    "empty-fragments": Rule(
        "a million empty fragments of one message",
        "refused, or ≤ 2 s CPU; ≤ 2 MB",
        lambda f: f["mb"] <= 2 and f["cpu_s"] <= 2 and f["code"] != "open",
        lambda f: f"{f['code']}, {f['cpu_s']:.1f} s, {mb(f)}",
    ),
    "length-alone": Rule(
        "a length of 2⁶² with nothing behind it, and a hundred of 900 kB with a byte",
        "≤ 2 s CPU, ≤ 2 MB",
        lambda f: f["mb"] <= 2 and f["cpu_s"] <= 2,
        lambda f: f"{f['code']}, {mb(f)}",
    ),
    "neighbours": Rule(
        "another client's round trips while one floods: the longest, in the contender's own time",
        "≤ 250 ms",
        lambda f: f["own_ms"] <= 250,
        lambda f: f"{f['own_ms']:.0f} ms",
    ),
    "peer-gone": Rule(
        "the peer is cut off; `ping_interval` is p; receive() and send() are woken",
        "≤ 2.2 p, 1006 or 1011",
        lambda f: (
            _within(f["receive_p"], 2.2)
            and _within(f["send_p"], 2.2)
            and f["codes"].keys() <= {"1006", "1011", "None"}  # callbacks are told no code
        ),
        lambda f: (
            f"{_times(f['receive_p'], 'p')}, {_times(f['send_p'], 'p')}; {_codes(f['codes'])}"
        ),
    ),
    "kept-alive": Rule(
        "the peer is busy sending, or the application slow, for 5 p",
        "stays open, pings go out",
        lambda f: f["busy_p"] >= 5 and f["pings"] >= 3 and f.get("slow") in (None, "open"),
        _kept,
    ),
    "dripping": Rule(
        "200 opening handshakes that drip, t is `open_timeout`",
        "closed at t, no descriptor left",
        lambda f: _within(f["last_t"], 1.3) and f["files"] <= 1,
        lambda f: _times(f["last_t"], "t") + (f"; {_codes(f['answers'])}" if f["answers"] else ""),
    ),
    "close-unanswered": Rule(
        "close() to a peer that never answers, and to one that does not read; t is `close_timeout`",
        "≤ 1.1 t, no descriptor left",
        lambda f: _within(f["silent_t"], 1.1) and _within(f["stalled_t"], 1.1) and f["files"] <= 0,
        lambda f: (
            f"{_times(f['silent_t'], 't')}, {_times(f['stalled_t'], 't')}"
            + (f"; {f['files']} left" if f["files"] > 0 else "")
        ),
    ),
    "receive-large": Rule(
        "a message of 100 MB is received, memory",
        "≤ 2.0 ×",
        lambda f: round(f["times"], 1) <= 2.0,
        lambda f: f"{f['times']:.1f} ×",
    ),
    "send-large": Rule(
        "a message of 100 MB is made and sent, memory",
        "≤ 1.1 ×",
        lambda f: round(f["times"], 1) <= 1.1,
        lambda f: f"{f['times']:.1f} ×",
    ),
    "cycles": Rule(
        "5,000 connections come and go, also abruptly, refused and cancelled",
        "0 descriptors, 0 tasks, ≤ 2 MB, no warning",
        lambda f: f["files"] <= 0 and f["tasks"] <= 0 and f["mb"] <= 2 and f["stderr"] == 0,
        lambda f: (
            f"{f['files']}, {f['tasks']}, {mb(f)}"
            + (f"; {f['stderr']} lines" if f["stderr"] else "")
        ),
    ),
    "shutdown": Rule(
        "shutdown with 1,000 open connections",
        "≤ 1 s, all 1001, nothing on stderr",
        lambda f: (
            f["codes"].keys() == {"1001"}
            and _within(f["took_s"], 1)
            and f["tcp_s"] <= 1
            and f["stderr"] == 0
        ),
        lambda f: (
            f"{_times(f['took_s'], 's')}; {_codes(f['codes'])}"
            + (f"; {f['stderr']} lines" if f["stderr"] else "")
        ),
    ),
    "cancelled-receives": Rule(
        "10,000 receive()s are cancelled or time out",
        "0 lost, 0 twice",
        lambda f: f["lost"] == 0 and f["twice"] == 0 and f["disorder"] == 0,
        lambda f: f"{f['lost']} lost, {f['twice']} twice",
    ),
}


def cell(record: Record) -> str:
    """What a table says of a record."""
    if "unfit" in record:
        return "–"
    if "error" in record:
        return "failed"
    return RULES[record["scenario"]].show(record["figures"])


def holds(record: Record) -> bool | None:
    """Whether its rule holds; None if the rule is not about it."""
    if "unfit" in record:
        return None
    return "figures" in record and RULES[record["scenario"]].holds(record["figures"])


# What the host does before, around and without us: the same host with an application that
# does not use simplews says how much of a figure is its.
ASGI = "uvicorn-sansio"
HOSTED: dict[str, tuple[str, tuple[str, ...]]] = {
    "simplews-asgi": (ASGI, tuple(RULES)),
    "simplews-aiohttp": ("aiohttp", ("dripping",)),
}


def verdict(record: Record, records: Sequence[Record]) -> Literal["held", "host", "missed"] | None:
    """
    What is to be said of a record of ours.

    Returns:
        "host" when the host alone, among *records*, does not hold the rule either; None
        when the rule is not about it.
    """
    held = holds(record)
    if held is None:
        return None
    if held:
        return "held"
    host, scenarios = HOSTED.get(record["contender"].removesuffix(" pure"), ("", ()))
    if record["scenario"] in scenarios:
        for other in records:
            if (other["contender"], other["scenario"]) == (host, record["scenario"]):
                return "missed" if holds(other) else "host"
    return "missed"


def missed(records: Sequence[Record]) -> list[Record]:
    """Those of simplews whose rule does not hold, though its host does not stand in the way."""
    return [
        record
        for record in records
        if record["contender"].startswith("simplews") and verdict(record, records) == "missed"
    ]
