"""The messages of an enrolment: its token, its signed offer, and the representation for each party."""

from __future__ import annotations

import hashlib
import hmac

import msgspec

from sigil.core.enrolment.row import Claim, Enrolment, State
from sigil.protocol import signed_bytes
from sigil.protocol.encoding.ids import format_uuid
from sigil.protocol.encoding.pictogram import pictogram, speakable
from sigil.protocol.encoding.text import encode_base64, format_time
from sigil.protocol.enrolment import code, link
from sigil.protocol.enrolment.link import Link
from sigil.protocol.enrolment.offer import offer_jcs
from sigil.protocol.identity import ServerIdentity
from sigil.protocol.keys import PublicKey
from sigil.protocol.messages import enrolment as messages


class EnrolmentMessages:
    """Signs for one server identity. What it derives from its secret is stored nowhere: tokens, nonces, sas_nonces."""

    def __init__(self, identity: ServerIdentity) -> None:
        self._identity = identity
        self._secret = identity.enrolment_secret

    def token(self, enrolment_id: bytes) -> str:
        """Derived, so that a repeated creation gets the same token while the store has its hash alone."""
        return link.token_of(hmac.digest(self._secret, b"token\0" + enrolment_id, "sha256")[: link.TOKEN_BYTES])

    def nonce(self, enrolment_id: bytes, claim_id: bytes) -> bytes:
        """Of attestations for this offer."""
        return code.offer_nonce(self._secret, enrolment_id, claim_id)

    def sas_nonce(self, enrolment_id: bytes, claim_id: bytes) -> bytes:
        return code.sas_nonce(self._secret, enrolment_id, claim_id)

    def begun(self, enrolment_id: bytes, enrolment: Enrolment, web_origin: str | None) -> messages.EnrolmentBegun:
        """`web_origin`: where the web app that may enrol is served, if there is one."""
        token = self.token(enrolment_id)
        return messages.EnrolmentBegun(
            enrolment_id=format_uuid(enrolment_id),
            token=token,
            uri=link.link_uri(Link(enrolment.base_url, self._identity.server_id, token)),
            expires_at=format_time(enrolment.expires_at),
            web_uri=link.web_uri(Link(web_origin, self._identity.server_id, token)) if web_origin else None,
        )

    def claim(
        self, enrolment_id: bytes, enrolment: Enrolment, claim_id: bytes, *, server_name: str, terms: OfferedTerms
    ) -> Claim:
        """A claim with the settings of now, and the hash of the offer that they make."""
        claim = Claim(hashlib.sha256(claim_id).digest(), server_name, terms.kinds, terms.min_level, b"")
        offer = self._offer(enrolment_id, enrolment, claim, claim_id)
        return msgspec.structs.replace(claim, offer_sha256=hashlib.sha256(offer).digest())

    def offered(
        self, enrolment_id: bytes, enrolment: Enrolment, claim: Claim, claim_id: bytes
    ) -> messages.EnrolmentOffered:
        """The same bytes for the same claim: signatures of the server are deterministic."""
        offer = self._offer(enrolment_id, enrolment, claim, claim_id)
        signature = self._identity.keys["ES256"].sign(signed_bytes.enrolment_offer(offer))
        return messages.EnrolmentOffered(offer=msgspec.Raw(offer), server_signature=encode_base64(signature))

    def _offer(self, enrolment_id: bytes, enrolment: Enrolment, claim: Claim, claim_id: bytes) -> bytes:
        offer = messages.Offer(
            account=enrolment.account,
            attestation=messages.OfferedAttestation(list(claim.kinds), claim.min_level),  # type: ignore[arg-type]
            claim_id=claim_id.hex(),
            commitment=encode_base64(signed_bytes.enrolment_commitment(self.sas_nonce(enrolment_id, claim_id))),
            confirm=enrolment.confirm,
            enrolment_id=format_uuid(enrolment_id),
            expires_at=format_time(enrolment.expires_at),
            nonce=encode_base64(self.nonce(enrolment_id, claim_id)),
            replaces=enrolment.replaced_fingerprint.hex(),
            server_id=self._identity.server_id,
            server_name=claim.server_name,
            token_sha256=enrolment.token_sha256.hex(),
        )
        return offer_jcs(offer)

    def completed(self, enrolment: Enrolment) -> messages.EnrolmentCompleted:
        completion = enrolment.completion
        if completion is None:
            raise ValueError("an enrolment without a completion has no answer to one")
        return messages.EnrolmentCompleted(
            sas_nonce=encode_base64(completion.sas_nonce),
            status="enrolled" if enrolment.state is State.ENROLLED else "confirming",
            device_credential=completion.credential or None,
        )

    def waited(self, enrolment: Enrolment) -> messages.EnrolmentWaited:
        enrolled = enrolment.state is State.ENROLLED
        credential = enrolment.completion.credential if enrolment.completion and enrolled else ""
        return messages.EnrolmentWaited(status=enrolment.state.wire_name, device_credential=credential or None)

    def status(self, enrolment_id: bytes, enrolment: Enrolment) -> messages.EnrolmentStatus:
        """For the integrator. The key is that of an enrolled device, never of one whose code was not confirmed."""
        completion, enrolled = enrolment.completion, enrolment.state is State.ENROLLED
        status = messages.EnrolmentStatus(
            enrolment_id=format_uuid(enrolment_id),
            status=enrolment.state.wire_name,
            account=enrolment.account,
            confirm=enrolment.confirm,
            expires_at=format_time(enrolment.expires_at),
            reason="wrong_code" if enrolment.reason else None,
            enrolled_at=format_time(enrolment.ended_at) if enrolled and enrolment.ended_at else None,
        )
        if completion is None:
            return status
        device, shown = PublicKey.parse(completion.public_key), completion.session
        return msgspec.structs.replace(
            status,
            fingerprint=device.fingerprint,
            pictogram=pictogram(device.fingerprint),
            pictogram_speakable=speakable(device.fingerprint),
            session_pictogram=shown.pictogram,
            session_pictogram_speakable=shown.speakable,
            device_public_key=encode_base64(device.wire) if enrolled else None,
            replaced=enrolment.replaced_fingerprint.hex() or None if enrolled else None,
            attestation=completion.evidence.summary if completion.evidence else None,
            user_verification=completion.web.facts.user_verification,
            synced=completion.web.facts.synced,
        )


class OfferedTerms(msgspec.Struct, frozen=True):
    """What an offer demands of the attestation: the accepted kinds, sorted, and the lowest level, or empty."""

    kinds: tuple[str, ...]
    min_level: str
