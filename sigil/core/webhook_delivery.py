"""What becomes of a claimed event when its receiver has answered, or has not (docs/protocol.md, 5.4)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Literal, NamedTuple

import msgspec

from sigil.core.session_store import Decision, Key, Kind
from sigil.core.webhook_event import Claim, Event, event_key

MOST_RETRY_AFTER = 1800
"""Seconds for which a receiver can ask to be left alone."""
PATIENCE_SECONDS = 86_400
"""How long an event is tried without using up tries while its receiver is away. In the end it makes way: else two
events that a receiver chokes on would keep it "away" for ever when nothing else happens."""
KEPT_SECONDS = 7 * 86_400
MOST_FAILURES = 10_000
"""Final failures that are kept for `sigil webhook replay`; the oldest go."""
# A completion is one write, or two when it fails for good; a transaction writes at most 200.
MOST_COMPLETIONS = 100
Outcome = Literal["success", "failure", "retry"]
_AGAIN = frozenset({408, 425, 429})


class AttemptResult(NamedTuple):
    """What a try came to: an HTTP status, or 0 and a few words for the log on why there was none.

    `retry_after` in seconds, 0 when the receiver did not say.
    """

    status: int
    reason: str = ""
    retry_after: float = 0.0

    @property
    def outcome(self) -> Literal["delivered", "again", "refused"]:
        """2xx is success. A redirect is not followed, and any other 4xx would be the same the next time."""
        if 200 <= self.status < 300:
            return "delivered"
        if 300 <= self.status < 500 and self.status not in _AGAIN:
            return "refused"
        return "again"

    def __str__(self) -> str:
        return self.reason or str(self.status)


class Failure(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """An event that was given up at the Unix second `at`, and why."""

    event: Event
    at: int
    reason: str

    @property
    def due(self) -> int:
        return self.at + KEPT_SECONDS

    @property
    def open(self) -> bool:
        return True


# A queue, so that the failures can be listed by age without a look at anything else.
FAILURE = Kind(b"f", Failure, counted=True, queue=True)


def failure_key(ended_id: bytes) -> Key:
    return Key(FAILURE, ended_id)


class Completion(NamedTuple):
    """A claim that its holder completed; `next` is the event from now on, None when it is delivered or given up."""

    claim: Claim
    answer: AttemptResult
    next: Event | None

    @property
    def outcome(self) -> Outcome:
        if self.answer.outcome == "delivered":
            return "success"
        return "failure" if self.next is None else "retry"


def complete(
    now: float,
    claims: Sequence[Claim],
    answers: Sequence[AttemptResult],
    rows: Sequence[Event | None],
    *,
    schedule: Sequence[int],
    jitters: Sequence[float],
    probing: bool = False,
) -> Decision[list[Completion]]:
    """Write down what became of claims, of at most MOST_COMPLETIONS; `rows` are their events, jitters are 0..1.

    A claim whose token the event does not have any more changes nothing: somebody else has taken it over. With
    `probing` the receiver was known to be away, so that a failure says nothing of the event.
    """
    done: list[Completion] = []
    writes: list[tuple[Key, Any]] = []
    for claimed, answer, event, jitter in zip(claims, answers, rows, jitters, strict=True):
        name, held = claimed
        if event is None or event.token != held.token:
            continue
        after = None
        if answer.outcome == "again" and probing and now * 1000 < event.since_ms + PATIENCE_SECONDS * 1000:
            # Behind all that waits: the next probe is made with another event.
            after = msgspec.structs.replace(event, due=math.ceil(now), token=b"")
        elif answer.outcome == "again" and event.tries < len(schedule):
            after = _later(now, event, schedule[event.tries] * (0.8 + 0.4 * jitter), answer)
        writes.append((event_key(name), after))
        if after is None and answer.outcome != "delivered":
            tried = msgspec.structs.replace(event, tries=event.tries + 1, token=b"")
            writes.append((failure_key(name), Failure(tried, int(now), str(answer))))
        done.append(Completion(claimed, answer, after))
    return Decision(done, tuple(writes))


def _later(now: float, event: Event, seconds: float, answer: AttemptResult) -> Event:
    wait = max(seconds, min(answer.retry_after, MOST_RETRY_AFTER))
    return msgspec.structs.replace(event, due=math.ceil(now + wait), tries=event.tries + 1, token=b"")


def replay(now: float, ended_id: bytes, failure: Failure | None) -> Decision[bool]:
    """Try a failed event anew, from the beginning of the schedule; False when there is none."""
    if failure is None:
        return Decision(False)
    event = msgspec.structs.replace(failure.event, since_ms=int(now * 1000), due=int(now), tries=0, claims=0)
    return Decision(True, ((event_key(ended_id), event), (failure_key(ended_id), None)))
