"""permessage-deflate with strangers: what is negotiated, and that it is used."""

from __future__ import annotations

import random
from typing import Any

import pytest

from simplews import AioBase, Deflate

from .conftest import Meeting
from .strangers import Parameters, Peer

pytestmark = pytest.mark.interop

THOSE_WHO_TELL = pytest.mark.parametrize("stranger", ["node", "websockets"], indirect=True)
ONLY_PLAIN = pytest.mark.parametrize("scheme", ["ws"], indirect=True)

EASY = "Easy to compress. " * 5000

# Words in random order, and whole messages again and again: with a match nearby,
# with matches that only a large window sees, and between messages.
_random = random.Random(7692)
_WORDS = [_random.randbytes(_random.randrange(2, 9)).hex() for _ in range(500)]
TEXTS = [" ".join(_random.choices(_WORDS, k=size)) for size in (1, 40, 1000, 8000)] * 3


async def exchange(ws: AioBase, peer: Peer) -> None:
    """Messages that fill any window, both ways, some of them in fragments."""
    for text in TEXTS:
        await ws.send(text)
        assert await peer.receive() == text
        await peer.send(text)
        assert await ws.receive() == text
    await ws.send([TEXTS[2], TEXTS[1], TEXTS[2]])
    assert await peer.receive() == TEXTS[2] + TEXTS[1] + TEXTS[2]


@pytest.mark.parametrize("we", ["deflate", None])
@pytest.mark.parametrize("they", [{}, None])
async def test_compression_needs_both_ends(
    meet: Meeting, we: str | None, they: Parameters | None
) -> None:
    """Seen by the stranger, and by the bytes that travel in each direction."""
    agreed = we is not None and they is not None
    async with meet({"deflate": they}, compression=we) as (ws, peer):
        assert (peer.deflate is not None) == agreed
        await ws.send(EASY)
        assert await peer.receive() == EASY
        await peer.send(EASY)
        assert await ws.receive() == EASY
        assert (ws.stats.bytes_out < len(EASY) / 20) == agreed
        assert (ws.stats.bytes_in < len(EASY) / 20) == agreed


@ONLY_PLAIN
@THOSE_WHO_TELL
@pytest.mark.parametrize(
    "asked",
    [
        {"server_no_context_takeover": True},
        {"client_no_context_takeover": True},
        {"server_no_context_takeover": True, "client_no_context_takeover": True},
        {"server_max_window_bits": 9},
        {"client_max_window_bits": 9},
        {"server_max_window_bits": 10, "client_max_window_bits": 11},
        {
            "server_no_context_takeover": True,
            "client_no_context_takeover": True,
            "server_max_window_bits": 9,
            "client_max_window_bits": 9,
        },
    ],
    ids=" ".join,
)
async def test_we_grant_what_a_stranger_asks_for(meet: Meeting, asked: dict[str, Any]) -> None:
    async with meet({"deflate": asked}, compression=Deflate(window_bits=15)) as (ws, peer):
        assert peer.deflate is not None
        for name, value in asked.items():
            assert peer.deflate[name] == value
        await exchange(ws, peer)


@ONLY_PLAIN
@THOSE_WHO_TELL
@pytest.mark.parametrize("bits", [9, 12, 15])
@pytest.mark.parametrize("takeover", [True, False])
async def test_strangers_grant_what_we_ask_for(meet: Meeting, bits: int, takeover: bool) -> None:
    settings = Deflate(threshold=0, window_bits=bits, context_takeover=takeover)
    async with meet(compression=settings) as (ws, peer):
        assert peer.deflate is not None
        for side in ("server", "client"):
            name = f"{side}_no_context_takeover"
            assert bool(peer.deflate.get(name, False)) == (not takeover)
        if meet.role == "client":  # a server sets the windows
            assert peer.deflate.get("server_max_window_bits", 15) == bits
        await exchange(ws, peer)


@pytest.mark.parametrize("bits", [9, 12, 15])
@pytest.mark.parametrize("takeover", [True, False])
@pytest.mark.parametrize("stranger", ["aiohttp"], indirect=True)
@ONLY_PLAIN
async def test_aiohttp_follows_our_parameters(meet: Meeting, bits: int, takeover: bool) -> None:
    """It tells only whether it compresses; that the data arrives shows the rest."""
    settings = Deflate(threshold=0, window_bits=bits, context_takeover=takeover)
    async with meet(compression=settings) as (ws, peer):
        assert peer.deflate is not None
        await exchange(ws, peer)


@ONLY_PLAIN
@pytest.mark.parametrize("stranger", ["node"], indirect=True)
async def test_window_of_8_bits(meet: Meeting) -> None:
    """
    zlib cannot make a raw stream with a window of 256 bytes.

    As a server we decline, as a client we agree and send as it is.
    """
    side = "server" if meet.role == "client" else "client"
    asked = {f"{side}_max_window_bits": 8}
    async with meet({"deflate": asked}, compression=Deflate(threshold=0)) as (ws, peer):
        assert (peer.deflate is None) == (meet.role == "client")
        sent = ws.stats.bytes_out
        await ws.send(EASY)
        assert await peer.receive() == EASY
        assert ws.stats.bytes_out - sent >= len(EASY)
        await peer.send(EASY)
        assert await ws.receive() == EASY


@ONLY_PLAIN
async def test_a_message_may_be_left_uncompressed(meet: Meeting) -> None:
    """RFC 7692 §6: compression is chosen message by message, and the context stays right."""
    async with meet(compression=Deflate(threshold=1000)) as (ws, peer):
        for compress in (None, False, True, None):
            for text in (EASY, "short", ""):
                before = ws.stats.bytes_out
                await ws.send(text, compress=compress)
                assert await peer.receive() == text
                smaller = ws.stats.bytes_out - before < len(text)
                assert smaller == (text == EASY and compress is not False)
