"""The messages of approval requests as types (docs/protocol.md, 5.3), with the prefix `Mpa` as on the wire."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec

from sigil.protocol.action import Action
from sigil.protocol.messages.attestation import AttestationSummary, CredentialText
from sigil.protocol.messages.base import Answer, Decision, FromDevice, Reason

MAX_BODY = 256 * 1024
"""Bytes of `POST /mpa/request`: enough for a thousand members."""
MAX_GROUPS = 20
MAX_MEMBERS = 50
DEFAULT_EXPIRY_SECONDS = 300

RejectPolicy = Literal["continue", "reject_on_first"]
MpaState = Literal["pending", "approved", "rejected", "timeout", "cancelled"]

REQUEST_ID = r"^(?!\.{1,2}$)[A-Za-z0-9._:-]{1,128}$(?!\n)"
"""Not `.` or `..`: the id is part of a path, and clients and proxies remove these segments."""
_REQUEST_ID_FORM = (
    "1 to 128 ASCII letters, digits, dots, underscores, colons and hyphens, and not one or two dots alone"
)


class WantedMember(msgspec.Struct, frozen=True):
    device_public_key: str
    fingerprint: str | None = None


class WantedGroup(msgspec.Struct, frozen=True):
    members: Annotated[list[WantedMember], msgspec.Meta(min_length=1, max_length=MAX_MEMBERS)]


class CreateMpa(msgspec.Struct, frozen=True):
    """`POST /mpa/request`"""

    action: Action
    required: Annotated[int, msgspec.Meta(ge=1, le=MAX_GROUPS)]
    groups: Annotated[list[WantedGroup], msgspec.Meta(min_length=1, max_length=MAX_GROUPS)]
    request_id: Annotated[str, msgspec.Meta(pattern=REQUEST_ID, description=_REQUEST_ID_FORM)] | None = None
    reject_policy: RejectPolicy | None = None
    expires_in_seconds: Annotated[int, msgspec.Meta(ge=60, le=900)] | None = None


class MpaCreated(Answer, frozen=True):
    """201 of `POST /mpa/request`; 200 with the current status when the request is a repetition"""

    request_id: str
    mpa_id: str
    status: MpaState
    groups_required: int
    groups_total: int
    challenges_sent: int
    expires_at: str


class RespondMpa(FromDevice, frozen=True):
    """`POST /mpa/respond`: one of key and fingerprint is enough."""

    mpa_id: str
    decision: Decision
    signature: str
    device_public_key: str | None = None
    fingerprint: str | None = None
    timestamp: Any = None
    reason: Reason | None = None
    device_credential: CredentialText | None = None

    def __repr__(self) -> str:
        return "RespondMpa(…)"


class MpaResponded(Answer, frozen=True):
    """200 of `POST /mpa/respond`"""

    status: Literal["recorded", "approved", "rejected", "already_satisfied"]
    fingerprint: str
    pictogram: list[str]
    pictogram_speakable: str
    group_satisfied: bool
    groups_satisfied: int
    groups_required: int
    quorum_reached: bool


class MpaMember(Answer, frozen=True):
    device_public_key: str
    fingerprint: str


class MpaGroup(Answer, frozen=True):
    members: list[MpaMember]


class MpaVote(Answer, frozen=True):
    """One device's answer; `group` is the index of its group. `device_credential` has its first three parts alone."""

    fingerprint: str
    device_public_key: str
    group: int
    decision: Decision
    at: str
    signature: str
    reason: Reason | None = None
    attestation: AttestationSummary | None = None
    device_credential: str | None = None
    user_verification: bool | None = None
    synced: bool | None = None


class MpaStatus(Answer, frozen=True):
    """200 of `GET /mpa/status/{request_id}` and of `DELETE /mpa/request/{request_id}`

    `server_public_key` is the ES256 key that signed: its fingerprint is the server_id.
    """

    request_id: str
    mpa_id: str
    status: MpaState
    groups_satisfied: list[int]
    groups_required: int
    groups_total: int
    expires_at: str
    action_context: msgspec.Raw
    server_signature: str
    server_public_key: str
    groups: list[MpaGroup]
    votes: list[MpaVote]


class MpaPayload(Answer, frozen=True, tag_field="type", tag="mpa"):
    """An approval request as a device gets it, by push or from `POST /device/pending`."""

    mpa_id: str
    server_id: str
    action_context: msgspec.Raw
    server_signature: str
    expires_at: str
    respond_to: str | None = None


class MpaReference(Answer, frozen=True, tag_field="type", tag="mpa"):
    """A push with SIGIL_PUSH_CONTENT=reference: the device gets the rest from `POST /device/pending`."""

    mpa_id: str
    server_id: str


class MpaClear(Answer, frozen=True, tag_field="type", tag="clear"):
    """A push that dismisses the notification of an ended approval request."""

    mpa_id: str
    status: MpaState


class ActionContext(msgspec.Struct, frozen=True):
    """The signed context of an approval request: the action and the devices that may approve it. Decoded from JCS."""

    type: str
    description: str
    mpa_id: str
    request_id: str
    nonce: str
    server_id: str
    expires_at: str
    respond_to: str
    required: int
    reject_policy: RejectPolicy
    groups_sha256: str
    params: dict[str, Any] | None = None
