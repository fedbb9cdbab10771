"""The service that ends what is over its time and forgets what is over (docs/protocol.md, 5.2 and 5.3)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

from sigil.core.approval import APPROVAL, Approval
from sigil.core.challenge import CHALLENGE, Challenge, ledger_key
from sigil.core.expiry import Swept, sweep
from sigil.core.fan_out import fan_out_key
from sigil.core.push_outbox import outbox_key
from sigil.core.session_store import Decision, Key, SessionStore

# Five rows a challenge, and a transaction writes at most 200.
AT_ONCE = 40


class Notifies(Protocol):
    """A backlog that takes the name of what ended. Returns at once."""

    def enqueued(self, name: bytes, /) -> None: ...


class NotifiesEvents(Notifies, Protocol):
    """The backlog of webhook events; `wanted` is False where no webhook is configured."""

    @property
    def enabled(self) -> bool: ...


class Journal(Protocol):
    """Told of what ended: one call each."""

    def challenge(self, event: str, challenge_id: bytes, challenge: Challenge) -> None: ...

    def approval(self, event: str, mpa_id: bytes, approval: Approval, device: bytes | None = None) -> None: ...


class ExpirySweeper:
    """Every worker has one; whoever comes first does the work."""

    def __init__(
        self,
        *,
        store: SessionStore,
        outgoing: Notifies,
        fan_outs: Notifies,
        events: NotifiesEvents,
        journal: Journal,
        clock: Callable[[], float],
    ) -> None:
        self._store = store
        self._outgoing = outgoing
        self._fan_outs = fan_outs
        self._events = events
        self._journal = journal
        self._clock = clock

    async def sweep(self) -> bool:
        """End what is over its time and forget what is over, one batch; True when there may be more."""
        due = await self._store.due(self._clock(), AT_ONCE)
        if not due:
            return False
        keys = list(dict.fromkeys([*due, *await self._others(due)]))

        def rule(now: float, found: tuple[Any, ...]) -> Decision[Swept]:
            return sweep(now, dict(zip(keys, found, strict=True)), emit_events=self._events.enabled)

        swept = await self._store.transact(keys, rule)
        for challenge_id, expired in swept.expired:
            self._outgoing.enqueued(challenge_id)
            self._events.enqueued(challenge_id)
            self._journal.challenge("challenge_expired", challenge_id, expired)
        for mpa_id, timed_out in swept.timed_out:
            self._fan_outs.enqueued(mpa_id)
            self._events.enqueued(mpa_id)
            self._journal.approval("mpa_timeout", mpa_id, timed_out)
        return len(due) == AT_ONCE

    async def _others(self, due: list[Key]) -> list[Key]:
        """The rows that are decided about together with those that are due."""
        others = [fan_out_key(key.name) for key in due if key.kind is APPROVAL]
        for key in due:
            row: Challenge | None = await self._store.get(key) if key.kind is CHALLENGE else None
            if row is not None:
                others.append(ledger_key(row.public_key))
                if row.push:
                    others.append(outbox_key(key.name))
        return others
