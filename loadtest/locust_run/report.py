"""The results of one Locust run as text."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from loadtest.locust_run.outcome import KINDS, Fault, Outcome, percentile, rate
from loadtest.usage import Usage

_SHOWN_FAULTS = 10


@dataclass(frozen=True)
class Run:
    """`verifications` is the number of P-256 verifications per second and core; `usage` covers the counted seconds."""

    outcome: Outcome
    usage: Usage
    seconds: int
    verifications: float
    faults: Sequence[Fault]

    @property
    def rate(self) -> float:
        return rate(self.outcome, self.seconds)

    @property
    def others(self) -> float:
        """Cores used by processes other than Locust and the server, if the server's processes are known."""
        return max(0.0, self.usage.machine - self.usage.cores("locust") - self.usage.cores("server"))


def lines(run: Run) -> Iterator[str]:
    per_second = run.rate
    worth = run.verifications / per_second if per_second else float("inf")
    yield f"  {per_second:.0f} complete challenges/s; one = {worth:.1f} verifications of a core"
    yield f"  {'':<16} {'count':>8} {'p50':>7} {'p95':>7} {'p99':>7} ms"
    for name in KINDS:
        entry = run.outcome.entry(name)
        times = " ".join(f"{percentile(entry.times, share):7.0f}" for share in (0.5, 0.95, 0.99))
        yield f"  {name:<16} {entry.requests:8d} {times}"
    yield f"  errors {sum(fault.times for fault in run.faults)}"
    for fault in run.faults[:_SHOWN_FAULTS]:
        yield f"    {fault.times} × {fault.what}"
    yield from (f"  {line}" for line in run.usage.lines())
    yield from _shares(run)


def _shares(run: Run) -> Iterator[str]:
    cores = os.cpu_count() or 1
    locust, server = run.usage.cores("locust"), run.usage.cores("server")
    idle = max(0.0, cores - run.usage.machine)
    # The processes of a server that this run did not start are unknown.
    parts = {"Locust": locust} | ({"server": server} if server else {}) | {"others": run.others, "idle": idle}
    yield f"  of {cores} cores: " + ", ".join(f"{name} {share / cores:.0%}" for name, share in parts.items())
    if not (run.rate and locust):
        return
    signature = run.outcome.signatures.mean
    yield (
        f"  CPU of a complete challenge: Locust {locust / run.rate * 1e6:.0f} µs, "
        f"including {signature * 1e6:.0f} µs for the device's signature ({signature * run.rate / locust:.0%})"
        + (f"; server {server / run.rate * 1e6:.0f} µs" if server else "")
    )
