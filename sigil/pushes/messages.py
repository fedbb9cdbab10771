"""The pushes for the relay: the payload of a challenge or approval request, or of a clear."""

from __future__ import annotations

import hashlib
from functools import lru_cache
from typing import Literal

import msgspec

from sigil.approvals.messages import ApprovalMessages
from sigil.challenges.messages import ChallengeMessages
from sigil.core.approvals.approval import Approval
from sigil.core.challenge import Challenge
from sigil.core.pushes.outbox import Claim, OutboxEntry, Step
from sigil.core.pushes.subject import PushSubject, device_of, id_of, is_member, member_of
from sigil.protocol import trace_context
from sigil.protocol.encoding.ids import format_uuid
from sigil.protocol.encoding.text import format_time
from sigil.protocol.keys import PublicKey
from sigil.protocol.messages import challenges as messages
from sigil.protocol.messages.approvals import MpaClear, MpaReference
from sigil.protocol.messages.relay import MAX_PAYLOAD, WantedPush

Content = Literal["full", "reference"]
_encode = msgspec.json.Encoder().encode


def push_key(claim: Claim) -> str:
    """Id, device and type: the same for every try, so that a repeat is harmless. A challenge has one device; the member
    number identifies a device of an approval request.
    """
    name, entry = claim
    clears = entry.step is Step.CLEAR
    if is_member(name):
        return f"{format_uuid(id_of(name))}:{member_of(name)}:{'clear' if clears else 'mpa'}"
    return f"{format_uuid(name)}:{'clear' if clears else 'challenge'}"


@lru_cache(maxsize=1024)
def _owner(server_id: str, owner: bytes) -> str:
    """A name for the relay that is none of the API key's public ids: it tells the relay only which pushes belong
    together.
    """
    return hashlib.sha256(f"sigil-push-owner\0{server_id}\0".encode() + owner).hexdigest()[:16]


def _traceparent(entry: OutboxEntry, subject: PushSubject) -> str | None:
    """Of the creation. A clear belongs to no trace."""
    if subject.creation is None or entry.step is Step.CLEAR:
        return None
    context = trace_context.unpack(subject.creation)
    return None if context is None else trace_context.header(context)


class PushMessages:
    """For one server. With content "reference" the push provider learns nothing about the action.

    A payload that is larger than the relay takes is sent as a reference too: the relay would reject the whole batch.
    Only a very long SIGIL_PUBLIC_URL, or a request_id and an action of maximum length, make it that large.
    """

    def __init__(
        self, challenges: ChallengeMessages, approvals: ApprovalMessages, server_id: str, content: Content
    ) -> None:
        self._challenges = challenges
        self._approvals = approvals
        self._server_id = server_id
        self._content = content

    def wanted(self, claim: Claim, subject: PushSubject) -> WantedPush:
        """One push of `POST /push`."""
        name, entry = claim
        device = PublicKey.parse(device_of(name, subject))
        return WantedPush(
            push_key=push_key(claim),
            fingerprint=device.fingerprint,
            payload=msgspec.Raw(self._payload(id_of(name), entry, subject, device)),
            # The relay compares it with its own time of day.
            expires_at=format_time(entry.expires_at - subject.ahead),
            collapse_id=format_uuid(id_of(name)),
            priority="normal" if entry.step is Step.CLEAR else "high",
            owner=_owner(self._server_id, subject.owner),
            traceparent=_traceparent(entry, subject),
        )

    def _payload(self, subject_id: bytes, entry: OutboxEntry, subject: PushSubject, device: PublicKey) -> bytes:
        if isinstance(subject, Approval):
            return self._of_approval(subject_id, entry, subject, device)
        return self._of_challenge(format_uuid(subject_id), entry, subject)

    def _of_challenge(self, challenge_id: str, entry: OutboxEntry, challenge: Challenge) -> bytes:
        if entry.step is Step.CLEAR:
            return _encode(messages.ClearPayload(challenge_id, challenge.state.wire_name))
        if self._content == "full":
            payload = _encode(self._challenges.payload(challenge_id, challenge))
            if len(payload) <= MAX_PAYLOAD:
                return payload
        return _encode(messages.ChallengeReference(challenge_id, self._server_id))

    def _of_approval(self, mpa_id: bytes, entry: OutboxEntry, approval: Approval, device: PublicKey) -> bytes:
        if entry.step is Step.CLEAR:
            return _encode(MpaClear(format_uuid(mpa_id), approval.state.wire_name))
        if self._content == "full":
            payload = _encode(self._approvals.payload(mpa_id, approval, device))
            if len(payload) <= MAX_PAYLOAD:
                return payload
        return _encode(MpaReference(format_uuid(mpa_id), self._server_id))
