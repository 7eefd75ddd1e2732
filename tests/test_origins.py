"""Which pages may connect (RFC 6455 §10.2): every rule against every kind of Origin."""

from __future__ import annotations

import re
from typing import Any

import pytest

from simplews.origins import Origins, check_origin, check_rules
from simplews.protocol.handshake import Refusal
from simplews.types import HandshakeRequest, Headers


def request(
    origin: str | None, host: str = "example.org", cookie: str | None = None
) -> HandshakeRequest:
    fields = [("Host", host)]
    if origin is not None:
        fields.append(("Origin", origin))
    if cookie is not None:
        fields.append(("Cookie", cookie))
    return HandshakeRequest(host=host, target="/", headers=Headers(fields))


def allowed(
    origin: str | None,
    origins: Origins,
    *,
    guard_cookies: bool = True,
    host: str = "example.org",
    cookie: str | None = None,
) -> bool:
    try:
        check_origin(request(origin, host, cookie), origins, guard_cookies=guard_cookies)
    except Refusal as exc:
        assert exc.response.status == 403
        return False
    return True


PAGE = "https://example.org"
SUBDOMAINS = re.compile(r"https://[a-z]+\.example\.org")


@pytest.mark.parametrize(
    ("origins", "origin", "expected"),
    [
        # one string
        (PAGE, PAGE, True),
        (PAGE, "https://evil.example", False),
        (PAGE, "http://example.org", False),
        (PAGE, "https://example.org:8443", False),
        (PAGE, "https://example.org.evil.example", False),
        (PAGE, "https://example.org/", False),
        (PAGE, "", False),
        (PAGE, "null", False),
        (PAGE, None, False),
        # several
        ([PAGE, "https://b.example"], PAGE, True),
        ([PAGE, "https://b.example"], "https://b.example", True),
        ([PAGE, "https://b.example"], "https://c.example", False),
        ((PAGE,), PAGE, True),
        ([], PAGE, False),
        ([], None, False),
        # None among them: no Origin at all, as from programs
        ([PAGE, None], None, True),
        ([None], None, True),
        ([None], PAGE, False),
        ([None], "null", False),
        ([None], "", False),
        # any
        ("*", PAGE, True),
        ("*", "null", True),
        ("*", None, True),
        (["*"], PAGE, True),
        (["*"], None, False),
        (["*", None], None, True),
        # a pattern has to match all of it
        (SUBDOMAINS, "https://a.example.org", True),
        (SUBDOMAINS, "https://a.example.org.evil.example", False),
        (SUBDOMAINS, "https://evil.example/https://a.example.org", False),
        (SUBDOMAINS, "https://a.example.org\n", False),
        (SUBDOMAINS, None, False),
        ([PAGE, SUBDOMAINS], PAGE, True),
        ([PAGE, SUBDOMAINS], "https://b.example.org", True),
        ([PAGE, SUBDOMAINS], "https://b.example", False),
        ("null", "null", True),
    ],
)
@pytest.mark.parametrize("cookie", [None, "session=1"])
@pytest.mark.parametrize("guard_cookies", [True, False])
def test_rules_decide_alone(
    origins: Origins, origin: str | None, expected: bool, cookie: str | None, guard_cookies: bool
) -> None:
    """Who gives `origins` is asked no further, cookies or not."""
    assert allowed(origin, origins, guard_cookies=guard_cookies, cookie=cookie) is expected


@pytest.mark.parametrize(
    ("origin", "host"),
    [
        (None, "example.org"),  # no browser
        ("https://example.org", "example.org"),
        ("https://example.org", "EXAMPLE.org"),
        ("https://EXAMPLE.org", "example.org"),
        ("https://example.org", "example.org:443"),
        ("https://example.org:443", "example.org"),
        ("http://example.org", "example.org"),
        ("http://example.org", "example.org:80"),
        ("http://localhost:8000", "localhost:8000"),
        ("http://127.0.0.1:8000", "127.0.0.1:8000"),
        ("http://[::1]:8000", "[::1]:8000"),
    ],
)
def test_page_of_the_same_host_may_use_its_cookies(origin: str | None, host: str) -> None:
    """Without `origins`, nothing but a foreign page with cookies is refused."""
    assert allowed(origin, None, host=host, cookie="session=1")


@pytest.mark.parametrize(
    ("origin", "host"),
    [
        ("https://evil.example", "example.org"),
        ("https://example.org.evil.example", "example.org"),
        ("https://www.example.org", "example.org"),
        ("https://example.org", "example.org:8443"),
        ("https://example.org:8443", "example.org"),
        ("http://localhost:3000", "localhost:8000"),
        ("http://127.0.0.1:8000", "localhost:8000"),
        # Sandboxed frames, files and redirects have an opaque origin: anybody's page.
        ("null", "example.org"),
        ("null", ""),
        ("", "example.org"),
        ("", ""),
        ("example.org", "example.org"),
        ("//example.org", "example.org"),
        ("file://", "example.org"),
        ("file://", ""),
        ("data:text/html,x", "example.org"),
        # what cannot be read is nobody's
        ("https://[", "example.org"),
        ("https://example.org:x", "example.org"),
        ("https://example.org:99999", "example.org:99999"),
        ("https://example.org", "example.org:x"),
        ("https://", ""),
    ],
)
def test_foreign_page_may_not_use_cookies(origin: str, host: str) -> None:
    """Cross-site WebSocket hijacking: a browser sends the cookies along."""
    assert not allowed(origin, None, host=host, cookie="session=1")
    assert allowed(origin, None, host=host), "without cookies there is nothing to steal"
    assert allowed(origin, None, host=host, cookie="session=1", guard_cookies=False)


@pytest.mark.parametrize(
    "origins", [None, "*", PAGE, SUBDOMAINS, [], [PAGE, SUBDOMAINS, None], {PAGE}, (None,)]
)
def test_rules_may_be(origins: Origins) -> None:
    """A string or pattern, or any collection of them and None."""
    check_rules(origins)


@pytest.mark.parametrize("origins", [1, True, b"https://a", [1], [b"x"], [[PAGE]], object()])
def test_rules_may_not_be(origins: Any) -> None:
    """A rule that never matches is worse than an error."""
    with pytest.raises(TypeError, match="origins must be strings"):
        check_rules(origins)


def test_refusal_says_what_to_do() -> None:
    """To the operator, in the log."""
    with pytest.raises(Refusal, match=r"403 .*https://evil\.example.*see origins="):
        check_origin(request("https://evil.example", cookie="a=b"), None, guard_cookies=True)
    with pytest.raises(Refusal, match=r"403 origin None is not allowed"):
        check_origin(request(None), PAGE, guard_cookies=True)
