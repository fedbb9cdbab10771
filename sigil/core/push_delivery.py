"""What becomes of a claimed entry of the outbox when the relay has answered, or has not (docs/protocol.md, 5.2, 6)."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, Literal, NamedTuple

import msgspec

from sigil.core.challenge import Challenge
from sigil.core.push_outbox import Claim, OutboxEntry, Push, Step, outbox_key
from sigil.core.push_subject import PushSubject, is_pending, subject_key
from sigil.core.session_store import Decision, Key

DeliveryResult = Literal[
    "delivered",
    "queued",
    "not_registered",
    "token_evicted",
    "rate_limited",
    "failed",
    "relay_unreachable",  # no answer, or none that counts
    "unknown",  # the relay was asked what became of a push, and has no memory of it
    "over",  # nothing was sent: what was asked ended meanwhile
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
"""From one question what became of a queued push to the next: 1, 4, 15 and 60 s after the relay took it."""
RATE_SECONDS = (5, 10, 20, 30)
"""From one try of a rate-limited push to the next; the last stays."""
_AGAIN_SECONDS = 1
_MAX_CLAIMS = 20
# The row of the entry, and that of what is asked.
MOST_COMPLETIONS = 100


_After = Callable[[float], int]
"""The Unix second after so many seconds."""


class Completion(NamedTuple):
    """A claim that its holder completed. `push` is how the push stands now, `before` how it stood.

    `asked` is the row of the challenge or request, None when that is gone. Of a request nobody asks how each push
    stands: it has no such state.
    """

    claim: Claim
    result: DeliveryResult
    subject: PushSubject | None
    before: Push = Push.DISABLED
    push: Push = Push.DISABLED


def rows_of(claims: Sequence[Claim]) -> list[Key]:
    """The keys whose rows `complete` decides about."""
    # Members of one request share its row: it is read once.
    return [*(outbox_key(name) for name, _ in claims), *dict.fromkeys(subject_key(name) for name, _ in claims)]


def complete(
    now: float, claims: Sequence[Claim], words: Sequence[DeliveryResult], rows: Sequence[Any], jitter: float
) -> Decision[list[Completion]]:
    """Write down what became of claims, of at most MOST_COMPLETIONS; `rows` are those of `rows_of`, jitter is 0..1.

    A claim whose token the entry does not have any more changes nothing: somebody else has taken it over.
    """
    done: list[Completion] = []
    writes: list[tuple[Key, Any]] = []

    def after(seconds: float) -> int:
        # A fifth more or less, for all of one batch: the batches of one moment are not to come back together.
        return math.ceil(now + seconds * (0.8 + 0.4 * jitter)) if seconds else int(now)

    entries, keys = rows[: len(claims)], [subject_key(name) for name, _ in claims]
    asked_at = dict(zip(dict.fromkeys(keys), rows[len(claims) :], strict=True))
    for claimed, word, entry, key in zip(claims, words, entries, keys, strict=True):
        name, held = claimed
        if entry is None or entry.token != held.token:
            continue
        asked = asked_at[key]
        told = _told(held, word, asked)
        if told is not asked:
            writes.append((key, told))
        is_asked = told is not None and is_pending(name, told)
        writes.append((outbox_key(name), _next(held, word, entry, is_asked, after)))
        done.append(Completion(claimed, word, told, *_standing(held, word, asked, told)))
    return Decision(done, tuple(writes))


def _standing(
    held: OutboxEntry, word: DeliveryResult, asked: PushSubject | None, told: PushSubject | None
) -> tuple[Push, Push]:
    """How the push stood, and stands now; of a request, what was heard just now."""
    if isinstance(asked, Challenge) and isinstance(told, Challenge):
        return asked.push, told.push
    if told is None or held.step is Step.CLEAR or word == "relay_unreachable":
        return Push.DISABLED, Push.DISABLED
    return Push.DISABLED, _PUSH.get(word, Push.DISABLED)


def _told(held: OutboxEntry, word: DeliveryResult, asked: PushSubject | None) -> PushSubject | None:
    """The row with what is known of its push now. Delivered stays; a question without an answer tells nothing."""
    push = _PUSH.get(word)
    if not isinstance(asked, Challenge) or push is None or held.step is Step.CLEAR:
        return asked
    if asked.push in {push, Push.DELIVERED} or (held.step is Step.POLL_OUTCOME and push is Push.RELAY_UNREACHABLE):
        return asked
    return msgspec.structs.replace(asked, push=push)


def _next(
    held: OutboxEntry, word: DeliveryResult, entry: OutboxEntry, is_asked: bool, after: _After
) -> OutboxEntry | None:
    """The entry from now on; None when nothing is left to be said."""
    if held.step is Step.CLEAR:
        return _free(entry, after(_AGAIN_SECONDS)) if word == "relay_unreachable" else None
    if entry.step is Step.CLEAR:
        # It waited for this push to be out. One that was not sent now may have been, by a former holder who died.
        hidden = word in {"not_registered", "token_evicted", "rate_limited"} or (word == "over" and entry.claims == 1)
        return None if hidden else _free(entry, after(0))
    if not is_asked:
        return None
    if word == "over":
        # Nothing was sent, so it does not count as claimed. The sweep, which ends what was asked, is to find it.
        return _free(entry, entry.due, claims=entry.claims - 1)
    if word == "relay_unreachable":
        return _free(entry, after(_AGAIN_SECONDS))
    again = _again(word, entry, after)
    return again if again is not None and again.due < again.expires_at else None


def _again(word: DeliveryResult, entry: OutboxEntry, after: _After) -> OutboxEntry | None:
    """What is to be done after an answer of the relay that was not its last word; else None."""
    if word == "queued":
        tries = entry.tries if entry.step is Step.POLL_OUTCOME else 0
        if tries < len(POLL_SECONDS):
            return _free(entry, after(POLL_SECONDS[tries]), step=Step.POLL_OUTCOME, tries=tries + 1)
    elif word == "rate_limited":
        tries = entry.tries if entry.step is Step.PUSH else 0
        seconds = RATE_SECONDS[min(tries, len(RATE_SECONDS) - 1)]
        return _free(entry, after(seconds), step=Step.PUSH, tries=tries + 1)
    elif word == "unknown" and entry.claims < _MAX_CLAIMS:
        return _free(entry, after(_AGAIN_SECONDS), step=Step.PUSH, tries=0)
    return None


def _free(entry: OutboxEntry, due: int, **changed: Any) -> OutboxEntry:
    return msgspec.structs.replace(entry, due=due, token=b"", **changed)
