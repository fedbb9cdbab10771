"""The endpoints of browsers: the checks of Web Push, rules, and a subscription's end. No browser runs here."""

from __future__ import annotations

import json
import os
import time
from typing import Any

import httpx
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from tests.browser.push.page import Sender, Subscribed
from tests.support.providers import Providers

MOZILLA = "https://updates.push.services.mozilla.com"
GOOGLE = "https://fcm.googleapis.com"
TOKEN = "t" * 40
ENDPOINTS = {MOZILLA: f"{MOZILLA}/wpush/v2/{TOKEN}", GOOGLE: f"{GOOGLE}/fcm/send/{TOKEN}"}


@pytest.fixture
def sender(providers: Providers) -> Sender:
    return Sender(providers)


def body(**changed: bytes) -> bytes:
    """A browser's key encrypts it; `salt`, `size`, `key_size` and `key` replace parts of its header."""
    point = serialization.Encoding.X962, serialization.PublicFormat.UncompressedPoint
    browser = ec.generate_private_key(ec.SECP256R1()).public_key().public_bytes(*point)
    made = Subscribed("", browser, os.urandom(16)).encrypt("text")
    parts = {"salt": made[:16], "size": made[16:20], "key_size": made[20:21], "key": made[21:86], "rest": made[86:]}
    return b"".join((parts | changed).values())


@pytest.mark.parametrize("service", ENDPOINTS)
def test_a_valid_push_is_accepted_and_recorded(providers: Providers, sender: Sender, service: str) -> None:
    before = providers.last()
    answer = sender.post(ENDPOINTS[service], body(), topic="t" * 32)
    assert (answer.status_code, answer.headers["ttl"]) == (201, "60")
    (seen,) = providers.seen("webpush", after=before)
    assert (seen["token"], seen["headers"]["topic"]) == (TOKEN, "t" * 32)
    assert providers.counters("webpush")["outcomes"] == {"Success": 1}


def test_a_push_without_a_body_needs_no_encoding(providers: Providers, sender: Sender) -> None:
    assert sender.post(ENDPOINTS[GOOGLE], b"").status_code == 201


FORGED: dict[str, tuple[int, str, dict[str, Any]]] = {
    "another audience": (403, "aud must be", {"aud": GOOGLE}),
    "an audience with a path": (403, "aud must be", {"aud": f"{MOZILLA}/"}),
    "an expired token": (403, "exp must be", {"exp": int(time.time()) - 1}),
    "a token of more than 24 hours": (403, "exp must be", {"exp": int(time.time()) + 90_000}),
    "a token without an end": (403, "exp must be", {"exp": None}),
    "a text as its end": (403, "exp must be", {"exp": "soon"}),
    "a contact that is no address": (403, "sub must be", {"sub": "admin"}),
    "another key's signature": (403, "signature is invalid", {"key": ec.generate_private_key(ec.SECP256R1())}),
}


@pytest.mark.parametrize("case", FORGED)
def test_a_token_that_proves_nothing_is_rejected(sender: Sender, case: str) -> None:
    status, message, changed = FORGED[case]
    answer = sender.post(
        ENDPOINTS[MOZILLA], body(), authorization=sender.authorization(**{"origin": MOZILLA, **changed})
    )
    assert answer.status_code == status
    assert message in answer.json()["message"]
    assert answer.json()["errno"] == 109


@pytest.mark.parametrize("authorization", [None, "Bearer x", "vapid t=x", "vapid k=x", "WebPush x"])
def test_a_push_without_a_token_is_unauthorized(sender: Sender, authorization: str | None) -> None:
    assert sender.post(ENDPOINTS[GOOGLE], body(), authorization=authorization).status_code == 401


def test_a_contact_is_not_required(sender: Sender) -> None:
    authorization = sender.authorization(GOOGLE, sub=None)
    assert sender.post(ENDPOINTS[GOOGLE], body(), authorization=authorization).status_code == 201


@pytest.mark.parametrize(
    "headers",
    [
        {"ttl": None}, {"ttl": "-1"}, {"ttl": "2419201"}, {"ttl": "1.5"}, {"urgency": "urgent"}, {"topic": "t" * 33},
        {"topic": "a b"}, {"topic": ""}, {"content_encoding": None}, {"content_encoding": "aesgcm"},
    ],
    ids=str,
)  # fmt: skip
def test_headers_must_have_the_form_of_rfc_8030(sender: Sender, headers: dict[str, str | None]) -> None:
    assert sender.post(ENDPOINTS[MOZILLA], body(), **headers).status_code == 400


@pytest.mark.parametrize(
    "changed",
    [
        {"key_size": b"\x00"}, {"key": b"\x04" + bytes(64)}, {"key": bytes(65)}, {"size": (20).to_bytes(4, "big")},
        {"rest": b""},
    ],
    ids=" ".join,
)  # fmt: skip
def test_a_body_must_have_the_header_of_aes128gcm(sender: Sender, changed: dict[str, bytes]) -> None:
    assert sender.post(ENDPOINTS[MOZILLA], body(**changed)).status_code == 400


def test_a_body_has_at_most_4096_bytes(sender: Sender) -> None:
    longest = body(rest=bytes(4096 - 86), size=(4096).to_bytes(4, "big"))
    assert sender.post(ENDPOINTS[MOZILLA], longest).status_code == 201
    assert sender.post(ENDPOINTS[MOZILLA], longest + b"\0").status_code == 413


@pytest.mark.parametrize("path", ["/", "/fcm/send/", "/fcm/send/short", f"/other/{TOKEN}", f"/wpush/v2/{TOKEN}/x"])
def test_another_path_is_no_endpoint(sender: Sender, path: str) -> None:
    assert sender.post(f"{MOZILLA}{path}", body()).status_code == 404


def test_only_known_tokens_where_the_setting_demands_it(providers: Providers, sender: Sender) -> None:
    providers.settings("webpush", known_only=True)
    assert sender.post(ENDPOINTS[MOZILLA], body()).status_code == 404
    providers.reset()
    assert sender.post(ENDPOINTS[MOZILLA], body()).status_code == 201


@pytest.mark.parametrize(
    ("outcome", "status"), [("Gone", 410), ("NotFound", 404), ("Unauthorized", 401), ("TooManyRequests", 429)]
)
def test_rules_decide_the_outcome_of_valid_pushes(
    providers: Providers, sender: Sender, outcome: str, status: int
) -> None:
    before = providers.last()
    providers.script("webpush", token="ttt", outcome=outcome, retry_after="7", times=1)
    answer = sender.post(ENDPOINTS[MOZILLA], body())
    assert (answer.status_code, answer.headers["retry-after"]) == (status, "7")
    assert providers.seen("webpush", after=before) == []
    assert sender.post(ENDPOINTS[MOZILLA], body()).status_code == 201


def test_a_rule_redirects_or_answers_with_a_huge_body(providers: Providers, sender: Sender) -> None:
    providers.script("webpush", status=307, location="https://127.0.0.1/", times=1)
    providers.script("webpush", status=500, body="x", body_size=3_000_000, times=1)
    redirect = sender.post(ENDPOINTS[GOOGLE], body())
    assert (redirect.status_code, redirect.headers["location"]) == (307, "https://127.0.0.1/")
    assert len(sender.post(ENDPOINTS[GOOGLE], body()).content) == 3_000_000


def test_a_rule_with_an_impossible_body_or_outcome_is_an_error(providers: Providers) -> None:
    for rule in ({"status": 500, "body_size": -1}, {"status": 500, "body_size": 2**30}, {"outcome": "Unregistered"}):
        with pytest.raises(AssertionError, match=r"body_size: must be 0 to|has no outcome"):
            providers.script("webpush", **rule)


# What a browser does


def registered(providers: Providers, sender: Sender, app: str, **changed: str) -> httpx.Response:
    """A check-in and a registration, as Chromium does them; `changed` replaces members of the form."""
    options = dict(option.removeprefix("--").split("=", 1) for option in providers.chromium_options)
    with httpx.Client(trust_env=False) as client:
        checked_in = client.post(options["gcm-checkin-url"]).content
        # The two fixed64 fields at its end.
        device, secret = (int.from_bytes(raw, "little") for raw in (checked_in[-17:-9], checked_in[-8:]))
        form = {"device": f"{device}", "X-subtype": app, "sender": sender.public_text, **changed}
        headers = {"authorization": f"AidLogin {device}:{secret}"}
        return client.post(options["gcm-registration-url"], data=form, headers=headers)


def test_a_registered_subscription_is_bound_to_its_key_until_it_expires(providers: Providers, sender: Sender) -> None:
    token = registered(providers, sender, "wp:http://localhost/#1").text.removeprefix("token=")
    known = {one["token"]: one["app"] for one in providers.control("GET", "/subscriptions")}
    assert known[token] == "wp:http://localhost/#1"
    endpoint = f"{GOOGLE}/fcm/send/{token}"
    assert sender.post(endpoint, body()).status_code == 201
    assert Sender(providers).post(endpoint, body()).status_code == 403
    providers.control("POST", "/expire", {"token": token})
    assert sender.post(endpoint, body()).status_code == 410


def test_a_registration_needs_a_check_in(providers: Providers, sender: Sender) -> None:
    answer = registered(providers, sender, "wp:x", device="1")
    assert (answer.status_code, answer.text) == (401, "Error=AUTHENTICATION_FAILED")


def test_the_published_settings_lead_a_relay_and_browsers_here(providers: Providers) -> None:
    address = providers.webpush_url.removeprefix("https://")
    hosts = dict(one.split("=") for one in providers.webpush_env["RELAY_WEBPUSH_HOSTS"].split())
    assert hosts == dict.fromkeys(
        ["fcm.googleapis.com", "jmt17.google.com", "updates.push.services.mozilla.com"], address
    )
    assert "RELAY_WEBPUSH_HOSTS" not in providers.env
    assert json.dumps(providers.firefox_preferences["dom.push.serverURL"]).startswith('"ws://127.0.0.1:')
