"""``simplews connect``: the program against servers of ours, in pipes and in a terminal."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest

from simplews import AioServer, ConnectionClosed, HandshakeRequest, Response, serve

from ..between import between, connect_method
from .conftest import DEADLINE, Start, StartTerminal, environment

Handler = Callable[[AioServer], Awaitable[None]]


async def echo(ws: AioServer) -> None:
    async for message in ws:
        await ws.send(message)


def echo_only(count: int) -> Handler:
    """Echo so many messages, then close: the client need not guess when all has arrived."""

    async def handler(ws: AioServer) -> None:
        for _ in range(count):
            message = await ws.receive()
            assert message is not None
            await ws.send(message)

    return handler


@contextlib.asynccontextmanager
async def serving(handler: Handler, path: str = "/") -> AsyncIterator[str]:
    async with serve(handler, "127.0.0.1", 0) as server:
        yield f"ws://127.0.0.1:{server.port}{path}"


def events(output: str) -> list[dict[str, object]]:
    return [json.loads(line) for line in output.splitlines()]


def unused_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port: int = sock.getsockname()[1]
        return port


# ----------------------------------------------------------------------- pipes


async def test_each_line_is_a_message_and_each_message_a_line(start: Start) -> None:
    async with serving(echo_only(4)) as url:
        program = await start("connect", url, "--linger", "inf")
        status, out, err = await program.finish("one\n\nzwei Ä\nno newline".encode())
    assert out == "one\n\nzwei Ä\nno newline\n"
    assert status == 0
    assert err.startswith("simplews connect: ") and "1000" in err
    assert err.count("\n") == 1


async def test_answers_appear_while_input_is_open(start: Start) -> None:
    async with serving(echo) as url:
        program = await start("connect", url)
        await program.write(b"first\n")
        await program.line("^first$")
        await program.write(b"second\n")
        await program.line("^second$")
        assert (await program.finish())[0] == 0


async def test_all_that_arrives_after_the_end_of_input_is_printed(start: Start) -> None:
    async def talkative(ws: AioServer) -> None:
        await ws.receive()
        for number in range(2000):
            await ws.send(f"{number}")
        await ws.close(1000, "that was all")

    async with serving(talkative) as url:
        program = await start("connect", url, "--linger", "inf")
        status, out, err = await program.finish(b"go\n")
    assert out.split() == [str(number) for number in range(2000)]
    assert "that was all" in err
    assert status == 0


async def test_silence_after_the_end_of_input_ends_it(start: Start) -> None:
    closed: asyncio.Future[int | None] = asyncio.get_running_loop().create_future()

    async def silent(ws: AioServer) -> None:
        async for _ in ws:
            pass
        closed.set_result(ws.close_code)

    async with serving(silent) as url:
        program = await start("connect", url, "--linger", "0.01")
        status, out, _ = await program.finish(b"anyone?\n")
        async with asyncio.timeout(DEADLINE):
            assert await closed == 1000
    assert (status, out) == (0, "")


async def test_control_characters_of_the_peer_are_escaped(start: Start) -> None:
    async def hostile(ws: AioServer) -> None:
        await ws.send("\x1b]0;title\x07 two\nlines \u202egnp.exe \x9b2J \x7f\ttab")
        await ws.close(1000, "\x1b[2Jgone")

    async with serving(hostile) as url:
        program = await start("connect", url, "--linger", "inf")
        status, out, err = await program.finish(b"")
    assert out == r"\x1b]0;title\x07 two\nlines \u202egnp.exe \x9b2J \x7f" + "\ttab\n"
    assert "\x1b" not in err
    assert status == 0


async def test_binary_message_is_marked_base64(start: Start) -> None:
    async def binary(ws: AioServer) -> None:
        await ws.send(b"\x00\xff")
        await ws.close()

    async with serving(binary) as url:
        program = await start("connect", url, "--linger", "inf")
        assert (await program.finish(b""))[1] == "base64:AP8=\n"


async def test_abnormal_close_exits_with_1_and_tells_why(start: Start) -> None:
    async def fail(ws: AioServer) -> None:
        await ws.close(4000, "out of coffee")

    async with serving(fail) as url:
        program = await start("connect", url, "--linger", "inf")
        status, out, err = await program.finish(b"")
    assert (status, out) == (1, "")
    assert "4000" in err and "out of coffee" in err


async def test_server_closing_ends_the_program_while_input_is_open(start: Start) -> None:
    async def short(ws: AioServer) -> None:
        await ws.close(1000, "bye")

    async with serving(short) as url:
        program = await start("connect", url)
        await program.error_line("bye")
        async with asyncio.timeout(DEADLINE):
            assert await program.process.wait() == 0


async def test_refused_port_is_one_line_without_traceback(start: Start) -> None:
    port = unused_port()
    program = await start("connect", f"ws://127.0.0.1:{port}/")
    status, out, err = await program.finish(b"")
    assert (status, out) == (1, "")
    assert str(port) in err
    assert err.startswith("simplews connect: ") and err.count("\n") == 1


async def test_refusal_is_explained_in_the_words_of_the_server(start: Start) -> None:
    async def http(request: HandshakeRequest) -> Response:
        return Response(200, {}, "a page")

    async with serve({"/chat": echo}, "127.0.0.1", 0, http=http) as server:
        url = f"ws://127.0.0.1:{server.port}/elsewhere"
        status, out, err = await (await start("connect", url)).finish()
        assert (status, out) == (1, "")
        assert "404" in err and "/elsewhere" in err and err.count("\n") == 1
        status, out, err = await (await start("connect", url, "--json")).finish()
        (failed,) = events(out)
        assert failed["status"] == 404 and "/elsewhere" in str(failed["body"])


async def test_bad_url_is_a_usage_error(start: Start) -> None:
    status, _, err = await (await start("connect", "gopher://127.0.0.1/")).finish(b"")
    assert status == 2
    assert "gopher" in err and "Traceback" not in err


@pytest.mark.parametrize(
    "arguments", [("--header", "no colon"), ("--ping", "0"), ("--ping", "nan"), ("--linger", "x")]
)
async def test_bad_option_is_a_usage_error(start: Start, arguments: tuple[str, str]) -> None:
    status, _, err = await (await start("connect", "ws://127.0.0.1/", *arguments)).finish(b"")
    assert status == 2
    assert arguments[0] in err


async def test_input_that_is_not_utf8_is_refused_by_its_number(start: Start) -> None:
    async with serving(echo) as url:
        program = await start("connect", url)
        await program.write(b"good\n")
        await program.line("good")
        status, _, err = await program.finish(b"\xff\xfe\n")
    assert status == 1
    assert "line 2" in err and "UTF-8" in err and "Traceback" not in err


async def test_headers_and_subprotocols_reach_the_server(start: Start) -> None:
    async def tell(ws: AioServer) -> None:
        await ws.send(f"{ws.request.headers['X-Token']} {','.join(ws.request.subprotocols)}")
        await ws.close()

    async with serving(tell) as url:
        program = await start(
            "connect", url, "--linger", "inf",
            "--header", "X-Token: s3:cret", "--subprotocol", "v2", "--subprotocol", "v1",
        )  # fmt: skip
        assert (await program.finish(b""))[1] == "s3:cret v2,v1\n"


async def test_json_prints_one_object_an_event(start: Start) -> None:
    async with serving(echo_only(1), "/echo") as url:
        program = await start("connect", url, "--json", "--linger", "inf")
        status, out, err = await program.finish("Ä\x7f\n".encode())
    opened, *talk, closed = events(out)
    assert opened == {"event": "open", "url": url, "subprotocol": None}
    assert {"event": "sent", "type": "text", "data": "Ä\x7f"} in talk
    assert {"event": "received", "type": "text", "data": "Ä\x7f"} in talk
    assert len(talk) == 2
    assert closed["event"] == "closed" and closed["code"] == 1000
    assert "Ä" in out and "\x7f" not in out
    assert (status, err) == (0, "")


async def test_json_failure_is_an_event(start: Start) -> None:
    program = await start("connect", f"ws://127.0.0.1:{unused_port()}/", "--json")
    status, out, err = await program.finish(b"")
    (failed,) = events(out)
    assert failed["event"] == "failed" and failed["status"] is None
    assert (status, err) == (1, "")


async def test_ping_shows_the_round_trip(start: Start) -> None:
    async with serving(echo) as url:
        program = await start("connect", url, "--json", "--ping", "0.01")
        found = await program.line('"event": "pong", "rtt": ([0-9.e-]+)')
        assert float(found[1]) >= 0
        assert (await program.finish())[0] == 0


async def test_reader_that_goes_away_is_not_an_error(start: Start) -> None:
    """``simplews connect ... | head -1``: quiet, though more arrives than is read."""

    closed: asyncio.Future[int | None] = asyncio.get_running_loop().create_future()

    async def flood(ws: AioServer) -> None:
        with contextlib.suppress(ConnectionClosed):
            while True:
                # Compressed, 100 000 of these would wait in the socket's buffers.
                await ws.send("x" * 1000, compress=False)
        closed.set_result(ws.close_code)

    async with serving(flood) as url:
        program = await start("connect", url)
        await program.line("x")
        assert program.process.stdout is not None
        program.process.stdout._transport.close()  # type: ignore[attr-defined]
        assert program.process.stderr is not None
        async with asyncio.timeout(DEADLINE):
            assert await program.process.stderr.read() == b""
            assert await program.process.wait() == 0
            assert await closed == 1000


@pytest.mark.parametrize("signum, status", [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
async def test_signal_closes_the_connection(start: Start, signum: int, status: int) -> None:
    closed: asyncio.Future[int | None] = asyncio.get_running_loop().create_future()

    async def handler(ws: AioServer) -> None:
        await ws.send("ready")
        with contextlib.suppress(ConnectionClosed):
            async for _ in ws:
                pass
        closed.set_result(ws.close_code)

    async with serving(handler) as url:
        program = await start("connect", url)
        await program.line("ready")
        assert await program.stop(signum) == status
        async with asyncio.timeout(DEADLINE):
            assert await closed in (1000, 1001)
    assert (await program.finish())[2] == ""


# -------------------------------------------------------------------- terminal


async def test_terminal_shows_what_was_sent_and_received(start_terminal: StartTerminal) -> None:
    async with serving(echo) as url:
        terminal = await start_terminal("connect", url)
        await terminal.until(f"* connected to {url}")
        await terminal.until("> ")
        terminal.press("hello\r")
        await terminal.until("> hello\r\n")
        await terminal.until("< hello\r\n")
        terminal.press("\x04")
        await terminal.until("1000")
        assert await terminal.status() == 0


async def test_incoming_message_leaves_the_half_typed_line(start_terminal: StartTerminal) -> None:
    """It is cleared, the message is printed, it is drawn again, cursor included."""
    typed, received = asyncio.Event(), asyncio.Event()

    async def handler(ws: AioServer) -> None:
        await typed.wait()
        await ws.send("news\nof \x1b[2J two lines")
        await ws.receive()
        received.set()

    async with serving(handler) as url:
        terminal = await start_terminal("connect", url)
        await terminal.until("\r\x1b[K> ")
        terminal.press("help\x1b[D")
        await terminal.until("\r\x1b[K> help\x1b[1D")
        typed.set()
        await terminal.until("\r\x1b[K< news\r\n  of \\x1b[2J two lines\r\n\r\x1b[K> help\x1b[1D")
        terminal.press("\x7f\r")  # "hel|p" becomes "he|p"
        await terminal.until("> hep\r\n")
        async with asyncio.timeout(DEADLINE):
            await received.wait()


async def test_terminal_gets_its_modes_back(start_terminal: StartTerminal) -> None:
    async with serving(echo) as url:
        terminal = await start_terminal("connect", url)
        before = terminal.modes()
        await terminal.until("\r\x1b[K> ")
        assert terminal.modes() != before
        terminal.press("\x03")
        assert await terminal.status() == 130
        assert terminal.modes() == before


async def test_line_is_drawn_again_in_the_foreground(start_terminal: StartTerminal) -> None:
    """Ctrl-Z and fg: the shell has given the terminal modes of its own meanwhile."""
    async with serving(echo) as url:
        terminal = await start_terminal("connect", url)
        before = terminal.modes()
        await terminal.until("\r\x1b[K> ")
        ours = terminal.modes()
        terminal.press("typed")
        await terminal.until("> typed")
        terminal.process.send_signal(signal.SIGSTOP)
        terminal.set_modes(before)
        terminal.process.send_signal(signal.SIGCONT)
        await terminal.until("\r\x1b[K> typed")
        assert terminal.modes() == ours
        terminal.press("\r")
        await terminal.until("< typed")


async def test_line_fits_a_window_that_was_made_smaller(start_terminal: StartTerminal) -> None:
    async with serving(echo) as url:
        terminal = await start_terminal("connect", url)
        await terminal.until("\r\x1b[K> ")
        terminal.press("0123456789")
        await terminal.until("> 0123456789")
        terminal.resize(8)
        await terminal.until("\r\x1b[K> 56789")


async def test_terminal_shows_why_the_server_closed(start_terminal: StartTerminal) -> None:
    async def handler(ws: AioServer) -> None:
        await ws.receive()
        await ws.close(4001, "enough")

    async with serving(handler) as url:
        terminal = await start_terminal("connect", url)
        await terminal.until("\r\x1b[K> ")
        terminal.press("x\r")
        assert "4001" in await terminal.until("enough")
        assert await terminal.status() == 1


@pytest.mark.parametrize(
    "options, env, coloured",
    [((), {"NO_COLOR": ""}, True), (("--no-color",), {"NO_COLOR": ""}, False), ((), {}, False)],
)
async def test_colours_are_optional(
    start_terminal: StartTerminal, options: tuple[str], env: dict[str, str], coloured: bool
) -> None:
    async with serving(echo) as url:
        terminal = await start_terminal("connect", url, *options, **env)
        assert ("\x1b[2m* connected" in await terminal.until("connected to")) is coloured
        terminal.press("\x04")
        assert await terminal.status() == 0


async def test_ping_is_shown_in_the_terminal(start_terminal: StartTerminal) -> None:
    async with serving(echo) as url:
        terminal = await start_terminal("connect", url, "--ping", "0.01")
        await terminal.until("* pong after ")
        terminal.press("\x04")
        assert await terminal.status() == 0


async def test_refused_port_in_a_terminal(start_terminal: StartTerminal) -> None:
    terminal = await start_terminal("connect", f"ws://127.0.0.1:{unused_port()}/")
    assert "Traceback" not in await terminal.until("\n")
    assert await terminal.status() == 1


# --------------------------------------------------------------------- proxies


async def test_goes_through_a_proxy(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    """The one that is named, or the environment's, or none."""
    async with serving(echo_only(1)) as url, between(connect_method) as proxy:
        place = f"http://127.0.0.1:{proxy.port}"
        for arguments, variable, asked in (
            (["--proxy", place], "", 1),
            ([], place, 2),
            (["--proxy", "none"], place, 2),
        ):
            monkeypatch.setenv("ws_proxy", variable)
            program = await start("connect", url, "--linger", "inf", *arguments)
            assert (await program.finish(b"hello\n"))[:2] == (0, "hello\n")
            assert len(proxy.asked) == asked


async def test_proxy_that_makes_no_sense(start: Start) -> None:
    program = await start("connect", "ws://localhost", "--proxy", "localhost:3128")
    status, out, err = await program.finish()
    assert (status, out) == (2, "")
    assert "write http://host:port" in err and "Traceback" not in err


async def test_package_of_a_proxy_that_is_missing(start: Start, tmp_path: Path) -> None:
    (tmp_path / "python_socks.py").write_text("raise ImportError", encoding="utf-8")
    path = os.pathsep.join([str(tmp_path), environment()["PYTHONPATH"]])
    program = await start(
        "connect", "ws://localhost", "--proxy", "socks5h://localhost", PYTHONPATH=path
    )
    status, out, err = await program.finish()
    assert (status, out) == (1, "")
    assert "pip install 'simplews[proxy]'" in err and "Traceback" not in err
