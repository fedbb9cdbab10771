"""Each state of the shell: WCAG 2.2 AA by axe, both colour schemes, the narrowest phone, 200 % text, the keyboard."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Locator, expect

from tests.browser.test_accessible import NARROW, RULES, WIDE
from tests.device_app.person import PHONE, DeviceServer, Person

from .states import states, unfit_states

AXE = {"resultTypes": ["violations"], "runOnly": RULES}
TARGET = 44
LARGE_TEXT = "(size) => { document.documentElement.style.fontSize = size; }"
# The corners of a target, which a finger must hit: nothing of the page may cover it when it is scrolled into view.
COVERED = """(node) => {
  node.scrollIntoView({ block: "center" });
  const { left, right, top, bottom } = node.getBoundingClientRect();
  const hit = document.elementFromPoint((left + right) / 2, (top + bottom) / 2);
  return !(node === hit || node.contains(hit));
}"""


def size(person: Person, viewport: dict[str, int]) -> None:
    person.page.set_viewport_size({"width": viewport["width"], "height": viewport["height"]})


def small_targets(person: Person) -> list[str]:
    found = []
    controls: Locator = person.page.locator("button, a, select, summary, input").filter(visible=True)
    for control in controls.all():
        box = control.bounding_box()
        assert box is not None
        name = control.inner_text() or control.get_attribute("aria-label")
        if box["height"] < TARGET or box["width"] < TARGET:
            found.append(f"{name}: {box['width']:.0f} x {box['height']:.0f}")
        if control.evaluate(COVERED):
            found.append(f"{name} is covered")
    return found


def test_each_state_is_accessible_in_both_schemes_and_fits_small_phones_and_large_text(
    new_person: Callable[..., Person], relayed: DeviceServer
) -> None:
    axe, found, names = Axe(), list[str](), list[str]()
    for name, person in states(new_person, relayed):
        names.append(name)
        page = person.page
        for scheme, viewport in (("light", WIDE), ("dark", NARROW)):
            page.emulate_media(color_scheme="dark" if scheme == "dark" else "light", reduced_motion="reduce")
            size(person, viewport)
            results = axe.run(page, options=AXE)
            if results.violations_count:
                found.append(f"{name}, {scheme}: {results.generate_report()}")
            if beyond := person.width_beyond_window():
                found.append(f"{name}, {scheme}: {beyond} px wider than its window")
        found += [f"{name}: {target}" for target in small_targets(person)]
        size(person, PHONE["viewport"])
        page.evaluate(LARGE_TEXT, "200%")
        if beyond := person.width_beyond_window():
            found.append(f"{name}, 200 % text: {beyond} px wider than its window")
        found += [f"{name}, 200 % text: {target}" for target in small_targets(person)]
        page.evaluate(LARGE_TEXT, "")
        if page.locator("button.primary").filter(visible=True).count() > 1:
            found.append(f"{name}: two buttons of the first rank")
        assert page.title().endswith((" – Northwind sign-in", " – Sigil")), page.title()
    assert found == []
    assert len(names) == len(set(names)) == 15


def test_a_wrong_browser_is_sent_to_the_right_one_with_its_code(new_person: Callable[..., Person]) -> None:
    name, person = next(unfit_states(new_person))
    assert name == "unfit-in-app"
    person.context.grant_permissions(["clipboard-read", "clipboard-write"])
    address = person.page.evaluate("location.href")
    assert address.endswith("/device/"), "the code is not in the address any more"
    person.click("Copy the address")
    expect(person.page.get_by_role("status").filter(has_text="Copied")).to_be_visible()
    assert person.page.evaluate("navigator.clipboard.readText()").startswith(f"{person.origin}/device/#s=AAAA")


def test_an_address_without_a_name_is_explained_or_not_served(new_person: Callable[..., Person]) -> None:
    person = new_person()
    person.origin = person.origin.replace("localhost", "127.0.0.1")
    person.open().at("This address has no name")


def test_a_browser_without_a_passkey_of_its_own_may_use_a_security_key(new_person: Callable[..., Person]) -> None:
    person = new_person(passkeys=False)
    available = "PublicKeyCredential.isUserVerifyingPlatformAuthenticatorAvailable()"
    assert person.open().opened().page.evaluate(available) is False
    person.at("Add this device")


def test_everything_of_the_shell_works_with_the_keyboard(
    new_person: Callable[..., Person], relayed: DeviceServer
) -> None:
    person = new_person(at=relayed)
    person.enrol_by_api()
    keyboard = person.page.keyboard
    person.at("Nothing to decide").tab_to("Settings")
    keyboard.press("Enter")
    person.at("Settings").tab_to("Language")
    person.page.get_by_label("Language").select_option("de")
    person.at("Einstellungen")
    expect(person.page.locator("html")).to_have_attribute("lang", "de")
    person.tab_to("Dieses Gerät entfernen")
    keyboard.press("Enter")
    person.at("Dieses Gerät entfernen?").tab_to("Behalten")
    keyboard.press("Space")
    person.at("Einstellungen")
    person.page.reload()
    person.at("Nichts zu entscheiden")


def test_a_removed_device_is_gone_with_its_key_also_in_another_tab(
    new_person: Callable[..., Person], relayed: DeviceServer
) -> None:
    person = new_person(at=relayed)
    person.enrol_by_api()
    person.at("Nothing to decide")
    person.click("Settings")
    person.at("Settings").click("Remove this device")
    person.at("Remove this device?")
    other = person.context.new_page()
    other.goto(f"{person.origin}/device/")
    expect(other.get_by_role("heading", level=1)).to_have_text("Nothing to decide")
    person.page.get_by_role("button", name="Remove", exact=True).click()
    expect(person.page.get_by_role("heading", level=1)).not_to_have_text("Remove this device?")
    stored: Any = person.page.evaluate(
        'async () => (await (await import("/assets/device/storage/store.js")).Store.open()).device()'
    )
    assert stored is None
    other.get_by_role("button", name="Settings").click()
    other.get_by_role("button", name="Back").click()
    expect(other.get_by_role("heading", level=1)).to_have_text(person.page.get_by_role("heading", level=1).inner_text())


def test_back_closes_what_is_open_and_leaves_the_request_pending(
    new_person: Callable[..., Person], server: DeviceServer
) -> None:
    person = new_person()
    made = server.challenge(person.enrol_by_api())
    expect(person.page.get_by_role("button", name="Approve")).to_be_visible()
    person.page.go_back()
    person.at("One request waits for you")
    person.page.get_by_role("button", name="Pay 1,250.00 EUR").click()
    expect(person.page.get_by_role("button", name="Approve")).to_be_visible()
    person.page.go_back()
    # What was open once does not open by itself again.
    person.at("One request waits for you")
    person.page.go_forward()
    person.at("One request waits for you")
    assert server.get(f"/v1/auth/challenge/{made['challenge_id']}/status")["status"] == "pending"


def test_screens_that_open_at_once_after_another_neither_leave_the_app_nor_get_lost(person: Person) -> None:
    """As a double click, or an answer that arrives during a back gesture."""
    person.enrol_by_api()
    for last, heading in (("ready", "Nothing to decide"), ("settings", "Settings")):
        person.at("Nothing to decide")
        person.click("Settings")
        person.at("Settings")
        person.page.evaluate(
            """async (last) => {
              const { app } = await import("/assets/device/app.js");
              app.go({ screen: "ready" });
              app.back();
              await Promise.resolve();
              app.go({ screen: last });
            }""",
            last,
        )
        person.at(heading)
        assert person.page.evaluate("location.pathname") == "/device/"
