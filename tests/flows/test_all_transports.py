"""Challenges over APNs, FCM and WebSocket together, through a real server and relay, while providers misbehave.

FLOW_CHALLENGES=5000 creates more of them than the default of 300.
"""

from __future__ import annotations

import asyncio
import itertools
import os
import statistics
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import httpx
import pytest

from sigil.device import Device
from tests.flows.backend import ACTION
from tests.flows.provider_devices import ProviderDevices
from tests.flows.test_metrics import Sample, scrape
from tests.flows.websocket_devices import WebSocketDevices
from tests.support.live import DEADLINE, LiveServer, wait_until
from tests.support.live_relay import LiveRelay, Server
from tests.support.providers import Providers

CHALLENGES = int(os.environ.get("FLOW_CHALLENGES", "300"))
DEVICES_PER_PLATFORM = 12
"""Devices of a platform."""
PLATFORMS = ("apns", "fcm", "websocket")
UNLIMITED = {"SIGIL_DEVICE_RATE": "off", "SIGIL_RATE_LIMIT": "off", "SIGIL_MAX_PENDING_PER_DEVICE": "100"}
# Five of a hundred pushes to a provider meet one of these faults. No fault drops the response to a push that arrived:
# the relay cannot know the outcome of such a push, and sends it again.
FAULTS: list[dict[str, Any]] = [
    {"fault": "reset"},
    {"fault": "refused_stream"},
    {"fault": "goaway"},
    {"fault": "goaway_before"},
    {"status": 500, "body": "<html>"},
    {"status": 503, "retry_after": "1"},
    {"status": 429, "retry_after": "1"},
    {"fault": "silence"},
    {"delay_ms": 300, "spread_ms": 300},
    {"fault": "split_data", "delay_ms": 20},
]


@dataclass
class Stack:
    providers: Providers
    relay: LiveRelay
    server: LiveServer


@pytest.fixture(scope="module")
def stack() -> Iterator[Stack]:
    with ExitStack() as running:
        providers = running.enter_context(Providers())
        relay = running.enter_context(LiveRelay(RELAY_PUSH_RATE="off", **providers.env))
        server = running.enter_context(LiveServer(workers=2, RELAY_URL=relay.url, **UNLIMITED))
        yield Stack(providers, relay, server)
        for event in ("internal_error", "background_loop_failed", "push_attempt_failed", "asyncio"):
            assert relay.events(event) == []


@dataclass
class AllDevices:
    """The devices of all platforms, and the backend that creates challenges for them."""

    websocket: WebSocketDevices
    provider_devices: ProviderDevices
    http: httpx.AsyncClient

    def devices(self, platform: str) -> list[Device]:
        return self.websocket.devices if platform == "websocket" else self.provider_devices.devices[platform]

    async def create_challenge(self, platform: str, number: int) -> str:
        """Creates a challenge for one device of the platform; its id."""
        devices = self.devices(platform)
        body = {"device_public_key": devices[number % len(devices)].wire_key, "action": ACTION}
        answer = await self.http.post("/challenge", json=body)
        assert answer.status_code == 201, answer.text
        challenge_id: str = answer.json()["challenge_id"]
        return challenge_id

    async def wait_until_answered(self, challenge_id: str, seconds: float = 2 * DEADLINE) -> None:
        async with asyncio.timeout(seconds):
            while challenge_id not in self.websocket.answers and challenge_id not in self.provider_devices.answers:
                await asyncio.sleep(0.02)

    def arrivals(self) -> dict[str, int]:
        """Arrivals by challenge, over all transports."""
        found = dict(self.provider_devices.seen)
        for (challenge_id, _), count in self.websocket.seen.items():
            found[challenge_id] = found.get(challenge_id, 0) + count
        return found


@pytest.fixture
async def all_devices(stack: Stack) -> AsyncIterator[AllDevices]:
    http = stack.server.async_client(limits=httpx.Limits(max_connections=40))
    async with (
        http,
        WebSocketDevices(stack.relay, DEVICES_PER_PLATFORM, http) as websocket,
        ProviderDevices(stack.relay, stack.providers, http, DEVICES_PER_PLATFORM) as provider_devices,
    ):
        yield AllDevices(websocket, provider_devices, http)


def relay_metrics(stack: Stack) -> Sample:
    with stack.relay.client() as client:
        return scrape(client)


def push_count(sample: Sample, status: str) -> float:
    return sum(v for (name, labels), v in sample.items() if name == "relay_push_total" and ("status", status) in labels)


def is_idle(stack: Stack) -> bool:
    """Whether no push is in a worker, and no stream is open on either side."""
    sample, counted = relay_metrics(stack), stack.providers.counters()
    held = ("relay_provider_pushes", "relay_provider_streams", "relay_pushes_queued")
    return sum(v for (name, _), v in sample.items() if name in held) == 0 and not any(
        counted[provider]["streams"] for provider in ("apns", "fcm")
    )


def outcomes(stack: Stack, challenge_ids: list[str]) -> set[str]:
    """The outcomes that the relay recorded for the pushes of these challenges."""
    found: set[str] = set()
    with stack.relay.client() as client:
        server = Server(client, stack.server.identity)
        for start in range(0, len(challenge_ids), 500):
            keys = [f"{challenge_id}:challenge" for challenge_id in challenge_ids[start : start + 500]]
            results = server.post("/push/outcomes", {"push_keys": keys}).json()["results"]
            found |= {result["status"] for result in results}
    return found


def has_four_connections_per_provider(stack: Stack) -> bool:
    sample, counted = relay_metrics(stack), stack.providers.counters()
    held = [sample["relay_provider_connections", (("provider", provider),)] for provider in ("apns", "fcm")]
    return held == [4, 4] and [counted[provider]["connections"] for provider in ("apns", "fcm")] == held


async def test_each_challenge_arrives_once_and_has_one_outcome_although_one_push_in_twenty_fails(
    stack: Stack, all_devices: AllDevices
) -> None:
    for provider in ("apns", "fcm"):
        rules = [{"provider": provider, "probability": 0.05 / len(FAULTS), **fault} for fault in FAULTS]
        await asyncio.to_thread(stack.providers.control, "POST", "/rules", rules)
    before = await asyncio.to_thread(relay_metrics, stack)
    gate = asyncio.Semaphore(64)

    async def one(number: int) -> str:
        async with gate:
            challenge_id = await all_devices.create_challenge(PLATFORMS[number % 3], number // 3)
            await all_devices.wait_until_answered(challenge_id)
            return challenge_id

    challenge_ids = await asyncio.gather(*(one(number) for number in range(CHALLENGES)))
    arrivals = all_devices.arrivals()
    assert {arrivals[challenge_id] for challenge_id in challenge_ids} == {1}
    assert set(all_devices.websocket.answers.values()) | set(all_devices.provider_devices.answers.values()) == {200}
    await asyncio.to_thread(wait_until, lambda: is_idle(stack), "the relay and the providers to be idle")
    after = await asyncio.to_thread(relay_metrics, stack)
    assert push_count(after, "delivered") - push_count(before, "delivered") == CHALLENGES
    for status in ("failed", "token_evicted"):
        assert push_count(after, status) == push_count(before, status)
    assert await asyncio.to_thread(outcomes, stack, challenge_ids) == {"delivered"}
    for challenge_id in challenge_ids[:: max(1, CHALLENGES // 30)]:
        assert (await all_devices.http.get(f"/v1/auth/challenge/{challenge_id}/status")).json()["status"] == "verified"
    await asyncio.to_thread(
        wait_until, lambda: has_four_connections_per_provider(stack), "four connections on either side"
    )
    await asyncio.to_thread(stack.providers.reset)


async def latencies(all_devices: AllDevices, count: int, unreachable: str | None = None) -> dict[str, float]:
    """The median seconds from creation to response, by platform; in between go pushes to the `unreachable` platform."""
    found: dict[str, list[float]] = {platform: [] for platform in PLATFORMS if platform != unreachable}
    for number in range(count):
        if unreachable is not None:
            for extra in range(3):
                await all_devices.create_challenge(unreachable, number * 3 + extra)
        for platform, times in found.items():
            began = time.monotonic()
            await all_devices.wait_until_answered(await all_devices.create_challenge(platform, number))
            times.append(time.monotonic() - began)
    return {platform: statistics.median(times) for platform, times in found.items()}


async def test_a_dead_provider_does_not_delay_the_other_transports(stack: Stack, all_devices: AllDevices) -> None:
    """The generous ratio catches pushes that wait seconds for the dead provider, not differences of milliseconds."""
    for provider, death in itertools.product(("apns", "fcm"), ("refusing", "black_hole")):
        alive = await latencies(all_devices, 8)
        await asyncio.to_thread(stack.providers.listener, provider, death, drop=death == "refusing")
        try:
            others = await latencies(all_devices, 8, unreachable=provider)
        finally:
            await asyncio.to_thread(stack.providers.start, provider)
        assert max(others[platform] / alive[platform] for platform in others) < 10, f"{provider} {death}"
        await all_devices.wait_until_answered(await all_devices.create_challenge(provider, 0))
