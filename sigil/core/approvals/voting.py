"""The rules of an approval request: limits of its members, which votes count, what ends it (docs/protocol.md, 5.3).

Pure functions of rows and the time, as in `challenge`. `rows` maps keys to the rows that the transaction has read.
"""

from __future__ import annotations

from typing import NamedTuple

import msgspec

from sigil.core.approvals import fan_out
from sigil.core.approvals.approval import (
    READABLE_SECONDS,
    Approval,
    RequestIdRecord,
    State,
    Vote,
    apply_transition,
    approval_key,
    current_state,
    event_of,
    member_name,
    request_id_key,
    vote_key,
)
from sigil.core.approvals.fan_out import Rows, Writes
from sigil.core.approvals.quorum import APPROVED, NOT_ELIGIBLE, OPEN, REJECTED, with_ballot
from sigil.core.challenge import ledger_key
from sigil.core.device_ledger import Ledger, Limits
from sigil.core.pushes.outbox import after_answer, outbox_key
from sigil.core.session_store import Decision
from sigil.protocol.errors import AlreadyAnswered, MpaClosed, MpaExpired, MpaNotFound, NotEligible, RequestIdConflict


class CreatedApproval(NamedTuple):
    """`repeated`: this is the earlier request with the same request_id."""

    mpa_id: bytes
    approval: Approval
    repeated: bool = False


class Ballot(NamedTuple):
    """One member's vote, with a verified signature."""

    member: int
    approved: bool
    signature: bytes
    reason: str = ""
    credential: bytes = b""


class CountedVote(NamedTuple):
    """The request with the vote; `satisfied_before`: the voter's group had already approved."""

    approval: Approval
    satisfied_before: bool


def find_earlier(
    now: float, record: RequestIdRecord | None, body_sha256: bytes, approval: Approval | None
) -> CreatedApproval | None:
    """The earlier request with this request_id, None when it is free. RequestIdConflict: another body."""
    approval = current_state(now, approval)
    if record is None or approval is None:
        return None
    if record.body_sha256 != body_sha256:
        raise RequestIdConflict
    return CreatedApproval(record.mpa_id, approval, repeated=True)


def enter(now: float, mpa_id: bytes, approval: Approval, members: range, rows: Rows, *, limits: Limits) -> Writes:
    """The ledgers of `members` with this request; RateLimited or TooManyPending by the limits of one of them."""
    writes: Writes = []
    for member in members:
        if approval.has_open_ballot(member):
            key = ledger_key(approval.members[member])
            ledger = rows[key] or Ledger()
            entered = ledger.enter_for_approval(now, approval.owner, mpa_id, approval.deadline, limits)
            writes.append((key, entered))
    return writes


def refund(now: float, mpa_id: bytes, approval: Approval, members: range, rows: Rows, *, limits: Limits) -> Writes:
    """Undo `enter` for a request that could not be created."""
    writes: Writes = []
    for key in (ledger_key(approval.members[member]) for member in members if approval.has_open_ballot(member)):
        ledger: Ledger | None = rows[key]
        if ledger is not None:
            writes.append((key, ledger.refunded(approval.owner, mpa_id, limits).pruned(now)))
    return writes


def create(
    now: float,
    mpa_id: bytes,
    approval: Approval,
    body_sha256: bytes,
    *,
    entered: Writes,
    stale: RequestIdRecord | None = None,
) -> Decision[CreatedApproval]:
    """A new request. `entered`: the ledgers of its members, empty if earlier transactions have written them.

    `stale`: an earlier use of the request_id, whose request has ended. It is deleted here: otherwise the sweep of the
    old request would delete the new use of the request_id.
    """
    writes: Writes = [
        (approval_key(mpa_id), approval),
        (request_id_key(approval.owner, approval.request_id), RequestIdRecord(body_sha256, mpa_id)),
        *entered,
        *fan_out.first_pushes(now, mpa_id, approval),
    ]
    if stale is not None:
        writes.append((approval_key(stale.mpa_id), None))
    return Decision(CreatedApproval(mpa_id, approval), tuple(writes))


def may_end(approval: Approval, ballot: Ballot) -> bool:
    """Whether this vote would end the request: then the transaction reads more rows."""
    return approval.open and approval.quorum.outcome(_ballots_with(approval, ballot)) is not None


def vote(
    now: float,
    mpa_id: bytes,
    ballot: Ballot,
    rows: Rows,
    *,
    emit_event: bool = False,
    event_creation: bytes | None = None,
) -> Decision[CountedVote]:
    """Count a member's first vote, and end the request if it decides. With `emit_event` the end writes an event."""
    approval = _require_votable(now, rows[approval_key(mpa_id)], ballot.member)
    counted = msgspec.structs.replace(approval, ballots=_ballots_with(approval, ballot))
    writes = _vote_writes(now, mpa_id, approval, ballot, rows)
    satisfied_before = approval.quorum.group_of(ballot.member) in approval.satisfied_groups
    outcome = counted.quorum.outcome(counted.ballots)
    if outcome is None:
        return Decision(CountedVote(counted, satisfied_before), (*writes, (approval_key(mpa_id), counted)))
    ended = apply_transition(counted, outcome, now)
    return Decision(
        CountedVote(ended, satisfied_before),
        (*writes, *end(now, mpa_id, ended, rows, emit_event=emit_event, event_creation=event_creation)),
        ended=(mpa_id,),
    )


def cancel(now: float, mpa_id: bytes, rows: Rows) -> Decision[Approval]:
    """The owner cancels. A repeated cancellation is no error; after another end, MpaClosed."""
    approval = _require_known(current_state(now, rows[approval_key(mpa_id)]))
    if approval.state is State.CANCELLED:
        return Decision(approval)
    if not approval.open:
        raise MpaClosed(status=approval.state.wire_name)
    ended = apply_transition(approval, "cancel", now)
    return Decision(ended, tuple(end(now, mpa_id, ended, rows, emit_event=False)), ended=(mpa_id,))


def end(
    now: float,
    mpa_id: bytes,
    ended: Approval,
    rows: Rows,
    *,
    emit_event: bool,
    event_creation: bytes | None = None,
) -> Writes:
    """All writes of the end of a request, for every final state. With `emit_event` they include a webhook event."""
    events = [event_of(now, mpa_id, ended, event_creation)] if emit_event else []
    return [(approval_key(mpa_id), ended), *events, *fan_out.first_clears(now, mpa_id, ended, rows)]


def _ballots_with(approval: Approval, ballot: Ballot) -> bytes:
    return with_ballot(approval.ballots, ballot.member, APPROVED if ballot.approved else REJECTED)


def _require_votable(now: float, row: Approval | None, member: int) -> Approval:
    approval = _require_known(current_state(now, row))
    ballot = approval.ballots[member : member + 1]
    if ballot == NOT_ELIGIBLE:
        raise NotEligible
    if ballot != OPEN:
        raise AlreadyAnswered
    if approval.state is State.TIMEOUT:
        raise MpaExpired
    if not approval.open:
        raise MpaClosed(status=approval.state.wire_name)
    return approval


def _vote_writes(now: float, mpa_id: bytes, approval: Approval, ballot: Ballot, rows: Rows) -> Writes:
    """The vote, and the rows of the device: the request leaves its ledger and its outbox."""
    delete_at = approval.deadline + READABLE_SECONDS
    own = ledger_key(approval.members[ballot.member])
    ledger: Ledger = rows[own] or Ledger()
    answered = ledger.with_answer(
        now,
        approval.owner,
        mpa_id,
        approved=ballot.approved,
        unknown_trigger=ballot.reason == "unknown_trigger",
    )
    vote = Vote(ballot.signature, int(now) - approval.ahead, delete_at, ballot.reason, ballot.credential)
    writes: Writes = [(vote_key(mpa_id, ballot.member), vote), (own, answered)]
    at = outbox_key(member_name(mpa_id, ballot.member))
    entry = rows.get(at)
    if (after := after_answer(now, entry)) is not entry:
        writes.append((at, after))
    return writes


def _require_known(approval: Approval | None) -> Approval:
    if approval is None:
        raise MpaNotFound
    return approval
