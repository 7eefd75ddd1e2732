"""What every test of the quoted examples has: nobody complains, and servers to be in."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any

import pytest

from simplews import AioServer, serve

from ..hosts import uvicorn_host
from .quoting import Script, run, source

Hosted = Callable[..., AbstractAsyncContextManager[str]]
RunScript = Callable[..., AbstractAsyncContextManager[Script]]


class _Complaints(logging.Handler):
    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.texts: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.texts.append(self.format(record))


@pytest.fixture(autouse=True)
def complaints() -> Iterator[list[str]]:
    """Warnings and errors that were logged: by the server, by asyncio, by us. None may be."""
    handler = _Complaints()
    logger = logging.getLogger()
    logger.addHandler(handler)
    yield handler.texts
    logger.removeHandler(handler)
    # In its debug mode asyncio measures, and this machine may be slow.
    assert [text for text in handler.texts if not text.startswith("Executing <")] == []


@pytest.fixture
def hosted() -> Hosted:
    """``async with hosted(app) as url``: an ASGI application under uvicorn, and its URL."""

    @contextlib.asynccontextmanager
    async def host(app: Any, path: str = "/ws", **options: Any) -> AsyncIterator[str]:
        async with uvicorn_host(app, **options) as port:
            yield f"ws://127.0.0.1:{port}{path}"

    return host


@pytest.fixture
def script(tmp_path: Path) -> RunScript:
    """``async with script("folder/name.py", port)``: an example in a process of its own."""

    @contextlib.asynccontextmanager
    async def start(
        name: str, port: int, changes: dict[str, str] | None = None
    ) -> AsyncIterator[Script]:
        file = tmp_path / Path(name).name
        file.write_text(source(name, port, changes), encoding="utf-8")
        async with run(file) as started:
            yield started

    return start


async def _echo(ws: AioServer) -> None:
    async for message in ws:
        await ws.send(message)


@pytest.fixture
async def echo_port() -> AsyncIterator[int]:
    """The port of an echo server."""
    async with serve(_echo, "127.0.0.1", 0) as server:
        yield server.port


#: A handler of `serve`.
Handler = Callable[[AioServer], Awaitable[None]]
