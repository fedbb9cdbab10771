"""The rows of an approval request: its members, its votes, and how long each row is kept."""

from __future__ import annotations

import hashlib
from enum import IntEnum
from itertools import compress
from typing import Literal

import msgspec

from sigil.core.approvals.quorum import NOT_ELIGIBLE, OPEN, Quorum
from sigil.core.session_store import OWNER_BYTES, Key, Kind, Share
from sigil.core.webhooks.event import Event, EventKind, new_event
from sigil.protocol import webauthn

READABLE_SECONDS = 86_400
BYTES_PER_BALLOT = 384
"""Bytes of the store reserved for each open ballot. A vote, or the push and the clear of a member that does not vote,
takes less, with its indices. So every eligible member can vote even in a store that is full for creations. The store
keeps the sum: to change this number, change STORE_SCHEMA."""
BYTES_PER_CREDENTIAL = 1152
"""Reserved in addition where devices send a credential, whose public part is stored with the vote."""
BYTES_PER_WEB_SIGNATURE = 2048
"""Reserved in addition for a web device, whose signature has up to 1024 bytes: a page holds three such votes, or two
after it was split. A web device has no credential."""
# A request with its record and its end, a member with its ballot and its ledger, and a vote with its index.
_CHARGE, _CHARGE_MEMBER, _CHARGE_VOTE = 1024, 128, 200
_CHARGE_WEB_MEMBER, _CHARGE_WEB_VOTE = webauthn.KEY_LENGTH - 33, webauthn.MAX_SIGNATURE
_IS_OPEN = bytes(ballot == OPEN[0] for ballot in range(256))


class State(IntEnum):
    PENDING = 0
    APPROVED = 1
    REJECTED = 2
    TIMEOUT = 3
    CANCELLED = 4

    @property
    def wire_name(self) -> Literal["pending", "approved", "rejected", "timeout", "cancelled"]:
        return _WIRE_NAMES[self]


_WIRE_NAMES: dict[State, Literal["pending", "approved", "rejected", "timeout", "cancelled"]] = {
    State.PENDING: "pending",
    State.APPROVED: "approved",
    State.REJECTED: "rejected",
    State.TIMEOUT: "timeout",
    State.CANCELLED: "cancelled",
}
Transition = Literal["approve", "reject", "time_out", "cancel"]
# A transition that is not in the table is rejected: no transition leaves a final state.
TRANSITIONS: dict[tuple[State, Transition], State] = {
    (State.PENDING, "approve"): State.APPROVED,
    (State.PENDING, "reject"): State.REJECTED,
    (State.PENDING, "time_out"): State.TIMEOUT,
    (State.PENDING, "cancel"): State.CANCELLED,
}


class End(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """How a request ended, and when (seconds of the store's clock)."""

    state: State
    at: int


class Approval(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """One request, `lifetime` in seconds. `members` are the public keys of all groups, one group after the other.

    The row itself holds the ballots, one byte per member: one row decides that each member counts once, and when the
    quorum is reached. `pushed`: whether a relay was configured when the request was created. `ahead` and the times are
    those of a challenge.
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
    ahead: int = 0
    # Of the span that created it, if that is sampled (see `core.tracing`).
    creation: bytes | None = None
    # Whether this server accepted attestations when the request was created: its votes may hold credentials.
    attested: bool = False

    @property
    def expires_at(self) -> int:
        return self.created_ms // 1000 + self.lifetime

    @property
    def deadline(self) -> int:
        return self.expires_at + self.ahead

    @property
    def state(self) -> State:
        return self.end.state if self.end else State.PENDING

    @property
    def open(self) -> bool:
        return self.end is None

    @property
    def due(self) -> int:
        return self.end.at + READABLE_SECONDS if self.end else self.deadline

    @property
    def quorum(self) -> Quorum:
        return Quorum(self.sizes, self.required, self.reject_on_first)

    @property
    def satisfied_groups(self) -> list[int]:
        return self.quorum.satisfied(self.ballots)

    @property
    def reject_policy(self) -> Literal["continue", "reject_on_first"]:
        return "reject_on_first" if self.reject_on_first else "continue"

    @property
    def eligible(self) -> int:
        """How many members may vote."""
        return len(self.ballots) - self.ballots.count(NOT_ELIGIBLE)

    @property
    def reserved(self) -> int:
        """Bytes of the store reserved for the open ballots, without the end of the request."""
        if not self.open:
            return 0
        count, web = self.ballots.count(OPEN), self._open_web_members
        return count * BYTES_PER_BALLOT + (count - web) * self._credential + web * BYTES_PER_WEB_SIGNATURE

    @property
    def _web_members(self) -> int:
        return list(map(len, self.members)).count(webauthn.KEY_LENGTH)

    @property
    def _open_web_members(self) -> int:
        """Those that may vote and have not. Computed with each vote, for up to a thousand members."""
        if max(map(len, self.members), default=0) < webauthn.KEY_LENGTH:
            return 0
        voters = compress(self.members, self.ballots.translate(_IS_OPEN))
        return list(map(len, voters)).count(webauthn.KEY_LENGTH)

    @property
    def _credential(self) -> int:
        return BYTES_PER_CREDENTIAL if self.attested else 0

    @property
    def share(self) -> Share:
        """The charge covers the request, its recorded votes, and what it still reserves."""
        members = len(self.ballots)
        voted = members - self.ballots.count(OPEN) - self.ballots.count(NOT_ELIGIBLE)
        own = _CHARGE + len(self.action) + len(self.creation or b"")
        charged = own + members * _CHARGE_MEMBER + voted * (_CHARGE_VOTE + self._credential) + self.reserved
        if web := self._web_members:
            charged += web * _CHARGE_WEB_MEMBER + (web - self._open_web_members) * _CHARGE_WEB_VOTE
        return self.owner[:OWNER_BYTES], int(self.open), 0, charged, 0

    def voted_members(self) -> list[int]:
        """The numbers of the members that have voted."""
        return [member for member, ballot in enumerate(self.ballots) if ballot not in OPEN + NOT_ELIGIBLE]

    def has_open_ballot(self, member: int) -> bool:
        """Whether this member may vote and has not."""
        return self.ballots[member : member + 1] == OPEN

    def is_pending_for(self, member: int) -> bool:
        """Whether the request still waits for this member's vote."""
        return self.open and self.has_open_ballot(member)


class Vote(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """The signature behind a ballot, which holds the decision. `at` is a time of day. The sweep deletes the row, never
    before its request. `credential`: the public part, packed, if the device sent one.
    """

    signature: bytes
    at: int
    delete_at: int
    reason: str = ""
    credential: bytes = b""

    @property
    def due(self) -> int:
        return self.delete_at


class RequestIdRecord(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """The request that used a request_id. Deleted with that request."""

    body_sha256: bytes
    mpa_id: bytes

    @property
    def due(self) -> int:
        return 0


APPROVAL = Kind(b"m", Approval, counted=True, reserves=True, long=True, tallied=True)
VOTE = Kind(b"v", Vote)
REQUEST_ID = Kind(b"n", RequestIdRecord)


def approval_key(mpa_id: bytes) -> Key:
    return Key(APPROVAL, mpa_id)


def vote_key(mpa_id: bytes, member: int) -> Key:
    return Key(VOTE, member_name(mpa_id, member))


def request_id_key(owner: bytes, request_id: str) -> Key:
    """By (owner, request_id)."""
    return Key(REQUEST_ID, hashlib.sha256(owner + b"POST /mpa/request\0" + request_id.encode()).digest()[:16])


def member_name(mpa_id: bytes, member: int) -> bytes:
    """The row name of one member: the mpa_id, then the member's number in the whole request."""
    return mpa_id + member.to_bytes(2)


def current_state(now: float, approval: Approval | None) -> Approval | None:
    """The row as of `now`: a time-out and the deletion take effect before the sweep writes them."""
    if approval is None:
        return None
    if approval.open and now >= approval.deadline:
        approval = timed_out(approval)
    if not approval.open and now >= approval.due:
        return None
    return approval


def timed_out(approval: Approval) -> Approval:
    return apply_transition(approval, "time_out", approval.deadline)


def apply_transition(approval: Approval, transition: Transition, at: float) -> Approval:
    return msgspec.structs.replace(approval, end=End(TRANSITIONS[approval.state, transition], int(at)))


def event_of(now: float, mpa_id: bytes, approval: Approval, creation: bytes | None = None) -> tuple[Key, Event]:
    """The webhook event of a request that was decided or has timed out."""
    if approval.end is None:
        raise ValueError("a request that has not ended has no event")
    return new_event(
        now,
        mpa_id,
        EventKind[f"MPA_{approval.state.name}"],
        approval.end.at - approval.ahead,
        owner=approval.owner,
        action=approval.action,
        request_id=approval.request_id,
        groups_satisfied=tuple(approval.satisfied_groups),
        creation=creation,
    )
