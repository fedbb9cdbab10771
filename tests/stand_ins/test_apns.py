"""Requests that APNs accepts and rejects, as Apple documents it."""

from __future__ import annotations

import json
import time
import uuid
from typing import Any

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from tests.stand_ins.clients import ALERT, ApnsClient
from tests.support.providers import Providers, apns_token, provider_token


def unknown_key() -> str:
    return (
        ec.generate_private_key(ec.SECP256R1())
        .private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        .decode()
    )


def test_a_valid_push_is_accepted_with_its_id_and_reaches_the_device(providers: Providers, apns: ApnsClient) -> None:
    device, identifier = apns_token(), str(uuid.uuid4())
    answer = apns.push(device, apns_id=identifier, apns_collapse_id="c" * 64)
    assert (answer.http_version, answer.status_code, answer.content) == ("HTTP/2", 200, b"")
    assert answer.headers["apns-id"] == identifier
    [seen] = providers.seen("apns", token=device)
    assert seen["sigil"] == ALERT["sigil"]
    assert seen["body"] == ALERT
    assert seen["headers"]["apns-collapse-id"] == "c" * 64
    assert "authorization" not in seen["headers"]


def test_a_push_without_an_id_gets_one(apns: ApnsClient) -> None:
    assert uuid.UUID(apns.push(apns_id=None).headers["apns-id"])


def test_a_background_push_of_priority_5_is_accepted(apns: ApnsClient) -> None:
    clear = {"aps": {"content-available": 1}, "sigil": '{"type":"clear"}'}
    assert apns.push(body=clear, apns_push_type="background", apns_priority="5").status_code == 200


@pytest.mark.parametrize(
    ("changed", "status", "reason"),
    [
        ({"authorization": None}, 403, "MissingProviderToken"),
        ({"authorization": "basic abc"}, 403, "MissingProviderToken"),
        ({"authorization": "bearer abc"}, 403, "InvalidProviderToken"),
        ({"apns_topic": None}, 400, "MissingTopic"),
        ({"apns_topic": "not a topic"}, 400, "BadTopic"),
        ({"apns_topic": "com.example.other"}, 400, "TopicDisallowed"),
        ({"apns_push_type": None}, 400, "InvalidPushType"),
        ({"apns_push_type": "shout"}, 400, "InvalidPushType"),
        ({"apns_push_type": "background", "apns_priority": "5"}, 400, "InvalidPushType"),
        ({"apns_push_type": "background"}, 400, "BadPriority"),
        ({"apns_priority": "7"}, 400, "BadPriority"),
        ({"apns_expiration": "soon"}, 400, "BadExpirationDate"),
        ({"apns_expiration": "-1"}, 400, "BadExpirationDate"),
        ({"apns_id": "1"}, 400, "BadMessageId"),
        ({"apns_collapse_id": "c" * 65}, 400, "BadCollapseId"),
        ({"method": "GET"}, 405, "MethodNotAllowed"),
        ({"path": "/4/device/" + "ab" * 32}, 404, "BadPath"),
        ({"path": "/3/device/"}, 400, "MissingDeviceToken"),
        ({"token": "xyz"}, 400, "BadDeviceToken"),
        ({"token": "ab"}, 400, "BadDeviceToken"),
        ({"body": b""}, 400, "PayloadEmpty"),
        ({"body": b"{"}, 400, "PayloadEmpty"),
        ({"body": b"\xff"}, 400, "PayloadEmpty"),
        ({"body": b'{"aps":' * 3000}, 413, "PayloadTooLarge"),
        ({"body": {"sigil": "{}"}}, 400, "PayloadEmpty"),
        ({"body": {"aps": "loud"}}, 400, "PayloadEmpty"),
        ({"body": {"aps": {"mutable-content": 1}}}, 400, "InvalidPushType"),
        ({"body": ALERT | {"filling": "x" * 4096}}, 413, "PayloadTooLarge"),
        ({"body": ALERT | {"filling": "x" * 40_000}}, 413, "PayloadTooLarge"),
    ],
)
def test_an_invalid_request_is_rejected_with_the_reason_of_apple(
    providers: Providers, apns: ApnsClient, changed: dict[str, Any], status: int, reason: str
) -> None:
    answer = apns.push(**changed)
    assert (answer.status_code, answer.json()) == (status, {"reason": reason})
    assert uuid.UUID(answer.headers["apns-id"])
    assert providers.counters("apns")["outcomes"] == {reason: 1}
    assert providers.seen() == []


def test_a_payload_of_4096_bytes_is_the_largest(apns: ApnsClient) -> None:
    body = json.dumps(ALERT | {"filling": ""}).encode()
    fitting = body.replace(b'"filling": ""', b'"filling": "%s"' % (b"x" * (4096 - len(body))))
    assert len(fitting) == 4096
    assert apns.push(body=fitting).status_code == 200
    assert apns.push(body=fitting + b" ").status_code == 413


def test_a_connection_accepts_more_than_its_initial_window(providers: Providers, apns: ApnsClient) -> None:
    body = ALERT | {"filling": "x" * 4000}
    assert {apns.push(body=body).status_code for _ in range(280)} == {200}
    assert providers.counters("apns")["connections_accepted"] == 1


@pytest.mark.parametrize(
    "changed",
    [
        {"kid": "ABCDEFGHIJ"},
        {"kid": None},
        {"iss": "ABCDEFGHIJ"},
        {"iss": None},
        {"iat": None},
        {"iat": "now"},
        {"iat": int(time.time()) + 3600},
        {"key": unknown_key()},
        {"key": "x" * 32, "alg": "HS256"},
    ],
)
def test_a_provider_token_of_another_team_is_invalid(
    providers: Providers, apns: ApnsClient, changed: dict[str, Any]
) -> None:
    answer = apns.push(authorization=f"bearer {provider_token(providers.env, **changed)}")
    assert (answer.status_code, answer.json()) == (403, {"reason": "InvalidProviderToken"})


def test_a_provider_token_older_than_an_hour_is_expired(providers: Providers, apns: ApnsClient) -> None:
    old = provider_token(providers.env, iat=int(time.time()) - 3700)
    answer = apns.push(authorization=f"bearer {old}")
    assert (answer.status_code, answer.json()) == (403, {"reason": "ExpiredProviderToken"})


def test_the_lifetime_of_a_provider_token_can_be_set(providers: Providers, apns: ApnsClient) -> None:
    assert apns.push().status_code == 200
    providers.settings("apns", token_lifetime=-2)
    assert apns.push().json() == {"reason": "ExpiredProviderToken"}


def test_a_second_provider_token_is_too_early_on_one_connection_and_valid_on_another(
    providers: Providers, apns: ApnsClient
) -> None:
    other = f"bearer {provider_token(providers.env, iat=int(time.time()) - 60)}"
    assert apns.push().status_code == 200
    answer = apns.push(authorization=other)
    assert (answer.status_code, answer.json()) == (429, {"reason": "TooManyProviderTokenUpdates"})
    assert apns.push().status_code == 200
    with providers.client(base_url=providers.apns_url) as second:
        assert ApnsClient(providers, second).push(authorization=other).status_code == 200
    providers.settings("apns", token_interval=0)
    assert apns.push(authorization=other).status_code == 200


def test_each_provider_token_is_counted_once(providers: Providers, apns: ApnsClient) -> None:
    before = providers.counters("apns")["provider_tokens"]
    apns.push()
    apns.push()
    apns.push(authorization=f"bearer {provider_token(providers.env, key=unknown_key())}")
    assert providers.counters("apns")["provider_tokens"] == before + 1


def test_repeated_headers_are_rejected(providers: Providers, apns: ApnsClient) -> None:
    token = f"bearer {provider_token(providers.env)}"
    headers = [("apns-topic", "com.example.sigil"), ("apns-topic", "com.example.sigil"), ("authorization", token)]
    answer = apns.client.post(f"/3/device/{apns_token()}", json=ALERT, headers=headers)
    assert (answer.status_code, answer.json()) == (400, {"reason": "DuplicateHeaders"})


@pytest.mark.parametrize(
    ("outcome", "status"),
    [
        ("BadDeviceToken", 400),
        ("DeviceTokenNotForTopic", 400),
        ("InvalidProviderToken", 403),
        ("TooManyRequests", 429),
        ("TooManyProviderTokenUpdates", 429),
        ("InternalServerError", 500),
        ("ServiceUnavailable", 503),
        ("Shutdown", 503),
    ],
)
def test_a_valid_push_can_be_rejected_for_any_reason(
    providers: Providers, apns: ApnsClient, outcome: str, status: int
) -> None:
    providers.script("apns", token="dead", outcome=outcome, retry_after="7")
    answer = apns.push(apns_token("dead"))
    assert (answer.status_code, answer.json()) == (status, {"reason": outcome})
    assert answer.headers["retry-after"] == "7"
    assert apns.push(apns_token("beef")).status_code == 200
    assert [seen["token"][:4] for seen in providers.seen()] == ["beef"]


def test_unregistered_has_a_timestamp(providers: Providers, apns: ApnsClient) -> None:
    providers.script("apns", token="aa", outcome="Unregistered", timestamp=1_767_225_600_000)
    providers.script("apns", outcome="Unregistered")
    answer = apns.push(apns_token("aa"))
    assert (answer.status_code, answer.json()) == (410, {"reason": "Unregistered", "timestamp": 1_767_225_600_000})
    assert abs(apns.push(apns_token("bb")).json()["timestamp"] / 1000 - time.time()) < 100


def test_an_invalid_request_is_rejected_before_any_rule_applies(providers: Providers, apns: ApnsClient) -> None:
    providers.script("apns", outcome="Unregistered")
    assert apns.push(authorization=None).json() == {"reason": "MissingProviderToken"}
