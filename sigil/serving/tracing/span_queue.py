"""The queue between spans that have ended and the thread that exports them.

It is bounded, and a full one drops what comes: no request waits for it. The thread does not keep the process from
ending.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import Protocol

from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor

from sigil.serving import logs
from sigil.serving.tracing.outage import ExportFailed, OutageLog
from sigil.serving.tracing.settings import TracingSettings

_FIRST_BACKOFF, _MAX_BACKOFF = 1.0, 8.0
_DRAIN_DELAY = 0.1


class Export(Protocol):
    def send(self, data: bytes, seconds: float) -> None:
        """One ExportTraceServiceRequest; ExportFailed."""

    def close(self) -> None:
        """Nothing is sent any more."""


class SpanQueue(SpanProcessor):
    """`dropped` is called with the number of spans that were lost, in any thread."""

    def __init__(
        self, settings: TracingSettings, export: Export, outage: OutageLog, dropped: Callable[[int], None]
    ) -> None:
        self._settings = settings
        self._export = export
        self._outage = outage
        self._count_dropped = dropped
        self._spans: deque[ReadableSpan] = deque()
        self._wake = threading.Event()
        self._stopping = threading.Event()
        self._idle = threading.Event()
        self._idle.set()
        self._delay = settings.delay
        self._thread = threading.Thread(target=self._run, name="otlp export", daemon=True)
        self._thread.start()

    def on_end(self, span: ReadableSpan) -> None:
        if not (span.context and span.context.trace_flags.sampled):
            return
        if len(self._spans) >= self._settings.queue_size or self._stopping.is_set():
            self._lost(1)
            return
        self._spans.append(span)
        self._idle.clear()
        if len(self._spans) >= self._settings.batch_size:
            self._wake.set()

    def hurry(self) -> None:
        """The process will end soon: export without the usual delay."""
        self._delay = _DRAIN_DELAY
        self._wake.set()

    def finish(self, seconds: float) -> None:
        """Export what is queued, within `seconds`; the rest is lost. No span is taken any more."""
        self.hurry()
        self._idle.wait(seconds)
        self._stopping.set()
        self._wake.set()
        if left := len(self._spans):
            self._spans.clear()
            self._lost(left)

    def shutdown(self) -> None:
        """Of the SDK: `finish` is what the service calls."""
        self.finish(0)

    def force_flush(self, timeout_millis: int | None = None) -> bool:
        self._wake.set()
        return self._idle.wait((timeout_millis or 0) / 1000)

    def _lost(self, count: int) -> None:
        self._outage.dropped(count)
        self._count_dropped(count)

    def _run(self) -> None:
        while not self._stopping.is_set():
            self._wake.wait(self._delay)
            self._wake.clear()
            while batch := self._batch():
                try:
                    self._send(batch)
                # A fault here must not end the export for good.
                except Exception as error:
                    if self._outage.failed(f"a fault of the exporter ({type(error).__name__})"):
                        logs.error("otlp_export_error", exc=error)
                    self._lost(len(batch))
            self._idle.set()
            if self._spans:
                self._idle.clear()
        self._export.close()

    def _batch(self) -> list[ReadableSpan]:
        batch: list[ReadableSpan] = []
        try:
            while len(batch) < self._settings.batch_size:
                batch.append(self._spans.popleft())
        except IndexError:
            pass
        return batch

    def _send(self, batch: Sequence[ReadableSpan]) -> None:
        """One batch, repeated while that may help, for `batch_timeout` at most."""
        data = encode_spans(batch).SerializeToString()
        deadline, backoff = time.monotonic() + self._settings.batch_timeout, _FIRST_BACKOFF
        while True:
            left = deadline - time.monotonic()
            try:
                self._export.send(data, min(self._settings.timeout, max(0.1, left)))
            except ExportFailed as failed:
                self._outage.failed(failed.reason)
                wait = max(backoff, failed.after)
                if not failed.retry or time.monotonic() + wait > deadline or self._stopping.wait(wait):
                    self._lost(len(batch) if failed.rejected is None else min(failed.rejected, len(batch)))
                    # Beyond the time of this batch the collector's wait holds for the next one.
                    self._stopping.wait(failed.after if failed.retry else 0.0)
                    return
                backoff = min(2 * backoff, _MAX_BACKOFF)
            else:
                self._outage.succeeded()
                return
