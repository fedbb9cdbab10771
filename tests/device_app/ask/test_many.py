"""Approval requests: what is required, what the others do, and what became of the own vote."""

from __future__ import annotations

import pytest

from sigil.device import Device

from .decider import Decider

DEPLOY = "Deploy 7.1 to production"


def test_a_vote_with_an_outstanding_group_is_recorded_and_shows_the_quorum(decider: Decider) -> None:
    other = Device.generate()
    created = decider.approval(other, required=2)
    decider.at_request(DEPLOY).person.sees("2 groups must approve", "Several people decide on this request.")
    decider.approve()
    decider.at("Your approval is recorded").person.sees("Required groups that have approved: 1 of 2.")
    assert decider.vote(other, created)["status"] == "approved"
    assert decider.approval_status(created)["status"] == "approved"


def test_the_last_missing_vote_approves(decider: Decider) -> None:
    other = Device.generate()
    decider.vote(other, decider.approval(other, required=2))
    decider.at_request(DEPLOY).approve()
    decider.at("Approved").person.sees("Required groups that have approved: 2 of 2.")


def test_a_vote_for_a_group_that_has_approved_is_recorded_as_well(decider: Decider) -> None:
    colleague = Device.generate()
    decider.vote(colleague, decider.approval(Device.generate(), required=2, own_group=(colleague,)))
    decider.at_request(DEPLOY).approve()
    decider.at("Your approval is recorded").person.sees("Your group had already approved.")


@pytest.mark.parametrize(
    ("policy", "heading", "fact"),
    [
        ("continue", "Your rejection is recorded", "1 group must approve"),
        ("reject_on_first", "Rejected", "A single rejection ends the request for everyone"),
    ],
)
def test_a_rejection_ends_the_request_only_where_the_request_says_so(
    decider: Decider, policy: str, heading: str, fact: str
) -> None:
    created = decider.approval(Device.generate(), required=1, reject_policy=policy)
    decider.at_request(DEPLOY).person.sees(fact)
    decider.reject("Not now")
    decider.at(heading)
    vote = decider.approval_status(created)["votes"][0]
    assert (vote["decision"], vote["reason"]) == ("rejected", "cancelled")


def test_others_who_reject_while_it_is_open_close_it(decider: Decider) -> None:
    other = Device.generate()
    created = decider.approval(other, required=1, reject_policy="reject_on_first")
    decider.at_request(DEPLOY).vote(other, created, "rejected")
    decider.at("The request is no longer open")


@pytest.mark.parametrize("own", [True, False])
def test_the_requester_is_named_by_its_pictogram(decider: Decider, own: bool) -> None:
    other = Device.generate()
    fingerprint = decider.fingerprint if own else other.fingerprint
    action = {"type": "deploy", "description": DEPLOY, "params": {"requested_by": fingerprint}}
    decider.approval(other, required=1, action=action)
    decider.at_request(DEPLOY).person.sees("this device" if own else other.pictogram_speakable, fingerprint)
