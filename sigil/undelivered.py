"""What services know of events: whether there is room for more, and that there is a new one."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from sigil.core.decision import Kind, SessionStore
from sigil.core.webhook_event import EVENT
from sigil.outgoing import Outgoing
from sigil.protocol.errors import Overloaded

BYTES_OF_AN_END = 512
"""Of the store, kept free for each row that pends: what it grows by when it ends, with its event, comes to less. So
whatever pends can end, though nobody takes an event."""
STORE_BYTES_FOR_EACH = 2048
"""The event quota: one undelivered event for so many bytes of the store."""
_LOOK_SECONDS = 0.25


class Undelivered:
    """`pending` are the kinds of what becomes events. `clock` gives Unix seconds.

    Looked at four times a second: a worker creates less than a thousand in between.
    """

    wanted = True

    def __init__(
        self, *, store: SessionStore, pending: Sequence[Kind], outgoing: Outgoing, clock: Callable[[], float]
    ) -> None:
        self._store = store
        self._pending = pending
        self._outgoing = outgoing
        self._clock = clock
        self._looked_at = 0.0
        self._full = False

    def refuse_when_full(self) -> None:
        """Overloaded: what is created now could end without room for its event."""
        now = self._clock()
        if not self._looked_at <= now < self._looked_at + _LOOK_SECONDS:
            self._looked_at = now
            self._full = self._is_full()
        if self._full:
            raise Overloaded("Too many webhooks wait for their receiver.", retry_after=5)

    def _is_full(self) -> bool:
        used, size = self._store.usage()
        ends = sum(self._store.count(kind) for kind in self._pending)
        return self._store.count(EVENT) >= size // STORE_BYTES_FOR_EACH or used + ends * BYTES_OF_AN_END > size

    def wrote(self, ended_id: bytes) -> None:
        """There may be a new event of what ended. Returns at once."""
        self._outgoing.wrote(ended_id)


class NoEvents:
    """In the place of `Undelivered` where nobody is told."""

    wanted = False

    def refuse_when_full(self) -> None:
        pass

    def wrote(self, ended_id: bytes) -> None:
        pass


Events = Undelivered | NoEvents
