"""API keys: which are accepted, and that each sees only what it made."""

from __future__ import annotations

import secrets
import uuid

import pytest

from .conftest import PRESET, PRESET_SHAPED, REVOKED_ID, REVOKED_SHORT
from .integrator import ACTION, Integrator, approve, good, refused
from .server import Server
from .wire import Device, ServerIdentity


def accepted(server: Server, key: str) -> bool:
    """Whether the key reads the status of a challenge that is not there: 404 for a good key, 401 for a bad one."""
    answer = Integrator(server, key).status(str(uuid.uuid4()))
    assert answer.status_code in {401, 404}
    return answer.status_code == 404


@pytest.mark.parametrize("prefix", ["sgk_test_", "sgk_live_"])
def test_a_key_made_from_the_mnemonic_is_accepted_with_nothing_stored(server: Server, prefix: str) -> None:
    owner = Integrator(server, server.identity.api_key(prefix))
    assert owner.state(owner.challenge(Device())["challenge_id"])["status"] == "pending"


@pytest.mark.parametrize("preset", [PRESET, PRESET_SHAPED])
def test_a_preset_key_is_accepted_whatever_its_shape(server: Server, preset: str) -> None:
    owner = Integrator(server, preset)
    assert owner.state(owner.challenge(Device())["challenge_id"])["status"] == "pending"


def test_two_preset_keys_are_two_owners(server: Server) -> None:
    made = Integrator(server, PRESET).challenge(Device())
    refused(Integrator(server, PRESET_SHAPED).status(made["challenge_id"]), 404, "CHALLENGE_NOT_FOUND")


def test_live_and_test_key_of_one_id_are_both_good(server: Server) -> None:
    key_id = secrets.token_bytes(16)
    assert accepted(server, server.identity.api_key("sgk_test_", key_id))
    assert accepted(server, server.identity.api_key("sgk_live_", key_id))


def test_every_kind_of_bad_key_gets_the_same_401(server: Server, device: Device) -> None:
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
        refused(answer, 401, "UNAUTHORIZED")
    assert len({answer.body for answer in answers}) == 1


def test_revoked_keys_are_refused_with_the_same_body(public_server: Server) -> None:
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
        refused(answer, 401, "UNAUTHORIZED")
    assert len({answer.body for answer in answers}) == 1


def test_a_key_beside_a_revoked_one_is_good(public_server: Server) -> None:
    neighbour = REVOKED_ID[:-1] + bytes([REVOKED_ID[-1] ^ 1])
    assert accepted(public_server, public_server.identity.api_key(key_id=neighbour))


def test_another_owners_challenge_does_not_exist(owner: Integrator, other_owner: Integrator, device: Device) -> None:
    challenge = owner.challenge(device)
    challenge_id = challenge["challenge_id"]
    missing = refused_body(other_owner, str(uuid.uuid4()))
    assert refused_body(other_owner, challenge_id) == missing
    refused(other_owner.status(challenge_id, wait=25), 404, "CHALLENGE_NOT_FOUND")
    refused(other_owner.cancel(challenge_id), 404, "CHALLENGE_NOT_FOUND")
    assert owner.state(challenge_id)["status"] == "pending"
    approve(owner.server, device, challenge)
    assert refused_body(other_owner, challenge_id) == missing
    refused(other_owner.cancel(challenge_id), 404, "CHALLENGE_NOT_FOUND")


def refused_body(owner: Integrator, challenge_id: str) -> bytes:
    answer = owner.status(challenge_id)
    refused(answer, 404, "CHALLENGE_NOT_FOUND")
    return answer.content


def test_the_same_key_over_another_connection_is_the_same_owner(owner: Integrator, device: Device) -> None:
    challenge_id = owner.challenge(device)["challenge_id"]
    for _ in range(6):
        reply = owner.server.fetch("GET", f"/v1/auth/challenge/{challenge_id}/status", key=owner.key)
        assert good(reply)["challenge_id"] == challenge_id


@pytest.mark.parametrize("text", ["x", "%00", "..%2f..", "0" * 4000, "%F0%9F%A6%8A"])
def test_a_malformed_id_does_not_exist(server: Server, owner: Integrator, text: str) -> None:
    reply = server.fetch("GET", f"/v1/auth/challenge/{text}/status", key=owner.key)
    assert reply.status == 404
    assert reply.json()["error"]["code"] in {"CHALLENGE_NOT_FOUND", "NOT_FOUND"}
