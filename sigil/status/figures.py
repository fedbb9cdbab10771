"""The table of figures: `sigil/pages/status/figures.json`.

| kind | value |
| --- | --- |
| gauge | the sum of the samples of `metric` that match `where` |
| rate | the increase per second in the last seconds |
| count | the total since the server started; its `also` is the increase in the last minutes: limits apply to it |
| quantile | p99 of a histogram in the last minute; its `also` is p50 |
| ratio | `metric` in percent of `over` |
| since, until | seconds from or to the Unix time in `metric`, in `unit` |
| label | the label `name` of the sample that is 1 |

In `where`, a value that ends in `*` is the beginning of a label's value.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from importlib.resources import files
from typing import Any, Literal

Kind = Literal["gauge", "rate", "count", "quantile", "ratio", "since", "until", "label"]


@dataclass(frozen=True)
class Figure:
    id: str
    label: str
    kind: Kind
    unit: str
    metric: str
    where: Mapping[str, list[str]] = field(default_factory=dict)
    over: str = ""
    name: str = ""
    warn_above: float | None = None
    bad_above: float | None = None
    warn_below: float | None = None
    bad_below: float | None = None
    warn_text: str | None = None
    advice: str = ""
    alert: str = ""

    def metrics(self) -> Iterator[str]:
        """The names of the samples that it is computed from."""
        yield f"{self.metric}_bucket" if self.kind == "quantile" else self.metric
        if self.over:
            yield self.over


@dataclass(frozen=True)
class Table:
    """`windows` in seconds by kind; `kept` is how many values a sparkline has."""

    windows: Mapping[str, float]
    kept: int
    header: tuple[Figure, ...]
    groups: tuple[tuple[str, tuple[Figure, ...]], ...]

    def figures(self) -> Iterator[Figure]:
        yield from self.header
        for _, group in self.groups:
            yield from group

    def names(self) -> frozenset[str]:
        return frozenset(name for figure in self.figures() for name in figure.metrics())


def load() -> Table:
    return parse(json.loads((files("sigil.pages") / "status" / "figures.json").read_text(encoding="utf-8")))


def parse(document: Mapping[str, Any]) -> Table:
    return Table(
        document["windows"],
        document["kept"],
        tuple(Figure(**row) for row in document["header"]),
        tuple((group["title"], tuple(Figure(**row) for row in group["figures"])) for group in document["groups"]),
    )
