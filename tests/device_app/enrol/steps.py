"""The steps of an enrolment, as a person takes them, and the backend that confirms the code."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from playwright.sync_api import expect

from tests.device_app.person import DeviceServer, Person

ACCOUNT = "zoe@example.com"
CODE = "Add this device"
CAMERA = "Scan the QR code"
MEET = "Is this what you expect?"
KEY = "Make a key on this device"
TRY = "Approve once, to try it"
CONFIRM = "Compare, then type the code"


def link_of(begun: dict[str, Any]) -> str:
    """Path and fragment of the web link."""
    server, _, fragment = begun["web_uri"].partition("/device/")
    assert server.startswith("http://localhost:")
    return f"/device/{fragment}"


def web_link_of(begun: dict[str, Any]) -> str:
    """As `link_of`, of the link for apps: where attestation is required the server gives no web link."""
    assert "web_uri" not in begun
    return "/device/#" + begun["uri"].partition("&")[2]


def meets(person: Person) -> dict[str, Any]:
    """Opens the link of a new enrolment; what the server answered to its backend."""
    begun = person.server.begin_enrolment(ACCOUNT)
    opens(person, link_of(begun)).at(MEET)
    return begun


def opens(person: Person, link: str) -> Person:
    # An address that differs in its fragment alone loads nothing.
    person.page.goto("about:blank")
    return person.open(link)


def reopens(person: Person) -> Person:
    """As a phone does that closed the page: its virtual authenticator stays, since the tab does."""
    return opens(person, "/device/")


def makes_key(person: Person) -> None:
    person.at(MEET).click("Continue")
    person.at(KEY).click("Create the key")
    person.at(TRY)


def rehearses(person: Person) -> None:
    makes_key(person)
    person.click("Approve")
    person.at(CONFIRM)


def shown_code(person: Person) -> str:
    code = person.page.locator(".big-code").text_content() or ""
    return "".join(character for character in code.partition("Your code")[0] if character.isdigit())


def confirms(server: DeviceServer, begun: dict[str, Any], code: str) -> dict[str, Any]:
    return server.post(f"/enrolment/{begun['enrolment_id']}/confirm", {"code": code})


def status(server: DeviceServer, begun: dict[str, Any]) -> dict[str, Any]:
    return server.get(f"/enrolment/{begun['enrolment_id']}/status")


def ends_enrolled(person: Person) -> None:
    """Waits for the screen after enrolment."""
    expect(person.page.locator("html[data-screen=notify]")).to_be_attached()
    assert stored(person) is None


def stored(person: Person) -> Any:
    """The names of the members of the unfinished enrolment in this browser, None without one."""
    return person.page.evaluate(
        """async () => {
          const { Store } = await import("/assets/device/storage/store.js");
          const row = await (await Store.open()).get("enrolment");
          return row ? Object.keys(row).filter((name) => row[name]) : null;
        }"""
    )


def passkeys(person: Person) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = person.cdp.send("WebAuthn.getCredentials", {"authenticatorId": person.authenticator})[
        "credentials"
    ]
    return found


def verifies_user(person: Person, does: bool) -> None:
    """Whether the person passes the prompt of the authenticator."""
    person.cdp.send("WebAuthn.setUserVerified", {"authenticatorId": person.authenticator, "isUserVerified": does})


def states(person: Person) -> Iterator[str]:
    """The screens of an enrolment, in their order; yields the name of each."""
    person.open().at(CODE)
    yield "code"
    person.field("Code").press_sequentially("7k3m")
    person.click("Continue")
    person.sees("The code has 12 characters; here are 4.")
    yield "code-error"
    begun = person.server.begin_enrolment("maria.fernanda.del-carmen@subsidiary.example.com")
    opens(person, link_of(begun)).at(MEET)
    yield "meet"
    person.click("Continue")
    person.at(KEY)
    yield "key"
    verifies_user(person, False)
    person.click("Create the key")
    person.page.get_by_role("alert").wait_for()
    yield "key-failed"
    verifies_user(person, True)
    person.click("Create the key")
    person.at(TRY)
    yield "try"
    person.click("Approve")
    person.at(CONFIRM)
    yield "confirm"
    person.click("Cancel")
    person.at("Cancel the enrolment?")
    yield "stop"
    person.click("Cancel the enrolment")
    person.at("Nothing was added")
    yield "stopped"
