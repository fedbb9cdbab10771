"""The steps of an enrolment as functions without I/O: the body of each request, and every check of its answer.

    claim_body → checked_offer → (show it, ask) → completion_body → checked_session → (show the code) → check_waited

The server commits to its nonce in the offer, before it sees the key, and reveals it when the key is fixed: neither side
can choose its value so that an attacker's code is the same.
"""

from __future__ import annotations

import hashlib
import hmac
from dataclasses import dataclass
from typing import Any

from sigil.device.challenge_checks import CLOCK_ALLOWANCE_SECONDS
from sigil.device.enrolment.errors import (
    CodeNotCompared,
    CodeNotConfirmed,
    CommitmentBroken,
    EnrolmentEndUnknown,
    OfferExpired,
    OfferForAnotherClaim,
    OfferForAnotherToken,
    OfferMalformed,
    OfferOfAnotherServer,
    OfferSignatureInvalid,
)
from sigil.device.enrolment.target import Target
from sigil.device.errors import AnswerUnusable
from sigil.device.server_pin import ServerPin
from sigil.device.software import Device
from sigil.protocol import signed_bytes
from sigil.protocol.encoding.canonical import canonical
from sigil.protocol.encoding.text import decode_base64, encode_base64, parse_time
from sigil.protocol.enrolment import offer as protocol_offer
from sigil.protocol.enrolment.code import Session, session
from sigil.protocol.errors import InvalidRequest
from sigil.protocol.keys import SIGNATURE_LENGTH
from sigil.protocol.messages.enrolment import MAX_EXPIRY_SECONDS, EnrolmentCompleted, EnrolmentOffered, EnrolmentWaited
from sigil.protocol.messages.enrolment import Offer as OfferMembers

CLAIM_ID_BYTES = 16
WAIT_SECONDS = 20
"""Of one long poll."""
POLL_PAUSE_SECONDS = 0.5
"""After each: a server or a proxy that answers at once must not be polled in a tight loop."""
_HASH = 32


@dataclass(frozen=True)
class Offer:
    """An offer that passed every check. `jcs` is its canonical JSON, `expires_at` Unix seconds; `replaces` is the
    fingerprint of the key that the new one replaces, or empty.
    """

    server: ServerPin
    members: OfferMembers
    jcs: bytes
    expires_at: int
    nonce: bytes

    @property
    def account(self) -> str:
        return self.members.account

    @property
    def enrolment_id(self) -> str:
        return self.members.enrolment_id

    @property
    def replaces(self) -> str:
        return self.members.replaces

    def seconds_left(self, now: float) -> int:
        return max(0, int(self.expires_at - now))

    def attest_digest(self, kind: str, key: str) -> bytes:
        """What an attestation of the new key holds as its challenge (a `DigestFor`)."""
        return signed_bytes.attest_digest(
            context=self.enrolment_id, key=key, kind=kind, nonce=self.nonce, server_id=self.server.server_id
        )


def claim_body(target: Target, claim_id: str) -> dict[str, str]:
    return {"token": target.token, "claim_id": claim_id}


def checked_offer(answer: EnrolmentOffered, target: Target, claim_id: str, server: ServerPin, now: float) -> Offer:
    """The offer, if the pinned server signed exactly this for exactly this claim; OfferRefused."""
    offer = parse_offer(bytes(answer.offer), server)
    if offer.members.server_id != server.server_id:
        raise OfferOfAnotherServer
    if offer.members.token_sha256 != target.token_sha256:
        raise OfferForAnotherToken
    if offer.members.claim_id != claim_id:
        raise OfferForAnotherClaim
    check_open(offer, now)
    try:
        signature = decode_base64(answer.server_signature, "$.server_signature", length=SIGNATURE_LENGTH)
    except InvalidRequest as error:
        raise OfferSignatureInvalid from error
    if not server.key("ES256").verify(signed_bytes.enrolment_offer(offer.jcs), signature):
        raise OfferSignatureInvalid
    if offer.members.confirm == "none" and not target.from_link:
        raise CodeNotCompared
    return offer


def check_open(offer: Offer, now: float) -> None:
    """Again after a person's answer, which may take long."""
    if now >= offer.expires_at + CLOCK_ALLOWANCE_SECONDS:
        raise OfferExpired


def parse_offer(text: bytes, server: ServerPin) -> Offer:
    """The offer of its canonical JSON, with neither server nor signature checked; OfferMalformed."""
    try:
        members = protocol_offer.parse_offer(text)
    except InvalidRequest as error:
        raise OfferMalformed(f"{OfferMalformed.summary} {error.message}") from error
    nonce = decode_base64(members.nonce, "$.offer.nonce")
    return Offer(server, members, text, parse_time(members.expires_at, "$.offer.expires_at"), nonce)


def completion_body(
    device: Device,
    offer: Offer,
    *,
    attestation: dict[str, Any] | None = None,
    replaced: Device | None = None,
) -> dict[str, Any]:
    """`POST /enrolment/complete`, signed by the new key, and by the replaced one where the offer names it."""
    digest = digest_of(offer, device.wire_key, attestation)
    body: dict[str, Any] = {
        "enrolment_id": offer.enrolment_id,
        "claim_id": offer.members.claim_id,
        "device_public_key": device.wire_key,
        "signature": encode_base64(device.sign_enrolment(digest)),
    }
    if attestation is not None:
        body["attestation"] = attestation
    if replaced is not None:
        body["replaces_signature"] = encode_base64(replaced.sign_replacement(digest))
    return body


def digest_of(offer: Offer, wire_key: str, attestation: dict[str, Any] | None) -> bytes:
    """D of docs/protocol.md, 5.5."""
    attested = b"" if attestation is None else canonical(attestation)
    key = decode_base64(wire_key, "$.device_public_key")
    return signed_bytes.enrolment_digest(hashlib.sha256(offer.jcs).digest(), key, attested)


def checked_session(answer: EnrolmentCompleted, offer: Offer, body: dict[str, Any]) -> Session:
    """What the device shows, if the server revealed what it had committed to; CommitmentBroken, AnswerUnusable."""
    try:
        nonce = decode_base64(answer.sas_nonce, "$.sas_nonce", length=_HASH)
    except InvalidRequest as error:
        raise AnswerUnusable(f"{AnswerUnusable.summary} {error.message}") from error
    committed = decode_base64(offer.members.commitment, "$.commitment", length=_HASH)
    if not hmac.compare_digest(signed_bytes.enrolment_commitment(nonce), committed):
        raise CommitmentBroken
    return session(digest_of(offer, body["device_public_key"], body.get("attestation")), nonce)


def wait_body(offer: Offer, wait: int) -> dict[str, Any]:
    return {"enrolment_id": offer.enrolment_id, "claim_id": offer.members.claim_id, "wait": wait}


def waiting_end(offer: Offer, now: float) -> float:
    """Unix seconds. Bounds the wait by this device's clock too: the server may never report an end."""
    return min(offer.expires_at, now + MAX_EXPIRY_SECONDS) + CLOCK_ALLOWANCE_SECONDS


def check_waiting(end: float, now: float) -> None:
    """EnrolmentEndUnknown after `waiting_end`."""
    if now >= end:
        raise EnrolmentEndUnknown


def is_enrolled(answer: EnrolmentWaited) -> bool:
    """CodeNotConfirmed when the enrolment ended otherwise; False while it is open."""
    if answer.status in ("failed", "expired", "cancelled"):
        raise CodeNotConfirmed(answer.status, reason="wrong_code" if answer.status == "failed" else None)
    return answer.status == "enrolled"
