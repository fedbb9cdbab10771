"""The port of traces. Where none are exported it is None, and costs a comparison.

A creation is the span that created a challenge, an approval request, an enrolment or an event, in the 25 bytes of a
row (see `protocol.trace_context`); None where it was not sampled.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, NamedTuple, Protocol

Destination = Literal["sigil.push", "sigil.webhook"]
SubjectAttribute = Literal["sigil.challenge_id", "sigil.mpa_id", "sigil.enrolment_id"]


class Subject(NamedTuple):
    """What a span is about: its search attribute and the id."""

    attribute: SubjectAttribute
    id: str


class SpanPort(Protocol):
    """A sampled span; one without `end` is never exported."""

    @property
    def packed(self) -> bytes:
        """The span as a creation."""

    @property
    def header(self) -> str:
        """The `traceparent` of requests within it."""

    def set(self, name: str, value: str | int, /) -> None: ...

    def end(self, error: str | None = None, /) -> None:
        """`error` is one of few words or a status, for `error.type`."""


class RequestTracePort(Protocol):
    """The span of one request, if it is sampled."""

    @property
    def packed(self) -> bytes | None: ...

    def about(self, subject: Subject, creation: bytes | None = None, /) -> None:
        """Link the request to an earlier creation. Without an API key that decides whether it is recorded."""

    def set(self, name: str, value: str | int, /) -> None: ...

    def create(self, destination: Destination, subject: Subject, count: int = 1, /) -> SpanPort | None:
        """The creation of `count` messages within this request; end it when the transaction is committed."""


class TracesPort(Protocol):
    """Spans outside requests."""

    def create(self, destination: Destination, subject: Subject, creation: bytes | None, /) -> SpanPort | None: ...

    def send(self, destination: Destination, creations: Sequence[tuple[Subject, bytes | None]], /) -> SpanPort | None:
        """One request for these messages; None when no creation was sampled."""
