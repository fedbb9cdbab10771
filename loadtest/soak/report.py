"""The verdict of a run, as a table and as JSON."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from loadtest.soak.api import Record
from loadtest.soak.faults import FaultLog
from loadtest.soak.ledger import Ledger, Violation
from loadtest.soak.watch import MIN_FIT_SECONDS, Sample, fit

_SHOWN_VIOLATIONS = 30
_LOSSES = ("lost", "doubled", "contradicting", "forged", "early", "reverted")
_EVENT_FAULTS = ("event_missing", "event_false", "event_changed")


class Growth(msgspec.Struct, frozen=True):
    """A figure of a group of processes, or a gauge: its first and last value, peak, and slope per hour."""

    start: float
    end: float
    peak: float
    per_hour: float


class Report(msgspec.Struct, frozen=True):
    """`failures` are the errors that a client may retry, by kind; times are seconds."""

    seed: int
    seconds: float
    passed: bool
    violations: list[Violation]
    subjects: dict[str, int]
    successes: dict[str, int]
    retries: int
    failures: dict[str, int]
    faults: dict[str, int]
    longest_silence: float
    growth: dict[str, Growth]
    flood_responses: dict[str, int]
    log_events: dict[str, int]
    timeline: list[Any]

    def count(self, kinds: Sequence[str]) -> int:
        return sum(violation.kind in kinds for violation in self.violations)


def growth_of(series: Mapping[str, Sequence[Sample]], peaks: Mapping[str, float]) -> dict[str, Growth]:
    return {
        name: Growth(samples[0][1], samples[-1][1], peaks[name], fit(samples).per_hour)
        for name, samples in sorted(series.items())
        if samples
    }


def unexplained(record: Record, log: FaultLog) -> list[Violation]:
    """Errors of clients at times without any fault."""
    found: Counter[str] = Counter()
    for failure in record.failures:
        if not log.explains(failure.began, failure.at):
            found[failure.what] += 1
    return [Violation("error without a fault", what, f"{count} times") for what, count in found.items()]


def make_report(
    seed: int,
    seconds: float,
    *,
    decisions: tuple[Ledger, Record, FaultLog],
    others: Sequence[Violation],
    growth: dict[str, Growth],
    flood_responses: Mapping[str, int],
    log_events: Mapping[str, int],
) -> Report:
    """`others` are the violations of the watch and of the floods."""
    ledger, record, log = decisions
    violations = [
        *ledger.check(), *record.violations, *log.violations, *unexplained(record, log), *others,
    ]  # fmt: skip
    return Report(
        seed=seed,
        seconds=round(seconds, 1),
        passed=not violations,
        violations=violations,
        subjects=dict(sorted(ledger.counts().items())),
        successes=dict(sorted(record.successes.items())),
        retries=record.retries,
        failures=dict(Counter(failure.what for failure in record.failures).most_common()),
        faults=log.counts(),
        longest_silence=round(record.longest_silence, 1),
        growth=growth,
        flood_responses=dict(flood_responses),
        log_events=dict(log_events),
        timeline=[msgspec.to_builtins(fault) for fault in log.happened],
    )


def write(report: Report, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(msgspec.json.format(msgspec.json.encode(report), indent=1) + b"\n")


def lines(report: Report) -> list[str]:
    """The table."""
    table = [f"seed {report.seed}, {report.seconds:.0f} s", "", "decisions"]
    table += [f"  {name:<28} {count:8d}" for name, count in report.subjects.items()]
    table += [
        f"  {'lost or doubled':<28} {report.count(_LOSSES):8d}",
        f"  {'events missing or false':<28} {report.count(_EVENT_FAULTS):8d}",
        "",
        "requests",
        *(f"  {name:<28} {count:8d}" for name, count in report.successes.items()),
        f"  {'retries':<28} {report.retries:8d}",
        *(f"  error {name:<22} {count:8d}" for name, count in report.failures.items()),
        f"  {'longest time without success':<28} {report.longest_silence:8.1f} s",
        "",
        "faults",
        *(f"  {name:<28} {count:8d}" for name, count in report.faults.items()),
        "",
        f"{'processes and gauges':<32} {'start':>10} {'end':>10} {'peak':>10} {'per hour':>10}",
    ]
    steady = report.seconds >= MIN_FIT_SECONDS
    for name, each in report.growth.items():
        slope = f"{each.per_hour:10.1f}" if steady else f"{'-':>10}"
        table.append(f"  {name:<30} {each.start:10.1f} {each.end:10.1f} {each.peak:10.1f} {slope}")
    return [*table, "", *verdict(report)]


def verdict(report: Report) -> list[str]:
    """What was violated, with the seed that repeats the faults."""
    if report.passed:
        return ["passed: nothing lost, nothing doubled, no growth"]
    shown = [f"  {each.kind}: {each.subject}: {each.text}" for each in report.violations[:_SHOWN_VIOLATIONS]]
    more = len(report.violations) - len(shown)
    return [
        f"FAILED: {len(report.violations)} violations; repeat the faults with --seed {report.seed}",
        *shown,
        *([f"  and {more} more, in the report"] if more else []),
    ]
