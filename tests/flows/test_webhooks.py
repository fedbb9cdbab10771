"""Webhooks from end to end: a real server with two workers, and an endpoint whose requests the tests verify."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from sigil.device import Device
from sigil.webhooks.loop import MAX_IN_FLIGHT
from tests.flows.backend import Backend, ExpiringChallenge, approval, rejection
from tests.flows.test_metrics import scrape
from tests.flows.test_pushes import log_lines
from tests.support.live import LiveServer, wait_until
from tests.support.webhook_endpoint import WebhookEndpoint, verified_event

SECRET = "the webhook secret of these flow tests"
UNLIMITED = {"SIGIL_DEVICE_RATE": "off", "SIGIL_RATE_LIMIT": "off", "WEBHOOK_SECRET": SECRET}


def start_server(endpoint: WebhookEndpoint, workers: int = 2, **settings: str) -> LiveServer:
    return LiveServer(workers=workers, WEBHOOK_URL=endpoint.url, **UNLIMITED | settings)


@pytest.fixture(scope="module")
def endpoint() -> Iterator[WebhookEndpoint]:
    with WebhookEndpoint() as one:
        yield one


@pytest.fixture(scope="module")
def webhook_server(endpoint: WebhookEndpoint) -> Iterator[LiveServer]:
    with start_server(endpoint, SIGIL_WEBHOOK_SCHEDULE="1,1,1,1") as running:
        wait_until(lambda: len(running.workers()) == 2, "both workers")
        yield running
        assert log_lines(running, "background_loop_failed") == []


@pytest.fixture(scope="module")
def caller(webhook_server: LiveServer) -> Iterator[Backend]:
    with Backend(webhook_server) as backend:
        yield backend


@pytest.fixture(scope="module", autouse=True)
def expiring_here(caller: Backend) -> ExpiringChallenge:
    """Created before the tests of this module and checked after them, when it has expired."""
    return ExpiringChallenge.create(caller)


@pytest.fixture(autouse=True)
def reset_endpoint(endpoint: WebhookEndpoint) -> Iterator[None]:
    yield
    endpoint.status_for = lambda number: 200


def approve_a_challenge(backend: Backend, device: Device | None = None) -> dict[str, Any]:
    device = device or Device.generate("Ed25519")
    created = backend.create_challenge(device)
    assert backend.http.post("/respond", json=approval(device, created)).status_code == 200
    return created


def wait_for_event(endpoint: WebhookEndpoint, created: dict[str, Any]) -> Any:
    """The last arrival of its event, once the endpoint has accepted it."""
    name = f"evt_{created['challenge_id']}"
    wait_until(lambda: any(200 <= arrival.status < 300 for arrival in endpoint.arrivals_of(name)), f"the event {name}")
    return endpoint.arrivals_of(name)[-1]


def test_an_approval_sends_the_documented_event(caller: Backend, endpoint: WebhookEndpoint) -> None:
    device = Device.generate()
    created = approve_a_challenge(caller, device)
    arrival = wait_for_event(endpoint, created)
    event = verified_event(arrival, SECRET)
    assert (event.type, event.status, event.decision) == ("challenge.verified", "verified", "approved")
    assert (event.challenge_id, event.fingerprint) == (created["challenge_id"], device.fingerprint)
    assert (event.action_type, event.key_id) == ("step_up", caller.server.api_key[9:17])
    assert event.approved
    assert len(endpoint.arrivals_of(event.id)) == 1


def test_a_rejection_sends_an_event_with_its_reason(caller: Backend, endpoint: WebhookEndpoint) -> None:
    device = Device.generate()
    created = caller.create_challenge(device)
    caller.http.post("/respond", json=rejection(device, created))
    event = verified_event(wait_for_event(endpoint, created), SECRET)
    assert (event.type, event.decision, event.reason) == ("challenge.rejected", "rejected", "cancelled")
    assert not event.approved


def test_the_third_wrong_code_sends_a_rejection_event(caller: Backend, endpoint: WebhookEndpoint) -> None:
    device = Device.generate()
    created = caller.create_challenge(device, number_matching=True)
    wrong = f"{(int(created['match_code']) + 1) % 100:02d}"
    for _ in range(3):
        assert caller.http.post("/respond", json=approval(device, created, wrong)).status_code == 401
    event = verified_event(wait_for_event(endpoint, created), SECRET)
    assert (event.type, event.reason) == ("challenge.rejected", "wrong_code")


def test_a_cancellation_sends_no_event(caller: Backend, endpoint: WebhookEndpoint) -> None:
    created = caller.create_challenge(Device.generate())
    caller.cancel(created)
    wait_for_event(endpoint, approve_a_challenge(caller))
    assert endpoint.arrivals_of(f"evt_{created['challenge_id']}") == []


@pytest.mark.parametrize("fault", [500, 503, 429, 408, 0])
def test_a_failed_delivery_is_retried_with_the_same_id_and_a_new_signature(
    caller: Backend, endpoint: WebhookEndpoint, fault: int
) -> None:
    wanted: dict[str, Any] = {}
    endpoint.status_for = lambda number: 200 if wanted else fault
    created = approve_a_challenge(caller)
    name = f"evt_{created['challenge_id']}"
    wait_until(lambda: endpoint.arrivals_of(name), "the first try")
    wanted["now"] = True
    again = wait_for_event(endpoint, created)
    first = endpoint.arrivals_of(name)[0]
    assert first.body == again.body
    assert again.at - first.at >= 0.8
    assert again.headers["webhook-timestamp"] >= first.headers["webhook-timestamp"]
    for arrival in endpoint.arrivals_of(name):
        verified_event(arrival, SECRET)


@pytest.mark.parametrize("final", [301, 400, 404, 410])
def test_a_permanent_failure_is_logged_and_not_retried(
    webhook_server: LiveServer, caller: Backend, endpoint: WebhookEndpoint, final: int
) -> None:
    endpoint.status_for = lambda number: final
    created = approve_a_challenge(caller)
    name = f"evt_{created['challenge_id']}"

    def line() -> Any:
        return [found for found in log_lines(webhook_server, "webhook_failed") if found["event_id"] == name]

    (failed,) = wait_until(line, "the line")
    assert (failed["level"], failed["reason"], failed["type"], failed["tries"]) == (
        "warn",
        str(final),
        "challenge.verified",
        1,
    )
    assert len(endpoint.arrivals_of(name)) == 1


def test_the_receiver_counts_as_reachable_before_any_worker_has_sent_an_event() -> None:
    with WebhookEndpoint() as endpoint, start_server(endpoint) as server, Backend(server) as backend:
        assert scrape(backend.http)["sigil_webhook_up", ()] == 1


def test_a_worker_that_starts_changes_nothing_about_the_receiver() -> None:
    """SigilWebhookUnreachable fires while the receiver is unreachable, and at no other time."""
    with (
        WebhookEndpoint() as endpoint,
        start_server(endpoint, SIGIL_WEBHOOK_SCHEDULE="3,3,3,3") as server,
        Backend(server) as backend,
    ):
        for up in (1, 0):
            wait_until(lambda up=up: scrape(backend.http)["sigil_webhook_up", ()] == up, "the gauge")
            seen = {scrape(backend.http)["sigil_webhook_up", ()]}
            for victim in server.workers():
                os.kill(victim, signal.SIGKILL)
                # A new connection: the other worker, or the new one before it has sent or read anything.
                while victim in server.workers() or len(server.workers()) < 2:
                    with server.client() as client:
                        seen.add(scrape(client)["sigil_webhook_up", ()])
            assert seen == {up}
            if up:
                endpoint.stop()
                for _ in range(30):
                    with Backend(server) as other:
                        approve_a_challenge(other)


def test_metrics_count_delivery_attempts(caller: Backend, endpoint: WebhookEndpoint) -> None:
    answers = iter([500, 404])
    endpoint.status_for = lambda number: next(answers, 200)
    given_up = approve_a_challenge(caller)
    wait_until(lambda: len(endpoint.arrivals_of(f"evt_{given_up['challenge_id']}")) == 2, "two tries")
    wait_for_event(endpoint, approve_a_challenge(caller))

    def empty() -> Any:
        sample = scrape(caller.http)
        return sample if sample["sigil_webhook_outbox", ()] == 0 else None

    sample = wait_until(empty, "the outbox to empty")
    for status in ("success", "retry", "failure"):
        assert sample["sigil_webhook_deliveries_total", (("status", status),)] >= 1
    assert sample["sigil_webhook_failures", ()] >= 1
    assert sample["sigil_webhook_duration_seconds_count", ()] >= 1
    assert sample["sigil_webhook_up", ()] == 1


def test_log_and_info_show_that_webhooks_are_enabled(webhook_server: LiveServer, caller: Backend) -> None:
    assert log_lines(webhook_server, "sigil_starting")[0]["webhooks"] == "enabled"
    assert caller.http.get("/info").json()["features"]["webhooks"] is True


def test_neither_the_secret_nor_the_url_is_in_the_log(webhook_server: LiveServer, caller: Backend) -> None:
    text = webhook_server.log_path.read_text()
    for secret in (SECRET, "secret-of-the-path", "/hooks/sigil"):
        assert secret not in text


@pytest.mark.parametrize("how", ["refuses connections", "answers 503"])
def test_an_unreachable_endpoint_blocks_nothing_and_gets_every_event_afterwards(how: str) -> None:
    with (
        WebhookEndpoint() as endpoint,
        start_server(endpoint, SIGIL_WEBHOOK_SCHEDULE="3,3,3,3") as server,
        Backend(server) as backend,
    ):
        wait_for_event(endpoint, approve_a_challenge(backend))
        if how == "answers 503":
            endpoint.status_for = lambda number: 503
        else:
            endpoint.stop()
        challenges = [approve_a_challenge(backend) for _ in range(60)]
        wait_until(lambda: log_lines(server, "webhook_unreachable"), "the outage")
        wait_until(lambda: scrape(backend.http)["sigil_webhook_up", ()] == 0, "the gauge to fall")
        challenges += [approve_a_challenge(backend) for _ in range(20)]
        connections = endpoint.connections
        if how == "answers 503":
            endpoint.status_for = lambda number: 200
        else:
            endpoint.start()
        for created in challenges:
            verified_event(wait_for_event(endpoint, created), SECRET)
        wait_until(lambda: log_lines(server, "webhook_recovered"), "the recovery")
        assert len(log_lines(server, "webhook_unreachable")) == 1
        assert log_lines(server, "webhook_failed") == []
        assert endpoint.connections - connections <= 250
        (line,) = log_lines(server, "webhook_unreachable")
        assert line["level"] == "error"
        assert json.dumps(line).find("secret-of-the-path") == -1


def test_a_hanging_endpoint_holds_a_bounded_number_of_connections_and_blocks_nothing_else() -> None:
    with WebhookEndpoint() as endpoint, start_server(endpoint, workers=1) as server, Backend(server) as backend:
        endpoint.hanging = True
        challenges = [approve_a_challenge(backend) for _ in range(MAX_IN_FLIGHT + 50)]
        wait_until(lambda: endpoint.most_open > MAX_IN_FLIGHT // 2, "many attempts to be in flight")
        assert backend.status(approve_a_challenge(backend))["status"] == "verified"
        endpoint.hanging = False
        for created in challenges:
            wait_for_event(endpoint, created)
        assert endpoint.most_open <= MAX_IN_FLIGHT


def test_a_stop_waits_for_an_attempt_in_flight() -> None:
    with WebhookEndpoint() as endpoint, start_server(endpoint, workers=1) as server:
        with Backend(server) as backend:
            endpoint.hanging = True
            created = approve_a_challenge(backend)
            wait_until(lambda: endpoint.connections, "the attempt to be in flight")
        with ThreadPoolExecutor(1) as pool:
            stopping = pool.submit(server.stop)
            wait_until(lambda: log_lines(server, "draining"), "the server to drain")
            endpoint.hanging = False
            assert stopping.result() == 0
        server.start()
        with Backend(server) as backend:
            wait_for_event(endpoint, approve_a_challenge(backend))
            wait_until(lambda: scrape(backend.http)["sigil_webhook_outbox", ()] == 0, "the outbox to empty")
        assert len(endpoint.arrivals_of(f"evt_{created['challenge_id']}")) == 1


def test_during_a_secret_rotation_an_event_has_a_signature_of_each_secret() -> None:
    new, old = "new " * 10, "old " * 10
    with (
        WebhookEndpoint() as endpoint,
        start_server(endpoint, workers=1, WEBHOOK_SECRET=f"{new},{old}") as server,
        Backend(server) as backend,
    ):
        arrival = wait_for_event(endpoint, approve_a_challenge(backend))
        assert verified_event(arrival, new.strip()).approved
    standard = {name: value for name, value in arrival.headers.items() if name.startswith("webhook-")}
    assert len(standard["webhook-signature"].split(" ")) == 2


def test_an_expiry_sends_an_event_with_the_expiry_time(
    endpoint: WebhookEndpoint, expiring_here: ExpiringChallenge
) -> None:
    event = verified_event(wait_for_event(endpoint, expiring_here.created), SECRET)
    assert (event.type, event.status, event.decision) == ("challenge.expired", "expired", None)
    assert event.timestamp.strftime("%Y-%m-%dT%H:%M:%SZ") == expiring_here.created["expires_at"]
