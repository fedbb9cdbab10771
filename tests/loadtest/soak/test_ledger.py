"""The account of decisions finds each planted fault, and nothing in an account that agrees."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from loadtest.soak.ledger import Ledger, Quorum

CHALLENGE, APPROVAL = "c1", "m1"
ALICE, BOB, CAROL = "aaaa", "bbbb", "cccc"
EXPIRES = 100.0
QUORUM = Quorum([[ALICE, BOB], [CAROL]], 2, "continue")

Plant = Callable[[Ledger], None]


def challenge_that_was_verified() -> Ledger:
    ledger = Ledger()
    ledger.created("challenge", CHALLENGE, "key-1", EXPIRES)
    ledger.signed(CHALLENGE, ALICE, "approved")
    ledger.accepted(CHALLENGE, ALICE, "approved")
    ledger.observed(CHALLENGE, "device", "verified", 10, 11)
    ledger.observed(CHALLENGE, "backend", "verified", 12, 13)
    ledger.event("evt_c1", "challenge.verified", CHALLENGE, "verified")
    return ledger


def challenge_that_expired() -> Ledger:
    ledger = Ledger()
    ledger.created("challenge", CHALLENGE, "key-1", EXPIRES)
    ledger.observed(CHALLENGE, "backend", "expired", 100, 101)
    ledger.event("evt_c1", "challenge.expired", CHALLENGE, "expired")
    return ledger


def request_that_was_approved() -> Ledger:
    ledger = Ledger()
    ledger.created("approval", APPROVAL, "key-2", EXPIRES, QUORUM)
    for name in (BOB, CAROL):
        ledger.signed(APPROVAL, name, "approved")
        ledger.accepted(APPROVAL, name, "approved")
    ledger.observed(APPROVAL, "backend", "approved", 12, 13)
    ledger.final_votes(APPROVAL, [(BOB, "approved"), (CAROL, "approved")])
    ledger.event("evt_m1", "mpa.approved", APPROVAL, "approved")
    return ledger


ACCOUNTS = [challenge_that_was_verified, challenge_that_expired, request_that_was_approved]


@pytest.mark.parametrize("account", ACCOUNTS)
def test_an_account_that_agrees_has_no_violations(account: Callable[[], Ledger]) -> None:
    ledger = account()
    assert ledger.check() == []
    assert ledger.missing_events() == []


PLANTED: dict[str, tuple[Callable[[], Ledger], Plant, str]] = {
    "the backend reads another state than the device was given": (
        challenge_that_was_verified,
        lambda ledger: ledger.observed(CHALLENGE, "backend", "rejected", 14, 15),
        "contradicting",
    ),
    "an acknowledged answer is lost": (
        challenge_that_expired,
        lambda ledger: (ledger.signed(CHALLENGE, ALICE, "approved"), ledger.accepted(CHALLENGE, ALICE, "approved")),
        "lost",
    ),
    "an answer is accepted twice": (
        challenge_that_was_verified,
        lambda ledger: ledger.accepted(CHALLENGE, ALICE, "approved"),
        "doubled",
    ),
    "both decisions of a race are accepted": (
        challenge_that_was_verified,
        lambda ledger: (ledger.signed(CHALLENGE, ALICE, "rejected"), ledger.accepted(CHALLENGE, ALICE, "rejected")),
        "doubled",
    ),
    "a retry with the same key creates another challenge": (
        challenge_that_was_verified,
        lambda ledger: ledger.created("challenge", "c2", "key-1", EXPIRES),
        "doubled",
    ),
    "a device receives a challenge that no backend created": (
        challenge_that_was_verified,
        lambda ledger: ledger.signed("c2", ALICE, "approved"),
        "doubled",
    ),
    "a final state becomes pending": (
        challenge_that_was_verified,
        lambda ledger: ledger.observed(CHALLENGE, "backend", "pending", 14, 15),
        "reverted",
    ),
    "a challenge expires too early": (
        challenge_that_expired,
        lambda ledger: ledger.observed(CHALLENGE, "backend", "expired", 50, 51),
        "early",
    ),
    "the server must know it, and does not": (
        challenge_that_was_verified,
        lambda ledger: ledger.lost(CHALLENGE, "the status is 404"),
        "lost",
    ),
    "an event reports another state": (
        challenge_that_was_verified,
        lambda ledger: ledger.event("evt_c1", "challenge.expired", CHALLENGE, "expired"),
        "event_false",
    ),
    "an event reports a challenge that was never created": (
        challenge_that_was_verified,
        lambda ledger: ledger.event("evt_c9", "challenge.expired", "c9", "expired"),
        "doubled",
    ),
    "an event has another id": (
        challenge_that_was_verified,
        lambda ledger: ledger.event("evt_other", "challenge.verified", CHALLENGE, "verified"),
        "event_changed",
    ),
    "a vote is accepted twice": (
        request_that_was_approved,
        lambda ledger: ledger.accepted(APPROVAL, BOB, "approved"),
        "doubled",
    ),
    "an acknowledged vote is not in the result": (
        request_that_was_approved,
        lambda ledger: (ledger.signed(APPROVAL, ALICE, "approved"), ledger.accepted(APPROVAL, ALICE, "approved")),
        "lost",
    ),
    "the votes change after the end": (
        request_that_was_approved,
        lambda ledger: ledger.final_votes(APPROVAL, [(BOB, "approved")]),
        "contradicting",
    ),
    "the result has a vote that its device did not sign": (
        request_that_was_approved,
        lambda ledger: ledger.entries[APPROVAL].signed.pop(BOB),
        "forged",
    ),
}


@pytest.mark.parametrize(("account", "plant", "kind"), PLANTED.values(), ids=PLANTED)
def test_a_planted_fault_is_found(account: Callable[[], Ledger], plant: Plant, kind: str) -> None:
    ledger = account()
    plant(ledger)
    assert kind in {violation.kind for violation in ledger.check()}


def test_a_verified_challenge_that_no_device_approved_is_forged() -> None:
    ledger = Ledger()
    ledger.created("challenge", CHALLENGE, "key-1", EXPIRES)
    ledger.signed(CHALLENGE, ALICE, "rejected")
    ledger.observed(CHALLENGE, "backend", "verified", 12, 13)
    assert "forged" in {violation.kind for violation in ledger.check()}


def test_a_challenge_without_a_final_state_is_lost() -> None:
    ledger = Ledger()
    ledger.created("challenge", CHALLENGE, "key-1", EXPIRES)
    ledger.observed(CHALLENGE, "backend", "pending", 12, 13)
    assert [violation.kind for violation in ledger.check()] == ["lost"]


def test_an_event_that_never_arrives_is_missing_and_a_cancellation_has_none() -> None:
    ledger = Ledger()
    for subject, state in ((CHALLENGE, "expired"), ("c2", "cancelled")):
        ledger.created("challenge", subject, f"key of {subject}", EXPIRES)
        ledger.observed(subject, "backend", state, 100, 101)
    assert ledger.missing_events() == [CHALLENGE]
    assert [violation.kind for violation in ledger.check()] == ["event_missing"]
    ledger.event("evt_c1", "challenge.expired", CHALLENGE, "expired")
    ledger.event("evt_c1", "challenge.expired", CHALLENGE, "expired")
    assert ledger.check() == []
    assert ledger.counts()["deliveries repeated"] == 1
    ledger.event("evt_c2", "challenge.cancelled", "c2", "cancelled")
    assert ledger.counts()["events"] == 2


def test_a_device_and_a_receiver_may_see_a_challenge_before_the_backend_reads_the_response() -> None:
    ledger = Ledger()
    ledger.signed(CHALLENGE, ALICE, "approved")
    ledger.accepted(CHALLENGE, ALICE, "approved")
    ledger.event("evt_c1", "challenge.verified", CHALLENGE, "verified")
    ledger.created("challenge", CHALLENGE, "key-1", EXPIRES)
    ledger.observed(CHALLENGE, "backend", "verified", 12, 13)
    assert ledger.check() == []


def test_a_request_whose_state_does_not_follow_from_its_votes_is_contradicting() -> None:
    ledger = request_that_was_approved()
    ledger.entries[APPROVAL].quorum = Quorum([[ALICE], [BOB], [CAROL]], 3, "continue")
    assert "contradicting" in {violation.kind for violation in ledger.check()}


@pytest.mark.parametrize(
    ("votes", "policy", "outcome"),
    [
        ({}, "continue", "pending"),
        ({ALICE: "approved"}, "continue", "pending"),
        ({ALICE: "rejected"}, "continue", "pending"),
        ({ALICE: "rejected"}, "reject_on_first", "rejected"),
        ({ALICE: "rejected", BOB: "rejected"}, "continue", "rejected"),
        ({CAROL: "rejected"}, "continue", "rejected"),
        ({ALICE: "rejected", BOB: "approved", CAROL: "approved"}, "continue", "approved"),
    ],
)
def test_the_quorum_counts_groups(votes: dict[str, str], policy: str, outcome: str) -> None:
    assert Quorum(QUORUM.groups, QUORUM.required, policy).outcome(votes) == outcome
