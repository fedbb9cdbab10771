"""What votes decide, for all orders of votes."""

from __future__ import annotations

import itertools
from typing import Literal

from hypothesis import given, settings
from hypothesis import strategies as st

from sigil.core.approvals.quorum import APPROVED, NOT_ELIGIBLE, OPEN, REJECTED, Quorum, with_ballot

SIZES = st.lists(st.integers(1, 4), min_size=1, max_size=5)
Votes = list[tuple[int, bool]]
many = settings(max_examples=300)


@st.composite
def elections(draw: st.DrawFn, reject_on_first: bool = False) -> tuple[Quorum, bytes, Votes]:
    """A quorum, ballots of which some are not eligible, and one vote each of some eligible members."""
    sizes = draw(SIZES)
    quorum = Quorum(sizes, draw(st.integers(1, len(sizes))), reject_on_first)
    members = sum(sizes)
    ballots = b"".join(draw(st.sampled_from([OPEN] * 9 + [NOT_ELIGIBLE])) for _ in range(members))
    eligible = [member for member in range(members) if ballots[member : member + 1] == OPEN]
    voters = draw(st.lists(st.sampled_from(eligible), unique=True)) if eligible else []
    return quorum, ballots, [(member, draw(st.booleans())) for member in voters]


def count(quorum: Quorum, ballots: bytes, votes: Votes) -> tuple[Literal["approve", "reject"] | None, bytes]:
    """As the service counts: one after the other, until one vote ends the request."""
    for member, approved in votes:
        ballots = with_ballot(ballots, member, APPROVED if approved else REJECTED)
        if outcome := quorum.outcome(ballots):
            return outcome, ballots
    return quorum.outcome(ballots), ballots


@given(elections(), st.randoms(use_true_random=False))
@many
def test_with_continue_the_order_of_votes_never_matters(election: tuple[Quorum, bytes, Votes], random: object) -> None:
    quorum, ballots, votes = election
    other = list(votes)
    random.shuffle(other)  # type: ignore[attr-defined]
    assert count(quorum, ballots, votes)[0] == count(quorum, ballots, other)[0]


def test_every_order_of_five_votes_decides_the_same() -> None:
    """Two of three groups, exhaustively."""
    quorum = Quorum((2, 2, 1), 2)
    for decisions in itertools.product([True, False], repeat=5):
        votes = list(enumerate(decisions))
        outcomes = {count(quorum, OPEN * 5, list(order))[0] for order in itertools.permutations(votes)}
        assert len(outcomes) == 1, decisions


@given(elections())
@many
def test_with_continue_a_request_is_rejected_exactly_when_the_quorum_is_impossible(
    election: tuple[Quorum, bytes, Votes],
) -> None:
    quorum, ballots, votes = election
    outcome, counted = count(quorum, ballots, votes)
    reachable = len(quorum.satisfied(counted.replace(OPEN, APPROVED)))
    assert (outcome == "reject") == (reachable < quorum.required)


@given(elections())
@many
def test_a_request_is_approved_exactly_when_enough_groups_approve_and_no_group_counts_twice(
    election: tuple[Quorum, bytes, Votes],
) -> None:
    quorum, ballots, votes = election
    outcome, counted = count(quorum, ballots, votes)
    groups = {quorum.group_of(member) for member in range(len(counted)) if counted[member : member + 1] == APPROVED}
    assert quorum.satisfied(counted) == sorted(groups)
    assert (outcome == "approve") == (len(groups) >= quorum.required)


@given(elections(reject_on_first=True))
@many
def test_with_reject_on_first_the_first_rejection_ends_a_request_that_is_not_approved_yet(
    election: tuple[Quorum, bytes, Votes],
) -> None:
    quorum, ballots, votes = election
    if quorum.is_impossible(ballots):
        return
    outcome, counted = count(quorum, ballots, votes)
    assert counted.count(REJECTED) == (outcome == "reject")


@given(SIZES, st.data())
@many
def test_a_member_belongs_to_one_group(sizes: list[int], data: st.DataObject) -> None:
    quorum = Quorum(sizes, 1)
    member = data.draw(st.integers(0, sum(sizes) - 1))
    ballots = with_ballot(OPEN * sum(sizes), member, APPROVED)
    assert quorum.satisfied(ballots) == [quorum.group_of(member)]
