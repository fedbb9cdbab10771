"""The states of the shell, each opened as a person gets there; the tests look at each, and so do the screenshots."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from playwright.sync_api import expect

from tests.device_app.person import DeviceServer, Person

IPHONE = (
    "Mozilla/5.0 (iPhone; CPU iPhone OS 18_5 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) "
    "Version/18.5 Mobile/15E148 Safari/604.1"
)
IN_APP = f"{IPHONE} Instagram 390.0.0.20.85"
LINK = "#s=" + "A" * 43 + "&t=ABCDEFGHJKMN"
NO_STORAGE = "indexedDB.open = () => { throw new DOMException('refused', 'SecurityError'); };"
INSECURE = "Object.defineProperty(window, 'isSecureContext', { value: false });"
NO_PASSKEYS = "delete window.PublicKeyCredential;"
BLOCKED = "indexedDB.open = () => ({});"
NO_PUSH = "delete window.PushManager;"

DECISIONS = """async (decisions) => {
  const { Store } = await import("/assets/device/storage/store.js");
  const store = await Store.open();
  const at = Date.UTC(2026, 2, 2, 14, 2);
  for (const [description, outcome] of decisions) {
    await store.addDecision({ id: crypto.randomUUID(), type: "challenge", outcome, description, at });
  }
}"""
SAMPLE = [
    ["Change the delivery address", "rejected"],
    ["Sign in from a new browser in Lisbon", "unknown_trigger"],
    ["Release 4.2 to production", "approved"],
    ["Pay 1,250.00 EUR to Northwind Traders", "approved"],
]

Opened = Callable[..., Person]


def permission(person: Person, setting: str) -> None:
    """What the browser answers for notifications: granted, denied or prompt."""
    change = {"permission": {"name": "notifications"}, "setting": setting, "origin": person.origin}
    person.cdp.send("Browser.setPermission", change)


def states(new_person: Opened, relayed: DeviceServer) -> Iterator[tuple[str, Person]]:
    """Each state with its name; `relayed` is a server with a relay."""
    yield from unfit_states(new_person)
    yield "install", new_person(user_agent=IPHONE).open(f"/device/{LINK}").at("Add this page to your home screen")
    person = new_person(at=relayed)
    permission(person, "prompt")
    key = person.enrol_by_api()
    person.at("Nothing to decide")
    yield "ready", person
    person.page.evaluate(DECISIONS, SAMPLE)
    person.open().at("Nothing to decide")
    yield "ready-decisions", person
    person.click("Show all")
    yield "history", person.at("Your last decisions")
    person.click("Back")
    person.at("Nothing to decide")
    for _ in range(2):
        relayed.challenge(key)
    person.sees("Pay 1,250.00 EUR to Northwind")
    person.page.go_back() if person.page.get_by_role("button", name="Approve").count() else None
    person.sees("2 requests wait for you")
    yield "ready-pending", person
    with without_network(person):
        person.sees("Requests appear again when this device can reach")
        yield "ready-offline", person
    person.click("Turn on notifications")
    yield "notify", person.at("Get a notification for each request")
    permission(person, "denied")
    person.click("Turn on notifications")
    yield "notify-denied", person.at("Notifications are blocked")
    person.click("Continue")
    person.click("Settings")
    yield "settings", person.at("Settings")
    person.click("Remove this device")
    yield "settings-remove", person.at("Remove this device?")
    go(person, screen="lost", why="unknown")
    yield "lost", person.at("This device must be added again")


def unfit_states(new_person: Opened) -> Iterator[tuple[str, Person]]:
    yield "unfit-in-app", new_person(user_agent=IN_APP).open(f"/device/{LINK}").at("Open this page in your browser")
    for name, script, heading in (
        ("storage", NO_STORAGE, "This browser stores nothing here"),
        ("insecure", INSECURE, "This address is not secure"),
        ("webauthn", NO_PASSKEYS, "This browser has no passkeys"),
    ):
        person = new_person()
        person.page.add_init_script(script)
        yield f"unfit-{name}", person.open().at(heading)


def go(person: Person, **state: Any) -> None:
    person.page.evaluate('async (state) => (await import("/assets/device/app.js")).app.go(state)', state)


@contextmanager
def without_network(person: Person) -> Iterator[None]:
    """Chromium's own emulation; it reports each request that fails on the console."""
    before = list(person.offences)
    person.context.set_offline(True)
    try:
        yield
    finally:
        person.context.set_offline(False)
        # Until the page has noticed, requests fail.
        expect(person.page.locator("main").get_by_text("Requests appear again")).to_have_count(0)
        failed = [offence for offence in person.offences if "ERR_INTERNET_DISCONNECTED" in offence]
        person.offences[:] = [offence for offence in person.offences if offence not in failed or offence in before]
