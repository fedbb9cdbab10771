"""What both services expose at `/metrics` when every part of them is in use."""

from __future__ import annotations

import ssl
from collections import defaultdict
from contextlib import ExitStack
from pathlib import Path

import httpx
from prometheus_client.parser import text_string_to_metric_families

from sigil.device import Device
from tests.device.tls import certificate
from tests.first_boot.init_mode_server import InitModeServer
from tests.flows.backend import Backend
from tests.relay.devices_of_relay import register
from tests.support.live import LiveServer, wait_until
from tests.support.live_relay import LiveRelay
from tests.support.providers import Providers, apns_token
from tests.support.stand_in_relay import StandInRelay
from tests.support.webhook_endpoint import WebhookEndpoint

# A collector that is down: the services count what it does not take.
TRACING = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:9"}
Exposed = dict[str, list[dict[str, str]]]
"""The label sets of each sample, by the name of the sample."""


def of(client: httpx.Client) -> Exposed:
    answer = client.get("/metrics")
    assert answer.status_code == 200, answer.text
    found: Exposed = defaultdict(list)
    for family in text_string_to_metric_families(answer.text):
        for sample in family.samples:
            found[sample.name].append(dict(sample.labels))
    return found


def of_both_services(directory: Path) -> Exposed:
    """The server with relay and webhooks, with a relay behind https, and in init mode; the relay with APNs."""
    found: Exposed = defaultdict(list)

    def add(client: httpx.Client) -> None:
        for name, labels in of(client).items():
            found[name] += labels

    with ExitStack() as stack:
        start = stack.enter_context
        pair = certificate(directory)
        tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        tls.load_cert_chain(pair.files)
        providers, behind_tls = start(Providers()), start(StandInRelay(tls))
        relay, endpoint = start(LiveRelay(**providers.env, **TRACING)), start(WebhookEndpoint())
        server = start(LiveServer(RELAY_URL=relay.url, WEBHOOK_URL=endpoint.url, WEBHOOK_SECRET="w" * 32, **TRACING))
        android = {"SIGIL_ANDROID_APPS": f"com.example.app:{'3b' * 32}"}
        other = start(LiveServer(workers=1, RELAY_URL=behind_tls.url, SSL_CERT_FILE=str(pair.files), **android))
        device = Device.generate()
        relay_client = start(relay.client())
        register(device, relay_client, relay.url, "apns", apns_token())
        start(Backend(server)).create_challenge(device)
        wait_until(lambda: "relay_provider_credentials_refused" in of(relay_client), "a push to the provider")
        other_client = start(other.client())
        wait_until(lambda: "sigil_relay_clock_offset_seconds" in of(other_client), "a response of the relay")
        for client in (relay_client, other_client, start(server.client()), start(start(InitModeServer()).client())):
            add(client)
    return found
