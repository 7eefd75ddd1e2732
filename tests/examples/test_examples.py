"""Every example runs as its first lines say: started by its file name, in a process of its own."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from simplews import AioClient, ConnectionError

from ..engines import redis_server
from ..ports import free_port

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
        # They import one another, from where they stand.
        env={k: v for k, v in ENVIRONMENT.items() if k != "PYTHONSAFEPATH"},
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


async def test_reconnect() -> None:
    output = await output_of(EXAMPLES / "reconnect.py")
    assert re.search(r"^nothing listens on .*; again in 0\.\d\d s$", output, re.MULTILINE)
    assert "connected\nreceived: tick 1\n" in output
    assert "the peer closed the connection with 1012 (service restart)" in output
    assert output.count("connected\n") == 2
    assert output.endswith("received: tick 2\n")


@needs_ctrl_c
async def test_workers() -> None:
    async with run(EXAMPLES / "workers.py", "127.0.0.1", "0") as server:
        started = await server.line(r"^Process \d+ watches \((\d+), (\d+)\) on (ws://.*)$")
        async with AioClient.connect(started[3]) as ws:
            greeting = str(await ws.receive(DEADLINE))
        assert greeting.removeprefix("hello from process ") in started.groups()
        assert "KeyboardInterrupt" not in await server.interrupt()


@needs_ctrl_c
async def test_deployed_app() -> None:
    async with run(EXAMPLES / "deploy" / "app.py", "127.0.0.1", "0", "1") as server:
        port = int((await server.line(r"^Serving on 127\.0\.0\.1:(\d+)$"))[1])
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n")
        async with asyncio.timeout(DEADLINE):
            answer = await reader.read()
        assert answer.startswith(b"HTTP/1.1 200 ") and answer.endswith(b"ok\n")
        writer.close()
        await writer.wait_closed()
        async with AioClient.connect(f"ws://127.0.0.1:{port}") as ws:
            assert await ws.receive(DEADLINE) == "hello, nobody"
        await server.interrupt()


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


SAMPLE = re.compile(
    r'^([a-zA-Z_:][a-zA-Z0-9_:]*)(\{[a-zA-Z_][a-zA-Z0-9_]*="[^"\\\n]*"\})? ([0-9.eE+-]+)$'
)


def samples_of(text: str) -> dict[str, float]:
    """Read Prometheus' text format 0.0.4: every metric with its HELP and TYPE, in one group."""
    assert text.endswith("\n")
    found: dict[str, float] = {}
    families: list[str] = []
    for line in text.splitlines():
        if line.startswith("# HELP "):
            name, meaning = line.removeprefix("# HELP ").split(" ", 1)
            assert name not in families
            assert meaning
            families.append(name)
        elif line.startswith("# TYPE "):
            name, kind = line.removeprefix("# TYPE ").split(" ")
            assert name == families[-1]
            # By convention a counter says "total", and nothing else does.
            assert kind == ("counter" if name.endswith("_total") else "gauge")
        else:
            match = SAMPLE.match(line)
            assert match is not None, line
            assert match[1] == families[-1]
            key = match[1] + (match[2] or "")
            assert key not in found
            found[key] = float(match[3])
    return found


async def fetched(url: str) -> tuple[str, str]:
    """Head and body of a plain HTTP answer."""
    host, _, path = url.removeprefix("http://").partition("/")
    name, port = host.split(":")
    reader, writer = await asyncio.open_connection(name, int(port))
    writer.write(f"GET /{path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n".encode())
    head, _, body = (await reader.read()).decode().partition("\r\n\r\n")
    writer.close()
    await writer.wait_closed()
    return head, body


@needs_ctrl_c
async def test_prometheus() -> None:
    """What it serves is Prometheus' format, and true."""
    async with run(EXAMPLES / "prometheus.py", "127.0.0.1", "0") as server:
        found = await server.line(r"^Echoing on (ws://\S+), counting on (http://\S+/metrics)$")
        url, metrics = found[1], found[2]
        client = EXAMPLES / "echo_client.py"
        for _ in range(2):
            assert "received: Hello!\n" in await output_of(client, url)
        assert (await fetched(metrics.removesuffix("metrics")))[0].startswith("HTTP/1.1 404 ")
        with pytest.raises(ConnectionError, match="403"):
            await AioClient.connect(
                url, headers={"Origin": "https://example.org", "Cookie": "session=1"}
            )
        async with AioClient.connect(url, compression=None) as ws:
            await ws.send("x" * 100)
            await ws.receive()
            head, body = await fetched(metrics)
        assert head.startswith("HTTP/1.1 200 ")
        assert "Content-Type: text/plain; version=0.0.4; charset=utf-8" in head.split("\r\n")
        samples = samples_of(body)
        received = samples.pop('simplews_bytes_total{direction="in"}')
        sent = samples.pop('simplews_bytes_total{direction="out"}')
        assert 200 > received > sent > 100
        assert samples.pop("simplews_loop_blocked_seconds_total") >= 0
        assert samples == {
            "simplews_connections_open": 1,
            "simplews_connections_opened_total": 3,
            'simplews_connections_ended_total{code="1000"}': 2,
            "simplews_clients_opening": 1,
            'simplews_clients_refused_total{status="403"}': 1,
            "simplews_clients_too_slow_total": 0,
            "simplews_clients_left_total": 0,
            "simplews_http_answers_total": 1,
            "simplews_handlers_running": 1,
            "simplews_handler_errors_total": 0,
            'simplews_messages_total{direction="in"}': 3,
            'simplews_messages_total{direction="out"}': 3,
        }
        output = await server.interrupt()
        # The log of the how-to guide: one line for each life, and who ended it.
        lives = re.findall(r"INFO simplews\.server: \('127\.0\.0\.1', \d+\) /: open (.*)", output)
        assert len(lives) == 3
        assert all("1 messages in, 1 out: the peer closed the connection" in line for line in lives)


@needs_ctrl_c
async def test_workers_prometheus() -> None:
    """One page for two processes, and each of them on it."""
    script = EXAMPLES / "workers_prometheus.py"
    async with run(script, "127.0.0.1", "0", "0") as server:
        found = await server.line(r"^Echoing on (ws://\S+), counting on (http://\S+/metrics)$")
        url, metrics = found[1], found[2]
        async with AioClient.connect(url) as one, AioClient.connect(url) as two:
            for ws in (one, two):
                await ws.send("x")
                await ws.receive(DEADLINE)
            samples = samples_of((await fetched(metrics))[1])
        assert samples["simplews_connections_open"] == 2
        assert samples['simplews_messages_total{direction="in"}'] == 2
        assert samples["simplews_workers_late"] == 0
        each = [value for name, value in samples.items() if "{pid=" in name]
        assert (len(each), sum(each)) == (2, 2)
        with pytest.raises(ConnectionError, match="404"):
            await AioClient.connect(metrics.replace("http:", "ws:"))
        await server.interrupt()


async def test_blocked() -> None:
    """The stack names the function that blocks, while it does."""
    output = await output_of(EXAMPLES / "blocked.py")
    assert "Timeout (0:00:00.2" in output
    assert re.search(r'blocked.py", line \d+ in resize\n.*blocked.py", line \d+ in handler', output)
    assert output.endswith(" s\n")


def programs_of_the_readme() -> list[str]:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    return re.findall(r"^```python\n(.*?)^```$", readme, re.DOTALL | re.MULTILINE)


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


def test_tests_of_a_chat() -> None:
    """They import chat.py, so they are run where it is, as their first lines say."""
    run = subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "test_chat.py"],
        cwd=EXAMPLES,
        env={k: v for k, v in ENVIRONMENT.items() if k != "PYTHONSAFEPATH"},
        capture_output=True,
        text=True,
        timeout=55,
    )
    assert "5 passed" in run.stdout, run.stdout + run.stderr


@needs_ctrl_c
async def test_rooms_redis(monkeypatch: pytest.MonkeyPatch) -> None:
    with redis_server() as redis:
        monkeypatch.setitem(ENVIRONMENT, "REDIS_URL", f"redis://127.0.0.1:{redis.port}")
        script = EXAMPLES / "rooms_redis.py"
        async with run(script, "0") as one, run(script, "0", "1") as two:
            urls = [(await program.line(r"ws://[^,]+"))[0] for program in (one, two)]
            async with AioClient.connect(urls[0]) as a, AioClient.connect(urls[1]) as b:
                # Whoever gets an answer has joined; the other may not have yet.
                reading = asyncio.ensure_future(b.receive(DEADLINE))
                while not reading.done():
                    await a.send("hello")
                    # Each goes through Redis, and what it is behind with is awaited at the end.
                    await asyncio.wait({reading}, timeout=0.05)
                assert await reading == "hello"
            for program in (one, two):
                await program.interrupt()


async def test_resume() -> None:
    """Nothing is missing after the first restart, and after the second it is told."""
    output = await output_of(EXAMPLES / "resume.py")
    lines = [line for line in output.splitlines() if line.startswith("lobby: ")]
    assert lines == [
        "lobby: I am here",
        "lobby: 1 of 3",
        "lobby: 2 of 3",
        "lobby: 3 of 3",
        "lobby: messages are missing, the history does not reach back",
        "lobby: end",
    ]
