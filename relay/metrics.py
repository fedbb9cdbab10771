"""The metrics of the relay (docs/observability.md). Imported in workers only, and created once in a process."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from prometheus_client import Counter, Gauge, Histogram
from prometheus_client.metrics_core import Metric

from relay.transports import Load
from sigil.protocol.errors import Problem, Retryable
from sigil.serving.http.metrics import HttpMetrics, MetricsResource, Scrape
from sigil.serving.http.metrics_access import MetricsGuard
from sigil.serving.process.metrics_memory import MetricsMemory
from sigil.serving.watchdog.process_table import ProcessFigures

Figures = Callable[[], Iterator[Metric]]

_HOUR, _DAY = 3600, 86_400
_AGES = (_HOUR, _DAY, 7 * _DAY, 30 * _DAY, 90 * _DAY, 180 * _DAY, 365 * _DAY)
# Any other reason of a provider becomes "other", which keeps the number of label values small.
_REASONS = frozenset(
    {
        "Unregistered",
        "BadDeviceToken",
        "DeviceTokenNotForTopic",
        "ExpiredToken",
        "UNREGISTERED",
        "http_404",
        "http_410",
        "failing",
        "silent",
        "unused",
    }
)

_ATTEMPTS = ("delivered", "queued", "token_evicted", "failed")

SERVER_REJECTIONS = ("malformed", "clock", "unknown_server", "not_registered", "signature", "nonce_used", "form")
"""Those of relay/registration/rejections.py: each label is there from the start, so that a rate sees the first one."""


class Metrics:
    """The instruments of this process. All processes count in `memory`; the resource shows the totals."""

    def __init__(
        self,
        *,
        version: str,
        memory: MetricsMemory | None,
        figures: Figures,
        processes: Callable[[], ProcessFigures] | None = None,
    ) -> None:
        self.http = HttpMetrics("relay")
        self._scrape = Scrape("relay", version, memory, figures, processes)
        self._pushes = Counter("relay_push", "Delivery attempts by outcome.", ["provider", "status"], registry=None)
        self._seconds = Histogram(
            "relay_push_duration_seconds", "Duration of one delivery attempt.", ["provider"], registry=None
        )
        self._limited = Counter("relay_rate_limited", "Requests rejected by a rate limit.", ["limit"], registry=None)
        self._rejected = Counter(
            "relay_server_requests_rejected", "Rejected requests of servers by reason.", ["reason"], registry=None
        )
        self._sockets = _sum_gauge("relay_websockets", "Devices connected by WebSocket.")
        self._ages = Histogram(
            "relay_token_age_seconds",
            "Age of the registration that a push was sent to.",
            ["provider"],
            buckets=_AGES,
            registry=None,
        )
        self._evictions = Counter("relay_token_evictions", "Evicted tokens by reason.", ["reason"], registry=None)
        self._connections = _sum_gauge("relay_provider_connections", "Open connections to the provider.", "provider")
        self._streams = _sum_gauge("relay_provider_streams", "Open requests to the provider.", "provider")
        self._in_flight = _sum_gauge(
            "relay_provider_pushes", "Pushes in flight or queued for a slot, in all workers.", "provider"
        )
        self._denied = Gauge(
            "relay_provider_credentials_refused",
            "1 while the provider rejects the relay's credentials; absent before its first response.",
            ["provider"],
            multiprocess_mode="livemax",
            registry=None,
        )
        for limit in ("address", "arrivals", "authentications", "server", "sockets"):
            self._limited.labels(limit)
        for reason in SERVER_REJECTIONS:
            self._rejected.labels(reason)
        for reason in (*_REASONS, "other"):
            self._evictions.labels(reason)
        self._pushes.labels("websocket", "delivered")

    def resource(self, guard: MetricsGuard) -> MetricsResource:
        return MetricsResource(self._scrape, guard)

    def attempt(self, provider: str, status: str, seconds: float) -> None:
        self._pushes.labels(provider, status).inc()
        self._seconds.labels(provider).observe(seconds)

    def delivered(self, seconds: float) -> None:
        """A device acknowledged a push, `seconds` after its admission."""
        self.attempt("websocket", "delivered", seconds)

    def token_age(self, provider: str, seconds: float) -> None:
        self._ages.labels(provider).observe(seconds)

    def evicted(self, reason: str, count: int = 1) -> None:
        self._evictions.labels(reason if reason in _REASONS else "other").inc(count)

    def load(self, provider: str, load: Load, pushes: int) -> None:
        self._connections.labels(provider).set(load.connections)
        self._streams.labels(provider).set(load.streams)
        self._in_flight.labels(provider).set(pushes)
        # Before the first attempt at a provider with credentials: a rate does not see the first count of a label.
        for status in _ATTEMPTS:
            self._pushes.labels(provider, status)

    def credentials_denied(self, provider: str, denied: bool) -> None:
        self._denied.labels(provider).set(denied)

    def connections(self, count: int) -> None:
        self._sockets.set(count)

    def unauthenticated_evicted(self) -> None:
        """An unauthenticated socket was closed because of the limit of these."""
        self._limited.labels("arrivals").inc()

    def authentication_limited(self) -> None:
        """An authentication at `/ws` waited since its address failed too often, or its device reconnects too often."""
        self._limited.labels("authentications").inc()

    def device_evicted(self) -> None:
        """The socket of a device was closed because of the limit of authenticated sockets."""
        self._limited.labels("sockets").inc()

    def server_rejected(self, reason: str) -> None:
        self._rejected.labels(reason).inc()

    def problem(self, error: Problem) -> None:
        if isinstance(error, Retryable) and error.limit:
            self._limited.labels(error.limit).inc()


def _sum_gauge(name: str, text: str, *labels: str) -> Gauge:
    """A sum over living workers."""
    return Gauge(name, text, labels, multiprocess_mode="livesum", registry=None)
