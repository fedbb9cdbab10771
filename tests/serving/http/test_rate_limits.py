"""What an address may ask of one worker among many, with a clock that is moved."""

from __future__ import annotations

import pytest

from sigil.protocol.errors import RateLimited
from sigil.serving.http.rate_limits import FAILURE_COST, AddressLimiter
from tests.support.services import Clock

ADDRESS = "192.0.2.1"


def served(limiter: AddressLimiter, cost: int = 1, most: int = 10_000) -> int:
    """How many requests of `cost` are let through at once."""
    for count in range(most):
        try:
            limiter.check(ADDRESS)
        except RateLimited:
            return count
        limiter.charge(ADDRESS, cost)
    return most


@pytest.mark.parametrize(
    ("per_minute", "workers", "at_once"),
    [(480, 1, 480), (480, 2, 240), (480, 8, 100), (480, 256, 100), (60, 1, 60), (60, 64, 60), (1, 256, 1)],
)
def test_at_once_it_gives_its_share_and_never_less_than_a_person_needs_or_the_whole_rate(
    per_minute: int, workers: int, at_once: int
) -> None:
    assert served(AddressLimiter.of_worker(per_minute, workers, Clock())) == at_once


@pytest.mark.parametrize("workers", [1, 4, 64])
def test_in_the_long_run_all_workers_together_let_through_the_rate(workers: int) -> None:
    clock, hours = Clock(), 10
    limiter = AddressLimiter.of_worker(60, workers, clock)
    count = served(limiter)
    for _ in range(hours * 60):
        clock.now += 60
        count += served(limiter)
    assert abs((count - 60) * workers - hours * 60 * 60) <= workers


@pytest.mark.parametrize("workers", [1, 16, 256])
def test_ten_mistakes_are_forgiven_on_any_number_of_workers(workers: int) -> None:
    assert served(AddressLimiter.of_worker(600, workers, Clock()), FAILURE_COST) >= 10


def test_a_flood_of_failures_is_over_a_minute_after_its_end() -> None:
    clock = Clock()
    limiter = AddressLimiter.of_worker(600, 32, clock)
    for _ in range(1000):
        limiter.charge(ADDRESS, FAILURE_COST)
    with pytest.raises(RateLimited) as told:
        limiter.check(ADDRESS)
    clock.now += told.value.retry_after or 0
    assert (told.value.retry_after or 0) <= 60 + 4
    limiter.check(ADDRESS)


def test_off_is_no_limit() -> None:
    assert served(AddressLimiter.of_worker(0, 8, Clock()), most=1000) == 1000
