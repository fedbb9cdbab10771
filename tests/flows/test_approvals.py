"""Multi-party approval from end to end: two workers, real keys, and a relay in this process."""

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
from tests.flows.people import Backend
from tests.flows.test_metrics import scrape
from tests.support.live import LiveServer, wait_until
from tests.support.stand_in_relay import StandInRelay
from tests.support.webhook_endpoint import WebhookEndpoint, checked

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
class Poll:
    """A request that was made, and who may vote on it."""

    backend: Backend
    groups: Groups
    created: dict[str, Any]

    @classmethod
    def ask(cls, backend: Backend, groups: Groups, required: int, **members: Any) -> Poll:
        answer = backend.http.post("/mpa/request", json=body_of(groups, required, **members))
        assert answer.status_code == 201, answer.text
        return cls(backend, groups, answer.json())

    def status(self, wait: int = 0) -> dict[str, Any]:
        answer = self.backend.http.get(f"/mpa/status/{self.created['request_id']}", params={"wait": wait})
        assert answer.status_code == 200, answer.text
        status: dict[str, Any] = answer.json()
        return status

    def ballot(self, device: Device, decision: Any = "approved", *, signed: Any = None) -> dict[str, str]:
        signature = device.sign_vote(self.status()["action_context"], signed or decision)
        return device.vote_body(self.created["mpa_id"], decision, signature)

    def vote(self, device: Device, decision: Any = "approved", **more: Any) -> tuple[int, str]:
        """The status of HTTP, and the word of the answer or the code of the error."""
        answer = self.backend.http.post("/mpa/respond", json=self.ballot(device, decision, **more))
        document = answer.json()
        return answer.status_code, document["error"]["code"] if "error" in document else document["status"]

    def key(self, device: Device, kind: str = "mpa") -> str:
        members = [member for group in self.groups for member in group]
        return f"{self.created['mpa_id']}:{members.index(device)}:{kind}"

    def told(self, endpoint: WebhookEndpoint) -> tuple[str, str | None, tuple[int, ...] | None]:
        """What the webhook says of its end, as an independent library and the SDK take it."""
        name = f"evt_{self.created['mpa_id']}"
        wait_until(lambda: endpoint.of(name), f"the event {name}")
        (arrival,) = endpoint.of(name)
        event = checked(arrival, SECRET)
        assert (event.request_id, event.mpa_id) == (self.created["request_id"], self.created["mpa_id"])
        return event.type, event.decision, event.groups_satisfied

    def verified(self, required: int) -> str:
        """The status, proven by its votes from its JSON alone."""
        answer = self.backend.http.get(f"/mpa/status/{self.created['request_id']}")
        return verify_votes(answer.content, server_id=self.backend.server.identity.server_id, required=required).status


def body_of(groups: Groups, required: int, **members: Any) -> dict[str, Any]:
    asked = [{"members": [{"device_public_key": device.wire_key} for device in group]} for group in groups]
    return {"action": ACTION, "required": required, "groups": asked, **members}


def five() -> Groups:
    """The owner's case: five devices, of all suites, in three groups."""
    anna, bert, carl = Device.generate("ES256"), Device.generate("ES256K"), Device.generate("Ed25519")
    return [[anna, bert], [carl, Device.generate()], [Device.generate()]]


def many(groups: int, members: int) -> Groups:
    return [[Device.generate("Ed25519") for _ in range(members)] for _ in range(groups)]


@pytest.fixture(scope="module")
def relay() -> Iterator[StandInRelay]:
    with StandInRelay() as standing_in:
        yield standing_in
        assert standing_in.complaints == []


@pytest.fixture(scope="module")
def endpoint() -> Iterator[WebhookEndpoint]:
    with WebhookEndpoint() as one:
        yield one


@pytest.fixture(scope="module")
def running(relay: StandInRelay, endpoint: WebhookEndpoint) -> Iterator[LiveServer]:
    with LiveServer(workers=2, RELAY_URL=relay.url, WEBHOOK_URL=endpoint.url, **SETTINGS) as server:
        wait_until(lambda: len(server.workers()) == 2, "both workers")
        yield server
        assert [line for line in server.log() if line["event"] == "background_loop_failed"] == []


@pytest.fixture(scope="module")
def caller(running: LiveServer) -> Iterator[Backend]:
    with Backend(running) as backend:
        yield backend


@pytest.fixture(scope="module", autouse=True)
def fading(caller: Backend) -> Poll:
    """Asked first in this module and looked at last: the shortest request takes 60 s to time out."""
    return Poll.ask(caller, five(), 2, expires_in_seconds=60)


@pytest.fixture(scope="module")
def pin(running: LiveServer) -> ServerPin:
    with running.client() as client:
        return verify_info(client.get("/info").content, running.url, pin=running.identity.server_id)


def test_the_server_says_that_it_can(running: LiveServer) -> None:
    with running.client() as client:
        assert client.get("/info").json()["features"]["mpa"] is True


def test_two_of_three_groups_approve_and_the_rest_is_cleared(
    caller: Backend, relay: StandInRelay, endpoint: WebhookEndpoint, pin: ServerPin
) -> None:
    groups = five()
    (anna, bert), (carl, dora), (emil,) = groups
    poll = Poll.ask(caller, groups, 2, request_id=f"release-{groups[0][0].fingerprint[:8]}")
    everybody = [anna, bert, carl, dora, emil]
    wait_until(lambda: {poll.key(device) for device in everybody} <= set(relay.taken()), "all five pushes")
    for device in everybody:
        (push,) = [push for push in relay.pushes if push["push_key"] == poll.key(device)]
        assert push["fingerprint"] == device.fingerprint
        payload = json.dumps(push["payload"], ensure_ascii=False, separators=(",", ":")).encode()
        shown = verify_mpa_payload(payload, pin, device.public, time.time())
        assert (shown.mpa_id, shown.params) == (poll.created["mpa_id"], ACTION["params"])
    assert poll.vote(anna) == (200, "recorded")
    assert poll.vote(bert, "rejected") == (200, "already_satisfied")
    assert poll.verified(2) == "pending"
    assert poll.vote(dora) == (200, "approved")
    assert poll.vote(emil) == (409, "MPA_CLOSED")
    assert (poll.verified(2), poll.status()["groups_satisfied"]) == ("approved", [0, 1])
    assert poll.told(endpoint) == ("mpa.approved", "approved", (0, 1))
    wait_until(lambda: {poll.key(device, "clear") for device in (carl, emil)} <= set(relay.taken()), "two clears")
    clears = [push for push in relay.pushes if push["push_key"].startswith(f"{poll.created['mpa_id']}:")]
    assert [p["payload"] for p in clears if p["payload"]["type"] == "clear"] == [
        {"type": "clear", "mpa_id": poll.created["mpa_id"], "status": "approved"}
    ] * 2


def test_a_long_poll_hears_of_the_deciding_vote(running: LiveServer, caller: Backend) -> None:
    async def wait_and_vote(poll: Poll) -> dict[str, Any]:
        async with running.async_client() as waiting, running.async_client() as voting:
            path = f"/mpa/status/{poll.created['request_id']}"
            asked = asyncio.create_task(waiting.get(path, params={"wait": 25}))
            await voting.post("/mpa/respond", json=ballots[0])
            await voting.post("/mpa/respond", json=ballots[1])
            status: dict[str, Any] = (await asked).json()
            return status

    groups = five()
    poll = Poll.ask(caller, groups, 2)
    ballots = [poll.ballot(groups[0][0]), poll.ballot(groups[2][0])]
    assert asyncio.run(wait_and_vote(poll))["status"] == "approved"


def test_under_continue_it_is_rejected_when_too_few_groups_are_left(caller: Backend, endpoint: WebhookEndpoint) -> None:
    groups = five()
    poll = Poll.ask(caller, groups, 2)
    assert [poll.vote(device, "rejected") for device in (groups[0][0], groups[2][0], groups[0][1])] == [
        (200, "recorded"),
        (200, "recorded"),
        (200, "rejected"),
    ]
    assert poll.verified(2) == "rejected"
    assert poll.told(endpoint) == ("mpa.rejected", "rejected", ())


def test_with_reject_on_first_one_rejection_is_enough(caller: Backend, endpoint: WebhookEndpoint) -> None:
    groups = five()
    poll = Poll.ask(caller, groups, 2, reject_policy="reject_on_first")
    assert poll.vote(groups[0][0]) == (200, "recorded")
    assert poll.vote(groups[0][1], "rejected") == (200, "rejected")
    assert poll.verified(2) == "rejected"
    assert poll.told(endpoint) == ("mpa.rejected", "rejected", (0,))


def test_a_cancelled_request_is_closed_to_all_cleared_and_not_told(
    caller: Backend, relay: StandInRelay, endpoint: WebhookEndpoint
) -> None:
    groups = five()
    poll = Poll.ask(caller, groups, 1)
    wait_until(lambda: poll.key(groups[2][0]) in relay.taken(), "the pushes")
    for _ in range(2):
        answer = caller.http.delete(f"/mpa/request/{poll.created['request_id']}")
        assert (answer.status_code, answer.json()["status"]) == (200, "cancelled")
    assert poll.vote(groups[0][0]) == (409, "MPA_CLOSED")
    wait_until(lambda: poll.key(groups[2][0], "clear") in relay.taken(), "the clears")
    assert poll.verified(1) == "cancelled"
    assert endpoint.of(f"evt_{poll.created['mpa_id']}") == []


def test_who_asks_takes_no_part(caller: Backend, relay: StandInRelay) -> None:
    groups = five()
    (anna, bert), (carl, _), (emil,) = groups
    action = {**ACTION, "params": {"requested_by": anna.fingerprint}}
    poll = Poll.ask(caller, groups, 2, action=action)
    assert poll.created["challenges_sent"] == 4
    assert poll.vote(anna, signed="rejected") == (401, "INVALID_SIGNATURE")
    assert poll.vote(anna) == (403, "NOT_ELIGIBLE")
    wait_until(lambda: poll.key(emil) in relay.taken(), "the pushes")
    assert poll.key(anna) not in relay.taken()
    for device in (bert, emil):
        answer = poll.vote(device, "rejected")
    assert (answer, poll.verified(2)) == ((200, "rejected"), "rejected")
    alone = caller.http.post("/mpa/request", json=body_of([[anna], [carl]], 2, action=action))
    assert (alone.status_code, alone.json()["error"]["details"]["path"]) == (400, "$.groups")


async def over_many(server: LiveServer, path: str, bodies: list[Any], connections: int = 50) -> list[httpx.Response]:
    """All at once, over connections of their own to both workers."""
    async with AsyncExitStack() as stack:
        clients = [await stack.enter_async_context(server.async_client()) for _ in range(connections)]
        for client in clients:
            await client.get("/health")
        sent = [clients[n % connections].post(path, json=body) for n, body in enumerate(bodies)]
        return list(await asyncio.gather(*sent))


async def test_of_fifty_votes_of_one_device_at_once_one_counts(running: LiveServer, caller: Backend) -> None:
    groups = five()
    poll = Poll.ask(caller, groups, 2)
    answers = await over_many(running, "/mpa/respond", [poll.ballot(groups[0][0])] * 50)
    codes = [answer.json()["error"]["code"] for answer in answers if answer.status_code != 200]
    assert codes == ["ALREADY_ANSWERED"] * 49
    assert len(poll.status()["votes"]) == 1


async def test_votes_of_many_devices_at_once_count_exactly_once_and_end_it_once(
    running: LiveServer, caller: Backend
) -> None:
    groups = many(10, 4)
    poll = Poll.ask(caller, groups, 10)
    context = poll.status()["action_context"]
    bodies = [
        device.vote_body(poll.created["mpa_id"], "approved", device.sign_vote(context, "approved"))
        for group in groups
        for device in group
    ]
    answers = await over_many(running, "/mpa/respond", bodies * 2)
    words = [answer.json().get("status") or answer.json()["error"]["code"] for answer in answers]
    status = poll.status()
    counted = [word for word in words if word in {"recorded", "already_satisfied", "approved"}]
    assert words.count("approved") == 1
    assert len(counted) == len(status["votes"])
    assert set(words) - set(counted) <= {"ALREADY_ANSWERED", "MPA_CLOSED"}
    assert poll.verified(10) == "approved"


async def test_the_same_request_many_times_at_once_is_asked_once(running: LiveServer, caller: Backend) -> None:
    for groups in (five(), many(6, 12)):
        body = body_of(groups, 1, request_id=f"same-{groups[0][0].fingerprint}")
        answers = await over_many(running, "/mpa/request", [body] * 20, 20)
        # Of many members at once, one may find the other under way; it says when to come again.
        assert sorted({answer.status_code for answer in answers} - {429}) == [200, 201]
        made = [answer for answer in answers if answer.status_code == 201]
        assert len(made) == 1
        assert len({a.json()["mpa_id"] for a in answers if a.status_code < 300}) == 1
        again = caller.http.post("/mpa/request", json=body)
        assert (again.status_code, again.json()) == (200, made[0].json())
        other = caller.http.post("/mpa/request", json=body | {"required": 2})
        assert (other.status_code, other.json()["error"]["code"]) == (409, "REQUEST_ID_CONFLICT")


def test_a_thousand_members_are_all_asked_and_all_released(caller: Backend, relay: StandInRelay) -> None:
    groups = many(20, 50)
    began = len(relay.taken())
    poll = Poll.ask(caller, groups, 20)
    assert poll.created["challenges_sent"] == 1000

    def keys(kind: str) -> set[str]:
        prefix = f"{poll.created['mpa_id']}:"
        return {key for key in relay.taken()[began:] if key.startswith(prefix) and key.endswith(kind)}

    wait_until(lambda: len(keys("mpa")) == 1000, "a thousand pushes")
    assert poll.vote(groups[19][49]) == (200, "recorded")
    assert caller.http.delete(f"/mpa/request/{poll.created['request_id']}").status_code == 200
    wait_until(lambda: len(keys("clear")) == 999, "the clears of all others")
    assert max(relay.tries[key] for key in keys("mpa") | keys("clear")) == 1
    again = Poll.ask(caller, [groups[0][:1], groups[19][48:]], 1)
    assert again.vote(groups[0][0]) == (200, "approved")


def test_ten_thousand_members_are_refused(caller: Backend) -> None:
    member = {"device_public_key": Device.generate().wire_key}
    whole = {"action": ACTION, "required": 1, "groups": [{"members": [member] * 50}] * 200}
    assert code_of(caller.http.post("/mpa/request", json=whole)) == (413, "PAYLOAD_TOO_LARGE")
    crowded = {"action": ACTION, "required": 1, "groups": [{"members": [member] * 51}]}
    assert code_of(caller.http.post("/mpa/request", json=crowded)) == (400, "INVALID_REQUEST")
    short = {"action": ACTION, "required": 1, "groups": [{"members": [{"device_public_key": "A"}] * 500}] * 20}
    assert code_of(caller.http.post("/mpa/request", json=short)) in {
        (400, "INVALID_REQUEST"),
        (413, "PAYLOAD_TOO_LARGE"),
    }


def test_strangers_and_members_of_other_requests_have_no_vote(caller: Backend) -> None:
    mine, theirs = Poll.ask(caller, five(), 2), Poll.ask(caller, five(), 2)
    assert mine.vote(Device.generate()) == (401, "INVALID_SIGNATURE")
    assert mine.vote(theirs.groups[0][0]) == (401, "INVALID_SIGNATURE")
    assert mine.vote(mine.groups[0][0], signed="rejected") == (401, "INVALID_SIGNATURE")
    assert mine.vote(mine.groups[0][0], "rejected", signed="approved") == (401, "INVALID_SIGNATURE")
    assert mine.status()["votes"] == []


def test_a_killed_worker_loses_no_request_and_no_vote(running: LiveServer, caller: Backend) -> None:
    groups = five()
    poll = Poll.ask(caller, groups, 2)
    assert poll.vote(groups[0][0]) == (200, "recorded")
    victim = running.workers()[0]
    os.kill(victim, signal.SIGKILL)
    wait_until(lambda: len(running.workers()) == 2 and victim not in running.workers(), "a new worker")
    with Backend(running) as after:
        again = Poll(after, groups, poll.created)
        assert again.vote(groups[0][0]) == (409, "ALREADY_ANSWERED")
        assert again.vote(groups[2][0]) == (200, "approved")
        assert again.verified(2) == "approved"


def test_what_happened_is_counted_and_written_down_without_a_signature(running: LiveServer, caller: Backend) -> None:
    groups = five()
    poll = Poll.ask(caller, groups, 1)
    poll.vote(groups[0][0])
    with running.client() as client:
        told = scrape(client)
    counted = {dict(labels)["status"]: n for (name, labels), n in told.items() if name == "sigil_mpa_requests_total"}
    assert {"created", "vote", "approved", "rejected", "timeout", "cancelled"} <= set(counted)
    assert counted["approved"] >= 1
    assert told["sigil_mpa_duration_seconds_count", ()] >= 1
    events = [line for line in running.log() if line.get("mpa_id") == poll.created["mpa_id"]]
    assert [line["event"] for line in events] == ["mpa_created", "mpa_vote", "mpa_approved"]
    assert events[0]["mpa_request_id"] == poll.created["request_id"]
    signatures = [vote["signature"] for vote in poll.status()["votes"]]
    assert not any(signature in running.log_path.read_text() for signature in signatures)


def test_a_request_that_too_few_answered_expires(fading: Poll, relay: StandInRelay, endpoint: WebhookEndpoint) -> None:
    (anna, _), (carl, _), _ = fading.groups
    assert fading.vote(anna)[0] in {200, 410}
    wait_until(lambda: fading.status()["status"] == "timeout", "the request to time out")
    assert fading.vote(carl) == (410, "MPA_EXPIRED")
    assert fading.verified(2) == "timeout"
    told = fading.told(endpoint)
    assert (told[0], told[1]) == ("mpa.timeout", None)
    wait_until(lambda: fading.key(carl, "clear") in relay.taken(), "the clears")


def code_of(answer: httpx.Response) -> tuple[int, str]:
    return answer.status_code, answer.json()["error"]["code"]
