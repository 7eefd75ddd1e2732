"""Several processes on one port: what ``serve(workers=N)`` makes.

A supervisor binds the listening sockets and starts the workers; each serves on
the same sockets, and whichever is idle takes the next client. It accepts nobody
itself::

                      ┌── control ──▶ worker 1 ──┐
    supervisor ───────┼── control ──▶ worker 2 ──┼── the listening sockets
    (binds, watches)  └── control ──▶ worker 3 ──┘

Choice: inherited sockets rather than SO_REUSEPORT. With the latter every process
has a queue of its own, and what waits in it is reset when the process ends, in
every restart; macOS gives all clients to one process; and Unix sockets have no
such thing. One queue outlives every worker.

Choice: workers are spawned, never forked. A fork of a process with an event loop
and threads inherits their locks and descriptors in whatever state they are. So a
worker imports the handler by its name, and what `serve` is given must be pickled.

The control channel is a socket pair, with JSON on it, a line each. The supervisor
writes orders. The worker says when it listens, and what it has counted: when it is
asked, and at its end. The end of the channel is the end of the supervisor, however
that came about: a worker then closes its connections and ends.

Choice: counters are asked for rather than kept in memory that processes share. A
connection counts its own messages, and adding them up takes a microsecond for each;
a worker would have to do so all the time for a supervisor that never looks.
"""

from __future__ import annotations

import asyncio
import atexit
import contextlib
import json
import logging
import multiprocessing
import multiprocessing.util  # its exit function is registered before ours, and runs after it
import os
import pickle
import signal
import socket
import stat
import sys
from collections.abc import Callable, Coroutine, Iterator, Sequence
from types import TracebackType
from typing import Any, Protocol

from . import speed
from .errors import WebSocketRuntimeError
from .protocol.frames import check_close
from .tally import ServerStats, WorkersStats, from_json, outlived, to_json, total
from .types import CloseCode

__all__ = ["Serving", "Workers"]

# Seconds that a worker may take to import the handler and to listen.
_START = 60
# Seconds beyond its closing handshakes that a worker gets to end, then SIGKILL.
_GRACE = 5
# A worker that dies within so many seconds waits before the next one: half a
# second, and twice as long each time, up to half a minute.
_AT_ONCE, _FIRST_PAUSE, _LONGEST_PAUSE = 5.0, 0.5, 30.0

# Seconds that a worker which has ended its work waits for the supervisor to take
# the last it has to say.
_LAST_WORD = 1

_BACKLOG = 1024


class Serving(Protocol):
    """What a worker needs from its server; `Server` is one."""

    async def start(self) -> None: ...
    async def serve_forever(self) -> None: ...
    async def close(self, code: int = ..., reason: str = ...) -> None: ...
    async def drain(self, spread: float) -> None: ...
    @property
    def stats(self) -> ServerStats: ...


# ------------------------------------------------------------- in the worker


def _work(recipe: bytes, listeners: list[socket.socket], control: socket.socket) -> None:
    """A worker's whole life."""
    # Ctrl-C reaches every process of a terminal, and closing the terminal, too. It
    # is the supervisor's to say what that means. What came while we were starting
    # is pending (see `_quiet`), and forgotten here.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT, signal.SIGHUP})
    make, setup, fast, logger = pickle.loads(recipe)
    if fast:
        speed.enable()
    if setup is not None:
        setup()
    try:
        speed.run(_serve(make, listeners, control))
    except Exception:
        # Where `setup` has sent the log; standard error, if it has not.
        logger.exception("a worker cannot serve, and ends: pid %d", os.getpid())
        sys.exit(1)


async def _serve(
    make: Callable[..., Serving], listeners: list[socket.socket], control: socket.socket
) -> None:
    server = make(sock=listeners)
    reader, writer = await asyncio.open_connection(sock=control)

    def say(**what: object) -> None:
        writer.write(json.dumps(what).encode() + b"\n")

    def count() -> None:
        say(stats=to_json(server.stats))

    # From the beginning: entering a lifespan may take for ever, and without a
    # supervisor nobody would end that.
    obeying = asyncio.create_task(_obey(server, reader, count))
    try:
        await server.start()
        say(listens=True)
        await server.serve_forever()
    finally:
        obeying.cancel()
        # What closing has raised there, it has raised here.
        await asyncio.gather(obeying, return_exceptions=True)
        count()
        writer.close()
        with contextlib.suppress(OSError):  # a TimeoutError is one
            async with asyncio.timeout(_LAST_WORD):
                await writer.wait_closed()


async def _obey(server: Serving, reader: asyncio.StreamReader, count: Callable[[], object]) -> None:
    """Do what the supervisor says; without one, close."""
    async with asyncio.TaskGroup() as group:
        # It may be gone before it has read what we wrote, which resets the channel.
        with contextlib.suppress(OSError):
            while line := await reader.readline():
                match json.loads(line):
                    case {"count": True}:
                        count()
                    case {"drain": spread}:
                        group.create_task(server.drain(spread))
                    case {"close": [code, reason]}:
                        group.create_task(server.close(code, reason))
        await server.close()


# --------------------------------------------------------- in the supervisor


class _Worker:
    """
    A worker, as the supervisor sees it.

    Attributes:
        name: For the log: its place, and its process.
        born: When it was started, on the loop's clock.
        ended: Set when its process has ended.
        stats: The last that it has counted, and said.
    """

    def __init__(self, place: int, recipe: bytes, listeners: Sequence[socket.socket]) -> None:
        loop = asyncio.get_running_loop()
        self.born = loop.time()
        self.ended = asyncio.Event()
        self.stats = total(())
        self._counted: asyncio.Future[None] | None = None  # what it was asked for
        self._begun = b""  # a line, as far as it has come
        self._control, theirs = socket.socketpair()
        self._control.setblocking(False)
        self._process = multiprocessing.get_context("spawn").Process(
            target=_work,
            args=(recipe, list(listeners), theirs),
            name=f"simplews-worker-{place}",
        )
        try:
            with theirs, _quiet():
                self._process.start()
        except BaseException:
            self._control.close()
            raise
        assert self._process.pid is not None
        self.pid: int = self._process.pid
        self.name = f"worker {place} (pid {self.pid})"
        self.exitcode = 0
        #: True when it listens, False when it has ended before.
        self.listens: asyncio.Future[bool] = loop.create_future()
        loop.add_reader(self._control, self._hear)
        loop.add_reader(self._process.sentinel, self._has_ended)

    def order(self, **what: object) -> None:
        """Tell it what to do, unless it has gone."""
        with contextlib.suppress(OSError):
            # A few bytes, which a socket pair always has room for.
            self._control.send(json.dumps(what).encode() + b"\n")

    def forsake(self) -> None:
        """Let it find out that there is no supervisor any more."""
        self._control.close()

    def kill(self) -> None:
        """SIGKILL."""
        if not self.ended.is_set():
            self._process.kill()

    async def count(self) -> None:
        """Have its figures in `stats`, as they are after this call; or its end."""
        if self._counted is not None:
            # It may have counted for somebody before we came. Who does not answer is
            # not asked again: it would find all of that when it wakes.
            await asyncio.wait({self._counted})
        if self.ended.is_set():
            return
        if self._counted is None:
            self._counted = asyncio.get_running_loop().create_future()
            self.order(count=True)
        await asyncio.wait({self._counted})

    @property
    def serves(self) -> bool:
        """Whether it listens, or still has connections."""
        return self.listens.done() and self.listens.result() and not self.ended.is_set()

    @property
    def remains(self) -> ServerStats:
        """What it adds to the sum of all, also when it has ended."""
        return outlived(self.stats) if self.ended.is_set() else self.stats

    def _hear(self) -> bool:
        """Take what it says, and tell whether there may be more."""
        try:
            said = self._control.recv(65536)
        except BlockingIOError:
            return False
        except OSError:
            said = b""
        if not said:  # its death is next
            asyncio.get_running_loop().remove_reader(self._control)
            return False
        *lines, self._begun = (self._begun + said).split(b"\n")
        for line in lines:
            match json.loads(line):
                case {"listens": True}:
                    self.listens.set_result(True)
                case {"stats": stats}:
                    self.stats = from_json(stats)
                    self._answered()
        return True

    def _answered(self) -> None:
        if self._counted is not None:
            self._counted.set_result(None)
            self._counted = None

    def _has_ended(self) -> None:
        loop = asyncio.get_running_loop()
        loop.remove_reader(self._process.sentinel)
        while self._hear():  # its last words
            pass
        loop.remove_reader(self._control)
        self._control.close()
        if not self.listens.done():
            self.listens.set_result(False)
        self._process.join()  # its last descriptor is closed: this takes no time
        assert self._process.exitcode is not None
        self.exitcode = self._process.exitcode
        self._process.close()
        self.ended.set()
        self._answered()

    @property
    def fate(self) -> str:
        """How it ended, for people."""
        code = self.exitcode
        if code >= 0:
            return f"ended with exit status {code}"
        with contextlib.suppress(ValueError):
            return f"was killed by {signal.Signals(-code).name}"
        return f"was killed by signal {-code}"


class Workers:
    """
    A server of several processes. `serve` makes it, with ``workers=``; see there.

    ``async with`` starts and closes it; `serve_forever` starts it, if need be, and
    runs until SIGTERM or cancellation. A worker that dies is replaced.
    """

    def __init__(
        self,
        make: Callable[..., Serving],
        count: int,
        host: str | Sequence[str] | None,
        port: int,
        *,
        path: str | None,
        sock: socket.socket | Sequence[socket.socket] | None,
        setup: Callable[[], object] | None,
        close_timeout: float,
        logger: logging.Logger,
    ) -> None:
        if type(count) is not int or count < 1:
            raise ValueError(f"workers must be a number of processes from 1 up, not {count!r}")
        if sys.platform == "win32":
            raise ValueError("workers= needs a system where processes can share a socket")
        self._logger = logger.getChild("workers")
        self._recipe = _pickled(make, setup, self._logger)
        self._count = count
        self._host, self._port, self._path, self._sock = host, port, path, sock
        self._patience = 3 * close_timeout + _GRACE
        self._listeners: list[socket.socket] = []
        self._path_status: os.stat_result | None = None
        self._workers: list[_Worker] = []  # by place
        self._living: set[_Worker] = set()  # those that are being replaced, too
        self._past = total(())  # what those have counted that have gone
        self._tasks: set[asyncio.Task[Any]] = set()
        self._places: list[asyncio.Lock] = []
        self._restarting = asyncio.Lock()
        self._ending: asyncio.Task[None] | None = None
        self._terminating: asyncio.Task[None] | None = None
        self._ended = asyncio.Event()

    # ------------------------------------------------------------------ life

    async def start(self) -> None:
        """
        Bind, and start the workers; it returns when all of them listen.

        Raises:
            OSError: The address cannot be used; ``errno.EADDRINUSE`` when
                something else listens there.
            WebSocketRuntimeError: A worker ended before it listened; why, it has
                said on standard error.

        Cancellation:
            What was started is ended.
        """
        if self._listeners or self._ending is not None:
            return
        self._listeners = await self._bind()
        atexit.register(self._forsake)
        starts = [asyncio.ensure_future(self._hire(place)) for place in range(self._count)]
        try:
            self._workers = list(await asyncio.gather(*starts))
        except BaseException:
            for start in starts:
                start.cancel()
            await asyncio.wait(starts)
            await self.close()
            raise
        self._places = [asyncio.Lock() for _ in self._workers]
        for place in range(self._count):
            self._spawn(self._keep(place))

    async def serve_forever(self, *, spread: float = 10) -> None:
        """
        Serve until SIGTERM or `close`, then close every connection with 1001.

        SIGHUP is `restart`; when it comes because the terminal was closed, SIGTERM.

        Args:
            spread: Seconds over which a SIGHUP spreads the closing.

        Cancellation:
            The same as SIGTERM.
        """
        await self.start()
        loop = asyncio.get_running_loop()
        handlers: dict[signal.Signals, Callable[[], object]] = {
            signal.SIGTERM: self._terminate,
            signal.SIGHUP: lambda: self._hang_up(on_terminal, spread),
        }
        on_terminal = _has_terminal()
        installed = []
        with contextlib.suppress(ValueError, RuntimeError):  # not in the main thread
            for number, handler in handlers.items():
                loop.add_signal_handler(number, handler)
                installed.append(number)
        try:
            await self._ended.wait()
        finally:
            # Until the end: a second SIGTERM is no reason to leave workers behind.
            try:
                if not self._ended.is_set():
                    await self.close()
            finally:
                for number in installed:
                    loop.remove_signal_handler(number)

    def _terminate(self) -> None:
        self._terminating = asyncio.ensure_future(self.close())

    def _hang_up(self, on_terminal: bool, spread: float) -> None:
        if on_terminal and not _has_terminal():
            self._terminate()
        else:
            self._spawn(self._restart_logged(spread))

    async def close(self, code: int = CloseCode.GOING_AWAY, reason: str = "") -> None:
        """
        Stop listening, close every connection and end every worker.

        A worker that has not ended when its connections, its handlers and its
        lifespan have had ``close_timeout`` each, and a few seconds more, is killed.

        Args:
            code: The close code.
            reason: The close reason.

        Raises:
            ValueError: The code must not be sent, or the reason is too long.

        Cancellation:
            Safe. The closing goes on by itself.
        """
        check_close(code, reason)
        for worker in self._living:
            worker.order(close=[code, reason])
        await self._end(self._patience)

    async def drain(self, spread: float) -> None:
        """
        Stop listening and close the connections one after the other with 1012.

        Every worker does so at the same time, and ends. `close` cuts it short.

        Args:
            spread: Seconds over which the closing is spread.

        Raises:
            ValueError: *spread* is negative.

        Cancellation:
            Safe. The draining goes on by itself.
        """
        _check_spread(spread)
        for worker in self._living:
            worker.order(drain=spread)
        await self._end(spread + self._patience)

    async def restart(self, spread: float = 10) -> None:
        """
        Replace every worker, one after the other: a rolling restart.

        A new worker, which imports the handler afresh, listens before the old one
        stops to; the old one closes its connections with 1012 and ends. So
        somebody always listens. A second call waits for the first.

        Args:
            spread: Seconds over which the closing is spread, all workers together.

        Raises:
            ValueError: *spread* is negative.
            WebSocketRuntimeError: A new worker ended before it listened, and the
                old ones from there on go on; or the server is closed.

        Cancellation:
            Safe. The restart goes on by itself.
        """
        _check_spread(spread)
        task = self._spawn(self._restart(spread))
        try:
            await asyncio.shield(task)
        except asyncio.CancelledError:
            if task.cancelled():
                raise WebSocketRuntimeError("the server was closed meanwhile") from None
            raise

    async def __aenter__(self) -> Workers:
        await self.start()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.close()

    # ----------------------------------------------------------------- facts

    @property
    def sockets(self) -> tuple[socket.socket, ...]:
        """The listening sockets; empty before the start and after the end."""
        return tuple(self._listeners)

    @property
    def port(self) -> int:
        """The TCP port of the first listening socket, also when 0 was asked for."""
        for listener in self._listeners:
            if listener.family in (socket.AF_INET, socket.AF_INET6):
                return int(listener.getsockname()[1])
        raise RuntimeError("the server does not listen on a TCP port")

    @property
    def pids(self) -> tuple[int, ...]:
        """The process of each worker."""
        return tuple(worker.pid for worker in self._workers)

    async def stats(self, timeout: float = 1) -> WorkersStats:
        """
        Ask every worker what it has seen, and what it has now, and add it up.

        A worker that ends in good order says the last it has counted. One that is
        killed leaves what it said when it was last asked: the totals never go
        backwards, but what it did since then is not in them, and the connections
        that it had then count as lost, with 1006.

        It costs a worker about a microsecond for each open connection.

        Args:
            timeout: Seconds to wait for the answers. A worker whose event loop is
                blocked is late, and adds what it said last.

        Returns:
            The totals, and each process.

        Cancellation:
            Safe.
        """
        counted: set[_Worker] = set()

        async def count(worker: _Worker) -> None:
            await worker.count()
            counted.add(worker)

        asked = {worker for worker in self._living if worker.serves}
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout), asyncio.TaskGroup() as group:
                for worker in asked:
                    group.create_task(count(worker))
        serving = [worker for worker in self._living if worker.serves]
        return WorkersStats(
            total((self._past, *(worker.remains for worker in self._living))),
            {worker.pid: worker.stats for worker in serving},
            frozenset(worker.pid for worker in asked - counted if worker.serves),
        )

    # --------------------------------------------------------------- workers

    async def _hire(self, place: int) -> _Worker:
        """Start a worker and wait until it listens."""
        worker = _Worker(place + 1, self._recipe, self._listeners)
        self._living.add(worker)
        self._spawn(self._bury(worker))
        try:
            async with asyncio.timeout(_START):
                if await asyncio.shield(worker.listens):
                    self._logger.info("%s listens", worker.name)
                    return worker
        except TimeoutError:
            self._logger.error("%s did not listen within %d s", worker.name, _START)
            worker.kill()
        except BaseException:
            worker.kill()
            raise
        await worker.ended.wait()
        raise WebSocketRuntimeError(
            f"{worker.name} {worker.fate} before it listened; standard error says why"
        )

    async def _bury(self, worker: _Worker) -> None:
        await worker.ended.wait()
        self._living.discard(worker)
        self._past = total((self._past, worker.remains))

    async def _keep(self, place: int) -> None:
        """Replace the worker at *place* whenever it dies."""
        deaths = 0
        while True:
            worker = self._workers[place]
            await worker.ended.wait()
            lived = asyncio.get_running_loop().time() - worker.born
            deaths = 0 if lived >= _AT_ONCE else deaths + 1
            what = f"{worker.name} {worker.fate}"
            while self._workers[place] is worker:  # else `restart` has replaced it
                pause = _FIRST_PAUSE * 2 ** min(deaths - 1, 16) if deaths else 0
                pause = min(pause, _LONGEST_PAUSE)
                self._logger.error("%s; another one starts in %g s", what, pause)
                await asyncio.sleep(pause)
                async with self._places[place]:
                    if self._workers[place] is not worker:
                        break
                    try:
                        self._workers[place] = await self._hire(place)
                    except WebSocketRuntimeError as exc:
                        deaths, what = deaths + 1, str(exc)

    async def _restart(self, spread: float) -> None:
        async with self._restarting:
            for place in range(self._count):
                async with self._places[place]:
                    old = self._workers[place]
                    self._workers[place] = await self._hire(place)
                self._logger.info("%s is replaced by %s", old.name, self._workers[place].name)
                share = spread / self._count
                old.order(drain=share)
                await self._last({old}, share + self._patience)

    async def _restart_logged(self, spread: float) -> None:
        try:
            await self._restart(spread)
        except WebSocketRuntimeError as exc:
            self._logger.error("the restart was given up: %s", exc)

    # --------------------------------------------------------------- the end

    async def _end(self, patience: float) -> None:
        if self._ending is None:
            self._ending = asyncio.ensure_future(self._end_workers(patience))
        await asyncio.shield(self._ending)

    async def _end_workers(self, patience: float) -> None:
        for listener in self._listeners:
            listener.close()
        self._listeners = []
        self._remove_path()
        tasks = [task for task in self._tasks if not task.done()]
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)
        # What `_keep` and `_restart` were starting, they have killed.
        await self._last(set(self._living), patience)
        atexit.unregister(self._forsake)
        self._ended.set()

    async def _last(self, workers: set[_Worker], patience: float) -> None:
        """Wait for the end of *workers*; kill them after *patience* seconds."""
        try:
            async with asyncio.timeout(patience):
                for worker in workers:
                    await worker.ended.wait()
        except TimeoutError:
            for worker in workers:
                if not worker.ended.is_set():
                    self._logger.warning("%s did not end in time: it is killed", worker.name)
                    worker.kill()
            for worker in workers:
                await worker.ended.wait()
        for worker in workers:
            if worker.exitcode > 0:
                self._logger.error("%s", f"{worker.name} {worker.fate}")

    def _forsake(self) -> None:
        """At the interpreter's exit: multiprocessing waits for them, and they for us."""
        for worker in self._living:
            worker.forsake()

    def _spawn(self, coroutine: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.get_running_loop().create_task(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    # ------------------------------------------------------------ the sockets

    async def _bind(self) -> list[socket.socket]:
        if self._sock is not None:
            given = [self._sock] if isinstance(self._sock, socket.socket) else list(self._sock)
            found = [socket.socket(fileno=os.dup(sock.fileno())) for sock in given]
        elif self._path is not None:
            found = [_bind_unix(self._path)]
            self._path_status = os.stat(self._path)
        else:
            # asyncio knows how: several addresses, both families, SO_REUSEADDR.
            server = await asyncio.get_running_loop().create_server(
                asyncio.Protocol, self._host, self._port, start_serving=False
            )
            found = [socket.socket(fileno=os.dup(sock.fileno())) for sock in server.sockets]
            server.close()
        for listener in found:
            # From now on clients wait in the queue instead of being refused.
            listener.listen(_BACKLOG)
            self._logger.info("listening on %s", listener.getsockname())
        return found

    def _remove_path(self) -> None:
        if self._path is not None and self._path_status is not None:
            with contextlib.suppress(OSError):
                # The next server may have put its own there already.
                if os.path.samestat(os.stat(self._path), self._path_status):
                    os.unlink(self._path)


def _pickled(
    make: Callable[..., Serving], setup: Callable[[], object] | None, logger: logging.Logger
) -> bytes:
    fast = speed.report() != speed.Report(None, None, None)
    try:
        return pickle.dumps((make, setup, fast, logger))
    except (pickle.PicklingError, AttributeError, TypeError) as exc:
        raise TypeError(
            f"workers are processes of their own, and this cannot be sent to them: {exc}. "
            f"Handlers and lifespan= must be functions of a module, or objects that can be "
            f"pickled; "
            f"for TLS, pass ssl= a function of a module that makes the context"
        ) from exc


def _has_terminal() -> bool:
    """Whether there is a terminal whose closing would send us SIGHUP."""
    try:
        os.close(os.open("/dev/tty", os.O_RDONLY | os.O_NOCTTY))
    except OSError:
        return False
    return True


def _check_spread(spread: float) -> None:
    if not spread >= 0:
        raise ValueError(f"spread must not be negative, not {spread!r}")


def _bind_unix(path: str) -> socket.socket:
    with contextlib.suppress(FileNotFoundError):
        # One that was left behind, as asyncio does.
        if stat.S_ISSOCK(os.stat(path).st_mode):
            os.remove(path)
    sock = socket.socket(socket.AF_UNIX)
    try:
        sock.bind(path)
    except BaseException:
        sock.close()
        raise
    return sock


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Start a process that SIGINT and SIGHUP do not touch until it unblocks them."""
    numbers = {signal.SIGINT, signal.SIGHUP}
    before = signal.pthread_sigmask(signal.SIG_BLOCK, numbers)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
