"""The status of an enrolment, frozen as the results in `sigil.sdk.results`.

What the server must never do is an unusable response here, so that no backend stores a key too early or a key with
another's fingerprint.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from sigil.protocol.encoding.text import decode_base64
from sigil.protocol.errors import InvalidPublicKey, InvalidRequest
from sigil.protocol.keys import PublicKey
from sigil.sdk.results import Attestation, Time

State = Literal["pending", "claimed", "confirming", "enrolled", "failed", "expired", "cancelled"]
_OPEN = {"pending", "claimed", "confirming"}


@dataclass(frozen=True, slots=True)
class EnrolmentStatus:
    """The status of an enrolment when the server responded. `device_public_key` is there once it is enrolled, never
    before. While it is confirming, show `session_pictogram`, which the person's phone shows too.
    """

    enrolment_id: str
    status: State
    account: str
    confirm: Literal["code", "none"]
    expires_at: Time
    reason: str | None = None
    fingerprint: str | None = None
    pictogram: tuple[str, ...] | None = None
    pictogram_speakable: str | None = None
    session_pictogram: tuple[str, ...] | None = None
    session_pictogram_speakable: str | None = None
    device_public_key: str | None = None
    replaced: str | None = None
    attestation: Attestation | None = None
    user_verification: bool | None = None
    synced: bool | None = None
    enrolled_at: Time | None = None

    def __post_init__(self) -> None:
        if self.enrolled != (self.device_public_key is not None):
            raise ValueError("device_public_key belongs to an enrolled device, and to no other")
        if self.device_public_key is not None and _fingerprint(self.device_public_key) != self.fingerprint:
            raise ValueError("fingerprint is not that of device_public_key")
        if self.status == "confirming" and not (self.fingerprint and self.session_pictogram):
            raise ValueError("fingerprint and session_pictogram are missing")

    @property
    def is_final(self) -> bool:
        """Whether it is in a final state."""
        return self.status not in _OPEN

    @property
    def enrolled(self) -> bool:
        """Whether the device is enrolled. Store `device_public_key` on this alone."""
        return self.status == "enrolled"

    def __bool__(self) -> bool:
        """`if status:` would be true for a failed enrolment too."""
        raise TypeError("a status is neither true nor false: use .enrolled")


def _fingerprint(device_public_key: str) -> str | None:
    try:
        return PublicKey.parse(decode_base64(device_public_key, "$.device_public_key")).fingerprint
    except (InvalidRequest, InvalidPublicKey):
        return None
