"""Capacity checks: a session is created only if the store can also hold everything that it leads to, and its owner only
uses its share.
"""

from __future__ import annotations

from collections.abc import Callable

from sigil.core.approvals.approval import APPROVAL, Approval
from sigil.core.challenge import CHALLENGE
from sigil.core.enrolment.row import Enrolment
from sigil.core.owner_share import SHARE_PER_OWNER, OwnerShare, dynamic_limit
from sigil.core.session_store import SessionStore
from sigil.core.store_capacity import (
    BYTES_PER_END,
    BYTES_PER_END_WITHOUT_EVENT,
    free_for_creations,
    free_for_ends,
)
from sigil.core.webhooks.event import EVENT
from sigil.protocol.errors import Overloaded

STORE_BYTES_PER_EVENT = 2048
"""The event quota: one stored event per this many bytes of the store."""
_OWN_EVENTS = 100
"""An owner may always hold one hundredth of the event quota. The pending challenges of another owner may all expire and
use up the quota while the receiver is unreachable; their events take space that was kept free for them."""
_CHECK_SECONDS = 0.25
_RETRY_SECONDS = 5
MAX_PENDING_PER_OWNER = 100_000
MAX_ENROLMENTS_PER_OWNER = 1000


class Capacity:
    """`events_enabled`: whether an end writes an event. `clock` gives Unix seconds. `max_pending`, `max_enrolments` and
    `share` (percent) are per owner.
    """

    def __init__(
        self,
        *,
        store: SessionStore,
        events_enabled: bool,
        clock: Callable[[], float],
        bytes_per_end: int = BYTES_PER_END,
        bytes_per_event: int = STORE_BYTES_PER_EVENT,
        max_pending: int = MAX_PENDING_PER_OWNER,
        max_enrolments: int = MAX_ENROLMENTS_PER_OWNER,
        share: int = SHARE_PER_OWNER,
    ) -> None:
        self._store = store
        self._events_enabled = events_enabled
        self._clock = clock
        self._bytes_per_end = bytes_per_end if events_enabled else BYTES_PER_END_WITHOUT_EVENT
        self._bytes_per_event = bytes_per_event
        self._max_pending = max_pending
        self._max_enrolments = max_enrolments
        self._share = share
        self._checked_at = 0.0
        self._problem = ""
        self._owner_share = OwnerShare(max_pending, enrolments=max_enrolments)

    def check_challenge(self) -> OwnerShare:
        """The share of each owner. Overloaded: the store might lack the space for the end of one more challenge.

        Measured four times a second: a worker creates less than a thousand challenges in between.
        """
        now = self._clock()
        if not self._checked_at <= now < self._checked_at + _CHECK_SECONDS:
            self._checked_at = now
            self._problem = self._find_problem()
        if self._problem:
            raise Overloaded(self._problem, retry_after=_RETRY_SECONDS)
        return self._owner_share

    def check_approval(self, draft: Approval) -> OwnerShare:
        """The share of each owner. Overloaded: not all members could vote. Measured each time: one request may reserve
        400 KB, or 1.5 MB with attestation."""
        return self._check_reserving(draft)

    def check_enrolment(self, draft: Enrolment) -> OwnerShare:
        """The share of each owner. Overloaded: the store might lack the space for its completion and its end."""
        return self._check_reserving(draft)

    def _check_reserving(self, draft: Approval | Enrolment) -> OwnerShare:
        if problem := self._find_problem(draft.reserved):
            raise Overloaded(problem, retry_after=_RETRY_SECONDS)
        return self._owner_share

    def free_and_size(self) -> tuple[int, int]:
        """The bytes that creations may use (below 0: none), and those of the store."""
        usage = self._store.usage()
        return free_for_creations(usage, self._pending(), self._bytes_per_end), usage.size

    def _pending(self) -> int:
        return self._store.count(CHALLENGE) + self._store.count(APPROVAL)

    def _find_problem(self, more: int = 0) -> str:
        """The reason for the caller; empty when there is capacity for `more` bytes. Also renews the owners' share."""
        usage = self._store.usage()
        quota = usage.size // self._bytes_per_event
        free_events = quota - self._store.count(EVENT)
        pending = self._pending()
        self._owner_share = OwnerShare(
            self._max_pending,
            max(dynamic_limit(self._share, free_events), quota // _OWN_EVENTS),
            dynamic_limit(self._share, free_for_creations(usage, pending, self._bytes_per_end)),
            self._max_enrolments,
        )
        if self._events_enabled and free_events <= 0 and self._share >= 100:
            return "Too many webhook events wait for their receiver."
        if more > free_for_ends(usage, pending, self._bytes_per_end):
            return "The session store keeps its free space for the challenges and requests that are already pending."
        return ""
