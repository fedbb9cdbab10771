"""Webhook events: the transaction that ends a challenge, an approval request or an enrolment also writes its event.

An event holds everything that its body needs (docs/protocol.md, 5.4): it is tried for longer than the challenge or
request can be read. It is stored under the id of what ended, which is the event's own id too: nothing ends twice,
and a rule that runs twice writes the same row. A claim writes a token and a lease into the event, and the
completion must show that token (see `webhooks.delivery`). When the lease ends without a completion, any worker can
claim the event again.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import IntEnum
from typing import Any, Literal, cast, get_args

import msgspec

from sigil.core.evidence import Evidence, WebProof
from sigil.core.session_store import OWNER_BYTES, Decision, Key, Kind, Share
from sigil.protocol.action import action_type
from sigil.protocol.messages.webhooks import EventType

LEASE_SECONDS = 30
"""The lease, counted from the claim: longer than an attempt may take."""
OWN_SECONDS = 2
"""How long a new event is left to the worker that wrote it, which has its name in the backlog."""
# Bytes of the store, with the index.
_CHARGE = 320
# Claims alone, without completions: one row each, and a transaction writes at most 200.
MAX_CLAIMS = 200


class EventKind(IntEnum):
    """The names are those of the event types on the wire."""

    CHALLENGE_VERIFIED = 0
    CHALLENGE_REJECTED = 1
    CHALLENGE_EXPIRED = 2
    MPA_APPROVED = 3
    MPA_REJECTED = 4
    MPA_TIMEOUT = 5
    ENROLMENT_COMPLETED = 6
    ENROLMENT_FAILED = 7
    ENROLMENT_EXPIRED = 8


_TYPES: dict[EventKind, EventType] = {
    EventKind[name.replace(".", "_").upper()]: name for name in cast(tuple[EventType, ...], get_args(EventType))
}


class Enrolled(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """The members of an event of an enrolment alone. `replaced`: the SHA-256 of the replaced key, empty for none."""

    account: str
    confirm: Literal["code", "none"]
    public_key: bytes = b""
    replaced: bytes = b""

    @property
    def charge(self) -> int:
        return len(self.account.encode()) + len(self.public_key) + len(self.replaced) + 96


class Event(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """With a token: claimed until `due`. Without: may be claimed from `due` on. Times are Unix seconds.

    `at` is when the challenge or request ended, `since_ms` when the event (or its replay) was written. `claims` counts
    all claims, `tries` the attempts that failed. An event of a challenge has a fingerprint; one of an approval request
    has a request_id and the indices of the satisfied groups; one of an enrolment has `enrolled`, and no action.
    """

    kind: EventKind
    at: int
    owner: bytes
    action_type: str
    since_ms: int
    due: int
    fingerprint: bytes = b""
    reason: str = ""
    request_id: str = ""
    groups_satisfied: tuple[int, ...] = ()
    claims: int = 0
    tries: int = 0
    token: bytes = b""
    # Of the span that created the event, if that is sampled (see `core.tracing`).
    creation: bytes | None = None
    enrolled: Enrolled | None = None
    # Of the credential that approved a challenge, or that an enrolment issued.
    evidence: Evidence | None = None
    # Of the answer to a challenge, or of the completion of an enrolment, by a web device.
    web: WebProof = WebProof.NONE

    @property
    def open(self) -> bool:
        return True

    @property
    def share(self) -> Share:
        more = (len(self.creation) if self.creation else 0) + (self.enrolled.charge if self.enrolled else 0)
        return self.owner, 0, 1, _CHARGE + more, 0


def type_of_event(event: Event) -> EventType:
    return _TYPES[event.kind]


EVENT = Kind(b"w", Event, counted=True, queue=True, tallied=True, fair=True)


def event_key(ended_id: bytes) -> Key:
    """`ended_id`: the challenge_id, mpa_id or enrolment_id, 16 bytes."""
    return Key(EVENT, ended_id)


def new_event(
    now: float,
    ended_id: bytes,
    kind: EventKind,
    at: int,
    *,
    owner: bytes,
    action: bytes = b"",
    fingerprint: bytes = b"",
    reason: str = "",
    request_id: str = "",
    groups_satisfied: tuple[int, ...] = (),
    creation: bytes | None = None,
    enrolled: Enrolled | None = None,
    evidence: Evidence | None = None,
    web: WebProof = WebProof.NONE,
) -> tuple[Key, Event]:
    """The write of an event; `at` is the Unix second of the end, `action` the canonical JSON of the action."""
    event = Event(
        kind=kind,
        at=at,
        owner=owner[:OWNER_BYTES],
        action_type=action_type(action) if action else "",
        since_ms=int(now * 1000),
        due=int(now) + OWN_SECONDS,
        fingerprint=fingerprint,
        reason=reason,
        request_id=request_id,
        groups_satisfied=groups_satisfied,
        creation=creation,
        enrolled=enrolled,
        evidence=evidence,
        web=web,
    )
    return event_key(ended_id), event


Claim = tuple[bytes, Event]
"""The id of what ended, and its event as claimed."""


def claim(now: float, keys: Sequence[Key], events: Sequence[Event | None], token: bytes) -> Decision[list[Claim]]:
    """Claim, for LEASE_SECONDS, those of at most MAX_CLAIMS events that are free."""
    claims: list[Claim] = []
    writes: list[tuple[Key, Any]] = []
    for key, event in zip(keys, events, strict=True):
        if event is None or (event.claims and event.due > now):
            continue
        # Rounded up: no lease ends early.
        until = int(now) + 1 + LEASE_SECONDS
        claimed = msgspec.structs.replace(event, due=until, claims=event.claims + 1, token=token)
        writes.append((key, claimed))
        claims.append((key.name, claimed))
    return Decision(claims, tuple(writes))
