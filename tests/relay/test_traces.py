"""The relay's spans, as a collector receives them: which request and push has one, its links, and its attributes."""

from __future__ import annotations

import asyncio
import json
import re
import secrets
import subprocess
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from sigil.device import Device
from sigil.protocol.encoding.text import format_time
from tests.protocol.vectors import cases
from tests.relay.conftest import wanted
from tests.relay.devices_of_relay import acknowledge, frame, listening, register
from tests.support.live import wait_until
from tests.support.live_relay import LiveRelay, Server
from tests.support.otlp import PROTOCOLS, Collector, Link, Span, collecting
from tests.support.providers import Providers, apns_token, fcm_token

PROCESS, PUSH, REQUEST = "process sigil.push", "POST /push", "POST"
COMMON = {
    "messaging.system": "sigil",
    "messaging.destination.name": "sigil.push",
    "messaging.operation.name": "process",
    "messaging.operation.type": "process",
}


@pytest.fixture(scope="module")
def providers() -> Iterator[Providers]:
    with Providers() as running:
        yield running


@pytest.fixture(scope="module", params=PROTOCOLS)
def collector(request: pytest.FixtureRequest) -> Iterator[Collector]:
    with collecting(request.param) as running:
        yield running


@pytest.fixture(scope="module")
def relay(collector: Collector, providers: Providers) -> Iterator[LiveRelay]:
    with LiveRelay(**providers.env, RELAY_PUSH_RATE="off", **tracing_to(collector)) as relay:
        yield relay
        for event in ("internal_error", "background_loop_failed", "push_attempt_failed", "asyncio"):
            assert not relay.events(event)


@pytest.fixture(autouse=True)
def _documented_attributes_only(collector: Collector) -> Iterator[None]:
    collector.clear()
    yield
    page = (Path(__file__).parents[2] / "docs" / "observability.md").read_text(encoding="utf-8")
    table = page.partition("### Spans of the relay\n")[2].partition("\n### ")[0]
    names = [name for row in re.findall(r"^\| (`.*?) \|", table, re.MULTILINE) for name in re.findall(r"`(.*?)`", row)]
    assert len(names) > 15
    for span in collector.spans:
        assert span.name in names
        assert span.attributes.keys() <= set(names), span.name


def tracing_to(collector: Collector) -> dict[str, str]:
    """Settings of either service."""
    return {
        "OTEL_EXPORTER_OTLP_ENDPOINT": collector.endpoint,
        "OTEL_EXPORTER_OTLP_PROTOCOL": collector.protocol,
        "OTEL_BSP_SCHEDULE_DELAY": "20",
    }


class Creation:
    """A span of a server that created a push, and the push."""

    def __init__(self, device: Device, *, sampled: bool = True, clears: bool = False, **members: Any) -> None:
        self.link = Link(secrets.token_hex(16), secrets.token_hex(8))
        self.id = str(uuid.uuid4())
        self.header = f"00-{self.link.trace_id}-{self.link.span_id}-0{int(sampled)}"
        self.push = wanted(device, f"{self.id}:{'clear' if clears else 'challenge'}", **members)
        self.push |= {"traceparent": self.header, "payload": {"type": "challenge", "challenge_id": self.id}}

    def of(self, spans: list[Span], name: str = PROCESS) -> list[Span]:
        return [span for span in spans if span.name == name and self.link in span.links]


def post(server: Server, *pushes: dict[str, Any], **headers: str) -> httpx.Response:
    body = json.dumps({"pushes": list(pushes)}).encode()
    return server.client.post("/push", content=body, headers=server.headers("POST", "/push", body) | headers)


def processed(collector: Collector, creation: Creation, count: int = 1) -> Span:
    """The last of `count` spans of the push."""
    spans = collector.wait_until(lambda spans: len(creation.of(spans)) >= count)
    return creation.of(spans)[-1]


def registered(relay: LiveRelay, http: httpx.Client, platform: str, token: str = "") -> Device:
    device = Device.generate("Ed25519")
    register(device, http, relay.url, platform, token)
    return device


@pytest.mark.parametrize("platform", ["apns", "fcm"])
def test_a_push_to_a_provider_has_a_span_with_the_request_in_it(
    relay: LiveRelay, http: httpx.Client, server: Server, collector: Collector, platform: str
) -> None:
    secret = apns_token() if platform == "apns" else fcm_token()
    creation = Creation(registered(relay, http, platform, secret))
    assert server.push(creation.push)[0]["status"] == "delivered"
    span = processed(collector, creation)
    assert (span.kind, span.parent_id, span.links, span.status) == ("CONSUMER", "", (creation.link,), "UNSET")
    assert span.trace_id != creation.link.trace_id
    assert span.attributes == COMMON | {
        "sigil.challenge_id": creation.id,
        "sigil.push.type": "challenge",
        "sigil.push.platform": platform,
        "sigil.push.status": "delivered",
    }
    (request,) = [found for found in collector.wait_for(REQUEST) if found.parent_id == span.span_id]
    assert (request.kind, request.trace_id, request.links) == ("CLIENT", span.trace_id, ())
    # Of a host that is not the provider's, as that of the stand-ins, the address is left out.
    assert request.attributes == {
        "sigil.challenge_id": creation.id,
        "http.request.method": "POST",
        "http.response.status_code": 200,
    }
    assert span.resource["service.name"] == "relay"
    for found in (span, request):
        assert not any(secret in text or "127.0.0.1" in text or "localhost" in text for text in found.texts)


def test_a_push_that_is_retried_has_a_span_for_each_attempt_also_after_it_waited_in_the_registry(
    relay: LiveRelay, http: httpx.Client, server: Server, collector: Collector, providers: Providers
) -> None:
    token = apns_token("ab01")
    creation = Creation(registered(relay, http, "apns", token))
    providers.script("apns", token="ab01", status=503, times=1)
    assert server.push(creation.push)[0]["status"] == "queued"
    first, second = (processed(collector, creation, count) for count in (1, 2))
    assert (first.status, first.attributes["error.type"]) == ("ERROR", "http_503")
    assert first.attributes["sigil.push.status"] == "queued"
    assert (second.status, second.attributes["sigil.push.attempt"]) == ("UNSET", 2)
    assert second.attributes["sigil.push.status"] == "delivered"
    (failed,) = [found for found in collector.named(REQUEST) if found.parent_id == first.span_id]
    assert (failed.status, failed.attributes["error.type"]) == ("ERROR", "503")
    assert failed.attributes["http.response.status_code"] == 503


def test_a_dead_token_is_an_error_with_the_code_of_the_provider(
    relay: LiveRelay, http: httpx.Client, server: Server, collector: Collector, providers: Providers
) -> None:
    token = apns_token("ab02")
    creation = Creation(registered(relay, http, "apns", token))
    providers.script("apns", token="ab02", outcome="Unregistered")
    assert server.push(creation.push)[0]["status"] == "token_evicted"
    span = processed(collector, creation)
    assert (span.status, span.attributes["error.type"]) == ("ERROR", "Unregistered")
    assert span.attributes["sigil.push.status"] == "token_evicted"


def test_a_push_that_ends_at_its_admission_has_a_span_that_says_why(
    relay: LiveRelay, http: httpx.Client, server: Server, collector: Collector
) -> None:
    unknown = Creation(Device.generate())
    late = Creation(registered(relay, http, "websocket"), expires_at=format_time(1_700_000_000))
    assert [one["status"] for one in server.push(unknown.push, late.push)] == ["not_registered", "failed"]
    assert processed(collector, unknown).attributes["error.type"] == "not_registered"
    assert processed(collector, late).attributes["error.type"] == "expired"


async def test_a_push_over_websocket_has_a_span_until_its_acknowledgement(
    relay: LiveRelay, http: httpx.Client, server: Server, collector: Collector
) -> None:
    device = registered(relay, http, "websocket")
    creation = Creation(device)
    # It waits in the registry, and the device comes later.
    assert (await asyncio.to_thread(server.push, creation.push))[0]["status"] == "queued"
    async with listening(relay, device) as socket:
        pushed = await frame(socket)
        assert "traceparent" not in pushed
    lost = await asyncio.to_thread(processed, collector, creation)
    assert (lost.status, lost.attributes["error.type"]) == ("ERROR", "connection_closed")
    async with listening(relay, device) as socket:
        pushed = await frame(socket)
        assert len(creation.of(collector.spans)) == 1
        await acknowledge(socket, pushed)
        span = await asyncio.to_thread(processed, collector, creation, 2)
        # A repeated acknowledgement is none.
        await acknowledge(socket, pushed)
    assert (span.kind, span.parent_id, span.links, span.status) == ("CONSUMER", "", (creation.link,), "UNSET")
    assert span.attributes == COMMON | {
        "sigil.challenge_id": creation.id,
        "sigil.push.type": "challenge",
        "sigil.push.platform": "websocket",
        "sigil.push.status": "delivered",
    }
    clear = Creation(device, clears=True)
    async with listening(relay, device) as socket:
        await asyncio.to_thread(server.push, clear.push)
        await acknowledge(socket, await frame(socket))
        assert (await asyncio.to_thread(processed, collector, clear)).attributes["sigil.push.type"] == "clear"
    assert len(creation.of(collector.spans)) == 2


def test_a_batch_has_a_span_in_the_trace_of_its_header_or_linked_to_its_creations(
    relay: LiveRelay, http: httpx.Client, server: Server, collector: Collector
) -> None:
    device = registered(relay, http, "websocket")
    first, second, dark = Creation(device), Creation(device), Creation(device, sampled=False)
    post(server, first.push, second.push, dark.push)
    (linked,) = collector.wait_for(PUSH)
    assert (linked.kind, linked.parent_id) == ("SERVER", "")
    assert set(linked.links) == {first.link, second.link}
    assert linked.attributes == {
        "http.request.method": "POST",
        "http.route": "/push",
        "url.scheme": "http",
        "url.path": "/push",
        "http.response.status_code": 200,
        "messaging.destination.name": "sigil.push",
        "messaging.batch.message_count": 3,
        "sigil.challenge_id": [first.id, second.id],
    }
    collector.clear()
    sender, one = Creation(device), Creation(device)
    post(server, one.push, traceparent=sender.header)
    (child,) = collector.wait_for(PUSH)
    assert (child.trace_id, child.parent_id, child.links) == (*sender.link, ())
    assert child.attributes["sigil.challenge_id"] == one.id


def quiet(server: Server, collector: Collector, device: Device) -> None:
    """No span of an earlier request is on its way: a later one has arrived."""
    last = Creation(device)
    post(server, last.push)
    collector.wait_until(lambda spans: last.of(spans, PUSH))
    assert [span.name for span in collector.spans if not last.of([span], PUSH)] == []


def test_what_is_not_sampled_or_malformed_is_ignored(
    relay: LiveRelay, http: httpx.Client, server: Server, collector: Collector
) -> None:
    device = registered(relay, http, "websocket")
    ignored = [case["value"] for case in cases("traceparents.json") if (case["expect"] or "00")[-1] in "02"]
    assert len(ignored) > 30
    nested: Any = {}
    for _ in range(100):
        nested = [nested]
    for value in [*ignored, nested, "x" * 10_000, -1e308, False, {"traceparent": "00"}]:
        if isinstance(value, str) and "\ud800" in value:
            continue  # the whole body is no JSON
        answer = post(server, wanted(device, secrets.token_hex(8)) | {"traceparent": value})
        assert (answer.status_code, answer.json()["results"][0]["status"]) == (200, "queued"), value
        if isinstance(value, str) and value.isascii() and value.isprintable() and value == value.strip():
            post(server, wanted(device, secrets.token_hex(8)), traceparent=value)
    two = Creation(device).header
    body = json.dumps({"pushes": [wanted(device, secrets.token_hex(8))]}).encode()
    signed = [*server.headers("POST", "/push", body).items(), ("traceparent", two), ("traceparent", two)]
    assert server.client.post("/push", content=body, headers=signed).status_code == 200
    quiet(server, collector, device)


def test_a_server_that_is_not_verified_starts_nothing(
    relay: LiveRelay, http: httpx.Client, server: Server, collector: Collector
) -> None:
    device = registered(relay, http, "websocket")
    stranger, creation = Server(http), Creation(device)
    header = {"traceparent": creation.header}
    assert post(stranger, creation.push, **header).status_code == 401
    body = json.dumps({"pushes": [creation.push]}).encode()
    headers = server.headers("POST", "/push", body) | header
    assert http.post("/push", content=body + b" ", headers=headers).status_code == 401
    assert http.post("/push", content=body, headers=header).status_code == 401
    for target in ("/health", "/metrics", "/devices/register/challenge", "/nowhere", "/push"):
        http.get(target, headers=header)
    with relay.client(headers=header) as client:
        register(device, client, relay.url)
    assert server.client.post("/push/outcomes", content=b"{}", headers=header).status_code == 401
    quiet(server, collector, device)


def test_names_of_pushes_that_are_no_ids_are_in_no_span(
    relay: LiveRelay, http: httpx.Client, server: Server, collector: Collector
) -> None:
    creation = Creation(registered(relay, http, "websocket"), collapse_id="alice@example.com")
    creation.push["push_key"] = "alice@example.com"
    post(server, creation.push)
    (span,) = collector.wait_for(PUSH)
    assert not any("alice" in text for text in span.texts)
    assert "sigil.challenge_id" not in span.attributes


def test_lost_spans_are_counted_and_cost_no_push(relay: LiveRelay, http: httpx.Client, server: Server) -> None:
    assert "relay_otlp_spans_dropped_total 0.0" in http.get("/metrics").text
    with collecting() as gone:
        pass
    device = Device.generate("Ed25519")
    settings = tracing_to(gone) | {"RELAY_PUSH_CONSOLE": "true", "OTEL_BSP_EXPORT_TIMEOUT": "100"}
    with LiveRelay(**settings) as broken, broken.client() as client:
        own = Server(client)
        own.register()
        register(device, client, broken.url, "apns", "some token")
        assert own.push(Creation(device).push)[0]["status"] == "delivered"
        # The push and the request.
        wait_until(lambda: "relay_otlp_spans_dropped_total 2.0" in client.get("/metrics").text, "the lost spans")
    with LiveRelay() as untraced, untraced.client() as client:
        assert "otlp" not in client.get("/metrics").text


def test_a_stop_exports_what_is_left_and_does_not_wait_for_a_collector_that_hangs(collector: Collector) -> None:
    for hangs in (False, True):
        with collecting(collector.protocol) as own:
            own.faults.hangs = hangs
            settings = tracing_to(own) | {"RELAY_PUSH_CONSOLE": "true", "OTEL_BSP_SCHEDULE_DELAY": "60000"}
            creation = Creation(Device.generate())
            with LiveRelay(**settings) as stopping, stopping.client() as client:
                server = Server(client)
                server.register()
                assert server.push(creation.push)[0]["status"] == "not_registered"
                assert own.exports == []
                assert stopping.stop() == 0
                assert not stopping.events("worker_killed")
            assert len(creation.of(own.spans)) == (0 if hangs else 1)


async def test_a_push_in_flight_at_a_stop_has_its_span(collector: Collector) -> None:
    device = Device.generate("Ed25519")
    creation = Creation(device)
    settings = tracing_to(collector) | {"OTEL_BSP_SCHEDULE_DELAY": "60000"}
    with LiveRelay(**settings) as stopping, stopping.client() as client:
        register(device, client, stopping.url)
        server = Server(client)
        server.register()
        await asyncio.to_thread(server.push, creation.push)
        async with listening(stopping, device) as socket:
            await frame(socket)
            assert await asyncio.to_thread(stopping.stop) == 0
    (span,) = creation.of(collector.spans)
    assert span.attributes["error.type"] == "connection_closed"


def test_without_an_endpoint_nothing_of_opentelemetry_is_loaded() -> None:
    program = (
        "import sys, relay.app.wiring, relay.app.master, relay.metrics, relay.transports.apns, relay.transports.fcm\n"
        "print([name for name in sys.modules if name.startswith(('opentelemetry', 'grpc'))])"
    )
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert (ran.stdout, ran.stderr) == ("[]\n", "")
