"""When to try again, and when to stop."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import count

from sigil.sdk.clock import Clock
from sigil.sdk.sans_io import Broken, Operation, Outcome, Pause, Reply, Send

PHASE_SECONDS = 10.0
"""Connecting and writing; each read too, after the time that a long poll waits."""
FIRST_PAUSE, LONGEST_PAUSE = 0.25, 8.0
MAX_RETRY_AFTER = 3600
_SECONDS = re.compile(r"[0-9]{1,9}\Z", re.ASCII)


@dataclass(frozen=True, slots=True)
class Request:
    """What is asked: safe to repeat, being a GET, a DELETE, or a POST with its Idempotency-Key.

    `wait` is how many seconds the server may take before it begins to answer.
    """

    method: str
    target: str
    body: bytes | None = field(default=None, repr=False)
    headers: Mapping[str, str] = field(default_factory=dict)
    wait: int = 0

    def within(self, seconds: float) -> Send:
        silence = PHASE_SECONDS + self.wait
        return Send(self.method, self.target, seconds, PHASE_SECONDS, silence, self.body, self.headers)


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """How often one request is tried, and for how many seconds in all, pauses included."""

    tries: int
    seconds: float


def ask(request: Request, patience: RetryPolicy, clock: Clock) -> Operation[Reply]:
    """The first answer that another try would not mend, or the last. ConnectionFailed, AnswerUnusable."""
    end = clock.monotonic() + patience.seconds
    for attempt in count(1):
        outcome: Outcome = yield request.within(end - clock.monotonic())
        pause = _pause(outcome, attempt, clock)
        if pause is None or attempt >= patience.tries or clock.monotonic() + pause >= end:
            break
        yield Pause(pause)
        if clock.monotonic() >= end:
            break
    if isinstance(outcome, Broken):
        raise outcome.kind(outcome.reason)
    return outcome


def _pause(outcome: Outcome, attempt: int, clock: Clock) -> float | None:
    """Full jitter, on top of what the server asked for: a crowd that was sent away must not come back as one."""
    if not _worth_another_try(outcome):
        return None
    told = retry_after(outcome) if isinstance(outcome, Reply) else None
    return (told or 0) + backoff(attempt, clock)


def _worth_another_try(outcome: Outcome) -> bool:
    if isinstance(outcome, Broken):
        return outcome.passing
    return outcome.status == 429 or outcome.status >= 500


def backoff(attempt: int, clock: Clock) -> float:
    """Seconds between 0 and 0.25, 0.5, 1, … 8."""
    return clock.uniform(0.0, min(LONGEST_PAUSE, FIRST_PAUSE * 2 ** min(attempt - 1, 10)))


def retry_after(reply: Reply) -> int | None:
    """Whole seconds, at most an hour. The header's other form, a date, would need this host's clock to be right."""
    text = reply.headers.get("retry-after", "").strip()
    return min(int(text), MAX_RETRY_AFTER) if _SECONDS.match(text) else None
