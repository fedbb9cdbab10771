"""`sigil doctor`: store, outboxes, webhook."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.doctor.examination import examine
from tests.doctor.peers import black_hole
from tests.support.live import LiveServer, wait_until
from tests.support.ports import free_port
from tests.support.webhook_endpoint import WebhookEndpoint, verified_event

SECRET = "webhook-secret-of-this-test-0123456789"


@pytest.fixture(scope="module")
def receiver() -> Iterator[WebhookEndpoint]:
    with WebhookEndpoint() as endpoint:
        yield endpoint


@pytest.fixture(scope="module")
def server(receiver: WebhookEndpoint) -> Iterator[LiveServer]:
    with LiveServer(workers=1, WEBHOOK_URL=receiver.url, WEBHOOK_SECRET=SECRET) as running:
        yield running


def test_a_receiver_that_can_be_reached_gets_nothing_without_the_option(
    server: LiveServer, receiver: WebhookEndpoint
) -> None:
    before = len(receiver.arrivals)
    found = examine(server.environ)
    assert found.states("webhook") == {"ok"}
    assert len(receiver.arrivals) == before
    assert found.states("outboxes") == {"ok"}


def test_a_signed_sample_event_is_sent_with_the_option(server: LiveServer, receiver: WebhookEndpoint) -> None:
    found = examine(server.environ, "--send-test")
    assert "responded 200" in found.the("webhook").text
    assert verified_event(receiver.arrivals[-1], SECRET).type == "challenge.expired"


@pytest.mark.parametrize(
    ("status", "step"), [(500, "log of the receiver"), (401, "WEBHOOK_SECRET"), (302, "redirect"), (404, "2xx")]
)
def test_what_the_receiver_responds_is_stated(
    server: LiveServer, receiver: WebhookEndpoint, status: int, step: str
) -> None:
    receiver.status_for = lambda number: status
    try:
        found = examine(server.environ, "--send-test")
    finally:
        receiver.status_for = lambda number: 200
    assert found.failed == {"webhook"}
    assert f"responded {status}" in found.the("webhook").text
    assert step in found.the("webhook").next_step


def test_a_slow_receiver_is_bounded(server: LiveServer, receiver: WebhookEndpoint) -> None:
    receiver.hanging = True
    try:
        found = examine(server.environ, "--send-test")
    finally:
        receiver.hanging = False
    assert "no answer in time" in found.the("webhook").text


def test_a_receiver_that_cannot_be_reached_is_named(server: LiveServer) -> None:
    with black_hole() as hole:
        cases = {
            f"http://127.0.0.1:{free_port()}/": "Connection refused",
            f"http://127.0.0.1:{hole}/": "packets are lost",
            "https://receiver.invalid/": "cannot be resolved",
            f"{server.url}/": "self-signed certificate",
        }
        for url, text in cases.items():
            found = examine(server.environ, WEBHOOK_URL=url)
            assert found.failed == {"webhook"}
            assert text in found.the("webhook").text
            assert ("a stopped container has no name" in found.the("webhook").next_step) == ("invalid" in url)


def test_a_circuit_breaker_that_is_open_is_named(receiver: WebhookEndpoint) -> None:
    url = f"http://127.0.0.1:{free_port()}/"
    with LiveServer(
        workers=1, RELAY_URL=f"http://127.0.0.1:{free_port()}", WEBHOOK_URL=url, WEBHOOK_SECRET=SECRET
    ) as down:
        wait_until(lambda: any(line["event"] == "relay_unreachable" for line in down.log()), "the breaker of the relay")
        found = examine(down.environ)
        assert {"relay", "webhook"} <= found.failed
