"""The service that expires open challenges, requests and enrolments and deletes ended ones (docs/protocol.md, 5.2,
5.3 and 5.5).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sigil.core.approvals.approval import APPROVAL
from sigil.core.approvals.fan_out import fan_out_key
from sigil.core.challenge import CHALLENGE, Challenge, ledger_key
from sigil.core.enrolment.row import ENROLMENT
from sigil.core.expiry import NO_CREATIONS, Swept, sweep
from sigil.core.pushes.outbox import outbox_key
from sigil.core.session_store import Decision, Key, Kind, SessionStore
from sigil.core.tracing import SpanPort, Subject, SubjectAttribute, TracesPort
from sigil.protocol.encoding.ids import format_uuid
from sigil.sessions.notifier import SessionNotifier

# Five rows per challenge, and a transaction writes at most 200.
ROWS_AT_ONCE = 40
_SUBJECTS: dict[Kind, SubjectAttribute] = {
    CHALLENGE: "sigil.challenge_id",
    APPROVAL: "sigil.mpa_id",
    ENROLMENT: "sigil.enrolment_id",
}


class ExpirySweeper:
    """Stateless. Of the workers that find a due row, one ends it; that transaction writes the webhook event."""

    def __init__(self, store: SessionStore, notifier: SessionNotifier) -> None:
        self._store = store
        self._notifier = notifier

    async def sweep(self) -> bool:
        """Expire and delete one batch of due rows; True when there may be more."""
        due = await self._store.due(self._store.now(), ROWS_AT_ONCE)
        if due:
            await self._end(due)
        return len(due) == ROWS_AT_ONCE

    async def settled(self, key: Key) -> Any | None:
        """The row of a challenge, request or enrolment as it may be reported: an expiry is written before a caller
        learns of it.

        Only for a caller with an API key, a verified signature or an enrolment's secret: no other client may cause a
        write.
        """
        row = await self._store.get(key)
        if row is None or not row.open or row.due > self._store.now():
            return row
        await self._end([key])
        return await self._store.get(key)

    async def _end(self, due: list[Key]) -> None:
        keys = list(dict.fromkeys([*due, *await self._related(due)]))
        emit_events = self._notifier.event_backlog.enabled
        spans: Mapping[bytes, SpanPort] = {}
        if emit_events and self._notifier.traces is not None:
            spans = await self._creating_events(due, self._notifier.traces)
        creations = {name: span.packed for name, span in spans.items()} if spans else NO_CREATIONS

        def rule(now: float, found: tuple[Any, ...]) -> Decision[Swept]:
            rows = dict(zip(keys, found, strict=True))
            return sweep(now, rows, emit_events=emit_events, creations=creations)

        swept = await self._store.transact(keys, rule)
        for name in swept.names if spans else ():
            if name in spans:
                spans[name].end()
        for challenge_id, expired in swept.expired:
            self._notifier.challenge_ended(challenge_id, expired)
        for mpa_id, timed_out in swept.timed_out:
            self._notifier.approval_timed_out(mpa_id, timed_out)
        for enrolment_id, enrolment in swept.enrolments:
            self._notifier.enrolment_changed(enrolment_id, enrolment)

    async def _creating_events(self, due: list[Key], traces: TracesPort) -> dict[bytes, SpanPort]:
        """A span for each event that this sweep may write. Only those that it did write are ended."""
        spans: dict[bytes, SpanPort] = {}
        for key in due:
            row: Any = await self._store.get(key) if key.kind in _SUBJECTS else None
            if row is not None and row.open:
                subject = Subject(_SUBJECTS[key.kind], format_uuid(key.name))
                span = traces.create("sigil.webhook", subject, row.creation)
                if span is not None:
                    spans[key.name] = span
        return spans

    async def _related(self, due: list[Key]) -> list[Key]:
        """The other rows that the same transaction reads."""
        related = [fan_out_key(key.name) for key in due if key.kind is APPROVAL]
        for key in due:
            row: Challenge | None = await self._store.get(key) if key.kind is CHALLENGE else None
            if row is not None:
                related.append(ledger_key(row.public_key))
                if row.push:
                    related.append(outbox_key(key.name))
        return related
