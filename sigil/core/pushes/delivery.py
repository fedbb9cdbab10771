"""The completion of a claimed outbox entry: what each result of the relay changes (docs/protocol.md, 5.2 and 6)."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, Literal, NamedTuple

import msgspec

from sigil.core.challenge import Challenge
from sigil.core.pushes.outbox import Claim, OutboxEntry, Push, Step, clear_answered, outbox_key, poll_answered
from sigil.core.pushes.subject import PushSubject, is_pending, subject_key
from sigil.core.session_store import Decision, Key

DeliveryResult = Literal[
    "delivered",
    "queued",
    "not_registered",
    "token_evicted",
    "rate_limited",
    "failed",
    "relay_unreachable",  # no response, or none that counts
    "unknown",  # a poll for the outcome of a push that the relay does not remember
    "ended",  # nothing was sent: the challenge or request ended meanwhile
]
_PUSH: dict[DeliveryResult, Push] = {
    "delivered": Push.DELIVERED,
    "queued": Push.QUEUED,
    "not_registered": Push.NOT_REGISTERED,
    "token_evicted": Push.TOKEN_EVICTED,
    "rate_limited": Push.RATE_LIMITED,
    "failed": Push.FAILED,
    "relay_unreachable": Push.RELAY_UNREACHABLE,
}
POLL_SECONDS = (1, 3, 11, 45)
"""Between polls for the outcome of a queued push: at 1, 4, 15 and 60 s after the relay took it."""
RATE_SECONDS = (5, 10, 20, 30)
"""Between tries of a rate-limited push; the last value repeats."""
_RETRY_SECONDS = 1
_MAX_CLAIMS = 20
# Two rows each: that of the entry, and that of its subject. A transaction writes at most 200.
MAX_COMPLETIONS = 100


_After = Callable[[float], int]
"""The Unix second that is so many seconds from now."""


class Completion(NamedTuple):
    """A claim that its holder completed. `before` and `push` are the push states before and after it.

    `subject` is the row of the challenge or request, None when that is deleted. A request stores no push state for its
    members.
    """

    claim: Claim
    result: DeliveryResult
    subject: PushSubject | None
    before: Push = Push.DISABLED
    push: Push = Push.DISABLED


def rows_of(claims: Sequence[Claim]) -> list[Key]:
    """The keys whose rows `complete` reads."""
    # Members of one request share its row: it is read once.
    return [*(outbox_key(name) for name, _ in claims), *dict.fromkeys(subject_key(name) for name, _ in claims)]


def complete(
    now: float, claims: Sequence[Claim], results: Sequence[DeliveryResult], rows: Sequence[Any], jitter: float
) -> Decision[list[Completion]]:
    """Complete at most MAX_COMPLETIONS claims; `rows` are those of `rows_of`, `jitter` is 0..1.

    A claim with a stale token changes nothing: another worker has claimed the entry since.
    """
    completions: list[Completion] = []
    writes: list[tuple[Key, Any]] = []

    def after(seconds: float) -> int:
        # 20 % more or less, the same for a whole batch, so that the batches of one moment do not return together.
        return math.ceil(now + seconds * (0.8 + 0.4 * jitter)) if seconds else int(now)

    entries, keys = rows[: len(claims)], [subject_key(name) for name, _ in claims]
    subjects = dict(zip(dict.fromkeys(keys), rows[len(claims) :], strict=True))
    for claimed, result, entry, key in zip(claims, results, entries, keys, strict=True):
        name, held = claimed
        if entry is None or entry.token != held.token:
            continue
        subject = subjects[key]
        updated = _with_push(held, result, subject)
        if updated is not subject:
            writes.append((key, updated))
        pending = updated is not None and is_pending(name, updated)
        left = _next(held, result, entry, now=now, pending=pending, deleted=updated is None, after=after)
        writes.append((outbox_key(name), left))
        completions.append(Completion(claimed, result, updated, *_push_states(held, result, subject, updated)))
    return Decision(completions, tuple(writes))


def _push_states(
    held: OutboxEntry, result: DeliveryResult, subject: PushSubject | None, updated: PushSubject | None
) -> tuple[Push, Push]:
    """The push states before and after; of a request, which stores none, only that of this result."""
    if isinstance(subject, Challenge) and isinstance(updated, Challenge):
        return subject.push, updated.push
    if updated is None or held.step is Step.CLEAR or result == "relay_unreachable":
        return Push.DISABLED, Push.DISABLED
    return Push.DISABLED, _PUSH.get(result, Push.DISABLED)


def _with_push(held: OutboxEntry, result: DeliveryResult, subject: PushSubject | None) -> PushSubject | None:
    """The row with its new push state. DELIVERED never changes; a poll that fails changes nothing."""
    push = _PUSH.get(result)
    if held.step is Step.POLL_ANSWERED and push is Push.QUEUED:
        push = Push.CLEARED
    if not isinstance(subject, Challenge) or push is None or held.step is Step.CLEAR:
        return subject
    if subject.push in {push, Push.DELIVERED} or (held.step.polls and push is Push.RELAY_UNREACHABLE):
        return subject
    return msgspec.structs.replace(subject, push=push)


def _next(
    held: OutboxEntry,
    result: DeliveryResult,
    entry: OutboxEntry,
    *,
    now: float,
    pending: bool,
    deleted: bool,
    after: _After,
) -> OutboxEntry | None:
    """The entry from now on; None deletes it."""
    if held.step is Step.CLEAR:
        return _free(entry, after(_RETRY_SECONDS)) if result == "relay_unreachable" else None
    if entry.step is Step.CLEAR:
        # The clear waited for this push. If it was not sent now, an earlier holder that died may have sent it.
        hidden = result in {"not_registered", "token_evicted", "rate_limited"} or (
            result == "ended" and entry.claims == 1
        )
        return None if hidden else _free(entry, after(0))
    if not pending:
        return None if deleted else _next_after_answer(now, held, result, entry, after)
    if result == "ended":
        # Nothing was sent, so the claim does not count. The expiry sweep, which ends the subject, needs the entry.
        return _free(entry, entry.due, claims=entry.claims - 1)
    if result == "relay_unreachable":
        return _free(entry, after(_RETRY_SECONDS))
    retry = _retry(result, entry, after)
    return retry if retry is not None and retry.due < retry.expires_at else None


def _next_after_answer(
    now: float, held: OutboxEntry, result: DeliveryResult, entry: OutboxEntry, after: _After
) -> OutboxEntry | None:
    """The device has answered. A push that it has not got is cleared."""
    if held.step is Step.POLL_ANSWERED:
        if result == "relay_unreachable":
            return _free(entry, after(_RETRY_SECONDS))
        return clear_answered(now, entry) if result == "queued" else None
    # "ended": nothing was sent now, but an earlier holder that died may have sent it.
    maybe_sent = result in {"queued", "relay_unreachable"} or (result == "ended" and entry.claims > 1)
    return poll_answered(now, entry) if maybe_sent else None


def _retry(result: DeliveryResult, entry: OutboxEntry, after: _After) -> OutboxEntry | None:
    """The entry for another poll or try; None after a final result of the relay."""
    if result == "queued":
        tries = entry.tries if entry.step is Step.POLL_OUTCOME else 0
        if tries < len(POLL_SECONDS):
            return _free(entry, after(POLL_SECONDS[tries]), step=Step.POLL_OUTCOME, tries=tries + 1)
    elif result == "rate_limited":
        tries = entry.tries if entry.step is Step.PUSH else 0
        seconds = RATE_SECONDS[min(tries, len(RATE_SECONDS) - 1)]
        return _free(entry, after(seconds), step=Step.PUSH, tries=tries + 1)
    elif result == "unknown" and entry.claims < _MAX_CLAIMS:
        return _free(entry, after(_RETRY_SECONDS), step=Step.PUSH, tries=0)
    return None


def _free(entry: OutboxEntry, due: int, **changed: Any) -> OutboxEntry:
    return msgspec.structs.replace(entry, due=due, token=b"", **changed)
