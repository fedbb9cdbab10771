"""Attestation (docs/protocol.md, 5.6): statements of each kind, credentials in approvals, votes and enrolments."""

from __future__ import annotations

import hashlib
import time
from typing import Any

import pytest
import rfc8785

from sigil.device.test_phone.roots import TestRoot

from .attesting import KINDS, PROOF, Attesting, digest_of, read_credential, read_public, signed_by, statement_of
from .enrolling import Backend, Enrolling
from .integrator import ACTION, approval, assert_error, assert_ok, post, rejection, respond
from .server import Server
from .wire import Device, rfc3339, signed_message, unb64, unix

LEVELS = {"android": "hardware", "apple": "hardware", "yubikey": "secure_element"}


@pytest.fixture
def attesting(attesting_server: Server, attestation_root: TestRoot) -> Attesting:
    return Attesting(attesting_server, attestation_root, Device())


@pytest.fixture
def backend(attesting_server: Server) -> Backend:
    return Backend(attesting_server, attesting_server.identity.api_key())


def respond_with(backend: Backend, device: Device, credential: str | None) -> tuple[str, Any]:
    challenge = backend.challenge(device)
    return challenge["challenge_id"], respond(
        backend.server, {**approval(device, challenge), "device_credential": credential}
    )


def test_info_names_the_kinds(attesting_server: Server, server: Server) -> None:
    info = assert_ok(attesting_server.http.get("/info"))
    assert info["features"]["attestation"] is True
    assert info["attestation"] == {"kinds": sorted(KINDS.values()), "required": False}
    without = assert_ok(server.http.get("/info"))
    assert without["features"].get("attestation", False) is False
    assert "attestation" not in without


def test_a_server_without_attestation_has_no_endpoint_for_it(server: Server) -> None:
    assert_error(server.http.get("/device/attest/challenge"), 404, "NOT_FOUND")
    assert_error(post(server, "/device/attest", {}), 404, "NOT_FOUND")


@pytest.mark.parametrize("name", KINDS)
def test_a_key_in_hardware_gets_a_credential_that_its_approvals_carry(
    backend: Backend, attesting: Attesting, name: str
) -> None:
    before = int(time.time())
    attested = attesting.attest(name)
    kind, level = KINDS[name], LEVELS[name]
    binding = "witness" if name == "apple" else "direct"
    assert (attested["kind"], attested["level"], attested["binding"]) == (kind, level, binding)
    assert set(attested) == {"device_credential", "kind", "level", "binding", "expires_at", "renew_after"}
    payload, facts = read_credential(attested["device_credential"], attesting.server)
    assert payload["fingerprint"] == attesting.device.fingerprint
    assert (payload["kind"], payload["level"], payload["binding"]) == (kind, level, binding)
    assert payload["expires_at"] == attested["expires_at"]
    assert before <= unix(payload["issued_at"]) <= time.time() + 1
    assert unix(payload["issued_at"]) < unix(attested["renew_after"]) < unix(payload["expires_at"])
    assert all(serial == serial.lower().lstrip("0") for serial in facts.get("serials", []))

    challenge_id, answer = respond_with(backend, attesting.device, attested["device_credential"])
    assert assert_ok(answer)["status"] == "verified"
    shown = {"kind": kind, "level": level, "binding": binding, "attested_at": payload["attested_at"]}
    assert backend.state(challenge_id)["attestation"] == shown


def test_an_approval_without_a_credential_passes_where_none_is_required(backend: Backend, device: Device) -> None:
    challenge_id, answer = respond_with(backend, device, None)
    assert assert_ok(answer)["status"] == "verified"
    assert "attestation" not in backend.state(challenge_id)


def test_a_challenge_is_not_used_up(attesting: Attesting) -> None:
    """An answer may get lost, and Apple attests a key only once."""
    body = attesting.body("apple")
    first, again = assert_ok(attesting.send(body)), assert_ok(attesting.send(body))
    assert {**first, "device_credential": ""} == {**again, "device_credential": ""} | {
        name: first[name] for name in ("expires_at", "renew_after")
    }


def test_two_credentials_of_one_key_have_no_public_hash_in_common(attesting: Attesting) -> None:
    body = attesting.body("yubikey")
    texts = [assert_ok(attesting.send(body))["device_credential"] for _ in range(2)]
    found = [read_credential(text, attesting.server) for text in texts]
    assert found[0][1] | {"salt": ""} == found[1][1] | {"salt": ""}
    assert found[0][0]["facts_sha256"] != found[1][0]["facts_sha256"]


def test_a_proof_of_another_key_or_statement_is_an_invalid_signature(attesting: Attesting) -> None:
    body = attesting.body("yubikey")
    other = attesting.body("yubikey")
    wrong = [other["signature"], Device().sign(PROOF), attesting.device.sign(PROOF + bytes(64))]
    for signature in wrong:
        assert_error(attesting.send({**body, "signature": signature}), 401, "INVALID_SIGNATURE")
    stolen = {**body, "device_public_key": Device().public}
    assert_error(attesting.send(stolen), 401, "INVALID_SIGNATURE")


def test_a_challenge_that_the_server_did_not_make_is_rejected(attesting: Attesting) -> None:
    challenge = attesting.challenge()
    first, rest = challenge["challenge_id"][0], challenge["challenge_id"][1:]
    forged = {**challenge, "challenge_id": ("0" if first != "0" else "1") + rest}
    answer = attesting.send(attesting.body("android", forged))
    assert assert_error(answer, 403, "ATTESTATION_INVALID") == {"reason": "challenge"}


@pytest.mark.parametrize("name", ["android", "apple"])
@pytest.mark.parametrize(
    "forged", [{"context": "x"}, {"nonce": "AAAA"}, {"server_id": "0" * 64}, {"kind": "yubikey-piv"}, {"key": "AAAA"}]
)
def test_a_statement_for_another_use_or_server_is_rejected(
    attesting: Attesting, name: str, forged: dict[str, str]
) -> None:
    """The phone attests another digest; the proof is of the right one."""
    challenge = attesting.challenge()
    server_id = attesting.server.identity.server_id
    elsewhere = digest_of(challenge["nonce"], server_id, **forged)
    statement = statement_of(name, attesting.root, attesting.device, elsewhere)
    key = attesting.device.public if name == "apple" else ""
    bound = digest_of(challenge["nonce"], server_id)(statement["kind"], key)
    proof = PROOF + bound + hashlib.sha256(rfc8785.dumps(statement)).digest()
    body = {
        "device_public_key": attesting.device.public,
        "challenge_id": challenge["challenge_id"],
        "attestation": statement,
        "signature": attesting.device.sign(proof),
    }
    assert assert_error(attesting.send(body), 403, "ATTESTATION_INVALID") == {"reason": "challenge"}


def test_the_attested_key_is_the_device_s(attesting: Attesting) -> None:
    for name in ("android", "yubikey"):
        answer = attesting.send(attesting.body(name, leaf_key="other"))
        assert assert_error(answer, 403, "ATTESTATION_INVALID") == {"reason": "key_properties"}


def test_a_chain_to_another_root_is_rejected(attesting: Attesting) -> None:
    attesting.root = TestRoot.memory()
    for name in KINDS:
        answer = attesting.send(attesting.body(name))
        assert assert_error(answer, 403, "ATTESTATION_INVALID")["reason"] in {"root", "chain"}


def test_an_emulator_is_rejected(attesting: Attesting) -> None:
    answer = attesting.send(attesting.body("android", root="software"))
    assert assert_error(answer, 403, "ATTESTATION_INVALID") == {"reason": "emulator"}


def test_a_witness_renews_and_nothing_else_of_its_kind(attesting: Attesting) -> None:
    first = attesting.attest("android")["device_credential"]
    body = attesting.body("android", witness=True)
    assert_error(attesting.send(body), 400, "INVALID_REQUEST", "$.device_credential")
    renewed = assert_ok(attesting.send({**body, "device_credential": first}))
    before, after = (read_credential(text, attesting.server)[0] for text in (first, renewed["device_credential"]))
    assert {**after, "issued_at": "", "expires_at": "", "facts_sha256": ""} == {
        **before, "issued_at": "", "expires_at": "", "facts_sha256": "",
    }  # fmt: skip
    stranger = Attesting(attesting.server, attesting.root, Device())
    answer = stranger.send({**stranger.body("android", witness=True), "device_credential": first})
    assert assert_error(answer, 403, "ATTESTATION_INVALID") == {"reason": "key_properties"}


def test_an_address_attests_thirty_times_a_minute(attesting: Attesting) -> None:
    body = attesting.body("yubikey")
    answers = [attesting.send(body) for _ in range(3)]
    assert [answer.status_code for answer in answers] == [200] * 3
    limited = next(answer for answer in (attesting.send(body) for _ in range(300)) if answer.status_code != 200)
    assert_error(limited, 429, "RATE_LIMITED")
    attesting.address = Attesting(attesting.server, attesting.root, attesting.device).address
    assert_ok(attesting.send(body))


# Approvals


def test_a_credential_is_of_its_device(backend: Backend, attesting: Attesting, device: Device) -> None:
    credential = attesting.attest("yubikey")["device_credential"]
    challenge_id, answer = respond_with(backend, device, credential)
    assert assert_error(answer, 403, "ATTESTATION_INVALID") == {"reason": "key_properties"}
    assert backend.state(challenge_id)["status"] == "pending"


def test_a_credential_that_does_not_count_changes_nothing_and_no_rejection_needs_one(
    backend: Backend, attesting: Attesting
) -> None:
    credential = attesting.attest("yubikey")["device_credential"]
    server, device, now = attesting.server, attesting.device, int(time.time())
    raised = credential.split(".")
    raised[2] = raised[2][:-8] + ("A" * 8)
    wrong = [
        ("x", "malformed"),
        (credential.rpartition(".")[0], "malformed"),
        (credential + "A", "malformed"),
        (signed_by(server, credential, facts_sha256="0" * 64), "malformed"),
        (signed_by(server, credential, v=2), "malformed"),
        (signed_by(server, credential, expires_at=rfc3339(now - 1)), "expired"),
        (signed_by(server, credential, server_id="0" * 64), "chain"),
        (".".join(raised), "chain"),
    ]
    challenge = backend.challenge(device)
    for text, reason in wrong:
        answer = respond(server, {**approval(device, challenge), "device_credential": text})
        assert assert_error(answer, 403, "ATTESTATION_INVALID") == {"reason": reason}, text
    assert backend.state(challenge["challenge_id"])["status"] == "pending"
    answer = respond(server, {**rejection(device, challenge), "device_credential": "x"})
    assert assert_ok(answer)["status"] == "rejected"


def test_another_server_of_the_same_mnemonic_accepts_a_credential(backend: Backend, attesting: Attesting) -> None:
    """Nothing of it is stored: what the identity signed is enough."""
    credential = attesting.attest("apple")["device_credential"]
    again = signed_by(attesting.server, credential)
    assert again == credential
    assert assert_ok(respond_with(backend, attesting.device, again)[1])["verified"]


def test_the_signature_comes_before_the_credential(backend: Backend, attesting: Attesting) -> None:
    challenge = backend.challenge(attesting.device)
    forged = {**approval(attesting.device, challenge), "device_credential": "x"}
    forged["signature"] = Device().sign(signed_message(challenge["challenge_bytes"], ACTION))
    assert_error(respond(attesting.server, forged), 401, "INVALID_SIGNATURE")
    backend.cancel(challenge["challenge_id"])
    late = {**approval(attesting.device, challenge), "device_credential": "x"}
    assert_error(respond(attesting.server, late), 409, "CHALLENGE_ALREADY_USED")


# Votes


def test_a_vote_has_the_public_part_alone(backend: Backend, attesting: Attesting) -> None:
    credential = attesting.attest("yubikey")["device_credential"]
    plain = Device()
    members = [{"device_public_key": device.public} for device in (attesting.device, plain)]
    begun = assert_ok(
        backend.call("/mpa/request", {"action": ACTION, "required": 2, "groups": [{"members": [m]} for m in members]}),
        201,
    )
    status = backend.server.http.get(f"/mpa/status/{begun['request_id']}", headers=backend.headers).json()
    message = b"SIGIL-MPA-V1\0" + rfc8785.dumps(status["action_context"])
    for device, text in ((attesting.device, credential), (plain, None)):
        vote = {"mpa_id": begun["mpa_id"], "fingerprint": device.fingerprint, "decision": "approved"}
        vote |= {"signature": device.sign(message), "device_credential": text}
        if text:
            wrong = post(backend.server, "/mpa/respond", {**vote, "device_credential": "x"})
            assert assert_error(wrong, 403, "ATTESTATION_INVALID") == {"reason": "malformed"}
        assert_ok(post(backend.server, "/mpa/respond", vote))
    status = backend.server.http.get(f"/mpa/status/{begun['request_id']}", headers=backend.headers).json()
    votes = {vote["fingerprint"]: vote for vote in status["votes"]}
    vote = votes[attesting.device.fingerprint]
    assert vote["device_credential"] == credential.rpartition(".")[0]
    payload = read_public(vote["device_credential"], backend.server)
    assert payload["fingerprint"] == attesting.device.fingerprint
    assert unix(payload["issued_at"]) <= unix(vote["at"]) < unix(payload["expires_at"])
    assert vote["attestation"] == {name: payload[name] for name in ("kind", "level", "binding", "attested_at")}
    assert not {"attestation", "device_credential"} & set(votes[plain.fingerprint])


# Enrolments


@pytest.mark.parametrize("name", KINDS)
def test_an_enrolled_device_is_attested_in_one_step(backend: Backend, attestation_root: TestRoot, name: str) -> None:
    begun = backend.begin(min_level="hardware")
    phone = Enrolling.scan(backend.server, begun["uri"])
    offer = phone.claim()
    assert offer["attestation"] == {"kinds": sorted(KINDS.values()), "min_level": "hardware"}
    assert_error(phone.send_completion(phone.completion()), 403, "ATTESTATION_REQUIRED")
    digest = digest_of(offer["nonce"], offer["server_id"], offer["enrolment_id"])
    elsewhere = digest_of(offer["nonce"], offer["server_id"])
    if name != "yubikey":
        replayed = statement_of(name, attestation_root, phone.device, elsewhere)
        answer = phone.send_completion(phone.completion(replayed))
        assert assert_error(answer, 403, "ATTESTATION_INVALID") == {"reason": "challenge"}
    completed = phone.complete(statement := statement_of(name, attestation_root, phone.device, digest))
    payload, _ = read_credential(completed["device_credential"], backend.server)
    assert payload["fingerprint"] == phone.device.fingerprint
    again = assert_ok(phone.send_completion(phone.completion(statement)))
    assert again == completed
    assert phone.wait().json() == {"status": "confirming"}
    enrolled = assert_ok(backend.confirm(begun["enrolment_id"], phone.code))
    assert enrolled["attestation"] == {name: payload[name] for name in ("kind", "level", "binding", "attested_at")}
    waited = phone.wait().json()
    assert waited == {"status": "enrolled", "device_credential": completed["device_credential"]}
    assert assert_ok(respond_with(backend, phone.device, waited["device_credential"])[1])["verified"]


def test_a_level_below_the_offer_s_is_rejected(backend: Backend, attestation_root: TestRoot) -> None:
    begun = backend.begin(min_level="secure_element")
    phone = Enrolling.scan(backend.server, begun["uri"])
    offer = phone.claim()
    digest = digest_of(offer["nonce"], offer["server_id"], offer["enrolment_id"])
    statement = statement_of("android", attestation_root, phone.device, digest)
    answer = phone.send_completion(phone.completion(statement))
    assert assert_error(answer, 403, "ATTESTATION_INVALID") == {"reason": "level"}
    assert backend.enrolment(begun["enrolment_id"])["status"] == "claimed"


def test_a_device_may_enrol_without_an_attestation_where_none_is_demanded(backend: Backend) -> None:
    phone = Enrolling.scan(backend.server, backend.begin()["uri"])
    assert phone.claim()["attestation"]["min_level"] == ""
    assert phone.complete() == {"sas_nonce": phone.complete()["sas_nonce"], "status": "confirming"}
    assert len(unb64(phone.offer["nonce"])) == 32
