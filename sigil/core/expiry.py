"""What becomes of rows that are due: challenges and requests end and are forgotten; mutes, votes, timestamps fade."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from sigil.core import approval as approvals
from sigil.core import voting
from sigil.core.approval import APPROVAL, VOTE, Approval, request_id_key
from sigil.core.challenge import (
    CHALLENGE,
    LEDGER,
    Challenge,
    State,
    event_of,
    expired,
    idempotency_key,
    ledger_key,
    settle,
)
from sigil.core.nonce import USED_NONCE
from sigil.core.push_outbox import after_end, outbox_key
from sigil.core.session_store import Decision, Key


class Swept(NamedTuple):
    """What ended just now, by its id."""

    expired: list[tuple[bytes, Challenge]]
    timed_out: list[tuple[bytes, Approval]]


def sweep(now: float, rows: Mapping[Key, Any], *, emit_events: bool = False) -> Decision[Swept]:
    """One decision about due rows; `rows` also holds the ledgers and entries of the challenges in it, and what is under
    way for the requests.

    The result is what ended just now; with `webhook` the integrator is to be told of it. Rows that another worker
    dealt with meanwhile are left alone.
    """
    batch = _Batch(now, dict(rows), webhook=emit_events)
    for key, row in rows.items():
        if row is None or not 0 < row.due <= now:
            continue
        if key.kind is CHALLENGE:
            batch.challenge(key, row)
        elif key.kind is APPROVAL:
            batch.approval(key, row)
        elif key.kind is LEDGER:
            batch.prune(key)
        elif key.kind in {USED_NONCE, VOTE}:
            batch.write(key, None)
    ended = (*(name for name, _ in batch.swept.expired), *(name for name, _ in batch.swept.timed_out))
    return Decision(batch.swept, tuple(batch.writes.items()), ended)


class _Batch:
    def __init__(self, now: float, rows: dict[Key, Any], *, webhook: bool) -> None:
        self._now = now
        self._webhook = webhook
        self._rows = rows
        self.writes: dict[Key, Any] = {}
        self.swept = Swept([], [])

    def write(self, key: Key, row: Any) -> None:
        self._rows[key] = self.writes[key] = row

    def challenge(self, key: Key, row: Challenge) -> None:
        settled = settle(self._now, row)
        if row.state is State.PENDING:
            # Found so late that it is to be forgotten as well, it has expired all the same.
            self.expire(key.name, settled or expired(row))
        self.write(key, settled)
        self.silence(key, row, settled)
        if settled is None:
            self.prune(ledger_key(row.public_key))
            if row.idempotency:
                self.write(idempotency_key(row.idempotency), None)

    def approval(self, key: Key, row: Approval) -> None:
        """Three rows each: whom it concerns is seen to in batches, since there may be many."""
        settled = approvals.settle(self._now, row)
        if row.open:
            self.time_out(key.name, settled or approvals.timed_out(row))
        if settled is None:
            self.write(key, None)
            self.write(request_id_key(row.owner, row.request_id), None)

    def time_out(self, name: bytes, approval: Approval) -> None:
        self.swept.timed_out.append((name, approval))
        for at, written in voting.end(self._now, name, approval, self._rows, emit_event=self._webhook):
            self.write(at, written)

    def expire(self, name: bytes, challenge: Challenge) -> None:
        self.swept.expired.append((name, challenge))
        if self._webhook:
            self.write(*event_of(self._now, name, challenge))

    def silence(self, key: Key, row: Challenge, settled: Challenge | None) -> None:
        """What expired is taken away from its device; of what is forgotten nothing is left to be said."""
        at = outbox_key(key.name)
        entry = self._rows.get(at)
        after = entry
        if settled is None:
            after = None
        elif row.state is State.PENDING:
            after = after_end(self._now, entry, row.push)
        if after is not entry:
            self.write(at, after)

    def prune(self, key: Key) -> None:
        """Several rows of one batch may stand in one ledger: it is read as this batch has left it."""
        ledger = self._rows.get(key)
        if ledger is not None:
            self.write(key, ledger.pruned(self._now))
