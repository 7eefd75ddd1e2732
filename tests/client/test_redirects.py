"""connect(max_redirects=): where a client lets itself be sent, and what goes along."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from simplews import (
    AioClient,
    AioServer,
    ConnectTimeout,
    HandshakeRequest,
    Reconnect,
    serve,
)
from simplews import ConnectionError as OpenError
from simplews.link.dial import parse_url
from simplews.redirects import MAX_REDIRECTS, BadRedirect, Redirects
from simplews.types import Headers

from ..hosts import aiohttp_host
from ..peer import answer, until
from ..tls import Tls

STATUSES = [301, 302, 303, 307, 308]


async def echo(ws: AioServer) -> None:
    async for message in ws:
        await ws.send(message)


def moved(status: int, location: str | None, body: str = "") -> bytes:
    """An answer that redirects."""
    field = "" if location is None else f"Location: {location}\r\n"
    return (f"HTTP/1.1 {status} Moved\r\n{field}Content-Length: {len(body)}\r\n\r\n{body}").encode(
        "latin-1"
    )


class Raw:
    """
    A server of bytes: what it answers to whom, and what it was asked.

    Attributes:
        port: Where it listens.
        heads: The requests, in order.
    """

    def __init__(self, answers: dict[str, Callable[[bytes], bytes] | bytes]) -> None:
        self.answers = answers
        self.heads: list[bytes] = []
        self.port = 0

    @property
    def url(self) -> str:
        return f"ws://127.0.0.1:{self.port}"

    async def serve_one(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            head = await reader.readuntil(b"\r\n\r\n")
            self.heads.append(head)
            found = self.answers[head.split(b" ", 2)[1].decode()]
            writer.write(found if isinstance(found, bytes) else found(head))
            await reader.read()  # until the client goes
        writer.transport.abort()

    def fields(self, number: int = -1) -> dict[str, str]:
        """The header fields of a request, but those of the handshake."""
        lines = self.heads[number].decode("latin-1").split("\r\n")[1:-2]
        fields = {name.lower(): value for name, value in (line.split(": ", 1) for line in lines)}
        ours = ("sec-websocket-key", "sec-websocket-version", "upgrade", "connection")
        return {n: v for n, v in fields.items() if n not in (*ours, "sec-websocket-extensions")}


@contextlib.asynccontextmanager
async def raw(
    answers: dict[str, Callable[[bytes], bytes] | bytes], tls: Tls | None = None
) -> AsyncIterator[Raw]:
    """A `Raw` server that runs."""
    server = Raw(answers)
    listening = await asyncio.start_server(
        server.serve_one, "127.0.0.1", 0, ssl=tls.server if tls else None
    )
    server.port = listening.sockets[0].getsockname()[1]
    async with listening:
        yield server


# ------------------------------------------------------------------- following


@pytest.mark.parametrize("status", STATUSES)
async def test_redirect_is_followed(status: int) -> None:
    """To another path, and the result says where it has got to."""
    async with raw({"/old?a=1": moved(status, "/new?b=2"), "/new?b=2": answer}) as server:
        async with AioClient.connect(f"{server.url}/old?a=1") as ws:
            assert ws.url == f"{server.url}/new?b=2"
            assert ws.request.target == "/new?b=2"
            assert ws.request.host == f"127.0.0.1:{server.port}"
            ws.abort()
        assert len(server.heads) == 2
        assert b"\r\nUpgrade: websocket\r\n" in server.heads[1]
        keys = [head.split(b"Sec-WebSocket-Key: ")[1][:24] for head in server.heads]
        assert keys[0] != keys[1], "RFC 6455 §4.1: a fresh key for each connection"


@pytest.mark.parametrize("secure", [False, True], ids=["plain", "tls"])
@pytest.mark.parametrize("scheme", ["http{}:", "ws{}:", ""], ids=["http", "ws", "relative"])
async def test_redirect_from_aiohttp_to_serve(secure: bool, scheme: str, tls: Tls) -> None:
    """Real servers on both ports; http:// and https:// mean ws and wss."""
    s = "s" if secure else ""
    context = tls.client if secure else None
    async with serve({"/echo": echo}, "127.0.0.1", 0, ssl=tls.server if secure else None) as server:
        handler = redirector(f"{scheme.format(s)}//localhost:{server.port}/echo#top")
        async with aiohttp_host(handler, tls if secure else None) as port:
            url = f"ws{s}://localhost:{port}/"
            async with AioClient.connect(url, ssl_context=context) as ws:
                await ws.send("hello")
                assert await ws.receive() == "hello"
                assert ws.url == f"ws{s}://localhost:{server.port}/echo"
                assert ws.remote_address[1] == server.port


def redirector(location: str) -> Callable[[web.Request], Any]:
    """A handler of aiohttp that sends everybody to *location*."""

    async def handle(request: web.Request) -> web.StreamResponse:
        raise web.HTTPFound(location)

    return handle


async def test_redirect_to_tls_is_followed(authority: ssl.SSLContext) -> None:
    """The usual one; its credentials stay behind, as the origin is another."""
    seen: list[HandshakeRequest] = []

    async def look(ws: AioServer) -> None:
        seen.append(ws.request)

    async with serve(look, "127.0.0.1", 0, ssl=authority) as server:
        async with raw({"/": moved(301, f"https://localhost:{server.port}/x")}) as plain:
            async with AioClient.connect(f"ws://me:secret@127.0.0.1:{plain.port}/") as ws:
                assert ws.url == f"wss://localhost:{server.port}/x"
        assert plain.fields()["authorization"].startswith("Basic ")
        assert "authorization" not in seen[0].headers


async def test_each_attempt_begins_at_the_first_url() -> None:
    """reconnect=: a server may send its clients elsewhere every time."""
    async with raw({"/": answer}) as one, raw({"/": answer}) as other:
        turns = iter([one.url, other.url])
        async with raw({"/": lambda head: moved(302, f"{next(turns)}/")}) as balancer:
            found: list[str] = []
            policy = Reconnect(first=0)
            async with AioClient.connect(f"{balancer.url}/", reconnect=policy) as connections:
                async for ws in connections:
                    found.append(ws.url)
                    ws.abort()
                    if len(found) == 2:
                        break
        assert found == [f"{one.url}/", f"{other.url}/"]
        assert len(balancer.heads) == 2


async def test_redirect_that_cannot_be_followed_is_fatal() -> None:
    async with raw({"/": moved(302, "/")}) as server:
        with pytest.raises(OpenError, match="in a circle"):
            async for _ in AioClient.connect(f"{server.url}/", reconnect=True):
                pytest.fail("it opened")
        assert len(server.heads) == 1


async def test_time_is_for_all_of_them() -> None:
    """open_timeout: the second server never answers."""
    async with raw({"/": lambda head: b""}) as silent:
        async with raw({"/": moved(302, f"{silent.url}/")}) as server:
            with pytest.raises(ConnectTimeout, match=f"127.0.0.1:{silent.port} did not") as caught:
                await AioClient.connect(f"{server.url}/", open_timeout=0.2)
    assert caught.value.__notes__ == [f"redirected: {server.url}/ → {silent.url}/"]


async def test_leaving_closes_what_was_opened() -> None:
    """Cancelled at the second server: both connections end."""
    async with raw({"/": lambda head: b""}) as silent:
        async with raw({"/": moved(302, f"{silent.url}/")}) as server:
            task = asyncio.ensure_future(AioClient.connect(f"{server.url}/", open_timeout=None))
            await until(lambda: silent.heads)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
    # Leaving the servers' blocks waits for their connections since Python 3.12.


# ---------------------------------------------------------------- what goes along


SECRETS = {
    "Authorization": "Bearer t",
    "Cookie": "session=1",
    "X-Api-Key": "k",
    "Proxy-Authorization": "Basic eDp5",
    "Origin": "https://app.example",
}
PLAIN = {"User-Agent": "mine/1", "Accept-Language": "de"}


async def test_everything_goes_along_within_an_origin() -> None:
    async with raw({"/": moved(302, "new"), "/new": answer}) as server:
        fields = {**SECRETS, **PLAIN, "Host": "virtual.example"}
        ws = await AioClient.connect(f"{server.url}/", headers=fields)
        ws.abort()
        await ws.wait_closed()
        assert server.fields() == {name.lower(): value for name, value in fields.items()}
        assert ws.request.headers["cookie"] == "session=1"


async def test_userinfo_goes_along_within_an_origin_and_not_into_the_url() -> None:
    async with raw({"/": moved(302, "/new"), "/new": answer}) as server:
        ws = await AioClient.connect(f"ws://me:word@127.0.0.1:{server.port}/")
        ws.abort()
        await ws.wait_closed()
        assert server.fields()["authorization"] == "Basic bWU6d29yZA=="
        assert ws.url == f"{server.url}/new"


@pytest.mark.parametrize("userinfo", ["", "me:word@"])
async def test_no_secret_goes_to_another_origin(userinfo: str) -> None:
    """Another port is another origin (RFC 6454 §4); nor do they come back on the way back."""
    headers = {**SECRETS, **PLAIN, "Host": "virtual.example"}
    if userinfo:
        del headers["Authorization"]
    async with raw({}) as other, raw({}) as server:
        server.answers = {"/": moved(307, f"{other.url}/"), "/back": answer}
        other.answers = {"/": moved(307, f"{server.url}/back")}
        url = f"ws://{userinfo}127.0.0.1:{server.port}/"
        ws = await AioClient.connect(url, subprotocols="chat", headers=headers)
        ws.abort()
        await ws.wait_closed()
        kept = {"user-agent": "mine/1", "accept-language": "de", "sec-websocket-protocol": "chat"}
        assert server.fields(0)["authorization"]
        assert other.fields() == {"host": f"127.0.0.1:{other.port}", **kept}
        assert server.fields() == {"host": f"127.0.0.1:{server.port}", **kept}
        assert "authorization" not in ws.request.headers


async def test_error_says_what_was_left_behind() -> None:
    """401 from the second server: else nobody would understand why."""
    refusal = b"HTTP/1.1 401 Unauthorized\r\nContent-Length: 0\r\n\r\n"
    async with raw({"/": refusal}) as other, raw({"/": moved(302, f"{other.url}/")}) as server:
        with pytest.raises(OpenError, match="401 Unauthorized") as caught:
            await AioClient.connect(f"{server.url}/", headers=SECRETS)
    names = ", ".join(SECRETS)
    assert caught.value.__notes__ == [
        f"redirected: {server.url}/ → {other.url}/; not sent to another origin: {names}"
    ]


# ----------------------------------------------------------------- not following


REFUSED = [
    (None, "without a Location"),
    ("", "without a Location"),
    ("/", "in a circle, back to ws://127.0.0.1:PORT/; the server's owner must fix it"),
    ("http://127.0.0.1:PORT", "in a circle"),
    ("/#other", "in a circle"),
    ("ftp://127.0.0.1/", "to ftp://127.0.0.1/, which is not http, https, ws or wss"),
    ("ws+unix:/run/secret.sock", "which is not http, https, ws or wss"),
    ("file:///etc/passwd", "which is not http, https, ws or wss"),
    ("javascript:alert(1)", "which is not http, https, ws or wss"),
    ("http://me:word@127.0.0.1/", "to a URL with a user in it"),
    ("http://@127.0.0.1/", "to a URL with a user in it"),
    ("http://", "which is no URL"),
    ("http://[::1/", "which is no URL"),
    ("http://host:99999/", "which is no URL"),
    ("http://exa mple/", "to http://exa%20mple/, whose host is no name"),
    ("http://[fe80::1%lo]/", "whose host is no name"),
    ("/one\r\nLocation: /two", "to several places at once"),
    ("http:///" + "x" * 5000, "which is no URL"),
    ("http://h\x9b31m/", "to http://h%9B31m/, whose host is no name"),
]


@pytest.mark.parametrize(("location", "text"), REFUSED)
async def test_redirect_is_refused(location: str | None, text: str) -> None:
    """It says why and what to do, with the answer, and in a line."""
    async with raw({}) as server:
        if location is not None:
            location = location.replace("PORT", str(server.port))
        server.answers = {"/": moved(302, location, "a page")}
        with pytest.raises(OpenError) as caught:
            await AioClient.connect(f"{server.url}/")
        error = caught.value
        assert text.replace("PORT", str(server.port)) in str(error)
        assert str(error).startswith("the server redirects with HTTP 302 Found ")
        assert (error.status_code, error.body) == (302, b"a page")
        assert error.headers["content-length"] == "6"
        assert str(error).isprintable() and len(str(error)) < 1000
        assert len(server.heads) == 1


async def test_no_query_is_told() -> None:
    """People put tokens there; .headers has the whole Location."""
    answers: dict[str, Any] = {"/?t=secret": moved(302, "/a?t=secret")}
    async with raw(answers) as server:
        for location in ("/a?t=secret", "/?t=secret", "ftp://h/?t=secret", "http://?t=secret"):
            answers["/a?t=secret"] = moved(302, location)
            with pytest.raises(OpenError, match=r"\?…") as caught:
                await AioClient.connect(f"{server.url}/?t=secret")
            assert "secret" not in f"{caught.value} {caught.value.__notes__}"
            assert caught.value.headers["location"] == location


async def test_body_of_a_redirect_that_never_ends() -> None:
    """After open_timeout the error is the one about the redirect."""
    answer = b"HTTP/1.1 302 Found\r\nLocation: ftp://h/\r\nContent-Length: 1000\r\n\r\nsome"
    async with raw({"/": answer}) as server:
        with pytest.raises(OpenError, match="which is not http") as caught:
            await AioClient.connect(f"{server.url}/")
        assert caught.value.body == b"some"


async def test_redirect_away_from_tls_is_refused(tls: Tls) -> None:
    """Nothing is sent there."""
    async with raw({"/": answer}) as plain:
        async with raw({"/": moved(301, f"{plain.url}/")}, tls) as server:
            with pytest.raises(OpenError, match="away from TLS, to ws://"):
                await AioClient.connect(f"wss://127.0.0.1:{server.port}/", ssl_context=tls.client)
        assert plain.heads == []


@pytest.mark.parametrize("most", [1, 3, MAX_REDIRECTS])
async def test_too_many_redirects(most: int) -> None:
    answers: dict[str, Any] = {f"/{n}": moved(302, f"/{n + 1}") for n in range(most + 1)}
    async with raw(answers) as server:
        with pytest.raises(OpenError) as caught:
            await AioClient.connect(f"{server.url}/0", max_redirects=most)
        times = "once" if most == 1 else f"{most} times"
        assert str(caught.value) == (
            f"the server redirects with HTTP 302 Found again after it did so {times}, to "
            f"{server.url}/{most + 1}; connect there, or allow more with max_redirects="
        )
        assert caught.value.status_code == 302
        assert len(server.heads) == most + 1
        answers[f"/{most}"] = answer
        ws = await AioClient.connect(f"{server.url}/0", max_redirects=most)
        ws.abort()
        await ws.wait_closed()


async def test_redirects_can_be_switched_off() -> None:
    """The error has the Location then."""
    async with raw({"/": moved(302, "/new")}) as server:
        with pytest.raises(OpenError, match="it is at /new; connect there") as caught:
            await AioClient.connect(f"{server.url}/", max_redirects=0)
        assert caught.value.headers["location"] == "/new"
        assert not hasattr(caught.value, "__notes__")


@pytest.mark.parametrize("status", [300, 304, 305, 306, 399])
async def test_other_answers_lead_nowhere(status: int) -> None:
    async with raw({"/": moved(status, "/new")}) as server:
        with pytest.raises(OpenError) as caught:
            await AioClient.connect(f"{server.url}/")
        assert (caught.value.status_code, len(server.heads)) == (status, 1)


async def test_unix_socket_is_not_left(tmp_path: Path) -> None:
    async with raw({"/": answer}) as other:
        path = tmp_path / "socket"
        server = Raw({"/": moved(302, f"{other.url}/")})
        async with await asyncio.start_unix_server(server.serve_one, path):
            with pytest.raises(OpenError, match="connect there"):
                await AioClient.connect(f"ws+unix:{path}:/")
        assert other.heads == []


@pytest.mark.parametrize(("value", "kind"), [(-1, ValueError), (None, TypeError), ("3", TypeError)])
def test_wrong_number(value: Any, kind: type[Exception]) -> None:
    with pytest.raises(kind, match="max_redirects must"):
        AioClient("ws://localhost", max_redirects=value)


# ------------------------------------------------------------------- the rules


@pytest.mark.parametrize(
    ("start", "location", "end"),
    [
        ("ws://h/a/b?q", "c", "ws://h/a/c"),
        ("ws://h/a/b?q", "?r=1", "ws://h/a/b?r=1"),
        ("ws://h/a/b", "../c", "ws://h/c"),
        ("ws://h/a", "//other/x", "ws://other/x"),
        ("wss://h/a", "//other:444/x", "wss://other:444/x"),
        ("ws://h:81/a", "HTTP://OTHER:80/x", "ws://other/x"),
        ("ws://h/a", "/sp ace/\xe9", "ws://h/sp%20ace/%E9"),
        ("ws://h/a", "/\\evil.example", "ws://h/%5Cevil.example"),
        ("ws://h/a", "/x%2Fy", "ws://h/x%2Fy"),
        ("ws://[fe80::1%25lo]:81/a", "/b", "ws://[fe80::1%lo]:81/b"),
        ("ws://[::1]/a", "http://[::2]:8/b", "ws://[::2]:8/b"),
    ],
)
def test_location_is_resolved(start: str, location: str, end: str) -> None:
    """RFC 9110 §10.2.2: a reference, relative to where we are."""
    found = Redirects(parse_url(start), 5).follow(Headers([("Location", location)]))
    wanted = parse_url(end)
    assert (found.secure, found.host, found.port) == (wanted.secure, wanted.host, wanted.port)
    assert (found.target, found.host_header) == (wanted.target, wanted.host_header)


def test_default_port_is_the_same_origin() -> None:
    start = parse_url("wss://h/a")
    redirects = Redirects(start, 5)
    redirects.follow(Headers([("Location", "https://H:443/b")]))
    assert redirects.take_along([("Cookie", "c")], start) == [("Cookie", "c")]


@pytest.mark.parametrize("location", ["wss://h/a", "https://h:80/a", "ws://h.evil/a", "ws://h:81/"])
def test_another_origin(location: str) -> None:
    start = parse_url("ws://h/a")
    redirects = Redirects(start, 5)
    redirects.follow(Headers([("Location", location)]))
    assert redirects.take_along([("Cookie", "c"), ("user-agent", "u")], start) == [
        ("user-agent", "u")
    ]


def test_circle_is_found_before_the_end() -> None:
    redirects = Redirects(parse_url("ws://h/a"), 5)
    redirects.follow(Headers([("Location", "/b")]))
    with pytest.raises(BadRedirect, match="circle, back to ws://h/a"):
        redirects.follow(Headers([("Location", "/a")]))
