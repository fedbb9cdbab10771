"""A running installation with Prometheus, and a load that reaches every part of it and counts what it did."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

from sigil.device import Device
from tests.flows.backend import ACTION, approval, rejection, status_path
from tests.flows.provider_devices import ProviderDevices
from tests.flows.test_approvals import request_body
from tests.flows.websocket_devices import WebSocketDevices
from tests.relay.devices_of_relay import register
from tests.support.live import DEADLINE, LiveServer, wait_until
from tests.support.live_relay import LiveRelay, Server
from tests.support.prometheus import Prometheus, Target
from tests.support.providers import Providers, apns_token
from tests.support.webhook_endpoint import WebhookEndpoint

TOKEN = "the-metrics-token-of-this-test"
MAX_PENDING = 3
ROUND_SECONDS = 1.0
"""A round a scrape: a rate needs two of them that differ."""
ROUNDS = 12
_SETTINGS = {
    "METRICS_TOKEN": TOKEN,
    "SIGIL_DEVICE_RATE": "off",
    "SIGIL_RATE_LIMIT": "off",
    "SIGIL_MAX_PENDING_PER_DEVICE": str(MAX_PENDING),
    # So many that no event is given up.
    "SIGIL_WEBHOOK_SCHEDULE": "1,1,1,1,1,1,1,1,1,1",
    "WEBHOOK_SECRET": "the webhook secret of these tests",
}


@dataclass
class Installation:
    """Server, relay, stand-ins of the providers, webhook receiver and Prometheus."""

    providers: Providers
    relay: LiveRelay
    server: LiveServer
    endpoint: WebhookEndpoint
    prometheus: Prometheus


@contextlib.contextmanager
def installation(*rules: Path) -> Iterator[Installation]:
    """Every fifth webhook attempt fails."""
    with contextlib.ExitStack() as running:
        providers = running.enter_context(Providers())
        endpoint = running.enter_context(WebhookEndpoint(lambda number: 500 if number % 5 == 4 else 200))
        relay = running.enter_context(LiveRelay(RELAY_PUSH_RATE="off", METRICS_TOKEN=TOKEN, **providers.env))
        server = running.enter_context(
            LiveServer(workers=2, RELAY_URL=relay.url, WEBHOOK_URL=endpoint.url, **_SETTINGS)
        )
        prometheus = running.enter_context(Prometheus(Target.of(server), Target.of(relay), rules=rules))
        prometheus.wait_for_scrape()
        yield Installation(providers, relay, server, endpoint, prometheus)


@dataclass
class Load:
    """What the load did, by the names of the metrics' labels; `began` and `ended` are Unix times."""

    challenges: Counter[str] = field(default_factory=Counter)
    requests: Counter[str] = field(default_factory=Counter)
    pushes: Counter[str] = field(default_factory=Counter)
    """Without those of challenges that ended before their push was sent: these may or may not be pushed."""
    limited: Counter[str] = field(default_factory=Counter)
    rejected_servers: Counter[str] = field(default_factory=Counter)
    evictions: Counter[str] = field(default_factory=Counter)
    not_found: int = 0
    began: float = 0.0
    ended: float = 0.0


async def run(running: Installation, rounds: int = ROUNDS) -> Load:
    """Rounds of everything, then waits until all of it is delivered and scraped."""
    load = Load(began=time.time())
    async with (
        running.server.async_client() as http,
        WebSocketDevices(running.relay, 3, http) as sockets,
        ProviderDevices(running.relay, running.providers, http, 3) as others,
    ):
        await asyncio.to_thread(_register_a_device_that_is_gone, running, load)
        pushed = [*sockets.devices, *others.devices["apns"], *others.devices["fcm"]]
        for number in range(rounds):
            until = time.monotonic() + ROUND_SECONDS
            await _push_and_approve(http, pushed, load)
            await _answer_by_hand(http, load)
            await _decide_a_request(http, load, approve=number % 2 == 0)
            await _reach_limits_and_errors(running, http, load)
            await asyncio.sleep(until - time.monotonic())
        expected = load.pushes["delivered"]
        await _until(lambda: len(sockets.answers) + len(others.answers) >= expected, "the answers to all pushes")
        load.challenges["verified"] += expected
        await _until(lambda: _is_delivered(running), "all pushes and webhook events")
    # A scrape that took too long ends its series until the next one.
    await _until(lambda: _is_scraped(running), "a scrape of both services")
    load.ended = time.time()
    return load


async def _until(condition: Any, what: str) -> None:
    deadline = time.monotonic() + DEADLINE
    while not await asyncio.to_thread(condition):
        assert time.monotonic() < deadline, f"waited {DEADLINE} s for: {what}"
        await asyncio.sleep(0.1)


def _is_scraped(running: Installation) -> bool:
    running.prometheus.wait_for_scrape()
    return running.prometheus.value("sum(up)") == 2


def _is_delivered(running: Installation) -> bool:
    return _is_scraped(running) and running.prometheus.value("sum(sigil_push_outbox + sigil_webhook_outbox)") == 0


def _register_a_device_that_is_gone(running: Installation, load: Load) -> None:
    """APNs reports its token as unregistered: the relay deletes the registration."""
    token, device = apns_token("dead"), Device.generate()
    running.providers.script("apns", token="dead", outcome="Unregistered")
    with running.relay.client(transport=httpx.HTTPTransport(local_address="127.0.79.1")) as client:
        register(device, client, running.relay.url, "apns", token)
    with running.server.authorised() as http:
        answer = http.post("/challenge", json={"device_public_key": device.wire_key, "action": ACTION})
        assert answer.status_code == 201
        created = answer.json()
        load.challenges["created"] += 1
        load.pushes["token_evicted"] += 1
        load.evictions["Unregistered"] += 1
        evicted = 'sigil_push_total{status="token_evicted"}'
        wait_until(
            lambda: [series.value for series in running.prometheus.query(evicted)] == [1],
            "the relay to delete the registration",
        )
        assert http.delete(f"/v1/auth/challenge/{created['challenge_id']}").status_code == 200
        load.challenges["cancelled"] += 1


async def _create(http: httpx.AsyncClient, device: Device) -> httpx.Response:
    return await http.post("/challenge", json={"device_public_key": device.wire_key, "action": ACTION})


async def _push_and_approve(http: httpx.AsyncClient, devices: list[Device], load: Load) -> None:
    """A push to each device, which approves."""
    for device in devices:
        answer = await _create(http, device)
        assert answer.status_code == 201, answer.text
        load.challenges["created"] += 1
        load.pushes["delivered"] += 1


async def _answer_by_hand(http: httpx.AsyncClient, load: Load) -> None:
    """Challenges of a device that has no registration: forged, rejected, cancelled, approved; and a long poll."""
    for answer in ("reject", "cancel", "approve"):
        device = Device.generate("Ed25519")
        created = (await _create(http, device)).json()
        load.challenges["created"] += 1
        if answer == "cancel":
            assert (await http.delete(f"/v1/auth/challenge/{created['challenge_id']}")).status_code == 200
            load.challenges["cancelled"] += 1
            continue
        if answer == "reject":
            forged = approval(device, created) | {
                "signature": approval(Device.generate("Ed25519"), created)["signature"]
            }
            assert (await http.post("/respond", json=forged)).status_code == 401
            load.challenges["signature_failed"] += 1
        poll = asyncio.create_task(http.get(status_path(created), params={"wait": 20}))
        body = (rejection if answer == "reject" else approval)(device, created)
        assert (await http.post("/respond", json=body)).status_code == 200
        load.challenges["rejected" if answer == "reject" else "verified"] += 1
        assert (await poll).status_code == 200


async def _decide_a_request(http: httpx.AsyncClient, load: Load, *, approve: bool) -> None:
    """Two of two members vote."""
    members = [Device.generate("Ed25519"), Device.generate("Ed25519")]
    answer = await http.post("/mpa/request", json=request_body([[member] for member in members], 2))
    assert answer.status_code == 201, answer.text
    created = answer.json()
    load.requests["created"] += 1
    status = (await http.get(f"/mpa/status/{created['request_id']}")).json()
    for member in members:
        decision: Any = "approved" if approve else "rejected"
        signature = member.sign_vote(status["action_context"], decision)
        vote = await http.post("/mpa/respond", json=member.vote_body(created["mpa_id"], decision, signature))
        assert vote.status_code == 200, vote.text
        load.requests["vote"] += 1
        if not approve:
            break
    load.requests["approved" if approve else "rejected"] += 1


async def _reach_limits_and_errors(running: Installation, http: httpx.AsyncClient, load: Load) -> None:
    """More challenges than a device may have, a path without a route, and a server that the relay does not trust."""
    device = Device.generate("Ed25519")
    answers = [await _create(http, device) for _ in range(MAX_PENDING + 1)]
    assert [answer.status_code for answer in answers] == [201] * MAX_PENDING + [429]
    load.limited["pending"] += 1
    load.challenges["created"] += MAX_PENDING
    for answer in answers[:MAX_PENDING]:
        assert (await http.delete(f"/v1/auth/challenge/{answer.json()['challenge_id']}")).status_code == 200
        load.challenges["cancelled"] += 1
    assert (await http.get("/no/such/path")).status_code == 404
    load.not_found += 1
    await asyncio.to_thread(_push_as_another_server, running, load)


def _push_as_another_server(running: Installation, load: Load) -> None:
    with running.relay.client() as client:
        answer = Server(client).post("/push", {"pushes": []})
    assert answer.status_code in (401, 403), answer.text
    load.rejected_servers["unknown_server"] += 1
