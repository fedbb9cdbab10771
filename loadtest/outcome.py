"""What a Locust run is told and what it tells, and how that is read. Pure: no Locust, no processes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec

from sigil.protocol.keys import Suite

CONNECT, CREATE, ANSWER, STATUS, COMPLETE = KINDS = ("connect", "create", "answer", "status", "complete")
_QUIET = 0.1
_WARM_UP = 10
"""One second in so many is not counted in the rate, and at least the first."""


class Settings(msgspec.Struct, frozen=True):
    """To the scenario, as JSON in the environment; the API key goes beside it."""

    suite: Suite
    ca: str | None
    seconds: int
    outcome: str


class Entry(msgspec.Struct, frozen=True):
    """One kind of request: how many took so many milliseconds, and how many ended in a Unix second."""

    name: str
    requests: int
    failures: int
    times: dict[int, int]
    per_second: dict[int, int]


class Fault(msgspec.Struct, frozen=True):
    what: str
    times: int


class Timed(msgspec.Struct, frozen=True):
    """CPU time of some of the devices' signatures."""

    count: int = 0
    seconds: float = 0.0

    def __add__(self, other: Timed) -> Timed:
        return Timed(self.count + other.count, self.seconds + other.seconds)

    @property
    def mean(self) -> float:
        return self.seconds / self.count if self.count else 0.0


class Outcome(msgspec.Struct, frozen=True):
    """Of one run."""

    entries: list[Entry]
    faults: list[Fault]
    signatures: Timed

    def entry(self, name: str) -> Entry:
        return next((entry for entry in self.entries if entry.name == name), Entry(name, 0, 0, {}, {}))


def percentile(times: Mapping[int, int], share: float) -> float:
    """The least time that `share` of all did not exceed; not a number when there were none."""
    left = share * sum(times.values())
    for time in sorted(times):
        left -= times[time]
        if left <= 0:
            return time
    return float("nan")


def window(outcome: Outcome, seconds: int) -> range:
    """The whole Unix seconds that count: without the warm-up, and whether or not anything ended in them."""
    begun = min((second for entry in outcome.entries for second in entry.per_second), default=0)
    return range(begun + max(1, seconds // _WARM_UP), begun + seconds)


def rate(outcome: Outcome, seconds: int) -> float:
    """Complete challenges a second."""
    counted = window(outcome, seconds)
    per_second = outcome.entry(COMPLETE).per_second
    return sum(per_second.get(second, 0) for second in counted) / len(counted)


def faults(outcome: Outcome, users: int) -> list[Fault]:
    """What Locust recorded, and what it cannot have seen: users that never came, challenges without an end."""
    found = list(outcome.faults)
    failed = sum(entry.failures for entry in outcome.entries)
    if (told := sum(fault.times for fault in found)) < failed:
        found.append(Fault("failures that Locust did not name", failed - told))
    if (connected := outcome.entry(CONNECT).requests) != users:
        found.append(Fault(f"{users} users were asked for and {connected} came", 1))
    asked, ended = (outcome.entry(name) for name in (CREATE, COMPLETE))
    lost = asked.requests - ended.requests - sum(outcome.entry(name).failures for name in (CREATE, ANSWER, STATUS))
    if lost:
        found.append(Fault("challenges neither completed nor failed", abs(lost)))
    if not ended.requests:
        found.append(Fault("no challenge was completed", 1))
    return found


def verdict(reached: float, at_least: float, found: Sequence[Fault], others: float = 0.0) -> str | None:
    """Why a run is not good enough; None when it is. `others` is the share of the machine that went elsewhere."""
    if found:
        return f"errors: {sum(fault.times for fault in found)}"
    if reached < at_least:
        told = f"{reached:.0f} complete challenges/s are under {at_least:.0f}"
        return told + f"; others took {others:.0%} of the machine: repeat it when they are quiet" * (others > _QUIET)
    return None
