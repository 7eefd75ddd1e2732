"""The examples inside other servers and frameworks, each in a process of its own."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from simplews import AioClient, AioServer, ConnectionClosed
from simplews import ConnectionError as OpenError

from ..ports import free_port
from .test_examples import (
    DEADLINE,
    EXAMPLES,
    Program,
    needs_ctrl_c,
    output_of,
    programs_of_the_readme,
    run,
)

pytestmark = pytest.mark.timeout(120)

CLIENT = EXAMPLES / "echo_client.py"


class Site:
    """An example that listens."""

    def __init__(self, program: Program, port: int) -> None:
        self.program = program
        self.port = port

    def url(self, target: str) -> str:
        return f"ws://127.0.0.1:{self.port}{target}"

    async def fetch(self, target: str, *, post: str | None = None) -> tuple[int, str, str]:
        """Ask by HTTP, as a browser would: the status, the header fields and the body."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        body = b"" if post is None else post.encode()
        head = [
            f"{'GET' if post is None else 'POST'} {target} HTTP/1.1",
            f"Host: 127.0.0.1:{self.port}",
            "Connection: close",
            f"Content-Length: {len(body)}",
        ]
        writer.write("\r\n".join([*head, "", ""]).encode() + body)
        async with asyncio.timeout(DEADLINE):
            answer = (await reader.read()).decode()
        writer.close()
        await writer.wait_closed()
        fields, _, content = answer.partition("\r\n\r\n")
        return int(answer.split()[1]), fields.lower(), content


@contextlib.asynccontextmanager
async def site(example: str, *packages: str) -> AsyncIterator[Site]:
    """Start an example on a free port; at the end press Ctrl-C, which it obeys in peace."""
    for package in packages:
        pytest.importorskip(package)
    async with run(EXAMPLES / example, "127.0.0.1", "0") as program:
        port = (await program.line(r"unning on http://127\.0\.0\.1:(\d+)"))[1]
        yield Site(program, int(port))
        await program.interrupt()


async def echoed(url: str, message: str = "¡Olé!") -> None:
    """The client of the examples gets its message back."""
    output = await output_of(CLIENT, url, message)
    assert output == f"sent:     {message}\nreceived: {message}\n"


async def until_members(host: Site, room: str, count: int) -> None:
    """Wait until the page says that *count* are in the room: leaving takes a moment."""
    async with asyncio.timeout(DEADLINE):
        while json.loads((await host.fetch(f"/chat/{room}"))[2]) != {"members": count}:  # noqa: ASYNC110
            await asyncio.sleep(0)


@needs_ctrl_c
async def test_fastapi() -> None:
    async with site("fastapi_app.py", "fastapi", "uvicorn") as host:
        lobby, garden = host.url("/chat/lobby"), host.url("/chat/garden")
        async with (
            AioClient.connect(lobby) as ann,
            AioClient.connect(lobby) as bob,
            AioClient.connect(garden) as eve,
        ):
            await until_members(host, "lobby", 2)
            await until_members(host, "garden", 1)
            await eve.send("alone")
            await ann.send("hello")
            assert await bob.receive(DEADLINE) == "hello"
            await bob.send(b"\x00")
            assert await ann.receive(DEADLINE) == b"\x00"
        await until_members(host, "lobby", 0)


@needs_ctrl_c
async def test_fastapi_stops_while_somebody_is_connected() -> None:
    """uvicorn tells those who are connected that it goes down, and the handler ends in peace."""
    async with site("fastapi_app.py", "fastapi", "uvicorn") as host:
        client = await AioClient.connect(host.url("/chat/lobby"))
        await until_members(host, "lobby", 1)
    with pytest.raises(ConnectionClosed) as caught:
        await client.receive(DEADLINE)
    assert caught.value.code == 1012
    await client.close()


@needs_ctrl_c
async def test_starlette() -> None:
    async with site("starlette_app.py", "starlette", "uvicorn") as host:
        assert (await host.fetch("/news", post="Nobody hears."))[2] == "0 got it\n"
        async with AioClient.connect(host.url("/news")) as ann:
            async with AioClient.connect(host.url("/news")) as bob:
                async with asyncio.timeout(DEADLINE):
                    while (await host.fetch("/news", post="It rains."))[2] != "2 got it\n":  # noqa: ASYNC110
                        await asyncio.sleep(0)
                assert await ann.receive(DEADLINE) == "It rains."
                assert await bob.receive(DEADLINE) == "It rains."


@needs_ctrl_c
async def test_lilya() -> None:
    async with site("lilya_app.py", "lilya", "uvicorn") as host:
        async with (
            AioClient.connect(host.url("/quiz/ada")) as ada,
            AioClient.connect(host.url("/quiz/bob")) as bob,
        ):
            for client in (ada, bob):
                question = await client.receive_text(DEADLINE)
                assert question.startswith("How many bits")
            await ada.send("32")
            assert await bob.receive(DEADLINE) == "ada is right"
            await bob.send("42")
            assert await bob.receive(DEADLINE) == "bob is wrong"
            assert await bob.receive(DEADLINE) == "It has 32."
            await bob.wait_closed()
            assert bob.close_code == 1000


@needs_ctrl_c
async def test_litestar() -> None:
    async with site("litestar_app.py", "litestar", "uvicorn") as host:
        await echoed(host.url("/echo"))
        assert (await host.fetch("/"))[2] == "The WebSocket is at /echo\n"


@needs_ctrl_c
async def test_quart() -> None:
    async with site("quart_app.py", "quart", "uvicorn") as host:
        await echoed(host.url("/echo"))
        assert (await host.fetch("/"))[2] == "The WebSocket is at /echo\n"


@needs_ctrl_c
async def test_aiohttp() -> None:
    async with site("aiohttp_app.py", "aiohttp") as host:
        await echoed(host.url("/echo"))
        status, fields, body = await host.fetch("/")
        assert (status, body) == (200, "The WebSocket is at /echo\n")
        assert "x-served-by: aiohttp and simplews" in fields
        assert "server-timing: app;dur=" in fields
        status, _, body = await host.fetch("/echo")
        assert status == 426
        assert "ws:// URL" in body
        client = await AioClient.connect(host.url("/echo"))
        assert client.headers["x-served-by"] == "aiohttp and simplews"
    with pytest.raises(ConnectionClosed) as caught:
        await client.receive(DEADLINE)
    assert caught.value.received is not None
    assert caught.value.code == 1001


@needs_ctrl_c
async def test_asgi_without_a_framework() -> None:
    async with site("asgi_app.py", "uvicorn") as host:
        await echoed(host.url("/echo"))
        output = await output_of(CLIENT, host.url("/hello"), "Ann")
        assert 'received: {"hello":"Ann","greeting":"from the lifespan"}\n' in output
        assert (await host.fetch("/"))[0] == 200
        assert (await host.fetch("/nowhere"))[0] == 404
        with pytest.raises(OpenError) as caught:
            await AioClient.connect(host.url("/nowhere"))
        assert caught.value.status_code == 404
        assert caught.value.body == b"no WebSocket at /nowhere\n"


async def test_same_handler() -> None:
    for package in ("aiohttp", "uvicorn"):
        pytest.importorskip(package)
    *answers, verdict = (await output_of(EXAMPLES / "same_handler.py")).splitlines()
    assert verdict == "All four gave the same."
    assert len(answers) == 4
    assert {answer.partition(":")[2].strip() for answer in answers} == {
        r"text 'Grüße', bytes b'\x00\x01', then 1000 'that was all'"
    }


@needs_ctrl_c
async def test_reject() -> None:
    async with site("reject.py", "uvicorn") as host:
        await echoed(host.url("/strict?token=open-sesame"))
        headers = {"Authorization": "Bearer open-sesame"}
        async with AioClient.connect(host.url("/visible"), headers=headers) as client:
            await client.send("hello")
            assert await client.receive(DEADLINE) == "hello"
        with pytest.raises(OpenError) as refused:
            await AioClient.connect(host.url("/strict"))
        assert refused.value.status_code == 401
        assert refused.value.body == b"no valid token\n"
        assert refused.value.headers["www-authenticate"] == "Bearer"
        async with AioClient.connect(host.url("/visible?token=wrong")) as client:
            with pytest.raises(ConnectionClosed) as closed:
                await client.receive(DEADLINE)
        assert (closed.value.code, closed.value.reason) == (4401, "no valid token")


@needs_ctrl_c
async def test_readme_with_aiohttp(tmp_path: Path) -> None:
    pytest.importorskip("aiohttp")
    _, source, _ = programs_of_the_readme()
    file, port = tmp_path / "readme.py", str(free_port())
    file.write_text(source.replace("8080", port), encoding="utf-8")
    async with run(file) as program:
        await program.line("Running on")
        await echoed(f"ws://localhost:{port}/echo")
        await program.interrupt()


@needs_ctrl_c
async def test_readme_with_fastapi(tmp_path: Path) -> None:
    for package in ("fastapi", "uvicorn"):
        pytest.importorskip(package)
    _, _, source = programs_of_the_readme()
    (tmp_path / "example.py").write_text(source, encoding="utf-8")
    options = ("--app-dir", tmp_path, "--port", "0")
    async with run("-m", "uvicorn", "example:app", *options) as program:
        port = (await program.line(r"running on http://127\.0\.0\.1:(\d+)"))[1]
        await echoed(f"ws://127.0.0.1:{port}/echo")
        await program.interrupt()


def test_every_framework_is_shown_as_its_users_write_it() -> None:
    """`AioServer.accept(asgi=...)` takes what a handler is given, nothing taken apart."""
    for example, name in {
        "fastapi_app.py": "websocket",
        "starlette_app.py": "websocket",
        "lilya_app.py": "websocket",
        "litestar_app.py": "socket",
    }.items():
        source = (EXAMPLES / example).read_text(encoding="utf-8")
        assert f"{AioServer.__name__}.accept(asgi={name})" in source


def test_the_page_about_asgi_shows_each_of_them() -> None:
    page = (Path(__file__).parents[2] / "docs/howto/asgi.md").read_text(encoding="utf-8")
    for example in sorted(EXAMPLES.glob("*_app.py")):
        if example.name != "aiohttp_app.py":
            assert example.name in page
