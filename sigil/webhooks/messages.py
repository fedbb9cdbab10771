"""The body of an event: the same bytes in every attempt."""

from __future__ import annotations

from typing import Any, cast

import msgspec

from sigil.core.webhooks.event import Event, EventKind, type_of_event
from sigil.protocol.api_key import Caller
from sigil.protocol.encoding.ids import format_uuid
from sigil.protocol.encoding.text import encode_base64, format_time
from sigil.protocol.messages.base import Decision
from sigil.protocol.messages.enrolment import EnrolmentState
from sigil.protocol.messages.webhooks import EnrolmentEventBody, EventBody, event_id

_DECISIONS: dict[EventKind, Decision] = {
    EventKind.CHALLENGE_VERIFIED: "approved",
    EventKind.CHALLENGE_REJECTED: "rejected",
    EventKind.MPA_APPROVED: "approved",
    EventKind.MPA_REJECTED: "rejected",
}
_ENROLMENT_STATES: dict[EventKind, EnrolmentState] = {
    EventKind.ENROLMENT_COMPLETED: "enrolled",
    EventKind.ENROLMENT_FAILED: "failed",
    EventKind.ENROLMENT_EXPIRED: "expired",
}
_encode = msgspec.json.Encoder().encode


def body(ended_id: bytes, event: Event) -> bytes:
    """The body of the event of the challenge, approval request or enrolment with that id."""
    kind, _, status = type_of_event(event).partition(".")
    if kind == "enrolment":
        return _encode(_of_enrolment(ended_id, event))
    challenge, uuid = kind == "challenge", format_uuid(ended_id)
    return _encode(
        EventBody(
            id=event_id(ended_id),
            type=cast(Any, type_of_event(event)),
            status=status,
            timestamp=format_time(event.at),
            key_id=Caller(event.owner).key_id,
            action_type=event.action_type,
            challenge_id=uuid if challenge else None,
            fingerprint=event.fingerprint.hex() if challenge else None,
            request_id=None if challenge else event.request_id,
            mpa_id=None if challenge else uuid,
            decision=_DECISIONS.get(event.kind),
            reason=event.reason or None,
            groups_satisfied=None if challenge else event.groups_satisfied,
            attestation=event.evidence.summary if event.evidence else None,
            user_verification=event.web.facts.user_verification,
            synced=event.web.facts.synced,
        )
    )


def _of_enrolment(enrolment_id: bytes, event: Event) -> EnrolmentEventBody:
    enrolled = event.enrolled
    if enrolled is None:
        raise ValueError("an event of an enrolment has the members of one")
    return EnrolmentEventBody(
        id=event_id(enrolment_id),
        type=cast(Any, type_of_event(event)),
        enrolment_id=format_uuid(enrolment_id),
        account=enrolled.account,
        confirm=enrolled.confirm,
        status=_ENROLMENT_STATES[event.kind],
        timestamp=format_time(event.at),
        key_id=Caller(event.owner).key_id,
        fingerprint=event.fingerprint.hex() or None,
        device_public_key=encode_base64(enrolled.public_key) if enrolled.public_key else None,
        replaced=enrolled.replaced.hex() or None,
        attestation=event.evidence.summary if event.evidence else None,
        user_verification=event.web.facts.user_verification,
        synced=event.web.facts.synced,
        reason=cast(Any, event.reason or None),
    )
