"""The switch of the extra `speed`, and what holds of the packages behind it."""

from __future__ import annotations

import asyncio
import importlib.util
import logging
import os
import random
import socket
import ssl
import subprocess
import sys
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from simplews import AioClient, AioServer, Rooms, serve, speed
from simplews.protocol.codec import Decoder, Encoder
from simplews.protocol.deflate import Agreement, Deflate, Deflater

from .peer import until
from .tls import Tls


def needs(package: str) -> pytest.MarkDecorator:
    missing = importlib.util.find_spec(package) is None
    return pytest.mark.skipif(missing, reason=f"{package} is not installed")


@pytest.fixture(autouse=True)
def switch() -> Iterator[None]:
    """The switch is on, and afterwards as it was before."""
    before = speed.report()
    speed.enable()
    yield
    if before == speed.Report(None, None, None):
        speed.disable()


async def echo(ws: AioServer) -> None:
    async for message in ws:
        await ws.send(message)


# ---------------------------------------------------------------------- switch


def said(program: str, **environment: str) -> str:
    """What a Python program of its own prints."""
    found = subprocess.run(
        [sys.executable, "-c", program],
        env={**os.environ, "SIMPLEWS_SPEED": "", **environment},
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    assert found.stderr == ""
    return found.stdout.strip()


REPORT = "import simplews; print(simplews.speed.report())"


@pytest.mark.parametrize("value", ["", "0"])
def test_nothing_is_used_unless_asked_for(value: str) -> None:
    """Not even if it is installed."""
    found = said("import sys\n" + REPORT + "\nprint('aiofastnet' in sys.modules)")
    assert found.splitlines() == [
        "Report(loop=None, tls=None, compression=None)",
        "False",
    ]


def test_environment_is_the_same_switch() -> None:
    assert said(REPORT, SIMPLEWS_SPEED="1") == str(speed.report())


@pytest.mark.parametrize(
    ("package", "part"),
    [("uvloop", "loop"), ("aiofastnet", "tls"), ("isal", "compression")],
)
def test_what_is_missing_is_left_out(package: str, part: str) -> None:
    """And the others are used all the same."""
    program = f"import sys; sys.modules[{package!r}] = None\n{REPORT}"
    found = said(program, SIMPLEWS_SPEED="1")
    values = {name: getattr(speed.report(), name) for name in speed.Report.__slots__}
    values[part] = None
    assert found == str(speed.Report(**values))


def test_report_says_package_and_version() -> None:
    report = speed.enable()
    assert report == speed.report()
    for value, package in (
        (report.loop, "uvloop"),
        (report.tls, "aiofastnet"),
        (report.compression, "isal"),
    ):
        if importlib.util.find_spec(package) is not None:
            assert value is not None and value.startswith(f"{package} ")
    speed.disable()
    assert speed.report() == speed.Report(None, None, None)
    assert speed.loop_factory() is None


def test_run_runs_on_the_loop_of_the_report() -> None:
    async def module() -> str:
        return type(asyncio.get_running_loop()).__module__

    fast = speed.run(module())
    assert fast.startswith("uvloop") == (speed.report().loop is not None)
    speed.disable()
    assert speed.run(module()).startswith("asyncio")


# ------------------------------------------------------------------ transports


@needs("aiofastnet")
@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
@pytest.mark.parametrize("kind", ["tcp", "tls", "unix", "sock"])
def test_both_ends_talk_on_both_loops(loop: str, kind: str, tls: Tls, tmp_path: Path) -> None:
    """TLS is aiofastnet's, and nothing else."""
    if kind == "unix" and not hasattr(socket, "AF_UNIX"):
        pytest.skip("this platform has no Unix sockets")
    if loop == "uvloop" and speed.report().loop is None:
        pytest.skip("uvloop is not installed")
    seen: list[Any] = []

    async def handler(ws: AioServer) -> None:
        seen.append(ws)
        await echo(ws)

    async def talk(url: str, context: ssl.SSLContext | None) -> None:
        async with AioClient.connect(url, ssl_context=context) as ws:
            for message in ("short", "long " * 50_000, b"bytes" * 300_000):
                await ws.send(message)
                assert await ws.receive() == message
            for end in (ws, *seen):
                assert end.wsock is not None
                module = type(end.wsock.transport).__module__
                assert module.startswith("aiofastnet") == (kind == "tls"), module
                assert (end._link.get_extra_info("ssl_object") is not None) == (kind == "tls")
            if kind != "unix":
                assert seen[0].remote_address[0] == "127.0.0.1"
        assert ws.close_code == 1000

    async def main() -> None:
        async with asyncio.timeout(30):
            if kind == "unix":
                path = str(tmp_path / "ws.sock")
                async with serve(handler, path=path):
                    await talk(f"ws+unix:{path}", None)
            elif kind == "sock":
                listener = socket.create_server(("127.0.0.1", 0))
                async with serve(handler, sock=listener) as server:
                    await talk(f"ws://127.0.0.1:{server.port}/", None)
            else:
                context = tls.server if kind == "tls" else None
                async with serve(handler, "127.0.0.1", 0, ssl=context) as server:
                    scheme = "wss" if context else "ws"
                    url = f"{scheme}://127.0.0.1:{server.port}/"
                    await talk(url, tls.client if context else None)

    factory = speed.loop_factory() if loop == "uvloop" else None
    with asyncio.Runner(loop_factory=factory) as runner:
        runner.run(main())


@pytest.mark.parametrize("said", [b"", b"\x16\x03\x01"], ids=["nothing", "three bytes"])
async def test_peer_that_leaves_during_the_tls_handshake_makes_no_noise(
    said: bytes, tls: Tls, caplog: pytest.LogCaptureFixture
) -> None:
    """Nobody has to know, but the log at INFO."""
    loop = asyncio.get_running_loop()
    complaints: list[dict[str, Any]] = []
    loop.set_exception_handler(lambda _, context: complaints.append(context))
    caplog.set_level(logging.INFO, "simplews")
    async with asyncio.timeout(30), serve(echo, "127.0.0.1", 0, ssl=tls.server) as server:
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        writer.write(said)
        writer.write_eof()
        await reader.read()
        writer.close()
        await until(lambda: "opened no WebSocket" in caplog.text)
    assert not complaints
    assert not [record for record in caplog.records if record.levelno > logging.INFO]


async def test_streams_may_be_collected_in_another_thread(tls: Tls) -> None:
    """The garbage collector runs where it likes."""
    async with asyncio.timeout(30), serve(echo, "127.0.0.1", 0, ssl=tls.server) as server:
        url = f"wss://127.0.0.1:{server.port}/"
        async with AioClient.connect(url, ssl_context=tls.client) as ws:
            (accepted,) = server.connections
        await ws.wait_closed()
        await accepted.wait_closed()
        for end in (ws, accepted):
            assert end.wsock is not None
            forgotten = getattr(end.wsock, "__del__", None)
            if forgotten is not None:
                await asyncio.to_thread(forgotten)


# ----------------------------------------------------------------- compression


@pytest.mark.parametrize("level", range(10))
@pytest.mark.parametrize("bits", range(9, 16))
@pytest.mark.parametrize("takeover", [True, False], ids=["takeover", "no takeover"])
def test_what_is_compressed_fits_the_window(level: int, bits: int, takeover: bool) -> None:
    """RFC 7692 §7.1.2: zlib inflates it with the window that was agreed, and no larger one."""
    settings = Deflate(level=level, window_bits=bits, context_takeover=takeover)
    deflater = Deflater(Agreement(bits, bits, takeover, takeover, settings))
    number = random.Random(level * 16 + bits)
    words = [number.randbytes(number.randrange(3, 40)) for _ in range(200)]
    inflate = zlib.decompressobj(-bits)
    for size in (0, 1, 30, 0, 400, 3000):
        fragments = [
            b"".join(number.choices(words, k=size)),
            number.randbytes(size),
            b"",
            bytes(size * 40),
        ]
        for cut in (1, 4):
            pieces = [deflater.piece(f, False) for f in fragments[: cut - 1]]
            pieces.append(deflater.piece(fragments[cut - 1], True))
            if not takeover:
                inflate = zlib.decompressobj(-bits)
            data = inflate.decompress(b"".join(pieces) + b"\0\0\xff\xff")
            assert data == b"".join(fragments[:cut])
            assert inflate.unused_data == b"" and not inflate.eof
    assert zlib.decompressobj(-bits).decompress(deflater.alone(fragments[0])) == fragments[0]


@needs("isal")
def test_compression_takes_no_more_bytes_with_isal() -> None:
    """At the level of the default, for messages that look alike."""
    rows = [
        f'{{"id": {n * 7919 % 1000}, "name": "sensor-{n % 7}", "on": true}}' for n in range(400)
    ]
    messages = ["".join(rows[n : n + 15]).encode() for n in range(380)]

    def total() -> int:
        deflater = Deflater(Agreement(12, 12, True, True, Deflate()))
        return sum(len(deflater.piece(message, True)) for message in messages)

    fast = total()
    speed.disable()
    assert fast < total() * 1.05


async def test_connections_agree_while_the_switch_is_thrown() -> None:
    """It is about what is made from then on."""
    text = "compress me, " * 100
    agreed = Agreement(12, 12, True, True, Deflate())
    encoder, decoder = Encoder(True, agreed), Decoder(False, agreement=agreed)
    found: list[Any] = []
    for _ in range(3):
        for toggle in (speed.disable, speed.enable):
            toggle()
            payload = encoder.deflate(text.encode(), True)
            decoder.feed(encoder.frame(1, payload, True, True), found, [])
            decoder.feed(encoder.shared(1, text.encode(), {}), found, [])
    assert found == [text] * 12


async def test_rooms_with_the_switch_on() -> None:
    """A broadcast is compressed once, with isal; every member inflates it."""
    rooms = Rooms()
    async with asyncio.timeout(30):

        async def member(ws: AioServer) -> None:
            async with rooms.join("room", ws):
                async for message in ws:
                    await rooms.broadcast("room", message)

        async with serve(member, "127.0.0.1", 0) as server:
            url = f"ws://127.0.0.1:{server.port}/"
            async with AioClient.connect(url) as one, AioClient.connect(url) as two:
                await two.ping()
                for number in range(5):
                    await one.send(f"{number}, " * 300)
                    assert await one.receive() == await two.receive() == f"{number}, " * 300
