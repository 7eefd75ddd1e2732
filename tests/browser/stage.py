"""What a browser test needs: the demo in a process of its own, Chromium, and people in tabs."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
import shutil
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import simplews

DEADLINE = 20  # seconds for whatever is waited for

PHONE = {"width": 390, "height": 844}
DESKTOP = {"width": 1200, "height": 760}

_NAMES = ("chromium", "chromium-browser", "google-chrome")
_ARGUMENTS = [
    # The sandbox needs privileges that containers do not have; the only page
    # that is opened is ours.
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


def find_chromium() -> str | None:
    """Path of an installed Chromium, or None."""
    return next(filter(None, map(shutil.which, _NAMES)), None)


@contextlib.asynccontextmanager
async def chromium(playwright: Any) -> AsyncIterator[Any]:
    """A headless browser."""
    browser = await playwright.chromium.launch(executable_path=find_chromium(), args=_ARGUMENTS)
    try:
        yield browser
    finally:
        await browser.close()


class Demo:
    """``simplews demo`` on a port of its own, which can stop and come back."""

    def __init__(self, *arguments: str) -> None:
        self.port = 0
        self._arguments = arguments
        self._process: asyncio.subprocess.Process | None = None

    @property
    def url(self) -> str:
        """Address of the page."""
        return f"http://127.0.0.1:{self.port}/"

    async def start(self) -> None:
        """Start it, on the same port as before if there was one."""
        self._process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "simplews", "demo", "--port", str(self.port)),
            *self._arguments,
            stdout=asyncio.subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": str(Path(simplews.__file__).parents[1])},
        )
        assert self._process.stdout is not None
        async with asyncio.timeout(DEADLINE):
            line = await self._process.stdout.readline()
        found = re.search(rb"http://127\.0\.0\.1:(\d+)/", line)
        assert found is not None, line
        self.port = int(found[1])

    async def stop(self) -> None:
        """Stop it, closing every connection."""
        process, self._process = self._process, None
        if process is None:
            return
        process.terminate()
        try:
            async with asyncio.timeout(DEADLINE):
                await process.communicate()
        except TimeoutError:
            process.kill()
            await process.communicate()


@contextlib.asynccontextmanager
async def running_demo(*arguments: str) -> AsyncIterator[Demo]:
    """A demo, with more *arguments*, that is stopped at the end."""
    demo = Demo(*arguments)
    try:
        await demo.start()
        yield demo
    finally:
        await demo.stop()


class Person:
    """Somebody with a browser of their own: storage is not shared."""

    def __init__(self, page: Any) -> None:
        self.page = page
        self.complaints: list[str] = []
        page.on("pageerror", lambda error: self.complaints.append(str(error)))
        page.on("console", self._console)

    def _console(self, message: Any) -> None:
        # A connection that could not be opened is reported here as well, and
        # is no fault of the page.
        if message.type == "error" and "WebSocket connection" not in message.text:
            self.complaints.append(message.text)

    @classmethod
    async def arrive(
        cls, browser: Any, url: str, name: str, room: str = "general", **options: Any
    ) -> Person:
        """Open the page as *name* in *room*, and wait until it is connected."""
        context = await browser.new_context(**{"viewport": DESKTOP, **options})
        context.set_default_timeout(DEADLINE * 1000)
        # Before the page's own script; kept when the name changes and the page is reloaded.
        await context.add_init_script(f"localStorage['simplews.name'] ??= {json.dumps(name)}")
        person = cls(await context.new_page())
        await person.page.goto(f"{url}?room={room}")
        await person.connected()
        return person

    async def connected(self) -> None:
        """Wait until the page is connected."""
        await self.page.wait_for_selector("#status[data-state=open]")

    async def say(self, text: str) -> None:
        """Type a message and press Enter."""
        await self.page.fill("#text", text)
        await self.page.press("#text", "Enter")

    async def sees(self, text: str) -> Any:
        """Wait until exactly one entry of the log has *text* in it."""
        entry = self.page.locator("#log > :not(.empty)", has_text=text)
        await entry.first.wait_for()
        assert await entry.count() == 1
        return entry.first

    async def log(self) -> str:
        """All of the log, as it is now."""
        return str(await self.page.inner_text("#log"))

    async def leave(self) -> None:
        """Close the tab."""
        await self.page.context.close()
