"""Settings and results of a Locust run, and their evaluation. Pure: no Locust, no processes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping

import msgspec

from sigil.protocol.keys import Suite

CONNECT, CREATE, ANSWER, STATUS, COMPLETE = KINDS = ("connect", "create", "answer", "status", "complete")
_LIVE_SECONDS = 4
_WARM_UP = 10
"""The first tenth of the seconds, at least one, is not counted in the rate."""


class Settings(msgspec.Struct, frozen=True):
    """Passed to the scenario as JSON in the environment; the API key is a separate variable."""

    suite: Suite
    ca: str | None
    seconds: int
    outcome: str
    live: str


class Entry(msgspec.Struct, frozen=True):
    """One kind of request: its number by milliseconds, and by the Unix second of its end."""

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


Latency = dict[int, dict[int, int]]
"""Complete challenges by the Unix second of their end, and of each second their number by milliseconds."""


class Live(msgspec.Struct, frozen=True):
    """The figures of a run that goes on. `seconds`: since its first complete challenge; the rate and the times in
    milliseconds are those of the last seconds.
    """

    seconds: int
    rate: float
    p50: float
    p99: float
    errors: int


class Outcome(msgspec.Struct, frozen=True):
    """The results of one run."""

    entries: list[Entry]
    faults: list[Fault]
    signatures: Timed
    latency: Latency

    def entry(self, name: str) -> Entry:
        return next((entry for entry in self.entries if entry.name == name), Entry(name, 0, 0, {}, {}))


def percentile(times: Mapping[int, int], share: float) -> float:
    """The smallest time that `share` of all requests did not exceed; NaN without requests."""
    remaining = share * sum(times.values())
    for time in sorted(times):
        remaining -= times[time]
        if remaining <= 0:
            return time
    return float("nan")


def merged(times: Iterable[Mapping[int, int]]) -> Counter[int]:
    """The sum of several numbers by milliseconds."""
    total: Counter[int] = Counter()
    for each in times:
        total.update(each)
    return total


def live(latency: Latency, errors: int) -> Live | None:
    """The figures of the last _LIVE_SECONDS that all workers of Locust have reported; None before."""
    if not latency:
        return None
    # A worker reports every three seconds: of the newest seconds some reports are missing.
    first, last = min(latency), max(latency) - _LIVE_SECONDS
    recent = range(max(first, last - _LIVE_SECONDS + 1), last + 1)
    if not recent:
        return None
    times = merged(latency.get(second, {}) for second in recent)
    return Live(last - first + 1, times.total() / len(recent), percentile(times, 0.5), percentile(times, 0.99), errors)


def window(outcome: Outcome, seconds: int) -> range:
    """The whole Unix seconds that count for the rate: all after the warm-up, also those without completions."""
    first_second = min((second for entry in outcome.entries for second in entry.per_second), default=0)
    return range(first_second + max(1, seconds // _WARM_UP), first_second + seconds)


def rate(outcome: Outcome, seconds: int) -> float:
    """Complete challenges a second."""
    counted = window(outcome, seconds)
    per_second = outcome.entry(COMPLETE).per_second
    return sum(per_second.get(second, 0) for second in counted) / len(counted)


def faults(outcome: Outcome, users: int) -> list[Fault]:
    """The faults that Locust recorded, and those that it cannot see: missing users, challenges without an end."""
    found = list(outcome.faults)
    failed = sum(entry.failures for entry in outcome.entries)
    if (named := sum(fault.times for fault in found)) < failed:
        found.append(Fault("failures without an error in Locust's report", failed - named))
    if (connected := outcome.entry(CONNECT).requests) != users:
        found.append(Fault(f"{users} users were started and {connected} connected", 1))
    created, completed = (outcome.entry(name) for name in (CREATE, COMPLETE))
    lost = (
        created.requests - completed.requests - sum(outcome.entry(name).failures for name in (CREATE, ANSWER, STATUS))
    )
    if lost:
        found.append(Fault("challenges neither completed nor failed", abs(lost)))
    if not completed.requests:
        found.append(Fault("no challenge was completed", 1))
    return found
