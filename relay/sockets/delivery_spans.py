"""The spans of the pushes in flight on one connection: each lasts from its frame to its acknowledgement."""

from __future__ import annotations

from collections.abc import Container
from typing import TYPE_CHECKING

from relay.registry.model import Push

if TYPE_CHECKING:
    from relay.tracing import PushSpan, PushTraces


class DeliverySpans:
    """By push id, no more than there are pushes in flight. Pushes without a sampled creation have none."""

    def __init__(self, traces: PushTraces) -> None:
        self._traces = traces
        self._spans: dict[bytes, PushSpan] = {}
        self._sent: dict[bytes, int] = {}

    def sent(self, push: Push) -> None:
        """The frame of the push is sent, perhaps again."""
        push_id = push.push.push_id
        attempt = self._sent[push_id] = self._sent.get(push_id, 0) + 1
        self._end(push_id, "not_acknowledged")
        span = self._traces.process(push.push, push.platform, attempt)
        if span is not None:
            self._spans[push_id] = span

    def failed(self, push: Push) -> None:
        """Its frame cannot be made."""
        self._end(push.push.push_id, "internal")

    def acknowledged(self, push_id: bytes) -> None:
        self._end(push_id, None)
        self._sent.pop(push_id, None)

    def keep(self, in_flight: Container[bytes]) -> None:
        """The others no longer wait for their acknowledgement: they expired, or newer pushes replaced them."""
        for push_id in [push_id for push_id in self._sent if push_id not in in_flight]:
            self._end(push_id, "not_acknowledged")
            del self._sent[push_id]

    def closed(self) -> None:
        """The connection has ended. Another one of the device gets the pushes again."""
        for push_id in list(self._spans):
            self._end(push_id, "connection_closed")

    def _end(self, push_id: bytes, error: str | None) -> None:
        span = self._spans.pop(push_id, None)
        if span is not None:
            span.end("delivered" if error is None else "queued", error)
