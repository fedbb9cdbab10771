"""What votes decide: a function of the ballots alone, independent of their order of arrival (docs/protocol.md, 5.3).

Ballots are one byte per member, in the order of the request. A quorum counts groups, never devices.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Literal, NamedTuple

OPEN, APPROVED, REJECTED, NOT_ELIGIBLE = b".", b"+", b"-", b"x"

Outcome = Literal["approve", "reject"]


class Quorum(NamedTuple):
    """The rule of one request: the number of members per group, and how many groups have to approve."""

    sizes: Sequence[int]
    required: int
    reject_on_first: bool = False

    def satisfied(self, ballots: bytes) -> list[int]:
        """Indices of the groups in which at least one member approved."""
        return [index for index, group in enumerate(self._groups(ballots)) if APPROVED in group]

    def lost(self, ballots: bytes) -> int:
        """How many groups can no longer approve: every eligible member has rejected, or no member is eligible."""
        return sum(APPROVED not in group and OPEN not in group for group in self._groups(ballots))

    def outcome(self, ballots: bytes) -> Outcome | None:
        """How a request ends with these ballots; None while it stays pending."""
        if len(self.satisfied(ballots)) >= self.required:
            return "approve"
        if self.reject_on_first and REJECTED in ballots:
            return "reject"
        return "reject" if self.is_impossible(ballots) else None

    def is_impossible(self, ballots: bytes) -> bool:
        return len(self.sizes) - self.lost(ballots) < self.required

    def group_of(self, member: int) -> int:
        """The index of the group of a member; members are numbered through all groups."""
        end = 0
        for group, size in enumerate(self.sizes):
            end += size
            if member < end:
                return group
        raise IndexError(member)

    def _groups(self, ballots: bytes) -> Iterator[bytes]:
        start = 0
        for size in self.sizes:
            yield ballots[start : start + size]
            start += size


def with_ballot(ballots: bytes, member: int, ballot: bytes) -> bytes:
    return ballots[:member] + ballot + ballots[member + 1 :]
