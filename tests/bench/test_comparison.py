"""The comparison of benchmark figures with the baseline; nothing is timed here."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench import baseline, report
from bench.comparison import TOLERANCE, Figure, Outcome, Verdict, compare
from bench.tolerances import REASONS, TOLERANCES

BEFORE = {"verify": Figure(60e-6, "s", 1.0), "start": Figure(0.5, "s", 8000.0), "row": Figure(443.0, "bytes", 443.0)}


def timed(multiple: float) -> Figure:
    return Figure(multiple * 60e-6, "s", multiple)


def verdict(multiple: float, baseline_multiple: float = 1.0, **tolerances: float) -> Verdict:
    verdicts = compare({"verify": timed(multiple)}, {"verify": timed(baseline_multiple)}, tolerances, whole=True)
    assert [one.name for one in verdicts] == ["verify"]
    return verdicts[0]


def test_thirty_percent_above_the_baseline_fails() -> None:
    verdicts = verdict(1.3)
    assert (verdicts.outcome, verdicts.failed) == (Outcome.SLOWER, True)
    assert verdicts.change == pytest.approx(0.3)


@pytest.mark.parametrize("multiple", [1.2, 1 + TOLERANCE, 1.0, 0.9])
def test_a_result_within_the_tolerance_passes(multiple: float) -> None:
    assert verdict(multiple).outcome is Outcome.AS_BEFORE
    assert not verdict(multiple).failed


def test_a_result_far_below_the_baseline_passes_and_is_reported() -> None:
    assert (verdict(0.7).outcome, verdict(0.7).failed) == (Outcome.FASTER, False)


def test_a_time_that_other_processes_disturbed_is_not_judged() -> None:
    others = {"verify": Figure(120e-6, "s", 2.0, others=0.9), "row": Figure(600.0, "bytes", 600.0, others=0.9)}
    verdicts = compare(others, BEFORE, {}, whole=False)
    assert [(one.outcome, one.failed) for one in verdicts] == [(Outcome.DISTURBED, False), (Outcome.SLOWER, True)]
    assert verdict(2.0).failed


def test_multiples_are_compared_and_not_seconds() -> None:
    """On a machine of half the speed everything takes twice as long, the calibration too."""
    verdicts = compare({"verify": Figure(120e-6, "s", 1.0)}, BEFORE, {}, whole=False)
    assert [one.outcome for one in verdicts] == [Outcome.AS_BEFORE]


def test_the_tolerance_of_a_benchmark_replaces_the_default() -> None:
    assert not verdict(1.3, verify=0.5).failed
    assert verdict(1.6, verify=0.5).failed
    assert verdict(1.1, verify=0.05).failed


def test_bytes_are_compared_like_times() -> None:
    verdicts = compare({"row": Figure(600.0, "bytes", 600.0)}, {"row": BEFORE["row"]}, {}, whole=True)
    assert [one.outcome for one in verdicts] == [Outcome.SLOWER]


def test_a_benchmark_that_is_not_in_the_baseline_is_new_and_passes() -> None:
    verdicts = compare({"sign": timed(99.0)}, {}, {}, whole=True)
    assert [(one.outcome, one.failed, one.change) for one in verdicts] == [(Outcome.NEW, False, None)]


def test_a_benchmark_of_the_baseline_that_did_not_run_fails() -> None:
    verdicts = compare({"verify": timed(1.0)}, BEFORE, {}, whole=True)
    assert {one.name for one in verdicts if one.outcome is Outcome.NOT_RUN} == {"start", "row"}
    assert [one.name for one in verdicts if one.failed] == ["start", "row"]


def test_a_run_of_selected_benchmarks_misses_none() -> None:
    assert [one.name for one in compare({"verify": timed(1.0)}, BEFORE, {}, whole=False)] == ["verify"]


def test_the_table_has_a_line_for_each_verdict() -> None:
    figures = {"verify": timed(1.3), "sign": timed(0.41234), "row": BEFORE["row"]}
    head, *lines = report.table(compare(figures, BEFORE, {}, whole=True))
    assert head.split() == ["benchmark", "best", "multiple", "baseline", "change"]
    assert [line.split() for line in lines] == [
        ["verify", "78", "µs", "1.3", "1", "+30.0%", "REGRESSION"],
        ["sign", "24.7", "µs", "0.412", "new"],
        ["row", "443", "B", "443", "B", "443", "B", "+0.0%"],
        ["start", "8000", "NOT", "RUN"],
    ]


def test_a_saved_baseline_loads_unchanged(tmp_path: Path) -> None:
    written = baseline.of_this_machine(60e-6, BEFORE)
    baseline.save(written, tmp_path / "baseline.json")
    assert baseline.load(tmp_path / "baseline.json") == written
    assert written.benchmarks == BEFORE
    assert written.date
    assert written.python
    assert baseline.load(tmp_path / "none.json") == baseline.NOTHING


def test_the_readme_shows_the_baseline() -> None:
    text = report.README.read_text(encoding="utf-8")
    assert report.with_results(text, baseline.load()) == text


def test_a_readme_without_a_place_for_the_table_is_an_error() -> None:
    with pytest.raises(ValueError, match="no place for the table"):
        report.with_results("# Benchmarks\n", baseline.NOTHING)


def test_every_specific_tolerance_names_a_benchmark_and_a_reason() -> None:
    assert set(TOLERANCES) <= set(baseline.load().benchmarks)
    assert all(reason for _, reason in REASONS.values())
