"""`POST /push/history`: what a server may read of its pushes to one device, and of the registration of the device."""

from __future__ import annotations

import asyncio
import json
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from sigil.device import Device
from sigil.protocol import signed_bytes
from sigil.protocol.encoding.text import decode_base64, format_time
from tests.relay.conftest import wanted
from tests.relay.devices_of_relay import acknowledge, frame, listening, register, sign
from tests.support.live import DEADLINE, wait_until
from tests.support.live_relay import LiveRelay, Server

_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ")


@pytest.fixture(scope="module")
def other_server(relay: LiveRelay, server: Server) -> Iterator[Server]:
    with relay.client() as client:
        other = Server(client)
        trust = [sys.executable, "-m", "relay", "servers", "trust", other.identity.server_id]
        subprocess.run(trust, env=relay.environ, check=True, capture_output=True, timeout=DEADLINE)
        wait_until(lambda: other.register().status_code == 200, "the second server is trusted")
        yield other


@pytest.fixture
def device(relay: LiveRelay, http: httpx.Client) -> Device:
    device = Device.generate()
    register(device, http, relay.url, "apns", "a-secret-token")
    return device


def history(server: Server, fingerprint: str) -> dict[str, Any]:
    answer = server.post("/push/history", {"fingerprint": fingerprint})
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


def error(answer: httpx.Response) -> tuple[int, str]:
    return answer.status_code, answer.json()["error"]["code"]


def query(server: Server, fingerprint: Any) -> tuple[int, str]:
    return error(server.post("/push/history", {"fingerprint": fingerprint}))


def test_a_server_reads_the_registration_and_its_pushes(server: Server, device: Device) -> None:
    server.push(wanted(device, f"h {device.fingerprint[:8]}".replace(" ", "-")))
    wait_until(lambda: history(server, device.fingerprint)["pushes"][0]["status"] == "delivered", "the outcome")
    found = history(server, device.fingerprint)
    (push,) = found["pushes"]
    assert found["fingerprint"] == device.fingerprint
    assert {name: value for name, value in push.items() if not name.endswith("_at")} == {
        "push_key": f"h-{device.fingerprint[:8]}",
        "push_id": push["push_id"],
        "provider": "apns",
        "status": "delivered",
        "attempts": 1,
    }
    assert _TIME.fullmatch(push["created_at"])
    assert push["created_at"] <= push["ended_at"]
    registration = found["registration"]
    assert (registration["status"], registration["provider"]) == ("registered", "apns")
    assert registration["registered_at"] <= registration["last_seen_at"]
    text = json.dumps(found)
    assert "a-secret-token" not in text
    assert "Grüße" not in text
    for length in (6, 7, 63):
        assert history(server, device.fingerprint[:length]) == found


async def test_a_push_over_websocket_waits_is_fetched_and_acknowledged(
    relay: LiveRelay, server: Server, http: httpx.Client
) -> None:
    listener = Device.generate()
    register(listener, http, relay.url)

    def push() -> dict[str, Any]:
        (found,) = history(server, listener.fingerprint)["pushes"]
        return dict(found)

    server.push(wanted(listener, "ws1"))
    assert (push()["status"], push()["attempts"]) == ("queued", 0)
    assert not {"ended_at", "next_attempt_at"} & push().keys()
    async with listening(relay, listener) as socket:
        received = await frame(socket)
        assert ((await asyncio.to_thread(push))["status"], push()["attempts"]) == ("queued", 1)
        await acknowledge(socket, received)
        await asyncio.to_thread(wait_until, lambda: push()["status"] == "delivered", "the acknowledgement")
    assert push()["ended_at"]


def test_another_server_learns_nothing_of_the_pushes_and_no_more_than_a_push_discloses(
    server: Server, other_server: Server, device: Device, http: httpx.Client, relay: LiveRelay
) -> None:
    server.push(wanted(device, f"mine-{device.fingerprint[:8]}"))
    assert query(other_server, device.fingerprint[:63]) == (404, "DEVICE_UNKNOWN")
    assert query(other_server, device.fingerprint[:6]) == (404, "DEVICE_UNKNOWN")
    assert history(other_server, device.fingerprint) == {
        "fingerprint": device.fingerprint,
        "registration": {"status": "registered", "provider": "apns"},
        "pushes": [],
    }
    expired = format_time(1_700_000_000)
    (disclosed,) = other_server.push(wanted(device, f"probe-{device.fingerprint[:8]}", expires_at=expired))
    assert (disclosed["status"], disclosed["provider"]) == ("failed", "apns")
    # A push that was rejected is no reason to tell more.
    assert history(other_server, device.fingerprint)["pushes"] == []
    assert query(other_server, device.fingerprint[:63]) == (404, "DEVICE_UNKNOWN")


def test_a_device_that_is_not_registered_or_unregisters(
    server: Server, device: Device, http: httpx.Client, relay: LiveRelay
) -> None:
    stranger = Device.generate()
    (result,) = server.push(wanted(stranger, f"u-{stranger.fingerprint[:8]}"))
    assert result["status"] == "not_registered"
    assert history(server, stranger.fingerprint) == {
        "fingerprint": stranger.fingerprint,
        "registration": {"status": "not_registered"},
        "pushes": [],
    }
    server.push(wanted(device, f"before-{device.fingerprint[:8]}"))
    challenge = http.get("/devices/register/challenge").json()
    message = signed_bytes.relay_unregister(relay.url, decode_base64(challenge["nonce"], ""))
    body = {"device_public_key": device.wire_key, "challenge_id": challenge["challenge_id"]}
    assert http.post("/devices/unregister", json={**body, "signature": sign(device, message)}).json()["removed"]
    assert history(server, device.fingerprint)["registration"] == {"status": "not_registered"}


def test_an_ambiguous_beginning_is_a_typed_error_that_lists_nothing(
    server: Server, other_server: Server, relay: LiveRelay, http: httpx.Client
) -> None:
    """Two devices with the same six characters: found by trying keys, as an attacker would."""
    devices = _two_with_the_same_beginning(6)
    for device in devices:
        register(device, http, relay.url, "apns", "token")
        server.push(wanted(device, f"a-{device.fingerprint}"))
    answer = server.post("/push/history", {"fingerprint": devices[0].fingerprint[:6]})
    assert error(answer) == (409, "FINGERPRINT_AMBIGUOUS")
    assert devices[0].fingerprint[:6] not in answer.text
    for device in devices:
        assert history(server, device.fingerprint[:16])["fingerprint"] == device.fingerprint
    # Of another server, neither is there.
    assert query(other_server, devices[0].fingerprint[:6]) == (404, "DEVICE_UNKNOWN")
    other_server.push(wanted(devices[0], f"o-{devices[0].fingerprint}"))
    assert history(other_server, devices[0].fingerprint[:6])["fingerprint"] == devices[0].fingerprint


def _two_with_the_same_beginning(length: int) -> tuple[Device, Device]:
    found: dict[str, Device] = {}
    while True:
        device = Device.generate()
        if other := found.get(device.fingerprint[:length]):
            return other, device
        found[device.fingerprint[:length]] = device


@pytest.mark.parametrize(
    "fingerprint",
    ["", "abcde", "ABCDEF", "abcdeg", "a" * 65, "abcdef\n", "abc def", "%61bcdef", "\u0660" * 6, None, 7, ["abcdef"]],
)
def test_another_form_is_one_error(server: Server, fingerprint: object) -> None:
    assert query(server, fingerprint) == (400, "INVALID_REQUEST")


def test_the_request_is_signed_and_counts_once(server: Server, device: Device, http: httpx.Client) -> None:
    body = json.dumps({"fingerprint": device.fingerprint}).encode()
    headers = server.headers("POST", "/push/history", body)
    assert http.post("/push/history", content=body, headers=headers).status_code == 200
    assert error(http.post("/push/history", content=body, headers=headers)) == (401, "UNAUTHORIZED")
    for target in ("/push/outcomes", "/push"):
        assert http.post("/push/history", content=body, headers=server.headers("POST", target, body)).status_code == 401
    other = server.headers("POST", "/push/history", b"{}")
    assert http.post("/push/history", content=body, headers=other).status_code == 401
    assert http.post("/push/history", content=body).status_code == 401
    assert http.get("/push/history").status_code == 405
    with httpx.Client(base_url=http.base_url, trust_env=False) as client:
        assert Server(client).post("/push/history", {"fingerprint": device.fingerprint}).status_code == 401


def test_a_large_body_is_rejected(server: Server) -> None:
    assert error(server.post("/push/history", b'{"fingerprint": "' + b"a" * 2000 + b'"}')) == (413, "PAYLOAD_TOO_LARGE")


def test_histories_count_in_the_rate_of_their_server(device: Device) -> None:
    with LiveRelay(RELAY_SERVER_RATE="60/min") as relay, relay.client() as client:
        server = Server(client)
        server.register()
        answers = [server.post("/push/history", {"fingerprint": device.fingerprint}) for _ in range(8)]
        assert [answer.status_code for answer in answers[:6]] == [200] * 6
        assert error(answers[-1]) == (429, "RATE_LIMITED")
        assert int(answers[-1].headers["retry-after"]) >= 1


def test_a_relay_with_too_many_histories_deletes_the_oldest() -> None:
    with LiveRelay(RELAY_MAX_DEVICES="20", RELAY_PUSH_CONSOLE="true") as relay, relay.client() as client:
        server = Server(client)
        server.register()
        devices = [Device.generate() for _ in range(5)]
        for device in devices:
            register(device, client, relay.url, "apns", "token")
            server.push(wanted(device, device.fingerprint, expires_at=format_time(int(time.time()) + 3)))

        def remembered() -> int:
            return sum(bool(history(server, device.fingerprint)["pushes"]) for device in devices)

        assert remembered() == 5
        wait_until(lambda: remembered() == 2, "a tenth of RELAY_MAX_DEVICES")
