"""What one owner (API key) may have in the store: pending challenges and requests, webhook events, and bytes."""

from __future__ import annotations

from typing import NamedTuple

from sigil.core.session_store import Share, Tally
from sigil.protocol.errors import TooManyEnrolments, TooManyPending

SHARE_PER_OWNER = 75
"""Percent of the store, of the event quota and of the long polls of a worker that one owner may use."""
OWN_LIMITS = frozenset({"key_pending", "key_store", "key_events", "key_enrolments"})
"""The limits of a caller itself, whose errors name their cause."""
_RETRY_SECONDS = 5
_UNLIMITED = 1 << 62


class OwnerShare(NamedTuple):
    """The most that the tally of one owner may add up to."""

    pending: int = _UNLIMITED
    events: int = _UNLIMITED
    charged: int = _UNLIMITED
    enrolments: int = _UNLIMITED

    def check(self, tally: Tally | None, row: Share) -> None:
        """TooManyPending, unless one more row is within the share: `row` is pending, or an open enrolment."""
        pending, events, charged, enrolments = 0, 0, 0, 0
        if tally is not None:
            pending, events, charged, enrolments = tally.pending, tally.events, tally.charged, tally.enrolments
        if row[4] and enrolments >= self.enrolments:
            raise TooManyEnrolments(retry_after=_RETRY_SECONDS, limit="key_enrolments")
        if row[1] and pending >= self.pending:
            raise TooManyPending(
                f"This API key has {pending} pending challenges and approval requests, its maximum. Wait until some "
                "end, or cancel those that are not needed; the operator can raise SIGIL_MAX_PENDING_PER_KEY.",
                retry_after=_RETRY_SECONDS,
                limit="key_pending",
            )
        if charged + row[3] > self.charged:
            raise TooManyPending(
                "This API key uses its share of the session store. Wait until results that are kept are deleted "
                "(challenges and enrolments 10 minutes, requests 24 hours after their end); the operator can raise "
                "SIGIL_STORE_SIZE or SIGIL_KEY_SHARE.",
                retry_after=_RETRY_SECONDS,
                limit="key_store",
            )
        if events >= self.events:
            raise TooManyPending(
                "The webhook receiver has not accepted the events of this API key: they use its share of the event "
                "backlog. Retry when the receiver has accepted some; the operator can raise SIGIL_STORE_SIZE or "
                "SIGIL_KEY_SHARE.",
                retry_after=_RETRY_SECONDS,
                limit="key_events",
            )


NO_SHARE = OwnerShare()
"""No limit."""


def dynamic_limit(share: int, free: int) -> int:
    """The most that one owner may hold of something that has `free` left, at a `share` of 1..100 percent of it all.

    A multiple of what is free: an owner alone gets `share` percent, n such owners 1 / (n + 1 / a) each, where a =
    share / (100 - share), and some always stays free for the others (dynamic thresholds, Choudhury and Hahne 1998).
    """
    return _UNLIMITED if share >= 100 else max(free, 0) * share // (100 - share)
