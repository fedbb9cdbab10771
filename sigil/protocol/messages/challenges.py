"""The messages of the server's HTTP interface as types (docs/protocol.md, section 5).

Requests of devices and unauthenticated clients reject unknown members, requests of integrators ignore them. A field
whose default is None may be absent or null, and is left out of answers when it has no value.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec

from sigil.protocol.action import Action
from sigil.protocol.messages.approvals import MpaPayload
from sigil.protocol.messages.attestation import AttestationSummary, CredentialText
from sigil.protocol.messages.base import Answer, Decision, FromDevice, Reason

MIN_EXPIRY_SECONDS, MAX_EXPIRY_SECONDS, DEFAULT_EXPIRY_SECONDS = 30, 300, 300

ChallengeState = Literal["pending", "verified", "rejected", "expired", "cancelled"]


class CreateChallenge(msgspec.Struct, frozen=True):
    """`POST /challenge`"""

    device_public_key: str
    action: Action
    fingerprint: str | None = None
    expires_in_seconds: Annotated[int, msgspec.Meta(ge=MIN_EXPIRY_SECONDS, le=MAX_EXPIRY_SECONDS)] | None = None
    number_matching: bool | None = None


class ChallengeCreated(Answer, frozen=True):
    """201 of `POST /challenge`"""

    challenge_id: str
    fingerprint: str
    pictogram: list[str]
    pictogram_speakable: str
    expires_at: str
    challenge_bytes: str
    nonce: str
    server_signature: str
    respond_to: str | None = None
    match_code: str | None = None


class Respond(FromDevice, frozen=True):
    """`POST /respond`: one of key and fingerprint is enough."""

    challenge_id: str
    signature: str
    device_public_key: str | None = None
    fingerprint: str | None = None
    decision: Decision | None = None
    match_code: Annotated[str, msgspec.Meta(pattern=r"^[0-9]{2}$(?!\n)", description="two digits")] | None = None
    timestamp: Any = None
    reason: Reason | None = None
    device_credential: CredentialText | None = None

    def __repr__(self) -> str:
        return "Respond(…)"


class Responded(Answer, frozen=True):
    """200 of `POST /respond`"""

    status: Literal["verified", "rejected"]
    verified: bool
    fingerprint: str
    pictogram: list[str]
    pictogram_speakable: str
    action: msgspec.Raw


class PushStatus(Answer, frozen=True):
    status: Literal["queued", "delivered", "failed", "disabled"]
    error: str | None = None


class ChallengeStatus(Answer, frozen=True):
    """200 of `GET /v1/auth/challenge/{id}/status` and of `DELETE /v1/auth/challenge/{id}`"""

    challenge_id: str
    status: ChallengeState
    fingerprint: str
    pictogram: list[str]
    pictogram_speakable: str
    action: msgspec.Raw
    expires_at: str
    push: PushStatus
    decision: Decision | None = None
    reason: str | None = None
    match_code: str | None = None
    verified_at: str | None = None
    attestation: AttestationSummary | None = None
    user_verification: bool | None = None
    synced: bool | None = None


class Pending(FromDevice, frozen=True):
    """`POST /device/pending`"""

    device_public_key: str
    timestamp: str
    signature: str


class ChallengePayload(Answer, frozen=True, tag_field="type", tag="challenge"):
    """A challenge as a device gets it, by push or from `POST /device/pending`."""

    challenge_id: str
    server_id: str
    challenge_bytes: str
    nonce: str
    fingerprint: str
    action: msgspec.Raw
    server_signature: str
    expires_at: str
    number_matching: bool
    respond_to: str | None = None


class ChallengeReference(Answer, frozen=True, tag_field="type", tag="challenge"):
    """A push with SIGIL_PUSH_CONTENT=reference: the device gets the rest from `POST /device/pending`."""

    challenge_id: str
    server_id: str


class ClearPayload(Answer, frozen=True, tag_field="type", tag="clear"):
    """A push that dismisses the notification of an ended challenge."""

    challenge_id: str
    status: ChallengeState


class PendingList(Answer, frozen=True):
    """200 of `POST /device/pending`"""

    challenges: list[ChallengePayload]
    mpa: list[MpaPayload]
