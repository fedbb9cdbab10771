"""Capacity checks: a session is created only if the store can also hold everything that it leads to."""

from __future__ import annotations

from collections.abc import Callable

from sigil.core.approvals.approval import APPROVAL, Approval
from sigil.core.challenge import CHALLENGE
from sigil.core.session_store import SessionStore
from sigil.core.webhooks.event import EVENT
from sigil.protocol.errors import Overloaded

BYTES_PER_END = 512
"""Bytes of the store kept free for each pending row. Its end, with its event, adds less. So every pending row can end,
even while the webhook receiver takes no event."""
BYTES_PER_END_WITHOUT_EVENT = 256
"""The same where no event is written: an end then adds the clear, a mute and an entry of the end log."""
_BYTES_OF_COPIES = 1 << 20
"""Kept free for the pages that a running transaction copies, about one of 4 KiB for each of 200 rows: the store reuses
them two transactions later. In a store of 12 MiB without this, one expiry sweep in 25 found the store full."""
STORE_BYTES_PER_EVENT = 2048
"""The event quota: one stored event per this many bytes of the store."""
_CHECK_SECONDS = 0.25
_RETRY_SECONDS = 5


class Capacity:
    """`events_enabled`: whether an end writes an event. `clock` gives Unix seconds."""

    def __init__(
        self,
        *,
        store: SessionStore,
        events_enabled: bool,
        clock: Callable[[], float],
        bytes_per_end: int = BYTES_PER_END,
        bytes_per_event: int = STORE_BYTES_PER_EVENT,
    ) -> None:
        self._store = store
        self._events_enabled = events_enabled
        self._clock = clock
        self._bytes_per_end = bytes_per_end if events_enabled else BYTES_PER_END_WITHOUT_EVENT
        self._bytes_per_event = bytes_per_event
        self._checked_at = 0.0
        self._problem = ""

    def check_challenge(self) -> None:
        """Overloaded: the store might lack the space for the end of one more challenge.

        Measured four times a second: a worker creates less than a thousand challenges in between.
        """
        now = self._clock()
        if not self._checked_at <= now < self._checked_at + _CHECK_SECONDS:
            self._checked_at = now
            self._problem = self._find_problem()
        if self._problem:
            raise Overloaded(self._problem, retry_after=_RETRY_SECONDS)

    def check_approval(self, draft: Approval) -> None:
        """Overloaded: not all members could vote. Measured each time: one request may reserve 400 KB."""
        if problem := self._find_problem(draft.reserved):
            raise Overloaded(problem, retry_after=_RETRY_SECONDS)

    def _find_problem(self, more: int = 0) -> str:
        """The reason for the caller; empty when there is capacity for `more` bytes."""
        used, size, reserved = self._store.usage()
        if self._events_enabled and self._store.count(EVENT) >= size // self._bytes_per_event:
            return "Too many webhook events wait for their receiver."
        pending = self._store.count(CHALLENGE) + self._store.count(APPROVAL)
        if used + reserved + pending * self._bytes_per_end + more > size - min(_BYTES_OF_COPIES, size // 16):
            return "The session store keeps its free space for the challenges and requests that are already pending."
        return ""
