"""One case of one peer on one event loop: start it, put the load on it, read the figures."""

from __future__ import annotations

import math
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from . import load, payloads, processes
from .cases import CAPACITY, Case
from .load import Record
from .peers import FOLDER, Peer
from .processes import Failed, Placement, Server
from .toolchain import WSECHO

FAILURES = (RuntimeError, ValueError, OSError, subprocess.SubprocessError)

SETTLE = 0.3  # seconds in which a server forgets connections that were closed


@dataclass(frozen=True)
class Settings:
    """
    What holds for all of a run.

    Attributes:
        python: The interpreter that runs the adapters.
        together: Where both sides run when what they cost is measured.
        apart: Where they run when how long something takes is measured.
        pacers: For each loop, the peers whose capacity sets the rate of P2.
        rate: That rate, if it was given.
        certificate: The files of a certificate and its key, for TLS.
    """

    python: str
    secs: float
    warmup: float
    together: Placement
    apart: Placement
    scratch: Path
    pacers: Mapping[str, Sequence[Peer]]
    rate: float | None = None
    certificate: tuple[Path, Path] | None = None


def round_down(rate: float) -> float:
    """*rate*, cut off after two digits: a number to be read and given again."""
    unit = 10.0 ** (math.floor(math.log10(rate)) - 1)
    return math.floor(rate / unit) * unit


class Bench:
    """Measures; keeps servers from one case to the next until `stop_all()`."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self._servers: dict[tuple[str, ...], Server] = {}
        self._parts: dict[tuple[str, str, str], dict[str, Record] | Failed] = {}
        self._rates: dict[str, float] = {}

    def one(self, case: Case, peer: Peer, loop: str) -> Record:
        """
        The figures of one case.

        Raises:
            Failed: The peer did not do what the case asks for. So does any of
                FAILURES; the next case then gets a new process.
        """
        try:
            if case.part:
                return self._part(case, peer, loop)
            if case.side == "client":
                return load.figures(case, self._run_client(case, peer, loop))
            if case.mode == "idle":
                return self._memory(case, peer, loop)
            return self._server_case(case, peer, loop)
        except FAILURES:
            self._drop(peer, loop)
            raise

    def stop_all(self) -> None:
        """End every process; the next case starts new ones."""
        for server in self._servers.values():
            server.stop()
        self._servers.clear()
        self._parts.clear()

    # ------------------------------------------------------------- processes

    def _place(self, case: Case) -> Placement:
        return self.settings.apart if case.latency else self.settings.together

    def _start(self, case: Case, peer: Peer, loop: str) -> Server:
        argv = [self.settings.python, str(peer.script), "--loop", loop]
        argv += [*peer.args, *self._extra(case), "--port"]
        place = self._place(case).at_server()
        env = processes.environment(peer.env, FOLDER)
        return processes.listening(lambda port: Server([*argv, str(port)], port, place, env))

    def _extra(self, case: Case) -> list[str]:
        """Arguments beyond the peer's own that a case asks for."""
        out = []
        if case.tls:
            assert self.settings.certificate is not None
            cert, key = self.settings.certificate
            out += ["--cert", str(cert), "--key", str(key)]
        if case.size > 1 << 20:  # more than some peers let in
            out += ["--max-size", str(case.size * 2)]
        return out

    def _kept(self, case: Case, peer: Peer, loop: str) -> Server:
        key = (peer.name, loop, *self._extra(case))
        server = self._servers.get(key)
        if server is None or not server.alive():
            server = self._servers[key] = self._start(case, peer, loop)
        return server

    def _drop(self, peer: Peer, loop: str) -> None:
        for key in [key for key in self._servers if key[:2] == (peer.name, loop)]:
            self._servers.pop(key).stop()

    def _payload(self, case: Case) -> Path:
        path = self.settings.scratch / f"{case.name}.bin"
        if not path.exists():
            payloads.write(case, path)
        return path

    def _command(
        self, case: Case, peer: Peer, server: Server, rate: float | None = None
    ) -> list[str]:
        return load.command(
            case,
            port=server.port,
            pids=server.pids,
            payload=self._payload(case),
            secs=self.settings.secs,
            warmup=self.settings.warmup,
            raw=peer.raw,
            rate=rate,
        )

    def _load(self, case: Case, peer: Peer, server: Server, rate: float | None = None) -> Record:
        argv = self._command(case, peer, server, rate)
        try:
            return load.run(argv, self._place(case).at_load())
        except Failed as exc:
            raise Failed(f"{exc}\n{server.errors()}") from None

    # --------------------------------------------------------------- servers

    def _server_case(self, case: Case, peer: Peer, loop: str) -> Record:
        rate = self._rate(loop) if case.mode == "pace" else None
        if case.fresh:
            server = self._start(case, peer, loop)
            try:
                out = self._load(case, peer, server, rate)
            finally:
                server.stop()
        else:
            out = self._load(case, peer, self._kept(case, peer, loop))
        if case.deflate:
            if "permessage-deflate" not in out["ext"]:
                raise Failed("deflate was not negotiated")
            first = bytes.fromhex(out["first_reply"])
            if not payloads.inflates_to(first, payloads.messages(case)[0]):
                raise Failed("the compressed echo differs")
        record = load.figures(case, out)
        if rate is not None:
            record["offered"] = rate
        return record

    def _rate(self, loop: str) -> float:
        """Messages a second: half of what the slowest coroutine peer can do, one for all."""
        if self.settings.rate is not None:
            return self.settings.rate
        if loop not in self._rates:
            able = []
            for peer in self.settings.pacers.get(loop, ()):
                server = self._start(CAPACITY, peer, loop)
                try:
                    out = self._load(CAPACITY, peer, server)
                finally:
                    server.stop()
                able.append(1e6 / load.figures(CAPACITY, out)["cpu_us"])
            if not able:
                raise Failed("no coroutine peer is here to take the rate from: give --rate")
            self._rates[loop] = round_down(min(able) / 2)
        return self._rates[loop]

    def _memory(self, case: Case, peer: Peer, loop: str) -> Record:
        server = self._start(case, peer, loop)
        holding: list[subprocess.Popen[str]] = []
        try:
            self._warm(case, peer, server)
            # Pools are filled by connections that stay open, too.
            before = self._idle(case, peer, server, 50, holding)
            after = self._idle(case, peer, server, case.conns, holding)
        finally:
            _release(holding)
            server.stop()
        return {"kib_per_conn": (after - before) / case.conns, "rss_base_kib": before}

    def _warm(self, case: Case, peer: Peer, server: Server) -> None:
        """Have 50 connections come and go, so that nothing is done for the first time."""
        holding: list[subprocess.Popen[str]] = []
        try:
            self._idle(case, peer, server, 50, holding)
        finally:
            _release(holding)
        time.sleep(SETTLE)

    def _idle(
        self,
        case: Case,
        peer: Peer,
        server: Server,
        conns: int,
        holding: list[subprocess.Popen[str]],
    ) -> int:
        """Open connections that stay idle after an echo each; the server's memory then."""
        argv = self._command(replace(case, mode="idle", conns=conns), peer, server)
        process = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        holding.append(process)
        assert process.stdout is not None
        line = process.stdout.readline()
        if '"idle"' not in line:
            raise Failed(f"idle: {line.strip()}\n{server.errors()}")
        time.sleep(0.2)
        server.pids = server.tree()
        return processes.rss_kib(server.pids)

    def _scale(self, case: Case, peer: Peer, loop: str) -> dict[str, Record]:
        server = self._start(case, peer, loop)
        try:
            self._warm(case, peer, server)
            out = self._load(case, peer, server)
        finally:
            server.stop()
        base, full, after = out["rss_kib"]
        parts = {name: load.phase(out[name]) for name in ("setup", "echo", "close")}
        parts["memory"] = {
            "kib_per_conn": (full - base) / case.conns,
            "kib_left_per_conn": (after - base) / case.conns,
            "rss_base_kib": base,
        }
        parts["close"] |= {key: out[key] for key in ("srv_closed", "late_closed")}
        if out["failures"]:
            parts["close"] = {"error": f"{out['failures']} of {case.conns} did not close cleanly"}
        return parts

    # --------------------------------------------------------------- clients

    def _echo_server(self, raw: bool) -> Server:
        key = ("wsecho", str(raw))
        server = self._servers.get(key)
        if server is None or not server.alive():
            argv = [str(WSECHO), *(["--raw"] if raw else []), "--port"]
            place = self.settings.together.at_load()
            server = processes.listening(lambda port: Server([*argv, str(port)], port, place))
            self._servers[key] = server
        return server

    def _run_client(self, case: Case, peer: Peer, loop: str) -> Record:
        argv: list[object] = [self.settings.python, peer.script]
        argv += ["--port", self._echo_server(peer.raw).port, "--loop", loop]
        argv += ["--size", case.size, "--op", case.op, "--window", case.window]
        argv += ["--conns", case.conns, "--secs", self.settings.secs]
        argv += ["--warmup", self.settings.warmup, *peer.args]
        done = subprocess.run(
            [str(arg) for arg in argv],
            timeout=60,
            capture_output=True,
            text=True,
            stdin=subprocess.DEVNULL,
            preexec_fn=self.settings.together.at_server(),
            env=processes.environment(peer.env, FOLDER),
        )
        try:
            return load.answer(done.stdout)
        except Failed as exc:
            raise Failed(f"client: {exc}\n{done.stderr[-3000:]}") from None

    def _many(self, case: Case, peer: Peer, loop: str) -> dict[str, Record]:
        out = self._run_client(case, peer, loop)
        return {"echo": load.figures(case, out), "setup": load.phase(out["setup"])}

    # ----------------------------------------------------------------- parts

    def _part(self, case: Case, peer: Peer, loop: str) -> Record:
        """A figure of a run that gives several: the first case that asks runs it."""
        key = (case.series, peer.name, loop)
        if key not in self._parts:
            run: Callable[[Case, Peer, str], dict[str, Record]] = (
                self._many if case.side == "client" else self._scale
            )
            try:
                self._parts[key] = run(case, peer, loop)
            except FAILURES as exc:
                self._parts[key] = Failed(str(exc))
        parts = self._parts[key]
        if isinstance(parts, Failed):
            raise parts
        record = parts[case.part]
        if "error" in record:
            raise Failed(record["error"])
        return record


def _release(holding: Sequence[subprocess.Popen[str]]) -> None:
    """Let the generators that hold idle connections end."""
    for process in holding:
        if process.poll() is None:
            try:
                process.communicate("\n", timeout=10)
            except subprocess.TimeoutExpired:
                process.kill()
        process.wait()
        for stream in (process.stdin, process.stdout):
            if stream is not None:
                stream.close()
