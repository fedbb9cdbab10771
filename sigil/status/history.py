"""From the samples of successive scrapes to the readings of the figures. Memory is bounded for any answer."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Mapping
from typing import Literal, NamedTuple

from sigil.serving.probes.exposition import Sample, parse
from sigil.status.figures import Figure, Table

Level = Literal["", "warn", "bad"]
Samples = Mapping[str, list[Sample]]
# Increases of one figure between two scrapes: by the upper bound of a bucket, without buckets by "".
Increase = dict[str, float]

_MAX_SCRAPES = 600
_MAX_BUCKETS = 100
_MAX_TEXT = 64
_DAY = 86400


class Reading(NamedTuple):
    """`value` is None while there is none: the metric is absent, or nothing happened yet."""

    value: float | str | None = None
    also: float | None = None
    level: Level = ""


class _Step(NamedTuple):
    """Between two scrapes, in seconds of a monotonic clock."""

    began: float
    ended: float
    increases: Mapping[str, Increase]


class History:
    """`readings` and `past` by the id of a figure; `past` has the values of earlier scrapes, the oldest first."""

    def __init__(self, table: Table) -> None:
        self._table = table
        self._names = table.names()
        self._steps: deque[_Step] = deque(maxlen=_MAX_SCRAPES)
        self._before: Samples | None = None
        self._at = 0.0
        self.readings: dict[str, Reading] = {figure.id: Reading() for figure in table.figures()}
        self.past: dict[str, deque[float]] = {figure.id: deque(maxlen=table.kept) for figure in table.figures()}

    def add(self, text: str, at: float, now: float) -> bool:
        """One answer of /metrics, `at` in monotonic seconds and `now` in Unix seconds. False if it has no such metric,
        and is not counted.
        """
        samples = parse(text, self._names)
        if not samples:
            return False
        if self._before is not None and at > self._at:
            increases = {
                figure.id: _increase(figure, self._before, samples)
                for figure in self._table.figures()
                if figure.kind in {"rate", "count", "quantile"}
            }
            self._steps.append(_Step(self._at, at, increases))
        self._before, self._at = samples, at
        for figure in self._table.figures():
            reading = _finite(self._reading(figure, samples, now))
            self.readings[figure.id] = reading._replace(level=_level(figure, reading))
            if isinstance(reading.value, float):
                self.past[figure.id].append(reading.value)
        return True

    def _reading(self, figure: Figure, samples: Samples, now: float) -> Reading:
        matching = _matching(figure, samples)
        if figure.kind == "label":
            texts = [sample.labels.get(figure.name, "") for sample in matching if sample.value == 1]
            return Reading(texts[0][:_MAX_TEXT] if texts else None)
        if figure.kind == "quantile":
            increase, _ = self._recent(figure)
            return Reading(_quantile(0.99, increase), _quantile(0.5, increase))
        # Of a counter whose labels appear with their first event, no sample is none of them.
        if not matching and (figure.kind not in {"rate", "count"} or not samples.get(figure.metric)):
            return Reading()
        total = sum((sample.value for sample in matching), 0.0)
        if figure.kind == "rate":
            increase, seconds = self._recent(figure)
            return Reading(increase.get("", 0.0) / seconds) if seconds else Reading()
        if figure.kind == "count":
            increase, seconds = self._recent(figure)
            return Reading(total, increase.get("", 0.0) if seconds else None)
        if figure.kind == "ratio":
            over = sum(sample.value for sample in samples.get(figure.over, ()))
            return Reading(100 * total / over) if over > 0 else Reading()
        if figure.kind == "since":
            return Reading(max(0.0, now - total))
        if figure.kind == "until":
            return Reading((total - now) / _DAY)
        return Reading(total)

    def _recent(self, figure: Figure) -> tuple[Increase, float]:
        """The increases in the window of the figure's kind, and the seconds that they cover."""
        sums: Increase = {}
        began = self._at
        for step in reversed(self._steps):
            if self._at - began >= self._table.windows[figure.kind]:
                break
            began = step.began
            for bound, value in step.increases[figure.id].items():
                sums[bound] = sums.get(bound, 0.0) + value
        return sums, self._at - began


def _finite(reading: Reading) -> Reading:
    """Sums and quotients of samples that are finite may not be."""
    numbers = (number for number in reading[:2] if isinstance(number, float))
    return reading if all(map(math.isfinite, numbers)) else Reading()


def _matching(figure: Figure, samples: Samples) -> list[Sample]:
    name = next(figure.metrics())
    return [sample for sample in samples.get(name, ()) if _matches(figure, sample)]


def _matches(figure: Figure, sample: Sample) -> bool:
    return all(
        any(_equals(wanted, sample.labels.get(label, "")) for wanted in values)
        for label, values in figure.where.items()
    )


def _equals(wanted: str, value: str) -> bool:
    return value.startswith(wanted[:-1]) if wanted.endswith("*") else value == wanted


def _increase(figure: Figure, before: Samples, samples: Samples) -> Increase:
    """A counter that is smaller than before began again at zero, and so did one that is new."""
    known = {sample.series: sample.value for sample in _matching(figure, before)}
    sums: Increase = {}
    for sample in _matching(figure, samples):
        earlier = known.get(sample.series, 0.0)
        bound = sample.labels.get("le", "") if figure.kind == "quantile" else ""
        if bound in sums or len(sums) < _MAX_BUCKETS:
            sums[bound] = sums.get(bound, 0.0) + sample.value - (earlier if earlier <= sample.value else 0.0)
    return sums


def _quantile(share: float, increase: Increase) -> float | None:
    """Linear within a bucket, as histogram_quantile of Prometheus; beyond the last bound, that bound."""
    buckets = sorted((_bound(text), count) for text, count in increase.items())
    if len(buckets) < 2 or buckets[-1][0] != math.inf or buckets[-1][1] <= 0:
        return None
    rank = share * buckets[-1][1]
    lower = below = 0.0
    for bound, count in buckets:
        if bound == math.inf:
            break
        if count >= rank:
            return lower + (bound - lower) * (rank - below) / (count - below) if count > below else bound
        lower, below = bound, count
    return lower


def _bound(text: str) -> float:
    """NaN would leave the order undefined, so another text is infinite."""
    try:
        bound = float(text)
    except ValueError:
        return math.inf
    return math.inf if math.isnan(bound) else bound


def _level(figure: Figure, reading: Reading) -> Level:
    if isinstance(reading.value, str):
        return "warn" if reading.value == figure.warn_text else ""
    value = reading.also if figure.kind == "count" else reading.value
    if value is None:
        return ""
    if _beyond(value, figure.bad_above, figure.bad_below):
        return "bad"
    return "warn" if _beyond(value, figure.warn_above, figure.warn_below) else ""


def _beyond(value: float, above: float | None, below: float | None) -> bool:
    """An offset counts in both directions."""
    return (above is not None and abs(value) >= above) or (below is not None and value < below)
