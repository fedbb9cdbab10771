"""The row of an enrolment: its states and their transitions, its keys, its expiry, and the event of its end."""

from __future__ import annotations

import hashlib
import hmac
from enum import IntEnum
from typing import Literal

import msgspec

from sigil.core.challenge import READABLE_SECONDS, idempotency_key
from sigil.core.evidence import Evidence, WebProof
from sigil.core.session_store import OWNER_BYTES, Key, Kind, Share
from sigil.core.webhooks.event import Enrolled, Event, EventKind, new_event
from sigil.protocol.enrolment.code import Session, session
from sigil.protocol.messages.enrolment import EnrolmentState

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
    web: WebProof = WebProof.NONE

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


def current_state(now: float, enrolment: Enrolment | None) -> Enrolment | None:
    """The row as of `now`: expiry and the deletion take effect before the sweep writes them."""
    if enrolment is None:
        return None
    if enrolment.open and now >= enrolment.deadline:
        enrolment = expired(enrolment)
    if not enrolment.open and now >= enrolment.due:
        return None
    return enrolment


def ended(enrolment: Enrolment, transition: Transition, at: float, reason: str = "") -> Enrolment:
    return msgspec.structs.replace(enrolment, end=End(TRANSITIONS[enrolment.state, transition], int(at), reason))


def expired(enrolment: Enrolment) -> Enrolment:
    """For an open enrolment past its expiry time, by any margin."""
    return ended(enrolment, "expire", enrolment.deadline)


def deletion(enrolment_id: bytes, enrolment: Enrolment | None) -> list[tuple[Key, object]]:
    """The writes that delete an enrolment and its index."""
    writes: list[tuple[Key, object]] = [(enrolment_key(enrolment_id), None)]
    if enrolment is not None:
        writes.append((token_key(enrolment.token_sha256), None))
        if enrolment.idempotency:
            writes.append((idempotency_key(enrolment.idempotency), None))
    return writes


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
        web=completion.web if completion else WebProof.NONE,
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
