"""No sequence of creations, claims, deaths, completions and ends loses a push or accepts a stale completion."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from sigil.core import challenge as rules
from sigil.core.challenge import Challenge, State, current_state
from sigil.core.device_ledger import Ledger, Limits
from sigil.core.expiry import sweep
from sigil.core.pushes.delivery import DeliveryResult, complete, rows_of
from sigil.core.pushes.outbox import LEASE_SECONDS, OUTBOX, Claim, OutboxEntry, Push, Step, claim, outbox_key
from sigil.core.session_store import Decision, Key

START = 1_000_000.0
DEVICE = b"\x02" + b"k" * 32
OWNER = b"o" * 16
RELAY_RESULTS: tuple[DeliveryResult, ...] = ("delivered", "queued", "not_registered", "rate_limited", "failed")
FINAL_RESULTS = ("delivered", "not_registered", "token_evicted", "failed")


class Outbox(RuleBasedStateMachine):
    """The rules over a dict of rows, a relay that knows a push by its key, and workers that may die at any time."""

    @initialize()
    def begin(self) -> None:
        self.now = START
        self.rows: dict[Key, Any] = {}
        self.names: list[bytes] = []
        self.tokens = 0
        # The held claims, each with the result of the relay: None while nothing was sent.
        self.held: list[tuple[Claim, DeliveryResult | None]] = []
        self.relay: dict[bytes, DeliveryResult] = {}
        self.shown: set[bytes] = set()
        self.cleared: set[bytes] = set()
        self.final_result: set[bytes] = set()
        self.answered: set[bytes] = set()
        self.delivered: set[bytes] = set()

    def decide(self, keys: list[Key], decision: Decision[Any]) -> Any:
        for key, row in decision.writes:
            if row is None:
                self.rows.pop(key, None)
            else:
                self.rows[key] = row
        return decision.result

    def rows_at(self, keys: list[Key]) -> tuple[Any, ...]:
        return tuple(self.rows.get(key) for key in keys)

    def challenge(self, name: bytes) -> Challenge | None:
        return self.rows.get(rules.challenge_key(name))

    def entry(self, name: bytes) -> OutboxEntry | None:
        return self.rows.get(outbox_key(name))

    def pending(self) -> list[bytes]:
        found = ((name, current_state(self.now, self.challenge(name))) for name in self.names)
        return [name for name, challenge in found if challenge is not None and challenge.state is State.PENDING]

    # Few challenges: a fault needs many events of one challenge.
    @precondition(lambda self: len(self.names) < 2)
    @rule(unreachable=st.booleans())
    def create(self, unreachable: bool) -> None:
        name = len(self.names).to_bytes(16)
        push = Push.RELAY_UNREACHABLE if unreachable else Push.QUEUED
        draft = Challenge(DEVICE, OWNER, b"n" * 32, b"{}", int(self.now * 1000), 300, push=push)
        ledger = self.rows.get(rules.ledger_key(DEVICE))
        limits = Limits(max_pending=1000, per_minute=0)
        self.decide([], rules.issue(self.now, name, draft, ledger, limits=limits, body_sha256=b""))
        self.names.append(name)

    @rule(seconds=st.sampled_from([1, 4, LEASE_SECONDS, LEASE_SECONDS, 300]))
    def time_passes(self, seconds: float) -> None:
        self.now += seconds

    @rule()
    def expiry_sweep(self) -> None:
        due = [key for key, row in self.rows.items() if key.kind is not OUTBOX and 0 < row.due <= self.now]
        seen = {key: self.rows[key] for key in due}
        for key in due:
            if key.kind is rules.CHALLENGE:
                for other in (rules.ledger_key(DEVICE), outbox_key(key.name)):
                    seen[other] = self.rows.get(other)
        self.decide([], sweep(self.now, seen))

    @rule(own=st.booleans())
    def claim(self, own: bool) -> None:
        """Claim the due entries, or all, as the worker that wrote them does."""
        keys = [key for key, row in self.rows.items() if key.kind is OUTBOX and (own or row.due <= self.now)]
        self.tokens += 1
        taken = self.decide(keys, claim(self.now, keys, self.rows_at(keys), self.tokens.to_bytes(8)))
        self.held += [(one, None) for one in taken]

    @precondition(lambda self: any(result is None for _, result in self.held))
    @rule(
        data=st.data(), wanted=st.sampled_from(RELAY_RESULTS), then=st.sampled_from(["response", "no response", "dies"])
    )
    def send(self, data: st.DataObject, wanted: DeliveryResult, then: str) -> None:
        """The sender gets the response of the relay, or none (even if the relay took the push), or dies meanwhile."""
        at = data.draw(st.sampled_from([n for n, (_, result) in enumerate(self.held) if result is None]))
        one, _ = self.held.pop(at)
        result = self.relay_result(one, wanted)
        if then != "dies":
            self.held.append((one, result if then == "response" or result == "ended" else "relay_unreachable"))

    @precondition(lambda self: self.names)
    @rule(wanted=st.sampled_from(RELAY_RESULTS))
    def a_worker_dies_after_sending_and_its_lease_ends(self, wanted: DeliveryResult) -> None:
        before = len(self.held)
        self.claim(own=True)
        for one, _ in self.held[before:]:
            self.relay_result(one, wanted)
        del self.held[before:]
        self.now += LEASE_SECONDS

    def relay_result(self, one: Claim, wanted: DeliveryResult) -> DeliveryResult:
        name, entry = one
        challenge = current_state(self.now, self.challenge(name))
        if challenge is None or (entry.step is Step.PUSH and challenge.state is not State.PENDING):
            return "ended"
        if entry.step is Step.CLEAR:
            self.cleared.add(name)
            return "delivered"
        if entry.step.polls:
            # A queued push is delivered now, or is still queued.
            if wanted == "delivered" and name in self.relay:
                self.relay[name] = "delivered"
            return self.relay.get(name, "unknown")
        result = self.relay.get(name, wanted)
        if result in {"delivered", "queued"}:
            self.relay[name] = result
            self.shown.add(name)
        return result

    @precondition(lambda self: any(result is not None for _, result in self.held))
    @rule(data=st.data())
    def complete(self, data: st.DataObject) -> None:
        at = data.draw(st.sampled_from([n for n, (_, result) in enumerate(self.held) if result is not None]))
        one, result = self.held.pop(at)
        assert result is not None
        name, entry = one
        now = self.entry(name)
        keys = rows_of([one])
        decision = complete(self.now, [one], [result], self.rows_at(keys), 0.5)
        if now is None or now.token != entry.token:
            assert decision.writes == ()
        elif entry.step is not Step.CLEAR and result in FINAL_RESULTS:
            self.final_result.add(name)
        self.decide(keys, decision)

    @precondition(lambda self: self.pending())
    @rule(data=st.data(), approved=st.booleans())
    def answer(self, data: st.DataObject, approved: bool) -> None:
        name = data.draw(st.sampled_from(self.pending()))
        row, ledger, entry = self.challenge(name), self.rows.get(rules.ledger_key(DEVICE)), self.entry(name)
        self.decide([], rules.answer(self.now, name, row, ledger, entry, approved=approved))
        self.answered.add(name)

    @precondition(lambda self: self.pending())
    @rule(data=st.data())
    def cancel(self, data: st.DataObject) -> None:
        name = data.draw(st.sampled_from(self.pending()))
        row, ledger, entry = self.challenge(name), self.rows.get(rules.ledger_key(DEVICE)), self.entry(name)
        assert isinstance(ledger, Ledger)
        self.decide([], rules.cancel(self.now, name, row, ledger, entry))

    @invariant()
    def a_push_stays_in_the_outbox_until_the_relay_has_it_or_its_challenge_ends(self) -> None:
        for name in self.pending() if self.names else []:
            entry = self.entry(name)
            if name in self.final_result or self.relay.get(name) == "queued":
                continue
            assert entry is not None
            assert entry.due <= self.now + 40

    @invariant()
    def a_notification_that_may_be_shown_is_cleared_after_any_end_but_a_response_of_the_device(self) -> None:
        for name in self.shown - self.answered - self.cleared if self.names else ():
            challenge = self.challenge(name)
            if challenge is None or challenge.open or self.now >= challenge.end.at + 250:  # type: ignore[union-attr]
                continue
            entry = self.entry(name)
            assert entry is not None
            assert entry.step is Step.CLEAR

    @invariant()
    def a_push_that_waits_at_the_relay_for_an_answered_challenge_is_polled_or_cleared(self) -> None:
        for name in self.answered - self.cleared if self.names else ():
            challenge = self.challenge(name)
            if self.relay.get(name) != "queued" or challenge is None or challenge.open:
                continue
            if self.now < challenge.end.at + 250:  # type: ignore[union-attr]
                assert self.entry(name) is not None

    @invariant()
    def the_push_state_delivered_is_final(self) -> None:
        for name in self.names if self.names else ():
            challenge = self.challenge(name)
            if challenge is not None and challenge.push is Push.DELIVERED:
                self.delivered.add(name)
            assert challenge is None or name not in self.delivered or challenge.push is Push.DELIVERED


@pytest.mark.filterwarnings("ignore::hypothesis.errors.HypothesisWarning")
def test_no_sequence_of_events_loses_a_push() -> None:
    from hypothesis.stateful import run_state_machine_as_test

    run_state_machine_as_test(Outbox, settings=settings(max_examples=500, stateful_step_count=40))
