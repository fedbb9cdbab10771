"""Accessibility of every step: contrast, names and sizes of WCAG 2.2 AA, narrow windows, keyboard only."""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import partial

from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Route

from .init_server import InitServer
from .people import ADDRESS, CONFIRM, IDENTITY, KEYS, WELCOME, WORDS, confirm_positions, creation
from .window import Window

RULES = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]
WIDE = {"width": 1280, "height": 900}
NARROW = {"width": 320, "height": 640}


def test_every_step_passes_axe_light_and_dark_and_fits_the_narrowest_window(
    new_server: Callable[..., InitServer], new_window: Callable[..., Window]
) -> None:
    window, axe, found = new_window(new_server()), Axe(), []
    for step in creation(window):
        for scheme, size in (("light", WIDE), ("dark", NARROW)):
            window.page.emulate_media(color_scheme="dark" if scheme == "dark" else "light", reduced_motion="reduce")
            window.page.set_viewport_size({"width": size["width"], "height": size["height"]})
            results = axe.run(window.page, options={"resultTypes": ["violations"], "runOnly": RULES})
            if results.violations_count:
                found.append(f"{step}, {scheme}: {results.generate_report()}")
        if beyond := window.width_beyond_window():
            found.append(f"{step}: {beyond} px wider than its window")
    assert found == []


def test_no_step_has_two_buttons_of_the_first_rank(
    new_server: Callable[..., InitServer], new_window: Callable[..., Window]
) -> None:
    window = new_window(new_server())
    shown = {step: window.page.locator("button.primary").filter(visible=True).count() for step in creation(window)}
    after = {"done", "done-reloaded", "closed", "home", "not-found"}
    assert shown == {step: int(step not in after) for step in shown}


LONG = "Donaudampfschifffahrtselektrizitätenhauptbetriebswerkbauunterbeamtengesellschaft"
_WITH_LONG_WORDS = """(text) => {
  for (const node of document.querySelectorAll("h1, h2, h3, button, label, legend, strong, dd, .lead, #server-name")) {
    const walker = document.createTreeWalker(node, NodeFilter.SHOW_TEXT);
    while (walker.nextNode()) {
      const { data, parentElement } = walker.currentNode;
      // Code is not translated.
      if (data.trim() && !parentElement.closest("code")) walker.currentNode.data = ` ${text} `;
    }
  }
}"""


def test_long_german_words_fit_the_narrowest_window(
    new_server: Callable[..., InitServer], new_window: Callable[..., Window]
) -> None:
    """In every step: the texts are replaced in a copy of the window's document, which has no scripts of ours."""
    window = new_window(new_server(SIGIL_SERVER_NAME=LONG[:64]))
    window.page.set_viewport_size({"width": NARROW["width"], "height": NARROW["height"]})
    found = []
    for step in creation(window):
        if beyond := window.width_beyond_window():
            found.append(f"{step}: {beyond} px with a long name of the server")
        copy = window.context.new_page()
        copy.set_viewport_size({"width": NARROW["width"], "height": NARROW["height"]})
        copy.route("**/copy", partial(_answer, _still(window.page.evaluate("document.documentElement.outerHTML"))))
        copy.goto(f"{window.origin}/copy")
        copy.evaluate(_WITH_LONG_WORDS, LONG)
        if beyond := copy.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth"):
            found.append(f"{step}: {beyond} px")
        copy.close()
    assert found == []


def _answer(html: str, route: Route) -> None:
    route.fulfill(content_type="text/html", body=html)


def _still(html: str) -> str:
    return re.sub(r"<script.*?</script>", "", html)


def test_the_setup_works_with_the_keyboard_only(
    new_server: Callable[..., InitServer], new_window: Callable[..., Window]
) -> None:
    window = new_window(new_server()).open(ADDRESS).at(WELCOME)
    keyboard = window.page.keyboard
    window.tab_to("Create a new identity")
    keyboard.press("Enter")
    window.at(WORDS).tab_to("Show the words")
    keyboard.press("Space")
    words = window.shown_words()
    assert len(words) == 24
    window.tab_to("I have written them down")
    keyboard.press("Enter")
    window.at(CONFIRM)
    for position in confirm_positions(window):
        window.tab_to(f"Word {position}")
        keyboard.type(words[position - 1])
    keyboard.press("Enter")
    window.at(IDENTITY).tab_to("Set up this server")
    keyboard.press("Enter")
    window.at(KEYS).tab_to("Generate API key")
    keyboard.press("Enter")
    window.sees("Copy the key").tab_to("I have stored the key")
    keyboard.press("Enter")
    window.at("Your server is set up")
