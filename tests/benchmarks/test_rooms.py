"""`benchmarks/rooms.py`: who counts is counted on, and one peer is measured for real."""

from __future__ import annotations

import math
import sys

import pytest

if not sys.platform.startswith("linux"):
    pytest.skip("the benchmarks read /proc", allow_module_level=True)

import rooms


def members(count: int) -> list[rooms.Member]:
    return [rooms.Member("simplews", 1) for _ in range(count)]


def test_what_nobody_was_told_of_is_silent() -> None:
    """Of each message, who did not get it and why somebody knows."""
    ada, bob, carol = everybody = members(3)
    for number in range(6):
        (ada, bob)[number % 2].sent[number] = float(number)
        for member in everybody:
            member.got[number] = number + 0.5
    del carol.got[1]  # carol is there all the time: nobody knows
    for member in everybody:
        del member.got[2]  # refused
    ada.refused.add(2)
    bob.out.append((3.2, 4.4))
    del bob.got[3], bob.got[4]  # bob sent 3, and was out before it came back, and for 4
    del carol.got[3]  # so bob knows for carol, too
    found = rooms.count(everybody, range(6))
    assert found == {
        "expected": 18,
        "missing": 7,
        "sender_told": 5,
        "member_told": 1,
        "silent": 1,
    }


def test_who_does_not_come_back_knows() -> None:
    ada, bob = everybody = members(2)
    ada.sent[0] = ada.got[0] = 1.0
    bob.out.append((0.5, math.inf))
    assert rooms.count(everybody, range(1))["member_told"] == 1


async def test_measures(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two processes and a Redis: every member hears all, and it costs something."""
    pytest.importorskip("redis")
    monkeypatch.setattr(rooms, "MEMBERS", 6)
    monkeypatch.setattr(rooms, "RATE", 50)
    cell = await rooms.deliver("simplews", "asyncio", 128, 3)
    assert cell["server_us"] > 0 and cell["redis_us"] > 0
    assert 0 < cell["p50_ms"] <= cell["p99_ms"]


def test_page_has_every_figure() -> None:
    figures = {"server_us": 2.0, "redis_us": 0.5, "p50_ms": 3.0, "p99_ms": 4.0}
    lost = {"expected": 10, "missing": 3, "sender_told": 2, "member_told": 1, "silent": 0}
    double = {**figures, "server_us": 5.0}
    page = rooms.page(
        {
            "versions": {"simplews": "1.2.3"},
            "python": "3.11.0",
            "processors": 2,
            "loop": "asyncio",
            "broadcasts": 10,
            "repeats": 1,
            "peers": {
                "simplews": {"128": [figures], "4096": [figures], "restart": [lost]},
                "socketio": {"128": [double], "4096": [double], "restart": [lost]},
            },
        }
    )
    assert "| 5.0 | 2.5 | 0.50 | 3 | 4 |" in page
    assert "| 10 | 3 | 2 | 1 | 0 |" in page
    assert "simplews 1.2.3" in page
