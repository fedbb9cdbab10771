"""Starts spans. A service without an endpoint has no Tracer at all, and a request whose trace is not sampled no Span:
then nothing is done but a comparison with None.

    tracer = create_tracer(settings, "sigil", version, dropped)      # in a worker
    span = tracer.start("POST /challenge", "server", parent=incoming, attributes={...})
    if span is not None: span.set("http.response.status_code", 201); span.end()
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, NamedTuple

from opentelemetry.context import Context
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import SpanLimits, TracerProvider, sampling
from opentelemetry.trace import (
    Link,
    NonRecordingSpan,
    SpanContext,
    SpanKind,
    Status,
    StatusCode,
    TraceFlags,
    set_span_in_context,
)

from sigil.protocol import trace_context
from sigil.protocol.trace_context import TraceContext
from sigil.serving.tracing.in_worker import FLUSH_SECONDS
from sigil.serving.tracing.outage import OutageLog
from sigil.serving.tracing.settings import TracingSettings
from sigil.serving.tracing.span_queue import Export, SpanQueue

Kind = Literal["server", "client", "producer", "consumer", "internal"]
Value = str | int | Sequence[str]
_KINDS: dict[Kind, SpanKind] = {
    "server": SpanKind.SERVER,
    "client": SpanKind.CLIENT,
    "producer": SpanKind.PRODUCER,
    "consumer": SpanKind.CONSUMER,
    "internal": SpanKind.INTERNAL,
}
_NO_PARENT = Context()
_ERROR = Status(StatusCode.ERROR)


class LinkTo(NamedTuple):
    """A link to the span with that context, with attributes of its own."""

    context: TraceContext
    attributes: Mapping[str, str] = {}


class Span:
    """A sampled span. Nothing of it is exported before `end`, which takes effect once."""

    __slots__ = ("_span", "context")

    def __init__(self, span: Any) -> None:
        self._span = span
        found = span.get_span_context()
        self.context = TraceContext(
            found.trace_id.to_bytes(16), found.span_id.to_bytes(8), int(found.trace_flags) & 0x03
        )

    @property
    def packed(self) -> bytes:
        """For a stored row, 25 bytes."""
        return trace_context.pack(self.context)

    @property
    def header(self) -> str:
        """The `traceparent` of a request that is sent within this span."""
        return trace_context.header(self.context)

    def set(self, name: str, value: Value) -> None:
        self._span.set_attribute(name, value)

    def link(self, link: LinkTo) -> None:
        self._span.add_link(_span_context(link.context), link.attributes)

    def end(self, error: str | None = None) -> None:
        """`error` is a value of `error.type`: a status, or a word of few that exist."""
        if error is not None:
            self._span.set_attribute("error.type", error)
            self._span.set_status(_ERROR)
        self._span.end()


class Tracer:
    def __init__(self, provider: TracerProvider, queue: SpanQueue, scope: str, version: str) -> None:
        self._provider = provider
        self._queue = queue
        self._tracer = provider.get_tracer(scope, version)

    def start(
        self,
        name: str,
        kind: Kind,
        *,
        parent: TraceContext | None = None,
        links: Sequence[LinkTo] = (),
        attributes: Mapping[str, Value] | None = None,
        start_ns: int | None = None,
    ) -> Span | None:
        """None when it is not sampled. A span with links and without a parent is sampled if what it links to is: a
        view of a challenge is whole or absent.
        """
        span = self._tracer.start_span(
            name,
            context=_NO_PARENT if parent is None else _context(parent),
            kind=_KINDS[kind],
            attributes=attributes,
            links=[Link(_span_context(link.context), link.attributes) for link in links],
            start_time=start_ns,
        )
        return Span(span) if span.is_recording() else None

    def hurry(self) -> None:
        """At the beginning of a drain."""
        self._queue.hurry()

    async def finish(self, seconds: float = FLUSH_SECONDS) -> None:
        """At the end of the process; at most `seconds`, in a thread."""
        await asyncio.to_thread(self._queue.finish, seconds)

    def close(self) -> None:
        """End at once; what is queued is lost."""
        self._queue.finish(0)


class _LinkedSampler(sampling.Sampler):
    """The decision about a root with links was made where the linked span began."""

    def __init__(self, roots: sampling.Sampler) -> None:
        self._roots = roots

    def should_sample(self, parent_context: Any, trace_id: int, *args: Any, **options: Any) -> sampling.SamplingResult:
        links = options.get("links") or (args[3] if len(args) > 3 else None)
        if links and parent_context is _NO_PARENT:
            sampled = any(link.context.trace_flags.sampled for link in links)
            decision = sampling.Decision.RECORD_AND_SAMPLE if sampled else sampling.Decision.DROP
            return sampling.SamplingResult(decision, options.get("attributes") or (args[2] if len(args) > 2 else None))
        return self._roots.should_sample(parent_context, trace_id, *args, **options)

    def get_description(self) -> str:
        return self._roots.get_description()


def create_tracer(
    settings: TracingSettings, scope: str, version: str, dropped: Callable[[int], None] = lambda count: None
) -> Tracer:
    """Starts the thread that exports: in a worker, never in the master. `dropped` counts lost spans, in any thread."""
    # One form of log: ours (`outage`). What the libraries log may hold addresses and headers.
    for name in ("opentelemetry", "grpc"):
        logger = logging.getLogger(name)
        logger.addHandler(logging.NullHandler())
        logger.propagate = False
    outage = OutageLog(settings.endpoint)
    queue = SpanQueue(settings, _export(settings, f"{scope}/{version}"), outage, dropped)
    return Tracer(_provider(settings, queue, version), queue, scope, version)


def _provider(settings: TracingSettings, queue: SpanQueue, version: str) -> TracerProvider:
    # Every argument is given: a default would be read from the environment.
    resource = {"service.version": version, "telemetry.sdk.language": "python", "telemetry.sdk.name": "opentelemetry"}
    provider = TracerProvider(
        sampler=_sampler(settings),
        resource=Resource(resource | dict(settings.resource)),
        shutdown_on_exit=False,
        span_limits=SpanLimits(
            max_attributes=32,
            max_events=0,
            max_links=256,
            max_span_attributes=32,
            max_event_attributes=0,
            max_link_attributes=4,
            max_attribute_length=1024,
            max_span_attribute_length=1024,
        ),
    )
    provider.add_span_processor(queue)
    return provider


def _sampler(settings: TracingSettings) -> sampling.Sampler:
    name = settings.sampler
    if name == "always_off":
        return sampling.ALWAYS_OFF
    base = name.removeprefix("parentbased_")
    root: sampling.Sampler = {
        "always_on": sampling.ALWAYS_ON,
        "always_off": sampling.ALWAYS_OFF,
        "traceidratio": sampling.TraceIdRatioBased(settings.ratio),
    }[base]
    return _LinkedSampler(sampling.ParentBased(root) if base != name else root)


def _export(settings: TracingSettings, user_agent: str) -> Export:
    # Only the protocol in use is imported: gRPC takes twice the memory.
    if settings.protocol == "grpc":
        from sigil.serving.tracing.grpc_export import GrpcExport

        return GrpcExport(settings, user_agent)
    from sigil.serving.tracing.http_export import HttpExport

    return HttpExport(settings, user_agent)


def _span_context(context: TraceContext) -> SpanContext:
    return SpanContext(
        int.from_bytes(context.trace_id), int.from_bytes(context.span_id), True, TraceFlags(context.flags)
    )


def _context(parent: TraceContext) -> Context:
    return set_span_in_context(NonRecordingSpan(_span_context(parent)), _NO_PARENT)
