"""The page of the examples that adds a phone, in Chromium: what a person sees, hears and types on it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, expect

from tests.sdk.test_examples import Application
from tests.support.live import LiveServer
from tests.support.phone import Phone

from .test_accessible import NARROW, RULES
from .window import Window


@pytest.fixture(scope="module")
def server(browser: Browser) -> Iterator[LiveServer]:
    with LiveServer(workers=1, SIGIL_RATE_LIMIT="off") as running:
        yield running


@pytest.fixture(scope="module")
def origin(server: LiveServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    pytest.importorskip("fastapi")
    with Application("fastapi", tmp_path_factory.mktemp("fastapi"), server) as application:
        yield str(application.http.base_url).rstrip("/")


@pytest.fixture
def opened(browser: Browser, origin: str) -> Iterator[Callable[..., Window]]:
    made: list[Window] = []

    def window(**looks: Any) -> Window:
        made.append(Window(browser, origin, **looks).open("/device?user=zoe"))
        return made[-1]

    yield window
    for one in made:
        one.close()


def begin(window: Window) -> str:
    """The link of the QR code."""
    window.click("Show the QR code")
    expect(window.page.get_by_role("heading", level=1)).to_have_text("Scan the code")
    link: str | None = window.page.get_by_role("link", name="Open the app on this phone").get_attribute("href")
    assert link is not None
    return link


def wrong(code: str) -> str:
    return f"{(int(code) + 1) % 10**6:06}"


def test_a_person_adds_a_phone_with_the_keyboard_and_hears_each_step(
    server: LiveServer, opened: Callable[..., Window]
) -> None:
    phone, window = Phone(server), opened()
    heading, state = window.page.get_by_role("heading", level=1), window.page.get_by_role("status")
    window.tab_to("Show the QR code")
    window.page.keyboard.press("Enter")
    expect(heading).to_have_text("Scan the code")
    expect(heading).to_be_focused()
    expect(state).to_contain_text("Waiting for your phone.")
    expect(window.page.get_by_role("img", name="QR code: scan it with your phone")).to_be_visible()
    link = window.page.get_by_role("link", name="Open the app on this phone").get_attribute("href") or ""
    token = window.page.locator("#token").inner_text()
    assert link.endswith(token.replace("-", ""))
    session = phone.scan(link)
    expect(heading).to_have_text("Compare with your phone")
    expect(heading).to_be_focused()
    shown = window.page.locator("#pictures li")
    assert [text.split() for text in shown.all_inner_texts()] == [
        [picture, name] for picture, name in zip(session.pictogram, session.speakable.split(), strict=True)
    ]
    assert "<svg" not in window.page.content(), "the link is gone from the page"
    code = window.page.get_by_role("textbox", name="The code on your phone")
    code.fill(wrong(session.code))
    window.page.keyboard.press("Enter")
    expect(window.page.get_by_role("alert")).to_have_text("That is not the code on your phone. Attempts left: 2.")
    expect(code).to_be_focused()
    code.fill(f"{session.code[:3]} {session.code[3:]}")
    window.page.keyboard.press("Enter")
    expect(heading).to_have_text("The phone is added")
    expect(window.page.get_by_role("button")).to_have_count(0)
    for secret in (token, link, session.code):
        assert secret not in window.traces()


def test_each_step_passes_axe_and_fits_a_phone_and_a_zoomed_window(
    server: LiveServer, opened: Callable[..., Window], tmp_path: Path
) -> None:
    window, axe, found = opened(), Axe(), list[str]()

    def look(step: str) -> None:
        # 320 CSS pixels are a small phone, and 200 % of a window of 640.
        for scheme, size in (("light", {"width": 1280, "height": 900}), ("dark", NARROW)):
            window.page.emulate_media(color_scheme="dark" if scheme == "dark" else "light", reduced_motion="reduce")
            window.page.set_viewport_size({"width": size["width"], "height": size["height"]})
            window.page.screenshot(path=tmp_path / f"{step}-{scheme}.png", full_page=True)
            results = axe.run(window.page, options={"resultTypes": ["violations"], "runOnly": RULES})
            if results.violations_count:
                found.append(f"{step}, {scheme}: {results.generate_report()}")
            if beyond := window.width_beyond_window():
                found.append(f"{step}, {scheme}: {beyond} px wider than its window")

    look("start")
    link = begin(window)
    look("scan")
    drawn = window.page.locator("#qr svg").bounding_box()
    assert drawn is not None
    assert drawn["width"] >= 200
    session = Phone(server).scan(link)
    expect(window.page.locator("#pictures li")).to_have_count(5)
    for left in (2, 1):
        window.field("The code on your phone").fill(wrong(session.code))
        window.click("Add this phone")
        expect(window.page.get_by_role("alert")).to_contain_text(f"Attempts left: {left}")
    look("confirm")
    window.field("The code on your phone").fill(wrong(session.code))
    window.click("Add this phone")
    expect(window.page.get_by_role("heading", level=1)).to_have_text("The code was wrong")
    look("failed")
    assert found == []
    # And again from here.
    begin(window)
    window.click("Cancel")
    expect(window.page.get_by_role("heading", level=1)).to_have_text("Cancelled")
