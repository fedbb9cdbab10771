"""The body of a webhook (docs/protocol.md, 5.4)."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec

from sigil.protocol.encoding.ids import format_uuid, parse_uuid

EventType = Literal[
    "challenge.verified", "challenge.rejected", "challenge.expired", "mpa.approved", "mpa.rejected", "mpa.timeout"
]
_PREFIX = "evt_"


class EventBody(msgspec.Struct, frozen=True, omit_defaults=True):
    """Of a challenge: challenge_id and fingerprint; of an approval request: request_id, mpa_id, groups_satisfied."""

    id: str
    type: EventType
    status: str
    timestamp: Annotated[str, msgspec.Meta(extra_json_schema={"format": "date-time"})]
    key_id: str
    action_type: str
    challenge_id: str | None = None
    fingerprint: str | None = None
    request_id: str | None = None
    mpa_id: str | None = None
    decision: Literal["approved", "rejected"] | None = None
    reason: str | None = None
    groups_satisfied: tuple[int, ...] | None = None


def event_id(ended_id: bytes) -> str:
    """`evt_` and the UUID of the ended challenge or approval request, which ends only once."""
    return _PREFIX + format_uuid(ended_id)


def parse_event_id(text: str) -> bytes | None:
    """The UUID in an `event_id`; None for any other text."""
    return parse_uuid(text.removeprefix(_PREFIX)) if text.startswith(_PREFIX) else None
