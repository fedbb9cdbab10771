"""The body of a webhook (docs/protocol.md, 5.4)."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec

from sigil.protocol.encoding.ids import format_uuid, parse_uuid
from sigil.protocol.messages.attestation import AttestationSummary
from sigil.protocol.messages.enrolment import Confirm

EventType = Literal[
    "challenge.verified",
    "challenge.rejected",
    "challenge.expired",
    "mpa.approved",
    "mpa.rejected",
    "mpa.timeout",
    "enrolment.completed",
    "enrolment.failed",
    "enrolment.expired",
]
Timestamp = Annotated[str, msgspec.Meta(extra_json_schema={"format": "date-time"})]
_PREFIX = "evt_"


class EventBody(msgspec.Struct, frozen=True, omit_defaults=True):
    """Of a challenge: challenge_id and fingerprint; of an approval request: request_id, mpa_id, groups_satisfied."""

    id: str
    type: Literal[
        "challenge.verified", "challenge.rejected", "challenge.expired", "mpa.approved", "mpa.rejected", "mpa.timeout"
    ]
    status: str
    timestamp: Timestamp
    key_id: str
    action_type: str
    challenge_id: str | None = None
    fingerprint: str | None = None
    request_id: str | None = None
    mpa_id: str | None = None
    decision: Literal["approved", "rejected"] | None = None
    reason: str | None = None
    groups_satisfied: tuple[int, ...] | None = None
    attestation: AttestationSummary | None = None
    user_verification: bool | None = None
    synced: bool | None = None


class EnrolmentEventBody(msgspec.Struct, frozen=True, omit_defaults=True):
    """Of an enrolment. `device_public_key` only of a completed one; `replaced` is a fingerprint."""

    id: str
    type: Literal["enrolment.completed", "enrolment.failed", "enrolment.expired"]
    enrolment_id: str
    account: str
    confirm: Confirm
    status: str
    timestamp: Timestamp
    key_id: str
    fingerprint: str | None = None
    device_public_key: str | None = None
    replaced: str | None = None
    attestation: AttestationSummary | None = None
    user_verification: bool | None = None
    synced: bool | None = None
    reason: Literal["wrong_code"] | None = None


def event_id(ended_id: bytes) -> str:
    """`evt_` and the UUID of the ended challenge, approval request or enrolment, which ends only once."""
    return _PREFIX + format_uuid(ended_id)


def parse_event_id(text: str) -> bytes | None:
    """The UUID in an `event_id`; None for any other text."""
    return parse_uuid(text.removeprefix(_PREFIX)) if text.startswith(_PREFIX) else None
