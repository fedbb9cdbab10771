"""Enrolments that end without a device: each says why and what to do next, and leaves nothing in the browser."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from functools import partial
from typing import Any

import httpx
import pytest
from playwright.sync_api import Route, expect

from sigil.protocol.api_key import issue_api_key
from sigil.protocol.identity import DerivedSecrets
from tests.device_app.person import DeviceServer, Person
from tests.support.live import wait_until

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
    reopens,
    shown_code,
    status,
    stored,
    verifies_user,
    web_link_of,
)


def ends(person: Person, heading: str, *texts: str) -> None:
    person.at(heading).sees(*texts)
    assert stored(person) is None
    person.click("Enter another code")
    person.at(CODE)


def problem(code: str, http_status: int, route: Route, **details: Any) -> None:
    error = {"code": code, "message": "A message of the server.", "details": details}
    route.fulfill(status=http_status, content_type="application/json", body=json.dumps({"error": error}))


# The code


MISTYPED = {
    "": "Type the 12 characters of the code, or scan the QR code.",
    "7K3M-Q9XP-2R": "The code has 12 characters; here are 10.",
    "7K3M-Q9XP-2RTBX": "The code has 12 characters; here are 13.",
    "7K3M-Q9XP-2RTU": "“U” cannot be part of the code.",
    "7K3M.Q9XP.2RTB": "“.” cannot be part of the code.",
    "https://auth.example.com/device/": "This is not the link of an enrolment.",
}


def test_a_mistyped_code_is_explained(person: Person) -> None:
    person.open().at(CODE)
    field = person.field("Code")
    for typed, sentence in MISTYPED.items():
        field.fill(typed)
        person.click("Continue")
        person.sees(sentence)
        expect(field).to_be_focused()
        expect(field).to_have_attribute("aria-invalid", "true")
        # The next character is another attempt.
        person.page.keyboard.type("7")
        expect(field).not_to_have_attribute("aria-invalid", "true")


def test_a_link_to_another_address_is_explained(server: DeviceServer, person: Person) -> None:
    link = link_of(server.begin_enrolment(ACCOUNT))
    person.open().at(CODE)
    person.field("Code").fill(f"https://auth.example.com{link}")
    person.click("Continue")
    person.sees("This code belongs to another service.")


def test_a_link_with_the_id_of_another_server_is_not_followed(server: DeviceServer, person: Person) -> None:
    begun = server.begin_enrolment(ACCOUNT)
    id_, _, token = link_of(begun).partition("&")
    opens(person, f"{id_[:-43]}{'A' * 43}&{token}")
    ends(person, "Stopped for your safety", "Report this to the service.")
    # The token was not sent.
    assert status(server, begun)["status"] == "pending"


def test_a_damaged_link_opens_the_field(person: Person) -> None:
    opens(person, "/device/#s=abc&t=7K3M").at(CODE).sees("This is not the code of an enrolment.")


def test_an_unknown_code(person: Person) -> None:
    person.open().at(CODE)
    person.field("Code").fill("0000-0000-0000")
    person.click("Continue")
    ends(person, "The server does not know this code")


def test_a_code_that_another_device_has_used(server: DeviceServer, person: Person) -> None:
    begun = server.begin_enrolment(ACCOUNT)
    claim = {"token": begun["token"], "claim_id": os.urandom(16).hex()}
    assert httpx.post(f"{server.url}/enrolment/claim", json=claim, trust_env=False).status_code == 200
    opens(person, link_of(begun))
    ends(person, "Another device has used this code", "Then begin again: it shows a new code.")


def test_an_enrolment_that_was_cancelled_before(server: DeviceServer, person: Person) -> None:
    begun = server.begin_enrolment(ACCOUNT)
    cancels(server, begun)
    opens(person, link_of(begun))
    ends(person, "The enrolment was cancelled")


def cancels(server: DeviceServer, begun: dict[str, Any]) -> None:
    with server.authorised() as client:
        assert client.delete(f"/enrolment/{begun['enrolment_id']}").status_code == 200


CLAIM_ERRORS = {
    ("ENROLMENT_EXPIRED", 410): "The time has run out",
    ("ENROLMENT_CLOSED", 409): "This code has been used",
    ("ATTESTATION_REQUIRED", 403): "This service needs another kind of device",
}


def test_errors_of_a_claim(server: DeviceServer, person: Person) -> None:
    person.open()
    for error, heading in CLAIM_ERRORS.items():
        person.at(CODE).field("Code").fill(server.begin_enrolment(ACCOUNT)["token"])
        person.page.route("**/enrolment/claim", partial(problem, *error))
        person.click("Continue")
        ends(person, heading)
        person.page.unroute("**/enrolment/claim")


def test_without_a_connection_the_same_claim_is_sent_again(server: DeviceServer, person: Person) -> None:
    """The first claim arrives, and its answer is lost: the page claims with the same claim_id, and gets the offer."""
    claims: list[str] = []

    def lost(route: Route) -> None:
        claims.append(json.loads(route.request.post_data or "{}")["claim_id"])
        if len(claims) == 1:
            route.fetch()
            route.abort()
        else:
            route.continue_()

    person.page.route("**/enrolment/claim", lost)
    person.broken_connections = True
    opens(person, link_of(server.begin_enrolment(ACCOUNT))).at(MEET)
    assert len(set(claims)) == 1 < len(claims)


def holds_the_first_answer(person: Person, path: str) -> list[Route]:
    """The server gets the request; its answer does not arrive. Empty until then."""
    held: list[Route] = []

    def hold(route: Route) -> None:
        if held:
            route.continue_()
        else:
            route.fetch()
            held.append(route)

    person.page.route(path, hold)
    return held


def test_a_page_that_ends_before_the_offer_claims_as_before(server: DeviceServer, person: Person) -> None:
    held = holds_the_first_answer(person, "**/enrolment/claim")
    opens(person, link_of(server.begin_enrolment(ACCOUNT)))
    # Playwright runs the handler of a route while the test calls it.
    wait_until(lambda: person.page.evaluate("true") and held, "the claim")
    reopens(person).at(MEET).sees(ACCOUNT)


# What the person decides


def test_the_person_does_not_expect_this(server: DeviceServer, person: Person) -> None:
    begun = meets(person)
    person.click("Cancel")
    ends(person, "Nothing was added", "If you did not begin this, also report it to the service.")
    assert passkeys(person) == []
    assert status(server, begun)["status"] == "claimed"


def test_a_prompt_that_fails_makes_no_key_and_may_be_repeated(server: DeviceServer, person: Person) -> None:
    begun = meets(person)
    person.click("Continue")
    person.at(KEY)
    verifies_user(person, False)
    person.click("Create the key")
    person.page.get_by_role("alert").filter(has_text="made").wait_for()
    assert passkeys(person) == []
    verifies_user(person, True)
    person.click("Create the key")
    person.at(TRY)
    verifies_user(person, False)
    person.click("Approve")
    person.page.get_by_role("alert").filter(has_text="again").wait_for()
    assert status(server, begun)["status"] == "claimed"
    # A second failure offers a new key, and the first one still works.
    person.click("Approve")
    person.page.get_by_role("button", name="Make a new key").wait_for()
    verifies_user(person, True)
    person.click("Approve")
    person.at(CONFIRM)
    assert len(passkeys(person)) == 1


def test_a_key_that_is_gone_is_made_again(person: Person) -> None:
    meets(person)
    makes_key(person)
    person.cdp.send("WebAuthn.clearCredentials", {"authenticatorId": person.authenticator})
    verifies_user(person, False)
    for _ in range(2):
        person.click("Approve")
        person.page.get_by_role("alert").filter(has_text="again").wait_for()
    verifies_user(person, True)
    person.click("Make a new key")
    person.at(KEY).click("Create the key")
    person.at(TRY).click("Approve")
    person.at(CONFIRM)


def test_an_authenticator_that_proves_nothing_is_not_enrolled(server: DeviceServer, person: Person) -> None:
    begun = meets(person)
    makes_key(person)
    overrides(person, isBogusSignature=True)
    person.click("Approve")
    person.sees("The browser did not sign.")
    # It claims to have verified the person, and its flags deny it.
    overrides(person, isBogusSignature=False, isBadUV=True)
    person.click("Approve")
    ends(person, "The server did not accept the key", "No device was added.")
    assert status(server, begun)["status"] == "claimed"


def overrides(person: Person, **faults: bool) -> None:
    person.cdp.send("WebAuthn.setResponseOverrideBits", {"authenticatorId": person.authenticator, **faults})


# Attestation


@pytest.fixture(scope="module")
def strict(server: DeviceServer) -> Any:
    with DeviceServer(SIGIL_ATTESTATION_REQUIRED="true", SIGIL_ATTESTATION_KINDS="yubikey-piv") as running:
        secrets = DerivedSecrets.from_mnemonic(running.mnemonic)
        running.api_key = issue_api_key(secrets.api_key, "sgk_live_", os.urandom(16))
        yield running


def test_where_attestation_is_required_no_key_is_made(strict: DeviceServer, new_person: Callable[..., Person]) -> None:
    person = new_person(at=strict)
    begun = strict.begin_enrolment(ACCOUNT)
    opens(person, web_link_of(begun))
    ends(person, "This service needs another kind of device", "No key was made.")
    assert passkeys(person) == []
    # The code is left for the device that the service accepts.
    assert status(strict, begun)["status"] == "pending"


# After the key is sent


def test_a_code_that_is_wrong_three_times(server: DeviceServer, person: Person) -> None:
    begun = meets(person)
    rehearses(person)
    wrong = f"{(int(shown_code(person)) + 1) % 1_000_000:06}"
    with server.authorised() as client:
        for _ in range(3):
            answer = client.post(f"/enrolment/{begun['enrolment_id']}/confirm", json={"code": wrong})
            assert answer.json()["error"]["code"] == "WRONG_CODE"
    ends(person, "The code was wrong three times", "No device was added.")


def test_an_enrolment_that_the_service_cancels(server: DeviceServer, person: Person) -> None:
    begun = meets(person)
    rehearses(person)
    cancels(server, begun)
    ends(person, "The enrolment was cancelled")


def test_an_enrolment_that_expires_meanwhile(person: Person) -> None:
    meets(person)
    expired = json.dumps({"status": "expired"})
    person.page.route("**/enrolment/wait", lambda route: route.fulfill(content_type="application/json", body=expired))
    makes_key(person)
    person.click("Approve")
    ends(person, "The time has run out", "No device was added.")


def test_the_person_cancels_while_the_code_is_shown(person: Person) -> None:
    meets(person)
    rehearses(person)
    code = shown_code(person)
    person.click("Cancel")
    person.at("Cancel the enrolment?").click("Go back to the code")
    assert shown_code(person.at(CONFIRM)) == code
    person.click("Cancel")
    person.at("Cancel the enrolment?").click("Cancel the enrolment")
    ends(person, "Nothing was added")


def test_a_result_that_the_server_no_longer_has(server: DeviceServer, person: Person) -> None:
    """A phone that was off for an hour: the person knows whether the service has added it."""
    begun = meets(person)
    rehearses(person)
    confirm = partial(confirms, server, begun, shown_code(person))
    person.page.goto("about:blank")
    confirm()
    person.page.route("**/enrolment/wait", partial(problem, "ENROLMENT_NOT_FOUND", 404))
    person.open().at("Was it added?").click("It was added")
    ends_enrolled(person)
    assert person.public_key() == status(server, begun)["device_public_key"]


def test_a_page_that_ends_before_the_answer_completes_with_the_same_key(server: DeviceServer, person: Person) -> None:
    begun = meets(person)
    makes_key(person)

    held = holds_the_first_answer(person, "**/enrolment/complete")
    person.click("Approve")
    # Playwright runs the handler of a route while the test calls it.
    wait_until(lambda: person.page.evaluate("true") and held, "the completion")
    assert status(server, begun)["status"] == "confirming"
    reopens(person).at(TRY).click("Approve")
    person.at(CONFIRM)
    assert len(passkeys(person)) == 1
    confirms(server, begun, shown_code(person))
    ends_enrolled(person)


def test_a_page_that_is_closed_while_the_code_is_shown_goes_on_there(server: DeviceServer, person: Person) -> None:
    begun = meets(person)
    rehearses(person)
    code = shown_code(person)
    person.page.goto("about:blank")
    confirms(server, begun, code)
    person.open()
    ends_enrolled(person)


_AN_HOUR_AGO = """async () => {
  const { Store } = await import("/assets/device/storage/store.js");
  const store = await Store.open();
  const row = await store.get("enrolment");
  row.completed.record.enrolment.expiresAt -= 3_600_000;
  await store.set("enrolment", row);
}"""


def test_the_code_stays_while_the_server_is_unreachable(server: DeviceServer, person: Person) -> None:
    begun = meets(person)
    person.broken_connections = True
    person.page.route("**/enrolment/wait", lambda route: route.abort())
    rehearses(person)
    code = shown_code(person)
    person.context.set_offline(True)
    person.sees("No connection. This page tries again by itself.")
    person.context.set_offline(False)
    person.sees("Waiting for the code to be typed")
    confirms(server, begun, code)
    # Also after its time: only the server knows the result.
    person.page.evaluate(_AN_HOUR_AGO)
    person.page.reload()
    person.sees("No connection. This page tries again by itself.")
    assert shown_code(person.at(CONFIRM)) == code
    person.page.unroute("**/enrolment/wait")
    ends_enrolled(person)
