"""POST /device/pending: a device fetches its pending challenges after a push was lost."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest

from .integrator import ACTION, Integrator, approval, approve, assert_error, assert_ok, post, rejection, respond
from .server import Server, concurrently, send
from .wire import (
    AUTH,
    PENDING,
    SUITES,
    Device,
    ServerIdentity,
    bound_bytes,
    rfc3339,
    signed_message,
    unb64,
    verifies,
)


def fetch_challenges(server: Server, device: Device) -> list[dict[str, Any]]:
    body = assert_ok(post(server, "/device/pending", device.pending_body(server.identity.server_id)))
    assert set(body) == {"challenges", "mpa"}
    assert body["mpa"] == []
    return body["challenges"]


@pytest.mark.parametrize("matching", [False, True])
@pytest.mark.parametrize("suite", SUITES)
def test_a_payload_has_exactly_the_documented_members(owner: Integrator, suite: str, matching: bool) -> None:
    device = Device(suite)
    challenge = owner.challenge(device, number_matching=matching)
    (payload,) = fetch_challenges(owner.server, device)
    copied = ("challenge_id", "challenge_bytes", "nonce", "fingerprint", "server_signature", "expires_at")
    assert payload == {
        "type": "challenge",
        "server_id": owner.server.identity.server_id,
        "action": ACTION,
        "number_matching": matching,
        **{member: challenge[member] for member in copied},
    }


@pytest.mark.parametrize("suite", SUITES)
def test_a_device_verifies_and_answers_a_challenge_from_its_payload_alone(owner: Integrator, suite: str) -> None:
    device = Device(suite)
    owner.challenge(device)
    (payload,) = fetch_challenges(owner.server, device)
    identity = owner.server.identity
    bound = bound_bytes(payload, identity.server_id, number_matching=payload["number_matching"])
    assert payload["challenge_bytes"] == bound
    message = signed_message(payload["challenge_bytes"], payload["action"], AUTH)
    assert verifies(identity.keys[suite].public, message, unb64(payload["server_signature"]))
    assert_ok(respond(owner.server, approval(device, payload, payload["action"])))


def test_a_payload_never_contains_the_match_code(owner: Integrator, device: Device) -> None:
    challenge = owner.challenge(device, number_matching=True)
    answer = post(owner.server, "/device/pending", device.pending_body(owner.server.identity.server_id))
    assert "match_code" not in answer.text
    assert f'"{challenge["match_code"]}"' not in json.dumps(assert_ok(answer))


def test_with_a_public_url_a_payload_has_respond_to(public_server: Server) -> None:
    device = Device()
    Integrator(public_server, public_server.identity.api_key()).challenge(device)
    (payload,) = fetch_challenges(public_server, device)
    assert payload["respond_to"] == "https://sigil.example.com/respond"
    assert payload["number_matching"] is True


def test_pending_challenges_of_all_owners_are_listed_and_no_final_ones(
    owner: Integrator, other_owner: Integrator, device: Device
) -> None:
    challenges = [owner.challenge(device) for _ in range(4)] + [other_owner.challenge(device)]
    approve(owner.server, device, challenges[0])
    assert_ok(respond(owner.server, rejection(device, challenges[1])))
    assert_ok(owner.cancel(challenges[2]["challenge_id"]))
    owner.challenge(Device())
    listed = {payload["challenge_id"] for payload in fetch_challenges(owner.server, device)}
    assert listed == {challenges[3]["challenge_id"], challenges[4]["challenge_id"]}


def test_an_unknown_device_gets_empty_lists(server: Server, device: Device) -> None:
    answer = post(server, "/device/pending", device.pending_body(server.identity.server_id))
    assert assert_ok(answer) == {"challenges": [], "mpa": []}
    assert answer.headers["cache-control"] == "no-store"


def test_a_timestamp_works_once(owner: Integrator, device: Device) -> None:
    owner.challenge(device)
    body = device.pending_body(owner.server.identity.server_id)
    assert_ok(post(owner.server, "/device/pending", body))
    for _ in range(6):
        assert_error(owner.server.fetch("POST", "/device/pending", body), 401, "INVALID_SIGNATURE")
    assert len(fetch_challenges(owner.server, device)) == 1


def test_of_concurrent_requests_with_one_timestamp_one_succeeds(
    server: Server, owner: Integrator, device: Device
) -> None:
    owner.challenge(device)
    body = device.pending_body(server.identity.server_id)
    replies = concurrently(server, 20, lambda connection, _: send(connection, "POST", "/device/pending", body))
    assert sorted(reply.status for reply in replies) == [200] + [401] * 19


def test_two_devices_may_use_the_same_timestamp(server: Server) -> None:
    timestamp = rfc3339(int(time.time()))
    for device in (Device(), Device("Ed25519")):
        assert_ok(post(server, "/device/pending", device.pending_body(server.identity.server_id, timestamp)))


@pytest.mark.parametrize("skew", [-3600, -61, 65, 3600])
def test_a_timestamp_more_than_a_minute_off_is_rejected(server: Server, device: Device, skew: int) -> None:
    body = device.pending_body(server.identity.server_id, rfc3339(int(time.time()) + skew))
    assert_error(post(server, "/device/pending", body), 401, "INVALID_SIGNATURE")


@pytest.mark.parametrize("skew", [-50, 55])
def test_a_timestamp_within_a_minute_is_accepted(server: Server, device: Device, skew: int) -> None:
    body = device.pending_body(server.identity.server_id, rfc3339(int(time.time()) + skew))
    assert_ok(post(server, "/device/pending", body))


def test_a_wrong_signature_does_not_use_up_a_timestamp(server: Server, device: Device) -> None:
    right = device.pending_body(server.identity.server_id)
    other_device = Device().pending_body(server.identity.server_id, right["timestamp"])
    assert_error(
        post(server, "/device/pending", {**right, "signature": other_device["signature"]}), 401, "INVALID_SIGNATURE"
    )
    assert_ok(post(server, "/device/pending", right))


def test_a_signature_for_another_server_timestamp_or_purpose_is_rejected(server: Server, device: Device) -> None:
    server_id = server.identity.server_id
    for body in (
        device.pending_body(ServerIdentity().server_id),
        {**device.pending_body(server_id), "timestamp": rfc3339(int(time.time()) - 20)},
    ):
        assert_error(post(server, "/device/pending", body), 401, "INVALID_SIGNATURE")
    body = device.pending_body(server_id)
    for message in (AUTH + PENDING, PENDING + server_id.encode() + body["timestamp"].encode()):
        body["signature"] = device.sign(message)
        assert_error(post(server, "/device/pending", body), 401, "INVALID_SIGNATURE")


def test_the_keys_of_the_server_are_rejected_as_device_keys(server: Server) -> None:
    for suite in SUITES:
        body = Device(suite, server.identity.keys[suite]).pending_body(server.identity.server_id)
        assert post(server, "/device/pending", body).status_code in {400, 401}


@pytest.mark.parametrize(
    ("member", "wrong"),
    [
        ("device_public_key", 7),
        ("device_public_key", None),
        ("device_public_key", "AA"),
        ("timestamp", 1700000000),
        ("timestamp", None),
        ("timestamp", "2026-04-24T10:32:15.000Z"),
        ("timestamp", "2026-04-24T10:32:15+00:00"),
        ("timestamp", "2026-04-24t10:32:15z"),
        ("timestamp", "2026-04-24 10:32:15Z"),
        ("timestamp", "2026-13-24T10:32:15Z"),
        ("timestamp", "2026-02-30T10:32:15Z"),
        ("timestamp", "٢٠٢٦-04-24T10:32:15Z"),
        ("timestamp", ""),
        ("signature", 7),
        ("signature", None),
        ("signature", "not base64!"),
        ("fingerprint", "unknown member"),
    ],
)
def test_an_invalid_member_is_named(server: Server, device: Device, member: str, wrong: Any) -> None:
    body = {**device.pending_body(server.identity.server_id), member: wrong}
    assert_error(post(server, "/device/pending", body), 400, "INVALID_REQUEST", member)


def test_an_invalid_public_key_is_rejected(server: Server, device: Device) -> None:
    body = {**device.pending_body(server.identity.server_id), "device_public_key": "BQUF" * 11}
    assert_error(post(server, "/device/pending", body), 400, "INVALID_PUBLIC_KEY")
