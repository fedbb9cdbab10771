"""Workers are killed while they deliver 2000 events to an endpoint that fails one time in five: no event is lost."""

from __future__ import annotations

import contextlib
import os
import signal
from collections import defaultdict
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import pairwise

import httpx
import pytest

from sigil.core.webhooks.event import LEASE_SECONDS
from sigil.device import Device
from tests.flows.backend import Backend, approval
from tests.flows.test_metrics import scrape
from tests.flows.test_pushes import log_lines
from tests.flows.test_webhooks import SECRET, UNLIMITED
from tests.support.live import LiveServer, wait_until
from tests.support.webhook_endpoint import Arrival, WebhookEndpoint, verified_event

EVENTS, KILLS, WORKERS, PENDING = 2000, 20, 3, 50
# Ten tries: at one failure in five an event uses up all of them once in ten million.
SCHEDULE = ",".join(["1"] * 9)


@pytest.fixture(scope="module")
def endpoint() -> Iterator[WebhookEndpoint]:
    with WebhookEndpoint(lambda number: 500 if number % 5 == 4 else 200) as one:
        yield one


def create_and_sign(server: LiveServer, device: Device) -> list[dict[str, str]]:
    """Creates PENDING challenges for a device; the bodies of its responses."""
    with Backend(server) as backend:
        return [approval(device, backend.create_challenge(device)) for _ in range(PENDING)]


def send_responses(server: LiveServer, bodies: list[dict[str, str]]) -> None:
    """Sends each body until the server has it, over a new connection when the worker of the old one was killed."""
    left = list(bodies)
    while left:
        with contextlib.suppress(httpx.TransportError), server.client() as http:
            while left:
                response = http.post("/respond", json=left[0])
                # 409: it was written before the worker died.
                assert response.status_code in {200, 409}, response.text
                left.pop(0)


class ResponseSender:
    """Sends all bodies, one part for each kill, so that workers are killed while responses arrive."""

    def __init__(self, server: LiveServer, bodies: list[dict[str, str]]) -> None:
        self._server, self._bodies = server, bodies
        self._part = len(bodies) // (KILLS // 2)
        self._pool = ThreadPoolExecutor(4)
        self._futures: list[Future[None]] = []

    def send_part(self) -> None:
        part, self._bodies = self._bodies[: self._part], self._bodies[self._part :]
        self._futures += [self._pool.submit(send_responses, self._server, part[start::4]) for start in range(4)]

    def finish(self) -> None:
        for done in self._futures:
            done.result()
        self._pool.shutdown()
        assert self._bodies == []


def kill_two(server: LiveServer) -> None:
    victims = server.workers()[:2]
    for victim in victims:
        os.kill(victim, signal.SIGKILL)
    wait_until(lambda: not set(victims) & set(server.workers()) and len(server.workers()) == WORKERS, "new workers")


def by_event(arrivals: list[Arrival]) -> dict[str, list[Arrival]]:
    found: dict[str, list[Arrival]] = defaultdict(list)
    for arrival in arrivals:
        found[arrival.headers["webhook-id"]].append(arrival)
    return found


def test_no_event_is_lost_and_none_sent_twice_within_its_lease(endpoint: WebhookEndpoint) -> None:
    settings = {"SIGIL_MAX_PENDING_PER_DEVICE": str(PENDING), "SIGIL_WEBHOOK_SCHEDULE": SCHEDULE}
    with (
        LiveServer(workers=WORKERS, WEBHOOK_URL=endpoint.url, **UNLIMITED | settings) as server,
        ThreadPoolExecutor(4) as pool,
    ):
        wait_until(lambda: len(server.workers()) == WORKERS, "all workers")
        devices = [Device.generate("Ed25519") for _ in range(EVENTS // PENDING)]
        bodies = [body for some in pool.map(lambda device: create_and_sign(server, device), devices) for body in some]
        sender = ResponseSender(server, bodies)
        for _ in range(KILLS // 2):
            before = len(endpoint.arrivals)
            sender.send_part()
            wait_until(lambda n=before: len(endpoint.arrivals) > n, "events to go out")
            kill_two(server)
        sender.finish()
        with Backend(server) as backend:
            wait_until(lambda: scrape(backend.http)["sigil_webhook_outbox", ()] == 0, "the outbox to empty")
            assert scrape(backend.http)["sigil_webhook_failures", ()] == 0
        assert len(log_lines(server, "worker_died")) >= KILLS
        assert log_lines(server, "background_loop_failed") == []
    arrived = by_event(endpoint.arrivals)
    assert arrived.keys() == {f"evt_{body['challenge_id']}" for body in bodies}
    for arrivals in arrived.values():
        assert arrivals[-1].status == 200
        for arrival in arrivals:
            verified_event(arrival, SECRET)
        for first, second in pairwise(arrivals):
            # After a failure the event is retried by the schedule. After a success it is sent again only when its
            # worker was killed, after the lease. The lease begins with the claim, some time before the arrival.
            assert second.at - first.at > (0.8 if first.status == 500 else LEASE_SECONDS - 5)
