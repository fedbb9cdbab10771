"""The service of webhooks: it posts events to the integrator's receiver (docs/protocol.md, 5.4)."""

from __future__ import annotations

import asyncio
import errno
import os
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, Protocol

from sigil.core.session_store import Decision, Key, SessionStore
from sigil.core.tracing import SpanPort, Subject, SubjectAttribute, TracesPort
from sigil.core.webhooks import delivery as webhook_delivery
from sigil.core.webhooks import event as webhook_event
from sigil.core.webhooks.delivery import FAILURE, MAX_FAILURES, AttemptResult, Completion
from sigil.core.webhooks.event import EVENT, Claim, Event, event_key, type_of_event
from sigil.delivery.circuit_breaker import CircuitBreaker, RequestResult
from sigil.protocol.encoding.ids import format_uuid
from sigil.protocol.messages.webhooks import event_id
from sigil.webhooks import messages

ATTEMPT_SECONDS = 10.0
"""For one attempt, from the connection to the end of the response."""
# Reasons of an AttemptResult; `sigil webhook send-test` names the remedy of the last two.
NO_CONNECTION = "no connection"
UNKNOWN_NAME = "a name that is not known"
NO_ANSWER = "no answer in time"
CONNECTION_REFUSED = f"{NO_CONNECTION} ({os.strerror(errno.ECONNREFUSED)})"
_ERRORS = {UNKNOWN_NAME: "name_resolution", NO_ANSWER: "timeout"}
_SUBJECTS: dict[str, SubjectAttribute] = {
    "challenge": "sigil.challenge_id",
    "mpa": "sigil.mpa_id",
    "enrolment": "sigil.enrolment_id",
}
_DELETED_AT_ONCE = 200
_END_OF_TIME = 1 << 32


class WebhookSender(Protocol):
    async def post(self, event: str, body: bytes, traceparent: str | None = None) -> AttemptResult:
        """One attempt to deliver the event with that id, within ATTEMPT_SECONDS. Every outcome is an AttemptResult."""

    async def close(self) -> None: ...


class WebhookObserver(Protocol):
    def completed(self, completion: Completion) -> None:
        """An attempt was completed: the event is delivered, due again later, or given up."""


class Attempt(NamedTuple):
    """A finished attempt; `began` is a Unix time."""

    claim: Claim
    began: float
    result: AttemptResult


class Webhooks:
    """`schedule` gives the seconds between tries, `clock` Unix seconds. At most `max_failures` failures are kept."""

    def __init__(
        self,
        *,
        store: SessionStore,
        sender: WebhookSender,
        breaker: CircuitBreaker,
        observer: WebhookObserver,
        schedule: Sequence[int],
        clock: Callable[[], float],
        randomness: Callable[[int], bytes],
        max_failures: int = MAX_FAILURES,
        traces: TracesPort | None = None,
    ) -> None:
        self._traces = traces
        self._store = store
        self._sender = sender
        self._breaker = breaker
        self._observer = observer
        self._schedule = schedule
        self._clock = clock
        self._randomness = randomness
        self._max_failures = max_failures

    async def due(self, limit: int) -> list[bytes]:
        """Names of due events, of all workers."""
        return [key.name for key in await self._store.due(self._clock(), limit, EVENT)]

    async def claim(self, names: Sequence[bytes]) -> list[Claim]:
        """Claim those of at most MAX_CLAIMS events that no other worker holds. The caller attempts them at once."""
        if not names:
            return []
        keys, token = [event_key(name) for name in names], self._randomness(8)

        def rule(now: float, rows: tuple[Any, ...]) -> Decision[list[Claim]]:
            return webhook_event.claim(now, keys, rows, token)

        return await self._store.transact(keys, rule)

    async def attempt(self, claim: Claim) -> Attempt | None:
        """One attempt; None when the attempt could outlive the lease of its claim."""
        name, event = claim
        began = self._clock()
        # The worker was suspended for a while: another may claim the event before this attempt ends.
        if began > event.due - ATTEMPT_SECONDS:
            return None
        span = self._sending(name, event) if self._traces is not None and event.creation is not None else None
        traceparent = span.header if span is not None else None
        result = None
        try:
            result = await self._sender.post(event_id(name), messages.body(name, event), traceparent)
        finally:
            # Also of an attempt that a stop cancels: the receiver may have continued its trace.
            if span is not None:
                _end(span, result)
        return Attempt(claim, began, result)

    def _sending(self, name: bytes, event: Event) -> SpanPort | None:
        """The span of this attempt."""
        if self._traces is None:
            return None
        span = self._traces.send("sigil.webhook", [(_subject(name, event), event.creation)])
        if span is not None:
            span.set("http.request.method", "POST")
            if event.claims > 1:
                span.set("http.request.resend_count", event.claims - 1)
        return span

    async def complete(self, attempts: Sequence[Attempt], *, probing: bool = False) -> None:
        """Complete at most MAX_COMPLETIONS attempts, given in the order in which they ended."""
        jitters = [byte / 255 for byte in self._randomness(len(attempts))]
        claims, results = [attempt.claim for attempt in attempts], [attempt.result for attempt in attempts]

        def rule(now: float, rows: tuple[Any, ...]) -> Decision[list[Completion]]:
            return webhook_delivery.complete(
                now, claims, results, rows, schedule=self._schedule, jitters=jitters, probing=probing
            )

        for completion in await self._store.transact([event_key(name) for name, _ in claims], rule):
            self._observer.completed(completion)
        await self._breaker.record([_for_breaker(attempt) for attempt in attempts], probing=probing)

    async def prune_failures(self) -> None:
        """Delete the failures that are too old or too many, a batch at a time."""
        while keys := await self._deletable():
            await self._store.transact([], _deleting(keys))
            # There may be thousands: the event loop serves requests between the batches.
            await asyncio.sleep(0)

    async def _deletable(self) -> list[Key]:
        too_many = min(self._store.count(FAILURE) - self._max_failures, _DELETED_AT_ONCE)
        keys = await self._store.due(self._clock(), _DELETED_AT_ONCE, FAILURE)
        return keys if len(keys) >= too_many else await self._store.due(_END_OF_TIME, too_many, FAILURE)

    async def close(self) -> None:
        await self._sender.close()


def _subject(name: bytes, event: Event) -> Subject:
    return Subject(_SUBJECTS[type_of_event(event).partition(".")[0]], format_uuid(name))


def _end(span: SpanPort, result: AttemptResult | None) -> None:
    if result is None:
        span.end("cancelled")
        return
    if result.status:
        span.set("http.response.status_code", result.status)
    if result.outcome == "delivered":
        span.end()
    elif result.status:
        span.end(str(result.status))
    else:
        # The reason quotes texts of the system: too many values for `error.type`.
        span.end(
            "connection_error" if result.reason.startswith(NO_CONNECTION) else _ERRORS.get(result.reason, "_OTHER")
        )


def _for_breaker(attempt: Attempt) -> RequestResult:
    """A rejection is a success here: the receiver responded."""
    return RequestResult(attempt.began, str(attempt.result) if attempt.result.outcome == "retry" else None)


def _deleting(keys: Sequence[Key]) -> Callable[[float, tuple[Any, ...]], Decision[None]]:
    return lambda _now, _rows: Decision(None, tuple((key, None) for key in keys))
