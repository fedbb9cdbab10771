"""What the expiry sweep does with due rows: it expires and deletes challenges, requests and enrolments, prunes ledgers,
and deletes votes and used nonces.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from sigil.core.approvals import approval as approvals
from sigil.core.approvals import voting
from sigil.core.approvals.approval import APPROVAL, VOTE, Approval, request_id_key
from sigil.core.challenge import (
    CHALLENGE,
    LEDGER,
    Challenge,
    State,
    current_state,
    event_of,
    expired,
    idempotency_key,
    ledger_key,
)
from sigil.core.enrolment import row as enrolments
from sigil.core.enrolment.row import ENROLMENT, Enrolment, deletion
from sigil.core.nonce import USED_NONCE
from sigil.core.pushes.outbox import after_end, outbox_key
from sigil.core.session_store import Decision, Key

NO_CREATIONS: Mapping[bytes, bytes] = {}


class Swept(NamedTuple):
    """What this decision ended, with its id."""

    expired: list[tuple[bytes, Challenge]]
    timed_out: list[tuple[bytes, Approval]]
    enrolments: list[tuple[bytes, Enrolment]]

    @property
    def names(self) -> tuple[bytes, ...]:
        return tuple(name for part in (self.expired, self.timed_out, self.enrolments) for name, _ in part)


def sweep(
    now: float, rows: Mapping[Key, Any], *, emit_events: bool = False, creations: Mapping[bytes, bytes] = NO_CREATIONS
) -> Decision[Swept]:
    """One decision about due rows. `rows` also holds the ledgers and outbox entries of the challenges in it, and the
    fan-out rows of the requests.

    The result is what this decision ended; with `emit_events` each end writes a webhook event, whose creation (see
    `core.tracing`) `creations` holds by the id of its challenge or request. Rows that another worker
    has handled in the meantime are left unchanged.
    """
    batch = _Batch(now, dict(rows), emit_events=emit_events, creations=creations)
    for key, row in rows.items():
        if row is None or not 0 < row.due <= now:
            continue
        if key.kind is CHALLENGE:
            batch.challenge(key, row)
        elif key.kind is APPROVAL:
            batch.approval(key, row)
        elif key.kind is ENROLMENT:
            batch.enrolment(key, row)
        elif key.kind is LEDGER:
            batch.prune(key)
        elif key.kind in {USED_NONCE, VOTE}:
            batch.write(key, None)
    return Decision(batch.swept, tuple(batch.writes.items()), batch.swept.names)


class _Batch:
    def __init__(
        self, now: float, rows: dict[Key, Any], *, emit_events: bool, creations: Mapping[bytes, bytes]
    ) -> None:
        self._now = now
        self._emit_events = emit_events
        self._creations = creations
        self._rows = rows
        self.writes: dict[Key, Any] = {}
        self.swept = Swept([], [], [])

    def write(self, key: Key, row: Any) -> None:
        self._rows[key] = self.writes[key] = row

    def challenge(self, key: Key, row: Challenge) -> None:
        current = current_state(self._now, row)
        if row.state is State.PENDING:
            # The sweep may come so late that the row is deleted as well: the challenge still counts as expired.
            self.expire(key.name, current or expired(row))
        self.write(key, current)
        self.update_outbox(key, row, current)
        if current is None:
            self.prune(ledger_key(row.public_key))
            if row.idempotency:
                self.write(idempotency_key(row.idempotency), None)

    def approval(self, key: Key, row: Approval) -> None:
        """Three rows each: the fan-out clears its members in batches, since there may be many."""
        current = approvals.current_state(self._now, row)
        if row.open:
            self.time_out(key.name, current or approvals.timed_out(row))
        if current is None:
            self.write(key, None)
            self.write(request_id_key(row.owner, row.request_id), None)

    def enrolment(self, key: Key, row: Enrolment) -> None:
        current = enrolments.current_state(self._now, row)
        if row.open:
            ended = current or enrolments.expired(row)
            self.swept.enrolments.append((key.name, ended))
            if self._emit_events:
                self.write(*enrolments.event_of(self._now, key.name, ended, self._creations.get(key.name)))
        self.write(key, current)
        if current is None:
            for at, written in deletion(key.name, row):
                self.write(at, written)

    def time_out(self, name: bytes, approval: Approval) -> None:
        self.swept.timed_out.append((name, approval))
        creation = self._creations.get(name)
        for at, written in voting.end(
            self._now, name, approval, self._rows, emit_event=self._emit_events, event_creation=creation
        ):
            self.write(at, written)

    def expire(self, name: bytes, challenge: Challenge) -> None:
        self.swept.expired.append((name, challenge))
        if self._emit_events:
            self.write(*event_of(self._now, name, challenge, self._creations.get(name)))

    def update_outbox(self, key: Key, row: Challenge, current: Challenge | None) -> None:
        """Clears the push of an expired challenge; a deleted challenge leaves no outbox entry."""
        at = outbox_key(key.name)
        entry = self._rows.get(at)
        after = entry
        if current is None:
            after = None
        elif row.state is State.PENDING:
            after = after_end(self._now, entry, row.push, row.owner)
        if after is not entry:
            self.write(at, after)

    def prune(self, key: Key) -> None:
        """Several rows of one batch may share a ledger: this reads it as the batch has left it."""
        ledger = self._rows.get(key)
        if ledger is not None:
            self.write(key, ledger.pruned(self._now))
