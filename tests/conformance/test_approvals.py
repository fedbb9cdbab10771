"""Multi-party approval on the wire: forms, order of refusals, and bytes written a second time."""

from __future__ import annotations

import hashlib
import json
from typing import Any

import httpx
import pytest
import rfc8785

from .integrator import ACTION, Integrator, good, post, refused
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
NOBODY = "11111111-1111-4111-8111-111111111111"
Groups = list[list[Device]]


def three() -> Groups:
    return [[Device("ES256"), Device("ES256K")], [Device("Ed25519"), Device()], [Device()]]


def wanted(groups: Groups, required: int = 2, **more: Any) -> dict[str, Any]:
    members = [{"members": [{"device_public_key": device.public} for device in group]} for group in groups]
    return {"action": ACTION, "required": required, "groups": members, **more}


def request(owner: Integrator, body: Any, **headers: str) -> httpx.Response:
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    sent = {"Content-Type": "application/json", **owner.headers, **headers}
    return owner.server.http.post("/mpa/request", content=content, headers=sent)


def made(owner: Integrator, groups: Groups, required: int = 2, **more: Any) -> dict[str, Any]:
    return good(request(owner, wanted(groups, required, **more)), 201)


def look(owner: Integrator, request_id: str, **query: Any) -> httpx.Response:
    return owner.server.http.get(f"/mpa/status/{request_id}", params=query, headers=owner.headers)


def state(owner: Integrator, asked: dict[str, Any]) -> dict[str, Any]:
    found = good(look(owner, asked["request_id"]))
    for vote in found["votes"]:
        note_signature(vote["signature"])
    return found


def cancel(owner: Integrator, request_id: str) -> httpx.Response:
    return owner.server.http.delete(f"/mpa/request/{request_id}", headers=owner.headers)


def ballot(
    owner: Integrator, device: Device, asked: dict[str, Any], decision: str = "approved", tag: bytes = b"", **more: Any
) -> dict[str, Any]:
    tag = tag or (MPA if decision == "approved" else MPA_REJECT)
    context = state(owner, asked)["action_context"]
    return {
        "mpa_id": asked["mpa_id"],
        "fingerprint": device.fingerprint,
        "decision": decision,
        "signature": device.sign(tag + rfc8785.dumps(context)),
        **more,
    }


def vote(owner: Integrator, device: Device, asked: dict[str, Any], decision: str = "approved", **more: Any) -> Any:
    return post(owner.server, "/mpa/respond", ballot(owner, device, asked, decision, **more))


def test_a_request_answers_with_exactly_the_documented_members(owner: Integrator) -> None:
    asked = made(owner, three(), request_id="pay:7.A_b-c")
    assert set(asked) == {
        "request_id", "mpa_id", "status", "groups_required", "groups_total", "challenges_sent", "expires_at",
    }  # fmt: skip
    assert (asked["request_id"], asked["status"]) == ("pay:7.A_b-c", "pending")
    assert (asked["groups_required"], asked["groups_total"], asked["challenges_sent"]) == (2, 3, 5)


def test_a_name_is_made_where_none_is_given(owner: Integrator) -> None:
    first, second = made(owner, three()), made(owner, three(), request_id=None)
    assert first["request_id"] != second["request_id"]
    assert state(owner, first)["mpa_id"] == first["mpa_id"]


def test_the_context_says_what_is_asked_of_whom(owner: Integrator) -> None:
    groups = three()
    asked = made(owner, groups, reject_policy="reject_on_first", expires_in_seconds=900)
    found = state(owner, asked)
    names = [sorted(device.fingerprint for device in group) for group in groups]
    context = found["action_context"]
    assert len(unb64(context.pop("nonce"))) == 32
    assert context == {
        **ACTION,
        "mpa_id": asked["mpa_id"],
        "request_id": asked["request_id"],
        "server_id": owner.server.identity.server_id,
        "expires_at": asked["expires_at"],
        "respond_to": "",
        "required": 2,
        "reject_policy": "reject_on_first",
        "groups_sha256": hashlib.sha256(rfc8785.dumps(names)).hexdigest(),
    }
    assert found["groups"] == [
        {"members": [{"device_public_key": d.public, "fingerprint": d.fingerprint} for d in group]} for group in groups
    ]


def test_the_server_signs_the_context_with_the_key_that_its_id_names(owner: Integrator) -> None:
    found = state(owner, made(owner, three()))
    key = unb64(found["server_public_key"])
    assert fingerprint_of(key) == owner.server.identity.server_id
    assert verifies(key, MPA + rfc8785.dumps(found["action_context"]), unb64(found["server_signature"]))


@pytest.mark.parametrize("suite", SUITES)
def test_a_device_is_asked_in_its_own_suite(owner: Integrator, suite: str) -> None:
    device = Device(suite)
    asked = made(owner, [[device], [Device()]])
    server: Server = owner.server
    listed = good(post(server, "/device/pending", device.pending_body(server.identity.server_id)))
    (payload,) = listed["mpa"]
    assert listed["challenges"] == []
    signature = unb64(payload.pop("server_signature"))
    assert payload == {
        "type": "mpa",
        "mpa_id": asked["mpa_id"],
        "server_id": server.identity.server_id,
        "action_context": state(owner, asked)["action_context"],
        "expires_at": asked["expires_at"],
    }
    message = MPA + rfc8785.dumps(payload["action_context"])
    assert verifies(server.identity.keys[suite].public, message, signature)
    good(vote(owner, device, asked))
    again = good(post(server, "/device/pending", device.pending_body(server.identity.server_id)))
    assert again["mpa"] == []


def test_where_to_answer_is_signed_where_there_is_a_public_address(public_server: Server) -> None:
    device = Device()
    owner = Integrator(public_server, public_server.identity.api_key())
    made(owner, [[device]], 1)
    body = device.pending_body(public_server.identity.server_id)
    (payload,) = good(post(public_server, "/device/pending", body))["mpa"]
    assert payload["respond_to"] == "https://sigil.example.com/mpa/respond" == payload["action_context"]["respond_to"]
    assert "number_matching" not in payload


def test_a_vote_answers_with_exactly_the_documented_members(owner: Integrator) -> None:
    groups = three()
    asked = made(owner, groups)
    anna, emil = groups[0][0], groups[2][0]
    emoji, spoken = pictogram_of(anna.fingerprint)
    assert good(vote(owner, anna, asked)) == {
        "status": "recorded",
        "fingerprint": anna.fingerprint,
        "pictogram": emoji,
        "pictogram_speakable": spoken,
        "group_satisfied": True,
        "groups_satisfied": 1,
        "groups_required": 2,
        "quorum_reached": False,
    }
    last = good(vote(owner, emil, asked))
    assert (last["status"], last["groups_satisfied"], last["quorum_reached"]) == ("approved", 2, True)


def test_the_votes_are_in_the_status_with_their_proof(owner: Integrator) -> None:
    groups = three()
    asked = made(owner, groups)
    good(vote(owner, groups[0][1], asked))
    good(vote(owner, groups[1][0], asked, "rejected", reason="cancelled"))
    found = state(owner, asked)
    assert (found["status"], found["groups_satisfied"]) == ("pending", [0])
    yes, no = found["votes"]
    assert (yes["group"], yes["decision"], "reason" in yes) == (0, "approved", False)
    assert (no["group"], no["decision"], no["reason"]) == (1, "rejected", "cancelled")
    for told, device, tag in ((yes, groups[0][1], MPA), (no, groups[1][0], MPA_REJECT)):
        assert (told["fingerprint"], told["device_public_key"]) == (device.fingerprint, device.public)
        assert verifies(unb64(told["device_public_key"]), tag + rfc8785.dumps(found["action_context"]),
                        unb64(told["signature"]))  # fmt: skip


def test_a_key_or_a_fingerprint_is_enough_and_both_must_agree(owner: Integrator) -> None:
    groups = three()
    asked = made(owner, groups)
    anna, bert = groups[0]
    body = ballot(owner, anna, asked)
    refused(post(owner.server, "/mpa/respond", {**body, "device_public_key": bert.public}), 400, "FINGERPRINT_MISMATCH")
    del body["fingerprint"]
    refused(post(owner.server, "/mpa/respond", body), 400, "INVALID_REQUEST", "$.device_public_key")
    good(post(owner.server, "/mpa/respond", {**body, "device_public_key": anna.public}))
    good(vote(owner, bert, asked, timestamp="whenever"))


@pytest.mark.parametrize(
    "change", [{"decision": None}, {"decision": "maybe"}, {"match_code": "07"}, {"reason": "bored"}, {"signature": "A"}]
)
def test_a_vote_of_another_form_is_refused(owner: Integrator, change: dict[str, Any]) -> None:
    asked = made(owner, [[Device()]], 1)
    body = {"mpa_id": asked["mpa_id"], "fingerprint": "0" * 64, "decision": "approved", "signature": "AAAA", **change}
    refused(post(owner.server, "/mpa/respond", body), 400, "INVALID_REQUEST")


def test_refusals_come_in_the_order_of_the_protocol(owner: Integrator) -> None:
    groups = three()
    (anna, bert), (carl, _), _ = groups
    stranger = Device()
    asked = made(owner, groups)
    wrong = ballot(owner, anna, asked, tag=MPA_REJECT)
    refused(post(owner.server, "/mpa/respond", {**wrong, "mpa_id": NOBODY}), 404, "MPA_NOT_FOUND")
    refused(post(owner.server, "/mpa/respond", {**wrong, "mpa_id": "no-id"}), 404, "MPA_NOT_FOUND")
    refused(post(owner.server, "/mpa/respond", wrong), 401, "INVALID_SIGNATURE")
    refused(vote(owner, stranger, asked), 401, "INVALID_SIGNATURE")
    good(vote(owner, anna, asked))
    refused(post(owner.server, "/mpa/respond", wrong), 401, "INVALID_SIGNATURE")
    refused(vote(owner, anna, asked, "rejected"), 409, "ALREADY_ANSWERED")
    good(vote(owner, carl, asked))
    refused(vote(owner, anna, asked), 409, "ALREADY_ANSWERED")
    assert refused(vote(owner, bert, asked), 409, "MPA_CLOSED") == {"status": "approved"}
    refused(vote(owner, stranger, asked), 401, "INVALID_SIGNATURE")


def test_a_rejection_never_becomes_an_approval(owner: Integrator) -> None:
    groups = [[Device()], [Device()]]
    asked = made(owner, groups)
    assert good(vote(owner, groups[0][0], asked, "rejected"))["status"] == "rejected"
    refused(vote(owner, groups[1][0], asked), 409, "MPA_CLOSED")
    assert state(owner, asked)["status"] == "rejected"


def test_a_repeat_is_the_same_request_and_another_body_is_a_conflict(owner: Integrator) -> None:
    body = json.dumps(wanted(three(), request_id="r-1")).encode()
    first = good(request(owner, body), 201)
    assert good(request(owner, body), 200) == first
    refused(request(owner, body + b" "), 409, "REQUEST_ID_CONFLICT")
    refused(request(owner, wanted(three(), request_id="r-1")), 409, "REQUEST_ID_CONFLICT")


def test_what_one_owner_asks_no_other_sees(owner: Integrator, other_owner: Integrator) -> None:
    asked = made(owner, three(), request_id="mine")
    for answer in (look(other_owner, "mine"), cancel(other_owner, "mine"), look(owner, asked["mpa_id"])):
        refused(answer, 404, "MPA_NOT_FOUND")
    theirs = made(other_owner, three(), request_id="mine")
    assert theirs["mpa_id"] != asked["mpa_id"]


def test_a_cancelled_request_is_final(owner: Integrator) -> None:
    groups = three()
    asked = made(owner, groups)
    for _ in range(2):
        assert good(cancel(owner, asked["request_id"]))["status"] == "cancelled"
    refused(vote(owner, groups[0][0], asked), 409, "MPA_CLOSED")
    approved = made(owner, groups, 1)
    good(vote(owner, groups[0][0], approved))
    assert refused(cancel(owner, approved["request_id"]), 409, "MPA_CLOSED") == {"status": "approved"}
    assert good(look(owner, approved["request_id"], wait=25))["status"] == "approved"


def test_every_call_of_an_integrator_wants_a_key(server: Server, owner: Integrator) -> None:
    asked = made(owner, three())
    stranger = Integrator(server, "sgk_test_" + "0" * 64)
    for answer in (
        request(stranger, wanted(three())),
        look(stranger, asked["request_id"]),
        cancel(stranger, asked["request_id"]),
    ):
        refused(answer, 401, "UNAUTHORIZED")


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
    "required as a text": ({"required": "2"}, "$.required"),
    "an unknown policy": ({"reject_policy": "never"}, "$.reject_policy"),
    "too short a life": ({"expires_in_seconds": 59}, "$.expires_in_seconds"),
    "too long a life": ({"expires_in_seconds": 901}, "$.expires_in_seconds"),
    "an empty name": ({"request_id": ""}, "$.request_id"),
    "a name with a slash": ({"request_id": "a/b"}, "$.request_id"),
    "a name that paths take away": ({"request_id": ".."}, "$.request_id"),
    "a long name": ({"request_id": "a" * 129}, "$.request_id"),
    "a name with a newline": ({"request_id": "a\n"}, "$.request_id"),
    "an action with a fraction": ({"action": {**ACTION, "params": {"a": 1.5}}}, "$.action.params"),
}


@pytest.mark.parametrize("name", BAD)
def test_a_request_of_another_form_is_refused_and_the_field_is_named(owner: Integrator, name: str) -> None:
    change, path = BAD[name]
    details = refused(request(owner, {**wanted(three()), **change}), 400, "INVALID_REQUEST")
    assert details["path"].startswith(path)


def test_a_key_that_is_none_is_named_with_its_place(owner: Integrator, identity: ServerIdentity) -> None:
    for key in ("AA==", b64(identity.keys["ES256"].public)):
        body = wanted(three())
        body["groups"][1]["members"][1]["device_public_key"] = key
        details = refused(request(owner, body), 400, "INVALID_PUBLIC_KEY")
        assert details == {"path": "$.groups[1].members[1].device_public_key"}
    body = wanted(three())
    body["groups"][0]["members"][0]["fingerprint"] = "0" * 64
    refused(request(owner, body), 400, "FINGERPRINT_MISMATCH")


def test_a_thousand_members_fit_and_more_bytes_do_not(owner: Integrator) -> None:
    groups = [[Device("Ed25519") for _ in range(50)] for _ in range(20)]
    asked = made(owner, groups, 20)
    assert asked["challenges_sent"] == 1000
    assert len(state(owner, asked)["groups"][19]["members"]) == 50
    good(cancel(owner, asked["request_id"]))
    padded = json.dumps(wanted(three())).encode()
    padded += b" " * (256 * 1024 - len(padded))
    good(request(owner, padded), 201)
    refused(request(owner, padded + b" "), 413, "PAYLOAD_TOO_LARGE")


def test_what_is_pending_counts_for_every_member_and_nobody_is_named(owner: Integrator, device: Device) -> None:
    for _ in range(4):
        owner.challenge(device)
    fifth = made(owner, [[Device()], [device]])
    refused(owner.create(device), 429, "TOO_MANY_PENDING")
    answer = request(owner, wanted([[Device(), device]], 1))
    assert refused(answer, 429, "TOO_MANY_PENDING") == {}
    assert device.fingerprint[:8] not in answer.text
    good(cancel(owner, fifth["request_id"]))
    owner.challenge(device)


def test_who_did_not_expect_it_is_left_in_peace(owner: Integrator, device: Device) -> None:
    asked = made(owner, [[device], [Device()]], 1)
    good(vote(owner, device, asked, "rejected", reason="unknown_trigger"))
    refused(request(owner, wanted([[device]], 1)), 429, "RATE_LIMITED")
    refused(owner.create(device), 429, "RATE_LIMITED")


def test_number_matching_does_not_apply(public_server: Server) -> None:
    owner, device = Integrator(public_server, public_server.identity.api_key()), Device()
    asked = made(owner, [[device]], 1)
    assert "match_code" not in state(owner, asked)
    assert good(vote(owner, device, asked))["status"] == "approved"
