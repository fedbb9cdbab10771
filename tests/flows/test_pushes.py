"""Pushes from end to end: a real server with two workers, and a relay in this process that does as it is told."""

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
from tests.flows.people import Backend, Expiring, approval
from tests.flows.test_metrics import scrape
from tests.support.live import LiveServer, wait_until
from tests.support.stand_in_relay import StandInRelay

MANY = {"SIGIL_DEVICE_RATE": "off", "SIGIL_RATE_LIMIT": "off"}


@pytest.fixture(scope="module")
def relay() -> Iterator[StandInRelay]:
    with StandInRelay() as standing_in:
        yield standing_in
        assert standing_in.complaints == []


@pytest.fixture(scope="module")
def pushing(relay: StandInRelay) -> Iterator[LiveServer]:
    with LiveServer(workers=2, RELAY_URL=relay.url, **MANY) as running:
        wait_until(lambda: len(running.workers()) == 2, "both workers")
        yield running
        assert lines(running, "background_loop_failed") == []


@pytest.fixture(scope="module")
def caller(pushing: LiveServer) -> Iterator[Backend]:
    with Backend(pushing) as backend:
        yield backend


@pytest.fixture(scope="module", autouse=True)
def fading(caller: Backend) -> Expiring:
    """Asked first in this module and looked at last, when it has expired."""
    return Expiring.ask(caller)


@pytest.fixture(autouse=True)
def obliging(relay: StandInRelay) -> Iterator[None]:
    yield
    relay.says = lambda push: "delivered"


def key_of(created: dict[str, Any], kind: str = "challenge") -> str:
    return f"{created['challenge_id']}:{kind}"


def ask_over_many_connections(server: LiveServer, count: int) -> list[tuple[Device, dict[str, Any]]]:
    """Over connections of their own, so that both workers take part."""

    def ask(_: int) -> tuple[Device, dict[str, Any]]:
        device = Device.generate()
        with Backend(server) as backend:
            return device, backend.ask(device)

    with ThreadPoolExecutor(4) as pool:
        return list(pool.map(ask, range(count)))


def push_when(backend: Backend, created: dict[str, Any], *statuses: str) -> dict[str, Any]:
    """How the push stands, as soon as it stands like that."""

    def found() -> Any:
        push = backend.status(created)["push"]
        return push if push["status"] in statuses else None

    push: dict[str, Any] = wait_until(found, f"the push to be {statuses}")
    return push


def lines(server: LiveServer, event: str) -> list[dict[str, Any]]:
    return [line for line in server.log() if line["event"] == event]


def test_each_challenge_is_pushed_exactly_once_as_its_device_would_check_it(
    pushing: LiveServer, caller: Backend, relay: StandInRelay
) -> None:
    asked = ask_over_many_connections(pushing, 40)
    with pushing.client() as client:
        pin = verify_info(client.get("/info").content, pushing.url, pin=pushing.identity.server_id)
    for device, created in asked:
        assert push_when(caller, created, "delivered") == {"status": "delivered"}
        (push,) = [push for push in relay.pushes if push["push_key"] == key_of(created)]
        assert relay.tries[key_of(created)] == 1
        assert push["fingerprint"] == device.fingerprint
        assert (push["expires_at"], push["collapse_id"]) == (created["expires_at"], created["challenge_id"])
        payload = json.dumps(push["payload"], ensure_ascii=False, separators=(",", ":")).encode()
        shown = verify_payload(payload, pin, device.public, time.time())
        assert shown.challenge_id == created["challenge_id"]


def test_a_code_is_never_in_a_push(caller: Backend, relay: StandInRelay) -> None:
    created = caller.ask(Device.generate(), number_matching=True)
    push_when(caller, created, "delivered")
    (push,) = [push for push in relay.pushes if push["push_key"] == key_of(created)]
    assert push["payload"]["number_matching"] is True
    assert "match_code" not in push["payload"]


def test_a_relay_that_forgot_the_server_is_told_and_gets_the_push(caller: Backend, relay: StandInRelay) -> None:
    relay.forget_servers()
    created = caller.ask(Device.generate())
    assert push_when(caller, created, "delivered")
    assert relay.tries[key_of(created)] == 1


def test_what_became_of_a_queued_push_is_asked_and_told(caller: Backend, relay: StandInRelay) -> None:
    relay.says = lambda push: "queued"
    created = caller.ask(Device.generate())
    wait_until(lambda: key_of(created) in relay.taken(), "the push")
    assert caller.status(created)["push"] == {"status": "queued"}
    relay.outcomes[key_of(created)] = "delivered"
    assert push_when(caller, created, "delivered") == {"status": "delivered"}
    assert key_of(created) in relay.asked
    assert relay.tries[key_of(created)] == 1


def test_a_device_that_the_relay_does_not_know_is_told_of_in_the_status_and_in_the_log(
    pushing: LiveServer, caller: Backend, relay: StandInRelay
) -> None:
    relay.says = lambda push: "not_registered"
    device = Device.generate()
    created = caller.ask(device)
    assert push_when(caller, created, "failed") == {"status": "failed", "error": "not_registered"}
    (line,) = [line for line in lines(pushing, "push_failed") if line["challenge_id"] == created["challenge_id"]]
    assert line["message"] == "Push notification failed: 404 device not found"
    assert (line["level"], line["fingerprint"]) == ("warn", device.fingerprint[:6] + "…")


def test_a_rate_limited_push_is_tried_again_while_the_challenge_lives(caller: Backend, relay: StandInRelay) -> None:
    relay.says = lambda push: "rate_limited"
    created = caller.ask(Device.generate())
    assert push_when(caller, created, "failed") == {"status": "failed", "error": "rate_limited"}
    relay.says = lambda push: "delivered"
    assert push_when(caller, created, "delivered") == {"status": "delivered"}


def test_a_cancelled_challenge_is_taken_away_from_its_device(caller: Backend, relay: StandInRelay) -> None:
    created = caller.ask(Device.generate())
    push_when(caller, created, "delivered")
    caller.cancel(created)
    wait_until(lambda: key_of(created, "clear") in relay.taken(), "the clear")
    (clear,) = [push for push in relay.pushes if push["push_key"] == key_of(created, "clear")]
    assert clear["payload"] == {"type": "clear", "challenge_id": created["challenge_id"], "status": "cancelled"}
    assert clear["priority"] == "normal"


def test_an_answered_challenge_is_not_taken_away(caller: Backend, relay: StandInRelay) -> None:
    device = Device.generate()
    created = caller.ask(device)
    push_when(caller, created, "delivered")
    assert caller.http.post("/respond", json=approval(device, created)).status_code == 200
    later = caller.ask(Device.generate())
    push_when(caller, later, "delivered")
    assert key_of(created, "clear") not in relay.taken()


def test_pushes_are_counted_and_the_relay_is_up(pushing: LiveServer, caller: Backend) -> None:
    push_when(caller, caller.ask(Device.generate()), "delivered")
    with pushing.client() as client:
        sample = wait_until(lambda: (s := scrape(client))["sigil_push_outbox", ()] < 5 and s, "the outbox to empty")
    assert sample["sigil_relay_up", ()] == 1
    assert sample["sigil_push_total", (("status", "delivered"),)] >= 1
    assert sample["sigil_push_duration_seconds_count", ()] >= 1


@pytest.mark.parametrize("how", ["refuses connections", "answers 503"])
def test_a_relay_that_is_away_stops_nothing_and_gets_all_that_lives_afterwards(how: str) -> None:
    with (
        StandInRelay() as relay,
        LiveServer(workers=2, RELAY_URL=relay.url, **MANY) as server,
        Backend(server) as backend,
    ):
        wait_until(lambda: len(server.workers()) == 2, "both workers")
        push_when(backend, backend.ask(Device.generate()), "delivered")
        for outage in (1, 2):
            leave(relay, how)
            asked = ask_over_many_connections(server, 20)
            push_when(backend, asked[0][1], "failed")
            asked += ask_over_many_connections(server, 20)
            assert push_when(backend, asked[-1][1], "failed") == {"status": "failed", "error": "relay_unreachable"}
            wait_until(lambda: scrape(backend.http)["sigil_relay_up", ()] == 0, "the gauge to fall")
            for device, created in asked[:10]:
                assert backend.http.post("/respond", json=approval(device, created)).status_code == 200
            come_back(relay, how)
            for _, created in asked[10:]:
                push_when(backend, created, "delivered")
            assert len(lines(server, "relay_unreachable")) == outage
            wait_until(lambda n=outage: len(lines(server, "relay_recovered")) == n, "the recovery")
            wait_until(lambda: scrape(backend.http)["sigil_relay_up", ()] == 1, "the gauge to rise")
        line = lines(server, "relay_unreachable")[0]
        assert (line["level"], line["message"]) == ("error", "Failed to connect to relay")
        assert relay.complaints == []


def leave(relay: StandInRelay, how: str) -> None:
    if how == "answers 503":
        relay.fault = 503
    else:
        relay.stop()


def come_back(relay: StandInRelay, how: str) -> None:
    if how == "answers 503":
        relay.fault = None
    else:
        relay.start()


def test_a_worker_that_is_killed_with_pushes_under_way_loses_none() -> None:
    with (
        StandInRelay() as relay,
        LiveServer(workers=2, RELAY_URL=relay.url, **MANY) as server,
        Backend(server) as backend,
    ):
        push_when(backend, backend.ask(Device.generate()), "delivered")
        before = relay.requests["/push"]
        relay.fault = "hang"
        asked = ask_over_many_connections(server, 20)
        wait_until(lambda: relay.requests["/push"] > before, "a push to be under way")
        victims = server.workers()
        for victim in victims:
            os.kill(victim, signal.SIGKILL)
        relay.fault = None
        wait_until(lambda: not set(victims) & set(server.workers()) and len(server.workers()) == 2, "new workers")
        with Backend(server) as again:
            for _, created in asked:
                assert push_when(again, created, "delivered") == {"status": "delivered"}
        assert sorted(set(relay.taken())) == sorted(relay.taken())
        assert relay.complaints == []


def test_a_stop_lets_a_push_that_is_under_way_end() -> None:
    with StandInRelay() as relay, LiveServer(workers=1, RELAY_URL=relay.url) as server:
        with Backend(server) as backend:
            push_when(backend, backend.ask(Device.generate()), "delivered")
            relay.fault = "hang"
            before = relay.requests["/push"]
            created = backend.ask(Device.generate())
            wait_until(lambda: relay.requests["/push"] > before, "the push to be under way")
        with ThreadPoolExecutor(1) as pool:
            stopping = pool.submit(server.stop)
            wait_until(lambda: lines(server, "draining"), "the server to drain")
            relay.fault = None
            assert stopping.result() == 0
        server.start()
        with Backend(server) as backend:
            assert backend.status(created)["push"] == {"status": "delivered"}
        assert relay.tries[key_of(created)] == 1


def test_a_reference_tells_the_provider_nothing_of_the_action() -> None:
    with StandInRelay() as relay, LiveServer(workers=1, RELAY_URL=relay.url, SIGIL_PUSH_CONTENT="reference") as server:
        with Backend(server) as backend:
            created = backend.ask(Device.generate())
            push_when(backend, created, "delivered")
        (push,) = relay.pushes
        assert push["payload"] == {
            "type": "challenge",
            "challenge_id": created["challenge_id"],
            "server_id": server.identity.server_id,
        }


def test_the_server_says_whether_it_pushes(pushing: LiveServer) -> None:
    assert lines(pushing, "sigil_starting")[0]["push"] == "enabled"
    with LiveServer(workers=1, RELAY_PUBLIC_URL="https://relay.example.com") as silent, Backend(silent) as backend:
        assert lines(silent, "sigil_starting")[0]["push"] == "disabled"
        assert backend.status(backend.ask(Device.generate()))["push"] == {"status": "disabled"}
        assert "relay_url" not in backend.http.get("/info").json()


async def test_long_polls_and_answers_go_on_while_the_relay_hangs(
    pushing: LiveServer, caller: Backend, relay: StandInRelay
) -> None:
    relay.fault = "hang"
    try:
        device = Device.generate()
        created = caller.ask(device)
        async with pushing.async_client() as client:
            poll = asyncio.create_task(client.get(f"/v1/auth/challenge/{created['challenge_id']}/status?wait=25"))
            assert (await client.post("/respond", json=approval(device, created))).status_code == 200
            assert (await poll).json()["status"] == "verified"
    finally:
        relay.fault = None


def test_a_challenge_that_nobody_answered_in_time_is_taken_away_from_its_device(
    relay: StandInRelay, fading: Expiring
) -> None:
    wait_until(lambda: key_of(fading.created, "clear") in relay.taken(), "the clear")
    (clear,) = [push for push in relay.pushes if push["push_key"] == key_of(fading.created, "clear")]
    assert clear["payload"]["status"] == "expired"
    assert clear["expires_at"] > fading.created["expires_at"]
