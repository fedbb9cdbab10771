"""What was reported never changes: for any sequence of clock steps, passing time, polls, responses and sweeps."""

from __future__ import annotations

import asyncio
from typing import Any

import msgspec
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test

from sigil.challenges.service import ChallengePolicy
from sigil.core.device_ledger import Limits
from sigil.core.session_store import Decision
from sigil.core.webhooks.event import EVENT, Event, type_of_event
from sigil.device import Device
from sigil.protocol.encoding.ids import format_uuid
from sigil.protocol.encoding.text import encode_base64
from sigil.protocol.errors import (
    AlreadyAnswered,
    ChallengeAlreadyUsed,
    ChallengeExpired,
    ChallengeNotFound,
    InvalidSignature,
    MpaClosed,
    MpaExpired,
    MpaNotFound,
)
from sigil.protocol.messages import approvals as mpa
from sigil.protocol.messages import challenges as messages
from tests.support.services import CALLER, Services
from tests.webhooks.webhook_services import WebhookServices

DEVICES = [Device.generate("Ed25519") for _ in range(3)]
GONE = "gone"
WITH_EVENT = {"verified", "rejected", "expired", "approved", "timeout"}


class ReportingMachine(RuleBasedStateMachine):
    """A challenge and an approval request, on real services. Each report is kept; `recorded` counts event writes."""

    @initialize(ahead=st.sampled_from([0.0, -3600.0, 3600.0]))
    def begin(self, ahead: float) -> None:
        self.services = WebhookServices(ChallengePolicy(limits=Limits(5, 0)))
        # Some rows are created while the store's clock is ahead of the time of day.
        self.services.store.now()
        self.services.clock.step(ahead)
        self.written: list[tuple[str, str]] = []
        self._record_events(self.services)
        self.challenge = self.run(self.services.create_challenge(DEVICES[0], seconds=30))
        self.request = self.run(self.services.create_approval([DEVICES[:2], DEVICES[2:]], 2, seconds=60))
        self.context = self.run(self.services.approval_status(self.request)).action_context
        self.reported: dict[str, str] = {}

    def run(self, work: Any) -> Any:
        return asyncio.run(work)

    def _record_events(self, services: Services) -> None:
        transact = services.store.transact

        async def recording(keys: Any, decide: Any, **options: Any) -> Any:
            def kept(now: float, rows: Any) -> Decision[Any]:
                decision: Decision[Any] = decide(now, rows)
                self.written += [
                    (format_uuid(key.name), type_of_event(row))
                    for key, row in decision.writes
                    if key.kind == EVENT and isinstance(row, Event)
                ]
                return decision

            return await transact(keys, kept, **options)

        services.store.transact = recording  # type: ignore[method-assign]

    def report(self, subject: str, state: str) -> None:
        before = self.reported.get(subject, "pending")
        if before == "pending":
            self.reported[subject] = state
        elif before != state:
            assert state == GONE, f"{subject} was reported as {before}, then as {state}"
            self.reported[subject] = GONE

    @rule(seconds=st.sampled_from([0.1, 1.0, 14.0, 31.0, 61.0, 599.0]))
    def time_passes(self, seconds: float) -> None:
        self.services.clock.now += seconds

    @rule(seconds=st.sampled_from([-86_400.0, -3600.0, -31.0, -10.0, -1.0, -0.1, 0.1, 1.0, 10.0, 31.0, 3600.0]))
    def the_time_of_day_is_set(self, seconds: float) -> None:
        self.services.clock.step(seconds)

    @rule(seconds=st.sampled_from([31.0, 61.0, 3600.0, 86_500.0]), responds=st.booleans())
    def the_time_of_day_is_wrong_for_a_moment(self, seconds: float, responds: bool) -> None:
        """Too seldom in random sequences: a report in between."""
        self.services.clock.step(seconds)
        if responds:
            self.the_device_responds(approved=True)
            self.a_member_votes(member=0, approved=True)
        else:
            self.the_challenge_is_polled(wait=0)
            self.the_request_is_polled()
        self.services.clock.step(-seconds)

    @rule()
    def the_sweep_runs(self) -> None:
        self.run(self.services.sweep())

    @rule(wait=st.sampled_from([0, 0, 1]))
    def the_challenge_is_polled(self, wait: int) -> None:
        self.services.long_polls.draining = True
        try:
            status = self.run(self.services.challenges.status(CALLER, self.challenge.challenge_id, wait)).status
        except ChallengeNotFound:
            status = GONE
        self.report("challenge", status)

    @rule()
    def the_request_is_polled(self) -> None:
        try:
            status = self.run(self.services.approval_status(self.request)).status
        except MpaNotFound:
            status = GONE
        self.report("request", status)

    @rule(approved=st.booleans())
    def the_device_responds(self, approved: bool) -> None:
        answer = self.services.approve if approved else self.services.reject
        try:
            self.report("challenge", self.run(answer(DEVICES[0], self.challenge)).status)
        except ChallengeExpired:
            self.report("challenge", "expired")
        except ChallengeAlreadyUsed as used:
            self.report("challenge", str(used.details["status"]))
        except ChallengeNotFound:
            self.report("challenge", GONE)

    @rule(member=st.integers(0, 2), approved=st.booleans())
    def a_member_votes(self, member: int, approved: bool) -> None:
        decision: Any = "approved" if approved else "rejected"
        try:
            voted = self.run(self._vote(DEVICES[member], decision)).status
        except MpaExpired:
            self.report("request", "timeout")
        except MpaClosed as closed:
            self.report("request", str(closed.details["status"]))
        except MpaNotFound:
            self.report("request", GONE)
        except AlreadyAnswered:
            return
        else:
            self.report("request", voted if voted in {"approved", "rejected"} else "pending")

    async def _vote(self, device: Device, decision: Any) -> Any:
        signature = device.sign_vote(msgspec.json.decode(self.context), decision)
        return await self.services.approvals.answer(
            mpa.RespondMpa(**device.vote_body(self.request.mpa_id, decision, signature))
        )

    @rule()
    def the_owner_cancels(self) -> None:
        for subject, cancel, name in [
            ("challenge", self.services.challenges.cancel, self.challenge.challenge_id),
            ("request", self.services.approvals.cancel, self.request.request_id),
        ]:
            # Only what has ended: a cancellation would end every run early.
            if self.reported.get(subject, "pending") == "pending":
                continue
            try:
                self.report(subject, self.run(cancel(CALLER, name)).status)
            except (ChallengeAlreadyUsed, MpaClosed) as closed:
                self.report(subject, str(closed.details["status"]))
            except (ChallengeNotFound, MpaNotFound):
                self.report(subject, GONE)

    @rule()
    def a_client_without_the_key_responds(self) -> None:
        before = self.stored()
        given = messages.Respond(
            self.challenge.challenge_id, encode_base64(bytes(64)), fingerprint=DEVICES[0].fingerprint
        )
        try:
            self.run(self.services.challenges.answer(given))
        except (InvalidSignature, ChallengeNotFound):
            assert self.stored() == before
        else:
            raise AssertionError("a response without a valid signature was accepted")

    def stored(self) -> dict[bytes, Any]:
        return dict(self.services.store._rows)

    @invariant()
    def each_final_state_has_exactly_one_event(self) -> None:
        for subject, name in (("challenge", self.challenge.challenge_id), ("request", self.request.mpa_id)):
            types = [kind for ended, kind in self.written if ended == name]
            assert len(types) <= 1, types
            state = self.reported.get(subject, "pending")
            if state in WITH_EVENT:
                assert [kind.partition(".")[2] for kind in types] == [state]
            elif state == GONE and types:
                assert types[0].partition(".")[2] in WITH_EVENT

    def teardown(self) -> None:
        if not hasattr(self, "services"):
            return
        self.services.clock.now += 200_000
        self.run(self.services.sweep())
        for name in (self.challenge.challenge_id, self.request.mpa_id):
            assert len([ended for ended, _ in self.written if ended == name]) == 1, "no end without its event"


def test_no_sequence_of_steps_polls_and_responses_changes_what_was_reported() -> None:
    run_state_machine_as_test(
        ReportingMachine, settings=settings(max_examples=120, stateful_step_count=30, deadline=None)
    )
