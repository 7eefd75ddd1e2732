"""The opening handshake with strangers: subprotocols, refusals, certificates."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from dataclasses import replace

import aiohttp
import pytest
import trustme
import websockets.exceptions

from simplews import AioClient, AioServer, ConnectionError

from .conftest import Meeting, serving
from .strangers import (
    DEADLINE,
    Aiohttp,
    Node,
    Refused,
    Refusing,
    Stranger,
    Terms,
    Tls,
    Websockets,
)

pytestmark = pytest.mark.interop

ONLY_TLS = pytest.mark.parametrize("scheme", ["wss"], indirect=True)


async def hold(ws: AioServer) -> None:
    """A handler that leaves everything to the client."""
    await ws.wait_closed()


# ----------------------------------------------------------------- subprotocols


async def test_a_subprotocol_is_agreed_on(meet: Meeting) -> None:
    """RFC 6455 §4.2.2: one of the client's, that the server speaks as well."""
    async with meet({"subprotocols": ("v3", "v2")}, subprotocols=["v2", "v1"]) as (ws, peer):
        assert ws.subprotocol == "v2"
        assert peer.subprotocol == "v2"


async def test_the_server_chooses_among_several(meet: Meeting) -> None:
    names = ["a", "b"]
    async with meet({"subprotocols": tuple(names)}, subprotocols=names) as (ws, peer):
        assert ws.subprotocol == peer.subprotocol == "a"


async def test_no_subprotocol_unless_offered(meet: Meeting) -> None:
    """RFC 6455 §4.2.2: a server leaves the field out when it agrees to none."""
    async with contextlib.AsyncExitStack() as stack:
        if meet.role == "client":
            ws, peer = await stack.enter_async_context(meet(subprotocols=["v1"]))
        elif isinstance(meet.stranger, Websockets):
            # A server of websockets that has subprotocols wants one.
            with pytest.raises(ConnectionError, match="HTTP 400") as caught:
                await stack.enter_async_context(meet({"subprotocols": ("v1",)}))
            assert b"subprotocol" in caught.value.body
            return
        else:
            ws, peer = await stack.enter_async_context(meet({"subprotocols": ("v1",)}))
        assert ws.subprotocol is None
        assert peer.subprotocol is None


@pytest.mark.parametrize("role", ["client"], indirect=True)
async def test_no_subprotocol_in_common(meet: Meeting) -> None:
    """
    We open without one: RFC 6455 §4.1 leaves it to the client what to make of that.

    Node does not go on, the others do.
    """
    async with contextlib.AsyncExitStack() as stack:
        if isinstance(meet.stranger, Node):
            stack.enter_context(pytest.raises(OSError, match="Server sent no subprotocol"))
        ws, peer = await stack.enter_async_context(
            meet({"subprotocols": ("v3",)}, subprotocols=["v1"])
        )
        assert ws.subprotocol is None
        assert peer.subprotocol is None


# --------------------------------------------------------------------- refusals


async def test_we_refuse_a_foreign_origin(stranger: Stranger, terms: Terms) -> None:
    terms = replace(terms, headers={"Origin": "https://elsewhere.example"})
    options = {"origins": ["https://here.example"]}
    async with asyncio.timeout(DEADLINE), serving(hold, terms.tls, **options) as url:
        with pytest.raises(Refused) as caught:
            async with stranger.connect(url, terms):
                pass
        assert caught.value.status == 403
        if not isinstance(stranger, Aiohttp):  # it does not show the body
            assert caught.value.body is not None
            assert b"https://elsewhere.example is not allowed" in caught.value.body


async def test_we_accept_an_allowed_origin(stranger: Stranger, terms: Terms) -> None:
    terms = replace(terms, headers={"Origin": "https://here.example"})
    options = {"origins": ["https://here.example"]}
    async with asyncio.timeout(DEADLINE), serving(hold, terms.tls, **options) as url:
        async with stranger.connect(url, terms):
            pass


async def test_we_have_nothing_at_that_path(stranger: Stranger, terms: Terms) -> None:
    async with asyncio.timeout(DEADLINE), serving({"/chat": hold}, terms.tls) as url:
        with pytest.raises(Refused) as caught:
            async with stranger.connect(url + "elsewhere", terms):
                pass
        assert caught.value.status == 404
        if not isinstance(stranger, Aiohttp):
            assert caught.value.body == b"404 Not Found: there is no WebSocket at /elsewhere\n"
        async with stranger.connect(url + "chat?room=1", terms):
            pass


async def test_they_refuse(stranger: Stranger, terms: Terms) -> None:
    """All of their answer is in the exception."""
    body = "Come back tomorrow, with a ticket.\n" * 100
    refusing = Refusing(403, {"X-Ticket": "none"}, body)
    async with (
        asyncio.timeout(DEADLINE),
        stranger.listen(replace(terms, refusing=refusing)) as server,
    ):
        with pytest.raises(ConnectionError, match="HTTP 403 Forbidden") as caught:
            await AioClient.connect(
                f"{'wss' if terms.tls else 'ws'}://localhost:{server.port}/",
                ssl_context=terms.tls and terms.tls.client,
            )
        assert caught.value.status_code == 403
        assert caught.value.headers["x-ticket"] == "none"
        assert caught.value.body.decode() == body


# ----------------------------------------------------------------- certificates


@pytest.fixture
def foreign() -> Tls:
    """What an authority that nobody here trusts has signed."""
    return _issue(trustme.CA(), "localhost")


@pytest.fixture
def misnamed(authority: trustme.CA) -> Tls:
    """A certificate of our own authority, for another host."""
    return _issue(authority, "elsewhere.example")


def _issue(authority: trustme.CA, name: str) -> Tls:
    issued = authority.issue_cert(name)
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
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


@ONLY_TLS
@pytest.mark.parametrize("wrong", ["foreign", "misnamed"])
async def test_they_do_not_accept_a_wrong_certificate_of_ours(
    stranger: Stranger, terms: Terms, wrong: str, request: pytest.FixtureRequest
) -> None:
    certificate: Tls = request.getfixturevalue(wrong)
    async with asyncio.timeout(DEADLINE), serving(hold, certificate) as url:
        with pytest.raises(OSError, match=r"(?i)certificate|altnames"):
            async with stranger.connect(url, terms):
                pass


@ONLY_TLS
@pytest.mark.parametrize(
    ("wrong", "why"),
    [("foreign", "self-signed certificate"), ("misnamed", "[Hh]ostname mismatch")],
)
async def test_we_do_not_accept_a_wrong_certificate_of_theirs(
    stranger: Stranger, terms: Terms, wrong: str, why: str, request: pytest.FixtureRequest
) -> None:
    certificate: Tls = request.getfixturevalue(wrong)
    async with (
        asyncio.timeout(DEADLINE),
        stranger.listen(replace(terms, tls=certificate)) as server,
    ):
        assert terms.tls is not None
        with pytest.raises(ConnectionError, match=f"certificate of .* is not accepted: {why}"):
            await AioClient.connect(f"wss://localhost:{server.port}/", ssl_context=terms.tls.client)


@ONLY_TLS
async def test_we_want_a_certificate_from_them(
    stranger: Stranger, terms: Terms, foreign: Tls
) -> None:
    """A server whose context asks for certificates lets nobody in without a good one."""
    opened: list[AioServer] = []

    async def handler(ws: AioServer) -> None:
        opened.append(ws)
        await ws.wait_closed()

    assert terms.tls is not None
    # They trust us, and show a certificate that we do not trust.
    foreign.client.load_verify_locations(cadata=terms.tls.authority)
    stranger_is = replace(terms, tls=replace(foreign, authority=terms.tls.authority))
    async with asyncio.timeout(DEADLINE), serving(handler, terms.tls) as url:
        # With TLS 1.3 a client may learn of it only when it reads.
        with pytest.raises(
            (OSError, aiohttp.ClientError, websockets.exceptions.WebSocketException)
        ):
            async with stranger.connect(url, stranger_is) as peer:
                await peer.receive()
        assert opened == []
        async with stranger.connect(url, terms):
            pass
        assert len(opened) == 1
