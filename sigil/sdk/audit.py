"""Votes on a multi-party request, checked without asking anybody (docs/approvals.md).

    verified = verify_votes(status, server_id="…64 hex…", required=2)    # VotesRefused
    if verified.approved: ...

The server is believed in nothing but what it signed when it asked: who may vote, on what, by which rule. What came of
it is counted again from the votes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import msgspec

from sigil.protocol import signed_bytes, strict_json
from sigil.protocol.approval_messages import ActionContext
from sigil.protocol.canonical import NotCanonical
from sigil.protocol.encoding import decode_base64, parse_time
from sigil.protocol.errors import InvalidPublicKey, InvalidRequest
from sigil.protocol.keys import PublicKey
from sigil.sdk.approval_results import MpaStatus, State
from sigil.sdk.audit_errors import (
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
from sigil.sdk.results import Action

Members = list[list[PublicKey]]


@dataclass(frozen=True, slots=True)
class VerifiedVotes:
    """What the signatures prove. `required` is what the server signed; fingerprints are of the voters."""

    request_id: str
    mpa_id: str
    status: State
    action: Action
    required: int
    groups_satisfied: tuple[int, ...]
    approved_by: tuple[str, ...]
    rejected_by: tuple[str, ...]

    @property
    def approved(self) -> bool:
        return self.status == "approved"

    def __bool__(self) -> bool:
        """Also a rejection can be verified."""
        raise TypeError("verified votes are neither true nor false: ask .approved")


def verify_votes(
    status: MpaStatus | Mapping[str, Any] | bytes | str,
    *,
    server_id: str,
    required: int,
    exclude_requester: bool = False,
) -> VerifiedVotes:
    """Check the whole proof of a request offline; VotesRefused says what is wrong with it.

    status: the result of `mpa.get_status`, or the JSON of `GET /mpa/status/{request_id}` as it was kept. server_id: of
    the server that you trust. required: how many groups you want at least, whatever the request said.
    exclude_requester: refuse a vote of the device that the action names as `params.requested_by`.
    """
    told = _read(status)
    context = _signed_context(told, server_id)
    _check_told(told, context)
    if context.required < required:
        raise RequiredTooLow(f"The server asked for {context.required} groups, and {required} are wanted.")
    members = _members(told, context)
    ballots = _ballots(told, members)
    requester = _requester(context)
    if exclude_requester and requester in ballots:
        raise RequesterVoted
    satisfied = _satisfied(members, ballots)
    _check_outcome(told, context, members, ballots, requester)
    if tuple(satisfied) != tuple(sorted(told.groups_satisfied)):
        raise OutcomeContradicted(f"The votes satisfy the groups {satisfied}, not those that are told.")
    return VerifiedVotes(
        request_id=context.request_id,
        mpa_id=context.mpa_id,
        status=told.status,
        action=Action(context.type, context.description, context.params),
        required=context.required,
        groups_satisfied=tuple(satisfied),
        approved_by=tuple(name for name, approved in ballots.items() if approved),
        rejected_by=tuple(name for name, approved in ballots.items() if not approved),
    )


def _read(status: MpaStatus | Mapping[str, Any] | bytes | str) -> MpaStatus:
    if isinstance(status, MpaStatus):
        return status
    try:
        # Strictly: what two parsers would read differently proves nothing.
        members = status if isinstance(status, Mapping) else strict_json.parse(_bytes(status))
        return msgspec.convert(dict(members), MpaStatus)
    except InvalidRequest as error:
        fault = error.message
    except (msgspec.ValidationError, TypeError, ValueError) as error:
        fault = str(error)
    raise StatusMalformed(f"This is not the status of a multi-party request: {fault}")


def _bytes(text: bytes | str) -> bytes:
    return text if isinstance(text, bytes) else text.encode()


def _signed_context(told: MpaStatus, server_id: str) -> ActionContext:
    """What the server that is trusted signed, and nothing that it did not."""
    key = _key(told.server_public_key, "server_public_key")
    if key.suite != "ES256" or key.fingerprint != server_id:
        raise ServerKeyRefused
    try:
        message = signed_bytes.mpa_approval(told.action_context)
        context = msgspec.convert(told.action_context, ActionContext)
    except (NotCanonical, msgspec.ValidationError) as error:
        fault = f"The signed context is not of the documented form: {error}"
    else:
        if not key.verify(message, told.server_signature):
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


def _check_told(told: MpaStatus, context: ActionContext) -> None:
    """What stands beside the signed context is the same in it."""
    try:
        expires_at = parse_time(context.expires_at, "$.expires_at")
    except InvalidRequest:
        expires_at = -1
    pairs = {
        "request_id": (told.request_id, context.request_id),
        "mpa_id": (told.mpa_id, context.mpa_id),
        "expires_at": (told.expires_at.timestamp(), expires_at),
        "groups_required": (told.groups_required, context.required),
        "groups_total": (told.groups_total, len(told.groups)),
    }
    for name, (beside, signed) in pairs.items():
        if beside != signed:
            raise ContextContradicted(f"{name} is not what the server signed.")


def _members(told: MpaStatus, context: ActionContext) -> Members:
    """Who could vote, held against the signed hash."""
    groups = [
        [_key(member.device_public_key, "A member's device_public_key") for member in group.members]
        for group in told.groups
    ]
    names = [[key.fingerprint for key in group] for group in groups]
    if names != [[member.fingerprint for member in group.members] for group in told.groups]:
        raise GroupsRefused("A member's fingerprint is not that of its key.")
    if signed_bytes.groups_sha256(names) != context.groups_sha256:
        raise GroupsRefused
    flat = [name for group in names for name in group]
    if len(set(flat)) != len(flat):
        raise GroupsRefused("A device is a member twice.")
    if context.server_id in flat:
        # It signs the same bytes when it asks: its question would be its vote.
        raise GroupsRefused("The server itself is a member.")
    return groups


def _ballots(told: MpaStatus, members: Members) -> dict[str, bool]:
    """Fingerprints of the voters, and whether they approved: each a member, voting once, with a good signature."""
    messages = {
        "approved": signed_bytes.mpa_approval(told.action_context),
        "rejected": signed_bytes.mpa_rejection(told.action_context),
    }
    ballots: dict[str, bool] = {}
    for vote in told.votes:
        name = vote.fingerprint
        key = _key(vote.device_public_key, "A vote's device_public_key")
        in_group = 0 <= vote.group < len(members) and key in members[vote.group]
        if not in_group or key.fingerprint != name:
            raise VoterNotMember(f"The voter {name[:8]}… is no member of the group it is counted in.")
        if name in ballots:
            raise VotedTwice(f"The device {name[:8]}… is counted twice.")
        if not key.verify(messages[vote.decision], vote.signature):
            raise VoteSignatureRefused(f"The device {name[:8]}… did not sign this vote.")
        ballots[name] = vote.decision == "approved"
    return ballots


def _requester(context: ActionContext) -> str | None:
    """The fingerprint that the action names, None where it names nobody: whatever else an integrator writes there."""
    named = (context.params or {}).get("requested_by")
    return named if isinstance(named, str) else None


def _satisfied(members: Members, ballots: dict[str, bool]) -> list[int]:
    return [n for n, group in enumerate(members) if any(ballots.get(key.fingerprint) for key in group)]


def _lost(members: Members, ballots: dict[str, bool], excluded: str | None = None) -> int:
    """Groups of which every member rejected, or was not eligible."""
    return sum(
        all(ballots.get(key.fingerprint) is False or key.fingerprint == excluded for key in group) for group in members
    )


def _check_outcome(
    told: MpaStatus, context: ActionContext, members: Members, ballots: dict[str, bool], requester: str | None
) -> None:
    """The status is the one that the votes lead to."""
    rejections = sum(not approved for approved in ballots.values())
    on_first = context.reject_policy == "reject_on_first"
    enough = len(_satisfied(members, ballots)) >= context.required
    # Whether the server excludes who asked is its setting, so both are taken for possible of who did not vote.
    excluded = None if requester in ballots else requester
    impossible = len(members) - _lost(members, ballots) < context.required
    may_be_impossible = len(members) - _lost(members, ballots, excluded) < context.required
    possible = {
        "approved": enough and not (on_first and rejections),
        "rejected": not enough and ((on_first and rejections == 1) or may_be_impossible),
    }.get(told.status, not (enough or impossible or (on_first and rejections)))
    if not possible:
        raise OutcomeContradicted(f"The votes do not lead to '{told.status}'.")
