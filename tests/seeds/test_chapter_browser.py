"""The chapter's page and console lines, in a real Chromium (B5, B17, B18)."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any

import pytest

from ..browser.conftest import browser
from ..hosts import uvicorn_host
from .quoting import DEADLINE, source
from .test_chapter import application, message, simplest, system

pytestmark = pytest.mark.browser

__all__ = ["application", "browser"]  # fixtures


@pytest.fixture
async def new_page(browser: Any) -> AsyncIterator[Any]:
    """``await new_page(url)``: a tab. No page may complain about anything."""
    complaints: list[str] = []

    async def open_page(url: str) -> Any:
        page = await browser.new_page()
        page.set_default_timeout(DEADLINE * 1000)
        page.on("pageerror", lambda error: complaints.append(str(error)))
        await page.goto(url)
        return page

    yield open_page
    assert complaints == []


async def test_page(application: Any, new_page: Any) -> None:
    """B17, B18: two tabs are in the same room."""
    async with uvicorn_host(application, lifespan=True) as port:
        tabs = []
        for _ in range(2):
            tabs.append(await new_page(f"http://127.0.0.1:{port}/"))
            await tabs[-1].wait_for_function("ws.readyState === WebSocket.OPEN")
        entries = [tab.locator("#log li") for tab in tabs]
        await entries[0].nth(0).wait_for()
        assert json.loads(await entries[0].nth(0).inner_text()) == system("joined")
        await tabs[1].fill("#msg", "Hello from <b>Bob</b>")
        await tabs[1].click("button")
        for entry in (entries[0].nth(1), entries[1].nth(0)):
            await entry.wait_for()
            assert json.loads(await entry.inner_text()) == message("Hello from <b>Bob</b>")
        assert await tabs[1].input_value("#msg") == ""
        await tabs[1].close()
        await entries[0].nth(2).wait_for()
        assert json.loads(await entries[0].nth(2).inner_text()) == system("left")
        await tabs[0].close()


async def test_console(new_page: Any) -> None:
    """B5: its lines, one by one as a person enters them: the last when it is open."""
    async with uvicorn_host(simplest()) as port:
        page = await new_page(f"http://127.0.0.1:{port}/")
        connect, listen, say, prints = source("chapter/console.js", port).splitlines()
        await page.add_script_tag(content=connect)
        await page.add_script_tag(content=listen)
        await page.wait_for_function("ws.readyState === WebSocket.OPEN")
        async with page.expect_console_message(timeout=DEADLINE * 1000) as printed:
            await page.add_script_tag(content=say)
        assert (await printed.value).text == prints.removeprefix("// ")
        await page.close()
