"""Every example runs as its first lines say: started by its file name, in a process of its own."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import signal
import socket
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "examples"

#: Seconds for a line of output, and for the end of a process.
DEADLINE = 20


class Program:
    """A Python program that runs, seen from its terminal."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process
        self.output = ""

    async def line(self, pattern: str) -> re.Match[str]:
        """Wait for a line that matches *pattern*."""
        assert self._process.stdout is not None
        async with asyncio.timeout(DEADLINE):
            while line := (await self._process.stdout.readline()).decode():
                self.output += line
                if match := re.search(pattern, line):
                    return match
        pytest.fail(f"no line matches {pattern!r} in the output:\n{self.output}")

    async def end(self) -> str:
        """Wait for a successful end; return all of the output."""
        async with asyncio.timeout(DEADLINE):
            rest, _ = await self._process.communicate()
        self.output += rest.decode()
        assert self._process.returncode == 0, self.output
        assert "Warning" not in self.output  # such as a socket that was left open
        assert "Traceback" not in self.output
        return self.output

    async def interrupt(self) -> str:
        """Press Ctrl-C, and wait for a successful end."""
        self._process.send_signal(signal.SIGINT)
        return await self.end()


# Warnings are shown, but asyncio is not in its debug mode: it would tell how long
# things took, and call a client that does not trust our certificate an error.
ENVIRONMENT = {k: v for k, v in os.environ.items() if k != "PYTHONDEVMODE"}


@contextlib.asynccontextmanager
async def run(*command: str | Path) -> AsyncIterator[Program]:
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *("-u", "-W", "default"),
        *map(str, command),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        env=ENVIRONMENT,
    )
    try:
        yield Program(process)
    finally:
        if process.returncode is None:
            process.kill()
            await process.communicate()


async def output_of(*command: str | Path) -> str:
    async with run(*command) as program:
        return await program.end()


needs_ctrl_c = pytest.mark.skipif(
    sys.platform == "win32", reason="Windows sends Ctrl-C to a whole console, ours included"
)


@needs_ctrl_c
async def test_echo_server_and_client() -> None:
    async with run(EXAMPLES / "echo_server.py", "127.0.0.1", "0") as server:
        url = (await server.line(r"^Echoing on (ws://127\.0\.0\.1:\d+)$"))[1]
        client = EXAMPLES / "echo_client.py"
        assert await output_of(client, url) == "sent:     Hello!\nreceived: Hello!\n"
        assert await output_of(client, url, "¡Olé!") == "sent:     ¡Olé!\nreceived: ¡Olé!\n"
        await server.interrupt()


async def test_echo_client_says_why_it_could_not_connect() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    async with run(EXAMPLES / "echo_client.py", f"ws://127.0.0.1:{port}") as client:
        await client.line(r"(?i)refused")
        assert "Traceback" not in client.output


@needs_ctrl_c
async def test_custom_socket() -> None:
    async with run(EXAMPLES / "custom_socket.py", "127.0.0.1", "0") as server:
        url = (await server.line(r"^Listening on (ws://127\.0\.0\.1:\d+)$"))[1]
        client = EXAMPLES / "echo_client.py"
        assert "received: Received: Hello!\n" in await output_of(client, url)
        await server.line(r"^Disconnected: .*1000")
        assert "received: Received: again\n" in await output_of(client, url, "again")
        await server.interrupt()


@needs_ctrl_c
async def test_custom_socket_goes_on_after_something_that_is_no_request() -> None:
    async with run(EXAMPLES / "custom_socket.py", "127.0.0.1", "0") as server:
        port = (await server.line(r"^Listening on ws://127\.0\.0\.1:(\d+)$"))[1]
        for nonsense in (b"", b"what?", b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"):
            _reader, writer = await asyncio.open_connection("127.0.0.1", int(port))
            writer.write(nonsense)
            writer.write_eof()
            await server.line(r"^Not a WebSocket: ")
            writer.close()
            await writer.wait_closed()
        url = f"ws://127.0.0.1:{port}"
        assert "Received: Hello!" in await output_of(EXAMPLES / "echo_client.py", url)
        await server.interrupt()


@needs_ctrl_c
async def test_stream() -> None:
    async with run(EXAMPLES / "stream.py", "127.0.0.1", "0") as server:
        url = (await server.line(r"^Listening on (ws://127\.0\.0\.1:\d+)$"))[1]
        assert "received: Hello!\n" in await output_of(EXAMPLES / "echo_client.py", url)
        await server.interrupt()


async def test_timeout() -> None:
    assert await output_of(EXAMPLES / "timeout.py") == (
        "nothing for 0.2 seconds, so we ask\nreceived: You called?\nnothing waits: None\n"
    )


async def test_subprotocols() -> None:
    assert await output_of(EXAMPLES / "subprotocols.py") == (
        'offered v2.example, v1.example: agreed on v2.example, {"hello": "world"}\n'
        "offered v1.example: agreed on v1.example, hello world\n"
        "offered something.else: agreed on None, which this server does not accept\n"
    )


async def test_limits() -> None:
    first, second = (await output_of(EXAMPLES / "limits.py")).splitlines()
    assert first == "1000 bytes: accepted"
    assert second.startswith("1001 bytes: the peer closed the connection with 1009")


async def test_closing() -> None:
    output = await output_of(EXAMPLES / "closing.py")
    normal, away = "1000 (normal closure) 'done'", "1001 (going away)"
    assert "  server: the peer closed the connection with " + normal in output
    assert "  client: we closed the connection with " + normal in output
    assert "  client: the peer closed the connection with " + away in output


async def test_threads() -> None:
    assert await output_of(EXAMPLES / "threads.py") == (
        "there are 9592 primes below 100000\nmeanwhile: still here\n"
        "from a thread: 21.5 °C\nthe thread knows that 1 got it\n"
    )


async def test_tls_with_an_authority_made_on_the_spot() -> None:
    output = await output_of(EXAMPLES / "tls.py")
    assert re.search(r"^Serving on wss://localhost:\d+$", output, re.MULTILINE)
    assert "with trust:    Hello\n" in output
    assert re.search(r"^without trust: the certificate .* is not accepted", output, re.MULTILINE)


async def test_tls_with_files(tmp_path: Path) -> None:
    trustme = pytest.importorskip("trustme")
    certificate = trustme.CA().issue_cert("localhost")
    chain, key = tmp_path / "certificate.pem", tmp_path / "key.pem"
    certificate.cert_chain_pems[0].write_to_path(chain)
    certificate.private_key_pem.write_to_path(key)
    output = await output_of(EXAMPLES / "tls.py", "localhost", "0", chain, key)
    assert "with trust:    Hello\n" in output


def programs_of_the_readme() -> list[str]:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    return re.findall(r"^```python\n(.*?)^```$", readme, re.DOTALL | re.MULTILINE)


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
    return port


async def test_readme(tmp_path: Path) -> None:
    """The README's first program runs as it stands there; only the port is a free one."""
    first, *_ = programs_of_the_readme()
    program = tmp_path / "readme.py"
    program.write_text(first.replace("8765", str(free_port())), encoding="utf-8")
    assert await output_of(program) == "hello\n"


def test_every_example_is_run() -> None:
    """A new file in examples/ comes with a test that names it."""
    tests = "".join(p.read_text(encoding="utf-8") for p in (ROOT / "tests").rglob("test_*.py"))
    assert [path.name for path in EXAMPLES.glob("*.py") if path.name not in tests] == []
