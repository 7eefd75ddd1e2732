"""serve(workers=): real processes, killed and replaced under load."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import ssl
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from simplews import AioClient, AioServer, ConnectionClosed, Retry, Workers, serve
from simplews import ConnectionError as OpenError

from ..tls import Tls
from .conftest import AT_ONCE, DEADLINE, App, Start, environment, gone, session

pytestmark = [
    pytest.mark.skipif(sys.platform == "win32", reason="workers= is not for Windows"),
    pytest.mark.timeout(120),
]

needs_proc = pytest.mark.skipif(not os.path.isdir("/proc/self/fd"), reason="needs /proc")


async def closed(clients: list[AioClient]) -> Counter[int | None]:
    """Wait for the end of every client: with which codes."""
    async with asyncio.timeout(DEADLINE):
        for ws in clients:
            await ws.wait_closed()
    return Counter(ws.close_code for ws in clients)


async def echoes(ws: AioClient, text: str) -> bool:
    await ws.send(text)
    return await ws.receive(DEADLINE) == text


# ------------------------------------------------------------------ one life


@pytest.mark.parametrize("kind", ["tls", "unix"])
async def test_workers_share_what_they_listen_on(
    start: Start, kind: str, tmp_path: Path, tls: Tls
) -> None:
    """Every worker gets clients; SIGTERM closes all of them with 1001, and leaves nothing."""
    options: dict[str, Any] = {}
    path = tmp_path / "ws.sock"
    if kind == "tls":
        certificate = tmp_path / "server.pem"
        tls.certificate.private_key_and_cert_chain_pem.write_to_path(certificate)
        app = await start(host="localhost", certificate=str(certificate))
        options["ssl_context"] = tls.client
    else:
        app = await start(path=str(path))
    clients: list[AioClient] = [await app.connect(**options) for _ in range(30)]
    served = Counter([int(str(await ws.receive(DEADLINE))) for ws in clients])
    assert set(served) == set(app.pids) and len(app.pids) == 2
    # At once, as after an outage: still nobody gets all of them.
    more = await asyncio.gather(*(app.connect(**options) for _ in range(100)))
    served = Counter([int(str(await ws.receive(DEADLINE))) for ws in more])
    assert set(served) == set(app.pids)
    assert all([await echoes(ws, "x") for ws in clients])
    app.process.send_signal(signal.SIGTERM)
    assert await closed(clients + more) == {1001: 130}
    assert await app.answer() == "ended"
    status, log = await app.end()
    assert status == 0 and "Traceback" not in log and "Warning" not in log
    assert not path.exists()


async def test_ctrl_c_reaches_everybody_and_only_the_supervisor_acts(start: Start) -> None:
    app = await start(workers=1)
    clients = await app.members(app.pids)
    os.killpg(app.process.pid, signal.SIGINT)
    assert set(await closed(clients)) == {1001}
    _, log = await app.end()
    assert log.count("\nKeyboardInterrupt") == 1, "that of asyncio.run in the supervisor"
    assert "Process simplews-worker" not in log


async def test_drain_by_call(start: Start) -> None:
    app = await start()
    clients = await app.members(app.pids)
    app.order("drain 0.3")
    assert set(await closed(clients)) == {1012}
    with pytest.raises(OpenError, match="refused"):
        await app.connect()
    assert (await app.end())[0] == 0


async def test_close_cuts_a_drain_short(start: Start) -> None:
    app = await start()
    clients = await app.members(app.pids)
    app.order("drain 10000")
    async with asyncio.timeout(DEADLINE):
        with contextlib.suppress(OpenError):
            while True:  # until the drain has begun
                clients.append(await app.connect())
    app.process.send_signal(signal.SIGTERM)
    assert set(await closed(clients)) <= {1001, 1012}
    assert (await app.end())[0] == 0


# -------------------------------------------------------------------- deaths


class Load:
    """Clients that count, and tell what they met."""

    def __init__(self, app: App, clients: int) -> None:
        self.codes: Counter[int | None] = Counter()
        self.opened: Counter[int] = Counter()
        self.failures: list[Retry] = []
        self.echoed = asyncio.Event()
        self.count = 0
        self.tasks = [asyncio.create_task(self._client(app)) for _ in range(clients)]

    async def _client(self, app: App) -> None:
        policy = type(AT_ONCE)(
            first=AT_ONCE.first, most=AT_ONCE.most, healthy_after=0, on_retry=self._retry
        )
        async for ws in app.connect(reconnect=policy):
            try:
                self.opened[int(str(await ws.receive(DEADLINE)))] += 1
                number = 0
                while True:
                    assert await echoes(ws, str(number))
                    number += 1
                    self.count += 1
                    self.echoed.set()
            except ConnectionClosed:
                self.codes[ws.close_code] += 1

    def _retry(self, retry: Retry) -> None:
        if isinstance(retry.error, OpenError):
            self.failures.append(retry)

    async def until(self, condition: Any) -> None:
        """Go on until *condition()* holds."""
        async with asyncio.timeout(DEADLINE):
            while not condition():
                self.echoed.clear()
                await self.echoed.wait()

    async def stop(self) -> None:
        """Leave, and raise what a client has met that it should not have."""
        for task in self.tasks:
            task.cancel()
        for result in await asyncio.gather(*self.tasks, return_exceptions=True):
            if not isinstance(result, asyncio.CancelledError):
                raise result


async def test_a_worker_killed_under_load_harms_nobody_else_and_is_replaced(start: Start) -> None:
    app = await start()
    killed, other = app.pids
    load = Load(app, 12)
    await load.until(lambda: sum(load.opened.values()) == 12 and load.count > 100)
    before = load.opened.copy()
    os.kill(killed, signal.SIGKILL)
    await app.says(rf"worker 1 \(pid {killed}\) was killed by SIGKILL; another one starts in ")
    # Its clients lost it without a Close and are back; those of the other saw nothing.
    await load.until(lambda: sum(load.opened.values()) == 12 + before[killed])
    assert load.codes == ({1006: before[killed]} if before[killed] else {})
    new = int((await app.says(r"worker 1 \(pid (\d+)\) listens"))[1])
    for ws in await app.members([new, other]):
        assert await echoes(ws, "still here")
        await ws.close()
    assert not load.failures, "somebody listened all the time"
    await load.stop()
    assert await app.ask("pids") == [new, other]


@needs_proc
async def test_a_supervisor_that_is_killed_leaves_no_orphan(start: Start) -> None:
    """Its workers notice, say 1001 to everybody, and go."""
    app = await start()
    clients = await app.members(app.pids)
    app.process.kill()
    assert set(await closed(clients)) == {1001}
    assert (await app.end())[0] == -signal.SIGKILL
    await gone(app.process)


async def test_a_worker_that_hangs_is_killed(start: Start) -> None:
    """It cannot say why; those whose handler it blocks lose their connection."""
    app = await start(workers=1, close_timeout=0)
    clients = await app.members(app.pids)
    await clients[0].send("block")
    app.process.send_signal(signal.SIGTERM)
    assert set(await closed(clients)) == {1006}
    await app.says(r"worker \d \(pid \d+\) did not end in time: it is killed")
    assert (await app.end())[0] == 0


async def test_a_worker_that_dies_at_once_is_not_started_in_a_hurry(
    start: Start, tmp_path: Path
) -> None:
    """Each time it waits for twice as long; and a restart leaves the old ones alone."""
    broken = tmp_path / "broken"
    app = await start(workers=1, broken=str(broken))
    broken.touch()
    assert "ended with exit status 3 before it listened" in await app.ask("restart 0")
    assert await app.ask("pids") == app.pids
    os.kill(app.pids[0], signal.SIGKILL)
    pauses = []
    for pattern in ("was killed by SIGKILL", "exit status 3 before it listened"):
        pauses.append(float((await app.says(pattern + r".*starts in ([\d.]+) s"))[1]))
    assert pauses[1] == (2 * pauses[0] or 0.5)
    broken.unlink()
    await app.says(r"worker 1 \(pid \d+\) listens")
    await app.members(await app.ask("pids"))


async def test_a_worker_that_does_not_start_is_an_error(start: Start, tmp_path: Path) -> None:
    broken = tmp_path / "broken"
    broken.touch()
    app = await start(workers=1, broken=str(broken))
    status, log = await app.end()
    assert status == 1
    assert "before it listened; standard error says why" in log


@needs_proc
async def test_a_program_that_forgets_its_workers_ends(tmp_path: Path) -> None:
    """multiprocessing waits for every process at the exit, and the workers wait for us."""
    program = tmp_path / "forgetful.py"
    program.write_text(
        "import asyncio\n"
        "from simplews import serve\n"
        "async def handler(ws): ...\n"
        "async def main():\n"
        "    await serve(handler, '127.0.0.1', workers=1).start()\n"
        "if __name__ == '__main__':\n"
        "    asyncio.run(main())\n"
    )
    process = await asyncio.create_subprocess_exec(
        sys.executable, str(program), start_new_session=True, env=environment()
    )
    try:
        async with asyncio.timeout(DEADLINE):
            assert await process.wait() == 0
        await gone(process)
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)


# ------------------------------------------------------------------ restarts


@needs_proc
async def test_rolling_restarts_under_load(start: Start) -> None:
    """Every client gets 1012 and is back at once: somebody listens all the time."""
    app = await start()
    load = Load(app, 12)
    pids = app.pids
    descriptors = len(os.listdir(f"/proc/{app.process.pid}/fd"))
    await load.until(lambda: sum(load.opened.values()) == 12)
    app.process.send_signal(signal.SIGHUP)
    for place in (1, 2):
        await app.says(rf"worker {place} \(pid {pids[place - 1]}\) is replaced by")
    new = await app.ask("restart 0.2")  # after the first, if that is not done yet
    assert not set(new) & set(pids)
    await load.until(lambda: sum(load.opened[pid] for pid in new) >= 12)
    # Those who came to the second worker before its turn are told a second time.
    assert set(load.codes) == {1012} and load.codes[1012] >= 12 * 2
    assert not load.failures
    await load.stop()
    assert len(os.listdir(f"/proc/{app.process.pid}/fd")) == descriptors
    # They, and the process that multiprocessing has beside us.
    assert len(session(app.process.pid)) == 4


# ------------------------------------------------------------------ mistakes


async def echo(ws: AioServer) -> None:
    """Never run."""


def test_what_cannot_be_sent_to_a_worker_is_an_error_at_once() -> None:
    async def local(ws: AioServer) -> None:
        """Not a function of a module."""

    with pytest.raises(TypeError, match="functions of a module"):
        serve(local, workers=2)
    with pytest.raises(TypeError, match="a function of a module that makes the context"):
        serve(echo, workers=2, ssl=ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER))


def test_arguments_that_make_no_sense() -> None:
    for wrong in (0, -1, True, 1.5):
        with pytest.raises(ValueError, match="workers must be"):
            serve(echo, workers=wrong)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="setup="):
        serve(echo, setup=print)
    with pytest.raises(ValueError, match="path= or on sock="):
        serve(echo, workers=2, path="/x", sock=[])
    with pytest.raises(ValueError, match="ping_interval"):
        serve(echo, workers=2, ping_interval=-1)


async def test_a_port_that_is_taken() -> None:
    async with serve(echo, "127.0.0.1") as other:
        server: Workers = serve(echo, "127.0.0.1", other.port, workers=2)
        with pytest.raises(OSError, match="in use"):
            await server.start()
        with pytest.raises(RuntimeError):
            _ = server.port
        for spread in (-1, float("nan")):
            with pytest.raises(ValueError, match="spread"):
                await server.drain(spread)
            with pytest.raises(ValueError, match="spread"):
                await server.restart(spread)
        await server.close()
