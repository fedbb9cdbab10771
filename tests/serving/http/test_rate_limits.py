"""The rate limit of an address on one worker of many, with a clock that the test moves."""

from __future__ import annotations

import pytest

from sigil.protocol.errors import RateLimited
from sigil.serving.http.rate_limits import FAILURE_COST, AddressBuckets
from tests.support.services import Clock

ADDRESS = "192.0.2.1"


def accepted(limiter: AddressBuckets, cost: int = 1, limit: int = 10_000) -> int:
    """How many requests of `cost` the limiter accepts in one burst."""
    for count in range(limit):
        try:
            limiter.check(ADDRESS)
        except RateLimited:
            return count
        limiter.charge(ADDRESS, cost)
    return limit


@pytest.mark.parametrize(
    ("per_minute", "workers", "burst"),
    [(480, 1, 480), (480, 2, 240), (480, 8, 100), (480, 256, 100), (60, 1, 60), (60, 64, 60), (1, 256, 1)],
)
def test_a_burst_is_the_share_of_the_worker_and_at_least_what_one_person_needs_or_the_whole_rate(
    per_minute: int, workers: int, burst: int
) -> None:
    assert accepted(AddressBuckets.of_worker(per_minute, workers, Clock())) == burst


@pytest.mark.parametrize("workers", [1, 4, 64])
def test_in_the_long_run_all_workers_together_accept_the_rate(workers: int) -> None:
    clock, hours = Clock(), 10
    limiter = AddressBuckets.of_worker(60, workers, clock)
    count = accepted(limiter)
    for _ in range(hours * 60):
        clock.now += 60
        count += accepted(limiter)
    assert abs((count - 60) * workers - hours * 60 * 60) <= workers


@pytest.mark.parametrize("workers", [1, 16, 256])
def test_ten_failures_are_accepted_on_any_number_of_workers(workers: int) -> None:
    assert accepted(AddressBuckets.of_worker(600, workers, Clock()), FAILURE_COST) >= 10


def test_a_flood_of_failures_limits_for_a_minute_after_its_end() -> None:
    clock = Clock()
    limiter = AddressBuckets.of_worker(600, 32, clock)
    for _ in range(1000):
        limiter.charge(ADDRESS, FAILURE_COST)
    with pytest.raises(RateLimited) as limited:
        limiter.check(ADDRESS)
    clock.now += limited.value.retry_after or 0
    assert (limited.value.retry_after or 0) <= 60 + 4
    limiter.check(ADDRESS)


def test_a_rate_of_zero_is_no_limit() -> None:
    assert accepted(AddressBuckets.of_worker(0, 8, Clock()), limit=1000) == 1000
