"""The relay's spans of pushes (docs/observability.md). Each links to the span that created the push at its server, and
exists only if that one is sampled. Imported only where traces are exported.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from falcon.asgi import Request

from relay.registry.model import NewPush, Platform, Status
from sigil.protocol import trace_context
from sigil.protocol.messages.relay import WantedPush
from sigil.serving.tracing import messages
from sigil.serving.tracing.current import trace_of
from sigil.serving.tracing.tracer import LinkTo, Span, Tracer, Value

ROUTES = (("POST", "/push"),)
"""The requests that have spans."""

# docs/protocol.md, section 6. A server with other names for its pushes has spans without a search attribute.
_UUID = r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}"
_CHALLENGE = re.compile(rf"({_UUID}):(challenge|clear)", re.ASCII)
_APPROVAL = re.compile(rf"({_UUID}):[0-9]{{1,4}}:(mpa|clear)", re.ASCII)
# The address is that of the provider, which is public; that of a gateway of the operator is not shown.
_PROVIDERS = frozenset(
    {
        "api.push.apple.com",
        "api.sandbox.push.apple.com",
        "fcm.googleapis.com",
        "jmt17.google.com",
        "updates.push.services.mozilla.com",
        "web.push.apple.com",
    }
)


class PushTraces:
    """Starts the spans of pushes."""

    def __init__(self, tracer: Tracer) -> None:
        self._tracer = tracer

    def batch(self, req: Request, pushes: Sequence[WantedPush]) -> None:
        """The span of a `POST /push` whose signature is verified: in the trace of its header, else linked to the
        creations of its pushes; none if neither is sampled.
        """
        trace = trace_of(req)
        if trace is None:
            return
        found = [
            (subject_of(push.push_key)[0], context)
            for push in pushes
            if (context := trace_context.sampled(push.traceparent))
        ]
        if trace_context.parse(req.get_header("traceparent") or "") is not None:
            trace.authenticated()
        else:
            for creation in dict.fromkeys(creation for _, creation in found):
                trace.about(("messaging.destination.name", "sigil.push"), trace_context.pack(creation))
        trace.set("messaging.destination.name", "sigil.push")
        trace.set("messaging.batch.message_count", len(pushes))
        for name in ("sigil.challenge_id", "sigil.mpa_id"):
            ids = list(dict.fromkeys(found_id for about, _ in found for other, found_id in about if other == name))
            if ids:
                trace.set(name, ids[0] if len(ids) == 1 else ids)

    def process(self, push: NewPush, platform: Platform | None, attempt: int = 1) -> PushSpan | None:
        """An attempt to deliver a push; None unless its creation is sampled."""
        creation = trace_context.unpack(push.traceparent) if push.traceparent is not None else None
        if creation is None:
            return None
        about, kind = subject_of(push.push_key)
        span = messages.start(self._tracer, "process", "sigil.push", about=about, links=[LinkTo(creation)])
        if span is None:
            return None
        if kind:
            span.set("sigil.push.type", kind)
        if platform is not None:
            span.set("sigil.push.platform", platform)
        if attempt > 1:
            span.set("sigil.push.attempt", attempt)
        return PushSpan(self._tracer, span, about)


class PushSpan:
    """One attempt, with the requests to the provider in it."""

    __slots__ = ("_about", "_ended", "_requests", "_span", "_tracer")

    def __init__(self, tracer: Tracer, span: Span, about: Sequence[tuple[str, str]]) -> None:
        self._tracer = tracer
        self._about = about
        self._span = span
        self._requests = 0
        self._ended = False

    def end(self, status: Status, error: str | None = None) -> None:
        """Takes effect once. `error` where the push is not delivered: a code of the provider or of the relay."""
        if self._ended:
            return
        self._ended = True
        self._span.set("sigil.push.status", status)
        self._span.end(None if status == "delivered" else error or status)

    def request(self, host: str) -> Span | None:
        """A request to the provider. Its path holds a token, and is in no span."""
        attributes: dict[str, Value] = {"http.request.method": "POST", **dict(self._about)}
        if host in _PROVIDERS:
            attributes["server.address"] = host
        if self._requests:
            attributes["http.request.resend_count"] = self._requests
        self._requests += 1
        return self._tracer.start("POST", "client", parent=self._span.context, attributes=attributes)


def subject_of(push_key: str) -> tuple[list[tuple[str, str]], str]:
    """The search attribute with its id, and the type of the push, as the server's push_key gives them."""
    for attribute, form in (("sigil.challenge_id", _CHALLENGE), ("sigil.mpa_id", _APPROVAL)):
        if (found := form.fullmatch(push_key)) is not None:
            return [(attribute, found[1])], found[2]
    return [], ""
