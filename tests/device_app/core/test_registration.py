"""The registration of a push subscription at a real relay, from a page of another origin."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from playwright.sync_api import Page, Route

from relay.web_push_settings import new_key, vapid_key
from sigil.protocol.encoding.text import decode_base64url
from sigil.protocol.web_push import parse
from tests.support.live_relay import LiveRelay

VAPID = new_key()
ENDPOINT = "https://updates.push.services.mozilla.com/wpush/v2/gAAAAABo"
APP = "https://sigil.example.com/device/"
_RUN = """async ({{ relayUrl, appUrl, endpoint, vapid }}) => {{
  const registration = await import("/assets/device/client/registration.js");
  const {{ createPlainKey }} = await import("/assets/device/client/authenticator.js");
  const keys = () => crypto.subtle.generateKey({{ name: "ECDSA", namedCurve: "P-256" }}, true, ["sign"]);
  const p256dh = await crypto.subtle.exportKey("raw", (await keys()).publicKey);
  const subscription = {{
    endpoint,
    options: {{ applicationServerKey: Uint8Array.from(vapid).buffer }},
    getKey: (name) => (name === "auth" ? new Uint8Array(16).buffer : p256dh),
  }};
  const record = (window.device ??= await createPlainKey());
  const failed = (error) => ({{ error: error.name, code: error.code }});
  {body}
}}"""


@pytest.fixture(scope="module")
def relay() -> Iterator[LiveRelay]:
    with LiveRelay(RELAY_WEBPUSH_KEY=VAPID) as running:
        yield running


def run(page: Page, relay: LiveRelay, body: str, **changes: Any) -> Any:
    vapid = list(decode_base64url(vapid_key(VAPID).public_text) or b"")
    given = {"relayUrl": relay.url, "appUrl": APP, "endpoint": ENDPOINT, "vapid": vapid, **changes}
    return page.evaluate(_RUN.format(body=body), given)


REGISTER = "return registration.register(relayUrl, record, subscription, appUrl).catch(failed);"


def test_the_relays_key_is_that_of_its_settings(page: Page, relay: LiveRelay) -> None:
    found = run(page, relay, "return [...(await registration.vapidKey(relayUrl))];")
    assert bytes(found) == decode_base64url(vapid_key(VAPID).public_text)


def test_a_subscription_is_registered_and_unregistered(page: Page, relay: LiveRelay) -> None:
    registered = run(page, relay, REGISTER)
    assert registered["endpoint"] == ENDPOINT
    assert (parse(registered["token"]).app, parse(registered["token"]).endpoint) == (APP, ENDPOINT)
    unregister = "return registration.unregister(relayUrl, record).then(() => 'gone', failed);"
    assert [run(page, relay, unregister) for _ in range(2)] == ["gone", "gone"]


def test_a_subscription_of_another_key_or_service_is_the_relays_error(page: Page, relay: LiveRelay) -> None:
    other = list(decode_base64url(vapid_key(new_key()).public_text) or b"")
    for changes in ({"vapid": other}, {"endpoint": "https://push.example.com/a"}):
        assert run(page, relay, REGISTER, **changes) == {"error": "Problem", "code": "INVALID_REQUEST"}
    assert run(page, relay, REGISTER, endpoint="https://10.0.0.1/a")["code"] == "PUSH_TOKEN_MALFORMED"


def test_a_key_that_does_not_sign_registers_nothing(page: Page, relay: LiveRelay) -> None:
    body = "const forged = { ...record, localKey: (await createPlainKey()).localKey };"
    body += REGISTER.replace("record", "forged")
    assert run(page, relay, body) == {"error": "Problem", "code": "INVALID_SIGNATURE"}


def test_a_relay_without_web_push_has_no_key(page: Page, relay: LiveRelay) -> None:
    def without_key(route: Route) -> None:
        answer = route.fetch()
        members = {name: value for name, value in answer.json().items() if name != "webpush_key"}
        route.fulfill(response=answer, json=members)

    page.route("**/devices/register/challenge", without_key)
    assert run(page, relay, "return registration.vapidKey(relayUrl);") is None
    page.unroute("**/devices/register/challenge")


def test_a_relay_that_is_gone_is_offline(page: Page, relay: LiveRelay) -> None:
    found = run(page, relay, "return registration.vapidKey(relayUrl).catch(failed);", relayUrl="http://127.0.0.1:1")
    assert found == {"error": "Offline", "code": "OFFLINE"}
