"""Who is measured: what the adapters in `peers/` say of themselves."""

from __future__ import annotations

import ast
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parent.parent / "peers"

# Whose handlers are coroutines that receive messages, as ours are. The best of
# them is what our goals are measured by; the slowest sets P2's rate.
COROUTINE = ("websockets", "aiohttp", "picows-websockets")

KEYS = {"role", "variants", "loops", "env", "needs", "cases", "no-deflate", "tls", "raw"}


@dataclass(frozen=True)
class Peer:
    """
    One variant of an adapter.

    Attributes:
        name: What tables call it; a server and a client may share a name.
        needs: Modules without which it is left out.
        cases: The only cases that it can do; empty: all of its role.
        raw: TCP without framing.
    """

    name: str
    role: str
    script: Path
    args: tuple[str, ...]
    loops: tuple[str, ...]
    env: dict[str, str] = field(default_factory=dict)
    needs: tuple[str, ...] = ()
    cases: tuple[str, ...] = ()
    deflate: bool = True
    tls: bool = False
    raw: bool = False


def literal(source: str) -> dict[str, Any] | None:
    """The PEER literal of an adapter, read without running it; None if it has none."""
    for node in ast.parse(source).body:
        match node:
            case ast.Assign(targets=[ast.Name(id="PEER")]):
                value: dict[str, Any] = ast.literal_eval(node.value)
                if unknown := value.keys() - KEYS:
                    raise ValueError(f"PEER has unknown keys: {', '.join(sorted(unknown))}")
                return value
    return None


def _of(variant: str, value: Any) -> Any:
    """What is said of one variant, or of all."""
    return value.get(variant, ()) if isinstance(value, dict) else value


def variants(script: Path) -> list[Peer]:
    """The peers of one adapter."""
    try:
        info = literal(script.read_text())
    except (SyntaxError, ValueError) as exc:
        raise ValueError(f"{script.name}: {exc}") from exc
    if info is None:
        return []
    return [
        Peer(
            name=name,
            role=info["role"],
            script=script,
            args=tuple(args),
            loops=tuple(info["loops"]),
            env=info.get("env", {}).get(name, {}),
            needs=tuple(_of(name, info.get("needs", ()))),
            cases=tuple(_of(name, info.get("cases", ()))),
            deflate=name not in info.get("no-deflate", ()),
            tls=name in info.get("tls", ()),
            raw=info.get("raw", False),
        )
        for name, args in info["variants"].items()
    ]


def load(folders: Iterable[Path] = ()) -> dict[tuple[str, str], Peer]:
    """Every peer of `peers/` and of more folders, by name and role; the last one wins."""
    return {
        (peer.name, peer.role): peer
        for folder in (FOLDER, *folders)
        for script in sorted(folder.glob("[!_]*.py"))
        for peer in variants(script)
    }
