"""Memory, descriptors, threads and gauges of the installation over time, and whether any of them grows."""

from __future__ import annotations

import asyncio
import statistics
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import combinations
from pathlib import Path

import httpx

from loadtest.soak.ledger import Violation
from loadtest.soak.stack import METRICS_TOKEN, Stack

GAUGES = (
    "sigil_challenges_pending", "sigil_mpa_pending", "sigil_push_outbox", "sigil_webhook_outbox",
    "sigil_webhook_failures", "sigil_long_polls", "sigil_store_bytes", "relay_pushes_queued", "relay_websockets",
)  # fmt: skip
EMPTY_AT_THE_END = (
    "sigil_challenges_pending", "sigil_mpa_pending", "sigil_push_outbox", "sigil_webhook_outbox",
    "sigil_webhook_failures", "sigil_long_polls",
)  # fmt: skip
MIN_FIT_SECONDS = 600.0
"""Over a shorter time, what a process needs for its first requests looks like growth."""
_WARM_UP_SHARE = 0.2
_MAX_POINTS = 200
# Growth over the whole fit that is permitted: a share of the median, or this much.
_PERMITTED_SHARE = 0.25
_PERMITTED = {"anon_mib": 24.0, "pss_mib": 48.0, "descriptors": 64.0, "threads": 8.0, "relay_pushes_queued": 500.0}
# The store keeps challenges for 10 minutes and requests for 24 hours: 400 bytes each were measured. A request of five
# members takes 1.4 KB.
_STORE_BYTES, _STORE_BYTES_EACH = 1 << 20, 2048
_DESCRIPTORS_LEFT = 32
"""More descriptors of a process at the end than at the start are connections that were never released."""

Sample = tuple[float, float]


@dataclass(frozen=True)
class Fit:
    """`growth` is the slope times the length of the fit, in the unit of the series."""

    median: float
    growth: float
    per_hour: float


def fit(series: Sequence[Sample]) -> Fit:
    """The median slope between all pairs of points (Theil-Sen): a flood in some samples does not move it."""
    step = max(1, len(series) // _MAX_POINTS)
    points = series[::step]
    slopes = [(v2 - v1) / (t2 - t1) for (t1, v1), (t2, v2) in combinations(points, 2) if t2 > t1]
    slope = statistics.median(slopes) if slopes else 0.0
    length = points[-1][0] - points[0][0] if points else 0.0
    return Fit(statistics.median([value for _, value in points] or [0.0]), slope * length, slope * 3600)


def growth_violations(series: Mapping[str, Sequence[Sample]]) -> list[Violation]:
    """Series that grow by more than is permitted, after a warm-up. Names are "group figure"."""
    found = []
    for name, samples in series.items():
        permitted = _PERMITTED.get(name.rpartition(" ")[2])
        steady = _after_warm_up(samples)
        if permitted is None or not steady or steady[-1][0] - steady[0][0] < MIN_FIT_SECONDS:
            continue
        fitted = fit(steady)
        if fitted.growth > max(permitted, _PERMITTED_SHARE * fitted.median):
            text = f"grows by {fitted.per_hour:.1f} an hour; the median is {fitted.median:.1f}"
            found.append(Violation("growth", name, text))
    return found


def _after_warm_up(samples: Sequence[Sample]) -> Sequence[Sample]:
    if not samples:
        return samples
    begin = samples[0][0] + _WARM_UP_SHARE * (samples[-1][0] - samples[0][0])
    return [sample for sample in samples if sample[0] >= begin]


def read_process(pid: int) -> dict[str, float] | None:
    """Private (anonymous) memory, resident and proportional memory in MiB, descriptors and threads; None if it ended.

    Resident memory has the pages of the session store in it, which all workers map: growth shows in `anon_mib`.
    """
    folder = Path(f"/proc/{pid}")
    try:
        status = dict(
            line.split(":", 1) for line in (folder / "status").read_text(encoding="utf-8").splitlines() if ":" in line
        )
        rollup = (folder / "smaps_rollup").read_text(encoding="utf-8")
        descriptors = sum(1 for _ in (folder / "fd").iterdir())
        return {
            "anon_mib": int(status["RssAnon"].split()[0]) / 1024,
            "rss_mib": int(status["VmRSS"].split()[0]) / 1024,
            "pss_mib": int(rollup.partition("\nPss:")[2].split()[0]) / 1024,
            "descriptors": descriptors,
            "threads": int(status["Threads"]),
        }
    except (OSError, KeyError, ValueError, IndexError):
        return None


@dataclass
class Watch:
    """Samples of all processes and gauges. Of several workers the mean counts, since faults replace them."""

    stack: Stack
    series: dict[str, list[Sample]] = field(default_factory=dict)
    peaks: dict[str, float] = field(default_factory=dict)
    unreadable: int = 0

    async def run(self, interval: float, stopped: asyncio.Event) -> None:
        while not stopped.is_set():
            await self.sample()
            with suppress(TimeoutError):
                await asyncio.wait_for(stopped.wait(), interval)

    async def sample(self) -> None:
        at = time.time()
        for name, value in (await asyncio.to_thread(self._processes)).items():
            self._add(name, at, value)
        for name, value in (await self.gauges()).items():
            self._add(name, at, value)

    async def gauges(self) -> dict[str, float]:
        """Empty for a service that does not answer now."""
        found: dict[str, float] = {}
        headers = {"Authorization": f"Bearer {METRICS_TOKEN}"}
        tls = self.stack.tls if self.stack.server.certificate.exists() else True
        for url, verify in ((self.stack.server.url, tls), (self.stack.relay.url, True)):
            transport = httpx.AsyncHTTPTransport(verify=verify, local_address="127.3.1.1")
            try:
                async with httpx.AsyncClient(transport=transport, timeout=10) as client:
                    answer = await client.get(f"{url}/metrics", headers=headers)
            except httpx.HTTPError:
                self.unreadable += 1
                continue
            found |= parse_gauges(answer.text) if answer.status_code == 200 else {}
        return found

    def descriptors(self) -> dict[str, float]:
        """The most descriptors that a process of each group has now."""
        return {
            group: max((figures["descriptors"] for pid in pids if (figures := read_process(pid))), default=0.0)
            for group, pids in self.stack.processes().items()
        }

    def _processes(self) -> dict[str, float]:
        found: dict[str, float] = {}
        for group, pids in self.stack.processes().items():
            figures = [figures for pid in pids if (figures := read_process(pid))]
            for name in figures[0] if figures else ():
                found[f"{group} {name}"] = statistics.mean(each[name] for each in figures)
        return found

    def _add(self, name: str, at: float, value: float) -> None:
        self.series.setdefault(name, []).append((at, value))
        self.peaks[name] = max(value, self.peaks.get(name, 0.0))


def parse_gauges(text: str) -> dict[str, float]:
    """The gauges of GAUGES in Prometheus text, summed over their labels."""
    found: dict[str, float] = {}
    for line in text.splitlines():
        name = line.partition("{")[0].partition(" ")[0]
        if name in GAUGES:
            found[name] = found.get(name, 0.0) + float(line.rpartition(" ")[2])
    return found


def store_violations(peak: float, subjects: int) -> list[Violation]:
    """The session store must hold no more than its challenges and requests take."""
    permitted = _STORE_BYTES + _STORE_BYTES_EACH * subjects
    if peak <= permitted:
        return []
    return [Violation("growth", "sigil_store_bytes", f"{peak:.0f} bytes for {subjects} challenges and requests")]


def kept_descriptors(before: Mapping[str, float], after: Mapping[str, float]) -> list[Violation]:
    return [
        Violation("descriptors kept", group, f"{before[group]:.0f} before the faults, {count:.0f} after all had ended")
        for group, count in after.items()
        if count > before.get(group, 0.0) + _DESCRIPTORS_LEFT
    ]
