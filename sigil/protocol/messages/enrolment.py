"""The messages of enrolment as types (docs/protocol.md, 5.5).

No repr shows a token, a claim_id, a code, or what a device attested.
"""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec

from sigil.protocol.enrolment.link import TOKEN_FORM, TOKEN_LENGTH
from sigil.protocol.messages.attestation import AttestationSummary, Level, Statement
from sigil.protocol.messages.base import Answer, FromDevice

MIN_EXPIRY_SECONDS, MAX_EXPIRY_SECONDS, DEFAULT_EXPIRY_SECONDS = 60, 900, 600
MAX_UNCONFIRMED_SECONDS = 120
"""The longest life of an enrolment with confirm `none`."""
MAX_ACCOUNT = 128
MAX_WAIT_SECONDS = 25

Confirm = Literal["code", "none"]
EnrolmentState = Literal["pending", "claimed", "confirming", "enrolled", "failed", "expired", "cancelled"]

ClaimId = Annotated[
    str, msgspec.Meta(pattern=r"^[0-9a-f]{32}$(?!\n)", description="32 lower-case hex characters, of 16 random bytes")
]


class BeginEnrolment(msgspec.Struct, frozen=True):
    """`POST /enrolment`; `replaces` is the device_public_key that the new key replaces"""

    account: Annotated[str, msgspec.Meta(min_length=1, max_length=MAX_ACCOUNT)]
    confirm: Confirm | None = None
    expires_in_seconds: Annotated[int, msgspec.Meta(ge=MIN_EXPIRY_SECONDS, le=MAX_EXPIRY_SECONDS)] | None = None
    replaces: str | None = None
    min_level: Level | None = None


class EnrolmentBegun(Answer, frozen=True):
    """201 of `POST /enrolment`; `web_uri` where the server has a web app that may enrol"""

    enrolment_id: str
    token: str
    uri: str
    expires_at: str
    web_uri: str | None = None

    def __repr__(self) -> str:
        return "EnrolmentBegun(…)"


class ClaimEnrolment(FromDevice, frozen=True):
    """`POST /enrolment/claim`"""

    token: Annotated[
        str,
        msgspec.Meta(
            pattern=TOKEN_FORM,
            description=f"{TOKEN_LENGTH} characters of 0-9 and upper-case A-Z without I, L, O and U",
        ),
    ]
    claim_id: ClaimId

    def __repr__(self) -> str:
        return "ClaimEnrolment(…)"


class EnrolmentOffered(Answer, frozen=True):
    """200 of `POST /enrolment/claim`; `offer` is sent as the text of its JCS"""

    offer: msgspec.Raw
    server_signature: str

    def __repr__(self) -> str:
        return "EnrolmentOffered(…)"


class OfferedAttestation(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`kinds` is sorted; empty: the server accepts no attestation. `min_level` is empty where none is required"""

    kinds: list[str]
    min_level: Literal["", "emulator", "hardware", "secure_element"]


class Offer(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a device consents to when it enrols. `replaces` is a fingerprint, or empty"""

    account: str
    attestation: OfferedAttestation
    claim_id: str
    commitment: str
    confirm: Confirm
    enrolment_id: str
    expires_at: str
    nonce: str
    replaces: str
    server_id: str
    server_name: str
    token_sha256: str

    def __repr__(self) -> str:
        return "Offer(…)"


class CompleteEnrolment(FromDevice, frozen=True):
    """`POST /enrolment/complete`"""

    enrolment_id: str
    claim_id: ClaimId
    device_public_key: str
    signature: str
    attestation: Statement | None = None
    replaces_signature: str | None = None

    def __repr__(self) -> str:
        return "CompleteEnrolment(…)"


class EnrolmentCompleted(Answer, frozen=True):
    """200 of `POST /enrolment/complete`; `sas_nonce` is base64 of 32 bytes"""

    sas_nonce: str
    status: Literal["confirming", "enrolled"]
    device_credential: str | None = None

    def __repr__(self) -> str:
        return "EnrolmentCompleted(…)"


class ConfirmEnrolment(msgspec.Struct, frozen=True):
    """`POST /enrolment/{enrolment_id}/confirm`; `code` as the device shows it"""

    code: Annotated[str, msgspec.Meta(pattern=r"^[0-9]{6}$(?!\n)", description="six digits")]

    def __repr__(self) -> str:
        return "ConfirmEnrolment(…)"


class WaitForEnrolment(FromDevice, frozen=True):
    """`POST /enrolment/wait`"""

    enrolment_id: str
    claim_id: ClaimId
    wait: Annotated[int, msgspec.Meta(ge=0, le=MAX_WAIT_SECONDS)] | None = None

    def __repr__(self) -> str:
        return "WaitForEnrolment(…)"


class EnrolmentWaited(Answer, frozen=True):
    """200 of `POST /enrolment/wait`; the credential once enrolled, where the device was attested"""

    status: EnrolmentState
    device_credential: str | None = None

    def __repr__(self) -> str:
        return "EnrolmentWaited(…)"


class EnrolmentStatus(Answer, frozen=True):
    """200 of `GET /enrolment/{enrolment_id}/status`, of `DELETE` and of the confirmation

    The pictogram is of the device's key, `session_pictogram` of the compared code. `replaced` is a fingerprint.
    """

    enrolment_id: str
    status: EnrolmentState
    account: str
    confirm: Confirm
    expires_at: str
    reason: Literal["wrong_code"] | None = None
    fingerprint: str | None = None
    pictogram: list[str] | None = None
    pictogram_speakable: str | None = None
    session_pictogram: list[str] | None = None
    session_pictogram_speakable: str | None = None
    device_public_key: str | None = None
    replaced: str | None = None
    attestation: AttestationSummary | None = None
    user_verification: bool | None = None
    synced: bool | None = None
    enrolled_at: str | None = None
