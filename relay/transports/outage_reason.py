"""Which reasons of an outage of a provider are logged."""

from __future__ import annotations

import time
from collections.abc import Callable

AGAIN_SECONDS = 60.0
"""Connections of one pool may fail for different reasons in turn: a change is logged at most once in this time."""


class OutageReason:
    """The first reason of an outage, and later ones that differ; `monotonic` gives seconds."""

    def __init__(self, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._monotonic = monotonic
        self._logged: tuple[str, float] | None = None

    def is_news(self, reason: str) -> bool:
        """Whether the caller has to log this failure."""
        now = self._monotonic()
        if self._logged is not None and (reason == self._logged[0] or now - self._logged[1] < AGAIN_SECONDS):
            return False
        self._logged = reason, now
        return True

    def ended(self) -> bool:
        """Whether a failure was logged since the last call."""
        was_logged, self._logged = self._logged is not None, None
        return was_logged
