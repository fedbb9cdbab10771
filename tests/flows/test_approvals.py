"""Approval requests from end to end: two workers, real keys, and a relay in this process."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import time
from collections.abc import Iterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Any

import httpx
import pytest

from sigil.device import Device, ServerPin, verify_info
from sigil.device.approval_checks import verify_mpa_payload
from sigil.sdk import verify_votes
from tests.flows.backend import Backend
from tests.flows.test_metrics import scrape
from tests.support.live import LiveServer, wait_until
from tests.support.stand_in_relay import StandInRelay
from tests.support.webhook_endpoint import WebhookEndpoint, verified_event

ACTION = {"type": "deploy", "description": "Zoë deploys to production", "params": {"version": "7.1"}}
SECRET = "the webhook secret of these flow tests"
SETTINGS = {
    "SIGIL_DEVICE_RATE": "off",
    "SIGIL_RATE_LIMIT": "off",
    "SIGIL_MPA_EXCLUDE_REQUESTER": "true",
    "WEBHOOK_SECRET": SECRET,
}
Groups = list[list[Device]]


@dataclass(frozen=True)
class ApprovalRequest:
    """An approval request, its requester and its groups of members."""

    backend: Backend
    groups: Groups
    created: dict[str, Any]

    @classmethod
    def create(cls, backend: Backend, groups: Groups, required: int, **members: Any) -> ApprovalRequest:
        answer = backend.http.post("/mpa/request", json=request_body(groups, required, **members))
        assert answer.status_code == 201, answer.text
        return cls(backend, groups, answer.json())

    def status(self, wait: int = 0) -> dict[str, Any]:
        answer = self.backend.http.get(f"/mpa/status/{self.created['request_id']}", params={"wait": wait})
        assert answer.status_code == 200, answer.text
        status: dict[str, Any] = answer.json()
        return status

    def vote_body_of(self, device: Device, decision: Any = "approved", *, signed: Any = None) -> dict[str, str]:
        signature = device.sign_vote(self.status()["action_context"], signed or decision)
        return device.vote_body(self.created["mpa_id"], decision, signature)

    def vote(self, device: Device, decision: Any = "approved", **more: Any) -> tuple[int, str]:
        """The HTTP status, and the `status` member of the response or the code of the error."""
        answer = self.backend.http.post("/mpa/respond", json=self.vote_body_of(device, decision, **more))
        document = answer.json()
        return answer.status_code, document["error"]["code"] if "error" in document else document["status"]

    def push_key(self, device: Device, kind: str = "mpa") -> str:
        members = [member for group in self.groups for member in group]
        return f"{self.created['mpa_id']}:{members.index(device)}:{kind}"

    def webhook_outcome(self, endpoint: WebhookEndpoint) -> tuple[str, str | None, tuple[int, ...] | None]:
        """Type, decision and satisfied groups of the webhook event of its final state, verified."""
        name = f"evt_{self.created['mpa_id']}"
        wait_until(lambda: endpoint.arrivals_of(name), f"the event {name}")
        (arrival,) = endpoint.arrivals_of(name)
        event = verified_event(arrival, SECRET)
        assert (event.request_id, event.mpa_id) == (self.created["request_id"], self.created["mpa_id"])
        return event.type, event.decision, event.groups_satisfied

    def verified_status(self, required: int) -> str:
        """The status, after `verify_votes` has proved it from the JSON of the response alone."""
        answer = self.backend.http.get(f"/mpa/status/{self.created['request_id']}")
        return verify_votes(answer.content, server_id=self.backend.server.identity.server_id, required=required).status


def request_body(groups: Groups, required: int, **members: Any) -> dict[str, Any]:
    requested_groups = [{"members": [{"device_public_key": device.wire_key} for device in group]} for group in groups]
    return {"action": ACTION, "required": required, "groups": requested_groups, **members}


def five_devices_in_three_groups() -> Groups:
    """Five devices of all suites in three groups."""
    anna, bert, carl = Device.generate("ES256"), Device.generate("ES256K"), Device.generate("Ed25519")
    return [[anna, bert], [carl, Device.generate()], [Device.generate()]]


def device_groups(groups: int, members: int) -> Groups:
    return [[Device.generate("Ed25519") for _ in range(members)] for _ in range(groups)]


@pytest.fixture(scope="module")
def relay() -> Iterator[StandInRelay]:
    with StandInRelay() as standing_in:
        yield standing_in
        assert standing_in.violations == []


@pytest.fixture(scope="module")
def endpoint() -> Iterator[WebhookEndpoint]:
    with WebhookEndpoint() as one:
        yield one


@pytest.fixture(scope="module")
def approval_server(relay: StandInRelay, endpoint: WebhookEndpoint) -> Iterator[LiveServer]:
    with LiveServer(workers=2, RELAY_URL=relay.url, WEBHOOK_URL=endpoint.url, **SETTINGS) as server:
        wait_until(lambda: len(server.workers()) == 2, "both workers")
        yield server
        assert [line for line in server.log() if line["event"] == "background_loop_failed"] == []


@pytest.fixture(scope="module")
def caller(approval_server: LiveServer) -> Iterator[Backend]:
    with Backend(approval_server) as backend:
        yield backend


@pytest.fixture(scope="module", autouse=True)
def expiring_request(caller: Backend) -> ApprovalRequest:
    """Created before the tests of this module and checked after them: the shortest request takes 60 s to time out."""
    return ApprovalRequest.create(caller, five_devices_in_three_groups(), 2, expires_in_seconds=60)


@pytest.fixture(scope="module")
def pin(approval_server: LiveServer) -> ServerPin:
    with approval_server.client() as client:
        return verify_info(client.get("/info").content, approval_server.url, pin=approval_server.identity.server_id)


def test_info_lists_mpa_as_a_feature(approval_server: LiveServer) -> None:
    with approval_server.client() as client:
        assert client.get("/info").json()["features"]["mpa"] is True


def test_two_of_three_groups_approve_and_the_other_members_get_a_clear(
    caller: Backend, relay: StandInRelay, endpoint: WebhookEndpoint, pin: ServerPin
) -> None:
    groups = five_devices_in_three_groups()
    (anna, bert), (carl, dora), (emil,) = groups
    request = ApprovalRequest.create(caller, groups, 2, request_id=f"release-{groups[0][0].fingerprint[:8]}")
    all_devices = [anna, bert, carl, dora, emil]
    wait_until(
        lambda: {request.push_key(device) for device in all_devices} <= set(relay.accepted_keys()), "all five pushes"
    )
    for device in all_devices:
        (push,) = [push for push in relay.pushes if push["push_key"] == request.push_key(device)]
        assert push["fingerprint"] == device.fingerprint
        payload = json.dumps(push["payload"], ensure_ascii=False, separators=(",", ":")).encode()
        shown = verify_mpa_payload(payload, pin, device.public, time.time())
        assert (shown.mpa_id, shown.params) == (request.created["mpa_id"], ACTION["params"])
    assert request.vote(anna) == (200, "recorded")
    assert request.vote(bert, "rejected") == (200, "already_satisfied")
    assert request.verified_status(2) == "pending"
    assert request.vote(dora) == (200, "approved")
    assert request.vote(emil) == (409, "MPA_CLOSED")
    assert (request.verified_status(2), request.status()["groups_satisfied"]) == ("approved", [0, 1])
    assert request.webhook_outcome(endpoint) == ("mpa.approved", "approved", (0, 1))
    wait_until(
        lambda: {request.push_key(device, "clear") for device in (carl, emil)} <= set(relay.accepted_keys()),
        "two clears",
    )
    clears = [push for push in relay.pushes if push["push_key"].startswith(f"{request.created['mpa_id']}:")]
    assert [p["payload"] for p in clears if p["payload"]["type"] == "clear"] == [
        {"type": "clear", "mpa_id": request.created["mpa_id"], "status": "approved"}
    ] * 2


def test_the_deciding_vote_ends_a_long_poll(approval_server: LiveServer, caller: Backend) -> None:
    async def wait_and_vote(request: ApprovalRequest) -> dict[str, Any]:
        async with approval_server.async_client() as waiting, approval_server.async_client() as voting:
            path = f"/mpa/status/{request.created['request_id']}"
            long_poll = asyncio.create_task(waiting.get(path, params={"wait": 25}))
            await voting.post("/mpa/respond", json=vote_bodies[0])
            await voting.post("/mpa/respond", json=vote_bodies[1])
            status: dict[str, Any] = (await long_poll).json()
            return status

    groups = five_devices_in_three_groups()
    request = ApprovalRequest.create(caller, groups, 2)
    vote_bodies = [request.vote_body_of(groups[0][0]), request.vote_body_of(groups[2][0])]
    assert asyncio.run(wait_and_vote(request))["status"] == "approved"


def test_continue_rejects_a_request_when_too_few_groups_can_still_approve(
    caller: Backend, endpoint: WebhookEndpoint
) -> None:
    groups = five_devices_in_three_groups()
    request = ApprovalRequest.create(caller, groups, 2)
    assert [request.vote(device, "rejected") for device in (groups[0][0], groups[2][0], groups[0][1])] == [
        (200, "recorded"),
        (200, "recorded"),
        (200, "rejected"),
    ]
    assert request.verified_status(2) == "rejected"
    assert request.webhook_outcome(endpoint) == ("mpa.rejected", "rejected", ())


def test_reject_on_first_rejects_a_request_at_its_first_rejection(caller: Backend, endpoint: WebhookEndpoint) -> None:
    groups = five_devices_in_three_groups()
    request = ApprovalRequest.create(caller, groups, 2, reject_policy="reject_on_first")
    assert request.vote(groups[0][0]) == (200, "recorded")
    assert request.vote(groups[0][1], "rejected") == (200, "rejected")
    assert request.verified_status(2) == "rejected"
    assert request.webhook_outcome(endpoint) == ("mpa.rejected", "rejected", (0,))


def test_a_cancelled_request_accepts_no_vote_and_sends_clears_but_no_webhook(
    caller: Backend, relay: StandInRelay, endpoint: WebhookEndpoint
) -> None:
    groups = five_devices_in_three_groups()
    request = ApprovalRequest.create(caller, groups, 1)
    wait_until(lambda: request.push_key(groups[2][0]) in relay.accepted_keys(), "the pushes")
    for _ in range(2):
        answer = caller.http.delete(f"/mpa/request/{request.created['request_id']}")
        assert (answer.status_code, answer.json()["status"]) == (200, "cancelled")
    assert request.vote(groups[0][0]) == (409, "MPA_CLOSED")
    wait_until(lambda: request.push_key(groups[2][0], "clear") in relay.accepted_keys(), "the clears")
    assert request.verified_status(1) == "cancelled"
    assert endpoint.arrivals_of(f"evt_{request.created['mpa_id']}") == []


def test_the_requester_may_not_vote(caller: Backend, relay: StandInRelay) -> None:
    groups = five_devices_in_three_groups()
    (anna, bert), (carl, _), (emil,) = groups
    action = {**ACTION, "params": {"requested_by": anna.fingerprint}}
    request = ApprovalRequest.create(caller, groups, 2, action=action)
    assert request.created["challenges_sent"] == 4
    assert request.vote(anna, signed="rejected") == (401, "INVALID_SIGNATURE")
    assert request.vote(anna) == (403, "NOT_ELIGIBLE")
    wait_until(lambda: request.push_key(emil) in relay.accepted_keys(), "the pushes")
    assert request.push_key(anna) not in relay.accepted_keys()
    for device in (bert, emil):
        answer = request.vote(device, "rejected")
    assert (answer, request.verified_status(2)) == ((200, "rejected"), "rejected")
    alone = caller.http.post("/mpa/request", json=request_body([[anna], [carl]], 2, action=action))
    assert (alone.status_code, alone.json()["error"]["details"]["path"]) == (400, "$.groups")


async def post_over_many_connections(
    server: LiveServer, path: str, bodies: list[Any], connections: int = 50
) -> list[httpx.Response]:
    """Sends all bodies concurrently, over many connections to both workers."""
    async with AsyncExitStack() as stack:
        clients = [await stack.enter_async_context(server.async_client()) for _ in range(connections)]
        for client in clients:
            await client.get("/health")
        sent = [clients[n % connections].post(path, json=body) for n, body in enumerate(bodies)]
        return list(await asyncio.gather(*sent))


async def test_one_of_fifty_concurrent_votes_of_a_device_counts(approval_server: LiveServer, caller: Backend) -> None:
    groups = five_devices_in_three_groups()
    request = ApprovalRequest.create(caller, groups, 2)
    answers = await post_over_many_connections(
        approval_server, "/mpa/respond", [request.vote_body_of(groups[0][0])] * 50
    )
    codes = [answer.json()["error"]["code"] for answer in answers if answer.status_code != 200]
    assert codes == ["ALREADY_ANSWERED"] * 49
    assert len(request.status()["votes"]) == 1


async def test_concurrent_votes_count_once_each_and_end_the_request_once(
    approval_server: LiveServer, caller: Backend
) -> None:
    groups = device_groups(10, 4)
    request = ApprovalRequest.create(caller, groups, 10)
    context = request.status()["action_context"]
    bodies = [
        device.vote_body(request.created["mpa_id"], "approved", device.sign_vote(context, "approved"))
        for group in groups
        for device in group
    ]
    answers = await post_over_many_connections(approval_server, "/mpa/respond", bodies * 2)
    outcomes = [answer.json().get("status") or answer.json()["error"]["code"] for answer in answers]
    status = request.status()
    counted = [word for word in outcomes if word in {"recorded", "already_satisfied", "approved"}]
    assert outcomes.count("approved") == 1
    assert len(counted) == len(status["votes"])
    assert set(outcomes) - set(counted) <= {"ALREADY_ANSWERED", "MPA_CLOSED"}
    assert request.verified_status(10) == "approved"


async def test_concurrent_copies_of_a_request_create_it_once(approval_server: LiveServer, caller: Backend) -> None:
    for groups in (five_devices_in_three_groups(), device_groups(6, 12)):
        body = request_body(groups, 1, request_id=f"same-{groups[0][0].fingerprint}")
        answers = await post_over_many_connections(approval_server, "/mpa/request", [body] * 20, 20)
        # With many members a copy may find another copy in progress; the response has Retry-After.
        assert sorted({answer.status_code for answer in answers} - {429}) == [200, 201]
        made = [answer for answer in answers if answer.status_code == 201]
        assert len(made) == 1
        assert len({a.json()["mpa_id"] for a in answers if a.status_code < 300}) == 1
        again = caller.http.post("/mpa/request", json=body)
        assert (again.status_code, again.json()) == (200, made[0].json())
        other = caller.http.post("/mpa/request", json=body | {"required": 2})
        assert (other.status_code, other.json()["error"]["code"]) == (409, "REQUEST_ID_CONFLICT")


def test_a_thousand_members_each_get_a_push_and_a_clear(caller: Backend, relay: StandInRelay) -> None:
    groups = device_groups(20, 50)
    began = len(relay.accepted_keys())
    request = ApprovalRequest.create(caller, groups, 20)
    assert request.created["challenges_sent"] == 1000

    def keys(kind: str) -> set[str]:
        prefix = f"{request.created['mpa_id']}:"
        return {key for key in relay.accepted_keys()[began:] if key.startswith(prefix) and key.endswith(kind)}

    wait_until(lambda: len(keys("mpa")) == 1000, "a thousand pushes")
    assert request.vote(groups[19][49]) == (200, "recorded")
    assert caller.http.delete(f"/mpa/request/{request.created['request_id']}").status_code == 200
    wait_until(lambda: len(keys("clear")) == 999, "the clears of all others")
    assert max(relay.tries[key] for key in keys("mpa") | keys("clear")) == 1
    again = ApprovalRequest.create(caller, [groups[0][:1], groups[19][48:]], 1)
    assert again.vote(groups[0][0]) == (200, "approved")


def test_ten_thousand_members_are_rejected(caller: Backend) -> None:
    member = {"device_public_key": Device.generate().wire_key}
    whole = {"action": ACTION, "required": 1, "groups": [{"members": [member] * 50}] * 200}
    assert error_of(caller.http.post("/mpa/request", json=whole)) == (413, "PAYLOAD_TOO_LARGE")
    crowded = {"action": ACTION, "required": 1, "groups": [{"members": [member] * 51}]}
    assert error_of(caller.http.post("/mpa/request", json=crowded)) == (400, "INVALID_REQUEST")
    short = {"action": ACTION, "required": 1, "groups": [{"members": [{"device_public_key": "A"}] * 500}] * 20}
    assert error_of(caller.http.post("/mpa/request", json=short)) in {
        (400, "INVALID_REQUEST"),
        (413, "PAYLOAD_TOO_LARGE"),
    }


def test_unknown_devices_and_members_of_other_requests_have_no_vote(caller: Backend) -> None:
    mine, theirs = (
        ApprovalRequest.create(caller, five_devices_in_three_groups(), 2),
        ApprovalRequest.create(caller, five_devices_in_three_groups(), 2),
    )
    assert mine.vote(Device.generate()) == (401, "INVALID_SIGNATURE")
    assert mine.vote(theirs.groups[0][0]) == (401, "INVALID_SIGNATURE")
    assert mine.vote(mine.groups[0][0], signed="rejected") == (401, "INVALID_SIGNATURE")
    assert mine.vote(mine.groups[0][0], "rejected", signed="approved") == (401, "INVALID_SIGNATURE")
    assert mine.status()["votes"] == []


def test_a_killed_worker_loses_no_request_and_no_vote(approval_server: LiveServer, caller: Backend) -> None:
    groups = five_devices_in_three_groups()
    request = ApprovalRequest.create(caller, groups, 2)
    assert request.vote(groups[0][0]) == (200, "recorded")
    victim = approval_server.workers()[0]
    os.kill(victim, signal.SIGKILL)
    wait_until(lambda: len(approval_server.workers()) == 2 and victim not in approval_server.workers(), "a new worker")
    with Backend(approval_server) as after:
        again = ApprovalRequest(after, groups, request.created)
        assert again.vote(groups[0][0]) == (409, "ALREADY_ANSWERED")
        assert again.vote(groups[2][0]) == (200, "approved")
        assert again.verified_status(2) == "approved"


def test_metrics_and_log_record_a_request_without_its_signatures(approval_server: LiveServer, caller: Backend) -> None:
    groups = five_devices_in_three_groups()
    request = ApprovalRequest.create(caller, groups, 1)
    request.vote(groups[0][0])
    with approval_server.client() as client:
        sample = scrape(client)
    counted = {dict(labels)["status"]: n for (name, labels), n in sample.items() if name == "sigil_mpa_requests_total"}
    assert {"created", "vote", "approved", "rejected", "timeout", "cancelled"} <= set(counted)
    assert counted["approved"] >= 1
    assert sample["sigil_mpa_duration_seconds_count", ()] >= 1
    events = [line for line in approval_server.log() if line.get("mpa_id") == request.created["mpa_id"]]
    assert [line["event"] for line in events] == ["mpa_created", "mpa_vote", "mpa_approved"]
    assert events[0]["mpa_request_id"] == request.created["request_id"]
    signatures = [vote["signature"] for vote in request.status()["votes"]]
    assert not any(signature in approval_server.log_path.read_text() for signature in signatures)


def test_a_request_with_too_few_votes_expires(
    expiring_request: ApprovalRequest, relay: StandInRelay, endpoint: WebhookEndpoint
) -> None:
    (anna, _), (carl, _), _ = expiring_request.groups
    assert expiring_request.vote(anna)[0] in {200, 410}
    wait_until(lambda: expiring_request.status()["status"] == "timeout", "the request to time out")
    assert expiring_request.vote(carl) == (410, "MPA_EXPIRED")
    assert expiring_request.verified_status(2) == "timeout"
    outcome = expiring_request.webhook_outcome(endpoint)
    assert (outcome[0], outcome[1]) == ("mpa.timeout", None)
    wait_until(lambda: expiring_request.push_key(carl, "clear") in relay.accepted_keys(), "the clears")


def error_of(answer: httpx.Response) -> tuple[int, str]:
    return answer.status_code, answer.json()["error"]["code"]
