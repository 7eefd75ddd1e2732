"""Each stranger in both roles, plain and over TLS, met by us in the other role."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import ssl
import subprocess
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NoReturn

import pytest
import trustme

from simplews import AioBase, AioClient, AioServer, serve

from .strangers import DEADLINE, Aiohttp, Node, Peer, Stranger, Terms, Tls, Websockets

FOLDER = Path(__file__).parent / "node"


def missing(what: str, how: str) -> NoReturn:
    """Skip where a person runs the tests; in CI nothing may be missing."""
    if os.environ.get("CI"):
        pytest.fail(f"{what} is missing; {how}", pytrace=False)
    pytest.skip(f"{what} is missing; {how}")


@pytest.fixture(scope="module")
def node() -> Iterator[Node]:
    """Node's ws, in one process for a module's tests."""
    program = shutil.which("node")
    if program is None:
        missing("node", "install Node.js")
    if not (FOLDER / "node_modules" / "ws").is_dir():
        missing("Node's ws", "npm install --no-package-lock --prefix tests/interop/node")
    with subprocess.Popen(
        [program, FOLDER / "driver.js"], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            yield Node(int(process.stdout.readline()))
        finally:
            process.stdin.close()  # it ends with its standard input
            try:
                status = process.wait(DEADLINE)
            except subprocess.TimeoutExpired:
                process.kill()
                raise
        assert status == 0


@pytest.fixture(scope="session")
def authority() -> trustme.CA:
    """The authority that everybody here trusts, and nobody else does."""
    return trustme.CA()


@pytest.fixture(scope="session")
def tls(authority: trustme.CA) -> Tls:
    """A certificate for both sides; each verifies the other's."""
    issued = authority.issue_cert("localhost", "127.0.0.1")
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.verify_mode = ssl.CERT_REQUIRED
    client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    for context in (server, client):
        issued.configure_cert(context)
        authority.configure_trust(context)
    return Tls(
        server,
        client,
        authority.cert_pem.bytes().decode(),
        b"".join(blob.bytes() for blob in issued.cert_chain_pems).decode(),
        issued.private_key_pem.bytes().decode(),
    )


@pytest.fixture(params=["ws", "wss"])
def scheme(request: pytest.FixtureRequest) -> str:
    """Plain or over TLS."""
    return str(request.param)


@pytest.fixture
def terms(scheme: str, request: pytest.FixtureRequest) -> Terms:
    """What a stranger is told, for this scheme."""
    return Terms(tls=request.getfixturevalue("tls") if scheme == "wss" else None)


@pytest.fixture(params=["node", "websockets", "aiohttp"])
def stranger(request: pytest.FixtureRequest) -> Stranger:
    """Another implementation."""
    if request.param == "node":
        return request.getfixturevalue("node")  # type: ignore[no-any-return]
    return Websockets() if request.param == "websockets" else Aiohttp()


@pytest.fixture(params=["client", "server"])
def role(request: pytest.FixtureRequest) -> str:
    """What the stranger is; we are the other."""
    return str(request.param)


@dataclass
class Meeting:
    """
    Meets a stranger.

    Attributes:
        stranger: Who.
        role: What the stranger is: "client" or "server".
        terms: What the stranger is told.
    """

    stranger: Stranger
    role: str
    terms: Terms

    @contextlib.asynccontextmanager
    async def __call__(
        self, theirs: dict[str, Any] | None = None, **ours: Any
    ) -> AsyncIterator[tuple[AioBase, Peer]]:
        """
        Open a connection: our end and the stranger's.

        Args:
            theirs: Changes to the stranger's `Terms`.
            ours: Options of `serve` or `AioClient.connect`.
        """
        terms = replace(self.terms, **(theirs or {}))
        meet = self._we_serve if self.role == "client" else self._we_connect
        async with asyncio.timeout(DEADLINE), meet(terms, ours) as (ws, peer):
            try:
                yield ws, peer
            finally:
                # Whoever has not closed by now need not wait for the other side.
                ws.abort()

    @contextlib.asynccontextmanager
    async def _we_serve(
        self, terms: Terms, options: dict[str, Any]
    ) -> AsyncIterator[tuple[AioBase, Peer]]:
        opened: asyncio.Queue[AioServer] = asyncio.Queue()

        async def handler(ws: AioServer) -> None:
            opened.put_nowait(ws)
            await ws.wait_closed()

        async with serving(handler, terms.tls, **options) as url, contextlib.AsyncExitStack() as on:
            peer = await on.enter_async_context(self.stranger.connect(url, terms))
            ws = await opened.get()
            on.callback(ws.abort)
            yield ws, peer

    @contextlib.asynccontextmanager
    async def _we_connect(
        self, terms: Terms, options: dict[str, Any]
    ) -> AsyncIterator[tuple[AioBase, Peer]]:
        async with self.stranger.listen(terms) as listener:
            async with AioClient.connect(
                f"{'wss' if terms.tls else 'ws'}://localhost:{listener.port}/",
                ssl_context=terms.tls and terms.tls.client,
                **options,
            ) as ws:
                yield ws, await listener.accepted()


@contextlib.asynccontextmanager
async def serving(handler: Any, tls: Tls | None, **options: Any) -> AsyncIterator[str]:
    """A server of ours: its URL."""
    async with serve(handler, "127.0.0.1", 0, ssl=tls and tls.server, **options) as server:
        yield f"{'wss' if tls else 'ws'}://localhost:{server.port}/"


@pytest.fixture
def meet(stranger: Stranger, role: str, terms: Terms) -> Meeting:
    """``async with meet() as (ours, theirs)``: a connection to every stranger, in every way."""
    return Meeting(stranger, role, terms)
