"""What the relay counts (docs/operations.md). To be imported in workers alone, and made once in a process."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

from prometheus_client import Counter, Gauge, Histogram
from prometheus_client.metrics_core import Metric

from sigil.protocol.errors import Problem, Retryable
from sigil.serving.metrics import HttpMetrics, MetricsOfService, Scrape

Figures = Callable[[], Iterator[Metric]]


class Metrics:
    """The instruments of this process, and the resource that shows those of all, which count in `directory`."""

    def __init__(self, *, version: str, directory: Path, token: str | None, figures: Figures) -> None:
        self.http = HttpMetrics("relay")
        self.resource = MetricsOfService(Scrape("relay", version, directory, figures), token)
        self._pushes = Counter("relay_push", "Attempts by outcome.", ["provider", "status"], registry=None)
        self._seconds = Histogram("relay_push_duration_seconds", "Of one attempt.", ["provider"], registry=None)
        self._limited = Counter("relay_rate_limited", "Requests refused for a limit.", ["limit"], registry=None)
        self._sockets = Gauge(
            "relay_websockets", "Devices that are connected.", multiprocess_mode="livesum", registry=None
        )
        self._limited.labels("address")

    def attempt(self, provider: str, status: str, seconds: float) -> None:
        self._pushes.labels(provider, status).inc()
        self._seconds.labels(provider).observe(seconds)

    def delivered(self, seconds: float) -> None:
        """A push that a device acknowledged so long after it was taken."""
        self.attempt("websocket", "delivered", seconds)

    def connections(self, count: int) -> None:
        self._sockets.set(count)

    def problem(self, error: Problem) -> None:
        if isinstance(error, Retryable) and error.limit:
            self._limited.labels(error.limit).inc()
