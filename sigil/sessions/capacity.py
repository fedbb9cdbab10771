"""Whether something new may be created: for all that what pends leads to, there is room in the store."""

from __future__ import annotations

from collections.abc import Callable

from sigil.core.approval import APPROVAL, Approval
from sigil.core.challenge import CHALLENGE
from sigil.core.session_store import SessionStore
from sigil.core.webhook_event import EVENT
from sigil.protocol.errors import Overloaded

BYTES_PER_END = 512
"""Of the store, kept free for each row that pends: what it grows by when it ends, with its event, comes to less. So
whatever pends can end, though nobody takes an event."""
BYTES_PER_END_WITHOUT_EVENT = 256
"""The same where no event is written: what is left is the clear, a mute and the log of ends."""
_BYTES_OF_COPIES = 1 << 20
"""Kept free for the pages that transactions copy while they run, about one of 4 KiB for each of 200 rows: the store
uses them again two transactions later. In one of 12 MiB, without this, one sweep in 25 found no room."""
STORE_BYTES_PER_EVENT = 2048
"""The event quota: one undelivered event for so many bytes of the store."""
_LOOK_SECONDS = 0.25
_AFTER_SECONDS = 5


class Capacity:
    """`events`: whether the end of something is an event. `clock` gives Unix seconds."""

    def __init__(self, *, store: SessionStore, events: bool, clock: Callable[[], float]) -> None:
        self._store = store
        self._events = events
        self._clock = clock
        self._looked_at = 0.0
        self._full = ""

    def check_challenge(self) -> None:
        """Overloaded: what is created now could end without room for that.

        Looked at four times a second: a worker creates less than a thousand in between.
        """
        now = self._clock()
        if not self._looked_at <= now < self._looked_at + _LOOK_SECONDS:
            self._looked_at = now
            self._full = self._lacks()
        if self._full:
            raise Overloaded(self._full, retry_after=_AFTER_SECONDS)

    def check_approval(self, draft: Approval) -> None:
        """Overloaded: not all of its members could vote. Looked at each time: one request may want 400 KB."""
        if lacking := self._lacks(draft.reserved):
            raise Overloaded(lacking, retry_after=_AFTER_SECONDS)

    def _lacks(self, more: int = 0) -> str:
        """What is in the way, in words for the caller; empty when nothing is."""
        used, size, reserved = self._store.usage()
        if self._events and self._store.count(EVENT) >= size // STORE_BYTES_PER_EVENT:
            return "Too many webhooks wait for their receiver."
        pending = self._store.count(CHALLENGE) + self._store.count(APPROVAL)
        ends = pending * (BYTES_PER_END if self._events else BYTES_PER_END_WITHOUT_EVENT)
        if used + reserved + ends + more > size - min(_BYTES_OF_COPIES, size // 16):
            return "What pends may need all the room that is left."
        return ""
