"""Registration of a browser: what it gets, what is refused, and CORS on the routes of devices alone."""

from __future__ import annotations

from itertools import count
from typing import Any

import httpx
import pytest

from relay.web_push_settings import new_key, vapid_key
from sigil.device import Device
from sigil.protocol.encoding.text import decode_base64url
from tests.relay.devices_of_relay import registration
from tests.support.live_relay import LiveRelay
from tests.support.web_push import Subscription

NEW, OLD = new_key(), new_key()
ROUTES = ("/devices/register/challenge", "/devices/register", "/devices/unregister")
_numbers = count(2)


@pytest.fixture(scope="module")
def settings() -> dict[str, str]:
    return {"RELAY_WEBPUSH_KEY": f"{NEW},{OLD}"}


@pytest.fixture
def http(relay: LiveRelay) -> Any:
    """A client with an address of its own for each test: registrations are limited by address."""
    with relay.client(transport=httpx.HTTPTransport(local_address=f"127.0.5.{next(_numbers)}")) as client:
        yield client


def message(answer: httpx.Response) -> tuple[int, str, str]:
    error = answer.json()["error"]
    return answer.status_code, error["details"]["path"], error["message"]


def test_the_challenge_names_the_newest_key(http: httpx.Client) -> None:
    key = http.get("/devices/register/challenge").json()["webpush_key"]
    assert key == vapid_key(NEW).public_text
    assert len(decode_base64url(key) or b"") == 65


def test_a_subscription_with_either_key_is_registered(relay: LiveRelay, http: httpx.Client) -> None:
    for key in (NEW, OLD):
        token = Subscription(vapid_key(key).public_text).token()
        body = registration(Device.generate(), http, relay.url, "webpush", token)
        assert http.post("/devices/register", json=body).status_code == 201


@pytest.mark.parametrize(
    ("changed", "named"),
    [
        ({"endpoint": "https://push.example.com/x"}, "host of endpoint"),
        ({"endpoint": "https://127.0.0.1/x"}, "endpoint must have a host name"),
        ({"endpoint": "https://fcm.googleapis.com:8443/x"}, "endpoint must be an https URL"),
        ({"key": vapid_key(new_key()).public_text}, "key is not the webpush_key"),
        ({"auth": "AAAA"}, "auth must be 16 bytes"),
        ({"more": "x"}, "exactly the strings"),
    ],
)
def test_a_signed_subscription_that_is_not_accepted_is_refused_with_the_reason(
    relay: LiveRelay, http: httpx.Client, changed: dict[str, Any], named: str
) -> None:
    token = Subscription(vapid_key(NEW).public_text).token(**changed)
    answer = http.post("/devices/register", json=registration(Device.generate(), http, relay.url, "webpush", token))
    status, path, text = message(answer)
    assert (status, path) == (400, "$.push_token")
    assert named in text


def test_the_signature_covers_the_subscription(relay: LiveRelay, http: httpx.Client) -> None:
    mine, other = (Subscription(vapid_key(NEW).public_text).token() for _ in range(2))
    body = registration(Device.generate(), http, relay.url, "webpush", mine, push_token=other)
    assert http.post("/devices/register", json=body).status_code == 401


def test_a_relay_without_a_key_offers_none_and_refuses_the_platform() -> None:
    with LiveRelay() as relay, relay.client() as client:
        assert "webpush_key" not in client.get("/devices/register/challenge").json()
        token = Subscription(vapid_key(NEW).public_text).token()
        answer = client.post(
            "/devices/register", json=registration(Device.generate(), client, relay.url, "webpush", token)
        )
        assert message(answer)[:2] == (400, "$.push_platform")
        assert "RELAY_WEBPUSH_KEY" in message(answer)[2]


def cors(answer: httpx.Response) -> dict[str, str]:
    return {name: value for name, value in answer.headers.items() if name.startswith("access-control-")}


@pytest.mark.parametrize("path", ROUTES)
def test_a_preflight_allows_every_origin_and_content_type(http: httpx.Client, path: str) -> None:
    asks = {
        "Origin": "https://sigil.example.com",
        "Access-Control-Request-Method": "POST",
        "Access-Control-Request-Headers": "content-type",
    }
    answer = http.options(path, headers=asks)
    assert (answer.status_code, answer.content) == (204, b"")
    assert cors(answer) == {
        "access-control-allow-origin": "*",
        "access-control-expose-headers": "Date, Retry-After",
        "access-control-allow-methods": "GET, POST",
        "access-control-allow-headers": "content-type",
        "access-control-max-age": "86400",
    }


def test_every_answer_of_these_routes_can_be_read_by_a_page_errors_too(http: httpx.Client) -> None:
    origin = {"Origin": "null"}
    answers = {
        200: http.get("/devices/register/challenge", headers=origin),
        400: http.post("/devices/register", json={}, headers=origin),
        405: http.put("/devices/unregister", headers=origin),
        413: http.post("/devices/register", content=b"x" * 40_000, headers=origin),
        429: [http.post("/devices/unregister", json={}, headers=origin) for _ in range(40)][-1],
    }
    assert {status: answer.status_code for status, answer in answers.items()} == {status: status for status in answers}
    for answer in answers.values():
        assert answer.headers["access-control-allow-origin"] == "*"
        assert "access-control-allow-credentials" not in answer.headers


@pytest.mark.parametrize(
    "path", ["/push", "/push/outcomes", "/push/history", "/servers/register", "/health", "/none", "/metrics"]
)
def test_no_other_route_allows_another_origin(http: httpx.Client, path: str) -> None:
    headers = {"Origin": "https://sigil.example.com", "Access-Control-Request-Method": "POST"}
    for method in ("OPTIONS", "GET", "POST"):
        assert not cors(http.request(method, path, headers=headers))
