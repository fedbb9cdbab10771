"""`POST /push` and `/push/outcomes`, and the frames that a listening device receives."""

from __future__ import annotations

import asyncio
from typing import Any

import httpx
import pytest

from sigil.device import Device
from sigil.protocol.encoding.text import format_time
from tests.relay.conftest import wanted
from tests.relay.devices_of_relay import acknowledge, frame, listening, register
from tests.support.live import wait_until
from tests.support.live_relay import LiveRelay, Server


@pytest.fixture
def listener(relay: LiveRelay, http: httpx.Client) -> Device:
    device = Device.generate()
    register(device, http, relay.url)
    return device


def outcome(server: Server, *keys: str) -> list[dict[str, Any]]:
    answer = server.post("/push/outcomes", {"push_keys": list(keys)})
    assert answer.status_code == 200, answer.text
    results: list[dict[str, Any]] = answer.json()["results"]
    return results


async def test_a_push_arrives_once_and_is_delivered_when_it_is_acknowledged(
    relay: LiveRelay, server: Server, listener: Device
) -> None:
    async with listening(relay, listener) as socket:
        (queued,) = await asyncio.to_thread(server.push, wanted(listener, "k1"))
        assert (queued["status"], queued["provider"]) == ("queued", "websocket")
        push = await frame(socket)
        assert push == {**wanted(listener, "k1")["payload"], "push_id": queued["push_id"]}
        assert outcome(server, "k1")[0]["status"] == "queued"
        await acknowledge(socket, push)
        await asyncio.to_thread(wait_until, lambda: outcome(server, "k1")[0]["status"] == "delivered", "the outcome")


async def test_waiting_pushes_are_sent_at_every_connection_until_they_are_acknowledged(
    relay: LiveRelay, server: Server, listener: Device
) -> None:
    ids = [server.push(wanted(listener, f"w{n}"))[0]["push_id"] for n in range(3)]
    for acknowledged in (False, True):
        async with listening(relay, listener) as socket:
            pushes = [await frame(socket) for _ in ids]
            assert [push["push_id"] for push in pushes] == ids
            for push in pushes if acknowledged else []:
                await acknowledge(socket, push)

    def statuses() -> set[str]:
        return {result["status"] for result in outcome(server, "w0", "w1", "w2")}

    await asyncio.to_thread(wait_until, lambda: statuses() == {"delivered"}, "acknowledgements")


def test_a_repeated_push_key_gets_the_same_result_and_sends_nothing(
    relay: LiveRelay, server: Server, listener: Device
) -> None:
    first = server.push(wanted(listener, "r1"))
    assert server.push(wanted(listener, "r1")) == first
    assert [result["push_id"] for result in server.push(wanted(listener, "r2"), wanted(listener, "r2"))] == [
        result["push_id"] for result in server.push(wanted(listener, "r2")) * 2
    ]


def test_results_are_in_the_order_of_the_pushes(
    relay: LiveRelay, server: Server, listener: Device, http: httpx.Client
) -> None:
    phone = Device.generate()
    register(phone, http, relay.url, "apns", "a-token")
    unregistered = Device.generate()
    late = wanted(listener, "o3", expires_at=format_time(1_700_000_000))
    results = server.push(wanted(listener, "o1"), wanted(unregistered, "o2"), late, wanted(phone, "o4"))
    assert [result["status"] for result in results] == ["queued", "not_registered", "failed", "delivered"]
    assert [result["fingerprint"] for result in results] == [
        device.fingerprint for device in (listener, unregistered, listener, phone)
    ]
    shown = [line for line in relay.events("push_console") if line["push_id"] == results[3]["push_id"]]
    assert shown[0]["fingerprint"] == phone.fingerprint[:6] + "…"
    assert "a-token" not in relay.log_path.read_text()


def test_a_device_gets_ten_pushes_a_minute_of_a_server_and_clears_do_not_count(
    relay: LiveRelay, server: Server, listener: Device
) -> None:
    statuses = [result["status"] for result in server.push(*(wanted(listener, f"f{n}") for n in range(12)))]
    assert statuses == ["queued"] * 10 + ["rate_limited"] * 2
    clear = {**wanted(listener, "f0:clear"), "payload": {"type": "clear", "challenge_id": "f0", "status": "cancelled"}}
    assert server.push(clear)[0]["status"] == "queued"


@pytest.mark.parametrize(
    ("changed", "path"),
    [
        ({"payload": []}, "$.pushes[0].payload"),
        ({"payload": {"x": "y" * 3100}}, "$.pushes[0].payload"),
        ({"fingerprint": "short"}, "$.pushes[0].fingerprint"),
        ({"expires_at": "later"}, "$.pushes[0].expires_at"),
        ({"push_key": ""}, "$.pushes[0].push_key"),
        ({"priority": "urgent"}, "$.pushes[0].priority"),
    ],
)
def test_a_malformed_push_rejects_the_whole_request(
    server: Server, listener: Device, changed: dict[str, Any], path: str
) -> None:
    answer = server.post("/push", {"pushes": [wanted(listener, "m1", **changed), wanted(listener, "m2")]})
    assert (answer.status_code, answer.json()["error"]["details"]["path"]) == (400, path)
    assert outcome(server, "m2") == [{"fingerprint": "", "status": "failed", "error": "unknown"}]


@pytest.mark.parametrize("value", [b'"\xff\xfe"', b"1e999", b'"\\ud800"', b"[" * 2000 + b"]" * 2000])
def test_a_payload_that_no_frame_can_carry_is_rejected(server: Server, listener: Device, value: bytes) -> None:
    body = b'{"pushes":[{"push_key":"p1","fingerprint":"%s","payload":{"type":"challenge","a":%s}}]}'
    answer = server.post("/push", body % (listener.fingerprint.encode(), value))
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, "INVALID_REQUEST")


def test_1_to_500_pushes_and_2_mib(server: Server, listener: Device) -> None:
    assert server.post("/push", {"pushes": []}).status_code == 400
    many = [wanted(Device.generate(), f"n{n}") for n in range(501)]
    assert server.post("/push", {"pushes": many}).status_code == 400
    assert len(server.push(*many[:500])) == 500
    assert server.post("/push", b" " * (2 * 1024 * 1024 + 1)).status_code == 413


async def test_only_the_newest_twenty_wait(relay: LiveRelay, http: httpx.Client) -> None:
    device = Device.generate()
    with LiveRelay(RELAY_PUSH_RATE="off") as generous, generous.client() as client:
        server = Server(client)
        server.register()
        register(device, client, generous.url)
        await asyncio.to_thread(server.push, *(wanted(device, f"h{n}") for n in range(30)))
        async with listening(generous, device) as socket:
            keys = [(await frame(socket))["challenge_id"] for _ in range(20)]
        assert keys == [f"h{n}" for n in range(10, 30)]
        assert outcome(server, "h0")[0] | {"push_id": ""} == {
            "fingerprint": device.fingerprint,
            "status": "failed",
            "provider": "websocket",
            "push_id": "",
            "error": "superseded",
        }
