"""curl as a client: it prints payloads, Close included, answers pings, and no more."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import subprocess
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import trustme

from simplews import AioServer

from .conftest import serving
from .strangers import DEADLINE, Terms, Tls

pytestmark = pytest.mark.interop


@pytest.fixture(scope="session")
def curl() -> str:
    """The command, if it has ``ws`` (from version 8.11 on, where it was not left out)."""
    program = shutil.which("curl")
    if program is None:
        pytest.skip("curl is missing")
    told = subprocess.run(
        [program, "--version"], capture_output=True, text=True, check=True, timeout=DEADLINE
    ).stdout.splitlines()
    protocols = next(line for line in told if line.startswith("Protocols:"))
    if not {"ws", "wss"} <= set(protocols.split()):
        # Not a failure in CI either: the machine's curl is what it is.
        pytest.skip(f"{told[0].split(' (')[0]} is without ws and wss")
    return program


@contextlib.asynccontextmanager
async def running(curl: str, *arguments: str | Path) -> AsyncIterator[asyncio.subprocess.Process]:
    process = await asyncio.create_subprocess_exec(
        curl,
        "--silent",
        "--show-error",
        "--no-buffer",
        *arguments,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()


@pytest.fixture
def trust(tls: Tls, tmp_path: Path) -> list[str | Path]:
    """Arguments that make curl verify us and show its certificate."""
    (tmp_path / "authority.pem").write_text(tls.authority)
    (tmp_path / "client.pem").write_text(tls.key + tls.certificate)
    return ["--cacert", tmp_path / "authority.pem", "--cert", tmp_path / "client.pem"]


async def test_curl_receives(curl: str, terms: Terms, trust: list[str | Path]) -> None:
    messages = ["hello\n", "Grüße\n", bytes(range(256)), "x" * 70_000, ["frag", "ments\n"], ""]
    latencies = []

    async def handler(ws: AioServer) -> None:
        for message in messages:
            await ws.send(message)
        latencies.append(await ws.ping())
        await ws.close(1000, "done")  # which curl does not answer

    sent = [m if isinstance(m, bytes) else "".join(m).encode() for m in messages]
    close = (1000).to_bytes(2, "big") + b"done"
    async with asyncio.timeout(DEADLINE), serving(handler, terms.tls, close_timeout=0.1) as url:
        async with running(curl, *trust, url) as process:
            output, errors = await process.communicate()
    assert output.removesuffix(close) == b"".join(sent), errors
    assert len(latencies) == 1


async def test_curl_is_refused(curl: str, terms: Terms, trust: list[str | Path]) -> None:
    async def handler(ws: AioServer) -> None:
        pytest.fail("nothing is here")

    async with asyncio.timeout(DEADLINE), serving({"/chat": handler}, terms.tls) as url:
        async with running(curl, *trust, url) as process:
            _, errors = await process.communicate()
    assert process.returncode == 22
    assert b"404" in errors


@pytest.mark.parametrize("scheme", ["wss"], indirect=True)
async def test_curl_verifies_us(
    curl: str, terms: Terms, trust: list[str | Path], tmp_path: Path
) -> None:
    async def handler(ws: AioServer) -> None:
        pytest.fail("the certificate was accepted")

    (tmp_path / "authority.pem").write_bytes(trustme.CA().cert_pem.bytes())
    async with asyncio.timeout(DEADLINE), serving(handler, terms.tls) as url:
        async with running(curl, *trust, url) as process:
            _, errors = await process.communicate()
    assert process.returncode == 60
    assert b"certificate" in errors
