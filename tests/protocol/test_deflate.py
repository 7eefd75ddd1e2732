"""Negotiation of permessage-deflate (RFC 7692 §7.1), both roles, and the header's grammar."""

from __future__ import annotations

import contextlib
from typing import NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from simplews.protocol.deflate import (
    Agreement,
    Deflate,
    answer_offers,
    make_offer,
    parse_extensions,
    read_answer,
)

PMD = "permessage-deflate"

# --------------------------------------------------------------------- grammar

WELL_FORMED = [
    ("", []),
    (",", []),
    (" , ,, ", []),
    ("foo", [("foo", [])]),
    ("foo, bar", [("foo", []), ("bar", [])]),
    (",foo,,bar,", [("foo", []), ("bar", [])]),
    ("foo,foo", [("foo", []), ("foo", [])]),
    ("foo; a", [("foo", [("a", None)])]),
    ("foo;a;b=1;a", [("foo", [("a", None), ("b", "1"), ("a", None)])]),
    ("\tfoo ;\ta = 1 , bar ", [("foo", [("a", "1")]), ("bar", [])]),
    ('foo; a="1"', [("foo", [("a", "1")])]),
    ('foo; a="\\1\\0"', [("foo", [("a", "10")])]),
    ("!#$%&'*+-.^_`|~09azAZ", [("!#$%&'*+-.^_`|~09azAZ", [])]),
]

MALFORMED = [
    ";",
    "; a",
    "foo;",
    "foo; ;a",
    "foo; =1",
    "foo; a=",
    'foo; a=""',
    "foo; a=b=c",
    "foo bar",
    "foo; a b",
    "foo; a=b c",
    "foo/1",
    "föö",
    "foo; a=ö",
    '"foo"',
    'foo; "a"',
    'foo; a="1',
    'foo; a=1"',
    'foo; a="',
    'foo; a="\\"',
    'foo; a="1" 2',
    'foo; a="1"2"',
    'foo; a="1 2"',  # after unquoting it must be a token, too
    'foo; a="1,2"',
    'foo; a="1;2"',
    'foo; a="1\\"2"',
    'foo; a="1\\\\2"',
    "foo; a='1,2'; ;",
]


@pytest.mark.parametrize(("value", "expected"), WELL_FORMED)
def test_well_formed_extensions_are_parsed(
    value: str, expected: list[tuple[str, list[tuple[str, str | None]]]]
) -> None:
    """RFC 6455 §9.1, quoted values included; empty elements of a list are nothing."""
    assert parse_extensions(value) == expected


@pytest.mark.parametrize("value", MALFORMED)
def test_malformed_extensions_are_refused(value: str) -> None:
    """A ValueError, for whoever has to fail the handshake."""
    with pytest.raises(ValueError):
        parse_extensions(value)


@given(st.text() | st.text(alphabet='ab ,;="\\\t'))
def test_no_text_raises_anything_but_value_error(value: str) -> None:
    """And the server, which declines instead, raises nothing at all."""
    with contextlib.suppress(ValueError):
        parse_extensions(value)
    answer_offers(value, Deflate())


tokens = st.text(alphabet="!#$%&'*+-.^_`|~09azAZ", min_size=1, max_size=5)
spaces = st.sampled_from(["", " ", "\t", "  "])


@given(st.data())
def test_every_way_of_writing_extensions_is_read(data: st.DataObject) -> None:
    """Spaces where the grammar has them, values quoted or not, characters escaped or not."""
    structure = data.draw(
        st.lists(
            st.tuples(tokens, st.lists(st.tuples(tokens, st.none() | tokens), max_size=3)),
            max_size=3,
        )
    )

    def space() -> str:
        return data.draw(spaces)

    items = []
    for name, params in structure:
        item = space() + name + space()
        for key, word in params:
            item += ";" + space() + key + space()
            if word is not None:
                if data.draw(st.booleans()):
                    escape = data.draw(st.booleans())
                    word = '"' + "".join("\\" + c if escape else c for c in word) + '"'
                item += "=" + space() + word + space()
        items.append(item)
    assert parse_extensions(",".join(items)) == structure


# -------------------------------------------------------------------- settings


@pytest.mark.parametrize(
    "wrong",
    [
        {"window_bits": 8},
        {"window_bits": 16},
        {"mem_level": 0},
        {"mem_level": 10},
        {"level": -1},
        {"level": 10},
        {"threshold": -1},
    ],
    ids=str,
)
def test_settings_that_zlib_cannot_have_are_refused(wrong: dict[str, int]) -> None:
    """zlib makes no raw stream with a window of 256 bytes, so 8 is not offered."""
    ((name, value),) = wrong.items()
    with pytest.raises(ValueError, match=rf"{name} must .*not {value}"):
        Deflate(**wrong)  # type: ignore[arg-type]


def test_settings_may_have_every_value_of_zlib() -> None:
    """9 to 15, 1 to 9, 0 to 9, and any threshold."""
    for bits in range(9, 16):
        Deflate(window_bits=bits, mem_level=1, level=0, threshold=0)
    for level in range(1, 10):
        Deflate(mem_level=level, level=level, threshold=10**9)


def test_settings_are_modest_and_stay_as_they_are() -> None:
    """The defaults of the documentation; connections share them."""
    settings = Deflate()
    assert settings == Deflate(256, 1, 5, 12, True)
    with pytest.raises(AttributeError):
        settings.level = 9  # type: ignore[misc]


# ---------------------------------------------------------------------- server


class Row(NamedTuple):
    offer: str
    answer: str | None  # what follows the extension's name
    agreed: tuple[int, int, bool, bool] | None = None
    settings: Deflate = Deflate()


NO_TAKEOVER = Deflate(context_takeover=False)
WIDE = Deflate(window_bits=15)
NARROW = Deflate(window_bits=9)

# local bits, remote bits, local takeover, remote takeover
PLAIN = (12, 15, True, True)
SERVER_12 = "; server_max_window_bits=12"

ANSWERS = [
    Row(PMD, SERVER_12, PLAIN),
    Row(PMD, "", (15, 15, True, True), WIDE),
    Row(PMD, "; server_max_window_bits=9", (9, 15, True, True), NARROW),
    # server_max_window_bits
    Row(f"{PMD}; server_max_window_bits=15", SERVER_12, PLAIN),
    Row(f"{PMD}; server_max_window_bits=15", "", (15, 15, True, True), WIDE),
    *(
        Row(
            f"{PMD}; server_max_window_bits={bits}",
            f"; server_max_window_bits={bits}",
            (bits, 15, True, True),
            WIDE,
        )
        for bits in range(9, 15)
    ),
    # client_max_window_bits, with and without a value
    Row(
        f"{PMD}; client_max_window_bits",
        SERVER_12 + "; client_max_window_bits=12",
        (12, 12, True, True),
    ),
    Row(f"{PMD}; client_max_window_bits", "", (15, 15, True, True), WIDE),
    *(
        Row(
            f"{PMD}; client_max_window_bits={bits}",
            f"; client_max_window_bits={bits}",
            (15, bits, True, True),
            WIDE,
        )
        for bits in range(8, 15)
    ),
    Row(f"{PMD}; client_max_window_bits=15", "", (15, 15, True, True), WIDE),
    Row(
        f"{PMD}; client_max_window_bits=10",
        SERVER_12 + "; client_max_window_bits=10",
        (12, 10, True, True),
    ),
    # takeover
    Row(
        f"{PMD}; server_no_context_takeover",
        "; server_no_context_takeover" + SERVER_12,
        (12, 15, False, True),
    ),
    Row(
        f"{PMD}; client_no_context_takeover",
        "; client_no_context_takeover" + SERVER_12,
        (12, 15, True, False),
    ),
    Row(
        PMD,
        "; server_no_context_takeover; client_no_context_takeover" + SERVER_12,
        (12, 15, False, False),
        NO_TAKEOVER,
    ),
    # everything at once, in any order
    Row(
        f"{PMD}; client_max_window_bits=11; server_no_context_takeover;"
        "server_max_window_bits=10 ;client_no_context_takeover",
        "; server_no_context_takeover; client_no_context_takeover"
        "; server_max_window_bits=10; client_max_window_bits=11",
        (10, 11, False, False),
    ),
    Row(f'{PMD}; server_max_window_bits="10"', "; server_max_window_bits=10", (10, 15, True, True)),
    Row(
        f'{PMD}; server_max_window_bits="1\\0"', "; server_max_window_bits=10", (10, 15, True, True)
    ),
    # several offers and other extensions
    Row(f"x-webkit-deflate-frame, {PMD}", SERVER_12, PLAIN),
    Row(f"{PMD}, x-webkit-deflate-frame", SERVER_12, PLAIN),
    Row(f",{PMD},", SERVER_12, PLAIN),
    Row(
        f"{PMD}; server_max_window_bits=10, {PMD}",
        "; server_max_window_bits=10",
        (10, 15, True, True),
    ),
]

# Each of these offers is declined: alone nothing is agreed, and with a good offer
# behind it that one is taken.
DECLINED = [
    # zlib cannot make it
    f"{PMD}; server_max_window_bits=8",
    # §7.1.2: 8 to 15, decimal, no leading zeroes
    *(
        f"{PMD}; {side}_max_window_bits={value}"
        for side in ("server", "client")
        for value in (
            "0",
            "7",
            "16",
            "08",
            "012",
            "-9",
            "+9",
            "9.0",
            "1e1",
            "x",
            "15x",
            "1_0",
            "0xa",
        )
    ),
    f"{PMD}; server_max_window_bits",
    f"{PMD}; client_max_window_bits=",
    f'{PMD}; client_max_window_bits=""',
    # §7.1.1: no values
    f"{PMD}; server_no_context_takeover=1",
    f"{PMD}; client_no_context_takeover=true",
    # §7: "contains an extension parameter not defined", "duplicate parameters"
    f"{PMD}; unknown",
    f"{PMD}; unknown=1",
    f"{PMD}; Server_No_Context_Takeover",
    f"{PMD}; server_no_context_takeover_",
    f"{PMD}; client_max_window_bits_x=10",
    f"{PMD}; server_no_context_takeover; server_no_context_takeover",
    f"{PMD}; client_no_context_takeover; client_no_context_takeover",
    f"{PMD}; client_max_window_bits; client_max_window_bits",
    f"{PMD}; client_max_window_bits=10; client_max_window_bits=10",
    f"{PMD}; server_max_window_bits=10; server_max_window_bits=11",
    # RFC 6455 §9.1: the grammar
    f"{PMD};",
    f"{PMD}; ; server_no_context_takeover",
    f"{PMD} server_no_context_takeover",
    f"{PMD}; =",
    f'{PMD}; client_max_window_bits="10,11"',
    f'{PMD}; x="a, {PMD}; b"',
    f'{PMD}; client_max_window_bits="1\\\\0"',
    # an escaped quote does not end the string
    f'{PMD}; x="\\""',
    f'{PMD}; x="a\\", {PMD}; y=b"',
    # not this extension
    "permessage-bzip2",
    "x-permessage-deflate",
    "permessage-deflate2",
    "foo; client_max_window_bits",
    "",
]


def agreement_of(row: Row) -> Agreement | None:
    return None if row.agreed is None else Agreement(*row.agreed, row.settings)


@pytest.mark.parametrize("row", ANSWERS, ids=lambda row: f"{row.settings.window_bits} {row.offer}")
def test_offer_is_answered(row: Row) -> None:
    """RFC 7692 §7.1: the header's value, and what it means for both directions."""
    answer = answer_offers(row.offer, row.settings)
    assert answer == (f"{PMD}{row.answer}", agreement_of(row))


@pytest.mark.parametrize("offer", DECLINED)
def test_offer_that_cannot_be_met_is_declined(offer: str) -> None:
    """RFC 7692 §7: it declines itself, never the connection."""
    assert answer_offers(offer, Deflate()) is None


@pytest.mark.parametrize("offer", DECLINED)
def test_declined_offer_leaves_the_next_one_alone(offer: str) -> None:
    """RFC 7692 §5: offers stand in the client's order of preference."""
    expected = (f"{PMD}; server_max_window_bits=10", Agreement(10, 15, True, True, Deflate()))
    good = f"{PMD}; server_max_window_bits=10"
    assert answer_offers(f"{offer}, {good}", Deflate()) == expected
    assert answer_offers(f"{offer}, {offer}, {good}, {PMD}", Deflate()) == expected


def test_offers_longer_than_anybodys_are_declined() -> None:
    """16 KiB of separators would take a hundred times as long as the rest of a handshake."""
    offers = f"{PMD}," + "," * (2048 - len(PMD) - 1)
    assert answer_offers(offers, Deflate()) is not None
    assert answer_offers(offers + ",", Deflate()) is None


def test_window_of_256_falls_back_to_the_next_offer() -> None:
    """zlib cannot make it, so the offer with it is declined (RELIABILITY, known traps)."""
    offer = f"{PMD}; server_max_window_bits=8, {PMD}; client_max_window_bits"
    answer = answer_offers(offer, Deflate())
    assert answer is not None
    assert answer[0] == f"{PMD}; server_max_window_bits=12; client_max_window_bits=12"


# ---------------------------------------------------------------------- client


def told(answer: str, settings: Deflate) -> Agreement:
    ((name, params),) = parse_extensions(PMD + answer)
    assert name == PMD
    return read_answer(params, settings)


@pytest.mark.parametrize(
    ("settings", "offer"),
    [
        (Deflate(), "client_max_window_bits"),
        (
            NO_TAKEOVER,
            "client_max_window_bits; client_no_context_takeover; server_no_context_takeover",
        ),
    ],
)
def test_offer_names_what_we_want(settings: Deflate, offer: str) -> None:
    """RFC 7692 §7.1: client_max_window_bits without a value, so that the server may choose."""
    assert make_offer(settings) == offer


@pytest.mark.parametrize(
    ("answer", "agreed", "settings"),
    [
        ("", (12, 15, True, True), Deflate()),
        ("", (15, 15, True, True), WIDE),
        ("; client_max_window_bits=15", (12, 15, True, True), Deflate()),
        ("; client_max_window_bits=9", (9, 15, True, True), Deflate()),
        # We must not send a larger window, cannot make it, and so do not compress.
        ("; client_max_window_bits=8", (8, 15, True, True), Deflate()),
        ("; server_max_window_bits=8", (12, 8, True, True), Deflate()),
        ("; server_max_window_bits=15", (12, 15, True, True), Deflate()),
        ('; server_max_window_bits="9"', (12, 9, True, True), Deflate()),
        ("; server_no_context_takeover", (12, 15, True, False), Deflate()),
        ("; client_no_context_takeover", (12, 15, False, True), Deflate()),
        ("; server_no_context_takeover", (12, 15, False, False), NO_TAKEOVER),
        (
            "; client_max_window_bits=10; server_max_window_bits=11"
            "; client_no_context_takeover; server_no_context_takeover",
            (10, 11, False, False),
            Deflate(),
        ),
    ],
)
def test_answer_is_understood(
    answer: str, agreed: tuple[int, int, bool, bool], settings: Deflate
) -> None:
    """RFC 7692 §7.1: what the server may say, asked or not."""
    assert told(answer, settings) == Agreement(*agreed, settings)


@pytest.mark.parametrize(
    "answer",
    [
        "; client_max_window_bits",  # legal in an offer only
        "; server_max_window_bits",
        "; client_max_window_bits=7",
        "; client_max_window_bits=16",
        "; server_max_window_bits=010",
        "; server_no_context_takeover=1",
        "; client_no_context_takeover=1",
        "; unknown",
        "; server_max_window_bits=10; server_max_window_bits=10",
        "; client_no_context_takeover; client_no_context_takeover",
    ],
)
def test_wrong_answer_is_refused(answer: str) -> None:
    """RFC 7692 §7: "MUST _Fail the WebSocket Connection_"; the caller does."""
    with pytest.raises(ValueError):
        told(answer, Deflate())


def test_answer_that_does_not_grant_what_was_asked_is_refused() -> None:
    """RFC 7692 §7.1.1.1: we asked for messages that stand alone."""
    with pytest.raises(ValueError, match="server_no_context_takeover"):
        told("", NO_TAKEOVER)


# ----------------------------------------------------------------- both together

settings_drawn = st.builds(Deflate, window_bits=st.integers(9, 15), context_takeover=st.booleans())


@given(client=settings_drawn, server=settings_drawn)
def test_both_sides_agree_on_the_same(client: Deflate, server: Deflate) -> None:
    """Nobody sends with a larger window, or with more context, than the other keeps."""
    answer = answer_offers(f"{PMD}; {make_offer(client)}", server)
    assert answer is not None
    theirs = answer[1]
    ((_, params),) = parse_extensions(answer[0])
    ours = read_answer(params, client)
    assert ours.local_bits <= theirs.remote_bits and theirs.local_bits <= ours.remote_bits
    assert ours.local_bits <= client.window_bits and theirs.local_bits <= server.window_bits
    assert theirs.remote_takeover or not ours.local_takeover
    assert ours.remote_takeover or not theirs.local_takeover
    if not client.context_takeover or not server.context_takeover:
        assert not (ours.local_takeover or theirs.local_takeover)
