"""Pushes from end to end: a real server with two workers, and a relay in this process that the tests control."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from sigil.device import Device, verify_info, verify_payload
from tests.flows.backend import Backend, ExpiringChallenge, approval
from tests.flows.test_metrics import scrape
from tests.support.live import LiveServer, wait_until
from tests.support.stand_in_relay import StandInRelay

UNLIMITED = {"SIGIL_DEVICE_RATE": "off", "SIGIL_RATE_LIMIT": "off"}


@pytest.fixture(scope="module")
def relay() -> Iterator[StandInRelay]:
    with StandInRelay() as standing_in:
        yield standing_in
        assert standing_in.violations == []


@pytest.fixture(scope="module")
def push_server(relay: StandInRelay) -> Iterator[LiveServer]:
    with LiveServer(workers=2, RELAY_URL=relay.url, **UNLIMITED) as running:
        wait_until(lambda: len(running.workers()) == 2, "both workers")
        yield running
        assert log_lines(running, "background_loop_failed") == []


@pytest.fixture(scope="module")
def caller(push_server: LiveServer) -> Iterator[Backend]:
    with Backend(push_server) as backend:
        yield backend


@pytest.fixture(scope="module", autouse=True)
def expiring_here(caller: Backend) -> ExpiringChallenge:
    """Created before the tests of this module and checked after them, when it has expired."""
    return ExpiringChallenge.create(caller)


@pytest.fixture(autouse=True)
def reset_relay(relay: StandInRelay) -> Iterator[None]:
    yield
    relay.status_for = lambda push: "delivered"


def key_of(created: dict[str, Any], kind: str = "challenge") -> str:
    return f"{created['challenge_id']}:{kind}"


def create_over_many_connections(server: LiveServer, count: int) -> list[tuple[Device, dict[str, Any]]]:
    """Each over a new connection, so that both workers take part."""

    def create(_: int) -> tuple[Device, dict[str, Any]]:
        device = Device.generate()
        with Backend(server) as backend:
            return device, backend.create_challenge(device)

    with ThreadPoolExecutor(4) as pool:
        return list(pool.map(create, range(count)))


def wait_for_push(backend: Backend, created: dict[str, Any], *statuses: str) -> dict[str, Any]:
    """The push of the challenge, as soon as it has one of these statuses."""

    def found() -> Any:
        push = backend.status(created)["push"]
        return push if push["status"] in statuses else None

    push: dict[str, Any] = wait_until(found, f"the push to be {statuses}")
    return push


def log_lines(server: LiveServer, event: str) -> list[dict[str, Any]]:
    return [line for line in server.log() if line["event"] == event]


def test_each_challenge_is_pushed_once_and_its_device_accepts_the_push(
    push_server: LiveServer, caller: Backend, relay: StandInRelay
) -> None:
    challenges = create_over_many_connections(push_server, 40)
    with push_server.client() as client:
        pin = verify_info(client.get("/info").content, push_server.url, pin=push_server.identity.server_id)
    for device, created in challenges:
        assert wait_for_push(caller, created, "delivered") == {"status": "delivered"}
        (push,) = [push for push in relay.pushes if push["push_key"] == key_of(created)]
        assert relay.tries[key_of(created)] == 1
        assert push["fingerprint"] == device.fingerprint
        assert (push["expires_at"], push["collapse_id"]) == (created["expires_at"], created["challenge_id"])
        payload = json.dumps(push["payload"], ensure_ascii=False, separators=(",", ":")).encode()
        shown = verify_payload(payload, pin, device.public, time.time())
        assert shown.challenge_id == created["challenge_id"]


def test_a_push_never_contains_the_match_code(caller: Backend, relay: StandInRelay) -> None:
    created = caller.create_challenge(Device.generate(), number_matching=True)
    wait_for_push(caller, created, "delivered")
    (push,) = [push for push in relay.pushes if push["push_key"] == key_of(created)]
    assert push["payload"]["number_matching"] is True
    assert "match_code" not in push["payload"]


def test_the_server_registers_again_at_a_relay_that_lost_its_registration(caller: Backend, relay: StandInRelay) -> None:
    relay.forget_servers()
    created = caller.create_challenge(Device.generate())
    assert wait_for_push(caller, created, "delivered")
    assert relay.tries[key_of(created)] == 1


def test_the_server_polls_the_outcome_of_a_queued_push(caller: Backend, relay: StandInRelay) -> None:
    relay.status_for = lambda push: "queued"
    created = caller.create_challenge(Device.generate())
    wait_until(lambda: key_of(created) in relay.accepted_keys(), "the push")
    assert caller.status(created)["push"] == {"status": "queued"}
    relay.outcomes[key_of(created)] = "delivered"
    assert wait_for_push(caller, created, "delivered") == {"status": "delivered"}
    assert key_of(created) in relay.queried_keys
    assert relay.tries[key_of(created)] == 1


def test_status_and_log_report_a_device_that_the_relay_does_not_know(
    push_server: LiveServer, caller: Backend, relay: StandInRelay
) -> None:
    relay.status_for = lambda push: "not_registered"
    device = Device.generate()
    created = caller.create_challenge(device)
    assert wait_for_push(caller, created, "failed") == {"status": "failed", "error": "not_registered"}
    (line,) = [
        line for line in log_lines(push_server, "push_failed") if line["challenge_id"] == created["challenge_id"]
    ]
    assert line["message"] == "Push notification failed: 404 device not found"
    assert (line["level"], line["fingerprint"]) == ("warn", device.fingerprint[:6] + "…")


def test_a_rate_limited_push_is_retried_while_its_challenge_is_pending(caller: Backend, relay: StandInRelay) -> None:
    relay.status_for = lambda push: "rate_limited"
    created = caller.create_challenge(Device.generate())
    assert wait_for_push(caller, created, "failed") == {"status": "failed", "error": "rate_limited"}
    relay.status_for = lambda push: "delivered"
    assert wait_for_push(caller, created, "delivered") == {"status": "delivered"}


def test_a_cancelled_challenge_sends_a_clear_to_its_device(caller: Backend, relay: StandInRelay) -> None:
    created = caller.create_challenge(Device.generate())
    wait_for_push(caller, created, "delivered")
    caller.cancel(created)
    wait_until(lambda: key_of(created, "clear") in relay.accepted_keys(), "the clear")
    (clear,) = [push for push in relay.pushes if push["push_key"] == key_of(created, "clear")]
    assert clear["payload"] == {"type": "clear", "challenge_id": created["challenge_id"], "status": "cancelled"}
    assert clear["priority"] == "normal"


def test_an_answered_challenge_sends_no_clear(caller: Backend, relay: StandInRelay) -> None:
    device = Device.generate()
    created = caller.create_challenge(device)
    wait_for_push(caller, created, "delivered")
    assert caller.http.post("/respond", json=approval(device, created)).status_code == 200
    later = caller.create_challenge(Device.generate())
    wait_for_push(caller, later, "delivered")
    assert key_of(created, "clear") not in relay.accepted_keys()


def test_metrics_count_pushes_and_show_that_the_relay_is_up(push_server: LiveServer, caller: Backend) -> None:
    wait_for_push(caller, caller.create_challenge(Device.generate()), "delivered")
    with push_server.client() as client:
        sample = wait_until(lambda: (s := scrape(client))["sigil_push_outbox", ()] < 5 and s, "the outbox to empty")
    assert sample["sigil_relay_up", ()] == 1
    assert sample["sigil_push_total", (("status", "delivered"),)] >= 1
    assert sample["sigil_push_duration_seconds_count", ()] >= 1


@pytest.mark.parametrize("how", ["refuses connections", "answers 503"])
def test_an_unreachable_relay_blocks_nothing_and_gets_pending_pushes_afterwards(how: str) -> None:
    with (
        StandInRelay() as relay,
        LiveServer(workers=2, RELAY_URL=relay.url, **UNLIMITED) as server,
        Backend(server) as backend,
    ):
        wait_until(lambda: len(server.workers()) == 2, "both workers")
        wait_for_push(backend, backend.create_challenge(Device.generate()), "delivered")
        for outage in (1, 2):
            make_unreachable(relay, how)
            challenges = create_over_many_connections(server, 20)
            wait_for_push(backend, challenges[0][1], "failed")
            challenges += create_over_many_connections(server, 20)
            assert wait_for_push(backend, challenges[-1][1], "failed") == {
                "status": "failed",
                "error": "relay_unreachable",
            }
            wait_until(lambda: scrape(backend.http)["sigil_relay_up", ()] == 0, "the gauge to fall")
            for device, created in challenges[:10]:
                assert backend.http.post("/respond", json=approval(device, created)).status_code == 200
            make_reachable(relay, how)
            for _, created in challenges[10:]:
                wait_for_push(backend, created, "delivered")
            assert len(log_lines(server, "relay_unreachable")) == outage
            wait_until(lambda n=outage: len(log_lines(server, "relay_recovered")) == n, "the recovery")
            wait_until(lambda: scrape(backend.http)["sigil_relay_up", ()] == 1, "the gauge to rise")
        line = log_lines(server, "relay_unreachable")[0]
        assert (line["level"], line["address"]) == ("error", relay.url)
        assert line["message"] == "Failed to connect to relay at the address of RELAY_URL"
        assert (
            line["reason"] == {"refuses connections": "no connection (Connection refused)", "answers 503": "503"}[how]
        )
        assert relay.violations == []


def make_unreachable(relay: StandInRelay, how: str) -> None:
    if how == "answers 503":
        relay.fault = 503
    else:
        relay.stop()


def make_reachable(relay: StandInRelay, how: str) -> None:
    if how == "answers 503":
        relay.fault = None
    else:
        relay.start()


def test_killed_workers_lose_no_push_that_was_in_flight() -> None:
    with (
        StandInRelay() as relay,
        LiveServer(workers=2, RELAY_URL=relay.url, **UNLIMITED) as server,
        Backend(server) as backend,
    ):
        wait_for_push(backend, backend.create_challenge(Device.generate()), "delivered")
        before = relay.requests["/push"]
        relay.fault = "hang"
        challenges = create_over_many_connections(server, 20)
        wait_until(lambda: relay.requests["/push"] > before, "a push to be in flight")
        victims = server.workers()
        for victim in victims:
            os.kill(victim, signal.SIGKILL)
        relay.fault = None
        wait_until(lambda: not set(victims) & set(server.workers()) and len(server.workers()) == 2, "new workers")
        with Backend(server) as again:
            for _, created in challenges:
                assert wait_for_push(again, created, "delivered") == {"status": "delivered"}
        assert sorted(set(relay.accepted_keys())) == sorted(relay.accepted_keys())
        assert relay.violations == []


def test_a_stop_waits_for_a_push_in_flight() -> None:
    with StandInRelay() as relay, LiveServer(workers=1, RELAY_URL=relay.url) as server:
        with Backend(server) as backend:
            wait_for_push(backend, backend.create_challenge(Device.generate()), "delivered")
            relay.fault = "hang"
            before = relay.requests["/push"]
            created = backend.create_challenge(Device.generate())
            wait_until(lambda: relay.requests["/push"] > before, "the push to be in flight")
        with ThreadPoolExecutor(1) as pool:
            stopping = pool.submit(server.stop)
            wait_until(lambda: log_lines(server, "draining"), "the server to drain")
            relay.fault = None
            assert stopping.result() == 0
        server.start()
        with Backend(server) as backend:
            assert backend.status(created)["push"] == {"status": "delivered"}
        assert relay.tries[key_of(created)] == 1


def test_with_push_content_reference_a_push_has_no_action() -> None:
    with StandInRelay() as relay, LiveServer(workers=1, RELAY_URL=relay.url, SIGIL_PUSH_CONTENT="reference") as server:
        with Backend(server) as backend:
            created = backend.create_challenge(Device.generate())
            wait_for_push(backend, created, "delivered")
        (push,) = relay.pushes
        assert push["payload"] == {
            "type": "challenge",
            "challenge_id": created["challenge_id"],
            "server_id": server.identity.server_id,
        }


def test_log_status_and_info_show_whether_push_is_enabled(push_server: LiveServer) -> None:
    assert log_lines(push_server, "sigil_starting")[0]["push"] == "enabled"
    with LiveServer(workers=1, RELAY_PUBLIC_URL="https://relay.example.com") as silent, Backend(silent) as backend:
        assert log_lines(silent, "sigil_starting")[0]["push"] == "disabled"
        assert backend.status(backend.create_challenge(Device.generate()))["push"] == {"status": "disabled"}
        assert "relay_url" not in backend.http.get("/info").json()


async def test_long_polls_and_responses_work_while_the_relay_hangs(
    push_server: LiveServer, caller: Backend, relay: StandInRelay
) -> None:
    relay.fault = "hang"
    try:
        device = Device.generate()
        created = caller.create_challenge(device)
        async with push_server.async_client() as client:
            poll = asyncio.create_task(client.get(f"/v1/auth/challenge/{created['challenge_id']}/status?wait=25"))
            assert (await client.post("/respond", json=approval(device, created))).status_code == 200
            assert (await poll).json()["status"] == "verified"
    finally:
        relay.fault = None


def test_an_expired_challenge_sends_a_clear_to_its_device(
    relay: StandInRelay, expiring_here: ExpiringChallenge
) -> None:
    wait_until(lambda: key_of(expiring_here.created, "clear") in relay.accepted_keys(), "the clear")
    (clear,) = [push for push in relay.pushes if push["push_key"] == key_of(expiring_here.created, "clear")]
    assert clear["payload"]["status"] == "expired"
    assert clear["expires_at"] > expiring_here.created["expires_at"]
