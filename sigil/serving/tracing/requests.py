"""The SERVER spans of requests, for Falcon.

A request becomes a span when it may be one: with a verified API key or server, or when it answers what a sampled span
created. Until then a `traceparent` counts for nothing: anyone could otherwise force spans, or add some to the trace of
another.
"""

from __future__ import annotations

import time
from collections.abc import Collection
from typing import Any

import falcon.asgi

from sigil.protocol import trace_context
from sigil.protocol.trace_context import TraceContext
from sigil.serving.tracing import messages
from sigil.serving.tracing.current import KEY, trace_of
from sigil.serving.tracing.tracer import LinkTo, Span, Tracer, Value


class RequestTrace:
    """`core.tracing.RequestTracePort`; `route` is the template, which a client does not choose."""

    __slots__ = ("_method", "_req", "_route", "_span", "_tracer")

    def __init__(self, tracer: Tracer, req: falcon.asgi.Request, route: str) -> None:
        self._tracer = tracer
        self._req = req
        self._method = req.method
        self._route = route
        self._span: Span | None = None

    def authenticated(self) -> None:
        """The sender is verified: its `traceparent` is the parent."""
        found = [value.decode("latin-1") for name, value in self._req.scope["headers"] if name == b"traceparent"]
        self._start(trace_context.of_headers(found) if found else None)

    @property
    def packed(self) -> bytes | None:
        return self._span.packed if self._span is not None else None

    @property
    def context(self) -> TraceContext | None:
        """For children."""
        return self._span.context if self._span is not None else None

    def about(self, subject: tuple[str, str], creation: bytes | None = None) -> None:
        context = trace_context.unpack(creation) if creation is not None else None
        if context is not None:
            if self._span is None:
                self._start(None, context)
            else:
                self._span.link(LinkTo(context))
        self.set(*subject)

    def set(self, name: str, value: Value) -> None:
        if self._span is not None:
            self._span.set(name, value)

    def create(self, destination: str, subject: tuple[str, str], count: int = 1) -> Span | None:
        if self._span is None:
            return None
        return messages.start(
            self._tracer,
            "create",
            destination,
            about=[subject],
            parent=self._span.context,
            count=count if count > 1 else None,
        )

    def finish(self, status: int) -> None:
        if self._span is not None:
            self._span.set("http.response.status_code", status)
            # An error of the client is none of the server (semantic conventions of HTTP).
            self._span.end(str(status) if status >= 500 else None)

    def _start(self, parent: TraceContext | None, creation: TraceContext | None = None) -> None:
        waited = time.perf_counter() - self._req.scope["sigil.began"]
        attributes: dict[str, Value] = {
            "http.request.method": self._method,
            "http.route": self._route,
            "url.scheme": self._req.scheme,
        }
        if "{" not in self._route:
            # Other paths hold what a client chose.
            attributes["url.path"] = self._route
        self._span = self._tracer.start(
            f"{self._method} {self._route}",
            "server",
            parent=parent,
            links=[LinkTo(creation)] if creation is not None else (),
            attributes=attributes,
            start_ns=time.time_ns() - int(waited * 1e9),
        )


class RequestTraces:
    """Falcon middleware: only where traces are exported. `routes` are those that have spans, as (method, template)."""

    def __init__(self, tracer: Tracer, routes: Collection[tuple[str, str]]) -> None:
        self._tracer = tracer
        self._routes = frozenset(routes)

    async def process_resource(
        self, req: falcon.asgi.Request, _resp: falcon.asgi.Response, _resource: object, _params: Any
    ) -> None:
        route = req.uri_template
        if route is not None and (req.method, route) in self._routes:
            req.scope[KEY] = RequestTrace(self._tracer, req, route)

    async def process_response(
        self, req: falcon.asgi.Request, resp: falcon.asgi.Response, _resource: object, _succeeded: bool
    ) -> None:
        trace = trace_of(req)
        if trace is not None:
            trace.finish(resp.status_code)
