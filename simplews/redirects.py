"""Where a server's redirect leads, and what may go there with the request.

A server that is asked to open a WebSocket may answer with another address (RFC 6455
§4.1, RFC 9110 §15.4). It decides by that to whom the client speaks next, so what was
meant for the one server alone stays behind::

    the same origin     scheme, host and port are the same: every header field goes along
    another one         only `HARMLESS` fields do, from then on, also on the way back
    wss:// to ws://     refused: TLS was asked for
"""

from __future__ import annotations

from collections.abc import Sequence
from urllib.parse import quote, urljoin, urlsplit

from .errors import InvalidURL
from .link.dial import Address, parse_url
from .types import Headers

__all__ = ["HARMLESS", "MAX_REDIRECTS", "BadRedirect", "Redirects", "is_redirect"]

#: Redirects that are followed unless ``max_redirects=`` says otherwise; what
#: websockets, aiohttp, Node's ws and Go's net/http allow as well.
MAX_REDIRECTS = 10

#: Fields of the application that go to another origin, in lower case. Of any other we
#: cannot know that it is no credential: a key has many names.
HARMLESS = frozenset({"accept-language", "user-agent"})

_FOLLOWED = frozenset({301, 302, 303, 307, 308})
# A page's scheme in a redirect means the WebSocket's: servers redirect all alike.
_SCHEMES = {"http": "ws", "https": "wss", "ws": "ws", "wss": "wss"}
# RFC 3986 §2: what a URI consists of. The rest is percent-encoded, as browsers do.
_URI_CHARS = "%:/?#[]@!$&'()*+,;=-._~"
# Characters of a URL that a message quotes.
_MOST_QUOTED = 200


class BadRedirect(Exception):
    """A redirect that is not followed; it says why."""


def is_redirect(status: int) -> bool:
    """Whether an answer with *status* is one that a client may follow."""
    return status in _FOLLOWED


class Redirects:
    """
    The way of one request, from address to address.

    Args:
        start: Where it begins.
        most: Redirects that are followed.

    Attributes:
        address: Where it leads to by now.
        left_behind: Names of the fields that did not come along.
    """

    def __init__(self, start: Address, most: int) -> None:
        self.address = start
        self.left_behind: list[str] = []
        self._most = most
        self._visited = [_name(start)]

    def follow(self, headers: Headers) -> Address:
        """
        Go where an answer says.

        Args:
            headers: Its fields.

        Returns:
            The address, without user information.

        Raises:
            BadRedirect: It cannot be followed, or must not be.
        """
        locations = headers.getlist("location")
        if not any(locations):
            raise BadRedirect(
                "without a Location that says where to; the server's owner must fix it"
            )
        if len(locations) > 1:
            raise BadRedirect("to several places at once; the server's owner must fix it")
        address = _resolve(self.address, locations[0])
        name = _name(address)
        if self.address.secure and not address.secure:
            raise BadRedirect(
                f"away from TLS, to {_shown(name)}; if that is right, connect there instead"
            )
        if name in self._visited:
            raise BadRedirect(
                f"in a circle, back to {_shown(name)}; the server's owner must fix it"
            )
        if len(self._visited) > self._most:
            times = "once" if self._most == 1 else f"{self._most} times"
            raise BadRedirect(
                f"again after it did so {times}, to {_shown(name)}; "
                f"connect there, or allow more with max_redirects="
            )
        self._visited.append(name)
        self.address = address
        return address

    def take_along(
        self, fields: Sequence[tuple[str, str]], before: Address
    ) -> list[tuple[str, str]]:
        """Of the fields for the address *before*, those that may go to the present one."""
        if _origin(before) == _origin(self.address):
            return list(fields)
        self.left_behind += [name for name, _ in fields if name.lower() not in HARMLESS]
        return [(name, value) for name, value in fields if name.lower() in HARMLESS]

    def note(self) -> str | None:
        """The way, for the note on an error; None if there was no redirect."""
        if len(self._visited) == 1:
            return None
        text = "redirected: " + " → ".join(map(_shown, self._visited))
        if self.left_behind:
            names = ", ".join(dict.fromkeys(self.left_behind))
            text += f"; not sent to another origin: {names}"
        return text


def _origin(address: Address) -> tuple[bool, str, int]:
    """RFC 6454 §4: scheme, host and port."""
    return address.secure, address.host, address.port


def _name(address: Address) -> str:
    """The URL without user information."""
    # The Host field has no zone of an IPv6 address, and a relative redirect must keep it.
    host = address.host_header_with_port if "%" in address.host else address.host_header
    return f"{'wss' if address.secure else 'ws'}://{host}{address.target}"


def _resolve(base: Address, location: str) -> Address:
    """Where *location* leads from *base* (RFC 9110 §10.2.2)."""
    text = quote(location.encode("latin-1"), safe=_URI_CHARS)
    try:
        url = urljoin(_name(base), text)
        parts = urlsplit(url)
        if parts.scheme not in _SCHEMES:
            raise BadRedirect(
                f"to {_shown(text)}, which is not http, https, ws or wss; "
                f"the server's owner must fix it"
            )
        # RFC 9110 §4.2.4: an error, in a reference from an untrusted source.
        if "@" in parts.netloc:
            raise BadRedirect("to a URL with a user in it; the server's owner must fix it")
        # A name needs none, and the zone of an address (RFC 6874) is no server's to choose.
        if "%" in parts.netloc and parts.netloc != urlsplit(_name(base)).netloc:
            raise BadRedirect(
                f"to {_shown(text)}, whose host is no name; the server's owner must fix it"
            )
        target = parts._replace(scheme=_SCHEMES[parts.scheme], fragment="")
        return parse_url(target.geturl())
    except (InvalidURL, ValueError) as exc:
        raise BadRedirect(
            f"to {_shown(text)}, which is no URL; the server's owner must fix it"
        ) from exc


def _shown(url: str) -> str:
    """A URL for messages, without its query: people put tokens there."""
    path, mark, _ = url.partition("?")
    text = path if len(path) <= _MOST_QUOTED else path[:_MOST_QUOTED] + "…"
    return f"{text}?…" if mark else text
