"""How a benchmark is measured, so that repeated runs give the same multiple although other processes use the machine.

Rounds are short and many, with a calibration after each: when the machine slows down, both slow down. The best round is
divided by the best of these calibrations. An apparent regression is measured again, up to twice, and so is every figure
of a new baseline. Each figure has the number of cores that other processes used: with too many it is not judged.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field

from pytest_benchmark.fixture import BenchmarkFixture

from bench.baseline import Baseline
from bench.calibration import Calibration
from bench.comparison import TOLERANCE, Figure, is_over
from bench.tolerances import TOLERANCES
from loadtest.usage import OtherProcesses

MEASUREMENTS = 3
"""The number of measurements of a regression or of a new baseline."""
_ROUND_SECONDS = 0.0002


@dataclass
class Run:
    """The results of this run by name; `calibration` is the best verification of the run, in seconds.
    `rounds` has the seconds of one operation of each round, in their order.

    With `renewing` they become the baseline.
    """

    baseline: Baseline
    renewing: bool = False
    figures: dict[str, Figure] = field(default_factory=dict)
    rounds: dict[str, list[float]] = field(default_factory=dict)
    calibration: float = float("inf")

    def add(self, name: str, figure: Figure) -> None:
        if name in self.figures:
            raise ValueError(f"two benchmarks are called {name!r}")
        self.figures[name] = figure

    def must_repeat(self, name: str, figure: Figure) -> bool:
        return self.renewing or is_over(figure, self.baseline.benchmarks.get(name), TOLERANCES.get(name, TOLERANCE))


def _nothing() -> None:
    pass


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
        """Adds the seconds of one operation; a call of `work` makes `operations` of them.

        `prepare` runs before each call and is not timed; nor are the `verifications` of each calibration. Work without
        `prepare` is called so many times in a round that the round takes 0.2 ms.
        """
        calls = _calls(work) if prepare is _nothing else 1
        calibration = Calibration(verifications)

        def between() -> None:
            prepare()
            calibration.take()

        between()
        others = OtherProcesses()
        self._benchmark.pedantic(work, rounds=rounds, iterations=calls, warmup_rounds=1, teardown=between)
        figure = self._figure(rounds, operations, calibration, others)
        for _ in range(MEASUREMENTS - 1):
            if not self._run.must_repeat(self._name, figure):
                break
            calibration.best, others = float("inf"), OtherProcesses()
            for _ in range(rounds):
                # The fixture runs once per test, but its statistics accept more data.
                self._benchmark.stats.update(_timed(work, calls))
                between()
            again = self._figure(rounds, operations, calibration, others)
            figure = min(figure, again, key=lambda one: one.multiple)
        self._benchmark.extra_info["multiple"] = figure.multiple
        self._run.rounds[self._name] = [seconds / operations for seconds in self._benchmark.stats.stats.data]
        self._run.add(self._name, figure)

    def count(self, work: Callable[[], float]) -> None:
        """Adds the bytes that `work` returns."""
        value = self._benchmark.pedantic(work)
        self._benchmark.extra_info["bytes"] = value
        self._run.add(self._name, Figure(value, "bytes", value))

    def _figure(self, rounds: int, operations: int, calibration: Calibration, others: OtherProcesses) -> Figure:
        """The figure of the last `rounds`, those of this calibration."""
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
