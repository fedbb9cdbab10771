"""Accessibility of every step: contrast, names and sizes of WCAG 2.2 AA, narrow windows, keyboard only."""

from __future__ import annotations

from collections.abc import Callable

from axe_playwright_python.sync_playwright import Axe

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
