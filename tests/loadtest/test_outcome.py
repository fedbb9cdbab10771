"""The evaluation of the results of a Locust run, and the conditions under which a run fails."""

from __future__ import annotations

import math

import msgspec
import pytest

from loadtest.locust_run.outcome import Entry, Fault, Outcome, Timed, faults, percentile, rate, window

START = 1_800_000_000


def entry(name: str, requests: int, failures: int = 0, per_second: dict[int, int] | None = None) -> Entry:
    return Entry(name, requests, failures, {5: requests}, per_second or {})


def run(*, complete: int, failures: int = 0, users: int = 2, faults_of_locust: list[Fault] | None = None) -> Outcome:
    started = complete + failures
    entries = [
        entry("connect", users, per_second={START: users}),
        entry("create", started),
        entry("answer", started, failures),
        entry("status", complete),
        entry("complete", complete, per_second={START + second: complete // 10 for second in range(10)}),
    ]
    return Outcome(entries, faults_of_locust or [], Timed(), {})


def fault_texts(outcome: Outcome, users: int = 2) -> list[str]:
    return [fault.what for fault in faults(outcome, users)]


def test_an_outcome_is_the_same_after_encoding_and_decoding() -> None:
    outcome = run(complete=20, faults_of_locust=[Fault("answer: status 503 instead of 200", 3)])
    assert msgspec.json.decode(msgspec.json.encode(outcome), type=Outcome) == outcome


@pytest.mark.parametrize(("share", "expected"), [(0.5, 3), (0.95, 9), (0.99, 9), (0.9, 3), (0.0, 1)])
def test_a_percentile_is_the_smallest_time_that_the_share_did_not_exceed(share: float, expected: int) -> None:
    assert percentile({9: 1, 1: 4, 3: 5}, share) == expected


def test_the_percentile_of_no_requests_is_nan() -> None:
    assert math.isnan(percentile({}, 0.5))


def test_the_rate_excludes_the_warm_up_and_challenges_after_the_load() -> None:
    per_second = {START: 1, START + 1: 100, START + 2: 200, START + 3: 300, START + 4: 7}
    outcome = Outcome(
        [entry("connect", 1, per_second={START: 1}), entry("complete", 608, 0, per_second)], [], Timed(), {}
    )
    assert rate(outcome, 4) == 200
    assert window(outcome, 60) == range(START + 6, START + 60)


def test_seconds_without_completed_challenges_count() -> None:
    outcome = Outcome([entry("complete", 90, 0, {START: 1, START + 1: 90})], [], Timed(), {})
    assert rate(outcome, 10) == 10


def test_a_run_without_any_request_has_the_rate_zero_and_is_an_error() -> None:
    nothing = Outcome([], [], Timed(), {})
    assert rate(nothing, 60) == 0
    assert fault_texts(nothing) == ["2 users were started and 0 connected", "no challenge was completed"]


def test_a_good_run_has_no_faults() -> None:
    assert faults(run(complete=100), 2) == []


def test_an_error_that_locust_recorded_is_a_fault() -> None:
    outcome = run(complete=100, failures=3, faults_of_locust=[Fault("answer: status 503 instead of 200", 3)])
    assert faults(outcome, 2) == [Fault("answer: status 503 instead of 200", 3)]


def test_failures_without_an_error_are_a_fault() -> None:
    assert faults(run(complete=100, failures=3), 2) == [Fault("failures without an error in Locust's report", 3)]


def test_users_that_never_connected_are_a_fault() -> None:
    assert fault_texts(run(complete=100, users=1)) == ["2 users were started and 1 connected"]


def test_challenges_without_an_end_are_a_fault() -> None:
    outcome = run(complete=100)
    hanging = [entry("create", 105) if each.name == "create" else each for each in outcome.entries]
    faults_found = faults(msgspec.structs.replace(outcome, entries=hanging), 2)
    assert faults_found == [Fault("challenges neither completed nor failed", 5)]
