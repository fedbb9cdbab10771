"""What services know of events: whether anybody is told, and that there is a new one."""

from __future__ import annotations

from sigil.delivery.backlog import Outgoing


class Undelivered:
    """`outgoing` is what this worker has written and not told yet."""

    wanted = True

    def __init__(self, outgoing: Outgoing) -> None:
        self._outgoing = outgoing

    def wrote(self, ended_id: bytes) -> None:
        """There may be a new event of what ended. Returns at once."""
        self._outgoing.wrote(ended_id)


class NoEvents:
    """In the place of `Undelivered` where nobody is told."""

    wanted = False

    def wrote(self, ended_id: bytes) -> None:
        pass


Events = Undelivered | NoEvents
