"""Events that were given up: an operator can list them and have the server send them again."""

from __future__ import annotations

from typing import Any, NamedTuple

from sigil.core.session_store import Decision, SessionStore
from sigil.core.webhooks import delivery as webhook_delivery
from sigil.core.webhooks.delivery import FAILURE, MAX_FAILURES, Failure, failure_key
from sigil.core.webhooks.event import type_of_event
from sigil.protocol.messages.webhooks import EventType, event_id, parse_event_id

_END_OF_TIME = 1 << 32


class FailedEvent(NamedTuple):
    """An event that was given up at the Unix second `at`, after `tries` tries, for `reason`."""

    event_id: str
    type: EventType
    at: int
    tries: int
    reason: str


class DeadLetters:
    def __init__(self, store: SessionStore) -> None:
        self._store = store

    async def all(self) -> list[FailedEvent]:
        """The oldest first. For a minute all workers together may keep a few more than MAX_FAILURES."""
        found = []
        for key in await self._store.due(_END_OF_TIME, 2 * MAX_FAILURES, FAILURE):
            failure: Failure | None = await self._store.get(key)
            if failure is not None:
                event = failure.event
                found.append(
                    FailedEvent(event_id(key.name), type_of_event(event), failure.at, event.tries, failure.reason)
                )
        return found

    async def replay(self, event: str) -> bool:
        """Have the server send it again, from the start of the schedule; False when no such event is kept."""
        ended_id = parse_event_id(event.lower())
        if ended_id is None:
            return False

        def rule(now: float, rows: tuple[Any, ...]) -> Decision[bool]:
            return webhook_delivery.replay(now, ended_id, rows[0])

        return await self._store.transact([failure_key(ended_id)], rule)
