"""The answer of a collector: a success may be partial."""

from __future__ import annotations

from typing import Any


def rejected_spans(answer: bytes) -> int:
    """How many spans the collector rejected by this ExportTraceServiceResponse; 0 for an answer of another form."""
    if not answer:
        return 0
    from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceResponse

    response: Any = ExportTraceServiceResponse()
    try:
        response.ParseFromString(answer)
    # DecodeError of a package without types: an answer of any other form is a success.
    except Exception:
        return 0
    return max(0, int(response.partial_success.rejected_spans))
