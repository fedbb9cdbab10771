"""The compared code of an enrolment, and the nonces that its two ends contribute (docs/protocol.md, 5.5)."""

from __future__ import annotations

import hmac
from typing import NamedTuple

from sigil.protocol import signed_bytes
from sigil.protocol.encoding.pictogram import pictogram, speakable

CODE_DIGITS = 6


def offer_nonce(secret: bytes, enrolment_id: bytes, claim_id: bytes) -> bytes:
    """The nonce of an offer, for attestations; both ids have 16 bytes. `secret` is `DerivedSecrets.enrolment`."""
    return _derived(secret, b"nonce\0", enrolment_id, claim_id)


def sas_nonce(secret: bytes, enrolment_id: bytes, claim_id: bytes) -> bytes:
    """What the server commits to in the offer, and reveals when the device's key is fixed."""
    return _derived(secret, b"sas\0", enrolment_id, claim_id)


def _derived(secret: bytes, use: bytes, enrolment_id: bytes, claim_id: bytes) -> bytes:
    # Without separators: fixed lengths alone make this injective.
    if len(enrolment_id) != 16 or len(claim_id) != 16:
        raise ValueError("an enrolment_id and a claim_id have 16 bytes")
    return hmac.digest(secret, use + enrolment_id + claim_id, "sha256")


class Session(NamedTuple):
    """What both ends of one completion show: six digits, typed at the integrator's page, and a pictogram."""

    code: str
    pictogram: list[str]
    speakable: str

    def __repr__(self) -> str:
        return "Session(…)"


def session(digest: bytes, nonce: bytes) -> Session:
    """Of `signed_bytes.enrolment_digest` and the revealed sas_nonce."""
    sas = signed_bytes.enrolment_sas(digest, nonce)
    code = int.from_bytes(sas[:8]) % 10**CODE_DIGITS
    shown = sas[8:12].hex()
    return Session(f"{code:0{CODE_DIGITS}}", pictogram(shown), speakable(shown))
