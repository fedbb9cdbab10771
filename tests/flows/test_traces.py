"""Traces of a real server with two workers, received by a collector of both protocols."""

from __future__ import annotations

import os
import re
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from sigil.device import Device
from tests.flows.backend import ACTION, Backend, approval
from tests.flows.test_approvals import ApprovalRequest
from tests.flows.test_enrolment import begin, claim, complete, confirm
from tests.flows.test_metrics import scrape
from tests.flows.test_webhooks import wait_for_event
from tests.support.enrolling import Phone
from tests.support.live import LiveServer, wait_until
from tests.support.otlp import PROTOCOLS, Collector, Faults, Span, collecting
from tests.support.stand_in_relay import StandInRelay
from tests.support.webhook_endpoint import WebhookEndpoint

DRAIN_SECONDS = 10
"""What a container engine waits before it kills."""
ROOT = Path(__file__).resolve().parents[2]
TRACE, PARENT = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
SUBJECTS = ("sigil.challenge_id", "sigil.mpa_id", "sigil.enrolment_id")
INCOMING = {"traceparent": f"00-{TRACE}-{PARENT}-01", "tracestate": "vendor=value"}
SETTINGS = {
    "SIGIL_DEVICE_RATE": "off",
    "SIGIL_RATE_LIMIT": "off",
    "WEBHOOK_SECRET": "the webhook secret of these flow tests",
    "SIGIL_WEBHOOK_SCHEDULE": "1,1,1",
    "OTEL_BSP_SCHEDULE_DELAY": "50",
    "OTEL_EXPORTER_OTLP_HEADERS": "authorization=Bearer%20s3cret-of-the-collector",
}


@pytest.fixture(scope="module")
def relay() -> Iterator[StandInRelay]:
    with StandInRelay() as one:
        yield one


@pytest.fixture(scope="module")
def endpoint() -> Iterator[WebhookEndpoint]:
    with WebhookEndpoint() as one:
        yield one


@pytest.fixture(scope="module", params=PROTOCOLS)
def collector(request: pytest.FixtureRequest) -> Iterator[Collector]:
    with collecting(request.param) as one:
        yield one


@pytest.fixture(scope="module")
def traced(collector: Collector, relay: StandInRelay, endpoint: WebhookEndpoint) -> Iterator[LiveServer]:
    given = {"RELAY_URL": relay.url, "WEBHOOK_URL": endpoint.url, "OTEL_EXPORTER_OTLP_PROTOCOL": collector.protocol}
    with LiveServer(workers=2, OTEL_EXPORTER_OTLP_ENDPOINT=collector.endpoint, **given, **SETTINGS) as running:
        wait_until(lambda: len(running.workers()) == 2, "both workers")
        yield running
        assert [line for line in running.log() if line["event"].startswith("otlp")] == []
        assert "s3cret" not in running.log_path.read_text()


@pytest.fixture(scope="module")
def caller(traced: LiveServer) -> Iterator[Backend]:
    with Backend(traced) as one:
        yield one


@pytest.fixture(autouse=True)
def held_to_the_documented_attributes(request: pytest.FixtureRequest) -> Iterator[None]:
    if "collector" not in request.fixturenames:
        yield
        return
    collector: Collector = request.getfixturevalue("collector")
    collector.clear()
    yield
    page = (ROOT / "docs" / "observability.md").read_text(encoding="utf-8")
    table = page.partition("### Attributes of sigil's spans\n")[2].partition("\n\n")[0]
    documented = {
        name for row in re.findall(r"^\| (`.*?) \|", table, re.MULTILINE) for name in re.findall(r"`(.*?)`", row)
    }
    assert len(documented) > 12
    for span in collector.spans:
        assert span.attributes.keys() <= documented, span.name
        if span.attributes.get("http.response.status_code") != 400:
            assert set(SUBJECTS) & span.attributes.keys(), span.name
        assert (span.status == "ERROR") == ("error.type" in span.attributes), span.name
        assert (span.events, span.trace_state, span.status_message) == ((), "", "")


def about(collector: Collector, uuid: str, *names: str) -> dict[str, list[Span]]:
    """The spans of a challenge or approval request by their names, as soon as there are those."""

    def found() -> dict[str, list[Span]]:
        spans: dict[str, list[Span]] = {}
        for span in collector.spans:
            ids = [span.attributes.get(name, ()) for name in SUBJECTS]
            if any(uuid in value for value in ids):
                spans.setdefault(span.name, []).append(span)
        return spans

    counts = {name: names.count(name) for name in names}
    collector.wait_until(lambda _: all(len(found().get(name, ())) >= count for name, count in counts.items()))
    assert {name: len(spans) for name, spans in found().items()} == counts
    return found()


def link_of(span: Span) -> Any:
    (link,) = span.links
    return link


def test_the_spans_of_a_challenge_from_its_creation_to_its_webhook(
    collector: Collector, caller: Backend, relay: StandInRelay, endpoint: WebhookEndpoint, traced: LiveServer
) -> None:
    device = Device.generate()
    endpoint.status_for = lambda number: 500 if number == first else 200
    first = len(endpoint.arrivals)
    before = time.time_ns()
    created = caller.create_challenge(device, headers=INCOMING)
    wait_until(lambda: any(created["challenge_id"] in key for key in relay.accepted_keys()), "the push")
    assert caller.http.post("/respond", json=approval(device, created), headers=INCOMING).status_code == 200
    arrival = wait_for_event(endpoint, created)
    spans = about(
        collector,
        created["challenge_id"],
        *("POST /challenge", "create sigil.push", "send sigil.push", "POST /respond", "create sigil.webhook"),
        *("send sigil.webhook", "send sigil.webhook"),
    )
    (post,), (push,), (sent,) = spans["POST /challenge"], spans["create sigil.push"], spans["send sigil.push"]
    (respond,), (event,) = spans["POST /respond"], spans["create sigil.webhook"]
    failed, delivered = sorted(spans["send sigil.webhook"], key=lambda span: span.started_at)

    assert (post.kind, post.trace_id, post.parent_id, post.links) == ("SERVER", TRACE, PARENT, ())
    assert post.attributes == {
        "http.request.method": "POST",
        "http.route": "/challenge",
        "url.scheme": "https",
        "url.path": "/challenge",
        "http.response.status_code": 201,
        "sigil.challenge_id": created["challenge_id"],
    }
    assert (push.kind, push.trace_id, push.parent_id) == ("PRODUCER", TRACE, post.span_id)
    assert (sent.kind, sent.parent_id, link_of(sent)) == ("CLIENT", "", push.name_of_itself)
    assert sent.trace_id != TRACE
    messaging = {"messaging.system": "sigil", "messaging.destination.name": "sigil.push"}
    assert sent.attributes == messaging | {
        "messaging.operation.name": "send",
        "messaging.operation.type": "send",
        "messaging.batch.message_count": 1,
        "sigil.challenge_id": created["challenge_id"],
    }
    # The device's own traceparent counts for nothing.
    assert (respond.kind, respond.parent_id, link_of(respond)) == ("SERVER", "", push.name_of_itself)
    assert respond.trace_id != TRACE
    assert respond.attributes["sigil.state"] == "verified"
    assert (event.kind, event.trace_id, event.parent_id) == ("PRODUCER", respond.trace_id, respond.span_id)
    assert [link_of(span) for span in (failed, delivered)] == [event.name_of_itself] * 2
    assert (failed.attributes["error.type"], failed.attributes["http.response.status_code"]) == ("500", 500)
    assert "http.request.resend_count" not in failed.attributes
    assert (delivered.status, delivered.attributes["http.request.resend_count"]) == ("UNSET", 1)
    assert arrival.headers["traceparent"] == f"00-{delivered.trace_id}-{delivered.span_id}-03"
    assert "tracestate" not in arrival.headers
    (body,) = (one for one in relay.pushes if created["challenge_id"] in one["push_key"])
    assert body["traceparent"].startswith(f"00-{push.trace_id}-{push.span_id}-")

    everything = [span for found in spans.values() for span in found]
    assert all(before <= span.started_at <= span.ended_at <= time.time_ns() for span in everything)
    assert everything[0].resource["service.name"] == "sigil"
    private = [traced.api_key, device.fingerprint, device.wire_key, ACTION["description"], "127.0.0.1", "s3cret"]
    texts = "\n".join(text for span in everything for text in span.texts)
    assert [secret for secret in private if str(secret) in texts] == []


def test_the_spans_of_an_enrolment_from_its_begin_to_its_webhook(
    collector: Collector, caller: Backend, traced: LiveServer
) -> None:
    begun = begin(caller.http)
    phone = Phone(begun["token"])
    assert claim(caller.http, phone).status_code == 200
    code = phone.session(complete(caller.http, phone).json()["sas_nonce"]).code
    assert confirm(caller.http, begun, code).status_code == 200
    confirmed = "POST /enrolment/{enrolment_id}/confirm"
    spans = about(
        collector,
        begun["enrolment_id"],
        *("POST /enrolment", "POST /enrolment/claim", "POST /enrolment/complete", confirmed),
        *("create sigil.webhook", "send sigil.webhook"),
    )
    (post,), (event,) = spans["POST /enrolment"], spans["create sigil.webhook"]
    for name in ("POST /enrolment/claim", "POST /enrolment/complete", confirmed):
        assert link_of(spans[name][0]).span_id == post.span_id
    assert spans[confirmed][0].attributes["sigil.state"] == "enrolled"
    assert event.parent_id == spans[confirmed][0].span_id
    assert link_of(spans["send sigil.webhook"][0]).span_id == event.span_id


def test_the_votes_of_an_approval_request_are_in_its_view(
    collector: Collector, caller: Backend, relay: StandInRelay, endpoint: WebhookEndpoint
) -> None:
    endpoint.status_for = lambda number: 200
    groups = [[Device.generate()], [Device.generate(), Device.generate()]]
    request = ApprovalRequest.create(caller, groups, 2)
    mpa_id = request.created["mpa_id"]
    wait_until(lambda: sum(mpa_id in key for key in relay.accepted_keys()) == 3, "the pushes")
    for member in (groups[0][0], groups[1][1]):
        assert caller.http.post("/mpa/respond", json=request.vote_body_of(member)).status_code == 200
    collector.wait_for("send sigil.webhook")
    # One to three requests take the three pushes, and the ends of the other member's.
    sends = len([span for span in collector.wait_for("send sigil.push") if span.attributes["sigil.mpa_id"] == mpa_id])
    spans = about(
        collector,
        mpa_id,
        *("POST /mpa/request", "create sigil.push", "POST /mpa/respond", "POST /mpa/respond"),
        *("create sigil.webhook", "send sigil.webhook", *["send sigil.push"] * sends),
    )
    (push,) = spans["create sigil.push"]
    assert push.attributes["messaging.batch.message_count"] == 3
    votes = sorted(spans["POST /mpa/respond"], key=lambda span: span.started_at)
    assert [vote.attributes["sigil.state"] for vote in votes] == ["pending", "approved"]
    assert {link_of(span) for span in (*votes, *spans["send sigil.push"])} == {push.name_of_itself}
    (event,) = spans["create sigil.webhook"]
    assert event.parent_id == votes[1].span_id


def test_a_repeat_creates_nothing_and_links_to_the_first(collector: Collector, caller: Backend) -> None:
    headers = {"Idempotency-Key": f"key-{time.time_ns()}"}
    device = Device.generate()
    created = caller.create_challenge(device, headers=headers)
    assert caller.create_challenge(device, headers=headers)["challenge_id"] == created["challenge_id"]
    names = ("POST /challenge", "POST /challenge", "create sigil.push", "send sigil.push")
    spans = about(collector, created["challenge_id"], *names)
    first, repeat = sorted(spans["POST /challenge"], key=lambda span: span.started_at)
    assert first.links == ()
    assert link_of(repeat) == spans["create sigil.push"][0].name_of_itself
    assert len(collector.named("create sigil.push")) == 1


def test_a_cancellation_is_a_span_with_a_link(collector: Collector, caller: Backend) -> None:
    created = caller.create_challenge(Device.generate())
    assert caller.cancel(created).status_code == 200
    collector.wait_for("DELETE /v1/auth/challenge/{challenge_id}")
    (cancel,) = collector.named("DELETE /v1/auth/challenge/{challenge_id}")
    assert (cancel.attributes["sigil.state"], "url.path" in cancel.attributes) == ("cancelled", False)
    assert link_of(cancel) == collector.wait_for("create sigil.push")[0].name_of_itself


def test_an_expiry_creates_its_event_with_a_link(
    collector: Collector, caller: Backend, endpoint: WebhookEndpoint
) -> None:
    endpoint.status_for = lambda number: 200
    created = caller.create_challenge(Device.generate(), expires_in_seconds=30)
    wait_for_event(endpoint, created)
    (event,) = collector.wait_for("create sigil.webhook")
    assert (event.parent_id, link_of(event)) == ("", collector.named("create sigil.push")[0].name_of_itself)
    assert link_of(collector.wait_for("send sigil.webhook")[0]) == event.name_of_itself


def test_what_has_no_verified_sender_starts_no_span(collector: Collector, caller: Backend, traced: LiveServer) -> None:
    device = Device.generate()
    with traced.client(headers=INCOMING) as stranger:
        body = {"device_public_key": device.wire_key, "action": ACTION}
        assert stranger.post("/challenge", json=body).status_code == 401
        assert stranger.post("/respond", json=approval(device, _unknown())).status_code == 404
        assert stranger.get("/health").status_code == 200
    assert collector.spans == []
    assert scrape(caller.http)["sigil_otlp_spans_dropped_total", ()] == 0
    created = caller.create_challenge(device)
    caller.status(created)
    about(collector, created["challenge_id"], "POST /challenge", "create sigil.push", "send sigil.push")
    assert {span.name for span in collector.spans} == {"POST /challenge", "create sigil.push", "send sigil.push"}


@pytest.mark.parametrize("traceparent", ["garbage", f"00-{TRACE.upper()}-{PARENT}-01", f"ff-{TRACE}-{PARENT}-01"])
def test_a_malformed_traceparent_begins_a_new_trace(collector: Collector, caller: Backend, traceparent: str) -> None:
    caller.create_challenge(Device.generate(), headers={"traceparent": traceparent})
    (span,) = collector.wait_for("POST /challenge")
    assert (span.parent_id, span.trace_id == TRACE) == ("", False)


def test_a_rejected_request_with_an_api_key_has_a_span_without_an_error(collector: Collector, caller: Backend) -> None:
    assert caller.http.post("/challenge", json={"secret-name": ACTION}, headers=INCOMING).status_code == 400
    (span,) = collector.wait_for("POST /challenge")
    assert (span.parent_id, span.status, span.attributes["http.response.status_code"]) == (PARENT, "UNSET", 400)


def _unknown() -> dict[str, Any]:
    return {"challenge_id": "4bf92f35-77b3-4da6-a3ce-929d0e0e4736", "challenge_bytes": "AAAA"}


def test_an_unsampled_parent_is_honoured_and_nothing_follows(
    collector: Collector, caller: Backend, endpoint: WebhookEndpoint, relay: StandInRelay
) -> None:
    device = Device.generate()
    created = caller.create_challenge(device, headers={"traceparent": f"00-{TRACE}-{PARENT}-00"})
    wait_until(lambda: any(created["challenge_id"] in key for key in relay.accepted_keys()), "the push")
    assert caller.http.post("/respond", json=approval(device, created)).status_code == 200
    assert "traceparent" not in wait_for_event(endpoint, created).headers
    sampled = caller.create_challenge(device)
    about(collector, sampled["challenge_id"], "POST /challenge", "create sigil.push", "send sigil.push")
    assert len(collector.spans) == 3
    (push,) = (one for one in relay.pushes if created["challenge_id"] in one["push_key"])
    assert "traceparent" not in push


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_collector_that_hangs_costs_requests_nothing_and_delays_no_exit(protocol: Any) -> None:
    with collecting(protocol, faults=Faults(hangs=True)) as hanging:
        settings = SETTINGS | {"OTEL_EXPORTER_OTLP_PROTOCOL": protocol, "OTEL_BSP_MAX_QUEUE_SIZE": "20"}
        settings |= {"OTEL_BSP_MAX_EXPORT_BATCH_SIZE": "10", "OTEL_EXPORTER_OTLP_ENDPOINT": hanging.endpoint}
        with LiveServer(workers=1, **settings) as server, Backend(server) as calling:
            device = Device.generate()
            calling.create_challenge(device)
            hanging.wait_for_exports(1)
            for _ in range(60):
                calling.cancel(calling.create_challenge(device))
            dropped = scrape(calling.http)["sigil_otlp_spans_dropped_total", ()]
            # 120 more spans, of which the queue holds 20.
            assert 90 <= dropped <= 120
            calling.http.close()
            began = time.monotonic()
            assert server.stop() == 0
            assert time.monotonic() - began < DRAIN_SECONDS
            assert [line for line in server.log() if line["event"] in {"worker_stderr", "uncaught_exception"}] == []


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_reload_and_a_stop_lose_no_span_while_the_collector_answers(protocol: Any) -> None:
    with collecting(protocol) as one:
        settings = SETTINGS | {"OTEL_EXPORTER_OTLP_PROTOCOL": protocol, "OTEL_EXPORTER_OTLP_ENDPOINT": one.endpoint}
        with LiveServer(workers=2, **settings | {"OTEL_BSP_SCHEDULE_DELAY": "60000"}) as server:
            wait_until(lambda: len(server.workers()) == 2, "both workers")
            created = []
            for _ in range(3):
                with Backend(server) as calling:
                    created += [calling.create_challenge(Device.generate())["challenge_id"] for _ in range(20)]
            assert one.spans == []
            old = server.workers()
            os.kill(server.pid, signal.SIGHUP)
            wait_until(lambda: not set(old) & set(server.workers()), "the new workers")
            with Backend(server) as calling:
                created.append(calling.create_challenge(Device.generate())["challenge_id"])
            assert server.stop() == 0
            assert [line for line in server.log() if line["event"].startswith(("otlp", "worker_stderr"))] == []
        found = [span.attributes["sigil.challenge_id"] for span in one.named("POST /challenge")]
    assert sorted(found) == sorted(created)


def test_a_worker_that_dies_after_its_claim_leaves_one_creation_and_two_attempts() -> None:
    with collecting() as one, WebhookEndpoint() as endpoint:
        settings = SETTINGS | {"OTEL_EXPORTER_OTLP_ENDPOINT": one.endpoint, "WEBHOOK_URL": endpoint.url}
        with LiveServer(workers=1, **settings) as server, Backend(server) as calling:
            endpoint.hanging = True
            device = Device.generate()
            created = calling.create_challenge(device)
            assert calling.http.post("/respond", json=approval(device, created)).status_code == 200
            wait_until(lambda: endpoint.connections, "the first attempt")
            (event,) = one.wait_for("create sigil.webhook")
            # Without a relay the request itself is the creation.
            assert link_of(one.wait_for("POST /respond")[0]) == one.named("POST /challenge")[0].name_of_itself
            (worker,) = server.workers()
            os.kill(worker, signal.SIGKILL)
            endpoint.hanging = False
            (sent,) = one.wait_for("send sigil.webhook")
            assert (link_of(sent), sent.attributes["http.request.resend_count"]) == (event.name_of_itself, 1)
            assert len(one.named("create sigil.webhook")) == 1


def test_a_stop_ends_the_spans_of_requests_that_it_cancels() -> None:
    """Relay and receiver may have continued their traces."""
    with collecting() as one, StandInRelay() as relay, WebhookEndpoint() as endpoint:
        given = {"RELAY_URL": relay.url, "WEBHOOK_URL": endpoint.url, "OTEL_EXPORTER_OTLP_ENDPOINT": one.endpoint}
        with LiveServer(workers=1, **SETTINGS | given) as server:
            with Backend(server) as calling:
                wait_until(lambda: relay.requests["/servers/register"], "the registration")
                relay.fault, endpoint.hanging = "hang", True
                device = Device.generate()
                created = calling.create_challenge(device)
                wait_until(lambda: relay.requests["/push"], "the push")
                assert calling.http.post("/respond", json=approval(device, created)).status_code == 200
                wait_until(lambda: endpoint.connections, "the webhook")
            assert server.stop() == 0
            relay.fault, endpoint.hanging = None, False
        for name in ("send sigil.push", "send sigil.webhook"):
            assert [span.attributes["error.type"] for span in one.named(name)] == ["cancelled"], name


def test_a_tracer_that_is_off_imports_nothing_of_opentelemetry() -> None:
    with LiveServer(workers=1) as server, Backend(server) as calling:
        calling.create_challenge(Device.generate())
        (worker,) = server.workers()
        mapped = Path(f"/proc/{worker}/maps").read_text(encoding="utf-8")
        assert not re.search(r"cygrpc|google/_upb|opentelemetry", mapped)
        assert ("sigil_otlp_spans_dropped_total", ()) not in scrape(calling.http)
