"""How the figures of a Locust run are read, and what makes a run fail."""

from __future__ import annotations

import math

import msgspec
import pytest

from loadtest.outcome import Entry, Fault, Outcome, Timed, faults, percentile, rate, verdict, window

START = 1_800_000_000


def entry(name: str, requests: int, failures: int = 0, per_second: dict[int, int] | None = None) -> Entry:
    return Entry(name, requests, failures, {5: requests}, per_second or {})


def run(*, complete: int, failures: int = 0, users: int = 2, told: list[Fault] | None = None) -> Outcome:
    begun = complete + failures
    entries = [
        entry("connect", users, per_second={START: users}),
        entry("create", begun),
        entry("answer", begun, failures),
        entry("status", complete),
        entry("complete", complete, per_second={START + second: complete // 10 for second in range(10)}),
    ]
    return Outcome(entries, told or [], Timed())


def whats(outcome: Outcome, users: int = 2) -> list[str]:
    return [fault.what for fault in faults(outcome, users)]


def test_what_locust_writes_is_what_is_read() -> None:
    outcome = run(complete=20, told=[Fault("answer: status 503 in place of 200", 3)])
    assert msgspec.json.decode(msgspec.json.encode(outcome), type=Outcome) == outcome


@pytest.mark.parametrize(("share", "expected"), [(0.5, 3), (0.95, 9), (0.99, 9), (0.9, 3), (0.0, 1)])
def test_a_percentile_is_the_least_time_that_the_share_did_not_exceed(share: float, expected: int) -> None:
    assert percentile({9: 1, 1: 4, 3: 5}, share) == expected


def test_there_is_no_percentile_of_nothing() -> None:
    assert math.isnan(percentile({}, 0.5))


def test_the_rate_leaves_out_the_warm_up_and_what_ends_after_the_load() -> None:
    per_second = {START: 1, START + 1: 100, START + 2: 200, START + 3: 300, START + 4: 7}
    outcome = Outcome([entry("connect", 1, per_second={START: 1}), entry("complete", 608, 0, per_second)], [], Timed())
    assert rate(outcome, 4) == 200
    assert window(outcome, 60) == range(START + 6, START + 60)


def test_seconds_in_which_nothing_ended_count() -> None:
    outcome = Outcome([entry("complete", 90, 0, {START: 1, START + 1: 90})], [], Timed())
    assert rate(outcome, 10) == 10


def test_a_run_without_any_request_has_the_rate_zero_and_is_an_error() -> None:
    nothing = Outcome([], [], Timed())
    assert rate(nothing, 60) == 0
    assert whats(nothing) == ["2 users were asked for and 0 came", "no challenge was completed"]


def test_a_good_run_has_no_faults() -> None:
    assert faults(run(complete=100), 2) == []


def test_what_locust_recorded_is_a_fault() -> None:
    outcome = run(complete=100, failures=3, told=[Fault("answer: status 503 in place of 200", 3)])
    assert faults(outcome, 2) == [Fault("answer: status 503 in place of 200", 3)]


def test_failures_count_even_when_their_names_are_lost() -> None:
    assert faults(run(complete=100, failures=3), 2) == [Fault("failures that Locust did not name", 3)]


def test_users_that_never_came_are_a_fault() -> None:
    assert whats(run(complete=100, users=1)) == ["2 users were asked for and 1 came"]


def test_challenges_without_an_end_are_a_fault() -> None:
    outcome = run(complete=100)
    hanging = [entry("create", 105) if each.name == "create" else each for each in outcome.entries]
    found = faults(msgspec.structs.replace(outcome, entries=hanging), 2)
    assert found == [Fault("challenges neither completed nor failed", 5)]


@pytest.mark.parametrize(
    ("reached", "found", "good"),
    [
        (1000.0, [], True),
        (999.9, [], False),
        (5000.0, [Fault("create: status 503 in place of 201", 1)], False),
    ],
)
def test_under_a_thousand_a_second_or_with_any_error_a_run_fails(
    reached: float, found: list[Fault], good: bool
) -> None:
    assert (verdict(reached, 1000, found) is None) == good


@pytest.mark.parametrize(("others", "told"), [(0.79, True), (0.05, False)])
def test_a_rate_that_others_may_have_spoiled_says_so(others: float, told: bool) -> None:
    wrong = verdict(139.0, 1000, [], others)
    assert wrong is not None
    assert ("others took 79% of the machine" in wrong) == told
