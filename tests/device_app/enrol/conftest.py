"""One person for all tests that need no other look: a new browser profile costs more than most of these tests."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser

from tests.device_app.person import PHONE, DeviceServer, Person


@pytest.fixture(scope="package")
def one(browser: Browser, server: DeviceServer) -> Iterator[Person]:
    made = Person(browser, server)
    yield made
    made.close()


@pytest.fixture
def person(one: Person) -> Iterator[Person]:
    """On a phone, with passkeys, not enrolled, without a trace of an earlier test."""
    page, authenticator = one.page, {"authenticatorId": one.authenticator}
    page.unroute_all(behavior="ignoreErrors")
    page.goto("about:blank")
    page.set_viewport_size(PHONE["viewport"])
    page.emulate_media(color_scheme="light", reduced_motion="no-preference")
    one.context.clear_permissions()
    one.cdp.send("Storage.clearDataForOrigin", {"origin": one.origin, "storageTypes": "indexeddb"})
    one.cdp.send("WebAuthn.clearCredentials", authenticator)
    one.cdp.send("WebAuthn.setUserVerified", {**authenticator, "isUserVerified": True})
    one.cdp.send("WebAuthn.setResponseOverrideBits", authenticator)
    one.broken_connections = False
    one.requests.clear()
    yield one
    found = list(one.offences)
    one.offences.clear()
    assert found == []
