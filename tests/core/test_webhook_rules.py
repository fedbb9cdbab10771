"""Events: written by the ending transaction, claimed with a lease, retried by a schedule, given up and replayed."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from sigil.core import challenge as rules
from sigil.core.challenge import Challenge, State, event_of
from sigil.core.device_ledger import Limits
from sigil.core.expiry import sweep
from sigil.core.pushes.outbox import Push
from sigil.core.session_store import Key
from sigil.core.webhooks.delivery import (
    KEPT_SECONDS,
    PATIENCE_SECONDS,
    AttemptResult,
    Failure,
    complete,
    failure_key,
    replay,
)
from sigil.core.webhooks.event import LEASE_SECONDS, OWN_SECONDS, Event, EventKind, claim, event_key
from sigil.sessions.expiry import ROWS_AT_ONCE
from sigil.store.codec import MAX_WRITES

NOW = 1_777_026_735.5
NAME = b"c" * 16
DEVICE = b"\x02" + b"k" * 32
CHALLENGE = Challenge(
    DEVICE, b"owner" * 3 + b"!", b"n" * 32, b'{"description":"d","type":"login"}', int(NOW * 1000), 300
)
SCHEDULE = (1, 5, 30)


def event_in(decision: Any) -> Event | None:
    return dict(decision.writes).get(event_key(NAME))


def ended(state: State = State.VERIFIED, reason: str = "") -> Challenge:
    decision = rules.answer(NOW, NAME, CHALLENGE, None, approved=state is State.VERIFIED, reason=reason)
    return decision.result


def event() -> Event:
    return event_of(NOW, NAME, ended())[1]


def claimed(now: float = NOW, token: bytes = b"token") -> tuple[bytes, Event]:
    (one,) = claim(now, [event_key(NAME)], [event()], token).result
    return one


class TestWrites:
    @pytest.mark.parametrize(
        ("approved", "kind"), [(True, EventKind.CHALLENGE_VERIFIED), (False, EventKind.CHALLENGE_REJECTED)]
    )
    def test_a_response_writes_its_event_in_the_same_transaction(self, approved: bool, kind: EventKind) -> None:
        reason = "" if approved else "unknown_trigger"
        decision = rules.answer(NOW, NAME, CHALLENGE, None, approved=approved, reason=reason, emit_event=True)
        written = event_in(decision)
        assert written is not None
        assert (written.kind, written.at, written.reason) == (kind, int(NOW), reason)
        assert (written.action_type, written.owner) == ("login", CHALLENGE.owner[:8])
        assert written.since_ms == int(NOW * 1000)

    def test_the_third_wrong_code_writes_an_event_and_no_other_does(self) -> None:
        row = CHALLENGE
        for count in range(3):
            decision = rules.wrong_code(NOW, NAME, row, None, emit_event=True)
            row = decision.result
            assert (event_in(decision) is not None) == (count == 2)
        written = event_in(decision)
        assert written is not None
        assert (written.kind, written.reason) == (EventKind.CHALLENGE_REJECTED, "wrong_code")

    def test_expiry_writes_an_event_with_the_second_of_the_expiry(self) -> None:
        decision = sweep(NOW + 303, {rules.challenge_key(NAME): CHALLENGE}, emit_events=True)
        written = event_in(decision)
        assert written is not None
        assert (written.kind, written.at) == (EventKind.CHALLENGE_EXPIRED, CHALLENGE.expires_at)
        assert written.since_ms == int((NOW + 303) * 1000)

    def test_a_challenge_that_the_sweep_finds_so_late_that_it_deletes_it_has_an_event_too(self) -> None:
        decision = sweep(NOW + 5000, {rules.challenge_key(NAME): CHALLENGE}, emit_events=True)
        assert dict(decision.writes)[rules.challenge_key(NAME)] is None
        written = event_in(decision)
        assert written is not None
        assert written.at == CHALLENGE.expires_at

    def test_a_cancellation_has_no_event(self) -> None:
        assert event_in(rules.cancel(NOW, NAME, CHALLENGE, None)) is None

    def test_deleting_an_ended_challenge_writes_no_second_event(self) -> None:
        decision = sweep(NOW + 5000, {rules.challenge_key(NAME): ended()}, emit_events=True)
        assert event_in(decision) is None

    def test_without_a_receiver_nothing_is_written(self) -> None:
        assert event_in(rules.answer(NOW, NAME, CHALLENGE, None, approved=True)) is None
        assert event_in(sweep(NOW + 303, {rules.challenge_key(NAME): CHALLENGE})) is None

    def test_a_batch_of_the_sweep_always_fits_into_a_transaction(self) -> None:
        rows: dict[Key, Any] = {}
        for number in range(ROWS_AT_ONCE):
            name, device = number.to_bytes(16), b"\x02" + number.to_bytes(32)
            row = Challenge(device, b"o" * 16, b"", CHALLENGE.action, 0, 300, idempotency=name, push=Push.QUEUED)
            decision = rules.issue(0, name, row, None, limits=Limits(), body_sha256=b"")
            rows |= dict(decision.writes)
        assert len(sweep(NOW, rows, emit_events=True).writes) <= MAX_WRITES

    def test_a_pending_challenge_has_no_event(self) -> None:
        with pytest.raises(ValueError, match="not ended"):
            event_of(NOW, NAME, CHALLENGE)


class TestClaims:
    def test_a_claim_counts_its_lease_from_the_claim(self) -> None:
        _, held = claimed()
        assert held.due - LEASE_SECONDS >= NOW
        assert (held.token, held.claims) == (b"token", 1)

    def test_a_new_event_is_claimed_at_once_by_its_writer_and_due_for_others_a_little_later(self) -> None:
        assert event().due == int(NOW) + OWN_SECONDS
        assert claimed()

    def test_a_claimed_event_is_not_claimed_again_within_its_lease(self) -> None:
        _, held = claimed()
        key = event_key(NAME)
        assert claim(NOW + LEASE_SECONDS, [key], [held], b"other").result == []
        ((_, again),) = claim(held.due, [key], [held], b"other").result
        assert (again.token, again.claims) == (b"other", 2)

    def test_an_event_that_is_due_later_is_not_claimed_earlier(self) -> None:
        decision = completed(claimed(), AttemptResult(500))
        later = event_in(decision)
        assert claim(NOW, [event_key(NAME)], [later], b"x").result == []

    def test_a_deleted_event_is_skipped(self) -> None:
        assert claim(NOW, [event_key(NAME)], [None], b"x").writes == ()


def completed(
    one: tuple[bytes, Event],
    result: AttemptResult,
    *,
    now: float = NOW,
    row: Event | None = None,
    jitter: float = 0.5,
    probing: bool = False,
) -> Any:
    return complete(now, [one], [result], [row or one[1]], schedule=SCHEDULE, jitters=[jitter], probing=probing)


class TestResults:
    @pytest.mark.parametrize("status", [200, 201, 204, 299])
    def test_2xx_is_delivered(self, status: int) -> None:
        decision = completed(claimed(), AttemptResult(status))
        assert dict(decision.writes) == {event_key(NAME): None}
        assert decision.result[0].outcome == "success"

    @pytest.mark.parametrize("status", [301, 302, 304, 307, 308, 400, 401, 404, 409, 410, 413, 422, 499])
    def test_redirects_and_other_4xx_are_final_at_once(self, status: int) -> None:
        decision = completed(claimed(), AttemptResult(status))
        writes = dict(decision.writes)
        assert writes[event_key(NAME)] is None
        kept = writes[failure_key(NAME)]
        assert (kept.at, kept.reason, kept.event.tries) == (int(NOW), str(status), 1)
        assert kept.due == int(NOW) + KEPT_SECONDS
        assert decision.result[0].outcome == "failure"

    @pytest.mark.parametrize("status", [0, 101, 408, 425, 429, 500, 502, 503, 504, 599, 600, 999])
    def test_temporary_errors_are_retried(self, status: int) -> None:
        decision = completed(claimed(), AttemptResult(status))
        later = event_in(decision)
        assert later is not None
        assert (later.tries, later.token) == (1, b"")
        assert decision.result[0].outcome == "retry"

    def test_waits_follow_the_schedule_and_the_next_failure_is_final(self) -> None:
        now, row, waits = NOW, event(), []
        for number in range(10):
            ((_, held),) = claim(now, [event_key(NAME)], [row], bytes([number])).result
            writes = dict(completed((NAME, held), AttemptResult(500), now=now).writes)
            if writes[event_key(NAME)] is None:
                break
            row = writes[event_key(NAME)]
            waits.append(row.due - now)
            now = row.due
        assert [wait - wanted for wait, wanted in zip(waits, SCHEDULE, strict=True)] == pytest.approx([0] * 3, abs=1)
        assert writes[failure_key(NAME)].event.tries == len(SCHEDULE) + 1

    @pytest.mark.parametrize(("jitter", "wait"), [(0.0, 24), (1.0, 36)])
    def test_a_wait_is_a_fifth_shorter_or_longer(self, jitter: float, wait: int) -> None:
        _, held = claimed()
        third = event_with(held, tries=2)
        later = event_in(completed((NAME, third), AttemptResult(503), jitter=jitter))
        assert later is not None
        assert later.due - NOW == pytest.approx(wait, abs=1)

    @pytest.mark.parametrize(("retry_after", "wait"), [(100.0, 100), (0.5, 1), (1e9, 1800), (-5.0, 1)])
    def test_retry_after_lengthens_a_wait_up_to_half_an_hour(self, retry_after: float, wait: int) -> None:
        later = event_in(completed(claimed(), AttemptResult(429, "", retry_after)))
        assert later is not None
        assert later.due - NOW == pytest.approx(wait, abs=1)

    def test_a_completion_with_a_stale_token_changes_nothing(self) -> None:
        one = claimed()
        taken_over = event_with(one[1], token=b"other")
        decision = completed(one, AttemptResult(200), row=taken_over)
        assert (decision.writes, decision.result) == ((), [])
        gone = complete(NOW, [one], [AttemptResult(500)], [None], schedule=SCHEDULE, jitters=[0.5])
        assert (gone.writes, gone.result) == ((), [])

    def test_a_failed_probe_uses_up_no_try_and_the_next_probe_uses_another_event(self) -> None:
        one = claimed()
        later = event_in(completed(one, AttemptResult(503), probing=True))
        assert later is not None
        assert later.tries == 0
        assert NOW <= later.due <= NOW + 1
        assert later.token == b""

    def test_a_probe_that_gets_a_final_response_completes_its_event(self) -> None:
        assert completed(claimed(), AttemptResult(200), probing=True).result[0].outcome == "success"
        assert completed(claimed(), AttemptResult(400), probing=True).result[0].outcome == "failure"

    def test_after_a_day_a_probe_uses_up_tries_too(self) -> None:
        one = claimed()
        later = event_in(completed(one, AttemptResult(503), now=NOW + PATIENCE_SECONDS + 1, probing=True))
        assert later is not None
        assert later.tries == 1


def event_with(row: Event, **changed: Any) -> Event:
    return msgspec.structs.replace(row, **changed)


class TestReplay:
    def test_a_replayed_event_starts_the_schedule_again_with_the_same_content(self) -> None:
        failure: Failure = dict(completed(claimed(), AttemptResult(404)).writes)[failure_key(NAME)]
        decision = replay(NOW + 1000, NAME, failure)
        writes = dict(decision.writes)
        again = writes[event_key(NAME)]
        assert writes[failure_key(NAME)] is None
        assert (again.tries, again.claims, again.token, again.due) == (0, 0, b"", int(NOW + 1000))
        assert again.since_ms == int((NOW + 1000) * 1000)
        assert (again.at, again.kind, again.fingerprint) == (int(NOW), event().kind, event().fingerprint)
        assert decision.result is True

    def test_an_event_that_did_not_fail_cannot_be_replayed(self) -> None:
        assert replay(NOW, NAME, None).writes == ()
