"""A real relay with credentials of the stand-ins: outcomes, evictions, rejected credentials, reload, metrics."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from sigil.device import Device
from sigil.protocol.encoding.text import format_time
from tests.relay.conftest import wanted
from tests.relay.devices_of_relay import authenticate, open_socket, register
from tests.relay.pushes.test_pushing import outcome
from tests.relay.test_credentials import P256
from tests.support.live import wait_until
from tests.support.live_relay import LiveRelay, Server
from tests.support.providers import Providers, apns_token, fcm_token

NEW_TOKEN = {"apns": apns_token, "fcm": fcm_token}
GONE = {"apns": "Unregistered", "fcm": "UNREGISTERED"}


@pytest.fixture(scope="module")
def stand_ins() -> Iterator[Providers]:
    with Providers() as running:
        yield running


@pytest.fixture(scope="module")
def settings(stand_ins: Providers) -> dict[str, str]:
    return stand_ins.env


@pytest.fixture(params=["apns", "fcm"])
def provider(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


@pytest.fixture
def providers(stand_ins: Providers) -> Providers:
    stand_ins.reset()
    return stand_ins


def phone(relay: LiveRelay, provider: str, prefix: str = "") -> tuple[Device, str]:
    """A new device and its token."""
    device, token = Device.generate(), NEW_TOKEN[provider](prefix)
    with relay.client() as client:
        register(device, client, relay.url, provider, token)
    return device, token


def sample(relay: LiveRelay, name: str, **labels: str) -> float:
    with relay.client() as client:
        text = client.get("/metrics").text
    return sum(
        one.value
        for family in text_string_to_metric_families(text)
        for one in family.samples
        if one.name == name and labels.items() <= one.labels.items()
    )


def final_outcome(server: Server, key: str) -> dict[str, Any]:
    """Wait for the outcome of a push."""

    def found() -> dict[str, Any] | None:
        (one,) = outcome(server, key)
        return one if one["status"] != "queued" else None

    result: dict[str, Any] = wait_until(found, f"an outcome of {key}")
    return result


def test_a_push_is_delivered_and_its_payload_arrives(
    relay: LiveRelay, server: Server, providers: Providers, provider: str
) -> None:
    device, token = phone(relay, provider)
    push = wanted(device, f"d-{provider}", collapse_id="c1")
    (result,) = server.push(push)
    assert (result["status"], result["provider"]) == ("delivered", provider)
    (seen,) = providers.seen(provider, token=token)
    assert json.loads(seen["sigil"]) == push["payload"]
    assert server.push(push) == [result]
    assert len(providers.seen(provider, token=token)) == 1
    assert token not in relay.log_path.read_text()


async def test_a_dead_token_is_evicted_and_reported_to_server_and_device(
    relay: LiveRelay, server: Server, providers: Providers, provider: str
) -> None:
    providers.script(provider, token="dead", outcome=GONE[provider])
    before = sample(relay, "relay_token_evictions_total", reason=GONE[provider])
    device, _ = phone(relay, provider, "dead")
    for key in ("1", "2"):
        (result,) = server.push(wanted(device, f"g{key}-{provider}"))
        assert (result["status"], result["error"]) == ("token_evicted", GONE[provider])
    assert providers.counters(provider)["outcomes"][GONE[provider]] == 1
    assert sample(relay, "relay_token_evictions_total", reason=GONE[provider]) == before + 1
    async with open_socket(relay) as socket:
        assert await authenticate(device, socket, relay.url) == {"type": "auth_failure", "error": "token_evicted"}
    with relay.client() as client:
        register(device, client, relay.url, provider, NEW_TOKEN[provider]())
    assert server.push(wanted(device, f"g3-{provider}"))[0]["status"] == "delivered"


async def test_a_device_of_a_provider_can_check_its_registration(relay: LiveRelay, provider: str) -> None:
    device, _ = phone(relay, provider)
    async with open_socket(relay) as socket:
        assert await authenticate(device, socket, relay.url) == {"type": "auth_failure", "error": "other_platform"}


def test_a_token_that_died_before_it_was_registered_is_not_evicted(
    relay: LiveRelay, server: Server, providers: Providers
) -> None:
    """Apple's 410 concerns an earlier use of the same token."""
    providers.script("apns", token="dead", outcome="Unregistered", timestamp=1_767_225_600_000, times=1)
    device, _ = phone(relay, "apns", "dead")
    (result,) = server.push(wanted(device, "older"))
    assert (result["status"], result["error"]) == ("failed", "Unregistered")
    assert server.push(wanted(device, "newer"))[0]["status"] == "delivered"


def test_a_temporary_fault_is_retried_until_the_push_arrives(
    relay: LiveRelay, server: Server, providers: Providers, provider: str
) -> None:
    providers.script(provider, fault="reset", times=1)
    device, token = phone(relay, provider)
    (result,) = server.push(wanted(device, f"again-{provider}"))
    assert (result["status"], result["provider"]) == ("queued", provider)
    assert final_outcome(server, f"again-{provider}")["status"] == "delivered"
    assert len(providers.seen(provider, token=token)) == 1


def test_a_push_is_not_sent_after_it_expired(
    relay: LiveRelay, server: Server, providers: Providers, provider: str
) -> None:
    providers.script(provider, token="dead", fault="silence")
    device, token = phone(relay, provider, "dead")
    before = sample(relay, "relay_push_total", provider=provider, status="failed")
    soon = format_time(int(time.time()) + 5)
    (result,) = server.push(wanted(device, f"late-{provider}", expires_at=soon))
    assert result["status"] == "queued"
    wait_until(
        lambda: sample(relay, "relay_push_total", provider=provider, status="failed") == before + 1, "its one outcome"
    )
    assert providers.seen(provider, token=token) == []
    wait_until(lambda: providers.counters(provider)["streams"] == 0, "its stream to be reset")


def test_ten_refusals_that_count_against_a_token_evict_it(
    relay: LiveRelay, server: Server, providers: Providers
) -> None:
    good, _ = phone(relay, "fcm")
    providers.script("fcm", token="odd", outcome="SENDER_ID_MISMATCH")
    odd, _ = phone(relay, "fcm", "odd")
    assert server.push(wanted(good, "proof"))[0]["status"] == "delivered"
    results = [server.push(wanted(odd, f"odd{n}"))[0] for n in range(10)]
    assert {result["status"] for result in results} == {"failed"}
    clear = {"type": "clear", "challenge_id": "odd", "status": "expired"}
    (after,) = server.push({**wanted(odd, "odd10"), "payload": clear})
    assert (after["status"], after["error"]) == ("token_evicted", "failing")


def test_metrics_have_connections_streams_ages_and_durations(
    relay: LiveRelay, server: Server, providers: Providers, provider: str
) -> None:
    device, _ = phone(relay, provider)
    server.push(wanted(device, f"m-{provider}"))
    wait_until(lambda: sample(relay, "relay_provider_connections", provider=provider) == 4, "four connections")
    wait_until(lambda: sample(relay, "relay_provider_streams", provider=provider) == 0, "no streams")
    wait_until(lambda: sample(relay, "relay_provider_pushes", provider=provider) == 0, "no pushes")
    assert sample(relay, "relay_token_age_seconds_count", provider=provider) >= 1
    assert sample(relay, "relay_push_duration_seconds_count", provider=provider) >= 1
    assert sample(relay, "relay_push_total", provider=provider, status="delivered") >= 1
    assert sample(relay, "relay_provider_credentials_refused", provider=provider) == 0


def test_a_provider_without_credentials_is_off_and_logged() -> None:
    with LiveRelay() as relay, relay.client() as client:
        assert {line["provider"] for line in relay.events("provider_off")} == {"apns", "fcm", "webpush"}
        server = Server(client)
        server.register()
        device, _ = phone(relay, "apns")
        (result,) = server.push(wanted(device, "off"))
        assert (result["status"], result["error"]) == ("failed", "provider_off")


def test_rejected_credentials_are_one_log_line_and_a_reload_fixes_them(providers: Providers, tmp_path: Path) -> None:
    """One log line and a gauge for alerts. The other provider continues. SIGHUP loads the valid key."""
    key = tmp_path / "key.p8"
    key.touch(0o600)
    key.write_text(P256)
    with LiveRelay(**{**providers.env, "APNS_KEY_PATH": str(key)}) as relay, relay.client() as client:
        server = Server(client)
        server.register()
        # Before the first push the relay knows nothing about its credentials.
        assert "relay_provider_credentials_refused{" not in client.get("/metrics").text
        devices = [phone(relay, "apns")[0] for _ in range(20)]
        results = server.push(*(wanted(device, f"c{n}") for n, device in enumerate(devices)))
        assert {result["status"] for result in results} == {"queued"}
        assert len(relay.events("provider_credentials_refused")) == 1
        wait_until(
            lambda: sample(relay, "relay_provider_credentials_refused", provider="apns") == 1, "the gauge to rise"
        )
        other, _ = phone(relay, "fcm")
        assert server.push(wanted(other, "other"))[0]["status"] == "delivered"
        key.write_text(Path(providers.env["APNS_KEY_PATH"]).read_text())
        ready = len(relay.events("worker_ready"))
        os.kill(relay.pid, signal.SIGHUP)
        wait_until(lambda: len(relay.events("worker_ready")) > ready, "a worker with the new key")
        later = (phone(relay, "apns")[0] for _ in range(8))
        wait_until(
            lambda: server.push(wanted(device := next(later), device.fingerprint))[0]["status"] == "delivered",
            "a push by the new worker",
        )
        wait_until(
            lambda: sample(relay, "relay_provider_credentials_refused", provider="apns") == 0, "the gauge to fall"
        )
        assert "PRIVATE KEY" not in relay.log_path.read_text()
