"""The time of day of a running server is set back or forward: what the server reported never changes."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from sigil.device import Device
from sigil.protocol.encoding.text import parse_time
from tests.flows.backend import Backend, approval, rejection, status_path
from tests.flows.test_approvals import ApprovalRequest
from tests.flows.test_webhooks import start_server
from tests.support.live import LiveServer, wait_until
from tests.support.stepped_clock import SteppedClock
from tests.support.webhook_endpoint import WebhookEndpoint


@pytest.fixture(scope="module")
def endpoint() -> Iterator[WebhookEndpoint]:
    with WebhookEndpoint() as one:
        yield one


@pytest.fixture(scope="module")
def shared_clock(tmp_path_factory: pytest.TempPathFactory) -> SteppedClock:
    return SteppedClock(tmp_path_factory.mktemp("clock"))


@pytest.fixture(scope="module")
def stepped_server(shared_clock: SteppedClock, endpoint: WebhookEndpoint) -> Iterator[LiveServer]:
    with start_server(endpoint, **shared_clock.settings) as running:
        wait_until(lambda: len(running.workers()) == 2, "both workers")
        yield running


@pytest.fixture
def clock(shared_clock: SteppedClock) -> SteppedClock:
    shared_clock.new_test()
    return shared_clock


@pytest.fixture
def caller(stepped_server: LiveServer) -> Iterator[Backend]:
    with Backend(stepped_server) as backend:
        yield backend


def code_of(answer: httpx.Response) -> tuple[int, str]:
    return answer.status_code, answer.json().get("error", {}).get("code", "")


def events(endpoint: WebhookEndpoint, event_id: str) -> list[str]:
    return [arrival.event["type"] for arrival in endpoint.arrivals_of(f"evt_{event_id}")]


def test_a_challenge_reported_as_expired_is_never_pending_or_verified_again(
    caller: Backend, clock: SteppedClock, endpoint: WebhookEndpoint
) -> None:
    device = Device.generate()
    created = caller.create_challenge(device, expires_in_seconds=30)
    clock.set(31)
    assert caller.status(created)["status"] == "expired"
    clock.set(21)
    assert caller.status(created)["status"] == "expired"
    for body in (approval(device, created), rejection(device, created)):
        assert code_of(caller.http.post("/respond", json=body)) == (410, "CHALLENGE_EXPIRED")
    assert caller.status(created, wait=25)["status"] == "expired"
    assert caller.cancel(created).json()["error"]["details"]["status"] == "expired"
    wait_until(lambda: events(endpoint, created["challenge_id"]), "the event")
    # A second event would be due, and delivered, within two sweeps.
    time.sleep(3)
    assert events(endpoint, created["challenge_id"]) == ["challenge.expired"]


def test_a_device_that_got_a_410_cannot_answer_later(caller: Backend, clock: SteppedClock) -> None:
    device = Device.generate()
    created = caller.create_challenge(device, expires_in_seconds=30)
    clock.set(31)
    assert code_of(caller.http.post("/respond", json=approval(device, created))) == (410, "CHALLENGE_EXPIRED")
    clock.set(21)
    assert code_of(caller.http.post("/respond", json=approval(device, created))) == (410, "CHALLENGE_EXPIRED")
    assert caller.status(created)["status"] == "expired"


def test_a_request_reported_as_timed_out_is_never_approved(
    caller: Backend, clock: SteppedClock, endpoint: WebhookEndpoint
) -> None:
    members = [Device.generate() for _ in range(2)]
    request = ApprovalRequest.create(caller, [[member] for member in members], 2, expires_in_seconds=300)
    bodies = [request.vote_body_of(member) for member in members]
    clock.set(301)
    assert request.status()["status"] == "timeout"
    clock.set(291)
    answers = [code_of(caller.http.post("/mpa/respond", json=body)) for body in bodies]
    assert answers == [(410, "MPA_EXPIRED")] * 2
    assert request.status()["status"] == "timeout"
    mpa_id = request.created["mpa_id"]
    wait_until(lambda: events(endpoint, mpa_id), "the event")
    time.sleep(3)
    assert events(endpoint, mpa_id) == ["mpa.timeout"]


def test_after_a_step_forward_and_back_times_on_the_wire_are_those_of_the_clock(
    caller: Backend, clock: SteppedClock
) -> None:
    """A wrong time server: one hour ahead for a moment."""
    device = Device.generate()
    created = caller.create_challenge(device)
    clock.set(3600)
    answer = caller.http.get(status_path(created))
    assert code_of(answer) == (404, "CHALLENGE_NOT_FOUND"), "expired, and its result is no longer stored"
    clock.set(0)
    assert code_of(caller.http.get(status_path(created))) == (404, "CHALLENGE_NOT_FOUND")
    later: dict[str, Any] = caller.create_challenge(device, expires_in_seconds=30)
    of_day = time.time() + clock.begin
    assert -60 < parse_time(later["expires_at"], "$") - of_day < 90
    assert caller.status(later)["status"] == "pending"
    assert caller.http.post("/respond", json=approval(device, later)).status_code == 200
    status = caller.status(later)
    assert status["status"] == "verified"
    assert abs(parse_time(status["verified_at"], "$") - of_day) < 60


def test_a_restart_with_the_clock_set_back_keeps_what_was_reported(
    stepped_server: LiveServer, caller: Backend, clock: SteppedClock
) -> None:
    device = Device.generate()
    created = caller.create_challenge(device, expires_in_seconds=30)
    other = caller.create_challenge(device, expires_in_seconds=30)
    clock.set(31)
    assert caller.status(created)["status"] == "expired"
    clock.set(21)
    stepped_server.stop()
    stepped_server.start()
    with Backend(stepped_server) as again:
        assert [again.status(one)["status"] for one in (created, other)] == ["expired"] * 2
        assert code_of(again.http.post("/respond", json=approval(device, other))) == (410, "CHALLENGE_EXPIRED")
