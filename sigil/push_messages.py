"""What the relay is asked to carry to a device: the challenge, or that it is over."""

from __future__ import annotations

from typing import Literal

import msgspec

from sigil.challenge_messages import ChallengeMessages
from sigil.core.challenge import Challenge
from sigil.core.outbox import Claim, Entry, Step
from sigil.protocol import messages
from sigil.protocol.encoding import format_time
from sigil.protocol.ids import format_uuid
from sigil.protocol.keys import PublicKey
from sigil.protocol.relay_messages import MAX_PAYLOAD, WantedPush

Content = Literal["full", "reference"]
_encode = msgspec.json.Encoder().encode


def push_key(claim: Claim) -> str:
    """The same for every try, so that a repeat is harmless; a challenge has one device."""
    name, entry = claim
    return f"{format_uuid(name)}:{'clear' if entry.step is Step.CLEAR else 'challenge'}"


class PushMessages:
    """Speaks for one server. With content "reference" the provider of the push learns of no action."""

    def __init__(self, challenges: ChallengeMessages, server_id: str, content: Content) -> None:
        self._challenges = challenges
        self._server_id = server_id
        self._content = content

    def wanted(self, claim: Claim, challenge: Challenge) -> WantedPush:
        """One push of `POST /push`."""
        name, entry = claim
        clears = entry.step is Step.CLEAR
        return WantedPush(
            push_key=push_key(claim),
            fingerprint=PublicKey.parse(challenge.public_key).fingerprint,
            payload=msgspec.Raw(self._payload(format_uuid(name), entry, challenge)),
            expires_at=format_time(entry.expires_at),
            collapse_id=format_uuid(name),
            priority="normal" if clears else "high",
        )

    def _payload(self, challenge_id: str, entry: Entry, challenge: Challenge) -> bytes:
        if entry.step is Step.CLEAR:
            return _encode(messages.ClearPayload(challenge_id, challenge.state.word))
        if self._content == "full":
            payload = _encode(self._challenges.payload(challenge_id, challenge))
            # Only a very long SIGIL_PUBLIC_URL makes it so: the relay would refuse the whole request.
            if len(payload) <= MAX_PAYLOAD:
                return payload
        return _encode(messages.ChallengeReference(challenge_id, self._server_id))
