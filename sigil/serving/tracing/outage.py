"""One log line for each outage of the collector, another for a new reason, and one when it is over."""

from __future__ import annotations

import time
from collections.abc import Callable

from sigil.serving import logs

_MAX_REASONS = 8


class ExportFailed(Exception):
    """`reason` is short and holds nothing of a header or of an answer. With `retry` the same batch may pass later, not
    before `after` seconds.
    """

    def __init__(self, reason: str, *, retry: bool, after: float = 0.0, rejected: int | None = None) -> None:
        super().__init__(reason)
        self.reason = reason
        self.retry = retry
        self.after = after
        # Of a batch that was taken in part; None: nothing of it was taken.
        self.rejected = rejected


class OutageLog:
    def __init__(self, endpoint: str, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._endpoint = endpoint
        self._monotonic = monotonic
        self._reasons: set[str] = set()
        self._began = 0.0
        self._dropped = 0

    def failed(self, reason: str) -> bool:
        """Whether the reason is a new one, and was logged."""
        if not self._reasons:
            self._began = self._monotonic()
        if reason in self._reasons or len(self._reasons) >= _MAX_REASONS:
            return False
        self._reasons.add(reason)
        logs.warn(
            "otlp_export_failed",
            endpoint=self._endpoint,
            reason=reason,
            message="traces are not exported, and spans are dropped when the queue is full; requests are not affected",
        )
        return True

    def dropped(self, count: int) -> None:
        self._dropped += count

    def succeeded(self) -> None:
        if not self._reasons:
            return
        self._reasons.clear()
        logs.info(
            "otlp_export_recovered",
            endpoint=self._endpoint,
            seconds=round(self._monotonic() - self._began, 1),
            dropped=self._dropped,
        )
        self._dropped = 0
