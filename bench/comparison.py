"""From figures to verdicts: which benchmarks exceed the baseline. Pure functions of values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Literal

from loadtest.verdict import disturbs

TOLERANCE = 0.25
"""The share by which a multiple may exceed its baseline."""

Unit = Literal["s", "bytes"]


@dataclass(frozen=True)
class Figure:
    """One result: `best` in seconds or bytes, and `multiple`, which is compared with the baseline.

    The unit of a time's multiple is one raw P-256 verification; the unit of bytes, which are counted, is one byte.
    `others` is the number of cores that other processes used during the measurement.
    """

    best: float
    unit: Unit
    multiple: float
    others: float = 0.0


class Outcome(Enum):
    """The last column of the table of a run."""

    AS_BEFORE = ""
    FASTER = "less than before: renew the baseline"
    SLOWER = "REGRESSION"
    DISTURBED = "slower, but not judged: other processes used the machine"
    NEW = "new"
    NOT_RUN = "NOT RUN"


@dataclass(frozen=True)
class Verdict:
    """The verdict on one benchmark; `figure` is None if it did not run, `baseline` if it is new."""

    name: str
    outcome: Outcome
    figure: Figure | None
    baseline: Figure | None

    @property
    def failed(self) -> bool:
        return self.outcome in {Outcome.SLOWER, Outcome.NOT_RUN}

    @property
    def change(self) -> float | None:
        """As a share of the baseline: 0.3 is 30 % more."""
        if self.figure is None or self.baseline is None:
            return None
        return self.figure.multiple / self.baseline.multiple - 1


def is_over(figure: Figure, baseline: Figure | None, tolerance: float) -> bool:
    """Whether the figure takes more than its baseline and the tolerance allow."""
    return baseline is not None and figure.multiple > baseline.multiple * (1 + tolerance)


def is_disturbed(figure: Figure) -> bool:
    """Whether other processes may have slowed the code down. Bytes are not affected."""
    return figure.unit == "s" and disturbs(figure.others)


def compare(
    figures: Mapping[str, Figure], baseline: Mapping[str, Figure], tolerances: Mapping[str, float], *, whole: bool
) -> list[Verdict]:
    """A verdict for each benchmark of the run, in its order, and for each missing one of the baseline.

    The default tolerance is TOLERANCE. Without `whole` only some benchmarks were selected, and none is missing.
    """
    verdicts = [
        Verdict(name, _outcome(figure, baseline.get(name), tolerances.get(name, TOLERANCE)), figure, baseline.get(name))
        for name, figure in figures.items()
    ]
    missing = [name for name in baseline if whole and name not in figures]
    return verdicts + [Verdict(name, Outcome.NOT_RUN, None, baseline[name]) for name in missing]


def _outcome(figure: Figure, baseline: Figure | None, tolerance: float) -> Outcome:
    if baseline is None:
        return Outcome.NEW
    if is_over(figure, baseline, tolerance):
        return Outcome.DISTURBED if is_disturbed(figure) else Outcome.SLOWER
    return Outcome.FASTER if is_over(baseline, figure, tolerance) else Outcome.AS_BEFORE
