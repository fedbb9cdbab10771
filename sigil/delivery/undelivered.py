"""What services know of events: whether anybody is told, and that there is a new one."""

from __future__ import annotations

from sigil.delivery.backlog import Backlog


class EventBacklog:
    """`outgoing` is what this worker has written and not told yet."""

    enabled = True

    def __init__(self, outgoing: Backlog) -> None:
        self._outgoing = outgoing

    def enqueued(self, ended_id: bytes) -> None:
        """There may be a new event of what ended. Returns at once."""
        self._outgoing.enqueued(ended_id)


class EventsDisabled:
    """In the place of `EventBacklog` where nobody is told."""

    enabled = False

    def enqueued(self, ended_id: bytes) -> None:
        pass


Events = EventBacklog | EventsDisabled
