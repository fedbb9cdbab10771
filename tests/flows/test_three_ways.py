"""Challenges over APNs, FCM and WebSocket together, through a real server and relay, while providers misbehave.

FLOW_CHALLENGES=5000 asks for more of them than the tests of every day do.
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
from tests.flows.fleet import Fleet
from tests.flows.people import ACTION
from tests.flows.phones import Phones
from tests.flows.test_metrics import Sample, scrape
from tests.support.live import DEADLINE, LiveServer, wait_until
from tests.support.live_relay import LiveRelay, Server
from tests.support.providers import Providers

CHALLENGES = int(os.environ.get("FLOW_CHALLENGES", "300"))
EACH = 12
"""Devices of a platform."""
PLATFORMS = ("apns", "fcm", "websocket")
UNLIMITED = {"SIGIL_DEVICE_RATE": "off", "SIGIL_RATE_LIMIT": "off", "SIGIL_MAX_PENDING_PER_DEVICE": "100"}
# Of a hundred pushes to a provider, five meet one of these. None of them eats the answer to a push that arrived: what
# happened to such a push nobody can know, and it is sent again.
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
class Everyone:
    """All devices, and a backend that asks them."""

    fleet: Fleet
    phones: Phones
    http: httpx.AsyncClient

    def devices(self, platform: str) -> list[Device]:
        return self.fleet.devices if platform == "websocket" else self.phones.devices[platform]

    async def ask(self, platform: str, number: int) -> str:
        """A challenge to one of its devices; the id."""
        devices = self.devices(platform)
        body = {"device_public_key": devices[number % len(devices)].wire_key, "action": ACTION}
        answer = await self.http.post("/challenge", json=body)
        assert answer.status_code == 201, answer.text
        challenge_id: str = answer.json()["challenge_id"]
        return challenge_id

    async def verified(self, challenge_id: str, seconds: float = 2 * DEADLINE) -> None:
        async with asyncio.timeout(seconds):
            while challenge_id not in self.fleet.answers and challenge_id not in self.phones.answers:
                await asyncio.sleep(0.02)

    def arrivals(self) -> dict[str, int]:
        """By challenge, over all ways."""
        found = dict(self.phones.seen)
        for (challenge_id, _), count in self.fleet.seen.items():
            found[challenge_id] = found.get(challenge_id, 0) + count
        return found


@pytest.fixture
async def everyone(stack: Stack) -> AsyncIterator[Everyone]:
    http = stack.server.async_client(limits=httpx.Limits(max_connections=40))
    async with (
        http,
        Fleet(stack.relay, EACH, http) as fleet,
        Phones(stack.relay, stack.providers, http, EACH) as phones,
    ):
        yield Everyone(fleet, phones, http)


def figures(stack: Stack) -> Sample:
    with stack.relay.client() as client:
        return scrape(client)


def pushes(sample: Sample, status: str) -> float:
    return sum(v for (name, labels), v in sample.items() if name == "relay_push_total" and ("status", status) in labels)


def at_rest(stack: Stack) -> bool:
    """Nothing is held any more: no push in a worker, no stream, on either side."""
    sample, counted = figures(stack), stack.providers.counters()
    held = ("relay_provider_pushes", "relay_provider_streams", "relay_pushes_queued")
    return sum(v for (name, _), v in sample.items() if name in held) == 0 and not any(
        counted[provider]["streams"] for provider in ("apns", "fcm")
    )


def outcomes(stack: Stack, asked: list[str]) -> set[str]:
    """What the relay has written down of all their pushes."""
    found: set[str] = set()
    with stack.relay.client() as client:
        server = Server(client, stack.server.identity)
        for start in range(0, len(asked), 500):
            keys = [f"{challenge_id}:challenge" for challenge_id in asked[start : start + 500]]
            results = server.post("/push/outcomes", {"push_keys": keys}).json()["results"]
            found |= {result["status"] for result in results}
    return found


def as_many_connections_as_lanes(stack: Stack) -> bool:
    sample, counted = figures(stack), stack.providers.counters()
    held = [sample["relay_provider_connections", (("provider", provider),)] for provider in ("apns", "fcm")]
    return held == [4, 4] and [counted[provider]["connections"] for provider in ("apns", "fcm")] == held


async def test_each_challenge_arrives_once_and_has_one_outcome_whatever_a_twentieth_of_them_meets(
    stack: Stack, everyone: Everyone
) -> None:
    for provider in ("apns", "fcm"):
        rules = [{"provider": provider, "probability": 0.05 / len(FAULTS), **fault} for fault in FAULTS]
        await asyncio.to_thread(stack.providers.ask, "POST", "/rules", rules)
    before = await asyncio.to_thread(figures, stack)
    gate = asyncio.Semaphore(64)

    async def one(number: int) -> str:
        async with gate:
            challenge_id = await everyone.ask(PLATFORMS[number % 3], number // 3)
            await everyone.verified(challenge_id)
            return challenge_id

    asked = await asyncio.gather(*(one(number) for number in range(CHALLENGES)))
    arrivals = everyone.arrivals()
    assert {arrivals[challenge_id] for challenge_id in asked} == {1}
    assert set(everyone.fleet.answers.values()) | set(everyone.phones.answers.values()) == {200}
    await asyncio.to_thread(wait_until, lambda: at_rest(stack), "everything to be at rest")
    after = await asyncio.to_thread(figures, stack)
    assert pushes(after, "delivered") - pushes(before, "delivered") == CHALLENGES
    for status in ("failed", "token_evicted"):
        assert pushes(after, status) == pushes(before, status)
    assert await asyncio.to_thread(outcomes, stack, asked) == {"delivered"}
    for challenge_id in asked[:: max(1, CHALLENGES // 30)]:
        assert (await everyone.http.get(f"/v1/auth/challenge/{challenge_id}/status")).json()["status"] == "verified"
    await asyncio.to_thread(wait_until, lambda: as_many_connections_as_lanes(stack), "four connections on either side")
    await asyncio.to_thread(stack.providers.reset)


async def latencies(everyone: Everyone, count: int, beside: str | None = None) -> dict[str, float]:
    """The median time from asking to arriving, by platform; with pushes to `beside` in between, which do not arrive."""
    found: dict[str, list[float]] = {platform: [] for platform in PLATFORMS if platform != beside}
    for number in range(count):
        if beside is not None:
            for extra in range(3):
                await everyone.ask(beside, number * 3 + extra)
        for platform, times in found.items():
            began = time.monotonic()
            await everyone.verified(await everyone.ask(platform, number))
            times.append(time.monotonic() - began)
    return {platform: statistics.median(times) for platform, times in found.items()}


async def test_a_dead_provider_leaves_the_others_as_quick_as_they_were(stack: Stack, everyone: Everyone) -> None:
    """By ratio, and a generous one: this is about seconds that others wait for the dead one, not about milliseconds."""
    for provider, death in itertools.product(("apns", "fcm"), ("refusing", "black_hole")):
        alive = await latencies(everyone, 8)
        await asyncio.to_thread(stack.providers.listener, provider, death, drop=death == "refusing")
        try:
            others = await latencies(everyone, 8, beside=provider)
        finally:
            await asyncio.to_thread(stack.providers.start, provider)
        assert max(others[platform] / alive[platform] for platform in others) < 10, f"{provider} {death}"
        await everyone.verified(await everyone.ask(provider, 0))
