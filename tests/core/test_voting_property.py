"""No sequence of votes, ends, sweeps and batches counts a device twice, reopens a request or leaves one pending for a
device.
"""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from sigil.core.approvals import fan_out, voting
from sigil.core.approvals.approval import Approval, State, approval_key, current_state, member_name, vote_key
from sigil.core.approvals.fan_out import FAN_OUT, FanOut, fan_out_key
from sigil.core.approvals.quorum import APPROVED, OPEN, REJECTED
from sigil.core.challenge import ledger_key
from sigil.core.device_ledger import Ledger, Limits
from sigil.core.expiry import sweep
from sigil.core.pushes.outbox import OUTBOX, Step, outbox_key
from sigil.core.session_store import Decision, Key
from sigil.core.webhooks.event import EVENT, Event, EventKind, event_key
from sigil.protocol.errors import AlreadyAnswered, MpaClosed, MpaExpired, MpaNotFound

START = 1_000_000.0
OWNER, NAME = b"o" * 16, b"m" * 16
LIFETIME = 300
FINAL = {State.APPROVED, State.REJECTED, State.TIMEOUT, State.CANCELLED}


class ApprovalMachine(RuleBasedStateMachine):
    """The rules on a dict of rows. Some requests are larger than a batch: the test makes batches small."""

    @initialize(
        sizes=st.lists(st.integers(1, 3), min_size=1, max_size=4),
        required=st.integers(1, 4),
        reject_on_first=st.booleans(),
        pushed=st.booleans(),
    )
    def begin(self, sizes: list[int], required: int, reject_on_first: bool, pushed: bool) -> None:
        self.now = START
        self.rows: dict[Key, Any] = {}
        self.first_final: State | None = None
        self.accepted: dict[int, bool] = {}
        members = tuple(b"\x02" + bytes([n]) * 32 for n in range(sum(sizes)))
        self.draft = Approval(
            OWNER, "name", b"n" * 32, b'{"type":"t"}', int(START * 1000), LIFETIME, min(required, len(sizes)),
            reject_on_first, tuple(sizes), members, "hash", OPEN * len(members), pushed=pushed,
        )  # fmt: skip
        all_members = range(len(members))
        ledgers = {ledger_key(member): None for member in members}
        entered = voting.enter(self.now, NAME, self.draft, all_members, ledgers, limits=Limits(5, 0))
        self.decide(voting.create(self.now, NAME, self.draft, b"", entered=entered))

    def decide(self, decision: Decision[Any]) -> Any:
        assert len({key for key, _ in decision.writes}) == len(decision.writes), "a row is written once"
        was_open = self.is_open()
        for key, row in decision.writes:
            if row is None:
                self.rows.pop(key, None)
            else:
                self.rows[key] = row
        # The end, and nothing else, wakes the long polls.
        assert decision.ended == ((NAME,) if was_open and not self.is_open() else ())
        return decision.result

    def is_open(self) -> bool:
        row: Approval | None = self.rows.get(approval_key(NAME))
        return row is not None and row.open

    def read(self, keys: list[Key]) -> dict[Key, Any]:
        return {key: self.rows.get(key) for key in keys}

    def approval(self) -> Approval | None:
        return current_state(self.now, self.rows.get(approval_key(NAME)))

    def at_end(self, whole: bool) -> list[Key]:
        """The rows of an end. A worker that did not expect the end has read only the progress row of the fan-out."""
        keys = fan_out.rows_at_end(NAME, self.draft)
        return keys if whole else [key for key in keys if key.kind is FAN_OUT]

    @rule(data=st.data(), approved=st.booleans(), expected=st.booleans())
    def a_member_votes(self, data: st.DataObject, approved: bool, expected: bool) -> None:
        member = data.draw(st.integers(0, len(self.draft.members) - 1))
        own = [ledger_key(self.draft.members[member]), outbox_key(member_name(NAME, member))]
        rows = self.read([approval_key(NAME), *own, *self.at_end(expected)])
        before = self.approval()
        ballot = voting.Ballot(member, approved, b"s" * 64)
        try:
            counted: voting.CountedVote = self.decide(voting.vote(self.now, NAME, ballot, rows, emit_event=True))
        except AlreadyAnswered:
            assert member in self.accepted
        except (MpaClosed, MpaExpired):
            assert before is not None
            assert before.state in FINAL
        except MpaNotFound:
            assert before is None
        else:
            assert before is not None
            assert before.open
            assert member not in self.accepted
            self.accepted[member] = approved
            group = self.draft.quorum.group_of(member)
            assert counted.satisfied_before == (group in before.satisfied_groups)

    @rule(expected=st.booleans())
    def the_owner_cancels(self, expected: bool) -> None:
        before = self.approval()
        rows = self.read([approval_key(NAME), *self.at_end(expected)])
        try:
            ended: Approval = self.decide(voting.cancel(self.now, NAME, rows))
        except (MpaClosed, MpaNotFound):
            assert before is None or before.state in FINAL - {State.CANCELLED}
        else:
            assert ended.state is State.CANCELLED

    @rule(seconds=st.sampled_from([1, 60, 200, LIFETIME]))
    def time_passes(self, seconds: int) -> None:
        self.now += seconds

    @rule()
    def the_sweep_comes(self) -> None:
        due = [
            key
            for key, row in self.rows.items()
            if key.kind not in {OUTBOX, FAN_OUT, EVENT} and 0 < row.due <= self.now
        ]
        self.decide(sweep(self.now, self.read([*due, fan_out_key(NAME)]), emit_events=True))

    @rule()
    def a_batch_is_written(self) -> None:
        self.one_batch()

    def one_batch(self) -> bool:
        seen: FanOut | None = self.rows.get(fan_out_key(NAME))
        keys = [fan_out_key(NAME), approval_key(NAME)]
        if seen is not None:
            keys += fan_out.rows_of_batch(NAME, self.draft, fan_out.batch_after(self.draft, seen.next))
        return bool(self.decide(fan_out.next_batch(self.now, NAME, seen, self.read(keys))))

    @rule()
    def a_worker_that_is_late_changes_nothing(self) -> None:
        """It has read an earlier batch than the one that is due now."""
        row: FanOut | None = self.rows.get(fan_out_key(NAME))
        if row is None or row.next == 0:
            return
        before = dict(self.rows)
        stale = FanOut(row.due, 0, row.clears, row.pushed)
        keys = [fan_out_key(NAME), approval_key(NAME)]
        assert self.decide(fan_out.next_batch(self.now, NAME, stale, self.read(keys)))
        assert self.rows == before

    @precondition(lambda self: self.approval() is not None and not self.approval().open)
    @rule()
    def after_all_batches_the_request_is_pending_for_no_device(self) -> None:
        self.the_sweep_comes()
        while self.one_batch():
            pass
        for member, device in enumerate(self.draft.members):
            ledger: Ledger | None = self.rows.get(ledger_key(device))
            assert ledger is None or NAME not in ledger.pending(self.now)
            entry = self.rows.get(outbox_key(member_name(NAME, member)))
            assert entry is None or entry.step is Step.CLEAR
            assert entry is None or member not in self.accepted

    @precondition(lambda self: self.approval() is None and self.rows)
    @rule()
    def the_sweep_deletes_all_rows_in_the_end(self) -> None:
        self.now += 200_000
        for _ in range(3):
            self.the_sweep_comes()
            self.one_batch()
        assert {key.kind for key in self.rows} <= {OUTBOX, EVENT}

    @invariant()
    def a_final_state_never_changes(self) -> None:
        approval = self.approval()
        if approval is None or approval.open:
            assert self.first_final is None or approval is None
            return
        self.first_final = self.first_final or approval.state
        assert approval.state is self.first_final

    @invariant()
    def an_end_has_an_event_with_its_state(self) -> None:
        row: Approval | None = self.rows.get(approval_key(NAME))
        event: Event | None = self.rows.get(event_key(NAME))
        if row is None:
            # The event may outlive the request; a cancellation has none.
            assert event is not None or self.first_final in {None, State.CANCELLED}
        elif row.open or row.state is State.CANCELLED:
            assert event is None
        else:
            assert event is not None
            assert event.kind is EventKind[f"MPA_{row.state.name}"]
            assert event.groups_satisfied == tuple(row.satisfied_groups)

    @invariant()
    def the_ballots_are_the_accepted_votes_and_each_has_its_signature(self) -> None:
        row: Approval | None = self.rows.get(approval_key(NAME))
        if row is None:
            return
        for member in range(len(row.members)):
            ballot = row.ballots[member : member + 1]
            expected = OPEN
            if member in self.accepted:
                expected = APPROVED if self.accepted[member] else REJECTED
            assert ballot == expected
            assert (vote_key(NAME, member) in self.rows) == (member in self.accepted)

    @invariant()
    def a_request_ends_by_votes_exactly_when_they_decide(self) -> None:
        row: Approval | None = self.rows.get(approval_key(NAME))
        if row is None:
            return
        outcome = row.quorum.outcome(row.ballots)
        decided = {State.APPROVED: "approve", State.REJECTED: "reject"}.get(row.state)
        assert outcome == decided


@pytest.mark.filterwarnings("ignore::hypothesis.errors.HypothesisWarning")
def test_no_sequence_of_operations_breaks_an_invariant(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fan_out, "MEMBERS_AT_ONCE", 3)
    run_state_machine_as_test(ApprovalMachine, settings=settings(max_examples=150, stateful_step_count=40))
