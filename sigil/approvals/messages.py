"""The messages of an approval request: the signed context, and the representation for each party."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec

from sigil.core.approvals.approval import Approval, Vote
from sigil.core.approvals.quorum import APPROVED
from sigil.core.approvals.voting import CountedVote
from sigil.core.evidence import web_proof
from sigil.protocol import device_credential, signed_bytes
from sigil.protocol.encoding.ids import format_uuid
from sigil.protocol.encoding.pictogram import pictogram, speakable
from sigil.protocol.encoding.text import encode_base64, format_time
from sigil.protocol.identity import ServerIdentity
from sigil.protocol.keys import PublicKey, Suite
from sigil.protocol.messages import approvals as messages
from sigil.protocol.messages.base import Decision

_encode = msgspec.json.Encoder().encode
# Requests whose signed bytes are cached: each push and vote needs them, and they cost 20 µs and a signature.
_CACHE_SIZE = 4096


@dataclass(frozen=True)
class _Signed:
    """The bytes that devices sign, and the server's signatures by suite, made on demand."""

    members: dict[str, Any]
    approval: bytes
    signatures: dict[Suite, str] = field(default_factory=dict)

    @property
    def rejection(self) -> bytes:
        return signed_bytes.mpa_rejection(self.members)

    @property
    def context(self) -> msgspec.Raw:
        return msgspec.Raw(self.approval[len(signed_bytes.MPA) :])


class ApprovalMessages:
    """Signs for one server identity."""

    def __init__(self, identity: ServerIdentity) -> None:
        self._identity = identity
        self._cache: dict[bytes, _Signed] = {}

    def answer_bytes(self, mpa_id: bytes, approval: Approval, *, approved: bool) -> bytes:
        """The bytes that a member must have signed."""
        signed = self._signed_parts(mpa_id, approval)
        return signed.approval if approved else signed.rejection

    def created(self, mpa_id: bytes, approval: Approval) -> messages.MpaCreated:
        return messages.MpaCreated(
            request_id=approval.request_id,
            mpa_id=format_uuid(mpa_id),
            status=approval.state.wire_name,
            groups_required=approval.required,
            groups_total=len(approval.sizes),
            challenges_sent=approval.eligible,
            expires_at=format_time(approval.expires_at),
        )

    def payload(self, mpa_id: bytes, approval: Approval, device: PublicKey) -> messages.MpaPayload:
        """For a device, signed in its suite."""
        return messages.MpaPayload(
            mpa_id=format_uuid(mpa_id),
            server_id=self._identity.server_id,
            action_context=self._signed_parts(mpa_id, approval).context,
            server_signature=self._signature(mpa_id, approval, device.server_suite),
            expires_at=format_time(approval.expires_at),
            respond_to=approval.respond_to or None,
        )

    def responded(self, device: PublicKey, group: int, counted: CountedVote) -> messages.MpaResponded:
        approval = counted.approval
        satisfied = approval.satisfied_groups
        return messages.MpaResponded(
            status=_status_of(counted),
            fingerprint=device.fingerprint,
            pictogram=pictogram(device.fingerprint),
            pictogram_speakable=speakable(device.fingerprint),
            group_satisfied=group in satisfied,
            groups_satisfied=len(satisfied),
            groups_required=approval.required,
            quorum_reached=len(satisfied) >= approval.required,
        )

    def groups(self, approval: Approval) -> msgspec.Raw:
        """The member `groups` of a status."""
        members = [
            messages.MpaMember(encode_base64(wire), hashlib.sha256(wire).hexdigest()) for wire in approval.members
        ]
        group_ends = [sum(approval.sizes[: n + 1]) for n in range(len(approval.sizes))]
        groups = [
            messages.MpaGroup(members[end - size : end]) for end, size in zip(group_ends, approval.sizes, strict=True)
        ]
        return msgspec.Raw(_encode(groups))

    def vote(self, approval: Approval, number: int, vote: Vote) -> msgspec.Raw:
        """One element of the member `votes` of a status."""
        wire = approval.members[number]
        credential, attestation = device_credential.unpacked(vote.credential) if vote.credential else (None, None)
        web = web_proof(wire, vote.signature).facts
        decision: Decision = "approved" if approval.ballots[number : number + 1] == APPROVED else "rejected"
        return msgspec.Raw(
            _encode(
                messages.MpaVote(
                    fingerprint=hashlib.sha256(wire).hexdigest(),
                    device_public_key=encode_base64(wire),
                    group=approval.quorum.group_of(number),
                    decision=decision,
                    at=format_time(vote.at),
                    signature=encode_base64(vote.signature),
                    reason=vote.reason or None,  # type: ignore[arg-type]
                    attestation=attestation,
                    device_credential=credential,
                    user_verification=web.user_verification,
                    synced=web.synced,
                )
            )
        )

    def status(self, mpa_id: bytes, approval: Approval, groups: msgspec.Raw, votes: Sequence[msgspec.Raw]) -> bytes:
        """A `MpaStatus` as JSON, with its parts by `groups` and `vote`."""
        return _encode(
            messages.MpaStatus(
                request_id=approval.request_id,
                mpa_id=format_uuid(mpa_id),
                status=approval.state.wire_name,
                groups_satisfied=approval.satisfied_groups,
                groups_required=approval.required,
                groups_total=len(approval.sizes),
                expires_at=format_time(approval.expires_at),
                action_context=self._signed_parts(mpa_id, approval).context,
                server_signature=self._signature(mpa_id, approval, "ES256"),
                server_public_key=self._identity.server_public_keys["ES256"],
                groups=groups,  # type: ignore[arg-type]  # encoded before
                votes=votes,  # type: ignore[arg-type]  # encoded before
            )
        )

    def _signed_parts(self, mpa_id: bytes, approval: Approval) -> _Signed:
        """Cached: these bytes never change."""
        cached = self._cache.get(mpa_id)
        if cached is None:
            context = self._context(mpa_id, approval)
            cached = _Signed(context, signed_bytes.mpa_approval(context))
            if len(self._cache) >= _CACHE_SIZE:
                del self._cache[next(iter(self._cache))]
            self._cache[mpa_id] = cached
        return cached

    def _context(self, mpa_id: bytes, approval: Approval) -> dict[str, Any]:
        return {
            **msgspec.json.decode(approval.action),
            "mpa_id": format_uuid(mpa_id),
            "request_id": approval.request_id,
            "nonce": encode_base64(approval.nonce),
            "server_id": self._identity.server_id,
            "expires_at": format_time(approval.expires_at),
            "respond_to": approval.respond_to,
            "required": approval.required,
            "reject_policy": approval.reject_policy,
            "groups_sha256": approval.groups_sha256,
        }

    def _signature(self, mpa_id: bytes, approval: Approval, suite: Suite) -> str:
        signed = self._signed_parts(mpa_id, approval)
        if suite not in signed.signatures:
            signed.signatures[suite] = encode_base64(self._identity.keys[suite].sign(signed.approval))
        return signed.signatures[suite]


def _status_of(counted: CountedVote) -> Any:
    if not counted.approval.open:
        return counted.approval.state.wire_name
    return "already_satisfied" if counted.satisfied_before else "recorded"
