"""The soak tools: what judges is judged, and two scenarios run for real."""

from __future__ import annotations

import json
import socket
import sys
import threading
import zlib
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

if not sys.platform.startswith("linux"):
    pytest.skip("the soak runs read /proc", allow_module_level=True)

from harness.results import Results
from soak import long, report, rules, run, scenarios, wire

# ------------------------------------------------------------------- the commands


def test_run_measures_a_server_and_a_client(tmp_path: Path) -> None:
    out = tmp_path / "out.json"
    argv = ["--quick", "--only", "compressed-bomb", "--json", str(out)]
    assert run.main([*argv, "--contender", "simplews-serve,simplews-client"]) == 0
    document = json.loads(out.read_text())
    found = {(r["scenario"], r["contender"]): r["figures"] for r in document["records"]}
    assert len(found) == 2
    for figures in found.values():
        assert (figures["code"], figures["app"]) == ("1009", 1009)
        # What it inflates to, up to the limit, is there: it is the contender that is read.
        assert 0.9 <= figures["mb"] <= 6
    page = report.page(Results(document["runs"], document["records"]))
    assert "| ✓ 1009, " in page
    assert str(tmp_path) not in out.read_text()


async def test_long_run_accounts_for_everything() -> None:
    document = await long.run(minutes=0.01, workers=6, seed=3, rounds=1)
    assert long.failures(document) == []
    counts = document["counts"]
    assert counts["delivered"] > 0
    assert counts["sent"] == counts["delivered"] + counts["accounted"]
    assert sum(document["faults"].values()) >= counts["connections"] > 0
    assert min(document["curves"]["server"]) > 5
    assert "<svg" in report.picture(document)
    assert "| … lost | 0 |" in "\n".join(report.long_section(document))


# ------------------------------------------------------------- the books of long.py


def book(end: str, **facts: Any) -> dict[str, Any]:
    return {
        **{"id": 1, "end": end, "kind": "echo", "sent": 0, "unsure": [], "got": 0, "last": -1},
        **{"skipped": [], "wrong": 0, "code": 1000, "raised": False, "hung": False},
        **facts,
    }


@pytest.mark.parametrize(
    ("sender", "receiver", "accounted", "lost", "wrong"),
    [
        ({"sent": 5}, {"got": 5, "last": 4}, 0, 0, 0),
        # The end of the connection explains what is behind the last that came ...
        ({"sent": 5, "raised": True}, {"got": 3, "last": 2}, 2, 0, 0),
        # ... if the sender was told,
        ({"sent": 5}, {"got": 3, "last": 2}, 0, 2, 0),
        # ... and never a gap before it.
        ({"sent": 5, "raised": True}, {"got": 3, "last": 3, "skipped": [1]}, 1, 1, 0),
        # A send() that raised has sent nothing, or all of it.
        ({"sent": 5, "unsure": [1]}, {"got": 4, "last": 4, "skipped": [1]}, 1, 0, 0),
        ({"sent": 5, "unsure": [1]}, {"got": 5, "last": 4}, 0, 0, 0),
        ({"sent": 5}, {"got": 6, "last": 4, "wrong": 1}, 0, 0, 1),
    ],
)
def test_message_is_delivered_accounted_for_or_lost(
    sender: dict[str, Any], receiver: dict[str, Any], accounted: int, lost: int, wrong: int
) -> None:
    for way in (("client", "server"), ("server", "client")):
        books = {way[0]: book(way[0], **sender), way[1]: book(way[1], **receiver)}
        counts = long.settle(books["client"], books["server"])
        assert (counts["accounted"], counts["lost"], counts["wrong"]) == (accounted, lost, wrong)
        assert counts["sent"] == counts["delivered"] + counts["accounted"] + counts["lost"]


def test_connection_that_the_server_never_had_needs_an_exception() -> None:
    assert long.settle(book("client", sent=2, raised=True), None)["accounted"] == 2
    assert long.settle(book("client", sent=2), None)["lost"] == 2


def test_failures_are_told() -> None:
    good: dict[str, Any] = {
        "counts": Counter(sent=3, delivered=2, accounted=1),
        "rests": {"server": [29.0, 30.0, 30.5, 31.0]},
        "blocks": {"server": [100_000, 101_000, 102_000]},
        **{"files": 0, "tasks": 0, "stderr": 0, "finished": True},
    }
    assert long.failures(good) == []
    for name, value in (
        ("counts", Counter(sent=3, delivered=2, lost=1)),
        ("counts", Counter(sent=3, delivered=2)),
        ("rests", {"server": [29.0, 30.0, 33.0, 35.0]}),
        ("blocks", {"server": [100_000, 110_000, 120_000]}),
        ("files", 1),
        ("stderr", 1),
        ("finished", False),
    ):
        assert long.failures({**good, name: value})


# ----------------------------------------------------------------------- the rules


def test_every_scenario_has_a_rule() -> None:
    assert list(rules.RULES) == list(scenarios.SCENARIOS)
    assert scenarios.SCENARIOS.keys() >= scenarios.ALONE | scenarios.WAITING


def record(contender: str, scenario: str = "ping-flood", **figures: Any) -> dict[str, Any]:
    return {"contender": contender, "scenario": scenario, "figures": figures}


def test_host_excuses_only_what_it_does_not_hold_itself() -> None:
    ours, host = record("simplews-asgi", mb=24.0), record("uvicorn-sansio", mb=24.0)
    assert rules.verdict(ours, [ours, host]) == "host"
    good = record("uvicorn-sansio", mb=1.0)
    assert rules.verdict(ours, [ours, good]) == "missed"
    assert rules.verdict(ours, [ours]) == "missed"
    assert rules.verdict(record("simplews-asgi", mb=1.0), []) == "held"
    # aiohttp has no part in pings once the connection is ours.
    ours, host = record("simplews-aiohttp", mb=24.0), record("aiohttp", mb=24.0)
    assert rules.missed([ours, host]) == [ours]


def test_failure_and_unfitness_are_no_figures() -> None:
    failed = {"contender": "simplews-serve", "scenario": "shutdown", "error": "it hangs"}
    unfit = {"contender": "picows", "scenario": "shutdown", "unfit": "it has none"}
    assert rules.missed([failed, unfit]) == [failed]
    assert (rules.cell(failed), rules.cell(unfit)) == ("failed", "–")


# --------------------------------------------------------------------- the raw peer


def test_raw_ends_understand_each_other() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        accepted: list[wire.Raw] = []
        thread = threading.Thread(
            target=lambda: accepted.append(wire.Raw.accept(listener, deflate=True))
        )
        thread.start()
        with wire.Raw.connect(listener.getsockname()[1], "/", deflate=True) as client:
            thread.join(5)
            with accepted[0] as server:
                for size in (0, 5, 125, 126, 65535, 65536, 100_000):
                    for one, two in ((client, server), (server, client)):
                        one.send(wire.PING, b"?")
                        one.send(wire.BINARY, b"x" * size)
                        assert two.message() == b"x" * size
                server.send(wire.CLOSE, b"\x03\xe8")
                server.sock.shutdown(socket.SHUT_WR)
                code, seconds = client.finish(5)
                assert code == "1000"
                assert seconds is not None


def test_bomb_is_valid_and_as_large_as_it_says() -> None:
    inflate = zlib.decompressobj(-15)
    data = inflate.decompress(wire.bomb(5_000_000) + b"\x00\x00\xff\xff")
    assert data == bytes(5_000_000)
    assert len(wire.bomb(5_000_000)) < 10_000


def test_relay_passes_on_until_it_goes_dark() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        relay = wire.Relay(listener.getsockname()[1])
        try:
            with socket.create_connection(("127.0.0.1", relay.port), 5) as near:
                far, _ = listener.accept()
                with far:
                    far.settimeout(5)
                    near.sendall(b"to")
                    assert far.recv(10) == b"to"
                    far.sendall(b"fro")
                    assert near.recv(10) == b"fro"
                    relay.dark()
                    near.sendall(b"lost")
                    far.setblocking(False)
                    with pytest.raises(BlockingIOError):
                        far.recv(10)
        finally:
            relay.close()
