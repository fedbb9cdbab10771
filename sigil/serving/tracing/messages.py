"""The spans of messages: pushes and webhook events, which wait in an outbox between the span that creates one and the
span that sends it. Across an outbox spans have links, not parents: a trace would otherwise stay open for days.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from sigil.protocol import trace_context
from sigil.protocol.trace_context import TraceContext
from sigil.serving.tracing.tracer import Kind, LinkTo, Span, Tracer, Value

Operation = Literal["create", "send", "process"]
_KINDS: dict[Operation, Kind] = {"create": "producer", "send": "client", "process": "consumer"}


def start(
    tracer: Tracer,
    operation: Operation,
    destination: str,
    *,
    about: Sequence[tuple[str, str]] = (),
    parent: TraceContext | None = None,
    links: Sequence[LinkTo] = (),
    count: int | None = None,
) -> Span | None:
    """A span with the messaging attributes of OpenTelemetry. `about`: the search attributes and ids of its messages;
    one id is a text, several of one name are a list.
    """
    attributes: dict[str, Value] = {
        "messaging.system": "sigil",
        "messaging.destination.name": destination,
        "messaging.operation.name": operation,
        "messaging.operation.type": operation,
    }
    if count is not None:
        attributes["messaging.batch.message_count"] = count
    for name in dict.fromkeys(name for name, _ in about):
        ids = list(dict.fromkeys(found for other, found in about if other == name))
        attributes[name] = ids[0] if len(ids) == 1 else ids
    return tracer.start(
        f"{operation} {destination}",
        _KINDS[operation],
        parent=parent,
        links=links,
        attributes=attributes,
    )


class MessageTraces:
    """`core.tracing.TracesPort`."""

    def __init__(self, tracer: Tracer) -> None:
        self._tracer = tracer

    def create(self, destination: str, subject: tuple[str, str], creation: bytes | None) -> Span | None:
        """The creation of an event by no request, such as an expiry."""
        if creation is None or (context := trace_context.unpack(creation)) is None:
            return None
        return start(self._tracer, "create", destination, about=[subject], links=[LinkTo(context)])

    def send(self, destination: str, creations: Sequence[tuple[tuple[str, str], bytes | None]]) -> Span | None:
        found = [
            (subject, context)
            for subject, creation in creations
            if creation is not None and (context := trace_context.unpack(creation)) is not None
        ]
        if not found:
            return None
        # The members of an approval request share one creation.
        links = {context: LinkTo(context, {name: value}) for (name, value), context in found}
        return start(
            self._tracer,
            "send",
            destination,
            about=[subject for subject, _ in found],
            links=list(links.values()),
            count=len(creations),
        )
