"""Metrics of HTTP, and `GET /metrics` for all workers. Import it in workers only (see `metrics_memory`)."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable, Iterable, Iterator
from functools import cache
from typing import get_args

from falcon.asgi import Request, Response
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.exposition import choose_encoder
from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, Metric

from sigil.protocol.errors import Overloaded
from sigil.serving.connections.observer import ConnectionObserver, PauseReason, Reason
from sigil.serving.http.client_address import AddressEvent, ClientAddresses
from sigil.serving.http.metrics_access import MetricsGuard
from sigil.serving.process import proc_stats
from sigil.serving.process.metrics_memory import MetricsMemory
from sigil.serving.watchdog.process_table import ProcessFigures

Gauges = Callable[[], Iterable[Metric]]

# From a fast response to a long poll of 25 s.
_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
_TEXT, _OPENMETRICS = "text/plain; version=0.0.4", "application/openmetrics-text; version=1.0.0"
_MAX_READERS = 64
# The pause after a rendering, in times of what it took.
_PAUSES = 9
_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})


class HttpMetrics:
    """`<service>_http_requests_total` and `<service>_http_request_duration_seconds`; one instance per process."""

    def __init__(self, service: str) -> None:
        self._requests = Counter(
            f"{service}_http_requests",
            "Requests by route; no label has a value that a client chooses freely.",
            ["method", "route", "status"],
            registry=None,
        )
        self._seconds = Histogram(
            f"{service}_http_request_duration_seconds",
            "From the first byte that the application received to the response, waiting included.",
            ["method", "route"],
            buckets=_SECONDS,
            registry=None,
        )
        self._open_connections = Gauge(
            f"{service}_connections_open",
            "Open connections of clients, handshakes included.",
            multiprocess_mode="livesum",
            registry=None,
        )
        closed = Counter(
            f"{service}_connections_closed", "Connections that the server closed.", ["reason"], registry=None
        )
        pauses = Counter(
            f"{service}_accept_pauses", "Times that a worker stopped accepting connections.", ["reason"], registry=None
        )
        self._connections_closed = {reason: closed.labels(reason) for reason in get_args(Reason)}
        self._accept_pauses = {reason: pauses.labels(reason) for reason in get_args(PauseReason)}
        headers = Counter(
            f"{service}_untrusted_proxy_headers",
            "Requests with a forwarding header from a peer that is no configured proxy.",
            registry=None,
        )
        clients = Counter(
            f"{service}_trusted_clients",
            "Requests whose client is itself a configured proxy, and shares its rate limit.",
            registry=None,
        )
        self._of_address_event: dict[AddressEvent, Counter] = {
            "untrusted_proxy_header": headers,
            "trusted_client": clients,
        }
        # The lookup of a child by its labels costs as much as the increment.
        self._counted = cache(self._requests.labels)
        self._timed = cache(self._seconds.labels)

    def observe_connections(self, observer: ConnectionObserver) -> None:
        observer.open = self._open_connections.set
        observer.closed = lambda reason: self._connections_closed[reason].inc()
        observer.paused = lambda reason: self._accept_pauses[reason].inc()

    def observe_addresses(self, addresses: ClientAddresses) -> None:
        addresses.seen = lambda event: self._of_address_event[event].inc()

    def observe(self, method: str, route: str | None, status: int, seconds: float) -> None:
        method, route = method if method in _METHODS else "other", route or "none"
        self._counted(method, route, str(status)).inc()
        self._timed(method, route).observe(seconds)


class _ScrapedMetrics:
    """Metrics that are read at the scrape: the gauges of the service, and its processes."""

    def __init__(
        self, service: str, version: str, gauges: Gauges, processes: Callable[[], ProcessFigures] | None
    ) -> None:
        self._service = service
        self._version = version
        self._gauges = gauges
        self._processes = processes

    def collect(self) -> Iterator[Metric]:
        build = GaugeMetricFamily(f"{self._service}_build_info", "Always 1.", labels=["version"])
        build.add_metric([self._version], 1)
        yield build
        yield from self._gauges()
        stats = proc_stats.of_family(os.getppid())
        cpu = CounterMetricFamily("process_cpu_seconds", "CPU time of the master and its workers.")
        cpu.add_metric([], stats.cpu_seconds)
        yield cpu
        yield gauge(
            "process_resident_memory_bytes",
            "Resident memory; shared pages count once per process.",
            stats.resident_bytes,
        )
        yield gauge("process_open_fds", "Open files of the master and its workers.", stats.open_files)
        yield gauge("process_start_time_seconds", "Start of the master, Unix time.", stats.started)
        yield gauge(f"{self._service}_processes", "The master, its workers and their helper.", stats.count)
        if self._processes is not None:
            yield from self._of_processes(self._processes())

    def _of_processes(self, figures: ProcessFigures) -> Iterator[Metric]:
        restarts = CounterMetricFamily(
            f"{self._service}_worker_restarts", "Workers that ended unexpectedly or were killed.", labels=["reason"]
        )
        for reason, count in figures.restarts.items():
            restarts.add_metric([reason], count)
        yield restarts
        dropped = CounterMetricFamily(
            f"{self._service}_log_lines_dropped", "Log lines lost because the reader of standard output stalled."
        )
        dropped.add_metric([], figures.lines_dropped)
        yield dropped
        yield gauge(
            f"{self._service}_last_reload_successful",
            "1 unless the last reload failed; 1 before the first.",
            not figures.reload_failed,
        )
        yield gauge(
            f"{self._service}_last_reload_timestamp_seconds",
            "End of the last reload, of the start before the first, Unix time.",
            figures.reloaded_at,
        )
        if figures.certificate_ends is not None:
            yield gauge(
                f"{self._service}_certificate_expiry_timestamp_seconds",
                "End of the certificate that is served, Unix time.",
                figures.certificate_ends,
            )


def gauge(name: str, text: str, value: float) -> GaugeMetricFamily:
    """A gauge that is read at the scrape."""
    return GaugeMetricFamily(name, text, value=value)


class Scrape:
    """All metrics as text, rendered in a thread: one rendering at a time, and all of them at most a tenth of the time.

    Eight readers in a loop took p97 of other requests from 5 to 70 ms. A reader gets a rendering that began after its
    request, and shares it with the others that wait; more than 64 are Overloaded.
    """

    def __init__(
        self,
        service: str,
        version: str,
        memory: MetricsMemory | None,
        gauges: Gauges,
        processes: Callable[[], ProcessFigures] | None = None,
    ) -> None:
        self._memory = memory
        self._scraped = _ScrapedMetrics(service, version, gauges, processes)
        self._one_at_a_time = asyncio.Lock()
        self._next: dict[str, asyncio.Task[tuple[bytes, str]]] = {}
        self._readers = 0
        self._paused_until = 0.0

    async def text(self, accept: str) -> tuple[bytes, str]:
        """The exposition and its content type, according to the Accept header."""
        if self._readers >= _MAX_READERS:
            raise Overloaded(retry_after=1)
        # Of two formats alone: the header may name many more variants, each of which would be rendered.
        form = _OPENMETRICS if "application/openmetrics-text" in accept else _TEXT
        if form not in self._next:
            self._next[form] = asyncio.create_task(self._render_next(form))
        self._readers += 1
        try:
            return await asyncio.shield(self._next[form])
        finally:
            self._readers -= 1

    async def _render_next(self, form: str) -> tuple[bytes, str]:
        async with self._one_at_a_time:
            await asyncio.sleep(self._paused_until - time.monotonic())
            del self._next[form]
            text, content_type, seconds = await asyncio.to_thread(self._render, form)
            self._paused_until = time.monotonic() + _PAUSES * seconds
            return text, content_type

    def _render(self, form: str) -> tuple[bytes, str, float]:
        """The exposition, its content type, and the CPU time that it took."""
        began = time.thread_time()
        encode, content_type = choose_encoder(form)
        registry = CollectorRegistry()
        if self._memory is not None:
            registry.register(self._memory)
        registry.register(self._scraped)
        return encode(registry), content_type, time.thread_time() - began


class MetricsResource:
    """`GET /metrics`"""

    def __init__(self, scrape: Scrape, guard: MetricsGuard) -> None:
        self._scrape = scrape
        self._guard = guard

    async def on_get(self, req: Request, resp: Response) -> None:
        self._guard.check(req)
        resp.data, resp.content_type = await self._scrape.text(req.get_header("ACCEPT") or "")
        resp.set_header("Cache-Control", "no-store")

    on_head = on_get
