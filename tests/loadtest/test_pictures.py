"""The pictures of load runs and benchmarks, and the figures while a run goes on."""

from __future__ import annotations

import io
import sys
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest
from rich.console import Console

from bench import picture as bench_picture
from bench.comparison import Figure, compare
from loadtest import charts
from loadtest.locust_run import picture
from loadtest.locust_run.outcome import Entry, Live, Outcome, Timed, live
from loadtest.locust_run.progress import Progress
from loadtest.locust_run.report import Run
from loadtest.usage import Usage

LATENCY = {100: {10: 5, 30: 1}, 101: {12: 8}, 103: {11: 4, 250: 1}}


def texts(file: Path) -> list[str]:
    root = ET.parse(file).getroot()  # noqa: S314
    assert root.tag.endswith("svg")
    found = [*root.iter()]
    assert not [element for element in found if element.tag.endswith(("script", "image", "foreignObject"))]
    assert not [name for element in found for name in element.attrib if name.endswith(("href", "onload"))]
    return [text for element in found if (text := (element.text or "").strip())]


def run(latency: dict[int, dict[int, int]]) -> Run:
    outcome = Outcome([Entry("complete", 0, 0, {}, {})], [], Timed(), latency)
    return Run(outcome, Usage({}, 0.0, []), 5, 20_000, [])


def test_the_picture_of_a_load_run_has_latency_rate_and_histogram(tmp_path: Path) -> None:
    file = tmp_path / "made" / "run.svg"
    picture.draw(run(LATENCY), "ES256, 64 users", file)
    found = texts(file)
    assert "ES256, 64 users: latency of complete challenges, ms, by second" in found
    assert {
        "p50",
        "p95",
        "p99",
        "Complete challenges per second",
        "Number of complete challenges by latency, ms",
    } < set(found)
    assert [path.name for path in file.parent.iterdir()] == ["run.svg"]


def test_a_run_without_a_complete_challenge_has_a_picture_too(tmp_path: Path) -> None:
    picture.draw(run({}), "ES256", tmp_path / "run.svg")
    assert "Complete challenges per second" in texts(tmp_path / "run.svg")


@pytest.mark.parametrize(
    ("times", "bars"),
    [
        ({}, [("0", 0), ("1", 0), ("over 2", 0)]),
        ({0: 3}, [("0", 3), ("1", 0), ("over 2", 0)]),
        ({1: 90, 2: 8, 1000: 2}, None),
        ({0.25: 10, 0.5: 10, 7.5: 10}, None),
    ],
)
def test_every_time_is_in_one_bar_of_the_histogram(times: dict[float, int], bars: list[tuple[str, int]] | None) -> None:
    chart = charts.histogram("times", times)
    found = list(zip(chart.config.x_labels, chart.raw_series[0][0], strict=True))
    assert sum(number for _, number in found) == sum(times.values())
    assert found[-1][0].startswith("over ")
    if bars is not None:
        assert found[0] == bars[0]


def test_a_few_slow_ones_do_not_make_the_other_bars_narrow() -> None:
    chart = charts.histogram("times", {1: 500, 2: 480, 3: 15, 9000: 5})
    assert chart.config.x_labels[-1] == "over 3.1" or float(chart.config.x_labels[-1].removeprefix("over ")) < 5
    assert chart.raw_series[0][0][-1] == 5


def test_the_picture_of_benchmarks_has_their_changes_and_the_rounds_of_a_complete_challenge(tmp_path: Path) -> None:
    before = {"verify": Figure(60e-6, "s", 1.0)}
    now = {"verify": Figure(90e-6, "s", 1.5), "complete challenge over tls": Figure(700e-6, "s", 12.0)}
    rounds = {"verify": [90e-6, 91e-6], "complete challenge over tls": [700e-6, 800e-6, 750e-6]}
    verdicts = compare(now, before, {}, whole=False)
    bench_picture.draw(verdicts, rounds, tmp_path / "all.svg")
    assert {"verify", "complete challenge over tls: µs of an operation, by round"} < set(texts(tmp_path / "all.svg"))
    bench_picture.draw(verdicts[:1], {"verify": [90e-6]}, tmp_path / "one.svg")
    assert "verify: number of rounds by µs of an operation" in texts(tmp_path / "one.svg")


def test_the_figures_of_a_run_that_goes_on_leave_out_the_seconds_that_are_not_reported_yet() -> None:
    latency = {second: {10: 99, 200: 1} for second in range(100, 120)} | {120: {9000: 1}}
    assert live(latency, 2) == Live(17, 100.0, 10, 10, 2)
    assert live({}, 0) is None
    assert live({100: {5: 1}}, 0) is None


def test_the_progress_is_lines_where_there_is_no_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    output = io.StringIO()
    clock = iter(range(0, 1000, 6))
    monkeypatch.setattr("loadtest.locust_run.progress.time.monotonic", lambda: next(clock))
    with Progress(60, Console(file=output, width=40)) as progress:
        progress.show(None)
        for second in range(4):
            progress.show(Live(second, 1234.6, 30, 90, second))
    lines = output.getvalue().splitlines()
    assert lines
    assert all(line.endswith(f"errors {line.split()[0]}") for line in lines)
    assert lines[0].split()[1:4] == ["of", "60", "s"]


def test_the_progress_is_one_line_on_a_terminal() -> None:
    output = io.StringIO()
    with Progress(60, Console(file=output, width=100, force_terminal=True, legacy_windows=False)) as progress:
        progress.show(Live(3, 1234.6, 30, 90, 0))
        progress._bar.refresh()
    assert "1235/s   p50 30 ms   p99 90 ms   errors 0" in output.getvalue()


def test_no_import_of_the_project_fails_because_of_a_chart() -> None:
    """pygal adds a finder to the interpreter that warns at each import that fails."""
    assert not [finder for finder in sys.meta_path if type(finder).__name__ == "PluginImportFixer"]
