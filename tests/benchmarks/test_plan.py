"""What cannot be measured is left out, in words; what can be is planned fairly."""

from __future__ import annotations

from pathlib import Path

import pytest
from harness import plan, processes, session
from harness.cases import CASES, expand
from harness.load import Record
from harness.peers import Peer


def peer(name: str, role: str = "server", **more: object) -> Peer:
    return Peer(name, role, Path("x.py"), (), ("asyncio", "uvloop"), **more)  # type: ignore[arg-type]


KNOWN = {
    (one.name, one.role): one
    for one in (
        peer("websockets", needs=("websockets",), tls=True),
        peer("picows", needs=("picows", "aiofastnet"), deflate=False),
        peer("rooms", cases=("S5",)),
        peer("websockets", "client", needs=("websockets",)),
    )
}
LOOPS = ["asyncio", "uvloop"]


def rows(made: plan.Plan) -> dict[str, list[str]]:
    return {case.name: [f"{p.name} {loop}" for p, loop in turns] for case, turns in made.rows}


def test_peer_runs_the_cases_that_it_can_do() -> None:
    made = plan.make(expand("S1,S4,S5,T1,C1"), None, ["asyncio"], KNOWN)
    assert rows(made) == {
        "S1": ["websockets asyncio", "picows asyncio"],
        "S4": ["websockets asyncio"],
        "S5": ["websockets asyncio", "picows asyncio", "rooms asyncio"],
        "T1": ["websockets asyncio"],
        "C1": ["websockets asyncio"],
    }
    assert made.left_out == []
    assert len(made) == 8
    assert [p.name for p in made.pacers["asyncio"]] == ["websockets"]


def test_what_is_not_installed_is_left_out_and_said() -> None:
    made = plan.make(expand("S1"), None, LOOPS, KNOWN, absent={"aiofastnet", "uvloop"})
    assert rows(made) == {"S1": ["websockets asyncio"]}
    assert made.left_out == ["picows: not installed: aiofastnet", "uvloop: not installed"]


def test_case_that_the_machine_cannot_run_is_left_out_and_said() -> None:
    made = plan.make(expand("S1,S8,T1"), None, LOOPS, KNOWN, tls=False, descriptors=1024)
    assert list(rows(made)) == ["S1"]
    assert len(made.left_out) == 5
    assert any("ulimit" in line and "10,100" in line for line in made.left_out)
    assert any("libssl-dev" in line for line in made.left_out)


def test_selection_of_a_case_restricts_its_peers() -> None:
    made = plan.make(expand("S1,S5"), None, ["asyncio"], KNOWN, only={"S5": {"rooms"}})
    assert rows(made) == {"S5": ["rooms asyncio"]}


def test_name_of_no_peer_is_refused() -> None:
    with pytest.raises(ValueError, match="no peer is called nobody; there are picows, rooms"):
        plan.make(expand("S1"), ["nobody", "picows"], LOOPS, KNOWN)


class Fake:
    """Stands for a Bench: remembers the order, fails where it is told to."""

    def __init__(self, failing: str = "") -> None:
        self.turns: list[str] = []
        self.failing = failing

    def one(self, case: object, peer: Peer, loop: str) -> Record:
        self.turns.append(peer.name)
        if peer.name == self.failing:
            raise processes.Failed("did not start\n  File /a/b.py\nValueError: x\nwhy")
        return {"cpu_us": 1.0}

    def stop_all(self) -> None:
        self.turns.append("|")


def test_every_other_repeat_goes_backwards() -> None:
    made = plan.make([CASES["S5"]], None, ["asyncio"], KNOWN)
    bench = Fake()
    records = session.run(bench, made, 2)  # type: ignore[arg-type]
    assert " ".join(bench.turns) == "websockets picows rooms | rooms picows websockets |"
    assert [record["repeat"] for record in records] == [0, 0, 0, 1, 1, 1]


def test_peer_that_fails_has_no_figure() -> None:
    made = plan.make([CASES["S5"]], None, ["asyncio"], KNOWN)
    records = session.run(Fake("picows"), made, 1)  # type: ignore[arg-type]
    assert [record.get("cpu_us") for record in records] == [1.0, None, 1.0]
    assert records[1]["error"] == "did not start (peer: ValueError)"


def test_no_repeat_begins_that_would_end_too_late() -> None:
    made = plan.make([CASES["S5"]], None, ["asyncio"], KNOWN)
    assert {r["repeat"] for r in session.run(Fake(), made, 9, budget=0)} == {0}  # type: ignore[arg-type]


def test_error_is_one_line_without_paths() -> None:
    text = "client failed in /a/b now\nTraceback:\nasyncio.TimeoutError: é\nOSError\nnothing"
    assert session.one_line(text) == "client failed in now (peer: asyncio.TimeoutError, OSError)"
    assert session.one_line("") == ""


def test_port_that_somebody_took_is_not_the_peer_s_failure() -> None:
    ports = []

    def start(port: int) -> processes.Server:
        ports.append(port)
        if len(ports) < 3:
            raise processes.Failed("did not start\nOSError: Address already in use")
        raise processes.Failed("did not start\nValueError: x")

    with pytest.raises(processes.Failed, match="ValueError"):
        processes.listening(start)
    assert len(ports) == 3


def test_environment_of_a_peer_is_what_its_name_says(monkeypatch: pytest.MonkeyPatch) -> None:
    """SIMPLEWS_PURE in ours would make every variant pure, and -X dev all of them slow."""
    monkeypatch.setenv("SIMPLEWS_PURE", "1")
    monkeypatch.setenv("PYTHONDEVMODE", "1")
    monkeypatch.setenv("PYTHONPATH", "there")
    env = processes.environment({"SIMPLEWS_SPEED": "1"}, Path("here"))
    assert "SIMPLEWS_PURE" not in env
    assert "PYTHONDEVMODE" not in env
    assert env["SIMPLEWS_SPEED"] == "1"
    assert env["PYTHONPATH"] == "here:there"
