"""The `traceparent` of a request (docs/protocol.md, section 7). No fault of tracing ends a call."""

from __future__ import annotations

import sys
from collections.abc import Mapping

from sigil.protocol import trace_context

HEADER = "traceparent"


def valid(given: object) -> str | None:
    """The given `traceparent` in the form of version 00; None for another text or value."""
    context = trace_context.parse(given) if isinstance(given, str) else None
    return None if context is None else trace_context.header(context)


def with_traceparent(headers: Mapping[str, str], given: object) -> dict[str, str]:
    """`headers` with the given `traceparent`, if it is one."""
    traceparent = valid(given)
    return dict(headers) if traceparent is None else {**headers, HEADER: traceparent}


def with_current_span(headers: Mapping[str, str]) -> Mapping[str, str]:
    """`headers` with the `traceparent` of the caller's current OpenTelemetry span, unless they have one."""
    # A span is current only where the application has imported the API: the SDK never imports it.
    api = sys.modules.get("opentelemetry.trace")
    if api is None or HEADER in headers:
        return headers
    try:
        span = api.get_current_span().get_span_context()
        text = f"00-{span.trace_id:032x}-{span.span_id:016x}-{span.trace_flags & 0xFF:02x}"
    except Exception:
        return headers
    return with_traceparent(headers, text)
