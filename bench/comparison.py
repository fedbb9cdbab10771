"""From figures to verdicts: what takes more than the baseline allows. Pure functions of values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Literal

TOLERANCE = 0.25
"""The share by which a multiple may exceed its baseline."""
QUIET = 0.15
"""Cores that others may take. With more, Python is slower than a verification is: both threads of a core are busy, and
caches are shared. On two cores with ten runnable processes unchanged code took up to 75 % more."""

Unit = Literal["s", "bytes"]


@dataclass(frozen=True)
class Figure:
    """One result: `best` in seconds or bytes, and `multiple`, which is what is compared.

    A time's multiple is of one raw P-256 verification; bytes are counted and not timed, so theirs is of one byte.
    `others`: how many cores were taken by processes that are not of this run while it was measured.
    """

    best: float
    unit: Unit
    multiple: float
    others: float = 0.0


class Outcome(Enum):
    """What the table says of a benchmark."""

    AS_BEFORE = ""
    FASTER = "less than before: renew the baseline"
    SLOWER = "REGRESSION"
    DISTURBED = "slower, and not judged: others used the machine"
    NEW = "new"
    NOT_RUN = "NOT RUN"


@dataclass(frozen=True)
class Verdict:
    """What became of one benchmark; `figure` is None when it did not run, `baseline` when it is new."""

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


def over(figure: Figure, baseline: Figure | None, tolerance: float) -> bool:
    """Whether the figure takes more than its baseline and the tolerance allow."""
    return baseline is not None and figure.multiple > baseline.multiple * (1 + tolerance)


def disturbed(figure: Figure) -> bool:
    """Whether a time says more about the neighbours than about the code. Bytes are what they are."""
    return figure.unit == "s" and figure.others > QUIET


def compare(
    figures: Mapping[str, Figure], baseline: Mapping[str, Figure], tolerances: Mapping[str, float], *, whole: bool
) -> list[Verdict]:
    """A verdict for each benchmark of either side, in the order of the run.

    Where `tolerances` names none it is TOLERANCE. Without `whole` only some were asked for, and no one is missed.
    """
    verdicts = [
        Verdict(name, _outcome(figure, baseline.get(name), tolerances.get(name, TOLERANCE)), figure, baseline.get(name))
        for name, figure in figures.items()
    ]
    missed = [name for name in baseline if whole and name not in figures]
    return verdicts + [Verdict(name, Outcome.NOT_RUN, None, baseline[name]) for name in missed]


def _outcome(figure: Figure, baseline: Figure | None, tolerance: float) -> Outcome:
    if baseline is None:
        return Outcome.NEW
    if over(figure, baseline, tolerance):
        return Outcome.DISTURBED if disturbed(figure) else Outcome.SLOWER
    return Outcome.FASTER if over(baseline, figure, tolerance) else Outcome.AS_BEFORE
