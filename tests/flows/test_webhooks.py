"""Webhooks from end to end: a real server with two workers, and an endpoint that checks what arrives."""

from __future__ import annotations

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from sigil.device import Device
from sigil.webhooks.loop import MAX_IN_FLIGHT
from tests.flows.people import Backend, Expiring, approval, rejection
from tests.flows.test_metrics import scrape
from tests.flows.test_pushes import lines
from tests.support.live import LiveServer, wait_until
from tests.support.webhook_endpoint import WebhookEndpoint, checked

SECRET = "the webhook secret of these flow tests"
MANY = {"SIGIL_DEVICE_RATE": "off", "SIGIL_RATE_LIMIT": "off", "WEBHOOK_SECRET": SECRET}


def server_telling(endpoint: WebhookEndpoint, workers: int = 2, **settings: str) -> LiveServer:
    return LiveServer(workers=workers, WEBHOOK_URL=endpoint.url, **MANY | settings)


@pytest.fixture(scope="module")
def endpoint() -> Iterator[WebhookEndpoint]:
    with WebhookEndpoint() as one:
        yield one


@pytest.fixture(scope="module")
def telling(endpoint: WebhookEndpoint) -> Iterator[LiveServer]:
    with server_telling(endpoint, SIGIL_WEBHOOK_SCHEDULE="1,1,1,1") as running:
        wait_until(lambda: len(running.workers()) == 2, "both workers")
        yield running
        assert lines(running, "background_loop_failed") == []


@pytest.fixture(scope="module")
def caller(telling: LiveServer) -> Iterator[Backend]:
    with Backend(telling) as backend:
        yield backend


@pytest.fixture(scope="module", autouse=True)
def fading(caller: Backend) -> Expiring:
    """Asked first in this module and looked at last, when it has expired."""
    return Expiring.ask(caller)


@pytest.fixture(autouse=True)
def obliging(endpoint: WebhookEndpoint) -> Iterator[None]:
    yield
    endpoint.says = lambda number: 200


def approved(backend: Backend, device: Device | None = None) -> dict[str, Any]:
    device = device or Device.generate("Ed25519")
    created = backend.ask(device)
    assert backend.http.post("/respond", json=approval(device, created)).status_code == 200
    return created


def event_of(endpoint: WebhookEndpoint, created: dict[str, Any]) -> Any:
    """The one arrival of its event that was taken."""
    name = f"evt_{created['challenge_id']}"
    wait_until(lambda: any(200 <= arrival.said < 300 for arrival in endpoint.of(name)), f"the event {name}")
    return endpoint.of(name)[-1]


def test_an_approval_arrives_as_the_protocol_says(caller: Backend, endpoint: WebhookEndpoint) -> None:
    device = Device.generate()
    created = approved(caller, device)
    arrival = event_of(endpoint, created)
    event = checked(arrival, SECRET)
    assert (event.type, event.status, event.decision) == ("challenge.verified", "verified", "approved")
    assert (event.challenge_id, event.fingerprint) == (created["challenge_id"], device.fingerprint)
    assert (event.action_type, event.key_id) == ("step_up", caller.server.api_key[9:17])
    assert event.approved
    assert len(endpoint.of(event.id)) == 1


def test_a_rejection_arrives_with_its_reason(caller: Backend, endpoint: WebhookEndpoint) -> None:
    device = Device.generate()
    created = caller.ask(device)
    caller.http.post("/respond", json=rejection(device, created))
    event = checked(event_of(endpoint, created), SECRET)
    assert (event.type, event.decision, event.reason) == ("challenge.rejected", "rejected", "cancelled")
    assert not event.approved


def test_the_third_wrong_code_arrives_as_a_rejection(caller: Backend, endpoint: WebhookEndpoint) -> None:
    device = Device.generate()
    created = caller.ask(device, number_matching=True)
    wrong = f"{(int(created['match_code']) + 1) % 100:02d}"
    for _ in range(3):
        assert caller.http.post("/respond", json=approval(device, created, wrong)).status_code == 401
    event = checked(event_of(endpoint, created), SECRET)
    assert (event.type, event.reason) == ("challenge.rejected", "wrong_code")


def test_a_cancellation_is_not_told(caller: Backend, endpoint: WebhookEndpoint) -> None:
    created = caller.ask(Device.generate())
    caller.cancel(created)
    event_of(endpoint, approved(caller))
    assert endpoint.of(f"evt_{created['challenge_id']}") == []


@pytest.mark.parametrize("fault", [500, 503, 429, 408, 0])
def test_what_failed_comes_again_signed_anew_under_the_same_id(
    caller: Backend, endpoint: WebhookEndpoint, fault: int
) -> None:
    wanted: dict[str, Any] = {}
    endpoint.says = lambda number: 200 if wanted else fault
    created = approved(caller)
    name = f"evt_{created['challenge_id']}"
    wait_until(lambda: endpoint.of(name), "the first try")
    wanted["now"] = True
    again = event_of(endpoint, created)
    first = endpoint.of(name)[0]
    assert first.body == again.body
    assert again.at - first.at >= 0.8
    assert again.headers["webhook-timestamp"] >= first.headers["webhook-timestamp"]
    for arrival in endpoint.of(name):
        checked(arrival, SECRET)


@pytest.mark.parametrize("final", [301, 400, 404, 410])
def test_what_is_final_is_not_tried_again_and_told_of_in_the_log(
    telling: LiveServer, caller: Backend, endpoint: WebhookEndpoint, final: int
) -> None:
    endpoint.says = lambda number: final
    created = approved(caller)
    name = f"evt_{created['challenge_id']}"

    def line() -> Any:
        return [found for found in lines(telling, "webhook_failed") if found["event_id"] == name]

    (told,) = wait_until(line, "the line")
    assert (told["level"], told["reason"], told["type"], told["tries"]) == (
        "warn",
        str(final),
        "challenge.verified",
        1,
    )
    assert len(endpoint.of(name)) == 1


def test_attempts_are_counted(caller: Backend, endpoint: WebhookEndpoint) -> None:
    answers = iter([500, 404])
    endpoint.says = lambda number: next(answers, 200)
    given_up = approved(caller)
    wait_until(lambda: len(endpoint.of(f"evt_{given_up['challenge_id']}")) == 2, "two tries")
    event_of(endpoint, approved(caller))

    def empty() -> Any:
        sample = scrape(caller.http)
        return sample if sample["sigil_webhook_outbox", ()] == 0 else None

    sample = wait_until(empty, "the outbox to empty")
    for status in ("success", "retry", "failure"):
        assert sample["sigil_webhook_deliveries_total", (("status", status),)] >= 1
    assert sample["sigil_webhook_failures", ()] >= 1
    assert sample["sigil_webhook_duration_seconds_count", ()] >= 1
    # Each worker knows of a recovery by its next look.
    wait_until(lambda: scrape(caller.http)["sigil_webhook_up", ()] == 1, "all workers to know that it is there")


def test_the_server_says_that_it_tells(telling: LiveServer, caller: Backend) -> None:
    assert lines(telling, "sigil_starting")[0]["webhooks"] == "enabled"
    assert caller.http.get("/info").json()["features"]["webhooks"] is True


def test_neither_the_secret_nor_the_url_is_in_the_log(telling: LiveServer, caller: Backend) -> None:
    text = telling.log_path.read_text()
    for secret in (SECRET, "secret-of-the-path", "/hooks/sigil"):
        assert secret not in text


@pytest.mark.parametrize("how", ["refuses connections", "answers 503"])
def test_an_endpoint_that_is_away_stops_nothing_and_gets_everything_afterwards(how: str) -> None:
    with (
        WebhookEndpoint() as endpoint,
        server_telling(endpoint, SIGIL_WEBHOOK_SCHEDULE="3,3,3,3") as server,
        Backend(server) as backend,
    ):
        event_of(endpoint, approved(backend))
        if how == "answers 503":
            endpoint.says = lambda number: 503
        else:
            endpoint.stop()
        asked = [approved(backend) for _ in range(60)]
        wait_until(lambda: lines(server, "webhook_unreachable"), "the outage")
        wait_until(lambda: scrape(backend.http)["sigil_webhook_up", ()] == 0, "the gauge to fall")
        asked += [approved(backend) for _ in range(20)]
        connections = endpoint.connections
        if how == "answers 503":
            endpoint.says = lambda number: 200
        else:
            endpoint.start()
        for created in asked:
            checked(event_of(endpoint, created), SECRET)
        wait_until(lambda: lines(server, "webhook_recovered"), "the recovery")
        assert len(lines(server, "webhook_unreachable")) == 1
        assert lines(server, "webhook_failed") == []
        assert endpoint.connections - connections <= 250
        (line,) = lines(server, "webhook_unreachable")
        assert line["level"] == "error"
        assert json.dumps(line).find("secret-of-the-path") == -1


def test_an_endpoint_that_hangs_holds_a_bounded_number_of_connections_and_nothing_else() -> None:
    with WebhookEndpoint() as endpoint, server_telling(endpoint, workers=1) as server, Backend(server) as backend:
        endpoint.hanging = True
        asked = [approved(backend) for _ in range(MAX_IN_FLIGHT + 50)]
        wait_until(lambda: endpoint.most_open > MAX_IN_FLIGHT // 2, "many attempts to be in flight")
        assert backend.status(approved(backend))["status"] == "verified"
        endpoint.hanging = False
        for created in asked:
            event_of(endpoint, created)
        assert endpoint.most_open <= MAX_IN_FLIGHT


def test_a_stop_lets_an_attempt_that_is_under_way_end() -> None:
    with WebhookEndpoint() as endpoint, server_telling(endpoint, workers=1) as server:
        with Backend(server) as backend:
            endpoint.hanging = True
            created = approved(backend)
            wait_until(lambda: endpoint.connections, "the attempt to be under way")
        with ThreadPoolExecutor(1) as pool:
            stopping = pool.submit(server.stop)
            wait_until(lambda: lines(server, "draining"), "the server to drain")
            endpoint.hanging = False
            assert stopping.result() == 0
        server.start()
        with Backend(server) as backend:
            event_of(endpoint, approved(backend))
            wait_until(lambda: scrape(backend.http)["sigil_webhook_outbox", ()] == 0, "the outbox to empty")
        assert len(endpoint.of(f"evt_{created['challenge_id']}")) == 1


def test_while_the_secret_is_replaced_old_and_new_receivers_know_the_event() -> None:
    new, old = "new " * 10, "old " * 10
    with (
        WebhookEndpoint() as endpoint,
        server_telling(endpoint, workers=1, WEBHOOK_SECRET=f"{new},{old}") as server,
        Backend(server) as backend,
    ):
        arrival = event_of(endpoint, approved(backend))
        assert checked(arrival, new.strip()).approved
    standard = {name: value for name, value in arrival.headers.items() if name.startswith("webhook-")}
    assert len(standard["webhook-signature"].split(" ")) == 2


def test_an_expiry_arrives_when_its_time_is_over(endpoint: WebhookEndpoint, fading: Expiring) -> None:
    event = checked(event_of(endpoint, fading.created), SECRET)
    assert (event.type, event.status, event.decision) == ("challenge.expired", "expired", None)
    assert event.timestamp.strftime("%Y-%m-%dT%H:%M:%SZ") == fading.created["expires_at"]
