"""A whole relay and a push service: delivery, eviction, keys at SIGHUP, metrics, and hosts that hurt no other."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from typing import Any

import httpx
import pytest

from relay.web_push_settings import new_key, vapid_key
from sigil.device import Device
from tests.relay.conftest import wanted
from tests.relay.devices_of_relay import register
from tests.support.live import wait_until
from tests.support.live_relay import LiveRelay, Server
from tests.support.push_service import FCM, MOZILLA, PushServiceThread
from tests.support.web_push import Subscription

_numbers = count(2)


@pytest.fixture(scope="module")
def pushes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PushServiceThread]:
    service = PushServiceThread(tmp_path_factory.mktemp("push-service"))
    yield service
    service.close()


@pytest.fixture(scope="module")
def key_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("key") / "webpush_key"
    path.touch(0o600)
    path.write_text(new_key())
    return path


@pytest.fixture(scope="module")
def settings(pushes: PushServiceThread, key_file: Path) -> dict[str, str]:
    return {
        "RELAY_WEBPUSH_KEY_FILE": str(key_file),
        "RELAY_WEBPUSH_CONTACT": "mailto:ops@sigil-relay.net",
        "RELAY_WEBPUSH_HOSTS": f"{FCM}=127.0.0.1:{pushes.port} {MOZILLA}=127.0.0.1:{pushes.port}",
        "SSL_CERT_FILE": str(pushes.service.ca),
        "METRICS_TOKEN": "off",
        "RELAY_PUSH_RATE": "off",
    }


def subscribed(relay: LiveRelay, path: str = "/push/ok", host: str = FCM) -> tuple[Device, Subscription]:
    """A new device, registered from an address of its own: registrations are limited by address."""
    number = next(_numbers)
    transport = httpx.HTTPTransport(local_address=f"127.0.{6 + number // 250}.{number % 250 + 1}")
    with relay.client(transport=transport) as client:
        public = client.get("/devices/register/challenge").json()["webpush_key"]
        device, subscription = Device.generate(), Subscription(public, f"https://{host}{path}")
        register(device, client, relay.url, "webpush", subscription.token())
    return device, subscription


def push(server: Server, device: Device, key: str, **members: Any) -> dict[str, Any]:
    (result,) = server.push(wanted(device, key, **members))
    return result


def test_a_push_reaches_the_browser_and_is_counted(
    relay: LiveRelay, server: Server, pushes: PushServiceThread, http: httpx.Client
) -> None:
    device, subscription = subscribed(relay)
    result = push(server, device, "delivered")
    assert (result["status"], result["provider"]) == ("delivered", "webpush")
    assert b'"id":"delivered"' in subscription.decrypt(pushes.service.received[-1].body)
    metrics = http.get("/metrics").text
    assert 'relay_push_total{provider="webpush",status="delivered"} 1.0' in metrics
    assert 'relay_devices{platform="webpush"}' in metrics
    assert FCM not in metrics
    assert not relay.events("token_evicted")


def test_an_ended_subscription_is_evicted_and_the_device_registers_again(relay: LiveRelay, server: Server) -> None:
    device, _ = subscribed(relay, "/push/410")
    result = push(server, device, "gone")
    assert (result["status"], result["error"]) == ("token_evicted", "http_410")
    assert push(server, device, "after")["status"] == "token_evicted"
    assert [line["reason"] for line in relay.events("token_evicted")] == ["http_410"]
    with relay.client() as client:
        public = client.get("/devices/register/challenge").json()["webpush_key"]
        register(device, client, relay.url, "webpush", Subscription(public, f"https://{FCM}/push/ok").token())
    assert push(server, device, "again")["status"] == "delivered"


def test_a_clear_is_failed_without_an_attempt(relay: LiveRelay, server: Server, pushes: PushServiceThread) -> None:
    device, _ = subscribed(relay)
    before = len(pushes.service.received)
    result = push(server, device, "x:clear", payload={"type": "clear", "challenge_id": "x"}, collapse_id="x")
    assert (result["status"], result["error"]) == ("failed", "not_carried")
    assert len(pushes.service.received) == before


def test_a_lying_401_stops_no_other_device(relay: LiveRelay, server: Server) -> None:
    honest, _ = subscribed(relay)
    liar, _ = subscribed(relay, "/push/401")
    assert push(server, honest, "before-lie")["status"] == "delivered"
    results = [push(server, liar, f"lie-{number}") for number in range(11)]
    assert [result["status"] for result in results] == ["failed"] * 9 + ["failed", "token_evicted"]
    assert results[0]["error"] == "http_401"
    assert push(server, honest, "after-lie")["status"] == "delivered"
    assert not relay.events("provider_credentials_refused")


@pytest.mark.parametrize("path", ["/push/slow", "/push/huge", "/push/503", "/push/301?location=https://127.0.0.1/"])
def test_hostile_subscriptions_delay_no_other_push(relay: LiveRelay, server: Server, path: str) -> None:
    """More of them than all attempts that a relay makes at once at one host."""
    hostile, _ = subscribed(relay, path, MOZILLA)
    honest, _ = subscribed(relay)
    name = path.partition("?")[0].strip("/").replace("/", "-")
    results = server.push(*(wanted(hostile, f"{name}-{number}", owner=f"o{number}") for number in range(300)))
    assert not any(result["status"] == "delivered" for result in results)
    assert push(server, honest, f"{name}-honest")["status"] == "delivered"


def test_sighup_reads_the_key_again_and_the_old_one_still_counts(
    relay: LiveRelay, server: Server, pushes: PushServiceThread, key_file: Path
) -> None:
    old = key_file.read_text()
    before, _ = subscribed(relay)
    reloads = len(relay.events("reload_finished"))
    new = new_key()
    key_file.write_text(f"{new},{old}")
    os.kill(relay.pid, signal.SIGHUP)
    wait_until(lambda: len(relay.events("reload_finished")) > reloads, "the reload")
    after, subscription = subscribed(relay)
    assert subscription.members["key"] == vapid_key(new).public_text
    for device, key in ((before, old), (after, new)):
        assert push(server, device, f"key-{device.fingerprint[:8]}")["status"] == "delivered"
        authorization = pushes.service.received[-1].headers["authorization"]
        assert authorization.endswith(f", k={vapid_key(key).public_text}")
    # A removed key fails the push, and keeps the registration.
    key_file.write_text(new)
    os.kill(relay.pid, signal.SIGHUP)
    wait_until(lambda: len(relay.events("reload_finished")) > reloads + 1, "the reload")
    result = push(server, before, "removed")
    assert (result["status"], result["error"]) == ("failed", "key_not_of_relay")
    log = relay.log_path.read_text()
    for secret in (old, new, "/push/ok"):
        assert secret not in log
