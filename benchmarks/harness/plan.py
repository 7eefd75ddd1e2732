"""Which peer runs which case, and what is left out and why."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field

from .cases import Case
from .peers import COROUTINE, Peer

Turn = tuple[Peer, str]


@dataclass
class Plan:
    """
    What is to be run.

    Attributes:
        rows: Each case with its turns, a peer on an event loop.
        pacers: For each loop, the peers that P2's rate is taken from.
        left_out: One line for each thing that was asked for and cannot be done.
    """

    rows: list[tuple[Case, list[Turn]]] = field(default_factory=list)
    pacers: dict[str, list[Peer]] = field(default_factory=dict)
    left_out: list[str] = field(default_factory=list)

    def __len__(self) -> int:
        return sum(len(turns) for _, turns in self.rows)

    def seconds(self, secs: float, warmup: float) -> dict[str, float]:
        """About how long one repeat takes, for each case."""
        return {case.name: len(turns) * case.estimate(secs, warmup) for case, turns in self.rows}


def can_do(peer: Peer, case: Case) -> bool:
    """Whether *case* is something that *peer* does at all."""
    return (
        peer.role == case.side
        and (not peer.cases or case.name in peer.cases)
        and (peer.deflate or not case.deflate)
        and (peer.tls or not case.tls)
    )


def make(
    cases: Sequence[Case],
    names: Sequence[str] | None,
    loops: Sequence[str],
    known: Mapping[tuple[str, str], Peer],
    *,
    only: Mapping[str, Collection[str]] | None = None,
    absent: Collection[str] = (),
    tls: bool = True,
    descriptors: int = 1 << 20,
) -> Plan:
    """
    Plan a run.

    Args:
        names: The peers; None means all.
        only: For each case, the peers that it is left to; no other cases.
        absent: Modules that are not installed.
        tls: Whether the generator and a certificate for TLS are there.
        descriptors: How many files a process may open.

    Raises:
        ValueError: No adapter knows one of *names*.
    """
    every = list(dict.fromkeys(name for name, _ in known))
    if unknown := [name for name in names or () if name not in every]:
        raise ValueError(
            f"no peer is called {', '.join(unknown)}; there are {', '.join(sorted(every))}"
        )
    plan = Plan()
    peers = [peer for name in names or every for peer in _named(known, name)]
    missing = {
        peer.name: [module for module in peer.needs if module in absent] for peer in known.values()
    }
    for peer in {peer.name: peer for peer in peers}.values():
        if missing[peer.name]:
            plan.left_out.append(f"{peer.name}: not installed: {', '.join(missing[peer.name])}")
    here = [loop for loop in loops if loop == "asyncio" or loop not in absent]
    plan.left_out += [f"{loop}: not installed" for loop in loops if loop not in here]
    for case in cases:
        if only is not None and case.name not in only:
            continue
        if case.tls and not tls:
            plan.left_out.append(
                f"{case.name}: TLS needs the headers of OpenSSL (Debian: libssl-dev) and, for a "
                "certificate, the command openssl or the package trustme"
            )
        elif case.descriptors > descriptors:
            plan.left_out.append(
                f"{case.name}: it needs {case.descriptors:,} file descriptors and may have "
                f"{descriptors:,} (ulimit -Hn)"
            )
        else:
            turns = [
                (peer, loop)
                for peer in peers
                if can_do(peer, case) and not missing[peer.name]
                if only is None or peer.name in only[case.name]
                for loop in here
                if loop in peer.loops
            ]
            if turns:
                plan.rows.append((case, turns))
    plan.pacers = {
        loop: [
            known[name, "server"]
            for name in COROUTINE
            if (name, "server") in known and not missing[name]
        ]
        for loop in here
    }
    return plan


def _named(known: Mapping[tuple[str, str], Peer], name: str) -> list[Peer]:
    return [peer for (other, _), peer in known.items() if other == name]
