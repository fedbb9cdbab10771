"""What becomes of rows that are due: challenges expire and are forgotten, mutes and spent timestamps fade."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sigil.core.challenge import (
    CHALLENGE,
    LEDGER,
    Challenge,
    State,
    expired,
    idempotency_key,
    ledger_key,
    settle,
)
from sigil.core.decision import Decision, Key
from sigil.core.once import SPENT
from sigil.core.outbox import after_end, outbox_key
from sigil.core.webhook_event import of_challenge

Expired = list[tuple[bytes, Challenge]]


def sweep(now: float, rows: Mapping[Key, Any], *, webhook: bool = False) -> Decision[Expired]:
    """One decision about due rows; `rows` also holds the ledgers and entries of the challenges in it.

    The result is what expired just now; with `webhook` the integrator is to be told of it. Rows that another worker
    dealt with meanwhile are left alone.
    """
    batch = _Batch(now, dict(rows), webhook=webhook)
    for key, row in rows.items():
        if row is None or not 0 < row.due <= now:
            continue
        if key.kind is CHALLENGE:
            batch.challenge(key, row)
        elif key.kind is LEDGER:
            batch.prune(key)
        elif key.kind is SPENT:
            batch.write(key, None)
    return Decision(batch.expired, tuple(batch.writes.items()), tuple(name for name, _ in batch.expired))


class _Batch:
    def __init__(self, now: float, rows: dict[Key, Any], *, webhook: bool) -> None:
        self._now = now
        self._webhook = webhook
        self._rows = rows
        self.writes: dict[Key, Any] = {}
        self.expired: Expired = []

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

    def expire(self, name: bytes, challenge: Challenge) -> None:
        self.expired.append((name, challenge))
        if self._webhook:
            self.write(*of_challenge(self._now, name, challenge))

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
