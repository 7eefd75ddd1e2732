"""The proxies of `examples/deploy`, as they run: their own programs, on free ports."""

from __future__ import annotations

import asyncio
import contextlib
import importlib.util
import os
import re
import shutil
import signal
import ssl
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any, NoReturn

import pytest

from simplews import AioClient, Reconnect, Server, serve

from ..ports import free_port
from ..tls import Tls

DEPLOY = Path(__file__).parents[2] / "examples" / "deploy"
DEADLINE = 30  # seconds for anything that is waited for; a generous bound, not a measure

#: No time is lost.
AT_ONCE = Reconnect(first=0.02, most=0.1, healthy_after=0)


def missing(what: str) -> NoReturn:
    """Skip where a person runs the tests; in CI nothing may be missing."""
    if os.environ.get("CI"):
        pytest.fail(f"{what} is missing; install Debian's package of that name", pytrace=False)
    pytest.skip(f"{what} is missing")


@pytest.fixture(scope="session")
def app() -> ModuleType:
    """`examples/deploy/app.py`."""
    spec = importlib.util.spec_from_file_location("deployed", DEPLOY / "app.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


class Site:
    """
    A proxy in front of two servers of ours.

    Attributes:
        port: The proxy's.
        ports: The servers'.
        servers: The servers that run, by their ports.
        process: The proxy's first process.
    """

    def __init__(self, name: str, folder: Path, app: ModuleType, tls: Tls) -> None:
        self.name = name
        self.port, *self.ports = (free_port() for _ in range(3))
        self.servers: dict[int, Server] = {}
        self.process: asyncio.subprocess.Process
        self._folder = folder
        self._app = app
        self._tls = tls

    async def serve(self, port: int, **options: Any) -> Server:
        """Start one of the two servers."""
        server = serve(
            self._app.handler, "127.0.0.1", port, http=self._app.health, close_timeout=5, **options
        )
        await server.start()
        self.servers[port] = server
        return server

    async def start(self, **seconds: str) -> None:
        """Start the proxy; *seconds* are what the configuration says otherwise."""
        path = self.configure(**seconds)
        if self.name == "nginx":
            command = ["nginx", "-p", str(self._folder), "-c", str(path)]
        else:
            command = ["haproxy", "-W", "-f", str(path)]
        self.process = await asyncio.create_subprocess_exec(
            *command, stderr=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.DEVNULL
        )
        answering = asyncio.create_task(self._answers())
        ended = asyncio.create_task(self.process.wait())
        await asyncio.wait(
            {answering, ended}, timeout=DEADLINE, return_when=asyncio.FIRST_COMPLETED
        )
        if not answering.done() or self.process.returncode is not None:
            answering.cancel()
            with contextlib.suppress(ProcessLookupError):
                self.process.kill()
            assert self.process.stderr is not None
            pytest.fail((await self.process.stderr.read()).decode())
        ended.cancel()
        answering.result()

    async def _answers(self) -> None:
        async for ws in self.connect(reconnect=AT_ONCE):
            await ws.receive()
            return

    def configure(self, **seconds: str) -> Path:
        """Write the configuration of `examples/deploy`, with what is different here."""
        certificate, key = self._folder / "cert.pem", self._folder / "key.pem"
        self._tls.certificate.private_key_pem.write_to_path(key)
        self._tls.certificate.private_key_and_cert_chain_pem.write_to_path(certificate)
        name = "nginx.conf" if self.name == "nginx" else "haproxy.cfg"
        text = (DEPLOY / name).read_text(encoding="utf-8")
        changes = {
            "10.0.0.1:8765": f"127.0.0.1:{self.ports[0]}",
            "10.0.0.2:8765": f"127.0.0.1:{self.ports[1]}",
            "listen 443 ssl": f"listen 127.0.0.1:{self.port} ssl",
            "bind :443 ssl": f"bind 127.0.0.1:{self.port} ssl",
            "/etc/ssl/example.org.pem": str(certificate),
            "/etc/ssl/example.org.key": str(key),
            "/etc/haproxy/example.org.pem": str(certificate),
            "fail_timeout=5s": "fail_timeout=1s",
            "inter 2s": "inter 100ms",
            "maxconn 100000": "maxconn 100",  # a person's machine allows few descriptors
        }
        for old, new in changes.items():
            text = text.replace(old, new)
        for option, value in seconds.items():
            text, found = re.subn(rf"({option.replace('_', '[_ -]')}) \w+", rf"\1 {value}", text)
            assert found == 1, option
        if self.name == "nginx":
            text = self._around(text)
        path = self._folder / name
        path.write_text(text, encoding="utf-8")
        return path

    def _around(self, text: str) -> str:
        """What /etc/nginx/nginx.conf says, as far as it is needed."""
        temporary = "".join(
            f"{name}_temp_path {self._folder}/{name};"
            for name in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
        )
        user = "user root;" if os.geteuid() == 0 else ""
        return (
            f"daemon off; {user} pid {self._folder}/nginx.pid; error_log stderr warn;"
            f"worker_processes 1; worker_shutdown_timeout 2s; events {{}}\n"
            f"http {{ access_log off; {temporary}\n{text}\n}}"
        )

    def reload(self) -> None:
        """A new process with the configuration as it is by now."""
        self.process.send_signal(signal.SIGHUP if self.name == "nginx" else signal.SIGUSR2)

    def connect(self, **options: Any) -> Any:
        """A client, through the proxy."""
        url = f"wss://localhost:{self.port}/chat"
        return AioClient.connect(url, ssl_context=self.context, **options)

    @property
    def context(self) -> ssl.SSLContext:
        """What trusts the proxy."""
        return self._tls.client

    async def end(self) -> None:
        """Nothing of it is left."""
        with contextlib.suppress(AttributeError):  # it was never started
            if self.process.returncode is None:
                self.process.terminate()
            async with asyncio.timeout(DEADLINE):
                await self.process.communicate()
        for server in self.servers.values():
            await server.close()


@pytest.fixture(scope="session", params=["nginx", "haproxy"])
def proxy(request: pytest.FixtureRequest) -> str:
    """The program's name."""
    name: str = request.param
    # Debian puts them where only root's PATH leads.
    os.environ["PATH"] += os.pathsep + "/usr/sbin"
    if shutil.which(name) is None:
        missing(name)
    return name


@pytest.fixture
async def site(proxy: str, tmp_path: Path, app: ModuleType, tls: Tls) -> AsyncIterator[Site]:
    """A proxy that is not started yet, in front of two servers that are."""
    found = Site(proxy, tmp_path, app, tls)
    for port in found.ports:
        await found.serve(port)
    try:
        yield found
    finally:
        await found.end()


@pytest.fixture(scope="session", autouse=True)
def no_environment_of_ours() -> Iterator[None]:
    """The PATH is as it was."""
    before = os.environ["PATH"]
    yield
    os.environ["PATH"] = before
