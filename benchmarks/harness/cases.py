"""What is measured: one `Case` for each figure, and the names that stand for several."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Literal

Unit = Literal["msg", "MB", "delivery", "handshake", "conn"]

MEBI = 1 << 20


@dataclass(frozen=True)
class Case:
    """
    One figure, and the load that gives it.

    Server cases are driven by ``load/wsload.c``, client cases by
    ``load/wsecho.c``. Cases of one letter and number that have a `part` are
    figures of one and the same run.

    Attributes:
        unit: What one operation is; rates and costs are per operation.
        part: The figure of a run that gives several.
        step: What differs along a line of cases: "10 conn.".
        mode: How wsload works: ``echo``, ``bcast``, ``hs``, ``idle``, ``scale``, ``pace``.
        window: Messages in flight on each connection.
        size: Bytes of a message.
        deflate: Messages are compressed, and the peer has to agree to that.
        memory: The figure is KiB per connection.
        latency: How long each message took is kept as well.
        fresh: In a process of its own: what malloc() does depends on the
            sizes that a process has had to do with before.
        drain: From nothing in flight to nothing in flight.
        longer: Times the usual seconds.
    """

    name: str
    title: str
    unit: Unit
    side: Literal["server", "client"] = "server"
    part: str = ""
    step: str = ""
    mode: str = "echo"
    path: str = "/echo"
    conns: int = 1
    window: int = 1
    size: int = 32
    op: Literal["text", "bin"] = "text"
    deflate: bool = False
    tls: bool = False
    memory: bool = False
    latency: bool = False
    fresh: bool = False
    drain: bool = False
    longer: float = 1

    @property
    def series(self) -> str:
        """``L1`` of ``L1a``: the cases that one line, or one run, consists of."""
        return self.name[:2]

    @property
    def figure(self) -> str:
        """The key of a record that the case is about."""
        return "kib_per_conn" if self.memory else "p99_us" if self.latency else "cpu_us"

    def estimate(self, secs: float, warmup: float) -> float:
        """About how many seconds it takes to measure it once."""
        if self.mode == "scale":
            # All the figures of a run come with the first of them.
            return 12.0 if self.part == "setup" else 0.0
        if self.mode == "idle":
            return 4.0
        if self.side == "client" and self.part == "setup":
            return 0.0
        start = 0.7 if self.fresh or self.side == "client" else 0.15
        return (secs + warmup) * self.longer + start + self.conns / 2000

    @property
    def descriptors(self) -> int:
        """File descriptors that either side needs."""
        return self.conns + 100


def _echoes() -> Iterator[Case]:
    """Echo, over plain TCP and over TLS."""
    yield Case("S1", "echo 32 B text, 1 connection, ping-pong", "msg")
    yield Case("S2a", "echo 32 B text, 1 connection, 64 in flight", "msg", window=64)
    yield Case(
        "S2b", "echo 32 B text, 32 connections, 64 in flight each", "msg", window=64, conns=32
    )
    binary = Case("", "", "MB", op="bin")
    yield replace(
        binary,
        name="S3a",
        title="echo 16 KiB binary, 1 connection, 8 in flight",
        size=16 << 10,
        window=8,
    )
    yield replace(
        binary,
        name="S3b",
        title="echo 1 MiB binary, 1 connection, 2 in flight",
        size=MEBI,
        window=2,
    )
    yield Case(
        "S4",
        "echo 1 KiB JSON text, permessage-deflate, 1 connection, 16 in flight",
        "msg",
        size=1024,
        window=16,
        deflate=True,
    )


def _servers() -> Iterator[Case]:
    """What else a server does: broadcasts, handshakes, and holding connections."""
    yield Case(
        "S5",
        "broadcast 128 B text to 500 connections",
        "delivery",
        mode="bcast",
        path="/bcast",
        conns=500,
        size=128,
    )
    yield Case("S6", "connect + upgrade + one echo + close, 16 at a time", "handshake", mode="hs")
    idle = Case("", "", "conn", mode="idle", conns=2000, memory=True)
    yield replace(idle, name="S7a", title="memory per idle connection (2000), no compression")
    yield replace(
        idle,
        name="S7b",
        title="memory per idle connection (2000), permessage-deflate",
        size=1024,
        deflate=True,
    )
    scale = Case("", "10,000 idle connections: ", "conn", mode="scale", conns=10_000)
    for name, part, unit, title in (
        ("S8a", "setup", "conn", "connect + upgrade, 64 at a time"),
        ("S8b", "memory", "conn", "memory"),
        ("S8c", "echo", "msg", "one 32 B text echo on each, 64 at a time"),
        ("S8d", "close", "conn", "closing handshake and end of TCP, 64 at a time"),
    ):
        yield replace(
            scale,
            name=name,
            part=part,
            unit=unit,  # type: ignore[arg-type]
            title=scale.title + title,
            memory=part == "memory",
        )


def _tls(echoes: dict[str, Case]) -> Iterator[Case]:
    for name, like in (("T1", "S1"), ("T2", "S2a"), ("T3", "S3b")):
        case = echoes[like]
        yield replace(case, name=name, title=f"TLS: {case.title}", tls=True)


def _latencies() -> Iterator[Case]:
    """Round trips: their quantiles, not what they cost."""
    yield Case(
        "P1",
        "round trip of 32 B text, 1 connection, ping-pong",
        "msg",
        latency=True,
        fresh=True,
    )
    yield Case(
        "P2",
        "round trip of 32 B text, 500 connections, at one rate for all peers",
        "msg",
        mode="pace",
        conns=500,
        latency=True,
        fresh=True,
        longer=2,
    )


# How much a peer can do where P2 asks for half of it: the same connections, each
# with one message in flight, as fast as it can.
CAPACITY = Case("P0", "what P2's rate is taken from", "msg", conns=500, drain=True)


def _linear() -> Iterator[Case]:
    """Lines of cases that differ in one number alone."""
    line = Case("", "", "msg", fresh=True, drain=True)
    for letter, n in zip("abcd", (1, 10, 100, 1000), strict=True):
        yield replace(
            line,
            name=f"L1{letter}",
            title=f"echo 32 B text, 64 in flight on each of {n} connections",
            conns=n,
            window=64,
            step=f"{n} conn.",
            longer=1 if n < 100 else 2,
        )
    for letter, n in zip("abc", (64, 640, 6400), strict=True):
        yield replace(
            line,
            name=f"L2{letter}",
            title=f"echo {n} KiB binary, 1 connection, 2 in flight",
            unit="MB",
            op="bin",
            size=n << 10,
            window=2,
            step=f"{n} KiB",
            longer=1 if n < 1000 else 2,
        )
    for letter, n in zip("abc", (50, 500, 5000), strict=True):
        yield replace(
            line,
            name=f"L3{letter}",
            title=f"broadcast 128 B text to {n} connections",
            unit="delivery",
            mode="bcast",
            path="/bcast",
            conns=n,
            size=128,
            step=f"{n} members",
            longer=1 if n < 1000 else 2,
        )


def _clients() -> Iterator[Case]:
    client = Case("", "", "msg", side="client")
    yield replace(client, name="C1", title="client echo 32 B text, ping-pong")
    yield replace(client, name="C2", title="client echo 32 B text, 64 in flight", window=64)
    yield replace(
        client,
        name="C3a",
        title="client echo 16 KiB binary, 8 in flight",
        unit="MB",
        op="bin",
        size=16 << 10,
        window=8,
    )
    yield replace(
        client,
        name="C3b",
        title="client echo 1 MiB binary, ping-pong",
        unit="MB",
        op="bin",
        size=MEBI,
    )
    yield replace(
        client,
        name="C4a",
        title="client echo 32 B text, 500 connections in one process, ping-pong on each",
        part="echo",
        conns=500,
    )
    yield replace(
        client,
        name="C4b",
        title="client: 500 connections in one process, connect + upgrade, one after the other",
        unit="conn",
        part="setup",
        conns=500,
    )


def _all() -> Iterator[Case]:
    echoes = {case.name: case for case in _echoes()}
    yield from echoes.values()
    yield from _servers()
    yield from _tls(echoes)
    yield from _clients()
    yield from _latencies()
    yield from _linear()


CASES: dict[str, Case] = {case.name: case for case in _all()}


def expand(text: str) -> list[Case]:
    """
    The cases that a list of names stands for, in its order, each once.

    Args:
        text: Comma-separated: a case (``S2a``), those that differ in the last
            letter (``S2``), those of a first letter (``S``), or ``all``.

    Raises:
        ValueError: A name stands for nothing.
    """
    found: dict[str, Case] = {}
    for item in (item.strip() for item in text.split(",")):
        hit = [
            case
            for name, case in CASES.items()
            if item in ("all", name, name[:1]) or (len(item) == 2 and item == case.series)
        ]
        if not hit:
            raise ValueError(f"no case is called {item!r}; there are {', '.join(CASES)}")
        found.update((case.name, case) for case in hit)
    return list(found.values())
