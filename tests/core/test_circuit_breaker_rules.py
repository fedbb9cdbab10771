"""The shared row of a circuit breaker: one worker reports an outage, and one at a time probes."""

from __future__ import annotations

from typing import Any

from sigil.core.circuit_breaker import (
    BACKOFF_SECONDS,
    MAX_REASONS,
    PROBE_SECONDS,
    REASON_AGAIN_SECONDS,
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
    """The row, and the decisions of its workers."""

    def __init__(self) -> None:
        self.row: BreakerState | None = None
        self.run = 1

    def record_failure(self, at: float, *, began: float | None = None, probing: bool = False, **said: Any) -> bool:
        began = at if began is None else began
        decision = record_failure(
            at, self.row, key=RELAY_KEY, run=self.run, began=began, probing=probing, jitter=0.5, **said
        )
        self.row = dict(decision.writes).get(RELAY_KEY, self.row)
        return decision.result

    def record_success(self, at: float, *, began: float | None = None) -> float | None:
        decision = record_success(at, self.row, key=RELAY_KEY, run=self.run, began=at if began is None else began)
        self.row = dict(decision.writes).get(RELAY_KEY, self.row)
        return decision.result

    def may_probe(self, at: float) -> bool:
        decision = may_probe(at, self.row, key=RELAY_KEY, run=self.run)
        self.row = dict(decision.writes).get(RELAY_KEY, self.row)
        return decision.result

    @property
    def is_open(self) -> bool:
        return is_open(current_run(self.run, self.row))


def test_the_first_of_many_failures_reports_and_so_does_the_first_of_many_successes() -> None:
    host = Host()
    assert [host.record_failure(NOW + n) for n in range(3)] == [True, False, False]
    assert host.is_open
    assert [host.record_success(NOW + 5 + n) for n in range(3)] == [5.0, None, None]
    assert not host.is_open
    assert host.record_failure(NOW + 20)


def test_a_probe_that_fails_for_another_reason_is_reported() -> None:
    host = Host()
    assert host.record_failure(NOW, reason="no connection (Connection refused)")
    assert not host.record_failure(NOW + 1, probing=True, reason="no connection (Network is unreachable)")
    assert not host.record_failure(NOW + 2, reason="401")
    assert host.record_failure(NOW + 3, probing=True, reason="401")
    assert not host.record_failure(NOW + 4, probing=True, reason="401")
    assert host.record_failure(NOW + 5, probing=True, reason="no connection (Connection refused)")
    assert host.record_success(NOW + 6) == 6
    assert host.record_failure(NOW + 7, reason="no connection (Connection refused)")


def test_reasons_that_change_without_end_are_reported_a_few_times_and_then_every_ten_minutes() -> None:
    host, reports = Host(), 0
    for second in range(0, 2 * REASON_AGAIN_SECONDS, 15):
        reports += host.record_failure(NOW + second, probing=True, reason=("502", "503")[second // 15 % 2])
    assert reports == MAX_REASONS + 1


def test_an_outage_that_outlasts_the_start_of_the_stack_is_reported_again() -> None:
    host = Host()
    assert host.record_failure(NOW, reason="401", starting=True)
    assert not host.record_failure(NOW + 30, probing=True, reason="401", starting=True)
    assert host.record_failure(NOW + 61, probing=True, reason="401")
    assert not host.record_failure(NOW + 76, probing=True, reason="401")


def test_a_success_of_a_request_that_began_before_the_outage_does_not_end_it() -> None:
    host = Host()
    host.record_failure(NOW)
    assert host.record_success(NOW + 1, began=NOW - 1) is None
    assert host.is_open


def test_a_failure_of_a_request_that_began_before_the_recovery_begins_no_outage() -> None:
    host = Host()
    host.record_failure(NOW)
    host.record_success(NOW + 5)
    assert not host.record_failure(NOW + 6, began=NOW - 5)
    assert not host.is_open


def test_one_worker_at_a_time_probes_with_growing_intervals() -> None:
    host, at = Host(), NOW
    host.record_failure(at)
    for seconds in (*BACKOFF_SECONDS[1:], BACKOFF_SECONDS[-1], BACKOFF_SECONDS[-1]):
        at = host.row.probe_ms / 1000 if host.row else 0
        assert not host.may_probe(at - 0.01)
        assert host.may_probe(at)
        assert not host.may_probe(at)
        assert not host.record_failure(at, probing=True)
        assert host.row is not None
        assert host.row.probe_ms == int((at + seconds) * 1000)


def test_another_worker_probes_when_the_prober_has_died() -> None:
    host = Host()
    host.record_failure(NOW)
    assert host.may_probe(NOW + 2)
    assert not host.may_probe(NOW + 2 + PROBE_SECONDS - 1)
    assert host.may_probe(NOW + 2 + PROBE_SECONDS)


def test_no_worker_probes_while_the_breaker_is_closed() -> None:
    host = Host()
    assert not host.may_probe(NOW)
    host.record_failure(NOW)
    host.record_success(NOW + 1)
    assert not host.may_probe(NOW + 100)


def test_a_new_start_of_the_server_reports_an_outage_again() -> None:
    host = Host()
    host.record_failure(NOW)
    host.run = 2
    assert not host.is_open
    assert host.record_failure(NOW + 1)


def test_a_clock_that_was_set_back_does_not_stop_probes_or_recovery() -> None:
    host = Host()
    host.record_failure(NOW)
    assert host.may_probe(NOW - 86_400)
    assert host.record_success(NOW - 86_400) == 0
    assert not host.is_open
    assert host.record_failure(NOW - 86_000)
