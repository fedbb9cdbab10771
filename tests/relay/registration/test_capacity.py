"""The number of registrations is bounded: any client can register, and no server ever uses most of those."""

from __future__ import annotations

import asyncio
import json
from itertools import count
from typing import Any

import httpx
import pytest

from relay.registration.capacity import RegistrationCapacity
from sigil.device import Device
from sigil.protocol.errors import Overloaded
from tests.relay.conftest import wanted
from tests.relay.devices_of_relay import listening, register, registration
from tests.support.live import DEADLINE, wait_until
from tests.support.live_relay import LiveRelay, Server

_numbers = count(2)
MAX_DEVICES, MAX_UNUSED = 20, 2


@pytest.fixture(scope="module")
def settings() -> dict[str, str]:
    return {"RELAY_MAX_DEVICES": str(MAX_DEVICES)}


def client_of(relay: LiveRelay) -> httpx.Client:
    """With an address of its own: registrations are limited by address."""
    return relay.client(transport=httpx.HTTPTransport(local_address=f"127.0.8.{next(_numbers)}"))


def registrations(relay: LiveRelay, http: httpx.Client) -> int:
    lines = [line for line in http.get("/metrics").text.splitlines() if line.startswith("relay_devices{")]
    return sum(int(float(line.rpartition(" ")[2])) for line in lines)


def status_of(server: Server, device: Device, key: str) -> str:
    return str(server.push(wanted(device, key))[0]["status"])


def test_registrations_that_no_server_uses_are_bounded_and_those_in_use_are_kept(
    relay: LiveRelay, server: Server, http: httpx.Client
) -> None:
    used = [Device.generate() for _ in range(3)]
    with client_of(relay) as client:
        for device in used:
            register(device, client, relay.url)
            assert status_of(server, device, f"first-{device.fingerprint[:8]}") == "queued"
        for _ in range(10):
            register(Device.generate(), client, relay.url, "apns", "x" * 4096)
    wait_until(lambda: registrations(relay, http) == len(used) + MAX_UNUSED, "the unused registrations to be deleted")
    assert {status_of(server, device, f"again-{device.fingerprint[:8]}") for device in used} == {"queued"}
    assert 'relay_token_evictions_total{reason="unused"} 8.0' in http.get("/metrics").text
    assert f"relay_devices_limit {float(MAX_DEVICES)}" in http.get("/metrics").text


async def test_a_connected_device_whose_registration_was_deleted_is_disconnected() -> None:
    """It registers again when its connection ends, and would else wait for pushes that never come."""
    device = Device.generate()
    with LiveRelay(RELAY_MAX_DEVICES=str(MAX_DEVICES)) as relay, relay.client() as client:
        register(device, client, relay.url)
        async with listening(relay, device) as connection, asyncio.timeout(DEADLINE):
            # Later by a second, so that it is the one that was not seen for the longest time.
            await asyncio.sleep(1.1)
            for _ in range(MAX_UNUSED + 1):
                register(Device.generate(), client, relay.url)
            await connection.wait_closed()
            assert connection.close_code == 4003


def test_a_full_relay_says_so_and_still_takes_new_tokens_of_its_devices(
    relay: LiveRelay, server: Server, http: httpx.Client
) -> None:
    with client_of(relay) as client:
        devices = [Device.generate() for _ in range(MAX_DEVICES)]
        for device in devices:
            if client.post("/devices/register", json=registration(device, client, relay.url)).status_code == 201:
                server.push(wanted(device, f"use-{device.fingerprint[:8]}"))
        wait_until(lambda: relay.events("registrations_full"), "the relay to be full")
    with client_of(relay) as client:
        answer = client.post("/devices/register", json=registration(Device.generate(), client, relay.url))
        assert (answer.status_code, answer.json()["error"]["code"]) == (503, "OVERLOADED")
        assert "RELAY_MAX_DEVICES" in answer.json()["error"]["message"]
        assert int(answer.headers["retry-after"]) == 600
        register(devices[0], client, relay.url, "fcm", "another token")
    assert len(relay.events("registrations_full")) == 1


def test_the_operator_is_warned_once_before_the_limit(capfd: pytest.CaptureFixture[str]) -> None:
    capacity = RegistrationCapacity(100)
    for total in (10, 90, 91, 86, 90, 100, 100, 84, 90):
        capacity.counted(total, replaceable=False)
    logged = [json.loads(line) for line in capfd.readouterr().out.splitlines()]
    events: list[tuple[Any, ...]] = [(line["event"], line["devices"], line["limit"]) for line in logged]
    assert events == [
        ("registrations_near_limit", 90, 100),
        ("registrations_full", 100, 100),
        ("registrations_near_limit", 90, 100),
    ]


def test_a_registry_that_is_not_full_takes_registrations() -> None:
    capacity = RegistrationCapacity(10)
    capacity.counted(9, replaceable=False)
    capacity.require()
    capacity.counted(10, replaceable=True)
    capacity.require()
    capacity.counted(10, replaceable=False)
    with pytest.raises(Overloaded, match="RELAY_MAX_DEVICES"):
        capacity.require()
