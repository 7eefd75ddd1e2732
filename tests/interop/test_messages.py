"""Messages, fragments and pings, both ways, with every stranger in both roles."""

from __future__ import annotations

import asyncio
import random
from typing import Any

import pytest

from simplews import Deflate

from .conftest import Meeting

pytestmark = pytest.mark.interop

TEXTS = {
    "empty": "",
    "ascii": "hello",
    "non-ascii": "Grüße, 世界, \N{GRINNING FACE}, \u2028, \0",
    "mebibyte": "Grüße, 世界! " * 52429,
}
# RFC 6455 §5.2: the lengths around which a header grows.
SIZES = [0, 125, 126, 65535, 65536, 1024 * 1024]

# On neither end; or on both, of every message, however short.
COMPRESSION: dict[str, dict[str, Any]] = {
    "plain": {"theirs": {"deflate": None}, "compression": None},
    "deflate": {"theirs": {"deflate": {}}, "compression": Deflate(threshold=0)},
}

THOSE_WHO_FRAGMENT = pytest.mark.parametrize("stranger", ["node", "websockets"], indirect=True)


@pytest.fixture(params=COMPRESSION)
def compression(request: pytest.FixtureRequest) -> dict[str, Any]:
    """Arguments of `Meeting`."""
    return COMPRESSION[request.param]


def noise(size: int) -> bytes:
    """Bytes without a pattern, the same every time."""
    return random.Random(size).randbytes(size)


async def test_text_arrives_as_it_was_sent(meet: Meeting, compression: dict[str, Any]) -> None:
    async with meet(**compression) as (ws, peer):
        for text in TEXTS.values():
            await ws.send(text)
            assert await peer.receive() == text
            await peer.send(text)
            assert await ws.receive() == text


async def test_binary_arrives_as_it_was_sent(meet: Meeting, compression: dict[str, Any]) -> None:
    async with meet(**compression) as (ws, peer):
        for size in SIZES:
            data = noise(size)
            await ws.send(data)
            assert await peer.receive() == data
            await peer.send(data)
            assert await ws.receive() == data


async def test_messages_keep_their_order(meet: Meeting, compression: dict[str, Any]) -> None:
    messages = [noise(n) if n % 2 else f"message {n}" * n for n in range(200)]
    async with meet(**compression) as (ws, peer):
        for message in messages:
            await ws.send(message)
        assert [await peer.receive() for _ in messages] == messages
        for message in messages:
            await peer.send(message)
        assert [await ws.receive() for _ in messages] == messages


async def test_our_fragments_become_one_message(meet: Meeting, compression: dict[str, Any]) -> None:
    async with meet(**compression) as (ws, peer):
        await ws.send(["Grü", "", "ße", "!"])
        assert await peer.receive() == "Grüße!"
        await ws.send([noise(70000), b"", noise(3)])
        assert await peer.receive() == noise(70000) + noise(3)


@THOSE_WHO_FRAGMENT
async def test_their_fragments_become_one_message(
    meet: Meeting, compression: dict[str, Any]
) -> None:
    """RFC 6455 §5.4: fragments are joined; whoever wants them gets them as they arrive."""
    async with meet(**compression) as (ws, peer):
        await peer.send("Grü", "", "ße", "!")
        assert await ws.receive() == "Grüße!"
        await peer.send(noise(70000), b"", noise(3))
        assert await ws.receive() == noise(70000) + noise(3)
        await peer.send("one ", "two ", "three")
        pieces = [piece async for piece in ws.receive_stream()]
        assert "".join(map(str, pieces)) == "one two three"


@THOSE_WHO_FRAGMENT
async def test_ping_between_fragments_is_answered_at_once(
    meet: Meeting, compression: dict[str, Any]
) -> None:
    """RFC 6455 §5.4: "control frames MAY be injected in the middle of a fragmented message"."""
    async with meet(**compression) as (ws, peer):
        assert await peer.send_around_ping("first, ", b"between", "last") == b"between"
        assert await ws.receive() == "first, last"


@pytest.mark.parametrize("payload", [b"", b"x", bytes(range(125))], ids=len)
async def test_their_ping_gets_our_pong_with_its_payload(meet: Meeting, payload: bytes) -> None:
    """RFC 6455 §5.5.3: "identical Application data"."""
    async with meet({"autopong": False}) as (_ws, peer):
        assert await peer.ping(payload) == payload


async def test_our_ping_gets_their_pong(meet: Meeting) -> None:
    async with meet() as (ws, peer):
        receiving = asyncio.ensure_future(peer.receive())  # aiohttp answers while it receives
        assert 0 < await ws.ping() < 20
        assert ws.latency is not None
        assert await asyncio.gather(ws.ping(), ws.ping())
        await ws.send("over")
        assert await receiving == "over"


async def test_keepalive_is_satisfied(meet: Meeting) -> None:
    """Every stranger answers: the first pong of the keepalive sets `latency`."""
    async with meet(ping_interval=0.02) as (ws, peer):
        for _ in range(5):
            await ws.send("tick")
            assert await peer.receive() == "tick"
        receiving = asyncio.ensure_future(peer.receive())
        while ws.latency is None:
            assert await ws.receive(timeout=0.05) is None
        await ws.send("over")
        assert await receiving == "over"
        assert ws.connected


@pytest.mark.parametrize("role", ["server"], indirect=True)
async def test_greeting_that_comes_with_the_handshake_is_read(meet: Meeting) -> None:
    """A message may share a TCP segment with the 101 response."""
    async with meet({"greeting": "welcome"}) as (ws, _peer):
        assert await ws.receive() == "welcome"
