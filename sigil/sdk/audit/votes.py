"""Offline verification of the votes on an approval request (docs/approvals.md).

    verified = verify_votes(status, server_id="…64 hex…", required=2)    # VotesRefused
    if verified.approved: ...

Only the context that the server signed at creation is trusted: the members, the action and the rule. The result is
counted again from the votes.

A vote that was left out is not noticed while the others lead to the same result: no signature covers the list of votes.
A rejection, too, can be left out of a request that enough groups approved, also under `reject_on_first`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import msgspec

from sigil.protocol import signed_bytes
from sigil.protocol.encoding import strict_json
from sigil.protocol.encoding.canonical import NotCanonical
from sigil.protocol.encoding.text import decode_base64, parse_time
from sigil.protocol.errors import InvalidPublicKey, InvalidRequest
from sigil.protocol.keys import PublicKey
from sigil.protocol.messages.approvals import ActionContext
from sigil.protocol.messages.attestation import Level
from sigil.protocol.webauthn import UserVerification
from sigil.sdk.approval_results import MpaStatus, State
from sigil.sdk.audit.attestations import Demand
from sigil.sdk.audit.errors import (
    ContextContradicted,
    GroupsRefused,
    OutcomeContradicted,
    RequesterVoted,
    RequiredTooLow,
    ServerKeyRefused,
    ServerSignatureRefused,
    StatusMalformed,
    VotedTwice,
    VoterNotMember,
    VoteSignatureRefused,
)
from sigil.sdk.audit.web_votes import WebVotes, check_web_vote, check_web_votes
from sigil.sdk.results import Action

Members = list[list[PublicKey]]


@dataclass(frozen=True, slots=True)
class VerifiedVotes:
    """The result that the signatures prove. `required` is the signed one; fingerprints are those of the voters."""

    request_id: str
    mpa_id: str
    status: State
    action: Action
    required: int
    groups_satisfied: tuple[int, ...]
    approved_by: tuple[str, ...]
    rejected_by: tuple[str, ...]
    levels: Mapping[str, Level]
    """Of the attested voters, by fingerprint."""
    user_verifications: Mapping[str, UserVerification | None]
    """Of the web devices that voted, by fingerprint. An approval has the origin whose page showed the request, and
    `synced`: the passkey may be on several devices. A rejection has None: the local key signed it without the user.
    """

    @property
    def approved(self) -> bool:
        return self.status == "approved"

    def __bool__(self) -> bool:
        """A rejection can be verified too."""
        raise TypeError("verified votes are neither true nor false: use .approved")


def verify_votes(
    status: MpaStatus | Mapping[str, Any] | bytes | str,
    *,
    server_id: str,
    required: int,
    exclude_requester: bool = False,
    require_attestation: bool = False,
    min_level: Level | None = None,
    web_votes: WebVotes = "count",
) -> VerifiedVotes:
    """Verify the proof of a request offline; VotesRefused names the check that failed.

    It proves the votes that are there. It cannot notice that one was removed while the quorum holds.

    status: the result of `mpa.get_status`, or the stored JSON of `GET /mpa/status/{request_id}`. server_id: of the
    server that you trust. required: the least number of groups that you accept, independent of the request.
    exclude_requester: reject a vote of the device that the action names as `params.requested_by`.
    require_attestation: reject an approval without a credential. min_level: the least level of each approval, and a
    credential. A credential that a vote carries is verified in any case; it must have been issued before the vote, and
    not have expired at the vote's `at`, which no signature covers.
    web_votes: "refuse" rejects the status if a web device voted. A page of the server showed the request to that
    person, so the vote proves less about a server that you do not trust.
    """
    check_web_votes(web_votes)
    demand = Demand(require_attestation, min_level)
    parsed = _read(status)
    context = _signed_context(parsed, server_id)
    _check_unsigned_members(parsed, context)
    if context.required < required:
        groups = "1 group" if context.required == 1 else f"{context.required} groups"
        raise RequiredTooLow(f"The request required {groups}, but you require {required}.")
    members = _members(parsed, context)
    ballots = _ballots(parsed, members)
    levels = _levels(parsed, demand)
    user_verifications = _user_verifications(parsed, web_votes)
    requester = _requester(context)
    if exclude_requester and requester in ballots:
        raise RequesterVoted
    satisfied = _satisfied(members, ballots)
    _check_outcome(parsed, context, members, ballots, requester)
    if tuple(satisfied) != tuple(sorted(parsed.groups_satisfied)):
        raise OutcomeContradicted(f"The votes satisfy the groups {satisfied}, not those in groups_satisfied.")
    return VerifiedVotes(
        request_id=context.request_id,
        mpa_id=context.mpa_id,
        status=parsed.status,
        action=Action(context.type, context.description, context.params),
        required=context.required,
        groups_satisfied=tuple(satisfied),
        approved_by=tuple(name for name, approved in ballots.items() if approved),
        rejected_by=tuple(name for name, approved in ballots.items() if not approved),
        levels=levels,
        user_verifications=user_verifications,
    )


def _read(status: MpaStatus | Mapping[str, Any] | bytes | str) -> MpaStatus:
    if isinstance(status, MpaStatus):
        return status
    try:
        # Strictly: JSON that two parsers could read differently proves nothing.
        members = status if isinstance(status, Mapping) else strict_json.parse(_bytes(status))
        return msgspec.convert(dict(members), MpaStatus)
    except InvalidRequest as error:
        fault = error.message
    except (msgspec.ValidationError, TypeError, ValueError) as error:
        fault = str(error)
    raise StatusMalformed(f"This is not the status of an approval request: {fault}")


def _bytes(text: bytes | str) -> bytes:
    return text if isinstance(text, bytes) else text.encode()


def _signed_context(status: MpaStatus, server_id: str) -> ActionContext:
    """The context, if the trusted server signed it."""
    key = _key(status.server_public_key, "server_public_key")
    if key.suite != "ES256" or key.fingerprint != server_id:
        raise ServerKeyRefused
    try:
        message = signed_bytes.mpa_approval(status.action_context)
        context = msgspec.convert(status.action_context, ActionContext)
    except (NotCanonical, msgspec.ValidationError) as error:
        fault = f"The signed context is not of the documented form: {error}"
    else:
        if not key.verify(message, status.server_signature):
            raise ServerSignatureRefused
        if context.server_id != server_id:
            raise ContextContradicted("The signed context names another server.")
        return context
    raise StatusMalformed(fault)


def _key(text: str, path: str) -> PublicKey:
    try:
        return PublicKey.parse(decode_base64(text, path))
    except (InvalidRequest, InvalidPublicKey):
        fault = f"{path} is not a public key."
    raise StatusMalformed(fault)


def _check_unsigned_members(status: MpaStatus, context: ActionContext) -> None:
    """Members outside the signed context must equal those in it."""
    try:
        expires_at = parse_time(context.expires_at, "$.expires_at")
    except InvalidRequest:
        expires_at = -1
    pairs = {
        "request_id": (status.request_id, context.request_id),
        "mpa_id": (status.mpa_id, context.mpa_id),
        "expires_at": (status.expires_at.timestamp(), expires_at),
        "groups_required": (status.groups_required, context.required),
        "groups_total": (status.groups_total, len(status.groups)),
    }
    for name, (unsigned, signed) in pairs.items():
        if unsigned != signed:
            raise ContextContradicted(f"{name} differs from the signed context.")


def _members(status: MpaStatus, context: ActionContext) -> Members:
    """The keys that may vote, group by group, checked against the signed hash."""
    groups = [
        [_key(member.device_public_key, "A member's device_public_key") for member in group.members]
        for group in status.groups
    ]
    names = [[key.fingerprint for key in group] for group in groups]
    if names != [[member.fingerprint for member in group.members] for group in status.groups]:
        raise GroupsRefused("A member's fingerprint is not that of its key.")
    if signed_bytes.groups_sha256(names) != context.groups_sha256:
        raise GroupsRefused
    flat = [name for group in names for name in group]
    if len(set(flat)) != len(flat):
        raise GroupsRefused("A device is a member twice.")
    server_key = _key(status.server_public_key, "server_public_key")
    if any(key.is_among({server_key.wire}) for group in groups for key in group):
        # At creation the server signs the same bytes as a vote does: that signature would count as its vote.
        raise GroupsRefused("The server itself is a member.")
    return groups


def _ballots(status: MpaStatus, members: Members) -> dict[str, bool]:
    """Fingerprints of the voters, and whether they approved: each a member, voting once, with a valid signature."""
    messages = {
        "approved": signed_bytes.mpa_approval(status.action_context),
        "rejected": signed_bytes.mpa_rejection(status.action_context),
    }
    ballots: dict[str, bool] = {}
    for vote in status.votes:
        name = vote.fingerprint
        key = _key(vote.device_public_key, "A vote's device_public_key")
        in_group = 0 <= vote.group < len(members) and key in members[vote.group]
        if not in_group or key.fingerprint != name:
            raise VoterNotMember(f"The voter {name[:8]}… is not a member of the group in which it is counted.")
        if name in ballots:
            raise VotedTwice(f"The device {name[:8]}… is counted twice.")
        if not key.verify(messages[vote.decision], vote.signature):
            raise VoteSignatureRefused(f"The device {name[:8]}… did not sign this vote.")
        ballots[name] = vote.decision == "approved"
    return ballots


def _levels(status: MpaStatus, demand: Demand) -> dict[str, Level]:
    """Of the votes whose signatures were verified, under the server key that signed the context."""
    server_key = _key(status.server_public_key, "server_public_key")
    ends_at = status.expires_at.timestamp()
    found = {vote.fingerprint: demand.check(vote, server_key, ends_at) for vote in status.votes}
    return {name: level for name, level in found.items() if level is not None}


def _user_verifications(status: MpaStatus, web_votes: WebVotes) -> dict[str, UserVerification | None]:
    """Of the votes whose signatures were verified."""
    keys = {vote.fingerprint: _key(vote.device_public_key, "A vote's device_public_key") for vote in status.votes}
    found = {vote.fingerprint: check_web_vote(vote, keys[vote.fingerprint], web_votes) for vote in status.votes}
    return {name: proved for name, proved in found.items() if keys[name].suite == "WebAuthn"}


def _requester(context: ActionContext) -> str | None:
    """The fingerprint in `params.requested_by`; None if there is none, or a value that is not a string."""
    named = (context.params or {}).get("requested_by")
    return named if isinstance(named, str) else None


def _satisfied(members: Members, ballots: dict[str, bool]) -> list[int]:
    return [n for n, group in enumerate(members) if any(ballots.get(key.fingerprint) for key in group)]


def _cannot_approve(members: Members, ballots: dict[str, bool], excluded: str | None = None) -> int:
    """The number of groups whose members all rejected or were not eligible."""
    return sum(
        all(ballots.get(key.fingerprint) is False or key.fingerprint == excluded for key in group) for group in members
    )


def _check_outcome(
    status: MpaStatus, context: ActionContext, members: Members, ballots: dict[str, bool], requester: str | None
) -> None:
    """The status must follow from the votes."""
    rejections = sum(not approved for approved in ballots.values())
    on_first = context.reject_policy == "reject_on_first"
    enough = len(_satisfied(members, ballots)) >= context.required
    # The server may exclude the requester, depending on a setting: if it did not vote, both cases are possible.
    excluded = None if requester in ballots else requester
    impossible = len(members) - _cannot_approve(members, ballots) < context.required
    may_be_impossible = len(members) - _cannot_approve(members, ballots, excluded) < context.required
    possible = {
        "approved": enough and not (on_first and rejections),
        "rejected": not enough and ((on_first and rejections == 1) or may_be_impossible),
    }.get(status.status, not (enough or impossible or (on_first and rejections)))
    if not possible:
        raise OutcomeContradicted(f"'{status.status}' does not follow from the votes.")
