"""The rules of a multi-party request: who may be asked, whose answer counts, and what ends it (docs/protocol.md, 5.3).

Pure functions of rows and the time, as in `challenge`. They get the rows that were read by their keys.
"""

from __future__ import annotations

from typing import NamedTuple

import msgspec

from sigil.core import fan_out
from sigil.core.approval import (
    READABLE_SECONDS,
    Approval,
    RequestIdRecord,
    State,
    Vote,
    approval_key,
    event_of,
    member_name,
    moved,
    request_id_key,
    settle,
    vote_key,
)
from sigil.core.challenge import ledger_key
from sigil.core.device_ledger import Ledger, Limits
from sigil.core.fan_out import Rows, Writes
from sigil.core.push_outbox import after_answer, outbox_key
from sigil.core.quorum import APPROVED, NOT_ELIGIBLE, OPEN, REJECTED, with_ballot
from sigil.core.session_store import Decision
from sigil.protocol.errors import AlreadyAnswered, MpaClosed, MpaExpired, MpaNotFound, NotEligible, RequestIdConflict


class CreatedApproval(NamedTuple):
    """`repeated`: the row is that of the first request with the same request_id."""

    mpa_id: bytes
    approval: Approval
    repeated: bool = False


class Ballot(NamedTuple):
    """One member's answer, its signature verified before."""

    member: int
    approved: bool
    signature: bytes
    reason: str = ""


class Counted(NamedTuple):
    """The request with a vote in it; `satisfied_before`: the voter's group needed it no more."""

    approval: Approval
    satisfied_before: bool


def repeat(
    now: float, named: RequestIdRecord | None, body_sha256: bytes, approval: Approval | None
) -> CreatedApproval | None:
    """What a request_id was used for, None when it is free; another body is a conflict."""
    approval = settle(now, approval)
    if named is None or approval is None:
        return None
    if named.body_sha256 != body_sha256:
        raise RequestIdConflict
    return CreatedApproval(named.mpa_id, approval, repeated=True)


def enter(now: float, mpa_id: bytes, approval: Approval, members: range, rows: Rows, *, limits: Limits) -> Writes:
    """Members' ledgers with this request in them; RateLimited or TooManyPending when one of them may not be asked."""
    writes: Writes = []
    for member in members:
        if approval.unanswered(member):
            key = ledger_key(approval.members[member])
            ledger = rows[key] or Ledger()
            entered = ledger.enter_for_approval(now, approval.owner, mpa_id, approval.expires_at, limits)
            writes.append((key, entered))
    return writes


def refund(now: float, mpa_id: bytes, approval: Approval, members: range, rows: Rows, *, limits: Limits) -> Writes:
    """Undo `enter`, whose request could not be made."""
    writes: Writes = []
    for key in (ledger_key(approval.members[member]) for member in members if approval.unanswered(member)):
        ledger: Ledger | None = rows[key]
        if ledger is not None:
            writes.append((key, ledger.refunded(approval.owner, mpa_id, limits).pruned(now)))
    return writes


def request(
    now: float,
    mpa_id: bytes,
    approval: Approval,
    body_sha256: bytes,
    *,
    entered: Writes,
    stale: RequestIdRecord | None = None,
) -> Decision[CreatedApproval]:
    """A new request, whose members' ledgers are `entered` here or were before.

    `stale`: what its request_id was used for before, which is over. It goes here and now: the sweep of the old request
    would take the new use of the name with it.
    """
    writes: Writes = [
        (approval_key(mpa_id), approval),
        (request_id_key(approval.owner, approval.request_id), RequestIdRecord(body_sha256, mpa_id)),
        *entered,
        *fan_out.pushes(now, mpa_id, approval),
    ]
    if stale is not None:
        writes.append((approval_key(stale.mpa_id), None))
    return Decision(CreatedApproval(mpa_id, approval), tuple(writes))


def may_end(approval: Approval, ballot: Ballot) -> bool:
    """Whether a request that stands like this would end with that vote: then more rows are wanted."""
    return approval.open and approval.quorum.outcome(_with(approval, ballot)) is not None


def vote(now: float, mpa_id: bytes, ballot: Ballot, rows: Rows, *, emit_event: bool = False) -> Decision[Counted]:
    """Count a member's first answer, and end the request when it decides; with `webhook` the integrator is told."""
    approval = _votable(now, rows[approval_key(mpa_id)], ballot.member)
    counted = msgspec.structs.replace(approval, ballots=_with(approval, ballot))
    writes = _voted(now, mpa_id, approval, ballot, rows)
    already = approval.quorum.group_of(ballot.member) in approval.satisfied
    outcome = counted.quorum.outcome(counted.ballots)
    if outcome is None:
        return Decision(Counted(counted, already), (*writes, (approval_key(mpa_id), counted)))
    ended = moved(counted, outcome, now)
    return Decision(
        Counted(ended, already), (*writes, *end(now, mpa_id, ended, rows, emit_event=emit_event)), ended=(mpa_id,)
    )


def cancel(now: float, mpa_id: bytes, rows: Rows) -> Decision[Approval]:
    """The owner takes it back; again is no error, after another end it is too late."""
    approval = _found(settle(now, rows[approval_key(mpa_id)]))
    if approval.state is State.CANCELLED:
        return Decision(approval)
    if not approval.open:
        raise MpaClosed(status=approval.state.word)
    ended = moved(approval, "cancel", now)
    return Decision(ended, tuple(end(now, mpa_id, ended, rows, emit_event=False)), ended=(mpa_id,))


def end(now: float, mpa_id: bytes, ended: Approval, rows: Rows, *, emit_event: bool) -> Writes:
    """All that is written when a request ends, however it ends; with `webhook` the integrator is told of it."""
    told = [event_of(now, mpa_id, ended)] if emit_event else []
    return [(approval_key(mpa_id), ended), *told, *fan_out.clears(now, mpa_id, ended, rows)]


def _with(approval: Approval, ballot: Ballot) -> bytes:
    return with_ballot(approval.ballots, ballot.member, APPROVED if ballot.approved else REJECTED)


def _votable(now: float, row: Approval | None, member: int) -> Approval:
    approval = _found(settle(now, row))
    ballot = approval.ballots[member : member + 1]
    if ballot == NOT_ELIGIBLE:
        raise NotEligible
    if ballot != OPEN:
        raise AlreadyAnswered
    if approval.state is State.TIMEOUT:
        raise MpaExpired
    if not approval.open:
        raise MpaClosed(status=approval.state.word)
    return approval


def _voted(now: float, mpa_id: bytes, approval: Approval, ballot: Ballot, rows: Rows) -> Writes:
    """The vote, and the device's own rows: it is asked no more."""
    forgotten_at = approval.expires_at + READABLE_SECONDS
    own = ledger_key(approval.members[ballot.member])
    ledger: Ledger = rows[own] or Ledger()
    answered = ledger.answered(
        now,
        approval.owner,
        mpa_id,
        approved=ballot.approved,
        unknown_trigger=ballot.reason == "unknown_trigger",
    )
    writes: Writes = [
        (vote_key(mpa_id, ballot.member), Vote(ballot.signature, int(now), forgotten_at, ballot.reason)),
        (own, answered),
    ]
    at = outbox_key(member_name(mpa_id, ballot.member))
    entry = rows.get(at)
    if (after := after_answer(entry)) is not entry:
        writes.append((at, after))
    return writes


def _found(approval: Approval | None) -> Approval:
    if approval is None:
        raise MpaNotFound
    return approval
