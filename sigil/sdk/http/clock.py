"""Time and randomness of a client; tests pass their own."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass


def _sleep(seconds: float) -> None:
    """Looked up at each call: gevent's monkey.patch_all() replaces `time.sleep`, perhaps after this import."""
    time.sleep(seconds)


@dataclass(frozen=True)
class Clock:
    """`monotonic` returns seconds, the sleeps take them; `uniform(low, high)` is a random number between the two."""

    monotonic: Callable[[], float] = time.monotonic
    sleep: Callable[[float], object] = _sleep
    async_sleep: Callable[[float], Awaitable[object]] = asyncio.sleep
    # From the system: with the random module, all forked workers of a backend would draw the same numbers.
    uniform: Callable[[float, float], float] = secrets.SystemRandom().uniform
