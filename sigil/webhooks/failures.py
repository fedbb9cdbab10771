"""Events that were given up: what an operator sees of them, and how they go out again."""

from __future__ import annotations

from typing import Any, NamedTuple

from sigil.core import webhook_delivery
from sigil.core.session_store import Decision, SessionStore
from sigil.core.webhook_delivery import FAILURE, MOST_FAILURES, Failure, failure_key
from sigil.core.webhook_event import type_of_event
from sigil.protocol.webhook_event import EventType, event_id, parse_event_id

_END_OF_TIME = 1 << 32


class FailedEvent(NamedTuple):
    """`at` is the Unix second at which it was given up, after so many `tries`, for `reason`."""

    event_id: str
    type: EventType
    at: int
    tries: int
    reason: str


class DeadLetters:
    def __init__(self, store: SessionStore) -> None:
        self._store = store

    async def all(self) -> list[FailedEvent]:
        """The oldest first. All workers together may keep a few more than MOST_FAILURES for a minute."""
        found = []
        for key in await self._store.due(_END_OF_TIME, 2 * MOST_FAILURES, FAILURE):
            failure: Failure | None = await self._store.get(key)
            if failure is not None:
                event = failure.event
                found.append(
                    FailedEvent(event_id(key.name), type_of_event(event), failure.at, event.tries, failure.reason)
                )
        return found

    async def replay(self, event: str) -> bool:
        """Have the server try it anew, from the beginning of the schedule; False when no such event is kept."""
        ended_id = parse_event_id(event)
        if ended_id is None:
            return False

        def rule(now: float, rows: tuple[Any, ...]) -> Decision[bool]:
            return webhook_delivery.replay(now, ended_id, rows[0])

        return await self._store.transact([failure_key(ended_id)], rule)
