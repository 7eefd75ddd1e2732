"""
Make the picture of the demo for the README: two people talking.

Start:  python -m tests.browser.screenshot PATH.png [light|dark]
See:    the picture at PATH.png
"""

from __future__ import annotations

import asyncio
import sys
from typing import Any

from playwright.async_api import async_playwright

from .stage import Person, chromium, running_demo

TALK = [
    ("Grace", "Good morning! Is this the room with the new demo?"),
    ("Ada", "It is. Open the page twice and you can talk to yourself."),
    ("Grace", "I am in a terminal as well:\nsimplews connect, and then just type."),
    ("Ada", "Now try pulling the network cable."),
    ("Grace", "Done. It came back on its own."),
    ("Ada", "That is the idea."),
]


async def main(path: str, scheme: str = "light") -> None:
    async with (
        running_demo() as demo,
        async_playwright() as playwright,
        chromium(playwright) as browser,
    ):
        look: dict[str, Any] = {
            "color_scheme": scheme,
            "device_scale_factor": 2,
            "viewport": {"width": 1080, "height": 800},
            "locale": "en-GB",
        }
        people = {
            name: await Person.arrive(browser, demo.url, name, **look) for name in ("Ada", "Grace")
        }
        for name, text in TALK:
            await people[name].say(text)
            for person in people.values():
                await person.sees(text)
        page = people["Ada"].page
        await page.evaluate("Promise.all(document.getAnimations().map((a) => a.finished))")
        await page.screenshot(path=path)


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
