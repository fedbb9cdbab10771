"""Results of calls about enrolments: frozen values, as in `sigil.sdk.results`.

What the server must never do is an unusable response here, so that no backend stores a key too early or a key with
another's fingerprint.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from sigil.protocol.encoding.text import decode_base64
from sigil.protocol.enrolment import parse_uri, typed_token
from sigil.protocol.errors import InvalidPublicKey, InvalidRequest
from sigil.protocol.keys import PublicKey
from sigil.sdk.results import Attestation, Time

State = Literal["pending", "claimed", "confirming", "enrolled", "failed", "expired", "cancelled"]
_OPEN = {"pending", "claimed", "confirming"}


@dataclass(frozen=True, slots=True)
class Enrolment:
    """An enrolment that was begun. `uri` and `token` let the first device that has them claim it: show them to the
    signed-in person alone, and log neither.
    """

    enrolment_id: str
    expires_at: Time
    token: str = field(repr=False)
    uri: str = field(repr=False)

    def __post_init__(self) -> None:
        # In this form the link can be put into a page or a terminal as it is.
        if parse_uri(self.uri).token != self.token:
            raise ValueError("the token is not that of the link")

    @property
    def typed_token(self) -> str:
        """The token as a person types it: XXXX-XXXX-XXXX."""
        return typed_token(self.token)

    def qr(self, format: Literal["svg", "terminal"] = "svg", *, title: str = "QR code: scan it with your phone") -> str:
        """The QR code of `uri`. ConfigurationError without segno, which the extras `qr` and `cli` install.

        svg: an element to put into a page, as large as its container; `title` is its name for screen readers. terminal:
        lines for a terminal with a dark or a light background, and under them the typed token.
        """
        from sigil.sdk.enrolment import qr

        qr.require(format)
        if format == "terminal":
            return f"{qr.terminal(self.uri)}\nOr type {self.typed_token}\n"
        return qr.svg(self.uri, title)


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
