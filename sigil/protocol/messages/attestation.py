"""The messages of attestation as types (docs/protocol.md, 5.6)."""

from __future__ import annotations

from typing import Annotated, Any, Literal, TypeAlias

import msgspec

from sigil.protocol.encoding.canonical import canonical
from sigil.protocol.messages.base import Answer, FromDevice

Kind = Literal["android-key", "apple-appattest", "yubikey-piv"]
"""Of a credential: the renewal `apple-assertion` gives `apple-appattest`."""
KINDS: tuple[Kind, ...] = ("android-key", "apple-appattest", "yubikey-piv")
Level = Literal["emulator", "hardware", "secure_element"]
LEVELS: tuple[Level, ...] = ("emulator", "hardware", "secure_element")
"""From the lowest to the highest."""
Binding = Literal["direct", "witness"]

MIN_CERTIFICATES, MAX_CERTIFICATES = 2, 10
MAX_CERTIFICATE = 8 * 1024
"""Bytes of one certificate."""
MAX_STATEMENT = 40 * 1024
"""Bytes of a statement in all, decoded."""
MAX_ASSERTION = 4 * 1024
MAX_CREDENTIAL = 4096
"""Characters of a device_credential."""


def _base64(size: int) -> msgspec.Meta:
    return msgspec.Meta(min_length=4, max_length=4 * -(-size // 3), description=f"base64 of at most {size} bytes")


CredentialText = Annotated[str, msgspec.Meta(min_length=1, max_length=MAX_CREDENTIAL)]
Chain = Annotated[
    list[Annotated[str, _base64(MAX_CERTIFICATE)]],
    msgspec.Meta(min_length=MIN_CERTIFICATES, max_length=MAX_CERTIFICATES),
]
"""DER certificates in base64, the attested one first."""


class AppleAttestation(FromDevice, frozen=True, tag_field="kind", tag="apple-appattest"):
    """`object` is the attestation object of App Attest (CBOR)"""

    object: Annotated[str, _base64(MAX_STATEMENT)]


class AppleAssertion(FromDevice, frozen=True, tag_field="kind", tag="apple-assertion"):
    """A renewal: the assertion of App Attest (CBOR), by the key of the credential that is sent with it"""

    assertion: Annotated[str, _base64(MAX_ASSERTION)]


class AndroidAttestation(FromDevice, frozen=True, tag_field="kind", tag="android-key"):
    """With `witness`, x5c is of a new key that vouches for the device's own: a renewal"""

    x5c: Chain
    witness: bool


class YubikeyAttestation(FromDevice, frozen=True, tag_field="kind", tag="yubikey-piv"):
    x5c: Chain


Statement: TypeAlias = AppleAttestation | AppleAssertion | AndroidAttestation | YubikeyAttestation


def statement_members(statement: Statement) -> dict[str, Any]:
    """The members as sent: all are required and no other is allowed, so that this is the JSON that was signed."""
    members: dict[str, Any] = msgspec.to_builtins(statement)
    return members


def statement_jcs(statement: Statement | None) -> bytes:
    """Canonical JSON; empty without a statement."""
    return b"" if statement is None else canonical(statement_members(statement))


class AttestChallenge(Answer, frozen=True):
    """200 of `GET /device/attest/challenge`; `nonce` is base64 of 32 bytes"""

    challenge_id: str
    nonce: str
    expires_at: str


class AttestDevice(FromDevice, frozen=True):
    """`POST /device/attest`; with the credential that it renews"""

    device_public_key: str
    challenge_id: Annotated[str, msgspec.Meta(max_length=256)]
    attestation: Statement
    signature: str
    device_credential: CredentialText | None = None

    def __repr__(self) -> str:
        return "AttestDevice(…)"


class DeviceAttested(Answer, frozen=True):
    """200 of `POST /device/attest`"""

    device_credential: str
    kind: Kind
    level: Level
    binding: Binding
    expires_at: str
    renew_after: str

    def __repr__(self) -> str:
        return "DeviceAttested(…)"


class AttestationSummary(Answer, frozen=True):
    """What a credential attests, for status responses, votes and webhook events"""

    kind: Kind
    level: Level
    binding: Binding
    attested_at: str
