"""POST /device/pending: what a device fetches when a push was lost."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest

from .integrator import ACTION, Integrator, approval, approve, good, post, refused, rejection, respond
from .server import Server, ask, at_once
from .wire import (
    AUTH,
    PENDING,
    SUITES,
    Device,
    ServerIdentity,
    bound_bytes,
    message_of,
    rfc3339,
    unb64,
    verifies,
)


def fetch(server: Server, device: Device) -> list[dict[str, Any]]:
    body = good(post(server, "/device/pending", device.pending_body(server.identity.server_id)))
    assert set(body) == {"challenges", "mpa"}
    assert body["mpa"] == []
    return body["challenges"]


@pytest.mark.parametrize("matching", [False, True])
@pytest.mark.parametrize("suite", SUITES)
def test_a_payload_has_exactly_the_documented_members(owner: Integrator, suite: str, matching: bool) -> None:
    device = Device(suite)
    challenge = owner.challenge(device, number_matching=matching)
    (payload,) = fetch(owner.server, device)
    copied = ("challenge_id", "challenge_bytes", "nonce", "fingerprint", "server_signature", "expires_at")
    assert payload == {
        "type": "challenge",
        "server_id": owner.server.identity.server_id,
        "action": ACTION,
        "number_matching": matching,
        **{member: challenge[member] for member in copied},
    }


@pytest.mark.parametrize("suite", SUITES)
def test_a_device_can_verify_and_answer_a_payload_alone(owner: Integrator, suite: str) -> None:
    device = Device(suite)
    owner.challenge(device)
    (payload,) = fetch(owner.server, device)
    identity = owner.server.identity
    bound = bound_bytes(payload, identity.server_id, number_matching=payload["number_matching"])
    assert payload["challenge_bytes"] == bound
    message = message_of(payload["challenge_bytes"], payload["action"], AUTH)
    assert verifies(identity.keys[suite].public, message, unb64(payload["server_signature"]))
    good(respond(owner.server, approval(device, payload, payload["action"])))


def test_the_code_is_never_told_to_a_device(owner: Integrator, device: Device) -> None:
    challenge = owner.challenge(device, number_matching=True)
    answer = post(owner.server, "/device/pending", device.pending_body(owner.server.identity.server_id))
    assert "match_code" not in answer.text
    assert f'"{challenge["match_code"]}"' not in json.dumps(good(answer))


def test_a_payload_carries_respond_to_where_there_is_one(public_server: Server) -> None:
    device = Device()
    Integrator(public_server, public_server.identity.api_key()).challenge(device)
    (payload,) = fetch(public_server, device)
    assert payload["respond_to"] == "https://sigil.example.com/respond"
    assert payload["number_matching"] is True


def test_all_owners_challenges_are_listed_and_no_final_ones(
    owner: Integrator, other_owner: Integrator, device: Device
) -> None:
    made = [owner.challenge(device) for _ in range(4)] + [other_owner.challenge(device)]
    approve(owner.server, device, made[0])
    good(respond(owner.server, rejection(device, made[1])))
    good(owner.cancel(made[2]["challenge_id"]))
    owner.challenge(Device())
    listed = {payload["challenge_id"] for payload in fetch(owner.server, device)}
    assert listed == {made[3]["challenge_id"], made[4]["challenge_id"]}


def test_a_device_that_nobody_knows_gets_empty_lists(server: Server, device: Device) -> None:
    answer = post(server, "/device/pending", device.pending_body(server.identity.server_id))
    assert good(answer) == {"challenges": [], "mpa": []}
    assert answer.headers["cache-control"] == "no-store"


def test_a_timestamp_works_once(owner: Integrator, device: Device) -> None:
    owner.challenge(device)
    body = device.pending_body(owner.server.identity.server_id)
    good(post(owner.server, "/device/pending", body))
    for _ in range(6):
        refused(owner.server.fetch("POST", "/device/pending", body), 401, "INVALID_SIGNATURE")
    assert len(fetch(owner.server, device)) == 1


def test_one_timestamp_at_once_works_once(server: Server, owner: Integrator, device: Device) -> None:
    owner.challenge(device)
    body = device.pending_body(server.identity.server_id)
    replies = at_once(server, 20, lambda connection, _: ask(connection, "POST", "/device/pending", body))
    assert sorted(reply.status for reply in replies) == [200] + [401] * 19


def test_two_devices_may_use_the_same_timestamp(server: Server) -> None:
    timestamp = rfc3339(int(time.time()))
    for device in (Device(), Device("Ed25519")):
        good(post(server, "/device/pending", device.pending_body(server.identity.server_id, timestamp)))


@pytest.mark.parametrize("skew", [-3600, -61, 65, 3600])
def test_a_timestamp_more_than_a_minute_off_is_refused(server: Server, device: Device, skew: int) -> None:
    body = device.pending_body(server.identity.server_id, rfc3339(int(time.time()) + skew))
    refused(post(server, "/device/pending", body), 401, "INVALID_SIGNATURE")


@pytest.mark.parametrize("skew", [-50, 55])
def test_a_timestamp_within_a_minute_is_good(server: Server, device: Device, skew: int) -> None:
    body = device.pending_body(server.identity.server_id, rfc3339(int(time.time()) + skew))
    good(post(server, "/device/pending", body))


def test_a_wrong_signature_does_not_use_up_a_timestamp(server: Server, device: Device) -> None:
    right = device.pending_body(server.identity.server_id)
    stranger = Device().pending_body(server.identity.server_id, right["timestamp"])
    refused(post(server, "/device/pending", {**right, "signature": stranger["signature"]}), 401, "INVALID_SIGNATURE")
    good(post(server, "/device/pending", right))


def test_a_signature_for_another_server_time_or_use_is_refused(server: Server, device: Device) -> None:
    server_id = server.identity.server_id
    for body in (
        device.pending_body(ServerIdentity().server_id),
        {**device.pending_body(server_id), "timestamp": rfc3339(int(time.time()) - 20)},
    ):
        refused(post(server, "/device/pending", body), 401, "INVALID_SIGNATURE")
    body = device.pending_body(server_id)
    for message in (AUTH + PENDING, PENDING + server_id.encode() + body["timestamp"].encode()):
        body["signature"] = device.sign(message)
        refused(post(server, "/device/pending", body), 401, "INVALID_SIGNATURE")


def test_the_servers_own_key_is_no_device(server: Server) -> None:
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
def test_a_member_that_is_wrong_is_named(server: Server, device: Device, member: str, wrong: Any) -> None:
    body = {**device.pending_body(server.identity.server_id), member: wrong}
    refused(post(server, "/device/pending", body), 400, "INVALID_REQUEST", member)


def test_a_key_that_is_none_is_refused(server: Server, device: Device) -> None:
    body = {**device.pending_body(server.identity.server_id), "device_public_key": "BQUF" * 11}
    refused(post(server, "/device/pending", body), 400, "INVALID_PUBLIC_KEY")
