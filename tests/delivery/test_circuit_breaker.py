"""The circuit breaker of one worker, over the memory store that all workers of a host share."""

from __future__ import annotations

import os

import pytest

from sigil.app.state import KINDS
from sigil.core.circuit_breaker import RECEIVER_KEY, RELAY_KEY
from sigil.delivery.backlog import Backlog
from sigil.delivery.circuit_breaker import CircuitBreaker, RequestResult
from sigil.store.memory import MemoryStore
from tests.support.services import Clock


class Observer:
    def __init__(self) -> None:
        self.reports: list[str] = []

    def opened(self, reason: str, starting: bool) -> None:
        self.reports.append(f"opened {reason}{' while starting' if starting else ''}")

    def closed(self, seconds: float) -> None:
        self.reports.append(f"closed {seconds}")


class Host:
    """A store and a clock; `worker` makes breakers over them."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.store = MemoryStore(kinds=KINDS, clock=self.clock, size=1 << 20)
        self.observer = Observer()

    def worker(self, failures_to_open: int, backlog: Backlog | None = None, start_seconds: float = 0) -> CircuitBreaker:
        return CircuitBreaker(
            key=RELAY_KEY if failures_to_open == 1 else RECEIVER_KEY,
            failures_to_open=failures_to_open,
            store=self.store,
            backlog=Backlog() if backlog is None else backlog,
            observer=self.observer,
            run=1,
            randomness=os.urandom,
            start_seconds=start_seconds,
            monotonic=self.clock,
        )

    async def fail(self, worker: CircuitBreaker, times: int = 1, *, probing: bool = False) -> None:
        for _ in range(times):
            await worker.record_failure("503", self.clock.now, probing=probing)


@pytest.fixture
def host() -> Host:
    return Host()


@pytest.mark.parametrize("failures_to_open", [1, 10])
async def test_it_opens_at_the_given_number_of_failures_in_a_row(host: Host, failures_to_open: int) -> None:
    worker = host.worker(failures_to_open)
    await host.fail(worker, failures_to_open - 1)
    assert await worker.is_closed()
    await host.fail(worker)
    assert not await worker.is_closed()
    assert host.observer.reports == ["opened 503"]


async def test_a_success_in_between_restarts_the_count(host: Host) -> None:
    worker = host.worker(10)
    await host.fail(worker, 9)
    await worker.record_success(host.clock.now)
    await host.fail(worker, 9)
    assert await worker.is_closed()


async def test_a_batch_of_results_counts_in_their_order(host: Host) -> None:
    worker, now = host.worker(3), host.clock.now
    failure, success = RequestResult(now, "503"), RequestResult(now)
    await worker.record([failure, failure, success, failure, failure])
    assert await worker.is_closed()
    await worker.record([success, failure, failure, failure])
    assert not await worker.is_closed()


async def test_a_failed_probe_counts_at_once(host: Host) -> None:
    worker, other = host.worker(10), host.worker(10)
    await host.fail(worker, 10)
    host.clock.now += 2
    assert await other.may_probe()
    await host.fail(other, probing=True)
    assert not await other.may_probe()
    assert host.observer.reports == ["opened 503"]


async def test_failures_before_a_recovery_that_another_worker_saw_do_not_count(host: Host) -> None:
    worker, other = host.worker(10), host.worker(10)
    await host.fail(worker, 10)
    host.clock.now += 2
    await other.record_success(host.clock.now)
    assert await worker.is_closed()
    host.clock.now += 1
    await host.fail(worker, 9)
    assert await worker.is_closed()


async def test_only_a_request_that_began_after_the_opening_closes_it(host: Host) -> None:
    worker = host.worker(1)
    await host.fail(worker)
    await worker.record_success(host.clock.now - 1)
    assert not await worker.is_closed()
    host.clock.now += 5
    await worker.record_success(host.clock.now)
    assert await worker.is_closed()
    assert host.observer.reports == ["opened 503", "closed 5.0"]


async def test_while_it_is_open_the_backlog_is_paused_in_every_worker(host: Host) -> None:
    backlog = Backlog()
    worker, other = host.worker(1), host.worker(1, backlog)
    backlog.add(b"name")
    await host.fail(worker)
    assert not await other.is_closed()
    assert len(backlog) == 0
    await worker.record_success(host.clock.now)
    assert await other.is_closed()
    backlog.add(b"name")
    assert len(backlog) == 1


async def test_an_outage_is_one_of_the_start_until_a_request_succeeded_or_the_time_has_passed(host: Host) -> None:
    worker = host.worker(1, start_seconds=60)
    await host.fail(worker)
    host.clock.now += 61
    await host.fail(worker, probing=True)
    assert host.observer.reports == ["opened 503 while starting", "opened 503"]
    reached = host.worker(1, start_seconds=60)
    await reached.record_success(host.clock.now)
    await host.fail(reached)
    assert host.observer.reports[-1] == "opened 503"


async def test_another_reason_is_reported(host: Host) -> None:
    worker = host.worker(1)
    await host.fail(worker)
    for _ in range(2):
        await worker.record_failure("401", host.clock.now, probing=True)
    assert host.observer.reports == ["opened 503", "opened 401"]


async def test_a_worker_that_has_sent_nothing_knows_the_state_of_the_shared_row(host: Host) -> None:
    idle = host.worker(1)
    assert await idle.is_closed()
    await host.fail(host.worker(1))
    assert not await idle.is_closed()
    assert not await host.worker(1).is_closed()
