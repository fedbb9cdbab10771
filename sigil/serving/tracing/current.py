"""The trace of the request that is being served. Imports nothing of OpenTelemetry: most services export no traces."""

from __future__ import annotations

from typing import TYPE_CHECKING

import falcon.asgi

if TYPE_CHECKING:
    from sigil.serving.tracing.requests import RequestTrace

KEY = "sigil.trace"
"""In the ASGI scope; only where traces are exported, and the route has spans."""


def trace_of(req: falcon.asgi.Request) -> RequestTrace | None:
    trace: RequestTrace | None = req.scope.get(KEY)
    return trace


def set_authenticated(req: falcon.asgi.Request) -> None:
    """The API key of the request is verified, or the signature of its server: its `traceparent` counts from here on."""
    trace = trace_of(req)
    if trace is not None:
        trace.authenticated()
