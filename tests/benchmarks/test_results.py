"""Medians, spreads, ratios, goals, and the report, of results that were made by hand."""

from __future__ import annotations

import json
from typing import Any
from xml.etree import ElementTree

import pytest
from harness import goals, report, results, svg, tables
from harness.results import Results
from harness.summary import summarise

RUN = {
    "date": "2001-02-03",
    "python": "CPython 3.11.0",
    "system": "Linux x86_64",
    "cpu": "a processor",
    "cores": 2,
    "layout": "same",
    "secs": 1.0,
    "repeat": 3,
    "versions": {"websockets": "15", "picows": "1.9"},
}


def records(case: str, peer: str, values: list[Any], loop: str = "asyncio", **more: Any) -> Any:
    """A record for each of *values*: a cost, or a text that is an error."""
    key = "kib_per_conn" if case[:2] == "S7" else "cpu_us"
    return [
        {"case": case, "peer": peer, "loop": loop, "repeat": repeat, **more}
        | ({"error": value} if isinstance(value, str) else {key: value})
        for repeat, value in enumerate(values)
    ]


def made(*groups: Any) -> Results:
    return Results([RUN], [record for group in groups for record in group])


SMALL = made(
    records("S1", "simplews-serve", [8, 7, 9], rate=100.0, sys_share=0.5),
    records("S1", "websockets", [40, 30, 20], rate=50.0),
    records("S1", "picows-websockets", [10, 10, 11]),
    records("S1", "picows", [5, "it broke", 6]),
    records("S1", "tcp-protocol", [1]),
    records("S1", "websockets", [10, 10, 10], "uvloop"),
    records("S1", "simplews-serve", ["did not start", "did not start"], "uvloop"),
    records("S3a", "simplews-serve", [100]),
    records("S3a", "wsproto", [400]),
    records("S3a", "granian", [200]),
    records("S3a", "tcp-protocol", [10]),
    records("S7a", "simplews-serve", [12.5]),
    *(
        records(f"L1{letter}", "simplews-serve", [cost])
        for letter, cost in zip("abcd", (10, 11, 12, 11.4), strict=True)
    ),
    *(
        records(f"L2{letter}", peer, [cost])
        for peer, costs in {
            "simplews-serve": (100, 150, 300),
            "tcp-protocol": (10, 16, 16),
            "tcp-streams": (10, 11, 33),
        }.items()
        for letter, cost in zip("abc", costs, strict=True)
    ),
    records("P1", "websockets", [30], p50_us=50.0, p99_us=90.0, p999_us=400.0),
    records("P2", "websockets", [30], p50_us=50.0, p99_us=90.0, p999_us=400.0, late_p99_us=2e3),
)


# ------------------------------------------------------------------ statistics


def test_figure_is_the_median_and_its_spread() -> None:
    data = summarise(SMALL.records)
    figure = data.get("S1", "websockets", "asyncio")
    assert figure is not None
    assert figure.medians == {"cpu_us": 30, "rate": 50.0}
    assert figure.spread == pytest.approx(1 / 3)  # (40 - 20) / 2 of 30
    assert (figure.repeats, figure.failed) == (3, 0)


def test_failed_repeat_counts_as_none_and_is_told() -> None:
    data = summarise(SMALL.records)
    figure = data.get("S1", "picows", "asyncio")
    assert figure is not None
    assert (figure.medians["cpu_us"], figure.repeats, figure.failed) == (5.5, 2, 1)
    assert [key[1:] for key, _ in data.failures()] == [
        ("picows", "asyncio"),
        ("simplews-serve", "uvloop"),
    ]


def test_peer_that_always_fails_has_no_figure_and_no_ratio() -> None:
    data = summarise(SMALL.records)
    assert data.value("S1", "simplews-serve", "uvloop") is None
    assert data.ratio("S1", "simplews-serve", "websockets", "uvloop") is None
    assert data.best("S1", "uvloop", ("simplews-serve",)) is None


def test_ratio_is_what_it_costs_when_the_other_costs_one() -> None:
    data = summarise(SMALL.records)
    assert data.ratio("S1", "simplews-serve", "websockets", "asyncio") == pytest.approx(8 / 30)
    assert data.ratio("S1", "simplews-serve", "nobody", "asyncio") is None


def test_best_of_all_is_neither_ours_nor_raw_tcp() -> None:
    data = summarise(SMALL.records)
    assert data.best("S3a", "asyncio", None) == "granian"
    assert data.best("S3a", "asyncio", ("wsproto", "nobody")) == "wsproto"


def test_record_of_a_case_that_is_no_more_is_passed_over() -> None:
    assert summarise(records("Z9", "websockets", [1])).figures == {}


# ----------------------------------------------------------------------- goals


def verdicts(data: Results) -> dict[tuple[str, str, str], goals.Row]:
    return {(row.title, row.case, row.loop): row for row in goals.judge(summarise(data.records))}


def test_goal_is_judged_by_the_cheapest_coroutine_peer() -> None:
    """0.80 of picows-websockets, which is 10: a cost of 8 just reaches it."""
    row = verdicts(SMALL)["echo, ping-pong", "S1", "asyncio"]
    assert row.measured.other == "picows-websockets"
    assert row.measured.value == pytest.approx(0.8)
    assert row.measured.spread == pytest.approx(0.125)
    assert row.aimed is not None
    assert (row.aimed.other, row.aimed.value) == ("picows", pytest.approx(8 / 5.5))
    assert row.verdict == "must"


@pytest.mark.parametrize(
    ("ours", "picows", "verdict"),
    [(8.01, 9, "missed"), (8, 7.6, "must"), (8, 7.7, "aim"), (1, 9, "aim"), (8, "x", "must")],
)
def test_goal_reaches_must_and_aim(ours: float, picows: Any, verdict: str) -> None:
    data = made(
        records("S1", "simplews-serve", [ours]),
        records("S1", "aiohttp", [10]),
        records("S1", "picows", [picows]),
    )
    assert verdicts(data)["echo, ping-pong", "S1", "asyncio"].verdict == verdict


def test_goal_of_what_failed_or_was_not_measured_is_not_reached() -> None:
    rows = verdicts(SMALL)
    assert rows["echo, ping-pong", "S1", "uvloop"].verdict == "failed"
    assert rows["connect, echo, close", "S6", "asyncio"].verdict == "not measured"


def test_goal_without_a_peer_is_held_against_its_number() -> None:
    """S7a: at most 13 KiB, and 9 to aim for."""
    row = verdicts(SMALL)["KiB per idle connection", "S7a", "asyncio"]
    assert (row.measured.value, row.verdict) == (12.5, "must")


def test_goal_against_the_best_of_all() -> None:
    row = verdicts(SMALL)["echo, 16 KiB and 1 MiB", "S3a", "asyncio"]
    assert (row.measured.value, row.measured.other, row.verdict) == (0.5, "granian", "aim")


def test_growth_is_the_worst_step_and_the_whole_way() -> None:
    rows = verdicts(SMALL)
    step = rows["10 × the connections", "L1", "asyncio"]
    whole = rows["1000 × the connections", "L1", "asyncio"]
    assert (step.measured.value, step.verdict) == (pytest.approx(1.1), "must")
    assert (whole.measured.value, whole.verdict) == (pytest.approx(1.14), "must")


def test_growth_beside_raw_tcp_is_relative_to_the_steeper_of_its_rows() -> None:
    """Ours grows 1.5 and 2 times, raw TCP 1.6 and 3 times: 0.94 and 0.67."""
    row = verdicts(SMALL)["10 × the payload, beside raw TCP", "L2", "asyncio"]
    assert (row.measured.value, row.verdict) == (pytest.approx(1.5 / 1.6), "must")


def test_growth_with_a_step_that_is_missing_or_failed_is_no_growth() -> None:
    data = made(
        records("L1a", "simplews-serve", [1]),
        records("L3a", "simplews-rooms", [1]),
        records("L3b", "simplews-rooms", ["it broke"]),
        records("L3c", "simplews-rooms", [1]),
    )
    rows = verdicts(data)
    assert rows["10 × the connections", "L1", "asyncio"].verdict == "not measured"
    assert rows["10 × the members", "L3", "asyncio"].verdict == "failed"


# ---------------------------------------------------------------------- report


def test_page_is_the_same_for_the_same_results() -> None:
    again = results.parse(SMALL.dump())
    shuffled = Results(again.runs, sorted(again.records, key=json.dumps))
    assert report.results_page(again, "websockets") == report.results_page(SMALL, "websockets")
    assert report.pictures(again) == report.pictures(SMALL)
    assert report.results_page(shuffled, "websockets") == report.results_page(again, "websockets")


def test_page_holds_everything_that_was_measured() -> None:
    page = report.results_page(SMALL, "websockets")
    for record in SMALL.records:
        title = record["case"][:2] if record["case"].startswith("L") else f"## {record['case']}: "
        assert title in page
        assert f"| {record['peer']} " in page
    for text in ("a processor", "websockets 15", "2001-02-03", "0.27 ×", "it broke", "0.80 ×"):
        assert text in page
    for name in report.pictures(SMALL):
        assert f"(plots/{name})" in page
    assert page.count("](plots/") == len(report.pictures(SMALL))


def test_quantiles_are_doubted_when_the_generator_was_late() -> None:
    page = report.results_page(SMALL, "websockets")
    assert page.count("The generator was late by 2,000 µs") == 1


def test_note_stands_above_everything() -> None:
    page = report.results_page(SMALL, "websockets", "Only an example.")
    assert page.startswith("# Results\n\nOnly an example.\n\n2001-02-03")


def test_tables_line_up() -> None:
    lines = tables.table(["peer", "µs"], [["a", "1.0"], ["longer", "10 ×"]])
    assert lines == [
        "| peer   |   µs |",
        "| ------ | ---: |",
        "| a      |  1.0 |",
        "| longer | 10 × |",
    ]
    assert {len(line) for line in lines} == {17}


@pytest.mark.parametrize(
    ("value", "text"), [(12345.6, "12,346"), (123.4, "123"), (12.34, "12.3"), (1.234, "1.23")]
)
def test_numbers_have_the_digits_that_mean_something(value: float, text: str) -> None:
    assert tables.number(value) == text


def test_every_picture_is_well_formed() -> None:
    pictures = report.pictures(SMALL)
    assert sorted(pictures) == [
        "L1-asyncio.svg",
        "L1-uvloop.svg",
        "L2-asyncio.svg",
        "L2-uvloop.svg",
        "P1-asyncio.svg",
        "P1-uvloop.svg",
        "P2-asyncio.svg",
        "P2-uvloop.svg",
        "S1.svg",
        "S3a.svg",
        "S7a.svg",
    ]
    for text in pictures.values():
        root = ElementTree.fromstring(text)
        assert root.tag == "{http://www.w3.org/2000/svg}svg"
        assert "prefers-color-scheme: dark" in text


def test_bars_have_lengths_in_proportion() -> None:
    text = svg.bars("<a> & b", ["x", "y"], [("s", [10.0, 5.0]), ("t", [None, 2.5])])
    root = ElementTree.fromstring(text)
    name = "{http://www.w3.org/2000/svg}rect"
    widths = [float(r.get("width", "")) for r in root.iter(name) if float(r.get("x", 0)) > 100]
    assert widths[0] == pytest.approx(2 * widths[1], rel=0.01)
    assert widths[1] == pytest.approx(2 * widths[2], rel=0.01)
    assert "&lt;a&gt; &amp; b" in text


# ----------------------------------------------------------------------- files


def test_file_is_read_as_it_was_written() -> None:
    again = results.parse(SMALL.dump())
    assert (again.runs, again.records) == (SMALL.runs, SMALL.records)
    assert again.dump() == SMALL.dump()


@pytest.mark.parametrize("text", ["[]", "{}", "{", '{"runs": []}'])
def test_file_of_something_else_is_refused(text: str) -> None:
    with pytest.raises(ValueError):
        results.parse(text)


def test_case_in_two_files_is_the_last_one_s_on_that_loop() -> None:
    """Ratios are of one run; `pool` makes repeats of both."""
    one = made(records("S1", "websockets", [1]), records("S6", "websockets", [2]))
    one.records += records("S1", "websockets", [4], "uvloop")
    two = made(records("S1", "picows", [3]))
    merged = results.merge([one, two])
    assert [(r["case"], r["peer"], r["loop"]) for r in merged.records] == [
        ("S6", "websockets", "asyncio"),
        ("S1", "websockets", "uvloop"),
        ("S1", "picows", "asyncio"),
    ]
    assert len(merged.runs) == 2
    assert len(results.merge([one, two], pool=True).records) == 4
    assert len(one.records) == 3


@pytest.mark.parametrize("key", ["python", "cpu", "versions", "layout"])
def test_results_that_cannot_be_compared_are_not_merged(key: str) -> None:
    other = Results([{**RUN, key: "another"}], [])
    with pytest.raises(ValueError, match=f"differ in {key}"):
        results.merge([SMALL, other])
