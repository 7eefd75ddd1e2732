"""The small values that applications see."""

from __future__ import annotations

import copy
import json
import pickle
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from simplews.errors import ProtocolError
from simplews.types import (
    _USUAL_NAMES,
    SHARED_NAMES,
    URL,
    BinaryMessage,
    Close,
    CloseCode,
    Ending,
    HandshakeRequest,
    Headers,
    HeadersLike,
    MessageType,
    MultiMap,
    Response,
    State,
    TextMessage,
    header_pairs,
)

# -------------------------------------------------------------------- messages


def test_states_are_those_of_the_rfc_in_their_order() -> None:
    """RFC 6455 §4.1, §7.1; a later one is greater."""
    assert [state.name for state in sorted(State)] == ["CONNECTING", "OPEN", "CLOSING", "CLOSED"]


def test_message_types_have_the_numbers_of_the_opcodes() -> None:
    """RFC 6455 §11.8; aiohttp.WSMsgType has the same."""
    numbers = {kind.name: kind.value for kind in MessageType}
    assert numbers == {
        "CONTINUATION": 0,
        "TEXT": 1,
        "BINARY": 2,
        "CLOSE": 8,
        "PING": 9,
        "PONG": 10,
        "ERROR": 258,
    }


def test_text_message_is_its_text() -> None:
    """A str, with what frameworks' messages have."""
    message = TextMessage('{"a": [1, "ü"]}')
    assert message == '{"a": [1, "ü"]}' and isinstance(message, str)
    assert message.type is MessageType.TEXT
    assert message.data is message
    assert message.json() == {"a": [1, "ü"]}
    with pytest.raises(json.JSONDecodeError):
        TextMessage("no").json()


def test_binary_message_is_its_bytes() -> None:
    """Bytes, with what frameworks' messages have."""
    message = BinaryMessage(b'{"a": 1}')
    assert message == b'{"a": 1}' and isinstance(message, bytes)
    assert message.type is MessageType.BINARY
    assert message.data is message
    assert message.json() == {"a": 1}


# --------------------------------------------------------------------- closing


@pytest.mark.parametrize(
    ("close", "text"),
    [
        (Close(1000), "1000 (normal closure)"),
        (Close(1001, "bye"), "1001 (going away) 'bye'"),
        (Close(1005), "1005 (no status received)"),
        (Close(1006), "1006 (abnormal closure)"),
        (Close(1009), "1009 (message too big)"),
        (Close(1014), "1014 (bad gateway)"),
        (Close(3000), "3000 (registered)"),
        (Close(3999), "3999 (registered)"),
        (Close(4000, "it's"), '4000 (application) "it\'s"'),
        (Close(4999), "4999 (application)"),
        (Close(CloseCode.GOING_AWAY), "1001 (going away)"),
        (Close(1000, "a\nb"), "1000 (normal closure) 'a\\nb'"),
    ],
)
def test_close_says_its_code_name_and_reason(close: Close, text: str) -> None:
    """One line, whatever the peer has written into it."""
    assert str(close) == text


def test_every_registered_close_code_has_its_name() -> None:
    """RFC 6455 §7.4.1 and the registry; 1004 has no meaning and never occurs."""
    codes = [code for code in range(1000, 1016) if code != 1004]
    names = {code: str(Close(code)).partition("(")[2].rstrip(")") for code in codes}
    assert names == {
        1000: "normal closure",
        1001: "going away",
        1002: "protocol error",
        1003: "unsupported data",
        1005: "no status received",
        1006: "abnormal closure",
        1007: "invalid payload data",
        1008: "policy violation",
        1009: "message too big",
        1010: "mandatory extension",
        1011: "internal error",
        1012: "service restart",
        1013: "try again later",
        1014: "bad gateway",
        1015: "TLS handshake failed",
    }


def test_close_code_is_a_number() -> None:
    """wsproto's enum, which compares and prints as one."""
    assert CloseCode.NORMAL_CLOSURE == 1000
    assert Close(CloseCode.NORMAL_CLOSURE) == Close(1000)


ENDINGS = [
    (
        Ending("peer", sent=Close(1001), received=Close(1001, "restart")),
        (1001, "restart", True),
        "the peer closed the connection with 1001 (going away) 'restart'; "
        "we answered 1001 (going away)",
    ),
    (
        Ending("peer", received=Close(1005)),
        (1005, "", True),
        "the peer closed the connection with 1005 (no status received)",
    ),
    (
        Ending("peer", sent=Close(4001), received=Close(4001)),
        (4001, "", False),
        "the peer closed the connection with 4001 (application); we answered 4001 (application)",
    ),
    (
        Ending("us", sent=Close(1000), received=Close(1000)),
        (1000, "", True),
        "we closed the connection with 1000 (normal closure); "
        "the peer answered 1000 (normal closure)",
    ),
    (
        Ending("us", sent=Close(1000, "done")),
        (1000, "done", True),
        "we closed the connection with 1000 (normal closure) 'done'; no Close came back",
    ),
    (
        Ending("us", sent=Close(1011), why="no Pong within 20 s"),
        (1011, "", False),
        "we closed the connection with 1011 (internal error) because no Pong within 20 s; "
        "no Close came back",
    ),
    (
        Ending("lost", why="the peer closed TCP without a Close frame"),
        (1006, "the peer closed TCP without a Close frame", False),
        "the connection was lost without a closing handshake (1006): "
        "the peer closed TCP without a Close frame",
    ),
    # whoever was first counts, also when both have sent
    (
        Ending("us", sent=Close(1008, "ours"), received=Close(4000, "theirs")),
        (1008, "ours", False),
        "we closed the connection with 1008 (policy violation) 'ours'; "
        "the peer answered 4000 (application) 'theirs'",
    ),
]


@pytest.mark.parametrize(("ending", "values", "text"), ENDINGS)
def test_ending_tells_who_ended_the_connection(
    ending: Ending, values: tuple[int, str, bool], text: str
) -> None:
    """Code and reason of the side that was first, and both in one sentence."""
    assert (ending.code, ending.reason, ending.normal) == values
    assert ending.explain() == text


def test_ending_by_a_violation_says_what_was_wrong_once() -> None:
    """Its reason went out with our Close; nobody waits for another Close."""
    failure = ProtocolError(1009, "message of 5 bytes exceeds the limit of 4 bytes")
    sent = Close(1009, failure.reason)
    text = Ending("us", sent=sent, why=failure.reason, cause=failure).explain()
    assert text.count("exceeds the limit") == 1
    assert "no Close came back" not in text


@pytest.mark.parametrize("by", ["peer", "us", "lost"])
def test_ending_without_a_frame_is_abnormal(by: Any) -> None:
    """RFC 6455 §7.1.5: 1006 when there was no Close."""
    assert Ending(by).code == 1006


# --------------------------------------------------------------- header fields


@pytest.mark.parametrize(
    ("fields", "pairs"),
    [
        (None, []),
        ({}, []),
        ([], []),
        ({"X": "y"}, [("X", "y")]),
        ([("X", "y"), ("x", "z")], [("X", "y"), ("x", "z")]),
        ([(b"X", b"y"), ("Z", b"\xfc")], [("X", "y"), ("Z", "ü")]),
        # as it comes from a request or a response, to be passed on: nothing is lost
        (Headers([("X", "y"), ("x", "z")]), [("X", "y"), ("x", "z")]),
        (iter([("X", "y")]), [("X", "y")]),
        ({"X": "", "Y": " \ty\t "}, [("X", ""), ("Y", "y")]),
        ({"!#$%&'*+-.^_`|~09azAZ": "a\tb \xff"}, [("!#$%&'*+-.^_`|~09azAZ", "a\tb \xff")]),
    ],
)
def test_header_fields_of_every_shape_become_pairs(
    fields: HeadersLike | None, pairs: list[tuple[str, str]]
) -> None:
    """A mapping, or pairs of str or bytes; white space around a value is none of it."""
    assert header_pairs(fields) == pairs


CONTROLS = [chr(code) for code in (*range(9), *range(10, 32), 127)]


@pytest.mark.parametrize(
    "name",
    ["", " ", "X ", " X", "X Y", "X:", "X\r\nY", "X\n", "X\0", "Ü", "(X)", "X/Y", b"\xfc", b"X\r"],
)
def test_header_name_is_a_token(name: str | bytes) -> None:
    """RFC 9110 §5.1."""
    with pytest.raises(ValueError, match="is not a token"):
        header_pairs([(name, "y")])


@pytest.mark.parametrize("control", CONTROLS, ids=ascii)
@pytest.mark.parametrize("place", ["{}", "a{}b", "{}b", "a{}"])
def test_header_value_has_no_control_characters(control: str, place: str) -> None:
    """RFC 9110 §5.5: CR, LF and NUL smuggle, the others are refused by peers; a tab is legal."""
    value = place.format(control)
    for form in (value, value.encode("latin-1")):
        with pytest.raises(ValueError, match="'X'"):
            header_pairs([("X", form)])


def test_header_value_is_latin_1() -> None:
    """RFC 9110 §5.5; the error says what to do instead."""
    with pytest.raises(ValueError, match="percent-encode it"):
        header_pairs({"X": "€"})


@pytest.mark.parametrize("pair", [("X", 1), (1, "X"), ("X", None), (None, "X")])
def test_header_is_text(pair: Any) -> None:
    """A number is a mistake, not a text."""
    with pytest.raises(TypeError, match="must be str or bytes, not"):
        header_pairs([pair])


@settings(deadline=None)
@given(st.lists(st.tuples(st.text(max_size=8), st.text(max_size=8))))
def test_pairs_that_pass_cannot_smuggle(pairs: list[tuple[str, str]]) -> None:
    """What is written is as many lines as there are pairs, each a name and a value."""
    try:
        checked = header_pairs(pairs)
    except ValueError:
        return
    lines = "".join(f"{name}: {value}\r\n" for name, value in checked).encode("latin-1")
    assert lines.splitlines() == [f"{n}: {v}".encode("latin-1") for n, v in checked]
    assert len(lines.splitlines()) == len(pairs)


def test_multimap_keeps_several_values() -> None:
    """The first by its name, all with `getlist`, every pair in its order."""
    values = MultiMap([("a", "1"), ("b", "2"), ("a", "3")])
    assert values["a"] == "1"
    assert values.getlist("a") == ["1", "3"]
    assert values.getlist("c") == []
    assert values.get("c") is None and values.get("a") == "1"
    assert values.multi_items() == [("a", "1"), ("b", "2"), ("a", "3")]
    assert list(values) == ["a", "b"] and len(values) == 2
    assert "a" in values and "A" not in values and 1 not in values
    assert dict(values) == {"a": "1", "b": "2"}
    assert values == {"a": "1", "b": "2"}
    with pytest.raises(KeyError):
        values["c"]
    assert repr(values) == "MultiMap([('a', '1'), ('b', '2'), ('a', '3')])"
    assert not MultiMap() and not list(MultiMap())


def test_multimap_cannot_be_changed_through_what_it_gives_out() -> None:
    """It is read-only; its lists are copies."""
    values = MultiMap([("a", "1")])
    values.getlist("a").append("2")
    values.multi_items().append(("b", "2"))
    assert values.getlist("a") == ["1"] and values.multi_items() == [("a", "1")]
    with pytest.raises(TypeError):
        values["a"] = "2"  # type: ignore[index]


def test_header_names_are_compared_without_case() -> None:
    """RFC 9110 §5.1; they are kept as they came."""
    headers = Headers([("Set-Cookie", "a"), ("SET-COOKIE", "b"), ("Host", "h")])
    assert headers["set-cookie"] == headers["Set-Cookie"] == "a"
    assert headers.getlist("sEt-CoOkIe") == ["a", "b"]
    assert "HOST" in headers and headers.get("x", "y") == "y"
    assert headers.multi_items()[1] == ("SET-COOKIE", "b")
    assert len(headers) == 2


# -------------------------------------------------------------------------- URL


def test_url_is_a_text_that_knows_its_parts() -> None:
    """A str: it can be logged, compared and joined."""
    url = URL("wss://us%40er:w%3Ard@Example.ORG:8443/a%20b?x=1&y#top")
    assert url == "wss://us%40er:w%3Ard@Example.ORG:8443/a%20b?x=1&y#top"
    assert isinstance(url, str)
    assert (url.scheme, url.is_secure) == ("wss", True)
    assert url.netloc == "us%40er:w%3Ard@Example.ORG:8443"
    assert url.hostname == url.host == "example.org"
    assert (url.port, url.path, url.query, url.fragment) == (8443, "/a%20b", "x=1&y", "top")
    assert (url.username, url.password) == ("us@er", "w:rd")


@pytest.mark.parametrize(
    ("text", "port", "secure"),
    [
        ("ws://h", 80, False),
        ("http://h", 80, False),
        ("wss://h", 443, True),
        ("https://h", 443, True),
        ("ws://h:0", 0, False),
        ("ws://h:", 80, False),
        ("ftp://h", None, False),
        ("/path", None, False),
    ],
)
def test_url_knows_the_ports_of_its_schemes(text: str, port: int | None, secure: bool) -> None:
    """RFC 6455 §3."""
    assert (URL(text).port, URL(text).is_secure) == (port, secure)


def test_url_parts_that_are_missing() -> None:
    """None for a host or a user, an empty text for the rest."""
    url = URL("/path")
    assert (url.hostname, url.username, url.password) == (None, None, None)
    assert (url.scheme, url.netloc, url.query, url.fragment) == ("", "", "", "")
    assert URL("ws://[::1]:8000/").hostname == "::1"


@pytest.mark.parametrize("text", ["ws://h:65536", "ws://h:x"])
def test_url_with_a_wrong_port_says_so_when_asked(text: str) -> None:
    """ValueError, as `urllib` raises it."""
    with pytest.raises(ValueError):
        _ = URL(text).port


def test_url_with_other_parts_is_another_url() -> None:
    """The parts of `urllib.parse.SplitResult`; not `str.replace`."""
    url = URL("ws://h/a?x")
    other = url.replace(scheme="wss", path="/b", query="")
    assert other == "wss://h/b" and isinstance(other, URL) and other.is_secure
    assert url == "ws://h/a?x"


def test_url_can_be_copied_and_pickled() -> None:
    """With its parts."""
    url = URL("ws://h:1/a")
    for other in (copy.copy(url), copy.deepcopy(url), pickle.loads(pickle.dumps(url))):
        assert other == url and other.port == 1


# --------------------------------------------------------------- the handshake


def test_request_knows_the_parts_of_its_target() -> None:
    """Path and parameters are percent-decoded, the target and the query are as sent."""
    request = HandshakeRequest("h", "/a%20b/%C3%BC?x=1&y=%26&x=&z=a+b", Headers())
    assert request.path == "/a b/ü"
    assert request.query == "x=1&y=%26&x=&z=a+b"
    assert request.query_params.multi_items() == [("x", "1"), ("y", "&"), ("x", ""), ("z", "a b")]
    assert (request.method, request.subprotocols, request.remote_address) == ("GET", (), None)


@pytest.mark.parametrize(
    ("target", "path", "query"),
    [
        ("/", "/", ""),
        ("/a?", "/a", ""),
        ("/a?b?c", "/a", "b?c"),
        ("/%3F?x", "/?", "x"),
        ("*", "*", ""),
    ],
)
def test_query_begins_at_the_first_question_mark(target: str, path: str, query: str) -> None:
    """One that is encoded belongs to the path."""
    request = HandshakeRequest("h", target, Headers())
    assert (request.path, request.query) == (path, query)


@settings(deadline=None)
@given(st.text(alphabet=st.characters(min_codepoint=0x21, max_codepoint=0x7E)))
def test_no_target_makes_its_parts_raise(target: str) -> None:
    """They are read by applications, which expect no errors of ours."""
    request = HandshakeRequest("h", "/" + target, Headers())
    assert request.path and request.query is not None
    request.query_params.multi_items()


def test_request_can_be_given_an_address() -> None:
    """A copy; the request itself does not change."""
    request = HandshakeRequest("h", "/", Headers())
    assert request.with_address(("127.0.0.1", 1)).remote_address == ("127.0.0.1", 1)
    assert request.remote_address is None


def test_response_is_empty_by_default() -> None:
    """200, no header fields, no body."""
    assert Response() == Response(200, {}, b"")


def test_usual_names_of_header_fields_are_as_good_as_any_other() -> None:
    """A name that is shared is compared without case, too; one that is not stays as it is."""
    assert all(lower == name.lower() for name, lower in _USUAL_NAMES.items())
    for name in (*_USUAL_NAMES, "X-Of-Ours", "sec-webSocket-KEY"):
        headers = Headers([(name, "1"), ("other", "2"), (name.upper(), "3")])
        assert headers[name.lower()] == headers[name.upper()] == "1"
        assert headers.getlist(name) == ["1", "3"]
        assert headers.repeats
        assert SHARED_NAMES.get(name, name) == name
