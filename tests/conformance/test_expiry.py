"""What becomes of challenges that nobody answered in time."""

from __future__ import annotations

from .conftest import Ageing
from .integrator import approval, good, refused, rejection, respond
from .wire import MPA, Device


def test_expiry_is_read_in_the_status(ageing: Ageing) -> None:
    old = ageing.over()
    state = old.owner.state(old.unanswered["challenge_id"])
    assert state["status"] == "expired"
    assert state["expires_at"] == old.unanswered["expires_at"]
    assert state.get("decision") is None
    assert state.get("verified_at") is None


def test_a_wait_for_an_expired_challenge_answers_at_once(ageing: Ageing) -> None:
    old = ageing.over()
    assert good(old.owner.status(old.unanswered["challenge_id"], wait=25))["status"] == "expired"


def test_an_expired_challenge_takes_no_answer(ageing: Ageing) -> None:
    old = ageing.over()
    refused(respond(old.server, approval(old.device, old.unanswered)), 410, "CHALLENGE_EXPIRED")
    refused(respond(old.server, rejection(old.device, old.unanswered)), 410, "CHALLENGE_EXPIRED")
    assert old.owner.state(old.unanswered["challenge_id"])["status"] == "expired"


def test_a_wrong_signature_on_an_expired_challenge_is_still_that(ageing: Ageing) -> None:
    old = ageing.over()
    refused(respond(old.server, approval(Device(), old.unanswered)), 401, "INVALID_SIGNATURE")
    refused(respond(old.server, approval(old.device, old.unanswered, tag=MPA)), 401, "INVALID_SIGNATURE")


def test_an_expired_challenge_cannot_be_cancelled(ageing: Ageing) -> None:
    old = ageing.over()
    for _ in range(2):
        details = refused(old.owner.cancel(old.cancelled_late["challenge_id"]), 409, "CHALLENGE_ALREADY_USED")
        assert details["status"] == "expired"


def test_an_answered_challenge_stays_verified_past_its_time(ageing: Ageing) -> None:
    old = ageing.over()
    assert good(old.answer_reply)["status"] == "verified"
    assert old.owner.state(old.answered["challenge_id"])["status"] == "verified"
    refused(respond(old.server, old.answer), 409, "CHALLENGE_ALREADY_USED")


def test_a_match_code_is_not_shown_after_expiry(ageing: Ageing) -> None:
    old = ageing.over()
    state = old.owner.state(old.coded["challenge_id"])
    assert state["status"] == "expired"
    assert state.get("match_code") is None


def test_an_expired_challenge_is_no_longer_listed(ageing: Ageing) -> None:
    old = ageing.over()
    assert old.unanswered["challenge_id"] in old.listed
    assert old.pending(old.device) == []


def test_expired_challenges_no_longer_count_as_pending(ageing: Ageing) -> None:
    old = ageing.over()
    assert len(old.full) == 5
    owner, device = old.owner, old.full_device
    made = [owner.challenge(device) for _ in range(5)]
    refused(owner.create(device), 429, "TOO_MANY_PENDING")
    for challenge in made:
        good(owner.cancel(challenge["challenge_id"]))
