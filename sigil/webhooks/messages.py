"""The body of an event: the same bytes in every attempt."""

from __future__ import annotations

import msgspec

from sigil.core.webhooks.event import Event, EventKind, type_of_event
from sigil.protocol.api_key import Caller
from sigil.protocol.encoding.ids import format_uuid
from sigil.protocol.encoding.text import format_time
from sigil.protocol.messages.base import Decision
from sigil.protocol.messages.webhooks import EventBody, event_id

_DECISIONS: dict[EventKind, Decision] = {
    EventKind.CHALLENGE_VERIFIED: "approved",
    EventKind.CHALLENGE_REJECTED: "rejected",
    EventKind.MPA_APPROVED: "approved",
    EventKind.MPA_REJECTED: "rejected",
}
_encode = msgspec.json.Encoder().encode


def body(ended_id: bytes, event: Event) -> bytes:
    """The body of the event of the challenge or approval request with that id."""
    kind, _, status = type_of_event(event).partition(".")
    challenge, mpa, uuid = kind == "challenge", kind == "mpa", format_uuid(ended_id)
    return _encode(
        EventBody(
            id=event_id(ended_id),
            type=type_of_event(event),
            status=status,
            timestamp=format_time(event.at),
            key_id=Caller(event.owner).key_id,
            action_type=event.action_type if challenge or mpa else None,
            challenge_id=uuid if challenge else None,
            fingerprint=event.fingerprint.hex() or None if not mpa else None,
            request_id=event.request_id if mpa else None,
            mpa_id=uuid if mpa else None,
            enrolment_id=None if challenge or mpa else uuid,
            decision=_DECISIONS.get(event.kind),
            reason=event.reason or None,
            groups_satisfied=event.groups_satisfied if mpa else None,
        )
    )
