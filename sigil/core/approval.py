"""The rows of a multi-party request: what is asked of whom, who answered what, and how long it is remembered."""

from __future__ import annotations

import hashlib
from enum import IntEnum
from typing import Literal

import msgspec

from sigil.core.quorum import NOT_ELIGIBLE, OPEN, Quorum
from sigil.core.session_store import Key, Kind
from sigil.core.webhook_event import Event, EventKind, new_event

READABLE_SECONDS = 86_400
BYTES_OF_A_BALLOT = 384
"""Of the store, reserved for each ballot that is open: a vote, or the push and the clear of who does not vote, takes
less with its indices. So whoever may vote can, in a store that is full for creations. The store keeps the sum: another
number is another STORE_SCHEMA."""
# As of a challenge: one from further in the future means that the clock was set back.
_MAX_SKEW = 5


class State(IntEnum):
    PENDING = 0
    APPROVED = 1
    REJECTED = 2
    TIMEOUT = 3
    CANCELLED = 4

    @property
    def word(self) -> Literal["pending", "approved", "rejected", "timeout", "cancelled"]:
        return _WORDS[self]


_WORDS: dict[State, Literal["pending", "approved", "rejected", "timeout", "cancelled"]] = {
    State.PENDING: "pending",
    State.APPROVED: "approved",
    State.REJECTED: "rejected",
    State.TIMEOUT: "timeout",
    State.CANCELLED: "cancelled",
}
Move = Literal["approve", "reject", "time_out", "cancel"]
# Whatever is not in the table is refused: no final state has a way out.
MOVES: dict[tuple[State, Move], State] = {
    (State.PENDING, "approve"): State.APPROVED,
    (State.PENDING, "reject"): State.REJECTED,
    (State.PENDING, "time_out"): State.TIMEOUT,
    (State.PENDING, "cancel"): State.CANCELLED,
}


class End(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """How a request ended, and when (Unix seconds)."""

    state: State
    at: int


class Approval(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """One request, `lifetime` in seconds. `members` are the public keys of all groups, one group after the other.

    Ballots stand in the row itself, a byte a member: that each counts once, and when they suffice, is decided over one
    row. `pushed`: whether this server had a relay when it was asked.
    """

    owner: bytes
    request_id: str
    nonce: bytes
    action: bytes
    created_ms: int
    lifetime: int
    required: int
    reject_on_first: bool
    sizes: tuple[int, ...]
    members: tuple[bytes, ...]
    groups_sha256: str
    ballots: bytes
    respond_to: str = ""
    pushed: bool = False
    end: End | None = None

    @property
    def expires_at(self) -> int:
        return self.created_ms // 1000 + self.lifetime

    @property
    def state(self) -> State:
        return self.end.state if self.end else State.PENDING

    @property
    def open(self) -> bool:
        return self.end is None

    @property
    def due(self) -> int:
        return self.end.at + READABLE_SECONDS if self.end else self.expires_at

    @property
    def quorum(self) -> Quorum:
        return Quorum(self.sizes, self.required, self.reject_on_first)

    @property
    def satisfied(self) -> list[int]:
        return self.quorum.satisfied(self.ballots)

    @property
    def policy(self) -> Literal["continue", "reject_on_first"]:
        return "reject_on_first" if self.reject_on_first else "continue"

    @property
    def eligible(self) -> int:
        """How many members may answer."""
        return len(self.ballots) - self.ballots.count(NOT_ELIGIBLE)

    @property
    def reserved(self) -> int:
        """Bytes of the store that are wanted for what may come of it, without its end."""
        return self.ballots.count(OPEN) * BYTES_OF_A_BALLOT if self.open else 0

    def answered(self) -> list[int]:
        """The members who have."""
        return [member for member, ballot in enumerate(self.ballots) if ballot not in OPEN + NOT_ELIGIBLE]

    def unanswered(self, member: int) -> bool:
        """Whether this member may answer and has not."""
        return self.ballots[member : member + 1] == OPEN

    def waits_for(self, member: int) -> bool:
        """Whether this member is still asked."""
        return self.open and self.unanswered(member)


class Vote(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """The proof of a ballot, which says the decision. It fades by itself, no sooner than its request."""

    signature: bytes
    at: int
    forgotten_at: int
    reason: str = ""

    @property
    def due(self) -> int:
        return self.forgotten_at


class RequestIdRecord(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """What a request_id was used for; it goes when its request goes."""

    body_sha256: bytes
    mpa_id: bytes

    @property
    def due(self) -> int:
        return 0


APPROVAL = Kind(b"m", Approval, counted=True, reserves=True, long=True)
VOTE = Kind(b"v", Vote)
REQUEST_ID = Kind(b"n", RequestIdRecord)


def approval_key(mpa_id: bytes) -> Key:
    return Key(APPROVAL, mpa_id)


def vote_key(mpa_id: bytes, member: int) -> Key:
    return Key(VOTE, member_name(mpa_id, member))


def request_id_key(owner: bytes, request_id: str) -> Key:
    """Scoped to the owner."""
    return Key(REQUEST_ID, hashlib.sha256(owner + b"POST /mpa/request\0" + request_id.encode()).digest()[:16])


def member_name(mpa_id: bytes, member: int) -> bytes:
    """The place of one member of a request: its number in the whole request, after the id."""
    return mpa_id + member.to_bytes(2)


def settle(now: float, approval: Approval | None) -> Approval | None:
    """The row as it reads at `now`: a time-out and forgetting do not wait for the sweep."""
    if approval is None:
        return None
    if approval.open and not approval.created_ms / 1000 - _MAX_SKEW <= now < approval.expires_at:
        approval = timed_out(approval)
    if not approval.open and now >= approval.due:
        return None
    return approval


def timed_out(approval: Approval) -> Approval:
    return moved(approval, "time_out", approval.expires_at)


def moved(approval: Approval, move: Move, at: float) -> Approval:
    return msgspec.structs.replace(approval, end=End(MOVES[approval.state, move], int(at)))


def event_of(now: float, mpa_id: bytes, approval: Approval) -> tuple[Key, Event]:
    """The write that tells the integrator of a request that was decided or has timed out."""
    if approval.end is None:
        raise ValueError("a request that has not ended is no event")
    return new_event(
        now,
        mpa_id,
        EventKind[f"MPA_{approval.state.name}"],
        approval.end.at,
        owner=approval.owner,
        action=approval.action,
        request_id=approval.request_id,
        groups_satisfied=tuple(approval.satisfied),
    )
