"""The rules of a challenge: its states, the transitions between them, and how long its row is kept.

Pure functions of rows and the time (docs/protocol.md, 5.2). Each returns the Decision that one transaction of the
session store writes, or raises a protocol error, and nothing is written.
"""

from __future__ import annotations

import hashlib
from enum import IntEnum
from functools import lru_cache
from typing import Literal

import msgspec

from sigil.core.device_ledger import Ledger, Limits
from sigil.core.evidence import Evidence, WebProof
from sigil.core.owner_share import NO_SHARE, OwnerShare
from sigil.core.pushes.outbox import OutboxEntry, Push, after_answer, after_end, new_entry, outbox_key
from sigil.core.session_store import OWNER_BYTES, Decision, Key, Kind, Share, Tally
from sigil.core.store_capacity import BYTES_PER_END
from sigil.core.webhooks.event import Event, EventKind, new_event
from sigil.protocol.errors import ChallengeAlreadyUsed, ChallengeExpired, ChallengeNotFound, IdempotencyConflict

READABLE_SECONDS = 600
MAX_WRONG_CODES = 3
# A pending challenge takes at most 450 bytes with the shortest actions (a test measures it), and its end what is kept
# free for it.
_CHARGE_ENDED = 400
_CHARGE_PENDING = _CHARGE_ENDED + BYTES_PER_END
WRONG_CODE = "wrong_code"


class State(IntEnum):
    PENDING = 0
    VERIFIED = 1
    REJECTED = 2
    EXPIRED = 3
    CANCELLED = 4

    @property
    def wire_name(self) -> Literal["pending", "verified", "rejected", "expired", "cancelled"]:
        return _WIRE_NAMES[self]


_WIRE_NAMES: dict[State, Literal["pending", "verified", "rejected", "expired", "cancelled"]] = {
    State.PENDING: "pending",
    State.VERIFIED: "verified",
    State.REJECTED: "rejected",
    State.EXPIRED: "expired",
    State.CANCELLED: "cancelled",
}
Transition = Literal["approve", "reject", "expire", "cancel"]
# A transition that is not in the table is rejected: no transition leaves a final state.
TRANSITIONS: dict[tuple[State, Transition], State] = {
    (State.PENDING, "approve"): State.VERIFIED,
    (State.PENDING, "reject"): State.REJECTED,
    (State.PENDING, "expire"): State.EXPIRED,
    (State.PENDING, "cancel"): State.CANCELLED,
}


class End(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """How a challenge ended, and when (seconds of the store's clock)."""

    state: State
    at: int
    reason: str = ""
    evidence: Evidence | None = None
    web: WebProof = WebProof.NONE


class Challenge(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """One challenge, `lifetime` in seconds.

    `created_ms` and `expires_at` are times of day, for the wire. The store's clock was `ahead` by so many seconds when
    the challenge was created: 0, unless the time of day was set back. Decisions use `deadline`, of the store's clock.

    A million of these may be pending: rare values share one member, and the challenge bytes and the server's signature
    are not stored but computed again.
    """

    public_key: bytes
    owner: bytes
    nonce: bytes
    action: bytes
    created_ms: int
    lifetime: int
    respond_to: str = ""
    match_code: str = ""
    idempotency: bytes | None = None
    wrong_codes: int = 0
    end: End | None = None
    push: Push = Push.DISABLED
    ahead: int = 0
    # Of the span that created it, if that is sampled (see `core.tracing`).
    creation: bytes | None = None

    @property
    def share(self) -> Share:
        """The charge covers the ledger, the other rows and the indices; while pending, also the end."""
        if self.end is None:
            return self.owner[:OWNER_BYTES], 1, 0, self._charge + _CHARGE_PENDING, 0
        return self.owner[:OWNER_BYTES], 0, 0, self._charge + _CHARGE_ENDED, 0

    @property
    def _charge(self) -> int:
        key = max(0, len(self.public_key) - 33)
        return key + len(self.action) + (len(self.creation) if self.creation else 0)

    @property
    def expires_at(self) -> int:
        return self.created_ms // 1000 + self.lifetime

    @property
    def deadline(self) -> int:
        return self.created_ms // 1000 + self.lifetime + self.ahead

    @property
    def ended_at(self) -> int | None:
        """The time of day of the end, for the wire."""
        return self.end.at - self.ahead if self.end else None

    @property
    def state(self) -> State:
        return self.end.state if self.end else State.PENDING

    @property
    def reason(self) -> str:
        return self.end.reason if self.end else ""

    @property
    def evidence(self) -> Evidence | None:
        """What the credential of the approval attested."""
        return self.end.evidence if self.end else None

    @property
    def web(self) -> WebProof:
        """What the answer of a web device proved."""
        return self.end.web if self.end else WebProof.NONE

    @property
    def open(self) -> bool:
        return self.end is None

    @property
    def due(self) -> int:
        return self.end.at + READABLE_SECONDS if self.end else self.deadline

    @property
    def decision(self) -> Literal["approved", "rejected"] | None:
        return {State.VERIFIED: "approved", State.REJECTED: "rejected"}.get(self.state)  # type: ignore[return-value]


class IdempotencyRecord(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """The challenge that used an Idempotency-Key. Deleted with that challenge."""

    body_sha256: bytes
    challenge_id: bytes

    @property
    def due(self) -> int:
        return 0


CHALLENGE = Kind(b"c", Challenge, counted=True, tallied=True)
LEDGER = Kind(b"l", Ledger)
IDEMPOTENCY = Kind(b"i", IdempotencyRecord)


def challenge_key(challenge_id: bytes) -> Key:
    return Key(CHALLENGE, challenge_id)


# The same devices recur, and a request with several members uses the key of each a few times.
@lru_cache(maxsize=4096)
def ledger_key(public_key: bytes) -> Key:
    """By 96 bits of the fingerprint, to keep rows small. The public key in the challenge's row is authoritative."""
    return Key(LEDGER, hashlib.sha256(public_key).digest()[:12])


def idempotency_key(name: bytes) -> Key:
    return Key(IDEMPOTENCY, name)


class Issued(msgspec.Struct, frozen=True):
    """`replayed`: the row is that of the first request with the same Idempotency-Key."""

    challenge_id: bytes
    challenge: Challenge
    replayed: bool = False


def current_state(now: float, challenge: Challenge | None) -> Challenge | None:
    """The row as of `now`: expiry and the deletion take effect before the sweep writes them."""
    if challenge is None:
        return None
    if challenge.state is State.PENDING and now >= challenge.deadline:
        challenge = expired(challenge)
    if challenge.state is not State.PENDING and now >= challenge.due:
        return None
    return challenge


def _apply_transition(
    challenge: Challenge,
    transition: Transition,
    at: float,
    reason: str = "",
    *,
    evidence: Evidence | None = None,
    web: WebProof = WebProof.NONE,
) -> Challenge:
    end = End(TRANSITIONS[challenge.state, transition], int(at), reason, evidence, web)
    return msgspec.structs.replace(challenge, end=end)


def expired(challenge: Challenge) -> Challenge:
    """For a pending challenge past its expiry time, by any margin."""
    return _apply_transition(challenge, "expire", challenge.deadline)


def replay(
    now: float, known: IdempotencyRecord | None, body_sha256: bytes, challenge: Challenge | None
) -> Issued | None:
    """The first response to an Idempotency-Key, None when the key is free. IdempotencyConflict: another body."""
    challenge = current_state(now, challenge)
    if known is None or challenge is None:
        return None
    if known.body_sha256 != body_sha256:
        raise IdempotencyConflict
    return Issued(known.challenge_id, challenge, replayed=True)


def issue(
    now: float,
    challenge_id: bytes,
    challenge: Challenge,
    ledger: Ledger | None,
    *,
    limits: Limits,
    body_sha256: bytes,
    stale: IdempotencyRecord | None = None,
    tally: Tally | None = None,
    share: OwnerShare = NO_SHARE,
) -> Decision[Issued]:
    """A new challenge; RateLimited or TooManyPending by the limits of its owner and device.

    `tally` is that of the owner, `share` what it may add up to.

    `stale`: an earlier use of the Idempotency-Key, whose challenge has ended. It is deleted here: otherwise the sweep
    of the old challenge would delete the new use of the key.
    """
    share.check(tally, challenge.share)
    entered = (ledger or Ledger()).with_pending(now, challenge.owner, challenge_id, challenge.deadline, limits)
    writes: list[tuple[Key, object]] = [
        (challenge_key(challenge_id), challenge),
        (ledger_key(challenge.public_key), entered),
    ]
    if challenge.idempotency:
        writes.append((idempotency_key(challenge.idempotency), IdempotencyRecord(body_sha256, challenge_id)))
    if stale is not None:
        writes += [(challenge_key(stale.challenge_id), None), (outbox_key(stale.challenge_id), None)]
    if challenge.push:
        writes.append((outbox_key(challenge_id), new_entry(now, challenge.deadline, challenge.owner)))
    return Decision(Issued(challenge_id, challenge), tuple(writes))


def answer(
    now: float,
    challenge_id: bytes,
    challenge: Challenge | None,
    ledger: Ledger | None,
    entry: OutboxEntry | None = None,
    *,
    approved: bool,
    reason: str = "",
    evidence: Evidence | None = None,
    web: WebProof = WebProof.NONE,
    emit_event: bool = False,
    event_creation: bytes | None = None,
) -> Decision[Challenge]:
    """The device's answer, with a verified signature. The first answer before the expiry wins."""
    challenge = _require_known(current_state(now, challenge))
    if challenge.state is State.EXPIRED:
        raise ChallengeExpired
    _require_pending(challenge)
    if approved:
        ended = _apply_transition(challenge, "approve", now, evidence=evidence, web=web)
    else:
        ended = _apply_transition(challenge, "reject", now, reason, web=web)
    new_ledger = (ledger or Ledger()).with_answer(
        now, challenge.owner, challenge_id, approved=approved, unknown_trigger=reason == "unknown_trigger"
    )
    decision = _end(challenge_id, ended, new_ledger, entry, after_answer(now, entry))
    return _with_event(now, challenge_id, decision, event_creation) if emit_event else decision


def wrong_code(
    now: float,
    challenge_id: bytes,
    challenge: Challenge | None,
    ledger: Ledger | None,
    entry: OutboxEntry | None = None,
    *,
    emit_event: bool = False,
    event_creation: bytes | None = None,
) -> Decision[Challenge]:
    """An approval signed with a wrong code: the third one ends the challenge."""
    challenge = _require_known(current_state(now, challenge))
    if challenge.state is not State.PENDING:
        return Decision(challenge)
    counted = msgspec.structs.replace(challenge, wrong_codes=challenge.wrong_codes + 1)
    if counted.wrong_codes < MAX_WRONG_CODES:
        return Decision(counted, ((challenge_key(challenge_id), counted),))
    new_ledger = (ledger or Ledger()).with_answer(now, challenge.owner, challenge_id, approved=False)
    ended = _apply_transition(counted, "reject", now, WRONG_CODE)
    decision = _end(challenge_id, ended, new_ledger, entry, after_end(now, entry, ended.push, ended.owner))
    return _with_event(now, challenge_id, decision, event_creation) if emit_event else decision


def cancel(
    now: float,
    challenge_id: bytes,
    challenge: Challenge | None,
    ledger: Ledger | None,
    entry: OutboxEntry | None = None,
) -> Decision[Challenge]:
    """The owner cancels. A repeated cancellation is no error; after another end, ChallengeAlreadyUsed."""
    challenge = _require_known(current_state(now, challenge))
    if challenge.state is State.CANCELLED:
        return Decision(challenge)
    _require_pending(challenge)
    left = (ledger or Ledger()).removed(challenge.owner, challenge_id)
    after = after_end(now, entry, challenge.push, challenge.owner)
    return _end(challenge_id, _apply_transition(challenge, "cancel", now), left, entry, after)


def _require_known(challenge: Challenge | None) -> Challenge:
    if challenge is None:
        raise ChallengeNotFound
    return challenge


def _require_pending(challenge: Challenge) -> None:
    if challenge.state is State.PENDING:
        return
    details: dict[str, str] = {"status": challenge.state.wire_name}
    if challenge.decision:
        details["decision"] = challenge.decision
    raise ChallengeAlreadyUsed(**details)


def _end(
    challenge_id: bytes, ended: Challenge, ledger: Ledger, entry: OutboxEntry | None, after: OutboxEntry | None
) -> Decision[Challenge]:
    """`after`: the new outbox entry, None to delete it."""
    writes: tuple[tuple[Key, object], ...] = (
        (challenge_key(challenge_id), ended),
        (ledger_key(ended.public_key), ledger),
    )
    if after is not entry:
        writes += ((outbox_key(challenge_id), after),)
    return Decision(ended, writes, ended=(challenge_id,))


def event_of(now: float, challenge_id: bytes, challenge: Challenge, creation: bytes | None = None) -> tuple[Key, Event]:
    """The webhook event of a challenge that was answered or has expired."""
    ended_at = challenge.ended_at
    if ended_at is None:
        raise ValueError("a challenge that has not ended has no event")
    return new_event(
        now,
        challenge_id,
        EventKind[f"CHALLENGE_{challenge.state.name}"],
        ended_at,
        owner=challenge.owner,
        action=challenge.action,
        fingerprint=hashlib.sha256(challenge.public_key).digest(),
        reason=challenge.reason,
        creation=creation,
        evidence=challenge.evidence,
        web=challenge.web,
    )


def _with_event(
    now: float, challenge_id: bytes, ending: Decision[Challenge], creation: bytes | None
) -> Decision[Challenge]:
    """The same with a webhook event. A cancellation has none: the requester made it."""
    event = event_of(now, challenge_id, ending.result, creation)
    return msgspec.structs.replace(ending, writes=(*ending.writes, event))
