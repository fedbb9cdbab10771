"""API keys: valid and invalid keys, and each key sees its own challenges alone."""

from __future__ import annotations

import secrets
import uuid

import pytest

from .conftest import PRESET, PRESET_SHAPED, REVOKED_ID, REVOKED_SHORT
from .integrator import ACTION, Integrator, approve, assert_error, assert_ok
from .server import Server
from .wire import Device, ServerIdentity


def is_accepted(server: Server, key: str) -> bool:
    """Whether the server accepts the key for an unknown challenge: 404 for a valid key, 401 for an invalid one."""
    answer = Integrator(server, key).status(str(uuid.uuid4()))
    assert answer.status_code in {401, 404}
    return answer.status_code == 404


@pytest.mark.parametrize("prefix", ["sgk_test_", "sgk_live_"])
def test_a_key_derived_from_the_mnemonic_is_accepted(server: Server, prefix: str) -> None:
    owner = Integrator(server, server.identity.api_key(prefix))
    assert owner.state(owner.challenge(Device())["challenge_id"])["status"] == "pending"


@pytest.mark.parametrize("preset", [PRESET, PRESET_SHAPED])
def test_a_preset_key_of_any_form_is_accepted(server: Server, preset: str) -> None:
    owner = Integrator(server, preset)
    assert owner.state(owner.challenge(Device())["challenge_id"])["status"] == "pending"


def test_each_preset_key_is_a_separate_owner(server: Server) -> None:
    challenge = Integrator(server, PRESET).challenge(Device())
    assert_error(Integrator(server, PRESET_SHAPED).status(challenge["challenge_id"]), 404, "CHALLENGE_NOT_FOUND")


def test_the_live_key_and_the_test_key_of_one_id_are_accepted(server: Server) -> None:
    key_id = secrets.token_bytes(16)
    assert is_accepted(server, server.identity.api_key("sgk_test_", key_id))
    assert is_accepted(server, server.identity.api_key("sgk_live_", key_id))


def test_every_invalid_key_gets_the_same_401(server: Server, device: Device) -> None:
    right = server.identity.api_key()
    swapped = right.replace("sgk_test_", "sgk_live_")
    flipped = right[:-1] + ("0" if right[-1] != "0" else "1")
    foreign = ServerIdentity().api_key()
    sent: list[dict[str, str]] = [{}]
    for wrong in (
        "",
        "x",
        swapped,
        flipped,
        foreign,
        right[:-1],
        right + "0",
        right.upper(),
        right[:9] + right[9:].upper(),
    ):
        sent.append({"Authorization": f"Bearer {wrong}"})
    sent += [{"Authorization": value} for value in (right, f"Basic {right}", f"Token {right}", "Bearer", right[9:])]
    sent += [{"X-Api-Key": right}, {"Authorization": f"Bearer {PRESET[:-1]}"}, {"Authorization": f"Bearer {PRESET}x"}]
    body = {"device_public_key": device.public, "action": ACTION}
    answers = [server.fetch("POST", "/challenge", body, headers=headers) for headers in sent]
    for answer in answers:
        assert_error(answer, 401, "UNAUTHORIZED")
    assert len({answer.body for answer in answers}) == 1


def test_revoked_keys_get_the_same_401_as_unknown_keys(public_server: Server) -> None:
    identity = public_server.identity
    short = bytes.fromhex(REVOKED_SHORT)
    revoked = [
        identity.api_key(key_id=REVOKED_ID),
        identity.api_key("sgk_live_", REVOKED_ID),
        identity.api_key(key_id=short + secrets.token_bytes(12)),
    ]
    path = f"/v1/auth/challenge/{uuid.uuid4()}/status"
    answers = [public_server.fetch("GET", path, key=key) for key in (*revoked, "nonsense")]
    for answer in answers:
        assert_error(answer, 401, "UNAUTHORIZED")
    assert len({answer.body for answer in answers}) == 1


def test_a_key_with_a_similar_id_to_a_revoked_one_is_accepted(public_server: Server) -> None:
    neighbour = REVOKED_ID[:-1] + bytes([REVOKED_ID[-1] ^ 1])
    assert is_accepted(public_server, public_server.identity.api_key(key_id=neighbour))


def test_the_challenge_of_another_owner_does_not_exist(
    owner: Integrator, other_owner: Integrator, device: Device
) -> None:
    challenge = owner.challenge(device)
    challenge_id = challenge["challenge_id"]
    missing = not_found_body(other_owner, str(uuid.uuid4()))
    assert not_found_body(other_owner, challenge_id) == missing
    assert_error(other_owner.status(challenge_id, wait=25), 404, "CHALLENGE_NOT_FOUND")
    assert_error(other_owner.cancel(challenge_id), 404, "CHALLENGE_NOT_FOUND")
    assert owner.state(challenge_id)["status"] == "pending"
    approve(owner.server, device, challenge)
    assert not_found_body(other_owner, challenge_id) == missing
    assert_error(other_owner.cancel(challenge_id), 404, "CHALLENGE_NOT_FOUND")


def not_found_body(owner: Integrator, challenge_id: str) -> bytes:
    answer = owner.status(challenge_id)
    assert_error(answer, 404, "CHALLENGE_NOT_FOUND")
    return answer.content


def test_one_key_is_the_same_owner_over_every_connection(owner: Integrator, device: Device) -> None:
    challenge_id = owner.challenge(device)["challenge_id"]
    for _ in range(6):
        reply = owner.server.fetch("GET", f"/v1/auth/challenge/{challenge_id}/status", key=owner.key)
        assert assert_ok(reply)["challenge_id"] == challenge_id


@pytest.mark.parametrize("text", ["x", "%00", "..%2f..", "0" * 4000, "%F0%9F%A6%8A"])
def test_a_malformed_id_does_not_exist(server: Server, owner: Integrator, text: str) -> None:
    reply = server.fetch("GET", f"/v1/auth/challenge/{text}/status", key=owner.key)
    assert reply.status == 404
    assert reply.json()["error"]["code"] in {"CHALLENGE_NOT_FOUND", "NOT_FOUND"}
