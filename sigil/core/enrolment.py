"""The rules of an enrolment: its states, the transitions between them, and how long its row is kept.

Pure functions of rows and the time (docs/protocol.md, 5.5). Each returns the Decision that one transaction of the
session store writes, or raises a protocol error, and nothing is written. A device proves nothing by its claim: only a
completion fixes its key, and only the right code (or the consent of the replaced key) enrols it.
"""

from __future__ import annotations

import hashlib
import hmac
from enum import IntEnum
from typing import Literal, NamedTuple

import msgspec

from sigil.core.challenge import READABLE_SECONDS, WRONG_CODE, IdempotencyRecord, idempotency_key
from sigil.core.evidence import Evidence
from sigil.core.owner_share import NO_SHARE, OwnerShare
from sigil.core.session_store import OWNER_BYTES, Decision, Key, Kind, Share, Tally
from sigil.core.webhooks.event import Enrolled, Event, EventKind, new_event
from sigil.protocol.enrolment.code import Session, session
from sigil.protocol.errors import (
    EnrolmentClaimed,
    EnrolmentClosed,
    EnrolmentExpired,
    EnrolmentNotFound,
    IdempotencyConflict,
)
from sigil.protocol.messages.enrolment import EnrolmentState

MAX_WRONG_CODES = 3
BYTES_PER_ENROLMENT = 16_384
"""Bytes of the store reserved for each open enrolment: its claim, its completion with the largest credential, and its
event take 12 200 at most, with half-empty pages (a test measures it). The store keeps the sum: to change this number,
change STORE_SCHEMA."""
_CHARGE = 700


class State(IntEnum):
    PENDING = 0
    CLAIMED = 1
    CONFIRMING = 2
    ENROLLED = 3
    FAILED = 4
    EXPIRED = 5
    CANCELLED = 6

    @property
    def wire_name(self) -> EnrolmentState:
        return _WIRE_NAMES[self]


_WIRE_NAMES: dict[State, EnrolmentState] = {
    State.PENDING: "pending",
    State.CLAIMED: "claimed",
    State.CONFIRMING: "confirming",
    State.ENROLLED: "enrolled",
    State.FAILED: "failed",
    State.EXPIRED: "expired",
    State.CANCELLED: "cancelled",
}
OPEN = frozenset({State.PENDING, State.CLAIMED, State.CONFIRMING})
Transition = Literal["claim", "complete", "complete_without_code", "confirm", "fail", "expire", "cancel"]
# A transition that is not in the table is rejected: no transition leaves a final state.
TRANSITIONS: dict[tuple[State, Transition], State] = {
    (State.PENDING, "claim"): State.CLAIMED,
    (State.CLAIMED, "complete"): State.CONFIRMING,
    (State.CLAIMED, "complete_without_code"): State.ENROLLED,
    (State.CONFIRMING, "confirm"): State.ENROLLED,
    (State.CONFIRMING, "fail"): State.FAILED,
    (State.PENDING, "expire"): State.EXPIRED,
    (State.CLAIMED, "expire"): State.EXPIRED,
    (State.CONFIRMING, "expire"): State.EXPIRED,
    (State.PENDING, "cancel"): State.CANCELLED,
    (State.CLAIMED, "cancel"): State.CANCELLED,
    (State.CONFIRMING, "cancel"): State.CANCELLED,
}


class Claim(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """The claim of one device: the SHA-256 of its claim_id, and the members of its offer that settings decide. The
    offer stays as it was claimed, so a reload changes none of them.
    """

    claim_sha256: bytes
    server_name: str
    kinds: tuple[str, ...]
    min_level: str
    offer_sha256: bytes


class Completion(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """The first completion that verified: the key of the device, D, and the nonce that makes the compared code of it.
    The credential is empty without an attestation.
    """

    public_key: bytes
    digest: bytes
    sas_nonce: bytes
    credential: str = ""
    evidence: Evidence | None = None

    @property
    def session(self) -> Session:
        """What the device shows, and the page asks for."""
        return session(self.digest, self.sas_nonce)

    def __repr__(self) -> str:
        return "Completion(…)"  # The generated one would print what makes the code.


class End(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """How an enrolment ended, and when (seconds of the store's clock)."""

    state: State
    at: int
    reason: str = ""


class Enrolment(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """One enrolment, `lifetime` in seconds; its times are those of a challenge. `replaces` is the public key of the
    replaced device, empty for none; `token_sha256` as in the offer.
    """

    owner: bytes
    account: str
    token_sha256: bytes
    base_url: str
    created_ms: int
    lifetime: int
    without_code: bool = False
    replaces: bytes = b""
    min_level: str = ""
    idempotency: bytes | None = None
    wrong_codes: int = 0
    claim: Claim | None = None
    completion: Completion | None = None
    end: End | None = None
    ahead: int = 0
    # Of the span that created it, if that is sampled (see `core.tracing`).
    creation: bytes | None = None

    @property
    def share(self) -> Share:
        """The charge covers the row, its indices, and what it still reserves."""
        own = _CHARGE + len(self.account.encode()) + (len(self.completion.credential) if self.completion else 0)
        return self.owner[:OWNER_BYTES], 0, 0, own + self.reserved, int(self.open)

    @property
    def reserved(self) -> int:
        return BYTES_PER_ENROLMENT if self.open else 0

    @property
    def confirm(self) -> Literal["code", "none"]:
        return "none" if self.without_code else "code"

    @property
    def expires_at(self) -> int:
        return self.created_ms // 1000 + self.lifetime

    @property
    def deadline(self) -> int:
        return self.expires_at + self.ahead

    @property
    def ended_at(self) -> int | None:
        """The time of day of the end, for the wire."""
        return self.end.at - self.ahead if self.end else None

    @property
    def state(self) -> State:
        if self.end is not None:
            return self.end.state
        if self.completion is not None:
            return State.CONFIRMING
        return State.CLAIMED if self.claim is not None else State.PENDING

    @property
    def reason(self) -> str:
        return self.end.reason if self.end else ""

    @property
    def open(self) -> bool:
        return self.end is None

    @property
    def due(self) -> int:
        return self.end.at + READABLE_SECONDS if self.end else self.deadline

    @property
    def replaced_fingerprint(self) -> bytes:
        """32 bytes, empty for a device that replaces none."""
        return hashlib.sha256(self.replaces).digest() if self.replaces else b""

    def is_claimed_by(self, claim_sha256: bytes) -> bool:
        return self.claim is not None and hmac.compare_digest(self.claim.claim_sha256, claim_sha256)


class TokenRecord(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """The enrolment of a token, so that a claim finds it without a scan. Deleted with that enrolment."""

    enrolment_id: bytes

    @property
    def due(self) -> int:
        return 0


ENROLMENT = Kind(b"e", Enrolment, counted=True, reserves=True, long=True, tallied=True)
ENROLMENT_TOKEN = Kind(b"t", TokenRecord)


def enrolment_key(enrolment_id: bytes) -> Key:
    return Key(ENROLMENT, enrolment_id)


def token_key(token_sha256: bytes) -> Key:
    return Key(ENROLMENT_TOKEN, token_sha256[:16])


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


def current_state(now: float, enrolment: Enrolment | None) -> Enrolment | None:
    """The row as of `now`: expiry and the deletion take effect before the sweep writes them."""
    if enrolment is None:
        return None
    if enrolment.open and now >= enrolment.deadline:
        enrolment = expired(enrolment)
    if not enrolment.open and now >= enrolment.due:
        return None
    return enrolment


def _ended(enrolment: Enrolment, transition: Transition, at: float, reason: str = "") -> Enrolment:
    return msgspec.structs.replace(enrolment, end=End(TRANSITIONS[enrolment.state, transition], int(at), reason))


def expired(enrolment: Enrolment) -> Enrolment:
    """For an open enrolment past its expiry time, by any margin."""
    return _ended(enrolment, "expire", enrolment.deadline)


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


def deletion(enrolment_id: bytes, enrolment: Enrolment | None) -> list[tuple[Key, object]]:
    """The writes that delete an enrolment and its index."""
    writes: list[tuple[Key, object]] = [(enrolment_key(enrolment_id), None)]
    if enrolment is not None:
        writes.append((token_key(enrolment.token_sha256), None))
        if enrolment.idempotency:
            writes.append((idempotency_key(enrolment.idempotency), None))
    return writes


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
    return _changed(enrolment_id, enrolment, "cancel", _ended(enrolment, "cancel", now))


def event_of(now: float, enrolment_id: bytes, enrolment: Enrolment, creation: bytes | None = None) -> tuple[Key, Event]:
    """The webhook event of an enrolment that was enrolled, has failed or has expired."""
    ended_at = enrolment.ended_at
    if ended_at is None:
        raise ValueError("an enrolment that has not ended has no event")
    enrolled, completion = enrolment.state is State.ENROLLED, enrolment.completion
    return new_event(
        now,
        enrolment_id,
        _EVENTS[enrolment.state],
        ended_at,
        owner=enrolment.owner,
        fingerprint=hashlib.sha256(completion.public_key).digest() if completion else b"",
        reason=enrolment.reason,
        creation=creation,
        evidence=completion.evidence if completion else None,
        enrolled=Enrolled(
            account=enrolment.account,
            confirm=enrolment.confirm,
            public_key=completion.public_key if completion and enrolled else b"",
            replaced=enrolment.replaced_fingerprint if enrolled else b"",
        ),
    )


_EVENTS = {
    State.ENROLLED: EventKind.ENROLMENT_COMPLETED,
    State.FAILED: EventKind.ENROLMENT_FAILED,
    State.EXPIRED: EventKind.ENROLMENT_EXPIRED,
}


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
    after = _ended(enrolment, transition, now, reason)
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
