"""Each screen of an enrolment: WCAG 2.2 AA by axe, both schemes, small phones, 200 % text, the keyboard alone."""

from __future__ import annotations

from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import expect

from tests.browser.test_accessible import NARROW, WIDE
from tests.device_app.person import PHONE, DeviceServer, Person
from tests.device_app.shell.test_states import AXE, LARGE_TEXT, size, small_targets

from .steps import CODE, CONFIRM, KEY, MEET, TRY, confirms, ends_enrolled, shown_code, states


def test_each_screen_is_accessible_and_fits_small_phones_and_large_text(person: Person) -> None:
    axe, found = Axe(), list[str]()
    for name in states(person):
        page = person.page
        for scheme, viewport in (("light", WIDE), ("dark", NARROW)):
            page.emulate_media(color_scheme="dark" if scheme == "dark" else "light", reduced_motion="reduce")
            size(person, viewport)
            results = axe.run(page, options=AXE)
            if results.violations_count:
                found.append(f"{name}, {scheme}: {results.generate_report()}")
            if beyond := person.width_beyond_window():
                found.append(f"{name}, {scheme}: {beyond} px wider than its window")
        size(person, PHONE["viewport"])
        page.evaluate(LARGE_TEXT, "200%")
        if beyond := person.width_beyond_window():
            found.append(f"{name}, 200 % text: {beyond} px wider than its window")
        found += [f"{name}, 200 % text: {target}" for target in small_targets(person)]
        page.evaluate(LARGE_TEXT, "")
        found += [f"{name}: {target}" for target in small_targets(person)]
        if page.locator("button.primary").filter(visible=True).count() > 1:
            found.append(f"{name}: two buttons of the first rank")
        if name == "confirm":
            hears(person)
            found += [f"{name}: {part} is below the fold" for part in hidden_by_the_buttons(person)]
    assert found == []


def hidden_by_the_buttons(person: Person) -> list[str]:
    """What the person compares and types, if it is below the fold of a phone of 2016."""
    size(person, {"width": 320, "height": 568})
    actions = person.page.locator(".actions").bounding_box()
    parts = {part: person.page.locator(part).bounding_box() for part in (".pictogram", ".big-code")}
    assert actions is not None
    return [part for part, box in parts.items() if box is None or box["y"] + box["height"] > actions["y"]]


def hears(person: Person) -> None:
    """A screen reader reads digits one by one, not a number, and what is waited for."""
    code = shown_code(person)
    expect(person.page.locator(".big-code .visually-hidden")).to_have_text(f"Your code: {' '.join(code)}")
    expect(person.page.locator(".big-code [aria-hidden]")).to_have_text(f"{code[:3]} {code[3:]}")
    expect(person.page.get_by_role("status").filter(has_text="Waiting")).to_be_visible()
    expect(person.page.get_by_role("list", name="The five pictures of this enrolment")).to_be_visible()


def test_an_enrolment_works_with_the_keyboard_alone(server: DeviceServer, person: Person) -> None:
    begun = server.begin_enrolment()
    keyboard = person.page.keyboard
    person.open().at(CODE)
    keyboard.press("Tab")
    expect(person.field("Code")).to_be_focused()
    keyboard.type(begun["token"])
    keyboard.press("Enter")
    for heading, name in ((MEET, "Continue"), (KEY, "Create the key"), (TRY, "Approve")):
        person.at(heading).tab_to(name)
        keyboard.press("Enter")
    confirms(server, begun, shown_code(person.at(CONFIRM)))
    ends_enrolled(person)
