"""Whether figures of this machine may be judged, for benchmarks and load runs alike. Pure."""

from __future__ import annotations

from dataclasses import dataclass

QUIET = 0.15
"""Cores that other processes may use. With more, Python slows down more than a verification does: both threads of a
core are busy, and caches are shared. On two cores with ten runnable processes unchanged code took up to 75 % more."""


def disturbs(others: float) -> bool:
    """Whether other processes, which used so many cores, may have slowed the code down."""
    return others > QUIET


@dataclass(frozen=True)
class Verdict:
    """Of one run: a line for people, and whether the exit code is 1."""

    failed: bool
    line: str


def judge(reached: float, at_least: float, unit: str, errors: int, others: float | None) -> Verdict:
    """Errors fail at any rate. A low rate fails unless other processes disturbed the run.

    `others` is the number of cores that other processes used, None if the processes of the run are not all known.
    """
    if errors:
        return Verdict(True, f"FAILED: errors: {errors}")
    if reached >= at_least:
        return Verdict(False, f"passed: at least {at_least:.0f} {unit} and no errors")
    low = f"{reached:.0f} {unit} are below {at_least:.0f}"
    if others is not None and disturbs(others):
        return Verdict(
            False,
            f"not judged: {low}, but other processes took {others:.2f} cores; repeat when the machine is quiet",
        )
    return Verdict(True, f"FAILED: {low}")
