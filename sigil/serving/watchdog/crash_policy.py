"""How long a dead worker's slot waits for the next worker, and when the server gives up (decision 0023)."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

from sigil.serving.watchdog.watchdog import CHECK_SECONDS


@dataclass(frozen=True)
class CrashPolicy:
    """All times in seconds.

    After the n-th consecutive death in a slot, the restart waits `delays[n]`, later the last delay. A worker that was
    ready and lived for `stable` resets the count. The server gives up after `deaths` within `window` before any worker
    was ever ready, after `restarts` deaths of one slot within `restart_window`, and when no worker was ready for
    `unserved`.
    """

    delays: tuple[float, ...] = (0, 0.1, 0.2, 0.5, 1, 2, 5)
    stable: float = 60
    deaths: int = 10
    window: float = 60
    restarts: int = 60
    restart_window: float = 600
    unserved: float = 600

    def delay(self, deaths: int) -> float:
        return self.delays[min(deaths, len(self.delays) - 1)]


@dataclass
class DeathCount:
    """`limit` deaths within `window` seconds."""

    limit: int
    window: float
    times: deque[float] = field(default_factory=deque)

    def reached(self, now: float) -> bool:
        """Count a death at `now`; True when it reaches the limit."""
        self.times.append(now)
        while self.times[0] < now - self.window:
            self.times.popleft()
        return len(self.times) >= self.limit

    @property
    def figures(self) -> dict[str, float]:
        return {"deaths": len(self.times), "seconds": round(self.times[-1] - self.times[0], 1)}


class Unserved:
    """The seconds without a ready worker, summed up from step to step: a pause of the master does not count."""

    def __init__(self, limit: float, now: float) -> None:
        self._limit = limit
        self._stepped_at = now
        self.seconds = 0.0

    def reached(self, now: float, *, ready: bool) -> bool:
        passed, self._stepped_at = min(now - self._stepped_at, 2 * CHECK_SECONDS), now
        self.seconds = 0 if ready else self.seconds + passed
        return self.seconds >= self._limit
