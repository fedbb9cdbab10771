"""What follows a committed transaction: background loops of this worker get the names, the observer gets a report."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from sigil.core.approvals import fan_out
from sigil.core.approvals.approval import Approval, member_name
from sigil.core.approvals.approval import State as ApprovalState
from sigil.core.approvals.fan_out import MEMBERS_AT_ONCE
from sigil.core.challenge import Challenge, State
from sigil.core.enrolment.row import Enrolment
from sigil.core.enrolment.row import State as EnrolmentState
from sigil.core.pushes.outbox import Push
from sigil.core.session_observer import SessionObserver
from sigil.core.tracing import TracesPort


class BacklogPort(Protocol):
    """Takes the names of rows for a background loop. Returns at once; any worker also finds the rows in the store."""

    def add(self, name: bytes, owner: bytes, /) -> None: ...


class PushBacklogPort(BacklogPort, Protocol):
    @property
    def initial_push(self) -> Push:
        """The push state of a challenge or request that is created now."""


class EventBacklogPort(BacklogPort, Protocol):
    @property
    def enabled(self) -> bool:
        """False where no webhook is configured: then no transaction writes an event."""


@dataclass(frozen=True, slots=True)
class SessionNotifier:
    """Awaits nothing. A cancellation has no event: the requester made it."""

    observer: SessionObserver
    push_backlog: PushBacklogPort
    event_backlog: EventBacklogPort
    fan_outs: BacklogPort
    # Of what no request does; None where no traces are exported.
    traces: TracesPort | None = None

    def challenge_created(self, challenge_id: bytes, challenge: Challenge) -> None:
        self.push_backlog.add(challenge_id, challenge.owner)
        self.observer.challenge("challenge_created", challenge_id, challenge)

    def challenge_answered(self, challenge_id: bytes, challenge: Challenge) -> None:
        """By its device, where no push has to be cleared."""
        self.event_backlog.add(challenge_id, challenge.owner)
        self.observer.challenge(f"challenge_{challenge.state.wire_name}", challenge_id, challenge)

    def challenge_ended(self, challenge_id: bytes, challenge: Challenge) -> None:
        """By anything but a valid answer, so that its push is cleared."""
        self.push_backlog.add(challenge_id, challenge.owner)
        if challenge.state is not State.CANCELLED:
            self.event_backlog.add(challenge_id, challenge.owner)
        self.observer.challenge(f"challenge_{challenge.state.wire_name}", challenge_id, challenge)

    def approval_created(self, mpa_id: bytes, approval: Approval) -> None:
        self.observer.approval("mpa_created", mpa_id, approval)
        self._enqueue_members(mpa_id, approval)

    def approval_ended(self, mpa_id: bytes, approval: Approval) -> None:
        """By a vote or a cancellation."""
        if approval.state is not ApprovalState.CANCELLED:
            self.event_backlog.add(mpa_id, approval.owner)
        self.observer.approval(f"mpa_{approval.state.wire_name}", mpa_id, approval)
        self._enqueue_members(mpa_id, approval)

    def approval_timed_out(self, mpa_id: bytes, approval: Approval) -> None:
        """By expiry, which leaves all members to the fan-out."""
        self.fan_outs.add(mpa_id, approval.owner)
        self.event_backlog.add(mpa_id, approval.owner)
        self.observer.approval(f"mpa_{approval.state.wire_name}", mpa_id, approval)

    def enrolment_changed(self, enrolment_id: bytes, enrolment: Enrolment) -> None:
        """By a claim, a completion, a confirmation, an expiry or a cancellation."""
        if not enrolment.open and enrolment.state is not EnrolmentState.CANCELLED:
            self.event_backlog.add(enrolment_id, enrolment.owner)
        self.observer.enrolment(f"enrolment_{enrolment.state.wire_name}", enrolment_id, enrolment)

    def _enqueue_members(self, mpa_id: bytes, approval: Approval) -> None:
        """The transaction wrote the outbox entries of the first batch; the fan-out writes the others."""
        for member in fan_out.batch_after(approval, 0):
            if approval.has_open_ballot(member):
                self.push_backlog.add(member_name(mpa_id, member), approval.owner)
        if len(approval.members) > MEMBERS_AT_ONCE:
            self.fan_outs.add(mpa_id, approval.owner)
