"""The rules of a challenge: its states, who may end it and how often, and how long it is remembered.

Pure functions of rows and the time (docs/protocol.md, 5.2). Each returns the Decision that one transaction of the
session store carries out, or raises the protocol's error and changes nothing.
"""

from __future__ import annotations

import hashlib
from enum import IntEnum
from functools import lru_cache
from typing import Literal

import msgspec

from sigil.core.device_ledger import Ledger, Limits
from sigil.core.push_outbox import OutboxEntry, Push, after_answer, after_end, new_entry, outbox_key
from sigil.core.session_store import Decision, Key, Kind
from sigil.core.webhook_event import Event, EventKind, new_event
from sigil.protocol.errors import ChallengeAlreadyUsed, ChallengeExpired, ChallengeNotFound, IdempotencyConflict

READABLE_SECONDS = 600
MAX_WRONG_CODES = 3
# A challenge from further in the future means that the clock was set back: it would live for longer than it may.
_MAX_SKEW = 5
WRONG_CODE = "wrong_code"


class State(IntEnum):
    PENDING = 0
    VERIFIED = 1
    REJECTED = 2
    EXPIRED = 3
    CANCELLED = 4

    @property
    def word(self) -> Literal["pending", "verified", "rejected", "expired", "cancelled"]:
        return _WORDS[self]


_WORDS: dict[State, Literal["pending", "verified", "rejected", "expired", "cancelled"]] = {
    State.PENDING: "pending",
    State.VERIFIED: "verified",
    State.REJECTED: "rejected",
    State.EXPIRED: "expired",
    State.CANCELLED: "cancelled",
}
Move = Literal["approve", "reject", "expire", "cancel"]
# Whatever is not in the table is refused: no final state has a way out.
MOVES: dict[tuple[State, Move], State] = {
    (State.PENDING, "approve"): State.VERIFIED,
    (State.PENDING, "reject"): State.REJECTED,
    (State.PENDING, "expire"): State.EXPIRED,
    (State.PENDING, "cancel"): State.CANCELLED,
}


class End(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """How a challenge ended, and when (Unix seconds)."""

    state: State
    at: int
    reason: str = ""


class Challenge(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """One challenge, `lifetime` in seconds.

    A million of these may pend: what is rare stands in one member, and the server's signature and the bound bytes are
    not kept but made again when asked for.
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

    @property
    def expires_at(self) -> int:
        return self.created_ms // 1000 + self.lifetime

    @property
    def state(self) -> State:
        return self.end.state if self.end else State.PENDING

    @property
    def reason(self) -> str:
        return self.end.reason if self.end else ""

    @property
    def open(self) -> bool:
        return self.end is None

    @property
    def due(self) -> int:
        return self.end.at + READABLE_SECONDS if self.end else self.expires_at

    @property
    def decision(self) -> Literal["approved", "rejected"] | None:
        return {State.VERIFIED: "approved", State.REJECTED: "rejected"}.get(self.state)  # type: ignore[return-value]


class IdempotencyRecord(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """What an Idempotency-Key was used for; it goes when its challenge goes."""

    body_sha256: bytes
    challenge_id: bytes

    @property
    def due(self) -> int:
        return 0


CHALLENGE = Kind(b"c", Challenge, counted=True)
LEDGER = Kind(b"l", Ledger)
IDEMPOTENCY = Kind(b"i", IdempotencyRecord)


def challenge_key(challenge_id: bytes) -> Key:
    return Key(CHALLENGE, challenge_id)


# Devices come back, and a request of several names each of them a few times.
@lru_cache(maxsize=4096)
def ledger_key(public_key: bytes) -> Key:
    """By 96 bits of the fingerprint: rows are small, and the key in the challenge's row is what is believed."""
    return Key(LEDGER, hashlib.sha256(public_key).digest()[:12])


def idempotency_key(name: bytes) -> Key:
    return Key(IDEMPOTENCY, name)


class Issued(msgspec.Struct, frozen=True):
    """`replayed`: the row is that of the first request with the same Idempotency-Key."""

    challenge_id: bytes
    challenge: Challenge
    replayed: bool = False


def settle(now: float, challenge: Challenge | None) -> Challenge | None:
    """The row as it reads at `now`: expiry and forgetting do not wait for the sweep."""
    if challenge is None:
        return None
    if challenge.state is State.PENDING and not challenge.created_ms / 1000 - _MAX_SKEW <= now < challenge.expires_at:
        challenge = expired(challenge)
    if challenge.state is not State.PENDING and now >= challenge.due:
        return None
    return challenge


def _moved(challenge: Challenge, move: Move, at: float, reason: str = "") -> Challenge:
    return msgspec.structs.replace(challenge, end=End(MOVES[challenge.state, move], int(at), reason))


def expired(challenge: Challenge) -> Challenge:
    """A pending one whose time is over, however long ago."""
    return _moved(challenge, "expire", challenge.expires_at)


def replay(
    now: float, known: IdempotencyRecord | None, body_sha256: bytes, challenge: Challenge | None
) -> Issued | None:
    """The first answer to an Idempotency-Key, None when the key is free; another body is a conflict."""
    challenge = settle(now, challenge)
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
) -> Decision[Issued]:
    """A new challenge, if the limits of its owner and device let it be.

    `stale`: the Idempotency-Key's former use, whose challenge is over. It goes here and now: the sweep of the
    old challenge would take the new use of the key with it.
    """
    entered = (ledger or Ledger()).with_pending(now, challenge.owner, challenge_id, challenge.expires_at, limits)
    writes: list[tuple[Key, object]] = [
        (challenge_key(challenge_id), challenge),
        (ledger_key(challenge.public_key), entered),
    ]
    if challenge.idempotency:
        writes.append((idempotency_key(challenge.idempotency), IdempotencyRecord(body_sha256, challenge_id)))
    if stale is not None:
        writes += [(challenge_key(stale.challenge_id), None), (outbox_key(stale.challenge_id), None)]
    if challenge.push:
        writes.append((outbox_key(challenge_id), new_entry(now, challenge.expires_at)))
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
    emit_event: bool = False,
) -> Decision[Challenge]:
    """The device's answer, its signature verified before: the first one wins, and only in time."""
    challenge = _found(settle(now, challenge))
    if challenge.state is State.EXPIRED:
        raise ChallengeExpired
    _refuse_final(challenge)
    ended = _moved(challenge, "approve" if approved else "reject", now, "" if approved else reason)
    tallied = (ledger or Ledger()).answered(
        now, challenge.owner, challenge_id, approved=approved, unknown_trigger=reason == "unknown_trigger"
    )
    decision = _end(challenge_id, ended, tallied, entry, after_answer(entry))
    return _with_event(now, challenge_id, decision) if emit_event else decision


def wrong_code(
    now: float,
    challenge_id: bytes,
    challenge: Challenge | None,
    ledger: Ledger | None,
    entry: OutboxEntry | None = None,
    *,
    emit_event: bool = False,
) -> Decision[Challenge]:
    """An approval signed over another code than the one shown: the third ends the challenge."""
    challenge = _found(settle(now, challenge))
    if challenge.state is not State.PENDING:
        return Decision(challenge)
    counted = msgspec.structs.replace(challenge, wrong_codes=challenge.wrong_codes + 1)
    if counted.wrong_codes < MAX_WRONG_CODES:
        return Decision(counted, ((challenge_key(challenge_id), counted),))
    tallied = (ledger or Ledger()).answered(now, challenge.owner, challenge_id, approved=False)
    ended = _moved(counted, "reject", now, WRONG_CODE)
    decision = _end(challenge_id, ended, tallied, entry, after_end(now, entry, ended.push))
    return _with_event(now, challenge_id, decision) if emit_event else decision


def cancel(
    now: float,
    challenge_id: bytes,
    challenge: Challenge | None,
    ledger: Ledger | None,
    entry: OutboxEntry | None = None,
) -> Decision[Challenge]:
    """The owner takes it back; again is no error, after another end it is too late."""
    challenge = _found(settle(now, challenge))
    if challenge.state is State.CANCELLED:
        return Decision(challenge)
    _refuse_final(challenge)
    left = (ledger or Ledger()).removed(challenge.owner, challenge_id)
    return _end(challenge_id, _moved(challenge, "cancel", now), left, entry, after_end(now, entry, challenge.push))


def _found(challenge: Challenge | None) -> Challenge:
    if challenge is None:
        raise ChallengeNotFound
    return challenge


def _refuse_final(challenge: Challenge) -> None:
    if challenge.state is State.PENDING:
        return
    details: dict[str, str] = {"status": challenge.state.word}
    if challenge.decision:
        details["decision"] = challenge.decision
    raise ChallengeAlreadyUsed(**details)


def _end(
    challenge_id: bytes, ended: Challenge, ledger: Ledger, entry: OutboxEntry | None, after: OutboxEntry | None
) -> Decision[Challenge]:
    """`after` is the entry of the outbox from now on."""
    writes: tuple[tuple[Key, object], ...] = (
        (challenge_key(challenge_id), ended),
        (ledger_key(ended.public_key), ledger),
    )
    if after is not entry:
        writes += ((outbox_key(challenge_id), after),)
    return Decision(ended, writes, ended=(challenge_id,))


def event_of(now: float, challenge_id: bytes, challenge: Challenge) -> tuple[Key, Event]:
    """The write that tells the integrator of a challenge that was answered or has expired."""
    if challenge.end is None:
        raise ValueError("a challenge that has not ended is no event")
    return new_event(
        now,
        challenge_id,
        EventKind[f"CHALLENGE_{challenge.state.name}"],
        challenge.end.at,
        owner=challenge.owner,
        action=challenge.action,
        fingerprint=hashlib.sha256(challenge.public_key).digest(),
        reason=challenge.reason,
    )


def _with_event(now: float, challenge_id: bytes, ending: Decision[Challenge]) -> Decision[Challenge]:
    """The same, and the integrator is to be told of it. Of a cancellation it knows: that was its own."""
    return msgspec.structs.replace(ending, writes=(*ending.writes, event_of(now, challenge_id, ending.result)))
