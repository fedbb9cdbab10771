"""What services know of events: whether there is room for more, and that there is a new one."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from sigil.core.decision import Kind, SessionStore
from sigil.outgoing import Outgoing
from sigil.protocol.errors import Overloaded

BYTES_FOR_EACH = 2048
"""Of the store, for each event. One takes less than a sixth of it: the events of all that pends find room in the
reserve, though nobody takes one."""
_LOOK_SECONDS = 0.25


class Undelivered:
    """`kinds`: what becomes events, and the events themselves. `most` of them together, then creation stops.

    Counted four times a second: a worker creates less than a thousand in between. `clock` gives Unix seconds.
    """

    wanted = True

    def __init__(
        self, *, store: SessionStore, kinds: Sequence[Kind], most: int, outgoing: Outgoing, clock: Callable[[], float]
    ) -> None:
        self._store = store
        self._kinds = kinds
        self._most = most
        self._outgoing = outgoing
        self._clock = clock
        self._looked_at = 0.0
        self._full = False

    def refuse_when_full(self) -> None:
        """Overloaded: what is created now could end without room for its event."""
        now = self._clock()
        if not self._looked_at <= now < self._looked_at + _LOOK_SECONDS:
            self._looked_at = now
            self._full = sum(self._store.count(kind) for kind in self._kinds) >= self._most
        if self._full:
            raise Overloaded("Too many webhooks wait for their receiver.", retry_after=5)

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
