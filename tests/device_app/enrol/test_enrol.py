"""Enrolment from the first screen to a device that may approve: by link, by hand, from the clipboard."""

from __future__ import annotations

from collections.abc import Callable

from playwright.sync_api import expect

from tests.device_app.person import DeviceServer, Person

from .steps import (
    ACCOUNT,
    CODE,
    CONFIRM,
    KEY,
    MEET,
    TRY,
    confirms,
    ends_enrolled,
    link_of,
    makes_key,
    meets,
    opens,
    passkeys,
    rehearses,
    shown_code,
    status,
    stored,
)


def test_by_the_link_of_the_qr_code(server: DeviceServer, person: Person) -> None:
    begun = meets(person)
    # The person recognises the server, before a key is made.
    person.sees(ACCOUNT, server.url)
    assert person.pictogram() == server.identity.pictogram_speakable
    id_ = person.page.locator(".id").text_content()
    assert id_ == server.identity.server_id
    assert status(server, begun)["status"] == "claimed"
    assert passkeys(person) == []
    rehearses(person)
    assert len(passkeys(person)) == 1
    # Both ends show the same pictures; the page of the service never gets the code by itself.
    shown = status(server, begun)
    assert shown["status"] == "confirming"
    assert person.pictogram() == shown["session_pictogram_speakable"]
    assert confirms(server, begun, shown_code(person))["status"] == "enrolled"
    ends_enrolled(person)
    enrolled = status(server, begun)
    # The key of this browser is the one that the server enrolled.
    assert person.public_key() == enrolled["device_public_key"]
    assert (enrolled["user_verification"], enrolled["synced"]) == (True, False)


def test_the_token_leaves_the_address_and_the_history(person: Person) -> None:
    begun = meets(person)
    assert person.page.url == f"{person.origin}/device/"
    assert begun["token"] not in person.traces()
    person.page.go_back()
    assert begun["token"] not in person.page.url


def confusable(server: DeviceServer) -> str:
    """A token with a 0 or a 1, typed in lower case as the letter that resembles it."""
    tokens = (server.begin_enrolment(ACCOUNT)["token"] for _ in range(100))
    token: str = next(token for token in tokens if set(token) & {"0", "1"})
    return token.lower().replace("0", "o").replace("1", "l")


def test_by_the_typed_code(server: DeviceServer, person: Person) -> None:
    person.open()
    for typed in ("{0}-{1}-{2}", " {0} {1}  {2} ", "{0}{1}{2}"):
        token = confusable(server)
        person.at(CODE).field("Code").press_sequentially(typed.format(token[:4], token[4:8], token[8:]))
        expect(person.field("Code")).to_have_value("-".join((token[:4], token[4:8], token[8:])).upper())
        person.page.keyboard.press("Enter")
        person.at(MEET).sees(ACCOUNT).click("Cancel")
        person.at("Nothing was added").click("Enter another code")


def test_a_character_in_the_middle_keeps_the_caret_where_it_is(person: Person) -> None:
    person.open().at(CODE)
    field = person.field("Code")
    field.press_sequentially("7k3mq9xp2rt")
    expect(field).to_have_value("7K3M-Q9XP-2RT")
    for _ in range(4):
        person.page.keyboard.press("ArrowLeft")
    person.page.keyboard.type("ab")
    expect(field).to_have_value("7K3M-Q9XP-AB2R-T")
    person.page.keyboard.press("Backspace")
    expect(field).to_have_value("7K3M-Q9XP-A2RT")


def test_from_the_clipboard(server: DeviceServer, person: Person) -> None:
    person.context.grant_permissions(["clipboard-read", "clipboard-write"])
    person.open()
    for form in ("token", "uri", "web_uri"):
        begun = server.begin_enrolment(ACCOUNT)
        person.at(CODE).page.evaluate("(text) => navigator.clipboard.writeText(text)", f" {begun[form]}\n")
        person.click("Paste")
        person.at(MEET).sees(ACCOUNT).click("Cancel")
        person.at("Nothing was added").click("Enter another code")


def test_a_pasted_link_is_not_grouped(server: DeviceServer, person: Person) -> None:
    link = server.begin_enrolment(ACCOUNT)["web_uri"]
    person.open().at(CODE)
    person.field("Code").fill(link)
    expect(person.field("Code")).to_have_value(link)
    person.click("Continue")
    person.at(MEET)


def test_without_access_to_the_clipboard_the_person_pastes_by_hand(person: Person) -> None:
    person.open().at(CODE).click("Paste")
    person.sees("The browser did not let this page paste.")
    expect(person.field("Code")).to_be_focused()


def test_another_device_of_the_same_browser_takes_the_place_of_the_former(server: DeviceServer, person: Person) -> None:
    former = person.enrol_by_api("first@example.com")
    begun = meets(person)
    person.sees("This browser already approves for first@example.com.")
    assert person.public_key() == former
    rehearses(person)
    # Until the code is confirmed, the former device stays.
    assert person.public_key() == former
    confirms(server, begun, shown_code(person))
    ends_enrolled(person)
    assert person.public_key() == status(server, begun)["device_public_key"] != former


def test_in_german_and_french(server: DeviceServer, new_person: Callable[..., Person]) -> None:
    for locale, heading in (("de-DE", "Haben Sie das erwartet?"), ("fr-FR", "Est-ce bien ce que vous attendez ?")):
        person = new_person(locale=locale)
        opens(person, link_of(server.begin_enrolment(ACCOUNT))).at(heading)


def test_a_reload_at_each_step_goes_on_there(server: DeviceServer, person: Person) -> None:
    begun = meets(person)
    for heading, name in ((MEET, "Continue"), (KEY, "Create the key"), (TRY, "Approve")):
        person.page.reload()
        person.at(heading).click(name)
        # The step is stored as soon as its end is shown.
        expect(person.page.get_by_role("heading", level=1)).not_to_have_text(heading)
    code = shown_code(person.at(CONFIRM))
    person.page.reload()
    assert shown_code(person.at(CONFIRM)) == code
    assert len(passkeys(person)) == 1
    confirms(server, begun, code)
    ends_enrolled(person)


def test_back_leaves_the_step_and_its_key_is_kept(person: Person) -> None:
    meets(person)
    makes_key(person)
    person.page.go_back()
    person.at(CODE).sees(f"You have begun to add this device for {ACCOUNT}.")
    person.click("Go on")
    person.at(TRY)
    assert "key" in stored(person)


_AN_HOUR_AGO = """async () => {
  const { Store } = await import("/assets/device/storage/store.js");
  const store = await Store.open();
  const row = await store.get("enrolment");
  row.meeting.expiresAt -= 3_600_000;
  await store.set("enrolment", row);
}"""


def test_after_its_time_an_enrolment_is_forgotten_unless_its_key_was_sent(server: DeviceServer, person: Person) -> None:
    meets(person)
    makes_key(person)
    person.page.evaluate(_AN_HOUR_AGO)
    person.page.reload()
    person.at(CODE)
    assert stored(person) is None
    begun = meets(person)
    rehearses(person)
    person.page.evaluate(_AN_HOUR_AGO)
    person.page.reload()
    confirms(server, begun, shown_code(person.at(CONFIRM)))
    ends_enrolled(person)
