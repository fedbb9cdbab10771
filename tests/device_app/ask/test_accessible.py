"""Accessibility of each state: WCAG 2.2 AA by axe, light and dark, large text, narrow windows, the keyboard alone."""

from __future__ import annotations

from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import expect

from .decider import Decider
from .states import PARAMS, STATES

RULES = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]
_SMALL = """() => [...document.querySelectorAll("main button, main input")].filter((node) => node.checkVisibility())
  .filter((node) => node.getBoundingClientRect().height < 44 || node.getBoundingClientRect().width < 44)
  .map((node) => node.textContent)"""


def test_each_state_passes_axe_light_and_dark_with_targets_of_44_pixels(decider: Decider) -> None:
    axe, found = Axe(), []
    decider.challenge(number_matching=True, action={"params": PARAMS})
    decider.at_request()
    decider.hold_item()
    for state, opened in STATES.items():
        decider.go(opened)
        for scheme in ("light", "dark"):
            decider.page.emulate_media(color_scheme="dark" if scheme == "dark" else "light", reduced_motion="reduce")
            results = axe.run(decider.page, options={"resultTypes": ["violations"], "runOnly": RULES})
            if results.violations_count:
                found.append(f"{state}, {scheme}: {results.generate_report()}")
        if small := decider.page.evaluate(_SMALL):
            found.append(f"{state}: smaller than 44 px: {small}")
    assert found == []


def test_each_state_fits_a_narrow_window_with_text_of_200_percent_in_each_language(decider: Decider) -> None:
    decider.challenge(number_matching=True, action={"params": PARAMS})
    decider.at_request()
    decider.hold_item()
    decider.page.set_viewport_size({"width": 360, "height": 640})
    decider.page.evaluate("() => void (document.documentElement.style.fontSize = '200%')")
    found = []
    for language in ("en", "de", "fr"):
        decider.page.evaluate("async (set) => (await import('/assets/device/app.js')).app.useLanguage(set)", language)
        for state, opened in STATES.items():
            decider.go(opened)
            if beyond := decider.person.width_beyond_window():
                found.append(f"{language}, {state}: {beyond} px wider than its window")
            last = decider.page.locator(".actions button").last
            last.scroll_into_view_if_needed()
            expect(last).to_be_in_viewport(ratio=0.9)
    assert found == []


def test_a_request_is_decided_with_the_keyboard_alone(decider: Decider) -> None:
    decider.challenge(action={"params": {f"line {at}": "a value" for at in range(20)}})
    decider.at_request()
    keyboard = decider.page.keyboard
    read = decider.page.get_by_role("button", name="Read on")
    expect(read).to_be_visible()
    decider.person.tab_to("Read on")
    while read.is_visible():
        keyboard.press("Enter")
    expect(decider.approve_button).to_have_attribute("aria-disabled", "false")
    decider.person.tab_to("Approve")
    keyboard.press("Enter")
    decider.at("Approved").person.tab_to("Done")
    keyboard.press("Enter")
    decider.at("Nothing to decide")


def test_the_heading_is_read_with_the_description_and_the_buttons_with_their_condition(decider: Decider) -> None:
    decider.challenge()
    decider.at_request()
    heading = decider.page.get_by_role("heading", level=1)
    expect(heading).to_have_accessible_description("Pay 1,250.00 EUR to Northwind")
    decider.page.evaluate("() => void (document.hasFocus = () => false)")
    decider.page.evaluate("() => window.dispatchEvent(new Event('blur'))")
    expect(decider.approve_button).to_have_accessible_description("Select this window to continue.")


def test_both_buttons_have_the_same_size(decider: Decider) -> None:
    decider.challenge()
    decider.at_request()
    boxes = [decider.page.get_by_role("button", name=name).bounding_box() for name in ("Reject", "Approve")]
    assert boxes[0] is not None
    assert boxes[1] is not None
    assert (boxes[0]["width"], boxes[0]["height"]) == (boxes[1]["width"], boxes[1]["height"])


def test_with_forced_colours_no_text_shows_through_the_buttons_bar(decider: Decider) -> None:
    decider.challenge()
    decider.at_request()
    decider.page.emulate_media(forced_colors="active")
    bar = decider.page.locator(".actions")
    assert bar.evaluate("(node) => getComputedStyle(node).backgroundColor") == "rgb(255, 255, 255)"
    decider.page.emulate_media(forced_colors="none")


def test_on_the_narrowest_phone_both_answers_stay_in_one_row(decider: Decider) -> None:
    decider.challenge()
    decider.at_request()
    decider.page.set_viewport_size({"width": 320, "height": 640})
    for language in ("en", "de", "fr"):
        decider.page.evaluate("async (set) => (await import('/assets/device/app.js')).app.useLanguage(set)", language)
        boxes = [button.bounding_box() for button in decider.page.locator(".pair button").all()]
        assert len({box["y"] for box in boxes if box}) == 1, language
        assert decider.person.width_beyond_window() == 0, language


def test_a_long_name_of_the_server_takes_two_lines_of_the_bar(decider: Decider) -> None:
    decider.challenge()
    decider.at_request()
    decider.page.set_viewport_size({"width": 320, "height": 640})
    name = decider.page.locator(".bar .brand bdi")
    line = name.evaluate("(node) => { node.textContent = 'A'; return node.offsetHeight; }")
    assert (
        name.evaluate("(node) => { node.textContent = 'Insurance'.repeat(30); return node.offsetHeight; }") == 2 * line
    )
