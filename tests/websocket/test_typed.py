"""Typed text: what survives, what is refused, and what a peer cannot make of it (C21)."""

from __future__ import annotations

import enum
import importlib.util
import subprocess
import sys
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from simplews import payloads
from simplews.payloads import HAS_TYTX, dump_typed, load_typed

EAST = timezone(timedelta(hours=5, minutes=30))


@pytest.fixture(params=[True, False], ids=["orjson", "json"], autouse=True)
def engine(request: Any, monkeypatch: Any) -> None:
    """Both ways of writing JSON."""
    if not request.param:
        monkeypatch.setattr(payloads, "orjson", None)


@pytest.fixture
def without_tytx(monkeypatch: Any) -> None:
    """genro-tytx is not installed."""
    monkeypatch.setitem(sys.modules, "genro_tytx", None)


# ------------------------------------------------------------------------ TYTX

TYTX = [
    ({"price": Decimal("100.50")}, '{"price":"100.50::D"}::TYTX'),
    ({"d": date(2025, 1, 15)}, '{"d":"2025-01-15::d"}::TYTX'),
    ({"dt": datetime(2025, 1, 15, 12, 30)}, '{"dt":"2025-01-15T12:30:00::dt"}::TYTX'),
    ({"t": time(12, 30, 1, 5)}, '{"t":"12:30:01.000005::t"}::TYTX'),
    (datetime(2025, 1, 15, 12, 30, tzinfo=UTC), '"2025-01-15T12:30:00+00:00::dt"::TYTX'),
    (datetime(2025, 1, 15, 12, 30, 0, 7, EAST), '"2025-01-15T12:30:00.000007+05:30::dt"::TYTX'),
    (time(1, 2, tzinfo=UTC), '"01:02:00+00:00::t"::TYTX'),
    (Decimal("-1E+2"), '"-1E+2::D"::TYTX'),
    (Decimal("Infinity"), '"Infinity::D"::TYTX'),
    ([True, False, None, 1, -1.5, "ü"], '[true,false,null,1,-1.5,"ü"]::TYTX'),
    ({"a": [{"b": [Decimal("1")]}]}, '{"a":[{"b":["1::D"]}]}::TYTX'),
    ({}, "{}::TYTX"),
    ("", '""::TYTX'),
    # A key is never looked at, and nor is a code that is unknown.
    ({"x::D": 1}, '{"x::D":1}::TYTX'),
    (["x::N", "::", "a::b::c", "D", "x::DT", "x:: D"], None),
]


@pytest.mark.parametrize(("value", "text"), TYTX, ids=str)
def test_tytx(value: Any, text: str | None, without_tytx: None) -> None:
    """The seed's own table; it needs no package."""
    written = dump_typed(value)
    if text is not None:
        assert written == text
    read = load_typed(written)
    assert read == value and type(read) is type(value)


def test_tytx_keeps_kinds_apart() -> None:
    """A bool stays one, and a datetime, which is a date, does not become one."""
    value = [True, 1, 1.0, datetime(2025, 1, 1), date(2025, 1, 1), Decimal(1)]
    read = load_typed(dump_typed(value))
    assert [type(item) for item in read] == [type(item) for item in value]


def test_tuples_become_lists() -> None:
    """As in JSON."""
    assert load_typed(dump_typed((1, (Decimal(2),)))) == [1, [Decimal(2)]]


LEAVES = (
    st.none()
    | st.booleans()
    | st.integers(-(2**53), 2**53)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"]), max_size=5)
    | st.decimals(allow_nan=False)
    | st.dates()
    | st.datetimes()
    | st.datetimes(timezones=st.just(EAST))
    | st.times()
)
VALUES = st.recursive(
    LEAVES,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=8,
)


@settings(max_examples=100, deadline=None)
@given(VALUES)
def test_tytx_round_trip(value: Any) -> None:
    """Whatever it is made of."""
    assert load_typed(dump_typed(value)) == value


# --------------------------------------------------------------- plain and bad


@pytest.mark.parametrize("text", ['{"a":"1::D"}', '"1::N"', '["2025-01-15::d"]'])
def test_without_a_marker_nothing_is_hydrated(text: str) -> None:
    """The peer did not say that it is typed."""
    assert load_typed(text) == payloads.load_json(text)


@pytest.mark.parametrize(
    "text",
    ["", "no", "::TYTX", "::JS", "no::TYTX", "{::JS", "1::N", "{}::tytx", "{}::TYTX ::x", "'a'"],
)
def test_bad_json(text: str) -> None:
    """A ValueError, as json has it; genro-tytx itself would give the text back."""
    with pytest.raises(ValueError):
        load_typed(text)


@pytest.mark.parametrize(
    "text",
    [
        '["x::D"]::TYTX',
        '["::D"]::TYTX',
        '["2025-13-01::d"]::TYTX',
        '["x::dt"]::TYTX',
        '["25:00::t"]::TYTX',
        '["x::D"]::JS',
        '["x::N"]::JS',
        '["x::L"]::JS',
        '["%%%::RAW"]::JS',
    ],
)
def test_bad_typed_string(text: str) -> None:
    """A ValueError that says which, whatever the code's reader raises."""
    with pytest.raises(ValueError):
        load_typed(text)
    with pytest.raises(ValueError, match="'x::D' does not hold what its code 'D' says"):
        load_typed('{"a":["x::D"]}::TYTX')


@pytest.mark.parametrize("marker", ["::TYTX", "::JS", ""])
def test_text_that_is_nested_too_deeply(marker: str) -> None:
    """A peer's text raises nothing but a ValueError."""
    for depth in (1000, 100_000):
        try:
            load_typed("[" * depth + "]" * depth + marker)
        except ValueError:
            continue


# ---------------------------------------------------------------------- refused


@pytest.mark.parametrize("dialect", ["TYTX", "JS"])
@pytest.mark.parametrize(
    "make", [lambda s: s, lambda s: [s], lambda s: {"a": {"b": s}}, lambda s: ("x", s)]
)
def test_string_that_would_read_as_typed(make: Any, dialect: Any) -> None:
    """C21; it names the string, and says what to do."""
    with pytest.raises(ValueError, match=r"'x::D' would be read as a typed value.*send_json"):
        dump_typed(make("x::D"), dialect)


@pytest.mark.parametrize(
    ("dialect", "codes"),
    [("TYTX", ["D", "d", "dt", "t"]), ("JS", ["N", "D", "DH", "DHZ", "H", "L", "QS", "RAW"])],
)
def test_every_code_is_guarded(dialect: Any, codes: list[str]) -> None:
    """Each dialect has its own."""
    for code in codes:
        with pytest.raises(ValueError, match=f"::{code}"):
            dump_typed(f"a::{code}", dialect)


class Number(float):
    pass


@pytest.mark.parametrize("dialect", ["TYTX", "JS"])
@pytest.mark.parametrize("value", [float("nan"), float("inf"), Number("-inf")])
def test_floats_that_json_does_not_have(value: float, dialect: Any) -> None:
    """One library writes null, another something that nobody reads."""
    with pytest.raises(ValueError, match="no number of JSON"):
        dump_typed([value], dialect)


@pytest.mark.parametrize("dialect", ["TYTX", "JS"])
@pytest.mark.parametrize("key", [1, None, True, date(2025, 1, 1), Decimal(1)])
def test_keys_are_strings(key: Any, dialect: Any) -> None:
    """One library writes a number as text, another raises."""
    with pytest.raises(TypeError, match="key must be a string"):
        dump_typed({"a": {key: 1}}, dialect)


@pytest.mark.parametrize("dialect", ["TYTX", "JS"])
@pytest.mark.parametrize("value", [object(), {1, 2}, 1j])
def test_values_without_a_form(value: Any, dialect: Any) -> None:
    """A TypeError, and not what orjson happens to make of it."""
    with pytest.raises(TypeError):
        dump_typed([value], dialect)


class Kind(enum.StrEnum):
    FINE = "fine"
    TYPED = "x::D"


def test_subclasses_of_str_are_guarded_too() -> None:
    """Else an enum could smuggle a value."""
    assert load_typed(dump_typed([Kind.FINE])) == ["fine"]
    with pytest.raises(ValueError, match="would be read"):
        dump_typed([Kind.TYPED])


def test_no_such_dialect() -> None:
    """Said at once."""
    other: Any = "XML"
    with pytest.raises(ValueError, match="'TYTX' or 'JS', not 'XML'"):
        dump_typed({}, other)


# -------------------------------------------------------------------------- JS


def test_js_is_what_genro_tytx_writes_and_reads() -> None:
    """Its own codes, its own marker; a datetime becomes UTC, to the millisecond."""
    import genro_tytx

    value = {
        "price": Decimal("100.50"),
        "d": date(2025, 1, 15),
        "dt": datetime(2025, 1, 15, 12, 30, 0, 123456),
        "t": time(1, 2, 3, 4),
        "n": [None, True, 1, 1.5, "ü"],
    }
    text = dump_typed(value, "JS")
    assert text == genro_tytx.to_tytx(value)
    assert load_typed(text) == genro_tytx.from_tytx(text)
    assert load_typed(text)["dt"] == datetime(2025, 1, 15, 12, 30, 0, 123000, UTC)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (Decimal("1.5"), '"1.5::N"::JS'),
        ([Decimal("1.5")], '["1.5::N"]::JS'),
        ([], "[]"),
        ({"a": 1}, '{"a":1}'),
        ("ü", '"ü"'),
        (None, "null"),
    ],
)
def test_js_alone_and_without_types(value: Any, text: str) -> None:
    """A value that stands alone has the marker too; without typed values there is none."""
    assert dump_typed(value, "JS") == text
    assert load_typed(text) == value


def test_js_needs_its_package(without_tytx: None) -> None:
    """G32, G33: ImportError, with what to install, and only when it is needed."""
    for call in (lambda: dump_typed({}, "JS"), lambda: load_typed("{}::JS")):
        with pytest.raises(ImportError, match="pip install genro-tytx"):
            call()
    assert load_typed('{"a":1}') == {"a": 1}


def test_has_tytx() -> None:
    """G36: whether it can be imported."""
    found = importlib.util.find_spec("genro_tytx") is not None
    assert found == HAS_TYTX


def test_tytx_is_not_imported_before_it_is_needed() -> None:
    """It takes longer than all of simplews."""
    program = "import sys, simplews.websocket; print('genro_tytx' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.stdout.strip() == "False"
