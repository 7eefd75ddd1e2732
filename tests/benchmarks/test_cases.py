"""Names of cases stand for what they say, and every case has its messages."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest
from harness import load, payloads
from harness.cases import CAPACITY, CASES, Case, expand


def names(text: str) -> list[str]:
    return [case.name for case in expand(text)]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("S1", ["S1"]),
        ("S2", ["S2a", "S2b"]),
        ("S2b, S1", ["S2b", "S1"]),
        ("S8", ["S8a", "S8b", "S8c", "S8d"]),
        ("T", ["T1", "T2", "T3"]),
        ("S1,S,S1", [name for name in CASES if name == "S1" or name.startswith("S")]),
        ("all", list(CASES)),
    ],
)
def test_name_stands_for_cases_in_order_and_each_once(text: str, expected: list[str]) -> None:
    assert names(text) == expected


@pytest.mark.parametrize("case", CASES.values(), ids=str)
def test_every_case_expands_to_itself(case: Case) -> None:
    assert expand(case.name) == [case]
    assert case in expand(case.name[0])


@pytest.mark.parametrize("text", ["", "S9", "s1", "S1,", "X", "S2c"])
def test_name_that_stands_for_nothing_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="no case is called"):
        expand(text)


@pytest.mark.parametrize("case", [*CASES.values(), CAPACITY], ids=lambda case: case.name)
def test_generator_is_asked_for_what_the_case_says(case: Case, tmp_path: Path) -> None:
    """A flag is there exactly when the case has it; numbers are the case's."""
    argv = load.command(
        case,
        port=1,
        pids=[2, 3],
        payload=tmp_path,
        secs=1,
        warmup=0.5,
        raw=False,
        rate=7 if case.mode == "pace" else None,
    )
    told = dict(zip(argv[1::2], argv[2::2], strict=False))
    assert told["--mode"] == case.mode
    assert told["--conns"] == str(case.conns)
    assert told["--pids"] == "2,3"
    assert float(told["--secs"]) == case.longer
    assert ("--rate" in argv) == (case.mode == "pace")
    for flag in ("deflate", "tls", "drain", "latency"):
        assert (f"--{flag}" in argv) == getattr(case, flag)
    assert "--raw" not in argv


def test_series_differ_in_one_number_alone() -> None:
    for series in ("L1", "L2", "L3"):
        line = expand(series)
        assert len({(c.conns, c.size) for c in line}) == len(line)
        assert len({(c.mode, c.window, c.op, c.unit, c.fresh, c.drain) for c in line}) == 1


@pytest.mark.parametrize("name", ["S1", "S3a", "S4", "S5"])
def test_payload_file_holds_messages_of_the_case(name: str, tmp_path: Path) -> None:
    """The same in every run, of the right size, compressed if the case is."""
    case = CASES[name]
    payloads.write(case, tmp_path / "once")
    payloads.write(case, tmp_path / "twice")
    data = (tmp_path / "once").read_bytes()
    assert data == (tmp_path / "twice").read_bytes()
    (count,) = struct.unpack_from("=I", data)
    at = 4
    plain = []
    for _ in range(count):
        pair = []
        for _ in range(2):
            (size,) = struct.unpack_from("=I", data, at)
            pair.append(data[at + 4 : at + 4 + size])
            at += 4 + size
        compressed = data[at]
        at += 1
        plain.append(pair[0])
        assert len(pair[0]) == case.size
        assert compressed == case.deflate
        assert payloads.inflates_to(pair[1], pair[0])
        assert (pair[0] == pair[1]) == (not case.deflate)
    assert at == len(data)
    assert plain == payloads.messages(case)
    assert count == (64 if case.deflate else 1)


def test_reply_that_is_another_message_is_seen() -> None:
    """RFC 7692 §7.2: compressed or not, it has to be what was sent."""
    assert payloads.inflates_to(b"one", b"one")
    assert payloads.inflates_to(payloads.compress(b"one"), b"one")
    assert not payloads.inflates_to(payloads.compress(b"one"), b"two")
    assert not payloads.inflates_to(b"\xff\xff", b"two")
