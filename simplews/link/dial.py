"""From a URL to streams: TCP, TLS, Unix sockets, and what to say when they fail."""

from __future__ import annotations

import asyncio
import errno
import functools
import ipaddress
import itertools
import os
import re
import socket
import ssl
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, unquote

import certifi

from ..errors import ConnectionError, InvalidURL
from ..protocol.handshake import MAX_HEAD
from ..types import URL
from .sources import Streams, no_delay, tunnel_over_tls
from .transports import open_connection

__all__ = [
    "NOT_TLS",
    "Address",
    "connect_tcp",
    "default_ssl_context",
    "explain_failure",
    "open_streams",
    "parse_host",
    "parse_url",
]

_SCHEMES = ("ws", "wss", "ws+unix")
_SPACES_AND_CONTROLS = re.compile(r"[\x00-\x20\x7f]")
# RFC 3986 §3.2.2, and the underscore that names of services have.
_REG_NAME = re.compile(r"[\w.~!$&'()*+,;=%-]+", re.ASCII)
_PATH_CHARS = "/%:@!$&'()*+,;=~-._"
# RFC 8305 §8: the recommended delay between connection attempts, in seconds.
_HAPPY_EYEBALLS_DELAY = 0.25


@dataclass(frozen=True, slots=True)
class Address:
    """
    Where a WebSocket URL leads.

    Attributes:
        url: The URL.
        secure: Whether TLS is spoken.
        host: ASCII host name or address; "" for a Unix socket.
        port: TCP port.
        path: Path of a Unix socket, or None.
        target: Request target: path and query, percent-encoded.
        host_header: Value of the Host header field.
        credentials: (user, password) of the URL, or None.
    """

    url: URL
    secure: bool
    host: str
    port: int
    path: str | None
    target: str
    host_header: str
    credentials: tuple[str, str] | None

    @property
    def place(self) -> str:
        """The address for messages."""
        return self.path if self.path is not None else self.host_header_with_port

    @property
    def host_header_with_port(self) -> str:
        """Host and port, also where the port is the scheme's default."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}"


def parse_url(text: str) -> Address:
    """
    Read a WebSocket URL (RFC 6455 §3).

    No path means ``/``. What is not ASCII is percent-encoded in path and query
    and IDNA-encoded in the host. ``ws+unix:/path/of/socket:/target`` names a
    Unix socket.

    Raises:
        InvalidURL: It is none, and how to write it.
    """
    if not isinstance(text, str):
        raise TypeError(f"a URL is a str, not {type(text).__name__}")
    # A client that reconnects, or many to one server: 8 µs each. No word that may
    # be secret is kept.
    return _parse_url(text) if "@" in text or "?" in text else _parse_once(text)


def _parse_url(text: str) -> Address:
    if _SPACES_AND_CONTROLS.search(text):
        raise InvalidURL(f"{text!r} contains white space or control characters; percent-encode it")
    try:
        url = URL(text)
        port = url.port
        text.encode("utf-8")
    except ValueError as exc:
        why = "the port must be a number from 0 to 65535" if "Port" in str(exc) else exc
        raise InvalidURL(f"{text!r} is not a URL: {why}") from None
    if url.scheme not in _SCHEMES:
        raise InvalidURL(_wrong_scheme(url))
    if url.fragment or text.endswith("#"):
        raise InvalidURL(f"{text!r} has a fragment (#...), which RFC 6455 §3 does not allow")
    if url.scheme == "ws+unix":
        path, _, target = url.path.partition(":")
        if not path:
            raise InvalidURL(f"{text!r} names no socket; write ws+unix:/path/of/socket:/target")
        if target and not target.startswith("/"):
            raise InvalidURL(
                f"the target {target!r} in {text!r} does not begin with '/'; "
                f"write ws+unix:/path/of/socket:/target"
            )
        return Address(url, False, "", 0, path, _target(target, url.query), "localhost", None)
    if not url.hostname:
        raise InvalidURL(f"{text!r} has no host; write {url.scheme}://host:port/path")
    host, shown = parse_host(url.hostname)
    assert port is not None
    default = 443 if url.is_secure else 80
    credentials = None
    if url.username is not None:
        credentials = (url.username, url.password or "")
    return Address(
        url=url,
        secure=url.is_secure,
        host=host,
        port=port,
        path=None,
        target=_target(url.path, url.query),
        # RFC 6455 §4.1: the port is left out only if it is the default.
        host_header=shown if port == default else f"{shown}:{port}",
        credentials=credentials,
    )


_parse_once = functools.lru_cache(maxsize=64)(_parse_url)


def _wrong_scheme(url: URL) -> str:
    advice = {"http": "ws", "https": "wss"}
    if url.scheme in advice:
        better = advice[url.scheme] + str(url)[len(url.scheme) :]
        return f"{str(url)!r} is not a WebSocket URL; write {better!r}"
    if url.scheme and not url.netloc and url.path[:1].isdigit():
        return f"{str(url)!r} is not a WebSocket URL; write 'ws://{url!s}'"
    return f"{str(url)!r} is not a WebSocket URL; write ws://host:port/path or wss://host/path"


def parse_host(host: str) -> tuple[str, str]:
    """
    The host to connect to, and as the Host field names it.

    Raises:
        InvalidURL: It is none.
    """
    if ":" in host:
        return _ipv6_host(host)
    name = _ascii_host(host)
    return name, name


def _ascii_host(host: str) -> str:
    try:
        name = host.encode("idna").decode("ascii")
    except UnicodeError as exc:
        raise InvalidURL(f"host {host!r} is not a valid name: {exc}") from None
    if not _REG_NAME.fullmatch(name):
        raise InvalidURL(
            f"host {host!r} is not a valid name: RFC 3986 §3.2.2 has no such character"
        )
    return name


def _ipv6_host(host: str) -> tuple[str, str]:
    """The address to connect to, and as Host names it: there without a zone (RFC 6874 §4)."""
    address, _, zone = host.partition("%")
    try:
        ipaddress.IPv6Address(address)
    except ValueError:
        raise InvalidURL(f"host [{host}] is not a valid IPv6 address") from None
    # RFC 6874 §2 writes %25 before the zone, people write %.
    zone = unquote(zone.removeprefix("25") or zone)
    return f"{address}%{zone}" if zone else address, f"[{address}]"


def _target(path: str, query: str) -> str:
    target = quote(path or "/", safe=_PATH_CHARS)
    return f"{target}?{quote(query, safe=_PATH_CHARS + '?')}" if query else target


@functools.cache
def default_ssl_context() -> ssl.SSLContext:
    """
    A context that verifies: the system's trust store, certifi's where it has none.

    It is made once; reading a trust store takes some ten milliseconds.
    """
    context = ssl.create_default_context()
    paths = ssl.get_default_verify_paths()
    has_store = bool(context.get_ca_certs()) or bool(paths.cafile)
    if not has_store and paths.capath:
        has_store = bool(os.listdir(paths.capath))
    if not has_store:
        context.load_verify_locations(certifi.where())
    return context


async def open_streams(
    address: Address, context: ssl.SSLContext | None, tunnel: Streams | None = None
) -> Streams:
    """
    Connect TCP or a Unix socket, and TLS.

    Args:
        address: Where to.
        context: For TLS; None for the default one.
        tunnel: A proxy's, in place of TCP.

    Raises:
        OSError: As asyncio raises it; see `explain_failure`.

    Cancellation:
        What was opened is closed.
    """
    if tunnel is not None:
        if not address.secure:
            return tunnel
        return await tunnel_over_tls(tunnel, context or default_ssl_context(), address.host)
    secure: dict[str, Any] = {}
    if address.secure:
        secure = {"ssl": context or default_ssl_context(), "server_hostname": address.host}
    if address.path is not None:
        return await asyncio.open_unix_connection(address.path, limit=MAX_HEAD)
    sock = await connect_tcp(address.host, address.port)
    return await open_connection(sock=sock, limit=MAX_HEAD, **secure)


async def connect_tcp(host: str, port: int) -> socket.socket:
    """
    Try the host's addresses, a moment apart (RFC 8305); the first that answers wins.

    asyncio does this too, but loses track of the socket that has won when it is
    cancelled then, and uvloop does not.
    """
    infos = _interleave(await _resolve(host, port))
    attempts: list[asyncio.Task[socket.socket]] = []
    errors: list[Exception] = []
    pending: set[asyncio.Task[socket.socket]] = set()
    winner = None
    try:
        while infos or pending:
            if infos:
                attempts.append(asyncio.ensure_future(_attempt(infos.pop(0))))
                pending.add(attempts[-1])
            done, pending = await asyncio.wait(
                pending,
                timeout=_HAPPY_EYEBALLS_DELAY if infos else None,
                return_when=asyncio.FIRST_COMPLETED,
            )
            for task in done:
                error = task.exception()
                if error is None:
                    winner = task
                    return task.result()
                assert isinstance(error, Exception)
                errors.append(error)
    finally:
        for task in attempts:
            if task is not winner:
                task.cancel()
                task.add_done_callback(_close_result)
    if len({str(error) for error in errors}) == 1:
        raise errors[0]
    raise OSError("Multiple exceptions: " + ", ".join(map(str, errors)))


async def _resolve(host: str, port: int) -> list[Any]:
    """`socket.getaddrinfo`, in a thread unless *host* is an address."""
    try:
        return socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_NUMERICHOST)
    except socket.gaierror:
        return await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)


def _interleave(infos: list[Any]) -> list[Any]:
    """RFC 8305 §4: the families take turns, each in the order that the resolver prefers."""
    families: dict[int, list[Any]] = {}
    for info in infos:
        families.setdefault(info[0], []).append(info)
    turns = itertools.zip_longest(*families.values())
    return [info for turn in turns for info in turn if info is not None]


async def _attempt(info: Any) -> socket.socket:
    family, kind, proto, _, address = info
    sock = socket.socket(family, kind, proto)
    try:
        sock.setblocking(False)
        no_delay(sock)
        await asyncio.get_running_loop().sock_connect(sock, address)
    except BaseException:
        sock.close()
        raise
    return sock


def _close_result(task: asyncio.Task[socket.socket]) -> None:
    """An attempt that connected, and nobody waits for it any more."""
    if not task.cancelled() and task.exception() is None:
        task.result().close()


# OpenSSL's X509_V_ERR_*: what the person at this end can do about it.
_CERTIFICATE_ADVICE = {
    9: "is this machine's clock right?",
    10: "the server's owner must renew it",
    62: "connect by a name that the certificate has",
    64: "connect by an address that the certificate has",
}
#: OpenSSL's reasons for "these bytes are no TLS".
NOT_TLS = frozenset({"WRONG_VERSION_NUMBER", "PACKET_LENGTH_TOO_LONG", "HTTP_REQUEST"})
_UNKNOWN_ISSUER = "to trust its issuer, pass ssl_context= with the issuer's certificate loaded"


def explain_failure(address: Address, exc: OSError) -> ConnectionError:
    """What *exc* means, and what to do about it."""
    where = address.place
    if isinstance(exc, ssl.SSLCertVerificationError):
        return ConnectionError(
            f"the certificate of {where} is not accepted: {exc.verify_message.rstrip('.')}; "
            f"{_CERTIFICATE_ADVICE.get(exc.verify_code, _UNKNOWN_ISSUER)}"
        )
    if isinstance(exc, ssl.SSLError):
        if exc.reason in NOT_TLS:
            return ConnectionError(f"{where} does not speak TLS; use a ws:// URL")
        return ConnectionError(f"TLS with {where} failed: {exc.reason or exc}")
    if isinstance(exc, socket.gaierror):
        if exc.errno == socket.EAI_AGAIN:
            return ConnectionError(f"cannot look up host {address.host!r}: {exc.strerror}")
        return ConnectionError(f"host {address.host!r} was not found: {exc.strerror}")
    if isinstance(exc, ConnectionRefusedError) or _all_refused(exc):
        return ConnectionError(
            f"nothing listens on {where}: connection refused; is the server running there?"
        )
    if isinstance(exc, FileNotFoundError):
        return ConnectionError(f"there is no socket {where}; is the server running?")
    if isinstance(exc, ConnectionResetError) and address.secure:
        return ConnectionError(
            f"{where} ended the connection during the TLS handshake; "
            f"if it does not speak TLS, use a ws:// URL"
        )
    return ConnectionError(f"cannot connect to {where}: {exc.strerror or exc}")


def _all_refused(exc: OSError) -> bool:
    """asyncio joins the errors of several addresses into one text."""
    text = str(exc)
    return text.startswith("Multiple exceptions") and text.count("[Errno") == text.count(
        "Connect call failed"
    ) == text.count(f"[Errno {errno.ECONNREFUSED}]")
