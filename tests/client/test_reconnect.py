"""connect(reconnect=): a real server that comes and goes, on a clock that jumps."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
import re
import socket
import statistics
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path
from typing import Any

import pytest

from simplews import (
    AioClient,
    AioServer,
    ConnectionClosed,
    InvalidURL,
    Reconnect,
    Retry,
    Server,
    serve,
)
from simplews import ConnectionError as OpenError
from simplews.reconnect import is_fatal, retry_after

from ..peer import until
from ..tls import Tls


def now() -> float:
    return asyncio.get_running_loop().time()


@pytest.fixture
def port() -> int:
    """A port where nobody listens until a test does."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        found: int = listener.getsockname()[1]
    return found


@pytest.fixture
def log(caplog: pytest.LogCaptureFixture) -> Iterator[pytest.LogCaptureFixture]:
    with caplog.at_level(logging.INFO, "simplews.client"):
        yield caplog


async def echo(ws: AioServer) -> None:
    async for message in ws:
        await ws.send(message)


def url(port: int) -> str:
    return f"ws://127.0.0.1:{port}/room?secret=1"


# -------------------------------------------------------------- coming back


async def test_a_server_that_comes_and_goes(port: int) -> None:
    """The loop goes on over a start that is late, a drain, and a server that is gone for long."""
    retries: list[Retry] = []
    connected = asyncio.Event()
    answers: list[object] = []

    async def client() -> None:
        async for ws in AioClient.connect(
            url(port), reconnect=Reconnect(on_retry=retries.append, healthy_after=5)
        ):
            try:
                await ws.send(f"hello {len(answers)}")
                answers.append(await ws.receive())
                connected.set()
                async for _ in ws:
                    pass
            except ConnectionClosed:
                continue
            if len(answers) == 3:
                break

    task = asyncio.create_task(client())
    await until(lambda: len(retries) >= 3)  # a pause that is drawn short hides one
    assert [retry.number for retry in retries[:3]] == [1, 2, 3]
    assert all(isinstance(retry.error, OpenError) for retry in retries)
    for away in (1, 300):
        async with serve(echo, "127.0.0.1", port) as server:
            await connected.wait()
            connected.clear()
            await asyncio.sleep(6)
            retries.clear()
            await server.drain(0)
        await until(lambda: retries)
        # It was healthy: the count begins anew, and so does the pause.
        assert retries[0].number == 1 and retries[0].delay <= 1
        assert isinstance(retries[0].error, ConnectionClosed) and retries[0].error.code == 1012
        await asyncio.sleep(away)
    assert max(retry.delay for retry in retries) > 10
    async with serve(echo, "127.0.0.1", port):
        await connected.wait()
    await task
    assert answers == ["hello 0", "hello 1", "hello 2"]


async def test_pauses_are_drawn_between_0_and_a_limit_that_grows(port: int) -> None:
    """Full jitter: of many clients, the n-th pauses are spread evenly up to their limit."""
    random.seed(1)
    pauses: list[list[float]] = []
    for _ in range(40):
        retries: list[Retry] = []
        policy = Reconnect(first=2, factor=3, most=50, attempts=7, on_retry=retries.append)
        began = now()
        with pytest.raises(OpenError):
            async for _ in AioClient.connect(url(port), reconnect=policy):
                pytest.fail("nobody listens")
        pauses.append([retry.delay for retry in retries])
        assert now() - began == pytest.approx(sum(pauses[-1]), abs=1)
    for column, limit in zip(zip(*pauses, strict=True), [2, 6, 18, 50, 50, 50], strict=True):
        assert 0 <= min(column) < limit * 0.15 and limit * 0.85 < max(column) <= limit
        assert statistics.mean(column) == pytest.approx(limit / 2, rel=0.25)


async def test_the_limit_stays_finite(port: int) -> None:
    """Factor to the power of the number of failures would overflow one day."""
    policy = Reconnect(factor=1e300, attempts=5)
    with pytest.raises(OpenError):
        async for _ in AioClient.connect(url(port), reconnect=policy):
            pytest.fail("nobody listens")


async def test_connections_that_end_at_once_count_as_failures() -> None:
    """A server that accepts and then throws everybody out is not hammered."""
    retries: list[Retry] = []

    async def throw_out(ws: AioServer) -> None:
        await ws.close(1013)

    async with serve(throw_out, "127.0.0.1", 0) as server:
        policy = Reconnect(attempts=6, on_retry=retries.append)
        with pytest.raises(OpenError, match=r"after 6 failures in a row; .*10 s.*1013") as failed:
            async for ws in AioClient.connect(url(server.port), reconnect=policy):
                await ws.wait_closed()
    assert [retry.number for retry in retries] == [1, 2, 3, 4, 5]
    assert isinstance(failed.value.__cause__, ConnectionClosed)


async def test_a_body_that_ends_asks_for_the_next_connection() -> None:
    """The last one is closed with 1000 before, and a healthy one sets the count back."""
    retries: list[Retry] = []
    closed: list[int | None] = []

    async def handler(ws: AioServer) -> None:
        await ws.wait_closed()
        closed.append(ws.close_code)

    async with serve(handler, "127.0.0.1", 0) as server:
        turns = 0
        policy = Reconnect(healthy_after=10, on_retry=retries.append)
        async for _ in AioClient.connect(url(server.port), reconnect=policy):
            turns += 1
            if turns == 5:
                break
            await asyncio.sleep(1 if turns < 3 else 20)
        await until(lambda: len(closed) == 5)
    assert closed == [1000] * 5
    assert [retry.number for retry in retries] == [1, 2, 1, 1]
    assert {retry.error for retry in retries} == {None}


# ---------------------------------------------------------------- the end


@pytest.mark.parametrize("status", [200, 302, 400, 401, 403, 404, 410, 426, 501, 505])
async def test_answers_that_stay_are_raised_at_once(status: int) -> None:
    assert await refused(status) == 1


@pytest.mark.parametrize("status", [408, 425, 429, 500, 502, 503, 504])
async def test_answers_that_pass_are_tried_again(status: int) -> None:
    assert await refused(status) == 4


async def refused(status: int, headers: Mapping[str, str] | None = None, **policy: Any) -> int:
    """How often a client asks a server that always answers with *status*."""
    asked = 0

    async def say(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal asked
        asked += 1
        await reader.readuntil(b"\r\n\r\n")
        fields = "".join(f"{name}: {value}\r\n" for name, value in (headers or {}).items())
        writer.write(f"HTTP/1.1 {status} no\r\n{fields}Content-Length: 0\r\n\r\n".encode())

    async with listening(say) as port:
        with pytest.raises(OpenError) as failed:
            async for _ in AioClient.connect(url(port), reconnect=Reconnect(attempts=4, **policy)):
                pytest.fail("it refuses")
    assert failed.value.status_code == status
    return asked


async def test_a_bad_url_is_raised_by_the_call() -> None:
    with pytest.raises(InvalidURL):
        AioClient.connect("http://localhost", reconnect=True)
    with pytest.raises(TypeError, match="no option"):
        AioClient.connect("ws://localhost", reconnect=True, attempts=3)  # type: ignore[call-overload]
    with pytest.raises(TypeError, match=r"True or Reconnect\(...\), not int"):
        AioClient.connect("ws://localhost", reconnect=3)  # type: ignore[call-overload]


async def test_a_bad_certificate_is_raised_at_once(tls: Tls) -> None:
    async with serve(echo, "127.0.0.1", 0, ssl=tls.server) as server:
        with pytest.raises(OpenError, match="certificate"):
            async for _ in AioClient.connect(f"wss://127.0.0.1:{server.port}", reconnect=True):
                pytest.fail("nobody trusts it")


@contextlib.asynccontextmanager
async def saying(words: bytes) -> AsyncIterator[int]:
    """A port where everybody hears *words*, whatever they say."""

    async def say(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(words)
        with contextlib.suppress(OSError):
            await reader.read()

    async with listening(say) as port:
        yield port


@contextlib.asynccontextmanager
async def listening(
    answer: Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]],
) -> AsyncIterator[int]:
    """A port where *answer* has every connection to itself; nothing of it stays open."""
    tasks: list[asyncio.Task[None]] = []
    async with asyncio.TaskGroup() as group:

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            try:
                await answer(reader, writer)
            finally:
                writer.close()
                with contextlib.suppress(OSError):
                    await writer.wait_closed()

        server = await asyncio.start_server(
            lambda *streams: tasks.append(group.create_task(serve(*streams))), "127.0.0.1", 0
        )
        yield server.sockets[0].getsockname()[1]
        server.close()


@pytest.mark.parametrize(
    "scheme, words, match",
    [
        ("wss", b"HTTP/1.1 400 Bad Request\r\n\r\n", "does not speak TLS"),
        ("ws", b"SSH-2.0-OpenSSH_9.2\r\n", "does not speak HTTP"),
    ],
)
async def test_a_server_that_speaks_something_else(scheme: str, words: bytes, match: str) -> None:
    async with saying(words) as port:
        with pytest.raises(OpenError, match=match):
            async for _ in AioClient.connect(f"{scheme}://127.0.0.1:{port}", reconnect=True):
                pytest.fail("it speaks no WebSocket")


async def test_an_opening_without_an_end_is_tried_again() -> None:
    async with saying(b"") as silent:
        with pytest.raises(OpenError, match="within 2 s") as failed:
            async for _ in AioClient.connect(
                url(silent), reconnect=Reconnect(attempts=2), open_timeout=2
            ):
                pytest.fail("it says nothing")
    assert failed.value.__notes__ == ["gave up after 2 failures in a row"]


async def test_fatal_is_the_policys_word(port: int) -> None:
    assert await refused(401, fatal=lambda error: False) == 4
    assert await refused(503, fatal=lambda error: error.status_code == 503) == 1
    assert is_fatal(OpenError("", status_code=404)) and not is_fatal(OpenError(""))


# ---------------------------------------------------------------- the hooks


async def test_on_retry_may_wait_and_may_end_the_loop(port: int) -> None:
    class Enough(Exception):
        pass

    async def on_retry(retry: Retry) -> None:
        await asyncio.sleep(100)
        if retry.number == 3:
            raise Enough

    began = now()
    with pytest.raises(Enough):
        async for _ in AioClient.connect(url(port), reconnect=Reconnect(on_retry=on_retry)):
            pytest.fail("nobody listens")
    assert 300 <= now() - began < 310


@pytest.mark.parametrize("kind", ["plain", "async"])
async def test_renew_gives_every_attempt_its_arguments(kind: str) -> None:
    """A token that has run out by the time that the client comes back."""
    tokens = iter(range(10))
    seen = []

    def renew() -> dict[str, Any]:
        return {"headers": {"Authorization": f"Bearer {next(tokens)}"}}

    async def renew_later() -> dict[str, Any]:
        await asyncio.sleep(1)
        return renew()

    async def handler(ws: AioServer) -> None:
        seen.append(ws.request.headers["authorization"])

    async with serve(handler, "127.0.0.1", 0) as server:
        policy = Reconnect(renew=renew if kind == "plain" else renew_later)
        async for ws in AioClient.connect(url(server.port), reconnect=policy):
            await ws.wait_closed()
            if len(seen) == 3:
                break
    assert seen == ["Bearer 0", "Bearer 1", "Bearer 2"]


async def test_renew_may_fail_to_get_its_token_for_a_while() -> None:
    """A ConnectionError of the hook is one more failure; anything else ends the loop."""
    failures: list[Exception] = [OpenError("the token service is away"), LookupError("no user")]

    def renew() -> dict[str, Any]:
        raise failures.pop(0)

    with pytest.raises(LookupError):
        async for _ in AioClient.connect("ws://127.0.0.1:1", reconnect=Reconnect(renew=renew)):
            pytest.fail("it has no token")
    assert not failures


# -------------------------------------------------------------- Retry-After


async def delays(value: str, **policy: Any) -> list[float]:
    retries: list[Retry] = []
    await refused(503, {"Retry-After": value}, on_retry=retries.append, first=1, **policy)
    return [retry.delay for retry in retries]


async def test_retry_after_is_waited_for_in_addition() -> None:
    found = await delays("120")
    assert len(found) == 3 and all(120 < delay <= 124 for delay in found)
    assert len(set(found)) == 3, "not everybody at the same moment"


async def test_retry_after_has_a_bound() -> None:
    assert all(300 < delay <= 304 for delay in await delays("86400"))
    assert all(7 < delay <= 11 for delay in await delays("86400", most_retry_after=7))
    assert all(delay <= 4 for delay in await delays("86400", most_retry_after=0))


def test_retry_after_as_a_date() -> None:
    date = datetime.now(UTC) + timedelta(seconds=90)
    assert 80 < retry_after(format_datetime(date, usegmt=True)) <= 90
    assert retry_after(format_datetime(date - timedelta(days=1), usegmt=True)) == 0


@pytest.mark.parametrize(
    "value", [None, "", "-5", "1.5", "soon", "²", "Mon, 99 Foo 2020", "1" * 400]
)
def test_retry_after_that_makes_no_sense(value: str | None) -> None:
    assert retry_after(value) == (float("inf") if value == "1" * 400 else 0)


# -------------------------------------------------- leaving and cancelling


@pytest.fixture
async def watched() -> Any:
    """A server, and the close codes of the connections that it had."""
    codes: list[int | None] = []

    async def handler(ws: AioServer) -> None:
        await ws.wait_closed()
        codes.append(ws.close_code)

    async with serve(handler, "127.0.0.1", 0) as server:
        yield server, codes


Watched = tuple[Server, list[int | None]]


async def test_break_closes_the_connection(watched: Watched) -> None:
    server, codes = watched
    async for _ in AioClient.connect(url(server.port), reconnect=True):
        break
    await until(lambda: codes)
    assert codes == [1000]


async def test_an_error_in_the_body_propagates_and_closes(watched: Watched) -> None:
    server, codes = watched
    with pytest.raises(LookupError):
        async for _ in AioClient.connect(url(server.port), reconnect=True):
            raise LookupError
    await until(lambda: codes)
    assert codes == [1000]


async def test_connection_closed_in_the_body_propagates_unless_it_is_caught(
    watched: Watched,
) -> None:
    server, _ = watched
    with pytest.raises(ConnectionClosed):
        async for ws in AioClient.connect(url(server.port), reconnect=True):
            await ws.close()
            await ws.send("too late")


@pytest.mark.parametrize(
    "error, code", [(None, 1000), (LookupError, 1011), (asyncio.CancelledError, 1001)]
)
async def test_a_context_closes_before_it_is_left(
    watched: Watched, error: type[BaseException] | None, code: int
) -> None:
    """And with the code that `async with ws` would close it with."""
    server, codes = watched
    with pytest.raises(error) if error else contextlib.nullcontext():
        async with AioClient.connect(url(server.port), reconnect=True) as connections:
            ws = await anext(connections)
            if error is not None:
                raise error
            assert ws.connected
    assert not ws.connected
    await until(lambda: codes)
    assert codes == [code]


async def test_a_context_whose_loop_has_ended(port: int) -> None:
    policy = Reconnect(attempts=1)
    with pytest.raises(LookupError):
        async with AioClient.connect(url(port), reconnect=policy) as connections:
            with pytest.raises(OpenError):
                await anext(connections)
            raise LookupError
    async with AioClient.connect(url(port), reconnect=policy):
        pass
    with pytest.raises(LookupError):
        async with AioClient.connect(url(port), reconnect=policy):
            raise LookupError


@pytest.mark.parametrize("moment", ["pause", "opening", "body"])
async def test_cancelled_at_any_moment(moment: str, port: int) -> None:
    """Nothing is left open, and CancelledError goes through."""
    reached = asyncio.Event()
    codes: list[int | None] = []

    async def handler(ws: AioServer) -> None:
        await ws.wait_closed()
        codes.append(ws.close_code)

    class Slow(AioServer):
        async def choose_subprotocol(self, request: Any) -> str | None:
            if moment == "opening":
                reached.set()
                await asyncio.sleep(8)
            return None

    async def client(port: int) -> None:
        policy = Reconnect(on_retry=lambda retry: reached.set())
        async for ws in AioClient.connect(url(port), reconnect=policy):
            reached.set()
            await ws.receive()

    async with serve(handler, "127.0.0.1", 0, connection=Slow) as server:
        task = asyncio.create_task(client(port if moment == "pause" else server.port))
        await reached.wait()
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        if moment == "body":
            await until(lambda: codes)
            assert codes == [1000]


async def test_await_says_how_it_is_used() -> None:
    with pytest.raises(TypeError, match="async for ws in"):
        await AioClient.connect("ws://localhost", reconnect=True)
    with contextlib.closing(AioClient.connect("ws://localhost")) as opening:
        with pytest.raises(TypeError, match="reconnect=True"):
            async for _ in opening:
                pass


# --------------------------------------------------------------------- log


async def test_one_line_per_attempt(port: int, log: pytest.LogCaptureFixture) -> None:
    """With the place, and without what may be secret."""
    with pytest.raises(OpenError):
        async for _ in AioClient.connect(url(port), reconnect=Reconnect(attempts=3)):
            pytest.fail("nobody listens")
    lines = [record.getMessage() for record in log.records]
    assert len(lines) == 3
    assert lines[0].startswith(f"127.0.0.1:{port}: attempt 1 failed: nothing listens")
    assert lines[1].startswith(f"127.0.0.1:{port}: attempt 2 failed: nothing listens")
    assert "connecting again in" in lines[1]
    assert lines[2] == f"127.0.0.1:{port}: gave up after 3 failures in a row"
    assert "secret" not in "".join(lines)


@pytest.mark.parametrize(
    "wrong",
    [
        {"first": -1},
        {"first": 61},
        {"factor": 0.5},
        {"healthy_after": -1},
        {"attempts": 0},
        {"most_retry_after": -1},
        {"most": float("nan")},
    ],
)
def test_a_policy_that_makes_no_sense(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        Reconnect(**wrong)  # type: ignore[arg-type]


def test_the_policy_of_the_guide() -> None:
    """`docs/howto/reconnect.md`: it is one, as it stands there."""
    guide = Path(__file__).parents[2] / "docs" / "howto" / "reconnect.md"
    blocks = re.findall(r"^```python\n(.*?)^```$", guide.read_text("utf-8"), re.S | re.M)
    names: dict[str, Any] = {"new_token": lambda: "x"}
    exec(blocks[0], names)
    policy = names["policy"]
    assert isinstance(policy, Reconnect) and policy.attempts == 20
    assert policy.renew is not None
    assert policy.renew() == {"headers": {"Authorization": "Bearer x"}}
    assert policy.fatal(OpenError("", status_code=401))
