"""The picture of one run: all benchmarks against their baseline, the rounds of one over time and as a histogram."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

import pygal

from bench.comparison import Verdict
from loadtest import charts

_WHOLE_SERVER = "complete challenge over tls"
_ROW = 26
_MICROSECONDS = 1e6


def draw(verdicts: Sequence[Verdict], rounds: Mapping[str, Sequence[float]], file: Path) -> None:
    """Writes an SVG. `rounds` has the seconds of one operation, of each benchmark in the order of its rounds.

    The rounds are those of a complete challenge, or of the last benchmark of a run without it.
    """
    name = _WHOLE_SERVER if _WHOLE_SERVER in rounds else list(rounds)[-1]
    times = [seconds * _MICROSECONDS for seconds in rounds[name]]
    over_time = pygal.Line(
        **charts.options(f"{name}: µs of an operation, by round", 300, show_legend=False, show_dots=False),
        x_labels=[str(index) for index in range(len(times))],
        x_labels_major_every=max(1, len(times) // 10),
    )
    over_time.add(name, times)
    histogram = charts.histogram(f"{name}: number of rounds by µs of an operation", Counter(times))
    charts.write("Benchmarks", [*_changes(verdicts), over_time, histogram], file)


def _changes(verdicts: Sequence[Verdict]) -> list[pygal.HorizontalBar]:
    changes = {verdict.name: verdict.change for verdict in verdicts if verdict.change is not None}
    if not changes:
        return []
    chart = pygal.HorizontalBar(
        **charts.options(
            "Multiples of a verification against the baseline, %: less is faster",
            120 + _ROW * len(changes),
            show_legend=False,
            # Drawn from the bottom up.
            x_labels=[*reversed(changes)],
            show_minor_x_labels=True,
        ),
    )
    chart.add("change", [round(change * 100, 1) for change in reversed(changes.values())])
    return [chart]
