"""What an operator gets: one view of a challenge and of an approval request, over every process that has a part in it.

A backend with the SDK, a server of two workers, a relay, the stand-in of a push provider or a device on a WebSocket,
and a webhook receiver; all of them real, and every assertion is about what the collector received.
"""

from __future__ import annotations

import asyncio
import json
import re
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any

import httpx
import pytest
from opentelemetry import trace
from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter as GrpcExporter
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter as HttpExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import Tracer, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.trace import NonRecordingSpan, SpanContext, TraceFlags

from sigil.device import Device
from sigil.protocol.encoding.canonical import canonical
from sigil.protocol.encoding.text import decode_base64
from sigil.sdk import Action, SigilAuth, webhooks
from tests.observability.trace_view import lines, view
from tests.protocol.vectors import cases
from tests.relay.devices_of_relay import acknowledge, frame, listening, register
from tests.relay.test_traces import tracing_to
from tests.support.live import LiveServer, wait_until
from tests.support.live_relay import LiveRelay
from tests.support.otlp import PROTOCOLS, Collector, Link, Span, collecting
from tests.support.providers import Providers, apns_token
from tests.support.webhook_endpoint import Arrival, WebhookEndpoint

SECRET = "the webhook secret of the view of a trace"
ACTION = Action("payment", "Pay 4711 € to Zoë Müller", {"iban": "DE89370400440532013000"})
CHALLENGE, APPROVAL = "sigil.challenge_id", "sigil.mpa_id"
LATER = [
    "relay: CLIENT POST < process sigil.push",
    "sigil: SERVER POST /respond -> create sigil.push",
    "sigil: CLIENT send sigil.webhook -> create sigil.webhook",
]
# Text of an attribute that is none of these is a finding: see `assert_says_nothing_private`.
_HEX_OF_A_KEY = re.compile(r"[0-9a-f]{64}")
_ADDRESS = re.compile(r"\d+\.\d+\.\d+\.\d+|localhost|::1")


@dataclass
class Installation:
    collector: Collector
    providers: Providers
    relay: LiveRelay
    receiver: WebhookEndpoint
    server: LiveServer
    sdk: SigilAuth
    tracer: Tracer
    """Of the backend; its spans go to the same collector."""
    secrets: list[str] = field(default_factory=list)
    """What no span may hold."""

    def device(self, platform: str) -> Device:
        device = Device.generate("Ed25519")
        token = apns_token() if platform == "apns" else ""
        with self.relay.client() as client:
            register(device, client, self.relay.url, platform, token)
        self.tokens[device.fingerprint] = token
        self.secrets += [device.wire_key, device.fingerprint, device.fingerprint[:16], *([token] if token else [])]
        return device

    tokens: dict[str, str] = field(default_factory=dict)

    def pushed(self, device: Device, number: int = 1) -> dict[str, Any]:
        """The payload that the provider got for the device."""
        token = self.tokens[device.fingerprint]
        wait_until(lambda: len(self.providers.seen("apns", token=token)) >= number, "the push")
        payload: dict[str, Any] = json.loads(self.providers.seen("apns", token=token)[number - 1]["sigil"])
        return payload

    def respond(self, device: Device, payload: dict[str, Any], **headers: str) -> None:
        bound = decode_base64(payload["challenge_bytes"], "")
        signature = device.sign_approval(bound, canonical(payload["action"]))
        body = device.response_body(payload["challenge_id"], "approved", signature)
        self.secrets += [payload["challenge_bytes"], payload["nonce"], body["signature"]]
        self.post("/respond", body, **headers)

    def vote(self, device: Device, payload: dict[str, Any]) -> None:
        signature = device.sign_vote(payload["action_context"], "approved")
        body = device.vote_body(payload["mpa_id"], "approved", signature)
        self.secrets += [body["signature"]]
        self.post("/mpa/respond", body)

    def post(self, path: str, body: Any, status: int = 200, **headers: str) -> None:
        with self.server.client(headers=headers) as client:
            answer = client.post(path, json=body)
        assert answer.status_code == status, answer.text

    def events_of(self, name: str, subject_id: str, count: int) -> list[Arrival]:
        """The deliveries of the event, failed ones included."""

        def arrived() -> list[Arrival]:
            return [one for one in self.receiver.arrivals if one.event.get(name) == subject_id]

        wait_until(lambda: len(arrived()) >= count, "the webhook")
        return arrived()

    def view(self, attribute: str, subject_id: str, expected: list[str]) -> list[Span]:
        """As soon as all expected lines are in it, and everything that its spans refer to."""

        def complete(spans: list[Span]) -> bool:
            found = lines(view(spans, attribute, subject_id))
            return not Counter(expected) - Counter(found) and not any("unknown" in line for line in found)

        return view(self.collector.wait_until(complete), attribute, subject_id)


@pytest.fixture(scope="module", params=PROTOCOLS)
def installation(request: pytest.FixtureRequest) -> Iterator[Installation]:
    with ExitStack() as running:
        collector = running.enter_context(collecting(request.param))
        providers = running.enter_context(Providers())
        receiver = running.enter_context(WebhookEndpoint())
        tracing = tracing_to(collector)
        relay = running.enter_context(LiveRelay(**providers.env, RELAY_PUSH_RATE="off", **tracing))
        server = running.enter_context(
            LiveServer(
                workers=2,
                RELAY_URL=relay.url,
                WEBHOOK_URL=receiver.url,
                WEBHOOK_SECRET=SECRET,
                SIGIL_WEBHOOK_SCHEDULE="1,1,1",
                SIGIL_DEVICE_RATE="off",
                SIGIL_RATE_LIMIT="off",
                **tracing,
            )
        )
        environ = running.enter_context(pytest.MonkeyPatch.context())
        environ.setenv("SIGIL_API_KEY", server.api_key)
        sdk = running.enter_context(SigilAuth(server.url, ca_file=server.certificate))
        exporter = (
            GrpcExporter(endpoint=collector.endpoint, insecure=True)
            if collector.protocol == "grpc"
            else HttpExporter(endpoint=f"{collector.endpoint}/v1/traces")
        )
        provider = TracerProvider(resource=Resource({"service.name": "shop"}), shutdown_on_exit=False)
        provider.add_span_processor(SimpleSpanProcessor(exporter))
        running.callback(provider.shutdown)
        secrets = [server.api_key, server.api_key[9:17], SECRET, server.identity.server_id, "secret-of-the-path"]
        secrets += ["Zoë", "4711", "DE8937", "payment", "iban"]
        yield Installation(
            collector, providers, relay, receiver, server, sdk, provider.get_tracer("shop"), secrets=secrets
        )
        for log in (relay.events, lambda name: [line for line in server.log() if line["event"] == name]):
            for event in ("internal_error", "background_loop_failed", "otlp_export_error", "push_attempt_failed"):
                assert log(event) == []


@pytest.fixture(autouse=True)
def _nothing_of_other_tests(installation: Installation) -> None:
    installation.collector.clear()
    installation.receiver.status_for = lambda number: 200


def failing_first(installation: Installation) -> None:
    """The next delivery fails, and the ones after it succeed."""
    start = len(installation.receiver.arrivals)
    installation.receiver.status_for = lambda _: 503 if len(installation.receiver.arrivals) == start else 200


def assert_says_nothing_private(installation: Installation, spans: list[Span]) -> None:
    """No secret, no address, no key or fingerprint, and no text that a person reads, in any part of any span."""
    for span in spans:
        if span.service == "shop":
            continue
        for text in span.texts:
            assert not [secret for secret in installation.secrets if secret in text], (span.name, text)
            assert not _HEX_OF_A_KEY.search(text), (span.name, text)
            assert not _ADDRESS.search(text), (span.name, text)
        assert span.status_message == ""
        assert span.events == ()
        assert span.trace_state == ""


def test_a_challenge_is_one_view_from_the_backend_to_the_webhook(installation: Installation) -> None:
    device = installation.device("apns")
    failing_first(installation)
    with installation.tracer.start_as_current_span("confirm order"):
        created = installation.sdk.auth.create_challenge(device.wire_key, ACTION)
    installation.respond(device, installation.pushed(device))
    deliveries = installation.events_of("challenge_id", created.challenge_id, 2)
    expected = [
        "shop: INTERNAL confirm order",
        "sigil: SERVER POST /challenge < confirm order",
        "sigil: PRODUCER create sigil.push < POST /challenge",
        "sigil: CLIENT send sigil.push -> create sigil.push",
        "relay: SERVER POST /push < send sigil.push",
        "relay: CONSUMER process sigil.push -> create sigil.push",
        "relay: CLIENT POST < process sigil.push",
        "sigil: SERVER POST /respond -> create sigil.push",
        "sigil: PRODUCER create sigil.webhook < POST /respond",
        "sigil: CLIENT send sigil.webhook -> create sigil.webhook (503)",
        "sigil: CLIENT send sigil.webhook -> create sigil.webhook again 1",
    ]
    spans = installation.view(CHALLENGE, created.challenge_id, expected)
    assert lines(spans) == expected
    assert_says_nothing_private(installation, spans)
    # One search finds every span of sigil and relay in it.
    assert {span.attributes.get(CHALLENGE) for span in spans if span.service != "shop"} == {created.challenge_id}
    # The receiver continues from the delivery that reached it.
    for arrival, span in zip(deliveries, [span for span in spans if span.name == "send sigil.webhook"], strict=True):
        event = webhooks.verify(arrival.headers, arrival.body, SECRET)
        assert (event.traceparent or "")[3:52] == f"{span.trace_id}-{span.span_id}"


async def test_a_push_over_websocket_is_in_the_view_until_its_acknowledgement(installation: Installation) -> None:
    device = await asyncio.to_thread(installation.device, "websocket")
    async with listening(installation.relay, device) as socket:
        with installation.tracer.start_as_current_span("confirm order"):
            create = installation.sdk.auth.create_challenge
            created = await asyncio.to_thread(create, device.wire_key, ACTION)
        payload = await frame(socket)
        assert "traceparent" not in json.dumps(payload)
        await acknowledge(socket, payload)
        await asyncio.to_thread(
            installation.collector.wait_until,
            lambda spans: any(span.attributes.get("sigil.push.status") == "delivered" for span in spans),
        )
        await asyncio.to_thread(installation.respond, device, payload)
    expected = [
        "shop: INTERNAL confirm order",
        "sigil: SERVER POST /challenge < confirm order",
        "sigil: PRODUCER create sigil.push < POST /challenge",
        "sigil: CLIENT send sigil.push -> create sigil.push",
        "relay: SERVER POST /push < send sigil.push",
        "relay: CONSUMER process sigil.push -> create sigil.push",
        "sigil: SERVER POST /respond -> create sigil.push",
        "sigil: PRODUCER create sigil.webhook < POST /respond",
        "sigil: CLIENT send sigil.webhook -> create sigil.webhook",
    ]
    spans = await asyncio.to_thread(installation.view, CHALLENGE, created.challenge_id, expected)
    assert lines(spans) == expected
    assert_says_nothing_private(installation, spans)


def test_an_approval_request_is_one_view_from_the_backend_over_the_votes_to_the_webhook(
    installation: Installation,
) -> None:
    first, second, third = (installation.device("apns") for _ in range(3))
    groups = [[first.wire_key, second.wire_key], [third.wire_key]]
    with installation.tracer.start_as_current_span("deploy"):
        created = installation.sdk.mpa.request(ACTION, groups, 2, request_id="deploy-of-zoe")
    installation.secrets.append("deploy-of-zoe")
    for device in (first, third):
        installation.vote(device, installation.pushed(device))
    installation.pushed(second)
    installation.events_of("mpa_id", created.mpa_id, 1)
    expected = [
        "shop: INTERNAL deploy",
        "sigil: SERVER POST /mpa/request < deploy",
        "sigil: PRODUCER create sigil.push < POST /mpa/request",
        "sigil: CLIENT send sigil.push -> create sigil.push",
        "relay: SERVER POST /push < send sigil.push",
        *["relay: CONSUMER process sigil.push -> create sigil.push"] * 3,
        *["relay: CLIENT POST < process sigil.push"] * 3,
        *["sigil: SERVER POST /mpa/respond -> create sigil.push"] * 2,
        "sigil: PRODUCER create sigil.webhook < POST /mpa/respond",
        "sigil: CLIENT send sigil.webhook -> create sigil.webhook",
    ]
    spans = installation.view(APPROVAL, created.mpa_id, expected)
    # The pushes of the members leave in one batch or in several.
    batches = {"sigil: CLIENT send sigil.push -> create sigil.push", "relay: SERVER POST /push < send sigil.push"}
    assert Counter(line for line in lines(spans) if line not in batches) == Counter(
        line for line in expected if line not in batches
    )
    assert set(lines(spans)) == set(expected)
    # The vote that reached the quorum created the event, and it alone.
    deciding = max((span for span in spans if span.name == "POST /mpa/respond"), key=lambda span: span.ended_at)
    (event,) = [span for span in spans if span.name == "create sigil.webhook"]
    assert event.parent_id == deciding.span_id
    assert spans.index(event) > spans.index(deciding)
    assert {span.attributes.get(APPROVAL) for span in spans if span.service != "shop"} == {created.mpa_id}
    assert_says_nothing_private(installation, spans)


def settled(installation: Installation) -> list[Span]:
    """All spans, after a later challenge is in the collector as a whole: none of an earlier one is on its way."""
    device = installation.device("apns")
    with installation.tracer.start_as_current_span("later"):
        created = installation.sdk.auth.create_challenge(device.wire_key, ACTION)
    installation.respond(device, installation.pushed(device))
    installation.events_of("challenge_id", created.challenge_id, 1)
    later = installation.view(CHALLENGE, created.challenge_id, LATER)
    return [span for span in installation.collector.spans if span not in later]


@pytest.mark.parametrize("call", ["challenge", "approval"])
def test_what_the_backend_does_not_sample_is_in_no_span_of_any_service(installation: Installation, call: str) -> None:
    device = installation.device("apns")
    dark = SpanContext(0xABCDEF, 0x123456, is_remote=False, trace_flags=TraceFlags(0))
    with trace.use_span(NonRecordingSpan(dark)):
        if call == "challenge":
            created = installation.sdk.auth.create_challenge(device.wire_key, ACTION)
            subject, name = created.challenge_id, "challenge_id"
            installation.respond(device, installation.pushed(device))
        else:
            subject, name = installation.sdk.mpa.request(ACTION, [[device.wire_key]], 1).mpa_id, "mpa_id"
            installation.vote(device, installation.pushed(device))
    (arrival,) = installation.events_of(name, subject, 1)
    assert "traceparent" not in arrival.headers
    assert lines(settled(installation)) == []


def test_a_traceparent_without_a_verified_sender_starts_nothing(installation: Installation) -> None:
    device = installation.device("apns")
    forced = Link("ab" * 16, "cd" * 8)
    headers = {"traceparent": f"00-{forced.trace_id}-{forced.span_id}-01"}
    body = {"device_public_key": device.wire_key, "action": {"type": "login", "description": "Sign in"}}
    installation.post("/challenge", body, 401, **headers)
    installation.post("/challenge", body, 401, Authorization="Bearer sgk_test_" + "0" * 64, **headers)
    installation.post("/mpa/request", body, 401, **headers)
    installation.post("/respond", {}, 400, **headers)
    installation.post("/mpa/respond", {}, 400, **headers)
    with installation.server.client(headers=headers) as client:
        for path in ("/health", "/info", "/metrics", "/", "/openapi.json", "/nowhere"):
            client.get(path)
        client.post("/device/pending", json={})
    with httpx.Client(base_url=installation.relay.url, headers=headers, trust_env=False) as client:
        assert client.post("/push", json={"pushes": []}).status_code == 401
        client.get("/health")
    # A device that answers cannot move the answer into another trace.
    dark = SpanContext(0xABCDEF, 0x123456, is_remote=False, trace_flags=TraceFlags(0))
    with trace.use_span(NonRecordingSpan(dark)):
        installation.sdk.auth.create_challenge(device.wire_key, ACTION)
    installation.respond(device, installation.pushed(device), **headers)
    assert lines(settled(installation)) == []
    with installation.tracer.start_as_current_span("sampled"):
        created = installation.sdk.auth.create_challenge(device.wire_key, ACTION)
    installation.respond(device, installation.pushed(device, 2), **headers)
    spans = installation.view(CHALLENGE, created.challenge_id, LATER)
    assert [span for span in spans if span.trace_id == forced.trace_id or forced in span.links] == []


def test_a_malformed_traceparent_of_a_backend_costs_no_challenge_and_names_no_parent(
    installation: Installation,
) -> None:
    ignored = [case["value"] for case in cases("traceparents.json") if case["expect"] is None]
    sendable = [value for value in ignored if isinstance(value, str) and value == value.strip() and value.isprintable()]
    assert len(sendable) > 20
    ids = []
    with installation.server.authorised() as backend:
        for value in sendable:
            body = {
                "device_public_key": Device.generate().wire_key,
                "action": {"type": "login", "description": "Go on"},
            }
            answer = backend.post("/challenge", json=body, headers=[("traceparent", value.encode())])
            assert answer.status_code == 201, value
            ids.append(answer.json()["challenge_id"])
    installation.collector.wait_for("POST /challenge", len(ids))
    requests = {span.attributes[CHALLENGE]: span for span in installation.collector.named("POST /challenge")}
    assert [requests[one].parent_id for one in ids] == [""] * len(ids)
