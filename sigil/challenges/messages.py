"""The messages of a challenge: its signed bytes, and the representation for each party."""

from __future__ import annotations

import msgspec

from sigil.core.challenge import Challenge, State
from sigil.protocol import signed_bytes
from sigil.protocol.encoding.pictogram import pictogram, speakable
from sigil.protocol.encoding.text import encode_base64, format_time
from sigil.protocol.errors import InvalidRequest
from sigil.protocol.identity import ServerIdentity
from sigil.protocol.keys import PublicKey
from sigil.protocol.messages import challenges as messages

# Challenges whose signature is cached: the push needs it some milliseconds after the 201, and it costs 40 µs.
_CACHE_SIZE = 4096


class ChallengeMessages:
    """Signs for one server identity."""

    def __init__(self, identity: ServerIdentity) -> None:
        self._identity = identity
        self._cache: dict[str, tuple[bytes, str]] = {}

    def _challenge_bytes(self, challenge_id: str, challenge: Challenge, fingerprint: str) -> bytes:
        if (cached := self._cache.get(challenge_id)) is not None:
            return cached[0]
        return signed_bytes.challenge_bytes(
            challenge_id=challenge_id,
            expires_at=challenge.expires_at,
            fingerprint=fingerprint,
            nonce=challenge.nonce,
            number_matching=bool(challenge.match_code),
            respond_to=challenge.respond_to,
            server_id=self._identity.server_id,
        )

    def _signed(self, challenge_id: str, challenge: Challenge, device: PublicKey) -> tuple[bytes, str]:
        """The challenge bytes and the server's signature; neither ever changes."""
        cached = self._cache.get(challenge_id)
        if cached is None:
            bound = self._challenge_bytes(challenge_id, challenge, device.fingerprint)
            signature = self._identity.sign_for(device, signed_bytes.approval(bound, challenge.action))
            if len(self._cache) >= _CACHE_SIZE:
                del self._cache[next(iter(self._cache))]
            cached = self._cache[challenge_id] = (bound, encode_base64(signature))
        return cached

    def answer_bytes(
        self, challenge_id: str, challenge: Challenge, device: PublicKey, *, approved: bool, match_code: str | None
    ) -> bytes:
        """The bytes that the device must have signed. InvalidRequest: the match code is missing, or not expected."""
        bound = self._challenge_bytes(challenge_id, challenge, device.fingerprint)
        if not approved:
            return signed_bytes.rejection(bound, challenge.action)
        if bool(challenge.match_code) != (match_code is not None):
            expected = "the code that is shown" if challenge.match_code else "no code"
            raise InvalidRequest(f"An approval of this challenge carries {expected}.", path="$.match_code")
        if match_code is None:
            return signed_bytes.approval(bound, challenge.action)
        return signed_bytes.matched_approval(bound, challenge.action, match_code)

    def created(self, challenge_id: str, challenge: Challenge) -> messages.ChallengeCreated:
        device = PublicKey.parse(challenge.public_key)
        bound, signature = self._signed(challenge_id, challenge, device)
        return messages.ChallengeCreated(
            challenge_id=challenge_id,
            fingerprint=device.fingerprint,
            pictogram=pictogram(device.fingerprint),
            pictogram_speakable=speakable(device.fingerprint),
            expires_at=format_time(challenge.expires_at),
            challenge_bytes=encode_base64(bound),
            nonce=encode_base64(challenge.nonce),
            server_signature=signature,
            respond_to=challenge.respond_to or None,
            match_code=challenge.match_code or None,
        )

    def payload(self, challenge_id: str, challenge: Challenge) -> messages.ChallengePayload:
        """For the device; it never contains the match code."""
        device = PublicKey.parse(challenge.public_key)
        bound, signature = self._signed(challenge_id, challenge, device)
        return messages.ChallengePayload(
            challenge_id=challenge_id,
            server_id=self._identity.server_id,
            challenge_bytes=encode_base64(bound),
            nonce=encode_base64(challenge.nonce),
            fingerprint=device.fingerprint,
            action=msgspec.Raw(challenge.action),
            server_signature=signature,
            expires_at=format_time(challenge.expires_at),
            number_matching=bool(challenge.match_code),
            respond_to=challenge.respond_to or None,
        )

    def responded(self, challenge: Challenge) -> messages.Responded:
        device = PublicKey.parse(challenge.public_key)
        verified = challenge.state is State.VERIFIED
        return messages.Responded(
            status="verified" if verified else "rejected",
            verified=verified,
            fingerprint=device.fingerprint,
            pictogram=pictogram(device.fingerprint),
            pictogram_speakable=speakable(device.fingerprint),
            action=msgspec.Raw(challenge.action),
        )

    def status(self, challenge_id: str, challenge: Challenge) -> messages.ChallengeStatus:
        device = PublicKey.parse(challenge.public_key)
        ended_at = challenge.ended_at
        return messages.ChallengeStatus(
            challenge_id=challenge_id,
            status=challenge.state.wire_name,
            fingerprint=device.fingerprint,
            pictogram=pictogram(device.fingerprint),
            pictogram_speakable=speakable(device.fingerprint),
            action=msgspec.Raw(challenge.action),
            expires_at=format_time(challenge.expires_at),
            push=messages.PushStatus(challenge.push.status, challenge.push.error),
            decision=challenge.decision,
            reason=challenge.reason or None,
            match_code=(challenge.match_code or None) if ended_at is None else None,
            verified_at=format_time(ended_at) if ended_at and challenge.state is State.VERIFIED else None,
            attestation=challenge.evidence.summary if challenge.evidence else None,
            user_verification=challenge.web.facts.user_verification,
            synced=challenge.web.facts.synced,
        )
