"""Challenges that expire without a response."""

from __future__ import annotations

from .conftest import ExpiringChallenges
from .integrator import approval, assert_error, assert_ok, rejection, respond
from .wire import MPA, Device


def test_the_status_of_an_expired_challenge_is_expired(expiring: ExpiringChallenges) -> None:
    expired = expiring.after_expiry()
    state = expired.owner.state(expired.unanswered["challenge_id"])
    assert state["status"] == "expired"
    assert state["expires_at"] == expired.unanswered["expires_at"]
    assert state.get("decision") is None
    assert state.get("verified_at") is None


def test_a_long_poll_for_an_expired_challenge_returns_at_once(expiring: ExpiringChallenges) -> None:
    expired = expiring.after_expiry()
    assert assert_ok(expired.owner.status(expired.unanswered["challenge_id"], wait=25))["status"] == "expired"


def test_an_expired_challenge_accepts_no_response(expiring: ExpiringChallenges) -> None:
    expired = expiring.after_expiry()
    assert_error(respond(expired.server, approval(expired.device, expired.unanswered)), 410, "CHALLENGE_EXPIRED")
    assert_error(respond(expired.server, rejection(expired.device, expired.unanswered)), 410, "CHALLENGE_EXPIRED")
    assert expired.owner.state(expired.unanswered["challenge_id"])["status"] == "expired"


def test_a_wrong_signature_for_an_expired_challenge_is_an_invalid_signature(expiring: ExpiringChallenges) -> None:
    expired = expiring.after_expiry()
    assert_error(respond(expired.server, approval(Device(), expired.unanswered)), 401, "INVALID_SIGNATURE")
    assert_error(
        respond(expired.server, approval(expired.device, expired.unanswered, tag=MPA)), 401, "INVALID_SIGNATURE"
    )


def test_an_expired_challenge_cannot_be_cancelled(expiring: ExpiringChallenges) -> None:
    expired = expiring.after_expiry()
    for _ in range(2):
        details = assert_error(
            expired.owner.cancel(expired.cancelled_late["challenge_id"]), 409, "CHALLENGE_ALREADY_USED"
        )
        assert details["status"] == "expired"


def test_an_answered_challenge_stays_verified_after_its_expiry_time(expiring: ExpiringChallenges) -> None:
    expired = expiring.after_expiry()
    assert assert_ok(expired.response)["status"] == "verified"
    assert expired.owner.state(expired.answered["challenge_id"])["status"] == "verified"
    assert_error(respond(expired.server, expired.response_body), 409, "CHALLENGE_ALREADY_USED")


def test_a_match_code_is_not_shown_after_expiry(expiring: ExpiringChallenges) -> None:
    expired = expiring.after_expiry()
    state = expired.owner.state(expired.with_match_code["challenge_id"])
    assert state["status"] == "expired"
    assert state.get("match_code") is None


def test_an_expired_challenge_is_no_longer_listed(expiring: ExpiringChallenges) -> None:
    expired = expiring.after_expiry()
    assert expired.unanswered["challenge_id"] in expired.listed_before_expiry
    assert expired.pending(expired.device) == []


def test_expired_challenges_no_longer_count_as_pending(expiring: ExpiringChallenges) -> None:
    expired = expiring.after_expiry()
    assert len(expired.challenges_at_limit) == 5
    owner, device = expired.owner, expired.device_at_limit
    challenges = [owner.challenge(device) for _ in range(5)]
    assert_error(owner.create(device), 429, "TOO_MANY_PENDING")
    for challenge in challenges:
        assert_ok(owner.cancel(challenge["challenge_id"]))
