"""Web devices (docs/protocol.md, 2.1.1): two keys, one gesture, and no more than the document permits."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Any

import pytest
import rfc8785

from .conftest import WEB_ORIGIN
from .enrolling import COMPLETION, Backend, Enrolling
from .integrator import ACTION, Integrator, approval, assert_error, assert_ok, post, rejection, respond
from .server import Server
from .test_approvals import MPA_REJECT, create, post_request, state, vote_body
from .wire import (
    AUTH,
    MATCH,
    MPA,
    P256_ORDER,
    REJECT,
    Device,
    WebAuthn,
    b64,
    fingerprint_of,
    high_s,
    pictogram_of,
    proves_user_verification,
    signed_message,
    unb64,
    verifies,
)


def web(origin: str = WEB_ORIGIN, **halves: bytes) -> Device:
    return Device("WebAuthn", WebAuthn(origin, **halves))


@pytest.fixture
def owner(web_server: Server) -> Integrator:
    return Integrator(web_server, web_server.identity.api_key())


@pytest.fixture
def device() -> Device:
    return web()


def answer(device: Device, challenge: dict[str, Any], signature: bytes, decision: str = "approved") -> dict[str, Any]:
    shown = {"challenge_id": challenge["challenge_id"], "fingerprint": device.fingerprint, "decision": decision}
    return {**shown, "signature": b64(signature)}


def test_a_challenge_is_signed_by_the_es256_key_and_approved_by_both_halves(owner: Integrator, device: Device) -> None:
    challenge = owner.challenge(device)
    assert challenge["fingerprint"] == device.fingerprint == fingerprint_of(device.key.public)
    pictogram, speakable = pictogram_of(device.fingerprint)
    assert (challenge["pictogram"], challenge["pictogram_speakable"]) == (pictogram, speakable)
    message = signed_message(challenge["challenge_bytes"], ACTION)
    server_key = owner.server.identity.keys["ES256"].public
    assert verifies(server_key, message, unb64(challenge["server_signature"]))
    (payload,) = assert_ok(post(owner.server, "/device/pending", device.pending_body(owner.server.identity.server_id)))[
        "challenges"
    ]
    assert payload["server_signature"] == challenge["server_signature"]

    body = assert_ok(respond(owner.server, approval(device, challenge)))
    assert (body["status"], body["verified"]) == ("verified", True)
    found = owner.state(challenge["challenge_id"])
    assert (found["status"], found["decision"]) == ("verified", "approved")
    assert (found["user_verification"], found["synced"]) == (True, False)
    details = assert_error(respond(owner.server, approval(device, challenge)), 409, "CHALLENGE_ALREADY_USED")
    assert details["status"] == "verified"


def test_the_local_half_rejects_alone(owner: Integrator, device: Device) -> None:
    challenge = owner.challenge(device)
    message = signed_message(challenge["challenge_bytes"], ACTION, REJECT)
    both = answer(device, challenge, device.key.both(message), "rejected")
    assert_error(respond(owner.server, both), 401, "INVALID_SIGNATURE")
    body = assert_ok(respond(owner.server, rejection(device, challenge, reason="unknown_trigger")))
    assert body["status"] == "rejected"
    found = owner.state(challenge["challenge_id"])
    assert found["user_verification"] is False
    assert "synced" not in found


def test_each_half_of_a_signature_may_have_high_s(owner: Integrator, device: Device) -> None:
    for start in (0, 64):
        challenge = owner.challenge(device)
        good = device.key.sign(signed_message(challenge["challenge_bytes"], ACTION))
        flipped = good[:start] + high_s(good[start : start + 64], "ES256") + good[start + 64 :]
        assert_ok(respond(owner.server, answer(device, challenge, flipped)))


def test_number_matching_is_part_of_the_gesture(owner: Integrator, device: Device) -> None:
    challenge = owner.challenge(device, number_matching=True)
    code = challenge["match_code"]
    without = answer(device, challenge, device.key.sign(signed_message(challenge["challenge_bytes"], ACTION)))
    assert_error(respond(owner.server, without | {"match_code": code}), 401, "INVALID_SIGNATURE")
    other = f"{(int(code) + 1) % 100:02d}"
    wrong = approval(device, challenge, code=other) | {"match_code": code}
    assert_error(respond(owner.server, wrong), 401, "INVALID_SIGNATURE")
    assert_ok(respond(owner.server, approval(device, challenge, code=code)))


Forgery = Callable[[WebAuthn, bytes], bytes]
FORGERIES: dict[str, Forgery] = {
    "the local half alone": lambda key, message: key.local_half(message),
    "the assertion alone": lambda key, message: key.both(message)[64:],
    "zeros for the local half": lambda key, message: bytes(64) + key.both(message)[64:],
    "the halves swapped": lambda key, message: _swapped(key.both(message)),
    "without user verification": lambda key, message: key.both(message, flags=0x01),
    "without user presence": lambda key, message: key.both(message, flags=0x04),
    "with attested data": lambda key, message: key.both(message, flags=0x45),
    "BS without BE": lambda key, message: key.both(message, flags=0x15),
    "another port": lambda key, message: key.both(message, origin="https://sigil.example.com"),
    "another host": lambda key, message: key.both(message, origin="https://evil.example:8443"),
    "another type": lambda key, message: key.both(message, type="webauthn.create"),
    "a frame": lambda key, message: key.both(message, crossOrigin=True),
    "a top origin": lambda key, message: key.both(message, topOrigin="https://evil.example"),
    "another challenge": lambda key, message: key.local_half(message) + key.both(message + b"x")[64:],
    "1025 bytes": lambda key, message: key.both(message) + b" " * (1025 - len(key.both(message))),
    "without the hash of the key": lambda key, message: key.local.sign(message) + key.both(message)[64:],
    "a plain signature of the assertion key": lambda key, message: key.assertion.sign(message),
    "nothing": lambda key, message: b"",
}


def _swapped(signature: bytes) -> bytes:
    return signature[64:128] + signature[:64] + signature[128:]


def test_every_forgery_is_the_same_error_and_changes_nothing(owner: Integrator, device: Device) -> None:
    challenge = owner.challenge(device)
    message = signed_message(challenge["challenge_bytes"], ACTION)
    texts = set()
    for name, forge in FORGERIES.items():
        found = respond(owner.server, answer(device, challenge, forge(device.key, message)))
        assert found.status_code == 401, name
        texts.add(found.text)
    assert len(texts) == 1
    assert owner.state(challenge["challenge_id"])["status"] == "pending"
    assert_ok(respond(owner.server, approval(device, challenge)))


def test_one_gesture_is_no_answer_of_a_key_that_shares_a_half(owner: Integrator) -> None:
    assertion = bytes([5]) * 32
    first, second = (web(assertion=assertion, local=bytes([n]) * 32) for n in (6, 7))
    challenge = owner.challenge(second)
    message = signed_message(challenge["challenge_bytes"], ACTION)
    gesture = first.key.both(message)
    for local in (gesture[:64], second.key.local_half(message)):
        body = answer(second, challenge, local + gesture[64:])
        assert_error(respond(owner.server, body), 401, "INVALID_SIGNATURE")


def test_keys_that_a_server_does_not_accept(owner: Integrator) -> None:
    server_key = owner.server.identity.keys["ES256"]
    seven = bytes([7]) * 32
    good = web().key.public

    def half_of_the_server(start: int) -> bytes:
        return good[:start] + server_key.public + good[start + 33 :]

    negated = (P256_ORDER - int.from_bytes(seven)).to_bytes(32)
    refused = {
        "another port": web("https://sigil.example.com").key.public,
        "another host": web("https://evil.example:8443").key.public,
        "localhost": web("http://localhost:8443").key.public,
        "one key twice": web(local=seven, assertion=seven).key.public,
        "a key and its negation": web(local=seven, assertion=negated).key.public,
        "the server's key as the assertion key": half_of_the_server(4),
        "the server's key as the local key": half_of_the_server(37),
        "a point off the curve": good[:4] + b"\2" + bytes(31) + b"\1" + good[37:],
        "one byte short": good[:-1],
        "without its prefix": good[4:],
    }
    for name, wire in refused.items():
        found = owner.post({"device_public_key": b64(wire), "action": ACTION})
        assert (found.status_code, found.json()["error"]["code"]) == (400, "INVALID_PUBLIC_KEY"), name
        body = {"action": ACTION, "required": 1, "groups": [{"members": [{"device_public_key": b64(wire)}]}]}
        found = post_request(owner, body)
        assert (found.status_code, found.json()["error"]["code"]) == (400, "INVALID_PUBLIC_KEY"), name


def test_a_server_without_a_public_url_has_no_web_devices(server: Server) -> None:
    owner = Integrator(server, server.identity.api_key())
    assert_error(owner.create(web()), 400, "INVALID_PUBLIC_KEY")


def test_an_auditor_sees_which_votes_carried_user_verification(owner: Integrator, device: Device) -> None:
    plain, rejecting = Device(), web()
    created = create(owner, [[device], [plain], [rejecting]])
    local = vote_body(owner, device, created)
    context = state(owner, created)["action_context"]
    local["signature"] = b64(device.key.local_half(MPA + rfc8785.dumps(context)))
    assert_error(post(owner.server, "/mpa/respond", local), 401, "INVALID_SIGNATURE")
    assert_ok(post(owner.server, "/mpa/respond", vote_body(owner, rejecting, created, "rejected")))
    for voter in (device, plain):
        assert_ok(post(owner.server, "/mpa/respond", vote_body(owner, voter, created)))
    found = state(owner, created)
    assert found["status"] == "approved"
    votes = {vote["fingerprint"]: vote for vote in found["votes"]}
    message = MPA + rfc8785.dumps(context)
    approved, rejected = (votes[voter.fingerprint] for voter in (device, rejecting))
    assert proves_user_verification(device.key.public, message, unb64(approved["signature"]))
    refused = MPA_REJECT + rfc8785.dumps(context) + hashlib.sha256(rejecting.key.public).digest()
    assert verifies(rejecting.key.local.public, refused, unb64(rejected["signature"]))
    assert verifies(plain.key.public, message, unb64(votes[plain.fingerprint]["signature"]))
    facts = [votes[voter.fingerprint].get("user_verification") for voter in (device, rejecting, plain)]
    assert facts == [True, False, None]


def test_a_web_device_enrols_with_both_halves(web_server: Server, owner: Integrator, device: Device) -> None:
    backend = Backend(web_server, owner.key)
    begun = backend.begin()
    enrolling = Enrolling.scan(web_server, begun["uri"], device)
    enrolling.claim()
    alone = b64(device.key.local_half(COMPLETION + enrolling.digest()))
    found = enrolling.send_completion(enrolling.completion(signature=alone))
    assert_error(found, 401, "INVALID_SIGNATURE")
    assert enrolling.complete()["status"] == "confirming"
    assert_ok(backend.confirm(begun["enrolment_id"], enrolling.code))
    enrolled = backend.enrolment(begun["enrolment_id"])
    assert (enrolled["status"], enrolled["device_public_key"]) == ("enrolled", device.public)
    assert (enrolled["user_verification"], enrolled["synced"]) == (True, False)


def test_a_web_device_of_another_origin_does_not_enrol(web_server: Server, owner: Integrator) -> None:
    begun = Backend(web_server, owner.key).begin()
    enrolling = Enrolling.scan(web_server, begun["uri"], web("https://sigil.example.com"))
    enrolling.claim()
    assert_error(enrolling.send_completion(enrolling.completion()), 400, "INVALID_PUBLIC_KEY")


def test_the_tags_of_the_document_are_those_of_this_device() -> None:
    """A gesture for one decision is none for another: each tag is another challenge of the authenticator."""
    key = web().key
    signatures = {tag: key.both(tag + bytes(64)) for tag in (AUTH, MATCH, MPA, COMPLETION)}
    for tag, signature in signatures.items():
        fits = [t for t in signatures if proves_user_verification(key.public, t + bytes(64), signature)]
        assert fits == [tag]
