"""When a listener tries again, and what it measures by."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

FIRST_SECONDS, MOST_SECONDS = 1.0, 60.0
SOON_SECONDS = 5.0
"""After a relay's orderly shutdown: another worker or its successor is there at once, and all devices come."""
STABLE_SECONDS = 60.0
SILENCE_SECONDS = 65.0
"""The relay pings every 25 s: two lost pings and some."""
_HALVINGS = 16


@dataclass(frozen=True)
class ListenerTiming:
    """What tests replace: time, sleep and chance."""

    clock: Callable[[], float] = time.time
    monotonic: Callable[[], float] = time.monotonic
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep
    uniform: Callable[[float, float], float] = random.uniform
    silence_seconds: float = SILENCE_SECONDS

    def backoff(self) -> Backoff:
        return Backoff(self.uniform)


class Backoff:
    """Exponential with full jitter: thousands of devices that lost one relay must not come back as one.

    The caller resets it after a stable time and not after a success: a relay that accepts and then fails at once
    would be asked every second otherwise.
    """

    def __init__(self, uniform: Callable[[float, float], float]) -> None:
        self._uniform, self._failures = uniform, 0

    def next(self) -> float:
        ceiling = min(MOST_SECONDS, FIRST_SECONDS * 2 ** min(self._failures, _HALVINGS))
        self._failures += 1
        return self._uniform(0.0, ceiling)

    def soon(self) -> float:
        return self._uniform(0.0, SOON_SECONDS)

    def reset(self) -> None:
        self._failures = 0
