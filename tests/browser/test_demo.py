"""The page of ``simplews demo`` in a real browser."""

from __future__ import annotations

from typing import Any

import pytest

from simplews import AioClient

from .conftest import Arrive
from .stage import DEADLINE, PHONE, Demo, Person

pytestmark = pytest.mark.browser


async def test_people_in_one_room_see_each_other(arrive: Arrive) -> None:
    ada = await arrive("Ada")
    bob = await arrive("Bob")
    carol = await arrive("Carol", "ideas")
    await ada.sees("Bob joined #general")
    await ada.say("Hello Bob")
    await bob.sees("Hello Bob")
    assert "Ada" in await (await bob.sees("Hello Bob")).inner_text()
    await bob.say("Hello Ada")
    await ada.sees("Hello Ada")
    # Their own messages come back to them, marked as such.
    assert "mine" in await (await ada.sees("Hello Bob")).get_attribute("class")
    assert await ada.page.inner_text("#presence") == "2 people here"
    await bob.leave()
    await ada.sees("Bob left #general")
    assert await ada.page.inner_text("#presence") == "Only you are here"

    await carol.say("The last word")
    await carol.sees("The last word")
    log = await carol.log()
    assert "Hello" not in log and "Bob" not in log


async def test_switching_rooms_leaves_one_and_joins_the_other(arrive: Arrive) -> None:
    ada, bob, carol = await arrive("Ada"), await arrive("Bob"), await arrive("Carol", "ideas")
    await ada.page.click("#rooms a >> text=ideas")
    await ada.connected()
    await bob.sees("Ada left #general")
    await carol.sees("Ada joined #ideas")
    assert ada.page.url.endswith("?room=ideas")
    await carol.say("Welcome to ideas")
    await ada.sees("Welcome to ideas")
    await ada.page.go_back()
    await carol.sees("Ada left #ideas")
    await bob.sees("Ada joined #general")
    # Of what was said elsewhere nothing is left.
    await ada.sees("You joined #general")
    assert "Welcome to ideas" not in await ada.log()


async def test_another_room_by_keyboard(arrive: Arrive) -> None:
    ada = await arrive("Ada")
    await ada.page.focus("#other-room")
    await ada.page.keyboard.press("Enter")
    await ada.page.keyboard.type("Tea-Time")
    await ada.page.keyboard.press("Enter")
    await ada.sees("You joined #tea-time")
    assert await ada.page.inner_text("h1") == "tea-time"
    await ada.page.focus("#other-room")
    await ada.page.keyboard.press("Enter")
    await ada.page.keyboard.type("not a room")
    await ada.page.keyboard.press("Enter")  # refused by the form
    assert await ada.page.locator("#room-dialog").is_visible()
    await ada.page.keyboard.press("Escape")
    assert not await ada.page.locator("#room-dialog").is_visible()


async def test_changing_the_name_is_seen_and_kept(arrive: Arrive) -> None:
    ada, bob = await arrive("Ada"), await arrive("Bob")
    await ada.page.click("#me")
    await ada.page.keyboard.type("Augusta")
    await ada.page.keyboard.press("Enter")
    await bob.sees("Ada is now Augusta")
    await ada.say("It is me")
    assert "Augusta" in await (await bob.sees("It is me")).inner_text()
    await ada.page.reload()
    await ada.sees("You joined #general as Augusta")


async def test_text_of_users_is_never_markup(arrive: Arrive) -> None:
    mischief = "<img src=x onerror=document.title='owned'><b>bold</b>"
    ada, bob = await arrive("Ada"), await arrive("<i>Bob</i>")
    await bob.say(mischief)
    await ada.sees(mischief)
    assert await ada.page.locator("#log img, #log b b, #log i").count() == 0
    assert await ada.page.title() == "#general · simplews"


async def test_page_may_not_run_scripts_that_are_not_its_own(arrive: Arrive) -> None:
    """Were text ever to become markup, the Content-Security-Policy would still stop it."""
    ada = await arrive("Ada")
    await ada.page.evaluate(
        """() => new Promise((done) => {
            document.addEventListener("securitypolicyviolation", done);
            const script = document.createElement("script");
            script.textContent = "document.title = 'owned'";
            document.body.append(script);
        })"""
    )
    assert await ada.page.title() == "#general · simplews"
    assert "Content Security Policy" in ada.complaints.pop()


async def test_text_from_a_plain_client_appears(arrive: Arrive, demo: Demo) -> None:
    ada = await arrive("Ada")
    async with AioClient.connect(f"ws://127.0.0.1:{demo.port}/chat?name=Terminal") as ws:
        await ada.sees("Terminal joined #general")
        await ws.send("not JSON at all")
        assert "Terminal" in await (await ada.sees("not JSON at all")).inner_text()


async def test_oversize_text_is_refused_visibly_and_kept(arrive: Arrive) -> None:
    ada = await arrive("Ada")
    await ada.say("x" * 2001)
    notice = ada.page.locator("#notice", has_text="2001 characters")
    await notice.wait_for()
    assert await ada.page.input_value("#text") == "x" * 2001
    assert await ada.page.inner_text("#left") == "-1"
    # The server says the same to a client that does not ask first.
    await ada.page.evaluate("socket.send(JSON.stringify({text: 'x'.repeat(3000)}))")
    await ada.page.locator("#notice", has_text="3000 characters").wait_for()


async def test_empty_text_is_not_sent(arrive: Arrive) -> None:
    ada = await arrive("Ada")
    await ada.say("   ")
    await ada.say("something")
    await ada.sees("something")
    assert await ada.page.locator(".said").count() == 1


async def test_shift_enter_is_a_new_line(arrive: Arrive) -> None:
    ada, bob = await arrive("Ada"), await arrive("Bob")
    await ada.page.type("#text", "first")
    await ada.page.press("#text", "Shift+Enter")
    await ada.page.type("#text", "second")
    await ada.page.press("#text", "Enter")
    said = await bob.sees("second")
    assert "first\nsecond" in await said.inner_text()


async def test_page_reconnects_when_the_server_comes_back(arrive: Arrive, demo: Demo) -> None:
    ada = await arrive("Ada")
    await demo.stop()
    await ada.page.wait_for_selector("#status[data-state=waiting]")
    await ada.sees("Connection lost")
    await ada.say("written while offline")
    await ada.page.locator("#notice", has_text="Not connected").wait_for()
    await demo.start()
    await ada.connected()
    assert await ada.page.input_value("#text") == "written while offline"
    await ada.page.press("#text", "Enter")
    await ada.sees("written while offline")


async def test_long_conversation_stays_at_its_end_and_is_bounded(
    arrive: Arrive, demo: Demo
) -> None:
    ada = await arrive("Ada")
    async with AioClient.connect(f"ws://127.0.0.1:{demo.port}/chat?name=Bob") as ws:
        for number in range(520):
            await ws.send(f"message {number}.")
            await ws.receive(timeout=DEADLINE)
        await ada.sees("message 519.")
        assert await ada.page.locator("#log > *").count() == 500
        await ada.page.evaluate("new Promise(requestAnimationFrame)")
        assert await ada.page.evaluate("log.scrollHeight - log.scrollTop - log.clientHeight") < 2
        # Reading what was said before is not disturbed by what is said now.
        await ada.page.evaluate(
            """() => new Promise((done) => {
                log.addEventListener("scroll", done, { once: true });
                log.scrollTop = 0;
            })"""
        )
        await ws.send("meanwhile")
        await ada.page.wait_for_selector("#latest:not([hidden])")
        assert await ada.page.evaluate("log.scrollTop") < 200
        await ada.page.click("#latest")
        await ada.page.wait_for_selector("#latest", state="hidden")


# ----------------------------------------------------------------- appearance


async def fits(person: Person) -> None:
    """Nothing reaches beyond the window, and the message box is in it."""
    root = "document.documentElement"
    assert await person.page.evaluate(f"{root}.scrollWidth <= innerWidth")
    assert await person.page.evaluate(f"{root}.scrollHeight <= innerHeight")
    box = await person.page.locator("#composer").bounding_box()
    size = person.page.viewport_size
    assert box is not None
    assert box["x"] >= 0 and box["x"] + box["width"] <= size["width"]
    assert box["y"] >= 0 and box["y"] + box["height"] <= size["height"]


@pytest.mark.parametrize(
    "size", [PHONE, {"width": 320, "height": 568}, {"width": 844, "height": 390}], ids=str
)
async def test_phone_has_no_horizontal_scroll(arrive: Arrive, size: dict[str, int]) -> None:
    phone = await arrive("Ada", viewport=size, is_mobile=True, has_touch=True)
    await fits(phone)
    await phone.say("word " * 100)
    await phone.say("w" * 300)
    await phone.sees("w" * 300)
    await fits(phone)
    # The keyboard takes the lower half.
    await phone.page.set_viewport_size({**size, "height": size["height"] * 6 // 10})
    await fits(phone)


@pytest.mark.parametrize("scheme, dark", [("light", False), ("dark", True)])
async def test_colours_follow_the_system(arrive: Arrive, scheme: str, dark: bool) -> None:
    ada = await arrive("Ada", color_scheme=scheme)
    await ada.say("Hello")
    said = await ada.sees("Hello")
    page = await _lightness(ada.page.locator("html"), "backgroundColor")
    assert (page < 0.2) is dark
    text = said.locator(".text")
    paper, ink = await _lightness(text, "backgroundColor"), await _lightness(text, "color")
    # WCAG 2.2 §1.4.3: a contrast of 4.5 to 1; 7 is its better grade.
    lighter, darker = max(paper, ink), min(paper, ink)
    assert (lighter + 0.05) / (darker + 0.05) > 7


async def _lightness(locator: Any, name: str) -> float:
    """Relative luminance (WCAG 2.2) of a computed colour."""
    colour = await locator.evaluate(f"(node) => getComputedStyle(node).{name}")
    red, green, blue = (_linear(int(part) / 255) for part in colour.strip("rgb()").split(","))
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def _linear(channel: float) -> float:
    return channel / 12.92 if channel <= 0.04045 else float(((channel + 0.055) / 1.055) ** 2.4)


async def test_everything_has_a_name_for_those_who_hear_it(arrive: Arrive) -> None:
    ada, bob = await arrive("Ada"), await arrive("Bob")
    await bob.say("one")
    await bob.say("two")
    page = ada.page
    await ada.sees("two")
    await page.get_by_role("log", name="Messages").wait_for()
    await page.get_by_role("textbox", name="Message to #general").wait_for()
    await page.get_by_role("button", name="Send").wait_for()
    await page.get_by_role("button", name="You are Ada. Change name").wait_for()
    await page.get_by_role("navigation", name="Rooms").wait_for()
    assert await page.get_by_role("link", name="general").get_attribute("aria-current") == "page"
    assert await page.get_by_role("heading", level=1).inner_text() == "general"
    # The second message of one person has no heading, but still an author.
    assert "Bob: " in await (await ada.sees("two")).text_content()
