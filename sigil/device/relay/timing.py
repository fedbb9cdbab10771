"""The clocks, sleeps and backoff of a listener."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

FIRST_SECONDS, MAX_SECONDS = 1.0, 60.0
SOON_SECONDS = 5.0
"""After an orderly shutdown of the relay: another worker is ready at once, and all devices reconnect."""
STABLE_SECONDS = 60.0
SILENCE_SECONDS = 65.0
"""The relay pings every 25 s: this allows for two lost pings."""
_MAX_DOUBLINGS = 16


@dataclass(frozen=True)
class ListenerTiming:
    """Time, sleep and randomness; tests pass their own."""

    clock: Callable[[], float] = time.time
    monotonic: Callable[[], float] = time.monotonic
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep
    uniform: Callable[[float, float], float] = random.uniform
    silence_seconds: float = SILENCE_SECONDS

    def backoff(self) -> Backoff:
        return Backoff(self.uniform)


class Backoff:
    """Exponential with full jitter: thousands of devices that lost one relay must not reconnect at once.

    The caller resets it after a stable time and not after a success: a device would otherwise reconnect every second to
    a relay that accepts connections and then fails at once.
    """

    def __init__(self, uniform: Callable[[float, float], float]) -> None:
        self._uniform, self._failures = uniform, 0

    def next(self) -> float:
        ceiling = min(MAX_SECONDS, FIRST_SECONDS * 2 ** min(self._failures, _MAX_DOUBLINGS))
        self._failures += 1
        return self._uniform(0.0, ceiling)

    def soon(self) -> float:
        return self._uniform(0.0, SOON_SECONDS)

    def reset(self) -> None:
        self._failures = 0
