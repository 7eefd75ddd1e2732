"""AioClient: the client's end of a connection."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import Mapping, Sequence
from typing import Any, Literal, TypeVar, Unpack, overload

from .connection import AioBase
from .errors import ConnectionError, ConnectTimeout
from .link.dial import Address, explain_failure, open_streams, parse_url
from .link.options import OptionArgs, make_options, subprotocol_list
from .link.proxies import Proxy, find_proxy, open_tunnel, read_setting
from .link.sources import Gone, NotHTTP, Streams, read_head
from .link.wire import WireLink
from .opening import Opening
from .protocol.handshake import (
    MAX_INTERIM,
    OWN_HEADERS,
    Accepted,
    Answer,
    ClientHandshake,
    Refusal,
    basic_credentials,
    parse_tokens,
)
from .reconnect import Reconnect, Reconnecting
from .redirects import MAX_REDIRECTS, BadRedirect, Redirects, is_redirect
from .types import HandshakeRequest, Headers, HeadersLike, header_pairs

__all__ = ["AioClient"]

C = TypeVar("C", bound="AioClient")

# Ours to set: a second one would break the handshake.
_OWN_HEADERS = OWN_HEADERS | {"sec-websocket-key", "sec-websocket-version"}
_PARAMETERS = {
    "sec-websocket-protocol": "use subprotocols=",
    "sec-websocket-extensions": "use compression=",
}


class AioClient(AioBase):
    """
    The client's end of a WebSocket. Make it with `connect`.

    Args:
        url: ``ws://`` or ``wss://``; or ``ws+unix:/path/of/socket:/target``.
            Once open, where redirects led to.
        subprotocols: What to offer, best first: one name or several.
        headers: Header fields to add: a mapping, or pairs of str or bytes.
        receive_bytes: Bytes of the first reads; they grow while they are filled.
        ping_interval: Seconds between pings; None for none.
        max_message_size: Bytes a message may have, after inflating; None for
            no limit.
        ssl_context: For ``wss://``; None verifies against the system's trust
            store, or certifi's where the system has none.
        max_redirects: Redirects that are followed; 0 for none.
        proxy: URL of a proxy; None for none, True for the environment's.
        options: See `OptionArgs`.
    """

    def __init__(
        self,
        url: str,
        subprotocols: str | Sequence[str] | None = None,
        headers: HeadersLike | None = None,
        receive_bytes: int = 4096,
        ping_interval: float | None = None,
        max_message_size: int | None = None,
        ssl_context: ssl.SSLContext | None = None,
        *,
        max_redirects: int = MAX_REDIRECTS,
        proxy: str | Literal[True] | None = True,
        **options: Unpack[OptionArgs],
    ) -> None:
        super().__init__(
            make_options(
                "AioClient",
                receive_bytes=receive_bytes,
                ping_interval=ping_interval,
                max_message_size=max_message_size,
                **options,
            )
        )
        self.url = url
        self._address = parse_url(url)
        self._ssl_context = ssl_context
        if ssl_context is not None:
            if not isinstance(ssl_context, ssl.SSLContext):
                raise TypeError(
                    f"ssl_context must be an ssl.SSLContext, not {type(ssl_context).__name__}"
                )
            if not self._address.secure:
                raise ValueError(f"ssl_context= is for wss:// URLs, not for {url!r}")
        self._proxy_setting: Proxy | Literal[True] | None = read_setting(proxy, self._address)
        self._proxy: Proxy | None = None  # on the way to the present address
        _check_max_redirects(max_redirects)
        # A redirect cannot name a Unix socket, and must not lead away from one.
        self._max_redirects = 0 if self._address.path is not None else max_redirects
        self._redirects = Redirects(self._address, self._max_redirects)
        # What refuses us, while its body is read: it may never end.
        self._refused: ClientHandshake | None = None
        self._fields = _request_fields(self._address, headers)
        self.request = self._make_request(_check_offer(subprotocol_list(subprotocols)))

    @overload
    @classmethod
    def connect(
        cls: type[C],
        url: str,
        subprotocols: str | Sequence[str] | None = None,
        headers: HeadersLike | None = None,
        receive_bytes: int = 4096,
        ping_interval: float | None = None,
        max_message_size: int | None = None,
        ssl_context: ssl.SSLContext | None = None,
        *,
        reconnect: Literal[False] | None = None,
        max_redirects: int = MAX_REDIRECTS,
        proxy: str | Literal[True] | None = True,
        **options: Unpack[OptionArgs],
    ) -> Opening[C]: ...

    @overload
    @classmethod
    def connect(
        cls: type[C],
        url: str,
        subprotocols: str | Sequence[str] | None = None,
        headers: HeadersLike | None = None,
        receive_bytes: int = 4096,
        ping_interval: float | None = None,
        max_message_size: int | None = None,
        ssl_context: ssl.SSLContext | None = None,
        *,
        reconnect: Literal[True] | Reconnect,
        max_redirects: int = MAX_REDIRECTS,
        proxy: str | Literal[True] | None = True,
        **options: Unpack[OptionArgs],
    ) -> Reconnecting[C]: ...

    @classmethod
    def connect(
        cls: type[C],
        url: str,
        subprotocols: str | Sequence[str] | None = None,
        headers: HeadersLike | None = None,
        receive_bytes: int = 4096,
        ping_interval: float | None = None,
        max_message_size: int | None = None,
        ssl_context: ssl.SSLContext | None = None,
        *,
        reconnect: bool | Reconnect | None = None,
        max_redirects: int = MAX_REDIRECTS,
        proxy: str | Literal[True] | None = True,
        **options: Unpack[OptionArgs],
    ) -> Opening[C] | Reconnecting[C]:
        """
        Connect to a WebSocket server.

        ``ws = await AioClient.connect(url)``, or ``async with`` to close it at
        the end of the block. With *reconnect*, ``async for`` gives one connection
        after the other; see `Reconnect` for when and when no more.

        Args:
            url: ``ws://host:port/path`` or ``wss://``; no path means ``/``.
                ``user:password@`` becomes Basic authentication. Or
                ``ws+unix:/path/of/socket:/target``.
            subprotocols: What to offer, best first: one name or several.
            headers: Header fields to add: a mapping, or pairs of str or bytes.
            receive_bytes: Bytes of the first reads; they grow while they are filled.
            ping_interval: Seconds between pings; None for none.
            max_message_size: Bytes a message may have, after inflating; None
                for no limit (inflating stays bounded to 64 MiB).
            ssl_context: For ``wss://``; None verifies against the system's
                trust store, or certifi's where the system has none.
            reconnect: True, or a policy.
            max_redirects: Redirects that are followed, to http, https, ws or wss,
                but never from TLS to a connection without; 0 for none. To
                another scheme, host or port, ``Accept-Language`` and
                ``User-Agent`` of *headers* go along, and nothing else;
                *ssl_context* is used for all.
            proxy: URL of a proxy, ``http://``, ``https://``, ``socks5h://``,
                ``socks5://``, ``socks4a://`` or ``socks4://``, with
                ``user:password@`` if it wants them; None for none. True uses
                what the environment names, in ``wss_proxy``, ``https_proxy``,
                ``socks_proxy`` or ``all_proxy`` (``ws_proxy`` and
                ``http_proxy`` for ``ws://``), unless ``no_proxy`` has the host.
            options: See `OptionArgs`.

        Raises:
            InvalidURL: The URL is not one; it is a `ConnectionError`, too.
            ValueError: A header field that could smuggle another, or one that
                belongs to the handshake.
            ConnectTimeout: Not open within ``open_timeout`` seconds.
            ConnectionError: Any other failure; it says what to do, and has the
                answer's ``.status_code``, ``.headers`` and ``.body`` if there
                was one. A proxy's answer has no ``.body``.
            ImportError: A SOCKS proxy without the extra ``proxy``.

        Cancellation:
            What was opened is closed.

        Spec: RFC 6455 §4.1.
        """
        arguments: dict[str, Any] = {
            **options,
            "url": url,
            "subprotocols": subprotocols,
            "headers": headers,
            "receive_bytes": receive_bytes,
            "ping_interval": ping_interval,
            "max_message_size": max_message_size,
            "ssl_context": ssl_context,
            "max_redirects": max_redirects,
            "proxy": proxy,
        }
        client = cls(**arguments)
        if reconnect is None or reconnect is False:
            return Opening(client._open(), f"{cls.__name__}.connect")
        if reconnect is not True and not isinstance(reconnect, Reconnect):
            raise TypeError(
                f"reconnect must be True or Reconnect(...), not {type(reconnect).__name__}"
            )

        async def open_one(renewed: Mapping[str, Any]) -> C:
            return await cls(**{**arguments, **renewed})._open()

        return Reconnecting(
            open_one,
            Reconnect() if reconnect is True else reconnect,
            client._address.place,
            client._options.logger.getChild("client"),
        )

    def _make_request(self, subprotocols: tuple[str, ...]) -> HandshakeRequest:
        host, others = _take_host(self._fields, self._address.host_header)
        return HandshakeRequest(
            host=host,
            target=self._address.target,
            headers=Headers([("Host", host), *others]),
            subprotocols=subprotocols,
        )

    async def _open(self: C) -> C:
        try:
            return await self._open_in_time()
        except ConnectionError as exc:
            note = self._redirects.note()
            if note is not None:
                exc.add_note(note)
            raise

    async def _open_in_time(self: C) -> C:
        timeout = self._options.open_timeout
        deadline = asyncio.timeout(timeout)
        try:
            async with deadline:
                return await self._dial()
        except TimeoutError as exc:
            if not deadline.expired():
                raise explain_failure(self._address, exc) from exc
            if self._refused is not None:
                raise self._refused.refused() from None
            way = f" through the proxy {self._proxy.place}" if self._proxy else ""
            raise ConnectTimeout(
                f"{self._address.place} did not open a WebSocket within {timeout:g} s{way}; "
                f"is it a WebSocket server? open_timeout= gives it more time"
            ) from None

    async def _dial(self: C) -> C:
        while (found := await self._dial_once()) is None:
            pass  # a redirect; our address is the next one
        return found

    async def _dial_once(self: C) -> C | None:
        """Open the connection; None if the answer was a redirect, which is followed."""
        streams = await self._open_streams()
        try:
            answer = await self._handshake(streams)
            reader, writer = streams
            if answer is None:
                writer.transport.abort()
                return None
            accepted, early = answer
            link = await WireLink.take_over(
                reader,
                writer,
                server=False,
                options=self._options,
                agreement=accepted.agreement,
                early=early,
            )
        except BaseException:
            streams[1].transport.abort()
            raise
        self.headers = accepted.headers
        self.subprotocol = accepted.subprotocol
        self._attach(link, "client")
        return self

    async def _open_streams(self) -> Streams:
        """Connect to the server; the testing kit has another way there."""
        address = self._address
        tunnel = None
        self._proxy = find_proxy(self._proxy_setting, address)
        if self._proxy is not None:
            tunnel = await open_tunnel(self._proxy, address)
        try:
            return await open_streams(address, self._ssl_context, tunnel)
        except TimeoutError:
            raise
        except OSError as exc:
            raise explain_failure(address, exc) from exc

    async def _handshake(self, streams: Streams) -> tuple[Accepted, bytes] | None:
        """RFC 6455 §4.1: send our request, judge the answer; None for a redirect to follow."""
        reader, writer = streams
        request = self.request
        handshake = ClientHandshake(
            request.host,
            request.target,
            [pair for pair in self._fields if pair[0].lower() != "host"],
            request.subprotocols,
            self._options.deflate,
        )
        writer.write(handshake.request)
        early = b""
        for _ in range(MAX_INTERIM):
            try:
                head, early = await read_head(reader, early, begins=b"HTTP/")
            except Refusal as exc:
                raise ConnectionError(f"the answer of {self._address.place}: {exc.why}") from exc
            except Gone as exc:
                raise self._explain_gone(exc) from exc
            answer = handshake.feed_head(head)
            if isinstance(answer, Accepted):
                return answer, early
            if answer is Answer.REFUSED:
                if self._follow(handshake):
                    return None
                self._refused = handshake
                await _read_body(handshake, reader, early)
                writer.transport.abort()
                raise handshake.refused()
        raise ConnectionError(f"{self._address.place} sends interim responses without an end")

    def _follow(self, handshake: ClientHandshake) -> bool:
        """Go where a redirect leads; whether it was one that can be followed."""
        status, headers = handshake.refusal
        if not self._max_redirects or not is_redirect(status):
            return False
        before = self._address
        try:
            self._address = self._redirects.follow(headers)
        except BadRedirect as exc:
            handshake.objection = str(exc)
            return False
        self._fields = self._redirects.take_along(self._fields, before)
        self.request = self._make_request(self.request.subprotocols)
        self.url = str(self._address.url)
        return True

    def _explain_gone(self, exc: Gone) -> ConnectionError:
        where = self._address.place
        if "TLS" in str(exc):
            return ConnectionError(f"{where} speaks TLS; use a wss:// URL")
        if isinstance(exc, NotHTTP):
            return ConnectionError(f"{where} does not speak HTTP: {exc}")
        advice = "" if self._address.secure else "; if it speaks TLS, use a wss:// URL"
        return ConnectionError(f"{where} closed the connection without answering{advice}")


async def _read_body(
    handshake: ClientHandshake, reader: asyncio.StreamReader, early: bytes
) -> None:
    """Read the body of a refusal, as far as it is kept."""
    if early:
        handshake.feed_body(early)
    with contextlib.suppress(OSError):
        while not handshake.body_finished:
            handshake.feed_body(await reader.read(65536))


def _request_fields(address: Address, headers: HeadersLike | None) -> list[tuple[str, str]]:
    fields = header_pairs(headers)
    names = {name.lower() for name, _ in fields}
    for name in sorted(names & _OWN_HEADERS):
        advice = _PARAMETERS.get(name, "leave it out")
        raise ValueError(f"header {name!r} is set by the handshake; {advice}")
    if address.credentials is not None and "authorization" not in names:
        fields.append(("Authorization", basic_credentials(*address.credentials)))
    return fields


def _check_max_redirects(value: Any) -> None:
    if not isinstance(value, int):
        raise TypeError(f"max_redirects must be a number, not {value!r}")
    if value < 0:
        raise ValueError(f"max_redirects must not be negative, not {value!r}")


def _take_host(fields: list[tuple[str, str]], default: str) -> tuple[str, list[tuple[str, str]]]:
    """The Host field, which an application may overrule, and the others."""
    hosts = [value for name, value in fields if name.lower() == "host"]
    if len(hosts) > 1:
        raise ValueError("header 'Host' is given twice")
    return (hosts or [default])[0], [pair for pair in fields if pair[0].lower() != "host"]


def _check_offer(subprotocols: tuple[str, ...]) -> tuple[str, ...]:
    """RFC 6455 §4.1: each a token, no two alike."""
    for name in subprotocols:
        if parse_tokens([name]) != [name] or any(c in name for c in ' \t"(),/:;<=>?@[\\]{}'):
            raise ValueError(
                f"subprotocol {name!r} is not a token: a name has no spaces or separators, "
                f"and several go into a list"
            )
        header_pairs([("Sec-WebSocket-Protocol", name)])
    if len(set(subprotocols)) < len(subprotocols):
        raise ValueError(f"a subprotocol is offered twice: {', '.join(subprotocols)}")
    return subprotocols
