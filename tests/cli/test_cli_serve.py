"""``simplews serve``: the program, with modules of a user."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import signal
import socket
import ssl
import sys
import textwrap
from pathlib import Path

import pytest
import trustme

from simplews import AioClient, ConnectionClosed, ConnectionError
from simplews.cli.reload import snapshot

from .conftest import DEADLINE, Start, StartTerminal

HANDLER = """
    async def handler(ws):
        async for message in ws:
            await ws.send(f"{ws.request.path} {message}")

    async def shout(ws):
        async for message in ws:
            await ws.send(message.upper())

    class Callable:
        async def __call__(self, ws):
            await handler(ws)

    instance = Callable()
    paths = {"/echo": handler, "/shout": shout}
    def plain(ws): ...
    number = 3
    nothing = {}
    bad_path = {"echo": handler}
    bad_handler = {"/echo": plain}
    """


@pytest.fixture(autouse=True)
def module(tmp_path: Path) -> Path:
    path = tmp_path / "app.py"
    path.write_text(textwrap.dedent(HANDLER))
    return path


def rewrite(module: Path, source: str) -> None:
    module.write_text(source)


async def answer(url: str, message: str, context: ssl.SSLContext | None = None) -> object:
    async with AioClient.connect(url, ssl_context=context) as ws:
        await ws.send(message)
        return await ws.receive(timeout=20)


@pytest.mark.parametrize("target", ["app:handler", "app:instance"])
async def test_handler_serves_every_path(start: Start, target: str) -> None:
    program = await start("serve", target, "--port", "0")
    url = (await program.line(f"Serving {target} on (ws://127.0.0.1:[0-9]+)/$"))[1]
    assert await answer(url + "/any", "hi") == "/any hi"
    assert await program.stop(signal.SIGTERM) == 0


async def test_path_serves_that_path_only(start: Start) -> None:
    program = await start("serve", "app:handler", "--port", "0", "--path", "/x")
    url = (await program.line("on (ws://.*)/x$"))[1]
    assert await answer(url + "/x", "hi") == "/x hi"
    with pytest.raises(ConnectionError) as refused:
        await answer(url + "/y", "hi")
    assert refused.value.status_code == 404


async def test_dict_serves_its_paths(start: Start) -> None:
    program = await start("serve", "app:paths", "--port", "0")
    url = (await program.line("on (ws://.*)/echo$"))[1]
    await program.line(f"on {url}/shout$")
    assert await answer(url + "/shout", "hi") == "HI"
    assert await answer(url + "/echo", "hi") == "/echo hi"


async def test_handler_sees_going_away_on_ctrl_c(start: Start) -> None:
    program = await start("serve", "app:handler", "--port", "0")
    url = (await program.line("on (ws://.*)$"))[1]
    async with AioClient.connect(url) as ws:
        await ws.send("x")
        await ws.receive(timeout=20)
        assert await program.stop(signal.SIGINT) == 130
        await ws.wait_closed()
        assert ws.close_code == 1001
    _, _, err = await program.finish()
    assert "Traceback" not in err


async def test_tls(start: Start, tmp_path: Path) -> None:
    authority = trustme.CA()
    certificate = authority.issue_cert("127.0.0.1")
    certificate.private_key_and_cert_chain_pem.write_to_path(tmp_path / "cert.pem")
    context = ssl.create_default_context()
    authority.configure_trust(context)
    program = await start("serve", "app:handler", "--port", "0", "--ssl-cert", "cert.pem")
    url = (await program.line("on (wss://.*)/$"))[1]
    assert await answer(url + "/", "hi", context) == "/ hi"
    # The same certificate, unknown to the system: refused unless --insecure.
    status, out, err = await (await start("connect", url)).finish(b"hi\n")
    assert status == 1 and out == "" and "certificate" in err
    client = await start("connect", url, "--insecure")
    await client.write(b"hi\n")
    await client.line("/ hi")
    assert (await client.finish())[0] == 0


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["app"], "module:name"),
        ([":handler"], "module:name"),
        (["missing:handler"], "no module named 'missing'"),
        (["app.sub:handler"], "no module named 'app.sub'"),
        (["app:missing"], "has no 'missing'"),
        (["app:plain"], "a function without async"),
        (["app:number"], "a int"),
        (["app:nothing"], "empty"),
        (["app:bad_path"], "'echo' is not a path"),
        (["app:bad_handler"], "/echo is a function without async"),
        (["app:handler", "--path", "x"], "must begin with /"),
        (["app:paths", "--path", "/x"], "single handler"),
        (["app:handler", "--ssl-key", "key.pem"], "--ssl-cert"),
        (["app:handler", "--port", "65536"], "65535"),
    ],
)
async def test_mistake_in_the_arguments(start: Start, arguments: list[str], message: str) -> None:
    status, out, err = await (await start("serve", *arguments)).finish()
    assert (status, out) == (2, "")
    assert message in err
    assert "Traceback" not in err


async def test_missing_certificate(start: Start) -> None:
    status, _, err = await (await start("serve", "app:handler", "--ssl-cert", "no.pem")).finish()
    assert status == 1
    assert err == "simplews serve: no such file: no.pem\n"


@pytest.mark.parametrize("source", ["import does_not_exist", "1 / 0", "def broken(:"])
async def test_mistake_in_the_module_shows_where(start: Start, module: Path, source: str) -> None:
    rewrite(module, source)
    status, _, err = await (await start("serve", "app:handler")).finish()
    assert status == 1
    assert err.startswith("simplews serve: importing 'app' failed:")
    assert "app.py" in err


async def test_port_taken(start: Start) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        status, _, err = await (await start("serve", "app:handler", "--port", str(port))).finish()
    assert status == 1
    assert f"simplews serve app:handler --port {port + 1 if port < 65535 else 0}" in err
    assert err.count("\n") == 1


async def test_failing_handler_is_told_with_its_traceback(start: Start, module: Path) -> None:
    rewrite(module, "async def handler(ws):\n    raise LookupError('the details')\n")
    program = await start("serve", "app:handler", "--port", "0")
    url = (await program.line("on (ws://.*)$"))[1]
    async with AioClient.connect(url) as ws:
        await ws.wait_closed()
        assert ws.close_code == 1011
    await program.error_line("LookupError: the details")


@pytest.mark.skipif(sys.platform == "win32", reason="no SIGTERM to end the parent with")
async def test_reload_serves_the_changed_module(start: Start, module: Path) -> None:
    program = await start("serve", "app:handler", "--port", "0", "--reload")
    url = (await program.line("on (ws://.*)/$"))[1]
    assert await answer(url + "/", "hi") == "/ hi"
    rewrite(
        module, "async def handler(ws):\n    await ws.receive()\n    await ws.send('changed')\n"
    )
    url = (await program.line("on (ws://.*)/$"))[1]
    assert await answer(url + "/", "hi") == "changed"
    assert await program.stop(signal.SIGTERM) == 0
    with pytest.raises(ConnectionError):  # the child has ended as well
        await answer(url + "/", "hi")


@pytest.mark.skipif(sys.platform == "win32", reason="no SIGTERM to end the parent with")
async def test_reload_waits_for_a_mistake_to_be_mended(start: Start, module: Path) -> None:
    rewrite(module, "1 / 0")
    program = await start("serve", "app:handler", "--port", "0", "--reload")
    await program.error_line("waiting for a file to change")
    rewrite(module, "async def handler(ws):\n    await ws.receive()\n    await ws.send('mended')\n")
    url = (await program.line("on (ws://.*)/$"))[1]
    assert await answer(url + "/", "hi") == "mended"
    assert await program.stop(signal.SIGTERM) == 0


async def test_ctrl_c_ends_reloading_and_what_it_runs(start_terminal: StartTerminal) -> None:
    terminal = await start_terminal("serve", "app:handler", "--port", "0", "--reload")
    found = re.search(r"ws://127\.0\.0\.1:\d+", await terminal.until("/\r\n"))
    assert found is not None
    async with AioClient.connect(found[0]) as ws:
        terminal.press("\x03")
        await ws.wait_closed()
        assert ws.close_code == 1001
    assert await terminal.status() == 130
    with pytest.raises(ConnectionError):
        await answer(found[0], "hi")


def test_snapshot_sees_changes_in_sources_only(tmp_path: Path, module: Path) -> None:
    for hidden in (".venv", "node_modules", "__pycache__"):
        (tmp_path / hidden).mkdir()
        (tmp_path / hidden / "x.py").touch()
    (tmp_path / "pkg").mkdir()
    (tmp_path / "pkg" / "data.txt").touch()
    before = snapshot(tmp_path)
    assert list(before) == [str(module)]
    os.utime(module, ns=(1, 1))
    assert snapshot(tmp_path) != before
    (tmp_path / "pkg" / "new.py").touch()
    assert len(snapshot(tmp_path)) == 2


# ------------------------------------------------------------------ lifespan

LIFESPAN = """
    import contextlib, os, pathlib

    @contextlib.asynccontextmanager
    async def lifespan(server):
        global opened
        opened = "opened"
        yield
        pathlib.Path("closed").write_text(str(os.getpid()))

    @contextlib.asynccontextmanager
    async def away(server):
        raise OSError("the engine is away")
        yield

    async def handler(ws):
        async for message in ws:
            await ws.send(f"{opened} {message}")

    async def generator(server):
        yield
    """


@pytest.mark.parametrize(
    "workers", [0, pytest.param(1, marks=pytest.mark.skipif("sys.platform == 'win32'"))]
)
async def test_lifespan(start: Start, module: Path, workers: int) -> None:
    rewrite(module, textwrap.dedent(LIFESPAN))
    options = ("--workers", str(workers)) if workers else ()
    program = await start(
        "serve", "app:handler", "--lifespan", "app:lifespan", "--port=0", *options
    )
    url = (await program.line("on (ws://.*)/$"))[1]
    assert await answer(url, "hi") == "opened hi"
    assert await program.stop(signal.SIGTERM) == 0
    pid = int((module.parent / "closed").read_text())
    assert (pid == program.process.pid) == (not workers)


@pytest.mark.parametrize(
    "name, status, says",
    [
        ("app:away", 1, "entering --lifespan app:away failed:.*OSError: the engine is away"),
        ("app:generator", 2, "decorate .* with contextlib.asynccontextmanager"),
        ("app:opened", 2, "module 'app' has no 'opened'"),
    ],
)
async def test_lifespan_that_cannot_be_entered(
    start: Start, module: Path, name: str, status: int, says: str
) -> None:
    rewrite(module, textwrap.dedent(LIFESPAN))
    program = await start("serve", "app:handler", "--lifespan", name, "--port", "0")
    ended, out, err = await program.finish()
    assert (ended, out) == (status, "")
    assert re.search(says, err, re.DOTALL), err
    assert "Traceback" not in err or status == 1


# ------------------------------------------------------------------- workers

no_workers = pytest.mark.skipif(sys.platform == "win32", reason="--workers is not for Windows")


@no_workers
async def test_workers_serve_the_handler(start: Start, module: Path) -> None:
    """Over TLS, each with its own context; and SIGHUP brings in the changed module."""
    authority = trustme.CA()
    certificate = authority.issue_cert("127.0.0.1")
    certificate.private_key_and_cert_chain_pem.write_to_path(module.parent / "cert.pem")
    context = ssl.create_default_context()
    authority.configure_trust(context)
    options = ("--port", "0", "--workers", "2", "--ssl-cert", "cert.pem")
    program = await start("serve", "app:paths", *options)
    url = (await program.line("on (wss://.*)/shout$"))[1]
    assert await answer(url + "/shout", "hi", context) == "HI"
    rewrite(
        module,
        "async def shout(ws):\n    await ws.receive()\n    await ws.send('changed')\n"
        "paths = {'/shout': shout}\n",
    )
    program.process.send_signal(signal.SIGHUP)
    await program.error_line("worker 2 .* is replaced by")
    async with asyncio.timeout(DEADLINE):
        # The old one may take clients until it has heard of it, and then says 1012.
        changed = False
        while not changed:
            with contextlib.suppress(ConnectionClosed):
                changed = await answer(url + "/shout", "hi", context) == "changed"
    assert await program.stop(signal.SIGTERM) == 0
    assert "Traceback" not in (await program.finish())[2]


@no_workers
async def test_workers_that_cannot_start(start: Start, module: Path) -> None:
    rewrite(
        module,
        "import multiprocessing\n"
        "assert multiprocessing.parent_process() is None, 'not in a worker'\n"
        "async def handler(ws): ...\n",
    )
    program = await start("serve", "app:handler", "--port", "0", "--workers", "1")
    status, out, err = await program.finish()
    assert (status, out) == (1, "")
    assert "AssertionError: not in a worker" in err
    assert re.search(r"^simplews serve: worker \d \(pid \d+\) ended with exit status 1", err, re.M)


@no_workers
async def test_workers_end_with_their_terminal(start_terminal: StartTerminal) -> None:
    """A terminal that is closed sends SIGHUP, too, and means something else by it."""
    terminal = await start_terminal("serve", "app:handler", "--port", "0", "--workers", "1")
    found = re.search(r"ws://127\.0\.0\.1:\d+", await terminal.until("/\r\n"))
    assert found is not None
    async with AioClient.connect(found[0]) as ws:
        terminal.process.send_signal(signal.SIGHUP)
        await terminal.until("is replaced by")
        await ws.wait_closed()
        assert ws.close_code == 1012
    async with AioClient.connect(found[0]) as ws:
        terminal.close()
        await ws.wait_closed()
        assert ws.close_code == 1001
    assert await terminal.status() == 0


@no_workers
async def test_workers_that_make_no_sense(start: Start) -> None:
    program = await start("serve", "app:handler", "--port", "0", "--workers", "0")
    status, out, err = await program.finish()
    assert (status, out) == (2, "")
    assert "not a number of processes" in err
