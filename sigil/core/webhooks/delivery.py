"""The completion of a claimed event: what each result of an attempt changes (docs/protocol.md, 5.4)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Literal, NamedTuple

import msgspec

from sigil.core.session_store import Decision, Key, Kind
from sigil.core.webhooks.event import Claim, Event, event_key

MAX_RETRY_AFTER = 1800
"""The longest Retry-After, in seconds, that is honoured."""
PATIENCE_SECONDS = 86_400
"""How long failed probes use up no tries of an event. After that they do: else two events that a receiver always fails
on would keep the breaker open for ever when there are no others."""
KEPT_SECONDS = 7 * 86_400
MAX_FAILURES = 10_000
"""Final failures that are kept for `sigil webhook replay`; the oldest are deleted."""
# A completion is one write, or two for a final failure; a transaction writes at most 200.
MAX_COMPLETIONS = 100
Outcome = Literal["success", "failure", "retry"]
_RETRIED = frozenset({408, 425, 429})


class AttemptResult(NamedTuple):
    """The HTTP status of an attempt, or 0 and a short reason for the log if there was no response.

    `retry_after` in seconds, 0 without the header.
    """

    status: int
    reason: str = ""
    retry_after: float = 0.0

    @property
    def outcome(self) -> Literal["delivered", "retry", "rejected"]:
        """2xx is success. A redirect is not followed. A 4xx would be the same next time, except 408, 425 and 429."""
        if 200 <= self.status < 300:
            return "delivered"
        if 300 <= self.status < 500 and self.status not in _RETRIED:
            return "rejected"
        return "retry"

    def __str__(self) -> str:
        return self.reason or str(self.status)


class Failure(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """An event that was given up at the Unix second `at`, for `reason`."""

    event: Event
    at: int
    reason: str

    @property
    def due(self) -> int:
        return self.at + KEPT_SECONDS

    @property
    def open(self) -> bool:
        return True


# A queue: it lists the failures by age without reading other rows.
FAILURE = Kind(b"f", Failure, counted=True, queue=True)


def failure_key(ended_id: bytes) -> Key:
    return Key(FAILURE, ended_id)


class Completion(NamedTuple):
    """A claim that its holder completed; `next` is the event from now on, None when it was delivered or given up."""

    claim: Claim
    result: AttemptResult
    next: Event | None

    @property
    def outcome(self) -> Outcome:
        if self.result.outcome == "delivered":
            return "success"
        return "failure" if self.next is None else "retry"


def complete(
    now: float,
    claims: Sequence[Claim],
    results: Sequence[AttemptResult],
    rows: Sequence[Event | None],
    *,
    schedule: Sequence[int],
    jitters: Sequence[float],
    probing: bool = False,
) -> Decision[list[Completion]]:
    """Complete at most MAX_COMPLETIONS claims; `rows` are their events, jitters are 0..1.

    A claim with a stale token changes nothing: another worker has claimed the event since. With `probing` the breaker
    was open, so that a failure says nothing about the event.
    """
    completions: list[Completion] = []
    writes: list[tuple[Key, Any]] = []
    for claimed, result, event, jitter in zip(claims, results, rows, jitters, strict=True):
        name, held = claimed
        if event is None or event.token != held.token:
            continue
        after = None
        if result.outcome == "retry" and probing and now * 1000 < event.since_ms + PATIENCE_SECONDS * 1000:
            # Behind all due events: the next probe uses another event.
            after = msgspec.structs.replace(event, due=math.ceil(now), token=b"")
        elif result.outcome == "retry" and event.tries < len(schedule):
            after = _later(now, event, schedule[event.tries] * (0.8 + 0.4 * jitter), result)
        writes.append((event_key(name), after))
        if after is None and result.outcome != "delivered":
            tried = msgspec.structs.replace(event, tries=event.tries + 1, token=b"")
            writes.append((failure_key(name), Failure(tried, int(now), str(result))))
        completions.append(Completion(claimed, result, after))
    return Decision(completions, tuple(writes))


def _later(now: float, event: Event, seconds: float, result: AttemptResult) -> Event:
    wait = max(seconds, min(result.retry_after, MAX_RETRY_AFTER))
    return msgspec.structs.replace(event, due=math.ceil(now + wait), tries=event.tries + 1, token=b"")


def replay(now: float, ended_id: bytes, failure: Failure | None) -> Decision[bool]:
    """Make a failed event due again, from the start of the schedule; False when there is no such failure."""
    if failure is None:
        return Decision(False)
    event = msgspec.structs.replace(failure.event, since_ms=int(now * 1000), due=int(now), tries=0, claims=0)
    return Decision(True, ((event_key(ended_id), event), (failure_key(ended_id), None)))
