"""One row tells all workers whether the relay is there, so that each outage is told of once and tried by one."""

from __future__ import annotations

from sigil.core.circuit_breaker import (
    BACKOFF_SECONDS,
    PROBE_SECONDS,
    RELAY_KEY,
    BreakerState,
    current_run,
    is_open,
    may_probe,
    record_failure,
    record_success,
)

NOW = 1_000_000.0


class Host:
    """The row, and the decisions of whoever asks."""

    def __init__(self) -> None:
        self.row: BreakerState | None = None
        self.run = 1

    def fails(self, at: float, *, began: float | None = None, probing: bool = False) -> bool:
        decision = record_failure(
            at, self.row, key=RELAY_KEY, run=self.run, began=at if began is None else began, probing=probing, jitter=0.5
        )
        self.row = dict(decision.writes).get(RELAY_KEY, self.row)
        return decision.result

    def answers(self, at: float, *, began: float | None = None) -> float | None:
        decision = record_success(at, self.row, key=RELAY_KEY, run=self.run, began=at if began is None else began)
        self.row = dict(decision.writes).get(RELAY_KEY, self.row)
        return decision.result

    def may_probe(self, at: float) -> bool:
        decision = may_probe(at, self.row, key=RELAY_KEY, run=self.run)
        self.row = dict(decision.writes).get(RELAY_KEY, self.row)
        return decision.result

    @property
    def away(self) -> bool:
        return is_open(current_run(self.run, self.row))


def test_of_many_failures_the_first_tells_and_of_many_answers_too() -> None:
    host = Host()
    assert [host.fails(NOW + n) for n in range(3)] == [True, False, False]
    assert host.away
    assert [host.answers(NOW + 5 + n) for n in range(3)] == [5.0, None, None]
    assert not host.away
    assert host.fails(NOW + 20)


def test_an_answer_to_what_was_asked_before_the_outage_does_not_end_it() -> None:
    host = Host()
    host.fails(NOW)
    assert host.answers(NOW + 1, began=NOW - 1) is None
    assert host.away


def test_a_failure_of_what_was_asked_before_the_recovery_begins_no_outage() -> None:
    host = Host()
    host.fails(NOW)
    host.answers(NOW + 5)
    assert not host.fails(NOW + 6, began=NOW - 5)
    assert not host.away


def test_one_worker_at_a_time_probes_ever_more_rarely() -> None:
    host, at = Host(), NOW
    host.fails(at)
    for seconds in (*BACKOFF_SECONDS[1:], BACKOFF_SECONDS[-1], BACKOFF_SECONDS[-1]):
        at = host.row.probe_ms / 1000 if host.row else 0
        assert not host.may_probe(at - 0.01)
        assert host.may_probe(at)
        assert not host.may_probe(at)
        assert not host.fails(at, probing=True)
        assert host.row is not None
        assert host.row.probe_ms == int((at + seconds) * 1000)


def test_another_probes_when_the_one_who_did_has_died() -> None:
    host = Host()
    host.fails(NOW)
    assert host.may_probe(NOW + 2)
    assert not host.may_probe(NOW + 2 + PROBE_SECONDS - 1)
    assert host.may_probe(NOW + 2 + PROBE_SECONDS)


def test_nobody_probes_a_relay_that_is_there() -> None:
    host = Host()
    assert not host.may_probe(NOW)
    host.fails(NOW)
    host.answers(NOW + 1)
    assert not host.may_probe(NOW + 100)


def test_a_new_start_of_the_server_tells_of_an_outage_anew() -> None:
    host = Host()
    host.fails(NOW)
    host.run = 2
    assert not host.away
    assert host.fails(NOW + 1)


def test_a_clock_that_was_set_back_locks_nobody_out() -> None:
    host = Host()
    host.fails(NOW)
    assert host.may_probe(NOW - 86_400)
    assert host.answers(NOW - 86_400) == 0
    assert not host.away
    assert host.fails(NOW - 86_000)
