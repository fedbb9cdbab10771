"""The plan of faults follows from the seed, and has every kind."""

from __future__ import annotations

import pytest

from loadtest.soak.schedule import KINDS, plan


@pytest.mark.parametrize("seconds", [30, 1800])
def test_every_kind_comes_before_any_comes_again(seconds: float) -> None:
    planned = plan(7, seconds)
    assert planned.keys() == KINDS.keys()
    for target, faults in planned.items():
        assert {fault.kind for fault in faults[: len(KINDS[target])]} == set(KINDS[target])


def test_a_seed_repeats_its_plan_and_another_seed_gives_another() -> None:
    assert plan(7, 300) == plan(7, 300)
    assert plan(7, 300) != plan(8, 300)


def test_the_plan_is_long_enough_and_each_fault_within_its_limits() -> None:
    for target, faults in plan(7, 1800).items():
        assert sum(fault.pause + fault.seconds for fault in faults) >= 1800
        for fault in faults:
            shortest, longest = KINDS[target][fault.kind]
            assert shortest <= fault.seconds <= longest


def test_a_target_that_does_not_exist_has_no_faults() -> None:
    assert "database" not in plan(7, 300, ["server", "relay"])
