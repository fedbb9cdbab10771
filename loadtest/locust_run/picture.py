"""The picture of one run: completed challenges and their latency over time, and a histogram of the latency."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pygal

from loadtest import charts
from loadtest.locust_run.outcome import merged, percentile
from loadtest.locust_run.report import Run

_SHARES = {"p50": 0.5, "p95": 0.95, "p99": 0.99}


def draw(run: Run, title: str, file: Path) -> None:
    """Writes an SVG. A second without a completed challenge is a gap in the latency and 0 in the rate."""
    latency = run.outcome.latency
    first = min(latency, default=0)
    seconds = range(first, first + run.seconds)
    axis = {
        "x_labels": [str(second - first) for second in seconds],
        "x_labels_major_every": max(1, len(seconds) // 10),
        "show_dots": False,
    }
    over_time = pygal.Line(**charts.options(f"{title}: latency of complete challenges, ms, by second", 340, **axis))
    for name, share in _SHARES.items():
        over_time.add(name, [_percentile(latency.get(second, {}), share) for second in seconds])
    rate = pygal.Line(**charts.options("Complete challenges per second", 240, show_legend=False, **axis))
    rate.add("complete", [sum(latency.get(second, {}).values()) for second in seconds])
    times = merged(latency.values())
    histogram = charts.histogram("Number of complete challenges by latency, ms", times)
    charts.write(title, [over_time, rate, histogram], file)


def _percentile(times: Mapping[int, int], share: float) -> float | None:
    return percentile(times, share) if times else None
