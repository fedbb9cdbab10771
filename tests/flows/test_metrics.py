"""`GET /metrics`: correct over all workers, also after one was killed, and without identifiers in labels."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from sigil.device import Device
from tests.flows.backend import ACTION, Backend, approval, rejection, status_path
from tests.support.live import DEADLINE, LiveServer, wait_until

Sample = dict[tuple[str, tuple[tuple[str, str], ...]], float]


def scrape(client: httpx.Client, **headers: str) -> Sample:
    answer = client.get("/metrics", headers=headers)
    assert answer.status_code == 200, answer.text
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(answer.text)
        for sample in family.samples
    }


def challenge_counts(sample: Sample) -> dict[str, float]:
    return {dict(labels)["status"]: v for (name, labels), v in sample.items() if name == "sigil_challenges_total"}


@pytest.fixture(scope="module")
def metrics_server() -> Iterator[LiveServer]:
    with LiveServer(workers=2, SIGIL_DEVICE_RATE="3/min", SIGIL_MAX_PENDING_PER_DEVICE="2") as server:
        yield server


def run_challenge(server: LiveServer, device: Device, *, answer: str = "approve") -> int:
    """Creates a challenge and responds, over new connections so that both workers take part; the last HTTP status."""
    with Backend(server) as backend:
        created = backend.http.post("/challenge", json={"device_public_key": device.wire_key, "action": ACTION})
        if created.status_code != 201 or answer == "none":
            return created.status_code
        if answer == "cancel":
            return backend.cancel(created.json()).status_code
        body = (rejection if answer == "reject" else approval)(device, created.json())
        body |= {"signature": approval(Device.generate(), created.json())["signature"]} if answer == "forge" else {}
        return backend.http.post("/respond", json=body).status_code


def test_counters_cover_all_workers_and_survive_killed_workers(metrics_server: LiveServer) -> None:
    for answer in ("approve", "approve", "reject", "cancel", "forge", "none"):
        run_challenge(metrics_server, Device.generate(), answer=answer)
    with metrics_server.client() as client:
        before = scrape(client)
    assert challenge_counts(before) == {
        "created": 6,
        "verified": 2,
        "rejected": 1,
        "cancelled": 1,
        "signature_failed": 1,
        "replay_blocked": 0,
        "expired": 0,
    }
    assert before["sigil_challenges_pending", ()] == 2
    assert before["sigil_challenge_duration_seconds_count", ()] == 3
    assert 0 < before["sigil_store_bytes", ()] < before["sigil_store_size_bytes", ()]

    for victim in metrics_server.workers():
        os.kill(victim, signal.SIGKILL)
        wait_until(
            lambda v=victim: len(metrics_server.workers()) == 2 and v not in metrics_server.workers(), "a new worker"
        )
    for _ in range(3):
        run_challenge(metrics_server, Device.generate())
    with metrics_server.client() as client:
        after = scrape(client)
    assert challenge_counts(after) == challenge_counts(before) | {"created": 9, "verified": 5}
    assert after["sigil_challenges_pending", ()] == 2


def test_requests_are_counted_by_route_and_not_by_path(metrics_server: LiveServer) -> None:
    with Backend(metrics_server) as backend:
        created = backend.create_challenge(Device.generate())
        backend.status(created)
        backend.http.get("/nothing/here")
        backend.http.request("BREW", "/challenge")
        sample = scrape(backend.http)
        text = backend.http.get("/metrics").text
    route = ("route", "/v1/auth/challenge/{challenge_id}/status")
    assert sample["sigil_http_requests_total", (("method", "GET"), route, ("status", "200"))] >= 1
    assert sample["sigil_http_requests_total", (("method", "GET"), ("route", "none"), ("status", "404"))] >= 1
    assert sample["sigil_http_request_duration_seconds_count", (("method", "GET"), route)] >= 1
    for private in (created["challenge_id"], created["fingerprint"], "/nothing", "BREW", metrics_server.api_key[9:17]):
        assert private not in text


def test_rejections_are_counted_by_limit(metrics_server: LiveServer) -> None:
    crowded, fast = Device.generate(), Device.generate()
    assert [run_challenge(metrics_server, crowded, answer="none") for _ in range(3)] == [201, 201, 429]
    assert [run_challenge(metrics_server, fast) for _ in range(4)] == [200, 200, 200, 429]
    with metrics_server.client() as client:
        sample = scrape(client)
    limited = {dict(labels)["limit"]: v for (name, labels), v in sample.items() if name == "sigil_rate_limited_total"}
    assert {limit: count for limit, count in limited.items() if count} == {"pending": 1, "device": 1}
    assert {"address", "muted", "key_pending", "key_store", "key_events", "key_enrolments"} < set(limited)


def test_metrics_include_the_build_and_the_processes(metrics_server: LiveServer) -> None:
    with metrics_server.client() as client:
        version = client.get("/health").json()["version"]
        sample = scrape(client)
        assert sample["sigil_build_info", (("version", version),)] == 1
        assert sample["sigil_processes", ()] >= 3
        assert sample["process_cpu_seconds_total", ()] > 0
        assert sample["process_resident_memory_bytes", ()] > 50e6
        assert sample["process_open_fds", ()] > 10
        openmetrics = client.get("/metrics", headers={"Accept": "application/openmetrics-text; version=1.0.0"})
        assert openmetrics.headers["content-type"].startswith("application/openmetrics-text")
        assert openmetrics.text.endswith("# EOF\n")


async def test_concurrent_scrapes_all_succeed(metrics_server: LiveServer) -> None:
    async with metrics_server.async_client() as client:
        answers = await asyncio.gather(*(client.get("/metrics") for _ in range(40)))
    assert {answer.status_code for answer in answers} == {200}


def test_metrics_need_the_token_and_count_no_long_poll_of_a_killed_worker() -> None:
    token = "a-metrics-token-for-this-test"
    with LiveServer(workers=1, METRICS_TOKEN=token) as server:
        bearer = {"Authorization": f"Bearer {token}"}
        with server.client() as client:
            for refused in ({}, {"Authorization": "Bearer wrong"}, {"Authorization": token}):
                answer = client.get("/metrics", headers=refused)
                assert (answer.status_code, answer.json()["error"]["code"]) == (401, "UNAUTHORIZED")
            assert scrape(client, **bearer)["sigil_long_polls", ()] == 0
        transport = httpx.HTTPTransport(verify=server.tls(), local_address="127.0.0.9")
        with httpx.Client(base_url=server.url, transport=transport, trust_env=False, timeout=DEADLINE) as guessing:
            guesses = ({"Authorization": f"Bearer guess-{number}"} for number in range(40))
            assert 429 in [guessing.get("/metrics", headers=guess).status_code for guess in guesses]
        kill_the_worker_of_a_long_poll(server, bearer)
        with server.client() as client:
            assert scrape(client, **bearer)["sigil_long_polls", ()] == 0
        assert token not in server.log_path.read_text()


def kill_the_worker_of_a_long_poll(server: LiveServer, bearer: dict[str, str]) -> None:
    """Starts a long poll, and kills the worker that holds it."""
    victim = server.workers()[0]
    with Backend(server) as backend, server.client() as client, ThreadPoolExecutor(1) as pool:
        created = backend.create_challenge(Device.generate())
        poll = pool.submit(backend.http.get, status_path(created), params={"wait": 25})
        wait_until(lambda: scrape(client, **bearer)["sigil_long_polls", ()] == 1, "the long poll")
        os.kill(victim, signal.SIGKILL)
        assert isinstance(poll.exception(), httpx.TransportError)
    wait_until(lambda: server.workers() not in ([], [victim]), "a new worker")


def test_telemetry_minimal_serves_metrics_and_none_does_not() -> None:
    with LiveServer(workers=1, SIGIL_TELEMETRY="minimal") as server, server.client() as client:
        assert client.get("/metrics").status_code == 200
    with LiveServer(workers=1, SIGIL_TELEMETRY="none") as server, server.client() as client:
        assert client.get("/metrics").status_code == 404
