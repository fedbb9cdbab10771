"""Growth is found in noise; a flood and a warm-up are no growth."""

from __future__ import annotations

import os
import random
import subprocess
import sys

import pytest

from loadtest.soak.watch import (
    Sample,
    fit,
    growth_violations,
    kept_descriptors,
    parse_gauges,
    read_process,
    store_violations,
)

MEMORY, HOUR = "sigil worker anon_mib", 3600.0


def series(per_hour: float, *, start: float = 50.0, seconds: float = 1800, floods: float = 0.0) -> list[Sample]:
    dice = random.Random(1)  # noqa: S311
    return [
        (float(at), start + per_hour * at / HOUR + dice.uniform(-2, 2) + floods * (dice.random() < 0.2))
        for at in range(0, int(seconds), 5)
    ]


def test_the_fit_has_the_slope_of_a_noisy_series_with_floods() -> None:
    fitted = fit(series(80, floods=300))
    assert fitted.per_hour == pytest.approx(80, abs=20)
    assert fitted.growth == pytest.approx(40, abs=10)


@pytest.mark.parametrize(("per_hour", "grows"), [(0, False), (20, False), (120, True)])
def test_memory_that_grows_is_a_violation(per_hour: float, grows: bool) -> None:
    found = growth_violations({MEMORY: series(per_hour, floods=100)})
    assert [(each.kind, each.subject) for each in found] == ([("growth", MEMORY)] if grows else [])


def test_a_warm_up_is_not_growth() -> None:
    warm_up = [(float(at), 20.0 + at / 10) for at in range(0, 300, 5)]
    assert growth_violations({MEMORY: warm_up + [(at + 300, value) for at, value in series(0)]}) == []


def test_a_short_run_is_not_fitted() -> None:
    assert growth_violations({MEMORY: series(3600, seconds=120)}) == []


def test_gauges_without_a_bound_are_not_fitted() -> None:
    assert growth_violations({"sigil_store_bytes": series(1e9)}) == []


@pytest.mark.parametrize(("peak", "grows"), [(5e6, False), (5e7, True)])
def test_a_store_that_holds_more_than_its_challenges_take_is_a_violation(peak: float, grows: bool) -> None:
    assert bool(store_violations(peak, 12_000)) == grows


def test_descriptors_that_stay_after_the_faults_are_a_violation() -> None:
    before = {"sigil worker": 40.0, "relay worker": 40.0}
    found = kept_descriptors(before, {"sigil worker": 300.0, "relay worker": 45.0})
    assert [each.subject for each in found] == ["sigil worker"]


def test_gauges_are_summed_over_their_labels() -> None:
    text = '# TYPE relay_websockets gauge\nrelay_websockets 3.0\nsigil_long_polls{pid="1"} 1\nsigil_long_polls 2\nx 9\n'
    assert parse_gauges(text) == {"relay_websockets": 3.0, "sigil_long_polls": 3.0}


def test_figures_of_a_process_and_none_of_one_that_ended() -> None:
    figures = read_process(os.getpid())
    assert figures is not None
    assert 0 < figures["anon_mib"] <= figures["rss_mib"]
    assert figures["descriptors"] > 2
    with subprocess.Popen([sys.executable, "-c", ""]) as ended:
        ended.wait()
    assert read_process(ended.pid) is None
