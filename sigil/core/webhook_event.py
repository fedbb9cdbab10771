"""What the integrator is to be told: one event for whatever ended, in the transaction that ended it.

An event holds all that its body says (docs/protocol.md, 5.4): it is tried for longer than what it is about can be read.
It stands under the id of what ended, and that is its own id too: nothing ends twice, and a rule may run twice. It is
claimed for a while under a token that the completion must show (see `webhook_delivery`); one that nobody completes can
be claimed again.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import IntEnum
from typing import Any, cast, get_args

import msgspec

from sigil.core.session_store import Decision, Key, Kind
from sigil.protocol.action import action_type
from sigil.protocol.webhook_event import EventType

LEASE_SECONDS = 30
"""How long a claim keeps others away, counted from the claim: longer than an attempt may take."""
OWN_SECONDS = 2
"""How long a new event is left to the worker that wrote it, which knows of it without looking."""
OWNER_BYTES = 4
"""What a key_id shows of an owner."""
# Claims alone, without completions: one row each, and a transaction writes at most 200.
MOST_CLAIMS = 200


class EventKind(IntEnum):
    """What an event tells of; the names are the words of the wire."""

    CHALLENGE_VERIFIED = 0
    CHALLENGE_REJECTED = 1
    CHALLENGE_EXPIRED = 2
    MPA_APPROVED = 3
    MPA_REJECTED = 4
    MPA_TIMEOUT = 5


_TYPES: dict[EventKind, EventType] = {
    EventKind[name.replace(".", "_").upper()]: name for name in cast(tuple[EventType, ...], get_args(EventType))
}


class Event(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """Claimed while it has a token, until `due`; else to be claimed from `due` on. Times are Unix seconds.

    `at` is when it happened, `since_ms` from when on it is to be told. `claims` counts all claims, `tries` the attempts
    that failed. An event of a challenge has a fingerprint, one of a multi-party request a request_id and the indices of
    the groups that were satisfied.
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

    @property
    def open(self) -> bool:
        return True


def type_of_event(event: Event) -> EventType:
    return _TYPES[event.kind]


EVENT = Kind(b"w", Event, counted=True, queue=True)


def event_key(ended_id: bytes) -> Key:
    """`ended_id`: the challenge_id or mpa_id, 16 bytes."""
    return Key(EVENT, ended_id)


def new_event(
    now: float,
    ended_id: bytes,
    happening: EventKind,
    at: int,
    *,
    owner: bytes,
    action: bytes,
    fingerprint: bytes = b"",
    reason: str = "",
    request_id: str = "",
    groups_satisfied: tuple[int, ...] = (),
) -> tuple[Key, Event]:
    """The write that tells of what ended `at` a Unix second; `action` is its canonical JSON."""
    event = Event(
        kind=happening,
        at=at,
        owner=owner[:OWNER_BYTES],
        action_type=action_type(action),
        since_ms=int(now * 1000),
        due=int(now) + OWN_SECONDS,
        fingerprint=fingerprint,
        reason=reason,
        request_id=request_id,
        groups_satisfied=groups_satisfied,
    )
    return event_key(ended_id), event


Claim = tuple[bytes, Event]
"""The id of what ended, and its event as it was claimed."""


def claim(now: float, keys: Sequence[Key], events: Sequence[Event | None], token: bytes) -> Decision[list[Claim]]:
    """Take what may be taken, for LEASE_SECONDS from now. Of at most MOST_CLAIMS keys."""
    claims: list[Claim] = []
    writes: list[tuple[Key, Any]] = []
    for key, event in zip(keys, events, strict=True):
        if event is None or (event.claims and event.due > now):
            continue
        # Rounded up: no claim ends before its time.
        until = int(now) + 1 + LEASE_SECONDS
        claimed = msgspec.structs.replace(event, due=until, claims=event.claims + 1, token=token)
        writes.append((key, claimed))
        claims.append((key.name, claimed))
    return Decision(claims, tuple(writes))
