"""What the adapters say of themselves is read without running them, and holds together."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest
from harness import goals, peers
from harness.cases import CASES

ADAPTERS = sorted(peers.FOLDER.glob("[!_]*.py"))


@pytest.mark.parametrize("script", ADAPTERS, ids=lambda path: path.stem)
def test_literal_of_adapter_names_only_what_there_is(script: Path) -> None:
    info = peers.literal(script.read_text())
    assert info is not None
    assert info["role"] == script.stem.rpartition("_")[2]
    assert info["variants"]
    assert set(info["loops"]) <= {"asyncio", "uvloop"}
    for key in ("env", "needs", "cases"):
        if isinstance(info.get(key), dict):
            assert info[key].keys() <= info["variants"].keys(), key
    for key in ("tls", "no-deflate"):
        assert set(info.get(key, ())) <= info["variants"].keys(), key
    for peer in peers.variants(script):
        assert set(peer.cases) <= CASES.keys()
        assert all(CASES[name].side == peer.role for name in peer.cases)


@pytest.mark.parametrize("script", ADAPTERS, ids=lambda path: path.stem)
def test_adapter_needs_what_it_imports(script: Path) -> None:
    """A peer that is not installed is left out; it does not fail to start."""
    imported = {
        name.partition(".")[0]
        for node in ast.parse(script.read_text()).body
        for name in (
            [alias.name for alias in node.names]
            if isinstance(node, ast.Import)
            else [node.module or ""]
            if isinstance(node, ast.ImportFrom)
            else []
        )
    }
    known = {"aiofastnet", "aiohttp", "granian", "picows", "simplews", "websockets", "wsproto"}
    for peer in peers.variants(script):
        assert imported & known <= set(peer.needs)


def test_last_folder_wins(tmp_path: Path) -> None:
    """Adapters for an experiment stand in a folder of their own."""
    text = """PEER = {"role": "server", "variants": {"websockets": ["-x"]}, "loops": ["asyncio"]}"""
    (tmp_path / "mine_server.py").write_text(text)
    (tmp_path / "_not_me.py").write_text("this is no Python")
    (tmp_path / "no_literal.py").write_text("import this_does_not_exist")
    found = peers.load([tmp_path])
    assert found["websockets", "server"].args == ("-x",)
    assert found["websockets", "client"].script.parent == peers.FOLDER
    assert found.keys() == peers.load().keys()


@pytest.mark.parametrize(
    "text", ["PEER = {'role': 'server', 'wants': 1}", "PEER = {'role': str()}", "PEER = ("]
)
def test_literal_that_is_wrong_says_where(text: str, tmp_path: Path) -> None:
    (tmp_path / "wrong_server.py").write_text(text)
    with pytest.raises(ValueError, match=r"wrong_server\.py: "):
        peers.load([tmp_path])


def test_goals_name_peers_that_can_do_their_cases() -> None:
    known = peers.load()
    everybody = {name for name, _ in known}
    from harness.plan import can_do

    for case, names in goals.needed(everybody).items():
        assert case in CASES
        for goal in goals.GOALS:
            if case in goal.cases:
                for bound in filter(None, (goal.must, goal.aim)):
                    for name in (bound.ours, *(bound.against or ())):
                        assert name in names
                        assert can_do(known[name, CASES[case].side], CASES[case]), (name, case)
    for growth in goals.GROWTHS:
        for name in (growth.ours, *growth.beside):
            for case in CASES.values():
                if case.series == growth.series:
                    assert can_do(known[name, "server"], case)
