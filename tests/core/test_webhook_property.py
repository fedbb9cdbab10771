"""No sequence of ends, claims, deaths, responses and replays loses an event or sends it twice within a lease."""

from __future__ import annotations

from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from sigil.core.challenge import Challenge, End, State, event_of
from sigil.core.session_store import Decision, Key
from sigil.core.webhooks.delivery import AttemptResult, complete, failure_key, replay
from sigil.core.webhooks.event import EVENT, LEASE_SECONDS, Claim, Event, claim, event_key

START = 1_000_000.0
SCHEDULE = (1, 5, 30)
NAMES = [bytes([number]) * 16 for number in range(3)]
RESULTS = [
    AttemptResult(200),
    AttemptResult(500),
    AttemptResult(0, "no connection"),
    AttemptResult(404),
    AttemptResult(429, retry_after=60),
]


class Events(RuleBasedStateMachine):
    """The rules over a dict of rows, a receiver that may or may not get an event, and workers that may die."""

    @initialize()
    def begin(self) -> None:
        self.now = START
        self.rows: dict[Key, Any] = {}
        self.tokens = 0
        self.ended: set[bytes] = set()
        self.held: list[Claim] = []
        self.sent_at: dict[bytes, float] = {}
        self.arrived: set[bytes] = set()
        self.acknowledged: set[bytes] = set()
        self.failed_tries: dict[bytes, int] = {}

    def decide(self, decision: Decision[Any]) -> Any:
        for key, row in decision.writes:
            if row is None:
                self.rows.pop(key, None)
            else:
                self.rows[key] = row
        return decision.result

    def event(self, name: bytes) -> Event | None:
        return self.rows.get(event_key(name))

    @precondition(lambda self: len(self.ended) < len(NAMES))
    @rule(state=st.sampled_from([State.VERIFIED, State.REJECTED, State.EXPIRED]))
    def a_challenge_ends(self, state: State) -> None:
        name = NAMES[len(self.ended)]
        row = Challenge(b"k", b"owner", b"n", b'{"type":"t"}', 0, 300, end=End(state, int(self.now)))
        self.decide(Decision(None, (event_of(self.now, name, row),)))
        self.ended.add(name)

    @rule(seconds=st.sampled_from([0.4, 1, 6, 29, LEASE_SECONDS + 1, 1800]))
    def time_passes(self, seconds: float) -> None:
        self.now += seconds

    @rule(own=st.booleans(), sends=st.booleans())
    def a_worker_claims(self, own: bool, sends: bool) -> None:
        """Claim the due events, or all, as the worker that wrote them does, and send them, unless the worker dies."""
        keys = [key for key, row in self.rows.items() if key.kind is EVENT and (own or row.due <= self.now)]
        self.tokens += 1
        rows = [self.rows[key] for key in keys]
        for one in self.decide(claim(self.now, keys, rows, self.tokens.to_bytes(8))):
            if sends:
                self.send(one)

    def send(self, one: Claim) -> None:
        name, _ = one
        before = self.sent_at.get(name)
        # No other worker sends during a lease; a completion ends it.
        assert before is None or self.now > before + LEASE_SECONDS
        self.sent_at[name] = self.now
        self.held.append(one)

    @precondition(lambda self: self.held)
    @rule(data=st.data(), result=st.sampled_from(RESULTS), probing=st.booleans(), dies=st.booleans())
    def an_attempt_ends(self, data: st.DataObject, result: AttemptResult, probing: bool, dies: bool) -> None:
        one = self.held.pop(data.draw(st.integers(0, len(self.held) - 1)))
        name, held = one
        if result.outcome == "delivered":
            self.arrived.add(name)
        if dies:
            return
        now = self.event(name)
        decision = complete(
            self.now, [one], [result], [now], schedule=SCHEDULE, jitters=[data.draw(st.floats(0, 1))], probing=probing
        )
        if now is None or now.token != held.token:
            assert decision.writes == ()
            return
        self.decide(decision)
        self.sent_at.pop(name, None)
        if result.outcome == "delivered":
            self.acknowledged.add(name)
        elif result.outcome == "retry" and not probing:
            self.failed_tries[name] = self.failed_tries.get(name, 0) + 1
            gone = self.event(name) is None
            assert gone == (self.failed_tries[name] == len(SCHEDULE) + 1)
        elif result.outcome == "retry":
            # Except after a day, when a failed probe uses up a try.
            assert self.event(name) is not None or self.now > held.since_ms / 1000 + 86_400

    @precondition(lambda self: any(failure_key(name) in self.rows for name in NAMES))
    @rule(data=st.data())
    def an_operator_replays(self, data: st.DataObject) -> None:
        name = data.draw(st.sampled_from([name for name in NAMES if failure_key(name) in self.rows]))
        assert self.decide(replay(self.now, name, self.rows[failure_key(name)]))
        self.failed_tries.pop(name, None)

    @invariant()
    def each_ended_challenge_has_an_event_or_a_failure_or_is_delivered(self) -> None:
        for name in self.ended:
            places = [self.event(name) is not None, failure_key(name) in self.rows, name in self.acknowledged]
            assert sum(places) == 1

    @invariant()
    def acknowledged_events_have_arrived(self) -> None:
        assert self.acknowledged <= self.arrived

    @invariant()
    def no_event_waits_longer_than_its_schedule_or_a_lease(self) -> None:
        for name in self.ended:
            event = self.event(name)
            assert event is None or event.due <= self.now + max(LEASE_SECONDS + 1, 61, 1.2 * max(SCHEDULE) + 1)


TestEvents = Events.TestCase
TestEvents.settings = settings(max_examples=150, stateful_step_count=40)
