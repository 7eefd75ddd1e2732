"""connect(proxy=): which proxy is taken, what it is told, and what it may answer."""

from __future__ import annotations

import asyncio
import base64
import gc
import re
import socket
import ssl
import struct
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from simplews import (
    AioClient,
    AioServer,
    ConnectTimeout,
    HandshakeRequest,
    InvalidURL,
    Reconnect,
    serve,
)
from simplews import ConnectionError as OpenError
from simplews.link.dial import parse_url
from simplews.link.proxies import Proxy, find_proxy, parse_proxy
from simplews.reconnect import is_fatal

from ..between import Between, Reader, Writer, between, connect_method, saying
from ..peer import until
from ..tls import Tls

SECRETS = {"Authorization": "Bearer t", "Cookie": "session=1"}


async def echo(ws: AioServer) -> None:
    async for message in ws:
        await ws.send(message)


# ---------------------------------------------------------------- through HTTP


@pytest.mark.parametrize("outer", ["http", "https"])
@pytest.mark.parametrize("inner", ["ws", "wss"])
async def test_tunnel(outer: str, inner: str, tls: Tls, authority: ssl.SSLContext) -> None:
    """All four, TLS in TLS included; and nobody is told the secrets of another."""
    seen: list[HandshakeRequest] = []

    async def handler(ws: AioServer) -> None:
        seen.append(ws.request)
        await echo(ws)

    secure = inner == "wss"
    async with serve(handler, "127.0.0.1", 0, ssl=tls.server if secure else None) as server:
        async with between(connect_method, authority if outer == "https" else None) as proxy:
            async with AioClient.connect(
                f"{inner}://localhost:{server.port}/path?q",
                headers=SECRETS,
                ssl_context=tls.client if secure else None,
                proxy=f"{outer}://me:w%20rd@localhost:{proxy.port}",
            ) as ws:
                await ws.send("hello")
                assert await ws.receive() == "hello"
                gc.collect()  # the streams beneath TLS are kept
                big = b"x" * 1_000_000
                await ws.send(big)
                assert await ws.receive() == big
                assert ws.url == f"{inner}://localhost:{server.port}/path?q"
            assert ws.close_code == 1000
        place = f"localhost:{server.port}"
    word = base64.b64encode(b"me:w rd").decode()
    assert proxy.asked == [
        f"CONNECT {place} HTTP/1.1\r\nHost: {place}\r\n"
        f"Proxy-Authorization: Basic {word}\r\n\r\n".encode()
    ]
    assert "proxy-authorization" not in seen[0].headers
    assert seen[0].headers["cookie"] == "session=1"
    assert (b"session=1" in proxy.carried) == (not secure)


async def test_address_is_named_to_the_proxy() -> None:
    """Host and port; a name is not looked up here, and a zone is not told."""
    async with between(saying(b"HTTP/1.1 403 No\r\n\r\n")) as proxy:
        for url in (
            "wss://nowhere.invalid",
            "ws://[::1]",
            "ws://[fe80::1%25lo]:81/",
            "ws://bücher",
        ):
            with pytest.raises(OpenError):
                await AioClient.connect(url, proxy=f"http://127.0.0.1:{proxy.port}")
        assert [head.split(b" ")[1] for head in proxy.asked] == [
            b"nowhere.invalid:443",
            b"[::1]:80",
            b"[fe80::1]:81",
            b"xn--bcher-kva:80",
        ]


ANSWERS = [
    (
        b"HTTP/1.1 407 Proxy Authentication Required\r\nProxy-Authenticate: Basic\r\n\r\n",
        "wants credentials (HTTP 407 Proxy Authentication Required); write them into its URL, "
        "http://user:password@127.0.0.1:PORT",
    ),
    (
        b"HTTP/1.1 403 Forbidden\r\n\r\n",
        "does not connect to localhost:9 (HTTP 403 Forbidden); it is named by proxy=, and "
        "proxy=None connects without",
    ),
    (
        b"HTTP/1.0 502 Bad Gateway\r\nContent-Length: 1000000\r\n\r\n<html>",
        "cannot reach localhost:9 (HTTP 502 Bad Gateway); is the server running there?",
    ),
    (b"HTTP/1.1 301 Moved\r\nLocation: ws://127.0.0.1:PORT/\r\n\r\n", "does not connect to"),
    (b"HTTP/1.1 101 Switching Protocols\r\n\r\n" * 9, "sends interim responses without an end"),
    pytest.param(
        b"HTTP/1.1 200 OK\r\n\r\nHTTP/1.1 101 ",
        "sent b'HTTP/1.1 101 ' before the server could",
        marks=pytest.mark.whole,
    ),
    (b"HTTP/2 200 OK\r\n\r\n", "does not speak HTTP: it answered b'HTTP/2 200 OK'"),
    (b"220 mail.example.org ESMTP\r\n\r\n", "does not speak HTTP: it sent b'2"),
    (b"\x15\x03\x03\x00\x02\x02\x0a", "closed the connection without answering"),
    (b"\x05\xff", "does not speak HTTP"),
    (b"", "closed the connection without answering; it is named by proxy="),
    (b"HTTP/1.1 200 OK\r\nVia: ", "closed the connection without answering"),
    (b"HTTP/1.1 200 OK\r\nVia\r\n\r\n", "answer is not valid HTTP"),
    (b"HTTP/1.1 200 OK\r\nVia: \x1b[31m\r\n\r\n", "answer is not valid HTTP"),
    (b"HTTP/1.1 200 OK\r\n" + b"Via: x\r\n" * 4000, "head exceeds 16384 bytes"),
    (b"HTTP/1.1 200 " + b"x" * 100_000, "first line exceeds 8192 bytes"),
]


@pytest.mark.parametrize(("answer", "text"), ANSWERS)
async def test_answer_of_a_proxy(answer: bytes, text: str) -> None:
    """It is bounded, and the message says whose it was and what to do."""
    async with between(saying(answer)) as proxy:
        with pytest.raises(OpenError) as caught:
            await AioClient.connect("ws://localhost:9", proxy=f"http://127.0.0.1:{proxy.port}")
        error = caught.value
        assert text.replace("PORT", str(proxy.port)) in str(error)
        assert f"the proxy 127.0.0.1:{proxy.port}" in str(error)
        assert str(error).isprintable() and len(str(error)) < 300
        status = re.match(rb"HTTP/1\.\d ([345]\d\d)", answer)
        assert error.status_code == (int(status[1]) if status else None)
        assert len(proxy.asked) == 1


async def test_headers_of_a_refusal() -> None:
    async with between(saying(ANSWERS[0][0])) as proxy:
        with pytest.raises(OpenError, match="does not accept the credentials in its URL") as caught:
            await AioClient.connect("ws://h", proxy=f"http://me:secret@127.0.0.1:{proxy.port}")
    assert caught.value.headers["proxy-authenticate"] == "Basic"
    assert "secret" not in str(caught.value) and is_fatal(caught.value)


@pytest.mark.parametrize("answer", [b"", b"HTTP/1.1 200 OK\r\n", b"HTTP/1.1 100 Wait\r\n\r\n"])
async def test_proxy_that_never_answers(answer: bytes) -> None:
    """open_timeout is for it as well."""
    async with between(saying(answer, leave=False)) as proxy:
        with pytest.raises(ConnectTimeout, match=f"through the proxy 127.0.0.1:{proxy.port};"):
            await AioClient.connect("ws://h", proxy=f"http://127.0.0.1:{proxy.port}")


async def test_leaving_ends_the_tunnel() -> None:
    """Cancelled: `between` waits for the end of the connection."""
    async with between(saying(b"", leave=False)) as proxy:
        task = asyncio.ensure_future(
            AioClient.connect("ws://h", proxy=f"http://127.0.0.1:{proxy.port}", open_timeout=None)
        )
        await until(lambda: proxy.asked)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task


@pytest.mark.parametrize("scheme", ["http", "https", "socks5"])
async def test_proxy_that_is_not_there(scheme: str, unused: int) -> None:
    with pytest.raises(OpenError) as caught:
        await AioClient.connect("ws://h", proxy=f"{scheme}://127.0.0.1:{unused}")
    assert str(caught.value) == (
        f"the proxy 127.0.0.1:{unused} cannot be used: nothing listens on 127.0.0.1:{unused}: "
        f"connection refused; it is named by proxy=, and proxy=None connects without"
    )
    assert not is_fatal(caught.value)


@pytest.fixture
def unused() -> int:
    """A port where nobody listens."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        found: int = listener.getsockname()[1]
    return found


async def test_name_of_a_proxy_that_is_not_found() -> None:
    with pytest.raises(OpenError, match=r"host 'nowhere\.invalid' was not found: .*; it is named"):
        await AioClient.connect("ws://h", proxy="http://nowhere.invalid:1")


async def test_certificate_of_a_proxy_is_checked(tls: Tls) -> None:
    """Before it is told anything; ssl_context= is for the server, and does not help."""
    async with between(connect_method, tls.server) as proxy:
        with pytest.raises(OpenError, match=r"certificate of .* is not accepted") as caught:
            await AioClient.connect(
                "wss://h", proxy=f"https://me:word@localhost:{proxy.port}", ssl_context=tls.client
            )
        assert proxy.asked == [] and is_fatal(caught.value)


async def test_certificate_of_the_server_is_checked(tls: Tls) -> None:
    """A proxy cannot answer in its place."""
    async with serve(echo, "127.0.0.1", 0, ssl=tls.server) as server:
        async with between(connect_method) as proxy:
            with pytest.raises(OpenError, match=r"certificate of localhost.* is not"):
                await AioClient.connect(
                    f"wss://localhost:{server.port}", proxy=f"http://127.0.0.1:{proxy.port}"
                )


@pytest.mark.parametrize(
    ("url", "text"),
    [
        ("ws://h/", "h:80 closed the connection without answering"),
        ("wss://h/", "h:443 ended the connection during the TLS handshake"),
    ],
)
async def test_tunnel_that_ends_at_once(url: str, text: str) -> None:
    """What is said in a tunnel is the server's, and so is the error."""
    async with between(saying(b"HTTP/1.1 200 OK\r\n\r\n")) as proxy:
        with pytest.raises(OpenError, match=text):
            await AioClient.connect(url, proxy=f"http://127.0.0.1:{proxy.port}")


# -------------------------------------------------------------------- which one


@pytest.fixture
def environment(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Sets variables: ``"a_proxy=x no_proxy=y"``."""

    def set_to(text: str) -> None:
        for pair in text.split():
            monkeypatch.setenv(*pair.split("=", 1))

    return set_to


@pytest.mark.skipif(sys.platform == "win32", reason="its variables have no case")
@pytest.mark.parametrize(
    ("variables", "url", "found"),
    [
        ("", "ws://h", None),
        ("http_proxy=http://p:1", "ws://h", "http://p:1"),
        ("HTTP_PROXY=http://p:1", "ws://h", "http://p:1"),
        ("HTTP_PROXY=http://p:1 http_proxy=http://q:1", "ws://h", "http://q:1"),
        ("HTTP_PROXY=http://p:1 REQUEST_METHOD=GET", "ws://h", None),  # CVE-2016-1000110
        ("http_proxy=http://p:1", "wss://h", None),
        ("https_proxy=http://p:1", "wss://h", "http://p:1"),
        ("https_proxy=http://p:1", "ws://h", None),
        ("wss_proxy=http://p:1 https_proxy=http://q:1", "wss://h", "http://p:1"),
        ("ws_proxy=http://p:1 http_proxy=http://q:1", "ws://h", "http://p:1"),
        ("all_proxy=http://p:1 https_proxy=http://q:1", "wss://h", "http://q:1"),
        ("all_proxy=http://p:1", "wss://h", "http://p:1"),
        ("all_proxy=http://p:1", "ws://h", "http://p:1"),
        ("all_proxy=http://p:1", "ws+unix:/h", None),
        ("all_proxy=http://p:1 socks_proxy=socks5://q:1", "ws://h", "socks5://q:1"),
        ("all_proxy=p", "ws://h", "http://p:80"),
        ("all_proxy=p:1/", "ws://h", "http://p:1"),
        ("all_proxy=", "ws://h", None),
        # what urllib says of no_proxy; this machine is no exception
        ("all_proxy=p:1", "ws://localhost", "http://p:1"),
        ("all_proxy=p:1", "ws://127.0.0.1", "http://p:1"),
        ("all_proxy=p:1 no_proxy=localhost", "ws://localhost", None),
        ("all_proxy=p:1 no_proxy=*", "ws://h", None),
        ("all_proxy=p:1 no_proxy=example.org", "ws://www.example.org:81/x", None),
        ("all_proxy=p:1 no_proxy=.example.org", "ws://www.example.org", None),
        ("all_proxy=p:1 no_proxy=example.org:81", "ws://example.org:81", None),
        ("all_proxy=p:1 no_proxy=example.org:443", "wss://example.org", None),
        ("all_proxy=p:1 no_proxy=example.org:81", "ws://example.org:82", "http://p:1"),
        ("all_proxy=p:1 no_proxy=::1", "ws://[::1]:81", None),
        ("all_proxy=p:1 NO_PROXY=a,h,b", "ws://h", None),
    ],
)
def test_proxy_of_the_environment(
    variables: str, url: str, found: str | None, environment: Callable[[str], None]
) -> None:
    environment(variables)
    proxy = find_proxy(True, parse_url(url))
    assert (proxy and f"{proxy.scheme}://{proxy.place}") == found
    assert find_proxy(None, parse_url(url)) is None


async def test_environment_is_used_unless_told_otherwise(
    environment: Callable[[str], None],
) -> None:
    async with serve(echo, "127.0.0.1", 0) as server, between(connect_method) as proxy:
        url = f"ws://127.0.0.1:{server.port}/"
        environment(f"ws_proxy=http://127.0.0.1:{proxy.port} no_proxy=localhost")
        for options, used in (({}, 1), ({"proxy": True}, 2), ({"proxy": None}, 2)):
            async with AioClient.connect(url, **options):
                assert len(proxy.asked) == used
        async with AioClient.connect(url.replace("127.0.0.1", "localhost")):
            assert len(proxy.asked) == 2


async def test_wrong_proxy_of_the_environment(environment: Callable[[str], None]) -> None:
    environment("all_proxy=ftp://me:secret@p:1")
    with pytest.raises(
        InvalidURL, match=r"'ftp://\*\*\*@p:1', named by all_proxy, is not"
    ) as caught:
        await AioClient.connect("ws://h")
    assert "secret" not in str(caught.value)


async def test_each_hop_of_a_redirect_has_its_proxy(environment: Callable[[str], None]) -> None:
    async with between(connect_method) as proxy, serve(echo, "127.0.0.1", 0) as server:

        async def redirect(reader: Reader, writer: Writer) -> None:
            await reader.readuntil(b"\r\n\r\n")
            place = f"http://localhost:{server.port}/"
            writer.write(f"HTTP/1.1 302 Found\r\nLocation: {place}\r\n\r\n".encode())
            await reader.read()
            writer.transport.abort()

        first = await asyncio.start_server(redirect, "127.0.0.1", 0)
        async with first:
            environment(f"ws_proxy=http://127.0.0.1:{proxy.port} no_proxy=127.0.0.1")
            async with AioClient.connect(f"ws://127.0.0.1:{first.sockets[0].getsockname()[1]}/"):
                assert [head.split(b" ")[1] for head in proxy.asked] == [
                    f"localhost:{server.port}".encode()
                ]


async def test_reconnecting_goes_through_the_proxy() -> None:
    """Each time; a 502 is worth another try."""
    turns = iter([saying(b"HTTP/1.1 502 Bad Gateway\r\n\r\n"), connect_method])

    async def act(proxy: Between, reader: Reader, writer: Writer) -> None:
        await next(turns)(proxy, reader, writer)

    async with serve(echo, "127.0.0.1", 0) as server, between(act) as proxy:
        async with AioClient.connect(
            f"ws://127.0.0.1:{server.port}/",
            proxy=f"http://127.0.0.1:{proxy.port}",
            reconnect=Reconnect(first=0),
        ) as connections:
            async for ws in connections:
                await ws.send("hello")
                assert await ws.receive() == "hello"
                break
    assert len(proxy.asked) == 2


@pytest.mark.parametrize(
    ("text", "proxy"),
    [
        ("http://p", Proxy("http", "p", 80, None, "x")),
        ("HTTPS://P/", Proxy("https", "p", 443, None, "x")),
        ("socks5h://a%40b:c%3Ad@p:9", Proxy("socks5h", "p", 9, ("a@b", "c:d"), "x")),
        ("socks4://u@[::1]", Proxy("socks4", "::1", 1080, ("u", ""), "x")),
    ],
)
def test_url_of_a_proxy(text: str, proxy: Proxy) -> None:
    found = parse_proxy(text, "x")
    assert found == proxy
    assert "c:d" not in repr(found)


@pytest.mark.parametrize(
    "text",
    [
        "p:3128",
        "",
        "http://",
        "ws://p",
        "ftp://me:secret@p",
        "http://me:secret@p:99999",
        "http://me:secret@p/path",
        "http://me:secret@p?q",
        "http://me:secret@p q",
        "http://me:secret@[::1",
        "socks5://me:s\xe9cret@p",
        "socks5://me:" + "secret" * 60 + "@p",
    ],
)
def test_what_is_no_proxy(text: str) -> None:
    """At once, and without the password."""
    with pytest.raises(InvalidURL) as caught:
        AioClient("ws://h", proxy=text)
    assert "cret" not in str(caught.value)
    assert caught.value.__cause__ is None


def test_wrong_arguments(tmp_path: Path) -> None:
    wrong: Any
    for wrong in (False, 3128, b"http://p", ("p", 1)):
        with pytest.raises(TypeError, match="proxy must be a URL"):
            AioClient("ws://h", proxy=wrong)
    with pytest.raises(ValueError, match="not for a Unix socket"):
        AioClient("ws+unix:/x", proxy="http://p")


# ----------------------------------------------------------------------- SOCKS


def test_socks_without_its_package(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only when it is used."""
    monkeypatch.setitem(sys.modules, "python_socks", None)
    opening = AioClient.connect("ws://h", proxy="socks5h://127.0.0.1:9")
    with pytest.raises(ImportError, match=r"pip install 'simplews\[proxy\]'"):
        asyncio.run(opening)


async def socks(proxy: Between, reader: Reader, writer: Writer) -> None:
    """A SOCKS proxy, of version 4 (and 4a) or 5 (RFC 1928, RFC 1929)."""
    if await reader.readexactly(1) == b"\x04":
        await reader.readexactly(1)
        port = int.from_bytes(await reader.readexactly(2), "big")
        address = await reader.readexactly(4)
        user = (await reader.readuntil(b"\0"))[:-1]
        name = (await reader.readuntil(b"\0"))[:-1] if address[:3] == bytes(3) else address
        proxy.asked.append((user, name))
        writer.write(b"\0\x5a" + bytes(6))
        return await proxy.carry(reader, writer, port)
    methods = await reader.readexactly((await reader.readexactly(1))[0])
    words = b""
    if 2 in methods:
        writer.write(b"\x05\x02")
        await reader.readexactly(1)
        user = await reader.readexactly((await reader.readexactly(1))[0])
        words = user + b":" + await reader.readexactly((await reader.readexactly(1))[0])
        writer.write(b"\x01\x00")
    else:
        writer.write(b"\x05\x00")
    kind = (await reader.readexactly(4))[3]
    length = {1: 4, 4: 16}.get(kind) or (await reader.readexactly(1))[0]
    proxy.asked.append((words, await reader.readexactly(length)))
    writer.write(b"\x05\x00\x00\x01" + bytes(6))
    await proxy.carry(reader, writer, int.from_bytes(await reader.readexactly(2), "big"))


LOOPBACK = (bytes([127, 0, 0, 1]), bytes(15) + b"\x01")


@pytest.mark.parametrize("secure", [False, True], ids=["ws", "wss"])
@pytest.mark.parametrize(
    ("scheme", "words", "names"),
    [
        ("socks5h", "", (b"localhost",)),
        ("socks5h", "me:word@", (b"localhost",)),
        ("socks5", "me:word@", LOOPBACK),
        ("socks4a", "me@", (b"localhost",)),
        ("socks4", "", LOOPBACK),
    ],
)
async def test_socks(
    scheme: str, words: str, names: tuple[bytes, ...], secure: bool, tls: Tls
) -> None:
    """Who looks up the name is in the scheme, as curl has it."""
    pytest.importorskip("python_socks")
    async with serve(echo, "127.0.0.1", 0, ssl=tls.server if secure else None) as server:
        async with between(socks) as proxy:
            async with AioClient.connect(
                f"ws{'s' * secure}://localhost:{server.port}/",
                proxy=f"{scheme}://{words}127.0.0.1:{proxy.port}",
                ssl_context=tls.client if secure else None,
            ) as ws:
                await ws.send("hello")
                assert await ws.receive() == "hello"
            ((told, name),) = proxy.asked
            assert told.decode() == words.rstrip("@")
            assert name in names


@pytest.mark.parametrize(
    ("answer", "text"),
    [
        (b"\x05\xff", "does not connect to localhost:9"),
        (b"\x05\x02", "does not connect to localhost:9"),
        (b"\x05\x00\x05\x05\x00\x01" + bytes(6), "Connection refused by destination host"),
        (b"\x05\x00\x05\x99\x00\x01" + bytes(6), "the proxy 127.0.0.1:"),
        (b"\x05\x00\x05\x00\x00\x09" + bytes(6), "the proxy 127.0.0.1:"),
        (b"\x05\x00\x05\x00\x00\x03\xff\xff\xff", "does not connect to localhost:9"),
        (b"HTTP/1.1 400 Bad Request\r\n\r\n", "does not connect to localhost:9"),
        (b"", "does not connect to localhost:9"),
    ],
)
async def test_answer_of_a_socks_proxy(answer: bytes, text: str) -> None:
    pytest.importorskip("python_socks")

    async def act(proxy: Between, reader: Reader, writer: Writer) -> None:
        await reader.readexactly(3)
        writer.write(answer)
        await writer.drain()
        writer.write_eof()
        await reader.read()

    async with between(act) as proxy:
        with pytest.raises(OpenError) as caught:
            await AioClient.connect("ws://localhost:9", proxy=f"socks5h://127.0.0.1:{proxy.port}")
        assert text in str(caught.value)
        assert f"the proxy 127.0.0.1:{proxy.port}" in str(caught.value)
        assert str(caught.value).isprintable() and len(str(caught.value)) < 300


async def test_socks_proxy_that_never_answers() -> None:
    """open_timeout ends it, and leaving it closes the connection."""
    pytest.importorskip("python_socks")

    async def act(proxy: Between, reader: Reader, writer: Writer) -> None:
        await reader.read()

    async with between(act) as proxy:
        with pytest.raises(ConnectTimeout, match="through the proxy"):
            await AioClient.connect("ws://h", proxy=f"socks5h://127.0.0.1:{proxy.port}")


async def test_socks_proxy_that_resets() -> None:
    pytest.importorskip("python_socks")

    async def act(proxy: Between, reader: Reader, writer: Writer) -> None:
        await reader.readexactly(1)
        sock = writer.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))

    async with between(act) as proxy:
        with pytest.raises(OpenError, match=f"the proxy 127.0.0.1:{proxy.port} cannot be used"):
            await AioClient.connect("ws://h", proxy=f"socks5h://127.0.0.1:{proxy.port}")


async def test_name_that_is_too_long_for_socks() -> None:
    """It has a byte for the length; python-socks raises ValueError."""
    pytest.importorskip("python_socks")
    async with between(socks) as proxy:
        with pytest.raises(OpenError, match=r"cannot be asked for a\.a\.a.*: ValueError"):
            await AioClient.connect(
                f"ws://{'a.' * 150}example", proxy=f"socks5h://127.0.0.1:{proxy.port}"
            )


async def test_server_that_socks_looks_up_here() -> None:
    pytest.importorskip("python_socks")
    async with between(socks) as proxy:
        with pytest.raises(OpenError, match=r"host 'nowhere\.invalid' was not found"):
            await AioClient.connect(
                "ws://nowhere.invalid", proxy=f"socks5://127.0.0.1:{proxy.port}"
            )
