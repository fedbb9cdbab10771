"""POST /respond: the valid responses of a device, and the order of the checks."""

from __future__ import annotations

import uuid
from typing import Any

import pytest

from .integrator import ACTION, Integrator, approval, approve, assert_error, assert_ok, post, rejection, respond
from .server import Reply, Server, concurrently, send
from .wire import (
    AUTH,
    K256_ORDER,
    MATCH,
    MPA,
    P256_ORDER,
    PENDING,
    REJECT,
    SUITES,
    Device,
    b64,
    high_s,
    note_signature,
    pictogram_of,
    signed_message,
    unb64,
    unix,
)


def is_pending(owner: Integrator, challenge: dict[str, Any]) -> bool:
    return owner.state(challenge["challenge_id"])["status"] == "pending"


@pytest.mark.parametrize("suite", SUITES)
def test_an_approval_verifies_the_challenge(owner: Integrator, suite: str) -> None:
    device = Device(suite)
    challenge = owner.challenge(device)
    answer = respond(owner.server, approval(device, challenge))
    emoji, names = pictogram_of(device.fingerprint)
    assert assert_ok(answer) == {
        "status": "verified",
        "verified": True,
        "fingerprint": device.fingerprint,
        "pictogram": emoji,
        "pictogram_speakable": names,
        "action": ACTION,
    }
    assert answer.headers["cache-control"] == "no-store"
    state = owner.state(challenge["challenge_id"])
    assert (state["status"], state["decision"]) == ("verified", "approved")
    assert unix(state["verified_at"]) <= unix(challenge["expires_at"])


@pytest.mark.parametrize("suite", SUITES)
@pytest.mark.parametrize("reason", [None, "cancelled", "unknown_trigger"])
def test_a_rejection_is_final_and_keeps_its_reason(owner: Integrator, suite: str, reason: str | None) -> None:
    device = Device(suite)
    challenge = owner.challenge(device)
    answer = assert_ok(respond(owner.server, rejection(device, challenge, reason=reason)))
    assert (answer["status"], answer["verified"], answer["action"]) == ("rejected", False, ACTION)
    assert set(answer) == {"status", "verified", "fingerprint", "pictogram", "pictogram_speakable", "action"}
    state = owner.state(challenge["challenge_id"])
    assert (state["status"], state["decision"], state.get("reason")) == ("rejected", "rejected", reason)
    assert state.get("verified_at") is None


def test_an_absent_decision_counts_as_an_approval(owner: Integrator, device: Device) -> None:
    for absent in (True, False):
        body = approval(device, owner.challenge(device))
        body.pop("decision") if absent else body.update(decision=None)
        assert assert_ok(respond(owner.server, body))["status"] == "verified"


def test_a_reason_on_an_approval_is_not_kept(owner: Integrator, device: Device) -> None:
    challenge = owner.challenge(device)
    assert_ok(respond(owner.server, {**approval(device, challenge), "reason": "cancelled"}))
    assert owner.state(challenge["challenge_id"]).get("reason") is None


def test_the_timestamp_is_ignored(owner: Integrator, device: Device) -> None:
    body = {**approval(device, owner.challenge(device)), "timestamp": "2001-01-01T00:00:00Z"}
    assert assert_ok(respond(owner.server, body))["verified"] is True


@pytest.mark.parametrize("named", [("device_public_key",), ("fingerprint",), ("device_public_key", "fingerprint")])
def test_the_public_key_or_the_fingerprint_or_both_identify_the_device(
    owner: Integrator, named: tuple[str, ...]
) -> None:
    device = Device("ES256K")
    body = {**approval(device, owner.challenge(device)), "fingerprint": device.fingerprint}
    for member in {"device_public_key", "fingerprint"} - set(named):
        body[member] = None
    assert assert_ok(respond(owner.server, body))["verified"] is True


def test_a_response_without_key_and_fingerprint_is_an_invalid_request(owner: Integrator, device: Device) -> None:
    challenge = owner.challenge(device)
    body = approval(device, challenge)
    del body["device_public_key"]
    assert_error(respond(owner.server, body), 400, "INVALID_REQUEST")
    assert is_pending(owner, challenge)


def test_key_and_fingerprint_of_different_devices_are_a_mismatch(owner: Integrator, device: Device) -> None:
    challenge = owner.challenge(device)
    body = {**approval(device, challenge), "fingerprint": Device().fingerprint}
    assert_error(respond(owner.server, body), 400, "FINGERPRINT_MISMATCH")
    assert is_pending(owner, challenge)


def test_the_key_or_fingerprint_of_another_device_is_an_invalid_signature(owner: Integrator, device: Device) -> None:
    challenge, other_device = owner.challenge(device), Device()
    body = approval(device, challenge)
    assert_error(respond(owner.server, {**body, "device_public_key": other_device.public}), 401, "INVALID_SIGNATURE")
    assert_error(respond(owner.server, approval(other_device, challenge)), 401, "INVALID_SIGNATURE")
    del body["device_public_key"]
    assert_error(respond(owner.server, {**body, "fingerprint": other_device.fingerprint}), 401, "INVALID_SIGNATURE")
    assert is_pending(owner, challenge)


@pytest.mark.parametrize("suite", ["ES256", "ES256K"])
def test_a_signature_with_low_or_high_s_is_accepted(owner: Integrator, suite: str) -> None:
    device = Device(suite)
    for high in (False, True):
        body = approval(device, owner.challenge(device))
        if high:
            body["signature"] = note_signature(b64(high_s(unb64(body["signature"]), suite)))
        assert assert_ok(respond(owner.server, body))["verified"] is True


@pytest.mark.parametrize("suite", SUITES)
def test_a_signature_with_another_tag_never_verifies(owner: Integrator, suite: str) -> None:
    device = Device(suite)
    challenge = owner.challenge(device)
    for tag in (REJECT, MATCH, MPA, PENDING, b"", AUTH[:-1]):
        body = approval(device, challenge)
        body["signature"] = device.sign(signed_message(challenge["challenge_bytes"], ACTION, tag))
        assert_error(respond(owner.server, body), 401, "INVALID_SIGNATURE")
    for tag in (AUTH, MATCH, MPA):
        body = rejection(device, challenge)
        body["signature"] = device.sign(signed_message(challenge["challenge_bytes"], ACTION, tag))
        assert_error(respond(owner.server, body), 401, "INVALID_SIGNATURE")
    assert is_pending(owner, challenge)
    approve(owner.server, device, challenge)


def test_a_rejection_signature_is_no_approval_and_the_reverse(owner: Integrator, device: Device) -> None:
    challenge = owner.challenge(device)
    yes, no = approval(device, challenge), rejection(device, challenge)
    assert_error(respond(owner.server, {**yes, "signature": no["signature"]}), 401, "INVALID_SIGNATURE")
    assert_error(respond(owner.server, {**no, "signature": yes["signature"]}), 401, "INVALID_SIGNATURE")
    assert is_pending(owner, challenge)


def test_the_server_signature_is_no_valid_response(owner: Integrator, device: Device) -> None:
    challenge = owner.challenge(device)
    body = {**approval(device, challenge), "signature": challenge["server_signature"]}
    assert_error(respond(owner.server, body), 401, "INVALID_SIGNATURE")


def test_a_signature_over_another_challenge_or_action_is_rejected(owner: Integrator, device: Device) -> None:
    respond_or_cancel, two = owner.challenge(device), owner.challenge(device)
    body = {**approval(device, respond_or_cancel), "challenge_id": two["challenge_id"]}
    assert_error(respond(owner.server, body), 401, "INVALID_SIGNATURE")
    assert_error(
        respond(owner.server, approval(device, respond_or_cancel, {**ACTION, "type": "other"})),
        401,
        "INVALID_SIGNATURE",
    )
    assert is_pending(owner, respond_or_cancel)
    assert is_pending(owner, two)


@pytest.mark.parametrize("suite", SUITES)
def test_malformed_signature_bytes_are_an_invalid_signature(owner: Integrator, suite: str) -> None:
    device = Device(suite)
    challenge = owner.challenge(device)
    right = unb64(approval(device, challenge)["signature"])
    order = (P256_ORDER if suite == "ES256" else K256_ORDER).to_bytes(32)
    flipped = bytes([right[0] ^ 1]) + right[1:]
    zero, beyond = bytes(32), b"\xff" * 32
    wrong = [right[:-1], right + b"\0", b"", flipped, zero + right[32:], right[:32] + zero, zero + zero]
    wrong += [order + right[32:], right[:32] + order, beyond + beyond]
    for signature in wrong:
        body = {**approval(device, challenge), "signature": note_signature(b64(signature))}
        assert_error(respond(owner.server, body), 401, "INVALID_SIGNATURE")
    assert is_pending(owner, challenge)


def test_a_signature_in_another_encoding_is_an_invalid_request(owner: Integrator, device: Device) -> None:
    challenge = owner.challenge(device)
    right = approval(device, challenge)["signature"]
    assert right.endswith("==")
    loose = right[:-3] + chr(ord("A") + (ord(right[-3]) - ord("A")) % 25 + 1) + "=="
    spellings = [right[:-2], f"{right}\n", f" {right}", "!" + right[1:], unb64(right).hex()[:-1]]
    if b64(unb64(loose)) != loose:
        spellings.append(loose)
    for text in spellings:
        body = {**approval(device, challenge), "signature": text}
        assert_error(respond(owner.server, body), 400, "INVALID_REQUEST", "signature")
    assert is_pending(owner, challenge)


def test_an_unknown_challenge_is_not_found_before_the_signature_is_checked(server: Server, device: Device) -> None:
    fake = {"challenge_id": str(uuid.uuid4()), "challenge_bytes": b64(bytes(32))}
    assert_error(respond(server, approval(device, fake)), 404, "CHALLENGE_NOT_FOUND")


@pytest.mark.parametrize("text", ["", "x", "../../etc/passwd", "\u0000", "é" * 40, "a" * 5000, str(uuid.UUID(int=0))])
def test_a_malformed_id_is_not_found(server: Server, device: Device, text: str) -> None:
    fake = {"challenge_id": text, "challenge_bytes": b64(bytes(32))}
    assert_error(respond(server, approval(device, fake)), 404, "CHALLENGE_NOT_FOUND")


def test_only_the_device_learns_that_its_challenge_is_answered(owner: Integrator, device: Device) -> None:
    challenge = owner.challenge(device)
    body = approval(device, challenge)
    assert_ok(respond(owner.server, body))
    details = assert_error(respond(owner.server, body), 409, "CHALLENGE_ALREADY_USED")
    assert details == {"status": "verified", "decision": "approved"}
    assert_error(respond(owner.server, approval(Device(), challenge)), 401, "INVALID_SIGNATURE")
    assert_error(respond(owner.server, approval(device, challenge, tag=MPA)), 401, "INVALID_SIGNATURE")


def test_a_rejection_never_becomes_an_approval(owner: Integrator, device: Device) -> None:
    challenge = owner.challenge(device)
    assert_ok(respond(owner.server, rejection(device, challenge)))
    details = assert_error(respond(owner.server, approval(device, challenge)), 409, "CHALLENGE_ALREADY_USED")
    assert details == {"status": "rejected", "decision": "rejected"}
    assert owner.state(challenge["challenge_id"])["status"] == "rejected"


def test_an_approval_never_becomes_a_rejection(owner: Integrator, device: Device) -> None:
    challenge = owner.challenge(device)
    assert_ok(respond(owner.server, approval(device, challenge)))
    details = assert_error(respond(owner.server, rejection(device, challenge)), 409, "CHALLENGE_ALREADY_USED")
    assert details["status"] == "verified"


def test_a_cancelled_challenge_accepts_no_response(owner: Integrator, device: Device) -> None:
    challenge = owner.challenge(device)
    assert_ok(owner.cancel(challenge["challenge_id"]))
    details = assert_error(respond(owner.server, approval(device, challenge)), 409, "CHALLENGE_ALREADY_USED")
    assert details["status"] == "cancelled"


def test_one_of_fifty_concurrent_responses_counts(owner: Integrator, device: Device) -> None:
    challenge = owner.challenge(device)
    bodies = [approval(device, challenge) if i % 2 else rejection(device, challenge) for i in range(50)]

    replies = concurrently(owner.server, 50, lambda connection, i: send(connection, "POST", "/respond", bodies[i]))

    won = [reply.json() for reply in replies if reply.status == 200]
    assert len(won) == 1
    decision = {"verified": "approved", "rejected": "rejected"}[won[0]["status"]]
    for reply in replies:
        if reply.status != 200:
            details = assert_error(reply, 409, "CHALLENGE_ALREADY_USED")
            assert details == {"status": won[0]["status"], "decision": decision}
    state = owner.state(challenge["challenge_id"])
    assert (state["status"], state["decision"]) == (won[0]["status"], decision)


def test_a_concurrent_response_and_cancellation_leave_one_final_state(owner: Integrator) -> None:
    for _ in range(5):
        device = Device()
        challenge = owner.challenge(device)
        body = approval(device, challenge)
        path = f"/v1/auth/challenge/{challenge['challenge_id']}"

        def respond_or_cancel(connection: Any, index: int, path: str = path, body: dict[str, Any] = body) -> Reply:
            if index % 2:
                return send(connection, "DELETE", path, key=owner.key)
            return send(connection, "POST", "/respond", body)

        replies = concurrently(owner.server, 6, respond_or_cancel)
        status = owner.state(challenge["challenge_id"])["status"]
        assert status in {"verified", "cancelled"}
        answered = [reply.status for reply in replies[0::2]]
        cancelled = [reply.status for reply in replies[1::2]]
        if status == "verified":
            assert sorted(answered) == [200, 409, 409]
            assert cancelled == [409, 409, 409]
        else:
            assert answered == [409, 409, 409]
            assert cancelled == [200, 200, 200]


@pytest.mark.parametrize(
    ("member", "wrong"),
    [
        ("challenge_id", 7),
        ("challenge_id", ["x"]),
        ("challenge_id", None),
        ("device_public_key", 7),
        ("device_public_key", {}),
        ("fingerprint", 7),
        ("fingerprint", "AB" * 32),
        ("decision", "maybe"),
        ("decision", "Approved"),
        ("decision", True),
        ("decision", ""),
        ("signature", 7),
        ("signature", None),
        ("match_code", 7),
        ("match_code", "7"),
        ("match_code", "123"),
        ("match_code", "0x"),
        ("match_code", "٠٧"),
        ("reason", "bored"),
        ("reason", "wrong_code"),
        ("reason", 7),
        ("challenge", "unknown member"),
    ],
)
def test_an_invalid_member_is_named(owner: Integrator, device: Device, member: str, wrong: Any) -> None:
    challenge = owner.challenge(device, number_matching=member == "match_code")
    code = challenge.get("match_code")
    assert_error(
        respond(owner.server, {**approval(device, challenge, code=code), member: wrong}), 400, "INVALID_REQUEST", member
    )
    assert is_pending(owner, challenge)


def test_an_invalid_public_key_is_rejected_in_a_response_too(owner: Integrator, device: Device) -> None:
    body = {**approval(device, owner.challenge(device)), "device_public_key": b64(b"\x05" * 33)}
    assert_error(respond(owner.server, body), 400, "INVALID_PUBLIC_KEY")


# Number matching


def wrong_codes(code: str) -> list[str]:
    return [f"{(int(code) + i) % 100:02}" for i in (1, 2, 3)]


def challenge_with_code(owner: Integrator, device: Device) -> tuple[dict[str, Any], str]:
    challenge = owner.challenge(device, number_matching=True)
    code = challenge["match_code"]
    assert len(code) == 2
    assert code.isascii()
    assert code.isdigit()
    return challenge, code


@pytest.mark.parametrize("suite", SUITES)
def test_an_approval_over_the_match_code_verifies(owner: Integrator, suite: str) -> None:
    device = Device(suite)
    challenge, code = challenge_with_code(owner, device)
    answer = assert_ok(respond(owner.server, approval(device, challenge, code=code)))
    assert answer["status"] == "verified"
    assert "match_code" not in answer


def test_the_status_has_the_match_code_only_while_pending(owner: Integrator, device: Device) -> None:
    challenge, code = challenge_with_code(owner, device)
    assert owner.state(challenge["challenge_id"])["match_code"] == code
    assert_ok(respond(owner.server, approval(device, challenge, code=code)))
    assert owner.state(challenge["challenge_id"]).get("match_code") is None


def test_without_number_matching_there_is_no_match_code(owner: Integrator, device: Device) -> None:
    challenge = owner.challenge(device, number_matching=False)
    assert "match_code" not in challenge
    assert owner.state(challenge["challenge_id"]).get("match_code") is None


def test_each_challenge_has_a_random_match_code(owner: Integrator) -> None:
    assert len({challenge_with_code(owner, Device())[1] for _ in range(12)}) > 3


def test_the_third_wrong_code_ends_the_challenge(owner: Integrator, device: Device) -> None:
    challenge, code = challenge_with_code(owner, device)
    for attempt, wrong in enumerate(wrong_codes(code)):
        state = owner.state(challenge["challenge_id"])
        assert state["status"] == "pending", attempt
        assert_error(respond(owner.server, approval(device, challenge, code=wrong)), 401, "INVALID_SIGNATURE")
    state = owner.state(challenge["challenge_id"])
    assert (state["status"], state["reason"]) == ("rejected", "wrong_code")
    assert state.get("match_code") is None
    details = assert_error(respond(owner.server, approval(device, challenge, code=code)), 409, "CHALLENGE_ALREADY_USED")
    assert details["status"] == "rejected"


def test_the_right_code_verifies_after_two_wrong_ones(owner: Integrator, device: Device) -> None:
    challenge, code = challenge_with_code(owner, device)
    for wrong in wrong_codes(code)[:2]:
        assert_error(respond(owner.server, approval(device, challenge, code=wrong)), 401, "INVALID_SIGNATURE")
    assert assert_ok(respond(owner.server, approval(device, challenge, code=code)))["verified"] is True


def test_concurrent_wrong_codes_are_all_counted(owner: Integrator, device: Device) -> None:
    challenge, code = challenge_with_code(owner, device)
    bodies = [approval(device, challenge, code=f"{(int(code) + 1 + i) % 100:02}") for i in range(12)]
    replies = concurrently(owner.server, 12, lambda connection, i: send(connection, "POST", "/respond", bodies[i]))
    assert {reply.status for reply in replies} <= {401, 409}
    assert sum(reply.status == 401 for reply in replies) >= 3
    assert owner.state(challenge["challenge_id"])["reason"] == "wrong_code"


def test_wrong_codes_without_the_signature_of_the_device_are_not_counted(owner: Integrator, device: Device) -> None:
    challenge, code = challenge_with_code(owner, device)
    for wrong in wrong_codes(code) * 2:
        body = {**approval(Device(), challenge, code=wrong), "device_public_key": device.public}
        assert_error(respond(owner.server, body), 401, "INVALID_SIGNATURE")
    assert assert_ok(respond(owner.server, approval(device, challenge, code=code)))["verified"] is True


def test_a_match_code_that_differs_from_the_signed_one_is_rejected(owner: Integrator, device: Device) -> None:
    challenge, code = challenge_with_code(owner, device)
    body = {**approval(device, challenge, code=wrong_codes(code)[0]), "match_code": code}
    assert_error(respond(owner.server, body), 401, "INVALID_SIGNATURE")
    assert is_pending(owner, challenge)


def test_an_approval_without_the_match_code_is_an_invalid_request(owner: Integrator, device: Device) -> None:
    challenge, _ = challenge_with_code(owner, device)
    assert_error(respond(owner.server, approval(device, challenge)), 400, "INVALID_REQUEST", "match_code")
    assert is_pending(owner, challenge)


def test_a_signature_without_the_match_code_is_rejected_although_the_body_has_it(
    owner: Integrator, device: Device
) -> None:
    challenge, code = challenge_with_code(owner, device)
    body = {**approval(device, challenge), "match_code": code}
    assert_error(respond(owner.server, body), 401, "INVALID_SIGNATURE")
    assert is_pending(owner, challenge)


def test_a_rejection_needs_no_match_code(owner: Integrator, device: Device) -> None:
    challenge, _ = challenge_with_code(owner, device)
    assert assert_ok(respond(owner.server, rejection(device, challenge)))["status"] == "rejected"


def test_a_rejection_with_a_match_code_is_an_invalid_request(owner: Integrator, device: Device) -> None:
    challenge, code = challenge_with_code(owner, device)
    body = {**rejection(device, challenge), "match_code": code}
    assert_error(respond(owner.server, body), 400, "INVALID_REQUEST", "match_code")
    assert is_pending(owner, challenge)


def test_a_match_code_for_a_challenge_without_one_approves_nothing(owner: Integrator, device: Device) -> None:
    challenge = owner.challenge(device)
    assert respond(owner.server, approval(device, challenge, code="07")).status_code in {400, 401}
    assert is_pending(owner, challenge)


def test_number_matching_of_the_server_overrides_false_in_a_request(public_server: Server) -> None:
    owner = Integrator(public_server, public_server.identity.api_key())
    assert len(owner.challenge(Device(), number_matching=False)["match_code"]) == 2
    device = Device()
    challenge = owner.challenge(device)
    body = approval(device, challenge, code=challenge["match_code"])
    assert assert_ok(post(public_server, "/respond", body))["verified"] is True
