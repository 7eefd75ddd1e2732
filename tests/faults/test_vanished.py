"""A peer that vanishes for real: in another network namespace, behind a link that is taken down.

No RST, no FIN, no ICMP: what a cable that is pulled out does. It needs root, Linux and
iproute2, and is skipped where they are missing.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator

import pytest

from simplews import AioServer, ConnectionClosed, serve

HERE, THERE = "198.51.100.1", "198.51.100.2"  # RFC 5737: for documentation

CLIENT = """
import asyncio, sys
from simplews import AioClient
async def main():
    ws = await AioClient.connect(sys.argv[1], open_timeout=30)
    await ws.send("here I am")
    await asyncio.sleep(300)  # until it is killed: it is to hear of nothing
asyncio.run(main())
"""


def ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True, capture_output=True, timeout=10)


@pytest.fixture
def link() -> Iterator[tuple[str, str]]:
    """A network namespace, and the name of our end of the link to it."""
    if not hasattr(os, "geteuid") or os.geteuid() != 0 or shutil.which("ip") is None:
        pytest.skip("network namespaces need root and iproute2")
    if "198.51.100." in subprocess.run(["ip", "route"], capture_output=True, text=True).stdout:
        pytest.skip("this machine uses the addresses of this test")
    name = f"simplews-{os.getpid()}"
    near, far = f"ws{os.getpid()}a", f"ws{os.getpid()}b"
    with contextlib.ExitStack() as stack:
        try:
            ip("netns", "add", name)
            stack.callback(ip, "netns", "delete", name)
            ip("link", "add", near, "type", "veth", "peer", "name", far, "netns", name)
            # The namespace would take it along, but some time later.
            stack.callback(ip, "link", "delete", near)
        except (OSError, subprocess.SubprocessError) as exc:
            stderr = getattr(exc, "stderr", None) or b""
            pytest.skip(f"no network namespaces here: {exc} {stderr.decode().strip()}")
        ip("address", "add", f"{HERE}/30", "dev", near)
        ip("link", "set", near, "up")
        ip("-n", name, "address", "add", f"{THERE}/30", "dev", far)
        ip("-n", name, "link", "set", far, "up")
        yield name, near


@pytest.mark.parametrize("waits", ["receive", "send"])
async def test_a_peer_behind_a_link_that_goes_down(link: tuple[str, str], waits: str) -> None:
    """RELIABILITY: every waiter is woken, with 1006 or 1011, though nothing tells us."""
    name, near = link
    opened: asyncio.Future[AioServer] = asyncio.get_running_loop().create_future()

    async def handler(ws: AioServer) -> None:
        assert await ws.receive() == "here I am"
        opened.set_result(ws)
        await ws.wait_closed()

    async with serve(handler, HERE, 0, ping_interval=0.3) as server:
        client = await asyncio.create_subprocess_exec(
            *("ip", "netns", "exec", name, sys.executable, "-c", CLIENT),
            f"ws://{HERE}:{server.port}/",
        )
        try:
            ws = await opened
            ip("link", "set", near, "down")
            with pytest.raises(ConnectionClosed) as caught:
                while True:
                    await (ws.receive() if waits == "receive" else ws.send(b"x" * 10_000))
            assert caught.value.code in (1006, 1011)
            await ws.wait_closed()
        finally:
            client.kill()
            await client.wait()
