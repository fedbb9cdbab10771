"""Approval requests on the wire: message forms, order of checks, and signed bytes."""

from __future__ import annotations

import hashlib
import json
from typing import Any

import httpx
import pytest
import rfc8785

from .integrator import ACTION, Integrator, assert_error, assert_ok, post
from .server import Server
from .wire import (
    MPA,
    SUITES,
    Device,
    ServerIdentity,
    b64,
    fingerprint_of,
    note_signature,
    pictogram_of,
    unb64,
    verifies,
)

MPA_REJECT = b"SIGIL-MPA-REJECT-V1\0"
UNKNOWN_ID = "11111111-1111-4111-8111-111111111111"
Groups = list[list[Device]]


def five_devices_in_three_groups() -> Groups:
    return [[Device("ES256"), Device("ES256K")], [Device("Ed25519"), Device()], [Device()]]


def request_body(groups: Groups, required: int = 2, **more: Any) -> dict[str, Any]:
    members = [{"members": [{"device_public_key": device.public} for device in group]} for group in groups]
    return {"action": ACTION, "required": required, "groups": members, **more}


def post_request(owner: Integrator, body: Any, **headers: str) -> httpx.Response:
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    sent = {"Content-Type": "application/json", **owner.headers, **headers}
    return owner.server.http.post("/mpa/request", content=content, headers=sent)


def create(owner: Integrator, groups: Groups, required: int = 2, **more: Any) -> dict[str, Any]:
    return assert_ok(post_request(owner, request_body(groups, required, **more)), 201)


def get_status(owner: Integrator, request_id: str, **query: Any) -> httpx.Response:
    return owner.server.http.get(f"/mpa/status/{request_id}", params=query, headers=owner.headers)


def state(owner: Integrator, created: dict[str, Any]) -> dict[str, Any]:
    found = assert_ok(get_status(owner, created["request_id"]))
    for vote in found["votes"]:
        note_signature(vote["signature"])
    return found


def cancel(owner: Integrator, request_id: str) -> httpx.Response:
    return owner.server.http.delete(f"/mpa/request/{request_id}", headers=owner.headers)


def vote_body(
    owner: Integrator,
    device: Device,
    created: dict[str, Any],
    decision: str = "approved",
    tag: bytes = b"",
    **more: Any,
) -> dict[str, Any]:
    tag = tag or (MPA if decision == "approved" else MPA_REJECT)
    context = state(owner, created)["action_context"]
    return {
        "mpa_id": created["mpa_id"],
        "fingerprint": device.fingerprint,
        "decision": decision,
        "signature": device.sign(tag + rfc8785.dumps(context)),
        **more,
    }


def vote(owner: Integrator, device: Device, created: dict[str, Any], decision: str = "approved", **more: Any) -> Any:
    return post(owner.server, "/mpa/respond", vote_body(owner, device, created, decision, **more))


def test_a_created_request_has_exactly_the_documented_members(owner: Integrator) -> None:
    created = create(owner, five_devices_in_three_groups(), request_id="pay:7.A_b-c")
    assert set(created) == {
        "request_id", "mpa_id", "status", "groups_required", "groups_total", "challenges_sent", "expires_at",
    }  # fmt: skip
    assert (created["request_id"], created["status"]) == ("pay:7.A_b-c", "pending")
    assert (created["groups_required"], created["groups_total"], created["challenges_sent"]) == (2, 3, 5)


def test_the_server_generates_a_request_id_when_none_is_given(owner: Integrator) -> None:
    first, second = (
        create(owner, five_devices_in_three_groups()),
        create(owner, five_devices_in_three_groups(), request_id=None),
    )
    assert first["request_id"] != second["request_id"]
    assert state(owner, first)["mpa_id"] == first["mpa_id"]


def test_the_action_context_has_the_action_and_all_conditions(owner: Integrator) -> None:
    groups = five_devices_in_three_groups()
    created = create(owner, groups, reject_policy="reject_on_first", expires_in_seconds=900)
    found = state(owner, created)
    names = [sorted(device.fingerprint for device in group) for group in groups]
    context = found["action_context"]
    assert len(unb64(context.pop("nonce"))) == 32
    assert context == {
        **ACTION,
        "mpa_id": created["mpa_id"],
        "request_id": created["request_id"],
        "server_id": owner.server.identity.server_id,
        "expires_at": created["expires_at"],
        "respond_to": "",
        "required": 2,
        "reject_policy": "reject_on_first",
        "groups_sha256": hashlib.sha256(rfc8785.dumps(names)).hexdigest(),
    }
    assert found["groups"] == [
        {"members": [{"device_public_key": d.public, "fingerprint": d.fingerprint} for d in group]} for group in groups
    ]


def test_the_server_signs_the_action_context_with_the_key_of_its_server_id(owner: Integrator) -> None:
    found = state(owner, create(owner, five_devices_in_three_groups()))
    key = unb64(found["server_public_key"])
    assert fingerprint_of(key) == owner.server.identity.server_id
    assert verifies(key, MPA + rfc8785.dumps(found["action_context"]), unb64(found["server_signature"]))


@pytest.mark.parametrize("suite", SUITES)
def test_the_payload_of_a_device_is_signed_in_its_suite(owner: Integrator, suite: str) -> None:
    device = Device(suite)
    created = create(owner, [[device], [Device()]])
    server: Server = owner.server
    listed = assert_ok(post(server, "/device/pending", device.pending_body(server.identity.server_id)))
    (payload,) = listed["mpa"]
    assert listed["challenges"] == []
    signature = unb64(payload.pop("server_signature"))
    assert payload == {
        "type": "mpa",
        "mpa_id": created["mpa_id"],
        "server_id": server.identity.server_id,
        "action_context": state(owner, created)["action_context"],
        "expires_at": created["expires_at"],
    }
    message = MPA + rfc8785.dumps(payload["action_context"])
    assert verifies(server.identity.keys[suite].public, message, signature)
    assert_ok(vote(owner, device, created))
    again = assert_ok(post(server, "/device/pending", device.pending_body(server.identity.server_id)))
    assert again["mpa"] == []


def test_with_a_public_url_respond_to_is_signed(public_server: Server) -> None:
    device = Device()
    owner = Integrator(public_server, public_server.identity.api_key())
    create(owner, [[device]], 1)
    body = device.pending_body(public_server.identity.server_id)
    (payload,) = assert_ok(post(public_server, "/device/pending", body))["mpa"]
    assert payload["respond_to"] == "https://sigil.example.com/mpa/respond" == payload["action_context"]["respond_to"]
    assert "number_matching" not in payload


def test_the_response_to_a_vote_has_exactly_the_documented_members(owner: Integrator) -> None:
    groups = five_devices_in_three_groups()
    created = create(owner, groups)
    anna, emil = groups[0][0], groups[2][0]
    emoji, spoken = pictogram_of(anna.fingerprint)
    assert assert_ok(vote(owner, anna, created)) == {
        "status": "recorded",
        "fingerprint": anna.fingerprint,
        "pictogram": emoji,
        "pictogram_speakable": spoken,
        "group_satisfied": True,
        "groups_satisfied": 1,
        "groups_required": 2,
        "quorum_reached": False,
    }
    last = assert_ok(vote(owner, emil, created))
    assert (last["status"], last["groups_satisfied"], last["quorum_reached"]) == ("approved", 2, True)


def test_the_status_has_the_votes_with_their_signatures(owner: Integrator) -> None:
    groups = five_devices_in_three_groups()
    created = create(owner, groups)
    assert_ok(vote(owner, groups[0][1], created))
    assert_ok(vote(owner, groups[1][0], created, "rejected", reason="cancelled"))
    found = state(owner, created)
    assert (found["status"], found["groups_satisfied"]) == ("pending", [0])
    yes, no = found["votes"]
    assert (yes["group"], yes["decision"], "reason" in yes) == (0, "approved", False)
    assert (no["group"], no["decision"], no["reason"]) == (1, "rejected", "cancelled")
    for recorded, device, tag in ((yes, groups[0][1], MPA), (no, groups[1][0], MPA_REJECT)):
        assert (recorded["fingerprint"], recorded["device_public_key"]) == (device.fingerprint, device.public)
        assert verifies(unb64(recorded["device_public_key"]), tag + rfc8785.dumps(found["action_context"]),
                        unb64(recorded["signature"]))  # fmt: skip


def test_a_vote_needs_the_key_or_the_fingerprint_and_both_must_match(owner: Integrator) -> None:
    groups = five_devices_in_three_groups()
    created = create(owner, groups)
    anna, bert = groups[0]
    body = vote_body(owner, anna, created)
    assert_error(
        post(owner.server, "/mpa/respond", {**body, "device_public_key": bert.public}), 400, "FINGERPRINT_MISMATCH"
    )
    del body["fingerprint"]
    assert_error(post(owner.server, "/mpa/respond", body), 400, "INVALID_REQUEST", "$.device_public_key")
    assert_ok(post(owner.server, "/mpa/respond", {**body, "device_public_key": anna.public}))
    assert_ok(vote(owner, bert, created, timestamp="not a timestamp"))


@pytest.mark.parametrize(
    "change", [{"decision": None}, {"decision": "maybe"}, {"match_code": "07"}, {"reason": "bored"}, {"signature": "A"}]
)
def test_a_malformed_vote_is_rejected(owner: Integrator, change: dict[str, Any]) -> None:
    created = create(owner, [[Device()]], 1)
    body = {"mpa_id": created["mpa_id"], "fingerprint": "0" * 64, "decision": "approved", "signature": "AAAA", **change}
    assert_error(post(owner.server, "/mpa/respond", body), 400, "INVALID_REQUEST")


def test_votes_are_checked_in_the_order_of_the_protocol(owner: Integrator) -> None:
    groups = five_devices_in_three_groups()
    (anna, bert), (carl, _), _ = groups
    other_device = Device()
    created = create(owner, groups)
    wrong = vote_body(owner, anna, created, tag=MPA_REJECT)
    assert_error(post(owner.server, "/mpa/respond", {**wrong, "mpa_id": UNKNOWN_ID}), 404, "MPA_NOT_FOUND")
    assert_error(post(owner.server, "/mpa/respond", {**wrong, "mpa_id": "no-id"}), 404, "MPA_NOT_FOUND")
    assert_error(post(owner.server, "/mpa/respond", wrong), 401, "INVALID_SIGNATURE")
    assert_error(vote(owner, other_device, created), 401, "INVALID_SIGNATURE")
    assert_ok(vote(owner, anna, created))
    assert_error(post(owner.server, "/mpa/respond", wrong), 401, "INVALID_SIGNATURE")
    assert_error(vote(owner, anna, created, "rejected"), 409, "ALREADY_ANSWERED")
    assert_ok(vote(owner, carl, created))
    assert_error(vote(owner, anna, created), 409, "ALREADY_ANSWERED")
    assert assert_error(vote(owner, bert, created), 409, "MPA_CLOSED") == {"status": "approved"}
    assert_error(vote(owner, other_device, created), 401, "INVALID_SIGNATURE")


def test_a_rejection_never_becomes_an_approval(owner: Integrator) -> None:
    groups = [[Device()], [Device()]]
    created = create(owner, groups)
    assert assert_ok(vote(owner, groups[0][0], created, "rejected"))["status"] == "rejected"
    assert_error(vote(owner, groups[1][0], created), 409, "MPA_CLOSED")
    assert state(owner, created)["status"] == "rejected"


def test_a_repeated_body_returns_the_same_request_and_another_body_is_a_conflict(owner: Integrator) -> None:
    body = json.dumps(request_body(five_devices_in_three_groups(), request_id="r-1")).encode()
    first = assert_ok(post_request(owner, body), 201)
    assert assert_ok(post_request(owner, body), 200) == first
    assert_error(post_request(owner, body + b" "), 409, "REQUEST_ID_CONFLICT")
    assert_error(
        post_request(owner, request_body(five_devices_in_three_groups(), request_id="r-1")), 409, "REQUEST_ID_CONFLICT"
    )


def test_the_request_of_an_owner_does_not_exist_for_other_owners(owner: Integrator, other_owner: Integrator) -> None:
    created = create(owner, five_devices_in_three_groups(), request_id="mine")
    for answer in (get_status(other_owner, "mine"), cancel(other_owner, "mine"), get_status(owner, created["mpa_id"])):
        assert_error(answer, 404, "MPA_NOT_FOUND")
    theirs = create(other_owner, five_devices_in_three_groups(), request_id="mine")
    assert theirs["mpa_id"] != created["mpa_id"]


def test_a_cancelled_request_is_final(owner: Integrator) -> None:
    groups = five_devices_in_three_groups()
    created = create(owner, groups)
    for _ in range(2):
        assert assert_ok(cancel(owner, created["request_id"]))["status"] == "cancelled"
    assert_error(vote(owner, groups[0][0], created), 409, "MPA_CLOSED")
    approved = create(owner, groups, 1)
    assert_ok(vote(owner, groups[0][0], approved))
    assert assert_error(cancel(owner, approved["request_id"]), 409, "MPA_CLOSED") == {"status": "approved"}
    assert assert_ok(get_status(owner, approved["request_id"], wait=25))["status"] == "approved"


def test_every_operation_of_an_integrator_needs_an_api_key(server: Server, owner: Integrator) -> None:
    created = create(owner, five_devices_in_three_groups())
    other_device = Integrator(server, "sgk_test_" + "0" * 64)
    for answer in (
        post_request(other_device, request_body(five_devices_in_three_groups())),
        get_status(other_device, created["request_id"]),
        cancel(other_device, created["request_id"]),
    ):
        assert_error(answer, 401, "UNAUTHORIZED")


GOOD_KEY = Device().public
BAD: dict[str, tuple[dict[str, Any], str]] = {
    "no groups": ({"groups": []}, "$.groups"),
    "an empty group": ({"groups": [{"members": []}]}, "$.groups"),
    "21 groups": ({"groups": [{"members": [{"device_public_key": GOOD_KEY}]}] * 21}, "$.groups"),
    "51 members": ({"groups": [{"members": [{"device_public_key": GOOD_KEY}] * 51}]}, "$.groups"),
    "a device in two groups": (
        {"groups": [{"members": [{"device_public_key": GOOD_KEY}]}] * 2},
        "$.groups[1].members[0]",
    ),
    "more required than groups": ({"required": 4}, "$.required"),
    "none required": ({"required": 0}, "$.required"),
    "required as a string": ({"required": "2"}, "$.required"),
    "an unknown policy": ({"reject_policy": "never"}, "$.reject_policy"),
    "too short a life": ({"expires_in_seconds": 59}, "$.expires_in_seconds"),
    "too long a life": ({"expires_in_seconds": 901}, "$.expires_in_seconds"),
    "an empty name": ({"request_id": ""}, "$.request_id"),
    "a name with a slash": ({"request_id": "a/b"}, "$.request_id"),
    "a name that URL paths remove": ({"request_id": ".."}, "$.request_id"),
    "a long name": ({"request_id": "a" * 129}, "$.request_id"),
    "a name with a newline": ({"request_id": "a\n"}, "$.request_id"),
    "an action with a fraction": ({"action": {**ACTION, "params": {"a": 1.5}}}, "$.action.params"),
}


@pytest.mark.parametrize("name", BAD)
def test_a_malformed_request_is_rejected_and_its_path_named(owner: Integrator, name: str) -> None:
    change, path = BAD[name]
    details = assert_error(
        post_request(owner, {**request_body(five_devices_in_three_groups()), **change}), 400, "INVALID_REQUEST"
    )
    assert details["path"].startswith(path)


def test_an_invalid_public_key_is_named_with_its_path(owner: Integrator, identity: ServerIdentity) -> None:
    for key in ("AA==", b64(identity.keys["ES256"].public)):
        body = request_body(five_devices_in_three_groups())
        body["groups"][1]["members"][1]["device_public_key"] = key
        details = assert_error(post_request(owner, body), 400, "INVALID_PUBLIC_KEY")
        assert details == {"path": "$.groups[1].members[1].device_public_key"}
    body = request_body(five_devices_in_three_groups())
    body["groups"][0]["members"][0]["fingerprint"] = "0" * 64
    assert_error(post_request(owner, body), 400, "FINGERPRINT_MISMATCH")


def test_a_thousand_members_fit_and_a_larger_body_is_rejected(owner: Integrator) -> None:
    groups = [[Device("Ed25519") for _ in range(50)] for _ in range(20)]
    created = create(owner, groups, 20)
    assert created["challenges_sent"] == 1000
    assert len(state(owner, created)["groups"][19]["members"]) == 50
    assert_ok(cancel(owner, created["request_id"]))
    padded = json.dumps(request_body(five_devices_in_three_groups())).encode()
    padded += b" " * (256 * 1024 - len(padded))
    assert_ok(post_request(owner, padded), 201)
    assert_error(post_request(owner, padded + b" "), 413, "PAYLOAD_TOO_LARGE")


def test_the_pending_limit_counts_for_every_member_and_no_member_is_named(owner: Integrator, device: Device) -> None:
    for _ in range(4):
        owner.challenge(device)
    fifth = create(owner, [[Device()], [device]])
    assert_error(owner.create(device), 429, "TOO_MANY_PENDING")
    answer = post_request(owner, request_body([[Device(), device]], 1))
    assert assert_error(answer, 429, "TOO_MANY_PENDING") == {}
    assert device.fingerprint[:8] not in answer.text
    assert_ok(cancel(owner, fifth["request_id"]))
    owner.challenge(device)


def test_an_unknown_trigger_mutes_the_requester_for_the_member(owner: Integrator, device: Device) -> None:
    created = create(owner, [[device], [Device()]], 1)
    assert_ok(vote(owner, device, created, "rejected", reason="unknown_trigger"))
    assert_error(post_request(owner, request_body([[device]], 1)), 429, "RATE_LIMITED")
    assert_error(owner.create(device), 429, "RATE_LIMITED")


def test_number_matching_does_not_apply_to_approval_requests(public_server: Server) -> None:
    owner, device = Integrator(public_server, public_server.identity.api_key()), Device()
    created = create(owner, [[device]], 1)
    assert "match_code" not in state(owner, created)
    assert assert_ok(vote(owner, device, created))["status"] == "approved"


def test_an_mpa_id_is_accepted_in_either_case(owner: Integrator) -> None:
    """RFC 9562, section 4. A vote in another case is a vote on the same request."""
    device, other = Device(), Device()
    created = create(owner, [[device], [other]])
    upper = vote_body(owner, device, created) | {"mpa_id": created["mpa_id"].upper()}
    assert_ok(post(owner.server, "/mpa/respond", upper))
    assert_error(post(owner.server, "/mpa/respond", vote_body(owner, device, created)), 409, "ALREADY_ANSWERED")
    assert state(owner, created)["mpa_id"] == created["mpa_id"] == created["mpa_id"].lower()
