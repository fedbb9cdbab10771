"""How a benchmark is measured, so that a machine that others use too gives the same multiple twice.

Rounds are short and many, and a calibration stands beside each of them: when the machine slows down, both do. The best
round is divided by the best of those calibrations. What seems to be a regression is measured again, up to twice, and so
is everything that becomes the baseline. With it goes how much of the machine others took: then it is no verdict.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from pytest_benchmark.fixture import BenchmarkFixture

from bench.baseline import Baseline
from bench.calibration import Calibration
from bench.comparison import TOLERANCE, Figure, over
from bench.tolerances import TOLERANCES
from loadtest.usage import family_seconds, machine_seconds

MEASUREMENTS = 3
"""How often a benchmark is measured before it is a regression or a baseline."""
_ROUND_SECONDS = 0.0002


@dataclass
class Run:
    """The results of this run by name; `calibration` is the best verification of all, in seconds.

    `renewing`: they become the baseline.
    """

    baseline: Baseline
    renewing: bool = False
    figures: dict[str, Figure] = field(default_factory=dict)
    calibration: float = float("inf")

    def enter(self, name: str, figure: Figure) -> None:
        if name in self.figures:
            raise ValueError(f"two benchmarks are called {name!r}")
        self.figures[name] = figure

    def in_doubt(self, name: str, figure: Figure) -> bool:
        return self.renewing or over(figure, self.baseline.benchmarks.get(name), TOLERANCES.get(name, TOLERANCE))


def _nothing() -> None:
    pass


class Others:
    """What others take of the machine from now on."""

    def __init__(self) -> None:
        self._began, self._taken = time.perf_counter(), self._seconds()

    def cores(self) -> float:
        return max(0.0, self._seconds() - self._taken) / (time.perf_counter() - self._began)

    @staticmethod
    def _seconds() -> float:
        return machine_seconds() - family_seconds(os.getpid())


class Measure:
    """The benchmark of one test: `measure(work)` times it, `measure.count(work)` counts bytes."""

    def __init__(self, name: str, benchmark: BenchmarkFixture, run: Run) -> None:
        self._name = name
        self._benchmark = benchmark
        self._run = run

    def __call__(
        self,
        work: Callable[[], object],
        *,
        operations: int = 1,
        rounds: int = 1500,
        prepare: Callable[[], object] = _nothing,
        verifications: int = 10,
    ) -> None:
        """Enter the seconds that one of the `operations` of a call of `work` takes.

        `prepare` goes before each call and is not timed; nor are the `verifications` of each calibration. Work without
        preparation is called so often in a round that the round takes a fifth of a millisecond.
        """
        calls = _calls(work) if prepare is _nothing else 1
        calibration = Calibration(verifications)

        def between() -> None:
            prepare()
            calibration.take()

        between()
        others = Others()
        self._benchmark.pedantic(work, rounds=rounds, iterations=calls, warmup_rounds=1, teardown=between)
        figure = self._figure(rounds, operations, calibration, others)
        for _ in range(MEASUREMENTS - 1):
            if not self._run.in_doubt(self._name, figure):
                break
            calibration.best, others = float("inf"), Others()
            for _ in range(rounds):
                # The fixture runs once in a test, but its statistics take more.
                self._benchmark.stats.update(_timed(work, calls))
                between()
            again = self._figure(rounds, operations, calibration, others)
            figure = min(figure, again, key=lambda one: one.multiple)
        self._benchmark.extra_info["multiple"] = figure.multiple
        self._run.enter(self._name, figure)

    def count(self, work: Callable[[], float]) -> None:
        """Enter the bytes that `work` finds out."""
        value = self._benchmark.pedantic(work)
        self._benchmark.extra_info["bytes"] = value
        self._run.enter(self._name, Figure(value, "bytes", value))

    def _figure(self, rounds: int, operations: int, calibration: Calibration, others: Others) -> Figure:
        """Of the last `rounds`, which are what this calibration stood beside."""
        self._run.calibration = min(self._run.calibration, calibration.best)
        best = min(self._benchmark.stats.stats.data[-rounds:]) / operations
        return Figure(best, "s", best / calibration.best, others.cores())


def _calls(work: Callable[[], object]) -> int:
    once = min(_timed(work, 1) for _ in range(5))
    return max(1, int(_ROUND_SECONDS / once))


def _timed(work: Callable[[], object], calls: int) -> float:
    start = time.perf_counter()
    for _ in range(calls):
        work()
    return time.perf_counter() - start
