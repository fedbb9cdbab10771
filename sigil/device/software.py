"""A device in software: a private key and what it signs. No HTTP, no files, no clock.

    device = Device.generate("Ed25519")
    shown = verify_payload(payload, pin, device.public, now)
    body = device.response(shown, "approved")            # the JSON of POST /respond

A load generator that created the challenge itself signs without a payload:

    signature = device.sign_approval(challenge_bytes, action_jcs)
    body = device.response_body(challenge_id, "approved", signature)
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Mapping
from typing import Any

from sigil.device.approval_checks import ShownApproval
from sigil.device.challenge_checks import ShownChallenge, parse_payload, verified_action
from sigil.device.errors import MatchCodeRequired, MatchCodeUnexpected
from sigil.protocol import signed_bytes
from sigil.protocol.encoding.pictogram import pictogram, speakable
from sigil.protocol.encoding.text import decode_base64, encode_base64, format_time
from sigil.protocol.keys import PrivateKey, PublicKey, Suite
from sigil.protocol.messages.base import Decision, Reason
from sigil.protocol.messages.challenges import ChallengePayload
from sigil.protocol.messages.relay import Platform

Payload = ShownChallenge | ChallengePayload | bytes
"""A checked challenge, or an unchecked payload as struct or JSON (tests, load)."""

_MATCH_CODE = re.compile(r"[0-9]{2}\Z", re.ASCII)
SECRET_LENGTH = 32


def new_secret(suite: Suite) -> bytes:
    """32 random bytes that are a private key of the suite."""
    while True:
        secret = secrets.token_bytes(SECRET_LENGTH)
        try:
            PrivateKey.load(suite, secret)
        except ValueError:  # Not in 1..n-1: one in 2^32 for P-256, one in 2^128 for secp256k1.
            continue
        return secret


class Device:
    """Holds one private key and never exposes it, neither as an attribute nor in its repr."""

    def __init__(self, key: PrivateKey) -> None:
        self._key = key
        self.public: PublicKey = key.public

    @classmethod
    def generate(cls, suite: Suite = "ES256") -> Device:
        return cls(PrivateKey.load(suite, new_secret(suite)))

    @classmethod
    def from_secret(cls, suite: Suite, secret: bytes) -> Device:
        """From 32 bytes (the big-endian scalar, or the Ed25519 seed); ValueError when they are not a key."""
        return cls(PrivateKey.load(suite, secret))

    @property
    def suite(self) -> Suite:
        return self.public.server_suite

    @property
    def fingerprint(self) -> str:
        return self.public.fingerprint

    @property
    def wire_key(self) -> str:
        """`device_public_key`: base64 of the key as on the wire (2.1)."""
        return encode_base64(self.public.wire)

    @property
    def pictogram(self) -> list[str]:
        return pictogram(self.fingerprint)

    @property
    def pictogram_speakable(self) -> str:
        return speakable(self.fingerprint)

    def approve(self, payload: Payload, match_code: str | None = None) -> bytes:
        """The 64-byte signature of an approval (2.4).

        MatchCodeRequired or MatchCodeUnexpected when the code and `number_matching` disagree; ValueError for a
        code that is not two ASCII digits.
        """
        challenge, action, matching = _signable(payload)
        if matching and match_code is None:
            raise MatchCodeRequired
        if match_code is not None and not matching:
            raise MatchCodeUnexpected
        return self.sign_approval(challenge, action, match_code)

    def reject(self, payload: Payload) -> bytes:
        """The 64-byte signature of a rejection (2.4)."""
        challenge, action, _ = _signable(payload)
        return self.sign_rejection(challenge, action)

    def sign_approval(self, challenge_bytes: bytes, action_jcs: bytes, match_code: str | None = None) -> bytes:
        """As `approve`, from the 32 bytes of a challenge and the canonical action, unchecked."""
        if match_code is None:
            return self._key.sign(signed_bytes.approval(challenge_bytes, action_jcs))
        if not _MATCH_CODE.match(match_code):
            raise ValueError("a match code must be two digits")
        return self._key.sign(signed_bytes.matched_approval(challenge_bytes, action_jcs, match_code))

    def sign_rejection(self, challenge_bytes: bytes, action_jcs: bytes) -> bytes:
        return self._key.sign(signed_bytes.rejection(challenge_bytes, action_jcs))

    def response(
        self, payload: Payload, decision: Decision, *, match_code: str | None = None, reason: Reason | None = None
    ) -> dict[str, str]:
        """The members of `POST /respond` (5.2), signed; raises as `approve` does."""
        signature = self.approve(payload, match_code) if decision == "approved" else self.reject(payload)
        challenge_id = (
            payload.challenge_id if isinstance(payload, ShownChallenge) else parse_payload(payload).challenge_id
        )
        return self.response_body(challenge_id, decision, signature, match_code=match_code, reason=reason)

    def response_body(
        self,
        challenge_id: str,
        decision: Decision,
        signature: bytes,
        *,
        match_code: str | None = None,
        reason: Reason | None = None,
    ) -> dict[str, str]:
        """The members of `POST /respond` around a signature; a code is for approvals, a reason for rejections."""
        body = {
            "challenge_id": challenge_id,
            "fingerprint": self.fingerprint,
            "decision": decision,
            "signature": encode_base64(signature),
        }
        if match_code is not None and decision == "approved":
            body["match_code"] = match_code
        if reason is not None and decision == "rejected":
            body["reason"] = reason
        return body

    def sign_vote(self, action_context: Mapping[str, Any], decision: Decision) -> bytes:
        """The 64-byte signature of a vote on an approval request (2.4), unchecked."""
        encode = signed_bytes.mpa_approval if decision == "approved" else signed_bytes.mpa_rejection
        return self._key.sign(encode(action_context))

    def vote(self, shown: ShownApproval, decision: Decision, *, reason: Reason | None = None) -> dict[str, str]:
        """The members of `POST /mpa/respond` (5.3), signed; a reason for rejections only."""
        return self.vote_body(shown.mpa_id, decision, self.sign_vote(shown.context, decision), reason=reason)

    def vote_body(
        self, mpa_id: str, decision: Decision, signature: bytes, *, reason: Reason | None = None
    ) -> dict[str, str]:
        """The members of `POST /mpa/respond` around a signature."""
        body = {
            "mpa_id": mpa_id,
            "fingerprint": self.fingerprint,
            "decision": decision,
            "signature": encode_base64(signature),
        }
        if reason is not None and decision == "rejected":
            body["reason"] = reason
        return body

    def pending_body(self, server_id: str, second: int) -> dict[str, str]:
        """The members of `POST /device/pending` at a Unix second; the server accepts each second once."""
        timestamp = format_time(second)
        signature = self._key.sign(signed_bytes.pending(server_id, timestamp))
        return {
            "device_public_key": self.wire_key,
            "timestamp": timestamp,
            "signature": encode_base64(signature),
        }

    def sign_enrolment(self, digest: bytes) -> bytes:
        """The proof of the new key over D (5.5)."""
        return self._key.sign(signed_bytes.enrolment_completion(digest))

    def sign_replacement(self, digest: bytes) -> bytes:
        """The consent of the replaced key to D (5.5)."""
        return self._key.sign(signed_bytes.enrolment_consent(digest))

    def sign_attestation(self, digest: bytes, attestation_jcs: bytes) -> bytes:
        """The proof of the attested key (5.6)."""
        return self._key.sign(signed_bytes.attestation_proof(digest, attestation_jcs))

    def sign_relay_register(self, relay_origin: str, platform: Platform, nonce: bytes, push_token: str) -> bytes:
        return self._key.sign(signed_bytes.relay_register(relay_origin, platform, nonce, push_token))

    def sign_relay_unregister(self, relay_origin: str, nonce: bytes) -> bytes:
        return self._key.sign(signed_bytes.relay_unregister(relay_origin, nonce))

    def sign_relay_auth(self, relay_origin: str, challenge: bytes) -> bytes:
        return self._key.sign(signed_bytes.relay_ws_auth(relay_origin, challenge))

    def __repr__(self) -> str:
        return f"<{self.suite} device {self.fingerprint[:6]}…>"


def _signable(payload: Payload) -> tuple[bytes, bytes, bool]:
    if isinstance(payload, ShownChallenge):
        return payload.challenge_bytes, payload.action_jcs, payload.number_matching
    parsed = parse_payload(payload)
    challenge = decode_base64(parsed.challenge_bytes, "$.challenge_bytes", length=32)
    return challenge, verified_action(parsed.action), parsed.number_matching
