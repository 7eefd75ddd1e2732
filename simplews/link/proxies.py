"""Proxies: which one a connection goes through, and the way through it.

Whatever the proxy is, it is asked for a tunnel to the server's host and port, and what
comes of that is a pair of streams on which nothing has been said yet: TLS and the
opening handshake then run through it as they would without. So the proxy never sees
the server's credentials, nor the server the proxy's.
"""

from __future__ import annotations

import importlib
import os
import re
import socket
import sys
from dataclasses import dataclass, field
from typing import Any, Literal

from ..errors import ConnectionError, InvalidURL
from ..protocol.handshake import (
    MAX_HEAD,
    MAX_INTERIM,
    Refusal,
    parse_response,
    reason_phrase,
    tunnel_request,
)
from ..types import URL
from .dial import (
    Address,
    connect_tcp,
    default_ssl_context,
    explain_failure,
    parse_host,
    parse_url,
)
from .sources import Gone, NotHTTP, Streams, no_delay, read_head
from .transports import open_connection

__all__ = ["Proxy", "find_proxy", "open_tunnel", "parse_proxy", "read_setting"]

_SOCKS = ("socks4", "socks4a", "socks5", "socks5h")
_PORTS = {"http": 80, "https": 443, **dict.fromkeys(_SOCKS, 1080)}
# Who looks up the server's name: of these, the proxy.
_REMOTE_DNS = frozenset({"socks4a", "socks5h"})
# Variables that name a proxy, the most particular first, as curl looks at them.
_VARIABLES = {True: ("wss", "https", "socks", "all"), False: ("ws", "http", "socks", "all")}
_USER_INFO = re.compile(r"//[^/?#]*@")
# RFC 1929 §2: a byte has their length.
_MOST_OF_A_WORD = 255
# python-socks has a deadline of its own, 60 seconds unless told otherwise; ours counts.
_NO_DEADLINE = 10**8


@dataclass(frozen=True, slots=True)
class Proxy:
    """
    A proxy.

    Attributes:
        scheme: What is spoken with it: http, https, socks4, socks4a, socks5 or socks5h.
        host: ASCII host name or address.
        port: TCP port.
        credentials: (user, password) for it, or None.
        source: Who named it, for messages.
    """

    scheme: str
    host: str
    port: int
    credentials: tuple[str, str] | None = field(repr=False)
    source: str

    @property
    def place(self) -> str:
        """Its address for messages."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}"

    @property
    def advice(self) -> str:
        """How to do without it."""
        return f"it is named by {self.source}, and proxy=None connects without"


def read_setting(proxy: Any, address: Address) -> Proxy | Literal[True] | None:
    """
    What the argument ``proxy=`` means.

    Raises:
        TypeError: It is no URL, nor True or None.
        InvalidURL: It is not the URL of a proxy.
        ValueError: *address* is a Unix socket.
    """
    if proxy is None or proxy is True:
        return proxy
    if not isinstance(proxy, str):
        raise TypeError(
            f"proxy must be a URL, None for no proxy or True for the environment's, not {proxy!r}"
        )
    if address.path is not None:
        raise ValueError("proxy= is for ws:// and wss:// URLs, not for a Unix socket")
    return parse_proxy(proxy, "proxy=")


def parse_proxy(text: str, source: str) -> Proxy:
    """
    Read the URL of a proxy.

    Args:
        text: The URL.
        source: Who named it.

    Raises:
        InvalidURL: It is none, and how to write it. No password is in the message.
    """
    shown = _USER_INFO.sub("//***@", text)
    try:
        url = URL(text)
        port = url.port
        user, word = url.username, url.password
    except ValueError:
        raise InvalidURL(f"{shown!r}, named by {source}, is not a URL") from None
    if url.scheme not in _PORTS or not url.hostname:
        raise InvalidURL(
            f"{shown!r}, named by {source}, is not the URL of a proxy; write "
            f"http://host:port, https://host:port or socks5h://host:port"
        )
    if url.path.strip("/") or url.query or url.fragment:
        raise InvalidURL(f"{shown!r}, named by {source}, has more than a host and a port")
    credentials = None if user is None else (user, word or "")
    if credentials is not None and url.scheme in _SOCKS:
        _check_words(credentials, shown, source)
    host = parse_host(url.hostname)[0]
    return Proxy(url.scheme, host, port or _PORTS[url.scheme], credentials, source)


def _check_words(credentials: tuple[str, str], shown: str, source: str) -> None:
    """What python-socks would stumble over, with the word in its message."""
    for word in credentials:
        if not word.isascii() or len(word) > _MOST_OF_A_WORD:
            raise InvalidURL(
                f"{shown!r}, named by {source}, has a user or password that SOCKS cannot carry: "
                f"it is ASCII, and at most {_MOST_OF_A_WORD} characters"
            )


def find_proxy(setting: Proxy | Literal[True] | None, address: Address) -> Proxy | None:
    """
    The proxy on the way to *address*, or None.

    Args:
        setting: See `read_setting`.
        address: Where to.

    Raises:
        InvalidURL: The environment names one that is none.
    """
    if setting is not True:
        return setting
    if address.path is not None or not _may_have_proxies():
        return None
    # It takes 15 ms to import, and most do without.
    request = importlib.import_module("urllib.request")
    proxies: dict[str, str] = request.getproxies()
    for name in _VARIABLES[address.secure]:
        if name in proxies:
            break
    else:
        return None
    # no_proxy has addresses with a port, and those of IPv6 without brackets.
    if request.proxy_bypass(address.host_header_with_port) or (
        ":" in address.host and request.proxy_bypass(address.host)
    ):
        return None
    text = proxies[name]
    return parse_proxy(text if "://" in text else f"http://{text}", f"{name}_proxy")


def _may_have_proxies() -> bool:
    """Whether it is worth to ask, which takes 0.1 ms: macOS and Windows have settings, too."""
    return sys.platform in ("darwin", "win32") or "_PROXY" in " ".join(os.environ).upper()


async def open_tunnel(proxy: Proxy, address: Address) -> Streams:
    """
    Have *proxy* connect to *address*.

    Returns:
        Streams to the server, over TCP as far as that is concerned.

    Raises:
        ConnectionError: It did not, or could not be reached; it has the status and
            header fields of the proxy's answer, if there was one.
        ImportError: It is a SOCKS proxy, and python-socks is missing.

    Cancellation:
        What was opened is closed.
    """
    if proxy.scheme in _SOCKS:
        return await _through_socks(proxy, address)
    try:
        secure: dict[str, Any] = {}
        if proxy.scheme == "https":
            secure = {"ssl": default_ssl_context(), "server_hostname": proxy.host}
        sock = await connect_tcp(proxy.host, proxy.port)
        streams = await open_connection(sock=sock, limit=MAX_HEAD, **secure)
    except OSError as exc:
        raise _unreachable(proxy, exc) from exc
    try:
        await _ask(streams, proxy, address)
    except BaseException:
        streams[1].transport.abort()
        raise
    return streams


def _unreachable(proxy: Proxy, exc: OSError) -> ConnectionError:
    where = parse_url(f"{'wss' if proxy.scheme == 'https' else 'ws'}://{proxy.place}")
    why = str(explain_failure(where, exc)).partition(";")[0]
    return ConnectionError(f"the proxy {proxy.place} cannot be used: {why}; {proxy.advice}")


# ------------------------------------------------------------------------ HTTP


async def _ask(streams: Streams, proxy: Proxy, address: Address) -> None:
    """RFC 9110 §9.3.6: CONNECT."""
    reader, writer = streams
    writer.write(tunnel_request(_authority(address), proxy.credentials))
    early = b""
    for _ in range(MAX_INTERIM):
        try:
            head, early = await read_head(reader, early, begins=b"HTTP/")
        except Refusal as exc:
            raise ConnectionError(f"the answer of the proxy {proxy.place}: {exc.why}") from exc
        except NotHTTP as exc:
            raise ConnectionError(
                f"the proxy {proxy.place} does not speak HTTP: {exc}; {proxy.advice}"
            ) from exc
        except Gone as exc:
            raise ConnectionError(
                f"the proxy {proxy.place} closed the connection without answering; {proxy.advice}"
            ) from exc
        status, headers = parse_response(head, f"the proxy {proxy.place}")
        if 200 <= status < 300:
            if early:
                # Neither TLS nor HTTP has a server that speaks first.
                raise ConnectionError(
                    f"the proxy {proxy.place} sent {early[:40]!r} before the server could"
                )
            return
        if not 100 <= status < 200:
            raise ConnectionError(
                _refusal_text(proxy, address, status), status_code=status, headers=headers
            )
    raise ConnectionError(f"the proxy {proxy.place} sends interim responses without an end")


def _authority(address: Address) -> str:
    """Host and port; the zone of an IPv6 address means nothing to another machine."""
    return re.sub(r"%[^\]]*(?=\])", "", address.host_header_with_port)


def _refusal_text(proxy: Proxy, address: Address, status: int) -> str:
    answer = f"HTTP {status} {reason_phrase(status)}".rstrip()
    if status == 407 and proxy.credentials is None:
        return (
            f"the proxy {proxy.place} wants credentials ({answer}); "
            f"write them into its URL, {proxy.scheme}://user:password@{proxy.place}"
        )
    if status == 407:
        return f"the proxy {proxy.place} does not accept the credentials in its URL ({answer})"
    if status in (502, 503, 504):
        return (
            f"the proxy {proxy.place} cannot reach {address.place} ({answer}); "
            f"is the server running there?"
        )
    return f"the proxy {proxy.place} does not connect to {address.place} ({answer}); {proxy.advice}"


# ----------------------------------------------------------------------- SOCKS


async def _through_socks(proxy: Proxy, address: Address) -> Streams:
    socks, make = _python_socks()
    user, word = proxy.credentials or (None, None)
    kind = socks.ProxyType.SOCKS4 if proxy.scheme.startswith("socks4") else socks.ProxyType.SOCKS5
    asking = make(kind, proxy.host, proxy.port, user, word, rdns=proxy.scheme in _REMOTE_DNS)
    try:
        sock = await asking.connect(address.host, address.port, timeout=_NO_DEADLINE)
    except socks.ProxyConnectionError as exc:
        cause = exc.__cause__
        raise _unreachable(proxy, cause if isinstance(cause, OSError) else exc) from exc
    except socks.ProxyError as exc:
        raise ConnectionError(
            f"the proxy {proxy.place} does not connect to {address.place}: {exc}; {proxy.advice}"
        ) from exc
    except socket.gaierror as exc:  # for socks4 and socks5 the server's name is looked up here
        raise explain_failure(address, exc) from exc
    except OSError as exc:
        raise _unreachable(proxy, exc) from exc
    except Exception as exc:  # what python-socks did not think of: a very long name, say
        raise ConnectionError(
            f"the proxy {proxy.place} cannot be asked for {address.place[:100]}: "
            f"{type(exc).__name__}"
        ) from exc
    no_delay(sock)
    return await open_connection(sock=sock, limit=MAX_HEAD)


def _python_socks() -> tuple[Any, Any]:
    """The package, and its proxy for asyncio."""
    try:
        return (
            importlib.import_module("python_socks"),
            importlib.import_module("python_socks.async_.asyncio").Proxy,
        )
    except ImportError as exc:
        raise ImportError(
            "a SOCKS proxy needs python-socks: pip install 'simplews[proxy]'"
        ) from exc
