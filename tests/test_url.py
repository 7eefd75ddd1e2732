"""`parse_url`: what a WebSocket URL means (RFC 6455 §3), and what none is."""

from __future__ import annotations

import re
from typing import NamedTuple

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from simplews.errors import ConnectionError, InvalidURL
from simplews.link.dial import parse_url
from simplews.protocol.handshake import ClientHandshake, parse_request


class Row(NamedTuple):
    url: str
    host: str
    port: int
    host_header: str
    target: str


ADDRESSES = [
    Row("ws://example.org", "example.org", 80, "example.org", "/"),
    Row("ws://example.org/", "example.org", 80, "example.org", "/"),
    Row("wss://example.org", "example.org", 443, "example.org", "/"),
    Row("ws://example.org/chat?room=1", "example.org", 80, "example.org", "/chat?room=1"),
    Row("ws://example.org?room=1", "example.org", 80, "example.org", "/?room=1"),
    Row("ws://example.org/?", "example.org", 80, "example.org", "/"),
    # RFC 6455 §4.1: the port is named unless it is the scheme's
    Row("ws://example.org:80/", "example.org", 80, "example.org", "/"),
    Row("ws://example.org:443/", "example.org", 443, "example.org:443", "/"),
    Row("wss://example.org:443/", "example.org", 443, "example.org", "/"),
    Row("wss://example.org:80/", "example.org", 80, "example.org:80", "/"),
    Row("ws://example.org:8765/", "example.org", 8765, "example.org:8765", "/"),
    Row("ws://example.org:/", "example.org", 80, "example.org", "/"),
    Row("ws://example.org:65535/", "example.org", 65535, "example.org:65535", "/"),
    # cases
    Row("WS://EXAMPLE.org/Chat", "example.org", 80, "example.org", "/Chat"),
    Row("Wss://example.ORG", "example.org", 443, "example.org", "/"),
    # hosts
    Row("ws://localhost:1/", "localhost", 1, "localhost:1", "/"),
    Row("ws://my_service/", "my_service", 80, "my_service", "/"),
    Row("ws://example.org./", "example.org.", 80, "example.org.", "/"),
    Row("ws://127.0.0.1:8000/", "127.0.0.1", 8000, "127.0.0.1:8000", "/"),
    Row("ws://[::1]/", "::1", 80, "[::1]", "/"),
    Row("ws://[::1]:8000/", "::1", 8000, "[::1]:8000", "/"),
    Row("ws://[2001:DB8::1]/", "2001:db8::1", 80, "[2001:db8::1]", "/"),
    Row("ws://[::ffff:127.0.0.1]:1/", "::ffff:127.0.0.1", 1, "[::ffff:127.0.0.1]:1", "/"),
    # RFC 6874 §2, §4: the zone says which of our interfaces, and is nobody else's business
    Row("ws://[fe80::1%25eth0]:8000/", "fe80::1%eth0", 8000, "[fe80::1]:8000", "/"),
    Row("ws://[fe80::1%eth0]/", "fe80::1%eth0", 80, "[fe80::1]", "/"),
    Row("ws://bücher.example/", "xn--bcher-kva.example", 80, "xn--bcher-kva.example", "/"),
    Row("ws://BÜCHER.example:1/", "xn--bcher-kva.example", 1, "xn--bcher-kva.example:1", "/"),
    Row("ws://xn--bcher-kva.example/", "xn--bcher-kva.example", 80, "xn--bcher-kva.example", "/"),
    Row("ws://" + "a" * 63 + ":8000/", "a" * 63, 8000, "a" * 63 + ":8000", "/"),
    # what is not ASCII or not allowed is encoded, what is encoded is left alone
    Row("ws://h/ü/€", "h", 80, "h", "/%C3%BC/%E2%82%AC"),
    Row("ws://h/?x=ü&y=€", "h", 80, "h", "/?x=%C3%BC&y=%E2%82%AC"),
    Row("ws://h/a%20b%2F%25", "h", 80, "h", "/a%20b%2F%25"),
    Row("ws://h/%zz%", "h", 80, "h", "/%zz%"),
    Row('ws://h/"<>\\^`{|}', "h", 80, "h", "/%22%3C%3E%5C%5E%60%7B%7C%7D"),
    Row("ws://h/?a?b/c:@&=+$,;", "h", 80, "h", "/?a?b/c:@&=+$,;"),
    Row("ws://h//a/../b", "h", 80, "h", "//a/../b"),
    Row("ws://h/a;b=c", "h", 80, "h", "/a;b=c"),
]


@pytest.mark.parametrize("row", ADDRESSES, ids=lambda row: row.url)
def test_url_leads_to_an_address(row: Row) -> None:
    """Where to connect, and what to ask for there."""
    address = parse_url(row.url)
    assert (address.host, address.port) == (row.host, row.port)
    assert (address.host_header, address.target) == (row.host_header, row.target)
    assert address.secure is row.url.lower().startswith("wss")
    assert address.url == row.url
    assert address.path is None and address.credentials is None


@pytest.mark.parametrize(
    ("url", "credentials"),
    [
        ("ws://user@h/", ("user", "")),
        ("ws://user:word@h/", ("user", "word")),
        ("ws://user:@h/", ("user", "")),
        ("ws://user:wo:rd@h/", ("user", "wo:rd")),
        ("ws://us%40er:w%3Ard%2F@h:1/", ("us@er", "w:rd/")),
        ("ws://%C3%BC:%E2%82%AC@h/", ("ü", "€")),
        ("ws://ü:€@h/", ("ü", "€")),
    ],
)
def test_user_and_password_are_taken_out(url: str, credentials: tuple[str, str]) -> None:
    """They become Basic authentication, and never a part of Host."""
    address = parse_url(url)
    assert address.credentials == credentials
    assert "@" not in address.host_header + address.target


@pytest.mark.parametrize(
    ("url", "path", "target"),
    [
        ("ws+unix:/run/app.sock", "/run/app.sock", "/"),
        ("ws+unix:/run/app.sock:", "/run/app.sock", "/"),
        ("ws+unix:/run/app.sock:/chat", "/run/app.sock", "/chat"),
        ("ws+unix:/run/app.sock:/chat?room=1&x=ü", "/run/app.sock", "/chat?room=1&x=%C3%BC"),
        ("ws+unix:/run/app.sock?room=1", "/run/app.sock", "/?room=1"),
        ("ws+unix:///run/app.sock:/a:b", "/run/app.sock", "/a:b"),
        ("ws+unix:app.sock:/chat", "app.sock", "/chat"),
        ("WS+UNIX:/Run/App.sock", "/Run/App.sock", "/"),
    ],
)
def test_url_of_a_unix_socket(url: str, path: str, target: str) -> None:
    """The path of the socket ends at the first colon."""
    address = parse_url(url)
    assert (address.path, address.target) == (path, target)
    assert (address.secure, address.host_header) == (False, "localhost")
    assert address.place == path


def test_place_names_host_and_port_for_messages() -> None:
    """Also where the port is the scheme's."""
    assert parse_url("wss://example.org/x").place == "example.org:443"
    assert parse_url("ws://[::1]/").place == "[::1]:80"


INVALID = [
    # (URL, what the message says)
    ("", "write ws://host:port/path"),
    ("example.org", "write ws://host:port/path"),
    ("example.org:8000", "write 'ws://example.org:8000'"),
    ("//example.org", "write ws://host:port/path"),
    ("/chat", "write ws://host:port/path"),
    ("ftp://example.org", "write ws://host:port/path"),
    ("http://example.org/x", "write 'ws://example.org/x'"),
    ("https://example.org/x", "write 'wss://example.org/x'"),
    ("HTTP://example.org/x", "write 'ws://example.org/x'"),
    ("ws:", "has no host"),
    ("ws://", "has no host"),
    ("ws:///chat", "has no host"),
    ("ws:/example.org", "has no host"),
    ("ws:example.org", "has no host"),
    ("ws://:8000/", "has no host"),
    ("ws://user@/", "has no host"),
    ("ws://?x", "has no host"),
    ("ws://h:port/", "is not a URL"),
    ("ws://h:65536/", "is not a URL"),
    ("ws://h:-1/", "is not a URL"),
    ("ws://h:1:2/", "is not a URL"),
    ("ws://[::1/", "is not a URL"),
    ("ws://::1]/", "is not a URL"),
    ("ws://[example.org]/", "is not a URL"),
    ("ws://[]/", "is not a URL"),
    ("ws://h/#top", "has a fragment"),
    ("ws://h#", "has a fragment"),
    ("ws://h/?x#", "has a fragment"),
    ("ws+unix:/s:/x#y", "has a fragment"),
    ("ws+unix:", "names no socket"),
    ("ws+unix:?x", "names no socket"),
    ("ws+unix::/chat", "names no socket"),
    ("ws+unix:/run/app.sock:chat", "does not begin with '/'"),
    ("ws://h/a b", "percent-encode it"),
    (" ws://h/", "percent-encode it"),
    ("ws://h/ ", "percent-encode it"),
    ("ws://h/\r\nX:y", "percent-encode it"),
    ("ws://h/\n", "percent-encode it"),
    ("ws://h/\0", "percent-encode it"),
    ("ws://h/\x7f", "percent-encode it"),
    ("ws://h\t/", "percent-encode it"),
    ("ws://a..b/", "is not a valid name"),
    ("ws://.a/", "is not a valid name"),
    ("ws://" + "a" * 64 + "/", "is not a valid name"),
    # what no URL may have in a host (RFC 3986 §3.2.2) does not reach the Host field
    *((f"ws://a{char}b/", "is not a valid name") for char in '"<>\\^`{|}'),
    ("ws://a\u00a0b/", "is not a valid name"),
    ("ws://a\u2028b/", "is not a valid name"),
    ("ws://\ud800/", "surrogate"),
    ("ws://[v1.x:y]/", "is not a valid IPv6 address"),
    ("ws://h/\ud800", "surrogate"),
    ("ws://h/?\udfff", "surrogate"),
    ("ws://\udcff@h/", "surrogate"),
    ("ws+unix:/s:/\ud800", "surrogate"),
]


@pytest.mark.parametrize(("url", "message"), INVALID, ids=lambda text: ascii(text))
def test_what_is_no_websocket_url_is_refused(url: str, message: str) -> None:
    """An InvalidURL, which is a ConnectionError and a ValueError, and says how to write it."""
    with pytest.raises(InvalidURL, match=re.escape(message)) as caught:
        parse_url(url)
    assert isinstance(caught.value, ConnectionError) and isinstance(caught.value, ValueError)
    assert caught.value.status_code is None


# Pieces of URLs, in any order: most of them are none, and some are nearly one.
odd_urls = st.lists(
    st.sampled_from(
        ["ws:", "wss:", "ws+unix:", "http:", "//", "::1", "h", "a.example", "80", "%25"]
    )
    | st.sampled_from("/:@?#[]%.6ü．\u2100\u00a0\ud800")
    | st.text(max_size=5),
    max_size=8,
).map("".join)


@settings(deadline=None)
@given(
    st.text()
    | odd_urls
    | odd_urls.map("ws://h/".__add__)
    | odd_urls.map("ws://".__add__)
    | odd_urls.map("ws+unix:/s:/".__add__)
)
@example("ws://a\u2100b/")  # urlsplit itself refuses what normalizes to "a/cb"
@example("ws://[v1.x:y]/")
@example("ws://h:\u0660/")
def test_no_text_raises_anything_but_invalid_url(url: str) -> None:
    """And what is taken makes a request that our own server reads."""
    try:
        address = parse_url(url)
    except InvalidURL:
        return
    request = parse_request(ClientHandshake(address.host_header, address.target).request)
    assert request.host == address.host_header
    assert request.target == address.target
    assert 0 <= address.port <= 65535
