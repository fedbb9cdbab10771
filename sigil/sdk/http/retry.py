"""When a request is retried, and when it is given up."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import count

from sigil.sdk.http.clock import Clock
from sigil.sdk.http.sans_io import Failure, Operation, Outcome, Pause, Response, Send
from sigil.sdk.http.trace_context import with_current_span

PHASE_SECONDS = 10.0
"""Connecting and writing; each read too, after the time that a long poll waits."""
FIRST_PAUSE, LONGEST_PAUSE = 0.25, 8.0
MAX_RETRY_AFTER = 3600
_SECONDS = re.compile(r"[0-9]{1,9}\Z", re.ASCII)


@dataclass(frozen=True, slots=True)
class Request:
    """A request that is safe to repeat: a GET, a DELETE, or a POST with an Idempotency-Key or a request_id.

    `wait` is how many seconds the server may take before it begins to respond.
    """

    method: str
    target: str
    body: bytes | None = field(default=None, repr=False)
    headers: Mapping[str, str] = field(default_factory=dict)
    wait: int = 0

    def within(self, seconds: float) -> Send:
        silence, headers = PHASE_SECONDS + self.wait, with_current_span(self.headers)
        return Send(self.method, self.target, seconds, PHASE_SECONDS, silence, self.body, headers)


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """How often one request is sent, and for how many seconds in all, pauses included."""

    tries: int
    seconds: float


def send_with_retries(request: Request, retry: RetryPolicy, clock: Clock) -> Operation[Response]:
    """The first response that is not worth a retry, or the last one. ConnectionFailed, AnswerUnusable."""
    end = clock.monotonic() + retry.seconds
    for attempt in count(1):
        outcome: Outcome = yield request.within(end - clock.monotonic())
        pause = _pause(outcome, attempt, clock)
        if pause is None or attempt >= retry.tries or clock.monotonic() + pause >= end:
            break
        yield Pause(pause)
        if clock.monotonic() >= end:
            break
    if isinstance(outcome, Failure):
        raise outcome.kind(outcome.reason)
    return outcome


def _pause(outcome: Outcome, attempt: int, clock: Clock) -> float | None:
    """Full jitter in addition to Retry-After: clients that were rejected together must not come back together."""
    if not _is_retryable(outcome):
        return None
    requested = retry_after(outcome) if isinstance(outcome, Response) else None
    return (requested or 0) + backoff(attempt, clock)


def _is_retryable(outcome: Outcome) -> bool:
    if isinstance(outcome, Failure):
        return outcome.retryable
    return outcome.status == 429 or outcome.status >= 500


def backoff(attempt: int, clock: Clock) -> float:
    """Seconds between 0 and 0.25, 0.5, 1, … 8."""
    return clock.uniform(0.0, min(LONGEST_PAUSE, FIRST_PAUSE * 2 ** min(attempt - 1, 10)))


def retry_after(response: Response) -> int | None:
    """Whole seconds, at most an hour. The header's other form, a date, would need this host's clock to be right."""
    text = response.headers.get("retry-after", "").strip()
    return min(int(text), MAX_RETRY_AFTER) if _SECONDS.match(text) else None
