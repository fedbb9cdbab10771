"""A browser without passkeys, where the operator permits plain keys (SIGIL_WEB_PLAIN_KEYS)."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from tests.device_app.person import DeviceServer, Person

from .steps import ACCOUNT, CONFIRM, KEY, MEET, TRY, confirms, ends_enrolled, link_of, opens, shown_code, status

_NO_PASSKEYS = "delete window.PublicKeyCredential;"


@pytest.fixture(scope="module")
def permissive(server: DeviceServer) -> Iterator[DeviceServer]:
    with DeviceServer(SIGIL_WEB_PLAIN_KEYS="true") as running:
        yield running


def test_without_passkeys_the_page_says_what_a_plain_key_means(
    permissive: DeviceServer, new_person: Callable[..., Person]
) -> None:
    person = new_person(at=permissive, passkeys=False)
    person.context.add_init_script(_NO_PASSKEYS)
    begun = permissive.begin_enrolment(ACCOUNT)
    opens(person, link_of(begun)).at(MEET).click("Continue")
    person.at(KEY).sees("Anyone who can open this browser can approve")
    person.click("Create the key")
    person.at(TRY).click("Approve")
    confirms(permissive, begun, shown_code(person.at(CONFIRM)))
    ends_enrolled(person)
    assert status(permissive, begun)["device_public_key"] == person.public_key()


def test_without_passkeys_no_key_is_made_elsewhere(server: DeviceServer, new_person: Callable[..., Person]) -> None:
    person = new_person(passkeys=False)
    person.context.add_init_script(_NO_PASSKEYS)
    begun = server.begin_enrolment(ACCOUNT)
    opens(person, link_of(begun)).opened()
    assert person.page.locator("html").get_attribute("data-screen") == "unfit"
    # The code is left for another browser.
    assert status(server, begun)["status"] == "pending"
