"""``simplews demo``: the program, its page's headers, and its chat as plain clients see it."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import hashlib
import json
import os
import re
import signal
import socket
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from simplews import AioClient, ConnectionError

from ..engines import Engine, nats_server, redis_server
from .conftest import DEADLINE, Start, environment


@pytest.fixture
async def address(start: Start) -> AsyncIterator[str]:
    """``host:port`` of a running demo."""
    program = await start("demo", "--port", "0")
    yield (await program.line("http://(127.0.0.1:[0-9]+)/$"))[1]
    assert await program.stop(signal.SIGTERM) == 0
    assert (await program.finish())[2] == ""  # nothing a client did is worth a traceback


no_workers = pytest.mark.skipif(sys.platform == "win32", reason="--workers is not for Windows")


class Guest:
    """A plain client in the chat."""

    def __init__(self, ws: AioClient) -> None:
        self.ws = ws

    async def say(self, message: str | bytes) -> None:
        await self.ws.send(message)

    async def hears(self) -> dict[str, Any]:
        message = await self.ws.receive(timeout=DEADLINE)
        assert isinstance(message, str)
        data: dict[str, Any] = json.loads(message)
        return data

    async def hears_of_text(self) -> dict[str, Any]:
        """The next message that somebody said."""
        while "text" not in (message := await self.hears()):
            pass
        return message

    async def hears_of(self, event: str) -> dict[str, Any]:
        """The next message of this event, whatever else comes before it."""
        while (message := await self.hears()).get("event") != event:
            pass
        return message


Join = Callable[..., Awaitable[tuple[Guest, dict[str, Any]]]]


@pytest.fixture
async def join(address: str) -> AsyncIterator[Join]:
    """``guest, welcome = await join("?name=Ada")``."""
    async with contextlib.AsyncExitStack() as stack:

        async def join_chat(query: str = "") -> tuple[Guest, dict[str, Any]]:
            connecting = AioClient.connect(f"ws://{address}/chat{query}")
            guest = Guest(await stack.enter_async_context(connecting))
            return guest, await guest.hears()

        yield join_chat


async def get(address: str, target: str = "/", method: str = "GET") -> tuple[int, str, bytes]:
    host, _, port = address.partition(":")
    async with asyncio.timeout(DEADLINE):
        reader, writer = await asyncio.open_connection(host, int(port))
        writer.write(f"{method} {target} HTTP/1.1\r\nHost: {address}\r\n\r\n".encode())
        answer = await reader.read()
        writer.close()
        await writer.wait_closed()
    head, _, body = answer.partition(b"\r\n\r\n")
    return int(head.split()[1]), head.decode().lower(), body


# ----------------------------------------------------------------- the program


async def test_tells_where_the_page_is_and_how_to_join(start: Start) -> None:
    program = await start("demo", "--port", "0")
    url = (await program.line("http://(.*)/$"))[1]
    command = (await program.line('simplews connect "(.*)"$'))[1]
    assert command == f"ws://{url}/chat?room=general"
    client = await start("connect", command)
    await client.write(b"hello from a pipe\n")
    await client.line('"text": "hello from a pipe"')
    assert (await client.finish())[0] == 0


async def test_port_taken_is_one_line_that_helps(start: Start) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        status, out, err = await (await start("demo", "--port", str(port))).finish()
    assert (status, out) == (1, "")
    assert err.count("\n") == 1
    assert f"port {port}" in err and "simplews demo --port " in err


@pytest.mark.skipif(sys.platform == "win32", reason="no $BROWSER there")
async def test_open_shows_the_page_in_a_browser(start: Start) -> None:
    program = await start("demo", "--port", "0", "--open", BROWSER="echo opened %s")
    url = (await program.line("(http://.*)$"))[1]
    await program.line(f"^opened {url}$")
    assert await program.stop() == 130


async def test_ctrl_c_ends_quietly(start: Start) -> None:
    program = await start("demo", "--port", "0")
    address = (await program.line("http://(.*)/$"))[1]
    async with AioClient.connect(f"ws://{address}/chat") as ws:
        await ws.receive(timeout=DEADLINE)
        assert await program.stop(signal.SIGINT) == 130
        await ws.wait_closed()
        assert ws.close_code == 1001
    assert (await program.finish())[2] == ""


# -------------------------------------------------------------------- the page


async def test_page_may_run_its_own_script_only(address: str) -> None:
    status, head, body = await get(address)
    assert status == 200
    assert "content-type: text/html; charset=utf-8" in head
    assert "cache-control: no-store" in head
    assert "x-content-type-options: nosniff" in head
    policy = re.search("content-security-policy: (.*)", head)
    assert policy is not None and "unsafe" not in policy[1]
    assert "default-src 'none'" in policy[1]
    (script,) = re.findall(b"<script>(.*?)</script>", body, re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(script).digest()).decode()
    assert f"'sha256-{digest}'".lower() in policy[1]
    assert b"innerHTML" not in body
    assert not re.findall(rb'(?:src|href)="(?!data:|#)', body)  # nothing from elsewhere


async def test_other_paths(address: str) -> None:
    assert (await get(address, "/nowhere"))[0] == 404
    assert (await get(address, "/chat"))[0] == 426
    assert (await get(address, "/", "POST"))[0] == 405
    assert (await get(address, "/", "HEAD"))[2] == b""


# -------------------------------------------------------------------- the chat


async def test_joins_messages_and_leaves_are_told_to_the_room(join: Join) -> None:
    ada, welcome = await join("?name=Ada")
    assert welcome == {
        "type": "system", "event": "welcome", "message": "You joined #general as Ada",
        "present": 1, "room": "general", "id": welcome["id"], "name": "Ada",
    }  # fmt: skip
    bob, _ = await join("?room=general&name=Bob")
    elsewhere, alone = await join("?room=Ideas")
    assert (alone["room"], alone["present"]) == ("ideas", 1)

    joined = await ada.hears()
    assert (joined["event"], joined["message"]) == ("joined", "Bob joined #general")
    assert joined["present"] == 2
    await bob.say('{"text": "hi there"}')
    for guest in (ada, bob):  # the sender included: that is how it knows
        said = await guest.hears()
        assert said == {
            "type": "message", "text": "hi there", "room": "general",
            "id": joined["id"], "name": "Bob",
        }  # fmt: skip
    await bob.ws.close()
    left = await ada.hears()
    assert (left["event"], left["message"]) == ("left", "Bob left #general")
    assert left["present"] == 1
    # None of this was heard in the other room: the first thing is its own.
    await elsewhere.say("echo")
    assert (await elsewhere.hears())["text"] == "echo"


@pytest.mark.parametrize("how", ["abort", "close"])
async def test_lost_member_leaves(join: Join, how: str) -> None:
    ada, _ = await join()
    bob, _ = await join("?name=Bob")
    await ada.hears()
    if how == "abort":
        bob.ws.abort()
    else:
        await bob.ws.close(4000, "tired")
    assert (await ada.hears())["message"] == "Bob left #general"


@pytest.mark.parametrize(
    "sent, text",
    [
        ("just words", "just words"),
        ('"a JSON string"', '"a JSON string"'),
        ("[1, 2]", "[1, 2]"),
        ('{"other": 1}', '{"other": 1}'),
        ('{"text": 5}', '{"text": 5}'),
        ('{"text": "  spaces  "}', "spaces"),
        ('{"text": "lone \\ud800 surrogate"}', "lone ? surrogate"),
        ("[" * 5000, None),
        ("Ä 世界 <b>", "Ä 世界 <b>"),
    ],
)
async def test_anything_that_is_text_can_be_said(join: Join, sent: str, text: str | None) -> None:
    ada, _ = await join()
    await ada.say(sent)
    if text is None:
        assert (await ada.hears())["event"] == "refused"
    else:
        assert (await ada.hears())["text"] == text


async def test_empty_text_is_skipped(join: Join) -> None:
    ada, _ = await join()
    for nothing in ("", "  \n", '{"text": ""}', '{"text": " "}'):
        await ada.say(nothing)
    await ada.say("something")
    assert (await ada.hears())["text"] == "something"


async def test_oversize_text_is_refused_with_the_numbers(join: Join) -> None:
    ada, _ = await join()
    await ada.say("x" * 2000)
    assert (await ada.hears())["type"] == "message"
    await ada.say("x" * 2001)
    refused = await ada.hears()
    assert (refused["type"], refused["event"]) == ("system", "refused")
    assert "2001" in refused["message"] and "2000" in refused["message"]
    await ada.say(b"bytes")
    assert (await ada.hears())["event"] == "refused"


async def test_message_beyond_all_measure_ends_the_connection(join: Join) -> None:
    ada, _ = await join()
    await ada.say("x" * 100_000)
    await ada.ws.wait_closed()
    assert ada.ws.close_code == 1009


@pytest.mark.parametrize(
    "wish, name",
    [
        ("Ada", "Ada"),
        ("%20%20Ada%09%0A%20Byron%20", "Ada Byron"),
        ("x" * 500, "x" * 32),
        ("%1b%5b2J%00", "[2J"),
        ("%E2%80%AEname", "name"),  # a right-to-left override
        ("%C3%89dith", "Édith"),
    ],
)
async def test_names_are_printable_and_short(join: Join, wish: str, name: str) -> None:
    _, welcome = await join(f"?name={wish}")
    assert welcome["name"] == name


async def test_name_in_use_gets_a_number(join: Join) -> None:
    await join("?name=Ada")
    assert (await join("?name=ADA"))[1]["name"] == "ADA (2)"
    assert (await join("?name=Ada"))[1]["name"] == "Ada (3)"
    assert (await join("?name=Ada&room=other"))[1]["name"] == "Ada"
    assert (await join())[1]["name"].startswith("Guest ")


async def test_renaming_is_announced(join: Join) -> None:
    ada, _ = await join("?name=Ada")
    bob, _ = await join("?name=Bob")
    await ada.hears()
    await bob.say('{"name": "ada"}')
    for guest in (ada, bob):
        renamed = await guest.hears()
        assert (renamed["event"], renamed["name"]) == ("renamed", "ada (2)")
    await bob.say('{"name": "Ada (2)", "text": "hello"}')
    assert (await ada.hears())["event"] == "renamed"
    said = await ada.hears()
    assert (said["name"], said["text"]) == ("Ada (2)", "hello")


@pytest.mark.parametrize("room", ["a%20b", "-a", "x" * 33, "%23", "%C3%A4", "a%0A"])
async def test_bad_room_name_is_refused_with_the_rule(address: str, room: str) -> None:
    async with AioClient.connect(f"ws://{address}/chat?room={room}") as ws:
        await ws.wait_closed()
        assert ws.close_code == 1008
        assert ws.close_reason is not None and "32 letters" in ws.close_reason


async def test_page_of_another_site_cannot_connect_with_our_cookies(address: str) -> None:
    headers = {"Origin": "https://evil.example", "Cookie": "session=1"}
    with pytest.raises(ConnectionError) as refused:
        await AioClient.connect(f"ws://{address}/chat", headers=headers)
    assert refused.value.status_code == 403


@no_workers
async def test_workers(start: Start) -> None:
    """Each process has the page and a chat."""
    program = await start("demo", "--port", "0", "--workers", "2")
    address = (await program.line("http://(127.0.0.1:[0-9]+)/$"))[1]
    await program.line("^2 processes, each with rooms of its own")
    async with AioClient.connect(f"ws://{address}/chat?name=Ada") as ws:
        guest = Guest(ws)
        assert (await guest.hears())["name"] == "Ada"
        await guest.say("hello")
        assert (await guest.hears())["text"] == "hello"
    assert await program.stop(signal.SIGTERM) == 0


# ------------------------------------------------------------------ an engine


async def on_two_processes(stack: contextlib.AsyncExitStack, address: str) -> tuple[Guest, Guest]:
    """Two guests in one room, on different processes."""

    async def come(name: str) -> Guest:
        connecting = AioClient.connect(f"ws://{address}/chat?name={name}")
        return Guest(await stack.enter_async_context(connecting))

    ada = await come("Ada")
    here = process_in(await ada.hears_of("welcome"))
    os.kill(here, signal.SIGSTOP)  # it accepts nobody now
    try:
        bob = await come("Bob")
    finally:
        os.kill(here, signal.SIGCONT)
    assert process_in(await bob.hears_of("welcome")) != here
    return ada, bob


def process_in(welcome: dict[str, Any]) -> int:
    found = re.search("on process ([0-9]+)$", welcome["message"])
    assert found is not None, welcome
    return int(found[1])


@pytest.fixture(params=["redis", "nats"])
def engine(request: pytest.FixtureRequest) -> Iterator[tuple[Engine, list[str]]]:
    """A running engine, and the arguments that name it."""
    with redis_server() if request.param == "redis" else nats_server() as server:
        yield server, [f"--{request.param}", f"{request.param}://127.0.0.1:{server.port}"]


@no_workers
async def test_rooms_across_processes(engine: tuple[Engine, list[str]], start: Start) -> None:
    """One conversation, and one count of who is there."""
    _, arguments = engine
    program = await start("demo", "--port", "0", "--workers", "2", *arguments)
    address = (await program.line("http://(127.0.0.1:[0-9]+)/$"))[1]
    await program.line("^2 processes, all with the same rooms")
    async with contextlib.AsyncExitStack() as stack:
        ada, bob = await on_two_processes(stack, address)
        assert (await ada.hears_of("joined"))["name"] == "Bob"
        await bob.say("hello")
        for guest in (ada, bob):
            said = await guest.hears_of_text()
            assert (said["text"], said["name"]) == ("hello", "Bob")
        await bob.say('{"name": "Bert"}')
        renamed = await ada.hears()
        assert (renamed["event"], renamed["present"]) == ("renamed", 2)
        await bob.ws.close()
        left = await ada.hears()
        assert (left["event"], left["name"], left["present"]) == ("left", "Bert", 1)
    assert await program.stop(signal.SIGTERM) == 0
    assert "Traceback" not in (await program.finish())[2]


async def test_engine_that_goes_away_and_comes_back(start: Start) -> None:
    """What is said meanwhile is refused; then everybody is to come again."""
    with redis_server() as server:
        url = f"redis://127.0.0.1:{server.port}"
        program = await start("demo", "--port", "0", "--redis", url)
        address = (await program.line("http://(127.0.0.1:[0-9]+)/$"))[1]
        async with AioClient.connect(f"ws://{address}/chat?name=Ada") as ws:
            ada = Guest(ws)
            await ada.hears_of("welcome")
            await ada.say("hello")
            await ada.hears_of_text()
            server.kill()
            await ada.say("anybody?")
            await ada.hears_of("refused")
            server.start()
            async with asyncio.timeout(DEADLINE):
                await ws.wait_closed()
            assert ws.close_code == 1012
        async with AioClient.connect(f"ws://{address}/chat?name=Ada") as ws:
            await Guest(ws).hears_of("welcome")
        assert await program.stop(signal.SIGTERM) == 0
        errors = (await program.finish())[2]
        assert "gap in room" in errors
        assert "Traceback" not in errors and "ERROR" not in errors, errors


@pytest.mark.parametrize(
    "arguments, status, says",
    [
        (["--redis", "localhost:6379"], 2, "redis://"),
        (["--redis", "redis://localhost:port"], 2, "ort"),
        (["--nats", "localhost:4222"], 2, "nats://"),
        (["--redis", "redis://127.0.0.1:{free}"], 1, "Is it running"),
    ],
)
async def test_engine_that_is_not_there_is_one_line_that_helps(
    start: Start, arguments: list[str], status: int, says: str
) -> None:
    pytest.importorskip("redis" if arguments[0] == "--redis" else "nats")
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    arguments = [argument.format(free=port) for argument in arguments]
    got, out, err = await (await start("demo", "--port", "0", *arguments)).finish()
    assert (got, out) == (status, "")
    assert err.count("\n") == 1 and says in err, err


@pytest.mark.parametrize("option, module", [("redis", "redis"), ("nats", "nats")])
async def test_missing_extra_says_what_to_install(
    start: Start, tmp_path: Path, option: str, module: str
) -> None:
    # What comes first on the path, and is not what it is called.
    (tmp_path / f"{module}.py").write_text("raise ImportError('not here')\n")
    url = f"{option}://127.0.0.1:1"
    program = await start("demo", "--port", "0", f"--{option}", url, PYTHONPATH=_path(tmp_path))
    status, out, err = await program.finish()
    assert (status, out) == (1, "")
    assert err.count("\n") == 1 and f"pip install 'simplews[{option}]'" in err


def _path(first: Path) -> str:
    return os.pathsep.join([str(first), environment()["PYTHONPATH"]])
