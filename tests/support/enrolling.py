"""A device's side of an enrolment, step by step, for tests of the server."""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass, field
from typing import Any

from sigil.device.software import new_secret
from sigil.protocol import signed_bytes
from sigil.protocol.encoding.text import decode_base64, encode_base64
from sigil.protocol.enrolment.code import Session, session
from sigil.protocol.enrolment.offer import parse_offer
from sigil.protocol.keys import PrivateKey
from sigil.protocol.messages.attestation import Statement, statement_jcs
from sigil.protocol.messages.enrolment import (
    ClaimEnrolment,
    CompleteEnrolment,
    EnrolmentBegun,
    EnrolmentOffered,
    Offer,
    WaitForEnrolment,
)


def new_key() -> PrivateKey:
    return PrivateKey.load("ES256", new_secret("ES256"))


@dataclass
class Phone:
    """Claims with `token`; then `offer` is what the server offered. It keeps its key, so that it can repeat a step."""

    token: str
    key: PrivateKey = field(default_factory=new_key)
    claim_id: str = field(default_factory=lambda: os.urandom(16).hex())
    replaced: PrivateKey | None = None
    statement: Statement | None = None
    offer_jcs: bytes = b""

    @classmethod
    def of(cls, begun: EnrolmentBegun, **given: Any) -> Phone:
        return cls(begun.token, **given)

    @property
    def offer(self) -> Offer:
        return parse_offer(self.offer_jcs)

    def claim(self) -> ClaimEnrolment:
        return ClaimEnrolment(self.token, self.claim_id)

    def accept(self, offered: EnrolmentOffered) -> None:
        self.offer_jcs = bytes(offered.offer)

    @property
    def digest(self) -> bytes:
        offer_sha256 = hashlib.sha256(self.offer_jcs).digest()
        return signed_bytes.enrolment_digest(offer_sha256, self.key.public.wire, statement_jcs(self.statement))

    def completion(self) -> CompleteEnrolment:
        consent = signed_bytes.enrolment_consent(self.digest)
        return CompleteEnrolment(
            enrolment_id=self.offer.enrolment_id,
            claim_id=self.claim_id,
            device_public_key=encode_base64(self.key.public.wire),
            signature=encode_base64(self.key.sign(signed_bytes.enrolment_completion(self.digest))),
            attestation=self.statement,
            replaces_signature=encode_base64(self.replaced.sign(consent)) if self.replaced else None,
        )

    def session(self, sas_nonce: str) -> Session:
        """What it shows; the nonce is the one that the server had committed to."""
        nonce = decode_base64(sas_nonce, "$.sas_nonce", length=32)
        assert encode_base64(signed_bytes.enrolment_commitment(nonce)) == self.offer.commitment
        return session(self.digest, nonce)

    def waiting(self, wait: int = 0) -> WaitForEnrolment:
        return WaitForEnrolment(self.offer.enrolment_id, self.claim_id, wait)
