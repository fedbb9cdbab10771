"""The Idempotency-Key of POST /challenge."""

from __future__ import annotations

import json
import secrets
from typing import Any

import pytest

from .integrator import ACTION, Integrator, approve, assert_error, assert_ok
from .server import Server, concurrently, send
from .wire import Device


def body_for(device: Device, **more: Any) -> bytes:
    return json.dumps({"device_public_key": device.public, "action": ACTION, **more}).encode()


def new_key() -> dict[str, str]:
    return {"Idempotency-Key": secrets.token_hex(8)}


def test_the_same_key_and_body_return_the_first_response(owner: Integrator, device: Device) -> None:
    key, body = new_key(), body_for(device)
    first, again = owner.post(body, **key), owner.post(body, **key)
    assert (first.status_code, again.status_code) == (201, 201)
    assert first.content == again.content
    assert "idempotent-replayed" not in first.headers
    assert again.headers["idempotent-replayed"] == "true"
    assert again.headers["cache-control"] == "no-store"


def test_a_replayed_response_has_the_same_match_code(owner: Integrator, device: Device) -> None:
    key, body = new_key(), body_for(device, number_matching=True)
    assert owner.post(body, **key).content == owner.post(body, **key).content


def test_another_body_is_a_conflict(owner: Integrator, device: Device) -> None:
    key, body = new_key(), body_for(device)
    assert_ok(owner.post(body, **key), 201)
    assert_error(owner.post(body_for(device, expires_in_seconds=60), **key), 409, "IDEMPOTENCY_CONFLICT")
    assert_error(owner.post(body + b" ", **key), 409, "IDEMPOTENCY_CONFLICT")
    assert owner.post(body, **key).headers["idempotent-replayed"] == "true"


def test_another_key_makes_another_challenge(owner: Integrator, device: Device) -> None:
    body = body_for(device)
    ids = {assert_ok(owner.post(body, **new_key()), 201)["challenge_id"] for _ in range(3)}
    assert len(ids) == 3


def test_each_owner_has_separate_idempotency_keys(owner: Integrator, other_owner: Integrator, device: Device) -> None:
    key, body = new_key(), body_for(device)
    first, other = owner.post(body, **key), other_owner.post(body, **key)
    assert assert_ok(first, 201)["challenge_id"] != assert_ok(other, 201)["challenge_id"]
    assert "idempotent-replayed" not in other.headers
    assert_ok(other_owner.post(body_for(Device()), **new_key()), 201)


def test_an_invalid_request_does_not_use_its_key(owner: Integrator, device: Device) -> None:
    key = new_key()
    assert_error(owner.post(b"{}", **key), 400, "INVALID_REQUEST")
    answer = owner.post(body_for(device), **key)
    assert answer.status_code == 201
    assert "idempotent-replayed" not in answer.headers


def test_a_request_over_the_limit_does_not_use_its_key(owner: Integrator, device: Device) -> None:
    challenges = [owner.challenge(device) for _ in range(5)]
    key, body = new_key(), body_for(device)
    assert_error(owner.post(body, **key), 429, "TOO_MANY_PENDING")
    assert_ok(owner.cancel(challenges[0]["challenge_id"]))
    answer = owner.post(body, **key)
    assert answer.status_code == 201
    assert "idempotent-replayed" not in answer.headers


def test_a_repeat_is_answered_although_the_limit_is_reached(owner: Integrator, device: Device) -> None:
    key, body = new_key(), body_for(device)
    first = owner.post(body, **key)
    for _ in range(4):
        owner.challenge(device)
    assert_error(owner.create(device), 429, "TOO_MANY_PENDING")
    assert owner.post(body, **key).content == first.content


def test_a_repeat_after_the_final_state_returns_the_first_response(owner: Integrator, device: Device) -> None:
    key, body = new_key(), body_for(device)
    first = owner.post(body, **key)
    approve(owner.server, device, assert_ok(first, 201))
    again = owner.post(body, **key)
    assert (again.status_code, again.content) == (201, first.content)
    assert again.headers["idempotent-replayed"] == "true"


def test_twenty_concurrent_requests_create_one_challenge(owner: Integrator, device: Device) -> None:
    key, body = new_key(), body_for(device)
    replies = concurrently(
        owner.server, 20, lambda connection, _: send(connection, "POST", "/challenge", body, key=owner.key, headers=key)
    )
    assert {reply.status for reply in replies} == {201}
    assert len({reply.body for reply in replies}) == 1
    assert sum("idempotent-replayed" not in reply.headers for reply in replies) == 1


@pytest.mark.parametrize("key", ["x", "!", "~" * 255])
def test_a_key_within_its_bounds_is_accepted(owner: Integrator, device: Device, key: str) -> None:
    assert_ok(owner.post(body_for(device), **{"Idempotency-Key": key}), 201)


@pytest.mark.parametrize("key", ["x" * 256, "a b", "caf\u00e9", ""])
def test_a_key_out_of_its_bounds_is_rejected(server: Server, owner: Integrator, device: Device, key: str) -> None:
    reply = server.fetch("POST", "/challenge", body_for(device), key=owner.key, headers={"Idempotency-Key": key})
    assert_error(reply, 400, "INVALID_REQUEST")
