"""The rules of an enrolment: which steps its state permits, and what each change writes.

Pure functions of rows and the time (docs/protocol.md, 5.5). Each returns the Decision that one transaction of the
session store writes, or raises a protocol error, and nothing is written. A device proves nothing by its claim: only a
completion fixes its key, and only the right code (or the consent of the replaced key) enrols it.
"""

from __future__ import annotations

import hmac
from typing import Literal, NamedTuple

import msgspec

from sigil.core.challenge import WRONG_CODE, IdempotencyRecord, idempotency_key
from sigil.core.enrolment.row import (
    OPEN,
    TRANSITIONS,
    Claim,
    Completion,
    End,
    Enrolment,
    State,
    TokenRecord,
    Transition,
    current_state,
    deletion,
    ended,
    enrolment_key,
    event_of,
    token_key,
)
from sigil.core.owner_share import NO_SHARE, OwnerShare
from sigil.core.session_store import Decision, Key, Tally
from sigil.protocol.errors import (
    EnrolmentClaimed,
    EnrolmentClosed,
    EnrolmentExpired,
    EnrolmentNotFound,
    IdempotencyConflict,
)

MAX_WRONG_CODES = 3


class Begun(msgspec.Struct, frozen=True):
    """`replayed`: the row is that of the first request with the same Idempotency-Key."""

    enrolment_id: bytes
    enrolment: Enrolment
    replayed: bool = False


class Changed(NamedTuple):
    """An enrolment after a rule; `changed`: whether this decision changed its state. Of several at once, one did."""

    enrolment: Enrolment
    changed: bool


class Confirmed(NamedTuple):
    """`right`: the code was right. A wrong one is written, so it cannot be an exception of the rule."""

    enrolment: Enrolment
    changed: bool
    right: bool

    @property
    def attempts_left(self) -> int:
        return MAX_WRONG_CODES - self.enrolment.wrong_codes


def replay(now: float, known: IdempotencyRecord | None, body_sha256: bytes, row: Enrolment | None) -> Begun | None:
    """The first response to an Idempotency-Key, None when the key is free. IdempotencyConflict: another body."""
    enrolment = current_state(now, row)
    if known is None or enrolment is None:
        return None
    if known.body_sha256 != body_sha256:
        raise IdempotencyConflict
    return Begun(known.challenge_id, enrolment, replayed=True)


def begin(
    enrolment_id: bytes,
    enrolment: Enrolment,
    *,
    body_sha256: bytes,
    stale: tuple[bytes, Enrolment | None] | None = None,
    tally: Tally | None = None,
    share: OwnerShare = NO_SHARE,
) -> Decision[Begun]:
    """A new enrolment; TooManyPending by the limits of its owner.

    `stale`: an earlier use of the Idempotency-Key, whose enrolment has ended. It is deleted here: otherwise the sweep
    of the old enrolment would delete the new use of the key.
    """
    share.check(tally, enrolment.share)
    writes: list[tuple[Key, object]] = []
    if stale is not None:
        writes += deletion(*stale)
    writes += [
        (enrolment_key(enrolment_id), enrolment),
        (token_key(enrolment.token_sha256), TokenRecord(enrolment_id)),
    ]
    if enrolment.idempotency:
        writes.append((idempotency_key(enrolment.idempotency), IdempotencyRecord(body_sha256, enrolment_id)))
    return Decision(Begun(enrolment_id, enrolment), tuple(writes))


def claim(now: float, enrolment_id: bytes, row: Enrolment | None, claimed: Claim) -> Decision[Changed]:
    """The first claim wins. The same claim_id again gets the offer as it was claimed.

    Checks in order: known 404, not claimed by another 409, open 409, not expired 410.
    """
    enrolment = _require_known(current_state(now, row))
    if enrolment.claim is not None and not enrolment.is_claimed_by(claimed.claim_sha256):
        raise EnrolmentClaimed
    _require_in(enrolment, OPEN)
    if enrolment.claim is not None:
        return Decision(Changed(enrolment, changed=False))
    after = msgspec.structs.replace(enrolment, claim=claimed)
    return _changed(enrolment_id, enrolment, "claim", after)


def complete(
    now: float,
    enrolment_id: bytes,
    row: Enrolment | None,
    claim_sha256: bytes,
    completion: Completion,
    *,
    emit_event: bool = False,
    event_creation: bytes | None = None,
) -> Decision[Changed]:
    """A completion whose signatures and attestation were verified. The first one fixes D: the same D again gets the
    same answer, and another D is EnrolmentClosed, since sas_nonce is known by then.
    """
    enrolment = _require_known(current_state(now, row))
    if not enrolment.is_claimed_by(claim_sha256):
        raise EnrolmentClaimed
    if is_repeated(enrolment, completion.digest):
        return Decision(Changed(enrolment, changed=False))
    _require_in(enrolment, {State.CLAIMED})
    completed = msgspec.structs.replace(enrolment, completion=completion)
    if not enrolment.without_code:
        return _changed(enrolment_id, enrolment, "complete", completed)
    after = msgspec.structs.replace(completed, end=End(TRANSITIONS[enrolment.state, "complete_without_code"], int(now)))
    decision = _changed(enrolment_id, enrolment, "complete_without_code", after)
    return _with_event(now, enrolment_id, after, decision, event_creation) if emit_event else decision


def is_repeated(enrolment: Enrolment, digest: bytes) -> bool:
    """Whether this completion is the one that was accepted, and its answer still counts."""
    return (
        enrolment.completion is not None
        and enrolment.state in {State.CONFIRMING, State.ENROLLED}
        and hmac.compare_digest(enrolment.completion.digest, digest)
    )


def confirm(
    now: float,
    enrolment_id: bytes,
    row: Enrolment | None,
    code: str,
    *,
    emit_event: bool = False,
    event_creation: bytes | None = None,
) -> Decision[Confirmed]:
    """The code that the page got from the person. The third wrong one ends the enrolment. The right code again is no
    error; in another state than `confirming` every other code is EnrolmentClosed.
    """
    enrolment = _require_known(current_state(now, row))
    right = enrolment.completion is not None and hmac.compare_digest(
        enrolment.completion.session.code.encode(), code.encode()
    )
    if enrolment.state is State.ENROLLED and right:
        return Decision(Confirmed(enrolment, changed=False, right=True))
    _require_in(enrolment, {State.CONFIRMING})
    if right:
        return _end_confirming(now, enrolment_id, enrolment, "confirm", emit_event=emit_event, creation=event_creation)
    counted = msgspec.structs.replace(enrolment, wrong_codes=enrolment.wrong_codes + 1)
    if counted.wrong_codes < MAX_WRONG_CODES:
        confirmed = Confirmed(counted, changed=False, right=False)
        return Decision(confirmed, ((enrolment_key(enrolment_id), counted),))
    return _end_confirming(
        now, enrolment_id, counted, "fail", reason=WRONG_CODE, emit_event=emit_event, creation=event_creation
    )


def cancel(now: float, enrolment_id: bytes, row: Enrolment | None) -> Decision[Changed]:
    """The owner cancels. A repeated cancellation is no error; after another end, EnrolmentClosed."""
    enrolment = _require_known(current_state(now, row))
    if enrolment.state is State.CANCELLED:
        return Decision(Changed(enrolment, changed=False))
    if enrolment.state not in OPEN:
        raise _closed(enrolment)
    return _changed(enrolment_id, enrolment, "cancel", ended(enrolment, "cancel", now))


def _require_known(enrolment: Enrolment | None) -> Enrolment:
    if enrolment is None:
        raise EnrolmentNotFound
    return enrolment


def _require_in(enrolment: Enrolment, states: frozenset[State] | set[State]) -> None:
    if enrolment.state in states:
        return
    if enrolment.state is State.EXPIRED:
        raise EnrolmentExpired
    raise _closed(enrolment)


def _closed(enrolment: Enrolment) -> EnrolmentClosed:
    return EnrolmentClosed(status=enrolment.state.wire_name)


def _changed(enrolment_id: bytes, before: Enrolment, transition: Transition, after: Enrolment) -> Decision[Changed]:
    """Also a change that ends nothing wakes the long polls: a page shows each state."""
    if TRANSITIONS[before.state, transition] is not after.state:
        raise ValueError(f"{transition} does not lead from {before.state.wire_name} to {after.state.wire_name}")
    return Decision(Changed(after, changed=True), ((enrolment_key(enrolment_id), after),), ended=(enrolment_id,))


def _end_confirming(
    now: float,
    enrolment_id: bytes,
    enrolment: Enrolment,
    transition: Literal["confirm", "fail"],
    *,
    reason: str = "",
    emit_event: bool,
    creation: bytes | None,
) -> Decision[Confirmed]:
    after = ended(enrolment, transition, now, reason)
    decision = _changed(enrolment_id, enrolment, transition, after)
    if emit_event:
        decision = _with_event(now, enrolment_id, after, decision, creation)
    confirmed = Confirmed(after, changed=True, right=transition == "confirm")
    return Decision(confirmed, decision.writes, decision.ended)


def _with_event(
    now: float, enrolment_id: bytes, after: Enrolment, ending: Decision[Changed], creation: bytes | None
) -> Decision[Changed]:
    """The same with a webhook event. A cancellation has none: the requester made it."""
    event = event_of(now, enrolment_id, after, creation)
    return msgspec.structs.replace(ending, writes=(*ending.writes, event))
