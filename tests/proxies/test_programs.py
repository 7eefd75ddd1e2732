"""connect(proxy=) through real proxies: tinyproxy for HTTP, microsocks for SOCKS5."""

from __future__ import annotations

import asyncio
import importlib.util
import os

import pytest

from simplews import AioClient, AioServer, serve
from simplews import ConnectionError as OpenError

from ..ports import free_port
from ..tls import Tls
from .conftest import Start, missing

pytestmark = pytest.mark.interop


async def echo(ws: AioServer) -> None:
    async for message in ws:
        await ws.send(message)


@pytest.fixture
def python_socks() -> None:
    """Skips where it is not installed."""
    if importlib.util.find_spec("python_socks") is None:
        missing("python-socks")


async def greet(proxy: str) -> None:
    """One client, which gets an answer."""
    async with serve(echo, "127.0.0.1", 0) as server:
        async with AioClient.connect(f"ws://localhost:{server.port}/", proxy=proxy) as ws:
            await ws.send("hello")
            assert await ws.receive() == "hello"


async def converse(proxy: str, tls: Tls) -> None:
    """Many clients, with and without TLS, each with messages of several sizes."""
    for secure in (False, True):
        async with serve(echo, "127.0.0.1", 0, ssl=tls.server if secure else None) as server:

            async def one(number: int, port: int = server.port, secure: bool = secure) -> None:
                url = f"ws{'s' * secure}://localhost:{port}/"
                context = tls.client if secure else None
                async with AioClient.connect(url, proxy=proxy, ssl_context=context) as ws:
                    for message in (f"hello {number}", os.urandom(1_000_000), b"", "done"):
                        await ws.send(message)
                        assert await ws.receive() == message
                assert (ws.close_code, ws.exception()) == (1000, None)

            await asyncio.gather(*map(one, range(4)))


async def test_tinyproxy(tinyproxy: Start, tls: Tls) -> None:
    async with tinyproxy() as port:
        await converse(f"http://127.0.0.1:{port}", tls)


async def test_tinyproxy_that_wants_credentials(tinyproxy: Start) -> None:
    async with tinyproxy("BasicAuth me word") as port:
        with pytest.raises(OpenError, match="wants credentials") as caught:
            await AioClient.connect("ws://localhost", proxy=f"http://127.0.0.1:{port}")
        assert caught.value.status_code == 407
        assert caught.value.headers["proxy-authenticate"].startswith("Basic")
        with pytest.raises(OpenError):
            await AioClient.connect("ws://localhost", proxy=f"http://me:wrong@127.0.0.1:{port}")
        await greet(f"http://me:word@127.0.0.1:{port}")


async def test_tinyproxy_that_does_not_go_there(tinyproxy: Start) -> None:
    async with tinyproxy("ConnectPort 443") as port:
        with pytest.raises(OpenError, match=r"does not connect to localhost:80 \(HTTP 403"):
            await AioClient.connect("ws://localhost", proxy=f"http://127.0.0.1:{port}")


async def test_tinyproxy_and_no_server(tinyproxy: Start) -> None:
    async with tinyproxy() as port:
        url = f"ws://127.0.0.1:{free_port()}"
        with pytest.raises(OpenError, match="the proxy") as caught:
            await AioClient.connect(url, proxy=f"http://127.0.0.1:{port}")
        assert caught.value.status_code is not None and caught.value.status_code >= 500


@pytest.mark.parametrize("scheme", ["socks5h", "socks5"])
@pytest.mark.usefixtures("python_socks")
async def test_microsocks(scheme: str, microsocks: Start, tls: Tls) -> None:
    async with microsocks() as port:
        await converse(f"{scheme}://127.0.0.1:{port}", tls)


@pytest.mark.usefixtures("python_socks")
async def test_microsocks_that_wants_credentials(microsocks: Start) -> None:
    async with microsocks("-u", "me", "-P", "word") as port:
        for words in ("", "me:wrong@"):
            with pytest.raises(OpenError, match="does not connect to localhost:80"):
                await AioClient.connect(
                    "ws://localhost", proxy=f"socks5h://{words}127.0.0.1:{port}"
                )
        await greet(f"socks5h://me:word@127.0.0.1:{port}")


@pytest.mark.usefixtures("python_socks")
async def test_microsocks_and_no_server(microsocks: Start) -> None:
    async with microsocks() as port:
        with pytest.raises(OpenError, match="refused"):
            await AioClient.connect(
                f"ws://127.0.0.1:{free_port()}", proxy=f"socks5h://127.0.0.1:{port}"
            )


@pytest.mark.parametrize("program", ["tinyproxy", "microsocks"])
@pytest.mark.usefixtures("python_socks")
async def test_variable_of_the_environment(
    program: str, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As people set them for every program."""
    start = request.getfixturevalue(program)
    async with serve(echo, "127.0.0.1", 0) as server, start() as port:
        scheme = "http" if program == "tinyproxy" else "socks5h"
        monkeypatch.setenv("ALL_PROXY", f"{scheme}://127.0.0.1:{port}")
        async with AioClient.connect(f"ws://localhost:{server.port}/") as ws:
            assert ws.remote_address[1] == port
            await ws.send("hello")
            assert await ws.receive() == "hello"
