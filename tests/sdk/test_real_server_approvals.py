"""Approval requests of both clients against the real server, with devices that vote."""

from __future__ import annotations

import json
import threading
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from sigil.device import Device
from sigil.sdk import (
    Action,
    AnswerUnusable,
    Conflict,
    InvalidRequest,
    MpaStatus,
    NotFound,
    ResultTimeout,
    verify_votes,
)
from tests.protocol.vectors import cases
from tests.sdk.conftest import Connect, MovingClock
from tests.sdk.faults import FaultServer, answer, cut, refuse
from tests.support.live import LiveServer

ACTION = Action("deploy", "Zoë deploys 7.1", {"version": "7.1", "steps": [1, None]})


def three() -> list[list[Device]]:
    return [[Device.generate(), Device.generate("Ed25519")], [Device.generate("ES256K")], [Device.generate()]]


def keys(groups: list[list[Device]]) -> list[list[str]]:
    return [[device.wire_key for device in group] for group in groups]


def vote(server: LiveServer, device: Device, status: MpaStatus, decision: Any = "approved") -> None:
    body = device.vote_body(status.mpa_id, decision, device.sign_vote(status.action_context, decision))
    with server.client() as http:
        response = http.post("/mpa/respond", json=body)
    assert response.status_code == 200, response.text


def test_a_quorum_approves_and_its_votes_are_a_proof(server: LiveServer, mpa: Any) -> None:
    groups = three()
    created = mpa.request(ACTION, keys(groups), 2, expires_in_seconds=60)
    assert timedelta(seconds=50) < created.expires_at - datetime.now(UTC) <= timedelta(seconds=60)
    assert (created.status, created.groups_required, created.groups_total, created.challenges_sent) == (
        "pending",
        2,
        3,
        4,
    )
    before = mpa.get_status(created.request_id)
    assert (before.is_final, before.approved, before.votes) == (False, False, ())
    later = threading.Timer(0.3, vote, (server, groups[2][0], before))
    vote(server, groups[0][1], before)
    later.start()
    after = mpa.await_result(created.request_id, timeout=60)
    later.join()
    assert (after.is_final, after.approved, after.groups_satisfied) == (True, True, (0, 2))
    assert [vote.decision for vote in after.votes] == ["approved", "approved"]
    verified = verify_votes(after, server_id=server.identity.server_id, required=2)
    assert (verified.approved, verified.action) == (True, ACTION)
    assert set(verified.approved_by) == {groups[0][1].fingerprint, groups[2][0].fingerprint}
    with pytest.raises(TypeError, match="approved"):
        bool(after)


def test_a_rejection_is_final_and_not_approved(server: LiveServer, mpa: Any) -> None:
    groups = three()
    created = mpa.request(ACTION, keys(groups), 2, reject_policy="reject_on_first")
    vote(server, groups[1][0], mpa.get_status(created.request_id), "rejected")
    status = mpa.await_result(created.request_id)
    assert (status.status, status.approved) == ("rejected", False)
    assert verify_votes(status, server_id=server.identity.server_id, required=1).status == "rejected"


def test_the_same_request_id_is_the_same_request_and_other_content_a_conflict(mpa: Any) -> None:
    groups = keys(three())
    name = f"order:{Device.generate().fingerprint[:12]}"
    created = [mpa.request(ACTION, groups, 1, request_id=name) for _ in range(2)]
    assert created[0] == created[1]
    with pytest.raises(Conflict) as conflict:
        mpa.request(ACTION, groups, 2, request_id=name)
    assert conflict.value.code == "REQUEST_ID_CONFLICT"


def test_cancelling_is_final_and_may_be_repeated(server: LiveServer, mpa: Any) -> None:
    created = mpa.request(ACTION, keys(three()), 2)
    assert [mpa.cancel(created.request_id).status for _ in range(2)] == ["cancelled"] * 2
    groups = three()
    created = mpa.request(ACTION, keys(groups), 1)
    vote(server, groups[0][0], mpa.get_status(created.request_id))
    with pytest.raises(Conflict) as conflict:
        mpa.cancel(created.request_id)
    assert (conflict.value.code, conflict.value.details) == ("MPA_CLOSED", {"status": "approved"})


def test_a_timeout_carries_the_last_status(mpa: Any) -> None:
    created = mpa.request(ACTION, keys(three()), 2)
    with pytest.raises(ResultTimeout) as late:
        mpa.await_result(created.request_id, timeout=1.2)
    assert late.value.mpa_request_id == created.request_id
    assert isinstance(late.value.last, MpaStatus)
    assert late.value.last.status == "pending"


@pytest.mark.parametrize("name", ["unknown-request", "..", "a/b", "", "a\n", "ä", "x" * 129])
def test_an_unknown_or_malformed_id_is_not_found(mpa: Any, name: str) -> None:
    for call in (mpa.get_status, mpa.cancel, mpa.await_result):
        with pytest.raises(NotFound):
            call(name)


@pytest.mark.parametrize(
    ("change", "path"),
    [
        ({"request_id": ".."}, "$.request_id"),
        ({"groups": "key"}, "$.groups"),
        ({"groups": ["key"]}, "$.groups"),
        ({"action": Action("deploy", "d", {"at": 1.5})}, "$.action.params"),
    ],
)
def test_an_invalid_request_is_rejected_before_it_is_sent(mpa: Any, change: dict[str, Any], path: str) -> None:
    given = {"action": ACTION, "groups": keys(three()), "required": 1, **change}
    with pytest.raises(InvalidRequest) as refused:
        mpa.request(**given)
    assert (refused.value.status, refused.value.path) == (None, path)


def test_an_error_of_the_server_names_the_member(mpa: Any) -> None:
    with pytest.raises(InvalidRequest) as refused:
        mpa.request(ACTION, [["AAAA"]], 1)
    assert (refused.value.status, refused.value.code) == (400, "INVALID_PUBLIC_KEY")
    assert refused.value.path == "$.groups[0].members[0].device_public_key"


def test_every_try_of_a_call_has_the_same_request_id(faulty: FaultServer, connect: Connect, clock: MovingClock) -> None:
    """So a creation whose response was lost does not create a second request."""
    mpa: Any = connect(faulty.url, "mpa", ca_file=faulty.certificate, clock=clock.as_clock())
    created = {
        "request_id": "r", "mpa_id": "m", "status": "pending", "groups_required": 1, "groups_total": 1,
        "challenges_sent": 1, "expires_at": "2026-04-24T10:37:15Z",
    }  # fmt: skip
    faulty.script = [cut, refuse(503), answer(200, json.dumps(created).encode())]
    mpa.request(ACTION, [["key"]], 1)
    names = {json.loads(seen.body)["request_id"] for seen in faulty.seen}
    assert len(faulty.seen) == 3
    assert len(names) == 1


def test_a_response_about_another_request_is_rejected(
    faulty: FaultServer, connect: Connect, clock: MovingClock
) -> None:
    mpa: Any = connect(faulty.url, "mpa", ca_file=faulty.certificate, clock=clock.as_clock())
    other = json.dumps(cases("votes.json")[0]["input"]["status"]).encode()
    faulty.script = [answer(200, other)]
    with pytest.raises(AnswerUnusable, match="another request"):
        mpa.get_status("release-8")
