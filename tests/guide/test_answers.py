"""The bodies, lines, headers and metrics that the self-hosting guide prints."""

from __future__ import annotations

import datetime
import hashlib
import hmac
import json
import re
import time
from typing import Any, get_args

from sigil import __version__
from sigil.device import Device
from sigil.protocol.messages.webhooks import EventType
from tests.flows.backend import ACTION, Backend, approval
from tests.flows.test_metrics import scrape
from tests.guide.conftest import SECRET
from tests.support.live import LiveServer, wait_until
from tests.support.webhook_endpoint import Arrival, WebhookEndpoint

_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z\Z")


def approved_challenge(backend: Backend, device: Device) -> dict[str, Any]:
    created = backend.create_challenge(device)
    assert backend.http.post("/respond", json=approval(device, created)).status_code == 200
    return created


def arrival_of(endpoint: WebhookEndpoint, created: dict[str, Any]) -> Arrival:
    name = f"evt_{created['challenge_id']}"
    wait_until(lambda: endpoint.arrivals_of(name), "the webhook event")
    return endpoint.arrivals_of(name)[-1]


def test_the_health_of_an_operational_server_has_the_three_members_of_the_guide(guide_server: LiveServer) -> None:
    with guide_server.client() as client:
        answer = client.get("/health")
    assert (answer.status_code, answer.json()) == (
        200,
        {"status": "healthy", "mode": "operational", "version": __version__},
    )


def test_a_created_challenge_is_logged_with_the_members_of_the_guide(
    guide_server: LiveServer, backend: Backend
) -> None:
    device = Device.generate()
    created = backend.create_challenge(device)

    def logged() -> list[dict[str, Any]]:
        return [line for line in guide_server.log() if line.get("challenge_id") == created["challenge_id"]]

    line = wait_until(logged, "the line of the challenge")[0]
    assert line["event"] == "challenge_created"
    assert (line["level"], line["service"], line["action_type"]) == ("info", "sigil", ACTION["type"])
    assert line["fingerprint"] == device.fingerprint[:6] + "…"
    assert _TIME.match(line["timestamp"])


def test_a_webhook_body_has_the_members_of_the_guide(backend: Backend, endpoint: WebhookEndpoint) -> None:
    device, before = Device.generate(), time.time()
    created = approved_challenge(backend, device)
    event = json.loads(arrival_of(endpoint, created).body)
    moment = datetime.datetime.fromisoformat(event["timestamp"]).timestamp()
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", event["timestamp"])
    assert before - 2 < moment < time.time() + 2
    of_guide = {name: event[name] for name in ("type", "challenge_id", "fingerprint", "status")}
    assert re.fullmatch("[0-9a-f]{64}", device.fingerprint)
    assert of_guide == {
        "type": "challenge.verified",
        "challenge_id": created["challenge_id"],
        "fingerprint": device.fingerprint,
        "status": "verified",
    }


def test_a_webhook_is_signed_in_the_headers_of_the_guide(backend: Backend, endpoint: WebhookEndpoint) -> None:
    arrival = arrival_of(endpoint, approved_challenge(backend, Device.generate()))
    timestamp = arrival.headers["x-sigil-timestamp"]
    signed = timestamp.encode() + b"." + arrival.body
    expected = hmac.new(SECRET.encode(), signed, hashlib.sha256).hexdigest()
    assert arrival.headers["x-sigil-signature"] == f"v1,{expected}"
    assert abs(int(timestamp) - arrival.at) < 300


def test_the_event_types_are_those_of_the_guide() -> None:
    assert set(get_args(EventType)) == {
        "challenge.verified",
        "challenge.rejected",
        "challenge.expired",
        "mpa.approved",
        "mpa.rejected",
        "mpa.timeout",
        "enrolment.completed",
        "enrolment.failed",
        "enrolment.expired",
    }


def test_the_metrics_of_the_guide_exist_from_the_start_with_their_label_values(guide_server: LiveServer) -> None:
    with guide_server.client() as client:
        sample = scrape(client)
    of_guide = {
        "sigil_challenges_total": ("verified", "rejected", "expired"),
        "sigil_mpa_requests_total": ("approved", "rejected", "timeout"),
        "sigil_webhook_deliveries_total": ("success", "failure"),
    }
    for name, statuses in of_guide.items():
        assert {(name, (("status", status),)) for status in statuses} <= sample.keys()
    assert ("sigil_challenge_duration_seconds_bucket", (("le", "+Inf"),)) in sample


def test_an_api_key_has_the_form_of_the_guide(guide_server: LiveServer) -> None:
    assert re.fullmatch("sgk_test_[0-9a-f]{64}", guide_server.api_key)


def test_a_challenge_lives_five_minutes_and_no_longer(backend: Backend) -> None:
    before = time.time()
    created = backend.create_challenge(Device.generate())
    expires_at = datetime.datetime.fromisoformat(created["expires_at"]).timestamp()
    assert before + 298 < expires_at < time.time() + 302
    longer = {"device_public_key": Device.generate().wire_key, "action": ACTION, "expires_in_seconds": 301}
    assert backend.http.post("/challenge", json=longer).status_code == 400
