"""The tracer of a worker process. Imports OpenTelemetry only where traces are exported."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from sigil.serving.process.lifecycle import WorkerLifecycle
from sigil.serving.tracing.settings import TracingSettings

if TYPE_CHECKING:
    from sigil.serving.tracing.tracer import Tracer

FLUSH_SECONDS = 1.0
"""For the last export of a worker."""


def tracer_of_worker(
    settings: TracingSettings | None, service: str, version: str, lifecycle: WorkerLifecycle
) -> Tracer | None:
    """None without an endpoint. The application calls `Tracer.finish` when it shuts down, after its last span."""
    if settings is None:
        return None
    from sigil.serving.tracing.tracer import create_tracer

    tracer = create_tracer(settings, service, version, _counter(service) if lifecycle.metrics else lambda count: None)
    lifecycle.on_drain(tracer.hurry)
    return tracer


def _counter(service: str) -> Callable[[int], None]:
    from prometheus_client import Counter

    dropped = Counter(
        f"{service}_otlp_spans_dropped",
        "Spans that were lost: the queue was full, or the collector did not take them.",
        registry=None,
    )
    return dropped.inc
