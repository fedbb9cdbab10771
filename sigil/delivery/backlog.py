"""Names of outbox rows that this worker wrote and has not claimed yet.

A transaction that needs a push or a webhook event writes an outbox row and nothing else. The service that ran the
transaction then puts the name of the row into the backlog, so that the loop of this worker claims the row at once and
without a query. The backlog is only a shortcut: a name that is lost with its worker, or that does not fit, is found by
the query for due rows, in any worker.
"""

from __future__ import annotations

import asyncio

from sigil.core.pushes.outbox import Push
from sigil.delivery.fair_queue import FairQueue


class Backlog:
    """Holds at most `cap` names, and serves their owners in turn. The query for due rows finds those that do not fit, a
    little later.
    """

    def __init__(self, cap: int = 8192) -> None:
        self._names = FairQueue(cap)
        self._not_empty = asyncio.Event()
        self._paused = False

    def __len__(self) -> int:
        return len(self._names)

    @property
    def initial_push(self) -> Push:
        """The push state of a challenge that is created now."""
        return Push.RELAY_UNREACHABLE if self._paused else Push.QUEUED

    def add(self, name: bytes, owner: bytes = b"") -> None:
        """There may be a new row of that name, of that owner. Returns at once."""
        # While the circuit breaker is open nothing is claimed: the rows stay in the store, which has space for them.
        if not self._paused and self._names.add(owner, name):
            self._not_empty.set()

    def pause(self, paused: bool) -> None:
        """Drop all names and take no new ones while the circuit breaker is open."""
        self._paused = paused
        if paused:
            self._names.clear()
            self._not_empty.clear()

    async def wait(self, seconds: float) -> bool:
        """Wait for a name, at most `seconds`; whether there is one."""
        if not self._names:
            try:
                async with asyncio.timeout(seconds):
                    await self._not_empty.wait()
            except TimeoutError:
                pass
        return bool(self._names)

    def take(self, limit: int) -> list[bytes]:
        """Remove and return at most `limit` names, of the owners in turn."""
        taken = [name for _, name in self._names.take(limit)]
        if not self._names:
            self._not_empty.clear()
        return taken


class PushDisabled:
    """Replaces `Backlog` where no relay is configured."""

    initial_push = Push.DISABLED

    def add(self, name: bytes, owner: bytes = b"") -> None:
        pass


PushBacklog = Backlog | PushDisabled


class EventBacklog:
    """The names of new webhook events, for the services that write them."""

    enabled = True

    def __init__(self, backlog: Backlog) -> None:
        self._backlog = backlog

    def add(self, ended_id: bytes, owner: bytes = b"") -> None:
        """The challenge or approval request with that id may have a new event. Returns at once."""
        self._backlog.add(ended_id, owner)


class EventsDisabled:
    """Replaces `EventBacklog` where no webhook is configured."""

    enabled = False

    def add(self, ended_id: bytes, owner: bytes = b"") -> None:
        pass


Events = EventBacklog | EventsDisabled
