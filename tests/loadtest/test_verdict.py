"""The verdict on a load run; nothing is timed here."""

from __future__ import annotations

import pytest

from bench.comparison import Figure, is_disturbed
from loadtest.verdict import QUIET, judge

CASES = [
    # reached, errors, others, failed, the beginning of the line
    (1000.0, 0, 0.0, False, "passed: at least 1000 pushes/s"),
    (1000.0, 0, 1.9, False, "passed: at least 1000 pushes/s"),
    (999.4, 0, 0.0, True, "FAILED: 999 pushes/s are below 1000"),
    (999.4, 0, QUIET, True, "FAILED: 999 pushes/s are below 1000"),
    (139.0, 0, 0.79, False, "not judged: 139 pushes/s are below 1000, but other processes took 0.79 cores"),
    (139.0, 0, None, True, "FAILED: 139 pushes/s are below 1000"),
    (5000.0, 3, 0.0, True, "FAILED: errors: 3"),
    (139.0, 3, 1.9, True, "FAILED: errors: 3"),
]


@pytest.mark.parametrize(("reached", "errors", "others", "failed", "line"), CASES)
def test_a_low_rate_fails_on_a_quiet_machine_alone_and_errors_everywhere(
    reached: float, errors: int, others: float | None, failed: bool, line: str
) -> None:
    verdict = judge(reached, 1000, "pushes/s", errors, others)
    assert verdict.line.startswith(line)
    assert verdict.failed == failed


@pytest.mark.parametrize("others", [0.0, QUIET, QUIET + 0.01, 1.9])
def test_a_benchmark_and_a_load_run_call_the_same_machine_disturbed(others: float) -> None:
    assert is_disturbed(Figure(1e-6, "s", 1.0, others)) == (not judge(1, 2, "/s", 0, others).failed)
